package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	tjsm4 "github.com/tjfoc/gmsm/sm4"
)

// seeded is a source of bytes that is the same in each run.
func seeded(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSuiteByName(t *testing.T) {
	s, err := SuiteByName("std")
	if err != nil || s.Name() != "std" || s.Vote() != Ed25519 {
		t.Errorf("SuiteByName(std) = %v, %v", s, err)
	}
	if s, err := SuiteByName("gm"); err != nil || s.Name() != "gm" || s.Vote() != SM2 {
		t.Errorf("SuiteByName(gm) = %v, %v", s, err)
	}
	for _, name := range []string{"", "STD", "sm2"} {
		if s, err := SuiteByName(name); err == nil || s != nil {
			t.Errorf("SuiteByName(%q) = %v, %v, want an error", name, s, err)
		}
	}
}

func TestSumIsSHA256OfTheConcatenation(t *testing.T) {
	s := Std()
	for _, size := range []int{0, 1, 31, 1023, 1024, 1025, 5000} {
		data := make([]byte, size)
		seeded(1).Read(data)
		want := Digest(sha256.Sum256(data))
		for _, cut := range []int{0, size / 3, size} {
			if got := s.Sum(data[:cut], nil, data[cut:]); got != want {
				t.Errorf("Sum of %d bytes cut at %d = %s, want %s", size, cut, got, want)
			}
		}
		if got := s.Sum(data); got != want {
			t.Errorf("Sum of %d bytes = %s, want %s", size, got, want)
		}
	}
	tagged := sha256.Sum256([]byte("fondaco/thing/1\x00ab"))
	if got := Hash(s, "thing", []byte("a"), []byte("b")); got != tagged {
		t.Errorf("Hash = %s, want the hash of tag, zero byte and parts", got)
	}
}

func TestSignAndVerify(t *testing.T) {
	for _, a := range []Algorithm{Ed25519, P256, SM2} {
		s := SuiteOf(a)
		t.Run(a.String(), func(t *testing.T) {
			signer, err := s.Generate(a, seeded(7))
			if err != nil {
				t.Fatal(err)
			}
			private, err := signer.Private()
			if err != nil || len(private) != 32 {
				t.Fatalf("Private() = %d bytes, %v, want 32", len(private), err)
			}
			again, err := s.ParsePrivate(a, private)
			if err != nil || !bytes.Equal(again.Public().Bytes(), signer.Public().Bytes()) {
				t.Fatalf("ParsePrivate gives key %x, %v, want %x", again.Public().Bytes(), err, signer.Public().Bytes())
			}
			public, err := s.ParsePublic(a, signer.Public().Bytes())
			if err != nil || public.Algorithm() != a || !bytes.Equal(public.Bytes(), signer.Public().Bytes()) {
				t.Fatalf("ParsePublic = %v, %v", public, err)
			}
			for i := range 20 {
				d := s.Sum([]byte{byte(i)})
				signature, err := signer.Sign(d)
				if err != nil || len(signature) != SignatureSize {
					t.Fatalf("Sign = %d bytes, %v", len(signature), err)
				}
				if second, _ := again.Sign(d); !bytes.Equal(second, signature) {
					t.Errorf("signing is not deterministic")
				}
				if err := public.Verify(d, signature); err != nil {
					t.Errorf("own signature: %v", err)
				}
				if err := public.Verify(s.Sum(d[:]), signature); !errors.Is(err, ErrSignature) {
					t.Errorf("signature of another digest: %v, want ErrSignature", err)
				}
				for bit := range len(signature) * 8 {
					signature[bit/8] ^= 1 << (bit % 8)
					if public.Verify(d, signature) == nil {
						t.Fatalf("signature with bit %d flipped is accepted", bit)
					}
					signature[bit/8] ^= 1 << (bit % 8)
				}
				for _, wrong := range [][]byte{nil, signature[:63], append(slices.Clone(signature), 0)} {
					if public.Verify(d, wrong) == nil {
						t.Errorf("signature of %d bytes is accepted", len(wrong))
					}
				}
			}
		})
	}
	t.Run("an algorithm of the other suite is refused", func(t *testing.T) {
		for s, algorithms := range map[Suite][]Algorithm{Std(): {0, SM2, 9}, GM(): {0, Ed25519, P256, 9}} {
			for _, a := range algorithms {
				_, err1 := s.ParsePublic(a, make([]byte, 33))
				_, err2 := s.Generate(a, seeded(1))
				_, err3 := s.ParsePrivate(a, make([]byte, 32))
				for _, err := range []error{err1, err2, err3} {
					if !errors.Is(err, ErrAlgorithm) {
						t.Errorf("%s in suite %s: %v, want ErrAlgorithm", a, s.Name(), err)
					}
				}
			}
		}
	})
	t.Run("a private key out of range or of another length is refused", func(t *testing.T) {
		for _, raw := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
			if _, err := Std().ParsePrivate(Ed25519, raw); err == nil {
				t.Errorf("ed25519 private key of %d bytes is accepted", len(raw))
			}
		}
		for _, raw := range [][]byte{nil, make([]byte, 31), make([]byte, 32), bytes.Repeat([]byte{0xff}, 32), make([]byte, 33)} {
			for _, a := range []Algorithm{P256, SM2} {
				if _, err := SuiteOf(a).ParsePrivate(a, raw); err == nil {
					t.Errorf("%s private key %x is accepted", a, raw)
				}
			}
		}
	})
	t.Run("a broken source of randomness ends key generation", func(t *testing.T) {
		for _, a := range []Algorithm{Ed25519, P256, SM2} {
			if _, err := SuiteOf(a).Generate(a, strings.NewReader("short")); err == nil {
				t.Errorf("%s: no error when randomness ends", a)
			}
		}
		for _, a := range []Algorithm{P256, SM2} {
			if _, err := SuiteOf(a).Generate(a, bytes.NewReader(make([]byte, 4096))); err == nil {
				t.Errorf("%s: no error when randomness is all zero", a)
			}
		}
	})
}

// TestRFC8032 checks the third vector of RFC 8032 §7.1 for the key, and that a signature over 32 bytes is
// what the standard library makes for the same seed.
func TestRFC8032(t *testing.T) {
	seed := fromHex(t, "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
	signer, err := Std().ParsePrivate(Ed25519, seed)
	if err != nil {
		t.Fatal(err)
	}
	want := fromHex(t, "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
	if got := signer.Public().Bytes(); !bytes.Equal(got, want) {
		t.Errorf("public key %x, want %x", got, want)
	}
}

// smallOrderEncodings are all encodings that decode to a point of small order: eight canonical ones, two with
// the sign bit on x = 0, four with y not below the field prime.
var smallOrderEncodings = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

func TestEd25519KeysRefused(t *testing.T) {
	s := Std()
	refuse := func(t *testing.T, encoding []byte) {
		t.Helper()
		if key, err := s.ParsePublic(Ed25519, encoding); !errors.Is(err, ErrKey) || key != nil {
			t.Errorf("ParsePublic(%x) = %v, %v, want ErrKey", encoding, key, err)
		}
	}
	t.Run("points of small order in any encoding", func(t *testing.T) {
		for _, encoding := range smallOrderEncodings {
			raw := fromHex(t, encoding)
			var compressed curve.CompressedEdwardsY
			var point curve.EdwardsPoint
			compressed.SetBytes(raw)
			if _, err := point.SetCompressedY(&compressed); err != nil || !point.IsSmallOrder() {
				t.Fatalf("%s is not an encoding of a point of small order: %v", encoding, err)
			}
			refuse(t, raw)
		}
	})
	t.Run("every y from the field prime upwards", func(t *testing.T) {
		for low := 0xed; low <= 0xff; low++ {
			for _, top := range []byte{0x7f, 0xff} {
				raw := bytes.Repeat([]byte{0xff}, 32)
				raw[0], raw[31] = byte(low), top
				refuse(t, raw)
			}
		}
	})
	t.Run("y for which there is no x", func(t *testing.T) {
		raw := make([]byte, 32)
		raw[0] = 2
		refuse(t, raw)
	})
	t.Run("wrong lengths", func(t *testing.T) {
		for _, n := range []int{0, 31, 33, 64} {
			refuse(t, bytes.Repeat([]byte{3}, n))
		}
	})
}

// edge is a signature at the edge of the rules, with a key that parseEd25519 may refuse.
type edge struct {
	name  string
	key   *ed25519Key
	sig   []byte
	valid bool
}

// point decodes an encoding under the rules of ZIP-215.
func point(t testing.TB, encoding []byte) *curve.EdwardsPoint {
	t.Helper()
	var compressed curve.CompressedEdwardsY
	if _, err := compressed.SetBytes(encoding); err != nil {
		t.Fatal(err)
	}
	p, err := new(curve.EdwardsPoint).SetCompressedY(&compressed)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encode(p *curve.EdwardsPoint) []byte {
	compressed := new(curve.CompressedEdwardsY).SetEdwardsPoint(p)
	return compressed[:]
}

// edges returns signatures of d on which implementations of Ed25519 disagree (Chalkias, Garillot and
// Nikolaenko, "Taming the many EdDSAs", SSR 2020), with the verdict of ZIP-215 on each.
func edges(t testing.TB, d Digest) []edge {
	t.Helper()
	unchecked := func(encoding []byte) *ed25519Key {
		expanded, err := voi.NewExpandedPublicKey(encoding)
		if err != nil {
			t.Fatal(err)
		}
		return &ed25519Key{bytes: [32]byte(encoding), expanded: expanded}
	}
	random := seeded(42)
	newScalar := func() *scalar.Scalar {
		x, err := new(scalar.Scalar).SetRandom(random)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	// sign makes R = rB + torsion under the key aB + torsion, and s = r + H(R,A,d)a.
	sign := func(a *scalar.Scalar, public, torsionR []byte) []byte {
		r := newScalar()
		bigR := new(curve.EdwardsPoint).MulBasepoint(curve.ED25519_BASEPOINT_TABLE, r)
		if torsionR != nil {
			bigR.Add(bigR, point(t, torsionR))
		}
		return finish(t, a, r, encode(bigR), public, d)
	}
	var list []edge
	for i, a := range smallOrderEncodings {
		for j, r := range smallOrderEncodings {
			sig := append(fromHex(t, r), make([]byte, 32)...)
			list = append(list, edge{fmt.Sprintf("key of small order %d, R of small order %d, s zero", i, j), unchecked(fromHex(t, a)), sig, true})
		}
	}
	a := newScalar()
	plain := new(curve.EdwardsPoint).MulBasepoint(curve.ED25519_BASEPOINT_TABLE, a)
	list = append(list, edge{"plain", unchecked(encode(plain)), sign(a, encode(plain), nil), true})
	for i, torsion := range smallOrderEncodings[:8] {
		mixed := new(curve.EdwardsPoint).Add(plain, point(t, fromHex(t, torsion)))
		key := unchecked(encode(mixed))
		list = append(list,
			edge{fmt.Sprintf("key of mixed order %d", i), key, sign(a, key.Bytes(), nil), true},
			edge{fmt.Sprintf("R of mixed order %d", i), unchecked(encode(plain)), sign(a, encode(plain), fromHex(t, torsion)), true},
			edge{fmt.Sprintf("key and R of mixed order %d", i), key, sign(a, key.Bytes(), fromHex(t, torsion)), true},
		)
	}
	for i, r := range smallOrderEncodings {
		sig := finish(t, a, new(scalar.Scalar), fromHex(t, r), encode(plain), d)
		list = append(list, edge{fmt.Sprintf("R of small order %d under a good key", i), unchecked(encode(plain)), sig, true})
	}
	good := sign(a, encode(plain), nil)
	changed := func(name string, change func(sig []byte)) {
		sig := slices.Clone(good)
		change(sig)
		list = append(list, edge{name, unchecked(encode(plain)), sig, false})
	}
	changed("s plus the group order", func(sig []byte) { copy(sig[32:], plusOrder(t, sig[32:])) })
	changed("s with its top bits set", func(sig []byte) { sig[63] |= 0xe0 })
	changed("s one more", func(sig []byte) { sig[32]++ })
	changed("s zero", func(sig []byte) { clear(sig[32:]) })
	changed("s the group order", func(sig []byte) { clear(sig[32:]); copy(sig[32:], plusOrder(t, sig[32:])) })
	changed("R not on the curve", func(sig []byte) { clear(sig[:32]); sig[0] = 2 })
	changed("R with the other sign", func(sig []byte) { sig[31] ^= 0x80 })
	changed("all zero", func(sig []byte) { clear(sig) })
	changed("all ones", func(sig []byte) { copy(sig, bytes.Repeat([]byte{0xff}, 64)) })
	return list
}

func finish(t testing.TB, a, r *scalar.Scalar, bigR, public []byte, d Digest) []byte {
	t.Helper()
	k, err := new(scalar.Scalar).SetBytesModOrderWide(sha512Sum(bigR, public, d[:]))
	if err != nil {
		t.Fatal(err)
	}
	s := new(scalar.Scalar).Mul(k, a)
	s.Add(s, r)
	sig := make([]byte, 64)
	copy(sig, bigR)
	if err := s.ToBytes(sig[32:]); err != nil {
		t.Fatal(err)
	}
	return sig
}

func plusOrder(t testing.TB, little []byte) []byte {
	t.Helper()
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	value := slices.Clone(little)
	slices.Reverse(value)
	sum := new(big.Int).Add(new(big.Int).SetBytes(value), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return sum
}

func TestZIP215(t *testing.T) {
	d := Std().Sum([]byte("Zcash"))
	list := edges(t, d)
	t.Run("each alone", func(t *testing.T) {
		for _, e := range list {
			if got := e.key.Verify(d, e.sig) == nil; got != e.valid {
				t.Errorf("%s: valid = %t, want %t", e.name, got, e.valid)
			}
		}
	})
	t.Run("a batch gives the same verdict on each", func(t *testing.T) {
		random := rand.New(seeded(3))
		for _, size := range []int{1, 2, 16, 17, 64, 200, len(list)} {
			for range 4 {
				b := Std().NewBatch()
				var want []bool
				for range size {
					e := list[random.IntN(len(list))]
					b.Add(e.key, d, e.sig)
					want = append(want, e.valid)
				}
				if b.Len() != size {
					t.Fatalf("Len() = %d, want %d", b.Len(), size)
				}
				if got := b.Verify(); !slices.Equal(got, want) {
					t.Errorf("batch of %d: verdicts differ from those on each alone", size)
				}
			}
		}
	})
	t.Run("a batch of nothing but valid edges holds", func(t *testing.T) {
		b := Std().NewBatch()
		for _, e := range list {
			if e.valid {
				b.Add(e.key, d, e.sig)
			}
		}
		if slices.Contains(b.Verify(), false) {
			t.Errorf("a valid signature is refused")
		}
	})
}

func TestBatch(t *testing.T) {
	s := Std()
	const n = 300
	signed := signatures(t, s, n)
	fill := func(b Batch) {
		for _, c := range signed {
			b.Add(c.key, c.digest, c.signature)
		}
	}
	t.Run("empty", func(t *testing.T) {
		if got := s.NewBatch().Verify(); len(got) != 0 {
			t.Errorf("Verify() = %v", got)
		}
	})
	t.Run("bad ones are found wherever they are, and the batch is empty after", func(t *testing.T) {
		b := s.NewBatch()
		for _, bad := range [][]int{{}, {0}, {n - 1}, {37, 38, 250}, {5, 299}} {
			fill(b)
			other := signed[bad0(bad)].signature
			for _, i := range bad {
				b.(*batch).checks[i].signature = other
				b.(*batch).checks[i].digest = Digest{1}
			}
			var got []int
			for i, ok := range b.Verify() {
				if !ok {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, bad) || b.Len() != 0 {
				t.Errorf("bad = %v and %d left, want %v and none", got, b.Len(), bad)
			}
		}
	})
	t.Run("algorithms mix, and wrong lengths are refused", func(t *testing.T) {
		p256, err := s.Generate(P256, seeded(2))
		if err != nil {
			t.Fatal(err)
		}
		d := Digest{9}
		sig, _ := p256.Sign(d)
		b := s.NewBatch()
		b.Add(p256.Public(), d, sig)
		fill(b)
		b.Add(p256.Public(), Digest{8}, sig)
		b.Add(signed[0].key, signed[0].digest, signed[0].signature[:63])
		b.Add(signed[0].key, signed[0].digest, nil)
		got := b.Verify()
		want := slices.Concat(slices.Repeat([]bool{true}, n+1), []bool{false, false, false})
		if !slices.Equal(got, want) {
			t.Errorf("verdicts are not those on each alone")
		}
	})
}

func bad0(bad []int) int {
	if len(bad) == 0 {
		return 0
	}
	return bad[0]
}

func signatures(t testing.TB, s Suite, n int) []check {
	t.Helper()
	random := seeded(11)
	list := make([]check, n)
	for i := range list {
		signer, err := s.Generate(Ed25519, random)
		if err != nil {
			t.Fatal(err)
		}
		d := s.Sum([]byte{byte(i), byte(i >> 8)})
		sig, err := signer.Sign(d)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = check{signer.Public(), d, sig}
	}
	return list
}

func TestP256Hostile(t *testing.T) {
	s := Std()
	signer, err := s.Generate(P256, seeded(5))
	if err != nil {
		t.Fatal(err)
	}
	public := signer.Public()
	d := s.Sum([]byte("transfer"))
	good, err := signer.Sign(d)
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	r, low := new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])
	sig := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	zero, one := new(big.Int), big.NewInt(1)
	all := new(big.Int).Sub(new(big.Int).Lsh(one, 256), one)
	for name, hostile := range map[string][]byte{
		"high s":             sig(r, new(big.Int).Sub(n, low)),
		"r zero":             sig(zero, low),
		"s zero":             sig(r, zero),
		"both zero":          sig(zero, zero),
		"r and s one":        sig(one, one),
		"r the order":        sig(n, low),
		"s the order":        sig(r, n),
		"r and s all ones":   sig(all, all),
		"r and s swapped":    sig(low, r),
		"r negated":          sig(new(big.Int).Sub(n, r), low),
		"DER in 64 bytes":    append([]byte{0x30, 62, 2, 29}, good[:60]...),
		"a byte too short":   good[:63],
		"a byte too long":    append(slices.Clone(good), 0),
		"nothing":            nil,
		"zero byte in front": append([]byte{0}, good[:63]...),
	} {
		t.Run(name, func(t *testing.T) {
			if err := public.Verify(d, hostile); !errors.Is(err, ErrSignature) {
				t.Errorf("Verify = %v, want ErrSignature", err)
			}
		})
	}
	t.Run("every signature made has a low s", func(t *testing.T) {
		for i := range 64 {
			sig, err := signer.Sign(Digest{byte(i)})
			if err != nil || !isLowS(new(big.Int).SetBytes(sig[32:])) {
				t.Errorf("signature %d: s is high, %v", i, err)
			}
		}
	})
	t.Run("keys in another form", func(t *testing.T) {
		compressed := public.Bytes()
		uncompressed, err := public.(*p256Key).point.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		hybrid := append([]byte{6 + uncompressed[64]&1}, uncompressed[1:]...)
		prime := elliptic.P256().Params().P.FillBytes(make([]byte, 32))
		noRoot := slices.Concat([]byte{2}, make([]byte, 31), []byte{1})
		if _, err := s.ParsePublic(P256, slices.Concat([]byte{2}, make([]byte, 32))); err != nil {
			t.Errorf("x = 0 is a point of the curve: %v", err)
		}
		for _, raw := range [][]byte{
			nil,
			{0},
			uncompressed, hybrid, compressed[:32], append(slices.Clone(compressed), 0),
			append([]byte{4}, compressed[1:]...), append([]byte{0}, compressed[1:]...), make([]byte, 33),
			append([]byte{2}, prime...), bytes.Repeat([]byte{0xff}, 33), noRoot,
		} {
			if key, err := s.ParsePublic(P256, raw); !errors.Is(err, ErrKey) || key != nil {
				t.Errorf("ParsePublic(%x) = %v, %v, want ErrKey", raw, key, err)
			}
		}
	})
}

// TestSeal compares with the standard library's GCM over the standard library's AES, and over the second implementation's SM4.
func TestSeal(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	aes, err1 := aes.NewCipher(key)
	sm4, err2 := tjsm4.NewCipher(key[:16])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Run("std", func(t *testing.T) { sealing(t, Std(), key, aes) })
	t.Run("gm", func(t *testing.T) { sealing(t, GM(), key, sm4) })
}

func sealing(t *testing.T, s Suite, key []byte, block cipher.Block) {
	nonce := bytes.Repeat([]byte{2}, SealNonceSize)
	plaintext, additional := []byte("terms of the deal"), []byte("group-1")
	aead, err := s.AEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	sealed := aead.Seal(nil, nonce, plaintext, additional)
	gcm, _ := cipher.NewGCM(block)
	if want := gcm.Seal(nil, nonce, plaintext, additional); !bytes.Equal(sealed, want) || len(sealed) != len(plaintext)+SealOverhead {
		t.Errorf("Seal = %x, want %x", sealed, want)
	}
	if opened, err := aead.Open(nil, nonce, sealed, additional); err != nil || !bytes.Equal(opened, plaintext) {
		t.Errorf("Open = %q, %v", opened, err)
	}
	for i := range sealed {
		changed := slices.Clone(sealed)
		changed[i] ^= 1
		if _, err := aead.Open(nil, nonce, changed, additional); err == nil {
			t.Errorf("byte %d was changed, and it opens", i)
		}
	}
	for _, short := range [][]byte{nil, sealed[:15], sealed[:len(sealed)-1]} {
		if _, err := aead.Open(nil, nonce, short, additional); err == nil {
			t.Errorf("%d bytes open", len(short))
		}
	}
	if _, err := aead.Open(nil, nonce, sealed, nil); err == nil {
		t.Error("it opens with other additional data")
	}
	if _, err := s.AEAD(key[:16]); err == nil {
		t.Error("a key of 16 bytes is accepted")
	}
}

func TestKeyCacheForgets(t *testing.T) {
	c := newKeyCache(4, ed25519.PublicKeySize, parseEd25519)
	var wg sync.WaitGroup
	signed := signatures(t, Std(), 40)
	for range 2 {
		wg.Go(func() {
			for _, s := range signed {
				key, err := c.get(s.key.Bytes())
				if err != nil || !bytes.Equal(key.Bytes(), s.key.Bytes()) {
					t.Errorf("get = %v, %v", key, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(c.younger) + len(c.older); n > 8 {
		t.Errorf("%d keys kept, want at most two generations of 4", n)
	}
	last := signed[len(signed)-1].key.Bytes()
	first, _ := c.get(last)
	second, _ := c.get(last)
	if first != second {
		t.Error("a key just parsed was parsed again")
	}
}

func TestDigestText(t *testing.T) {
	d := Std().Sum([]byte("x"))
	var back Digest
	text, _ := d.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != d {
		t.Errorf("UnmarshalText(%s) = %s, %v", text, back, err)
	}
	for _, bad := range []string{"", "0x", d.String()[2:], d.String()[:65], d.String() + "00", "0x" + strings.Repeat("g", 64)} {
		if _, err := ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) is accepted", bad)
		}
	}
}

func TestAlgorithmNames(t *testing.T) {
	for _, a := range []Algorithm{Ed25519, P256, SM2} {
		if got, err := ParseAlgorithm(a.String()); got != a || err != nil {
			t.Errorf("ParseAlgorithm(%s) = %v, %v", a, got, err)
		}
	}
	if _, err := ParseAlgorithm("rsa"); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("ParseAlgorithm(rsa) = %v, want ErrAlgorithm", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, a := range []Algorithm{Ed25519, P256, SM2} {
		s := SuiteOf(a)
		signer, err := s.Generate(a, seeded(1))
		if err != nil {
			b.Fatal(err)
		}
		d := Digest{1}
		sig, _ := signer.Sign(d)
		b.Run(a.String(), func(b *testing.B) {
			for b.Loop() {
				if err := signer.Public().Verify(d, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(a.String()+"/sign", func(b *testing.B) {
			for b.Loop() {
				signer.Sign(d)
			}
		})
	}
}

// BenchmarkBatch reports the cost of a signature whose key was seen before.
func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{4, 16, 64, 1024} {
		for _, bad := range []int{0, 1} {
			b.Run(fmt.Sprintf("n=%d/bad=%d", n, bad), func(b *testing.B) {
				s := Std()
				signed := signatures(b, s, n)
				if bad == 1 {
					signed[n/2].digest[0] ^= 1
				}
				for b.Loop() {
					batch := s.NewBatch()
					for _, c := range signed {
						key, err := s.ParsePublic(Ed25519, c.key.Bytes())
						if err != nil {
							b.Fatal(err)
						}
						batch.Add(key, c.digest, c.signature)
					}
					batch.Verify()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sig")
			})
		}
	}
}

func BenchmarkParseNewKey(b *testing.B) {
	signed := signatures(b, Std(), 1)
	for b.Loop() {
		if _, err := parseEd25519(signed[0].key.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSum(b *testing.B) {
	left, right := make([]byte, 32), make([]byte, 32)
	for _, s := range []Suite{Std(), GM()} {
		b.Run(s.Name(), func(b *testing.B) {
			for b.Loop() {
				s.Sum([]byte{1}, left, right)
			}
		})
	}
}

func sha512Sum(parts ...[]byte) []byte {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
