package contract

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// golang makes contracts in Go. The author's package is an ordinary library package: the builder type-checks it, finds the
// methods with //chain: directives, and writes two files that exist only for the compiler (go build -overlay): the exports
// and codecs in the package itself, and a main package that imports it. Nothing is found out by reflection at run time, and
// nothing is written into the author's folder.
func golang() language {
	return language{name: "go", marks: []string{"*.go"}, flags: strings.Join(append(goTarget(), goFlags()...), " "), build: buildGo, files: newGo, test: testGo}
}

// goTarget is the target of the go command, as environment variables.
func goTarget() []string { return []string{"GOOS=wasip1", "GOARCH=wasm"} }

// goFlags are the flags of go build.
func goFlags() []string {
	return []string{"-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-w -buildid="}
}

// buildGo compiles the package in a folder. The module cache and, for modules that are not in it, the network are used as
// by "go build".
func buildGo(ctx context.Context, dir string) ([]byte, ledger.Build, error) {
	t, err := findToolchain(ctx)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	pkg, err := t.load(ctx, dir)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	m, err := newModel(pkg)
	if err != nil {
		return nil, ledger.Build{}, err
	}
	section, err := m.schema.Encode()
	if err != nil {
		return nil, ledger.Build{}, err
	}
	code, err := t.compile(ctx, pkg, m.generate())
	if err != nil {
		return nil, ledger.Build{}, err
	}
	source, err := pkg.digest()
	if err != nil {
		return nil, ledger.Build{}, err
	}
	code = appendSection(code, ledger.SchemaSection, section)
	return code, ledger.Build{Language: "go", Compiler: t.version, SDK: m.sdkVersion(), Source: source}, nil
}

// testGo runs the unit tests of a package on this machine, not for the contracts' target.
func testGo(ctx context.Context, dir string, out io.Writer) error {
	t, err := findToolchain(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, t.path, "test", "./...")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: go test ./...: %w", ErrTest, err)
	}
	return nil
}

// toolchain is a Go command that can build for wasip1.
type toolchain struct {
	path    string
	version string // such as "go1.26.0"
}

const minimumGo = "go1.26"

func findToolchain(ctx context.Context) (*toolchain, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("%w: contracts in Go need the command \"go\": install Go 1.26 or later from https://go.dev/dl", ErrToolchain)
	}
	t := &toolchain{path: path}
	out, err := t.run(ctx, "", "env", "GOVERSION")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToolchain, err)
	}
	t.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), " ") // "go1.26.0 X:experiment"
	if olderGo(t.version) {
		return nil, fmt.Errorf("%w: contracts need Go 1.26 or later, %s is %s: install a newer one from https://go.dev/dl", ErrToolchain, path, t.version)
	}
	return t, nil
}

// olderGo reports whether a release such as go1.25.3 is older than minimumGo. Development versions are not.
func olderGo(version string) bool {
	var have, want [2]int
	if _, err := fmt.Sscanf(version, "go%d.%d", &have[0], &have[1]); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(minimumGo, "go%d.%d", &want[0], &want[1]); err != nil {
		return false
	}
	return slices.Compare(have[:], want[:]) < 0
}

// run runs the go command for the contracts' target, with flags from the environment cleared, and a workspace in a folder above
// unseen, as they could change the module.
func (t *toolchain) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.path, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), goTarget()...), "GOWASM=", "GOEXPERIMENT=", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		text := strings.TrimSpace(stderr.String())
		if len(text) > 8<<10 {
			text = text[:8<<10] + " …"
		}
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, text)
	}
	return out, nil
}

// listed is what go list tells about a package.
type listed struct {
	ImportPath, Name, Dir, Export string
	GoFiles, SFiles, HFiles       []string
	EmbedFiles                    []string
	Standard                      bool
	Module                        *struct{ Path, Version, GoMod string }
	Error                         *struct{ Err string }
}

// goPackage is the author's package and its compiled dependencies.
type goPackage struct {
	listed
	exports map[string]string // import path → file with export data
	sources []listed          // the package and what it imports, without the standard library
}

func (t *toolchain) load(ctx context.Context, dir string) (*goPackage, error) {
	const fields = "-json=ImportPath,Name,Dir,Export,GoFiles,SFiles,HFiles,EmbedFiles,Standard,Module,Error"
	out, err := t.run(ctx, dir, "list", "-e", fields, ".") // first without compiling what it imports
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	pkg := &goPackage{exports: map[string]string{}}
	if err := json.Unmarshal(out, &pkg.listed); err != nil {
		return nil, fmt.Errorf("read the output of go list: %w", err)
	}
	switch {
	case len(pkg.GoFiles) == 0 && pkg.Error != nil:
		return nil, fmt.Errorf("%w: %s", ErrSource, pkg.Error.Err)
	case pkg.Module == nil:
		return nil, fmt.Errorf("%w: %s is in no module; create a contract with: fondaco contract new NAME", ErrSource, dir)
	case pkg.Name == "main":
		return nil, fmt.Errorf("%w: %s: a contract is a library package: rename package main, and remove func main", ErrSource, filepath.Join(dir, pkg.GoFiles[0]))
	}
	if out, err = t.run(ctx, dir, "list", "-e", "-deps", "-export", "-trimpath", "-buildvcs=false", fields, "."); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var l listed
		if err := d.Decode(&l); err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		if l.Error != nil && l.Export == "" && l.Dir != dir {
			return nil, fmt.Errorf("%w: %s", ErrSource, l.Error.Err)
		}
		pkg.exports[l.ImportPath] = l.Export
		if !l.Standard {
			pkg.sources = append(pkg.sources, l)
		}
		pkg.listed = l // the package itself comes last
	}
	return pkg, nil
}

// digest returns the SHA-256 over name, length and content of all files that the module is made of, but for the standard library, which
// the compiler's version tells: those of the package and of what it imports, what they embed, and go.mod.
func (p *goPackage) digest() ([32]byte, error) {
	h := sha256.New()
	add := func(name, file string) error {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		_, err = h.Write(content)
		return err
	}
	slices.SortFunc(p.sources, func(a, b listed) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	for _, l := range p.sources {
		files := slices.Concat(l.GoFiles, l.SFiles, l.HFiles, l.EmbedFiles)
		slices.Sort(files)
		for _, name := range files {
			if err := add(l.ImportPath+"/"+name, filepath.Join(l.Dir, name)); err != nil {
				return [32]byte{}, fmt.Errorf("read the sources: %w", err)
			}
		}
	}
	if err := add("go.mod", p.Module.GoMod); err != nil {
		return [32]byte{}, fmt.Errorf("read the sources: %w", err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// Names of what Build adds for the compiler. Neither exists on disk.
const (
	generatedFile = "fondaco_generated.go"
	mainFolder    = "fondaco_main"
)

func (t *toolchain) compile(ctx context.Context, pkg *goPackage, generated []byte) ([]byte, error) {
	for _, name := range []string{generatedFile, mainFolder} {
		if _, err := os.Lstat(filepath.Join(pkg.Dir, name)); err == nil {
			return nil, fmt.Errorf("%w: %s is a name that the builder needs: rename it", ErrSource, filepath.Join(pkg.Dir, name))
		}
	}
	scratch, err := os.MkdirTemp("", "fondaco-contract-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	main := "package main\n\nimport _ \"" + pkg.ImportPath + "\"\n\nfunc main() {}\n"
	overlay := map[string]map[string]string{"Replace": {
		filepath.Join(pkg.Dir, generatedFile):         filepath.Join(scratch, "generated.go"),
		filepath.Join(pkg.Dir, mainFolder, "main.go"): filepath.Join(scratch, "main.go"),
	}}
	index, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{"generated.go": generated, "main.go": []byte(main), "overlay.json": index} {
		if err := os.WriteFile(filepath.Join(scratch, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	module := filepath.Join(scratch, "contract.wasm")
	args := append(append([]string{"build"}, goFlags()...), "-overlay", filepath.Join(scratch, "overlay.json"), "-o", module, "./"+mainFolder)
	if _, err = t.run(ctx, pkg.Dir, args...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSource, err)
	}
	return os.ReadFile(module)
}
