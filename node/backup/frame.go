package backup

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A frame is an item of a file that is read back: length (4) ‖ CRC-32C of the body (4) ‖ body. Numbers are big-endian.
const frameHead = 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendFrame appends a frame.
func AppendFrame(out, body []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
	return append(out, body...)
}

// FrameSize returns how many bytes the frame of a body of so many has.
func FrameSize(body int) int64 { return frameHead + int64(body) }

// ReadFrame returns the body of the frame at an offset, nil if there is none with its checksum, of at most so many bytes.
func ReadFrame(f io.ReaderAt, offset int64, most int) ([]byte, error) {
	var head [frameHead]byte
	if n, err := f.ReadAt(head[:], offset); n < frameHead {
		return nil, unlessEOF(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(most) {
		return nil, nil
	}
	body := make([]byte, size)
	if n, err := f.ReadAt(body, offset+frameHead); n < len(body) {
		return nil, unlessEOF(err)
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, nil
	}
	return body, nil
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
