package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Reader is a world state that can be read: a Snapshot or an Overlay.
type Reader interface {
	// Get returns the value of a key. The caller must not change it.
	Get(key []byte) (value []byte, found bool, err error)
	// Range yields the keys from start up to and without end, nil being no bound, in rising order, or in
	// falling order when reverse is set. An error ends the sequence. The caller must not change the bytes.
	Range(start, end []byte, reverse bool) iter.Seq2[Entry, error]
	// walk is Range that leaves out the values of the keys that hidden names: to read one costs the most. With deleted it
	// yields what overlays took away as well. hidden may be nil.
	walk(start, end []byte, reverse, deleted bool, hidden func(key []byte) bool) iter.Seq2[Entry, error]
}

// Entry is a key of the world state and its value.
type Entry struct {
	Key, Value []byte
	Deleted    bool // only from Overlay.Walk: an overlay took the key away
}

// Result is what executing an order gave.
type Result struct {
	Receipts  []ledger.Receipt // one per transaction, in order
	Changes   []ledger.Change  // sorted by key, each key once
	GasUsed   ledger.Gas
	NextEpoch keys.Digest // see ledger.Header
}

// ErrExtend says that an order or result does not fit on the snapshot that it was to extend.
var ErrExtend = errors.New("state: block does not extend the snapshot")

// Snapshot is the world state after one block. It never changes, and is safe for concurrent use.
//
// A snapshot in the store's recent past can be read for as long as the store keeps its height (see
// Options.Recent); later its reads fail with ErrPruned. One that was never committed can be read until a block
// that contradicts it is old enough.
type Snapshot struct {
	world   *world
	header  *ledger.Header // nil before genesis
	hash    keys.Digest
	order   keys.Digest     // order hash
	history ledger.Frontier // over the hashes of the blocks up to this one
	root    *node
	writes  []*leaf // of this block, sorted by key
	fresh   []*node // buckets that this block made
	bytes   int64   // estimate of what this version holds in memory for itself

	receipts []ledger.Receipt // kept until the block is committed
	encoded  [][]byte         // the receipts' encodings; likewise
	ids      []ledger.TxID    // of the receipts; likewise
	result   Result           // without receipts; its changes are what writes point to

	parent atomic.Pointer[Snapshot] // nil once the state table includes the parent's block
	final  atomic.Bool              // committed
}

// world is what the versions of one state share.
type world struct {
	suite keys.Suite
	table *table // nil: everything is in memory

	workers int // see Options.Workers
}

// hashers returns how many goroutines may hash for one block.
func (w *world) hashers() int { return cmp.Or(w.workers, runtime.GOMAXPROCS(0)) }

// side runs functions side by side, or one after the other if there is one worker.
func (w *world) side(all ...func()) {
	var wg sync.WaitGroup
	for i, f := range all {
		if w.hashers() > 1 && i < len(all)-1 {
			wg.Go(f)
		} else {
			f()
		}
	}
	wg.Wait()
}

// Empty returns the world before genesis. Its Header is nil, and genesis extends it. The store that genesis is
// committed to makes its own snapshot of it: continue from Store.Head.
func Empty(suite keys.Suite) *Snapshot {
	return emptySnapshot(&world{suite: suite})
}

func emptySnapshot(w *world) *Snapshot {
	sn := &Snapshot{world: w}
	sn.final.Store(true)
	return sn
}

// Header returns the header of the block that made the snapshot; nil for Empty. It must not be changed.
func (sn *Snapshot) Header() *ledger.Header { return sn.header }

// Height returns the height of the block that made the snapshot; 0 for Empty.
func (sn *Snapshot) Height() ledger.Height {
	if sn.header == nil {
		return 0
	}
	return sn.header.Order.Height
}

// Hash returns the block hash; zero for Empty.
func (sn *Snapshot) Hash() keys.Digest { return sn.hash }

// OrderHash returns the order hash; zero for Empty.
func (sn *Snapshot) OrderHash() keys.Digest { return sn.order }

// Root returns the state root: zero when there are no keys.
func (sn *Snapshot) Root() keys.Digest { return rootHash(sn.root) }

// Len returns the number of keys.
func (sn *Snapshot) Len() int { return size(sn.root) }

// Result returns what the block's execution gave, without its receipts. It must not be changed.
func (sn *Snapshot) Result() Result { return sn.result }

// Receipts returns the receipts that Extend was given while the block is not committed. Afterwards they are the store's
// (Store.Receipts), and here there are none. They must not be changed, and it must not be called while the snapshot is
// being committed.
func (sn *Snapshot) Receipts() []ledger.Receipt { return sn.receipts }

// blocks returns how many blocks led to the snapshot.
func (sn *Snapshot) blocks() uint64 {
	if sn.header == nil {
		return 0
	}
	return uint64(sn.header.Order.Height) + 1
}

// limit returns how many blocks the state table may include for the snapshot to be read on top of it: those
// up to its last committed ancestor.
func (sn *Snapshot) limit() uint64 {
	for !sn.final.Load() {
		p := sn.parent.Load()
		if p == nil {
			break
		}
		sn = p
	}
	return sn.blocks()
}

// Get returns the value of a key. The caller must not change it.
func (sn *Snapshot) Get(key []byte) (value []byte, found bool, err error) {
	path := ledger.StatePath(sn.world.suite, key)
	n := sn.root
	for depth := 0; n != nil && !n.bucket(); depth++ {
		if ledger.StateBit(path, depth) == 0 {
			n = n.left
		} else {
			n = n.right
		}
	}
	if n == nil {
		return nil, false, nil
	}
	if leaves := n.leaves.Load(); leaves != nil {
		l := find(*leaves, path)
		if l == nil {
			return nil, false, nil
		}
		if l.change != nil {
			return l.change.Value, true, nil
		}
	}
	err = sn.view(func(r reader) error {
		value, found, err = sn.world.table.get(r, path)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read key %x at height %d: %w", key, sn.Height(), err)
	}
	return value, found, nil
}

func find(leaves []leaf, path keys.Digest) *leaf {
	for i := range leaves {
		if leaves[i].path == path {
			return &leaves[i]
		}
	}
	return nil
}

func (sn *Snapshot) view(f func(reader) error) error {
	if sn.world.table == nil {
		return fmt.Errorf("%w: the snapshot has no store", ErrPruned)
	}
	return sn.world.table.view(sn.limit(), f)
}

// Prove shows that the key has its value under Root, or that it has none.
func (sn *Snapshot) Prove(key []byte) (ledger.StateProof, error) {
	proof, err := sn.prove(key)
	if err != nil {
		return proof, fmt.Errorf("prove key %x at height %d: %w", key, sn.Height(), err)
	}
	return proof, nil
}

func (sn *Snapshot) prove(key []byte) (proof ledger.StateProof, err error) {
	suite := sn.world.suite
	path := ledger.StatePath(suite, key)
	var prefix keys.Digest
	n, depth := sn.root, 0
	for ; n != nil && !n.bucket(); depth++ {
		if ledger.StateBit(path, depth) == 0 {
			proof.Siblings = append(proof.Siblings, rootHash(n.right))
			n = n.left
		} else {
			proof.Siblings = append(proof.Siblings, rootHash(n.left))
			prefix, n = withBit(prefix, depth), n.right
		}
	}
	slices.Reverse(proof.Siblings)
	if n == nil {
		return proof, nil
	}
	var leaves []leaf
	if p := n.leaves.Load(); p != nil {
		leaves = *p
	} else if err = sn.view(func(r reader) error {
		leaves, err = sn.world.table.bucket(r, n, prefix, depth, nil)
		return err
	}); err != nil {
		return proof, err
	}
	if find(leaves, path) != nil {
		for _, l := range leaves {
			proof.Leaves = append(proof.Leaves, l.digest)
		}
		return proof, nil
	}
	for _, l := range leaves {
		entry := ledger.StateEntry{Path: l.path}
		if l.change != nil {
			entry.Value = ledger.StateValue(suite, l.change.Value)
		} else if err := sn.view(func(r reader) error {
			value, found, err := sn.world.table.get(r, l.path)
			if err == nil && !found {
				err = sn.world.table.damaged("the row of path %s is missing", l.path)
			}
			entry.Value = ledger.StateValue(suite, value)
			return err
		}); err != nil {
			return proof, err
		}
		proof.Entries = append(proof.Entries, entry)
	}
	return proof, nil
}

// Extend returns the snapshot after one more block, with its complete header. It writes nothing: the result
// may be extended itself, committed or forgotten. The snapshot keeps the result's bytes; they must not be
// changed afterwards.
func (sn *Snapshot) Extend(order *ledger.Order, r Result) (*Snapshot, error) {
	next, err := sn.extend(order, r)
	if err != nil {
		return nil, fmt.Errorf("extend height %d: %w", sn.Height(), err)
	}
	return next, nil
}

func (sn *Snapshot) extend(order *ledger.Order, r Result) (*Snapshot, error) {
	if err := sn.fits(order, r); err != nil {
		return nil, err
	}
	encoded := make([][]byte, len(r.Receipts))
	for i := range r.Receipts {
		var err error
		if encoded[i], err = ledger.Marshal(&r.Receipts[i]); err != nil {
			return nil, fmt.Errorf("encode receipt %d: %w", i, err)
		}
	}
	next, err := sn.extendEncoded(order, r, encoded)
	if err != nil {
		return nil, err
	}
	next.receipts = r.Receipts
	next.ids = make([]ledger.TxID, len(r.Receipts))
	for i := range r.Receipts {
		next.ids[i] = r.Receipts[i].Tx
	}
	return next, nil
}

func (sn *Snapshot) fits(order *ledger.Order, r Result) error {
	switch {
	case uint64(order.Height) != sn.blocks():
		return fmt.Errorf("%w: its height is %d, want %d", ErrExtend, order.Height, sn.blocks())
	case order.Parent != sn.order:
		return fmt.Errorf("%w: its parent's order is %s, want %s", ErrExtend, order.Parent, sn.order)
	case sn.header != nil && order.Chain != sn.header.Order.Chain:
		return fmt.Errorf("%w: it is of chain %s, want %s", ErrExtend, order.Chain, sn.header.Order.Chain)
	case int(order.TxCount) != len(r.Receipts):
		return fmt.Errorf("%w: %d receipts for %d transactions", ErrExtend, len(r.Receipts), order.TxCount)
	}
	for i := range r.Receipts {
		if r.Receipts[i].Index != uint32(i) {
			return fmt.Errorf("%w: receipt %d says it is number %d", ErrExtend, i, r.Receipts[i].Index)
		}
	}
	return checkChanges(r.Changes)
}

func checkChanges(changes []ledger.Change) error {
	for i := range changes {
		if i > 0 && bytes.Compare(changes[i-1].Key, changes[i].Key) >= 0 {
			return fmt.Errorf("%w: change %d, of key %x, is not above the one before", ErrExtend, i, changes[i].Key)
		}
		if changes[i].Deleted && len(changes[i].Value) != 0 {
			return fmt.Errorf("%w: change %d, of key %x, deletes and has a value", ErrExtend, i, changes[i].Key)
		}
	}
	return nil
}

// extendEncoded is Extend for checked input; encoded holds the receipts' encodings.
func (sn *Snapshot) extendEncoded(order *ledger.Order, r Result, encoded [][]byte) (*Snapshot, error) {
	suite := sn.world.suite
	next := &Snapshot{world: sn.world, order: order.Hash(suite), encoded: encoded, result: r}
	next.result.Receipts = nil

	for i := range encoded {
		next.bytes += int64(len(encoded[i]))
	}
	var receipts, changes keys.Digest
	var failed error
	sn.world.side(
		func() { receipts = receiptRoot(suite, encoded) },
		func() { changes = changeRoot(suite, r.Changes) },
		func() { failed = next.write(sn, r.Changes) },
	)
	if failed != nil {
		return nil, failed
	}
	next.header = &ledger.Header{
		Order: *order, Parent: sn.hash, StateRoot: next.Root(), ReceiptRoot: receipts, ChangeRoot: changes,
		HistoryRoot: sn.history.Root(suite), GasUsed: r.GasUsed, NextEpoch: r.NextEpoch,
	}
	next.hash = next.header.Hash(suite)
	next.history = ledger.Frontier{Size: sn.history.Size, Peaks: slices.Clone(sn.history.Peaks)}
	next.history.Append(suite, next.hash)
	next.parent.Store(sn)
	return next, nil
}

// receiptRoot returns Header.ReceiptRoot for encoded receipts, changeRoot Header.ChangeRoot for sorted changes.
func receiptRoot(suite keys.Suite, encoded [][]byte) keys.Digest {
	return rootOf(suite, len(encoded), func(i int) keys.Digest { return keys.Hash(suite, "receipt", encoded[i]) })
}

func changeRoot(suite keys.Suite, changes []ledger.Change) keys.Digest {
	return rootOf(suite, len(changes), func(i int) keys.Digest { return changes[i].Hash(suite) })
}

func rootOf(suite keys.Suite, n int, leaf func(i int) keys.Digest) keys.Digest {
	leaves := make([]keys.Digest, n)
	for i := range leaves {
		leaves[i] = leaf(i)
	}
	return ledger.Root(suite, leaves)
}

// write makes the snapshot's tree: parent's with changes applied.
func (sn *Snapshot) write(parent *Snapshot, changes []ledger.Change) error {
	workers := parent.world.hashers()
	sn.writes = make([]*leaf, len(changes))
	block := make([]leaf, len(changes))
	var wg sync.WaitGroup
	size := max(editsAtOnce, (len(changes)+workers-1)/workers)
	for from := 0; from < len(changes); from += size {
		piece := func() {
			hash := ledger.NewStateHasher(parent.world.suite)
			for i := from; i < min(from+size, len(changes)); i++ {
				c, l := &changes[i], &block[i]
				l.path, l.change = hash.Path(c.Key), c
				if !c.Deleted {
					l.digest = hash.Leaf(l.path, hash.Value(c.Value))
				}
				sn.writes[i] = l
			}
		}
		if from+size < len(changes) {
			wg.Go(piece)
		} else {
			piece()
		}
	}
	wg.Wait()
	for i := range changes {
		sn.bytes += int64(len(changes[i].Key)+len(changes[i].Value)) + 240
	}
	edits := slices.Clone(sn.writes)
	slices.SortFunc(edits, compareLeaf)
	t := parent.world.table
	var e *editor
	var err error
	for again := true; again; {
		e = &editor{hash: ledger.NewStateHasher(parent.world.suite), table: t}
		var settled uint64
		if t != nil {
			settled = t.settled.Load()
			e.view = func(f func(reader) error) error { return t.look(parent.limit(), f) }
		}
		sn.root, err = e.applyBy(workers, parent.root, keys.Digest{}, 0, edits)
		// A bucket's leaves are taken away once they are in the table: what began to read before that has missed them.
		again = t != nil && t.settled.Load() != settled && (e.read > 0 || err != nil)
	}
	sn.bytes += 80 * int64(e.read)
	sn.fresh = e.fresh
	sn.bytes += 64*int64(e.made) + 128*int64(len(e.fresh))
	if t != nil {
		err = t.tell(err)
	}
	return err
}

// Range yields the keys from start up to and without end in order. See Reader.
func (sn *Snapshot) Range(start, end []byte, reverse bool) iter.Seq2[Entry, error] {
	return sn.walk(start, end, reverse, false, nil)
}

// walk has nothing to tell of what was taken away: the keys are gone.
func (sn *Snapshot) walk(start, end []byte, reverse, _ bool, hidden func(key []byte) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if end != nil && bytes.Compare(start, end) >= 0 {
			return
		}
		var sources []source
		for s := sn; s != nil; s = s.parent.Load() {
			if writes := s.between(start, end); len(writes) > 0 {
				sources = append(sources, &writeSource{writes: writes, reverse: reverse})
			}
		}
		if sn.world.table != nil {
			sources = append(sources, &tableSource{sn: sn, start: start, end: end, reverse: reverse})
		}
		for e, err := range mergeSources(sources, reverse, hidden) {
			if err != nil {
				yield(Entry{}, fmt.Errorf("range over %x to %x at height %d: %w", start, end, sn.Height(), err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// between returns the block's writes with keys from start up to and without end.
func (sn *Snapshot) between(start, end []byte) []*leaf {
	lo := sort.Search(len(sn.writes), func(i int) bool { return bytes.Compare(sn.writes[i].change.Key, start) >= 0 })
	hi := len(sn.writes)
	if end != nil {
		hi = lo + sort.Search(hi-lo, func(i int) bool { return bytes.Compare(sn.writes[lo+i].change.Key, end) >= 0 })
	}
	return sn.writes[lo:hi]
}

// source is a sorted sequence of writes or keys that takes part in a range.
type source interface {
	// peek returns what comes next, or ok false at the end.
	peek() (c *ledger.Change, ok bool, err error)
	next()
	// load returns the value of a change that peek returned.
	load(c *ledger.Change) ([]byte, error)
}

// mergeSources yields what a reader sees who reads the sources on top of one another, the first on top. Values are
// loaded one by one, as they are yielded, and not for keys that hidden names.
func mergeSources(sources []source, reverse bool, hidden func(key []byte) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for {
			var best *ledger.Change
			var from source
			for _, s := range sources {
				c, ok, err := s.peek()
				if err != nil {
					yield(Entry{}, err)
					return
				}
				if !ok {
					continue
				}
				if best == nil {
					best, from = c, s
				} else if d := bytes.Compare(c.Key, best.Key); d < 0 != reverse && d != 0 {
					best, from = c, s
				}
			}
			if best == nil {
				return
			}
			for _, s := range sources {
				if c, ok, _ := s.peek(); ok && bytes.Equal(c.Key, best.Key) {
					s.next()
				}
			}
			if best.Deleted {
				continue
			}
			e := Entry{Key: best.Key}
			if hidden == nil || !hidden(e.Key) {
				var err error
				if e.Value, err = from.load(best); err != nil {
					yield(Entry{}, err)
					return
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

type writeSource struct {
	writes  []*leaf
	reverse bool
}

func (s *writeSource) peek() (*ledger.Change, bool, error) {
	switch {
	case len(s.writes) == 0:
		return nil, false, nil
	case s.reverse:
		return s.writes[len(s.writes)-1].change, true, nil
	default:
		return s.writes[0].change, true, nil
	}
}

func (s *writeSource) next() {
	if s.reverse {
		s.writes = s.writes[:len(s.writes)-1]
	} else {
		s.writes = s.writes[1:]
	}
}

func (s *writeSource) load(c *ledger.Change) ([]byte, error) { return c.Value, nil }

// tableSource reads keys from the state table in pieces, so that no read transaction stays open while the consumer
// works, and a value only when it is asked for: a contract pays for what it was given, and values can be large.
// Meanwhile the table may take in newer blocks, but only such that the snapshot knows: their writes hide the table's.
type tableSource struct {
	sn         *Snapshot
	start, end []byte
	reverse    bool
	piece      []ledger.Change
	size       int
	done       bool
}

// The sizes of the first and the largest piece, in keys.
const (
	firstPiece = 16
	largePiece = 256
)

func (s *tableSource) peek() (*ledger.Change, bool, error) {
	if len(s.piece) == 0 && !s.done {
		if err := s.fill(); err != nil {
			return nil, false, err
		}
	}
	if len(s.piece) == 0 {
		return nil, false, nil
	}
	return &s.piece[0], true, nil
}

func (s *tableSource) next() { s.piece = s.piece[1:] }

func (s *tableSource) load(c *ledger.Change) (value []byte, err error) {
	err = s.sn.view(func(r reader) error {
		t := s.sn.world.table
		var found bool
		value, found, err = t.get(r, ledger.StatePath(t.suite, c.Key))
		if err == nil && !found {
			err = t.damaged("key %x has no leaf", c.Key)
		}
		return err
	})
	return value, err
}

func (s *tableSource) fill() error {
	s.size = min(max(2*s.size, firstPiece), largePiece)
	return s.sn.view(func(r reader) error {
		from := keyRow(s.start)
		if s.reverse {
			from = nil
			if s.end != nil {
				from = keyRow(s.end)
			}
		}
		for k := range r.scan(tableKeys, from, s.reverse) {
			key := bytes.Clone(k[1:])
			if s.reverse && bytes.Compare(key, s.start) < 0 || !s.reverse && s.end != nil && bytes.Compare(key, s.end) >= 0 {
				break
			}
			if len(s.piece) == s.size {
				if s.reverse {
					s.end = s.piece[len(s.piece)-1].Key
				} else {
					s.start = key
				}
				return nil
			}
			s.piece = append(s.piece, ledger.Change{Key: key})
		}
		s.done = true
		return nil
	})
}
