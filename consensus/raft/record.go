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
	_        struct{} `cbor:",toarray"`
	Term     uint64
	Vote     uint64
	Commit   uint64
	Base     mark
	Entries  []entry
	Attested ledger.Height // the last that this member attested; 0: none in the epoch
}

// persist emits the record if it changed.
func (e *engine) persist() {
	r := record{Term: e.log.term, Vote: e.log.vote, Commit: e.log.commit, Base: e.log.base, Entries: e.log.open(), Attested: e.last}
	if effect := e.journal.Persist(e.epoch.Number, &r); effect != nil {
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
	e.log.term, e.log.vote, e.log.commit, e.log.base, e.log.first = r.Term, r.Vote, r.Commit, r.Base, r.Base
	e.last = r.Attested
	for i, held := range r.Entries {
		if held.Index != r.Base.Index+1+uint64(i) {
			return fmt.Errorf("read the journal: entry %d follows entry %d", held.Index, r.Base.Index+uint64(i))
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
		return fmt.Errorf("read the journal: entry %d is committed and entry %d is the last", e.log.commit, e.log.last())
	}
	return nil
}

// lacking reports whether the blocks here end below the log: they are older than the journal, as of a backup. What this member
// promised is in the log, so it goes on voting and appending, and gets the blocks by block sync. But it does not stand for
// leader, as it does not have the block that the next order is to follow.
func (e *engine) lacking() bool { return e.head.Order.Height < e.log.base.Height }

func mustMarshal(v any) []byte {
	data, err := ledger.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("raft: encode %T: %v", v, err)) // its types cannot fail to encode
	}
	return data
}

// holding tells what a recovery after a disaster must keep: the orders in the log above the head, as any of them may be
// committed. Logs are compared as in an election: by the term of the last entry, then by length. While blocks below the log
// are lacking, what is in it stands on nothing that is here.
func (e *engine) holding() consensus.Holding {
	h := consensus.Holding{Rank: ledger.Rank{View: e.log.base.Term, Height: max(e.head.Order.Height, e.log.base.Height)}}
	for _, held := range e.log.open() {
		h.Rank.View = held.Term
		if held.Order != nil && held.Order.Height > e.head.Order.Height {
			h.Rank.Height = held.Order.Height
			h.Blocks = append(h.Blocks, consensus.HeldBlock{Order: *held.Order})
		}
	}
	if e.lacking() {
		h.Blocks = nil
	}
	return h
}
