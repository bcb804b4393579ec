package keys

import (
	"bytes"
	"crypto/cipher"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"
	tjsm2 "github.com/tjfoc/gmsm/sm2"
	tjsm3 "github.com/tjfoc/gmsm/sm3"
	tjsm4 "github.com/tjfoc/gmsm/sm4"
)

// userID is the default user id of GM/T 0009 §10.
const userID = "1234567812345678"

// TestSM3 has the examples of GM/T 0004 annex A, and texts of many lengths against the second implementation.
func TestSM3(t *testing.T) {
	s := GM()
	for text, want := range map[string]string{
		"abc":                      "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
		strings.Repeat("abcd", 16): "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732",
	} {
		if got := s.Sum([]byte(text)); hex.EncodeToString(got[:]) != want {
			t.Errorf("SM3 of %q is %s, want %s", text, got, want)
		}
	}
	data := make([]byte, 3000)
	seeded(1).Read(data)
	for size := range len(data) {
		want := Digest(tjsm3.Sm3Sum(data[:size]))
		if got := s.Sum(data[:size/3], nil, data[size/3:size]); got != want {
			t.Fatalf("SM3 of %d bytes in pieces is %s, want %s", size, got, want)
		}
		if got := s.Sum(data[:size]); got != want {
			t.Fatalf("SM3 of %d bytes is %s, want %s", size, got, want)
		}
	}
}

// TestSM4 has the examples of GM/T 0002 annex A and of RFC 8998 appendix A.1.
func TestSM4(t *testing.T) {
	key := fromHex(t, "0123456789abcdeffedcba9876543210")
	block, err := newSM4(append(key, make([]byte, 16)...))
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Clone(key)
	for i := range 1_000_000 {
		block.Encrypt(text, text)
		if want := "681edf34d206965e86b3e94f536e4246"; i == 0 && hex.EncodeToString(text) != want {
			t.Errorf("encrypted once %x, want %s", text, want)
		}
	}
	if want := "595298c7c6fd271f0402f804c33d3f66"; hex.EncodeToString(text) != want {
		t.Errorf("encrypted a million times %x, want %s", text, want)
	}
	plaintext := fromHex(t, strings.Repeat("aa", 8)+strings.Repeat("bb", 8)+strings.Repeat("cc", 8)+strings.Repeat("dd", 8)+
		strings.Repeat("ee", 8)+strings.Repeat("ff", 8)+strings.Repeat("ee", 8)+strings.Repeat("aa", 8))
	aead, err := GM().AEAD(append(key, make([]byte, 16)...))
	if err != nil {
		t.Fatal(err)
	}
	sealed := aead.Seal(nil, fromHex(t, "00001234567800000000abcd"), plaintext, fromHex(t, "feedfacedeadbeeffeedfacedeadbeefabaddad2"))
	if want := fromHex(t, `17f399f08c67d5ee19d0dc9969c4bb7d 5fd46fd3756489069157b282bb200735
		d82710ca5c22f0ccfa7cbf93d496ac15 a56834cbcf98c397b4024a2691233b8d
		83de3541e4c2b58177e065a9bf7b62ec`); !bytes.Equal(sealed, want) {
		t.Errorf("sealed %x, want %x", sealed, want)
	}
}

// TestSM2 has the example of GM/T 0003.5 annex A: the key, Z, the digest and a signature.
func TestSM2(t *testing.T) {
	signer, err := GM().ParsePrivate(SM2, fromHex(t, "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"))
	if err != nil {
		t.Fatal(err)
	}
	key := signer.Public().(*sm2Key)
	if want := fromHex(t, "0309f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"); !bytes.Equal(key.Bytes(), want) {
		t.Errorf("public key %x, want %x", key.Bytes(), want)
	}
	if want := fromHex(t, "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"); !bytes.Equal(key.z[:], want) {
		t.Errorf("Z is %s, want %x", key.z, want)
	}
	e := GM().Sum(key.z[:], []byte("message digest"))
	if want := fromHex(t, "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640"); !bytes.Equal(e[:], want) {
		t.Errorf("e is %s, want %x", e, want)
	}
	r, s := splitSignature(fromHex(t, `f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3
		b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa`))
	if !sm2.Verify(&key.point, e[:], r, s) {
		t.Error("the standard's signature is refused")
	}
}

// TestSM2Hostile has keys and signatures at the edges of what is allowed. Both implementations refuse the signatures.
func TestSM2Hostile(t *testing.T) {
	signer, err := GM().Generate(SM2, seeded(5))
	if err != nil {
		t.Fatal(err)
	}
	d := Digest{7}
	good, err := signer.Sign(d)
	if err != nil {
		t.Fatal(err)
	}
	n, one := sm2.P256().Params().N, big.NewInt(1)
	r, s := splitSignature(good)
	add := func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }
	sub := func(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }
	for name, pair := range map[string][2]*big.Int{
		"r is zero":                {new(big.Int), s},
		"s is zero":                {r, new(big.Int)},
		"both are zero":            {new(big.Int), new(big.Int)},
		"r is the order":           {n, s},
		"s is the order":           {r, n},
		"r is above the order":     {add(n, one), s},
		"s is above the order":     {r, add(n, one)},
		"r and s add up to zero":   {r, sub(n, r)},
		"s is its negative":        {r, sub(n, s)},
		"r is its negative":        {sub(n, r), s},
		"r and s are exchanged":    {s, r},
		"both are one":             {one, one},
		"both are the largest":     {sub(n, one), sub(n, one)},
		"all bits are set":         {sub(new(big.Int).Lsh(one, 256), one), sub(new(big.Int).Lsh(one, 256), one)},
		"s is one more":            {r, add(s, one)},
		"r is of another message":  {add(r, one), s},
		"r is the prime":           {sm2.P256().Params().P, s},
		"s is the base's abscissa": {r, sm2.P256().Params().Gx},
	} {
		signature := joinSignature(pair[0], pair[1])
		if err := signer.Public().Verify(d, signature); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want ErrSignature", name, err)
		}
		if second(signer.Public(), d, signature) {
			t.Errorf("%s: the second implementation accepts it", name)
		}
	}
	p := sm2.P256().Params().P
	for name, key := range map[string][]byte{
		"nothing":             nil,
		"uncompressed":        elliptic.Marshal(sm2.P256(), sm2.P256().Params().Gx, sm2.P256().Params().Gy), //nolint:staticcheck // a form that is refused
		"infinity":            {0},
		"33 zeros":            make([]byte, 33),
		"abscissa too large":  append([]byte{2}, p.FillBytes(make([]byte, 32))...),
		"a bit of it too far": append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...),
		"hybrid":              append([]byte{6}, signer.Public().Bytes()[1:]...),
		"a byte more":         append(bytes.Clone(signer.Public().Bytes()), 0),
		"of NIST P-256":       elliptic.MarshalCompressed(elliptic.P256(), elliptic.P256().Params().Gx, elliptic.P256().Params().Gy),
		"on the twist":        twist(),
	} {
		if _, err := GM().ParsePublic(SM2, key); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want ErrKey", name, err)
		}
	}
	for _, scalar := range []*big.Int{new(big.Int), sub(n, one), n, add(n, one)} { // d is in 1…n-2
		if _, err := GM().ParsePrivate(SM2, scalar.FillBytes(make([]byte, 32))); err == nil {
			t.Errorf("private key %x is accepted", scalar)
		}
	}
}

// twist returns a compressed point whose abscissa is not of the curve.
func twist() []byte {
	params := sm2.P256().Params()
	for x := int64(1); ; x++ {
		y := new(big.Int).Exp(big.NewInt(x), big.NewInt(3), params.P)
		y.Sub(y, big.NewInt(3*x)).Add(y, params.B).Mod(y, params.P)
		if big.Jacobi(y, params.P) == -1 {
			return append([]byte{2}, big.NewInt(x).FillBytes(make([]byte, 32))...)
		}
	}
}

// ordinate returns the y of a compressed point by the curve's equation alone, nil if the bytes are none of a point.
func ordinate(raw []byte) *big.Int {
	params := sm2.P256().Params()
	x := new(big.Int).SetBytes(raw[1:])
	if raw[0]|1 != 3 || x.Cmp(params.P) >= 0 {
		return nil
	}
	square := new(big.Int).Exp(x, big.NewInt(3), params.P)
	square.Sub(square, new(big.Int).Mul(x, big.NewInt(3))).Add(square, params.B).Mod(square, params.P)
	y := new(big.Int).ModSqrt(square, params.P)
	if y != nil && byte(y.Bit(0)) != raw[0]&1 {
		y.Sub(params.P, y)
	}
	return y
}

// second reports what the second implementation says of a signature.
func second(key PublicKey, d Digest, signature []byte) bool {
	r, s := splitSignature(signature)
	point := &key.(*sm2Key).point
	return tjsm2.Sm2Verify(&tjsm2.PublicKey{Curve: tjsm2.P256Sm2(), X: point.X, Y: point.Y}, d[:], []byte(userID), r, s) //nolint:staticcheck // the form that it takes
}

// FuzzSM2 changes a signature, the digest or the key: both implementations accept, or both refuse. A signature that either
// makes is accepted by the other.
func FuzzSM2(f *testing.F) {
	f.Add(uint64(1), []byte("message"), []byte{}, uint8(0))
	f.Add(uint64(2), []byte{}, []byte{0xff, 0, 1}, uint8(31))
	f.Add(uint64(3), []byte("x"), bytes.Repeat([]byte{0x80}, 64), uint8(0))
	f.Add(uint64(4), []byte("digest"), []byte{1}, uint8(70))
	f.Add(uint64(5), []byte("the other ordinate"), []byte{1}, uint8(96))
	f.Add(uint64(6), []byte("another key"), []byte{0, 7}, uint8(110))
	gm := GM()
	f.Fuzz(func(t *testing.T, seed uint64, message, change []byte, at uint8) {
		signer, err := gm.Generate(SM2, seeded(seed))
		if err != nil {
			t.Fatal(err)
		}
		d := gm.Sum(message)
		signature, err := signer.Sign(d)
		if err != nil {
			t.Fatal(err)
		}
		if !second(signer.Public(), d, signature) {
			t.Fatalf("the second implementation refuses %x", signature)
		}
		changed, raw := d, bytes.Clone(signer.Public().Bytes())
		for i, b := range change {
			switch place := (int(at) + i) % (len(signature) + len(d) + len(raw)); {
			case place < len(signature):
				signature[place] ^= b
			case place < len(signature)+len(d):
				changed[place-len(signature)] ^= b
			default:
				raw[place-len(signature)-len(d)] ^= b
			}
		}
		key, err := gm.ParsePublic(SM2, raw)
		if y := ordinate(raw); (err == nil) != (y != nil) || err == nil && key.(*sm2Key).point.Y.Cmp(y) != 0 { //nolint:staticcheck // there is no other form
			t.Fatalf("key %x: %v, and its ordinate is %x", raw, err, y)
		}
		if err != nil {
			key = signer.Public()
		}
		ours, theirs := key.Verify(changed, signature) == nil, second(key, changed, signature)
		if ours != theirs {
			t.Fatalf("signature %x of %s by %x: accepted %t, by the second implementation %t", signature, changed, key.Bytes(), ours, theirs)
		}
		private, err := signer.Private()
		if err != nil {
			t.Fatal(err)
		}
		other := &tjsm2.PrivateKey{D: new(big.Int).SetBytes(private)}
		other.Curve = tjsm2.P256Sm2()
		other.X, other.Y = other.ScalarBaseMult(private)
		if key := tjsm2.Compress(&other.PublicKey); key[0]&1 != signer.Public().Bytes()[0]&1 || !bytes.Equal(key[1:], signer.Public().Bytes()[1:]) {
			t.Fatalf("public key %x, by the second implementation %x", signer.Public().Bytes(), key)
		}
		r, s, err := tjsm2.Sm2Sign(other, d[:], []byte(userID), seeded(seed+1))
		if err != nil {
			t.Fatal(err)
		}
		if err := signer.Public().Verify(d, joinSignature(r, s)); err != nil {
			t.Fatalf("a signature of the second implementation: %v", err)
		}
	})
}

// TestAgreement agrees with the second implementation of SM2 and SM3, and with no point that is not of the curve.
func TestAgreement(t *testing.T) {
	a, err := NewAgreement()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tjsm2.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	salt := Digest{1, 2, 3}
	key, err := a.Key(elements([]byte{4}, theirs.X, theirs.Y), salt, "info")
	if err != nil {
		t.Fatal(err)
	}
	point := a.Point()
	x, _ := theirs.Curve.ScalarMult(new(big.Int).SetBytes(point[1:33]), new(big.Int).SetBytes(point[33:]), theirs.D.Bytes()) //nolint:staticcheck // it has no other
	want, err := hkdf.Key(tjsm3.New, x.FillBytes(make([]byte, 32)), salt[:], "info", SealKeySize)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(key, want) {
		t.Errorf("agreed on %x, by the second implementation %x", key, want)
	}
	for _, bad := range [][]byte{nil, {4}, make([]byte, PointSize), append([]byte{4}, bytes.Repeat([]byte{1}, 64)...), append([]byte{2}, point[1:33]...)} {
		if _, err := a.Key(bad, salt, "info"); !errors.Is(err, ErrKey) {
			t.Errorf("agreed with %x: %v", bad, err)
		}
	}
}

// FuzzSM3SM4 compares hashes, and texts sealed by the standard library's GCM over the second implementation's SM4.
func FuzzSM3SM4(f *testing.F) {
	f.Add([]byte("key"), []byte("text"), []byte("additional"))
	gm := GM()
	f.Fuzz(func(t *testing.T, key, text, additional []byte) {
		sum := gm.Sum(key, text, additional)
		if want := tjsm3.Sm3Sum(bytes.Join([][]byte{key, text, additional}, nil)); !bytes.Equal(sum[:], want) {
			t.Fatalf("SM3 is %s, by the second implementation %x", sum, want)
		}
		block, err := tjsm4.NewCipher(sum[:16])
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		want := gcm.Seal(nil, sum[20:], text, additional)
		aead, err := gm.AEAD(sum[:])
		if err != nil {
			t.Fatal(err)
		}
		if sealed := aead.Seal(nil, sum[20:], text, additional); !bytes.Equal(sealed, want) {
			t.Fatalf("sealed %x, by the second implementation %x", sealed, want)
		}
		if opened, err := aead.Open(nil, sum[20:], want, additional); err != nil || !bytes.Equal(opened, text) {
			t.Fatalf("opened %x, %v, want %x", opened, err, text)
		}
	})
}

// TestOpenSSL has the openssl command check our hashes, ciphers and signatures, and checks its.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal("openssl is missing: apt-get install openssl")
		}
		t.Skip("needs openssl: apt-get install openssl")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	openssl := func(input []byte, args ...string) []byte {
		t.Helper()
		c := exec.Command("openssl", args...)
		c.Stdin = bytes.NewReader(input)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s%s", strings.Join(args, " "), err, stderr.Bytes(), out)
		}
		return out
	}
	write := func(name string, data []byte) string {
		t.Helper()
		if err := os.WriteFile(path(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	gm := GM()
	text := make([]byte, 1000)
	seeded(3).Read(text)
	for _, size := range []int{0, 1, 55, 56, 64, 1000} {
		if got, want := gm.Sum(text[:size]), openssl(text[:size], "dgst", "-sm3", "-binary"); !bytes.Equal(got[:], want) {
			t.Errorf("SM3 of %d bytes is %s, openssl says %x", size, got, want)
		}
	}

	key, iv := gm.Sum([]byte("key")), gm.Sum([]byte("iv"))
	block, err := newSM4(key[:])
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"-K", hex.EncodeToString(key[:16]), "-iv", hex.EncodeToString(iv[:16]), "-nopad"}
	counted, chained := make([]byte, len(text)), make([]byte, 992)
	cipher.NewCTR(block, iv[:16]).XORKeyStream(counted, text)
	cipher.NewCBCEncrypter(block, iv[:16]).CryptBlocks(chained, text[:992])
	if got := openssl(text, append([]string{"enc", "-sm4-ctr"}, flags...)...); !bytes.Equal(got, counted) {
		t.Error("SM4 in counter mode is not what openssl makes")
	}
	if got := openssl(text[:992], append([]string{"enc", "-sm4-cbc"}, flags...)...); !bytes.Equal(got, chained) {
		t.Error("SM4 in cipher block chaining is not what openssl makes")
	}

	options := []string{"-rawin", "-digest", "sm3", "-pkeyopt", "distid:" + userID}
	signer, err := gm.Generate(SM2, seeded(9))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		d := gm.Sum([]byte{byte(i)})
		signature, err := signer.Sign(d)
		if err != nil {
			t.Fatal(err)
		}
		var pair struct{ R, S *big.Int }
		pair.R, pair.S = splitSignature(signature)
		der, err := asn1.Marshal(pair)
		if err != nil {
			t.Fatal(err)
		}
		args := append([]string{
			"pkeyutl", "-verify", "-pubin", "-inkey", write("our.der", spki(t, signer.Public())), "-keyform", "DER",
			"-in", write("digest", d[:]), "-sigfile", write("our.sig", der),
		}, options...)
		if out := openssl(nil, args...); !bytes.Contains(out, []byte("Signature Verified Successfully")) {
			t.Errorf("openssl says of our signature: %s", out)
		}
	}

	write("their.pem", openssl(nil, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2", "-pkeyopt", "ec_param_enc:named_curve"))
	public := openssl(nil, "pkey", "-in", path("their.pem"), "-pubout", "-outform", "DER")
	x, y := elliptic.Unmarshal(sm2.P256(), public[len(public)-65:]) //nolint:staticcheck // SM2 has no crypto/ecdh
	if x == nil {
		t.Fatalf("openssl's public key %x has no point", public)
	}
	theirs, err := gm.ParsePublic(SM2, elliptic.MarshalCompressed(sm2.P256(), x, y))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		d := gm.Sum([]byte{1, byte(i)})
		der := openssl(nil, append([]string{"pkeyutl", "-sign", "-inkey", path("their.pem"), "-in", write("digest", d[:])}, options...)...)
		r, s, err := parseDER(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := theirs.Verify(d, joinSignature(r, s)); err != nil {
			t.Errorf("openssl's signature: %v", err)
		}
	}
}

// spki returns a SubjectPublicKeyInfo (RFC 5280 §4.1) of an SM2 key.
func spki(t *testing.T, key PublicKey) []byte {
	t.Helper()
	type algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
	point := &key.(*sm2Key).point
	encoded := elliptic.Marshal(point.Curve, point.X, point.Y) //nolint:staticcheck // SM2 has no crypto/ecdh
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}},
		asn1.BitString{Bytes: encoded, BitLength: 8 * len(encoded)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
