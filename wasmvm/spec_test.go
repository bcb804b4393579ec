package wasmvm

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

type specValue struct {
	Type  string
	Value any
}

type specCommand struct {
	Type, Filename, Name, Text, As string
	Line                           int
	ModuleType                     string `json:"module_type"`
	Action                         struct {
		Type, Field, Module string
		Args                []specValue
	}
	Expected []specValue
}

// bits returns the value as an operand; ok is false for vectors, references and NaN patterns.
func (s specValue) bits() (v uint64, ok bool) {
	text, _ := s.Value.(string)
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && (s.Type == "i32" || s.Type == "i64" || s.Type == "f32" || s.Type == "f64")
}

// TestSpecification runs WebAssembly's own test suite, of the module cache's wazero, through the validator and the
// rewriter and then in both engines: results must be as the suite says, traps and gas equal, gas also to that of charging every block by itself, and every invalid module
// must be refused.
func TestSpecification(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole suite takes a while")
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Skipf("find wazero's sources: %v", err)
	}
	root := filepath.Join(strings.TrimSpace(string(dir)), "internal/integration_test/spectest")
	files, _ := filepath.Glob(filepath.Join(root, "v2/testdata/*.json"))
	if len(files) == 0 {
		t.Skip("wazero's sources have no test suite: run `go mod download github.com/tetratelabs/wazero`")
	}
	costs, _ := newCosts(1)
	var modules, refused, invalid, returns, traps int
	reasons := map[string]int{}
	for _, file := range files {
		if strings.Contains(file, "simd") {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var script struct{ Commands []specCommand }
		if err := json.Unmarshal(raw, &script); err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(file))) + "/" + strings.TrimSuffix(filepath.Base(file), ".json")
		ctx := context.Background()
		runs := [3]*specRun{newSpecRun(t, Compiler), newSpecRun(t, Interpreter), newSpecRun(t, Interpreter)}
		for _, c := range script.Commands {
			at := name + ":" + strconv.Itoa(c.Line)
			var separate []byte
			load := func() (*rewritten, error) {
				code, err := os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename))
				if err != nil {
					t.Fatal(err)
				}
				m, err := decodeModule(code, 65_536)
				if err != nil {
					return nil, err
				}
				if w, err := rewrite(m, costs, false, true); err == nil {
					separate = w.code
				}
				return rewrite(m, costs, false, false)
			}
			switch c.Type {
			case "module":
				w, err := load()
				for _, r := range runs {
					r.module = nil
				}
				if err != nil {
					refused++
					reasons[reasonOf(err)]++
					continue
				}
				modules++
				for i, r := range runs {
					code := w.code
					if i == 2 {
						code = separate
					}
					if err := r.instantiate(ctx, code); err != nil && !strings.Contains(err.Error(), "not instantiated") {
						t.Errorf("%s: %v", at, err)
					}
				}
			case "assert_invalid", "assert_malformed":
				if c.ModuleType == "text" {
					continue
				}
				invalid++
				if _, err := load(); err == nil {
					t.Errorf("%s: admitted, want refused: %s", at, c.Text)
				}
			case "assert_return", "assert_trap", "assert_exhaustion", "action":
				if runs[0].module == nil || runs[1].module == nil || c.Action.Type != "invoke" || c.Action.Module != "" {
					continue
				}
				var args []uint64
				usable := true
				for _, a := range c.Action.Args {
					v, ok := a.bits()
					args, usable = append(args, v), usable && ok
				}
				f := runs[0].module.ExportedFunction(c.Action.Field)
				if !usable || f == nil {
					continue
				}
				out, gas, err := runs[0].call(ctx, c.Action.Field, args)
				out2, gas2, err2 := runs[1].call(ctx, c.Action.Field, args)
				if _, gas3, err3 := runs[2].call(ctx, c.Action.Field, args); err3 == nil && gas3 != gas2 {
					t.Errorf("%s %s: gas %d with merged charges, %d with one for each block", at, c.Action.Field, gas2, gas3)
				}
				if gas != gas2 || (err == nil) != (err2 == nil) {
					t.Errorf("%s %s: gas %d, %v in the compiler, gas %d, %v in the interpreter", at, c.Action.Field, gas, err, gas2, err2)
				}
				if c.Type == "assert_trap" || c.Type == "assert_exhaustion" {
					traps++
					if err == nil {
						t.Errorf("%s %s: returned, want trap: %s", at, c.Action.Field, c.Text)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s %s: %v", at, c.Action.Field, err)
					continue
				}
				returns++
				for i, e := range c.Expected {
					if e.Type == "i32" || e.Type == "f32" { // engines leave anything in the upper half
						out[i], out2[i] = uint64(uint32(out[i])), uint64(uint32(out2[i]))
					}
					if e.Type == "externref" || e.Type == "funcref" {
						continue
					}
					if out[i] != out2[i] {
						t.Errorf("%s %s: %x in the compiler, %x in the interpreter", at, c.Action.Field, out[i], out2[i])
					}
					text, _ := e.Value.(string)
					switch want, ok := e.bits(); {
					case strings.HasPrefix(text, "nan:") && e.Type == "f32":
						ok = out[i]&0x7fc00000 == 0x7fc00000
						if !ok {
							t.Errorf("%s %s: %x, want %s", at, c.Action.Field, out[i], text)
						}
					case strings.HasPrefix(text, "nan:"):
						if out[i]&0x7ff8000000000000 != 0x7ff8000000000000 {
							t.Errorf("%s %s: %x, want %s", at, c.Action.Field, out[i], text)
						}
					case ok && out[i] != want:
						t.Errorf("%s %s(%v): %x, want %x", at, c.Action.Field, args, out[i], want)
					}
				}
			}
		}
		for _, r := range runs {
			r.runtime.Close(ctx)
		}
	}
	t.Logf("%d modules, %d refused (%v), %d invalid ones; %d results, %d traps", modules, refused, reasons, invalid, returns, traps)
	if modules < 500 || returns < 15_000 {
		t.Errorf("%d modules and %d results: the suite did not run", modules, returns)
	}
}

func reasonOf(err error) string {
	s := strings.TrimPrefix(err.Error(), "module refused: ")
	if i := strings.Index(s, " at offset"); i > 0 {
		s = s[:i]
	}
	if i := strings.Index(s, " in function"); i > 0 {
		s = s[:i]
	}
	return s
}

type specRun struct {
	runtime wazero.Runtime
	module  api.Module
}

func newSpecRun(t testing.TB, e Engine) *specRun {
	c := wazero.NewRuntimeConfigInterpreter()
	if e == Compiler {
		c = wazero.NewRuntimeConfigCompiler()
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, c.WithCoreFeatures(api.CoreFeaturesV2&^api.CoreFeatureSIMD))
	b := r.NewHostModuleBuilder("spectest")
	i32, i64, f32, f64 := api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF32, api.ValueTypeF64
	for name, params := range map[string][]api.ValueType{
		"print": nil, "print_i32": {i32}, "print_i64": {i64}, "print_f32": {f32}, "print_f64": {f64}, "print_i32_f32": {i32, f32}, "print_f64_f64": {f64, f64},
	} {
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {}), params, nil).Export(name)
	}
	if _, err := b.Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	return &specRun{runtime: r}
}

func (r *specRun) instantiate(ctx context.Context, code []byte) (err error) {
	r.module, err = r.runtime.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	return err
}

func (r *specRun) call(ctx context.Context, field string, args []uint64) (out []uint64, gas uint64, err error) {
	set := func(name string, v uint64) { r.module.ExportedGlobal(name).(api.MutableGlobal).Set(v) }
	const limit = 1 << 40
	set(gasExport, limit)
	set(depthExport, MaxDepth)
	out, err = r.module.ExportedFunction(field).Call(ctx, args...)
	return out, limit - r.module.ExportedGlobal(gasExport).Get(), err
}
