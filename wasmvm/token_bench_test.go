package wasmvm_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// BenchmarkToken is the whole call of a token's transfer, on a host over a map: in each language, in each engine, and beside that
// in wazero without metering and in a new instance each time.
//
//	go test ./wasmvm -run '^$' -bench Token -count 5
func BenchmarkToken(b *testing.B) {
	suite := keystest.Suite()
	issuer, bob := ledger.NamedAddress(suite, "account", "issuer"), ledger.NamedAddress(suite, "account", "bob")
	for _, token := range []struct{ language, dir string }{
		{"c", "../sdk-contracts/c/contracts/token"},
		{"rust", "../sdk-contracts/rust/contracts/token"},
		{"as", "../sdk-contracts/as/contracts/token"},
		{"go", "../examples/token"},
	} {
		b.Run("language="+token.language, func(b *testing.B) {
			built, err := contract.Build(b.Context(), token.dir, "")
			if errors.Is(err, contract.ErrToolchain) && os.Getenv("FONDACO_REQUIRE_TOOLS") == "" {
				b.Skip(err)
			}
			if err != nil {
				b.Fatal(err)
			}
			args := func(method string, words ...string) []byte {
				encoded, err := built.Schema.EncodeText(method, words)
				if err != nil {
					b.Fatal(err)
				}
				return encoded
			}
			context := wasmvm.Context{Height: 1, UnixMilli: 1, Group: "main", Self: ledger.Address{1}, Caller: issuer, Origin: issuer, Tx: ledger.TxID{1}}
			steps := []struct {
				method string
				args   []byte
			}{
				{"init", args("init", "Coin", "FDC", issuer.String())},
				{"issue", args("issue", issuer.String(), "1000000000000")},
				{"transfer", args("transfer", bob.String(), "1")},
			}
			transfer := steps[2].args
			for _, engine := range []wasmvm.Engine{wasmvm.Compiler, wasmvm.Interpreter, wasmvm.Shadow} {
				b.Run("engine="+string(engine), func(b *testing.B) {
					vm, err := wasmvm.New(b.Context(), wasmvm.Config{Engine: engine, Wait: true})
					if err != nil {
						b.Fatal(err)
					}
					defer vm.Close(b.Context())
					m, err := vm.Compile(b.Context(), built.Code)
					if err != nil {
						b.Fatal(err)
					}
					h := wasmvm.NewMapHost(context)
					run := func(method string, args []byte) ledger.Gas {
						h.Forget()
						o, err := m.Call(b.Context(), h, method, args, 100_000_000)
						if err != nil || o.Status != ledger.OK {
							b.Fatalf("%s: %+v, %v", method, o, err)
						}
						return o.Gas
					}
					var gas ledger.Gas
					for _, s := range steps {
						gas = run(s.method, s.args)
					}
					b.ReportAllocs()
					for b.Loop() {
						run("transfer", transfer)
					}
					b.ReportMetric(float64(gas), "gas/op")
				})
			}
			b.Run("engine=bare", func(b *testing.B) {
				call, err := wasmvm.Bare(b.Context(), built.Code)
				if err != nil {
					b.Fatal(err)
				}
				h := wasmvm.NewMapHost(context)
				run := func(method string, args []byte) {
					h.Forget()
					if err := call(h, method, args); err != nil {
						b.Fatal(err)
					}
				}
				for _, s := range steps {
					run(s.method, s.args)
				}
				b.ReportAllocs()
				for b.Loop() {
					run("transfer", transfer)
				}
			})
		})
	}
}

// BenchmarkDeploy is what a module takes until it can be called, on an interpreter and compiled.
func BenchmarkDeploy(b *testing.B) {
	built, err := contract.Build(b.Context(), "../examples/token", "")
	if err != nil {
		b.Fatal(err)
	}
	for _, wait := range []struct {
		name    string
		ready   bool
		warm    bool
		compile wasmvm.Engine
	}{
		{"until it is interpreted", false, false, wasmvm.Compiler},
		{"until it is compiled", true, false, wasmvm.Compiler},
		{"from the cache", true, true, wasmvm.Compiler},
	} {
		b.Run(wait.name, func(b *testing.B) {
			dir := ""
			if wait.warm {
				dir = b.TempDir()
			}
			deploy := func() {
				vm, err := wasmvm.New(context.Background(), wasmvm.Config{Engine: wait.compile, CacheDir: dir})
				if err != nil {
					b.Fatal(err)
				}
				defer vm.Close(context.Background())
				m, err := vm.Compile(context.Background(), built.Code)
				if err == nil && wait.ready {
					err = m.Ready(context.Background())
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			deploy()
			for b.Loop() {
				deploy()
			}
		})
	}
}
