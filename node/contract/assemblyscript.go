package contract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	contracts "github.com/fondaco/fondaco/sdk-contracts"
	"github.com/fondaco/fondaco/state/ledger"
)

// assemblyScript makes contracts in AssemblyScript. A contract is a folder with an asconfig.json that extends the SDK's, which
// names the compiler's options and the transform that makes a contract of the author's file. The compiler is a
// package of npm, and runs under Node.js.
func assemblyScript() language {
	return language{name: "as", marks: []string{"asconfig.json"}, build: buildAS, files: newAS, test: testAS}
}

// The versions of the compiler that the SDK's transform works with, as it reads the compiler's syntax tree, and the one that it
// is tested with.
const (
	ascSeries  = "0.28."
	ascVersion = "0.28.20"
)

// ascFolder is the environment's variable that names the folder of the compiler, or one with node_modules.
const ascFolder = "FONDACO_ASC"

// ascBaseline is a module that makes V8 compile WebAssembly with its baseline compiler only. The compiler's back end is 10 MB of it:
// to optimize that takes twice as long as all that the back end does for a contract. It is no flag, as Node.js does not start with one
// that its V8 does not know. The SDK's testing.mjs has the same.
const ascBaseline = `data:text/javascript,import { setFlagsFromString } from "node:v8"; setFlagsFromString("--liftoff-only");`

// asc is a compiler of AssemblyScript.
type asc struct {
	node    string // the command
	folder  string // of the package assemblyscript
	version string // such as "0.28.20"
}

// findAsc finds the compiler for a project: in the folder that FONDACO_ASC names, in node_modules of the project or a
// folder above, in PATH.
func findAsc(dir string) (asc, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return asc{}, fmt.Errorf(`%w: contracts in AssemblyScript need Node.js 20 or later and its command "npm": apt-get install nodejs npm; then: npm install --global assemblyscript@%s`, ErrToolchain, ascVersion)
	}
	var places []string
	if named := os.Getenv(ascFolder); named != "" {
		places = []string{named, filepath.Join(named, "node_modules", "assemblyscript")}
	} else {
		for at := dir; ; at = filepath.Dir(at) {
			places = append(places, filepath.Join(at, "node_modules", "assemblyscript"))
			if at == filepath.Dir(at) {
				break
			}
		}
		if command, err := exec.LookPath("asc"); err == nil {
			places = append(places, filepath.Join(filepath.Dir(command), "node_modules", "assemblyscript")) // on Windows
			if script, err := filepath.EvalSymlinks(command); err == nil {
				places = append(places, filepath.Dir(filepath.Dir(script)))
			}
		}
	}
	for _, place := range places {
		var about struct{ Name, Version string }
		if err := readJSON(filepath.Join(place, "package.json"), &about); err != nil || about.Name != "assemblyscript" {
			continue
		}
		if !strings.HasPrefix(about.Version, ascSeries) {
			return asc{}, fmt.Errorf("%w: %s is version %s, the SDK works with %sx: npm install --global assemblyscript@%s", ErrToolchain, place, about.Version, ascSeries, ascVersion)
		}
		if place, err = filepath.EvalSymlinks(place); err != nil {
			return asc{}, fmt.Errorf("%w: %w", ErrToolchain, err)
		}
		return asc{node: node, folder: place, version: about.Version}, nil
	}
	return asc{}, fmt.Errorf(`%w: contracts in AssemblyScript need the command "asc": npm install --global assemblyscript@%s, or npm install in %s`, ErrToolchain, ascVersion, dir)
}

func readJSON(file string, v any) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, v); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

// command prepares a call of Node.js in a folder, without what the environment adds to its flags.
func (a asc) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.node, args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NODE_OPTIONS=") || strings.HasPrefix(v, "NODE_PATH=") || strings.HasPrefix(v, "FORCE_COLOR=")
	})
	cmd.Env = append(cmd.Env, ascFolder+"="+a.folder)
	return cmd
}

func buildAS(ctx context.Context, dir string) ([]byte, ledger.Build, error) {
	a, err := findAsc(dir)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	build := ledger.Build{Language: "as", Compiler: "assemblyscript " + a.version}
	if build.SDK, err = sdkAS(dir); err != nil {
		return nil, ledger.Build{}, err
	}
	if build.Source, err = digestAS(dir); err != nil {
		return nil, ledger.Build{}, err
	}
	scratch, err := os.MkdirTemp("", "fondaco-contract-")
	if err != nil {
		return nil, ledger.Build{}, err
	}
	defer os.RemoveAll(scratch)
	module := filepath.Join(scratch, "contract.wasm")
	// Without source maps for its own traces, the compiler would start itself again with them. The base folder is absolute, as
	// the compiler takes a path like .fondaco/transform.mjs for a package's name.
	cmd := a.command(ctx, dir, "--enable-source-maps", "--import", ascBaseline, filepath.Join(a.folder, "bin", "asc.js"), "--baseDir", dir, "--outFile", module)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			return nil, ledger.Build{}, fmt.Errorf("%w: %s: %w", ErrToolchain, a.node, err)
		}
		text := strings.TrimSpace(output.String())
		if len(text) > 8<<10 {
			text = text[:8<<10] + " …"
		}
		return nil, ledger.Build{}, fmt.Errorf("%w: asc: %w\n%s", ErrSource, err, text)
	}
	code, err := os.ReadFile(module)
	if err != nil {
		return nil, ledger.Build{}, fmt.Errorf("read what the compiler wrote: %w", err)
	}
	return code, build, nil
}

// sdkAS returns the version of the SDK whose asconfig.json a project's extends.
func sdkAS(dir string) (string, error) {
	var config struct{ Extends string }
	if err := readJSON(filepath.Join(dir, "asconfig.json"), &config); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSource, err)
	}
	var sdk struct{ Name, Version string }
	file := filepath.Join(dir, filepath.Dir(filepath.FromSlash(config.Extends)), "package.json")
	if err := readJSON(file, &sdk); config.Extends == "" || err != nil || sdk.Name != "fondaco" {
		return "", fmt.Errorf("%w: asconfig.json in %s does not extend that of the SDK: create a contract with: fondaco contract new --lang as NAME", ErrSource, dir)
	}
	return sdk.Version, nil
}

// digestAS returns the SHA-256 over name, length and content of a project's .ts files, asconfig.json and package.json (which names
// the contract), in order of name. Hidden folders, tests and installed packages do not count.
func digestAS(dir string) ([32]byte, error) {
	h := sha256.New()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules" || name == "test") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".ts" && name != "asconfig.json" && name != "package.json" {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		h.Write(content)
		return nil
	})
	if err != nil {
		return [32]byte{}, fmt.Errorf("read the sources: %w", err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// testAS runs the project's unit tests under Node.js. They are named to it: by itself it would take all that lies below a folder
// called test for tests, and the project may be there.
func testAS(ctx context.Context, dir string, out io.Writer) error {
	a, err := findAsc(dir)
	if err != nil {
		return err
	}
	var tests []string
	err = fs.WalkDir(os.DirFS(dir), "test", func(name string, _ fs.DirEntry, err error) error {
		if matched, _ := path.Match("*.test.*js", path.Base(name)); matched {
			tests = append(tests, filepath.FromSlash(name))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the tests: %w", err)
	}
	if len(tests) == 0 {
		return fmt.Errorf("%w: no file such as test/bond.test.mjs in %s", ErrTest, dir)
	}
	cmd := a.command(ctx, dir, append([]string{"--test"}, tests...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: node --test: %w", ErrTest, err)
	}
	return nil
}

// newAS returns a new project.
func newAS(name string) (map[string]string, error) {
	files := map[string]string{
		"package.json": asPackage, "asconfig.json": asConfig, "assembly/index.ts": asSource, "assembly/tsconfig.json": asEditor,
		"test/" + name + ".test.mjs": asTest, "README.md": asReadme, ".gitignore": "*.wasm\n*.wasm.names\nnode_modules/\n",
		sdkFolder + "/README.md": asSDKReadme,
	}
	for file, content := range files {
		files[file] = strings.NewReplacer("NAME", name, "ASC", ascVersion).Replace(content)
	}
	for _, pattern := range []string{"as/*.json", "as/*.mjs", "as/lib/*.ts", "as/lib/fondaco/*.ts"} {
		sources, err := fs.Glob(contracts.Sources, pattern)
		if err != nil {
			return nil, fmt.Errorf("find the SDK: %w", err)
		}
		for _, file := range sources {
			content, err := contracts.Sources.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("find the SDK: %w", err)
			}
			files[path.Join(sdkFolder, strings.TrimPrefix(file, "as/"))] = string(content)
		}
	}
	return files, nil
}

// In these texts NAME is the contract's name, ASC the version of the compiler.
const (
	asPackage = `{
  "name": "NAME",
  "version": "1.0.0",
  "private": true,
  "description": "A register in which each entry has an owner.",
  "type": "module",
  "scripts": {
    "test": "node --test test/*.test.mjs"
  },
  "devDependencies": {
    "assemblyscript": "ASC"
  }
}
`

	asConfig = `{
  "extends": "./.fondaco/asconfig.json",
  "entries": ["assembly/index.ts"]
}
`

	asEditor = `{
  "extends": "assemblyscript/std/assembly.json",
  "compilerOptions": { "paths": { "fondaco": ["../.fondaco/lib/fondaco.ts"] } },
  "include": ["./**/*.ts"]
}
`

	asSource = `import { Address, StateMap, StateValue, ctx, emit, require, u128 } from "fondaco";

/** One entry of the register. */
@struct class Entry {
  owner: Address;
  amount: u128;
  since: u64; // block time, Unix ms
}

/** A name was entered. */
@event class Registered {
  @indexed name: string;
  @indexed owner: Address;
}

/** The name is registered already. */
@error(1001) class Taken {
  owner: Address;
}

const admin = new StateValue<Address>("admin");
const entries = new StateMap<string, Entry>("entry");

/** Runs once, at deployment. */
@init
export function init(): void {
  admin.set(ctx.caller);
}

/** Enters a name for the caller. */
@tx({ conflicts: ["entry/{name}"] })
export function register(name: string, amount: u128): void {
  const entry = entries.find(name);
  if (entry !== null) throw new Taken(entry.owner);
  entries.set(name, new Entry(ctx.caller, amount, ctx.now));
  emit(new Registered(name, ctx.caller));
}

/** Takes a name out. Only the contract's administrator may. */
@tx({ conflicts: ["entry/{name}"] })
export function remove(name: string): void {
  require(ctx.caller == admin.get(), "only the administrator removes entries");
  entries.delete(name);
}

/** Returns an entry, or nothing. */
@view
export function lookup(name: string): Entry | null {
  return entries.find(name);
}
`

	asTest = `import assert from "node:assert/strict";
import { test } from "node:test";
import { Host, address } from "../.fondaco/testing.mjs";

const [alice, bob] = ["alice", "bob"].map(address);

test("a name belongs to who enters it first", () => {
  const host = new Host({ caller: alice, now: 1000 });
  const contract = host.deploy();
  contract.register("harbour", 5n);
  assert.deepEqual(host.events, [{ topic: "Registered", name: "harbour", owner: alice }]);

  host.caller = bob;
  assert.throws(() => contract.register("harbour", 7n), { name: "Taken", owner: alice });
  assert.deepEqual(contract.lookup("harbour"), { owner: alice, amount: 5n, since: 1000n });
});

test("only the administrator takes a name out", () => {
  const host = new Host({ caller: alice });
  const contract = host.deploy();
  contract.register("harbour", 5n);
  host.caller = bob;
  assert.throws(() => contract.remove("harbour"), { code: 5 });
  host.caller = alice;
  contract.remove("harbour");
  assert.equal(contract.lookup("harbour"), null);
});
`

	asReadme = `# NAME

A fondaco contract in AssemblyScript. It needs Node.js 20 and the compiler: ` + "`npm install`" + ` here, or once
` + "`npm install --global assemblyscript@ASC`" + `.

    fondaco contract test .                        # NAME.story on a chain in one process, and the unit tests in test (or: npm test)
    fondaco contract build --out NAME.wasm .        # the module, with its schema
    fondaco contract inspect NAME.wasm             # what is in it
    fondaco contract check NAME.wasm               # whether a node admits it

NAME.story says what the contract does, whatever language it is written in: who calls what, and what comes of it. It runs the module
itself, with the gas of a chain. The unit tests call the contract from JavaScript, with a host in memory.

The contract's name, version and description are those of package.json. What a contract can use is in .fondaco/lib/fondaco.ts, what
its tests can use in .fondaco/testing.mjs.
`

	asSDKReadme = `# The contract SDK

These files came with the fondaco command that created this project. Keep them with the contract: together they give
the same module, byte for byte, on every machine that has the same compiler. To take a newer SDK, create a project in an empty folder
with a newer command and replace this folder with its .fondaco.
`
)
