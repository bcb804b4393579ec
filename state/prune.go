package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/fondaco/fondaco/state/ledger"
)

// Prune lets go of the transactions, receipts and changes of the blocks below kept, which is at most the head's height.
// What Certified returns stays, and with it every proof that a block is in the history. So do the places of transactions
// that FindTx knows. The world state of today becomes what the store begins with.
//
// A transaction that may come again must be found, so kept must be so low that none of a block below it can: that is the
// caller's to see to. An archive keeps what it has; Prune fails if that lacks such a block. ErrPruned says that blocks from kept on were
// pruned before, ErrNotFound that there is no such block yet. A crash at any moment leaves a store
// that Open brings to the end of it, or to where it was. No other method may run meanwhile.
func (s *Store) Prune(kept ledger.Height) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	head := s.Head()
	switch {
	case head == nil:
		return fmt.Errorf("prune below block %d: %w: there is no block", kept, ErrNotFound)
	case kept > head.Height():
		return fmt.Errorf("prune below block %d: %w: the last block is %d, and is kept", kept, ErrNotFound, head.Height())
	case kept < s.Kept():
		return fmt.Errorf("prune below block %d: %w: the blocks from %d on are here; of the others only a backup, or a node that is not pruned, has what they held",
			kept, ErrPruned, s.Kept())
	case kept == s.Kept():
		return nil
	}
	if err := s.mayPrune(kept); err != nil {
		return fmt.Errorf("prune below block %d: %w", kept, err)
	}
	// The table may include the head when the index, which was made again, does not: offsets in memory would be those before.
	s.tables.Lock()
	err := s.index.flush(s.index.blocks())
	s.tables.Unlock()
	if err == nil {
		err = s.writeHead(head, kept)
	}
	if err == nil {
		if err = s.prune(); err != nil {
			s.fail(err) // Open goes on with it
		}
	}
	if err != nil {
		return fmt.Errorf("prune below block %d: %w", kept, err)
	}
	return nil
}

// prune does what the new base says.
func (s *Store) prune() error {
	b, err := openBase(s.options.FS, filepath.Join(s.dir, baseName))
	if err != nil {
		return err
	}
	s.base.Store(b)
	if err := s.finishPrune(); err != nil {
		return err
	}
	if s.log.tail != nil { // it may be another file now
		if err := s.log.tail.Close(); err != nil {
			return err
		}
		s.log.tail = nil
	}
	return s.log.reopen()
}

// writeHead makes the state after the head the base, with blocks from kept on.
func (s *Store) writeHead(head *Snapshot, kept ledger.Height) error {
	s.tables.Lock()
	pinned, err := s.pinTables(head)
	s.tables.Unlock()
	if err != nil {
		return err
	}
	return errors.Join(s.writeBase(pinned, kept), pinned.Close())
}

// HealBase writes a damaged base again, as the state of today: of a store that does not keep all blocks in full, and else does
// nothing. Blocks can be read and committed meanwhile. ErrPinned says that somebody reads the state: try again later.
func (s *Store) HealBase() error {
	s.healing.Lock()
	defer s.healing.Unlock()
	kept := s.Kept()
	if kept == 0 {
		return nil
	}
	pinned, err := s.Pin()
	if err == nil {
		h := pinned.Header().Order.Height
		if h >= kept {
			err = s.writeBase(pinned, kept)
		}
		if err = errors.Join(err, pinned.Close()); err == nil && h < kept {
			err = s.writeHead(s.Head(), kept)
		}
	}
	if err != nil {
		return fmt.Errorf("write %s again: %w", s.base.Load().path, err)
	}
	return nil
}

// writeBase makes a state the base, with blocks from kept on.
func (s *Store) writeBase(pinned *Pinned, kept ledger.Height) (err error) {
	files, path := s.options.FS, filepath.Join(s.dir, baseNext)
	if err := removeLeft(files, path); err != nil {
		return err
	}
	var w *baseWriter
	defer func() {
		if err != nil { // the disk may be full
			err = errors.Join(err, w.close(), removeLeft(files, path))
		}
	}()
	if w, err = beginBase(files, path, &baseStart{Header: *pinned.Header(), Kept: kept}); err != nil {
		return err
	}
	for c, err := range pinned.Chunks() {
		if err != nil {
			return err
		}
		if err := c.Verify(s.suite, pinned.Header().StateRoot); err != nil { // nothing else would tell later
			return err
		}
		if err := w.add(c); err != nil {
			return err
		}
	}
	h := pinned.Header().Order.Height
	payload, err := s.payload(h)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err != nil { // what was read of it is not it
		payload = nil
	}
	if err := w.finish(h, payload); err != nil {
		return err
	}
	name := filepath.Join(s.dir, baseName)
	if kept > s.Kept() { // the blocks are pruned after it
		return errors.Join(files.Rename(path, name), files.SyncDir(s.dir))
	}
	s.log.moves.Lock()
	defer s.log.moves.Unlock()
	if err := errors.Join(files.Rename(path, name), files.SyncDir(s.dir)); err != nil {
		return err
	}
	b, err := openBase(files, name)
	if err == nil {
		s.base.Store(b)
	}
	return err
}

// removeLeft removes what a crash left of a file that was to replace another one. It is never written again: after a crash
// within the renaming, both names may be of one file.
func removeLeft(files FS, path string) error {
	err := files.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// finishPrune brings the segments and the index to what the base says.
func (s *Store) finishPrune() error {
	kept := s.Kept()
	if s.index.kept == kept {
		return nil
	}
	if s.index.kept > kept {
		pruned, err := s.log.prunedAt(kept)
		if err != nil {
			return err
		}
		if pruned {
			return lostBase(s.dir, kept)
		}
		return s.index.damaged("it is of segments that were pruned below block %d, and they are below block %d", s.index.kept, kept)
	}
	if err := s.log.strip(kept); err != nil {
		return err
	}
	batch := max(int(s.options.FlushBytes>>10), 1) // of rows, with their pages
	return s.index.move(kept, batch, func(yield func(framed, error) bool) {
		for _, first := range s.log.first {
			if first >= kept {
				return
			}
			for at, err := range s.log.frames(first) {
				if !yield(at, err) {
					return
				}
			}
		}
	})
}
