package state

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrPinned says that a state of the store is pinned already.
var ErrPinned = errors.New("state: another reader has a state pinned: wait until it is done")

// Bounds of a chunk, unless a bucket alone exceeds them.
const (
	chunkKeys  = 4096
	chunkBytes = 1 << 20 // of keys and values
)

// Pinned is the whole world state at a height, to be read in chunks while blocks are committed. It holds up nothing: the
// state table goes on, and what it writes over before it was read is kept in a table of its own until Close. So it costs
// at most a second row on disk for each key that changes meanwhile, and no read transaction is open while the reader
// works. It is for one goroutine.
type Pinned struct {
	store *Store
	sn    *Snapshot
	pin   *pin
}

// pin keeps what the state table held when a state was pinned, from a path on. It is in the table's own file, and
// changes in the same transactions, so that what is read together is of one moment.
type pin struct {
	number uint64
	from   atomic.Pointer[keys.Digest] // all paths below were read; nil: all were
}

// absent is the row of a path that had none when the state was pinned. It is shorter than any row of S.
var absent = []byte{0}

// save keeps the row of a path that is about to change; nil: there is none.
func (p *pin) save(t *table, w writer, path keys.Digest, row []byte) error {
	from := p.from.Load()
	if from == nil || bytes.Compare(path[:], from[:]) < 0 || w.get(tablePinned, path[:]) != nil {
		return nil
	}
	if row == nil {
		return w.put(tablePinned, path[:], absent)
	}
	s, ok := parseRow(row)
	if !ok {
		return t.damaged("the row of path %s is malformed", path)
	}
	value := s.inline
	if s.kind == valueBeside {
		if value = w.get(tableValues, path[:]); len(value) < longValue {
			return t.damaged("the long value of path %s is missing", path)
		}
	}
	return w.put(tablePinned, path[:], appendRow(nil, path, s.digest, s.key, value, nil))
}

// Pin pins a state of the store's recent past, at most Options.Recent blocks behind the head unless these hold much. There
// is one at a time (ErrPinned). Close must be called.
func (s *Store) Pin() (*Pinned, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	s.tables.Lock()
	defer s.tables.Unlock()
	s.mu.Lock()
	if len(s.recent) == 0 {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: there are no blocks", ErrNotFound)
	}
	to := s.recent[max(0, len(s.recent)-1-s.options.Recent)]
	s.mu.Unlock()
	return s.pinTables(to)
}

// PinAt pins the state at a height that At has a snapshot of: ErrPruned, ErrNotFound or ErrPinned if it cannot be. Above
// Options.Recent blocks behind the head it costs the snapshots below it, so that At has fewer for a while.
func (s *Store) PinAt(h ledger.Height) (*Pinned, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	s.tables.Lock()
	defer s.tables.Unlock()
	to, err := s.At(h)
	if err != nil {
		return nil, err
	}
	return s.pinTables(to)
}

// pinTables brings the table to a snapshot, if it is not there or further, and pins what it holds then. The caller holds
// the tables.
func (s *Store) pinTables(to *Snapshot) (*Pinned, error) {
	t := s.world.table
	if t.pin.Load() != nil {
		return nil, ErrPinned
	}
	if err := errors.Join(t.unpinAll(), s.flushTables(to)); err != nil { // the last Close may have failed
		return nil, err
	}
	s.mu.Lock()
	sn := s.recent[0]
	s.mu.Unlock()
	t.pins++
	p := &pin{number: t.pins}
	p.from.Store(&keys.Digest{})
	t.pin.Store(p)
	return &Pinned{store: s, sn: sn, pin: p}, nil
}

// Pinned returns the number of the pin that is held, counted from 1 since the store was opened, or 0 when none is: who asks
// now and then knows how long one is held.
func (s *Store) Pinned() uint64 {
	if p := s.world.table.pin.Load(); p != nil {
		return p.number
	}
	return 0
}

// Close gives up the state.
func (p *Pinned) Close() error {
	s, t := p.store, p.store.world.table
	if !t.pin.CompareAndSwap(p.pin, nil) { // closed already
		return nil
	}
	for {
		s.tables.Lock() // which flushes wait for, so not for all rows at once
		more, err := false, error(nil)
		if t.pin.Load() == nil { // else the next to pin a state has done it
			more, err = t.unpin()
		}
		s.tables.Unlock()
		if err != nil || !more {
			return err
		}
	}
}

// unpinAll removes what was kept of a pinned state, after a crash too.
func (t *table) unpinAll() error {
	for {
		if more, err := t.unpin(); err != nil || !more {
			return err
		}
	}
}

// unpinRows is how many rows unpin removes: with as many writes as a flush has, it takes no longer.
const unpinRows = 4096

// unpin removes some of what was kept of a pinned state, in one transaction, and reports whether there is more.
func (t *table) unpin() (more bool, err error) {
	var rows [][]byte
	err = t.kv.view(func(r reader) error {
		for path := range r.scan(tablePinned, nil, false) {
			if rows = append(rows, bytes.Clone(path)); len(rows) == unpinRows {
				break
			}
		}
		return nil
	})
	if err != nil || len(rows) == 0 {
		return false, t.tell(err)
	}
	return true, t.tell(t.kv.update(func(w writer) error {
		for _, path := range rows {
			if err := w.del(tablePinned, path); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Header returns the header of the block after which the state is. It must not be changed.
func (p *Pinned) Header() *ledger.Header { return p.sn.header }

// Chunks yields the state in chunks that follow one another, see ledger.StateChunk. An error ends the sequence. It is
// called once.
func (p *Pinned) Chunks() iter.Seq2[*ledger.StateChunk, error] {
	return func(yield func(*ledger.StateChunk, error) bool) {
		_, err := p.walk(p.sn.root, keys.Digest{}, nil, yield)
		if err != nil {
			yield(nil, fmt.Errorf("read the state at height %d: %w", p.sn.Height(), err))
		}
		p.pin.from.Store(nil)
	}
}

// walk yields the chunks of the subtree n at prefix; siblings are those of the way down to it, the uppermost first.
func (p *Pinned) walk(n *node, prefix keys.Digest, siblings []keys.Digest, yield func(*ledger.StateChunk, error) bool) (more bool, err error) {
	depth := len(siblings)
	p.pin.from.Store(&prefix)
	if size(n) <= chunkKeys {
		entries, whole, err := p.entries(n, prefix, depth)
		if err != nil {
			return false, err
		}
		if whole {
			up := slices.Clone(siblings)
			slices.Reverse(up)
			return yield(&ledger.StateChunk{Version: ledger.Version, Prefix: prefix, Depth: uint16(depth), Entries: entries, Siblings: up}, nil), nil
		}
	}
	siblings = slices.Clip(siblings)
	if more, err = p.walk(n.left, prefix, append(siblings, rootHash(n.right)), yield); err != nil || !more {
		return false, err
	}
	return p.walk(n.right, withBit(prefix, depth), append(siblings, rootHash(n.left)), yield)
}

// entries reads the keys of the subtree n, and checks that they are those that it had. It gives up, and whole is false, if
// they are too many bytes for a chunk and can be divided.
func (p *Pinned) entries(n *node, prefix keys.Digest, depth int) (entries []ledger.StatePair, whole bool, err error) {
	if n == nil {
		return nil, true, nil
	}
	t := p.store.world.table
	e := &editor{hash: ledger.NewStateHasher(t.suite)}
	var leaves []leaf
	held := 0
	err = t.kv.view(func(r reader) error {
		add := func(path keys.Digest, row []byte) (bool, error) {
			key, value, digest, err := t.open(e.hash, r, path, row)
			if err != nil {
				return false, err
			}
			if e.hash.Path(key) != path {
				return false, t.damaged("key %x is at another key's path", key)
			}
			if held += len(key) + len(value); held > chunkBytes && !n.bucket() {
				return false, nil
			}
			c := &ledger.Change{Key: append([]byte{}, key...), Value: append([]byte{}, value...)}
			leaves = append(leaves, leaf{path: path, digest: digest, change: c})
			return true, nil
		}
		kept := map[keys.Digest]bool{}
		for path, row := range rowsBelow(r, tablePinned, prefix, depth) {
			kept[path] = true
			if len(row) == len(absent) {
				continue
			}
			if more, err := add(path, row); err != nil || !more {
				return err
			}
		}
		for path, row := range rowsBelow(r, tableLeaves, prefix, depth) {
			if kept[path] {
				continue
			}
			if more, err := add(path, row); err != nil || !more {
				return err
			}
		}
		whole = true
		return nil
	})
	if err != nil || !whole {
		return nil, false, p.tell(err)
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return compareLeaf(&a, &b) })
	if got := e.build(leaves, depth); rootHash(got) != n.hash {
		return nil, false, p.tell(t.damaged("the leaves below %x/%d do not have the hash they had", prefix[:(depth+7)/8], depth))
	}
	for _, l := range leaves {
		entries = append(entries, ledger.StatePair{Key: l.change.Key, Value: l.change.Value})
	}
	return entries, true, nil
}

// tell tells of damage, unless the pin was closed meanwhile: rows that it had may be gone then.
func (p *Pinned) tell(err error) error {
	if t := p.store.world.table; t.pin.Load() == p.pin {
		return t.tell(err)
	}
	return err
}

// rowsBelow yields the rows whose paths begin with the first depth bits of prefix.
func rowsBelow(r reader, id tableID, prefix keys.Digest, depth int) iter.Seq2[keys.Digest, []byte] {
	return func(yield func(keys.Digest, []byte) bool) {
		for path, row := range r.scan(id, prefix[:], false) {
			if len(path) != keys.DigestSize || !within(keys.Digest(path), prefix, depth) || !yield(keys.Digest(path), row) {
				return
			}
		}
	}
}
