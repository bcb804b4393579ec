package wasmvm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
)

// gasClass is a program that spends its time on one kind of instruction, in the order that takes longest: each depends
// on the one before.
type gasClass struct {
	name   string
	body   string             // repeated
	repeat int                // copies in a round of the loop; 0: 64
	rounds int                // of the loop; 0: 2,000
	make   func(a *assembler) // what else the module has
	far    bool               // works on memory that is not in the second-level cache
}

// gasClasses use the locals 0 and 1 (i32, 0 counts rounds), 2 and 3 (i64), 4 and 5 (f64), 6 and 7 (f32).
func gasClasses() []gasClass {
	float := func(name, body string) gasClass { return gasClass{name: name, body: body} }
	// An address in 1 MiB << shift that depends on the value loaded last.
	walk := func(mask int, op string) string {
		return fmt.Sprintf("local.get 1 i32.const 1664525 i32.mul i32.const 1013904223 i32.add local.tee 1 i32.const 4 i32.shr_u i32.const %d i32.and %s", mask<<10-8, op)
	}
	miss := func(kib int) gasClass {
		pages := uint32(max(kib/64, 1))
		return gasClass{
			name: fmt.Sprintf("load, random in %d KiB", kib), body: walk(kib, "i32.load 0 local.get 1 i32.add local.set 1"), rounds: 20_000, repeat: 16, far: kib > 512,
			make: func(a *assembler) { a.memory = []uint32{min(pages, MaxInitialPages), 512} },
		}
	}
	classes := []gasClass{
		{name: "add i32", body: "local.get 1 i32.const 77 i32.add local.set 1"},
		{name: "xor, rotate i64", body: "local.get 2 i64.const 77 i64.xor i64.const 7 i64.rotl local.set 2"},
		{name: "and i32", body: "local.get 1 i32.const 0x7ffffff7 i32.and local.set 1 local.get 1 i32.const 3 i32.add local.set 1"},
		{name: "shift by a local", body: "local.get 2 local.get 3 i64.shl local.set 2"},
		{name: "compare", body: "local.get 2 i64.const 5 i64.lt_s i64.extend_i32_u local.set 2"},
		{name: "extend, wrap", body: "local.get 2 i32.wrap_i64 i64.extend_i32_s local.set 2"},
		{name: "clz, ctz", body: "local.get 2 i64.clz i64.ctz local.set 2"},
		{name: "popcnt i32", body: "local.get 1 i32.popcnt local.set 1"},
		{name: "popcnt i64", body: "local.get 2 i64.popcnt local.set 2"},
		{name: "mul i32", body: "local.get 1 i32.const 77 i32.mul local.set 1"},
		{name: "mul i64", body: "local.get 2 local.get 3 i64.mul local.set 2"},
		{name: "div_u i32", body: "local.get 1 i32.const -1 i32.or i32.const 3 i32.div_u i32.const -1 i32.xor local.set 1"},
		{name: "div_s i32", body: "local.get 1 i32.const 0x7fffffff i32.or i32.const 0x7fffffff i32.xor i32.const 0x7ffffff1 i32.add i32.const 3 i32.div_s local.set 1"},
		{name: "div_u i64", body: "local.get 2 i64.const -1 i64.or local.get 3 i64.div_u local.set 2"},
		{name: "div_s i64", body: "local.get 2 i64.const 0x7ffffffffffffff i64.or local.get 3 i64.div_s local.set 2"},
		{name: "rem_u i64", body: "local.get 2 i64.const -1 i64.or local.get 3 i64.rem_u local.set 2"},
		{name: "rem_s i64", body: "local.get 2 i64.const 0x7ffffffffffffff i64.or local.get 3 i64.rem_s local.set 2"},
		{name: "rem_s i32", body: "local.get 1 i32.const 0x7fffff7 i32.or i32.const 3 i32.rem_s local.set 1"},
		{name: "load i32", body: "local.get 1 i32.load 0 local.set 1"},
		{name: "load8_s", body: "local.get 1 i32.load8_s 0 local.set 1"},
		{name: "load i64", body: "local.get 2 i32.wrap_i64 i64.load 0 local.set 2"},
		miss(512), miss(4096), miss(16384), miss(32768),
		{name: "store, random in 512 KiB", body: walk(512, "local.get 2 i64.store 0"), rounds: 40_000, repeat: 16, make: func(a *assembler) { a.memory = []uint32{8, 512} }},
		{far: true, name: "store, random in 4096 KiB", body: walk(4096, "local.get 2 i64.store 0"), rounds: 20_000, repeat: 16, make: func(a *assembler) { a.memory = []uint32{64, 512} }},
		{far: true, name: "store, random in 32768 KiB", body: walk(32768, "local.get 2 i64.store 0"), rounds: 20_000, repeat: 16, make: func(a *assembler) { a.memory = []uint32{64, 512} }},
		{name: "if, taken at random", body: "local.get 2 i64.const 6364136223846793005 i64.mul i64.const 1442695040888963407 i64.add local.tee 2 i64.const 63 i64.shr_u i32.wrap_i64 if _ local.get 3 i64.const 3 i64.xor local.set 3 end"},
		{name: "br_if, taken at random", body: "block _ local.get 2 i64.const 6364136223846793005 i64.mul i64.const 1442695040888963407 i64.add local.tee 2 i64.const 63 i64.shr_u i32.wrap_i64 br_if 0 local.get 3 i64.const 3 i64.xor local.set 3 end"},
		{name: "empty loop", body: "", repeat: 1, rounds: 500_000},
		{name: "br_table at random", body: "block _ block _ block _ block _ local.get 2 i64.const 6364136223846793005 i64.mul i64.const 1442695040888963407 i64.add local.tee 2 i64.const 62 i64.shr_u i32.wrap_i64 " +
			"br_table 3 0 1 2 3 end local.get 3 i64.const 1 i64.add local.set 3 end local.get 3 i64.const 2 i64.add local.set 3 end local.get 3 i64.const 3 i64.add local.set 3 end"},
		{name: "select at random", body: "local.get 2 i64.const 6364136223846793005 i64.mul local.tee 2 i64.const 77 local.get 2 i64.const 3 i64.lt_s select local.set 2"},
		{name: "global", body: "global.get 0 i64.const 1 i64.add global.set 0", make: func(a *assembler) { a.globals = []byte("l") }},
		{name: "memory.size", body: "memory.size local.get 1 i32.add local.set 1"},
		{name: "call", body: "local.get 1 call 0 local.set 1", make: func(a *assembler) { a.fn("", "i:i", "", "local.get 0 i32.const 1 i32.add") }},
		{name: "call, 60 locals", body: "local.get 1 call 0 local.set 1", make: func(a *assembler) {
			a.fn("", "i:i", strings.Repeat("l", 60), "local.get 0 i32.const 1 i32.add")
		}},
		{name: "call, 30 arguments", body: strings.Repeat("local.get 1 ", 30) + "call 0 local.set 1", make: func(a *assembler) {
			a.fn("", strings.Repeat("i", 30)+":i", "", "local.get 0 local.get 29 i32.add")
		}},
		{name: "call of a caller", body: "local.get 1 call 0 local.set 1", make: func(a *assembler) {
			a.fn("", "i:i", "", "local.get 0 call 1").fn("", "i:i", "", "local.get 0 i32.const 1 i32.add")
		}},
		{name: "call_indirect", body: "local.get 1 i32.const 1 call_indirect i:i local.set 1", make: func(a *assembler) {
			a.table = []uint32{0, 1}
			a.fn("", "i:i", "", "local.get 0 i32.const 1 i32.add").fn("", "i:i", "", "local.get 0 i32.const 2 i32.add")
		}},
		{name: "call_indirect at random", body: "local.get 1 local.get 2 i64.const 6364136223846793005 i64.mul i64.const 1442695040888963407 i64.add local.tee 2 i64.const 56 i64.shr_u i32.wrap_i64 call_indirect i:i local.set 1", make: func(a *assembler) {
			for i := range 256 {
				a.table = append(a.table, uint32(i))
				a.fn("", "i:i", "", fmt.Sprintf("local.get 0 i32.const %d i32.add", i))
			}
		}},
		{name: "memory.copy, 0 bytes", body: "i32.const 0 i32.const 4096 i32.const 0 memory.copy"},
		{name: "memory.copy, 7 bytes", body: "i32.const 0 i32.const 4096 i32.const 7 memory.copy"},
		{name: "memory.copy, 4 KiB", body: "i32.const 0 i32.const 4096 i32.const 4096 memory.copy", rounds: 20},
		{far: true, name: "memory.copy, 2 MiB", body: "i32.const 0 i32.const 2097152 i32.const 2097152 memory.copy", rounds: 20, repeat: 1, make: func(a *assembler) { a.memory = []uint32{64} }},
		{name: "memory.copy, overlapping", body: "i32.const 1 i32.const 0 i32.const 60000 memory.copy", rounds: 20, repeat: 1},
		{name: "memory.fill, 0 bytes", body: "i32.const 0 i32.const 7 i32.const 0 memory.fill"},
		{name: "memory.fill, 4 KiB", body: "i32.const 0 i32.const 7 i32.const 4096 memory.fill", rounds: 20},
		{name: "memory.fill, 2 MiB", body: "i32.const 0 i32.const 7 i32.const 2097152 memory.fill", rounds: 20, repeat: 1, make: func(a *assembler) { a.memory = []uint32{64} }},
		{name: "memory.grow by 0", body: "i32.const 0 memory.grow drop"},
		{name: "memory.grow by 400, written", body: "i32.const 400 memory.grow drop i32.const 65536 i32.const 7 i32.const 26214400 memory.fill", repeat: 1, rounds: 1},
		float("f64.add", "local.get 4 local.get 5 f64.add local.set 4"),
		float("f32.mul", "local.get 6 local.get 7 f32.mul local.set 6"),
		float("f64.div", "local.get 4 local.get 5 f64.div local.set 4"),
		float("f64.sqrt", "local.get 4 f64.sqrt local.set 4"),
		float("f32.sqrt", "local.get 6 f32.sqrt local.set 6"),
		float("f64.min", "local.get 4 local.get 5 f64.min local.set 4"),
		float("f64.max of NaNs", "local.get 4 f64.sqrt f64.neg f64.sqrt local.get 5 f64.max local.set 4"),
		float("f64.neg, abs", "local.get 4 f64.neg f64.abs local.set 4"),
		float("select f64", "local.get 4 local.get 5 local.get 1 select local.set 4"),
		float("select f32 at random", "local.get 6 local.get 7 local.get 2 i64.const 6364136223846793005 i64.mul i64.const 1442695040888963407 i64.add local.tee 2 i64.const 63 i64.shr_u i32.wrap_i64 select local.set 6"),
		float("f64.floor", "local.get 4 f64.floor local.set 4"),
		float("f64.copysign", "local.get 4 local.get 5 f64.copysign local.set 4"),
		float("f64 compare", "local.get 4 local.get 4 local.get 5 f64.lt f64.convert_i32_u f64.add local.set 4"),
		float("promote, demote", "local.get 4 f32.demote_f64 f64.promote_f32 local.set 4"),
		float("reinterpret", "local.get 4 i64.reinterpret_f64 i64.const 1 i64.add f64.reinterpret_i64 local.set 4"),
		float("convert_i32, trunc_sat", "local.get 4 i32.trunc_sat_f64_s f64.convert_i32_s local.set 4"),
		float("convert_i64_u, trunc_sat u", "local.get 4 i64.trunc_sat_f64_u f64.convert_i64_u local.set 4"),
		float("trunc, trapping", "local.get 6 i32.trunc_f32_u f32.convert_i32_u local.set 6"),
		float("trunc u64, trapping", "local.get 4 i64.trunc_f64_u f64.convert_i64_u local.set 4"),
	}
	return classes
}

// build returns a module whose method run is the class's loop.
func (g *gasClass) build() []byte {
	a := newAssembler()
	a.memory = []uint32{3, 512}
	if g.make != nil {
		g.make(a)
	}
	repeat, rounds := g.repeat, g.rounds
	if repeat == 0 {
		repeat = 64
	}
	if rounds == 0 {
		rounds = 2_000
	}
	before := "i64.const 7 local.set 3 i64.const 99 local.set 2 i32.const 1 f64.convert_i32_u local.set 4 i32.const 1 f64.convert_i32_u local.set 5 i32.const 1 f32.convert_i32_u local.tee 6 local.set 7 "
	if strings.Contains(g.name, "16384 KiB") || strings.Contains(g.name, "32768 KiB") {
		before += "i32.const 448 memory.grow drop "
	}
	if strings.Contains(g.name, "random in") {
		before += "i32.const 0 i32.const 1 memory.size i32.const 16 i32.shl memory.fill "
	}
	body := before + fmt.Sprintf("i32.const %d local.set 0 loop _ ", rounds) + strings.Repeat(g.body+" ", repeat) +
		"local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end local.get 1 local.get 2 i32.wrap_i64 i32.add local.get 3 i32.wrap_i64 i32.add local.get 4 i32.trunc_sat_f64_s i32.add local.get 6 i32.trunc_sat_f32_s i32.add i32.const 4096 i32.shl i32.eqz drop i32.const 0"
	a.schema = stdSchema()
	return a.fn("run", ":i", "iillddff", body).build()
}

func stdSchema() []byte {
	s := ledger.Schema{ABI: 1, Name: "gas", Version: "1", Profile: "std", Methods: []ledger.Method{{Name: "run", Kind: ledger.MethodTx}}}
	raw, err := s.Encode()
	if err != nil {
		panic(err)
	}
	return raw
}

// BenchmarkGas prints how much gas each class of instructions takes for a nanosecond, and the spread: how many times as
// much the class that pays most takes as the one that pays least. Each is measured once in a pass, and its least time
// counts: run it with -benchtime 100x, and longer on a busy machine.
//
// Loads and stores are priced for half a megabyte, the second-level cache of a small server. The last rows are those for
// whom memory is farther away, which no flat price can fit: they are not in the spread.
func BenchmarkGas(b *testing.B) {
	type row struct {
		gasClass
		module *Module
		least  time.Duration
		gas    ledger.Gas
	}
	v := newVM(b, Compiler)
	var rows []*row
	for _, g := range gasClasses() {
		m, err := v.Compile(context.Background(), g.build())
		if err != nil {
			b.Fatal(g.name, err)
		}
		rows = append(rows, &row{gasClass: g, module: m, least: time.Hour})
	}
	h := newHost()
	for b.Loop() {
		for _, r := range rows {
			began := time.Now()
			o, err := r.module.Call(context.Background(), h, "run", nil, 1<<40)
			r.least = min(r.least, time.Since(began))
			if err != nil || o.Status != ledger.OK {
				b.Fatal(r.name, o, err)
			}
			r.gas = o.Gas - r.module.Info().InitGas
		}
	}
	ratio := func(r *row) float64 { return float64(r.gas) / float64(r.least.Nanoseconds()) }
	slices.SortFunc(rows, func(a, b *row) int {
		if a.far != b.far {
			return map[bool]int{true: 1, false: -1}[a.far]
		}
		return cmp.Compare(ratio(a), ratio(b))
	})
	least, most := ratio(rows[0]), 0.0
	for _, r := range rows {
		note := ""
		if r.far {
			note = " (far)"
		} else {
			most = ratio(r)
		}
		fmt.Printf("%7.2f gas/ns  %11v  %s%s\n", ratio(r), r.least, r.name, note)
	}
	b.ReportMetric(most/least, "spread")
	b.ReportMetric(0, "ns/op")
}
