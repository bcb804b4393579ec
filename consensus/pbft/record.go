package pbft

import (
	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

const recordVersion = 1

// record is all that an engine must find again after a crash. It is persisted whole, so that the journal needs
// only the last one.
type record struct {
	_         struct{} `cbor:",toarray"`
	View      uint64
	Change    ledger.Statement   // the view change that was signed, or zero when the view was entered
	Claim     ledger.Certificate // the certificate that Change claims to hold
	Proposed  ledger.Statement   // the last proposal
	Prepared  ledger.Statement   // the last prepare vote: the height and order voted for
	Committed ledger.Statement   // the last commit vote
	High      ledger.Certificate // the highest certificate
	Opening   *ledger.NewView    // what opened the view, until a certificate of the view replaces it
	Blocks    []heldBlock        // known orders above the head, by height
}

// heldBlock is a known order and its new-view.
type heldBlock struct {
	_       struct{} `cbor:",toarray"`
	Order   ledger.Order
	NewView *ledger.NewView
}

// persist emits the record if it changed. It goes before every Sign that binds this member.
func (e *engine) persist() {
	if e.self < 0 {
		return
	}
	e.Blocks = e.Blocks[:0]
	for _, b := range e.blocks {
		e.Blocks = append(e.Blocks, heldBlock{Order: b.order, NewView: b.newView})
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
