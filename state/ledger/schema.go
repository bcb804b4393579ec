package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/keys"
)

// ErrSchema says that a contract's schema is malformed, or that a value does not fit it.
var ErrSchema = errors.New("ledger: schema")

// Names of the custom sections of a contract's module.
const (
	SchemaSection = "fondaco.schema" // canonical CBOR of Schema
	BuildSection  = "fondaco.build"  // canonical CBOR of Build
)

// ContractABI is the version of the contract ABI that Schema.ABI names.
const ContractABI = 1

// Bounds on a schema, which every stranger who may deploy can write.
const (
	MaxSchemaSize   = 64 << 10 // bytes of the section
	maxSchemaItems  = 1_000    // entries of each list
	maxSchemaText   = 4 << 10  // bytes of a doc text
	maxTypeText     = 512      // bytes of a type
	maxTypeNesting  = 16       // type constructors within one another
	maxValueNesting = MaxNesting - 2
)

// FirstContractCode is the lowest abort code that a contract may define. Lower ones are the SDK's.
const FirstContractCode = 1_000

// Schema describes a contract to everything that reads it from outside: which methods it has, which events
// and errors, and how its state is laid out. The module carries it in the section SchemaSection; it is
// checked and stored at deployment.
type Schema struct {
	_       struct{}   `cbor:",toarray"`
	ABI     uint16     `json:"abi"`
	Name    string     `json:"name"`
	Version string     `json:"version"` // the author's, such as "1.2.0"
	Profile string     `json:"profile"` // "strict" or "std": which admission limits and imports the module needs
	Doc     string     `json:"doc,omitempty"`
	Types   []TypeDef  `json:"types"` // each refers only to earlier ones, so no type contains itself
	Methods []Method   `json:"methods"`
	Events  []EventDef `json:"events"`
	Errors  []ErrorDef `json:"errors"`
	State   []StateDef `json:"state"`
	Random  bool       `json:"random"` // the contract may call the host function rand
}

// Type names the type of a value:
//
//	u8 u16 u32 u64 u128      unsigned integers: CBOR integer, above 2^64-1 bignum
//	i8 i16 i32 i64           signed integers
//	bool str bytes           boolean, UTF-8 text, byte string
//	addr                     20-byte byte string
//	list<T>                  array
//	map<K,V>                 map; K is an integer, str, bytes or addr
//	opt<T>                   null or T; T is not itself optional
//	Name                     a TypeDef of the schema
//
// The text has no spaces, so one type has one text.
type Type string

// Field is a named, typed part of something.
type Field struct {
	_    struct{} `cbor:",toarray"`
	Name string   `json:"name"`
	Type Type     `json:"type"`
}

// TypeDef is a struct or an enum. A struct's value is the array of its fields in order. An enum's value is
// its variant's number, or, for a variant with fields, the array of the number and the fields.
type TypeDef struct {
	_        struct{}  `cbor:",toarray"`
	Name     string    `json:"name"`
	Fields   []Field   `json:"fields,omitempty"`   // of a struct
	Variants []Variant `json:"variants,omitempty"` // of an enum, numbered from 0; none: a struct
}

// Variant is one case of an enum.
type Variant struct {
	_      struct{} `cbor:",toarray"`
	Name   string   `json:"name"`
	Fields []Field  `json:"fields,omitempty"`
}

// MethodKind says how a method may be called.
type MethodKind string

// The kinds of a method.
const (
	MethodTx      MethodKind = "tx"      // by a transaction or another contract
	MethodView    MethodKind = "view"    // may not write; also without a transaction
	MethodInit    MethodKind = "init"    // once, at deployment
	MethodUpgrade MethodKind = "upgrade" // once, when this code replaces earlier code
)

// Method is an export that takes the CBOR array of Args and outputs one value of type Return, or nothing
// when Return is empty.
type Method struct {
	_         struct{}   `cbor:",toarray"`
	Name      string     `json:"name"`
	Kind      MethodKind `json:"kind"`
	Args      []Field    `json:"args"`
	Return    Type       `json:"return,omitempty"`
	Roles     []string   `json:"roles,omitempty"`     // the caller needs one of them; none: everybody may call
	Conflicts []string   `json:"conflicts,omitempty"` // key templates over arguments and context, for who reads the schema: nodes find out themselves what calls touch
	Doc       string     `json:"doc,omitempty"`
}

// EventDef describes the data of an event: the array of its fields in order.
type EventDef struct {
	_       struct{} `cbor:",toarray"`
	Topic   string   `json:"topic"`
	Fields  []Field  `json:"fields"`
	Indexed []string `json:"indexed,omitempty"` // names of fields to search by
	Doc     string   `json:"doc,omitempty"`
}

// ErrorDef describes an abort code of at least FirstContractCode and its data: the array of its fields.
type ErrorDef struct {
	_      struct{} `cbor:",toarray"`
	Code   uint32   `json:"code"`
	Name   string   `json:"name"`
	Fields []Field  `json:"fields"`
	Doc    string   `json:"doc,omitempty"`
}

// StateDef describes the contract's keys that begin with Prefix: the parts of type Key follow it, and the
// value under the key is of type Value. Integers in keys are big-endian of their full width, addresses 20
// bytes; str and bytes are taken as they are and can only come last. Without Key, the key is Prefix itself. A prefix
// with keys behind it begins no other one.
type StateDef struct {
	_      struct{} `cbor:",toarray"`
	Prefix string   `json:"prefix"`
	Key    []Type   `json:"key,omitempty"`
	Value  Type     `json:"value"`
	Doc    string   `json:"doc,omitempty"`
}

// Build says how a module was made, so that anybody can make it again and compare.
type Build struct {
	_        struct{}    `cbor:",toarray"`
	Language string      `json:"language"` // such as "go"
	Compiler string      `json:"compiler"` // such as "go1.26.0"
	SDK      string      `json:"sdk"`      // version of the contract SDK
	Source   keys.Digest `json:"source"`   // SHA-256 over the sorted source files, see the language's builder
}

// DecodeSchema reads and checks the content of a schema section.
func DecodeSchema(section []byte) (*Schema, error) {
	if len(section) > MaxSchemaSize {
		return nil, fmt.Errorf("%w of %d bytes, at most %d", ErrSchema, len(section), MaxSchemaSize)
	}
	var s Schema
	if err := Unmarshal(section, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Encode checks the schema and returns the content of its section.
func (s *Schema) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	section, err := Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	if len(section) > MaxSchemaSize {
		return nil, fmt.Errorf("%w of %d bytes, at most %d", ErrSchema, len(section), MaxSchemaSize)
	}
	return section, nil
}

// WithoutDocs returns a copy of the schema in which nothing has a doc text.
func (s *Schema) WithoutDocs() *Schema {
	bare := *s
	bare.Doc = ""
	bare.Methods, bare.Events, bare.Errors, bare.State = slices.Clone(s.Methods), slices.Clone(s.Events), slices.Clone(s.Errors), slices.Clone(s.State)
	for i := range bare.Methods {
		bare.Methods[i].Doc = ""
	}
	for i := range bare.Events {
		bare.Events[i].Doc = ""
	}
	for i := range bare.Errors {
		bare.Errors[i].Doc = ""
	}
	for i := range bare.State {
		bare.State[i].Doc = ""
	}
	return &bare
}

// ModuleSchema reads the schema of a contract's module. The error is ErrSchema as well when the module has
// none.
func ModuleSchema(module []byte) (*Schema, error) {
	section, err := ModuleSection(module, SchemaSection)
	if err != nil {
		return nil, err
	}
	if section == nil {
		return nil, fmt.Errorf("%w: the module has no section %s", ErrSchema, SchemaSection)
	}
	return DecodeSchema(section)
}

// ModuleSection returns the content of a module's custom section, or nil when it has none of that name. A
// name that occurs twice is an error, as readers could pick different ones. The result shares memory with
// module.
func ModuleSection(module []byte, name string) ([]byte, error) {
	if !bytes.HasPrefix(module, []byte("\x00asm\x01\x00\x00\x00")) {
		return nil, fmt.Errorf("%w: not a WebAssembly module of version 1", ErrSchema)
	}
	var found []byte
	for data := module[8:]; len(data) > 0; {
		id := data[0]
		size, n := uleb32(data[1:])
		if n == 0 || uint64(size) > uint64(len(data)-1-n) {
			return nil, fmt.Errorf("%w: the module ends within a section", ErrSchema)
		}
		body := data[1+n : 1+n+int(size)]
		data = data[1+n+int(size):]
		if id != 0 {
			continue
		}
		length, n := uleb32(body)
		if n == 0 || uint64(length) > uint64(len(body)-n) {
			return nil, fmt.Errorf("%w: a custom section ends within its name", ErrSchema)
		}
		if string(body[n:n+int(length)]) != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: the module has two sections %s", ErrSchema, name)
		}
		found = body[n+int(length):]
	}
	return found, nil
}

// uleb32 reads an unsigned LEB128 number of at most 32 bits and its length, which is 0 when there is none.
func uleb32(data []byte) (value uint32, n int) {
	for i, b := range data[:min(len(data), 5)] {
		if i == 4 && b > 0x0f {
			return 0, 0
		}
		value |= uint32(b&0x7f) << (7 * i)
		if b < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}

// Validate checks everything that the schema's readers rely on: names are identifiers and unique, types
// exist and are not recursive, and all lists and texts are bounded. The error names the entry.
func (s *Schema) Validate() error {
	if s.ABI != ContractABI {
		return fmt.Errorf("%w: ABI %d, this software knows %d", ErrSchema, s.ABI, ContractABI)
	}
	if !identifier(s.Name) {
		return fmt.Errorf("%w: contract name %q: want a letter and up to 63 letters, digits or _", ErrSchema, s.Name)
	}
	if len(s.Version) > MaxNameLength {
		return fmt.Errorf("%w: version over %d characters", ErrSchema, MaxNameLength)
	}
	if s.Profile != "strict" && s.Profile != "std" {
		return fmt.Errorf("%w: profile %q, want strict or std", ErrSchema, s.Profile)
	}
	for _, l := range []int{len(s.Types), len(s.Methods), len(s.Events), len(s.Errors), len(s.State)} {
		if l > maxSchemaItems {
			return fmt.Errorf("%w: a list of %d entries, at most %d", ErrSchema, l, maxSchemaItems)
		}
	}
	if err := docs(s.Doc); err != nil {
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	known := &resolver{defs: map[string]*TypeDef{}, depth: map[string]int{}}
	for i := range s.Types {
		if err := known.define(&s.Types[i]); err != nil {
			return fmt.Errorf("%w: type %q: %w", ErrSchema, s.Types[i].Name, err)
		}
	}
	names := map[string]bool{}
	once := func(kind, name string) error {
		if !identifier(name) {
			return errors.New("not a name: want a letter and up to 63 letters, digits or _")
		}
		if names[kind+name] {
			return errors.New("defined twice")
		}
		names[kind+name] = true
		return nil
	}
	for i := range s.Methods {
		m := &s.Methods[i]
		if err := errors.Join(once("method ", m.Name), m.check(known)); err != nil {
			return fmt.Errorf("%w: method %q: %w", ErrSchema, m.Name, err)
		}
	}
	for i := range s.Events {
		e := &s.Events[i]
		if err := errors.Join(once("event ", e.Topic), known.fields(e.Fields), docs(e.Doc), e.checkIndexed()); err != nil {
			return fmt.Errorf("%w: event %q: %w", ErrSchema, e.Topic, err)
		}
	}
	for i := range s.Errors {
		e := &s.Errors[i]
		err := errors.Join(once("error ", e.Name), known.fields(e.Fields), docs(e.Doc))
		if e.Code < FirstContractCode {
			err = errors.Join(err, fmt.Errorf("code %d, contracts have %d and up", e.Code, FirstContractCode))
		}
		if i > 0 && s.Errors[i-1].Code >= e.Code {
			err = errors.Join(err, fmt.Errorf("code %d does not rise", e.Code))
		}
		if err != nil {
			return fmt.Errorf("%w: error %q: %w", ErrSchema, e.Name, err)
		}
	}
	for i := range s.State {
		e := &s.State[i]
		err := errors.Join(docs(e.Doc), known.keys(e.Key))
		if _, e2 := known.nesting(e.Value); e2 != nil {
			err = errors.Join(err, e2)
		}
		if e.Prefix == "" || len(e.Prefix) > MaxNameLength {
			err = errors.Join(err, fmt.Errorf("prefix of %d bytes, want 1 to %d", len(e.Prefix), MaxNameLength))
		}
		if i > 0 && s.State[i-1].Prefix >= e.Prefix {
			err = errors.Join(err, errors.New("prefixes are not sorted"))
		}
		if i > 0 && len(s.State[i-1].Key) > 0 && strings.HasPrefix(e.Prefix, s.State[i-1].Prefix) {
			err = errors.Join(err, fmt.Errorf("its keys may be keys of %q: rename one", s.State[i-1].Prefix))
		}
		if err != nil {
			return fmt.Errorf("%w: state %q: %w", ErrSchema, e.Prefix, err)
		}
	}
	return nil
}

func (m *Method) check(known *resolver) error {
	switch m.Kind {
	case MethodTx, MethodView:
		if m.Name == "init" || m.Name == "upgrade" {
			return errors.New("the name is kept for the life cycle")
		}
	case MethodInit, MethodUpgrade:
		if m.Name != string(m.Kind) {
			return fmt.Errorf("the method of kind %s must have that name", m.Kind)
		}
	default:
		return fmt.Errorf("kind %q, want tx, view, init or upgrade", m.Kind)
	}
	if m.Return != "" {
		if _, err := known.nesting(m.Return); err != nil {
			return err
		}
	}
	for _, list := range [][]string{m.Roles, m.Conflicts} {
		if len(list) > 64 {
			return fmt.Errorf("%d roles or conflicts, at most 64", len(list))
		}
		for _, text := range list {
			if text == "" || len(text) > 256 {
				return errors.New("a role or conflict is empty or over 256 bytes")
			}
		}
	}
	return errors.Join(known.fields(m.Args), docs(m.Doc))
}

func (e *EventDef) checkIndexed() error {
	for i, name := range e.Indexed {
		if !slices.ContainsFunc(e.Fields, func(f Field) bool { return f.Name == name }) || slices.Contains(e.Indexed[:i], name) {
			return fmt.Errorf("indexed %q is no field, or named twice", name)
		}
	}
	return nil
}

func docs(text string) error {
	if len(text) > maxSchemaText {
		return fmt.Errorf("doc of %d bytes, at most %d", len(text), maxSchemaText)
	}
	return nil
}

// identifier reports whether s can name something in every SDK's language.
func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= MaxMethodLength
}

// resolver knows the types defined so far.
type resolver struct {
	defs  map[string]*TypeDef
	depth map[string]int // nesting of CBOR containers in the type's values
}

func (r *resolver) define(t *TypeDef) error {
	if !identifier(t.Name) || t.Name[0] < 'A' || t.Name[0] > 'Z' {
		return errors.New("not a name: want a capital letter and up to 63 letters, digits or _")
	}
	if r.defs[t.Name] != nil {
		return errors.New("defined twice")
	}
	if len(t.Fields) > 0 && len(t.Variants) > 0 {
		return errors.New("has both fields and variants")
	}
	if len(t.Variants) > maxSchemaItems {
		return fmt.Errorf("%d variants, at most %d", len(t.Variants), maxSchemaItems)
	}
	deepest := 0
	seen := map[string]bool{}
	for _, fields := range append([][]Field{t.Fields}, variantFields(t.Variants)...) {
		if err := r.fields(fields); err != nil {
			return err
		}
		for _, f := range fields {
			n, err := r.nesting(f.Type)
			if err != nil {
				return err
			}
			deepest = max(deepest, n)
		}
	}
	for _, v := range t.Variants {
		if !identifier(v.Name) || seen[v.Name] {
			return fmt.Errorf("variant %q is no name, or defined twice", v.Name)
		}
		seen[v.Name] = true
	}
	if deepest+1 > maxValueNesting {
		return fmt.Errorf("nested over %d deep", maxValueNesting)
	}
	r.defs[t.Name], r.depth[t.Name] = t, deepest+1
	return nil
}

func variantFields(variants []Variant) [][]Field {
	all := make([][]Field, len(variants))
	for i, v := range variants {
		all[i] = v.Fields
	}
	return all
}

func (r *resolver) fields(fields []Field) error {
	if len(fields) > 256 {
		return fmt.Errorf("%d fields, at most 256", len(fields))
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if !identifier(f.Name) || seen[f.Name] {
			return fmt.Errorf("field %q is no name, or defined twice", f.Name)
		}
		seen[f.Name] = true
		if _, err := r.nesting(f.Type); err != nil {
			return fmt.Errorf("field %q: %w", f.Name, err)
		}
	}
	return nil
}

// keys checks the parts of a state key: all but the last must have a fixed width, or two keys could be one.
func (r *resolver) keys(parts []Type) error {
	if len(parts) > 8 {
		return fmt.Errorf("%d parts of a key, at most 8", len(parts))
	}
	for i, t := range parts {
		if !keyType(t) || i < len(parts)-1 && (t == "str" || t == "bytes") {
			return fmt.Errorf("part %d of the key is %s: want an integer or addr, or, as the last, str or bytes", i, t)
		}
	}
	return nil
}

// nesting checks t and returns how deep CBOR containers nest in its values.
func (r *resolver) nesting(t Type) (int, error) {
	if len(t) > maxTypeText || strings.Count(string(t), "<") > maxTypeNesting {
		return 0, fmt.Errorf("type of %d bytes is too long or too deep", len(t))
	}
	if _, ok := integers[t]; ok || t == "bool" || t == "str" || t == "bytes" || t == "addr" {
		return 0, nil
	}
	head, args := t.split()
	switch {
	case head == "list" && len(args) == 1:
		n, err := r.nesting(args[0])
		return n + 1, err
	case head == "opt" && len(args) == 1:
		if strings.HasPrefix(string(args[0]), "opt<") {
			return 0, fmt.Errorf("type %s: an optional of an optional has two nulls", t)
		}
		return r.nesting(args[0])
	case head == "map" && len(args) == 2:
		if !keyType(args[0]) {
			return 0, fmt.Errorf("type %s: a map's keys are integers, str, bytes or addr", t)
		}
		n, err := r.nesting(args[1])
		return n + 1, err
	case args == nil && r.defs[head] != nil:
		return r.depth[head], nil
	}
	return 0, fmt.Errorf("type %q is not known here", t)
}

func keyType(t Type) bool {
	_, ok := integers[t]
	return ok || t == "str" || t == "bytes" || t == "addr"
}

// split cuts map<K,V> into map and its arguments; a plain name has none.
func (t Type) split() (head string, args []Type) {
	s := string(t)
	open := strings.IndexByte(s, '<')
	if open < 0 || !strings.HasSuffix(s, ">") {
		return s, nil
	}
	inner, depth, start := s[open+1:len(s)-1], 0, 0
	for i := range len(inner) {
		switch inner[i] {
		case '<':
			depth++
		case '>':
			depth--
		case ',':
			if depth == 0 {
				args = append(args, Type(inner[start:i]))
				start = i + 1
			}
		}
	}
	return s[:open], append(args, Type(inner[start:]))
}

// integer is the range of an integer type.
type integer struct {
	bits   int
	signed bool
}

var integers = map[Type]integer{
	"u8": {8, false}, "u16": {16, false}, "u32": {32, false}, "u64": {64, false}, "u128": {128, false},
	"i8": {8, true}, "i16": {16, true}, "i32": {32, true}, "i64": {64, true},
}

func (in integer) holds(v *big.Int) bool {
	if !in.signed {
		return v.Sign() >= 0 && v.BitLen() <= in.bits
	}
	if v.Sign() < 0 {
		v = new(big.Int).Not(v) // -2^(bits-1) is 2^(bits-1)-1 inverted
	}
	return v.BitLen() < in.bits
}

// Method returns the method of that name, or nil.
func (s *Schema) Method(name string) *Method {
	for i := range s.Methods { // in place: every call of a contract looks one up, and they are large
		if m := &s.Methods[i]; m.Name == name {
			return m
		}
	}
	return nil
}

// Event returns the event of that topic, or nil.
func (s *Schema) Event(topic string) *EventDef {
	if i := slices.IndexFunc(s.Events, func(e EventDef) bool { return e.Topic == topic }); i >= 0 {
		return &s.Events[i]
	}
	return nil
}

// Error returns the error of that code, or nil.
func (s *Schema) Error(code uint32) *ErrorDef {
	if i := slices.IndexFunc(s.Errors, func(e ErrorDef) bool { return e.Code == code }); i >= 0 {
		return &s.Errors[i]
	}
	return nil
}

// typeDef returns the definition of a named type, or nil.
func (s *Schema) typeDef(t Type) *TypeDef {
	if i := slices.IndexFunc(s.Types, func(d TypeDef) bool { return d.Name == string(t) }); i >= 0 {
		return &s.Types[i]
	}
	return nil
}

// Signature returns the method in the form "transfer(to addr, amount u128) u64".
func (m *Method) Signature() string {
	var b strings.Builder
	b.WriteString(m.Name + "(")
	for i, a := range m.Args {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.Name + " " + string(a.Type))
	}
	b.WriteString(")")
	if m.Return != "" {
		b.WriteString(" " + string(m.Return))
	}
	return b.String()
}

// EncodeArgs returns the canonical CBOR of a method's arguments, given as JSON: integers as numbers or
// decimal strings, bytes and addresses as 0x and hexadecimal digits, structs and maps as objects, enums as
// the variant's name or an object of name and fields, and null for an absent optional.
func (s *Schema) EncodeArgs(method string, args []json.RawMessage) ([]byte, error) {
	m := s.Method(method)
	if m == nil {
		return nil, fmt.Errorf("%w: no method %q; there are: %s", ErrSchema, method, s.methodNames())
	}
	if len(args) != len(m.Args) {
		return nil, fmt.Errorf("%w: %d arguments for %s", ErrSchema, len(args), m.Signature())
	}
	out := appendHead(nil, cborArray, uint64(len(args)))
	for i, field := range m.Args {
		value, err := decodeJSON(args[i])
		if err == nil {
			out, err = s.appendValue(out, field.Type, value)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: argument %s: %w", ErrSchema, field.Name, err)
		}
	}
	return out, nil
}

// EncodeText is EncodeArgs for arguments typed on a command line: a str is taken as it is, other plain
// values need no quotes, and lists, maps and structs are JSON.
func (s *Schema) EncodeText(method string, args []string) ([]byte, error) {
	raw := make([]json.RawMessage, len(args))
	m := s.Method(method)
	for i, text := range args {
		raw[i] = json.RawMessage(text)
		if m != nil && i < len(m.Args) && !s.isJSON(m.Args[i].Type, text) {
			quoted, err := json.Marshal(text)
			if err != nil {
				return nil, fmt.Errorf("%w: argument %d: %w", ErrSchema, i, err)
			}
			raw[i] = quoted
		}
	}
	return s.EncodeArgs(method, raw)
}

// isJSON reports whether text for a value of type t is JSON rather than a plain word.
func (s *Schema) isJSON(t Type, text string) bool {
	head, args := t.split()
	if head == "opt" && len(args) == 1 {
		return text == "null" || s.isJSON(args[0], text)
	}
	if d := s.typeDef(t); d != nil {
		return len(d.Variants) == 0 || strings.HasPrefix(text, "{") || strings.HasPrefix(text, `"`)
	}
	return args != nil || t == "bool"
}

func (s *Schema) methodNames() string {
	names := make([]string, len(s.Methods))
	for i, m := range s.Methods {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}

// EncodeValue returns the canonical CBOR of one value of type t, given as EncodeArgs takes it.
func (s *Schema) EncodeValue(t Type, value json.RawMessage) ([]byte, error) {
	v, err := decodeJSON(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	out, err := s.appendValue(nil, t, v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return out, nil
}

// decodeJSON reads one JSON value, numbers as their text.
func decodeJSON(text json.RawMessage) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if d.More() {
		return nil, errors.New("text after the JSON value")
	}
	return v, nil
}

func parseInteger(t Type, v any) (*big.Int, error) {
	in := integers[t]
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	default:
		return nil, fmt.Errorf("want %s as a number or a decimal string", t)
	}
	if len(text) > 40 { // -2^127 has 40 characters
		return nil, fmt.Errorf("%d characters do not fit %s", len(text), t)
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || strings.HasPrefix(text, "+") {
		return nil, fmt.Errorf("%q is no decimal integer (%s)", text, t)
	}
	if !in.holds(n) {
		return nil, fmt.Errorf("%s does not fit %s", text, t)
	}
	return n, nil
}

func parseHex(v any) ([]byte, error) {
	text, ok := v.(string)
	digits, found := strings.CutPrefix(text, "0x")
	if !ok || !found {
		return nil, errors.New("want a string of 0x and hexadecimal digits")
	}
	return hex.DecodeString(digits)
}
