package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"sort"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds of what a writer holds in memory.
const (
	archivePiece = 1 << 20 // bytes that are written at a time
	archiveNodes = 1 << 18 // nodes of the last tree, some 100 bytes each
)

// archiveSpare is how much room on the disk is the blocks' alone: without the archive a node goes on, without blocks it stops.
const archiveSpare = 1 << 30

var errNoRoom = errors.New("the disk has too little room")

// archiveWriter adds frames to an archive. After an error it must be made anew.
type archiveWriter struct {
	*archive
	free    func() (bytes int64, known bool) // see Options.Room
	read    *archiveReader                   // of what was written too
	buf     []byte                           // not in the file yet
	flushed int64                            // where in the file that belongs
	behind  int                              // bytes in the file that were not synced
	summed  int                              // bytes of buf that are in crc, or belong to no frame
	crc     uint32                           // of the records of the frame that is being written
	at      int64                            // its head
	slot    uint64                           // number of the last one written
	end     *archiveFrame                    // the last frame that was written; nil: none
	root    *archiveTree
	held    int // nodes made or read since they were counted
}

// archiveTree is a node of the tree after the last block that was written, and those below it as far as they are in memory.
type archiveTree struct {
	at    int64
	hash  keys.Digest
	count int
	kids  [2]int64
	below [2]*archiveTree // nil: empty, or not read
}

// writer returns a writer that goes on behind the last whole frame. What is behind that is cut off. Whole frames that no slot knows are
// written again: where a sync of them failed they can be read, but are on no disk.
func (a *archive) writer() (*archiveWriter, error) {
	number, last, end, err := a.synced()
	if err != nil {
		return nil, err
	}
	size, err := a.file.Size()
	if err != nil {
		return nil, err
	}
	w, durable := &archiveWriter{archive: a, slot: number, end: last, flushed: size}, end
	w.read = a.reader()
	w.read.from = w
	for {
		f, err := w.read.frame(end)
		if err == nil && f.end() > size {
			err = a.bad(f.at, "the file ends within a frame")
		}
		if err == nil {
			err = w.read.sum(f, nil)
		}
		if err == nil && !f.follows(last) {
			err = a.bad(f.at, "the frame does not follow the one before")
		}
		if _, torn := errors.AsType[*ArchiveError](err); torn {
			break
		}
		if err != nil {
			return nil, err
		}
		last, end = f, f.end()
	}
	w.flushed = end
	if size > end {
		if err := a.file.Truncate(end); err != nil {
			return nil, err
		}
	}
	if w.end != last || size > end {
		w.end = last
		if err := Rewrite(a.file, durable, end); err != nil {
			return nil, fmt.Errorf("write %s again: %w", a.path, err)
		}
		if err := w.commit(); err != nil {
			return nil, err
		}
	}
	if last != nil && last.root != 0 {
		n, err := w.read.node(last.root)
		if err != nil {
			return nil, err
		}
		w.root = w.tree(n)
	}
	return w, nil
}

func (w *archiveWriter) tree(n *archiveNode) *archiveTree {
	return &archiveTree{at: n.at, hash: w.read.digestOf(n), count: n.count, kids: n.kids}
}

// ReadAt reads what was written, in the file or not.
func (w *archiveWriter) ReadAt(p []byte, at int64) (n int, err error) {
	if at < w.flushed {
		return w.file.ReadAt(p[:min(int64(len(p)), w.flushed-at)], at)
	}
	if at-w.flushed < int64(len(w.buf)) {
		n = copy(p, w.buf[at-w.flushed:])
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// here is where the next record goes.
func (w *archiveWriter) here() int64 { return w.flushed + int64(len(w.buf)) }

// put hands what is in the buffer to the file, which it syncs now and then: the frame of a base may be large.
func (w *archiveWriter) put() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.room(int64(len(w.buf))); err != nil {
		return err
	}
	w.sum()
	if _, err := w.file.WriteAt(w.buf, w.flushed); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	w.flushed += int64(len(w.buf))
	w.behind += len(w.buf)
	w.buf, w.summed = w.buf[:0], 0
	if w.behind >= syncBytes {
		return w.sync()
	}
	return nil
}

func (w *archiveWriter) sync() error {
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.path, err)
	}
	w.behind = 0
	return nil
}

// room fails if writing some bytes leaves the blocks too little.
func (w *archiveWriter) room(bytes int64) error {
	if w.free == nil {
		return nil
	}
	if free, known := w.free(); known && free-archiveSpare < bytes {
		return fmt.Errorf("%w: %d bytes are free, the archive writes %d and leaves %d to the blocks: make room, or turn it off and remove %s",
			errNoRoom, free, bytes, int64(archiveSpare), w.path)
	}
	return nil
}

func (w *archiveWriter) sum() {
	w.crc = crc32.Update(w.crc, castagnoli, w.buf[w.summed:])
	w.summed = len(w.buf)
}

func (w *archiveWriter) begin() {
	w.at, w.crc = w.here(), 0
	w.buf = append(w.buf, make([]byte, archiveHead)...)
	w.summed = len(w.buf)
}

// finish writes the head of the frame of a block, whose state must have a root.
func (w *archiveWriter) finish(h ledger.Height, root keys.Digest) error {
	f := &archiveFrame{at: w.at, height: h, jump: w.at, length: w.here() - w.at - int64(archiveHead)}
	if w.root != nil {
		f.root = w.root.at
	}
	if got := w.root.digest(); got != root {
		return w.bad(w.at, "what it holds and the changes of block %d give the state root %s, want %s", h, got, root)
	}
	w.sum()
	f.crc = w.crc
	if w.end != nil {
		f.before, f.number = w.end.at, w.end.number+1
		var err error
		if f.jump, err = w.read.follow(w.end); err != nil {
			return err
		}
	}
	head := f.encode()
	if w.at >= w.flushed {
		copy(w.buf[w.at-w.flushed:], head)
	} else if _, err := w.file.WriteAt(head, w.at); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	w.end = f
	w.shrink()
	if len(w.buf) >= archivePiece {
		return w.put()
	}
	return nil
}

// commit makes the frames durable, and shows them to readers.
func (w *archiveWriter) commit() error {
	if err := w.put(); err != nil {
		return err
	}
	if err := w.sync(); err != nil || w.end == nil {
		return err
	}
	w.slot++
	if err := w.putSlot(w.slot, w.end.at, w.end.end()); err != nil { // durable with the next frames
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return w.publish(w.end)
}

// shrink lets go of nodes when there are too many in memory.
func (w *archiveWriter) shrink() {
	if w.held < archiveNodes || w.root == nil {
		return
	}
	if w.held = w.root.nodes(); w.held > archiveNodes/4*3 {
		w.root.below, w.held = [2]*archiveTree{}, 0
	}
}

func (t *archiveTree) nodes() int {
	if t == nil {
		return 0
	}
	return 1 + t.below[0].nodes() + t.below[1].nodes()
}

// edits returns the changes of a block as leaves.
func (w *archiveWriter) edits(changes []ledger.Change) []archiveLeaf {
	edits := make([]archiveLeaf, len(changes))
	for i := range changes {
		e := &edits[i]
		e.change, e.path = &changes[i], w.read.hash.Path(changes[i].Key)
		if !changes[i].Deleted {
			e.digest = w.read.hash.Leaf(e.path, w.read.hash.Value(changes[i].Value))
		}
	}
	return edits
}

// archiveLeaves returns the writes of a snapshot, or the keys of a chunk, as leaves.
func archiveLeaves(writes []*leaf) []archiveLeaf {
	edits := make([]archiveLeaf, len(writes))
	for i, l := range writes {
		edits[i] = archiveLeaf{path: l.path, digest: l.digest, change: l.change}
	}
	return edits
}

// add writes the frame of a block.
func (w *archiveWriter) add(header *ledger.Header, edits []archiveLeaf) error {
	slices.SortFunc(edits, func(a, b archiveLeaf) int { return bytes.Compare(a.path[:], b.path[:]) })
	w.begin()
	root, err := w.apply(w.root, 0, edits)
	if err != nil {
		return err
	}
	w.root = root
	return w.finish(header.Order.Height, header.StateRoot)
}

// addBase writes the frame of a state that is there as chunks.
func (w *archiveWriter) addBase(ctx context.Context, b *base) error {
	next, stop := iter.Pull2(b.chunks(w.suite, 0))
	defer stop()
	var chunk baseChunk
	advance := func() error {
		c, err, ok := next()
		if !ok {
			err = b.bad(0, "the state ends early")
		}
		if err == nil {
			err = ctx.Err()
		}
		chunk = c
		return err
	}
	var subtree func(depth int) (*archiveTree, error)
	subtree = func(depth int) (*archiveTree, error) {
		if chunk.StateChunk == nil {
			if err := advance(); err != nil {
				return nil, err
			}
		}
		if int(chunk.Depth) <= depth {
			leaves, _ := chunk.edits(w.read.hash)
			chunk = baseChunk{}
			n, err := w.build(archiveLeaves(leaves), depth, nil)
			if n != nil {
				n.below = [2]*archiveTree{} // there may be more than can be held
			}
			return n, err
		}
		left, err := subtree(depth + 1)
		if err != nil {
			return nil, err
		}
		right, err := subtree(depth + 1)
		if err != nil {
			return nil, err
		}
		return w.join(left, right, depth)
	}
	w.begin()
	root, err := subtree(0)
	if err != nil {
		return err
	}
	w.root = root
	return w.finish(b.height(), b.Header.StateRoot)
}

// digest returns the digest of a subtree.
func (t *archiveTree) digest() (d keys.Digest) {
	if t != nil {
		d = t.hash
	}
	return d
}

func (t *archiveTree) size() int {
	if t == nil {
		return 0
	}
	return t.count
}

// kid returns a child of an inner node.
func (w *archiveWriter) kid(t *archiveTree, i int) (*archiveTree, error) {
	if t.below[i] != nil || t.kids[i] == 0 {
		return t.below[i], nil
	}
	n, err := w.read.node(t.kids[i])
	if err != nil {
		return nil, err
	}
	w.held++
	t.below[i] = w.tree(n)
	return t.below[i], nil
}

func splitArchived(leaves []archiveLeaf, depth int) int {
	return sort.Search(len(leaves), func(i int) bool { return ledger.StateBit(leaves[i].path, depth) == 1 })
}

// apply returns the subtree at depth after edits, which are sorted by path, as editor.apply does.
func (w *archiveWriter) apply(t *archiveTree, depth int, edits []archiveLeaf) (*archiveTree, error) {
	if len(edits) == 0 {
		return t, nil
	}
	if t.size() <= ledger.StateBucketSize {
		var old *archiveNode
		if t != nil {
			var err error
			if old, err = w.read.node(t.at); err != nil {
				return nil, err
			}
			if !old.bucket {
				return nil, w.bad(t.at, "the node is no bucket")
			}
		}
		leaves, changed := mergeArchived(old, edits)
		if !changed {
			return t, nil
		}
		return w.build(leaves, depth, old)
	}
	at := splitArchived(edits, depth)
	var was, is [2]*archiveTree
	for i, part := range [][]archiveLeaf{edits[:at], edits[at:]} {
		var err error
		if was[i], err = w.kid(t, i); err != nil {
			return nil, err
		}
		if is[i], err = w.apply(was[i], depth+1, part); err != nil {
			return nil, err
		}
	}
	if was == is {
		return t, nil
	}
	return w.join(is[0], is[1], depth)
}

// mergeArchived returns the leaves of a bucket, nil if it is empty, with edits applied, and whether that changed anything.
func mergeArchived(old *archiveNode, edits []archiveLeaf) (out []archiveLeaf, changed bool) {
	var rest []archiveLeaf
	if old != nil {
		rest = old.leaves
	}
	out = make([]archiveLeaf, 0, len(rest)+len(edits))
	for _, e := range edits {
		for len(rest) > 0 && bytes.Compare(rest[0].path[:], e.path[:]) < 0 {
			out, rest = append(out, rest[0]), rest[1:]
		}
		there := len(rest) > 0 && rest[0].path == e.path
		switch {
		case there && !e.change.Deleted && rest[0].digest == e.digest:
			continue // the same value again
		case there:
			rest = rest[1:]
			changed = true
		}
		if !e.change.Deleted {
			out, changed = append(out, e), true
		}
	}
	return append(out, rest...), changed
}

// join returns the inner node of two children, or the bucket if they fit into one.
func (w *archiveWriter) join(left, right *archiveTree, depth int) (*archiveTree, error) {
	if left.size()+right.size() > ledger.StateBucketSize {
		return w.inner(left, right)
	}
	var leaves []archiveLeaf
	for _, kid := range []*archiveTree{left, right} {
		if kid == nil {
			continue
		}
		n, err := w.read.node(kid.at)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, n.leaves...)
	}
	return w.build(leaves, depth, nil)
}

// build writes the subtree at depth of sorted leaves; old is the bucket that was there, if it was one.
func (w *archiveWriter) build(leaves []archiveLeaf, depth int, old *archiveNode) (*archiveTree, error) {
	switch {
	case len(leaves) == 0:
		return nil, nil
	case len(leaves) <= ledger.StateBucketSize:
		return w.bucket(leaves, old)
	}
	at := splitArchived(leaves, depth)
	left, err := w.build(leaves[:at:at], depth+1, nil)
	if err != nil {
		return nil, err
	}
	right, err := w.build(leaves[at:], depth+1, nil)
	if err != nil {
		return nil, err
	}
	return w.inner(left, right)
}

// written ends a record.
func (w *archiveWriter) written() error {
	if len(w.buf) < archivePiece {
		return nil
	}
	return w.put()
}

func (w *archiveWriter) number(n int) { w.buf = binary.AppendUvarint(w.buf, uint64(n)) }

// name writes the place of a record as one that begins at another names it.
func (w *archiveWriter) name(of, at int64) {
	if of == 0 {
		at = 0
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(at-of))
}

func (w *archiveWriter) inner(left, right *archiveTree) (*archiveTree, error) {
	t := &archiveTree{at: w.here(), count: left.size() + right.size(), below: [2]*archiveTree{left, right}}
	var hashes [2]keys.Digest
	for i, kid := range t.below {
		if kid != nil {
			t.kids[i], hashes[i] = kid.at, kid.hash
		}
	}
	t.hash = w.read.hash.Inner(hashes[0], hashes[1])
	w.buf = append(append(w.buf, recordInner), t.hash[:]...)
	w.number(t.count)
	w.name(t.kids[0], t.at)
	w.name(t.kids[1], t.at)
	w.held++
	return t, w.written()
}

// bucket writes those of the leaves that are new, and the bucket, as what differs from an earlier one if that is short.
func (w *archiveWriter) bucket(leaves []archiveLeaf, old *archiveNode) (*archiveTree, error) {
	for i := range leaves {
		if l := &leaves[i]; l.change != nil {
			if err := w.leaf(l); err != nil {
				return nil, err
			}
		}
		w.read.hash.Add(leaves[i].digest)
	}
	t := &archiveTree{at: w.here(), count: len(leaves), hash: w.read.hash.Bucket()}
	w.held++
	if old != nil {
		gone, added := differ(old.whole, leaves)
		// Each delta repeats those before it on the same bucket, so a new one is due when they are as many bytes as it.
		if len(added)*len(added) <= 2*len(leaves) {
			w.buf = append(w.buf, recordDelta)
			w.name(old.full, t.at)
			w.number(len(gone))
			w.buf = append(w.buf, gone...)
			w.leaves(added, t.at)
			return t, w.written()
		}
	}
	w.buf = append(w.buf, recordBucket)
	w.leaves(leaves, t.at)
	return t, w.written()
}

func (w *archiveWriter) leaves(leaves []archiveLeaf, at int64) {
	w.number(len(leaves))
	for i := range leaves {
		w.buf = append(append(w.buf, leaves[i].path[:]...), leaves[i].digest[:]...)
		w.name(leaves[i].at, at)
	}
}

// differ returns the places of the leaves of a bucket that another one lacks, and the leaves that it has instead. Both
// are in rising order of path.
func differ(whole, leaves []archiveLeaf) (gone []byte, added []archiveLeaf) {
	i := 0
	for _, l := range leaves {
		for i < len(whole) && bytes.Compare(whole[i].path[:], l.path[:]) < 0 {
			gone, i = append(gone, byte(i)), i+1
		}
		if i < len(whole) && whole[i].path == l.path {
			if whole[i].at == l.at {
				i++
				continue
			}
			gone, i = append(gone, byte(i)), i+1
		}
		added = append(added, l)
	}
	for ; i < len(whole); i++ {
		gone = append(gone, byte(i))
	}
	return gone, added
}

func (w *archiveWriter) leaf(l *archiveLeaf) error {
	c := l.change
	l.at, l.change = w.here(), nil
	kind := byte(recordLeaf)
	if len(c.Value) >= longValue {
		kind = recordLongValue
	}
	w.buf = appendBytes(append(w.buf, kind), c.Key)
	if kind == recordLongValue {
		d := w.read.hash.Value(c.Value)
		w.buf = append(w.buf, d[:]...)
	}
	w.buf = appendBytes(w.buf, c.Value)
	return w.written()
}
