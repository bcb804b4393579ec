package wasmvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// RewriteVersion is the newest version of the rewriter, as ledger.Params.Rewrite names it. A version never
// changes what it makes of a module.
const RewriteVersion = 1

// Names of exports that the rewriter adds. Modules cannot use them.
const (
	gasExport      = "__gas"
	reservedExport = "__fondaco_"
	depthExport    = reservedExport + "depth"
	refusedExport  = reservedExport + "refused" // whether memory.grow was refused
	globalExport   = reservedExport + "g"       // and a number: every mutable global of the module
)

// rewritten is a module that is admitted, with the code that engines run.
type rewritten struct {
	code     []byte
	mutable  []string // exports of the module's own mutable globals
	weight   uint64
	module   *module
	hasStart bool // exports _initialize
}

// rewriter writes a module anew, each number in its shortest form and every part in the plainest, so that nothing reaches an
// engine's decoder as its author wrote it: engines differ in which forms they take. It appends and never renumbers, so that names
// in messages stay true:
//
//   - gas: a mutable global counts down. Each charge subtracts; those at function entries and loop headers also end the
//     call when it is below zero, so a function overshoots by no more than its own code;
//   - depth: functions that call others take the weight of their frame from a second global and give it back;
//   - memory.grow, copy, fill and init pay by their operand;
//   - results of float arithmetic that are NaNs become the canonical NaN, since amd64 and arm64 differ in its sign;
//   - errata of wazero's compilers are avoided.
//
// The errata, all of version 1.12.0, which is the one that go.mod has, what takes the place of the instruction, and the test
// that shows both:
//
//	R1  amd64, arm64  an and that a branch compares with zero by order     or with zero        TestErrataRemain
//	R2  arm64         i32.popcnt of a sign-extended load counts 64 bits    i64.popcnt          TestErrataRemain
//	R3  amd64         convert_i64_u overwrites other values, if there      by the signed       TestErrata for its
//	                  are more of them than registers                      conversion          results alone
//	R4  amd64         a select of floats returns what was in a register,   select of integers  TestErrataRemain
//	                  if the first of them has to be loaded
type rewriter struct {
	m       *module
	costs   *costs
	out     []byte
	types   []byte // appended types
	typeNew map[string]uint32
	gas     uint32 // index of the global
	depth   uint32
	refused uint32
}

// rewrite validates the functions of a module and returns it with gas and depth metering.
func rewrite(m *module, c *costs, strict bool) (*rewritten, error) {
	n := uint32(len(m.globals))
	w := &rewriter{m: m, costs: c, gas: n, depth: n + 1, refused: n + 2, typeNew: map[string]uint32{}}
	v := &validator{decoder: decoder{m: m}, costs: c, strict: strict}
	result := &rewritten{module: m}
	var code []byte
	paths := uint64(0)
	for f := range m.bodies {
		a, err := v.check(f)
		if err != nil {
			return nil, named(m, err)
		}
		if result.weight += a.weight; result.weight > MaxComplexity {
			return nil, named(m, &ModuleError{
				Offset: m.bodies[f].offset, function: f, Reason: "of locals × blocks × (1 + nested loops), summed over functions,",
				Value: result.weight, Limit: MaxComplexity,
			})
		}
		if paths += a.paths; paths > MaxPaths {
			return nil, named(m, &ModuleError{
				Offset: m.bodies[f].offset, function: f, Reason: "of 4 × blocks² + locals × Σ (branches to a label)², summed over functions,",
				Value: paths, Limit: MaxPaths,
			})
		}
		w.function(f, a)
		if size := len(code) + len(w.out); size > MaxRewritten {
			return nil, named(m, &ModuleError{
				Offset: m.bodies[f].offset, function: f, Reason: "bytes of code with its metering", Value: uint64(size), Limit: MaxRewritten,
			})
		}
		code = appendU32(code, uint32(len(w.out)))
		code = append(code, w.out...)
	}

	out := append(make([]byte, 0, len(code)+1<<16), "\x00asm\x01\x00\x00\x00"...)
	section := func(id int, count int, content []byte) {
		if count == 0 {
			return
		}
		head := appendU32(nil, uint32(count))
		out = appendU32(append(out, byte(id)), uint32(len(head)+len(content)))
		out = append(append(out, head...), content...)
	}
	section(sectionType, len(m.types)+len(w.typeNew), w.typeSection())
	section(sectionImport, len(m.imports), w.importSection())
	section(sectionFunction, len(m.funcs), appendAll(nil, m.funcs))
	if m.table != nil {
		section(sectionTable, 1, appendU32([]byte{typeFunc, 0}, uint32(len(m.table))))
	}
	if m.memory.declared {
		section(sectionMemory, 1, appendU32(appendU32([]byte{1}, uint32(m.memory.min)), uint32(m.memory.max)))
	}
	section(sectionGlobal, len(m.globals)+3, w.globalSection())
	exported, exports := w.exportSection(result)
	section(sectionExport, exported, exports)
	runs, elements := w.elementSection()
	section(sectionElement, runs, elements)
	if m.dataCount >= 0 {
		section(sectionDataCount, m.dataCount, nil)
	}
	section(sectionCode, len(m.bodies), code)
	section(sectionData, len(m.segments), w.dataSection())
	if names := w.nameSection(); names != nil {
		out = appendU32(append(out, sectionCustom), uint32(len(names)))
		out = append(out, names...)
	}
	result.code = out
	return result, nil
}

// named fills in the name of the function that err is about.
func named(m *module, err error) error {
	if e, ok := errors.AsType[*ModuleError](err); ok && e.function >= 0 && m != nil {
		e.Function = m.functionName(len(m.imports) + e.function)
	}
	return err
}

// appendAll appends numbers, each in its shortest form.
func appendAll(b []byte, numbers []uint32) []byte {
	for _, n := range numbers {
		b = appendU32(b, n)
	}
	return b
}

// appendVector appends bytes behind their number.
func appendVector[T string | []byte](b []byte, data T) []byte {
	return append(appendU32(b, uint32(len(data))), data...)
}

func (w *rewriter) typeSection() []byte {
	var b []byte
	for _, t := range w.m.types {
		b = appendVector(appendVector(append(b, 0x60), t.params), t.results)
	}
	return append(b, w.types...)
}

func (w *rewriter) importSection() []byte {
	var b []byte
	for _, i := range w.m.imports {
		b = append(appendVector(appendVector(b, i.module), i.name), kindFunc)
		b = appendU32(b, i.typ)
	}
	return b
}

// elementSection fills the table with one segment for each run of entries that hold functions.
func (w *rewriter) elementSection() (runs int, b []byte) {
	table := w.m.table
	for at := 0; at < len(table); at++ {
		end := at
		for end < len(table) && table[end] != noFunction {
			end++
		}
		if end == at {
			continue
		}
		runs++
		b = append(appendSigned(append(b, 0, opI32Const), int64(at)), opEnd)
		b = appendU32(b, uint32(end-at))
		for _, f := range table[at:end] {
			b = appendU32(b, uint32(f))
		}
		at = end
	}
	return runs, b
}

func (w *rewriter) dataSection() []byte {
	var b []byte
	for _, s := range w.m.segments {
		if s.passive {
			b = append(b, 1)
		} else {
			b = append(appendSigned(append(b, 0, opI32Const), int64(int32(s.address))), opEnd)
		}
		b = appendVector(b, s.data)
	}
	return b
}

// nameSection names functions for the stack traces of engines.
func (w *rewriter) nameSection() []byte {
	var b []byte
	n := uint32(0)
	for index, name := range w.m.functionNames {
		n++
		b = appendVector(appendU32(b, uint32(index)), name)
	}
	if n == 0 {
		return nil
	}
	b = append(appendU32(nil, n), b...)
	return append([]byte("\x04name\x01"), appendVector(nil, b)...)
}

func (w *rewriter) globalSection() []byte {
	var b []byte
	for _, g := range w.m.globals {
		b = append(b, g.typ, 0)
		if g.mutable {
			b[len(b)-1] = 1
		}
		b = append(b, g.init...)
	}
	b = append(b, typeI64, 1, opI64Const, 0, opEnd) // gas
	b = append(b, typeI32, 1, opI32Const, 0, opEnd) // depth
	return append(b, typeI32, 1, opI32Const, 0, opEnd)
}

// exportSection keeps what a contract needs: its memory, its functions and nothing that begins with two underscores.
func (w *rewriter) exportSection(result *rewritten) (n int, b []byte) {
	add := func(name string, kind byte, index uint32) {
		n++
		b = appendU32(append(appendVector(b, name), kind), index)
	}
	for _, e := range w.m.exports {
		if strings.HasPrefix(e.name, "__") || (e.kind != kindFunc && e.kind != kindMemory) {
			continue
		}
		add(e.name, e.kind, e.index)
		if e.name == initializer {
			result.hasStart = true
		}
	}
	add(gasExport, kindGlobal, w.gas)
	add(depthExport, kindGlobal, w.depth)
	add(refusedExport, kindGlobal, w.refused)
	for i, g := range w.m.globals {
		if g.mutable {
			name := fmt.Sprint(globalExport, i)
			result.mutable = append(result.mutable, name)
			add(name, kindGlobal, uint32(i))
		}
	}
	return n, b
}

// scratch are the locals that the rewriter appends to a function.
type scratch struct {
	gas  uint32 // i64, also for conversions
	size uint32 // i32
	f32  uint32
	f64  uint32
}

// function rewrites one function into w.out.
func (w *rewriter) function(f int, a *analysis) {
	b := &w.m.bodies[f]
	t := &w.m.types[w.m.funcs[f]]
	var s scratch
	types := slices.Clip(b.types)
	local := func(typ byte) uint32 {
		types = append(types, typ)
		return uint32(len(t.params) + len(types) - 1)
	}
	s.gas = local(typeI64)
	if a.calls || a.sized {
		s.size = local(typeI32)
	}
	if a.nan32 {
		s.f32 = local(typeF32)
	}
	if a.nan64 {
		s.f64 = local(typeF64)
	}
	groups := uint32(0)
	w.out = w.out[:0]
	for at := 0; at < len(types); groups++ {
		end := at + 1
		for end < len(types) && types[end] == types[at] {
			end++
		}
		w.out = append(appendU32(w.out, uint32(end-at)), types[at])
		at = end
	}
	w.out = slices.Insert(w.out, 0, appendU32(nil, groups)...)

	frame := int64(min(max(a.words, minFrame), MaxDepth+1))
	d := decoder{m: w.m, reader: reader{buf: b.code}}
	charges, selects := a.charges, a.selects
	depth := 0 // open blocks of the function itself
	var i instruction
	for d.left() > 0 {
		if len(charges) > 0 && charges[0].at == d.pos {
			w.charge(charges[0], s)
			charges = charges[1:]
		}
		if d.pos == 0 && a.calls {
			w.enter(frame, a.words, s, t.results)
		}
		d.next(&i)
		switch i.op {
		case opBlock, opLoop, opIf:
			depth++
		case opEnd:
			depth--
		case opSelect, opSelectT:
			i.typ, selects = selects[0], selects[1:]
		}
		switch {
		case i.op == opReturn && a.calls:
			w.out = appendU32(append(w.out, opBr), uint32(depth))
			continue
		case i.op == opEnd && depth < 0 && a.calls:
			w.out = append(w.out, opEnd)
			w.exit(frame)
			w.out = append(w.out, opEnd)
			continue
		}
		if (i.op == opI32And || i.op == opI64And) && harmless(d) {
			w.out = append(w.out, byte(i.op))
			continue
		}
		w.instruction(&i, d.labels, s)
	}
}

// harmless reports whether the value that the instruction before d leaves on the stack goes straight into an instruction
// that no branch can compare it through: then R1 need not hide it. It takes a copy of the decoder, and looks a few instructions ahead.
func harmless(d decoder) bool {
	d.labels = nil
	above := 0 // operands on top of the value
	var i, last instruction
	for range 16 {
		last = i
		if d.next(&i); d.err != nil {
			return false
		}
		o := &operations[i.op]
		switch {
		case i.op == opLocalGet || i.op == opGlobalGet:
			above++
		case i.op == opLocalTee && above > 0:
		case (i.op == opLocalSet || i.op == opGlobalSet || i.op == opDrop) && above > 0:
			above--
		case !o.fixed || i.op == opF32ConvertU || i.op == opF64ConvertU || o.imm == immZero || o.imm == immInit || o.imm == immCopy:
			return false // a branch, a copy, or what is rewritten with the operand in a local
		case len(o.params) <= above:
			above += len(o.results) - len(o.params)
		case o.orders():
			return false
		case o.shifts() && above == 1: // by 0 the compiler takes it for the value itself
			return (last.op == opI32Const || last.op == opI64Const) && last.a%32 != 0
		default:
			return true
		}
	}
	return false
}

// orders reports whether an instruction compares integers by order.
func (o *operation) orders() bool {
	_, name, _ := strings.Cut(o.name, ".")
	switch strings.TrimRight(name, "_su") {
	case "lt", "gt", "le", "ge":
		return true
	}
	return false
}

// shifts reports whether an instruction shifts or rotates.
func (o *operation) shifts() bool {
	_, name, _ := strings.Cut(o.name, ".")
	return strings.HasPrefix(name, "sh") || strings.HasPrefix(name, "rot")
}

// charge pays for the instructions that follow.
func (w *rewriter) charge(c charge, s scratch) {
	if c.cost == 0 {
		return
	}
	w.global(opGlobalGet, w.gas)
	w.out = appendSigned(append(w.out, opI64Const), int64(c.cost))
	w.out = append(w.out, opI64Sub)
	if !c.checked {
		w.global(opGlobalSet, w.gas)
		return
	}
	w.settle(s)
}

// settle stores the gas on top of the stack and ends the call if it is below zero.
func (w *rewriter) settle(s scratch) {
	w.local(opLocalTee, s.gas)
	w.global(opGlobalSet, w.gas)
	w.local(opLocalGet, s.gas)
	w.out = append(w.out, opI64Const, 0, opI64LtS, opIf, 0x40, opUnreachable, opEnd)
}

// enter takes the weight of a frame, pays for it if the stack is deep, and opens the block that stands for the
// function's body.
func (w *rewriter) enter(frame int64, words uint64, s scratch, results []byte) {
	w.global(opGlobalGet, w.depth)
	w.out = appendSigned(append(w.out, opI32Const), frame)
	w.out = append(w.out, opI32Sub)
	w.local(opLocalTee, s.size)
	w.global(opGlobalSet, w.depth)
	w.local(opLocalGet, s.size)
	w.out = appendSigned(append(w.out, opI32Const), MaxDepth-freeDepth)
	w.out = append(w.out, opI32LtS, opIf, 0x40)
	w.local(opLocalGet, s.size)
	w.out = append(w.out, opI32Const, 0, opI32LtS, opIf, 0x40, opUnreachable, opEnd)
	w.global(opGlobalGet, w.gas)
	w.out = appendSigned(append(w.out, opI64Const), int64(words)*deepWord)
	w.out = append(w.out, opI64Sub)
	w.settle(s)
	w.out = append(w.out, opEnd)
	w.out = append(w.out, opBlock)
	switch len(results) {
	case 0:
		w.out = append(w.out, 0x40)
	case 1:
		w.out = append(w.out, results[0])
	default:
		w.out = appendSigned(w.out, int64(w.typeOf(results)))
	}
}

func (w *rewriter) exit(frame int64) {
	w.global(opGlobalGet, w.depth)
	w.out = appendSigned(append(w.out, opI32Const), frame)
	w.out = append(w.out, opI32Add)
	w.global(opGlobalSet, w.depth)
}

// typeOf returns the number of the type () -> results, which it appends if need be.
func (w *rewriter) typeOf(results []byte) uint32 {
	if n, ok := w.typeNew[string(results)]; ok {
		return n
	}
	n := uint32(len(w.m.types) + len(w.typeNew))
	w.typeNew[string(results)] = n
	w.types = appendU32(append(w.types, 0x60, 0), uint32(len(results)))
	w.types = append(w.types, results...)
	return n
}

func (w *rewriter) global(op byte, index uint32) { w.out = appendU32(append(w.out, op), index) }
func (w *rewriter) local(op byte, index uint32)  { w.out = appendU32(append(w.out, op), index) }

// plain writes an instruction as it is. labels are those of a br_table.
func (w *rewriter) plain(i *instruction, labels []uint32) {
	if i.op < prefixed {
		w.out = append(w.out, byte(i.op))
	} else {
		w.out = appendU32(append(w.out, prefix), uint32(i.op-prefixed))
	}
	switch operations[i.op].imm {
	case immNone:
	case immLabel, immFunc, immLocal, immGlobal:
		w.out = appendU32(w.out, uint32(i.a))
	case immLabels:
		w.out = appendAll(appendU32(w.out, uint32(len(labels)-1)), labels)
	case immIndirect, immInit:
		w.out = append(appendU32(w.out, uint32(i.a)), 0)
	case immTypes:
		w.out = append(w.out, 1, i.typ)
	case immMemArg:
		w.out = appendU32(appendU32(w.out, uint32(i.a)), uint32(i.b))
	case immZero:
		w.out = append(w.out, 0)
	case immCopy:
		w.out = append(w.out, 0, 0)
	case immBlock, immI32, immI64:
		w.out = appendSigned(w.out, int64(i.a))
	case immF32:
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(i.a))
	case immF64:
		w.out = binary.LittleEndian.AppendUint64(w.out, i.a)
	}
}

// instruction writes an instruction, or what takes its place.
func (w *rewriter) instruction(i *instruction, labels []uint32, s scratch) {
	switch i.op {
	case opI32And, opI64And: // R1: the compiler mistakes 0 < (a & b) before a branch; then the operand is an or
		zero := opI32Const
		or := opI32Or
		if i.op == opI64And {
			zero, or = opI64Const, opI64Or
		}
		w.out = append(w.out, byte(i.op), byte(zero), 0, byte(or))
	case opI32Popcnt: // R2: on arm64 it counts 64 bits of a sign-extended load
		w.out = append(w.out, opI64ExtendU, opI64Popcnt, opI32WrapI64)
	case opF32ConvertU, opF64ConvertU: // R3: on amd64 the conversion overwrites other locals
		w.convert(i.op == opF32ConvertU, s)
	case opSelect, opSelectT:
		if i.typ != typeF32 && i.typ != typeF64 {
			w.plain(i, labels)
			break
		}
		w.choose(i.typ == typeF32, s)
	case opMemoryGrow:
		w.sized(s, func() {
			w.out = appendSigned(append(w.out, opI64Const), int64(w.costs.growPage))
			w.out = append(w.out, opI64Mul)
		})
		w.plain(i, labels)
		w.local(opLocalTee, s.size)
		w.out = append(w.out, opI32Const, 0x7f, opI32Eq, opIf, 0x40, opI32Const, 1)
		w.global(opGlobalSet, w.refused)
		w.out = append(w.out, opEnd)
		w.local(opLocalGet, s.size)
	case opMemoryCopy, opMemoryFill, opMemoryInit:
		price := w.costs.copy16
		if i.op == opMemoryFill {
			price = w.costs.fill16
		}
		w.sized(s, func() {
			w.out = appendSigned(append(w.out, opI64Const), int64(price))
			w.out = append(w.out, opI64Mul, opI64Const, 4, opI64ShrU)
		})
		w.plain(i, labels)
	default:
		w.plain(i, labels)
		switch operations[i.op].nan {
		case typeF32:
			w.local(opLocalTee, s.f32)
			w.out = append(w.out, opF32Const)
			w.out = binary.LittleEndian.AppendUint32(w.out, 0x7fc00000)
			w.canonical(s.f32, opF32Eq)
		case typeF64:
			w.local(opLocalTee, s.f64)
			w.out = append(w.out, opF64Const)
			w.out = binary.LittleEndian.AppendUint64(w.out, 0x7ff8000000000000)
			w.canonical(s.f64, opF64Eq)
		}
	}
}

// canonical selects the value in a local if it equals itself, else the constant on the stack above it. That is a select of floats
// without R4's erratum: the value was made by the instruction before, nothing else uses it, so it is in a register.
func (w *rewriter) canonical(local uint32, equal byte) {
	w.local(opLocalGet, local)
	w.local(opLocalGet, local)
	w.out = append(w.out, equal, opSelect)
}

// choose is a select of floats as one of integers (R4): on amd64 the compiler may keep one of two floats in a register and take the
// result from another.
func (w *rewriter) choose(single bool, s scratch) {
	if single {
		w.out = append(w.out, opI64ExtendU)
		w.local(opLocalSet, s.gas)
		w.out = append(w.out, opI32FromF32)
		w.local(opLocalSet, s.size)
		w.out = append(w.out, opI32FromF32)
		w.local(opLocalGet, s.size)
		w.local(opLocalGet, s.gas)
		w.out = append(w.out, opI32WrapI64, opSelect, opF32FromI32)
		return
	}
	w.local(opLocalSet, s.size)
	w.out = append(w.out, opI64FromF64)
	w.local(opLocalSet, s.gas)
	w.out = append(w.out, opI64FromF64)
	w.local(opLocalGet, s.gas)
	w.local(opLocalGet, s.size)
	w.out = append(w.out, opSelect, opF64FromI64)
}

// sized pays for the i32 on top of the stack, as often as scale says.
func (w *rewriter) sized(s scratch, scale func()) {
	w.local(opLocalTee, s.size)
	w.global(opGlobalGet, w.gas)
	w.local(opLocalGet, s.size)
	w.out = append(w.out, opI64ExtendU)
	scale()
	w.out = append(w.out, opI64Sub)
	w.settle(s)
}

// convert turns an unsigned 64-bit integer x into a float: of a negative x half is converted and doubled, with the
// bit that is lost by halving kept as a sticky bit, so that the rounding is the same.
func (w *rewriter) convert(single bool, s scratch) {
	typ, signed, two, mul := typeF64, byte(opF64ConvertS), binary.LittleEndian.AppendUint64([]byte{opF64Const}, math.Float64bits(2)), byte(opF64Mul)
	if single {
		typ, signed, two, mul = typeF32, opF32ConvertS, binary.LittleEndian.AppendUint32([]byte{opF32Const}, math.Float32bits(2)), opF32Mul
	}
	w.local(opLocalTee, s.gas)
	w.out = append(w.out, opI64Const, 0, opI64GeS, opIf, typ)
	w.local(opLocalGet, s.gas)
	w.out = append(w.out, signed, opElse)
	w.local(opLocalGet, s.gas)
	w.out = append(w.out, opI64Const, 1, opI64ShrU)
	w.local(opLocalGet, s.gas)
	w.out = append(w.out, opI64Const, 1, opI64And, opI64Or, signed)
	w.out = append(append(w.out, two...), mul, opEnd)
}
