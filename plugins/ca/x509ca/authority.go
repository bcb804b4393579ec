package x509ca

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/ledger"
)

// The files of an authority's folder.
const (
	ChainFile  = "ca.pem" // its certificate, then those up to the root
	KeyFile    = "ca.key" // a key file, as package keyfile has it
	ListFile   = "ca.crl" // its revocation list, which is also its memory of what it revoked
	issuedDir  = "issued" // SERIAL.pem for each certificate that it issued, with what belongs to it
	lockFile   = "lock"
	maxFolders = 100_000 // certificates that Issued lists
)

// Validity of what an authority issues where nobody says otherwise.
const (
	DefaultValidity  = 365 * 24 * time.Hour      // of a holder's certificate
	DefaultAuthority = 10 * 365 * 24 * time.Hour // of the authority's own
	DefaultNext      = 7 * 24 * time.Hour        // until the next revocation list is due
)

// Authority is a small certificate authority in a folder: one institution issues certificates for its nodes and people with it.
// Its methods are safe for concurrent use, also by several processes.
//
// What it changes is on disk when a method returns. A certificate is on disk before anybody gets it, so that whatever was
// issued can be revoked; a crash leaves the old revocation list or the new one. Numbers of certificates and lists are not used twice.
type Authority struct {
	lib    library
	folder string
	chain  []*certificate
	signer crypto.Signer // nil: the key was not opened

	mu    sync.Mutex // one change at a time; guards what follows
	swept bool       // what a crash left was removed
}

// Labels of the PEM blocks of a holder's second certificate, and of its key in an envelope.
const (
	EncryptionLabel = "ENCRYPTION CERTIFICATE"
	EnvelopeLabel   = "SM2 ENVELOPED KEY"
)

// NewAuthority says what authority Create makes.
type NewAuthority struct {
	Suite       keys.Suite
	Institution string        // to which all its certificates belong
	Name        string        // common name; empty: the institution's and "CA"
	Key         keys.Signer   // of the suite; its private half must be at hand
	Passphrase  string        // that locks the key file; empty: it is not locked
	At          time.Time     // when its certificate begins
	Validity    time.Duration // 0: DefaultAuthority
}

// Create makes an authority with a certificate of its own, signed by itself, in a folder that does not exist yet. Who is killed meanwhile
// leaves no authority, but a folder .ca-* beside it, which can be removed.
func Create(folder string, n NewAuthority) (*Authority, error) {
	folder = filepath.Clean(folder)
	lib := libraryOf(n.Suite)
	if err := checkName(n.Institution); err != nil {
		return nil, fmt.Errorf("institution %w", err)
	}
	name := cmp.Or(n.Name, n.Institution+" CA")
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("name %w", err)
	}
	signer, err := lib.signer(n.Key)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s is there already: an authority is never overwritten; name another folder, or move that one away", folder), err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	begin := n.At.UTC().Truncate(time.Second)
	der, err := lib.create(&x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{n.Institution}, CommonName: name},
		NotBefore: begin, NotAfter: begin.Add(cmp.Or(n.Validity, DefaultAuthority)),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}, nil, ledger.KeyOf(n.Key.Public()), signer)
	if err != nil {
		return nil, fmt.Errorf("issue the authority's own certificate: %w", err)
	}
	c, err := lib.parse(der)
	if err != nil {
		return nil, err
	}
	// Everything is made aside, so that a crash leaves a whole authority or none.
	fresh, err := os.MkdirTemp(filepath.Dir(folder), ".ca-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(fresh)
	a := &Authority{lib: lib, folder: fresh, chain: []*certificate{c}, signer: signer}
	err = keyfile.Write(filepath.Join(fresh, KeyFile), n.Key, n.Passphrase)
	if err == nil {
		err = os.Mkdir(filepath.Join(fresh, issuedDir), 0o700)
	}
	if err == nil {
		err = writeFile(filepath.Join(fresh, ChainFile), encodePEM("CERTIFICATE", der))
	}
	if err == nil {
		err = a.writeList(nil, big.NewInt(1), begin, DefaultNext)
	}
	if err == nil {
		err = errors.Join(os.Rename(fresh, folder), syncDir(filepath.Dir(folder)))
	}
	a.folder = folder
	return a, err
}

// Open opens the authority in a folder to look at it. Unlock makes it issue.
func Open(folder string) (*Authority, error) {
	path := filepath.Join(folder, ChainFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w; make an authority with `fondaco ca new`", err)
	}
	var failed error
	for _, lib := range libraries() {
		chain, err := readCertificates(lib, path)
		if err == nil && chain[0].keyErr == nil {
			if !chain[0].authority {
				return nil, fmt.Errorf("%s: its first certificate, of %s, is not that of an authority", path, chain[0].name())
			}
			return &Authority{lib: lib, folder: folder, chain: chain}, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// Suite returns the suite of the authority's key.
func (a *Authority) Suite() keys.Suite { return a.lib.suite() }

// KeyPath returns the path of the authority's key file.
func (a *Authority) KeyPath() string { return filepath.Join(a.folder, KeyFile) }

// ListPath returns the path of the authority's revocation list.
func (a *Authority) ListPath() string { return filepath.Join(a.folder, ListFile) }

// Chain returns the authority's certificate in DER, and those up to the root.
func (a *Authority) Chain() [][]byte {
	var ders [][]byte
	for _, c := range a.chain {
		ders = append(ders, c.raw)
	}
	return ders
}

// Institution returns to whom all certificates of the authority belong.
func (a *Authority) Institution() string {
	if o := a.chain[0].subject.Organization; len(o) == 1 {
		return o[0]
	}
	return ""
}

// Unlock hands the authority its key.
func (a *Authority) Unlock(key keys.Signer) error {
	if got, want := ledger.KeyOf(key.Public()), a.chain[0].key; got.Algorithm != want.Algorithm || !slices.Equal(got.Bytes, want.Bytes) {
		return fmt.Errorf("the key is not the one of the authority in %s: its certificate is for another", a.folder)
	}
	signer, err := a.lib.signer(key)
	a.signer = signer
	return err
}

// Enroll issues a certificate, as ca.Provider describes it.
func (a *Authority) Enroll(r ca.EnrollRequest) (ca.IssueResponse, error) {
	return a.EnrollServer(r, nil)
}

// EnrollServer issues a certificate with which a TLS server shows that it is one of hosts, DNS names or IP addresses, and which
// serves for nothing else. Without hosts it is Enroll. Only authorities of suite std do, whose certificates TLS libraries know.
func (a *Authority) EnrollServer(r ca.EnrollRequest, hosts []string) (ca.IssueResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return ca.IssueResponse{Refusal: refusal}, nil
	}
	if own := a.Institution(); r.Institution != own {
		return ca.IssueResponse{Refusal: ca.Refuse(ca.Denied, "this authority issues for %q, not for %q", own, r.Institution)}, nil
	}
	for _, name := range []string{r.Agency, r.Name} {
		if err := checkName(name); name != "" && err != nil {
			return ca.IssueResponse{Refusal: ca.Refuse(ca.Malformed, "%v", err)}, nil
		}
	}
	for _, role := range r.Roles {
		if !roleForm.MatchString(string(role)) {
			return ca.IssueResponse{Refusal: ca.Refuse(ca.Malformed, "role %q: want lower-case letters, digits and -", role)}, nil
		}
	}
	if refusal := a.checkHosts(hosts, r.Roles); refusal != nil {
		return ca.IssueResponse{Refusal: refusal}, nil
	}
	key, refusal := a.request(r.CSR)
	if refusal != nil {
		return ca.IssueResponse{Refusal: refusal}, nil
	}
	subject := pkix.Name{Organization: []string{r.Institution}, CommonName: r.Name}
	if r.Agency != "" {
		subject.OrganizationalUnit = []string{r.Agency}
	}
	var out ca.IssueResponse
	err := a.exclusive(func() (err error) {
		out, err = a.issue(subject, r.Roles, hosts, key, r.At, r.NotAfter)
		return err
	})
	return out, err
}

// maxHosts is how many names and addresses a server's certificate may have.
const maxHosts = 32

// hostForm is that of DNS names (RFC 1123), with * for the first label if need be.
var hostForm = regexp.MustCompile(`^(\*\.)?([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

func (a *Authority) checkHosts(hosts []string, roles []identity.Role) *ca.Refusal {
	if len(hosts) == 0 {
		return nil
	}
	if name := a.Suite().Name(); name != keys.Std().Name() {
		return ca.Refuse(ca.WrongAlgorithm, "an authority of suite %s issues no certificates for servers: TLS is international on every chain, so make an authority of suite std for them", name)
	}
	if len(roles) > 0 {
		return ca.Refuse(ca.WrongPurpose, "a server's certificate has hosts and no roles: issue one for each")
	}
	if len(hosts) > maxHosts {
		return ca.Refuse(ca.Malformed, "%d hosts, want at most %d", len(hosts), maxHosts)
	}
	for _, h := range hosts {
		if net.ParseIP(h) == nil && (len(h) > 253 || !hostForm.MatchString(h)) {
			return ca.Refuse(ca.Malformed, "host %q: want a DNS name or an IP address, without a port", h)
		}
	}
	return nil
}

// roleForm is that of roles that fit into a URI as they are.
var roleForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

func (a *Authority) request(csr []byte) (ledger.Key, *ca.Refusal) {
	key, err := a.lib.parseRequest(csr)
	if err != nil {
		return key, ca.Refuse(ca.Malformed, "the request for a certificate (PKCS #10) does not hold: %v", err)
	}
	return key, nil
}

// Renew issues a certificate in the place of another, as ca.Provider describes it. The one for encryption of a pair is not
// renewed by itself: its key was made by the authority, and what signs must be the holder's alone.
func (a *Authority) Renew(r ca.RenewRequest) (ca.IssueResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return ca.IssueResponse{Refusal: refusal}, nil
	}
	var out ca.IssueResponse
	err := a.exclusive(func() (err error) {
		out, err = a.renew(r)
		return err
	})
	return out, err
}

func (a *Authority) renew(r ca.RenewRequest) (ca.IssueResponse, error) {
	old, refusal, err := a.find(r.Serial)
	if refusal != nil || err != nil {
		return ca.IssueResponse{Refusal: refusal}, err
	}
	if old.encrypts() {
		return ca.IssueResponse{Refusal: ca.Refuse(ca.Denied, "certificate %s is for encryption: renew the one for signing of the pair, which brings a new one for encryption", old.serial)}, nil
	}
	at := time.UnixMilli(r.At)
	if at.After(old.notAfter) {
		return ca.IssueResponse{Refusal: ca.Refuse(ca.Expired, "certificate %s expired on %s: issue a new one", old.serial, timeText(old.notAfter))}, nil
	}
	l, err := a.list()
	if err != nil {
		return ca.IssueResponse{}, err
	}
	if e, ok := l.revoked[old.serial]; ok {
		return ca.IssueResponse{Refusal: revokedRefusal(old, time.UnixMilli(e.At), e.Reason)}, nil
	}
	key := old.key
	if len(r.CSR) > 0 {
		if key, refusal = a.request(r.CSR); refusal != nil {
			return ca.IssueResponse{Refusal: refusal}, nil
		}
	}
	var roles []identity.Role
	for _, role := range old.roles {
		roles = append(roles, identity.Role(role))
	}
	subject := pkix.Name{Organization: old.subject.Organization, OrganizationalUnit: old.subject.OrganizationalUnit, CommonName: old.subject.CommonName}
	return a.issue(subject, roles, old.hosts, key, r.At, r.NotAfter)
}

// errLocked says that an authority was opened without its key.
var errLocked = errors.New("the authority's key was not opened: this provider or command only looks at the authority")

// issue makes a certificate, for a server if there are hosts, and with suite gm a second one for encryption, and keeps them before
// anybody gets them. It is called by exclusive.
func (a *Authority) issue(subject pkix.Name, roles []identity.Role, hosts []string, key ledger.Key, at, notAfter int64) (ca.IssueResponse, error) {
	own := a.chain[0]
	begin := time.UnixMilli(at).UTC().Truncate(time.Second)
	end := time.UnixMilli(notAfter).UTC().Truncate(time.Second)
	if notAfter == 0 {
		if end = begin.Add(DefaultValidity); end.After(own.notAfter) {
			end = own.notAfter
		}
	}
	if begin.Before(own.notBefore) || end.After(own.notAfter) || !begin.Before(end) {
		return ca.IssueResponse{Refusal: ca.Refuse(ca.Denied, "this authority is itself valid from %s to %s, and issues nothing beyond that: make a new one in time", timeText(own.notBefore), timeText(own.notAfter))}, nil
	}
	template := &x509.Certificate{
		Subject: subject, NotBefore: begin, NotAfter: end, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, role := range roles {
		template.URIs = append(template.URIs, &url.URL{Scheme: "fondaco", Opaque: strings.TrimPrefix(rolePrefix, "fondaco:") + string(role)})
	}
	for _, h := range hosts {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	leaf, serial, err := a.sign(template, key)
	if err != nil {
		return ca.IssueResponse{}, err
	}
	issued := &ca.Issued{Chain: append([][]byte{leaf}, a.Chain()...)}
	kept := encodePEM("CERTIFICATE", leaf)
	if pair, ok := a.lib.(pairs); ok {
		public, enveloped, err := pair.encryptionKey(key)
		if err != nil {
			return ca.IssueResponse{}, fmt.Errorf("make the key for encryption: %w", err)
		}
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageKeyEncipherment|x509.KeyUsageDataEncipherment|x509.KeyUsageKeyAgreement, nil
		second, number, err := a.sign(template, public)
		if err == nil { // before the first, which is whole when it has both
			err = writeFile(a.issuedPath(number), encodePEM("CERTIFICATE", second))
		}
		if err != nil {
			return ca.IssueResponse{}, err
		}
		issued.Encryption = &ca.Encryption{Certificate: second, Key: enveloped}
		kept = slices.Concat(kept, encodePEM(EncryptionLabel, second), encodePEM(EnvelopeLabel, enveloped))
	}
	if err := writeFile(a.issuedPath(serial), kept); err != nil {
		return ca.IssueResponse{}, err
	}
	return ca.IssueResponse{Issued: issued}, nil
}

// Fetch returns once more what the holder of a certificate was given. The key for encryption is in its envelope, which only the
// holder opens, so that nothing is lost by who fetches it.
func (a *Authority) Fetch(serial string) (ca.IssueResponse, error) {
	c, refusal, err := a.find(serial)
	if refusal != nil || err != nil {
		return ca.IssueResponse{Refusal: refusal}, err
	}
	if c.encrypts() {
		return ca.IssueResponse{Refusal: ca.Refuse(ca.Denied, "certificate %s is for encryption: fetch it with the one for signing of the pair", c.serial)}, nil
	}
	out := &ca.Issued{Chain: append([][]byte{c.raw}, a.Chain()...)}
	data, err := readFile(a.issuedPath(serial))
	if err != nil {
		return ca.IssueResponse{}, err
	}
	second, envelope := blocks(data, EncryptionLabel), blocks(data, EnvelopeLabel)
	if len(second) == 1 && len(envelope) == 1 {
		out.Encryption = &ca.Encryption{Certificate: second[0], Key: envelope[0]}
	}
	return ca.IssueResponse{Issued: out}, nil
}

// pairs is a library whose authorities issue two certificates to a holder, the second for a key that they make.
type pairs interface {
	// encryptionKey makes a key and returns its public half, and its private one in an envelope that only the holder of key opens.
	encryptionKey(key ledger.Key) (public ledger.Key, enveloped []byte, err error)
}

// sign makes one certificate under a number that no other has.
func (a *Authority) sign(template *x509.Certificate, key ledger.Key) (der []byte, serial string, err error) {
	for {
		number, err := newSerial()
		if err != nil {
			return nil, "", err
		}
		template.SerialNumber, serial = number, serialText(number)
		if _, err := os.Lstat(a.issuedPath(serial)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, "", err
		}
	}
	if der, err = a.lib.create(template, a.chain[0], key, a.signer); err != nil {
		return nil, "", fmt.Errorf("issue a certificate: %w", err)
	}
	return der, serial, nil
}

func (a *Authority) issuedPath(serial string) string {
	return filepath.Join(a.folder, issuedDir, serial+".pem")
}

// serialForm is that of serial numbers as serialText writes them; nothing else becomes part of a path.
var serialForm = regexp.MustCompile(`^([0-9a-f]{2}){1,20}$`)

// find returns a certificate that the authority issued.
func (a *Authority) find(serial string) (*certificate, *ca.Refusal, error) {
	if !serialForm.MatchString(serial) {
		return nil, ca.Refuse(ca.UnknownSerial, "serial number %q: want hexadecimal digits as `fondaco ca show` prints them", serial), nil
	}
	found, err := readCertificates(a.lib, a.issuedPath(serial))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ca.Refuse(ca.UnknownSerial, "this authority issued no certificate %s: `fondaco ca show` lists them", serial), nil
	}
	if err != nil {
		return nil, nil, err
	}
	if err := a.lib.checkIssued(found[0], a.chain[0]); err != nil {
		return nil, nil, fmt.Errorf("%s was not issued by this authority: %w", a.issuedPath(serial), err)
	}
	return found[0], nil, nil
}

// Revoke ends a certificate's validity, as ca.Provider describes it, and issues a new revocation list, which is due as long after it as
// the one before.
func (a *Authority) Revoke(r ca.RevokeRequest) (ca.RevokeResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return ca.RevokeResponse{Refusal: refusal}, nil
	}
	c, refusal, err := a.find(r.Serial)
	if refusal != nil || err != nil {
		return ca.RevokeResponse{Refusal: refusal}, err
	}
	return ca.RevokeResponse{}, a.change(time.UnixMilli(r.At), 0, func(l *list) ([]x509.RevocationListEntry, bool) {
		if _, ok := l.revoked[c.serial]; ok {
			return nil, false
		}
		number, _ := new(big.Int).SetString(c.serial, 16)
		return append(l.entries, x509.RevocationListEntry{SerialNumber: number, RevocationTime: time.UnixMilli(r.At).UTC(), ReasonCode: int(r.Reason)}), true
	})
}

// Refresh issues the revocation list anew, so that it does not become stale; the next will be due after next.
func (a *Authority) Refresh(at time.Time, next time.Duration) error {
	return a.change(at, next, func(l *list) ([]x509.RevocationListEntry, bool) { return l.entries, true })
}

// change replaces the list by one with the entries that edit returns, unless edit says that there is nothing to do. With next zero
// the interval between lists stays.
func (a *Authority) change(at time.Time, next time.Duration, edit func(*list) ([]x509.RevocationListEntry, bool)) error {
	return a.exclusive(func() error {
		l, err := a.list()
		if err != nil {
			return err
		}
		entries, changed := edit(l)
		if !changed {
			return nil
		}
		if next == 0 {
			next = cmp.Or(max(l.nextUpdate.Sub(l.issued), 0), DefaultNext)
		}
		return a.writeList(entries, new(big.Int).Add(l.number, big.NewInt(1)), at, next)
	})
}

// exclusive lets nobody else change the authority meanwhile, in this process or another.
func (a *Authority) exclusive(do func() error) error {
	if a.signer == nil {
		return errLocked
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	unlock, err := lock(filepath.Join(a.folder, lockFile))
	if err != nil {
		return err
	}
	defer unlock()
	if !a.swept {
		if err := a.sweep(); err != nil {
			return err
		}
		a.swept = true
	}
	return do()
}

// sweep removes files that were being written when a process was killed: nobody else writes now.
func (a *Authority) sweep() error {
	for _, dir := range []string{a.folder, filepath.Join(a.folder, issuedDir)} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), freshPrefix) {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *Authority) writeList(entries []x509.RevocationListEntry, number *big.Int, at time.Time, next time.Duration) error {
	if len(entries) > ca.MaxListed {
		return fmt.Errorf("the revocation list is full with %d certificates: make a new authority", len(entries))
	}
	at = at.UTC().Truncate(time.Second)
	der, err := a.lib.createList(&x509.RevocationList{
		Number: number, ThisUpdate: at, NextUpdate: at.Add(next), RevokedCertificateEntries: entries,
	}, a.chain[0], a.signer)
	if err != nil {
		return fmt.Errorf("issue the revocation list: %w", err)
	}
	return writeFile(filepath.Join(a.folder, ListFile), encodePEM("X509 CRL", der))
}

// list reads the authority's revocation list. Without it, the authority no longer knows what it revoked.
func (a *Authority) list() (*list, error) {
	path := filepath.Join(a.folder, ListFile)
	data, err := readFile(path)
	var l *list
	if err == nil {
		l, err = parseList(a.lib, data)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore the file from where it was published, because it is the only record of what was revoked", path, err)
	}
	if err := a.lib.checkList(l, a.chain[0]); err != nil {
		return nil, fmt.Errorf("%s is not signed by this authority: %w; restore it", path, err)
	}
	if l.number == nil {
		return nil, fmt.Errorf("%s has no number; restore it", path)
	}
	return l, nil
}

// List returns the revocation list.
func (a *Authority) List() (ca.List, error) {
	l, err := a.list()
	if err != nil {
		return ca.List{}, err
	}
	return l.public(), nil
}

// IssuedCertificate is what Issued tells of a certificate.
type IssuedCertificate struct {
	Serial      string          `json:"serial"`
	Name        string          `json:"name"`
	Institution string          `json:"institution"`
	Agency      string          `json:"agency,omitempty"`
	Roles       []identity.Role `json:"roles"`
	NotBefore   time.Time       `json:"not_before"`
	NotAfter    time.Time       `json:"not_after"`
	Encryption  bool            `json:"encryption,omitempty"` // the second of a pair
	Revoked     *ca.Entry       `json:"revoked,omitempty"`
}

// Issued returns the certificates that the authority issued, by beginning and serial number.
func (a *Authority) Issued() ([]IssuedCertificate, error) {
	l, err := a.list()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(a.folder, issuedDir))
	if err != nil {
		return nil, err
	}
	if len(entries) > maxFolders {
		return nil, fmt.Errorf("the authority issued %d certificates, and this lists at most %d: make a new authority", len(entries), maxFolders)
	}
	var all []IssuedCertificate
	for _, e := range entries {
		serial, ok := strings.CutSuffix(e.Name(), ".pem")
		if !ok || !serialForm.MatchString(serial) {
			continue // what a crash left
		}
		c, refusal, err := a.find(serial)
		if refusal != nil {
			err = refusal
		}
		if err != nil {
			return nil, err
		}
		out := IssuedCertificate{
			Serial: c.serial, Name: c.subject.CommonName, NotBefore: c.notBefore, NotAfter: c.notAfter,
			Institution: strings.Join(c.subject.Organization, ", "), Agency: strings.Join(c.subject.OrganizationalUnit, ", "),
			Encryption: c.encrypts(),
		}
		for _, role := range c.roles {
			out.Roles = append(out.Roles, identity.Role(role))
		}
		if entry, ok := l.revoked[c.serial]; ok {
			out.Revoked = &entry
		}
		all = append(all, out)
	}
	slices.SortFunc(all, func(x, y IssuedCertificate) int {
		return cmp.Or(x.NotBefore.Compare(y.NotBefore), strings.Compare(x.Serial, y.Serial))
	})
	return all, nil
}

// Request makes a request for a certificate (PKCS #10, DER) for a key that Enroll takes.
func Request(s keys.Suite, key keys.Signer, name string) ([]byte, error) {
	lib := libraryOf(s)
	signer, err := lib.signer(key)
	if err != nil {
		return nil, err
	}
	return lib.createRequest(pkix.Name{CommonName: name}, signer)
}

// RequestBy is Request for a key of suite std that is in a device. sign is given a message for Ed25519 and the SHA-256 hash of one for P-256, and
// returns the signature as keys have it, in 64 bytes. One that does not verify makes no request.
func RequestBy(key keys.PublicKey, sign func([]byte) ([]byte, error), name string) ([]byte, error) {
	lib := std{keys.Std()}
	public, err := lib.public(ledger.KeyOf(key))
	if err != nil {
		return nil, err
	}
	return lib.createRequest(pkix.Name{CommonName: name}, distant{public, sign})
}

// RequestKey returns the key that a request for a certificate (PKCS #10, DER) is for, and that signed it.
func RequestKey(s keys.Suite, der []byte) (ledger.Key, error) { return libraryOf(s).parseRequest(der) }

func encodePEM(label string, ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})...)
	}
	return out
}

// freshPrefix begins the names of files that are being written.
const freshPrefix = ".new-"

// writeFile replaces a file so that a crash leaves the old one or the new one: write aside, sync, rename, sync the folder.
func writeFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), freshPrefix)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncDir(filepath.Dir(path))
}
