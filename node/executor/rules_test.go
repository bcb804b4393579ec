package executor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// setParams makes a block that changes the chain's parameters, as governance will.
func (c *chain) setParams(change func(*ledger.Params)) {
	c.Helper()
	params, err := precompiles.ReadParams(c.head)
	if err != nil {
		c.Fatal(err)
	}
	change(&params)
	order := c.order()
	key := append(append([]byte{}, precompiles.ConfigAddress[:]...), 'p')
	if c.head, err = c.head.Extend(&order, state.Result{Changes: []ledger.Change{{Key: key, Value: c.marshal(&params)}}}); err != nil {
		c.Fatal(err)
	}
}

// TestRulesChange lets a chain go over to another gas table, and executes its history again.
func TestRulesChange(t *testing.T) {
	for _, engine := range []wasmvm.Engine{wasmvm.Interpreter, wasmvm.Compiler} {
		t.Run(string(engine), func(t *testing.T) {
			make2 := func() *chain {
				vm, err := wasmvm.New(context.Background(), wasmvm.Config{Engine: engine, Wait: true, Trial: map[uint16]uint64{2: 2}})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := vm.Close(context.Background()); err != nil {
						t.Error(err)
					}
				})
				c := newChainOn(t, vm)
				c.x.trial = map[uint16]ledger.Gas{2: 2}
				return c
			}
			c := make2()
			probe, schema := probe(), probeSchema()
			self := c.deploy(probe.module(t, schema))
			put := func() ledger.Gas {
				r := c.block(c.tx("user", self, "put", none))[0]
				c.want(r, ledger.OK, 0)
				return r.Gas
			}
			bind := func(name string) ledger.Gas { // a system contract
				key := ledger.KeyOf(newSigner(t, name).Public())
				r := c.block(c.tx("stranger", precompiles.AccountsAddress, "bind", precompiles.BindArgs{Threshold: 1, Keys: []precompiles.AccountKey{{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1}}}))[0]
				c.want(r, ledger.OK, 0)
				return r.Gas
			}
			start := c.head
			old, oldBind := put(), bind("one")
			between := c.head
			c.setParams(func(p *ledger.Params) { p.Costs = 2 })
			after := c.head
			if dear := put(); dear != 2*old {
				t.Errorf("with the second table a call takes %d gas, with the first %d: want twice that", dear, old)
			}
			if dear := bind("two"); dear <= oldBind {
				t.Errorf("with the second table a system contract takes %d gas, with the first %d", dear, oldBind)
			}

			// The history again, in another process: first what was last, so that both tables are in use at once.
			again := make2()
			replay := func(base *state.Snapshot, blocks []block0) {
				for _, b := range blocks {
					next, err := again.x.Execute(context.Background(), base, &b.order, b.txs)
					if err != nil {
						t.Fatal(err)
					}
					if next.Hash() != b.root {
						t.Errorf("block %d executed again is another one", b.order.Height)
					}
					base = next
				}
			}
			n := len(c.blocks)
			replay(after, c.blocks[n-2:])
			replay(start, c.blocks[n-4:n-2])
			replay(after, c.blocks[n-2:])
			if order := between.Header().Order; order.Height != c.blocks[n-3].order.Height {
				t.Fatalf("the change is after block %d, want %d", order.Height, c.blocks[n-3].order.Height)
			}
		})
	}
}

// TestUnknownRules puts a node before parameters that its release does not know.
func TestUnknownRules(t *testing.T) {
	for name, change := range map[string]func(*ledger.Params){
		"gas table 2": func(p *ledger.Params) { p.Costs = 2 },
		"rewriter 7":  func(p *ledger.Params) { p.Rewrite = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t)
			c.setParams(change)
			order := c.order()
			_, err := c.x.Execute(context.Background(), c.head, &order, nil)
			if !errors.Is(err, wasmvm.ErrVersion) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "run a release of fondaco that has it") {
				t.Errorf("a block under unknown rules: %v", err)
			}
			tx := c.tx("user", precompiles.AccountsAddress, "find", none)
			if err := c.x.Admit(c.head, tx); !errors.Is(err, wasmvm.ErrVersion) {
				t.Errorf("a transaction under unknown rules: %v", err)
			}
		})
	}
	t.Run("from the start", func(t *testing.T) {
		if _, err := wasmvm.New(context.Background(), wasmvm.Config{Costs: 9}); !errors.Is(err, wasmvm.ErrVersion) {
			t.Errorf("New = %v", err)
		}
		for name, change := range map[string]func(*ledger.Params){
			"costs 0": func(p *ledger.Params) { p.Costs = 0 }, "rewrite 0": func(p *ledger.Params) { p.Rewrite = 0 }, "memory_pages is 0": func(p *ledger.Params) { p.MemoryPages = 0 },
		} {
			p := ledger.DefaultParams()
			change(&p)
			if err := p.Check(); err == nil || name == "costs 0" && !strings.Contains(err.Error(), "costs 0") {
				t.Errorf("%s: Check = %v", name, err)
			}
		}
	})
}

// TestDeletedKeys lets a scan pass keys that were deleted before it in the block: it pays for them, and not for those of a
// call that was undone.
func TestDeletedKeys(t *testing.T) {
	a := &assembler{}
	counter := join(i32(60_000), body{0x28, 0x02, 0x00})
	keys := func(name string, n int, operands ...body) body {
		return times(n, join(i32(4), counter, body{0x36, 0x02, 0x00}, hostCall(name, append([]body{i32(4), i32(4)}, operands...)...)))
	}
	scan := join(hostCall("scan", i32(0), i32(0), i32(0), i32(0), i32(0), i32(1)), drop, hostCall("scan_next", i32(1), i32(64), i32(64)), drop)
	a.method("fill", keys("set", 100, i32(0), i32(1)), succeed)
	a.method("clear", keys("del", 100), succeed)
	a.method("undo", keys("del", 100), i32(1))
	a.method("scan", scan, succeed)
	c := newChain(t)
	self := c.deploy(a.module(t, nil))
	tx := func(method string) *ledger.SignedTx { return c.tx("user", self, method, none) }
	gas := func(methods ...string) ledger.Gas {
		txs := make([]*ledger.SignedTx, len(methods))
		for i, m := range methods {
			txs[i] = tx(m)
		}
		r := c.block(txs...)
		return r[len(r)-1].Gas
	}
	empty := gas("scan")
	if got := gas("fill", "undo", "clear", "scan"); got <= empty || got > empty+100*1_000 {
		t.Errorf("a scan past 100 deleted keys takes %d gas, of none %d", got, empty)
	}
	if got := gas("scan", "undo", "scan"); got != empty {
		t.Errorf("a scan after deletions that were undone takes %d gas, want %d", got, empty)
	}
}

// TestLowerLimits lets a chain lower a limit that a contract exceeds: its calls are refused, and the chain goes on.
func TestLowerLimits(t *testing.T) {
	c := newChain(t)
	a := &assembler{pages: 2}
	a.method("run", succeed)
	self := c.deploy(a.module(t, nil))
	if r := c.block(c.tx("user", self, "run", none))[0]; r.Status != ledger.OK {
		t.Fatal(r)
	}
	c.setParams(func(p *ledger.Params) { p.MemoryPages = 1 })
	for range 2 {
		if r := c.block(c.tx("user", self, "run", none))[0]; r.Status != ledger.Denied || r.Code != precompiles.DeniedModule {
			t.Errorf("a call of a contract with too much memory: %v %d", r.Status, r.Code)
		}
	}
	c.setParams(func(p *ledger.Params) { p.MemoryPages = 512 })
	if r := c.block(c.tx("user", self, "run", none))[0]; r.Status != ledger.OK {
		t.Errorf("with the old limit: %v %d", r.Status, r.Code)
	}
}
