// Package contract makes contracts: it scaffolds a project, builds it into a WebAssembly module, tests it, and reports
// what is in a module. It is the library behind "fondaco contract".
//
// A contract is written in one of several languages, each of which has its own file here and the same few functions
// (the type language). What they compile is finished in one way: the schema is made from the text that the
// author's macros wrote (../../sdk-contracts/INTERFACE.md), unless the builder knows it already; the compiler's other custom
// sections are taken out; data segments are merged (Go's are 20,000, and take two thirds of the time to instantiate);
// the schema and what is known about the build are appended; and the module is checked as a node would. The same
// sources and the same tools give the same bytes on every machine.
package contract

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Errors that a caller may branch on.
var (
	// ErrToolchain says that a tool of the contract's language is missing or too old; the text says what to install.
	ErrToolchain = errors.New("toolchain")
	// ErrSource says that the contract's source cannot be built; the text names file and line.
	ErrSource = errors.New("contract source")
	// ErrTest says that the contract's tests did not pass; what they printed says why.
	ErrTest = errors.New("contract tests")
)

// Built is a contract module with what is known about it.
type Built struct {
	Code   []byte         // the module
	Names  []byte         // content of the compiler's name section, which Code has not; nil: none. See WithNames
	Hash   [32]byte       // SHA-256 of Code
	Schema *ledger.Schema // as the module carries it
	Build  ledger.Build   // as the module carries it
}

// Build builds the contract in folder dir, in whatever language it is. When out is not empty, the module is written
// there as well, and the names of its functions next to it (see WithNames). The tools of the language are looked
// up in PATH.
func Build(ctx context.Context, dir, out string) (*Built, error) {
	l, err := languageOf(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("build the contract in %s: %w", dir, err)
	}
	code, build, err := l.build(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("build the contract in %s: %w", dir, err)
	}
	built, err := finish(code, build)
	if err == nil {
		if err = admitted(ctx, built); err != nil && l.explain != nil {
			err = fmt.Errorf("%w%s", err, l.explain(ctx, dir, err))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("build the contract in %s: %w", dir, err)
	}
	if out != "" {
		if err := built.Write(out); err != nil {
			return nil, err
		}
	}
	return built, nil
}

// admitted checks a module that was built as a node would.
func admitted(ctx context.Context, built *Built) error {
	_, err := Check(ctx, built.Code)
	if err == nil {
		return nil
	}
	if _, named := Check(ctx, WithNames(built.Code, built.Names)); named != nil {
		err = named // the same, with the function's name
	}
	return fmt.Errorf("nodes would refuse the module: %w%s", err, importHint(err))
}

// Finish makes a contract's module of one that any other tool compiled: an SDK that this package does not know. The interface
// text is in the module, or given apart; nil: it is in the module. Build.Language of the result is "wasm", unless the
// module says itself how it was built.
func Finish(ctx context.Context, code, text []byte) (*Built, error) {
	if _, err := splitModule(code); err != nil {
		return nil, fmt.Errorf("finish a module: %w", err)
	}
	build := ledger.Build{Language: "wasm", Compiler: "unknown", SDK: "none", Source: sha256.Sum256(code)}
	if section, err := ledger.ModuleSection(code, ledger.BuildSection); err != nil {
		return nil, fmt.Errorf("finish a module: %w", err)
	} else if section != nil {
		if err := ledger.Unmarshal(section, &build); err != nil {
			return nil, fmt.Errorf("finish a module: section %s: %w", ledger.BuildSection, err)
		}
	}
	if text != nil {
		code = appendSection(code, interfaceSection, text)
	}
	built, err := finish(code, build)
	if err == nil {
		err = admitted(ctx, built)
	}
	if err != nil {
		return nil, fmt.Errorf("finish a module: %w", err)
	}
	return built, nil
}

// importHint explains the refusal of an import.
func importHint(err error) string {
	if e, ok := errors.AsType[*wasmvm.ModuleError](err); ok && strings.Contains(e.Reason, "wasi_snapshot_preview1") {
		return "; a package that the contract imports uses files or the network, which contracts have not: remove its import"
	}
	return ""
}

// NamesSuffix is what the name of the file with a module's names adds to the module's.
const NamesSuffix = ".names"

// Write writes the module to file out, and its names, if there are any, to a file next to it.
func (b *Built) Write(out string) error {
	if err := os.WriteFile(out, b.Code, 0o644); err != nil {
		return fmt.Errorf("write the module: %w", err)
	}
	if b.Names == nil {
		return nil
	}
	if err := os.WriteFile(out+NamesSuffix, encodeNames(b.Names, b.Hash), 0o644); err != nil {
		return fmt.Errorf("write the module's names: %w", err)
	}
	return nil
}

// Test runs the unit tests of the contract in folder dir with the tools of its language, and writes what they print to
// out. ErrTest says that they did not pass.
func Test(ctx context.Context, dir string, out io.Writer) error {
	l, err := languageOf(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("test the contract in %s: %w", dir, err)
	}
	if err := l.test(ctx, dir, out); err != nil {
		return fmt.Errorf("test the contract in %s: %w", dir, err)
	}
	return nil
}
