package ledger

import (
	"bytes"
	"fmt"
	"sort"

	"github.com/fondaco/fondaco/state/keys"
)

// MaxStateChunkSize bounds the encoding of a chunk in bytes. Who makes one closes it long before; but a bucket is never
// split, and each of its values may be a contract's module.
const MaxStateChunkSize = StateBucketSize*(MaxDeployTxSize+1<<10) + 1<<20

// StateChunk is a part of the world state that verifies alone: all keys whose paths begin with the first Depth bits of
// Prefix, with their values, and what leads from there to the state root. Chunks that begin where the one before ended,
// from the first to the last path, are the whole state. An empty subtree is a chunk without entries.
type StateChunk struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16
	Prefix   keys.Digest // zero from bit Depth on
	Depth    uint16
	Entries  []StatePair   // in rising order of path
	Siblings []keys.Digest // the other child at each level, from the chunk's own upwards; zero where it is empty
}

// StatePair is a key of the world state and its value.
type StatePair struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value []byte
}

// DecodeStateChunk reads a chunk from its canonical encoding. It checks the form only.
func DecodeStateChunk(raw []byte) (*StateChunk, error) {
	if len(raw) > MaxStateChunkSize {
		return nil, fmt.Errorf("%w: a chunk of %d bytes, at most %d", ErrProof, len(raw), MaxStateChunkSize)
	}
	var c StateChunk
	if err := Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.Version != Version {
		return nil, fmt.Errorf("%w: a chunk of version %d, want %d", ErrProof, c.Version, Version)
	}
	return &c, nil
}

// Verify checks that under root the keys below the chunk's prefix are those of the chunk, with its values, and no
// others. It fails with ErrProof.
func (c *StateChunk) Verify(s keys.Suite, root keys.Digest) error {
	depth := int(c.Depth)
	if depth > StateDepth || len(c.Siblings) != depth {
		return fmt.Errorf("%w: a chunk at depth %d with %d siblings", ErrProof, depth, len(c.Siblings))
	}
	for bit := depth; bit < StateDepth; bit++ {
		if StateBit(c.Prefix, bit) != 0 {
			return fmt.Errorf("%w: the chunk's prefix has more than %d bits", ErrProof, depth)
		}
	}
	hash := NewStateHasher(s)
	leaves := make([]stateLeaf, len(c.Entries))
	for i := range c.Entries {
		path := hash.Path(c.Entries[i].Key)
		switch {
		case !samePrefix(path, c.Prefix, depth):
			return fmt.Errorf("%w: key %x does not belong to the chunk", ErrProof, c.Entries[i].Key)
		case i > 0 && bytes.Compare(leaves[i-1].path[:], path[:]) >= 0:
			return fmt.Errorf("%w: paths in the chunk do not rise", ErrProof)
		}
		leaves[i] = stateLeaf{path, hash.Leaf(path, hash.Value(c.Entries[i].Value))}
	}
	h := subtreeHash(hash, leaves, depth)
	for i, sibling := range c.Siblings {
		if StateBit(c.Prefix, depth-1-i) == 0 {
			h = hash.Inner(h, sibling)
		} else {
			h = hash.Inner(sibling, h)
		}
	}
	if h != root {
		return fmt.Errorf("%w: the chunk leads to another root", ErrProof)
	}
	return nil
}

// Next returns the first path behind the chunk, and false if there is none: the chunk is the last.
func (c *StateChunk) Next() (path keys.Digest, more bool) {
	path = c.Prefix
	for bit := min(int(c.Depth), StateDepth) - 1; bit >= 0; bit-- {
		mask := byte(1) << (7 - bit%8)
		path[bit/8] ^= mask
		if path[bit/8]&mask != 0 {
			return path, true
		}
	}
	return keys.Digest{}, false
}

type stateLeaf struct{ path, digest keys.Digest }

// subtreeHash returns the digest of the subtree at depth that holds the leaves, which are in rising order of path.
func subtreeHash(hash *StateHasher, leaves []stateLeaf, depth int) keys.Digest {
	if len(leaves) == 0 {
		return keys.Digest{}
	}
	if len(leaves) <= StateBucketSize {
		for i := range leaves {
			hash.Add(leaves[i].digest)
		}
		return hash.Bucket()
	}
	at := sort.Search(len(leaves), func(i int) bool { return StateBit(leaves[i].path, depth) == 1 })
	left := subtreeHash(hash, leaves[:at], depth+1)
	return hash.Inner(left, subtreeHash(hash, leaves[at:], depth+1))
}
