package node

import (
	"context"
	"fmt"
	"time"

	"github.com/fondaco/fondaco/node/vouch"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/transport"
)

// CA says who vouches for nodes. The zero value: nobody is asked, and the chain's list of nodes is enough.
type CA struct {
	Provider plugins.Spec  // the provider's program; no name: none
	Chain    [][]byte      // this node's certificates, its own first, which it shows to others
	Fresh    time.Duration // as vouch.Config.Fresh, and how often connected nodes are asked about again; 0: 30 s
}

// remaining are the times before the end of the node's certificate at which the log says so.
var remaining = []time.Duration{30 * day, 7 * day, day, 0}

const day = 24 * time.Hour

// openCA starts the provider, and looks at the node's own certificate.
func (n *Node) openCA(ctx context.Context) error {
	if n.config.CA.Provider.Name == "" {
		return nil
	}
	program, err := n.plugins.CA(ctx, n.config.CA.Provider)
	if err != nil {
		return err
	}
	n.ca = program
	n.vouch = vouch.New(vouch.Config{Provider: program, Suite: n.suite, Fresh: n.config.CA.Fresh, Now: n.now})
	own, err := n.vouch.Of(n.config.CA.Chain, n.config.Signer.Public())
	if err != nil {
		n.log.Error().Err(err).Msg("this node's own provider does not vouch for its certificate: others may refuse it")
	}
	n.ends = own.NotAfter
	return nil
}

// now is the node's clock.
func (n *Node) now() time.Time { return time.Now().Add(n.config.ClockOffset) }

// vouched adds to what the chain says of a node what its certificates do. The institution must be the one that the
// chain has the node for; of nodes that the chain does not know yet it is taken from the certificate.
func (n *Node) vouched(hello *transport.Hello, key keys.PublicKey, institution string) (identity.Identity, error) {
	if n.vouch == nil {
		return identity.Identity{Institution: institution, Key: key}, nil
	}
	who, err := n.vouch.Of(hello.Certificates, key)
	if err != nil {
		return who, fmt.Errorf("node %s: %w", hello.Node.Short(), err)
	}
	if institution != "" && who.Institution != institution {
		return who, fmt.Errorf("node %s is of %s on the chain, and its certificate %s names %s: use a certificate of that institution", hello.Node.Short(), institution, who.Serial, who.Institution)
	}
	return who, nil
}

// recheck asks again about connected nodes, and tells when the node's own certificate is about to end, until ctx ends.
func (n *Node) recheck(ctx context.Context) error {
	every := n.config.CA.Fresh
	if every == 0 {
		every = 30 * time.Second
	}
	told := -1
	for ctx.Err() == nil {
		if left := n.ends.Sub(n.now()); !n.ends.IsZero() {
			at := -1
			for i, limit := range remaining {
				if left <= limit {
					at = i
				}
			}
			if at > told {
				n.log.Warn().Time("not_after", n.ends).Dur("left", left).Msg("this node's certificate ends: renew it, or other nodes will refuse it from then on")
			}
			told = at
		}
		rest(ctx, every)
		if ctx.Err() == nil {
			n.endpoint.SetPeers(n.peers()) // asks authorize again about everybody
		}
	}
	return nil
}
