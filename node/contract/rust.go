package contract

import (
	"bytes"
	"cmp"
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
	"syscall"

	contracts "github.com/fondaco/fondaco/sdk-contracts"
	"github.com/fondaco/fondaco/state/ledger"
)

// rust makes contracts in Rust: a library crate of type cdylib, built by cargo without a network. The attributes of the SDK write the
// interface text.
func rust() language {
	return language{
		name: "rust", marks: []string{"Cargo.toml"}, flags: strings.Join(append([]string{"--target=" + rustTarget}, rustFlags()...), " "),
		build: buildRust, files: newRust, test: testRust,
	}
}

const rustTarget = "wasm32-unknown-unknown"

// rustProfile decides what the compiler makes of a source, whatever the project's own profile says. Arithmetic that leaves its
// type ends the call; one unit of code comes out the same each time. With opt-level s the token would have 31 KB in place of 38, and a
// transfer use 3 % more gas. The names of functions stay until the module is finished.
func rustProfile() []string {
	return []string{"opt-level=2", "lto=fat", "codegen-units=1", "panic=abort", "overflow-checks=true", "debug-assertions=false", "debug=0", "incremental=false", "strip=debuginfo"}
}

// rustFlags are rustProfile and what else decides the module. With a small stack, the data and a first heap of some 40 KB fit one page of
// memory, of which each costs gas. For the other two see rustWrapper and rustGraph.remaps.
func rustFlags() []string {
	return append(rustProfile(), "link-arg=-zstack-size=16384", "metadata=NAME-VERSION", "remap-path-prefix=DIR=NAME-VERSION")
}

// rustTools are a compiler that has the contracts' target, and cargo.
type rustTools struct {
	rustc, cargo string
	version      string // such as "rustc 1.63.0"
}

// rustCompilers are the places of a compiler, the first with the contracts' target being taken: that of a version manager, which
// often comes first in PATH, has it only if asked to.
func rustCompilers() []string { return []string{os.Getenv("RUSTC"), "rustc", "/usr/bin/rustc"} }

func findRust(ctx context.Context, compilers []string) (*rustTools, error) {
	const install = "apt-get install cargo rustc libstd-rust-dev-wasm32, or: rustup target add " + rustTarget
	var seen []string
	for _, name := range compilers {
		rustc, err := exec.LookPath(name)
		if name == "" || err != nil || slices.Contains(seen, rustc) {
			continue
		}
		seen = append(seen, rustc)
		library, err := exec.CommandContext(ctx, rustc, "--print=target-libdir", "--target="+rustTarget).Output()
		if err != nil {
			continue
		}
		std, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(library)), "libstd-*"))
		if err != nil || len(std) == 0 {
			continue
		}
		version, err := exec.CommandContext(ctx, rustc, "--version").Output()
		if err != nil {
			continue
		}
		t := &rustTools{rustc: rustc, version: strings.TrimSpace(string(version))}
		for _, cargo := range []string{filepath.Join(filepath.Dir(rustc), "cargo"), "cargo"} {
			if t.cargo, err = exec.LookPath(cargo); err == nil {
				return t, nil
			}
		}
		return nil, fmt.Errorf("%w: contracts in Rust need the command \"cargo\" in PATH: %s", ErrToolchain, install)
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("%w: contracts in Rust need the command \"rustc\" in PATH, or its path in RUSTC: %s", ErrToolchain, install)
	}
	return nil, fmt.Errorf("%w: %s cannot build for %s: %s", ErrToolchain, strings.Join(seen, ", "), rustTarget, install)
}

// command returns a cargo command that runs in a folder. Of the environment it sees only where things are: variables of cargo
// and rustc could change the module.
func (t *rustTools) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.cargo, args...)
	cmd.Dir = dir
	cmd.Env = []string{"RUSTC=" + t.rustc, "RUSTDOC=" + filepath.Join(filepath.Dir(t.rustc), "rustdoc"), "RUSTC_WRAPPER=", "RUSTC_WORKSPACE_WRAPPER=", "CARGO_TERM_COLOR=never", "CARGO_NET_OFFLINE=true"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// run runs cargo and returns its output. What it complains about is the source.
func (t *rustTools) run(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		return nil, fmt.Errorf("%w: cargo: %w", ErrToolchain, err)
	}
	text := strings.TrimSpace(stderr.String())
	if len(text) > 8<<10 {
		text = text[:8<<10] + " …"
	}
	return nil, fmt.Errorf("%w: cargo %s: %w\n%s", ErrSource, cmd.Args[1], err, text)
}

func buildRust(ctx context.Context, dir string) ([]byte, ledger.Build, error) {
	t, err := findRust(ctx, rustCompilers())
	if err != nil {
		return nil, ledger.Build{}, err
	}
	graph, err := t.graph(ctx, dir)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	build := ledger.Build{Language: "rust", Compiler: t.version}
	if build.SDK, err = graph.sdkVersion(); err != nil {
		return nil, ledger.Build{}, err
	}
	if build.Source, err = graph.digest(); err != nil {
		return nil, ledger.Build{}, err
	}
	wrapper, err := rustWrapper()
	if err != nil {
		return nil, ledger.Build{}, err
	}
	defer os.Remove(wrapper)
	cmd := t.command(ctx, dir, "build", "--lib", "--release", "--target="+rustTarget, "--offline", "--locked", "--quiet", "--message-format=json-render-diagnostics")
	cmd.Env = append(cmd.Env, "RUSTC_WRAPPER="+wrapper)
	for _, option := range rustProfile() {
		name, value, _ := strings.Cut(option, "=")
		cmd.Env = append(cmd.Env, "CARGO_PROFILE_RELEASE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
	}
	flags := append([]string{"-Clink-arg=-zstack-size=16384"}, graph.remaps()...)
	cmd.Env = append(cmd.Env, "CARGO_ENCODED_RUSTFLAGS="+strings.Join(flags, "\x1f"))
	out, err := t.run(cmd)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	module, err := artifact(out, filepath.Join(dir, "Cargo.toml"))
	if err != nil {
		return nil, ledger.Build{}, err
	}
	code, err := os.ReadFile(module)
	if err != nil {
		return nil, ledger.Build{}, fmt.Errorf("read what cargo wrote: %w", err)
	}
	return code, build, nil
}

// rustWrapper writes the program that cargo calls with the compiler and its arguments, and returns its path. What cargo tells the compiler
// to tell packages apart by is made of their folders, unless they are in the workspace, and goes into the names by which the linker
// orders functions; name and version do as well.
func rustWrapper() (string, error) {
	const script = `#!/bin/sh
n=$#
while [ $n -gt 0 ]; do
	argument=$1
	shift
	n=$((n - 1))
	case $argument in
	metadata=*) argument=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION ;;
	esac
	set -- "$@" "$argument"
done
exec "$@"
`
	syscall.ForkLock.RLock() // a process that starts now would hold the file open for writing, and so nobody could run it
	defer syscall.ForkLock.RUnlock()
	f, err := os.CreateTemp("", "fondaco-rustc-")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(script)
	if err = errors.Join(err, f.Chmod(0o700), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// artifact finds the module in cargo's messages.
func artifact(messages []byte, manifest string) (string, error) {
	for d := json.NewDecoder(bytes.NewReader(messages)); d.More(); {
		var m struct {
			ManifestPath string `json:"manifest_path"`
			Filenames    []string
		}
		if err := d.Decode(&m); err != nil {
			return "", fmt.Errorf("read the output of cargo build: %w", err)
		}
		for _, file := range m.Filenames {
			if filepath.Ext(file) == ".wasm" && sameFile(m.ManifestPath, manifest) {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("%w: %s makes no module: it needs the lines [lib] and crate-type = [\"cdylib\"]", ErrSource, manifest)
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// rustGraph is what cargo metadata tells about a project and what it depends on.
type rustGraph struct {
	Packages      []rustPackage
	WorkspaceRoot string `json:"workspace_root"`
	Resolve       struct {
		Root  string
		Nodes []struct {
			ID   string
			Deps []struct {
				Pkg      string
				DepKinds []struct{ Kind string } `json:"dep_kinds"`
			}
		}
	}
}

type rustPackage struct {
	ID, Name, Version string
	ManifestPath      string  `json:"manifest_path"`
	Source            *string // nil when it is a folder
}

func (p *rustPackage) dir() string { return filepath.Dir(p.ManifestPath) }

// graph returns the project and, of its workspace, what it needs.
func (t *rustTools) graph(ctx context.Context, dir string) (*rustGraph, error) {
	out, err := t.run(t.command(ctx, dir, "metadata", "--format-version=1", "--offline", "--locked"))
	if err != nil {
		return nil, err
	}
	g := &rustGraph{}
	if err := json.Unmarshal(out, g); err != nil {
		return nil, fmt.Errorf("read the output of cargo metadata: %w", err)
	}
	if g.Resolve.Root == "" {
		return nil, fmt.Errorf("%w: Cargo.toml describes no package: create a contract with: fondaco contract new --lang rust NAME", ErrSource)
	}
	needed := []string{g.Resolve.Root}
	for i := 0; i < len(needed); i++ {
		for _, node := range g.Resolve.Nodes {
			if node.ID != needed[i] {
				continue
			}
			for _, d := range node.Deps {
				onlyTests := !slices.ContainsFunc(d.DepKinds, func(k struct{ Kind string }) bool { return k.Kind != "dev" })
				if !onlyTests && !slices.Contains(needed, d.Pkg) {
					needed = append(needed, d.Pkg)
				}
			}
		}
	}
	g.Packages = slices.DeleteFunc(g.Packages, func(p rustPackage) bool { return !slices.Contains(needed, p.ID) })
	slices.SortFunc(g.Packages, func(a, b rustPackage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	return g, nil
}

// sdkVersion returns the version of the SDK that the project uses.
func (g *rustGraph) sdkVersion() (string, error) {
	for _, p := range g.Packages {
		if p.Name == "fondaco" {
			return p.Version, nil
		}
	}
	return "", fmt.Errorf("%w: Cargo.toml does not depend on the crate fondaco: create a contract with: fondaco contract new --lang rust NAME", ErrSource)
}

// remaps are flags with which the compiler names no folder of this machine in the module.
func (g *rustGraph) remaps() []string {
	flags := []string{"--remap-path-prefix=" + g.WorkspaceRoot + "=."}
	for _, p := range g.Packages {
		if !strings.HasPrefix(p.dir(), g.WorkspaceRoot+string(filepath.Separator)) && p.dir() != g.WorkspaceRoot {
			flags = append(flags, "--remap-path-prefix="+p.dir()+"="+p.Name+"-"+p.Version)
		}
	}
	return flags
}

// digest returns the SHA-256 over the sources and manifests of the project and of the folders that it depends on, by the packages' names.
// Of packages from elsewhere, Cargo.lock has the digests.
func (g *rustGraph) digest() ([32]byte, error) {
	h := sha256.New()
	for _, p := range g.Packages {
		if p.Source != nil {
			continue
		}
		fmt.Fprintf(h, "package %s %s\n", p.Name, p.Version)
		if err := digestRust(h, p.dir()); err != nil {
			return [32]byte{}, fmt.Errorf("read the sources: %w", err)
		}
	}
	lock, err := os.ReadFile(filepath.Join(g.WorkspaceRoot, "Cargo.lock"))
	if err != nil {
		return [32]byte{}, fmt.Errorf("read the sources: %w", err)
	}
	fmt.Fprintf(h, "lock %d\n", len(lock))
	h.Write(lock)
	return [32]byte(h.Sum(nil)), nil
}

// digestRust hashes name, length and content of a package's sources and manifest, in order of name. Packages within its folder
// have their own turn.
func digestRust(h io.Writer, dir string) error {
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." {
			_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name), "Cargo.toml"))
			if err == nil || name == "target" || strings.HasPrefix(entry.Name(), ".") {
				return fs.SkipDir
			}
		}
		if !entry.Type().IsRegular() || path.Ext(name) != ".rs" && name != "Cargo.toml" {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		_, err = h.Write(content)
		return err
	})
}

// testRust runs cargo test. What is compiled for one run of tests describes nothing to a debugger and keeps nothing for the next change of
// a source: both together take as long as the rest.
func testRust(ctx context.Context, dir string, out io.Writer) error {
	t, err := findRust(ctx, rustCompilers())
	if err != nil {
		return err
	}
	cmd := t.command(ctx, dir, "test", "--offline", "--locked", "--quiet")
	cmd.Env = append(cmd.Env, "CARGO_PROFILE_DEV_DEBUG=0", "CARGO_INCREMENTAL=0")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: cargo test: %w", ErrTest, err)
	}
	return nil
}

// newRust returns a new project.
func newRust(name string) (map[string]string, error) {
	if slices.Contains(strings.Fields(rustReserved), name) {
		return nil, fmt.Errorf("%q is a word of Rust: take another name", name)
	}
	files := map[string]string{
		"Cargo.toml": rustManifest, "Cargo.lock": rustLock(name), "src/lib.rs": rustSource, "README.md": rustReadme,
		".gitignore": "/target\n*.wasm\n*.wasm.names\n", sdkFolder + "/README.md": rustSDKReadme,
	}
	for file, content := range files {
		files[file] = strings.ReplaceAll(content, "NAME", name)
	}
	for _, pattern := range []string{"Cargo.toml", "src/*.rs", "macros/Cargo.toml", "macros/src/*.rs"} {
		sources, err := fs.Glob(contracts.Sources, "rust/"+pattern)
		if err != nil || len(sources) == 0 {
			return nil, fmt.Errorf("find the SDK: no file %s, %w", pattern, err)
		}
		for _, file := range sources {
			content, err := contracts.Sources.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("find the SDK: %w", err)
			}
			text, _, _ := strings.Cut(string(content), "\n[workspace]") // of the SDK's own folder
			files[sdkFolder+strings.TrimPrefix(file, "rust")] = text
		}
	}
	return files, nil
}

// rustReserved lists names that a crate cannot have.
const rustReserved = `abstract alloc as async await become box break const continue core crate do dyn else enum extern false final fn fondaco
	for if impl in let loop macro match mod move mut override priv proc_macro pub ref return self static std struct super test trait true try type
	typeof unsafe unsized use virtual where while yield`

// rustLock returns the content of a new project's Cargo.lock, with the packages in the order that cargo wants.
func rustLock(name string) string {
	packages := []string{
		"name = \"" + name + "\"\nversion = \"1.0.0\"\ndependencies = [\n \"fondaco\",\n]\n",
		"name = \"fondaco\"\nversion = \"1.0.0\"\ndependencies = [\n \"fondaco-macros\",\n]\n",
		"name = \"fondaco-macros\"\nversion = \"1.0.0\"\n",
	}
	slices.Sort(packages)
	return "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 3\n\n[[package]]\n" +
		strings.Join(packages, "\n[[package]]\n")
}

// In these texts NAME is the contract's name.
const (
	rustManifest = `[package]
name = "NAME"
version = "1.0.0"
description = "A register in which each entry has an owner"
edition = "2021"
rust-version = "1.63"
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
fondaco = { path = ".fondaco" }

[workspace]
`

	rustSource = `//! A register in which each entry has an owner.

use fondaco::prelude::*;

contract!();

#[state]
static ADMIN: Value<Addr> = Value::new("admin");
#[state]
static ENTRIES: Map<String, Entry> = Map::new("entry");

/// One entry of the register.
#[data]
struct Entry {
    owner: Addr,
    amount: u128,
    since: u64, // block time, Unix ms
}

/// A name was entered.
#[event(indexed = [name, owner])]
struct Registered {
    name: String,
    owner: Addr,
}

/// The name is registered already.
#[error(1001)]
struct Taken {
    owner: Addr,
}

/// Runs once, at deployment.
#[init]
fn init(ctx: &Ctx) {
    ADMIN.set(&ctx.caller());
}

/// Enters a name for the caller.
#[tx(conflicts = ["entry/{name}"])]
fn register(ctx: &Ctx, name: String, amount: u128) -> Result<()> {
    if let Some(entry) = ENTRIES.get(&name) {
        return Err(Taken { owner: entry.owner }.into());
    }
    let owner = ctx.caller();
    ENTRIES.set(&name, &Entry { owner, amount, since: ctx.time_ms() });
    ctx.emit(Registered { name, owner });
    Ok(())
}

/// Takes a name out. Only the contract's administrator may.
#[tx(conflicts = ["entry/{name}"])]
fn remove(ctx: &Ctx, name: String) -> Result<()> {
    ensure!(ctx.caller() == ADMIN.load(), denied("only the administrator removes entries"));
    ENTRIES.remove(&name);
    Ok(())
}

/// Returns an entry, or nothing.
#[view]
fn lookup(_: &Ctx, name: String) -> Option<Entry> {
    ENTRIES.get(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fondaco::{code, mock::Host};

    const ALICE: Addr = Addr([1; 20]);
    const BOB: Addr = Addr([2; 20]);

    /// A chain on which Alice registered a name.
    fn chain() -> Host {
        let mut chain = Host::new();
        chain.caller = ALICE;
        chain.time_ms = 1_000;
        chain.run(init).unwrap();
        chain.run(|ctx| register(ctx, "harbour".into(), 5)).unwrap();
        chain
    }

    #[test]
    fn a_name_belongs_to_who_enters_it_first() {
        let mut chain = chain();
        assert_eq!(chain.events, [Registered { name: "harbour".into(), owner: ALICE }.into()]);
        chain.caller = BOB;
        assert_eq!(chain.run(|ctx| register(ctx, "harbour".into(), 7)), Err(Taken { owner: ALICE }.into()));
        let entry = Entry { owner: ALICE, amount: 5, since: 1_000 };
        assert_eq!(chain.view(|ctx| lookup(ctx, "harbour".into())), Ok(Some(entry)));
    }

    #[test]
    fn only_the_administrator_takes_a_name_out() {
        let mut chain = chain();
        chain.caller = BOB;
        assert_eq!(chain.run(|ctx| remove(ctx, "harbour".into())).unwrap_err().code, code::DENIED);
        chain.caller = ALICE;
        chain.run(|ctx| remove(ctx, "harbour".into())).unwrap();
        assert_eq!(chain.view(|ctx| lookup(ctx, "harbour".into())), Ok(None));
    }
}
`

	rustReadme = `# NAME

A fondaco contract in Rust. It needs cargo, rustc and the library for WebAssembly (` + "`apt-get install cargo rustc libstd-rust-dev-wasm32`" + `).

    fondaco contract test .                        # unit tests: the tests in src/lib.rs with a host in memory
    fondaco contract build --out NAME.wasm .        # the module, with its schema
    fondaco contract inspect NAME.wasm             # what is in it
    fondaco contract check NAME.wasm               # whether a node admits it

The unit tests are ordinary ones: cargo test runs them as well. What a contract can use is said in .fondaco/src/lib.rs: cargo doc --open.
`

	rustSDKReadme = `# The contract SDK

This crate came with the fondaco command that created this project. Keep it with the contract: together they
give the same module, byte for byte, on every machine that has the same rustc. To take a newer SDK, create a project in an
empty folder with a newer command and replace this folder with its .fondaco.
`
)
