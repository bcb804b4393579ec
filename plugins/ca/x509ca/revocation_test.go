package x509ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// office is a PKI of one root, made by hand where a test needs what PKI does not have.
type office struct {
	t    *testing.T
	key  crypto.Signer
	root *x509.Certificate
	path string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, path: filepath.Join(t.TempDir(), "root.pem")}
	o.key = o.newKey()
	o.root = o.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corfu CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, o.key)
	if err := os.WriteFile(o.path, encodePEM("CERTIFICATE", o.root.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) newKey() crypto.Signer {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	return key
}

func (o *office) sign(c *x509.Certificate, key crypto.Signer) *x509.Certificate {
	o.t.Helper()
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = noon.Add(-time.Hour), noon.Add(1000*time.Hour)
	}
	parent := o.root
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return made
}

// holder issues a certificate with the roles.
func (o *office) holder(serial int64, subject pkix.Name, roles ...string) *x509.Certificate {
	o.t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: subject}
	for _, r := range roles {
		c.URIs = append(c.URIs, &url.URL{Scheme: "fondaco", Opaque: "role:" + r})
	}
	return o.sign(c, o.newKey())
}

func corfu(units ...string) pkix.Name {
	return pkix.Name{Organization: []string{"Bank of Corfu"}, OrganizationalUnit: units, CommonName: "node 1"}
}

func (o *office) settings(more string) string {
	return fmt.Sprintf("[[trust]]\nroots = %q\n%s\n", o.path, more)
}

func asks(at time.Time, purpose ca.Purpose, chain ...*x509.Certificate) ca.VerifyRequest {
	r := ca.VerifyRequest{Purpose: purpose, At: at.UnixMilli()}
	for _, c := range chain {
		r.Chain = append(r.Chain, c.Raw)
	}
	return r
}

// verdict is an answer in one line.
func verdict(t *testing.T, p ca.Provider, r ca.VerifyRequest) string {
	t.Helper()
	got, err := p.Verify(t.Context(), r)
	switch {
	case err != nil:
		return "error: " + err.Error()
	case got.Refusal != nil:
		return string(got.Refusal.Code) + ": " + got.Refusal.Reason
	default:
		return fmt.Sprintf("%s/%s %v", got.Holder.Institution, got.Holder.Agency, got.Holder.Roles)
	}
}

func says(t *testing.T, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s\nwant: %s", got, want)
	}
}

// TestHolders tells whom certificates vouch for under settings.
func TestHolders(t *testing.T) {
	o := newOffice(t)
	node := o.holder(2, corfu("Payments"), "node", "operator")
	plain := o.holder(3, corfu("Payments", "Nodes"))
	nobody := o.holder(4, pkix.Name{CommonName: "node 1"}, "node")
	two := o.holder(5, pkix.Name{Organization: []string{"a", "b"}}, "node")
	for _, c := range []struct {
		name, settings string
		holder         *x509.Certificate
		purpose        ca.Purpose
		want           string
	}{
		{"subject and URIs", "", node, ca.Node, "Bank of Corfu/Payments [node operator]"},
		{"a role that it lacks", "", node, ca.Regulator, `wrong-purpose: the certificate of CN=node 1,OU=Payments,O=Bank of Corfu has the roles ["node" "operator"], and not "regulator", which the purpose regulator needs`},
		{"no institution", "", nobody, ca.Node, "unnamed: the certificate of CN=node 1 names 0 organizations"},
		{"two institutions", "", two, ca.Node, "unnamed: the certificate of O=a+O=b names 2 organizations"},
		{"an institution by settings", `institution = "Bank of Corfu"`, nobody, ca.Node, "Bank of Corfu/ [node]"},
		{"another institution", `institutions = ["Bank of Zante"]`, node, ca.Node, `constraint: CA CN=Corfu CA is not trusted for institution "Bank of Corfu", only for ["Bank of Zante"]`},
		{"one of several institutions", `institutions = ["Bank of Zante", "Bank of Corfu"]`, node, ca.Node, "Bank of Corfu/"},
		{"a role that the PKI may not confer", `roles = ["node"]`, node, ca.Node, "constraint: CA CN=Corfu CA is not trusted for role operator, only for node"},
		{"no role at all", "", plain, ca.Node, "has the roles []"},
		{"a role by unit", "[[trust.grant]]\nunit = \"Nodes\"\nroles = [\"node\"]", plain, ca.Node, "Bank of Corfu/Nodes [node]"},
		{"a role by issuer", "[[trust.grant]]\nissuer = \"Corfu CA\"\nroles = [\"user\", \"institution-admin\"]", plain, ca.Admin, "Bank of Corfu/Nodes [institution-admin user]"},
		{"a role of another issuer", "[[trust.grant]]\nissuer = \"Corfu CA\"\nunit = \"Archive\"\nroles = [\"node\"]", plain, ca.Node, "wrong-purpose"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := configured(t, keys.Std(), o.settings("revocation = \"none\"\n"+c.settings))
			says(t, verdict(t, p, asks(noon, c.purpose, c.holder)), c.want)
		})
	}
	t.Run("usage", func(t *testing.T) {
		p := configured(t, keys.Std(), o.settings(`revocation = "none"`))
		server := o.sign(&x509.Certificate{SerialNumber: big.NewInt(6), Subject: corfu(), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, o.newKey())
		says(t, verdict(t, p, asks(noon, ca.Node, server)), "wrong-purpose: the chain of")
		sealer := o.sign(&x509.Certificate{SerialNumber: big.NewInt(7), Subject: corfu(), KeyUsage: x509.KeyUsageKeyEncipherment}, o.newKey())
		says(t, verdict(t, p, asks(noon, ca.Node, sealer)), "of a pair of certificates use the one for signing")
		says(t, verdict(t, p, asks(noon, ca.Node, o.root)), "wrong-purpose: the certificate of CN=Corfu CA is one of an authority")
	})
	t.Run("the PKI that knows the holder has the better reason", func(t *testing.T) {
		other := newOffice(t)
		p := configured(t, keys.Std(), other.settings(`revocation = "none"`)+o.settings("revocation = \"none\"\nroles = [\"user\"]")+other.settings(`revocation = "none"`))
		says(t, verdict(t, p, asks(noon, ca.Node, node)), "is not trusted for role node")
	})
}

// TestCrossed tells of the paths of a holder whose issuer two roots have certified, the second for a shorter time.
func TestCrossed(t *testing.T) {
	first, second := newOffice(t), newOffice(t)
	second.root = nil
	second.root = second.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Zante CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, second.key)
	key := first.newKey()
	issuing := func(by *office, end time.Duration) *x509.Certificate {
		return by.sign(&x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Issuing CA"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(end),
		}, key)
	}
	between := []*x509.Certificate{issuing(first, 10*time.Hour), issuing(second, 5*time.Hour)}
	node := (&office{t: t, key: key, root: between[0]}).holder(3, corfu(), "node")
	both := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(both, append(encodePEM("CERTIFICATE", first.root.Raw), encodePEM("CERTIFICATE", second.root.Raw)...), 0o600); err != nil {
		t.Fatal(err)
	}
	path := func(root *x509.Certificate) identity.Path {
		return identity.Path{Leaf: identity.Fingerprint(keys.Std(), node.Raw), Root: identity.Fingerprint(keys.Std(), root.Raw)}
	}
	want := []identity.Path{path(first.root), path(second.root)}
	slices.SortFunc(want, identity.Path.Compare)
	for name, chain := range map[string][]*x509.Certificate{"one way first": {node, between[0]}, "the other first": {node, between[1]}} {
		t.Run(name, func(t *testing.T) {
			others := filepath.Join(t.TempDir(), "others.pem")
			if err := os.WriteFile(others, append(encodePEM("CERTIFICATE", between[0].Raw), encodePEM("CERTIFICATE", between[1].Raw)...), 0o600); err != nil {
				t.Fatal(err)
			}
			p := configured(t, keys.Std(), fmt.Sprintf("[[trust]]\nroots = %q\nintermediates = %q\nrevocation = \"none\"\n", both, others))
			got, err := p.Verify(t.Context(), asks(noon, ca.Node, chain...))
			if err != nil || got.Holder == nil {
				t.Fatalf("Verify = %+v, %v", got, err)
			}
			if !slices.Equal(got.Holder.Paths, want) || got.Holder.NotAfter != noon.Add(10*time.Hour).UnixMilli() {
				t.Errorf("paths %v until %d, want %v until the end of the longer way", got.Holder.Paths, got.Holder.NotAfter, want)
			}
			got, err = p.Verify(t.Context(), asks(noon.Add(7*time.Hour), ca.Node, chain[0], between[0]))
			if err != nil || got.Holder == nil || !slices.Equal(got.Holder.Paths, []identity.Path{path(first.root)}) {
				t.Errorf("when the shorter way has ended: %+v, %v", got, err)
			}
		})
	}
}

func (o *office) listWith(path string, l *x509.RevocationList) {
	o.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, l, o.root, o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := writeFile(path, encodePEM("X509 CRL", der)); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) list(path string, number int64, issued, next time.Time, extra []pkix.Extension, serials ...int64) {
	o.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: issued, NextUpdate: next, ExtraExtensions: extra}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: issued, ReasonCode: 1})
	}
	o.listWith(path, l)
}

// TestLists tells the life of a revocation list.
func TestLists(t *testing.T) {
	o := newOffice(t)
	node := o.holder(2, corfu(), "node")
	path := filepath.Join(t.TempDir(), "corfu.crl")
	week := noon.Add(7 * 24 * time.Hour)
	o.list(path, 1, noon.Add(-time.Hour), week, nil)
	fresh := func() *Provider {
		return configured(t, keys.Std(), o.settings(fmt.Sprintf("crl = [%q]\nmax_age = \"24h\"", path)))
	}
	p := fresh()
	var warned []string
	p.Warn = func(text string) { warned = append(warned, text) }
	for _, s := range p.trusts[0].revocation.sources {
		s.(listFile).warn = p.Warn
	}
	ask := func(at time.Time) string { return verdict(t, p, asks(at, ca.Node, node)) }

	says(t, ask(noon), "Bank of Corfu")
	says(t, ask(noon.Add(24*time.Hour)), "stale-list: the revocation list of CN=Corfu CA is 25h0m0s old, and max_age allows 24h0m0s: fetch a newer one")
	says(t, ask(week.Add(time.Hour)), "stale-list: the revocation list of CN=Corfu CA is 170h0m0s old, and a newer one was due on 2030-05-08 12:00:00 UTC")
	t.Run("a new list counts at once", func(t *testing.T) {
		o.list(path, 2, noon.Add(24*time.Hour), week, nil, 2)
		says(t, ask(noon.Add(24*time.Hour)), "revoked: the certificate of CN=node 1,O=Bank of Corfu, serial 02, was revoked on 2030-05-02 12:00:00 UTC (key-compromise)")
		got, err := p.Revoked(t.Context(), ca.RevokedRequest{})
		if err != nil || len(got.Lists) != 1 || got.Lists[0].Number != "02" || got.Lists[0].Revoked[0] != (ca.Entry{Serial: "02", At: noon.Add(24 * time.Hour).UnixMilli(), Reason: ca.KeyCompromise}) {
			t.Errorf("Revoked = %+v, %v", got, err)
		}
	})
	t.Run("a damaged list leaves the one before in force", func(t *testing.T) {
		if err := os.WriteFile(path, []byte("half a li"), 0o600); err != nil {
			t.Fatal(err)
		}
		says(t, ask(noon.Add(24*time.Hour)), "revoked: ")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		says(t, ask(noon.Add(24*time.Hour)), "revoked: ")
		got, err := p.Revoked(t.Context(), ca.RevokedRequest{})
		if err != nil || len(got.Lists) != 1 || !strings.Contains(got.Lists[0].Fault, "no such file") {
			t.Errorf("Revoked = %+v, %v, want the list with its fault", got, err)
		}
	})
	t.Run("an older list is not taken back to", func(t *testing.T) {
		o.list(path, 1, noon.Add(-time.Hour), week, nil)
		says(t, ask(noon.Add(24*time.Hour)), "revoked: ")
		says(t, ask(week.Add(time.Hour)), "stale-list: the revocation list of CN=Corfu CA (one does not count: "+path+": it has list number 01 of 2030-05-01 11:00:00 UTC, and had list number 02 of 2030-05-02 12:00:00 UTC: bring the newer one back) is")
	})
	t.Run("a list of a part of the certificates is none", func(t *testing.T) {
		o.list(path, 3, noon.Add(24*time.Hour), week, []pkix.Extension{{Id: []int{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0x03, 0x81, 0x01, 0xff}}})
		says(t, ask(noon.Add(24*time.Hour)), "revoked: ")
		p = fresh()
		says(t, ask(noon.Add(24*time.Hour)), "stale-list: there is no revocation list of CN=Corfu CA (one does not count: "+path+": it has the critical extension 2.5.29.28")
	})
	t.Run("a list of the same name signed by another is none", func(t *testing.T) {
		newOfficeAs(t, o).list(path, 4, noon, week, nil)
		says(t, ask(noon), "stale-list: there is no revocation list of CN=Corfu CA (one does not count: ")
		if got, err := p.Revoked(t.Context(), ca.RevokedRequest{At: noon.UnixMilli()}); err != nil || len(got.Lists) != 0 {
			t.Errorf("Revoked = %+v, %v", got, err)
		}
	})
	t.Run("a list from the future is none yet", func(t *testing.T) {
		o.list(path, 5, noon.Add(maxSkew+time.Second), week, nil)
		says(t, ask(noon), "stale-list: there is no revocation list of CN=Corfu CA (one does not count: "+path+": it is of 2030-05-01 12:05:01 UTC, and it is 2030-05-01 12:00:00 UTC: check the clocks)")
		says(t, ask(noon.Add(time.Second)), "Bank of Corfu")
		says(t, ask(noon), "stale-list: the revocation list of CN=Corfu CA is of 2030-05-01 12:05:01 UTC")
	})
	t.Run("a list signed with SHA-1 is none", func(t *testing.T) {
		o.listWith(path, &x509.RevocationList{Number: big.NewInt(6), ThisUpdate: noon, NextUpdate: week, SignatureAlgorithm: x509.ECDSAWithSHA1})
		p = fresh()
		says(t, ask(noon), "stale-list: there is no revocation list of CN=Corfu CA (one does not count: "+path+": it is signed with ECDSA-SHA1; issue it anew with SHA-256 or better)")
	})
	t.Run("a change that does not count is told once", func(t *testing.T) {
		if len(warned) != 2 || !strings.Contains(warned[0], "has 0 revocation lists") && !strings.Contains(warned[0], "x509: ") || !strings.Contains(warned[1], "no such file") {
			t.Errorf("warned %q", warned)
		}
	})
	t.Run("a file that was away and is back is as before", func(t *testing.T) {
		f, err := newFile(path, func(string) {}, func(data []byte) (int, error) { return len(data), nil })
		if err != nil {
			t.Fatal(err)
		}
		was := f.value
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if got, err := f.current(); got != was || err == nil {
			t.Errorf("away: %d, %v", got, err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := f.current(); got != was || err == nil || !strings.Contains(err.Error(), "is not a file") {
			t.Errorf("a folder: %d, %v", got, err)
		}
		if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.current(); got != was || err != nil {
			t.Errorf("back: %d, %v", got, err)
		}
	})
	t.Run("a file that changes all the time is not read all the time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			reads := 0
			f, err := newFile(path, func(string) {}, func([]byte) (int, error) { reads++; return reads, nil })
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if err := os.WriteFile(path, make([]byte, i), 0o600); err != nil {
					t.Fatal(err)
				}
				_, _ = f.current()
			}
			if reads != 1+maxReads {
				t.Errorf("it was read %d times in a second", reads)
			}
			time.Sleep(time.Second)
			if last, err := f.current(); err != nil || last != 2+maxReads {
				t.Errorf("a second later: %d, %v", last, err)
			}
		})
	})
}

// TestRevokedAuthority tells that nothing is believed of an authority that was revoked, nor of one that no root leads to.
func TestRevokedAuthority(t *testing.T) {
	o := newOffice(t)
	branchKey := o.newKey()
	branch := o.sign(&x509.Certificate{
		SerialNumber: big.NewInt(40), Subject: pkix.Name{CommonName: "Corfu Branch CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, branchKey)
	below := &office{t: t, key: branchKey, root: branch}
	node := below.holder(2, corfu(), "node")
	dir := t.TempDir()
	rootList, branchList := filepath.Join(dir, "root.crl"), filepath.Join(dir, "branch.crl")
	week := noon.Add(7 * 24 * time.Hour)
	o.list(rootList, 1, noon.Add(-time.Hour), week, nil)
	below.list(branchList, 1, noon.Add(-time.Hour), week, nil)
	if err := writeFile(filepath.Join(dir, "branch.pem"), encodePEM("CERTIFICATE", branch.Raw)); err != nil {
		t.Fatal(err)
	}
	p := configured(t, keys.Std(), o.settings(fmt.Sprintf("crl = [%q, %q]\nintermediates = %q", rootList, branchList, filepath.Join(dir, "branch.pem"))))
	issuers := func() string {
		t.Helper()
		got, err := p.Revoked(t.Context(), ca.RevokedRequest{At: noon.UnixMilli()})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, l := range got.Lists {
			names = append(names, l.Issuer+" "+l.Number)
		}
		return strings.Join(names, ", ")
	}
	if got := issuers(); got != "CN=Corfu Branch CA 01, CN=Corfu CA 01" {
		t.Errorf("the lists are those of %s", got)
	}
	says(t, verdict(t, p, asks(noon, ca.Node, node)), "Bank of Corfu")
	o.list(rootList, 2, noon, week, nil, 40)
	below.list(branchList, 2, noon, week, nil)
	says(t, verdict(t, p, asks(noon, ca.Node, node)), "revoked: the certificate of CN=Corfu Branch CA, serial 28")
	if got := issuers(); got != "CN=Corfu Branch CA 01, CN=Corfu CA 02" {
		t.Errorf("the lists are those of %s", got)
	}
}

// TestRoots tells how a root takes the place of another while the provider runs.
func TestRoots(t *testing.T) {
	before, after := newOffice(t), newOffice(t)
	p := configured(t, keys.Std(), before.settings(`revocation = "none"`))
	old, young := before.holder(2, corfu(), "node"), after.holder(3, corfu(), "node")
	says(t, verdict(t, p, asks(noon, ca.Node, old)), "Bank of Corfu")
	says(t, verdict(t, p, asks(noon, ca.Node, young)), "unknown-root")
	if err := writeFile(before.path, encodePEM("CERTIFICATE", before.root.Raw, after.root.Raw)); err != nil {
		t.Fatal(err)
	}
	says(t, verdict(t, p, asks(noon, ca.Node, old)), "Bank of Corfu")
	says(t, verdict(t, p, asks(noon, ca.Node, young)), "Bank of Corfu")
	if err := writeFile(before.path, encodePEM("CERTIFICATE", after.root.Raw)); err != nil {
		t.Fatal(err)
	}
	says(t, verdict(t, p, asks(noon, ca.Node, old)), "unknown-root")
	if err := os.WriteFile(before.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, verdict(t, p, asks(noon, ca.Node, young)), "Bank of Corfu")
	says(t, verdict(t, p, asks(noon, ca.Node, old)), "unknown-root: CN=node 1,O=Bank of Corfu, issued by CN=Corfu CA, leads to no root that is trusted here: send the certificates between it and the root, or have the root added to this node's CA settings; the file of roots has changed since, and does not count: "+before.path+": it has no certificate in PEM or DER")
}

// TestWeakKeys has RSA keys that do not count, wherever they are on the way to the root.
func TestWeakKeys(t *testing.T) {
	o := newOffice(t)
	p := configured(t, keys.Std(), o.settings(`revocation = "none"`))
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	huge := new(big.Int).SetBit(big.NewInt(1), 16383, 1)
	for _, c := range []struct {
		name string
		key  *rsa.PublicKey
		want string
	}{
		{"too small", &key.PublicKey, "its RSA key has 1024 bits; make one of 2048 to 8192"},
		{"too large", &rsa.PublicKey{N: huge, E: 65537}, "its RSA key has 16384 bits"},
		{"a small exponent", &rsa.PublicKey{N: good.N, E: 3}, "its RSA key has the exponent 3; make one with 65537"},
		{"an even exponent", &rsa.PublicKey{N: good.N, E: 65538}, "its RSA key has the exponent 65538"},
		{"the exponent 1", &rsa.PublicKey{N: good.N, E: 1}, "its RSA key has the exponent 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, isCA := range map[string]bool{"Corfu Branch CA": true, "node": false} {
				template := &x509.Certificate{
					SerialNumber: big.NewInt(50), Subject: pkix.Name{Organization: []string{"Bank of Corfu"}, CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
					NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
				}
				der, err := x509.CreateCertificate(rand.Reader, template, o.root, c.key, o.key)
				if err != nil {
					t.Fatal(err)
				}
				chain := [][]byte{der}
				if isCA {
					chain = [][]byte{o.holder(2, corfu(), "node").Raw, der}
				}
				got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: chain, Purpose: ca.Node, At: noon.UnixMilli()})
				if err != nil || got.Refusal == nil || got.Refusal.Code != ca.WrongAlgorithm || !strings.Contains(got.Refusal.Reason, c.want) {
					t.Errorf("%s: Verify = %+v, %v; want %q", name, got.Refusal, err, c.want)
				}
			}
		})
	}
	t.Run("a root", func(t *testing.T) {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Old CA"}, IsCA: true, BasicConstraintsValid: true, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFile(o.path, encodePEM("CERTIFICATE", der)); err != nil {
			t.Fatal(err)
		}
		err = New(keys.Std()).Configure(t.Context(), []byte(o.settings(`revocation = "none"`)))
		if err == nil || !strings.Contains(err.Error(), "roots: "+o.path+": the certificate of CN=Old CA does not count: its RSA key has 1024 bits") {
			t.Errorf("Configure: %v", err)
		}
	})
	t.Run("MD5", func(t *testing.T) {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &good.PublicKey, good)
		if err != nil {
			t.Fatal(err)
		}
		oid := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01}
		der = bytes.ReplaceAll(der, append(slices.Clone(oid), 0x0b), append(slices.Clone(oid), 0x04)) // sha256WithRSAEncryption, md5WithRSAEncryption
		c, err := std{keys.Std()}.parse(der)
		if err != nil || c.weak == nil || !strings.Contains(c.weak.Error(), "MD5-RSA") {
			t.Errorf("parse = %+v, %v", c, err)
		}
	})
}

// newOfficeAs returns another office of the same name.
func newOfficeAs(t *testing.T, o *office) *office {
	other := newOffice(t)
	if other.root.Subject.String() != o.root.Subject.String() {
		t.Fatal("the names differ")
	}
	return other
}

// TestResponder asks an OCSP responder on loopback.
func TestResponder(t *testing.T) {
	o := newOffice(t)
	helper := o.newKey()
	responder := o.sign(&x509.Certificate{SerialNumber: big.NewInt(90), Subject: pkix.Name{CommonName: "OCSP"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}, helper)
	impostor := o.holder(91, corfu(), "node")
	impostorKey := o.newKey()
	impostor = o.sign(&x509.Certificate{SerialNumber: big.NewInt(91), Subject: impostor.Subject}, impostorKey)
	late := o.sign(&x509.Certificate{
		SerialNumber: big.NewInt(92), Subject: pkix.Name{CommonName: "Old OCSP"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		NotBefore: noon.Add(-2 * time.Hour), NotAfter: noon.Add(-time.Hour),
	}, helper)

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaResponder := o.sign(&x509.Certificate{SerialNumber: big.NewInt(93), Subject: pkix.Name{CommonName: "OCSP"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}, rsaKey)

	var asked atomic.Int64
	var answer atomic.Pointer[func(w http.ResponseWriter, question *ocsp.Request)]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		data, _ := io.ReadAll(r.Body)
		question, err := ocsp.ParseRequest(data)
		if err != nil {
			t.Errorf("the question: %v", err)
			return
		}
		(*answer.Load())(w, question)
	}))
	defer server.Close()
	respond := func(by *x509.Certificate, key crypto.Signer, status int, issued time.Time) {
		f := func(w http.ResponseWriter, q *ocsp.Request) {
			der, err := ocsp.CreateResponse(o.root, by, ocsp.Response{
				Status: status, SerialNumber: q.SerialNumber, ThisUpdate: issued, NextUpdate: issued.Add(2 * time.Hour), RevokedAt: noon.Add(-time.Hour), RevocationReason: 4, Certificate: by,
			}, key)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(der)
		}
		answer.Store(&f)
	}
	respondWith := func(issuer *x509.Certificate, change func(*ocsp.Response)) {
		f := func(w http.ResponseWriter, q *ocsp.Request) {
			template := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: noon, NextUpdate: noon.Add(2 * time.Hour), Certificate: responder}
			change(&template)
			der, err := ocsp.CreateResponse(issuer, template.Certificate, template, helper)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(der)
		}
		answer.Store(&f)
	}
	raw := func(status int, data []byte) {
		f := func(w http.ResponseWriter, _ *ocsp.Request) { w.WriteHeader(status); _, _ = w.Write(data) }
		answer.Store(&f)
	}
	fresh := func() ca.Provider {
		return configured(t, keys.Std(), o.settings(fmt.Sprintf("ocsp = %q", server.URL)))
	}
	node := o.holder(2, corfu(), "node")
	for _, c := range []struct {
		name string
		set  func()
		want string
	}{
		{"good", func() { respond(responder, helper, ocsp.Good, noon) }, "Bank of Corfu/ [node]"},
		{"good, by RSA", func() { respond(rsaResponder, rsaKey, ocsp.Good, noon) }, "Bank of Corfu/ [node]"},
		{"signed by another key", func() { respond(rsaResponder, helper, ocsp.Good, noon) }, "its answer: x509: "},
		{"revoked", func() { respond(responder, helper, ocsp.Revoked, noon) }, "revoked: the certificate of CN=node 1,O=Bank of Corfu, serial 02, was revoked on 2030-05-01 11:00:00 UTC (superseded)"},
		{"unknown", func() { respond(responder, helper, ocsp.Unknown, noon) }, "unknown-serial: the responder " + server.URL + " knows no certificate 02"},
		{"an old answer", func() { respond(responder, helper, ocsp.Good, noon.Add(-3*time.Hour)) }, "stale-list: the answer of " + server.URL + " is 3h0m0s old, and a newer one was due on 2030-05-01 11:00:00 UTC"},
		{"signed by a holder", func() { respond(impostor, impostorKey, ocsp.Good, noon) }, "error: ask the responder " + server.URL + " about the certificate of CN=node 1,O=Bank of Corfu: its answer: it is signed by CN=node 1,O=Bank of Corfu, whose certificate is not for OCSP"},
		{"signed by a responder that has ended", func() { respond(late, helper, ocsp.Good, noon) }, "error: ask the responder " + server.URL + " about the certificate of CN=node 1,O=Bank of Corfu: its answer: the certificate of CN=Old OCSP, which signed it, is valid from"},
		{"signed with SHA-1", func() {
			respondWith(o.root, func(r *ocsp.Response) { r.SignatureAlgorithm = x509.ECDSAWithSHA1 })
		}, "error: ask the responder " + server.URL + " about the certificate of CN=node 1,O=Bank of Corfu: its answer: it is signed with ECDSA-SHA1, and only SHA-256 or better counts"},
		{"by ids of SHA-256", func() { respondWith(o.root, func(r *ocsp.Response) { r.IssuerHash = crypto.SHA256 }) }, "Bank of Corfu/ [node]"},
		{"about another authority's certificate", func() {
			respondWith(newOfficeAs(t, o).root, func(*ocsp.Response) {})
		}, "its answer: it is about a certificate 02 of another authority than CN=Corfu CA"},
		{"from the future", func() {
			respondWith(o.root, func(r *ocsp.Response) { r.ThisUpdate = noon.Add(maxSkew + time.Second) })
		}, "its answer is of 2030-05-01 12:05:01 UTC, and it is 2030-05-01 12:00:00 UTC: check the clocks"},
		{"out of order", func() { raw(503, nil) }, "it answered 503 Service Unavailable"},
		{"garbage", func() { raw(200, []byte("<html>")) }, "error: ask the responder"},
		{"a gigabyte", func() { raw(200, make([]byte, 1<<20)) }, "its answer has more than 65536 bytes"},
		{"somewhere else", func() { raw(302, nil) }, "it answered 302 Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set()
			says(t, verdict(t, fresh(), asks(noon, ca.Node, node)), c.want)
		})
	}
	t.Run("one that is down stops nobody while its last answer is fresh", func(t *testing.T) {
		respond(responder, helper, ocsp.Good, noon)
		p := fresh()
		before := asked.Load()
		for range 3 {
			says(t, verdict(t, p, asks(noon, ca.Node, node)), "Bank of Corfu")
		}
		if n := asked.Load() - before; n != 1 {
			t.Errorf("it was asked %d times within a minute, want 1", n)
		}
		raw(503, nil)
		says(t, verdict(t, p, asks(noon.Add(time.Hour), ca.Node, node)), "Bank of Corfu")
		says(t, verdict(t, p, asks(noon.Add(3*time.Hour), ca.Node, node)), "stale-list: the answer of "+server.URL+" is 3h0m0s old")
		says(t, verdict(t, p, asks(noon, ca.Node, o.holder(3, corfu(), "node"))), "error: ask the responder")
	})
	t.Run("one that hangs is left alone for a while", func(t *testing.T) {
		respond(responder, helper, ocsp.Good, noon)
		p := New(keys.Std())
		var warned []string
		p.Warn = func(text string) { warned = append(warned, text) }
		if err := p.Configure(t.Context(), []byte(o.settings(fmt.Sprintf("ocsp = %q", server.URL)))); err != nil {
			t.Fatal(err)
		}
		says(t, verdict(t, p, asks(noon, ca.Node, node)), "Bank of Corfu")
		over := make(chan struct{})
		f := func(http.ResponseWriter, *ocsp.Request) { <-over }
		answer.Store(&f)
		before := asked.Load()
		other := o.holder(3, corfu(), "node")
		for range 5 {
			says(t, verdict(t, p, asks(noon.Add(2*reuseAnswer), ca.Node, node)), "Bank of Corfu")
			says(t, verdict(t, p, asks(noon.Add(2*reuseAnswer), ca.Node, other)), "error: ask the responder")
		}
		if n := asked.Load() - before; n != 1 {
			t.Errorf("it was asked %d times, want 1", n)
		}
		close(over)
		p.trusts[0].revocation.responder.until = time.Time{} // a while later
		respond(responder, helper, ocsp.Good, noon)
		says(t, verdict(t, p, asks(noon.Add(2*reuseAnswer), ca.Node, other)), "Bank of Corfu")
		if len(warned) != 2 || !strings.Contains(warned[0], "does not answer, and what it said before counts") || !strings.Contains(warned[1], "answers again") {
			t.Errorf("warned %q", warned)
		}
	})
	t.Run("an older answer is not taken back to", func(t *testing.T) {
		respond(responder, helper, ocsp.Revoked, noon)
		p := fresh()
		says(t, verdict(t, p, asks(noon, ca.Node, node)), "revoked")
		respond(responder, helper, ocsp.Good, noon.Add(-time.Hour))
		says(t, verdict(t, p, asks(noon.Add(2*reuseAnswer), ca.Node, node)), "revoked")
		respond(responder, helper, ocsp.Good, noon.Add(time.Minute))
		says(t, verdict(t, p, asks(noon.Add(2*reuseAnswer), ca.Node, node)), "Bank of Corfu")
	})
	t.Run("a caller that gives up", func(t *testing.T) {
		block := make(chan struct{})
		f := func(http.ResponseWriter, *ocsp.Request) { <-block }
		answer.Store(&f)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := fresh().Verify(ctx, asks(noon, ca.Node, node))
		close(block)
		if err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
			t.Errorf("Verify: %v", err)
		}
	})
}

// TestSettings names what can be wrong with settings.
func TestSettings(t *testing.T) {
	pki := catest.NewPKI(t, catest.Standard(keys.P256), noon)
	root := fmt.Sprintf("[[trust]]\nroots = %q\n", pki.Path(catest.RootFile))
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("-----BEGIN X-----\n-----END X-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ settings, says string }{
		{"", "0 sections [[trust]]"},
		{"[[trust]]\nrots = 1", "line 2: trust.rots is unknown"},
		{"[[trust]", "line 1, column"},
		{"[[trust]]\nroots = \"root.pem\"", `[[trust]] 1: roots is "root.pem", want an absolute path`},
		{root, "nothing tells which certificates were revoked"},
		{root + `revocation = "never"`, `revocation is "never"`},
		{root + "revocation = \"none\"\nocsp = \"http://x\"", "there are lists or a responder"},
		{root + `ocsp = "ftp://x"`, "want a URL"},
		{root + "ocsp = \"http://x\"\nmax_age = \"-1h\"", `max_age is "-1h"`},
		{root + `crl = ["a.crl"]`, "crl is \"a.crl\", want an absolute path"},
		{strings.Repeat(root+`crl = ["/a.crl"]`+"\n", ca.MaxLists+1), "settings: crl has 33 lists in all sections, want at most 32"},
		{root + `crl = ["/nowhere.crl"]`, "crl: stat /nowhere.crl"},
		{root + fmt.Sprintf("crl = [%q]", pki.Path(catest.RootFile)), "has 0 revocation lists"},
		{root + "revocation = \"none\"\nintermediates = \"/nowhere.pem\"", "intermediates: stat /nowhere.pem"},
		{fmt.Sprintf("[[trust]]\nroots = %q\nrevocation = \"none\"", empty), "has no certificate in PEM or DER"},
		{root + "revocation = \"none\"\ninstitution = \"a\"\ninstitutions = [\"b\"]", "both set"},
		{root + "revocation = \"none\"\ninstitutions = [\" b\"]", `" b" is no name`},
		{root + "revocation = \"none\"\n[[trust.grant]]\nroles = [\"node\"]", "[[trust.grant]] 1: want roles, and an issuer or a unit"},
		{root + "revocation = \"none\"\n[issue]\nfolder = \"ca\"", "[issue]: folder is \"ca\""},
		{root + "revocation = \"none\"\n[issue]\nfolder = \"/nowhere\"", "make an authority with `fondaco ca new`"},
	} {
		err := New(keys.Std()).Configure(t.Context(), []byte(c.settings))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s\nConfigure: %v, want it to say %q", c.settings, err, c.says)
		}
	}
}
