package executor

import (
	"bytes"
	"context"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestPrivateViews: what views tell of private contracts gets into no receipt of a transaction that calls them.
func TestPrivateViews(t *testing.T) {
	c := newChain(t)
	// asks calls a method with arguments of the contract that its input names, and keeps the status.
	asks := func(a *assembler, method, args string) body {
		return join(hostCall("input_read", i32(0), i32(0), i32(64)), drop,
			i32(512), hostCall("call", i32(2), i32(20), a.text(method), a.text(args), i64(0), i32(0)), body{0x36, 0x02, 0x00},
			hostCall("set", a.text("status"), i32(512), i32(4)), succeed)
	}
	caller := &assembler{}
	caller.method("peeks", asks(caller, "peek", "\x80"))
	caller.method("lists", asks(caller, "list", "\x81\x00"))
	code := probe().module(t, probeSchema())
	public, other := c.deploy(code), c.deploy(caller.module(t, nil))
	peek := func(by string, to ledger.Address) ledger.Receipt { return c.block(c.tx(by, to, "peek", none))[0] }
	outside := func(to ledger.Address, method string, args any) (view, dry Outcome) {
		t.Helper()
		call := Call{From: address("user"), To: ledger.Target{Address: to}, Method: method, Args: c.marshal(args)}
		if raw, ok := args.([]byte); ok {
			call.Args = raw
		}
		view, err := c.x.View(context.Background(), c.head, call)
		if err == nil {
			dry, err = c.x.DryRun(context.Background(), c.head, call)
		}
		if err != nil {
			t.Fatal(err)
		}
		return view, dry
	}
	// through has the other contract call a method, and reports whether it is answered.
	through := func(method string, to ledger.Address) bool {
		t.Helper()
		c.want(c.block(c.tx("user", other, method, []any{to}))[0], ledger.OK, 0)
		return bytes.Equal(c.value(other, "status"), make([]byte, 4))
	}
	corrections := precompiles.CorrectionsAddress
	list := func() ledger.Receipt {
		return c.block(c.tx("user", corrections, "list", precompiles.AfterNumberArgs{}))[0]
	}

	t.Log("before the feature begins, views answer transactions")
	c.want(peek("user", public), ledger.OK, 0)
	c.want(list(), ledger.OK, 0)
	if !through("lists", corrections) {
		t.Error("a contract is not told of corrections before the feature begins")
	}
	c.activate(precompiles.Activation{Feature: precompiles.Visibility, Height: c.head.Height() + 2, Release: "1"})
	c.block()

	t.Log("then those of contracts that every member reads do, and those of private ones do not, whoever sends the transaction")
	for _, visible := range []precompiles.Visible{precompiles.VisibleInstitution, precompiles.VisibleParties} {
		self := c.deploy(code)
		c.want(peek("user", self), ledger.OK, 0)
		c.want(c.block(c.tx("admin", precompiles.ContractsAddress, "restrict", precompiles.RestrictArgs{Address: self, Visible: visible}))[0], ledger.OK, 0)
		for _, who := range []string{"user", "admin"} {
			r := peek(who, self)
			c.want(r, ledger.Denied, precompiles.DeniedView)
			if len(r.Data) != 0 {
				t.Errorf("the receipt has %x", r.Data)
			}
		}
		if view, dry := outside(self, "peek", none); view.Status != ledger.OK || dry.Status != ledger.Denied || dry.Code != precompiles.DeniedView {
			t.Errorf("the view ends %s, and its dry run %s with code %d", view.Status, dry.Status, dry.Code)
		}
		if !through("peeks", self) { // whom it answers, it says itself
			t.Error("no contract may call the view")
		}
		c.want(c.block(c.tx("user", self, "put", none))[0], ledger.OK, 0)
	}
	c.want(peek("user", public), ledger.OK, 0)

	t.Log("corrections tell of contracts, and so neither transactions nor the contracts that they call")
	c.want(list(), ledger.Denied, precompiles.DeniedView)
	c.want(c.block(c.tx("user", corrections, "get", precompiles.NumberArgs{Number: 1}))[0], ledger.Denied, precompiles.DeniedView)
	c.want(c.block(c.tx("user", corrections, "of", precompiles.CorrectionsOfArgs{}))[0], ledger.OK, 0)
	if through("lists", corrections) {
		t.Error("a contract copies corrections in a transaction")
	}
	if view, dry := outside(corrections, "list", precompiles.AfterNumberArgs{}); view.Status != ledger.OK || dry.Status != ledger.Denied || dry.Code != precompiles.DeniedView {
		t.Errorf("the list ends %s, and its dry run %s with code %d", view.Status, dry.Status, dry.Code)
	}
}
