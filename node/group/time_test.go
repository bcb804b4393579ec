package group

import (
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestClockOff sets one node's clock an hour off. As a follower it must change nothing; as the leader it may cost a
// view change, and its block times must not become the chain's.
func TestClockOff(t *testing.T) {
	const (
		hour     = 3_600_000
		seconds  = 15
		lifetime = 2 * hour // longer than the clock is off, so that its pool takes what clients send
	)
	for _, c := range []struct {
		name  string
		node  int
		skew  int64
		views uint64 // changes that it may cost
	}{
		{"a follower ahead", 3, hour, 0},
		{"a follower behind", 3, -hour, 0},
		{"the leader ahead", 0, hour, 1},
		{"the leader behind", 0, -hour, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 4)
			w.genesis.Params.MaxLifetime = lifetime
			bad := w.nodes[c.node]
			bad.skew = c.skew
			w.start(0, 1, 2, 3)
			stored := map[ledger.Height]int64{} // when, by the true clock
			for i := range seconds * 5 {
				raw := w.tx(uint64(i+1), lifetime-hour+1_000_000).Raw
				w.nodes[1].on(int64(i)*200, func() {
					w.nodes[1].group.Offer(raw, func(_ ledger.TxID, err error) {
						if err != nil {
							t.Errorf("at %d ms: %v", w.now, err)
						}
					})
				})
			}
			last, gap := w.now, int64(0)
			for w.now < seconds*1_000 {
				height := w.height()
				w.run(seconds*1_000-w.now, func() bool { return w.height() > height })
				stored[w.height()] = w.now
				gap, last = max(gap, w.now-last), w.now
			}
			w.run(3_000, func() bool { return false })
			if gap > 5_000 {
				t.Errorf("no block for %d ms: the chain halts", gap)
			}
			txs := 0
			for _, b := range w.nodes[1].blocks {
				o := &b.Header.Order
				txs += int(o.TxCount)
				// Each view since the last block doubles the bound.
				bound := w.genesis.Params.ClockSkew << min(b.Certificate.Statement.View, 3)
				if at, ok := stored[o.Height]; ok && (o.UnixMilli-begins-at > bound || at-(o.UnixMilli-begins) > bound+1_000) {
					t.Errorf("block %d has a time of %d ms, and was stored at %d ms", o.Height, o.UnixMilli-begins, at)
				}
			}
			if txs != seconds*5 {
				t.Errorf("%d of %d transactions are in blocks", txs, seconds*5)
			}
			for _, n := range w.nodes {
				if st := n.group.Status(); st.Consensus.View > c.views || n.store.Head().Hash() != w.nodes[1].store.Head().Hash() || len(n.alarms) > 0 {
					t.Errorf("node %d: view %d, height %d of %d, alarms %v", n.number, st.Consensus.View, n.store.Head().Height(), w.nodes[1].store.Head().Height(), n.alarms)
				}
			}
			t.Logf("%d blocks, longest gap %d ms, view %d", len(w.nodes[1].blocks), gap, w.nodes[1].group.Status().Consensus.View)
		})
	}
}
