package wasmvm

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes modules of random functions, which end. It leans towards what compilers get wrong: comparisons with zero of
// ands, conversions, many live values, values that cross branches and calls.
//
// Functions w0, w1, … have random signatures and call each other in any direction; a global counts how often they may. Loops count down
// in locals of their own. f0, f1, … are exported: (i32, i32, i64, i64) -> i64, they call w0, w1, … and fold the results.
type generator struct {
	rand       *rand.Rand
	functions  int
	signatures []string
	body       strings.Builder
	left       int // nodes of the function
	locals     map[byte][]int
	counters   []int // locals of loops
	labels     []string
}

// fuel is the global that counts calls, of type i32. The others: 0 is i32, 1 i64, 2 f32, 3 f64.
const fuel = 4

const randomTypes = "ilfd"

func (g *generator) module() []byte {
	a := newAssembler()
	a.memory = []uint32{1, 3}
	a.globals = []byte("ilfdi")
	a.passive = []string{"to be copied by memory.init"}
	a.data = map[uint32]string{64: "\x00\x01\xff\x7f\x80\xfe", 4096: "active"}
	g.functions = 3 + g.rand.IntN(4)
	for range g.functions {
		g.signatures = append(g.signatures, g.types(6)+":"+g.types(3))
		a.table = append(a.table, uint32(g.rand.IntN(g.functions)))
	}
	for f := range g.functions {
		in, out, _ := strings.Cut(g.signatures[f], ":")
		g.begin(in)
		extra := g.types(1 + g.rand.IntN(20))
		for i, typ := range []byte(extra) {
			g.locals[typ] = append(g.locals[typ], len(in)+i)
		}
		for i := range 3 {
			g.counters = append(g.counters, len(in)+len(extra)+i)
		}
		g.labels = []string{out}
		g.emit("global.get %d i32.const 1 i32.sub global.set %d global.get %d i32.const 0 i32.lt_s if _", fuel, fuel, fuel)
		for _, typ := range []byte(out) {
			g.constant(typ)
		}
		g.emit("return end")
		g.left = 20 + g.rand.IntN(120)
		g.statements(2+g.rand.IntN(6), 3)
		for _, typ := range []byte(out) {
			g.expression(typ, 3)
		}
		a.fn("", g.signatures[f], extra+"iii", g.body.String())
	}
	for f := range g.functions {
		in, out, _ := strings.Cut(g.signatures[f], ":")
		g.begin("iill")
		g.emit("i32.const %d global.set %d", 5+g.rand.IntN(120), fuel)
		for _, typ := range []byte(in) {
			g.left = 4
			g.expression(typ, 1)
		}
		g.emit("call %d", f)
		for i := len(out) - 1; i >= 0; i-- {
			g.fold(out[i])
			if i < len(out)-1 {
				g.emit("local.get 4 i64.const 7 i64.rotl i64.xor")
			}
			g.emit("local.set 4")
		}
		g.emit("i32.const 65528 global.get 3 f64.store 0 i32.const 65520 global.get 2 f32.store 0 local.get 4")
		a.fn(fmt.Sprint("f", f), "iill:l", "l", g.body.String())
	}
	return a.build()
}

// begin starts a function with parameters.
func (g *generator) begin(params string) {
	g.body.Reset()
	g.locals, g.counters, g.labels = map[byte][]int{}, nil, nil
	for i, typ := range []byte(params) {
		g.locals[typ] = append(g.locals[typ], i)
	}
}

func (g *generator) emit(format string, args ...any) { fmt.Fprintf(&g.body, format+" ", args...) }

func (g *generator) pick(s ...string) string { return s[g.rand.IntN(len(s))] }

func (g *generator) typ() byte { return "iiilllfd"[g.rand.IntN(8)] }

// types returns up to n types.
func (g *generator) types(n int) string {
	b := make([]byte, g.rand.IntN(n+1))
	for i := range b {
		b[i] = g.typ()
	}
	return string(b)
}

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.rand.IntN(n) == 0 }

// number returns a value at which instructions are likely to differ.
func (g *generator) number() uint64 {
	special := []uint64{0, 1, 2, 31, 32, 63, 64, 127, 128, 255, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<53 + 1, 1<<63 - 1, 1 << 63, 1<<63 + 1025, 1<<64 - 1, 1<<64 - 128}
	if !g.chance(3) {
		return special[g.rand.IntN(len(special))]
	}
	return g.rand.Uint64() >> g.rand.IntN(64)
}

func (g *generator) constant(typ byte) {
	switch typ {
	case 'i':
		g.emit("i32.const %d", int32(g.number()))
	case 'l':
		g.emit("i64.const %d", int64(g.number()))
	case 'f': // zeros, infinities, NaNs with payloads, numbers at the edges of conversions
		special := []uint32{0, 1 << 31, 0x3f800000, 0xbf000000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7fa00000, 0x4f000000, 0xcf000000, 0x4f7fffff, 0x5f000000, 0xdf000000, 0x5f7fffff, 1, 0x7f7fffff}
		g.emit("f32.const %d", special[g.rand.IntN(len(special))])
	case 'd':
		special := []uint64{0, 1 << 63, 0x3ff0000000000000, 0xbfe0000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000001, 0x7ff4000000000000, 0x41dfffffffc00000, 0x41e0000000000000, 0xc1e0000000200000, 0x41efffffffe00000, 0x43e0000000000000, 0xc3e0000000000000, 0x43efffffffffffff, 1, 0x7fefffffffffffff}
		g.emit("f64.const %d", special[g.rand.IntN(len(special))])
	}
}

// fold turns the operand on top of the stack into an i64.
func (g *generator) fold(typ byte) {
	g.emit("%s", map[byte]string{'i': "i64.extend_i32_u", 'l': "nop", 'f': "i32.reinterpret_f32 i64.extend_i32_u", 'd': "i64.reinterpret_f64"}[typ])
}

// keep stores the operand on top of the stack somewhere.
func (g *generator) keep(typ byte) {
	locals := g.locals[typ]
	if len(locals) == 0 || g.chance(8) {
		g.emit("%s", g.pick("drop", fmt.Sprintf("global.set %d", strings.IndexByte(randomTypes, typ))))
		return
	}
	g.emit("local.set %d", locals[g.rand.IntN(len(locals))])
}

func (g *generator) keepAll(types string) {
	for i := len(types) - 1; i >= 0; i-- {
		g.keep(types[i])
	}
}

func (g *generator) expressions(types string, depth int) {
	for _, typ := range []byte(types) {
		g.expression(typ, depth)
	}
}

func (g *generator) statements(n, depth int) {
	for range n {
		if g.left <= 0 {
			return
		}
		g.statement(depth)
	}
}

func (g *generator) statement(depth int) {
	g.left--
	if depth == 0 {
		typ := g.typ()
		g.expression(typ, 2)
		g.keep(typ)
		return
	}
	switch k := g.rand.IntN(26); {
	case k < 7:
		typ := g.typ()
		g.expression(typ, depth)
		g.keep(typ)
	case k < 9:
		g.store(depth)
	case k < 11:
		g.call(g.rand.IntN(g.functions))
	case k < 12:
		g.bulk()
	case k < 15:
		in, out := g.types(2), g.types(2)
		g.expressions(in, depth-1)
		g.expression('i', depth)
		g.emit("if %s", blockOf(in, out))
		g.inside(out, in, depth-1, func() { g.statements(3, depth-1); g.expressions(out, depth-1) })
		if in != out || g.chance(2) {
			g.emit("else")
			g.inside(out, in, depth-1, func() { g.statements(2, depth-1); g.expressions(out, depth-1) })
		}
		g.emit("end")
		g.keepAll(out)
	case k < 18:
		in, out := g.types(2), g.types(2)
		g.expressions(in, depth-1)
		g.emit("block %s", blockOf(in, out))
		g.inside(out, in, depth-1, func() { g.statements(4, depth-1); g.expressions(out, depth-1) })
		g.emit("end")
		g.keepAll(out)
	case k < 21:
		g.loop(depth)
	case k < 23:
		g.branch(depth)
	case k < 25:
		g.table(depth)
	default:
		if g.chance(6) {
			g.expression('i', 1)
			g.emit("i32.const 12345 i32.eq if _ unreachable end")
		} else if g.chance(4) { // may trap
			g.expression('l', depth)
			g.expression('l', depth)
			g.emit("i64.%s", g.pick("div_s", "div_u", "rem_s", "rem_u"))
			g.keep('l')
		} else if g.chance(4) {
			from := g.pick("f", "d")
			g.expression(from[0], depth)
			g.emit("i32.trunc_f%s_%s", map[string]string{"f": "32", "d": "64"}[from], g.pick("s", "u"))
			g.keep('i')
		} else {
			g.emit("nop")
		}
	}
}

// blockOf names a block's type.
func blockOf(in, out string) string {
	switch {
	case in == "" && out == "":
		return "_"
	case in == "" && len(out) == 1:
		return out
	}
	return in + ":" + out
}

// inside makes the body of a block whose label takes types. Its parameters are on the stack.
func (g *generator) inside(label, params string, _ int, body func()) {
	g.labels = append(g.labels, label)
	g.keepAll(params)
	body()
	g.labels = g.labels[:len(g.labels)-1]
}

// loop runs its body at most 4 times each time it is entered, whoever branches to it.
func (g *generator) loop(depth int) {
	if len(g.counters) == 0 {
		return
	}
	counter := g.counters[0]
	g.counters = g.counters[1:]
	in := g.types(2)
	g.emit("i32.const %d local.set %d block _", 1+g.rand.IntN(4), counter)
	g.labels = append(g.labels, "")
	g.expressions(in, depth-1)
	g.emit("loop %s", blockOf(in, ""))
	g.inside(in, in, depth-1, func() {
		g.emit("local.get %d i32.eqz br_if 1 local.get %d i32.const 1 i32.sub local.set %d", counter, counter, counter)
		g.statements(3, depth-1)
		g.expressions(in, 1)
		if g.chance(2) {
			g.emit("br 0")
		} else {
			g.expression('i', 2)
			g.emit("br_if 0")
			for range in {
				g.emit("drop")
			}
		}
	})
	g.emit("end end")
	g.labels = g.labels[:len(g.labels)-1]
	g.counters = append([]int{counter}, g.counters...)
}

// branch leaves some blocks, or goes to a loop, if a condition holds.
func (g *generator) branch(depth int) {
	n := g.rand.IntN(len(g.labels))
	types := g.labels[len(g.labels)-1-n]
	if g.chance(3) {
		g.expression('i', depth)
		g.emit("if _")
		g.expressions(types, 1)
		g.emit("%s end", map[bool]string{true: "return", false: fmt.Sprintf("br %d", n+1)}[n == len(g.labels)-1 && g.chance(2)])
		return
	}
	g.expressions(types, depth-1)
	g.condition(depth)
	g.emit("br_if %d", n)
	g.keepAll(types)
}

// table branches to one of several labels that take the same types.
func (g *generator) table(depth int) {
	out := g.types(1)
	g.emit("block %s", blockOf("", out))
	g.labels = append(g.labels, out)
	n := 1 + g.rand.IntN(3)
	for range n {
		g.emit("block %s", blockOf("", out))
		g.labels = append(g.labels, out)
	}
	var targets []string
	for i := range g.labels {
		if g.labels[len(g.labels)-1-i] == out && (i <= n || g.chance(2)) {
			targets = append(targets, fmt.Sprint(i))
		}
	}
	g.rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	g.expressions(out, 1)
	g.expression('i', depth)
	if !g.chance(4) {
		g.emit("i32.const 7 i32.and")
	}
	g.emit("br_table %d %s", len(targets)-1, strings.Join(targets, " "))
	for range n {
		g.emit("end")
		g.labels = g.labels[:len(g.labels)-1]
		g.keepAll(out)
		g.statements(1, depth-1)
		g.expressions(out, 1)
	}
	g.emit("end")
	g.labels = g.labels[:len(g.labels)-1]
	g.keepAll(out)
}

// call calls function f, directly or through the table, where it may meet another one.
func (g *generator) call(f int) {
	in, out, _ := strings.Cut(g.signatures[f], ":")
	g.expressions(in, 1)
	if g.chance(3) {
		if g.chance(8) {
			g.emit("i32.const %d", g.rand.IntN(g.functions+1))
		} else { // the first entry with this function, if there is one
			g.emit("i32.const %d", f)
		}
		g.emit("call_indirect %s", g.signatures[f])
	} else {
		g.emit("call %d", f)
	}
	g.keepAll(out)
}

// address leaves an address of the first page, or sometimes any.
func (g *generator) address(depth int) {
	g.expression('i', depth)
	if !g.chance(60) {
		g.emit("i32.const 0xffff i32.and")
	}
}

func (g *generator) store(depth int) {
	typ := g.typ()
	op := map[byte]string{'i': g.pick("i32.store", "i32.store8", "i32.store16"), 'l': g.pick("i64.store", "i64.store8", "i64.store16", "i64.store32"), 'f': "f32.store", 'd': "f64.store"}[typ]
	g.emit("i32.const %d", g.rand.IntN(65_000))
	if g.chance(2) {
		g.emit("drop")
		g.address(depth - 1)
	}
	g.expression(typ, depth)
	g.emit("%s %d", op, g.rand.IntN(8))
}

// bulk fills, copies and initialises memory, or lets it grow.
func (g *generator) bulk() {
	switch g.rand.IntN(5) {
	case 0:
		g.emit("i32.const %d memory.grow", g.rand.IntN(3))
		g.keep('i')
	case 1:
		g.emit("memory.size")
		g.keep('i')
	case 2:
		g.address(1)
		g.expression('i', 1)
		g.emit("i32.const %d memory.fill", g.rand.IntN(200))
	case 3:
		g.address(1)
		g.address(1)
		g.expression('i', 1)
		g.emit("i32.const 1023 i32.and memory.copy")
	default:
		g.address(1)
		g.emit("i32.const %d i32.const %d memory.init 0", g.rand.IntN(10), g.rand.IntN(18))
	}
}

// condition leaves an i32 that is often of the shape that E1 is about.
func (g *generator) condition(depth int) {
	typ := g.pick("i", "l")
	prefix := map[string]string{"i": "i32", "l": "i64"}[typ]
	if g.chance(3) || depth <= 0 {
		g.expression('i', depth)
		return
	}
	zero := g.chance(2)
	if zero {
		g.emit("%s.const 0", prefix)
	}
	g.expression(typ[0], depth-1)
	g.expression(typ[0], depth-1)
	g.emit("%s.%s", prefix, g.pick("and", "and", "and", "or", "sub"))
	if !zero {
		g.emit("%s.const 0", prefix)
	}
	g.emit("%s.%s", prefix, g.pick("eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"))
}

func (g *generator) expression(typ byte, depth int) {
	g.left--
	if depth <= 0 || g.left <= 0 {
		locals := g.locals[typ]
		switch {
		case len(locals) > 0 && !g.chance(4):
			g.emit("local.get %d", locals[g.rand.IntN(len(locals))])
		case g.chance(3):
			g.emit("global.get %d", strings.IndexByte(randomTypes, typ))
		default:
			g.constant(typ)
		}
		return
	}
	switch g.rand.IntN(14) { // what all types have
	case 0:
		g.expression(typ, depth-1)
		g.expression(typ, depth-1)
		g.condition(depth - 1)
		g.emit("select")
		return
	case 1:
		if locals := g.locals[typ]; len(locals) > 0 {
			g.expression(typ, depth-1)
			g.emit("local.tee %d", locals[g.rand.IntN(len(locals))])
			return
		}
	case 2:
		g.condition(depth)
		g.emit("if %c", typ)
		g.labels = append(g.labels, string(typ))
		g.expression(typ, depth-1)
		g.emit("else")
		g.expression(typ, depth-1)
		g.emit("end")
		g.labels = g.labels[:len(g.labels)-1]
		return
	case 3:
		g.address(depth - 1)
		g.emit("%s %d", map[byte]string{
			'i': g.pick("i32.load", "i32.load8_s", "i32.load8_u", "i32.load16_s", "i32.load16_u"),
			'l': g.pick("i64.load", "i64.load8_s", "i64.load8_u", "i64.load16_s", "i64.load16_u", "i64.load32_s", "i64.load32_u"),
			'f': "f32.load", 'd': "f64.load",
		}[typ], g.rand.IntN(8))
		return
	}
	operands := func(types string, instruction string) {
		g.expressions(types, depth-1)
		g.emit("%s", instruction)
	}
	arithmetic := []string{"add", "sub", "mul", "and", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr"}
	switch typ {
	case 'i':
		switch g.rand.IntN(9) {
		case 0, 1, 2:
			operands("ii", "i32."+g.pick(arithmetic...))
		case 3:
			g.condition(depth)
		case 4:
			operands("i", "i32."+g.pick("clz", "ctz", "popcnt", "popcnt", "eqz", "extend8_s", "extend16_s"))
		case 5:
			operands("l", g.pick("i32.wrap_i64", "i64.eqz"))
		case 6:
			operands("ii", "i32.const 1 i32.or i32."+g.pick("div_s", "div_u", "rem_s", "rem_u"))
		case 7:
			if g.chance(2) {
				operands("ff", "f32."+g.pick("eq", "ne", "lt", "gt", "le", "ge"))
			} else {
				operands("dd", "f64."+g.pick("eq", "ne", "lt", "gt", "le", "ge"))
			}
		default:
			if g.chance(2) {
				operands("f", g.pick("i32.reinterpret_f32", "i32.trunc_sat_f32_s", "i32.trunc_sat_f32_u"))
			} else {
				operands("d", g.pick("i32.trunc_sat_f64_s", "i32.trunc_sat_f64_u"))
			}
		}
	case 'l':
		switch g.rand.IntN(8) {
		case 0, 1, 2:
			operands("ll", "i64."+g.pick(arithmetic...))
		case 3:
			operands("ll", "i64.const 1 i64.or i64."+g.pick("div_s", "div_u", "rem_s", "rem_u"))
		case 4:
			operands("l", "i64."+g.pick("clz", "ctz", "popcnt", "extend8_s", "extend16_s", "extend32_s"))
		case 5:
			operands("i", g.pick("i64.extend_i32_s", "i64.extend_i32_u"))
		case 6:
			operands("d", g.pick("i64.reinterpret_f64", "i64.trunc_sat_f64_s", "i64.trunc_sat_f64_u"))
		default:
			operands("f", g.pick("i64.trunc_sat_f32_s", "i64.trunc_sat_f32_u"))
		}
	case 'f':
		switch g.rand.IntN(6) {
		case 0, 1:
			operands("ff", "f32."+g.pick("add", "sub", "mul", "div", "min", "max", "copysign"))
		case 2:
			operands("f", "f32."+g.pick("abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"))
		case 3:
			operands("l", "f32."+g.pick("convert_i64_s", "convert_i64_u", "convert_i64_u"))
		case 4:
			operands("i", "f32."+g.pick("convert_i32_s", "convert_i32_u", "reinterpret_i32"))
		default:
			operands("d", "f32.demote_f64")
		}
	case 'd':
		switch g.rand.IntN(6) {
		case 0, 1:
			operands("dd", "f64."+g.pick("add", "sub", "mul", "div", "min", "max", "copysign"))
		case 2:
			operands("d", "f64."+g.pick("abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"))
		case 3:
			operands("l", "f64."+g.pick("convert_i64_s", "convert_i64_u", "convert_i64_u", "reinterpret_i64"))
		case 4:
			operands("i", "f64."+g.pick("convert_i32_s", "convert_i32_u"))
		default:
			operands("f", "f64.promote_f32")
		}
	}
}
