package sim

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxStrategies bounds the strategies, for the counts in a Report.
const maxStrategies = 48

var errLie = errors.New("sim: not telling")

// Strategy describes a way in which members lie.
type Strategy struct {
	Name  string   `json:"name"`
	Does  string   `json:"does"`
	Rules []string `json:"rules"` // by which honest nodes refuse it
}

// Strategies lists the ways in which members lie, in a fixed order.
func Strategies() []Strategy {
	var all []Strategy
	for _, s := range strategies() {
		all = append(all, Strategy{s.name, s.does, s.rules})
	}
	return all
}

// The rules of consensus/pbft by which the strategies are refused.
const (
	ruleKind      = "unknown kind"
	ruleLeader    = "proposal by no leader"
	ruleParent    = "proposal out of order"
	ruleNewView   = "new view"
	ruleVote      = "malformed vote"
	ruleStale     = "stale vote"
	ruleAhead     = "vote too far ahead"
	ruleResult    = "another result"
	ruleChange    = "malformed view change"
	ruleStaleView = "stale view change"
	ruleHeartbeat = "heartbeat of no leader"
	ruleStatus    = "malformed status"
	ruleAnswers   = "too many questions"
	ruleProgress  = "view-change: no progress"
	ruleSilent    = "view-change: leader silent"
	ruleCensor    = "view-change: transaction overtaken"
)

func strategies() []*strategy {
	return append(append(leaderLies(), voterLies()...), peerLies()...)
}

// leaderLies are those of a member that leads. The first members lie, so they lead the first views.
func leaderLies() []*strategy {
	return []*strategy{
		{
			name: "equivocating-leader", does: "proposes two orders in one place, one to some members and the other to others, and votes for both",
			rules: []string{group.RuleConflict}, sends: equivocate,
		},
		{
			name: "withheld-payload", does: "proposes transactions that only it has, and sends them to nobody",
			rules: []string{group.RuleWithheld, ruleProgress}, sends: stripLeaves, serves: tellNothing, hides: func(*liar, *host) bool { return true },
		},
		{
			name: "withheld-from-most", does: "proposes transactions that only it and f+1 others have",
			rules: []string{group.RuleWithheld}, sends: stripLeaves, serves: tellNothing, hides: func(l *liar, to *host) bool {
				n := len(l.world.config.Members)
				return (to.member-l.member+n)%n > ledger.Faulty(n)+1
			},
		},
		{
			name: "corrupted-leaves", does: "proposes orders with leaves that are not those of their root",
			rules: []string{group.RuleLeaves},
			sends: func(l *liar, _ *host, m *packet) []*packet {
				if m.Message.Kind != kindProposal || len(m.Leaves) == 0 {
					return []*packet{m}
				}
				l.attack()
				m.Leaves[0][0] ^= 1
				return []*packet{m}
			},
		},
		{
			name: "forged-transaction", does: "proposes a client's transaction with another signature",
			rules: []string{group.RuleTransaction}, serves: serveForged,
			sends: func(l *liar, _ *host, m *packet) []*packet {
				raws := l.bodies(m)
				if !l.proposed(m) || len(raws) == 0 {
					return []*packet{m}
				}
				raws[0] = slices.Clone(raws[0])
				raws[0][len(raws[0])-1] ^= 1
				l.attack()
				return []*packet{l.payload(m, raws)}
			},
		},
		{
			name: "old-transactions", does: "proposes transactions that are in a block already",
			rules: []string{group.RuleTransactions}, serves: serveForged,
			sends: func(l *liar, _ *host, m *packet) []*packet {
				head := l.store.Head().Height()
				if !l.proposed(m) || head == 0 {
					return []*packet{m}
				}
				b, err := l.store.Block(head)
				if err != nil {
					l.world.fail("%s reads block %d: %v", l.host, head, err)
					return nil
				}
				l.attack()
				return []*packet{l.payload(m, b.Txs)}
			},
		},
		{
			name: "oversized-payload", does: "proposes more transactions than a block may have",
			rules: []string{group.RuleLimits}, sends: func(l *liar, to *host, m *packet) []*packet {
				out := spoil(func(_ *liar, o *ledger.Order) { o.TxCount, o.TxBytes = 1<<20, 1<<40 })(l, to, m)
				if l.proposed(m) {
					out[0].Leaves = nil
				}
				return out
			},
		},
		{
			name: "wrong-totals", does: "proposes orders that claim more gas than their transactions may use",
			rules: []string{group.RuleTransactions}, sends: spoil(func(_ *liar, o *ledger.Order) { o.GasLimit++ }),
		},
		{
			name: "future-time", does: "proposes blocks of minutes ahead",
			rules: []string{group.RuleTime}, sends: spoil(func(_ *liar, o *ledger.Order) { o.UnixMilli += farFuture }),
		},
		{
			name: "past-time", does: "proposes blocks of long ago",
			rules: []string{group.RuleTime, ruleParent}, sends: spoil(func(_ *liar, o *ledger.Order) { o.UnixMilli -= longAgo }),
		},
		{
			name: "out-of-order", does: "proposes blocks that do not follow what they are justified by",
			rules: []string{ruleParent}, sends: spoil(func(_ *liar, o *ledger.Order) { o.Height += otherHeight }),
		},
		{
			name: "silent-leader", does: "says nothing while it leads",
			rules: []string{ruleSilent, ruleProgress, "view-change: join"}, sends: func(l *liar, _ *host, m *packet) []*packet {
				if !l.leads() {
					return []*packet{m}
				}
				l.attack()
				return nil
			},
		},
		{
			name: "idle-leader", does: "sends heartbeats and proposes nothing",
			rules: []string{ruleProgress, "view-change: join"}, sends: func(l *liar, _ *host, m *packet) []*packet {
				if m.Message.Kind != kindProposal {
					return []*packet{m}
				}
				l.attack()
				return nil
			},
		},
		{
			name: "slow-leader", does: "holds each proposal back for about as long as the others wait",
			rules: []string{ruleProgress, ruleCensor, "view-change: join"}, sends: func(l *liar, to *host, m *packet) []*packet {
				if m.Message.Kind != kindProposal {
					return []*packet{m}
				}
				l.attack()
				l.world.after(l.world.config.Params.ViewTimeout*milli*9/10+l.world.upTo(100*milli), func() { l.put(to, m) })
				return nil
			},
		},
		{
			name: "censoring-leader", does: "leaves every other transaction out of its blocks",
			rules: []string{ruleCensor, ruleProgress, "view-change: join"}, sends: censor,
		},
		{
			name: "endless-epochs", does: "ends the epoch with each block, so that it leads again in view 0 of the next",
			rules: []string{group.RuleBarrier}, serves: serveForged, sends: endEpoch,
		},
		{
			name: "bad-new-view", does: "opens views with certificates below the highest claimed, and with one vote many times",
			rules: []string{ruleNewView}, sends: lowerNewView, acts: func(l *liar) {
				n := uint64(len(l.world.config.Members))
				view := l.state().View + 1
				for view%n != uint64(l.seat()) {
					view++
				}
				nv := &ledger.NewView{View: view, Votes: slices.Repeat([]ledger.Vote{l.change(view)}, ledger.Quorum(int(n)))}
				l.say(consensus.Message{Kind: kindNewView, NewView: nv})
			},
		},
	}
}

func equivocate(l *liar, to *host, m *packet) []*packet {
	if m.Message.Kind == kindVote && len(m.Message.Votes) == 1 && m.Message.Votes[0].Statement.Kind == ledger.Prepare {
		if other, ok := l.others[m.Message.Votes[0].Statement.Order]; ok {
			st := m.Message.Votes[0].Statement
			st.Order = other
			l.attack()
			return []*packet{m, {Message: consensus.Message{Kind: kindVote, Votes: []ledger.Vote{l.sign(st)}}}}
		}
	}
	if !l.proposed(m) {
		return []*packet{m}
	}
	l.attack()
	other := l.propose(m, func(o *ledger.Order) { o.Extra = []byte("other") })
	l.others[m.Message.Votes[0].Statement.Order] = other.Message.Votes[0].Statement.Order
	switch (to.member + int(m.Message.Order.Height)) % 3 {
	case 0:
		return []*packet{m}
	case 1:
		return []*packet{other}
	default:
		return []*packet{m, other}
	}
}

func stripLeaves(l *liar, _ *host, m *packet) []*packet {
	if len(m.Leaves) > 0 {
		l.attack()
		m.Leaves = nil
	}
	return []*packet{m}
}

func tellNothing(l *liar, p group.Protocol, _, reply []byte, err error) ([]byte, error) {
	if p == group.Blocks {
		return reply, err
	}
	l.attack()
	return nil, errLie
}

func censor(l *liar, _ *host, m *packet) []*packet {
	if !l.proposed(m) {
		return []*packet{m}
	}
	raws := l.bodies(m)
	kept := slices.DeleteFunc(slices.Clone(raws), func(raw []byte) bool {
		return keys.Hash(l.world.suite, "signed-tx", raw)[0]%2 == 0
	})
	if len(kept) == len(raws) {
		return []*packet{m}
	}
	l.attack()
	if len(kept) == 0 {
		return nil
	}
	return []*packet{l.payload(m, kept)}
}

// endEpoch proposes an activation that changes nothing in the place of other transactions.
func endEpoch(l *liar, _ *host, m *packet) []*packet {
	if !l.proposed(m) {
		return []*packet{m}
	}
	w := l.world
	members, err := stub{w}.epochAt(l.store.Head())
	if err != nil {
		w.fail("%s reads the epoch: %v", l.host, err)
		return nil
	}
	args, err := ledger.Marshal(members.Members)
	if err != nil {
		w.fail("encode the members of an epoch: %v", err)
		return nil
	}
	tx := ledger.Tx{
		Version: ledger.Version, Chain: w.chain, Group: w.config.Group, Sender: ledger.Address{1}, Expiry: m.Message.Order.UnixMilli + 1_000,
		GasLimit: 1, To: ledger.Target{Address: precompiles.GovernanceAddress}, Method: methodEpoch, Args: args,
	}
	signed, err := tx.Sign(w.suite, l.key)
	if err != nil {
		w.fail("%s signs a transaction: %v", l.host, err)
		return nil
	}
	w.oracle.submitted[signed.ID] = &request{id: signed.ID, raw: signed.Raw, short: true} // by a client of the same bank
	l.attack()
	return []*packet{l.payload(m, [][]byte{signed.Raw})}
}

func lowerNewView(l *liar, _ *host, m *packet) []*packet {
	nv := m.Message.NewView
	if nv == nil || nv.High.IsZero() {
		return []*packet{m}
	}
	lower := *nv
	lower.High = ledger.Certificate{}
	for _, c := range l.certificates {
		if c.Statement.Rank().Compare(nv.High.Statement.Rank()) < 0 {
			lower.High = c
		}
	}
	l.attack()
	m.Message.NewView = &lower
	return []*packet{m}
}

// voterLies are those of a member about its votes and certificates.
func voterLies() []*strategy {
	vote := func(l *liar, st ledger.Statement) {
		l.say(consensus.Message{Kind: kindVote, Votes: []ledger.Vote{l.sign(st)}})
	}
	return []*strategy{
		{
			name: "double-votes", does: "votes for a second order wherever it votes",
			rules: []string{group.RuleConflict}, sends: func(l *liar, _ *host, m *packet) []*packet {
				if m.Message.Kind != kindVote || len(m.Message.Votes) != 1 {
					return []*packet{m}
				}
				st := m.Message.Votes[0].Statement
				st.Order[0] ^= 1
				l.attack()
				return []*packet{m, {Message: consensus.Message{Kind: kindVote, Votes: []ledger.Vote{l.sign(st)}}}}
			},
		},
		{
			name: "wrong-result", does: "votes to commit another block hash than execution gives",
			rules: []string{ruleResult}, sends: func(l *liar, _ *host, m *packet) []*packet {
				for i, v := range m.Message.Votes {
					if v.Statement.Kind == ledger.Commit {
						l.attack()
						v.Statement.Block[0] ^= 1
						m.Message.Votes[i] = l.sign(v.Statement)
					}
				}
				return []*packet{m}
			},
		},
		{
			name: "promiscuous", does: "votes for whatever anybody votes for or proposes, in this view and in later ones",
			rules: []string{group.RuleConflict, ruleAhead, ruleStale, ruleResult}, acts: func(l *liar) {
				for _, v := range l.votes[max(0, len(l.votes)-2):] {
					st := v.Statement
					vote(l, st)
					st.View += l.world.rng.Uint64N(6)
					vote(l, st)
				}
				for _, p := range l.proposals[max(0, len(l.proposals)-1):] {
					st := p.Message.Votes[0].Statement
					st.Kind = ledger.Prepare
					vote(l, st)
				}
			},
		},
		{
			name: "stale-votes", does: "sends votes of blocks that are final",
			rules: []string{ruleStale}, acts: func(l *liar) {
				for _, v := range l.own {
					if v.Statement.Kind == ledger.Commit && v.Statement.Height < l.store.Head().Height() {
						l.say(consensus.Message{Kind: kindVote, Votes: []ledger.Vote{v}})
						return
					}
				}
			},
		},
		{
			name: "replay", does: "sends again what others sent, later and as its own",
			rules: []string{ruleStale, ruleStaleView, ruleHeartbeat, ruleAnswers}, acts: func(l *liar) {
				if len(l.raw) > lieMemory/2 {
					l.shout(group.Consensus, l.raw[l.world.rng.IntN(4)])
				}
			},
		},
		{
			name: "other-chain", does: "sends votes signed for another chain or another group",
			rules: []string{group.RuleSignature}, acts: func(l *liar) {
				chain, g := keys.Digest{7}, l.world.config.Group
				if l.world.chance(50) {
					chain, g = l.world.chain, "other"
				}
				for _, v := range l.own[max(0, len(l.own)-1):] {
					l.say(consensus.Message{Kind: kindVote, Votes: []ledger.Vote{l.signFor(v.Statement, chain, g)}})
				}
			},
		},
		{
			name: "other-epoch", does: "sends votes and certificates of an epoch to come",
			rules: []string{group.RuleEpoch}, acts: func(l *liar) {
				for _, v := range l.own[max(0, len(l.own)-1):] {
					st := v.Statement
					st.Epoch++
					vote(l, st)
				}
			},
		},
		{
			name: "duplicate-signers", does: "makes certificates of its own vote alone, counted many times",
			rules: []string{group.RuleCertificate}, acts: func(l *liar) {
				n := len(l.world.config.Members)
				for _, v := range l.own[max(0, len(l.own)-1):] {
					if v.Statement.Kind != ledger.Prepare && v.Statement.Kind != ledger.Commit {
						continue
					}
					one := ledger.NewCertificate([]ledger.Vote{v})
					one.Signatures = slices.Repeat([][]byte{v.Signature}, ledger.Quorum(n))
					many := one
					many.Signers = make([]byte, (ledger.Quorum(n)+7)/8)
					for i := range ledger.Quorum(n) {
						many.Signers[i/8] |= 1 << (i % 8)
					}
					l.say(consensus.Message{Kind: kindCertificate, Certificates: []ledger.Certificate{one}})
					l.say(consensus.Message{Kind: kindCertificate, Certificates: []ledger.Certificate{many}})
				}
			},
		},
		{
			name: "short-certificates", does: "makes certificates of one vote less than a quorum",
			rules: []string{group.RuleCertificate}, acts: func(l *liar) {
				for _, c := range l.certificates[max(0, len(l.certificates)-1):] {
					members := c.Members()
					if len(members) == 0 || len(members) != len(c.Signatures) {
						continue
					}
					var votes []ledger.Vote
					for i, m := range members[:ledger.Quorum(len(l.world.config.Members))-1] {
						votes = append(votes, ledger.Vote{Signer: m, Statement: c.Statement, Signature: c.Signatures[i]})
					}
					l.say(consensus.Message{Kind: kindCertificate, Certificates: []ledger.Certificate{ledger.NewCertificate(votes)}})
				}
			},
		},
		{
			name: "forged-certificates", does: "makes certificates of a block that nobody voted for",
			rules: []string{group.RuleCertificate}, acts: func(l *liar) {
				s := l.state()
				st := ledger.Statement{Kind: ledger.Commit, Epoch: l.epoch(), View: s.View, Height: s.Height + 1, Order: keys.Digest{1}, Block: keys.Digest{2}}
				l.say(consensus.Message{Kind: kindCertificate, Certificates: []ledger.Certificate{ledger.NewCertificate(l.pretend(st))}})
			},
		},
		{
			name: "forged-votes", does: "sends votes and view changes in the names of others",
			rules: []string{group.RuleSignature, group.RuleMember}, acts: func(l *liar) {
				v := l.change(l.state().View + 1)
				v.Signer = uint32(l.world.rng.IntN(len(l.world.config.Members) + 1))
				if int(v.Signer) != l.seat() {
					l.say(consensus.Message{Kind: kindViewChange, Votes: []ledger.Vote{v}})
				}
			},
		},
		{
			name: "signature-flood", does: "sends more signatures than anybody should check",
			rules: []string{group.RuleRate}, acts: func(l *liar) {
				if l.state().Height == 0 || l.budget < lieBudget-10 {
					return // it costs the simulator as much as everybody
				}
				to := l.targets()[l.world.rng.IntN(len(l.targets()))]
				for n := range 5 {
					votes := make([]ledger.Vote, consensus.MaxMessageVotes)
					for i := range votes {
						st := ledger.Statement{Kind: ledger.Prepare, Epoch: l.epoch(), Height: ledger.Height(n*len(votes) + i + 1), Order: keys.Digest{1}}
						votes[i] = l.sign(st)
					}
					l.attack()
					l.put(to, &packet{Message: consensus.Message{Kind: kindVote, Votes: votes}})
				}
			},
		},
		{
			name: "huge-numbers", does: "sends views and heights near the largest number",
			rules: []string{ruleVote, ruleChange, ruleHeartbeat, ruleStatus}, acts: func(l *liar) {
				huge := uint64(math.MaxUint64) - l.world.rng.Uint64N(3)
				st := ledger.Statement{Kind: ledger.Prepare, Epoch: l.epoch(), View: huge, Height: ledger.Height(huge), Order: keys.Digest{1}}
				switch l.world.rng.IntN(4) {
				case 0:
					vote(l, st)
				case 1:
					l.say(consensus.Message{Kind: kindViewChange, Votes: []ledger.Vote{l.change(huge)}})
				case 2:
					st.Kind, st.Order = ledger.Heartbeat, keys.Digest{}
					l.say(consensus.Message{Kind: kindHeartbeat, Votes: []ledger.Vote{l.sign(st)}})
				case 3:
					l.status(status{View: huge, Height: ledger.Height(huge), High: ledger.Rank{View: huge, Height: ledger.Height(huge)}})
				}
			},
		},
		{
			name: "low-claim", does: "leaves views with claims below what it committed to",
			rules: []string{group.RuleConflict}, sends: func(l *liar, _ *host, m *packet) []*packet {
				if m.Message.Kind != kindViewChange || len(m.Message.Certificates) == 0 {
					return []*packet{m}
				}
				l.attack()
				return []*packet{{Message: consensus.Message{Kind: kindViewChange, Votes: []ledger.Vote{l.change(m.Message.Votes[0].Statement.View)}}}}
			}, acts: func(l *liar) {
				if s := l.state(); s.Height > 0 && l.world.chance(20) {
					l.say(consensus.Message{Kind: kindViewChange, Votes: []ledger.Vote{l.change(s.View + 1)}})
				}
			},
		},
		{
			name: "change-spam", does: "changes to many views at once, and to views that are over",
			rules: []string{ruleAnswers, ruleStaleView, ruleChange}, acts: func(l *liar) {
				view := l.state().View
				for i := range uint64(4) {
					l.say(consensus.Message{Kind: kindViewChange, Votes: []ledger.Vote{l.change(view + 1 + i)}})
					l.say(consensus.Message{Kind: kindViewChange, Votes: []ledger.Vote{l.change(view - min(view, i))}})
				}
			},
		},
	}
}

// status sends a status to all.
func (l *liar) status(s status) {
	body, err := ledger.Marshal(&s)
	if err != nil {
		l.world.fail("%s encodes a lie: %v", l.host, err)
		return
	}
	l.say(consensus.Message{Kind: kindStatus, Body: body})
}

// peerLies are those of a member as a peer that is asked and talks.
func peerLies() []*strategy {
	ahead := func(l *liar) {
		l.status(status{View: l.state().View, Height: l.world.oracle.height() + 20})
	}
	return []*strategy{
		{
			name: "bad-blocks", does: "says that it is ahead, and sends blocks that are spoilt, cut off, of wrong heights or certified by nobody",
			rules: []string{group.RuleBlock, group.RuleNoBlocks}, acts: ahead, serves: badBlocks,
		},
		{
			name: "false-claims", does: "says that it is ahead, and has nothing to send",
			rules: []string{group.RuleNoBlocks}, acts: ahead,
		},
		{
			name: "status-spam", does: "says over and over that it is behind, so that it is sent what it has",
			rules: []string{ruleAnswers}, acts: func(l *liar) {
				for range 6 {
					l.status(status{View: 0, Changing: true})
				}
			},
		},
		{
			name: "heartbeat-spam", does: "sends heartbeats of views that it does not lead",
			rules: []string{ruleHeartbeat}, acts: func(l *liar) {
				s := l.state()
				if int(s.View%uint64(len(l.world.config.Members))) != l.seat() {
					l.say(consensus.Message{Kind: kindHeartbeat, Votes: []ledger.Vote{l.sign(ledger.Statement{Kind: ledger.Heartbeat, Epoch: l.epoch(), View: s.View, Seq: 1})}})
				}
			},
		},
		{
			name: "impostor-leader", does: "proposes in views that it does not lead",
			rules: []string{ruleLeader}, acts: func(l *liar) {
				for _, p := range l.proposals[max(0, len(l.proposals)-1):] {
					st := p.Message.Votes[0].Statement
					if int(st.View%uint64(len(l.world.config.Members))) == l.seat() {
						continue
					}
					m := l.propose(&p, func(o *ledger.Order) { o.Proposer, o.Extra = uint32(l.seat()), []byte("mine") })
					for _, to := range l.targets() {
						l.attack()
						l.put(to, m)
					}
				}
			},
		},
		{
			name: "malformed-frames", does: "sends noise, cut and padded messages, and such of unknown kinds",
			rules: []string{group.RuleMalformed, ruleKind}, acts: malformed,
		},
		{
			name: "outsider", does: "lets a node speak that is no member, and for members that do not exist",
			rules: []string{group.RuleMember}, acts: func(l *liar) {
				for _, v := range l.own[max(0, len(l.own)-1):] {
					data, err := ledger.Marshal(&packet{Message: consensus.Message{Kind: kindVote, Votes: []ledger.Vote{v}}})
					if err != nil {
						l.world.fail("%s encodes a lie: %v", l.host, err)
						return
					}
					for _, to := range l.targets() {
						l.attack()
						l.world.transmit(l.host, to, identity.NodeID{0xff}, group.Consensus, data)
					}
					v.Signer = math.MaxUint32 - uint32(l.world.rng.IntN(2))
					l.say(consensus.Message{Kind: kindVote, Votes: []ledger.Vote{v}})
				}
			},
		},
	}
}

func badBlocks(l *liar, p group.Protocol, _, reply []byte, err error) ([]byte, error) {
	if p != group.Blocks {
		return reply, err
	}
	l.attack()
	var r blocksync.Reply
	if ledger.Unmarshal(reply, &r) != nil || len(r.Blocks) == 0 {
		switch l.world.rng.IntN(3) {
		case 0:
			return reply, err
		case 1:
			if raw := l.uncertified(); raw != nil {
				return ledger.Marshal(&blocksync.Reply{Blocks: [][]byte{raw}})
			}
		}
		head := l.store.Head().Height() // any block: its height is not the one that was asked for
		if raw, readErr := l.store.RawBlock(head); readErr == nil {
			return ledger.Marshal(&blocksync.Reply{Blocks: [][]byte{raw}})
		}
		return []byte("noise"), nil
	}
	switch b := r.Blocks; l.world.rng.IntN(4) {
	case 0:
		b[0] = slices.Clone(b[0])
		b[0][l.world.rng.IntN(len(b[0]))] ^= 4
	case 1:
		b[0] = b[0][:len(b[0])-1]
	case 2:
		slices.Reverse(b)
		if len(b) == 1 {
			r.Blocks = nil
		}
	case 3:
		return reply[:len(reply)/2], nil
	}
	return ledger.Marshal(&r)
}

// uncertified makes a block on its head that is right in all but that nobody else signed its certificate.
func (l *liar) uncertified() []byte {
	w := l.world
	head := l.store.Head()
	at := max(epochStart+w.now/milli, head.Header().Order.UnixMilli+1)
	txs := l.group.Pool().Select(&w.config.Params, at, w.config.Params.BlockBytes)
	if len(txs) == 0 {
		return nil
	}
	order := ledger.Order{
		Version: ledger.Version, Chain: w.chain, Group: w.config.Group, Height: head.Height() + 1, Parent: head.OrderHash(),
		UnixMilli: at, Proposer: uint32(l.seat()), TxCount: uint32(len(txs)),
	}
	var leaves []keys.Digest
	var raws [][]byte
	for _, tx := range txs {
		leaves, raws = append(leaves, tx.Leaf), append(raws, tx.Raw)
		order.TxBytes += uint64(len(tx.Raw))
		order.GasLimit += tx.GasLimit
	}
	order.TxRoot = ledger.Root(w.suite, leaves)
	result, err := l.executor.Execute(context.Background(), head, &order, txs)
	if err != nil {
		w.fail("%s executes a block of its own: %v", l.host, err)
		return nil
	}
	st := ledger.Statement{Kind: ledger.Commit, Epoch: l.epoch(), View: l.state().View, Height: order.Height, Order: order.Hash(w.suite), Block: result.Hash()}
	raw, err := ledger.Marshal(&ledger.Block{
		Version: ledger.Version, Header: *result.Header(), Txs: raws, Certificate: ledger.NewCertificate(l.pretend(st)),
	})
	if err != nil {
		w.fail("%s encodes a lie: %v", l.host, err)
	}
	return raw
}

// pretend returns the votes of a quorum with signatures that do not hold.
func (l *liar) pretend(st ledger.Statement) []ledger.Vote {
	var votes []ledger.Vote
	for m := range ledger.Quorum(len(l.world.config.Members)) {
		v := l.signFor(st, keys.Digest{9}, "")
		v.Signer = uint32(m)
		votes = append(votes, v)
	}
	return votes
}

func malformed(l *liar) {
	w := l.world
	var data []byte
	if len(l.raw) > 0 {
		data = slices.Clone(l.raw[w.rng.IntN(len(l.raw))])
	}
	p := group.Consensus
	switch w.rng.IntN(6) {
	case 0:
		data = make([]byte, w.rng.IntN(200))
		for i := range data {
			data[i] = byte(w.rng.Uint32())
		}
	case 1:
		data = data[:len(data)/2]
	case 2:
		data = append(data, 0)
	case 3:
		data = make([]byte, maxLieSize)
	case 4:
		p = group.Protocol(w.rng.IntN(256))
	case 5:
		l.say(consensus.Message{Kind: 200})
		return
	}
	l.shout(p, data)
}
