package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

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
//	S: path → leaf digest ‖ kind ‖ key length ‖ key ‖ value
//	V: path → value, for values of longValue bytes and more
//	K: key  → 1
//
// A bucket's leaves are neighbours in S; K gives the order of keys.
type table struct {
	suite keys.Suite
	kv    kv
}

// kinds of row in S.
const (
	valueInline byte = 0
	valueBeside byte = 1
)

var keyApplied = []byte("applied")

// applied returns how many blocks the table includes.
func applied(r reader) uint64 {
	if v := r.get(tableMeta, keyApplied); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// view runs f unless the table includes more than limit blocks.
func (t *table) view(limit uint64, f func(reader) error) error {
	return t.kv.view(func(r reader) error {
		if n := applied(r); n > limit {
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
	digest keys.Digest
	kind   byte
	key    []byte
	inline []byte
}

func parseRow(row []byte) (s stored, ok bool) {
	if len(row) < keys.DigestSize+1 {
		return s, false
	}
	s.digest, s.kind, row = keys.Digest(row[:keys.DigestSize]), row[keys.DigestSize], row[keys.DigestSize+1:]
	n, used := binary.Uvarint(row)
	if used <= 0 || n > uint64(len(row)-used) || s.kind > valueBeside {
		return s, false
	}
	s.key, s.inline = row[used:used+int(n)], row[used+int(n):]
	return s, true
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
	s, ok := parseRow(row)
	if !ok {
		return nil, nil, digest, t.damaged("the row of path %s is malformed", path)
	}
	value = s.inline
	if s.kind == valueBeside {
		if value = r.get(tableValues, path[:]); len(value) < longValue {
			return nil, nil, digest, t.damaged("the long value of path %s is missing", path)
		}
	}
	if hash.Leaf(path, hash.Value(value)) != s.digest {
		return nil, nil, digest, t.damaged("the value of key %x does not have its digest", s.key)
	}
	return s.key, value, s.digest, nil
}

// bucket returns the count leaves whose paths begin with the first depth bits of prefix.
func (t *table) bucket(r reader, prefix keys.Digest, depth, count int) ([]*leaf, error) {
	leaves := make([]*leaf, 0, count)
	block := make([]leaf, count)
	for path, row := range r.scan(tableLeaves, prefix[:], false) {
		if len(path) != keys.DigestSize || len(row) < keys.DigestSize {
			return nil, t.damaged("a row near path %s is malformed", prefix)
		}
		p := keys.Digest(path)
		if len(leaves) == count || !within(p, prefix, depth) {
			break
		}
		l := &block[len(leaves)]
		l.path, l.digest = p, keys.Digest(row[:keys.DigestSize])
		leaves = append(leaves, l)
	}
	if len(leaves) != count {
		return nil, t.damaged("%d leaves at path %s, depth %d, where there were %d", len(leaves), prefix, depth, count)
	}
	return leaves, nil
}

// apply writes the newest of edits for each path, and the number of blocks that the table then includes.
// Edits come oldest first.
func (t *table) apply(blocks uint64, edits []*leaf) error {
	newest := make(map[keys.Digest]*leaf, len(edits))
	for _, l := range edits {
		newest[l.path] = l
	}
	sorted := make([]*leaf, 0, len(newest))
	for _, l := range newest {
		sorted = append(sorted, l)
	}
	slices.SortFunc(sorted, compareLeaf)
	return t.kv.update(func(w writer) error {
		var row []byte
		var inserted [][]byte
		for _, l := range sorted {
			old := w.get(tableLeaves, l.path[:])
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
			row = append(row[:0], l.digest[:]...)
			if len(l.change.Value) < longValue {
				row = append(row, valueInline)
				row = binary.AppendUvarint(row, uint64(len(l.change.Key)))
				row = append(append(row, l.change.Key...), l.change.Value...)
			} else {
				row = append(row, valueBeside)
				row = binary.AppendUvarint(row, uint64(len(l.change.Key)))
				row = append(row, l.change.Key...)
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
		return w.put(tableMeta, keyApplied, binary.BigEndian.AppendUint64(nil, blocks))
	})
}

// keyRow returns a key as K holds it: bbolt has no empty keys, so all get a first byte.
func keyRow(key []byte) []byte { return append([]byte{'k'}, key...) }

// check reads the whole table by up to workers goroutines, recomputes every digest from keys and values, and returns
// the tree over it and the number of blocks it includes. Nothing may write to the table meanwhile.
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

// stream is subtree by this goroutine.
func (c *tableCheck) stream(prefix keys.Digest, depth int) (root *node, found tally, err error) {
	t := c.table
	err = t.kv.view(func(r reader) error {
		e := &editor{hash: ledger.NewStateHasher(t.suite)}
		from := bytes.Clone(bytes.TrimRight(prefix[:], "\x00")) // at or below every path still to come, malformed ones too
		read := func(l *leaf, path, row []byte) error {
			l.path = keys.Digest(path)
			if bytes.Compare(path, from) < 0 {
				return t.damaged("paths do not rise at %s", l.path)
			}
			key, value, digest, err := t.open(e.hash, r, l.path, row)
			if err != nil {
				return err
			}
			if e.hash.Path(key) != l.path {
				return t.damaged("key %x is at another key's path", key)
			}
			if len(value) >= longValue {
				found.long++
			}
			found.keys++
			found.sum += maphash.Bytes(c.seed, key)
			from = append(append(from[:0], path...), 0)
			l.digest = digest
			return nil
		}
		var ahead, piece []*leaf
		done := false
		// The rows are pulled in pieces and not through iter.Pull, whose coroutine would not have the
		// protection against memory faults that this goroutine has.
		root, err = e.stream(prefix, depth, &ahead, func() (*leaf, error) {
			if len(piece) == 0 && !done {
				block := make([]leaf, 1024)
				for path, row := range r.scan(tableLeaves, bytes.Clone(from), false) {
					if len(path) != keys.DigestSize {
						return nil, t.damaged("a path of %d bytes", len(path))
					}
					if done = !within(keys.Digest(path), prefix, depth); done {
						break
					}
					l := &block[len(piece)]
					if err := read(l, path, row); err != nil {
						return nil, err
					}
					if piece = append(piece, l); len(piece) == len(block) {
						break
					}
				}
			}
			if len(piece) == 0 {
				return nil, nil
			}
			l := piece[0]
			piece = piece[1:]
			return l, nil
		})
		return err
	})
	return root, found, err
}

// ordered checks the order of keys.
func (c *tableCheck) ordered() (found tally, err error) {
	t := c.table
	err = t.kv.view(func(r reader) error {
		var last []byte
		for k := range r.scan(tableKeys, nil, false) {
			if len(k) == 0 || last != nil && bytes.Compare(last, k) >= 0 {
				return t.damaged("the order of keys is broken near %x", k)
			}
			last = append(last[:0], k...)
			found.keys++
			found.sum += maphash.Bytes(c.seed, k[1:])
		}
		return nil
	})
	return found, err
}
