package group

import (
	"fmt"
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

// receiveMessage checks everything that is signed in a message, and hands it to the engine.
func (g *Group) receiveMessage(from uint32, data []byte) error {
	if len(data) > maxPacket {
		return fmt.Errorf("consensus message of %d bytes, at most %d", len(data), maxPacket)
	}
	var p packet
	if err := ledger.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("consensus message: %w", err)
	}
	m := &p.Message
	if len(m.Votes) > consensus.MaxMessageVotes || len(m.Certificates) > consensus.MaxMessageCertificates {
		return fmt.Errorf("consensus message with %d votes and %d certificates", len(m.Votes), len(m.Certificates))
	}
	if err := g.checkVotes(m.Votes); err != nil {
		return err
	}
	for i := range m.Certificates {
		if err := g.checkCertificate(&m.Certificates[i]); err != nil {
			return err
		}
	}
	if nv := m.NewView; nv != nil {
		if len(nv.Votes) > len(g.public) {
			return fmt.Errorf("new view with %d votes of %d members", len(nv.Votes), len(g.public))
		}
		if err := g.checkVotes(nv.Votes); err != nil {
			return err
		}
		if !nv.High.IsZero() {
			if err := g.checkCertificate(&nv.High); err != nil {
				return err
			}
		}
	}
	if m.Order != nil {
		if len(m.Order.Extra) > ledger.MaxOrderExtra {
			return fmt.Errorf("order with %d extra bytes, at most %d", len(m.Order.Extra), ledger.MaxOrderExtra)
		}
		if len(p.Leaves) > 0 {
			if uint32(len(p.Leaves)) != m.Order.TxCount || ledger.Root(g.cfg.Suite, p.Leaves) != m.Order.TxRoot {
				return fmt.Errorf("proposal at height %d: its %d leaves are not those of its root", m.Order.Height, len(p.Leaves))
			}
			g.keepLeaves(m.Order.TxRoot, p.Leaves)
		}
	}
	g.events = append(g.events, consensus.Received{From: from, Message: *m})
	return nil
}

func (g *Group) checkVotes(votes []ledger.Vote) error {
	for i := range votes {
		v := &votes[i]
		if v.Statement.Epoch != g.epoch.Number {
			return fmt.Errorf("%s of epoch %d, this node is in %d", v.Statement.Kind, v.Statement.Epoch, g.epoch.Number)
		}
		if int(v.Signer) >= len(g.public) {
			return fmt.Errorf("%s of member %d of %d", v.Statement.Kind, v.Signer, len(g.public))
		}
		once := keys.Hash(g.cfg.Suite, "checked-vote", mustMarshal(v))
		if g.checked.has(once) {
			continue
		}
		if err := g.public[v.Signer].Verify(v.Statement.Digest(g.cfg.Suite, g.cfg.Chain, g.cfg.Group), v.Signature); err != nil {
			return fmt.Errorf("%s of member %d: %w", v.Statement.Kind, v.Signer, err)
		}
		g.checked.add(once)
	}
	return nil
}

func (g *Group) checkCertificate(c *ledger.Certificate) error {
	if c.IsZero() {
		return fmt.Errorf("%w: empty", ledger.ErrCertificate)
	}
	if !slices.Contains([]ledger.StatementKind{ledger.Prepare, ledger.Commit}, c.Statement.Kind) {
		return fmt.Errorf("%w: of a %s", ledger.ErrCertificate, c.Statement.Kind)
	}
	if c.Statement.Epoch != g.epoch.Number {
		return fmt.Errorf("certificate of epoch %d, this node is in %d", c.Statement.Epoch, g.epoch.Number)
	}
	once := keys.Hash(g.cfg.Suite, "checked-certificate", mustMarshal(c))
	if g.checked.has(once) {
		return nil
	}
	if err := c.Verify(g.cfg.Suite, g.cfg.Chain, g.cfg.Group, g.public); err != nil {
		return err
	}
	g.checked.add(once)
	return nil
}

// keepLeaves remembers which transactions a root stands for.
func (g *Group) keepLeaves(root keys.Digest, leaves []keys.Digest) {
	if old, any := g.lists.add(root); any {
		delete(g.leaves, old)
	}
	g.leaves[root] = leaves
}
