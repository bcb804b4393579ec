package receivable

import (
	"errors"
	"math"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

// TestReceivable runs the contract's code by itself, under debugger and coverage; receivable.story tells the rest on a chain.
func TestReceivable(t *testing.T) {
	var r Receivable
	supplier, debtor, mine := sdk.Addr{1}, sdk.Addr{2}, sdk.Addr{3}
	host := &sdk.Fake{Caller: supplier, TimeMilli: 1_000, Calls: func(_ []byte, method string, args []byte) sdk.Result {
		if method != "stopped" || string(args) != string(sdk.Args(sdk.Addr{}, mine)) {
			t.Errorf("called %s with %x", method, args)
		}
		return sdk.Result{Data: []byte{0xf6}} // nobody is frozen
	}}
	as := func(who sdk.Addr, call func(sdk.Ctx) error) error {
		host.Caller = who
		return host.Run(call)
	}
	issue := func(c sdk.Ctx) error {
		id, err := r.Issue(c, debtor, sdk.NewU128(100), 2_000, "invoice")
		if id > 1 {
			t.Errorf("number %d, want 1", id)
		}
		return err
	}
	if err := errors.Join(as(supplier, issue), as(debtor, func(c sdk.Ctx) error { return r.Accept(c, 1) })); err != nil {
		t.Fatal(err)
	}
	var parts []uint64
	split := func(c sdk.Ctx) (err error) {
		parts, err = r.Split(c, 1, []sdk.U128{sdk.NewU128(70), sdk.NewU128(30)})
		return err
	}
	if err := as(mine, split); !errors.Is(err, NotYours{ID: 1, Party: supplier}) {
		t.Errorf("somebody else splits it: %v", err)
	}
	if err := as(supplier, split); err != nil || len(parts) != 2 {
		t.Fatalf("parts %v, %v", parts, err)
	}
	if err := as(supplier, func(c sdk.Ctx) error { return r.Transfer(c, parts[1], mine) }); err != nil {
		t.Fatal(err)
	}
	err := as(mine, func(c sdk.Ctx) error {
		page, err := r.HeldBy(c, mine, 0, 10)
		if len(page) != 1 || page[0].ID != parts[1] || page[0].Claim.Amount != sdk.NewU128(30) || page[0].Claim.Origin != 1 {
			t.Errorf("held %+v", page)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = as(mine, func(c sdk.Ctx) error {
		page, err := r.HeldBy(c, mine, math.MaxUint64, 10)
		if len(page) != 0 {
			t.Errorf("after the last number: %+v, want an empty page", page)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := as(supplier, issue); !errors.Is(err, AlreadyIssued{ID: 1}) {
		t.Errorf("the invoice is issued again: %v", err)
	}
	if err := as(mine, func(c sdk.Ctx) error { return r.Transfer(c, parts[1], sdk.Addr{}) }); !errors.Is(err, BadTerms{Reason: "to"}) {
		t.Errorf("passed on to nobody: %v", err)
	}
}
