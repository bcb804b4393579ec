package group

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Methods for any goroutine.

// Status is what an operator sees of a group.
type Status struct {
	Group     ledger.GroupID
	Head      consensus.Head
	Epoch     ledger.Epoch
	Self      identity.NodeID
	Number    int32                                // of this node among the members; -1 for an observer
	Nodes     map[identity.NodeID]precompiles.Node // that may take part, members included; not to be changed
	Consensus consensus.Status                     // as the engine tells it
	Engine    bool                                 // the engine is running
	Syncing   ledger.Height                        // a height that is final, while this node is behind and fetches blocks; else 0
	Fetch     Fetch                                // how it does, while Syncing is not 0
	Claimed   bool                                 // somebody claims that there are more blocks, which need not be true, and this node asks for them; always while Syncing is not 0
	Joining   *Joining                             // how it fetches a state to begin with; nil: it does not
	Lacking   error                                // which blocks it lacks that no node which answers has, or that it once had and is not fetching; else nil
	Stopped   error                                // why the group stopped; nil while it runs
	Muted     error                                // why this member does not vote though the group runs; nil when it does
}

// Status returns what was true when the loop last rested.
func (g *Group) Status() Status { return *g.status.Load() }

// publish makes the status visible to other goroutines.
func (g *Group) publish() {
	s := &Status{
		Group: g.cfg.Group, Head: g.head, Epoch: g.epoch, Self: g.self, Number: g.number, Nodes: g.nodes, Engine: !g.down, Stopped: g.Stopped(), Muted: cmp.Or(g.muted(), g.signerAway, g.signerGone),
		Claimed: g.sync.active,
	}
	if g.sync.active && g.sync.proved > 0 { // until a block has come, somebody may only claim that there are more
		if to := g.believed(); to > g.head.Order.Height {
			s.Syncing, s.Fetch = to, g.fetch()
		}
	}
	s.Joining = g.joining()
	if lacking := g.lacking(); lacking > 0 && s.Joining == nil {
		s.Lacking = errLacking(lacking)
	} else if once := g.journal.guard.Stored; once > g.head.Order.Height && s.Syncing == 0 {
		s.Lacking = errLost(g.head.Order.Height, once)
	}
	if g.down {
		s.Consensus = consensus.Status{Leader: -1}
	} else {
		s.Consensus = g.engine.Status()
	}
	g.status.Store(s)
}

// Stopped returns nil while the group runs, and else an ErrStopped that says why it does not.
func (g *Group) Stopped() error {
	if err := g.stopped.Load(); err != nil {
		return *err
	}
	return nil
}

// Store returns the group's store, for reading.
func (g *Group) Store() *state.Store { return g.cfg.Store }

// Pool returns the waiting transactions.
func (g *Group) Pool() *mempool.Pool { return g.cfg.Pool }

// Changed returns a channel that is closed when the next block is stored. Take it before reading the head.
func (g *Group) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Progress says where a transaction is.
type Progress string

// The answers to "what became of my transaction".
const (
	Pending   Progress = "pending"   // it waits
	Committed Progress = "committed" // it is in a final block
	Expired   Progress = "expired"   // no block can include it any more
	Unknown   Progress = "unknown"   // this node has not seen it
)

// Lookup is where a transaction is.
type Lookup struct {
	Progress   Progress
	Height     ledger.Height // when committed
	Index      uint32        // when committed
	Expiry     int64         // when pending
	PastExpiry bool          // pending, but the clock says that the next block will not take it
}

// Find says where a transaction is.
func (g *Group) Find(id ledger.TxID) (Lookup, error) {
	expiry, pending := g.cfg.Pool.Pending(id)
	height, index, found, err := g.cfg.Store.FindTx(id)
	switch {
	case err != nil:
		return Lookup{}, fmt.Errorf("look up transaction %s: %w", id, err)
	case found:
		return Lookup{Progress: Committed, Height: height, Index: index}, nil
	case pending:
		return Lookup{Progress: Pending, Expiry: expiry, PastExpiry: g.env.Now() > expiry}, nil
	case g.expired.has(id):
		return Lookup{Progress: Expired}, nil
	default:
		return Lookup{Progress: Unknown}, nil
	}
}

// recentIDs is a recent set for any goroutine.
type recentIDs struct {
	mu    sync.Mutex // guards set
	limit int
	set   recent[ledger.TxID]
}

func (r *recentIDs) add(id ledger.TxID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set.limit = r.limit
	r.set.add(id)
}

func (r *recentIDs) has(id ledger.TxID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.has(id)
}
