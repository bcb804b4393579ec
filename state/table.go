package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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
	_, value, _, err = t.open(r, path, row)
	return value, err == nil, err
}

func (t *table) open(r reader, path keys.Digest, row []byte) (key, value []byte, digest keys.Digest, err error) {
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
	if ledger.StateLeaf(t.suite, path, ledger.StateValue(t.suite, value)) != s.digest {
		return nil, nil, digest, t.damaged("the value of key %x does not have its digest", s.key)
	}
	return bytes.Clone(s.key), append([]byte{}, value...), s.digest, nil
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

// check reads the whole table, recomputes every digest from keys and values, and returns the tree over it
// and the number of blocks it includes.
func (t *table) check() (root *node, blocks uint64, err error) {
	err = t.kv.view(func(r reader) error {
		blocks = applied(r)
		e := &editor{hash: ledger.NewStateHasher(t.suite)}
		leaves, long := 0, 0
		var keysSeen keys.Digest
		from := []byte{} // below every path still to come
		read := func(path, row []byte) (*leaf, error) {
			if len(path) != keys.DigestSize {
				return nil, t.damaged("a path of %d bytes", len(path))
			}
			p := keys.Digest(path)
			if bytes.Compare(p[:], from) < 0 {
				return nil, t.damaged("paths do not rise at %s", p)
			}
			key, value, digest, err := t.open(r, p, row)
			if err != nil {
				return nil, err
			}
			if ledger.StatePath(t.suite, key) != p {
				return nil, t.damaged("key %x is at another key's path", key)
			}
			if len(value) >= longValue {
				long++
			}
			for i := range p {
				keysSeen[i] ^= p[i]
			}
			leaves++
			from = append(append(from[:0], path...), 0)
			return &leaf{path: p, digest: digest}, nil
		}
		var ahead, piece []*leaf
		// The rows are pulled in pieces and not through iter.Pull, whose coroutine would not have the
		// protection against memory faults that this goroutine has.
		root, err = e.stream(keys.Digest{}, 0, &ahead, func() (*leaf, error) {
			if len(piece) == 0 {
				for path, row := range r.scan(tableLeaves, bytes.Clone(from), false) {
					l, err := read(path, row)
					if err != nil {
						return nil, err
					}
					if piece = append(piece, l); len(piece) == 4096 {
						break
					}
				}
				if len(piece) == 0 {
					return nil, nil
				}
			}
			l := piece[0]
			piece = piece[1:]
			return l, nil
		})
		if err != nil {
			return err
		}
		var lastKey []byte
		for k := range r.scan(tableKeys, nil, false) {
			if len(k) == 0 || lastKey != nil && bytes.Compare(lastKey, k) >= 0 {
				return t.damaged("the order of keys is broken near %x", k)
			}
			lastKey = append(lastKey[:0], k...)
			p := ledger.StatePath(t.suite, k[1:])
			for i := range p {
				keysSeen[i] ^= p[i]
			}
			leaves--
		}
		if leaves != 0 || !keysSeen.IsZero() {
			return t.damaged("the ordered keys are not those of the leaves")
		}
		for range r.scan(tableValues, nil, false) {
			if long--; long < 0 {
				return t.damaged("there are long values without a key")
			}
		}
		return nil
	})
	return root, blocks, err
}
