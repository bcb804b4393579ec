package contract

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// writeSource writes a file and the folders that it is in.
func writeSource(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// needAS skips the test on a machine without the compiler of AssemblyScript.
func needAS(t *testing.T) {
	t.Helper()
	compiler, err := filepath.Abs("../../sdk-contracts/as") // where "npm install" puts it in a work tree
	if err != nil {
		t.Fatal(err)
	}
	a, err := findAsc(compiler)
	switch {
	case err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") == "1":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	t.Setenv(ascFolder, a.folder)
}

// TestASProject makes a project in two folders, as two authors would: both build to the same module, whatever their environment
// says, and its unit tests pass.
func TestASProject(t *testing.T) {
	needAS(t)
	var modules []*Built
	folder := ""
	for i, name := range []string{"one", filepath.Join("test", "deeper")} {
		dir := filepath.Join(t.TempDir(), name)
		if err := New(dir, "bond", "as"); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			t.Setenv("NODE_OPTIONS", "--no-such-option")
			t.Setenv("FORCE_COLOR", "1")
			// What is not of the contract does not matter.
			writeSource(t, filepath.Join(dir, "test", "notes.ts"), "nonsense")
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
	if schema.Name != "bond" || schema.Profile != "strict" || len(schema.Methods) != 4 || len(modules[0].Code) > 8<<10 || modules[0].Build.SDK != "1.0.0" {
		t.Errorf("a module of %d bytes by SDK %q with the schema %+v", len(modules[0].Code), modules[0].Build.SDK, schema)
	}
	if register := schema.Method("register"); register == nil || register.Doc != "Enters a name for the caller." {
		t.Errorf("the method register: %+v", register)
	}
	if names, err := FunctionNames(modules[0].Names); err != nil || len(names) == 0 {
		t.Errorf("names of the functions: %v, %v", names, err)
	}
	t.Run("its unit tests pass", func(t *testing.T) {
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); err != nil || !strings.Contains(out.String(), "pass 2") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})

	source := filepath.Join(folder, "assembly", "index.ts")
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a test that fails is told", func(t *testing.T) {
		writeSource(t, source, strings.Replace(string(content), "new Taken(entry.owner)", "new Taken(ctx.caller)", 1))
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); !errors.Is(err, ErrTest) || !strings.Contains(out.String(), "not ok 1 - a name belongs to who enters it first") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	t.Run("what cannot be built is shown with its place", func(t *testing.T) {
		writeSource(t, source, asFlaws)
		_, err := Build(t.Context(), folder, "")
		if !errors.Is(err, ErrSource) {
			t.Fatal(err)
		}
		for line, text := range strings.Split(asFlaws, "\n") {
			_, want, flawed := strings.Cut(text, " // ")
			if flawed && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "assembly/index.ts("+strconv.Itoa(line+1)+",")) {
				t.Errorf("line %d should be refused with %q:\n%v", line+1, want, err)
			}
		}
	})
	t.Run("a folder without tests", func(t *testing.T) {
		if err := os.Remove(filepath.Join(folder, "test", "bond.test.mjs")); err != nil {
			t.Fatal(err)
		}
		if err := Test(t.Context(), folder, io.Discard); !errors.Is(err, ErrTest) || !strings.Contains(err.Error(), "test/bond.test.mjs") {
			t.Error(err)
		}
	})
	t.Run("a name that means something to JavaScript", func(t *testing.T) {
		files, err := newAS("class")
		if err != nil || strings.Contains(files["test/class.test.mjs"], "class") {
			t.Errorf("%s, %v", files["test/class.test.mjs"], err)
		}
	})
	t.Run("a folder that the SDK has not made", func(t *testing.T) {
		dir := t.TempDir()
		writeSource(t, filepath.Join(dir, "asconfig.json"), "{}")
		if _, err := Build(t.Context(), dir, ""); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "fondaco contract new --lang as") {
			t.Error(err)
		}
	})
}

// asFlaws is a contract of mistakes, each with what is said about it.
const asFlaws = `import { Address, StateMap, call, ctx, u128 } from "fondaco";
@struct class Rate { value: f64; } // f64: contracts have no floating point
@struct class Book { pages: Map<string, u64>; } // Map has no one byte form
class Plain {}
@event class Seen { what: Plain; } // Plain cannot be kept or passed
@error(7) class Odd {} // a code of 1000 or above
@error(1001) class Even extends Plain {} // cannot extend a class
enum Colour { red = 1, green } // count from 0
const NAME = "bal";
const balances = new StateMap<Address, u128>(NAME); // the name of state is a text
const flags = new StateMap<bool, u128>("flag"); // bool is no key
@init function start(colour: Colour): void {} // the function with @init is called init
@tx function pay(amount: u128 = u128.zero): void {} // cannot have a default
@tx({ rules: ["issuer"] }) function rule(): void {} // want roles:
@tx function payOut(): usize { return 0; } // usize cannot be kept or passed
@view function pay_out(): void {} // a second method pay_out
const kinds: StateMap<u8, Colour> = new StateMap("kind"); // state needs its types here
function ask<T>(to: Address): T { return call(to, "x").send().value<T>(); } // T is not known here
enum Way { up, down }
type Way = u8; // a second Way
type There = Back[]; type Back = There[]; @view function loop(a: Back): void {} // an alias of itself
`

func TestFindAsc(t *testing.T) {
	node := t.TempDir()
	writeSource(t, filepath.Join(node, "node"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(node, "node"), 0o755); err != nil {
		t.Fatal(err)
	}
	install := func(dir, version string) string {
		t.Helper()
		folder := filepath.Join(dir, "node_modules", "assemblyscript")
		writeSource(t, filepath.Join(folder, "package.json"), `{"name": "assemblyscript", "version": "`+version+`"}`)
		return folder
	}
	project := filepath.Join(t.TempDir(), "a", "b")
	global := t.TempDir()
	t.Run("no Node.js", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := findAsc(project); !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), "apt-get install nodejs npm") {
			t.Error(err)
		}
	})
	t.Setenv("PATH", node)
	t.Setenv(ascFolder, "")
	t.Run("no compiler", func(t *testing.T) {
		if _, err := findAsc(project); !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), "npm install --global assemblyscript@"+ascVersion) {
			t.Error(err)
		}
	})
	t.Run("in PATH", func(t *testing.T) {
		folder := install(global, ascVersion)
		writeSource(t, filepath.Join(folder, "bin", "asc.js"), "")
		if err := os.Chmod(filepath.Join(folder, "bin", "asc.js"), 0o755); err != nil {
			t.Fatal(err)
		}
		bin := t.TempDir()
		if err := os.Symlink(filepath.Join(folder, "bin", "asc.js"), filepath.Join(bin, "asc")); err != nil {
			t.Skip(err)
		}
		t.Setenv("PATH", node+string(filepath.ListSeparator)+bin)
		if a, err := findAsc(project); err != nil || a.folder != folder || a.version != ascVersion {
			t.Errorf("%+v, %v", a, err)
		}
	})
	t.Run("in a folder above", func(t *testing.T) {
		folder := install(filepath.Dir(project), "0.28.1")
		if a, err := findAsc(project); err != nil || a.folder != folder || a.version != "0.28.1" {
			t.Errorf("%+v, %v", a, err)
		}
	})
	t.Run("in the folder that the environment names, of another series", func(t *testing.T) {
		other := t.TempDir()
		install(other, "0.27.0")
		t.Setenv(ascFolder, other)
		if _, err := findAsc(project); !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), "is version 0.27.0") {
			t.Error(err)
		}
	})
}
