package group

import (
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// backlog gives nodes in turn so many transactions of 30 kB each, of which the leader hears nothing.
func (w *world) backlog(leader, txs int, nodes ...int) {
	w.t.Helper()
	w.hook = func(_, to int, p Protocol, m []byte) []byte {
		if p == Transactions && to == leader {
			return nil
		}
		return m
	}
	for i := range txs {
		tx := w.tx(uint64(i), 600_000).Tx
		tx.Args, tx.Signatures = mustMarshal(make([]byte, 30_000)), nil
		raw := must(tx.Sign(w.suite, w.client)).Raw
		n := w.nodes[nodes[i%len(nodes)]]
		n.on(0, func() {
			n.group.Offer(raw, func(_ ledger.TxID, err error) {
				if err != nil {
					w.t.Error(err)
				}
			})
		})
	}
	w.run(100, func() bool { return false })
	w.hook = nil
}

// emptied reports whether no node's pool has transactions.
func (w *world) emptied() bool {
	for _, n := range w.nodes {
		if count, _, _ := n.group.Pool().Size(); count > 0 {
			return false
		}
	}
	return true
}

// TestResendFillsLeader has a leader whose pool is empty, as after its restart, while 7.5 MB wait with the others: they are
// in blocks within seconds, and nobody accuses it.
func TestResendFillsLeader(t *testing.T) {
	const txs = 250
	for _, c := range []struct {
		name  string
		nodes []int // after the leader, that clients sent to
	}{
		{"clients sent to all others", []int{1, 2, 3}},
		{"clients sent to one", []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newRaftWorld(t, 4, 0)
			w.start(0, 1, 2, 3)
			leader := w.leader()
			var nodes []int
			for _, n := range c.nodes {
				nodes = append(nodes, (leader+n)%4)
			}
			w.backlog(leader, txs, nodes...)
			if count, _, _ := w.nodes[leader].group.Pool().Size(); count > 0 {
				t.Fatalf("the leader has %d transactions", count)
			}
			began, view := w.now, w.nodes[leader].group.Status().Consensus.View
			if !w.run(60_000, w.emptied) {
				count, bytes, _ := w.nodes[leader].group.Pool().Size()
				t.Fatalf("after a minute %d transactions of %d bytes wait at the leader, which has %d blocks", count, bytes, w.nodes[leader].store.Head().Height())
			}
			if took := w.now - began; took > 15_000 {
				t.Errorf("it took %d ms, want some 15 pulses of %d ms", took, pendingPulse)
			} else {
				t.Logf("%d ms, %d blocks", took, w.nodes[leader].store.Head().Height())
			}
			if s := w.nodes[leader].group.Status().Consensus; s.View != view {
				t.Errorf("view %d, was %d", s.View, view)
			}
		})
	}
}

// TestResendObserver has an observer whose transactions come to nobody: it does not know what is under way, and waits
// twice as long each time before it sends them again.
func TestResendObserver(t *testing.T) {
	w := newWorld(t, 4)
	w.observe(1)
	w.start(0, 1, 2, 3, 4)
	sent := 0
	w.hook = func(from, to int, p Protocol, m []byte) []byte {
		if p != Transactions || from != 4 {
			return m
		}
		if to == 0 {
			sent++
		}
		return nil
	}
	w.nodes[4].mustOffer(w.tx(1, 600_000))
	w.run(20_000, func() bool { return false })
	if sent < 5 || sent > 8 { // after 0, 0.5, 1, 2, 4, 8 and 16 s
		t.Errorf("it was sent %d times in 20 s, want about 6", sent)
	}
}
