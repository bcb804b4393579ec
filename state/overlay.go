package state

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// Overlay is a world state with writes on top of a base that stay in memory. Writes since a Savepoint can be
// taken back. It keeps what it read from the base, which must not change, unless that is Layers, which keep it for all their
// overlays. It is not safe for concurrent use.
type Overlay struct {
	base    Reader
	entries map[string]slot
	undo    []undone
	order   keyList // of written keys; kept once a Range asked for it
	written int
	reads   *readSet // the base, of an overlay that Layers.Overlay made; else nil
}

// Grow makes room for so many keys in an overlay that knows none yet. It takes more.
func (o *Overlay) Grow(keys int) {
	if len(o.entries) == 0 {
		o.entries = make(map[string]slot, keys)
	}
}

// slot is what the overlay knows of a key.
type slot struct {
	value   []byte
	found   bool
	written bool // else read from the base
	sum     bool // of the base's counter, which nobody has been shown, and what was added; see readSet.counters
}

type undone struct {
	key   string
	slot  slot
	known bool
}

var _ Reader = (*Overlay)(nil)

// NewOverlay returns an overlay without writes.
func NewOverlay(base Reader) *Overlay {
	return &Overlay{base: base, entries: map[string]slot{}}
}

// Get returns the value of a key. The caller must not change it.
func (o *Overlay) Get(key []byte) (value []byte, found bool, err error) {
	if s, ok := o.entries[string(key)]; ok {
		if s.sum { // now somebody is shown what it depends on
			if _, _, err := o.base.Get(key); err != nil {
				return nil, false, err
			}
			s.sum = false
			o.entries[string(key)] = s
		}
		return s.value, s.found, nil
	}
	if o.reads != nil {
		return o.reads.Get(key)
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

// ErrCounter says that what is under a key is no counter.
var ErrCounter = errors.New("state: the value under the key is no counter")

// MaxCounter is the most bytes that a counter's value has: an integer of 64 bits.
const MaxCounter = 9

// Add adds delta to the counter under a key, if the sum lies from low to high, and reports whether it did. A counter is
// a canonical CBOR integer, and 0 where there is no value; ErrCounter says that it is something else. To an integer from 2^63 on,
// of at most 128 bits, nothing is added. Who adds is not shown the sum, so that transactions which do nothing else with a
// counter commute (see Layers).
func (o *Overlay) Add(key []byte, delta, low, high int64) (bool, error) {
	s, known := o.entries[string(key)]
	blind := o.reads != nil && (!known || s.sum)
	raw, found, err := s.value, s.found, error(nil)
	var at *cell
	switch {
	case known:
	case blind:
		at, raw, found, err = o.reads.peek(key)
	default:
		raw, found, err = o.Get(key)
	}
	if err != nil {
		return false, err
	}
	counter, fits, err := counterOf(raw, found)
	sum, overflow := addSigned(counter, delta)
	if !fits || overflow || sum < low || sum > high {
		if blind { // that tells too much of the counter for another one to do
			if _, _, failed := o.Get(key); failed != nil {
				return false, failed
			}
		}
		return false, err
	}
	if raw, err = ledger.Marshal(sum); err != nil {
		return false, fmt.Errorf("encode a counter: %w", err)
	}
	if blind {
		o.reads.bound(key, at, counter, sum, low, high)
	}
	o.write(key, slot{value: raw, found: true, written: true, sum: blind})
	return true, nil
}

// counterOf returns the counter that a value is, or fits false: with ErrCounter of what is no integer, and without an
// error of one that is too large for n.
func counterOf(raw []byte, found bool) (n int64, fits bool, err error) {
	switch {
	case !found:
		return 0, true, nil
	case isWide(raw):
		return 0, false, nil
	case len(raw) > MaxCounter || ledger.Unmarshal(raw, &n) != nil: // nobody has paid for a look at more
		return 0, false, ErrCounter
	}
	return n, true, nil
}

// isWide reports whether a value is a canonical CBOR integer from 2^63 to 2^128-1: of 8 bytes, or a bignum of 9 to 16
// (RFC 8949, 3.4.3).
func isWide(raw []byte) bool {
	const integer8, bignum, bytes0 = 0x1b, 0xc2, 0x40
	n := len(raw) - 2
	switch {
	case len(raw) == MaxCounter:
		return raw[0] == integer8 && raw[1] >= 0x80
	case n > 8 && n <= 16:
		return raw[0] == bignum && raw[1] == bytes0+byte(n) && raw[2] != 0
	}
	return false
}

// addSigned adds, and reports whether the sum does not fit.
func addSigned(a, b int64) (sum int64, overflow bool) {
	sum = a + b
	return sum, (a < 0) == (b < 0) && (sum < 0) != (a < 0)
}

func (o *Overlay) write(key []byte, s slot) {
	old, known := o.entries[string(key)]
	k := string(key)
	o.entries[k] = s
	o.undo = append(o.undo, undone{key: k, slot: old, known: known})
	if !old.written {
		o.written++
		o.order.add(listed{key: k})
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

// reuse makes an overlay of Layers as new, or reports false if it takes too much memory to be kept.
func (o *Overlay) reuse() bool {
	const most = 64 // entries of each kind
	r := o.reads
	if len(o.entries) > most || cap(o.undo) > most || cap(r.values) > most || len(r.counters) > most {
		return false
	}
	o.Settle()
	clear(o.entries)
	clear(r.values)
	clear(r.counters)
	*o = Overlay{base: r, entries: o.entries, undo: o.undo, reads: r}
	*r = readSet{layers: r.layers, values: r.values[:0], counters: r.counters, near: r.near}
	return true
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
	return o.walk(start, end, reverse, false, nil)
}

// Walk is Range that yields the keys that the overlay, and those below it, took away as well, marked as Deleted and
// without a value: to pass them takes time, and who pays for a range has to know. Which they are depends on what was
// written alone.
func (o *Overlay) Walk(start, end []byte, reverse bool) iter.Seq2[Entry, error] {
	return o.walk(start, end, reverse, true, nil)
}

func (o *Overlay) walk(start, end []byte, reverse, deleted bool, hidden func(key []byte) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if end != nil && bytes.Compare(start, end) >= 0 {
			return
		}
		own := &overlaySource{overlay: o, end: end, start: start, reverse: reverse}
		own.begin()
		mergeWrites(own, o.base.walk(start, end, reverse, deleted, func(key []byte) bool {
			return o.entries[string(key)].written || hidden != nil && hidden(key)
		}), reverse, deleted, yield)
	}
}

// writes are a range of sorted writes, of which keys that they take away are Deleted.
type writes interface {
	// peek returns the next one, or ok false at the end.
	peek() (e Entry, ok bool)
	next()
}

// mergeWrites yields what a reader sees of writes on top of a base, or with deleted also what they take away. The base's
// sequence is pushed to it, and the writes are pulled in between.
func mergeWrites(own writes, base iter.Seq2[Entry, error], reverse, deleted bool, yield func(Entry, error) bool) {
	for below, err := range base {
		if err != nil {
			yield(Entry{}, err)
			return
		}
		hidden := false
		for !hidden {
			e, ok := own.peek()
			if !ok {
				break
			}
			order := bytes.Compare(e.Key, below.Key)
			if order != 0 && order > 0 != reverse {
				break
			}
			own.next()
			hidden = order == 0
			if (deleted || !e.Deleted) && !yield(e, nil) {
				return
			}
		}
		if !hidden && !yield(below, nil) {
			return
		}
	}
	for e, ok := own.peek(); ok; e, ok = own.peek() {
		own.next()
		if (deleted || !e.Deleted) && !yield(e, nil) {
			return
		}
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
		all := make([]listed, 0, o.written)
		for k, s := range o.entries {
			if s.written {
				all = append(all, listed{key: k})
			}
		}
		o.order.build(all)
	}
	s.at = o.order.first(s.start, s.end, s.reverse)
}

func (s *overlaySource) peek() (Entry, bool) {
	k, ok := s.overlay.order.at(s.at)
	if !ok || k.passed(s.start, s.end, s.reverse) {
		return Entry{}, false
	}
	e := s.overlay.entries[k.key]
	return Entry{Key: []byte(k.key), Value: e.value, Deleted: !e.found}, true
}

func (s *overlaySource) next() { s.at = s.overlay.order.step(s.at, s.reverse) }

// keyList is a sorted list of keys in pieces of bounded size, so that adding stays cheap when it is long:
// contracts scan and write in turns.
type keyList struct {
	kept   bool
	pieces [][]listed // none empty
}

// listed is a key in a list.
type listed struct {
	key  string
	cell *cell // in a list of Layers
}

func (k listed) compare(key string) int { return strings.Compare(k.key, key) }

// passed reports whether a walk that has come to the key has left its range.
func (k listed) passed(start, end []byte, reverse bool) bool {
	return reverse && k.key < string(start) || !reverse && end != nil && k.key >= string(end)
}

const keyPiece = 512

// cursor is a place in a keyList.
type cursor struct{ piece, at int }

// build has the list kept, of keys in any order, which it takes over.
func (l *keyList) build(all []listed) {
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.key, b.key) })
	l.kept, l.pieces = true, nil
	for piece := range slices.Chunk(all, keyPiece/2) {
		l.pieces = append(l.pieces, slices.Clone(piece))
	}
}

func (l *keyList) add(k listed) {
	if !l.kept {
		return
	}
	if len(l.pieces) == 0 {
		l.pieces = [][]listed{{k}}
		return
	}
	p := l.find(k.key)
	p = min(p, len(l.pieces)-1)
	piece := l.pieces[p]
	i, found := slices.BinarySearchFunc(piece, k.key, listed.compare)
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
	i, found := slices.BinarySearchFunc(l.pieces[p], k, listed.compare)
	if !found {
		return
	}
	if l.pieces[p] = slices.Delete(l.pieces[p], i, i+1); len(l.pieces[p]) == 0 {
		l.pieces = slices.Delete(l.pieces, p, p+1)
	}
}

// find returns the first piece that ends at or above k.
func (l *keyList) find(k string) int {
	p, _ := slices.BinarySearchFunc(l.pieces, k, func(piece []listed, k string) int {
		return piece[len(piece)-1].compare(k)
	})
	return p
}

// seek returns the place of the first key at or above k.
func (l *keyList) seek(k string) cursor {
	p := l.find(k)
	if p == len(l.pieces) {
		return cursor{p, 0}
	}
	i, _ := slices.BinarySearchFunc(l.pieces[p], k, listed.compare)
	return cursor{p, i}
}

// first returns the place at which a walk over a range begins.
func (l *keyList) first(start, end []byte, reverse bool) cursor {
	switch {
	case !reverse:
		return l.seek(string(start))
	case end == nil:
		return l.before(cursor{len(l.pieces), 0})
	default:
		return l.before(l.seek(string(end)))
	}
}

// step returns the place of a walk's next key.
func (l *keyList) step(c cursor, reverse bool) cursor {
	if reverse {
		return l.before(c)
	}
	return l.after(c)
}

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

func (l *keyList) at(c cursor) (listed, bool) {
	if c.piece < 0 || c.piece >= len(l.pieces) {
		return listed{}, false
	}
	return l.pieces[c.piece][c.at], true
}

// String tells the size of the overlay, for debugging.
func (o *Overlay) String() string { return fmt.Sprintf("overlay with %d writes", o.written) }
