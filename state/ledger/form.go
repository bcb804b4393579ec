package ledger

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// form is how a type is written and read: worked out once, so that no value costs a look at its type again. Types that are
// made of integers, booleans, strings, arrays of bytes, slices, pointers, and structs that are written as arrays have one;
// all others are the library's to encode. FuzzForm holds both to the same bytes and the same refusals.
type form struct {
	least  int // bytes of the shortest encoding
	append func(out []byte, v reflect.Value) []byte
	read   func(r *formReader, v reflect.Value) // into v, which can be set
}

// forms holds a *form for each type that was met; nil where the library encodes it.
var forms sync.Map

func formOf(t reflect.Type) *form {
	if f, ok := forms.Load(t); ok {
		return f.(*form)
	}
	f := newForm(t, nil)
	forms.Store(t, f)
	return f
}

// customary are the interfaces by which a type says for itself how it is encoded.
var customary = []reflect.Type{
	reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler](),
	reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](),
}

// newForm returns nil for what has no form. Within are the types that hold t: one that holds itself has none.
func newForm(t reflect.Type, within []reflect.Type) *form {
	if slices.Contains(within, t) || len(within) >= MaxNesting {
		return nil
	}
	for _, i := range customary {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return nil
		}
	}
	within = append(within, t)
	switch t.Kind() {
	case reflect.Bool:
		return formOfBool()
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		most := uint64(math.MaxUint64) >> (64 - t.Bits())
		return &form{
			least:  1,
			append: func(out []byte, v reflect.Value) []byte { return appendHead(out, cborUint, v.Uint()) },
			read:   func(r *formReader, v reflect.Value) { v.SetUint(r.uint("number", most)) },
		}
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		return formOfInt(uint64(math.MaxInt64) >> (64 - t.Bits()))
	case reflect.String:
		return &form{
			least: 1,
			append: func(out []byte, v reflect.Value) []byte {
				return append(appendHead(out, cborText, uint64(v.Len())), v.String()...)
			},
			read: func(r *formReader, v reflect.Value) { v.SetString(r.text("text")) },
		}
	case reflect.Array:
		if t.Elem().Kind() != reflect.Uint8 {
			return nil
		}
		size := t.Len()
		return &form{
			least: size + 1,
			append: func(out []byte, v reflect.Value) []byte {
				return append(appendHead(out, cborBytes, uint64(size)), v.Bytes()...)
			},
			read: func(r *formReader, v reflect.Value) { r.fixed("bytes", v.Bytes()) },
		}
	case reflect.Slice:
		return formOfSlice(t, within)
	case reflect.Pointer:
		return formOfPointer(t, within)
	case reflect.Struct:
		return formOfStruct(t, within)
	default:
		return nil
	}
}

func formOfBool() *form {
	return &form{
		least: 1,
		append: func(out []byte, v reflect.Value) []byte {
			if v.Bool() {
				return appendHead(out, cborSimple, cborTrue)
			}
			return appendHead(out, cborSimple, cborFalse)
		},
		read: func(r *formReader, v reflect.Value) {
			n := r.head("truth value", cborSimple)
			if n != cborTrue && n != cborFalse {
				r.fail("truth value")
			}
			v.SetBool(n == cborTrue)
		},
	}
}

// formOfInt is that of signed numbers from -1-most to most.
func formOfInt(most uint64) *form {
	return &form{
		least: 1,
		append: func(out []byte, v reflect.Value) []byte {
			n := v.Int()
			if n < 0 {
				return appendHead(out, cborNegInt, uint64(-1-n))
			}
			return appendHead(out, cborUint, uint64(n))
		},
		read: func(r *formReader, v reflect.Value) {
			negative := len(r.rest) > 0 && r.rest[0]>>5 == cborNegInt
			major := byte(cborUint)
			if negative {
				major = cborNegInt
			}
			n := r.head("number", major)
			switch {
			case n > most:
				r.fail("number")
			case negative:
				v.SetInt(-1 - int64(n))
			default:
				v.SetInt(int64(n))
			}
		},
	}
}

func formOfSlice(t reflect.Type, within []reflect.Type) *form {
	if t.Elem().Kind() == reflect.Uint8 {
		return &form{
			least: 1,
			append: func(out []byte, v reflect.Value) []byte {
				return append(appendHead(out, cborBytes, uint64(v.Len())), v.Bytes()...)
			},
			read: func(r *formReader, v reflect.Value) {
				v.SetBytes(append([]byte{}, r.string("bytes", cborBytes)...))
			},
		}
	}
	element := newForm(t.Elem(), within)
	if element == nil {
		return nil
	}
	return &form{
		least: 1,
		append: func(out []byte, v reflect.Value) []byte {
			n := v.Len()
			out = appendHead(out, cborArray, uint64(n))
			for i := range n {
				out = element.append(out, v.Index(i))
			}
			return out
		},
		read: func(r *formReader, v reflect.Value) {
			n := r.head("list", cborArray)
			if n > MaxElements || n*uint64(element.least) > uint64(len(r.rest)) { // before memory is taken for them
				r.fail("list")
				return
			}
			list := reflect.MakeSlice(t, int(n), int(n))
			for i := 0; i < int(n) && r.err == nil; i++ {
				element.read(r, list.Index(i))
			}
			v.Set(list)
		},
	}
}

func formOfPointer(t reflect.Type, within []reflect.Type) *form {
	if t.Elem().Kind() == reflect.Pointer {
		return nil
	}
	to := newForm(t.Elem(), within)
	if to == nil {
		return nil
	}
	return &form{
		least: 1,
		append: func(out []byte, v reflect.Value) []byte {
			if v.IsNil() {
				return appendHead(out, cborSimple, cborNull)
			}
			return to.append(out, v.Elem())
		},
		read: func(r *formReader, v reflect.Value) {
			if len(r.rest) > 0 && r.rest[0] == cborSimple<<5|cborNull {
				r.rest = r.rest[1:]
				v.SetZero()
				return
			}
			pointer := reflect.New(t.Elem())
			to.read(r, pointer.Elem())
			v.Set(pointer)
		},
	}
}

// formOfStruct is that of structs which say that they are arrays, and nothing else about their fields.
func formOfStruct(t reflect.Type, within []reflect.Type) *form {
	type field struct {
		index int
		form  *form
	}
	var fields []field
	least, isArray := 1, false
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("cbor")
		switch {
		case f.Name == "_" && tag == ",toarray":
			isArray = true
			continue
		case tagged || f.Anonymous || f.Tag.Get("json") == "-":
			return nil
		case !f.IsExported():
			continue
		}
		of := newForm(f.Type, within)
		if of == nil {
			return nil
		}
		fields = append(fields, field{i, of})
		least += of.least
	}
	if !isArray {
		return nil
	}
	return &form{
		least: least,
		append: func(out []byte, v reflect.Value) []byte {
			out = appendHead(out, cborArray, uint64(len(fields)))
			for _, f := range fields {
				out = f.form.append(out, v.Field(f.index))
			}
			return out
		},
		read: func(r *formReader, v reflect.Value) {
			r.array(t.Name(), uint64(len(fields)))
			for _, f := range fields {
				if r.err != nil {
					return
				}
				f.form.read(r, v.Field(f.index))
			}
		},
	}
}

// formReader reads canonical CBOR of a form that is known. After the first error it reads nothing more.
type formReader struct {
	rest []byte
	size int // of the whole
	err  error
}

func (r *formReader) fail(want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: at byte %d, want the canonical form of the %s", ErrEncoding, r.size-len(r.rest), want)
	}
	r.rest = nil
}

// head reads the head of an item and returns its argument. It refuses any but the shortest form.
func (r *formReader) head(what string, major byte) uint64 {
	if len(r.rest) == 0 || r.rest[0]>>5 != major {
		r.fail(what)
		return 0
	}
	argument := uint64(r.rest[0] & 0x1f)
	width, least := 0, uint64(0)
	switch argument {
	case 24:
		width, least = 1, 24
	case 25:
		width, least = 2, 1<<8
	case 26:
		width, least = 4, 1<<16
	case 27:
		width, least = 8, 1<<32
	}
	if argument > 27 || len(r.rest) < 1+width {
		r.fail(what)
		return 0
	}
	if width > 0 {
		var wide [8]byte
		copy(wide[8-width:], r.rest[1:1+width])
		if argument = binary.BigEndian.Uint64(wide[:]); argument < least {
			r.fail(what)
			return 0
		}
	}
	r.rest = r.rest[1+width:]
	return argument
}

func (r *formReader) array(what string, length uint64) {
	if r.head(what, cborArray) != length {
		r.fail(what)
	}
}

func (r *formReader) uint(what string, most uint64) uint64 {
	v := r.head(what, cborUint)
	if v > most {
		r.fail(what)
		return 0
	}
	return v
}

// string returns the content of a byte or text string. It lies in what is read.
func (r *formReader) string(what string, major byte) []byte {
	n := r.head(what, major)
	if n > uint64(len(r.rest)) {
		r.fail(what)
		return nil
	}
	content := r.rest[:n:n]
	r.rest = r.rest[n:]
	return content
}

func (r *formReader) fixed(what string, into []byte) {
	if content := r.string(what, cborBytes); copy(into, content) != len(into) || len(content) != len(into) {
		r.fail(what)
	}
}

func (r *formReader) text(what string) string {
	content := r.string(what, cborText)
	if !utf8.Valid(content) {
		r.fail(what)
	}
	return string(content)
}
