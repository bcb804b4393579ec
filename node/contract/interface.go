package contract

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// interfaceSection is the custom section that holds the interface text, which ../../sdk-contracts/INTERFACE.md describes.
const interfaceSection = "fondaco.interface"

// Bounds on the interface text. What it makes is bounded by ledger.MaxSchemaSize.
const (
	maxInterface   = 512 << 10 // bytes
	maxTypeNesting = 16        // type constructors within one another
)

// ParseInterface makes a schema of an interface text. Methods, events and types keep the text's order, but each type comes
// after those that it is made of; errors are sorted by code, state by prefix. An error names the line.
func ParseInterface(text []byte, profile string) (*ledger.Schema, error) {
	if len(text) > maxInterface {
		return nil, fmt.Errorf("interface text of %d bytes, at most %d", len(text), maxInterface)
	}
	t := &interfaceText{schema: &ledger.Schema{ABI: ledger.ContractABI, Profile: profile}}
	for i, line := range bytes.Split(bytes.ReplaceAll(text, []byte{0}, []byte{'\n'}), []byte{'\n'}) {
		p := &lineParser{rest: string(line)}
		if p.spaces(); p.rest == "" || p.rest[0] == '#' {
			continue
		}
		if err := t.declare(p); err != nil {
			return nil, fmt.Errorf("interface line %d: %w in: %s", i+1, err, shortened(line))
		}
	}
	if t.schema.Name == "" {
		return nil, errors.New("interface: no line names the contract, such as: contract token 1.0.0")
	}
	types, err := sortTypes(t.schema.Types)
	if err != nil {
		return nil, fmt.Errorf("interface: %w", err)
	}
	t.schema.Types = types
	slices.SortStableFunc(t.schema.Errors, func(a, b ledger.ErrorDef) int { return cmp.Compare(a.Code, b.Code) })
	slices.SortStableFunc(t.schema.State, func(a, b ledger.StateDef) int { return strings.Compare(a.Prefix, b.Prefix) })
	if err := t.schema.Validate(); err != nil {
		return nil, fmt.Errorf("interface: %w", err)
	}
	return t.schema, nil
}

// shortened returns a line for an error.
func shortened(line []byte) string {
	if len(line) > 120 {
		return strings.ToValidUTF8(string(line[:120]), "") + " …"
	}
	return string(line)
}

// interfaceText collects what the lines declare.
type interfaceText struct {
	schema *ledger.Schema
}

// declare reads one declaration.
func (t *interfaceText) declare(p *lineParser) error {
	s := t.schema
	keyword, err := p.name()
	if err != nil {
		return errors.New("no keyword: want contract, struct, enum, init, upgrade, tx, view, event, error, state, profile or random")
	}
	switch keyword {
	case "contract":
		if s.Name != "" {
			return fmt.Errorf("the contract is named a second time; it is %q already", s.Name)
		}
		if s.Name, err = p.name(); err != nil {
			return err
		}
		s.Version = p.word()
		s.Doc, err = p.end()
		return err
	case "profile":
		if s.Profile = p.word(); s.Profile != "strict" && s.Profile != "std" {
			return fmt.Errorf("profile %q: want strict or std", s.Profile)
		}
		_, err = p.end()
		return err
	case "random":
		s.Random = true
		_, err = p.end()
		return err
	case "struct", "enum":
		def := ledger.TypeDef{}
		if def.Name, err = p.name(); err != nil {
			return err
		}
		if keyword == "struct" {
			def.Fields, err = p.fields()
		} else {
			def.Variants, err = p.variants()
		}
		if err != nil {
			return err
		}
		s.Types = append(s.Types, def)
		_, err = p.end()
		return err
	case "init", "upgrade", "tx", "view":
		m := ledger.Method{Name: keyword, Kind: ledger.MethodKind(keyword)}
		if err := p.method(&m); err != nil {
			return err
		}
		s.Methods = append(s.Methods, m)
		return nil
	case "event":
		e := ledger.EventDef{}
		if e.Topic, err = p.name(); err != nil {
			return err
		}
		if e.Fields, err = p.fields(); err != nil {
			return err
		}
		if p.keyword("indexed") {
			if e.Indexed, err = p.names(); err != nil {
				return err
			}
		}
		e.Doc, err = p.end()
		s.Events = append(s.Events, e)
		return err
	case "error":
		e := ledger.ErrorDef{}
		code := p.word()
		number, err := strconv.ParseUint(code, 10, 32)
		if err != nil || number < ledger.FirstContractCode {
			return fmt.Errorf("abort code %q: a contract's codes are numbers from %d", code, ledger.FirstContractCode)
		}
		e.Code = uint32(number)
		if e.Name, err = p.name(); err != nil {
			return err
		}
		if e.Fields, err = p.fields(); err != nil {
			return err
		}
		e.Doc, err = p.end()
		s.Errors = append(s.Errors, e)
		return err
	case "state":
		e := ledger.StateDef{}
		if err := p.state(&e); err != nil {
			return err
		}
		s.State = append(s.State, e)
		return nil
	}
	return fmt.Errorf("unknown keyword %q: want contract, struct, enum, init, upgrade, tx, view, event, error, state, profile or random", keyword)
}

// sortTypes puts each type after those it is made of, and keeps the order of the text otherwise.
func sortTypes(types []ledger.TypeDef) ([]ledger.TypeDef, error) {
	index := map[string]int{}
	for i, d := range types {
		if _, twice := index[d.Name]; twice {
			return nil, fmt.Errorf("type %q is declared twice", d.Name)
		}
		index[d.Name] = i
	}
	const visiting, done = 1, 2
	state := make([]int, len(types))
	sorted := make([]ledger.TypeDef, 0, len(types))
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case done:
			return nil
		case visiting:
			return fmt.Errorf("type %q contains itself", types[i].Name)
		}
		state[i] = visiting
		fields := slices.Clone(types[i].Fields)
		for _, v := range types[i].Variants {
			fields = append(fields, v.Fields...)
		}
		for _, f := range fields {
			for _, name := range strings.FieldsFunc(string(f.Type), func(c rune) bool { return c == '<' || c == '>' || c == ',' }) {
				if used, ok := index[name]; ok {
					if err := visit(used); err != nil {
						return err
					}
				}
			}
		}
		state[i] = done
		sorted = append(sorted, types[i])
		return nil
	}
	for i := range types {
		if err := visit(i); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}

// lineParser reads words off a line.
type lineParser struct{ rest string }

func (p *lineParser) spaces() { p.rest = strings.TrimLeft(p.rest, " \t\r") }

// next reports whether the line goes on with a sign, and reads it.
func (p *lineParser) next(sign string) bool {
	p.spaces()
	rest, ok := strings.CutPrefix(p.rest, sign)
	if ok {
		p.rest = rest
	}
	return ok
}

// expect reads a sign that has to come now.
func (p *lineParser) expect(sign string) error {
	if p.next(sign) {
		return nil
	}
	if p.rest == "" {
		return fmt.Errorf("%q is missing at the end", sign)
	}
	return fmt.Errorf("want %q before %q", sign, p.rest)
}

// take reads a word of the characters that ok takes.
func (p *lineParser) take(ok func(c byte) bool) string {
	p.spaces()
	n := 0
	for n < len(p.rest) && ok(p.rest[n]) {
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// word reads to the next space, quote or parenthesis.
func (p *lineParser) word() string {
	return p.take(func(c byte) bool { return c > ' ' && c != '"' && c != '(' && c != ')' })
}

func nameByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func (p *lineParser) name() (string, error) {
	word := p.take(nameByte)
	if word != "" && word[0] > '9' && word[0] != '_' {
		return word, nil
	}
	if p.rest = word + p.rest; p.rest == "" {
		return "", errors.New("a name is missing at the end")
	}
	return "", fmt.Errorf("want a name before %q", p.rest)
}

// keyword reads a word if it comes now.
func (p *lineParser) keyword(word string) bool {
	p.spaces()
	rest, ok := strings.CutPrefix(p.rest, word)
	if !ok || rest != "" && nameByte(rest[0]) {
		return false
	}
	p.rest = rest
	return true
}

// names reads words separated by commas, without spaces.
func (p *lineParser) names() ([]string, error) {
	// Not word: a template such as bal/{who}(x) has no parentheses either, but a quote begins the documentation.
	names := strings.Split(p.take(func(c byte) bool { return c > ' ' && c != '"' }), ",")
	if slices.Contains(names, "") {
		return nil, errors.New("want names separated by commas, without spaces")
	}
	return names, nil
}

// end reads the documentation, if there is any, after which nothing may come.
func (p *lineParser) end() (doc string, err error) {
	p.spaces()
	p.rest = strings.TrimRight(p.rest, " \t\r")
	if p.rest == "" {
		return "", nil
	}
	if p.rest[0] != '"' {
		return "", fmt.Errorf("do not understand %q", p.rest)
	}
	if err := json.Unmarshal([]byte(p.rest), &doc); err != nil {
		return "", fmt.Errorf("the documentation is no JSON string: %w", err)
	}
	return doc, nil
}

// list reads items in parentheses, separated by commas.
func (p *lineParser) list(item func() error) error {
	if err := p.expect("("); err != nil {
		return err
	}
	if p.next(")") {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if p.next(")") {
			return nil
		}
		if err := p.expect(","); err != nil {
			return err
		}
		if p.next(")") { // a comma after the last, as macros like to write it
			return nil
		}
	}
}

// fields reads (name: type, …).
func (p *lineParser) fields() (fields []ledger.Field, err error) {
	err = p.list(func() error {
		name, err := p.name()
		if err != nil {
			return err
		}
		if err := p.expect(":"); err != nil {
			return err
		}
		typ, err := p.typeText(0)
		fields = append(fields, ledger.Field{Name: name, Type: typ})
		return err
	})
	return fields, err
}

// variants reads (name, name(fields), …).
func (p *lineParser) variants() (variants []ledger.Variant, err error) {
	err = p.list(func() error {
		v := ledger.Variant{}
		if v.Name, err = p.name(); err != nil {
			return err
		}
		if p.spaces(); strings.HasPrefix(p.rest, "(") {
			v.Fields, err = p.fields()
		}
		variants = append(variants, v)
		return err
	})
	if err == nil && len(variants) == 0 {
		err = errors.New("an enum has at least one variant")
	}
	return variants, err
}

// method reads what follows tx, view, init or upgrade.
func (p *lineParser) method(m *ledger.Method) (err error) {
	if m.Kind == ledger.MethodTx || m.Kind == ledger.MethodView {
		if m.Name, err = p.name(); err != nil {
			return err
		}
	}
	if m.Args, err = p.fields(); err != nil {
		return err
	}
	if p.next("->") {
		switch {
		case p.next("("):
			err = p.expect(")")
		case !p.keyword("void"):
			m.Return, err = p.typeText(0)
		}
		if err != nil {
			return err
		}
	}
	for {
		switch {
		case m.Roles == nil && p.keyword("roles"):
			m.Roles, err = p.names()
		case m.Conflicts == nil && p.keyword("conflicts"):
			m.Conflicts, err = p.names()
		default:
			m.Doc, err = p.end()
			return err
		}
		if err != nil {
			return err
		}
	}
}

// state reads prefix -> type or prefix(type, …) -> type.
func (p *lineParser) state(e *ledger.StateDef) (err error) {
	prefix := p.take(func(c byte) bool { return c > ' ' && c != '"' && c != '(' && c != '>' })
	prefix, joined := strings.CutSuffix(prefix, "-") // bal->u128, without spaces
	if joined {
		p.rest = "-" + p.rest
	}
	if prefix == "" {
		return errors.New("the name of the state is missing")
	}
	e.Prefix = prefix
	if p.spaces(); strings.HasPrefix(p.rest, "(") {
		e.Prefix += "/"
		err := p.list(func() error {
			part, err := p.typeText(0)
			e.Key = append(e.Key, part)
			return err
		})
		if err != nil {
			return err
		}
		if len(e.Key) == 0 {
			return errors.New("a key has at least one part: leave the parentheses out for a single value")
		}
	}
	if err := p.expect("->"); err != nil {
		return err
	}
	if e.Value, err = p.typeText(0); err != nil {
		return err
	}
	e.Doc, err = p.end()
	return err
}

// spellings are the languages' names of the types.
var spellings = map[string]string{
	"String": "str", "string": "str", "boolean": "bool", "Bytes": "bytes", "Uint8Array": "bytes", "Addr": "addr", "Address": "addr",
	"U128": "u128", "Vec": "list", "Array": "list", "BTreeMap": "map", "Map": "map", "Option": "opt",
}

// typeText reads a type.
func (p *lineParser) typeText(depth int) (ledger.Type, error) {
	if depth > maxTypeNesting {
		return "", fmt.Errorf("a type is nested over %d deep", maxTypeNesting)
	}
	p.next("&") // of &str
	written, err := p.name()
	if err != nil {
		return "", err
	}
	name := cmp.Or(spellings[written], written)
	if !p.next("<") {
		return ledger.Type(name), nil
	}
	var args []string
	for {
		arg, err := p.typeText(depth + 1)
		if err != nil {
			return "", err
		}
		args = append(args, string(arg))
		if p.next(">") {
			break
		}
		if err := p.expect(","); err != nil {
			return "", err
		}
	}
	if written == "Vec" && len(args) == 1 && args[0] == "u8" {
		return "bytes", nil
	}
	return ledger.Type(name + "<" + strings.Join(args, ",") + ">"), nil
}
