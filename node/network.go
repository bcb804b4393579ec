package node

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// network sends a group's messages over the node's endpoint. In front of each stand the group's protocol and
// name, so that one pair of connections serves all groups of two nodes.
type network struct {
	endpoint *transport.Endpoint
	group    ledger.GroupID
}

// protocols maps what groups say to the transport's protocols.
var protocols = map[group.Protocol]transport.Protocol{
	group.Consensus:    transport.Consensus,
	group.Transactions: transport.TxGossip,
	group.Leaves:       transport.TxFetch,
	group.Bodies:       transport.TxFetch,
	group.Blocks:       transport.BlockSync,
	group.Stored:       transport.BlockSync,
	group.States:       transport.StateSync,
}

func (n *network) wrap(p group.Protocol, m []byte) []byte {
	framed := make([]byte, 0, 2+len(n.group)+len(m))
	framed = append(framed, byte(p), byte(len(n.group)))
	framed = append(framed, n.group...)
	return append(framed, m...)
}

// unwrap reverses wrap for messages to this node's group.
func (n *Node) unwrap(framed []byte) (p group.Protocol, m []byte, ok bool) {
	if len(framed) < 2 || len(framed) < 2+int(framed[1]) {
		return 0, nil, false
	}
	name, m := framed[2:2+int(framed[1])], framed[2+int(framed[1]):]
	return group.Protocol(framed[0]), m, ledger.GroupID(name) == n.config.Genesis.Group
}

// Send implements group.Network. A message that cannot be sent is lost; engines send again what matters.
func (n *network) Send(to identity.NodeID, p group.Protocol, m []byte) {
	n.endpoint.Send(to, protocols[p], n.wrap(p, m)) //nolint:errcheck // as said
}

// Request implements group.Network.
func (n *network) Request(ctx context.Context, to identity.NodeID, p group.Protocol, m []byte) ([]byte, error) {
	reply, err := n.endpoint.Request(ctx, to, protocols[p], n.wrap(p, m))
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", to.Short(), err)
	}
	return reply, nil
}

func randomBytes() (b [32]byte) {
	rand.Read(b[:]) //nolint:errcheck // never fails, see package crypto/rand
	return b
}
