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
// Within an epoch: proposals and prepares rise strictly in rank, commits too, and a commit's view is the
// highest view signed; view changes rise strictly in view and claim at least the rank of the last commit;
// and once a view change is signed, nothing of an earlier view is. The same statement may be signed again.
type guard struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint64
	View    uint64 // highest view signed
	Propose ledger.Statement
	Prepare ledger.Statement
	Commit  ledger.Statement
	Change  ledger.Statement
}

// allow records the statement and returns whether that changed the guard, so must be durable before the
// signature leaves the node.
func (g *guard) allow(st ledger.Statement) (changed bool, err error) {
	if st.Epoch < g.Epoch {
		return false, refuse(st, "epoch %d is over, the guard is in %d", st.Epoch, g.Epoch)
	}
	next := *g
	if st.Epoch > g.Epoch {
		next = guard{Epoch: st.Epoch}
	}
	if st.View < next.Change.View {
		return false, refuse(st, "view %d was left for %d", st.View, next.Change.View)
	}
	switch st.Kind {
	case ledger.Propose:
		if err := rise(&next.Propose, st); err != nil {
			return false, err
		}
	case ledger.Prepare:
		if err := rise(&next.Prepare, st); err != nil {
			return false, err
		}
	case ledger.Commit:
		if st.View < next.View {
			return false, refuse(st, "view %d was signed before", next.View)
		}
		if err := rise(&next.Commit, st); err != nil {
			return false, err
		}
	case ledger.ViewChange:
		if next.Change.Kind != 0 && st != next.Change && st.View <= next.Change.View {
			return false, refuse(st, "a view change to %d was signed before", next.Change.View)
		}
		if next.Commit.Kind != 0 && st.High.Compare(next.Commit.Rank()) < 0 {
			return false, refuse(st, "it claims rank %v below the commit at %v", st.High, next.Commit.Rank())
		}
		next.Change = st
	case ledger.Heartbeat, ledger.Attest:
		return false, nil
	default:
		return false, refuse(st, "there is no such statement")
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
	if st.Order == (keys.Digest{}) {
		return refuse(st, "it names no order")
	}
	*last = st
	return nil
}

func refuse(st ledger.Statement, why string, args ...any) error {
	return fmt.Errorf("%w: %s at epoch %d view %d height %d: %s", ErrDoubleSign, st.Kind, st.Epoch, st.View, st.Height, fmt.Sprintf(why, args...))
}
