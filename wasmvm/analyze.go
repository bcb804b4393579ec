package wasmvm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// Analysis tells what can be known of a module without running it: which function calls which, where there is floating
// point, and how much of each limit is used. It is made for authors' tools; no verdict on a module depends on it.
type Analysis struct {
	Functions []Function // by index: imported functions first
	Methods   []int      // functions that are exported as () -> i32, in order of the exports
	Data      []Segment  // active data segments
	Pages     uint64     // of memory at the start
	MaxPages  uint64     // that the module asks for itself; 0: none
	Limits    []LimitUse // in the order of the limits
}

// Function is one function of a module.
type Function struct {
	Name      string   // by the name section, else that of its export, else "function N"
	Import    string   // "module.name" if it is imported
	Export    string   // first name under which it is exported
	Size      int      // bytes of its code
	Calls     []Call   // direct calls, in order
	Indirect  []int    // functions that its calls through the table may mean, by their type
	Float     int      // offset in the module of its first instruction with floats; 0: none
	FloatName string   // that instruction
	Constants []uint64 // integers in its code of at least 256, which may be addresses in Data, and those that it loads from, sorted
	Results   int      // number of its results
	Reads     []int    // globals whose values it takes, sorted
	Sets      []Set    // of globals, in order
}

// Set is an instruction that sets a global.
type Set struct {
	Global    int
	Constants []uint64 // integers of at least 256 in the code between the function's last Set and this one
}

// Call is a direct call in a function's code.
type Call struct {
	Function int  // that is called
	Offset   int  // of the call in the module
	Loop     int  // number of the innermost loop that it is in, from 1 in each function; 0: none
	Depth    int  // number of the loops that it is in
	Guarded  bool // within that loop, or else the function, it is in a block, which may be skipped
	Dropped  bool // its result is thrown away
	Tail     bool // its result is the caller's own result
}

// Segment is data that a module puts into memory.
type Segment struct {
	Address uint32
	Bytes   []byte
}

// LimitUse is how much of an admission limit a module uses.
type LimitUse struct {
	Name     string `json:"name"`
	Value    uint64 `json:"value"`
	Limit    uint64 `json:"limit"`
	Function string `json:"function,omitempty"` // that uses the most, for limits on a function
}

// Analyze reads a module that Check admits. What it finds in any other module may be incomplete.
func Analyze(code []byte) (*Analysis, error) {
	m, err := decodeModule(code, MaxInitialPages)
	if err != nil {
		return nil, fmt.Errorf("analyze a module: %w", err)
	}
	a := &analyzer{m: m, Analysis: &Analysis{Functions: make([]Function, m.functions()), Pages: m.memory.min}}
	if m.memory.hasMax {
		a.MaxPages = m.memory.max
	}
	a.checker = validator{decoder: decoder{m: m}, costs: costs1()}
	a.names()
	a.segments()
	a.table()
	for i := range m.bodies {
		if err := a.function(i); err != nil {
			return nil, fmt.Errorf("analyze a module: function %s: %w", a.Functions[len(m.imports)+i].Name, err)
		}
	}
	a.limits(len(code))
	return a.Analysis, nil
}

type analyzer struct {
	*Analysis
	m       *module
	byType  map[string][]int // functions in the table, by their type
	widest  [limitCount]peak
	weight  uint64
	paths   uint64
	decoder decoder
	checker validator
}

const (
	shortestAddress = 256     // constants below are not taken for addresses
	noAddress       = 1 << 32 // is no address
)

// peak is the most of something that a function has.
type peak struct {
	value    uint64
	function int
}

// Limits on a function.
const (
	limitLocals = iota
	limitLoops
	limitNesting
	limitBlocks
	limitLocalsBlocks
	limitBody
	limitTargets
	limitCount
)

func (a *analyzer) names() {
	for i := range a.Functions {
		if i < len(a.m.imports) {
			imported := a.m.imports[i]
			a.Functions[i].Import = imported.module + "." + imported.name
			a.Functions[i].Name = a.Functions[i].Import
		}
	}
	for i, name := range a.m.functionNames {
		if a.Functions[i].Import == "" {
			a.Functions[i].Name = name
		}
	}
	for _, e := range a.m.exports {
		if e.kind != kindFunc {
			continue
		}
		f := &a.Functions[e.index]
		if f.Export == "" {
			f.Export = e.name
		}
		if f.Name == "" {
			f.Name = e.name
		}
		if t := a.m.typeOf(e.index); len(t.params) == 0 && string(t.results) == string([]byte{typeI32}) {
			a.Methods = append(a.Methods, int(e.index))
		}
	}
	for i := range a.Functions {
		if a.Functions[i].Name == "" {
			a.Functions[i].Name = fmt.Sprintf("function %d", i)
		}
	}
}

// segments collects the data that the module puts at constant addresses.
func (a *analyzer) segments() {
	for _, s := range a.m.segments {
		if !s.passive {
			a.Data = append(a.Data, Segment{s.address, s.data})
		}
	}
	slices.SortStableFunc(a.Data, func(x, y Segment) int { return cmp.Compare(x.Address, y.Address) })
}

// table collects the functions that indirect calls can mean.
func (a *analyzer) table() {
	a.byType = map[string][]int{}
	seen := map[int32]bool{noFunction: true}
	for _, f := range a.m.table {
		if !seen[f] {
			seen[f] = true
			key := signatureOf(a.m.typeOf(uint32(f)))
			a.byType[key] = append(a.byType[key], int(f))
		}
	}
}

func signatureOf(t *funcType) string { return string(t.params) + ":" + string(t.results) }

// function reads the instructions of a function that the module defines.
func (a *analyzer) function(n int) error {
	index := len(a.m.imports) + n
	b, f := &a.m.bodies[n], &a.Functions[index]
	f.Size = len(b.code)
	d := &a.decoder
	d.reader, d.m = reader{buf: b.code, off: b.offset}, a.m
	locals := uint64(len(b.types) + len(a.m.typeOf(uint32(index)).params))
	checked, err := a.checker.check(n)
	if err != nil {
		return err
	}
	a.weight += checked.weight
	a.paths += checked.paths
	a.reach(limitLocals, locals, index)
	a.reach(limitLoops, uint64(a.checker.loops), index)
	a.reach(limitBlocks, a.checker.blocks, index)
	a.reach(limitLocalsBlocks, max(locals, 1)*a.checker.blocks, index)
	a.reach(limitBody, uint64(f.Size), index)
	var (
		open      []int // blocks that are open: a loop's number, or 0
		numbered  int   // loops so far
		indirect  = map[string]bool{}
		pending   *Call // the call that was the instruction before
		stored    = map[uint64][]int{}
		read      = map[uint64]bool{}
		i         instruction
		constants = map[uint64]bool{}
		address   = uint64(noAddress) // the constant that was the instruction before
		recent    []uint64            // constants since the last global.set
		taken     = map[uint64]bool{}
	)
	constant := func(c uint64) {
		if c >= shortestAddress {
			constants[c], recent = true, append(recent, c)
		}
	}
	f.Results = len(a.m.typeOf(uint32(index)).results)
	for d.left() > 0 && d.err == nil {
		d.next(&i)
		if d.err != nil {
			break
		}
		if pending != nil {
			switch i.op {
			case opDrop:
				pending.Dropped = true
			case opLocalSet:
				stored[i.a] = append(stored[i.a], len(f.Calls)-1)
			case opReturn:
				pending.Tail = true
			case opEnd:
				pending.Tail = len(open) == 0
			}
			pending = nil
		}
		o := &operations[i.op]
		if o.float && f.Float == 0 {
			f.Float, f.FloatName = b.offset+i.start, o.name
		}
		if o.imm == immMemArg && address != noAddress {
			constant(address + i.b)
		}
		address = noAddress
		switch i.op {
		case opBlock, opLoop, opIf:
			number := 0
			if i.op == opLoop {
				numbered++
				number = numbered
			}
			open = append(open, number)
			a.reach(limitNesting, uint64(len(open)), index)
		case opEnd:
			open = open[:max(len(open)-1, 0)] // the last ends the function
		case opCall:
			c := Call{Function: int(i.a), Offset: b.offset + i.start, Guarded: len(open) > 0 && open[len(open)-1] == 0}
			for _, number := range open {
				if number > 0 {
					c.Loop, c.Depth = number, c.Depth+1 // the innermost is the last
				}
			}
			f.Calls = append(f.Calls, c)
			if t := a.m.typeOf(uint32(i.a)); len(t.results) == 1 {
				pending = &f.Calls[len(f.Calls)-1]
			}
		case opCallIndirect:
			indirect[signatureOf(&a.m.types[i.a])] = true
		case opLocalGet:
			read[i.a] = true
		case opGlobalGet:
			taken[i.a] = true
		case opGlobalSet:
			f.Sets = append(f.Sets, Set{Global: int(i.a), Constants: recent})
			recent = nil
		case opI32Const:
			address = uint64(uint32(i.a))
			constant(address)
		case opI64Const:
			constant(i.a)
		case opBrTable:
			a.reach(limitTargets, uint64(len(d.labels)-1), index)
		}
	}
	if d.err != nil {
		return d.err
	}
	for local, calls := range stored {
		for _, call := range calls {
			f.Calls[call].Dropped = f.Calls[call].Dropped || !read[local]
		}
	}
	for signature := range indirect {
		f.Indirect = append(f.Indirect, a.byType[signature]...)
	}
	slices.Sort(f.Indirect)
	f.Constants = slices.Sorted(maps.Keys(constants))
	for global := range taken {
		f.Reads = append(f.Reads, int(global))
	}
	slices.Sort(f.Reads)
	return nil
}

func (a *analyzer) reach(limit int, value uint64, function int) {
	if value > a.widest[limit].value {
		a.widest[limit] = peak{value, function}
	}
}

func (a *analyzer) limits(size int) {
	m := a.m
	use := func(name string, value int, limit uint64) {
		a.Limits = append(a.Limits, LimitUse{Name: name, Value: uint64(value), Limit: limit})
	}
	bytes, segments := uint64(MaxModuleStrict), uint64(MaxSegmentsStrict)
	if a.std() {
		bytes, segments = MaxModuleStd, MaxSegmentsStd
	}
	use("bytes", size, bytes)
	use("functions", len(m.funcs), MaxFunctions)
	use("types", len(m.types), MaxTypes)
	use("imports", len(m.imports), MaxImports)
	use("globals", len(m.globals), MaxGlobals)
	use("exports", len(m.exports), MaxExports)
	use("table entries", len(m.table), MaxTable)
	use("initial pages of memory", int(m.memory.min), MaxInitialPages)
	use("data segments", len(m.segments), segments)
	use("locals × blocks × (1 + nested loops), summed over functions", int(a.weight), MaxComplexity)
	use("4 × blocks² + locals × Σ (branches to a label)², summed over functions", int(a.paths), MaxPaths)
	for _, l := range [...]struct {
		name  string
		peak  int
		limit uint64
	}{
		{"bytes of a function", limitBody, MaxBody},
		{"parameters and locals of a function", limitLocals, MaxLocals},
		{"blocks and branches of a function", limitBlocks, MaxBlocks},
		{"nested blocks", limitNesting, MaxBlockNesting},
		{"nested loops", limitLoops, MaxLoopNesting},
		{"locals × blocks of a function", limitLocalsBlocks, MaxLocalsBlocks},
		{"targets of a br_table", limitTargets, MaxTargets},
	} {
		u := LimitUse{Name: l.name, Value: a.widest[l.peak].value, Limit: l.limit}
		if u.Value > 0 {
			u.Function = a.Functions[a.widest[l.peak].function].Name
		}
		a.Limits = append(a.Limits, u)
	}
}

// std reports whether the module has the limits of the profile std.
func (a *analyzer) std() bool {
	for _, i := range a.m.imports {
		if i.module == wasiModule {
			return true
		}
	}
	schema, err := ledger.DecodeSchema(a.m.schema)
	return err == nil && schema.Profile == profileStd
}

// Reaches returns the functions that a call of function root can run, root included, sorted. It does not follow the indirect
// calls of functions for which opaque, if given, returns true.
func (a *Analysis) Reaches(root int, opaque func(f *Function) bool) []int {
	seen := make([]bool, len(a.Functions))
	queue := []int{root}
	seen[root] = true
	visit := func(f int) {
		if !seen[f] {
			seen[f] = true
			queue = append(queue, f)
		}
	}
	for len(queue) > 0 {
		f := &a.Functions[queue[len(queue)-1]]
		queue = queue[:len(queue)-1]
		for _, c := range f.Calls {
			visit(c.Function)
		}
		if opaque == nil || !opaque(f) {
			for _, g := range f.Indirect {
				visit(g)
			}
		}
	}
	var reached []int
	for f, ok := range seen {
		if ok {
			reached = append(reached, f)
		}
	}
	return reached
}

// HostName returns the name of the ABI's host function that f is, or "".
func (f *Function) HostName() string {
	name, ok := strings.CutPrefix(f.Import, abiModule+".")
	if !ok {
		return ""
	}
	return name
}
