package sim

import (
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on a liar: what it may add to a schedule, and what it remembers.
const (
	lieBudget   = 600 // messages that it adds or spoils
	lieMemory   = 48  // of each thing that it heard or said
	liePause    = 30 * milli
	maxLieSize  = 300 << 10
	farFuture   = 100_000 // ms: more than clocks may differ, less than transactions last
	longAgo     = 50_000  // ms: more than clocks may differ, less than genesis is old
	otherHeight = 3       // how far ahead lies about heights go
)

// The kinds of messages between the engines of consensus/pbft, as they are on the wire.
const (
	kindProposal    = 1
	kindVote        = 2
	kindViewChange  = 3
	kindNewView     = 4
	kindHeartbeat   = 5
	kindCertificate = 6
	kindStatus      = 7
)

// packet is a consensus message on the wire, as node/group sends it.
type packet struct {
	_       struct{} `cbor:",toarray"`
	Message consensus.Message
	Leaves  []keys.Digest
}

// status is the body of a status message on the wire.
type status struct {
	_        struct{} `cbor:",toarray"`
	Epoch    uint64
	View     uint64
	Changing bool
	Height   ledger.Height
	High     ledger.Rank
}

// liar is a member that does not keep the rules. Its host runs an honest node, so that it follows the group; but what
// the node sends passes through a strategy, which drops, changes or holds it and adds messages of its own, all of them
// as bytes on the wire and signed with the member's key. It goes on after the faults have ended, as a member that lies
// would, until its budget is used up.
type liar struct {
	*host
	*strategy
	number int // of the strategy
	budget int

	proposals    []packet             // newest last, its own and others'
	own          []ledger.Vote        // what its node signed
	votes        []ledger.Vote        // what others signed
	changes      []ledger.Vote        // view changes of all
	certificates []ledger.Certificate // that it heard of
	raw          [][]byte             // messages as they came
	forged       map[keys.Digest][]byte
	others       map[keys.Digest]keys.Digest // second orders, by first
}

// strategy is one way to lie. The functions may be nil.
type strategy struct {
	name  string
	does  string
	rules []string // those by which honest nodes refuse it
	// sends returns what to send in the place of a consensus message of its node.
	sends func(l *liar, to *host, m *packet) []*packet
	// serves returns the reply in the place of its node's.
	serves func(l *liar, p group.Protocol, request, reply []byte, err error) ([]byte, error)
	// acts runs every now and then while the host is up.
	acts func(l *liar)
	// hides reports whether a host does not get the transactions that clients sent here.
	hides func(l *liar, to *host) bool
}

// lie makes a host lie by the strategy with a number.
func (w *world) lie(h *host, number int) {
	l := &liar{
		host: h, strategy: strategies()[number], number: number, budget: lieBudget,
		forged: map[keys.Digest][]byte{}, others: map[keys.Digest]keys.Digest{},
	}
	h.liar = l
	w.liars = append(w.liars, l)
	if l.acts != nil {
		w.after(w.upTo(liePause), l.act)
	}
}

func (l *liar) act() {
	if l.budget <= 0 {
		return
	}
	if l.up && !l.dead && l.busy <= l.world.now {
		l.acts(l)
	}
	l.world.after(1+l.world.upTo(liePause), l.act)
}

// attack counts a message that breaks the rules.
func (l *liar) attack() {
	l.budget--
	l.world.report.Attacks[l.number]++
}

func remember[T any](memory *[]T, v T) {
	if len(*memory) >= lieMemory {
		*memory = slices.Delete(*memory, 0, 1)
	}
	*memory = append(*memory, v)
}

// hear lets the liar learn from what comes to its host.
func (l *liar) hear(p group.Protocol, data []byte) {
	var m packet
	if p != group.Consensus || ledger.Unmarshal(data, &m) != nil {
		return
	}
	remember(&l.raw, data)
	for _, v := range m.Message.Votes {
		switch v.Statement.Kind {
		case ledger.Prepare, ledger.Commit:
			remember(&l.votes, v)
		case ledger.ViewChange:
			remember(&l.changes, v)
		default:
		}
	}
	for _, c := range m.Message.Certificates {
		remember(&l.certificates, c)
	}
	if m.Message.Kind == kindProposal && m.Message.Order != nil {
		remember(&l.proposals, m)
	}
}

// send sends what its node wants to send, or what the strategy makes of it.
func (l *liar) send(to *host, p group.Protocol, data []byte) {
	w := l.world
	if p == group.Transactions && l.hides != nil && l.hides(l, to) {
		l.attack()
		return
	}
	var m packet
	if p != group.Consensus || ledger.Unmarshal(data, &m) != nil {
		w.transmit(l.host, to, l.id, p, data)
		return
	}
	for _, v := range m.Message.Votes {
		if int(v.Signer) == l.seat() && (len(l.own) == 0 || l.own[len(l.own)-1].Statement != v.Statement) {
			remember(&l.own, v)
		}
	}
	if l.sends == nil || l.budget <= 0 {
		w.transmit(l.host, to, l.id, p, data)
		return
	}
	for _, out := range l.sends(l, to, &m) {
		l.put(to, out)
	}
}

// put sends a message to one host.
func (l *liar) put(to *host, m *packet) {
	data, err := ledger.Marshal(m)
	if err != nil {
		l.world.fail("%s encodes a lie: %v", l.host, err)
		return
	}
	l.world.transmit(l.host, to, l.id, group.Consensus, data)
}

// say sends a message that breaks the rules to all others.
func (l *liar) say(m consensus.Message) {
	for _, to := range l.targets() {
		l.attack()
		l.put(to, &packet{Message: m})
	}
}

// shout is say for bytes of any kind.
func (l *liar) shout(p group.Protocol, data []byte) {
	for _, to := range l.targets() {
		l.attack()
		l.world.transmit(l.host, to, l.id, p, data)
	}
}

func (l *liar) targets() []*host {
	return slices.DeleteFunc(slices.Clone(l.world.hosts), func(h *host) bool { return h.member == l.member })
}

func (l *liar) serve(from *host, p group.Protocol, request, reply []byte, err error) ([]byte, error) {
	if l.serves == nil || l.budget <= 0 || from.member == l.member {
		return reply, err
	}
	return l.serves(l, p, request, reply, err)
}

// sign signs anything.
func (l *liar) sign(st ledger.Statement) ledger.Vote {
	return l.signFor(st, l.world.chain, l.world.config.Group)
}

func (l *liar) signFor(st ledger.Statement, chain keys.Digest, g ledger.GroupID) ledger.Vote {
	signature, err := l.key.Sign(st.Digest(l.world.suite, chain, g))
	if err != nil {
		l.world.fail("%s signs a lie: %v", l.host, err)
	}
	if chain == l.world.chain && g == l.world.config.Group {
		l.world.oracle.voted(st, l.member)
	}
	return ledger.Vote{Signer: uint32(l.seat()), Statement: st, Signature: signature}
}

// state is where its node is. A node that sends while it starts for the first time is nowhere yet.
func (l *liar) state() consensus.Status {
	if l.group == nil {
		return consensus.Status{Leader: -1}
	}
	return l.group.Status().Consensus
}

// epoch is the one that its node is in.
func (l *liar) epoch() uint64 {
	if l.group == nil {
		return 0
	}
	return l.group.Status().Epoch.Number
}

// seat is its number among the members, and when it is none any more, the one that it had.
func (l *liar) seat() int {
	epochs := l.world.oracle.members
	for e := min(int(l.epoch()), len(epochs)-1); e >= 0; e-- {
		if i := slices.Index(epochs[e], uint32(l.member)); i >= 0 {
			return i
		}
	}
	return l.member
}

func (l *liar) leads() bool {
	s := l.state()
	return !s.Changing && int(s.Leader) == l.seat()
}

// proposed reports whether a message is a proposal of a new block by its node.
func (l *liar) proposed(m *packet) bool {
	p := &m.Message
	if p.Kind != kindProposal || p.Order == nil || len(p.Votes) != 1 || int(p.Votes[0].Signer) != l.seat() {
		return false
	}
	return len(p.Certificates) == 0 || p.Certificates[0].Statement.Order != p.Votes[0].Statement.Order
}

// propose returns a proposal with another order, signed.
func (l *liar) propose(m *packet, change func(o *ledger.Order)) *packet {
	other := *m
	order := *m.Message.Order
	change(&order)
	st := m.Message.Votes[0].Statement
	st.Height, st.Order = order.Height, order.Hash(l.world.suite)
	other.Message.Order = &order
	other.Message.Votes = []ledger.Vote{l.sign(st)}
	return &other
}

// spoil returns a sends that changes the order of new proposals.
func spoil(change func(l *liar, o *ledger.Order)) func(l *liar, to *host, m *packet) []*packet {
	return func(l *liar, _ *host, m *packet) []*packet {
		if !l.proposed(m) {
			return []*packet{m}
		}
		l.attack()
		return []*packet{l.propose(m, func(o *ledger.Order) { change(l, o) })}
	}
}

// change returns a view change to a view, which claims nothing.
func (l *liar) change(view uint64) ledger.Vote {
	head := l.store.Head()
	return l.sign(ledger.Statement{Kind: ledger.ViewChange, Epoch: l.epoch(), View: view, Height: head.Height(), Block: head.Hash()})
}

// payload makes a list of transactions that of an order. The bodies are at the liar alone.
func (l *liar) payload(m *packet, raws [][]byte) *packet {
	suite := l.world.suite
	var leaves []keys.Digest
	var size uint64
	var gas ledger.Gas
	barrier := false
	for _, raw := range raws {
		leaf := keys.Hash(suite, "signed-tx", raw)
		leaves = append(leaves, leaf)
		l.forged[leaf] = raw
		size += uint64(len(raw))
		if tx, err := ledger.DecodeTx(suite, raw); err == nil {
			gas += tx.GasLimit
			barrier = barrier || tx.Method == methodEpoch
		}
	}
	other := l.propose(m, func(o *ledger.Order) {
		o.TxRoot, o.TxCount, o.TxBytes, o.GasLimit, o.Barrier = ledger.Root(suite, leaves), uint32(len(raws)), size, gas, barrier
	})
	other.Leaves = leaves
	return other
}

// bodies returns the transactions of a proposal as far as its node has them.
func (l *liar) bodies(m *packet) [][]byte {
	if l.group == nil {
		return nil
	}
	found, missing := l.group.Pool().Find(m.Leaves)
	if missing > 0 {
		return nil
	}
	raws := make([][]byte, 0, len(found))
	for _, tx := range found {
		raws = append(raws, tx.Raw)
	}
	return raws
}

// serveForged answers requests for bodies that the liar made up.
func serveForged(l *liar, p group.Protocol, request, reply []byte, err error) ([]byte, error) {
	var leaves []keys.Digest
	if p != group.Bodies || ledger.Unmarshal(request, &leaves) != nil {
		return reply, err
	}
	var raws [][]byte
	for _, leaf := range leaves {
		if raw := l.forged[leaf]; raw != nil {
			raws = append(raws, raw)
		}
	}
	if len(raws) == 0 {
		return reply, err
	}
	l.attack()
	return ledger.Marshal(raws)
}
