package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// grow extends a snapshot by one block without transactions and with the given changes.
func grow(t testing.TB, sn *state.Snapshot, changes []ledger.Change) *state.Snapshot {
	t.Helper()
	order := ledger.Order{Version: ledger.Version, Group: "test", TxRoot: ledger.Root(suite, nil)}
	if h := sn.Header(); h != nil {
		order.Height, order.Parent = h.Order.Height+1, sn.OrderHash()
	}
	next, err := sn.Extend(&order, state.Result{Changes: changes})
	if err != nil {
		t.Fatalf("Extend: %v", err)
	}
	return next
}

// written returns the changes that give keys their values, or take them away where the value is "-".
func written(t testing.TB, pairs ...string) []ledger.Change {
	t.Helper()
	o := state.NewOverlay(state.Empty(suite))
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "-" {
			o.Delete([]byte(pairs[i]))
		} else {
			o.Put([]byte(pairs[i]), []byte(pairs[i+1]))
		}
	}
	return o.Changes()
}

// TestHistoryIndependence comes to the same set of keys on different ways, by inserts and deletes in blocks of
// random size, and expects the root that the definition gives.
func TestHistoryIndependence(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 33, 200, 1500} {
		t.Run(fmt.Sprintf("%d keys", n), func(t *testing.T) {
			model := map[string]string{}
			for i := range n {
				model[fmt.Sprintf("key %d", i)] = fmt.Sprintf("value %d", i)
			}
			want := naiveRoot(model)
			for seed := range uint64(4) {
				rng := rand.New(rand.NewPCG(seed, 3))
				var steps []string // pairs; keys that must go are put first and deleted later
				for _, i := range rng.Perm(n) {
					k := fmt.Sprintf("key %d", i)
					if rng.IntN(2) == 0 {
						steps = append(steps, k, "another value")
					}
					steps = append(steps, k, model[k])
				}
				var extra []string
				for i := range n/2 + 40 {
					k := fmt.Sprintf("extra %d", i)
					at := 2 * rng.IntN(len(steps)/2+1)
					steps = append(steps[:at:at], append([]string{k, "x"}, steps[at:]...)...)
					extra = append(extra, k, "-")
				}
				steps = append(steps, extra...)
				sn := state.Empty(suite)
				for len(steps) > 0 {
					m := min(len(steps), 2*(1+rng.IntN(n+20)))
					sn = grow(t, sn, written(t, steps[:m]...))
					steps = steps[m:]
				}
				if sn.Root() != want || sn.Len() != n {
					t.Errorf("seed %d: root %s of %d keys, want %s of %d", seed, sn.Root(), sn.Len(), want, n)
				}
			}
		})
	}
}

// TestWorkers makes the same blocks with one goroutine for hashing and with up to eight.
func TestWorkers(t *testing.T) {
	const blocks, names = 5, 2500
	var want []keys.Digest // block hashes
	for workers := 1; workers <= 8; workers++ {
		// Some buckets are in the table when they change, and some in memory.
		s := open(t, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true, Recent: 1, FlushBlocks: 1, Workers: workers})
		rng := rand.New(rand.NewPCG(1, 1))
		model := map[string]string{}
		parent := state.Empty(suite)
		for h := range blocks {
			var pairs []string
			for _, i := range rng.Perm(names)[:rng.IntN(names)] {
				key, value := fmt.Sprintf("key %d", i), fmt.Sprintf("value %d", rng.IntN(1000))
				if _, there := model[key]; there && rng.IntN(3) == 0 || h == blocks-1 && i%50 != 0 {
					value = "-"
				}
				if pairs = append(pairs, key, value); value == "-" {
					delete(model, key)
				} else {
					model[key] = value
				}
			}
			next := grow(t, parent, written(t, pairs...))
			if err := s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next); err != nil {
				t.Fatal(err)
			}
			parent = s.Head()
			if workers == 1 {
				if want = append(want, parent.Hash()); parent.Root() != naiveRoot(model) {
					t.Fatalf("block %d: the root is not that of the definition", h)
				}
			} else if parent.Hash() != want[h] {
				t.Fatalf("block %d with %d workers: %s, want %s as with one", h, workers, parent.Hash(), want[h])
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProve(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		s := open(t, dir, o)
		c := newChain(5)
		for range 12 {
			c.commit(t, s)
		}
		// After Close all is in the state table, and then some of it in memory again.
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, o)
		c.commit(t, s)
		sn := s.Head()
		present, absent := 0, 0
		for n := range c.keys {
			for ns := range byte(3) {
				key := fmt.Appendf(bytes.Repeat([]byte{ns}, ledger.AddressSize), "key %d", n)
				value, found := c.model[string(key)]
				proof, err := sn.Prove(key)
				if err != nil {
					t.Fatalf("Prove(%q): %v", key, err)
				}
				if err := proof.Verify(suite, sn.Root(), key, []byte(value), found); err != nil {
					t.Fatalf("proof for %q (present: %t): %v", key, found, err)
				}
				if err := proof.Verify(suite, sn.Root(), key, []byte(value+"x"), true); err == nil {
					t.Fatalf("the proof for %q holds for another value too", key)
				}
				if found {
					present++
					err = proof.Verify(suite, sn.Root(), key, nil, false)
				} else {
					absent++
					err = proof.Verify(suite, sn.Root(), key, nil, true)
				}
				if err == nil {
					t.Fatalf("the proof for %q (present: %t) shows the contrary too", key, found)
				}
			}
		}
		if present < 50 || absent < 50 {
			t.Errorf("%d keys were present and %d absent: too few to mean anything", present, absent)
		}
	})
}

// TestProveBitFlips changes every bit of a proof in turn.
func TestProveBitFlips(t *testing.T) {
	var pairs []string
	for i := range 300 {
		pairs = append(pairs, fmt.Sprintf("key %d", i), fmt.Sprintf("value %d", i))
	}
	sn := grow(t, state.Empty(suite), written(t, pairs...))
	for _, key := range []string{"key 7", "no such key"} {
		value, found, err := sn.Get([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		proof, err := sn.Prove([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		flips := 0
		flip := func(d *keys.Digest) {
			for bit := range 8 * keys.DigestSize {
				d[bit/8] ^= 1 << (bit % 8)
				if err := proof.Verify(suite, sn.Root(), []byte(key), value, found); !errors.Is(err, ledger.ErrProof) {
					t.Errorf("%s: with bit %d changed, Verify gives %v", key, bit, err)
				}
				d[bit/8] ^= 1 << (bit % 8)
				flips++
			}
		}
		for i := range proof.Leaves {
			flip(&proof.Leaves[i])
		}
		for i := range proof.Siblings {
			flip(&proof.Siblings[i])
		}
		for i := range proof.Entries {
			flip(&proof.Entries[i].Path)
			flip(&proof.Entries[i].Value)
		}
		if err := proof.Verify(suite, sn.Root(), []byte(key), value, found); err != nil || flips == 0 {
			t.Errorf("%s: after %d changes taken back: %v", key, flips, err)
		}
	}
}

func TestExtend(t *testing.T) {
	t.Run("two blocks on one parent do not see each other", func(t *testing.T) {
		base := grow(t, state.Empty(suite), written(t, "a", "1", "b", "2"))
		left, right := grow(t, base, written(t, "a", "left")), grow(t, base, written(t, "a", "-", "c", "right"))
		mustHold(t, base, map[string]string{"a": "1", "b": "2"})
		mustHold(t, left, map[string]string{"a": "left", "b": "2"})
		mustHold(t, right, map[string]string{"b": "2", "c": "right"})
	})
	t.Run("what does not fit is refused", func(t *testing.T) {
		base := grow(t, state.Empty(suite), written(t, "a", "1"))
		good := ledger.Order{Version: 1, Group: "test", Height: 1, Parent: base.OrderHash()}
		for name, change := range map[string]func(*ledger.Order, *state.Result){
			"a height that does not follow":  func(o *ledger.Order, _ *state.Result) { o.Height = 2 },
			"another parent":                 func(o *ledger.Order, _ *state.Result) { o.Parent[0] ^= 1 },
			"another chain":                  func(o *ledger.Order, _ *state.Result) { o.Chain[0] ^= 1 },
			"a receipt without transaction":  func(_ *ledger.Order, r *state.Result) { r.Receipts = make([]ledger.Receipt, 1) },
			"a key that is written twice":    func(_ *ledger.Order, r *state.Result) { r.Changes = append(r.Changes, r.Changes[0]) },
			"changes that are not sorted":    func(_ *ledger.Order, r *state.Result) { r.Changes[0].Key = []byte("z") },
			"a deletion that leaves a value": func(_ *ledger.Order, r *state.Result) { r.Changes[0].Deleted = true },
		} {
			order, result := good, state.Result{Changes: written(t, "a", "1", "b", "2")}
			change(&order, &result)
			if _, err := base.Extend(&order, result); !errors.Is(err, state.ErrExtend) {
				t.Errorf("%s: Extend gives %v, want ErrExtend", name, err)
			}
		}
		if _, err := base.Extend(&good, state.Result{}); err != nil {
			t.Errorf("a block without transactions: %v", err)
		}
	})
	t.Run("an abandoned branch is pruned and never wrong", func(t *testing.T) {
		s := open(t, t.TempDir(), state.Options{Recent: 2, FlushBlocks: 1, Synchronous: true})
		c := newChain(9)
		c.keys = 2000
		for range 40 {
			c.commit(t, s)
		}
		_, branch, model := c.next(t, s.Head())
		pruned := false
		for range 12 {
			c.commit(t, s)
			for k, want := range model {
				got, found, err := branch.Get([]byte(k))
				switch {
				case errors.Is(err, state.ErrPruned):
					pruned = true
				case err != nil || !found || string(got) != want:
					t.Fatalf("Get(%q) on the branch = %q, %t, %v; want %q or ErrPruned", k, got, found, err, want)
				}
			}
		}
		if !pruned {
			t.Error("the branch was never pruned")
		}
	})
}
