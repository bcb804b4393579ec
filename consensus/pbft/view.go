package pbft

import (
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// change is a member's latest view change and the certificate it claims.
type change struct {
	vote    ledger.Vote
	high    ledger.Certificate
	waited  int // ticks for which the member has needed a higher view than ours
	granted int // how often it got one
}

// startChange leaves the view for a higher one. From here on nothing is signed in a lower view, for ever.
func (e *engine) startChange(view uint64, why string) {
	if !e.voter() || view <= e.View || view > maxView {
		return
	}
	e.View = view
	e.Change = ledger.Statement{
		Kind: ledger.ViewChange, Epoch: e.epoch.Number, View: view,
		Height: e.head.Order.Height, Block: e.head.Block,
		High: e.High.Statement.Rank(), Order: e.High.Statement.Order,
	}
	e.Claim = e.High
	e.Opening, e.proposals, e.inflight, e.building, e.fast = nil, nil, consensus.Message{}, false, false
	e.backoff++
	e.stopTimers()
	e.forgetVotes()
	e.persist()
	e.flow("view-change: "+why, e.head.Order.Height, e.headOrder)
	e.signChange()
}

func (e *engine) signChange() {
	e.sign(e.Change, &consensus.Message{Kind: kindViewChange, Certificates: e.claimed()})
}

// claimed returns the certificate that this node's view change claims to hold. It stays what it was when the
// statement was signed, though a higher one may be known by now.
func (e *engine) claimed() []ledger.Certificate {
	if e.Claim.IsZero() {
		return nil
	}
	return []ledger.Certificate{e.Claim}
}

// nextView returns the view to change to: the next whose leader is not believed to be down, skipping at most f.
func (e *engine) nextView() uint64 {
	view := e.View + 1
	for range e.faulty {
		if l := e.leader(view); l == e.self || e.up[l] {
			break
		}
		view++
	}
	return view
}

// enter begins a view that a quorum is proved to have entered.
func (e *engine) enter(view uint64, opening *ledger.NewView) {
	if view < e.View || view == e.View && !e.changing() {
		return
	}
	e.View, e.Change, e.Claim, e.Opening = view, ledger.Statement{}, ledger.Certificate{}, opening
	e.proposals, e.inflight, e.building, e.fast = nil, consensus.Message{}, false, false
	e.forgetVotes()
	e.forgetBlocks()
	e.stopTimers()
	e.startTimers(0)
	e.flow("new-view", e.High.Statement.Height, e.High.Statement.Order)
}

// forgetVotes drops votes too old to matter: those of the view before may still make a certificate.
func (e *engine) forgetVotes() {
	e.slots = slices.DeleteFunc(e.slots, func(s *slot) bool { return s.rank.View+1 < e.View })
}

// forgetBlocks drops the orders that do not matter any more when a view begins. Those that are certified or
// decided do. Those that this member voted for are remembered, but their transactions are free for other blocks:
// its vote may be in a certificate that only a member knows that is away now, and that the group must build on when
// that member comes back. A certificate of a higher view than the vote's takes its place.
func (e *engine) forgetBlocks() {
	live := e.live()
	var keep, voted []*block
	for _, b := range e.blocks {
		if b.voted > 0 && (e.High.IsZero() || b.voted > e.High.Statement.View) {
			voted = append(voted, b)
		}
	}
	slices.SortStableFunc(voted, func(a, b *block) int { return compare(b.voted, a.voted) })
	for _, b := range voted[:min(len(voted), maxVoted)] {
		path, _ := e.path(e.headPoint(), b.hash)
		keep = append(keep, path...)
	}
	locked, _ := e.path(e.headPoint(), e.Lock.Statement.Order) // for a recovery, if nothing leads to the highest certificate
	keep = append(keep, locked...)
	e.blocks = slices.DeleteFunc(e.blocks, func(b *block) bool {
		if slices.Contains(live, b) {
			return false
		}
		e.abandon(b)
		return !slices.Contains(keep, b)
	})
}

// onViewChange keeps a member's view change. Those of f+1 members for higher views contain an honest one, so
// this node joins them; those of a quorum for a view that this node leads open it.
func (e *engine) onViewChange(from uint32, m consensus.Message) (rule string) {
	if len(m.Votes) != 1 || len(m.Certificates) > 1 || !e.isChange(m.Votes[0]) {
		return ruleChange
	}
	v := m.Votes[0]
	st := v.Statement
	e.claim(v.Signer, st.Height)
	var high ledger.Certificate
	if len(m.Certificates) == 1 {
		high = m.Certificates[0]
		e.observe(high, v.Signer)
	}
	if !e.proves(high, st) {
		return ruleChange
	}
	if st.View < e.View || st.View == e.View && !e.changing() {
		answered := e.help(from, statusBody{Epoch: st.Epoch, View: st.View, Changing: true, Height: st.Height, High: st.High})
		switch {
		case !answered:
			return ruleAnswers
		case st.View+1 < e.View:
			return ruleStaleView
		case st.View < e.View:
			return ""
		}
	}
	e.keepChange(v, high)
	return ""
}

// isChange reports whether a vote is a well-formed view change.
func (e *engine) isChange(v ledger.Vote) bool {
	st := v.Statement
	return st.Kind == ledger.ViewChange && int64(v.Signer) < int64(e.n) && st.Epoch == e.epoch.Number &&
		st.View > 0 && st.View <= maxView && st.High.View < st.View && st.Height <= maxHeight && st.High.Height <= maxHeight && st.Seq == 0
}

// proves reports whether a certificate is the one that a view change claims to hold.
func (e *engine) proves(high ledger.Certificate, st ledger.Statement) bool {
	if high.IsZero() {
		return st.High == ledger.Rank{} && st.Order.IsZero()
	}
	return e.isCertificate(high) && high.Statement.Rank() == st.High && high.Statement.Order == st.Order
}

func (e *engine) keepChange(v ledger.Vote, high ledger.Certificate) {
	if !e.proves(high, v.Statement) {
		return
	}
	old := e.changes[v.Signer].vote
	switch {
	case old.Statement.Kind == 0 || old.Statement.View < v.Statement.View:
	case old.Statement.View == v.Statement.View && old.Statement != v.Statement:
		e.accuse(old, v)
		return
	default:
		return
	}
	e.changes[v.Signer].vote, e.changes[v.Signer].high = v, high
	for _, s := range e.slots {
		if c := s.commits[v.Signer]; c.Statement.Kind != 0 {
			e.accuseLiar(c, v)
		}
	}
	e.join()
	e.open()
}

// accuseLiar reports a member that signed a commit vote, which means that it holds a certificate of that rank,
// and later a view change that claims less.
func (e *engine) accuseLiar(commit, change ledger.Vote) {
	if commit.Statement.View < change.Statement.View && change.Statement.High.Compare(commit.Statement.Rank()) < 0 {
		e.accuse(change, commit)
	}
}

// join follows f+1 members into a higher view: the highest that f+1 of them reached or passed, so that at least
// one honest member is there.
func (e *engine) join() {
	if !e.voter() {
		return
	}
	var higher []uint64
	for _, c := range e.changes {
		if st := c.vote.Statement; st.Kind != 0 && st.View > e.View {
			higher = append(higher, st.View)
		}
	}
	slices.Sort(higher)
	if len(higher) > e.faulty {
		e.startChange(higher[len(higher)-1-e.faulty], "join")
	}
}

// letBack changes the view for a single member that needs a higher one to vote again, after a long wait. Such a
// member left the view alone, for example because only its own connection to the leader broke; without it the group
// survives one failure less. A change that nobody resists takes three steps and no timeout. The wait doubles each time
// that a member is let back, so that a liar cannot keep the group busy; and the view must be one that an honest member
// can have reached: it goes at most 1+f views beyond one in which a quorum was, for the progress timer of a view change
// needs a quorum.
func (e *engine) letBack() {
	for i := range e.changes {
		c := &e.changes[i]
		view := c.vote.Statement.View
		if c.vote.Statement.Kind == 0 || view <= e.View || view > e.View+1+uint64(e.faulty) || e.changing() || !e.voter() {
			c.waited = 0
			continue
		}
		c.waited++
		if c.waited >= patience<<min(c.granted, maxPatience) {
			c.waited = 0
			c.granted++
			e.startChange(view, "let a member back")
			return
		}
	}
}

// open lets the leader of a view begin it with the view changes of a quorum.
func (e *engine) open() {
	if !e.voter() || !e.changing() || e.leader(e.View) != e.self || e.changes[e.self].vote.Statement != e.Change {
		return
	}
	n := ledger.NewView{Epoch: e.epoch.Number, View: e.View}
	for _, c := range e.changes {
		if c.vote.Statement.Kind == 0 || c.vote.Statement.View != e.View || len(n.Votes) == e.quorum {
			continue
		}
		n.Votes = append(n.Votes, c.vote)
		if c.high.Statement.Rank().Compare(n.High.Statement.Rank()) > 0 {
			n.High = c.high
		}
	}
	if len(n.Votes) < e.quorum {
		return
	}
	e.enter(e.View, &n)
	for _, v := range n.Votes { // who has blocks as final votes no more for them, so the others need their certificates
		if finals := e.finals(v.Statement.Height); int(v.Signer) != e.self && len(finals) > 0 && e.mayReply(v.Signer) {
			e.send(v.Signer, consensus.Message{Kind: kindCertificate, Certificates: finals})
		}
	}
	if e.High.IsZero() { // there is no tip to propose again: the new-view goes alone
		e.emit(consensus.Send{To: -1, Message: consensus.Message{Kind: kindNewView, NewView: &n}})
	}
}

// isNewView checks of a new-view what the host does not: that its votes are a quorum's view changes to that view,
// and that its certificate is the highest that they claim.
func (e *engine) isNewView(n *ledger.NewView) bool {
	if n.Epoch != e.epoch.Number || n.View == 0 || n.View > maxView || len(n.Votes) != e.quorum {
		return false
	}
	var top ledger.Statement
	for i, v := range n.Votes {
		if !e.isChange(v) || v.Statement.View != n.View || i > 0 && v.Signer <= n.Votes[i-1].Signer {
			return false
		}
		if v.Statement.High.Compare(top.High) > 0 {
			top = v.Statement
		}
	}
	return e.proves(n.High, top)
}

func (e *engine) onNewView(n *ledger.NewView) (rule string) {
	if !e.isNewView(n) {
		return ruleNewView
	}
	if !n.High.IsZero() {
		e.observe(n.High, uint32(e.leader(n.View)))
	}
	e.enter(n.View, n)
	return ""
}

// Lengths of the timers, in milliseconds, from the parameters of the epoch.

func (e *engine) baseTime() int64  { return max(e.epoch.Params.ViewTimeout, 10) }
func (e *engine) tickTime() int64  { return max(e.baseTime()/4, 1) }
func (e *engine) fastTime() int64  { return max(e.baseTime()*3/20, 1) }
func (e *engine) aliveTime() int64 { return 3 * max(e.epoch.Params.HeartbeatTime, 1) }
func (e *engine) oldAge() int64    { return 5 * e.baseTime() }

// progressTime doubles with each view change. A new leader needs one message to begin the view that a quorum waits for, and
// has half the time that it gets for a block. It is short when that leader seems to be gone.
func (e *engine) progressTime() int64 {
	switch {
	case !e.changing():
		return e.baseTime() << min(e.backoff, maxBackoff)
	case !e.up[e.leader(e.View)]:
		return e.fastTime()
	default:
		return e.baseTime() << min(max(e.backoff-1, 0), maxBackoff)
	}
}

func (e *engine) set(t consensus.Timer, milli int64) {
	e.emit(consensus.SetTimer{Timer: t, Milli: max(milli, 1)})
}

// startTimers sets the timers of a view that was entered. The leader has at least grace ms to show itself.
func (e *engine) startTimers(grace int64) {
	if e.self < 0 {
		return
	}
	if e.leading() {
		e.set(timerBeat, e.epoch.Params.HeartbeatTime)
	} else {
		e.set(timerAlive, max(e.aliveTime(), grace))
		e.set(timerCensor, e.oldAge())
	}
}

// stopTimers clears the timers of a view that ends.
func (e *engine) stopTimers() {
	for _, t := range []consensus.Timer{timerProgress, timerAlive, timerBeat, timerBatch, timerCensor} {
		e.emit(consensus.ClearTimer{Timer: t})
	}
	e.progressOn, e.censorArmed, e.batch = false, false, batchIdle
}

func (e *engine) restartProgress() {
	if e.progressOn {
		e.progressOn = false
		e.emit(consensus.ClearTimer{Timer: timerProgress})
	}
}

// retime runs the progress timer while there is something to wait for.
func (e *engine) retime() {
	want := e.voter() && e.waits()
	switch {
	case want && !e.progressOn:
		e.progressOn = true
		e.set(timerProgress, e.progressTime())
	case !want && e.progressOn:
		e.restartProgress()
	}
}

// waits reports whether progress is due. In a view change it is once a quorum is there: a member that is alone
// must not run ahead of the others.
func (e *engine) waits() bool {
	if e.changing() {
		there := 0
		for _, c := range e.changes {
			if c.vote.Statement.Kind != 0 && c.vote.Statement.View >= e.View {
				there++
			}
		}
		return there >= e.quorum
	}
	return e.unsettled() || e.pending > 0
}

// unsettled reports whether an order is under way, or the view has still to show that it works.
func (e *engine) unsettled() bool {
	height := e.head.Order.Height
	return e.High.Statement.Height > height || e.reproposes() ||
		len(e.proposals) > 0 && e.proposals[len(e.proposals)-1].order.Height > height
}

func (e *engine) onExpired(t consensus.Timer) {
	switch t {
	case timerProgress:
		if e.progressOn {
			e.progressOn = false
			e.startChange(e.nextView(), "no progress")
		}
	case timerAlive:
		if e.self >= 0 && !e.changing() && !e.leading() {
			e.startChange(e.nextView(), "leader silent")
		}
	case timerBeat:
		e.beat()
	case timerTick:
		e.tick()
	case timerBatch:
		if e.batch == batchWaiting {
			e.batch = batchOpen
		}
	case timerCensor:
		e.censorArmed = !e.changing()
	}
}

// checkCensorship leaves a leader whose block holds what is much younger than a transaction that still waits, though it
// has led for long enough to have got that one. An honest leader takes the oldest first, as they come to it: when it has
// more to do than it can, all wait, and none is overtaken by much.
func (e *engine) checkCensorship(s consensus.Stored) {
	if e.censorArmed && s.Epoch == nil && s.Overtaken > e.oldAge() && !e.changing() && !e.leading() && int64(s.Head.Order.Proposer) == int64(e.leader(e.View)) {
		e.censorArmed = false
		e.startChange(e.nextView(), "transaction overtaken")
	}
}

// onPeer shortens the wait for a leader whose connection broke, once in a view and not to zero: connections
// break for a moment when a network is busy.
func (e *engine) onPeer(p consensus.Peer) {
	if int64(p.Member) >= int64(e.n) {
		return
	}
	e.up[p.Member] = p.Up
	if p.Up || e.fast || e.self < 0 || int(p.Member) != e.leader(e.View) || e.leading() {
		return
	}
	switch {
	case !e.changing():
		e.fast = true
		e.set(timerAlive, min(e.fastTime(), e.aliveTime()))
	case e.progressOn:
		e.fast = true
		e.set(timerProgress, e.progressTime())
	}
}

// beat shows that the leader is there when it has nothing to propose.
func (e *engine) beat() {
	if !e.voter() || !e.leading() {
		return
	}
	e.seq++
	st := e.statement(ledger.Heartbeat, e.head.Order.Height, e.headOrder)
	st.Block, st.Seq = e.head.Block, e.seq
	e.sign(st, &consensus.Message{Kind: kindHeartbeat})
	e.set(timerBeat, e.epoch.Params.HeartbeatTime)
}

func (e *engine) onHeartbeat(from uint32, m consensus.Message) (rule string) {
	if len(m.Votes) != 1 {
		return ruleHeartbeat
	}
	v := m.Votes[0]
	st := v.Statement
	if st.Kind != ledger.Heartbeat || v.Signer != from || st.View > maxView || int(from) != e.leader(st.View) && st.Epoch == e.epoch.Number {
		return ruleHeartbeat
	}
	e.claim(from, st.Height)
	switch {
	case st.Epoch != e.epoch.Number:
	case st.View == e.View && !e.changing() && int(from) == e.leader(st.View):
		e.heard(from)
	case st.View > e.View || st.View == e.View && e.changing():
		e.sendStatus(from) // it answers with what proves its view
	}
	return ""
}

// heard notes a sign of life of the leader.
func (e *engine) heard(from uint32) {
	if e.self >= 0 && int(from) == e.leader(e.View) && !e.leading() && !e.changing() {
		e.set(timerAlive, e.aliveTime())
	}
}
