package group

import (
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

func TestPace(t *testing.T) {
	params := ledger.DefaultParams() // of a view timeout of 1,000 ms
	var p pace
	room := func(view uint64, waited int64, want uint64) {
		t.Helper()
		if got := p.next(view, waited, &params); got != want {
			t.Errorf("room of %d bytes, want %d", got, want)
		}
	}
	stored := func(height ledger.Height, took int64, bytes uint64) {
		p.stored(&ledger.Order{Height: height, UnixMilli: begins, TxBytes: bytes}, begins+took, &params)
	}
	room(0, 0, firstRoom)
	p.built(1)
	stored(1, 100, firstRoom/4)
	room(0, 100, firstRoom) // a block that was not full says nothing
	p.built(2)
	stored(2, 100, firstRoom)
	room(0, 100, firstRoom*3/2)
	p.built(3)
	stored(3, 400, firstRoom*3/2) // not quickly
	room(0, 400, firstRoom*7/4)
	p.built(4)
	p.built(5)
	room(0, 501, firstRoom*7/8) // block 4 is late
	stored(4, 600, firstRoom)
	stored(5, 600, firstRoom)
	room(0, 0, firstRoom*7/8) // once for both
	for h := ledger.Height(6); h < 40; h++ {
		p.built(h)
		stored(h, 900, firstRoom)
	}
	room(0, 0, firstRoom/4)
	for h := ledger.Height(40); h < 80; h++ {
		p.built(h)
		stored(h, 50, params.BlockBytes)
	}
	room(0, 0, params.BlockBytes)
	room(3, 0, firstRoom) // as the leader of another view it begins anew

	p.built(80)
	stored(80, 700, firstRoom) // on a long link
	room(3, 1_400, firstRoom*3/2)
	p.built(81)
	stored(81, 1_400, firstRoom*3/2)
	room(3, 1_400, firstRoom*9/4)
	room(3, 1_401, firstRoom*9/8)
}

// TestPaceLongLinks loads members that are far apart, on links that carry anything. A block takes long there whatever its
// size, and small ones would not keep up.
func TestPaceLongLinks(t *testing.T) {
	w := newWorld(t, 4)
	w.delay = 170
	w.start(0, 1, 2, 3)
	const load, during = 3_000, 6_000
	for i := range uint64(load) {
		n, raw := w.nodes[i%4], w.tx(i, 60_000).Raw
		n.on(int64(i)*during/load, func() { n.group.Offer(raw, func(ledger.TxID, error) {}) })
	}
	w.run(during+10*w.delay, func() bool { return false })
	done := 0
	for _, b := range w.nodes[0].blocks {
		done += len(b.Txs)
	}
	if view := w.nodes[0].group.Status().Consensus.View; done < load*9/10 || view > 0 {
		t.Errorf("%d of %d transactions are in blocks, in view %d; want nine tenths and view 0", done, load, view)
	}
}
