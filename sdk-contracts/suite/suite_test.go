// Package suite_test builds the five contracts of the suite in every language and holds them to one behaviour: the same schema,
// the same stories, and on both engines the same receipts and gas.
package suite_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/gas-*.txt anew")

// contracts are the suite's. Those that stories of others deploy as well come first.
var contracts = []string{"token", "registry", "escrow", "multisig", "caller"}

// languages are the folders of the contracts, by the name that their builds give.
var languages = map[string]string{"go": "../go/contracts", "rust": "../rust/contracts", "c": "../c/contracts", "as": "../as/contracts"}

// folder returns the project of a contract. In Go, the token is the example.
func folder(language, name string) string {
	if language == "go" && name == "token" {
		return "../../examples/token"
	}
	return filepath.Join(languages[language], name)
}

func TestSuite(t *testing.T) {
	for language := range languages {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			testLanguage(t, language)
		})
	}
}

func testLanguage(t *testing.T, language string) {
	modules := &story.Modules{}
	for _, name := range contracts {
		modules.AddProject(name, folder(language, name))
	}
	modules.Add("faulty", faulty(t))
	built, err := build(t.Context(), modules)
	if errors.Is(err, contract.ErrToolchain) && os.Getenv("FONDACO_REQUIRE_TOOLS") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	interpreter, compiler := newVM(t, wasmvm.Interpreter), newVM(t, wasmvm.Compiler)
	compilers := compilersOf(built)
	golden := compilers + "\n"
	var gas []story.Call
	for _, name := range contracts {
		t.Run(name, func(t *testing.T) {
			if b := built[name]; b.Build.Language != language {
				t.Errorf("the module says that it is written in %q, want %q", b.Build.Language, language)
			}
			checkInterface(t, name, built[name].Schema)
			calls := tell(t, modules, name, interpreter)
			compareCalls(t, calls, tell(t, modules, name, compiler))
			gas = append(gas, calls...)
			golden += "\n" + name + ".story\n" + gasTable(calls)
		})
	}
	if t.Failed() {
		return
	}
	t.Logf("%s\n%s\n%s", compilers, sizes(built), gasTable(gas))
	checkGolden(t, filepath.Join("testdata", "gas-"+language+".txt"), golden)
}

// build builds all contracts of a language, two at a time.
func build(ctx context.Context, modules *story.Modules) (map[string]*contract.Built, error) {
	built := make([]*contract.Built, len(contracts))
	faults := make([]error, len(contracts))
	var group sync.WaitGroup
	turn := make(chan struct{}, 2)
	for i, name := range contracts {
		group.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			built[i], faults[i] = modules.Get(ctx, name)
		})
	}
	group.Wait()
	all := map[string]*contract.Built{}
	for i, name := range contracts {
		all[name] = built[i]
	}
	return all, errors.Join(faults...)
}

// faulty is a contract that does everything wrong, for those that call it to survive.
func faulty(t *testing.T) *contract.Built {
	t.Helper()
	code, err := os.ReadFile("testdata/faulty.wasm")
	if err != nil {
		t.Fatal(err)
	}
	schema := &ledger.Schema{ABI: ledger.ContractABI, Name: "faulty", Profile: "strict"}
	for _, name := range []string{"trap", "divide", "spin", "sink", "grow", "garble", "refuse"} {
		schema.Methods = append(schema.Methods, ledger.Method{Name: name, Kind: ledger.MethodTx})
	}
	schema.Methods = append(schema.Methods, ledger.Method{Name: "balance_of", Kind: ledger.MethodView})
	section, err := schema.Encode()
	if err != nil {
		t.Fatal(err)
	}
	custom := append(binary.AppendUvarint(nil, uint64(len(ledger.SchemaSection))), ledger.SchemaSection...)
	custom = append(custom, section...)
	code = append(binary.AppendUvarint(append(code, 0), uint64(len(custom))), custom...)
	return &contract.Built{Code: code, Schema: schema}
}

// compilersOf names the compiler, of which there must be one.
func compilersOf(built map[string]*contract.Built) string {
	var names []string
	for _, b := range built {
		names = append(names, b.Build.Language+" "+b.Build.Compiler)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// checkInterface compares a module's schema with what the suite wants, in all but documentation, conflicts and order.
func checkInterface(t *testing.T, name string, got *ledger.Schema) {
	t.Helper()
	text, err := os.ReadFile(name + ".interface")
	if err != nil {
		t.Fatal(err)
	}
	want, err := contract.ParseInterface(text, got.Profile)
	if err != nil {
		t.Fatal(err)
	}
	have, wanted := lines(got), lines(want)
	for _, line := range wanted {
		if !slices.Contains(have, line) {
			t.Errorf("the schema lacks: %s", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(wanted, line) {
			t.Errorf("the schema has, and the interface has not: %s", line)
		}
	}
}

// lines describes a schema, one line for each thing.
func lines(s *ledger.Schema) []string {
	all := []string{fmt.Sprintf("contract %s %s random=%t", s.Name, s.Version, s.Random)}
	fields := func(fields []ledger.Field) string {
		var b strings.Builder
		for _, f := range fields {
			fmt.Fprintf(&b, " %s:%s", f.Name, f.Type)
		}
		return b.String()
	}
	for _, t := range s.Types {
		line := "type " + t.Name + fields(t.Fields)
		for _, v := range t.Variants {
			line += " " + v.Name + "(" + fields(v.Fields) + ")"
		}
		all = append(all, line)
	}
	for _, m := range s.Methods {
		all = append(all, fmt.Sprintf("%s %s%s -> %s roles %s", m.Kind, m.Name, fields(m.Args), m.Return, m.Roles))
	}
	for _, e := range s.Events {
		all = append(all, fmt.Sprintf("event %s%s indexed %s", e.Topic, fields(e.Fields), e.Indexed))
	}
	for _, e := range s.Errors {
		all = append(all, fmt.Sprintf("error %d %s%s", e.Code, e.Name, fields(e.Fields)))
	}
	for _, e := range s.State {
		all = append(all, fmt.Sprintf("state %s %s -> %s", e.Prefix, e.Key, e.Value))
	}
	return all
}

// newVM returns a VM on which all stories of a language run, so that it compiles each module once.
func newVM(t *testing.T, engine wasmvm.Engine) *wasmvm.VM {
	t.Helper()
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

// tell tells a contract's story on a VM and returns the calls that it made.
func tell(t *testing.T, modules *story.Modules, name string, vm *wasmvm.VM) []story.Call {
	t.Helper()
	file, err := story.ReadFile(name + story.Extension)
	if err != nil {
		t.Fatal(err)
	}
	report, err := file.Run(t.Context(), story.Config{VM: vm, Module: modules.For(file.Name), Names: modules.Names})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Stories {
		if s.Err != nil {
			t.Errorf("%s, on the %s: %v", s.Title, vm.Engine(), s.Err)
		}
	}
	return report.Calls
}

// compareCalls compares what two engines gave: every receipt, with its gas.
func compareCalls(t *testing.T, interpreter, compiler []story.Call) {
	t.Helper()
	if len(interpreter) != len(compiler) {
		t.Errorf("%d calls on the interpreter, %d on the compiler", len(interpreter), len(compiler))
		return
	}
	for i := range interpreter {
		if a, b := interpreter[i], compiler[i]; a != b {
			t.Errorf("line %d, %s.%s\non the interpreter: %s\non the compiler:    %s", a.Line, a.Contract, a.Method, a.Transcript, b.Transcript)
		}
	}
}

func sizes(built map[string]*contract.Built) string {
	var b strings.Builder
	for _, name := range contracts {
		fmt.Fprintf(&b, "%9d bytes of %s\n", len(built[name].Code), name)
	}
	return b.String()
}

// gasTable shows the gas of each method: the least and the most of its calls.
func gasTable(calls []story.Call) string {
	var b strings.Builder
	for _, g := range story.GasOf(calls) {
		if g.Calls > 0 {
			fmt.Fprintf(&b, "%9d %9d %s %s.%s\n", g.Min, g.Max, g.Kind, g.Contract, g.Method)
		}
	}
	return b.String()
}

// checkGolden compares gas with what a file has, if it is of the same compiler: another one makes other code. After a change of
// contracts, SDK or prices, run the test with -rewrite and read the difference.
func checkGolden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -rewrite", err)
	}
	compiler, _, _ := strings.Cut(got, "\n")
	if of, _, _ := strings.Cut(string(want), "\n"); of != compiler {
		t.Logf("%s is of %s, this is %s: gas is not compared", file, of, compiler)
		return
	}
	if got != string(want) {
		t.Errorf("gas differs from %s; it is\n%s", file, got)
	}
}
