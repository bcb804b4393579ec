package executor

import (
	"errors"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// activate writes into the state what a motion of the committee writes that decides on features.
func (c *chain) activate(list ...precompiles.Activation) {
	c.Helper()
	order := c.order()
	features := c.marshal(precompiles.Features{Version: ledger.Version, List: list})
	next, err := c.head.Extend(&order, state.Result{Changes: []ledger.Change{{Key: precompiles.FeaturesStateKey(), Value: features}}})
	if err != nil {
		c.Fatal(err)
	}
	c.head = next
}

// TestFeatureBegins calls a method that came with a feature before, at and after the height at which the feature begins.
func TestFeatureBegins(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{{"admin", "alpha", "deployer"}})
	contract := c.deploy(probe().module(t, probeSchema()))
	call := func(method string) ledger.Receipt {
		args := precompiles.RestrictArgs{Address: contract, Visible: precompiles.VisibleParties}
		return c.block(c.tx("admin", precompiles.ContractsAddress, method, args))[0]
	}
	system := func() string {
		r := c.block(c.tx("admin", precompiles.ContractsAddress, "schema", precompiles.AddressArgs{Address: precompiles.ContractsAddress}))[0]
		c.want(r, ledger.OK, 0)
		return string(r.Data)
	}
	begins := c.head.Height() + 6
	from := c.head.Header().Order.UnixMilli + 20_000
	c.activate(precompiles.Activation{Feature: precompiles.Visibility, Height: begins, Release: "0.2", From: from})

	// A release without the feature knows no such method; one with it must not tell the difference.
	never, early := call("astonish"), call("restrict")
	c.want(early, ledger.NotFound, 0)
	if early.Gas != never.Gas {
		t.Errorf("restrict takes %d gas before its feature begins, and a method that never was %d", early.Gas, never.Gas)
	}
	if s := system(); strings.Contains(s, "restrict") || strings.Contains(s, "Visible") {
		t.Error("the schema on chain tells of restrict before its feature begins")
	}
	for c.head.Height()+1 < begins {
		c.want(call("restrict"), ledger.NotFound, 0)
	}
	c.want(call("restrict"), ledger.NotFound, 0) // the height is there, the time is not
	for c.head.Header().Order.UnixMilli+1_000 < from {
		c.want(call("restrict"), ledger.NotFound, 0)
	}
	begins = c.head.Height() + 1
	c.want(call("restrict"), ledger.OK, 0)
	if s := system(); !strings.Contains(s, "restrict") || !strings.Contains(s, "Visible") {
		t.Error("the schema on chain does not tell of restrict after its feature began")
	}
	row, err := precompiles.ReadRestriction(c.head, contract)
	if err != nil || row.Visible != precompiles.VisibleParties || row.Institution != "alpha" || row.Height != begins {
		t.Errorf("ReadRestriction = %+v, %v", row, err)
	}
}

// TestUnknownFeature executes blocks up to the one with which a feature begins that this release does not have.
func TestUnknownFeature(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{{"admin", "alpha", "deployer"}})
	begins := c.head.Height() + 4
	c.activate(precompiles.Activation{Feature: "time-travel", Height: begins, Release: "9.1"})
	nothing := func() *ledger.SignedTx { return c.tx("admin", precompiles.ConfigAddress, "params", none) }
	for c.head.Height()+1 < begins {
		c.want(c.block(nothing())[0], ledger.OK, 0)
	}
	tx := nothing()
	order := c.order(tx)
	_, err := c.x.Execute(t.Context(), c.head, &order, []*ledger.SignedTx{tx})
	needs, ok := errors.AsType[*precompiles.ReleaseError](err)
	if !ok || needs.Feature != "time-travel" || needs.Height != begins || !strings.Contains(err.Error(), "install release 9.1 or a later one") {
		t.Errorf("block %d: %v; want it to say that release 9.1 is needed", begins, err)
	}
	if _, err := c.x.View(t.Context(), c.head, Call{To: ledger.Target{Address: precompiles.ConfigAddress}, Method: "features", Args: []byte{0x80}}); err != nil {
		t.Errorf("a view of the state before it: %v", err)
	}
}

// audited returns the method that a transaction calls, if its call is recorded in the next block; else nil.
func audited(c *chain, tx *ledger.SignedTx) *ledger.Method {
	c.Helper()
	r, err := c.x.rules(c.head)
	if err != nil {
		c.Fatal(err)
	}
	return c.x.audited(r, following(c.head), tx.To.Address, tx.Method)
}
