package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"github.com/fondaco/fondaco/state/ledger"
)

var (
	// ErrSpace says that the disk has no room for a copy of the state.
	ErrSpace = errors.New("backup: not enough space")
	// ErrSpool says that the disk damaged a copy of the state.
	ErrSpool = errors.New("backup: the temporary copy of the state is damaged")
)

const (
	spoolPrefix  = "spool-"
	spoolReserve = 256 << 20 // bytes that a copy leaves on the disk, which the node needs to go on
	spoolBuffer  = 1 << 20
)

// spool is a temporary file of the encodings of chunks, in frames. It has no name, where the system can
// do that, so that nothing is left of it when the process dies.
type spool struct {
	file    *os.File
	size    int64 // written
	dir     string
	unnamed bool
	free    func(dir string) (bytes int64, known bool, err error)
}

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, spoolPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("copy the state into a temporary file: %w", err)
	}
	return &spool{file: file, dir: dir, unnamed: os.Remove(file.Name()) == nil, free: FreeSpace}, nil
}

// RemoveSpools removes what a process that died left of temporary files in a folder, which no other process may use.
func RemoveSpools(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, spoolPrefix+"*"))
	for _, file := range left {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// Room fails unless so many bytes can be written into a folder. It writes them into a file that is gone when it returns, as no number
// tells of a quota.
func Room(dir string, bytes int64) (err error) {
	free, known, err := FreeSpace(dir)
	if err == nil && known && free < bytes {
		err = fmt.Errorf("%w: the disk of %s has %d bytes left, of which %d are needed", ErrSpace, dir, free, bytes)
	}
	if err != nil {
		return err
	}
	s, err := newSpool(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	piece := make([]byte, spoolBuffer)
	for at := int64(0); at < bytes; at += spoolBuffer {
		if _, err := s.file.WriteAt(piece[:min(spoolBuffer, bytes-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// fill writes all chunks, as long as the disk has room.
func (s *spool) fill(ctx context.Context, chunks iter.Seq2[[]byte, error]) error {
	out := bufio.NewWriterSize(s, spoolBuffer)
	var frame []byte
	for body, err := range chunks {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		frame = AppendFrame(frame[:0], body)
		if _, err := out.Write(frame); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Write writes a part, if the disk has room for it and the reserve. How large a state is in chunks is not known before.
func (s *spool) Write(data []byte) (int, error) {
	free, known, err := s.free(s.dir)
	if err != nil {
		return 0, fmt.Errorf("look for space in %s: %w", s.dir, err)
	}
	if known && free < int64(len(data))+spoolReserve {
		return 0, fmt.Errorf("%w: the disk of %s has %d bytes left, of which a copy of the state must leave %d: make room first, "+
			"or take the backup with --offline while the node is stopped, to another disk", ErrSpace, s.dir, free, spoolReserve)
	}
	n, err := s.file.WriteAt(data, s.size)
	s.size += int64(n)
	if err != nil {
		err = fmt.Errorf("copy the state into a temporary file in %s: %w", s.dir, err)
	}
	return n, err
}

// all yields what was written, and fails if the disk does not give that back.
func (s *spool) all() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for at := int64(0); at < s.size; {
			body, err := ReadFrame(s.file, at, ledger.MaxStateChunkSize)
			if err == nil && body == nil {
				err = fmt.Errorf("%w: at byte %d the disk of %s does not give back what was written: make the backup again, and if this comes again replace the disk", ErrSpool, at, s.dir)
			}
			if !yield(body, err) || err != nil {
				return
			}
			at += FrameSize(len(body))
		}
	}
}

func (s *spool) close() error {
	err := s.file.Close()
	if !s.unnamed {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return err
}
