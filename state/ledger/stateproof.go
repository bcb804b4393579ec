package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/fondaco/fondaco/state/keys"
)

// The state tree commits to the world state: a set of keys with their values. A key's place is its path, a
// digest read as 256 bits, most significant first. A subtree of at most StateBucketSize leaves is a bucket,
// hashed flat; a larger one is an inner node whose left child holds the paths with a 0 at its depth and whose
// right child those with a 1. So the tree depends on the set alone and not on how it came about, and most of
// its leaves need no node of their own. Each kind of node is hashed under its own tag; no node is the zero
// digest, which stands for the empty subtree.
const (
	StateBucketSize = 16
	StateDepth      = 8 * keys.DigestSize // levels that a tree can have
)

const (
	tagStatePath   = 0
	tagStateLeaf   = 1
	tagStateValue  = 2
	tagStateBucket = 3
	tagStateInner  = 4
)

// StatePath returns the path of a key of the world state: H(0x00 ‖ n ‖ namespace ‖ rest). The namespace is the
// address that the key begins with, so n is 20; a key that is shorter is all namespace.
func StatePath(s keys.Suite, key []byte) keys.Digest {
	h := pathHashers.Get().(*StateHasher)
	defer pathHashers.Put(h)
	h.suite = s
	return h.Path(key)
}

// pathHashers are kept because every read of the state takes one.
var pathHashers = sync.Pool{New: func() any { return new(StateHasher) }}

// StateValue returns the digest of a value: H(0x02 ‖ value).
func StateValue(s keys.Suite, value []byte) keys.Digest { return NewStateHasher(s).Value(value) }

// StateLeaf returns the digest of a leaf: H(0x01 ‖ path ‖ value), where value is what StateValue returns.
func StateLeaf(s keys.Suite, path, value keys.Digest) keys.Digest {
	return NewStateHasher(s).Leaf(path, value)
}

// StateBucket returns the digest of a bucket: H(0x03 ‖ n ‖ leaves). leaves are the n digests of its leaves
// in rising order of their paths, at most StateBucketSize. It returns the zero digest for none.
func StateBucket(s keys.Suite, leaves []keys.Digest) keys.Digest {
	if len(leaves) == 0 {
		return keys.Digest{}
	}
	h := NewStateHasher(s)
	for i := range leaves {
		h.Add(leaves[i])
	}
	return h.Bucket()
}

// StateInner returns the digest of an inner node: H(0x04 ‖ left ‖ right). A child may be empty, and so zero.
func StateInner(s keys.Suite, left, right keys.Digest) keys.Digest {
	return NewStateHasher(s).Inner(left, right)
}

// StateHasher makes digests of the state tree one after the other without allocating, for who makes
// thousands. It is not safe for concurrent use.
type StateHasher struct {
	suite  keys.Suite
	tag    [2]byte
	pair   [1 + 2*keys.DigestSize]byte
	bucket []byte
	parts  [2][]byte
}

// NewStateHasher returns a hasher for the suite.
func NewStateHasher(s keys.Suite) *StateHasher { return &StateHasher{suite: s} }

// Fork returns another hasher for the same suite, for another goroutine.
func (h *StateHasher) Fork() *StateHasher { return NewStateHasher(h.suite) }

// Path is StatePath.
func (h *StateHasher) Path(key []byte) keys.Digest {
	h.tag = [2]byte{tagStatePath, byte(min(len(key), AddressSize))}
	return h.sum(h.tag[:], key)
}

// Value is StateValue.
func (h *StateHasher) Value(value []byte) keys.Digest {
	h.tag[0] = tagStateValue
	return h.sum(h.tag[:1], value)
}

// Leaf is StateLeaf.
func (h *StateHasher) Leaf(path, value keys.Digest) keys.Digest {
	return h.two(tagStateLeaf, path, value)
}

// Inner is StateInner.
func (h *StateHasher) Inner(left, right keys.Digest) keys.Digest {
	return h.two(tagStateInner, left, right)
}

// Add adds a leaf's digest to the bucket that Bucket will hash, in rising order of path.
func (h *StateHasher) Add(leaf keys.Digest) {
	if h.bucket == nil {
		h.bucket = make([]byte, 2, 2+StateBucketSize*keys.DigestSize)
	}
	h.bucket = append(h.bucket, leaf[:]...)
}

// Bucket returns the digest of the bucket with the leaves added since the last call, at least one; see
// StateBucket.
func (h *StateHasher) Bucket() keys.Digest {
	h.bucket[0], h.bucket[1] = tagStateBucket, byte(len(h.bucket)/keys.DigestSize)
	d := h.sum(h.bucket)
	h.bucket = h.bucket[:2]
	return d
}

func (h *StateHasher) two(tag byte, a, b keys.Digest) keys.Digest {
	h.pair[0] = tag
	copy(h.pair[1:], a[:])
	copy(h.pair[1+keys.DigestSize:], b[:])
	return h.sum(h.pair[:])
}

func (h *StateHasher) sum(parts ...[]byte) keys.Digest {
	n := copy(h.parts[:], parts)
	d := h.suite.Sum(h.parts[:n]...)
	h.parts = [2][]byte{}
	return d
}

// StateBit returns the bit of path that says which child of a node at depth holds it: 0 left, 1 right. The
// root is at depth 0.
func StateBit(path keys.Digest, depth int) byte { return path[depth/8] >> (7 - depth%8) & 1 }

// StateEntry is what a leaf of the state tree is made of.
type StateEntry struct {
	_     struct{}    `cbor:",toarray"`
	Path  keys.Digest // see StatePath
	Value keys.Digest // see StateValue
}

// StateProof shows that a key has a value under a state root, or that it has none. It holds the bucket that
// the key's path leads to and what is needed to come from there to the root. To show absence it reveals the
// paths in the bucket (none of which is the key's); for presence the leaves' digests are enough. An empty
// subtree on the way is a bucket without leaves.
type StateProof struct {
	_        struct{}      `cbor:",toarray"`
	Leaves   []keys.Digest // presence: the bucket's leaves, in rising order of path
	Entries  []StateEntry  // absence: what the bucket's leaves are made of, in rising order of path
	Siblings []keys.Digest // the other child at each level, from the bucket's upwards; zero where it is empty
}

// Verify checks that key has value under root, or, when present is false, that key has no value. value must
// then be empty. A present value may be empty too. It fails with ErrProof.
func (p *StateProof) Verify(s keys.Suite, root keys.Digest, key, value []byte, present bool) error {
	if len(p.Siblings) > StateDepth || len(p.Leaves) > StateBucketSize || len(p.Entries) > StateBucketSize {
		return fmt.Errorf("%w: bucket of %d and %d leaves at depth %d, at most %d and %d", ErrProof,
			len(p.Leaves), len(p.Entries), len(p.Siblings), StateBucketSize, StateDepth)
	}
	path := StatePath(s, key)
	leaves := p.Leaves
	if present {
		if len(p.Entries) != 0 {
			return fmt.Errorf("%w: it is made to show absence", ErrProof)
		}
		if !slices.Contains(p.Leaves, StateLeaf(s, path, StateValue(s, value))) {
			return fmt.Errorf("%w: the bucket does not hold the key with this value", ErrProof)
		}
	} else {
		if len(p.Leaves) != 0 || len(value) != 0 {
			return fmt.Errorf("%w: it is made to show presence, or there is a value whose absence it cannot show", ErrProof)
		}
		leaves = make([]keys.Digest, len(p.Entries))
		for i, e := range p.Entries {
			switch {
			case e.Path == path:
				return fmt.Errorf("%w: the bucket holds the key", ErrProof)
			case i > 0 && bytes.Compare(p.Entries[i-1].Path[:], e.Path[:]) >= 0:
				return fmt.Errorf("%w: paths in the bucket do not rise", ErrProof)
			case !samePrefix(path, e.Path, len(p.Siblings)):
				return fmt.Errorf("%w: a path does not belong to the bucket", ErrProof)
			}
			leaves[i] = StateLeaf(s, e.Path, e.Value)
		}
	}
	h := StateBucket(s, leaves)
	for i, sibling := range p.Siblings {
		if StateBit(path, len(p.Siblings)-1-i) == 0 {
			h = StateInner(s, h, sibling)
		} else {
			h = StateInner(s, sibling, h)
		}
	}
	if h != root {
		return fmt.Errorf("%w: the path leads to another root", ErrProof)
	}
	return nil
}

// samePrefix reports whether a and b agree in their first n bits.
func samePrefix(a, b keys.Digest, n int) bool {
	for depth := range n {
		if StateBit(a, depth) != StateBit(b, depth) {
			return false
		}
	}
	return true
}
