package contract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	contracts "github.com/fondaco/fondaco/sdk-contracts"
	"github.com/fondaco/fondaco/state/ledger"
)

// languageC makes contracts in C. A contract is one .c file that includes the SDK's header, and other headers as it likes. The
// macros of the header write the interface text. Clang and the linker are called one after the other: by itself,
// clang would also run wasm-opt on machines that have it.
func languageC() language {
	return language{
		name: "c", marks: []string{"*.c"}, flags: strings.Join(append(clangFlags(), wasmldFlags()...), " "),
		build: buildC, files: newC, test: testC, explain: explainC,
	}
}

// clangFlags are the flags that decide what clang makes of a source. A warning in code that moves money is an error, and so is
// a conversion that may lose part of an amount; time stamps would make each build another.
func clangFlags() []string {
	return []string{
		"--target=wasm32", "-mcpu=mvp", "-std=gnu11", "-ffreestanding", "-nostdlib", "-Os", "-flto", "-mbulk-memory", "-msign-ext", "-fvisibility=hidden",
		"-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wdate-time", "-Werror",
	}
}

// wasmldFlags are those of the linker. The stack comes first in memory, so that one that is full traps; with the data and a
// first 30 KiB to decode into, all fits one page, of which each costs gas.
func wasmldFlags() []string {
	return []string{"--no-entry", "--stack-first", "-z", "stack-size=32768", "--initial-memory=65536", "-O2", "--lto-O2"}
}

func buildC(ctx context.Context, dir string) ([]byte, ledger.Build, error) {
	clang, err := findTool("clang")
	if err != nil {
		return nil, ledger.Build{}, err
	}
	wasmld, err := findTool("wasm-ld")
	if err != nil {
		return nil, ledger.Build{}, err
	}
	source, err := sourceC(dir)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	build := ledger.Build{Language: "c"}
	if build.Compiler, err = versionC(ctx, clang, wasmld); err != nil {
		return nil, ledger.Build{}, err
	}
	scratch, err := os.MkdirTemp("", "fondaco-contract-")
	if err != nil {
		return nil, ledger.Build{}, err
	}
	defer os.RemoveAll(scratch)
	// Macros tell the SDK's version, and the rule for make what is read.
	rule := filepath.Join(scratch, "contract.d")
	macros, err := runC(ctx, dir, clang, append(clangFlags(), "-E", "-dM", "-MMD", "-MT", "contract", "-MF", rule, source)...)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	if build.Source, err = digestC(dir, rule); err != nil {
		return nil, ledger.Build{}, err
	}
	version := regexp.MustCompile(`(?m)^#define FONDACO_SDK "(.*)"$`).FindSubmatch(macros)
	if version == nil {
		return nil, ledger.Build{}, fmt.Errorf("%w: %s does not include fondaco.h: create a contract with: fondaco contract new --lang c NAME", ErrSource, source)
	}
	build.SDK = string(version[1])
	object, module := filepath.Join(scratch, "contract.o"), filepath.Join(scratch, "contract.wasm")
	// The source is named relative to its folder, so that its place does not matter.
	if _, err := runC(ctx, dir, clang, append(clangFlags(), "-fmacro-backtrace-limit=1", "-c", "-o", object, source)...); err != nil {
		return nil, ledger.Build{}, fmt.Errorf("%w%s", err, explainC(ctx, dir, err))
	}
	if _, err := runC(ctx, scratch, wasmld, append(wasmldFlags(), "-o", "contract.wasm", "contract.o")...); err != nil {
		return nil, ledger.Build{}, fmt.Errorf("%w%s", err, explainC(ctx, dir, err))
	}
	code, err := os.ReadFile(module)
	if err != nil {
		return nil, ledger.Build{}, fmt.Errorf("read what the linker wrote: %w", err)
	}
	return code, build, nil
}

// explainC says what to write in place of that for which the compiler, the linker or the nodes refuse a contract: conversions that
// may change a number, floating point, with the places where it is, and functions of a C library.
func explainC(ctx context.Context, dir string, refusal error) string {
	told := refusal.Error()
	floats := strings.Contains(told, "no floating point") || strings.Contains(told, "float-conversion]")
	var missing []string
	for _, m := range regexp.MustCompile(`undefined symbol: (\w+)`).FindAllStringSubmatch(told, -1) {
		if regexp.MustCompile(`^__(fix|float|trunc|extend|[a-z]+[sdt]f[0-9]?$)`).MatchString(m[1]) {
			floats = true // what clang calls for conversions between u128 and double
		} else if !slices.Contains(missing, m[1]) {
			missing = append(missing, m[1])
		}
	}
	var text strings.Builder
	if len(missing) > 0 {
		fmt.Fprintf(&text, "\n\tthe contract defines no %s, and there is no C library: write the function, or do without", strings.Join(missing, ", "))
	}
	if regexp.MustCompile(`-W(shorten-64-to-32|implicit-int-conversion|sign-conversion|constant-conversion)\]`).MatchString(told) {
		text.WriteString("\n\ta conversion may change the number: write checked_to(TYPE, value), which ends the call when it would")
	}
	if floats {
		fmt.Fprintf(&text, "\n\tcontracts in C have no floating point%s: count in the smallest unit with u128, and take shares with checked_mul_div",
			strings.Join(floatsC(ctx, dir), ""))
	}
	return text.String()
}

// floatsC returns the first places where a contract's files say float, double or a number with a point, such as ", bond.c:7 has
// double". It returns none if the compiler does not tell.
func floatsC(ctx context.Context, dir string) []string {
	source, err := sourceC(dir)
	if err != nil {
		return nil
	}
	clang, err := findTool("clang")
	if err != nil {
		return nil
	}
	expanded, err := runC(ctx, dir, clang, append(clangFlags(), "-E", source)...)
	if err != nil {
		return nil
	}
	const most = 5
	text := regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`)
	marker := regexp.MustCompile(`^# ([0-9]+) ("(?:[^"\\]|\\.)*")((?: [1-4])*)`)
	float := regexp.MustCompile(`\b(?:float|double|_Float16|__fp16)\b|\b[0-9]+(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)[fFlL]?|\.[0-9]+`)
	var places []string
	file, line, system := source, 0, false
	for row := range strings.Lines(string(expanded)) {
		if m := marker.FindStringSubmatch(row); m != nil {
			line, _ = strconv.Atoi(m[1])
			file, _ = strconv.Unquote(m[2])
			file = path.Clean(filepath.ToSlash(file))
			system = strings.Contains(m[3], "3")
			continue
		}
		if found := float.FindString(text.ReplaceAllString(row, `""`)); found != "" && !system && len(places) < most {
			if place := fmt.Sprintf(", %s:%d has %s", file, line, found); !slices.Contains(places, place) {
				places = append(places, place)
			}
		}
		line++
	}
	return places
}

// findTool finds a tool of LLVM.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: contracts in C need the command %q of LLVM 14 or later: apt-get install clang lld", ErrToolchain, name)
	}
	return path, nil
}

// versionC returns the exact versions of compiler and linker, such as "Debian clang version 14.0.6; LLD 14.0.6".
func versionC(ctx context.Context, clang, wasmld string) (string, error) {
	first := func(tool string) (string, error) {
		out, err := exec.CommandContext(ctx, tool, "--version").Output()
		if err != nil {
			return "", fmt.Errorf("%w: %s --version: %w", ErrToolchain, tool, err)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return strings.TrimSpace(line), nil
	}
	compiler, err := first(clang)
	if err != nil {
		return "", err
	}
	if targets, err := exec.CommandContext(ctx, clang, "--print-targets").Output(); err != nil || !bytes.Contains(targets, []byte("wasm32")) {
		return "", fmt.Errorf("%w: %s has no target wasm32: put LLVM's clang before it in PATH (apt-get install clang lld)", ErrToolchain, clang)
	}
	linker, err := first(wasmld)
	if err != nil {
		return "", err
	}
	return compiler + "; " + linker, nil
}

// testSuffix is how the names of files with unit tests end.
const testSuffix = "_test.c"

// sourceC returns the name of the contract's one .c file.
func sourceC(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil {
		return "", fmt.Errorf("list the sources: %w", err)
	}
	var files []string
	for _, file := range found {
		if !strings.HasSuffix(file, testSuffix) {
			files = append(files, filepath.Base(file))
		}
	}
	switch len(files) {
	case 0:
		return "", fmt.Errorf("%w: no .c file but tests in %s; create a contract with: fondaco contract new --lang c NAME", ErrSource, dir)
	case 1:
		return files[0], nil
	}
	return "", fmt.Errorf("%w: a contract is one .c file, there are %s: include one from the other as .h", ErrSource, strings.Join(files, ", "))
}

// digestC returns the SHA-256 over name, length and content of the source and of each header that it includes, the SDK's among
// them, in order of name. The compiler listed them, as they are called from the contract's folder, in a rule for make.
func digestC(dir, rule string) ([32]byte, error) {
	list, err := os.ReadFile(rule)
	if err != nil {
		return [32]byte{}, fmt.Errorf("read what the compiler included: %w", err)
	}
	// A line goes on behind a backslash, and so does a name with a space.
	_, text, _ := strings.Cut(strings.NewReplacer("\\\r\n", "", "\\\n", "", "\\ ", "\x00", "\\#", "#", "$$", "$").Replace(string(list)), ":")
	files := strings.Fields(text)
	slices.Sort(files)
	h := sha256.New()
	for _, name := range slices.Compact(files) {
		name = path.Clean(filepath.ToSlash(strings.ReplaceAll(name, "\x00", " ")))
		file := filepath.FromSlash(name)
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return [32]byte{}, fmt.Errorf("read the sources: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		h.Write(content)
	}
	return [32]byte(h.Sum(nil)), nil
}

// runC runs a tool in a folder, without what the environment adds to its flags. What it complains about is the source.
func runC(ctx context.Context, dir, tool string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"CPATH", "C_INCLUDE_PATH", "CCC_OVERRIDE_OPTIONS", "SOURCE_DATE_EPOCH", "CLANG_CONFIG_FILE_SYSTEM_DIR"}, name)
	})
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		return nil, fmt.Errorf("%w: %s: %w", ErrToolchain, filepath.Base(tool), err)
	}
	text := strings.TrimSpace(stderr.String())
	if len(text) > 8<<10 {
		text = text[:8<<10] + " …"
	}
	return nil, fmt.Errorf("%w: %s: %w\n%s", ErrSource, filepath.Base(tool), err, text)
}

// testC compiles each unit test with the machine's C compiler, with its sanitizers if it has them, and runs it.
func testC(ctx context.Context, dir string, out io.Writer) error {
	tests, err := filepath.Glob(filepath.Join(dir, "*"+testSuffix))
	if err != nil {
		return fmt.Errorf("list the tests: %w", err)
	}
	if len(tests) == 0 {
		return fmt.Errorf("%w: no file *%s in %s", ErrTest, testSuffix, dir)
	}
	cc := ""
	for _, name := range []string{"cc", "gcc", "clang"} {
		if cc, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%w: unit tests in C need the command \"cc\": apt-get install gcc", ErrToolchain)
	}
	scratch, err := os.MkdirTemp("", "fondaco-contract-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	flags := []string{"-std=gnu11", "-g", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror"}
	if sanitizes(ctx, cc, scratch) {
		flags = append(flags, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
	}
	for _, test := range tests {
		program := filepath.Join(scratch, "unit_test")
		for _, command := range [][]string{append(slices.Clone(append([]string{cc}, flags...)), "-o", program, filepath.Base(test)), {program}} {
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("%w: %s: %s: %w", ErrTest, filepath.Base(test), filepath.Base(command[0]), err)
			}
		}
	}
	return nil
}

// sanitizes reports whether programs that the compiler makes with sanitizers run.
func sanitizes(ctx context.Context, cc, scratch string) bool {
	source, program := filepath.Join(scratch, "probe.c"), filepath.Join(scratch, "probe")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o600); err != nil {
		return false
	}
	if err := exec.CommandContext(ctx, cc, "-fsanitize=address,undefined", "-o", program, source).Run(); err != nil {
		return false
	}
	return exec.CommandContext(ctx, program).Run() == nil
}

// newC returns a new project.
func newC(name string) (map[string]string, error) {
	if strings.HasSuffix(name+".c", testSuffix) {
		return nil, fmt.Errorf("%s.c would be a unit test, which ends in %s: take another name", name, testSuffix)
	}
	files := map[string]string{
		name + ".c": cSource, name + testSuffix: cTest, "README.md": cReadme, ".gitignore": "*.wasm\n*.wasm.names\n", sdkFolder + "/README.md": cSDKReadme,
	}
	for file, content := range files {
		files[file] = strings.ReplaceAll(content, "NAME", name)
	}
	for _, header := range []string{"fondaco.h", "fondaco_mock.h"} {
		content, err := contracts.Sources.ReadFile("c/" + header)
		if err != nil {
			return nil, fmt.Errorf("find the SDK: %w", err)
		}
		files[sdkFolder+"/"+header] = string(content)
	}
	return files, nil
}

// In these texts NAME is the contract's name.
const (
	cSource = `// NAME is a contract: a register in which each entry has an owner.
#include ".fondaco/fondaco.h"

CONTRACT(NAME, "1.0.0")

// One entry of the register; since is block time, Unix ms.
STRUCT(Entry, (addr, owner), (u128, amount), (u64, since))
OPT(Entry)

VALUE(admin, addr)
MAP(entry, (str), Entry)

EVENT(Registered, (str, name), (addr, owner), indexed("name,owner"), doc("a name was entered"))

ERROR(1001, Taken, (addr, owner), doc("the name is registered already"))

INIT() { admin_set(chain_caller()); }

TX(void, register, (str, name), (u128, amount), conflicts("entry/{name}"), doc("enters a name for the caller")) {
	Entry e;
	if (entry_find(name, &e)) fail(Taken, e.owner);
	entry_set(name, (Entry){chain_caller(), amount, chain_now()});
	emit(Registered, name, chain_caller());
}

TX(void, remove, (str, name), conflicts("entry/{name}"), doc("takes a name out; only the administrator may")) {
	chain_require(addr_eq(chain_caller(), admin_get()), "only the administrator removes entries");
	entry_delete(name);
}

VIEW(opt(Entry), lookup, (str, name), doc("returns an entry, or nothing")) {
	opt_Entry found = {false, {{{0}}, 0, 0}};
	found.some = entry_find(name, &found.value);
	return found;
}
`

	cTest = `#include "NAME.c"

#include ".fondaco/fondaco_mock.h"

static const addr alice = {{1}}, bob = {{2}};

TEST("a name belongs to who enters it first") {
	mock.caller = alice;
	mock.now = 1000;
	OK(call_init());
	OK(call_register(TEXT("harbour"), 5));
	EMITTED(Registered, TEXT("harbour"), alice);

	mock.caller = bob;
	REFUSED(call_register(TEXT("harbour"), 7), Taken, alice);
	opt_Entry e = OK(call_lookup(TEXT("harbour"))).value;
	CHECK(e.some && addr_eq(e.value.owner, alice) && e.value.amount == 5 && e.value.since == 1000);
}

TEST("only the administrator takes a name out") {
	mock.caller = alice;
	OK(call_init());
	OK(call_register(TEXT("harbour"), 5));
	mock.caller = bob;
	ENDED(call_remove(TEXT("harbour")), CHAIN_DENIED);
	mock.caller = alice;
	OK(call_remove(TEXT("harbour")));
	CHECK(!OK(call_lookup(TEXT("harbour"))).value.some);
}
`

	cReadme = `# NAME

A fondaco contract in C. It needs clang and lld (` + "`apt-get install clang lld`" + `), and for its unit tests any C compiler.

    fondaco contract test .                        # NAME.story on a chain in one process, and the unit tests
    fondaco contract build --out NAME.wasm .        # the module, with its schema
    fondaco contract inspect NAME.wasm             # what is in it
    fondaco contract check NAME.wasm               # whether a node admits it

NAME.story says what the contract does, whatever language it is written in: who calls what, and what comes of it. It runs the module
itself, with the gas of a chain. The unit tests in NAME_test.c have a host in memory, and run under the sanitizers. They are an
ordinary program: cc -g NAME_test.c -o NAME_test && ./NAME_test

What a contract can use is said in .fondaco/fondaco.h, and in .fondaco/fondaco_mock.h for its tests.
`

	cSDKReadme = `# The contract SDK

These headers came with the fondaco command that created this project. Keep them with the contract: together they
give the same module, byte for byte, on every machine that has the same clang and lld. To take a newer SDK, create a project in an
empty folder with a newer command and replace this folder with its .fondaco.
`
)
