package group

import (
	"slices"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// load submits transactions at the first node, a block's worth each few milliseconds.
func (w *world) load(milli, every int64) {
	w.t.Helper()
	number := uint64(1) << 20
	for at := int64(0); at < milli; at += every {
		for range w.genesis.Params.BlockTxs {
			number++
			raw := w.tx(number, 600_000).Raw
			w.nodes[0].on(at, func() { w.nodes[0].group.Offer(raw, func(ledger.TxID, error) {}) })
		}
	}
}

// height returns the highest stored height.
func (w *world) height() (height ledger.Height) {
	for _, n := range w.nodes {
		if n.up {
			height = max(height, n.store.Head().Height())
		}
	}
	return height
}

// TestWindow shows what pipelining is for: with messages of 30 ms and blocks of 100 ms, execution never waits for
// votes. A window of 1 pays two steps between executions.
func TestWindow(t *testing.T) {
	const milli = 5_000
	made := map[uint32]ledger.Height{}
	for _, window := range []uint32{1, 4} {
		w := newWorld(t, 4)
		w.delay, w.execute = 30, 100
		w.genesis.Params.Window, w.genesis.Params.BlockTxs = window, 2
		w.start(0, 1, 2, 3)
		w.load(milli, 40)
		w.run(milli, func() bool { return false })
		made[window] = w.height()
		for _, n := range w.nodes {
			if n.runs > int(n.store.Head().Height()+ledger.Height(window)) {
				t.Errorf("window %d: node %d executed %d blocks to store %d", window, n.number, n.runs, n.store.Head().Height())
			}
			if st := n.group.Status(); st.Consensus.View != 0 || len(n.alarms) > 0 {
				t.Errorf("window %d: node %d in view %d, alarms %v", window, n.number, st.Consensus.View, n.alarms)
			}
			for _, b := range n.blocks { // what is stored has a certificate of its own
				if st := b.Certificate.Statement; st.Height != b.Header.Order.Height {
					t.Errorf("window %d: block %d is stored with a certificate of height %d", window, b.Header.Order.Height, st.Height)
				}
			}
			if n.store.Head().Height()+ledger.Height(window) < made[window] {
				t.Errorf("window %d: node %d is at height %d of %d", window, n.number, n.store.Head().Height(), made[window])
			}
		}
	}
	t.Logf("blocks in %d ms: %d with a window of 1, %d with 4", milli, made[1], made[4])
	if 2*made[4] < 3*made[1] {
		t.Errorf("%d blocks with a window of 4, %d with 1: want at least 1.5 times as many", made[4], made[1])
	}
}

// TestInFlight sees that a transaction which comes while blocks are in flight goes into the next one at once, and
// that none is taken twice.
func TestInFlight(t *testing.T) {
	w := newWorld(t, 4)
	w.delay, w.execute = 1, 300
	w.start(0, 1, 2, 3)
	leader := w.nodes[0]
	for i := range uint64(3) {
		leader.mustOffer(w.tx(i+1, 600_000))
		if !w.run(60, func() bool { return len(leader.group.proposals) == int(i)+1 }) {
			t.Fatalf("transaction %d: %d blocks in flight at height %d", i+1, len(leader.group.proposals), leader.store.Head().Height())
		}
		w.run(40, func() bool { return false })
		if count := leader.group.waiting(9); count != 0 {
			t.Errorf("%d transactions wait, though all are in flight", count)
		}
	}
	w.reach(3)
	for _, n := range w.nodes {
		if len(n.group.proposals) > 0 || n.runs != 3 {
			t.Errorf("node %d keeps %d proposals and executed %d blocks", n.number, len(n.group.proposals), n.runs)
		}
	}
}

// TestViewChangeInFlight kills the leader with three blocks in flight: the next leader proposes the tip again, and
// nobody computes again what it knows.
func TestViewChangeInFlight(t *testing.T) {
	w := newWorld(t, 4)
	w.delay, w.execute = 1, 10
	w.start(0, 1, 2, 3)
	w.hook = func(_, _ int, p Protocol, m []byte) []byte {
		var packed packet
		if p == Consensus && ledger.Unmarshal(m, &packed) == nil && slices.ContainsFunc(packed.Message.Votes, func(v ledger.Vote) bool {
			return v.Statement.Kind == ledger.Commit && v.Statement.View == 0
		}) {
			return nil
		}
		return m
	}
	for i := range uint64(3) {
		w.nodes[0].mustOffer(w.tx(i+1, 600_000))
		if !w.run(100, func() bool {
			return !slices.ContainsFunc(w.nodes, func(n *testNode) bool { return n.runs != int(i)+1 })
		}) {
			t.Fatalf("block %d was not executed everywhere", i+1)
		}
	}
	w.run(30, func() bool { return false })
	w.nodes[0].crash()
	w.reach(3)
	for _, n := range w.nodes[1:] {
		if n.runs != 3 {
			t.Errorf("node %d executed %d times for three blocks", n.number, n.runs)
		}
		for _, b := range n.blocks {
			if b.Certificate.Statement.View == 0 {
				t.Errorf("node %d: block %d became final in view 0 without commit votes", n.number, b.Header.Order.Height)
			}
		}
	}
}

// TestAside abandons blocks and asks for them again, as an engine does when another view comes back to them.
func TestAside(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0)
	n := w.nodes[0]
	n.mustOffer(w.tx(1, 600_000))
	if !w.run(100, func() bool { return n.runs == 1 && len(n.group.proposals) == 1 }) {
		t.Fatal("the leader proposes nothing")
	}
	w.run(20, func() bool { return false })
	for hash, p := range n.group.proposals {
		n.group.events = nil
		n.group.abandon(hash)
		if count := n.group.waiting(9); count != 1 {
			t.Errorf("%d transactions wait after their block was abandoned, want 1", count)
		}
		n.group.events = nil
		n.group.check(consensus.CheckPayload{Order: p.order})
		if err := n.group.execute(&p.order); err != nil {
			t.Fatal(err)
		}
		if len(n.group.events) != 2 || n.runs != 1 {
			t.Errorf("%d answers and %d executions, want two answers and no execution again", len(n.group.events), n.runs-1)
		}
		if count := n.group.waiting(9); count != 0 {
			t.Errorf("%d transactions wait while their block is in flight", count)
		}
	}
}
