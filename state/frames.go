package state

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"slices"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// framed is where a frame is, or was.
type framed struct {
	first  ledger.Height // names the segment
	height ledger.Height
	offset int64
	length int64  // of the frame, with its head; if that is lost, of the bytes up to the next frame that was found
	kind   byte   // of the payload
	lost   string // why there is no sound head here, which alone tells where a frame ends; empty: there is one
}

// readHead reads a frame's head. lost says why there is none.
func readHead(f io.ReaderAt, h ledger.Height, offset int64) (fr frame, kind byte, lost string, err error) {
	var head [frameHead + 1]byte
	n, lost, err := readAt(f, head[:], offset)
	if err != nil || lost != "" {
		return fr, 0, lost, err
	}
	fr, ok := parseFrameHead(head[:min(n, frameHead)])
	switch {
	case n < frameHead:
		lost = "the file ends within the frame's head"
	case !ok:
		lost = "the frame's head does not have its checksum"
	case fr.height != h:
		lost = fmt.Sprintf("the frame is that of block %d", fr.height)
	}
	return fr, head[frameHead], lost, nil
}

// walkFrames yields the frames of the blocks of a segment, from their heads alone, up to the end of the file and, if that is not 0, to and
// without block end. Where a head is lost, resync returns where the next frame is that proves itself, at or behind an offset and of a
// block at or above a height, and which block that is; the blocks between are yielded as lost, the first with all the bytes up to there. Without
// resync the first that is lost is the last to be yielded. With an end every block up to there is yielded once.
func walkFrames(f File, first, end ledger.Height, resync func(offset int64, h ledger.Height) (framed, bool, error)) iter.Seq2[framed, error] {
	return func(yield func(framed, error) bool) {
		size, err := f.Size()
		if err != nil {
			yield(framed{first: first, height: first}, err)
			return
		}
		for h, offset := first, int64(segmentHead); end == 0 && offset < size || h < end; {
			at := framed{first: first, height: h, offset: offset}
			fr, kind, lost, err := readHead(f, h, offset)
			if err != nil {
				yield(at, err)
				return
			}
			if lost == "" {
				at.kind, at.length = kind, int64(frameHead+fr.length)
				if !yield(at, nil) {
					return
				}
				h, offset = h+1, offset+at.length
				continue
			}
			at.lost, at.length = lost, max(size-offset, 0)
			if resync == nil {
				yield(at, nil)
				return
			}
			next, found, err := resync(offset, h)
			if err != nil {
				yield(at, err)
				return
			}
			if !found {
				next = framed{height: end, offset: max(size, offset)}
			}
			at.length = next.offset - offset
			for ; h < next.height; h++ {
				at.height = h
				if !yield(at, nil) {
					return
				}
				at.offset, at.length = next.offset, 0
			}
			if next.first = first; !found || !yield(next, nil) {
				return
			}
			h, offset = next.height+1, next.offset+next.length
		}
	}
}

// searchCost bounds what a search reads for checksums, in multiples of what it searches: a block may hold bytes that look like heads of
// long frames.
const searchCost = 8

// wholeFrames yields the frames from an offset on whose head and payload have their checksums. They need not be frames: a block may
// hold the bytes of some. Where the search costs too much it ends with one that is lost.
func wholeFrames(f io.ReaderAt, offset, size int64) iter.Seq2[framed, error] {
	return func(yield func(framed, error) bool) {
		budget := searchCost * (size - offset)
		window := make([]byte, min(max(size-offset, 0), 1<<20))
		for offset+int64(frameHead) <= size {
			part := window[:min(int64(len(window)), size-offset)]
			n, err := readPieces(f, part, offset)
			if err != nil {
				yield(framed{}, err)
				return
			}
			ends := n - frameHead + 1 // behind the last head that is whole in part
			if ends <= 0 {
				return
			}
			part = part[:n]
			for i := 0; ; i++ {
				next := bytes.Index(part[i:], []byte(frameMagic))
				if next < 0 || i+next >= ends {
					break
				}
				i += next
				fr, ok := parseFrameHead(part[i:])
				at := framed{height: fr.height, offset: offset + int64(i), length: int64(frameHead + fr.length)}
				if !ok || at.offset+at.length > size {
					continue
				}
				if budget -= at.length; budget < 0 {
					at.lost = "too much looks like frames"
					yield(at, nil)
					return
				}
				sum, whole, err := sumAt(f, at.offset+int64(frameHead), fr.length)
				if err != nil {
					yield(at, err)
					return
				}
				if whole && sum == fr.crc && !yield(at, nil) {
					return
				}
			}
			offset += int64(ends)
		}
	}
}

// sumAt returns the CRC-32C of so many bytes at an offset; whole is false if they are not there, or the disk cannot read them.
func sumAt(f io.ReaderAt, offset int64, length int) (sum uint32, whole bool, err error) {
	buffer := make([]byte, min(length, 1<<18))
	for length > 0 {
		part := buffer[:min(len(buffer), length)]
		n, lost, err := readAt(f, part, offset)
		if err != nil || lost != "" || n < len(part) {
			return 0, false, err
		}
		sum = crc32.Update(sum, castagnoli, part)
		offset, length = offset+int64(n), length-n
	}
	return sum, true, nil
}

// lead is what a search knows of a block: its hash, and that of the one before.
type lead struct{ hash, parent keys.Digest }

// frames yields the frames of a segment's blocks up to and without end, each once, with those that are lost. Behind one whose
// head is lost a frame proves itself by its block's hash: it is that of a row of the index, of the head, of one of copies, or the
// parent of a block that is proved, here, in copies or at the beginning of the next segment. Its checksum alone proves
// nothing, as whoever sends a transaction can have a frame written into a block.
func (s *Store) frames(f File, first, end ledger.Height, copies map[ledger.Height]*Copy) iter.Seq2[framed, error] {
	return walkFrames(f, first, end, func(offset int64, h ledger.Height) (at framed, found bool, err error) {
		size, err := f.Size()
		if err != nil {
			return at, false, err
		}
		type candidate struct {
			framed
			lead
		}
		var before []candidate
		for at, err := range wholeFrames(f, offset, size) {
			if err != nil {
				return at, false, err
			}
			if at.lost != "" || at.height < h || at.height >= end {
				continue
			}
			l, ok, err := s.lead(f, at)
			if err != nil {
				return at, false, err
			}
			if !ok {
				continue
			}
			proved, err := s.proved(at.height, end, l.hash, copies)
			if err != nil {
				return at, false, err
			}
			if !proved {
				before = append(before, candidate{at, l})
				continue
			}
			for _, b := range slices.Backward(before) { // which this one proves
				if b.height+1 == at.height && b.hash == l.parent {
					at, l = b.framed, b.lead
				}
			}
			return at, true, nil
		}
		return at, false, nil
	})
}

// lead reads what a frame says that its block is.
func (s *Store) lead(f File, at framed) (l lead, ok bool, err error) {
	payload, reason, err := readFrame(f, at.height, at.offset)
	if err != nil || reason != "" || uncompressed(payload) > maxCopy {
		return l, false, err
	}
	content, _, err := s.log.plain(payload)
	if err != nil {
		return l, false, nil // it is not what the store wrote
	}
	rest := decoder{rest: content}
	b, err := decodeBlock(rest.bytes())
	if err != nil || b.Header.Order.Height != at.height {
		return l, false, nil
	}
	return lead{b.Header.Hash(s.suite), b.Header.Parent}, true, nil
}

// proved reports whether a hash is that of a block of a segment that ends before block end.
func (s *Store) proved(h, end ledger.Height, hash keys.Digest, copies map[ledger.Height]*Copy) (bool, error) {
	if c := copies[h]; c != nil && c.block.Header.Hash(s.suite) == hash {
		return true, nil
	}
	if c := copies[h+1]; c != nil && c.block.Header.Parent == hash {
		return true, nil
	}
	if b, err := s.index.block(h); err == nil && b.hash == hash { // an index that cannot be read proves nothing
		return true, nil
	}
	if head := s.Head(); head != nil && head.Height() == h && head.Hash() == hash {
		return true, nil
	}
	if h+1 != end {
		return false, nil
	}
	f, err := s.log.fs.Open(s.log.path(end), false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	l, ok, err := s.lead(f, framed{height: end, offset: int64(segmentHead)})
	return ok && l.parent == hash, err
}

// end returns the height behind the last block of a segment.
func (s *Store) end(first ledger.Height) ledger.Height {
	s.log.mu.RLock()
	defer s.log.mu.RUnlock()
	for _, next := range s.log.first {
		if next > first {
			return next
		}
	}
	return ledger.Height(s.index.blocks())
}

// find returns where the frame of a block is, or should be; found is false if nothing tells.
func (s *Store) find(h ledger.Height) (offset int64, found bool, err error) {
	first, ok := s.log.locate(h)
	if !ok {
		return 0, false, nil
	}
	f, err := s.log.fs.Open(s.log.path(first), false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	for at, err := range s.frames(f, first, s.end(first), nil) {
		if err != nil {
			return 0, false, err
		}
		if at.height == h {
			return at.offset, at.lost == "" || at.length > 0, nil
		}
	}
	return 0, false, nil
}

// frames yields the frames of a segment, from their heads alone. An error, which ends the sequence, comes with where it is.
func (s *segments) frames(first ledger.Height) iter.Seq2[framed, error] {
	return func(yield func(framed, error) bool) {
		at := framed{first: first, height: first}
		f, err := s.fs.Open(s.path(first), false)
		if err != nil {
			yield(at, err)
			return
		}
		defer f.Close()
		var begin [segmentHead]byte
		_, lost, err := readAt(f, begin[:], 0)
		if err != nil {
			yield(at, err)
			return
		}
		if lost != "" || !bytes.Equal(begin[:], appendSegmentHead(nil, first)) {
			yield(at, &SegmentError{File: s.path(first), Height: first, Reason: "the file does not begin as it must"})
			return
		}
		for at, err := range walkFrames(f, first, 0, nil) {
			if err == nil && at.lost != "" {
				err = &SegmentError{File: s.path(first), Offset: at.offset, Height: at.height, Reason: at.lost}
			}
			if !yield(at, err) || err != nil {
				return
			}
		}
	}
}
