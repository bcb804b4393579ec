package state

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fondaco/fondaco/state/ledger"
)

// Archived returns what the state after a block holds under a key, and a proof of that or, if found is false, of its
// absence, which it has checked under the state root of the block. ErrPruned says that the archive does not have the block, or
// that there is no archive; ErrNotFound that there is no such block yet.
func (s *Store) Archived(h ledger.Height, key []byte) (value []byte, found bool, proof ledger.StateProof, err error) {
	fail := func(err error) ([]byte, bool, ledger.StateProof, error) {
		return nil, false, ledger.StateProof{}, fmt.Errorf("read key %x at height %d: %w", key, h, err)
	}
	if head := s.Head(); head == nil || h > head.Height() {
		return fail(ErrNotFound)
	}
	a := s.archive.Load()
	if a == nil { // which costs no read
		return fail(fmt.Errorf("%w: the store has no archive", ErrPruned))
	}
	r := a.reader()
	f, err := r.find(h)
	if err != nil {
		return fail(err)
	}
	if f == nil {
		return fail(fmt.Errorf("%w: the archive does not have the state after this block", ErrPruned))
	}
	header, err := s.Header(h)
	if err != nil {
		return fail(err)
	}
	if value, found, proof, err = r.lookup(f.root, key); err != nil {
		return fail(err)
	}
	if err := proof.Verify(s.suite, header.StateRoot, key, value, found); err != nil {
		return fail(a.bad(f.at, "what it holds is not the state after block %d: %v", h, err))
	}
	return value, found, proof, nil
}

// ArchiveStatus says what the archive has.
type ArchiveStatus struct {
	On       bool          // see Options.Archive
	Some     bool          // it has states: those after From to To, but for a gap where it was off while blocks were pruned
	From, To ledger.Height // some blocks behind the head, whose states are in memory
	Bytes    int64
	Problem  error // why the last try to go on with it failed; nil: it did not
}

// ArchiveStatus returns what the archive has.
func (s *Store) ArchiveStatus() ArchiveStatus {
	st := ArchiveStatus{On: s.options.Archive}
	if a := s.archive.Load(); a != nil {
		if last := a.last.Load(); last != nil {
			st.Some, st.From, st.To, st.Bytes = true, a.first.Load().height, last.height, last.end()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Problem = s.halted
	return st
}

// How much Archive writes at most before it is synced.
const (
	archiveBatch  = 8 << 20 // bytes, and a block
	archiveBlocks = 256
)

// Archive writes some of the blocks that the archive lacks, if it is some blocks behind the head, and reports whether it lacks
// more: whoever wants an archive calls it again and again, at any pace. It holds up neither commits nor readers, and must have ended
// before Close and Prune. What an error leaves behind is written again by the next call. Without Options.Archive it does nothing.
func (s *Store) Archive(ctx context.Context) (more bool, err error) {
	if head := s.Head(); head == nil || !s.options.Archive || !s.archiveDue(head.Height()) {
		return false, nil
	}
	return s.archiveSome(ctx)
}

// archiveLag is by how many blocks the archive may be behind: fewer than At has, unless these are large.
func (s *Store) archiveLag() uint64 { return uint64(max(s.options.Recent/2, 1)) }

func (s *Store) archiveDue(head ledger.Height) bool {
	a := s.archive.Load()
	if a == nil {
		return true
	}
	last := a.last.Load()
	return last == nil || uint64(head) >= uint64(last.height)+s.archiveLag() || last.height+1 < s.Oldest()
}

// archiveAll brings the archive to the head. What is in the way is for ArchiveStatus.
func (s *Store) archiveAll() {
	for more, err := true, error(nil); more && err == nil; {
		more, err = s.archiveSome(context.Background())
	}
}

// archiveRest brings the archive to the head if little is lacking, so that blocks may be pruned while the store is closed.
func (s *Store) archiveRest() {
	if a := s.archive.Load(); s.options.Archive && a != nil {
		if last := a.last.Load(); last != nil && uint64(s.Head().Height()) <= uint64(last.height)+2*s.archiveLag() {
			s.archiveAll()
		}
	}
}

// openArchive opens the archive for readers.
func (s *Store) openArchive() {
	switch {
	case !s.options.Archive || s.Head() == nil:
	case s.options.Synchronous:
		s.archiveAll()
	default:
		_ = s.halt(s.openWriter()) // for ArchiveStatus
	}
}

// halt notes what is in the way of the archive.
func (s *Store) halt(err error) error {
	if err != nil {
		s.writer = nil
		err = fmt.Errorf("archive: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = err
	return err
}

func (s *Store) archiveSome(ctx context.Context) (more bool, err error) {
	s.archiving.Lock()
	defer s.archiving.Unlock()
	more, err = s.archiveTo(ctx, s.Head().Height())
	if ctx.Err() != nil { // nothing is wrong
		s.writer = nil
		return false, ctx.Err()
	}
	return more, s.halt(err)
}

func (s *Store) archiveTo(ctx context.Context, head ledger.Height) (more bool, err error) {
	if s.writer == nil {
		if err := s.openWriter(); err != nil {
			return false, err
		}
	}
	w := s.writer
	if w.end != nil && w.end.height > head { // the blocks are of an earlier time than the archive
		return false, nil
	}
	if w.end != nil && w.end.height+1 < s.Kept() || w.end == nil && s.Kept() > 0 {
		if err := w.room(s.baseNeeds); err != nil {
			return false, err
		}
		if err = w.addBase(ctx, s.base.Load()); err == nil {
			err = w.commit()
		}
		if errors.Is(err, errNoRoom) { // what was written is cut off again, and not written each time that somebody asks
			s.baseNeeds = 2 * (w.here() - w.at)
		}
		return err == nil, err
	}
	from, next := w.here(), ledger.Height(0)
	if w.end != nil {
		next = w.end.height + 1
	}
	if next > head {
		return false, nil
	}
	if err := w.room(archivePiece); err != nil { // before blocks are read for nothing
		return false, err
	}
	first := next
	for ; next <= head && w.here()-from < archiveBatch && next-first < archiveBlocks && ctx.Err() == nil; next++ {
		if err := s.archiveBlock(next); err != nil {
			return false, err
		}
	}
	if next == first {
		return false, nil
	}
	return next <= head, w.commit()
}

// archiveBlock writes the frame of a block: of one of the last from memory, where its writes were hashed.
func (s *Store) archiveBlock(h ledger.Height) error {
	if sn, err := s.At(h); err == nil && len(sn.writes) > 0 {
		return s.writer.add(sn.header, archiveLeaves(sn.writes))
	}
	r, err := s.record(h)
	if err != nil {
		return err
	}
	b, err := r.decodeBlock()
	if err != nil {
		return err
	}
	return s.writer.add(&b.Header, s.writer.edits(r.changes))
}

// openWriter goes on with the archive, which must be of this chain, or begins it.
func (s *Store) openWriter() error {
	a := s.archive.Load()
	if a == nil {
		var err error
		if a, err = openArchive(s.options.FS, filepath.Join(s.dir, archiveName), s.suite, true); err != nil {
			return err
		}
	}
	w, err := a.writer()
	if err == nil && w.end != nil && w.end.height <= s.Head().Height() {
		var header *ledger.Header
		if header, err = s.Header(w.end.height); err == nil && w.root.digest() != header.StateRoot {
			err = a.bad(w.end.at, "its last state is not the one after block %d of this chain", w.end.height)
		}
	}
	if err != nil {
		if s.archive.Load() == nil {
			err = errors.Join(err, a.file.Close())
		}
		return err
	}
	w.free = s.options.Room
	s.archive.Store(a)
	s.writer = w
	return nil
}

// mayPrune fails if the archive, in use or not, lacks what blocks below a height hold. One without a state lacks all of it.
func (s *Store) mayPrune(kept ledger.Height) error {
	a := s.archive.Load()
	if a == nil {
		var err error
		path := filepath.Join(s.dir, archiveName)
		there, err := exists(s.options.FS, path)
		if err == nil && there {
			a, err = openArchive(s.options.FS, path, s.suite, false)
		}
		switch {
		case err != nil:
			return err
		case a != nil:
			defer a.file.Close()
		case there:
			a = &archive{path: path}
		case s.options.Archive: // it could not be made
			return s.ArchiveStatus().Problem
		default:
			return nil
		}
	}
	has := "has no state yet"
	if last := a.last.Load(); last != nil {
		if last.height+1 >= kept {
			return nil
		}
		has = fmt.Sprintf("has the states up to block %d", last.height)
	}
	return fmt.Errorf("%s %s and would lack those after the blocks that are pruned: start the node with archive = true, and stop it when "+
		"`fondaco status` shows that the archive has come to the head; or remove the file", a.path, has)
}
