package wasmvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"weak"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// backend is one of wazero's engines, with the host functions.
type backend struct {
	engine Engine
	run    wazero.Runtime
	advice string     // that ends what compile complains of
	busy   sync.Mutex // wazero compiles and closes modules one at a time
}

func (v *VM) newBackend(ctx context.Context, engine Engine, r wazero.RuntimeConfig) (*backend, error) {
	r = r.WithCoreFeatures(api.CoreFeaturesV2 &^ api.CoreFeatureSIMD).WithMemoryLimitPages(v.config.MemoryPages).WithDebugInfoEnabled(false)
	b := &backend{engine: engine, run: wazero.NewRuntimeWithConfig(ctx, r)}
	if err := offer(v.config.Profile.watch(ctx, [32]byte{}), b.run); err != nil {
		return nil, errors.Join(err, b.run.Close(ctx))
	}
	return b, nil
}

// compile hands a rewritten module to the engine. What fails here is no fault of the module, which our own validator
// admitted: engines differ in their faults, and the verdict on a module must not. b.busy is held.
func (b *backend) compile(ctx context.Context, code []byte) (compiled wazero.CompiledModule, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("wasmvm: the %s crashed on a module: %v", b.engine, r)
		}
	}()
	compiled, err = b.run.CompileModule(ctx, code)
	if err != nil {
		return nil, fmt.Errorf("wasmvm: the %s refuses a rewritten module: %w%s", b.engine, err, b.advice)
	}
	return compiled, nil
}

// candidate is a module that our validator admits: what is needed to make a Module of it.
type candidate struct {
	hash     [32]byte // SHA-256 of the module as it came
	code     []byte   // rewritten
	mutable  []string // exports of its mutable globals
	hasStart bool     // exports _initialize
	info     *Info
}

func (v *VM) candidate(code []byte) (*candidate, error) {
	w, info, err := v.admit(code)
	if err != nil {
		return nil, err
	}
	return &candidate{hash: sha256.Sum256(code), code: w.code, mutable: w.mutable, hasStart: w.hasStart, info: info}, nil
}

// make makes a Module. The interpreter takes any module in linear time, so it decides whether _initialize ends well, and
// serves until the compiler is ready. A module whose machine code is in the cache skips it. used is what an _initialize took that failed.
func (v *VM) make(ctx context.Context, digest keys.Digest, c *candidate, limit ledger.Gas) (_ *Module, used ledger.Gas, err error) {
	m := &Module{vm: v, digest: digest, source: c, methods: make(map[string]bool, len(c.info.Methods)), decided: make(chan struct{})}
	for _, name := range c.info.Methods {
		m.methods[name] = true
	}
	if v.config.Engine == Compiler && v.known != "" {
		if p, err := v.fromCache(ctx, c); err == nil {
			m.settle(p)
			m.compiling.Store(true)
			m.finish(p)
			return m, 0, nil
		}
	}
	p, in, gas, err := v.build(ctx, v.interpreter, c, limit)
	if err != nil {
		return nil, gas, err
	}
	p.adopt(v.newImage(in, gas), in)
	m.settle(p)
	if v.compiler == nil {
		c.code = nil
	}
	if v.config.Wait {
		if err := m.Ready(ctx); err != nil {
			return nil, 0, err
		}
	}
	return m, 0, nil
}

// build compiles a module with a backend and runs its _initialize, in the instance that it returns. gas is what that took, at most limit.
func (v *VM) build(ctx context.Context, b *backend, c *candidate, limit ledger.Gas) (p *program, in *instance, gas ledger.Gas, err error) {
	b.busy.Lock()
	compiled, err := b.compile(v.config.Profile.watch(ctx, c.hash), c.code)
	b.busy.Unlock()
	if err != nil {
		return nil, nil, 0, err
	}
	p = &program{vm: v, backend: b, compiled: compiled, mutable: c.mutable}
	if in, gas, err = p.initialize(ctx, c, limit); err != nil {
		p.close()
		return nil, nil, gas, err
	}
	return p, in, gas, nil
}

// settle makes p, the first program of a module, and its image the module's.
func (m *Module) settle(p *program) {
	m.image = p.image
	m.info = *m.source.info
	m.info.InitGas, m.info.Initialize = p.image.gas, p.image.used
	if p.image.file != nil {
		runtime.AddCleanup(m, func(f *imageFile) { _ = f.close() }, p.image.file) // nobody reads it any more
	}
	m.serving.Store(serve(p))
	if m.vm.config.Engine == Shadow {
		m.reference = m.serving.Load()
	}
}

// finish ends a module's wait for the compiler: p is its program there, or nil.
func (m *Module) finish(p *program) {
	m.source.code = nil
	if p != nil {
		m.vm.compiled.Add(1)
	}
	close(m.decided)
}

// The gas that a module that is to be compiled may use in the interpreter, where it takes some 20 ns a unit: as long as compiling its
// code takes, and at most a second.
const (
	MaxInterpreted     = 40_000_000
	interpretedPerByte = 16 // of rewritten code, which takes the compiler 0.5 µs
)

// patience returns how much more gas may be used in the interpreter.
func (m *Module) patience() ledger.Gas {
	most := min(MaxInterpreted, interpretedPerByte*uint64(m.info.Rewrote))
	return ledger.Gas(most - min(most, m.interpreted.Load()))
}

// Optimize prepares a call with so much gas: it asks for the module to be compiled in the background, if the engine compiles. The
// interpreter serves calls until then, unless that could take it longer than the compiler: then Optimize waits for the compiler
// as Ready does. It does nothing else when the queue is full, and costs little once the module is compiled. Its error is the end of ctx.
func (m *Module) Optimize(ctx context.Context, limit ledger.Gas) error {
	if m.vm.compiler == nil {
		return nil
	}
	select {
	case <-m.decided:
		return nil
	default:
	}
	if limit > m.patience() {
		if err := m.Ready(ctx); err != nil && ctx.Err() != nil {
			return err
		}
		return nil // the compiler may have refused the module: Config.Warn has been told
	}
	if !m.queued.CompareAndSwap(false, true) {
		return nil
	}
	select {
	case m.vm.queue <- weak.Make(m):
	default:
		m.queued.Store(false)
	}
	return nil
}

// Ready compiles the module, unless that is done or under way, waits until it is, and says why the compiler does not
// take it, if it does not. Who compiles does so to the end, for all that wait, and others wait until ctx ends.
func (m *Module) Ready(ctx context.Context) error {
	if m.vm.compiler == nil {
		return nil
	}
	if m.compiling.CompareAndSwap(false, true) {
		m.compile(context.WithoutCancel(ctx))
		return m.refusal
	}
	select {
	case <-m.decided:
		return m.refusal
	case <-ctx.Done():
		return fmt.Errorf("wasmvm: wait for the compiler: %w", context.Cause(ctx))
	}
}

// optimize is the goroutine that compiles what is queued: one module at a time, which leaves the other processors to blocks. It does
// that itself, not in workers of wazero, since a panic there could not be caught. A module that was let go meanwhile is skipped.
func (v *VM) optimize() {
	for {
		select {
		case <-v.ending:
			return
		case next := <-v.queue:
			if m := next.Value(); m != nil {
				_ = m.Ready(context.Background()) // Config.Warn has been told
			}
		}
	}
}

// compile has the compiler take over a module, and decides.
func (m *Module) compile(ctx context.Context) {
	v := m.vm
	p, in, gas, err := v.build(ctx, v.compiler, m.source, MaxInitGas)
	if err == nil {
		if what := m.image.differs(in, gas); what != "" {
			in.close()
			p.close()
			err = fmt.Errorf("wasmvm: the compiler's code for %s is wrong: %s", initializer, what)
			if v.config.Engine == Shadow {
				v.report(&DivergenceError{Module: m.digest, Method: initializer, What: what})
			}
		}
	}
	if err != nil {
		v.unfit.Add(1)
		v.warn(m.digest, err)
		m.refusal = err
		m.finish(nil)
		return
	}
	if err := v.remember(m.source, m.image); err != nil {
		v.warn(m.digest, err)
	}
	p.adopt(m.image, in)
	m.serving.Store(serve(p)) // calls that began go on in the interpreter, which is closed after the last of them
	m.finish(p)
	v.weigh(m)
}

func (v *VM) warn(module keys.Digest, err error) {
	if v.config.Warn != nil {
		v.config.Warn(module, err)
	}
}

// image is what instances hold before a call. Nothing else of an instance can change, since instructions that write tables or
// drop segments are not admitted.
type image struct {
	memory  []byte
	file    *imageFile // that memory is in, or nil
	blank   []bool     // pages of memory with zeroes alone; nil if there is a file
	globals []uint64
	used    ledger.Gas // by _initialize
	gas     ledger.Gas // that every call pays for being reset to it
}

const imagePage = 4 << 10

var blankPage [imagePage]byte

// newImage keeps what _initialize left in an instance, and took.
func (v *VM) newImage(in *instance, gas ledger.Gas) *image {
	size := in.memory.Size()
	view, _ := in.memory.Read(0, size)
	i := &image{gas: ledger.Gas(v.costs.starting(uint64(size >> 16))), used: gas}
	if size >= largeImage {
		i.file, _ = newImageFile(view) // where it cannot be had, copying does
	}
	if i.file != nil {
		i.memory = i.file.image
	} else {
		i.memory = bytes.Clone(view)
		for page := range slices.Chunk(i.memory, imagePage) {
			i.blank = append(i.blank, bytes.Equal(page, blankPage[:len(page)]))
		}
	}
	for _, g := range in.globals {
		i.globals = append(i.globals, g.Get())
	}
	return i
}

// differs says what the compiler's _initialize, which took gas, left in an instance that it did not in the
// interpreter's, whose image i is; it is empty when that is nothing.
func (i *image) differs(in *instance, gas ledger.Gas) string {
	if gas != i.used {
		return fmt.Sprintf("gas %d in the compiler, %d in the interpreter", gas, i.used)
	}
	view, _ := in.memory.Read(0, in.memory.Size())
	if len(view) != len(i.memory) {
		return fmt.Sprintf("memory of %d bytes in the compiler, %d in the interpreter", len(view), len(i.memory))
	}
	if !bytes.Equal(view, i.memory) {
		at := 0
		for view[at] == i.memory[at] {
			at++
		}
		return fmt.Sprintf("the byte at %d of memory is %d in the compiler, %d in the interpreter", at, view[at], i.memory[at])
	}
	for at, g := range in.globals {
		if g.Get() != i.globals[at] {
			return fmt.Sprintf("the global %d is %d in the compiler, %d in the interpreter", at, g.Get(), i.globals[at])
		}
	}
	return ""
}

// sum identifies an image.
func (i *image) sum() [32]byte {
	h := sha256.New()
	var head []byte
	head = binary.BigEndian.AppendUint64(head, uint64(i.used))
	head = binary.BigEndian.AppendUint64(head, uint64(i.gas))
	head = binary.BigEndian.AppendUint64(head, uint64(len(i.memory)))
	for _, g := range i.globals {
		head = binary.BigEndian.AppendUint64(head, g)
	}
	h.Write(head)
	h.Write(i.memory)
	return [32]byte(h.Sum(nil))
}
