package wasmvm

import "testing"

// TestHarmless tells behind which and-instructions R1 has to stand.
func TestHarmless(t *testing.T) {
	for code, want := range map[string]bool{
		"i32.add":                         true,
		"i32.eqz br_if 0":                 true,
		"i32.const 0 i32.eq":              true,
		"i32.const 3 i32.shl":             true,
		"local.get 1 i32.store8 0":        true,
		"i32.load8_u 0":                   true,
		"local.get 1 local.set 2 i32.xor": true,
		"i64.extend_i32_u":                true,
		"i32.const 0 i32.gt_s":            false,
		"i32.lt_u":                        false,
		"i32.const 32 i32.shl":            false, // is the value itself
		"i32.const 0 i32.shr_u":           false,
		"local.get 1 i32.shl":             false,
		"local.set 1":                     false,
		"local.tee 1 i32.add":             false,
		"drop":                            false,
		"br_if 0":                         false,
		"if _ end":                        false,
		"local.get 1 local.get 2 select":  false,
		"call 0":                          false,
		"block _ end i32.add":             false,
		"":                                false,
	} {
		if got := harmless(decoder{reader: reader{buf: newAssembler().code(code)}}); got != want {
			t.Errorf("i32.and %s: harmless %t, want %t", code, got, want)
		}
	}
}
