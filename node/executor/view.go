package executor

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Call is a call outside of any block.
type Call struct {
	From   ledger.Address // on whose behalf, an account or as a motion GovernanceAddress; nobody checks a signature. Zero: nobody
	To     ledger.Target
	Method string
	Args   []byte     // canonical CBOR array
	Gas    ledger.Gas // limit; 0, or more than Config.ViewGas: that
}

// Outcome is how a call outside of any block ended.
type Outcome struct {
	Status   ledger.Status
	Code     uint32
	Data     []byte
	Gas      ledger.Gas
	Events   []ledger.Event   // of a dry run
	Changes  []ledger.Change  // of a dry run: what it would write
	Failures []ledger.Failure // the failed calls within, as in a receipt
	Entered  []ledger.Address // the contracts that it called, in the order in which it first did; in a motion, that no call before it did
	Trace    string           // for people: log lines and reasons; differs between nodes
}

// View calls a method that only reads, at the state base and the time of its block. An error is a fault of
// this node.
func (x *Executor) View(ctx context.Context, base *state.Snapshot, c Call) (Outcome, error) {
	outcome, err := x.outside(ctx, base, c, true)
	if err != nil {
		return Outcome{}, fmt.Errorf("view %s.%s at height %d: %w", c.To.Address, c.Method, base.Height(), err)
	}
	return outcome, nil
}

// DryRun says what a transaction with the call would do in a block on base, short of its signatures, and
// forgets it. Assigned addresses and random bytes come out differently in a real one. An error is a fault of
// this node.
func (x *Executor) DryRun(ctx context.Context, base *state.Snapshot, c Call) (Outcome, error) {
	outcome, err := x.outside(ctx, base, c, false)
	if err != nil {
		return Outcome{}, fmt.Errorf("dry run of %s.%s at height %d: %w", c.To.Address, c.Method, base.Height(), err)
	}
	return outcome, nil
}

// Explanation is the receipt of a transaction and what no receipt holds. Its words are this node's own.
type Explanation struct {
	Receipt ledger.Receipt
	Reason  string           // why it had no effect; empty when it had one, or when its contract gave no reason
	Text    string           // the tree of its calls, what each asked of its host, log lines, and why what failed did
	Entered []ledger.Address // the contracts that it called, in the order in which it first did
}

// Explain executes a block up to its index-th transaction again, and tells how that one went. An error is a fault of
// this node.
func (x *Executor) Explain(ctx context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx, index int) (e Explanation, err error) {
	if index < 0 || index >= len(txs) {
		return e, fmt.Errorf("explain transaction %d of %d: no such transaction", index, len(txs))
	}
	b, err := x.newBlock(base, order)
	if err != nil {
		return e, fmt.Errorf("explain a transaction of block %d: %w", order.Height, err)
	}
	tr := trace{calls: true}
	for i, tx := range txs[:index+1] {
		if err := ctx.Err(); err != nil {
			return e, err
		}
		var wanted *trace
		if i == index {
			wanted = &tr
		}
		if e.Receipt, err = b.transact(ctx, uint32(i), tx, wanted); err != nil {
			return e, fmt.Errorf("explain a transaction of block %d: transaction %d, %s: %w", order.Height, i, tx.ID, err)
		}
	}
	e.Reason, e.Text, e.Entered = tr.why, string(tr.text), tr.entered
	return e, nil
}

// DryRunMotion says what calls of a motion would do together in a block on base: in their order, each on what those before it
// left, by the gas of one transaction. It returns the outcomes up to the first call that does not end well, with which all that
// the calls did would be undone. What the motion takes until it is carried out is not looked at. An error is a fault of this node.
func (x *Executor) DryRunMotion(ctx context.Context, base *state.Snapshot, calls []precompiles.Action) ([]Outcome, error) {
	t, err := x.aside(ctx, base, precompiles.GovernanceAddress, false)
	if err != nil {
		return nil, fmt.Errorf("dry run of a motion at height %d: %w", base.Height(), err)
	}
	// As while the governance contract carries a motion out: see precompiles.Env.Invoke.
	self := precompiles.GovernanceAddress
	t.running = []ledger.Address{self}
	e := &env{t: t, call: call{target: ledger.Target{Address: self}, caller: self}, left: min(x.viewGas, t.params.TxGas)}
	outcomes := make([]Outcome, 0, len(calls))
	for _, c := range calls {
		left, events, told, entered := e.left, len(t.events), len(t.trace.text), len(t.trace.entered)
		data, err := e.Invoke(c.To, c.Method, c.Args)
		o := Outcome{Data: data}
		if err != nil {
			refused, err := refusal(err)
			if err != nil {
				return nil, fmt.Errorf("dry run of a motion at height %d: %s.%s: %w", base.Height(), c.To, c.Method, err)
			}
			o = Outcome{Status: refused.Status, Code: refused.Code, Data: refused.Data, Trace: refused.Trace, Failures: t.within()}
		}
		o.Gas, o.Trace = left-e.left, cmp.Or(string(t.trace.text[told:]), o.Trace)
		if t.unpaid && o.Status == ledger.OutOfGas && e.left > 0 && left > wasmvm.MaxInterpreted {
			o.Trace = strings.TrimSpace(fmt.Sprintf("once a call has brought code, a trial gives each call at most %d gas; on the chain, which gives more, it may end well. %s", wasmvm.MaxInterpreted, o.Trace))
		}
		o.Events, o.Entered = t.events[events:], t.trace.entered[entered:]
		outcomes = append(outcomes, o)
		if o.Status != ledger.OK {
			break
		}
	}
	return outcomes, nil
}

// aside returns a transaction on whose behalf something is called outside of any block.
func (x *Executor) aside(ctx context.Context, base *state.Snapshot, from ledger.Address, view bool) (*transaction, error) {
	order := base.Header().Order
	if !view {
		order.Height++
		order.Parent = base.OrderHash()
		order.UnixMilli++
	}
	b, err := x.newBlock(base, &order)
	if err != nil {
		return nil, err
	}
	return &transaction{block: b, ctx: ctx, origin: from, outside: view, trace: &trace{}}, nil
}

func (x *Executor) outside(ctx context.Context, base *state.Snapshot, c Call, view bool) (Outcome, error) {
	t, err := x.aside(ctx, base, c.From, view)
	if err != nil {
		return Outcome{}, err
	}
	limit := x.viewGas
	if c.Gas > 0 {
		limit = min(limit, c.Gas)
	}
	if !view && c.From != precompiles.GovernanceAddress { // as which motions call, and no account does
		err := t.authorize(c.From, func(a *precompiles.Account) error {
			return a.MaySend(t.x.keep(t.overlay), c.From, c.To, c.Method, t.order.UnixMilli)
		})
		if err != nil {
			outcome, err := refusal(err)
			return Outcome{Status: outcome.Status, Code: outcome.Code, Data: outcome.Data, Trace: outcome.Trace}, err
		}
	}
	outcome, err := t.call(call{target: c.To, caller: c.From, method: c.Method, args: c.Args, limit: limit, readOnly: view, view: view})
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{
		Status: outcome.Status, Code: outcome.Code, Data: outcome.Data, Gas: outcome.Gas,
		Events: t.events, Changes: t.overlay.Changes(), Failures: t.within(), Entered: t.trace.entered, Trace: string(t.trace.text),
	}, nil
}
