package state

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrFault is what every *FaultError matches.
var ErrFault = errors.New("state: the history is not consistent")

// FaultError says what of a block does not fit.
type FaultError struct {
	Height ledger.Height
	What   string
}

func (f *FaultError) Error() string { return fmt.Sprintf("block %d: %s", f.Height, f.What) }

// Is makes a FaultError match ErrFault.
func (f *FaultError) Is(target error) bool { return target == ErrFault }

// Audited is one block of a history as Fsck read it.
type Audited struct {
	Block    *ledger.Block
	Receipts []ledger.Receipt
	Changes  []ledger.Change
	Parent   *Snapshot // the world state that the block was executed on; Empty for genesis; nil where it is not known any more
	Pruned   bool      // Block is what Store.Certified returns, and there are no receipts and changes
	Base     *Snapshot // the world state that the store begins with, if it does not have all blocks in full; else nil
	Done     int64     // bytes of the segments read so far, with this block
	Total    int64     // bytes of all segments
}

// Fsck reads a group's whole history from its segments, trusting nothing that is derived from them, and yields
// every block from genesis on. With a block comes nil, or one or several joined *FaultError values: a header that
// does not link to its parent, transactions, receipts, changes or history that are not what the header
// commits to, change sets that do not give the state root. It goes on behind a fault. What cannot be read at
// all, as *SegmentError tells, ends the sequence, with a zero Audited.
//
// Where there is an archive, its states are compared with the roots of their blocks, and each node with what is below it. What
// is wrong with it comes at the end, as an *ArchiveError with a zero Audited: it says nothing about the blocks.
//
// It leaves to the caller what needs to know more than this package: certificates, signatures, and whether
// executing the transactions on Parent gives Receipts and Changes. Parent can be read until the next step.
//
// In a store that was pruned, blocks up to the one after which the base is have no Parent: of these Fsck checks links,
// history, and what is there. Base is what the blocks above are executed on. It can be read from the first block on, but
// whether it is the state of its block is known only when that block came without a fault.
//
// The folder must not be in use (ErrLocked). Nothing in it is changed; the state is rebuilt in a temporary
// folder, or in memory with Options.Memory.
func Fsck(dir string, suite keys.Suite, opts *Options) iter.Seq2[Audited, error] {
	return func(yield func(Audited, error) bool) {
		a := auditor{dir: dir, suite: suite, yield: yield}
		err := a.run(opts)
		if err != nil && !a.stopped {
			yield(Audited{}, fmt.Errorf("verify %s: %w", dir, err))
		}
	}
}

type auditor struct {
	dir     string
	suite   keys.Suite
	options Options
	log     *segments
	archive *archiveAudit // nil: there is none
	base    *base
	start   *Snapshot // Audited.Base
	sn      *Snapshot
	recent  []*Snapshot // that the scratch table lacks
	pending int64
	done    int64
	total   int64
	yield   func(Audited, error) bool
	stopped bool
}

var errStopped = errors.New("stopped")

func (a *auditor) run(opts *Options) (err error) {
	if a.options, err = opts.complete(); err != nil {
		return err
	}
	files, dir := a.options.FS, a.dir
	var unlock func() error
	if a.log, unlock, err = openIdle(files, dir); err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // nothing was written
	for _, first := range a.log.first {
		f, err := files.Open(a.log.path(first), false)
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		a.total += size
	}
	var scratch kv = newMemKV()
	if !a.options.Memory {
		folder, err := os.MkdirTemp("", "fondaco-verify-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		if scratch, err = openBolt(filepath.Join(folder, stateName)); err != nil {
			return err
		}
	}
	defer scratch.close()
	a.sn = emptySnapshot(&world{suite: a.suite, table: &table{suite: a.suite, kv: scratch, flushBytes: a.options.FlushBytes}})
	if a.base, err = openBase(files, filepath.Join(dir, baseName)); err != nil {
		return err
	}
	if err := a.load(); err != nil {
		return err
	}
	if err := a.openArchive(); err != nil {
		return err
	}
	if a.archive != nil {
		defer a.archive.end()
	}
	end, err := a.log.walk(0, place{}, 0, false, func(string) {}, a.block)
	switch {
	case errors.Is(err, errStopped):
		a.stopped = true
	case err == nil && a.base != nil && end <= a.base.height():
		err = a.base.bad(0, "it is the state after block %d, and the blocks end at %d", a.base.height(), end)
	case err == nil && a.archive != nil:
		err = a.archive.fault
	}
	return err
}

// openIdle opens the blocks in a folder that no store is open in (ErrLocked), for reading, and locks it until unlock. It has some
// (ErrNotFound), and is whole (ErrImport, ErrReplace).
func openIdle(files FS, dir string) (log *segments, unlock func() error, err error) {
	lock, err := files.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	begun, err := importing(files, dir)
	if err != nil {
		return nil, nil, err
	}
	if begun {
		return nil, nil, ErrImport
	}
	if replacing, err := marked(files, dir); err != nil || replacing {
		return nil, nil, cmp.Or(err, ErrReplace)
	}
	if log, err = openSegments(files, filepath.Join(dir, blocksDir), 0); err != nil {
		return nil, nil, err
	}
	if len(log.first) == 0 {
		return nil, nil, errors.Join(fmt.Errorf("%w: there are no blocks", ErrNotFound), log.close())
	}
	return log, func() error { return errors.Join(log.close(), lock.Close()) }, nil
}

// FirstHeader returns the header of the first block in a folder that no store is open in, without looking at the rest. The folder
// must not be in use (ErrLocked), must have blocks (ErrNotFound), and be whole (ErrImport, ErrReplace). Nothing in it is changed.
func FirstHeader(dir string, opts *Options) (header *ledger.Header, err error) {
	options, err := opts.complete()
	if err != nil {
		return nil, err
	}
	log, unlock, err := openIdle(options.FS, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	_, err = log.walk(0, place{}, 0, false, func(string) {}, func(_ ledger.Height, _ place, payload []byte) error {
		r, err := log.unpack(payload)
		if err != nil {
			return err
		}
		b, err := r.decodeBlock()
		if err != nil {
			return err
		}
		header = &b.Header
		return errStopped
	})
	if header != nil && errors.Is(err, errStopped) {
		return header, nil
	}
	return nil, cmp.Or(err, ErrNotFound)
}

// load reads the base, each chunk checked under its root. It is what is executed on only where blocks are missing.
func (a *auditor) load() error {
	if a.base == nil {
		return nil
	}
	t := a.sn.world.table
	hash := ledger.NewStateHasher(a.suite)
	var edits []*leaf
	held := int64(0)
	for c, err := range a.base.chunks(a.suite, 0) {
		if err != nil {
			return err
		}
		if a.base.Kept == 0 {
			continue
		}
		leaves, size := c.edits(hash)
		edits, held = append(edits, leaves...), held+size
		if _, more := c.Next(); more && held < a.options.FlushBytes {
			continue
		}
		if err := t.apply(uint64(a.base.height())+1, edits); err != nil {
			return err
		}
		edits, held = nil, 0
	}
	if a.base.Kept == 0 {
		return nil
	}
	root, _, err := t.check(a.options.Workers)
	if err != nil {
		return err
	}
	header := &a.base.Header
	a.start = &Snapshot{world: a.sn.world, header: header, root: root, hash: header.Hash(a.suite), order: header.Order.Hash(a.suite)}
	a.start.final.Store(true)
	return nil
}

func (a *auditor) block(h ledger.Height, at place, payload []byte) error {
	a.done += int64(frameHead + len(payload))
	if at.offset == int64(segmentHead) {
		a.done += int64(segmentHead)
	}
	bad := func(err error) error {
		return &SegmentError{File: a.log.path(at.first), Offset: at.offset, Height: h, Reason: err.Error()}
	}
	r, err := a.log.unpack(payload)
	if err != nil {
		return bad(err)
	}
	b, err := r.decodeBlock()
	if err != nil {
		return bad(err)
	}
	if r.pruned && (a.base == nil || h >= a.base.Kept) {
		return lostBase(a.dir, h)
	}
	receipts, err := r.decodeReceipts()
	if err != nil {
		return bad(err)
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, &FaultError{Height: h, What: fmt.Sprintf(format, args...)})
	}
	header, parent := &b.Header, a.sn
	if header.Order.Height != h {
		fault("its header says height %d", header.Order.Height)
	}
	if header.Order.Parent != parent.order {
		fault("its order's parent is %s, want %s", header.Order.Parent, parent.order)
	}
	if parent.header != nil && header.Order.Chain != parent.header.Order.Chain {
		fault("it is of chain %s, want %s", header.Order.Chain, parent.header.Order.Chain)
	}
	if !r.pruned {
		if err := checkTxs(a.suite, b); err != nil {
			fault("%v", err)
		}
		if len(receipts) != len(b.Txs) {
			fault("%d receipts for %d transactions", len(receipts), len(b.Txs))
		}
	}
	if a.base != nil && h == a.base.height() && a.base.Header.Hash(a.suite) != header.Hash(a.suite) {
		fault("the base is the state after another block of this height")
	}
	var next *Snapshot
	below := a.start != nil && h <= a.base.height() // the state is not known
	switch {
	case below:
		next = &Snapshot{world: parent.world, header: &ledger.Header{
			Parent: parent.hash, StateRoot: header.StateRoot, ReceiptRoot: header.ReceiptRoot, ChangeRoot: header.ChangeRoot, HistoryRoot: parent.history.Root(a.suite),
		}}
		if !r.pruned {
			next.header.ReceiptRoot, next.header.ChangeRoot = receiptRoot(a.suite, r.receipts), changeRoot(a.suite, r.changes)
		}
		if h == a.base.height() {
			next.header.StateRoot, next.root = a.start.Root(), a.start.root
		}
		next.order = header.Order.Hash(a.suite)
	default:
		if next, err = parent.extendEncoded(&header.Order, Result{Changes: r.changes, GasUsed: header.GasUsed, NextEpoch: header.NextEpoch}, r.receipts); err != nil {
			return err
		}
	}
	for _, root := range []struct {
		what      string
		got, want keys.Digest
	}{
		{"the parent's block hash", header.Parent, next.header.Parent},
		{"the root of the receipts", header.ReceiptRoot, next.header.ReceiptRoot},
		{"the root of the changes", header.ChangeRoot, next.header.ChangeRoot},
		{"the state root", header.StateRoot, next.header.StateRoot},
		{"the root of the history", header.HistoryRoot, next.header.HistoryRoot},
	} {
		if root.got != root.want {
			fault("its header gives %s as %s, recomputed it is %s", root.what, root.got, root.want)
		}
	}
	if err := a.archive.block(header); err != nil {
		return err
	}
	// The next block is measured by what is stored, so that one fault is reported once.
	next.header, next.hash = header, header.Hash(a.suite)
	next.history = ledger.Frontier{Size: parent.history.Size, Peaks: slices.Clone(parent.history.Peaks)}
	next.history.Append(a.suite, next.hash)
	audited := Audited{Block: b, Receipts: receipts, Changes: r.changes, Parent: parent, Pruned: r.pruned, Base: a.start, Done: a.done, Total: a.total}
	if below {
		audited.Parent = nil
	}
	if !a.yield(audited, errors.Join(faults...)) {
		return errStopped
	}
	if below {
		next.final.Store(true)
		a.sn = next
		return nil
	}
	return a.accept(next)
}

// archiveAudit checks the archive beside the blocks.
type archiveAudit struct {
	archive *archive
	next    func() (*archiveFrame, error, bool)
	stop    func()
	frame   *archiveFrame // the first that was not checked
	fault   error         // an *ArchiveError, behind which nothing is checked: later states build on earlier ones
}

func (a *auditor) openArchive() error {
	found, err := openArchive(a.options.FS, filepath.Join(a.dir, archiveName), a.suite, false)
	if _, bad := errors.AsType[*ArchiveError](err); bad {
		a.archive = &archiveAudit{fault: err}
		return nil
	}
	if err != nil || found == nil {
		return err
	}
	a.archive = &archiveAudit{archive: found}
	if last := found.last.Load(); last != nil {
		a.archive.next, a.archive.stop = iter.Pull2(found.reader().frames(last))
		return a.archive.advance(nil)
	}
	return nil
}

func (c *archiveAudit) end() {
	if c.stop != nil {
		c.stop()
	}
	if c.archive != nil {
		_ = c.archive.file.Close() // it was only read
	}
}

// block checks what the archive has of the state after a block.
func (c *archiveAudit) block(header *ledger.Header) error {
	if c == nil || c.frame == nil || c.frame.height != header.Order.Height {
		return nil
	}
	return c.advance(c.archive.reader().check(c.frame, header.StateRoot))
}

// advance goes to the next frame unless err, of the one before, says that the archive is damaged.
func (c *archiveAudit) advance(err error) error {
	c.frame = nil
	if err == nil {
		if f, failed, ok := c.next(); ok {
			c.frame, err = f, failed
		}
	}
	if _, bad := errors.AsType[*ArchiveError](err); bad {
		c.frame, c.fault = nil, err
		return nil
	}
	return err
}

func (a *auditor) accept(next *Snapshot) error {
	next.final.Store(true)
	next.encoded = nil
	a.sn = next
	a.recent = append(a.recent, next)
	a.pending += next.bytes
	if a.pending <= a.options.FlushBytes && len(a.recent) < 1024 {
		return nil
	}
	if err := settle(a.sn.world.table, a.recent); err != nil {
		return err
	}
	a.recent, a.pending = nil, 0
	return nil
}

// settle writes the changes of consecutive blocks to the state table, and lets go of what these versions held
// in memory because the table lacked it.
func settle(t *table, moving []*Snapshot) error {
	var edits []*leaf
	for _, sn := range moving {
		edits = append(edits, sn.writes...)
	}
	last := moving[len(moving)-1]
	if err := t.apply(last.blocks(), edits); err != nil {
		return err
	}
	t.settled.Add(1)
	for _, sn := range moving {
		for _, n := range sn.fresh {
			n.leaves.Store(nil)
		}
		sn.fresh = nil
		sn.parent.Store(nil)
	}
	return nil
}
