package sdk

import "math/bits"

// U128 is an unsigned integer of 128 bits: an amount. The zero value is 0. Arithmetic that leaves the range
// ends the call with CodeOverflow; money never wraps around.
type U128 struct{ Hi, Lo uint64 }

// NewU128 returns n as an amount.
func NewU128(n uint64) U128 { return U128{Lo: n} }

// ParseU128 reads decimal digits.
func ParseU128(s string) (v U128, ok bool) {
	if s == "" || len(s) > 39 {
		return U128{}, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return U128{}, false
		}
		var over, carry uint64
		over, v.Hi, v.Lo = mul128(v, U128{Lo: 10})
		v.Lo, carry = bits.Add64(v.Lo, uint64(s[i]-'0'), 0)
		v.Hi, carry = bits.Add64(v.Hi, 0, carry)
		if over|carry != 0 {
			return U128{}, false
		}
	}
	return v, true
}

// IsZero reports whether v is 0.
func (v U128) IsZero() bool { return v.Hi|v.Lo == 0 }

// wide reports whether v is 2^63 or above: more than a counter can be.
func (v U128) wide() bool { return v.Hi|v.Lo>>63 != 0 }

// Cmp returns -1, 0 or 1 as v is below, equal to or above o.
func (v U128) Cmp(o U128) int {
	switch {
	case v == o:
		return 0
	case v.Less(o):
		return -1
	}
	return 1
}

// Less reports whether v is below o.
func (v U128) Less(o U128) bool { return v.Hi < o.Hi || v.Hi == o.Hi && v.Lo < o.Lo }

// Add returns v + o.
func (v U128) Add(o U128) U128 {
	lo, carry := bits.Add64(v.Lo, o.Lo, 0)
	hi, carry := bits.Add64(v.Hi, o.Hi, carry)
	if carry != 0 {
		Abort(CodeOverflow, "u128 add")
	}
	return U128{hi, lo}
}

// Sub returns v - o.
func (v U128) Sub(o U128) U128 {
	lo, borrow := bits.Sub64(v.Lo, o.Lo, 0)
	hi, borrow := bits.Sub64(v.Hi, o.Hi, borrow)
	if borrow != 0 {
		Abort(CodeOverflow, "u128 sub")
	}
	return U128{hi, lo}
}

// Mul returns v * o.
func (v U128) Mul(o U128) U128 {
	over, hi, lo := mul128(v, o)
	if over != 0 {
		Abort(CodeOverflow, "u128 mul")
	}
	return U128{hi, lo}
}

// Div returns v / o, rounded down, and the remainder.
func (v U128) Div(o U128) (quotient, remainder U128) {
	if o.IsZero() {
		Abort(CodeOverflow, "u128 division by zero")
	}
	return div256(U128{}, v, o)
}

// MulDiv returns v * mul / div, rounded down, without losing bits of the product: for rates and shares.
func (v U128) MulDiv(mul, div U128) U128 {
	high, low := mulWide(v, mul)
	if !high.Less(div) {
		Abort(CodeOverflow, "u128 muldiv")
	}
	quotient, _ := div256(high, low, div)
	return quotient
}

// mul128 returns the low 128 bits of the product, and non-zero in over if there are more.
func mul128(v, o U128) (over, hi, lo uint64) {
	high, low := mulWide(v, o)
	return high.Hi | high.Lo, low.Hi, low.Lo
}

// mulWide returns the product of 256 bits.
func mulWide(v, o U128) (high, low U128) {
	h00, l00 := bits.Mul64(v.Lo, o.Lo)
	h01, l01 := bits.Mul64(v.Lo, o.Hi)
	h10, l10 := bits.Mul64(v.Hi, o.Lo)
	h11, l11 := bits.Mul64(v.Hi, o.Hi)
	low.Lo = l00
	var c1, c2 uint64
	low.Hi, c1 = bits.Add64(h00, l01, 0)
	low.Hi, c2 = bits.Add64(low.Hi, l10, 0)
	high.Lo, c1 = bits.Add64(h01, l11, c1)
	high.Hi = h11 + c1
	high.Lo, c2 = bits.Add64(high.Lo, h10, c2)
	high.Hi += c2
	return high, low
}

// div256 divides high·2^128 + low by d, bit by bit; high is below d.
func div256(high, low, d U128) (quotient, remainder U128) {
	if high.IsZero() && d.Hi == 0 { // the ordinary case: two divisions of words
		var r uint64
		quotient.Hi, r = low.Hi/d.Lo, low.Hi%d.Lo
		quotient.Lo, r = bits.Div64(r, low.Lo, d.Lo)
		return quotient, U128{Lo: r}
	}
	remainder = high
	for range 128 {
		top := remainder.Hi >> 63
		remainder = U128{remainder.Hi<<1 | remainder.Lo>>63, remainder.Lo<<1 | low.Hi>>63}
		low = U128{low.Hi<<1 | low.Lo>>63, low.Lo << 1}
		quotient = U128{quotient.Hi<<1 | quotient.Lo>>63, quotient.Lo << 1}
		if top != 0 || !remainder.Less(d) {
			lo, borrow := bits.Sub64(remainder.Lo, d.Lo, 0)
			hi, _ := bits.Sub64(remainder.Hi, d.Hi, borrow)
			remainder = U128{hi, lo}
			quotient.Lo |= 1
		}
	}
	return quotient, remainder
}

// String returns the decimal digits.
func (v U128) String() string {
	var digits [39]byte
	i := len(digits)
	for {
		var r U128
		v, r = div256(U128{}, v, U128{Lo: 10})
		i--
		digits[i] = '0' + byte(r.Lo)
		if v.IsZero() {
			return string(digits[i:])
		}
	}
}
