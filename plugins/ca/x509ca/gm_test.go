package x509ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
	tjsm2 "github.com/tjfoc/gmsm/sm2"
	tjsm4 "github.com/tjfoc/gmsm/sm4"
	tjx509 "github.com/tjfoc/gmsm/x509"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// gmMaker makes a PKI of SM2.
func gmMaker() catest.Maker {
	p256 := func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
	return catest.Maker{
		Key:     func() (crypto.Signer, error) { return sm2.GenerateKey(rand.Reader) },
		Foreign: p256,
		Weak: func() (crypto.Signer, x509.SignatureAlgorithm, error) { // an authority of another algorithm below an SM2 root
			key, err := p256()
			return key, x509.ECDSAWithSHA256, err
		},
		Small: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 1024) },
		Certificate: func(t *x509.Certificate, issuer []byte, public crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
			template := &smx509.Certificate{
				SerialNumber: t.SerialNumber, Subject: t.Subject, NotBefore: t.NotBefore, NotAfter: t.NotAfter, KeyUsage: smx509.KeyUsage(t.KeyUsage),
				BasicConstraintsValid: t.BasicConstraintsValid, IsCA: t.IsCA, MaxPathLenZero: t.MaxPathLenZero, URIs: t.URIs, DNSNames: t.DNSNames,
				PermittedDNSDomainsCritical: t.PermittedDNSDomainsCritical, PermittedDNSDomains: t.PermittedDNSDomains,
			}
			if t.SignatureAlgorithm == x509.ECDSAWithSHA256 {
				template.SignatureAlgorithm = smx509.ECDSAWithSHA256
			}
			if len(t.ExtKeyUsage) > 0 {
				template.ExtKeyUsage = []smx509.ExtKeyUsage{smx509.ExtKeyUsageClientAuth}
			}
			parent := template
			if issuer != nil {
				var err error
				if parent, err = smx509.ParseCertificate(issuer); err != nil {
					return nil, err
				}
			}
			return smx509.CreateCertificate(rand.Reader, template, parent, public, signer)
		},
		List: func(t *x509.RevocationList, issuer []byte, signer crypto.Signer) ([]byte, error) {
			c, err := gm{keys.GM()}.parse(issuer)
			if err != nil {
				return nil, err
			}
			return gm{keys.GM()}.createList(t, c, signer)
		},
	}
}

func TestGMConformance(t *testing.T) {
	p := catest.NewPKI(t, gmMaker(), noon)
	f := p.Fixtures()
	settings := withAuthority(t, keys.GM(), settingsOf(p, ""), &f)
	catest.Run(t, configured(t, keys.GM(), settings), f)
}

// TestPair tells what becomes of the two certificates that an authority of suite gm issues.
func TestPair(t *testing.T) {
	suite := keys.GM()
	a, _ := newAuthority(t, suite, "")
	holder := newKey(t, suite)
	csr, err := Request(suite, holder, "node 1")
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, suite)
	r.CSR = csr
	got, err := a.Enroll(r)
	if err != nil || got.Issued == nil || got.Issued.Encryption == nil {
		t.Fatalf("Enroll = %+v, %v", got, err)
	}
	second, err := a.lib.parse(got.Issued.Encryption.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if second.usage&x509.KeyUsageDigitalSignature != 0 || second.usage&x509.KeyUsageKeyEncipherment == 0 {
		t.Errorf("the usage of the second certificate is %b", second.usage)
	}
	t.Run("the holder opens the key of the second", func(t *testing.T) {
		opened, err := openEnveloped(holder, got.Issued.Encryption.Key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(opened.Public().Bytes(), second.key.Bytes) || bytes.Equal(second.key.Bytes, holder.Public().Bytes()) {
			t.Error("it is not the key of the second certificate")
		}
	})
	t.Run("nobody else does", func(t *testing.T) {
		if _, err := openEnveloped(newKey(t, suite), got.Issued.Encryption.Key); err == nil || !strings.Contains(err.Error(), "does not open with this key") {
			t.Errorf("openEnveloped: %v", err)
		}
	})
	t.Run("openssl decrypts with it what was encrypted for the second certificate", func(t *testing.T) {
		if _, err := exec.LookPath("openssl"); err != nil {
			if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
				t.Fatalf("%v: apt-get install openssl", err)
			}
			t.Skipf("%v: apt-get install openssl", err)
		}
		opened, err := OpenPair(holder, append(encodePEM(EncryptionLabel, got.Issued.Encryption.Certificate), encodePEM(EnvelopeLabel, got.Issued.Encryption.Key)...))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write := func(name string, data []byte) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		openssl := func(args ...string) string {
			t.Helper()
			c := exec.CommandContext(t.Context(), "openssl", args...)
			c.Dir = dir
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
			}
			return string(out)
		}
		write("second.pem", encodePEM("CERTIFICATE", got.Issued.Encryption.Certificate))
		write("text", []byte("for the holder alone"))
		openssl("x509", "-in", "second.pem", "-noout", "-pubkey", "-out", "public.pem")
		openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", "public.pem", "-in", "text", "-out", "sealed")
		for _, passphrase := range []string{"", "correct horse"} {
			text, err := PKCS8(opened, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			write("key.pem", text)
			if out := openssl("pkeyutl", "-decrypt", "-inkey", "key.pem", "-passin", "pass:"+passphrase, "-in", "sealed"); out != "for the holder alone" {
				t.Errorf("with passphrase %q openssl decrypts %q", passphrase, out)
			}
		}
	})
	t.Run("the certificate and the key of two pairs are none", func(t *testing.T) {
		b, _ := newAuthority(t, suite, "")
		other, err := b.Enroll(r)
		if err != nil || other.Issued == nil || other.Issued.Encryption == nil {
			t.Fatalf("Enroll = %+v, %v", other, err)
		}
		for _, e := range []*ca.Encryption{got.Issued.Encryption, other.Issued.Encryption} {
			mixed := append(encodePEM(EncryptionLabel, got.Issued.Encryption.Certificate), encodePEM(EnvelopeLabel, e.Key)...)
			_, err := OpenPair(holder, mixed)
			if e == got.Issued.Encryption && err != nil || e == other.Issued.Encryption && (err == nil || !strings.Contains(err.Error(), "is another than that of the certificate for encryption")) {
				t.Errorf("OpenPair: %v", err)
			}
		}
	})
	first, err := a.lib.parse(got.Issued.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the pair can be fetched again", func(t *testing.T) {
		again, err := a.Fetch(first.serial)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("Fetch = %+v, %v", again, err)
		}
		if again, err = a.Fetch(second.serial); err != nil || again.Refusal == nil || !strings.Contains(again.Refusal.Reason, "is for encryption: fetch it with the one for signing") {
			t.Errorf("Fetch = %+v, %v", again, err)
		}
		if again, err = a.Fetch("0123"); err != nil || again.Refusal == nil || again.Refusal.Code != ca.UnknownSerial {
			t.Errorf("Fetch = %+v, %v", again, err)
		}
	})
	t.Run("the one for encryption is not renewed", func(t *testing.T) {
		refused, err := a.Renew(ca.RenewRequest{Serial: second.serial, At: noon.UnixMilli()})
		if err != nil || refused.Refusal == nil || refused.Refusal.Code != ca.Denied || !strings.Contains(refused.Refusal.Reason, "renew the one for signing of the pair") {
			t.Errorf("Renew = %+v, %v", refused, err)
		}
	})
	t.Run("each is revoked by its own number", func(t *testing.T) {
		if got, err := a.Revoke(ca.RevokeRequest{Serial: second.serial, At: noon.UnixMilli()}); err != nil || got.Refusal != nil {
			t.Fatalf("Revoke = %+v, %v", got, err)
		}
		all, err := a.Issued()
		if err != nil || len(all) != 2 {
			t.Fatalf("Issued = %+v, %v", all, err)
		}
		for _, c := range all {
			if (c.Revoked != nil) != c.Encryption {
				t.Errorf("%+v", c)
			}
		}
	})
}

// TestSecondImplementation has another library judge what this one issues, and this one what that issues.
func TestSecondImplementation(t *testing.T) {
	suite := keys.GM()
	a, _ := newAuthority(t, suite, "")
	got, err := a.Enroll(request(t, suite))
	if err != nil || got.Issued == nil {
		t.Fatalf("Enroll = %+v, %v", got, err)
	}
	t.Run("tjfoc accepts what is issued", func(t *testing.T) {
		root, err := tjx509.ParseCertificate(got.Issued.Chain[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, der := range [][]byte{got.Issued.Chain[0], got.Issued.Encryption.Certificate} {
			c, err := tjx509.ParseCertificate(bytes.Clone(der))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.CheckSignatureFrom(root); err != nil {
				t.Error(err)
			}
			c.RawTBSCertificate[20] ^= 1
			if c.CheckSignatureFrom(root) == nil {
				t.Error("it accepts a changed certificate")
			}
		}
	})
	t.Run("tjfoc opens the envelope", func(t *testing.T) {
		holder := newKey(t, suite)
		_, enveloped, err := gm{suite}.encryptionKey(ledger.KeyOf(holder.Public()))
		if err != nil {
			t.Fatal(err)
		}
		var e struct { // SM2EnvelopedKey
			Algorithm      pkix.AlgorithmIdentifier
			Key            asn1.RawValue
			Public, Sealed asn1.BitString
		}
		if rest, err := asn1.Unmarshal(enveloped, &e); err != nil || len(rest) > 0 || e.Algorithm.Algorithm.String() != "1.2.156.10197.1.104.1" {
			t.Fatalf("Unmarshal = %+v, %v", e, err)
		}
		private, err := holder.Private()
		if err != nil {
			t.Fatal(err)
		}
		key := &tjsm2.PrivateKey{D: new(big.Int).SetBytes(private)}
		key.Curve = tjsm2.P256Sm2()
		session, err := key.DecryptAsn1(e.Key.FullBytes)
		if err != nil {
			t.Fatal(err)
		}
		block, err := tjsm4.NewCipher(session)
		if err != nil {
			t.Fatal(err)
		}
		scalar := make([]byte, len(e.Sealed.Bytes))
		for i := 0; i < len(scalar); i += block.BlockSize() {
			block.Decrypt(scalar[i:], e.Sealed.Bytes[i:])
		}
		opened, err := suite.ParsePrivate(keys.SM2, scalar)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := opened.Public().Bytes(), compress(e.Public.Bytes); !bytes.Equal(got, want) {
			t.Errorf("the key in the envelope is for %x, want %x", got, want)
		}
	})
	t.Run("what tjfoc issues is accepted", func(t *testing.T) {
		key, err := tjsm2.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &tjx509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{Organization: []string{"Bank of Corfu"}, CommonName: "tjfoc"}, NotBefore: noon, NotAfter: noon.Add(time.Hour),
			SignatureAlgorithm: tjx509.SM2WithSM3, IsCA: true, BasicConstraintsValid: true, KeyUsage: tjx509.KeyUsageCertSign,
		}
		der, err := tjx509.CreateCertificate(template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.lib.parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.lib.checkIssued(c, c); err != nil || c.weak != nil || c.keyErr != nil {
			t.Errorf("checkIssued: %v; %v, %v", err, c.weak, c.keyErr)
		}
	})
	t.Run("openssl verifies what is issued", func(t *testing.T) {
		if _, err := exec.LookPath("openssl"); err != nil {
			if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
				t.Fatal(err)
			}
			t.Skipf("%v: apt-get install openssl", err)
		}
		dir := t.TempDir()
		for name, der := range map[string][]byte{"root.pem": got.Issued.Chain[1], "leaf.pem": got.Issued.Chain[0]} {
			if err := os.WriteFile(filepath.Join(dir, name), encodePEM("CERTIFICATE", der), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		list, err := a.List()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ca.crl"), encodePEM("X509 CRL", list.Signed), 0o600); err != nil {
			t.Fatal(err)
		}
		verify := exec.Command("openssl", "verify", "-vfyopt", "distid:1234567812345678", "-attime", "1903953600", "-CAfile", "root.pem", "leaf.pem")
		verify.Dir = dir
		if out, err := verify.CombinedOutput(); err != nil || !strings.Contains(string(out), "leaf.pem: OK") {
			t.Errorf("%v: %s", err, out)
		}
		show := exec.Command("openssl", "crl", "-in", "ca.crl", "-noout", "-text")
		show.Dir = dir
		if out, err := show.CombinedOutput(); err != nil || !strings.Contains(string(out), "SM2-with-SM3") {
			t.Errorf("%v: %s", err, out)
		}
	})
}
