package wasmvm

import (
	"context"
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestProfile counts the calls and gas of a contract that calls another, and of one that traps, on both engines.
func TestProfile(t *testing.T) {
	a := newAssembler()
	call, has := a.use("call"), a.use("has") // 0, 1
	code := a.
		fn("outer", ":i", "", fmt.Sprintf("call 4 drop i32.const 0 i32.const 20 i32.const 0 i32.const 5 i32.const 0 i32.const 1 i64.const 0 i32.const 0 call %d", call)).
		fn("inner", ":i", "", "call 4 call 4 i32.add drop i32.const 0").
		fn("", ":i", "", fmt.Sprintf("i32.const 0 i32.const 1 call %d", has)).
		fn("trap", ":i", "", "call 6").
		fn("", ":i", "", "unreachable").
		build()
	for _, engine := range []Engine{Compiler, Interpreter} {
		t.Run(string(engine), func(t *testing.T) {
			profile := &Profile{}
			v, err := New(t.Context(), Config{Engine: engine, Wait: true, Profile: profile})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close(context.Background())
			m, err := v.Compile(t.Context(), code)
			if err != nil {
				t.Fatal(err)
			}
			if lines := profile.Lines(); len(lines) > 0 {
				t.Errorf("before any call there are %v", lines)
			}
			var inner ledger.Gas
			h := newHost()
			h.calls = func(_ ledger.Target, _ string, args []byte, limit ledger.Gas, _ CallFlags) (Outcome, error) {
				o, err := m.Call(t.Context(), newHost(), "inner", args, limit)
				inner = o.Gas
				return o, err
			}
			o, err := m.Call(t.Context(), h, "outer", []byte{0x80}, 1_000_000)
			if err != nil || inner == 0 {
				t.Fatalf("Call = %+v, %v", o, err)
			}
			want := map[string]uint64{"2": 1, "3": 1, "4": 3, "has": 3, "call": 1}
			sum := ledger.Gas(0)
			for _, l := range profile.Lines() {
				name := l.Host
				if name == "" {
					name = fmt.Sprint(l.Function)
				}
				if l.Calls != want[name] || l.Gas == 0 || (l.Host == "") != (l.Module != [32]byte{}) {
					t.Errorf("%s: %+v, want %d calls", name, l, want[name])
				}
				sum += l.Gas
				delete(want, name)
			}
			if len(want) > 0 {
				t.Errorf("there is nothing of %v", want)
			}
			if all := o.Gas - m.Info().InitGas; sum != all {
				t.Errorf("the functions used %d gas, want %d", sum, all)
			}
			if o, err := m.Call(t.Context(), h, "trap", []byte{0x80}, 1_000_000); err != nil || o.Status != ledger.Trapped || len(profile.stack) > 0 {
				t.Errorf("trap = %+v, %v; %d functions still run", o, err, len(profile.stack))
			}
			same, err := newVM(t, engine).Compile(t.Context(), code)
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := same.Call(t.Context(), h, "outer", []byte{0x80}, 1_000_000); err != nil || plain.Gas != o.Gas {
				t.Errorf("without a profile the call uses %d gas, with it %d, %v", plain.Gas, o.Gas, err)
			}
		})
	}
}
