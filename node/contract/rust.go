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

// rustFlags are rustProfile and the linker's flags: with a small stack, the data and a first heap of some 40 KB fit one page of memory, of
// which each costs gas.
func rustFlags() []string {
	return append(rustProfile(), "link-arg=-zstack-size=16384")
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
	build := ledger.Build{Language: "rust", Compiler: t.version}
	if build.SDK, err = t.sdkVersion(ctx, dir); err != nil {
		return nil, ledger.Build{}, err
	}
	if build.Source, err = digestRust(dir); err != nil {
		return nil, ledger.Build{}, err
	}
	cmd := t.command(ctx, dir, "build", "--lib", "--release", "--target="+rustTarget, "--offline", "--locked", "--quiet", "--message-format=json-render-diagnostics")
	for _, option := range rustProfile() {
		name, value, _ := strings.Cut(option, "=")
		cmd.Env = append(cmd.Env, "CARGO_PROFILE_RELEASE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
	}
	cmd.Env = append(cmd.Env, "CARGO_ENCODED_RUSTFLAGS=-Clink-arg=-zstack-size=16384")
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

// sdkVersion returns the version of the SDK that the project uses.
func (t *rustTools) sdkVersion(ctx context.Context, dir string) (string, error) {
	out, err := t.run(t.command(ctx, dir, "metadata", "--format-version=1", "--offline", "--locked"))
	if err != nil {
		return "", err
	}
	var metadata struct {
		Packages []struct{ Name, Version string }
	}
	if err := json.Unmarshal(out, &metadata); err != nil {
		return "", fmt.Errorf("read the output of cargo metadata: %w", err)
	}
	for _, p := range metadata.Packages {
		if p.Name == "fondaco" {
			return p.Version, nil
		}
	}
	return "", fmt.Errorf("%w: Cargo.toml does not depend on the crate fondaco: create a contract with: fondaco contract new --lang rust NAME", ErrSource)
}

// digestRust returns the SHA-256 over name, length and content of the project's sources and manifests, in order of name.
func digestRust(dir string) ([32]byte, error) {
	h := sha256.New()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && (name == "target" || strings.HasPrefix(entry.Name(), ".")) {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() || path.Ext(name) != ".rs" && entry.Name() != "Cargo.toml" && entry.Name() != "Cargo.lock" {
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

// testRust runs cargo test.
func testRust(ctx context.Context, dir string, out io.Writer) error {
	t, err := findRust(ctx, rustCompilers())
	if err != nil {
		return err
	}
	cmd := t.command(ctx, dir, "test", "--offline", "--locked", "--quiet")
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
