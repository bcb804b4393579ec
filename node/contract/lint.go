package contract

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Rules of the linter. They are judgements on what an author probably means: a module with warnings is admitted all the same.
const (
	RuleScan       = "scan-in-loop"   // each turn of a loop opens a scan: its gas has no bound
	RuleView       = "not-a-view"     // a tx method that cannot change anything
	RuleViewWrites = "view-writes"    // a view that can reach a write, which is denied
	RuleStatus     = "unchecked-call" // the status of a call to another contract is thrown away
	RuleState      = "never-written"  // state that is read, and written by no method
	RuleFloats     = "floats"         // floating point
	RuleLimit      = "near-limit"     // over 80 % of an admission limit
	RuleMemory     = "memory"         // more memory at the start than contracts need
)

// Warning is a finding of the linter.
type Warning struct {
	Rule     string `json:"rule"`
	Methods  string `json:"methods,omitempty"`  // through which the place is reached, separated by commas
	Function string `json:"function,omitempty"` // with the place, or of most of what is limited
	Offset   int    `json:"offset,omitempty"`   // of the place in the module
	Place    string `json:"place,omitempty"`    // in the sources: file and line
	Text     string `json:"text"`               // what is wrong and what to do
}

// String returns the warning on one line.
func (w Warning) String() string {
	var b strings.Builder
	b.WriteString(w.Rule + ": ")
	if w.Methods != "" {
		b.WriteString(w.Methods + ": ")
	}
	b.WriteString(w.Text)
	if w.Function != "" {
		fmt.Fprintf(&b, " (%s", w.Function)
		if w.Offset > 0 {
			fmt.Fprintf(&b, ", offset 0x%x", w.Offset)
		}
		if w.Place != "" {
			b.WriteString(", " + w.Place)
		}
		b.WriteString(")")
	}
	return b.String()
}

const (
	nearLimit   = 80 // percent of a limit that are worth a warning
	mostPages   = 16 // of memory at the start that are not
	mostPlaces  = 8  // that one rule names
	shortestKey = 2  // bytes of a prefix of state that can be told from other data
)

// Lint looks for what an author probably did not mean, in a module that Check admits. names, if not nil, is the
// content of its name section (see Built.Names): without it findings name functions by number, and modules
// made from Go or AssemblyScript are searched for less. What a module made from Go does not show, LintSource finds.
func Lint(code, names []byte) ([]Warning, error) {
	a, err := analyze(code, names)
	if err != nil {
		return nil, err
	}
	l := &linter{a: a, roots: map[string]int{}}
	section, err := ledger.ModuleSection(code, ledger.SchemaSection)
	if err == nil && section != nil {
		l.schema, err = ledger.DecodeSchema(section)
	}
	if err != nil {
		return nil, fmt.Errorf("lint a module: %w", err)
	}
	if section, err := ledger.ModuleSection(code, ledger.BuildSection); err == nil && section != nil {
		var b ledger.Build
		if ledger.Unmarshal(section, &b) == nil {
			l.golang, l.rust, l.as = b.Language == "go", b.Language == "rust", b.Language == "as"
		}
	}
	for _, m := range a.Methods {
		l.roots[a.Functions[m].Export] = m
	}
	l.reach()
	l.views()
	l.scans()
	l.statuses()
	l.state()
	l.floats()
	l.limits()
	return l.warnings, nil
}

type linter struct {
	a        *wasmvm.Analysis
	schema   *ledger.Schema // nil: none
	golang   bool
	rust     bool
	as       bool             // AssemblyScript
	author   string           // prefix of the names of the author's functions in Go; "" when names are missing
	roots    map[string]int   // methods
	direct   map[string][]int // functions that a method reaches by direct calls, sorted
	all      map[string][]int // the same, and through the table
	warnings []Warning
}

func (l *linter) warn(rule string, methods []string, f *wasmvm.Function, offset int, format string, args ...any) {
	w := Warning{Rule: rule, Methods: strings.Join(methods, ", "), Offset: offset, Text: fmt.Sprintf(format, args...)}
	if f != nil {
		w.Function = f.Name
	}
	l.warnings = append(l.warnings, w)
}

// reach finds out which functions each method can run.
func (l *linter) reach() {
	if l.golang {
		for name, root := range l.roots {
			for _, c := range l.a.Functions[root].Calls {
				if prefix, ok := strings.CutSuffix(l.a.Functions[c.Function].Name, "fondaco_"+name); ok {
					l.author = prefix
				}
			}
		}
	}
	// Go's runtime and library call through the table all the time; the author's code does so for closures and interfaces.
	opaque := func(f *wasmvm.Function) bool { return l.golang && !strings.HasPrefix(f.Name, l.author) }
	l.direct, l.all = map[string][]int{}, map[string][]int{}
	for name, root := range l.roots {
		l.direct[name] = l.a.Reaches(root, func(*wasmvm.Function) bool { return true })
		l.all[name] = l.a.Reaches(root, opaque)
	}
}

// hosts returns which of the host functions are among functions.
func (l *linter) hosts(functions []int, names ...string) (found []string) {
	for _, f := range functions {
		if name := l.a.Functions[f].HostName(); slices.Contains(names, name) {
			found = append(found, name)
		}
	}
	return found
}

// methodsTo returns the methods that reach a function by the given graph, sorted.
func (l *linter) methodsTo(function int, graph map[string][]int) (methods []string) {
	for name, reached := range graph {
		if _, ok := slices.BinarySearch(reached, function); ok {
			methods = append(methods, name)
		}
	}
	slices.Sort(methods)
	return methods
}

// views compares the methods' kinds with what they can do.
func (l *linter) views() {
	if l.schema == nil || l.golang && l.author == "" {
		return
	}
	for _, m := range l.schema.Methods {
		root, ok := l.roots[m.Name]
		if !ok {
			continue
		}
		f := &l.a.Functions[root]
		if m.Kind == ledger.MethodTx {
			if l.hosts(l.all[m.Name], "set", "del", "add", "emit", "call") == nil {
				l.warn(RuleView, []string{m.Name}, f, 0, "the method writes, emits and calls nothing: declare it a view, so that it can be called without a transaction")
			}
		}
		if m.Kind == ledger.MethodView {
			if found := l.hosts(l.direct[m.Name], "set", "del", "add", "emit"); found != nil {
				l.warn(RuleViewWrites, []string{m.Name}, f, 0, "the view can reach the host function %s, which a read-only call is denied: make it a tx, or take the write out", strings.Join(found, ", "))
			}
		}
	}
}

// scans looks for loops that open a scan in each turn, themselves or through what they call. An iterator that opens its scan
// when the first pair is asked for does so under a condition, beside the call for the next pair.
func (l *linter) scans() {
	if l.golang {
		return // its functions are loops over their own blocks
	}
	named := func(name string) func(f *wasmvm.Function) bool {
		return func(f *wasmvm.Function) bool { return f.HostName() == name }
	}
	any := func(*wasmvm.Function, wasmvm.Call) bool { return true }
	scans, nexts := l.callersOf(named("scan"), any), l.callersOf(named("scan_next"), any)
	eager := func(f *wasmvm.Function, c wasmvm.Call) bool {
		return !c.Guarded || !scans[c.Function] || !slices.ContainsFunc(f.Calls, func(next wasmvm.Call) bool {
			return next.Loop == c.Loop && next.Function != c.Function && nexts[next.Function]
		})
	}
	eagerly := l.callersOf(named("scan"), eager)
	// The loop in which such an iterator is asked is the scan: a loop around it, in the function or around a call of it, opens one in each turn.
	lazy := func(f *wasmvm.Function, c wasmvm.Call) bool {
		return nexts[c.Function] && (scans[c.Function] && !eagerly[c.Function] ||
			slices.ContainsFunc(f.Calls, func(open wasmvm.Call) bool {
				return open.Loop == c.Loop && open.Function != c.Function && scans[open.Function] && !eager(f, open)
			}))
	}
	// Where it is asked in an inner loop, or whatever asks it is called in a loop, it is mostly made anew in each turn. In Rust it is
	// closed where it was made, which tells, unless that is on the way out of a single loop.
	closes := l.callersOf(named("scan_close"), any)
	whole := func(f *wasmvm.Function, c wasmvm.Call) bool {
		if !l.rust {
			return c.Loop > 0 && lazy(f, c)
		}
		return lazy(f, c) && slices.ContainsFunc(f.Calls, func(end wasmvm.Call) bool { return closes[end.Function] })
	}
	again := func(f *wasmvm.Function, c wasmvm.Call) bool {
		return c.Depth > 1 && lazy(f, c) && (!l.rust || slices.ContainsFunc(f.Calls, func(end wasmvm.Call) bool {
			return closes[end.Function] && 0 < end.Loop && end.Loop <= c.Loop
		}))
	}
	opens := l.callersOf(func(f *wasmvm.Function) bool {
		return f.HostName() == "scan" || slices.ContainsFunc(f.Calls, func(c wasmvm.Call) bool { return whole(f, c) })
	}, eager)
	l.places(RuleScan, func(f *wasmvm.Function, c wasmvm.Call) bool {
		return c.Loop > 0 && opens[c.Function] && eager(f, c) || again(f, c)
	}, scanText)
}

// What is wrong with the places of rules.
const (
	scanText   = "each turn of a loop opens a scan, so its gas has no bound as the state grows: take one page with a limit, and let the caller ask for the next"
	statusText = "the status of a call to another contract is not looked at: a callee that failed has changed nothing, and this contract goes on as if it had"
	stateText  = "the state %q is read, and no method that refers to it writes anything: it always holds nothing. Write it, or take it out"
)

// statuses looks for calls to other contracts whose status is dropped, also by the callers of functions that return it.
func (l *linter) statuses() {
	if l.golang {
		return // results pass through memory
	}
	returns := l.callersOf(func(f *wasmvm.Function) bool { return f.HostName() == "call" || isSend(f) }, func(_ *wasmvm.Function, c wasmvm.Call) bool { return c.Tail })
	l.places(RuleStatus, func(_ *wasmvm.Function, c wasmvm.Call) bool {
		f := &l.a.Functions[c.Function]
		return returns[c.Function] && (c.Dropped || isSend(f) && f.Results == 0)
	}, statusText)
}

// isSend reports whether f is the method of the SDK for AssemblyScript that makes a call. The status is in the object that it
// returns; its compiler takes the result away if nobody uses it.
func isSend(f *wasmvm.Function) bool { return f.Name == "~lib/fondaco/call/Call#send" }

// callersOf returns the functions of a kind and those that reach them over calls of a kind.
func (l *linter) callersOf(is func(f *wasmvm.Function) bool, over func(f *wasmvm.Function, c wasmvm.Call) bool) map[int]bool {
	found := map[int]bool{}
	for i := range l.a.Functions {
		if is(&l.a.Functions[i]) {
			found[i] = true
		}
	}
	for grown := len(found) > 0; grown; {
		grown = false
		for i := range l.a.Functions {
			f := &l.a.Functions[i]
			if !found[i] && slices.ContainsFunc(f.Calls, func(c wasmvm.Call) bool { return found[c.Function] && over(f, c) }) {
				found[i], grown = true, true
			}
		}
	}
	return found
}

// places warns of calls that methods can reach.
func (l *linter) places(rule string, is func(f *wasmvm.Function, c wasmvm.Call) bool, text string) {
	n := 0
	for i := range l.a.Functions {
		f := &l.a.Functions[i]
		for _, c := range f.Calls {
			if !is(f, c) {
				continue
			}
			methods := l.methodsTo(i, l.all)
			if len(methods) == 0 {
				continue
			}
			if n++; n <= mostPlaces {
				l.warn(rule, methods, f, c.Offset, "%s", text)
			}
		}
	}
}

// state looks for prefixes that only methods without any write refer to.
func (l *linter) state() {
	if l.schema == nil || l.golang {
		return // Go's maps are made before the methods run
	}
	for _, def := range l.schema.State {
		name := strings.TrimSuffix(def.Prefix, "/")
		if len(name) < shortestKey {
			continue
		}
		addresses := l.addressesOf(name)
		refers := func(f *wasmvm.Function) bool { return refersTo(f, name, addresses) }
		if l.as {
			globals := l.globalsOf(addresses)
			refers = func(f *wasmvm.Function) bool {
				return slices.ContainsFunc(f.Reads, func(global int) bool { return globals[global] })
			}
		}
		readers, written := map[string]bool{}, false
		for i := range l.a.Functions {
			if !refers(&l.a.Functions[i]) {
				continue
			}
			for _, m := range l.methodsTo(i, l.all) {
				readers[m] = true
				written = written || l.hosts(l.all[m], "set", "add") != nil
			}
		}
		if len(readers) == 0 || written {
			continue
		}
		methods := make([]string, 0, len(readers))
		for m := range readers {
			methods = append(methods, m)
		}
		slices.Sort(methods)
		l.warn(RuleState, methods, nil, 0, stateText, name)
	}
}

// addressesOf returns where a text stands in the module's data, and where pointers to it stand with what precedes them in
// their structure.
func (l *linter) addressesOf(text string) map[uint64]bool {
	wide := make([]byte, 0, 2*len(text)) // as AssemblyScript keeps it
	for _, u := range utf16.Encode([]rune(text)) {
		wide = binary.LittleEndian.AppendUint16(wide, u)
	}
	wide = bytes.TrimSuffix(wide, []byte{0}) // its compiler leaves out zeros at a segment's end
	found := map[uint64]bool{}
	for _, s := range l.a.Data {
		for _, pattern := range [][]byte{[]byte(text), wide} {
			for at := 0; ; at++ {
				next := bytes.Index(s.Bytes[at:], pattern)
				if next < 0 {
					break
				}
				at += next
				found[uint64(s.Address)+uint64(at)] = true
			}
		}
	}
	const structure = 16 // bytes before a pointer that may belong to its structure
	var pointers []uint64
	for _, s := range l.a.Data {
		for at := 0; at+4 <= len(s.Bytes); at += 4 {
			if found[uint64(binary.LittleEndian.Uint32(s.Bytes[at:]))] {
				pointers = append(pointers, uint64(s.Address)+uint64(at))
			}
		}
	}
	for _, p := range pointers {
		for before := uint64(0); before <= structure && before <= p; before += 4 {
			found[p-before] = true
		}
	}
	return found
}

// globalsOf returns the globals that are set to what is made of a text at one of the addresses: in AssemblyScript state is
// in objects that are made before the methods run.
func (l *linter) globalsOf(addresses map[uint64]bool) map[int]bool {
	globals := map[int]bool{}
	for i := range l.a.Functions {
		for _, set := range l.a.Functions[i].Sets {
			if slices.ContainsFunc(set.Constants, func(c uint64) bool { return addresses[c] }) {
				globals[set.Global] = true
			}
		}
	}
	return globals
}

// refersTo reports whether a function's code has one of the addresses, or the beginning of text as a number, as compilers
// write short texts.
func refersTo(f *wasmvm.Function, text string, addresses map[uint64]bool) bool {
	begin := []byte(text[:min(len(text), 4)])
	for _, c := range f.Constants {
		if addresses[c] || bytes.Contains(binary.LittleEndian.AppendUint64(nil, c), begin) {
			return true
		}
	}
	return false
}

// floats names the functions with floating point. Those of Go's library are not the author's choice.
func (l *linter) floats() {
	n := 0
	for i := range l.a.Functions {
		f := &l.a.Functions[i]
		if f.Float == 0 || l.golang && (l.author == "" || !strings.HasPrefix(f.Name, l.author)) {
			continue
		}
		if n++; n <= mostPlaces {
			l.warn(RuleFloats, l.methodsTo(i, l.direct), f, f.Float,
				"%s: floating point is slow here and rounds amounts: count in the smallest unit with integers", f.FloatName)
		}
	}
	if n > mostPlaces {
		l.warn(RuleFloats, nil, nil, 0, "%d more functions use floating point", n-mostPlaces)
	}
}

// limits warns of what comes near a limit, and of memory that each call pays for.
func (l *linter) limits() {
	for _, u := range l.a.Limits {
		if u.Value*100 < u.Limit*nearLimit {
			continue
		}
		w := Warning{Rule: RuleLimit, Function: u.Function}
		w.Text = fmt.Sprintf("%d %s, of %d that nodes admit: split the contract, or make it smaller before it grows", u.Value, u.Name, u.Limit)
		l.warnings = append(l.warnings, w)
	}
	if l.a.Pages > mostPages && !l.golang {
		l.warn(RuleMemory, nil, nil, 0, "the memory starts with %d pages of 64 KiB, and every call pays for each: give the linker a smaller stack, such as -z stack-size=16384, and allocate on demand", l.a.Pages)
	}
	slices.SortStableFunc(l.warnings, func(x, y Warning) int { return cmp.Compare(x.Rule, y.Rule) })
}
