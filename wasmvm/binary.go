package wasmvm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Numbers of the sections of a module.
const (
	sectionCustom = iota
	sectionType
	sectionImport
	sectionFunction
	sectionTable
	sectionMemory
	sectionGlobal
	sectionExport
	sectionStart
	sectionElement
	sectionCode
	sectionData
	sectionDataCount
)

// Kinds of exports and imports.
const (
	kindFunc byte = iota
	kindTable
	kindMemory
	kindGlobal
)

// module is a decoded WebAssembly binary. Slices alias the bytes it was decoded from.
type module struct {
	types   []funcType
	imports []funcImport
	funcs   []uint32 // type of each function that the module defines
	table   []int32  // function in each entry, noFunction without; nil: no table
	memory  struct {
		declared, hasMax bool
		min, max         uint64
	}
	globals   []global
	exports   []export
	bodies    []body
	segments  []segment
	dataCount int                       // of its own section, or -1
	names     []byte                    // content of the name section after its name
	schema    []byte                    // content of the schema section, nil without
	starts    [sectionDataCount + 1]int // offsets of the sections' contents; of custom ones, that of the schema
}

// noFunction is an entry of the table that holds nothing.
const noFunction = -1

type funcType struct{ params, results []byte }

type funcImport struct {
	module, name string
	typ          uint32
	offset       int
}

type global struct {
	typ     byte
	mutable bool
	init    []byte // constant expression with its end, in its shortest form
}

type export struct {
	name  string
	kind  byte
	index uint32

	offset int
}

// segment is a data segment.
type segment struct {
	offset  int
	passive bool
	address uint32 // of an active one
	data    []byte
}

type body struct {
	offset int    // of code in the module, for error messages
	types  []byte // of locals, without parameters
	code   []byte // instructions with the last end
}

// typeOf returns the type of a function by its index, imports first.
func (m *module) typeOf(index uint32) *funcType {
	if int(index) < len(m.imports) {
		return &m.types[m.imports[index].typ]
	}
	return &m.types[m.funcs[int(index)-len(m.imports)]]
}

func (m *module) functions() int { return len(m.imports) + len(m.funcs) }

// reader reads a part of a module. The first error stays, and everything read after it is zero.
type reader struct {
	buf []byte
	pos int
	off int // of buf in the module
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &ModuleError{Offset: r.off + r.pos, Reason: fmt.Sprintf(format, args...), function: -1}
		r.pos = len(r.buf)
	}
}

// exceed refuses a number above a limit.
func (r *reader) exceed(what string, value, limit uint64) bool {
	if value <= limit {
		return false
	}
	if r.err == nil {
		r.err = &ModuleError{Offset: r.off + r.pos, Reason: what, Value: value, Limit: limit, function: -1}
		r.pos = len(r.buf)
	}
	return true
}

func (r *reader) left() int { return len(r.buf) - r.pos }

func (r *reader) u8() byte {
	if r.pos >= len(r.buf) {
		r.fail("the module ends too early")
		return 0
	}
	b := r.buf[r.pos]
	r.pos++
	return b
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(r.left()) {
		r.fail("%d bytes announced, %d are left", n, r.left())
		return nil
	}
	b := r.buf[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// u32 reads an unsigned LEB128 of at most 5 bytes.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.u8()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.fail("a number does not fit 32 bits")
	return 0
}

// signed reads a signed LEB128 of at most bits bits.
func (r *reader) signed(bits int) int64 {
	var v int64
	shift := 0
	for {
		b := r.u8()
		if r.err != nil {
			return 0
		}
		v |= int64(b&0x7f) << shift
		shift += 7
		if b < 0x80 {
			if left := bits - (shift - 7); left < 7 { // bits of the last byte beyond the number repeat its sign
				high := int8(b<<1) >> left // sign-extended 7-bit group without the number's own bits but the sign
				if high != 0 && high != -1 {
					break
				}
			}
			if shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
		if shift >= (bits+6)/7*7 {
			break
		}
	}
	r.fail("a number does not fit %d bits", bits)
	return 0
}

// name reads a name of at most limit bytes, which what calls it.
func (r *reader) name(what string, limit uint64) string {
	n := uint64(r.u32())
	if r.exceed(what, n, limit) {
		return ""
	}
	b := r.bytes(n)
	if !utf8.Valid(b) {
		r.fail("a name is not UTF-8")
	}
	return string(b)
}

// count reads how many things follow. Each takes at least size bytes, so no count makes a decoder allocate more
// than the module's own size allows.
func (r *reader) count(what string, size int, limit uint64) int {
	n := r.u32()
	if r.exceed(what, uint64(n), limit) {
		return 0
	}
	if uint64(n)*uint64(size) > uint64(r.left()) {
		r.fail("%d %s announced, more than %d bytes hold", n, what, r.left())
		return 0
	}
	return int(n)
}

func (r *reader) valueType() byte {
	t := r.u8()
	switch t {
	case typeI32, typeI64, typeF32, typeF64:
		return t
	case 0x7b:
		r.fail("vectors (v128) are not part of the ABI")
	case 0x70, 0x6f:
		r.fail("reference values are not part of the ABI")
	default:
		r.fail("no value type 0x%02x", t)
	}
	return typeI32
}

// decodeModule reads a module's structure and checks the limits on it, but not its functions. With an error it returns what
// it has read, for the names of functions.
func decodeModule(code []byte, pages uint32) (*module, error) {
	r := &reader{buf: code}
	if uint64(len(code)) > MaxModuleStd {
		r.exceed("bytes of module", uint64(len(code)), MaxModuleStd)
		return nil, r.err
	}
	if string(r.bytes(8)) != "\x00asm\x01\x00\x00\x00" {
		return nil, &ModuleError{Reason: "not a WebAssembly module of version 1: build the contract for wasm32", function: -1}
	}
	m := &module{dataCount: -1}
	// The order that the format prescribes; the data count stands before the code.
	order := [...]int{
		sectionType: 1, sectionImport: 2, sectionFunction: 3, sectionTable: 4, sectionMemory: 5, sectionGlobal: 6,
		sectionExport: 7, sectionStart: 8, sectionElement: 9, sectionDataCount: 10, sectionCode: 11, sectionData: 12,
	}
	last := 0
	for r.left() > 0 && r.err == nil {
		id := r.u8()
		size := r.u32()
		start := r.pos
		content := r.bytes(uint64(size))
		if r.err != nil {
			break
		}
		s := &reader{buf: content, off: start}
		if id == sectionCustom {
			m.custom(s)
			if s.err != nil {
				return m, s.err
			}
			continue
		}
		if int(id) >= len(order) {
			r.fail("no section has the number %d", id)
			break
		}
		if order[id] <= last {
			r.fail("section %d is repeated or out of order", id)
			break
		}
		last = order[id]
		m.starts[id] = start
		m.section(s, int(id), pages)
		if s.err == nil && s.left() > 0 {
			s.fail("%d bytes are left over in section %d", s.left(), id)
		}
		if s.err != nil {
			m.findNames(r)
			return m, s.err
		}
	}
	if r.err == nil && len(m.bodies) != len(m.funcs) {
		r.fail("%d functions are declared and %d have code", len(m.funcs), len(m.bodies))
	}
	if r.err == nil && m.dataCount >= 0 && m.dataCount != len(m.segments) {
		r.fail("%d data segments are announced and %d given", m.dataCount, len(m.segments))
	}
	return m, r.err
}

// findNames reads on to the name section, which tells an author where a fault is that was found before.
func (m *module) findNames(r *reader) {
	for r.left() > 0 && m.names == nil {
		id := r.u8()
		s := &reader{buf: r.bytes(uint64(r.u32()))}
		if id == sectionCustom {
			m.custom(s)
		}
	}
}

func (m *module) custom(s *reader) {
	switch s.name("bytes of a section's name", MaxModuleStd) {
	case "name":
		if m.names == nil { // what follows the first is ignored, as whatever is malformed in it
			m.names = s.buf[s.pos:]
		}
	case schemaSection:
		if m.schema != nil {
			s.fail("two sections %s", schemaSection)
			return
		}
		m.schema, m.starts[sectionCustom] = s.buf[s.pos:], s.off+s.pos
	}
}

func (m *module) section(s *reader, id int, pages uint32) {
	switch id {
	case sectionType:
		n := s.count("types", 3, MaxTypes)
		m.types = make([]funcType, 0, n)
		for range n {
			if s.u8() != 0x60 {
				s.fail("not a function type")
			}
			m.types = append(m.types, funcType{params: s.valueTypes("parameters", MaxParams), results: s.valueTypes("results", MaxResults)})
		}
	case sectionImport:
		n := s.count("imports", 4, MaxImports)
		for range n {
			i := funcImport{offset: s.off + s.pos, module: s.name("bytes of an import's name", MaxName), name: s.name("bytes of an import's name", MaxName)}
			if kind := s.u8(); s.err == nil && kind != kindFunc {
				s.fail("import %s.%s is not a function: memory, tables and globals cannot be imported", i.module, i.name)
			}
			i.typ = s.typeIndex(m)
			if s.err != nil {
				return
			}
			m.imports = append(m.imports, i)
		}
	case sectionFunction:
		n := s.count("functions", 1, MaxFunctions)
		m.funcs = make([]uint32, 0, n)
		for range n {
			m.funcs = append(m.funcs, s.typeIndex(m))
		}
	case sectionTable:
		if s.count("tables", 3, 1) == 1 {
			if s.u8() != typeFunc {
				s.fail("the table does not hold functions")
			}
			flag := s.u8()
			size := s.u32()
			switch flag {
			case 0:
			case 1:
				if s.u32() < size {
					s.fail("the table is larger than its own maximum")
				}
			default:
				s.fail("unknown table flags %d", flag)
			}
			if !s.exceed("table entries", uint64(size), MaxTable) {
				m.table = slices.Repeat([]int32{noFunction}, int(size))
			}
		}
	case sectionMemory:
		if s.count("memories", 2, 1) == 1 {
			flag := s.u8()
			m.memory.declared, m.memory.hasMax = true, flag == 1
			m.memory.min = uint64(s.u32())
			m.memory.max = uint64(pages)
			switch flag {
			case 0:
			case 1:
				m.memory.max = uint64(s.u32())
				if m.memory.max > 65_536 || m.memory.max < m.memory.min {
					s.fail("the memory's maximum of %d pages is impossible", m.memory.max)
				}
				m.memory.max = min(m.memory.max, uint64(pages))
			default:
				s.fail("unknown memory flags %d: shared and 64-bit memories are not part of the ABI", flag)
			}
			s.exceed("initial pages of memory", m.memory.min, min(MaxInitialPages, uint64(pages)))
		}
	case sectionGlobal:
		n := s.count("globals", 4, MaxGlobals)
		for range n {
			g := global{typ: s.valueType()}
			switch s.u8() {
			case 0:
			case 1:
				g.mutable = true
			default:
				s.fail("a global is neither mutable nor constant")
			}
			g.init = s.constant(g.typ)
			m.globals = append(m.globals, g)
		}
	case sectionExport:
		n := s.count("exports", 3, MaxExports)
		seen := make(map[string]bool, n)
		for range n {
			e := export{offset: s.off + s.pos, name: s.name("bytes of an export's name", MaxName), kind: s.u8(), index: s.u32()}
			if s.err != nil {
				return
			}
			if seen[e.name] {
				s.fail("two exports are named %q", e.name)
			}
			seen[e.name] = true
			switch {
			case e.kind == kindFunc && int(e.index) < m.functions(),
				e.kind == kindTable && e.index == 0 && m.table != nil,
				e.kind == kindMemory && e.index == 0 && m.memory.declared,
				e.kind == kindGlobal && int(e.index) < len(m.globals):
			default:
				s.fail("export %q refers to nothing", e.name)
			}
			if e.name == gasExport || strings.HasPrefix(e.name, reservedExport) {
				s.fail("the name of export %q is reserved", e.name)
			}
			m.exports = append(m.exports, e)
		}
	case sectionStart:
		s.fail("a start function is not allowed: export it as _initialize")
	case sectionElement:
		m.elementSection(s)
	case sectionDataCount:
		m.dataCount = int(s.u32())
	case sectionCode:
		n := s.count("functions with code", 2, MaxFunctions)
		if n != len(m.funcs) {
			s.fail("%d functions are declared and %d have code", len(m.funcs), n)
			return
		}
		m.bodies = make([]body, 0, n)
		for range n {
			m.body(s)
			if s.err != nil {
				return
			}
		}
	case sectionData:
		n := s.count("data segments", 2, MaxSegmentsStd)
		m.segments = make([]segment, 0, n)
		for range n {
			at := s.off + s.pos
			flag := s.u32()
			if flag > 2 {
				s.fail("unknown flags %d of a data segment", flag)
			}
			if flag == 2 && s.u32() != 0 {
				s.fail("a data segment for a second memory")
			}
			g := segment{offset: at, passive: flag == 1}
			if !g.passive {
				g.address = s.address()
				if !m.memory.declared {
					s.fail("a data segment without a memory")
				}
			}
			size := uint64(s.u32())
			if end := uint64(g.address) + size; !g.passive && end > m.memory.min<<16 {
				s.fail("a data segment goes to byte %d of a memory of %d pages", end, m.memory.min)
			}
			g.data = s.bytes(size)
			m.segments = append(m.segments, g)
			if s.err != nil {
				return
			}
		}
	}
}

// elementSection fills the table. Every segment stays within it, so it is known before the module runs.
func (m *module) elementSection(s *reader) {
	total := uint64(0)
	for range s.count("element segments", 2, MaxTable) {
		flag := s.u32()
		if flag > 7 {
			s.fail("unknown flags %d of an element segment", flag)
			return
		}
		active, declared := flag&1 == 0, flag&3 == 3
		if !active && !declared {
			s.fail("passive element segments are of no use without table.init")
			return
		}
		start := uint64(0)
		if active {
			if m.table == nil {
				s.fail("an element segment without a table")
			}
			if flag&2 != 0 && s.u32() != 0 {
				s.fail("an element segment for a second table")
			}
			start = uint64(s.address())
		}
		if flag&3 != 0 { // all but the short active form name their element kind or type
			if kind := s.u8(); (flag&4 == 0 && kind != 0) || (flag&4 != 0 && kind != typeFunc) {
				s.fail("an element segment does not hold functions")
			}
		}
		n := s.count("elements", 1, MaxTable)
		if total += uint64(n); s.exceed("elements", total, 2*MaxTable) {
			return
		}
		if active && start+uint64(n) > uint64(len(m.table)) {
			s.fail("an element segment goes to entry %d of a table of %d", start+uint64(n), len(m.table))
		}
		for k := range n {
			function := int32(noFunction)
			op := byte(opRefFunc)
			if flag&4 != 0 {
				op = s.u8()
			}
			switch op {
			case opRefFunc:
				index := s.u32()
				if int(index) >= m.functions() {
					s.fail("an element refers to no function")
				}
				function = int32(index)
			case opRefNull:
				if s.u8() != typeFunc {
					s.fail("an element is no function")
				}
			default:
				s.fail("an element is no constant")
			}
			if flag&4 != 0 && s.u8() != opEnd {
				s.fail("an element is no constant")
			}
			if s.err != nil {
				return
			}
			if active {
				m.table[int(start)+k] = function
			}
		}
	}
}

func (m *module) body(s *reader) {
	size := uint64(s.u32())
	if s.exceedIn(len(m.bodies), "bytes of a function", size, MaxBody) {
		return
	}
	start := s.pos
	b := &reader{buf: s.bytes(size), off: s.off + start}
	if s.err != nil {
		return
	}
	var f body
	total := uint64(len(m.types[m.funcs[len(m.bodies)]].params))
	for range b.count("groups of locals", 2, MaxBody) {
		n := b.u32()
		total += uint64(n)
		if b.exceedIn(len(m.bodies), "parameters and locals of a function", total, MaxLocals) {
			break
		}
		t := b.valueType()
		for range n {
			f.types = append(f.types, t)
		}
	}
	if b.err != nil {
		s.err = b.err
		return
	}
	f.offset = b.off + b.pos
	f.code = b.buf[b.pos:]
	m.bodies = append(m.bodies, f)
}

// exceedIn is exceed within the n-th function that the module defines.
func (r *reader) exceedIn(n int, what string, value, limit uint64) bool {
	if !r.exceed(what, value, limit) {
		return false
	}
	if e, ok := r.err.(*ModuleError); ok && e.function < 0 { //nolint:errorlint // set by exceed, never wrapped
		e.function = n
	}
	return true
}

func (r *reader) valueTypes(what string, limit uint64) []byte {
	n := r.count(what, 1, limit)
	types := make([]byte, 0, n)
	for range n {
		types = append(types, r.valueType())
	}
	return types
}

func (r *reader) typeIndex(m *module) uint32 {
	i := r.u32()
	if int(i) >= len(m.types) {
		r.fail("no type has the number %d", i)
		return 0
	}
	return i
}

// constant reads a constant expression of type t, one constant and an end, and returns it in its shortest form. Globals
// cannot be imported, so there is nothing else that it could hold.
func (r *reader) constant(t byte) []byte {
	var got byte
	op := r.u8()
	expression := []byte{op}
	switch op {
	case opI32Const:
		expression = appendSigned(expression, r.signed(32))
		got = typeI32
	case opI64Const:
		expression = appendSigned(expression, r.signed(64))
		got = typeI64
	case opF32Const:
		expression = append(expression, r.bytes(4)...)
		got = typeF32
	case opF64Const:
		expression = append(expression, r.bytes(8)...)
		got = typeF64
	default:
		r.fail("an initial value is not a constant (0x%02x)", op)
	}
	if r.err == nil && got != t {
		r.fail("an initial value is %s, want %s", typeName(got), typeName(t))
	}
	if r.u8() != opEnd {
		r.fail("an initial value is not one constant")
	}
	return append(expression, opEnd)
}

// address reads a constant expression of an i32 and returns its value.
func (r *reader) address() uint32 {
	c := reader{buf: r.constant(typeI32), pos: 1}
	return uint32(c.signed(32))
}

// functionNames are the functions that the name section names, in order of their index. A section that is malformed ends where it
// is: names are for messages alone, so nothing depends on them. Longer names than MaxName are cut, and what cannot be
// printed on a line is left out.
func (m *module) functionNames(yield func(index int, name string) bool) {
	r := &reader{buf: m.names}
	for r.left() > 0 {
		id := r.u8()
		sub := &reader{buf: r.bytes(uint64(r.u32()))}
		if id != 1 {
			continue
		}
		next := 0
		for range sub.count("names", 2, MaxFunctions+MaxImports) {
			index, name := int(sub.u32()), sub.name("bytes of a name", MaxModuleStd)
			if sub.err != nil || index < next || index >= m.functions() {
				return
			}
			next = index + 1
			name = strings.Map(func(c rune) rune {
				if unicode.IsControl(c) {
					return -1
				}
				return c
			}, strings.ToValidUTF8(name[:min(len(name), MaxName)], ""))
			if name != "" && !yield(index, name) {
				return
			}
		}
		return
	}
}

// functionName returns the name of a function from the name section, an export or its number.
func (m *module) functionName(index int) string {
	for i, name := range m.functionNames {
		if i == index {
			return fmt.Sprintf("%d <%s>", index, name)
		}
	}
	for _, e := range m.exports {
		if e.kind == kindFunc && int(e.index) == index {
			return fmt.Sprintf("%d <%s>", index, e.name)
		}
	}
	return fmt.Sprint(index)
}

// blockType is the signature of a block.
type blockType struct{ params, results []byte }

// instruction is one decoded instruction.
type instruction struct {
	op         int // see the op constants
	start, end int // in the code
	a, b       uint64
	block      blockType
	typ        byte // of a select with a type
}

// decoder reads the instructions of a function.
type decoder struct {
	reader
	m      *module
	labels []uint32 // of the last br_table, the default last
}

// next reads an instruction into i.
func (d *decoder) next(i *instruction) {
	i.start = d.pos
	op := int(d.u8())
	if op == prefix {
		n := d.u32()
		if n >= opCount-prefixed {
			d.fail("no instruction 0xfc 0x%x", n)
			return
		}
		op = prefixed + int(n)
	}
	o := &operations[op]
	if o.name == "" {
		d.pos = i.start
		if o.forbidden != "" {
			d.fail("%s", o.forbidden)
		} else {
			d.fail("no instruction 0x%02x", op)
		}
		return
	}
	i.op = op
	switch o.imm {
	case immNone:
	case immBlock:
		i.block, i.a = d.blockType()
	case immLabel, immFunc, immLocal, immGlobal:
		i.a = uint64(d.u32())
	case immLabels:
		n := d.count("targets of a br_table", 1, MaxTargets)
		d.labels = d.labels[:0]
		for range n + 1 {
			d.labels = append(d.labels, d.u32())
		}
	case immIndirect:
		i.a = uint64(d.u32())
		if i.b = uint64(d.u32()); i.b != 0 {
			d.fail("call_indirect through a second table")
		}
	case immTypes:
		if d.count("types of a select", 1, 1) != 1 {
			d.fail("a select of no type")
		}
		i.typ = d.valueType()
	case immMemArg:
		i.a, i.b = uint64(d.u32()), uint64(d.u32())
		if i.a > uint64(o.width) {
			d.fail("%s: alignment of 2^%d bytes", o.name, i.a)
		}
	case immZero:
		if d.u8() != 0 {
			d.fail("%s: a second memory", o.name)
		}
	case immI32:
		i.a = uint64(d.signed(32))
	case immI64:
		i.a = uint64(d.signed(64))
	case immF32:
		if b := d.bytes(4); b != nil {
			i.a = uint64(binary.LittleEndian.Uint32(b))
		}
	case immF64:
		if b := d.bytes(8); b != nil {
			i.a = binary.LittleEndian.Uint64(b)
		}
	case immInit:
		i.a = uint64(d.u32())
		if d.u8() != 0 {
			d.fail("%s: a second memory", o.name)
		}
	case immCopy:
		if to, from := d.u8(), d.u8(); to|from != 0 {
			d.fail("%s: a second memory", o.name)
		}
	}
	i.end = d.pos
}

// blockType returns the signature of a block and the number that stands for it, as two's complement.
func (d *decoder) blockType() (blockType, uint64) {
	if d.left() == 0 {
		d.fail("the function ends too early")
		return blockType{}, 0
	}
	switch t := d.buf[d.pos]; t {
	case 0x40, typeI32, typeI64, typeF32, typeF64:
		return blockType{results: resultTypes[t]}, uint64(d.signed(7))
	}
	n := d.signed(33)
	if d.err != nil {
		return blockType{}, 0
	}
	if n < 0 || n >= int64(len(d.m.types)) {
		d.fail("no block type has the number %d", n)
		return blockType{}, 0
	}
	t := &d.m.types[n]
	if d.exceed("parameters of a block", uint64(len(t.params)), MaxResults) {
		return blockType{}, 0
	}
	return blockType(*t), uint64(n)
}

// resultTypes are the results of blocks with one result.
var resultTypes = [256][]byte{typeI32: {typeI32}, typeI64: {typeI64}, typeF32: {typeF32}, typeF64: {typeF64}}

// appendU32 appends an unsigned LEB128.
func appendU32(b []byte, v uint32) []byte { return binary.AppendUvarint(b, uint64(v)) }

// appendSigned appends a signed LEB128.
func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
