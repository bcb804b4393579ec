package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

// Record is a list of named values that becomes a JSON object in the same order.
type Record []NamedValue

// NamedValue is one entry of a Record. Value is what DecodeValue returns.
type NamedValue struct {
	Name  string
	Value any
}

// Get returns the value of that name, or nil.
func (r Record) Get(name string) any {
	for _, v := range r {
		if v.Name == name {
			return v.Value
		}
	}
	return nil
}

// MarshalJSON writes the record as an object.
func (r Record) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, v := range r {
		name, err := json.Marshal(v.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(v.Value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

// DecodeValue reads the canonical CBOR of a value of type t into what encoding/json writes as EncodeArgs
// reads it: integers up to 32 bits as int64, wider ones as decimal strings, bytes and addresses as 0x and
// hexadecimal digits, lists as []any, structs and maps as Record, an absent optional as nil. Anything but
// the one canonical form is an error (ErrSchema).
func (s *Schema) DecodeValue(t Type, data []byte) (any, error) {
	r := reader{data: data}
	v, err := s.readValue(&r, t)
	if err == nil && len(r.data) > 0 {
		err = fmt.Errorf("%d bytes after the value", len(r.data))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return v, nil
}

// DecodeArgs reads the arguments of a call to method.
func (s *Schema) DecodeArgs(method string, args []byte) (Record, error) {
	m := s.Method(method)
	if m == nil {
		return nil, fmt.Errorf("%w: no method %q", ErrSchema, method)
	}
	return s.decodeFields(m.Args, args)
}

// DecodeReturn reads the output of method; nil when the method has none.
func (s *Schema) DecodeReturn(method string, output []byte) (any, error) {
	m := s.Method(method)
	switch {
	case m == nil:
		return nil, fmt.Errorf("%w: no method %q", ErrSchema, method)
	case m.Return == "" && len(output) == 0:
		return nil, nil
	case m.Return == "":
		return nil, fmt.Errorf("%w: method %q has %d bytes of output and returns nothing", ErrSchema, method, len(output))
	}
	return s.DecodeValue(m.Return, output)
}

// DecodeEvent reads the data of an event.
func (s *Schema) DecodeEvent(topic string, data []byte) (Record, error) {
	e := s.Event(topic)
	if e == nil {
		return nil, fmt.Errorf("%w: no event %q", ErrSchema, topic)
	}
	return s.decodeFields(e.Fields, data)
}

// DecodeError returns the name of an abort code and its data. An unknown code is ErrSchema.
func (s *Schema) DecodeError(code uint32, data []byte) (name string, fields Record, err error) {
	e := s.Error(code)
	if e == nil {
		return "", nil, fmt.Errorf("%w: no error %d", ErrSchema, code)
	}
	if len(e.Fields) == 0 && len(data) == 0 {
		return e.Name, nil, nil
	}
	fields, err = s.decodeFields(e.Fields, data)
	return e.Name, fields, err
}

// DecodeState finds the description of a key of the contract, and reads the key's parts and the value. The
// description with the longest fitting prefix wins; nil means that none fits.
func (s *Schema) DecodeState(key, value []byte) (def *StateDef, parts []any, v any, err error) {
	for i := range s.State {
		d := &s.State[i]
		fits := strings.HasPrefix(string(key), d.Prefix) && (len(d.Key) > 0 || len(key) == len(d.Prefix))
		if fits && (def == nil || len(d.Prefix) > len(def.Prefix)) {
			def = d
		}
	}
	if def == nil {
		return nil, nil, nil, nil
	}
	rest := key[len(def.Prefix):]
	for _, t := range def.Key {
		var part any
		if part, rest, err = keyPart(t, rest); err != nil {
			return nil, nil, nil, fmt.Errorf("%w: key %x: %w", ErrSchema, key, err)
		}
		parts = append(parts, part)
	}
	if len(rest) > 0 {
		return nil, nil, nil, fmt.Errorf("%w: key %x: %d bytes too many", ErrSchema, key, len(rest))
	}
	v, err = s.DecodeValue(def.Value, value)
	return def, parts, v, err
}

func keyPart(t Type, key []byte) (part any, rest []byte, err error) {
	width := len(key)
	in, isInteger := integers[t]
	switch {
	case isInteger:
		width = in.bits / 8
	case t == "addr":
		width = AddressSize
	}
	if width > len(key) {
		return nil, nil, fmt.Errorf("ends within a part of type %s", t)
	}
	raw, rest := key[:width], key[width:]
	switch {
	case isInteger:
		n := new(big.Int).SetBytes(raw)
		if in.signed { // stored with the sign bit inverted, so that keys sort as numbers do
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(in.bits-1)))
		}
		return integerJSON(in, n), rest, nil
	case t == "str":
		if !utf8.Valid(raw) {
			return nil, nil, errors.New("not UTF-8")
		}
		return string(raw), rest, nil
	default:
		return hexText(raw), rest, nil
	}
}

func (s *Schema) decodeFields(fields []Field, data []byte) (Record, error) {
	r := reader{data: data}
	record, err := s.readFields(&r, fields)
	if err == nil && len(r.data) > 0 {
		err = fmt.Errorf("%d bytes after the value", len(r.data))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return record, nil
}

// Major types of CBOR (RFC 8949 §3.1).
const (
	cborUint   = 0
	cborNegInt = 1
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7

	cborFalse, cborTrue, cborNull = 20, 21, 22
	tagBignum                     = 2
)

// appendHead appends the shortest head of a data item.
func appendHead(out []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(out, major|byte(n))
	case n <= math.MaxUint8:
		return append(out, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(out, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(out, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(out, major|27), n)
	}
}

func appendInteger(out []byte, n *big.Int) []byte {
	switch {
	case n.IsUint64():
		return appendHead(out, cborUint, n.Uint64())
	case n.Sign() < 0:
		return appendHead(out, cborNegInt, uint64(-1-n.Int64()))
	default:
		raw := n.Bytes()
		return append(appendHead(appendHead(out, cborTag, tagBignum), cborBytes, uint64(len(raw))), raw...)
	}
}

func (s *Schema) appendValue(out []byte, t Type, v any) ([]byte, error) {
	if _, ok := integers[t]; ok {
		n, err := parseInteger(t, v)
		if err != nil {
			return nil, err
		}
		return appendInteger(out, n), nil
	}
	switch t {
	case "bool":
		b, ok := v.(bool)
		if !ok {
			return nil, errors.New("want true or false")
		}
		if b {
			return appendHead(out, cborSimple, cborTrue), nil
		}
		return appendHead(out, cborSimple, cborFalse), nil
	case "str":
		text, ok := v.(string)
		if !ok {
			return nil, errors.New("want a string")
		}
		return append(appendHead(out, cborText, uint64(len(text))), text...), nil
	case "bytes", "addr":
		raw, err := parseHex(v)
		if err != nil {
			return nil, err
		}
		if t == "addr" && len(raw) != AddressSize {
			return nil, fmt.Errorf("an address has 0x and %d hexadecimal digits, not %d", 2*AddressSize, 2*len(raw))
		}
		return append(appendHead(out, cborBytes, uint64(len(raw))), raw...), nil
	}
	if d := s.typeDef(t); d != nil {
		return s.appendDef(out, d, v)
	}
	head, args := t.split()
	switch {
	case head == "opt" && len(args) == 1:
		if v == nil {
			return appendHead(out, cborSimple, cborNull), nil
		}
		return s.appendValue(out, args[0], v)
	case head == "list" && len(args) == 1:
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("want a JSON array (%s)", t)
		}
		if len(list) > MaxElements {
			return nil, fmt.Errorf("%d elements, at most %d", len(list), MaxElements)
		}
		out = appendHead(out, cborArray, uint64(len(list)))
		for i, element := range list {
			var err error
			if out, err = s.appendValue(out, args[0], element); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return out, nil
	case head == "map" && len(args) == 2:
		object, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("want a JSON object (%s)", t)
		}
		return s.appendMap(out, args[0], args[1], object)
	}
	return nil, fmt.Errorf("type %q is not known", t)
}

func (s *Schema) appendMap(out []byte, key, value Type, object map[string]any) ([]byte, error) {
	if len(object) > MaxElements {
		return nil, fmt.Errorf("%d entries, at most %d", len(object), MaxElements)
	}
	entries := make([][2][]byte, 0, len(object))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		k, err := s.appendValue(nil, key, name)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", name, err)
		}
		v, err := s.appendValue(nil, value, object[name])
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", name, err)
		}
		entries = append(entries, [2][]byte{k, v})
	}
	slices.SortFunc(entries, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
	out = appendHead(out, cborMap, uint64(len(entries)))
	for i, e := range entries {
		if i > 0 && bytes.Equal(entries[i-1][0], e[0]) {
			return nil, errors.New("two keys are the same value")
		}
		out = append(append(out, e[0]...), e[1]...)
	}
	return out, nil
}

func (s *Schema) appendDef(out []byte, d *TypeDef, v any) ([]byte, error) {
	if len(d.Variants) == 0 {
		out = appendHead(out, cborArray, uint64(len(d.Fields)))
		return s.appendFields(out, d.Name, d.Fields, v)
	}
	name, isName := v.(string)
	var content any = map[string]any{}
	if object, ok := v.(map[string]any); ok && len(object) == 1 {
		for name, content = range object { // one entry
			isName = true
		}
	}
	i := slices.IndexFunc(d.Variants, func(x Variant) bool { return x.Name == name })
	if !isName || i < 0 {
		names := make([]string, len(d.Variants))
		for i, x := range d.Variants {
			names[i] = x.Name
		}
		return nil, fmt.Errorf("want one of %s (%s)", strings.Join(names, ", "), d.Name)
	}
	fields := d.Variants[i].Fields
	if len(fields) > 0 {
		out = appendHead(out, cborArray, uint64(1+len(fields)))
	}
	return s.appendFields(appendHead(out, cborUint, uint64(i)), name, fields, content)
}

func (s *Schema) appendFields(out []byte, name string, fields []Field, v any) ([]byte, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("want a JSON object (%s)", name)
	}
	for _, f := range fields {
		value, ok := object[f.Name]
		if !ok && !strings.HasPrefix(string(f.Type), "opt<") {
			return nil, fmt.Errorf("%s needs a field %q", name, f.Name)
		}
		var err error
		if out, err = s.appendValue(out, f.Type, value); err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
	}
	for _, given := range slices.Sorted(maps.Keys(object)) {
		if !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == given }) {
			return nil, fmt.Errorf("%s has no field %q", name, given)
		}
	}
	return out, nil
}

// reader takes data items off the front of data.
type reader struct{ data []byte }

var errShort = errors.New("ends within a value")

// head reads the head of a data item, which must be in its shortest form.
func (r *reader) head() (major byte, n uint64, err error) {
	if len(r.data) == 0 {
		return 0, 0, errShort
	}
	first := r.data[0]
	major, n = first>>5, uint64(first&31)
	r.data = r.data[1:]
	if n < 24 {
		return major, n, nil
	}
	width := 1 << (n - 24)
	if n > 27 || major == cborSimple {
		return 0, 0, fmt.Errorf("byte 0x%02x begins no value of this encoding", first)
	}
	if width > len(r.data) {
		return 0, 0, errShort
	}
	n = 0
	for _, b := range r.data[:width] {
		n = n<<8 | uint64(b)
	}
	r.data = r.data[width:]
	if shortest := len(appendHead(nil, major, n)); shortest != 1+width {
		return 0, 0, errors.New("a number is not in its shortest form")
	}
	return major, n, nil
}

// want reads a head of the given major type.
func (r *reader) want(major byte, what Type) (uint64, error) {
	got, n, err := r.head()
	if err == nil && got != major {
		err = fmt.Errorf("CBOR major type %d is not %s", got, what)
	}
	return n, err
}

// items reads the head of an array or a map; each item takes at least one byte.
func (r *reader) items(major byte, what Type) (int, error) {
	n, err := r.want(major, what)
	if err == nil && (n > MaxElements || n > uint64(len(r.data))) {
		err = fmt.Errorf("%d elements are more than the data, or than %d", n, MaxElements)
	}
	return int(min(n, MaxElements)), err
}

// text reads a byte or text string. The result shares memory with the data.
func (r *reader) text(major byte, what Type) ([]byte, error) {
	n, err := r.want(major, what)
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.data)) {
		return nil, errShort
	}
	raw := r.data[:n]
	r.data = r.data[n:]
	return raw, nil
}

func (r *reader) integer(t Type) (*big.Int, error) {
	major, n, err := r.head()
	if err != nil {
		return nil, err
	}
	v := new(big.Int).SetUint64(n)
	switch {
	case major == cborUint:
	case major == cborNegInt:
		v.Not(v)
	case major == cborTag && n == tagBignum:
		raw, err := r.text(cborBytes, t)
		if err != nil {
			return nil, err
		}
		if len(raw) <= 8 || len(raw) > 16 || raw[0] == 0 {
			return nil, errors.New("a bignum is not in its shortest form, or over 128 bits")
		}
		v.SetBytes(raw)
	default:
		return nil, fmt.Errorf("CBOR major type %d is not %s", major, t)
	}
	if !integers[t].holds(v) {
		return nil, fmt.Errorf("%s does not fit %s", v, t)
	}
	return v, nil
}

func integerJSON(in integer, n *big.Int) any {
	if in.bits <= 32 {
		return n.Int64()
	}
	return n.String()
}

func hexText(raw []byte) string { return "0x" + hex.EncodeToString(raw) }

func (s *Schema) readValue(r *reader, t Type) (any, error) {
	if in, ok := integers[t]; ok {
		n, err := r.integer(t)
		if err != nil {
			return nil, err
		}
		return integerJSON(in, n), nil
	}
	switch t {
	case "bool":
		n, err := r.want(cborSimple, t)
		if err == nil && n != cborTrue && n != cborFalse {
			err = errors.New("neither true nor false")
		}
		return n == cborTrue, err
	case "str":
		raw, err := r.text(cborText, t)
		if err == nil && !utf8.Valid(raw) {
			err = errors.New("text is not UTF-8")
		}
		return string(raw), err
	case "bytes", "addr":
		raw, err := r.text(cborBytes, t)
		if err == nil && t == "addr" && len(raw) != AddressSize {
			err = fmt.Errorf("%d bytes are no address", len(raw))
		}
		return hexText(raw), err
	}
	if d := s.typeDef(t); d != nil {
		return s.readDef(r, d)
	}
	head, args := t.split()
	switch {
	case head == "opt" && len(args) == 1:
		if len(r.data) > 0 && r.data[0] == cborSimple<<5|cborNull {
			r.data = r.data[1:]
			return nil, nil
		}
		return s.readValue(r, args[0])
	case head == "list" && len(args) == 1:
		n, err := r.items(cborArray, t)
		if err != nil {
			return nil, err
		}
		list := make([]any, n)
		for i := range list {
			if list[i], err = s.readValue(r, args[0]); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return list, nil
	case head == "map" && len(args) == 2:
		return s.readMap(r, t, args[0], args[1])
	}
	return nil, fmt.Errorf("type %q is not known", t)
}

func (s *Schema) readMap(r *reader, t, key, value Type) (any, error) {
	n, err := r.items(cborMap, t)
	if err != nil {
		return nil, err
	}
	record := make(Record, n)
	var last []byte
	for i := range record {
		before := r.data
		k, err := s.readValue(r, key)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		raw := before[:len(before)-len(r.data)]
		if i > 0 && bytes.Compare(last, raw) >= 0 {
			return nil, errors.New("a map's keys are not sorted, or one occurs twice")
		}
		last = raw
		record[i].Name = fmt.Sprint(k)
		if record[i].Value, err = s.readValue(r, value); err != nil {
			return nil, fmt.Errorf("entry %v: %w", k, err)
		}
	}
	return record, nil
}

func (s *Schema) readDef(r *reader, d *TypeDef) (any, error) {
	if len(d.Variants) == 0 {
		return s.readFields(r, d.Fields)
	}
	major, n, err := r.head()
	isArray := major == cborArray
	length := n
	if err == nil && isArray {
		n, err = r.want(cborUint, Type(d.Name))
	} else if err == nil && major != cborUint {
		err = fmt.Errorf("CBOR major type %d is not %s", major, d.Name)
	}
	if err != nil {
		return nil, err
	}
	if n >= uint64(len(d.Variants)) {
		return nil, fmt.Errorf("%s has no variant %d", d.Name, n)
	}
	v := &d.Variants[n]
	if isArray != (len(v.Fields) > 0) || isArray && length != uint64(1+len(v.Fields)) {
		return nil, fmt.Errorf("%s.%s has %d fields", d.Name, v.Name, len(v.Fields))
	}
	if !isArray {
		return v.Name, nil
	}
	record, err := s.readEach(r, v.Fields)
	return Record{{Name: v.Name, Value: record}}, err
}

func (s *Schema) readFields(r *reader, fields []Field) (Record, error) {
	n, err := r.want(cborArray, "a list of fields")
	if err != nil {
		return nil, err
	}
	if n != uint64(len(fields)) {
		return nil, fmt.Errorf("%d values for %d fields", n, len(fields))
	}
	return s.readEach(r, fields)
}

func (s *Schema) readEach(r *reader, fields []Field) (Record, error) {
	record := make(Record, len(fields))
	for i, f := range fields {
		v, err := s.readValue(r, f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		record[i] = NamedValue{Name: f.Name, Value: v}
	}
	return record, nil
}
