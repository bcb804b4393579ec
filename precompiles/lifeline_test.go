package precompiles

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// token is a contract like others.
var token = contract.Address

// care is a world with officers of alpha: clerk, who registers, and admin and deputy.
type care struct {
	*world
	t *testing.T
}

func newCare(t *testing.T) *care {
	t.Helper()
	c := &care{world: newWorld(t), t: t}
	for i, who := range []struct{ name, roles string }{{"clerk", "registrar"}, {"deputy", "institution-admin"}, {"chair", "committee"}} {
		key := bound(newKey(t, uint64(200+i)))
		a := &Account{Version: ledger.Version, Institution: "alpha", Threshold: 1, Roles: []string{who.roles}, Keys: []AccountKey{key}}
		if err := putAccount(c.world, name(who.name), a, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.founded()
	return c
}

// by calls a method as an account, whose first key signs; motion is one that was carried.
func (c *care) by(caller, method string, args any) error {
	c.t.Helper()
	c.signed = nil
	if c.caller = GovernanceAddress; caller != "motion" {
		c.caller = name(caller)
		if a, found, _ := ReadAccount(c.world, c.caller); found {
			c.signed = []ledger.Key{a.Keys[0].public()}
		}
	}
	_, err := c.call(newAccounts(), method, args)
	return err
}

func (c *care) want(err error, status ledger.Status, code uint32) {
	c.t.Helper()
	wantError(c.t, err, status, code)
}

// may says how it ends if the account sends a call that its keys sign.
func (c *care) may(who string, to ledger.Address, method string) error {
	a := c.account(c.t, name(who))
	s := []ledger.Signature{{Algorithm: a.Keys[0].Algorithm, Key: a.Keys[0].Key}}
	return a.Authorize(c.world, name(who), ledger.Target{Address: to}, method, s, c.order.UnixMilli)
}

func lost(who string, k ledger.Key) RecoverAccountArgs {
	return RecoverAccountArgs{Account: name(who), Keys: []AccountKey{bound(k)}, Threshold: 1, Reason: "lost", Evidence: keys.Digest{1}}
}

func (c *care) pass(d time.Duration) { c.order.UnixMilli += d.Milliseconds() }

// TestLostKey is the story of a key that is lost: two officers ask for another, nobody objects, and the account goes on with what it has.
func TestLostKey(t *testing.T) {
	c := newCare(t)
	fresh, number := newKey(t, 210), RecoveryArgs{Account: name("user"), Number: 1}
	c.want(c.by("stranger", "recover", lost("user", fresh)), ledger.Denied, DeniedInstitution)
	c.want(c.by("user", "recover", lost("user", fresh)), ledger.Denied, DeniedRole)
	c.want(c.by("clerk", "recover", RecoverAccountArgs{Account: name("user"), Keys: []AccountKey{bound(fresh)}, Threshold: 2, Reason: "lost", Evidence: keys.Digest{1}}), ledger.Aborted, AbortThreshold)
	c.want(c.by("clerk", "recover", RecoverAccountArgs{Account: name("user"), Keys: []AccountKey{bound(fresh)}, Threshold: 1, Reason: "lost"}), ledger.Aborted, AbortArguments)
	c.want(c.by("clerk", "recover", lost("user", fresh)), ledger.OK, 0)
	c.want(c.by("user", "object", NumberArgs{Number: 1}), ledger.Aborted, AbortRecovery) // to what nobody confirmed
	c.want(c.by("clerk", "confirm", number), ledger.Denied, DeniedRole)

	// An admin who asks does not confirm, with no other account that has the same key either.
	c.want(c.by("admin", "recover", lost("user", fresh)), ledger.OK, 0)
	c.want(c.by("admin", "confirm", number), ledger.Aborted, AbortRecovery) // it is not the one that was asked for first
	number.Number = 2
	c.want(c.by("admin", "confirm", number), ledger.Denied, DeniedRole)
	twin := c.account(t, name("admin"))
	if err := putAccount(c.world, name("twin"), &twin, nil); err != nil {
		t.Fatal(err)
	}
	c.want(c.by("twin", "confirm", number), ledger.Denied, DeniedRole)
	c.want(c.by("deputy", "confirm", number), ledger.OK, 0)
	c.want(c.by("deputy", "confirm", number), ledger.Aborted, AbortUnchanged)

	// While the window runs nothing takes its place, and the keys stay.
	c.want(c.by("clerk", "recover", lost("user", newKey(t, 211))), ledger.Aborted, AbortRecovery)
	c.want(c.by("motion", "recover", lost("user", newKey(t, 211))), ledger.Aborted, AbortRecovery)
	c.want(c.by("user", "bind", BindArgs{Keys: []AccountKey{bound(newKey(t, 211))}, Threshold: 1}), ledger.Aborted, AbortRecovery)
	c.pass(DefaultWindow)
	c.want(c.by("clerk", "settle", number), ledger.Aborted, AbortRecovery)
	c.want(c.by("motion", "settle", number), ledger.Aborted, AbortRecovery) // a motion shortens nothing
	before := c.account(t, name("user"))
	c.pass(time.Millisecond)
	c.want(c.by("user", "object", NumberArgs{Number: 2}), ledger.Aborted, AbortRecovery) // too late
	c.want(c.by("stranger", "settle", number), ledger.OK, 0)
	if by := c.world.approved; len(by) != 2 || by[0].Account != name("admin") || by[1].Account != name("deputy") || by[0].Institution == "" || !by[0].For || !by[1].For {
		t.Errorf("the record says that it rests on %+v, want who asked for it and who confirmed it", by)
	}
	c.want(c.by("stranger", "settle", number), ledger.Aborted, AbortRecovery)

	after := c.account(t, name("user"))
	if len(after.Keys) != 1 || !after.Keys[0].is(fresh) || after.Institution != before.Institution || !slices.Equal(after.Roles, before.Roles) {
		t.Errorf("the account is %+v", after)
	}
	out, err := c.call(newAccounts(), "find", FindArgs{Key: before.Keys[0].public()})
	var found []ledger.Address
	if err := ledger.Unmarshal(out, &found); err != nil || len(found) != 0 {
		t.Errorf("the lost key finds %v, %v", found, err)
	}
	c.want(err, ledger.OK, 0)
	out, err = c.call(newAccounts(), "recoveries", RecoveriesArgs{})
	c.want(err, ledger.OK, 0)
	if err := ledger.Unmarshal(out, &found); err != nil || len(found) != 0 {
		t.Errorf("open recoveries: %v, %v", found, err)
	}
}

// An account of which a key is reported as leaked gets no voice before it is recovered: an institution might rest on it alone.
func TestLeakedVoice(t *testing.T) {
	c := newCare(t)
	c.want(c.by("clerk", "report_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)
	for role, code := range map[identity.Role]uint32{identity.Committee: AbortRole, identity.Regulator: AbortRole, identity.Owner: 0} {
		c.caller = GovernanceAddress
		_, err := c.call(newAccess(), "grant", RoleArgs{Account: name("user"), Role: string(role)})
		if code == 0 {
			c.want(err, ledger.OK, 0)
			c.caller = GovernanceAddress
			_, err = c.call(newAccess(), "revoke", RoleArgs{Account: name("user"), Role: string(role)})
			c.want(err, ledger.OK, 0)
			continue
		}
		c.want(err, ledger.Aborted, code)
	}
}

// TestLastVoice has motions report leaks of a bank's accounts. They never take the last voice that it has, whichever way they try, so that no majority is rid of a bank
// that way; the bank itself may, and a recovery or the end of the report gives the voice back.
func TestLastVoice(t *testing.T) {
	a := newAssembly(t, 3)
	by := func(caller ledger.Address, c Contract, method string, args any) error {
		a.caller = caller
		_, err := a.call(c, method, args)
		return err
	}
	motion := func(c Contract, method string, args any) error { return by(GovernanceAddress, c, method, args) }
	voices := func(want uint32) {
		t.Helper()
		if n, err := Voices(a, "bank-0"); err != nil || n != want {
			t.Errorf("bank-0 has %d voices, %v, want %d", n, err, want)
		}
	}
	first, second := AddressArgs{Address: name("bank-0")}, AddressArgs{Address: name("user")}
	seat := RoleArgs{Account: name("user"), Role: string(identity.Committee)}
	wantError(t, motion(newAccounts(), "report_leak", first), ledger.Aborted, AbortRole)
	wantError(t, motion(newAccess(), "grant", seat), ledger.OK, 0)
	voices(2)
	wantError(t, motion(newAccounts(), "report_leak", first), ledger.OK, 0)
	voices(1)
	wantError(t, motion(newAccounts(), "report_leak", second), ledger.Aborted, AbortRole)
	wantError(t, motion(newAccess(), "revoke", seat), ledger.Aborted, AbortRole)

	// Of its own key it reports what it wants. Then nobody speaks for it, and a majority without it goes on.
	wantError(t, by(second.Address, newAccounts(), "report_leak", second), ledger.OK, 0)
	voices(0)
	wantError(t, stillGoverned(a), ledger.OK, 0)
	wantError(t, motion(newAccounts(), "clear_leak", second), ledger.OK, 0)
	voices(1)

	// Who has no voice is recovered or loses the role, and neither counts twice.
	wantError(t, motion(newAccounts(), "recover", lost("bank-0", newKey(t, 260))), ledger.OK, 0)
	a.order.UnixMilli += DefaultWindow.Milliseconds() + 1
	wantError(t, motion(newAccounts(), "settle", RecoveryArgs{Account: first.Address, Number: 1}), ledger.OK, 0)
	voices(2)
	wantError(t, motion(newAccounts(), "report_leak", second), ledger.OK, 0)
	wantError(t, motion(newAccess(), "revoke", seat), ledger.OK, 0)
	voices(1)
	wantError(t, motion(newAccounts(), "clear_leak", second), ledger.OK, 0)
	voices(1)
	wantError(t, motion(newAccess(), "revoke", RoleArgs{Account: first.Address, Role: seat.Role}), ledger.Aborted, AbortRole)
}

// No motion silences the last regulator of which no leak is reported, either.
func TestLastRegulator(t *testing.T) {
	a := regulated(t)
	report := func(caller ledger.Address, who string) error {
		a.caller = caller
		_, err := a.call(newAccounts(), "report_leak", AddressArgs{Address: name(who)})
		return err
	}
	wantError(t, report(GovernanceAddress, "watch"), ledger.Aborted, AbortRole)
	a.caller = GovernanceAddress
	_, err := a.call(newAccess(), "grant", RoleArgs{Account: name("user"), Role: string(identity.Regulator)})
	wantError(t, err, ledger.OK, 0)
	wantError(t, report(GovernanceAddress, "user"), ledger.OK, 0)
	wantError(t, report(GovernanceAddress, "watch"), ledger.Aborted, AbortRole)
	wantError(t, report(name("watch"), "watch"), ledger.OK, 0)
}

// TestOneManTwoOfficers has an admin register the other officer that an act takes. The account counts once it has had its role for a window, and not for
// what began before.
func TestOneManTwoOfficers(t *testing.T) {
	c := newCare(t)
	call := func(caller string, contract Contract, method string, args any) error {
		t.Helper()
		c.caller, c.signed = name(caller), nil
		_, err := c.world.call(contract, method, args)
		return err
	}
	user := AddressArgs{Address: name("user")}
	register := func(to string, roles ...string) {
		t.Helper()
		c.caller = name("admin")
		key := bound(newKey(t, map[string]uint64{"puppet": 700, "watchdog": 701, "scribe": 702}[to]))
		out, err := c.world.call(newAccounts(), "register", RegisterArgs{Institution: "alpha", Accounts: []NewAccount{{Threshold: 1, Roles: roles, Keys: []AccountKey{key}}}})
		c.want(err, ledger.OK, 0)
		var made []ledger.Address
		if err := ledger.Unmarshal(out, &made); err != nil {
			t.Fatal(err)
		}
		for _, role := range roles { // under a name that by finds
			account := c.account(t, made[0])
			if err := write(c.world, AccountStateKey(name(to)), &account); err != nil {
				t.Fatal(err)
			}
			c.state[string(sinceKey(name(to), role))] = c.state[string(sinceKey(made[0], role))]
		}
	}
	freeze := FreezeArgs{Account: name("user"), Reason: "suspicion"}
	unfreeze := UnfreezeArgs{Account: name("user"), Reason: "error"}

	// The puppet neither confirms, nor clears, nor lifts, and another one does not ask.
	c.want(c.by("admin", "recover", lost("user", newKey(t, 690))), ledger.OK, 0)
	c.want(c.by("admin", "report_leak", user), ledger.OK, 0)
	c.want(call("admin", newAccess(), "freeze", freeze), ledger.OK, 0)
	register("puppet", "institution-admin")
	register("watchdog", "compliance")
	register("scribe", "registrar")
	err := c.by("puppet", "confirm", RecoveryArgs{Account: name("user"), Number: 1})
	c.want(err, ledger.Denied, DeniedRole)
	for _, want := range []string{"has the role institution-admin since 1970-01-01T00:00:05Z", "one of alpha does this who has it since", "fondaco motion propose accounts recover"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
	c.want(c.by("puppet", "clear_leak", user), ledger.Denied, DeniedRole)
	c.want(call("puppet", newAccess(), "unfreeze", unfreeze), ledger.Denied, DeniedRole)
	c.want(call("watchdog", newAccess(), "unfreeze", unfreeze), ledger.Denied, DeniedRole)
	c.want(c.by("admin", "withdraw", RecoveryArgs{Account: name("user"), Number: 1}), ledger.OK, 0)
	c.want(c.by("scribe", "recover", lost("user", newKey(t, 691))), ledger.Denied, DeniedRole)

	// Patience does not help with what began before, and a role that was given again begins anew.
	c.want(c.by("admin", "recover", lost("user", newKey(t, 692))), ledger.OK, 0)
	c.pass(DefaultWindow)
	c.want(c.by("puppet", "confirm", RecoveryArgs{Account: name("user"), Number: 2}), ledger.Denied, DeniedRole)
	c.want(c.by("puppet", "clear_leak", user), ledger.Denied, DeniedRole)
	c.want(call("watchdog", newAccess(), "unfreeze", unfreeze), ledger.Denied, DeniedRole)
	role := RoleArgs{Account: name("puppet"), Role: "institution-admin"}
	c.want(call("admin", newAccess(), "revoke", role), ledger.OK, 0)
	c.want(call("admin", newAccess(), "grant", role), ledger.OK, 0)
	c.want(c.by("admin", "recover", lost("user", newKey(t, 693))), ledger.OK, 0)
	c.want(c.by("puppet", "confirm", RecoveryArgs{Account: name("user"), Number: 3}), ledger.Denied, DeniedRole)

	// Those who have been there do, and so does the puppet of what begins a window later.
	c.want(c.by("deputy", "clear_leak", user), ledger.OK, 0)
	c.want(call("deputy", newAccess(), "unfreeze", unfreeze), ledger.OK, 0)
	c.pass(DefaultWindow)
	c.want(c.by("scribe", "recover", lost("user", newKey(t, 694))), ledger.OK, 0)
	c.want(c.by("puppet", "confirm", RecoveryArgs{Account: name("user"), Number: 4}), ledger.OK, 0)
}

// TestStolenKey is the story of a thief who objects to whatever would take the account from him. He spends nothing meanwhile, and the committee
// decides in the end.
func TestStolenKey(t *testing.T) {
	c := newCare(t)
	user := AddressArgs{Address: name("user")}
	c.want(c.by("clerk", "report_leak", user), ledger.OK, 0)
	c.want(c.by("clerk", "report_leak", user), ledger.Aborted, AbortUnchanged)
	c.want(c.may("user", token, "transfer"), ledger.Denied, DeniedFrozen)
	c.want(c.may("user", AccountsAddress, "rotate"), ledger.Denied, DeniedFrozen)
	if f, err := frozen(c.world, user); err != nil || !f.Out || f.In {
		t.Errorf("contracts that ask are told %+v, %v", f, err)
	}
	for n := range uint64(MaxObjections) {
		c.want(c.may("user", AccountsAddress, "object"), ledger.Denied, DeniedFrozen) // there is nothing to object to
		c.want(c.by("clerk", "recover", lost("user", newKey(t, 220))), ledger.OK, 0)
		c.want(c.by("deputy", "confirm", RecoveryArgs{Account: name("user"), Number: n + 1}), ledger.OK, 0)
		c.want(c.may("user", AccountsAddress, "object"), ledger.OK, 0)
		c.want(c.by("user", "object", NumberArgs{Number: n + 1}), ledger.OK, 0)
		c.want(c.by("user", "object", NumberArgs{Number: n + 1}), ledger.Aborted, AbortRecovery)
	}
	c.want(c.by("clerk", "recover", lost("user", newKey(t, 220))), ledger.Denied, DeniedMotion)
	c.want(c.by("motion", "recover", lost("user", newKey(t, 220))), ledger.OK, 0)
	c.want(c.by("user", "object", NumberArgs{Number: 3}), ledger.Denied, DeniedMotion)
	c.want(c.by("deputy", "withdraw", RecoveryArgs{Account: name("user"), Number: 3}), ledger.Denied, DeniedMotion)
	c.pass(DefaultWindow + time.Millisecond)
	c.want(c.may("user", token, "transfer"), ledger.Denied, DeniedFrozen)
	c.want(c.by("clerk", "settle", RecoveryArgs{Account: name("user"), Number: 3}), ledger.OK, 0)
	c.want(c.may("user", token, "transfer"), ledger.OK, 0) // with the new key
	if l := c.account(t, name("user")).Lifeline; l.Objections != 0 || l.Leak != nil || l.Recovery != nil {
		t.Errorf("after the recovery there is left: %+v", l)
	}
}

// TestSilencedOwner has an institution that wants an account for itself take away its voice first. The owner is heard all the same.
func TestSilencedOwner(t *testing.T) {
	c := newCare(t)
	a := c.account(t, name("user"))
	a.Status = FrozenByInstitution
	a.Certificate = binding(1)
	if err := write(c.world, AccountStateKey(name("user")), &a); err != nil {
		t.Fatal(err)
	}
	if _, err := func() ([]byte, error) {
		c.caller = name("admin")
		return c.call(newCertificates(), "revoke", StatusArgs{Fingerprint: binding(1).Paths[0].Leaf})
	}(); err != nil {
		t.Fatal(err)
	}
	c.want(c.by("clerk", "report_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)
	c.want(c.by("motion", "cosign", CosignArgs{Account: name("user"), Cosigner: name("admin"), Classes: []Class{{}}, Until: 6_000}), ledger.OK, 0)
	c.want(c.by("clerk", "recover", lost("user", newKey(t, 230))), ledger.OK, 0)
	c.want(c.by("admin", "confirm", RecoveryArgs{Account: name("user"), Number: 1}), ledger.OK, 0)
	c.want(c.may("user", token, "transfer"), ledger.Denied, DeniedFrozen)
	c.want(c.may("user", AccountsAddress, "object"), ledger.OK, 0)
	a = c.account(t, name("user"))
	c.want(a.Cosigned(c.world, AccountsAddress, "object", nil, c.order.UnixMilli), ledger.OK, 0)
	c.want(c.by("user", "object", NumberArgs{Number: 1}), ledger.OK, 0)

	// Who reported a leak does not withdraw the report.
	c.want(c.by("clerk", "clear_leak", AddressArgs{Address: name("user")}), ledger.Denied, DeniedRole)
	c.want(c.by("deputy", "clear_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)
	c.want(c.by("deputy", "report_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)
	c.want(c.by("deputy", "clear_leak", AddressArgs{Address: name("user")}), ledger.Denied, DeniedRole)
	c.want(c.by("motion", "clear_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)
	c.want(c.by("motion", "clear_leak", AddressArgs{Address: name("user")}), ledger.Aborted, AbortUnchanged)
}

// TestPowersRecovered has accounts of the committee and of a regulator lose their keys: a motion gives them others, and takes no regulator's
// account against its will.
func TestPowersRecovered(t *testing.T) {
	c := newCare(t)
	for _, who := range []string{"chair", "regulator"} {
		officers := []string{"clerk", "deputy"}
		if who == "regulator" {
			officers = []string{"stranger"}
		}
		for _, officer := range officers {
			c.want(c.by(officer, "recover", lost(who, newKey(t, 240))), ledger.Denied, DeniedMotion)
			c.want(c.by(officer, "report_leak", AddressArgs{Address: name(who)}), ledger.Denied, DeniedMotion)
		}
		for n := range uint64(MaxObjections) {
			c.want(c.by("motion", "recover", lost(who, newKey(t, 240))), ledger.OK, 0)
			c.want(c.by(who, "object", NumberArgs{Number: n + 1}), ledger.OK, 0)
		}
		c.want(c.by("motion", "recover", lost(who, newKey(t, 240))), ledger.OK, 0)
		if who == "regulator" {
			c.want(c.by(who, "object", NumberArgs{Number: MaxObjections + 1}), ledger.OK, 0)
			continue
		}
		c.want(c.by(who, "object", NumberArgs{Number: MaxObjections + 1}), ledger.Denied, DeniedMotion)
	}
	// Who says of himself that his key is stolen takes part in no motion until he has another. The last that two institutions have does not.
	c.want(c.may("chair", GovernanceAddress, "vote"), ledger.OK, 0)
	c.want(c.by("chair", "report_leak", AddressArgs{Address: name("chair")}), ledger.Aborted, AbortRole)
	vice := &Account{Version: ledger.Version, Institution: "alpha", Threshold: 1, Roles: []string{"committee"}, Keys: []AccountKey{bound(newKey(t, 241))}}
	if err := putAccount(c.world, name("vice"), vice, nil); err != nil {
		t.Fatal(err)
	}
	c.want(c.by("chair", "report_leak", AddressArgs{Address: name("chair")}), ledger.OK, 0)
	c.want(c.may("chair", GovernanceAddress, "vote"), ledger.Denied, DeniedFrozen)
}

// TestWindow has a motion change how long owners may object. It changes nothing of a recovery that is under way.
func TestWindow(t *testing.T) {
	c := newCare(t)
	c.want(c.by("admin", "set_window", WindowArgs{Window: 60_000}), ledger.Denied, DeniedMotion)
	for _, window := range []time.Duration{-1, 0, MinWindow - time.Millisecond, MaxWindow + time.Millisecond} {
		c.want(c.by("motion", "set_window", WindowArgs{Window: window.Milliseconds()}), ledger.Aborted, AbortArguments)
	}
	c.want(c.by("motion", "recover", lost("user", newKey(t, 250))), ledger.OK, 0)
	c.want(c.by("motion", "set_window", WindowArgs{Window: MinWindow.Milliseconds()}), ledger.OK, 0)
	c.want(c.by("motion", "recover", lost("admin", newKey(t, 251))), ledger.OK, 0)
	c.pass(MinWindow + time.Millisecond)
	c.want(c.by("clerk", "settle", RecoveryArgs{Account: name("admin"), Number: 1}), ledger.OK, 0)
	c.want(c.by("clerk", "settle", RecoveryArgs{Account: name("user"), Number: 1}), ledger.Aborted, AbortRecovery)
	c.want(c.by("motion", "withdraw", RecoveryArgs{Account: name("user"), Number: 1}), ledger.OK, 0)
}

// The committee leaves a regulator no shorter time to object than two days: it takes the regulator's consent to shorten the window, and a window
// that was short before counts for others.
func TestRegulatorsWindow(t *testing.T) {
	a := regulated(t)
	short := Action{To: AccountsAddress, Method: "set_window", Args: mustMarshal(t, WindowArgs{Window: MinWindow.Milliseconds()})}
	id := a.move(short)
	a.voteFor(id)
	if m := a.motion(id); m.Decided != 0 {
		t.Error("the window was shortened without the regulator's consent")
	}
	wantError(t, a.by("watch", "consent", MotionArgs{ID: id}), ledger.OK, 0)
	a.wait(id)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
	for who, window := range map[string]int64{"watch": DefaultWindow.Milliseconds(), "user": MinWindow.Milliseconds()} {
		a.caller = GovernanceAddress
		_, err := a.call(newAccounts(), "recover", lost(who, newKey(t, 920)))
		wantError(t, err, ledger.OK, 0)
		if r := a.account(t, name(who)).Lifeline.Recovery; r.Until != a.order.UnixMilli+window {
			t.Errorf("%s may object for %d ms, want %d", who, r.Until-a.order.UnixMilli, window)
		}
	}
	free := newAssembly(t, 4)
	id = free.move(short)
	free.voteFor(id)
	if m := free.motion(id); m.Decided == 0 {
		t.Error("a chain without a regulator wants the consent of one")
	}
}

// TestCosigners has an account bind itself to another's signature, and free itself only with it, by motion, or in time.
func TestCosigners(t *testing.T) {
	c := newCare(t)
	day := (24 * time.Hour).Milliseconds()
	set := CosignArgs{Account: name("user"), Cosigner: name("regulator"), Classes: []Class{{Method: "transfer"}, {Contract: token, Method: "approve"}}, Until: c.order.UnixMilli + day}
	own, super := newKey(t, 3), newKey(t, 5)
	by := func(args CosignArgs, signers ...ledger.Key) error {
		t.Helper()
		c.caller, c.signed = args.Account, signers
		_, err := c.call(newAccounts(), "cosign", args)
		return err
	}
	sign := func(ks ...ledger.Key) (s []ledger.Signature) {
		for _, k := range ks {
			s = append(s, ledger.Signature{Algorithm: k.Algorithm, Key: k.Bytes})
		}
		return s
	}
	send := func(to ledger.Address, method string, ks ...ledger.Key) error {
		a := c.account(t, name("user"))
		if err := a.Authorize(c.world, name("user"), ledger.Target{Address: to}, method, sign(ks...), c.order.UnixMilli); err != nil {
			return err
		}
		return a.Cosigned(c.world, to, method, sign(ks...), c.order.UnixMilli)
	}
	c.want(by(set, own), ledger.Denied, DeniedCosigner)
	c.want(c.by("regulator", "cosign", set), ledger.Denied, DeniedRole)
	late, oneself := set, set
	late.Until += MaxCosigning.Milliseconds()
	oneself.Cosigner = name("user")
	c.want(by(late, own, super), ledger.Aborted, AbortArguments)
	c.want(c.by("motion", "cosign", oneself), ledger.Aborted, AbortCosigner)
	c.want(send(token, "transfer", own, super), ledger.Denied, DeniedKey) // it is nobody's business yet
	c.want(by(set, own, super), ledger.OK, 0)

	c.want(send(token, "transfer", own), ledger.Denied, DeniedCosigner)
	c.want(send(token, "transfer", super), ledger.Denied, DeniedThreshold) // never alone
	c.want(send(token, "transfer", own, super), ledger.OK, 0)
	c.want(send(token, "pay", own), ledger.OK, 0)
	c.want(send(token, "approve", own), ledger.Denied, DeniedCosigner)
	c.want(send(name("another contract"), "approve", own), ledger.OK, 0)
	c.want(send(token, "transfer", own, newKey(t, 1)), ledger.Denied, DeniedKey)

	// A co-signer that is frozen signs nothing, and one's own binding of its key does not do for it.
	regulator := c.account(t, name("regulator"))
	regulator.Status = FrozenByAuthority
	if err := write(c.world, AccountStateKey(name("regulator")), &regulator); err != nil {
		t.Fatal(err)
	}
	if err := write(c.world, FreezePlace{Address: name("regulator"), Layer: FrozenByAuthority}.key(), &Freeze{Version: ledger.Version}); err != nil {
		t.Fatal(err)
	}
	c.want(send(token, "transfer", own, super), ledger.Denied, DeniedCosigner)
	regulator.Status = Active
	if err := write(c.world, AccountStateKey(name("regulator")), &regulator); err != nil {
		t.Fatal(err)
	}
	c.want(c.by("user", "bind", BindArgs{Keys: []AccountKey{bound(super)}, Threshold: 1}), ledger.OK, 0)
	c.want(send(token, "transfer", super), ledger.Denied, DeniedCosigner)
	c.want(c.by("user", "unbind", UnbindArgs{Keys: []ledger.Key{super}, Threshold: 1}), ledger.OK, 0)

	// Recovery frees nobody.
	c.want(c.by("clerk", "recover", lost("user", newKey(t, 260))), ledger.OK, 0)
	c.want(c.by("deputy", "confirm", RecoveryArgs{Account: name("user"), Number: 1}), ledger.OK, 0)
	began := c.order.UnixMilli
	c.order.UnixMilli = set.Until
	c.want(send(token, "transfer", own), ledger.Denied, DeniedCosigner)
	c.order.UnixMilli++
	c.want(send(token, "transfer", own), ledger.OK, 0) // it has ended
	c.order.UnixMilli = began

	lift := CosignArgs{Account: name("user"), Cosigner: name("regulator")}
	c.want(by(lift, own), ledger.Denied, DeniedCosigner)
	c.want(by(lift, own, super), ledger.OK, 0)
	c.want(by(lift, own, super), ledger.Aborted, AbortUnchanged)
	c.want(c.by("motion", "cosign", set), ledger.OK, 0)
	c.want(c.by("motion", "cosign", lift), ledger.OK, 0)

	// Nobody stands between the committee and its motions.
	set.Account, set.Classes = name("chair"), []Class{{}}
	c.want(c.by("motion", "cosign", set), ledger.OK, 0)
	chair := c.account(t, name("chair"))
	c.want(chair.Cosigned(c.world, GovernanceAddress, "vote", nil, c.order.UnixMilli), ledger.OK, 0)
	c.want(chair.Cosigned(c.world, AccessAddress, "grant", nil, c.order.UnixMilli), ledger.Denied, DeniedCosigner)
}

// TestTooManySigners refuses a co-signer with whom the account could not send any more, as no transaction has so many signatures.
func TestTooManySigners(t *testing.T) {
	c := newCare(t)
	for i, who := range []string{"user", "crowd"} {
		a := &Account{Version: ledger.Version, Institution: "alpha"}
		for n := range uint64(9) {
			a.Keys = append(a.Keys, bound(newKey(t, 300+uint64(i)*20+n)))
		}
		a.Threshold = 9
		if err := putAccount(c.world, name(who), a, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.want(c.by("motion", "cosign", CosignArgs{Account: name("user"), Cosigner: name("crowd"), Classes: []Class{{}}, Until: 6_000}), ledger.Aborted, AbortCosigner)
	c.want(c.by("motion", "cosign", CosignArgs{Account: name("user"), Cosigner: name("regulator"), Classes: []Class{{}}, Until: 6_000}), ledger.OK, 0)
}

// TestOverlap rotates a key that goes on for a while. It and its successor are of one hand and count once.
func TestOverlap(t *testing.T) {
	c := newCare(t)
	old, other, fresh, third := newKey(t, 3), newKey(t, 270), newKey(t, 271), newKey(t, 272)
	until := c.order.UnixMilli + 1_000
	c.want(c.by("user", "bind", BindArgs{Keys: []AccountKey{bound(other)}, Threshold: 2}), ledger.OK, 0)
	send := func(ks ...ledger.Key) error {
		var s []ledger.Signature
		for _, k := range ks {
			s = append(s, ledger.Signature{Algorithm: k.Algorithm, Key: k.Bytes})
		}
		a := c.account(t, name("user"))
		return a.Authorize(c.world, name("user"), contract, "transfer", s, c.order.UnixMilli)
	}
	for _, bad := range []int64{c.order.UnixMilli, c.order.UnixMilli + MaxOverlap.Milliseconds() + 1, -1} {
		c.want(c.by("user", "rotate", RotateArgs{Old: old, New: bound(fresh), Until: bad}), ledger.Aborted, AbortArguments)
	}
	after := bound(fresh)
	after.From = until + 1
	c.want(c.by("user", "rotate", RotateArgs{Old: old, New: after, Until: until}), ledger.Aborted, AbortKey)
	c.want(c.by("user", "rotate", RotateArgs{Old: old, New: bound(fresh), Until: until}), ledger.OK, 0)
	c.want(send(old, other), ledger.OK, 0)
	c.want(send(fresh, other), ledger.OK, 0)
	c.want(send(old, fresh), ledger.Denied, DeniedThreshold)
	c.want(send(old, fresh, other), ledger.OK, 0)
	c.want(c.by("user", "rotate", RotateArgs{Old: fresh, New: bound(third), Until: until}), ledger.Aborted, AbortKey)
	c.want(c.by("user", "unbind", UnbindArgs{Keys: []ledger.Key{other}, Threshold: 2}), ledger.Aborted, AbortThreshold) // old and fresh do not make two

	// Replaced at once meanwhile, the third is of the same hand.
	c.want(c.by("user", "rotate", RotateArgs{Old: fresh, New: bound(third)}), ledger.OK, 0)
	c.want(send(old, third), ledger.Denied, DeniedThreshold)
	c.want(send(third, other), ledger.OK, 0)
	c.pass(time.Second)
	c.want(send(old, other), ledger.OK, 0)
	c.pass(time.Millisecond)
	c.want(send(old, other), ledger.Denied, DeniedKeyTime)

	// The next change of keys drops what has ended.
	c.want(c.by("user", "bind", BindArgs{Keys: []AccountKey{bound(newKey(t, 273))}, Threshold: 2}), ledger.OK, 0)
	a := c.account(t, name("user"))
	if len(a.Keys) != 3 || a.key(old.Algorithm, old.Bytes) != nil || len(a.Lifeline.Overlaps) != 0 {
		t.Errorf("the account has %d keys and %d overlaps", len(a.Keys), len(a.Lifeline.Overlaps))
	}
	c.want(send(old, other), ledger.Denied, DeniedKey)
}

// TestLifelineRandomly has everybody call everything in any order. Whatever they do, an account can reach its threshold, the index names those with a
// recovery and no others, no key counts but those that are bound, and no keys change without two officers or a motion, and time.
func TestLifelineRandomly(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 1))
	c := newCare(t)
	who := []string{"user", "admin", "deputy", "clerk", "chair", "regulator", "stranger", "motion"}
	owned := who[:len(who)-1]
	fresh := make([]ledger.Key, 12)
	for i := range fresh {
		fresh[i] = newKey(t, uint64(400+i))
	}
	key := func() ledger.Key { return fresh[random.IntN(len(fresh))] }
	settled := 0
	for step := range 6_000 {
		caller, of := who[random.IntN(len(who))], owned[random.IntN(len(owned))]
		account := c.account(t, name(of))
		number := RecoveryArgs{Account: name(of), Number: 1}
		if l := account.Lifeline; l != nil && l.Recovery != nil {
			number.Number = l.Recovery.Number
		}
		before, recovery := account.Keys, account.Lifeline
		var method string
		var args any
		switch random.IntN(12) {
		case 0, 1:
			method, args = "recover", lost(of, key())
		case 2, 3:
			method, args = "confirm", number
		case 4, 5:
			method, args = "settle", number
		case 6:
			method, args = "object", NumberArgs{Number: number.Number}
		case 7:
			method, args = "withdraw", number
		case 8:
			method, args = "report_leak", AddressArgs{Address: name(of)}
		case 9:
			method, args = "clear_leak", AddressArgs{Address: name(of)}
		case 10:
			method, args = "cosign", CosignArgs{Account: name(of), Cosigner: name(owned[random.IntN(len(owned))]), Classes: []Class{{}}, Until: c.order.UnixMilli + 1_000}
		case 11:
			c.pass(time.Duration(random.Int64N(int64(DefaultWindow))))
			continue
		}
		err := c.by(caller, method, args)
		now := c.account(t, name(of))
		if !slices.EqualFunc(before, now.Keys, func(a, b AccountKey) bool { return a.is(b.public()) }) {
			settled++
			r := recovery.Recovery
			if method != "settle" || err != nil || r.Confirmed.IsZero() || c.order.UnixMilli <= r.Until || r.Asked == r.Confirmed && r.Asked != GovernanceAddress ||
				account.HasAny(string(identity.Committee), string(identity.Regulator)) && r.Asked != GovernanceAddress {
				t.Fatalf("seed %d, step %d: %s by %s changed the keys of %s, of which the recovery was %+v", seed, step, method, caller, of, r)
			}
		}
		for _, o := range owned {
			a := c.account(t, name(o))
			if err := checkKeys(c.world, &a, a.Keys); err != nil {
				t.Fatalf("seed %d, step %d: %s: %v", seed, step, o, err)
			}
			_, listed, _ := c.Get(recoveryKey(name(o)))
			if open := a.Lifeline != nil && a.Lifeline.Recovery != nil; open != listed {
				t.Fatalf("seed %d, step %d: %s has a recovery: %v, and the index says %v", seed, step, o, open, listed)
			}
		}
	}
	if settled < 20 {
		t.Errorf("only %d recoveries were settled: the test shows little", settled)
	}
}

// TestWhoRecoversWhom keeps what a review found: an auditor is recovered by motion, an officer reports others with all the keys that his account wants, a
// recovery leaves no co-signer behind, and a motion recovers a regulator without the consent that its lost key would have to give.
func TestWhoRecoversWhom(t *testing.T) {
	c := newCare(t)
	eye := &Account{Version: ledger.Version, Institution: "alpha", Threshold: 1, Roles: []string{"auditor"}, Keys: []AccountKey{bound(newKey(t, 230))}}
	if err := putAccount(c.world, name("eye"), eye, nil); err != nil {
		t.Fatal(err)
	}
	c.want(c.by("clerk", "recover", lost("eye", newKey(t, 231))), ledger.Denied, DeniedMotion)

	second := newKey(t, 232)
	c.want(c.by("deputy", "bind", BindArgs{Keys: []AccountKey{bound(second)}, Threshold: 2}), ledger.OK, 0)
	c.want(c.by("deputy", "report_leak", AddressArgs{Address: name("user")}), ledger.Denied, DeniedThreshold)
	c.want(c.by("clerk", "report_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)
	c.want(c.by("motion", "clear_leak", AddressArgs{Address: name("user")}), ledger.OK, 0)

	c.want(c.by("motion", "cosign", CosignArgs{Account: name("user"), Cosigner: name("clerk"), Classes: []Class{{Method: "pay"}}, Until: c.Order().UnixMilli + MaxCosigning.Milliseconds()}), ledger.OK, 0)
	c.want(c.by("clerk", "recover", lost("user", newKey(t, 233))), ledger.OK, 0)
	c.want(c.by("admin", "confirm", RecoveryArgs{Account: name("user"), Number: 1}), ledger.OK, 0)
	c.pass(DefaultWindow + time.Millisecond)
	c.want(c.by("stranger", "settle", RecoveryArgs{Account: name("user"), Number: 1}), ledger.OK, 0)
	if after := c.account(t, name("user")); len(after.Lifeline.Cosigners) != 0 {
		t.Errorf("after the recovery %+v must sign, too", after.Lifeline.Cosigners)
	}

	watch := name("regulator")
	for method, touches := range map[string]bool{"recover": false, "settle": false, "clear_leak": false, "certify": true, "cosign": true} {
		a := &Action{To: AccountsAddress, Method: method, Args: watch[:]}
		if got, err := a.touches(c.world, []ledger.Address{watch}); err != nil || got != touches {
			t.Errorf("%s of a regulator takes its consent: %t, %v, want %t", method, got, err, touches)
		}
	}
}

// TestTwoStolenKeys is the story of a thief who has one key each of two banks of four, whose accounts want two of three. One bank he silences by the report of a
// leak; the second report would end the committee, and is refused, so that a motion recovers the first.
func TestTwoStolenKeys(t *testing.T) {
	a := newAssembly(t, 4)
	for i := range 4 {
		a.caller = name(fmt.Sprintf("bank-%d", i))
		_, err := a.call(newAccounts(), "bind", BindArgs{Keys: []AccountKey{bound(newKey(t, uint64(930+2*i))), bound(newKey(t, uint64(931+2*i)))}, Threshold: 2})
		wantError(t, err, ledger.OK, 0)
	}
	report := func(bank string) error {
		account := a.account(t, name(bank))
		stolen := []ledger.Signature{{Algorithm: account.Keys[2].Algorithm, Key: account.Keys[2].Key}}
		to := ledger.Target{Address: AccountsAddress}
		wantError(t, account.Authorize(a, name(bank), to, "rotate", stolen, a.order.UnixMilli), ledger.Denied, DeniedThreshold)
		wantError(t, account.Authorize(a, name(bank), to, "report_leak", stolen, a.order.UnixMilli), ledger.OK, 0)
		a.caller = name(bank)
		_, err := a.call(newAccounts(), "report_leak", AddressArgs{Address: name(bank)})
		return err
	}
	wantError(t, report("bank-1"), ledger.OK, 0)
	err := report("bank-2")
	wantError(t, err, ledger.Aborted, AbortRole)
	if !strings.Contains(err.Error(), "have a motion recover it") {
		t.Errorf("refused: %v", err)
	}
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: 1, For: true}), ledger.Denied, DeniedFrozen)
	id := a.move(Action{To: AccountsAddress, Method: "recover", Args: mustMarshal(t, lost("bank-1", newKey(t, 940)))})
	wantError(t, a.by("bank-2", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-3", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-0", "execute", MotionArgs{ID: id}), ledger.OK, 0)
	a.order.UnixMilli += DefaultWindow.Milliseconds() + 1
	a.caller = name("user")
	_, err = a.call(newAccounts(), "settle", RecoveryArgs{Account: name("bank-1"), Number: 1})
	wantError(t, err, ledger.OK, 0)
	wantError(t, report("bank-2"), ledger.OK, 0) // now that the other one speaks again
}

// TestKeysThatEnd has accounts that govern change their keys in every way: old keys may end, but those without an end reach the threshold. Who does not govern
// may let all keys end, and then gets no role by which it would.
func TestKeysThatEnd(t *testing.T) {
	c := newCare(t)
	soon := c.order.UnixMilli + 1_000
	ending := func(n uint64) AccountKey {
		k := bound(newKey(t, n))
		k.Until = soon
		return k
	}
	for i, who := range []string{"chair", "regulator", "user"} {
		n := uint64(950 + 10*i)
		first := c.account(t, name(who)).Keys[0].public()
		ends := c.by(who, "rotate", RotateArgs{Old: first, New: ending(n)})
		if who == "user" {
			c.want(ends, ledger.OK, 0)
			continue
		}
		c.want(ends, ledger.Aborted, AbortThreshold)
		c.want(c.by(who, "rotate", RotateArgs{Old: first, New: ending(n), Until: soon}), ledger.Aborted, AbortThreshold)
		c.want(c.by(who, "bind", BindArgs{Keys: []AccountKey{ending(n)}, Threshold: 2}), ledger.Aborted, AbortThreshold)
		c.want(c.by(who, "bind", BindArgs{Keys: []AccountKey{ending(n)}, Threshold: 1}), ledger.OK, 0)
		c.want(c.by(who, "unbind", UnbindArgs{Keys: []ledger.Key{first}, Threshold: 1}), ledger.Aborted, AbortThreshold)
		late := bound(newKey(t, n+1)) // begins a while after the old keys have ended
		late.From = soon + 2
		c.want(c.by(who, "bind", BindArgs{Keys: []AccountKey{late}, Threshold: 1}), ledger.OK, 0)
		c.want(c.by(who, "unbind", UnbindArgs{Keys: []ledger.Key{first}, Threshold: 1}), ledger.Aborted, AbortThreshold)
		next := bound(newKey(t, n+2))
		next.From = soon
		c.want(c.by(who, "rotate", RotateArgs{Old: first, New: next, Until: soon}), ledger.OK, 0)

		recovery := lost(who, newKey(t, n+3))
		recovery.Keys[0].Until = soon
		c.want(c.by("motion", "recover", recovery), ledger.Aborted, AbortThreshold)
		recovery.Keys[0].Until = 0
		c.want(c.by("motion", "recover", recovery), ledger.OK, 0)
	}
	for _, role := range []string{"committee", "regulator"} {
		c.caller = GovernanceAddress
		_, err := c.call(newAccess(), "grant", RoleArgs{Account: name("user"), Role: role})
		c.want(err, ledger.Aborted, AbortThreshold)
	}
}
