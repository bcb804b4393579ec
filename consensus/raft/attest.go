package raft

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// slot holds the attestations of one height, by member. A zero vote is none.
type slot struct {
	height   ledger.Height
	votes    []ledger.Vote
	diverged bool // no result can reach a majority
}

// examine asks the host about each known order as soon as its parent allows: are its transactions here, and what do
// they give. Execution does not wait for raft.
func (e *engine) examine() {
	for _, b := range e.blocks {
		parent, known := e.orderOf(b.order.Parent)
		if !known || b.order.Height > e.head.Order.Height+e.window {
			continue
		}
		if b.checked && !b.valid && b.seen && !b.askedAs {
			b.asked, b.checked = false, false // others accepted its time
		}
		if !b.asked {
			b.asked, b.askedAs = true, b.seen
			if !consensus.Follows(&b.order, &parent) {
				b.checked, b.askedAs, b.seen = true, true, true
				continue
			}
			e.emit(consensus.CheckPayload{Order: b.order, From: b.from, Seen: b.seen})
		}
		if b.valid && !b.running {
			if p := e.find(b.order.Parent); p == nil || !p.result.IsZero() {
				b.running = true
				e.emit(consensus.Execute{Order: b.order})
			}
		}
	}
}

// attest signs the result of the committed order above the head. Attestations rise in height over all lives of a member: one
// that started on older blocks makes its last one again, in case it was lost, and none below, whose blocks it gets by block
// sync. The record, which is on disk before an attestation leaves, tells which that was.
func (e *engine) attest() {
	if e.raft == nil || e.halted {
		return
	}
	height := e.head.Order.Height + 1
	if e.attested.Statement.Height >= height || e.last > height {
		return
	}
	for _, m := range e.applying {
		for _, p := range m.GetEntries() {
			held, ok := e.decodeEntry(p)
			if !ok || held.Order == nil || held.Order.Height != height {
				continue
			}
			b := e.find(held.hash)
			if b == nil || b.result.IsZero() {
				return
			}
			st := ledger.Statement{Kind: ledger.Attest, Epoch: e.epoch.Number, View: held.Term, Height: height, Order: held.hash, Block: b.result}
			e.attested = ledger.Vote{Statement: ledger.Statement{Height: height}} // until it is signed
			e.last = height
			e.persist()
			e.flow("committed", height, held.hash)
			e.emit(consensus.Sign{Statement: st, Broadcast: &consensus.Message{Kind: kindAttest}})
			return
		}
	}
}

// isAttest reports whether a statement is one that this engine can use.
func (e *engine) isAttest(st ledger.Statement) bool {
	return st.Kind == ledger.Attest && st.Epoch == e.epoch.Number && st.Height > 0 && st.Height < maxNumber && st.View <= maxNumber &&
		!st.Order.IsZero() && !st.Block.IsZero() && st.High == (ledger.Rank{}) && st.Seq == 0
}

// onAttest keeps a member's attestation, and makes a certificate of a majority of equal ones.
func (e *engine) onAttest(v ledger.Vote) {
	st := v.Statement
	if int64(v.Signer) >= int64(e.n) || !e.isAttest(st) || st.Height <= e.head.Order.Height {
		return
	}
	if int(v.Signer) == e.self && st.Height == e.head.Order.Height+1 {
		e.attested = v
	}
	if st.Height > e.reach() {
		return
	}
	at, known := slices.BinarySearchFunc(e.attests, st.Height, func(s *slot, h ledger.Height) int { return cmp.Compare(s.height, h) })
	if !known {
		e.attests = slices.Insert(e.attests, at, &slot{height: st.Height, votes: make([]ledger.Vote, e.n)})
	}
	s := e.attests[at]
	if old := s.votes[v.Signer]; old.Statement.Kind != 0 {
		if old.Statement != st && e.accused[v.Signer] < st.Height {
			e.accused[v.Signer] = st.Height
			e.emit(consensus.Evidence{A: old, B: v})
		}
		return
	}
	s.votes[v.Signer] = v
	var equal []ledger.Vote
	missing := 0
	for _, o := range s.votes {
		switch {
		case o.Statement.Kind == 0:
			missing++
		case o.Statement == st:
			equal = append(equal, o)
		}
	}
	if len(equal) >= e.majority {
		e.onCertificate(ledger.NewCertificate(equal), v.Signer)
	} else if !s.diverged && s.most()+missing < e.majority {
		s.diverged = true
		e.flow("diverged", st.Height, st.Order)
	}
}

// most returns the highest number of equal attestations.
func (s *slot) most() (most int) {
	for _, v := range s.votes {
		same := 0
		for _, o := range s.votes {
			if v.Statement.Kind != 0 && o.Statement == v.Statement {
				same++
			}
		}
		most = max(most, same)
	}
	return most
}

// onCertificate takes note of a certificate, whose signatures the host checked: its block is final.
func (e *engine) onCertificate(c ledger.Certificate, from uint32) {
	st := c.Statement
	if !e.isAttest(st) {
		return
	}
	if from < uint32(e.n) && int(from) != e.self {
		e.claims[from] = max(e.claims[from], min(st.Height, e.reach()))
	}
	height := e.head.Order.Height
	if st.Height == height && (st.Order != e.headOrder || st.Block != e.head.Block) {
		e.halt(fmt.Sprintf("two final blocks at height %d: a majority of the %d members attested both", height, e.n))
	}
	if st.Height <= height || st.Height > e.reach() {
		return
	}
	at, known := slices.BinarySearchFunc(e.certified, st.Height, func(o ledger.Certificate, h ledger.Height) int {
		return cmp.Compare(o.Statement.Height, h)
	})
	if !known {
		e.certified = slices.Insert(e.certified, at, c)
		return
	}
	if old := e.certified[at].Statement; old.Order != st.Order || old.Block != st.Block {
		e.halt(fmt.Sprintf("two final blocks at height %d: a majority of the %d members attested both", st.Height, e.n))
	}
}

// finalize hands over blocks that are certified and executed here, each with its own certificate.
func (e *engine) finalize() {
	for _, c := range e.certified {
		if c.Statement.Height <= e.final {
			continue
		}
		b := e.find(c.Statement.Order)
		if c.Statement.Height != e.final+1 || b == nil || b.result.IsZero() || e.halted {
			return
		}
		e.final = c.Statement.Height
		e.emit(consensus.Finalize{Certificate: c})
	}
}
