package pbft

import (
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const recordVersion = 1

// record is all that an engine must find again after a crash. It is persisted whole, so that the journal needs
// only the last one.
type record struct {
	_         struct{} `cbor:",toarray"`
	View      uint64
	Change    ledger.Statement      // the view change that was signed, or zero when the view was entered
	Claim     ledger.Certificate    // the certificate that Change claims to hold
	Proposed  ledger.Statement      // the last proposal
	Prepared  ledger.Statement      // the last prepare vote: the height and order voted for
	Committed ledger.Statement      // the last commit vote
	High      ledger.Certificate    // the highest certificate
	Lock      ledger.Certificate    // the highest one as the last commit vote was signed, which covers that vote
	Opening   *ledger.NewView       // what opened the view, until a certificate of the view replaces it
	Blocks    []consensus.HeldBlock // known orders above the head, by height
}

// persist emits the record if it changed. It goes before every Sign that binds this member.
func (e *engine) persist() {
	if e.self < 0 {
		return
	}
	e.Blocks = e.Blocks[:0]
	for _, b := range e.blocks {
		e.Blocks = append(e.Blocks, consensus.HeldBlock{Order: b.order, NewView: b.newView})
	}
	if effect := e.journal.Persist(e.epoch.Number, &e.record); effect != nil {
		e.emit(effect)
	}
}

// restore reads the journal.
func (e *engine) restore(journal []consensus.Record) error {
	if e.self < 0 {
		return nil
	}
	var r record
	if found, err := e.journal.Restore(journal, e.epoch.Number, &r); !found {
		return err
	}
	e.record = r
	for _, h := range r.Blocks {
		if h.Order.Height > e.head.Order.Height {
			b := e.add(h.Order, h.Order.Hash(e.suite), h.NewView, uint32(e.self))
			b.voted = e.View + 1 // perhaps: it is not noted which
		}
	}
	return nil
}

// holding tells what a recovery after a disaster must keep: the highest certificate and the orders up to its own. Of a
// block that is final somewhere with this member's vote, this member signed Commit, and so noted a certificate on the block,
// and a higher one is on it too (see the package comment). But of a higher one it may not know the orders that lead there.
func (e *engine) holding() consensus.Holding {
	for _, c := range []ledger.Certificate{e.High, e.Lock} {
		if blocks, known := e.leadingTo(c.Statement.Order); known {
			return consensus.Holding{Rank: c.Statement.Rank(), Certificate: c, Blocks: blocks}
		}
	}
	return consensus.Holding{Rank: e.High.Statement.Rank(), Certificate: e.High}
}

// leadingTo returns the blocks above the head up to one that is named, and whether all are known.
func (e *engine) leadingTo(order keys.Digest) (blocks []consensus.HeldBlock, known bool) {
	for order != e.headOrder {
		b := e.find(order)
		if b == nil || b.lacksNewView() {
			return nil, false
		}
		blocks = append(blocks, consensus.HeldBlock{Order: b.order, NewView: b.newView})
		order = b.order.Parent
	}
	slices.Reverse(blocks)
	return blocks, true
}
