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
}
