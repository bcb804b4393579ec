package wasmvm

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"github.com/fondaco/fondaco/state/ledger"
)

// errCanonical says that bytes are not one value in canonical CBOR.
var errCanonical = errors.New("not one canonical CBOR value")

// canonical reports whether data is exactly one value in the deterministic CBOR of the ABI: RFC 8949 §4.2.1
// without floats. Unlike ledger.Unmarshal it needs no type and allocates nothing.
func canonical(data []byte) bool {
	rest, err := skip(data, 0)
	return err == nil && len(rest) == 0
}

// skip returns what follows the first value of data.
func skip(data []byte, nesting int) ([]byte, error) {
	if nesting > ledger.MaxNesting {
		return nil, errCanonical
	}
	major, n, rest, err := head(data)
	if err != nil {
		return nil, err
	}
	switch major {
	case 0, 1:
		return rest, nil
	case 2, 3:
		if n > uint64(len(rest)) || (major == 3 && !utf8.Valid(rest[:n])) {
			return nil, errCanonical
		}
		return rest[n:], nil
	case 4:
		if n > ledger.MaxElements || nesting == ledger.MaxNesting { // an empty one counts as a level too
			return nil, errCanonical
		}
		for range n {
			if rest, err = skip(rest, nesting+1); err != nil {
				return nil, err
			}
		}
		return rest, nil
	case 5:
		if n > ledger.MaxElements || nesting == ledger.MaxNesting {
			return nil, errCanonical
		}
		var last []byte
		for i := range n {
			after, err := skip(rest, nesting+1)
			if err != nil {
				return nil, err
			}
			key := rest[:len(rest)-len(after)]
			if i > 0 && bytes.Compare(last, key) >= 0 {
				return nil, errCanonical
			}
			if rest, err = skip(after, nesting+1); err != nil {
				return nil, err
			}
			last = key
		}
		return rest, nil
	case 6:
		if n == 2 || n == 3 { // a bignum has no other form: more than 64 bits, no leading zeros
			major, size, digits, err := head(rest)
			if err != nil || major != 2 || size < 9 || size > uint64(len(digits)) || digits[0] == 0 {
				return nil, errCanonical
			}
			return digits[size:], nil
		}
		return skip(rest, nesting+1)
	default:
		if n < 20 || n > 22 { // false, true, null
			return nil, errCanonical
		}
		return rest, nil
	}
}

// head reads the head of a value in its shortest form. Of major type 7 it admits only what fits the first byte.
func head(data []byte) (major byte, n uint64, rest []byte, err error) {
	if len(data) == 0 {
		return 0, 0, nil, errCanonical
	}
	major, n, rest = data[0]>>5, uint64(data[0]&31), data[1:]
	if n < 24 {
		return major, n, rest, nil
	}
	if n > 27 || major == 7 {
		return 0, 0, nil, errCanonical
	}
	size := 1 << (n - 24)
	if len(rest) < size {
		return 0, 0, nil, errCanonical
	}
	n = 0
	for _, b := range rest[:size] {
		n = n<<8 | uint64(b)
	}
	if (size == 1 && n < 24) || (size > 1 && n>>(size*4) == 0) {
		return 0, 0, nil, errCanonical
	}
	return major, n, rest[size:], nil
}

// appendHead appends the head of a CBOR value.
func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return append(b, major|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(b, major|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	default:
		return append(b, major|27, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func appendBytes(b, v []byte) []byte { return append(appendHead(b, 2, uint64(len(v))), v...) }

func appendText(b []byte, v string) []byte { return append(appendHead(b, 3, uint64(len(v))), v...) }

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, 1, uint64(-1-v))
	}
	return appendHead(b, 0, uint64(v))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xf5)
	}
	return append(b, 0xf4)
}

// append returns the map that the host function ctx gives to a contract.
func (c *Context) append(b []byte, gas uint64) []byte {
	b = appendHead(b, 5, 11)
	b = appendBytes(appendText(b, "self"), c.Self[:])
	b = appendText(appendText(b, "group"), string(c.Group))
	b = appendBytes(appendText(b, "tx_id"), c.Tx[:])
	b = appendBytes(appendText(b, "caller"), c.Caller[:])
	b = appendHead(appendText(b, "height"), 0, uint64(c.Height))
	b = appendText(appendText(b, "method"), c.Method)
	b = appendBytes(appendText(b, "origin"), c.Origin[:])
	b = appendInt(appendText(b, "time_ms"), c.UnixMilli)
	b = appendHead(appendText(b, "gas_left"), 0, gas)
	b = appendHead(appendText(b, "tx_index"), 0, uint64(c.Index))
	return appendBool(appendText(b, "read_only"), c.ReadOnly)
}
