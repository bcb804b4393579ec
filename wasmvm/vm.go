package wasmvm

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Engine names what executes the rewritten modules. It is a node's own choice: results and gas are equal.
type Engine string

// The engines. Default is the compiler on amd64 and the interpreter elsewhere: wazero's compiler for arm64 has errata
// that no rewrite avoids yet.
const (
	Default     Engine = ""
	Compiler    Engine = "compiler"
	Interpreter Engine = "interpreter"
)

// Config configures a VM. The zero value works, without a cache on disk.
type Config struct {
	Engine Engine
	// CacheDir holds compiled modules between runs; empty: memory only. It is made with mode 0700. Its files are machine code that is
	// executed as it is, so nobody else may write there and it must never be copied from another machine.
	CacheDir string
	// MemoryPages is the most 64 KiB pages of a contract's memory, a chain parameter; 0 is 512.
	MemoryPages uint32
	// Rewrite and Costs are the versions of rewriter and gas table, chain parameters; 0 is 1.
	Rewrite, Costs uint16
	// Suite is the chain's, for the host functions hash and verify; nil: hash and verify offer what needs no suite.
	Suite keys.Suite
	// Modules is how many modules are kept compiled; 0 is 128.
	Modules int
}

func (c *Config) validate() error {
	if c.Engine == Default {
		c.Engine = Interpreter
		if runtime.GOARCH == "amd64" {
			c.Engine = Compiler
		}
	}
	if c.Engine != Compiler && c.Engine != Interpreter {
		return fmt.Errorf("wasmvm: Engine %q, want compiler or interpreter", c.Engine)
	}
	if c.MemoryPages == 0 {
		c.MemoryPages = 512
	}
	if c.MemoryPages > 65_536 {
		return fmt.Errorf("wasmvm: MemoryPages %d, want at most 65,536", c.MemoryPages)
	}
	if c.Rewrite == 0 {
		c.Rewrite = RewriteVersion
	}
	if c.Rewrite != RewriteVersion {
		return fmt.Errorf("wasmvm: Rewrite: no rewriter of version %d, want 1 to %d", c.Rewrite, RewriteVersion)
	}
	if c.Costs == 0 {
		c.Costs = CostsVersion
	}
	if c.Modules <= 0 {
		c.Modules = 128
	}
	return nil
}

// VM admits, compiles and runs modules. Its methods may be called concurrently.
type VM struct {
	config Config
	costs  *costs
	run    wazero.Runtime
	cache  wazero.CompilationCache
	slabs  *slabs

	compiling sync.Mutex // wazero compiles and closes modules one at a time

	mu      sync.Mutex // guards what follows
	modules map[keys.Digest]*list.Element
	recent  *list.List // of kept, the last used in front
	pending map[keys.Digest]*pending
	closed  bool
}

// kept is a module under one of its digests.
type kept struct {
	digest keys.Digest
	module *Module
}

// pending is a compilation that others wait for.
type pending struct {
	done   chan struct{}
	module *Module
	err    error
}

// New returns a VM. Close releases it.
func New(ctx context.Context, c Config) (*VM, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	v := &VM{config: c, slabs: &slabs{}, modules: map[keys.Digest]*list.Element{}, recent: list.New(), pending: map[keys.Digest]*pending{}}
	var err error
	if v.costs, err = newCosts(c.Costs); err != nil {
		return nil, err
	}
	var r wazero.RuntimeConfig
	if c.Engine == Compiler {
		r = wazero.NewRuntimeConfigCompiler()
	} else {
		r = wazero.NewRuntimeConfigInterpreter()
	}
	r = r.WithCoreFeatures(api.CoreFeaturesV2 &^ api.CoreFeatureSIMD).WithMemoryLimitPages(c.MemoryPages).WithDebugInfoEnabled(false)
	if c.CacheDir != "" && c.Engine == Compiler {
		if err := os.MkdirAll(c.CacheDir, 0o700); err != nil {
			return nil, fmt.Errorf("wasmvm: make the cache of compiled modules: %w", err)
		}
		if err := os.Chmod(c.CacheDir, 0o700); err != nil { // it may have existed
			return nil, fmt.Errorf("wasmvm: protect the cache of compiled modules: %w", err)
		}
		if v.cache, err = wazero.NewCompilationCacheWithDir(c.CacheDir); err != nil {
			return nil, fmt.Errorf("wasmvm: open the cache of compiled modules: %w", err)
		}
		r = r.WithCompilationCache(v.cache)
	}
	v.run = wazero.NewRuntimeWithConfig(ctx, r)
	if err := v.export(ctx); err != nil {
		return nil, errors.Join(err, v.Close(ctx))
	}
	return v, nil
}

// Engine returns the engine in use.
func (v *VM) Engine() Engine { return v.config.Engine }

// Close releases the VM and all its modules. No call may be running.
func (v *VM) Close(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	clear(v.modules)
	v.recent.Init()
	err := v.run.Close(ctx)
	if v.cache != nil {
		err = errors.Join(err, v.cache.Close(ctx))
	}
	if err != nil {
		return fmt.Errorf("wasmvm: close: %w", err)
	}
	return nil
}

// Info describes an admitted module.
type Info struct {
	Profile string   // "strict" or "std"
	Methods []string // that can be called, in order of the module's exports
	Schema  *ledger.Schema
	Section []byte     // content of the schema section; nil without
	Size    int        // bytes of the module
	Rewrote int        // bytes of the rewritten module
	InitGas ledger.Gas // charged on every call for _initialize and for taking an instance
	Weight  uint64     // Σ locals × blocks × (1 + loop nesting): what compiling costs, at most MaxComplexity
}

// Check decides whether a module may be deployed, and describes it. A refusal is a *ModuleError; other errors are
// faults of the node. The verdict is the same on every node, whatever its engine.
func (v *VM) Check(code []byte) (*Info, error) {
	m, err := v.Compile(context.Background(), code)
	if err != nil {
		return nil, err
	}
	return m.Info(), nil
}

// Compile returns the module for code, compiled and ready to be called. It keeps Config.Modules of them.
func (v *VM) Compile(ctx context.Context, code []byte) (*Module, error) {
	return v.Module(ctx, sha256.Sum256(code), func() ([]byte, error) { return code, nil })
}

// Module returns the module that the caller knows under a digest. It asks load for the code if the module is not among
// those that are kept.
func (v *VM) Module(ctx context.Context, digest keys.Digest, load func() ([]byte, error)) (*Module, error) {
	v.mu.Lock()
	if e, ok := v.modules[digest]; ok {
		v.recent.MoveToFront(e)
		v.mu.Unlock()
		return e.Value.(kept).module, nil
	}
	if v.closed {
		v.mu.Unlock()
		return nil, errors.New("wasmvm: the VM is closed")
	}
	if p, ok := v.pending[digest]; ok {
		v.mu.Unlock()
		select {
		case <-p.done:
			return p.module, p.err
		case <-ctx.Done():
			return nil, fmt.Errorf("wasmvm: wait for a compilation: %w", context.Cause(ctx))
		}
	}
	p := &pending{done: make(chan struct{}), err: errors.New("wasmvm: compilation ended early")}
	v.pending[digest] = p
	v.mu.Unlock()

	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.pending, digest)
		if p.err == nil {
			v.modules[digest] = v.recent.PushFront(kept{digest, p.module})
			for v.recent.Len() > v.config.Modules {
				oldest := v.recent.Back()
				v.recent.Remove(oldest)
				delete(v.modules, oldest.Value.(kept).digest)
			}
		}
		close(p.done)
	}()
	code, err := load()
	if err != nil {
		p.err = fmt.Errorf("wasmvm: load a module's code: %w", err)
		return nil, p.err
	}
	if sum := keys.Digest(sha256.Sum256(code)); sum != digest {
		p.module, p.err = v.Compile(ctx, code) // it may be kept under this digest, by Check
	} else {
		p.module, p.err = v.compile(ctx, code)
	}
	return p.module, p.err
}

// admit decodes, validates and rewrites a module.
func (v *VM) admit(code []byte) (*rewritten, *Info, error) {
	m, err := decodeModule(code, v.config.MemoryPages)
	if err != nil {
		return nil, nil, named(m, err)
	}
	info := &Info{Size: len(code)}
	if err := m.describe(info); err != nil {
		return nil, nil, err
	}
	strict := info.Profile == profileStrict
	if strict && len(code) > MaxModuleStrict {
		return nil, nil, &ModuleError{Reason: "bytes of a module of the strict profile", Value: uint64(len(code)), Limit: MaxModuleStrict}
	}
	if strict && len(m.segments) > MaxSegmentsStrict {
		return nil, nil, &ModuleError{Reason: "data segments of a module of the strict profile", Value: uint64(len(m.segments)), Limit: MaxSegmentsStrict}
	}
	for _, passive := range m.segments {
		if passive && strict {
			return nil, nil, &ModuleError{Reason: "a passive data segment: the strict profile has none"}
		}
	}
	w, err := rewrite(m, v.costs, strict, false)
	if err != nil {
		return nil, nil, err
	}
	info.Weight, info.Rewrote = w.weight, len(w.code)
	return w, info, nil
}

// Names of the profiles, as the schema has them.
const (
	profileStrict = "strict"
	profileStd    = "std"
)

// Names of exports with a meaning.
const (
	memoryExport = "memory"
	initializer  = "_initialize"
	marker       = "fondaco_abi_1"
	markerPrefix = "fondaco_abi_"
)

// describe checks a module's imports, exports and schema against the ABI.
func (m *module) describe(info *Info) error {
	refuse := func(format string, args ...any) error { return &ModuleError{Reason: fmt.Sprintf(format, args...)} }
	info.Profile = profileStrict
	usesWASI, usesRand := false, false
	for _, i := range m.imports {
		want, ok := signature(i.module, i.name)
		switch {
		case !ok && i.module != abiModule && i.module != wasiModule:
			return refuse("import %s.%s: only %s, and with the profile std the ten functions of %s that Go uses, can be imported", i.module, i.name, abiModule, wasiModule)
		case !ok:
			return refuse("import %s.%s: no such function", i.module, i.name)
		case !want.equal(&m.types[i.typ]):
			return refuse("import %s.%s has the type %v, want %v", i.module, i.name, &m.types[i.typ], want)
		}
		usesWASI = usesWASI || i.module == wasiModule
		usesRand = usesRand || i.module == abiModule && i.name == "rand"
	}
	if usesWASI {
		info.Profile = profileStd
	}
	memory, marked := false, false
	for _, e := range m.exports {
		if e.name == memoryExport {
			memory = e.kind == kindMemory
		}
		if strings.HasPrefix(e.name, markerPrefix) {
			if e.name != marker {
				return refuse("export %s: this chain offers %s", e.name, marker)
			}
			marked = true
		}
		if e.kind != kindFunc {
			continue
		}
		t := m.typeOf(e.index)
		if e.name == initializer && len(t.params)+len(t.results) > 0 {
			return refuse("%s has the type %v, want () -> ()", initializer, t)
		}
		if methodName(e.name) && len(t.params) == 0 && len(t.results) == 1 && t.results[0] == typeI32 {
			info.Methods = append(info.Methods, e.name)
		}
	}
	if !memory {
		return refuse("no memory is exported as %q", memoryExport)
	}
	if !marked {
		return refuse("no function is exported as %q: build the contract with an SDK, or say so yourself that it follows this ABI", marker)
	}
	if m.schema == nil {
		return nil
	}
	schema, err := ledger.DecodeSchema(m.schema)
	if err != nil {
		return refuse("section %s: %v", schemaSection, err)
	}
	info.Schema, info.Section = schema, m.schema
	if usesWASI && schema.Profile != profileStd {
		return refuse("the schema says profile %s, and the module imports WASI: declare the profile std", schema.Profile)
	}
	info.Profile = schema.Profile
	if usesRand && !schema.Random {
		return refuse("the module imports rand, and the schema does not say random")
	}
	for _, method := range schema.Methods {
		if !slices.Contains(info.Methods, method.Name) {
			return refuse("method %s of the schema is not exported as a function () -> (i32)", method.Name)
		}
	}
	return nil
}

// methodName reports whether a name can be that of a method.
func methodName(s string) bool {
	if s == "" || len(s) > ledger.MaxMethodLength || s[0] == '_' || strings.HasPrefix(s, markerPrefix) || s == memoryExport {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}
