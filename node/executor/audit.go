package executor

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Each call of a tx method of a system contract is an act, and so is one of another contract's method for which a policy was set. It leaves a
// record (precompiles.AuditRecord) however it ends: the
// records are written after the transaction's calls, so that no call that fails takes them back. A transaction pays for the record
// of its own call of a system contract before anything else is looked at, and any other call that is an act before it begins; what cannot pay is out of gas, and was
// not begun. Other calls cost nothing more.

// act is a call that is recorded.
type act struct {
	precompiles.AuditRecord
	method  *ledger.Method     // of a system contract; nil: of another one
	private bool               // a private contract's: what its members may not read is left out
	before  map[string]earlier // rows that the call itself wrote, as they were
}

// earlier is a row before a call wrote it.
type earlier struct {
	value []byte
	found bool
}

// audited returns the method that a call is of, if it is recorded in the block of an order; else nil.
func (x *Executor) audited(r *rules, order *ledger.Order, to ledger.Address, method string) *ledger.Method {
	if s := x.system[to]; s != nil && r.kind(s, method, order) == ledger.MethodTx {
		return s.Schema().Method(method)
	}
	return nil
}

// price returns what a transaction costs in the block of an order before its contract runs: by itself and, if its call is recorded, for the record.
func (x *Executor) price(r *rules, order *ledger.Order, tx *ledger.SignedTx) ledger.Gas {
	price := r.prices.intrinsic(len(tx.Raw), len(tx.Signatures))
	if tx.To.Name == "" && x.audited(r, order, tx.To.Address, tx.Method) != nil {
		price += r.prices.recorded(len(tx.Args))
	}
	return price
}

// begin begins the record of a call, if it has one, at the gas that it takes within a transaction. Where the outcome is not ok, the call is not made.
func (t *transaction) begin(c *call) (*act, wasmvm.Outcome, error) {
	m, price, looked, private := t.x.audited(t.rules, t.order, c.target.Address, c.method), ledger.Gas(0), ledger.Gas(0), false
	switch {
	case m == nil:
		var err error
		if private, looked, err = t.governed(c); err != nil {
			outcome, err := refusal(err)
			outcome.Gas = looked
			return nil, outcome, err
		}
		if c.policy == nil {
			return nil, wasmvm.Outcome{Gas: looked}, nil
		}
		price = t.prices.recorded(0)
	case len(t.running) > 0:
		price = t.prices.recorded(len(c.args))
	}
	switch {
	case price > c.limit:
		return nil, wasmvm.Outcome{Status: ledger.OutOfGas, Gas: looked + c.limit, Trace: fmt.Sprintf("the call's record takes %d gas, and %d are left", price, c.limit)}, nil
	case len(t.acts) >= precompiles.MaxAuditRecords:
		outcome, err := refusal(deny(precompiles.DeniedSize, "more than %d calls that are recorded in a transaction: those of methods of system contracts, and of methods for which there are policies", precompiles.MaxAuditRecords))
		outcome.Gas = looked + price
		return nil, outcome, err
	}
	a, err := t.describe(m, c, private)
	if err != nil {
		return nil, wasmvm.Outcome{}, err
	}
	c.limit -= price
	c.act = a
	return a, wasmvm.Outcome{Gas: looked + price}, nil
}

// governed looks up the policy of a call of a contract that is no system contract, and if it has one, whether the contract is private. It takes
// the gas of that, which it returns, from what is left.
func (t *transaction) governed(c *call) (private bool, looked ledger.Gas, err error) {
	if c.readOnly || c.hook {
		return false, 0, nil
	}
	deployment, err := t.x.deployments.read(t.overlay, c.target.Address)
	if err != nil || deployment == nil || deployment.Flags&precompiles.ContractPolicies == 0 {
		return false, 0, err
	}
	read := &counted{Reader: t.overlay}
	row, found, err := precompiles.ReadPolicy(read, c.target.Address, c.method)
	if err != nil {
		return false, 0, err
	}
	if found {
		c.policy = &row
		restriction, err := precompiles.ReadRestriction(read, c.target.Address)
		if err != nil {
			return false, 0, err
		}
		private = restriction.Visible != precompiles.VisibleMembers
	}
	looked, err = t.pay(c, read)
	return private, looked, err
}

// describe returns the record of a call that is about to begin. m is the method of a system contract; nil: it is another contract's, for which there is a policy.
func (t *transaction) describe(m *ledger.Method, c *call, private bool) (*act, error) {
	a := &act{method: m, private: private && c.caller != precompiles.GovernanceAddress, AuditRecord: precompiles.AuditRecord{
		Version: ledger.Version, Height: t.order.Height, Index: t.index, Number: uint32(len(t.acts)), Time: t.order.UnixMilli, Tx: t.id,
		Actor: c.caller, Origin: t.origin, Roles: []string{}, Certificates: []keys.Digest{}, Contract: c.target.Address, Method: c.method, Approvals: []precompiles.AuditApproval{},
	}}
	account, err := t.account(t.origin)
	if err != nil {
		return nil, err
	}
	if a.private {
		a.Actor, a.Origin, account = ledger.Address{}, ledger.Address{}, nil
	}
	if account != nil {
		a.Institution, a.Roles = account.Institution, account.Roles
		if b := account.Certificate; b != nil {
			for _, p := range b.Paths {
				if !slices.Contains(a.Certificates, p.Leaf) {
					a.Certificates = append(a.Certificates, p.Leaf)
				}
			}
		}
	}
	if m == nil {
		a.Policy = c.policy.Number
	} else {
		policy, _, err := precompiles.ReadPolicy(t.overlay, a.Contract, a.Method)
		if err != nil {
			return nil, err
		}
		a.Policy = policy.Number
		a.DescribeAct(t.x.suite, m, c.args)
	}
	if t.acting != nil && c.caller == precompiles.GovernanceAddress {
		a.Motion = t.acting.Motion
	}
	t.acts = append(t.acts, a)
	return a, nil
}

// end ends the record of a call, and of those that it made, from mark on.
func (t *transaction) end(a *act, mark int, outcome *wasmvm.Outcome) error {
	if outcome.Status != ledger.OK {
		for _, within := range t.acts[mark:] {
			if within != a && within.Status == ledger.OK && !within.Undone {
				within.Undone, within.Before, within.After = true, keys.Digest{}, keys.Digest{}
			}
		}
	}
	if a == nil {
		return nil
	}
	a.Status = outcome.Status
	if !a.private {
		a.Code = outcome.Code
	}
	if a.Status == ledger.OK && a.method != nil {
		a.Returned(a.method, outcome.Data)
		if err := t.compare(a); err != nil {
			return err
		}
	}
	a.before = nil
	return nil
}

// compare makes the digests of the rows that a call wrote, before and after it.
func (t *transaction) compare(a *act) error {
	names := make([]string, 0, len(a.before))
	for k := range a.before {
		names = append(names, k)
	}
	slices.Sort(names)
	before, after := make([]precompiles.AuditRow, 0, len(names)), make([]precompiles.AuditRow, 0, len(names))
	for _, k := range names {
		key, was := []byte(k), a.before[k]
		value, found, err := t.overlay.Get(key)
		if err != nil {
			return err
		}
		before = append(before, precompiles.NewAuditRow(t.x.suite, key, was.value, was.found))
		after = append(after, precompiles.NewAuditRow(t.x.suite, key, value, found))
	}
	var failed error
	a.Before, failed = precompiles.AuditRows(t.x.suite, before)
	var err error
	a.After, err = precompiles.AuditRows(t.x.suite, after)
	return errors.Join(failed, err)
}

// refused records a call that a transaction asks for and that is refused before it is made, if what is left of its gas pays for that.
func (t *transaction) refused(tx *ledger.SignedTx, outcome *wasmvm.Outcome) error {
	c := call{target: tx.To, caller: tx.Sender, method: tx.Method, args: tx.Args, limit: tx.GasLimit - outcome.Gas}
	looked, err := t.resolve(&c)
	t.served = tx.To // nothing served it
	outcome.Gas += looked.Gas
	if err != nil || looked.Status != ledger.OK {
		return err
	}
	a, begun, err := t.begin(&c)
	outcome.Gas += begun.Gas
	if err != nil || a == nil {
		return err
	}
	return t.end(a, len(t.acts), outcome)
}

// writeRecords writes the transaction's records, which nothing takes back any more, and remembers their digests.
func (t *transaction) writeRecords() error {
	t.recorded = nil
	for _, a := range t.acts {
		raw, digest, err := a.Encode(t.x.suite)
		if err != nil {
			return err
		}
		key := precompiles.AuditRecordKey(a.Height, a.Index, a.Number)
		t.written += len(key) + len(raw)
		t.overlay.Put(key, raw)
		t.recorded = append(t.recorded, digest)
	}
	return nil
}

// note keeps what a row was before the call first writes it, and pays for the digest of what it becomes.
func (e *env) note(key, becomes []byte) error {
	a := e.call.act
	if a == nil {
		return nil
	}
	if err := e.Charge(e.t.prices.recordedBytes(len(key)) + e.t.prices.recordedBytes(len(becomes))); err != nil {
		return err
	}
	if _, known := a.before[string(key)]; known {
		return nil
	}
	value, found, err := e.Get(key)
	if err != nil {
		return err
	}
	if err := e.Charge(e.t.prices.recordedBytes(len(value))); err != nil {
		return err
	}
	if a.before == nil {
		a.before = map[string]earlier{}
	}
	a.before[string(key)] = earlier{value, found}
	return nil
}

// link writes what stands for the records of a block, after all of its transactions.
func (b *block) link(o *state.Overlay, records [][]keys.Digest) error {
	writes, err := precompiles.LinkAudit(o, b.x.suite, b.order.Height, slices.Concat(records...))
	if err != nil {
		return fmt.Errorf("link the block's audit records: %w", err)
	}
	for _, w := range writes {
		o.Put(w.Key, w.Value)
	}
	return nil
}
