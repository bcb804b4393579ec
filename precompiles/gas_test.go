package precompiles

import (
	"errors"
	"maps"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestGasRunsOut has the gas of calls run out at each row that they read. They end with out_of_gas then, and never as if what was not read spoke
// against them, or for them.
func TestGasRunsOut(t *testing.T) {
	both := &Binding{Paths: []identity.Path{path(1), path(2)}, Until: 900_000}
	agencies := func() *world {
		a := newAssembly(t, 4)
		one, two := trusted("bank-0", "one", 1), trusted("bank-0", "two", 2)
		one.Authority.Roles, two.Authority.Roles = []string{"deployer", "node", "user"}, []string{"deployer", "node", "user"}
		a.pass(Reform{Trust: []TrustedRoot{one, two}, Policies: []InstitutionPolicy{need("bank-0", "deployer", 2)}})
		wantError(t, a.said("bank-0", "freeze", StatusArgs{Fingerprint: path(2).Leaf}), ledger.OK, 0)
		return a.world
	}
	for _, c := range []struct {
		story  string
		world  func() *world
		caller string
		on     Contract
		method string
		args   any
		status ledger.Status // with enough gas
		code   uint32
	}{
		{"a leak of one of the committee, which goes on without it", func() *world { return newAssembly(t, 4).world }, "bank-0", newAccounts(), "report_leak", AddressArgs{Address: name("bank-0")}, ledger.OK, 0},
		{"a freeze of an account that there is not", func() *world { w, _ := newGuarded(t); return w }, "beta officer", newAccess(), "freeze", FreezeArgs{Account: name("nobody"), Reason: "fraud"}, ledger.Aborted, AbortMissing},
		{"a freeze of a node that there is not", func() *world { w, _ := newSeven(t); return w }, "regulator", newAccess(), "freeze_node", FreezeNodeArgs{Node: [32]byte{9}, Reason: "intrusion"}, ledger.Aborted, AbortArguments},
		{"the end of two freezes", func() *world {
			w, _ := newGuarded(t)
			for _, by := range []string{"admin", "regulator"} {
				_, err := w.as(by).call(newAccess(), "freeze", FreezeArgs{Account: name("user"), Reason: "fraud"})
				wantError(t, err, ledger.OK, 0)
			}
			return w
		}, "regulator 2", newAccess(), "unfreeze", UnfreezeArgs{Account: name("user"), Reason: "mistake"}, ledger.OK, 0},
		{"a call that takes two keys, of which a frozen co-signer has one", func() *world {
			w, _ := newGuarded(t)
			_, err := w.as("regulator").call(newAccess(), "freeze", FreezeArgs{Account: name("registrar"), Reason: "fraud"})
			wantError(t, err, ledger.OK, 0)
			admin := w.account(t, name("admin"))
			admin.lifeline().Cosigners = []Cosigner{{Account: name("registrar"), Classes: []Class{{Method: "transfer"}}, Until: w.order.UnixMilli}}
			wantError(t, write(w, AccountStateKey(name("admin")), &admin), ledger.OK, 0)
			wantError(t, write(w, PolicyStateKey(AccessAddress, "grant"), &PolicyRow{Version: ledger.Version, Number: 1, Policy: Policy{Rule: RuleAny, Keys: 2}}), ledger.OK, 0)
			w.signed = []ledger.Key{newKey(t, 1), newKey(t, 2)}
			return w
		}, "admin", newAccess(), "grant", RoleArgs{Account: name("user"), Role: "operator"}, ledger.Denied, DeniedThreshold},
		{"certificates of two agencies, of which one is frozen", agencies, "bank-0", newAccounts(), "certify", CertifyArgs{Account: name("user"), Certificate: both}, ledger.Aborted, AbortCertificate},
		{"a role for which such certificates do not do", func() *world {
			w := agencies()
			account := w.account(t, name("user"))
			account.Certificate = both
			wantError(t, write(w, AccountStateKey(name("user")), &account), ledger.OK, 0)
			return w
		}, "bank-0", newAccess(), "grant", RoleArgs{Account: name("user"), Role: "deployer"}, ledger.Aborted, AbortRole},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := c.world()
			before := maps.Clone(w.state)
			for enough := 0; ; enough++ {
				rows := enough
				w.state, w.rows, w.caller = maps.Clone(before), &rows, name(c.caller)
				_, err := w.call(c.on, c.method, c.args)
				if rows >= 0 {
					wantError(t, err, c.status, c.code)
					if enough == 0 {
						t.Error("it reads nothing")
					}
					return
				}
				if e, ok := errors.AsType[*Error](err); !ok || e.Status != ledger.OutOfGas {
					t.Errorf("with gas for %d rows it ends with %v, want out_of_gas", enough, err)
				}
			}
		})
	}
}
