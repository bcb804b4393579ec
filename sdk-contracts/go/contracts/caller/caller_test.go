package caller

import (
	"errors"
	"reflect"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

var alice, bob, gold, self = sdk.Addr{1}, sdk.Addr{2}, sdk.Addr{3}, sdk.Addr{4}

func newHost(t *testing.T, calls func(to []byte, method string, args []byte) sdk.Result) *sdk.Fake {
	t.Helper()
	host := &sdk.Fake{Caller: alice, Origin: alice, Self: self, Calls: calls}
	if err := host.Run(func(c sdk.Ctx) error { Caller{}.Init(c, gold); return nil }); err != nil {
		t.Fatal(err)
	}
	return host
}

func TestPayMany(t *testing.T) {
	refused := sdk.Result{Status: 1001, Data: []byte{0x80}}
	host := newHost(t, func(_ []byte, _ string, args []byte) sdk.Result {
		if reflect.DeepEqual(args, sdk.Args(alice, bob, sdk.NewU128(13))) {
			return refused
		}
		return sdk.Result{Data: []byte{}}
	})
	payments := []Payment{{bob, sdk.NewU128(1)}, {bob, sdk.NewU128(13)}, {bob, sdk.NewU128(2)}}
	err := host.Run(func(c sdk.Ctx) error {
		results, err := Caller{}.PayMany(c, payments)
		if want := []Result{{0, []byte{}}, {1001, refused.Data}, {0, []byte{}}}; !reflect.DeepEqual(results, want) {
			t.Errorf("results are %v, want %v", results, want)
		}
		if n := (Caller{}).Failures(c); n != 1 {
			t.Errorf("%d failures, want 1", n)
		}
		return err
	})
	if err != nil || len(host.Events) != 3 {
		t.Errorf("PayMany: %v, events %v", err, host.Events)
	}
	err = host.Run(func(c sdk.Ctx) error { _, err := Caller{}.PayMany(c, make([]Payment, 51)); return err })
	if !errors.Is(err, TooMany{Count: 51, Most: 50}) {
		t.Errorf("51 payments: %v", err)
	}
}

func TestProbe(t *testing.T) {
	host := newHost(t, nil)
	host.Calls = func([]byte, string, []byte) sdk.Result {
		if host.Asked != (sdk.CallOptions{Gas: 7}) {
			t.Errorf("the call has the options %+v", host.Asked)
		}
		return sdk.Result{Status: sdk.StatusTrapped}
	}
	if err := host.Run(func(c sdk.Ctx) error {
		if r := (Caller{}).Probe(c, bob, "x", sdk.Args(), 7); r.Status != -1 {
			t.Errorf("status %d, want -1", r.Status)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRecurse(t *testing.T) {
	host := newHost(t, nil)
	host.Calls = func(to []byte, method string, _ []byte) sdk.Result {
		if sdk.Addr(to) != self || method != "recurse" || host.Asked != (sdk.CallOptions{AllowReentry: true}) {
			t.Errorf("call of %x.%s with %+v", to, method, host.Asked)
		}
		return sdk.Result{Data: sdk.AppendUint(nil, 4)}
	}
	for depth, want := range map[uint32]uint32{0: 0, 5: 5} {
		if err := host.Run(func(c sdk.Ctx) error {
			if got := (Caller{}).Recurse(c, depth); got != want {
				t.Errorf("Recurse(%d) = %d, want %d", depth, got, want)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPeek(t *testing.T) {
	host := newHost(t, nil)
	answer := sdk.Result{Data: sdk.AppendUint(nil, 9)}
	host.Calls = func([]byte, string, []byte) sdk.Result {
		if !host.Asked.ReadOnly {
			t.Error("the call may write")
		}
		return answer
	}
	peek := func() (amount sdk.U128, err error) {
		err = host.Run(func(c sdk.Ctx) (err error) { amount, err = Caller{}.Peek(c, bob); return err })
		return amount, err
	}
	if amount, err := peek(); err != nil || amount != sdk.NewU128(9) {
		t.Errorf("Peek = %s, %v", amount, err)
	}
	answer = sdk.Result{Status: sdk.StatusNotFound}
	if _, err := peek(); err == nil {
		t.Error("Peek of no token succeeded")
	}
}
