package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"path/filepath"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The base is the world state that a store begins with which does not have all blocks in full: the state table is made
// from it where it would be made from the change sets of all blocks. It is a file of frames, the first a baseStart, then
// one for each chunk of the state in rising order. Behind the chunk of the last path is the block after which the state is once more, as a
// segment has it: while it is the last one, no state without it can be had, so a start that finds it damaged takes it from here.
// It is empty if it could not be read when the base was written.
//
//	"fondaco base 2\n", then frames: length (4) ‖ CRC-32C of the body (4) ‖ body (canonical CBOR), and a frame of a segment
//
// Numbers are big-endian.
const (
	baseMagic = "fondaco base 2\n"
	baseHead  = 4 + 4 // of a frame

	baseName = "base"
	baseNext = baseName + newEnd // that Prune is writing
)

// baseStart says what a base holds.
type baseStart struct {
	_      struct{}      `cbor:",toarray"`
	Header ledger.Header // of the block after which the state is
	Kept   ledger.Height // the first block that is kept in full
}

// BaseError says that the base does not hold what it must.
type BaseError struct {
	File   string
	Offset int64
	Reason string
}

func (e *BaseError) Error() string {
	return fmt.Sprintf("%s at byte %d: %s; restore this folder's blocks and base from one copy, or stop the node, move blocks, base, state.db and index.db of this folder away and "+
		"leave the rest, then start it or run `fondaco backup restore`", e.File, e.Offset, e.Reason)
}

// lostBase says that a block is pruned, which the base of its store, or the lack of one, does not tell.
func lostBase(dir string, h ledger.Height) error {
	return &BaseError{File: filepath.Join(dir, baseName), Reason: fmt.Sprintf("block %d is pruned, so this file is missing, or is one of an earlier time", h)}
}

// base reads a base.
type base struct {
	baseStart
	fs    FS
	path  string
	begin int64 // of the first chunk

	broken *BaseError // why no more than Kept is known of it; else nil
}

// openBase returns nil when there is none.
func openBase(files FS, path string) (*base, error) {
	f, err := files.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := &base{fs: files, path: path}
	mark := make([]byte, len(baseMagic))
	_, lost, err := readAt(f, mark, 0)
	if err != nil {
		return nil, err
	}
	if lost != "" || string(mark) != baseMagic {
		return nil, b.bad(0, "it does not begin as it must")
	}
	body, reason, err := readBaseFrame(f, int64(len(mark)))
	if err == nil && reason == "" && ledger.Unmarshal(body, &b.baseStart) != nil {
		reason = "what it begins with is malformed"
	}
	if reason != "" {
		err = b.bad(int64(len(mark)), "%s", reason)
	}
	b.begin = int64(len(mark) + baseHead + len(body))
	return b, err
}

func (b *base) bad(offset int64, format string, args ...any) error {
	return &BaseError{File: b.path, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

func (b *base) height() ledger.Height { return b.Header.Order.Height }

// readBaseFrame returns the body of a frame, or the reason why there is none.
func readBaseFrame(f io.ReaderAt, offset int64) (body []byte, reason string, err error) {
	var head [baseHead]byte
	if n, reason, err := readAt(f, head[:], offset); err != nil || reason != "" {
		return nil, reason, err
	} else if n < baseHead {
		return nil, "the file ends before the state does", nil
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > ledger.MaxStateChunkSize {
		return nil, "a length is malformed", nil
	}
	body = make([]byte, length)
	if n, reason, err := readAt(f, body, offset+baseHead); err != nil || reason != "" {
		return nil, reason, err
	} else if n < len(body) {
		return nil, "the file ends within a chunk", nil
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, "a chunk does not have its checksum", nil
	}
	return body, "", nil
}

func appendBaseFrame(out, body []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
	return append(out, body...)
}

// chunks yields the chunks from an offset on, 0 being the first, each verified under the state root, with the offset
// behind it. They follow one another up to the last path; that comes only if the block behind it has its checksum. An error ends the sequence.
func (b *base) chunks(suite keys.Suite, from int64) iter.Seq2[baseChunk, error] {
	return func(yield func(baseChunk, error) bool) {
		fail := func(err error) { yield(baseChunk{}, err) }
		f, err := b.fs.Open(b.path, false)
		if err != nil {
			fail(err)
			return
		}
		defer f.Close()
		offset := max(from, b.begin)
		var next keys.Digest
		for first := true; ; first = false {
			body, reason, err := readBaseFrame(f, offset)
			if err != nil {
				fail(fmt.Errorf("read %s: %w", b.path, err))
				return
			}
			if reason != "" {
				fail(b.bad(offset, "%s", reason))
				return
			}
			c, err := ledger.DecodeStateChunk(body)
			if err == nil {
				err = c.Verify(suite, b.Header.StateRoot)
			}
			if err != nil {
				fail(b.bad(offset, "%v", err))
				return
			}
			if c.Prefix != next && (!first || offset == b.begin) {
				fail(b.bad(offset, "the chunk is not the one that follows"))
				return
			}
			offset += int64(baseHead + len(body))
			var more bool
			if next, more = c.Next(); !more {
				if _, reason, err := readFrame(f, b.height(), offset); err != nil {
					fail(fmt.Errorf("read %s: %w", b.path, err))
					return
				} else if reason != "" {
					fail(b.bad(offset, "of the block at its end, %s", reason))
					return
				}
			}
			if !yield(baseChunk{c, offset}, nil) || !more {
				return
			}
		}
	}
}

// block returns the payload of the block after which the state is, or nil if the base does not have it whole, and of that block.
func (b *base) block(log *segments, suite keys.Suite) ([]byte, error) {
	f, err := b.fs.Open(b.path, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	offset := b.begin
	for more := true; more; {
		body, reason, err := readBaseFrame(f, offset)
		if err != nil || reason != "" {
			return nil, err
		}
		c, err := ledger.DecodeStateChunk(body)
		if err != nil {
			return nil, nil //nolint:nilerr // damaged as well
		}
		_, more = c.Next()
		offset += int64(baseHead + len(body))
	}
	payload, reason, err := readFrame(f, b.height(), offset)
	if err != nil || reason != "" {
		return nil, err
	}
	content, pruned, err := log.plain(payload)
	if err != nil || pruned {
		return nil, nil //nolint:nilerr // it is empty
	}
	rest := decoder{rest: content}
	block, err := decodeBlock(rest.bytes())
	if err != nil || block.Header.Hash(suite) != b.Header.Hash(suite) || complete(suite, block, false, &rest) != nil {
		return nil, nil //nolint:nilerr // another one
	}
	return payload, nil
}

type baseChunk struct {
	*ledger.StateChunk
	end int64
}

// edits returns the chunk's keys as leaves that are written, and how many bytes in memory that is, estimated.
func (c baseChunk) edits(hash *ledger.StateHasher) (leaves []*leaf, held int64) {
	for i := range c.Entries {
		e := &c.Entries[i]
		l := &leaf{path: hash.Path(e.Key), change: &ledger.Change{Key: e.Key, Value: e.Value}}
		l.digest = hash.Leaf(l.path, hash.Value(e.Value))
		leaves = append(leaves, l)
		held += int64(len(e.Key)+len(e.Value)) + 240
	}
	return leaves, held
}

// baseWriter writes a base. It writes over what is there already, also where that is the same: it need not be on the disk.
type baseWriter struct {
	fs       FS
	path     string
	file     File
	size     int64 // where the next frame goes
	unsynced int
	next     keys.Digest // prefix of the next chunk
	whole    bool
}

// syncBytes is after how many bytes a file that nobody relies on yet is synced, so that a disk is never far behind and a commit's
// sync does not wait for what another file has in the page cache.
const syncBytes = 8 << 20

// beginBase begins a base.
func beginBase(files FS, path string, start *baseStart) (*baseWriter, error) {
	body, err := ledger.Marshal(start)
	if err != nil {
		return nil, err
	}
	f, err := files.Open(path, true)
	if err != nil {
		return nil, err
	}
	w := &baseWriter{fs: files, path: path, file: f}
	if err := w.put(appendBaseFrame([]byte(baseMagic), body)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), files.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// put writes bytes, and syncs the file now and then.
func (w *baseWriter) put(data []byte) error {
	if _, err := w.file.WriteAt(data, w.size); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	w.size += int64(len(data))
	if w.unsynced += len(data); w.unsynced >= syncBytes {
		w.unsynced = 0
		return w.file.Sync()
	}
	return nil
}

// add writes the next chunk, which was verified.
func (w *baseWriter) add(c *ledger.StateChunk) error {
	if w.whole || c.Prefix != w.next {
		return fmt.Errorf("%w: the chunk at %s/%d is not the one that follows", ledger.ErrProof, c.Prefix, c.Depth)
	}
	body, err := ledger.Marshal(c)
	if err != nil {
		return err
	}
	if err := w.put(appendBaseFrame(make([]byte, 0, baseHead+len(body)), body)); err != nil {
		return err
	}
	next, more := c.Next()
	w.next, w.whole = next, !more
	return nil
}

// finish writes the block after which the state is, and makes the base durable.
func (w *baseWriter) finish(h ledger.Height, payload []byte) error {
	if !w.whole {
		return fmt.Errorf("%w: the state ends before %s", ledger.ErrProof, w.next)
	}
	if err := w.put(append(appendFrameHead(nil, h, payload), payload...)); err != nil {
		return err
	}
	err := errors.Join(w.file.Truncate(w.size), w.file.Sync(), w.file.Close())
	w.file = nil
	return err
}

func (w *baseWriter) close() error {
	if w == nil || w.file == nil {
		return nil
	}
	return w.file.Close()
}

// keyLoading is where the next chunk of the base is, while the table is made from it.
var keyLoading = []byte("loading")

// loadBase makes the state table from the base, if there is one and the table lacks blocks that are not kept in full. A
// load that a crash cut short goes on where it was.
func (s *Store) loadBase() error {
	b := s.base.Load()
	if b == nil {
		return nil
	}
	t := s.world.table
	var blocks uint64
	var from int64
	err := t.kv.view(func(r reader) error {
		blocks = applied(r)
		if v := r.get(tableMeta, keyLoading); len(v) == 8 {
			from = int64(binary.BigEndian.Uint64(v))
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case blocks >= max(uint64(b.Kept), 1):
		return nil
	case b.broken != nil:
		return b.broken
	case blocks > 0:
		return t.damaged("it includes %d blocks, and the changes of the next are kept from block %d on only", blocks, b.Kept)
	}
	header, err := s.Header(b.height())
	if errors.Is(err, ErrNotFound) {
		return b.bad(int64(len(baseMagic)), "it is the state after block %d, and the blocks here end before", b.height())
	}
	if err != nil {
		return err
	}
	if header.Hash(s.suite) != b.Header.Hash(s.suite) {
		return b.bad(int64(len(baseMagic)), "it is the state after another block %d", b.height())
	}
	var edits []*leaf
	held := int64(0)
	hash := ledger.NewStateHasher(s.suite)
	for c, err := range b.chunks(s.suite, from) {
		if bad, ok := errors.AsType[*BaseError](err); ok && b.Kept == 0 { // all blocks are here
			s.options.Notice(fmt.Sprintf("%v; the state is made from the blocks instead", bad))
			return errors.Join(s.dropBase(), &damaged{file: "what was made of it", cause: bad.Reason})
		}
		if err != nil {
			return err
		}
		leaves, size := c.edits(hash)
		edits, held = append(edits, leaves...), held+size
		_, more := c.Next()
		if more && held < s.options.FlushBytes {
			continue
		}
		err = t.write(edits, func(w writer) error {
			if more {
				return w.put(tableMeta, keyLoading, binary.BigEndian.AppendUint64(nil, uint64(c.end)))
			}
			return errors.Join(w.del(tableMeta, keyLoading),
				w.put(tableMeta, keyApplied, binary.BigEndian.AppendUint64(nil, uint64(b.height())+1)))
		})
		if err != nil {
			return err
		}
		edits, held = nil, 0
	}
	return nil
}

// dropBase removes a base that holds no more than what the blocks do, as it does where all are kept in full.
func (s *Store) dropBase() error {
	files := s.options.FS
	if err := removeLeft(files, filepath.Join(s.dir, baseName)); err != nil {
		return err
	}
	s.base.Store(nil)
	return files.SyncDir(s.dir)
}
