package state_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestOverlay does random operations on overlays and on a map, and expects the same of both.
func TestOverlay(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		key := func() string { return fmt.Sprintf("k%03d", rng.IntN(1500)) }
		model := map[string]string{}
		var pairs []string
		for range 300 {
			k := key()
			model[k] = "base " + k
			pairs = append(pairs, k, model[k])
		}
		base := grow(t, state.Empty(suite), written(t, pairs...))
		var o *state.Overlay
		var under state.Reader = base
		if seed%2 == 1 { // an overlay on an overlay
			middle := state.NewOverlay(base)
			for range 50 {
				k := key()
				middle.Put([]byte(k), []byte("middle"))
				model[k] = "middle"
			}
			under = middle
		}
		o = state.NewOverlay(under)
		before := maps.Clone(model)
		touched := map[string]bool{}
		type mark struct {
			at      int
			model   map[string]string
			touched map[string]bool
		}
		var marks []mark
		for range 3000 {
			k := key()
			switch rng.IntN(12) {
			case 0, 1, 2:
				v := fmt.Sprint(rng.Uint32())
				o.Put([]byte(k), []byte(v))
				model[k], touched[k] = v, true
			case 3:
				o.Delete([]byte(k))
				delete(model, k)
				touched[k] = true
			case 4:
				marks = append(marks, mark{o.Savepoint(), maps.Clone(model), maps.Clone(touched)})
			case 5:
				if len(marks) > 0 {
					n := rng.IntN(len(marks))
					o.Rollback(marks[n].at)
					model, touched = marks[n].model, marks[n].touched
					marks = marks[:n]
				}
			case 6:
				start, end := key(), key()
				reverse := rng.IntN(2) == 0
				limit := rng.IntN(60)
				var got, want []string
				for e, err := range o.Range([]byte(start), []byte(end), reverse) {
					if err != nil {
						t.Fatal(err)
					}
					if len(got) == limit {
						break
					}
					got = append(got, string(e.Key)+"="+string(e.Value))
				}
				for _, k := range slices.Sorted(maps.Keys(model)) {
					if k >= start && k < end {
						want = append(want, k+"="+model[k])
					}
				}
				if reverse {
					slices.Reverse(want)
				}
				want = want[:min(len(want), limit)]
				if !slices.Equal(got, want) {
					t.Fatalf("seed %d: Range(%s, %s, %t) = %q, want %q", seed, start, end, reverse, got, want)
				}
			default:
				v, found, err := o.Get([]byte(k))
				want, there := model[k]
				if err != nil || found != there || string(v) != want {
					t.Fatalf("seed %d: Get(%s) = %q, %t, %v; want %q, %t", seed, k, v, found, err, want, there)
				}
			}
		}
		changes := o.Changes()
		if len(changes) != len(touched) || !slices.IsSortedFunc(changes, func(a, b ledger.Change) int { return slices.Compare(a.Key, b.Key) }) {
			t.Fatalf("seed %d: %d changes, want %d, sorted", seed, len(changes), len(touched))
		}
		for _, c := range changes {
			if c.Deleted {
				delete(before, string(c.Key))
			} else {
				before[string(c.Key)] = string(c.Value)
			}
		}
		if !maps.Equal(before, model) {
			t.Fatalf("seed %d: the changes do not lead from the base to the overlay", seed)
		}
		if got := state.NewOverlay(o); len(got.Changes()) != 0 {
			t.Error("a new overlay has changes")
		}
	}
}

// TestOverlayRangeWhileWriting scans and writes in turns, as a contract may.
func TestOverlayRangeWhileWriting(t *testing.T) {
	o := state.NewOverlay(state.Empty(suite))
	for i := range 20_000 {
		o.Put(fmt.Appendf(nil, "%05d", (i*7919)%20_000), []byte("x"))
		n := 0
		for range o.Range(nil, nil, i%2 == 0) {
			if n++; n == 3 {
				break
			}
		}
		if want := min(3, i+1); n != want {
			t.Fatalf("after %d writes Range gives %d keys, want %d", i+1, n, want)
		}
	}
	n, last := 0, ""
	for e := range o.Range(nil, nil, false) {
		if string(e.Key) <= last && n > 0 {
			t.Fatalf("%q comes after %q", e.Key, last)
		}
		last = string(e.Key)
		n++
	}
	if n != 20_000 {
		t.Errorf("Range gives %d keys, want 20000", n)
	}
}
