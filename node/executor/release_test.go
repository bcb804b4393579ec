package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// carry makes a block in which a motion, which was carried, calls a method. How motions are carried is told elsewhere.
func (c *chain) carry(to ledger.Address, method string, args any) error {
	c.Helper()
	order := c.order()
	b, err := c.x.newBlock(c.head, &order)
	if err != nil {
		c.Fatal(err)
	}
	t := &transaction{block: b, ctx: context.Background(), id: ledger.TxID{1}, origin: address("nobody")}
	outcome, err := t.call(call{target: ledger.Target{Address: to}, caller: precompiles.GovernanceAddress, method: method, args: c.marshal(args), limit: testGas})
	if err != nil {
		c.Fatal(err)
	}
	b.overlay.Settle()
	if c.head, err = c.head.Extend(&order, state.Result{Changes: b.overlay.Changes()}); err != nil {
		c.Fatal(err)
	}
	if outcome.Status != ledger.OK {
		return &precompiles.Error{Status: outcome.Status, Code: outcome.Code, Reason: outcome.Trace}
	}
	return nil
}

// pipeline is a chain whose code is reviewed: the deployer and the second one are of alpha, and two other institutions approve.
type pipeline struct {
	*chain
	code []byte
}

func newPipeline(t *testing.T) *pipeline {
	p := &pipeline{code: probe().module(t, probeSchema()), chain: newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta", "gamma"}, []entry{
		{"deployer", "alpha", "deployer"},
		{"second", "alpha", "deployer"},
		{"admin", "alpha", "institution-admin"},
		{"chair", "alpha", "committee"},
		{"beta", "beta", "committee"},
		{"beta too", "beta", "committee"},
		{"gamma", "gamma", "committee"},
		{"user", "beta", ""},
	})}
	p.rules(precompiles.ModeArgs{Mode: precompiles.DeployReview, Institutions: 2, Lifetime: 60_000})
	return p
}

func (p *pipeline) rules(m precompiles.ModeArgs) {
	p.Helper()
	if err := p.carry(precompiles.ContractsAddress, "set_mode", m); err != nil {
		p.Fatal(err)
	}
}

// by has an account call a method of the contract contracts.
func (p *pipeline) by(who, method string, args any) ledger.Receipt {
	p.Helper()
	return p.block(p.tx(who, precompiles.ContractsAddress, method, args))[0]
}

func (p *pipeline) propose(a precompiles.ProposalArgs) (id uint64) {
	p.Helper()
	r := p.by("deployer", "propose", a)
	p.want(r, ledger.OK, 0)
	if err := ledger.Unmarshal(r.Data, &id); err != nil {
		p.Fatal(err)
	}
	return id
}

func (p *pipeline) row(id uint64) precompiles.Release {
	p.Helper()
	r, found, err := precompiles.ReadRelease(p.head, id)
	if err != nil || !found {
		p.Fatalf("release %d: found %v, %v", id, found, err)
	}
	return r
}

func (p *pipeline) approval(id uint64) precompiles.ApproveArgs {
	p.Helper()
	r := p.row(id)
	digest, err := r.Content.Hash(p.suite)
	if err != nil {
		p.Fatal(err)
	}
	return precompiles.ApproveArgs{ID: id, Digest: digest}
}

func (p *pipeline) release(id uint64) (contract ledger.Address) {
	p.Helper()
	r := p.by("deployer", "release", precompiles.ReleaseArgs{ID: id})
	p.want(r, ledger.OK, 0)
	if by := p.records()[0].Approvals; len(by) == 0 || !by[0].For || by[0].Account.IsZero() {
		p.Errorf("the record says that the release rests on %+v", by)
	}
	if err := ledger.Unmarshal(r.Data, &contract); err != nil {
		p.Fatal(err)
	}
	return contract
}

func (p *pipeline) contract(at ledger.Address) precompiles.Deployment {
	p.Helper()
	d, found, err := precompiles.ReadContract(p.head, at)
	if err != nil || !found {
		p.Fatalf("contract %s: found %v, %v", at, found, err)
	}
	return d
}

// TestReview: code comes onto a chain that reviews it by a release that two other institutions approved, exactly as they saw it.
func TestReview(t *testing.T) {
	const release = precompiles.AbortRelease
	p := newPipeline(t)
	t.Log("nobody deploys past the review, not even as far as a node's memory")
	tx := p.tx("deployer", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: p.code})
	if err := p.x.Admit(p.head, tx); err == nil {
		t.Error("Admit takes a deployment that goes past the review")
	}
	p.want(p.block(tx)[0], ledger.Denied, precompiles.DeniedReview)
	p.want(p.by("deployer", "set_mode", precompiles.ModeArgs{}), ledger.Denied, precompiles.DeniedMotion)
	p.want(p.by("chair", "propose", precompiles.ProposalArgs{Code: p.code}), ledger.Denied, precompiles.DeniedRole)
	p.want(p.by("deployer", "propose", precompiles.ProposalArgs{Code: []byte("no module")}), ledger.Denied, precompiles.DeniedModule)
	p.want(p.by("deployer", "propose", precompiles.ProposalArgs{Code: p.code, Name: "accounts", Label: "1"}), ledger.Aborted, precompiles.AbortName)
	p.want(p.by("deployer", "propose", precompiles.ProposalArgs{Code: p.code, Args: make([]byte, precompiles.MaxReleaseArgs+1)}), ledger.Aborted, precompiles.AbortArguments)

	id := p.propose(precompiles.ProposalArgs{Code: p.code, Audit: keys.Digest{1}, Source: keys.Digest{2}, Name: "token", Label: "1"})
	if c := p.row(id).Content; c.Code != precompiles.CodeHash(p.suite, p.code) || c.Schema.IsZero() || c.Audit != (keys.Digest{1}) || c.Source != (keys.Digest{2}) {
		t.Errorf("the release states %+v", c)
	}
	t.Log("its own institution does not approve of it, nor who reviews nothing, nor anybody of something else")
	approve, carryOut := p.approval(id), precompiles.ReleaseArgs{ID: id}
	p.want(p.by("chair", "approve", approve), ledger.Denied, precompiles.DeniedInstitution)
	p.want(p.by("deployer", "approve", approve), ledger.Denied, precompiles.DeniedRole)
	p.want(p.by("user", "approve", approve), ledger.Denied, precompiles.DeniedRole)
	p.want(p.by("beta", "approve", precompiles.ApproveArgs{ID: id, Digest: keys.Digest{7}}), ledger.Aborted, release)
	p.want(p.by("beta", "approve", precompiles.ApproveArgs{ID: 9}), ledger.Aborted, release)
	p.want(p.by("deployer", "release", carryOut), ledger.Aborted, release)
	p.want(p.by("beta", "approve", approve), ledger.OK, 0)
	p.want(p.by("beta too", "approve", approve), ledger.Aborted, precompiles.AbortUnchanged)
	p.want(p.by("deployer", "release", carryOut), ledger.Aborted, release)
	p.want(p.by("beta", "withdraw", carryOut), ledger.OK, 0)
	p.want(p.by("beta", "withdraw", carryOut), ledger.Aborted, precompiles.AbortUnchanged)
	p.want(p.by("second", "withdraw", carryOut), ledger.Denied, precompiles.DeniedOwner)

	t.Log("in one block: two approve, others cannot carry it out, its proposer does, and the contract answers by its name")
	byName := p.body("user", ledger.Address{1}, "put", none)
	byName.To = ledger.Target{Name: "token"}
	on := func(who, method string, args any) *ledger.SignedTx {
		return p.tx(who, precompiles.ContractsAddress, method, args)
	}
	receipts := p.block(
		on("deployer", "release", carryOut), on("beta too", "approve", approve), on("gamma", "approve", approve), on("second", "release", carryOut),
		on("deployer", "release", carryOut), p.sign(byName, p.signers["user"]), on("deployer", "release", carryOut),
	)
	for i, want := range []struct {
		status ledger.Status
		code   uint32
	}{{ledger.Aborted, release}, {ledger.OK, 0}, {ledger.OK, 0}, {ledger.Denied, precompiles.DeniedOwner}, {ledger.OK, 0}, {ledger.OK, 0}, {ledger.Aborted, release}} {
		if r := receipts[i]; r.Status != want.status || r.Code != want.code {
			t.Errorf("transaction %d: %s with code %d, want %s with code %d", i, r.Status, r.Code, want.status, want.code)
		}
	}
	row := p.row(id)
	d := p.contract(row.Contract)
	if d.Owner != address("deployer") || d.Code != row.Content.Code || d.Review != id || row.Released != p.head.Height() || len(row.Approvals) != 2 {
		t.Errorf("contract %+v of release %+v", d, row)
	}
	p.want(p.by("deployer", "withdraw", carryOut), ledger.Aborted, release)

	t.Log("an upgrade goes the same way, and a motion approves for all; the name's versions are new contracts")
	two := probe()
	two.method("more", succeed)
	next := two.module(t, nil)
	self := row.Contract
	p.want(p.by("deployer", "replace", precompiles.ReplaceArgs{Address: self, Code: next, Breaking: true}), ledger.Denied, precompiles.DeniedReview)
	p.want(p.by("second", "propose", precompiles.ProposalArgs{Contract: self, Code: next, Breaking: true}), ledger.Denied, precompiles.DeniedOwner)
	p.want(p.by("deployer", "propose", precompiles.ProposalArgs{Contract: self, Code: next}), ledger.Aborted, precompiles.AbortIncompatible)
	p.want(p.by("deployer", "propose", precompiles.ProposalArgs{Contract: self, Code: p.code}), ledger.Aborted, precompiles.AbortUnchanged)
	p.want(p.by("deployer", "propose", precompiles.ProposalArgs{Contract: self, Code: next, Breaking: true, Name: "token", Label: "2"}), ledger.Aborted, precompiles.AbortArguments)
	up := p.propose(precompiles.ProposalArgs{Contract: self, Code: next, Breaking: true})
	if err := p.carry(precompiles.ContractsAddress, "approve", p.approval(up)); err != nil {
		t.Fatal(err)
	}
	if p.release(up) != self {
		t.Error("the upgrade made another contract")
	}
	if d := p.contract(self); d.Number != 2 || d.Review != up || d.Code != precompiles.CodeHash(p.suite, next) {
		t.Errorf("after the upgrade: %+v", d)
	}
	v2 := p.propose(precompiles.ProposalArgs{Code: next, Name: "token", Label: "2"})
	if err := p.carry(precompiles.ContractsAddress, "approve", p.approval(v2)); err != nil {
		t.Fatal(err)
	}
	other := p.release(v2)
	if n, _, err := precompiles.ReadName(p.head, "token"); err != nil || len(n.Versions) != 2 || n.Versions[1].Address != other || n.Current != "1" {
		t.Errorf("the name token: %+v, %v", n, err)
	}

	t.Log("what became untrue since the proposal counts at the release")
	gone := p.propose(precompiles.ProposalArgs{Contract: other, Code: p.code, Breaking: true})
	p.want(p.by("beta", "approve", p.approval(gone)), ledger.OK, 0)
	p.want(p.by("gamma", "approve", p.approval(gone)), ledger.OK, 0)
	p.want(p.by("deployer", "transfer", precompiles.TransferArgs{Address: other, Owner: address("second")}), ledger.OK, 0)
	p.want(p.by("deployer", "release", precompiles.ReleaseArgs{ID: gone}), ledger.Denied, precompiles.DeniedOwner)
}

// TestReleaseBounds: an institution has so many releases open, for so long, and its own do not keep others from theirs.
func TestReleaseBounds(t *testing.T) {
	p := newPipeline(t)
	var ids []uint64
	for range precompiles.MaxReleases {
		ids = append(ids, p.propose(precompiles.ProposalArgs{Code: p.code}))
	}
	p.want(p.by("second", "propose", precompiles.ProposalArgs{Code: p.code}), ledger.Aborted, precompiles.AbortRelease)
	p.want(p.by("admin", "withdraw", precompiles.ReleaseArgs{ID: ids[0]}), ledger.OK, 0)
	if err := p.carry(precompiles.ContractsAddress, "withdraw", precompiles.ReleaseArgs{ID: ids[1]}); err != nil {
		t.Error(err)
	}
	ids = append(ids[2:], p.propose(precompiles.ProposalArgs{Code: p.code}), p.propose(precompiles.ProposalArgs{Code: p.code}))
	for _, by := range []string{"beta", "gamma"} {
		p.want(p.by(by, "approve", p.approval(ids[0])), ledger.OK, 0)
	}
	t.Log("a minute later the first are void, approved or not, and there is room again")
	for range 57 {
		p.block()
	}
	p.want(p.by("deployer", "release", precompiles.ReleaseArgs{ID: ids[0]}), ledger.Aborted, precompiles.AbortRelease)
	p.propose(precompiles.ProposalArgs{Code: p.code})
	if _, found, err := precompiles.ReadRelease(p.head, ids[0]); found || err != nil {
		t.Errorf("the release whose time was over is there: %v, %v", found, err)
	}
}

// TestModes: the committee says how code comes onto the chain.
func TestModes(t *testing.T) {
	p := newPipeline(t)
	deploy := func(who string) ledger.Receipt { return p.by(who, "deploy", precompiles.DeployArgs{Code: p.code}) }
	p.rules(precompiles.ModeArgs{Mode: precompiles.DeployListed, Deployers: []ledger.Address{address("second")}})
	p.want(deploy("second"), ledger.OK, 0)
	p.want(deploy("deployer"), ledger.Denied, precompiles.DeniedReview)
	p.want(p.by("second", "propose", precompiles.ProposalArgs{Code: p.code}), ledger.Denied, precompiles.DeniedReview)
	p.rules(precompiles.ModeArgs{Mode: precompiles.DeployListed, Deployers: []ledger.Address{address("chair")}})
	p.want(deploy("chair"), ledger.Denied, precompiles.DeniedRole) // who is listed still needs a role
	p.rules(precompiles.ModeArgs{})
	p.want(deploy("deployer"), ledger.OK, 0)
	for what, m := range map[string]precompiles.ModeArgs{
		"a mode of no meaning":       {Mode: 3},
		"a list of nobody":           {Mode: precompiles.DeployListed},
		"an account that is none":    {Mode: precompiles.DeployListed, Deployers: []ledger.Address{{1}}},
		"a list in the open mode":    {Deployers: []ledger.Address{address("second")}},
		"an account twice":           {Mode: precompiles.DeployListed, Deployers: []ledger.Address{address("second"), address("second")}},
		"more institutions than fit": {Mode: precompiles.DeployReview, Institutions: precompiles.MaxApprovers + 1},
		"roles out of order":         {Mode: precompiles.DeployReview, Reviewers: []string{"committee", "auditor"}},
		"too little time to look":    {Mode: precompiles.DeployReview, Lifetime: 59_999},
	} {
		if err := p.carry(precompiles.ContractsAddress, "set_mode", m); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// TestHalt: a contract that is paused, or retired for ever, is only read, whoever calls it and by which way.
func TestHalt(t *testing.T) {
	c := newChain(t)
	self, other := c.deploy(probe().module(t, probeSchema())), c.deploy(probe().module(t, nil))
	on := func(who, method string, args any) *ledger.SignedTx {
		return c.tx(who, precompiles.ContractsAddress, method, args)
	}
	halt := precompiles.HaltArgs{Address: self, Reason: "a doubt"}
	put := func() *ledger.SignedTx { return c.tx("user", self, "put", none) }
	through := func() *ledger.SignedTx { return c.tx("user", other, "again", []any{self}) }
	wants := func(receipts []ledger.Receipt, codes ...uint32) {
		t.Helper()
		for i, code := range codes {
			status := ledger.OK
			if code != 0 {
				status = ledger.Denied
			}
			if r := receipts[i]; r.Status != status || r.Code != code {
				t.Errorf("transaction %d: %s with code %d, want code %d", i, r.Status, r.Code, code)
			}
		}
	}
	const halted = precompiles.DeniedHalted
	wants(c.block(put(), on("stranger", "pause", halt), on("admin", "pause", halt), put(), on("admin", "pause", halt)), 0, precompiles.DeniedOwner, 0, halted)
	status := func() string { return fmt.Sprintf("%x", c.value(other, "status")) }
	c.want(c.block(through())[0], ledger.OK, 0)
	refused := status()
	t.Log("views answer, in transactions and from outside")
	c.want(c.block(c.tx("user", self, "peek", none))[0], ledger.OK, 0)
	if o, err := c.x.View(context.Background(), c.head, Call{To: ledger.Target{Address: self}, Method: "peek", Args: none}); err != nil || o.Status != ledger.OK {
		t.Errorf("view of a paused contract: %+v, %v", o, err)
	}
	t.Log("its owner mends it, and has it go on in the block that says so")
	mended := probe()
	mended.method("upgrade", hostCall("set", mended.text("mended"), mended.text("y")), succeed)
	schema := probeSchema()
	schema.Methods = append(schema.Methods, ledger.Method{Name: "upgrade", Kind: ledger.MethodUpgrade})
	c.want(c.block(on("admin", "replace", precompiles.ReplaceArgs{Address: self, Code: mended.module(t, schema)}))[0], ledger.OK, 0)
	if c.value(self, "mended") == nil {
		t.Error("the upgrade of a paused contract did not run")
	}
	wants(c.block(put(), on("admin", "resume", precompiles.AddressArgs{Address: self}), put()), halted, 0, 0)
	c.want(c.block(through())[0], ledger.OK, 0)
	if status() == refused {
		t.Errorf("the status that a caller sees is %s, paused or not", refused)
	}
	t.Log("what a motion paused, its owner does not resume")
	wants(c.block(on("admin", "pause", halt)), 0)
	if err := c.carry(precompiles.ContractsAddress, "pause", halt); err != nil {
		t.Fatal(err)
	}
	wants(c.block(on("admin", "resume", precompiles.AddressArgs{Address: self}), put()), precompiles.DeniedMotion, halted)
	if err := c.carry(precompiles.ContractsAddress, "resume", precompiles.AddressArgs{Address: self}); err != nil {
		t.Fatal(err)
	}
	wants(c.block(put()), 0)
	t.Log("retired is for ever")
	wants(c.block(on("admin", "retire", halt), put(), on("admin", "resume", precompiles.AddressArgs{Address: self}),
		on("admin", "replace", precompiles.ReplaceArgs{Address: self, Code: probe().module(t, nil), Breaking: true}), on("admin", "transfer", precompiles.TransferArgs{Address: self, Owner: address("user")}),
		c.tx("user", self, "peek", none)), 0, halted, halted, halted, halted, 0)
	if err := c.carry(precompiles.ContractsAddress, "resume", precompiles.AddressArgs{Address: self}); err == nil {
		t.Error("a motion brings a retired contract back")
	}
}

// TestCodeByMotion: where policies want a motion for code, it comes by that, in the name of who proposed or owns it.
func TestCodeByMotion(t *testing.T) {
	p := newPipeline(t)
	hooked := func(hook string) []byte {
		a := probe()
		a.method(hook, hostCall("caller_attr", i32(1), i32(600), i32(64)), drop, hostCall("set", a.text(hook), i32(600), i32(6)), succeed)
		return a.module(t, nil)
	}
	policy := func(method string) {
		t.Helper()
		args := precompiles.SetPolicyArgs{Contract: precompiles.ContractsAddress, Method: method, Policy: &precompiles.Policy{Rule: precompiles.RuleMajority, Lock: 3_600_000}}
		if err := p.carry(precompiles.GovernanceAddress, "set_policy", args); err != nil {
			t.Fatal(err)
		}
	}
	ran := func(self ledger.Address, hook string) {
		t.Helper()
		if who := p.value(self, hook); string(who) != "\x65alpha" {
			t.Errorf("%s ran for %q, want the deployer of alpha", hook, who)
		}
	}
	policy("release")
	policy("replace")

	t.Log("a release takes its approvals and the motion, and its proposer owns the contract and its name")
	id := p.propose(precompiles.ProposalArgs{Code: hooked("init"), Name: "token", Label: "1"})
	carryOut := precompiles.ReleaseArgs{ID: id}
	if err := p.carry(precompiles.ContractsAddress, "release", carryOut); err == nil {
		t.Error("a motion releases what has no approval")
	}
	p.want(p.by("beta", "approve", p.approval(id)), ledger.OK, 0)
	p.want(p.by("gamma", "approve", p.approval(id)), ledger.OK, 0)
	p.want(p.by("deployer", "release", carryOut), ledger.Denied, precompiles.DeniedMotion)
	if err := p.carry(precompiles.ContractsAddress, "release", carryOut); err != nil {
		t.Fatal(err)
	}
	self := p.row(id).Contract
	n, _, err := precompiles.ReadName(p.head, "token")
	if d := p.contract(self); err != nil || d.Owner != address("deployer") || n.Owner != address("deployer") {
		t.Errorf("the contract is %+v, its name %+v, %v", d, n, err)
	}
	ran(self, "init")

	t.Log("another version of the name, and an upgrade, go the same way")
	v2 := p.propose(precompiles.ProposalArgs{Code: hooked("init"), Name: "token", Label: "2"})
	up := p.propose(precompiles.ProposalArgs{Contract: self, Code: hooked("upgrade"), Breaking: true})
	for _, id := range []uint64{v2, up} {
		if err := p.carry(precompiles.ContractsAddress, "approve", p.approval(id)); err != nil {
			t.Fatal(err)
		}
		if err := p.carry(precompiles.ContractsAddress, "release", precompiles.ReleaseArgs{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, err := precompiles.ReadName(p.head, "token"); err != nil || len(n.Versions) != 2 {
		t.Errorf("the name is %+v, %v", n, err)
	}
	ran(self, "upgrade")

	t.Log("a motion replaces the code of what is frozen, and its owner does not")
	if err := p.carry(precompiles.AccessAddress, "freeze_contract", precompiles.FreezeContractArgs{Contract: self, Reason: "fault"}); err != nil {
		t.Fatal(err)
	}
	mended := probe()
	mended.method("upgrade", hostCall("set", mended.text("mended"), mended.text("y")), succeed)
	replace := precompiles.ReplaceArgs{Address: self, Code: mended.module(t, nil), Breaking: true}
	p.want(p.by("deployer", "replace", replace), ledger.Denied, precompiles.DeniedMotion)
	if err := p.carry(precompiles.ContractsAddress, "replace", replace); err != nil {
		t.Fatal(err)
	}
	if d := p.contract(self); p.value(self, "mended") == nil || d.Number != 3 || d.Owner != address("deployer") {
		t.Errorf("after the replacement: %+v", d)
	}

	t.Log("what acts for the account that calls it is for no motion")
	for _, method := range []string{"deploy", "propose", "transfer"} {
		err := p.carry(precompiles.GovernanceAddress, "set_policy", precompiles.SetPolicyArgs{Contract: precompiles.ContractsAddress, Method: method, Policy: &precompiles.Policy{Rule: precompiles.RuleMajority}})
		if e, ok := errors.AsType[*precompiles.Error](err); !ok || e.Code != precompiles.AbortPolicy || !strings.Contains(e.Reason, "acts for the account that calls it, and a motion has none") {
			t.Errorf("a policy that wants a motion for %s: %v", method, err)
		}
	}
	r := p.block(p.tx("chair", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Actions: []precompiles.Action{{To: precompiles.ContractsAddress, Method: "deploy", Args: p.marshal(precompiles.DeployArgs{})}}}))[0]
	p.want(r, ledger.Aborted, precompiles.AbortArguments)
}
