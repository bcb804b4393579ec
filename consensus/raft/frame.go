package raft

import (
	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
	pb "go.etcd.io/raft/v3/raftpb"
)

// maxNumber bounds terms and indices, so that arithmetic on them cannot overflow.
const maxNumber = 1 << 48

// frame is what members tell one another in Message.Body: raft's message with the fields that this engine uses, in
// the house's encoding, and where the sender is. An entry's order travels as Message.Order, for the host's sake.
type frame struct {
	_          struct{} `cbor:",toarray"`
	Epoch      uint64
	Height     ledger.Height // of the sender's last durable block
	Term       uint64
	LogTerm    uint64
	Index      uint64
	Commit     uint64
	EntryTerm  uint64 // of the one entry of an append; 0 without one
	Reject     bool
	RejectHint uint64
	Base       mark // of a snapshot
}

// kindOf returns the kind that carries a raft message between members, or 0. There are no others, for the engine
// neither changes configurations inside a log nor transfers leadership nor reads through raft.
func kindOf(t pb.MessageType) uint8 {
	switch t {
	case pb.MsgApp:
		return kindAppend
	case pb.MsgAppResp:
		return kindAppended
	case pb.MsgVote:
		return kindVoteRequest
	case pb.MsgVoteResp:
		return kindVote
	case pb.MsgPreVote:
		return kindPreRequest
	case pb.MsgPreVoteResp:
		return kindPreVote
	case pb.MsgHeartbeat:
		return kindHeartbeat
	case pb.MsgHeartbeatResp:
		return kindAlive
	case pb.MsgSnap:
		return kindSnapshot
	default:
		return 0
	}
}

// typeOf is kindOf read backwards.
func typeOf(kind uint8) (pb.MessageType, bool) {
	for _, t := range []pb.MessageType{
		pb.MsgApp, pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgHeartbeat,
		pb.MsgHeartbeatResp, pb.MsgSnap,
	} {
		if kindOf(t) == kind {
			return t, true
		}
	}
	return 0, false
}

// encode returns raft's message as members send it.
func (e *engine) encode(m *pb.Message) (consensus.Message, bool) {
	kind := kindOf(m.GetType())
	if kind == 0 || len(m.GetEntries()) > 1 {
		return consensus.Message{}, false
	}
	f := frame{
		Epoch: e.epoch.Number, Height: e.head.Order.Height, Term: m.GetTerm(), LogTerm: m.GetLogTerm(), Index: m.GetIndex(),
		Commit: m.GetCommit(), Reject: m.GetReject(), RejectHint: m.GetRejectHint(),
	}
	out := consensus.Message{Kind: kind}
	for _, p := range m.GetEntries() {
		held, ok := e.decodeEntry(p)
		if !ok {
			return consensus.Message{}, false
		}
		f.EntryTerm, out.Order = held.Term, held.Order
	}
	if kind == kindSnapshot && ledger.Unmarshal(m.GetSnapshot().GetData(), &f.Base) != nil {
		return consensus.Message{}, false
	}
	out.Body = mustMarshal(&f)
	return out, true
}

// decode returns what raft gets for a message from another member, and false if no member sends such a one.
func (e *engine) decode(from uint32, m consensus.Message, f *frame) (*pb.Message, bool) {
	kind, known := typeOf(m.Kind)
	base := f.Base
	if !known || f.Term == 0 || max(f.Term, f.LogTerm, f.Index, f.Commit, f.EntryTerm, f.RejectHint, base.Index, base.Term) > maxNumber {
		return nil, false
	}
	p := &pb.Message{
		Type: kind.Enum(), From: new(id(int(from))), To: new(id(e.self)), Term: new(f.Term), LogTerm: new(f.LogTerm),
		Index: new(f.Index), Commit: new(f.Commit), Reject: new(f.Reject), RejectHint: new(f.RejectHint),
	}
	if (m.Kind != kindAppend || f.EntryTerm == 0) && m.Order != nil || m.Kind != kindAppend && f.EntryTerm != 0 {
		return nil, false
	}
	if f.EntryTerm != 0 {
		if f.EntryTerm > f.Term || f.EntryTerm < f.LogTerm {
			return nil, false
		}
		held := entry{Index: f.Index + 1, Term: f.EntryTerm, Order: m.Order}
		p.Entries = []*pb.Entry{held.proto()}
	}
	if m.Kind == kindSnapshot {
		if base.Index == 0 || base.Term == 0 || base.Term > f.Term {
			return nil, false
		}
		p.Snapshot = &pb.Snapshot{
			Data:     mustMarshal(&base),
			Metadata: &pb.SnapshotMetadata{Index: new(base.Index), Term: new(base.Term), ConfState: e.log.members()},
		}
	}
	return p, true
}

// decodeEntry returns an entry of the library as this engine keeps it.
func (e *engine) decodeEntry(p *pb.Entry) (entry, bool) {
	held := entry{Index: p.GetIndex(), Term: p.GetTerm()}
	if len(p.GetData()) == 0 {
		return held, true
	}
	var order ledger.Order
	if err := ledger.Unmarshal(p.GetData(), &order); err != nil {
		return held, false
	}
	held.Order, held.hash = &order, order.Hash(e.suite)
	return held, true
}

// id returns the library's id of a member: it takes no zero.
func id(member int) uint64 { return uint64(member) + 1 }
