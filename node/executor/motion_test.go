package executor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// What a dry run says of a motion is what happens when the motion is carried out on the same state: its calls see one another, and
// none stays when one of them ends badly.
func TestDryRunMotion(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta"}, []entry{
		{"ann", "alpha", "committee"}, {"ben", "beta", "committee"}, {"user", "alpha", "user"},
	})
	access := func(method string, args any) precompiles.Action {
		return precompiles.Action{To: precompiles.AccessAddress, Method: method, Args: c.marshal(args)}
	}
	user := address("user")
	grant := access("grant", precompiles.RoleArgs{Account: user, Role: "owner"})
	revoke := access("revoke", precompiles.RoleArgs{Account: user, Role: "owner"})
	freeze := access("freeze", precompiles.FreezeArgs{Account: user, Reason: "court-order"})
	unfreeze := access("unfreeze", precompiles.UnfreezeArgs{Account: user, Reason: "court-order"})

	motions := uint64(0)
	for _, test := range []struct {
		name  string
		calls []precompiles.Action
		ends  int // at this call; as many as there are calls: at none
	}{
		{"a call needs what the one before it did", []precompiles.Action{grant, revoke}, 2},
		{"a call comes before the one that it needs", []precompiles.Action{revoke, grant}, 0},
		{"a call is good alone, but not after another", []precompiles.Action{freeze, freeze, unfreeze}, 1},
		{"what one does, the next undoes, and the third does again", []precompiles.Action{freeze, unfreeze, freeze}, 3},
		{"nothing of a motion stays that ended badly", []precompiles.Action{unfreeze, grant, grant}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := c.head.Header().StateRoot
			trial, err := c.x.DryRunMotion(t.Context(), c.head, test.calls)
			if err != nil {
				t.Fatal(err)
			}
			if c.head.Header().StateRoot != before {
				t.Error("the dry run changed the state")
			}
			if want := min(test.ends+1, len(test.calls)); len(trial) != want {
				t.Fatalf("%d calls were tried, want %d: %+v", len(trial), want, trial)
			}
			motions++
			c.want(c.block(c.tx("ann", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Actions: test.calls}))[0], ledger.OK, 0)
			c.want(c.block(c.tx("ben", precompiles.GovernanceAddress, "vote", precompiles.VoteArgs{ID: motions, For: true}))[0], ledger.OK, 0)
			r := c.block(c.tx("ben", precompiles.GovernanceAddress, "execute", precompiles.MotionArgs{ID: motions}))[0]
			last := trial[len(trial)-1]
			if test.ends < len(test.calls) {
				c.want(r, ledger.Aborted, precompiles.AbortAction)
				if f := r.Failures[0]; last.Status == ledger.OK || f.Status != last.Status || f.Code != last.Code || last.Trace == "" {
					t.Errorf("the dry run ends with %+v, the motion with %+v", last, f)
				}
				var at struct {
					_      struct{} `cbor:",toarray"`
					Call   uint32
					To     ledger.Address
					Method string
					Status uint8
					Code   uint32
				}
				if err := ledger.Unmarshal(r.Data, &at); err != nil || int(at.Call) != test.ends {
					t.Errorf("the motion ends at call %d, %v; want %d", at.Call, err, test.ends)
				}
				return
			}
			c.want(r, ledger.OK, 0)
			var events []ledger.Event
			for _, o := range trial {
				if o.Status != ledger.OK {
					t.Errorf("a call of the dry run ends with %+v", o)
				}
				events = append(events, o.Events...)
			}
			topics := func(events []ledger.Event) (all []string) {
				for _, e := range events {
					all = append(all, fmt.Sprintf("%s.%s", e.Contract, e.Topic))
				}
				return all
			}
			if done := r.Events[:len(r.Events)-1]; !slices.Equal(topics(events), topics(done)) { // the last says that the motion is executed
				t.Errorf("the dry run emits %v, the motion %v", topics(events), topics(done))
			}
		})
	}
}

// A trial runs new code without compiling it, and so gives calls less gas than the chain does. It says so of calls that end for want of it, and of no others.
func TestDryRunMotionGas(t *testing.T) {
	const enough = wasmvm.MaxInterpreted + 20_000_000
	code := func(method, constant string) []byte {
		a := &assembler{}
		a.text(constant)
		a.method(method, forever(nil))
		return a.module(t, nil)
	}
	for _, test := range []struct {
		name    string
		gas     ledger.Gas // of a transaction
		codes   [][]byte   // that come first
		hinting bool
	}{
		{"a call after new code", enough, [][]byte{code("loop", "new")}, true},
		{"the new code's own hook", enough, [][]byte{code("upgrade", "new")}, true},
		{"without new code", enough, nil, false},
		{"a chain that gives no more", wasmvm.MaxInterpreted, [][]byte{code("loop", "new")}, false},
		{"a call that takes more than the chain gives", enough, [][]byte{code("loop", "new"), code("loop", strings.Repeat("x", 4<<20))}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{{"admin", "alpha", "deployer"}})
			c.genesis.Params.TxGas = test.gas
			_, first, err := Genesis(c.suite, c.genesis)
			if err != nil {
				t.Fatal(err)
			}
			c.head = first
			if c.x, err = New(Config{Suite: c.suite, Chain: c.genesis.Hash(c.suite), Group: "main", VM: newVM(t, wasmvm.Interpreter), Workers: 1}); err != nil {
				t.Fatal(err)
			}
			self := c.deploy(code("loop", "old"))
			var calls []precompiles.Action
			for _, code := range test.codes {
				calls = append(calls, precompiles.Action{To: precompiles.ContractsAddress, Method: "replace", Args: c.marshal(precompiles.ReplaceArgs{Address: self, Code: code, Breaking: true})})
			}
			trial, err := c.x.DryRunMotion(t.Context(), c.head, append(calls, precompiles.Action{To: self, Method: "loop", Args: none}))
			if err != nil {
				t.Fatal(err)
			}
			last := trial[len(trial)-1]
			if last.Status != ledger.OutOfGas || strings.Contains(last.Trace, "at most 40000000 gas; on the chain, which gives more, it may end well") != test.hinting {
				t.Errorf("it ends with %s: %q, want the hint: %v", last.Status, last.Trace, test.hinting)
			}
		})
	}
}
