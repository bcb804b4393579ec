package executor

import (
	"context"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestCompiledFirst looks at who waits for the compiler: what could take the interpreter longer, unless nobody has paid for compiling.
func TestCompiledFirst(t *testing.T) {
	code := initializing("")
	fresh := func(t *testing.T) *chain {
		return newChainOn(t, newConfigured(t, wasmvm.Config{Engine: wasmvm.Compiler}))
	}
	compiled := func(c *chain) uint64 { return c.x.vm.Stats().Compiled }
	t.Run("a block that deploys a contract and calls it", func(t *testing.T) {
		c := fresh(t)
		deploy := c.tx("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: code})
		rs := c.block(deploy, c.tx("user", ledger.AssignedAddress(c.suite, deploy.ID, 0), "run", none))
		c.want(rs[0], ledger.OK, 0)
		c.want(rs[1], ledger.OK, 0)
		if compiled(c) != 1 {
			t.Error("the interpreter ran a call that may take long")
		}
	})
	t.Run("a view", func(t *testing.T) {
		c := fresh(t)
		to := ledger.Target{Address: c.deploy(code)}
		other := fresh(t) // has not seen the module
		if o, err := other.x.View(context.Background(), c.head, Call{To: to, Method: "none"}); err != nil || o.Status != ledger.NotFound || compiled(other) != 0 {
			t.Errorf("a view that calls nothing: %+v, %v, %d modules compiled", o, err, compiled(other))
		}
		if o, err := other.x.View(context.Background(), c.head, Call{To: to, Method: "run"}); err != nil || o.Status != ledger.OK || compiled(other) != 1 {
			t.Errorf("%+v, %v, %d modules compiled", o, err, compiled(other))
		}
	})
	t.Run("a dry run of a deployment", func(t *testing.T) {
		c := fresh(t)
		args := c.marshal(precompiles.DeployArgs{Code: code})
		o, err := c.x.DryRun(context.Background(), c.head, Call{From: address("admin"), To: ledger.Target{Address: precompiles.ContractsAddress}, Method: "deploy", Args: args})
		if s := c.x.vm.Stats(); err != nil || o.Status != ledger.OK || s.Compiled+uint64(s.Queued) != 0 || s.Modules != 1 {
			t.Errorf("%+v, %v, %+v", o, err, s)
		}
	})
	t.Run("explaining under a context that ended", func(t *testing.T) {
		c := fresh(t)
		self := c.deploy(code)
		base := c.head
		tx := c.tx("user", self, "run", none)
		c.block(tx)
		other := fresh(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b := c.blocks[len(c.blocks)-1]
		if _, err := other.x.Explain(ctx, base, &b.order, b.txs, 0); err == nil {
			t.Error("explained")
		}
		if _, err := other.x.View(ctx, base, Call{To: ledger.Target{Address: self}, Method: "run"}); err != nil {
			t.Error(err)
		}
		if compiled(other) != 1 || other.x.vm.Stats().Refused != 0 {
			t.Errorf("%+v, want a module that is compiled", other.x.vm.Stats())
		}
	})
}
