package raft

import (
	"fmt"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

const recordVersion = 1

// record is all that an engine must find again after a crash. It is persisted whole, so that the journal needs only
// the last one; the log above the head is short.
type record struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Epoch   uint64
	Mute    bool // a journal was lost: see the package comment
	Term    uint64
	Vote    uint64
	Commit  uint64
	Base    mark
	Entries []entry
}

// persist emits the record.
func (e *engine) persist() {
	if e.self < 0 {
		return
	}
	e.start()
}

// start is persist for observers as well.
func (e *engine) start() {
	r := record{
		Version: recordVersion, Epoch: e.epoch.Number, Mute: e.mute,
		Term: e.log.term, Vote: e.log.vote, Commit: e.log.commit, Base: e.log.base, Entries: e.log.open(),
	}
	e.emit(consensus.Persist{Records: []consensus.Record{mustMarshal(&r)}, Replace: true})
}

// restore reads the journal. A node starts its journal before it does anything else, so a member whose journal is empty
// though its group has blocks lost it. An observer starts one too: it may be a member when it starts again.
func (e *engine) restore(journal []consensus.Record) error {
	if e.self < 0 {
		if len(journal) == 0 {
			e.start()
		}
		return nil
	}
	if len(journal) == 0 {
		e.mute = e.head.Order.Height > 0 && e.n > 1 // in a group of one nobody else could remember what it said
		return nil
	}
	var r record
	if err := ledger.Unmarshal(journal[len(journal)-1], &r); err != nil {
		return fmt.Errorf("read raft journal: %w", err)
	}
	switch {
	case r.Version != recordVersion:
		return fmt.Errorf("read raft journal: version %d, want %d", r.Version, recordVersion)
	case r.Epoch > e.epoch.Number:
		return fmt.Errorf("read raft journal: it is of epoch %d, and the stored head begins epoch %d: blocks are missing", r.Epoch, e.epoch.Number)
	case r.Epoch < e.epoch.Number:
		return nil // nothing was said in this epoch yet
	case r.Base.Height > e.head.Order.Height:
		return fmt.Errorf("read raft journal: its log begins above block %d, and the stored head is block %d: blocks are missing", r.Base.Height, e.head.Order.Height)
	}
	e.mute = r.Mute
	e.log.term, e.log.vote, e.log.commit, e.log.base, e.log.first = r.Term, r.Vote, r.Commit, r.Base, r.Base
	for i, held := range r.Entries {
		if held.Index != r.Base.Index+1+uint64(i) {
			return fmt.Errorf("read raft journal: entry %d follows entry %d", held.Index, r.Base.Index+uint64(i))
		}
		if held.Order != nil {
			held.hash = held.Order.Hash(e.suite)
			if held.Order.Height > e.head.Order.Height {
				e.add(*held.Order, held.hash, held.Order.Proposer, true)
			}
		}
		e.log.entries = append(e.log.entries, held)
	}
	if e.log.commit > e.log.last() {
		return fmt.Errorf("read raft journal: entry %d is committed and entry %d is the last", e.log.commit, e.log.last())
	}
	return nil
}

func mustMarshal(v any) []byte {
	data, err := ledger.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("raft: encode %T: %v", v, err)) // its types cannot fail to encode
	}
	return data
}
