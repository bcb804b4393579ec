package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrDamaged is what every *SegmentError matches: a block that the disk does not hold as it was written.
var ErrDamaged = errors.New("state: a stored block is damaged")

const (
	// maxDamage bounds the damaged blocks that are remembered, the first that were found. Scrub finds the others when these are healed.
	maxDamage = 4096
	// maxCopy bounds a block from elsewhere with its results, in bytes, uncompressed. Blocks with more are not healed.
	maxCopy = 256 << 20
	// maxAside is how many blocks that the state table includes are set aside for a damaged one, at most. The table is made again then.
	// Of all blocks it is so many more than the table may lack.
	maxAside = 128
	// asideFiles and, in multiples of Options.SegmentBytes, asideBytes are how much of the segments that were set aside may be there when others are.
	// Of nothing else is it known that it is of no more use, so a person removes them.
	asideFiles = 32
	asideBytes = 8
)

// damage is which blocks were found not to read back, and not to be sound since.
type damage struct {
	mu     sync.Mutex // guards what follows
	blocks map[ledger.Height]*SegmentError
	healed uint64
}

func (d *damage) found(e *SegmentError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blocks == nil {
		d.blocks = map[ledger.Height]*SegmentError{}
	}
	if _, known := d.blocks[e.Height]; known || len(d.blocks) < maxDamage {
		d.blocks[e.Height] = e
	}
}

func (d *damage) sound(h ledger.Height) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.blocks, h)
}

func (d *damage) known(h ledger.Height) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.blocks[h] != nil
}

// Damaged returns the blocks that were read and found damaged since the store was opened, in order of their heights, and are not
// healed yet. It remembers a few thousand.
func (s *Store) Damaged() []*SegmentError {
	s.damage.mu.Lock()
	defer s.damage.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.damage.blocks), func(a, b *SegmentError) int { return cmp.Compare(a.Height, b.Height) })
}

// Healed returns how many damaged blocks were healed since the store was opened.
func (s *Store) Healed() uint64 {
	s.damage.mu.Lock()
	defer s.damage.mu.Unlock()
	return s.damage.healed
}

// Copy is a block as another store has it, for one that is damaged here.
type Copy struct {
	block   *ledger.Block
	payload []byte
}

// Block returns the block; of one that is pruned here what Certified returns.
func (r *Copy) Block() *ledger.Block { return r.block }

// Size returns how many bytes it takes in the block log.
func (r *Copy) Size() int { return frameHead + len(r.payload) }

// CheckCopy checks that a payload, as Payload of another store returns it, is that of block h of this history: its
// hash is proved under the head, and all that is in it but the certificate, which is the caller's to check, is what its header commits
// to. It fails with ErrFault if it is not. The block is encoded and compressed anew, as Commit does, so the result depends on nothing
// but the block and its certificate. One that is pruned here may come in full, and then the ids of its transactions are kept,
// as Prune does; else only the index has them.
func (s *Store) CheckCopy(h ledger.Height, payload []byte) (*Copy, error) {
	fault := func(format string, args ...any) (*Copy, error) {
		return nil, &FaultError{Height: h, What: fmt.Sprintf(format, args...)}
	}
	head := s.Head()
	if head == nil || h > head.Height() {
		return nil, fmt.Errorf("check a copy of block %d: %w", h, ErrNotFound)
	}
	if uncompressed(payload) > maxCopy {
		return fault("it has more than %d bytes with its results", maxCopy)
	}
	content, pruned, err := s.log.plain(payload)
	if err != nil {
		return fault("%v", err)
	}
	kept := s.Kept()
	if pruned && h >= kept {
		return fault("it is pruned, and must be in full from block %d on", kept)
	}
	rest := decoder{rest: content}
	b, err := decodeBlock(rest.bytes())
	if err != nil {
		return fault("%v", err)
	}
	hash := b.Header.Hash(s.suite)
	if err := s.inHistory(h, hash, head); err != nil {
		return nil, err
	}
	if err := complete(s.suite, b, pruned, &rest); err != nil {
		return fault("%v", err)
	}
	var r *record
	if pruned {
		b = certified(b)
		r = &record{pruned: true}
		r.block, err = ledger.Marshal(b)
	} else if r, err = decodeRecord(content); err == nil && h < kept {
		b = certified(b)
		r, err = r.prune(true)
	}
	if err == nil && r.pruned {
		payload = prunedPayload(r)
	} else if err == nil {
		payload, err = s.log.pack(r)
	}
	if err != nil {
		return fault("%v", err)
	}
	return &Copy{block: b, payload: payload}, nil
}

// inHistory checks that a hash is that of block h below a head, or is the head's: that the index proves it, or the block that follows it here
// names it. That block proves it where rows of the index are wrong, and cannot be mended because the blocks that they are of are damaged. It is a
// *FaultError only if the rows prove another hash.
func (s *Store) inHistory(h ledger.Height, hash keys.Digest, head *Snapshot) error {
	if h == head.Height() {
		if hash != head.Hash() {
			return &FaultError{Height: h, What: "it is another block"}
		}
		return nil
	}
	root := head.Header().HistoryRoot
	proof, err := s.index.prove(uint64(h), uint64(head.Height()))
	if err == nil && proof.Verify(s.suite, root, hash[:]) == nil {
		return nil
	}
	if next, err := s.Certified(h + 1); err == nil && next.Header.Parent == hash {
		return nil
	}
	if err != nil {
		return err
	}
	if b, err := s.index.block(h); err == nil && proof.Verify(s.suite, root, b.hash[:]) == nil {
		return &FaultError{Height: h, What: fmt.Sprintf("it is not in this history, where block %d is %s", h, b.hash)}
	}
	return s.index.damaged("its rows do not prove block %d; that is mended when the blocks that they are of can be read", h)
}

// uncompressed returns how many bytes a payload has when it is uncompressed, as it says.
func uncompressed(payload []byte) uint64 {
	var head zstd.Header
	if len(payload) > 0 && payload[0] == payloadZstd && head.Decode(payload[1:]) == nil {
		return head.FrameContentSize
	}
	return uint64(len(payload))
}

// Heal writes blocks in the place of those that are damaged. Each segment with one of them is written anew beside itself and
// replaced as a whole, so a crash leaves it as it was or healed. Blocks can be read and committed meanwhile. It must have ended
// before Close and before Prune begins.
func (s *Store) Heal(copies []*Copy) error {
	s.healing.Lock()
	defer s.healing.Unlock()
	segments := map[ledger.Height]map[ledger.Height]*Copy{}
	for _, r := range copies {
		h := r.block.Header.Order.Height
		first, ok := s.log.locate(h)
		if !ok {
			return fmt.Errorf("heal block %d: %w", h, ErrNotFound)
		}
		if segments[first] == nil {
			segments[first] = map[ledger.Height]*Copy{}
		}
		segments[first][h] = r
	}
	for _, first := range slices.Sorted(maps.Keys(segments)) {
		if err := s.rewrite(first, segments[first]); err != nil {
			return fmt.Errorf("heal %s: %w", s.log.path(first), err)
		}
		for _, d := range s.Damaged() { // others may have proved themselves behind these
			if at, ok := s.log.locate(d.Height); ok && at == first && segments[first][d.Height] == nil {
				_, _ = s.payload(d.Height) // it forgets the damage when the block reads back
			}
		}
		for h := range segments[first] {
			if _, err := s.payload(h); err != nil {
				return fmt.Errorf("heal %s: %w", s.log.path(first), err)
			}
			s.damage.mu.Lock()
			s.damage.healed++
			s.damage.mu.Unlock()
		}
	}
	return nil
}

// rewrite writes a segment anew, with copies of some of its blocks. The caller holds healing. Frames that are damaged and
// of which there is none stay as they are.
func (s *Store) rewrite(first ledger.Height, with map[ledger.Height]*Copy) error {
	end, err := s.seal(first)
	if err != nil {
		return err
	}
	moved, err := s.writeSegment(first, end, with)
	if err != nil {
		return errors.Join(err, removeLeft(s.log.fs, s.log.path(first)+newEnd)) // the disk may be full
	}
	// Whoever reads looks a frame's place up and opens the file under moves, so it finds both as they were or both as they are.
	s.tables.Lock()
	defer s.tables.Unlock()
	s.log.moves.Lock()
	defer s.log.moves.Unlock()
	s.log.moved++
	if err := errors.Join(s.log.fs.Rename(s.log.path(first)+newEnd, s.log.path(first)), s.log.fs.SyncDir(s.log.dir)); err != nil {
		return err
	}
	return s.index.relocate(moved) // after a crash before this, reads search the segment, and Scrub mends the index
}

// seal makes a segment one to which nothing is appended any more, and returns the height behind its last block.
func (s *Store) seal(first ledger.Height) (end ledger.Height, err error) {
	s.commit.Lock()
	defer s.commit.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	i, last := slices.BinarySearch(s.log.first, first)
	if !last {
		return 0, fmt.Errorf("%w: the segment", ErrNotFound)
	}
	if i+1 < len(s.log.first) {
		return s.log.first[i+1], nil
	}
	if tail := s.log.tail; tail != nil {
		s.log.tail = nil // the next block begins a segment
		if err := tail.Close(); err != nil {
			s.fail(err)
			return 0, err
		}
	}
	return ledger.Height(s.index.blocks()), nil
}

// writeSegment writes what is to replace a segment, and syncs it. It returns where the frames are that were elsewhere.
func (s *Store) writeSegment(first, end ledger.Height, with map[ledger.Height]*Copy) (moved map[ledger.Height]indexed, err error) {
	files, name := s.log.fs, s.log.path(first)+newEnd
	from, err := files.Open(s.log.path(first), false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		from = lostFile{}
	case err != nil:
		return nil, err
	}
	defer from.Close()
	if err := removeLeft(files, name); err != nil {
		return nil, err
	}
	to, err := files.Open(name, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	moved = map[ledger.Height]indexed{}
	out, written := appendSegmentHead(nil, first), int64(0)
	flush := func() error {
		if _, err := to.WriteAt(out, written); err != nil {
			return fmt.Errorf("%w; the file is written anew before it is replaced, so the disk needs as much free space", err)
		}
		written += int64(len(out))
		out = out[:0]
		return nil
	}
	// keep writes bytes of the old file as they are.
	keep := func(offset, length int64) error {
		for length > 0 {
			n := min(length, syncBytes)
			raw := make([]byte, n)
			if _, err := readPieces(from, raw, offset); err != nil {
				return err
			}
			if out = append(out, raw...); len(out) >= syncBytes {
				if err := flush(); err != nil {
					return err
				}
			}
			offset, length = offset+n, length-n
		}
		return nil
	}
	var lost framed // whose bytes are to be kept with the first block of those that were in them that has no copy
	for at, err := range s.frames(from, first, end, with) {
		if err != nil {
			return nil, err
		}
		if at.length > 0 {
			lost = framed{}
		}
		place := indexed{offset: written + int64(len(out))}
		copied := with[at.height]
		switch {
		case copied != nil:
			place.hash = copied.block.Header.Hash(s.suite)
			out = append(appendFrameHead(out, at.height, copied.payload), copied.payload...)
			if at.lost != "" && at.length > 0 {
				lost = at
			}
		case at.lost != "" && at.length == 0:
			err = keep(lost.offset, lost.length)
			lost = framed{}
		default:
			err = keep(at.offset, at.length)
		}
		if err == nil && len(out) >= syncBytes {
			err = flush()
		}
		if err != nil {
			return nil, err
		}
		if b, err := s.index.block(at.height); err != nil || b.offset != place.offset || copied != nil && b.hash != place.hash {
			moved[at.height] = place
		}
	}
	return moved, errors.Join(flush(), to.Sync())
}

// lostFile stands for a segment that is gone.
type lostFile struct{ File }

func (lostFile) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (lostFile) Size() (int64, error)              { return 0, nil }
func (lostFile) Close() error                      { return nil }

// relocate notes where frames are, and the hashes of the blocks that have one here. Rows that are missing and have none it leaves to Scrub.
// The caller keeps others from reading, and from flushing.
func (x *index) relocate(moved map[ledger.Height]indexed) error {
	if len(moved) == 0 {
		return nil
	}
	x.mu.Lock()
	stored := x.stored
	for h, place := range moved {
		if uint64(h) >= stored {
			x.recent[uint64(h)-stored].offset = place.offset
		}
	}
	x.mu.Unlock()
	return x.kv.update(func(w writer) error {
		for _, h := range slices.Sorted(maps.Keys(moved)) {
			if uint64(h) >= stored {
				return nil
			}
			place := moved[h]
			if place.hash == (keys.Digest{}) {
				b, err := x.row(w, uint64(h))
				if err != nil {
					continue
				}
				place.hash = b.hash
			}
			key := binary.BigEndian.AppendUint64(nil, uint64(h))
			if err := w.put(tableBlocks, key, binary.BigEndian.AppendUint64(bytes.Clone(place.hash[:]), uint64(place.offset))); err != nil {
				return err
			}
		}
		return nil
	})
}

// setTailAside takes the blocks from a damaged one on out of the log, if the state does not depend on it and they are few, and
// reports whether it did. Open could not go on with them; other nodes have them. They are kept beside, as far as there is anything.
// The block on whose state all here depends is put in its own place from the base.
// blocks is how many there were when Open began, 0 before that is known.
func (s *Store) setTailAside(bad *SegmentError, blocks *uint64) (done bool, err error) {
	h := bad.Height
	base := s.base.Load()
	again := base != nil && base.Kept > 0 && base.broken == nil && h == base.height()
	if base != nil && base.Kept > 0 && !again && (h <= base.height() || h <= base.Kept) {
		return false, nil
	}
	included, err := s.peek(stateName, reached)
	if err != nil || uint64(h)+maxAside < included { // the index is made again, so all blocks were read: one is not worth so many
		return false, err
	}
	log, err := openSegments(s.options.FS, filepath.Join(s.dir, blocksDir), s.options.SegmentBytes)
	if err != nil {
		return false, err
	}
	defer log.close()
	first, ok := log.locate(h)
	if !ok || bad.File == log.path(first) && bad.Offset < int64(segmentHead) && first != h {
		return false, nil
	}
	if *blocks == 0 {
		if *blocks, err = s.counted(log); err != nil {
			return false, err
		}
	}
	// Where the table is lost, any block may be the one without which Open cannot go on. Those behind it are sound, and perhaps nobody
	// else has them.
	if uint64(h)+uint64(s.options.Recent)+8*uint64(s.options.FlushBlocks)+maxAside < *blocks {
		return false, nil
	}
	if err := log.asideRoom(); err != nil {
		return false, err
	}
	from := h // which goes, with those behind it
	var payload []byte
	if again {
		if payload, err = base.block(log, s.suite); err != nil || payload == nil {
			return false, err
		}
		from++
	}
	if base != nil && h <= base.height() && !again { // all blocks are in full, so it only saved time
		if err := s.dropBase(); err != nil {
			return false, err
		}
	}
	// The index goes first: without the blocks, what it says of them is damage.
	if k, err := s.openKV(indexName); err == nil {
		x, err := openIndex(s.suite, k)
		if err == nil {
			err = x.cut(uint64(from))
		}
		if err = errors.Join(err, k.close()); err != nil {
			return false, err
		}
	} else {
		return false, err
	}
	for _, later := range slices.Backward(log.first) { // the last goes first, so that a crash leaves no gap
		if later < from {
			break
		}
		aside, err := log.aside(later)
		if err == nil {
			err = errors.Join(log.fs.Rename(log.path(later), aside), log.fs.SyncDir(log.dir))
		}
		if err != nil {
			return false, err
		}
	}
	if again {
		if err := log.putBack(bad, payload); err != nil {
			return false, err
		}
		s.options.Notice(fmt.Sprintf("block %d in %s at byte %d: %s; it is put back from %s, and those behind it are fetched again; what there was of them is kept beside, "+
			"in files with %s in their names", h, bad.File, bad.Offset, bad.Reason, base.path, asideEnd))
		return true, nil
	}
	if bad.File == log.path(first) && first < h {
		aside, err := log.aside(first)
		if err == nil {
			err = log.copyTo(first, nil, aside)
		}
		if err != nil {
			return false, err
		}
		f, err := log.fs.Open(log.path(first), false)
		if err != nil {
			return false, err
		}
		if err := errors.Join(f.Truncate(bad.Offset), f.Sync(), f.Close()); err != nil {
			return false, err
		}
	}
	s.options.Notice(fmt.Sprintf("block %d in %s at byte %d: %s; without it the state after the last block cannot be had, so this node begins with the block before and fetches "+
		"the others again; what there was of them is kept beside, in files with %s in their names", h, bad.File, bad.Offset, bad.Reason, asideEnd))
	return true, nil
}

// peek returns a number from a file of tables, and 0 of one that cannot be opened: that is left for Open to set aside.
func (s *Store) peek(name string, read func(reader) uint64) (n uint64, err error) {
	if s.options.Memory {
		return 0, nil
	}
	k, err := openBolt(filepath.Join(s.dir, name))
	if err == nil {
		err = errors.Join(k.view(func(r reader) error {
			n = read(r)
			return nil
		}), k.close())
	}
	if _, bad := errors.AsType[*damaged](err); bad {
		return 0, nil
	}
	return n, err
}

// counted returns how many blocks there are or were, as far as the index and the last segment tell.
func (s *Store) counted(log *segments) (blocks uint64, err error) {
	indexed, err := s.peek(indexName, func(r reader) uint64 { return number(r, keyStored) })
	if err != nil || len(log.first) == 0 {
		return indexed, err
	}
	first := log.first[len(log.first)-1]
	f, err := log.fs.Open(log.path(first), false)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	last, err := lastFrame(f, 0, size, first)
	return max(indexed, uint64(last)+1), err
}

// aside returns a name that is free, for a segment that is set aside.
func (s *segments) aside(first ledger.Height) (string, error) {
	names, err := s.fs.ReadDir(s.dir)
	name := segmentName(first) + asideEnd
	for n := 2; slices.Contains(names, name); n++ {
		name = fmt.Sprintf("%s%s.%d", segmentName(first), asideEnd, n)
	}
	return filepath.Join(s.dir, name), err
}

// asideRoom fails if so many segments are set aside that no others may be.
func (s *segments) asideRoom() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	count, size := 0, int64(0)
	for _, name := range names {
		if !strings.Contains(name, segmentEnd+asideEnd) {
			continue
		}
		f, err := s.fs.Open(filepath.Join(s.dir, name), false)
		if err != nil {
			return err
		}
		n, err := f.Size()
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		count, size = count+1, size+n
	}
	if count < asideFiles && size < asideBytes*s.rotate {
		return nil
	}
	return fmt.Errorf("%s has %d files with %s in their names, %d bytes, which were set aside before, and no more are made: the disk damages blocks again and again, and should be replaced; "+
		"move these files away, or delete them if the node had all its blocks again since, and start it", s.dir, count, asideEnd, size)
}

// putBack writes a damaged block, which is the last one, in its place: its segment is written anew beside itself, so a crash leaves it as it was,
// and a copy of it aside, or mended. Where there is no file, the block begins one.
func (s *segments) putBack(bad *SegmentError, payload []byte) error {
	first, at := bad.Height, int64(segmentHead)
	name := s.path(first)
	if in, _ := s.locate(bad.Height); bad.File == s.path(in) {
		aside, err := s.aside(in)
		if err == nil {
			err = s.copyTo(in, nil, aside)
		}
		if err == nil && in < first {
			first, at, name = in, bad.Offset, bad.File
			err = s.copyTo(first, nil, name+newEnd)
		}
		if err != nil {
			return err
		}
	}
	if first == bad.Height {
		if err := removeLeft(s.fs, name+newEnd); err != nil {
			return err
		}
	}
	f, err := s.fs.Open(name+newEnd, true)
	if err != nil {
		return err
	}
	_, headErr := f.WriteAt(appendSegmentHead(nil, first), 0)
	_, err = f.WriteAt(append(appendFrameHead(nil, bad.Height, payload), payload...), at)
	err = errors.Join(headErr, err, f.Truncate(at+int64(frameHead+len(payload))), f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, removeLeft(s.fs, name+newEnd)) // the disk may be full
	}
	return errors.Join(s.fs.Rename(name+newEnd, name), s.fs.SyncDir(s.dir))
}

// rehead writes the beginning of a segment again, of which the first frame is sound.
func (s *segments) rehead(first ledger.Height) error {
	name := s.path(first) + newEnd
	if err := s.copyTo(first, appendSegmentHead(nil, first), name); err != nil {
		return errors.Join(err, removeLeft(s.fs, name))
	}
	return errors.Join(s.fs.Rename(name, s.path(first)), s.fs.SyncDir(s.dir))
}

// copyTo makes a copy of a segment, with another beginning.
func (s *segments) copyTo(first ledger.Height, begin []byte, name string) (err error) {
	from, err := s.fs.Open(s.path(first), false)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := removeLeft(s.fs, name); err != nil {
		return err
	}
	to, err := s.fs.Open(name, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	buffer := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := readPieces(from, buffer, at)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if at == 0 {
			copy(buffer[:n], begin)
		}
		if _, err := to.WriteAt(buffer[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return errors.Join(to.Sync(), s.fs.SyncDir(s.dir))
}

// cut forgets the blocks from a height on.
func (x *index) cut(blocks uint64) error {
	if x.stored <= blocks {
		return nil
	}
	return x.kv.update(func(w writer) error {
		type row struct {
			table tableID
			key   []byte
		}
		var gone []row
		for h := blocks; h < x.stored; h++ {
			gone = append(gone, row{tableBlocks, binary.BigEndian.AppendUint64(nil, h)})
		}
		for id, at := range w.scan(tableTxs, nil, false) {
			if h, n := binary.Uvarint(at); n <= 0 || h >= blocks {
				gone = append(gone, row{tableTxs, bytes.Clone(id)})
			}
		}
		for key := range w.scan(tableTiles, nil, false) {
			if len(key) != 9 || (binary.BigEndian.Uint64(key[1:])+1)<<key[0] > blocks {
				gone = append(gone, row{tableTiles, bytes.Clone(key)})
			}
		}
		for _, r := range gone {
			if err := w.del(r.table, r.key); err != nil {
				return err
			}
		}
		return w.put(tableMeta, keyStored, binary.BigEndian.AppendUint64(nil, blocks))
	})
}
