package executor

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// permission says who may call a method of a system contract.
type permission struct {
	to     ledger.Address
	method string
	what   string // about what, where there are several rows of a method
	before func() // what has happened; nil: nothing
	args   func() any
	may    []string // accounts that may
	vain   []string // that may, too, and what they ask for is aborted with code for reasons that are not theirs
	code   uint32
}

// TestPermissions has an account of each role call each method of each system contract, in signed transactions. Accounts
// are named by their roles; those of the institution alpha have no institution in their names.
func TestPermissions(t *testing.T) {
	roles := []identity.Role{
		identity.Committee, identity.Regulator, identity.Auditor, identity.InstitutionAdmin, identity.Deployer, identity.Owner,
		identity.User, identity.Operator, identity.Registrar, identity.Compliance, identity.Node,
	}
	accounts := []entry{{"nobody", "alpha", ""}, {"target", "alpha", "user"}, {"deputy", "alpha", "institution-admin"}, {"clerk", "alpha", "registrar"}, {"gamma", "gamma", "committee"}, {"officer", "alpha", "compliance"}, {"watch", "alpha", "regulator"}}
	callers := []string{"nobody"}
	for _, institution := range []string{"alpha", "beta"} {
		for _, role := range roles {
			name := string(role)
			if institution != "alpha" {
				name = institution + " " + name
			}
			accounts = append(accounts, entry{name, institution, string(role)})
			callers = append(callers, name)
		}
	}
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta", "gamma"}, accounts)
	do := func(by string, to ledger.Address, method string, args any) ledger.Receipt {
		t.Helper()
		r := c.block(c.tx(by, to, method, args))[0]
		c.want(r, ledger.OK, 0)
		return r
	}

	leaf := keys.Digest{1}
	params := ledger.DefaultParams()
	params.BatchDelay = 7
	propose := precompiles.ProposeArgs{Reform: &precompiles.Reform{Params: &params}}
	motion := precompiles.MotionArgs{ID: 1}
	certify := func(account string) func() any {
		return func() any {
			return precompiles.CertifyArgs{Account: address(account), Certificate: &precompiles.Binding{Paths: []identity.Path{{Leaf: leaf}}, Until: 1_900_000}}
		}
	}
	key := ledger.KeyOf(newSigner(t, "another").Public())
	bound := precompiles.AccountKey{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1}
	register := func(roles ...string) any {
		return precompiles.RegisterArgs{Institution: "alpha", Accounts: []precompiles.NewAccount{{Threshold: 1, Roles: roles, Keys: []precompiles.AccountKey{bound}}}}
	}
	called := precompiles.ProposeArgs{Actions: []precompiles.Action{{
		To: precompiles.AccessAddress, Method: "grant", Args: c.marshal(precompiles.RoleArgs{Account: address("nobody"), Role: "auditor"}),
	}}}
	yes := precompiles.VoteArgs{ID: 1, For: true}
	proposed := func() { do("gamma", precompiles.GovernanceAddress, "propose", propose) }
	carried := func() {
		proposed()
		do("beta committee", precompiles.GovernanceAddress, "vote", yes)
	}
	code := probe().module(t, probeSchema())
	mended := probe()
	mended.method("mend", succeed)
	other := mended.module(t, nil)
	var self ledger.Address
	deployed := func() {
		r := do("deployer", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: code})
		if err := ledger.Unmarshal(r.Data, &self); err != nil {
			t.Fatal(err)
		}
	}
	halt := func() any { return precompiles.HaltArgs{Address: self, Reason: "a doubt"} }
	paused := func() {
		deployed()
		do("deployer", precompiles.ContractsAddress, "pause", halt())
	}
	carry := func(method string, args any) {
		t.Helper()
		if err := c.carry(precompiles.ContractsAddress, method, args); err != nil {
			t.Fatal(err)
		}
	}
	reviewed := func() { carry("set_mode", precompiles.ModeArgs{Mode: precompiles.DeployReview}) }
	release := func() {
		reviewed()
		do("deployer", precompiles.ContractsAddress, "propose", precompiles.ProposalArgs{Code: code})
	}
	approval := func() precompiles.ApproveArgs { return (&pipeline{chain: c}).approval(1) }
	visible := func(before func()) func() {
		return func() {
			c.activate(precompiles.Activation{Feature: precompiles.Visibility, Height: c.head.Height() + 2, Release: "1"})
			before()
		}
	}
	is := func(args any) func() any { return func() any { return args } }
	says := func(by, method string) func() {
		return func() { do(by, precompiles.CertificatesAddress, method, precompiles.StatusArgs{Fingerprint: leaf}) }
	}
	of := func(account string) func() any { return is(precompiles.AddressArgs{Address: address(account)}) }
	frozen := func(account, by string) func() {
		return func() {
			do(by, precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address(account), Reason: "suspicion"})
		}
	}
	leaked := func(by string) func() {
		return func() {
			do(by, precompiles.AccountsAddress, "report_leak", precompiles.AddressArgs{Address: address("target")})
		}
	}
	recovery := func(account string) func() any {
		return is(precompiles.RecoverAccountArgs{Account: address(account), Keys: []precompiles.AccountKey{bound}, Threshold: 1, Reason: "lost", Evidence: keys.Digest{1}})
	}
	lost := func(by string) func() {
		return func() { do(by, precompiles.AccountsAddress, "recover", recovery("target")()) }
	}
	number := precompiles.RecoveryArgs{Account: address("target"), Number: 1}
	bookkeepers := []string{"compliance", "institution-admin", "beta compliance", "beta institution-admin"}
	waited := func() { do("nobody", precompiles.AccountsAddress, "get", precompiles.AddressArgs{}) } // a block
	token := func(version string) any {
		return precompiles.NameVersionArgs{Name: "token", Version: version, Address: self}
	}
	named := func() {
		deployed()
		do("deployer", precompiles.CNSAddress, "register", token("1"))
	}
	published := func() {
		named()
		do("deployer", precompiles.CNSAddress, "publish", token("2"))
	}
	version := func(label string) func() any { return is(precompiles.VersionArgs{Name: "token", Version: label}) }
	everybody := callers
	committees, admins, registrars := []string{"committee", "beta committee"}, []string{"institution-admin"}, []string{"registrar", "institution-admin"}
	own := []string{"committee", "institution-admin"} // of alpha
	regulators := []string{"regulator", "beta regulator"}
	authorities := append(regulators, "compliance")    // which freeze for some time
	guards := append(authorities, "institution-admin") // of alpha, and the authorities
	freeze := func(account string) func() any {
		return is(precompiles.FreezeArgs{Account: address(account), Reason: "suspicion"})
	}
	observer := newSigner(t, "observer").Public()
	observing := identity.NodeIDOf(c.suite, observer)
	observed := func() {
		candidate := precompiles.Candidate{Institution: "alpha", Key: ledger.KeyOf(observer), Address: "localhost:1"}
		if err := c.carry(precompiles.MembersAddress, "reform", precompiles.ReformArgs{Reform: precompiles.Reform{Observe: []precompiles.Candidate{candidate}}}); err != nil {
			t.Fatal(err)
		}
	}
	people, deployers := keys.Digest{2}, keys.Digest{3} // roots: one agency vouches for users, the other one for who deploys
	judged := func() {
		root := func(agency string, root keys.Digest, roles ...string) precompiles.TrustedRoot {
			return precompiles.TrustedRoot{Institution: "alpha", Authority: precompiles.Authority{Agency: agency, Root: root, Until: 1_900_000, Roles: roles}}
		}
		reform := precompiles.Reform{Trust: []precompiles.TrustedRoot{root("people", people, "node", "user"), root("code", deployers, "deployer")}}
		if err := c.carry(precompiles.MembersAddress, "reform", precompiles.ReformArgs{Reform: reform}); err != nil {
			t.Fatal(err)
		}
	}
	under := func(account string, roots ...keys.Digest) precompiles.CertifyArgs {
		b := &precompiles.Binding{Until: 1_900_000}
		for _, root := range roots {
			b.Paths = append(b.Paths, identity.Path{Leaf: leaf, Root: root})
		}
		return precompiles.CertifyArgs{Account: address(account), Certificate: b}
	}
	certified := func(roots ...keys.Digest) func() {
		return func() {
			judged()
			do("registrar", precompiles.AccountsAddress, "certify", under("target", roots...))
		}
	}
	freezeNode := func(node identity.NodeID) func() any {
		return is(precompiles.FreezeNodeArgs{Node: node, Reason: "suspicion"})
	}
	unfreeze := is(precompiles.UnfreezeArgs{Account: address("target"), Reason: "error"})
	spokesmen := append(registrars, "beta registrar", "beta institution-admin") // each for its institution
	table := []permission{
		{to: precompiles.AccountsAddress, method: "register", what: "a user", args: is(register("user")), may: registrars},
		{to: precompiles.AccountsAddress, method: "register", what: "an auditor", args: is(register("auditor")), vain: registrars, code: precompiles.AbortRole},
		{to: precompiles.AccountsAddress, method: "bind", args: is(precompiles.BindArgs{Keys: []precompiles.AccountKey{bound}, Threshold: 1}), may: everybody},
		{to: precompiles.AccountsAddress, method: "unbind", args: is(precompiles.UnbindArgs{Keys: []ledger.Key{key}, Threshold: 1}), vain: everybody, code: precompiles.AbortKey},
		{to: precompiles.AccountsAddress, method: "rotate", args: is(precompiles.RotateArgs{Old: key, New: bound}), vain: everybody, code: precompiles.AbortKey},
		{to: precompiles.AccountsAddress, method: "certify", what: "a user", args: certify("target"), may: registrars},
		{to: precompiles.AccountsAddress, method: "certify", what: "somebody without a role", args: certify("nobody"), may: registrars},
		{to: precompiles.AccountsAddress, method: "certify", what: "a registrar", args: certify("clerk"), may: admins},
		{to: precompiles.AccountsAddress, method: "certify", what: "an institution-admin", args: certify("deputy"), may: admins},
		{to: precompiles.AccountsAddress, method: "certify", what: "itself", args: certify("institution-admin"), may: admins},
		{to: precompiles.AccountsAddress, method: "certify", what: "the committee", args: certify("committee"), may: []string{"committee"}},
		{to: precompiles.AccountsAddress, method: "certify", what: "a deployer, vouched for as such", before: judged, args: is(under("deployer", people, deployers)), may: admins},
		{to: precompiles.AccountsAddress, method: "certify", what: "a deployer, vouched for as a user", before: judged, args: is(under("deployer", people)), vain: admins, code: precompiles.AbortCertificate},
		{to: precompiles.AccountsAddress, method: "cosign", what: "a user", args: is(precompiles.CosignArgs{Account: address("target"), Cosigner: address("regulator"), Classes: []precompiles.Class{{}}, Until: 2_000_000})},
		{to: precompiles.AccountsAddress, method: "report_leak", args: of("target"), may: registrars},
		{to: precompiles.AccountsAddress, method: "report_leak", what: "of the committee", args: of("committee"), may: []string{"committee"}},
		{to: precompiles.AccountsAddress, method: "report_leak", what: "of a regulator", args: of("regulator"), may: []string{"regulator"}},
		{to: precompiles.AccountsAddress, method: "clear_leak", what: "that a registrar reported", before: leaked("clerk"), args: of("target"), may: admins},
		{to: precompiles.AccountsAddress, method: "recover", args: recovery("target"), may: registrars},
		{to: precompiles.AccountsAddress, method: "recover", what: "a regulator", args: recovery("regulator")},
		{to: precompiles.AccountsAddress, method: "confirm", what: "what a registrar asked for", before: lost("clerk"), args: is(number), may: admins},
		{to: precompiles.AccountsAddress, method: "object", args: is(precompiles.NumberArgs{Number: 1}), vain: everybody, code: precompiles.AbortRecovery},
		{to: precompiles.AccountsAddress, method: "confirm", what: "by an admin of today", before: func() {
			do("committee", precompiles.AccessAddress, "revoke", precompiles.RoleArgs{Account: address("institution-admin"), Role: "institution-admin"})
			do("committee", precompiles.AccessAddress, "grant", precompiles.RoleArgs{Account: address("institution-admin"), Role: "institution-admin"})
			lost("clerk")()
		}, args: is(number)},
		{to: precompiles.AccountsAddress, method: "recover", what: "by a registrar of today", before: func() {
			do("committee", precompiles.AccessAddress, "revoke", precompiles.RoleArgs{Account: address("registrar"), Role: "registrar"})
			do("committee", precompiles.AccessAddress, "grant", precompiles.RoleArgs{Account: address("registrar"), Role: "registrar"})
		}, args: recovery("target"), may: admins},
		{to: precompiles.AccountsAddress, method: "withdraw", before: lost("clerk"), args: is(number), may: registrars},
		{to: precompiles.AccountsAddress, method: "settle", what: "before it is confirmed", before: lost("clerk"), args: is(number), vain: everybody, code: precompiles.AbortRecovery},
		{to: precompiles.AccountsAddress, method: "set_window", args: is(precompiles.WindowArgs{Window: 60_000})},
		{to: precompiles.AccountsAddress, method: "window", args: is(none), may: everybody},
		{to: precompiles.AccountsAddress, method: "recoveries", args: is(precompiles.RecoveriesArgs{}), may: everybody},
		{to: precompiles.AccountsAddress, method: "get", args: of("target"), may: everybody},
		{to: precompiles.AccountsAddress, method: "find", args: is(precompiles.FindArgs{Key: key}), may: everybody},

		{to: precompiles.CorrectionsAddress, method: "propose", what: "of what takes none", args: is(precompiles.ProposeCorrectionArgs{
			Transactions: []precompiles.Corrected{{Tx: ledger.TxID{1}, Height: 1}}, Reason: "fault", Evidence: keys.Digest{1},
			Entries: []precompiles.Entry{{Contract: address("nobody"), Account: address("target"), Amount: *big.NewInt(1)}},
		}), before: waited, vain: bookkeepers, code: precompiles.AbortMissing},
		{to: precompiles.CorrectionsAddress, method: "approve", args: is(precompiles.NumberArgs{Number: 1}), vain: bookkeepers, code: precompiles.AbortCorrection},
		{to: precompiles.CorrectionsAddress, method: "withdraw", args: is(precompiles.NumberArgs{Number: 1}), vain: bookkeepers, code: precompiles.AbortCorrection},
		{to: precompiles.CorrectionsAddress, method: "apply", args: is(precompiles.NumberArgs{Number: 1}), vain: bookkeepers, code: precompiles.AbortCorrection},
		{to: precompiles.CorrectionsAddress, method: "get", args: is(precompiles.NumberArgs{Number: 1}), may: everybody},
		{to: precompiles.CorrectionsAddress, method: "list", args: is(precompiles.AfterNumberArgs{}), may: everybody},
		{to: precompiles.CorrectionsAddress, method: "of", args: is(precompiles.CorrectionsOfArgs{}), may: everybody},

		{to: precompiles.ContractsAddress, method: "deploy", args: is(precompiles.DeployArgs{Code: code}), may: []string{"deployer", "beta deployer"}},
		{to: precompiles.ContractsAddress, method: "replace", before: deployed, args: func() any { return precompiles.ReplaceArgs{Address: self, Code: code} }, vain: []string{"deployer"}, code: precompiles.AbortUnchanged},
		{to: precompiles.ContractsAddress, method: "replace", what: "by other code", before: deployed, args: func() any { return precompiles.ReplaceArgs{Address: self, Code: other, Breaking: true} }, may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "transfer", before: deployed, args: func() any { return precompiles.TransferArgs{Address: self, Owner: address("nobody")} }, may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "pause", before: deployed, args: halt, may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "resume", before: paused, args: func() any { return precompiles.AddressArgs{Address: self} }, may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "resume", what: "what a motion paused", before: func() {
			deployed()
			carry("pause", halt())
		}, args: func() any { return precompiles.AddressArgs{Address: self} }},
		{to: precompiles.ContractsAddress, method: "retire", before: paused, args: halt, may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "set_mode", args: is(precompiles.ModeArgs{Mode: precompiles.DeployReview})},
		{to: precompiles.ContractsAddress, method: "deploy", what: "where code is reviewed", before: reviewed, args: is(precompiles.DeployArgs{Code: code})},
		{to: precompiles.ContractsAddress, method: "deploy", what: "where deployers are listed", before: func() {
			carry("set_mode", precompiles.ModeArgs{Mode: precompiles.DeployListed, Deployers: []ledger.Address{address("beta deployer")}})
		}, args: is(precompiles.DeployArgs{Code: code}), may: []string{"beta deployer"}},
		{to: precompiles.ContractsAddress, method: "replace", what: "where code is reviewed", before: func() {
			deployed()
			reviewed()
		}, args: func() any { return precompiles.ReplaceArgs{Address: self, Code: code} }},
		{to: precompiles.ContractsAddress, method: "propose", args: is(precompiles.ProposalArgs{Code: code})},
		{to: precompiles.ContractsAddress, method: "propose", what: "where code is reviewed", before: reviewed, args: is(precompiles.ProposalArgs{Code: code}), may: []string{"deployer", "beta deployer"}},
		{to: precompiles.ContractsAddress, method: "approve", before: release, args: func() any { return approval() }, may: []string{"beta committee"}},
		{to: precompiles.ContractsAddress, method: "withdraw", before: release, args: is(precompiles.ReleaseArgs{ID: 1}), may: []string{"deployer", "institution-admin"}, vain: []string{"beta committee"}, code: precompiles.AbortUnchanged},
		{to: precompiles.ContractsAddress, method: "withdraw", what: "an approval", before: func() {
			release()
			do("beta committee", precompiles.ContractsAddress, "approve", approval())
		}, args: is(precompiles.ReleaseArgs{ID: 1}), may: []string{"deployer", "institution-admin", "beta committee"}},
		{to: precompiles.ContractsAddress, method: "release", what: "too early", before: release, args: is(precompiles.ReleaseArgs{ID: 1}), vain: []string{"deployer"}, code: precompiles.AbortRelease},
		{to: precompiles.ContractsAddress, method: "release", before: func() {
			release()
			do("gamma", precompiles.ContractsAddress, "approve", approval())
		}, args: is(precompiles.ReleaseArgs{ID: 1}), may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "mode", args: is(none), may: everybody},
		{to: precompiles.ContractsAddress, method: "proposal", args: is(precompiles.ReleaseArgs{ID: 1}), may: everybody},
		{to: precompiles.ContractsAddress, method: "releases", args: is(precompiles.ReleasesArgs{}), may: everybody},
		{to: precompiles.ContractsAddress, method: "halted", args: of("target"), may: everybody},
		{to: precompiles.ContractsAddress, method: "history", args: is(precompiles.HistoryArgs{}), may: everybody},
		{to: precompiles.ContractsAddress, method: "info", args: of("target"), may: everybody},
		{to: precompiles.ContractsAddress, method: "code", args: is(precompiles.CodeArgs{}), may: everybody},
		{to: precompiles.ContractsAddress, method: "schema", args: of("target"), may: everybody},

		{to: precompiles.ContractsAddress, method: "restrict", before: visible(deployed), args: func() any {
			return precompiles.RestrictArgs{Address: self, Visible: precompiles.VisibleParties}
		}, may: []string{"deployer"}},
		{to: precompiles.ContractsAddress, method: "restrict", what: "differently", before: visible(func() {
			deployed()
			do("deployer", precompiles.ContractsAddress, "restrict", precompiles.RestrictArgs{Address: self, Visible: precompiles.VisibleParties})
		}), args: func() any { return precompiles.RestrictArgs{Address: self} }},
		{to: precompiles.ContractsAddress, method: "restriction", before: visible(deployed), args: of("target"), may: everybody},

		{to: precompiles.AccessAddress, method: "grant", args: is(precompiles.RoleArgs{Account: address("target"), Role: "owner"}), may: own},
		{to: precompiles.AccessAddress, method: "grant", what: "what the certificates do for", before: certified(people, deployers), args: is(precompiles.RoleArgs{Account: address("target"), Role: "deployer"}), may: own},
		{to: precompiles.AccessAddress, method: "grant", what: "what the certificates do not do for", before: certified(people), args: is(precompiles.RoleArgs{Account: address("target"), Role: "deployer"}), vain: own, code: precompiles.AbortRole},
		{to: precompiles.AccessAddress, method: "grant", what: "a place in the committee", args: is(precompiles.RoleArgs{Account: address("target"), Role: "committee"})},
		{to: precompiles.AccessAddress, method: "grant", what: "the place of a regulator", args: is(precompiles.RoleArgs{Account: address("nobody"), Role: "regulator"})},
		{to: precompiles.AccessAddress, method: "grant", what: "the place of an auditor", args: is(precompiles.RoleArgs{Account: address("nobody"), Role: "auditor"})},
		{to: precompiles.AccessAddress, method: "grant", what: "what does not go with a role", args: is(precompiles.RoleArgs{Account: address("target"), Role: "operator"}), vain: own, code: precompiles.AbortRole},
		{to: precompiles.AccessAddress, method: "revoke", args: is(precompiles.RoleArgs{Account: address("target"), Role: "user"}), may: own},
		{to: precompiles.AccessAddress, method: "revoke", what: "an admin's", args: is(precompiles.RoleArgs{Account: address("deputy"), Role: "institution-admin"}), may: own},
		{to: precompiles.AccessAddress, method: "revoke", what: "one's own", args: is(precompiles.RoleArgs{Account: address("institution-admin"), Role: "institution-admin"}), may: []string{"committee"}, vain: admins, code: precompiles.AbortRole},
		{to: precompiles.AccessAddress, method: "revoke", what: "a place in the committee", args: is(precompiles.RoleArgs{Account: address("gamma"), Role: "committee"})},
		{to: precompiles.AccessAddress, method: "revoke", what: "a regulator's", args: is(precompiles.RoleArgs{Account: address("watch"), Role: "regulator"}), may: []string{"regulator"}},
		{to: precompiles.AccessAddress, method: "freeze", args: freeze("target"), may: guards},
		{to: precompiles.AccessAddress, method: "freeze", what: "an admin", args: freeze("deputy"), may: guards},
		{to: precompiles.AccessAddress, method: "freeze", what: "itself", args: freeze("institution-admin"), may: authorities},
		{to: precompiles.AccessAddress, method: "freeze", what: "the committee", args: freeze("committee"), may: authorities},
		{to: precompiles.AccessAddress, method: "freeze", what: "a regulator", args: freeze("regulator"), may: []string{"beta regulator"}},
		{to: precompiles.AccessAddress, method: "unfreeze", what: "what an admin froze", before: frozen("target", "institution-admin"), args: unfreeze, may: authorities},
		{to: precompiles.AccessAddress, method: "unfreeze", what: "what another admin froze", before: frozen("target", "deputy"), args: unfreeze, may: guards},
		{to: precompiles.AccessAddress, method: "unfreeze", what: "what a compliance officer froze", before: frozen("target", "compliance"), args: unfreeze, may: regulators},
		{to: precompiles.AccessAddress, method: "unfreeze", what: "what another compliance officer froze", before: frozen("target", "officer"), args: unfreeze, may: authorities},
		{to: precompiles.AccessAddress, method: "unfreeze", what: "what a regulator froze", before: frozen("target", "regulator"), args: unfreeze, may: []string{"beta regulator"}},
		{to: precompiles.AccessAddress, method: "freeze_contract", before: deployed, args: func() any { return precompiles.FreezeContractArgs{Contract: self, Reason: "fault"} }, may: authorities},
		{to: precompiles.AccessAddress, method: "freeze_contract", what: "a method", before: deployed, args: func() any { return precompiles.FreezeContractArgs{Contract: self, Method: "put", Reason: "fault"} }, may: authorities},
		{to: precompiles.AccessAddress, method: "unfreeze_contract", before: func() {
			deployed()
			do("officer", precompiles.AccessAddress, "freeze_contract", precompiles.FreezeContractArgs{Contract: self, Reason: "fault"})
		}, args: func() any { return precompiles.UnfreezeContractArgs{Contract: self, Reason: "mended"} }, may: authorities},
		{to: precompiles.AccessAddress, method: "freeze_node", what: "an observer", before: observed, args: freezeNode(observing), may: authorities},
		{to: precompiles.AccessAddress, method: "freeze_node", what: "a member of three", args: freezeNode(identity.NodeID{1}), vain: authorities, code: precompiles.AbortArguments},
		{to: precompiles.AccessAddress, method: "unfreeze_node", what: "that an officer froze", before: func() {
			observed()
			do("officer", precompiles.AccessAddress, "freeze_node", freezeNode(observing)())
		}, args: is(precompiles.UnfreezeNodeArgs{Node: observing, Reason: "error"}), may: authorities},
		{to: precompiles.AccessAddress, method: "ratify", before: frozen("target", "regulator"), args: is(precompiles.RatifyArgs{Address: address("target")})},
		{to: precompiles.AccessAddress, method: "frozen", args: of("target"), may: everybody},
		{to: precompiles.AccessAddress, method: "stopped", args: is(precompiles.MoveArgs{From: address("target"), To: address("nobody")}), may: everybody},
		{to: precompiles.AccessAddress, method: "freezes", args: is(precompiles.FreezesArgs{}), may: everybody},
		{to: precompiles.AccessAddress, method: "roles", args: of("target"), may: everybody},

		{to: precompiles.MembersAddress, method: "epoch", args: is(none), may: everybody},
		{to: precompiles.MembersAddress, method: "institutions", args: is(precompiles.InstitutionsArgs{}), may: everybody},
		{to: precompiles.MembersAddress, method: "nodes", args: is(precompiles.NodesArgs{}), may: everybody},
		{to: precompiles.MembersAddress, method: "reform", args: is(precompiles.ReformArgs{Reform: *propose.Reform})},
		{to: precompiles.MembersAddress, method: "recover", args: is(precompiles.RecoverArgs{})},
		{to: precompiles.MembersAddress, method: "accuse", args: is(precompiles.AccuseArgs{}), vain: everybody, code: precompiles.AbortEvidence},
		{to: precompiles.MembersAddress, method: "accusations", args: is(precompiles.AccusationsArgs{}), may: everybody},

		{to: precompiles.GovernanceAddress, method: "motions", args: is(precompiles.MotionsArgs{}), may: everybody},
		{to: precompiles.GovernanceAddress, method: "settings", args: is(none), may: everybody},
		{to: precompiles.GovernanceAddress, method: "policies", args: is(precompiles.MethodArgs{}), may: everybody},
		{to: precompiles.GovernanceAddress, method: "policy", args: is(precompiles.MethodArgs{}), may: everybody},
		{to: precompiles.GovernanceAddress, method: "regulators", args: is(none), may: everybody},
		{to: precompiles.GovernanceAddress, method: "propose", args: is(propose), may: committees},
		{to: precompiles.GovernanceAddress, method: "propose", what: "a call", args: is(called), may: committees},
		{to: precompiles.GovernanceAddress, method: "vote", before: proposed, args: is(yes), may: committees},
		{to: precompiles.GovernanceAddress, method: "vote", what: "against", before: proposed, args: is(precompiles.VoteArgs{ID: 1}), may: committees},
		{to: precompiles.GovernanceAddress, method: "consent", before: proposed, args: is(motion), may: regulators},
		{to: precompiles.GovernanceAddress, method: "consent", what: "frozen", before: func() {
			proposed()
			frozen("regulator", "beta regulator")()
		}, args: is(motion), may: regulators},
		{to: precompiles.GovernanceAddress, method: "veto", before: proposed, args: is(motion), may: regulators},
		{to: precompiles.GovernanceAddress, method: "veto", what: "what is carried", before: carried, args: is(motion), may: regulators},
		{to: precompiles.GovernanceAddress, method: "withdraw", before: proposed, args: is(motion), vain: committees, code: precompiles.AbortUnchanged},
		{to: precompiles.GovernanceAddress, method: "withdraw", what: "its own", before: func() {
			do("committee", precompiles.GovernanceAddress, "propose", propose)
		}, args: is(motion), may: []string{"committee"}, vain: []string{"beta committee"}, code: precompiles.AbortUnchanged},
		{to: precompiles.GovernanceAddress, method: "activate", before: carried, args: is(motion), may: committees},
		{to: precompiles.GovernanceAddress, method: "activate", what: "too early", before: proposed, args: is(motion), vain: committees, code: precompiles.AbortSupport},
		{to: precompiles.GovernanceAddress, method: "activate", what: "frozen since", before: func() {
			carried()
			frozen("committee", "beta regulator")()
		}, args: is(motion), may: committees},
		{to: precompiles.GovernanceAddress, method: "execute", before: func() {
			do("gamma", precompiles.GovernanceAddress, "propose", called)
			do("beta committee", precompiles.GovernanceAddress, "vote", yes)
		}, args: is(motion), may: committees},
		{to: precompiles.GovernanceAddress, method: "execute", what: "too early", before: func() {
			do("gamma", precompiles.GovernanceAddress, "propose", called)
		}, args: is(motion), vain: committees, code: precompiles.AbortSupport},
		{to: precompiles.GovernanceAddress, method: "ready", before: proposed, args: is(precompiles.ReadyArgs{ID: 1}), vain: everybody, code: precompiles.AbortArguments},
		{to: precompiles.GovernanceAddress, method: "set_policy", args: is(precompiles.SetPolicyArgs{Contract: precompiles.AccessAddress, Method: "freeze"})},
		{to: precompiles.GovernanceAddress, method: "set_settings", args: is(precompiles.SetSettingsArgs{Approval: 60, Motions: 1, Lifetime: 86_400_000})},

		{to: precompiles.ConfigAddress, method: "params", args: is(none), may: everybody},
		{to: precompiles.ConfigAddress, method: "features", args: is(none), may: everybody},
		{to: precompiles.ConfigAddress, method: "activate_feature", args: is(precompiles.ActivateArgs{Feature: "visibility", Height: 1_000, Release: "1"})},

		{to: precompiles.CertificatesAddress, method: "trusts", args: is(precompiles.TrustsArgs{}), may: everybody},
		{to: precompiles.CertificatesAddress, method: "trust", args: is(precompiles.TrustArgs{Institution: "alpha"}), may: everybody},
		{to: precompiles.CertificatesAddress, method: "policy", args: is(precompiles.PolicyArgs{Institution: "alpha", Role: "node"}), may: everybody},
		{to: precompiles.CertificatesAddress, method: "status", args: is(precompiles.CertificateArgs{Fingerprint: leaf}), may: everybody},
		{to: precompiles.CertificatesAddress, method: "statuses", args: is(precompiles.CertificatesArgs{}), may: everybody},
		{to: precompiles.CertificatesAddress, method: "bound", args: is(precompiles.BoundArgs{Fingerprint: leaf, Institution: "alpha"}), may: everybody},
		{to: precompiles.CertificatesAddress, method: "freeze", args: is(precompiles.StatusArgs{Fingerprint: leaf}), may: spokesmen},
		{to: precompiles.CertificatesAddress, method: "freeze", what: "what a registrar froze", before: says("clerk", "freeze"), args: is(precompiles.StatusArgs{Fingerprint: leaf}), may: []string{"institution-admin", "beta registrar", "beta institution-admin"}, vain: []string{"registrar"}, code: precompiles.AbortUnchanged},
		{to: precompiles.CertificatesAddress, method: "unfreeze", what: "what a registrar froze", before: says("clerk", "freeze"), args: is(precompiles.CertificateArgs{Fingerprint: leaf}), may: registrars, vain: []string{"beta registrar", "beta institution-admin"}, code: precompiles.AbortUnchanged},
		{to: precompiles.CertificatesAddress, method: "unfreeze", what: "what an admin froze", before: says("deputy", "freeze"), args: is(precompiles.CertificateArgs{Fingerprint: leaf}), may: admins, vain: []string{"beta registrar", "beta institution-admin"}, code: precompiles.AbortUnchanged},
		{to: precompiles.CertificatesAddress, method: "revoke", args: is(precompiles.StatusArgs{Fingerprint: leaf}), may: spokesmen},
		{to: precompiles.CertificatesAddress, method: "revoke", what: "what an admin froze", before: says("deputy", "freeze"), args: is(precompiles.StatusArgs{Fingerprint: leaf}), may: []string{"institution-admin", "beta registrar", "beta institution-admin"}},

		{to: precompiles.CNSAddress, method: "register", before: deployed, args: func() any { return token("1") }, may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "publish", before: named, args: func() any { return token("2") }, may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "withdraw", before: published, args: version("2"), may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "promote", before: published, args: version("2"), may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "rollback", before: named, args: is(precompiles.NameArgs{Name: "token"}), vain: []string{"deployer"}, code: precompiles.AbortUnchanged},
		{to: precompiles.CNSAddress, method: "rollback", what: "what was promoted", before: func() {
			published()
			do("deployer", precompiles.CNSAddress, "promote", version("2")())
		}, args: is(precompiles.NameArgs{Name: "token"}), may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "canary", before: published, args: is(precompiles.CanaryArgs{Name: "token", Canary: precompiles.Canary{Label: "2", Weight: 1000, Rules: []precompiles.CanaryRule{}}}), may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "transfer", before: named, args: is(precompiles.NameOwnerArgs{Name: "token", Owner: address("nobody")}), may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "unregister", before: named, args: is(precompiles.NameArgs{Name: "token"}), may: []string{"deployer"}},
		{to: precompiles.CNSAddress, method: "veto", before: published, args: version("2")},
		{to: precompiles.CNSAddress, method: "allow", before: func() {
			published()
			if err := c.carry(precompiles.CNSAddress, "veto", version("2")()); err != nil {
				t.Fatal(err)
			}
		}, args: version("2")},
		{to: precompiles.CNSAddress, method: "resolve", before: named, args: is(precompiles.ResolveArgs{Name: "token"}), may: everybody},
		{to: precompiles.CNSAddress, method: "get", args: is(precompiles.NameArgs{Name: "token"}), may: everybody},
		{to: precompiles.CNSAddress, method: "stats", args: is(precompiles.NameArgs{Name: "token"}), may: everybody},
		{to: precompiles.CNSAddress, method: "list", args: is(precompiles.AfterArgs{}), may: everybody},

		{to: precompiles.AuditAddress, method: "anchor", args: is(precompiles.AnchorArgs{Log: "reads", Count: 1, Digest: leaf}), may: []string{
			"institution-admin", "operator", "auditor", "regulator", "beta institution-admin", "beta operator", "beta auditor", "beta regulator",
		}},
		{to: precompiles.AuditAddress, method: "anchored", args: is(precompiles.AnchorOf{Institution: "alpha", Log: "reads"}), may: everybody},
		{to: precompiles.AuditAddress, method: "get", args: is(precompiles.AuditAfter{}), may: everybody},
		{to: precompiles.AuditAddress, method: "list", args: is(precompiles.AuditAfter{}), may: everybody},
		{to: precompiles.AuditAddress, method: "link", args: is(precompiles.HeightArgs{}), may: everybody},
		{to: precompiles.AuditAddress, method: "head", args: is(none), may: everybody},
	}

	for _, s := range precompiles.All() {
		for _, m := range s.Schema().Methods {
			if !slices.ContainsFunc(table, func(p permission) bool { return p.to == s.Address() && p.method == m.Name }) {
				t.Errorf("the table does not say who may call %s.%s", s.Name(), m.Name)
			}
		}
	}
	refusals := []uint32{precompiles.DeniedRole, precompiles.DeniedInstitution, precompiles.DeniedOwner, precompiles.DeniedDirect, precompiles.DeniedMotion, precompiles.DeniedReview, precompiles.DeniedCosigner}
	genesis, cells, refused := c.head, 0, 0
	decides := func(to ledger.Address, method string, args any) Outcome {
		t.Helper()
		o, err := c.x.DryRun(context.Background(), c.head, Call{From: precompiles.GovernanceAddress, To: ledger.Target{Address: to}, Method: method, Args: c.marshal(args)})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	moved := map[precompiles.MethodArgs]bool{} // what motions do
	for _, p := range table {
		t.Run(fmt.Sprint(p.to, " ", p.method, " ", p.what), func(t *testing.T) {
			c.head = genesis
			if p.before != nil {
				p.before()
			}
			begin := c.head
			// What aborts as it does for accounts that may, a motion may as well. It calls nothing of members.
			if o := decides(p.to, p.method, p.args()); p.to != precompiles.MembersAddress && (o.Status == ledger.OK || o.Status == ledger.Aborted && len(p.vain) > 0 && o.Code == p.code) {
				moved[precompiles.MethodArgs{Contract: p.to, Method: p.method}] = true
			}
			for _, caller := range callers {
				c.head = begin
				tx := c.tx(caller, p.to, p.method, p.args())
				r := c.block(tx)[0]
				c.wantRecord(tx, &r)
				cells++
				if r.Status != ledger.OK {
					refused++
				}
				switch {
				case slices.Contains(p.may, caller) && r.Status == ledger.OK:
				case slices.Contains(p.vain, caller) && r.Status == ledger.Aborted && r.Code == p.code:
				case !slices.Contains(p.may, caller) && !slices.Contains(p.vain, caller) && r.Status == ledger.Denied && slices.Contains(refusals, r.Code):
				default:
					t.Errorf("%s gets %s with code %d; may: %q, in vain with code %d: %q", caller, r.Status, r.Code, p.may, p.code, p.vain)
				}
			}
		})
	}
	c.head = genesis
	visible(waited)()
	motionsOnly := []precompiles.Policy{
		{Rule: precompiles.RuleMajority},
		{Rule: precompiles.RuleCount, N: 2},
		{Rule: precompiles.RuleShare, N: 2, Of: 3},
		{Rule: precompiles.RuleAll},
		{Rule: precompiles.RuleSelf, Regulator: true},
		{Rule: precompiles.RuleAny, Lock: 1_000},
		{Rule: precompiles.RuleSelf, Blocks: 2},
		{Rule: precompiles.RuleMajority, Regulator: true, Lock: 1_000, Blocks: 2},
	}
	for _, s := range precompiles.All() {
		for _, m := range s.Schema().Methods {
			if m.Kind != ledger.MethodTx || s.Address() == precompiles.GovernanceAddress || s.Address() == precompiles.MembersAddress && m.Name != "accuse" { // how motions are made and what they reform
				continue
			}
			of := precompiles.MethodArgs{Contract: s.Address(), Method: m.Name}
			for i, p := range motionsOnly {
				switch o := decides(precompiles.GovernanceAddress, "set_policy", precompiles.SetPolicyArgs{Contract: of.Contract, Method: of.Method, Policy: &p}); {
				case o.Status == ledger.OK && !moved[of]:
					t.Errorf("%s.%s may take %s, and no motion calls it", s.Name(), m.Name, p)
				case o.Status != ledger.OK && (o.Status != ledger.Aborted || o.Code != precompiles.AbortPolicy):
					t.Errorf("%s.%s for %s: %s with code %d", s.Name(), m.Name, p, o.Status, o.Code)
				case o.Status != ledger.OK && moved[of] && i == 0:
					t.Errorf("%s.%s may not take %s, and motions call it", s.Name(), m.Name, p)
				}
			}
		}
	}
	t.Logf("%d cells, of which %d are refused", cells, refused)
	if cells < 300 || refused < 300 {
		t.Errorf("%d cells, of which %d are refused", cells, refused)
	}
}

// TestCertificateInBlock has an account call a contract in the block in which its certificate is frozen, before and after
// it is, and at the time at which it ends. Executed in parallel, the outcome is the same (chain.block compares).
func TestCertificateInBlock(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{{"registrar", "alpha", "registrar"}, {"user", "alpha", ""}, {"ann", "alpha", ""}})
	call := func(by string) *ledger.SignedTx { return c.tx(by, ledger.Address{1}, "anything", none) }
	certify := func(n byte, until int64) *ledger.SignedTx {
		b := &precompiles.Binding{Paths: []identity.Path{{Leaf: keys.Digest{n}}}, Until: until}
		return c.tx("registrar", precompiles.AccountsAddress, "certify", precompiles.CertifyArgs{Account: address("user"), Certificate: b})
	}
	say := func(method string, n byte) *ledger.SignedTx {
		var args any = precompiles.StatusArgs{Fingerprint: keys.Digest{n}}
		if method == "unfreeze" {
			args = precompiles.CertificateArgs{Fingerprint: keys.Digest{n}}
		}
		return c.tx("registrar", precompiles.CertificatesAddress, method, args)
	}
	want := func(receipts []ledger.Receipt, stopped ...bool) {
		t.Helper()
		for i, r := range receipts {
			status, code := ledger.OK, uint32(0)
			switch to := c.blocks[len(c.blocks)-1].txs[i].To.Address; {
			case stopped[i]:
				status, code = ledger.Denied, precompiles.DeniedCertificate
			case to == ledger.Address{1}:
				status = ledger.NotFound // it may, and there is no contract
			}
			if r.Status != status || r.Code != code {
				t.Errorf("transaction %d of block %d: %s with code %d, want %s with code %d", i, c.head.Height(), r.Status, r.Code, status, code)
			}
		}
	}
	const end = 1_900_000
	want(c.block(call("user"), certify(1, end), call("user"), say("freeze", 1), call("user"), call("ann"), say("unfreeze", 1), call("user")),
		false, false, false, false, true, false, false, false)
	want(c.block(say("revoke", 1), call("user"), certify(2, end), call("user")), false, true, false, false)

	// Its last block is that of its last millisecond.
	now := c.head.Header().Order.UnixMilli
	want(c.block(certify(3, now+2_000), call("user")), false, false)
	want(c.block(call("user")), false)
	late := call("user")
	if err := c.x.Admit(c.head, late); err != nil {
		t.Errorf("Admit at the last millisecond: %v", err)
	}
	want(c.block(late), true)
	if err := c.x.Admit(c.head, call("user")); err == nil {
		t.Error("Admit takes the transaction of an account whose certificate has ended")
	}
}
