// Package ca is the contract of CA providers: programs that say for whom a certificate chain vouches, and that issue,
// renew and revoke certificates where an institution lets them. [Serve] is all that the author of a provider calls,
// [Client] is the provider as the node sees it, and [Verifier] asks one for a single purpose.
//
// # Answers, refusals and errors
//
// A provider that knows that a chain is not to be trusted answers with a [Refusal]: a stable code, and words that an
// operator acts on. An error means that the provider cannot tell now: its program is down ([ErrDown]), or what it asks
// does not answer. A caller must not take an error for a refusal, nor for consent.
//
// A provider is asked on handshakes, at admission and when a verdict is refreshed; never while a block is made or
// executed, so a provider that is down stops no block.
//
// Evidence of the machine that a node runs on (a quote of a TPM or an enclave) is for providers to read: in a request for a
// certificate, or in the certificate. See "Attested machines" in plugins/README.md.
//
// # What crosses
//
// The wire is a gRPC service of one method for each method of [Provider], over the connection that hashicorp/go-plugin
// sets up. The frames are in plugins/README.md. Certificates and requests for them cross; private keys never do, but
// for the enveloped key of [Encryption], which only its owner can open.
//
// It is one of the packages with a compatibility promise.
package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/fondaco/fondaco/plugins/internal/wire"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// MinWire and MaxWire bound the wire versions that this release speaks. Host and program agree on the highest
// that both know, so either can be upgraded first.
const (
	MinWire = 1
	MaxWire = 1
)

// Limits of requests and answers. A request beyond them is refused (Malformed) before it reaches the provider; a program
// whose answer is beyond them is killed.
const (
	MaxChain       = 8                  // certificates of a chain: the leaf and what leads to the root
	MaxCertificate = 16 << 10           // bytes of a certificate or of a request for one
	MaxText        = 256                // bytes of the name of an institution, an agency or an issuer
	MaxSerial      = 64                 // bytes of a serial number as text; X.509 has up to 20 bytes, 40 digits
	MaxRoles       = 32                 // of a holder
	MaxPaths       = 64                 // of a holder
	MaxRole        = 64                 // bytes
	MaxReason      = 1 << 10            // bytes of the words of a refusal
	MaxKey         = 4 << 10            // bytes of an enveloped key
	MaxLists       = 32                 // revocation lists of a provider
	MaxListed      = ledger.MaxElements // certificates on all lists of an answer together
	MaxListBytes   = 8 << 20            // of all lists of an answer together, in their signed form
	MaxSettings    = 1 << 20            // bytes of a provider's settings
)

// MaxFrame is the size in bytes of the largest frame that either side accepts. It bounds what a faulty program can make
// the node hold.
const MaxFrame = 16 << 20

// MaxCalls is how many calls of one Client a program has to answer at a time; more wait for their turn.
const MaxCalls = 32

// ErrDown says that a provider's program is not there to answer. It is started again meanwhile.
var ErrDown = errors.New("ca: provider down")

// Provider says for whom certificates vouch. All methods may be called from several goroutines at once. Times are Unix
// milliseconds; a provider judges by the time of the request, never by its own clock, but for the age of what it has
// fetched itself.
type Provider interface {
	// Verify says whom a chain vouches for, or why it does not count for the purpose.
	Verify(context.Context, VerifyRequest) (VerifyResponse, error)
	// Enroll issues a certificate for the key of a request (PKCS #10). A provider that only verifies refuses with Unsupported.
	Enroll(context.Context, EnrollRequest) (IssueResponse, error)
	// Renew issues a certificate in the place of one that it issued and that is neither revoked nor expired: same
	// holder, new validity, and a new key if the request has one. The old one stays valid until it ends or is revoked.
	Renew(context.Context, RenewRequest) (IssueResponse, error)
	// Revoke ends the validity of a certificate that it issued, for ever. Revoking it again changes nothing.
	Revoke(context.Context, RevokeRequest) (RevokeResponse, error)
	// Revoked returns the revocation lists that Verify goes by, as the provider has them now. A provider that asks a
	// responder for each certificate has none.
	Revoked(context.Context, RevokedRequest) (RevokedResponse, error)
}

// Configurer is a provider that takes settings of its own. Configure is called once, before all else, with the bytes of the
// plugin's configuration, which may be empty. A provider without it refuses settings that are not empty.
type Configurer interface {
	Configure(ctx context.Context, settings []byte) error
}

// Purpose is what a certificate is to serve for.
type Purpose string

// The purposes.
const (
	Node      Purpose = "node"      // to run a node
	User      Purpose = "user"      // to hold an account
	Admin     Purpose = "admin"     // to act for an institution
	Regulator Purpose = "regulator" // to watch over the chain
)

// Role returns the role that a holder has who may serve for the purpose.
func (p Purpose) Role() identity.Role {
	if p == Admin {
		return identity.InstitutionAdmin
	}
	return identity.Role(p) // node, user, regulator
}

// Purposes returns all purposes.
func Purposes() []Purpose { return []Purpose{Node, User, Admin, Regulator} }

// Code is the stable name of a reason to refuse.
type Code string

// The codes.
const (
	Malformed      Code = "malformed"       // not what the request must hold: no DER, too long, too many certificates
	WrongOrder     Code = "wrong-order"     // a certificate of the chain is not issued by the one behind it
	UnknownRoot    Code = "unknown-root"    // the chain leads to no root that the provider trusts
	NotYetValid    Code = "not-yet-valid"   // a certificate of the chain begins later
	Expired        Code = "expired"         // a certificate of the chain has ended
	WrongPurpose   Code = "wrong-purpose"   // it vouches, but not for this
	Revoked        Code = "revoked"         // a certificate of the chain was revoked
	StaleList      Code = "stale-list"      // what is known of revocations is too old to rely on
	WrongAlgorithm Code = "wrong-algorithm" // a key or a signature of an algorithm that does not count
	Constraint     Code = "constraint"      // an issuer was not entitled: path length, name constraints, no CA
	Unnamed        Code = "unnamed"         // it names no institution, or one that is no name
	NotVouched     Code = "not-vouched"     // too few of several providers vouch, or they do not agree
	Unsupported    Code = "unsupported"     // the provider does not do this
	UnknownSerial  Code = "unknown-serial"  // the provider issued no such certificate
	Denied         Code = "denied"          // the provider's policy does not allow it
)

// Refusal is a provider's answer that it will not do or vouch for what was asked.
type Refusal struct { //nolint:errname // an answer first, an error only to callers that want no more than yes or no
	_      struct{} `cbor:",toarray"`
	Code   Code     `json:"code"`
	Reason string   `json:"reason"` // what is wrong with which certificate and what to do, in a sentence without a full stop
}

// Refuse makes a refusal.
func Refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Reason: wire.Truncate(fmt.Sprintf(format, args...), MaxReason-len("…"))}
}

// Error returns the reason, so that a refusal can be returned as an error where a caller wants no more than yes or no.
func (r *Refusal) Error() string { return r.Reason }

func (r *Refusal) check() error {
	if !utf8.ValidString(string(r.Code)) || !utf8.ValidString(r.Reason) {
		return errors.New("a refusal is not UTF-8")
	}
	if r.Code == "" || len(r.Code) > MaxRole || r.Reason == "" || len(r.Reason) > MaxReason {
		return fmt.Errorf("a refusal has a code of %d bytes and a reason of %d, want 1 to %d and 1 to %d", len(r.Code), len(r.Reason), MaxRole, MaxReason)
	}
	return nil
}

// VerifyRequest asks whom a chain vouches for.
type VerifyRequest struct {
	_       struct{} `cbor:",toarray"`
	Chain   [][]byte // DER of certificates in the form of identity.CheckForm, the holder's first, each issued by the next; the root may be missing
	Purpose Purpose
	At      int64 // Unix milliseconds
}

// Check returns why no provider would answer the request, or nil.
func (r VerifyRequest) Check() *Refusal {
	if !slices.Contains(Purposes(), r.Purpose) {
		return Refuse(Malformed, "purpose %q is unknown: want node, user, admin or regulator", wire.Truncate(string(r.Purpose), MaxRole))
	}
	return checkChain(r.Chain)
}

func checkChain(chain [][]byte) *Refusal {
	if len(chain) == 0 || len(chain) > MaxChain {
		return Refuse(Malformed, "the chain has %d certificates, want 1 to %d: send the holder's and those that lead to the root", len(chain), MaxChain)
	}
	for i, der := range chain {
		if len(der) == 0 || len(der) > MaxCertificate {
			return Refuse(Malformed, "certificate %d of the chain has %d bytes, want 1 to %d", i+1, len(der), MaxCertificate)
		}
		if err := identity.CheckForm(der); err != nil {
			return Refuse(Malformed, "certificate %d of the chain does not count: %v", i+1, err)
		}
	}
	return nil
}

// VerifyResponse has a holder or a refusal.
type VerifyResponse struct {
	_       struct{} `cbor:",toarray"`
	Refusal *Refusal
	Holder  *Holder
}

func (r VerifyResponse) check() error {
	if (r.Refusal == nil) == (r.Holder == nil) {
		return errors.New("an answer has either a holder or a refusal")
	}
	if r.Refusal != nil {
		return r.Refusal.check()
	}
	return r.Holder.check()
}

// Holder is whom a certificate vouches for.
type Holder struct {
	_           struct{}        `cbor:",toarray"`
	Institution string          // 1 to MaxText bytes
	Agency      string          // the authority of the institution that issued; may be empty
	Roles       []identity.Role // sorted, without duplicates; the one of the purpose is among them
	Key         ledger.Key      // canonical, as package keys has it
	Serial      string          // of the certificate: lower-case hexadecimal for X.509
	NotBefore   int64           // Unix milliseconds
	NotAfter    int64           // Unix milliseconds: the end of the chain's first certificate to end
	Issuers     []string        // names, from the one that issued up to the root
	// Paths are the ways by which the provider found the chain to hold, sorted and without duplicates, 1 to MaxPaths:
	// several where an issuer has several issuers, or the holder several certificates. Fingerprints are under the suite
	// that the key is of (keys.SuiteOf), which is that of every chain which the holder can be on: SHA-256 of what the issuer
	// signed for Ed25519 and P-256, SM3 for SM2 (identity.Fingerprint). What a chain says of authorities and certificates goes by them.
	Paths []identity.Path
}

// Identity returns the holder as the rest of a node knows holders. It fails if the key is not one of the suite's.
func (h *Holder) Identity(s keys.Suite) (identity.Identity, error) {
	key, err := s.ParsePublic(h.Key.Algorithm, h.Key.Bytes)
	if err != nil {
		return identity.Identity{}, err
	}
	return identity.Identity{
		Institution: h.Institution, Agency: h.Agency, Roles: h.Roles, Key: key,
		Serial: h.Serial, NotAfter: time.UnixMilli(h.NotAfter).UTC(), Issuers: h.Issuers, Paths: h.Paths,
	}, nil
}

func (h *Holder) check() error {
	for _, text := range append([]string{h.Institution, h.Agency, h.Serial}, h.Issuers...) {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q of a holder is not UTF-8", text)
		}
	}
	switch {
	case h.Institution == "" || len(h.Institution) > MaxText || len(h.Agency) > MaxText:
		return fmt.Errorf("a holder has an institution of %d bytes and an agency of %d, want 1 to %d and at most %d", len(h.Institution), len(h.Agency), MaxText, MaxText)
	case h.Serial == "" || len(h.Serial) > MaxSerial:
		return fmt.Errorf("a holder has a serial of %d bytes, want 1 to %d", len(h.Serial), MaxSerial)
	case h.NotBefore >= h.NotAfter:
		return fmt.Errorf("a holder is valid from %d to %d", h.NotBefore, h.NotAfter)
	case len(h.Key.Bytes) == 0 || len(h.Key.Bytes) > MaxSerial:
		return fmt.Errorf("a holder has a key of %d bytes", len(h.Key.Bytes))
	case len(h.Issuers) > MaxChain:
		return fmt.Errorf("a holder has %d issuers, want at most %d", len(h.Issuers), MaxChain)
	case len(h.Paths) == 0 || len(h.Paths) > MaxPaths:
		return fmt.Errorf("a holder has %d paths, want 1 to %d", len(h.Paths), MaxPaths)
	}
	for i, p := range h.Paths {
		if p.Leaf.IsZero() || p.Root.IsZero() || i > 0 && h.Paths[i-1].Compare(p) >= 0 {
			return fmt.Errorf("the paths %v of a holder have ends without fingerprint, or are not sorted and without duplicates", h.Paths)
		}
	}
	for _, name := range h.Issuers {
		if len(name) > MaxText {
			return fmt.Errorf("an issuer's name has %d bytes, want at most %d", len(name), MaxText)
		}
	}
	return checkRoles(h.Roles)
}

// answers says why a holder is no answer to a question, or returns nil.
func (h *Holder) answers(r *VerifyRequest) error {
	switch {
	case r.At < h.NotBefore || r.At >= h.NotAfter:
		return fmt.Errorf("it vouches for %s from %d to %d, and was asked about %d", h.Institution, h.NotBefore, h.NotAfter, r.At)
	case !slices.Contains(h.Roles, r.Purpose.Role()):
		return fmt.Errorf("it vouches for %s in the roles %q, and was asked about %q", h.Institution, h.Roles, r.Purpose.Role())
	}
	asked := Fingerprints(h.Key.Algorithm, r.Chain)
	for _, p := range h.Paths {
		if !slices.Contains(asked, p.Leaf) {
			return fmt.Errorf("it vouches by certificate %s, and was asked about %v: fingerprints for %s keys are those of suite %s", p.Leaf, asked, h.Key.Algorithm, keys.SuiteOf(h.Key.Algorithm).Name())
		}
	}
	return nil
}

// Fingerprints returns those of certificates, in their order, under the suite that an algorithm is of.
func Fingerprints(a keys.Algorithm, chain [][]byte) []keys.Digest {
	suite := keys.SuiteOf(a)
	all := make([]keys.Digest, len(chain))
	for i, der := range chain {
		all[i] = identity.Fingerprint(suite, der)
	}
	return all
}

func checkRoles(roles []identity.Role) error {
	if len(roles) > MaxRoles {
		return fmt.Errorf("%d roles, want at most %d", len(roles), MaxRoles)
	}
	for i, r := range roles {
		if !utf8.ValidString(string(r)) {
			return fmt.Errorf("role %q is not UTF-8", r)
		}
		if r == "" || len(r) > MaxRole {
			return fmt.Errorf("a role has %d bytes, want 1 to %d", len(r), MaxRole)
		}
		if i > 0 && roles[i-1] >= r {
			return fmt.Errorf("roles %q are not sorted and without duplicates", roles)
		}
	}
	return nil
}

// EnrollRequest asks for a certificate.
type EnrollRequest struct {
	_           struct{}        `cbor:",toarray"`
	CSR         []byte          // DER of PKCS #10 (RFC 2986), signed by the key that it is for; its names are not looked at
	Institution string          // 1 to MaxText bytes
	Agency      string          // may be empty
	Name        string          // of the holder, in the certificate's common name; may be empty
	Roles       []identity.Role // sorted, without duplicates
	At          int64           // Unix milliseconds: when the validity begins
	NotAfter    int64           // Unix milliseconds; zero: as long as the provider's policy allows
}

// Check returns why no provider would answer the request, or nil.
func (r EnrollRequest) Check() *Refusal {
	switch {
	case len(r.CSR) == 0 || len(r.CSR) > MaxCertificate:
		return Refuse(Malformed, "the request for a certificate has %d bytes, want 1 to %d of DER", len(r.CSR), MaxCertificate)
	case r.Institution == "" || len(r.Institution) > MaxText || len(r.Agency) > MaxText || len(r.Name) > MaxText:
		return Refuse(Malformed, "institution, agency and name have %d, %d and %d bytes, want at most %d, and an institution", len(r.Institution), len(r.Agency), len(r.Name), MaxText)
	case !utf8.ValidString(r.Institution) || !utf8.ValidString(r.Agency) || !utf8.ValidString(r.Name):
		return Refuse(Malformed, "institution %q, agency %q and name %q must be UTF-8", r.Institution, r.Agency, r.Name)
	case r.NotAfter != 0 && r.NotAfter <= r.At:
		return Refuse(Malformed, "the certificate would end before it begins")
	}
	if err := checkRoles(r.Roles); err != nil {
		return Refuse(Malformed, "%v", err)
	}
	return nil
}

// RenewRequest asks for a certificate in the place of another.
type RenewRequest struct {
	_        struct{} `cbor:",toarray"`
	Serial   string   // of the certificate that is to be replaced
	CSR      []byte   // as in EnrollRequest; empty: the certificate's key stays
	At       int64    // Unix milliseconds: when the validity begins
	NotAfter int64    // Unix milliseconds; zero: as long as the provider's policy allows
}

// Check returns why no provider would answer the request, or nil.
func (r RenewRequest) Check() *Refusal {
	switch {
	case len(r.CSR) > MaxCertificate:
		return Refuse(Malformed, "the request for a certificate has %d bytes, want at most %d of DER", len(r.CSR), MaxCertificate)
	case r.NotAfter != 0 && r.NotAfter <= r.At:
		return Refuse(Malformed, "the certificate would end before it begins")
	}
	return checkSerial(r.Serial)
}

func checkSerial(serial string) *Refusal {
	if serial == "" || len(serial) > MaxSerial || !utf8.ValidString(serial) {
		return Refuse(Malformed, "the serial number has %d bytes, want 1 to %d of UTF-8", len(serial), MaxSerial)
	}
	return nil
}

// IssueResponse has what was issued or a refusal.
type IssueResponse struct {
	_       struct{} `cbor:",toarray"`
	Refusal *Refusal
	Issued  *Issued
}

// Issued is a certificate and what belongs to it.
type Issued struct {
	_          struct{}    `cbor:",toarray"`
	Chain      [][]byte    // as VerifyRequest takes it
	Encryption *Encryption // nil but from authorities that issue two certificates
}

// Encryption is the second certificate of a holder whose authority issues one for signing and one for encryption, as the
// Chinese ones do (GM/T 0015). The authority makes the key of the second, so that it can restore it.
type Encryption struct {
	_           struct{} `cbor:",toarray"`
	Certificate []byte   // DER
	Key         []byte   // DER of SM2EnvelopedKey (GM/T 0009, 7.4), for the key of the first certificate
}

func (r IssueResponse) check() error {
	if (r.Refusal == nil) == (r.Issued == nil) {
		return errors.New("an answer has either a certificate or a refusal")
	}
	if r.Refusal != nil {
		return r.Refusal.check()
	}
	if refusal := checkChain(r.Issued.Chain); refusal != nil {
		return refusal
	}
	if e := r.Issued.Encryption; e != nil && (len(e.Certificate) == 0 || len(e.Certificate) > MaxCertificate || len(e.Key) == 0 || len(e.Key) > MaxKey) {
		return fmt.Errorf("a certificate for encryption has %d bytes and its key %d, want at most %d and %d", len(e.Certificate), len(e.Key), MaxCertificate, MaxKey)
	}
	return nil
}

// Reason is why a certificate was revoked, by the numbers of RFC 5280 §5.3.1.
type Reason uint8

// The reasons. Numbers that are missing here are not for certificates that end for ever.
const (
	Unspecified        Reason = 0
	KeyCompromise      Reason = 1
	CACompromise       Reason = 2
	AffiliationChanged Reason = 3
	Superseded         Reason = 4
	Cessation          Reason = 5
	PrivilegeWithdrawn Reason = 9
)

var reasonNames = map[Reason]string{
	Unspecified: "unspecified", KeyCompromise: "key-compromise", CACompromise: "ca-compromise", AffiliationChanged: "affiliation-changed",
	Superseded: "superseded", Cessation: "cessation", PrivilegeWithdrawn: "privilege-withdrawn",
}

// String returns the reason as the command line writes it.
func (r Reason) String() string {
	if name := reasonNames[r]; name != "" {
		return name
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// ParseReason reads the form that String writes.
func ParseReason(s string) (Reason, error) {
	var all []string
	for r, name := range reasonNames {
		if name == s {
			return r, nil
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return 0, fmt.Errorf("reason %q is unknown: want one of %s", s, strings.Join(all, ", "))
}

// RevokeRequest ends a certificate's validity.
type RevokeRequest struct {
	_      struct{} `cbor:",toarray"`
	Serial string
	Reason Reason
	At     int64 // Unix milliseconds
}

// Check returns why no provider would answer the request, or nil.
func (r RevokeRequest) Check() *Refusal {
	if reasonNames[r.Reason] == "" {
		return Refuse(Malformed, "%v is no reason to revoke a certificate: see RFC 5280, 5.3.1", r.Reason)
	}
	return checkSerial(r.Serial)
}

// RevokeResponse is empty when the certificate is revoked.
type RevokeResponse struct {
	_       struct{} `cbor:",toarray"`
	Refusal *Refusal
}

func (r RevokeResponse) check() error {
	if r.Refusal != nil {
		return r.Refusal.check()
	}
	return nil
}

// RevokedRequest asks for the revocation lists.
type RevokedRequest struct {
	_  struct{} `cbor:",toarray"`
	At int64    // Unix milliseconds
}

// Check returns nil.
func (RevokedRequest) Check() *Refusal { return nil }

// RevokedResponse has the lists, or a refusal.
type RevokedResponse struct {
	_       struct{} `cbor:",toarray"`
	Refusal *Refusal
	Lists   []List // at most MaxLists
}

// List is a revocation list. Its age at a time is that time less Issued.
type List struct {
	_          struct{} `cbor:",toarray"`
	Issuer     string   // name of the authority
	Number     string   // as the authority counts; hexadecimal for X.509, empty where it does not
	Issued     int64    // Unix milliseconds
	NextUpdate int64    // Unix milliseconds: when the authority will have issued the next; zero: it does not say
	Revoked    []Entry  // in the order of the list; see Signed
	Signed     []byte   // the list as its authority signed it, DER for X.509. Empty: it has no such form, or was left out for its size, and Revoked with it (see Fit)
	Fault      string   // what is wrong at a source of the list (it may be the newest all the same, by another one) or with the answer (see Fit), in words; at most MaxReason bytes; empty: nothing that the provider knows of
}

// Fit returns lists as an answer may hold them: MaxLists at most, the first ones, of which the last has a Fault that says how many are left out; without
// Revoked and Signed of the largest where all together are beyond MaxListed or MaxListBytes. So whoever publishes a large list keeps nobody from being told
// of the others, and of its own dates.
func Fit(lists []List) []List {
	out := len(lists) - MaxLists
	lists = slices.Clone(lists[:min(len(lists), MaxLists)])
	if out > 0 {
		last := &lists[MaxLists-1]
		text := fmt.Sprintf("%d more lists count and are not shown, and their ends not watched, since an answer has at most %d: have fewer authorities in one provider", out, MaxLists)
		if last.Fault != "" {
			text += "; " + last.Fault
		}
		last.Fault = wire.Truncate(text, MaxReason-len("…"))
	}
	for {
		listed, size, longest, largest := 0, 0, 0, 0
		for i, l := range lists {
			listed, size = listed+len(l.Revoked), size+len(l.Signed)
			if len(l.Revoked) > len(lists[longest].Revoked) {
				longest = i
			}
			if len(l.Signed) > len(lists[largest].Signed) {
				largest = i
			}
		}
		out := largest
		if size <= MaxListBytes {
			if listed <= MaxListed {
				return lists
			}
			out = longest
		}
		lists[out].Revoked, lists[out].Signed = nil, nil
	}
}

// Entry is a revoked certificate.
type Entry struct {
	_      struct{} `cbor:",toarray"`
	Serial string
	At     int64 // Unix milliseconds
	Reason Reason
}

func (r RevokedResponse) check() error {
	if r.Refusal != nil {
		if len(r.Lists) > 0 {
			return errors.New("an answer has either lists or a refusal")
		}
		return r.Refusal.check()
	}
	if len(r.Lists) > MaxLists {
		return fmt.Errorf("an answer has %d lists, want at most %d", len(r.Lists), MaxLists)
	}
	listed, size := 0, 0
	for _, l := range r.Lists {
		if len(l.Issuer) > MaxText || len(l.Number) > MaxSerial {
			return fmt.Errorf("a list has an issuer's name of %d bytes and a number of %d, want at most %d and %d", len(l.Issuer), len(l.Number), MaxText, MaxSerial)
		}
		if len(l.Fault) > MaxReason {
			return fmt.Errorf("a list has a fault of %d bytes, want at most %d", len(l.Fault), MaxReason)
		}
		listed, size = listed+len(l.Revoked), size+len(l.Signed)
		for _, c := range l.Revoked {
			if refusal := checkSerial(c.Serial); refusal != nil {
				return refusal
			}
		}
	}
	if listed > MaxListed || size > MaxListBytes {
		return fmt.Errorf("the lists have %d certificates and %d bytes, want at most %d and %d; use a responder (OCSP) instead", listed, size, MaxListed, MaxListBytes)
	}
	return nil
}

// Manifest describes a provider program.
type Manifest struct {
	_          struct{}         `cbor:",toarray"`
	Name       string           // such as "x509"; 1 to 64 bytes
	Version    string           // the program's, for people; empty: Serve fills in what the program was built from
	Algorithms []keys.Algorithm // of the keys that it vouches for, at least one, in ascending order
	Issues     bool             // whether Enroll, Renew and Revoke do anything, given the right settings
	Wire       uint16           // wire version spoken; Serve fills it in
}

func (m *Manifest) validate() error {
	if err := wire.CheckName(m.Name, m.Version); err != nil {
		return err
	}
	if len(m.Algorithms) == 0 || len(m.Algorithms) > MaxRoles || !slices.IsSorted(m.Algorithms) || len(slices.Compact(slices.Clone(m.Algorithms))) != len(m.Algorithms) {
		return fmt.Errorf("manifest: Algorithms %v must be at least one and in ascending order", m.Algorithms)
	}
	return nil
}

// Suits says why a chain of the suite gets nothing from the provider that the manifest is of, or returns nil.
func (m *Manifest) Suits(s keys.Suite) error {
	if !slices.Contains(m.Algorithms, s.Vote()) {
		return fmt.Errorf("CA provider %s vouches for keys of %v, and nodes of a chain of suite %s have %s keys: configure a provider for this suite", m.Name, m.Algorithms, s.Name(), s.Vote())
	}
	return nil
}

// Verifier asks a provider for one purpose. It is an identity.Verifier.
type Verifier struct {
	Provider Provider
	Suite    keys.Suite
	Purpose  Purpose
}

var _ identity.Verifier = Verifier{}

// Verify returns the identity of the chain's holder. The error is a *Refusal if the provider refused, and any other if
// it cannot tell now.
func (v Verifier) Verify(ctx context.Context, chain [][]byte, at time.Time) (identity.Identity, error) {
	_, id, err := v.Ask(ctx, chain, at)
	return id, err
}

// Ask is Verify, and returns the holder as the provider names it too.
func (v Verifier) Ask(ctx context.Context, chain [][]byte, at time.Time) (*Holder, identity.Identity, error) {
	answer, err := v.Provider.Verify(ctx, VerifyRequest{Chain: chain, Purpose: v.Purpose, At: at.UnixMilli()})
	if err != nil {
		return nil, identity.Identity{}, err
	}
	if answer.Refusal != nil {
		return nil, identity.Identity{}, answer.Refusal
	}
	if answer.Holder == nil {
		return nil, identity.Identity{}, errors.New("the CA provider answered with neither a holder nor a refusal")
	}
	id, err := answer.Holder.Identity(v.Suite)
	if err != nil {
		return nil, identity.Identity{}, Refuse(WrongAlgorithm, "the certificate of %s is for another kind of key than this chain's: %v", answer.Holder.Institution, err)
	}
	return answer.Holder, id, nil
}

const (
	serviceName     = "fondaco.plugin.v1.CA"
	describeMethod  = "/" + serviceName + "/Describe"
	configureMethod = "/" + serviceName + "/Configure"
)

// frame is what both sides send.
type frame = wire.Frame

// kind is what the host and the program agree on before anything else.
func kind() wire.Kind {
	return wire.Kind{Name: "ca", MinWire: MinWire, MaxWire: MaxWire, MaxFrame: MaxFrame}
}

// Handshake is the cookie by which go-plugin tells that a program was started by a host of this kind. It keeps
// people from starting it by hand; it is no security measure.
func Handshake() plugin.HandshakeConfig { return kind().Handshake() }

// Versions returns the versions of the wire that the host offers, for go-plugin.
func Versions() map[int]plugin.PluginSet { return kind().Versions() }

// DialOptions returns the options of the host's connection: they bound what the program may send.
func DialOptions() []grpc.DialOption { return kind().DialOptions() }

// settings is the frame of Configure.
type settings struct {
	_     struct{} `cbor:",toarray"`
	Bytes []byte
}

// configured is the answer to it.
type configured struct {
	_ struct{} `cbor:",toarray"`
}

// reply is the frame that answers a request.
type reply[A any] struct {
	_      struct{} `cbor:",toarray"`
	Error  string   // not empty: the provider cannot tell, and Answer is nil
	Answer *A
}
