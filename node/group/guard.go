package group

import (
	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// guard refuses to sign what would contradict an earlier signature of this node, or what this node may have forgotten.
// Its state is kept in the journal, in the same sync as the engine's own records, so the two cannot disagree.
type guard struct {
	_ struct{} `cbor:",toarray"`
	doublesign.Guard
	// Mute is the first epoch in which this node votes: what it signed in those below was lost with a journal. 0: none was.
	Mute uint64
	// Lost tells that the journal was begun in place of a lost one, and that no epoch has begun since of which this node knows
	// that it signed nothing in it.
	Lost bool
	// Leave is the first epoch in which this node votes again after it signed a recovery, whose last block is Left: it
	// gave up all else in the epochs below. 0: it signed none.
	Leave uint64
	Left  keys.Digest
	// Stored is the last block that was stored when this was written. The guard does not ask for it: who starts on older blocks
	// learns from it that some are lost.
	Stored ledger.Height
}

// in returns the guard at the beginning of a later epoch.
func (g *guard) in(epoch uint64) guard {
	next := *g
	next.Guard = doublesign.Guard{Epoch: epoch}
	return next
}

// allow records the statement and returns whether that changed the guard, so must be durable before the
// signature leaves the node.
func (g *guard) allow(st ledger.Statement) (changed bool, err error) {
	if st.Epoch < g.Mute {
		return false, doublesign.Refuse(st, "this node's journal was lost: it does not vote before epoch %d", g.Mute)
	}
	if st.Epoch < g.Leave {
		return false, doublesign.Refuse(st, "this node signed the recovery %s: it does not vote before epoch %d", g.Left.Short(), g.Leave)
	}
	return g.Guard.Allow(st)
}
