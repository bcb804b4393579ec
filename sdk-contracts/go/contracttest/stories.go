package contracttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/wasmvm"
)

// Teller tells stories on both engines, which must give the same receipts with the same gas.
type Teller struct {
	interpreter, compiler *wasmvm.VM
}

// NewTeller returns a teller, which ends with the test. It compiles each module once for all that it tells.
func NewTeller(t *testing.T) *Teller {
	t.Helper()
	start := func(engine wasmvm.Engine) *wasmvm.VM {
		vm, err := localchain.NewVM(t.Context(), engine)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := vm.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return vm
	}
	return &Teller{start(wasmvm.Interpreter), start(wasmvm.Compiler)}
}

// Tell tells the stories of a file and returns the calls that they make.
func (w *Teller) Tell(t *testing.T, modules *story.Modules, path string) []story.Call {
	t.Helper()
	file, err := story.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var calls [2][]story.Call
	for i, vm := range []*wasmvm.VM{w.interpreter, w.compiler} {
		report, err := file.Run(t.Context(), story.Config{VM: vm, Suite: keystest.Suite(), Module: modules.For(file.Name), Names: modules.Names})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range report.Stories {
			if s.Err != nil {
				t.Errorf("%s, on the %s: %v", s.Title, vm.Engine(), s.Err)
			}
		}
		calls[i] = report.Calls
	}
	if len(calls[0]) != len(calls[1]) {
		t.Errorf("%d calls on the interpreter, %d on the compiler", len(calls[0]), len(calls[1]))
		return calls[0]
	}
	for i, a := range calls[0] {
		if b := calls[1][i]; a != b {
			t.Errorf("line %d, %s.%s\non the interpreter: %s\non the compiler:    %s", a.Line, a.Contract, a.Method, a.Transcript, b.Transcript)
		}
	}
	return calls[0]
}

// Built returns a module, or skips the test if the tools of its language are missing. Where FONDACO_REQUIRE_TOOLS is set, that is a
// failure.
func Built(t *testing.T, modules *story.Modules, name string) *contract.Built {
	t.Helper()
	built, err := modules.Get(t.Context(), name)
	if errors.Is(err, contract.ErrToolchain) && os.Getenv("FONDACO_REQUIRE_TOOLS") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// Compilers names the compilers of modules, and the suite of the chain if it is not std: keys of gm have a byte more, which costs gas.
func Compilers(built ...*contract.Built) string {
	var names []string
	for _, b := range built {
		names = append(names, b.Build.Language+" "+b.Build.Compiler)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if s := keystest.Suite(); s.Name() != keys.Std().Name() {
		names = append(names, "suite "+s.Name())
	}
	return strings.Join(names, ", ")
}

// GasTable shows the gas of each method that calls had: the least and the most.
func GasTable(calls []story.Call) string {
	var b strings.Builder
	for _, g := range story.GasOf(calls) {
		if g.Calls > 0 {
			fmt.Fprintf(&b, "%9d %9d %s %s.%s\n", g.Min, g.Max, g.Kind, g.Contract, g.Method)
		}
	}
	return b.String()
}

// CheckGas compares a table of gas with the one in a file, so that a change is seen in review. The first line of both names the
// compilers (Compilers): gas of others is not compared, as they make other code, nor of another suite. With rewrite the file is written.
func CheckGas(t *testing.T, file, compilers, table string, rewrite bool) {
	t.Helper()
	got := compilers + "\n" + table
	if rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -rewrite", err)
	}
	if of, _, _ := strings.Cut(string(want), "\n"); of != compilers {
		t.Logf("%s is of %s, this is %s: gas is not compared", file, of, compilers)
		return
	}
	if got != string(want) {
		t.Errorf("gas differs from %s; if it is meant, run the test with -rewrite. It is\n%s", file, got)
	}
}
