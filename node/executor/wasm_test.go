package executor

import (
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// A small assembler for test contracts: the tests need contracts that misbehave in ways that no SDK lets
// them.

// hostFunction is an import with its type.
type hostFunction struct {
	name string
	typ  string // parameters and, after >, the result: i is i32, l is i64
}

var hostFunctions = []hostFunction{
	{"input_read", "iii>i"},
	{"output", "ii>"},
	{"abort", "iii>"},
	{"result_read", "iii>i"},
	{"ctx", "ii>i"},
	{"caller_attr", "iii>i"},
	{"get", "iiii>i"},
	{"set", "iiii>"},
	{"del", "ii>"},
	{"add", "iilll>i"},
	{"emit", "iiii>"},
	{"call", "iiiiiili>i"},
	{"rand", "ii>"},
	{"log", "iii>"},
	{"scan", "iiiiii>i"},
	{"scan_next", "iii>i"},
	{"scan_close", "i>"},
	{"hash", "iiiii>i"},
	{"verify", "iiiiiii>i"},
	{"has", "ii>i"},
	{"gas_left", ">l"},
}

// body is the code of a method, without the locals and the final end.
type body []byte

func join(parts ...body) body {
	var all body
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func i32(n int) body   { return append(body{0x41}, sleb(int64(n))...) }
func i64(n int64) body { return append(body{0x42}, sleb(n)...) }

// host calls a host function with the operands.
func hostCall(name string, operands ...body) body {
	for i, f := range hostFunctions {
		if f.name == name {
			return append(join(operands...), append(body{0x10}, uleb(i)...)...)
		}
	}
	panic("no host function " + name)
}

var (
	drop        = body{0x1a}
	unreachable = body{0x00}
	succeed     = i32(0)
)

// forever repeats a body without end.
func forever(b body) body {
	return join(body{0x03, 0x40}, b, body{0x0c, 0x00, 0x0b}, unreachable)
}

// times repeats a body n times, counting in memory at address 60,000.
func times(n int, b body) body {
	load := join(i32(60_000), body{0x28, 0x02, 0x00})
	store := func(v body) body { return join(i32(60_000), v, body{0x36, 0x02, 0x00}) }
	return join(store(i32(n)), body{0x03, 0x40}, b, store(join(load, i32(1), body{0x6b})), load, body{0x0d, 0x00, 0x0b})
}

// assembler collects a module's methods and constants.
type assembler struct {
	methods []string
	bodies  []body
	data    []byte // at address 1024
	pages   byte   // of memory; 0: 1
}

// text puts bytes into memory and returns pointer and length as two operands.
func (a *assembler) text(s string) body {
	at := 1024 + len(a.data)
	a.data = append(a.data, s...)
	return join(i32(at), i32(len(s)))
}

// method adds an export. The code leaves an i32.
func (a *assembler) method(name string, code ...body) {
	a.methods = append(a.methods, name)
	a.bodies = append(a.bodies, join(code...))
}

// module returns the module, with a schema section unless schema is nil.
func (a *assembler) module(tb testing.TB, schema *ledger.Schema) []byte {
	tb.Helper()
	var types, imports, functions, exports, code []byte
	typeOf := map[byte]byte{'i': 0x7f, 'l': 0x7e}
	for i, f := range hostFunctions {
		var params, results []byte
		target := &params
		for _, c := range []byte(f.typ) {
			if c == '>' {
				target = &results
				continue
			}
			*target = append(*target, typeOf[c])
		}
		types = append(types, 0x60)
		types = append(types, vector(len(params), params)...)
		types = append(types, vector(len(results), results)...)
		imports = append(imports, vector(10, []byte("fondaco_v1"))...)
		imports = append(imports, vector(len(f.name), []byte(f.name))...)
		imports = append(append(imports, 0x00), uleb(i)...)
	}
	method, marker := len(hostFunctions), len(hostFunctions)+1
	types = append(types, 0x60, 0, 1, 0x7f, 0x60, 0, 0)
	functions = append(functions, uleb(marker)...)
	code = append(code, vector(2, []byte{0, 0x0b})...)
	export := func(name string, kind byte, index int) {
		exports = append(exports, vector(len(name), []byte(name))...)
		exports = append(append(exports, kind), uleb(index)...)
	}
	export("memory", 2, 0)
	export("fondaco_abi_1", 0, len(hostFunctions))
	for i, name := range a.methods {
		functions = append(functions, uleb(method)...)
		export(name, 0, len(hostFunctions)+1+i)
		b := append(append([]byte{0}, a.bodies[i]...), 0x0b)
		code = append(code, vector(len(b), b)...)
	}
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, content []byte) { out = append(append(out, id), vector(len(content), content)...) }
	section(1, vector(len(hostFunctions)+2, types))
	section(2, vector(len(hostFunctions), imports))
	section(3, vector(len(a.methods)+1, functions))
	section(5, []byte{1, 0, max(a.pages, 1)})
	section(7, vector(len(a.methods)+2, exports))
	section(10, vector(len(a.methods)+1, code))
	if len(a.data) > 0 {
		section(11, append([]byte{1, 0, 0x41, 0x80, 0x08, 0x0b}, vector(len(a.data), a.data)...))
	}
	if schema != nil {
		encoded, err := schema.Encode()
		if err != nil {
			tb.Fatal(err)
		}
		section(0, append(vector(len(ledger.SchemaSection), []byte(ledger.SchemaSection)), encoded...))
	}
	return out
}

// vector puts a count before content.
func vector(n int, content []byte) []byte { return append(uleb(n), content...) }

func uleb(n int) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func sleb(n int64) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}
