package x509ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// std is X.509 by the standard library, for holders with keys of suite std. Authorities may have RSA keys.
type std struct{ keys keys.Suite }

func (s std) suite() keys.Suite          { return s.keys }
func (std) algorithms() []keys.Algorithm { return []keys.Algorithm{keys.Ed25519, keys.P256} }

// Bounds of RSA keys in bits. Smaller ones do not count (NIST SP 800-131A), and larger ones cost a verifier too much.
const (
	minRSA = 2048
	maxRSA = 8192
)

// strong reports whether signatures by the algorithm count: MD5 and SHA-1 are broken.
func strong(a x509.SignatureAlgorithm) bool {
	return slices.Contains([]x509.SignatureAlgorithm{
		x509.PureEd25519, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.SHA256WithRSA, x509.SHA384WithRSA,
		x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	}, a)
}

// weakKey says why what a key signs counts for nothing, or returns nil.
func weakKey(public any) error {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	switch bits := key.N.BitLen(); {
	case bits < minRSA || bits > maxRSA:
		return fmt.Errorf("its RSA key has %d bits; make one of %d to %d", bits, minRSA, maxRSA)
	case key.E <= 1<<16 || key.E%2 == 0: // FIPS 186-5, 5.1
		return fmt.Errorf("its RSA key has the exponent %d; make one with 65537", key.E)
	}
	return nil
}

func (s std) parse(der []byte) (*certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return s.wrap(c), identity.CheckForm(der)
}

func (s std) wrap(c *x509.Certificate) *certificate {
	out := &certificate{
		raw: c.Raw, rawIssuer: c.RawIssuer, rawSubject: c.RawSubject, subject: c.Subject, issuer: c.Issuer, serial: serialText(c.SerialNumber),
		notBefore: c.NotBefore, notAfter: c.NotAfter, authority: c.BasicConstraintsValid && c.IsCA, usage: c.KeyUsage,
		roles: rolesOf(c.URIs), hosts: slices.Clone(c.DNSNames), spki: c.RawSubjectPublicKeyInfo, native: c,
		answers: slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning), unknownCritical: len(c.UnhandledCriticalExtensions) > 0,
	}
	for _, ip := range c.IPAddresses {
		out.hosts = append(out.hosts, ip.String())
	}
	if !strong(c.SignatureAlgorithm) {
		out.weak = fmt.Errorf("it is signed with %v; issue it anew with SHA-256 or better", c.SignatureAlgorithm)
	}
	out.weakKey = weakKey(c.PublicKey)
	out.key, out.keyErr = s.key(c.PublicKey)
	return out
}

// key returns the canonical form of a key.
func (s std) key(public any) (ledger.Key, error) {
	var k ledger.Key
	switch p := public.(type) {
	case ed25519.PublicKey:
		k = ledger.Key{Algorithm: keys.Ed25519, Bytes: p}
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return k, fmt.Errorf("its key is of the curve %s; make one of Ed25519 or P-256", p.Curve.Params().Name)
		}
		raw, err := p.Bytes()
		if err != nil {
			return k, err
		}
		k = ledger.Key{Algorithm: keys.P256, Bytes: compress(raw)}
	case *rsa.PublicKey:
		return k, errors.New("its key is RSA; make one of Ed25519 or P-256")
	default:
		return k, fmt.Errorf("its key is a %T; make one of Ed25519 or P-256", public)
	}
	_, err := s.keys.ParsePublic(k.Algorithm, k.Bytes)
	return k, err
}

func (s std) parseRequest(der []byte) (ledger.Key, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return ledger.Key{}, err
	}
	if !strong(r.SignatureAlgorithm) {
		return ledger.Key{}, fmt.Errorf("it is signed with %v; make it anew with SHA-256 or better", r.SignatureAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return ledger.Key{}, err
	}
	return s.key(r.PublicKey)
}

func (std) parseList(der []byte) (*list, error) {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	out := &list{
		raw: l.Raw, rawIssuer: l.RawIssuer, issuer: l.Issuer, number: l.Number, issued: l.ThisUpdate, nextUpdate: l.NextUpdate,
		entries: l.RevokedCertificateEntries, native: l,
	}
	if !strong(l.SignatureAlgorithm) {
		out.flaw = fmt.Errorf("it is signed with %v; issue it anew with SHA-256 or better", l.SignatureAlgorithm)
	}
	return out, out.index(l.Extensions)
}

func (std) checkIssued(child, parent *certificate) error {
	return child.native.(*x509.Certificate).CheckSignatureFrom(parent.native.(*x509.Certificate))
}

func (std) checkList(l *list, issuer *certificate) error {
	return l.native.(*x509.RevocationList).CheckSignatureFrom(issuer.native.(*x509.Certificate))
}

// signatureAlgorithms are those of OCSP answers, by their identifiers; that some do not count, strong tells.
var signatureAlgorithms = map[string]x509.SignatureAlgorithm{
	"1.2.840.10045.4.3.2": x509.ECDSAWithSHA256, "1.2.840.10045.4.3.3": x509.ECDSAWithSHA384, "1.2.840.10045.4.3.4": x509.ECDSAWithSHA512,
	"1.2.840.113549.1.1.11": x509.SHA256WithRSA, "1.2.840.113549.1.1.12": x509.SHA384WithRSA, "1.2.840.113549.1.1.13": x509.SHA512WithRSA,
	"1.2.840.10045.4.1": x509.ECDSAWithSHA1, "1.2.840.113549.1.1.5": x509.SHA1WithRSA, "1.2.840.113549.1.1.4": x509.MD5WithRSA,
}

func (std) idHash() asn1.ObjectIdentifier { return oidSHA1 }

func (std) checkSigned(algorithm asn1.ObjectIdentifier, signed, signature []byte, by *certificate) error {
	a, ok := signatureAlgorithms[algorithm.String()]
	if !ok {
		return fmt.Errorf("it is signed with the algorithm %v, and only RSA (PKCS #1 v1.5) and ECDSA with SHA-256 or better count", algorithm)
	}
	if !strong(a) {
		return fmt.Errorf("it is signed with %v, and only SHA-256 or better counts", a)
	}
	return by.native.(*x509.Certificate).CheckSignature(a, signed, signature)
}

func (s std) verify(leaf *certificate, between, roots []*certificate, at time.Time) ([][]*certificate, error) {
	options := x509.VerifyOptions{
		Intermediates: x509.NewCertPool(), Roots: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	addAll(options.Intermediates.AddCert, between)
	addAll(options.Roots.AddCert, roots)
	found, err := leaf.native.(*x509.Certificate).Verify(options)
	return wrapAll(found, s.wrap), err
}

func (std) explain(err error) ca.Code {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return invalidCode(invalid.Reason == x509.Expired, invalid.Reason == x509.IncompatibleUsage)
	}
	return explainAs[x509.InsecureAlgorithmError, x509.ConstraintViolationError, x509.UnhandledCriticalExtension](err)
}

func (std) signer(k keys.Signer) (crypto.Signer, error) {
	private, err := k.Private()
	if err != nil {
		return nil, err
	}
	defer clear(private)
	switch a := k.Public().Algorithm(); a {
	case keys.Ed25519:
		return ed25519.NewKeyFromSeed(private), nil
	case keys.P256:
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), private)
	default:
		return nil, fmt.Errorf("%w: %s; an authority of this kind has a key of Ed25519 or P-256", keys.ErrAlgorithm, a)
	}
}

// public reverses key.
func (std) public(k ledger.Key) (crypto.PublicKey, error) {
	switch k.Algorithm {
	case keys.Ed25519:
		return ed25519.PublicKey(k.Bytes), nil
	case keys.P256:
		x, y := elliptic.UnmarshalCompressed(elliptic.P256(), k.Bytes)
		if x == nil {
			return nil, keys.ErrKey
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed(x, y))
	default:
		return nil, fmt.Errorf("%w: %s", keys.ErrAlgorithm, k.Algorithm)
	}
}

// distant is a key that is elsewhere.
type distant struct {
	public crypto.PublicKey
	sign   func([]byte) ([]byte, error)
}

func (d distant) Public() crypto.PublicKey { return d.public }

func (d distant) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	signature, err := d.sign(message)
	if _, ok := d.public.(*ecdsa.PublicKey); !ok || err != nil {
		return signature, err
	}
	half := len(signature) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])}) // RFC 3279 §2.2.3
}

func (s std) create(t *x509.Certificate, issuer *certificate, key ledger.Key, signer crypto.Signer) ([]byte, error) {
	public, err := s.public(key)
	if err != nil {
		return nil, err
	}
	parent := t
	if issuer != nil {
		parent = issuer.native.(*x509.Certificate)
	}
	return x509.CreateCertificate(rand.Reader, t, parent, public, signer)
}

func (std) createList(t *x509.RevocationList, issuer *certificate, signer crypto.Signer) ([]byte, error) {
	return x509.CreateRevocationList(rand.Reader, t, issuer.native.(*x509.Certificate), signer)
}

func (std) createRequest(subject pkix.Name, signer crypto.Signer) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, signer)
}

// compress and uncompressed go between the two forms of a point of 256 bits (SEC 1 §2.3.3).
func compress(raw []byte) []byte {
	out := slices.Clone(raw[:33])
	out[0] = 2 + raw[len(raw)-1]&1
	return out
}

func uncompressed(x, y *big.Int) []byte {
	raw := make([]byte, 65)
	raw[0] = 4
	x.FillBytes(raw[1:33])
	y.FillBytes(raw[33:])
	return raw
}

// newSerial returns a number of 128 random bits that is not zero.
func newSerial() (*big.Int, error) {
	for {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil || n.Sign() > 0 {
			return n, err
		}
	}
}
