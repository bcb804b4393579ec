package wasmvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/fondaco/fondaco/state/ledger"
)

// Module is an admitted, compiled module. Its methods may be called concurrently. It stays usable for as long as it is
// referred to, and then releases what it holds.
type Module struct {
	vm      *VM
	info    Info
	methods map[string]bool
	program *program
}

// program is the part of a Module that outlives it until it is closed.
type program struct {
	vm       *VM
	compiled wazero.CompiledModule
	mutable  []string // exports of mutable globals

	// The image: what instances hold before a call. Nothing else of an instance can change, since instructions that
	// write tables or drop segments are not admitted.
	memory  []byte
	file    *imageFile // that memory is in, or nil
	globals []uint64

	mu   sync.Mutex  // guards idle
	idle []*instance // last used last
}

// largeImage is the size of memory from which an imageFile is worth its system calls.
const largeImage = 256 << 10

// maxIdle bounds the instances that wait for calls. One Go contract's takes some 3 MB.
const maxIdle = 8

// instance runs one call at a time.
type instance struct {
	module  api.Module
	memory  api.Memory
	gas     api.MutableGlobal
	depth   api.MutableGlobal
	refused api.MutableGlobal
	globals []api.MutableGlobal
	methods map[string]api.Function
	used    bool // since it was equal to the image
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

// compile admits code, compiles it and runs its _initialize.
func (v *VM) compile(ctx context.Context, code []byte) (*Module, error) {
	w, info, err := v.admit(code)
	if err != nil {
		return nil, err
	}
	compiled, err := v.compileRewritten(ctx, w.code)
	if err != nil {
		return nil, err
	}
	p := &program{vm: v, compiled: compiled, mutable: w.mutable}
	gas, err := p.initialize(ctx, w.hasStart, sha256.Sum256(code))
	if err != nil {
		p.close()
		return nil, err
	}
	info.InitGas = gas
	m := &Module{vm: v, info: *info, methods: make(map[string]bool, len(info.Methods)), program: p}
	for _, name := range info.Methods {
		m.methods[name] = true
	}
	runtime.AddCleanup(m, (*program).close, p)
	return m, nil
}

// compileRewritten hands a rewritten module to the engine. What fails here is a fault of this node, not of the
// module, which our own validator admitted: engines differ in their faults, and the verdict on a module must not.
func (v *VM) compileRewritten(ctx context.Context, code []byte) (compiled wazero.CompiledModule, err error) {
	v.compiling.Lock()
	defer v.compiling.Unlock()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("wasmvm: %s crashed on a module: %v", v.config.Engine, r)
		}
	}()
	compiled, err = v.run.CompileModule(ctx, code)
	if err != nil {
		return nil, fmt.Errorf("wasmvm: %s refuses a rewritten module: %w", v.config.Engine, err)
	}
	return compiled, nil
}

// initialize makes the first instance, runs _initialize in it, and keeps what it leaves as the image. It returns the gas that
// every call pays for that.
func (p *program) initialize(ctx context.Context, hasStart bool, hash [32]byte) (ledger.Gas, error) {
	in, err := p.instantiate()
	if err != nil {
		return 0, &ModuleError{Reason: "cannot be instantiated: " + err.Error()}
	}
	used := uint64(0)
	if hasStart {
		c := &call{costs: p.vm.costs, suite: p.vm.config.Suite, node: ctx, in: in, seed: hash}
		in.prepare(MaxInitGas)
		_, err := in.function(initializer).Call(&callContext{ctx, c})
		c.flush()
		used = MaxInitGas - c.gasLeft()
		if err != nil || int64(in.gas.Get()) < 0 {
			in.close()
			if f, ok := errors.AsType[*fault](err); ok {
				return 0, fmt.Errorf("wasmvm: %s: %w", initializer, f)
			}
			if r, ok := errors.AsType[runtime.Error](err); ok {
				return 0, fmt.Errorf("wasmvm: %s: the node's own code failed: %w", initializer, r)
			}
			return 0, &ModuleError{Reason: fmt.Sprintf("%s ended with %v after %d of %d gas: %s", initializer, err, used, MaxInitGas, c.trace)}
		}
	}
	size := in.memory.Size()
	view, _ := in.memory.Read(0, size)
	if size >= largeImage {
		p.file, _ = newImageFile(view) // where it cannot be had, copying does
	}
	if p.file != nil {
		p.memory = p.file.image
	} else {
		p.memory = bytes.Clone(view)
	}
	for _, g := range in.globals {
		p.globals = append(p.globals, g.Get())
	}
	if p.file != nil {
		in.close() // its memory is not of the file
	} else {
		p.idle = append(p.idle, in)
	}
	costs := p.vm.costs
	return ledger.Gas(used + costs.start + costs.startPage*uint64(size>>16)), nil
}

// instantiate makes an instance as the module describes it.
func (p *program) instantiate() (*instance, error) {
	var allocator experimental.MemoryAllocator = p.vm.slabs
	if p.file != nil {
		memory, err := p.file.reserve(int(p.vm.config.MemoryPages) << 16)
		if err != nil {
			return nil, err
		}
		allocator = experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return memory })
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), allocator)
	module, err := p.vm.run.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	in := &instance{module: module, memory: module.ExportedMemory(memoryExport), methods: map[string]api.Function{}}
	mutable := func(name string) api.MutableGlobal { return module.ExportedGlobal(name).(api.MutableGlobal) }
	in.gas, in.depth, in.refused = mutable(gasExport), mutable(depthExport), mutable(refusedExport)
	for _, name := range p.mutable {
		in.globals = append(in.globals, mutable(name))
	}
	return in, nil
}

// take returns an instance that is equal to the image.
func (p *program) take() (*instance, error) {
	p.mu.Lock()
	var in *instance
	if n := len(p.idle); n > 0 {
		in = p.idle[n-1]
		p.idle = p.idle[:n-1]
	}
	p.mu.Unlock()
	if in == nil {
		var err error
		if in, err = p.instantiate(); err != nil {
			return nil, fmt.Errorf("wasmvm: instantiate: %w", err)
		}
		if grown := uint32(len(p.memory)) - in.memory.Size(); grown > 0 {
			if _, ok := in.memory.Grow(grown >> 16); !ok {
				in.close()
				return nil, errors.New("wasmvm: instantiate: the memory does not grow to the image's size")
			}
		}
		in.used = true
		if p.file != nil {
			view, _ := in.memory.Read(0, uint32(len(p.memory)))
			if err := p.file.attach(view); err != nil {
				in.close()
				return nil, fmt.Errorf("wasmvm: instantiate: %w", err)
			}
		}
	}
	if in.used {
		view, _ := in.memory.Read(0, uint32(len(p.memory)))
		if p.file == nil {
			restore(view, p.memory)
		} else if err := p.file.restore(view); err != nil {
			in.close()
			return nil, fmt.Errorf("wasmvm: reset an instance: %w", err)
		}
		for i, g := range in.globals {
			g.Set(p.globals[i])
		}
	}
	in.used = true
	return in, nil
}

// restore makes memory equal to the image. A call changes a few dozen of a Go module's 600 pages of 4 KiB, and to compare a
// page costs a third of copying it, which also writes.
func restore(memory, image []byte) {
	const page = 4 << 10
	for i := 0; i < len(image); i += page {
		end := min(i+page, len(image))
		if !bytes.Equal(memory[i:end], image[i:end]) {
			copy(memory[i:end], image[i:end])
		}
	}
}

// give takes an instance back, or closes it when its memory grew, since a memory cannot shrink.
func (p *program) give(in *instance) {
	if int(in.memory.Size()) == len(p.memory) {
		p.mu.Lock()
		if len(p.idle) < maxIdle {
			p.idle = append(p.idle, in)
			in = nil
		}
		p.mu.Unlock()
	}
	if in != nil {
		in.close()
	}
}

func (p *program) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, in := range idle {
		in.close()
	}
	if p.file != nil {
		_ = p.file.close() // nobody reads it any more
	}
	p.vm.compiling.Lock()
	defer p.vm.compiling.Unlock()
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
	in, err := m.program.take()
	if err != nil {
		return Outcome{}, err
	}
	c := &call{host: h, context: h.Context(), costs: m.vm.costs, suite: m.vm.config.Suite, node: ctx, in: in, args: args}
	in.prepare(uint64(limit - m.info.InitGas))
	var stack [1]uint64
	err = in.function(method).CallWithStack(&callContext{ctx, c}, stack[:])
	for i := range c.scans {
		if c.scans[i].Scanner != nil {
			c.scans[i].Close()
		}
	}
	c.flush()
	o := c.outcome(uint32(stack[0]), err)
	o.Gas = limit - ledger.Gas(c.gasLeft())
	defer runtime.KeepAlive(m) // its cleanup closes what the call uses, the instance given back below included
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
	m.program.give(in)
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
		s += err.Error()
	}
	return s[:min(len(s), maxTrace)]
}
