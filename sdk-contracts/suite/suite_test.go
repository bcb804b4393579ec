// Package suite_test builds the five contracts of the suite in every language and holds them to one behaviour: the same schema,
// the same stories, and on both engines the same receipts and gas.
package suite_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
	"github.com/fondaco/fondaco/state/ledger"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/gas-*.txt anew")

// contracts are the suite's. Those that stories of others deploy as well come first.
var contracts = []string{"token", "registry", "escrow", "multisig", "caller"}

// languages are the folders of the contracts, by the name that their builds give.
var languages = map[string]string{"go": "../go/contracts", "rust": "../rust/contracts", "c": "../c/contracts", "as": "../as/contracts"}

// mostBytes are what the modules may have, in the order of contracts. Those in Go are as large as Go's runtime.
var mostBytes = map[string][]int{
	"rust": {44_000, 40_000, 36_000, 42_000, 36_000},
	"c":    {16_500, 11_000, 12_000, 14_000, 11_000},
	"as":   {11_500, 10_000, 9_500, 11_000, 10_000},
}

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
	teller := contracttest.NewTeller(t)
	compilers := contracttest.Compilers(slices.Collect(maps.Values(built))...)
	table := ""
	var gas []story.Call
	for i, name := range contracts {
		t.Run(name, func(t *testing.T) {
			if b := built[name]; b.Build.Language != language {
				t.Errorf("the module says that it is written in %q, want %q", b.Build.Language, language)
			}
			if most := mostBytes[language]; most != nil && len(built[name].Code) > most[i] {
				t.Errorf("the module has %d bytes, want at most %d", len(built[name].Code), most[i])
			}
			checkInterface(t, name, built[name].Schema)
			checkWarnings(t, folder(language, name), built[name])
			calls := teller.Tell(t, modules, name+story.Extension)
			gas = append(gas, calls...)
			table += "\n" + name + ".story\n" + contracttest.GasTable(calls)
		})
	}
	if t.Failed() {
		return
	}
	t.Logf("%s\n%s\n%s", compilers, sizes(built), contracttest.GasTable(gas))
	contracttest.CheckGas(t, filepath.Join("testdata", "gas-"+language+".txt"), compilers, table, *rewrite)
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

// checkWarnings says what the linter finds in a contract, in which there is nothing to find.
func checkWarnings(t *testing.T, dir string, b *contract.Built) {
	t.Helper()
	warnings, err := contract.Lint(b.Code, b.Names)
	more, moreErr := contract.LintSource(t.Context(), dir, b.Code)
	if err := errors.Join(err, moreErr); err != nil {
		t.Fatal(err)
	}
	for _, w := range append(warnings, more...) {
		t.Errorf("warning %s", w)
	}
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

func sizes(built map[string]*contract.Built) string {
	var b strings.Builder
	for _, name := range contracts {
		fmt.Fprintf(&b, "%9d bytes of %s\n", len(built[name].Code), name)
	}
	return b.String()
}
