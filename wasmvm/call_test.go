package wasmvm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// both runs a method in both engines, each on its own copy of the host's state, and wants equal outcomes and states.
func both(t *testing.T, code []byte, h *mapHost, method string, args []byte, limit ledger.Gas) Outcome {
	t.Helper()
	var outcomes [2]Outcome
	var hosts [2]*mapHost
	for i, e := range []Engine{Compiler, Interpreter} {
		v := newVM(t, e)
		m, err := v.Compile(t.Context(), code)
		if err != nil {
			t.Fatal(err)
		}
		copied := *h
		copied.state = maps.Clone(h.state)
		hosts[i] = &copied
		if outcomes[i], err = m.Call(t.Context(), hosts[i], method, args, limit); err != nil {
			t.Fatal(err)
		}
	}
	a, b := outcomes[0], outcomes[1]
	traces := a.Trace + b.Trace
	a.Trace, b.Trace = "", ""
	if !reflect.DeepEqual(a, b) {
		t.Errorf("compiler: %+v\ninterpreter: %+v\n%s", a, b, traces)
	}
	if !reflect.DeepEqual(hosts[0].state, hosts[1].state) || !slices.Equal(hosts[0].events, hosts[1].events) {
		t.Errorf("compiler and interpreter leave different states or events")
	}
	*h = *hosts[0]
	return outcomes[0]
}

func TestHostFunctions(t *testing.T) {
	// The input is copied to 0, results go to 1024.
	run := func(a *assembler, locals, body string) []byte { return a.fn("run", ":i", locals, body).build() }
	type want struct {
		status ledger.Status
		code   uint32
		data   string
		state  map[string]string
		events []string
	}
	value := func(s string) string { return string(appendText(nil, s)) }
	for _, test := range []struct {
		name  string
		make  func() []byte
		input string
		state map[string]string
		host  func(h *mapHost)
		want  want
	}{
		{
			name: "output is the input", input: value("hello"),
			make: func() []byte {
				a := newAssembler()
				length, read, output := a.use("input_len"), a.use("input_read"), a.use("output")
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 0 i32.const 99 call %d drop i32.const 0 call %d call %d i32.const 0", read, length, output))
			},
			want: want{data: value("hello")},
		},
		{
			name: "output that is not CBOR", input: value("hello"),
			make: func() []byte {
				a := newAssembler()
				read, output := a.use("input_read"), a.use("output")
				return run(a, "", fmt.Sprintf("i32.const 8 i32.const 1 i32.const 2 call %d drop i32.const 8 i32.const 2 call %d i32.const 0", read, output))
			},
			want: want{status: ledger.BadOutput},
		},
		{
			name: "a value that does not fit stays in the result register", state: map[string]string{"k": value("value")},
			make: func() []byte {
				a := newAssembler()
				get, length, read, output := a.use("get"), a.use("result_len"), a.use("result_read"), a.use("output")
				a.data = map[uint32]string{0: "k"}
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 1 i32.const 1024 i32.const 3 call %d drop i32.const 1024 i32.const 0 call %d call %d drop i32.const 1024 call %d call %d i32.const 0", get, length, read, length, output))
			},
			want: want{data: value("value")},
		},
		{
			name: "an absent key is -1", make: func() []byte {
				a := newAssembler()
				get := a.use("get")
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 1 i32.const 1024 i32.const 3 call %d i32.const -1 i32.ne", get))
			},
		},
		{
			name: "set, has, del", state: map[string]string{"b": "1"},
			make: func() []byte {
				a := newAssembler()
				set, has, del := a.use("set"), a.use("has"), a.use("del")
				a.data = map[uint32]string{0: "abcdefgh"}
				return run(a, "", fmt.Sprintf(`i32.const 0 i32.const 1 i32.const 2 i32.const 4 call %d
					i32.const 1 i32.const 1 call %d i32.const 1 i32.const 1 call %d i32.const 1 i32.const 1 call %d i32.sub i32.const 1 i32.ne`, set, has, del, has))
			},
			want: want{state: map[string]string{"a": "cdef"}},
		},
		{
			name: "counters stay within bounds", make: func() []byte {
				a := newAssembler()
				add := a.use("add")
				a.data = map[uint32]string{0: "n"}
				step := fmt.Sprintf("i32.const 0 i32.const 1 i64.const 7 i64.const 0 i64.const 10 call %d ", add)
				return run(a, "", step+step+"i32.const -1 i32.ne i32.or")
			},
			want: want{state: map[string]string{"n": "\x07"}},
		},
		{
			name: "a scan goes down to its start", state: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"},
			make: func() []byte {
				a := newAssembler()
				scan, next, closes, output := a.use("scan"), a.use("scan_next"), a.use("scan_close"), a.use("output")
				a.data = map[uint32]string{0: "bd"}
				return run(a, "ii", fmt.Sprintf(`i32.const 0 i32.const 1 i32.const 1 i32.const 1 i32.const 1 i32.const 9 call %d local.set 0
					i32.const 1023 i32.const 130 i32.store8 0
					local.get 0 i32.const 1024 i32.const 99 call %d local.set 1
					local.get 0 local.get 1 i32.const 1024 i32.add i32.const 99 call %d local.get 1 i32.add local.set 1
					local.get 0 i32.const 0 i32.const 0 call %d i32.const -1 i32.eq if _ else unreachable end local.get 0 call %d
					i32.const 1023 local.get 1 i32.const 1 i32.add call %d i32.const 0`, scan, next, next, next, closes, output))
			},
			want: want{data: "\x82\x82Ac\x41" + "3\x82AbA2", state: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}},
		},
		{
			name: "a scan without a limit is denied", make: func() []byte {
				a := newAssembler()
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 0 call %d", a.use("scan")))
			}, want: want{status: ledger.Denied, code: DeniedScan},
		},
		{
			name: "events", make: func() []byte {
				a := newAssembler()
				a.data = map[uint32]string{0: "paid\x80"}
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 4 i32.const 4 i32.const 1 call %d i32.const 0", a.use("emit")))
			}, want: want{events: []string{"paid"}},
		},
		{
			name: "an event without canonical data is denied", make: func() []byte {
				a := newAssembler()
				a.data = map[uint32]string{0: "paid\x18\x01"}
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 4 i32.const 4 i32.const 2 call %d i32.const 0", a.use("emit")))
			}, want: want{status: ledger.Denied, code: DeniedEvent},
		},
		{
			name: "a storm of events is denied", make: func() []byte {
				a := newAssembler()
				a.data = map[uint32]string{0: "paid\x80"}
				return run(a, "", fmt.Sprintf("loop _ i32.const 0 i32.const 4 i32.const 4 i32.const 1 call %d br 0 end i32.const 0", a.use("emit")))
			}, want: want{status: ledger.Denied, code: DeniedEvent, events: slices.Repeat([]string{"paid"}, MaxEvents)},
		},
		{
			name: "a write in a view is denied", host: func(h *mapHost) { h.context.ReadOnly = true },
			make: func() []byte {
				a := newAssembler()
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 1 i32.const 0 i32.const 1 call %d i32.const 0", a.use("set")))
			}, want: want{status: ledger.Denied, code: DeniedReadOnly},
		},
		{
			name: "an empty key is denied", make: func() []byte {
				a := newAssembler()
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 0 call %d", a.use("has")))
			}, want: want{status: ledger.Denied, code: DeniedKey},
		},
		{
			name: "a pointer outside of memory traps", make: func() []byte {
				a := newAssembler()
				return run(a, "", fmt.Sprintf("i32.const -1 i32.const 200 call %d", a.use("has")))
			}, want: want{status: ledger.Trapped},
		},
		{
			name: "abort with data", make: func() []byte {
				a := newAssembler()
				a.data = map[uint32]string{0: "\x01"}
				return run(a, "", fmt.Sprintf("i32.const 1001 i32.const 0 i32.const 1 call %d i32.const 0", a.use("abort")))
			}, want: want{status: ledger.Aborted, code: 1001, data: "\x01"},
		},
		{name: "a result other than 0 aborts", make: func() []byte { return method("", "i32.const 1002") }, want: want{status: ledger.Aborted, code: 1002}},
		{name: "unreachable traps", make: func() []byte { return method("", "unreachable") }, want: want{status: ledger.Trapped}},
		{name: "division by zero traps", make: func() []byte { return method("", "i32.const 1 i32.const 0 i32.div_u") }, want: want{status: ledger.Trapped}},
		{
			name: "the context", make: func() []byte {
				a := newAssembler()
				ctx, output, left := a.use("ctx"), a.use("output"), a.use("gas_left")
				return run(a, "", fmt.Sprintf("call %d drop i32.const 0 i32.const 0 i32.const 999 call %d call %d i32.const 0", left, ctx, output))
			},
			want: want{data: "*"},
		},
		{
			name: "an attribute that the caller has not is -1", make: func() []byte {
				a := newAssembler()
				return run(a, "", fmt.Sprintf("i32.const 2 i32.const 0 i32.const 9 call %d i32.const -1 i32.ne", a.use("caller_attr")))
			},
		},
		{
			name: "SHA-256", input: "abc", make: func() []byte {
				a := newAssembler()
				read, hash, set := a.use("input_read"), a.use("hash"), a.use("set")
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 0 i32.const 3 call %d drop i32.const 2 i32.const 0 i32.const 3 i32.const 64 i32.const 32 call %d drop i32.const 0 i32.const 1 i32.const 64 i32.const 4 call %d i32.const 0", read, hash, set))
			}, want: want{state: map[string]string{"a": "\xba\x78\x16\xbf"}},
		},
		{
			name: "Keccak-256", input: "abc", make: func() []byte {
				a := newAssembler()
				read, hash, set := a.use("input_read"), a.use("hash"), a.use("set")
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 0 i32.const 3 call %d drop i32.const 3 i32.const 0 i32.const 3 i32.const 64 i32.const 32 call %d drop i32.const 0 i32.const 1 i32.const 64 i32.const 4 call %d i32.const 0", read, hash, set))
			}, want: want{state: map[string]string{"a": "\x4e\x03\x65\x7a"}},
		},
		{
			name: "random bytes are the host's", make: func() []byte {
				a := newAssembler()
				random, set := a.use("rand"), a.use("set")
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 4 call %d i32.const 0 i32.const 1 i32.const 0 i32.const 4 call %d i32.const 0", random, set))
			}, want: want{state: map[string]string{"\x01": "\x01\x02\x03\x04"}},
		},
		{
			name: "another contract's abort is a code", host: func(h *mapHost) {
				h.calls = func(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error) {
					if to.Name != "bank" || to.Version != "2" || method != "pay" || flags != CallByName {
						return Outcome{}, fmt.Errorf("call of %v %s %v", to, method, flags)
					}
					return Outcome{Status: ledger.Aborted, Code: 1003, Gas: 500}, nil
				}
			}, make: func() []byte {
				a := newAssembler()
				a.data = map[uint32]string{0: "bank@2pay\x80"}
				return run(a, "", fmt.Sprintf("i32.const 0 i32.const 6 i32.const 6 i32.const 3 i32.const 9 i32.const 1 i64.const 0 i32.const 4 call %d", a.use("call")))
			}, want: want{status: ledger.Aborted, code: 1003},
		},
		{
			name: "memory that is refused and a trap are out of memory", make: func() []byte {
				return method("", "i32.const 512 memory.grow i32.const -1 i32.eq if _ unreachable end i32.const 0")
			}, want: want{status: ledger.OutOfMemory},
		},
		{
			name: "memory within its limit grows", make: func() []byte {
				return method("", "i32.const 3 memory.grow i32.const 1 i32.ne i32.const 250000 i32.const 1 i32.store 0")
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost()
			for k, s := range test.state {
				h.state[k] = []byte(s)
			}
			if test.host != nil {
				test.host(h)
			}
			o := both(t, test.make(), h, "run", []byte(test.input), 100_000_000)
			if test.want.data == "*" {
				test.want.data = string(o.Data)
				if !canonical(o.Data) {
					t.Errorf("output %x is not canonical", o.Data)
				}
			}
			if o.Status != test.want.status || o.Code != test.want.code || string(o.Data) != test.want.data {
				t.Errorf("%v, code %d, data %x (%s), want %v, %d, %x", o.Status, o.Code, o.Data, o.Trace, test.want.status, test.want.code, test.want.data)
			}
			if o.Status == ledger.OK {
				for k, s := range test.want.state {
					if string(h.state[k]) != s {
						t.Errorf("state %q is %q, want %q", k, h.state[k], s)
					}
				}
			}
			if !slices.Equal(h.events, test.want.events) {
				t.Errorf("events %q, want %q", h.events, test.want.events)
			}
		})
	}
}

// TestHostile calls contracts that try to take more than their share.
func TestHostile(t *testing.T) {
	a := newAssembler()
	has := a.use("has")
	storm := a.fn("run", ":i", "", fmt.Sprintf("loop _ i32.const 0 i32.const 9 call %d drop br 0 end i32.const 0", has)).build()
	a = newAssembler()
	logs := a.use("log")
	chatter := a.fn("run", ":i", "", fmt.Sprintf("loop _ i32.const 0 i32.const 0 i32.const 60000 call %d br 0 end i32.const 0", logs)).build()
	for _, test := range []struct {
		name string
		code []byte
		want ledger.Status
	}{
		{"an infinite loop", method("", "loop _ br 0 end i32.const 0"), ledger.OutOfGas},
		{"a loop that leaves by a table", method("", "loop _ i32.const 0 br_table 1 0 0 end i32.const 0"), ledger.OutOfGas},
		{"endless recursion", newAssembler().fn("run", ":i", "", "call 0").build(), ledger.OutOfDepth},
		{"endless recursion with 200 locals", newAssembler().fn("run", ":i", strings.Repeat("l", 200), "call 0").build(), ledger.OutOfGas},
		{"endless recursion through a table", func() []byte {
			a := newAssembler().fn("run", ":i", "", "i32.const 0 call_indirect :i")
			a.table = []uint32{0}
			return a.build()
		}(), ledger.OutOfDepth},
		{"mutual recursion that returns early", newAssembler().fn("run", ":i", "i", "i32.const 1 local.set 0 local.get 0 if _ call 1 return end i32.const 0").fn("", ":i", "", "call 0 return").build(), ledger.OutOfDepth},
		{"growing memory without end", method("", "loop _ i32.const 1 memory.grow drop br 0 end i32.const 0"), ledger.OutOfGas},
		{"filling all memory again and again", method("", "loop _ i32.const 0 i32.const 1 i32.const 65536 memory.fill br 0 end i32.const 0"), ledger.OutOfGas},
		{"filling more than there is", method("", "i32.const 0 i32.const 1 i32.const -1 memory.fill i32.const 0"), ledger.OutOfGas},
		{"a storm of host calls", storm, ledger.OutOfGas},
		{"a storm of logs", chatter, ledger.OutOfGas},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost()
			o := both(t, test.code, h, "run", nil, 1_000_000)
			if o.Status != test.want {
				t.Errorf("%v (%s), want %v", o.Status, o.Trace, test.want)
			}
			if o.Gas > 1_000_000 {
				t.Errorf("%d gas used, limit 1,000,000", o.Gas)
			}
			size := 0
			for _, l := range h.lines {
				size += len(l)
			}
			if size > MaxLogBytes {
				t.Errorf("%d bytes of log", size)
			}
		})
	}
}

// std is a module of the profile std with one method.
func std(body string) []byte {
	a := newAssembler()
	a.use("sched_yield")
	return a.fn("run", ":i", "", body).build()
}

func TestCallErrors(t *testing.T) {
	v := newVM(t, Default)
	a := newAssembler()
	m, err := v.Compile(t.Context(), a.fn("run", ":i", "", fmt.Sprintf("i32.const 0 i32.const 1 call %d", a.use("has"))).build())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a fault of the host is no outcome", func(t *testing.T) {
		h := newHost()
		h.fail = errors.New("disk is gone")
		if _, err := m.Call(t.Context(), h, "run", nil, 1_000_000); !errors.Is(err, h.fail) {
			t.Errorf("%v, want %v", err, h.fail)
		}
	})
	t.Run("a denial of the host is an outcome", func(t *testing.T) {
		h := newHost()
		h.fail = fmt.Errorf("get: %w", &Denial{Code: 107, Reason: "frozen"})
		o, err := m.Call(t.Context(), h, "run", nil, 1_000_000)
		if err != nil || o.Status != ledger.Denied || o.Code != 107 {
			t.Errorf("%+v, %v, want denied 107", o, err)
		}
	})
	t.Run("a cancelled call is no outcome", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("node stops")
		cancel(cause)
		if _, err := m.Call(ctx, newHost(), "run", nil, 1_000_000); !errors.Is(err, cause) {
			t.Errorf("%v, want %v", err, cause)
		}
	})
	t.Run("starting takes gas", func(t *testing.T) {
		o, err := m.Call(t.Context(), newHost(), "run", nil, 100)
		if err != nil || o.Status != ledger.OutOfGas || o.Gas != 100 {
			t.Errorf("%+v, %v, want out of gas with 100 used", o, err)
		}
	})
}

// TestIsolation shows that a call leaves nothing behind for the next one.
func TestIsolation(t *testing.T) {
	v := newVM(t, Default)
	count := "i32.const 500 i32.const 500 i32.load 0 i32.const 1 i32.add i32.store 0 i32.const 500 i32.load 0 global.get 0 i32.const 1 i32.add global.set 0 global.get 0 i32.add"
	for _, test := range []struct{ name, body string }{
		{"memory and globals", count},
		{"grown memory", "i32.const 1 memory.grow i32.const 1 i32.ne if _ unreachable end " + count},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAssembler()
			a.globals = []byte("i")
			m, err := v.Compile(t.Context(), a.fn(initializer, ":", "", "i32.const 500 i32.const 20 i32.store 0 i32.const 7 global.set 0").fn("run", ":i", "", test.body).build())
			if err != nil {
				t.Fatal(err)
			}
			var wait sync.WaitGroup
			for range 4 {
				wait.Go(func() {
					for range 50 {
						if o, err := m.Call(context.Background(), newHost(), "run", nil, 1_000_000); err != nil || o.Code != 29 {
							t.Errorf("%+v, %v, want code 21 + 8", o, err)
							return
						}
					}
				})
			}
			wait.Wait()
		})
	}
}

// TestModuleLife drops modules from the cache while they run.
func TestModuleLife(t *testing.T) {
	v, err := New(t.Context(), Config{Modules: 2})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for g := range 3 {
		wait.Go(func() {
			for i := range 30 {
				n := (g + i) % 5
				m, err := v.Compile(context.Background(), method("", fmt.Sprintf("i32.const %d", 1000+n)))
				if err != nil {
					t.Error(err)
					return
				}
				if o, err := m.Call(context.Background(), newHost(), "run", nil, 1_000_000); err != nil || o.Code != uint32(1000+n) {
					t.Errorf("%+v, %v, want code %d", o, err, 1000+n)
				}
				if i%10 == 0 {
					runtime.GC()
				}
			}
		})
	}
	wait.Wait()
	if n := v.recent.Len(); n != 2 {
		t.Errorf("%d modules are kept, want 2", n)
	}
	if err := v.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := v.Compile(t.Context(), method("", "i32.const 0")); err == nil {
		t.Error("a closed VM compiles")
	}
	runtime.GC() // cleanups after Close do no harm
}

func TestModule(t *testing.T) {
	v := newVM(t, Default)
	loads := 0
	load := func() ([]byte, error) {
		loads++
		return method("", "i32.const 0"), nil
	}
	first, err := v.Module(t.Context(), keys.Digest{7}, load)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := v.Module(t.Context(), keys.Digest{7}, load); err != nil || m != first || loads != 1 {
		t.Errorf("%p, %v after %d loads, want the module %p that is kept", m, err, loads, first)
	}
	fails := errors.New("disk is gone")
	if _, err := v.Module(t.Context(), keys.Digest{8}, func() ([]byte, error) { return nil, fails }); !errors.Is(err, fails) {
		t.Errorf("%v, want %v", err, fails)
	}
}

func TestCacheDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "compiled")
	files := 0
	for run := range 2 {
		v, err := New(t.Context(), Config{Engine: Compiler, CacheDir: dir, Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		m, err := v.Compile(t.Context(), method("", "i32.const 1004"))
		if err != nil {
			t.Fatal(err)
		}
		if o, err := m.Call(t.Context(), newHost(), "run", nil, 1_000_000); err != nil || o.Code != 1004 {
			t.Errorf("run %d: %+v, %v, want code 1004", run, o, err)
		}
		if err := v.Close(t.Context()); err != nil {
			t.Error(err)
		}
		found := 0
		err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				found++
			}
			return err
		})
		if err != nil || found == 0 || (run == 1 && found != files) {
			t.Errorf("run %d: %d files in the cache after %d, %v", run, found, files, err)
		}
		files = found
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache has mode %v, %v, want 0700", info.Mode(), err)
	}
	for engine, want := range map[Engine]Engine{Default: Interpreter, Interpreter: Interpreter, Compiler: "", Shadow: ""} {
		c := Config{Engine: engine}
		if err := c.validate("arm64"); (err == nil) != (want != "") || err == nil && c.Engine != want || err != nil && !strings.Contains(err.Error(), "set the engine to interpreter") {
			t.Errorf("engine %q on arm64: %v, %q", engine, err, c.Engine)
		}
	}
	if _, err := New(t.Context(), Config{Engine: "jit"}); err == nil || !strings.Contains(err.Error(), `Engine "jit"`) {
		t.Errorf("%v, want the field Engine named", err)
	}
}

// TestVerify checks signatures of each algorithm, whatever the suite of the chain.
func TestVerify(t *testing.T) {
	v, err := New(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(t.Context())
	for number, c := range map[int]struct {
		suite     keys.Suite
		algorithm keys.Algorithm
	}{verifySM2: {keys.GM(), keys.SM2}, verifyEd25519: {keys.Std(), keys.Ed25519}, verifyP256: {keys.Std(), keys.P256}} {
		signer, err := c.suite.Generate(c.algorithm, strings.NewReader(strings.Repeat("seed", 64)))
		if err != nil {
			t.Fatal(err)
		}
		key := signer.Public().Bytes()
		a := newAssembler()
		read, verify := a.use("input_read"), a.use("verify")
		m, err := v.Compile(t.Context(), a.fn("run", ":i", "", fmt.Sprintf(
			"i32.const 0 i32.const 0 i32.const 256 call %d drop i32.const %d i32.const 96 i32.const %d i32.const 0 i32.const 64 i32.const 64 i32.const 32 call %d i32.eqz",
			read, number, len(key), verify)).build())
		if err != nil {
			t.Fatal(err)
		}
		digest := c.suite.Sum([]byte("message"))
		signature, err := signer.Sign(digest)
		if err != nil {
			t.Fatal(err)
		}
		input := slices.Concat(signature, digest[:], key)
		if o, err := m.Call(t.Context(), newHost(), "run", input, 1_000_000); err != nil || o.Status != ledger.OK {
			t.Errorf("%s: a valid signature: %+v, %v", c.algorithm, o, err)
		}
		input[40] ^= 1
		if o, err := m.Call(t.Context(), newHost(), "run", input, 1_000_000); err != nil || o.Status != ledger.Aborted {
			t.Errorf("%s: a changed signature: %+v, %v", c.algorithm, o, err)
		}
	}
}

// TestVerifyHostile gives the host functions numbers of no algorithm, keys of another one, and messages that are no digest.
func TestVerifyHostile(t *testing.T) {
	for _, engine := range []Engine{Compiler, Interpreter} {
		v, err := New(t.Context(), Config{Engine: engine, Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close(t.Context())
		for _, c := range []struct {
			function  string
			arguments []int
			want      ledger.Status
		}{
			{"hash", []int{0, 0, 3, 8, 32}, ledger.Denied},
			{"hash", []int{4, 0, 3, 8, 32}, ledger.Denied},
			{"hash", []int{-1, 0, 3, 8, 32}, ledger.Denied},
			{"verify", []int{0, 96, 32, 0, 64, 64, 32}, ledger.Denied},
			{"verify", []int{4, 96, 32, 0, 64, 64, 32}, ledger.Denied},
			{"verify", []int{-1, 96, 32, 0, 64, 64, 32}, ledger.Denied},
			{"verify", []int{verifySM2, 96, 32, 0, 64, 64, 32}, ledger.Aborted}, // the length of an Ed25519 key
			{"verify", []int{verifyEd25519, 96, 33, 0, 64, 64, 32}, ledger.Aborted},
			{"verify", []int{verifyP256, 96, 60_000, 0, 64, 64, 32}, ledger.Aborted},
			{"verify", []int{verifySM2, 96, 0, 0, 64, 64, 32}, ledger.Aborted},
			{"verify", []int{verifyEd25519, 96, 32, 0, 64, 64, 31}, ledger.Aborted},
			{"verify", []int{verifyEd25519, 96, 32, 0, 63, 64, 32}, ledger.Aborted},
		} {
			a := newAssembler()
			var code strings.Builder
			number := a.use(c.function)
			for _, argument := range c.arguments {
				fmt.Fprintf(&code, "i32.const %d ", argument)
			}
			m, err := v.Compile(t.Context(), a.fn("run", ":i", "", fmt.Sprintf("%scall %d i32.eqz", code.String(), number)).build())
			if err != nil {
				t.Fatal(err)
			}
			if o, err := m.Call(t.Context(), newHost(), "run", nil, 10_000_000); err != nil || o.Status != c.want || c.want == ledger.Denied && o.Code != DeniedAlgorithm {
				t.Errorf("%s, %s %v: %+v, %v, want %s", engine, c.function, c.arguments, o, err, c.want)
			}
		}
	}
}

// TestHash hashes with each algorithm, whatever the suite of the chain.
func TestHash(t *testing.T) {
	v, err := New(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close(t.Context())
	for number, want := range map[int]string{ // of "abc"; GM/T 0004, FIPS 180-4, Keccak team
		hashSM3:       "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
		hashSHA256:    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		hashKeccak256: "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
	} {
		a := newAssembler()
		read, hash, output := a.use("input_read"), a.use("hash"), a.use("output")
		m, err := v.Compile(t.Context(), a.fn("run", ":i", "", fmt.Sprintf(
			"i32.const 0 i32.const 0 i32.const 8 call %d drop i32.const %d i32.const 0 i32.const 3 i32.const 8 i32.const 32 call %d drop i32.const 6 i32.const 34 call %d i32.const 0",
			read, number, hash, output)).build())
		if err != nil {
			t.Fatal(err)
		}
		o, err := m.Call(t.Context(), newHost(), "run", []byte("abc\x00\x00\x00\x58\x20"), 1_000_000) // and the head of a byte string
		if err != nil || o.Status != ledger.OK || hex.EncodeToString(o.Data) != "5820"+want {
			t.Errorf("algorithm %d: %+v, %v, want %s", number, o, err, want)
		}
	}
}
