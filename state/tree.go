package state

import (
	"bytes"
	"cmp"
	"hash/crc32"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// node is a node of the bucketed binary radix tree that commits to the world state (see ledger.StateProof
// for its definition). Nodes are immutable, so that versions of the tree share them. The nil node is the
// empty subtree. A subtree of at most ledger.StateBucketSize leaves is a bucket; a larger one has two children.
//
// Nodes hold hashes only. The leaves of a bucket are in the state table, except in the buckets that changed
// since the table was written: those carry them until they are there too.
type node struct {
	hash        keys.Digest
	left, right *node
	leaves      atomic.Pointer[[]leaf] // of a bucket, sorted by path; nil: in the table
	count       uint32                 // leaves below
	sum         uint32                 // of a bucket: bucketSum of its leaves
}

func (n *node) bucket() bool { return n.count <= ledger.StateBucketSize }

func rootHash(n *node) keys.Digest {
	if n == nil {
		return keys.Digest{}
	}
	return n.hash
}

func size(n *node) int {
	if n == nil {
		return 0
	}
	return int(n.count)
}

// leaf is one key of the world state in the tree.
type leaf struct {
	path   keys.Digest
	digest keys.Digest
	change *ledger.Change // the write that made it; nil: the table has key and value
}

func compareLeaf(a, b *leaf) int { return bytes.Compare(a.path[:], b.path[:]) }

// editor makes a new version of a tree.
type editor struct {
	hash   *ledger.StateHasher
	table  *table                             // where the leaves of most buckets are; nil: nowhere
	view   func(f func(r reader) error) error // of the table
	reader reader                             // nil: none is open
	loaded [ledger.StateBucketSize]leaf       // what leavesOf read last
	fresh  []*node                            // buckets made
	made   int                                // nodes made
	read   int                                // leaves read from the table
}

// editsAtOnce is how few edits are not worth a goroutine of their own: hashing them takes some tenths of a millisecond.
const editsAtOnce = 64

// applyBy is apply by up to workers goroutines: one takes the left child and one the right, and so on down. What
// they make is the same for any number of them.
func (e *editor) applyBy(workers int, n *node, prefix keys.Digest, depth int, edits []*leaf) (*node, error) {
	if workers < 2 || len(edits) < 2*editsAtOnce || n == nil || n.bucket() {
		return e.reading(func() (*node, error) { return e.apply(n, prefix, depth, edits) })
	}
	at := split(edits, depth)
	other := &editor{hash: e.hash.Fork(), table: e.table, view: e.view}
	var left *node
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() { left, failed = other.applyBy(workers/2, n.left, prefix, depth+1, edits[:at]) })
	right, err := e.applyBy(workers-workers/2, n.right, withBit(prefix, depth), depth+1, edits[at:])
	wg.Wait()
	e.fresh, e.made, e.read = append(e.fresh, other.fresh...), e.made+other.made, e.read+other.read
	if failed != nil || err != nil {
		return nil, cmp.Or(failed, err)
	}
	return e.join(n, left, right, prefix, depth)
}

// reading runs f with one reader open for all that it reads. Readers are not for several goroutines.
func (e *editor) reading(f func() (*node, error)) (n *node, err error) {
	if e.table == nil || e.reader != nil {
		return f()
	}
	err = e.view(func(r reader) error {
		e.reader = r
		defer func() { e.reader = nil }()
		n, err = f()
		return err
	})
	return n, err
}

// split returns where the edits whose bit at depth is one begin.
func split(edits []*leaf, depth int) int {
	if len(edits) == 1 { // as most often
		return 1 - int(ledger.StateBit(edits[0].path, depth))
	}
	return sort.Search(len(edits), func(i int) bool { return ledger.StateBit(edits[i].path, depth) == 1 })
}

func withBit(prefix keys.Digest, depth int) keys.Digest {
	prefix[depth>>3] |= 1 << (7 - depth&7)
	return prefix
}

// apply returns the subtree n, which holds the paths that begin with the first depth bits of prefix, after
// edits. The edits are sorted by path; those with change.Deleted take a leaf away.
func (e *editor) apply(n *node, prefix keys.Digest, depth int, edits []*leaf) (*node, error) {
	if len(edits) == 0 {
		return n, nil
	}
	if n == nil || n.bucket() {
		var old []leaf
		if n != nil {
			var err error
			if old, err = e.leavesOf(n, prefix, depth); err != nil {
				return nil, err
			}
		}
		return e.build(merge(old, edits), depth), nil
	}
	at := split(edits, depth)
	left, err := e.apply(n.left, prefix, depth+1, edits[:at])
	if err != nil {
		return nil, err
	}
	right, err := e.apply(n.right, withBit(prefix, depth), depth+1, edits[at:])
	if err != nil {
		return nil, err
	}
	return e.join(n, left, right, prefix, depth)
}

// join returns the inner node n with new children.
func (e *editor) join(n, left, right *node, prefix keys.Digest, depth int) (*node, error) {
	if left == n.left && right == n.right {
		return n, nil
	}
	if size(left)+size(right) > ledger.StateBucketSize {
		return e.inner(left, right), nil
	}
	// What is left fits into one bucket.
	var leaves []leaf
	for i, child := range []*node{left, right} {
		if child == nil {
			continue
		}
		p := prefix
		if i == 1 {
			p = withBit(prefix, depth)
		}
		more, err := e.leavesOf(child, p, depth+1)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, more...)
	}
	return e.build(leaves, depth), nil
}

// leavesOf returns the leaves of a bucket. The result must not be changed, and is valid until the next call.
func (e *editor) leavesOf(n *node, prefix keys.Digest, depth int) (leaves []leaf, err error) {
	if p := n.leaves.Load(); p != nil {
		return *p, nil
	}
	_, err = e.reading(func() (*node, error) {
		leaves, err = e.table.bucket(e.reader, n, prefix, depth, e.loaded[:0])
		return nil, err
	})
	e.read += len(leaves)
	return leaves, err
}

// bucketSum returns a checksum of a bucket's leaves: a hash over what is read from the table again would cost ten times as much.
func bucketSum(leaves []leaf) (sum uint32) {
	for i := range leaves {
		sum = crc32.Update(crc32.Update(sum, castagnoli, leaves[i].path[:]), castagnoli, leaves[i].digest[:])
	}
	return sum
}

// merge returns the leaves old with edits applied, both sorted by path.
func merge(old []leaf, edits []*leaf) []leaf {
	out := make([]leaf, 0, len(old)+len(edits))
	for _, l := range edits {
		for len(old) > 0 && compareLeaf(&old[0], l) < 0 {
			out, old = append(out, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].path == l.path {
			old = old[1:]
		}
		if !l.change.Deleted {
			out = append(out, *l)
		}
	}
	return append(out, old...)
}

// build makes the subtree at depth of sorted leaves, which it keeps.
func (e *editor) build(leaves []leaf, depth int) *node {
	switch {
	case len(leaves) == 0:
		return nil
	case len(leaves) <= ledger.StateBucketSize:
		n := e.bucket(leaves)
		n.leaves.Store(&leaves)
		e.fresh = append(e.fresh, n)
		e.made++
		return n
	}
	at := sort.Search(len(leaves), func(i int) bool { return ledger.StateBit(leaves[i].path, depth) == 1 })
	return e.inner(e.build(leaves[:at:at], depth+1), e.build(leaves[at:], depth+1))
}

// bucket makes a bucket that does not carry its leaves.
func (e *editor) bucket(leaves []leaf) *node {
	for i := range leaves {
		e.hash.Add(leaves[i].digest)
	}
	return &node{hash: e.hash.Bucket(), count: uint32(len(leaves)), sum: bucketSum(leaves)}
}

func (e *editor) inner(left, right *node) *node {
	e.made++
	return &node{hash: e.hash.Inner(rootHash(left), rootHash(right)), left: left, right: right, count: uint32(size(left) + size(right))}
}

// stream makes the subtree at depth of the leaves that begin with the first depth bits of prefix. They come in rising order
// of path: ahead holds those that were read and belong to no bucket yet, and more returns the same with some that follow,
// or none at the end. Buckets get no leaves: they are in the table.
func (e *editor) stream(prefix keys.Digest, depth int, ahead *[]leaf, more func(ahead []leaf) ([]leaf, error)) (*node, error) {
	if len(*ahead) <= ledger.StateBucketSize {
		var err error
		if *ahead, err = more(*ahead); err != nil {
			return nil, err
		}
	}
	if len(*ahead) > ledger.StateBucketSize && within((*ahead)[ledger.StateBucketSize].path, prefix, depth) {
		left, err := e.stream(prefix, depth+1, ahead, more)
		if err != nil {
			return nil, err
		}
		right, err := e.stream(withBit(prefix, depth), depth+1, ahead, more)
		if err != nil {
			return nil, err
		}
		return e.inner(left, right), nil
	}
	n := 0
	for n < min(len(*ahead), ledger.StateBucketSize) && within((*ahead)[n].path, prefix, depth) {
		n++
	}
	if n == 0 {
		return nil, nil
	}
	bucket := e.bucket((*ahead)[:n])
	*ahead = (*ahead)[n:]
	return bucket, nil
}

// within reports whether path begins with the first depth bits of prefix.
func within(path, prefix keys.Digest, depth int) bool {
	whole := depth / 8
	if !bytes.Equal(path[:whole], prefix[:whole]) {
		return false
	}
	rest := depth % 8
	return rest == 0 || (path[whole]^prefix[whole])>>(8-rest) == 0
}
