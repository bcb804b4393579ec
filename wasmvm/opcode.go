package wasmvm

import "strings"

// Value types of the binary format.
const (
	typeI32  byte = 0x7f
	typeI64  byte = 0x7e
	typeF32  byte = 0x7d
	typeF64  byte = 0x7c
	typeFunc byte = 0x70 // reference; only as a table's element type
	unknown  byte = 0    // operand of unreachable code
)

// The instructions that the decoder, the validator or the rewriter treats one by one. Those behind the
// prefix 0xfc are numbered from prefixed.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32LtS       = 0x48
	opI32Eq        = 0x46
	opI64LtS       = 0x53
	opI64GeS       = 0x59
	opF32Eq        = 0x5b
	opF64Eq        = 0x61
	opI32Popcnt    = 0x69
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI32And       = 0x71
	opI32Or        = 0x72
	opI64Popcnt    = 0x7b
	opI64Sub       = 0x7d
	opI64Mul       = 0x7e
	opI64And       = 0x83
	opI64Or        = 0x84
	opI64ShrU      = 0x88
	opF32Mul       = 0x94
	opF64Mul       = 0xa2
	opI32WrapI64   = 0xa7
	opI64ExtendU   = 0xad
	opF32ConvertS  = 0xb4 // from i64
	opF32ConvertU  = 0xb5 // from i64
	opF64ConvertS  = 0xb9 // from i64
	opF64ConvertU  = 0xba // from i64
	opI32FromF32   = 0xbc // the bits
	opI64FromF64   = 0xbd
	opF32FromI32   = 0xbe
	opF64FromI64   = 0xbf
	opRefNull      = 0xd0 // in elements
	opRefFunc      = 0xd2

	prefix       = 0xfc
	prefixed     = 0x100
	opMemoryInit = prefixed + 8
	opMemoryCopy = prefixed + 10
	opMemoryFill = prefixed + 11
	opCount      = prefixed + 18
)

// immediate says what follows an opcode.
type immediate byte

const (
	immNone immediate = iota
	immBlock
	immLabel
	immLabels
	immFunc
	immIndirect
	immTypes
	immLocal
	immGlobal
	immMemArg
	immZero // a reserved zero byte: the memory's number
	immI32
	immI64
	immF32
	immF64
	immInit // segment, and the memory's number
	immCopy // two numbers of memories
)

// operation describes an instruction. An empty name means that the instruction is not admitted.
type operation struct {
	name      string
	imm       immediate
	width     byte // of memory accesses: log2 of the bytes
	float     bool // not admitted in the strict profile
	nan       byte // type of a result that may be a NaN with arbitrary bits, or 0
	fixed     bool // operands and results are params and results; else the validator knows them
	params    string
	results   string
	forbidden string // why it is not admitted
}

// operations is the instruction table: WebAssembly 2.0 without vectors, reference values and the
// instructions that change tables or drop segments (an instance is reset between calls by copying
// memory and globals alone).
var operations = newOperations()

func newOperations() [opCount]operation {
	var t [opCount]operation
	types := map[rune]string{'i': string([]byte{typeI32}), 'l': string([]byte{typeI64}), 'f': string([]byte{typeF32}), 'd': string([]byte{typeF64})}
	decode := func(s string) string {
		var b strings.Builder
		for _, c := range s {
			b.WriteString(types[c])
		}
		return b.String()
	}
	// plain defines consecutive instructions with one signature such as "ii:i".
	plain := func(first int, signature string, imm immediate, names string) {
		in, out, _ := strings.Cut(signature, ":")
		for i, name := range strings.Fields(names) {
			t[first+i] = operation{
				name: name, imm: imm, fixed: true, params: decode(in), results: decode(out),
				float: strings.ContainsAny(signature, "fd"),
			}
		}
	}
	memory := func(first int, signature, width, names string) {
		plain(first, signature, immMemArg, names)
		for i, w := range width {
			t[first+i].width = byte(w - '0')
		}
	}
	special := func(op int, imm immediate, name string) { t[op] = operation{name: name, imm: imm} }
	refuse := func(op int, name, why string) { t[op] = operation{forbidden: name + " " + why} }

	special(0x00, immNone, "unreachable")
	plain(0x01, ":", immNone, "nop")
	special(0x02, immBlock, "block")
	special(0x03, immBlock, "loop")
	special(0x04, immBlock, "if")
	special(0x05, immNone, "else")
	special(0x0b, immNone, "end")
	special(0x0c, immLabel, "br")
	special(0x0d, immLabel, "br_if")
	special(0x0e, immLabels, "br_table")
	special(0x0f, immNone, "return")
	special(0x10, immFunc, "call")
	special(0x11, immIndirect, "call_indirect")
	special(0x1a, immNone, "drop")
	special(0x1b, immNone, "select")
	special(0x1c, immTypes, "select")
	special(0x20, immLocal, "local.get")
	special(0x21, immLocal, "local.set")
	special(0x22, immLocal, "local.tee")
	special(0x23, immGlobal, "global.get")
	special(0x24, immGlobal, "global.set")

	memory(0x28, "i:i", "2", "i32.load")
	memory(0x29, "i:l", "3", "i64.load")
	memory(0x2a, "i:f", "2", "f32.load")
	memory(0x2b, "i:d", "3", "f64.load")
	memory(0x2c, "i:i", "0011", "i32.load8_s i32.load8_u i32.load16_s i32.load16_u")
	memory(0x30, "i:l", "001122", "i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u")
	memory(0x36, "ii:", "2", "i32.store")
	memory(0x37, "il:", "3", "i64.store")
	memory(0x38, "if:", "2", "f32.store")
	memory(0x39, "id:", "3", "f64.store")
	memory(0x3a, "ii:", "01", "i32.store8 i32.store16")
	memory(0x3c, "il:", "012", "i64.store8 i64.store16 i64.store32")
	plain(0x3f, ":i", immZero, "memory.size")
	plain(0x40, "i:i", immZero, "memory.grow")
	plain(0x41, ":i", immI32, "i32.const")
	plain(0x42, ":l", immI64, "i64.const")
	plain(0x43, ":f", immF32, "f32.const")
	plain(0x44, ":d", immF64, "f64.const")

	const compare = "%eq %ne %lt_s %lt_u %gt_s %gt_u %le_s %le_u %ge_s %ge_u"
	const floatCompare = "%eq %ne %lt %gt %le %ge"
	const unary = "%clz %ctz %popcnt"
	const binary = "%add %sub %mul %div_s %div_u %rem_s %rem_u %and %or %xor %shl %shr_s %shr_u %rotl %rotr"
	const floatUnary = "%abs %neg %ceil %floor %trunc %nearest %sqrt"
	const floatBinary = "%add %sub %mul %div %min %max %copysign"
	of := func(names, typ string) string { return strings.ReplaceAll(names, "%", typ+".") }

	plain(0x45, "i:i", immNone, "i32.eqz")
	plain(0x46, "ii:i", immNone, of(compare, "i32"))
	plain(0x50, "l:i", immNone, "i64.eqz")
	plain(0x51, "ll:i", immNone, of(compare, "i64"))
	plain(0x5b, "ff:i", immNone, of(floatCompare, "f32"))
	plain(0x61, "dd:i", immNone, of(floatCompare, "f64"))
	plain(0x67, "i:i", immNone, of(unary, "i32"))
	plain(0x6a, "ii:i", immNone, of(binary, "i32"))
	plain(0x79, "l:l", immNone, of(unary, "i64"))
	plain(0x7c, "ll:l", immNone, of(binary, "i64"))
	plain(0x8b, "f:f", immNone, of(floatUnary, "f32"))
	plain(0x92, "ff:f", immNone, of(floatBinary, "f32"))
	plain(0x99, "d:d", immNone, of(floatUnary, "f64"))
	plain(0xa0, "dd:d", immNone, of(floatBinary, "f64"))
	plain(0xa7, "l:i", immNone, "i32.wrap_i64")
	plain(0xa8, "f:i", immNone, "i32.trunc_f32_s i32.trunc_f32_u")
	plain(0xaa, "d:i", immNone, "i32.trunc_f64_s i32.trunc_f64_u")
	plain(0xac, "i:l", immNone, "i64.extend_i32_s i64.extend_i32_u")
	plain(0xae, "f:l", immNone, "i64.trunc_f32_s i64.trunc_f32_u")
	plain(0xb0, "d:l", immNone, "i64.trunc_f64_s i64.trunc_f64_u")
	plain(0xb2, "i:f", immNone, "f32.convert_i32_s f32.convert_i32_u")
	plain(0xb4, "l:f", immNone, "f32.convert_i64_s f32.convert_i64_u")
	plain(0xb6, "d:f", immNone, "f32.demote_f64")
	plain(0xb7, "i:d", immNone, "f64.convert_i32_s f64.convert_i32_u")
	plain(0xb9, "l:d", immNone, "f64.convert_i64_s f64.convert_i64_u")
	plain(0xbb, "f:d", immNone, "f64.promote_f32")
	plain(0xbc, "f:i", immNone, "i32.reinterpret_f32")
	plain(0xbd, "d:l", immNone, "i64.reinterpret_f64")
	plain(0xbe, "i:f", immNone, "f32.reinterpret_i32")
	plain(0xbf, "l:d", immNone, "f64.reinterpret_i64")
	plain(0xc0, "i:i", immNone, "i32.extend8_s i32.extend16_s")
	plain(0xc2, "l:l", immNone, "i64.extend8_s i64.extend16_s i64.extend32_s")
	plain(prefixed+0, "f:i", immNone, "i32.trunc_sat_f32_s i32.trunc_sat_f32_u")
	plain(prefixed+2, "d:i", immNone, "i32.trunc_sat_f64_s i32.trunc_sat_f64_u")
	plain(prefixed+4, "f:l", immNone, "i64.trunc_sat_f32_s i64.trunc_sat_f32_u")
	plain(prefixed+6, "d:l", immNone, "i64.trunc_sat_f64_s i64.trunc_sat_f64_u")
	plain(prefixed+8, "iii:", immInit, "memory.init")
	plain(prefixed+10, "iii:", immCopy, "memory.copy")
	plain(prefixed+11, "iii:", immZero, "memory.fill")

	const changes = "changes what a reset of the instance would not restore"
	refuse(0x25, "table.get", "uses reference values")
	refuse(0x26, "table.set", changes)
	refuse(opRefNull, "ref.null", "uses reference values")
	refuse(0xd1, "ref.is_null", "uses reference values")
	refuse(opRefFunc, "ref.func", "uses reference values")
	refuse(0xfd, "a vector instruction", "is not part of the ABI")
	refuse(0xfe, "an atomic instruction", "is not part of the ABI")
	refuse(0x12, "return_call", "is not part of the ABI")
	refuse(0x13, "return_call_indirect", "is not part of the ABI")
	refuse(prefixed+9, "data.drop", changes)
	refuse(prefixed+12, "table.init", changes)
	refuse(prefixed+13, "elem.drop", changes)
	refuse(prefixed+14, "table.copy", changes)
	refuse(prefixed+15, "table.grow", changes)
	refuse(prefixed+16, "table.size", "uses reference values")
	refuse(prefixed+17, "table.fill", changes)

	for i := range t { // results of float arithmetic; abs, neg, copysign, loads and reinterpretations keep bits
		_, name, _ := strings.Cut(t[i].name, ".")
		switch name {
		case "ceil", "floor", "trunc", "nearest", "sqrt", "add", "sub", "mul", "div", "min", "max", "demote_f64", "promote_f32":
			if len(t[i].results) == 1 && (t[i].results[0] == typeF32 || t[i].results[0] == typeF64) {
				t[i].nan = t[i].results[0]
			}
		}
	}
	return t
}

// typeName returns a value type in the words of the text format.
func typeName(t byte) string {
	switch t {
	case typeI32:
		return "i32"
	case typeI64:
		return "i64"
	case typeF32:
		return "f32"
	case typeF64:
		return "f64"
	default:
		return "unknown"
	}
}
