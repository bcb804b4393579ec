package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// ErrNoSource says that the sources of a module in Go are not at hand.
var ErrNoSource = errors.New("the sources of this module in Go are not at hand")

// LintSource looks in the sources in folder dir for what a module in Go does not show: RuleScan, RuleStatus and RuleState. Of
// modules in other languages Lint sees it. ErrNoSource says that the folder has not the sources that the module was built from.
func LintSource(ctx context.Context, dir string, code []byte) ([]Warning, error) {
	section, err := ledger.ModuleSection(code, ledger.BuildSection)
	var build ledger.Build
	if err != nil || section == nil || ledger.Unmarshal(section, &build) != nil || build.Language != "go" {
		return nil, nil
	}
	if l, err := languageOf(dir); err != nil || l.name != "go" {
		return nil, ErrNoSource
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("lint the contract in %s: %w", dir, err)
	}
	t, err := findToolchain(ctx)
	if err != nil {
		return nil, err
	}
	pkg, err := t.load(ctx, dir)
	if errors.Is(err, ErrSource) {
		return nil, ErrNoSource
	}
	if err != nil {
		return nil, fmt.Errorf("lint the contract in %s: %w", dir, err)
	}
	if digest, err := pkg.digest(); err != nil || digest != build.Source {
		return nil, ErrNoSource
	}
	m, err := newModel(pkg)
	if err != nil {
		return nil, fmt.Errorf("lint the contract in %s: %w", dir, err)
	}
	l := &goLinter{model: m, functions: map[types.Object]*goFunction{}, state: map[types.Object]*goState{}, scans: map[types.Object]bool{}}
	l.read()
	return l.warnings, nil
}

// goLinter reads the typed syntax of a contract's package.
type goLinter struct {
	*model
	functions map[types.Object]*goFunction
	order     []*goFunction
	state     map[types.Object]*goState // variables of the package that name state
	scans     map[types.Object]bool     // local variables that hold a scan which is not begun
	warnings  []Warning
}

// goFunction is a function or method of the package, with the function literals in it.
type goFunction struct {
	name    string
	method  string // of the contract; "": none
	body    *ast.BlockStmt
	calls   map[types.Object]bool // functions of the package that it mentions
	state   map[types.Object]bool // that it reads
	opens   bool                  // it begins a scan, itself or through what it mentions
	reached []string              // methods that reach it, sorted
}

type goState struct {
	name    string
	written bool // or used for what this linter does not follow
}

func (l *goLinter) read() {
	l.declarations()
	for _, f := range l.order {
		l.mentions(f)
	}
	for grown := true; grown; {
		grown = false
		for _, f := range l.order {
			for called := range f.calls {
				if g := l.functions[called]; g != nil && g.opens && !f.opens {
					f.opens, grown = true, true
				}
			}
		}
	}
	l.reach()
	for _, f := range l.order {
		if len(f.reached) > 0 {
			l.loops(f)
			l.statuses(f)
		}
	}
	l.unwritten()
	slices.SortStableFunc(l.warnings, func(x, y Warning) int {
		return cmp.Or(cmp.Compare(x.Rule, y.Rule), cmp.Compare(x.Place, y.Place), cmp.Compare(x.Text, y.Text))
	})
}

// declarations collects the functions, and the state by the variables that name it.
func (l *goLinter) declarations() {
	methods := map[string]string{}
	for _, m := range l.methods {
		methods[m.goName] = m.Name
	}
	for _, file := range l.files {
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				obj, ok := l.info.Defs[d.Name].(*types.Func)
				if !ok || d.Body == nil {
					continue
				}
				f := &goFunction{name: d.Name.Name, body: d.Body, calls: map[types.Object]bool{}, state: map[types.Object]bool{}}
				if recv := obj.Signature().Recv(); recv != nil && l.self != nil && isNamed(recv.Type(), l.self) {
					f.method = methods[d.Name.Name]
				}
				l.functions[obj] = f
				l.order = append(l.order, f)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR {
						l.stateOf(v)
					}
				}
			}
		}
	}
}

func isNamed(t types.Type, name *types.TypeName) bool {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	n, ok := t.(*types.Named)
	return ok && n.Obj() == name
}

// stateOf notes variables such as total = sdk.NewValue[uint64]("total").
func (l *goLinter) stateOf(spec *ast.ValueSpec) {
	for i, value := range spec.Values {
		call, ok := value.(*ast.CallExpr)
		named, isNamed := l.info.TypeOf(value).(*types.Named)
		if !ok || !isNamed || len(call.Args) != 1 || i >= len(spec.Names) || !slices.ContainsFunc(stateKinds, func(kind string) bool { return isSDK(named.Obj(), kind) }) {
			continue
		}
		if text := l.info.Types[call.Args[0]].Value; text != nil {
			l.state[l.info.Defs[spec.Names[i]]] = &goState{name: strings.Trim(text.ExactString(), `"`)}
		}
	}
}

// mentions collects what a function calls, reads and writes.
func (l *goLinter) mentions(f *goFunction) {
	known := map[*ast.Ident]bool{} // state of which a method is called
	ast.Inspect(f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			name, ok := n.X.(*ast.Ident)
			if state := l.state[l.info.Uses[name]]; ok && state != nil {
				switch n.Sel.Name {
				case "Get", "Lookup", "Has", "All", "From", "Backward":
					f.state[l.info.Uses[name]] = true
				case "Delete":
				default:
					state.written = true
				}
				known[name] = true
			}
		case *ast.AssignStmt:
			for i, value := range n.Rhs {
				if name, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) && l.isScan(value) {
					l.scans[l.objectOf(name)] = true
				}
			}
		case *ast.CallExpr:
			f.opens = f.opens || l.isScan(n)
		case *ast.Ident:
			use := l.info.Uses[n]
			if fn, ok := use.(*types.Func); ok {
				f.calls[fn.Origin()] = true
			}
			if state := l.state[use]; state != nil && !known[n] {
				state.written = true // passed on, or copied
			}
		}
		return true
	})
}

func (l *goLinter) objectOf(name *ast.Ident) types.Object {
	if def := l.info.Defs[name]; def != nil {
		return def
	}
	return l.info.Uses[name]
}

// isScan reports whether an expression is a scan of a map: a call of All, From or Backward, or a variable that holds one.
func (l *goLinter) isScan(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return l.scans[l.info.Uses[e]]
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		if ok && isSDK(l.info.Uses[sel.Sel], "Under") {
			return true
		}
		if !ok || !slices.Contains([]string{"All", "From", "Backward"}, sel.Sel.Name) {
			return false
		}
		t := l.info.TypeOf(sel.X)
		if p, ok := t.(*types.Pointer); ok {
			t = p.Elem()
		}
		named, ok := t.(*types.Named)
		return ok && (isSDK(named.Obj(), "Map") || isSDK(named.Obj(), "Balances"))
	}
	return false
}

// reach finds the methods through which a call gets to each function.
func (l *goLinter) reach() {
	for _, root := range l.order {
		if root.method == "" {
			continue
		}
		seen := map[*goFunction]bool{root: true}
		for queue := []*goFunction{root}; len(queue) > 0; {
			f := queue[0]
			queue = queue[1:]
			f.reached = append(f.reached, root.method)
			for called := range f.calls {
				if g := l.functions[called]; g != nil && !seen[g] {
					seen[g] = true
					queue = append(queue, g)
				}
			}
		}
	}
	for _, f := range l.order {
		slices.Sort(f.reached)
	}
}

func (l *goLinter) warn(rule string, f *goFunction, pos token.Pos, text string) {
	place := l.fset.Position(pos)
	l.warnings = append(l.warnings, Warning{
		Rule: rule, Methods: strings.Join(f.reached, ", "), Function: f.name,
		Place: fmt.Sprintf("%s:%d", filepath.Base(place.Filename), place.Line), Text: text,
	})
}

// loops looks for scans that begin in each turn of a loop.
func (l *goLinter) loops(f *goFunction) {
	var visit func(n ast.Node, looping bool)
	visit = func(root ast.Node, looping bool) {
		ast.Inspect(root, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ForStmt:
				if n.Init != nil {
					visit(n.Init, looping)
				}
				for _, each := range []ast.Node{n.Cond, n.Post, n.Body} {
					if each != nil {
						visit(each, true)
					}
				}
				return false
			case *ast.RangeStmt:
				if name, ok := ast.Unparen(n.X).(*ast.Ident); ok && looping && l.isScan(name) {
					l.warn(RuleScan, f, n.Pos(), scanText)
				}
				visit(n.X, looping)
				visit(n.Body, true)
				return false
			case *ast.CallExpr:
				if looping && (l.isScan(n) || l.opens(n)) {
					l.warn(RuleScan, f, n.Pos(), scanText)
				}
			}
			return true
		})
	}
	visit(f.body, false)
}

// opens reports whether a call is of a function of the package that begins a scan.
func (l *goLinter) opens(call *ast.CallExpr) bool {
	var name *ast.Ident
	switch fun := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		name = fun
	case *ast.SelectorExpr:
		name = fun.Sel
	case *ast.IndexExpr: // of a generic function
		name, _ = fun.X.(*ast.Ident)
	}
	if name == nil {
		return false
	}
	fn, ok := l.info.Uses[name].(*types.Func)
	return ok && l.functions[fn.Origin()] != nil && l.functions[fn.Origin()].opens
}

// statuses looks for results of calls to other contracts that nobody looks at: dropped, or with no more of them used than the data.
func (l *goLinter) statuses(f *goFunction) {
	results := map[types.Object]token.Pos{} // variables, by where they get a result
	looked := map[types.Object]bool{}
	data := map[*ast.Ident]bool{} // variables in x.Data
	is := func(e ast.Expr) bool {
		call, ok := ast.Unparen(e).(*ast.CallExpr)
		named, isNamed := l.info.TypeOf(e).(*types.Named)
		return ok && isNamed && isSDK(named.Obj(), "Result") && call != nil
	}
	ast.Inspect(f.body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ExprStmt:
			if is(n.X) {
				l.warn(RuleStatus, f, n.Pos(), statusText)
			}
		case *ast.DeferStmt:
			if is(n.Call) {
				l.warn(RuleStatus, f, n.Pos(), statusText)
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				name, ok := left.(*ast.Ident)
				if !ok {
					continue
				}
				data[name] = true // to be set is no look
				switch {
				case len(n.Lhs) != len(n.Rhs):
				case name.Name == "_" && is(n.Rhs[i]):
					l.warn(RuleStatus, f, n.Pos(), statusText)
				case name.Name == "_":
					if right, ok := ast.Unparen(n.Rhs[i]).(*ast.Ident); ok {
						data[right] = true
					}
				case is(n.Rhs[i]):
					results[l.objectOf(name)] = n.Pos()
				}
			}
		case *ast.FuncType: // results with names are returned
			if n.Results != nil {
				for _, field := range n.Results.List {
					for _, name := range field.Names {
						looked[l.info.Defs[name]] = true
					}
				}
			}
		case *ast.SelectorExpr:
			name, ok := n.X.(*ast.Ident)
			if ok && n.Sel.Name == "Data" {
				data[name] = true
			}
			if is(n.X) && n.Sel.Name == "Data" {
				l.warn(RuleStatus, f, n.Pos(), statusText)
			}
		case *ast.Ident:
			if !data[n] {
				looked[l.info.Uses[n]] = true
			}
		}
		return true
	})
	for variable, pos := range results {
		if !looked[variable] && f.body.Pos() < variable.Pos() && variable.Pos() < f.body.End() {
			l.warn(RuleStatus, f, pos, statusText)
		}
	}
}

// unwritten looks for state that is read, and that no function writes.
func (l *goLinter) unwritten() {
	for variable, state := range l.state {
		if state.written {
			continue
		}
		var methods []string
		for _, f := range l.order {
			if f.state[variable] {
				methods = append(methods, f.reached...)
			}
		}
		slices.Sort(methods)
		if methods = slices.Compact(methods); len(methods) > 0 {
			l.warnings = append(l.warnings, Warning{Rule: RuleState, Methods: strings.Join(methods, ", "), Text: fmt.Sprintf(stateText, state.name)})
		}
	}
}
