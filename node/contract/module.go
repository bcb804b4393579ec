package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// Ids of the sections that finish looks at (WebAssembly core specification §5.5).
const (
	sectionCustom    = 0
	sectionImport    = 2
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

// appendSection returns a module with a custom section more.
func appendSection(code []byte, name string, content []byte) []byte {
	s := customSection(name, content)
	code = binary.AppendUvarint(append(slices.Clip(code), s.id), uint64(len(s.body)))
	return append(code, s.body...)
}

// customName returns the name and the content of a custom section.
func customName(body []byte) (name string, content []byte, err error) {
	size, n := binary.Uvarint(body)
	if n <= 0 || size > uint64(len(body)-n) {
		return "", nil, fmt.Errorf("%w: a custom section ends within its name", errModule)
	}
	return string(body[n : n+int(size)]), body[n+int(size):], nil
}

// finish makes the contract's module of what a compiler made: see the package's text.
func finish(code []byte, build ledger.Build) (*Built, error) {
	sections, err := splitModule(code)
	if err != nil {
		return nil, err
	}
	built := &Built{Build: build}
	var text []byte // declarations in the section of the interface, of which linkers may leave several
	for _, s := range sections {
		if s.id != sectionCustom {
			continue
		}
		name, content, err := customName(s.body)
		if err != nil {
			return nil, err
		}
		switch name {
		case interfaceSection:
			text = append(append(text, content...), '\n')
		case ledger.SchemaSection:
			built.Schema, err = ledger.DecodeSchema(content)
		case "name":
			built.Names = content
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case built.Schema != nil && text != nil:
		return nil, fmt.Errorf("%w: the module has both a section %s and a section %s", ErrSource, ledger.SchemaSection, interfaceSection)
	case text != nil:
		profile := "strict"
		if importsWASI(sections) {
			profile = "std"
		}
		if built.Schema, err = ParseInterface(text, profile); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSource, err)
		}
	case built.Schema == nil:
		return nil, fmt.Errorf("%w: it declares no contract: the module has no section %s", ErrSource, interfaceSection)
	}
	schema, err := built.Schema.Encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	encoded, err := ledger.Marshal(build)
	if err != nil {
		return nil, fmt.Errorf("encode the build section: %w", err)
	}
	sections = slices.DeleteFunc(sections, func(s section) bool { return s.id == sectionCustom })
	counted := slices.ContainsFunc(sections, func(s section) bool { return s.id == sectionDataCount })
	for i, s := range sections {
		if s.id == sectionData && !counted { // with a count, code may refer to segments by number
			sections[i].body = mergeData(s.body)
		}
	}
	built.Code = joinModule(append(sections, customSection(ledger.SchemaSection, schema), customSection(ledger.BuildSection, encoded)))
	built.Hash = sha256.Sum256(built.Code)
	return built, nil
}

// importsWASI reports whether a module imports WASI. A malformed import section imports nothing: the check finds it.
func importsWASI(sections []section) bool {
	for _, s := range sections {
		if s.id != sectionImport {
			continue
		}
		r := wasmReader{data: s.body}
		for n := r.uint(); n > 0 && !r.bad; n-- {
			module := r.name()
			r.name()
			r.importType()
			if !r.bad && strings.HasPrefix(module, "wasi_") {
				return true
			}
		}
	}
	return false
}

// WithNames returns a module with a name section (WebAssembly core specification, appendix 7.4.1), so that traces and
// refusals tell functions by name. It is another module than the one without: it has another hash, and is never
// deployed.
func WithNames(code, names []byte) []byte {
	if names == nil {
		return code
	}
	return appendSection(code, "name", names)
}

// ErrNames says that a file holds no names, or those of another module.
var ErrNames = errors.New("names of a module's functions")

// namesOf is the custom section of a names file that holds the SHA-256 of the module that they belong to.
const namesOf = "fondaco.names-of"

// encodeNames returns the content of a names file: a module of two custom sections, so that any tool for
// WebAssembly can show it.
func encodeNames(names []byte, module [32]byte) []byte {
	return joinModule([]section{customSection("name", names), customSection(namesOf, module[:])})
}

// ReadNames returns the content of the name section that Build wrote next to module file, for the module code. It
// is nil when there is no such file, and ErrNames when it belongs to another module.
func ReadNames(file string, code []byte) ([]byte, error) {
	data, err := os.ReadFile(file + NamesSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNames, err)
	}
	of, err := ledger.ModuleSection(data, namesOf)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNames, file+NamesSuffix, err)
	}
	if hash := sha256.Sum256(code); !bytes.Equal(of, hash[:]) {
		return nil, fmt.Errorf("%w: %s belongs to another build of %s: build it again", ErrNames, file+NamesSuffix, file)
	}
	return ledger.ModuleSection(data, "name")
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
