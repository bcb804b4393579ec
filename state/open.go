package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Open opens the store in a folder, and makes it when there is none. It brings everything into the state after
// the last durable block:
//
//   - An incomplete last frame of the segments, which a crash can leave, is cut off. Other damage to the
//     segments is a *SegmentError.
//   - The state table is read in full, every digest recomputed, and its root compared with the header of its
//     height. A table or index that is damaged, changed or missing is set aside and made again from the
//     segments; Options.Notice tells of it.
//   - The blocks that the table lacks are applied from their change sets; each must give its header.
//
// It reads all keys once, by Options.Workers goroutines: about a second of processor time per million. ErrLocked says that another process has the folder open.
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
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open state in %s: %w", dir, err), s.release())
	}
	if !options.Synchronous {
		s.done.Go(s.flusher)
	}
	return s, nil
}

func (s *Store) recover() error {
	var err error
	if s.log, err = openSegments(s.options.FS, filepath.Join(s.dir, blocksDir), s.options.SegmentBytes); err != nil {
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
	if err := s.readBlocks(); err != nil {
		return err
	}
	if k, err = s.openKV(stateName); err != nil {
		return err
	}
	s.world = &world{suite: s.suite, workers: s.options.Workers, table: &table{suite: s.suite, kv: k}}
	base, err := s.readState()
	if err != nil {
		return err
	}
	return s.replay(base)
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
	aside := file + ".damaged"
	if err := os.Rename(file, aside); err != nil {
		return nil, fmt.Errorf("set %s aside: %w", file, errors.Join(err, reason))
	}
	s.options.Notice(fmt.Sprintf("%v; it is kept as %s and made again from the blocks", reason, aside))
	return openBolt(file)
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
	stored := s.index.stored
	parent, at, err := s.lastStored()
	if err != nil {
		if b, bad := errors.AsType[*damaged](err); bad && b.cause != causeMismatch {
			stored = 0 // not even the count can be trusted
		}
		if err := s.replaceIndex(err); err != nil {
			return err
		}
		parent, at = keys.Digest{}, place{}
	}
	end, err := s.log.walk(ledger.Height(s.index.stored), at, stored, true, s.options.Notice, func(h ledger.Height, at place, payload []byte) error {
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
		receipts, err := r.decodeReceipts()
		if err != nil {
			return bad(err)
		}
		ids := make([]ledger.TxID, len(receipts))
		for i := range receipts {
			ids[i] = receipts[i].Tx
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
	return s.log.resume()
}

const causeMismatch = "its last block is not where it says"

// lastStored returns the hash of the last block in the index's tables and the place behind its frame.
func (s *Store) lastStored() (hash keys.Digest, next place, err error) {
	if s.index.stored == 0 {
		return hash, next, nil
	}
	h := ledger.Height(s.index.stored - 1)
	b, err := s.index.block(h)
	if err != nil {
		return hash, next, err
	}
	payload, err := s.log.read(h, b.offset)
	if err == nil {
		var r *record
		if r, err = s.log.unpack(payload); err == nil {
			var block *ledger.Block
			if block, err = r.decodeBlock(); err == nil && block.Header.Hash(s.suite) == b.hash {
				first, _ := s.log.locate(h)
				return b.hash, place{first: first, offset: b.offset + int64(frameHead+len(payload))}, nil
			}
		}
	}
	return hash, next, &damaged{file: filepath.Join(s.dir, indexName), cause: causeMismatch}
}

// readState returns the snapshot of the state table, checked; it makes the table again when it is bad.
func (s *Store) readState() (*Snapshot, error) {
	root, blocks, err := s.world.table.check(s.options.Workers)
	if err == nil {
		err = s.matches(root, blocks)
	}
	if err != nil {
		if bad, ok := errors.AsType[*damaged](err); !ok {
			return nil, err
		} else if err := s.replaceTable(bad); err != nil {
			return nil, err
		}
		root, blocks = nil, 0
	}
	// Far behind, or new: change sets go straight into the table, and only the last blocks through the tree.
	if keep := uint64(s.options.Recent); s.index.blocks() > blocks+keep+uint64(s.options.FlushBlocks) {
		if err := s.fill(blocks, s.index.blocks()-keep); err != nil {
			return nil, err
		}
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
	b, err := s.Block(h)
	if err != nil {
		return nil, err
	}
	sn := &Snapshot{world: s.world, header: &b.Header, root: root, hash: b.Header.Hash(s.suite), order: b.Header.Order.Hash(s.suite)}
	sn.final.Store(true)
	sn.history, err = s.index.frontier(blocks)
	return sn, err
}

// matches checks a state table against the header of its height.
func (s *Store) matches(root *node, blocks uint64) error {
	if blocks > s.index.blocks() {
		return s.world.table.damaged("it includes %d blocks, of which there are only %d", blocks, s.index.blocks())
	}
	var want keys.Digest
	if blocks > 0 {
		b, err := s.Block(ledger.Height(blocks - 1))
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
		next.receipts = nil
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
