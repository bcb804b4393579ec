package group

import (
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestDeadLeaders ends leaders under load, without a word from the transport, and watches how long no block comes.
// With one, that is three heartbeats and a view change; a second one in a row costs its progress timer, unless the
// transport tells that it is dead.
func TestDeadLeaders(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes int
		dead  []int
		told  bool // connections are seen to break, a second after the end
		limit int64
	}{
		{"the leader of four", 4, []int{0}, false, 1_000},
		{"the leader of four, whose connections break", 4, []int{0}, true, 1_000},
		{"two leaders of seven in a row", 7, []int{0, 1}, false, 2_000},
		{"two leaders of seven in a row, whose connections break", 7, []int{0, 1}, true, 1_500},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.nodes)
			for i := range w.nodes {
				w.start(i)
			}
			client := w.nodes[c.nodes-1]
			for i := range uint64(150) {
				raw := w.tx(i+1, 600_000).Raw
				client.on(int64(i)*40, func() { client.group.Offer(raw, func(ledger.TxID, error) {}) })
			}
			w.run(2_000, func() bool { return false })
			for _, i := range c.dead {
				w.nodes[i].crash()
				for _, n := range w.nodes {
					if dead := w.nodes[i].id; c.told && n.up {
						n.on(1_000, func() { n.group.PeerChanged(dead, false) })
					}
				}
			}
			height, last, gap := w.height(), w.now, int64(0)
			for w.now < 6_000 {
				if !w.run(6_000-w.now, func() bool { return w.height() > height }) {
					break
				}
				height = w.height()
				gap, last = max(gap, w.now-last), w.now
			}
			t.Logf("%d ms without a block; %d blocks, the last in view %d", gap, height, client.group.Status().Consensus.View)
			if gap > c.limit || len(client.blocks) < 50 {
				t.Errorf("%d ms without a block, want at most %d; %d blocks", gap, c.limit, len(client.blocks))
			}
		})
	}
}
