package wasmvm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var (
	randomSeed     = flag.Uint64("seed", 1, "seed of the random programs")
	randomPrograms = flag.Int("programs", 60, "how many random programs to run")
)

// TestRandomPrograms runs random programs in both engines, rewritten: results and gas must be equal. It is how the errata
// were found; `go test -run Random -programs=5000 -seed=7` looks for more.
func TestRandomPrograms(t *testing.T) {
	runs := [2]*specRun{newSpecRun(t, Compiler), newSpecRun(t, Interpreter)}
	defer runs[0].runtime.Close(t.Context())
	defer runs[1].runtime.Close(t.Context())
	costs, err := newCosts(1)
	if err != nil {
		t.Fatal(err)
	}
	traps := 0
	for n := range *randomPrograms {
		g := &generator{rand: rand.New(rand.NewPCG(*randomSeed, uint64(n)))}
		code := g.module()
		m, err := decodeModule(code, 512)
		if err != nil {
			t.Fatal(err)
		}
		w, err := rewrite(m, costs, false)
		if err != nil {
			t.Fatalf("seed %d, program %d: %v", *randomSeed, n, err)
		}
		for _, r := range runs {
			if err := r.instantiate(t.Context(), w.code); err != nil {
				t.Fatalf("seed %d, program %d: %v", *randomSeed, n, err)
			}
		}
		for f := range randomFunctions {
			for range 6 {
				args := []uint64{g.number() & 0xffffffff, g.number() & 0xffffffff, g.number(), g.number()}
				name := fmt.Sprint("f", f)
				out, gas, err := runs[0].call(t.Context(), name, args)
				out2, gas2, err2 := runs[1].call(t.Context(), name, args)
				if (err == nil) != (err2 == nil) || gas != gas2 || (err == nil && out[0] != out2[0]) {
					t.Errorf("%s(%v): %v, gas %d, %v in the compiler, %v, gas %d, %v in the interpreter; repeat with -seed=%d -programs=%d (the last)", name, args, out, gas, err, out2, gas2, err2, *randomSeed, n+1)
				}
				if err != nil {
					traps++
				}
			}
		}
		for _, r := range runs {
			r.module.Close(t.Context())
		}
	}
	t.Logf("%d programs, %d calls in each engine, %d traps", *randomPrograms, *randomPrograms*6*randomFunctions, traps)
}

const randomFunctions = 8

// generator makes functions (i32, i32, i64, i64) -> i64 of arithmetic, memory, floats, calls and branches. Locals 0 and 1 are i32, 2 and 3
// i64, 4 to 6 i32, 7 to 9 i64, 10 and 11 f64; 12 counts loops.
type generator struct {
	rand     *rand.Rand
	function int
	body     strings.Builder
	labels   int
}

func (g *generator) module() []byte {
	a := newAssembler()
	a.globals = []byte("il")
	for i := range randomFunctions {
		a.table = append(a.table, uint32(i))
	}
	for f := range randomFunctions {
		g.function, g.labels = f, 0
		g.body.Reset()
		g.statements(6, 3)
		g.i64(3)
		for _, l := range []int{7, 8, 9} {
			g.emit("local.get %d i64.xor", l)
		}
		for _, l := range []int{4, 5, 6} {
			g.emit("local.get %d i64.extend_i32_s i64.add", l)
		}
		a.fn(fmt.Sprint("f", f), "iill:l", "iiilllddi", g.body.String())
	}
	return a.build()
}

func (g *generator) emit(format string, args ...any) { fmt.Fprintf(&g.body, format+" ", args...) }

func (g *generator) pick(s ...string) string { return s[g.rand.IntN(len(s))] }

// number returns a value at which instructions are likely to differ.
func (g *generator) number() uint64 {
	special := []uint64{0, 1, 2, 31, 32, 63, 64, 127, 128, 255, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 128}
	if g.rand.IntN(3) > 0 {
		return special[g.rand.IntN(len(special))]
	}
	return g.rand.Uint64()
}

func (g *generator) statements(n, depth int) {
	for range 1 + g.rand.IntN(n) {
		switch k := g.rand.IntN(14); {
		case k < 3:
			g.i32(depth)
			g.emit("local.set %d", 4+g.rand.IntN(3))
		case k < 6:
			g.i64(depth)
			g.emit("local.set %d", 7+g.rand.IntN(3))
		case k < 7:
			g.f64(depth)
			g.emit("local.set %d", 10+g.rand.IntN(2))
		case k < 8:
			g.i32(1)
			g.emit("i32.const 0xfff8 i32.and")
			g.i64(depth)
			g.emit("%s 0", g.pick("i64.store", "i64.store8", "i64.store16", "i64.store32"))
		case k < 9:
			g.i32(depth)
			g.emit("global.set 0")
		case depth == 0:
			g.emit("nop")
		case k < 11:
			g.i32(depth)
			g.labels++
			g.emit("if _")
			g.statements(3, depth-1)
			if g.rand.IntN(2) == 0 {
				g.emit("else")
				g.statements(3, depth-1)
			}
			g.emit("end")
			g.labels--
		case k < 12:
			g.labels++
			g.emit("block _")
			g.statements(2, depth-1)
			g.i32(depth - 1)
			g.emit("br_if %d", g.rand.IntN(g.labels))
			g.statements(2, depth-1)
			g.emit("end")
			g.labels--
		case k < 13: // a loop of at most 5 rounds, counted down from where it stands
			g.emit("i32.const 5 local.set 12 loop _ local.get 12 i32.const 1 i32.sub local.tee 12 i32.const 0 i32.gt_s if _")
			held := g.labels
			g.labels = 0 // a branch to the loop would not end
			g.statements(2, 0)
			g.labels = held
			g.emit("br 1 end end")
		default:
			g.labels += 2
			g.emit("block _ block _")
			g.i32(depth - 1)
			g.emit("br_table 2 0 1 %d", g.rand.IntN(2))
			g.emit("end")
			g.labels--
			g.statements(1, depth-1)
			g.emit("end")
			g.labels--
		}
	}
}

func (g *generator) i32(depth int) {
	if depth <= 0 {
		switch g.rand.IntN(3) {
		case 0:
			g.emit("i32.const %d", int32(g.number()))
		case 1:
			g.emit("global.get 0")
		default:
			g.emit("local.get %d", []int{0, 1, 4, 5, 6}[g.rand.IntN(5)])
		}
		return
	}
	switch g.rand.IntN(12) {
	case 0, 1, 2:
		g.i32(depth - 1)
		g.i32(depth - 1)
		g.emit("i32.%s", g.pick("add", "sub", "mul", "and", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr"))
	case 3, 4:
		g.i32(depth - 1)
		g.i32(depth - 1)
		g.emit("i32.%s", g.pick("eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"))
	case 5: // what E1 is made of
		g.emit("i32.const 0")
		g.i32(depth - 1)
		g.i32(depth - 1)
		g.emit("i32.and i32.%s", g.pick("lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"))
	case 6:
		g.i64(depth - 1)
		g.i64(depth - 1)
		g.emit("i64.%s", g.pick("eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"))
	case 7:
		g.i32(depth - 1)
		g.emit("i32.%s", g.pick("clz", "ctz", "popcnt", "eqz", "extend8_s", "extend16_s"))
	case 8:
		g.i64(depth - 1)
		g.emit("%s", g.pick("i32.wrap_i64", "i64.eqz"))
	case 9:
		g.f64(depth - 1)
		if g.rand.IntN(2) == 0 {
			g.emit("i32.trunc_sat_f64_%s", g.pick("s", "u"))
		} else {
			g.f64(depth - 1)
			g.emit("f64.%s", g.pick("eq", "ne", "lt", "gt", "le", "ge"))
		}
	case 10:
		g.i32(depth - 1)
		g.i32(depth - 1)
		g.i32(depth - 1)
		g.emit("select")
	default:
		g.i32(depth - 1)
		g.emit("i32.const 0xffff i32.and %s %d", g.pick("i32.load8_s", "i32.load8_u", "i32.load16_s", "i32.load16_u", "i32.load"), g.rand.IntN(8))
	}
}

func (g *generator) i64(depth int) {
	if depth <= 0 {
		switch g.rand.IntN(3) {
		case 0:
			g.emit("i64.const %d", int64(g.number()))
		case 1:
			g.emit("global.get 1")
		default:
			g.emit("local.get %d", []int{2, 3, 7, 8, 9}[g.rand.IntN(5)])
		}
		return
	}
	switch g.rand.IntN(10) {
	case 0, 1, 2:
		g.i64(depth - 1)
		g.i64(depth - 1)
		g.emit("i64.%s", g.pick("add", "sub", "mul", "and", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr"))
	case 3:
		g.i64(depth - 1)
		g.i64(depth - 1)
		g.emit("i64.const 1 i64.or i64.%s", g.pick("div_s", "div_u", "rem_s", "rem_u"))
	case 4:
		g.i64(depth - 1)
		g.emit("i64.%s", g.pick("clz", "ctz", "popcnt", "extend8_s", "extend16_s", "extend32_s"))
	case 5:
		g.i32(depth - 1)
		g.emit("i64.extend_i32_%s", g.pick("s", "u"))
	case 6:
		g.f64(depth - 1)
		g.emit("%s", g.pick("i64.reinterpret_f64", "i64.trunc_sat_f64_s", "i64.trunc_sat_f64_u"))
	case 7:
		g.i32(depth - 1)
		g.emit("i32.const 0xffff i32.and %s %d", g.pick("i64.load8_s", "i64.load16_u", "i64.load32_s", "i64.load"), g.rand.IntN(8))
	case 8: // only functions before this one, so that calls end
		if g.function == 0 {
			g.emit("local.get 2")
			return
		}
		g.i32(depth - 1)
		g.i32(0)
		g.i64(depth - 1)
		g.i64(0)
		if g.rand.IntN(2) == 0 {
			g.emit("call %d", g.rand.IntN(g.function))
		} else {
			g.emit("i32.const %d call_indirect iill:l", g.rand.IntN(g.function))
		}
	default:
		g.i64(depth - 1)
		g.i64(depth - 1)
		g.i32(depth - 1)
		g.emit("select")
	}
}

func (g *generator) f64(depth int) {
	if depth <= 0 {
		g.emit("local.get %d", 10+g.rand.IntN(2))
		return
	}
	switch g.rand.IntN(6) {
	case 0, 1:
		g.f64(depth - 1)
		g.f64(depth - 1)
		g.emit("f64.%s", g.pick("add", "sub", "mul", "div", "min", "max", "copysign"))
	case 2:
		g.f64(depth - 1)
		g.emit("f64.%s", g.pick("abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"))
	case 3:
		g.i64(depth - 1)
		g.emit("%s", g.pick("f64.convert_i64_s", "f64.convert_i64_u", "f64.convert_i64_u", "f64.convert_i64_u", "f64.reinterpret_i64", "f32.convert_i64_u f64.promote_f32"))
	case 4:
		g.i32(depth - 1)
		g.emit("f64.convert_i32_%s", g.pick("s", "u"))
	default:
		g.f64(depth - 1)
		g.emit("f32.demote_f64 f64.promote_f32")
	}
}
