package wasmvm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestErrata runs the instruction sequences that wazero's compiler gets wrong.
func TestErrata(t *testing.T) {
	for _, test := range []struct{ name, locals, body string }{
		{"E1: zero below an and", "ii", "i32.const 12 local.set 0 i32.const 8 local.set 1 i32.const 0 local.get 0 local.get 1 i32.and i32.lt_u if i i32.const 1 else i32.const 2 end"},
		{"E1: zero above an and", "ii", "i32.const 12 local.set 0 i32.const -8 local.set 1 i32.const 0 local.get 0 local.get 1 i32.and i32.gt_s if i i32.const 1 else i32.const 2 end"},
		{"E1: 64 bits", "ll", "i64.const 12 local.set 0 i64.const 8 local.set 1 i64.const 0 local.get 0 local.get 1 i64.and i64.lt_u if i i32.const 1 else i32.const 2 end"},
		{"E1: an and and zero", "ii", "i32.const 12 local.set 0 i32.const 8 local.set 1 local.get 0 local.get 1 i32.and i32.const 0 i32.gt_u if i i32.const 1 else i32.const 2 end"},
		{"E1: an and above or equal to zero", "ii", "i32.const 12 local.set 0 i32.const 3 local.set 1 local.get 0 local.get 1 i32.and i32.const 0 i32.ge_u if i i32.const 1 else i32.const 2 end"},
		{"E2: bits of a sign-extended load", "", "i32.const 0 i32.const -1 i32.store8 0 i32.const 0 i32.load8_s 0 i32.popcnt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := both(t, method(test.locals, test.body), newHost(), "run", nil, 1_000_000)
			want := map[string]uint32{"E1: zero above an and": 2, "E2: bits of a sign-extended load": 32}[test.name]
			if o.Code != max(want, 1) {
				t.Errorf("result %d, want %d", o.Code, max(want, 1))
			}
		})
	}
	t.Run("E3: unsigned 64-bit integers to floats", func(t *testing.T) {
		for _, n := range []uint64{0, 1, 1 << 53, 1<<53 + 1, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<63 + 1024, 1<<63 + 1025, 1<<63 + 3072, math.MaxUint64, math.MaxUint64 - 1023, math.MaxUint64 - 1024, 0xffffff7fffffffff, 0xffffff8000000001} {
			for _, convert := range []struct {
				name string
				bits uint64
			}{
				{"i64.reinterpret_f64", math.Float64bits(float64(n))},
				{"i64.extend_i32_u", uint64(math.Float32bits(float32(n)))},
			} {
				body := fmt.Sprintf("i64.const %d f64.convert_i64_u i64.reinterpret_f64", int64(n))
				if convert.name == "i64.extend_i32_u" {
					body = fmt.Sprintf("i64.const %d f32.convert_i64_u i32.reinterpret_f32 i64.extend_i32_u", int64(n))
				}
				body += fmt.Sprintf(" i64.const %d i64.ne", int64(convert.bits))
				if o := both(t, std(body), newHost(), "run", nil, 1_000_000); o.Status != ledger.OK {
					t.Errorf("%s of %d: %v %s", convert.name, n, o.Status, o.Trace)
				}
			}
		}
	})
	t.Run("NaNs are canonical", func(t *testing.T) {
		for _, body := range []string{
			"f64.const 0 f64.const 0 f64.div i64.reinterpret_f64 i64.const 0x7ff8000000000000 i64.ne",
			"i64.const -1 f64.reinterpret_i64 f64.const 0 f64.add i64.reinterpret_f64 i64.const 0x7ff8000000000000 i64.ne",
			"i32.const -1 f32.reinterpret_i32 f32.sqrt i32.reinterpret_f32 i32.const 0x7fc00000 i32.ne",
			"i32.const -1 f32.reinterpret_i32 f64.promote_f32 i64.reinterpret_f64 i64.const 0x7ff8000000000000 i64.ne",
			"i64.const -1 f64.reinterpret_i64 f64.neg i64.reinterpret_f64 i64.const 0x7fffffffffffffff i64.ne", // bits are kept
		} {
			if o := both(t, std(body), newHost(), "run", nil, 1_000_000); o.Status != ledger.OK {
				t.Errorf("%s: %v %s", body, o.Status, o.Trace)
			}
		}
	})
}

// asWritten runs the function run of a module in both engines as it is, with all the gas that it may want.
func asWritten(t *testing.T, code []byte) (compiled, interpreted []uint64) {
	var results [2][]uint64
	for i, e := range []Engine{Compiler, Interpreter} {
		r := newSpecRun(t, e)
		if err := r.instantiate(t.Context(), code); err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]uint64{gasExport: plenty, depthExport: MaxDepth} {
			if g, ok := r.module.ExportedGlobal(name).(api.MutableGlobal); ok {
				g.Set(value)
			}
		}
		var err error
		if results[i], err = r.module.ExportedFunction("run").Call(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.runtime.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	return results[0], results[1]
}

// TestErrataRemain shows errata in wazero's compilers as they are, so that an upgrade of wazero tells when a rewrite may go. Those on
// arm64 are run by TestArm64. See rewriter for what they are. R3 is not among them: no module was found
// that shows its erratum and is short.
func TestErrataRemain(t *testing.T) {
	choice := func(typ, constant, convert, bits string) []byte {
		// The first float is in memory after the call, and is wanted in the register that holds the second.
		a := newAssembler()
		a.globals = []byte("i" + bits)
		a.fn("", ":"+typ+typ, typ, convert+" local.set 0 call 1 local.get 0 local.get 0 "+constant+" global.get 0 select").fn("", ":", "", "")
		reinterpret := map[string]string{"i": "i32.reinterpret_f32", "l": "i64.reinterpret_f64"}[bits]
		return a.fn("run", ":"+bits, "", "call 0 "+reinterpret+" global.set 1 drop global.get 1").build()
	}
	for _, test := range []struct {
		name, arch string
		code       []byte
		right      uint64
	}{
		{"R1", "amd64", method("ii", "i32.const 12 local.set 0 i32.const 8 local.set 1 i32.const 0 local.get 0 local.get 1 i32.and i32.lt_u if i i32.const 1 else i32.const 2 end"), 1},
		{"R1", "arm64", method("ii", "i32.const 12 local.set 0 i32.const 3 local.set 1 local.get 0 local.get 1 i32.and i32.const 0 i32.ge_u if i i32.const 1 else i32.const 2 end"), 1},
		{"R2", "arm64", method("", "i32.const 0 i32.const -1 i32.store8 0 i32.const 0 i32.load8_s 0 i32.popcnt"), 32},
		{"R4", "amd64", choice("d", "f64.const 0x4000000000000000", "i64.const 5 f64.convert_i64_s", "l"), 0x4000000000000000},
		{"R4 of 32 bits", "amd64", choice("f", "f32.const 0x40000000", "i64.const 5 f32.convert_i64_s", "i"), 0x40000000},
	} {
		t.Run(test.name+" on "+test.arch, func(t *testing.T) {
			if runtime.GOARCH != test.arch {
				t.Skip("is about the compiler for " + test.arch)
			}
			compiled, interpreted := asWritten(t, test.code)
			if interpreted[0] != test.right || compiled[0] == test.right {
				t.Errorf("%x in the compiler, %x in the interpreter; if the compiler is right now, a new version of the rewriter can do without %s", compiled, interpreted, test.name)
			}
			compiled, interpreted = asWritten(t, rewriteOf(t, test.code))
			if interpreted[0] != test.right || compiled[0] != test.right {
				t.Errorf("rewritten: %x in the compiler, %x in the interpreter, want %x", compiled, interpreted, test.right)
			}
		})
	}
}

// TestErratumPressure has more live values than registers around conversions of unsigned 64-bit integers: under E3 one of them
// changes. (These functions do not show E3 without its rewrite; the random ones that did are larger.)
func TestErratumPressure(t *testing.T) {
	for _, single := range []bool{false, true} {
		for _, start := range []int64{1, -5} {
			var b strings.Builder
			emit := func(format string, args ...any) { fmt.Fprintf(&b, format+" ", args...) }
			const ints, floats = 14, 16
			for i := range ints {
				emit("i64.const %d global.get 0 i64.add local.set %d", start*int64(i+3)<<40, i)
			}
			for i := range floats {
				emit("local.get %d f64.convert_i64_s local.set %d", i%ints, ints+i)
			}
			for i := range ints {
				convert := "f64.convert_i64_u"
				if single {
					convert = "f32.convert_i64_u f64.promote_f32"
				}
				emit("local.get %d %s local.get %d f64.add local.set %d", i, convert, ints+i%floats, ints+(i+5)%floats)
				emit("local.get %d local.get %d i64.xor local.set %d", i, (i+3)%ints, (i+7)%ints)
			}
			for i := range ints {
				emit("global.get 0 local.get %d i64.xor i64.const 5 i64.rotl global.set 0", i)
			}
			for i := range floats {
				emit("global.get 0 local.get %d i64.reinterpret_f64 i64.xor i64.const 7 i64.rotl global.set 0", ints+i)
			}
			emit("i32.const 8 global.get 0 i64.store 0 i32.const 8 i32.const 8 i32.const 8 i32.const 8 call 0 i32.const 0")
			a := newAssembler()
			a.globals = []byte("l")
			a.use("set")
			a.use("sched_yield")
			h := newHost()
			code := a.fn("run", ":i", strings.Repeat("l", ints)+strings.Repeat("d", floats), b.String()).build()
			if o := both(t, code, h, "run", nil, 1_000_000); o.Status != ledger.OK {
				t.Errorf("%v %s", o.Status, o.Trace)
			}
		}
	}
}

// TestErrataOfFloats runs random functions over floats that live across calls, where R3 and R4 are needed: as they are, some of them differ
// between the engines on amd64, by errata or in the bits of NaNs, and rewritten none does.
func TestErrataOfFloats(t *testing.T) {
	const programs = 200
	differ := 0
	for seed := range uint64(programs) {
		r := rand.New(rand.NewPCG(seed, 7))
		locals := 1 + r.IntN(20)
		local := func() int { return r.IntN(locals) }
		value := func() string {
			if r.IntN(5) == 0 {
				return "f64.const " + []string{"0x7ff8000000000000", "0x7ff4000000000001", "0x3ff0000000000000", "0x7ff0000000000000"}[r.IntN(4)]
			}
			return fmt.Sprint("local.get ", local())
		}
		var b strings.Builder
		for i := range locals {
			fmt.Fprintf(&b, "i64.const %d f64.convert_i64_s local.set %d ", i+1, i)
		}
		for range 5 + r.IntN(30) {
			switch r.IntN(6) {
			case 0:
				b.WriteString("call 1 ")
			case 1:
				fmt.Fprintf(&b, "call 2 local.set %d local.set %d ", local(), local())
			case 2:
				fmt.Fprintf(&b, "%s %s global.get 0 select local.set %d ", value(), value(), local())
			case 3:
				fmt.Fprintf(&b, "%s %s %s local.set %d ", value(), value(), []string{"f64.add", "f64.mul", "f64.div", "f64.min"}[r.IntN(4)], local())
			case 4:
				fmt.Fprintf(&b, "%s i64.reinterpret_f64 f64.convert_i64_u local.set %d ", value(), local())
			case 5:
				fmt.Fprintf(&b, "%s %s f64.lt if _ %s %s f64.sub local.set %d end ", value(), value(), value(), value(), local())
			}
		}
		fmt.Fprintf(&b, "%s %s %s global.get 0 select", value(), value(), value())
		a := newAssembler()
		a.globals = []byte("il")
		a.fn("", ":dd", strings.Repeat("d", locals), b.String()).fn("", ":", "", "").fn("", ":dd", "", "f64.const 0x4008000000000000 f64.const 0x4018000000000000")
		code := a.fn("run", ":ll", "", "call 0 i64.reinterpret_f64 global.set 1 i64.reinterpret_f64 global.get 1").build()
		if compiled, interpreted := asWritten(t, code); !slices.Equal(compiled, interpreted) {
			differ++
		}
		if compiled, interpreted := asWritten(t, rewriteOf(t, code)); !slices.Equal(compiled, interpreted) {
			t.Errorf("seed %d: rewritten, %x in the compiler, %x in the interpreter", seed, compiled, interpreted)
		}
	}
	t.Logf("as they are, %d of %d differ", differ, programs)
	if differ == 0 && runtime.GOARCH == "amd64" {
		t.Error("no function differs: the test has lost its point")
	}
}
