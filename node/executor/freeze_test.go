package executor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestFreezeRace has a thousand transfers race a freeze, in its own block and in those beside it, on every path that moves units
// of the account in the shipped token: by itself, by a spender, by a contract that spends, and to it. All before it take place and none after it;
// executed in parallel they do the same (chain.block compares).
func TestFreezeRace(t *testing.T) {
	chain := newTokenChain(t)
	begin := chain.head
	for _, c := range []struct {
		story  string
		freeze func(c *tokenChain) *ledger.SignedTx
		stops  map[string]bool // paths that it stops
	}{
		{"the account, both ways", func(c *tokenChain) *ledger.SignedTx {
			return c.tx("regulator", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Reason: "suspicion"})
		}, map[string]bool{"own": true, "spender": true, "contract": true, "in": true}},
		{"the account, outwards", func(c *tokenChain) *ledger.SignedTx {
			return c.tx("regulator", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Direction: precompiles.FreezeOut, Reason: "suspicion"})
		}, map[string]bool{"own": true, "spender": true, "contract": true}},
		{"the account, inwards", func(c *tokenChain) *ledger.SignedTx {
			return c.tx("regulator", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Direction: precompiles.FreezeIn, Reason: "suspicion"})
		}, map[string]bool{"in": true}},
		{"the contract", func(c *tokenChain) *ledger.SignedTx {
			return c.tx("regulator", precompiles.AccessAddress, "freeze_contract", precompiles.FreezeContractArgs{Contract: c.self, Reason: "fault"})
		}, map[string]bool{"own": true, "spender": true, "contract": true, "in": true}},
		{"a method of it", func(c *tokenChain) *ledger.SignedTx {
			return c.tx("regulator", precompiles.AccessAddress, "freeze_contract", precompiles.FreezeContractArgs{Contract: c.self, Method: "transfer_from", Reason: "fault"})
		}, map[string]bool{"spender": true, "contract": true}},
	} {
		t.Run(c.story, func(t *testing.T) {
			chain.head = begin
			race(t, chain, c.freeze, c.stops)
		})
	}
}

// race has 200 transfers race one freeze.
func race(t *testing.T, c *tokenChain, freeze func(*tokenChain) *ledger.SignedTx, stops map[string]bool) {
	// A contract that spends what it is allowed to, on behalf of whoever asks.
	a := probe()
	a.method("spend", hostCall("call", a.text(string(c.self[:])), a.text("transfer_from"), i32(0), hostCall("input_read", i32(0), i32(0), i32(400)), i64(0), i32(0)), drop, succeed)
	spends := c.deploy(a.module(t, nil))
	user, other := address("user").String(), address("stranger").String()
	for _, r := range c.block(
		c.tx("admin", c.self, "issue", c.args("issue", user, "100000")),
		c.tx("user", c.self, "approve", c.args("approve", address("admin").String(), "10000")),
		c.tx("user", c.self, "approve", c.args("approve", spends.String(), "10000")),
	) {
		c.want(r, ledger.OK, 0)
	}
	random := rand.New(rand.NewPCG(5, 6))
	paths := []string{"own", "spender", "contract", "in"}
	transfer := func(path string) *ledger.SignedTx {
		amount := fmt.Sprint(1 + random.IntN(3))
		switch path {
		case "own":
			return c.tx("user", c.self, "transfer", c.args("transfer", other, amount))
		case "spender":
			return c.tx("admin", c.self, "transfer_from", c.args("transfer_from", user, other, amount))
		case "contract":
			return c.tx("committee", spends, "spend", c.args("transfer_from", user, other, amount))
		default:
			return c.tx("admin", c.self, "transfer", c.args("transfer", user, amount))
		}
	}
	frozen := false
	for _, size := range []int{20, 161, 20} {
		at := -1
		if size == 161 {
			at = random.IntN(size)
		}
		var txs []*ledger.SignedTx
		var taken []string
		for i := range size {
			path := paths[random.IntN(len(paths))]
			if i == at {
				path = ""
				txs = append(txs, freeze(c))
			} else {
				txs = append(txs, transfer(path))
			}
			taken = append(taken, path)
		}
		for i, r := range c.block(txs...) {
			if taken[i] == "" {
				c.want(r, ledger.OK, 0)
				frozen = true
				continue
			}
			if moved, want := len(r.Events) > 0, !frozen || !stops[taken[i]]; moved != want {
				t.Fatalf("transfer %d of block %d, by the path %s: moved %v, want %v; %s with code %d", i, c.head.Height(), taken[i], moved, want, r.Status, r.Code)
			}
		}
	}
}

// TestFreezeLapses has a contract and an account go on by themselves in the first block whose time is late enough, also on a chain
// that made no block meanwhile.
func TestFreezeLapses(t *testing.T) {
	c := newChain(t)
	code := probe().module(t, probeSchema())
	self, other := c.deploy(code), c.deploy(code)
	put := func(by string) *ledger.SignedTx { return c.tx(by, self, "put", none) }
	over := c.tx("user", other, "survive", c.marshal([]ledger.Address{self}))
	r := c.block(
		c.tx("regulator", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Duration: 1_500, Reason: "suspicion"}),
		c.tx("regulator", precompiles.AccessAddress, "freeze_contract", precompiles.FreezeContractArgs{Contract: self, Method: "put", Duration: 1_500, Reason: "fault"}),
		put("user"), put("admin"),
	)
	c.want(r[2], ledger.Denied, precompiles.DeniedFrozen)
	c.want(r[3], ledger.Denied, precompiles.DeniedFrozen)
	if err := c.x.Admit(c.head, put("user")); err != nil {
		t.Errorf("Admit of a transaction that may wait until the freeze has lapsed: %v", err)
	}
	r = c.block(put("user"), put("admin"))
	c.want(r[0], ledger.Denied, precompiles.DeniedFrozen)
	c.want(r[1], ledger.Denied, precompiles.DeniedFrozen)
	r = c.block(put("user"), put("admin"), over)
	c.want(r[0], ledger.OK, 0)
	c.want(r[1], ledger.OK, 0)
	c.want(r[2], ledger.OK, 0)
}

// TestFrozenContract calls a frozen contract in the ways there are.
func TestFrozenContract(t *testing.T) {
	c := newChain(t)
	code := probe().module(t, probeSchema())
	self, other := c.deploy(code), c.deploy(code)
	newer := probeSchema()
	newer.Version = "2"
	freeze := func(contract ledger.Address, method string) {
		t.Helper()
		args := precompiles.FreezeContractArgs{Contract: contract, Method: method, Reason: "fault"}
		c.want(c.block(c.tx("regulator", precompiles.AccessAddress, "freeze_contract", args))[0], ledger.OK, 0)
	}
	third := c.deploy(code)
	freeze(third, "put") // other code would have it under another name
	c.want(c.block(c.tx("admin", precompiles.ContractsAddress, "replace", precompiles.ReplaceArgs{Address: third, Code: probe().module(t, newer), Breaking: true}))[0], ledger.Denied, precompiles.DeniedFrozen)
	freeze(self, "")
	replace := precompiles.ReplaceArgs{Address: self, Code: probe().module(t, newer)}
	r := c.block(
		c.tx("user", self, "peek", none), // a view, in a transaction
		c.tx("user", other, "again", c.marshal([]ledger.Address{self})),
		c.tx("admin", precompiles.ContractsAddress, "replace", replace),
	)
	c.want(r[0], ledger.Denied, precompiles.DeniedFrozen)
	c.want(r[1], ledger.OK, 0) // it notes how the call ended
	if got := c.value(other, "status"); len(got) == 0 || got[0] == 0 || c.value(self, "k") != nil {
		t.Errorf("a frozen contract was called through another: status %x, and it wrote %x", got, c.value(self, "k"))
	}
	c.want(r[2], ledger.Denied, precompiles.DeniedFrozen)
	o, err := c.x.View(context.Background(), c.head, Call{To: ledger.Target{Address: self}, Method: "peek", Args: none})
	if err != nil || o.Status != ledger.OK {
		t.Errorf("a view from outside: %+v, %v", o, err)
	}
	o, err = c.x.DryRun(context.Background(), c.head, Call{From: address("user"), To: ledger.Target{Address: self}, Method: "put", Args: none})
	if err != nil || o.Status != ledger.Denied || o.Code != precompiles.DeniedFrozen {
		t.Errorf("a dry run: %+v, %v", o, err)
	}
}

// TestOperatorDoesNotTrade has an operator call system contracts, and nothing else.
func TestOperatorDoesNotTrade(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{
		{"admin", "alpha", "deployer,institution-admin"}, {"user", "alpha", ""}, {"runner", "alpha", "operator"},
	})
	self := c.deploy(probe().module(t, probeSchema()))
	r := c.block(
		c.tx("runner", self, "put", none),
		c.tx("runner", precompiles.AccessAddress, "roles", precompiles.AddressArgs{Address: address("runner")}),
		c.tx("user", self, "put", none),
		c.tx("admin", precompiles.AccessAddress, "grant", precompiles.RoleArgs{Account: address("user"), Role: "operator"}),
		c.tx("user", self, "put", none),
	)
	c.want(r[0], ledger.Denied, precompiles.DeniedRole)
	c.want(r[1], ledger.OK, 0)
	c.want(r[2], ledger.OK, 0)
	c.want(r[3], ledger.OK, 0)
	c.want(r[4], ledger.Denied, precompiles.DeniedRole)
	o, err := c.x.View(context.Background(), c.head, Call{From: address("runner"), To: ledger.Target{Address: self}, Method: "peek", Args: none})
	if err != nil || o.Status != ledger.OK {
		t.Errorf("a view of an operator: %+v, %v", o, err)
	}
}
