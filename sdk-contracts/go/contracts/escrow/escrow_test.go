package escrow

import (
	"errors"
	"reflect"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

var buyer, seller, other, gold, self = sdk.Addr{1}, sdk.Addr{2}, sdk.Addr{3}, sdk.Addr{4}, sdk.Addr{5}

// world is a host whose token pays everything, and remembers how.
type world struct {
	sdk.Fake
	t    *testing.T
	paid []string
	args [][]byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, Fake: sdk.Fake{Self: self, TimeMilli: 1_000}}
	w.Calls = func(to []byte, method string, args []byte) sdk.Result {
		if sdk.Addr(to) != gold {
			t.Errorf("a call of %x", to)
		}
		w.paid, w.args = append(w.paid, method), append(w.args, args)
		return sdk.Result{}
	}
	if err := w.as(buyer, func(c sdk.Ctx) error { Escrow{}.Init(c, gold); return nil }); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) as(caller sdk.Addr, f func(sdk.Ctx) error) error {
	w.Caller = caller
	return w.Run(f)
}

func (w *world) open(amount, deadline uint64) error {
	return w.as(buyer, func(c sdk.Ctx) error {
		_, err := Escrow{}.Open(c, seller, sdk.NewU128(amount), deadline)
		return err
	})
}

func (w *world) release(caller sdk.Addr) error {
	return w.as(caller, func(c sdk.Ctx) error { return Escrow{}.Release(c, 1) })
}

func (w *world) refund(caller sdk.Addr) error {
	return w.as(caller, func(c sdk.Ctx) error { return Escrow{}.Refund(c, 1) })
}

func TestRelease(t *testing.T) {
	w := newWorld(t)
	if err := w.open(7, 2_000); err != nil {
		t.Fatal(err)
	}
	if err := w.release(seller); !errors.Is(err, NotYours{ID: 1}) {
		t.Errorf("release by the seller: %v", err)
	}
	if err := w.release(buyer); err != nil {
		t.Fatal(err)
	}
	if err := w.refund(seller); !errors.Is(err, NotOpen{ID: 1, Status: released}) {
		t.Errorf("refund of what is released: %v", err)
	}
	want := []any{
		Opened{ID: 1, Buyer: buyer, Seller: seller, Amount: sdk.NewU128(7), Deadline: 2_000},
		Released{ID: 1, Seller: seller, Amount: sdk.NewU128(7)},
	}
	if !reflect.DeepEqual(w.Events, want) {
		t.Errorf("events are %v, want %v", w.Events, want)
	}
	payments := [][]byte{sdk.Args(buyer, self, sdk.NewU128(7)), sdk.Args(seller, sdk.NewU128(7))}
	if !reflect.DeepEqual(w.paid, []string{"transfer_from", "transfer"}) || !reflect.DeepEqual(w.args, payments) {
		t.Errorf("payments are %s %x", w.paid, w.args)
	}
}

func TestRefund(t *testing.T) {
	w := newWorld(t)
	if err := w.open(7, 2_000); err != nil {
		t.Fatal(err)
	}
	w.TimeMilli = 1_999
	if err := w.refund(buyer); !errors.Is(err, TooEarly{Deadline: 2_000, Now: 1_999}) {
		t.Errorf("refund before the deadline: %v", err)
	}
	if err := w.refund(other); !errors.Is(err, NotYours{ID: 1}) {
		t.Errorf("refund by somebody else: %v", err)
	}
	w.TimeMilli = 2_000
	if err := w.refund(buyer); err != nil {
		t.Fatal(err)
	}
}

func TestPaymentFails(t *testing.T) {
	w := newWorld(t)
	w.Calls = func([]byte, string, []byte) sdk.Result { return sdk.Result{Status: 1001, Data: []byte{0x80}} }
	if f, ok := errors.AsType[PaymentFailed](w.open(7, 2_000)); !ok || f.Status != 1001 || len(f.Data) != 1 {
		t.Errorf("open with a token that refuses: %v", f)
	}
	if len(w.Events) > 0 || w.State["next"] != nil {
		t.Error("the failed call left something")
	}
}

func TestBadTerms(t *testing.T) {
	w := newWorld(t)
	for reason, err := range map[string]error{"amount": w.open(0, 0), "deadline": w.open(1, 1_000)} {
		if !errors.Is(err, BadTerms{Reason: reason}) {
			t.Errorf("%v, want BadTerms for the %s", err, reason)
		}
	}
}
