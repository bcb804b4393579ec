package executor

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestFailures tells what a receipt says of calls between contracts that failed.
func TestFailures(t *testing.T) {
	c := newChain(t)
	callee := &assembler{}
	callee.method("fail", hostCall("abort", i32(1234), callee.text("\x05")), succeed)
	long := callee.text("\x59\x01\x00" + strings.Repeat(".", 256)) // with its head, longer than MaxFailureData
	callee.method("bulk", hostCall("abort", i32(1234), long), succeed)
	callee.method("trap", unreachable)
	callee.method("loop", forever(nil))
	callee.method("work", succeed)
	target := c.deploy(callee.module(t, nil))

	caller := &assembler{}
	read := join(hostCall("input_read", i32(0), i32(0), i32(64)), drop) // [bytes(20)]: the address is at 2
	call := func(method string) body {
		return hostCall("call", i32(2), i32(20), caller.text(method), caller.text("\x80"), i64(100_000), i32(0))
	}
	again := func(method string) body { // itself, with the same arguments
		self := join(hostCall("ctx", i32(600), i32(512)), drop) // the map's first entry is self: at 607 the 20 bytes begin
		return join(self, hostCall("call", i32(607), i32(20), caller.text(method), i32(0), i32(22), i64(0), i32(2)))
	}
	caller.method("fail", read, call("fail"))
	caller.method("bulk", read, call("bulk"))
	caller.method("trap", read, call("trap"))
	caller.method("loop", read, call("loop"))
	caller.method("nothing", read, call("nothing"))
	caller.method("twice", read, again("fail"))
	caller.method("survive", read, call("fail"), drop, succeed)
	caller.method("late", read, call("fail"), drop, call("work"), drop, i32(7))
	caller.method("own", i32(7))
	self := c.deploy(caller.module(t, nil))

	minus := func(n int32) uint32 { return uint32(-n) }
	in := func(contract ledger.Address, method string, status ledger.Status, code uint32, data ...byte) ledger.Failure {
		return ledger.Failure{Contract: contract, Method: method, Status: status, Code: code, Data: data}
	}
	same := func(a, b []ledger.Failure) bool {
		return slices.EqualFunc(a, b, func(a, b ledger.Failure) bool { return bytes.Equal(c.marshal(a), c.marshal(b)) })
	}
	for _, s := range []struct {
		story, method string
		status        ledger.Status
		code          uint32
		want          []ledger.Failure
	}{
		{"the callee aborts", "fail", ledger.Aborted, 1234, []ledger.Failure{in(target, "fail", ledger.Aborted, 1234, 5)}},
		{"the callee aborts with much to say", "bulk", ledger.Aborted, 1234, []ledger.Failure{in(target, "bulk", ledger.Aborted, 1234)}},
		{"the callee traps", "trap", ledger.Aborted, minus(1), []ledger.Failure{in(target, "trap", ledger.Trapped, 0)}},
		{"the callee uses up its share of gas", "loop", ledger.Aborted, minus(2), []ledger.Failure{in(target, "loop", ledger.OutOfGas, 0)}},
		{"the callee has no such method", "nothing", ledger.Aborted, minus(4), []ledger.Failure{in(target, "nothing", ledger.NotFound, 0)}},
		{"a callee's callee aborts", "twice", ledger.Aborted, 1234, []ledger.Failure{in(self, "fail", ledger.Aborted, 1234), in(target, "fail", ledger.Aborted, 1234, 5)}},
		{"the caller survives", "survive", ledger.OK, 0, nil},
		{"the caller fails after a call that went well", "late", ledger.Aborted, 7, nil},
		{"the contract itself fails", "own", ledger.Aborted, 7, nil},
	} {
		t.Run(s.story, func(t *testing.T) {
			args := c.marshal([]any{target})
			r := c.block(c.tx("user", self, s.method, args))[0]
			c.want(r, s.status, s.code)
			if !same(r.Failures, s.want) {
				t.Errorf("failures %+v, want %+v", r.Failures, s.want)
			}
			o, err := c.x.DryRun(context.Background(), c.head, Call{From: address("user"), To: ledger.Target{Address: self}, Method: s.method, Args: args})
			if err != nil || !same(o.Failures, s.want) {
				t.Errorf("a dry run tells %+v, %v", o.Failures, err)
			}
		})
	}
	t.Run("a hook of a deployment fails", func(t *testing.T) {
		bad := &assembler{}
		bad.method("init", i32(9))
		r := c.block(c.tx("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: bad.module(t, nil)}))[0]
		c.want(r, ledger.Aborted, 9)
		if len(r.Failures) != 1 || r.Failures[0].Method != "init" || r.Failures[0].Code != 9 {
			t.Errorf("failures %+v", r.Failures)
		}
	})
}

// TestTrace tells what Explain says of a transaction that called through contracts.
func TestTrace(t *testing.T) {
	c := newChain(t)
	callee := &assembler{}
	callee.method("take", hostCall("set", callee.text("k"), callee.text("v\x01")), hostCall("get", callee.text("k"), i32(600), i32(64)), drop, unreachable)
	target := c.deploy(callee.module(t, nil))
	caller := &assembler{}
	caller.method("give", hostCall("input_read", i32(0), i32(0), i32(64)), drop, hostCall("emit", caller.text("Gave"), caller.text("\x80")),
		hostCall("call", i32(2), i32(20), caller.text("take"), caller.text("\x80"), i64(300_000), i32(0)), drop,
		hostCall("get", caller.text("none"), i32(600), i32(64)), drop, i32(7))
	self := c.deploy(caller.module(t, nil))
	tx := c.tx("user", self, "give", c.marshal([]any{target}))
	base, order := c.head, c.order(tx)
	c.block(tx)
	e, err := c.x.Explain(context.Background(), base, &order, []*ledger.SignedTx{tx}, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := e.Text
	for _, want := range []string{
		self.String() + ".give 0x8154" + fmt.Sprintf("%x", target[:]) + " by " + address("user").String() + ", gas ",
		`  emit Gave 0x80`,
		"  " + target.String() + ".take 0x80 by " + self.String() + ", gas 300000",
		`    set "k" = 0x7601`,
		`    get "k": 0x7601`,
		"  = trapped, gas ",
		target.String() + ".take: trapped (code 0): wasm error: unreachable",
		`  get "none": none`,
		"= aborted (code 7), gas ",
	} {
		if _, rest, found := strings.Cut(text, want); found {
			text = rest // the next one comes after
		} else {
			t.Fatalf("the trace lacks %q, in that place:\n%s", want, text)
		}
	}
}
