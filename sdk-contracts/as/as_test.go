package as_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
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
		CallFlags  map[string]int `json:"call_flags"`
		CallStatus map[string]int `json:"call_status"`
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
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	imports := map[string]string{}
	declaration := regexp.MustCompile(`@external\("(\w+)", "(\w+)"\)\nexport declare function (\w+)\(([^)]*)\): (\w+);`)
	for _, m := range declaration.FindAllStringSubmatch(read("lib/fondaco/host.ts"), -1) {
		if m[1] != abi.Module || m[2] != m[3] {
			t.Errorf("%s.%s is imported as %s", m[1], m[2], m[3])
		}
		imports[m[2]] = strings.TrimSuffix(strings.Join(strings.Fields(m[4]), " "), ",") + " -> " + m[5]
	}
	mock := read("testing.mjs")
	for _, f := range abi.Functions {
		if f.Name == "recover" { // no chain offers it yet
			continue
		}
		result := map[string]string{"": "void", "i32": "i32", "i64": "i64"}[f.Result]
		var params []string
		for _, p := range f.Params {
			params = append(params, `\w+: `+map[string]string{"i32": "(i32|usize)", "i64": "i64"}[p.Type])
		}
		if want := "^" + strings.Join(params, ", ") + " -> " + result + "$"; !regexp.MustCompile(want).MatchString(imports[f.Name]) {
			t.Errorf("import %s is %q, want %s", f.Name, imports[f.Name], want)
		}
		delete(imports, f.Name)
		if !strings.Contains(mock, `"`+f.Name+`"`) || !regexp.MustCompile(`(?m)^  `+f.Name+`\([^)]*\) \{$`).MatchString(mock) {
			t.Errorf("the host of the tests has no %s", f.Name)
		}
	}
	for name := range imports {
		t.Errorf("%s is imported, and no host function", name)
	}
	for file, names := range map[string]map[string]int{"failure": abi.AbortCodes, "call": abi.CallStatus, "crypto": abi.Signatures} {
		text := read("lib/fondaco/" + file + ".ts")
		for name, value := range names {
			name = map[string]string{"bad_arguments": "arguments", "bad_state": "state"}[name] + name
			name = strings.TrimSuffix(strings.TrimSuffix(name, "bad_arguments"), "bad_state")
			if name == "first_of_contract" || name == "secp256k1" { // a bound; no chain offers it yet
				continue
			}
			if want := fmt.Sprintf("export const %s = %d;", strings.ToUpper(name), value); !strings.Contains(text, want) {
				t.Errorf("%s.ts lacks %s", file, want)
			}
		}
	}
	for name, value := range abi.CallFlags {
		if want := fmt.Sprintf("const %s = %d;", strings.ToUpper(name), value); !strings.Contains(read("lib/fondaco/call.ts"), want) {
			t.Errorf("call.ts lacks %s", want)
		}
	}
}

// build builds a contract, or skips the test on a machine without the compiler.
func build(t *testing.T, dir string) *contract.Built {
	t.Helper()
	built, err := contract.Build(t.Context(), dir, "")
	switch {
	case errors.Is(err, contract.ErrToolchain) && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return built
}

// TestUnits runs the unit tests under Node.js. Each compiles its contract.
func TestUnits(t *testing.T) {
	dirs, err := filepath.Glob("contracts/*")
	if err != nil || len(dirs) != 5 {
		t.Fatalf("%d contracts, want 5, %v", len(dirs), err)
	}
	for _, dir := range append(dirs, "testdata/shapes") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := contract.Test(t.Context(), dir, &out)
			switch {
			case errors.Is(err, contract.ErrToolchain) && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1":
				t.Skip(err)
			case err != nil:
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// TestShapes passes values of every type through the module on the real machine, and compares its arithmetic with math/big.
func TestShapes(t *testing.T) {
	built := build(t, "testdata/shapes")
	regulator := contracttest.Account{Name: "regulator", Roles: []string{"regulator"}}
	chain := contracttest.NewOn(t, wasmvm.Compiler, append(contracttest.Named("alice"), regulator)...)
	shapes := chain.DeployModule("alice", built.Code)
	alice := chain.Address("alice")
	numbers := `{"a":255,"b":65535,"c":4294967295,"d":"18446744073709551615","e":"340282366920938463463374607431768211455","f":-128,"g":-32768,"h":-2147483648,"i":"-9223372036854775808","j":true}`
	leg := `{"colour":"blue","notes":["å","日本",""]}`
	full := fmt.Sprintf(`{"numbers":%s,"name":"XS0123","blob":"0xff00","legs":[%s,%s],"agent":"%s","spare":%s,"sizes":["0","23","24","4294967296"],"rank":7,"colours":["red","blue"]}`, numbers, leg, leg, alice, leg)
	empty := fmt.Sprintf(`{"numbers":%s,"name":"","blob":"0x","legs":[],"agent":null,"spare":null,"sizes":[],"rank":null,"colours":[]}`, numbers)
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
	t.Run("errors", func(t *testing.T) {
		more := strings.Replace(full, `"legs":[`, `"legs":[`+leg+","+leg+",", 1)
		shapes.Call("alice", "store", json.RawMessage(more)).Refused("TooBig", `{"deal":`+more+`}`)
		shapes.Call("alice", "always").Refused("Always", `{}`)
		shapes.Call("alice", "panics", "index").Ended(ledger.Aborted, 2)
	})
	t.Run("keys and scans", func(t *testing.T) {
		for _, name := range []string{"b", "a", "", "ab", "é"} {
			shapes.Call("alice", "mark", -1, name, 1).OK()
		}
		shapes.Call("alice", "mark", -1, "ab", 0).OK()
		shapes.Sees("marks", `[{"number":-1,"name":"","value":1},{"number":-1,"name":"a","value":1}]`, -1, 2, false)
		shapes.Sees("marks", `[{"number":-1,"name":"é","value":1},{"number":-1,"name":"b","value":1}]`, -1, 2, true)
		shapes.Sees("keys", "true")
	})
	t.Run("the context, a call, random bytes and memory", func(t *testing.T) {
		want := fmt.Sprintf(`{"caller":"%[1]s","origin":"%[1]s","self":"%s","height":"%d","time":"%d","group":"main","method":"who","read_only":true,"regulator":true,"institution":"bank"}`,
			chain.Address("regulator"), shapes.Address, chain.Height(), chain.Now().UnixMilli())
		if who, err := json.Marshal(shapes.ViewAs("regulator", "who").Returned()); err != nil || string(who) != want {
			t.Errorf("who = %s, %v, want %s", who, err, want)
		}
		shapes.Call("regulator", "restricted").OK()
		shapes.Call("alice", "restricted").Ended(ledger.Denied, 105)
		shapes.Call("alice", "forward", shapes.Address, "", []byte{}).Ended(ledger.Aborted, 7) // itself, which is running
		if got := shapes.Call("alice", "dice").Returned(); got != true {
			t.Errorf("dice = %v", got)
		}
		shapes.ViewAs("alice", "large", 1_000_000).OK()
	})
	operations := map[string]func(a, b, c *big.Int) *big.Int{ // nil: refused
		"add":  func(a, b, _ *big.Int) *big.Int { return new(big.Int).Add(a, b) },
		"sub":  func(a, b, _ *big.Int) *big.Int { return new(big.Int).Sub(a, b) },
		"mul":  func(a, b, _ *big.Int) *big.Int { return new(big.Int).Mul(a, b) },
		"text": func(a, _, _ *big.Int) *big.Int { return a },
		"div": func(a, b, _ *big.Int) *big.Int {
			if b.Sign() == 0 {
				return nil
			}
			return new(big.Int).Div(a, b)
		},
		"rem": func(a, b, _ *big.Int) *big.Int {
			if b.Sign() == 0 {
				return nil
			}
			return new(big.Int).Mod(a, b)
		},
		"muldiv": func(a, b, c *big.Int) *big.Int {
			if c.Sign() == 0 {
				return nil
			}
			n := new(big.Int).Mul(a, b)
			return n.Div(n, c)
		},
	}
	r := rand.New(rand.NewPCG(1, 2))
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
	for name, f := range operations {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				a, b, c := number(), number(), number()
				out := shapes.ViewAs("", "calculate", name, a.String(), b.String(), c.String())
				want := f(a, b, c)
				if want == nil || want.Sign() < 0 || want.BitLen() > 128 {
					out.Ended(ledger.Aborted, 3)
					continue
				}
				if got := fmt.Sprint(out.Returned()); got != want.String() {
					t.Fatalf("%s of %s, %s, %s = %s, want %s", name, a, b, c, got, want)
				}
			}
		})
	}
	t.Run("order", func(t *testing.T) {
		for range 50 {
			a, b := number(), number()
			if r.IntN(4) == 0 {
				b = a
			}
			c := a.Cmp(b)
			want := fmt.Sprintf("[%t,%t,%t,%t,%t,%t]", c < 0, c <= 0, c == 0, c != 0, c >= 0, c > 0)
			shapes.Sees("compare", want, a.String(), b.String())
		}
	})
	for _, c := range []struct {
		operation  string
		a, b, want int64 // want 0: refused
	}{
		{"i64 mul", -1 << 62, 2, -1 << 63},
		{"i64 mul", -1 << 62, -2, 0},
		{"i64 mul", -1, -1 << 63, 0},
		{"i64 mul", -1 << 63, -1, 0},
		{"i64 mul", 3_037_000_500, 3_037_000_500, 0},
		{"i64 mul", 3_037_000_499, -3_037_000_499, -9_223_372_030_926_249_001},
		{"i64 add", 1<<63 - 1, 1, 0},
		{"i64 sub", -1 << 63, 1, 0},
		{"u64 mul", 1 << 32, 1 << 31, -1 << 63},
		{"u64 mul", 1 << 32, 1 << 32, 0},
		{"i32 mul", 1 << 16, 1 << 15, 0},
		{"i8 add", 127, 1, 0},
		{"i8 add", -127, -1, -128},
		{"u8 add", 255, 1, 0},
		{"u8 add", 254, 1, 255},
		{"u8 sub", 1, 2, 0},
	} {
		out := shapes.ViewAs("", "calculate_small", c.operation, c.a, c.b)
		if c.want == 0 {
			out.Ended(ledger.Aborted, 3)
		} else if got := fmt.Sprint(out.Returned()); got != fmt.Sprint(c.want) {
			t.Errorf("%s of %d, %d = %s, want %d", c.operation, c.a, c.b, got, c.want)
		}
	}
}
