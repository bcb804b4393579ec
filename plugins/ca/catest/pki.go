package catest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// Maker makes what a PKI is made of. [Standard] makes it with the standard library.
type Maker struct {
	Key     func() (crypto.Signer, error) // of an algorithm in the provider's manifest
	Foreign func() (crypto.Signer, error) // of one that is not
	// Weak returns the key of an authority and the algorithm by which it signs what must not count.
	Weak func() (crypto.Signer, x509.SignatureAlgorithm, error)
	// Small returns the key of an authority that is too small; nil: the provider's algorithms have but one size.
	Small func() (crypto.Signer, error)
	// Certificate issues a certificate. The issuer is in DER, nil for a certificate that signs itself.
	Certificate func(template *x509.Certificate, issuer []byte, public crypto.PublicKey, signer crypto.Signer) ([]byte, error)
	List        func(template *x509.RevocationList, issuer []byte, signer crypto.Signer) ([]byte, error)
}

// Standard returns a Maker of keys of Ed25519 or P-256.
func Standard(a keys.Algorithm) Maker {
	p256 := func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
	m := Maker{
		Key:     p256,
		Foreign: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		Weak: func() (crypto.Signer, x509.SignatureAlgorithm, error) {
			key, err := p256()
			return key, x509.ECDSAWithSHA1, err
		},
		Small: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 1024) },
		Certificate: func(t *x509.Certificate, issuer []byte, public crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
			parent := t
			if issuer != nil {
				var err error
				if parent, err = x509.ParseCertificate(issuer); err != nil {
					return nil, err
				}
			}
			return x509.CreateCertificate(rand.Reader, t, parent, public, signer)
		},
		List: func(t *x509.RevocationList, issuer []byte, signer crypto.Signer) ([]byte, error) {
			parent, err := x509.ParseCertificate(issuer)
			if err != nil {
				return nil, err
			}
			return x509.CreateRevocationList(rand.Reader, t, parent, signer)
		},
	}
	if a == keys.Ed25519 {
		m.Key = func() (crypto.Signer, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		}
	}
	return m
}

// RootFile is the name of the file with the root that the provider is to trust.
const RootFile = "root.pem"

// Institution is for whom a PKI issues.
const Institution = "Bank of Corfu"

// PKI is a root, authorities below it and their revocation lists, in files of a folder.
type PKI struct {
	Dir   string
	Lists []string // paths of the revocation lists, one for each authority
	At    time.Time

	t     testing.TB
	m     Maker
	last  int64
	root  *party
	given Fixtures
}

// party is somebody with a certificate.
type party struct {
	key    crypto.Signer
	chain  [][]byte // without the root
	der    []byte
	serial *big.Int
}

// NewPKI makes certificates for every rule of the suite, which are to be judged at the time at. Holders are of [Institution] and
// have their roles in URIs fondaco:role:NAME; a provider that takes these from elsewhere is configured for it.
func NewPKI(t testing.TB, m Maker, at time.Time) *PKI {
	t.Helper()
	p := &PKI{Dir: t.TempDir(), At: at.UTC().Truncate(time.Second), t: t, m: m}
	p.root = p.authority("Corfu Root CA", nil, nil)
	p.file(RootFile, "CERTIFICATE", p.root.der)
	issuing := p.authority("Corfu Issuing CA", p.root, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	lost := p.authority("Corfu Lost CA", p.root, nil)
	revoked := p.holder(issuing, nil)
	p.list("root.crl", p.root, 180*24*time.Hour, lost)
	p.list("issuing.crl", issuing, 7*24*time.Hour, revoked)
	p.list("lost.crl", lost, 7*24*time.Hour)

	sub := p.authority("Corfu Sub CA", issuing, nil)
	named := p.authority("Corfu Named CA", p.root, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"corfu.example"}
	})
	stranger := p.authority("Corfu Issuing CA", p.authority("Corfu Root CA", nil, nil), nil)
	good := p.holder(issuing, nil)
	foreign := p.check(p.m.Foreign())
	weakKey, weakAlgorithm, err := m.Weak()
	p.check(weakKey, err)
	weak := p.sign("Corfu Old CA", weakKey, p.root, p.asAuthority)
	p.given = Fixtures{
		At: p.At, Institution: Institution, Purpose: ca.Node, Roles: []identity.Role{"node", "operator"}, Other: ca.Regulator,
		Good:           good.chain,
		Root:           p.root.der,
		UnknownRoot:    p.holder(stranger, nil).chain,
		Revoked:        revoked.chain,
		RevokedIssuer:  p.holder(lost, nil).chain,
		StaleAt:        p.At.Add(8 * 24 * time.Hour),
		Expired:        p.holder(issuing, func(c *x509.Certificate) { c.NotAfter = p.At.Add(-time.Hour) }).chain,
		NotYetValid:    p.holder(issuing, func(c *x509.Certificate) { c.NotBefore = p.At.Add(time.Hour) }).chain,
		WrongAlgorithm: p.sign("node", foreign, issuing, p.asHolder).chain,
		WeakSignature:  p.holder(weak, func(c *x509.Certificate) { c.SignatureAlgorithm = weakAlgorithm }).chain,
		PathLength:     p.holder(sub, nil).chain,
		NotAuthority:   p.holder(good, nil).chain,
		NameConstraint: p.holder(named, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example"} }).chain,
		Forged:         append([][]byte{p.holder(stranger, nil).der}, issuing.chain...),
	}
	if m.Small != nil {
		p.given.WeakKey = p.holder(p.sign("Corfu Small CA", p.check(m.Small()), p.root, p.asAuthority), nil).chain
	}
	return p
}

// Fixtures returns the certificates, without a request to enrol.
func (p *PKI) Fixtures() Fixtures { return p.given }

// Path returns the path of a file.
func (p *PKI) Path(name string) string { return filepath.Join(p.Dir, name) }

func (p *PKI) check(key crypto.Signer, err error) crypto.Signer {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

func (p *PKI) file(name, label string, der []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.Path(name), pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// sign makes a party whose certificate the issuer signs; without an issuer it signs itself.
func (p *PKI) sign(name string, key crypto.Signer, issuer *party, changes ...func(*x509.Certificate)) *party {
	p.t.Helper()
	p.last++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(p.last), Subject: pkix.Name{Organization: []string{Institution}, CommonName: name},
		NotBefore: p.At.Add(-30 * 24 * time.Hour), NotAfter: p.At.Add(300 * 24 * time.Hour), BasicConstraintsValid: true,
	}
	for _, change := range changes {
		if change != nil {
			change(template)
		}
	}
	signer, issuerDER := key, []byte(nil)
	if issuer != nil {
		signer, issuerDER = issuer.key, issuer.der
	}
	der, err := p.m.Certificate(template, issuerDER, key.Public(), signer)
	if err != nil {
		p.t.Fatalf("issue the certificate of %s: %v", name, err)
	}
	made := &party{key: key, der: der, serial: template.SerialNumber}
	if issuer != nil {
		made.chain = append([][]byte{der}, issuer.chain...)
	}
	return made
}

func (*PKI) asAuthority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

func (*PKI) asHolder(c *x509.Certificate) {
	c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	c.URIs = []*url.URL{{Scheme: "fondaco", Opaque: "role:node"}, {Scheme: "fondaco", Opaque: "role:operator"}}
}

func (p *PKI) authority(name string, issuer *party, change func(*x509.Certificate)) *party {
	p.t.Helper()
	return p.sign(name, p.check(p.m.Key()), issuer, p.asAuthority, change)
}

func (p *PKI) holder(issuer *party, change func(*x509.Certificate)) *party {
	p.t.Helper()
	return p.sign("node", p.check(p.m.Key()), issuer, p.asHolder, change)
}

// list writes the revocation list of an authority.
func (p *PKI) list(file string, issuer *party, next time.Duration, revoked ...*party) {
	p.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: p.At.Add(-time.Hour), NextUpdate: p.At.Add(next)}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.serial, RevocationTime: p.At.Add(-2 * time.Hour), ReasonCode: int(ca.KeyCompromise),
		})
	}
	der, err := p.m.List(template, issuer.der, issuer.key)
	if err != nil {
		p.t.Fatalf("issue the list %s: %v", file, err)
	}
	p.file(file, "X509 CRL", der)
	p.Lists = append(p.Lists, p.Path(file))
}
