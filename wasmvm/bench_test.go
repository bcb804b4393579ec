package wasmvm

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// BenchmarkHostCall is one call of each host function from compiled code, its work on a host over a map included.
func BenchmarkHostCall(b *testing.B) {
	const key, value, out = 0, 64, 1024
	n := func(values ...int) string {
		var s strings.Builder
		for _, v := range values {
			fmt.Fprintf(&s, "i32.const %d ", v)
		}
		return s.String()
	}
	bounds := "i64.const 1 i64.const 0 i64.const 1000000000 "
	for _, f := range []struct {
		name, args string
		times      int // in one call of the contract
		results    int
	}{
		{"input_len", "", 1000, 1},
		{"input_read", n(out, 0, 32), 1000, 1},
		{"output", n(value+8, 1), 1000, 0},
		{"ctx", n(out, 512), 1000, 1},
		{"caller_attr", n(1, out, 64), 1000, 1},
		{"get", n(key, 32, out, 64), 1000, 1},
		{"has", n(key, 32), 1000, 1},
		{"set", n(key, 32, value, 32), 1000, 0},
		{"del", n(key, 31), 1000, 0},
		{"add", n(key, 1) + bounds, 1000, 1},
		{"emit", n(value, 8, value+8, 1), MaxEvents, 0},
		{"call", n(key, 20, value, 8, value, 1) + "i64.const 0 " + n(0), 1000, 1},
		{"hash", n(2, value, 64, out, 32), 1000, 1},
		{"hash", n(3, value, 64, out, 32), 1000, 1},
		{"rand", n(out, 32), 1000, 0},
		{"log", n(1, value, 8), 1000, 0},
		{"gas_left", "", 1000, 1},
		{"clock_time_get", n(0) + "i64.const 0 " + n(out), 1000, 1},
	} {
		name := f.name
		if f.name == "hash" {
			name += map[byte]string{'2': "=sha256", '3': "=keccak256"}[f.args[len("i32.const ")]]
		}
		b.Run(name, func(b *testing.B) {
			a := newAssembler()
			a.data = map[uint32]string{value: "valuable\x00"}
			call := fmt.Sprintf("%s call %d %s", f.args, a.use(f.name), strings.Repeat("drop ", f.results))
			code := a.fn("run", ":i", "i", fmt.Sprintf("loop _ %s local.get 0 i32.const 1 i32.add local.tee 0 i32.const %d i32.lt_u br_if 0 end i32.const 0", call, f.times)).build()
			v := newConfigured(b, Config{Engine: Compiler, Wait: true})
			m := mustCompile(b, v, code)
			h := newHost()
			h.state[string(make([]byte, 32))] = make([]byte, 32)
			h.calls = func(ledger.Target, string, []byte, ledger.Gas, CallFlags) (Outcome, error) { return Outcome{}, nil }
			input := make([]byte, 32)
			for b.Loop() {
				h.Forget()
				if o, err := m.Call(b.Context(), h, "run", input, 1_000_000_000); err != nil || o.Status != ledger.OK {
					b.Fatalf("%+v, %v", o, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*f.times), "ns/call")
		})
	}
}

func BenchmarkCall(b *testing.B) {
	// small is what a C or Rust compiler makes of the same transfer; growing allocates, as AssemblyScript does.
	small := func(first string) []byte {
		a := newAssembler()
		read, get, set := a.use("input_read"), a.use("get"), a.use("set")
		move := func(account int, op string) string {
			return fmt.Sprintf(`i32.const 100 i64.const 0 i64.store 0 i32.const %[1]d i32.const 20 i32.const 100 i32.const 8 call %[2]d drop
				i32.const 100 i32.const 100 i64.load 0 i32.const 40 i64.load 0 %[4]s i64.store 0 i32.const %[1]d i32.const 20 i32.const 100 i32.const 8 call %[3]d `, account, get, set, op)
		}
		return a.fn("transfer", ":i", "", first+fmt.Sprintf("i32.const 0 i32.const 0 i32.const 48 call %d drop ", read)+move(0, "i64.sub")+move(20, "i64.add")+"i32.const 0").build()
	}
	for _, e := range []Engine{Compiler, Interpreter} {
		for name, code := range map[string][]byte{"small": small(""), "growing": small("i32.const 1 memory.grow drop ")} {
			b.Run("contract="+name+"/engine="+string(e), func(b *testing.B) {
				v := newVM(b, e)
				m, err := v.Compile(context.Background(), code)
				if err != nil {
					b.Fatal(err)
				}
				h := newHost()
				input := transferInput(1, 2, 0)
				b.ReportAllocs()
				for b.Loop() {
					if o, err := m.Call(context.Background(), h, "transfer", input, 10_000_000); err != nil || o.Status != ledger.OK {
						b.Fatal(o, err)
					}
				}
			})
		}
		b.Run("contract=go/engine="+string(e), func(b *testing.B) {
			v := newVM(b, e)
			m, err := v.Compile(context.Background(), buildGoToken(b))
			if err != nil {
				b.Fatal(err)
			}
			h := newHost()
			input := transferInput(1, 2, 0)
			b.ReportAllocs()
			for b.Loop() {
				h.events = h.events[:0]
				if o, err := m.Call(context.Background(), h, "transfer", input, 10_000_000); err != nil || o.Status != ledger.OK {
					b.Fatal(o, err)
				}
			}
		})
	}
}
