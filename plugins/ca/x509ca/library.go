package x509ca

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/internal/wire"
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
	// checkSigned says whether the key of a certificate made a signature of what is signed, by an algorithm that counts.
	checkSigned(algorithm asn1.ObjectIdentifier, signed, signature []byte, by *certificate) error
	idHash() asn1.ObjectIdentifier // of idHashes: by which a responder is asked
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

// What follows is the same for every library, whose types differ.

func addAll[C any](add func(C), all []*certificate) {
	for _, c := range all {
		add(c.native.(C))
	}
}

func wrapAll[C any](paths [][]C, wrap func(C) *certificate) [][]*certificate {
	var all [][]*certificate
	for _, path := range paths {
		var wrapped []*certificate
		for _, c := range path {
			wrapped = append(wrapped, wrap(c))
		}
		all = append(all, wrapped)
	}
	return all
}

// explainAs explains an error that is not about one certificate's validity, by the library's types of errors.
func explainAs[Insecure, Violation, Critical error](err error) ca.Code {
	if _, ok := errors.AsType[Insecure](err); ok {
		return ca.WrongAlgorithm
	}
	_, violation := errors.AsType[Violation](err)
	_, critical := errors.AsType[Critical](err)
	if violation || critical {
		return ca.Constraint
	}
	return ca.UnknownRoot
}

func invalidCode(expired, usage bool) ca.Code {
	switch {
	case expired:
		return ca.Expired
	case usage:
		return ca.WrongPurpose
	default:
		return ca.Constraint
	}
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
	answers                    bool     // its extended key usage is for OCSP
	unknownCritical            bool     // it has a critical extension that the library does not know
	key                        ledger.Key
	keyErr                     error // why key is empty
	weak                       error // why its signature counts for nothing, whoever made it
	weakKey                    error // why what its key signs counts for nothing
	spki                       []byte
	native                     any // as the library has it
}

// name is how messages call the certificate's subject.
func (c *certificate) name() string { return nameText(c.subject) }

func nameText(n pkix.Name) string {
	return cmp.Or(wire.Truncate(n.String(), ca.MaxText-len("…")), "a certificate without name")
}

// encrypts reports whether the certificate says that its key does not sign, as the second of a pair does.
func (c *certificate) encrypts() bool {
	return c.usage != 0 && c.usage&x509.KeyUsageDigitalSignature == 0
}

// authorityID names an authority: who it is and by which key. Certificates that were renewed or issued across are of the same one.
func (c *certificate) authorityID() [sha256.Size]byte {
	return sha256.Sum256(slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(len(c.rawSubject))), c.rawSubject, c.spki))
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
	flaw               error               // why it counts for nothing, whoever signed it
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
			l.flaw = fmt.Errorf("it has the critical extension %v, so it may not tell of all certificates: configure a full list", e.Id)
		}
	}
	return nil
}

// before reports whether the authority issued the list before another: by their numbers (RFC 5280 §5.2.3), or if these do not tell by
// their times.
func (l *list) before(other *list) bool {
	if l.number != nil && other.number != nil {
		if order := l.number.Cmp(other.number); order != 0 {
			return order < 0
		}
	}
	return l.issued.Before(other.issued)
}

// text names the list in messages.
func (l *list) text() string {
	if l.number == nil {
		return "the list of " + timeText(l.issued)
	}
	return fmt.Sprintf("list number %s of %s", serialText(l.number), timeText(l.issued))
}

func reasonOf(code int) ca.Reason {
	if r := ca.Reason(code); code >= 0 && code < 256 {
		if _, err := ca.ParseReason(r.String()); err == nil {
			return r
		}
	}
	return ca.Unspecified
}
