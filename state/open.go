package state

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Open opens the store in a folder, and makes it when there is none. It brings everything into the state after
// the last durable block:
//
//   - An incomplete last frame of the segments, which a crash can leave, is cut off.
//   - With Options.SetAside, where a block is damaged that the state table does not include yet, or the last one, it and those behind
//     it are set aside, if they are few: the store begins with the block before, and its owner fetches the others again. Other damage to the segments shows
//     when the block is read, or by Scrub, and is the owner's to heal; if Open cannot do without the block, it is a *SegmentError.
//   - The state table is read in full, every checksum recomputed, and the root over its leaf digests compared with the
//     header of its height. That those are the digests of the keys and values, each read and Store.Scrub check. A table
//     or index that is damaged or missing is set aside and made again from the segments; Options.Notice tells of it.
//   - Where blocks were pruned or never here, the table is made again from the base, and a crash while they were being
//     pruned is made good.
//   - A store that Replace announced takes the place of this one.
//   - The blocks that the table lacks are applied from their change sets; each must give its header.
//
// It reads all keys once, by Options.Workers goroutines: about half a second of processor time per million. ErrLocked says that another process
// has the folder open.
func Open(dir string, suite keys.Suite, opts *Options) (*Store, error) {
	options, err := opts.complete()
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, options: options, suite: suite,
		wake: make(chan struct{}, 1), flushed: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if err := options.FS.MkdirAll(filepath.Join(dir, blocksDir)); err != nil {
		return nil, fmt.Errorf("open state in %s: %w", dir, err)
	}
	if s.lock, err = options.FS.Lock(filepath.Join(dir, lockName)); err != nil {
		return nil, fmt.Errorf("open state in %s: %w", dir, err)
	}
	var blocks uint64
	for cut := ledger.Height(math.MaxUint64); ; {
		err := s.recover()
		if err == nil {
			break
		}
		if bad, ok := errors.AsType[*SegmentError](err); ok && options.SetAside && bad.Height < cut {
			cut = bad.Height
			done, cutErr := s.setTailAside(bad, &blocks)
			if done {
				continue
			}
			err = errors.Join(err, cutErr)
		}
		return nil, errors.Join(fmt.Errorf("open state in %s: %w", dir, err), s.lock.Close())
	}
	if k, ok := s.world.table.kv.(*boltKV); ok { // votes depend on it, and there are no other rows to right single ones from, as of the index
		s.world.table.found = func(bad *damaged) { s.asideLater(k, &s.asideState, bad) }
	}
	if !options.Synchronous {
		s.done.Go(s.flusher)
	}
	s.openArchive()
	return s, nil
}

// recover opens the files. After an error none is open.
func (s *Store) recover() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeFiles())
			s.log, s.world, s.index, s.recent, s.tabled, s.pending = nil, nil, nil, nil, 0, 0
			s.head.Store(nil)
		}
	}()
	begun, err := importing(s.options.FS, s.dir)
	if err != nil {
		return err
	}
	if begun {
		return ErrImport
	}
	if err := s.finishReplace(); err != nil {
		return fmt.Errorf("put what was fetched in place: %w", err)
	}
	b, err := openBase(s.options.FS, filepath.Join(s.dir, baseName))
	badBase, _ := errors.AsType[*BaseError](err)
	if err != nil && badBase == nil {
		return err
	}
	s.base.Store(b)
	if s.log, err = openSegments(s.options.FS, filepath.Join(s.dir, blocksDir), s.options.SegmentBytes); err != nil {
		return err
	}
	if err := errors.Join(removeLeft(s.options.FS, filepath.Join(s.dir, baseNext)), s.log.removeLeft()); err != nil {
		return err
	}
	k, err := s.openKV(indexName)
	if err != nil {
		return err
	}
	if s.index, err = openIndex(s.suite, k); err != nil {
		if err = s.replaceIndex(err); err != nil {
			return err
		}
	}
	if badBase != nil {
		if s.index.kept == 0 {
			return badBase
		}
		// All that it must tell now: if the state table is sound, its content is not needed, and it is written again.
		s.base.Store(&base{baseStart: baseStart{Kept: s.index.kept}, path: badBase.File, broken: badBase})
	}
	if err := s.readBlocks(); err != nil {
		return err
	}
	if k, err = s.openKV(stateName); err != nil {
		return err
	}
	s.world = &world{suite: s.suite, workers: s.options.Workers, table: &table{suite: s.suite, kv: k, flushBytes: s.options.FlushBytes}}
	begin, err := s.readState()
	if err != nil {
		return err
	}
	if err := s.replay(begin); err != nil || badBase == nil {
		return err
	}
	if err := s.HealBase(); err != nil {
		return errors.Join(badBase, err)
	}
	s.options.Notice(fmt.Sprintf("%s at byte %d: %s; it is written again", badBase.File, badBase.Offset, badBase.Reason))
	return nil
}

// openKV opens a file of tables. One that cannot be opened is set aside.
func (s *Store) openKV(name string) (kv, error) {
	if s.options.Memory {
		return newMemKV(), nil
	}
	file := filepath.Join(s.dir, name)
	if _, ok := s.options.FS.(osFS); !ok {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return nil, err
		}
	}
	k, err := openBolt(file)
	if bad, ok := errors.AsType[*damaged](err); ok {
		return s.setAside(name, bad)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// setAside renames a file of tables that is of no use and opens a new one.
func (s *Store) setAside(name string, reason error) (kv, error) {
	if s.options.Memory {
		return newMemKV(), nil
	}
	file := filepath.Join(s.dir, name)
	kept, err := s.keepAside(file)
	if err != nil {
		return nil, fmt.Errorf("set %s aside: %w", file, errors.Join(err, reason))
	}
	s.options.Notice(fmt.Sprintf("%v; it is kept as %s and made again from the blocks", reason, kept))
	return openBolt(file)
}

// keepAside renames a file of tables that is of no use. There is one such file of each, the last: what they hold is in the blocks. It returns
// the name, and if there was one before, that it is gone.
func (s *Store) keepAside(file string) (kept string, err error) {
	kept = file + asideEnd
	_, before := os.Lstat(kept)
	if err := errors.Join(os.Rename(file, kept), s.options.FS.SyncDir(s.dir)); err != nil {
		return "", err
	}
	if before == nil {
		kept += " (in the place of one that was damaged before: a disk that damages files again and again should be replaced)"
	}
	return kept, nil
}

func (s *Store) replaceIndex(reason error) error {
	if s.index != nil {
		_ = s.index.kv.close() // it is bad; what it says does not matter
	}
	k, err := s.setAside(indexName, reason)
	if err != nil {
		return err
	}
	s.index, err = openIndex(s.suite, k)
	return err
}

// readBlocks brings the index up to the end of the segments.
func (s *Store) readBlocks() error {
	if err := s.finishPrune(); err != nil {
		if _, bad := errors.AsType[*damaged](err); !bad {
			return err
		}
		if err := s.replaceIndex(err); err != nil {
			return err
		}
	}
	stored := s.index.stored
	parent, at, err := s.lastStored()
	if errors.Is(err, ErrDamaged) {
		return err
	}
	if err != nil {
		b, bad := errors.AsType[*damaged](err)
		if !bad { // the index is as good as it was
			return err
		}
		if b.cause != causeMismatch && b.cause != causeHistory {
			stored = 0 // not even the count can be trusted
		}
		if err := s.replaceIndex(err); err != nil {
			return err
		}
		parent, at = keys.Digest{}, place{}
	}
	if err := s.finishPrune(); err != nil { // of an index that was just made again
		return err
	}
	acknowledged := stored
	if b := s.base.Load(); b != nil && b.broken == nil {
		acknowledged = max(acknowledged, uint64(b.height())+1) // which was on the disk before the base was
	}
	end, err := s.log.walk(ledger.Height(s.index.stored), at, acknowledged, true, s.options.Notice, func(h ledger.Height, at place, payload []byte) error {
		bad := func(err error) error {
			return &SegmentError{File: s.log.path(at.first), Offset: at.offset, Height: h, Reason: err.Error()}
		}
		r, err := s.log.unpack(payload)
		if err != nil {
			return bad(err)
		}
		b, err := r.decodeBlock()
		if err != nil {
			return bad(err)
		}
		if b.Header.Order.Height != h || b.Header.Parent != parent {
			return bad(errors.New("the block does not follow the one before"))
		}
		if r.pruned && h >= s.Kept() {
			return lostBase(s.dir, h)
		}
		ids, err := r.txIDs()
		if err != nil {
			return bad(err)
		}
		parent = b.Header.Hash(s.suite)
		if n := s.index.blocks(); len(s.index.recent) >= 4096 {
			if err := s.index.flush(n); err != nil {
				return err
			}
		}
		s.index.add(parent, at.offset, ids)
		return nil
	})
	if err != nil {
		return err
	}
	if uint64(end) < stored {
		return &SegmentError{File: s.log.path(end), Height: end, Reason: fmt.Sprintf("the blocks end here, but the index knows %d blocks", stored)}
	}
	return s.log.resume(at) // the index knows what was synced only
}

const (
	causeMismatch = "its last block is not where it says"
	causeHistory  = "it has another history than its last block"
)

// lastStored returns the hash of the last block in the index's tables and the place behind its frame. That block must be there,
// and the history below it the one that the next blocks are built on.
func (s *Store) lastStored() (hash keys.Digest, next place, err error) {
	if s.index.stored == 0 {
		return hash, next, nil
	}
	h := ledger.Height(s.index.stored - 1)
	b, err := s.index.block(h)
	if err != nil {
		return hash, next, err
	}
	payload, at, err := s.look(h, b.offset)
	bad, ok := errors.AsType[*SegmentError](err)
	if err != nil && !ok {
		return hash, next, err
	}
	if ok {
		if at, found, err := s.find(h); err == nil && found && at == b.offset { // the index is right
			return hash, next, bad
		}
	}
	if err == nil {
		var r *record
		if r, err = s.log.unpack(payload); err == nil {
			var block *ledger.Block
			if block, err = r.decodeBlock(); err == nil && block.Header.Hash(s.suite) == b.hash {
				below, err := s.index.frontier(uint64(h))
				if err == nil && below.Root(s.suite) != block.Header.HistoryRoot {
					err = s.index.damaged(causeHistory)
				}
				if err != nil {
					return hash, next, err
				}
				first, _ := s.log.locate(h)
				return b.hash, place{first: first, offset: at + int64(frameHead+len(payload))}, nil
			}
		}
	}
	return hash, next, &damaged{file: filepath.Join(s.dir, indexName), cause: causeMismatch}
}

// readState returns the snapshot of the state table, checked; it makes the table again when it is bad.
func (s *Store) readState() (*Snapshot, error) {
	var root *node
	var blocks uint64
	for tries := 0; ; tries++ {
		err := s.world.table.unpinAll()
		if err == nil {
			err = s.finishApply()
		}
		if err == nil {
			err = s.loadBase()
		}
		if err == nil {
			root, blocks, err = s.world.table.check(s.options.Workers)
		}
		if err == nil {
			err = s.matches(root, blocks)
		}
		if err == nil {
			break
		}
		bad, ok := errors.AsType[*damaged](err)
		if !ok || tries == 2 { // the table may be damaged, and then the base too where the blocks can stand in for it
			return nil, err
		}
		if err := s.replaceTable(bad); err != nil {
			return nil, err
		}
	}
	if b := s.base.Load(); b != nil && b.Kept == 0 { // of a backup with all blocks: it made the table quickly, and is of no more use
		if err := s.dropBase(); err != nil {
			return nil, err
		}
	}
	// Far behind, or new: change sets go straight into the table, and only the last blocks through the tree.
	if keep := uint64(s.options.Recent); s.index.blocks() > blocks+keep+uint64(s.options.FlushBlocks) {
		if err := s.fill(blocks, s.index.blocks()-keep); err != nil {
			return nil, err
		}
		var err error
		if root, blocks, err = s.world.table.check(s.options.Workers); err != nil {
			return nil, err
		}
		if err := s.matches(root, blocks); err != nil {
			return nil, fmt.Errorf("the change sets in the blocks do not give the state root: %w; verify this node's history and restore its folder from a backup or another node", err)
		}
	}
	if blocks == 0 {
		return emptySnapshot(s.world), nil
	}
	h := ledger.Height(blocks - 1)
	b, err := s.Certified(h)
	if err != nil {
		return nil, err
	}
	sn := &Snapshot{world: s.world, header: &b.Header, root: root, hash: b.Header.Hash(s.suite), order: b.Header.Order.Hash(s.suite)}
	sn.final.Store(true)
	sn.history, err = s.index.frontier(blocks)
	return sn, err
}

// finishApply brings all rows of the state table to the same height, if a crash left some at another.
func (s *Store) finishApply() error {
	var from, to uint64
	if err := s.world.table.kv.view(func(r reader) error {
		from, to = applied(r), reached(r)
		return nil
	}); err != nil || from == to {
		return err
	}
	if to > s.index.blocks() || from < uint64(s.Kept()) {
		return s.world.table.damaged("rows include %d blocks, others %d, and the blocks from %d to %d are here", from, to, s.Kept(), s.index.blocks())
	}
	return s.fill(from, to)
}

// matches checks a state table against the header of its height.
func (s *Store) matches(root *node, blocks uint64) error {
	if blocks > s.index.blocks() {
		return s.world.table.damaged("it includes %d blocks, of which there are only %d", blocks, s.index.blocks())
	}
	var want keys.Digest
	if blocks > 0 {
		b, err := s.Certified(ledger.Height(blocks - 1))
		if err != nil {
			return err
		}
		want = b.Header.StateRoot
	}
	if rootHash(root) != want {
		return s.world.table.damaged("its root after %d blocks is %s, want %s", blocks, rootHash(root), want)
	}
	return nil
}

func (s *Store) replaceTable(reason error) error {
	_ = s.world.table.kv.close() // it is bad; what it says does not matter
	k, err := s.setAside(stateName, reason)
	if err != nil {
		return err
	}
	s.world.table.kv = k
	return nil
}

// fill applies the change sets of the blocks from height from up to and without to to the state table.
func (s *Store) fill(from, to uint64) error {
	var edits []*leaf
	held := int64(0)
	for h := from; h < to; h++ {
		r, err := s.record(ledger.Height(h))
		if err != nil {
			return err
		}
		for i := range r.changes {
			c := &r.changes[i]
			l := &leaf{path: ledger.StatePath(s.suite, c.Key), change: c}
			if !c.Deleted {
				l.digest = ledger.StateLeaf(s.suite, l.path, ledger.StateValue(s.suite, c.Value))
			}
			edits = append(edits, l)
			held += int64(len(c.Key)+len(c.Value)) + 240
		}
		if held > s.options.FlushBytes || h == to-1 {
			if err := s.world.table.apply(h+1, edits); err != nil {
				return err
			}
			edits, held = nil, 0
		}
	}
	return nil
}

// replay applies the blocks behind the state table and makes the last the head.
func (s *Store) replay(sn *Snapshot) error {
	s.tabled = sn.blocks()
	if sn.header != nil {
		s.recent = []*Snapshot{sn}
		s.head.Store(sn)
	}
	for h := sn.blocks(); h < s.index.blocks(); h++ {
		height := ledger.Height(h)
		r, err := s.record(height)
		if err != nil {
			return err
		}
		b, err := r.decodeBlock()
		if err != nil {
			return err
		}
		want := &b.Header
		next, err := sn.extendEncoded(&want.Order, Result{Changes: r.changes, GasUsed: want.GasUsed, NextEpoch: want.NextEpoch}, r.receipts)
		if err != nil {
			return err
		}
		if next.hash != want.Hash(s.suite) {
			return fmt.Errorf("block %d does not give the roots in its header: verify this node's history and restore its folder from a backup or another node", height)
		}
		next.final.Store(true)
		next.encoded = nil
		s.recent = append(s.recent, next)
		s.pending += next.bytes
		s.head.Store(next)
		if to := s.due(); to != nil {
			if err := s.flush(to); err != nil {
				return err
			}
		}
		sn = next
	}
	return nil
}
