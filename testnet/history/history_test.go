package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
)

// honest returns the history of a bank that keeps all rules: three clients, four nodes, five accounts.
func honest(seed uint64) *History {
	rng := rand.New(rand.NewPCG(seed, 0))
	h := &History{Start: 7, Balances: []uint64{100, 100, 100, 100, 100}}
	balances := slices.Clone(h.Balances)
	at := map[ledger.Height][]uint64{7: slices.Clone(balances)}
	height, index := ledger.Height(8), uint32(0)
	seen := [3][4]ledger.Height{}
	for i := range 300 {
		now := time.Duration(i) * time.Millisecond
		o := Operation{
			Client: rng.IntN(3), Node: rng.IntN(4), Kind: Transfer, From: rng.IntN(5), To: rng.IntN(5), Amount: uint64(rng.IntN(90)),
			Invoked: now, Returned: now + 500*time.Microsecond, Outcome: Done, ID: ledger.TxID{byte(i), byte(i >> 8), 1},
		}
		o.Height, o.Index = height, index
		session := &seen[o.Client][o.Node]
		switch rng.IntN(6) {
		case 0:
			o.Kind, o.Units, o.OK = Query, balances[o.From], true
		case 1: // behind by a block at most
			o.Kind, o.ID, o.Index = Read, ledger.TxID{}, 0
			o.Height = max(height-1-ledger.Height(rng.IntN(2)), 7, *session)
			if at[o.Height] == nil {
				continue
			}
			o.Units = at[o.Height][o.From]
			*session = o.Height
			h.Operations = append(h.Operations, o)
			continue
		case 2:
			o.Outcome, o.Returned = Unknown, 0
		case 3:
			if o.Outcome = Refused; i%2 == 0 {
				h.Operations = append(h.Operations, o)
				continue
			}
			o.Outcome, o.Returned = Unknown, 0 // and not in the chain
			h.Operations = append(h.Operations, o)
			continue
		}
		e := Entry{Position: Position{height, index}, ID: o.ID, OK: true, Units: o.Units}
		if o.Kind == Transfer {
			if e.OK = balances[o.From] >= o.Amount; e.OK {
				balances[o.From] -= o.Amount
				balances[o.To] += o.Amount
			}
		}
		o.OK = e.OK
		if o.Outcome == Done {
			*session = max(*session, height)
		}
		h.Chain = append(h.Chain, e)
		h.Operations = append(h.Operations, o)
		if index++; rng.IntN(3) == 0 {
			at[height] = slices.Clone(balances)
			height, index = height+1, 0
		}
	}
	for range 4 {
		h.Final = append(h.Final, slices.Clone(balances))
	}
	return h
}

func TestHonest(t *testing.T) {
	for seed := range uint64(50) {
		if found := honest(seed).Check(); len(found) > 0 {
			t.Fatalf("seed %d: %v", seed, found[0])
		}
	}
}

// pick returns the n-th operation of a kind with an outcome that moved or answered something.
func (h *History) pick(t *testing.T, kind Kind, outcome Outcome, n int) *Operation {
	t.Helper()
	for i := range h.Operations {
		if o := &h.Operations[i]; o.Kind == kind && o.Outcome == outcome && (kind != Transfer || outcome == Refused || o.OK && o.Amount > 0 && o.From != o.To) {
			if n--; n < 0 {
				return o
			}
		}
	}
	t.Fatalf("the history has no such %s", kind)
	return nil
}

func (h *History) entry(o *Operation) int {
	return slices.IndexFunc(h.Chain, func(e Entry) bool { return e.ID == o.ID })
}

// TestPlanted plants one fault in an honest history: the rule that it breaks must be told.
func TestPlanted(t *testing.T) {
	for _, planted := range []struct {
		name  string
		rule  Rule
		plant func(*testing.T, *History)
	}{
		{"a lost transfer", Lost, func(t *testing.T, h *History) {
			i := h.entry(h.pick(t, Transfer, Done, 20))
			h.Chain = slices.Delete(h.Chain, i, i+1)
		}},
		{"a lost transfer at the very end, which no balance shows", Lost, func(t *testing.T, h *History) {
			o := h.pick(t, Transfer, Done, 0)
			id := ledger.TxID{9, 9, 9}
			h.Operations = append(h.Operations, Operation{Kind: Transfer, ID: id, Outcome: Done, Height: o.Height, Index: 99, Invoked: time.Hour, Returned: 2 * time.Hour})
		}},
		{"a transfer in another block than told", Lost, func(t *testing.T, h *History) { h.pick(t, Transfer, Done, 20).Height++ }},
		{"a doubled transfer", Doubled, func(t *testing.T, h *History) {
			e := h.Chain[h.entry(h.pick(t, Transfer, Done, 20))]
			e.Position = Position{h.Chain[len(h.Chain)-1].Height + 1, 0}
			h.Chain = append(h.Chain, e)
		}},
		{"a doubled transfer of which the client knows nothing", Doubled, func(t *testing.T, h *History) {
			e := h.Chain[h.entry(h.pick(t, Transfer, Unknown, 3))]
			e.Position = Position{h.Chain[len(h.Chain)-1].Height + 1, 0}
			h.Chain = append(h.Chain, e)
		}},
		{"a refused transfer that takes effect", Ghost, func(t *testing.T, h *History) {
			o := h.pick(t, Transfer, Refused, 3)
			h.Chain = append(h.Chain, Entry{Position: Position{h.Chain[len(h.Chain)-1].Height + 1, 0}, ID: o.ID, OK: true})
		}},
		{"a transfer out of nowhere", Ghost, func(_ *testing.T, h *History) {
			h.Chain = append(h.Chain, Entry{Position: Position{h.Chain[len(h.Chain)-1].Height + 1, 0}, ID: ledger.TxID{9, 9, 9}, OK: true})
		}},
		{"an overdraft that succeeds", Result, func(_ *testing.T, h *History) {
			i := slices.IndexFunc(h.Chain, func(e Entry) bool { return !e.OK })
			h.Chain[i].OK = true
		}},
		{"a query with a wrong answer", Result, func(t *testing.T, h *History) { h.pick(t, Query, Done, 5).Units++ }},
		{"an order against real time", Order, func(t *testing.T, h *History) {
			late := h.pick(t, Transfer, Done, 20)
			late.Returned -= 30 * time.Millisecond // the client had its answer before others that come first were sent
			late.Invoked -= 30 * time.Millisecond
		}},
		{"a stale read", Prefix, func(t *testing.T, h *History) {
			for i := range h.Operations { // the balance as it was before
				o := &h.Operations[i]
				if o.Kind == Read && o.Height > h.Start+5 && o.Units != h.Balances[o.From] {
					o.Units = h.Balances[o.From]
					return
				}
			}
			t.Fatal("no read to spoil")
		}},
		{"a read above the tip", Prefix, func(t *testing.T, h *History) { h.pick(t, Read, Done, 5).Height += 1000 }},
		{"a read of the future", Prefix, func(t *testing.T, h *History) {
			o := h.pick(t, Read, Done, 20)
			o.Invoked, o.Returned = 0, 1
		}},
		{"a session that goes back", Session, func(_ *testing.T, h *History) {
			last := h.Chain[len(h.Chain)-1].Height
			for i, height := range []ledger.Height{last, h.Start} {
				units := h.Balances[0]
				if height == last {
					units = h.Final[0][0]
				}
				h.Operations = append(h.Operations, Operation{
					Kind: Read, Client: 7, Height: height, Units: units, Outcome: Done,
					Invoked: time.Hour + time.Duration(i)*time.Minute, Returned: time.Hour + time.Duration(i)*time.Minute + 1,
				})
			}
		}},
		{"a client that does not read its own write", Session, func(t *testing.T, h *History) {
			o := h.pick(t, Transfer, Done, 40)
			h.Operations = append(h.Operations, Operation{
				Kind: Read, Client: o.Client, Node: o.Node, Height: h.Start, Units: h.Balances[0], Outcome: Done, Invoked: time.Hour, Returned: 2 * time.Hour,
			})
		}},
		{"a wrong sum", Sum, func(_ *testing.T, h *History) { h.Final[2][1]++ }},
		{"a node with other balances of the same sum", Converged, func(_ *testing.T, h *History) { h.Final[2][1]++; h.Final[2][0]-- }},
	} {
		t.Run(planted.name, func(t *testing.T) {
			h := honest(3)
			planted.plant(t, h)
			found := h.Check()
			if !slices.ContainsFunc(found, func(v Violation) bool { return v.Rule == planted.rule }) {
				t.Errorf("it was not told that %q is broken: %v", planted.rule, found)
			}
			if len(found) > maxViolations {
				t.Errorf("%d violations were told", len(found))
			}
		})
	}
}
