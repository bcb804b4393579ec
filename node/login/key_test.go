package login

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

// TestIsKey compares keys of certificates with what a provider says that a certificate is for.
func TestIsKey(t *testing.T) {
	suite := keys.Std()
	said := func(a keys.Algorithm) keys.PublicKey {
		t.Helper()
		signer, err := suite.Generate(a, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return signer.Public()
	}
	for range 8 { // both signs of a point
		key := said(keys.P256)
		x, y := elliptic.UnmarshalCompressed(elliptic.P256(), key.Bytes())
		leaf := &x509.Certificate{PublicKey: &ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y}} //nolint:staticcheck // the other way round than isKey
		if !isKey(leaf, key) || isKey(leaf, said(keys.P256)) || isKey(leaf, said(keys.Ed25519)) {
			t.Fatal("a certificate for a key of P-256 is not told from others")
		}
	}
	key := said(keys.Ed25519)
	if leaf := (&x509.Certificate{PublicKey: ed25519.PublicKey(key.Bytes())}); !isKey(leaf, key) || isKey(leaf, said(keys.Ed25519)) || isKey(leaf, said(keys.P256)) {
		t.Error("a certificate for a key of Ed25519 is not told from others")
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, public := range []any{&other.PublicKey, &long.PublicKey, nil} {
		if isKey(&x509.Certificate{PublicKey: public}, key) {
			t.Errorf("a certificate for a %T is for a key of Ed25519", public)
		}
	}
}
