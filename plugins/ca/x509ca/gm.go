package x509ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emmansun/gmsm/pkcs"
	"github.com/emmansun/gmsm/pkcs8"
	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// gm is X.509 with SM2 and SM3 (GM/T 0015) alone: authorities of other algorithms do not count.
type gm struct{ keys keys.Suite }

var _ pairs = gm{}

func (g gm) suite() keys.Suite          { return g.keys }
func (gm) algorithms() []keys.Algorithm { return []keys.Algorithm{keys.SM2} }

func (g gm) parse(der []byte) (*certificate, error) {
	c, err := smx509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return g.wrap(c), identity.CheckForm(der)
}

func (g gm) wrap(c *smx509.Certificate) *certificate {
	out := &certificate{
		raw: c.Raw, rawIssuer: c.RawIssuer, rawSubject: c.RawSubject, subject: c.Subject, issuer: c.Issuer, serial: serialText(c.SerialNumber),
		notBefore: c.NotBefore, notAfter: c.NotAfter, authority: c.BasicConstraintsValid && c.IsCA, usage: x509.KeyUsage(c.KeyUsage),
		roles: rolesOf(c.URIs), spki: c.RawSubjectPublicKeyInfo, native: c,
		answers: slices.Contains(c.ExtKeyUsage, smx509.ExtKeyUsageOCSPSigning), unknownCritical: len(c.UnhandledCriticalExtensions) > 0,
	}
	if c.SignatureAlgorithm != smx509.SM2WithSM3 {
		out.weak = fmt.Errorf("it is signed with %v, and here only SM2 with SM3 counts", c.SignatureAlgorithm)
	}
	out.key, out.keyErr = g.key(c.PublicKey)
	return out
}

func (g gm) key(public any) (ledger.Key, error) {
	p, ok := public.(*ecdsa.PublicKey)
	if !ok || p.Curve != sm2.P256() {
		return ledger.Key{}, errors.New("its key is not one of SM2; make one of SM2")
	}
	point, err := sm2.PublicKeyToECDH(p)
	if err != nil {
		return ledger.Key{}, err
	}
	k := ledger.Key{Algorithm: keys.SM2, Bytes: compress(point.Bytes())}
	_, err = g.keys.ParsePublic(k.Algorithm, k.Bytes)
	return k, err
}

func (g gm) parseRequest(der []byte) (ledger.Key, error) {
	r, err := smx509.ParseCertificateRequest(der)
	if err != nil {
		return ledger.Key{}, err
	}
	if err := r.CheckSignature(); err != nil {
		return ledger.Key{}, err
	}
	return g.key(r.PublicKey)
}

func (gm) parseList(der []byte) (*list, error) {
	l, err := smx509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	out := &list{raw: l.Raw, rawIssuer: l.RawIssuer, issuer: l.Issuer, number: l.Number, issued: l.ThisUpdate, nextUpdate: l.NextUpdate, native: l}
	for _, e := range l.RevokedCertificateEntries {
		out.entries = append(out.entries, x509.RevocationListEntry{Raw: e.Raw, SerialNumber: e.SerialNumber, RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode, Extensions: e.Extensions})
	}
	if l.SignatureAlgorithm != smx509.SM2WithSM3 {
		out.flaw = fmt.Errorf("it is signed with %v, and here only SM2 with SM3 counts", l.SignatureAlgorithm)
	}
	return out, out.index(l.Extensions)
}

func (gm) checkIssued(child, parent *certificate) error {
	return child.native.(*smx509.Certificate).CheckSignatureFrom(parent.native.(*smx509.Certificate))
}

func (gm) checkList(l *list, issuer *certificate) error {
	return l.native.(*smx509.RevocationList).CheckSignatureFrom(issuer.native.(*smx509.Certificate))
}

var (
	oidSM3        = asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 401}
	oidSM2WithSM3 = asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 501}
	newSM3        = sm3.New
)

func (gm) idHash() asn1.ObjectIdentifier { return oidSM3 }

func (gm) checkSigned(algorithm asn1.ObjectIdentifier, signed, signature []byte, by *certificate) error {
	if !algorithm.Equal(oidSM2WithSM3) {
		return fmt.Errorf("it is signed with the algorithm %v, and here only SM2 with SM3 (%v) counts", algorithm, oidSM2WithSM3)
	}
	if by.keyErr != nil {
		return fmt.Errorf("the certificate of %s, which signed it, does not count: %w", by.name(), by.keyErr)
	}
	return by.native.(*smx509.Certificate).CheckSignature(smx509.SM2WithSM3, signed, signature)
}

func (g gm) verify(leaf *certificate, between, roots []*certificate, at time.Time) ([][]*certificate, error) {
	options := smx509.VerifyOptions{
		Intermediates: smx509.NewCertPool(), Roots: smx509.NewCertPool(), CurrentTime: at, KeyUsages: []smx509.ExtKeyUsage{smx509.ExtKeyUsageClientAuth},
	}
	addAll(options.Intermediates.AddCert, between)
	addAll(options.Roots.AddCert, roots)
	found, err := leaf.native.(*smx509.Certificate).Verify(options)
	return wrapAll(found, g.wrap), err
}

func (gm) explain(err error) ca.Code {
	if invalid, ok := errors.AsType[smx509.CertificateInvalidError](err); ok {
		return invalidCode(invalid.Reason == smx509.Expired, invalid.Reason == smx509.IncompatibleUsage)
	}
	return explainAs[smx509.InsecureAlgorithmError, smx509.ConstraintViolationError, smx509.UnhandledCriticalExtension](err)
}

func (gm) signer(k keys.Signer) (crypto.Signer, error) {
	if a := k.Public().Algorithm(); a != keys.SM2 {
		return nil, fmt.Errorf("%w: %s; an authority of this kind has a key of SM2", keys.ErrAlgorithm, a)
	}
	private, err := k.Private()
	if err != nil {
		return nil, err
	}
	defer clear(private)
	return sm2.ParseRawPrivateKey(private)
}

func (gm) public(k ledger.Key) (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(sm2.P256(), k.Bytes)
	if k.Algorithm != keys.SM2 || x == nil {
		return nil, keys.ErrKey
	}
	return sm2.ParseUncompressedPublicKey(uncompressed(x, y))
}

func (g gm) create(t *x509.Certificate, issuer *certificate, key ledger.Key, signer crypto.Signer) ([]byte, error) {
	public, err := g.public(key)
	if err != nil {
		return nil, err
	}
	template := &smx509.Certificate{
		SerialNumber: t.SerialNumber, Subject: t.Subject, NotBefore: t.NotBefore, NotAfter: t.NotAfter, KeyUsage: smx509.KeyUsage(t.KeyUsage),
		BasicConstraintsValid: t.BasicConstraintsValid, IsCA: t.IsCA, MaxPathLenZero: t.MaxPathLenZero, URIs: t.URIs,
	}
	for _, usage := range t.ExtKeyUsage {
		template.ExtKeyUsage = append(template.ExtKeyUsage, smx509.ExtKeyUsage(usage))
	}
	parent := template
	if issuer != nil {
		parent = issuer.native.(*smx509.Certificate)
	}
	return smx509.CreateCertificate(rand.Reader, template, parent, public, signer)
}

func (gm) createList(t *x509.RevocationList, issuer *certificate, signer crypto.Signer) ([]byte, error) {
	template := &smx509.RevocationList{Number: t.Number, ThisUpdate: t.ThisUpdate, NextUpdate: t.NextUpdate}
	for _, e := range t.RevokedCertificateEntries {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, smx509.RevocationListEntry{SerialNumber: e.SerialNumber, RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode})
	}
	return smx509.CreateRevocationList(rand.Reader, template, issuer.native.(*smx509.Certificate), signer)
}

func (gm) createRequest(subject pkix.Name, signer crypto.Signer) ([]byte, error) {
	return smx509.CreateCertificateRequest(rand.Reader, &smx509.CertificateRequest{Subject: subject}, signer)
}

// encryptionKey makes the key of a holder's second certificate. The envelope is SM2EnvelopedKey of GM/T 0009, 7.4: the key
// under SM4, and that key under the holder's first.
func (g gm) encryptionKey(key ledger.Key) (ledger.Key, []byte, error) {
	holder, err := g.public(key)
	if err != nil {
		return ledger.Key{}, nil, err
	}
	private, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		return ledger.Key{}, nil, err
	}
	enveloped, err := sm2.MarshalEnvelopedPrivateKey(rand.Reader, holder, private)
	if err != nil {
		return ledger.Key{}, nil, err
	}
	public, err := g.key(&private.PublicKey)
	return public, enveloped, err
}

// MaxPair bounds what OpenPair reads, in bytes: a chain, the certificate for encryption and the envelope, in PEM.
const MaxPair = 2 * (ca.MaxChain + 2) * ca.MaxCertificate

// OpenPair opens the key of the certificate for encryption in what an authority of suite gm issued (PEM), with the key of the one for signing. It must be that
// certificate's key.
func OpenPair(holder keys.Signer, issued []byte) (keys.Signer, error) {
	encryption, envelope := blocks(issued, EncryptionLabel), blocks(issued, EnvelopeLabel)
	if len(encryption) != 1 || len(envelope) != 1 {
		return nil, fmt.Errorf("it has %d blocks %q and %d blocks %q, want one of each, as `fondaco ca issue` and `fondaco ca fetch` of an authority of suite gm write them",
			len(encryption), EncryptionLabel, len(envelope), EnvelopeLabel)
	}
	c, err := gm{keys.GM()}.parse(encryption[0])
	if err == nil {
		err = c.keyErr
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate for encryption: %w", err)
	}
	key, err := openEnveloped(holder, envelope[0])
	if err != nil {
		return nil, err
	}
	if got := ledger.KeyOf(key.Public()); got.Algorithm != c.key.Algorithm || !bytes.Equal(got.Bytes, c.key.Bytes) {
		return nil, errors.New("the enveloped key is another than that of the certificate for encryption: have the authority issue both anew")
	}
	return key, nil
}

// PKCS8 returns a key of suite gm in PEM as other software reads it: PKCS #8 (RFC 5958), and with a passphrase encrypted by PBES2 (RFC 8018: PBKDF2 with
// HMAC-SHA-256 and 600,000 rounds, AES-256 in CBC mode).
func PKCS8(key keys.Signer, passphrase string) ([]byte, error) {
	private, err := gm{keys.GM()}.signer(key)
	if err != nil {
		return nil, err
	}
	label, password := "PRIVATE KEY", []byte(nil)
	if passphrase != "" {
		label, password = "ENCRYPTED PRIVATE KEY", []byte(passphrase)
		defer clear(password)
	}
	der, err := pkcs8.MarshalPrivateKey(private, password, &pkcs8.Opts{Cipher: pkcs.AES256CBC, KDFOpts: pkcs.NewPBKDF2Opts(pkcs.SHA256, 16, 600_000)})
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), nil
}

// openEnveloped opens the key of a certificate for encryption (ca.Encryption) with the key of the one for signing.
func openEnveloped(holder keys.Signer, enveloped []byte) (keys.Signer, error) {
	signer, err := gm{keys.GM()}.signer(holder)
	if err != nil {
		return nil, err
	}
	opened, err := sm2.ParseEnvelopedPrivateKey(signer.(*sm2.PrivateKey), enveloped)
	if err != nil {
		return nil, fmt.Errorf("the enveloped key does not open with this key: %w", err)
	}
	scalar := opened.D.FillBytes(make([]byte, 32))
	defer clear(scalar)
	return keys.GM().ParsePrivate(keys.SM2, scalar)
}
