package executor

import (
	"reflect"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
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
	number := uint64(0)
	if row, found, err := precompiles.ReadPolicy(c.head, one, "put"); err != nil || !found {
		t.Fatal(found, err)
	} else {
		number = row.Number
	}
	// recorded wants the one record of the last block, of a call that was made or refused.
	recorded := func(by ledger.Address, institution string, r ledger.Receipt, code uint32) {
		t.Helper()
		got := c.records()
		if len(got) != 1 {
			t.Fatalf("the records %+v, want one", got)
		}
		want := precompiles.AuditRecord{
			Version: 1, Height: c.head.Height(), Time: got[0].Time, Tx: r.Tx, Actor: by, Origin: by, Institution: institution, Roles: got[0].Roles, Certificates: []keys.Digest{},
			Contract: one, Method: "put", Policy: number, Approvals: []precompiles.AuditApproval{}, Status: r.Status, Code: code,
		}
		if !reflect.DeepEqual(got[0], want) || (institution == "") != (len(got[0].Roles) == 0) {
			t.Errorf("recorded %+v, want %+v", got[0], want)
		}
	}
	refused := put("user", one)
	c.want(refused, ledger.Denied, precompiles.DeniedRole)
	recorded(address("user"), "alpha", refused, precompiles.DeniedRole)
	held := put("clerk", one)
	c.want(held, ledger.OK, 0)
	recorded(address("clerk"), "beta", held, 0)
	strange := c.body("user", one, "put", none)
	r := c.block(c.sign(strange, c.signers["clerk"]))[0] // refused before it is called
	if r.Status != ledger.Denied {
		t.Fatalf("signed by another's key: %s", r.Status)
	}
	recorded(address("user"), "alpha", r, r.Code)
	poor := c.body("clerk", one, "put", none)
	poor.GasLimit = free.Gas // enough without a policy
	c.want(c.block(c.sign(poor, c.signers["clerk"]))[0], ledger.OutOfGas, 0)
	if got := c.records(); len(got) != 0 {
		t.Errorf("who cannot pay for the record left %+v", got)
	}
	if free := put("user", other); held.Gas <= free.Gas {
		t.Errorf("a call under a policy takes %d gas, and one without %d", held.Gas, free.Gas)
	}
	// Another contract has no account, and so none of the roles.
	through := c.block(c.tx("clerk", other, "again", []any{one}))[0]
	c.want(through, ledger.OK, 0)
	if got := c.records(); len(got) != 1 || got[0].Actor != other || got[0].Origin != address("clerk") || got[0].Status != ledger.Denied {
		t.Errorf("through another contract, recorded as %+v", got)
	}
	status, _, err := c.head.Get(append(other[:], "status"...))
	if err != nil || string(status) != "\xfb\xff\xff\xff" { // -5, denied
		t.Errorf("through another contract: status %x, %v", status, err)
	}

	// Of a private contract, members read that it was called and how that ended; the transaction, which not all of them may read, tells the rest.
	c.activate(precompiles.Activation{Feature: precompiles.Visibility, Height: c.head.Height() + 2, Release: "1"})
	c.block()
	c.want(c.block(c.tx("deployer", precompiles.ContractsAddress, "restrict", precompiles.RestrictArgs{Address: one, Visible: precompiles.VisibleParties}))[0], ledger.OK, 0)
	refused = put("user", one)
	c.want(refused, ledger.Denied, precompiles.DeniedRole)
	recorded(ledger.Address{}, "", refused, 0)

	set(&precompiles.Policy{Rule: precompiles.RuleMajority})
	c.want(put("clerk", one), ledger.Denied, precompiles.DeniedMotion)
	c.want(passes(precompiles.Action{To: one, Method: "put", Args: none}), ledger.OK, 0)
	// What a motion calls has a record behind the one of its execution, which names the votes.
	votes := []precompiles.AuditApproval{{Institution: "alpha", Account: address("ann"), For: true}, {Institution: "beta", Account: address("ben"), For: true}}
	if got := c.records(); len(got) != 2 || got[0].Method != "execute" || !slices.Equal(got[0].Approvals, votes) || got[1].Contract != one || got[1].Actor != precompiles.GovernanceAddress || got[1].Motion != motions {
		t.Errorf("the motion is recorded as %+v", got)
	}
	motions++
	c.want(c.block(c.tx("ann", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Actions: []precompiles.Action{{To: one, Method: "put", Args: none}}}))[0], ledger.OK, 0)
	c.want(c.block(c.tx("ben", precompiles.GovernanceAddress, "vote", precompiles.VoteArgs{ID: motions}))[0], ledger.OK, 0)
	if got := c.records(); len(got) != 1 || !slices.Equal(got[0].Approvals, []precompiles.AuditApproval{{Institution: "beta", Account: address("ben")}}) {
		t.Errorf("a vote against is recorded as %+v", got)
	}
	// Code that lacks the method could have it under another name, which would go without the policy.
	without := probeSchema()
	without.Methods = slices.DeleteFunc(without.Methods, func(m ledger.Method) bool { return m.Name == "put" })
	replace := precompiles.ReplaceArgs{Address: one, Code: probe().module(t, without), Breaking: true}
	r = c.block(c.tx("deployer", precompiles.ContractsAddress, "replace", replace))[0]
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
