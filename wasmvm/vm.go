package wasmvm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Engine names what executes the rewritten modules. It is a node's own choice: results and gas are equal.
type Engine string

// The engines. Default is the compiler on amd64 and the interpreter elsewhere, where there is no other: wazero's compiler for arm64
// has errata that no rewrite avoids yet. Shadow runs calls in both and compares; see Config.ShadowShare.
const (
	Default     Engine = ""
	Compiler    Engine = "compiler"
	Interpreter Engine = "interpreter"
	Shadow      Engine = "shadow"
)

// Config configures a VM. The zero value works, without a cache on disk.
type Config struct {
	Engine Engine
	// CacheDir holds compiled modules between runs; empty: memory only. It is made with mode 0700. Its files are machine code that is
	// executed as it is, so nobody else may write there and it must never be copied from another machine.
	CacheDir string
	// CacheBytes is the most that CacheDir holds; 0 is 2 GiB. What was not used for longest goes first.
	CacheBytes int64
	// MemoryPages is the most 64 KiB pages of a contract's memory, a chain parameter; 0 is 512.
	MemoryPages uint32
	// Rewrite and Costs are the versions of rewriter and gas table, chain parameters; 0 is 1.
	Rewrite, Costs uint16
	// Modules is how many modules are kept ready; 0 is 128.
	Modules int
	// MemoryBytes is about how much memory kept modules may take; 0 is 1 GiB. The module used last is kept whatever it takes. What
	// is ready for their next calls may take half as much again, and memory that nobody uses at the moment an eighth.
	MemoryBytes int64
	// Wait makes a module that is asked for come compiled, and an error of a compiler that refuses it. Tests and
	// benchmarks want that. A node does not: the interpreter serves calls until the compiler is ready.
	Wait bool
	// ShadowShare is the share of transactions, above 0 and at most 1, that the engine Shadow runs in both engines; 0 is 1. Which they
	// are depends on their ids and on ShadowKey, which a node keeps to itself, so that nobody can choose not to be checked.
	ShadowShare float64
	ShadowKey   [32]byte
	// Warn is told of a module that the compiler does not take: the interpreter goes on serving it. Alarm is told when
	// the engines differ: the node must not vote on what it computed, or will compute. Both may be nil. They are called from any goroutine
	// and must not wait.
	Warn  func(module keys.Digest, err error)
	Alarm func(*DivergenceError)
	// Profile, unless it is nil, counts the calls and the gas of functions. It is for tools: see there what it costs.
	Profile *Profile
	// Spoil, unless it is nil, changes what an engine returned. Tests plant faults with it.
	Spoil func(engine Engine, method string, o *Outcome)
	// Trial has gas tables of the future, by version: each takes so many times the prices of version 1. Tests change the
	// version of a chain with it.
	Trial map[uint16]uint64

	errata bool // the compiler may run where it has errata: tests look at them
}

func (c *Config) validate(arch string) error {
	if c.Engine == Default {
		c.Engine = Interpreter
		if arch == "amd64" {
			c.Engine = Compiler
		}
	}
	if c.Engine != Compiler && c.Engine != Interpreter && c.Engine != Shadow {
		return fmt.Errorf("wasmvm: Engine %q, want compiler, interpreter or shadow", c.Engine)
	}
	if c.Engine != Interpreter && arch != "amd64" && !c.errata {
		return fmt.Errorf("wasmvm: Engine %q on %s: its compiler may compute other results than other nodes; set the engine to interpreter, or leave it out", c.Engine, arch)
	}
	if c.MemoryPages == 0 {
		c.MemoryPages = 512
	}
	if c.Rewrite == 0 {
		c.Rewrite = 1
	}
	if c.Costs == 0 {
		c.Costs = 1
	}
	if err := (Rules{c.Rewrite, c.Costs, c.MemoryPages}).check(c.Trial); err != nil {
		return err
	}
	if c.Modules <= 0 {
		c.Modules = 128
	}
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 1 << 30
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 2 << 30
	}
	if c.ShadowShare == 0 {
		c.ShadowShare = 1
	}
	if !(c.ShadowShare > 0 && c.ShadowShare <= 1) {
		return fmt.Errorf("wasmvm: ShadowShare %v, want more than 0 and at most 1", c.ShadowShare)
	}
	return nil
}

// VM admits, compiles and runs modules. Its methods may be called concurrently.
type VM struct {
	*shelf
	config Config
	costs  *costs
	suites *suites
	owner  *VM // to which it belongs; nil: nobody. See At.
	cache  wazero.CompilationCache
	known  string // folder of what is known of modules in the cache; empty: none

	interpreter *backend
	compiler    *backend      // nil with the engine Interpreter
	ending      chan struct{} // closed by Close
	worker      sync.WaitGroup

	rules  sync.Mutex // guards others
	others map[Rules]*VM

	// Guarded by mu.
	refused map[keys.Digest]refusal
	pending map[keys.Digest]*pending
	closed  bool

	compiled, unfit, compared, uncompared, divergence atomic.Uint64
}

// refusal remembers why a module is not admitted, so that nobody makes the node look at it again and again.
type refusal struct {
	err    *ModuleError
	engine bool       // an engine has seen the module, which weight and used were paid for
	weight uint64     // of the module
	used   ledger.Gas // by _initialize
}

// maxRefused bounds the refusals that are remembered; at the bound the VM forgets them all.
const maxRefused = 256

// pending is an admission that others wait for.
type pending struct {
	done   chan struct{}
	module *Module
	used   ledger.Gas // by an _initialize that failed
	err    error
}

// New returns a VM. Close releases it.
func New(ctx context.Context, c Config) (*VM, error) {
	if err := c.validate(runtime.GOARCH); err != nil {
		return nil, err
	}
	return newOn(ctx, c, nil)
}

// newOn returns a VM that belongs to owner, if that is not nil.
func newOn(ctx context.Context, c Config, owner *VM) (v *VM, err error) {
	v = &VM{config: c, owner: owner, refused: map[keys.Digest]refusal{}, pending: map[keys.Digest]*pending{}, ending: make(chan struct{})}
	if owner != nil {
		v.shelf, v.suites = owner.shelf, owner.suites
	} else {
		v.shelf, v.suites = newShelf(&c), &suites{keys.Std(), keys.GM()}
	}
	if v.costs, err = c.table(); err != nil {
		return nil, err
	}
	if v.interpreter, err = v.newBackend(ctx, Interpreter, wazero.NewRuntimeConfigInterpreter()); err != nil {
		return nil, errors.Join(err, v.Close(ctx))
	}
	if c.Engine == Interpreter {
		return v, nil
	}
	r := wazero.NewRuntimeConfigCompiler()
	if c.CacheDir != "" {
		if err := v.openCache(); err != nil {
			return nil, errors.Join(err, v.Close(ctx))
		}
		r = r.WithCompilationCache(v.cache)
	}
	if v.compiler, err = v.newBackend(ctx, Compiler, r); err != nil {
		return nil, errors.Join(err, v.Close(ctx))
	}
	if v.cache != nil {
		v.compiler.advice = "; if that goes on, stop the node and delete its folder " + c.CacheDir
	}
	if owner == nil {
		v.worker.Go(v.optimize)
	}
	return v, nil
}

// Engine returns the engine in use.
func (v *VM) Engine() Engine { return v.config.Engine }

// Capacity returns how many modules the VM keeps.
func (v *VM) Capacity() int { return v.config.Modules }

// Close waits for the compiler to finish the module that it is at, and releases the VM and all its modules. No call may be running.
func (v *VM) Close(ctx context.Context) error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil
	}
	v.closed = true
	v.mu.Unlock()
	if v.owner == nil {
		v.clear()
	}
	close(v.ending)
	v.worker.Wait()
	var errs []error
	v.rules.Lock()
	for _, other := range v.others {
		errs = append(errs, other.Close(ctx))
	}
	v.others = nil
	v.rules.Unlock()
	for _, b := range []*backend{v.interpreter, v.compiler} {
		if b != nil {
			errs = append(errs, b.run.Close(ctx))
		}
	}
	if v.cache != nil {
		errs = append(errs, v.cache.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("wasmvm: close: %w", err)
	}
	return nil
}

// Stats counts what a VM holds, with those for other rules that belong to it, and what it alone has done since New.
type Stats struct {
	Modules     int    // kept ready
	Bytes       int64  // that all takes, about
	Queued      int    // waiting for the compiler
	Compiled    uint64 // taken over by the compiler
	Refused     uint64 // refused by the compiler, and so left to the interpreter
	Compared    uint64 // calls that ran in both engines
	Uncompared  uint64 // calls that were to be compared and could not: the compiler was not ready, or the call was too long
	Divergences uint64 // comparisons in which the engines differed
}

// Stats returns what the VM holds and has done.
func (v *VM) Stats() Stats {
	s := Stats{
		Queued: len(v.queue), Compiled: v.compiled.Load(), Refused: v.unfit.Load(), Compared: v.compared.Load(),
		Uncompared: v.uncompared.Load(), Divergences: v.divergence.Load(),
	}
	s.Modules, s.Bytes = v.size()
	return s
}

// Info describes an admitted module.
type Info struct {
	Profile string   // "strict" or "std"
	Methods []string // that can be called, in order of the module's exports
	Schema  *ledger.Schema
	Section []byte     // content of the schema section; nil without
	Size    int        // bytes of the module
	Rewrote int        // bytes of the rewritten module
	InitGas ledger.Gas // charged on every call for taking an instance and resetting it
	// Initialize is the gas that _initialize took: it runs when the module is loaded, and calls begin with what it left.
	Initialize ledger.Gas
	Weight     uint64 // Σ locals × blocks × (1 + loop nesting): what compiling costs, at most MaxComplexity
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

// Compile returns the module for code, ready to be called. It keeps Config.Modules of them.
func (v *VM) Compile(ctx context.Context, code []byte) (*Module, error) {
	return v.Module(ctx, sha256.Sum256(code), func() ([]byte, error) { return code, nil })
}

// Module returns the module that the caller knows under a digest, which must belong to the code alone. It asks load for the code if the
// module is not among those that are kept. That takes time in proportion to the module, not to what compiling it takes.
func (v *VM) Module(ctx context.Context, digest keys.Digest, load func() ([]byte, error)) (*Module, error) {
	m, _, err := v.module(ctx, digest, load, nil, MaxInitGas)
	return m, err
}

// Admit is Module for a module that is being deployed. It calls pay with the module's weight before any engine sees the
// module, and fails with pay's error; else _initialize may use what pay says is left. used is what it took, also if it failed. More
// than is left says that it ended for that, and err says nothing of the module. All that depends on the module and on what is
// left, not on what this VM knows of the module.
func (v *VM) Admit(ctx context.Context, digest keys.Digest, code []byte, pay func(weight uint64) (left ledger.Gas, err error)) (m *Module, used ledger.Gas, err error) {
	v.mu.Lock()
	kept, old := v.lookup(place{v, digest}), v.refused[digest]
	v.mu.Unlock()
	load := func() ([]byte, error) { return code, nil }
	switch {
	case kept != nil:
		if _, err := pay(kept.info.Weight); err != nil {
			return nil, 0, err
		}
		return kept, kept.info.Initialize, nil
	case old.engine:
		if _, err := pay(old.weight); err != nil {
			return nil, 0, err
		}
		return nil, old.used, old.err
	case old.err != nil:
		return nil, 0, old.err
	}
	c, err := v.candidate(code)
	if err != nil {
		if refused, ok := errors.AsType[*ModuleError](err); ok {
			v.mu.Lock()
			v.refuse(digest, refusal{err: refused})
			v.mu.Unlock()
		}
		return nil, 0, err
	}
	left, err := pay(c.info.Weight)
	if err != nil {
		return nil, 0, err
	}
	if m, used, err = v.module(ctx, digest, load, c, min(left, MaxInitGas)); err != nil {
		return nil, used, err
	}
	return m, m.info.Initialize, nil
}

// refuse remembers a refusal. v.mu is held.
func (v *VM) refuse(digest keys.Digest, r refusal) {
	if len(v.refused) >= maxRefused {
		clear(v.refused)
	}
	v.refused[digest] = r
}

// errInitGas says that _initialize wanted more gas than there was, and less than it may have.
var errInitGas = fmt.Errorf("wasmvm: %s takes more gas than is left", initializer)

// module is Module. c, if it is not nil, is made of the code. _initialize may take so much gas, and used is what it took if it failed.
func (v *VM) module(ctx context.Context, digest keys.Digest, load func() ([]byte, error), c *candidate, limit ledger.Gas) (m *Module, used ledger.Gas, err error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return nil, 0, errors.New("wasmvm: the VM is closed")
	}
	if m := v.lookup(place{v, digest}); m != nil {
		v.mu.Unlock()
		return m, 0, nil
	}
	if r, ok := v.refused[digest]; ok {
		v.mu.Unlock()
		return nil, r.used, r.err
	}
	if p, ok := v.pending[digest]; ok {
		v.mu.Unlock()
		select {
		case <-p.done:
			if p.err == nil || errors.Is(p.err, ErrModule) {
				return p.module, p.used, p.err
			}
			return v.module(ctx, digest, load, c, limit) // what went wrong was the other caller's
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("wasmvm: wait for a module: %w", context.Cause(ctx))
		}
	}
	p := &pending{done: make(chan struct{}), err: errors.New("wasmvm: the module was given up")}
	v.pending[digest] = p
	v.mu.Unlock()

	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.pending, digest)
		if p.err == nil {
			v.keep(p.module)
		} else if refused, ok := errors.AsType[*ModuleError](p.err); ok {
			r := refusal{err: refused, engine: c != nil, used: p.used}
			if c != nil { // it was _initialize
				r.weight = c.info.Weight
			}
			v.refuse(digest, r)
		}
		close(p.done)
	}()
	if c == nil {
		code, err := load()
		if err != nil {
			p.err = fmt.Errorf("wasmvm: load a module's code: %w", err)
			return nil, 0, p.err
		}
		if c, p.err = v.candidate(code); p.err != nil {
			return nil, 0, p.err
		}
	}
	p.module, p.used, p.err = v.make(context.WithoutCancel(ctx), digest, c, limit) // others may be waiting for it
	return p.module, p.used, p.err
}
