package wasmvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// engine returns the engine that serves a module's calls.
func (m *Module) engine() Engine { return m.serving.Load().backend.engine }

func newConfigured(t testing.TB, c Config) *VM {
	t.Helper()
	c.errata = true
	v, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return v
}

func mustCompile(t testing.TB, v *VM, code []byte) *Module {
	t.Helper()
	m, err := v.Compile(t.Context(), code)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustCall(t testing.TB, m *Module, h Host, name string, input []byte) Outcome {
	t.Helper()
	o, err := m.Call(t.Context(), h, name, input, 50_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// starting returns a module of which _initialize writes 7 to memory and a global, and mint finds that.
func starting() []byte {
	a := newAssembler()
	a.globals, a.memory = []byte("i"), []uint32{8} // an image that goes to a file
	return a.fn("_initialize", ":", "", "i32.const 70000 i32.const 7 i32.store8 0 i32.const 7 global.set 0").
		fn("mint", ":i", "", "i32.const 70000 i32.load8_u 0 global.get 0 i32.sub i32.const 70000 i32.load8_u 0 i32.const 7 i32.sub i32.or").build()
}

// growing returns a module of which run reads a byte of the page that it grows by, and then writes there and to a global: one that
// finds a trace of an earlier call aborts.
func growing() []byte {
	a := newAssembler()
	return a.fn("run", ":i", "i", `i32.const 1 memory.grow i32.const 65536 i32.mul local.tee 0 i32.load8_u 0
		i32.const 100 i32.load8_u 0 i32.or memory.size i32.const 2 i32.ne i32.or
		local.get 0 i32.const 255 i32.store8 0 i32.const 100 i32.const 255 i32.store8 0`).build()
}

func TestBackground(t *testing.T) {
	t.Run("the interpreter serves until the compiler is ready, with equal gas", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Compiler})
		m := mustCompile(t, v, buildGoToken(t))
		if m.engine() != Interpreter {
			t.Fatalf("%s serves a module that nobody has asked to be compiled", m.engine())
		}
		h := newHost()
		before := mustCall(t, m, h, "mint", transferInput(1, 0, 100))
		_ = m.Optimize(t.Context(), 0)
		_ = m.Optimize(t.Context(), 0)
		for range 3 { // while it compiles
			if o := mustCall(t, m, h, "mint", transferInput(1, 0, 100)); o.Status != ledger.OK || o.Gas != before.Gas {
				t.Errorf("%+v, want the outcome %+v", o, before)
			}
		}
		if err := m.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m.engine() != Compiler {
			t.Errorf("%s serves a module that is compiled", m.engine())
		}
		if o := mustCall(t, m, h, "mint", transferInput(1, 0, 100)); o.Status != ledger.OK || o.Gas != before.Gas {
			t.Errorf("compiled: %+v, want the outcome %+v", o, before)
		}
		if s := v.Stats(); s.Compiled != 1 || s.Modules != 1 || s.Queued != 0 || s.Refused != 0 {
			t.Errorf("%+v, want one module, compiled", s)
		}
	})
	t.Run("the interpreter's form is given up when the compiler has taken over", func(t *testing.T) {
		m := mustCompile(t, newConfigured(t, Config{Engine: Compiler}), starting())
		mustCall(t, m, newHost(), "mint", nil)
		interpreted := m.serving.Load().program
		if err := m.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		for closed := false; !closed; { // ends, unless something refers to it for ever
			runtime.GC()
			m.vm.waiting.Lock()
			closed = interpreted.closed
			m.vm.waiting.Unlock()
		}
		if o := mustCall(t, m, newHost(), "mint", nil); o.Status != ledger.OK {
			t.Errorf("%+v", o)
		}
	})
	t.Run("who uses much gas in the interpreter waits for the compiler", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Compiler})
		m := mustCompile(t, v, newAssembler().fn("run", ":i", "", "loop _ br 0 end i32.const 0").build())
		m.queued.Store(true) // behind others
		m.info.Rewrote = 1 << 20
		for m.patience() >= 1_000_000 {
			if err := m.Optimize(t.Context(), 1_000_000); err != nil || m.engine() != Interpreter {
				t.Fatalf("%s serves before the interpreter has worked for long: %v", m.engine(), err)
			}
			m.interpreted.Add(9_500_000) // by earlier calls
			if o, err := m.Call(t.Context(), newHost(), "run", nil, 1_000_000); err != nil || o.Status != ledger.OutOfGas {
				t.Fatalf("%+v, %v", o, err)
			}
		}
		if err := m.Optimize(t.Context(), 1_000_000); err != nil || m.engine() != Compiler {
			t.Errorf("%s serves after %d gas in the interpreter: %v", m.engine(), m.interpreted.Load(), err)
		}
	})
	t.Run("who may use much gas waits for the compiler at once", func(t *testing.T) {
		m := mustCompile(t, newConfigured(t, Config{Engine: Compiler}), method("", "i32.const 0"))
		m.queued.Store(true)
		if err := m.Optimize(t.Context(), m.patience()); err != nil || m.engine() != Interpreter {
			t.Errorf("%s serves what suits the interpreter: %v", m.engine(), err)
		}
		if err := m.Optimize(t.Context(), m.patience()+1); err != nil || m.engine() != Compiler {
			t.Errorf("%s serves what takes the interpreter longer than the compiler: %v", m.engine(), err)
		}
	})
	t.Run("a request that is given up stops nobody's compiler", func(t *testing.T) {
		m := mustCompile(t, newConfigured(t, Config{Engine: Compiler}), method("", "i32.const 0"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m.compiling.Store(true) // by somebody else
		if err := m.Optimize(ctx, MaxInterpreted+1); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up waiting is told %v", err)
		}
		m.compiling.Store(false)
		_ = m.Ready(ctx)
		if err := m.Ready(t.Context()); err != nil || m.engine() != Compiler {
			t.Errorf("%s serves: %v", m.engine(), err)
		}
	})
	t.Run("calls go on while the engine changes under them", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Compiler})
		m := mustCompile(t, v, growing())
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				for i := range 200 {
					if i == 50 {
						_ = m.Optimize(context.Background(), 0)
					}
					if o, err := m.Call(context.Background(), newHost(), "run", nil, 1_000_000); err != nil || o.Status != ledger.OK {
						t.Errorf("%+v, %v", o, err)
						return
					}
				}
			})
		}
		calls.Wait()
	})
	t.Run("a module that the compiler cannot take stays with the interpreter", func(t *testing.T) {
		var told []string
		v := newConfigured(t, Config{Engine: Compiler, Warn: func(d keys.Digest, err error) { told = append(told, d.String()+": "+err.Error()) }})
		code := method("", "i32.const 1004")
		for _, cut := range []func(*Module){
			func(m *Module) { m.source.code = []byte("no module") },
			func(m *Module) { m.source.code = nil; v.compiler.run = nil }, // wazero panics
		} {
			told = nil
			v.mu.Lock()
			delete(v.modules, place{v, sha256.Sum256(code)})
			v.mu.Unlock()
			m := mustCompile(t, v, code)
			run := v.compiler.run
			cut(m)
			err := m.Ready(t.Context())
			v.compiler.run = run
			if err == nil || len(told) != 1 || !strings.HasSuffix(told[0], err.Error()) {
				t.Errorf("%v, and the hook was told %q", err, told)
			}
			if o := mustCall(t, m, newHost(), "run", nil); o.Code != 1004 || m.engine() != Interpreter {
				t.Errorf("%+v by %s, want the interpreter to serve", o, m.engine())
			}
		}
		if s := v.Stats(); s.Refused != 2 {
			t.Errorf("%+v, want two refusals of the compiler", s)
		}
	})
	t.Run("a compiler whose _initialize leaves another image does not take over", func(t *testing.T) {
		var alarms []*DivergenceError
		for _, e := range []Engine{Compiler, Shadow} {
			v := newConfigured(t, Config{Engine: e, Alarm: func(d *DivergenceError) { alarms = append(alarms, d) }})
			m := mustCompile(t, v, starting())
			other := *m.image
			other.used++
			m.image = &other
			if err := m.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "_initialize is wrong: gas") {
				t.Errorf("%v, want a difference in gas", err)
			}
			if m.engine() != Interpreter {
				t.Errorf("%s serves", m.engine())
			}
		}
		if len(alarms) != 1 || alarms[0].Method != initializer {
			t.Errorf("%v, want one alarm, of the engine shadow", alarms)
		}
	})
	t.Run("closing does not wait for the queue", func(t *testing.T) {
		v, err := New(t.Context(), Config{Engine: Compiler})
		if err != nil {
			t.Fatal(err)
		}
		var kept []*Module
		for i := range v.Capacity() + 8 {
			m := mustCompile(t, v, method("", fmt.Sprintf("i32.const %d", i)))
			_ = m.Optimize(t.Context(), 0)
			kept = append(kept, m)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := v.Compile(t.Context(), method("", "i32.const 0")); err == nil {
			t.Error("a closed VM takes a module")
		}
		runtime.KeepAlive(kept)
	})
}

// TestImageSum changes what identifies an image: all that a call, or the receipt of a deployment, depends on.
func TestImageSum(t *testing.T) {
	make1 := func() *image { return &image{memory: []byte{1, 2}, globals: []uint64{3}, used: 4, gas: 5} }
	base := make1().sum()
	for what, change := range map[string]func(*image){
		"memory": func(i *image) { i.memory[1]++ }, "a global": func(i *image) { i.globals[0]++ },
		"what _initialize took": func(i *image) { i.used++ }, "the gas of a start": func(i *image) { i.gas++ },
	} {
		i := make1()
		if change(i); i.sum() == base {
			t.Errorf("another %s makes the same sum", what)
		}
	}
}

func TestImageOfEngines(t *testing.T) {
	for name, code := range map[string][]byte{"go": buildGoToken(t), "assembled": starting()} {
		sums := map[Engine][32]byte{}
		for _, e := range []Engine{Interpreter, Compiler} {
			v := newConfigured(t, Config{Engine: e})
			c, err := v.candidate(code)
			if err != nil {
				t.Fatal(err)
			}
			backend := v.interpreter
			if e == Compiler {
				backend = v.compiler
			}
			p, in, gas, err := v.build(t.Context(), backend, c, MaxInitGas)
			if err != nil {
				t.Fatal(err)
			}
			p.adopt(v.newImage(in, gas), in)
			sums[e] = p.image.sum()
			if p.image.file != nil {
				if err := p.image.file.close(); err != nil {
					t.Error(err)
				}
			}
		}
		if sums[Interpreter] != sums[Compiler] {
			t.Errorf("%s: the image depends on the engine", name)
		}
	}
}

func TestWarmStart(t *testing.T) {
	dir, code := t.TempDir(), starting()
	start := func(e Engine) *Module {
		v := newConfigured(t, Config{Engine: e, CacheDir: dir})
		return mustCompile(t, v, code)
	}
	m := start(Compiler)
	if m.engine() != Interpreter {
		t.Fatal("a cold cache serves machine code")
	}
	want := mustCall(t, m, newHost(), "mint", nil)
	if err := m.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m = start(Compiler); m.engine() != Compiler {
		t.Error("a warm cache does not serve machine code")
	}
	if o := mustCall(t, m, newHost(), "mint", nil); o.Gas != want.Gas || o.Status != ledger.OK {
		t.Errorf("%+v, want %+v", o, want)
	}
	if m = start(Shadow); m.engine() != Interpreter {
		t.Error("the engine shadow does not begin with the interpreter")
	}
	notes, err := filepath.Glob(filepath.Join(dir, "images-*", "*"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("%q, %v, want one note", notes, err)
	}
	if err := os.WriteFile(notes[0], bytes.Repeat([]byte{1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if m = start(Compiler); m.engine() != Interpreter {
		t.Error("machine code that makes another image than it did is served")
	}
	if err := m.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if m = start(Compiler); m.engine() != Compiler {
		t.Error("the note of the image was not made again")
	}
}

func TestCacheBounds(t *testing.T) {
	dir := t.TempDir()
	start := func(most int64) *VM {
		return newConfigured(t, Config{Engine: Compiler, CacheDir: dir, CacheBytes: most, Wait: true})
	}
	count := func(path string) int {
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	v := start(0)
	machine := v.machinePath()
	if _, err := os.Stat(machine); err != nil {
		t.Fatalf("wazero keeps machine code elsewhere: %v", err)
	}
	code := func(i int) []byte { return method("", fmt.Sprintf("i32.const %d", i)) }
	for i := range 8 {
		mustCompile(t, v, code(i))
	}
	if count(machine) != 8 || count(v.known) != 8 {
		t.Fatalf("%d files of machine code, %d notes, want 8", count(machine), count(v.known))
	}
	entries, err := os.ReadDir(machine)
	if err != nil {
		t.Fatal(err)
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}

	old := []string{filepath.Join(dir, "wazero-v0.0.1-amd64-linux"), filepath.Join(dir, "images-v0.0.1-amd64-1-1-512")}
	kept := []string{filepath.Join(dir, "mine"), filepath.Join(dir, notesPrefix()+"1-1-7")}
	for _, path := range slices.Concat(old, kept) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	torn := filepath.Join(machine, entries[0].Name()+".1.tmp")
	if err := os.WriteFile(torn, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	v = start(0)
	for _, path := range append(old, torn) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if count(machine) != 8 || count(v.known) != 8 {
		t.Errorf("%d files of machine code, %d notes, want 8", count(machine), count(v.known))
	}

	most := 4*info.Size() + info.Size()/2
	v = start(most)
	if n := count(machine); n != 3 || count(v.known) != 0 {
		t.Errorf("%d files of machine code where 4.5 fit, %d notes; want 3 and none", n, count(v.known))
	}
	for i := range 8 {
		if m := mustCompile(t, v, code(i)); m.engine() != Compiler {
			t.Errorf("%s serves", m.engine())
		}
		if n := count(machine); n > 4 {
			t.Errorf("%d files of machine code where 4.5 fit", n)
		}
	}
	if m := mustCompile(t, start(most), code(7)); m.engine() != Compiler {
		t.Errorf("%s serves what was compiled last", m.engine())
	}
}

func TestAdmit(t *testing.T) {
	errPoor := errors.New("cannot pay")
	poor := func(uint64) (ledger.Gas, error) { return 0, errPoor }
	bad := method("", "i64.const 0")
	fails := newAssembler().fn("_initialize", ":", "", "unreachable").fn("run", ":i", "i", "i32.const 0 block _ end").build()
	good := newAssembler().fn("run", ":i", "i", "i32.const 0 block _ end").build()
	for _, test := range []struct {
		name    string
		code    []byte
		refused bool
		charged bool
	}{
		{"a module that our validator refuses is not charged for", bad, true, false},
		{"one whose _initialize fails is", fails, true, true},
		{"a good one is", good, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newConfigured(t, Config{Engine: Interpreter})
			for i := range 3 { // the second time from memory
				charged := uint64(0)
				_, _, err := v.Admit(t.Context(), keys.Digest{1}, test.code, func(weight uint64) (ledger.Gas, error) {
					charged = weight
					return MaxInitGas, nil
				})
				if errors.Is(err, ErrModule) != test.refused || (err != nil) != test.refused || (charged > 0) != test.charged {
					t.Errorf("time %d: %v, charged %d", i, err, charged)
				}
				if !test.charged {
					continue
				}
				if _, _, err := v.Admit(t.Context(), keys.Digest{1}, test.code, poor); !errors.Is(err, errPoor) {
					t.Errorf("time %d: %v, want %v", i, err, errPoor)
				}
			}
		})
	}
	t.Run("who cannot pay makes no engine work", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Interpreter})
		if _, _, err := v.Admit(t.Context(), keys.Digest{1}, good, poor); !errors.Is(err, errPoor) || v.Stats().Modules != 0 {
			t.Errorf("%v, %+v", err, v.Stats())
		}
	})
}

// TestInitGas deploys modules with all amounts of gas that matter, on VMs that know them in all the ways there are. What _initialize
// took, and whether that is more than what is left, must not depend on that.
func TestInitGas(t *testing.T) {
	const steps = 10_000
	work := fmt.Sprintf("loop _ local.get 0 i32.const 1 i32.add local.tee 0 i32.const %d i32.lt_u br_if 0 end ", steps)
	measures := newAssembler()
	left := measures.use("gas_left")
	for name, code := range map[string][]byte{
		"ends well":        newAssembler().fn(initializer, ":", "i", work).fn("run", ":i", "", "i32.const 0").build(),
		"traps":            newAssembler().fn(initializer, ":", "i", work+"unreachable").fn("run", ":i", "", "i32.const 0").build(),
		"recurses":         newAssembler().fn(initializer, ":", "", "call 0").fn("run", ":i", "", "i32.const 0").build(),
		"loops":            newAssembler().fn(initializer, ":", "", "loop _ br 0 end").fn("run", ":i", "", "i32.const 0").build(),
		"has none":         method("", "i32.const 0"),
		"asks what it has": measures.fn(initializer, ":", "i", fmt.Sprintf("i32.const 500 call %d i64.store 0 ", left)+work).fn("run", ":i", "", "i32.const 500 i32.load 0").build(),
	} {
		t.Run(name, func(t *testing.T) {
			type verdict struct {
				used    ledger.Gas // left + 1: more than left
				refused bool
				code    uint32 // of run
			}
			admit := func(v *VM, left ledger.Gas) (a verdict) {
				m, used, err := v.Admit(t.Context(), keys.Digest{1}, code, func(uint64) (ledger.Gas, error) { return left, nil })
				if used > left {
					return verdict{used: left + 1}
				}
				if err != nil && !errors.Is(err, ErrModule) {
					t.Errorf("%d gas left: %v", left, err)
				}
				a = verdict{used: used, refused: err != nil}
				if m != nil {
					a.code = mustCall(t, m, newHost(), "run", nil).Code
				}
				return a
			}
			knows := newVM(t, Interpreter)
			most := admit(knows, 2*MaxInitGas)
			if most.used == MaxInitGas { // that takes long
				for _, left := range []ledger.Gas{MaxInitGas / 20, MaxInitGas} {
					want := most
					if want.used > left {
						want = verdict{used: left + 1}
					}
					for _, v := range []*VM{newVM(t, Interpreter), knows} {
						if got := admit(v, left); got != want {
							t.Errorf("%d gas left: %+v, want %+v", left, got, want)
						}
					}
				}
				return
			}
			dir := t.TempDir()
			cached := newConfigured(t, Config{Engine: Compiler, CacheDir: dir, Wait: true})
			admit(cached, 2*MaxInitGas)
			for _, left := range []ledger.Gas{0, 1, most.used / 2, max(most.used, 1) - 1, most.used, most.used + 1, MaxInitGas - 1, MaxInitGas, MaxInitGas + 1} {
				want := most
				if want.used > left {
					want = verdict{used: left + 1}
				}
				tried := newVM(t, Interpreter)
				for _, v := range []*VM{newVM(t, Interpreter), knows, cached, newConfigured(t, Config{Engine: Compiler, CacheDir: dir}), tried} {
					if v == tried {
						admit(tried, left/3) // must not be taken for a verdict
					}
					if got := admit(v, left); got != want {
						t.Errorf("%d gas left: %+v, want %+v", left, got, want)
					}
				}
			}
		})
	}
}

func TestRefusedModules(t *testing.T) {
	v := newConfigured(t, Config{Engine: Interpreter})
	loads := 0
	ask := func(i int) error {
		_, err := v.Module(t.Context(), keys.Digest{byte(i), byte(i >> 8)}, func() ([]byte, error) {
			loads++
			return []byte("hostile"), nil
		})
		return err
	}
	first := ask(0)
	if again := ask(0); loads != 1 || !errors.Is(again, ErrModule) || again.Error() != first.Error() {
		t.Errorf("%v after %v, %d loads, want one", again, first, loads)
	}
	for i := range 3 * maxRefused {
		if err := ask(i); !errors.Is(err, ErrModule) {
			t.Fatal(err)
		}
	}
	if len(v.refused) > maxRefused {
		t.Errorf("%d refusals are remembered, want at most %d", len(v.refused), maxRefused)
	}
}

func TestMemoryOfModules(t *testing.T) {
	v := newConfigured(t, Config{Engine: Interpreter, MemoryBytes: 600 << 10})
	for i := range 30 {
		mustCompile(t, v, method("", fmt.Sprintf("i32.const %d", i))) // each has an image of 64 KiB
	}
	if s := v.Stats(); s.Modules < 5 || s.Modules > 9 || v.weight > 600<<10 {
		t.Errorf("%+v and a weight of %d, want as many modules as fit", s, v.weight)
	}
	if len(v.modules) != v.recent.Len() {
		t.Errorf("%d modules by digest, %d by age", len(v.modules), v.recent.Len())
	}
	t.Run("modules under other rules count as well", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Interpreter, Modules: 3})
		other, err := v.At(t.Context(), Rules{1, 1, 7})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			mustCompile(t, v, method("", fmt.Sprintf("i32.const %d", i)))
			mustCompile(t, other, method("", fmt.Sprintf("i32.const %d", i)))
		}
		if s := v.Stats(); s.Modules != 3 || s.Bytes != other.Stats().Bytes {
			t.Errorf("%+v and %+v, want three modules in both together", s, other.Stats())
		}
	})
}

func TestIdleInstances(t *testing.T) {
	v := newConfigured(t, Config{Engine: Interpreter, MemoryBytes: 1 << 20}) // so that 8 instances of a page wait
	var cold []*Module
	for i := range 12 {
		m := mustCompile(t, v, method("", fmt.Sprintf("i32.const %d", i)))
		mustCall(t, m, newHost(), "run", nil)
		cold = append(cold, m)
	}
	hot := mustCompile(t, v, method("", "i32.const 99"))
	mustCall(t, hot, newHost(), "run", nil)
	waits := func(m *Module) int { return len(m.serving.Load().idle) }
	if waits(hot) != 1 || waits(cold[11]) != 1 || waits(cold[0]) != 0 || v.idle.Len() != 8 || v.idleSize != 512<<10 {
		t.Errorf("of the module called last %d instances wait, of the one before %d, of the first %d; %d in %d bytes of all",
			waits(hot), waits(cold[11]), waits(cold[0]), v.idle.Len(), v.idleSize)
	}
	instance := hot.serving.Load().idle[0]
	mustCall(t, hot, newHost(), "run", nil)
	if again := hot.serving.Load().idle[0]; again != instance {
		t.Error("a module that was called just now needs another instance")
	}
	v.lose(hot.serving.Load().program)
	if v.idle.Len() != 7 || v.idleSize != 7*64<<10 {
		t.Errorf("%d instances in %d bytes wait after a program was closed, want 7", v.idle.Len(), v.idleSize)
	}
}

// TestLargeImage looks for what a call left in a memory that is reset by pages.
func TestLargeImage(t *testing.T) {
	a := newAssembler()
	a.memory, a.globals = []uint32{8}, []byte("i")
	code := a.fn("run", ":i", "i", `i32.const 400000 i32.load8_u 0 i32.const 12345 i32.load8_u 0 i32.or global.get 0 i32.or local.set 0
		i32.const 400000 i32.const 1 i32.store8 0 i32.const 12345 i32.const 1 i32.store8 0 i32.const 1 global.set 0 local.get 0`).build()
	for _, e := range []Engine{Compiler, Interpreter} {
		m := mustCompile(t, newVM(t, e), code)
		if m.image.file == nil && runtime.GOOS == "linux" {
			t.Error("the image is in no file")
		}
		for i := range 20 {
			if o := mustCall(t, m, newHost(), "run", nil); o.Status != ledger.OK {
				t.Fatalf("%s, call %d found what another left: %+v", e, i, o)
			}
		}
		if idle := m.serving.Load().idle; len(idle) != 1 {
			t.Errorf("%s: %d instances wait, want the one that ran all calls", e, len(idle))
		}
	}
}

func TestSlabs(t *testing.T) {
	s := &slabs{most: 1 << 20}
	var taken [][]byte
	for range 40 {
		taken = append(taken, s.take(slabUnit))
	}
	for _, b := range taken {
		b[0] = 1
		s.give(b)
	}
	if s.kept() != slabKeep*slabUnit {
		t.Errorf("%d bytes are kept, want %d", s.kept(), slabKeep*slabUnit)
	}
	if b := s.take(slabUnit); b[0] != 0 || s.kept() != (slabKeep-1)*slabUnit {
		t.Errorf("memory that was written is lent, or %d bytes are counted", s.kept())
	}
	s.give(make([]byte, 4<<20))
	if s.kept() > s.most {
		t.Errorf("%d bytes are kept, at most %d may be", s.kept(), s.most)
	}
}

func TestGrownMemory(t *testing.T) {
	for _, e := range []Engine{Compiler, Interpreter} {
		t.Run(string(e), func(t *testing.T) {
			m := mustCompile(t, newVM(t, e), growing())
			for i := range 5 {
				if o := mustCall(t, m, newHost(), "run", nil); o.Status != ledger.OK {
					t.Errorf("call %d: %+v: it saw what the one before left", i, o)
				}
			}
			if idle := m.serving.Load().idle; len(idle) != 1 {
				t.Errorf("%d instances wait, want the one that was shrunk", len(idle))
			}
			code := newAssembler().fn("run", ":i", "", "i32.const 100 memory.grow drop i32.const 6500000 i32.const 1 i32.store8 0 i32.const 0").build()
			m = mustCompile(t, newVM(t, e), code)
			if o := mustCall(t, m, newHost(), "run", nil); o.Status != ledger.OK {
				t.Errorf("%+v", o)
			}
			if idle := m.serving.Load().idle; len(idle) != 0 {
				t.Errorf("%d instances wait, want none that grew by 6 MiB", len(idle))
			}
		})
	}
}
