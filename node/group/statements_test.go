package group

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// audit exports what a node has of all blocks, and verifies it against the genesis.
func (n *testNode) audit() *audit.Verdict {
	n.t.Helper()
	if err := n.group.FlushStatements(); err != nil {
		n.t.Fatal(err)
	}
	var out bytes.Buffer
	head := n.store.Head().Height()
	if err := audit.Export(n.t.Context(), &out, &audit.Source{
		Suite: n.suite, Chain: n.chain, Group: "main", Head: head, FS: n.fs, Statements: "data/" + StatementsDir,
		Block: n.store.Block, BlockHash: n.store.BlockHash,
		Epoch: func(number uint64) (ledger.Epoch, ledger.Height, error) {
			for h := range head {
				changes, err := n.store.Changes(h + 1)
				if err != nil {
					return ledger.Epoch{}, 0, err
				}
				for _, c := range changes {
					var e epochState
					if bytes.Equal(c.Key, epochKey) && ledger.Unmarshal(c.Value, &e) == nil && e.Number == number {
						return executor{n}.members(e), h + 1, nil
					}
				}
			}
			return ledger.Epoch{}, 0, errors.New("it has not begun")
		},
	}, 0, head); err != nil {
		n.t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
	verdict, err := audit.Verify(n.t.Context(), open, audit.Trust{Suite: n.suite, Genesis: &n.genesis, First: n.first.Hash()}, nil)
	if err != nil {
		n.t.Fatalf("node %d: %v", n.number, err)
	}
	if verdict.Height != head || verdict.Block != n.store.Head().Hash() || len(verdict.Notes) > 0 {
		n.t.Errorf("node %d: verdict %+v, want one about block %d", n.number, verdict, head)
	}
	return verdict
}

// TestStatementsAreLogged audits a group that lost its leader, and a member that lost power and came back.
func TestStatementsAreLogged(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	for n := range uint64(5) {
		w.nodes[1].mustOffer(w.tx(n, 60_000))
		w.reach(ledger.Height(n + 1))
	}
	w.run(1_000, func() bool { return false }) // what follows the last block, and the log's sync
	before := w.nodes[2].audit()
	if want := 5 * 9; before.Statements != want { // a proposal, prepares and commits of four
		t.Errorf("%d statements logged of five blocks, want %d", before.Statements, want)
	}
	w.nodes[0].crash() // the leader
	w.nodes[2].crash()
	w.start(2)
	for n := range uint64(5) {
		w.nodes[1].mustOffer(w.tx(5+n, 60_000))
		w.reach(ledger.Height(6 + n))
	}
	for _, n := range w.nodes[1:] {
		v := n.audit()
		if v.NewViews == 0 || v.Statements < before.Statements+5*5 || len(v.Evidence) > 0 || v.Unchecked > 0 || v.Missed > 0 {
			t.Errorf("node %d: verdict %+v after a view change", n.number, v)
		}
	}
}

// TestStatementsOfALiar has a member sign thousands of statements: the log keeps few of them, and all that the honest say, and
// an audit finds the lies.
func TestStatementsOfALiar(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2)
	for n := range 1_500 {
		st := ledger.Statement{Kind: ledger.Prepare, Height: 1, Order: keys.Digest{byte(n), byte(n >> 8)}}
		w.send(3, 0, w.vote(3, st))
	}
	w.nodes[1].mustOffer(w.tx(1, 60_000))
	w.reach(1)
	w.run(1_000, func() bool { return false })
	v := w.nodes[0].audit()
	if v.Statements < maxStated+7 || v.Statements > maxStated+20 {
		t.Errorf("%d statements logged, want %d of the liar and few others", v.Statements, maxStated)
	}
	if len(v.Evidence) != 1 {
		t.Fatalf("%d pieces of evidence, want 1", len(v.Evidence))
	}
	if place, err := v.Evidence[0].Place(); err != nil || place.Member != 3 || place.Offence != ledger.Equivocation {
		t.Errorf("evidence of %+v, %v", place, err)
	}
}
