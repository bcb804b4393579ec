package wasmvm

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// kernels are small programs in C such as contracts are made of, with the number of rounds that take about a millisecond.
var kernels = map[string]uint64{
	"sha256": 50, "qsort": 5, "crc32": 30, "fnv": 200, "parser": 100, "multiply": 5_000, "indirect": 300, "fib": 80, "hashmap": 30,
}

// buildKernel compiles testdata/kernels/name.c.
func buildKernel(t testing.TB, name string) []byte {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			const how = "%s is missing: apt-get install clang lld"
			if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
				t.Fatalf(how, tool)
			}
			t.Skipf(how, tool)
		}
	}
	file := filepath.Join(t.TempDir(), name+".wasm")
	out, err := exec.CommandContext(t.Context(), "clang", "--target=wasm32", "-nostdlib", "-O2", "-fno-builtin", "-Wl,--no-entry", "-Wl,--export=run",
		"-Wl,--strip-all", "-Wl,-z,stack-size=8192", "-o", file, filepath.Join("testdata", "kernels", name+".c")).CombinedOutput()
	if err != nil {
		t.Fatalf("%s.c: %v\n%s", name, err, out)
	}
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// kernel is a kernel as it came from the C compiler, or rewritten.
type kernel struct {
	run   api.Function
	gas   api.MutableGlobal // nil: not rewritten
	depth api.MutableGlobal
}

func newKernel(t testing.TB, r wazero.Runtime, code []byte) *kernel {
	t.Helper()
	module, err := r.InstantiateWithConfig(context.Background(), code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{run: module.ExportedFunction("run")}
	k.gas, _ = module.ExportedGlobal(gasExport).(api.MutableGlobal)
	k.depth, _ = module.ExportedGlobal(depthExport).(api.MutableGlobal)
	return k
}

// call runs the kernel and returns its result and gas.
func (k *kernel) call(t testing.TB, rounds uint64) (result, gas uint64) {
	t.Helper()
	const limit = 1 << 40
	if k.gas != nil {
		k.gas.Set(limit)
		k.depth.Set(MaxDepth)
	}
	out, err := k.run.Call(context.Background(), rounds)
	if err != nil {
		t.Fatal(err)
	}
	if k.gas != nil {
		gas = limit - k.gas.Get()
	}
	return out[0], gas
}

func rewriteKernel(t testing.TB, code []byte) []byte {
	t.Helper()
	m, err := decodeModule(code, 512)
	if err != nil {
		t.Fatal(err)
	}
	costs, err := newCosts(1)
	if err != nil {
		t.Fatal(err)
	}
	w, err := rewrite(m, costs, true)
	if err != nil {
		t.Fatal(err)
	}
	return w.code
}

// TestKernels wants the results of the kernels to be those that they have when they are not rewritten.
func TestKernels(t *testing.T) {
	ctx := context.Background()
	compiler, interpreter := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler()), wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer compiler.Close(ctx)
	defer interpreter.Close(ctx)
	for name := range kernels {
		t.Run(name, func(t *testing.T) {
			code := buildKernel(t, name)
			metered := rewriteKernel(t, code)
			want, _ := newKernel(t, interpreter, code).call(t, 2)
			got, gas := newKernel(t, compiler, metered).call(t, 2)
			got2, gas2 := newKernel(t, interpreter, metered).call(t, 2)
			if got != want || got2 != want || gas != gas2 || gas == 0 {
				t.Errorf("%d in the compiler, gas %d, and %d in the interpreter, gas %d; as it was written %d", got, gas, got2, gas2, want)
			}
		})
	}
}

// BenchmarkKernels compares kernels with and without metering, in passes of which the least time of each counts: run it with -benchtime
// 100x, and longer on a busy machine.
func BenchmarkKernels(b *testing.B) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer r.Close(ctx)
	type row struct {
		name         string
		plain, meter *kernel
		least        [2]time.Duration
		gas          uint64
	}
	var rows []*row
	for name := range kernels {
		code := buildKernel(b, name)
		rows = append(rows, &row{name, newKernel(b, r, code), newKernel(b, r, rewriteKernel(b, code)), [2]time.Duration{time.Hour, time.Hour}, 0})
	}
	slices.SortFunc(rows, func(a, b *row) int { return strings.Compare(a.name, b.name) })
	for b.Loop() {
		for _, r := range rows {
			began := time.Now()
			r.plain.call(b, kernels[r.name])
			between := time.Now()
			_, r.gas = r.meter.call(b, kernels[r.name])
			r.least = [2]time.Duration{min(r.least[0], between.Sub(began)), min(r.least[1], time.Since(between))}
		}
	}
	logs := 0.0
	for _, r := range rows {
		ratio := float64(r.least[1]) / float64(r.least[0])
		logs += math.Log(ratio)
		fmt.Printf("%-10s %10v  metered %10v  %.3f  %5.2f gas/ns\n", r.name, r.least[0], r.least[1], ratio, float64(r.gas)/float64(r.least[1]))
	}
	b.ReportMetric(math.Exp(logs/float64(len(rows))), "metered/plain")
	b.ReportMetric(0, "ns/op")
}
