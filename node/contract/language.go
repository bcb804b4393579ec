package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// language is how contracts of one programming language are made. Functions find the tools that they need in PATH, and
// say what to install if one is missing (ErrToolchain).
type language struct {
	name  string   // as --lang and ledger.Build.Language have it: "go", "rust", "c", "as"
	marks []string // a folder with a file that matches one of these patterns holds a project of the language

	// flags tells with which target and flags build calls the compiler. It is part of contract.lock, so that a
	// change of them is seen; empty: they are none of those that matter.
	flags string

	// build compiles the project in a folder. The module has either the section of the schema or that of the interface text
	// (sdk-contracts/INTERFACE.md); Build makes the first of the second. The same sources and tools give the same bytes, in
	// whatever folder.
	build func(ctx context.Context, dir string) (code []byte, build ledger.Build, err error)
	// files returns a new project called name, by path: a contract, its unit test under the language's own tools with a mock host, a
	// README, and the SDK's sources, so that it builds without a network.
	files func(name string) (map[string]string, error)
	// explain says, in the words of the language, what an author can do about a module that nodes would refuse; empty: nothing more
	// than the error says. nil: it never has to say more.
	explain func(ctx context.Context, dir string, refusal error) string
	// test runs the project's unit tests under the language's own tools, and writes what they print.
	test func(ctx context.Context, dir string, out io.Writer) error
}

// languages lists the languages that contracts can be written in.
func languages() []language {
	return []language{golang(), languageC(), rust(), assemblyScript()}
}

// Languages returns the names of the languages that contracts can be written in, as New takes them.
func Languages() []string {
	var names []string
	for _, l := range languages() {
		names = append(names, l.name)
	}
	return names
}

// ErrLanguage says that a folder holds no contract, or that a language is not known.
var ErrLanguage = errors.New("contract language")

// languageNamed returns a language by its name.
func languageNamed(name string) (language, error) {
	for _, l := range languages() {
		if l.name == name {
			return l, nil
		}
	}
	return language{}, fmt.Errorf("%w %q is not known: want one of %s", ErrLanguage, name, strings.Join(Languages(), ", "))
}

// languageOf returns the language of the project in a folder.
func languageOf(dir string) (language, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return language{}, fmt.Errorf("%w: %s is no folder; create a contract with: fondaco contract new NAME", ErrLanguage, dir)
	}
	for _, l := range slices.Backward(languages()) { // Go last: tests in Go may stand beside any contract
		for _, mark := range l.marks {
			if found, err := filepath.Glob(filepath.Join(dir, mark)); err == nil && len(found) > 0 {
				return l, nil
			}
		}
	}
	return language{}, fmt.Errorf("%w: %s holds no contract; create one with: fondaco contract new NAME", ErrLanguage, dir)
}
