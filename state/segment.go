package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/fondaco/fondaco/state/ledger"
)

// The segments are a group's block log and write-ahead log at once: files of consecutive blocks, named by the
// height of their first. A segment is a head and one frame per block:
//
//	head:  "fondaco blocks 1" ‖ first height (8) ‖ CRC-32C of these (4)
//	frame: "blck" ‖ payload length (4) ‖ height (8) ‖ CRC-32C of the payload (4) ‖ CRC-32C of these (4) ‖ payload
//
// Numbers are big-endian. The payload is a kind byte (0 plain, 1 zstd) and a record. One frame is written and
// synced at a time, so only the last frame of the last segment can be incomplete after a crash. Everything
// else that does not read back is damage that the store cannot repair.
const (
	segmentMagic = "fondaco blocks 1"
	segmentHead  = len(segmentMagic) + 8 + 4
	frameMagic   = "blck"
	frameHead    = len(frameMagic) + 4 + 8 + 4 + 4
	segmentEnd   = ".blocks"

	// maxPayload bounds a block with all its results; it is what a length field is checked against.
	maxPayload = 1 << 30
)

const (
	payloadPlain byte = 0
	payloadZstd  byte = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SegmentError says that a segment file does not hold what it must. The store cannot repair it.
type SegmentError struct {
	File   string
	Offset int64
	Height ledger.Height // of the block that is damaged or missing
	Reason string
}

func (e *SegmentError) Error() string {
	return fmt.Sprintf("block %d in %s at byte %d: %s; restore this file from a backup or from another node of the group that has it, or start this node with an empty folder to fetch all blocks again",
		e.Height, e.File, e.Offset, e.Reason)
}

// segments is the block log. append is for one caller at a time; the rest is safe for concurrent use.
type segments struct {
	fs     FS
	dir    string
	rotate int64

	mu    sync.RWMutex    // guards firsts
	first []ledger.Height // of each segment, rising

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
	s.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayload), zstd.WithDecoderLowmem(true))
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
	if len(payload) > maxPayload {
		return place{}, fmt.Errorf("block %d has %d bytes with its results, at most %d", h, len(payload), maxPayload)
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
		out = appendSegmentHead(make([]byte, 0, segmentHead+frameHead+len(payload)), h)
	}
	at := place{first: s.first[len(s.first)-1], offset: s.tailSize + int64(len(out))}
	out = append(appendFrameHead(out, h, payload), payload...)
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
	return f, f.length <= maxPayload
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

// readFrame returns the payload of a frame, or the reason why there is none.
func readFrame(f io.ReaderAt, h ledger.Height, offset int64) (payload []byte, reason string, err error) {
	var head [frameHead]byte
	if n, err := f.ReadAt(head[:], offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
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
	if n, err := f.ReadAt(payload, offset+int64(frameHead)); err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	} else if n < fr.length {
		return nil, "the file ends within the frame", nil
	}
	if crc32.Checksum(payload, castagnoli) != fr.crc {
		return nil, "the frame does not have its checksum", nil
	}
	return payload, "", nil
}

// packFrom is the size from which a record is compressed. Small blocks are digests and signatures for the most
// part, which do not shrink.
const packFrom = 4 << 10

// pack makes a payload of a record.
func (s *segments) pack(r *record) []byte {
	plain := r.encode()
	if len(plain) < packFrom {
		return append([]byte{payloadPlain}, plain...)
	}
	return s.zip.EncodeAll(plain, append(make([]byte, 0, len(plain)/2+64), payloadZstd))
}

// unpack reads a payload.
func (s *segments) unpack(payload []byte) (*record, error) {
	if len(payload) == 0 {
		return nil, errRecord
	}
	plain := payload[1:]
	switch payload[0] {
	case payloadPlain:
	case payloadZstd:
		var err error
		if plain, err = s.unzip.DecodeAll(plain, nil); err != nil {
			return nil, fmt.Errorf("%w: %w", errRecord, err)
		}
	default:
		return nil, errRecord
	}
	return decodeRecord(plain)
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
	if n, err := f.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return h, err
	} else if n < segmentHead || !bytes.Equal(head[:], appendSegmentHead(nil, first)) {
		if !last || first != h || uint64(h) < acknowledged {
			return h, bad(0, "the file does not begin as it must")
		}
		found, err := laterFrame(f, 0, size, h)
		if err != nil {
			return h, err
		}
		if found {
			return h, bad(0, "the file does not begin as it must")
		}
		if !repair {
			return h, bad(0, "the file is incomplete, as after a crash; start the node once to repair it")
		}
		notice(fmt.Sprintf("%s: removed the incomplete file of block %d, which was never acknowledged", name, h))
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
			found, err := laterFrame(f, offset, size, h)
			if err != nil {
				return h, err
			}
			if found {
				return h, bad(offset, reason+", and blocks follow")
			}
			if !repair {
				return h, bad(offset, "the frame is incomplete, as after a crash; start the node once to repair it")
			}
			notice(fmt.Sprintf("%s: cut off the incomplete frame of block %d at byte %d (%d bytes), which was never acknowledged: %s", name, h, offset, size-offset, reason))
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

// laterFrame reports whether there is a whole frame of a block above h behind the damage at offset. Then the
// damage is no torn write: a frame is only begun when the one before is durable.
func laterFrame(f io.ReaderAt, offset, size int64, h ledger.Height) (bool, error) {
	rest := make([]byte, size-offset)
	if _, err := f.ReadAt(rest, offset); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	for at := 0; ; at++ {
		i := bytes.Index(rest[at:], []byte(frameMagic))
		if i < 0 {
			return false, nil
		}
		at += i
		fr, ok := parseFrameHead(rest[at:])
		if !ok || fr.height <= h || fr.length > len(rest)-at-frameHead {
			continue
		}
		if crc32.Checksum(rest[at+frameHead:at+frameHead+fr.length], castagnoli) == fr.crc {
			return true, nil
		}
	}
}

// resume opens the last segment for appending. It is called once, after walk. It syncs what it finds: the last
// frame may have been written by a process that died before it could.
func (s *segments) resume() error {
	if len(s.first) == 0 {
		return nil
	}
	name := s.path(s.first[len(s.first)-1])
	f, err := s.fs.Open(name, false)
	if err != nil {
		return err
	}
	s.tail = f
	if s.tailSize, err = f.Size(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return s.fs.SyncDir(s.dir)
}

func (s *segments) close() error {
	s.unzip.Close()
	err := s.zip.Close()
	if s.tail != nil {
		err = errors.Join(err, s.tail.Close())
	}
	return err
}
