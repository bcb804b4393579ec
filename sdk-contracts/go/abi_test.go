package sdk

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestImports compares the imports of this SDK with ../abi.json.
func TestImports(t *testing.T) {
	data, err := os.ReadFile("../abi.json")
	if err != nil {
		t.Fatal(err)
	}
	var abi struct {
		Module    string
		Functions []struct {
			Name, Result string
			Params       []struct{ Name, Type string }
		}
	}
	if err := json.Unmarshal(data, &abi); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range abi.Functions {
		signature := ""
		for _, p := range f.Params {
			signature += p.Type + " "
		}
		want[f.Name] = signature + "-> " + f.Result
	}
	file, err := parser.ParseFile(token.NewFileSet(), "host_wasm.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	typeOf := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.SelectorExpr:
			return "i32" // unsafe.Pointer
		case *ast.Ident:
			return map[string]string{"uint32": "i32", "int32": "i32", "uint64": "i64", "int64": "i64"}[e.Name]
		}
		return "?"
	}
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Doc == nil {
			continue
		}
		i := slices.IndexFunc(fn.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:wasmimport ") })
		if i < 0 {
			continue
		}
		words := strings.Fields(fn.Doc.List[i].Text)
		signature := ""
		for _, p := range fn.Type.Params.List {
			signature += strings.Repeat(typeOf(p.Type)+" ", len(p.Names))
		}
		signature += "-> "
		if fn.Type.Results != nil {
			signature += typeOf(fn.Type.Results.List[0].Type)
		}
		if words[1] != abi.Module || want[words[2]] != signature {
			t.Errorf("import %s.%s is %s, want %s", words[1], words[2], signature, want[words[2]])
		}
		delete(want, words[2])
	}
	delete(want, "recover") // no chain offers it yet
	for name := range want {
		t.Errorf("host function %s is not imported", name)
	}
}
