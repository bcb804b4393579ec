package doublesign

import (
	"errors"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func digest(b byte) keys.Digest { return keys.Digest{b} }

func proposes(view uint64, height ledger.Height, order byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Propose, View: view, Height: height, Order: digest(order)}
}

func prepares(view uint64, height ledger.Height, order byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Prepare, View: view, Height: height, Order: digest(order)}
}

func commits(view uint64, height ledger.Height, order, block byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Commit, View: view, Height: height, Order: digest(order), Block: digest(block)}
}

func changes(view uint64, highView uint64, highHeight ledger.Height) ledger.Statement {
	return ledger.Statement{Kind: ledger.ViewChange, View: view, High: ledger.Rank{View: highView, Height: highHeight}}
}

func attests(height ledger.Height, block byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Attest, Height: height, Order: digest(block), Block: digest(block)}
}

func inEpoch(epoch uint64, st ledger.Statement) ledger.Statement {
	st.Epoch = epoch
	return st
}

func TestGuard(t *testing.T) {
	type statements = []ledger.Statement
	for _, c := range []struct {
		name   string
		before statements
		then   ledger.Statement
		refuse bool
	}{
		{name: "the first prepare", then: prepares(0, 1, 1)},
		{name: "the same prepare again", before: statements{prepares(0, 1, 1)}, then: prepares(0, 1, 1)},
		{name: "another order at the same rank", before: statements{prepares(0, 1, 1)}, then: prepares(0, 1, 2), refuse: true},
		{name: "the next height", before: statements{prepares(0, 1, 1)}, then: prepares(0, 2, 2)},
		{name: "a lower height in the view", before: statements{prepares(0, 2, 2)}, then: prepares(0, 1, 1), refuse: true},
		{name: "a lower height in the next view", before: statements{prepares(0, 2, 2)}, then: prepares(1, 1, 1)},
		{name: "the view below", before: statements{prepares(1, 1, 1)}, then: prepares(0, 9, 1), refuse: true},
		{name: "a prepare without an order", then: prepares(0, 1, 0), refuse: true},

		{name: "a proposal beside a prepare at its rank", before: statements{prepares(0, 1, 1)}, then: proposes(0, 1, 1)},
		{name: "a second proposal at a rank", before: statements{proposes(0, 1, 1)}, then: proposes(0, 1, 2), refuse: true},
		{name: "a proposal below the last", before: statements{proposes(0, 2, 1)}, then: proposes(0, 1, 2), refuse: true},
		{name: "a proposal in a view below a prepare's", before: statements{prepares(4, 2, 1)}, then: proposes(3, 3, 2), refuse: true},

		{name: "a commit after its prepare", before: statements{prepares(2, 1, 1)}, then: commits(2, 1, 1, 1)},
		{name: "a commit in a view reached by a certificate", before: statements{prepares(2, 1, 1)}, then: commits(3, 1, 1, 1)},
		{name: "a commit one view below the highest signed in", before: statements{prepares(3, 1, 1)}, then: commits(2, 1, 1, 1), refuse: true},
		{name: "the same commit again", before: statements{commits(2, 1, 1, 1)}, then: commits(2, 1, 1, 1)},
		{name: "another result at a rank", before: statements{commits(2, 1, 1, 1)}, then: commits(2, 1, 1, 2), refuse: true},
		{name: "another result at the height in the next view", before: statements{commits(2, 1, 1, 1)}, then: commits(3, 1, 1, 1)},
		{name: "a commit without a result", then: commits(0, 1, 1, 0), refuse: true},

		{name: "a view change", before: statements{prepares(2, 1, 1)}, then: changes(3, 0, 0)},
		{name: "a view change to the view signed in", before: statements{prepares(2, 1, 1)}, then: changes(2, 0, 0), refuse: true},
		{name: "the same view change again", before: statements{changes(3, 1, 1)}, then: changes(3, 1, 1)},
		{name: "the same view change after a vote in its view", before: statements{changes(3, 1, 1), prepares(3, 2, 1)}, then: changes(3, 1, 1)},
		{name: "a view change with another claim", before: statements{changes(3, 1, 1)}, then: changes(3, 1, 2), refuse: true},
		{name: "a view change that goes back", before: statements{changes(3, 1, 1)}, then: changes(2, 1, 1), refuse: true},
		{name: "a view change with the rank of the last commit", before: statements{commits(2, 5, 1, 1)}, then: changes(3, 2, 5)},
		{name: "a view change one height short of the last commit", before: statements{commits(2, 5, 1, 1)}, then: changes(3, 2, 4), refuse: true},
		{name: "a view change one view short of the last commit", before: statements{commits(2, 5, 1, 1)}, then: changes(3, 1, 9), refuse: true},
		{name: "a vote in the view that was left", before: statements{prepares(2, 1, 1), changes(3, 0, 0)}, then: prepares(2, 2, 2), refuse: true},
		{name: "a commit in the view that was left", before: statements{prepares(2, 1, 1), changes(3, 0, 0)}, then: commits(2, 1, 1, 1), refuse: true},
		{name: "a vote in the view that was changed to", before: statements{changes(3, 0, 0)}, then: prepares(3, 1, 1)},
		{name: "a repeated vote of the view that was left", before: statements{prepares(2, 1, 1), changes(3, 0, 0)}, then: prepares(2, 1, 1), refuse: true},

		{name: "an epoch that is over", before: statements{inEpoch(2, prepares(0, 1, 1))}, then: inEpoch(1, prepares(9, 9, 1)), refuse: true},
		{name: "a lower view in the next epoch", before: statements{inEpoch(1, commits(9, 9, 1, 1))}, then: inEpoch(2, changes(1, 0, 0))},

		{name: "an attestation", then: attests(1, 1)},
		{name: "the same attestation again", before: statements{attests(1, 1)}, then: attests(1, 1)},
		{name: "another attestation at a height", before: statements{attests(1, 1)}, then: attests(1, 2), refuse: true},
		{name: "an attestation below the last", before: statements{attests(2, 1)}, then: attests(1, 2), refuse: true},

		{name: "a heartbeat", before: statements{prepares(2, 1, 1)}, then: ledger.Statement{Kind: ledger.Heartbeat, View: 2}},
		{name: "a heartbeat of a view that was left", before: statements{changes(3, 0, 0)}, then: ledger.Statement{Kind: ledger.Heartbeat, View: 2}, refuse: true},
		{name: "no kind", then: ledger.Statement{}, refuse: true},
		{name: "an unknown kind", then: ledger.Statement{Kind: 7, View: 1, Order: digest(1)}, refuse: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g Guard
			for _, st := range c.before {
				if _, err := g.Allow(st); err != nil {
					t.Fatalf("set up %v: %v", st, err)
				}
			}
			before := g
			changed, err := g.Allow(c.then)
			if c.refuse {
				if !errors.Is(err, Err) {
					t.Errorf("Allow = %v, want Err", err)
				}
				if g != before {
					t.Error("a refused statement changed the guard")
				}
				return
			}
			if err != nil {
				t.Fatalf("Allow = %v", err)
			}
			if changed != (g != before) {
				t.Errorf("changed = %t, and the guard changed: %t", changed, g != before)
			}
			if again, err := g.Allow(c.then); err != nil || again {
				t.Errorf("the same statement again: changed %t, %v", again, err)
			}
		})
	}
}
