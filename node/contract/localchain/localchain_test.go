package localchain_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// world is a chain with a token on it, of which alice has 100.
type world struct {
	*localchain.Chain
	t      *testing.T
	schema *ledger.Schema
	token  ledger.Address
}

func newWorld(t *testing.T) *world {
	t.Helper()
	chain, err := localchain.New(t.Context(), localchain.Config{Suite: keystest.Suite(), Accounts: []localchain.Account{{Name: "alice"}, {Name: "bob", Institution: "other", Roles: []string{"b", "a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := chain.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	built, err := contract.Build(t.Context(), "../../../examples/token", "")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Chain: chain, t: t, schema: built.Schema}
	var r *localchain.Receipt
	if w.token, r, err = chain.Deploy(t.Context(), "alice", built.Code, w.args("init", "Gold", "XAU", w.address("alice"))); err != nil || r.Status != ledger.OK {
		t.Fatalf("Deploy = %+v, %v", r, err)
	}
	w.call("alice", "issue", w.address("alice"), 100)
	return w
}

func (w *world) address(name string) ledger.Address {
	w.t.Helper()
	a, err := w.Address(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) args(method string, args ...any) []byte {
	w.t.Helper()
	raw := make([]json.RawMessage, len(args))
	for i := range args {
		raw[i], _ = json.Marshal(args[i])
	}
	encoded, err := w.schema.EncodeArgs(method, raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return encoded
}

func (w *world) call(from, method string, args ...any) *localchain.Receipt {
	w.t.Helper()
	r, err := w.Call(w.t.Context(), localchain.Call{From: from, To: w.token, Method: method, Args: w.args(method, args...)})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) balance(of string) any {
	w.t.Helper()
	r, err := w.View(w.t.Context(), localchain.Call{To: w.token, Method: "balance_of", Args: w.args("balance_of", w.address(of))})
	if err != nil || r.Status != ledger.OK {
		w.t.Fatalf("View = %+v, %v", r, err)
	}
	v, err := r.Schema.DecodeReturn("balance_of", r.Data)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func TestHistory(t *testing.T) {
	w := newWorld(t)
	before := w.Point()
	first := w.call("alice", "transfer", w.address("bob"), 40)
	if first.Status != ledger.OK || w.balance("bob") != "40" {
		t.Fatalf("transfer: %+v; bob has %v", first, w.balance("bob"))
	}
	after := w.Point()
	w.GoBack(before)
	if w.balance("bob") != "0" {
		t.Errorf("before the transfer bob has %v, want 0", w.balance("bob"))
	}
	if again := w.call("alice", "transfer", w.address("bob"), 40); again.Tx != first.Tx || again.Gas != first.Gas {
		t.Error("the same transaction at the same point is another one")
	}
	w.GoBack(before)
	w.call("alice", "transfer", w.address("bob"), 1)
	w.GoBack(after)
	if w.balance("bob") != "40" {
		t.Errorf("after the transfer bob has %v, want 40", w.balance("bob"))
	}
}

func TestTime(t *testing.T) {
	w := newWorld(t)
	start := w.Now()
	if start.UnixMilli() != localchain.Start+2*localchain.BlockTime || w.Height() != 2 {
		t.Fatalf("after two blocks it is %s at height %d", start, w.Height())
	}
	if err := w.Advance(24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	w.call("alice", "transfer", w.address("bob"), 1)
	if passed := w.Now().Sub(start); passed != 24*time.Hour {
		t.Errorf("the block came %s later, want a day", passed)
	}
	for _, bad := range []time.Time{w.Now(), start, {}, time.UnixMilli(1 << 62)} {
		if err := w.Set(bad); !errors.Is(err, localchain.ErrTime) {
			t.Errorf("Set(%s) = %v, want ErrTime", bad, err)
		}
	}
	if err := w.SkipTo(t.Context(), 1_000); err != nil || w.Height() != 999 {
		t.Errorf("SkipTo(1000) = %v, height %d", err, w.Height())
	}
	for _, bad := range []ledger.Height{0, 999, 999 + localchain.MaxSkip + 1} {
		if err := w.SkipTo(t.Context(), bad); !errors.Is(err, localchain.ErrTime) {
			t.Errorf("SkipTo(%d) = %v, want ErrTime", bad, err)
		}
	}
	w.call("alice", "transfer", w.address("bob"), 1)
	if w.Height() != 1_000 || w.balance("bob") != "2" {
		t.Errorf("height %d, bob has %v", w.Height(), w.balance("bob"))
	}
}

func TestFailures(t *testing.T) {
	w := newWorld(t)
	r := w.call("alice", "transfer", w.address("bob"), 101)
	if name, _, err := r.Schema.DecodeError(r.Code, r.Data); r.Status != ledger.Aborted || name != "InsufficientFunds" || err != nil {
		t.Errorf("too large a transfer: %+v, %v", r.Receipt, err)
	}
	if text, err := r.Trace(t.Context()); err != nil || text == "" {
		t.Errorf("Trace = %q, %v", text, err)
	}
	if _, err := w.Call(t.Context(), localchain.Call{From: "carol", To: w.token, Method: "transfer"}); !errors.Is(err, localchain.ErrName) {
		t.Errorf("Call by nobody known = %v, want ErrName", err)
	}
	r, err := w.View(t.Context(), localchain.Call{From: "bob", To: w.token, Method: "transfer", Args: w.args("transfer", w.address("bob"), 1)})
	if err != nil || r.Denial() != "ReadOnly" {
		t.Errorf("a view of a transfer: %+v, %v", r, err)
	}
	r, err = w.Call(t.Context(), localchain.Call{From: "bob", To: ledger.Address{1}, Method: "transfer"})
	if err != nil || r.Status != ledger.NotFound || r.Schema != nil || r.Denial() != "" {
		t.Errorf("a call of no contract: %+v, %v", r, err)
	}
	if _, _, err := w.Deploy(t.Context(), "alice", []byte("no module"), nil); err != nil {
		t.Errorf("Deploy of no module: %v, want a receipt", err)
	}
	if _, err := localchain.New(t.Context(), localchain.Config{Accounts: []localchain.Account{{Name: "a"}, {Name: "a"}}}); err == nil {
		t.Error("New took one name twice")
	}
}
