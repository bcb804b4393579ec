package state

import (
	"bytes"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/ledger"
)

// Layers is a world state on which the transactions of a block are executed side by side, each on an Overlay of its own. In
// the block's order Commit puts the writes of one after the other on top, as a layer, if its execution is what it would
// have been in its turn. An overlay reads what the layers below it held when it was made, whatever is committed
// meanwhile: a state which the block has after some of its first transactions, and none that could not be. What was
// written stays in memory until the block is done, also where a later layer has written it again.
//
// A transaction's execution is a function of what it reads, so it holds as long as that has not changed since: values, the
// absence of values, and what lies in the part of a range that was looked at. What it adds to a counter by Overlay.Add
// holds as long as all its additions end as they did; two transactions that add to one counter need not wait
// for one another.
//
// Overlays may be made, read and written by several goroutines, each by one at a time, while another one calls
// Commit and Changes.
type Layers struct {
	base   Reader        // which several may read at once, and nobody writes
	top    atomic.Uint64 // layers so far
	idle   sync.Pool     // of overlays that were committed
	seed   maphash.Seed
	shards [64]shard

	mu      sync.RWMutex // guards what follows
	written []*cell      // what the layers wrote
	order   keyList      // of it; kept once a range asked for it
}

// shard are the cells of some keys. There are several, so that those who read seldom meet at a lock.
type shard struct {
	mu    sync.RWMutex // guards cells
	cells map[string]*cell
}

// cell is a key that was read or written.
type cell struct {
	key    string
	newest atomic.Pointer[version] // nil only until the first write
	base   version                 // what is below the layers, if it was read first
}

// version is what a key holds from a layer on. It does not change.
type version struct {
	layer uint64 // 0: below the first
	value []byte
	found bool
	older *version
}

// at returns what a reader of the layers up to one sees, or nil if that is below the layers and was not read first.
func (c *cell) at(layer uint64) *version {
	v := c.newest.Load()
	for v != nil && v.layer > layer {
		v = v.older
	}
	return v
}

// NewLayers returns a state without layers on a base, which several goroutines may read at once and nobody writes. It has room for
// so many keys, and takes more.
func NewLayers(base Reader, keys int) *Layers {
	l := &Layers{base: base, seed: maphash.MakeSeed()}
	if each := keys / len(l.shards); each > 0 {
		for i := range l.shards {
			l.shards[i].cells = make(map[string]*cell, each)
		}
	}
	return l
}

// Overlay returns an overlay on the layers that there are now. It remembers what was read of them.
func (l *Layers) Overlay() *Overlay {
	o, ok := l.idle.Get().(*Overlay)
	if !ok {
		r := &readSet{layers: l}
		o = NewOverlay(r)
		o.reads = r
	}
	o.reads.layer = l.top.Load()
	return o
}

// Commit puts the writes of an overlay, which Overlay returned, on top as a layer, and the overlay must not be used any more. It
// reports false, and changes nothing, if what was read has changed since.
func (l *Layers) Commit(o *Overlay) bool {
	r, top := o.reads, l.top.Load()
	if r.layer != top && !(r.holds() && r.move(o)) {
		return false
	}
	for key, s := range o.entries {
		if s.written {
			var c *cell
			if s.sum {
				c = r.counters[key].cell
			}
			l.write(c, key, &version{layer: top + 1, value: s.value, found: s.found})
		}
	}
	l.top.Store(top + 1)
	if o.reuse() {
		l.idle.Put(o)
	}
	return true
}

// write adds a version to a key, whose cell may be nil. Those who read now do not see it.
func (l *Layers) write(c *cell, key string, v *version) {
	if c == nil {
		s := l.shard(maphash.String(l.seed, key))
		s.mu.RLock()
		c = s.cells[key]
		s.mu.RUnlock()
		if c == nil {
			c = s.add(&cell{key: key})
		}
	}
	v.older = c.newest.Load()
	if v.older == nil || v.older.layer == 0 { // the first write
		l.mu.Lock()
		l.written = append(l.written, c)
		l.order.add(listed{key: c.key, cell: c})
		l.mu.Unlock()
	}
	c.newest.Store(v)
}

// Changes returns the writes of all layers, sorted by key. They share memory with them.
func (l *Layers) Changes() []ledger.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written = sortedCells(l.written)
	size := 0
	for _, c := range l.written {
		size += len(c.key)
	}
	changes, keys := make([]ledger.Change, len(l.written)), make([]byte, 0, size)
	for i, c := range l.written {
		keys = append(keys, c.key...)
		v := c.newest.Load()
		changes[i] = ledger.Change{Key: keys[len(keys)-len(c.key) : len(keys) : len(keys)], Value: v.value, Deleted: !v.found}
	}
	return changes
}

// sortedCells sorts cells by key, the halves of many side by side: nothing else of the block is left to do then.
func sortedCells(cells []*cell) []*cell {
	byKey := func(a, b *cell) int { return strings.Compare(a.key, b.key) }
	if len(cells) < 256 {
		slices.SortFunc(cells, byKey)
		return cells
	}
	left, right := cells[:len(cells)/2], cells[len(cells)/2:]
	var wg sync.WaitGroup
	wg.Go(func() { slices.SortFunc(left, byKey) })
	slices.SortFunc(right, byKey)
	wg.Wait()
	merged := make([]*cell, 0, len(cells))
	for len(left) > 0 && len(right) > 0 {
		if byKey(left[0], right[0]) < 0 {
			merged, left = append(merged, left[0]), left[1:]
		} else {
			merged, right = append(merged, right[0]), right[1:]
		}
	}
	return append(append(merged, left...), right...)
}

func (l *Layers) shard(hash uint64) *shard { return &l.shards[hash%uint64(len(l.shards))] }

// find returns the cell of a key, or nil.
func (l *Layers) find(key []byte) *cell { return l.shard(maphash.Bytes(l.seed, key)).find(key) }

func (s *shard) find(key []byte) *cell {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cells[string(key)]
}

// add adds a cell, unless there is one of the key meanwhile, and returns the one that there is.
func (s *shard) add(c *cell) *cell {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.cells[c.key]; known != nil {
		return known
	}
	if s.cells == nil {
		s.cells = map[string]*cell{}
	}
	s.cells[c.key] = c
	return c
}

// touched reports whether a layer above one wrote a key from start up to and without end, nil being no bound.
func (l *Layers) touched(layer uint64, start, end []byte) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for at := l.order.seek(string(start)); ; at = l.order.after(at) {
		k, ok := l.order.at(at)
		if !ok || k.passed(start, end, false) {
			return false
		}
		if k.cell.newest.Load().layer > layer {
			return true
		}
	}
}

// layerSource walks what the layers up to one wrote, in order. It reads ahead, more each time: others add keys to the list
// meanwhile, and to find a place in it again takes longest.
type layerSource struct {
	layers     *Layers
	layer      uint64
	start, end []byte
	reverse    bool
	entries    []Entry
	at         int    // of the next one
	last       string // key that was passed, in the list
	ended      bool   // there is none behind entries
}

// begin goes to the first write.
func (s *layerSource) begin() {
	l := s.layers
	l.mu.Lock()
	if !l.order.kept {
		all := make([]listed, len(l.written))
		for i, c := range l.written {
			all[i] = listed{key: c.key, cell: c}
		}
		l.order.build(all)
	}
	first := l.order.first(s.start, s.end, s.reverse)
	s.read(first, 4)
	l.mu.Unlock()
}

func (s *layerSource) peek() (Entry, bool) {
	if s.at == len(s.entries) {
		return Entry{}, false
	}
	return s.entries[s.at], true
}

func (s *layerSource) next() {
	const most = 256
	if s.at++; s.at == len(s.entries) && !s.ended {
		l := s.layers
		l.mu.RLock()
		s.read(l.order.step(l.order.seek(s.last), s.reverse), min(2*len(s.entries), most))
		l.mu.RUnlock()
	}
}

// read reads on from a place, until there are n writes that the layers have. l.mu is held.
func (s *layerSource) read(from cursor, n int) {
	s.entries, s.at = s.entries[:0], 0
	for order := &s.layers.order; len(s.entries) < n; from = order.step(from, s.reverse) {
		k, ok := order.at(from)
		if s.ended = !ok || k.passed(s.start, s.end, s.reverse); s.ended {
			return
		}
		if v := k.cell.at(s.layer); v != nil && v.layer > 0 {
			s.entries = append(s.entries, Entry{Key: []byte(k.key), Value: v.value, Deleted: !v.found})
		}
		s.last = k.key
	}
}

// readSet is the layers up to one, and remembers what was read of them. What a transaction reads again it remembers again:
// each time it has paid for it.
type readSet struct {
	layers   *Layers
	layer    uint64
	values   []valueRead
	spans    []*span
	counters map[string]counter
	near     [64]*cell // some that were found, by their hashes. Rows that every transaction reads, such as a contract's, stay here without a lock
}

var _ Reader = (*readSet)(nil)

// valueRead is a key that was read, and what it held.
type valueRead struct {
	cell *cell
	seen *version
}

// span is a part of a range that was read. What the overlay itself had written in it counts as read, although it was not.
type span struct {
	start, end []byte
	reverse    bool
	last       []byte // key that was read; nil: none yet
	whole      bool   // there is none after it
}

// counter is one to which something was added unseen.
type counter struct {
	cell     *cell
	base     int64  // what it was below the overlay
	down, up uint64 // how far below or above that it could have been, for all additions to end as they did
}

// Get implements Reader.
func (r *readSet) Get(key []byte) (value []byte, found bool, err error) {
	c, v, err := r.read(key)
	if err != nil {
		return nil, false, err
	}
	r.values = append(r.values, valueRead{cell: c, seen: v})
	return v.value, v.found, nil
}

// read returns the cell of a key, and what it holds in these layers.
func (r *readSet) read(key []byte) (*cell, *version, error) {
	l := r.layers
	hash := maphash.Bytes(l.seed, key)
	shard, near := l.shard(hash), &r.near[hash>>32%uint64(len(r.near))]
	c := *near
	if c == nil || c.key != string(key) {
		if c = shard.find(key); c != nil {
			*near = c
		}
	}
	if c != nil {
		if v := c.at(r.layer); v != nil {
			return c, v, nil
		}
	}
	value, found, err := l.base.Get(key)
	if err != nil {
		return nil, nil, err
	}
	if c != nil { // written before it was ever read
		return c, &version{value: value, found: found}, nil
	}
	fresh := &cell{key: string(key), base: version{value: value, found: found}}
	fresh.newest.Store(&fresh.base)
	return shard.add(fresh), &fresh.base, nil
}

// Range implements Reader.
func (r *readSet) Range(start, end []byte, reverse bool) iter.Seq2[Entry, error] {
	return r.walk(start, end, reverse, false, nil)
}

func (r *readSet) walk(start, end []byte, reverse, deleted bool, hidden func(key []byte) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		own := &layerSource{layers: r.layers, layer: r.layer, start: start, end: end, reverse: reverse}
		own.begin()
		read := &span{start: bytes.Clone(start), end: bytes.Clone(end), reverse: reverse}
		r.spans = append(r.spans, read)
		stopped := false
		mergeWrites(own, r.layers.base.walk(start, end, reverse, deleted, func(key []byte) bool {
			if hidden != nil && hidden(key) {
				return true
			}
			c := r.layers.find(key)
			if c == nil {
				return false
			}
			v := c.at(r.layer)
			return v != nil && v.layer > 0
		}), reverse, deleted, func(e Entry, err error) bool {
			if err == nil {
				read.last = e.Key
			}
			stopped = !yield(e, err)
			return !stopped
		})
		read.whole = !stopped
	}
}

// holds reports whether what was read reads the same on all layers.
func (r *readSet) holds() bool {
	for _, v := range r.values {
		now := v.cell.newest.Load()
		if now.layer > r.layer && (now.found != v.seen.found || !bytes.Equal(now.value, v.seen.value)) {
			return false
		}
	}
	for _, s := range r.spans {
		if s.touched(r) {
			return false
		}
	}
	for _, c := range r.counters {
		if !c.holds(r.written(c.cell)) {
			return false
		}
	}
	return true
}

// written returns what layers above those that were read wrote of a key, or nil.
func (r *readSet) written(c *cell) *version {
	if v := c.newest.Load(); v.layer > r.layer {
		return v
	}
	return nil
}

func (s *span) touched(r *readSet) bool {
	switch {
	case s.whole:
		return r.layers.touched(r.layer, s.start, s.end)
	case s.last == nil:
		return false
	case s.reverse:
		return r.layers.touched(r.layer, s.last, s.end)
	default:
		return r.layers.touched(r.layer, s.start, append(slices.Clip(s.last), 0)) // up to the least key above the last
	}
}

// peek is Get that is not remembered. It returns the cell, for bound.
func (r *readSet) peek(key []byte) (c *cell, value []byte, found bool, err error) {
	c, v, err := r.read(key)
	if err != nil {
		return nil, nil, false, err
	}
	return c, v.value, v.found, nil
}

// bound remembers an addition to a counter that was now: the sum lies from low to high. The cell is what peek returned, for the first one.
func (r *readSet) bound(key []byte, at *cell, now, sum, low, high int64) {
	c, known := r.counters[string(key)]
	if !known {
		c = counter{cell: at, base: now, down: math.MaxUint64, up: math.MaxUint64}
	}
	c.down, c.up = min(c.down, uint64(sum)-uint64(low)), min(c.up, uint64(high)-uint64(sum))
	if r.counters == nil {
		r.counters = map[string]counter{}
	}
	r.counters[string(key)] = c
}

// holds reports whether the additions end as they did on what was written since, nil being nothing.
func (c counter) holds(v *version) bool {
	if v == nil {
		return true
	}
	now, fits, _ := counterOf(v.value, v.found)
	if !fits {
		return false
	}
	if now < c.base {
		return uint64(c.base)-uint64(now) <= c.down
	}
	return uint64(now)-uint64(c.base) <= c.up
}

// move makes an overlay's sums those of what their counters, which hold, are now.
func (r *readSet) move(o *Overlay) bool {
	for key, c := range r.counters {
		s, v := o.entries[key], r.written(c.cell)
		if !s.sum || v == nil {
			continue
		}
		now, fits, _ := counterOf(v.value, v.found)
		if !fits {
			return false
		}
		then, fits, _ := counterOf(s.value, s.found)
		if !fits {
			return false
		}
		var err error
		if s.value, err = ledger.Marshal(now + then - c.base); err != nil {
			return false
		}
		o.entries[key] = s
	}
	return true
}
