package wasmvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

var (
	randomSeed     = flag.Uint64("seed", 1, "seed of the random programs")
	randomPrograms = flag.Int("programs", 200, "how many random programs to run")
	randomFirst    = flag.Int("first", 0, "the first program, to repeat one")
	arm64          = flag.Bool("arm64", false, "run TestArm64")
)

// TestRandomPrograms runs random programs in both engines, in the reference and in V8: results, traps, memory, globals and gas must be
// equal. It is how the errata were found; `go test -run RandomPrograms -programs=20000 -seed=7 ./wasmvm` looks for more.
func TestRandomPrograms(t *testing.T) {
	const batch = 50
	count := make(chan randomCounts, *randomPrograms/batch+1)
	t.Run("programs", func(t *testing.T) {
		for first := *randomFirst; first < *randomFirst+*randomPrograms; first += batch {
			t.Run(strconv.Itoa(first), func(t *testing.T) {
				t.Parallel()
				count <- compareRandom(t, first, min(batch, *randomFirst+*randomPrograms-first))
			})
		}
	})
	close(count)
	var sum randomCounts
	for c := range count {
		sum.programs += c.programs
		sum.calls += c.calls
		sum.traps += c.traps
		sum.exhausted += c.exhausted
		sum.bytes += c.bytes
		sum.v8 += c.v8
	}
	t.Logf("%+v", sum)
	if sum.programs > 100 && (sum.traps < sum.calls/50 || sum.traps > sum.calls/2 || sum.exhausted < sum.calls/50) {
		t.Errorf("%+v: the programs have lost their variety", sum)
	}
}

type randomCounts struct {
	programs, calls, traps, exhausted, bytes int
	v8                                       int // calls that V8 confirms
}

// compareRandom runs programs first, first+1, … everywhere.
func compareRandom(t *testing.T, first, n int) (sum randomCounts) {
	costs := versionOne(t)
	runs := [2]*specRun{newSpecRun(t, Compiler), newSpecRun(t, Interpreter)}
	defer runs[0].runtime.Close(context.Background())
	defer runs[1].runtime.Close(context.Background())
	var programs []*randomProgram
	var results [][]randomResult
	for k := range n {
		p := newRandomProgram(t, *randomSeed, first+k, costs)
		programs = append(programs, p)
		compiled, interpreted := p.run(t, runs[0]), p.run(t, runs[1])
		results = append(results, compiled)
		p.compare(t, "compiler", compiled, "interpreter", interpreted)
		p.compareReference(t, compiled)
		sum.programs++
		sum.bytes += len(p.code)
		for _, r := range compiled {
			sum.calls++
			if r.Trapped {
				sum.traps++
			}
			if r.Gas < 0 {
				sum.exhausted++
			}
		}
	}
	for k, r := range runV8(t, programs) {
		programs[k].compare(t, "compiler", results[k], "V8", r)
		sum.v8 += len(r)
	}
	return sum
}

// randomProgram is a module, as written and rewritten, and calls of it.
type randomProgram struct {
	name            string
	code, rewritten []byte
	words           []int64
	calls           []randomCall
	globals         [2]string // exports of the integer ones
	costs           *costs
}

// randomCall calls a function (i32, i32, i64, i64) -> i64.
type randomCall struct {
	name string
	args [4]uint64
	gas  int64 // limit
	last bool  // of a round, after which memory and globals are compared
}

// randomResult is what a call leaves. Two engines that agree on it agree on everything.
type randomResult struct {
	Trapped bool
	Value   uint64
	Gas     int64  // left
	State   string // at the end of a round: hash of memory and globals
}

// plenty is a limit that no random call reaches.
const plenty = 1 << 40

func newRandomProgram(t testing.TB, seed uint64, number int, costs *costs) *randomProgram {
	g := &generator{rand: rand.New(rand.NewPCG(seed, uint64(number)))}
	p := &randomProgram{name: fmt.Sprintf("program %d (-seed=%d -first=%d -programs=1)", number, seed, number), costs: costs, code: g.module()}
	m, err := decodeModule(p.code, 4)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	w, err := rewrite(m, costs, false)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	p.rewritten = w.code
	p.words = frames(t, m, costs)
	p.globals = [2]string{fmt.Sprint(globalExport, 0), fmt.Sprint(globalExport, 1)}
	for round := range 4 {
		for f := range g.functions {
			c := randomCall{name: fmt.Sprint("f", f), args: [4]uint64{g.number() & math.MaxUint32, g.number() & math.MaxUint32, g.number(), g.number()}, gas: plenty, last: f == g.functions-1}
			if round == 3 { // last, because the reference knows no limits
				c.gas = int64(g.rand.IntN(3000))
			}
			p.calls = append(p.calls, c)
		}
	}
	return p
}

// run runs all calls in one instance.
func (p *randomProgram) run(t testing.TB, r *specRun) []randomResult {
	ctx := context.Background()
	if err := r.instantiate(ctx, p.rewritten); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	defer r.module.Close(ctx)
	var all []randomResult
	gas := r.module.ExportedGlobal(gasExport).(api.MutableGlobal)
	for _, c := range p.calls {
		gas.Set(uint64(c.gas))
		r.module.ExportedGlobal(depthExport).(api.MutableGlobal).Set(MaxDepth)
		out, err := r.module.ExportedFunction(c.name).Call(ctx, c.args[:]...)
		result := randomResult{Trapped: err != nil, Gas: int64(gas.Get())}
		if err == nil {
			result.Value = out[0]
		}
		if c.last {
			memory, _ := r.module.Memory().Read(0, r.module.Memory().Size())
			result.State = stateOf(memory, r.module.ExportedGlobal(p.globals[0]).Get(), r.module.ExportedGlobal(p.globals[1]).Get())
		}
		all = append(all, result)
	}
	return all
}

// stateOf hashes memory and the integer globals.
func stateOf(memory []byte, i, l uint64) string {
	h := sha256.New()
	h.Write(memory)
	fmt.Fprintf(h, "%d,%d", i, l)
	return hex.EncodeToString(h.Sum(nil))
}

func (p *randomProgram) compare(t testing.TB, one string, a []randomResult, other string, b []randomResult) {
	for i, c := range p.calls {
		if a[i] != b[i] {
			t.Errorf("%s, call %d, %s(%v) with gas %d: %+v in the %s, %+v in the %s; module in %s", p.name, i, c.name, c.args, c.gas, a[i], one, b[i], other, p.keep(t))
			return // the rest follows from it
		}
	}
}

// keep stores the module for whoever looks into a difference.
func (p *randomProgram) keep(t testing.TB) string {
	file := filepath.Join(os.TempDir(), fmt.Sprintf("fondaco-%x.wasm", sha256.Sum256(p.rewritten))[:32]+".wasm")
	if err := os.WriteFile(file, p.rewritten, 0o600); err != nil {
		t.Error(err)
	}
	return file
}

// compareReference runs the calls without a limit in the reference, and wants the same values, traps, memory and globals, and of calls that
// return the same gas.
func (p *randomProgram) compareReference(t testing.TB, results []randomResult) {
	m := newReference(p.code, p.costs, p.words, 4, nil)
	for i, c := range p.calls {
		if c.gas != plenty {
			return
		}
		m.reset()
		out, err := m.run(c.name, c.args[:])
		got := randomResult{Trapped: err != nil, Gas: plenty - int64(m.gas)}
		if err == nil {
			got.Value = out[0]
		} else if got.Gas >= results[i].Gas { // charges are paid before what they are for
			got.Gas = results[i].Gas
		}
		if c.last {
			got.State = stateOf(m.memory, m.globals[0], m.globals[1])
		}
		if got != results[i] {
			t.Errorf("%s, call %d, %s(%v): %+v in the compiler, %+v, %v in the reference; module in %s", p.name, i, c.name, c.args, results[i], got, err, p.keep(t))
			return
		}
	}
}

// v8Program makes Node.js run programs, given as JSON in a file.
const v8Program = `
const {createHash} = require('crypto'), {readFileSync} = require('fs');
for (const p of JSON.parse(readFileSync(process.argv[1]))) {
  const e = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(p.Code, 'base64'))).exports;
  const results = [];
  for (const c of p.Calls) {
    e.__gas.value = BigInt(c.Gas);
    e.__fondaco_depth.value = p.Depth;
    let value = 0n, trapped = false;
    const [a, b, x, y] = c.Args.map(BigInt);
    try {
      value = BigInt.asUintN(64, e[c.Name](Number(a), Number(b), x, y));
    } catch (err) {
      if (!(err instanceof WebAssembly.RuntimeError)) throw err;
      trapped = true;
    }
    let state = '';
    if (c.Last) {
      const h = createHash('sha256');
      h.update(new Uint8Array(e.memory.buffer));
      state = h.update((e[p.Globals[0]].value >>> 0) + ',' + BigInt.asUintN(64, e[p.Globals[1]].value)).digest('hex');
    }
    results.push([trapped, value.toString(), e.__gas.value.toString(), state]);
  }
  console.log(JSON.stringify(results));
}
`

// runV8 runs programs in Node.js, if there is one.
func runV8(t *testing.T, programs []*randomProgram) [][]randomResult {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") != "" {
			t.Fatal("V8 is missing: apt-get install nodejs")
		}
		t.Log("without V8 as a referee: apt-get install nodejs")
		return nil
	}
	type call struct {
		Name, Gas string
		Args      []string
		Last      bool
	}
	type program struct {
		Code    string
		Depth   int
		Globals [2]string
		Calls   []call
	}
	var all []program
	for _, p := range programs {
		one := program{Code: base64.StdEncoding.EncodeToString(p.rewritten), Depth: MaxDepth, Globals: p.globals}
		for _, c := range p.calls {
			one.Calls = append(one.Calls, call{c.name, fmt.Sprint(c.gas), strings.Fields(strings.Trim(fmt.Sprint(c.args), "[]")), c.last})
		}
		all = append(all, one)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "programs.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "-e", v8Program, file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, &stderr)
	}
	var results [][]randomResult
	for line := range bytes.Lines(out) {
		var rows [][4]any
		if err := json.Unmarshal(line, &rows); err != nil {
			t.Fatal(err)
		}
		var one []randomResult
		for _, r := range rows {
			value, _ := strconv.ParseUint(r[1].(string), 10, 64)
			gas, _ := strconv.ParseInt(r[2].(string), 10, 64)
			one = append(one, randomResult{Trapped: r[0].(bool), Value: value, Gas: gas, State: r[3].(string)})
		}
		results = append(results, one)
	}
	if len(results) != len(programs) {
		t.Fatalf("node: %d results of %d programs\n%s", len(results), len(programs), &stderr)
	}
	return results
}

// digestPrograms is how many programs another processor runs.
const digestPrograms = 60

// TestRandomDigest prints a digest of what programs do in the interpreter. TestArm64 runs it on another processor.
func TestRandomDigest(t *testing.T) {
	fmt.Printf("%s random programs: %x\n", runtime.GOARCH, randomDigest(t))
}

func randomDigest(t testing.TB) [32]byte {
	r := newSpecRun(t, Interpreter)
	defer r.runtime.Close(context.Background())
	h := sha256.New()
	for n := range digestPrograms {
		p := newRandomProgram(t, 1, n, versionOne(t))
		for _, result := range p.run(t, r) {
			fmt.Fprintf(h, "%+v\n", result)
		}
	}
	return [32]byte(h.Sum(nil))
}

// TestArm64 runs a sample under an emulator of arm64 and wants what this processor does: results, traps, gas and memory, in which
// are the bits of NaNs. It looks for the errata of the compiler for arm64 as well. It runs in CI, with -arm64, because it
// compiles all that the tests import, the standard library included, for another processor.
func TestArm64(t *testing.T) {
	if !*arm64 {
		t.Skip("builds the tests for another processor: run with -arm64")
	}
	if runtime.GOARCH == "arm64" {
		t.Skip("is on arm64")
	}
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") != "" {
			t.Fatal("qemu-aarch64-static is missing: apt-get install qemu-user-static")
		}
		t.Skip("qemu-aarch64-static is missing: apt-get install qemu-user-static")
	}
	test := filepath.Join(t.TempDir(), "wasmvm.test")
	build := exec.Command("go", "test", "-c", "-o", test, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for arm64: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), qemu, test, "-test.v", "-test.run", "^(TestRandomDigest|TestErrata|TestErrataRemain)$")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run on arm64: %v\n%s", err, out)
	}
	for _, erratum := range []string{"R1", "R2"} {
		if want := "--- PASS: TestErrataRemain/" + erratum + "_on_arm64"; !strings.Contains(string(out), want) {
			t.Errorf("on arm64:\n%swant:\n%s", out, want)
		}
	}
	if want := fmt.Sprintf("arm64 random programs: %x\n", randomDigest(t)); !strings.Contains(string(out), want) {
		t.Errorf("on arm64:\n%swant:\n%s", out, want)
	}
}
