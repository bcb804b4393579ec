package executor

import (
	"bytes"
	"context"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestPrivateViews: what views tell of private contracts gets into no receipt of a transaction that calls them.
func TestPrivateViews(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta"}, []entry{
		{"admin", "alpha", "deployer,institution-admin"}, {"user", "alpha", ""}, {"rival", "beta", "deployer,institution-admin"},
	})
	// asks calls a method with arguments of the contract that its input names, and keeps the status.
	asks := func(a *assembler, method, args string) body {
		return join(hostCall("input_read", i32(0), i32(0), i32(64)), drop,
			i32(512), hostCall("call", i32(2), i32(20), a.text(method), a.text(args), i64(0), i32(0)), body{0x36, 0x02, 0x00},
			hostCall("set", a.text("status"), i32(512), i32(4)), succeed)
	}
	caller := &assembler{}
	caller.method("peeks", asks(caller, "peek", "\x80"))
	caller.method("puts", asks(caller, "put", "\x80"))
	caller.method("lists", asks(caller, "list", "\x81\x00"))
	code := probe().module(t, probeSchema())
	proxy := caller.module(t, nil)
	deploy := func(by string) (self ledger.Address) {
		t.Helper()
		r := c.block(c.tx(by, precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: proxy}))[0]
		c.want(r, ledger.OK, 0)
		if err := ledger.Unmarshal(r.Data, &self); err != nil {
			t.Fatal(err)
		}
		return self
	}
	restrict := func(by string, self ledger.Address, visible precompiles.Visible) {
		t.Helper()
		c.want(c.block(c.tx(by, precompiles.ContractsAddress, "restrict", precompiles.RestrictArgs{Address: self, Visible: visible}))[0], ledger.OK, 0)
	}
	public, other := c.deploy(code), c.deploy(proxy)
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
	// by has a contract call a method of another one, and reports whether it is answered; through has the other contract do so.
	by := func(proxy ledger.Address, method string, to ledger.Address) bool {
		t.Helper()
		c.want(c.block(c.tx("user", proxy, method, []any{to}))[0], ledger.OK, 0)
		return bytes.Equal(c.value(proxy, "status"), make([]byte, 4))
	}
	through := func(method string, to ledger.Address) bool {
		t.Helper()
		return by(other, method, to)
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
		if !through("peeks", self) || !through("puts", self) {
			t.Error("a contract that every member reads does not answer another one")
		}
		restrict("admin", self, visible)
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
		c.want(c.block(c.tx("user", self, "put", none))[0], ledger.OK, 0)

		// Whoever deploys a proxy reads nothing of it, by no method, however private the proxy is.
		answered := func(proxy ledger.Address, want bool) {
			t.Helper()
			for _, method := range []string{"peeks", "puts"} {
				if by(proxy, method, self) != want {
					t.Errorf("%s for %s: answered %t", method, visible, !want)
				}
			}
		}
		answered(other, false)
		rival := deploy("rival")
		answered(rival, false)
		restrict("rival", rival, visible)
		answered(rival, false)
		unlike := deploy("admin")
		restrict("admin", unlike, precompiles.VisibleInstitution+precompiles.VisibleParties-visible)
		answered(unlike, false)
		alike := deploy("admin")
		answered(alike, false)
		restrict("admin", alike, visible)
		answered(alike, true)
		c.want(c.block(c.tx("admin", precompiles.ContractsAddress, "transfer", precompiles.TransferArgs{Address: alike, Owner: address("rival")}))[0], ledger.OK, 0)
		answered(alike, false) // whose code beta says now
		if err := c.carry(self, "put", none); err != nil {
			t.Errorf("a motion calls it: %v", err)
		}
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
