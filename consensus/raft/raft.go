package raft

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	lib "go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// The timers of the engine.
const (
	timerTick  consensus.Timer = 1 // heartbeats, elections, and what was lost is sent or asked for again
	timerBatch consensus.Timer = 2 // the leader waits for more transactions
)

// Times in ticks, of which Params.HeartbeatTime has four.
const (
	heartbeatTicks = 2
	electionTicks  = 8 // at least; at most twice as many less one
	repeatTicks    = 4 // an attestation, a status and a request for blocks are repeated so often
	shunTicks      = 8 * electionTicks
	patience       = 4 // times Params.ViewTimeout in which a leader must make a block of what waits
)

// Bounds on what others can make the engine keep or do.
const (
	maxWindow   = 16 // orders above the head
	blocksAhead = 16 // beyond the window, orders and attestations of so many heights are kept
	maxWaiting  = 64 // appends that wait for their payloads
	maxReplies  = 4  // answers to one member between two ticks
)

// New returns an engine; it is a consensus.Factory.
func New() consensus.Engine { return &engine{} }

// engine is the state of one node.
type engine struct {
	suite keys.Suite
	chain keys.Digest
	group ledger.GroupID
	node  identity.NodeID // zero for an observer
	self  int             // member number, or -1

	epoch    ledger.Epoch
	n        int
	majority int
	window   ledger.Height

	head      consensus.Head // the last durable block
	headOrder keys.Digest
	final     ledger.Height // of the last block handed to Finalize; at least the head's
	blocks    []*block      // known orders above the head, by height, then hash

	raft     *lib.RawNode // nil for an observer
	log      log
	journal  consensus.Durable
	waiting  []delayed     // in order of arrival, all of one term
	snapshot *pb.Message   // waits for block sync; the highest
	need     ledger.Height // the head that snapshot needs
	applying []*pb.Message // committed entries that the library handed over, oldest first

	elapsed int    // ticks since the leader or a candidate was heard
	timeout int    // ticks after which this member campaigns
	draws   uint64 // timeouts drawn
	term    uint64 // as last seen
	open    bool   // this member leads and has applied an entry of its term
	stuck   int    // ticks in which work waited and the leader made no block of it
	shunned uint32 // the leader that this member does not listen to
	shun    int    // for so many ticks

	building bool // BuildPayload was asked and not answered
	buildOn  keys.Digest
	proposed *block // own order that is being checked
	batch    batchState
	pending  uint32

	attests   []*slot              // attestations above the head, by height
	attested  ledger.Vote          // own, of the height above the head
	last      ledger.Height        // that this member attested in the epoch, in an earlier life too
	certified []ledger.Certificate // of heights above the head, by height
	accused   []ledger.Height      // the last height at which evidence against a member was found
	claims    []ledger.Height      // the heads that members told
	replies   []int                // answers since the last tick
	ticks     uint64
	tickHead  ledger.Height // the head when blocks were last missed
	halted    bool
	out       []consensus.Effect
}

type batchState uint8

const (
	batchIdle batchState = iota
	batchWaiting
	batchOpen
)

// block is an order above the head that this node knows.
type block struct {
	order   ledger.Order
	hash    keys.Digest
	from    uint32 // who has its transactions
	seen    bool   // it is in this node's log, or was proposed in an earlier term
	asked   bool   // CheckPayload was asked
	askedAs bool   // value of seen then
	checked bool
	valid   bool
	running bool        // Execute was asked
	result  keys.Digest // block hash, once executed
}

// delayed is an append that waits for the payload of its order.
type delayed struct {
	message *pb.Message
	from    uint32
	order   *ledger.Order // nil: it only waits for those before it
	hash    keys.Digest
}

// Init implements consensus.Engine.
func (e *engine) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	suite, err := c.Check()
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	*e = engine{suite: suite, chain: c.Chain, group: c.Group, node: c.NodeID(), journal: consensus.Durable{Version: recordVersion}}
	e.setHead(c.Head)
	e.setEpoch(c.Epoch)
	e.self = int(max(c.Self, -1)) // not what the node's id says: members of a test may share it, and one without its journal follows
	if err := e.restore(journal); err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	e.set(timerTick, e.tickTime())
	if err := e.join(); err != nil {
		return nil, err
	}
	e.advance()
	return e.flush(), nil
}

// setEpoch makes the members and parameters of an epoch those of the engine, with an empty log on the head.
func (e *engine) setEpoch(epoch ledger.Epoch) {
	e.epoch = epoch
	e.n = len(epoch.Members)
	e.majority = ledger.Attest.Quorum(e.n)
	e.window = ledger.Height(min(max(epoch.Params.Window, 1), maxWindow))
	e.self = consensus.MemberOf(&epoch, e.node)
	e.log = log{term: 1, commit: 1}
	e.log.reset(mark{Index: 1, Term: 1, Height: e.head.Order.Height})
	for i := range e.n {
		e.log.voters = append(e.log.voters, id(i))
	}
	e.final = e.head.Order.Height
	e.raft = nil
	e.waiting, e.snapshot, e.applying = nil, nil, nil
	e.elapsed, e.term, e.open, e.stuck, e.shun = 0, 0, false, 0, 0
	e.building, e.proposed, e.batch = false, nil, batchIdle
	e.blocks, e.attests, e.certified, e.attested, e.last = nil, nil, nil, ledger.Vote{}, 0
	e.accused = make([]ledger.Height, e.n)
	e.claims = make([]ledger.Height, e.n)
	e.replies = make([]int, e.n)
}

func (e *engine) setHead(h consensus.Head) {
	e.head = h
	e.headOrder = h.Order.Hash(e.suite)
	e.final = max(e.final, h.Order.Height)
}

// Step implements consensus.Engine.
func (e *engine) Step(event consensus.Event) ([]consensus.Effect, error) {
	if e.suite == nil {
		return nil, fmt.Errorf("step raft: Init was not called")
	}
	if e.halted {
		return nil, nil
	}
	switch ev := event.(type) {
	case consensus.Expired:
		switch ev.Timer {
		case timerTick:
			e.tick()
		case timerBatch:
			if e.batch == batchWaiting {
				e.batch = batchOpen
			}
		}
	case consensus.Received:
		if int64(ev.From) < int64(e.n) && int(ev.From) != e.self {
			e.onMessage(ev.From, ev.Message)
		}
	case consensus.Signed:
		if e.self >= 0 && int(ev.Vote.Signer) == e.self {
			e.onAttest(ev.Vote)
		}
	case consensus.Built:
		e.onBuilt(ev)
	case consensus.Checked:
		if b := e.find(ev.Order); b != nil && b.asked && !b.valid {
			b.checked, b.valid = true, ev.Valid
			e.flow("checked", b.order.Height, b.hash)
		}
	case consensus.Executed:
		if b := e.find(ev.Order); b != nil && b.running && b.result.IsZero() {
			b.result = ev.Block
			e.flow("executed", b.order.Height, b.hash)
		}
	case consensus.Stored:
		e.onHead(ev.Head, ev.Epoch)
	case consensus.Synced:
		e.onHead(ev.Head, ev.Epoch)
	case consensus.Pending:
		e.pending = ev.Count
	case consensus.Survey:
		e.emit(e.holding())
		return e.flush(), nil
	case consensus.Peer: // connections that break are a hint that this engine does not need: heartbeats are frequent
	}
	e.advance()
	return e.flush(), nil
}

// Status implements consensus.Engine.
func (e *engine) Status() consensus.Status {
	s := consensus.Status{Epoch: e.epoch.Number, Leader: -1, Height: e.head.Order.Height}
	if e.raft != nil {
		raft := e.raft.BasicStatus()
		s.View = raft.GetTerm()
		s.Leader = int32(raft.Lead) - 1
		s.Changing = raft.Lead == lib.None
	}
	return s
}

// advance does everything that the facts now allow. Each of its parts may give another something to do.
func (e *engine) advance() {
	for !e.halted {
		before := len(e.out)
		e.pump()
		e.admit()
		e.apply()
		e.examine()
		e.attest()
		e.finalize()
		e.propose()
		if len(e.out) == before && (e.raft == nil || !e.raft.HasReady()) {
			break
		}
	}
	e.drop()
}

// onMessage takes a message of another member.
func (e *engine) onMessage(from uint32, m consensus.Message) {
	switch m.Kind {
	case kindAttest:
		for _, v := range m.Votes {
			e.onAttest(v)
		}
		if len(m.Body) == 0 {
			return
		}
	case kindCertificate:
		for _, c := range m.Certificates {
			e.onCertificate(c, from)
		}
		return
	}
	var f frame
	if ledger.Unmarshal(m.Body, &f) != nil || f.Height > maxNumber {
		return
	}
	e.claims[from] = max(e.claims[from], f.Height)
	switch {
	case f.Epoch < e.epoch.Number:
		e.reply(from)
	case m.Kind == kindStatus || m.Kind == kindAttest:
		if f.Height < e.head.Order.Height {
			e.reply(from)
		}
	case f.Epoch > e.epoch.Number || e.raft == nil:
	default:
		e.hear(from, m, &f)
	}
}

// reply tells a member that is behind where this one is, and proves it.
func (e *engine) reply(to uint32) {
	if e.replies[to] >= maxReplies || e.self < 0 {
		return
	}
	e.replies[to]++
	e.sendStatus(int32(to))
	if c := e.head.Certificate; !c.IsZero() && c.Statement.Epoch == e.epoch.Number {
		e.emit(consensus.Send{To: int32(to), Message: consensus.Message{Kind: kindCertificate, Certificates: []ledger.Certificate{c}}})
	}
}

func (e *engine) sendStatus(to int32) {
	e.emit(consensus.Send{To: to, Message: consensus.Message{Kind: kindStatus, Body: e.place()}})
}

// place returns a frame that says where this node is.
func (e *engine) place() []byte {
	return mustMarshal(&frame{Epoch: e.epoch.Number, Height: e.head.Order.Height})
}

// tick counts time, and repeats what may have been lost.
func (e *engine) tick() {
	e.set(timerTick, e.tickTime())
	e.ticks++
	clear(e.replies)
	e.tickRaft()
	if e.ticks%repeatTicks != 0 {
		return
	}
	if st := e.attested.Statement; st.Kind != 0 && st.Height > e.head.Order.Height {
		e.emit(consensus.Send{To: -1, Message: consensus.Message{Kind: kindAttest, Votes: []ledger.Vote{e.attested}, Body: e.place()}})
	}
	if e.leading() && e.ticks%(2*repeatTicks) == 0 {
		e.sendStatus(-1) // observers hear nothing else when the group is idle
	}
	e.missBlocks()
}

// missBlocks asks for blocks that members have and that this node does not get otherwise.
func (e *engine) missBlocks() {
	head := e.head.Order.Height
	far := slices.Max(e.claims)
	stands := e.tickHead == head
	e.tickHead = head
	if far <= head || !stands && far <= head+e.window {
		return
	}
	for i := range e.n {
		from := (int(e.ticks/repeatTicks) + i) % e.n
		if from != e.self && e.claims[from] > head {
			e.emit(consensus.NeedSync{Height: e.claims[from], From: uint32(from)})
			return
		}
	}
}

// onHead moves the head to a block that became durable here.
func (e *engine) onHead(h consensus.Head, epoch *ledger.Epoch) {
	if h.Order.Height <= e.head.Order.Height {
		return
	}
	e.setHead(h)
	e.stuck = 0
	e.flow("stored", h.Order.Height, e.headOrder)
	height := h.Order.Height
	e.blocks = slices.DeleteFunc(e.blocks, func(b *block) bool {
		if b.order.Height > height {
			return false
		}
		if b.hash != e.headOrder {
			e.abandon(b)
		}
		if e.proposed == b {
			e.proposed = nil
		}
		return true
	})
	e.attests = slices.DeleteFunc(e.attests, func(s *slot) bool { return s.height <= height })
	e.certified = slices.DeleteFunc(e.certified, func(c ledger.Certificate) bool { return c.Statement.Height <= height })
	if epoch != nil && epoch.Number > e.epoch.Number && len(epoch.Members) > 0 {
		e.startEpoch(*epoch)
	}
}

// startEpoch begins an epoch on the head, which is the barrier block of the one before. Nothing said in an earlier
// epoch counts in it.
func (e *engine) startEpoch(epoch ledger.Epoch) {
	for _, b := range e.blocks {
		e.abandon(b)
	}
	e.emit(consensus.ClearTimer{Timer: timerBatch})
	led := e.leading()
	e.setEpoch(epoch)
	e.flow("epoch", e.head.Order.Height, e.headOrder)
	e.set(timerTick, e.tickTime())
	if err := e.join(); err != nil {
		e.halt(err.Error())
	}
	if led {
		e.timeout = heartbeatTicks // it stands first, as soon as the others are here
	}
}

// find returns the known order with a hash, or nil.
func (e *engine) find(hash keys.Digest) *block {
	for _, b := range e.blocks {
		if b.hash == hash {
			return b
		}
	}
	return nil
}

// add makes an order known.
func (e *engine) add(order ledger.Order, hash keys.Digest, from uint32, seen bool) *block {
	if b := e.find(hash); b != nil {
		b.seen = b.seen || seen
		return b
	}
	b := &block{order: order, hash: hash, from: from, seen: seen}
	at, _ := slices.BinarySearchFunc(e.blocks, b, func(x, y *block) int {
		return cmp.Or(cmp.Compare(x.order.Height, y.order.Height), bytes.Compare(x.hash[:], y.hash[:]))
	})
	e.blocks = slices.Insert(e.blocks, at, b)
	return b
}

// orderOf returns the order with a hash, which may be the head's.
func (e *engine) orderOf(hash keys.Digest) (ledger.Order, bool) {
	if hash == e.headOrder {
		return e.head.Order, true
	}
	if b := e.find(hash); b != nil {
		return b.order, true
	}
	return ledger.Order{}, false
}

// drop forgets orders above the head that neither the log nor a waiting append holds: their leader lost its place.
func (e *engine) drop() {
	e.blocks = slices.DeleteFunc(e.blocks, func(b *block) bool {
		if b == e.proposed || e.wanted(b.hash) {
			return false
		}
		e.abandon(b)
		return true
	})
}

func (e *engine) wanted(hash keys.Digest) bool {
	for _, held := range e.log.open() {
		if held.hash == hash {
			return true
		}
	}
	for i := range e.waiting {
		if e.waiting[i].hash == hash {
			return true
		}
	}
	return false
}

func (e *engine) abandon(b *block) {
	if b.asked {
		e.emit(consensus.Abandon{Order: b.hash})
	}
}

func (e *engine) emit(effect consensus.Effect) { e.out = append(e.out, effect) }

func (e *engine) flush() []consensus.Effect {
	out := e.out
	e.out = nil
	return out
}

func (e *engine) set(timer consensus.Timer, milli int64) {
	e.emit(consensus.SetTimer{Timer: timer, Milli: milli})
}

func (e *engine) tickTime() int64 { return max(e.epoch.Params.HeartbeatTime/4, 5) }

func (e *engine) flow(phase string, height ledger.Height, order keys.Digest) {
	e.emit(consensus.Flow{Phase: phase, Height: height, View: e.term, Order: order})
}

func (e *engine) halt(reason string) {
	e.halted = true
	e.emit(consensus.Halt{Reason: reason})
}
