package precompiles

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// regulated returns an assembly of four banks and a regulator, the account watch of the institution watchdog. Its genesis says nothing of a veto window.
func regulated(t *testing.T) *assembly {
	t.Helper()
	a := newAssembly(t, 4)
	if err := write(a, institutionKey("watchdog"), &Institution{Version: ledger.Version}); err != nil {
		t.Fatal(err)
	}
	watch := &Account{Version: ledger.Version, Institution: "watchdog", Threshold: 1, Roles: []string{}, Keys: []AccountKey{bound(newKey(t, 910))}}
	if err := putAccount(a, name("watch"), watch, nil); err != nil {
		t.Fatal(err)
	}
	a.caller = GovernanceAddress
	_, err := a.call(newAccess(), "grant", RoleArgs{Account: name("watch"), Role: string(identity.Regulator)})
	wantError(t, err, ledger.OK, 0)
	return a
}

// move makes a motion of calls as bank-0 and returns its id.
func (a *assembly) move(actions ...Action) uint64 {
	a.t.Helper()
	a.caller = name("bank-0")
	out, err := a.call(newGovernance(), "propose", ProposeArgs{Actions: actions})
	wantError(a.t, err, ledger.OK, 0)
	var id uint64
	if err := ledger.Unmarshal(out, &id); err != nil {
		a.t.Fatal(err)
	}
	return id
}

// enact has a motion of calls carried and carried out, with the regulator's consent.
func (a *assembly) enact(actions ...Action) {
	a.t.Helper()
	id := a.move(actions...)
	if regulators, err := ReadRegulators(a); err != nil || len(regulators) > 0 {
		wantError(a.t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	}
	a.voteFor(id)
	a.wait(id)
	wantError(a.t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
}

// granting is a call that gives the account user a role.
func (a *assembly) granting(role string) Action {
	return Action{To: AccessAddress, Method: "grant", Args: mustMarshal(a.t, RoleArgs{Account: name("user"), Role: role})}
}

func (a *assembly) ruling(contract ledger.Address, method string, p *Policy) Action {
	return Action{To: GovernanceAddress, Method: "set_policy", Args: mustMarshal(a.t, SetPolicyArgs{Contract: contract, Method: method, Policy: p})}
}

func (a *assembly) setting(change func(*SetSettingsArgs)) Action {
	a.t.Helper()
	s, err := ReadSettings(a)
	if err != nil {
		a.t.Fatal(err)
	}
	args := SetSettingsArgs{Approval: s.Approval, Participation: s.Participation, Motions: s.Motions, Lifetime: s.Lifetime, Window: s.Window, Weights: s.Weights}
	change(&args)
	return Action{To: GovernanceAddress, Method: "set_settings", Args: mustMarshal(a.t, args)}
}

// A regulator has a day to object to what the banks decided, where nobody said otherwise.
func TestVeto(t *testing.T) {
	a := regulated(t)
	id := a.move(a.granting("user"))
	a.voteFor(id)
	decided := a.order.UnixMilli
	a.order.UnixMilli = decided + DefaultVeto - 1
	wantError(t, a.by("bank-1", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortLocked)
	wantError(t, a.by("bank-1", "veto", MotionArgs{ID: id}), ledger.Denied, DeniedRole)
	wantError(t, a.by("watch", "veto", MotionArgs{ID: id}), ledger.OK, 0)
	a.order.UnixMilli = decided + DefaultVeto
	wantError(t, a.by("bank-1", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortMotion)

	// It has no longer, and it consents to what it likes; a consent shortens no window.
	id = a.move(a.granting("user"))
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	a.voteFor(id)
	a.order.UnixMilli += DefaultVeto - 1
	wantError(t, a.by("bank-1", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortLocked)
	a.order.UnixMilli++
	wantError(t, a.by("bank-1", "execute", MotionArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("watch", "veto", MotionArgs{ID: id}), ledger.Aborted, AbortMotion)

	// The banks cannot take the window away without it.
	id = a.move(a.setting(func(s *SetSettingsArgs) { s.Window = 0 }))
	a.voteFor(id)
	if m := a.motion(id); m.Decided != 0 {
		t.Error("the banks alone took the regulator's window away")
	}
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	a.wait(id)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
	id = a.move(a.granting("owner"))
	a.voteFor(id)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)

	// Where there is no regulator, nobody waits for one.
	b := newAssembly(t, 4)
	id = b.move(b.granting("user"))
	b.voteFor(id)
	wantError(t, b.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
}

// A genesis says how long the window is, within bounds.
func TestVetoOfGenesis(t *testing.T) {
	g := &ledger.Genesis{
		Version: ledger.Version, Name: "test", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: 1_000, Params: ledger.DefaultParams(),
		Members: []ledger.Member{{Node: [32]byte{1}, Institution: "alpha", Key: newKey(t, 100)}},
	}
	day := int64(86_400_000)
	for window, sound := range map[int64]bool{-1: false, 0: true, 60_000: true, 15 * day: true, 15*day + 1: false, 1 << 62: false} {
		g.VetoWindow = &window
		changes, err := Genesis(keystest.Suite(), g)
		if (err == nil) != sound {
			t.Errorf("a window of %d ms: %v", window, err)
		}
		if err != nil {
			continue
		}
		w := &world{state: map[string][]byte{}}
		for _, c := range changes {
			w.state[string(c.Key)] = c.Value
		}
		want := DefaultSettings()
		want.Window = window
		if s, err := ReadSettings(w); err != nil || fmt.Sprint(s) != fmt.Sprint(want) {
			t.Errorf("settings %+v, %v", s, err)
		}
	}
}

// What becomes of the regulator's own institution, its nodes and those who vouch for its people, is decided with its consent.
func TestRegulatorsInstitution(t *testing.T) {
	a := regulated(t)
	node := nodeOf(t, newKey(t, 920))
	for _, of := range []struct {
		institution string
		consent     bool
	}{{"watchdog", true}, {"bank-1", false}} {
		if err := write(a, nodeKey(node), &Node{Version: ledger.Version, Status: NodeObserver, Institution: of.institution, Key: newKey(t, 920), Address: "h:1"}); err != nil {
			t.Fatal(err)
		}
		for what, f := range map[string]Reform{
			"dismisses its node":        {Dismiss: []identity.NodeID{node}},
			"makes its node a member":   {Add: []identity.NodeID{node}},
			"admits a node for it":      {Observe: []Candidate{{Institution: of.institution, Key: newKey(t, 921), Address: "h:1"}}},
			"distrusts its root":        {Distrust: []DistrustedRoot{{Institution: of.institution, Root: keys.Digest{1}}}},
			"changes who vouches":       {Policies: []InstitutionPolicy{{Institution: of.institution, Policy: VouchPolicy{Role: "user", Need: 1}}}},
			"has it go by real names":   {RealNames: []InstitutionNames{{Institution: of.institution, Required: true}}},
			"has others vouch for it":   {Trust: []TrustedRoot{{Institution: of.institution}}},
			"retires a member for ever": {Remove: []identity.NodeID{node}},
		} {
			needs, _, err := needsOf(a, &ProposeArgs{Reform: &f})
			wantError(t, err, ledger.OK, 0)
			consent := false
			for _, p := range needs {
				consent = consent || p.Regulator
			}
			if consent != of.consent {
				t.Errorf("a reform of %s that %s: takes a regulator's consent: %t, want %t", of.institution, what, consent, of.consent)
			}
		}
		for method, args := range map[string]any{
			"freeze_node":   FreezeNodeArgs{Node: node, Reason: "intrusion"},
			"unfreeze_node": UnfreezeNodeArgs{Node: node, Reason: "searched"},
			"ratify":        RatifyArgs{Address: NodePlace(node).Address, Method: "node"},
		} {
			data, err := ledger.Marshal(args)
			if err != nil {
				t.Fatal(err)
			}
			needs, _, err := needsOf(a, &ProposeArgs{Actions: []Action{{To: AccessAddress, Method: method, Args: data}}})
			wantError(t, err, ledger.OK, 0)
			if consent := slices.ContainsFunc(needs, func(p Policy) bool { return p.Regulator }); consent != of.consent {
				t.Errorf("%s of a node of %s by motion takes a regulator's consent: %t, want %t", method, of.institution, consent, of.consent)
			}
		}
	}
	// The story of one of them: the banks agree to send the regulator's node away, and it stays until the regulator agrees, too.
	if err := write(a, nodeKey(node), &Node{Version: ledger.Version, Status: NodeObserver, Institution: "watchdog", Key: newKey(t, 920), Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	id, err := a.propose(Reform{Dismiss: []identity.NodeID{node}})
	wantError(t, err, ledger.OK, 0)
	a.voteFor(id)
	a.order.UnixMilli += DefaultVeto
	wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.Aborted, AbortSupport)
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	a.wait(id)
	wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.OK, 0)
	if s := a.status(node); s != NodeDismissed {
		t.Errorf("the node is %s", s)
	}
}

// What a regulator froze the committee sets free with its consent only, for as long as a regulator freezes alone, and what an officer froze without.
func TestCommitteeDoesNotUndoRegulator(t *testing.T) {
	a := regulated(t)
	for i, account := range []struct{ name, role string }{{"ward", "compliance"}, {"maker", "deployer"}} {
		row := &Account{Version: ledger.Version, Institution: "bank-0", Threshold: 1, Roles: []string{account.role}, Keys: []AccountKey{bound(newKey(t, uint64(930+i)))}}
		if err := putAccount(a, name(account.name), row, nil); err != nil {
			t.Fatal(err)
		}
	}
	do := func(caller string, c Contract, method string, args any) []byte {
		t.Helper()
		a.caller = name(caller)
		out, err := a.call(c, method, args)
		wantError(t, err, ledger.OK, 0)
		return out
	}
	schema := &ledger.Schema{ABI: ledger.ContractABI, Name: "till", Version: "1", Profile: "strict", Methods: []ledger.Method{{Name: "pay", Kind: ledger.MethodTx}}}
	var till ledger.Address
	if err := ledger.Unmarshal(do("maker", newContracts(), "deploy", DeployArgs{Code: module(t, schema)}), &till); err != nil {
		t.Fatal(err)
	}
	node, user := a.members[0], name("user")
	act := func(method string, args any) Action {
		return Action{To: AccessAddress, Method: method, Args: mustMarshal(t, args)}
	}
	for _, c := range []struct {
		what     string
		method   string
		args     any
		place    RatifyArgs
		unfreeze Action
	}{
		{"an account", "freeze", FreezeArgs{Account: user, Reason: "suspicion"}, RatifyArgs{Address: user}, act("unfreeze", UnfreezeArgs{Account: user, Reason: "error"})},
		{
			"a method", "freeze_contract",
			FreezeContractArgs{Contract: till, Method: "pay", Reason: "fault"},
			RatifyArgs{Address: till, Method: "pay"},
			act("unfreeze_contract", UnfreezeContractArgs{Contract: till, Method: "pay", Reason: "mended"}),
		},
		{
			"a node", "freeze_node",
			FreezeNodeArgs{Node: node, Reason: "intrusion"},
			RatifyArgs{Address: NodePlace(node).Address, Method: "node"},
			act("unfreeze_node", UnfreezeNodeArgs{Node: node, Reason: "searched"}),
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			consent := func(of Action, want bool) {
				t.Helper()
				needs, _, err := needsOf(a, &ProposeArgs{Actions: []Action{of}})
				wantError(t, err, ledger.OK, 0)
				if got := slices.ContainsFunc(needs, func(p Policy) bool { return p.Regulator }); got != want {
					t.Errorf("%s takes a regulator's consent: %t, want %t", of.Method, got, want)
				}
			}
			ratify := func(until int64) Action {
				args := c.place
				args.Until = until
				return act("ratify", args)
			}
			consent(c.unfreeze, false)
			do("ward", newAccess(), c.method, c.args)
			// Other code would go round the freeze of a method.
			code := Action{To: ContractsAddress, Method: "replace", Args: mustMarshal(t, ReplaceArgs{Address: till, Code: []byte{0}})}
			consent(code, false)
			consent(c.unfreeze, false)
			consent(ratify(a.order.UnixMilli+1), false)

			// A motion that was made before the regulator froze does not lift what it froze after.
			early := a.move(c.unfreeze)
			a.voteFor(early)
			a.wait(early)
			do("watch", newAccess(), c.method, c.args)
			end := a.order.UnixMilli + MaxFreeze
			wantError(t, a.by("bank-0", "execute", MotionArgs{ID: early}), ledger.Aborted, AbortStale)
			consent(c.unfreeze, true)
			consent(code, c.place.Address == till)
			consent(ratify(end-1), true)
			consent(ratify(end), false)
			consent(ratify(0), false)

			// Nor does it lift what it ratified itself, before the regulator's time is over.
			id := a.move(ratify(0))
			a.voteFor(id)
			a.wait(id)
			wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
			consent(c.unfreeze, true)
			consent(ratify(end-1), true)
			a.order.UnixMilli = end
			consent(c.unfreeze, false)
			id = a.move(c.unfreeze)
			a.voteFor(id)
			a.wait(id)
			wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)

			// A motion that joins what the regulator froze makes it no longer the regulator's.
			a.order.UnixMilli += 2 * MaxFreeze
			do("watch", newAccess(), c.method, c.args)
			end = a.order.UnixMilli + MaxFreeze
			id = a.move(act(c.method, c.args))
			a.voteFor(id)
			a.wait(id)
			wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
			a.order.UnixMilli = end - 1
			consent(c.unfreeze, true)
			a.order.UnixMilli = end
			consent(c.unfreeze, false)
		})
	}
}

// A freeze that a motion made of a regulator's and an officer's stays the regulator's, too.
func TestRatifiedTwice(t *testing.T) {
	a := regulated(t)
	row := &Account{Version: ledger.Version, Institution: "bank-0", Threshold: 1, Roles: []string{"compliance"}, Keys: []AccountKey{bound(newKey(t, 940))}}
	if err := putAccount(a, name("ward"), row, nil); err != nil {
		t.Fatal(err)
	}
	freeze := func(who string) {
		t.Helper()
		a.caller = name(who)
		_, err := a.call(newAccess(), "freeze", FreezeArgs{Account: name("user"), Reason: "suspicion"})
		wantError(t, err, ledger.OK, 0)
	}
	ratify := func(until int64) {
		t.Helper()
		a.caller = GovernanceAddress
		_, err := a.call(newAccess(), "ratify", RatifyArgs{Address: name("user"), Until: until})
		wantError(t, err, ledger.OK, 0)
	}
	freeze("watch")
	ratify(a.order.UnixMilli + 2*MaxFreeze)
	a.order.UnixMilli += MaxFreeze / 2
	freeze("ward")
	ratify(0)
	needs, _, err := needsOf(a, &ProposeArgs{Actions: []Action{{To: AccessAddress, Method: "unfreeze", Args: mustMarshal(t, UnfreezeArgs{Account: name("user"), Reason: "error"})}}})
	wantError(t, err, ledger.OK, 0)
	if !slices.ContainsFunc(needs, func(p Policy) bool { return p.Regulator }) {
		t.Error("who froze later stands for the regulator who froze before")
	}
}

// What a policy locks waits for its time and for its blocks, whichever comes later.
func TestLock(t *testing.T) {
	for _, c := range []struct {
		story        string
		lock         int64
		blocks       uint64
		early, later func(*ledger.Order)
	}{
		{"by time", 60_000, 0, func(o *ledger.Order) { o.Height += 1_000; o.UnixMilli += 59_999 }, func(o *ledger.Order) { o.UnixMilli++ }},
		{"by blocks", 0, 10, func(o *ledger.Order) { o.Height += 9; o.UnixMilli += 3_600_000 }, func(o *ledger.Order) { o.Height++ }},
		{"by both", 60_000, 10, func(o *ledger.Order) { o.Height += 10; o.UnixMilli += 59_999 }, func(o *ledger.Order) { o.UnixMilli++ }},
	} {
		t.Run(c.story, func(t *testing.T) {
			a := newAssembly(t, 4)
			a.enact(a.ruling(AccessAddress, "grant", &Policy{Rule: RuleMajority, Institutions: []string{}, Roles: []string{}, Lock: c.lock, Blocks: c.blocks}))
			wantError(t, func() error {
				a.caller = name("bank-0")
				_, err := a.call(newAccess(), "grant", RoleArgs{Account: name("user"), Role: "owner"})
				return err
			}(), ledger.Denied, DeniedMotion)
			id := a.move(a.granting("owner"))
			a.order.UnixMilli += 1_000_000 // what passes before the decision does not count
			a.order.Height += 100
			a.voteFor(id)
			c.early(&a.order)
			wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortLocked)
			c.later(&a.order)
			wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
			if account := a.account(t, name("user")); !account.Has(identity.Owner) {
				t.Error("the motion gave nothing")
			}
		})
	}
}

// Votes weigh what the settings say when a motion is made: a heavy bank with another one outvotes two, and no bank decides alone.
func TestWeights(t *testing.T) {
	a := newAssembly(t, 4)
	tooHeavy := []Weight{{Institution: "bank-0", Weight: 4}}
	id := a.move(a.setting(func(s *SetSettingsArgs) { s.Weights = tooHeavy }))
	a.voteFor(id)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortAction)

	old := a.move(a.granting("owner"))
	a.enact(a.setting(func(s *SetSettingsArgs) { s.Weights = []Weight{{Institution: "bank-0", Weight: 3}} }))
	id = a.move(a.granting("owner"))
	if m := a.motion(id); m.Decided != 0 || m.Count(0).For != 3 || m.Count(0).All != 6 {
		t.Fatalf("half of the weight: %+v, decided at %d", m.Count(0), m.Decided)
	}
	wantError(t, a.by("bank-3", "vote", VoteArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("bank-2", "vote", VoteArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	if m := a.motion(id); m.Decided == 0 || m.Count(0).For != 4 {
		t.Errorf("two banks of the weight %d of 6 do not carry it", m.Count(0).For)
	}

	// The motion that was made before counts heads, as then.
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: old, For: true}), ledger.OK, 0)
	if m := a.motion(old); m.Decided != 0 || m.Count(0).All != 4 {
		t.Errorf("two banks of four carried it: %+v", m.Count(0))
	}

	// Without the heavy bank, the three others have half of the weight and carry nothing; against it, the motion is lost.
	a.caller = name("bank-1")
	out, err := a.call(newGovernance(), "propose", ProposeArgs{Actions: []Action{a.granting("user")}})
	wantError(t, err, ledger.OK, 0)
	if err := ledger.Unmarshal(out, &id); err != nil {
		t.Fatal(err)
	}
	wantError(t, a.by("bank-2", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-3", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortSupport)
	wantError(t, a.by("bank-0", "vote", VoteArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortMotion)
}

// A policy that wants a regulator's consent has motions wait for it, whoever votes for them; a consent alone carries nothing.
func TestConsent(t *testing.T) {
	a := regulated(t)
	a.enact(a.ruling(AccessAddress, "grant", &Policy{Rule: RuleMajority, Institutions: []string{}, Roles: []string{}, Regulator: true}))
	id := a.move(a.granting("owner"))
	for i := 1; i < 4; i++ {
		wantError(t, a.by(fmt.Sprintf("bank-%d", i), "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	}
	a.order.UnixMilli += 10 * DefaultVeto
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortSupport)
	wantError(t, a.by("bank-1", "consent", MotionArgs{ID: id}), ledger.Denied, DeniedRole)
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.Aborted, AbortUnchanged)
	a.wait(id) // the window begins with the consent that carried it
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)

	id = a.move(a.granting("user"))
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	a.order.UnixMilli += 2 * DefaultVeto
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortSupport)
}

// A motion is carried out under the policies that it was decided under. When one of them is another since, it is proposed again.
func TestPolicyOvertakes(t *testing.T) {
	majority := &Policy{Rule: RuleMajority, Institutions: []string{}, Roles: []string{}}
	all := &Policy{Rule: RuleAll, Institutions: []string{}, Roles: []string{}}
	forbidden := &Policy{Institutions: []string{}, Roles: []string{}}
	for _, c := range []struct {
		story         string
		before, after *Policy // of access.grant
		method        string  // of which the policy changes
		code          uint32
	}{
		{"what all must agree to now", nil, all, "grant", AbortStale},
		{"what is forbidden now", nil, forbidden, "grant", AbortStale},
		{"what a majority may as before, by a policy that says so", nil, majority, "grant", AbortStale},
		{"a policy that was taken back, and less is enough", all, nil, "grant", 0},
		{"a policy that was taken back, and said no more than the default", majority, nil, "grant", 0},
		{"the policy of something else", nil, all, "revoke", 0},
	} {
		t.Run(c.story, func(t *testing.T) {
			a := newAssembly(t, 4)
			if c.before != nil {
				a.enact(a.ruling(AccessAddress, "grant", c.before))
			}
			id := a.move(a.granting("owner"))
			a.voteFor(id)
			a.enact(a.ruling(AccessAddress, c.method, c.after))
			err := a.by("bank-1", "execute", MotionArgs{ID: id})
			if c.code == 0 {
				wantError(t, err, ledger.OK, 0)
				return
			}
			wantError(t, err, ledger.Aborted, c.code)
			if e, ok := errors.AsType[*Error](err); !ok || !bytes.Equal(e.Data, mustMarshal(t, []any{AccessAddress, "grant"})) || !strings.Contains(e.Reason, "propose again") {
				t.Errorf("refused with the data %x: %v", e.Data, err)
			}
		})
	}

	// A reform, too; and nobody puts it into a block.
	a := newAssembly(t, 4)
	params := ledger.DefaultParams()
	params.BatchDelay = 5
	id, err := a.propose(Reform{Params: &params})
	wantError(t, err, ledger.OK, 0)
	a.voteFor(id)
	a.enact(a.ruling(MembersAddress, "reform", &Policy{Rule: RuleShare, N: 3, Of: 4, Institutions: []string{}, Roles: []string{}}))
	account := a.account(t, name("bank-1"))
	wantError(t, MayActivate(a, keystest.Suite(), &account, mustMarshal(t, MotionArgs{ID: id}), a.order.UnixMilli, a.order.Height), ledger.Aborted, AbortStale)
	wantError(t, a.by("bank-1", "activate", MotionArgs{ID: id}), ledger.Aborted, AbortStale)
}

// A lock in blocks takes time, too: neither a policy, nor settings, nor slower blocks leave a motion about the chain itself no time before it expires.
func TestLockedOut(t *testing.T) {
	a := newAssembly(t, 4)
	minutes := func(n int64) int64 { return n * 60_000 }
	locked := func(blocks uint64) *Policy {
		return &Policy{Rule: RuleMajority, Institutions: []string{}, Roles: []string{}, Regulator: true, Blocks: blocks}
	}
	refused := func(action Action) {
		t.Helper()
		id := a.move(action)
		a.voteFor(id)
		a.wait(id)
		wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.Aborted, AbortAction)
		wantError(t, a.by("bank-0", "withdraw", MotionArgs{ID: id}), ledger.OK, 0)
	}
	a.enact(a.setting(func(s *SetSettingsArgs) { s.Lifetime, s.Window = minutes(10), 0 }))
	refused(a.ruling(GovernanceAddress, "set_settings", locked(301))) // seconds, of ten minutes half
	a.enact(a.ruling(GovernanceAddress, "set_settings", locked(300)))
	refused(a.setting(func(s *SetSettingsArgs) { s.Lifetime-- }))
	refused(a.setting(func(s *SetSettingsArgs) { s.Window = 1 }))
	params := ledger.DefaultParams()
	params.ViewTimeout++
	_, err := a.propose(Reform{Params: &params})
	wantError(t, err, ledger.Aborted, AbortReform)
	a.enact(a.setting(func(s *SetSettingsArgs) { s.Lifetime = minutes(20) }))
	_, err = a.propose(Reform{Params: &params})
	wantError(t, err, ledger.OK, 0)
}

// What a motion touches is judged when it is carried out, too: what the banks decided of an account before it became a regulator's does not strike the regulator.
func TestRegulatorOvertakes(t *testing.T) {
	day := (24 * time.Hour).Milliseconds()
	trusting := func(institution string) *Reform {
		root := trusted(institution, "one", 1)
		root.Authority.Until = 30 * day
		return &Reform{Trust: []TrustedRoot{root}}
	}
	for _, c := range []struct {
		story   string
		action  func(a *assembly) Action
		reform  *Reform
		consent bool // of the regulator that there is, when the motion is made
		code    uint32
		of      []any
	}{
		{"its calls are to be co-signed", func(a *assembly) Action {
			args := CosignArgs{Account: name("user"), Cosigner: name("bank-0"), Classes: []Class{{}}, Until: a.order.UnixMilli + 30*day}
			return Action{To: AccountsAddress, Method: "cosign", Args: mustMarshal(t, args)}
		}, nil, false, AbortStale, []any{AccountsAddress, "cosign"}},
		{"a regulator consented", func(a *assembly) Action {
			args := CosignArgs{Account: name("user"), Cosigner: name("bank-0"), Classes: []Class{{}}, Until: a.order.UnixMilli + 30*day}
			return Action{To: AccountsAddress, Method: "cosign", Args: mustMarshal(t, args)}
		}, nil, true, 0, nil},
		{"a node of its institution is to be frozen", func(a *assembly) Action {
			return Action{To: AccessAddress, Method: "freeze_node", Args: mustMarshal(t, FreezeNodeArgs{Node: a.members[0], Reason: "intrusion"})}
		}, nil, false, AbortStale, []any{AccessAddress, "freeze_node"}},
		{"another bank's node is to be frozen", func(a *assembly) Action {
			return Action{To: AccessAddress, Method: "freeze_node", Args: mustMarshal(t, FreezeNodeArgs{Node: a.members[1], Reason: "intrusion"})}
		}, nil, false, 0, nil},
		{"its institution gets an authority", nil, trusting("bank-0"), false, AbortStale, []any{MembersAddress, "reform"}},
		{"another institution gets an authority", nil, trusting("bank-1"), false, 0, nil},
	} {
		t.Run(c.story, func(t *testing.T) {
			a := regulated(t)
			propose := func() (id uint64) {
				if c.reform == nil {
					return a.move(c.action(a))
				}
				id, err := a.propose(*c.reform)
				wantError(t, err, ledger.OK, 0)
				return id
			}
			method := "execute"
			if c.reform != nil {
				method = "activate"
			}
			id := propose()
			if c.consent {
				wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
			}
			a.voteFor(id)
			a.enact(a.granting("regulator"))
			a.wait(id)
			bank := a.account(t, name("bank-1"))
			err := a.by("bank-1", method, MotionArgs{ID: id})
			if c.code == 0 {
				wantError(t, err, ledger.OK, 0)
				return
			}
			wantError(t, err, ledger.Aborted, c.code)
			if e, ok := errors.AsType[*Error](err); !ok || !bytes.Equal(e.Data, mustMarshal(t, c.of)) || !strings.Contains(e.Reason, "propose again") {
				t.Errorf("refused with the data %x: %v", e.Data, err)
			}
			if c.reform != nil { // and nobody puts it into a block
				wantError(t, MayActivate(a, keystest.Suite(), &bank, mustMarshal(t, MotionArgs{ID: id}), a.order.UnixMilli, a.order.Height), ledger.Aborted, c.code)
			}
			again := propose()
			wantError(t, a.by("user", "consent", MotionArgs{ID: again}), ledger.OK, 0)
			a.voteFor(again)
			a.wait(again)
			wantError(t, a.by("bank-1", method, MotionArgs{ID: again}), ledger.OK, 0)
		})
	}

	// Of two motions that each make the chain's first regulator, the second one comes too late to do it without that one's consent.
	a := newAssembly(t, 4)
	watch := &Account{Version: ledger.Version, Institution: "bank-1", Threshold: 1, Roles: []string{}, Keys: []AccountKey{bound(newKey(t, 910))}}
	if err := putAccount(a, name("watch"), watch, nil); err != nil {
		t.Fatal(err)
	}
	first := a.move(Action{To: AccessAddress, Method: "grant", Args: mustMarshal(t, RoleArgs{Account: name("watch"), Role: "regulator"})})
	second := a.move(a.granting("regulator"))
	a.voteFor(first)
	a.voteFor(second)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: first}), ledger.OK, 0)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: second}), ledger.Aborted, AbortStale)
}

// One key stops all motions where the only regulator of an institution has an account that it is enough for.
func TestAtMercy(t *testing.T) {
	of := func(institution string, threshold uint32, weights ...uint32) Account {
		a := Account{Institution: institution, Threshold: threshold}
		for _, w := range weights {
			a.Keys = append(a.Keys, AccountKey{Weight: w})
		}
		return a
	}
	for _, c := range []struct {
		story      string
		regulators []Account
		named      []string // institutions; none: there is nothing to say
	}{
		{"no regulator", nil, nil},
		{"one key", []Account{of("watchdog", 1, 1)}, []string{"watchdog"}},
		{"two keys, each of which is enough", []Account{of("watchdog", 1, 1, 1)}, []string{"watchdog"}},
		{"two keys, one of which is enough", []Account{of("watchdog", 2, 1, 2)}, []string{"watchdog"}},
		{"two keys, and both must sign", []Account{of("watchdog", 2, 1, 1)}, nil},
		{"two regulators, who can stop one another", []Account{of("watchdog", 1, 1), of("watchdog", 1, 1)}, nil},
		{"two regulators of two institutions", []Account{of("watchdog", 1, 1), of("treasury", 1, 1), of("court", 2, 1, 1)}, []string{"treasury", "watchdog"}},
	} {
		got := AtMercy(c.regulators)
		if (got != "") != (len(c.named) > 0) {
			t.Errorf("%s: %q", c.story, got)
		}
		for _, institution := range []string{"watchdog", "treasury", "court"} {
			if strings.Contains(got, institution) != slices.Contains(c.named, institution) {
				t.Errorf("%s names %s: %q", c.story, institution, got)
			}
		}
	}
}

// What would stop the chain is taken back at once, whatever else waits for the regulator and for locks.
func TestFeaturesAreTakenBackAtOnce(t *testing.T) {
	a := regulated(t)
	activating := func(feature string, height uint64) Action {
		release := "9"
		if height == 0 {
			release = ""
		}
		return Action{To: ConfigAddress, Method: "activate_feature", Args: mustMarshal(t, ActivateArgs{Feature: feature, Height: height, Release: release})}
	}
	a.enact(a.ruling(ConfigAddress, "activate_feature", &Policy{Rule: RuleMajority, Lock: 3_600_000, Blocks: 20}))
	misspelt := func() uint64 { return uint64(a.order.Height) + 1_000 }
	a.enact(activating("visibilty", misspelt()), activating("visbility", misspelt()))

	waits := func(actions ...Action) bool {
		t.Helper()
		id := a.move(actions...)
		a.voteFor(id)
		err := a.by("bank-0", "execute", MotionArgs{ID: id})
		if e, ok := errors.AsType[*Error](err); ok && e.Code == AbortLocked {
			wantError(t, a.by("bank-0", "withdraw", MotionArgs{ID: id}), ledger.OK, 0)
			return true
		}
		wantError(t, err, ledger.OK, 0)
		return false
	}
	if !waits(activating("visibilty", 0), activating("other", misspelt())) || !waits(activating("visibilty", 0), a.granting("auditor")) {
		t.Error("a motion that does something else besides does not wait")
	}
	if waits(activating("visibilty", 0), activating("visbility", 0)) {
		t.Error("a motion that takes features back waits")
	}
	if f, err := ReadFeatures(a); err != nil || len(f.List) != 0 {
		t.Errorf("the features are %+v, %v", f, err)
	}
}
