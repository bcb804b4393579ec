package ledger

import (
	"bytes"
	"errors"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

// vote signs a statement as a member of the fixture's chain.
func (f *fixture) vote(t testing.TB, member uint32, st Statement) Vote {
	t.Helper()
	signature, err := f.nodes[member].Sign(st.Digest(f.suite, f.chain, "main"))
	if err != nil {
		t.Fatal(err)
	}
	return Vote{Signer: member, Statement: st, Signature: signature}
}

func (f *fixture) evidence(t testing.TB, member uint32, a, b Statement) *Evidence {
	t.Helper()
	e, err := NewEvidence(f.vote(t, member, a), f.vote(t, member, b))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEvidence(t *testing.T) {
	f := newFixture(t)
	one, two := keys.Digest{1}, keys.Digest{2}
	at := func(kind StatementKind, view uint64, height Height, order, block keys.Digest) Statement {
		return Statement{Kind: kind, View: view, Height: height, Order: order, Block: block}
	}
	change := func(view uint64, high Rank) Statement { return Statement{Kind: ViewChange, View: view, High: high} }
	later := at(Prepare, 1, 7, two, keys.Digest{})
	later.Epoch = 1
	for _, c := range []struct {
		name string
		a, b Statement
		want Offence
	}{
		{"two proposals at one place", at(Propose, 1, 7, one, keys.Digest{}), at(Propose, 1, 7, two, keys.Digest{}), Equivocation},
		{"two prepares at one place", at(Prepare, 1, 7, one, keys.Digest{}), at(Prepare, 1, 7, two, keys.Digest{}), Equivocation},
		{"two commits at one place", at(Commit, 1, 7, one, one), at(Commit, 1, 7, two, two), Equivocation},
		{"two results of one order at one place", at(Commit, 1, 7, one, one), at(Commit, 1, 7, one, two), Equivocation},
		{"two results of one order in different views", at(Commit, 1, 7, one, one), at(Commit, 3, 7, one, two), Divergence},
		{"two attestations of a height", at(Attest, 1, 7, one, one), at(Attest, 2, 7, two, two), Equivocation},
		{"two view changes to a view", change(2, Rank{}), change(2, Rank{View: 1, Height: 6}), Equivocation},
		{"a view change that forgets a commit", at(Commit, 1, 7, one, one), change(2, Rank{View: 1, Height: 6}), Amnesia},
		{"a view change that forgets the view of a commit", at(Commit, 1, 7, one, one), change(4, Rank{View: 0, Height: 9}), Amnesia},

		{"a view change that tells of its commit", at(Commit, 1, 7, one, one), change(2, Rank{View: 1, Height: 7}), 0},
		{"a view change before the commit", at(Commit, 2, 7, one, one), change(2, Rank{View: 1, Height: 6}), 0},
		{"proposals of two views", at(Propose, 1, 7, one, keys.Digest{}), at(Propose, 2, 7, two, keys.Digest{}), 0},
		{"prepares of two heights", at(Prepare, 1, 7, one, keys.Digest{}), at(Prepare, 1, 8, two, keys.Digest{}), 0},
		{"prepares of two epochs", at(Prepare, 1, 7, one, keys.Digest{}), later, 0},
		{"commits of one block in two views", at(Commit, 1, 7, one, one), at(Commit, 2, 7, one, one), 0},
		{"a prepare and a commit", at(Prepare, 1, 7, one, keys.Digest{}), at(Commit, 1, 7, two, two), 0},
		{"view changes to two views", change(2, Rank{}), change(3, Rank{}), 0},
		{"heartbeats", at(Heartbeat, 1, 7, one, one), at(Heartbeat, 1, 7, two, two), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if ab, ba := Contradict(&c.a, &c.b), Contradict(&c.b, &c.a); ab != c.want || ba != c.want {
				t.Fatalf("Contradict = %s, and %s the other way round, want %s", ab, ba, c.want)
			}
			x, y := f.vote(t, 2, c.a), f.vote(t, 2, c.b)
			e, err := NewEvidence(x, y)
			if c.want == 0 {
				if !errors.Is(err, ErrEvidence) {
					t.Fatalf("NewEvidence = %v, want ErrEvidence", err)
				}
				if err := (&Evidence{Version: Version, A: x, B: y}).Verify(f.suite, f.chain, "main", f.genesis.Epoch()); !errors.Is(err, ErrEvidence) {
					t.Fatalf("Verify = %v, want ErrEvidence", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			other, err := NewEvidence(y, x)
			if err != nil || other.Digest(f.suite) != e.Digest(f.suite) {
				t.Errorf("the same votes in the other order are other evidence, %v", err)
			}
			if place, err := e.Place(); err != nil || place.Offence != c.want || place.Member != 2 {
				t.Errorf("Place = %+v, %v", place, err)
			}
			raw := encoded(t, e)
			if len(raw) > MaxEvidenceSize*3/4 {
				t.Errorf("evidence of %d bytes, at most %d are read", len(raw), MaxEvidenceSize)
			}
			decoded, err := DecodeEvidence(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := decoded.Verify(f.suite, f.chain, "main", f.genesis.Epoch()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEvidenceRefused(t *testing.T) {
	f := newFixture(t)
	a := Statement{Kind: Prepare, View: 1, Height: 7, Order: keys.Digest{1}}
	b := Statement{Kind: Prepare, View: 1, Height: 7, Order: keys.Digest{2}}
	good := f.evidence(t, 2, a, b)
	epoch := f.genesis.Epoch()
	later := *epoch
	later.Number = 1
	change := func(edit func(e *Evidence)) *Evidence {
		e := *good
		e.A.Signature, e.B.Signature = bytes.Clone(e.A.Signature), bytes.Clone(e.B.Signature)
		edit(&e)
		return &e
	}
	for _, c := range []struct {
		name  string
		e     *Evidence
		chain keys.Digest
		group GroupID
		epoch *Epoch
	}{
		{"of another chain", good, keys.Digest{9}, "main", epoch},
		{"of another group", good, f.chain, "other", epoch},
		{"of another epoch", good, f.chain, "main", &later},
		{"against nobody", good, f.chain, "main", &Epoch{Members: epoch.Members[:2]}},
		{"against another member", change(func(e *Evidence) { e.A.Signer, e.B.Signer = 1, 1 }), f.chain, "main", epoch},
		{"against two members", change(func(e *Evidence) { e.B.Signer = 1 }), f.chain, "main", epoch},
		{"with a forged first signature", change(func(e *Evidence) { e.A.Signature[0] ^= 1 }), f.chain, "main", epoch},
		{"with a forged second signature", change(func(e *Evidence) { e.B.Signature[63] ^= 1 }), f.chain, "main", epoch},
		{"without a signature", change(func(e *Evidence) { e.A.Signature = nil }), f.chain, "main", epoch},
		{"in the wrong order", change(func(e *Evidence) { e.A, e.B = e.B, e.A }), f.chain, "main", epoch},
		{"of one statement twice", change(func(e *Evidence) { e.B = e.A }), f.chain, "main", epoch},
		{"of another version", change(func(e *Evidence) { e.Version = 2 }), f.chain, "main", epoch},
	} {
		if err := c.e.Verify(f.suite, c.chain, c.group, c.epoch); !errors.Is(err, ErrEvidence) {
			t.Errorf("evidence %s: %v, want ErrEvidence", c.name, err)
		}
	}
	if _, err := DecodeEvidence(make([]byte, MaxEvidenceSize+1)); !errors.Is(err, ErrEvidence) {
		t.Errorf("DecodeEvidence of too many bytes: %v", err)
	}
}
