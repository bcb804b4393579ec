package group

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrDoubleSign says that an engine asked for a signature that contradicts an earlier one. The group stops;
// it is never right to try again.
var ErrDoubleSign = errors.New("group: the engine asked to sign against an earlier statement")

// guard refuses to sign what would contradict an earlier signature of this node, whatever the engine says.
// Its state is kept in the journal, in the same sync as the engine's own records, so the two cannot disagree.
// It follows the safety data of DiemBFT and the private validator of CometBFT.
//
// Within an epoch nothing is signed in a view below the highest signed in. Proposals, prepares and commits each
// rise strictly in rank; a view change goes to a view above all that was signed in, and claims at least the rank
// of the last commit; attestations rise strictly in height. The same statement may be signed again.
type guard struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint64   // the last in which this node took part
	View    uint64   // highest view signed in
	Propose ledger.Statement
	Prepare ledger.Statement
	Commit  ledger.Statement
	Change  ledger.Statement
	Attest  ledger.Statement
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
	return guard{Epoch: epoch, Mute: g.Mute, Lost: g.Lost, Leave: g.Leave, Left: g.Left, Stored: g.Stored}
}

// allow records the statement and returns whether that changed the guard, so must be durable before the
// signature leaves the node.
func (g *guard) allow(st ledger.Statement) (changed bool, err error) {
	if st.Epoch < g.Epoch {
		return false, refuse(st, "epoch %d is over, the guard is in %d", st.Epoch, g.Epoch)
	}
	if st.Epoch < g.Mute {
		return false, refuse(st, "this node's journal was lost: it does not vote before epoch %d", g.Mute)
	}
	if st.Epoch < g.Leave {
		return false, refuse(st, "this node signed the recovery %s: it does not vote before epoch %d", g.Left.Short(), g.Leave)
	}
	next := *g
	if st.Epoch > g.Epoch {
		next = g.in(st.Epoch)
	}
	if st.View < next.View && st.Kind != ledger.Attest {
		return false, refuse(st, "view %d was signed in before", next.View)
	}
	switch st.Kind {
	case ledger.Propose:
		err = rise(&next.Propose, st)
	case ledger.Prepare:
		err = rise(&next.Prepare, st)
	case ledger.Commit:
		if st.Block.IsZero() {
			return false, refuse(st, "it names no block")
		}
		err = rise(&next.Commit, st)
	case ledger.ViewChange:
		if st != next.Change && st.View <= next.View {
			return false, refuse(st, "view %d was signed in before", next.View)
		}
		if next.Commit.Kind != 0 && st.High.Compare(next.Commit.Rank()) < 0 {
			return false, refuse(st, "it claims rank %v below the commit at %v", st.High, next.Commit.Rank())
		}
		next.Change = st
	case ledger.Attest:
		if last := next.Attest; last.Kind != 0 && st != last && st.Height <= last.Height {
			return false, refuse(st, "block %s was attested at height %d before", last.Block.Short(), last.Height)
		}
		next.Attest = st
		changed = next != *g
		*g = next
		return changed, nil
	case ledger.Heartbeat:
		return false, nil
	default:
		return false, refuse(st, "there is no such statement")
	}
	if err != nil {
		return false, err
	}
	next.View = max(next.View, st.View)
	changed = next != *g
	*g = next
	return changed, nil
}

// rise lets last move up in rank, or stay as it is.
func rise(last *ledger.Statement, st ledger.Statement) error {
	if last.Kind != 0 && st != *last && st.Rank().Compare(last.Rank()) <= 0 {
		return refuse(st, "order %s block %s was signed at %v before", last.Order.Short(), last.Block.Short(), last.Rank())
	}
	if st.Order.IsZero() {
		return refuse(st, "it names no order")
	}
	*last = st
	return nil
}

func refuse(st ledger.Statement, why string, args ...any) error {
	return fmt.Errorf("%w: %s at epoch %d view %d height %d: %s", ErrDoubleSign, st.Kind, st.Epoch, st.View, st.Height, fmt.Sprintf(why, args...))
}
