package wasmvm

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/fondaco/fondaco/state/ledger"
)

// Profile counts how often functions of contracts and host functions are called, and the gas that each used itself, without what it
// called. A VM with a profile runs several times slower, with equal results and gas, and must run one call at a time, with the calls that that
// one makes. The zero value is empty. What _initialize does is not counted: every call pays Info.InitGas for it.
type Profile struct {
	mu    sync.Mutex // guards what follows
	lines map[profiled]*ProfileLine
	stack []profileFrame
}

// profiled names a function.
type profiled struct {
	module [32]byte
	index  uint32
	host   string
}

// ProfileLine is what a Profile knows of a function.
type ProfileLine struct {
	Module   [32]byte // SHA-256 of the contract's module; zero of a host function
	Function uint32   // index in the contract's module, imports included
	Host     string   // name of a host function; empty: the contract's
	Calls    uint64
	Gas      ledger.Gas
}

// profileFrame is a function that runs.
type profileFrame struct {
	function profiled
	call     *call
	start    uint64 // gas that was left
	inner    uint64 // gas of what it called
}

// Lines returns what was counted so far, the most gas first.
func (p *Profile) Lines() []ProfileLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := make([]ProfileLine, 0, len(p.lines))
	for _, l := range p.lines {
		lines = append(lines, *l)
	}
	slices.SortFunc(lines, func(a, b ProfileLine) int {
		return cmp.Or(cmp.Compare(b.Gas, a.Gas), strings.Compare(a.Host, b.Host), slices.Compare(a.Module[:], b.Module[:]), cmp.Compare(a.Function, b.Function))
	})
	return lines
}

// watch makes what is compiled with the context tell the profile of its calls. The module is zero for host functions.
func (p *Profile) watch(ctx context.Context, module [32]byte) context.Context {
	if p == nil {
		return ctx
	}
	return experimental.WithFunctionListenerFactory(ctx, experimental.FunctionListenerFactoryFunc(func(f api.FunctionDefinition) experimental.FunctionListener {
		if f.GoFunction() != nil {
			return &profileListener{p, profiled{host: f.Name()}}
		}
		return &profileListener{p, profiled{module: module, index: f.Index()}}
	}))
}

// profileListener tells a profile of one function.
type profileListener struct {
	profile  *Profile
	function profiled
}

// Before implements experimental.FunctionListener.
func (l *profileListener) Before(ctx context.Context, _ api.Module, _ api.FunctionDefinition, _ []uint64, _ experimental.StackIterator) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok || c.host == nil { // _initialize
		return
	}
	p := l.profile
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stack = append(p.stack, profileFrame{function: l.function, call: c, start: c.gasLeft()})
}

// After implements experimental.FunctionListener.
func (l *profileListener) After(ctx context.Context, _ api.Module, _ api.FunctionDefinition, _ []uint64) {
	l.end(ctx)
}

// Abort implements experimental.FunctionListener. A function that a trap ends is not always told of.
func (l *profileListener) Abort(ctx context.Context, _ api.Module, _ api.FunctionDefinition, _ error) {
	l.end(ctx)
}

// end ends the function, and those above it that nobody told of.
func (l *profileListener) end(ctx context.Context) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok || c.host == nil {
		return
	}
	p := l.profile
	p.mu.Lock()
	defer p.mu.Unlock()
	at := len(p.stack) - 1
	for at >= 0 && (p.stack[at].function != l.function || p.stack[at].call != c) {
		at--
	}
	if at < 0 {
		return
	}
	for len(p.stack) > at {
		p.pop()
	}
}

func (p *Profile) pop() {
	last := len(p.stack) - 1
	f := p.stack[last]
	p.stack = p.stack[:last]
	used := f.inner
	if f.call.in != nil { // else the call has ended without our being told
		used = f.start - min(f.start, f.call.gasLeft())
	}
	if p.lines == nil {
		p.lines = map[profiled]*ProfileLine{}
	}
	line := p.lines[f.function]
	if line == nil {
		line = &ProfileLine{Module: f.function.module, Function: f.function.index, Host: f.function.host}
		p.lines[f.function] = line
	}
	line.Calls++
	line.Gas += ledger.Gas(used - min(used, f.inner))
	if last > 0 {
		p.stack[last-1].inner += used
	}
}
