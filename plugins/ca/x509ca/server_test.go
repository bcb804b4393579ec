package x509ca

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
)

// TestServer issues certificates for TLS servers, which are renewed as such and vouch for nobody.
func TestServer(t *testing.T) {
	suite := keys.Std()
	a, _ := newAuthority(t, suite, "")
	r := request(t, suite)
	r.Roles = nil
	for _, c := range []struct {
		what, host, says string
	}{
		{"a port", "node.corfu.example:9541", "without a port"},
		{"a URL", "https://node.corfu.example", "want a DNS name"},
		{"an empty name", "", "want a DNS name"},
		{"a label that begins with a dash", "-node.corfu.example", "want a DNS name"},
		{"a star within", "node.*.example", "want a DNS name"},
		{"a long name", strings.Repeat("corfu.", 60) + "example", "want a DNS name"},
	} {
		if got, err := a.EnrollServer(r, []string{c.host}); err != nil || got.Refusal == nil || got.Refusal.Code != ca.Malformed || !strings.Contains(got.Refusal.Reason, c.says) {
			t.Errorf("%s: %+v, %v; want %s and %q", c.what, got.Refusal, err, ca.Malformed, c.says)
		}
	}
	if got, err := a.EnrollServer(r, make([]string, maxHosts+1)); err != nil || got.Refusal == nil {
		t.Errorf("too many hosts: %+v, %v", got.Refusal, err)
	}
	if got, err := a.EnrollServer(request(t, suite), []string{"node"}); err != nil || got.Refusal == nil || got.Refusal.Code != ca.WrongPurpose {
		t.Errorf("hosts and roles: %+v, %v", got.Refusal, err)
	}
	check := func(der []byte) *x509.Certificate {
		t.Helper()
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		root, err := x509.ParseCertificate(a.Chain()[0])
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(root)
		for _, host := range []string{"node.corfu.example", "a.b.corfu.example", "192.0.2.7", "2001:db8::7"} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: noon.Add(time.Minute)}); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: noon.Add(time.Minute), KeyUsages: []x509.ExtKeyUsage{usage}}); err == nil {
				t.Errorf("it serves for usage %d as well", usage)
			}
		}
		return leaf
	}
	got, err := a.EnrollServer(r, []string{"node.corfu.example", "*.b.corfu.example", "192.0.2.7", "2001:db8::7"})
	if err != nil || got.Issued == nil {
		t.Fatalf("%+v, %v", got.Refusal, err)
	}
	leaf := check(got.Issued.Chain[0])
	again, err := a.Renew(ca.RenewRequest{Serial: serialText(leaf.SerialNumber), At: noon.UnixMilli()})
	if err != nil || again.Issued == nil {
		t.Fatalf("Renew: %+v, %v", again.Refusal, err)
	}
	if check(again.Issued.Chain[0]).SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("the renewed certificate has the old one's number")
	}

	gm, _ := newAuthority(t, keys.GM(), "")
	r = request(t, keys.GM())
	r.Roles = nil
	if got, err := gm.EnrollServer(r, []string{"node"}); err != nil || got.Refusal == nil || !strings.Contains(got.Refusal.Reason, "make an authority of suite std") {
		t.Errorf("of suite gm: %+v, %v", got.Refusal, err)
	}
}
