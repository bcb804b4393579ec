package ledger

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

// chunk returns the chunk of the subtree at a prefix of the tree over a world, the naive way.
func (t stateTree) chunk(s keys.Suite, world map[string]string, prefix keys.Digest, depth int) StateChunk {
	c := StateChunk{Version: Version, Prefix: prefix, Depth: uint16(depth)}
	for at := range depth {
		left, right := t.split(at)
		if StateBit(prefix, at) == 0 {
			c.Siblings, t = append(c.Siblings, right.root(s, at+1)), left
		} else {
			c.Siblings, t = append(c.Siblings, left.root(s, at+1)), right
		}
	}
	slices.Reverse(c.Siblings)
	for _, e := range t {
		for key, value := range world {
			if StatePath(s, []byte(key)) == e.Path {
				c.Entries = append(c.Entries, StatePair{Key: []byte(key), Value: []byte(value)})
			}
		}
	}
	return c
}

// chunks returns chunks of the whole world, none deeper than it must be for at most limit keys.
func (t stateTree) chunks(s keys.Suite, world map[string]string, limit int) []StateChunk {
	var all []StateChunk
	var walk func(sub stateTree, prefix keys.Digest, depth int)
	walk = func(sub stateTree, prefix keys.Digest, depth int) {
		if len(sub) <= limit {
			all = append(all, t.chunk(s, world, prefix, depth))
			return
		}
		left, right := sub.split(depth)
		walk(left, prefix, depth+1)
		prefix[depth/8] |= 1 << (7 - depth%8)
		walk(right, prefix, depth+1)
	}
	walk(t, keys.Digest{}, 0)
	return all
}

func TestStateChunk(t *testing.T) {
	f := newFixture(t)
	s := f.suite
	for _, limit := range []int{16, 20, 1000} {
		tree := newStateTree(s, f.world)
		root := tree.root(s, 0)
		found := map[string]string{}
		var next keys.Digest
		more := true
		all := tree.chunks(s, f.world, limit)
		for i := range all {
			c := &all[i]
			if err := c.Verify(s, root); err != nil {
				t.Fatalf("limit %d: chunk %d at depth %d: %v", limit, i, c.Depth, err)
			}
			if c.Prefix != next || !more {
				t.Fatalf("limit %d: chunk %d begins at %s, want %s", limit, i, c.Prefix, next)
			}
			next, more = c.Next()
			for _, e := range c.Entries {
				found[string(e.Key)] = string(e.Value)
			}
		}
		if more || !maps.Equal(found, f.world) {
			t.Errorf("limit %d: the chunks hold %d keys, want %d, and more is %t", limit, len(found), len(f.world), more)
		}
	}
	empty := StateChunk{Version: Version}
	if err := empty.Verify(s, keys.Digest{}); err != nil {
		t.Errorf("no keys under no root: %v", err)
	}
}

// TestStateChunkRefused changes a chunk in the ways in which it could lie.
func TestStateChunkRefused(t *testing.T) {
	f := newFixture(t)
	s := f.suite
	tree := newStateTree(s, f.world)
	root := tree.root(s, 0)
	all := tree.chunks(s, f.world, 20)
	at := slices.IndexFunc(all, func(c StateChunk) bool { return c.Depth > 0 && len(c.Entries) > 2 })
	good := all[at]
	for _, tt := range []struct {
		name   string
		change func(c *StateChunk)
	}{
		{"a missing key", func(c *StateChunk) { c.Entries = c.Entries[1:] }},
		{"no keys", func(c *StateChunk) { c.Entries = nil }},
		{"another value", func(c *StateChunk) { c.Entries[1].Value = append([]byte("x"), c.Entries[1].Value...) }},
		{"another key", func(c *StateChunk) { c.Entries[1].Key = []byte("there is no such key") }},
		{"a key twice", func(c *StateChunk) { c.Entries = append(c.Entries[:2:2], c.Entries[1:]...) }},
		{"keys in another order", func(c *StateChunk) { c.Entries[0], c.Entries[1] = c.Entries[1], c.Entries[0] }},
		{"another prefix", func(c *StateChunk) { c.Prefix[0] ^= 0x80 }},
		{"a longer prefix", func(c *StateChunk) { c.Prefix[31] |= 1 }},
		{"a greater depth", func(c *StateChunk) { c.Depth++ }},
		{"a smaller depth", func(c *StateChunk) { c.Depth-- }},
		{"a depth that no tree has", func(c *StateChunk) { c.Depth, c.Siblings = StateDepth+1, make([]keys.Digest, StateDepth+1) }},
		{"another sibling", func(c *StateChunk) { c.Siblings[0][5] ^= 1 }},
		{"a sibling more", func(c *StateChunk) { c.Siblings = append(c.Siblings, keys.Digest{}) }},
		{"keys of the chunk beside it", func(c *StateChunk) { c.Entries = append(c.Entries, all[(at+1)%len(all)].Entries...) }},
	} {
		c := good
		c.Entries, c.Siblings = slices.Clone(good.Entries), slices.Clone(good.Siblings)
		tt.change(&c)
		if err := c.Verify(s, root); !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v, want ErrProof", tt.name, err)
		}
	}
	if _, err := DecodeStateChunk(make([]byte, MaxStateChunkSize+1)); !errors.Is(err, ErrProof) {
		t.Errorf("a chunk that is too large: %v, want ErrProof", err)
	}
	other := good
	other.Version++
	if _, err := DecodeStateChunk(encoded(t, &other)); !errors.Is(err, ErrProof) {
		t.Errorf("a chunk of another version: %v, want ErrProof", err)
	}
}

type chunkVector struct {
	Root   keys.Digest    `json:"root"`
	Chunks []encodedChunk `json:"chunks"`
}

type encodedChunk struct {
	Prefix   keys.Digest `json:"prefix"`
	Depth    uint16      `json:"depth"`
	Keys     int         `json:"keys"`
	Encoding octets      `json:"encoding"`
}

func TestGoldenStateChunks(t *testing.T) {
	onBothSuites(t, func(t *testing.T, f *fixture) {
		s := f.suite
		tree := newStateTree(s, f.world)
		v := chunkVector{Root: tree.root(s, 0)}
		for _, c := range tree.chunks(s, f.world, 16) {
			v.Chunks = append(v.Chunks, encodedChunk{c.Prefix, c.Depth, len(c.Entries), encoded(t, &c)})
		}
		golden(t, f.suite, "chunks", v)
		read := readGolden[chunkVector](t, f.suite, "chunks")
		count := 0
		for i, e := range read.Chunks {
			c, err := DecodeStateChunk(e.Encoding)
			if err == nil {
				err = c.Verify(s, read.Root)
			}
			if err != nil || len(c.Entries) != e.Keys || c.Prefix != e.Prefix || c.Depth != e.Depth {
				t.Errorf("chunk %d: %v", i, err)
				continue
			}
			count += e.Keys
		}
		if count != len(f.world) {
			t.Errorf("the chunks hold %d keys, want %d", count, len(f.world))
		}
	})
}

// FuzzStateChunk looks for a chunk that shows what is not so.
func FuzzStateChunk(f *testing.F) {
	x := newFixture(f)
	tree := newStateTree(x.suite, x.world)
	root := tree.root(x.suite, 0)
	for _, limit := range []int{16, 1000} {
		for _, c := range tree.chunks(x.suite, x.world, limit) {
			raw, err := Marshal(&c)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := DecodeStateChunk(raw)
		if err != nil {
			return
		}
		if next, more := c.Next(); more != !next.IsZero() {
			t.Errorf("%x: the next path is %s, and more is %t", raw, next, more)
		}
		if c.Verify(x.suite, root) != nil {
			return
		}
		there := 0
		for key, value := range x.world {
			if !samePrefix(StatePath(x.suite, []byte(key)), c.Prefix, int(c.Depth)) {
				continue
			}
			there++
			if !slices.ContainsFunc(c.Entries, func(e StatePair) bool { return string(e.Key) == key && string(e.Value) == value }) {
				t.Errorf("%x hides key %q", raw, key)
			}
		}
		if there != len(c.Entries) {
			t.Errorf("%x shows %d keys where there are %d", raw, len(c.Entries), there)
		}
	})
}
