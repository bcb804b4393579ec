package cli

import (
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// Of four approvals of a release those count whose account is still a reviewer's, of an institution that still has a member.
func TestVoidApprovals(t *testing.T) {
	roles := map[ledger.Address][]string{{1}: {"committee", "owner"}, {2}: {"owner"}, {3}: {"committee"}, {4}: {"committee"}}
	d := &releaseDoc{State: "open", Approvals: []approvalDoc{
		{Institution: "bank-a", Account: ledger.Address{1}},
		{Institution: "bank-b", Account: ledger.Address{2}},
		{Institution: "bank-c", Account: ledger.Address{3}},
		{Institution: "gone", Account: ledger.Address{4}},
	}}
	void := func() {
		t.Helper()
		if err := d.void([]string{"bank-a", "bank-b", "bank-c"}, []string{"committee"}, func(a ledger.Address) ([]string, error) { return roles[a], nil }); err != nil {
			t.Fatal(err)
		}
	}
	void()
	if d.counting() != 2 || !d.Approvals[1].Void || !d.Approvals[3].Void {
		t.Errorf("%d count of %+v, want the first and the third", d.counting(), d.Approvals)
	}
	if by := d.approvedBy(); !strings.Contains(by, "bank-b (counts no more") || !strings.Contains(by, ", bank-c, gone (") {
		t.Errorf("approved by %s", by)
	}
	roles[ledger.Address{2}] = []string{"committee"}
	if void(); d.counting() != 3 {
		t.Errorf("%d count once an account has its role again, want 3", d.counting())
	}
	// What was released had what it took then.
	d.State, roles = "released", nil
	if void(); d.counting() != 3 {
		t.Errorf("%d count of one that was released, want 3", d.counting())
	}
}
