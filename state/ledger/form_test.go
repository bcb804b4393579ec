package ledger

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

// formed are the types whose forms are held against the library: what nodes sign, send and store, and one with every kind.
var formed = []reflect.Type{
	reflect.TypeFor[Statement](), reflect.TypeFor[Vote](), reflect.TypeFor[Certificate](), reflect.TypeFor[NewView](), reflect.TypeFor[Order](),
	reflect.TypeFor[Header](), reflect.TypeFor[Block](), reflect.TypeFor[Tx](), reflect.TypeFor[Receipt](), reflect.TypeFor[Genesis](),
	reflect.TypeFor[Epoch](), reflect.TypeFor[Evidence](), reflect.TypeFor[kinds](), reflect.TypeFor[[]Vote](), reflect.TypeFor[keys.Digest](),
}

type kinds struct {
	_     struct{} `cbor:",toarray"`
	A     bool
	B     uint8
	C     uint16
	D     uint32
	E     uint64
	F     uint
	G     int8
	H     int16
	I     int32
	J     int64
	K     int
	L     string
	M     []byte
	N     [5]byte
	O     []string
	P     *uint16
	Q     *kindsWithin
	R     []kindsWithin
	S     []*kindsWithin
	other int //nolint:unused // what is not exported is not written
}

type kindsWithin struct {
	_ struct{} `cbor:",toarray"`
	A [][]byte
	B *[]byte
	C []keys.Algorithm
}

// FuzzForm: a form writes a value as the library does, and accepts the bytes that the library accepts and that are what it
// writes, as the same value.
func FuzzForm(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, []byte{})
		f.Add(seed, []byte{0, 0xf6, 1, 0x18, 3, 0xff})
	}
	f.Fuzz(func(t *testing.T, seed uint64, changes []byte) {
		rng := rand.New(rand.NewPCG(seed, 0))
		of := formed[seed%uint64(len(formed))]
		if formOf(of) == nil {
			t.Fatalf("%s has no form", of)
		}
		v := reflect.New(of)
		fill(rng, v.Elem(), 4)
		data, err := Marshal(v.Interface())
		want, errWant := encoder.Marshal(v.Interface())
		if err != nil || errWant != nil || !bytes.Equal(data, want) {
			t.Fatalf("%s is written as %x, %v; by the library as %x, %v", of, data, err, want, errWant)
		}
		again := reflect.New(of)
		if err := Unmarshal(data, again.Interface()); err != nil {
			t.Fatalf("%s, %x: %v", of, data, err)
		}
		for i := range len(changes) + 4 {
			sameVerdict(t, of, data)
			if i < len(changes) && len(data) > 0 { // what the fuzzer says, somewhere
				data = slices.Clone(data)
				data[rng.IntN(len(data))] = changes[i]
				continue
			}
			data = changed(rng, data)
		}
	})
}

// sameVerdict compares the form and the library on bytes that may be good or bad.
func sameVerdict(t *testing.T, of reflect.Type, data []byte) {
	t.Helper()
	got, want := reflect.New(of), reflect.New(of)
	err := Unmarshal(data, got.Interface())
	errWant := decoder.Unmarshal(data, want.Interface())
	if errWant == nil {
		if again, err := encoder.Marshal(want.Interface()); err != nil || !bytes.Equal(again, data) {
			errWant = ErrEncoding
		}
	}
	switch {
	case (err == nil) != (errWant == nil) || err != nil && !errors.Is(err, ErrEncoding):
		t.Fatalf("%s, %x: %v, by the library %v", of, data, err, errWant)
	case err == nil && !reflect.DeepEqual(got.Interface(), want.Interface()):
		t.Fatalf("%s, %x is read as %+v, by the library as %+v", of, data, got.Elem(), want.Elem())
	}
}

// changed damages an encoding: a byte of it, its end, or a head that becomes another.
func changed(rng *rand.Rand, data []byte) []byte {
	if len(data) == 0 {
		return []byte{byte(rng.Uint32())}
	}
	at := rng.IntN(len(data))
	switch rng.IntN(5) {
	case 0:
		return data[:at]
	case 1:
		return slices.Insert(slices.Clone(data), at, byte(rng.Uint32()))
	case 2:
		return slices.Delete(slices.Clone(data), at, at+1)
	default:
		data = slices.Clone(data)
		data[at] = []byte{byte(rng.Uint32()), data[at] + 1, data[at] - 1, 0xf6, 0xf7, 0x40, 0x60, 0x80, 0x18, 0x9f}[rng.IntN(10)]
		return data
	}
}

// fill sets v to something random, whose slices nest so deep.
func fill(rng *rand.Rand, v reflect.Value, deep int) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(rng.Uint64() >> rng.IntN(64)) // cut to its size
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(int64(rng.Uint64()) >> rng.IntN(64))
	case reflect.String:
		v.SetString([]string{"", "a", "ünïcode", string(make([]byte, 24)), string(make([]byte, 300))}[rng.IntN(5)])
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i), deep)
		}
	case reflect.Slice:
		if deep > 0 && rng.IntN(4) > 0 {
			v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		}
		for i := range v.Len() {
			fill(rng, v.Index(i), deep-1)
		}
	case reflect.Pointer:
		if rng.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem(), deep)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(rng, v.Field(i), deep)
			}
		}
	default:
		panic("no value for a " + v.Kind().String())
	}
}
