package wasmvm

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Module is an admitted module, ready to be called. Its methods may be called concurrently. It stays usable for as long as it is
// referred to, and then releases what it holds.
type Module struct {
	vm      *VM
	digest  keys.Digest // under which it is known
	source  *candidate
	info    Info
	methods map[string]bool
	image   *image // which does not depend on the engine

	serving   atomic.Pointer[serving]
	reference *serving // with the engine Shadow: the interpreter's

	interpreted atomic.Uint64 // gas that was used in the interpreter
	queued      atomic.Bool   // for the compiler
	compiling   atomic.Bool   // somebody compiles it, or has
	decided     chan struct{} // closed when the compiler has taken it, or failed to
	refusal     error         // of the compiler; set before decided is closed
	weight      int64         // as the VM counts it; guarded by VM.mu
}

// Bytes that a module takes for each byte of its rewritten code. The interpreter's form of a Go contract takes 23, its machine code 4 and
// what wazero keeps beside that 1.5.
const (
	interpretedBytes = 24
	compiledBytes    = 6
)

// size is about how much memory the module takes, without instances.
func (m *Module) size() int64 {
	perByte := int64(compiledBytes)
	if m.serving.Load().backend.engine == Interpreter {
		perByte = interpretedBytes
	} else if m.reference != nil {
		perByte += interpretedBytes
	}
	return perByte*int64(m.info.Rewrote) + int64(len(m.image.memory)) + 4<<10
}

// program is a module in the form of one of the engines.
type program struct {
	vm       *VM
	backend  *backend
	compiled wazero.CompiledModule
	mutable  []string // exports of mutable globals
	image    *image

	// Guarded by vm.waiting.
	idle   []*instance // last used last
	closed bool
}

// serving is a program that calls use. They refer to it, and when nothing does any more the program is closed.
type serving struct{ *program }

func serve(p *program) *serving {
	s := &serving{p}
	runtime.AddCleanup(s, (*program).close, p)
	return s
}

// largeImage is the size of memory from which an imageFile is worth its system calls.
const largeImage = 256 << 10

// instance runs one call at a time.
type instance struct {
	module  api.Module
	memory  api.Memory
	linear  linear // that memory is in
	gas     api.MutableGlobal
	depth   api.MutableGlobal
	refused api.MutableGlobal
	globals []api.MutableGlobal
	methods map[string]api.Function
	used    bool // since it was equal to the image
	call    call // the one that runs
	context callContext

	// While it waits for a call. Guarded by vm.waiting.
	program *program
	place   *list.Element
	size    int64
}

// linear is the memory of an instance. wazero never shrinks one, so that an instance whose memory grew would be lost; but it takes
// what an allocator answers when a memory is to grow.
type linear interface {
	experimental.LinearMemory
	// shrink zeroes what is behind size, and answers the next call of Reallocate with a memory of that size.
	shrink(size uint64)
}

// callContext carries a call to host functions. It is its own type because the lookup is on the way of each.
type callContext struct {
	context.Context
	call *call
}

type callKey struct{}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return c.Context.Value(key)
}

// initialize makes the first instance and runs _initialize in it, with at most limit gas. It returns the gas that that took,
// also if it fails: more than limit if that is why, unless it is MaxInitGas. What _initialize sees does not depend on limit.
func (p *program) initialize(ctx context.Context, c *candidate, limit ledger.Gas) (in *instance, gas ledger.Gas, err error) {
	if in, err = p.instantiate(); err != nil {
		return nil, 0, fmt.Errorf("wasmvm: make the first instance: %w", err) // of an admitted module: the node lacks something
	}
	if !c.hasStart {
		return in, 0, nil
	}
	in.call = call{costs: p.vm.costs, suites: p.vm.suites, node: ctx, in: in, seed: c.hash, withheld: uint64(MaxInitGas - limit)}
	in.prepare(uint64(limit))
	_, err = in.function(initializer).Call(&callContext{ctx, &in.call})
	in.call.flush()
	gas = limit - ledger.Gas(in.call.gasLeft())
	enough := int64(in.gas.Get()) >= 0
	if err == nil && enough {
		in.call = call{}
		return in, gas, nil
	}
	in.close()
	if f, ok := errors.AsType[*fault](err); ok {
		return nil, 0, fmt.Errorf("wasmvm: %s: %w", initializer, f)
	}
	if r, ok := errors.AsType[runtime.Error](err); ok {
		return nil, 0, fmt.Errorf("wasmvm: %s: the node's own code failed: %w", initializer, r)
	}
	if !enough && limit < MaxInitGas {
		return nil, limit + 1, errInitGas
	}
	return nil, gas, &ModuleError{Reason: fmt.Sprintf("%s ended with %v after %d of %d gas: %s", initializer, err, gas, MaxInitGas, in.call.trace)}
}

// adopt gives a program its image, to which in is equal.
func (p *program) adopt(i *image, in *instance) {
	p.image = i
	if i.file != nil {
		in.close() // its memory is not of the file
		return
	}
	p.vm.wait(p, in)
}

// instantiate makes an instance as the module describes it.
func (p *program) instantiate() (*instance, error) {
	in := &instance{methods: map[string]api.Function{}}
	if p.image != nil && p.image.file != nil {
		memory, err := p.image.file.reserve(int(p.vm.config.MemoryPages) << 16)
		if err != nil {
			return nil, err
		}
		in.linear = memory
	} else {
		in.linear = &slab{from: &p.vm.slabs}
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return in.linear }))
	module, err := p.backend.run.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(noRandom{}))
	if err != nil {
		return nil, err
	}
	in.module, in.memory = module, module.ExportedMemory(memoryExport)
	mutable := func(name string) api.MutableGlobal { return module.ExportedGlobal(name).(api.MutableGlobal) }
	in.gas, in.depth, in.refused = mutable(gasExport), mutable(depthExport), mutable(refusedExport)
	for _, name := range p.mutable {
		in.globals = append(in.globals, mutable(name))
	}
	return in, nil
}

// noRandom is for wazero's own WASI, which no module can import. wazero's default takes longer to seed than an instance to make.
type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, io.EOF }

// take returns an instance that is equal to the image.
func (p *program) take() (*instance, error) {
	p.vm.waiting.Lock()
	var in *instance
	if n := len(p.idle); n > 0 {
		in = p.vm.leave(p, n-1)
	}
	p.vm.waiting.Unlock()
	i := p.image
	if in == nil {
		var err error
		if in, err = p.instantiate(); err != nil {
			return nil, fmt.Errorf("wasmvm: instantiate: %w", err)
		}
		if grown := uint32(len(i.memory)) - in.memory.Size(); grown > 0 {
			if _, ok := in.memory.Grow(grown >> 16); !ok {
				in.close()
				return nil, errors.New("wasmvm: instantiate: the memory does not grow to the image's size")
			}
		}
		in.used = true
		if i.file != nil {
			view, _ := in.memory.Read(0, uint32(len(i.memory)))
			if err := i.file.attach(view); err != nil {
				in.close()
				return nil, fmt.Errorf("wasmvm: instantiate: %w", err)
			}
		}
	}
	if in.used {
		view, _ := in.memory.Read(0, uint32(len(i.memory)))
		if i.file == nil {
			i.restore(view)
		} else if err := i.file.restore(view); err != nil {
			in.close()
			return nil, fmt.Errorf("wasmvm: reset an instance: %w", err)
		}
		for at, g := range in.globals {
			g.Set(i.globals[at])
		}
	}
	in.used = true
	return in, nil
}

// restore makes memory equal to the image. A call changes a few dozen of a Go module's 600 pages of 4 KiB, and to compare a
// page costs a third of copying it, which also writes. Those of zeroes are compared with one that stays in the cache.
func (i *image) restore(memory []byte) {
	for at := 0; at < len(i.memory); at += imagePage {
		end := min(at+imagePage, len(i.memory))
		want := i.memory[at:end]
		if i.blank[at/imagePage] {
			want = blankPage[:end-at]
		}
		if !bytes.Equal(memory[at:end], want) {
			copy(memory[at:end], want)
		}
	}
}

// give takes an instance back, or closes it.
func (p *program) give(in *instance) {
	if in.shrink(len(p.image.memory)) {
		p.vm.wait(p, in)
		return
	}
	in.close()
}

// maxGrown bounds what an instance that waits may have grown by.
const maxGrown = 4 << 20

// shrink makes memory that grew as small as the image again. It reports whether it is.
func (in *instance) shrink(size int) bool {
	now := int(in.memory.Size())
	if now == size {
		return true
	}
	if now > size+maxGrown {
		return false
	}
	in.linear.shrink(uint64(size))
	_, ok := in.memory.Grow(1) // fails at the limit of a memory
	return ok && int(in.memory.Size()) == size
}

func (p *program) close() {
	p.vm.lose(p)
	p.backend.busy.Lock()
	defer p.backend.busy.Unlock()
	_ = p.compiled.Close(context.Background()) // frees memory; wazero's implementations return nil
}

func (in *instance) close() { _ = in.module.Close(context.Background()) } // likewise

// prepare sets the counters for a call.
func (in *instance) prepare(gas uint64) {
	in.gas.Set(gas)
	in.depth.Set(MaxDepth)
	in.refused.Set(0)
}

func (in *instance) function(name string) api.Function {
	f, ok := in.methods[name]
	if !ok {
		f = in.module.ExportedFunction(name)
		in.methods[name] = f
	}
	return f
}

// Info describes the module. The caller must not change what it refers to.
func (m *Module) Info() *Info { return &m.info }

// Has reports whether the module has a method.
func (m *Module) Has(method string) bool { return m.methods[method] }

// maxGas is the most gas that a call can be given, so that the counter cannot overflow.
const maxGas = 1 << 62

// Call runs a method with args, the canonical CBOR of its arguments, and at most limit gas. A fault of the contract is
// an Outcome; an error is a fault of the node or a cancelled ctx, and says nothing about the contract. Writes and events
// have gone to h when Call returns: undoing them unless the status is OK is the caller's part. ctx is looked at when
// host functions are called; code between them ends when the gas does.
func (m *Module) Call(ctx context.Context, h Host, method string, args []byte, limit ledger.Gas) (Outcome, error) {
	limit = min(limit, maxGas)
	if !m.methods[method] {
		return Outcome{Status: ledger.NotFound, Trace: fmt.Sprintf("the contract has no method %q", method)}, nil
	}
	if len(args) > MaxInput {
		return Outcome{Status: ledger.Denied, Code: DeniedInput, Trace: fmt.Sprintf("arguments of %d bytes, at most %d are allowed", len(args), MaxInput)}, nil
	}
	if limit < m.info.InitGas {
		return Outcome{Status: ledger.OutOfGas, Gas: limit, Trace: fmt.Sprintf("starting the contract takes %d gas, the limit is %d", m.info.InitGas, limit)}, nil
	}
	now := h.Context()
	s := m.serving.Load()
	defer runtime.KeepAlive(m) // its cleanups close what the call uses
	if m.vm.config.Engine == Shadow && m.vm.sampled(&now, method, args) {
		if s != m.reference {
			return m.shadow(ctx, h, &now, method, args, limit)
		}
		m.vm.uncompared.Add(1)
	}
	return m.call(ctx, s, h, &now, method, args, limit)
}

// call runs a method in one of the engines.
func (m *Module) call(ctx context.Context, s *serving, h Host, now *Context, method string, args []byte, limit ledger.Gas) (Outcome, error) {
	defer runtime.KeepAlive(s)
	in, err := s.take()
	if err != nil {
		return Outcome{}, err
	}
	in.call = call{host: h, context: *now, costs: m.vm.costs, suites: m.vm.suites, node: ctx, in: in, args: args}
	in.context = callContext{ctx, &in.call}
	c := &in.call
	in.prepare(uint64(limit - m.info.InitGas))
	var stack [1]uint64
	err = in.function(method).CallWithStack(&in.context, stack[:])
	for i := range c.scans {
		if c.scans[i].Scanner != nil {
			c.scans[i].Close()
		}
	}
	c.flush()
	o := c.outcome(uint32(stack[0]), err)
	o.Gas = limit - ledger.Gas(c.gasLeft())
	in.call, in.context = call{}, callContext{}
	if f, ok := errors.AsType[*fault](err); ok {
		in.close()
		return Outcome{}, fmt.Errorf("wasmvm: call of %s: %w", method, f.err)
	}
	if r, ok := errors.AsType[runtime.Error](err); ok {
		in.close()
		return Outcome{}, fmt.Errorf("wasmvm: call of %s: the node's own code failed: %w", method, r)
	}
	if err != nil {
		clear(in.methods)
	}
	s.give(in)
	if s.backend.engine == Interpreter {
		m.interpreted.Add(uint64(o.Gas - m.info.InitGas))
	}
	if m.vm.config.Spoil != nil {
		m.vm.config.Spoil(s.backend.engine, method, &o)
	}
	return o, nil
}

// outcome says how a call ended that returned code, or err.
func (c *call) outcome(code uint32, err error) Outcome {
	o := Outcome{Status: ledger.OK, Data: c.output, Trace: c.trace}
	aborted, isAbort := errors.AsType[*abortion](err)
	denial, isDenial := errors.AsType[*Denial](err)
	switch {
	case int64(c.in.gas.Get()) < 0: // also if the method returned: the last charge is not checked
		return Outcome{Status: ledger.OutOfGas, Trace: trace(c.trace, err)}
	case err != nil && int32(c.in.depth.Get()) < 0:
		return Outcome{Status: ledger.OutOfDepth, Trace: trace(c.trace, err)}
	case isDenial:
		return Outcome{Status: ledger.Denied, Code: denial.Code, Trace: trace(c.trace, err)}
	case c.in.refused.Get() != 0 && err != nil && (!isAbort || c.exited):
		return Outcome{Status: ledger.OutOfMemory, Trace: trace(c.trace, err)}
	case isAbort:
		o = Outcome{Status: ledger.Aborted, Code: aborted.code, Data: aborted.data, Trace: trace(c.trace, err)}
	case err != nil:
		return Outcome{Status: ledger.Trapped, Trace: trace(c.trace, err)}
	case code != 0:
		o.Status, o.Code = ledger.Aborted, code
	}
	if len(o.Data) > MaxOutput || (len(o.Data) > 0 && !canonical(o.Data)) {
		reason := fmt.Sprintf("%d bytes of output: want one canonical CBOR value of at most %d", len(o.Data), MaxOutput)
		return Outcome{Status: ledger.BadOutput, Code: o.Code, Trace: trace(c.trace, errors.New(reason))}
	}
	return o
}

// maxTrace bounds the text that a call leaves.
const maxTrace = 8 << 10

func trace(before string, err error) string {
	s := before
	if err != nil {
		s += strings.Replace(err.Error(), " (recovered by wazero)", "", 1) // of no use to whoever reads it
	}
	return s[:min(len(s), maxTrace)]
}
