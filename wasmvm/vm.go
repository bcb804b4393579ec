package wasmvm

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
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
