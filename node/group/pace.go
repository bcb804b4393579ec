package group

import "github.com/fondaco/fondaco/state/ledger"

// firstRoom is how many bytes of transactions the first blocks of a leader may have: some 250 transfers, whose leaf
// digests fit the window with which a connection begins.
const firstRoom = 64 << 10

// pace sets the size of the blocks that this node proposes as leader by how long its blocks take. A block that is
// larger than the links carry within the view timeout costs the view, and then the next leader's is as large again:
// on links that lose packets, which keeps the windows of connections small, that would go on for ever. So a leader begins
// with small blocks; they grow by half while they become final quickly, a little when that takes a while, and halve when
// one is late. On long links the smallest block takes a while, and smaller ones would only be more of them: what counts is
// how much longer a block takes than the quickest of the view.
type pace struct {
	view uint64 // that room is of
	best int64  // ms that the quickest block of the view took; 0: none is stored
	room uint64 // bytes; 0: no block was built yet
	seen ledger.Height
	late ledger.Height // blocks up to this height were under way when room was halved last
}

// next returns how many bytes of transactions the next block of a view may have, while another block of this node has
// been under way for waited ms.
func (p *pace) next(view uint64, waited int64, params *ledger.Params) uint64 {
	if p.room == 0 || view != p.view {
		*p = pace{view: view, room: firstRoom}
	}
	if p.slow(waited, params.ViewTimeout/2) && p.late < p.seen {
		p.shrink()
	}
	return min(p.room, params.BlockBytes)
}

// slow reports whether a block took longer than milli, and than links of this length explain.
func (p *pace) slow(took, milli int64) bool { return took > milli && took > 2*p.best }

// shrink halves the room, once for all blocks that are under way.
func (p *pace) shrink() { p.room, p.late = max(p.room/2, firstRoom/4), p.seen }

// built notes the height of a block that was built.
func (p *pace) built(height ledger.Height) { p.seen = max(p.seen, height) }

// stored notes that a block of this node is stored now, Unix ms.
func (p *pace) stored(o *ledger.Order, now int64, params *ledger.Params) {
	took, full := max(now-o.UnixMilli, 1), o.TxBytes > p.room/2
	if p.best == 0 || took < p.best {
		p.best = took
	}
	switch {
	case p.slow(took, params.ViewTimeout/2):
		if o.Height > p.late {
			p.shrink()
		}
	case full && p.slow(took, params.ViewTimeout/4):
		p.room = min(p.room+firstRoom/4, params.BlockBytes)
	case full:
		p.room = min(p.room+p.room/2, params.BlockBytes)
	}
}
