package story

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/state/ledger"
)

// Extension is that of story files.
const Extension = ".story"

// Find returns the paths of the story files in a folder and below it, sorted. Folders whose names begin with a dot, and those of
// build tools, are left out.
func Find(dir string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != dir && (strings.HasPrefix(entry.Name(), ".") || slices.Contains([]string{"node_modules", "target", "build"}, entry.Name())) {
			return fs.SkipDir
		}
		if !entry.IsDir() && filepath.Ext(path) == Extension {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for stories: %w", err)
	}
	return found, nil
}

// ReadFile reads a story file.
func ReadFile(path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", path, ErrSyntax, info.Size(), MaxSize)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Modules finds the modules that stories deploy. The zero value knows none by name. It is safe for concurrent use.
type Modules struct {
	mu     sync.Mutex         // guards what follows
	named  map[string]*module // by the name that stories call them by
	placed map[string]*module // by path
}

// module is one that is built, or read, when it is first wanted.
type module struct {
	once sync.Once
	load func(context.Context) (*contract.Built, error)
	done atomic.Bool // got or err is set
	got  *contract.Built
	err  error
}

func (m *module) get(ctx context.Context) (*contract.Built, error) {
	m.once.Do(func() {
		m.got, m.err = m.load(ctx)
		m.done.Store(true)
	})
	return m.got, m.err
}

// Add makes stories find a module by a name.
func (m *Modules) Add(name string, built *contract.Built) {
	m.add(name, func(context.Context) (*contract.Built, error) { return built, nil })
}

// AddProject is Add for the contract in a folder, which is built when a story asks for it.
func (m *Modules) AddProject(name, dir string) {
	m.add(name, func(ctx context.Context) (*contract.Built, error) { return contract.Build(ctx, dir, "") })
}

func (m *Modules) add(name string, load func(context.Context) (*contract.Built, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.named == nil {
		m.named = map[string]*module{}
	}
	m.named[name] = &module{load: load}
}

// Get returns the module of a name; nil if there is none.
func (m *Modules) Get(ctx context.Context, name string) (*contract.Built, error) {
	m.mu.Lock()
	known := m.named[name]
	m.mu.Unlock()
	if known == nil {
		return nil, nil
	}
	return known.get(ctx)
}

// Used returns the modules that were asked for so far and could be had.
func (m *Modules) Used() []*contract.Built {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*contract.Built
	for _, modules := range []map[string]*module{m.named, m.placed} {
		for _, name := range slices.Sorted(maps.Keys(modules)) {
			if known := modules[name]; known.done.Load() && known.err == nil {
				all = append(all, known.got)
			}
		}
	}
	return all
}

// Names returns a Config's Names, of the modules that were asked for so far.
func (m *Modules) Names(hash [32]byte) []byte {
	for _, built := range m.Used() {
		if built.Hash == hash {
			return built.Names
		}
	}
	return nil
}

// For returns a Config's Module for a story file: names are those that were added, and paths are relative to the story's folder. A
// folder at a path is built, a file is a module.
func (m *Modules) For(file string) func(ctx context.Context, name, from string) ([]byte, error) {
	return func(ctx context.Context, name, from string) ([]byte, error) {
		built, err := m.find(ctx, name, from, filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		return built.Code, nil
	}
}

func (m *Modules) find(ctx context.Context, name, from, dir string) (*contract.Built, error) {
	if from == "" {
		built, err := m.Get(ctx, name)
		if err == nil && built == nil {
			err = fmt.Errorf("the project has no module %s: say where it is, deploys %s from PATH, where PATH is a folder that is built, or a .wasm file", name, name)
		}
		return built, err
	}
	path := from
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, filepath.FromSlash(from))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.placed == nil {
		m.placed = map[string]*module{}
	}
	known := m.placed[path]
	if known == nil {
		known = &module{load: func(ctx context.Context) (*contract.Built, error) { return load(ctx, path) }}
		m.placed[path] = known
	}
	m.mu.Unlock()
	return known.get(ctx)
}

// load builds the project in a folder, or reads a module.
func load(ctx context.Context, path string) (*contract.Built, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s", path)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return contract.Build(ctx, path, "")
	}
	if info.Size() > ledger.MaxDeployTxSize {
		return nil, fmt.Errorf("%s has %d bytes, a transaction holds at most %d", path, info.Size(), ledger.MaxDeployTxSize)
	}
	code, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	names, _ := contract.ReadNames(path, code) // what they are for works without
	return &contract.Built{Code: code, Names: names, Hash: sha256.Sum256(code)}, nil
}

// MethodGas is what a method's calls used.
type MethodGas struct {
	Contract string            `json:"contract"`
	Method   string            `json:"method"`
	Kind     ledger.MethodKind `json:"kind"`
	Calls    int               `json:"calls"`  // that ended well
	Failed   int               `json:"failed"` // others
	Min      ledger.Gas        `json:"min"`    // of the calls that ended well
	Max      ledger.Gas        `json:"max"`
	Mean     ledger.Gas        `json:"mean"`
}

// GasOf sums up calls by contract and method, in the order of their names. A transaction's gas includes what it costs before its
// contract runs; a deployment's, the module's bytes.
func GasOf(calls []Call) []MethodGas {
	var all []MethodGas
	for _, c := range calls {
		order := func(g MethodGas, c Call) int {
			return cmp.Or(strings.Compare(g.Contract, c.Contract), strings.Compare(g.Method, c.Method), strings.Compare(string(g.Kind), string(c.Kind)))
		}
		i, found := slices.BinarySearchFunc(all, c, order)
		if !found {
			all = slices.Insert(all, i, MethodGas{Contract: c.Contract, Method: c.Method, Kind: c.Kind})
		}
		g := &all[i]
		if c.Status != ledger.OK {
			g.Failed++
			continue
		}
		if g.Calls++; g.Calls == 1 {
			g.Min = c.Gas
		}
		g.Min, g.Max, g.Mean = min(g.Min, c.Gas), max(g.Max, c.Gas), g.Mean+c.Gas
	}
	for i := range all {
		if all[i].Calls > 0 {
			all[i].Mean /= ledger.Gas(all[i].Calls)
		}
	}
	return all
}
