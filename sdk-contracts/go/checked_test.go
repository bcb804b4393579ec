//go:build !(wasip1 && wasm)

package sdk

import (
	"errors"
	"math"
	"math/big"
	"testing"
)

// TestChecked compares the arithmetic with math/big: on all pairs of the narrow types, and at the edges of the wide ones.
func TestChecked(t *testing.T) {
	var bytes []uint8
	var chars []int8
	for n := range 256 {
		bytes, chars = append(bytes, uint8(n)), append(chars, int8(n))
	}
	checkIntegers(t, bytes)
	checkIntegers(t, chars)
	checkIntegers(t, []uint16{0, 1, 2, 255, 256, 257, math.MaxUint16 - 1, math.MaxUint16})
	checkIntegers(t, []int16{math.MinInt16, math.MinInt16 + 1, -182, -181, -1, 0, 1, 181, 182, math.MaxInt16})
	checkIntegers(t, []uint32{0, 1, 2, math.MaxUint16, math.MaxUint16 + 1, math.MaxUint32 - 1, math.MaxUint32})
	checkIntegers(t, []int32{math.MinInt32, math.MinInt32 + 1, -46341, -1, 0, 1, 46340, 46341, math.MaxInt32})
	checkIntegers(t, []uint64{0, 1, 2, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64 - 1, math.MaxUint64})
	checkIntegers(t, []int64{math.MinInt64, math.MinInt64 + 1, -3037000500, -1, 0, 1, 3037000499, 3037000500, math.MaxInt64})
	type cents int64
	checkIntegers(t, []cents{math.MinInt64, -1, 0, 1, math.MaxInt64})
}

func checkIntegers[T Integer](t *testing.T, values []T) {
	t.Helper()
	number := func(v T) *big.Int {
		if v < 0 {
			return big.NewInt(int64(v))
		}
		return new(big.Int).SetUint64(uint64(v))
	}
	operations := []struct {
		name string
		do   func(a, b T) T
		want func(z, a, b *big.Int) *big.Int
	}{{"add", Add[T], (*big.Int).Add}, {"sub", Sub[T], (*big.Int).Sub}, {"mul", Mul[T], (*big.Int).Mul}}
	host := &Fake{}
	for _, o := range operations {
		for _, a := range values {
			for _, b := range values {
				want := o.want(new(big.Int), number(a), number(b))
				fits := want.IsInt64() && number(T(want.Int64())).Cmp(want) == 0 || want.IsUint64() && number(T(want.Uint64())).Cmp(want) == 0
				var got T
				err := host.Run(func(Ctx) error { got = o.do(a, b); return nil })
				if fits && (err != nil || number(got).Cmp(want) != 0) {
					t.Fatalf("%s of %T %d and %d is %d, %v, want %s", o.name, a, a, b, got, err, want)
				}
				if abortion, ok := errors.AsType[*Abortion](err); !fits && (!ok || abortion.Code != CodeOverflow) {
					t.Fatalf("%s of %T %d and %d is %d, %v, want an overflow", o.name, a, a, b, got, err)
				}
			}
		}
	}
}
