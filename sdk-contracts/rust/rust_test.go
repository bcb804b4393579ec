package rust_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestABI compares the imports and numbers of the SDK with ../abi.json.
func TestABI(t *testing.T) {
	data, err := os.ReadFile("../abi.json")
	if err != nil {
		t.Fatal(err)
	}
	var abi struct {
		Module     string
		Attributes map[string]int
		ScanFlags  map[string]int `json:"scan_flags"`
		CallFlags  map[string]int `json:"call_flags"`
		CallStatus map[string]int `json:"call_status"`
		Hashes     map[string]int
		Signatures map[string]int
		AbortCodes map[string]int `json:"abort_codes"`
		Limits     map[string]int
		Functions  []struct {
			Name, Result string
			Params       []struct{ Name, Type string }
		}
	}
	if err := json.Unmarshal(data, &abi); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("src", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, imports, found := strings.Cut(read("host.rs"), `wasm_import_module = "`+abi.Module+`"`)
	imports, _, end := strings.Cut(imports, "\n    }\n")
	if !found || !end {
		t.Fatalf("host.rs does not import from %s", abi.Module)
	}
	types := map[string]string{"usize": "i32", "u32": "i32", "i32": "i32", "*const u8": "i32", "*mut u8": "i32", "u64": "i64", "i64": "i64", "": ""}
	have := map[string]string{}
	for _, m := range regexp.MustCompile(`pub fn (\w+)\(([^)]*)\)(?: -> (\w+))?;`).FindAllStringSubmatch(imports, -1) {
		signature := ""
		for _, p := range regexp.MustCompile(`\w+: ([^,]+)`).FindAllStringSubmatch(m[2], -1) {
			signature += types[strings.TrimSpace(p[1])] + " "
		}
		have[m[1]] = signature + "-> " + types[m[3]]
	}
	for _, f := range abi.Functions {
		if f.Name == "recover" { // no chain offers it yet
			continue
		}
		want := ""
		for _, p := range f.Params {
			want += p.Type + " "
		}
		if want += "-> " + f.Result; have[f.Name] != want {
			t.Errorf("import %s is %q, want %q", f.Name, have[f.Name], want)
		}
		delete(have, f.Name)
	}
	for name := range have {
		t.Errorf("%s is imported, and no host function", name)
	}
	contains := func(file, text string) {
		t.Helper()
		if !strings.Contains(read(file), text) {
			t.Errorf("%s lacks %s", file, text)
		}
	}
	for name, code := range abi.AbortCodes {
		if name != "first_of_contract" {
			contains("error.rs", fmt.Sprintf("%s: u32 = %d;", map[string]string{
				"bad_arguments": "ARGUMENTS", "panic": "PANIC", "overflow": "OVERFLOW", "not_found": "NOT_FOUND", "denied": "DENIED", "bad_state": "STATE", "call_failed": "CALL_FAILED",
			}[name], code))
		}
	}
	for name, status := range abi.CallStatus {
		if status != 0 {
			contains("call.rs", fmt.Sprintf("%s: i32 = %d;", strings.ToUpper(name), status))
		}
	}
	for name, flag := range abi.CallFlags {
		contains("call.rs", fmt.Sprintf("%s: u32 = %d;", strings.ToUpper(name), flag))
	}
	for name, number := range abi.Hashes {
		contains("crypto.rs", fmt.Sprintf("pub fn %s(data: &[u8]) -> Hash {\n    Hash(host::hash(%d, data))", name, number))
	}
	for name, number := range abi.Signatures {
		if name != "secp256k1" { // no chain offers it yet
			contains("crypto.rs", fmt.Sprintf("%s = %d,", strings.ToUpper(name[:1])+name[1:], number))
		}
	}
	contains("state.rs", fmt.Sprintf("DESCENDING: u32 = %d;", abi.ScanFlags["reverse"]))
	contains("context.rs", fmt.Sprintf("Option<String> {\n        attribute(%d)", abi.Attributes["institution"]))
	contains("context.rs", fmt.Sprintf("attribute::<Vec<String>>(%d)", abi.Attributes["roles"]))
	contains("cbor.rs", fmt.Sprintf("MAX_NESTING: u32 = %d;", abi.Limits["nesting"]))
	contains("cbor.rs", "MAX_ELEMENTS: u64 = 65_536;")
}

// build builds the contract in a folder, or skips the test on a machine that cannot.
func build(t *testing.T, dir string) *contract.Built {
	t.Helper()
	built, err := contract.Build(t.Context(), dir, "")
	skipWithoutTools(t, err)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func skipWithoutTools(t *testing.T, err error) {
	t.Helper()
	if err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1" && strings.Contains(err.Error(), "apt-get install") {
		t.Skip(err)
	}
}

// TestUnits runs the tests in Rust: the SDK's and those of the contracts.
func TestUnits(t *testing.T) {
	contracts, err := filepath.Glob("contracts/*")
	if err != nil || len(contracts) != 5 {
		t.Fatalf("%d contracts, want 5, %v", len(contracts), err)
	}
	for _, dir := range append(contracts, ".") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var out strings.Builder
			err := contract.Test(t.Context(), dir, &out)
			skipWithoutTools(t, err)
			if err != nil || !strings.Contains(out.String(), "passed") {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// TestInterfaces compares the schemas of the suite's contracts with its interfaces, to the last conflict.
func TestInterfaces(t *testing.T) {
	for _, name := range []string{"token", "escrow", "registry", "multisig", "caller"} {
		t.Run(name, func(t *testing.T) {
			built := build(t, filepath.Join("contracts", name))
			text, err := os.ReadFile(filepath.Join("../suite", name+".interface"))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(text)), "\n")
			slices.Sort(want)
			if got := lines(built.Schema); !slices.Equal(got, want) {
				t.Errorf("the interface is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// lines returns the lines of a schema's interface text, sorted and without documentation.
func lines(s *ledger.Schema) []string {
	fields := func(fields []ledger.Field) string {
		var parts []string
		for _, f := range fields {
			parts = append(parts, f.Name+": "+string(f.Type))
		}
		return strings.Join(parts, ", ")
	}
	all := []string{"contract " + s.Name + " " + s.Version}
	for _, d := range s.Types {
		var variants []string
		for _, v := range d.Variants {
			variants = append(variants, v.Name)
		}
		if variants != nil {
			all = append(all, "enum "+d.Name+"("+strings.Join(variants, ", ")+")")
		} else {
			all = append(all, "struct "+d.Name+"("+fields(d.Fields)+")")
		}
	}
	for _, m := range s.Methods {
		line := string(m.Kind) + " " + m.Name
		if string(m.Kind) == m.Name {
			line = m.Name
		}
		line += "(" + fields(m.Args) + ")"
		if m.Return != "" {
			line += " -> " + string(m.Return)
		}
		if m.Conflicts != nil {
			line += " conflicts " + strings.Join(m.Conflicts, ",")
		}
		all = append(all, line)
	}
	for _, e := range s.Events {
		line := "event " + e.Topic + "(" + fields(e.Fields) + ")"
		if e.Indexed != nil {
			line += " indexed " + strings.Join(e.Indexed, ",")
		}
		all = append(all, line)
	}
	for _, e := range s.Errors {
		all = append(all, fmt.Sprintf("error %d %s(%s)", e.Code, e.Name, fields(e.Fields)))
	}
	for _, e := range s.State {
		line := "state " + strings.TrimSuffix(e.Prefix, "/")
		if len(e.Key) > 0 {
			var parts []string
			for _, part := range e.Key {
				parts = append(parts, string(part))
			}
			line += "(" + strings.Join(parts, ", ") + ")"
		}
		all = append(all, line+" -> "+string(e.Value))
	}
	slices.Sort(all)
	return all
}

// TestShapes passes values of every type through the real module.
func TestShapes(t *testing.T) {
	built := build(t, "testdata/shapes")
	chain := contracttest.NewOn(t, wasmvm.Compiler, append(contracttest.Named("alice"), contracttest.Account{Name: "regulator", Roles: []string{"regulator"}})...)
	shapes := chain.DeployModule("alice", built.Code)
	alice := chain.Address("alice")
	numbers := `{"a":255,"b":65535,"c":4294967295,"d":"18446744073709551615","e":"340282366920938463463374607431768211455","f":-128,"g":-32768,"h":-2147483648,"i":"-9223372036854775808","j":true}`
	zeros := `{"a":0,"b":0,"c":0,"d":"0","e":"0","f":0,"g":0,"h":0,"i":"0","j":false}`
	leg := `{"side":{"sell":{"at":"18446744073709551616","firm":true}},"notes":["å","日本",""]}`
	digest := "0x" + strings.Repeat("5a", 32)
	full := fmt.Sprintf(`{"numbers":%s,"name":"XS0123","blob":"0xff00","digest":"%s","legs":[%s,{"side":"timed_out","notes":[]}],"agent":"%s","spare":%s,"weights":{"b":2,"aa":1},"type":"24"}`, numbers, digest, leg, alice, leg)
	empty := fmt.Sprintf(`{"numbers":%s,"name":"","blob":"0x","digest":"%s","legs":[],"agent":null,"spare":null,"weights":{},"type":"0"}`, zeros, digest)
	long := strings.Replace(empty, `"name":""`, `"name":"`+strings.Repeat("long ", 4000)+`"`, 1) // does not fit the usual buffers
	for name, deal := range map[string]string{"full": full, "empty": empty, "long": long} {
		t.Run(name, func(t *testing.T) {
			shapes.Sees("echo", deal, json.RawMessage(deal))
			r := shapes.Call("alice", "store", json.RawMessage(deal))
			if got, err := json.Marshal(r.Returned()); err != nil || string(got) != deal {
				t.Errorf("store returns %s, %v, want %s", got, err, deal)
			}
			r.Emitted("Stored", `{"deal":`+deal+`}`)
		})
	}
	shapes.Sees("count", `"3"`)
	shapes.Sees("empty", `{}`, json.RawMessage(`{}`))
	t.Run("errors", func(t *testing.T) {
		big := strings.Replace(full, `"legs":[`, `"legs":[`+leg+",", 1)
		shapes.Call("alice", "store", json.RawMessage(big)).Refused("TooBig", `{"deal":`+big+`}`)
		shapes.Call("alice", "always").Refused("Always", `{}`)
		wrong := strings.Replace(full, digest, "0x5a", 1)
		shapes.Call("alice", "store", json.RawMessage(wrong)).Ended(ledger.Aborted, 1)
	})
	t.Run("failures", func(t *testing.T) {
		for _, c := range []struct {
			how, want string
			code      uint32
		}{
			{"panic", "no 7 today, ", 2},
			{"index", "index out of bounds: the len is 2 but the index is 5, ", 2},
			{"x", "a number: ParseIntError", 2},
			{"denied", "not you", 5},
		} {
			out := shapes.ViewAs("alice", "fail", c.how)
			out.Ended(ledger.Aborted, c.code)
			if text, err := shapes.Schema.DecodeValue("str", out.Data); err != nil || !strings.HasPrefix(fmt.Sprint(text), c.want) {
				t.Errorf("%s: %v, %v, want %s", c.how, text, err, c.want)
			}
		}
	})
	t.Run("keys and scans", func(t *testing.T) {
		for _, number := range []int{5, -1, 0, -32768, 32767} {
			shapes.Call("alice", "mark", number, "x", 1).OK().Emitted("Marked", `{}`)
		}
		shapes.Call("alice", "mark", 0, "", 2).OK()
		shapes.Call("alice", "mark", 5, "x", 0).OK()
		shapes.Sees("days", `[{"number":-32768,"name":"x","value":1},{"number":-1,"name":"x","value":1},{"number":0,"name":"","value":2}]`, 3, false)
		shapes.Sees("days", `[{"number":32767,"name":"x","value":1},{"number":0,"name":"x","value":1}]`, 2, true)
		shapes.ViewAs("", "days", 1_025, false).Ended(ledger.Denied, 5) // more than a scan may return
	})
	t.Run("the context", func(t *testing.T) {
		want := fmt.Sprintf(`{"caller":"%[1]s","origin":"%[1]s","this":"%s","height":"%d","time":"%d","group":"main","method":"who","read_only":true,"regulator":true,"institution":"bank"}`,
			chain.Address("regulator"), shapes.Address, chain.Height(), chain.Now().UnixMilli())
		if who, err := json.Marshal(shapes.ViewAs("regulator", "who").Returned()); err != nil || string(who) != want {
			t.Errorf("who = %s, %v, want %s", who, err, want)
		}
		shapes.Call("regulator", "restricted").OK()
		shapes.Call("alice", "restricted").Ended(ledger.Denied, 105)
	})
	t.Run("hashes, signatures, random bytes and memory", func(t *testing.T) {
		shapes.Sees("digest", `"0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`, "sha256", []byte("abc"))
		shapes.Sees("digest", `"0x66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"`, "sm3", []byte("abc"))
		shapes.Sees("signed", "false", make([]byte, 32), make([]byte, 64), make([]byte, 32))
		if got := shapes.Call("alice", "dice").Returned(); got != true {
			t.Errorf("dice = %v", got)
		}
		shapes.Sees("aligned", "true", 64)
		shapes.Sees("large", `"0"`, 1_000_000, 1)
		shapes.Sees("large", `"49500000"`, 10_000, 100) // what is freed is used again: 100 pieces are no megabyte
	})
	t.Run("the schema tells of documentation, random bytes and maps", func(t *testing.T) {
		i := slices.IndexFunc(shapes.Schema.Types, func(d ledger.TypeDef) bool { return d.Name == "Deal" })
		if i < 0 || !shapes.Schema.Random || !slices.ContainsFunc(shapes.Schema.Types[i].Fields, func(f ledger.Field) bool { return f.Type == "map<str,u16>" }) {
			t.Errorf("schema %+v", shapes.Schema)
		}
	})
}

// TestArithmetic compares 128-bit arithmetic in the real module with math/big: what does not fit is refused.
func TestArithmetic(t *testing.T) {
	built := build(t, "testdata/shapes")
	chain := contracttest.NewOn(t, wasmvm.Compiler, contracttest.Named("alice")...)
	shapes := chain.DeployModule("alice", built.Code)
	r := rand.New(rand.NewPCG(1, 2))
	number := func() *big.Int { // of any length
		n := new(big.Int).Lsh(new(big.Int).SetUint64(r.Uint64()), 64)
		return n.Rsh(n.Or(n, new(big.Int).SetUint64(r.Uint64())), uint(r.IntN(129)))
	}
	zero := new(big.Int)
	for name, f := range map[string]func(a, b, c *big.Int) *big.Int{
		"add": func(a, b, _ *big.Int) *big.Int { return new(big.Int).Add(a, b) },
		"sub": func(a, b, _ *big.Int) *big.Int { return new(big.Int).Sub(a, b) },
		"mul": func(a, b, _ *big.Int) *big.Int { return new(big.Int).Mul(a, b) },
		"div": func(a, b, _ *big.Int) *big.Int {
			if b.Cmp(zero) == 0 {
				return big.NewInt(-1)
			}
			return new(big.Int).Div(a, b)
		},
		"rem": func(a, b, _ *big.Int) *big.Int {
			if b.Cmp(zero) == 0 {
				return big.NewInt(-1)
			}
			return new(big.Int).Mod(a, b)
		},
		"mul_div": func(a, b, c *big.Int) *big.Int {
			if c.Cmp(zero) == 0 {
				return big.NewInt(-1)
			}
			n := new(big.Int).Mul(a, b)
			return n.Div(n, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				a, b, c := number(), number(), number()
				out := shapes.ViewAs("", "calculate", name, a.String(), b.String(), c.String())
				if want := f(a, b, c); want.Sign() < 0 || want.BitLen() > 128 {
					out.Ended(ledger.Aborted, 3)
				} else if got := fmt.Sprint(out.Returned()); got != want.String() {
					t.Fatalf("%s of %s, %s, %s = %s, want %s", name, a, b, c, got, want)
				}
			}
		})
	}
}
