package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The kinds of messages.
const (
	kindProposal = 1 // Propose vote, Order: by the leader
	kindVote     = 2 // Commit vote
	kindChange   = 3 // ViewChange vote; Order: what the member voted for above its head, if anything
	kindBeat     = 4 // Heartbeat vote: by the leader
	kindHeight   = 5 // Body: the sender's height, unsigned: hosts drop votes of an epoch that is over or to come
)

// The timers.
const (
	timerTick   consensus.Timer = 1 // what may be lost is sent again
	timerLeader consensus.Timer = 2 // the leader is silent, or makes no progress
)

const (
	maxView    = 1 << 48 // higher views are refused, so that arithmetic on them cannot overflow
	maxBackoff = 3       // view changes double the wait for a leader so often, no more
)

// New returns an engine; it is a consensus.Factory.
func New() consensus.Engine { return &rota{} }

// rota decides one block at a time. In each view one member leads, by turns:
//
//	leader     proposal ─┐                       an order on top of the head
//	everybody            └─ execute ─ vote ─┐    for the order and its result
//	                                        └─ a quorum of equal votes: final
//
// A member that has waited too long for the leader leaves for the next view and says what it voted for last. The
// leader of that view begins with what a quorum says: if one of them voted for a block above the head, it proposes
// again the one of the highest view, because it may be final already, and any quorum of votes shares a member with
// this one. This is single-decree Paxos for each height, or viewstamped replication of blocks.
//
// A member never lies about what it voted for: that is what the engine trusts, and nothing in it finds liars.
type rota struct {
	record

	suite  keys.Suite
	chain  keys.Digest
	group  ledger.GroupID
	node   identity.NodeID
	self   int // member number, or -1
	epoch  ledger.Epoch
	n      int
	quorum int

	head      consensus.Head
	headOrder keys.Digest
	proposal  *proposal     // of this view, on top of the head
	vote      ledger.Vote   // this leader's, of its proposal, to be sent again
	votes     []ledger.Vote // each member's last commit vote for the block above the head
	changes   []change      // each member's last view change
	asked     []keys.Digest // orders that the host holds for us
	finalized ledger.Height // the last height handed to Finalize
	opened    bool          // this leader knows what its view must begin with
	building  bool
	pending   bool // transactions wait
	backoff   int
	behind    ledger.Height // one more than the head at which a heartbeat told of a higher block
	journal   consensus.Durable
	out       []consensus.Effect
}

const recordVersion = 1

// record is what a member must find again after a crash. It is persisted whole before each signature.
type record struct {
	_             struct{} `cbor:",toarray"`
	View          uint64
	Change        ledger.Statement // the view change to View; zero when the view was entered
	Proposed      ledger.Statement // the last proposal
	Voted         ledger.Statement // the last commit vote
	ProposedOrder *ledger.Order    // their orders, while they are above the head
	VotedOrder    *ledger.Order
}

type proposal struct {
	order  ledger.Order
	hash   keys.Digest
	result keys.Digest // block hash, once executed
}

type change struct {
	vote  ledger.Vote
	order *ledger.Order
}

// Init implements consensus.Engine.
func (r *rota) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	suite, err := c.Check()
	if err != nil {
		return nil, fmt.Errorf("start rota: %w", err)
	}
	*r = rota{suite: suite, chain: c.Chain, group: c.Group, node: c.NodeID(), journal: consensus.Durable{Version: recordVersion}}
	r.setEpoch(c.Epoch)
	r.self = int(c.Self) // the host may have a member follow without a voice
	r.setHead(c.Head)
	if r.self >= 0 {
		found, err := r.journal.Restore(journal, c.Epoch.Number, &r.record)
		if err != nil {
			return nil, fmt.Errorf("start rota: %w", err)
		}
		if found {
			r.setHead(c.Head)
		}
	}
	r.set(timerTick, r.epoch.Params.HeartbeatTime)
	r.set(timerLeader, 2*r.patience()) // connections are still being made
	r.resume()
	r.advance()
	return r.flush(), nil
}

func (r *rota) setEpoch(epoch ledger.Epoch) {
	r.epoch, r.n, r.quorum = epoch, len(epoch.Members), ledger.Quorum(len(epoch.Members))
	r.self = consensus.MemberOf(&epoch, r.node)
	r.record = record{}
	r.votes, r.changes = make([]ledger.Vote, r.n), make([]change, r.n)
	r.vote, r.opened, r.backoff = ledger.Vote{}, false, 0
}

func (r *rota) setHead(h consensus.Head) {
	r.head, r.headOrder = h, h.Order.Hash(r.suite)
	r.proposal, r.building = nil, false
	clear(r.votes)
	if o := r.ProposedOrder; o != nil && o.Height <= h.Order.Height {
		r.ProposedOrder = nil
	}
	if o := r.VotedOrder; o != nil && o.Height <= h.Order.Height {
		r.VotedOrder = nil
	}
}

// persist writes the record down if it changed.
func (r *rota) persist() {
	if effect := r.journal.Persist(r.epoch.Number, &r.record); effect != nil {
		r.emit(effect)
	}
}

// holding tells a recovery what this member voted for above its head. If that is final, every later vote of anybody at
// that height, in a higher view, is for the same order: so the highest rank counts.
func (r *rota) holding() consensus.Holding {
	h := consensus.Holding{Rank: r.Voted.Rank()}
	if r.VotedOrder != nil {
		h.Blocks = []consensus.HeldBlock{{Order: *r.VotedOrder}}
	}
	return h
}

// resume signs again what a crash may have kept from the others.
func (r *rota) resume() {
	switch {
	case !r.voter():
	case r.changing():
		r.signChange()
	default:
		if o := r.ProposedOrder; o != nil && r.Proposed.View == r.View {
			r.consider(*o, uint32(r.self), true)
			r.sign(r.Proposed, &consensus.Message{Kind: kindProposal, Order: o})
		}
		if o := r.VotedOrder; o != nil && r.Voted.View == r.View {
			r.consider(*o, uint32(r.self), true)
			r.sign(r.Voted, &consensus.Message{Kind: kindVote})
		}
	}
}

// Step implements consensus.Engine.
func (r *rota) Step(event consensus.Event) ([]consensus.Effect, error) {
	if r.suite == nil {
		return nil, errors.New("step rota: Init was not called")
	}
	switch ev := event.(type) {
	case consensus.Expired:
		switch ev.Timer {
		case timerTick:
			r.tick()
		case timerLeader:
			r.giveUp()
		}
	case consensus.Received:
		if int64(ev.From) < int64(r.n) && int(ev.From) != r.self {
			r.onMessage(ev.From, ev.Message)
		}
	case consensus.Signed:
		r.onSigned(ev.Vote)
	case consensus.Built:
		r.onBuilt(ev)
	case consensus.Checked:
		if p := r.proposal; p != nil && p.hash == ev.Order && ev.Valid && p.result.IsZero() {
			r.emit(consensus.Execute{Order: p.order})
		}
	case consensus.Executed:
		if p := r.proposal; p != nil && p.hash == ev.Order {
			p.result = ev.Block
		}
	case consensus.Stored:
		r.onHead(ev.Head, ev.Epoch)
	case consensus.Synced:
		r.onHead(ev.Head, ev.Epoch)
	case consensus.Pending:
		if ev.Count > 0 && !r.pending {
			r.set(timerLeader, r.patience())
		}
		r.pending = ev.Count > 0
	case consensus.Survey:
		r.emit(r.holding())
	}
	r.advance()
	return r.flush(), nil
}

// Status implements consensus.Engine.
func (r *rota) Status() consensus.Status {
	s := consensus.Status{Epoch: r.epoch.Number, View: r.View, Leader: -1, Changing: r.changing(), Height: r.head.Order.Height}
	if r.n > 0 && !s.Changing {
		s.Leader = int32(r.leader(r.View))
	}
	return s
}

// advance does what the facts now allow.
func (r *rota) advance() {
	r.finalize()
	r.accept()
	r.open()
	if r.leading() && r.pending && r.proposal == nil && !r.building && r.finalized <= r.head.Order.Height &&
		(r.View == 0 || r.opened || r.Proposed.View == r.View) {
		r.building = true
		r.emit(consensus.BuildPayload{Parent: r.headOrder, Height: r.head.Order.Height + 1})
	}
}

func (r *rota) onBuilt(ev consensus.Built) {
	if !r.building || ev.Parent != r.headOrder {
		return
	}
	r.building = false
	if ev.Payload.TxCount == 0 {
		r.pending = false
		return
	}
	if r.leading() && r.proposal == nil {
		r.propose(ev.Payload.Order(&r.head.Order, r.headOrder, r.epoch.Number, uint32(r.self)), uint32(r.self), false)
	}
}

// propose signs and sends a proposal. It is on disk before anybody sees it, so that a leader that crashes proposes
// the same again.
func (r *rota) propose(o ledger.Order, from uint32, seen bool) {
	r.Proposed = ledger.Statement{Kind: ledger.Propose, Epoch: r.epoch.Number, View: r.View, Height: o.Height, Order: o.Hash(r.suite)}
	r.ProposedOrder = &o
	r.consider(o, from, seen)
	r.persist()
	r.sign(r.Proposed, &consensus.Message{Kind: kindProposal, Order: &o})
}

// consider takes up an order as the proposal of the view.
func (r *rota) consider(o ledger.Order, from uint32, seen bool) {
	hash := o.Hash(r.suite)
	if r.proposal != nil && r.proposal.hash == hash {
		return
	}
	r.proposal = &proposal{order: o, hash: hash}
	if !slices.Contains(r.asked, hash) {
		r.asked = append(r.asked, hash)
	}
	r.emit(consensus.CheckPayload{Order: o, From: from, Seen: seen})
}

// accept votes for the proposal and its result, once both are known.
func (r *rota) accept() {
	p := r.proposal
	if p == nil || p.result.IsZero() || !r.voter() || r.changing() {
		return
	}
	st := ledger.Statement{Kind: ledger.Commit, Epoch: r.epoch.Number, View: r.View, Height: p.order.Height, Order: p.hash, Block: p.result}
	if r.Voted.Kind != 0 && st.Rank().Compare(r.Voted.Rank()) <= 0 {
		return
	}
	r.Voted, r.VotedOrder = st, &p.order
	r.persist()
	r.sign(st, &consensus.Message{Kind: kindVote})
}

// finalize hands over the block above the head when a quorum voted alike for it and it was executed here.
func (r *rota) finalize() {
	p := r.proposal
	if p == nil || p.result.IsZero() || r.finalized >= p.order.Height {
		return
	}
	for _, v := range r.votes {
		var equal []ledger.Vote
		for _, o := range r.votes {
			if o.Statement == v.Statement && o.Statement.Order == p.hash {
				equal = append(equal, o)
			}
		}
		if len(equal) >= r.quorum {
			r.finalized = p.order.Height
			r.emit(consensus.Finalize{Certificate: ledger.NewCertificate(equal)})
			return
		}
	}
}

func (r *rota) onHead(h consensus.Head, epoch *ledger.Epoch) {
	if h.Order.Height <= r.head.Order.Height {
		return
	}
	r.setHead(h)
	for _, hash := range r.asked {
		if hash != r.headOrder {
			r.emit(consensus.Abandon{Order: hash})
		}
	}
	r.asked, r.backoff = nil, 0
	if epoch != nil {
		r.setEpoch(*epoch) // nothing that was signed in an earlier epoch binds in this one
		r.setHead(h)
		r.set(timerTick, r.epoch.Params.HeartbeatTime) // timers end with their epoch
	}
	if r.self >= 0 {
		r.persist()
	}
	r.set(timerLeader, r.patience())
}

func (r *rota) onMessage(from uint32, m consensus.Message) {
	var height ledger.Height
	if m.Kind == kindHeight && ledger.Unmarshal(m.Body, &height) == nil {
		r.seek(height, from)
		return
	}
	if len(m.Votes) != 1 || m.Votes[0].Signer != from || m.Votes[0].Statement.Epoch != r.epoch.Number || m.Votes[0].Statement.View > maxView {
		return
	}
	v := m.Votes[0]
	switch st := v.Statement; {
	case m.Kind == kindProposal && st.Kind == ledger.Propose && m.Order != nil:
		r.onProposal(v, *m.Order)
	case m.Kind == kindVote && st.Kind == ledger.Commit:
		r.onVote(v)
	case m.Kind == kindChange && st.Kind == ledger.ViewChange:
		r.onChange(change{v, m.Order})
	case m.Kind == kindBeat && st.Kind == ledger.Heartbeat && int(from) == r.leader(st.View) && st.View >= r.View:
		r.enter(st.View)
		r.heard()
	}
}

func (r *rota) onProposal(v ledger.Vote, o ledger.Order) {
	st := v.Statement
	if int(v.Signer) != r.leader(st.View) || st.View < r.View || st.Height != o.Height || st.Order != o.Hash(r.suite) ||
		!consensus.Plausible(&o, r.chain, r.group, &r.epoch) {
		return
	}
	r.enter(st.View)
	r.heard()
	if o.Height > r.head.Order.Height+1 {
		r.seek(o.Height-1, v.Signer)
		return
	}
	if o.Height != r.head.Order.Height+1 || o.Parent != r.headOrder || o.UnixMilli <= r.head.Order.UnixMilli || r.proposal != nil {
		return
	}
	r.consider(o, v.Signer, st.View > 0)
}

func (r *rota) onVote(v ledger.Vote) {
	if old := r.votes[v.Signer].Statement; v.Statement.Height == r.head.Order.Height+1 && (old.Kind == 0 || old.View <= v.Statement.View) {
		r.votes[v.Signer] = v
	}
}

func (r *rota) onSigned(v ledger.Vote) {
	if int64(v.Signer) != int64(r.self) {
		return
	}
	switch v.Statement {
	case r.Proposed:
		r.vote = v
	case r.Voted:
		r.onVote(v)
	case r.Change:
		r.changes[r.self] = change{v, r.VotedOrder}
	}
}

// onChange keeps a member's view change. A member that also waits for a leader follows to the highest view; one
// that does not follows when too many have left for a quorum to remain.
func (r *rota) onChange(c change) {
	st := c.vote.Statement
	if st.High.Height > st.Height+1 || st.High.Height == st.Height+1 && (c.order == nil || c.order.Hash(r.suite) != st.Order || c.order.Height != st.High.Height) {
		return
	}
	if old := r.changes[c.vote.Signer].vote.Statement; old.Kind != 0 && old.View >= st.View {
		return
	}
	r.changes[c.vote.Signer] = c
	left, highest := 0, r.View
	for _, o := range r.changes {
		if view := o.vote.Statement.View; o.vote.Statement.Kind != 0 && view > r.View {
			left, highest = left+1, max(highest, view)
		}
	}
	if left > 0 && (r.changing() || left > r.n-r.quorum) {
		r.leave(highest)
	}
}

// giveUp leaves a leader that was waited for too long. From a view that has not begun a member goes on only when a
// quorum is there, so that none runs ahead of the others alone.
func (r *rota) giveUp() {
	r.set(timerLeader, r.patience())
	there := r.n
	if r.changing() {
		there = 0
		for _, c := range r.changes {
			if c.vote.Statement.Kind != 0 && c.vote.Statement.View >= r.View {
				there++
			}
		}
	}
	if r.n > 1 && there >= r.quorum {
		r.leave(r.View + 1)
	}
}

// leave promises to vote in no lower view, and says what this member voted for above its head.
func (r *rota) leave(view uint64) {
	if !r.voter() || view <= r.View || view > maxView {
		return
	}
	if p := r.proposal; p != nil && p.hash != r.Voted.Order { // what was voted for may come back
		r.emit(consensus.Abandon{Order: p.hash})
	}
	r.View, r.proposal, r.building, r.opened = view, nil, false, false
	r.Change = ledger.Statement{
		Kind: ledger.ViewChange, Epoch: r.epoch.Number, View: view, Height: r.head.Order.Height, Block: r.head.Block,
		High: r.Voted.Rank(), Order: r.Voted.Order,
	}
	r.backoff = min(r.backoff+1, maxBackoff)
	r.persist()
	r.signChange()
	r.set(timerLeader, r.patience())
}

func (r *rota) signChange() {
	r.sign(r.Change, &consensus.Message{Kind: kindChange, Order: r.VotedOrder})
}

// open lets the leader begin its view with what a quorum says.
func (r *rota) open() {
	if !r.voter() || !r.changing() || r.leader(r.View) != r.self {
		return
	}
	count, highest, holder := 0, ledger.Height(0), uint32(0)
	var tip change
	for _, c := range r.changes {
		st := c.vote.Statement
		if st.Kind == 0 || st.View != r.View {
			continue
		}
		count++
		if st.Height > highest {
			highest, holder = st.Height, c.vote.Signer
		}
		if st.High.Height == r.head.Order.Height+1 && c.order != nil && (tip.order == nil || st.High.View > tip.vote.Statement.High.View) {
			tip = c
		}
	}
	switch {
	case count < r.quorum:
	case highest > r.head.Order.Height:
		r.seek(highest, holder)
	default:
		r.enter(r.View)
		r.opened = true
		if tip.order != nil {
			r.propose(*tip.order, tip.vote.Signer, true)
		}
		r.beat()
	}
}

// enter begins a view whose leader has begun it.
func (r *rota) enter(view uint64) {
	if view < r.View || view == r.View && !r.changing() {
		return
	}
	if view > r.View {
		r.proposal, r.building, r.opened = nil, false, false
	}
	r.View, r.Change = view, ledger.Statement{}
	r.set(timerLeader, r.patience())
}

// heard notes a sign of life of the leader. It is not enough when something is to be done.
func (r *rota) heard() {
	if r.proposal == nil && !r.pending {
		r.set(timerLeader, r.patience())
	}
}

// seek asks for blocks that another member has: at once when votes cannot bring them, and otherwise when it tells of
// them for the second time.
func (r *rota) seek(height ledger.Height, from uint32) {
	head := r.head.Order.Height
	if height > head+1 || height > head && r.behind == head+1 {
		r.emit(consensus.NeedSync{Height: height, From: from})
	}
	if height > head {
		r.behind = head + 1
	}
}

// tick sends again what may be lost, and tells this member's height to those that are behind.
func (r *rota) tick() {
	r.set(timerTick, r.epoch.Params.HeartbeatTime)
	if height, err := ledger.Marshal(r.head.Order.Height); err == nil && r.self >= 0 && r.n > 1 {
		r.emit(consensus.Send{To: -1, Message: consensus.Message{Kind: kindHeight, Body: height}})
	}
	if !r.voter() {
		return
	}
	if r.changing() {
		if c := r.changes[r.self]; c.vote.Statement == r.Change {
			r.emit(consensus.Send{To: -1, Message: consensus.Message{Kind: kindChange, Votes: []ledger.Vote{c.vote}, Order: c.order}})
		}
		return
	}
	if r.leading() {
		r.beat()
		if p := r.proposal; p != nil && r.vote.Statement == r.Proposed && r.Proposed.Order == p.hash {
			r.emit(consensus.Send{To: -1, Message: consensus.Message{Kind: kindProposal, Votes: []ledger.Vote{r.vote}, Order: &p.order}})
		}
	}
	if v := r.votes[r.self]; v.Statement.Kind != 0 && v.Statement == r.Voted {
		r.emit(consensus.Send{To: -1, Message: consensus.Message{Kind: kindVote, Votes: []ledger.Vote{v}}})
	}
}

func (r *rota) beat() {
	if r.n > 1 {
		r.sign(ledger.Statement{
			Kind: ledger.Heartbeat, Epoch: r.epoch.Number, View: r.View, Height: r.head.Order.Height, Order: r.headOrder, Block: r.head.Block,
		}, &consensus.Message{Kind: kindBeat})
	}
	r.heard() // from itself
}

func (r *rota) leader(view uint64) int { return int(view % uint64(r.n)) }

func (r *rota) leading() bool { return r.voter() && !r.changing() && r.leader(r.View) == r.self }

func (r *rota) voter() bool { return r.self >= 0 }

func (r *rota) changing() bool { return r.Change.Kind != 0 }

func (r *rota) patience() int64 { return max(r.epoch.Params.ViewTimeout, 10) << r.backoff }

func (r *rota) set(t consensus.Timer, milli int64) {
	r.emit(consensus.SetTimer{Timer: t, Milli: max(milli, 1)})
}

func (r *rota) sign(st ledger.Statement, m *consensus.Message) {
	r.emit(consensus.Sign{Statement: st, Broadcast: m})
}

func (r *rota) emit(effect consensus.Effect) { r.out = append(r.out, effect) }

func (r *rota) flush() []consensus.Effect {
	out := r.out
	r.out = nil
	return out
}
