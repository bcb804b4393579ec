package precompiles

import (
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// survive calls recover as a recovery block does.
func (a *assembly) survive(f Reform) error {
	a.caller = MembersAddress
	_, err := a.call(newMembers(), "recover", &RecoverArgs{Epoch: a.epoch().Number, Reform: f})
	return err
}

// A recovery changes what a motion may not: more members at once than may be faulty, and nodes that nobody knew.
func TestRecovery(t *testing.T) {
	a := newAssembly(t, 4)
	params := ledger.DefaultParams()
	params.BatchDelay = 5
	motion, err := a.propose(Reform{Params: &params})
	wantError(t, err, ledger.OK, 0)
	node, account := newKey(t, 500), newKey(t, 501)
	wantError(t, a.survive(Reform{
		Found:   []Founding{{Name: "bank-9", Key: account}},
		Observe: []Candidate{{Institution: "bank-9", Key: node, Address: "10.0.0.9:9540"}},
		Add:     []identity.NodeID{nodeOf(t, node)}, Remove: a.members[2:], Override: "two sites burnt down",
	}), ledger.OK, 0)
	a.endEpoch()
	e := a.epoch()
	var nodes []identity.NodeID
	for _, m := range e.Members {
		nodes = append(nodes, m.Node)
	}
	if want := []identity.NodeID{a.members[0], a.members[1], nodeOf(t, node)}; e.Number != 1 || !slices.Equal(nodes, want) || e.Members[2].Institution != "bank-9" {
		t.Errorf("epoch %d with members %v, want %v", e.Number, nodes, want)
	}
	for i, want := range []NodeStatus{NodeMember, NodeMember, NodeRetired, NodeRetired} {
		if got := a.status(a.members[i]); got != want {
			t.Errorf("node %d is %s, want %s", i, got, want)
		}
	}
	wantError(t, a.by("bank-0", "vote", VoteArgs{ID: motion, For: true}), ledger.Aborted, AbortMotion) // it was about another group
	if _, err := a.propose(Reform{Params: &params}); err != nil {
		t.Errorf("a motion after the recovery: %v", err)
	}
}

func TestRefusedRecovery(t *testing.T) {
	stranger, known := newKey(t, 500), newKey(t, 100)
	candidate := func(k ledger.Key) []Candidate {
		return []Candidate{{Institution: "bank-0", Key: k, Address: "10.0.0.9:9540"}}
	}
	for why, c := range map[string]struct {
		change func(*assembly, *RecoverArgs)
		code   uint32
	}{
		"another epoch":          {func(_ *assembly, r *RecoverArgs) { r.Epoch++ }, AbortReform},
		"no reason":              {func(_ *assembly, r *RecoverArgs) { r.Reform.Override = "" }, AbortReform},
		"a long reason":          {func(_ *assembly, r *RecoverArgs) { r.Reform.Override = strings.Repeat("x", MaxRecoveryReason+1) }, AbortReform},
		"parameters":             {func(_ *assembly, r *RecoverArgs) { r.Reform.Params = new(ledger.DefaultParams()) }, AbortReform},
		"authorities":            {func(_ *assembly, r *RecoverArgs) { r.Reform.Trust = []TrustedRoot{trusted("bank-0", "a", 1)} }, AbortReform},
		"nobody is left":         {func(a *assembly, r *RecoverArgs) { r.Reform.Remove = a.members }, AbortReform},
		"one is named twice":     {func(a *assembly, r *RecoverArgs) { r.Reform.Remove = append(r.Reform.Remove, a.members[2]) }, AbortReform},
		"an unknown node leaves": {func(_ *assembly, r *RecoverArgs) { r.Reform.Remove = []identity.NodeID{{1}} }, AbortReform},
		"an unknown node joins":  {func(_ *assembly, r *RecoverArgs) { r.Reform.Add = []identity.NodeID{{1}} }, AbortReform},
		"a member joins":         {func(a *assembly, r *RecoverArgs) { r.Reform.Add = a.members[:1] }, AbortReform},
		"a key that is known":    {func(_ *assembly, r *RecoverArgs) { r.Reform.Observe = candidate(known) }, AbortReform},
		"an institution that is not": {func(_ *assembly, r *RecoverArgs) {
			r.Reform.Observe = []Candidate{{Institution: "bank-9", Key: stranger, Address: "10.0.0.9:9540"}}
		}, AbortInstitution},
	} {
		a := newAssembly(t, 4)
		args := &RecoverArgs{Reform: Reform{Remove: a.members[2:], Override: "a flood"}}
		c.change(a, args)
		a.caller = MembersAddress
		_, err := a.call(newMembers(), "recover", args)
		t.Run(why, func(t *testing.T) { wantError(t, err, ledger.Aborted, c.code) })
	}
	t.Run("an account", func(t *testing.T) {
		a := newAssembly(t, 4)
		a.caller = name("bank-0")
		_, err := a.call(newMembers(), "recover", &RecoverArgs{Reform: Reform{Remove: a.members[2:], Override: "a flood"}})
		wantError(t, err, ledger.Denied, DeniedDirect)
	})
	t.Run("a contract", func(t *testing.T) {
		a := newAssembly(t, 4)
		a.caller = MembersAddress
		_, err := newMembers().Invoke(relayed{a}, "recover", mustMarshal(t, &RecoverArgs{Reform: Reform{Remove: a.members[2:], Override: "a flood"}}))
		wantError(t, err, ledger.Denied, DeniedDirect)
	})
}
