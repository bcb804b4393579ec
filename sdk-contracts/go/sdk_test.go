//go:build !(wasip1 && wasm)

package sdk

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

func bigOf(v U128) *big.Int {
	n := new(big.Int).Lsh(new(big.Int).SetUint64(v.Hi), 64)
	return n.Or(n, new(big.Int).SetUint64(v.Lo))
}

// TestU128 compares the arithmetic with math/big on random values of all sizes, the edges included.
func TestU128(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() U128 {
		v := U128{rng.Uint64(), rng.Uint64()}
		switch shift := rng.UintN(130); {
		case shift < 64:
			v = U128{v.Hi >> shift, v.Lo>>shift | v.Hi<<(64-shift)}
		case shift < 128:
			v = U128{0, v.Hi >> (shift - 64)}
		case shift == 128:
			v = U128{^uint64(0), ^uint64(0)}
		}
		return v
	}
	host := &Fake{}
	// check runs f, which must give want, or end with an overflow when want does not fit.
	check := func(name string, a, b U128, want *big.Int, f func() U128) {
		t.Helper()
		var got U128
		err := host.Run(func(Ctx) error { got = f(); return nil })
		if want == nil || want.Sign() < 0 || want.BitLen() > 128 {
			if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeOverflow {
				t.Fatalf("%s of %s and %s: %s, %v, want an overflow", name, a, b, got, err)
			}
			return
		}
		if err != nil || bigOf(got).Cmp(want) != 0 || got.String() != want.String() {
			t.Fatalf("%s of %s and %s: %s, %v, want %s", name, a, b, got, err, want)
		}
	}
	for range 20_000 {
		a, b, d := random(), random(), random()
		x, y, z := bigOf(a), bigOf(b), bigOf(d)
		check("sum", a, b, new(big.Int).Add(x, y), func() U128 { return a.Add(b) })
		check("difference", a, b, new(big.Int).Sub(x, y), func() U128 { return a.Sub(b) })
		check("product", a, b, new(big.Int).Mul(x, y), func() U128 { return a.Mul(b) })
		var quotient, rest, scaled *big.Int
		if y.Sign() > 0 {
			quotient, rest = new(big.Int).QuoRem(x, y, new(big.Int))
		}
		if z.Sign() > 0 {
			scaled = new(big.Int).Mul(x, y)
			scaled.Quo(scaled, z)
		}
		check("quotient", a, b, quotient, func() U128 { q, _ := a.Div(b); return q })
		check("remainder", a, b, rest, func() U128 { _, r := a.Div(b); return r })
		check("share", a, b, scaled, func() U128 { return a.MulDiv(b, d) })
		if a.Cmp(b) != x.Cmp(y) || a.Less(b) != (x.Cmp(y) < 0) {
			t.Fatalf("%s and %s compare wrongly", a, b)
		}
		if parsed, ok := ParseU128(a.String()); !ok || parsed != a {
			t.Fatalf("ParseU128(%s) = %s, %t", a, parsed, ok)
		}
	}
	for _, bad := range []string{"", "-1", "1.5", "340282366920938463463374607431768211456", "999999999999999999999999999999999999999", "0x10"} {
		if v, ok := ParseU128(bad); ok {
			t.Errorf("ParseU128(%q) = %s", bad, v)
		}
	}
}

type grade uint8

type cell struct {
	Row  uint16
	Side int8
	Name string
}

type record struct {
	Grade grade
	Owner *Addr
	Parts [][]byte
	Sum   U128
}

func TestFake(t *testing.T) {
	var (
		cells  = NewMap[cell, record]("cell")
		plain  = NewValue[string]("plain")
		visits = NewCounter("visits")
	)
	host := &Fake{Caller: Addr{1}, Roles: []string{"regulator"}, Institution: "alpha"}
	want := record{Grade: 3, Owner: &Addr{9}, Parts: [][]byte{{}, {1, 2}}, Sum: U128{1, 2}}
	keys := []cell{{1, -1, "b"}, {1, 0, "a"}, {1, 0, "ab"}, {256, -128, ""}}
	err := host.Run(func(c Ctx) error {
		for i := range keys {
			cells.Set(keys[len(keys)-1-i], want)
		}
		plain.Set("kept")
		if !visits.Add(5, 0, 5) || visits.Add(1, 0, 5) || visits.Get() != 5 {
			t.Error("the counter left its bounds")
		}
		if !c.HasRole("regulator") || c.HasRole("auditor") || c.Institution() != "alpha" || c.Caller() != (Addr{1}) {
			t.Error("the context is not the host's")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("entries come back in the order of their keys", func(t *testing.T) {
		err := host.Run(func(Ctx) error {
			var got []cell
			for k, v := range cells.All(10) {
				if got = append(got, k); !reflect.DeepEqual(v, want) {
					t.Errorf("%v is %v, want %v", k, v, want)
				}
			}
			if !reflect.DeepEqual(got, keys) {
				t.Errorf("keys are %v, want %v", got, keys)
			}
			for k := range cells.From(keys[2], 10) {
				if k != keys[2] {
					t.Errorf("the first key from %v is %v", keys[2], k)
				}
				break
			}
			for k := range cells.Backward(1) {
				if k != keys[3] {
					t.Errorf("the last key is %v", k)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("entries under a first key", func(t *testing.T) {
		names := NewMap[string, uint8]("name")
		err := host.Run(func(Ctx) error {
			var got []cell
			for k := range Under(cells, uint16(1), 10) {
				got = append(got, k)
			}
			if !reflect.DeepEqual(got, keys[:3]) {
				t.Errorf("the keys under 1 are %v, want %v", got, keys[:3])
			}
			var texts []string
			for _, name := range []string{"a", "\xff", "\xff\xffa", "b", "ba"} {
				names.Set(name, 1)
			}
			for _, prefix := range []string{"\xff", "b", "", "c"} {
				for name := range Under(names, prefix, 10) {
					texts = append(texts, name)
				}
			}
			if want := []string{"\xff", "\xff\xffa", "b", "ba", "a", "b", "ba", "\xff", "\xff\xffa"}; !reflect.DeepEqual(texts, want) {
				t.Errorf("the keys under texts are %q, want %q", texts, want)
			}
			return errors.New("undone")
		})
		if err == nil || err.Error() != "undone" {
			t.Fatal(err)
		}
	})
	t.Run("what a node denies", func(t *testing.T) {
		names := NewMap[string, []byte]("name")
		long := strings.Repeat("x", 252)
		for name, f := range map[string]func(c Ctx){
			"a long key":       func(Ctx) { names.Set(long, nil) },
			"a long key, read": func(Ctx) { names.Has(long) },
			"a large value":    func(Ctx) { names.Set("a", make([]byte, 128<<10)) },
			"no limit":         func(Ctx) { names.All(0)(func(string, []byte) bool { return true }) },
			"a limit too high": func(Ctx) { names.All(1_025)(func(string, []byte) bool { return true }) },
			"a 65th event": func(c Ctx) {
				for range 65 {
					c.Emit(struct{ Event }{})
				}
			},
			"nine scans at a time": func(Ctx) {
				for range 9 {
					hostScan([]byte("a"), []byte("b"), 0, 1)
				}
			},
		} {
			err := host.Run(func(c Ctx) error { f(c); return nil })
			if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeDenied {
				t.Errorf("%s: %v, want a denial", name, err)
			}
		}
		if err := host.Run(func(Ctx) error { names.Set(long[1:], make([]byte, 128<<10-5)); return errors.New("undone") }); err == nil || err.Error() != "undone" {
			t.Errorf("the longest key and the largest value: %v", err)
		}
	})
	t.Run("the method, hashes and signatures", func(t *testing.T) {
		host := &Fake{Method: "pay"}
		check := func(c Ctx) error {
			if c.Method() != "pay" || SHA256([]byte("abc"))[0] != 0xba {
				t.Errorf("method %q, digest %x", c.Method(), SHA256([]byte("abc")))
			}
			return nil
		}
		if err := host.Run(check); err != nil {
			t.Error(err)
		}
		verify := func(Ctx) error {
			if !Verify(P256, []byte{1}, []byte{2}, []byte{3}) {
				return errors.New("no")
			}
			_ = SM3(nil)
			return nil
		}
		if err := host.Run(verify); err == nil || err.Error() != "no" {
			t.Errorf("a signature without Verifies: %v", err)
		}
		host.Verifies = func(algorithm uint32, _, _, _ []byte) bool { return algorithm == P256 }
		host.Hashes = func(uint32, []byte) Hash { return Hash{} }
		if err := host.Run(verify); err != nil {
			t.Error(err)
		}
	})
	t.Run("a failure undoes what the call did", func(t *testing.T) {
		err := host.Run(func(Ctx) error {
			plain.Set("changed")
			cells.Delete(keys[0])
			return Denied("no")
		})
		if f, ok := errors.AsType[Failure](err); !ok || f.Code != CodeDenied {
			t.Errorf("Run = %v", err)
		}
		if err := host.Run(func(Ctx) error {
			if plain.Get() != "kept" || !cells.Has(keys[0]) {
				t.Error("the failed call left something")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a view may not write", func(t *testing.T) {
		host.ReadOnly = true
		defer func() { host.ReadOnly = false }()
		err := host.Run(func(Ctx) error { plain.Delete(); return nil })
		if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeDenied {
			t.Errorf("Run = %v, want an abort", err)
		}
	})
	t.Run("a call passes on the callee's failure", func(t *testing.T) {
		host.Calls = func(_ []byte, method string, args []byte) Result {
			if method == "add" && len(args) == 1+21+2 {
				return Result{Data: AppendUint(nil, 7)}
			}
			return Result{Status: 1001, Data: AppendArray(nil, 0)}
		}
		err := host.Run(func(Ctx) error {
			if n := Returned[uint8](Call(Addr{5}, "add", Args(Addr{6}, uint8(200)), CallOptions{})); n != 7 {
				t.Errorf("the call returned %d", n)
			}
			CallName("bank@1", "fail", Args(), CallOptions{}).Must()
			return nil
		})
		if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeCallFailed {
			t.Errorf("Run = %v, want CodeCallFailed", err)
		}
	})
}

// TestBalances adds amounts to balances, and takes them, at the ends of what is done unseen, and compares with math/big.
func TestBalances(t *testing.T) {
	held := NewBalances[cell]("held")
	edges := []U128{{}, {0, 1}, {0, 7}, {0, 1<<63 - 1}, {0, 1 << 63}, {0, 1<<64 - 1}, {1, 0}, {1 << 63, 0}, {1<<64 - 1, 1<<64 - 1}}
	number := func(v U128) *big.Int {
		n := new(big.Int).SetUint64(v.Hi)
		return n.Or(n.Lsh(n, 64), new(big.Int).SetUint64(v.Lo))
	}
	most := number(edges[len(edges)-1])
	for _, have := range edges {
		for _, amount := range edges {
			host := &Fake{}
			key := cell{1, 2, "a"}
			err := host.Run(func(Ctx) error {
				held.Set(key, have)
				if held.Sub(key, amount) == have.Less(amount) {
					t.Errorf("%s is taken from %s, or not", amount, have)
				}
				return nil
			})
			rest := new(big.Int).Sub(number(have), number(amount))
			if rest.Sign() < 0 {
				rest = number(have)
			}
			sum := new(big.Int).Add(rest, number(amount))
			if got := stored(t, host, "held/"); err != nil || got != rest.String() {
				t.Errorf("%s less %s is %s, %v; want %s", have, amount, got, err, rest)
			}
			err = host.Run(func(Ctx) error { held.Add(key, amount); return nil })
			if sum.Cmp(most) > 0 {
				if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeOverflow {
					t.Errorf("%s and %s: %v, want CodeOverflow", rest, amount, err)
				}
			} else if got := stored(t, host, "held/"); err != nil || got != sum.String() {
				t.Errorf("%s and %s is %s, %v; want %s", rest, amount, got, err, sum)
			}
		}
	}
	host := &Fake{State: map[string][]byte{"held/" + string(appendKey(nil, &cell{})): AppendText(nil, "7")}}
	err := host.Run(func(Ctx) error { held.Add(cell{}, U128{Lo: 1}); return nil })
	if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeDenied {
		t.Errorf("an addition to a text: %v, want CodeDenied", err)
	}
	if err := host.Run(func(Ctx) error { held.Add(cell{Name: "b"}, U128{Lo: 1}); return nil }); err != nil {
		t.Error(err)
	}
}

// stored returns the only amount in state, whose key has a prefix.
func stored(t *testing.T, h *Fake, prefix string) string {
	t.Helper()
	for key, value := range h.State {
		d := NewDecoder(value)
		if v := d.U128(); len(h.State) == 1 && strings.HasPrefix(key, prefix) && d.Done() {
			return v.String()
		}
	}
	t.Fatalf("the state is %x", h.State)
	return ""
}

// TestReturned gives callers outputs that are not of the type they want.
func TestReturned(t *testing.T) {
	outputs := map[string][]byte{
		"a text": AppendText(nil, "7"), "a negative number": AppendInt(nil, -7), "a number too large": AppendU128(nil, U128{Hi: 1}),
		"two numbers": {7, 7}, "a number not in its shortest form": {0x18, 7}, "nothing": {}, "null": {null}, "half a number": {0x19, 1},
	}
	for name, output := range outputs {
		t.Run(name, func(t *testing.T) {
			host := &Fake{Calls: func([]byte, string, []byte) Result { return Result{Data: output} }}
			err := host.Run(func(Ctx) error {
				t.Errorf("the call returned %d", Returned[uint64](Call(Addr{5}, "count", Args(), CallOptions{})))
				return nil
			})
			want := AppendBytes(AppendInt(AppendArray(nil, 2), int64(StatusOK)), output)
			if a, ok := errors.AsType[*Abortion](err); !ok || a.Code != CodeCallFailed || string(a.Data) != string(want) {
				t.Errorf("Run = %v, want CodeCallFailed with %x", err, want)
			}
		})
	}
}

// TestAbortTexts ends calls with texts that are not UTF-8, which a receipt could not hold.
func TestAbortTexts(t *testing.T) {
	balances := NewMap[Addr, U128]("bal")
	who := Addr{0xff, 0xfe}
	host := &Fake{State: map[string][]byte{"bal/" + string(who[:]): {0xff}}}
	for name, test := range map[string]struct {
		f    func(Ctx) error
		want Abortion
	}{
		"a text":   {func(Ctx) error { Abort(1234, "a\xffb\xc3"); return nil }, Abortion{1234, AppendText(nil, "a\ufffdb\ufffd")}},
		"a state":  {func(Ctx) error { balances.Get(who); return nil }, Abortion{CodeState, AppendText(nil, "value under bal/")}},
		"an error": {func(Ctx) error { Fail(errors.New(string(who[:2]))); return nil }, Abortion{CodePanic, AppendText(nil, "\ufffd\ufffd")}},
		"a panic":  {func(Ctx) error { defer Recovered(); panic("\xff") }, Abortion{CodePanic, AppendText(nil, "\ufffd")}},
	} {
		err := host.Run(test.f)
		if a, ok := errors.AsType[*Abortion](err); !ok || !reflect.DeepEqual(*a, test.want) {
			t.Errorf("%s: %v, want %v", name, err, &test.want)
		}
	}
}

// FuzzDecoder checks that a Decoder takes only the form that the Append functions write.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0x83, 0x18, 0x64, 0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x61, 'a'})
	f.Add([]byte{0x83, 0x00, 0x00, 0x63, 0xef, 0xbf, 0xbd})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDecoder(data)
		d.Struct(3)
		i, u, s := d.Int(64), d.U128(), d.Text()
		if d.Done() {
			if again := AppendText(AppendU128(AppendInt(AppendArray(nil, 3), i), u), s); string(again) != string(data) {
				t.Fatalf("%x reads as %d, %s, %q, which is %x", data, i, u, s, again)
			}
		}
		NewDecoder(data).Skip()
	})
}

func TestStopped(t *testing.T) {
	alice, bob := Addr{1}, Addr{2}
	for _, c := range []struct {
		answer  []byte
		account Addr
		stopped bool
	}{{[]byte{0xf6}, Addr{}, false}, {AppendAddr(nil, bob), bob, true}} {
		host := &Fake{Calls: func(to []byte, method string, args []byte) Result {
			if string(to) != string(access[:]) || method != "stopped" || string(args) != string(Args(alice, bob)) {
				t.Errorf("called %x.%s with %x", to, method, args)
			}
			return Result{Data: c.answer}
		}}
		if err := host.Run(func(Ctx) error {
			if account, stopped := Stopped(alice, bob); account != c.account || stopped != c.stopped {
				t.Errorf("Stopped = %v, %v; want %v, %v", account, stopped, c.account, c.stopped)
			}
			return nil
		}); err != nil || !host.Asked.ReadOnly {
			t.Errorf("the call ended with %v, options %+v", err, host.Asked)
		}
	}
	// Without an answer nothing moves.
	var a *Abortion
	if err := new(Fake).Run(func(Ctx) error { Stopped(alice, bob); return nil }); !errors.As(err, &a) || a.Code != CodeCallFailed {
		t.Errorf("without the contract access: %v", err)
	}
}
