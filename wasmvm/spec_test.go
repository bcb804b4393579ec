package wasmvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
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

// specSkipped says what of the suites does not run, and why, for each suite. It is asserted, so that nothing is lost unnoticed.
var specSkipped = map[string]map[string]int{
	"v1": {
		"a call of a module that is not admitted":                                               759,
		"a call of a module whose table or memory another one would share that is not admitted": 39,
		"a constant global, which the rewriter does not export":                                 3,
		"a module is not admitted: 1056 parameters and locals of a function":                    1,
		"a module is not admitted: 17 nested loops":                                             1,
		"a module is not admitted: 24615 targets of a br_table":                                 1,
		"a module is not admitted: 476 exports":                                                 1,
		"a module is not admitted: a start function is not allowed: export it as _initialize":   5,
		"a module is not admitted: it imports a memory, a table or a global":                    64,
		"a module is valid since version 2":                                                     5,
		"malformed text, which has no binary":                                                   430,
	},
	"v2": {
		"a call of a module that is not admitted":                                                                        3658,
		"a call of a module whose table or memory another one would share that is not admitted":                          41,
		"a constant global, which the rewriter does not export":                                                          3,
		"a module imports from one that is not admitted":                                                                 8,
		"a module is not admitted: 100 parameters":                                                                       1,
		"a module is not admitted: 1056 parameters and locals of a function":                                             1,
		"a module is not admitted: 17 nested loops":                                                                      1,
		"a module is not admitted: 2 tables":                                                                             71,
		"a module is not admitted: 3 tables":                                                                             1,
		"a module is not admitted: 4 tables":                                                                             1,
		"a module is not admitted: 479 exports":                                                                          1,
		"a module is not admitted: a start function is not allowed: export it as _initialize":                            6,
		"a module is not admitted: data.drop changes what a reset of the instance would not restore":                     6,
		"a module is not admitted: it imports a memory, a table or a global":                                             84,
		"a module is not admitted: memory.init of data segment 0, which is active: only passive ones can be copied from": 1,
		"a module is not admitted: passive element segments are of no use without table.init":                            15,
		"a module is not admitted: ref.func uses reference values":                                                       1,
		"a module is not admitted: ref.is_null uses reference values":                                                    1,
		"a module is not admitted: ref.null uses reference values":                                                       1,
		"a module is not admitted: reference values are not part of the ABI":                                             15,
		"a module is not admitted: table.copy changes what a reset of the instance would not restore":                    12,
		"a module is not admitted: table.init changes what a reset of the instance would not restore":                    2,
		"a module is not admitted: the table does not hold functions":                                                    2,
		"malformed text, which has no binary":                                                                            581,
	},
}

// specValidLater are modules that version 1 finds invalid: for blocks and functions with several results, and for operands of unreachable code that
// may have any type.
var specValidLater = map[string]bool{
	"func.json:493": true, "func.json:497": true, "type.json:53": true, "type.json:57": true, "unreached-invalid.json:539": true,
}

// TestSpecification runs WebAssembly's own test suites, of the module cache's wazero, through the validator and the
// rewriter, and then in both engines and in the reference, which runs the modules as they are and pays for one instruction after
// another: results must be as the suite says, and equal to the last bit, NaNs included; traps and gas must be equal, too; and every
// invalid module must be refused.
func TestSpecification(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole suite takes a while")
	}
	for version, want := range map[string]specCounts{
		"v1": {files: 73, modules: 707, invalid: 1650, unlinkable: 97, returns: 15055, traps: 447, exact: 15055},
		"v2": {files: 90, modules: 895, invalid: 2196, unlinkable: 117, returns: 19770, traps: 505, exact: 19770},
	} {
		t.Run(version, func(t *testing.T) {
			files := specFiles(t, version+"/testdata/*.json")
			if len(files) == 0 {
				t.Skip("without WebAssembly's test suites: run `go mod download github.com/tetratelabs/wazero`")
			}
			s := &specSuite{T: t, costs: versionOne(t), skipped: map[string]int{}}
			for _, file := range files {
				if !strings.Contains(file, "simd") { // vectors are not admitted
					s.script(file)
				}
			}
			t.Logf("%+v; skipped %v", s.specCounts, s.skipped)
			if s.specCounts != want {
				t.Errorf("%+v ran, want %+v", s.specCounts, want)
			}
			if !maps.Equal(s.skipped, specSkipped[version]) {
				t.Errorf("skipped %#v\nwant %#v", s.skipped, specSkipped[version])
			}
		})
	}
}

// specFiles returns files of WebAssembly's test suites, which come with wazero's sources: none where those are missing, unless the tests
// must have all they ask for.
func specFiles(t testing.TB, pattern string) []string {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "internal/integration_test/spectest", pattern))
	if len(files) == 0 && os.Getenv("FONDACO_REQUIRE_TOOLS") != "" {
		t.Fatalf("WebAssembly's test suites are missing, run `go mod download github.com/tetratelabs/wazero`: %v", err)
	}
	return files
}

func versionOne(t testing.TB) *costs {
	c, err := newCosts(1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// specCounts counts what ran.
type specCounts struct {
	files, modules, invalid, unlinkable, globals, returns, traps int
	exact                                                        int // calls whose gas the reference confirms
}

type specSuite struct {
	*testing.T
	specCounts
	costs   *costs
	skipped map[string]int
}

// specModule is a module in the engines and in the reference.
type specModule struct {
	engines   [2]api.Module
	reference *reference
	decoded   *module
	shared    bool // with a module that is not admitted and would change it
}

// script runs one file of commands.
func (s *specSuite) script(file string) {
	s.files++
	raw, err := os.ReadFile(file)
	if err != nil {
		s.Fatal(err)
	}
	var script struct{ Commands []specCommand }
	if err := json.Unmarshal(raw, &script); err != nil {
		s.Fatal(err)
	}
	ctx := s.Context()
	runs := [2]*specRun{newSpecRun(s, Compiler), newSpecRun(s, Interpreter)}
	defer runs[0].runtime.Close(ctx)
	defer runs[1].runtime.Close(ctx)
	var current *specModule // nil: refused
	var all []*specModule
	named, registered := map[string]*specModule{}, map[string]*specModule{}

	instantiate := func(code, rewritten []byte, m *module, words []int64) (*specModule, [2]error) {
		var errs [2]error
		r := &specModule{decoded: m}
		for i, run := range runs {
			linked := experimental.WithImportResolver(ctx, func(name string) api.Module {
				if m := registered[name]; m != nil {
					return m.engines[i]
				}
				return nil
			})
			errs[i] = run.instantiate(linked, rewritten)
			r.engines[i] = run.module
		}
		if errs[0] == nil {
			r.reference = newReference(code, s.costs, words, 65_536, func(module, name string) func([]uint64) []uint64 {
				from := registered[module]
				if from == nil {
					return func([]uint64) []uint64 { return nil }
				}
				return func(args []uint64) []uint64 {
					return from.reference.invoke(from.reference.exports[name].index, args)
				}
			})
		}
		return r, errs
	}
	for _, c := range script.Commands {
		at := filepath.Base(file) + ":" + strconv.Itoa(c.Line)
		load := func() (code []byte, m *module, w *rewritten, words []int64, err error) {
			if code, err = os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename)); err != nil {
				s.Fatal(err)
			}
			if m, err = decodeModule(code, 65_536); err == nil {
				w, err = rewrite(m, s.costs, false)
			}
			if err == nil {
				words = frames(s, m, s.costs)
			} else if from, ok := strings.CutPrefix(err.Error(), "module refused: import "); ok {
				from, _, _ = strings.Cut(from, ".")
				if r := registered[from]; r != nil {
					r.shared = true
				}
			}
			return code, m, w, words, err
		}
		switch c.Type {
		case "module":
			code, m, w, words, err := load()
			current = nil
			if err != nil {
				s.skipped["a module is not admitted: "+reasonOf(err)]++
			} else {
				if missing := slices.ContainsFunc(m.imports, func(i funcImport) bool {
					return i.module != "spectest" && registered[i.module] == nil
				}); missing {
					s.skipped["a module imports from one that is not admitted"]++
					if c.Name != "" {
						named[c.Name] = nil
					}
					continue
				}
				r, errs := instantiate(code, w.code, m, words)
				if errs[0] != nil || errs[1] != nil {
					s.Errorf("%s: %v, %v", at, errs[0], errs[1])
					continue
				}
				s.modules++
				current = r
				all = append(all, r)
			}
			if c.Name != "" {
				named[c.Name] = current
			}
		case "register":
			from := current
			if c.Name != "" {
				from = named[c.Name]
			}
			registered[c.As] = from
		case "assert_invalid", "assert_malformed":
			if c.ModuleType == "text" {
				s.skipped["malformed text, which has no binary"]++
				continue
			}
			s.invalid++
			if _, _, _, _, err := load(); err == nil && specValidLater[at] && strings.Contains(file, "/v1/") {
				s.skipped["a module is valid since version 2"]++
			} else if err == nil {
				s.Errorf("%s: admitted, want refused: %s", at, c.Text)
			} else if !errors.Is(err, ErrModule) {
				s.Errorf("%s: %v, want ErrModule", at, err)
			}
		case "assert_unlinkable", "assert_uninstantiable":
			s.unlinkable++
			code, m, w, words, err := load()
			if err != nil {
				continue // is refused earlier
			}
			if _, errs := instantiate(code, w.code, m, words); errs[0] == nil || errs[1] == nil {
				s.Errorf("%s: instantiated with %v, %v, want: %s", at, errs[0], errs[1], c.Text)
			}
		case "assert_return", "assert_trap", "assert_exhaustion", "action":
			m := current
			if c.Action.Module != "" {
				m = named[c.Action.Module]
			}
			if m == nil {
				s.skipped["a call of a module that is not admitted"]++
				continue
			}
			if m.shared || slices.ContainsFunc(m.decoded.imports, func(i funcImport) bool {
				from := registered[i.module]
				return from != nil && from.shared
			}) {
				s.skipped["a call of a module whose table or memory another one would share that is not admitted"]++
				continue
			}
			if c.Action.Type == "get" {
				s.get(at, m, c)
			} else {
				s.invoke(at, m, all, c)
			}
		default:
			s.Errorf("%s: what is %s?", at, c.Type)
		}
	}
}

// frames returns what the frames of a module's functions weigh, for the reference.
func frames(t testing.TB, m *module, c *costs) []int64 {
	v := &validator{decoder: decoder{m: m}, costs: c}
	words := make([]int64, len(m.bodies))
	for f := range m.bodies {
		a, err := v.check(f)
		if err != nil {
			t.Fatal(err)
		}
		words[f] = -1
		if a.calls {
			words[f] = int64(a.words)
		}
	}
	return words
}

// get compares an exported global.
func (s *specSuite) get(at string, m *specModule, c specCommand) {
	e := m.reference.exports[c.Action.Field]
	if !m.decoded.globals[e.index].mutable {
		s.skipped["a constant global, which the rewriter does not export"]++
		return
	}
	s.globals++
	want, _ := c.Expected[0].bits()
	for i, engine := range m.engines {
		if got := engine.ExportedGlobal(fmt.Sprint(globalExport, e.index)).Get(); got != want {
			s.Errorf("%s %s: %x in engine %d, want %x", at, c.Action.Field, got, i, want)
		}
	}
	if got := m.reference.globals[e.index]; got != want {
		s.Errorf("%s %s: %x in the reference, want %x", at, c.Action.Field, got, want)
	}
}

// invoke calls a function of m everywhere. All modules of the script may be part of it.
func (s *specSuite) invoke(at string, m *specModule, all []*specModule, c specCommand) {
	var args []uint64
	for _, a := range c.Action.Args {
		v, ok := a.bits()
		if !ok {
			s.Fatalf("%s: an argument %v", at, a)
		}
		args = append(args, v)
	}
	const limit = 1 << 60
	for _, other := range all {
		for _, e := range other.engines {
			e.ExportedGlobal(gasExport).(api.MutableGlobal).Set(limit)
			e.ExportedGlobal(depthExport).(api.MutableGlobal).Set(MaxDepth)
		}
		other.reference.reset()
	}
	var out [2][]uint64
	var errs [2]error
	for i, e := range m.engines {
		f := e.ExportedFunction(c.Action.Field)
		if f == nil {
			s.skipped["a function whose name the rewriter does not export"]++
			return
		}
		out[i], errs[i] = f.Call(s.Context(), args...)
	}
	results, refErr := m.reference.run(c.Action.Field, args)
	var gas [2]uint64
	exact := uint64(0)
	for _, other := range all {
		for i, e := range other.engines {
			gas[i] += limit - e.ExportedGlobal(gasExport).Get()
		}
		exact += other.reference.gas
	}
	if gas[0] != gas[1] || (errs[0] == nil) != (errs[1] == nil) || (errs[0] == nil) != (refErr == nil) {
		s.Errorf("%s %s: gas %d, %v in the compiler, %d, %v in the interpreter, %d, %v in the reference", at, c.Action.Field, gas[0], errs[0], gas[1], errs[1], exact, refErr)
		return
	}
	if c.Type == "assert_trap" || c.Type == "assert_exhaustion" {
		s.traps++
		if errs[0] == nil {
			s.Errorf("%s %s: returned, want trap: %s", at, c.Action.Field, c.Text)
		} else if exact > gas[0] { // charges are paid before what they are for
			s.Errorf("%s %s: trapped with gas %d, the instructions before cost %d", at, c.Action.Field, gas[0], exact)
		}
		return
	}
	if errs[0] != nil {
		s.Errorf("%s %s: %v", at, c.Action.Field, errs[0])
		return
	}
	s.returns++
	s.exact++
	if exact != gas[0] {
		s.Errorf("%s %s: gas %d with merged charges, %d with one for each instruction", at, c.Action.Field, gas[0], exact)
	}
	for i, e := range c.Expected {
		a, b, r := out[0][i], out[1][i], results[i]
		if e.Type == "i32" || e.Type == "f32" { // engines leave anything in the upper half
			a, b = uint64(uint32(a)), uint64(uint32(b))
		}
		if a != b || a != r {
			s.Errorf("%s %s(%v): %x in the compiler, %x in the interpreter, %x in the reference", at, c.Action.Field, args, a, b, r)
		}
		if text, _ := e.Value.(string); strings.HasPrefix(text, "nan:") {
			quiet := map[string]uint64{"f32": 0x7fc00000, "f64": 0x7ff8000000000000}[e.Type]
			if a&quiet != quiet {
				s.Errorf("%s %s: %x, want %s", at, c.Action.Field, a, text)
			}
		} else if want, ok := e.bits(); !ok || a != want {
			s.Errorf("%s %s(%v): %x, want %x", at, c.Action.Field, args, a, want)
		}
	}
}

func reasonOf(err error) string {
	s := strings.TrimPrefix(err.Error(), "module refused: ")
	if strings.HasPrefix(s, "import ") {
		return "it imports a memory, a table or a global"
	}
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
