package contract

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/ledger"
)

// Ids of the sections that finish looks at (WebAssembly core specification §5.5).
const (
	sectionCustom    = 0
	sectionData      = 11
	sectionDataCount = 12
)

type section struct {
	id   byte
	body []byte
}

const wasmHeader = "\x00asm\x01\x00\x00\x00"

var errModule = errors.New("not a WebAssembly module")

func splitModule(code []byte) ([]section, error) {
	if len(code) < len(wasmHeader) || string(code[:len(wasmHeader)]) != wasmHeader {
		return nil, errModule
	}
	var sections []section
	for rest := code[len(wasmHeader):]; len(rest) > 0; {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil, fmt.Errorf("%w: it ends within a section", errModule)
		}
		sections = append(sections, section{id, rest[1+n : 1+n+int(size)]})
		rest = rest[1+n+int(size):]
	}
	return sections, nil
}

func joinModule(sections []section) []byte {
	code := []byte(wasmHeader)
	for _, s := range sections {
		code = binary.AppendUvarint(append(code, s.id), uint64(len(s.body)))
		code = append(code, s.body...)
	}
	return code
}

func customSection(name string, content []byte) section {
	body := binary.AppendUvarint(nil, uint64(len(name)))
	return section{sectionCustom, append(append(body, name...), content...)}
}

// finish drops the compiler's custom sections, merges the data segments and appends ours.
func finish(code, schema []byte, build ledger.Build) ([]byte, error) {
	sections, err := splitModule(code)
	if err != nil {
		return nil, err
	}
	sections = slices.DeleteFunc(sections, func(s section) bool { return s.id == sectionCustom })
	counted := slices.ContainsFunc(sections, func(s section) bool { return s.id == sectionDataCount })
	for i, s := range sections {
		if s.id == sectionData && !counted { // with a count, code may refer to segments by number
			sections[i].body = mergeData(s.body)
		}
	}
	encoded, err := ledger.Marshal(build)
	if err != nil {
		return nil, fmt.Errorf("encode the build section: %w", err)
	}
	return joinModule(append(sections, customSection(ledger.SchemaSection, schema), customSection(ledger.BuildSection, encoded))), nil
}

// dataGap is how many zero bytes mergeData writes to save a segment. Instantiating a segment costs about as
// much as copying a kilobyte.
const dataGap = 1 << 10

// mergeData merges active segments of a data section that follow one another in memory at a small distance.
// A section of any other form is returned as it is.
func mergeData(body []byte) []byte {
	type segment struct {
		offset uint64
		data   []byte
	}
	count, n := binary.Uvarint(body)
	if n <= 0 {
		return body
	}
	rest := body[n:]
	var merged []segment
	for range count {
		// flags 0 (active, memory 0), i32.const offset, end
		if len(rest) < 2 || rest[0] != 0 || rest[1] != 0x41 {
			return body
		}
		offset, n := signedLEB32(rest[2:])
		if n == 0 || offset < 0 || len(rest) < 3+n || rest[2+n] != 0x0b {
			return body
		}
		size, m := binary.Uvarint(rest[3+n:])
		if m <= 0 || size > uint64(len(rest)-3-n-m) {
			return body
		}
		data := rest[3+n+m:][:size]
		rest = rest[3+n+m+int(size):]
		start := uint64(offset)
		if len(merged) > 0 {
			last := &merged[len(merged)-1]
			end := last.offset + uint64(len(last.data))
			if start < end {
				return body // out of order: a later segment may overwrite an earlier one
			}
			if start-end <= dataGap {
				last.data = append(append(last.data, make([]byte, start-end)...), data...)
				continue
			}
		}
		merged = append(merged, segment{start, slices.Clone(data)})
	}
	if len(rest) > 0 {
		return body
	}
	out := binary.AppendUvarint(nil, uint64(len(merged)))
	for _, s := range merged {
		out = append(out, 0, 0x41)
		out = appendSignedLEB(out, int64(s.offset))
		out = append(out, 0x0b)
		out = binary.AppendUvarint(out, uint64(len(s.data)))
		out = append(out, s.data...)
	}
	return out
}

// signedLEB32 reads a signed LEB128 number of 32 bits and its length, which is 0 when there is none.
func signedLEB32(data []byte) (value int64, n int) {
	for i, b := range data[:min(len(data), 5)] {
		value |= int64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b&0x40 != 0 {
				value |= -1 << (7 * (i + 1))
			}
			return value, i + 1
		}
	}
	return 0, 0
}

func appendSignedLEB(out []byte, v int64) []byte {
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}
