package story

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// maxValue bounds what (N of VALUE) makes: a little more than the largest value that a contract can keep.
const maxValue = 1 << 20

// names knows what the names in a story stand for.
type resolver interface {
	address(name string) (ledger.Address, error)
	schema(contract string) (*ledger.Schema, error)
}

// reading turns words into values by their types. Where the schema says addr, names stand for addresses.
type reading struct {
	resolver
	types *ledger.Schema // of the contract that the values are of
}

// as returns the reading of values of another contract.
func (r reading) as(s *ledger.Schema) reading { return reading{r.resolver, s} }

// value returns what a word says as a value of type t, in the JSON that ledger.Schema.EncodeValue takes.
func (r reading) value(t ledger.Type, w word) (any, error) {
	switch {
	case w.kind == expression:
		return r.expression(t, w)
	case w.kind == value:
		if err := onceInJSON(w.text); err != nil {
			return nil, err
		}
		decoder := json.NewDecoder(strings.NewReader(w.text))
		decoder.UseNumber()
		var v any
		if err := decoder.Decode(&v); err != nil {
			return nil, err
		}
		return r.json(t, v)
	case t == "str":
		return w.text, nil
	case w.text == "true":
		return true, nil
	case w.text == "false":
		return false, nil
	case w.text == "null":
		return nil, nil
	}
	return r.json(t, w.text)
}

// json puts addresses, milliseconds and bytes in the place of names, times and expressions in a value of type t.
func (r reading) json(t ledger.Type, v any) (any, error) {
	inner, isOpt := within(t, "opt")
	if isOpt && v != nil {
		return r.json(inner, v)
	}
	switch v := v.(type) {
	case string:
		return r.text(t, v)
	case []any:
		if element, ok := within(t, "list"); ok {
			for i := range v {
				var err error
				if v[i], err = r.json(element, v[i]); err != nil {
					return nil, fmt.Errorf("element %d: %w", i, err)
				}
			}
		}
	case map[string]any:
		return r.object(t, v)
	}
	return v, nil
}

func (r reading) text(t ledger.Type, text string) (any, error) {
	switch {
	case t == "addr" && !strings.HasPrefix(text, "0x"):
		a, err := r.address(text)
		return a.String(), err
	case t == "bytes" && strings.HasPrefix(text, "("):
		s := &scanner{text: text, line: 1}
		w, err := s.word(0)
		if err == nil && s.pos < len(text) {
			err = fmt.Errorf("%q follows the expression %s", text[s.pos:], w)
		}
		if err != nil {
			return nil, err
		}
		return r.expression(t, w)
	case t == "bytes" && !strings.HasPrefix(text, "0x"):
		return "0x" + hex.EncodeToString([]byte(text)), nil
	case integer(t):
		if at, ok := timeOf(text); ok {
			return strconv.FormatInt(at.UnixMilli(), 10), nil
		}
		return strings.ReplaceAll(text, "_", ""), nil
	}
	return text, nil
}

func integer(t ledger.Type) bool {
	return len(t) > 1 && (t[0] == 'u' || t[0] == 'i') && strings.Trim(string(t[1:]), "0123456789") == ""
}

func (r reading) object(t ledger.Type, object map[string]any) (any, error) {
	def := typeDef(r.types, t)
	typeOf := func(name string) ledger.Type { return fieldType(nil, name) }
	switch {
	case def != nil && len(def.Variants) > 0: // {"refunded":{"reason":"late"}}
		for name, fields := range object {
			i := slices.IndexFunc(def.Variants, func(v ledger.Variant) bool { return v.Name == name })
			if inner, ok := fields.(map[string]any); ok && i >= 0 {
				if err := r.fields(inner, func(n string) ledger.Type { return fieldType(def.Variants[i].Fields, n) }); err != nil {
					return nil, err
				}
			}
		}
		return object, nil
	case def != nil:
		typeOf = func(name string) ledger.Type { return fieldType(def.Fields, name) }
	default:
		key, element, ok := mapOf(t)
		if !ok {
			break
		}
		renamed := make(map[string]any, len(object))
		for name, v := range object {
			k, err := r.text(key, name)
			if err != nil {
				return nil, err
			}
			renamed[fmt.Sprint(k)] = v
		}
		object, typeOf = renamed, func(string) ledger.Type { return element }
	}
	return object, r.fields(object, typeOf)
}

func (r reading) fields(object map[string]any, typeOf func(string) ledger.Type) error {
	for name, v := range object {
		resolved, err := r.json(typeOf(name), v)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		object[name] = resolved
	}
	return nil
}

// within returns T of head<T>.
func within(t ledger.Type, head string) (ledger.Type, bool) {
	inner, ok := strings.CutPrefix(string(t), head+"<")
	return ledger.Type(strings.TrimSuffix(inner, ">")), ok
}

// mapOf returns K and V of map<K,V>. A key has no parameters.
func mapOf(t ledger.Type) (key, element ledger.Type, ok bool) {
	inner, ok := within(t, "map")
	k, v, _ := strings.Cut(string(inner), ",")
	return ledger.Type(k), ledger.Type(v), ok
}

func typeDef(s *ledger.Schema, t ledger.Type) *ledger.TypeDef {
	if i := slices.IndexFunc(s.Types, func(d ledger.TypeDef) bool { return d.Name == string(t) }); i >= 0 {
		return &s.Types[i]
	}
	return nil
}

func fieldType(fields []ledger.Field, name string) ledger.Type {
	if i := slices.IndexFunc(fields, func(f ledger.Field) bool { return f.Name == name }); i >= 0 {
		return fields[i].Type
	}
	return ""
}

// expression evaluates words in parentheses:
//
//	(list WORD...)                a list
//	(N of WORD)                   a list, text or bytes: the word's, N times
//	(CONTRACT.METHOD WORD...)     bytes: the encoded arguments of a call
//	(CONTRACT.NAME WORD...)       bytes: the encoded fields of an error, event or struct, or an enum
//	(TYPE WORD)                   bytes: an encoded value
func (r reading) expression(t ledger.Type, w word) (any, error) {
	if inner, ok := within(t, "opt"); ok {
		t = inner
	}
	if len(w.words) == 0 {
		return nil, errors.New("() is empty")
	}
	head, rest := w.words[0], w.words[1:]
	element, isList := within(t, "list")
	switch {
	case head.is("list"):
		if !isList {
			return nil, fmt.Errorf("%s is a list, want a value of type %s", w, t)
		}
		list := []any{}
		for _, word := range rest {
			expanded, err := word.expand()
			if err != nil {
				return nil, err
			}
			for _, word := range expanded {
				v, err := r.value(element, word)
				if err != nil {
					return nil, fmt.Errorf("element %d: %w", len(list), err)
				}
				list = append(list, v)
			}
		}
		return list, nil
	case len(rest) == 2 && rest[0].is("of"):
		n, err := number(head)
		if err != nil {
			return nil, err
		}
		if n > maxValue {
			return nil, fmt.Errorf("%s: at most %d", w, maxValue)
		}
		if isList {
			v, err := r.value(element, rest[1])
			if err != nil {
				return nil, err
			}
			if _, nested := within(element, "list"); nested || n > ledger.MaxElements { // lists of lists grow without bound
				return nil, fmt.Errorf("%s: want at most %d elements, which are no lists", w, ledger.MaxElements)
			}
			return slices.Repeat([]any{v}, int(n)), nil
		}
		v, err := r.value(t, rest[1])
		if err != nil {
			return nil, err
		}
		text, isText := v.(string)
		if !isText || t != "str" && t != "bytes" || n*uint64(len(text)) > maxValue {
			return nil, fmt.Errorf("%s: want a list, text or bytes of at most %d, not %s", w, maxValue, t)
		}
		if t == "bytes" {
			return "0x" + strings.Repeat(strings.TrimPrefix(text, "0x"), int(n)), nil
		}
		return strings.Repeat(text, int(n)), nil
	case t != "bytes":
		return nil, fmt.Errorf("%s is bytes, want a value of type %s", w, t)
	}
	encoded, err := r.encoded(head, rest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w, err)
	}
	return "0x" + hex.EncodeToString(encoded), nil
}

// encoded returns the canonical CBOR of what head names.
func (r reading) encoded(head word, words []word) ([]byte, error) {
	contract, name, ok := strings.Cut(head.text, ".")
	if head.kind != bare {
		return nil, fmt.Errorf("%s names nothing", head)
	}
	if !ok { // a built-in type
		if len(words) != 1 {
			return nil, fmt.Errorf("%d values of type %s, want one", len(words), head)
		}
		return r.as(&ledger.Schema{}).encode(ledger.Type(contract), words[0])
	}
	schema, err := r.schema(contract)
	if err != nil {
		return nil, err
	}
	of := r.as(schema)
	if schema.Method(name) != nil {
		return of.arguments(name, words)
	}
	if e := schema.Event(name); e != nil {
		return of.record(e.Fields, words)
	}
	for _, e := range schema.Errors {
		if e.Name == name {
			return of.record(e.Fields, words)
		}
	}
	def := typeDef(schema, ledger.Type(name))
	switch {
	case def == nil:
		return nil, fmt.Errorf("the contract %s has no method, event, error or type %s", contract, name)
	case len(def.Variants) == 0:
		return of.record(def.Fields, words)
	case len(words) != 1:
		return nil, fmt.Errorf("%d values of type %s, want one", len(words), name)
	}
	return of.encode(ledger.Type(name), words[0])
}

func (r reading) encode(t ledger.Type, w word) ([]byte, error) {
	v, err := r.value(t, w)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return r.types.EncodeValue(t, raw)
}

// arguments encodes the arguments of a method, given in order or by name.
func (r reading) arguments(method string, words []word) ([]byte, error) {
	m := r.types.Method(method)
	if m == nil {
		return r.types.EncodeArgs(method, nil) // says which there are
	}
	ordered, err := inOrder(m.Args, words)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Signature(), err)
	}
	raw := make([]json.RawMessage, len(ordered))
	for i, w := range ordered {
		v, err := r.value(m.Args[i].Type, w)
		if err == nil {
			raw[i], err = json.Marshal(v)
		}
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", m.Args[i].Name, err)
		}
	}
	return r.types.EncodeArgs(method, raw)
}

// record encodes fields, given in order or by name.
func (r reading) record(fields []ledger.Field, words []word) ([]byte, error) {
	as := &ledger.Schema{Types: r.types.Types, Methods: []ledger.Method{{Name: "record", Args: fields}}}
	return r.as(as).arguments("record", words)
}

// inOrder returns the words for the fields in their order.
func inOrder(fields []ledger.Field, words []word) ([]word, error) {
	named := slices.ContainsFunc(words, func(w word) bool { return w.field != "" && fieldType(fields, w.field) != "" })
	if len(words) != len(fields) {
		return nil, fmt.Errorf("%d values, want %d", len(words), len(fields))
	}
	if !named {
		return words, nil
	}
	if err := onceEach(words); err != nil {
		return nil, err
	}
	ordered := make([]word, len(fields))
	for i, f := range fields {
		at := slices.IndexFunc(words, func(w word) bool { return w.field == f.Name })
		if at < 0 {
			return nil, fmt.Errorf("no %s=; either all values have names or none", f.Name)
		}
		ordered[i] = words[at]
	}
	return ordered, nil
}

// differs compares a value, canonical CBOR of type t, with what words say: one value, or FIELD=VALUE of a struct. It returns "" if
// they agree.
func (r reading) differs(t ledger.Type, data []byte, words []word) (string, error) {
	if def := typeDef(r.types, t); def != nil && len(def.Variants) == 0 && (len(words) != 1 || words[0].field != "" || words[0].is("...")) {
		return r.fieldsDiffer(def.Fields, data, words)
	}
	if len(words) != 1 {
		return "", fmt.Errorf("%d values, want one of type %s", len(words), t)
	}
	want, err := r.encode(t, words[0])
	if err != nil || bytes.Equal(want, data) {
		return "", err
	}
	return words[0].String(), nil
}

// fieldsDiffer compares fields, canonical CBOR, with FIELD=VALUE words: all of them, or some if the last word is "...".
func (r reading) fieldsDiffer(fields []ledger.Field, data []byte, words []word) (string, error) {
	all := words
	some := len(words) > 0 && words[len(words)-1].is("...")
	if some {
		words = words[:len(words)-1]
	}
	as := r.as(&ledger.Schema{Types: r.types.Types, Methods: []ledger.Method{{Name: "record", Args: fields}}})
	got, err := as.types.DecodeArgs("record", data)
	if err != nil && (len(fields) > 0 || len(data) > 0) {
		return "", err
	}
	if len(words) == 1 && words[0].field == "" && words[0].kind == value && !some { // an object
		if words, err = objectWords(words[0]); err != nil {
			return "", err
		}
	}
	if !some && len(words) != len(fields) {
		return "", fmt.Errorf("%d of the fields %s; say all, or end with ... for some", len(words), fieldNames(fields))
	}
	said := map[string]bool{}
	for i, w := range words {
		name := w.field
		if name == "" && len(words) == len(fields) {
			name = fields[i].Name
		}
		if said[name] { // another one would go unsaid
			return "", fmt.Errorf("%s is said twice", name)
		}
		said[name] = true
		t := fieldType(fields, name)
		if t == "" {
			return "", fmt.Errorf("%s: the fields are %s", w, fieldNames(fields))
		}
		want, err := r.encode(t, w)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		raw, err := json.Marshal(got.Get(name))
		if err != nil {
			return "", err
		}
		have, err := as.types.EncodeValue(t, raw)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(have, want) {
			return join(all), nil
		}
	}
	return "", nil
}

// onceEach refuses a field that is named twice.
func onceEach(words []word) error {
	for i, w := range words {
		if w.field != "" && slices.ContainsFunc(words[:i], func(before word) bool { return before.field == w.field }) {
			return fmt.Errorf("%s is said twice", w.field)
		}
	}
	return nil
}

// onceInJSON refuses a name that an object in JSON has twice, of which a decoder keeps the last.
func onceInJSON(text string) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	var open []map[string]bool // the names in each object or list (nil) around
	key := false               // a name is next
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch name, isText := token.(string); {
		case token == json.Delim('{'):
			open, key = append(open, map[string]bool{}), true
			continue
		case token == json.Delim('['):
			open, key = append(open, nil), false
			continue
		case token == json.Delim('}') || token == json.Delim(']'):
			open = open[:len(open)-1]
		case isText && key:
			names := open[len(open)-1]
			if names[name] {
				return fmt.Errorf("%s is said twice", name)
			}
			names[name], key = true, false
			continue
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}

// objectWords turns {"a":1,"b":2} into a=1 b=2.
func objectWords(w word) ([]word, error) {
	if err := onceInJSON(w.text); err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(w.text), &object); err != nil {
		return nil, err
	}
	var words []word
	for name, raw := range object {
		words = append(words, jsonWord(name, raw))
	}
	slices.SortFunc(words, func(a, b word) int { return strings.Compare(a.field, b.field) })
	return words, nil
}

func jsonWord(field string, raw json.RawMessage) word {
	w := word{kind: value, field: field, text: string(raw)}
	if c := raw[0]; c != '"' && c != '[' && c != '{' { // a number, true, false or null
		w.kind = bare
	}
	return w
}

func fieldNames(fields []ledger.Field) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Name
	}
	return strings.Join(all, ", ")
}

// show writes a decoded value as a story would: FIELD=VALUE for a record, and names for addresses.
func show(v any, names *strings.Replacer) string {
	if record, ok := v.(ledger.Record); ok {
		parts := make([]string, len(record))
		for i, f := range record {
			parts[i] = f.Name + "=" + showValue(f.Value, names)
		}
		return strings.Join(parts, " ")
	}
	return showValue(v, names)
}

func showValue(v any, names *strings.Replacer) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	text := names.Replace(string(raw))
	if s, ok := v.(string); ok && (strings.HasPrefix(s, "0x") || s != "" && strings.Trim(s, "-0123456789") == "") {
		text = strings.Trim(text, `"`)
	}
	return text
}
