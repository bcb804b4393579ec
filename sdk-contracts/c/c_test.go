package c_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestABI compares the imports and numbers of the header with ../abi.json.
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
		Functions  []struct {
			Name, Result string
			Params       []struct{ Name, Type string }
		}
	}
	if err := json.Unmarshal(data, &abi); err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile("fondaco.h")
	if err != nil {
		t.Fatal(err)
	}
	text := string(header)
	if !strings.Contains(text, `import_module("`+abi.Module+`")`) {
		t.Errorf("the header does not import from %s", abi.Module)
	}
	imports := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^HOST\((\w+), (\w+)\)\((.*)\);$`).FindAllStringSubmatch(text, -1) {
		imports[m[2]] = m[3] + " -> " + m[1]
	}
	for _, f := range abi.Functions {
		if f.Name == "recover" { // no chain offers it yet
			continue
		}
		result := map[string]string{"": "void", "i32": "[iu]32", "i64": "[iu]64"}[f.Result]
		var params []string
		for _, p := range f.Params {
			typ := map[string]string{"i32": `([iu]32 |(const )?void \*)`, "i64": "[iu]64 "}[p.Type]
			params = append(params, typ+p.Name)
		}
		if params == nil {
			params = []string{"void"}
		}
		want := "^" + strings.Join(params, ", ") + " -> " + result + "$"
		if !regexp.MustCompile(want).MatchString(imports[f.Name]) {
			t.Errorf("import %s is %q, want %s", f.Name, imports[f.Name], want)
		}
		delete(imports, f.Name)
	}
	for name := range imports {
		t.Errorf("%s is imported, and no host function", name)
	}
	for prefix, values := range map[string]map[string]int{
		"CHAIN_": abi.AbortCodes, "STATUS_": abi.CallStatus, "HASH_": abi.Hashes, "SIGNATURE_": abi.Signatures,
		"FD_SCAN_": abi.ScanFlags, "FD_CALL_": abi.CallFlags, "FD_ATTRIBUTE_": abi.Attributes,
	} {
		for name, value := range values {
			if name == "first_of_contract" || name == "secp256k1" { // a bound; no chain offers it
				continue
			}
			if want := fmt.Sprintf("%s%s = %d", prefix, strings.ToUpper(name), value); !regexp.MustCompile(`\b` + want + `\b`).MatchString(text) {
				t.Errorf("the header lacks %s", want)
			}
		}
	}
}

// need skips the test on a machine without a tool.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatalf("no command %q: apt-get install clang lld gcc", tool)
		}
		t.Skipf("no command %q: apt-get install clang lld gcc", tool)
	}
}

// TestUnits runs the unit tests in C, under the sanitizers.
func TestUnits(t *testing.T) {
	need(t, "cc")
	tests, err := filepath.Glob("contracts/*/*_test.c")
	if err != nil || len(tests) != 5 {
		t.Fatalf("%d contracts with tests, want 5, %v", len(tests), err)
	}
	for _, test := range append(tests, "testdata/shapes/shapes_test.c") {
		dir := filepath.Dir(test)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var out strings.Builder
			if err := contract.Test(t.Context(), dir, &out); err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// TestShapes passes values of every type through the real module.
func TestShapes(t *testing.T) {
	need(t, "clang", "wasm-ld")
	chain := contracttest.NewOn(t, wasmvm.Compiler, append(contracttest.Named("alice"), contracttest.Account{Name: "regulator", Roles: []string{"regulator"}})...)
	shapes := chain.Deploy("alice", "testdata/shapes")
	alice := chain.Address("alice")
	numbers := `{"a":255,"b":65535,"c":4294967295,"d":"18446744073709551615","e":"340282366920938463463374607431768211455","f":-128,"g":-32768,"h":-2147483648,"i":"-9223372036854775808","j":true}`
	zeros := `{"a":0,"b":0,"c":0,"d":"0","e":"0","f":0,"g":0,"h":0,"i":"0","j":false}`
	leg := `{"colour":"blue","notes":["å","日本",""]}`
	full := fmt.Sprintf(`{"numbers":%s,"name":"XS0123","blob":"0xff00","legs":[%s,%s],"agent":"%s","spare":%s,"sizes":["0","23","24","4294967296"],"only":"one"}`, numbers, leg, leg, alice, leg)
	empty := fmt.Sprintf(`{"numbers":%s,"name":"","blob":"0x","legs":[],"agent":null,"spare":null,"sizes":[],"only":"one"}`, zeros)
	long := strings.Replace(empty, `"name":""`, `"name":"`+strings.Repeat("long ", 4000)+`"`, 1) // does not fit the buffers
	for name, deal := range map[string]string{"full": full, "empty": empty, "long": long} {
		t.Run(name, func(t *testing.T) {
			shapes.Sees("echo", deal, json.RawMessage(deal))
			r := shapes.Call("alice", "store", json.RawMessage(deal))
			if got, err := json.Marshal(r.Returned()); err != nil || string(got) != deal {
				t.Errorf("store returns %s, %v, want %s", got, err, deal)
			}
			r.Emitted("Nothing", `{}`)
		})
	}
	shapes.Sees("count", `"3"`)
	shapes.Sees("empty", `{}`, json.RawMessage(`{}`))
	t.Run("errors", func(t *testing.T) {
		big := strings.Replace(full, `"legs":[`, `"legs":[`+leg+","+leg+",", 1)
		shapes.Call("alice", "store", json.RawMessage(big)).Refused("TooBig", `{"deal":`+big+`}`)
		shapes.Call("alice", "always").Refused("Always", `{}`)
	})
	t.Run("keys and scans", func(t *testing.T) {
		for _, number := range []int{5, -1, 0, -32768, 32767} {
			shapes.Call("alice", "mark", number, "x", 1).OK()
		}
		shapes.Call("alice", "mark", 0, "", 2).OK()
		shapes.Call("alice", "mark", 5, "x", 0).OK()
		shapes.Sees("days", `[{"number":-32768,"name":"x","value":1},{"number":-1,"name":"x","value":1},{"number":0,"name":"","value":2}]`, 3, false)
		shapes.Sees("days", `[{"number":32767,"name":"x","value":1},{"number":0,"name":"x","value":1}]`, 2, true)
		shapes.Sees("days_of", `[{"number":32767,"name":"x","value":1}]`, 32767, "", 3, "under")
		shapes.Call("alice", "mark", 0, "xy", 3).OK()
		shapes.Sees("days_of", `[{"number":0,"name":"xy","value":3},{"number":0,"name":"x","value":1}]`, 0, "", 2, "backward")
		shapes.Sees("days_of", `[{"number":0,"name":"x","value":1},{"number":0,"name":"xy","value":3}]`, 0, "a", 9, "from")
		shapes.Sees("days_of", `[{"number":0,"name":"xy","value":3}]`, 0, "xy", 9, "prefix")
		shapes.Sees("keys", "true")
	})
	t.Run("the context", func(t *testing.T) {
		want := fmt.Sprintf(`{"caller":"%[1]s","origin":"%[1]s","self":"%s","height":"%d","time":"%d","group":"main","method":"who","read_only":true,"regulator":true,"institution":"bank"}`,
			chain.Address("regulator"), shapes.Address, chain.Height(), chain.Now().UnixMilli())
		if who, err := json.Marshal(shapes.ViewAs("regulator", "who").Returned()); err != nil || string(who) != want {
			t.Errorf("who = %s, %v, want %s", who, err, want)
		}
		shapes.Call("regulator", "restricted").OK()
		shapes.Call("alice", "restricted").Ended(ledger.Denied, 105)
	})
	t.Run("a hash, random bytes and memory", func(t *testing.T) {
		shapes.Sees("digest", `"0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`, []byte("abc"))
		a, b := strings.Repeat("ab", 32), strings.Repeat("00", 32)
		if got, err := json.Marshal(shapes.Call("alice", "see", json.RawMessage(`["0x`+a+`","0x`+b+`","0x`+a+`"]`)).Returned()); err != nil || string(got) != `["0x`+a+`","0x`+b+`"]` {
			t.Errorf("see = %s, %v", got, err)
		}
		if got := shapes.Call("alice", "dice").Returned(); got != true {
			t.Errorf("dice = %v", got)
		}
		shapes.ViewAs("alice", "large", 1_000_000).OK()
	})
	t.Run("a call that must succeed is made once", func(t *testing.T) {
		token := chain.Deploy("alice", "contracts/token", "Gold", "XAU", alice)
		token.Call("alice", "issue", shapes.Address, 100).OK()
		shapes.Call("alice", "pay", token.Address, chain.Address("regulator"), 10).OK()
		token.Sees("balance_of", `"10"`, chain.Address("regulator"))
		shapes.Call("alice", "pay", token.Address, chain.Address("regulator"), 91).Ended(ledger.Aborted, 7)
	})
	t.Run("a value of state that is of another type", func(t *testing.T) {
		shapes.ViewAs("", "days", 4_294_967_295, false).Ended(ledger.Denied, 5) // more than a scan may return
	})
}

// TestArithmetic compares 128-bit arithmetic in the real module with math/big.
func TestArithmetic(t *testing.T) {
	need(t, "clang", "wasm-ld")
	chain := contracttest.NewOn(t, wasmvm.Compiler, contracttest.Named("alice")...)
	shapes := chain.Deploy("alice", "testdata/shapes")
	r := rand.New(rand.NewPCG(1, 2))
	modulus := new(big.Int).Lsh(big.NewInt(1), 128)
	number := func() *big.Int { // of any length, and often next to a power of two
		n := new(big.Int).Lsh(new(big.Int).SetUint64(r.Uint64()), 64)
		n.Or(n, new(big.Int).SetUint64(r.Uint64()))
		bits := uint(r.IntN(129))
		n.Rsh(n, bits)
		if r.IntN(4) == 0 {
			n.Sub(new(big.Int).Lsh(big.NewInt(1), 128-bits), big.NewInt(int64(r.IntN(2)+1)))
			n.Abs(n)
		}
		return n
	}
	type operation func(a, b, c *big.Int) *big.Int // nil: refused
	checked := func(f func(z, a, b *big.Int) *big.Int) operation {
		return func(a, b, _ *big.Int) *big.Int {
			if n := f(new(big.Int), a, b); n.Sign() >= 0 && n.Cmp(modulus) < 0 {
				return n
			}
			return nil
		}
	}
	operations := map[string]operation{
		"add": checked((*big.Int).Add), "sub": checked((*big.Int).Sub), "mul": checked((*big.Int).Mul),
		"div": func(a, b, _ *big.Int) *big.Int {
			if b.Sign() == 0 {
				return nil
			}
			return new(big.Int).Div(a, b)
		},
		"muldiv": func(a, b, c *big.Int) *big.Int {
			if c.Sign() == 0 {
				return nil
			}
			n := new(big.Int).Mul(a, b)
			if n.Div(n, c).Cmp(modulus) >= 0 {
				return nil
			}
			return n
		},
		"plain mul": func(a, b, _ *big.Int) *big.Int { n := new(big.Int).Mul(a, b); return n.Mod(n, modulus) },
		"plain div": func(a, b, _ *big.Int) *big.Int {
			if b.Sign() == 0 {
				return b
			}
			return new(big.Int).Div(a, b)
		},
		"plain rem": func(a, b, _ *big.Int) *big.Int {
			if b.Sign() == 0 {
				return a
			}
			return new(big.Int).Mod(a, b)
		},
		"shift": func(a, b, c *big.Int) *big.Int {
			n := new(big.Int).Lsh(a, uint(b.Uint64()&127))
			return n.Mod(n, modulus).Rsh(n, uint(c.Uint64()&127))
		},
	}
	for name, f := range operations {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				a, b, c := number(), number(), number()
				out := shapes.ViewAs("", "calculate", name, a.String(), b.String(), c.String())
				want := f(a, b, c)
				if want == nil {
					out.Ended(ledger.Aborted, 3)
					continue
				}
				if got := fmt.Sprint(out.Returned()); got != want.String() {
					t.Fatalf("%s of %s, %s, %s = %s, want %s", name, a, b, c, got, want)
				}
			}
		})
	}
	for _, c := range []struct {
		operation  string
		a, b, want int64 // want 0: refused
	}{
		{"i64 mul", -1 << 62, 2, -1 << 63},
		{"i64 mul", -1 << 62, -2, 0},
		{"i64 mul", 3_037_000_500, 3_037_000_500, 0},
		{"i64 mul", 3_037_000_499, -3_037_000_499, -9_223_372_030_926_249_001},
		{"i64 add", 1<<63 - 1, 1, 0},
		{"i64 sub", -1 << 63, 1, 0},
		{"u64 mul", 1 << 32, 1 << 31, -1 << 63},
		{"u64 mul", 1 << 32, 1 << 32, 0},
		{"i32 mul", 1 << 16, 1 << 15, 0},
		{"u8 add", 255, 1, 0},
		{"u8 add", 254, 1, 255},
	} {
		out := shapes.ViewAs("", "calculate_small", c.operation, c.a, c.b)
		if c.want == 0 {
			out.Ended(ledger.Aborted, 3)
		} else if got := fmt.Sprint(out.Returned()); got != fmt.Sprint(c.want) {
			t.Errorf("%s of %d, %d = %s, want %d", c.operation, c.a, c.b, got, c.want)
		}
	}
}
