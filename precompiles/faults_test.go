package precompiles

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// faultVector is the data of an abort, as JSON and as bytes, for implementations in other languages.
type faultVector struct {
	Code uint32          `json:"code"`
	Data json.RawMessage `json:"data"`
	CBOR string          `json:"cbor"`
}

// Receipts are hashed: the data of these aborts stay the same bytes in all releases, whatever their words are.
func TestFaultVectors(t *testing.T) {
	var got []faultVector
	add := func(c Contract, err error) {
		t.Helper()
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Fatal(err)
		}
		_, fields, err := c.Schema().DecodeError(e.Code, e.Data)
		if err != nil {
			t.Fatalf("%v: %v", e, err)
		}
		if strings.Contains(e.Reason, "%!") {
			t.Errorf("%q", e.Reason)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, faultVector{e.Code, text, "0x" + hex.EncodeToString(e.Data)})
	}
	for i, v := range reformFaultType().Variants {
		add(newGovernance(), refused(reformFault(i), examples(t, v.Fields)...))
	}
	for i, v := range policyFaultType().Variants {
		add(newGovernance(), unsound(policyFault(i), examples(t, v.Fields)...))
	}
	add(newContracts(), aborted(AbortDowngrade, []any{0, "1.0.9", "1.1.0"}, ""))
	for i := range ledger.DifferenceKinds() {
		add(newContracts(), aborted(AbortIncompatible, []any{[]Broken{{Kind: ledger.DifferenceKind(i), Name: "pay"}}, 1}, ""))
	}

	const file = "testdata/faults.json"
	if *rewrite {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []faultVector
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d vectors, and %s has %d: after a change that is meant, go test ./precompiles -rewrite", len(got), file, len(want))
	}
	for i := range want {
		if got[i].Code != want[i].Code || got[i].CBOR != want[i].CBOR {
			t.Errorf("code %d is %s (%s), was %s", got[i].Code, got[i].CBOR, got[i].Data, want[i].CBOR)
		}
	}
}

// small is a number that also goes by a name, as statuses and algorithms do.
type small uint8

func (small) String() string { return "small" }

// examples are values for the fields of a fault.
func examples(t *testing.T, fields []ledger.Field) []any {
	var values []any
	for i, f := range fields {
		var v any
		switch f.Type {
		case "u8":
			v = small(i + 1)
		case "u32":
			v = uint32(i + 70_000)
		case "u64":
			v = uint64(i + 5_000_000_000)
		case "i64":
			v = moment(-1 - i)
		case "str":
			v = f.Name
		case "bytes":
			v = keys.Digest{byte(i + 1)}
		case "addr":
			v = ledger.Address{byte(i + 1)}
		case "list<str>":
			v = []string{f.Name}
		default:
			t.Fatalf("no example of the type %s of %s", f.Type, f.Name)
		}
		values = append(values, v)
	}
	return values
}

// Each refusal has as many values as its fault has fields, and no fault is there for nothing.
func TestFaultsAreUsedWell(t *testing.T) {
	want, used := map[string]int{}, map[string]bool{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var sources []*ast.File
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		source, err := parser.ParseFile(gotoken.NewFileSet(), f.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source)
	}
	each := func(visit func(ast.Node)) {
		for _, s := range sources {
			ast.Inspect(s, func(n ast.Node) bool { visit(n); return true })
		}
	}
	each(func(n ast.Node) { // the tables' lines, such as reformNoRole: {"no_role", "root bytes", "…"}
		kv, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return
		}
		key, isName := kv.Key.(*ast.Ident)
		row, isRow := kv.Value.(*ast.CompositeLit)
		if !isName || !isRow || row.Type != nil || len(row.Elts) != 3 {
			return
		}
		if fields, ok := row.Elts[1].(*ast.BasicLit); ok && fields.Kind == gotoken.STRING {
			want[key.Name] = len(slices.DeleteFunc(strings.Split(strings.Trim(fields.Value, `"`), ","), func(f string) bool { return f == "" }))
		}
	})
	if len(want) != int(reformFaultCount)+int(policyFaultCount) {
		t.Fatalf("the tables have %d lines, and there are %d faults", len(want), int(reformFaultCount)+int(policyFaultCount))
	}
	each(func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		first := map[string]int{"refused": 0, "unsound": 0, "refusedAs": 1, "unsoundAs": 1}
		f, ok := call.Fun.(*ast.Ident)
		if at, known := first[fmt.Sprint(f)]; ok && known && len(call.Args) > at && call.Ellipsis == gotoken.NoPos {
			name := fmt.Sprint(call.Args[at])
			if fields, known := want[name]; !known || fields != len(call.Args)-at-1 {
				t.Errorf("%s(%s) with %d values, and the fault has %d", f.Name, name, len(call.Args)-at-1, fields)
			}
			used[name] = true
		}
	})
	for name := range want {
		if !used[name] {
			t.Errorf("nothing refuses with %s", name)
		}
	}
}
