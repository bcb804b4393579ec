package group

import (
	"math"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxPacket is the size of the largest packet: it leaves the transport room for the group's name.
const maxPacket = consensus.MaxMessageSize - 64

// packet is a consensus message on the wire: what the engine said, and for a proposal the leaf digests of its
// transactions, which engines do not see.
type packet struct {
	_       struct{} `cbor:",toarray"`
	Message consensus.Message
	Leaves  []keys.Digest
}

// maxVerified is how many signatures a second are checked for one member. An honest one needs a few for each
// block and member; the bound keeps one that sends forged ones from taking the loop.
const maxVerified = 2_000

// nobody stands for what the engine of this node says.
const nobody = math.MaxUint32

// sender is what the group keeps of a member that sends to it. A member can fill only its own.
type sender struct {
	second   int64 // in which verified were checked
	verified int
	inbox    int   // its transactions that wait to be checked
	serving  int   // its requests for blocks that wait or are being answered
	blocks   share // of the blocks that it fetches
	payloads share // of the leaves and bodies; blocks leave that alone, since it cannot vote without
	lists    []leafList

	unprepared int                 // its deployments that wait for a place
	shown      recent[keys.Digest] // roots of this node's proposals whose leaves were sent to it alone
}

// leafList is the leaf digests that a transaction root stands for.
type leafList struct {
	root   keys.Digest
	leaves []keys.Digest
}

// maxLists is how many lists one member may leave here.
const maxLists = 4

// maxShown is how many roots are kept of what a member was shown: more than are under way at once.
const maxShown = 64

// receiveMessage checks everything that is signed in a message, and hands it to the engine.
func (g *Group) receiveMessage(from uint32, data []byte) error {
	if len(data) > maxPacket {
		return breaks(RuleMalformed, "consensus message of %d bytes, at most %d", len(data), maxPacket)
	}
	var p packet
	if err := ledger.Unmarshal(data, &p); err != nil {
		return breaks(RuleMalformed, "consensus message: %w", err)
	}
	m := &p.Message
	if len(m.Votes) > consensus.MaxMessageVotes || len(m.Certificates) > consensus.MaxMessageCertificates {
		return breaks(RuleMalformed, "consensus message with %d votes and %d certificates", len(m.Votes), len(m.Certificates))
	}
	if err := g.checkVotes(from, m.Votes); err != nil {
		return err
	}
	for i := range m.Certificates {
		if err := g.checkCertificate(from, &m.Certificates[i]); err != nil {
			return err
		}
	}
	if nv := m.NewView; nv != nil {
		if len(nv.Votes) > len(g.public) {
			return breaks(RuleMalformed, "new view with %d votes of %d members", len(nv.Votes), len(g.public))
		}
		if err := g.checkVotes(from, nv.Votes); err != nil {
			return err
		}
		if !nv.High.IsZero() {
			if err := g.checkCertificate(from, &nv.High); err != nil {
				return err
			}
		}
		g.statedView(m)
	}
	if m.Order != nil {
		if len(m.Order.Extra) > ledger.MaxOrderExtra {
			return breaks(RuleMalformed, "order with %d extra bytes, at most %d", len(m.Order.Extra), ledger.MaxOrderExtra)
		}
		if len(p.Leaves) > 0 {
			if err := g.isList(m.Order, p.Leaves); err != nil {
				return err
			}
			g.keepLeaves(g.senders[from], m.Order.TxRoot, p.Leaves)
			for _, waits := range g.unstored() {
				if waits.ask != nil && waits.leaves == nil && waits.order.TxRoot == m.Order.TxRoot {
					g.gather(waits)
				}
			}
		}
	}
	g.events = append(g.events, consensus.Received{From: from, Message: *m})
	return nil
}

// isList checks that leaf digests are those of an order.
func (g *Group) isList(o *ledger.Order, leaves []keys.Digest) error {
	if len(leaves) != int(o.TxCount) || o.TxCount > g.epoch.Params.BlockTxs || ledger.Root(g.cfg.Suite, leaves) != o.TxRoot {
		return breaks(RuleLeaves, "order at height %d: its %d leaves are not those of its root", o.Height, len(leaves))
	}
	return nil
}

// verify checks signatures that member from sent, if that member's share of the time allows. nobody has no bound.
func (g *Group) verify(from uint32, count int, check func() error) error {
	if from == nobody {
		return check()
	}
	s := g.senders[from]
	if second := g.env.Now() / 1_000; second != s.second {
		s.second, s.verified = second, 0
	}
	if s.verified > maxVerified {
		return breaks(RuleRate, "member %d sent more than %d signatures in a second", from, maxVerified)
	}
	s.verified += count
	return check()
}

// checkedVote is a vote whose signature holds. The last place tells signatures of other lengths apart, none of which
// hold.
type checkedVote struct {
	signer    uint32
	statement ledger.Statement
	signature [keys.SignatureSize + 1]byte
}

func voteKey(v *ledger.Vote) checkedVote {
	c := checkedVote{signer: v.Signer, statement: v.Statement}
	copy(c.signature[:], v.Signature)
	if len(v.Signature) != keys.SignatureSize {
		c.signature[keys.SignatureSize] = 1
	}
	return c
}

func (g *Group) checkVotes(from uint32, votes []ledger.Vote) error {
	for i := range votes {
		v := &votes[i]
		if v.Statement.Epoch != g.epoch.Number {
			return breaks(RuleEpoch, "%s of epoch %d, this node is in %d", v.Statement.Kind, v.Statement.Epoch, g.epoch.Number)
		}
		if int64(v.Signer) >= int64(len(g.public)) {
			return breaks(RuleMember, "%s of member %d of %d", v.Statement.Kind, v.Signer, len(g.public))
		}
		once := voteKey(v)
		if g.checked.has(once) {
			continue
		}
		if err := g.verify(from, 1, func() error {
			if err := g.public[v.Signer].Verify(v.Statement.Digest(g.cfg.Suite, g.cfg.Chain, g.cfg.Group), v.Signature); err != nil {
				return breaks(RuleSignature, "%s of member %d: %w", v.Statement.Kind, v.Signer, err)
			}
			return nil
		}); err != nil {
			return err
		}
		g.checked.add(once)
		g.stated(*v)
	}
	return nil
}

// checkCertificate verifies a certificate that member from sent. Most are made of votes that were checked when
// they came one by one, and cost no signature work.
func (g *Group) checkCertificate(from uint32, c *ledger.Certificate) error {
	if k := c.Statement.Kind; k != g.cfg.Finality && (k != ledger.Prepare || g.cfg.Finality != ledger.Commit) {
		return breaks(RuleCertificate, "%w: of a %s", ledger.ErrCertificate, k)
	}
	if c.Statement.Epoch != g.epoch.Number {
		return breaks(RuleEpoch, "certificate of epoch %d, this node is in %d", c.Statement.Epoch, g.epoch.Number)
	}
	once := keys.Hash(g.cfg.Suite, "checked-certificate", mustMarshal(c))
	if g.proved.has(once) {
		return nil
	}
	if !g.checkedVotes(c) {
		if err := g.verify(from, len(c.Signatures), func() error {
			if err := c.Verify(g.cfg.Suite, g.cfg.Chain, g.cfg.Group, g.public); err != nil {
				return breaks(RuleCertificate, "certificate of a %s: %w", c.Statement.Kind, err)
			}
			return nil
		}); err != nil {
			return err
		}
		g.statedCertificate(c)
	}
	g.proved.add(once)
	return nil
}

// checkedVotes reports whether a certificate is well-formed and made of votes that were checked before.
func (g *Group) checkedVotes(c *ledger.Certificate) bool {
	members := c.Members()
	if len(members) != len(c.Signatures) || len(members) < c.Statement.Kind.Quorum(len(g.public)) {
		return false
	}
	for i, m := range members {
		v := ledger.Vote{Signer: m, Statement: c.Statement, Signature: c.Signatures[i]}
		if int64(m) >= int64(len(g.public)) || !g.checked.has(voteKey(&v)) {
			return false
		}
	}
	return c.Signers[len(c.Signers)-1] != 0
}

// keepLeaves remembers in a sender's place which transactions a root stands for.
func (g *Group) keepLeaves(s *sender, root keys.Digest, leaves []keys.Digest) {
	for _, l := range s.lists {
		if l.root == root {
			return
		}
	}
	if len(s.lists) >= maxLists {
		s.lists = slices.Delete(s.lists, 0, 1)
	}
	s.lists = append(s.lists, leafList{root, leaves})
}

// leavesOf returns the leaf digests that a root stands for, or nil.
func (g *Group) leavesOf(root keys.Digest) []keys.Digest {
	for _, p := range g.proposals {
		if p.leaves != nil && p.order.TxRoot == root {
			return p.leaves
		}
	}
	for _, l := range g.held {
		if l.root == root {
			return l.leaves
		}
	}
	for _, s := range append(slices.Clip(g.senders), g.own) {
		for _, l := range s.lists {
			if l.root == root {
				return l.leaves
			}
		}
	}
	return nil
}
