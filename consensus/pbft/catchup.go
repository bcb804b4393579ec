package pbft

import (
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// statusBody is the body of a status message: where its sender is.
type statusBody struct {
	_        struct{} `cbor:",toarray"`
	Epoch    uint64
	View     uint64
	Changing bool
	Height   ledger.Height
	High     ledger.Rank
}

func (e *engine) status() statusBody {
	return statusBody{
		Epoch: e.epoch.Number, View: e.View, Changing: e.changing(),
		Height: e.head.Order.Height, High: e.High.Statement.Rank(),
	}
}

// tick repeats what may have been lost: it tells the leader and two other members where this node is, and they
// answer with what it lacks; it sends its view change again; and it asks for blocks that are final elsewhere.
func (e *engine) tick() {
	e.set(timerTick, e.tickTime())
	e.ticks++
	clear(e.replies)
	e.fetched, e.synced = nil, false
	e.seekBlocks()
	e.tickHead = e.head.Order.Height
	if e.self < 0 {
		return
	}
	e.letBack()
	if e.changing() {
		if v := e.changes[e.self].vote; v.Statement == e.Change {
			e.emit(consensus.Send{To: -1, Message: consensus.Message{
				Kind: kindViewChange, Votes: []ledger.Vote{v}, Certificates: e.claimed(),
			}})
		}
	}
	if e.changing() || e.unsettled() || e.pending > 0 || e.ticks%quietTicks == 0 {
		asked := []int{e.self}
		first := e.leader(e.View)
		for i := 0; i <= e.n && len(asked) < 4; i++ {
			to := first
			if i > 0 {
				to = int((e.ticks + uint64(i)) % uint64(e.n))
			}
			if !slices.Contains(asked, to) {
				asked = append(asked, to)
				e.sendStatus(uint32(to))
			}
		}
	}
}

func (e *engine) sendStatus(to uint32) {
	if e.self < 0 || !e.mayReply(to) {
		return
	}
	st := e.status()
	body, err := ledger.Marshal(&st)
	if err != nil {
		return
	}
	e.send(to, consensus.Message{Kind: kindStatus, Body: body})
}

// mayReply limits what one member can make this node send between two ticks.
func (e *engine) mayReply(to uint32) bool {
	if e.replies[to] >= maxReplies {
		return false
	}
	e.replies[to]++
	return true
}

func (e *engine) onStatus(from uint32, body []byte) (rule string) {
	var st statusBody
	if ledger.Unmarshal(body, &st) != nil || st.View > maxView || st.Height > maxHeight {
		return ruleStatus
	}
	e.claim(from, st.Height)
	if st.Epoch > e.epoch.Number {
		return ""
	}
	if st.Epoch < e.epoch.Number {
		e.sendStatus(from)
	}
	if !e.help(from, st) {
		return ruleAnswers
	}
	return ""
}

// help sends a member what it lacks, judged by its status. Answers go to it alone and are limited: broadcast
// answers to repeated view changes would grow with the cube of the number of members. It reports whether the
// limit left room for all of the answer.
func (e *engine) help(to uint32, st statusBody) (answered bool) {
	answered = true
	if e.self < 0 || int(to) == e.self || st.Epoch != e.epoch.Number {
		return answered
	}
	reply := func(m consensus.Message) {
		if e.mayReply(to) {
			e.send(to, m)
		} else {
			answered = false
		}
	}
	certificates := e.finals(st.Height)
	behind := !e.changing() && (st.View < e.View || st.View == e.View && st.Changing)
	proved := e.High.Statement.View == e.View && !e.High.IsZero()
	if !e.High.IsZero() && e.High.Statement.Rank().Compare(st.High) > 0 || behind && proved {
		same := func(c ledger.Certificate) bool { return c.Statement == e.High.Statement }
		if !slices.ContainsFunc(certificates, same) {
			certificates = append(certificates, e.High)
		}
	}
	if len(certificates) > 0 {
		reply(consensus.Message{Kind: kindCertificate, Certificates: certificates})
	}
	if behind && !proved && e.Opening != nil {
		reply(consensus.Message{Kind: kindNewView, NewView: e.Opening})
	}
	if e.changing() || st.View > e.View {
		return answered
	}
	if e.leading() {
		for _, p := range e.proposals {
			if (ledger.Rank{View: e.View, Height: p.order.Height}).Compare(st.High) > 0 {
				reply(p.message)
			}
		}
	}
	var votes []ledger.Vote
	for _, s := range e.slots {
		if s.rank.View != e.View {
			continue
		}
		// A certificate stands for prepare votes below it, but each block needs commit votes of its own.
		if v := s.prepares[e.self]; v.Statement.Kind != 0 && s.rank.Compare(st.High) > 0 {
			votes = append(votes, v)
		}
		if v := s.commits[e.self]; v.Statement.Kind != 0 && s.rank.Height > st.Height {
			votes = append(votes, v)
		}
	}
	if len(votes) > 0 {
		reply(consensus.Message{Kind: kindVote, Votes: votes})
	}
	return answered
}

// finals returns Commit certificates for a member whose head is at height: those of the next blocks, or that of the
// head when it has to fetch blocks. They leave room for one more in a message.
func (e *engine) finals(height ledger.Height) (certificates []ledger.Certificate) {
	if height+e.window < e.head.Order.Height {
		if c := e.head.Certificate; !c.IsZero() && c.Statement.Epoch == e.epoch.Number {
			certificates = append(certificates, c)
		}
		return certificates
	}
	for _, c := range e.decided {
		if c.Statement.Height > height && len(certificates) < consensus.MaxMessageCertificates-1 {
			certificates = append(certificates, c)
		}
	}
	return certificates
}

// claim notes which height a member says it has.
func (e *engine) claim(member uint32, height ledger.Height) {
	if int64(member) < int64(e.n) && int(member) != e.self && height <= maxHeight {
		e.claims[member] = height
	}
}

// seekBlocks asks for blocks that are final elsewhere: at once when they are too far ahead for votes to bring
// them, and otherwise when the head has not moved since the last tick. The members that claim to have them are
// asked in turn, so that one that lies does not stand in the way.
func (e *engine) seekBlocks() {
	height := e.head.Order.Height
	stuck := e.tickHead == height && e.ticks > 1 && e.final.height == height // else the host is storing
	for _, c := range e.decided {
		if b := e.find(c.Statement.Order); c.Statement.Height == height+1 && b != nil && b.valid && !b.lacksNewView() {
			stuck = false // it is being executed
		}
	}
	for i := range e.n {
		m := int((e.ticks + uint64(i)) % uint64(e.n))
		if e.claims[m] > height && (stuck || e.claims[m] > height+e.window) {
			e.synced = true
			e.emit(consensus.NeedSync{Height: e.claims[m], From: uint32(m)})
			return
		}
	}
}

// fetchMissing asks for orders that certificates and proposals speak of and this node does not know.
func (e *engine) fetchMissing() {
	height := e.head.Order.Height
	want := func(hash keys.Digest, at ledger.Height, from uint32) {
		if at <= height || at > e.reach() || slices.Contains(e.fetched, hash) || int(from) == e.self {
			return
		}
		e.fetched = append(e.fetched, hash)
		e.send(from, consensus.Message{Kind: kindFetch, Body: hash[:]})
	}
	certified := func(c ledger.Certificate) {
		if c.Statement.Height > height && e.find(c.Statement.Order) == nil {
			want(c.Statement.Order, c.Statement.Height, e.signerOf(c))
		}
	}
	for _, c := range e.decided {
		certified(c)
	}
	certified(e.High)
	for _, b := range e.blocks {
		if _, known := e.orderOf(b.order.Parent); !known {
			want(b.order.Parent, b.order.Height-1, e.other(b.from))
		}
		if b.lacksNewView() {
			want(b.hash, b.order.Height, e.other(b.from))
		}
	}
}

// signerOf returns a member that signed a certificate, another one after each tick.
func (e *engine) signerOf(c ledger.Certificate) uint32 {
	members := slices.DeleteFunc(c.Members(), func(m uint32) bool { return int(m) == e.self || int64(m) >= int64(e.n) })
	if len(members) == 0 {
		return uint32(max(e.self, 0))
	}
	return members[e.ticks%uint64(len(members))]
}

// other returns first, or after some ticks another member.
func (e *engine) other(first uint32) uint32 {
	return uint32((uint64(first) + e.ticks) % uint64(e.n))
}

func (e *engine) onFetch(from uint32, body []byte) (rule string) {
	switch {
	case e.self < 0:
		return ""
	case len(body) != keys.DigestSize:
		return ruleStatus
	case !e.mayReply(from):
		return ruleAnswers
	}
	if b := e.find(keys.Digest(body)); b != nil {
		e.send(from, consensus.Message{Kind: kindOrder, Order: &b.order, NewView: b.newView})
	}
	return ""
}

// onOrder takes an order that this node asked for.
func (e *engine) onOrder(from uint32, m consensus.Message) {
	if m.Order == nil || !e.plausible(m.Order) || m.NewView != nil && !e.isNewView(m.NewView) {
		return
	}
	hash := m.Order.Hash(e.suite)
	if !slices.Contains(e.fetched, hash) || m.Order.Height <= e.head.Order.Height {
		return
	}
	b := e.add(*m.Order, hash, m.NewView, from)
	for _, c := range e.decided {
		b.seen = b.seen || c.Statement.Order == hash
	}
	b.seen = b.seen || e.High.Statement.Order == hash
}
