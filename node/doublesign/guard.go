// Package doublesign is the guard that keeps a key from contradicting itself. A node's group asks it before each vote, and so does a
// signer that keeps the key for a node, with a memory of its own.
//
// The package is public by path but promised nothing.
package doublesign

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// Err says that a statement contradicts an earlier one of the same key. It is never right to try again.
var Err = errors.New("double-sign guard: the statement contradicts what was signed before")

// Guard refuses what would contradict an earlier signature, whatever an engine says. It follows the safety data of DiemBFT and
// the private validator of CometBFT. Whoever keeps one stores it before the signature leaves. The zero Guard has signed nothing.
//
// Within an epoch nothing is signed in a view below the highest signed in. Proposals, prepares and commits each
// rise strictly in rank; a view change goes to a view above all that was signed in, and claims at least the rank
// of the last commit; attestations rise strictly in height. The same statement may be signed again.
type Guard struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint64   // the last in which the key took part
	View    uint64   // highest view signed in
	Propose ledger.Statement
	Prepare ledger.Statement
	Commit  ledger.Statement
	Change  ledger.Statement
	Attest  ledger.Statement
}

// Allow records the statement and returns whether that changed the guard, so must be durable before the
// signature leaves. What it refuses, with an Err, leaves the guard as it is.
func (g *Guard) Allow(st ledger.Statement) (changed bool, err error) {
	if st.Epoch < g.Epoch {
		return false, Refuse(st, "epoch %d is over, the guard is in %d", st.Epoch, g.Epoch)
	}
	next := *g
	if st.Epoch > g.Epoch {
		next = Guard{Epoch: st.Epoch}
	}
	if st.View < next.View && st.Kind != ledger.Attest {
		return false, Refuse(st, "view %d was signed in before", next.View)
	}
	switch st.Kind {
	case ledger.Propose:
		err = rise(&next.Propose, st)
	case ledger.Prepare:
		err = rise(&next.Prepare, st)
	case ledger.Commit:
		if st.Block.IsZero() {
			return false, Refuse(st, "it names no block")
		}
		err = rise(&next.Commit, st)
	case ledger.ViewChange:
		if st != next.Change && st.View <= next.View {
			return false, Refuse(st, "view %d was signed in before", next.View)
		}
		if next.Commit.Kind != 0 && st.High.Compare(next.Commit.Rank()) < 0 {
			return false, Refuse(st, "it claims view %d height %d, below the commit at view %d height %d", st.High.View, st.High.Height, next.Commit.View, next.Commit.Height)
		}
		next.Change = st
	case ledger.Attest:
		if last := next.Attest; last.Kind != 0 && st != last && st.Height <= last.Height {
			return false, Refuse(st, "block %s was attested at height %d before", last.Block.Short(), last.Height)
		}
		next.Attest = st
		changed = next != *g
		*g = next
		return changed, nil
	case ledger.Heartbeat:
		return false, nil
	default:
		return false, Refuse(st, "there is no such statement")
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
		return Refuse(st, "order %s block %s was signed at view %d height %d before", last.Order.Short(), last.Block.Short(), last.View, last.Height)
	}
	if st.Order.IsZero() {
		return Refuse(st, "it names no order")
	}
	*last = st
	return nil
}

// Refuse returns an Err about a statement, with the reason.
func Refuse(st ledger.Statement, why string, args ...any) error {
	return fmt.Errorf("%w: %s at epoch %d view %d height %d: %s", Err, st.Kind, st.Epoch, st.View, st.Height, fmt.Sprintf(why, args...))
}
