package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

func newContract(c *cli.Context) error {
	args, err := arguments(c, 1, 2, "NAME [DIR]")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	name, dir := args[0], args[len(args)-1]
	if err := contract.New(dir, name, c.String("lang")); err != nil {
		switch {
		case errors.Is(err, contract.ErrExists):
			err = fmt.Errorf("%w: name another as second argument", err)
		case errors.Is(err, contract.ErrLanguage):
			err = withCode(ExitUsage, err)
		}
		return err
	}
	note(c, "Test it with `fondaco contract test %s`, build it with `fondaco contract build %s`; what it can do is in %s.", dir, dir, filepath.Join(dir, "README.md"))
	return show(c, map[string]string{"name": name, "dir": dir, "language": c.String("lang")}, func(w io.Writer) { row(w, "contract", dir) })
}

func buildContract(c *cli.Context) error {
	args, err := arguments(c, 0, 1, "[DIR|FILE.wasm]")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	if c.Bool("no-lock") && c.Bool("update-lock") {
		return usage("give --no-lock or --update-lock, not both")
	}
	build := buildProject
	if filepath.Ext(dir) == ".wasm" {
		build = finishModule
	} else if c.IsSet("interface") {
		return usage("--interface is for a module that another tool compiled: give that, FILE.wasm, in place of %s", dir)
	}
	built, err := build(c, dir)
	if err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		out = built.Schema.Name + ".wasm"
	}
	if filepath.Clean(out) == filepath.Clean(dir) {
		return usage("%s would overwrite what it is made of: name another file with --out", out)
	}
	if err := built.Write(out); err != nil {
		return err
	}
	doc := map[string]any{"file": out, "size": len(built.Code), "sha256": hex.EncodeToString(built.Hash[:]), "build": built.Build, "schema": built.Schema}
	return show(c, doc, func(w io.Writer) {
		row(w, "file", out)
		row(w, "size", fmt.Sprintf("%d KiB", (len(built.Code)+1023)/1024))
		row(w, "sha256", hex.EncodeToString(built.Hash[:]))
		row(w, "built with", built.Build.Compiler+", SDK "+built.Build.SDK)
		row(w, "contract", built.Schema.Name)
		for i := range built.Schema.Methods {
			row(w, built.Schema.Methods[i].Kind, built.Schema.Methods[i].Signature())
		}
	})
}

// buildProject builds the contract in a folder with the tools that its lock pins.
func buildProject(c *cli.Context, dir string) (*contract.Built, error) {
	built, err := contract.Build(c.Context, dir, "")
	if err != nil || c.Bool("no-lock") {
		return built, err
	}
	return built, contract.CheckLock(dir, built, c.Bool("update-lock"))
}

// finishModule makes a contract of a module that another tool compiled.
func finishModule(c *cli.Context, path string) (*contract.Built, error) {
	code, err := readModule(path)
	if err != nil {
		return nil, err
	}
	var text []byte
	if file := c.String("interface"); file != "" {
		if text, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return contract.Finish(c.Context, code, text)
}

// readModule reads a module that fits into a transaction.
func readModule(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no module %s: make one with `fondaco contract build DIR`", path))
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, usage("%s is a folder: build it with `fondaco contract build %s` and give the module", path, path)
	}
	if info.Size() > ledger.MaxDeployTxSize {
		return nil, fmt.Errorf("%s has %d bytes, a transaction holds at most %d", path, info.Size(), ledger.MaxDeployTxSize)
	}
	return os.ReadFile(path)
}

// checked is a module with what is known of it.
type checked struct {
	name  string
	code  []byte
	names []byte // of its functions, nil if unknown
}

// moduleOf reads a module, or builds the contract in a folder.
func moduleOf(c *cli.Context, path string) (*checked, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		built, err := contract.Build(c.Context, path, "")
		if errors.Is(err, wasmvm.ErrModule) {
			err = withCode(ExitInvalid, err)
		}
		if err != nil {
			return nil, err
		}
		return &checked{built.Schema.Name, built.Code, built.Names}, nil
	}
	code, err := readModule(path)
	if err != nil {
		return nil, err
	}
	names, err := contract.ReadNames(path, code)
	if err != nil {
		note(c, "%v", err)
	}
	return &checked{filepath.Base(path), code, names}, nil
}

func checkContract(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE.wasm|DIR")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	m, err := moduleOf(c, args[0])
	if err != nil {
		return err
	}
	info, err := contract.Check(c.Context, m.code)
	if errors.Is(err, wasmvm.ErrModule) {
		if _, named := contract.Check(c.Context, contract.WithNames(m.code, m.names)); named != nil {
			err = named
		}
		return withCode(ExitInvalid, fmt.Errorf("%s: nodes would refuse it: %w", args[0], err))
	}
	if err != nil {
		return err
	}
	warnings, err := contract.Lint(m.code, m.names)
	if err != nil {
		return err
	}
	folder := args[0]
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		folder = filepath.Dir(folder)
	}
	more, err := contract.LintSource(c.Context, folder, m.code)
	if errors.Is(err, contract.ErrNoSource) || errors.Is(err, contract.ErrToolchain) {
		note(c, "%v: %s, %s and %s were not looked for, give the contract's folder.", err, contract.RuleScan, contract.RuleStatus, contract.RuleState)
	} else if err != nil {
		return err
	}
	warnings = append(warnings, more...)
	doc := map[string]any{"admitted": true, "file": args[0], "info": info, "warnings": append([]contract.Warning{}, warnings...)}
	err = show(c, doc, func(w io.Writer) {
		row(w, "module", m.name)
		row(w, "verdict", "nodes would admit it")
		for _, warning := range warnings {
			row(w, "warning", warning)
		}
	})
	if err == nil && c.Bool("strict") && len(warnings) > 0 {
		return withCode(ExitInvalid, fmt.Errorf("%s has %d warnings", args[0], len(warnings)))
	}
	return err
}

func inspectContract(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE.wasm|CONTRACT")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	if _, err := os.Stat(args[0]); err == nil {
		code, err := readModule(args[0])
		if err != nil {
			return err
		}
		names, err := contract.ReadNames(args[0], code)
		if err != nil {
			note(c, "%v", err)
		}
		report, err := contract.Inspect(code, names)
		if err != nil {
			return err
		}
		if info, err := contract.Check(c.Context, code); err == nil {
			report.Gas = info.InitGas
		}
		return show(c, report, func(w io.Writer) { fmt.Fprint(w, report.Text()) })
	}
	if filepath.Ext(args[0]) == ".wasm" {
		_, err := readModule(args[0])
		return err
	}
	return talk(c, func(r *remote) error {
		address, err := r.contract(args[0])
		if err != nil {
			return err
		}
		found, err := r.Contract(r.ctx, address)
		if err != nil {
			return err
		}
		schema, err := r.schema(address)
		if err != nil {
			return err
		}
		var report *contract.Report
		if !found.System {
			if report, err = r.inspect(address); err != nil {
				return err
			}
		}
		return show(c, onChain{found, report}, func(w io.Writer) {
			row(w, "contract", found.Address)
			row(w, "name", found.Name)
			if found.System {
				row(w, "kind", "system contract")
			}
			if found.Owner != nil {
				row(w, "owner", *found.Owner)
			}
			if found.CodeHash != nil {
				row(w, "code", *found.CodeHash)
				row(w, "in force since", fmt.Sprintf("block %d", found.Height))
			}
			fmt.Fprintln(w)
			switch {
			case report != nil:
				fmt.Fprint(w, report.Text())
			case schema != nil:
				fmt.Fprint(w, contract.Describe(schema))
			}
		})
	})
}

// onChain is a contract on the chain with what its module says; a system contract has none.
type onChain struct {
	*client.Contract
	Module *contract.Report `json:"module,omitempty"`
}

// inspect reads what the module of a contract says of itself.
func (r *remote) inspect(address ledger.Address) (*contract.Report, error) {
	code, err := r.codeOf(address)
	if err != nil {
		return nil, err
	}
	report, err := contract.Inspect(code, nil)
	if err != nil {
		return nil, err
	}
	if info, err := contract.Check(r.ctx, code); err == nil {
		report.Gas = info.InitGas
	}
	return report, nil
}

func verifyContract(c *cli.Context) error {
	args, err := arguments(c, 2, 2, "CONTRACT|HASH|FILE.wasm DIR")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	what, dir := args[0], args[1]
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usage("%s is no folder: give that of the contract's sources as second argument", dir)
	}
	if hash, err := contract.ParseHash(what); err == nil {
		return verifyHash(c, hash, dir)
	}
	if _, err := os.Stat(what); err == nil || filepath.Ext(what) == ".wasm" {
		code, err := readModule(what)
		if err != nil {
			return err
		}
		return verifyModule(c, what, code, dir)
	}
	return talk(c, func(r *remote) error {
		address, err := r.contract(what)
		if err != nil {
			return err
		}
		code, err := r.codeOf(address)
		if err != nil {
			return err
		}
		return verifyModule(c, what, code, dir)
	})
}

// codeOf returns the module of a contract on the chain, and holds the node to the hash that it states.
func (r *remote) codeOf(address ledger.Address) ([]byte, error) {
	found, err := r.Contract(r.ctx, address)
	if err != nil {
		return nil, err
	}
	if found.CodeHash == nil {
		return nil, usage("%s is a system contract: it is part of the node, and has no module", address)
	}
	code, err := r.Code(r.ctx, address)
	if err != nil {
		return nil, err
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	if keys.Hash(suite, "code", code) != *found.CodeHash {
		return nil, fmt.Errorf("%s gives code that has not the hash %s, which it states for the contract: ask another node with --api", r.url, *found.CodeHash)
	}
	return code, nil
}

func verifyModule(c *cli.Context, what string, code []byte, dir string) error {
	v, err := contract.Verify(c.Context, dir, code)
	if err != nil {
		return err
	}
	return showVerification(c, v, what, dir)
}

// verifyHash compares sources with a hash. That of a chain depends on its suite, which it tells if one is named.
func verifyHash(c *cli.Context, hash [32]byte, dir string) error {
	verify := func(suite keys.Suite) error {
		v, err := contract.VerifyHash(c.Context, dir, suite, hash)
		if err != nil {
			return err
		}
		return showVerification(c, v, "the module with this hash", dir)
	}
	if !c.IsSet("api") && os.Getenv("FONDACO_API") == "" {
		return verify(keys.Std())
	}
	return talk(c, func(r *remote) error {
		suite, err := r.Suite(r.ctx)
		if err != nil {
			return err
		}
		return verify(suite)
	})
}

func showVerification(c *cli.Context, v *contract.Verification, what, dir string) error {
	err := show(c, v, func(w io.Writer) {
		row(w, "given", v.Given)
		row(w, "built", v.Built)
		if v.Stored != "" {
			row(w, "on a chain", v.Stored+", of suite "+v.Suite)
		}
		row(w, "same", v.Same)
		for _, d := range v.Differences {
			row(w, "difference", d)
		}
	})
	if err == nil && !v.Same {
		return fmt.Errorf("%s is not what the sources in %s give with the tools that are installed", what, dir)
	}
	return err
}
