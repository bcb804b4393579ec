package state

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// Overlay is a world state with writes on top of a base that stay in memory. Writes since a Savepoint can be
// taken back. It remembers what it read from the base, which must not change. It is not safe for concurrent
// use.
type Overlay struct {
	base    Reader
	entries map[string]slot
	undo    []undone
	order   keyList // of written keys; kept once a Range asked for it
	written int
}

// slot is what the overlay knows of a key.
type slot struct {
	value   []byte
	found   bool
	written bool // else read from the base
}

type undone struct {
	key   string
	slot  slot
	known bool
}

var _ Reader = (*Overlay)(nil)

// NewOverlay returns an overlay without writes. The base may be a Snapshot or another Overlay.
func NewOverlay(base Reader) *Overlay {
	return &Overlay{base: base, entries: map[string]slot{}}
}

// Get returns the value of a key. The caller must not change it.
func (o *Overlay) Get(key []byte) (value []byte, found bool, err error) {
	if s, ok := o.entries[string(key)]; ok {
		return s.value, s.found, nil
	}
	value, found, err = o.base.Get(key)
	if err != nil {
		return nil, false, err
	}
	o.entries[string(key)] = slot{value: value, found: found}
	return value, found, nil
}

// Put gives a key a value. The overlay keeps value, which must not be changed afterwards; key it copies.
func (o *Overlay) Put(key, value []byte) {
	o.write(key, slot{value: value, found: true, written: true})
}

// Delete takes a key away. It may be missing already.
func (o *Overlay) Delete(key []byte) { o.write(key, slot{written: true}) }

func (o *Overlay) write(key []byte, s slot) {
	old, known := o.entries[string(key)]
	k := string(key)
	o.entries[k] = s
	o.undo = append(o.undo, undone{key: k, slot: old, known: known})
	if !old.written {
		o.written++
		o.order.add(k)
	}
}

// Savepoint returns a mark to which Rollback can return. Marks nest; they cost nothing.
func (o *Overlay) Savepoint() int { return len(o.undo) }

// Rollback takes back the writes made since Savepoint returned mark. Later marks become void.
func (o *Overlay) Rollback(mark int) {
	for i := len(o.undo) - 1; i >= mark; i-- {
		u := &o.undo[i]
		if u.known {
			o.entries[u.key] = u.slot
		} else {
			delete(o.entries, u.key)
		}
		if !u.slot.written {
			o.written--
			o.order.remove(u.key)
		}
		*u = undone{}
	}
	o.undo = o.undo[:mark]
}

// Settle makes the writes so far final for this overlay: all marks become void, and their memory is free.
func (o *Overlay) Settle() {
	clear(o.undo)
	o.undo = o.undo[:0]
}

// Changes returns the writes, sorted by key. They share memory with the overlay.
func (o *Overlay) Changes() []ledger.Change {
	changes := make([]ledger.Change, 0, o.written)
	for k, s := range o.entries {
		if s.written {
			changes = append(changes, ledger.Change{Key: []byte(k), Value: s.value, Deleted: !s.found})
		}
	}
	slices.SortFunc(changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
	return changes
}

// Range yields the keys from start up to and without end in order. See Reader. The overlay must not be written
// while the sequence is consumed.
func (o *Overlay) Range(start, end []byte, reverse bool) iter.Seq2[Entry, error] {
	return o.walk(start, end, reverse, false)
}

// Walk is Range that yields the keys that the overlay took away as well, marked as Deleted and without a value: to pass
// them takes time, and who pays for a range has to know. Which they are depends on what was written alone.
func (o *Overlay) Walk(start, end []byte, reverse bool) iter.Seq2[Entry, error] {
	return o.walk(start, end, reverse, true)
}

func (o *Overlay) walk(start, end []byte, reverse, deleted bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if end != nil && bytes.Compare(start, end) >= 0 {
			return
		}
		own := &overlaySource{overlay: o, end: end, start: start, reverse: reverse}
		own.begin()
		// The base's sequence is pushed to us, the overlay's own writes are pulled in between.
		emit := func(before []byte) bool { // own writes up to the base's key; nil: all
			for {
				c, ok := own.peek()
				if !ok || before != nil && bytes.Compare(c.Key, before) > 0 != reverse && !bytes.Equal(c.Key, before) {
					return true
				}
				own.next()
				if (deleted || !c.Deleted) && !yield(Entry{Key: c.Key, Value: c.Value, Deleted: c.Deleted}, nil) {
					return false
				}
				if before != nil && bytes.Equal(c.Key, before) {
					return true
				}
			}
		}
		hides := func(key []byte) bool { return o.entries[string(key)].written }
		base := o.base.Range(start, end, reverse)
		if sn, ok := o.base.(*Snapshot); ok {
			base = sn.walk(start, end, reverse, hides)
		}
		for e, err := range base {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			hidden := hides(e.Key)
			if !emit(e.Key) || !hidden && !yield(e, nil) {
				return
			}
		}
		emit(nil)
	}
}

// overlaySource walks the written keys in order.
type overlaySource struct {
	overlay    *Overlay
	start, end []byte
	reverse    bool
	at         cursor
}

func (s *overlaySource) begin() {
	o := s.overlay
	if !o.order.kept {
		o.order.build(o.entries)
	}
	switch {
	case !s.reverse:
		s.at = o.order.seek(string(s.start))
	case s.end == nil:
		s.at = o.order.last()
	default:
		s.at = o.order.before(o.order.seek(string(s.end)))
	}
}

func (s *overlaySource) peek() (ledger.Change, bool) {
	k, ok := s.overlay.order.key(s.at)
	if !ok || s.reverse && k < string(s.start) || !s.reverse && s.end != nil && k >= string(s.end) {
		return ledger.Change{}, false
	}
	e := s.overlay.entries[k]
	return ledger.Change{Key: []byte(k), Value: e.value, Deleted: !e.found}, true
}

func (s *overlaySource) next() {
	if s.reverse {
		s.at = s.overlay.order.before(s.at)
	} else {
		s.at = s.overlay.order.after(s.at)
	}
}

// keyList is a sorted list of keys in pieces of bounded size, so that adding stays cheap when it is long:
// contracts scan and write in turns.
type keyList struct {
	kept   bool
	pieces [][]string // none empty
}

const keyPiece = 512

// cursor is a place in a keyList.
type cursor struct{ piece, at int }

func (l *keyList) build(entries map[string]slot) {
	all := make([]string, 0, len(entries))
	for k, s := range entries {
		if s.written {
			all = append(all, k)
		}
	}
	slices.Sort(all)
	l.kept, l.pieces = true, nil
	for piece := range slices.Chunk(all, keyPiece/2) {
		l.pieces = append(l.pieces, slices.Clone(piece))
	}
}

func (l *keyList) add(k string) {
	if !l.kept {
		return
	}
	if len(l.pieces) == 0 {
		l.pieces = [][]string{{k}}
		return
	}
	p := l.find(k)
	p = min(p, len(l.pieces)-1)
	piece := l.pieces[p]
	i, found := slices.BinarySearch(piece, k)
	if found {
		return
	}
	piece = slices.Insert(piece, i, k)
	l.pieces[p] = piece
	if len(piece) > keyPiece {
		half := len(piece) / 2
		l.pieces = slices.Insert(l.pieces, p+1, slices.Clone(piece[half:]))
		l.pieces[p] = piece[:half:half]
	}
}

// remove takes out a key that was added.
func (l *keyList) remove(k string) {
	if !l.kept {
		return
	}
	p := l.find(k)
	if p == len(l.pieces) {
		return
	}
	i, found := slices.BinarySearch(l.pieces[p], k)
	if !found {
		return
	}
	if l.pieces[p] = slices.Delete(l.pieces[p], i, i+1); len(l.pieces[p]) == 0 {
		l.pieces = slices.Delete(l.pieces, p, p+1)
	}
}

// find returns the first piece that ends at or above k.
func (l *keyList) find(k string) int {
	p, _ := slices.BinarySearchFunc(l.pieces, k, func(piece []string, k string) int {
		return strings.Compare(piece[len(piece)-1], k)
	})
	return p
}

// seek returns the place of the first key at or above k.
func (l *keyList) seek(k string) cursor {
	p := l.find(k)
	if p == len(l.pieces) {
		return cursor{p, 0}
	}
	i, _ := slices.BinarySearch(l.pieces[p], k)
	return cursor{p, i}
}

func (l *keyList) last() cursor { return l.before(cursor{len(l.pieces), 0}) }

func (l *keyList) after(c cursor) cursor {
	if c.at++; c.at == len(l.pieces[c.piece]) {
		return cursor{c.piece + 1, 0}
	}
	return c
}

func (l *keyList) before(c cursor) cursor {
	if c.at > 0 {
		return cursor{c.piece, c.at - 1}
	}
	if c.piece == 0 {
		return cursor{-1, 0}
	}
	return cursor{c.piece - 1, len(l.pieces[c.piece-1]) - 1}
}

func (l *keyList) key(c cursor) (string, bool) {
	if c.piece < 0 || c.piece >= len(l.pieces) {
		return "", false
	}
	return l.pieces[c.piece][c.at], true
}

// String tells the size of the overlay, for debugging.
func (o *Overlay) String() string { return fmt.Sprintf("overlay with %d writes", o.written) }
