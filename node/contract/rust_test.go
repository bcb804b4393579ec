package contract

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// needRust skips the test on a machine that cannot build contracts in Rust.
func needRust(t *testing.T) {
	t.Helper()
	_, err := findRust(t.Context(), rustCompilers())
	switch {
	case err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") == "1":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}

// TestRustProject makes a project in two folders, as two authors would: both build to the same module, whatever their environment
// says, and its unit tests pass.
func TestRustProject(t *testing.T) {
	needRust(t)
	var modules []*Built
	folder := ""
	for i, name := range []string{"one", filepath.Join("two", "deeper")} {
		dir := filepath.Join(t.TempDir(), name)
		if err := New(dir, "bond", "rust"); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			t.Setenv("RUSTFLAGS", "-Copt-level=0")
			t.Setenv("CARGO_PROFILE_RELEASE_LTO", "off")
			t.Setenv("CARGO_BUILD_TARGET", "nowhere")
			if err := os.WriteFile(filepath.Join(dir, LockFile), []byte("# no source\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		built, err := Build(t.Context(), dir, "")
		if err != nil {
			t.Fatal(err)
		}
		modules, folder = append(modules, built), dir
	}
	if modules[0].Hash != modules[1].Hash || modules[0].Build != modules[1].Build {
		t.Errorf("the same project built to %x of %v and to %x of %v", modules[0].Hash, modules[0].Build, modules[1].Hash, modules[1].Build)
	}
	schema := modules[0].Schema
	if schema.Name != "bond" || schema.Profile != "strict" || len(schema.Methods) != 4 || len(modules[0].Code) > 64<<10 {
		t.Errorf("a module of %d bytes with the schema %+v", len(modules[0].Code), schema)
	}
	for _, home := range []string{os.Getenv("HOME"), folder} {
		if home != "" && strings.Contains(string(modules[1].Code), home) {
			t.Errorf("the module names the folder %s", home)
		}
	}

	t.Run("its unit tests pass", func(t *testing.T) {
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); err != nil || !strings.Contains(out.String(), "2 passed") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	source := filepath.Join(folder, "src", "lib.rs")
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("another source has another digest", func(t *testing.T) {
		if err := os.WriteFile(source, append(content, "\n// the end\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		if digest := sourceDigest(t, folder); digest == modules[0].Build.Source {
			t.Errorf("digest %x", digest)
		}
	})
	t.Run("a test that fails is told", func(t *testing.T) {
		if err := os.WriteFile(source, []byte(strings.Replace(string(content), "amount: 5,", "amount: 6,", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); !errors.Is(err, ErrTest) || !strings.Contains(out.String(), "a_name_belongs") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	t.Run("the linter finds the flaws of a contract", func(t *testing.T) { // here, where the SDK is compiled
		lintFlawed(t, folder, "lib.rs", "src/lib.rs")
	})
	t.Run("what the compiler and the attributes refuse is shown with its place", func(t *testing.T) {
		faults := []struct{ old, new, want string }{
			{"name: String, amount: u128)", "name: &str, amount: f64)", "String for &str"},
			{"#[error(1001)]", "#[error(7)]", "1000 or above"},
			{"conflicts = [\"entry/{name}\"])]\nfn remove", "conflict = [\"x\"])]\nfn remove", "want roles or conflicts"},
			{"indexed = [name, owner]", "indexed = [who]", "has no field who"},
			{"fn lookup(_: &Ctx, name: String)", "fn lookup(name: String)", "the first argument of a method is ctx: &Ctx"},
			{"since: u64,", "since: f64,", "machines differ in floats"},
			{"Value<Addr> =", "Option<Addr> =", "state is a Value<T>, Map<K, V>, Balances<K> or Counter"},
		}
		wrong := string(content)
		for _, f := range faults {
			wrong = strings.Replace(wrong, f.old, f.new, 1)
		}
		if err := os.WriteFile(source, []byte(wrong), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Build(t.Context(), folder, "")
		if !errors.Is(err, ErrSource) {
			t.Fatal(err)
		}
		for _, f := range faults {
			if _, after, found := strings.Cut(err.Error(), f.want); !found || !strings.HasPrefix(after[strings.Index(after, "-->")+len("-->"):], " src/lib.rs:") {
				t.Errorf("no %q with its place in\n%v", f.want, err)
			}
		}
	})
}

func sourceDigest(t *testing.T, dir string) [32]byte {
	t.Helper()
	tools, err := findRust(t.Context(), rustCompilers())
	if err != nil {
		t.Fatal(err)
	}
	graph, err := tools.graph(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := graph.digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// TestRustFolders builds a contract whose SDK lies outside of its workspace here and in a clone: the modules are the same, name no folder,
// and tell of a change in the SDK.
func TestRustFolders(t *testing.T) {
	needRust(t)
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(t.TempDir(), "a clone")
	for _, part := range []string{"examples/evidence/src", "sdk-contracts/rust/src", "sdk-contracts/rust/macros", "sdk-contracts/rust/contracts", "sdk-contracts/rust/testdata", "sdk-contracts/rust/tests"} {
		if err := os.CopyFS(filepath.Join(clone, part), os.DirFS(filepath.Join(here, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"examples/evidence/Cargo.toml", "examples/evidence/Cargo.lock", "sdk-contracts/rust/Cargo.toml"} {
		content, err := os.ReadFile(filepath.Join(here, part))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(clone, part), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var modules []*Built
	for _, root := range []string{here, clone} {
		built, err := Build(t.Context(), filepath.Join(root, "examples/evidence"), "")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(built.Code), root) {
			t.Errorf("the module names the folder %s", root)
		}
		modules = append(modules, built)
	}
	if modules[0].Hash != modules[1].Hash || modules[0].Build != modules[1].Build {
		t.Errorf("the same sources built to %x of %v and to %x of %v", modules[0].Hash, modules[0].Build, modules[1].Hash, modules[1].Build)
	}
	before := sourceDigest(t, filepath.Join(clone, "examples/evidence"))
	if err := os.WriteFile(filepath.Join(clone, "sdk-contracts/rust/src/more.rs"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if sourceDigest(t, filepath.Join(clone, "examples/evidence")) == before {
		t.Error("another SDK has the same digest")
	}
}

func TestRustToolchain(t *testing.T) {
	fake := func(name, script string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	library := t.TempDir()
	if err := os.WriteFile(filepath.Join(library, "libstd-1.rlib"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	without, with := fake("rustc", "echo /nowhere"), fake("rustc", `[ "$1" = --version ] && echo rustc 1.63.0 || echo `+library)
	t.Setenv("PATH", filepath.Dir(fake("cargo", "")))
	for _, c := range []struct {
		name      string
		compilers []string
		want      string // part of the error, or the version
	}{
		{"no compiler", []string{"", "rustc-that-is-missing"}, `need the command "rustc"`},
		{"a compiler without the target", []string{without}, "cannot build for wasm32-unknown-unknown"},
		{"the next one has it", []string{without, with}, "rustc 1.63.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tools, err := findRust(t.Context(), c.compilers)
			switch {
			case err == nil && (tools.version != c.want || tools.rustc != with):
				t.Errorf("found %+v", tools)
			case err != nil && (!errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "apt-get install")):
				t.Error(err)
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := findRust(t.Context(), []string{with}); !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), `need the command "cargo"`) {
		t.Errorf("without cargo: %v", err)
	}
}
