package x509ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// library is what an implementation of X.509 does for this package: std by the standard library, gm with SM2.
// Its methods are safe for concurrent use.
type library interface {
	suite() keys.Suite
	algorithms() []keys.Algorithm // of holders' keys, in ascending order
	parse(der []byte) (*certificate, error)
	// parseRequest reads a request for a certificate (PKCS #10) whose signature holds, and returns the key it is for.
	parseRequest(der []byte) (ledger.Key, error)
	parseList(der []byte) (*list, error)
	// checkIssued says whether parent, which may be no authority at all, signed child.
	checkIssued(child, parent *certificate) error
	checkList(l *list, issuer *certificate) error
	// verify finds ways (RFC 5280 §6) from the first certificate to a root over those in between, each from the holder to the root.
	verify(leaf *certificate, between, roots []*certificate, at time.Time) ([][]*certificate, error)
	// explain tells which rule an error of the three methods above is about.
	explain(err error) ca.Code

	signer(keys.Signer) (crypto.Signer, error)
	// create issues a certificate. Without an issuer the subject signs for itself.
	create(t *x509.Certificate, issuer *certificate, key ledger.Key, signer crypto.Signer) ([]byte, error)
	createList(t *x509.RevocationList, issuer *certificate, signer crypto.Signer) ([]byte, error)
	createRequest(subject pkix.Name, signer crypto.Signer) ([]byte, error)
}

// certificate is what this package looks at in a certificate.
type certificate struct {
	raw, rawIssuer, rawSubject []byte
	subject, issuer            pkix.Name
	serial                     string // lower-case hexadecimal, two digits for each byte
	notBefore, notAfter        time.Time
	authority                  bool
	usage                      x509.KeyUsage
	hosts                      []string // names and addresses of the server that it is for; none: it is for a client
	roles                      []string // of its URIs, in their order
	key                        ledger.Key
	keyErr                     error // why key is empty
	weak                       error // why its signature counts for nothing, whoever made it
	native                     any   // as the library has it
}

// name is how messages call the certificate's subject.
func (c *certificate) name() string { return nameText(c.subject) }

func nameText(n pkix.Name) string {
	text := n.String()
	if len(text) > ca.MaxText {
		text = text[:ca.MaxText]
	}
	if text == "" {
		text = "a certificate without name"
	}
	return text
}

// selfIssued reports whether the certificate names itself as issuer.
func (c *certificate) selfIssued() bool { return bytes.Equal(c.rawIssuer, c.rawSubject) }

// serialText is the form in which serial numbers go in and out.
func serialText(n *big.Int) string {
	if n == nil || n.Sign() == 0 {
		return "00"
	}
	return hex.EncodeToString(n.Bytes())
}

// rolePrefix begins the URIs of the subject's alternative names that confer a role.
const rolePrefix = "fondaco:role:"

func rolesOf(uris []*url.URL) []string {
	var roles []string
	for _, u := range uris {
		if text := u.String(); len(text) > len(rolePrefix) && text[:len(rolePrefix)] == rolePrefix {
			roles = append(roles, text[len(rolePrefix):])
		}
	}
	return roles
}

// list is what this package looks at in a revocation list.
type list struct {
	raw, rawIssuer     []byte
	issuer             pkix.Name
	number             *big.Int // nil: not numbered
	issued, nextUpdate time.Time
	entries            []x509.RevocationListEntry
	revoked            map[string]ca.Entry // by serial
	partial            error               // why it does not tell of all certificates of its issuer
	native             any
}

// index fills in what follows from the entries and the extensions.
func (l *list) index(extensions []pkix.Extension) error {
	if len(l.entries) > ca.MaxListed {
		return fmt.Errorf("it has %d certificates, want at most %d; use a responder (OCSP) instead", len(l.entries), ca.MaxListed)
	}
	l.revoked = make(map[string]ca.Entry, len(l.entries))
	for _, e := range l.entries {
		serial := serialText(e.SerialNumber)
		l.revoked[serial] = ca.Entry{Serial: serial, At: e.RevocationTime.UnixMilli(), Reason: reasonOf(e.ReasonCode)}
		extensions = append(extensions, e.Extensions...)
	}
	// A list that is limited in what it covers says so in a critical extension (RFC 5280 §5.2): as a whole list it would
	// vouch for certificates that it is silent about.
	for _, e := range extensions {
		if e.Critical {
			l.partial = fmt.Errorf("it has the critical extension %v, so it may not tell of all certificates: configure a full list", e.Id)
		}
	}
	return nil
}

func reasonOf(code int) ca.Reason {
	if r := ca.Reason(code); code >= 0 && code < 256 {
		if _, err := ca.ParseReason(r.String()); err == nil {
			return r
		}
	}
	return ca.Unspecified
}
