package wasmvm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// chatty returns a module of which run asks the host for everything that there is.
func chatty() []byte {
	a := newAssembler()
	var b strings.Builder
	say := func(name, args string, results int) {
		fmt.Fprintf(&b, "%s call %d %s", args, a.use(name), strings.Repeat("drop ", results))
	}
	n := func(values ...int) string {
		var s strings.Builder
		for _, v := range values {
			fmt.Fprintf(&s, "i32.const %d ", v)
		}
		return s.String()
	}
	a.data = map[uint32]string{0: "key\x01\x02value\x05"}
	say("set", n(0, 3, 5, 5), 0)
	say("set", n(0, 2, 5, 1), 0)
	say("get", n(0, 3, 64, 64), 1)
	say("has", n(1, 1), 1)
	say("add", n(0, 1)+"i64.const 5 i64.const 0 i64.const 9", 1)
	say("scan", n(0, 0, 0, 0, 0, 9), 1)
	say("scan_next", n(1, 128, 64), 1)
	say("scan_next", n(1, 128, 64), 1)
	say("scan_close", n(1), 0)
	say("scan", n(0, 1, 0, 3, 1, 9), 1)
	say("del", n(0, 2), 0)
	say("emit", n(0, 3, 3, 1), 0)
	say("caller_attr", n(1, 256, 64), 1)
	say("rand", n(300, 40), 0)
	say("log", n(1, 0, 3), 0)
	say("ctx", n(400, 512), 1)
	say("call", n(400, 20, 0, 3, 3, 1)+"i64.const 0 "+n(0), 1)
	say("output", n(3, 1), 0)
	return a.fn("run", ":i", "", b.String()+"i32.const 0").build()
}

func answering(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error) {
	return Outcome{Status: ledger.Aborted, Code: 1_234, Data: []byte{7}, Gas: 100}, nil
}

func TestShadow(t *testing.T) {
	t.Run("the host is asked once, and the outcome is that of one engine", func(t *testing.T) {
		var outcomes [2]Outcome
		var hosts [2]*mapHost
		for i, e := range []Engine{Shadow, Interpreter} {
			v := newConfigured(t, Config{Engine: e, Wait: true})
			m := mustCompile(t, v, chatty())
			hosts[i] = newHost()
			hosts[i].calls = answering
			for range 2 {
				outcomes[i] = mustCall(t, m, hosts[i], "run", nil)
			}
			if s := v.Stats(); e == Shadow && (s.Compared != 2 || s.Divergences != 0 || s.Uncompared != 0) {
				t.Errorf("%+v, want two comparisons without a difference", s)
			}
		}
		if outcomes[0].Status != ledger.OK || !reflect.DeepEqual(outcomes[0], outcomes[1]) {
			t.Errorf("%+v, want %+v", outcomes[0], outcomes[1])
		}
		if h, o := hosts[0], hosts[1]; !maps.EqualFunc(h.state, o.state, bytes.Equal) || len(h.events) != 2 || len(h.lines) != 2 || h.drawn != o.drawn {
			t.Errorf("the host was left with %+v, want %+v", h, o)
		}
	})
	t.Run("an interpreter that serves alone is not compared", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Shadow})
		m := mustCompile(t, v, method("", "i32.const 0"))
		mustCall(t, m, newHost(), "run", nil)
		if s := v.Stats(); s.Compared != 0 || s.Uncompared != 1 {
			t.Errorf("%+v, want a call that was not compared", s)
		}
	})
	for _, fault := range []struct {
		name  string
		spoil func(*Outcome)
		want  string
	}{
		{"gas", func(o *Outcome) { o.Gas++ }, "gas "},
		{"status", func(o *Outcome) { o.Status = ledger.Trapped }, "status trapped, code 0 in the compiler, ok, 0 in the interpreter"},
		{"code", func(o *Outcome) { o.Code = 3 }, "status ok, code 3 in the compiler"},
		{"output", func(o *Outcome) { o.Data = []byte{2} }, "output 02 in the compiler, 01 in the interpreter"},
	} {
		t.Run("a difference in "+fault.name+" is an alarm and no outcome", func(t *testing.T) {
			var alarms []*DivergenceError
			v := newConfigured(t, Config{Engine: Shadow, Wait: true, Alarm: func(d *DivergenceError) { alarms = append(alarms, d) }, Spoil: func(e Engine, _ string, o *Outcome) {
				if e == Compiler {
					fault.spoil(o)
				}
			}})
			m := mustCompile(t, v, chatty())
			h := newHost()
			h.calls = answering
			input := bytes.Repeat([]byte{0x82}, MaxInput)
			o, err := m.Call(t.Context(), h, "run", input, 1_000_000)
			d, ok := errors.AsType[*DivergenceError](err)
			if !ok || !reflect.DeepEqual(o, Outcome{}) || len(alarms) != 1 || alarms[0] != d {
				t.Fatalf("%+v, %v, %d alarms", o, err, len(alarms))
			}
			if d.Method != "run" || d.Module != m.digest || d.Tx != h.context.Tx || !bytes.Equal(d.Input, input) || len(d.Error()) > 2_000 || !strings.HasPrefix(d.What, fault.want) {
				t.Errorf("%+v, want method, module, transaction, the beginning of the input, and %q", d, fault.want)
			}
			if s := v.Stats(); s.Divergences != 1 {
				t.Errorf("%+v, want a divergence", s)
			}
		})
	}
}

// TestReplay has the interpreter ask other questions than were recorded, by recording those of another module.
func TestReplay(t *testing.T) {
	for _, test := range []struct{ name, compiler, interpreter, want string }{
		{"another key", "i32.const 0 i32.const 1", "i32.const 0 i32.const 2", "call 0 of the host: delete(00, , 0, 0, 0) in the compiler, delete(0000, , 0, 0, 0) in the interpreter"},
		{"another pointer, to the same key", "i32.const 0 i32.const 1", "i32.const 7 i32.const 1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			build := func(args string) []byte {
				a := newAssembler()
				del := a.use("del")
				return a.fn("run", ":i", "", fmt.Sprintf("%s call %d i32.const 0", args, del)).build()
			}
			v := newConfigured(t, Config{Engine: Shadow, Wait: true})
			m, other := mustCompile(t, v, build(test.compiler)), mustCompile(t, v, build(test.interpreter))
			m.reference = other.reference
			_, err := m.Call(t.Context(), newHost(), "run", nil, 1_000_000)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasSuffix(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	t.Run("questions left out, and more than were recorded", func(t *testing.T) {
		v := newConfigured(t, Config{Engine: Shadow, Wait: true})
		a := newAssembler()
		del := a.use("del")
		one := fmt.Sprintf("i32.const 0 i32.const 1 call %d ", del)
		m := mustCompile(t, v, a.fn("run", ":i", "", one+one+"i32.const 0").build())
		b := newAssembler()
		b.use("del")
		silent := mustCompile(t, v, b.fn("run", ":i", "", "i32.const 0").build())
		m.reference, silent.reference = silent.reference, m.reference
		if _, err := m.Call(t.Context(), newHost(), "run", nil, 1_000_000); err == nil || !strings.HasSuffix(err.Error(), "did not make the last 2 calls of the host") {
			t.Error(err)
		}
		if _, err := silent.Call(t.Context(), newHost(), "run", nil, 1_000_000); err == nil || !strings.Contains(err.Error(), "call 0 of the host: none in the compiler") {
			t.Error(err)
		}
	})
}

func TestSample(t *testing.T) {
	count := func(share float64, key byte) (n int, drawn []bool) {
		v := newConfigured(t, Config{Engine: Shadow, ShadowShare: share, ShadowKey: [32]byte{key}})
		for i := range 2_000 {
			c := Context{Tx: ledger.TxID{1, byte(i), byte(i >> 8)}}
			sampled := v.sampled(&c, "run", nil)
			if again := v.sampled(&c, "walk", []byte{1}); again != sampled {
				t.Fatal("calls of one transaction are drawn apart")
			}
			if sampled {
				n++
			}
			drawn = append(drawn, sampled)
		}
		return n, drawn
	}
	if n, _ := count(1, 0); n != 2_000 {
		t.Errorf("%d of 2,000 drawn, want all", n)
	}
	n, first := count(0.1, 0)
	if n < 140 || n > 260 {
		t.Errorf("%d of 2,000 drawn, want about 200", n)
	}
	if _, again := count(0.1, 0); !reflect.DeepEqual(first, again) {
		t.Error("another draw with the same key")
	}
	if _, other := count(0.1, 1); reflect.DeepEqual(first, other) {
		t.Error("the same draw with another key")
	}
	for _, share := range []float64{-1, 1.5} {
		if _, err := New(t.Context(), Config{Engine: Shadow, ShadowShare: share}); err == nil || !strings.Contains(err.Error(), "ShadowShare") {
			t.Errorf("share %v: %v, want the field named", share, err)
		}
	}
}
