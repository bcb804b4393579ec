package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/wasmvm"
)

// Stopped is a node that does not run, with its data, contracts and consensus engine at hand. It locks the data.
type Stopped struct {
	*group.Stopped
	node *Node
}

// OpenStopped opens a node that does not run, for disaster recovery. Addresses of the configuration are not used. Close
// must be called unless it fails.
func OpenStopped(ctx context.Context, c Config) (_ *Stopped, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	suite, err := keys.SuiteByName(c.Genesis.Suite)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if err := c.Genesis.Check(suite); err != nil {
		return nil, err
	}
	n := newNode(c, suite)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.openState(ctx); err != nil {
		if errors.Is(err, state.ErrLocked) {
			err = fmt.Errorf("%w: stop the node first", err)
		}
		return nil, err
	}
	factory, err := n.engine(ctx)
	if err != nil {
		return nil, err
	}
	stopped, err := group.OpenStopped(group.Config{
		Suite: suite, Chain: n.chain, Group: c.Genesis.Group, Finality: c.Genesis.Finality(), Trust: c.Genesis.Trust, Signer: c.Signer, Store: n.store, Executor: n.executor,
		Engine: factory, FS: state.OS(), Dir: n.groupDir(), Log: n.log,
	})
	if err != nil {
		return nil, err
	}
	return &Stopped{Stopped: stopped, node: n}, nil
}

// Close gives the data free.
func (s *Stopped) Close() error { return errors.Join(s.Stopped.Close(), s.node.Close()) }

// newNode returns a node of which nothing is open.
func newNode(c Config, suite keys.Suite) *Node {
	n := &Node{
		config: c, suite: suite, chain: c.Genesis.Hash(suite), self: identity.NodeIDOf(suite, c.Signer.Public()),
		alarms: make(chan *wasmvm.DivergenceError, 1), epochs: make(chan struct{}, 1), revouched: make(chan struct{}, 1), joined: make(chan struct{}), full: make(chan struct{}),
	}
	n.log = c.Log.With().Str("node", n.self.Short()).Str("group", string(c.Genesis.Group)).Logger()
	return n
}
