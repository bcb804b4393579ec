package raft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
	lib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Limits of the library, in bytes. An order has a few hundred.
const (
	maxUncommitted = 1 << 20
	maxApplying    = 1 << 20
)

// join starts raft on the log, if this node is a member that may speak.
func (e *engine) join() error {
	if e.self < 0 {
		return nil
	}
	e.persist()
	err := e.guarded(func() (err error) {
		e.raft, err = lib.NewRawNode(&lib.Config{
			ID: id(e.self), Storage: &e.log, AsyncStorageWrites: true, Logger: silent{},
			ElectionTick: electionTicks, HeartbeatTick: heartbeatTicks, PreVote: true, CheckQuorum: true,
			MaxSizePerMsg: 0, // one entry in a message, for it carries its order beside it
			// An append more than the window: the entry that begins a term.
			MaxInflightMsgs: int(e.window) + 1, MaxUncommittedEntriesSize: maxUncommitted, MaxCommittedSizePerReady: maxApplying,
			DisableProposalForwarding: true, // the leader chains orders
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	e.term = e.log.term
	e.rest()
	if e.n == 1 && !e.lacking() {
		return e.guarded(e.raft.Campaign)
	}
	return nil
}

// guarded calls the library. It panics when it finds its log inconsistent; the engine then halts the group with what
// it said.
func (e *engine) guarded(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errLibrary, r)
		}
	}()
	return call()
}

var errLibrary = errors.New("raft found its log inconsistent")

// feed hands the library a message or a local answer. Errors but panics mean that it ignored it.
func (e *engine) feed(m *pb.Message) {
	if err := e.guarded(func() error { return e.raft.Step(m) }); errors.Is(err, errLibrary) {
		e.halt(err.Error())
	}
}

// pump does what the library wants done.
func (e *engine) pump() {
	for e.raft != nil && !e.halted && e.raft.HasReady() {
		var messages []*pb.Message
		if err := e.guarded(func() error { messages = e.raft.Ready().Messages; return nil }); err != nil {
			e.halt(err.Error())
			return
		}
		for _, m := range messages {
			switch m.GetTo() {
			case lib.LocalAppendThread:
				e.write(m)
			case lib.LocalApplyThread:
				e.applying = append(e.applying, m)
			default:
				e.post(m)
			}
		}
		e.notice()
	}
}

// write makes entries, term and vote durable. The answers follow the Persist in the list of effects, so they count
// only when it is on disk.
func (e *engine) write(m *pb.Message) {
	// The commit index alone binds nobody: raft learns it again. Nor does a base that moved up.
	binds := m.GetSnapshot() != nil || len(m.GetEntries()) > 0 || m.GetTerm() != 0 && (m.GetTerm() != e.log.term || m.GetVote() != e.log.vote)
	if s := m.GetSnapshot(); s != nil {
		var base mark
		if err := ledger.Unmarshal(s.GetData(), &base); err != nil {
			e.halt(fmt.Sprintf("read a raft snapshot: %v", err))
			return
		}
		e.log.reset(base)
		e.log.commit = max(e.log.commit, base.Index)
	}
	var entries []entry
	for _, p := range m.GetEntries() {
		held, ok := e.decodeEntry(p)
		if !ok {
			e.halt(fmt.Sprintf("entry %d of the raft log holds no order", p.GetIndex()))
			return
		}
		if held.Order != nil && held.Order.Height > e.head.Order.Height {
			e.add(*held.Order, held.hash, held.Order.Proposer, true)
		}
		if e.proposed != nil && e.proposed.hash == held.hash {
			e.proposed = nil
		}
		entries = append(entries, held)
	}
	e.log.append(entries)
	if m.GetTerm() != 0 {
		e.log.term, e.log.vote, e.log.commit = m.GetTerm(), m.GetVote(), m.GetCommit()
	}
	if binds {
		e.persist()
	}
	for _, answer := range m.GetResponses() {
		if answer.GetTo() == id(e.self) {
			e.feed(answer)
		} else {
			e.post(answer)
		}
	}
}

// post sends a message of the library to its member.
func (e *engine) post(m *pb.Message) {
	to := m.GetTo() - 1
	if out, ok := e.encode(m); ok && to < uint64(e.n) {
		e.emit(consensus.Send{To: int32(to), Message: out})
	}
	switch m.GetType() {
	case pb.MsgVoteResp:
		if !m.GetReject() {
			e.rest() // the candidate gets its time
		}
	case pb.MsgSnap:
		// It is small, and may be lost. Reported as sent, the library probes at the next heartbeat whether the member
		// has it, and sends another if not.
		e.raft.ReportSnapshot(m.GetTo(), lib.SnapshotFinish)
	default:
	}
}

// notice follows the library's term and leader.
func (e *engine) notice() {
	s := e.raft.BasicStatus()
	if s.GetTerm() != e.term {
		e.term = s.GetTerm()
		e.open, e.waiting = false, nil
		e.rest()
	}
	if s.RaftState != lib.StateLeader && (e.open || e.building || e.proposed != nil) {
		e.open, e.building, e.proposed, e.batch = false, false, nil, batchIdle
	}
}

func (e *engine) leading() bool {
	return e.raft != nil && e.raft.BasicStatus().RaftState == lib.StateLeader
}

// rest begins the wait after which this member campaigns, with a new jitter.
func (e *engine) rest() {
	e.elapsed = 0
	e.draws++
	var at [24]byte
	binary.BigEndian.PutUint64(at[:], e.epoch.Number)
	binary.BigEndian.PutUint64(at[8:], e.term)
	binary.BigEndian.PutUint64(at[16:], e.draws)
	d := e.suite.Sum([]byte("raft election"), e.node[:], []byte{byte(e.self), byte(e.self >> 8)}, at[:])
	e.timeout = electionTicks + int(d[0])%electionTicks
}

// tickRaft counts a tick: of heartbeats and quorum for a leader, toward an election for others.
func (e *engine) tickRaft() {
	if e.raft == nil {
		return
	}
	if e.shun > 0 {
		e.shun--
	}
	if e.leading() {
		if err := e.guarded(func() error { e.raft.Tick(); return nil }); err != nil {
			e.halt(err.Error())
		}
		e.stuck = 0
		return
	}
	e.suspect()
	// The library only counts here, for the lease of the leader. Its own election timeout is random; ours is below.
	e.raft.TickQuiesced()
	e.elapsed++
	if e.elapsed < e.timeout || e.halted || e.lacking() {
		return
	}
	e.rest()
	if err := e.guarded(e.raft.Campaign); errors.Is(err, errLibrary) {
		e.halt(err.Error())
	}
}

// suspect counts how long work waits under a leader, and stops listening to one that makes no block of it, as if the
// link were cut: its clock may be wrong, so that it takes no transactions, or nobody its blocks. If a majority thinks so
// it cannot stay, and another is elected meanwhile.
func (e *engine) suspect() {
	s := e.raft.BasicStatus()
	if s.Lead == lib.None || e.pending == 0 && len(e.waiting) == 0 && s.GetCommit() == e.log.last() {
		e.stuck = 0
		return
	}
	e.stuck++
	if int64(e.stuck)*e.tickTime() < patience*e.epoch.Params.ViewTimeout {
		return
	}
	e.stuck, e.shunned, e.shun = 0, uint32(s.Lead-1), shunTicks
	e.waiting, e.snapshot, e.need = nil, nil, 0
	e.flow("leader shunned", e.head.Order.Height, e.headOrder)
	if err := e.guarded(e.raft.ForgetLeader); errors.Is(err, errLibrary) {
		e.halt(err.Error())
	}
}

// hear takes a raft message of this epoch from another member.
func (e *engine) hear(from uint32, m consensus.Message, f *frame) {
	p, ok := e.decode(from, m, f)
	if !ok || e.shun > 0 && from == e.shunned {
		return
	}
	s := e.raft.BasicStatus()
	switch m.Kind {
	case kindHeartbeat:
		if f.Term >= s.GetTerm() && f.Commit > e.log.last() {
			e.halt(fmt.Sprintf("the leader, member %d, counts on entry %d of the raft log, which was acknowledged here, and the last is %d: "+
				"the journal was lost. Restore it, or replace this member by one with a new key", from, f.Commit, e.log.last()))
			return
		}
	case kindAppended:
		if !f.Reject && f.Index > e.log.last() {
			return // it cannot have what this leader has not
		}
	case kindAppend, kindSnapshot:
		if f.Term < s.GetTerm() {
			break // the library answers with its own term
		}
		if f.Term == s.GetTerm() && s.Lead == id(int(from)) {
			e.elapsed = 0
		}
		e.delay(from, m, p)
		return
	}
	e.feed(p)
	if m.Kind == kindHeartbeat && e.raft.BasicStatus().Lead == id(int(from)) {
		e.elapsed = 0
	}
}

// delay keeps an append or a snapshot until what it needs is here; admit lets it in.
func (e *engine) delay(from uint32, m consensus.Message, p *pb.Message) {
	if len(e.waiting) > 0 && e.waiting[0].message.GetTerm() < p.GetTerm() {
		e.waiting = nil
	}
	if m.Kind == kindSnapshot {
		var base mark
		if ledger.Unmarshal(p.GetSnapshot().GetData(), &base) != nil {
			return
		}
		if e.snapshot == nil || p.GetTerm() > e.snapshot.GetTerm() || base.Height >= e.need {
			e.snapshot, e.need = p, base.Height
			e.claims[from] = max(e.claims[from], base.Height)
		}
		return
	}
	w := delayed{message: p, from: from, order: m.Order}
	if m.Order != nil {
		if !e.plausible(m.Order) {
			return
		}
		w.hash = m.Order.Hash(e.suite)
	}
	for _, o := range e.waiting { // sent again
		if o.message.GetIndex() == p.GetIndex() && o.message.GetTerm() == p.GetTerm() && o.hash == w.hash && len(o.message.GetEntries()) == len(p.GetEntries()) &&
			o.message.GetCommit() == p.GetCommit() {
			return
		}
	}
	if len(e.waiting) >= maxWaiting {
		return
	}
	e.waiting = append(e.waiting, w)
	if m.Order != nil && m.Order.Height > e.head.Order.Height && m.Order.Height <= e.reach() {
		entry := p.GetEntries()[0]
		e.add(*m.Order, w.hash, from, entry.GetTerm() < p.GetTerm()).from = from
	}
}

// reach returns the highest height of which orders and attestations are kept. It lies above the window, so that a
// member that is some blocks behind a busy group follows from what it has heard.
func (e *engine) reach() ledger.Height { return e.head.Order.Height + e.window + blocksAhead }

func (e *engine) plausible(o *ledger.Order) bool {
	return consensus.Plausible(o, e.chain, e.group, &e.epoch) && o.Height < maxNumber && o.NewView.IsZero()
}

// admit lets appends into raft, in their order, whose payloads are here, and a snapshot whose blocks are.
func (e *engine) admit() {
	for e.raft != nil && len(e.waiting) > 0 && !e.halted {
		w := e.waiting[0]
		if w.order != nil && w.order.Height > e.head.Order.Height {
			b := e.find(w.hash)
			switch {
			case b == nil || b.checked && !b.valid && b.askedAs == b.seen:
				e.waiting = nil // what follows would only be refused for the gap
				return
			case !b.valid:
				return
			}
		}
		e.waiting = e.waiting[1:]
		e.feed(w.message)
		e.pump()
	}
	if e.raft != nil && e.snapshot != nil && e.need <= e.head.Order.Height && len(e.applying) == 0 && !e.halted {
		m := e.snapshot
		e.snapshot, e.need = nil, 0
		e.feed(m)
		e.pump()
	}
}

// apply tells the library which of the committed entries are in durable blocks, and drops them from the log.
func (e *engine) apply() {
	for e.raft != nil && len(e.applying) > 0 && !e.halted {
		m := e.applying[0]
		base := e.log.base
		for _, p := range m.GetEntries() {
			held, ok := e.decodeEntry(p)
			if !ok {
				e.halt(fmt.Sprintf("entry %d of the raft log holds no order", p.GetIndex()))
				return
			}
			if held.Order != nil {
				height := held.Order.Height
				if height > e.head.Order.Height {
					return
				}
				if height == e.head.Order.Height && held.hash != e.headOrder {
					e.halt(fmt.Sprintf("raft committed another order than the final one at height %d: a member lied, or two lost their journals", height))
					return
				}
				base.Height = max(base.Height, height)
			}
			base.Index, base.Term = held.Index, held.Term
			e.open = e.open || e.leading() && held.Term == e.term
		}
		e.applying = e.applying[1:]
		e.log.commit = max(e.log.commit, base.Index)
		e.log.compact(base)
		for _, answer := range m.GetResponses() {
			e.feed(answer)
		}
		e.pump()
	}
}
