package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrPruned says that the state or block at a height is not kept any more.
var ErrPruned = errors.New("state: no longer kept")

// longValue is the length from which a value is kept beside the leaves, so that those stay dense.
const longValue = 257

// table is the world state as of a height, on disk. It lags behind the head; what is newer is in the
// snapshots. It holds three sorted tables:
//
//	S: path → checksum ‖ leaf digest ‖ kind ‖ key length ‖ key ‖ value
//	V: path → value, for values of longValue bytes and more
//	K: key  → 1
//
// and, while a state is pinned, what was written over since (see pin). A bucket's leaves are neighbours in S; K gives the order of keys.
//
// A row's checksum is the CRC-32C of its path, of what follows the checksum, and of the value in V. A digest costs ten times as
// much: a start checks the checksums and makes the tree from the leaf digests as they are; that those are the digests of keys and
// values, a read checks of what it returns, and Store.Scrub of everything.
type table struct {
	suite keys.Suite
	kv    kv
	found func(*damaged)      // is told of damage that a reader comes to; nil: nobody is
	pin   atomic.Pointer[pin] // nil: no state is pinned
	pins  uint64              // so far; guarded by Store.tables

	flushBytes int64         // see Options
	settled    atomic.Uint64 // how often settle wrote to the table
}

// kinds of row in S.
const (
	valueInline byte = 0
	valueBeside byte = 1
)

var (
	keyApplied  = []byte("applied")
	keyReaching = []byte("reaching") // blocks that some of the rows include; none: no more than keyApplied
)

// applied returns how many blocks the table includes.
func applied(r reader) uint64 { return number(r, keyApplied) }

// reached returns how many blocks some rows of the table include. That is more than applied while apply is at work, or after
// a crash.
func reached(r reader) uint64 { return max(applied(r), number(r, keyReaching)) }

func number(r reader, key []byte) uint64 {
	if v := r.get(tableMeta, key); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// view runs f unless a row of the table may include more than limit blocks. Damage that f comes to is told of.
func (t *table) view(limit uint64, f func(reader) error) error { return t.tell(t.look(limit, f)) }

// tell tells of damage, and returns the error.
func (t *table) tell(err error) error {
	if bad, ok := errors.AsType[*damaged](err); ok && t.found != nil {
		t.found(bad)
	}
	return err
}

// look is view for who looks again before it takes for damage what it found.
func (t *table) look(limit uint64, f func(reader) error) error {
	return t.kv.view(func(r reader) error {
		if n := reached(r); n > limit {
			return fmt.Errorf("%w: the state after %d blocks; the oldest kept is after %d", ErrPruned, limit, n)
		}
		return f(r)
	})
}

func (t *table) damaged(format string, args ...any) error {
	file := "the state table"
	if b, ok := t.kv.(*boltKV); ok {
		file = b.file
	}
	return &damaged{file: file, cause: fmt.Sprintf(format, args...)}
}

// stored is a row of S, decoded. Its bytes are valid as long as the row's are.
type stored struct {
	sum    uint32
	digest keys.Digest
	kind   byte
	key    []byte
	inline []byte
}

// digestAt is where in a row of S the leaf digest begins, behind the checksum, and kindAt where it ends.
const (
	digestAt = 4
	kindAt   = digestAt + keys.DigestSize
)

// appendRow appends a row of S to out. beside is the value if it goes to V, and then inline is empty.
func appendRow(out []byte, path, digest keys.Digest, key, inline, beside []byte) []byte {
	begin := len(out)
	kind := valueInline
	if beside != nil {
		kind = valueBeside
	}
	out = append(append(append(out, 0, 0, 0, 0), digest[:]...), kind)
	out = binary.AppendUvarint(out, uint64(len(key)))
	out = append(append(out, key...), inline...)
	binary.BigEndian.PutUint32(out[begin:], rowSum(path[:], out[begin:], beside))
	return out
}

// rowSum returns the checksum that a row of S must have. beside is the value in V, if it is there.
func rowSum(path, row, beside []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(path, castagnoli), castagnoli, row[digestAt:])
	if beside != nil {
		sum = crc32.Update(sum, castagnoli, beside)
	}
	return sum
}

func parseRow(row []byte) (s stored, ok bool) {
	if len(row) < kindAt+1 {
		return s, false
	}
	s.sum, s.digest, s.kind = binary.BigEndian.Uint32(row), keys.Digest(row[digestAt:]), row[kindAt]
	row = row[kindAt+1:]
	n, used := binary.Uvarint(row)
	if used <= 0 || n > uint64(len(row)-used) || s.kind > valueBeside {
		return s, false
	}
	s.key, s.inline = row[used:used+int(n)], row[used+int(n):]
	return s, true
}

// row decodes a row and finds its value, and checks neither. The bytes are the row's own.
func (t *table) row(r reader, path, row []byte) (s stored, value []byte, err error) {
	s, ok := parseRow(row)
	if !ok {
		return s, nil, t.damaged("the row of path %x is malformed", path)
	}
	if s.kind == valueInline {
		return s, s.inline, nil
	}
	if value = r.get(tableValues, path); len(value) < longValue {
		return s, nil, t.damaged("the long value of path %x is missing", path)
	}
	return s, value, nil
}

// whole reports whether a row has its checksum. value is what row returned.
func (s *stored) whole(path, row, value []byte) bool {
	if s.kind == valueInline {
		value = nil
	}
	return rowSum(path, row, value) == s.sum
}

// get returns a copy of the value at path, checked against the leaf digest beside it.
func (t *table) get(r reader, path keys.Digest) (value []byte, found bool, err error) {
	row := r.get(tableLeaves, path[:])
	if row == nil {
		return nil, false, nil
	}
	if _, value, _, err = t.open(ledger.NewStateHasher(t.suite), r, path, row); err != nil {
		return nil, false, err
	}
	return append([]byte{}, value...), true, nil
}

// open returns what a row holds, checked against the digest in it. The bytes are the row's own.
func (t *table) open(hash *ledger.StateHasher, r reader, path keys.Digest, row []byte) (key, value []byte, digest keys.Digest, err error) {
	s, value, err := t.row(r, path[:], row)
	if err != nil {
		return nil, nil, digest, err
	}
	if hash.Leaf(path, hash.Value(value)) != s.digest {
		return nil, nil, digest, t.damaged("the value of key %x does not have its digest", s.key)
	}
	return s.key, value, s.digest, nil
}

// bucket appends the leaves of a bucket, whose paths begin with the first depth bits of prefix, to out, and checks that they are
// those that it had.
func (t *table) bucket(r reader, n *node, prefix keys.Digest, depth int, out []leaf) ([]leaf, error) {
	for path, row := range r.scan(tableLeaves, prefix[:], false) {
		if len(path) != keys.DigestSize || len(row) < kindAt {
			return nil, t.damaged("a row near path %s is malformed", prefix)
		}
		if len(out) == size(n) || !within(keys.Digest(path), prefix, depth) {
			break
		}
		out = append(out, leaf{path: keys.Digest(path), digest: keys.Digest(row[digestAt:])})
	}
	if len(out) != size(n) || bucketSum(out) != n.sum {
		return nil, t.damaged("the leaves below %x/%d are not those that were there", prefix[:(depth+7)/8], depth)
	}
	return out, nil
}

// rowCost is how many bytes of memory a row may take that a transaction writes: bbolt holds the pages that one changes, and at a random
// path that is one for each row.
const rowCost = 8 << 10

// apply writes the newest of edits for each path, and the number of blocks that the table then includes. Edits come oldest
// first. Of many, it writes some in each of several transactions. What is in the tree's buckets or was written by a block
// hides them from who reads; after a crash between two, the change sets of the blocks after applied must be applied again.
func (t *table) apply(blocks uint64, edits []*leaf) error {
	sorted := newest(edits)
	for {
		piece := sorted[:min(len(sorted), max(int(t.flushBytes/rowCost), 16))]
		sorted = sorted[len(piece):]
		err := t.writeSorted(piece, func(w writer) error {
			reaching := number(w, keyReaching) // more than blocks: a crash left it, and rows that are newer
			number := binary.BigEndian.AppendUint64(nil, blocks)
			switch {
			case len(sorted) > 0 && reaching < blocks:
				return w.put(tableMeta, keyReaching, number)
			case len(sorted) > 0:
				return nil
			case reaching > 0 && reaching <= blocks:
				if err := w.del(tableMeta, keyReaching); err != nil {
					return err
				}
			}
			return w.put(tableMeta, keyApplied, number)
		})
		if err != nil || len(sorted) == 0 {
			return err
		}
	}
}

// write writes the newest of edits for each path, and what then does in the same transaction.
func (t *table) write(edits []*leaf, then func(writer) error) error {
	return t.writeSorted(newest(edits), then)
}

// newest returns the last of edits for each path, in rising order of path.
func newest(edits []*leaf) []*leaf {
	last := make(map[keys.Digest]*leaf, len(edits))
	for _, l := range edits {
		last[l.path] = l
	}
	sorted := make([]*leaf, 0, len(last))
	for _, l := range last {
		sorted = append(sorted, l)
	}
	slices.SortFunc(sorted, compareLeaf)
	return sorted
}

// writeSorted is write of edits that newest returned.
func (t *table) writeSorted(sorted []*leaf, then func(writer) error) error {
	pinned := t.pin.Load()
	return t.kv.update(func(w writer) error {
		var row []byte
		var inserted [][]byte
		for _, l := range sorted {
			old := w.get(tableLeaves, l.path[:])
			if pinned != nil {
				if err := pinned.save(t, w, l.path, old); err != nil {
					return err
				}
			}
			if old != nil {
				s, ok := parseRow(old)
				if !ok {
					return t.damaged("the row of path %s is malformed", l.path)
				}
				if s.kind == valueBeside && (l.change.Deleted || len(l.change.Value) < longValue) {
					if err := w.del(tableValues, l.path[:]); err != nil {
						return err
					}
				}
			}
			if l.change.Deleted {
				if old == nil {
					continue
				}
				if err := errors.Join(w.del(tableLeaves, l.path[:]), w.del(tableKeys, keyRow(l.change.Key))); err != nil {
					return err
				}
				continue
			}
			if len(l.change.Value) < longValue {
				row = appendRow(row[:0], l.path, l.digest, l.change.Key, l.change.Value, nil)
			} else {
				row = appendRow(row[:0], l.path, l.digest, l.change.Key, nil, l.change.Value)
				if err := w.put(tableValues, l.path[:], l.change.Value); err != nil {
					return err
				}
			}
			if err := w.put(tableLeaves, l.path[:], bytes.Clone(row)); err != nil {
				return err
			}
			if old == nil {
				inserted = append(inserted, keyRow(l.change.Key))
			}
		}
		// bbolt splits pages at the end of a transaction only, so each of many keys that are put in no order into
		// few pages moves all that are there above it.
		slices.SortFunc(inserted, bytes.Compare)
		for _, key := range inserted {
			if err := w.put(tableKeys, key, []byte{1}); err != nil {
				return err
			}
		}
		return then(w)
	})
}

// keyRow returns a key as K holds it: bbolt has no empty keys, so all get a first byte.
func keyRow(key []byte) []byte { return append([]byte{'k'}, key...) }

// check reads the whole table by up to workers goroutines and returns the tree over its leaf digests and the number of
// blocks it includes. Every row must have its checksum, and the ordered keys must be those of the leaves. Nothing may write to the
// table meanwhile.
func (t *table) check(workers int) (root *node, blocks uint64, err error) {
	c := &tableCheck{table: t, seed: maphash.MakeSeed()}
	var order tally
	var orderErr, restErr error
	var wg sync.WaitGroup
	ordered := func() { order, orderErr = c.ordered() }
	if workers > 1 {
		wg.Go(ordered)
	} else {
		ordered()
	}
	root, found, err := c.subtree(workers, keys.Digest{}, 0)
	wg.Wait()
	restErr = t.kv.view(func(r reader) error {
		blocks = applied(r)
		long := 0
		for range r.scan(tableValues, nil, false) {
			if long++; long > found.long {
				return t.damaged("there are long values without a key")
			}
		}
		return nil
	})
	if err := cmp.Or(err, orderErr, restErr); err != nil {
		return nil, blocks, err
	}
	if order.keys != found.keys || order.sum != found.sum {
		return nil, blocks, t.damaged("the ordered keys are not those of the leaves")
	}
	return root, blocks, nil
}

// tableCheck is a check of a table.
type tableCheck struct {
	table *table
	seed  maphash.Seed
}

// tally is what leaves and ordered keys must have in common. sum adds a hash of each key, seeded anew in each check, so
// that nobody can prepare other keys with the same sum.
type tally struct {
	keys int
	sum  uint64
	long int // values beside the leaves
}

// subtree checks the leaves whose paths begin with the first depth bits of prefix, and returns the tree over them.
func (c *tableCheck) subtree(workers int, prefix keys.Digest, depth int) (*node, tally, error) {
	if workers < 2 {
		return c.stream(prefix, depth)
	}
	var left *node
	var at tally
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() { left, at, failed = c.subtree(workers/2, prefix, depth+1) })
	right, sum, err := c.subtree(workers-workers/2, withBit(prefix, depth), depth+1)
	wg.Wait()
	if failed != nil || err != nil {
		return nil, at, cmp.Or(failed, err)
	}
	if size(left)+size(right) <= ledger.StateBucketSize { // one bucket, whose leaves are no longer at hand
		return c.stream(prefix, depth)
	}
	e := &editor{hash: ledger.NewStateHasher(c.table.suite)}
	return e.inner(left, right), tally{at.keys + sum.keys, at.sum + sum.sum, at.long + sum.long}, nil
}

// searcher checks of the rows that a scan comes by that a search finds them. Branch pages of bbolt have no checksum, and with a bit
// flipped in a key of one a scan still comes by every row, but a search is led to the leaf page beside. Among the rows that it
// misses is always one at an edge of a leaf page, so only those are searched for.
type searcher struct {
	id     tableID
	faulty func(format string, args ...any) error // makes a *damaged
	page   uintptr
	last   []byte // the row before
}

// row takes the next row of the scan.
func (s *searcher) row(r reader, key []byte) error {
	page := uintptr(unsafe.Pointer(unsafe.SliceData(key))) / pageSize
	if page != s.page || s.last == nil {
		if err := s.edge(r); err != nil {
			return err
		}
		s.page, s.last = page, key
		return s.edge(r)
	}
	s.last = key
	return nil
}

// edge searches for the last row that was taken; the scan ends there, or its next row is on another page.
func (s *searcher) edge(r reader) error {
	if s.last != nil && r.get(s.id, s.last) == nil {
		return s.faulty("a search does not find the row %x of table %s", s.last, tableNames[s.id])
	}
	return nil
}

// stream is subtree by this goroutine.
func (c *tableCheck) stream(prefix keys.Digest, depth int) (root *node, found tally, err error) {
	t := c.table
	err = t.kv.view(func(r reader) error {
		e := &editor{hash: ledger.NewStateHasher(t.suite)}
		from := bytes.Clone(bytes.TrimRight(prefix[:], "\x00")) // at or below every path still to come, malformed ones too
		search := &searcher{id: tableLeaves, faulty: t.damaged}
		read := func(l *leaf, path, row []byte) error {
			if bytes.Compare(path, search.last) <= 0 {
				return t.damaged("paths do not rise at %x", path)
			}
			if err := search.row(r, path); err != nil {
				return err
			}
			s, value, err := t.row(r, path, row)
			if err != nil {
				return err
			}
			if !s.whole(path, row, value) {
				return t.damaged("the row of key %x does not have its checksum", s.key)
			}
			if s.kind == valueBeside {
				found.long++
			}
			found.keys++
			found.sum += maphash.Bytes(c.seed, s.key)
			l.path, l.digest = keys.Digest(path), s.digest
			return nil
		}
		var block [1024]leaf
		done := false
		// The rows are pulled in pieces and not through iter.Pull, whose coroutine would not have the
		// protection against memory faults that this goroutine has.
		root, err = e.stream(prefix, depth, new([]leaf), func(ahead []leaf) ([]leaf, error) {
			if done {
				return ahead, nil
			}
			n := copy(block[:], ahead)
			for path, row := range r.scan(tableLeaves, from, false) {
				if len(path) != keys.DigestSize {
					return nil, t.damaged("a path of %d bytes", len(path))
				}
				if !within(keys.Digest(path), prefix, depth) {
					break
				}
				if err := read(&block[n], path, row); err != nil {
					return nil, err
				}
				if n++; n == len(block) {
					from = append(bytes.Clone(path), 0)
					return block[:n], nil
				}
			}
			done = true
			return block[:n], search.edge(r)
		})
		return err
	})
	return root, found, err
}

// ordered checks the order of keys.
func (c *tableCheck) ordered() (found tally, err error) {
	t := c.table
	err = t.kv.view(func(r reader) error {
		search := &searcher{id: tableKeys, faulty: t.damaged}
		for k := range r.scan(tableKeys, nil, false) {
			if len(k) == 0 || search.last != nil && bytes.Compare(search.last, k) >= 0 {
				return t.damaged("the order of keys is broken near %x", k)
			}
			if err := search.row(r, k); err != nil {
				return err
			}
			found.keys++
			found.sum += maphash.Bytes(c.seed, k[1:])
		}
		return search.edge(r)
	})
	return found, err
}
