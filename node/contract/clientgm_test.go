package contract

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

// hexBytes is a byte string that JSON shows in hexadecimal digits.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

type (
	gmSigner struct {
		Private hexBytes `json:"private"`
		Message hexBytes `json:"message"`
	}
	gmCheck struct {
		what      string
		Key       hexBytes `json:"key"`
		Message   hexBytes `json:"message"`
		Signature hexBytes `json:"signature"`
	}
	gmAsked struct {
		Texts   []hexBytes `json:"texts"`
		Signers []gmSigner `json:"signers"`
		Checks  []gmCheck  `json:"checks"`
	}
	gmAnswer struct {
		Hashes  []hexBytes `json:"hashes"`
		Signers []struct {
			Public    hexBytes `json:"public"`
			Signature hexBytes `json:"signature"`
			Refused   string   `json:"refused"`
		} `json:"signers"`
		Verdicts []bool `json:"verdicts"`
	}
)

// askGM lets Node.js compute with clientgm.mjs.
func askGM(t *testing.T, asked gmAsked) gmAnswer {
	t.Helper()
	input, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), nodeJS(t), "testdata/client/gm.test.mjs")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	var answer gmAnswer
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Hashes) != len(asked.Texts) || len(answer.Signers) != len(asked.Signers) || len(answer.Verdicts) != len(asked.Checks) {
		t.Fatalf("%d hashes, %d signers and %d verdicts for %d, %d and %d", len(answer.Hashes), len(answer.Signers), len(answer.Verdicts), len(asked.Texts), len(asked.Signers), len(asked.Checks))
	}
	return answer
}

func unhex(t *testing.T, text string) hexBytes {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSM3InJavaScript has the examples of GM/T 0004 annex A, and texts of many lengths against state/keys.
func TestSM3InJavaScript(t *testing.T) {
	asked := gmAsked{Texts: []hexBytes{[]byte("abc"), bytes.Repeat([]byte("abcd"), 16)}}
	data := make([]byte, 1000)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(data)
	for size := range 200 {
		asked.Texts = append(asked.Texts, data[:size])
	}
	asked.Texts = append(asked.Texts, data)
	answer := askGM(t, asked)
	for i, want := range []string{"66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0", "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"} {
		if got := hex.EncodeToString(answer.Hashes[i]); got != want {
			t.Errorf("SM3 of %q is %s, want %s", asked.Texts[i], got, want)
		}
	}
	suite := keys.GM()
	for i, text := range asked.Texts {
		if want := suite.Sum(text); !bytes.Equal(answer.Hashes[i], want[:]) {
			t.Errorf("SM3 of %d bytes is %x, want %s", len(text), []byte(answer.Hashes[i]), want)
		}
	}
}

// The curve of GM/T 0003.5: its prime, the order of its base point, and that point's abscissa.
const (
	sm2Prime    = "fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff"
	sm2Order    = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123"
	sm2Abscissa = "32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"
)

// TestSM2InJavaScript has the example of GM/T 0003.5 annex A, and keys, signatures and private keys at random and at the edges of
// what is allowed: what one implementation makes the other makes too and accepts, and both refuse the same.
func TestSM2InJavaScript(t *testing.T) {
	suite, random := keys.GM(), rand.NewChaCha8([32]byte{2})
	number := func(text string) *big.Int { return new(big.Int).SetBytes(unhex(t, text)) }
	n, p, one := number(sm2Order), number(sm2Prime), big.NewInt(1)
	fixed := func(x *big.Int) hexBytes { return x.FillBytes(make([]byte, 32)) }
	add := func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }
	sub := func(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }

	standard := gmCheck{
		"the standard's signature", unhex(t, "0309f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"), []byte("message digest"),
		unhex(t, "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"),
	}
	asked := gmAsked{
		Signers: []gmSigner{{unhex(t, "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"), standard.Message}},
		Checks:  []gmCheck{standard, {"another message", standard.Key, []byte("message digesT"), standard.Signature}},
	}

	// Private keys, at random and at both ends of the range.
	for _, scalar := range []*big.Int{one, big.NewInt(2), sub(n, big.NewInt(2)), new(big.Int), sub(n, one), n, add(n, one), sub(new(big.Int).Lsh(one, 256), one)} {
		asked.Signers = append(asked.Signers, gmSigner{fixed(scalar), fixed(scalar)})
	}
	for _, size := range []int{0, 31, 33} {
		asked.Signers = append(asked.Signers, gmSigner{bytes.Repeat([]byte{1}, size), fixed(one)})
	}
	signers := make([]keys.Signer, 20)
	for i := range signers {
		var err error
		if signers[i], err = suite.Generate(keys.SM2, random); err != nil {
			t.Fatal(err)
		}
		private, err := signers[i].Private()
		if err != nil {
			t.Fatal(err)
		}
		asked.Signers = append(asked.Signers, gmSigner{private, digest(random)})
	}

	// Signatures and keys that are wrong.
	signer := signers[0]
	public, message := signer.Public().Bytes(), digest(random)
	good, err := signer.Sign(keys.Digest(message))
	if err != nil {
		t.Fatal(err)
	}
	r, s := new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])
	check := func(what string, key, signature []byte) {
		asked.Checks = append(asked.Checks, gmCheck{what, key, message, signature})
	}
	check("what state/keys signed", public, good)
	for what, pair := range map[string][2]*big.Int{
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
		"r is the prime":           {p, s},
		"s is the base's abscissa": {r, number(sm2Abscissa)},
	} {
		check(what, public, append(fixed(pair[0]), fixed(pair[1])...))
	}
	for _, size := range []int{0, 1, 32, 63, 65, 128} {
		check(fmt.Sprintf("a signature of %d bytes", size), public, append(bytes.Clone(good), make([]byte, 64)...)[:size])
	}
	other := bytes.Clone(public)
	other[0] ^= 1
	for what, key := range map[string][]byte{
		"no key":              nil,
		"infinity":            {0},
		"33 zeros":            make([]byte, 33),
		"abscissa too large":  append([]byte{2}, fixed(p)...),
		"a bit of it too far": append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...),
		"hybrid":              append([]byte{6}, public[1:]...),
		"the other ordinate":  other,
		"a byte more":         append(bytes.Clone(public), 0),
		"a byte less":         public[:32],
		"uncompressed":        append(append([]byte{4}, public[1:]...), public[1:]...),
		"of NIST P-256":       unhex(t, "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
		"another key":         signers[1].Public().Bytes(),
	} {
		check(what, key, good)
	}
	for i := range 60 { // a bit of something is changed
		signer := signers[i%len(signers)]
		c := gmCheck{what: fmt.Sprintf("change %d", i), Key: bytes.Clone(signer.Public().Bytes()), Message: digest(random)}
		if c.Signature, err = signer.Sign(keys.Digest(c.Message)); err != nil {
			t.Fatal(err)
		}
		place := []hexBytes{c.Key, c.Message, c.Signature}[i%3]
		place[random.Uint64()%uint64(len(place))] ^= 1 << (random.Uint64() % 8)
		asked.Checks = append(asked.Checks, c)
	}

	answer := askGM(t, asked)
	if got := answer.Signers[0].Public; !bytes.Equal(got, standard.Key) {
		t.Errorf("the standard's public key is %x, want %x", []byte(got), []byte(standard.Key))
	}
	refused := 0
	for i, asked := range asked.Signers {
		got := answer.Signers[i]
		signer, err := suite.ParsePrivate(keys.SM2, asked.Private)
		if err != nil || got.Refused != "" {
			if refused++; err == nil || got.Refused == "" {
				t.Errorf("private key %x: in Go %v, in JavaScript %q", []byte(asked.Private), err, got.Refused)
			}
			continue
		}
		if !bytes.Equal(got.Public, signer.Public().Bytes()) {
			t.Errorf("public key %x, want %x", []byte(got.Public), signer.Public().Bytes())
		}
		if len(asked.Message) != keys.DigestSize {
			continue // the standard's example
		}
		want, err := signer.Sign(keys.Digest(asked.Message))
		if err != nil {
			t.Fatal(err)
		}
		if err := signer.Public().Verify(keys.Digest(asked.Message), got.Signature); err != nil || !bytes.Equal(got.Signature, want) {
			t.Errorf("signature %x, want %x; in Go: %v", []byte(got.Signature), want, err)
		}
	}
	if refused != 8 {
		t.Errorf("%d private keys are refused, want 8", refused)
	}
	accepted := 0
	for i, c := range asked.Checks {
		want := i == 0
		if i > 1 {
			key, err := suite.ParsePublic(keys.SM2, c.Key)
			want = err == nil && key.Verify(keys.Digest(c.Message), c.Signature) == nil
		}
		if answer.Verdicts[i] != want {
			t.Errorf("%s: accepted %t, want %t", c.what, answer.Verdicts[i], want)
		}
		if want {
			accepted++
		}
	}
	if accepted != 2 {
		t.Errorf("%d signatures are accepted, want the standard's and one of state/keys", accepted)
	}
}

// digest returns 32 random bytes.
func digest(random *rand.ChaCha8) hexBytes {
	d := make([]byte, keys.DigestSize)
	random.Read(d)
	return d
}
