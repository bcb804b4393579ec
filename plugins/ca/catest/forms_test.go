package catest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// TestForms shows what the rule "another form" is for: the standard library takes the other forms of a certificate as signed by its
// issuer, and all of them have one fingerprint, by which a freeze on chain names them.
func TestForms(t *testing.T) {
	f := NewPKI(t, Standard(keys.P256), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)).Fixtures()
	issuer, err := x509.ParseCertificate(f.Good[1])
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := identity.Fingerprint(keys.Std(), f.Good[0])
	if err := identity.CheckForm(f.Good[0]); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		make    func([]byte) ([]byte, error)
		refused string // by identity.CheckForm; empty: it is in the form of others, with another signature
	}{
		"unused bits":         {UnusedBits, "its signature has unused bits (1)"},
		"something behind":    {followed, "2 bytes follow its signature"},
		"the other signature": {func(der []byte) ([]byte, error) { return OtherSignature(der, f.Good[1]) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			other, err := c.make(f.Good[0])
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := x509.ParseCertificate(other)
			if err == nil {
				err = parsed.CheckSignatureFrom(issuer)
			}
			if err != nil || bytes.Equal(other, f.Good[0]) {
				t.Errorf("it is no other form of the certificate: %v", err)
			}
			if got := identity.Fingerprint(keys.Std(), other); got != fingerprint {
				t.Errorf("its fingerprint is %s, want %s", got, fingerprint)
			}
			switch err := identity.CheckForm(other); {
			case c.refused == "" && err != nil, c.refused != "" && (err == nil || !strings.HasPrefix(err.Error(), c.refused)):
				t.Errorf("CheckForm = %v, want %q", err, c.refused)
			}
		})
	}
}

// TestFingerprintByOpenSSL prints fingerprints with the commands that identity.Fingerprint and plugins/README.md give.
func TestFingerprintByOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal("openssl is missing: apt-get install openssl")
		}
		t.Skip("openssl is missing: apt-get install openssl")
	}
	f := NewPKI(t, Standard(keys.Ed25519), time.Now()).Fixtures()
	file := filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Good[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		suite keys.Suite
		hash  string
	}{{keys.Std(), "-sha256"}, {keys.GM(), "-sm3"}} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "openssl asn1parse -in "+file+" -strparse 4 -noout -out /dev/stdout | openssl dgst "+c.hash).CombinedOutput()
		if want := identity.Fingerprint(c.suite, f.Good[0]).String()[2:]; err != nil || !strings.Contains(string(out), want) {
			t.Errorf("openssl prints %q (%v), want %s", out, err, want)
		}
	}
}
