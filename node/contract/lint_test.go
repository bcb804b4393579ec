package contract

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Host functions that the modules of these tests import, in this order, so that their numbers are their indexes.
const (
	hostGet = iota
	hostSet
	hostCall
	hostScan
	hostScanNext
	hostEmit
	hostCount
)

// An assembled function: its signature, the name of its export, and its code without the last end.
type function struct {
	params, results int // i32
	export          string
	code            []byte
}

// assembled makes a module with the ABI's exports of functions, which come after the host functions; the marker is the last.
func assembled(text string, pages byte, functions []function, data string) []byte {
	section := func(out []byte, id byte, entries [][]byte) []byte {
		body := binary.AppendUvarint(nil, uint64(len(entries)))
		for _, e := range entries {
			body = append(body, e...)
		}
		return append(binary.AppendUvarint(append(out, id), uint64(len(body))), body...)
	}
	word := func(s string) []byte { return append(binary.AppendUvarint(nil, uint64(len(s))), s...) }
	i32s := func(n int) []byte {
		return append(binary.AppendUvarint(nil, uint64(n)), slices.Repeat([]byte{0x7f}, n)...)
	}

	functions = append(functions, function{export: "fondaco_abi_1"})
	callType := append([]byte{0x60, 8}, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7e, 0x7f, 1, 0x7f)
	var types, imports, defined, bodies [][]byte
	for _, host := range []struct {
		name            string
		params, results int
	}{{"get", 4, 1}, {"set", 4, 0}, {"call", 8, 1}, {"scan", 6, 1}, {"scan_next", 3, 1}, {"emit", 4, 0}} {
		imports = append(imports, slices.Concat(word("fondaco_v1"), word(host.name), []byte{0, byte(len(types))}))
		if host.name == "call" {
			types = append(types, callType)
			continue
		}
		types = append(types, slices.Concat([]byte{0x60}, i32s(host.params), i32s(host.results)))
	}
	exports := [][]byte{append(word("memory"), 2, 0)}
	for i, f := range functions {
		defined = append(defined, []byte{byte(len(types))})
		types = append(types, slices.Concat([]byte{0x60}, i32s(f.params), i32s(f.results)))
		if f.export != "" {
			exports = append(exports, append(word(f.export), 0, byte(hostCount+i)))
		}
		code := slices.Concat([]byte{1, 2, 0x7f}, f.code, []byte{0x0b}) // two locals of i32
		bodies = append(bodies, append(binary.AppendUvarint(nil, uint64(len(code))), code...))
	}
	code := []byte(wasmHeader)
	code = section(code, 1, types)
	code = section(code, 2, imports)
	code = section(code, 3, defined)
	code = section(code, 5, [][]byte{{0, pages}})
	code = section(code, 7, exports)
	code = section(code, 10, bodies)
	code = section(code, 11, [][]byte{append(append(appendSignedLEB([]byte{0, 0x41}, dataAt), 0x0b), word(data)...)})
	return appendSection(code, interfaceSection, []byte("contract flawed 1\n"+text))
}

// dataAt is the address of the data of assembled modules.
const dataAt = 1024

// Instructions.
func block(code ...[]byte) []byte {
	return seq(append(append([][]byte{{0x02, 0x40}}, code...), []byte{0x0b})...)
}

func scanNext() []byte       { return seq(getLocal(0), number(0), number(0), call(hostScanNext), drop()) }
func call(n byte) []byte     { return []byte{0x10, n} }
func number(v int64) []byte  { return appendSignedLEB([]byte{0x41}, v) }
func setLocal(n byte) []byte { return []byte{0x21, n} }
func getLocal(n byte) []byte { return []byte{0x20, n} }
func loop(code ...[]byte) []byte {
	return slices.Concat(append([][]byte{{0x03, 0x40}}, append(code, []byte{0x0b})...)...)
}
func seq(code ...[]byte) []byte { return slices.Concat(code...) }
func drop() []byte              { return []byte{0x1a} }
func read(address int64) []byte {
	return seq(number(address), number(3), number(0), number(0), call(hostGet), drop())
}

func write(address int64) []byte {
	return seq(number(address), number(3), number(0), number(0), call(hostSet))
}

func openScan() []byte {
	return seq(number(0), number(0), number(0), number(0), number(0), number(9), call(hostScan))
}

func callOther() []byte {
	return seq(slices.Repeat(number(0), 6), []byte{0x42, 0}, number(0), call(hostCall))
}

func export(name string, code ...[]byte) function {
	return function{0, 1, name, seq(append(code, number(0))...)}
}

func TestLint(t *testing.T) {
	const first = hostCount // index of the first function
	for name, tc := range map[string]struct {
		text      string
		functions []function
		data      string
		pages     byte
		want      []string // beginnings of the warnings, in order
	}{
		"nothing to say": {
			"tx put()\nview see() -> u8\nstate bal -> u8",
			[]function{export("put", write(dataAt)), export("see", read(dataAt))},
			"bal", 2, nil,
		},
		"a tx that writes nothing": {
			"tx see()",
			[]function{export("see", read(dataAt))},
			"bal", 2,
			[]string{"not-a-view: see: the method writes, emits and calls nothing: declare it a view"},
		},
		"a tx that writes through a helper": {
			"tx put()", []function{export("put", call(first+1)), {code: write(dataAt)}}, "bal", 2, nil,
		},
		"a view that writes through a helper": {
			"view see()",
			[]function{export("see", call(first+1)), {code: write(dataAt)}},
			"bal", 2,
			[]string{"view-writes: see: the view can reach the host function set, which a read-only call is denied"},
		},
		"a scan in a loop": {
			"tx put()\nview all()",
			[]function{export("put", write(dataAt)), export("all", loop(openScan(), drop()))},
			"bal", 2,
			[]string{"scan-in-loop: all: each turn of a loop opens a scan"},
		},
		"a scan in a loop, in a helper": {
			"view all()",
			[]function{export("all", loop(call(first+1), drop())), {0, 1, "", openScan()}},
			"bal", 2,
			[]string{"scan-in-loop: all: "},
		},
		"a scan before a loop": {
			"view all()", []function{export("all", openScan(), setLocal(0), loop(scanNext()))}, "bal", 2, nil,
		},
		"an iterator that opens its scan with the first pair": {
			"view all()", []function{export("all", loop(block(openScan(), drop()), scanNext()))}, "bal", 2, nil,
		},
		"such an iterator in a helper": {
			"view all()", []function{export("all", loop(call(first+1), drop())), {0, 1, "", seq(block(openScan(), drop()), scanNext(), number(0))}}, "bal", 2, nil,
		},
		"a loop over pages": {
			"view all()", []function{export("all", loop(block(openScan(), drop(), loop(scanNext()))))}, "bal", 2, []string{"scan-in-loop: all: "},
		},
		"a loop over a helper that reads a page": {
			"view all()",
			[]function{export("all", loop(call(first+1), drop())), {0, 1, "", seq(openScan(), drop(), loop(scanNext()), number(0))}},
			"bal", 2,
			[]string{"scan-in-loop: all: "},
		},
		"a scan in a loop that no method reaches": {
			"view all()", []function{export("all"), {code: loop(openScan(), drop())}}, "bal", 2, nil,
		},
		"a status that is dropped": {
			"tx pay()",
			[]function{export("pay", callOther(), drop())},
			"bal", 2,
			[]string{"unchecked-call: pay: the status of a call to another contract is not looked at"},
		},
		"a status in a variable that nothing reads": {
			"tx pay()", []function{export("pay", callOther(), setLocal(1))}, "bal", 2, []string{"unchecked-call: pay: "},
		},
		"a helper's status that is dropped": {
			"tx pay()", []function{export("pay", call(first+1), drop()), {0, 1, "", callOther()}}, "bal", 2, []string{"unchecked-call: pay: "},
		},
		"a status that is looked at": {
			"tx pay()", []function{export("pay", callOther(), setLocal(1), getLocal(1), drop())}, "bal", 2, nil,
		},
		"state that nothing writes": {
			"tx put()\nview see()\nstate bal(u8) -> u8\nstate lost(u8) -> u8",
			[]function{export("put", write(dataAt)), export("see", read(dataAt+4))},
			"bal\x00lost", 2,
			[]string{`never-written: see: the state "lost" is read, and no method that refers to it writes anything`},
		},
		"state behind a pointer that nothing writes": {
			"tx put()\nview see()\nstate lost -> u8",
			[]function{export("put", write(dataAt+8)), export("see", number(dataAt+4), drop())},
			"lost\x00\x04\x00\x00other", 2,
			[]string{`never-written: see: the state "lost"`},
		},
		"state whose name is written as a number": {
			"tx put()\nview see()\nstate lost -> u8",
			[]function{export("put", number(int64(binary.LittleEndian.Uint32([]byte("lost")))), drop(), write(dataAt)), export("see", read(dataAt))},
			"lost", 2, nil,
		},
		"floats": {
			"profile std\nview see()",
			[]function{export("see", []byte{0x43, 0, 0, 0, 0}, drop())},
			"bal", 2,
			[]string{"floats: see: f32.const: floating point is slow here"},
		},
		"much memory": {
			"view see()",
			[]function{export("see")},
			"bal", 60,
			[]string{"memory: the memory starts with 60 pages of 64 KiB", "near-limit: 60 initial pages of memory, of 64 that nodes admit"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := finish(assembled(tc.text, tc.pages, tc.functions, tc.data), ledger.Build{Language: "c"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Check(t.Context(), b.Code); err != nil {
				t.Fatal(err)
			}
			warnings, err := Lint(b.Code, b.Names)
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != len(tc.want) {
				t.Fatalf("warnings %v, want %q", warnings, tc.want)
			}
			for i, w := range warnings {
				if !strings.HasPrefix(w.String(), tc.want[i]) {
					t.Errorf("warning %q, want %q", w, tc.want[i])
				}
				if w.Rule == RuleScan && (w.Offset == 0 || w.Function == "") {
					t.Errorf("the warning names no place: %+v", w)
				}
			}
		})
	}
}

func TestLintGo(t *testing.T) {
	b := build(t, "../../examples/token")
	warnings, err := Lint(b.Code, b.Names)
	if err != nil || len(warnings) > 0 {
		t.Errorf("the example has warnings: %v, %v", warnings, err)
	}
	b = build(t, "testdata/flaws")
	if warnings, err = Lint(b.Code, b.Names); err != nil {
		t.Fatal(err)
	}
	more, err := LintSource(t.Context(), "testdata/flaws", b.Code)
	if err != nil {
		t.Fatal(err)
	}
	warnings = append(warnings, more...)
	want := []string{
		"floats: average: f64.", "floats: average: f64.", "not-a-view: size: the method writes, emits and calls nothing", "view-writes: peek: the view can reach the host function set",
		"never-written: average, size: the state \"total\" is read", "scan-in-loop: sum: ", "scan-in-loop: sum: ", "scan-in-loop: sum: ", "unchecked-call: pay: ", "unchecked-call: ask: ",
	}
	for i, w := range warnings {
		if i >= len(want) || !strings.HasPrefix(w.String(), want[i]) {
			t.Errorf("warning %d is %q, want %q", i, w, want)
		}
	}
	if len(warnings) != len(want) {
		t.Errorf("%d warnings, want %d", len(warnings), len(want))
	}
	if place := more[len(more)-1].Place; !strings.HasPrefix(place, "flaws.go:") {
		t.Errorf("the warning names the place %q", place)
	}
	if warnings, err = Lint(b.Code, nil); err != nil || len(warnings) > 0 {
		t.Errorf("without names: %v, %v, want no guesses", warnings, err)
	}
	for _, dir := range []string{"../../examples/token", "testdata", t.TempDir()} {
		if warnings, err := LintSource(t.Context(), dir, b.Code); !errors.Is(err, ErrNoSource) {
			t.Errorf("with the sources in %s: %v, %v, want ErrNoSource", dir, warnings, err)
		}
	}
}

// TestLintLanguages finds the same flaws in the same contract, in each language of which the module shows them. In C and
// Rust the status is found in a contract of one call only: with more of them it is in memory. For Rust see TestRustProject.
func TestLintLanguages(t *testing.T) {
	for _, tc := range []struct {
		language, source, target string
		need                     func(t *testing.T)
	}{
		{"c", "flawed.c", "flawed.c", needC},
		{"as", "index.ts", "assembly/index.ts", needAS},
	} {
		t.Run(tc.language, func(t *testing.T) {
			tc.need(t)
			dir := filepath.Join(t.TempDir(), "flawed")
			if err := New(dir, "flawed", tc.language); err != nil {
				t.Fatal(err)
			}
			lintFlawed(t, dir, tc.source, tc.target)
		})
	}
}

// lintFlawed puts a source of testdata/flawed into a project, in place of its own, and looks for the flaws.
func lintFlawed(t *testing.T, dir, source, target string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/flawed", source))
	if err != nil {
		t.Fatal(err)
	}
	writeSource(t, filepath.Join(dir, target), string(text))
	b, err := Build(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := Lint(b.Code, b.Names)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, w := range warnings {
		found = append(found, w.Rule+": "+w.Methods)
	}
	want := []string{"never-written: size", "not-a-view: size", "scan-in-loop: sum", "unchecked-call: pay", "view-writes: peek"}
	if !slices.Equal(found, want) {
		t.Errorf("warnings %q, want %q", found, want)
	}
}

func TestAnalyzeLimits(t *testing.T) {
	b, err := finish(assembled("view see()", 2, []function{export("see", loop(loop(number(1), drop())))}, "bal"), ledger.Build{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := wasmvm.Analyze(b.Code)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]wasmvm.LimitUse{}
	for _, u := range a.Limits {
		uses[u.Name] = u
	}
	for name, want := range map[string]uint64{
		"bytes": uint64(len(b.Code)), "functions": 2, "imports": hostCount, "exports": 3, "initial pages of memory": 2, "data segments": 1,
		"nested loops": 2, "nested blocks": 2, "blocks and branches of a function": 5, "parameters and locals of a function": 2, "locals × blocks of a function": 10,
	} {
		if uses[name].Value != want {
			t.Errorf("%s: %d, want %d", name, uses[name].Value, want)
		}
	}
	info, err := Check(t.Context(), b.Code)
	if err != nil || uses["locals × blocks × (1 + nested loops), summed over functions"].Value != info.Weight {
		t.Errorf("complexity %d, the node says %+v, %v", uses["locals × blocks × (1 + nested loops), summed over functions"].Value, info, err)
	}
	if _, err := wasmvm.Analyze([]byte("x")); err == nil {
		t.Error("Analyze takes what is no module")
	}
}

func FuzzLint(f *testing.F) {
	b, err := finish(assembled("view see()\nstate bal -> u8", 2, []function{export("see", loop(openScan(), drop()), callOther(), setLocal(0), read(dataAt))}, "bal"), ledger.Build{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Code, []byte{1, 4, 1, 6, 1, 'x'})
	f.Fuzz(func(_ *testing.T, code, names []byte) {
		_, _ = Lint(code, names)
	})
}
