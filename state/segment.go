package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"github.com/fondaco/fondaco/state/ledger"
)

// The segments are a group's block log and write-ahead log at once: files of consecutive blocks, named by the
// height of their first. A segment is a head and one frame per block:
//
//	head:  "fondaco blocks 1" ‖ first height (8) ‖ CRC-32C of these (4)
//	frame: "blck" ‖ payload length (4) ‖ height (8) ‖ CRC-32C of the payload (4) ‖ CRC-32C of these (4) ‖ payload
//
// Numbers are big-endian. The payload is a kind byte and a record (0 plain, 1 zstd), or what stays of one that was
// pruned (2: prunedRecord); no such block follows one with a record. One frame is written and
// synced at a time, so only the last frame of the last segment can be incomplete after a crash. Everything
// else that does not read back is damage that the store cannot repair.
const (
	segmentMagic = "fondaco blocks 1"
	segmentHead  = len(segmentMagic) + 8 + 4
	frameMagic   = "blck"
	frameHead    = len(frameMagic) + 4 + 8 + 4 + 4
	segmentEnd   = ".blocks"
	newEnd       = ".new"     // behind the name of a file that is to replace the one of that name
	asideEnd     = ".damaged" // and of one that was replaced
)

// MaxPayload bounds a block with all its results, in bytes, before they are compressed. It is what a length field is
// checked against.
const MaxPayload = 1 << 30

const (
	payloadPlain  byte = 0
	payloadZstd   byte = 1
	payloadPruned byte = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SegmentError says that a segment file does not hold what it must. The store has no other copy: see Store.Heal.
type SegmentError struct {
	File   string
	Offset int64
	Height ledger.Height // of the block that is damaged or missing
	Reason string
}

func (e *SegmentError) Error() string {
	return fmt.Sprintf("block %d in %s at byte %d: %s; a node that runs fetches it again from others that have it. If it says that none has, or does not start, restore this file "+
		"from a copy of the folder, or stop the node, move blocks, base, state.db and index.db of this folder away and "+
		"leave the rest, and start it: it fetches the blocks that other nodes have in full; where these pruned some, `fondaco backup restore` first",
		e.Height, e.File, e.Offset, e.Reason)
}

// Is makes a SegmentError match ErrDamaged.
func (e *SegmentError) Is(target error) bool { return target == ErrDamaged }

// segments is the block log. append is for one caller at a time; the rest is safe for concurrent use.
type segments struct {
	fs     FS
	dir    string
	rotate int64

	mu    sync.RWMutex    // guards first
	first []ledger.Height // of each segment, rising

	moves sync.RWMutex // held while a frame's place is looked up and its file opened; guards moved
	moved uint64       // counts the segments that were replaced by others

	tail     File // the last segment; nil when there is none
	tailSize int64

	zip   *zstd.Encoder
	unzip *zstd.Decoder
}

// place says where a frame is.
type place struct {
	first  ledger.Height // names the segment
	offset int64
}

func segmentName(first ledger.Height) string { return fmt.Sprintf("%012d%s", first, segmentEnd) }

func openSegments(files FS, dir string, rotate int64) (*segments, error) {
	s := &segments{fs: files, dir: dir, rotate: rotate}
	names, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, segmentEnd)
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || segmentName(ledger.Height(first)) != name {
			return nil, fmt.Errorf("%s: not the name of a block segment; move it elsewhere", filepath.Join(dir, name))
		}
		s.first = append(s.first, ledger.Height(first))
	}
	slices.Sort(s.first)
	if len(s.first) > 0 && s.first[0] != 0 {
		return nil, &SegmentError{File: filepath.Join(dir, segmentName(0)), Reason: "the file is missing"}
	}
	s.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	s.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPayload), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
	return s, err
}

func (s *segments) path(first ledger.Height) string { return filepath.Join(s.dir, segmentName(first)) }

// locate returns the segment that holds or would hold a height.
func (s *segments) locate(h ledger.Height) (first ledger.Height, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i := sort.Search(len(s.first), func(i int) bool { return s.first[i] > h })
	if i == 0 {
		return 0, false
	}
	return s.first[i-1], true
}

// append writes a frame and syncs it. After an error the log must be opened again.
func (s *segments) append(h ledger.Height, payload []byte) (place, error) {
	return s.appendAll(h, payload)
}

// appendAll is append for blocks that follow one another, the first of height h, with one sync. It returns the place of
// the first.
func (s *segments) appendAll(h ledger.Height, payloads ...[]byte) (place, error) {
	size := 0
	for i, payload := range payloads {
		if len(payload) > MaxPayload {
			return place{}, fmt.Errorf("block %d has %d bytes with its results, at most %d", h+ledger.Height(i), len(payload), MaxPayload)
		}
		size += frameHead + len(payload)
	}
	var out []byte
	fresh := s.tail == nil || s.tailSize >= s.rotate
	if fresh {
		if s.tail != nil {
			if err := s.tail.Close(); err != nil {
				return place{}, err
			}
		}
		var err error
		if s.tail, err = s.fs.Open(s.path(h), true); err != nil {
			return place{}, err
		}
		s.tailSize = 0
		s.mu.Lock()
		s.first = append(s.first, h)
		s.mu.Unlock()
		out = appendSegmentHead(make([]byte, 0, segmentHead+size), h)
	}
	at := place{first: s.first[len(s.first)-1], offset: s.tailSize + int64(len(out))}
	for i, payload := range payloads {
		out = append(appendFrameHead(out, h+ledger.Height(i), payload), payload...)
	}
	if _, err := s.tail.WriteAt(out, s.tailSize); err != nil {
		return place{}, fmt.Errorf("write block %d to %s: %w", h, s.path(at.first), err)
	}
	if err := s.tail.Sync(); err != nil {
		return place{}, fmt.Errorf("sync block %d in %s: %w", h, s.path(at.first), err)
	}
	if fresh {
		if err := s.fs.SyncDir(s.dir); err != nil {
			return place{}, fmt.Errorf("sync %s: %w", s.dir, err)
		}
	}
	s.tailSize += int64(len(out))
	return at, nil
}

func appendSegmentHead(out []byte, first ledger.Height) []byte {
	out = append(out, segmentMagic...)
	out = binary.BigEndian.AppendUint64(out, uint64(first))
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out[len(out)-segmentHead+4:], castagnoli))
}

func appendFrameHead(out []byte, h ledger.Height, payload []byte) []byte {
	out = append(out, frameMagic...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	out = binary.BigEndian.AppendUint64(out, uint64(h))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(payload, castagnoli))
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out[len(out)-frameHead+4:], castagnoli))
}

// frame is the head of a frame, decoded.
type frame struct {
	length int
	height ledger.Height
	crc    uint32
}

func parseFrameHead(head []byte) (f frame, ok bool) {
	if len(head) < frameHead || string(head[:4]) != frameMagic ||
		crc32.Checksum(head[:frameHead-4], castagnoli) != binary.BigEndian.Uint32(head[frameHead-4:]) {
		return f, false
	}
	f.length = int(binary.BigEndian.Uint32(head[4:]))
	f.height = ledger.Height(binary.BigEndian.Uint64(head[8:]))
	f.crc = binary.BigEndian.Uint32(head[16:])
	return f, f.length <= MaxPayload
}

// read returns the payload of the frame of block h.
func (s *segments) read(h ledger.Height, offset int64) (payload []byte, err error) {
	first, ok := s.locate(h)
	if !ok {
		return nil, &SegmentError{File: s.path(0), Height: h, Reason: "the file is missing"}
	}
	f, err := s.fs.Open(s.path(first), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &SegmentError{File: s.path(first), Height: h, Reason: "the file is missing"}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	payload, reason, err := readFrame(f, h, offset)
	if err == nil && reason != "" {
		err = &SegmentError{File: s.path(first), Offset: offset, Height: h, Reason: reason}
	}
	return payload, err
}

// readAt reads what a file has at an offset, less than p holds only at its end. reason says that the disk does not give it back,
// which is damage like any other: a bad sector, or a checksum of the file system.
func readAt(f io.ReaderAt, p []byte, offset int64) (n int, reason string, err error) {
	n, err = f.ReadAt(p, offset)
	switch {
	case errors.Is(err, syscall.EIO):
		return n, "the disk cannot read it", nil
	case errors.Is(err, io.EOF):
		err = nil
	}
	return n, "", err
}

// piece is how much of a file is given up, in bytes, where the disk cannot read it: the least sector that there is.
const piece = 512

// readPieces is readAt, with zeros for the pieces that the disk cannot read.
func readPieces(f io.ReaderAt, p []byte, offset int64) (n int, err error) {
	n, reason, err := readAt(f, p, offset)
	if err != nil || reason == "" {
		return n, err
	}
	for n = 0; n < len(p); {
		part := p[n:min(len(p), n+piece-int((offset+int64(n))%piece))]
		m, reason, err := readAt(f, part, offset+int64(n))
		if err != nil {
			return n, err
		}
		if reason != "" {
			clear(part)
			m = len(part)
		}
		if n += m; m < len(part) {
			break
		}
	}
	return n, nil
}

// readFrame returns the payload of a frame, or the reason why it is not what was written. A payload that comes with a reason has
// its length and no more.
func readFrame(f io.ReaderAt, h ledger.Height, offset int64) (payload []byte, reason string, err error) {
	var head [frameHead]byte
	if n, reason, err := readAt(f, head[:], offset); err != nil || reason != "" {
		return nil, reason, err
	} else if n < frameHead {
		return nil, "the file ends within the frame's head", nil
	}
	fr, ok := parseFrameHead(head[:])
	switch {
	case !ok:
		return nil, "the frame's head does not have its checksum", nil
	case fr.height != h:
		return nil, fmt.Sprintf("the frame is that of block %d", fr.height), nil
	}
	payload = make([]byte, fr.length)
	if n, reason, err := readAt(f, payload, offset+int64(frameHead)); err != nil {
		return nil, "", err
	} else if reason != "" {
		return payload, reason, nil
	} else if n < fr.length {
		return nil, "the file ends within the frame", nil
	}
	if crc32.Checksum(payload, castagnoli) != fr.crc {
		return payload, "the frame does not have its checksum", nil
	}
	return payload, "", nil
}

// packFrom is the size from which a record is compressed. Small blocks are digests and signatures for the most
// part, which do not shrink.
const packFrom = 4 << 10

// pack makes a payload of a record.
func (s *segments) pack(r *record) ([]byte, error) {
	plain := r.encode()
	switch {
	case len(plain) >= MaxPayload:
		return nil, fmt.Errorf("the block has %d bytes with its results, at most %d", len(plain), MaxPayload-1)
	case len(plain) < packFrom:
		return append([]byte{payloadPlain}, plain...), nil
	}
	return s.zip.EncodeAll(plain, append(make([]byte, 0, len(plain)/2+64), payloadZstd)), nil
}

// plain returns the content of a payload, uncompressed: a record, or what stays of a pruned one.
func (s *segments) plain(payload []byte) (content []byte, pruned bool, err error) {
	if len(payload) == 0 {
		return nil, false, errRecord
	}
	content = payload[1:]
	switch payload[0] {
	case payloadPlain:
	case payloadZstd:
		if content, err = s.inflate(content); err != nil {
			return nil, false, fmt.Errorf("%w: %w", errRecord, err)
		}
	case payloadPruned:
		return content, true, nil
	default:
		return nil, false, errRecord
	}
	return content, false, nil
}

// zipRatio is how many bytes one byte can stand for: in zstd, 4 bytes may repeat one byte for a block of 128 KiB.
const zipRatio = 128 << 10 / 4

// inflate uncompresses what pack compressed. No more memory is taken than so many bytes can fill, whatever their head says
// of the size.
func (s *segments) inflate(packed []byte) ([]byte, error) {
	var head zstd.Header
	if err := head.Decode(packed); err != nil {
		return nil, err
	}
	size := head.FrameContentSize
	if !head.HasFCS || size > MaxPayload || size > zipRatio*uint64(len(packed)) {
		return nil, fmt.Errorf("%d bytes of zstd that say they are %d", len(packed), size)
	}
	return s.unzip.DecodeAll(packed, make([]byte, 0, size))
}

// unpack reads a payload of this store.
func (s *segments) unpack(payload []byte) (*record, error) {
	content, pruned, err := s.plain(payload)
	if err != nil {
		return nil, err
	}
	if pruned {
		return decodePruned(content)
	}
	return decodeRecord(content)
}

// walk calls visit for every block from a place on; the block there has height from. When the last segment ends
// in an incomplete frame, and repair is set, it is cut off and notice is called. acknowledged is the number of
// blocks that are known to have been durable: an incomplete frame of one of them is damage.
func (s *segments) walk(from ledger.Height, at place, acknowledged uint64, repair bool, notice func(string), visit func(h ledger.Height, at place, payload []byte) error) (end ledger.Height, err error) {
	h := from
	for i := 0; i < len(s.first); i++ {
		first := s.first[i]
		if first < at.first {
			continue
		}
		last := i == len(s.first)-1
		if first != at.first && first != h {
			return h, &SegmentError{File: s.path(h), Height: h, Reason: "the file is missing"}
		}
		offset := int64(segmentHead)
		if first == at.first && at.offset != 0 {
			offset = at.offset
		}
		next, err := s.walkSegment(first, h, offset, last, acknowledged, repair, notice, visit)
		if err != nil {
			return next, err
		}
		h = next
	}
	return h, nil
}

func (s *segments) walkSegment(first, h ledger.Height, offset int64, last bool, acknowledged uint64, repair bool, notice func(string), visit func(ledger.Height, place, []byte) error) (ledger.Height, error) {
	name := s.path(first)
	f, err := s.fs.Open(name, false)
	if err != nil {
		return h, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return h, err
	}
	bad := func(offset int64, reason string) error {
		return &SegmentError{File: name, Offset: offset, Height: h, Reason: reason}
	}
	var head [segmentHead]byte
	if n, lost, err := readAt(f, head[:], 0); err != nil {
		return h, err
	} else if lost != "" || n < segmentHead || !bytes.Equal(head[:], appendSegmentHead(nil, first)) {
		_, reason, err := readFrame(f, first, int64(segmentHead))
		if err != nil {
			return h, fmt.Errorf("read %s: %w", name, err)
		}
		if reason == "" && repair {
			if err := s.rehead(first); err != nil {
				return h, fmt.Errorf("write the beginning of %s again: %w", name, err)
			}
			notice(fmt.Sprintf("%s did not begin as it must: its beginning was written again", name))
			return s.walkSegment(first, h, offset, last, acknowledged, repair, notice, visit)
		}
		if !last || first != h || uint64(h) < acknowledged {
			return h, bad(0, "the file does not begin as it must")
		}
		later, err := lastFrame(f, 0, size, h)
		if err != nil {
			return h, err
		}
		if later > h {
			return h, bad(0, "the file does not begin as it must")
		}
		if !repair {
			return h, bad(0, "the file is incomplete, as after a crash; start the node once to repair it")
		}
		notice(fmt.Sprintf("%s: removed the incomplete file of block %d, as a crash leaves one", name, h))
		s.first = s.first[:len(s.first)-1]
		return h, errors.Join(s.fs.Remove(name), s.fs.SyncDir(s.dir))
	}
	for offset < size {
		payload, reason, err := readFrame(f, h, offset)
		if err != nil {
			return h, fmt.Errorf("read %s: %w", name, err)
		}
		if reason != "" {
			if !last || uint64(h) < acknowledged {
				return h, bad(offset, reason)
			}
			later, err := lastFrame(f, offset, size, h)
			if err != nil {
				return h, err
			}
			if later > h {
				return h, bad(offset, reason+", and blocks follow")
			}
			if !repair {
				return h, bad(offset, "the frame is incomplete, as after a crash; start the node once to repair it")
			}
			notice(fmt.Sprintf("%s: cut off the incomplete frame of block %d at byte %d (%d bytes), as a crash leaves one: %s", name, h, offset, size-offset, reason))
			if err := f.Truncate(offset); err != nil {
				return h, err
			}
			return h, f.Sync()
		}
		if err := visit(h, place{first: first, offset: offset}, payload); err != nil {
			return h, err
		}
		offset += int64(frameHead + len(payload))
		h++
	}
	return h, nil
}

// lastFrame returns the height of the last whole frame behind offset of a block above h, and h if there is none. If there is one behind
// damage, that is no torn write: a frame is only begun when the one before is durable.
func lastFrame(f io.ReaderAt, offset, size int64, h ledger.Height) (ledger.Height, error) {
	for at, err := range wholeFrames(f, offset, size) {
		if err != nil {
			return h, err
		}
		if at.lost != "" { // it cannot be told, and nothing may be cut off
			return h + 1, nil
		}
		h = max(h, at.height)
	}
	return h, nil
}

// resume opens the last segment for appending. What is there from a place on is written again and synced: the process that wrote
// it may have died before it could, or have been told that it failed.
func (s *segments) resume(from place) error {
	if err := s.reopen(); err != nil || s.tail == nil {
		return err
	}
	last := s.first[len(s.first)-1]
	if from.first != last {
		from.offset = 0
	}
	if err := Rewrite(s.tail, from.offset, s.tailSize); err != nil {
		return fmt.Errorf("write the end of %s again: %w", s.path(last), err)
	}
	return s.fs.SyncDir(s.dir)
}

// reopen opens the last segment for appending, of which all was synced.
func (s *segments) reopen() (err error) {
	if len(s.first) == 0 {
		return nil
	}
	if s.tail, err = s.fs.Open(s.path(s.first[len(s.first)-1]), false); err != nil {
		return err
	}
	s.tailSize, err = s.tail.Size()
	return err
}

// all yields all frames.
func (s *segments) all() iter.Seq2[framed, error] {
	return func(yield func(framed, error) bool) {
		for _, first := range s.first {
			for at, err := range s.frames(first) {
				if !yield(at, err) || err != nil {
					return
				}
			}
		}
	}
}

// cut removes what is at a place and behind it, of a log that nobody relies on yet.
func (s *segments) cut(at framed) error {
	for len(s.first) > 0 {
		last := s.first[len(s.first)-1]
		if last < at.first || last == at.first && at.offset > int64(segmentHead) {
			break
		}
		if err := s.fs.Remove(s.path(last)); err != nil {
			return err
		}
		s.first = s.first[:len(s.first)-1]
	}
	if n := len(s.first); n > 0 && s.first[n-1] == at.first {
		f, err := s.fs.Open(s.path(at.first), false)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(at.offset), f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return s.fs.SyncDir(s.dir)
}

// strip takes from the blocks below a height what a pruned block does not keep. Each segment is written anew beside itself
// and replaced as a whole, so a crash leaves it as it was or as it is to be. Nobody may read or append meanwhile, and the
// offsets of blocks change.
func (s *segments) strip(below ledger.Height) error {
	for _, first := range s.first {
		if first >= below {
			break
		}
		todo := false
		for at, err := range s.frames(first) {
			if err != nil {
				return err
			}
			if todo = at.height < below && at.kind != payloadPruned; todo || at.height >= below {
				break
			}
		}
		if !todo {
			continue
		}
		if err := s.stripSegment(first, below); err != nil {
			return fmt.Errorf("prune %s: %w", s.path(first), err)
		}
	}
	return nil
}

func (s *segments) stripSegment(first, below ledger.Height) (err error) {
	from, err := s.fs.Open(s.path(first), false)
	if err != nil {
		return err
	}
	defer from.Close()
	name := s.path(first) + newEnd
	if err := removeLeft(s.fs, name); err != nil {
		return err
	}
	to, err := s.fs.Open(name, true)
	if err != nil {
		return err
	}
	open := true
	defer func() {
		if open {
			err = errors.Join(err, to.Close())
		}
		if err != nil { // the disk may be full
			err = errors.Join(err, removeLeft(s.fs, name))
		}
	}()
	out, size := appendSegmentHead(nil, first), int64(0)
	write := func() error {
		if _, err := to.WriteAt(out, size); err != nil {
			return fmt.Errorf("%w; the file is written anew before it is replaced, so the disk needs as much free space", err)
		}
		size += int64(len(out))
		out = out[:0]
		return nil
	}
	for at, err := range s.frames(first) {
		if err != nil {
			return err
		}
		payload, reason, err := readFrame(from, at.height, at.offset)
		if err == nil && reason != "" {
			err = &SegmentError{File: s.path(first), Offset: at.offset, Height: at.height, Reason: reason}
		}
		if err == nil && at.height < below {
			payload, err = s.prune(payload, true)
		}
		if err != nil {
			return err
		}
		if out = append(appendFrameHead(out, at.height, payload), payload...); len(out) >= syncBytes {
			if err := write(); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(write(), to.Sync()); err != nil {
		return err
	}
	open = false
	return errors.Join(to.Close(), s.fs.Rename(name, s.path(first)), s.fs.SyncDir(s.dir))
}

// prune returns the payload of a block without what a pruned block does not keep, and with the ids of its transactions if they are
// to stay.
func (s *segments) prune(payload []byte, ids bool) ([]byte, error) {
	r, err := s.unpack(payload)
	if err != nil || r.pruned && (ids || len(r.ids) == 0) {
		return payload, err
	}
	rest, err := r.prune(ids)
	if err != nil {
		return nil, err
	}
	return prunedPayload(rest), nil
}

// prunedPayload returns the payload of a record that was pruned.
func prunedPayload(r *record) []byte { return append([]byte{payloadPruned}, r.encodePruned()...) }

// removeLeft removes what a crash left of segments that were to be written anew.
func (s *segments) removeLeft() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, segmentEnd+newEnd) {
			if err := removeLeft(s.fs, filepath.Join(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// prunedAt reports whether the block of a height is there and is pruned.
func (s *segments) prunedAt(h ledger.Height) (bool, error) {
	first, ok := s.locate(h)
	if !ok {
		return false, nil
	}
	for at, err := range s.frames(first) {
		if err != nil {
			return false, err
		}
		if at.height == h {
			return at.kind == payloadPruned, nil
		}
	}
	return false, nil
}

func (s *segments) close() error {
	s.unzip.Close()
	err := s.zip.Close()
	if s.tail != nil {
		err = errors.Join(err, s.tail.Close())
	}
	return err
}
