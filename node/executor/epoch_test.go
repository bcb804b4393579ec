package executor

import (
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// A barrier block ends its epoch, and says which one begins, whether or not its activation did anything.
func TestBarrier(t *testing.T) {
	c := newChain(t)
	params := ledger.DefaultParams()
	params.BatchDelay = 7
	proposal := c.block(c.tx("committee", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Reform: &precompiles.Reform{Params: &params}}))[0]
	c.want(proposal, ledger.OK, 0)
	if next := c.head.Header().NextEpoch; !next.IsZero() {
		t.Errorf("an ordinary block names the epoch %s", next)
	}
	first := c.tx("committee", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 1})
	second := c.tx("committee", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 1})
	for _, tx := range []*ledger.SignedTx{first, second} {
		if err := c.x.Admit(c.head, tx); err != nil {
			t.Errorf("Admit of a motion that has what it takes: %v", err)
		}
	}
	for _, refused := range []*ledger.SignedTx{
		c.tx("committee", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 2}),
		c.tx("user", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 1}),
	} {
		if err := c.x.Admit(c.head, refused); err == nil {
			t.Errorf("Admit let a transaction of %s through that would end an epoch for nothing", refused.Sender)
		}
	}
	ends := func(tx *ledger.SignedTx) error {
		order := c.order(tx)
		return c.x.EndsEpoch(c.head, &order, tx)
	}
	poor := c.body("committee", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 1})
	poor.GasLimit = testGas
	for poor.GasLimit > 0 && c.x.Admit(c.head, c.sign(poor, c.signers["committee"])) == nil {
		poor.GasLimit /= 2
	}
	poor.GasLimit *= 2
	gone := c.body("committee", precompiles.MembersAddress, "recover", precompiles.RecoverArgs{Reform: precompiles.Reform{Remove: []identity.NodeID{{9}}, Override: "a flood"}})
	gone.Sender = precompiles.MembersAddress
	if err := ends(c.sign(gone, c.signers["committee"])); err == nil || !strings.Contains(err.Error(), "cannot be removed: the group does not know it") {
		t.Errorf("EndsEpoch of a recovery without a node that the group does not know: %v", err)
	}
	for story, tx := range map[string]*ledger.SignedTx{
		"of no motion":                  c.tx("committee", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 2}),
		"by somebody without a say":     c.tx("user", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 1}),
		"with too little gas to end it": c.sign(poor, c.signers["committee"]),
	} {
		if err := ends(tx); err == nil {
			t.Errorf("EndsEpoch of an activation %s = nil", story)
		}
	}
	if err := c.x.Admit(c.head, c.sign(poor, c.signers["committee"])); err != nil {
		t.Fatalf("the poor activation fails too early: %v", err)
	}
	if err := ends(first); err != nil {
		t.Errorf("EndsEpoch of a motion that has what it takes: %v", err)
	}
	began := func(number uint64, delay int64) {
		t.Helper()
		epoch, err := c.x.Epoch(c.head)
		if err != nil {
			t.Fatal(err)
		}
		if epoch.Number != number || epoch.Params.BatchDelay != delay || c.head.Header().NextEpoch != epoch.Hash(c.suite) {
			t.Fatalf("epoch %d with a delay of %d, and the header says %s", epoch.Number, epoch.Params.BatchDelay, c.head.Header().NextEpoch)
		}
		b, found, err := c.x.Beginning(c.head, number)
		if err != nil || !found || b.Height != c.head.Height() || b.Epoch.Hash(c.suite) != epoch.Hash(c.suite) {
			t.Errorf("beginning of epoch %d: %+v, %t, %v", number, b, found, err)
		}
	}
	c.want(c.block(first)[0], ledger.OK, 0)
	began(1, 7)
	params.BatchDelay = 8
	c.want(c.block(c.tx("committee", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Reform: &precompiles.Reform{Params: &params}}))[0], ledger.OK, 0)
	if err := ends(second); err == nil {
		t.Error("EndsEpoch of a motion that was carried out = nil")
	}
	c.want(c.block(second)[0], ledger.Aborted, precompiles.AbortMotion)
	began(2, 7)
	// The epoch ended for nothing, which groups refuse: what was proposed in it stands.
	third := c.tx("committee", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 2})
	if err := c.x.Admit(c.head, third); err != nil {
		t.Errorf("Admit after an activation that did nothing: %v", err)
	}
	c.want(c.block(third)[0], ledger.OK, 0)
	began(3, 8)
	nodes, err := c.x.Nodes(c.head)
	if err != nil || len(nodes) != 1 || nodes[0].Row.Status != precompiles.NodeMember {
		t.Errorf("Nodes = %+v, %v", nodes, err)
	}
}

// A motion names the block below the one that it is made in: what a node that joins must have.
func TestMotionNamesBlock(t *testing.T) {
	c := newChain(t)
	c.block(c.tx("user", precompiles.AccountsAddress, "get", precompiles.AddressArgs{}))
	below, height := c.head.Hash(), c.head.Height()
	params := ledger.DefaultParams()
	params.BatchDelay = 7
	c.want(c.block(c.tx("committee", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Reform: &precompiles.Reform{Params: &params}}))[0], ledger.OK, 0)
	o, err := c.x.View(t.Context(), c.head, Call{To: ledger.Target{Address: precompiles.GovernanceAddress}, Method: "motions", Args: c.marshal(precompiles.MotionsArgs{})})
	if err != nil {
		t.Fatal(err)
	}
	var all []precompiles.ListedMotion
	if err := ledger.Unmarshal(o.Data, &all); err != nil || len(all) != 1 {
		t.Fatalf("%d motions, %v", len(all), err)
	}
	if m := all[0].Row; m.Block != below || m.Height != height || m.Block == (keys.Digest{}) {
		t.Errorf("the motion names block %d %s, want %d %s", m.Height, m.Block, height, below)
	}
}
