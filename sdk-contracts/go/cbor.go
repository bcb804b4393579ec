package sdk

// The codec writes and reads canonical CBOR (RFC 8949 §4.2.1). It is written out by hand, without
// reflection: the generated code calls it type by type.

const (
	majorUint   = 0
	majorNegInt = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7

	null = 0xf6
)

func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return append(b, major|25, byte(n>>8), byte(n))
	case n <= 0xffff_ffff:
		return append(b, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	default:
		return append64(append(b, major|27), n)
	}
}

func append64(b []byte, n uint64) []byte {
	return append(b, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, n uint64) []byte { return appendHead(b, majorUint, n) }

// AppendInt appends a signed integer.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, majorNegInt, uint64(^n))
	}
	return appendHead(b, majorUint, uint64(n))
}

// AppendBool appends a boolean.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xf5)
	}
	return append(b, 0xf4)
}

// AppendText appends a text.
func AppendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

// AppendBytes appends a byte string.
func AppendBytes(b, data []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(data))), data...)
}

// AppendAddr appends an address.
func AppendAddr(b []byte, a Addr) []byte { return append(append(b, majorBytes<<5|20), a[:]...) }

// AppendArray begins an array of n values.
func AppendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// AppendNull appends an absent value.
func AppendNull(b []byte) []byte { return append(b, null) }

// AppendU128 appends an amount.
func AppendU128(b []byte, v U128) []byte {
	if v.Hi == 0 {
		return appendHead(b, majorUint, v.Lo)
	}
	size := 8
	for rest := v.Hi; rest > 0; rest >>= 8 {
		size++
	}
	b = append(b, 0xc2, majorBytes<<5|byte(size))
	for i := size - 9; i >= 0; i-- {
		b = append(b, byte(v.Hi>>(8*i)))
	}
	return append64(b, v.Lo)
}

// Decoder reads values one after the other. After the first that is malformed, or not of the wanted type,
// all that it returns are zero values, and Done says so.
type Decoder struct {
	data []byte
	bad  bool
}

// NewDecoder reads from data, which it shares.
func NewDecoder(data []byte) *Decoder { return &Decoder{data: data} }

// Done reports whether all was well formed and nothing is left.
func (d *Decoder) Done() bool { return !d.bad && len(d.data) == 0 }

// OK reports whether all so far was well formed.
func (d *Decoder) OK() bool { return !d.bad }

// Fail marks the data as malformed.
func (d *Decoder) Fail() { d.bad, d.data = true, nil }

// any reads the head of a value.
func (d *Decoder) any() (major byte, n uint64) {
	if len(d.data) == 0 {
		d.Fail()
		return majorSimple, 0
	}
	first := d.data[0]
	major, n = first>>5, uint64(first&31)
	d.data = d.data[1:]
	if n < 24 {
		return major, n
	}
	if n > 27 || major == majorSimple || len(d.data) < 1<<(n-24) {
		d.Fail()
		return majorSimple, 0
	}
	width := 1 << (n - 24)
	n = 0
	for _, b := range d.data[:width] {
		n = n<<8 | uint64(b)
	}
	d.data = d.data[width:]
	least := uint64(24)
	if width > 1 {
		least = 1 << (4 * width)
	}
	if n < least {
		d.Fail()
		return majorSimple, 0
	}
	return major, n
}

func (d *Decoder) head(want byte) uint64 {
	major, n := d.any()
	if major != want || d.bad {
		d.Fail()
		return 0
	}
	return n
}

// take returns the next n bytes, shared with the data.
func (d *Decoder) take(n uint64) []byte {
	if n > uint64(len(d.data)) {
		d.Fail()
		return nil
	}
	raw := d.data[:n]
	d.data = d.data[n:]
	return raw
}

func (d *Decoder) fixed(size int) []byte {
	if n := d.head(majorBytes); n == uint64(size) {
		if raw := d.take(n); raw != nil {
			return raw
		}
	}
	d.Fail()
	return make([]byte, size)
}

// Uint reads an unsigned integer of at most that many bits.
func (d *Decoder) Uint(bits uint) uint64 {
	n := d.head(majorUint)
	if bits < 64 && n>>bits != 0 {
		d.Fail()
		return 0
	}
	return n
}

// Int reads a signed integer of at most that many bits.
func (d *Decoder) Int(bits uint) int64 {
	major, n := d.any()
	if major > majorNegInt || n>>(bits-1) != 0 {
		d.Fail()
		return 0
	}
	if major == majorNegInt {
		return ^int64(n)
	}
	return int64(n)
}

// Bool reads a boolean.
func (d *Decoder) Bool() bool {
	n := d.head(majorSimple)
	if n != 20 && n != 21 {
		d.Fail()
	}
	return n == 21
}

// Text reads a text into memory of its own.
func (d *Decoder) Text() string {
	s := string(d.take(d.head(majorText)))
	for _, r := range s {
		if r == 0xfffd && !validText(s) {
			d.Fail()
			return ""
		}
	}
	return s
}

// validText reports whether s is UTF-8: what a range over it calls U+FFFD must be written so.
func validText(s string) bool {
	for i, r := range s {
		if r == 0xfffd && (len(s) < i+3 || s[i:i+3] != "\xef\xbf\xbd") {
			return false
		}
	}
	return true
}

// Bytes reads a byte string into memory of its own.
func (d *Decoder) Bytes() []byte {
	raw := d.take(d.head(majorBytes))
	return append(make([]byte, 0, len(raw)), raw...)
}

// Fixed reads a byte string of exactly len(dst) bytes into dst.
func (d *Decoder) Fixed(dst []byte) { copy(dst, d.fixed(len(dst))) }

// Addr reads an address.
func (d *Decoder) Addr() (a Addr) {
	copy(a[:], d.fixed(len(a)))
	return a
}

// U128 reads an amount.
func (d *Decoder) U128() U128 {
	major, n := d.any()
	if major == majorUint {
		return U128{Lo: n}
	}
	if major != majorTag || n != 2 {
		d.Fail()
		return U128{}
	}
	raw := d.take(d.head(majorBytes))
	if len(raw) <= 8 || len(raw) > 16 || raw[0] == 0 {
		d.Fail()
		return U128{}
	}
	var v U128
	for _, b := range raw {
		v.Hi, v.Lo = v.Hi<<8|v.Lo>>56, v.Lo<<8|uint64(b)
	}
	return v
}

// Array reads the head of an array and returns its length, which is at most the bytes left.
func (d *Decoder) Array() int {
	n := d.head(majorArray)
	if n > 65_536 || n > uint64(len(d.data)) {
		d.Fail()
		return 0
	}
	return int(n)
}

// Struct reads the head of an array that must have n values.
func (d *Decoder) Struct(n int) {
	if d.Array() != n {
		d.Fail()
	}
}

// Null reads an absent value if there is one, and reports whether.
func (d *Decoder) Null() bool {
	if len(d.data) > 0 && d.data[0] == null {
		d.data = d.data[1:]
		return true
	}
	return false
}

// Skip reads over a value of any type.
func (d *Decoder) Skip() { d.skip(32) }

func (d *Decoder) skip(depth int) {
	if depth == 0 {
		d.Fail()
		return
	}
	major, n := d.any()
	switch major {
	case majorBytes, majorText:
		d.take(n)
	case majorMap, majorArray:
		if n > uint64(len(d.data)) {
			d.Fail()
			return
		}
		for range n << (major - majorArray) {
			d.skip(depth - 1)
		}
	case majorTag:
		d.skip(depth - 1)
	}
}

// Encodable is what the builder adds to the contract's types.
type Encodable interface{ AppendCBOR(b []byte) []byte }

// decodable is what the builder adds to pointers to the contract's types.
type decodable interface{ DecodeCBOR(d *Decoder) }

// appendValue appends the value that v points to.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case *bool:
		return AppendBool(b, *v)
	case *uint8:
		return AppendUint(b, uint64(*v))
	case *uint16:
		return AppendUint(b, uint64(*v))
	case *uint32:
		return AppendUint(b, uint64(*v))
	case *uint64:
		return AppendUint(b, *v)
	case *int8:
		return AppendInt(b, int64(*v))
	case *int16:
		return AppendInt(b, int64(*v))
	case *int32:
		return AppendInt(b, int64(*v))
	case *int64:
		return AppendInt(b, *v)
	case *string:
		return AppendText(b, *v)
	case *[]byte:
		return AppendBytes(b, *v)
	case *Addr:
		return AppendAddr(b, *v)
	case *Hash:
		return AppendBytes(b, v[:])
	case *U128:
		return AppendU128(b, *v)
	case Encodable:
		return v.AppendCBOR(b)
	}
	return appendOther(b, v)
}

// decodeValue reads into what v points to.
func decodeValue(d *Decoder, v any) {
	switch v := v.(type) {
	case *bool:
		*v = d.Bool()
	case *uint8:
		*v = uint8(d.Uint(8))
	case *uint16:
		*v = uint16(d.Uint(16))
	case *uint32:
		*v = uint32(d.Uint(32))
	case *uint64:
		*v = d.Uint(64)
	case *int8:
		*v = int8(d.Int(8))
	case *int16:
		*v = int16(d.Int(16))
	case *int32:
		*v = int32(d.Int(32))
	case *int64:
		*v = d.Int(64)
	case *string:
		*v = d.Text()
	case *[]byte:
		*v = d.Bytes()
	case *Addr:
		*v = d.Addr()
	case *Hash:
		d.Fixed(v[:])
	case *U128:
		*v = d.U128()
	case decodable:
		v.DecodeCBOR(d)
	default:
		decodeOther(d, v)
	}
}
