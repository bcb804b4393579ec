package x509ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
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

func (o *office) list(path string, number int64, issued, next time.Time, extra []pkix.Extension, serials ...int64) {
	o.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: issued, NextUpdate: next, ExtraExtensions: extra}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: issued, ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, o.root, o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := writeFile(path, encodePEM("X509 CRL", der)); err != nil {
		o.t.Fatal(err)
	}
}

// TestLists tells the life of a revocation list.
func TestLists(t *testing.T) {
	o := newOffice(t)
	node := o.holder(2, corfu(), "node")
	path := filepath.Join(t.TempDir(), "corfu.crl")
	week := noon.Add(7 * 24 * time.Hour)
	o.list(path, 1, noon.Add(-time.Hour), week, nil)
	p := configured(t, keys.Std(), o.settings(fmt.Sprintf("crl = [%q]\nmax_age = \"24h\"", path)))
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
	})
	t.Run("a list of a part of the certificates is none", func(t *testing.T) {
		o.list(path, 3, noon.Add(24*time.Hour), week, []pkix.Extension{{Id: []int{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0x03, 0x81, 0x01, 0xff}}})
		says(t, ask(noon.Add(24*time.Hour)), "stale-list: there is no revocation list of CN=Corfu CA (one does not count: "+path+": it has the critical extension 2.5.29.28")
	})
	t.Run("a list of the same name signed by another is none", func(t *testing.T) {
		newOfficeAs(t, o).list(path, 4, noon, week, nil)
		says(t, ask(noon), "stale-list: there is no revocation list of CN=Corfu CA (one does not count: ")
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
		{"revoked", func() { respond(responder, helper, ocsp.Revoked, noon) }, "revoked: the certificate of CN=node 1,O=Bank of Corfu, serial 02, was revoked on 2030-05-01 11:00:00 UTC (superseded)"},
		{"unknown", func() { respond(responder, helper, ocsp.Unknown, noon) }, "unknown-serial: the responder " + server.URL + " knows no certificate 02"},
		{"an old answer", func() { respond(responder, helper, ocsp.Good, noon.Add(-3*time.Hour)) }, "stale-list: the answer of " + server.URL + " is 3h0m0s old, and a newer one was due on 2030-05-01 11:00:00 UTC"},
		{"signed by a holder", func() { respond(impostor, impostorKey, ocsp.Good, noon) }, "error: ask the responder " + server.URL + " about the certificate of CN=node 1,O=Bank of Corfu: its answer is signed by CN=node 1,O=Bank of Corfu, whose certificate is not for OCSP"},
		{"signed by a responder that has ended", func() { respond(late, helper, ocsp.Good, noon) }, "error: ask the responder " + server.URL + " about the certificate of CN=node 1,O=Bank of Corfu: the certificate of CN=Old OCSP, which signed its answer, is valid from"},
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
		{root + `crl = ["/nowhere.crl"]`, "crl: open /nowhere.crl"},
		{root + fmt.Sprintf("crl = [%q]", pki.Path(catest.RootFile)), "has 0 revocation lists"},
		{root + "revocation = \"none\"\nintermediates = \"/nowhere.pem\"", "intermediates: open /nowhere.pem"},
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
