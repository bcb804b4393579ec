package contract

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract/testdata/client/market"
	"github.com/fondaco/fondaco/state/ledger"
)

// The flag -rewrite writes the golden clients anew; review the difference.
var rewrite = flag.Bool("rewrite", false, "write the golden clients anew")

func marketSchema(t testing.TB) *ledger.Schema {
	t.Helper()
	text, err := os.ReadFile("testdata/client/market.interface")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseInterface(text, "strict")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGenerateClient(t *testing.T) {
	for name, schema := range map[string]*ledger.Schema{
		"market": marketSchema(t), "shapes": build(t, "testdata/shapes").Schema,
	} {
		for lang, out := range map[string]string{"go": name + ".go", "ts": name + ".mjs"} {
			files, err := GenerateClient(schema, lang, "", filepath.Join("testdata/client", name, out))
			if err != nil {
				t.Fatal(err)
			}
			for file, want := range files {
				if *rewrite {
					if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := os.ReadFile(file); err != nil || string(got) != want {
					t.Errorf("%s is not what the generator writes (%v): run go test with -rewrite, and review what changes", file, err)
				}
			}
		}
	}
	for _, tc := range []struct {
		schema         *ledger.Schema
		lang, pkg, out string
		want           string
	}{
		{nil, "go", "", "x.go", "no schema"},
		{&ledger.Schema{}, "go", "", "x.go", "schema"},
		{marketSchema(t), "cobol", "", "x.go", "want go or ts"},
		{marketSchema(t), "go", "", "x.ts", "does not end with .go"},
		{marketSchema(t), "go", "two words", "x.go", "no name of a package"},
		{marketSchema(t), "ts", "", "x.ts", "does not end with .mjs"},
	} {
		if _, err := GenerateClient(tc.schema, tc.lang, tc.pkg, tc.out); !errors.Is(err, ErrClient) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("GenerateClient(%s, %s, %s) = %v, want %q", tc.lang, tc.pkg, tc.out, err, tc.want)
		}
	}
}

// order is a value of every kind of type, as JSON for the schema, and as the generated client in Go has it.
const orderJSON = `{"id":"18446744073709551615","owner":"0x0100000000000000000000000000000000000000","amount":"340282366920938463463374607431768211455","side":"sell",
	"status":{"closed":{"why":{"text":"late","error":"-9223372036854775808"},"at":"300"}},"tags":["a","ä€"],"limits":{"b":1,"aa":65536,"a":24},"note":null,"proof":"0x","most":"18446744073709551616",
	"raw":"0x00ff","low":-128,"parts":[null,{}]}`

func order() market.Order {
	most, ok := new(big.Int).SetString("340282366920938463463374607431768211455", 10)
	if !ok {
		panic("no number")
	}
	return market.Order{
		ID: 1<<64 - 1, Owner: ledger.Address{1}, Amount: most, Side: market.SideSell,
		Status: market.Status{Variant: market.StatusClosed, ClosedFields: &market.StatusClosedFields{Why: market.Reason{Text: "late", ErrorField: -1 << 63}, At: 300}},
		Tags:   []string{"a", "ä€"}, Limits: map[string]uint32{"a": 24, "aa": 65536, "b": 1}, Proof: new(client.Bytes), Most: new(big.Int).Lsh(big.NewInt(1), 64),
		Raw: []byte{0, 255}, Low: -128, Parts: []*market.Empty{nil, {}},
	}
}

func TestClientInGo(t *testing.T) {
	s := marketSchema(t)
	want, err := s.EncodeValue("Order", json.RawMessage(orderJSON))
	if err != nil {
		t.Fatal(err)
	}
	o := order()
	got, err := ledger.Marshal(&o)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the client encodes %x, %v; the schema says %x", got, err, want)
	}
	var back market.Order
	if err := ledger.Unmarshal(want, &back); err != nil {
		t.Fatal(err)
	}
	back.Status.ClosedFields.Number = 0
	if len(*back.Proof) > 0 {
		t.Errorf("proof: %x", *back.Proof)
	}
	if back.Proof = o.Proof; !reflect.DeepEqual(back, o) {
		t.Errorf("the client reads %+v, want %+v", back, o)
	}
	for status, want := range map[market.Status]string{{Variant: market.StatusOpen}: "00", {Variant: market.StatusCancelled}: "02"} {
		if got, err := ledger.Marshal(status); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("status %d: %x, %v, want %s", status.Variant, got, err, want)
		}
	}
	if _, err := ledger.Marshal(market.Status{Variant: market.StatusClosed}); err == nil {
		t.Error("a variant without its fields is encoded")
	}
	for _, data := range []string{"80", "8105", "8200", "820105", "6161", ""} {
		raw, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		var s market.Status
		if err := ledger.Unmarshal(raw, &s); err == nil {
			t.Errorf("%s is read as the status %+v", data, s)
		}
	}
	event, err := market.DecodeEvent("Quiet", nil)
	if _, ok := event.(*market.Quiet); err != nil || !ok {
		t.Errorf("an event without fields: %v, %v", event, err)
	}
	if _, err := market.DecodeEvent("Other", nil); err == nil {
		t.Error("an unknown event is decoded")
	}
	if text := (&market.Refused{Need: big.NewInt(7)}).Error(); !strings.Contains(text, "market: Refused") {
		t.Errorf("the text of a refusal: %s", text)
	}
}

// nodeJS returns the command of Node.js 20 or later, or skips.
func nodeJS(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err == nil {
		major := 0
		out, err := exec.CommandContext(t.Context(), path, "--version").Output()
		if _, e := fmt.Sscanf(string(out), "v%d.", &major); err == nil && e == nil && major >= 20 {
			return path
		}
	}
	if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
		t.Fatal("needs Node.js 20 or later: install it from https://nodejs.org")
	}
	t.Skip("needs Node.js 20 or later: install it from https://nodejs.org")
	return ""
}

// TestClientInJavaScript lets Node.js encode and decode the same order, with a node that answers what the test says.
func TestClientInJavaScript(t *testing.T) {
	node := nodeJS(t)
	s := marketSchema(t)
	args, err := s.EncodeArgs("find", []json.RawMessage{json.RawMessage(`{"0x0200000000000000000000000000000000000000":[],"0x0100000000000000000000000000000000000000":[` + orderJSON + `]}`), json.RawMessage(`[1,255]`)})
	if err != nil {
		t.Fatal(err)
	}
	value, err := s.EncodeValue("Order", json.RawMessage(orderJSON))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/client/market.test.mjs", "0x"+hex.EncodeToString(args), "0x"+hex.EncodeToString(value))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestClientInTypeScript checks the types of the client, and that they find what is wrong.
func TestClientInTypeScript(t *testing.T) {
	tsc, err := exec.LookPath("tsc")
	if err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
		t.Fatal("needs the TypeScript compiler: npm install --global typescript")
	}
	if err != nil {
		t.Skip("needs the TypeScript compiler: npm install --global typescript")
	}
	out, err := exec.CommandContext(t.Context(), tsc, "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable", "testdata/client/market.test.mts").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
