package backup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
)

// ErrSpace says that the disk has no room for a copy of the state.
var ErrSpace = errors.New("backup: not enough space")

const (
	spoolPrefix  = "spool-"
	spoolReserve = 256 << 20 // bytes that a copy leaves on the disk, which the node needs to go on
	spoolBuffer  = 1 << 20
)

// spool is a temporary file of the encodings of chunks: length (4, big-endian) ‖ body. It has no name, where the system can
// do that, so that nothing is left of it when the process dies.
type spool struct {
	file    *os.File
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

// fill writes all chunks, as long as the disk has room.
func (s *spool) fill(ctx context.Context, chunks iter.Seq2[[]byte, error]) error {
	out := bufio.NewWriterSize(s, spoolBuffer)
	for body, err := range chunks {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if _, err := out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body)))); err != nil {
			return err
		}
		if _, err := out.Write(body); err != nil {
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
	n, err := s.file.Write(data)
	if err != nil {
		err = fmt.Errorf("copy the state into a temporary file in %s: %w", s.dir, err)
	}
	return n, err
}

// all yields what was written. A body is valid until the next.
func (s *spool) all() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			yield(nil, err)
			return
		}
		in := bufio.NewReaderSize(s.file, spoolBuffer)
		var head [4]byte
		var body []byte
		for {
			if _, err := io.ReadFull(in, head[:]); err != nil {
				if !errors.Is(err, io.EOF) {
					yield(nil, err)
				}
				return
			}
			n := int(binary.BigEndian.Uint32(head[:]))
			if cap(body) < n {
				body = make([]byte, n)
			}
			body = body[:n]
			_, err := io.ReadFull(in, body)
			if !yield(body, err) || err != nil {
				return
			}
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
