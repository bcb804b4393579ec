package state

import (
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
	Parent   *Snapshot // the world state that the block was executed on; Empty for genesis
	Done     int64     // bytes of the segments read so far, with this block
	Total    int64     // bytes of all segments
}

// Fsck reads a group's whole history from its segments, trusting nothing that is derived from them, and yields
// every block from genesis on. With a block comes nil, or one or several joined *FaultError values: a header that
// does not link to its parent, transactions, receipts, changes or history that are not what the header
// commits to, change sets that do not give the state root. It goes on behind a fault. What cannot be read at
// all, as *SegmentError tells, ends the sequence, with a zero Audited.
//
// It leaves to the caller what needs to know more than this package: certificates, signatures, and whether
// executing the transactions on Parent gives Receipts and Changes. Parent can be read until the next step.
//
// The folder must not be in use (ErrLocked). Nothing in it is changed; the state is rebuilt in a temporary
// folder, or in memory with Options.Memory.
func Fsck(dir string, suite keys.Suite, opts *Options) iter.Seq2[Audited, error] {
	return func(yield func(Audited, error) bool) {
		a := auditor{suite: suite, yield: yield}
		err := a.run(dir, opts)
		if err != nil && !a.stopped {
			yield(Audited{}, fmt.Errorf("verify %s: %w", dir, err))
		}
	}
}

type auditor struct {
	suite   keys.Suite
	options Options
	log     *segments
	sn      *Snapshot
	recent  []*Snapshot // that the scratch table lacks
	pending int64
	done    int64
	total   int64
	yield   func(Audited, error) bool
	stopped bool
}

var errStopped = errors.New("stopped")

func (a *auditor) run(dir string, opts *Options) (err error) {
	if a.options, err = opts.complete(); err != nil {
		return err
	}
	files := a.options.FS
	lock, err := files.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	if a.log, err = openSegments(files, filepath.Join(dir, blocksDir), 0); err != nil {
		return err
	}
	defer a.log.close()
	if len(a.log.first) == 0 {
		return fmt.Errorf("%w: there are no blocks", ErrNotFound)
	}
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
	a.sn = emptySnapshot(&world{suite: a.suite, table: &table{suite: a.suite, kv: scratch}})
	_, err = a.log.walk(0, place{}, 0, false, func(string) {}, a.block)
	if errors.Is(err, errStopped) {
		a.stopped = true
	}
	return err
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
	if err := checkTxs(a.suite, b); err != nil {
		fault("%v", err)
	}
	if len(receipts) != len(b.Txs) {
		fault("%d receipts for %d transactions", len(receipts), len(b.Txs))
	}
	next, err := parent.extendEncoded(&header.Order, Result{Changes: r.changes, GasUsed: header.GasUsed, NextEpoch: header.NextEpoch}, r.receipts)
	if err != nil {
		return err
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
	// The next block is measured by what is stored, so that one fault is reported once.
	next.header, next.hash = header, header.Hash(a.suite)
	next.history = ledger.Frontier{Size: parent.history.Size, Peaks: slices.Clone(parent.history.Peaks)}
	next.history.Append(a.suite, next.hash)
	if !a.yield(Audited{Block: b, Receipts: receipts, Changes: r.changes, Parent: parent, Done: a.done, Total: a.total}, errors.Join(faults...)) {
		return errStopped
	}
	return a.accept(next)
}

func (a *auditor) accept(next *Snapshot) error {
	next.final.Store(true)
	next.receipts = nil
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
	for _, sn := range moving {
		for _, n := range sn.fresh {
			n.leaves.Store(nil)
		}
		sn.fresh = nil
		sn.parent.Store(nil)
	}
	return nil
}
