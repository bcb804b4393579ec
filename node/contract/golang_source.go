package contract

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/fondaco/fondaco/state/ledger"
)

const sdkPath = "github.com/fondaco/fondaco/sdk-contracts/go"

// model is what the source says about the contract.
type model struct {
	fset    *token.FileSet
	pkg     *types.Package
	files   []*ast.File
	info    *types.Info
	schema  *ledger.Schema
	self    *types.TypeName // the contract struct
	methods []method
	errors  []coded
	events  []*types.TypeName
	named   []*types.TypeName        // types that need codecs, each after those it is made of
	values  []*types.TypeName        // types of values of state
	keys    []*types.TypeName        // types that need key codecs
	enums   map[*types.TypeName]int  // number of constants
	state   map[*types.TypeName]bool // types being looked at (false) or done (true)
	faults  []error
}

type method struct {
	ledger.Method
	goName  string
	pointer bool // the receiver is a pointer
	args    []types.Type
	result  types.Type // nil when there is none
	fails   bool       // the last result is an error
}

type coded struct {
	name *types.TypeName
	code uint32
}

// fault records what is wrong with the source, at a place.
func (m *model) fault(pos token.Pos, format string, args ...any) {
	if len(m.faults) < 20 {
		m.faults = append(m.faults, fmt.Errorf("%w: %s: %s", ErrSource, m.fset.Position(pos), fmt.Sprintf(format, args...)))
	}
}

func newModel(p *goPackage) (*model, error) {
	m := &model{
		fset: token.NewFileSet(), enums: map[*types.TypeName]int{}, state: map[*types.TypeName]bool{},
		info:   &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}, Instances: map[*ast.Ident]types.Instance{}},
		schema: &ledger.Schema{ABI: ledger.ContractABI, Name: p.Name, Profile: "std"},
	}
	if p.Module != nil {
		m.schema.Version = p.Module.Version
	}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(m.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSource, err)
		}
		m.files = append(m.files, f)
	}
	open := func(path string) (io.ReadCloser, error) {
		if file := p.exports[path]; file != "" {
			return os.Open(file)
		}
		return nil, fmt.Errorf("no export data of %s", path)
	}
	config := types.Config{
		Importer: importer.ForCompiler(m.fset, "gc", open),
		Sizes:    types.SizesFor("gc", "wasm"),
		Error: func(err error) {
			if len(m.faults) < 20 {
				m.faults = append(m.faults, fmt.Errorf("%w: %w", ErrSource, err))
			}
		},
	}
	m.pkg, _ = config.Check(p.ImportPath, m.fset, m.files, m.info) // its errors are in faults
	if len(m.faults) > 0 {
		return nil, errors.Join(m.faults...)
	}
	if v, ok := m.pkg.Scope().Lookup("Version").(*types.Const); ok && v.Val().Kind() == constant.String {
		m.schema.Version = constant.StringVal(v.Val())
	}
	m.read()
	if len(m.faults) > 0 {
		return nil, errors.Join(m.faults...)
	}
	return m, nil
}

// read walks the declarations in the order of the files: types first, as methods refer to them.
func (m *model) read() {
	for _, f := range m.files {
		if f.Doc != nil && m.schema.Doc == "" {
			m.schema.Doc = firstSentence(f.Doc)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				m.readGeneral(g)
			}
		}
	}
	for _, f := range m.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				m.readFunc(fn)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if isSDK(m.info.Uses[sel.Sel], "Random") {
				m.schema.Random = true
			}
			if isSDK(m.info.Uses[sel.Sel], "Returned") { // of a type that needs a codec as values of state do
				m.stateType(m.info.Instances[sel.Sel].TypeArgs.At(0), sel.Pos())
			}
			return true
		})
	}
	if m.self == nil && len(m.faults) == 0 {
		m.faults = append(m.faults, fmt.Errorf("%w: package %s has no method with //chain:tx, //chain:view or //chain:init above it", ErrSource, m.pkg.Name()))
	}
	slices.SortFunc(m.errors, func(a, b coded) int { return int(a.code) - int(b.code) })
	slices.SortFunc(m.schema.Errors, func(a, b ledger.ErrorDef) int { return int(a.Code) - int(b.Code) })
	slices.SortFunc(m.schema.State, func(a, b ledger.StateDef) int { return strings.Compare(a.Prefix, b.Prefix) })
	for i := 1; i < len(m.schema.Errors); i++ {
		if a, b := m.schema.Errors[i-1], m.schema.Errors[i]; a.Code == b.Code {
			m.fault(m.errors[i].name.Pos(), "%s and %s have the same code %d", a.Name, b.Name, a.Code)
		}
	}
	for i := 1; i < len(m.schema.State); i++ {
		switch a, b := m.schema.State[i-1], m.schema.State[i]; {
		case a.Prefix == b.Prefix:
			m.fault(m.self.Pos(), "two values or maps of state are named %q", strings.TrimSuffix(a.Prefix, "/"))
		case len(a.Key) > 0 && strings.HasPrefix(b.Prefix, a.Prefix):
			m.fault(m.self.Pos(), "the state %q may have keys of the map %q: rename one", strings.TrimSuffix(b.Prefix, "/"), strings.TrimSuffix(a.Prefix, "/"))
		}
	}
}

func isSDK(obj types.Object, name string) bool {
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == sdkPath && obj.Name() == name
}

func (m *model) readGeneral(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			doc := s.Doc
			if doc == nil {
				doc = g.Doc
			}
			m.readType(s, doc)
		case *ast.ValueSpec:
			if g.Tok == token.VAR {
				for _, value := range s.Values {
					m.readState(value, s.Doc)
				}
			}
		}
	}
}

// readType records events and errors.
func (m *model) readType(s *ast.TypeSpec, doc *ast.CommentGroup) {
	name, ok := m.info.Defs[s.Name].(*types.TypeName)
	if !ok {
		return
	}
	kind, words := m.directive(doc)
	base := embedded(name.Type())
	switch {
	case base == "Event":
		if kind != "" && kind != "event" {
			m.fault(s.Pos(), "%s embeds sdk.Event, so its directive is //chain:event, not //chain:%s", name.Name(), kind)
			return
		}
		fields := m.structFields(name)
		e := ledger.EventDef{Topic: name.Name(), Fields: fields, Indexed: m.option(s.Pos(), words, "indexed")}
		e.Doc = firstSentence(doc)
		m.schema.Events = append(m.schema.Events, e)
		m.events = append(m.events, name)
	case base == "Refusal":
		if kind != "error" || len(words) != 1 {
			m.fault(s.Pos(), "%s embeds sdk.Refusal: give its abort code in a line above it, such as //chain:error 1001", name.Name())
			return
		}
		code, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil || code < ledger.FirstContractCode {
			m.fault(s.Pos(), "abort code %q of %s: a contract's codes are numbers from %d", words[0], name.Name(), ledger.FirstContractCode)
			return
		}
		e := ledger.ErrorDef{Code: uint32(code), Name: name.Name(), Fields: m.structFields(name)}
		e.Doc = firstSentence(doc)
		m.schema.Errors = append(m.schema.Errors, e)
		m.errors = append(m.errors, coded{name, uint32(code)})
	case kind != "":
		m.fault(s.Pos(), "//chain:%s above the type %s: events embed sdk.Event, errors embed sdk.Refusal, the other directives belong to methods", kind, name.Name())
	}
}

// embedded returns which of the SDK's marker structs a struct embeds.
func embedded(t types.Type) string {
	st, ok := t.Underlying().(*types.Struct)
	if !ok {
		return ""
	}
	for f := range st.Fields() {
		for _, marker := range []string{"Event", "Refusal"} {
			if f.Embedded() && f.Name() == marker {
				if n, ok := f.Type().(*types.Named); ok && isSDK(n.Obj(), marker) {
					return marker
				}
			}
		}
	}
	return ""
}

// structFields returns the fields of an event or error, without the marker.
func (m *model) structFields(name *types.TypeName) []ledger.Field {
	if !slices.Contains(m.named, name) {
		m.named = append(m.named, name)
	}
	return m.fields(name)
}

func (m *model) fields(name *types.TypeName) []ledger.Field {
	var fields []ledger.Field
	st := name.Type().Underlying().(*types.Struct) //nolint:forcetypeassert // callers checked
	for f := range st.Fields() {
		switch {
		case marker(f):
		case f.Embedded():
			m.fault(f.Pos(), "%s embeds %s: give the field a name", name.Name(), f.Name())
		case !f.Exported():
			m.fault(f.Pos(), "field %s of %s would be lost: give it a capital letter", f.Name(), name.Name())
		default:
			fields = append(fields, ledger.Field{Name: snake(f.Name()), Type: m.typeOf(f.Type(), f.Pos())})
		}
	}
	return fields
}

// marker reports whether f is an embedded sdk.Event or sdk.Refusal.
func marker(f *types.Var) bool {
	n, ok := f.Type().(*types.Named)
	return ok && f.Embedded() && (isSDK(n.Obj(), "Event") || isSDK(n.Obj(), "Refusal"))
}

// stateKinds are the types of the SDK that keep state.
var stateKinds = []string{"Map", "Balances", "Value", "Counter"}

// readState records sdk.NewMap[K, V]("name") and its like at package level.
func (m *model) readState(value ast.Expr, doc *ast.CommentGroup) {
	call, ok := value.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return
	}
	named, ok := m.info.Types[value].Type.(*types.Named)
	if !ok || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != sdkPath {
		return
	}
	kind := named.Obj().Name()
	if !slices.Contains(stateKinds, kind) {
		return
	}
	text := m.info.Types[call.Args[0]].Value
	if text == nil || text.Kind() != constant.String {
		m.fault(call.Pos(), "the name of a state %s must be a constant string: the schema states it", strings.ToLower(kind))
		return
	}
	def := ledger.StateDef{Prefix: constant.StringVal(text), Doc: firstSentence(doc)}
	switch kind {
	case "Counter":
		def.Value = "i64"
	case "Value":
		def.Value = m.stateType(named.TypeArgs().At(0), call.Pos())
	case "Balances":
		def.Prefix += "/"
		def.Key = m.keyParts(named.TypeArgs().At(0), call.Pos())
		def.Value = "u128"
	case "Map":
		def.Prefix += "/"
		def.Key = m.keyParts(named.TypeArgs().At(0), call.Pos())
		def.Value = m.stateType(named.TypeArgs().At(1), call.Pos())
	}
	m.schema.State = append(m.schema.State, def)
}

// stateType is typeOf for values of state and what other contracts return, which find their codec as a method: unnamed lists and
// pointers have none.
func (m *model) stateType(t types.Type, pos token.Pos) ledger.Type {
	switch u := types.Unalias(t).(type) {
	case *types.Named:
		if u.Obj().Pkg() == m.pkg && !slices.Contains(m.values, u.Obj()) {
			m.values = append(m.values, u.Obj())
		}
	case *types.Slice:
		if !isByte(u.Elem()) {
			m.fault(pos, "neither a value of state nor what a call returned can be of the unnamed type %s: name it, as in: type Items %s", m.show(t), m.show(t))
		}
	case *types.Pointer, *types.Array:
		m.fault(pos, "neither a value of state nor what a call returned can be of type %s: use a named type", m.show(t))
	}
	return m.typeOf(t, pos)
}

// keyParts returns the parts of a map's key.
func (m *model) keyParts(t types.Type, pos token.Pos) []ledger.Type {
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg().Path() == sdkPath {
		return []ledger.Type{m.keyPart(t, pos)}
	}
	if named.Obj().Pkg() != m.pkg {
		m.fault(pos, "the key type %s belongs to another package: declare one in this package", m.show(t))
		return nil
	}
	if !slices.Contains(m.keys, named.Obj()) {
		m.keys = append(m.keys, named.Obj())
	}
	st, ok := named.Underlying().(*types.Struct)
	if !ok {
		return []ledger.Type{m.keyPart(named.Underlying(), pos)}
	}
	var parts []ledger.Type
	for i := range st.NumFields() {
		f := st.Field(i)
		part := m.keyPart(f.Type(), f.Pos())
		if (part == "str" || part == "bytes") && i < st.NumFields()-1 && !isArray(f.Type()) {
			m.fault(f.Pos(), "field %s of the key %s has no fixed length: only the last field may be a string or []byte", f.Name(), named.Obj().Name())
		}
		parts = append(parts, part)
	}
	return parts
}

func isArray(t types.Type) bool {
	_, ok := t.Underlying().(*types.Array)
	return ok
}

func (m *model) keyPart(t types.Type, pos token.Pos) ledger.Type {
	switch u := t.Underlying().(type) {
	case *types.Basic, *types.Slice, *types.Array:
		if named, ok := types.Unalias(t).(*types.Named); ok && named.Obj().Pkg() == m.pkg {
			t = u // an enum's key is its number
		}
	case *types.Struct:
		if n, ok := types.Unalias(t).(*types.Named); !ok || !isSDK(n.Obj(), "U128") {
			m.fault(pos, "%s cannot be part of a key: keys are integers, strings, []byte, sdk.Addr, sdk.Hash and sdk.U128", m.show(t))
			return "bytes"
		}
	}
	part := m.typeOf(t, pos)
	if part == "bool" || strings.Contains(string(part), "<") {
		m.fault(pos, "%s cannot be part of a key: keys are integers, strings, []byte, sdk.Addr, sdk.Hash and sdk.U128", m.show(t))
		return "bytes"
	}
	return part
}

func isByte(t types.Type) bool {
	b, ok := types.Unalias(t).(*types.Basic)
	return ok && b.Kind() == types.Uint8
}

func (m *model) show(t types.Type) string { return types.TypeString(t, types.RelativeTo(m.pkg)) }

// typeOf returns the schema's type for t and records the named types that t is made of.
func (m *model) typeOf(t types.Type, pos token.Pos) ledger.Type {
	t = types.Unalias(t)
	switch t := t.(type) {
	case *types.Named:
		return m.namedType(t, pos)
	case *types.Basic:
		switch t.Kind() {
		case types.Bool:
			return "bool"
		case types.String:
			return "str"
		case types.Uint8, types.Uint16, types.Uint32, types.Uint64:
			return ledger.Type("u" + t.Name()[strings.IndexAny(t.Name(), "1368"):])
		case types.Int8, types.Int16, types.Int32, types.Int64:
			return ledger.Type("i" + t.Name()[strings.IndexAny(t.Name(), "1368"):])
		case types.Int, types.Uint, types.Uintptr:
			m.fault(pos, "%s has no stated width: use uint64, int64, or sdk.U128 for amounts", t.Name())
		case types.Float32, types.Float64:
			m.fault(pos, "%s: contracts have no floating point in values: use sdk.U128 in the smallest unit", t.Name())
		default:
			m.fault(pos, "a contract's value cannot be %s", t)
		}
		return "u64"
	case *types.Slice:
		if isByte(t.Elem()) {
			return "bytes"
		}
		return "list<" + m.typeOf(t.Elem(), pos) + ">"
	case *types.Array:
		if !isByte(t.Elem()) {
			m.fault(pos, "%s: only arrays of bytes have a fixed length: use a slice", m.show(t))
		}
		return "bytes"
	case *types.Pointer:
		inner := m.typeOf(t.Elem(), pos)
		if strings.HasPrefix(string(inner), "opt<") {
			m.fault(pos, "%s has two ways to be absent", m.show(t))
			return inner
		}
		return "opt<" + inner + ">"
	case *types.Map:
		m.fault(pos, "%s: maps have no order of their own: use a slice of structs, or sdk.Map for state", m.show(t))
	default:
		m.fault(pos, "a contract's value cannot be %s", m.show(t))
	}
	return "u64"
}

func (m *model) namedType(t *types.Named, pos token.Pos) ledger.Type {
	name := t.Obj()
	if name.Pkg() != nil && name.Pkg().Path() == sdkPath {
		switch name.Name() {
		case "Addr":
			return "addr"
		case "U128":
			return "u128"
		case "Hash":
			return "bytes"
		}
		m.fault(pos, "a contract's value cannot be sdk.%s", name.Name())
		return "u64"
	}
	if name.Pkg() != m.pkg || t.TypeArgs().Len() > 0 {
		m.fault(pos, "%s belongs to another package or is generic: declare a type in this package", m.show(t))
		return "u64"
	}
	if !name.Exported() {
		m.fault(pos, "%s appears in the schema: give it a capital letter", name.Name())
		return "u64"
	}
	if done, seen := m.state[name]; seen && !done {
		m.fault(pos, "%s contains itself", name.Name())
		return "u64"
	}
	result := ledger.Type(name.Name())
	_, isStruct := t.Underlying().(*types.Struct)
	constants := m.constants(name)
	if m.state[name] {
		if !isStruct && constants == nil {
			return m.typeOf(t.Underlying(), pos)
		}
		return result
	}
	m.state[name] = false
	switch {
	case isStruct && embedded(t) != "":
		m.fault(pos, "%s is an event or error, and cannot be a value as well", name.Name())
	case isStruct:
		m.schema.Types = append(m.schema.Types, ledger.TypeDef{Name: name.Name(), Fields: m.fields(name)})
	case constants != nil:
		def := ledger.TypeDef{Name: name.Name()}
		for _, c := range constants {
			def.Variants = append(def.Variants, ledger.Variant{Name: c})
		}
		m.schema.Types = append(m.schema.Types, def)
		m.enums[name] = len(constants)
	default:
		result = m.typeOf(t.Underlying(), pos)
	}
	m.state[name] = true
	m.named = append(m.named, name)
	return result
}

// constants returns the names of the constants of a named integer type when they count from 0 without a gap:
// then the type is an enum.
func (m *model) constants(name *types.TypeName) []string {
	if b, ok := name.Type().Underlying().(*types.Basic); !ok || b.Info()&types.IsInteger == 0 || b.Kind() == types.Int || b.Kind() == types.Uint || b.Kind() == types.Uintptr {
		return nil
	}
	byValue := map[uint64]string{}
	scope := m.pkg.Scope()
	for _, n := range scope.Names() { // sorted
		c, ok := scope.Lookup(n).(*types.Const)
		if !ok || c.Type() != name.Type() {
			continue
		}
		v, exact := constant.Uint64Val(constant.ToInt(c.Val()))
		if !exact || byValue[v] != "" {
			return nil
		}
		byValue[v] = n
	}
	var names []string
	for i := range uint64(len(byValue)) {
		if byValue[i] == "" {
			return nil
		}
		names = append(names, byValue[i])
	}
	return names
}

// readFunc records a method with a directive.
func (m *model) readFunc(fn *ast.FuncDecl) {
	kind, words := m.directive(fn.Doc)
	switch kind {
	case "":
		return
	case "tx", "view", "init", "upgrade":
	default:
		m.fault(fn.Pos(), "//chain:%s above a function: want tx, view, init or upgrade", kind)
		return
	}
	obj, ok := m.info.Defs[fn.Name].(*types.Func)
	if !ok {
		return
	}
	sig := obj.Signature()
	if sig.Recv() == nil {
		m.fault(fn.Pos(), "%s needs a receiver: a contract's methods belong to one struct", fn.Name.Name)
		return
	}
	receiver, pointer := sig.Recv().Type(), false
	if p, ok := receiver.(*types.Pointer); ok {
		receiver, pointer = p.Elem(), true
	}
	named, ok := receiver.(*types.Named)
	if !ok {
		return
	}
	if m.self == nil {
		m.self = named.Obj()
	}
	if st, ok := named.Underlying().(*types.Struct); m.self != named.Obj() || !ok || st.NumFields() > 0 {
		m.fault(fn.Pos(), "%s belongs to %s: a contract's methods belong to one struct without fields (%s); keep state in sdk.Value and sdk.Map", fn.Name.Name, named.Obj().Name(), m.self.Name())
		return
	}
	if !fn.Name.IsExported() {
		m.fault(fn.Pos(), "%s has a directive: give it a capital letter", fn.Name.Name)
	}
	out := method{Method: ledger.Method{Name: snake(fn.Name.Name), Kind: ledger.MethodKind(kind), Doc: firstSentence(fn.Doc)}, goName: fn.Name.Name, pointer: pointer}
	if kind == "init" || kind == "upgrade" {
		out.Name = kind
	} else if out.Name == "init" || out.Name == "upgrade" {
		m.fault(fn.Pos(), "the name %s is kept for the life cycle: write //chain:%s above it, or rename it", out.Name, out.Name)
	}
	out.Roles = m.option(fn.Pos(), words, "roles")
	out.Conflicts = m.option(fn.Pos(), words, "conflicts")
	m.signature(fn, sig, &out)
	m.schema.Methods = append(m.schema.Methods, out.Method)
	m.methods = append(m.methods, out)
}

func (m *model) signature(fn *ast.FuncDecl, sig *types.Signature, out *method) {
	params := sig.Params()
	if sig.Variadic() {
		m.fault(fn.Pos(), "%s: a method takes a slice instead of a variable number of arguments", fn.Name.Name)
	}
	first := params.Len() > 0
	if first {
		n, ok := params.At(0).Type().(*types.Named)
		first = ok && isSDK(n.Obj(), "Ctx")
	}
	if !first {
		m.fault(fn.Pos(), "%s: the first parameter is an sdk.Ctx", fn.Name.Name)
		return
	}
	for i := 1; i < params.Len(); i++ {
		p := params.At(i)
		if p.Name() == "" || p.Name() == "_" {
			m.fault(p.Pos(), "%s: parameter %d needs a name: callers see it", fn.Name.Name, i)
			continue
		}
		out.Args = append(out.Args, ledger.Field{Name: snake(p.Name()), Type: m.typeOf(p.Type(), p.Pos())})
		out.args = append(out.args, p.Type())
	}
	results := sig.Results()
	n := results.Len()
	if n > 0 && types.Identical(results.At(n-1).Type(), types.Universe.Lookup("error").Type()) {
		out.fails = true
		n--
	}
	switch n {
	case 0:
	case 1:
		out.result = results.At(0).Type()
		out.Return = m.typeOf(out.result, results.At(0).Pos())
	default:
		m.fault(fn.Pos(), "%s returns %d values: a method returns at most one, and an error; use a struct", fn.Name.Name, n)
	}
	if (out.Kind == ledger.MethodInit || out.Kind == ledger.MethodUpgrade) && out.result != nil {
		m.fault(fn.Pos(), "%s runs in the life cycle and returns at most an error", fn.Name.Name)
	}
}

// directive returns the kind and the words after it of the //chain: line in a doc comment.
func (m *model) directive(doc *ast.CommentGroup) (kind string, words []string) {
	if doc == nil {
		return "", nil
	}
	for _, c := range doc.List {
		text, ok := strings.CutPrefix(c.Text, "//chain:")
		if !ok {
			continue
		}
		if kind != "" {
			m.fault(c.Pos(), "two //chain: lines")
		}
		parts := strings.Fields(text)
		if len(parts) == 0 {
			m.fault(c.Pos(), "//chain: of what: tx, view, init, upgrade, event or error")
			continue
		}
		kind, words = parts[0], parts[1:]
		for _, w := range words {
			name, _, _ := strings.Cut(w, "=")
			allowed := map[string]bool{"roles": true, "conflicts": true}
			switch kind {
			case "event":
				allowed = map[string]bool{"indexed": true}
			case "error":
				continue
			}
			if !allowed[name] {
				m.fault(c.Pos(), "//chain:%s has no option %q", kind, name)
			}
		}
	}
	return kind, words
}

// option returns the comma-separated list after name= among words.
func (m *model) option(pos token.Pos, words []string, name string) []string {
	for _, w := range words {
		if text, ok := strings.CutPrefix(w, name+"="); ok {
			list := strings.Split(text, ",")
			if slices.Contains(list, "") {
				m.fault(pos, "%s has an empty entry", w)
			}
			return list
		}
	}
	return nil
}

// sdkVersion is the version of the SDK that the contract was compiled with.
func (m *model) sdkVersion() string {
	for _, p := range m.pkg.Imports() {
		if p.Path() == sdkPath {
			if v, ok := p.Scope().Lookup("Version").(*types.Const); ok {
				return constant.StringVal(v.Val())
			}
		}
	}
	return ""
}

// firstSentence returns a comment's first paragraph on one line, without directives.
func firstSentence(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	paragraph, _, _ := strings.Cut(doc.Text(), "\n\n")
	text := strings.Join(strings.Fields(paragraph), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// snake turns BalanceOf into balance_of, and TxID into tx_id.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			next := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if previous := runes[i-1]; previous != '_' && (!unicode.IsUpper(previous) || next) {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
