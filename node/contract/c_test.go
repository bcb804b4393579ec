package contract

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// needC skips the test on a machine that cannot build contracts in C.
func needC(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		_, err := findTool(tool)
		switch {
		case err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") == "1":
			t.Fatal(err)
		case err != nil:
			t.Skip(err)
		}
	}
}

// TestCProject makes a project in two folders, as two authors would: both build to the same module, whatever their environment says,
// and its unit tests pass.
func TestCProject(t *testing.T) {
	needC(t)
	var modules []*Built
	folder := ""
	for i, name := range []string{"one", filepath.Join("two", "deeper")} {
		dir := filepath.Join(t.TempDir(), name)
		if err := New(dir, "bond", "c"); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			t.Setenv("CPATH", t.TempDir())
			t.Setenv("SOURCE_DATE_EPOCH", "1")
			t.Setenv("CCC_OVERRIDE_OPTIONS", "# O0")
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
	if schema.Name != "bond" || schema.Profile != "strict" || len(schema.Methods) != 4 || len(modules[0].Code) > 16<<10 || modules[0].Build.SDK != "1" {
		t.Errorf("a module of %d bytes by SDK %q with the schema %+v", len(modules[0].Code), modules[0].Build.SDK, schema)
	}
	if names, err := FunctionNames(modules[0].Names); err != nil || len(names) == 0 {
		t.Errorf("names of the functions: %v, %v", names, err)
	}

	t.Run("its unit tests pass", func(t *testing.T) {
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); err != nil || !strings.Contains(out.String(), "2 of 2 tests passed") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	source, unitTest := filepath.Join(folder, "bond.c"), filepath.Join(folder, "bond_test.c")
	content, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("another source has another digest, and a comment makes no other code", func(t *testing.T) {
		write(source, string(content)+"\n// the end\n")
		built, err := Build(t.Context(), folder, "")
		if err != nil || built.Build.Source == modules[0].Build.Source || len(built.Code) != len(modules[0].Code) {
			t.Errorf("%+v, %v", built, err)
		}
	})
	t.Run("the digest is that of every file which the compiler reads", func(t *testing.T) {
		defer write(source, string(content))
		const name = "terms of $2 #1/deep"
		if err := os.MkdirAll(filepath.Join(folder, filepath.FromSlash(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(source, strings.Replace(string(content), "CONTRACT(", "#include \""+name+"/limits.h\"\n\nCONTRACT(", 1))
		digests := map[[32]byte]bool{modules[0].Build.Source: true}
		for i, text := range []string{"enum { MOST = 1 };\n", "enum { MOST = 2 };\n"} {
			write(filepath.Join(folder, filepath.FromSlash(name), "limits.h"), text)
			built, err := Build(t.Context(), folder, "")
			if err != nil {
				t.Fatal(err)
			}
			if digests[built.Build.Source] = true; len(digests) != i+2 {
				t.Errorf("with %s in a header the digest is that of another source", text)
			}
		}
		unread := filepath.Join(folder, "unread.h")
		write(source, string(content))
		write(unread, "not C\n")
		defer os.Remove(unread)
		built, err := Build(t.Context(), folder, "")
		if err != nil || built.Build.Source != modules[0].Build.Source {
			t.Errorf("with a header that is not included: %v", err)
		}
	})
	t.Run("a test that fails is told", func(t *testing.T) {
		write(source, strings.Replace(string(content), "fail(Taken, e.owner)", "fail(Taken, chain_caller())", 1))
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); !errors.Is(err, ErrTest) || !strings.Contains(out.String(), "bond_test.c:15: ") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	t.Run("a test that does not compile is told", func(t *testing.T) {
		good, err := os.ReadFile(unitTest)
		if err != nil {
			t.Fatal(err)
		}
		write(source, string(content))
		write(unitTest, string(good)+"nonsense\n")
		defer write(unitTest, string(good))
		var out strings.Builder
		if err := Test(t.Context(), folder, &out); !errors.Is(err, ErrTest) || !strings.Contains(out.String(), "bond_test.c:") {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
	t.Run("what the compiler refuses is shown with its place", func(t *testing.T) {
		for _, c := range []struct{ old, new, want string }{
			{"(u128, amount), conflicts", "(u256, amount), conflicts", "u256"},
			{"conflicts(\"entry/{name}\"), doc(\"enters", "conflict(\"entry/{name}\"), doc(\"enters", "conflict("},
			{"fail(Taken, e.owner)", "fail(Token, e.owner)", "Token"},
			{"emit(Registered, name, chain_caller())", "emit(Registered, name)", "missing field"},
			{"entry_delete(name);", "entry_drop(name);", "entry_drop"},
			{"entry_delete(name);", "chain_call(chain_at(admin_get()), name, (bytes){0, 0});", "ignoring return value"},
			{"	return found;\n", "", "non-void function"},
			{"(u64, since))", "(u64, since)", "unterminated"},
			{"chain_now()}", "__TIME__[0]}", "not reproducible"},
		} {
			write(source, strings.Replace(string(content), c.old, c.new, 1))
			_, err := Build(t.Context(), folder, "")
			if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bond.c:") {
				t.Errorf("%s: %v", c.new, err)
			}
		}
	})
	t.Run("conversions that may lose part of an amount are refused, with the way out", func(t *testing.T) {
		silent := []string{
			"u64 x0 = amount;", "u32 x1 = chain_now();", "u64 x2 = checked_div(amount, 2);", "u64 x3 = (i64)amount;", "u128 x4 = -1;",
			"u8 x5 = 256;", "i64 x6 = chain_now();", "u64 x7 = checked_add(amount, 1);",
		}
		write(source, strings.Replace(string(content), "	Entry e;\n	if", strings.Join(silent, " ")+"\n	Entry e;\n	if", 1))
		_, err := Build(t.Context(), folder, "")
		if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "bond.c:") || !strings.Contains(err.Error(), "write checked_to(TYPE, value)") {
			t.Error(err)
		}
		if got := strings.Count(err.Error(), "error: implicit conversion"); got != len(silent) {
			t.Errorf("%d of %d conversions were told:\n%v", got, len(silent), err)
		}
		if err := Test(t.Context(), folder, io.Discard); !errors.Is(err, ErrTest) {
			t.Errorf("in a unit test: %v", err)
		}
		write(source, strings.Replace(string(content), "	Entry e;\n	if", "	u64 x = checked_to(u64, amount);\n	(void)x;\n	Entry e;\n	if", 1))
		if _, err := Build(t.Context(), folder, ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("floating point is refused, with its place and the way out", func(t *testing.T) {
		write(filepath.Join(folder, "rates.h"), "// 0.5 of it\n#define HALF .5\n#define RATE \"double 1.5\"\nstatic double half(double x) { return x * HALF; }\n")
		defer os.Remove(filepath.Join(folder, "rates.h"))
		for _, c := range []struct{ old, new, want string }{
			{"	Entry e;\n	if", "	u64 part = (u64)((float)chain_now() * 0x10);\n	Entry e = {chain_caller(), part, part};\n	entry_set(name, e);\n	if", ", bond.c:20 has float"},
			{"	Entry e;\n	if", "	u64 part = (u64)(chain_now() * 1.5);\n	Entry e = {chain_caller(), part, part};\n	entry_set(name, e);\n	if", ", bond.c:20 has 1.5"},
			{"	Entry e;\n	if", "	Entry e = {chain_caller(), (u128)((double)amount * 2), 1};\n	entry_set(name, e);\n	if", ", bond.c:20 has double"},
			{"VIEW(opt(Entry)", "#include \"rates.h\"\nVIEW(u64, half_of, (u64, n)) { return (u64)half((double)n); }\nVIEW(opt(Entry)", ", rates.h:4 has double, bond.c:32 has double"},
			{"	Entry e;\n	if", "	extern u64 strlen(const char *);\n	Entry e = {chain_caller(), strlen(name.at), 1};\n	entry_set(name, e);\n	if", "the contract defines no strlen, and there is no C library"},
		} {
			write(source, strings.Replace(string(content), c.old, c.new, 1))
			_, err := Build(t.Context(), folder, "")
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(c.want, "has") != strings.Contains(err.Error(), "checked_mul_div") {
				t.Errorf("%s: %v", c.new, err)
			}
		}
	})
	t.Run("what the schema cannot say is refused", func(t *testing.T) {
		for _, c := range []struct{ old, new, want string }{
			{"ERROR(1001", "ERROR(7", "from 1000"},
			{"indexed(\"name,owner\")", "indexed(\"who\")", "who"},
			{"CONTRACT(bond, \"1.0.0\")", "", "contract"},
		} {
			write(source, strings.Replace(string(content), c.old, c.new, 1))
			if _, err := Build(t.Context(), folder, ""); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.new, err)
			}
		}
	})
	t.Run("a contract is one file that includes the SDK", func(t *testing.T) {
		write(source, "int x;\n")
		if _, err := Build(t.Context(), folder, ""); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "bond.c does not include fondaco.h") {
			t.Error(err)
		}
		write(filepath.Join(folder, "more.c"), "int y;\n")
		if _, err := Build(t.Context(), folder, ""); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "there are bond.c, more.c") {
			t.Error(err)
		}
		lonely := t.TempDir()
		write(filepath.Join(lonely, "a_test.c"), "int z;\n")
		if _, err := Build(t.Context(), lonely, ""); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "new --lang c") {
			t.Error(err)
		}
	})
}

// TestCNames makes projects with names that mean something to C: each builds and passes its tests, or is refused with a reason.
func TestCNames(t *testing.T) {
	t.Parallel()
	needC(t)
	for name, refused := range map[string]string{"bond_test": "would be a unit test", "alice": "an account of a new project's story", "linux": "", "int": ""} {
		dir := filepath.Join(t.TempDir(), name)
		err := New(dir, name, "c")
		if refused != "" {
			if err == nil || !strings.Contains(err.Error(), refused) || !strings.Contains(err.Error(), "take another name") {
				t.Errorf("New: %v, want %q", err, refused)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if built, err := Build(t.Context(), dir, ""); err != nil || built.Schema.Name != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCToolchain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bond")
	if err := New(dir, "bond", "c"); err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	t.Setenv("PATH", tools)
	refused := func(want string) {
		t.Helper()
		_, err := Build(t.Context(), dir, "")
		if !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "apt-get install clang lld") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	fake := func(name, script string) {
		if err := os.WriteFile(filepath.Join(tools, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	refused(`need the command "clang"`)
	fake("clang", "echo Apple clang")
	refused(`need the command "wasm-ld"`)
	fake("wasm-ld", "echo LLD")
	refused("has no target wasm32")
	if err := Test(t.Context(), dir, io.Discard); err != nil && !errors.Is(err, ErrToolchain) && !errors.Is(err, ErrTest) {
		t.Error(err)
	}
}
