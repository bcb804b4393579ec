package pbft

import (
	"bytes"
	"fmt"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

const recordVersion = 1

// record is all that an engine must find again after a crash. It is persisted whole, so that the journal needs
// only the last one.
type record struct {
	_         struct{} `cbor:",toarray"`
	Version   uint16
	Epoch     uint64
	View      uint64
	Mute      bool               // a journal was lost: see the package comment
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
	e.start()
}

// start is persist for observers as well.
func (e *engine) start() {
	e.Blocks = e.Blocks[:0]
	for _, b := range e.blocks {
		e.Blocks = append(e.Blocks, heldBlock{Order: b.order, NewView: b.newView})
	}
	data, err := ledger.Marshal(&e.record)
	if err != nil {
		panic(fmt.Sprintf("pbft: encode record: %v", err)) // its types cannot fail to encode
	}
	if bytes.Equal(data, e.last) {
		return
	}
	e.last = data
	e.emit(consensus.Persist{Records: []consensus.Record{data}, Replace: true})
}

// restore reads the journal. A node starts its journal before it does anything else, so a member whose journal is
// empty though its group has blocks lost it. An observer starts one too: it may be a member when it starts again.
func (e *engine) restore(journal []consensus.Record) error {
	if e.self < 0 {
		if len(journal) == 0 {
			e.start()
		}
		return nil
	}
	if len(journal) == 0 {
		e.Mute = e.head.Order.Height > 0 && e.n > 1 // in a group of one nobody else could remember its votes
		e.persist()
		return nil
	}
	var r record
	if err := ledger.Unmarshal(journal[len(journal)-1], &r); err != nil {
		return fmt.Errorf("read pbft journal: %w", err)
	}
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("read pbft journal: version %d, want %d", r.Version, recordVersion)
	case r.Epoch > e.epoch.Number:
		return fmt.Errorf("read pbft journal: it is of epoch %d, and the stored head begins epoch %d: blocks are missing", r.Epoch, e.epoch.Number)
	case r.Epoch < e.epoch.Number:
		return nil // nothing was signed in this epoch yet
	}
	e.record = r
	e.last = journal[len(journal)-1]
	for _, h := range r.Blocks {
		if h.Order.Height > e.head.Order.Height {
			b := e.add(h.Order, h.Order.Hash(e.suite), h.NewView, uint32(e.self))
			b.voted = e.View + 1 // perhaps: it is not noted which
		}
	}
	return nil
}
