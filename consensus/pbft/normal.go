package pbft

import (
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// proposal is a leader's proposal in the present view.
type proposal struct {
	order   ledger.Order
	hash    keys.Digest
	inView  bool              // its justification is a certificate of this view
	message consensus.Message // as it was received or sent
}

// slot holds the votes at one rank, by member. A zero vote is none.
type slot struct {
	rank     ledger.Rank
	prepares []ledger.Vote
	commits  []ledger.Vote
	prepared bool // a Prepare certificate was made of them
	decided  bool // a Commit certificate was made of them
	diverged bool // no result can reach a quorum
}

// propose lets the leader propose what comes next: after a view change the tip again, then new blocks.
func (e *engine) propose() {
	if !e.voter() || !e.leading() || e.inflight.Order != nil {
		return
	}
	if e.reproposes() {
		tip := e.High.Statement
		order, known := e.orderOf(tip.Order)
		if e.proposedHere() || e.Opening == nil || !known || tip.Height > e.head.Order.Height+e.window {
			return
		}
		e.offer(order, tip.Order)
		return
	}
	if e.pending > 0 && e.batch == batchIdle {
		e.batch = batchWaiting
		underWay := e.High.Statement.Height > e.head.Order.Height || e.proposedHere() && e.Proposed.Height > e.head.Order.Height
		e.set(timerBatch, e.epoch.Params.BatchWait(underWay))
	}
	if e.pending >= e.epoch.Params.BlockTxs {
		e.batch = batchOpen
	}
	parent, ok := e.parent()
	if !ok || e.building || e.pending == 0 || e.batch != batchOpen {
		return
	}
	e.building, e.buildOn = true, parent.order
	e.emit(consensus.BuildPayload{Parent: parent.order, Height: parent.height + 1})
}

// reproposes reports whether the view's first proposal must be the tip again.
func (e *engine) reproposes() bool { return !e.High.IsZero() && e.High.Statement.View < e.View }

func (e *engine) proposedHere() bool { return e.Proposed.Kind != 0 && e.Proposed.View == e.View }

// parent returns the block that the leader's next new block extends, and whether it may propose one now.
func (e *engine) parent() (point, bool) {
	p := point{e.High.Statement.Height, e.High.Statement.Order}
	if e.High.IsZero() {
		if !e.baseKnown || e.View > 0 && e.Opening == nil {
			return p, false
		}
		p = e.base
	}
	if e.reproposes() || e.proposedHere() && e.Proposed.Height > p.height || p.height+1 > e.head.Order.Height+e.window {
		return p, false
	}
	if b := e.find(p.order); b != nil && !b.valid {
		return p, false // others certified it; its transactions are still on their way here
	}
	order, known := e.orderOf(p.order)
	return p, known && !consensus.EndsEpoch(&order, e.epoch.Number)
}

func (e *engine) onBuilt(ev consensus.Built) {
	if !e.building || ev.Parent != e.buildOn {
		return
	}
	e.building = false
	if ev.Payload.TxCount == 0 {
		e.pending = 0
		return
	}
	parent, ok := e.parent()
	if !ok || parent.order != ev.Parent || !e.voter() || !e.leading() || e.inflight.Order != nil {
		return
	}
	before, _ := e.orderOf(parent.order)
	order := ev.Payload.Order(&before, parent.order, e.epoch.Number, uint32(e.self))
	if e.Opening != nil {
		order.NewView = e.Opening.Digest(e.suite)
	}
	hash := order.Hash(e.suite)
	e.add(order, hash, e.Opening, uint32(e.self))
	e.batch, e.Opening = batchIdle, nil // the first new block of the view holds the new-view from now on
	e.offer(order, hash)
}

// offer signs and sends a proposal. What it says is on disk before anybody sees it, so that a leader that
// crashes cannot propose something else in its place.
func (e *engine) offer(order ledger.Order, hash keys.Digest) {
	e.Proposed = e.statement(ledger.Propose, order.Height, hash)
	m, _ := e.proposalMessage()
	e.inflight = m
	e.persist()
	e.flow("proposed", order.Height, hash)
	e.sign(e.Proposed, &m)
	e.set(timerBeat, e.epoch.Params.HeartbeatTime)
}

// proposalMessage returns the message for the last proposal, without its vote.
func (e *engine) proposalMessage() (consensus.Message, bool) {
	order, known := e.orderOf(e.Proposed.Order)
	if !known {
		return consensus.Message{}, false
	}
	m := consensus.Message{Kind: kindProposal, Order: &order}
	if !e.High.IsZero() {
		if e.High.Statement.Order != e.Proposed.Order && e.High.Statement.Order != order.Parent {
			return consensus.Message{}, false
		}
		m.Certificates = []ledger.Certificate{e.High}
	}
	m.NewView = e.Opening
	if b := e.find(e.Proposed.Order); b != nil && b.newView != nil && b.newView.View == e.View {
		m.NewView = b.newView
	}
	return m, true
}

// proposeAgain signs the last proposal again after a restart, unless it has served its purpose.
func (e *engine) proposeAgain() {
	if e.High.Statement.Rank().Compare(e.Proposed.Rank()) >= 0 {
		return
	}
	if m, ok := e.proposalMessage(); ok {
		e.inflight = m
		e.sign(e.Proposed, &m)
	}
}

// onProposal takes a proposal if its place in the view and the chain is right. It votes on nothing: prepare does.
func (e *engine) onProposal(m consensus.Message) (rule string) {
	if len(m.Votes) != 1 || m.Order == nil || len(m.Certificates) > 1 {
		return ruleProposal
	}
	v, order := m.Votes[0], *m.Order
	st := v.Statement
	switch {
	case st.Kind != ledger.Propose || st.View > maxView:
		return ruleProposal
	case int64(v.Signer) != int64(e.leader(st.View)):
		return ruleLeader
	case st.View < e.View:
		return ""
	}
	hash := order.Hash(e.suite)
	want := ledger.Statement{Kind: ledger.Propose, Epoch: e.epoch.Number, View: st.View, Height: order.Height, Order: hash}
	if st != want || !e.plausible(&order) {
		return ruleProposal
	}
	if m.NewView != nil && !e.isNewView(m.NewView) {
		return ruleNewView
	}
	var justify ledger.Certificate
	if len(m.Certificates) == 1 {
		if justify = m.Certificates[0]; !e.isCertificate(justify) {
			return ruleProposal
		}
	}
	opening := m.NewView
	if opening != nil && opening.View != st.View {
		return ruleNewView
	}

	// It extends the block that it is justified by, or proposes that block again.
	j := justify.Statement
	again := !justify.IsZero() && j.Order == hash && j.Height == order.Height
	switch {
	case again:
	case justify.IsZero():
		if !e.baseKnown || order.Parent != e.base.order || order.Height != e.base.height+1 {
			return ruleParent
		}
	case order.Parent != j.Order || order.Height != j.Height+1:
		return ruleParent
	}
	if !again {
		if order.Proposer != v.Signer {
			return ruleProposal
		}
		if !order.NewView.IsZero() && (opening == nil || opening.Digest(e.suite) != order.NewView) {
			return ruleProposal
		}
	}

	// It proves that a quorum is in the view: by a certificate of the view, or by a new-view whose highest
	// certificate it does not go back behind.
	inView := j.View == st.View
	opens := opening != nil && j.Rank().Compare(opening.High.Statement.Rank()) >= 0
	if !inView && !opens {
		return ruleView
	}
	if !justify.IsZero() {
		e.observe(justify, v.Signer)
	}
	if st.View > e.View || st.View == e.View && e.changing() {
		e.enter(st.View, opening)
	}
	if st.View != e.View || e.halted {
		return ""
	}
	e.heard(v.Signer)
	height := e.head.Order.Height
	if order.Height < height || order.Height == height && hash != e.headOrder || order.Height > e.reach() {
		return ""
	}
	at, known := slices.BinarySearchFunc(e.proposals, order.Height, func(p *proposal, h ledger.Height) int {
		return compare(p.order.Height, h)
	})
	if known {
		if e.proposals[at].hash != hash {
			e.accuse(e.proposals[at].message.Votes[0], v)
		}
		return ""
	}
	e.proposals = slices.Insert(e.proposals, at, &proposal{order: order, hash: hash, inView: inView, message: m})
	if order.Height > height {
		b := e.add(order, hash, opening, v.Signer)
		b.from = v.Signer
		b.seen = b.seen || again
	}
	e.flow("proposal", order.Height, hash)
	return ""
}

func (e *engine) plausible(o *ledger.Order) bool {
	return consensus.Plausible(o, e.chain, e.group, &e.epoch)
}

// live returns the blocks that are under way: those that lead to the highest certificate, to a decided block or
// to a proposal or vote of this view. Other orders are only remembered, and their transactions are free for other blocks.
func (e *engine) live() []*block {
	live, _ := e.path(e.headPoint(), e.High.Statement.Order)
	add := func(order keys.Digest) {
		if !slices.ContainsFunc(live, func(b *block) bool { return b.hash == order }) {
			path, _ := e.path(e.headPoint(), order)
			live = append(live, path...)
		}
	}
	for _, c := range slices.Backward(e.decided) {
		add(c.Statement.Order)
	}
	for _, p := range slices.Backward(e.proposals) {
		add(p.hash)
	}
	for _, st := range []ledger.Statement{e.Proposed, e.Prepared} { // after a restart nothing else tells
		if st.Kind != 0 && st.View == e.View {
			add(st.Order)
		}
	}
	return live
}

// examine asks the host about each block under way as soon as its parent allows: are its transactions here, and
// what do they give. Execution does not wait for votes. A block from which a higher certificate led away is under way no more.
func (e *engine) examine() {
	live := e.live()
	_, linked := e.path(e.headPoint(), e.High.Statement.Order)
	for _, b := range e.blocks {
		if !slices.Contains(live, b) {
			if linked && b.asked && !e.changing() { // a change of view may still learn of a certificate on it
				e.abandon(b)
			}
			continue
		}
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
				b.checked, b.askedAs = true, true
				e.refuse(b.from, ruleParent)
				continue
			}
			e.emit(consensus.CheckPayload{Order: b.order, From: b.from, Widen: e.widen(), Seen: b.seen})
		}
		if b.valid && !b.running {
			if p := e.find(b.order.Parent); p == nil || !p.result.IsZero() {
				b.running = true
				e.emit(consensus.Execute{Order: b.order})
			}
		}
	}
}

// widen returns the number of views since the last final block, at most 3.
func (e *engine) widen() uint8 {
	last := uint64(0)
	if c := e.head.Certificate.Statement; c.Kind != 0 && c.Epoch == e.epoch.Number {
		last = min(c.View, e.View)
	}
	return uint8(min(e.View-last, 3))
}

// prepare votes for proposals whose transactions are here and valid: in a view for rising heights only, and
// after the first only on top of a certificate of the view.
func (e *engine) prepare() {
	if !e.voter() || e.changing() {
		return
	}
	for _, p := range e.proposals {
		voted := e.Prepared.Kind != 0 && e.Prepared.View == e.View
		if voted && (p.order.Height <= e.Prepared.Height || !p.inView) {
			continue
		}
		if p.order.Height > e.head.Order.Height+e.window {
			return
		}
		if p.hash != e.headOrder {
			b := e.find(p.hash)
			if b == nil || !b.valid || b.lacksNewView() {
				continue
			}
			b.voted = e.View + 1
		}
		e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)
		e.persist()
		e.sign(e.Prepared, &consensus.Message{Kind: kindVote})
	}
}

// commit votes for blocks that a certificate of this view covers, whose result is known, and from which it knows all orders up to the
// certificate's, with what opened their views: a recovery after a disaster may need to show that.
func (e *engine) commit() {
	st := e.High.Statement
	if !e.voter() || e.changing() || e.High.IsZero() || st.View != e.View {
		return
	}
	if st.Order == e.headOrder {
		if st.Kind == ledger.Prepare { // the tip was final already; the votes show that the view works
			e.commitTo(st.Height, st.Order, e.head.Block)
		}
		return
	}
	path, ok := e.path(e.headPoint(), st.Order)
	if !ok || slices.ContainsFunc(path, (*block).lacksNewView) {
		return
	}
	for _, b := range path {
		if b.result.IsZero() {
			return
		}
		e.commitTo(b.order.Height, b.hash, b.result)
	}
}

func (e *engine) commitTo(height ledger.Height, order, result keys.Digest) {
	if e.Committed.Kind != 0 && e.Committed.View == e.View && height <= e.Committed.Height {
		return
	}
	e.Committed = e.statement(ledger.Commit, height, order)
	e.Lock = e.High
	e.Committed.Block = result
	e.persist()
	e.sign(e.Committed, &consensus.Message{Kind: kindVote})
}

// onVote keeps a prepare or commit vote, and makes a certificate of a quorum of equal ones.
func (e *engine) onVote(v ledger.Vote) (rule string) {
	st := v.Statement
	if e.halted || st.Epoch != e.epoch.Number {
		return ""
	}
	if int64(v.Signer) >= int64(e.n) || !e.isCertificate(ledger.Certificate{Statement: st}) {
		return ruleVote
	}
	height := e.head.Order.Height
	switch {
	case st.View+1 < e.View || st.Height < height:
		return ruleStale
	case st.View > e.View+viewsAhead || st.Height > e.reach():
		return ruleAhead
	}
	s := e.slot(st.Rank())
	votes, done := s.prepares, &s.prepared
	if st.Kind == ledger.Commit {
		votes, done = s.commits, &s.decided
	}
	if old := votes[v.Signer]; old.Statement.Kind != 0 {
		if old.Statement != st {
			e.accuse(old, v)
		}
		return ""
	}
	votes[v.Signer] = v
	if c := e.changes[v.Signer].vote; st.Kind == ledger.Commit && c.Statement.Kind != 0 {
		e.accuseLiar(v, c)
	}
	if b := e.find(st.Order); st.Kind == ledger.Commit && b != nil && !b.result.IsZero() && b.result != st.Block {
		rule = ruleResult // it is kept nevertheless: this node's own result may be the wrong one
	}
	var equal []ledger.Vote
	total := 0
	for _, o := range votes {
		if o.Statement.Kind != 0 {
			total++
		}
		if o.Statement == st {
			equal = append(equal, o)
		}
	}
	switch {
	case *done:
	case len(equal) >= e.quorum:
		*done = true
		if st.Kind == ledger.Prepare {
			e.flow("prepared", st.Height, st.Order)
		}
		e.observe(ledger.NewCertificate(equal), v.Signer)
	case st.Kind == ledger.Commit && !s.diverged && total >= e.quorum && !e.canDecide(votes):
		s.diverged = true
		e.flow("diverged", st.Height, st.Order)
	}
	return rule
}

// canDecide reports whether a quorum of equal votes is still possible.
func (e *engine) canDecide(votes []ledger.Vote) bool {
	missing, most := 0, 0
	for _, v := range votes {
		if v.Statement.Kind == 0 {
			missing++
			continue
		}
		same := 0
		for _, o := range votes {
			if o.Statement == v.Statement {
				same++
			}
		}
		most = max(most, same)
	}
	return most+missing >= e.quorum
}

// slot returns the votes at a rank, making room for them if there is none.
func (e *engine) slot(rank ledger.Rank) *slot {
	at, known := slices.BinarySearchFunc(e.slots, rank, func(s *slot, r ledger.Rank) int { return s.rank.Compare(r) })
	if !known {
		s := &slot{rank: rank, prepares: make([]ledger.Vote, e.n), commits: make([]ledger.Vote, e.n)}
		e.slots = slices.Insert(e.slots, at, s)
	}
	return e.slots[at]
}
