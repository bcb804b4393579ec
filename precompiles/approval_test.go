package precompiles

import (
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// approvers is an assembly of six banks. The account user of bank-0 deploys, and bank-4 has a second officer.
type approvers struct {
	*assembly
	second ledger.Address
}

func newApprovers(t *testing.T) *approvers {
	t.Helper()
	a := &approvers{assembly: newAssembly(t, 6)}
	a.enact(a.granting("deployer"))
	a.caller = name("bank-4")
	out, err := a.call(newAccounts(), "register", RegisterArgs{Institution: "bank-4", Accounts: []NewAccount{{Threshold: 1, Roles: []string{"institution-admin"}, Keys: []AccountKey{bound(newKey(t, 940))}}}})
	wantError(t, err, ledger.OK, 0)
	var made []ledger.Address
	if err := ledger.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	a.second = made[0]
	a.enact(Action{To: AccessAddress, Method: "grant", Args: mustMarshal(t, RoleArgs{Account: a.second, Role: string(identity.Committee)})})
	return a
}

// as has an account call a method.
func (a *approvers) as(who ledger.Address, c Contract, method string, args any) error {
	a.caller = who
	_, err := a.call(c, method, args)
	return err
}

// expel takes bank-5's member out of the group. Its accounts keep their roles.
func (a *approvers) expel() {
	a.t.Helper()
	a.pass(Reform{Remove: []identity.NodeID{a.members[5]}})
	a.members = a.members[:5]
}

// An institution whose member is gone has no say in code, nor has one whose account has the role no more.
func TestApprovalsOfReleases(t *testing.T) {
	a := newApprovers(t)
	contracts := newContracts()
	a.enact(Action{To: ContractsAddress, Method: "set_mode", Args: mustMarshal(t, ModeArgs{Mode: DeployReview, Institutions: 2, Deployers: []ledger.Address{}, Reviewers: []string{}, Lifetime: maxReleaseTime})})
	propose := func() uint64 {
		t.Helper()
		a.caller = name("user")
		out, err := a.call(contracts, "propose", ProposalArgs{Code: module(t, nil)})
		wantError(t, err, ledger.OK, 0)
		var id uint64
		if err := ledger.Unmarshal(out, &id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	approve := func(who ledger.Address, id uint64) error {
		r, _, err := ReadRelease(a, id)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := r.Content.Hash(a.Suite())
		if err != nil {
			t.Fatal(err)
		}
		return a.as(who, contracts, "approve", ApproveArgs{ID: id, Digest: digest})
	}
	release := func(id uint64) error { return a.as(name("user"), contracts, "release", ReleaseArgs{ID: id}) }

	one, two := propose(), propose()
	wantError(t, approve(name("bank-5"), one), ledger.OK, 0)
	wantError(t, approve(name("bank-4"), one), ledger.OK, 0)
	a.expel()
	t.Log("an expelled bank approves of nothing, and what it approved of counts no more")
	wantError(t, approve(name("bank-5"), two), ledger.Denied, DeniedInstitution)
	err := release(one)
	wantError(t, err, ledger.Aborted, AbortRelease)
	if !strings.Contains(err.Error(), "has the approval of 1 institutions, and 2 are needed; that of bank-5 counts no more") {
		t.Error(err)
	}
	wantError(t, approve(name("bank-3"), one), ledger.OK, 0)

	t.Log("an account that lost the role does not speak for its bank, and another one does in its place")
	wantError(t, approve(a.second, one), ledger.Aborted, AbortUnchanged)
	a.enact(Action{To: AccessAddress, Method: "revoke", Args: mustMarshal(t, RoleArgs{Account: name("bank-4"), Role: string(identity.Committee)})})
	wantError(t, release(one), ledger.Aborted, AbortRelease)
	wantError(t, approve(name("bank-4"), one), ledger.Denied, DeniedRole)
	wantError(t, approve(a.second, one), ledger.OK, 0)
	wantError(t, release(one), ledger.OK, 0)
	r, _, err := ReadRelease(a, one)
	if err != nil || len(r.Approvals) != 3 || r.Approvals[2].Account != a.second {
		t.Errorf("the release has %+v, %v", r.Approvals, err)
	}

	t.Log("a motion approves for all that have a member")
	wantError(t, approve(GovernanceAddress, two), ledger.OK, 0)
	wantError(t, release(two), ledger.OK, 0)
}

// The two institutions that a correction takes have members, and officers who approved of it.
func TestApprovalsOfCorrections(t *testing.T) {
	a := newApprovers(t)
	corrections := newCorrections()
	a.caller = name("user")
	out, err := a.call(newContracts(), "deploy", DeployArgs{Code: module(t, &ledger.Schema{
		ABI: ledger.ContractABI, Name: "token", Profile: "std",
		Methods: []ledger.Method{{Name: AdjustMethod, Kind: ledger.MethodTx, Args: []ledger.Field{{Name: "account", Type: "addr"}, {Name: "amount", Type: "u128"}, {Name: "credit", Type: "bool"}, {Name: "correction", Type: "u64"}}}},
	})})
	wantError(t, err, ledger.OK, 0)
	var token ledger.Address
	if err := ledger.Unmarshal(out, &token); err != nil {
		t.Fatal(err)
	}
	propose := func(from string) NumberArgs {
		t.Helper()
		entry := func(who string, credit bool) Entry {
			return Entry{Contract: token, Account: name(who), Amount: *big.NewInt(5), Credit: credit}
		}
		a.caller = name("bank-0")
		out, err := a.call(corrections, "propose", ProposeCorrectionArgs{
			Transactions: []Corrected{{Tx: ledger.TxID{1}, Height: 1}}, Reason: "other", Evidence: keys.Digest{1}, Entries: []Entry{entry(from, false), entry("bank-0", true)},
		})
		wantError(t, err, ledger.OK, 0)
		var n uint64
		if err := ledger.Unmarshal(out, &n); err != nil {
			t.Fatal(err)
		}
		return NumberArgs{Number: n}
	}
	lacks := func(n NumberArgs, count int, institutions ...string) {
		t.Helper()
		c, _, err := ReadCorrection(a, n.Number)
		if err != nil {
			t.Fatal(err)
		}
		missing, more, err := c.Missing(a)
		if err != nil || more != count || !slices.Equal(missing, institutions) {
			t.Errorf("it lacks %d, those of %q among them, %v; want %d, %q", more, missing, err, count, institutions)
		}
		if count > 0 {
			wantError(t, a.as(name("bank-0"), corrections, "apply", n), ledger.Aborted, AbortSupport)
		}
	}
	approve := func(who ledger.Address, n NumberArgs) error { return a.as(who, corrections, "approve", n) }

	own, foreign := propose("user"), propose("bank-5")
	lacks(own, 1)
	wantError(t, approve(name("bank-5"), own), ledger.OK, 0)
	lacks(own, 0)
	lacks(foreign, 1, "bank-5")
	a.expel()
	t.Log("an expelled bank is none of the two, but what is taken from its account takes its approval still")
	lacks(own, 1)
	lacks(foreign, 2, "bank-5")
	wantError(t, approve(name("bank-5"), foreign), ledger.OK, 0)
	lacks(foreign, 1)
	wantError(t, approve(name("bank-4"), own), ledger.OK, 0)
	wantError(t, approve(name("bank-4"), foreign), ledger.OK, 0)
	lacks(foreign, 0)

	t.Log("an officer who is none any more does not speak for the bank, and another one does")
	wantError(t, approve(a.second, own), ledger.Aborted, AbortUnchanged)
	wantError(t, a.as(a.second, newAccess(), "revoke", RoleArgs{Account: name("bank-4"), Role: string(identity.InstitutionAdmin)}), ledger.OK, 0)
	lacks(own, 1)
	wantError(t, approve(a.second, own), ledger.OK, 0)
	lacks(own, 0)
	wantError(t, a.as(name("bank-0"), corrections, "apply", own), ledger.OK, 0)
	wantError(t, a.as(name("bank-0"), corrections, "apply", foreign), ledger.Aborted, AbortSupport)
	wantError(t, approve(a.second, foreign), ledger.OK, 0)
	wantError(t, a.as(name("bank-0"), corrections, "apply", foreign), ledger.OK, 0)
}
