package raft

import (
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	lib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// mark is an applied place in raft's log, and the height of the last block up to there.
type mark struct {
	_      struct{} `cbor:",toarray"`
	Index  uint64
	Term   uint64
	Height ledger.Height
}

// entry is an entry of raft's log: an order, or none where a leader began its term.
type entry struct {
	_     struct{} `cbor:",toarray"`
	Index uint64
	Term  uint64
	Order *ledger.Order
	hash  keys.Digest // of Order
}

// maxTrailing is how many entries below base are kept in memory. A member that was behind gets to base by block sync,
// and while it does so a busy group makes more blocks; without these entries it would only get the next snapshot.
const maxTrailing = 64

// log is what the library reads as its storage. The engine alone writes it, when the library asks for it. What is above
// base, the last applied entry, is also in its record.
type log struct {
	base    mark
	first   mark    // the entry before those that are kept; at most base
	entries []entry // of the indices from first.Index+1 on
	term    uint64
	vote    uint64
	commit  uint64
	voters  []uint64
}

func (l *log) last() uint64 { return l.first.Index + uint64(len(l.entries)) }

// open returns the entries above base.
func (l *log) open() []entry { return l.entries[l.base.Index-l.first.Index:] }

// append writes entries, in place of all that were at their indices and above.
func (l *log) append(entries []entry) {
	for _, e := range entries {
		if e.Index <= l.base.Index || e.Index > l.last()+1 {
			continue // applied already; the library leaves no gaps
		}
		l.entries = append(l.entries[:e.Index-l.first.Index-1], e)
	}
}

// compact moves base up to an applied entry, and drops those far below.
func (l *log) compact(base mark) {
	if base.Index <= l.base.Index {
		return
	}
	l.base = base
	if n := base.Index - l.first.Index; n > 2*maxTrailing {
		n -= maxTrailing
		l.first = mark{Index: l.entries[n-1].Index, Term: l.entries[n-1].Term}
		l.entries = slices.Clone(l.entries[n:])
	}
}

// reset makes the log end at a base that came by snapshot.
func (l *log) reset(base mark) { l.base, l.first, l.entries = base, base, nil }

// tip returns the last order in the log.
func (l *log) tip() (e entry, ok bool) {
	for _, held := range slices.Backward(l.open()) {
		if held.Order != nil {
			return held, true
		}
	}
	return entry{}, false
}

func (e *entry) proto() *pb.Entry {
	p := &pb.Entry{Term: new(e.Term), Index: new(e.Index)}
	if e.Order != nil {
		p.Data = mustMarshal(e.Order)
	}
	return p
}

// InitialState implements the library's Storage.
func (l *log) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return &pb.HardState{Term: new(l.term), Vote: new(l.vote), Commit: new(max(l.commit, l.base.Index))}, l.members(), nil
}

func (l *log) members() *pb.ConfState { return &pb.ConfState{Voters: l.voters} }

// Entries implements the library's Storage.
func (l *log) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	switch {
	case lo <= l.first.Index:
		return nil, lib.ErrCompacted
	case hi > l.last()+1:
		return nil, lib.ErrUnavailable
	}
	var found []*pb.Entry
	size := uint64(0)
	for i := lo; i < hi; i++ {
		p := l.entries[i-l.first.Index-1].proto()
		if size += uint64(proto.Size(p)); size > maxSize && len(found) > 0 {
			break
		}
		found = append(found, p)
	}
	return found, nil
}

// Term implements the library's Storage.
func (l *log) Term(i uint64) (uint64, error) {
	switch {
	case i < l.first.Index:
		return 0, lib.ErrCompacted
	case i == l.first.Index:
		return l.first.Term, nil
	case i > l.last():
		return 0, lib.ErrUnavailable
	}
	return l.entries[i-l.first.Index-1].Term, nil
}

// LastIndex implements the library's Storage.
func (l *log) LastIndex() (uint64, error) { return l.last(), nil }

// FirstIndex implements the library's Storage.
func (l *log) FirstIndex() (uint64, error) { return l.first.Index + 1, nil }

// Snapshot implements the library's Storage. The blocks themselves travel by block sync.
func (l *log) Snapshot() (*pb.Snapshot, error) {
	return &pb.Snapshot{
		Data:     mustMarshal(&l.base),
		Metadata: &pb.SnapshotMetadata{Index: new(l.base.Index), Term: new(l.base.Term), ConfState: l.members()},
	}, nil
}

// silent is the library's logger: what matters reaches operators as effects. It must still panic where the library
// relies on that; see engine.guarded.
type silent struct{}

func (silent) Debug(...any)            {}
func (silent) Debugf(string, ...any)   {}
func (silent) Info(...any)             {}
func (silent) Infof(string, ...any)    {}
func (silent) Warning(...any)          {}
func (silent) Warningf(string, ...any) {}
func (silent) Error(...any)            {}
func (silent) Errorf(string, ...any)   {}

func (silent) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (silent) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (silent) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (silent) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
