package wasmvm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

var rewriteGoldens = flag.Bool("rewrite", false, "write the golden files anew")

// TestABI holds the host functions to the table that the contract SDKs are made from.
func TestABI(t *testing.T) {
	raw, err := os.ReadFile("../sdk-contracts/abi.json")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("sdk-contracts/abi.json is missing")
	}
	if err != nil {
		t.Fatal(err)
	}
	var abi struct {
		Module    string
		Functions []struct {
			Name   string
			Params []struct{ Type string }
			Result string
		}
		Statuses map[string]int    `json:"call_status"`
		Hashes   map[string]int    `json:"hashes"`
		Signs    map[string]int    `json:"signatures"`
		Attrs    map[string]int    `json:"attributes"`
		Flags    map[string]int    `json:"call_flags"`
		Scans    map[string]int    `json:"scan_flags"`
		Limits   map[string]uint64 `json:"limits"`
	}
	if err := json.Unmarshal(raw, &abi); err != nil {
		t.Fatal(err)
	}
	if abi.Module != abiModule {
		t.Errorf("module %q, want %q", abi.Module, abiModule)
	}
	here := 0
	for _, f := range functions {
		if f.module == abiModule {
			here++
		}
	}
	if here != len(abi.Functions) {
		t.Errorf("%d host functions here, %d in abi.json", here, len(abi.Functions))
	}
	for _, f := range abi.Functions {
		var types []string
		for _, p := range f.Params {
			types = append(types, p.Type)
		}
		want := "(" + strings.Join(types, ", ") + ") -> (" + f.Result + ")"
		if got, ok := signature(abiModule, f.Name); !ok || got.String() != want {
			t.Errorf("%s is %v here, %s in abi.json", f.Name, got, want)
		}
	}
	for name, o := range map[string]Outcome{
		"ok": {Status: ledger.OK}, "trapped": {Status: ledger.Trapped}, "out_of_gas": {Status: ledger.OutOfGas}, "reentry": {Status: ledger.Denied, Code: DeniedReentry},
		"not_found": {Status: ledger.NotFound}, "denied": {Status: ledger.Denied, Code: 100}, "out_of_depth": {Status: ledger.OutOfDepth},
		"bad_output": {Status: ledger.BadOutput}, "out_of_memory": {Status: ledger.OutOfMemory},
	} {
		if want, ok := abi.Statuses[name]; !ok || int(callStatus(o)) != want {
			t.Errorf("call status %s is %d here, %d in abi.json", name, callStatus(o), want)
		}
	}
	numbers := func(what string, theirs, ours map[string]int) {
		for name, n := range ours {
			if theirs[name] != n {
				t.Errorf("%s %s is %d here, %d in abi.json", what, name, n, theirs[name])
			}
		}
	}
	numbers("hash", abi.Hashes, map[string]int{"sm3": hashSM3, "sha256": hashSHA256, "keccak256": hashKeccak256})
	numbers("signature", abi.Signs, map[string]int{"sm2": verifySM2, "ed25519": verifyEd25519, "p256": verifyP256})
	numbers("attribute", abi.Attrs, map[string]int{"institution": int(AttributeInstitution), "roles": int(AttributeRoles), "serial": int(AttributeSerial), "kyc": int(AttributeKYC)})
	numbers("call flag", abi.Flags, map[string]int{"read_only": int(CallReadOnly), "allow_reentry": int(CallReentry), "by_name": int(CallByName)})
	numbers("scan flag", abi.Scans, map[string]int{"reverse": scanReverse, "keys_only": scanKeysOnly})
	for name, n := range map[string]uint64{"key_bytes": MaxKey, "value_bytes": MaxValue, "events": MaxEvents, "event_bytes": MaxEventBytes, "output_bytes": MaxOutput, "nesting": ledger.MaxNesting, "elements": ledger.MaxElements} {
		if abi.Limits[name] != n {
			t.Errorf("limit %s is %d here, %d in abi.json", name, n, abi.Limits[name])
		}
	}
}

func TestCheck(t *testing.T) {
	v := newVM(t, Interpreter)
	repeat := strings.Repeat
	for _, test := range []struct {
		name string
		code []byte
		want string
	}{
		{"nothing", nil, "not a WebAssembly module of version 1"},
		{"garbage", bytes.Repeat([]byte{0xff}, 100), "not a WebAssembly module"},
		{"1,000 locals and 500 nested loops", method(repeat("l", 1000), repeat("loop _ ", 500)+repeat("end ", 500)+"i32.const 0"), "257 parameters and locals of a function in function 0 <run> at offset"},
		{"500 nested loops", method("l", repeat("loop _ ", 500)+repeat("end ", 500)+"i32.const 0"), "17 nested loops in function 0 <run> at offset 0x"},
		{"2,000 nested blocks", method("", repeat("block _ ", 2000)+repeat("end ", 2000)+"i32.const 0"), "1025 nested blocks in function 0 <run>"},
		{"10,000 blocks", method("", repeat("block _ end ", 10000)+"i32.const 0"), "4097 blocks and branches of a function"},
		{"255 locals and 300 blocks", method(repeat("l", 255), repeat("block _ end ", 300)+"i32.const 0"), "76755 locals × blocks of a function in function 0 <run>"},
		{"a sum of locals and blocks over functions", func() []byte {
			a := newAssembler()
			for range 60 {
				a.fn("", ":", repeat("l", 80), "loop _ loop _ "+repeat("block _ end ", 700)+"end end")
			}
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "of locals × blocks × (1 + nested loops), summed over functions, in function 49"},
		{"a br_table of 5,000 targets", method("", "block _ i32.const 0 br_table 5000 "+repeat("0 ", 5001)+"end i32.const 0"), "5000 targets of a br_table in function 0 <run>"},
		{"a body of 200 KB", method("", repeat("nop ", 200_000)+"i32.const 0"), "bytes of a function in function 0"},
		{"floats in the strict profile", method("", "f64.const 0 f64.const 0 f64.add drop i32.const 0"), "f64.const: the strict profile has no floating point; declare the profile std in the schema in function 0 <run> at offset 0x"},
		{"an unknown import", func() []byte {
			a := newAssembler()
			a.imports = append(a.imports, [3]string{"env", "abort", "iiii:"})
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "import env.abort: only fondaco_v1, and with the profile std the ten functions"},
		{"an unknown host function", func() []byte {
			a := newAssembler()
			a.imports = append(a.imports, [3]string{abiModule, "transfer", ":"})
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "import fondaco_v1.transfer: no such function"},
		{"a host function of another type", func() []byte {
			a := newAssembler()
			a.imports = append(a.imports, [3]string{abiModule, "get", "ii:i"})
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "import fondaco_v1.get has the type (i32, i32) -> (i32), want (i32, i32, i32, i32) -> (i32)"},
		{"a reserved export", newAssembler().fn(gasExport, ":i", "", "i32.const 0").build(), `the name of export "__gas" is reserved`},
		{"another version of the ABI", newAssembler().fn("fondaco_abi_2", ":", "", "").build(), "export fondaco_abi_2: this chain offers fondaco_abi_1"},
		{"too much memory", func() []byte {
			a := newAssembler()
			a.memory = []uint32{65}
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "65 initial pages of memory"},
		{"_initialize with a loop", newAssembler().fn(initializer, ":", "", "loop _ br 0 end").build(), "_initialize ended with"},
		{"_initialize reads state", func() []byte {
			a := newAssembler()
			return a.fn(initializer, ":", "", fmt.Sprintf("i32.const 0 i32.const 1 call %d drop", a.use("has"))).build()
		}(), "_initialize must not call has"},
		{"data beyond memory", func() []byte {
			a := newAssembler()
			a.data = map[uint32]string{65_535: "ab"}
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "a data segment goes to byte 65537 of a memory of 1 pages at offset 0x"},
		{"operands of another type", method("", "i64.const 0"), "an operand is i64, want i32 in function 0 <run>"},
		{"a vector instruction", bytes.Replace(method("", "i32.const 77 drop i32.const 0"), []byte{0x41, 0xcd, 0x00}, []byte{0xfd, 0x0c, 0x00}, 1), "a vector instruction is not part of the ABI in function 0 <run>"},
		{"a schema that is none", func() []byte {
			a := newAssembler()
			a.schema = []byte{0x80}
			return a.fn("run", ":i", "", "i32.const 0").build()
		}(), "section fondaco.schema"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := v.Check(test.code)
			if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	t.Run("the start of a module at every length", func(t *testing.T) {
		code := golden()
		for n := range code {
			if n == len(code)-12 {
				continue // before the data section, the module is whole
			}
			if _, err := v.Check(code[:n]); !errors.Is(err, ErrModule) {
				t.Errorf("%d of %d bytes: %v", n, len(code), err)
			}
		}
	})
	t.Run("a schema", func(t *testing.T) {
		schema := ledger.Schema{ABI: 1, Name: "counter", Version: "1.0.0", Profile: "strict", Methods: []ledger.Method{{Name: "run", Kind: ledger.MethodTx}}}
		section, err := schema.Encode()
		if err != nil {
			t.Fatal(err)
		}
		a := newAssembler()
		a.schema = section
		info, err := v.Check(a.fn("run", ":i", "", "i32.const 0").build())
		if err != nil || info.Schema.Name != "counter" || !slices.Equal(info.Methods, []string{"run"}) || info.Profile != "strict" || !bytes.Equal(info.Section, section) {
			t.Errorf("%+v, %v", info, err)
		}
		a = newAssembler()
		a.schema = section
		if _, err := v.Check(a.fn("walk", ":i", "", "i32.const 0").build()); err == nil || !strings.Contains(err.Error(), "method run of the schema is not exported") {
			t.Errorf("%v", err)
		}
		a = newAssembler()
		a.schema = section
		random := a.use("rand")
		if _, err := v.Check(a.fn("run", ":i", "", fmt.Sprintf("i32.const 0 i32.const 1 call %d i32.const 0", random)).build()); err == nil || !strings.Contains(err.Error(), "does not say random") {
			t.Errorf("%v", err)
		}
	})
}

// golden is a module with everything that the rewriter treats.
func golden() []byte { return goldenOf(newAssembler()) }

func goldenOf(a *assembler) []byte {
	a.use("sched_yield")
	get := a.use("get")
	a.globals = []byte("il")
	a.table = []uint32{2, 3}
	a.data = map[uint32]string{16: "data"}
	a.fn("run", ":i", "ild", fmt.Sprintf(`
		i32.const 0 i32.const 1 i32.const 2 i32.const 3 call %d local.set 0
		block _ local.get 0 i32.eqz br_if 0 loop _ local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end i32.const 7 i32.const 3 i32.and drop end
		local.get 0 if i local.get 0 i32.popcnt return else i32.const 1 end drop
		local.get 1 f64.convert_i64_u local.get 2 f64.add local.set 2
		i32.const 1 memory.grow drop i32.const 0 i32.const 1 i32.const 2 memory.copy i32.const 0 i32.const 1 i32.const 2 memory.fill
		block _ block _ local.get 0 br_table 1 0 1 end end
		i32.const 5 i32.const 1 call_indirect i:il drop`, get))
	a.fn("", "i:il", "", "local.get 0 i64.const 1")
	return a.build()
}

func TestRewriteGolden(t *testing.T) {
	costs, err := newCosts(1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeModule(golden(), 512)
	if err != nil {
		t.Fatal(err)
	}
	w, err := rewrite(m, costs, false)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "rewrite-1.wasm")
	if *rewriteGoldens {
		if err := os.WriteFile(file, w.code, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.code, want) {
		t.Errorf("version 1 of the rewriter makes other bytes than it did: a chain's history would not be executed alike. "+
			"Changes need a new version.\ngot  %x\nwant %x", w.code, want)
	}
}

func TestCanonical(t *testing.T) {
	for _, test := range []struct {
		data string
		want bool
	}{
		{"\x00", true},
		{"\x17", true},
		{"\x18\x18", true},
		{"\x18\x17", false},
		{"\x19\x00\xff", false},
		{"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", false},
		{"\x1b\x00\x00\x00\x01\x00\x00\x00\x00", true},
		{"\x20", true},
		{"\x42ab", true},
		{"\x42a", false},
		{"\x62\xff\xff", false},
		{"\x82\x01\x02", true},
		{"\x82\x01", false},
		{"\x80\x00", false},
		{"\x9f\xff", false},
		{"\xa2\x01\x00\x02\x00", true},
		{"\xa2\x02\x00\x01\x00", false},
		{"\xa2\x01\x00\x01\x00", false},
		{"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", true},
		{"\xc2\x49\x00\x01\x00\x00\x00\x00\x00\x00\x00", false},
		{"\xc2\x48\x01\x00\x00\x00\x00\x00\x00\x00", false},
		{"\xf4", true},
		{"\xf6", true},
		{"\xf7", false},
		{"\xf9\x00\x00", false},
		{"\xfb\x00\x00\x00\x00\x00\x00\x00\x00", false},
		{strings.Repeat("\x81", 32) + "\x00", true},
		{strings.Repeat("\x81", 33) + "\x00", false},
		{"", false},
	} {
		if got := canonical([]byte(test.data)); got != test.want {
			t.Errorf("canonical(%x) = %v, want %v", test.data, got, test.want)
		}
	}
}

// FuzzCanonical wants of canonical what ledger.Unmarshal says of data without a type, but for what that has types of its own for: floats,
// simple values, times, and keys of maps that are no Go keys.
func FuzzCanonical(f *testing.F) {
	for _, data := range []string{
		"\x00", "\x18\x18", "\x18\x17", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "\x42ab", "\x62\xff\xff", "\x82\x01\x82\x20\xf6", "\x9f\xff", "\xf7", "\xe0",
		"\xa2\x01\x00\x41a\xf5", "\xa2\x02\x00\x01\x00", "\xa1\x80\x00", "\xa1\x3b\xf6\xc0\xc0\x30\xc0\xc0\x40\x12\x00", "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", "\xc3\x49\x00\x01\x00\x00\x00\x00\x00\x00\x00",
		"\xc1\x01", "\xd8\x40\x81\x01", "\xf9\x00\x00", strings.Repeat("\x81", 32) + "\x00", strings.Repeat("\x81", 33) + "\x00",
		strings.Repeat("\x81", 31) + "\x80", strings.Repeat("\x81", 32) + "\x80", strings.Repeat("\x81", 32) + "\xa0", strings.Repeat("\x81", 32) + "\xc1\x80",
	} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		err := ledger.Unmarshal(data, &v)
		got := canonical(data)
		if got && err != nil && !untyped(data) || !got && err == nil && !foreign(v) {
			t.Errorf("canonical(%x) = %v, ledger.Unmarshal: %v %v", data, got, v, err)
		}
	})
}

// foreign reports whether a value holds floats or what only the codec has types for.
func foreign(v any) bool {
	switch v := v.(type) {
	case nil, bool, uint64, int64, string, []byte, big.Int:
		return false
	case []any:
		return slices.ContainsFunc(v, foreign)
	case map[any]any:
		for key, value := range v {
			if foreign(key) || foreign(value) {
				return true
			}
		}
		return false
	default:
		return !strings.Contains(fmt.Sprintf("%T", v), "ByteString") // a key of bytes
	}
}

// untyped reports whether canonical data holds a tag, or a map with a key that is a container or below all of int64:
// without a type to read into, the codec does not take these.
func untyped(data []byte) bool {
	for len(data) > 0 {
		major, n, rest, err := head(data)
		switch {
		case err != nil || major == 6:
			return true
		case major == 2 || major == 3:
			rest = rest[n:]
		case major == 5:
			for at := rest; n > 0; n-- {
				if at[0]>>5 == 4 || at[0]>>5 == 5 || at[0] == 0x3b && at[1] >= 0x80 {
					return true
				}
				for range 2 {
					if at, err = skip(at, 0); err != nil {
						return true
					}
				}
			}
		}
		data = rest
	}
	return false
}

// FuzzDecode feeds the decoder, the validator and the rewriter. What they admit, both engines must accept.
func FuzzDecode(f *testing.F) {
	f.Add(golden())
	f.Add(method("il", "loop _ br 0 end i32.const 0"))
	f.Add(method("", "block i i32.const 0 i32.const 1 br_table 1 0 0 end"))
	for _, long := range []bool{false, true} {
		for _, code := range forms(long) {
			f.Add(code)
		}
	}
	for _, names := range hostileNames {
		f.Add(nameSection(names.section))
	}
	for _, file := range specFiles(f, "v2/testdata/*.wasm") {
		code, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(code) < 1_000 {
			f.Add(code)
		}
	}
	costs := versionOne(f)
	engines := [...]*specRun{newSpecRun(f, Interpreter), newSpecRun(f, Compiler)}
	f.Cleanup(func() {
		for _, e := range engines {
			e.runtime.Close(context.Background())
		}
	})
	f.Fuzz(func(t *testing.T, code []byte) {
		m, err := decodeModule(code, 512)
		if err != nil {
			if !errors.Is(err, ErrModule) {
				t.Fatalf("%v is not ErrModule", err)
			}
			return
		}
		if slices.ContainsFunc(m.imports, func(i funcImport) bool { return i.module == "" }) {
			return // describe refuses it
		}
		w, err := rewrite(m, costs, false)
		if err != nil {
			if !errors.Is(err, ErrModule) {
				t.Fatalf("%v is not ErrModule", err)
			}
			return
		}
		for _, e := range engines {
			if e == engines[1] && len(w.code) > 4_000 {
				continue // takes the compiler too long
			}
			compiled, err := e.runtime.CompileModule(t.Context(), w.code)
			if err != nil {
				t.Fatalf("the rewriter admits what an engine refuses: %v", err)
			}
			if err := compiled.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
