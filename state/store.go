package state

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Errors that callers branch on.
var (
	// ErrNotFound says that the store has no such block yet.
	ErrNotFound = errors.New("state: not found")
	// ErrCommit says that a block is not the one that follows the head, or not the one of its snapshot.
	ErrCommit = errors.New("state: block cannot be committed")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("state: closed")
)

// The files of a store's folder.
const (
	lockName  = "lock"
	stateName = "state.db"
	indexName = "index.db"
	blocksDir = "blocks"
)

// Options are the settings of a store. The zero value, and nil, are good for a node.
type Options struct {
	// FS is where the segments and the lock are. Default: the operating system's.
	FS FS
	// Memory keeps the state table and the index in memory instead of bbolt files. They are made from the
	// segments when the store is opened. For simulation and small tests.
	Memory bool
	// Synchronous makes Commit do the work of the background goroutine, which is not started, and that of Store.Archive.
	Synchronous bool
	// Recent is how many of the last blocks At can return at least. Default 64. It is less when they hold
	// more than FlushBytes.
	Recent int
	// FlushBlocks is after how many blocks beyond Recent the state table is brought up to date. Default 64.
	FlushBlocks int
	// FlushBytes is after how many bytes in memory, estimated, it is brought up to date earlier, and how many that
	// may take. Default 32 MiB.
	FlushBytes int64
	// SegmentBytes is the size from which on a new block segment is begun. Default 256 MiB.
	SegmentBytes int64
	// Workers is how many goroutines may hash for one block, or check the state table in Open. What they find is the
	// same with any number. Default GOMAXPROCS.
	Workers int
	// Archive keeps the state after every block for Archived, in a file that Store.Archive writes: 1.2 MB for a block of
	// 2,000 writes among a million keys. It begins with the first block, or with the base, whenever it is set.
	Archive bool
	// Room returns how many bytes may still be written into the folder, or that nobody knows. The archive leaves 1 GiB of
	// them to the blocks. Nil: nobody knows.
	Room func() (bytes int64, known bool)
	// SetAside lets Open set the last blocks aside where one is damaged: for an owner that fetches them again. Else that is a *SegmentError.
	SetAside bool
	// Notice is told, as one line for an operator, of what was repaired. It may be nil.
	Notice func(string)
}

func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.FS == nil {
		c.FS = OS()
	}
	if c.Notice == nil {
		c.Notice = func(string) {}
	}
	for _, d := range []struct {
		name   string
		field  *int64
		normal int64
	}{{"FlushBytes", &c.FlushBytes, 32 << 20}, {"SegmentBytes", &c.SegmentBytes, 256 << 20}} {
		if *d.field < 0 {
			return c, fmt.Errorf("state: Options.%s is negative", d.name)
		}
		if *d.field == 0 {
			*d.field = d.normal
		}
	}
	for _, d := range []struct {
		name   string
		field  *int
		normal int
	}{{"Recent", &c.Recent, 64}, {"FlushBlocks", &c.FlushBlocks, 64}, {"Workers", &c.Workers, runtime.GOMAXPROCS(0)}} {
		if *d.field < 0 {
			return c, fmt.Errorf("state: Options.%s is negative", d.name)
		}
		if *d.field == 0 {
			*d.field = d.normal
		}
	}
	return c, nil
}

// Store keeps one group's blocks and world state in a folder. See the package comment for its files and what
// survives a crash. Its methods are safe for concurrent use; Commit is for one caller at a time.
type Store struct {
	dir     string
	options Options
	suite   keys.Suite
	lock    io.Closer
	log     *segments
	index   *index
	base    atomic.Pointer[base] // nil: the store begins with genesis
	world   *world
	head    atomic.Pointer[Snapshot]
	damage  damage
	last    [lastBlocks]atomic.Pointer[given]

	asides                 sync.Mutex             // held by asideLater
	asideIndex, asideState atomic.Pointer[string] // what that told, if it took the file away

	healing sync.Mutex // held while segments are written anew; taken before the others
	commit  sync.Mutex // held by Commit and Close
	tables  sync.Mutex // held while the state table and the index are written; taken before mu

	archiving sync.Mutex              // held while the archive is written; taken before mu
	archive   atomic.Pointer[archive] // nil: there is none, or it could not be opened yet
	writer    *archiveWriter          // guarded by archiving; nil: to be made
	baseNeeds int64                   // bytes, at least, if the base did not fit; guarded by archiving

	mu      sync.Mutex  // guards what follows
	recent  []*Snapshot // from the newest that the state table includes, or genesis, to the head
	tabled  uint64      // blocks that the state table includes
	pending int64       // bytes that the blocks after those hold in memory
	failed  error       // why nothing more can be committed
	closed  bool
	halted  error // why the archive does not go on; nil: it does

	wake    chan struct{} // one element: a flush may be due
	flushed chan struct{} // one element: a flush ended
	stop    chan struct{}
	done    sync.WaitGroup
}

// lastBlocks is how many of the blocks that were committed last the store keeps as Commit was given them: a block is asked
// for most at the moment when it is there, and reading it back takes as long as writing it did.
const lastBlocks = 4

type given struct {
	block    *ledger.Block
	receipts []ledger.Receipt
}

// given returns what Commit was given as block h, if that is among the last.
func (s *Store) given(h ledger.Height) *given {
	if g := s.last[(uint64(h)+1)%lastBlocks].Load(); g != nil && g.block.Header.Order.Height == h && h >= s.Kept() {
		return g
	}
	return nil
}

// Head returns the snapshot after the last committed block, or nil before genesis is committed.
func (s *Store) Head() *Snapshot { return s.head.Load() }

// Suite returns the suite that the store was opened with.
func (s *Store) Suite() keys.Suite { return s.suite }

// At returns the snapshot at a recent height: ErrPruned when it is too old, ErrNotFound when there is no such
// block yet.
func (s *Store) At(h ledger.Height) (*Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) > 0 {
		first := s.recent[0].Height()
		if h < first {
			return nil, fmt.Errorf("%w: state at height %d; the oldest is at %d", ErrPruned, h, first)
		}
		if n := uint64(h - first); n < uint64(len(s.recent)) {
			return s.recent[n], nil
		}
	}
	return nil, fmt.Errorf("%w: state at height %d", ErrNotFound, h)
}

// Oldest returns the lowest height that At has a snapshot of, and 0 before genesis is committed.
func (s *Store) Oldest() ledger.Height {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) == 0 {
		return 0
	}
	return s.recent[0].Height()
}

// Commit makes block b, whose execution gave next, the head. It is durable when Commit returns; after an error
// other than ErrCommit it may be or not, and the store accepts nothing more until it is opened again.
//
// next must extend the head, or for genesis Empty; b.Header must be next's. Commit checks the transactions
// against the header's root, but neither certificate nor signatures. Continue from Head, which is next itself
// except after genesis.
func (s *Store) Commit(b *ledger.Block, next *Snapshot) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	h := b.Header.Order.Height
	payload, next, err := s.prepare(b, next)
	if err != nil {
		return fmt.Errorf("commit block %d: %w", h, err)
	}
	at, err := s.log.append(h, payload)
	if err != nil {
		err = fmt.Errorf("commit block %d: %w", h, err)
		s.fail(err)
		return err
	}
	s.accept(b, next, at)
	if s.options.Archive && s.options.Synchronous && s.archiveDue(b.Header.Order.Height) {
		s.archiveAll()
	}
	return s.flushIfDue()
}

// usable returns why nothing can be committed, or nil.
func (s *Store) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.failed != nil:
		return fmt.Errorf("the store stopped earlier and must be opened again: %w", s.failed)
	}
	return nil
}

func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// prepare checks a block and returns what to write, and the snapshot to make the head.
func (s *Store) prepare(b *ledger.Block, next *Snapshot) ([]byte, *Snapshot, error) {
	head := s.Head()
	if next == nil || next.header == nil || next.final.Load() {
		return nil, nil, fmt.Errorf("%w: its snapshot is none, or committed already", ErrCommit)
	}
	parent := next.parent.Load()
	switch {
	case head == nil && parent.header != nil:
		return nil, nil, fmt.Errorf("%w: genesis must be committed first", ErrCommit)
	case head == nil:
		// Take genesis over into this store's world: other stores may share the caller's.
		own, err := emptySnapshot(s.world).extendEncoded(&next.header.Order, next.result, next.encoded)
		if err != nil {
			return nil, nil, err
		}
		own.receipts, own.ids = next.receipts, next.ids
		next = own
	case parent != head:
		return nil, nil, fmt.Errorf("%w: its snapshot does not extend the head at height %d", ErrCommit, head.Height())
	}
	if hash := b.Header.Hash(s.suite); hash != next.hash {
		return nil, nil, fmt.Errorf("%w: its header %s is not the snapshot's %s", ErrCommit, hash, next.hash)
	}
	if err := checkTxs(s.suite, b); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCommit, err)
	}
	block, err := ledger.Marshal(b)
	if err != nil {
		return nil, nil, err
	}
	payload, err := s.log.pack(&record{block: block, receipts: next.encoded, changes: next.result.Changes})
	return payload, next, err
}

// checkTxs checks that a block's transactions are those that its header commits to.
func checkTxs(suite keys.Suite, b *ledger.Block) error {
	order := &b.Header.Order
	if int(order.TxCount) != len(b.Txs) {
		return fmt.Errorf("%d transactions where the header says %d", len(b.Txs), order.TxCount)
	}
	leaves := make([]keys.Digest, len(b.Txs))
	for i, raw := range b.Txs {
		leaves[i] = keys.Hash(suite, "signed-tx", raw)
	}
	if ledger.Root(suite, leaves) != order.TxRoot {
		return errors.New("the transactions are not those that the header commits to")
	}
	return nil
}

// accept makes next, which is durable at a place, the head.
func (s *Store) accept(b *ledger.Block, next *Snapshot, at place) {
	next.final.Store(true)
	s.index.add(next.hash, at.offset, next.ids)
	s.last[next.blocks()%lastBlocks].Store(&given{b, next.receipts})
	next.receipts, next.encoded, next.ids = nil, nil, nil
	s.mu.Lock()
	s.recent = append(s.recent, next)
	s.pending += next.bytes
	s.head.Store(next)
	s.mu.Unlock()
}

// due returns the snapshot up to which the state table is to be brought, or nil. Few large blocks are as much
// a reason as many small ones, down to the head alone when it holds more than twice what it should.
func (s *Store) due() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := s.options.Recent
	switch {
	case s.pending > 2*s.options.FlushBytes:
		keep = 0
	case s.pending > s.options.FlushBytes:
		keep = min(keep, 2)
	case len(s.recent) < s.options.Recent+s.options.FlushBlocks:
		return nil
	}
	if n := len(s.recent) - 1 - keep; n >= 0 && s.recent[n].blocks() > s.tabled {
		return s.recent[n]
	}
	return nil
}

// backlog reports whether so much waits to be flushed that committing must wait.
func (s *Store) backlog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed == nil && !s.closed && (s.pending > 4*s.options.FlushBytes || len(s.recent) > s.options.Recent+8*s.options.FlushBlocks)
}

func (s *Store) flushIfDue() error {
	to := s.due()
	if to == nil {
		return nil
	}
	if s.options.Synchronous {
		return s.flush(to)
	}
	for {
		select {
		case s.wake <- struct{}{}:
		default:
		}
		if !s.backlog() {
			return nil
		}
		<-s.flushed
	}
}

// flusher brings the state table up to date in the background.
func (s *Store) flusher() {
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
		}
		if to := s.due(); to != nil {
			_ = s.flush(to) // the next Commit reports it
		}
		select {
		case s.flushed <- struct{}{}:
		default:
		}
	}
}

// flush brings the state table and the index up to a snapshot.
func (s *Store) flush(to *Snapshot) error {
	s.tables.Lock()
	defer s.tables.Unlock()
	return s.flushTables(to)
}

// flushTables is flush by who holds the tables.
func (s *Store) flushTables(to *Snapshot) error {
	s.mu.Lock()
	var moving []*Snapshot
	for _, sn := range s.recent {
		if sn.blocks() > s.tabled && sn.blocks() <= to.blocks() {
			moving = append(moving, sn)
		}
	}
	s.mu.Unlock()
	tables, told := s.index.kv, &s.asideIndex
	err := s.index.flush(to.blocks()) // also if it was made again, and the table includes the blocks already
	if err == nil && len(moving) > 0 {
		tables, told = s.world.table.kv, &s.asideState
		err = settle(s.world.table, moving)
	}
	if bad, ok := errors.AsType[*damaged](err); ok {
		err = errors.New(s.asideLater(tables, told, bad))
	}
	if err != nil {
		err = fmt.Errorf("bring the state table to height %d: %w", to.Height(), err)
		s.fail(err)
		return err
	}
	if len(moving) == 0 {
		return nil
	}
	// The table now has what these versions held in memory.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tabled = to.blocks()
	for len(s.recent) > 0 && s.recent[0] != to {
		s.recent[0] = nil
		s.recent = s.recent[1:]
	}
	for _, sn := range moving {
		s.pending -= sn.bytes
	}
	for _, sn := range s.recent[1:] {
		if sn.parent.Load() == to {
			sn.parent.Store(nil)
		}
	}
	return nil
}

// Close brings the state table up to date, so that the next Open is quick, and releases the folder. Where a file of tables was set aside (see
// Aside), the next Open has much to do anyway.
func (s *Store) Close() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	failed := s.failed
	s.mu.Unlock()
	close(s.stop)
	s.done.Wait()
	var err error
	if head := s.Head(); head != nil && failed == nil {
		s.archiveRest()
		if !s.options.Memory && len(s.Aside()) == 0 {
			err = s.flush(head)
		}
	}
	return errors.Join(err, s.release())
}

func (s *Store) release() error { return errors.Join(s.closeFiles(), s.lock.Close()) }

func (s *Store) closeFiles() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.close())
	}
	if s.world != nil && s.world.table != nil {
		errs = append(errs, s.world.table.kv.close())
	}
	if s.index != nil {
		errs = append(errs, s.index.kv.close())
	}
	if a := s.archive.Load(); a != nil {
		errs = append(errs, a.file.Close())
	}
	return errors.Join(errs...)
}

// record reads a block's record. ErrPruned when there is none any more.
func (s *Store) record(h ledger.Height) (*record, error) {
	r, err := s.stored(h)
	if err == nil && r.pruned {
		return nil, s.isPruned(h)
	}
	return r, err
}

// Payload returns a block as Importer.Block takes it where the blocks from kept on are given in full. ErrPruned when this
// one would have to be, and is not kept so.
func (s *Store) Payload(h, kept ledger.Height) ([]byte, error) {
	payload, err := s.payload(h)
	switch {
	case err != nil:
		return nil, err
	case h >= kept && h < s.Kept():
		return nil, s.isPruned(h)
	case h >= kept:
		return payload, nil
	}
	if payload, err = s.log.prune(payload, false); err != nil {
		return nil, fmt.Errorf("read block %d: %w", h, err)
	}
	return payload, nil
}

func (s *Store) isPruned(h ledger.Height) error {
	return fmt.Errorf("%w: what block %d holds; the blocks from %d on are here", ErrPruned, h, s.Kept())
}

// payload reads the payload of a block's frame.
func (s *Store) payload(h ledger.Height) ([]byte, error) {
	s.log.moves.RLock()
	defer s.log.moves.RUnlock()
	b, err := s.index.block(h)
	if err != nil {
		return nil, err
	}
	payload, _, err := s.look(h, b.offset)
	if bad, ok := errors.AsType[*SegmentError](err); ok {
		s.damage.found(bad)
	} else if err == nil {
		s.damage.sound(h)
	}
	return payload, err
}

// look reads the payload of a frame where the index may be wrong about the place: it returns the right one. Of a block that is known
// to be damaged none is searched for, which takes long.
func (s *Store) look(h ledger.Height, offset int64) (payload []byte, at int64, err error) {
	payload, err = s.log.read(h, offset)
	bad, damaged := errors.AsType[*SegmentError](err)
	if !damaged || payload != nil || s.damage.known(h) { // its head is there, so the place is right
		return payload, offset, err
	}
	at, found, err := s.find(h)
	if err != nil {
		return nil, 0, err
	}
	if !found || at == offset {
		return nil, offset, bad
	}
	payload, err = s.log.read(h, at)
	return payload, at, err
}

// Kept returns the height of the first block that the store has in full. Of those below it has what Certified returns.
func (s *Store) Kept() ledger.Height {
	if b := s.base.Load(); b != nil {
		return b.Kept
	}
	return 0
}

// Certified returns what stays of a block when it is pruned: its header, certificate and new-view, and the transactions if
// it ended its epoch.
func (s *Store) Certified(h ledger.Height) (*ledger.Block, error) {
	r, err := s.stored(h)
	if err != nil {
		return nil, err
	}
	b, err := r.decodeBlock()
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w", h, err)
	}
	return certified(b), nil
}

// stored reads what there is of a block.
func (s *Store) stored(h ledger.Height) (*record, error) {
	payload, err := s.payload(h)
	if err != nil {
		return nil, err
	}
	r, err := s.log.unpack(payload)
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w", h, err)
	}
	return r, nil
}

// RawBlock returns the canonical encoding of a block, for sending it to others. ErrNotFound when there is no
// such block yet, ErrPruned when it is not kept in full any more; likewise for what else is read of a block.
func (s *Store) RawBlock(h ledger.Height) ([]byte, error) {
	r, err := s.record(h)
	if err != nil {
		return nil, err
	}
	return r.block, nil
}

// Block returns a block. It must not be changed.
func (s *Store) Block(h ledger.Height) (*ledger.Block, error) {
	if g := s.given(h); g != nil {
		return g.block, nil
	}
	r, err := s.record(h)
	if err != nil {
		return nil, err
	}
	b, err := r.decodeBlock()
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w", h, err)
	}
	return b, nil
}

// Receipts returns the receipts of a block. They must not be changed.
func (s *Store) Receipts(h ledger.Height) ([]ledger.Receipt, error) {
	if g := s.given(h); g != nil {
		return g.receipts, nil
	}
	r, err := s.record(h)
	if err != nil {
		return nil, err
	}
	receipts, err := r.decodeReceipts()
	if err != nil {
		return nil, fmt.Errorf("read block %d: %w", h, err)
	}
	return receipts, nil
}

// Changes returns the changes of a block to the world state, sorted by key.
func (s *Store) Changes(h ledger.Height) ([]ledger.Change, error) {
	r, err := s.record(h)
	if err != nil {
		return nil, err
	}
	return r.changes, nil
}

// Header returns the header of a block.
func (s *Store) Header(h ledger.Height) (*ledger.Header, error) {
	if sn, err := s.At(h); err == nil {
		return sn.header, nil
	}
	b, err := s.Certified(h)
	if err != nil {
		return nil, err
	}
	return &b.Header, nil
}

// BlockHash returns the hash of a block.
func (s *Store) BlockHash(h ledger.Height) (keys.Digest, error) {
	b, err := s.index.block(h)
	return b.hash, err
}

// FindTx returns the block that holds a transaction, and its position there.
func (s *Store) FindTx(id ledger.TxID) (h ledger.Height, index uint32, found bool, err error) {
	at, found, err := s.index.findTx(id)
	if bad, ok := errors.AsType[*damaged](err); ok {
		err = errors.New(s.asideLater(s.index.kv, &s.asideIndex, bad))
	}
	return at.height, at.index, found, err
}

// ProveHistory shows that block `of` is below block `at`: the proof leads from the hash of the one to the
// HistoryRoot of the other.
func (s *Store) ProveHistory(of, at ledger.Height) (ledger.Proof, error) {
	if of >= at || uint64(at) >= s.index.blocks() {
		return ledger.Proof{}, fmt.Errorf("%w: block %d below block %d", ErrNotFound, of, at)
	}
	return s.index.prove(uint64(of), uint64(at))
}

// Blocks yields the blocks from height from up to and with to, or the head. An error ends the sequence.
func (s *Store) Blocks(from, to ledger.Height) iter.Seq2[*ledger.Block, error] {
	return func(yield func(*ledger.Block, error) bool) {
		for h := from; h <= to; h++ {
			b, err := s.Block(h)
			if errors.Is(err, ErrNotFound) {
				return
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}
