package wasmvm

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// assembler makes modules for tests. Function indexes count imports first, so all imports come before functions.
type assembler struct {
	types   []string // signatures such as "ii:i"
	imports [][3]string
	funcs   []assembled
	globals []byte // types of mutable globals, all 0
	memory  []uint32
	table   []uint32
	data    map[uint32]string
	passive []string // data segments, with the first numbers
	schema  []byte
	long    bool // writes numbers in their longest form
}

type assembled struct {
	export, signature, locals string
	code                      []byte
}

func newAssembler() *assembler {
	a := &assembler{memory: []uint32{1}}
	return a
}

func (a *assembler) typeOf(signature string) uint32 {
	for i, t := range a.types {
		if t == signature {
			return uint32(i)
		}
	}
	a.types = append(a.types, signature)
	return uint32(len(a.types) - 1)
}

// use imports a host function and returns its index.
func (a *assembler) use(name string) uint32 {
	for _, f := range functions {
		if f.name == name {
			a.imports = append(a.imports, [3]string{f.module, name, letters(f.params) + ":" + letters(f.results)})
			return uint32(len(a.imports) - 1)
		}
	}
	panic("no host function " + name)
}

func letters(types []byte) string {
	return strings.NewReplacer("\x7f", "i", "\x7e", "l", "\x7d", "f", "\x7c", "d").Replace(string(types))
}

func valueTypes(letters string) []byte {
	return []byte(strings.NewReplacer("i", "\x7f", "l", "\x7e", "f", "\x7d", "d", "\x7c").Replace(letters))
}

// fn adds a function with a body in words: names of instructions, numbers as immediates of the instruction before. Locals
// are letters of types.
func (a *assembler) fn(export, signature, locals, body string) *assembler {
	a.funcs = append(a.funcs, assembled{export, signature, locals, append(a.code(body), opEnd)})
	return a
}

// appendU32 appends an unsigned number.
func (a *assembler) appendU32(b []byte, v uint32) []byte {
	if !a.long {
		return appendU32(b, v)
	}
	for range 4 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendSigned appends a signed number of so many bits.
func (a *assembler) appendSigned(b []byte, v int64, bits int) []byte {
	if !a.long {
		return appendSigned(b, v)
	}
	for range (bits+6)/7 - 1 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v&0x7f))
}

var mnemonics = func() map[string]int {
	m := map[string]int{}
	for i, o := range operations {
		if _, ok := m[o.name]; !ok && o.name != "" {
			m[o.name] = i
		}
	}
	m["select_t"] = opSelectT
	return m
}()

func (a *assembler) code(body string) []byte {
	var b []byte
	words := strings.Fields(body)
	for i := 0; i < len(words); i++ {
		op, ok := mnemonics[words[i]]
		if !ok {
			panic("no instruction " + words[i])
		}
		if op >= prefixed {
			b = a.appendU32(append(b, prefix), uint32(op-prefixed))
		} else {
			b = append(b, byte(op))
		}
		next := func() int64 {
			i++
			n, err := strconv.ParseInt(words[i], 0, 64)
			if err != nil {
				panic(fmt.Sprintf("%s: %v", words[i-1], err))
			}
			return n
		}
		switch operations[op].imm { //nolint:exhaustive // what the tests use
		case immBlock:
			i++
			switch {
			case words[i] == "_":
				b = append(b, 0x40)
			case len(words[i]) == 1:
				b = append(b, valueTypes(words[i])...)
			default:
				b = a.appendSigned(b, int64(a.typeOf(words[i])), 33)
			}
		case immLabel, immFunc, immLocal, immGlobal:
			b = a.appendU32(b, uint32(next()))
		case immLabels:
			n := next()
			b = a.appendU32(b, uint32(n))
			for range n + 1 {
				b = a.appendU32(b, uint32(next()))
			}
		case immIndirect:
			i++
			b = a.appendU32(a.appendU32(b, a.typeOf(words[i])), 0)
		case immMemArg:
			b = a.appendU32(a.appendU32(b, 0), uint32(next()))
		case immZero:
			b = append(b, 0)
		case immCopy:
			b = append(b, 0, 0)
		case immI32:
			b = a.appendSigned(b, next(), 32)
		case immI64:
			b = a.appendSigned(b, next(), 64)
		case immTypes: // one
			i++
			b = append(a.appendU32(b, 1), valueTypes(words[i])...)
		case immF32, immF64: // the bits
			i++
			bits, err := strconv.ParseUint(words[i], 0, 64)
			if err != nil {
				panic(err)
			}
			if operations[op].imm == immF32 {
				b = binary.LittleEndian.AppendUint32(b, uint32(bits))
			} else {
				b = binary.LittleEndian.AppendUint64(b, bits)
			}
		case immInit:
			b = append(a.appendU32(b, uint32(next())), 0)
		}
	}
	return b
}

// build returns the module, with memory and marker.
func (a *assembler) build() []byte {
	a.fn(marker, ":", "", "")
	for _, i := range a.imports {
		a.typeOf(i[2])
	}
	for _, f := range a.funcs {
		a.typeOf(f.signature)
	}
	var types []byte
	for _, t := range a.types {
		in, out, _ := strings.Cut(t, ":")
		types = a.appendU32(append(types, 0x60), uint32(len(in)))
		types = append(types, valueTypes(in)...)
		types = append(a.appendU32(types, uint32(len(out))), valueTypes(out)...)
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, count int, content []byte) {
		if count == 0 {
			return
		}
		content = append(a.appendU32(nil, uint32(count)), content...)
		out = append(a.appendU32(append(out, id), uint32(len(content))), content...)
	}
	name := func(b []byte, s string) []byte { return append(a.appendU32(b, uint32(len(s))), s...) }
	section(sectionType, len(a.types), types)
	var imports, funcs, exports, codes, globals, data []byte
	for _, i := range a.imports {
		imports = append(name(name(imports, i[0]), i[1]), kindFunc)
		imports = a.appendU32(imports, a.typeOf(i[2]))
	}
	section(sectionImport, len(a.imports), imports)
	exported := 1
	exports = a.appendU32(append(name(exports, memoryExport), kindMemory), 0)
	for n, f := range a.funcs {
		funcs = a.appendU32(funcs, a.typeOf(f.signature))
		if f.export != "" {
			exported++
			exports = a.appendU32(append(name(exports, f.export), kindFunc), uint32(len(a.imports)+n))
		}
		body := a.appendU32(nil, uint32(len(f.locals)))
		for _, t := range valueTypes(f.locals) {
			body = append(a.appendU32(body, 1), t)
		}
		body = append(body, f.code...)
		codes = append(a.appendU32(codes, uint32(len(body))), body...)
	}
	section(sectionFunction, len(a.funcs), funcs)
	if len(a.table) > 0 {
		section(sectionTable, 1, a.appendU32([]byte{typeFunc, 0}, uint32(len(a.table))))
	}
	limits := a.appendU32([]byte{0}, a.memory[0])
	if len(a.memory) > 1 {
		limits = a.appendU32(a.appendU32([]byte{1}, a.memory[0]), a.memory[1])
	}
	section(sectionMemory, 1, limits)
	for _, t := range valueTypes(string(a.globals)) {
		op := map[byte][]byte{typeI32: a.appendSigned([]byte{opI32Const}, 0, 32), typeI64: a.appendSigned([]byte{opI64Const}, 0, 64), typeF32: {opF32Const, 0, 0, 0, 0}, typeF64: {opF64Const, 0, 0, 0, 0, 0, 0, 0, 0}}[t]
		globals = append(append(append(globals, t, 1), op...), opEnd)
	}
	section(sectionGlobal, len(a.globals), globals)
	section(sectionExport, exported, exports)
	if len(a.table) > 0 {
		elements := a.appendU32(append(a.appendSigned(append(a.appendU32(nil, 0), opI32Const), 0, 32), opEnd), uint32(len(a.table)))
		for _, f := range a.table {
			elements = a.appendU32(elements, f)
		}
		section(sectionElement, 1, elements)
	}
	if len(a.passive) > 0 {
		section(sectionDataCount, len(a.passive)+len(a.data), nil)
	}
	section(sectionCode, len(a.funcs), codes)
	for _, s := range a.passive {
		data = name(a.appendU32(data, 1), s)
	}
	for at := range uint32(65_536) { // in order
		if s, ok := a.data[at]; ok {
			data = append(a.appendSigned(append(a.appendU32(data, 0), opI32Const), int64(at), 32), opEnd)
			data = name(data, s)
		}
	}
	section(sectionData, len(a.passive)+len(a.data), data)
	if a.schema != nil {
		content := append(name(nil, schemaSection), a.schema...)
		out = append(a.appendU32(append(out, sectionCustom), uint32(len(content))), content...)
	}
	return out
}

// method is a module with one method named run.
func method(locals, body string) []byte { return newAssembler().fn("run", ":i", locals, body).build() }

func TestAssembler(t *testing.T) {
	v := newVM(t, Interpreter)
	if _, err := v.Check(method("il", "i32.const 5 local.tee 0 drop i32.const 0")); err != nil {
		t.Fatal(err)
	}
}
