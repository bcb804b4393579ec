package precompiles

import (
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// What changes the chain and has no policy, nobody may call: a method that is new must be in its contract's table.
func TestPolicyTables(t *testing.T) {
	for _, c := range All() {
		policies := c.(*system).policies
		for _, m := range c.Schema().Methods {
			p, there := policies[m.Name]
			if there != (m.Kind == ledger.MethodTx) {
				t.Errorf("%s.%s is a %s: has a policy: %t", c.Name(), m.Name, m.Kind, there)
			}
			if d, system := DefaultPolicy(c.Address(), m.Name); !system || d.String() != p.String() {
				t.Errorf("DefaultPolicy(%s.%s) = %s, %t", c.Name(), m.Name, d, system)
			}
			delete(policies, m.Name)
		}
		for name := range policies {
			t.Errorf("%s has a policy for the method %s, which there is not", c.Name(), name)
		}
	}
	if p, system := DefaultPolicy(AccessAddress, "nosuch"); !system || p.Rule != RuleForbidden {
		t.Errorf("a method that there is not: %s, %t", p, system)
	}
	if _, system := DefaultPolicy(name("admin"), "pay"); system {
		t.Error("an assigned address is taken for a system contract")
	}
}

// signedWorld is a world in which keys sign, and the sender of the transaction may be another than the caller.
type signedWorld struct {
	*world
	signers []ledger.Key
	origin  *ledger.Address
}

func (w signedWorld) Signers() []ledger.Key { return w.signers }

func (w signedWorld) Origin() ledger.Address {
	if w.origin != nil {
		return *w.origin
	}
	return w.caller
}

// A row takes the place of what the release says, for each rule.
func TestPolicyRows(t *testing.T) {
	w := newWorld(t)
	args := mustMarshal(t, RoleArgs{Account: name("user"), Role: "operator"})
	somebody := name("somebody")
	for _, c := range []struct {
		story   string
		policy  Policy
		by      string
		signers []ledger.Key
		origin  *ledger.Address
		code    uint32
	}{
		{"nobody", Policy{}, "admin", nil, nil, DeniedRole},
		{"everybody, and then the method asks", bySelf(), "user", nil, nil, DeniedRole},
		{"the role", byAny(identity.InstitutionAdmin), "admin", nil, nil, 0},
		{"another role", byAny(identity.Committee), "admin", nil, nil, DeniedRole},
		{"the institution", Policy{Rule: RuleAny, Institutions: []string{"alpha"}}, "admin", nil, nil, 0},
		{"another institution", Policy{Rule: RuleAny, Institutions: []string{"beta"}}, "admin", nil, nil, DeniedInstitution},
		{"a motion", byMajority(), "admin", nil, nil, DeniedMotion},
		{"two institutions", Policy{Rule: RuleCount, N: 2}, "admin", nil, nil, DeniedMotion},
		{"a regulator besides", Policy{Rule: RuleAny, Regulator: true}, "admin", nil, nil, DeniedMotion},
		{"after a day", Policy{Rule: RuleAny, Lock: 86_400_000}, "admin", nil, nil, DeniedMotion},
		{"after ten blocks", Policy{Rule: RuleSelf, Blocks: 10}, "admin", nil, nil, DeniedMotion},
		{"one key of two", Policy{Rule: RuleAny, Keys: 2}, "admin", []ledger.Key{newKey(t, 1), newKey(t, 7)}, nil, DeniedThreshold},
		{"two keys", Policy{Rule: RuleAny, Keys: 2}, "admin", []ledger.Key{newKey(t, 1), newKey(t, 8)}, nil, 0},
		{"two keys, for somebody else", Policy{Rule: RuleAny, Keys: 2}, "admin", []ledger.Key{newKey(t, 1), newKey(t, 8)}, &somebody, DeniedThreshold},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := newWorld(t)
			w.caller = name("admin")
			_, err := w.call(newAccounts(), "bind", BindArgs{Keys: []AccountKey{bound(newKey(t, 8))}, Threshold: 1})
			wantError(t, err, ledger.OK, 0)
			wantError(t, write(w, PolicyStateKey(AccessAddress, "grant"), &PolicyRow{Version: ledger.Version, Number: 1, Policy: c.policy}), ledger.OK, 0)
			w.caller = name(c.by)
			_, err = newAccess().Invoke(signedWorld{w, c.signers, c.origin}, "grant", args)
			if c.code == 0 {
				wantError(t, err, ledger.OK, 0)
				return
			}
			wantError(t, err, ledger.Denied, c.code)
		})
	}
	// No row keeps anybody from reading, or a motion from acting.
	wantError(t, write(w, PolicyStateKey(AccessAddress, "roles"), &PolicyRow{Version: ledger.Version, Number: 1}), ledger.OK, 0)
	_, err := w.call(newAccess(), "roles", AddressArgs{Address: name("user")})
	wantError(t, err, ledger.OK, 0)
	wantError(t, write(w, PolicyStateKey(AccessAddress, "grant"), &PolicyRow{Version: ledger.Version, Number: 1}), ledger.OK, 0)
	w.caller = GovernanceAddress
	_, err = newAccess().Invoke(w, "grant", args)
	wantError(t, err, ledger.OK, 0)
}

// Two keys of one institution are two of an account, or of two of its accounts of which one co-signs for the other.
func TestKeysOfOneInstitution(t *testing.T) {
	cosigning := func(who ...string) func(*world, *Account) {
		return func(w *world, a *Account) {
			for _, other := range who {
				a.lifeline().Cosigners = append(a.lifeline().Cosigners, Cosigner{Account: name(other), Classes: []Class{{Method: "anything"}}, Until: w.order.UnixMilli})
			}
		}
	}
	// changed is cosigning of the registrar, whose row is changed, too.
	changed := func(change func(*world, *Account)) func(*world, *Account) {
		return func(w *world, a *Account) {
			cosigning("registrar")(w, a)
			other, _, err := ReadAccount(w, name("registrar"))
			wantError(t, err, ledger.OK, 0)
			change(w, &other)
			wantError(t, write(w, AccountStateKey(name("registrar")), &other), ledger.OK, 0)
		}
	}
	for _, c := range []struct {
		story   string
		change  func(*world, *Account)
		signers []uint64 // 1 is the admin's key, 2 the registrar's, 4 that of an account of another institution
		code    uint32
	}{
		{"an officer and another, who co-signs", cosigning("registrar"), []uint64{1, 2}, 0},
		{"the officer alone", cosigning("registrar"), []uint64{1}, DeniedThreshold},
		{"another who does not co-sign", func(*world, *Account) {}, []uint64{1, 2}, DeniedThreshold},
		{"a co-signer of another institution", cosigning("stranger"), []uint64{1, 4}, DeniedThreshold},
		{"one of each", cosigning("registrar", "stranger"), []uint64{1, 2, 4}, 0},
		{"a co-signer whose time is over", func(w *world, a *Account) {
			cosigning("registrar")(w, a)
			a.Lifeline.Cosigners[0].Until--
		}, []uint64{1, 2}, DeniedThreshold},
		{"a co-signer who is frozen", changed(func(w *world, a *Account) {
			a.Status = FrozenByAuthority
			place := FreezePlace{Address: name("registrar"), Layer: FrozenByAuthority}
			wantError(t, write(w, place.key(), &Freeze{Version: ledger.Version, By: []ledger.Address{}, Reason: "leak"}), ledger.OK, 0)
		}), []uint64{1, 2}, DeniedThreshold},
		{"a co-signer whose key is reported as leaked", changed(func(_ *world, a *Account) { a.lifeline().Leak = &Leak{} }), []uint64{1, 2}, DeniedThreshold},
		{"a co-signer whose key has ended", changed(func(w *world, a *Account) { a.Keys[0].Until = w.order.UnixMilli - 1 }), []uint64{1, 2}, DeniedThreshold},
		{"one key, bound to both", changed(func(_ *world, a *Account) { a.Keys = []AccountKey{bound(newKey(t, 1))} }), []uint64{1}, DeniedThreshold},
		{"one hand: a co-signer's old key and its new one", changed(func(_ *world, a *Account) {
			a.Keys = append(a.Keys, bound(newKey(t, 9)))
			a.lifeline().Overlaps = []Overlap{{Old: newKey(t, 2), New: newKey(t, 9)}}
		}), []uint64{2, 9}, DeniedThreshold},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := newWorld(t)
			admin, _, err := ReadAccount(w, name("admin"))
			wantError(t, err, ledger.OK, 0)
			admin.Roles = append(admin.Roles, "committee")
			slices.Sort(admin.Roles)
			c.change(w, &admin)
			wantError(t, write(w, AccountStateKey(name("admin")), &admin), ledger.OK, 0)
			var signers []ledger.Key
			for _, n := range c.signers {
				signers = append(signers, newKey(t, n))
			}
			w.caller = name("admin")
			signed := signedWorld{w, signers, nil}
			want := func(_ []byte, err error) {
				t.Helper()
				if c.code == 0 {
					wantError(t, err, ledger.OK, 0)
				} else {
					wantError(t, err, ledger.Denied, c.code)
				}
			}

			// To call a method, and to vote on a motion that does.
			policy := PolicyRow{Version: ledger.Version, Number: 1, Policy: Policy{Rule: RuleAny, Keys: 2}}
			wantError(t, write(w, PolicyStateKey(AccessAddress, "grant"), &policy), ledger.OK, 0)
			grant := mustMarshal(t, RoleArgs{Account: name("user"), Role: "operator"})
			want(newAccess().Invoke(signed, "grant", grant))
			policy.Policy.Rule = RuleMajority
			wantError(t, write(w, PolicyStateKey(AccessAddress, "revoke"), &policy), ledger.OK, 0)
			want(newGovernance().Invoke(signed, "propose", mustMarshal(t, ProposeArgs{Actions: []Action{{To: AccessAddress, Method: "revoke", Args: grant}}})))
		})
	}
}
