package pbft

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The timers of the engine. Their lengths derive from the epoch's parameters; see the package comment.
const (
	timerProgress consensus.Timer = 1 // work is pending and no block becomes final
	timerAlive    consensus.Timer = 2 // the leader is silent
	timerBeat     consensus.Timer = 3 // the leader's next heartbeat
	timerTick     consensus.Timer = 4 // status, and what was lost is asked for again
	timerBatch    consensus.Timer = 5 // the leader waits for more transactions
	timerCensor   consensus.Timer = 6 // the leader had its chance to propose what is old
)

// Bounds on what others can make the engine keep or do.
const (
	maxView     = 1 << 48 // higher views are refused, so that arithmetic on views cannot overflow
	maxHeight   = 1 << 62 // higher claims are refused, for the same reason
	maxWindow   = 16      // blocks in flight
	maxBackoff  = 3       // view changes double the progress timer so often, no more
	viewsAhead  = 2       // votes of views up to so many ahead of ours are kept
	blocksAhead = 16      // beyond the window, proposals and votes of so many heights are kept
	maxReplies  = 16      // answers to one member between two ticks
	patience    = 20      // ticks after which a member that left the view alone is let back
	maxPatience = 10      // times that this wait doubles
	quietTicks  = 4       // with nothing to do, one tick of so many sends a status
	maxVoted    = 32      // orders without a certificate that are kept because this member voted for them
)

// New returns an engine; it is a consensus.Factory.
func New() consensus.Engine { return &engine{} }

// engine is the state of one member. The embedded record is what survives a crash.
type engine struct {
	record

	suite keys.Suite
	chain keys.Digest
	group ledger.GroupID
	node  identity.NodeID // zero for an observer
	self  int             // member number, or -1

	epoch  ledger.Epoch
	n      int
	faulty int
	quorum int
	window ledger.Height

	head      consensus.Head // the last durable block
	headOrder keys.Digest
	base      point // the block before the epoch's first; known only while it is the head
	baseKnown bool
	final     point // the last block handed to Finalize; at least the head

	blocks    []*block             // known orders above the head, by height, then hash
	proposals []*proposal          // of this view, by height; at most one per height
	slots     []*slot              // votes, by rank
	decided   []ledger.Certificate // Commit certificates by height: those above the head, and the last ones up to it for who lacks them
	changes   []change             // each member's latest view change

	inflight consensus.Message // the proposal that waits for its signature
	building bool              // BuildPayload was asked and not answered
	buildOn  keys.Digest
	batch    batchState

	pending     uint32
	censorArmed bool

	up         []bool          // connections to members
	claims     []ledger.Height // what members say they have
	replies    []int           // answers since the last tick
	accused    []ledger.Rank   // the last place where evidence against a member was found, plus one height
	fetched    []keys.Digest   // asked for since the last tick
	synced     bool            // NeedSync since the last tick
	ticks      uint64          // rotates the members that are asked
	tickHead   ledger.Height   // the head at the last tick
	backoff    int             // view changes since the last progress
	progressOn bool            // timerProgress runs
	fast       bool            // the leader's connection broke in this view
	seq        uint64          // heartbeats sent
	halted     bool            // Halt was emitted
	journal    consensus.Durable
	out        []consensus.Effect
}

type batchState uint8

const (
	batchIdle batchState = iota
	batchWaiting
	batchOpen
)

// point is a place in the chain.
type point struct {
	height ledger.Height
	order  keys.Digest
}

// block is an order above the head that this node knows.
type block struct {
	order   ledger.Order
	hash    keys.Digest
	newView *ledger.NewView // what order.NewView is the digest of
	from    uint32          // who has its transactions
	seen    bool            // it was proposed in an earlier view, or certified
	asked   bool            // CheckPayload was asked
	askedAs bool            // value of seen then
	checked bool
	valid   bool
	running bool        // Execute was asked
	voted   uint64      // one more than the last view in which this member voted for it; 0: it did not
	result  keys.Digest // block hash, once executed
}

func (b *block) lacksNewView() bool { return !b.order.NewView.IsZero() && b.newView == nil }

// Init implements consensus.Engine.
func (e *engine) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	suite, err := c.Check()
	if err != nil {
		return nil, fmt.Errorf("start pbft: %w", err)
	}
	*e = engine{suite: suite, chain: c.Chain, group: c.Group, node: c.NodeID(), journal: consensus.Durable{Version: recordVersion}}
	e.setEpoch(c.Epoch)
	e.self = int(max(c.Self, -1)) // not what the node's id says: members of a test may share it, and one without its journal follows
	e.setHead(c.Head)
	e.final = point{c.Head.Order.Height, e.headOrder}

	if err := e.restore(journal); err != nil {
		return nil, fmt.Errorf("start pbft: %w", err)
	}
	if !e.head.Certificate.IsZero() {
		e.observe(e.head.Certificate, uint32(max(e.self, 0)))
	}
	e.set(timerTick, e.tickTime())
	e.resume()
	e.advance()
	return e.flush(), nil
}

// setEpoch makes the members and parameters of an epoch those of the engine, with nothing known in it.
func (e *engine) setEpoch(epoch ledger.Epoch) {
	e.epoch = epoch
	e.n = len(epoch.Members)
	e.faulty, e.quorum = ledger.Faulty(e.n), ledger.Quorum(e.n)
	e.window = ledger.Height(min(max(epoch.Params.Window, 1), maxWindow))
	e.self = consensus.MemberOf(&epoch, e.node)
	e.record = record{}
	e.blocks, e.proposals, e.slots, e.decided, e.fetched = nil, nil, nil, nil, nil
	e.changes = make([]change, e.n)
	e.up = slices.Repeat([]bool{true}, e.n)
	e.claims = make([]ledger.Height, e.n)
	e.replies = make([]int, e.n)
	e.accused = make([]ledger.Rank, e.n)
	e.inflight, e.building, e.batch = consensus.Message{}, false, batchIdle
	e.backoff, e.fast, e.baseKnown = 0, false, false
}

func (e *engine) setHead(h consensus.Head) {
	e.head = h
	e.headOrder = h.Order.Hash(e.suite)
	if h.Order.Height == 0 || h.Order.Epoch < e.epoch.Number {
		e.base, e.baseKnown = point{h.Order.Height, e.headOrder}, true
	}
}

// resume takes up the view where a crash or Init left it: it signs again what the journal says was signed, so
// that what was persisted and not sent gets sent, and starts the view's timers.
func (e *engine) resume() {
	switch {
	case e.changing():
		e.signChange()
	case e.voter():
		if e.Proposed.Kind != 0 && e.Proposed.View == e.View {
			e.proposeAgain()
		}
		if e.Prepared.Kind != 0 && e.Prepared.View == e.View && e.Prepared.Height >= e.head.Order.Height {
			e.sign(e.Prepared, &consensus.Message{Kind: kindVote})
		}
		if e.Committed.Kind != 0 && e.Committed.View == e.View && e.Committed.Height >= e.head.Order.Height {
			e.sign(e.Committed, &consensus.Message{Kind: kindVote})
		}
		fallthrough
	default:
		e.startTimers(2 * e.baseTime()) // connections are still being made
	}
}

// Step implements consensus.Engine.
func (e *engine) Step(event consensus.Event) ([]consensus.Effect, error) {
	if e.suite == nil {
		return nil, fmt.Errorf("step pbft: Init was not called")
	}
	if e.halted {
		return nil, nil
	}
	switch ev := event.(type) {
	case consensus.Expired:
		e.onExpired(ev.Timer)
	case consensus.Received:
		if int64(ev.From) < int64(e.n) && int(ev.From) != e.self {
			e.onMessage(ev.From, ev.Message)
		}
	case consensus.Signed:
		e.onSigned(ev.Vote)
	case consensus.Built:
		e.onBuilt(ev)
	case consensus.Checked:
		if b := e.find(ev.Order); b != nil && b.asked {
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
		e.checkCensorship(ev)
	case consensus.Synced:
		e.onHead(ev.Head, ev.Epoch)
	case consensus.Pending:
		e.pending = ev.Count
	case consensus.Peer:
		e.onPeer(ev)
	case consensus.Survey:
		e.emit(e.holding())
		return e.flush(), nil
	}
	e.advance()
	return e.flush(), nil
}

// Status implements consensus.Engine.
func (e *engine) Status() consensus.Status {
	s := consensus.Status{Epoch: e.epoch.Number, View: e.View, Leader: -1, Changing: e.changing(), Height: e.head.Order.Height}
	if e.n > 0 && !s.Changing {
		s.Leader = int32(e.leader(e.View))
	}
	return s
}

// advance does everything that the facts now allow. Handlers record facts; only advance and what it calls
// propose and vote.
func (e *engine) advance() {
	if e.halted {
		return
	}
	e.examine()
	e.finalize()
	e.prepare()
	e.commit()
	e.propose()
	e.fetchMissing()
	e.retime()
}

func (e *engine) onMessage(from uint32, m consensus.Message) {
	switch m.Kind {
	case kindProposal:
		e.refuse(from, e.onProposal(m))
	case kindVote:
		for _, v := range m.Votes {
			if rule := e.onVote(v); rule != "" {
				e.refuse(from, rule)
				return
			}
		}
	case kindViewChange:
		e.refuse(from, e.onViewChange(from, m))
	case kindNewView:
		if m.NewView != nil {
			e.refuse(from, e.onNewView(m.NewView))
		}
	case kindHeartbeat:
		e.refuse(from, e.onHeartbeat(from, m))
	case kindCertificate:
		for _, c := range m.Certificates {
			e.observe(c, from)
		}
	case kindStatus:
		e.refuse(from, e.onStatus(from, m.Body))
	case kindFetch:
		e.refuse(from, e.onFetch(from, m.Body))
	case kindOrder:
		e.onOrder(from, m)
	default:
		e.refuse(from, ruleKind)
	}
}

func (e *engine) onSigned(v ledger.Vote) {
	if e.self < 0 || int(v.Signer) != e.self {
		return
	}
	switch v.Statement.Kind {
	case ledger.Propose:
		m := e.inflight
		if m.Order != nil && v.Statement == e.Proposed {
			e.inflight = consensus.Message{}
			m.Votes = []ledger.Vote{v}
			e.onProposal(m)
		}
	case ledger.Prepare, ledger.Commit:
		e.onVote(v)
	case ledger.ViewChange:
		if v.Statement == e.Change {
			e.keepChange(v, e.Claim)
		}
	default: // heartbeats
	}
}

// observe takes note of a certificate, whose signatures the host checked: it may raise the highest known, make
// a block final, and prove that a quorum entered a view.
func (e *engine) observe(c ledger.Certificate, from uint32) {
	st := c.Statement
	if !e.isCertificate(c) || e.halted {
		return
	}
	if st.Kind == ledger.Commit {
		e.decide(c, from)
		if e.halted {
			return
		}
	}
	if st.Height >= e.head.Order.Height {
		switch st.Rank().Compare(e.High.Statement.Rank()) {
		case 1:
			e.High = c
		case 0:
			if st.Kind == ledger.Commit || e.High.IsZero() {
				e.High = c
			}
		}
		if b := e.find(st.Order); b != nil {
			b.seen = true
		}
	}
	defer e.settle()
	if st.View > e.View || st.View == e.View && e.changing() {
		e.enter(st.View, nil)
	}
	if st.Kind == ledger.Commit && st.View == e.View {
		e.backoff = 0
	}
}

// settle drops the view's new-view when a certificate of the view proves as much. The leader still needs it for
// the first new block.
func (e *engine) settle() {
	if !e.High.IsZero() && e.High.Statement.View == e.View && !e.leading() {
		e.Opening = nil
	}
}

// isCertificate reports whether c is of a kind and place that this engine can use.
func (e *engine) isCertificate(c ledger.Certificate) bool {
	st := c.Statement
	switch st.Kind {
	case ledger.Prepare:
		if !st.Block.IsZero() {
			return false
		}
	case ledger.Commit:
		if st.Block.IsZero() {
			return false
		}
	default:
		return false
	}
	return st.Epoch == e.epoch.Number && st.View <= maxView && st.Height > 0 && st.High == (ledger.Rank{}) && st.Seq == 0
}

// reach returns the highest height of which proposals, votes and certificates are kept. It lies well above the
// window, so that a member that is some blocks behind a busy group follows from what it has heard. Were they
// dropped, it would have to fetch every block and come too late for every vote.
func (e *engine) reach() ledger.Height { return e.head.Order.Height + e.window + blocksAhead }

// decide takes note of a Commit certificate: its block and all below are final.
func (e *engine) decide(c ledger.Certificate, from uint32) {
	st := c.Statement
	e.claim(from, st.Height)
	switch {
	case st.Height == e.head.Order.Height && (st.Order != e.headOrder || st.Block != e.head.Block):
		e.halt(fmt.Sprintf("two final blocks at height %d: more than %d of %d members lie", st.Height, e.faulty, e.n))
		return
	case st.Height > e.reach():
		return // out of reach: blocks come by NeedSync
	}
	at, known := slices.BinarySearchFunc(e.decided, st.Height, func(d ledger.Certificate, h ledger.Height) int {
		return compare(d.Statement.Height, h)
	})
	switch {
	case known:
		if old := e.decided[at].Statement; old.Order != st.Order || old.Block != st.Block {
			e.halt(fmt.Sprintf("two final blocks at height %d: more than %d of %d members lie", st.Height, e.faulty, e.n))
		}
	case st.Height > e.head.Order.Height:
		e.decided = slices.Insert(e.decided, at, c)
		e.flow("committed", st.Height, st.Order)
	case st.Height == e.head.Order.Height:
		e.decided = slices.Insert(e.decided, at, c)
	}
}

// finalize hands over blocks that are executed here and have a Commit certificate of their own, lowest first. One
// whose descendant has one is final too, but waits for its own: see the package comment.
func (e *engine) finalize() {
	for _, c := range e.decided {
		st := c.Statement
		if st.Height <= e.final.height {
			continue
		}
		b := e.find(st.Order)
		if b == nil || b.order.Parent != e.final.order || b.result.IsZero() || b.lacksNewView() {
			return
		}
		e.emit(consensus.Finalize{Certificate: c, NewView: b.newView})
		e.final = point{st.Height, st.Order}
	}
}

// onHead moves the head to a block that became durable here.
func (e *engine) onHead(h consensus.Head, epoch *ledger.Epoch) {
	if h.Order.Height <= e.head.Order.Height {
		return
	}
	e.setHead(h)
	if e.final.height < h.Order.Height {
		e.final = point{h.Order.Height, e.headOrder}
	}
	e.flow("stored", h.Order.Height, e.headOrder)
	e.prune()
	if epoch != nil && epoch.Number > e.epoch.Number && len(epoch.Members) > 0 {
		e.startEpoch(*epoch)
		return
	}
	if !h.Certificate.IsZero() {
		e.observe(h.Certificate, uint32(max(e.self, 0)))
	}
	e.backoff = 0
	e.restartProgress()
}

// startEpoch begins an epoch on the head, which is the barrier block of the one before. Nothing signed in an
// earlier epoch counts in it.
func (e *engine) startEpoch(epoch ledger.Epoch) {
	for _, b := range e.blocks {
		e.abandon(b)
	}
	e.stopTimers()
	e.setEpoch(epoch)
	e.setHead(e.head)
	e.final = point{e.head.Order.Height, e.headOrder}
	e.persist()
	e.flow("epoch", e.head.Order.Height, e.headOrder)
	e.set(timerTick, e.tickTime())
	e.startTimers(0)
}

// prune forgets what the head has made useless.
func (e *engine) prune() {
	height := e.head.Order.Height
	var kept []*block
	var dropped []keys.Digest
	path := []keys.Digest{e.headOrder}
	for at := e.head.Order.Parent; ; {
		b := e.find(at)
		if b == nil {
			break
		}
		path = append(path, at)
		at = b.order.Parent
	}
	for _, b := range e.blocks {
		switch {
		case b.order.Height <= height:
			if !slices.Contains(path, b.hash) {
				e.abandon(b)
			}
		case b.order.Height == height+1 && b.order.Parent != e.headOrder, slices.Contains(dropped, b.order.Parent):
			dropped = append(dropped, b.hash)
			e.abandon(b)
		default:
			kept = append(kept, b)
		}
	}
	e.blocks = kept
	e.decided = slices.DeleteFunc(e.decided, func(c ledger.Certificate) bool { return c.Statement.Height+e.window <= height })
	e.slots = slices.DeleteFunc(e.slots, func(s *slot) bool { return s.rank.Height < height })
	e.proposals = slices.DeleteFunc(e.proposals, func(p *proposal) bool {
		return p.order.Height < height || p.order.Height == height && p.hash != e.headOrder ||
			p.order.Height > height && e.find(p.hash) == nil
	})
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

// add makes an order known. It fills in a new-view that was missing.
func (e *engine) add(order ledger.Order, hash keys.Digest, newView *ledger.NewView, from uint32) *block {
	if order.NewView.IsZero() || newView != nil && newView.Digest(e.suite) != order.NewView {
		newView = nil
	}
	if b := e.find(hash); b != nil {
		if b.newView == nil {
			b.newView = newView
		}
		return b
	}
	b := &block{order: order, hash: hash, newView: newView, from: from}
	at, _ := slices.BinarySearchFunc(e.blocks, b, func(x, y *block) int {
		if c := compare(x.order.Height, y.order.Height); c != 0 {
			return c
		}
		return bytes.Compare(x.hash[:], y.hash[:])
	})
	e.blocks = slices.Insert(e.blocks, at, b)
	return b
}

// path returns the known blocks above from up to the one with the hash, oldest first, and whether they connect.
func (e *engine) path(from point, hash keys.Digest) ([]*block, bool) {
	var path []*block
	for hash != from.order {
		b := e.find(hash)
		if b == nil || b.order.Height <= from.height {
			return nil, false
		}
		path = append(path, b)
		hash = b.order.Parent
	}
	slices.Reverse(path)
	return path, true
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

func (e *engine) headPoint() point { return point{e.head.Order.Height, e.headOrder} }

func (e *engine) leader(view uint64) int { return int(view % uint64(e.n)) }

func (e *engine) leading() bool { return e.self >= 0 && !e.changing() && e.leader(e.View) == e.self }

// voter reports whether this node may sign.
func (e *engine) voter() bool { return e.self >= 0 && !e.halted }

func (e *engine) changing() bool { return e.Change.Kind != 0 }

func (e *engine) emit(effect consensus.Effect) { e.out = append(e.out, effect) }

func (e *engine) flush() []consensus.Effect {
	out := e.out
	e.out = nil
	return out
}

func (e *engine) sign(st ledger.Statement, broadcast *consensus.Message) {
	e.emit(consensus.Sign{Statement: st, Broadcast: broadcast})
}

func (e *engine) send(to uint32, m consensus.Message) {
	e.emit(consensus.Send{To: int32(to), Message: m})
}

// abandon tells the host that an order is not under way any more. It is asked about again if it comes back.
func (e *engine) abandon(b *block) {
	if b.asked {
		e.emit(consensus.Abandon{Order: b.hash})
	}
	b.asked, b.askedAs, b.checked, b.valid, b.running, b.result = false, false, false, false, false, keys.Digest{}
}

func (e *engine) flow(phase string, height ledger.Height, order keys.Digest) {
	e.emit(consensus.Flow{Phase: phase, Height: height, View: e.View, Order: order})
}

// refuse tells that something from a member was dropped by a rule, if there is one.
func (e *engine) refuse(from uint32, rule string) {
	if rule != "" {
		e.emit(consensus.Refused{From: from, Rule: rule})
	}
}

func (e *engine) halt(reason string) {
	e.halted = true
	e.emit(consensus.Halt{Reason: reason})
}

func (e *engine) statement(kind ledger.StatementKind, height ledger.Height, order keys.Digest) ledger.Statement {
	return ledger.Statement{Kind: kind, Epoch: e.epoch.Number, View: e.View, Height: height, Order: order}
}

// accuse reports two statements that member signer must not both have signed, once per place.
func (e *engine) accuse(a, b ledger.Vote) {
	at := a.Statement.Rank()
	at.Height++
	if e.accused[a.Signer].Compare(at) < 0 {
		e.accused[a.Signer] = at
		e.emit(consensus.Evidence{A: a, B: b})
	}
}

func compare[T ~uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}
