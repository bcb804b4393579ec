package group

import (
	"reflect"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// send has a member send votes of its own to another, as a program of its own making could.
func (w *world) send(from, to int, votes ...ledger.Vote) {
	m := mustMarshal(&packet{Message: consensus.Message{Kind: 2, Votes: votes}})
	target := w.nodes[to]
	target.on(1, func() { target.group.Receive(w.nodes[from].id, Consensus, m) })
}

func TestEvidenceIsKept(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2)
	prepare := func(height ledger.Height, order byte) ledger.Statement {
		return ledger.Statement{Kind: ledger.Prepare, Height: height, Order: keys.Digest{order}}
	}
	w.send(3, 0, w.vote(3, prepare(1, 1)), w.vote(3, prepare(1, 2)))
	w.send(3, 0, w.vote(3, prepare(1, 3)), w.vote(3, prepare(1, 1))) // the same again
	honest := w.nodes[0]
	if !w.run(1_000, func() bool { return len(honest.group.Evidence()) > 0 }) {
		t.Fatal("a member that voted for two orders is not accused")
	}
	found := honest.group.Evidence()
	if len(found) != 1 || found[0].UnixMilli != begins+w.now {
		t.Fatalf("evidence = %+v, want one piece, found now", found)
	}
	if err := found[0].Proof.Verify(w.suite, w.chain, "main", w.genesis.Epoch()); err != nil {
		t.Fatal(err)
	}
	w.nodes[1].mustOffer(w.tx(1, 60_000))
	w.reach(1)

	honest.crash()
	w.start(0)
	if again := honest.group.Evidence(); !reflect.DeepEqual(again, found) {
		t.Fatalf("evidence after a crash = %+v, want %+v", again, found)
	}
	if e, ok := honest.group.FindEvidence(found[0].Proof.Digest(w.suite)); !ok || !reflect.DeepEqual(e, found[0]) {
		t.Errorf("FindEvidence = %+v, %v", e, ok)
	}
	if _, ok := honest.group.FindEvidence(keys.Digest{1}); ok {
		t.Error("FindEvidence finds what is not there")
	}
	w.send(3, 0, w.vote(3, prepare(2, 1)), w.vote(3, prepare(2, 2)))
	w.run(100, func() bool { return len(honest.group.Evidence()) > 1 })
	if n := len(honest.group.Evidence()); n != 2 {
		t.Errorf("%d pieces of evidence after the second offence, want 2", n)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0)
	g := w.nodes[0].group
	offend := func(member int, height ledger.Height) {
		st := ledger.Statement{Kind: ledger.Prepare, Height: height, Order: keys.Digest{1}}
		other := st
		other.Order = keys.Digest{2}
		if err := g.accuse(w.vote(member, st), w.vote(member, other)); err != nil {
			t.Fatal(err)
		}
	}
	for height := range ledger.Height(2 * maxEvidenceEach) {
		offend(3, height+1)
	}
	offend(2, 1)
	if n := len(g.Evidence()); n != maxEvidenceEach+1 {
		t.Errorf("%d pieces of evidence, want %d of one member and 1 of the other", n, maxEvidenceEach)
	}

	forged := w.vote(1, ledger.Statement{Kind: ledger.Prepare, Height: 1, Order: keys.Digest{1}})
	forged.Signature[0] ^= 1
	for _, pair := range [][2]ledger.Vote{
		{forged, w.vote(1, ledger.Statement{Kind: ledger.Prepare, Height: 1, Order: keys.Digest{2}})},
		{w.vote(1, ledger.Statement{Kind: ledger.Prepare, Height: 1}), w.vote(1, ledger.Statement{Kind: ledger.Prepare, Height: 2})},
	} {
		if err := g.accuse(pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.Evidence()); n != maxEvidenceEach+1 {
		t.Errorf("an engine that makes up evidence is believed")
	}
}
