package wasmvm

import (
	"context"
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

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
