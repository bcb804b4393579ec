package contract

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loaded returns a project of Go as the builder reads it.
func loaded(t *testing.T, dir string) *goPackage {
	t.Helper()
	tools, err := findToolchain(t.Context())
	if err != nil {
		t.Skip(err)
	}
	pkg, err := tools.load(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// TestGoNames makes projects with names that mean something to Go: each builds, or is refused with a reason.
func TestGoNames(t *testing.T) {
	names := map[string]string{
		"hash": "", "time": "", "entry": "", "taken": "", "contract": "", "sdk": "", "cmd": "", "internal": "", "linux": "", "fondaco": "", "init": "",
		"bond_linux": "one system only", "bond_wasm": "one system only", "hello_test": "what Go calls tests", "func": "word of Go",
		"main": "something else", "documentation": "something else", "vendor": "something else",
	}
	for name, refused := range names {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			err := New(dir, name, "go")
			if refused != "" {
				if err == nil || !strings.Contains(err.Error(), refused) || !strings.Contains(err.Error(), "take another name") {
					t.Errorf("New: %v, want %q", err, refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m, err := newModel(loaded(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			if m.schema.Name != name || m.schema.Version != "1.0.0" || m.self.Name() != "Contract" {
				t.Errorf("the schema is of %s %s, the methods of %s", m.schema.Name, m.schema.Version, m.self.Name())
			}
		})
	}
	t.Run("a name of the standard library, in full", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "hash")
		if err := New(dir, "hash", "go"); err != nil {
			t.Fatal(err)
		}
		// a workspace in a folder above is no matter of the contract's
		if err := os.WriteFile(filepath.Join(dir, "..", "go.work"), []byte("go 1.26\n\nuse ./elsewhere\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		build(t, dir)
		var out strings.Builder
		if err := Test(t.Context(), dir, &out); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}

// TestGoDigest changes each kind of file that a module in Go is made of.
func TestGoDigest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bond")
	if err := New(dir, "bond", "go"); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	write("rates/rates.go", "// Package rates knows rates.\npackage rates\n\nimport _ \"embed\"\n\n//go:embed rates.txt\nvar Table string\n")
	write("rates/rates.txt", "1 2 3\n")
	write("more.go", "package bond\n\nimport \"contract/bond/rates\"\n\nvar table = rates.Table\n")
	seen := map[[32]byte]string{}
	digest := func(name string) {
		t.Helper()
		d, err := loaded(t, dir).digest()
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[d]; ok {
			t.Errorf("the digest with another %s is that with another %s", name, before)
		}
		seen[d] = name
	}
	digest("nothing")
	for _, name := range []string{"bond.go", "rates/rates.go", "rates/rates.txt", "go.mod", ".fondaco/sdk-contracts/go/state.go"} {
		write(name, read(name)+"\n")
		digest(name)
	}
	write("bond_test.go", read("bond_test.go")+"\n")
	if d, err := loaded(t, dir).digest(); err != nil || seen[d] == "" {
		t.Errorf("a test has changed the digest to %x, %v", d, err)
	}
}
