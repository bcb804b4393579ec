package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// wide are integers at the ends of 64 bits with a sign, and above.
var wide = []string{
	"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff", "\x1b\x80\x00\x00\x00\x00\x00\x00\x00", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
	"\xc2\x49\x01" + zeros, "\xc2\x50\x80" + zeros + zeros[:7], "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff",
}

const zeros = "\x00\x00\x00\x00\x00\x00\x00\x00"

// TestAddWide tells which values an addition leaves as they are, and which are none to add to.
func TestAddWide(t *testing.T) {
	most := strings.Repeat("\xff", 16)
	for _, c := range []struct {
		story, value string
		done, denied bool
	}{
		{"the largest counter", "\x1b\x7f\xff\xff\xff\xff\xff\xff\xff", true, false},
		{"one more", "\x1b\x80" + zeros[:7], false, false},
		{"the largest of 64 bits", "\x1b" + most[:8], false, false},
		{"one of 65 bits", "\xc2\x49\x01" + zeros, false, false},
		{"the largest of 128 bits", "\xc2\x50" + most, false, false},
		{"one of 129 bits", "\xc2\x51\x01" + zeros + zeros, false, true},
		{"the smallest counter", "\x3b\x7f" + most[:7], true, false},
		{"one less", "\x3b\x80" + zeros[:7], false, true},
		{"a bignum below 0", "\xc3\x49\x01" + zeros, false, true},
		{"a bignum that is no integer of CBOR's", "\xc2\x48" + most[:8], false, true},
		{"a bignum that begins with 0", "\xc2\x4a\x00\x01" + zeros, false, true},
		{"a bignum with more behind it", "\xc2\x49\x01" + zeros + "\x00", false, true},
		{"an integer with more behind it", "\x1b\x80" + zeros, false, true},
		{"bytes", "\x49\x01" + zeros, false, true},
		{"a bignum's tag without a number", "\xc2", false, true},
		{"nothing", "", false, true},
		{"a number longer than it needs to be", "\x1b" + zeros, false, true},
	} {
		t.Run(c.story, func(t *testing.T) {
			base := grow(t, state.Empty(suite), written(t, "n", c.value))
			for name, o := range map[string]*state.Overlay{"serially": state.NewOverlay(base), "in layers": state.NewLayers(base, 0).Overlay()} {
				done, err := o.Add([]byte("n"), 0, math.MinInt64, math.MaxInt64)
				if done != c.done || errors.Is(err, state.ErrCounter) != c.denied {
					t.Errorf("%s: done %t, error %v; want %t, denied %t", name, done, err, c.done, c.denied)
				}
				if v, _, err := o.Get([]byte("n")); string(v) != c.value || err != nil {
					t.Errorf("%s: %x, %v", name, v, err)
				}
			}
		})
	}
}

// wander does what a transaction may do with an overlay. What comes next, and what is written, depends on all that it was
// shown before, which it returns.
func wander(t *testing.T, o *state.Overlay, seed uint64) string {
	var shown bytes.Buffer
	key := func(rng *rand.Rand) []byte { return fmt.Appendf(nil, "k%02d", rng.IntN(40)) }
	counter := func(rng *rand.Rand) []byte { return fmt.Appendf(nil, "k%02d", 10*rng.IntN(4)) }
	var marks []int
	for step := range 1 + int(seed%7) {
		h := fnv.New64a()
		h.Write(shown.Bytes())
		rng := rand.New(rand.NewPCG(seed, h.Sum64()+uint64(step)))
		switch rng.IntN(14) {
		case 0, 1:
			k := key(rng)
			v, found, err := o.Get(k)
			fmt.Fprintf(&shown, "get %s: %x %t %v\n", k, v, found, err)
		case 2, 3:
			o.Put(key(rng), fmt.Appendf(nil, "value %x", h.Sum64()))
		case 4:
			o.Delete(key(rng))
		case 5, 6, 7, 8: // counters meet other values now and then
			k := counter(rng)
			low, high := int64(-20), int64(20)
			if rng.IntN(4) == 0 {
				low, high = math.MinInt64, math.MaxInt64
			}
			done, err := o.Add(k, int64(rng.IntN(13)-6), low, high)
			if err != nil && !errors.Is(err, state.ErrCounter) {
				t.Fatal(err)
			}
			fmt.Fprintf(&shown, "add to %s: %t %v\n", k, done, err)
		case 9, 10:
			start, end := key(rng), key(rng)
			reverse, limit := rng.IntN(2) == 0, rng.IntN(6)
			if rng.IntN(4) == 0 {
				end = nil
			}
			seq := o.Walk(start, end, reverse)
			if rng.IntN(3) == 0 {
				seq = o.Range(start, end, reverse)
			}
			for e, err := range seq {
				if fmt.Fprintf(&shown, "walk: %s %x %t %v\n", e.Key, e.Value, e.Deleted, err); limit == 0 {
					break
				}
				limit--
			}
		case 11:
			marks = append(marks, o.Savepoint())
		case 12:
			if len(marks) > 0 {
				o.Rollback(marks[len(marks)-1])
				marks = marks[:len(marks)-1]
			}
		case 13: // what a contract does that reads and writes where an addition is not done
			o.Put(counter(rng), []byte(wide[rng.IntN(len(wide))]))
		}
	}
	o.Settle()
	return shown.String()
}

// TestLayers executes blocks of random transactions one after the other, and again each on what only some of those before it
// wrote, although the others have written by then. Where Commit takes that, it must have gone as it did in its turn.
func TestLayers(t *testing.T) {
	const txs = 30
	early, again := 0, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		var pairs []string
		for i := range 40 {
			switch rng.IntN(3) {
			case 0:
				pairs = append(pairs, fmt.Sprintf("k%02d", i), "base")
			case 1:
				pairs = append(pairs, fmt.Sprintf("k%02d", i), "\x05") // a counter
			case 2:
				if i%20 == 0 {
					pairs = append(pairs, fmt.Sprintf("k%02d", i), wide[rng.IntN(len(wide))])
				}
			}
		}
		base := grow(t, state.Empty(suite), written(t, pairs...))
		block := state.NewOverlay(base)
		layers := state.NewLayers(base, 0)
		var ahead [txs]*state.Overlay // each on the layers of some turn up to its own
		begin := make([]int, txs)
		for i := range begin {
			begin[i] = rng.IntN(i + 1)
		}
		for i := range txs {
			for later := i; later < txs; later++ {
				if begin[later] == i {
					ahead[later] = layers.Overlay()
				}
			}
			program := rng.Uint64()
			want := wander(t, block, program)
			got := wander(t, ahead[i], program)
			if layers.Commit(ahead[i]) {
				early++
			} else {
				again++
				o := layers.Overlay()
				got = wander(t, o, program)
				if !layers.Commit(o) {
					t.Fatalf("seed %d: transaction %d does not hold on the layers on which it was executed", seed, i)
				}
			}
			if got != want {
				t.Fatalf("seed %d: transaction %d was shown\n%swant\n%s", seed, i, got, want)
			}
		}
		if got, want := layers.Changes(), block.Changes(); !sameChanges(got, want) {
			t.Fatalf("seed %d: changes %v, want %v", seed, got, want)
		}
	}
	if early < again/4 || again < early/4 {
		t.Errorf("%d transactions held, %d did not: the test looks at one case only", early, again)
	}
}

func sameChanges(a, b []ledger.Change) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Key, b[i].Key) || !bytes.Equal(a[i].Value, b[i].Value) || a[i].Deleted != b[i].Deleted {
			return false
		}
	}
	return true
}

// TestConflicts tells what two transactions can do beside one another.
func TestConflicts(t *testing.T) {
	add := func(key string, delta, low, high int64) func(*state.Overlay) {
		return func(o *state.Overlay) {
			if _, err := o.Add([]byte(key), delta, low, high); err != nil && !errors.Is(err, state.ErrCounter) {
				t.Fatal(err)
			}
		}
	}
	get := func(key string) func(*state.Overlay) {
		return func(o *state.Overlay) {
			if _, _, err := o.Get([]byte(key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(key, value string) func(*state.Overlay) {
		return func(o *state.Overlay) { o.Put([]byte(key), []byte(value)) }
	}
	remove := func(key string) func(*state.Overlay) {
		return func(o *state.Overlay) { o.Delete([]byte(key)) }
	}
	walk := func(start, end string, reverse bool, most int) func(*state.Overlay) {
		return func(o *state.Overlay) {
			n := 0
			for _, err := range o.Walk([]byte(start), []byte(end), reverse) {
				if n++; err != nil || n == most {
					break
				}
			}
		}
	}
	all := func(parts ...func(*state.Overlay)) func(*state.Overlay) {
		return func(o *state.Overlay) {
			for _, part := range parts {
				part(o)
			}
		}
	}
	undone := func(part func(*state.Overlay)) func(*state.Overlay) {
		return func(o *state.Overlay) {
			mark := o.Savepoint()
			part(o)
			o.Rollback(mark)
		}
	}
	for _, s := range []struct {
		story         string
		first, second func(*state.Overlay)
		holds         bool
	}{
		{"reads of one key", get("b"), get("b"), true},
		{"a read of what was written", put("b", "x"), get("b"), false},
		{"a read of what was written and is the same", put("b", "base"), get("b"), true},
		{"a read of what was taken away", remove("b"), get("b"), false},
		{"a read of what was not there and taken away", remove("q"), get("q"), true},
		{"a read of what was not there and is now", put("q", "x"), get("q"), false},
		{"writes of one key", put("b", "x"), put("b", "y"), true},
		{"a read that comes after an own write", put("b", "x"), all(put("b", "y"), get("b")), true},
		{"a range with a new key", put("bb", "x"), walk("a", "d", false, 0), false},
		{"a range with a key that was not there and was taken away", remove("bb"), walk("a", "d", false, 0), false},
		{"a range beside a new key", put("dd", "x"), walk("a", "d", false, 0), true},
		{"a range without an entry", put("qq", "x"), walk("q", "r", false, 0), false},
		{"the part of a range before a new key", put("bb", "x"), walk("a", "d", false, 2), true},
		{"the part of a range with the new key", put("bb", "x"), walk("a", "d", false, 3), false},
		{"the part of a range that ends at the key", put("b", "x"), walk("a", "d", false, 2), false},
		{"the last part of a range after a new key", put("bb", "x"), walk("a", "d", true, 1), true},
		{"the last part of a range that ends at the key", put("c", "x"), walk("a", "d", true, 1), false},
		{"the last part of a range with the new key", put("bb", "x"), walk("a", "d", true, 2), false},
		{"a range over an own write, of a key that was written", put("bb", "x"), all(put("bb", "y"), walk("a", "d", false, 0)), false},
		{"additions to one counter", add("n", 3, 0, 100), add("n", 4, 0, 100), true},
		{"additions to one counter that was not there", add("m", 3, 0, 100), add("m", 4, 0, 100), true},
		{"an addition that ends otherwise", add("n", 3, 0, 100), add("n", 4, 0, 11), false},
		{"an addition that just does not", add("n", 2, 0, 100), add("n", 4, 0, 11), true},
		{"a subtraction that ends otherwise", add("n", -3, 0, 100), add("n", -3, 0, 100), false},
		{"additions of which the sum could not be", add("n", math.MaxInt64-5, 0, math.MaxInt64), add("n", 1, 0, math.MaxInt64), false},
		{"additions as large as can be", add("n", math.MaxInt64-5, 0, math.MaxInt64), add("n", 0, math.MinInt64, math.MaxInt64), true},
		{"an addition that was refused, of a counter that changed", add("n", 1, 0, 100), add("n", 4, 0, 8), false},
		{"an addition that was undone, and ends otherwise", add("n", 3, 0, 100), undone(add("n", 4, 0, 11)), false},
		{"an addition, and a look at the sum", add("n", 3, 0, 100), all(add("n", 4, 0, 100), get("n")), false},
		{"an addition, and a range over the sum", add("n", 3, 0, 100), all(add("n", 4, 0, 100), walk("m", "o", false, 0)), false},
		{"an addition after a look", add("n", 3, 0, 100), all(get("n"), add("n", 4, 0, 100)), false},
		{"an addition to a counter that is no more", put("n", "x"), add("n", 4, 0, 100), false},
		{"an addition to a counter that grew too large", put("n", wide[1]), add("n", 4, 0, 100), false},
		{"an addition to what is too large, and still is", put("b", "x"), add("w", 4, 0, 100), true},
		{"an addition to what was too large", put("w", "\x07"), add("w", 4, 0, 100), false},
		{"an addition to a counter that was taken away", remove("n"), add("n", 4, 0, 100), true},
	} {
		t.Run(s.story, func(t *testing.T) {
			base := grow(t, state.Empty(suite), written(t, "a", "base", "b", "base", "c", "base", "n", "\x05", "w", wide[3], "z", "base"))
			layers := state.NewLayers(base, 0)
			first, second, want := layers.Overlay(), layers.Overlay(), state.NewOverlay(base)
			s.first(first)
			s.second(second)
			s.first(want)
			if !layers.Commit(first) {
				t.Fatal("the first transaction does not hold")
			}
			if ok := layers.Commit(second); ok != s.holds {
				t.Fatalf("the second transaction holds: %t, want %t", ok, s.holds)
			}
			if s.holds {
				s.second(want)
			}
			if got := layers.Changes(); !sameChanges(got, want.Changes()) {
				t.Errorf("changes %v, want %v", got, want.Changes())
			}
		})
	}
}

// TestLayersSort has blocks of few and of many writes, whose keys the changes bring into order.
func TestLayersSort(t *testing.T) {
	base := state.Empty(suite)
	for _, writes := range []int{0, 1, 255, 256, 257, 5_000} {
		layers := state.NewLayers(base, writes)
		o, want := layers.Overlay(), state.NewOverlay(base)
		for _, key := range rand.New(rand.NewPCG(1, uint64(writes))).Perm(writes) {
			for _, to := range []*state.Overlay{o, want} {
				to.Put(fmt.Appendf(nil, "key %d", key), []byte{1})
			}
		}
		if !layers.Commit(o) {
			t.Fatal("the writes do not hold")
		}
		if got, want := layers.Changes(), want.Changes(); !sameChanges(got, want) || len(got) != writes {
			t.Errorf("%d writes: %d changes, want %d, or in another order", writes, len(got), len(want))
		}
	}
}
