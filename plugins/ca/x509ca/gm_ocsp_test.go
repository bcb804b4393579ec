package x509ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/keys"
)

// What follows is RFC 6960 §4 as encoding/asn1 has it: the responder of the tests shares no code with the reader.

type wireID struct {
	Hash              pkix.AlgorithmIdentifier
	NameHash, KeyHash []byte
	Serial            *big.Int
}

type wireQuestion struct {
	Signed struct{ List []struct{ ID wireID } }
}

type wireRevoked struct {
	At     time.Time       `asn1:"generalized"`
	Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
}

type wireSingle struct {
	ID         wireID
	Good       asn1.Flag        `asn1:"tag:0,optional"`
	Revoked    wireRevoked      `asn1:"tag:1,optional"`
	Unknown    asn1.Flag        `asn1:"tag:2,optional"`
	Issued     time.Time        `asn1:"generalized"`
	Next       time.Time        `asn1:"generalized,explicit,tag:0,optional"`
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

type wireData struct {
	Version    int `asn1:"explicit,tag:0,default:0,optional"`
	Responder  asn1.RawValue
	Produced   time.Time `asn1:"generalized"`
	Singles    []wireSingle
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

type wireBasic struct {
	Data         asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type wireAnswer struct {
	Status   asn1.Enumerated
	Response struct {
		Type  asn1.ObjectIdentifier
		Bytes []byte
	} `asn1:"explicit,tag:0"`
}

// reply is an answer before it is signed. The hooks are for what a responder should not do.
type reply struct {
	data         wireData
	key          crypto.Signer
	certificates [][]byte
	basic        func(*wireBasic)
	outer        func(*wireAnswer)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (r *reply) sign(t testing.TB) []byte {
	t.Helper()
	var b wireBasic
	data := marshal(t, r.data)
	b.Data = asn1.RawValue{FullBytes: data}
	var signature []byte
	var err error
	if _, ok := r.key.(*sm2.PrivateKey); ok {
		b.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 501}
		signature, err = r.key.Sign(rand.Reader, data, sm2.NewSM2SignerOption(true, nil))
	} else {
		b.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
		digest := sha256.Sum256(data)
		signature, err = r.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	for _, c := range r.certificates {
		b.Certificates = append(b.Certificates, asn1.RawValue{FullBytes: c})
	}
	if r.basic != nil {
		r.basic(&b)
	}
	var a wireAnswer
	a.Response.Type, a.Response.Bytes = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, marshal(t, b)
	if r.outer != nil {
		r.outer(&a)
	}
	return marshal(t, a)
}

// named is how an issuer's certificate is named in an answer.
func named(t testing.TB, issuer *certificate, serial int64, hash asn1.ObjectIdentifier) wireID {
	t.Helper()
	id, err := idOf(&certificate{serial: serialText(big.NewInt(serial))}, issuer, hash)
	if err != nil {
		t.Fatal(err)
	}
	return wireID{pkix.AlgorithmIdentifier{Algorithm: hash, Parameters: asn1.NullRawValue}, id.nameHash, id.keyHash, big.NewInt(serial)}
}

// keyHashed is a responder that is named by the hash of its key.
func keyHashed(t testing.TB) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: marshal(t, make([]byte, 20))}
}

// gmOffice is an authority of SM2 and a holder of it.
type gmOffice struct {
	t    testing.TB
	m    catest.Maker
	key  crypto.Signer
	root *certificate
	leaf *certificate // serial 2
}

func newGMOffice(t testing.TB, key crypto.Signer) *gmOffice {
	t.Helper()
	o := &gmOffice{t: t, m: gmMaker(), key: key}
	o.root = o.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corfu CA"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, key)
	o.leaf = o.sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: corfu(), URIs: []*url.URL{{Scheme: "fondaco", Opaque: "role:node"}}}, o.newKey())
	return o
}

func (o *gmOffice) newKey() crypto.Signer {
	o.t.Helper()
	key, err := o.m.Key()
	if err != nil {
		o.t.Fatal(err)
	}
	return key
}

func (o *gmOffice) sign(c *x509.Certificate, key crypto.Signer) *certificate {
	o.t.Helper()
	template := &smx509.Certificate{
		SerialNumber: c.SerialNumber, Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, IsCA: c.IsCA, BasicConstraintsValid: true,
		KeyUsage: smx509.KeyUsage(c.KeyUsage), URIs: c.URIs, ExtraExtensions: c.ExtraExtensions,
	}
	for _, usage := range c.ExtKeyUsage {
		template.ExtKeyUsage = append(template.ExtKeyUsage, smx509.ExtKeyUsage(usage))
	}
	if c.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = noon.Add(-time.Hour), noon.Add(1000*time.Hour)
	}
	parent := template
	if o.root != nil {
		parent = o.root.native.(*smx509.Certificate)
	}
	der, err := smx509.CreateCertificate(rand.Reader, template, parent, key.Public(), o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	made, err := gm{keys.GM()}.parse(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return made
}

// good is the answer of the authority itself that the holder's certificate is good.
func (o *gmOffice) good() *reply {
	return &reply{key: o.key, data: wireData{Responder: keyHashed(o.t), Produced: noon, Singles: []wireSingle{{
		ID: named(o.t, o.root, 2, oidSM3), Good: true, Issued: noon, Next: noon.Add(2 * time.Hour),
	}}}}
}

// TestGMResponder asks a responder that signs with SM2.
func TestGMResponder(t *testing.T) {
	o := newGMOffice(t, gmKey(t))
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	helper := o.newKey()
	delegate := func(name string, c x509.Certificate) *certificate {
		c.SerialNumber, c.Subject = big.NewInt(90), pkix.Name{CommonName: name}
		return o.sign(&c, helper)
	}
	responder := delegate("OCSP", x509.Certificate{ExtKeyUsage: usage, KeyUsage: x509.KeyUsageDigitalSignature})
	other := newGMOffice(t, o.newKey())
	p256, err := o.m.Foreign()
	if err != nil {
		t.Fatal(err)
	}

	var answer atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var q wireQuestion
		rest, err := asn1.Unmarshal(data, &q)
		want := named(t, o.root, 2, oidSM3)
		if err != nil || len(rest) > 0 || len(q.Signed.List) != 1 {
			t.Errorf("the question: %+v, %v", q, err)
		} else if got := q.Signed.List[0].ID; !bytes.Equal(marshal(t, got), marshal(t, want)) {
			t.Errorf("the question is about %+v, want %+v", got, want)
		}
		_, _ = w.Write(*answer.Load())
	}))
	defer server.Close()
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, encodePEM("CERTIFICATE", o.root.raw), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf("[[trust]]\nroots = %q\nocsp = %q\nmax_age = \"24h\"\n", root, server.URL)
	ask := "error: ask the responder " + server.URL + " about the certificate of CN=node 1,O=Bank of Corfu: "
	first := func(f func(*wireSingle)) func(*reply) { return func(r *reply) { f(&r.data.Singles[0]) } }
	by := func(key crypto.Signer, certificates ...*certificate) func(*reply) {
		return func(r *reply) {
			r.key = key
			for _, c := range certificates {
				r.certificates = append(r.certificates, c.raw)
			}
		}
	}
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	for _, c := range []struct {
		name   string
		change func(*reply)
		want   string
	}{
		{"good", func(*reply) {}, "Bank of Corfu/ [node]"},
		{"revoked", first(func(s *wireSingle) {
			s.Good, s.Revoked = false, wireRevoked{noon.Add(-time.Hour), 4}
		}), "revoked: the certificate of CN=node 1,O=Bank of Corfu, serial 02, was revoked on 2030-05-01 11:00:00 UTC (superseded)"},
		{"revoked without a reason", first(func(s *wireSingle) { s.Good, s.Revoked = false, wireRevoked{At: noon} }), "revoked on 2030-05-01 12:00:00 UTC (unspecified)"},
		{"unknown", first(func(s *wireSingle) { s.Good, s.Unknown = false, true }), "unknown-serial: the responder " + server.URL + " knows no certificate 02"},
		{"stale", first(func(s *wireSingle) {
			s.Issued, s.Next = noon.Add(-3*time.Hour), noon.Add(-time.Hour)
		}), "stale-list: the answer of " + server.URL + " is 3h0m0s old, and a newer one was due on 2030-05-01 11:00:00 UTC"},
		{"older than max_age", first(func(s *wireSingle) { s.Issued, s.Next = noon.Add(-25*time.Hour), time.Time{} }), "is 25h0m0s old, and max_age allows 24h0m0s"},
		{"from the future", first(func(s *wireSingle) { s.Issued = noon.Add(maxSkew + time.Second) }), ask + "its answer is of 2030-05-01 12:05:01 UTC, and it is"},
		{"by ids of SHA-1", first(func(s *wireSingle) { s.ID = named(t, o.root, 2, oidSHA1) }), "Bank of Corfu/ [node]"},
		{"by ids of SHA-256", first(func(s *wireSingle) { s.ID = named(t, o.root, 2, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}) }), "Bank of Corfu/ [node]"},
		{"by ids of MD5", first(func(s *wireSingle) { s.ID.Hash.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5} }), ask + "its answer: it names certificates by the hash 1.2.840.113549.2.5, which is not known here"},
		{"about another authority's certificate", first(func(s *wireSingle) { s.ID = named(t, other.root, 2, oidSM3) }), ask + "its answer: it is about a certificate 02 of another authority than CN=Corfu CA"},
		{"replayed from another certificate", first(func(s *wireSingle) { s.ID = named(t, o.root, 3, oidSM3) }), ask + "its answer: it is not about the certificate 02"},
		{"about others too", func(r *reply) {
			r.data.Singles = append([]wireSingle{{ID: named(t, o.root, 3, oidSM3), Revoked: wireRevoked{At: noon}, Issued: noon}}, r.data.Singles...)
		}, "Bank of Corfu/ [node]"},
		{"both good and revoked", func(r *reply) {
			r.data.Singles = append(r.data.Singles, wireSingle{ID: named(t, o.root, 2, oidSHA1), Revoked: wireRevoked{At: noon}, Issued: noon})
		}, ask + "its answer: it is about the certificate 02 twice"},
		{"about nothing", func(r *reply) { r.data.Singles = nil }, ask + "its answer: it is not about the certificate 02"},
		{"signed by another authority of the name", by(other.key), ask + "its answer: x509: SM2 verification failure"},
		{"signed by a delegate", by(helper, responder), "Bank of Corfu/ [node]"},
		{"signed by the authority, whose certificate comes along", by(o.key, o.root), "Bank of Corfu/ [node]"},
		{"a delegate's certificate, and another's signature", by(other.key, responder), ask + "its answer: x509: SM2 verification failure"},
		{"a delegate of another authority of the name", by(other.key, other.sign(&x509.Certificate{SerialNumber: big.NewInt(90), Subject: pkix.Name{CommonName: "OCSP"}, ExtKeyUsage: usage}, other.key)), ask + "its answer: it is signed by CN=OCSP, whose certificate CN=Corfu CA did not sign: "},
		{"a delegate whose certificate is not for OCSP", by(helper, delegate("Clerk", x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})), ask + "its answer: it is signed by CN=Clerk, whose certificate is not for OCSP"},
		{"a delegate whose certificate is for anything", by(helper, delegate("Clerk", x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})), ask + "its answer: it is signed by CN=Clerk, whose certificate is not for OCSP"},
		{"a delegate whose key does not sign", by(helper, delegate("Sealer", x509.Certificate{ExtKeyUsage: usage, KeyUsage: x509.KeyUsageKeyEncipherment})), ask + "its answer: it is signed by CN=Sealer, whose certificate is not for signatures"},
		{"a delegate with a critical extension", by(helper, delegate("Odd", x509.Certificate{ExtKeyUsage: usage, ExtraExtensions: critical})), ask + "its answer: it is signed by CN=Odd, whose certificate is not for signatures, or has a critical extension"},
		{"a delegate that has ended", by(helper, delegate("Old", x509.Certificate{ExtKeyUsage: usage, NotBefore: noon.Add(-2 * time.Hour), NotAfter: noon.Add(-time.Hour)})), ask + "its answer: the certificate of CN=Old, which signed it, is valid from"},
		{"a delegate with a key of P-256", by(p256, o.sign(&x509.Certificate{SerialNumber: big.NewInt(90), Subject: pkix.Name{CommonName: "Foreign"}, ExtKeyUsage: usage}, p256)), ask + "its answer: it is signed with the algorithm 1.2.840.10045.4.3.2, and here only SM2 with SM3 (1.2.156.10197.1.501) counts"},
		{"a delegate with a key of P-256 that says SM2", func(r *reply) {
			by(p256, o.sign(&x509.Certificate{SerialNumber: big.NewInt(90), Subject: pkix.Name{CommonName: "Foreign"}, ExtKeyUsage: usage}, p256))(r)
			r.basic = func(b *wireBasic) { b.Algorithm.Algorithm = oidSM2WithSM3 }
		}, ask + "its answer: the certificate of CN=Foreign, which signed it, does not count: its key is not one of SM2"},
		{"a certificate that is none", func(r *reply) { r.certificates = [][]byte{{0x30, 0}} }, ask + "its answer: the certificate in it: "},
		{"a delegate's certificate with unused bits", func(r *reply) {
			der := slices.Clone(responder.raw)
			der[len(der)-len(responder.native.(*smx509.Certificate).Signature)-1] = 1
			by(helper)(r)
			r.certificates = [][]byte{der}
		}, ask + "its answer: the certificate in it: "},
		{"changed after it was signed", func(r *reply) {
			r.basic = func(b *wireBasic) {
				b.Data.FullBytes = bytes.Replace(b.Data.FullBytes, []byte("20300501140000Z"), []byte("20300501150000Z"), 1)
			}
		}, ask + "its answer: x509: SM2 verification failure"},
		{"unused bits in the signature", func(r *reply) { r.basic = func(b *wireBasic) { b.Signature.BitLength-- } }, ask + "its answer: it has no signature that reads"},
		{"parameters of the algorithm", func(r *reply) {
			r.basic = func(b *wireBasic) { b.Algorithm.Parameters = asn1.RawValue{FullBytes: []byte{2, 1, 1}} }
		}, ask + "its answer: it has no signature that reads"},
		{"bytes after the inner part", func(r *reply) { r.outer = func(a *wireAnswer) { a.Response.Bytes = append(a.Response.Bytes, 0) } }, ask + "its answer: it is not the DER of a BasicOCSPResponse"},
		{"of another type", func(r *reply) { r.outer = func(a *wireAnswer) { a.Response.Type = oidSHA1 } }, ask + "its answer: it is of the type 1.3.14.3.2.26, and only id-pkix-ocsp-basic"},
		{"an answer that says it is none", func(r *reply) { r.outer = func(a *wireAnswer) { a.Status = 3 } }, ask + "its answer: the responder says: try later"},
		{"of another version", func(r *reply) { r.data.Version = 1 }, ask + "its answer: it is of version 1"},
		{"with an extension", func(r *reply) {
			r.data.Extensions = []pkix.Extension{{Id: critical[0].Id, Value: []byte{5, 0}}}
		}, "Bank of Corfu/ [node]"},
		{"with a critical extension", func(r *reply) { r.data.Extensions = critical }, ask + "its answer: it has the critical extension 1.2.3"},
		{"with a critical extension for the certificate", first(func(s *wireSingle) { s.Extensions = critical }), ask + "its answer: it has the critical extension 1.2.3"},
		{"in local time", first(func(s *wireSingle) { s.Issued = noon.In(time.FixedZone("", 8*3600)) }), ask + "its answer: what it says of a certificate does not read"},
		{"without a status", first(func(s *wireSingle) { s.Good = false }), ask + "its answer: it has no status of a certificate that reads"},
		{"with a negative number", first(func(s *wireSingle) { s.ID.Serial = big.NewInt(-2) }), ask + "its answer: its name of a certificate does not read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := o.good()
			c.change(r)
			der := r.sign(t)
			answer.Store(&der)
			request := ca.VerifyRequest{Purpose: ca.Node, At: noon.UnixMilli(), Chain: [][]byte{o.leaf.raw}}
			says(t, verdict(t, configured(t, keys.GM(), settings), request), c.want)
		})
	}
	der := o.good().sign(t)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"garbage", []byte("<html>"), "its answer: it is not the DER of an OCSPResponse"},
		{"nothing", nil, "its answer: it is not the DER of an OCSPResponse"},
		{"half of it", der[:len(der)/2], "its answer: it is not the DER of an OCSPResponse"},
		{"bytes behind", append(slices.Clone(der), 0), "its answer: it is not the DER of an OCSPResponse"},
		{"a longer form of a length", append([]byte{0x30, 0x83, 0, der[2], der[3]}, der[4:]...), "its answer: it is not the DER of an OCSPResponse"},
		{"a refusal", []byte{0x30, 3, 0x0a, 1, 6}, "its answer: the responder says: unauthorized"},
		{"a success without anything", []byte{0x30, 3, 0x0a, 1, 0}, "its answer: the responder says: status 0 and no answer"},
		{"a gigabyte", make([]byte, 1<<20), "its answer has more than 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer.Store(&c.data)
			request := ca.VerifyRequest{Purpose: ca.Node, At: noon.UnixMilli(), Chain: [][]byte{o.leaf.raw}}
			says(t, verdict(t, configured(t, keys.GM(), settings), request), ask+c.want)
		})
	}
}

// gmKey is the same key each time.
func gmKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := sm2.ParseRawPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// FuzzAnswer has a reader of strangers' bytes count nothing but what the authority signed.
func FuzzAnswer(f *testing.F) {
	o := newGMOffice(f, gmKey(f))
	good, revoked := o.good(), o.good()
	revoked.data.Singles[0].Good, revoked.data.Singles[0].Revoked = false, wireRevoked{noon, 1}
	revoked.data.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}
	var signed [][]byte
	for _, r := range []*reply{good, revoked} {
		for _, certificates := range [][][]byte{nil, {o.root.raw}, {o.leaf.raw, o.root.raw}} {
			r.certificates = certificates
			f.Add(r.sign(f))
		}
		signed = append(signed, marshal(f, r.data))
	}
	f.Add([]byte{0x30, 3, 0x0a, 1, 6})
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := readAnswer(gm{keys.GM()}, data, o.leaf, o.root, noon)
		if err != nil {
			return
		}
		a, err := parseAnswer(data)
		if err != nil {
			t.Fatalf("it counts, and does not read: %v", err)
		}
		if i := slices.IndexFunc(signed, func(s []byte) bool { return bytes.Equal(s, a.signed) }); i < 0 || int(found.code) != i {
			t.Errorf("status %d of %x, which the authority did not sign", found.code, a.signed)
		}
	})
}

// answering has a PKI made whose authorities answer through a responder what their lists say.
func answering(t *testing.T, lib library, m catest.Maker) (*catest.PKI, string) {
	type authority struct {
		der     []byte
		key     crypto.Signer
		issued  []*big.Int
		revoked []*big.Int
	}
	var all []*authority
	of := func(der []byte, key crypto.Signer) *authority {
		for _, a := range all {
			if bytes.Equal(a.der, der) {
				return a
			}
		}
		all = append(all, &authority{der: der, key: key})
		return all[len(all)-1]
	}
	certificateOf, listOf := m.Certificate, m.List
	m.Certificate = func(c *x509.Certificate, issuer []byte, public crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
		if issuer != nil {
			a := of(issuer, signer)
			a.issued = append(a.issued, c.SerialNumber)
		}
		return certificateOf(c, issuer, public, signer)
	}
	m.List = func(l *x509.RevocationList, issuer []byte, signer crypto.Signer) ([]byte, error) {
		a := of(issuer, signer)
		for _, e := range l.RevokedCertificateEntries {
			a.revoked = append(a.revoked, e.SerialNumber)
		}
		return listOf(l, issuer, signer)
	}
	p := catest.NewPKI(t, m, noon)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var q wireQuestion
		if _, err := asn1.Unmarshal(data, &q); err != nil || len(q.Signed.List) != 1 {
			t.Errorf("the question: %+v, %v", q, err)
			return
		}
		id := q.Signed.List[0].ID
		for _, a := range all {
			issuer, err := lib.parse(a.der)
			if err != nil {
				continue // one that does not count has nothing to say
			}
			want, err := idOf(&certificate{serial: serialText(id.Serial)}, issuer, id.Hash.Algorithm)
			if err != nil || !bytes.Equal(id.NameHash, want.nameHash) || !bytes.Equal(id.KeyHash, want.keyHash) {
				continue
			}
			is := func(n *big.Int) bool { return n.Cmp(id.Serial) == 0 }
			s := wireSingle{ID: id, Issued: noon.Add(-time.Hour), Next: noon.Add(7 * 24 * time.Hour)}
			switch {
			case slices.ContainsFunc(a.revoked, is):
				s.Revoked = wireRevoked{noon.Add(-2 * time.Hour), 1}
			case slices.ContainsFunc(a.issued, is):
				s.Good = true
			default:
				s.Unknown = true
			}
			answer := reply{key: a.key, data: wireData{Responder: keyHashed(t), Produced: noon, Singles: []wireSingle{s}}}
			_, _ = w.Write(answer.sign(t))
			return
		}
		_, _ = w.Write([]byte{0x30, 3, 0x0a, 1, 6})
	}))
	t.Cleanup(server.Close)
	return p, fmt.Sprintf("[[trust]]\nroots = %q\nocsp = %q\n", p.Path(catest.RootFile), server.URL)
}

// TestConformanceByResponder runs the suite on a PKI that has a responder and no lists.
func TestConformanceByResponder(t *testing.T) {
	for suite, m := range map[keys.Suite]catest.Maker{keys.Std(): catest.Standard(keys.P256), keys.GM(): gmMaker()} {
		t.Run(suite.Name(), func(t *testing.T) {
			p, settings := answering(t, libraryOf(suite), m)
			catest.Run(t, configured(t, suite, settings), p.Fixtures())
		})
	}
}

// TestOpenSSLResponder has OpenSSL answer what this package asks, of which it shares no code.
func TestOpenSSLResponder(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skipf("%v: apt-get install openssl", err)
	}
	dir, lib := t.TempDir(), gm{keys.GM()}
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		c := exec.CommandContext(t.Context(), "openssl", args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	const distid = "distid:1234567812345678"
	subjects := map[string]string{"root": "/CN=Corfu CA", "ocsp": "/CN=OCSP", "leaf": "/O=Bank of Corfu/CN=node 1"}
	write("ocsp.ext", []byte("extendedKeyUsage = OCSPSigning\nkeyUsage = digitalSignature\n"))
	write("leaf.ext", []byte("keyUsage = digitalSignature\n"))
	parsed := make(map[string]*certificate)
	for i, name := range []string{"root", "ocsp", "leaf"} {
		run("ecparam", "-genkey", "-name", "SM2", "-noout", "-out", name+".key")
		if name == "root" {
			run("req", "-new", "-x509", "-key", "root.key", "-sm3", "-sigopt", distid, "-subj", subjects[name], "-days", "2", "-outform", "DER", "-out", "root.der")
			run("x509", "-inform", "DER", "-in", "root.der", "-out", "root.pem")
		} else {
			run("req", "-new", "-key", name+".key", "-sm3", "-sigopt", distid, "-subj", subjects[name], "-out", name+".csr")
			run("x509", "-req", "-in", name+".csr", "-vfyopt", distid, "-CA", "root.pem", "-CAkey", "root.key", "-set_serial", fmt.Sprint(i), "-sm3", "-sigopt", distid, "-extfile", name+".ext", "-days", "1", "-out", name+".pem")
			run("x509", "-in", name+".pem", "-outform", "DER", "-out", name+".der")
		}
		der, err := os.ReadFile(filepath.Join(dir, name+".der"))
		if err != nil {
			t.Fatal(err)
		}
		if parsed[name], err = lib.parse(der); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	root, leaf := parsed["root"], parsed["leaf"]
	id, err := idOf(leaf, root, lib.idHash())
	if err != nil {
		t.Fatal(err)
	}
	question, err := marshalQuestion(id)
	if err != nil {
		t.Fatal(err)
	}
	write("question.der", question)
	for _, c := range []struct {
		name, signer, index string
		code                uint8
	}{
		{"good", "root", "V\t400101000000Z\t\t02\tunknown\t/CN=node 1\n", statusGood},
		{"good by a delegate", "ocsp", "V\t400101000000Z\t\t02\tunknown\t/CN=node 1\n", statusGood},
		{"revoked by a delegate", "ocsp", "R\t400101000000Z\t200101000000Z,superseded\t02\tunknown\t/CN=node 1\n", statusRevoked},
		{"unknown", "ocsp", "V\t400101000000Z\t\t03\tunknown\t/CN=node 2\n", statusUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			write("index.txt", []byte(c.index))
			run("ocsp", "-index", "index.txt", "-CA", "root.pem", "-rsigner", c.signer+".pem", "-rkey", c.signer+".key", "-rmd", "sm3", "-rsigopt", distid, "-reqin", "question.der", "-respout", "answer.der", "-ndays", "1")
			data, err := os.ReadFile(filepath.Join(dir, "answer.der"))
			if err != nil {
				t.Fatal(err)
			}
			found, err := readAnswer(lib, data, leaf, root, leaf.notBefore)
			if err != nil || found.code != c.code {
				t.Fatalf("readAnswer = %+v, %v; want status %d", found, err, c.code)
			}
			if want := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC); c.code == statusRevoked && (!found.revoked.Equal(want) || found.reason != ca.Superseded) {
				t.Errorf("revoked on %v (%v)", found.revoked, found.reason)
			}
		})
	}
}
