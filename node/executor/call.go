package executor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// call is a call of one contract: by a transaction, by another contract, or as a hook of deployment.
type call struct {
	target   ledger.Target
	caller   ledger.Address
	method   string
	args     []byte
	limit    ledger.Gas
	readOnly bool
	reentry  bool                   // the contract may be running already
	hook     bool                   // init or upgrade, called by deployment
	motion   bool                   // a hook of what a motion deploys, whoever is the caller
	view     bool                   // a view from outside: its result goes to no receipt, and may be large
	act      *act                   // its record; nil: it has none
	policy   *precompiles.PolicyRow // that was set for the method of a contract that is no system contract; nil: none
}

// call runs a contract and undoes its writes and events unless it ends well. An error is a fault of this node.
func (t *transaction) call(c call) (wasmvm.Outcome, error) {
	point, events, size, mark, acting := t.overlay.Savepoint(), len(t.events), t.eventBytes, len(t.acts), t.acting
	t.failed = nil
	outcome, err := t.resolve(&c)
	t.trace.enter(len(t.running), &c)
	if err != nil {
		return outcome, err
	}
	var a *act
	if outcome.Status == ledger.OK {
		looked := outcome.Gas
		if a, outcome, err = t.begin(&c); err != nil {
			return outcome, err
		}
		outcome.Gas += looked
	}
	if outcome.Status == ledger.OK && t.sender != nil && len(t.running) == 0 {
		if err := t.sender.Cosigned(t.overlay, c.target.Address, c.method, t.signers, t.order.UnixMilli); err != nil {
			gas := outcome.Gas
			if outcome, err = refusal(err); err != nil {
				return outcome, err
			}
			outcome.Gas = gas
		}
	}
	if outcome.Status == ledger.OK {
		begun := outcome.Gas
		if a != nil {
			t.acting = a
		}
		outcome, err = t.enter(c)
		t.acting = acting
		if err != nil {
			return outcome, err
		}
		outcome.Gas += begun
	}
	t.trace.leave(len(t.running), &outcome)
	if outcome.Status == ledger.OK {
		t.failed = nil
	} else {
		f := ledger.Failure{Contract: c.target.Address, Method: c.method, Status: outcome.Status, Code: outcome.Code}
		if len(outcome.Data) <= ledger.MaxFailureData {
			f.Data = outcome.Data
		}
		t.failed = slices.Insert(t.failed, 0, f)
		t.overlay.Rollback(point)
		clear(t.events[events:])
		t.events, t.eventBytes = t.events[:events], size
		t.trace.reason(&c, &outcome)
	}
	return outcome, t.end(a, mark, &outcome)
}

// resolve finds the contract that serves a call by name. The outcome is ok, with the gas that it took, or that of the call.
func (t *transaction) resolve(c *call) (wasmvm.Outcome, error) {
	if c.target.Name == "" {
		return wasmvm.Outcome{}, nil
	}
	to, read, err := t.lookUp(c)
	price := t.prices.get*ledger.Gas(read.rows) + t.prices.getByte*ledger.Gas(read.bytes) + t.prices.item*ledger.Gas(read.items)
	if len(t.running) == 0 {
		price += t.prices.put // for what is counted after the block
	}
	if price > c.limit {
		return wasmvm.Outcome{Status: ledger.OutOfGas, Gas: c.limit, Trace: fmt.Sprintf("looking up the name takes %d gas, and %d are left", price, c.limit)}, nil
	}
	if err != nil {
		outcome, err := refusal(err)
		outcome.Gas = price
		return outcome, err
	}
	c.target = to
	c.limit -= price
	if len(t.running) == 0 {
		t.served = to
	}
	return wasmvm.Outcome{Gas: price}, nil
}

// lookUp returns the contract of a name, and what it read to find it. It is looked up for the sender
// of the transaction, whichever contract calls.
func (t *transaction) lookUp(c *call) (to ledger.Target, read *counted, err error) {
	read = &counted{Reader: t.overlay}
	from := precompiles.Sender{Address: t.origin, Account: func() (*precompiles.Account, error) { return t.x.accounts.read(read, t.origin) }}
	to, err = precompiles.Resolve(read, t.x.suite, c.target, from, c.method, t.order.Height)
	return to, read, err
}

// counted is a Reader that counts what was read: rows, their bytes, and the items that they are decoded to.
type counted struct {
	precompiles.Reader
	rows, bytes int
	items       uint64
}

func (r *counted) Get(key []byte) (value []byte, found bool, err error) {
	value, found, err = r.Reader.Get(key)
	r.rows, r.bytes, r.items = r.rows+1, r.bytes+len(key)+len(value), r.items+ledger.Items(value)
	return value, found, err
}

func (t *transaction) enter(c call) (wasmvm.Outcome, error) {
	self := c.target.Address
	if len(t.running) >= maxDepth {
		return wasmvm.Outcome{Status: ledger.OutOfDepth, Trace: fmt.Sprintf("more than %d contracts call one another", maxDepth)}, nil
	}
	system := t.x.system[self]
	// A system contract's view keeps nothing in memory that a second one could find half done.
	harmless := system != nil && t.kind(system, c.method, t.order) == ledger.MethodView
	if !c.reentry && !harmless && slices.Contains(t.running, self) {
		return wasmvm.Outcome{Status: ledger.Denied, Code: wasmvm.DeniedReentry, Trace: "the contract is already running"}, nil
	}
	if t.trace != nil && !slices.Contains(t.trace.entered, self) {
		t.trace.entered = append(t.trace.entered, self)
	}
	t.running = append(t.running, self)
	defer func() { t.running = t.running[:len(t.running)-1] }()
	if system != nil {
		return t.invoke(system, c)
	}
	return t.runModule(c)
}

// runModule calls a contract in WebAssembly.
func (t *transaction) runModule(c call) (wasmvm.Outcome, error) {
	deployment, err := t.x.deployments.read(t.overlay, c.target.Address)
	if err != nil {
		return wasmvm.Outcome{}, err
	}
	if deployment == nil {
		return wasmvm.Outcome{Status: ledger.NotFound, Trace: fmt.Sprintf("no contract at %s", c.target.Address)}, nil
	}
	if err := t.permitContract(deployment, &c); err != nil {
		return refusal(err)
	}
	m, err := t.x.module(t.ctx, t.vm, t.overlay, deployment.Code)
	if errors.Is(err, wasmvm.ErrModule) { // it was deployed under other rules
		return refusal(deny(precompiles.DeniedModule, "contract %s does not keep to the chain's present rules: %v", c.target.Address, err))
	}
	if err != nil {
		return wasmvm.Outcome{}, fmt.Errorf("contract %s: %w", c.target.Address, err)
	}
	if err := t.permit(m.Info().Schema, &c); err != nil {
		return refusal(err)
	}
	if deployment.Flags&(precompiles.ContractPaused|precompiles.ContractRetired) != 0 && !c.readOnly && !c.hook {
		return refusal(halted(c.target.Address, deployment))
	}
	var looked ledger.Gas
	if !c.hook {
		looked, err = t.keepPrivate(&c)
	}
	if err == nil && !c.hook && !c.readOnly && c.policy != nil {
		var price ledger.Gas
		price, err = t.keepPolicy(&c)
		looked += price
	}
	if err != nil {
		outcome, err := refusal(err)
		outcome.Gas = looked
		return outcome, err
	}
	switch {
	case !m.Has(c.method):
	case t.unpaid:
		c.limit = min(c.limit, wasmvm.MaxInterpreted)
	default:
		if err := m.Optimize(t.ctx, c.limit); err != nil {
			return wasmvm.Outcome{}, fmt.Errorf("contract %s: %w", c.target.Address, err)
		}
	}
	var h wasmvm.Host = &host{t: t, call: c}
	if t.trace != nil && t.trace.calls {
		h = traced{&host{t: t, call: c}}
	}
	outcome, err := m.Call(t.ctx, h, c.method, c.args, c.limit)
	outcome.Gas += looked
	return outcome, err
}

// keepPolicy applies the policy that was set for a method of a contract. It takes the gas of looking co-signers up, which it returns.
func (t *transaction) keepPolicy(c *call) (ledger.Gas, error) {
	if c.caller == precompiles.GovernanceAddress { // a motion, which has what its policies took
		return 0, nil
	}
	signers := make([]ledger.Key, len(t.signers))
	for i, s := range t.signers {
		signers[i] = ledger.Key{Algorithm: s.Algorithm, Bytes: s.Key}
	}
	read := &counted{Reader: t.overlay}
	refused := c.policy.Policy.Permit(read, c.method, c.caller == t.origin, signers, t.order.UnixMilli, func() (*precompiles.Account, error) { return t.account(c.caller) })
	price, err := t.pay(c, read)
	return price, cmp.Or(refused, err)
}

// pay takes the gas of what was looked up from what is left, and returns it.
func (t *transaction) pay(c *call, read *counted) (ledger.Gas, error) {
	price := min(c.limit, t.prices.get*ledger.Gas(read.rows)+t.prices.getByte*ledger.Gas(read.bytes)+t.prices.item*ledger.Gas(read.items))
	if c.limit -= price; c.limit == 0 {
		return price, &precompiles.Error{Status: ledger.OutOfGas, Reason: "the gas limit is used up"}
	}
	return price, nil
}

// keepPrivate refuses a view of a private contract that a transaction itself calls, and each method of one that is called by a contract which is not as private:
// the receipt would have what they return, and is for whoever sent the transaction. Corrections and motions call what they need. It takes the gas of
// looking up who is private, which it returns.
func (t *transaction) keepPrivate(c *call) (ledger.Gas, error) {
	direct := len(t.running) == 1
	if !t.keepsPrivate() || direct && !c.readOnly || precompiles.IsSystem(c.caller) {
		return 0, nil
	}
	read := &counted{Reader: t.overlay}
	row, err := precompiles.ReadRestriction(read, c.target.Address)
	answers := row.Visible == precompiles.VisibleMembers
	if err == nil && !answers && !direct {
		answers, err = row.Answers(read, c.caller)
	}
	if err != nil {
		return 0, err
	}
	price, err := t.pay(c, read)
	switch {
	case err != nil || answers:
	case direct:
		err = deny(precompiles.DeniedView, "%s is a view of a private contract, and its result would be in the receipt: ask a node for it, as `fondaco contract view` does", c.method)
	default:
		err = deny(precompiles.DeniedView, "contract %s is private, and contract %s, which calls it, is not as private: call it directly, or have the owner restrict the caller the same way with `fondaco contract call contracts restrict`", c.target.Address, c.caller)
	}
	return price, err
}

// keepsPrivate reports whether what is private is kept from transactions and from contracts in them. From outside, nodes' APIs ask who calls.
func (t *transaction) keepsPrivate() bool {
	return !t.outside && t.features.Active(precompiles.Visibility, t.order)
}

// permitContract applies what the chain, and not the module, says of a call.
func (t *transaction) permitContract(d *precompiles.Deployment, c *call) error {
	if t.operator && c.caller == t.origin && !c.hook {
		return deny(precompiles.DeniedRole, "an account with the role operator calls system contracts only: who runs nodes sees and orders transactions, and does not trade")
	}
	// What froze a contract is there for its code as well: only a motion replaces that meanwhile.
	if d.Flags&precompiles.ContractFrozen == 0 || t.outside || c.motion {
		return nil
	}
	return precompiles.CheckContract(t.overlay, c.target.Address, c.method, t.order.UnixMilli)
}

// permit applies what the module's schema, if it has one, says of the method.
func (t *transaction) permit(schema *ledger.Schema, c *call) error {
	if hook := c.method == "init" || c.method == "upgrade"; hook != c.hook {
		return deny(precompiles.DeniedHook, "%s is run by deployment only", c.method)
	}
	if schema == nil {
		return nil
	}
	method := schema.Method(c.method)
	switch {
	case method == nil && c.hook && len(c.args) <= 1: // nothing, or the empty array
		return nil
	case method == nil:
		return &precompiles.Error{Status: ledger.NotFound, Reason: fmt.Sprintf("the schema has no method %q", c.method)}
	case method.Kind == ledger.MethodView:
		c.readOnly = true
	case c.readOnly:
		return deny(wasmvm.DeniedReadOnly, "%s is no view", c.method)
	}
	if len(method.Roles) == 0 || c.caller == precompiles.GovernanceAddress || c.motion { // a motion rests on no role
		return nil
	}
	account, err := t.account(c.caller)
	if err != nil {
		return err
	}
	if account == nil || !account.HasAny(method.Roles...) {
		return deny(precompiles.DeniedRole, "%s needs one of the roles %v", c.method, method.Roles)
	}
	return nil
}

// halted is the refusal of a contract that is paused or retired.
func halted(contract ledger.Address, d *precompiles.Deployment) error {
	if d.Flags&precompiles.ContractRetired != 0 {
		return deny(precompiles.DeniedHalted, "contract %s is retired: only its views run", contract)
	}
	return deny(precompiles.DeniedHalted, "contract %s is paused: only its views run until it is resumed; `fondaco contract show %s` says who paused it, and why", contract, contract)
}

// emit records an event, within the bounds of the transaction.
func (t *transaction) emit(contract ledger.Address, topic string, data []byte) error {
	if len(t.events) >= maxEvents || t.eventBytes+len(topic)+len(data) > maxEventBytes {
		return &wasmvm.Denial{Code: wasmvm.DeniedEvent, Reason: fmt.Sprintf("more than %d events or %d bytes of them in the transaction", maxEvents, maxEventBytes)}
	}
	t.events = append(t.events, ledger.Event{Contract: contract, Topic: topic, Data: data})
	t.eventBytes += len(topic) + len(data)
	return nil
}
