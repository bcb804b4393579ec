package executor

import (
	"context"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// block is a block, or a throw-away call, being executed.
type block struct {
	x     *Executor
	base  *state.Snapshot
	order *ledger.Order
	below keys.Digest // hash of the block below
	*rules
	overlay  *state.Overlay
	written  int           // bytes that transactions wrote, in calls that were undone as well; a counter is taken for the longest
	recorded []keys.Digest // digests of the audit records of the last transaction
}

// keysOfTx is how many keys a transaction reads or writes as a rule that no other one of the block does, such as a transfer: the
// sender's account and two balances.
const keysOfTx = 3

func (x *Executor) newBlock(base *state.Snapshot, order *ledger.Order) (*block, error) {
	r, err := x.rules(base)
	if err != nil {
		return nil, err
	}
	if err := r.features.Due(order); err != nil {
		return nil, err
	}
	below := base.Hash()
	if order.Parent != base.OrderHash() { // a view, at base itself
		below = base.Header().Parent
	}
	return &block{x: x, base: base, order: order, below: below, rules: r, overlay: state.NewOverlay(base)}, nil
}

// transaction is a transaction being executed: what its calls share.
type transaction struct {
	*block
	ctx     context.Context
	id      ledger.TxID
	index   uint32
	origin  ledger.Address
	signers []ledger.Signature
	sender  *precompiles.Account // whose co-signers must have signed; nil: nobody's

	running    []ledger.Address  // contracts from the transaction's target to the one that runs
	shallow    [2]ledger.Address // what running is in, as long as it fits
	events     []ledger.Event
	eventBytes int
	addresses  uint32     // assigned so far, in calls that were undone as well
	random     uint64     // blocks of random bytes drawn so far
	scanners   []*scanner // open ones
	key        []byte     // of the contract that runs, in use by its host; see host.scratch
	unpaid     bool       // a dry run that deploys: nobody has paid for compiling, so the interpreter serves it, within what suits that

	operator bool // its sender runs nodes, and calls no contract that is not a system contract
	outside  bool // a view from outside: what it calls may be frozen

	served ledger.Target // what the transaction's target is, once a name is resolved

	acts   []*act // calls that are recorded, in the order in which they began
	acting *act   // the innermost of them that runs; nil: none

	failed []ledger.Failure // the last call that ended, if it failed, and the calls within that made it fail

	trace *trace // nil: not wanted
}

// transact executes one transaction of a block. An error is a fault of this node.
func (b *block) transact(ctx context.Context, index uint32, tx *ledger.SignedTx, tr *trace) (ledger.Receipt, error) {
	t := &transaction{block: b, ctx: ctx, id: tx.ID, index: index, origin: tx.Sender, signers: tx.Signatures, served: tx.To, trace: tr}
	t.running = t.shallow[:0]
	outcome, err := t.run(tx)
	if err != nil {
		return ledger.Receipt{}, err
	}
	if err := t.writeRecords(); err != nil {
		return ledger.Receipt{}, err
	}
	b.overlay.Settle()
	if len(t.running) != 0 || len(t.scanners) != 0 {
		return ledger.Receipt{}, fmt.Errorf("%d calls and %d scans are still open", len(t.running), len(t.scanners))
	}
	return ledger.Receipt{
		Version: ledger.Version, Tx: tx.ID, Index: index, Status: outcome.Status, Code: outcome.Code, Data: outcome.Data,
		Gas: outcome.Gas, Served: t.served, Events: t.events, Failures: t.within(),
	}, nil
}

// within returns the failed calls below the transaction's own.
func (t *transaction) within() []ledger.Failure {
	if len(t.failed) < 2 {
		return nil
	}
	return t.failed[1:]
}

// run checks what only the state can tell of a transaction, and calls its target. The gas of the outcome
// includes what the transaction costs by itself.
func (t *transaction) run(tx *ledger.SignedTx) (wasmvm.Outcome, error) {
	price := t.x.price(t.rules, t.order, tx)
	if price > tx.GasLimit {
		t.trace.refuse(fmt.Sprintf("the transaction itself takes %d gas, the limit is %d", price, tx.GasLimit))
		return wasmvm.Outcome{Status: ledger.OutOfGas, Gas: tx.GasLimit}, nil
	}
	err := t.check(tx)
	if err == nil && !precompiles.Recovers(&tx.Tx) { // the authority of a recovery is the certificate of its block
		err = t.authorize(tx.Sender, func(a *precompiles.Account) error {
			t.sender = a
			return a.Authorize(t.x.keep(t.overlay), tx.Sender, tx.To, tx.Method, tx.Signatures, t.order.UnixMilli)
		})
	}
	if err != nil {
		outcome, err := refusal(err)
		outcome.Gas = price
		t.trace.refuse(outcome.Trace)
		if err == nil {
			err = t.refused(tx, &outcome)
		}
		return outcome, err
	}
	outcome, err := t.call(call{
		target: tx.To, caller: tx.Sender, method: tx.Method, args: tx.Args, limit: tx.GasLimit - price,
	})
	outcome.Gas += price
	return outcome, err
}

func (t *transaction) check(tx *ledger.SignedTx) error {
	switch limit := t.x.SizeLimit(tx.To); {
	case tx.GasLimit > t.params.TxGas:
		return deny(precompiles.DeniedGasLimit, "a gas limit of %d, at most %d", tx.GasLimit, t.params.TxGas)
	case len(tx.Raw) > limit:
		return deny(precompiles.DeniedSize, "a transaction of %d bytes to this target, at most %d", len(tx.Raw), limit)
	}
	return nil
}

// authorize applies a check to the account of a sender.
func (t *transaction) authorize(sender ledger.Address, check func(*precompiles.Account) error) error {
	account, err := t.x.accounts.read(t.overlay, sender)
	switch {
	case err != nil:
		return err
	case account == nil:
		return deny(precompiles.DeniedAccount, "the sender %s has no account", sender)
	}
	t.operator = account.Has(identity.Operator)
	return check(account)
}

// account returns the account of an address, or nil.
func (t *transaction) account(address ledger.Address) (*precompiles.Account, error) {
	return t.x.accounts.read(t.overlay, address)
}

// put and delete write to the world state.
func (t *transaction) put(key, value []byte) error {
	if err := t.mayWrite(len(key) + len(value)); err != nil {
		return err
	}
	t.overlay.Put(key, value)
	return nil
}

func (t *transaction) delete(key []byte) error {
	if err := t.mayWrite(len(key)); err != nil {
		return err
	}
	t.overlay.Delete(key)
	return nil
}

// mayWrite prepares for a write of so many bytes.
func (t *transaction) mayWrite(bytes int) error {
	if t.written += bytes; t.written > maxBlockWrites {
		return &wasmvm.Denial{Code: precompiles.DeniedSize, Reason: fmt.Sprintf("the block's transactions write more than %d bytes: send it again", maxBlockWrites)}
	}
	return nil
}

// keepScans prepares open scans for a write. See wasmvm.Host.
func (t *transaction) keepScans(pay func(wasmvm.Pair) error) error {
	for _, s := range t.scanners {
		if !s.kept {
			if err := s.keep(pay); err != nil {
				return err
			}
		}
	}
	return nil
}

func deny(code uint32, format string, args ...any) error {
	return &precompiles.Error{Status: ledger.Denied, Code: code, Reason: fmt.Sprintf(format, args...)}
}

// refusal turns a refusal into the outcome of a call; any other error is a fault of this node.
func refusal(err error) (wasmvm.Outcome, error) {
	if e, ok := errors.AsType[*precompiles.Error](err); ok {
		return wasmvm.Outcome{Status: e.Status, Code: e.Code, Data: e.Data, Trace: e.Reason}, nil
	}
	if d, ok := errors.AsType[*wasmvm.Denial](err); ok {
		return wasmvm.Outcome{Status: ledger.Denied, Code: d.Code, Trace: d.Reason}, nil
	}
	return wasmvm.Outcome{}, err
}
