package wasmvm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// nameSection is a module with one method, run, and a name section as it is given.
func nameSection(content string) []byte {
	return append(newAssembler().fn("run", ":i", "", "unreachable").build(), section(sectionCustom, []byte("\x04name"+content))...)
}

// hostileNames are name sections that lie, with what the engines are told of them.
var hostileNames = []struct{ what, section, want string }{
	{"a name", "\x01\x06\x01\x00\x03run", "\x01\x06\x01\x00\x03run"},
	{"four thousand million functions", "\x01\x05\xff\xff\xff\xff\x0f", ""},
	{"512 million functions", "\x01\x05\xff\xff\xff\xff\x01", ""},
	{"512 million functions with locals", "\x02\x05\xff\xff\xff\xff\x01", ""},
	{"five functions and no more", "\x01\x01\x05", ""},
	{"a subsection beyond the end", "\x07\x7f", ""},
	{"half a subsection", "\x01", ""},
	{"a name of 4 GB", "\x01\x07\x01\x00\xff\xff\xff\xff\x0f", ""},
	{"a name that is no text", "\x01\x05\x01\x00\x02\xff\xfe", ""},
	{"a name of two lines", "\x01\x06\x01\x00\x03a\nb", "\x01\x05\x01\x00\x02ab"},
	{"a name of no function", "\x01\x06\x01\x02\x03run", ""},
	{"names out of order", "\x01\x09\x03\x01\x01a\x00\x01b\x01\x01", "\x01\x04\x01\x01\x01a"},
	{"numbers in a long form", "\x01\x8b\x00\x81\x00\x80\x80\x80\x00\x83\x00run", "\x01\x06\x01\x00\x03run"},
	{"a module's name and names of locals", "\x00\x02\x01m\x01\x06\x01\x00\x03run\x02\x01\x00", "\x01\x06\x01\x00\x03run"},
	{"names twice", "\x01\x04\x01\x00\x01a\x01\x04\x01\x00\x01b", "\x01\x04\x01\x00\x01a"},
	{"a name of 300 bytes", "\x01\xb0\x02\x01\x00\xac\x02" + strings.Repeat("é", 150), "\x01\x84\x02\x01\x00\x80\x02" + strings.Repeat("é", 128)},
}

// TestNames gives modules name sections that lie: the module is admitted, and what engines get is well-formed. wazero, for one, makes room
// for as many names as a section announces, and refuses a module whose names are malformed.
func TestNames(t *testing.T) {
	for _, test := range hostileNames {
		t.Run(test.what, func(t *testing.T) {
			code := nameSection(test.section)
			w := rewriteOf(t, code)
			if _, names, _ := bytes.Cut(w, []byte("\x04name")); string(names) != test.want {
				t.Errorf("the rewritten module names %q, want %q", names, test.want)
			}
			if o := both(t, code, newHost(), "run", nil, 1_000_000); o.Status != ledger.Trapped {
				t.Errorf("%v %s", o.Status, o.Trace)
			}
		})
	}
	t.Run("two name sections", func(t *testing.T) {
		code := append(nameSection("\x01\x06\x01\x00\x03one"), section(sectionCustom, []byte("\x04name\x01\x06\x01\x00\x03two"))...)
		if o := both(t, code, newHost(), "run", nil, 1_000_000); o.Status != ledger.Trapped || !strings.Contains(o.Trace, "one") {
			t.Errorf("%v %s, want a trap in the function one", o.Status, o.Trace)
		}
	})
}

// rewriteOf returns what engines get of a module.
func rewriteOf(t testing.TB, code []byte) []byte {
	t.Helper()
	m, err := decodeModule(code, 512)
	if err != nil {
		t.Fatal(err)
	}
	w, err := rewrite(m, versionOne(t), false)
	if err != nil {
		t.Fatal(err)
	}
	return w.code
}

// forms makes modules that have every kind of number in them.
func forms(long bool) [][]byte {
	a, b := newAssembler(), newAssembler()
	a.long, b.long = long, long
	b.types = make([]string, 70)
	for i := range b.types { // so that the type of a block is beyond one byte
		b.types[i] = strings.Repeat("i", i%60) + ":"
	}
	b.use("sched_yield")
	b.memory = []uint32{1, 3}
	b.globals = []byte("ilfd")
	b.passive = []string{"passive"}
	b.data = map[uint32]string{4096: "active"}
	b.fn("run", ":i", "illdd", `i32.const 1 i32.const 2 i32.const 3 select_t i local.set 0 i64.const -1 i64.const 5 i32.const 1 select_t l local.set 1
		local.get 0 local.get 0 block ii:ii i32.const -7 i32.add end drop drop i32.const 64 i64.const -9223372036854775808 i64.store32 300 i32.const 0 memory.size drop
		i32.const 0 i32.const 0 i32.const 3 memory.init 0 f32.const 0x7fc00001 drop f64.const 0x7ff8000000000001 drop i32.const 2147483647 drop
		local.get 3 i64.trunc_sat_f64_u drop`)
	return [][]byte{goldenOf(a), b.build()}
}

// TestForms writes every number in the longest form that the format allows. What engines get is the same as of the shortest: they
// differ in what they take (wazero wants the 1 of a select with a type in one byte).
func TestForms(t *testing.T) {
	short, long := forms(false), forms(true)
	for i := range short {
		if len(long[i]) <= len(short[i]) {
			t.Fatal("the long form is not long")
		}
		if a, b := rewriteOf(t, short[i]), rewriteOf(t, long[i]); !bytes.Equal(a, b) {
			t.Errorf("module %d: rewritten from its long form\n%x\nwant\n%x", i, b, a)
		}
		if o := both(t, long[i], newHost(), "run", nil, 1_000_000); o.Status != ledger.OK && i == 1 {
			t.Errorf("%v %s", o.Status, o.Trace)
		}
	}
}

// TestTable has element segments in each form: those that fill the table end as the same entries, what only declares is left out.
func TestTable(t *testing.T) {
	module := func(elements string) []byte {
		var b []byte
		b = append(b, "\x00asm\x01\x00\x00\x00"...)
		b = append(b, section(sectionType, []byte("\x02\x60\x00\x01\x7f\x60\x00\x00"))...)
		b = append(b, section(sectionFunction, []byte{4, 0, 0, 0, 1})...)
		b = append(b, section(sectionTable, []byte{1, typeFunc, 1, 4, 9})...)
		b = append(b, section(sectionMemory, []byte{1, 0, 1})...)
		b = append(b, section(sectionExport, []byte("\x03\x06memory\x02\x00\x0dfondaco_abi_1\x00\x03\x03run\x00\x02"))...)
		b = append(b, section(sectionElement, []byte(elements))...)
		call := []byte{0, opI32Const, 1, opCallIndirect, 0, 0, opI32Const, 3, opCallIndirect, 0, 0, opI32Add, opEnd}
		code := []byte{4, 4, 0, opI32Const, 10, opEnd, 5, 0, opI32Const, 0xe4, 0, opEnd, byte(len(call))}
		return append(b, section(sectionCode, append(append(code, call...), 2, 0, opEnd))...)
	}
	for _, test := range []struct {
		elements string
		want     uint32 // 0: trap
	}{
		{"\x01\x00\x41\x00\x0b\x04\x00\x00\x00\x01", 110},
		{"\x02\x00\x41\x01\x0b\x01\x01\x02\x00\x41\x03\x0b\x00\x01\x00", 110},
		{"\x01\x04\x41\x01\x0b\x03\xd2\x00\x0b\xd0\x70\x0b\xd2\x00\x0b", 20},
		{"\x01\x06\x00\x41\x01\x0b\x70\x03\xd2\x01\x0b\xd0\x70\x0b\xd2\x00\x0b", 110},
		{"\x02\x00\x41\x00\x0b\x04\x00\x00\x00\x00\x04\x41\x03\x0b\x01\xd0\x70\x0b", 0}, // a null over a function
		{"\x03\x03\x00\x01\x01\x07\x70\x01\xd2\x01\x0b\x00\x41\x01\x0b\x03\x00\x00\x00", 20},
	} {
		o := both(t, module(test.elements), newHost(), "run", nil, 1_000_000)
		if test.want == 0 && o.Status != ledger.Trapped || test.want != 0 && (o.Status != ledger.Aborted || o.Code != test.want) {
			t.Errorf("elements %x: %v %d, want %d: %s", test.elements, o.Status, o.Code, test.want, o.Trace)
		}
	}
}

// TestImportNames wants a short refusal of an import or export with a long name.
func TestImportNames(t *testing.T) {
	name := strings.Repeat("x", MaxName+1)
	for _, i := range [][3]string{{name, "get", ":"}, {abiModule, name, ":"}} {
		a := newAssembler()
		a.imports = append(a.imports, i)
		_, err := newVM(t, Interpreter).Check(a.fn("run", ":i", "", "i32.const 0").build())
		if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), "257 bytes of an import's name at offset") || len(err.Error()) > 200 {
			t.Errorf("%.300v", err)
		}
	}
}

// TestActiveSegment wants no module that copies from an active data segment. The specification drops those when a module is instantiated, so
// that the copy traps, and V8 does so. wazero keeps them.
func TestActiveSegment(t *testing.T) {
	for segment, want := range []string{"", "memory.init of data segment 1, which is active"} {
		a := newAssembler()
		a.passive = []string{"passive"}
		a.data = map[uint32]string{16: "active"}
		a.use("sched_yield")
		code := a.fn("run", ":i", "", fmt.Sprintf("i32.const 100 i32.const 0 i32.const 4 memory.init %d i32.const 0", segment)).build()
		_, err := newVM(t, Interpreter).Check(code)
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrModule) || !strings.Contains(err.Error(), want)) {
			t.Errorf("segment %d: %v, want %q", segment, err, want)
		}
	}
	t.Run("wazero still keeps them", func(t *testing.T) {
		a := newAssembler()
		a.passive = []string{"passive"}
		a.data = map[uint32]string{16: "active"}
		code := a.fn("run", ":i", "", "i32.const 100 i32.const 0 i32.const 4 memory.init 1 i32.const 100 i32.load8_u 0").build()
		for _, e := range []Engine{Compiler, Interpreter} {
			r := newSpecRun(t, e)
			defer r.runtime.Close(t.Context())
			if err := r.instantiate(t.Context(), code); err != nil {
				t.Fatal(err)
			}
			if out, err := r.module.ExportedFunction("run").Call(t.Context()); err != nil || out[0] != 'a' {
				t.Errorf("%s: %v, %v; if it traps now, a new version of the validator can admit such modules", e, out, err)
			}
		}
	})
}
