package executor

import (
	"slices"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// A motion gives a method of a deployed contract a policy, which holds on every path, and takes it away again. Calls of
// contracts and methods without one cost what they cost before.
func TestContractPolicies(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta"}, []entry{
		{"ann", "alpha", "committee"}, {"ben", "beta", "committee"}, {"deployer", "alpha", "deployer"}, {"user", "alpha", "user"}, {"clerk", "beta", "registrar"},
	})
	deploy := func() (to ledger.Address) {
		r := c.block(c.tx("deployer", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: probe().module(t, probeSchema())}))[0]
		c.want(r, ledger.OK, 0)
		if err := ledger.Unmarshal(r.Data, &to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	one, other := deploy(), deploy()
	motions := uint64(0)
	passes := func(a ...precompiles.Action) ledger.Receipt {
		t.Helper()
		motions++
		c.want(c.block(c.tx("ann", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Actions: a}))[0], ledger.OK, 0)
		c.want(c.block(c.tx("ben", precompiles.GovernanceAddress, "vote", precompiles.VoteArgs{ID: motions, For: true}))[0], ledger.OK, 0)
		return c.block(c.tx("ben", precompiles.GovernanceAddress, "execute", precompiles.MotionArgs{ID: motions}))[0]
	}
	set := func(p *precompiles.Policy) {
		t.Helper()
		c.want(passes(precompiles.Action{
			To: precompiles.GovernanceAddress, Method: "set_policy", Args: c.marshal(precompiles.SetPolicyArgs{Contract: one, Method: "put", Policy: p}),
		}), ledger.OK, 0)
	}
	put := func(by string, to ledger.Address) ledger.Receipt { return c.block(c.tx(by, to, "put", none))[0] }
	flags := func() uint8 {
		t.Helper()
		d, found, err := precompiles.ReadContract(c.head, one)
		if err != nil || !found {
			t.Fatalf("the deployment: %t, %v", found, err)
		}
		return d.Flags
	}

	put("user", one) // what is stored first costs more
	put("user", other)
	free := put("user", one)
	c.want(free, ledger.OK, 0)
	set(&precompiles.Policy{Rule: precompiles.RuleAny, Roles: []string{"registrar"}})
	if flags() != precompiles.ContractPolicies {
		t.Errorf("flags %d", flags())
	}
	c.want(put("user", one), ledger.Denied, precompiles.DeniedRole)
	held := put("clerk", one)
	c.want(held, ledger.OK, 0)
	if free := put("user", other); held.Gas <= free.Gas {
		t.Errorf("a call under a policy takes %d gas, and one without %d", held.Gas, free.Gas)
	}
	// Another contract has no account, and so none of the roles.
	c.want(c.block(c.tx("clerk", other, "again", []any{one}))[0], ledger.OK, 0)
	status, _, err := c.head.Get(append(other[:], "status"...))
	if err != nil || string(status) != "\xfb\xff\xff\xff" { // -5, denied
		t.Errorf("through another contract: status %x, %v", status, err)
	}

	set(&precompiles.Policy{Rule: precompiles.RuleMajority})
	c.want(put("clerk", one), ledger.Denied, precompiles.DeniedMotion)
	c.want(passes(precompiles.Action{To: one, Method: "put", Args: none}), ledger.OK, 0)
	// Code that lacks the method could have it under another name, which would go without the policy.
	without := probeSchema()
	without.Methods = slices.DeleteFunc(without.Methods, func(m ledger.Method) bool { return m.Name == "put" })
	replace := precompiles.ReplaceArgs{Address: one, Code: probe().module(t, without), Breaking: true}
	r := c.block(c.tx("deployer", precompiles.ContractsAddress, "replace", replace))[0]
	c.want(r, ledger.Aborted, precompiles.AbortGoverned)
	if string(r.Data) != string(c.marshal([]any{"put"})) {
		t.Errorf("data %x", r.Data)
	}
	replace.Code = probe().module(t, nil)
	c.want(c.block(c.tx("deployer", precompiles.ContractsAddress, "replace", replace))[0], ledger.Aborted, precompiles.AbortGoverned)
	newer := probeSchema()
	newer.Version = "1.0.1"
	replace.Code = probe().module(t, newer)
	c.want(c.block(c.tx("deployer", precompiles.ContractsAddress, "replace", replace))[0], ledger.OK, 0)
	c.want(put("clerk", one), ledger.Denied, precompiles.DeniedMotion)
	c.want(passes(precompiles.Action{
		To: precompiles.GovernanceAddress, Method: "set_policy", Args: c.marshal(precompiles.SetPolicyArgs{Contract: one, Method: "nosuch", Policy: &precompiles.Policy{}}),
	}), ledger.Aborted, precompiles.AbortAction)

	set(&precompiles.Policy{})
	c.want(put("clerk", one), ledger.Denied, precompiles.DeniedRole)
	motions++
	c.want(c.block(c.tx("ann", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Actions: []precompiles.Action{{To: one, Method: "put", Args: none}}}))[0],
		ledger.Aborted, precompiles.AbortPolicy)
	motions--
	set(nil)
	if flags() != 0 {
		t.Errorf("flags %d without policies", flags())
	}
	if again := put("user", one); again.Status != ledger.OK || again.Gas != free.Gas {
		t.Errorf("%s with %d gas, want %d as before", again.Status, again.Gas, free.Gas)
	}
	// Of several calls, all take effect or none.
	r = passes(
		precompiles.Action{To: precompiles.AccessAddress, Method: "grant", Args: c.marshal(precompiles.RoleArgs{Account: address("clerk"), Role: "owner"})},
		precompiles.Action{To: precompiles.AccessAddress, Method: "grant", Args: c.marshal(precompiles.RoleArgs{Account: address("clerk"), Role: "registrar"})},
	)
	c.want(r, ledger.Aborted, precompiles.AbortAction)
	account, _, err := precompiles.ReadAccount(c.head, address("clerk"))
	if err != nil || account.HasAny("owner") {
		t.Errorf("clerk has the roles %q, %v", account.Roles, err)
	}
}
