// Package history checks what clients of a network saw against the chain that the network made.
//
// # What is checked
//
// Accounts hold units; a transfer moves some, or fails when there are too few; a query is a transaction that
// reads a balance; a read asks one node for a balance, without a transaction.
//
// Transfers and queries must be linearizable (Herlihy and Wing, TOPLAS 1990), and, since all accounts are one
// object here, strictly serializable: there is one order in which each takes effect once, with the result that the
// client was told, and in which an operation that was answered before another one began comes first. The chain is
// that order, so it need not be searched for: it is replayed. What the client knows nothing of, because the answer
// did not come, may have taken effect or not, once at most; what it was told is refused must not have.
//
// A read is answered by one node, which may be behind. It must give the balance at the height that it names, so
// it sees a prefix of the order (consistent prefix), and in the session of one client with one node heights never go
// back (monotonic reads) and are not below those of the client's own answered transactions (read your writes).
// Nothing promises that a read sees what another node has answered.
//
// At the end every node must hold the same balances, those of the replay.
//
// The package is public by path but promised nothing.
package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
)

// Kind says what a client did.
type Kind string

// The kinds of operations.
const (
	Transfer Kind = "transfer" // a transaction
	Query    Kind = "query"    // a transaction that reads a balance
	Read     Kind = "read"     // of one node's newest state
)

// Outcome says what a client knows of an operation.
type Outcome string

// The outcomes. Only done operations have a result.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused" // it has no effect and never will
	Unknown Outcome = "unknown"
)

// Operation is what a client did and saw. Accounts are numbers.
type Operation struct {
	Client   int           `json:"client"`
	Node     int           `json:"node"` // that answered
	Kind     Kind          `json:"kind"`
	ID       ledger.TxID   `json:"id,omitzero"`        // of a transaction
	From     int           `json:"from"`               // of a transfer; the account of a query or read
	To       int           `json:"to,omitempty"`       // of a transfer
	Amount   uint64        `json:"amount,omitempty"`   // of a transfer
	Invoked  time.Duration `json:"invoked"`            // since the history began, by one monotonic clock for all clients
	Returned time.Duration `json:"returned,omitempty"` // unless unknown
	Outcome  Outcome       `json:"outcome"`
	Height   ledger.Height `json:"height,omitempty"`
	Index    uint32        `json:"index,omitempty"` // in the block
	OK       bool          `json:"ok,omitempty"`    // the transfer had the units to move
	Units    uint64        `json:"units,omitempty"` // the answer to a query or read
}

// Position is a transaction's place in the chain.
type Position struct {
	Height ledger.Height
	Index  uint32
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Height, q.Height), cmp.Compare(p.Index, q.Index))
}

// Entry is a transaction in the chain with its result.
type Entry struct {
	Position
	ID    ledger.TxID
	OK    bool
	Units uint64 // of a query
}

// History is what there is to check.
type History struct {
	Start      ledger.Height // height at which the history began
	Balances   []uint64      // of the accounts then
	Operations []Operation
	Chain      []Entry    // all transactions above Start, in order
	Final      [][]uint64 // of each node, the balances at the end
}

// Violation is a rule that did not hold.
type Violation struct {
	Rule   Rule   `json:"rule"`
	Detail string `json:"detail"`
}

// Rule is a property of histories.
type Rule string

// The rules.
const (
	Lost      Rule = "no acknowledged transaction is lost"
	Doubled   Rule = "no transaction takes effect twice"
	Ghost     Rule = "nothing takes effect that nobody sent, or that was refused"
	Result    Rule = "every answer follows from the order"
	Order     Rule = "what was answered comes before what began later"
	Prefix    Rule = "a read gives the balance at the height that it names"
	Session   Rule = "a session's heights never go back"
	Sum       Rule = "the sum of balances is constant"
	Converged Rule = "all nodes end with the same balances"
)

// Rules lists all rules.
func Rules() []Rule {
	return []Rule{Lost, Doubled, Ghost, Result, Order, Prefix, Session, Sum, Converged}
}

// maxViolations is how many are told: one cause often breaks a rule thousands of times.
const maxViolations = 100

// checker replays a history.
type checker struct {
	*History
	sent  map[ledger.TxID]*Operation
	place map[ledger.TxID]Position
	found []Violation
}

// Check returns the violations, at most 100.
func (h *History) Check() []Violation {
	c := &checker{History: h, sent: map[ledger.TxID]*Operation{}, place: map[ledger.TxID]Position{}}
	for i := range h.Operations {
		if o := &h.Operations[i]; o.Kind != Read {
			c.sent[o.ID] = o
		}
	}
	balances := c.replay()
	c.acknowledged()
	c.realTime()
	c.sessions()
	c.final(balances)
	return c.found
}

func (c *checker) report(r Rule, format string, args ...any) {
	if len(c.found) < maxViolations {
		c.found = append(c.found, Violation{r, fmt.Sprintf(format, args...)})
	}
}

// replay executes the chain on the model and compares results, those of reads included. It returns the balances at
// the end.
func (c *checker) replay() []uint64 {
	balances := slices.Clone(c.Balances)
	var reads []*Operation
	for i := range c.Operations {
		if o := &c.Operations[i]; o.Kind == Read && o.Outcome == Done {
			reads = append(reads, o)
		}
	}
	slices.SortStableFunc(reads, func(a, b *Operation) int { return cmp.Compare(a.Height, b.Height) })
	// Reads at a height come when all its transactions have been executed. None may be answered before what it saw
	// was sent.
	latest := time.Duration(0) // that anything executed so far was sent
	read := func(below ledger.Height) {
		for ; len(reads) > 0 && reads[0].Height < below; reads = reads[1:] {
			switch o := reads[0]; {
			case o.Units != balances[o.From]:
				c.report(Prefix, "client %d read %d units of account %d from node %d at height %d, where it has %d", o.Client, o.Units, o.From, o.Node, o.Height, balances[o.From])
			case o.Returned < latest:
				c.report(Prefix, "client %d read at height %d from node %d before a transaction up to there was sent", o.Client, o.Height, o.Node)
			}
		}
	}
	for _, e := range c.Chain {
		read(e.Height)
		o := c.sent[e.ID]
		if first, again := c.place[e.ID]; again {
			c.report(Doubled, "transaction %s is at height %d index %d and again at height %d index %d", e.ID, first.Height, first.Index, e.Height, e.Index)
		} else {
			c.place[e.ID] = e.Position
		}
		switch {
		case o == nil:
			c.report(Ghost, "nobody sent transaction %s at height %d index %d", e.ID, e.Height, e.Index)
			continue
		case o.Outcome == Refused:
			c.report(Ghost, "transaction %s was refused and is at height %d index %d", e.ID, e.Height, e.Index)
		}
		latest = max(latest, o.Invoked)
		ok, units := true, uint64(0)
		if o.Kind == Query {
			units = balances[o.From]
		} else if ok = balances[o.From] >= o.Amount; ok {
			balances[o.From] -= o.Amount
			balances[o.To] += o.Amount
		}
		if e.OK != ok || e.Units != units {
			c.report(Result, "%s %s at height %d index %d gave %t %d, and by the order it gives %t %d", o.Kind, e.ID, e.Height, e.Index, e.OK, e.Units, ok, units)
		}
		if o.Outcome == Done && (o.OK != e.OK || o.Units != e.Units) {
			c.report(Result, "client %d was told %t %d of %s %s, which gave %t %d", o.Client, o.OK, o.Units, o.Kind, e.ID, e.OK, e.Units)
		}
	}
	tip := c.Start
	if n := len(c.Chain); n > 0 {
		tip = c.Chain[n-1].Height
	}
	read(tip + 1)
	for _, o := range reads {
		c.report(Prefix, "client %d read at height %d from node %d, and the chain ends at %d", o.Client, o.Height, o.Node, tip)
	}
	return balances
}

// acknowledged checks that what clients were told is final is where they were told.
func (c *checker) acknowledged() {
	for i := range c.Operations {
		o := &c.Operations[i]
		if o.Kind == Read || o.Outcome != Done {
			continue
		}
		at, ok := c.place[o.ID]
		switch told := (Position{o.Height, o.Index}); {
		case !ok:
			c.report(Lost, "%s %s was acknowledged at height %d index %d by node %d and is in no block", o.Kind, o.ID, o.Height, o.Index, o.Node)
		case at != told:
			c.report(Lost, "%s %s was acknowledged at height %d index %d by node %d and is at height %d index %d", o.Kind, o.ID, o.Height, o.Index, o.Node, at.Height, at.Index)
		}
	}
}

// realTime checks that of two transactions of which one was answered before the other was sent, that one is first.
func (c *checker) realTime() {
	var sorted []*Operation
	for i := range c.Operations {
		if o := &c.Operations[i]; o.Kind != Read {
			if _, ok := c.place[o.ID]; ok {
				sorted = append(sorted, o)
			}
		}
	}
	slices.SortFunc(sorted, func(a, b *Operation) int { return c.place[a.ID].compare(c.place[b.ID]) })
	var last *Operation // of those before, the one that was sent last
	for _, o := range sorted {
		returned := o.Returned
		if o.Outcome != Done {
			returned = math.MaxInt64
		}
		if last != nil && returned < last.Invoked {
			c.report(Order, "%s %s was answered after %v, and comes behind %s, which was sent after %v", o.Kind, o.ID, returned, last.ID, last.Invoked)
		}
		if last == nil || o.Invoked > last.Invoked {
			last = o
		}
	}
}

// sessions checks that no client sees a node go back.
func (c *checker) sessions() {
	type session struct{ client, node int }
	seen := map[session]*Operation{}
	sorted := make([]*Operation, 0, len(c.Operations))
	for i := range c.Operations {
		if o := &c.Operations[i]; o.Outcome == Done {
			sorted = append(sorted, o)
		}
	}
	slices.SortStableFunc(sorted, func(a, b *Operation) int { return cmp.Compare(a.Returned, b.Returned) })
	for _, o := range sorted {
		key := session{o.Client, o.Node}
		last := seen[key]
		if o.Kind == Read && last != nil && o.Invoked >= last.Returned && o.Height < last.Height {
			c.report(Session, "client %d read from node %d at height %d after the same node had shown it height %d", o.Client, o.Node, o.Height, last.Height)
		}
		if last == nil || o.Height > last.Height {
			seen[key] = o
		}
	}
}

// final compares the nodes' balances with those of the replay.
func (c *checker) final(replayed []uint64) {
	want := sum(c.Balances)
	for n, balances := range c.Final {
		if got := sum(balances); got != want {
			c.report(Sum, "node %d ends with %d units in all, and there were %d", n, got, want)
		}
		for i, units := range balances {
			if i >= len(replayed) || units != replayed[i] {
				c.report(Converged, "node %d ends with %d units in account %d, and by the order it has %d", n, units, i, replayed[min(i, len(replayed)-1)])
				break
			}
		}
	}
}

func sum(balances []uint64) (total uint64) {
	for _, b := range balances {
		total += b
	}
	return total
}
