package wasmvm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// section returns a section of a module.
func section(id byte, content []byte) []byte {
	return append(appendU32([]byte{id}, uint32(len(content))), content...)
}

// padded appends a custom section that makes a module size bytes long.
func padded(code []byte, size int) []byte {
	left := size - len(code)
	for used := 2; used <= 5; used++ { // the section's number and length
		content := make([]byte, left-used)
		content[0] = byte(1)
		content[1] = 'x'
		if s := section(sectionCustom, content); len(s) == left {
			return append(code, s...)
		}
	}
	panic("no custom section has this size")
}

// segments appends a data section with n empty segments, each passive or at 0.
func segments(code []byte, n int, passive bool) []byte {
	content := appendU32(nil, uint32(n))
	for range n {
		if passive {
			content = append(content, 1, 0)
		} else {
			content = append(content, 0, opI32Const, 0, opEnd, 0)
		}
	}
	return append(code, section(sectionData, content)...)
}

// sizeOf returns the size of a section's content.
func sizeOf(code []byte, id byte) int {
	r := &reader{buf: code, pos: 8}
	for r.left() > 0 {
		this, content := r.u8(), r.bytes(uint64(r.u32()))
		if this == id {
			return len(content)
		}
	}
	return 0
}

// TestLimits takes each limit on modules exactly, and then exceeds it by the least that can be.
func TestLimits(t *testing.T) {
	repeat := strings.Repeat
	build := func(change func(a *assembler)) []byte {
		a := newAssembler()
		change(a)
		return a.fn("run", ":i", "", "i32.const 0").build()
	}
	stdModule := func(change func(a *assembler)) []byte {
		return build(func(a *assembler) {
			a.use("sched_yield")
			change(a)
		})
	}
	function := func(signature, locals, body string) []byte {
		return build(func(a *assembler) { a.fn("", signature, locals, body) })
	}
	nest := func(n int, open string) string { return repeat(open, n) + repeat("end ", n) }
	v := newVM(t, Interpreter)
	for _, test := range []struct {
		what     string
		limit    int
		make     func(n int) []byte // a module that has n of it
		value    uint64             // that the refusal states; 0: limit + 1
		function string             // that it names
	}{
		{what: "bytes of a module of the strict profile", limit: MaxModuleStrict, make: func(n int) []byte { return padded(build(func(*assembler) {}), n) }},
		{what: "bytes of module", limit: MaxModuleStd, make: func(n int) []byte { return padded(stdModule(func(*assembler) {}), n) }},
		{what: "functions", limit: MaxFunctions, make: func(n int) []byte {
			return stdModule(func(a *assembler) {
				for range n - 2 { // run and the marker are two
					a.fn("", ":", "", "")
				}
			})
		}},
		{what: "types", limit: MaxTypes, make: func(n int) []byte {
			return build(func(a *assembler) {
				a.types = []string{":i", ":"}
				for range n - 2 {
					a.types = append(a.types, "i:")
				}
			})
		}},
		{what: "parameters", limit: MaxParams, make: func(n int) []byte { return function(repeat("i", n)+":", "", "") }},
		{what: "results", limit: MaxResults, make: func(n int) []byte { return function(":"+repeat("i", n), "", repeat("i32.const 0 ", n)) }},
		{what: "parameters of a block", limit: MaxResults, function: "0", make: func(n int) []byte {
			return function(":", "", repeat("i32.const 0 ", n)+"block "+repeat("i", n)+": "+repeat("drop ", n)+"end")
		}},
		{what: "imports", limit: MaxImports, make: func(n int) []byte {
			return build(func(a *assembler) {
				for range n {
					a.use("input_len")
				}
			})
		}},
		{what: "globals", limit: MaxGlobals, make: func(n int) []byte {
			return build(func(a *assembler) { a.globals = []byte(repeat("l", n)) })
		}},
		{what: "exports", limit: MaxExports, make: func(n int) []byte {
			return build(func(a *assembler) {
				for i := range n - 3 { // memory, run and the marker are three
					a.fn(fmt.Sprint("f", i), ":i", "", "i32.const 0")
				}
			})
		}},
		{what: "bytes of an export's name", limit: MaxName, make: func(n int) []byte {
			return build(func(a *assembler) { a.fn(repeat("x", n), ":i", "", "i32.const 0") })
		}},
		{what: "table entries", limit: MaxTable, make: func(n int) []byte {
			return build(func(a *assembler) { a.table = make([]uint32, n) })
		}},
		{what: "initial pages of memory", limit: MaxInitialPages, make: func(n int) []byte {
			return build(func(a *assembler) { a.memory = []uint32{uint32(n)} })
		}},
		{what: "data segments of a module of the strict profile", limit: MaxSegmentsStrict, make: func(n int) []byte { return segments(build(func(*assembler) {}), n, false) }},
		{what: "data segments", limit: MaxSegmentsStd, make: func(n int) []byte { return segments(stdModule(func(*assembler) {}), n, true) }},
		{what: "parameters and locals of a function", limit: MaxLocals, function: "0", make: func(n int) []byte { return function("ii:", repeat("l", n-2), "") }},
		{what: "nested loops", limit: MaxLoopNesting, function: "0", make: func(n int) []byte { return function(":", "", nest(n, "loop _ ")) }},
		{what: "nested blocks", limit: MaxBlockNesting, function: "0", make: func(n int) []byte { return function(":", "", nest(n, "block _ ")) }},
		{what: "blocks and branches of a function", limit: MaxBlocks, function: "0", make: func(n int) []byte { return function(":", "", repeat("block _ end ", n-1)) }},
		{what: "blocks and branches of a function", limit: MaxBlocks, function: "0", make: func(n int) []byte {
			return function(":", "", "block _ "+repeat("i32.const 0 br_if 0 ", n-2)+"end")
		}},
		{what: "blocks and branches of a function", limit: MaxBlocks, function: "0", make: func(n int) []byte { // two of each loop and growth, one of each fill
			return function(":", "", "loop _ end i32.const 0 memory.grow drop "+repeat("i32.const 0 i32.const 0 i32.const 0 memory.fill ", n-5))
		}},
		{what: "blocks and branches of a function", limit: MaxBlocks, function: "1", make: func(n int) []byte {
			return stdModule(func(a *assembler) { a.fn("", ":", "", repeat("i64.const 0 f64.convert_i64_u drop ", n-1)) })
		}},
		{what: "locals × blocks of a function", limit: MaxLocalsBlocks, value: MaxLocalsBlocks + 256, function: "0", make: func(n int) []byte {
			return function(":", repeat("i", 256), repeat("block _ end ", (n+255)/256-1))
		}},
		{what: "bytes of a function", limit: MaxBody, function: "0", make: func(n int) []byte { return function(":", "", repeat("nop ", n-2)) }},
		{what: "targets of a br_table", limit: MaxTargets, function: "0", make: func(n int) []byte {
			return function(":", "", fmt.Sprintf("i32.const 0 br_table %d %s", n, repeat("0 ", n+1)))
		}},
		// The sums over functions have run and the marker in them, with 1 and 4 for each.
		{what: "of locals × blocks × (1 + nested loops), summed over functions,", limit: MaxComplexity, function: "130", make: func(n int) []byte {
			return build(func(a *assembler) {
				for range 127 {
					a.fn("", ":", repeat("i", 256), repeat("block _ end ", 255))
				}
				a.fn("", ":", repeat("i", 217), repeat("block _ end ", 301)) // 217 × 302 = 65,536 − 2
				for range n - MaxComplexity {
					a.fn("", ":", "", "")
				}
			})
		}},
		{what: "of 4 × blocks² + locals × Σ (branches to a label)², summed over functions,", limit: MaxPaths, value: MaxPaths + 4, function: "10", make: func(n int) []byte {
			return build(func(a *assembler) {
				for _, blocks := range []int{4096, 4096, 4096, 4095, 90, 9, 2, 2} { // 4 × the sum of their squares is MaxPaths − 8
					a.fn("", ":", "", repeat("block _ end ", blocks-1))
				}
				for range n - MaxPaths {
					a.fn("", ":", "", "")
				}
			})
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			if _, _, err := v.admit(test.make(test.limit)); err != nil {
				t.Errorf("%d are refused: %v", test.limit, err)
			}
			code := test.make(test.limit + 1)
			_, _, err := v.admit(code)
			e, ok := errors.AsType[*ModuleError](err)
			if !ok || !errors.Is(err, ErrModule) {
				t.Fatalf("one more: %v, want a *ModuleError", err)
			}
			value := test.value
			if value == 0 {
				value = uint64(test.limit) + 1
			}
			where := fmt.Sprintf("at offset 0x%x", e.Offset)
			if test.function != "" {
				where = "in function " + e.Function + " " + where
				if number, _, _ := strings.Cut(e.Function, " "); number != test.function {
					t.Errorf("function %q, want %q", e.Function, test.function)
				}
			}
			if want := fmt.Sprintf("module refused: %d %s %s, at most %d are allowed", value, test.what, where, test.limit); err.Error() != want {
				t.Errorf("%s\nwant %s", err, want)
			}
			if e.Offset <= 0 && test.what != "bytes of module" || e.Offset > len(code) {
				t.Errorf("offset %d in a module of %d bytes", e.Offset, len(code))
			}
		})
	}

	t.Run("code with its metering", func(t *testing.T) {
		code := func(functions, nops int) []byte {
			return stdModule(func(a *assembler) {
				for range functions {
					a.fn("", "d:d", "", "local.get 0 "+repeat("f64.sqrt ", 3_000))
				}
				a.fn("", ":", "", repeat("nop ", nops)) // what stays as it is
			})
		}
		size := func(functions int) int {
			w, _, err := v.admit(code(functions, 20_000))
			if err != nil {
				t.Fatal(err)
			}
			// Without the number of functions, which are the nops, run and the marker, too, and the length of the last.
			return sizeOf(w.code, sectionCode) - len(appendU32(nil, uint32(functions+3))) - 1
		}
		one := size(1)
		functions := 1 + (MaxRewritten-30_000-one)/(size(2)-one)
		nops := 20_000 + MaxRewritten - size(functions)
		if _, _, err := v.admit(code(functions, nops)); err != nil {
			t.Error(err)
		}
		_, _, err := v.admit(code(functions, nops+1))
		if e, ok := errors.AsType[*ModuleError](err); !ok || e.Value != MaxRewritten+1 || e.Limit != MaxRewritten || e.Reason != "bytes of code with its metering" || e.Function == "" {
			t.Errorf("%v, want %d bytes refused", err, MaxRewritten+1)
		}
	})
	t.Run("a refusal has the name of the name section, also when that comes later", func(t *testing.T) {
		names := section(sectionCustom, []byte("\x04name\x01\x0a\x01\x00\x07balance"))
		for _, body := range []string{repeat("nop ", MaxBody), repeat("loop _ ", 17) + repeat("end ", 17)} {
			_, _, err := v.admit(append(function(":", "", body), names...))
			if err == nil || !strings.Contains(err.Error(), "in function 0 <balance> at offset 0x") {
				t.Errorf("%v, want the function named balance", err)
			}
		}
	})
	t.Run("nested calls", func(t *testing.T) {
		for _, test := range []struct {
			frames int
			want   ledger.Status
		}{{MaxDepth / minFrame, ledger.OK}, {MaxDepth/minFrame + 1, ledger.OutOfDepth}} {
			a := newAssembler() // run is the first frame, the leaf weighs nothing
			a.fn("", "i:", "", "local.get 0 if _ local.get 0 i32.const 1 i32.sub call 0 end")
			code := a.fn("run", ":i", "", fmt.Sprintf("i32.const %d call 0 i32.const 0", test.frames-2)).build()
			if o := both(t, code, newHost(), "run", nil, 10_000_000); o.Status != test.want {
				t.Errorf("%d frames: %v (%s), want %v", test.frames, o.Status, o.Trace, test.want)
			}
		}
	})
	t.Run("words of frames", func(t *testing.T) {
		// Functions that weigh so many words: each value that they make is a quarter of one.
		weighing := func(first, frame int) []byte {
			a := newAssembler()
			deep, run := "local.get 0 if _ local.get 0 i32.const 1 i32.sub call 0 end ", "i32.const 99 call 0 i32.const 0 "
			build := func(deepValues, runValues int) []byte {
				a = newAssembler()
				a.fn("", "i:", repeat("l", 200), deep+repeat("i32.const 0 drop ", deepValues))
				return a.fn("run", ":i", "", repeat("i32.const 0 drop ", runValues)+run).build()
			}
			m, err := decodeModule(build(0, 0), 512)
			if err != nil {
				t.Fatal(err)
			}
			words := frames(t, m, versionOne(t))
			return build(4*(frame-int(words[0])), 4*(first-int(words[1])))
		}
		for _, test := range []struct {
			first int // words of run, which has 100 frames of 9,990 words above it
			want  ledger.Status
		}{{MaxDepth - 100*9_990, ledger.OK}, {MaxDepth - 100*9_990 + 1, ledger.OutOfDepth}} {
			code := weighing(test.first, 9_990)
			m, err := decodeModule(code, 512)
			if err != nil {
				t.Fatal(err)
			}
			if words := frames(t, m, versionOne(t)); words[0] != 9_990 || words[1] != int64(test.first) {
				t.Fatalf("frames of %d words, want 9,990 and %d", words, test.first)
			}
			if o := both(t, code, newHost(), "run", nil, 100_000_000); o.Status != test.want {
				t.Errorf("%d words: %v (%s), want %v", test.first+100*9_990, o.Status, o.Trace, test.want)
			}
		}
	})
}
