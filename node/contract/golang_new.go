package contract

import (
	"errors"
	"fmt"
	gobuild "go/build"
	"go/token"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	contracts "github.com/fondaco/fondaco/sdk-contracts"
)

// newGo returns a project in Go. The SDK's sources are under .fondaco, as a module that go.mod points to.
func newGo(name string) (map[string]string, error) {
	if err := checkGoName(name); err != nil {
		return nil, fmt.Errorf("%q %w: take another name", name, err)
	}
	files := map[string]string{
		"go.mod":          goMod,
		name + ".go":      source,
		name + "_test.go": unitTest,
		"README.md":       readme,
		".gitignore":      "*.wasm\n*.wasm.names\n",
	}
	for file, content := range files {
		files[file] = strings.ReplaceAll(content, "NAME", name)
	}
	files[".fondaco/go.mod"] = "module github.com/fondaco/fondaco\n\ngo 1.26\n"
	files[".fondaco/README.md"] = sdkReadme
	sources, err := fs.Glob(contracts.Sources, "go/*.go")
	if err != nil {
		return nil, err
	}
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		content, err := contracts.Sources.ReadFile(file)
		if err != nil {
			return nil, err
		}
		files[path.Join(".fondaco/sdk-contracts", file)] = string(content)
	}
	return files, nil
}

// checkGoName says why a package, with a file of its name, cannot have a name.
func checkGoName(name string) error {
	switch {
	case !token.IsIdentifier(name):
		return errors.New("is a word of Go")
	case slices.Contains([]string{"main", "documentation", "vendor"}, name):
		return errors.New("means something else to Go than a contract's package")
	case strings.HasSuffix(name, "_test"):
		return errors.New("is what Go calls tests")
	}
	anywhere := gobuild.Context{GOOS: "none", GOARCH: "none", Compiler: "gc", OpenFile: func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("package p\n")), nil
	}}
	if found, err := anywhere.MatchFile(".", name+".go"); err != nil || !found {
		return errors.New("ends like the files that Go builds for one system only")
	}
	return nil
}

// In these texts NAME is the contract's name.
const (
	goMod = `module contract/NAME

go 1.26

require github.com/fondaco/fondaco v0.0.0

// The SDK came with the fondaco command that made this project; see .fondaco/README.md.
replace github.com/fondaco/fondaco => ./.fondaco
`

	source = `// Package NAME is a contract: a register in which each entry has an owner.
package NAME

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Contract has the contract's methods. It has no fields: what a contract keeps is in state.
type Contract struct{}

// Version is the contract's: raise it with each change that is deployed.
const Version = "1.0.0"

var (
	admin   = sdk.NewValue[sdk.Addr]("admin")
	entries = sdk.NewMap[string, Entry]("entry")
)

// Entry is one entry of the register.
type Entry struct {
	Owner  sdk.Addr
	Amount sdk.U128
	Since  uint64 // block time, Unix ms
}

// Registered is emitted for each new entry.
//
//chain:event indexed=name,owner
type Registered struct {
	sdk.Event
	Name  string
	Owner sdk.Addr
}

// Taken refuses a name that is registered already.
//
//chain:error 1001
type Taken struct {
	sdk.Refusal
	Owner sdk.Addr
}

// Init runs once, at deployment.
//
//chain:init
func (Contract) Init(c sdk.Ctx) { admin.Set(c.Caller()) }

// Register enters a name for the caller.
//
//chain:tx conflicts=entry/{name}
func (Contract) Register(c sdk.Ctx, name string, amount sdk.U128) error {
	if e, ok := entries.Lookup(name); ok {
		return Taken{Owner: e.Owner}
	}
	entries.Set(name, Entry{Owner: c.Caller(), Amount: amount, Since: c.TimeMilli()})
	c.Emit(Registered{Name: name, Owner: c.Caller()})
	return nil
}

// Remove takes a name out. Only the contract's administrator may.
//
//chain:tx conflicts=entry/{name}
func (Contract) Remove(c sdk.Ctx, name string) error {
	if c.Caller() != admin.Get() {
		return sdk.Denied("only the administrator removes entries")
	}
	entries.Delete(name)
	return nil
}

// Lookup returns an entry, or nothing.
//
//chain:view
func (Contract) Lookup(_ sdk.Ctx, name string) *Entry {
	e, ok := entries.Lookup(name)
	if !ok {
		return nil
	}
	return &e
}
`

	unitTest = `package NAME

import (
	"errors"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

func TestRegister(t *testing.T) {
	alice, bob := sdk.Addr{1}, sdk.Addr{2}
	host := &sdk.Fake{Caller: alice, TimeMilli: 1_000}
	register := func(name string) error {
		return host.Run(func(c sdk.Ctx) error { return Contract{}.Register(c, name, sdk.NewU128(5)) })
	}
	if err := register("harbour"); err != nil {
		t.Fatal(err)
	}
	host.Caller = bob
	taken, ok := errors.AsType[Taken](register("harbour"))
	if !ok || taken.Owner != alice {
		t.Errorf("a name that is taken: %v", taken)
	}
	if len(host.Events) != 1 || host.Events[0] != (Registered{Name: "harbour", Owner: alice}) {
		t.Errorf("events: %v", host.Events)
	}
}
`

	readme = `# NAME

A fondaco contract in Go.

    fondaco contract test                # the unit tests with go test, and NAME.story on a chain in one process
    fondaco contract build               # NAME.wasm: exports, codecs and schema are made from NAME.go
    fondaco contract inspect NAME.wasm   # what is in it
    fondaco contract check NAME.wasm     # whether a node admits it, and what in it is probably not meant

The unit tests are ordinary ones: go test, debugger and coverage work as for any package.

What a contract can use is in the package comment of the SDK:

    go doc github.com/fondaco/fondaco/sdk-contracts/go
`

	sdkReadme = `# The contract SDK

These are the sources of github.com/fondaco/fondaco/sdk-contracts/go, of the version of the fondaco command that
created this project. Keep them with the contract: together they give the same module, byte for byte, on every machine.
To take a newer SDK, create a project in an empty folder with a newer command and replace this folder with its .fondaco.
`
)
