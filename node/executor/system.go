package executor

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// system is a system contract with what its schema says of its methods.
type system struct {
	precompiles.Contract
	methods map[string]ledger.MethodKind
	since   map[string]precompiles.Feature // of methods that came with one
}

func newSystem(c precompiles.Contract) *system {
	s := &system{Contract: c, methods: map[string]ledger.MethodKind{}, since: map[string]precompiles.Feature{}}
	for _, m := range c.Schema().Methods {
		s.methods[m.Name] = m.Kind
		if f := precompiles.FeatureOf(c.Address(), m.Name); f != "" {
			s.since[m.Name] = f
		}
	}
	return s
}

// kind returns that of a method; empty if the contract has no such method in the block of an order.
func (r *rules) kind(s *system, method string, order *ledger.Order) ledger.MethodKind {
	if f, ok := s.since[method]; ok && !r.features.Active(f, order) {
		return ""
	}
	return s.methods[method]
}

// invoke calls a system contract.
func (t *transaction) invoke(s *system, c call) (wasmvm.Outcome, error) {
	switch t.kind(s, c.method, t.order) {
	case "":
		return wasmvm.Outcome{Status: ledger.NotFound, Trace: fmt.Sprintf("%s has no method %q", s.Name(), c.method)}, nil
	case ledger.MethodView:
		if t.keepsPrivate() && precompiles.TellsPrivate(s.Address(), c.method) {
			return refusal(deny(precompiles.DeniedView, "%s tells of private contracts, and answers no transaction: ask a node, as `fondaco correction` does", c.method))
		}
		c.readOnly = true
	default:
		if c.readOnly {
			return wasmvm.Outcome{Status: ledger.Denied, Code: wasmvm.DeniedReadOnly, Trace: fmt.Sprintf("%s is no view", c.method)}, nil
		}
	}
	e := &env{t: t, call: c, left: c.limit}
	var out []byte
	err := e.Charge(t.prices.item * ledger.Gas(ledger.Items(c.args)))
	if err == nil {
		out, err = s.Invoke(e, c.method, c.args)
	}
	if err == nil && !c.view && len(out) > wasmvm.MaxOutput {
		err = deny(precompiles.DeniedSize, "a result of %d bytes, at most %d outside of a view", len(out), wasmvm.MaxOutput)
	}
	if err != nil {
		outcome, err := refusal(err)
		outcome.Gas = c.limit - e.left
		return outcome, err
	}
	return wasmvm.Outcome{Data: out, Gas: c.limit - e.left}, nil
}

// env is what a running system contract can reach.
type env struct {
	t    *transaction
	call call
	left ledger.Gas
}

var _ precompiles.Env = (*env)(nil)

func (e *env) Approved(by []precompiles.AuditApproval) error {
	a := e.call.act
	if a == nil {
		return nil
	}
	by = by[:min(len(by), precompiles.MaxAuditApprovals)]
	size := 0
	for i := range by {
		size += ledger.AddressSize + len(by[i].Institution)
	}
	if err := e.Charge(e.t.prices.recordedBytes(size)); err != nil {
		return err
	}
	a.Approvals = append([]precompiles.AuditApproval{}, by...)
	return nil
}

func (e *env) Charge(gas ledger.Gas) error {
	if gas > e.left {
		e.left = 0
		return &precompiles.Error{Status: ledger.OutOfGas, Reason: "the gas limit is used up"}
	}
	e.left -= gas
	return nil
}

func (e *env) Get(key []byte) ([]byte, bool, error) {
	if err := e.Charge(e.t.prices.get + e.t.prices.getByte*ledger.Gas(len(key))); err != nil {
		return nil, false, err
	}
	value, found, err := e.t.overlay.Get(key)
	if err == nil {
		err = e.Charge(e.t.prices.getByte * ledger.Gas(len(value)))
	}
	if err != nil {
		return nil, false, err
	}
	return value, found, nil
}

func (e *env) Put(key, value []byte) error {
	if err := e.writable(key); err != nil {
		return err
	}
	if err := e.Charge(e.t.prices.put + e.t.prices.putByte*ledger.Gas(len(key)+len(value))); err != nil {
		return err
	}
	if err := e.note(key, value); err != nil {
		return err
	}
	if err := e.t.keepScans(e.kept); err != nil {
		return err
	}
	return e.t.put(key, value)
}

func (e *env) Delete(key []byte) error {
	if err := e.writable(key); err != nil {
		return err
	}
	if err := e.Charge(e.t.prices.put + e.t.prices.putByte*ledger.Gas(len(key))); err != nil {
		return err
	}
	if err := e.note(key, nil); err != nil {
		return err
	}
	if err := e.t.keepScans(e.kept); err != nil {
		return err
	}
	return e.t.delete(key)
}

// kept pays for a pair that a write makes an open scan keep.
func (e *env) kept(p wasmvm.Pair) error {
	if p.Deleted {
		return e.Charge(e.t.prices.scanDeleted)
	}
	return e.Charge(e.t.prices.scanPair + e.t.prices.getByte*ledger.Gas(len(p.Key)+len(p.Value)))
}

func (e *env) writable(key []byte) error {
	if len(key) <= ledger.AddressSize || !precompiles.IsSystem(ledger.Address(key[:ledger.AddressSize])) {
		return fmt.Errorf("%s wrote the key %x, which is no system contract's", e.call.target.Address, key)
	}
	if e.call.readOnly {
		return deny(wasmvm.DeniedReadOnly, "a write in a read-only call")
	}
	return nil
}

func (e *env) Range(prefix, after []byte, limit int, visit func(key, value []byte) error) error {
	if err := e.Charge(e.t.prices.scan); err != nil {
		return err
	}
	start := prefix
	if after != nil {
		start = append(append(make([]byte, 0, len(after)+1), after...), 0) // the least key above after
	}
	n := 0
	for entry, err := range e.t.overlay.Walk(start, prefixEnd(prefix), false) {
		if err != nil {
			return err
		}
		if entry.Deleted {
			if err := e.Charge(e.t.prices.scanDeleted); err != nil {
				return err
			}
			continue
		}
		if n++; n > limit {
			return nil
		}
		if err := e.Charge(e.t.prices.scanPair + e.t.prices.getByte*ledger.Gas(len(entry.Key)+len(entry.Value))); err != nil {
			return err
		}
		if err := visit(entry.Key, entry.Value); err != nil {
			return err
		}
	}
	return nil
}

func (e *env) Suite() keys.Suite      { return e.t.x.suite }
func (e *env) Order() *ledger.Order   { return e.t.order }
func (e *env) Parent() keys.Digest    { return e.t.below }
func (e *env) Caller() ledger.Address { return e.call.caller }
func (e *env) Origin() ledger.Address { return e.t.origin }

func (e *env) Tx() ledger.TxID { return e.t.id }

func (e *env) Signers() []ledger.Key {
	signers := make([]ledger.Key, len(e.t.signers))
	for i, s := range e.t.signers {
		signers[i] = ledger.Key{Algorithm: s.Algorithm, Bytes: s.Key}
	}
	return signers
}

func (e *env) Emit(topic string, data []byte) error {
	if e.call.readOnly {
		return deny(wasmvm.DeniedReadOnly, "an event in a read-only call")
	}
	if err := e.Charge(e.t.prices.event + e.t.prices.eventByte*ledger.Gas(len(topic)+len(data))); err != nil {
		return err
	}
	return e.t.emit(e.call.target.Address, topic, data)
}

func (e *env) NewAddress() (ledger.Address, error) {
	if err := e.Charge(e.t.prices.address); err != nil {
		return ledger.Address{}, err
	}
	e.t.addresses++
	return ledger.AssignedAddress(e.t.x.suite, e.t.id, e.t.addresses-1), nil
}

func (e *env) Admit(code []byte) (schema []byte, err error) {
	if err := e.Charge(e.t.prices.codeByte * ledger.Gas(len(code))); err != nil { // before anything looks at the bytes
		return nil, err
	}
	m, used, err := e.t.vm.Admit(e.t.ctx, precompiles.CodeHash(e.t.x.suite, code), code, func(weight uint64) (ledger.Gas, error) {
		err := e.Charge(e.t.prices.weight * ledger.Gas(weight))
		return e.left / e.t.prices.initialize, err
	})
	if err := e.Charge(e.t.prices.initialize * used); err != nil { // also if the module is refused
		return nil, err
	}
	if errors.Is(err, wasmvm.ErrModule) {
		return nil, deny(precompiles.DeniedModule, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	if e.t.id == (ledger.TxID{}) {
		e.t.unpaid = true
		return m.Info().Section, nil
	}
	return m.Info().Section, m.Optimize(e.t.ctx, 0)
}

func (e *env) Call(by, to ledger.Address, hook string, args []byte) error {
	if err := e.Charge(e.t.prices.hook); err != nil {
		return err
	}
	outcome, err := e.t.call(call{
		target: ledger.Target{Address: to}, caller: by, method: hook, args: args, limit: e.left, hook: true, motion: e.call.caller == precompiles.GovernanceAddress,
	})
	if err != nil {
		return err
	}
	if err := e.Charge(outcome.Gas); err != nil {
		return err
	}
	if outcome.Status == ledger.NotFound && len(args) <= 1 { // no arguments, or the empty array
		return nil
	}
	if outcome.Status != ledger.OK {
		return &precompiles.Error{Status: outcome.Status, Code: outcome.Code, Data: outcome.Data, Reason: hook + " did not end well"}
	}
	return nil
}

func (e *env) Invoke(to ledger.Address, method string, args []byte) ([]byte, error) {
	if err := e.Charge(e.t.prices.hook); err != nil {
		return nil, err
	}
	self := e.call.target.Address
	outcome, err := e.t.call(call{
		target: ledger.Target{Address: to}, caller: self, method: method, args: args, limit: e.left, readOnly: e.call.readOnly, reentry: to == self,
	})
	if err != nil {
		return nil, err
	}
	if err := e.Charge(outcome.Gas); err != nil {
		return nil, err
	}
	if outcome.Status != ledger.OK {
		return nil, &precompiles.Error{Status: outcome.Status, Code: outcome.Code, Data: outcome.Data, Reason: outcome.Trace}
	}
	return outcome.Data, nil
}

// prefixEnd returns the least key above all that begin with prefix, or nil when there is none.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
