package receivable

import (
	"errors"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

// TestSplit runs the contract's code by itself, under debugger and coverage; receivable.story tells the rest on a chain.
func TestSplit(t *testing.T) {
	var r Receivable
	supplier, debtor, mine := sdk.Addr{1}, sdk.Addr{2}, sdk.Addr{3}
	host := &sdk.Fake{Caller: supplier, TimeMilli: 1_000}
	as := func(who sdk.Addr, call func(sdk.Ctx) error) error {
		host.Caller = who
		return host.Run(call)
	}
	issue := func(c sdk.Ctx) error {
		id, err := r.Issue(c, debtor, sdk.NewU128(100), 2_000, "invoice")
		if id != 1 {
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
}
