package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// seeded is a source of bytes that is the same in each run.
func seeded(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// stateTree is the state tree by its definition: the naive way, for tests.
type stateTree []StateEntry // in rising order of path

func newStateTree(s keys.Suite, world map[string]string) stateTree {
	var t stateTree
	for key, value := range world {
		t = append(t, StateEntry{Path: StatePath(s, []byte(key)), Value: StateValue(s, []byte(value))})
	}
	slices.SortFunc(t, func(a, b StateEntry) int { return bytes.Compare(a.Path[:], b.Path[:]) })
	return t
}

func (t stateTree) leaves(s keys.Suite) []keys.Digest {
	var leaves []keys.Digest
	for _, e := range t {
		leaves = append(leaves, StateLeaf(s, e.Path, e.Value))
	}
	return leaves
}

// split returns the children of the node at depth that holds t.
func (t stateTree) split(depth int) (left, right stateTree) {
	n := 0
	for n < len(t) && StateBit(t[n].Path, depth) == 0 {
		n++
	}
	return t[:n], t[n:]
}

func (t stateTree) root(s keys.Suite, depth int) keys.Digest {
	if len(t) <= StateBucketSize {
		return StateBucket(s, t.leaves(s))
	}
	left, right := t.split(depth)
	return StateInner(s, left.root(s, depth+1), right.root(s, depth+1))
}

func (t stateTree) prove(s keys.Suite, key []byte, present bool) StateProof {
	path := StatePath(s, key)
	var p StateProof
	depth := 0
	for ; len(t) > StateBucketSize; depth++ {
		left, right := t.split(depth)
		if StateBit(path, depth) == 0 {
			t, left = left, right
		} else {
			t = right
		}
		p.Siblings = append(p.Siblings, left.root(s, depth+1))
	}
	slices.Reverse(p.Siblings)
	if present {
		p.Leaves = t.leaves(s)
	} else {
		p.Entries = slices.Clone(t)
	}
	return p
}

func stateKey(i int) []byte {
	return append(bytes.Repeat([]byte{7}, AddressSize), fmt.Sprintf("balance/%d", i)...)
}

func TestStateProof(t *testing.T) {
	s := keystest.Suite()
	for _, size := range []int{0, 1, 2, 15, 16, 17, 33, 500} {
		t.Run(fmt.Sprintf("%d keys", size), func(t *testing.T) {
			world := make(map[string]string)
			for i := range size {
				world[string(stateKey(i))] = fmt.Sprint(i * i)
			}
			if size > 3 {
				world[string(stateKey(3))] = "" // a present value may be empty
			}
			tree := newStateTree(s, world)
			root := tree.root(s, 0)
			if size == 0 && !root.IsZero() {
				t.Errorf("root of the empty world = %s, want zero", root)
			}
			for i := range size + 20 {
				key := stateKey(i)
				value, present := world[string(key)]
				proof := tree.prove(s, key, present)
				if err := proof.Verify(s, root, key, []byte(value), present); err != nil {
					t.Fatalf("key %d: %v", i, err)
				}
				for name, err := range map[string]error{
					"the opposite":       proof.Verify(s, root, key, []byte(value), !present),
					"another value":      proof.Verify(s, root, key, []byte(value+"1"), present),
					"another root":       proof.Verify(s, keys.Digest{1}, key, []byte(value), present),
					"a key that is not":  proof.Verify(s, root, stateKey(100_000), []byte(value), true),
					"a cut-off address":  proof.Verify(s, root, key[:10], []byte(value), true),
					"a present key gone": proof.Verify(s, root, key, nil, !present),
				} {
					if !errors.Is(err, ErrProof) {
						t.Errorf("key %d shows %s: %v, want ErrProof", i, name, err)
					}
				}
			}
		})
	}
}

// TestStateProofNeighbours proves that keys are absent which are as near as possible to keys that are there: by
// their bytes, one the beginning of the other, and by their paths, many bits of which are the same.
func TestStateProofNeighbours(t *testing.T) {
	s := keystest.Suite()
	world := make(map[string]string)
	for i := range 300 {
		world[string(stateKey(i))] = fmt.Sprint(i)
	}
	tree := newStateTree(s, world)
	root := tree.root(s, 0)
	type pair struct {
		shared          int // leading bits of their paths
		absent, present []byte
	}
	var pairs []pair
	for i := range 300 {
		key := stateKey(i)
		for _, near := range [][]byte{append(slices.Clone(key), 0), append(slices.Clone(key), '0', '0', '0'), key[:len(key)-1], key[:AddressSize]} {
			if _, there := world[string(near)]; !there {
				pairs = append(pairs, pair{absent: near, present: key})
			}
		}
	}
	byPath := make(map[keys.Digest][]byte)
	for key := range world {
		byPath[StatePath(s, []byte(key))] = []byte(key)
	}
	var closest []pair
	for i := 1000; i < 9000; i++ {
		path := StatePath(s, stateKey(i))
		at, _ := slices.BinarySearchFunc(tree, path, func(e StateEntry, p keys.Digest) int { return bytes.Compare(e.Path[:], p[:]) })
		for _, e := range tree[max(0, at-1):min(len(tree), at+1)] {
			n := 0
			for StateBit(path, n) == StateBit(e.Path, n) {
				n++
			}
			closest = append(closest, pair{n, stateKey(i), byPath[e.Path]})
		}
	}
	slices.SortStableFunc(closest, func(a, b pair) int { return b.shared - a.shared })
	if closest[20].shared < 16 {
		t.Fatalf("the paths of the nearest keys share %d bits: too few to mean anything", closest[20].shared)
	}
	for _, p := range append(pairs, closest[:20]...) {
		absence, presence := tree.prove(s, p.absent, false), tree.prove(s, p.present, true)
		value := []byte(world[string(p.present)])
		if err := absence.Verify(s, root, p.absent, nil, false); err != nil {
			t.Fatalf("%q is absent: %v", p.absent, err)
		}
		if absence.Verify(s, root, p.present, nil, false) == nil {
			t.Errorf("the absence of %q shows that of %q, which is there", p.absent, p.present)
		}
		if presence.Verify(s, root, p.absent, value, true) == nil {
			t.Errorf("the presence of %q shows that of %q, which is not there", p.present, p.absent)
		}
	}
}

func TestStateProofChanged(t *testing.T) {
	s := keystest.Suite()
	world := make(map[string]string)
	for i := range 200 {
		world[string(stateKey(i))] = fmt.Sprint(i)
	}
	tree := newStateTree(s, world)
	root := tree.root(s, 0)
	for _, present := range []bool{true, false} {
		key, value := stateKey(5), []byte("5")
		if !present {
			key, value = stateKey(1000), nil
		}
		proof := tree.prove(s, key, present)
		raw, err := Marshal(&proof)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(fmt.Sprintf("present %t: every flipped bit fails", present), func(t *testing.T) {
			for bit := range len(raw) * 8 {
				changed := slices.Clone(raw)
				changed[bit/8] ^= 1 << (bit % 8)
				var p StateProof
				if Unmarshal(changed, &p) == nil && p.Verify(s, root, key, value, present) == nil {
					t.Fatalf("bit %d flipped: the proof still verifies", bit)
				}
			}
		})
	}
	t.Run("absence by leaving out the key's entry", func(t *testing.T) {
		key := stateKey(5)
		proof := tree.prove(s, key, false)
		if err := proof.Verify(s, root, key, nil, false); !errors.Is(err, ErrProof) {
			t.Errorf("with the entry: %v", err)
		}
		path := StatePath(s, key)
		proof.Entries = slices.DeleteFunc(proof.Entries, func(e StateEntry) bool { return e.Path == path })
		if err := proof.Verify(s, root, key, nil, false); !errors.Is(err, ErrProof) {
			t.Errorf("without the entry: %v", err)
		}
	})
	t.Run("absence by the bucket of another key", func(t *testing.T) {
		for i := 1000; i < 1100; i++ {
			other := tree.prove(s, stateKey(i), false)
			if other.Verify(s, root, stateKey(5), nil, false) == nil {
				t.Fatalf("the bucket of key %d shows that key 5 is absent", i)
			}
		}
	})
	t.Run("an inner node is no bucket, nor the reverse", func(t *testing.T) {
		left, right := tree.split(0)
		forged := StateProof{Leaves: []keys.Digest{left.root(s, 1), right.root(s, 1)}}
		if err := forged.Verify(s, root, stateKey(5), []byte("5"), true); !errors.Is(err, ErrProof) {
			t.Errorf("%v, want ErrProof", err)
		}
	})
	t.Run("sizes over the bounds", func(t *testing.T) {
		for _, p := range []StateProof{
			{Siblings: make([]keys.Digest, StateDepth+1)},
			{Leaves: make([]keys.Digest, StateBucketSize+1)},
			{Entries: make([]StateEntry, StateBucketSize+1)},
		} {
			for _, present := range []bool{true, false} {
				if err := p.Verify(s, root, stateKey(5), nil, present); !errors.Is(err, ErrProof) {
					t.Errorf("%v, want ErrProof", err)
				}
			}
		}
	})
}

func TestStatePathSeparatesNamespaces(t *testing.T) {
	s := keystest.Suite()
	address := bytes.Repeat([]byte{1}, AddressSize)
	want := s.Sum(slices.Concat([]byte{0, AddressSize}, address, []byte("k")))
	if got := StatePath(s, append(slices.Clone(address), 'k')); got != want {
		t.Errorf("StatePath = %s, want %s", got, want)
	}
	if StatePath(s, address[:19]) == StatePath(s, address) {
		t.Error("keys of different lengths share a path")
	}
}
