package login

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// Limits of client certificates.
const (
	maxAuthorities     = 64      // certificates, and revocation lists, in a file of clients' authorities
	maxAuthoritiesFile = 8 << 20 // bytes
	maxJudged          = 1024    // verdicts that are kept
	minRSA             = 2048    // bits from which an RSA key counts (NIST SP 800-131A)

	askAtOnce    = 4                                 // calls of the CA provider about clients that are known, and as many about others: it has nodes to judge too
	askWithin    = 2 * time.Second                   // that a request waits for an answer
	answerWithin = ca.DefaultTimeout + 5*time.Second // that the provider has for it
	askAgain     = 30 * time.Second                  // that a verdict of the provider counts without asking again
	keptBusy     = 2 * time.Minute                   // that it counts at most while the answer is not there yet
	keptAtMost   = time.Hour                         // that it counts at most while the provider says that it cannot tell, or does not run
)

// rolePrefix begins the URIs among a subject's alternative names that confer a role, as plugins/ca/x509ca writes them.
const rolePrefix = "fondaco:role:"

// certificates judges client certificates, and keeps for whom they stand.
//
// # A provider that is slow
//
// A verdict is asked for again after askAgain, and a request waits for the answer no longer than askWithin. The question goes on without
// it, so that an answer which comes later counts for the next request. One is put at a time about each holder, and half of the places are for those
// whose certificates counted before: neither strangers nor a holder with many chains keep the provider from being asked about
// others. Where it is so busy that the answer is not there after keptBusy, the client is refused until it is.
type certificates struct {
	gate   *Gate
	places [2]chan struct{} // each holds one for each call of the provider: about strangers, about those that are known

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	tasks  sync.WaitGroup // the calls; Add only under mu while closed is not set

	mu     sync.Mutex // guards what follows
	closed bool
	known  map[[sha256.Size]byte]verdict // by the hash of the holder's own certificate, the last chain that counted
	open   map[[sha256.Size]byte]*question
}

// verdict is who shows a chain.
type verdict struct {
	chain [sha256.Size]byte // hash of all its certificates
	who   Subject
	paths []identity.Path // by which it leads to what is trusted
	guest string          // the authority at which it ends, if that stands beside others and is bound to no institution; empty: else
	until time.Time       // when the chain ends, or what is known of its revocation
	age   uint64          // of the file of authorities
	asked time.Time       // when the provider said so
}

// question is a chain that the provider is asked about.
type question struct {
	chain [sha256.Size]byte
	done  chan struct{} // closed when what follows is set

	verdict verdict
	err     error // a *ca.Refusal, or why the provider cannot tell
}

// errBusy says that the answer is not there yet.
var errBusy = errors.New("the CA provider is busy")

func newCertificates(g *Gate) *certificates {
	c := &certificates{gate: g, known: map[[sha256.Size]byte]verdict{}, open: map[[sha256.Size]byte]*question{}}
	for i := range c.places {
		c.places[i] = make(chan struct{}, askAtOnce)
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// close ends the calls of the provider.
func (c *certificates) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.tasks.Wait()
}

func bad(format string, args ...any) (Subject, Reason, error) {
	return Subject{}, BadCertificate, unauthenticated("the client certificate does not count: "+format, args...)
}

func unable(format string, args ...any) (Subject, Reason, error) {
	return Subject{}, Unable, problem(http.StatusServiceUnavailable, client.CodeUnavailable, format, args...)
}

// judge says for whom a chain stands whose holder has shown that he has the first one's key.
func (c *certificates) judge(ctx context.Context, chain []*x509.Certificate) (Subject, Reason, error) {
	if len(chain) > ca.MaxChain {
		return bad("it comes with %d certificates, want at most %d: leave out those that do not lead to the root", len(chain), ca.MaxChain)
	}
	hash := sha256.New()
	for i, one := range chain {
		if err := identity.CheckForm(one.Raw); err != nil {
			return bad("certificate %d of its chain: %v", i+1, err)
		}
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(one.Raw)))) //nolint:errcheck // never fails
		hash.Write(one.Raw)                                                  //nolint:errcheck // never fails
	}
	id, holder, now := [sha256.Size]byte(hash.Sum(nil)), sha256.Sum256(chain[0].Raw), c.gate.config.Now()
	c.mu.Lock()
	v, known := c.known[holder]
	c.mu.Unlock()
	known = known && v.chain == id && !now.After(v.until)
	if c.gate.clients != nil {
		trusted, age, err := c.gate.authorities()
		if err != nil {
			return unable("this node cannot read the authorities of client certificates: ask its operator, whose log says why")
		}
		if !known || v.age != age {
			if v, err = trusted.judge(chain, now, c.gate.config.Suite); err != nil {
				return bad("%v", err)
			}
			v.chain, v.age = id, age
			c.keep(holder, v)
		}
	} else if since := now.Sub(v.asked); !known || since < 0 || since >= askAgain {
		fresh, err := c.ask(ctx, holder, id, known, chain)
		refusal, refused := errors.AsType[*ca.Refusal](err)
		busy := errors.Is(err, errBusy)
		switch {
		case err == nil:
			v = fresh
		case refused:
			return bad("%s", refusal.Reason)
		case known && since >= 0 && (since < keptBusy || since < keptAtMost && !busy):
		case busy:
			return unable("this node's CA provider has not said in time whether the client certificate counts, and goes on being asked: come again in a few seconds, or use a token")
		default:
			return unable("this node's CA provider cannot be asked about the client certificate now: come again later, or use a token")
		}
	}
	if v.guest != "" {
		return c.gate.guest(v)
	}
	v.who.Roles = c.gate.conferred(v.who)
	return c.gate.accepted(v.who, v.paths)
}

// guest judges for whom a certificate stands whose authority is one of several and bound to no institution. It could name any as the
// holder's, so the holder is of none, and reads and submits what everybody may.
func (g *Gate) guest(v verdict) (Subject, Reason, error) {
	const unbound = "%s, to which it leads, is one of several authorities that this node trusts for clients, and bound to no institution there: have its operator bind it (`fondaco ca clients`)"
	if g.config.Institution != nil && v.who.Institution == g.config.Institution() {
		return bad("it names %s, the node's own institution, and "+unbound, short(v.who.Institution), v.guest)
	}
	s := v.who
	s.Roles = slices.DeleteFunc(slices.Clone(s.Roles), func(r identity.Role) bool {
		return slices.ContainsFunc(rights[r], func(has Right) bool { return has != Read && has != Submit })
	})
	if len(s.Roles) < len(v.who.Roles) {
		s.lost = fmt.Sprintf(unbound, v.guest)
	}
	s, reason, err := g.accepted(s, v.paths)
	s.Institution = ""
	return s, reason, err
}

// accepted asks what the chain says of who shows a certificate now. That takes microseconds, some tens of them for many
// roots and roles, so nothing of the answer is kept.
func (g *Gate) accepted(s Subject, paths []identity.Path) (Subject, Reason, error) {
	if g.config.Check == nil || len(s.Roles) == 0 {
		return s, "", nil
	}
	roles, err := g.config.Check(s.Institution, s.Roles, paths)
	refusal, refused := errors.AsType[*ca.Refusal](err)
	switch {
	case err != nil && !refused:
		return unable("this node cannot tell what the chain says of the client certificate: ask its operator; %s", short(err.Error()))
	case refused && len(roles) == 0:
		return bad("%s", refusal.Reason)
	case refused:
		s.lost = cmp.Or(s.lost, refusal.Reason)
	}
	s.Roles = roles
	return s, "", nil
}

// conferred returns the roles of who shows a certificate, without those that only the node's own institution confers: the authorities
// that a node trusts vouch for the people of all banks, and another bank's operator is not this one's.
func (g *Gate) conferred(s Subject) []identity.Role {
	own := []identity.Role{identity.Operator, identity.InstitutionAdmin, Monitor}
	has := func(r identity.Role) bool { return slices.Contains(own, r) }
	if !slices.ContainsFunc(s.Roles, has) || g.config.Institution != nil && s.Institution != "" && s.Institution == g.config.Institution() {
		return s.Roles
	}
	return slices.DeleteFunc(slices.Clone(s.Roles), has)
}

// keep remembers a verdict. They are forgotten all at once, which costs each client one more judgement.
func (c *certificates) keep(holder [sha256.Size]byte, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.known[holder]; !known && len(c.known) >= maxJudged {
		clear(c.known)
	}
	c.known[holder] = v
}

// ask returns what the provider says of a chain, a *ca.Refusal where it refuses, errBusy if it has not said it in time, or why it cannot tell.
func (c *certificates) ask(ctx context.Context, holder, id [sha256.Size]byte, known bool, chain []*x509.Certificate) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	place := c.places[0]
	if known {
		place = c.places[1]
	}
	for {
		c.mu.Lock()
		q := c.open[holder]
		c.mu.Unlock()
		if q == nil {
			select {
			case place <- struct{}{}:
			case <-ctx.Done():
				return verdict{}, errBusy
			}
			q = c.begin(holder, id, place, chain)
		}
		select {
		case <-q.done:
			if q.chain == id {
				return q.verdict, q.err
			}
		case <-ctx.Done():
			return verdict{}, errBusy
		}
	}
}

// begin puts a question, for which a place was taken, unless another one about the holder is open.
func (c *certificates) begin(holder, id [sha256.Size]byte, place chan struct{}, chain []*x509.Certificate) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.open[holder]; q != nil {
		<-place
		return q
	}
	q := &question{chain: id, done: make(chan struct{})}
	if c.closed {
		<-place
		q.err = errors.New("this node stops")
		close(q.done)
		return q
	}
	c.open[holder] = q
	c.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, answerWithin)
		defer cancel()
		q.verdict, q.err = c.call(ctx, chain)
		q.verdict.chain = id
		<-place
		if q.err == nil {
			c.keep(holder, q.verdict)
		}
		c.mu.Lock()
		if _, refused := errors.AsType[*ca.Refusal](q.err); refused {
			delete(c.known, holder)
		}
		delete(c.open, holder)
		c.mu.Unlock()
		close(q.done)
	})
	return q
}

// purposes are those for which somebody may use the API, the commonest first.
var purposes = []ca.Purpose{ca.User, ca.Admin, ca.Regulator}

// call asks the provider for each purpose that a client may have.
func (c *certificates) call(ctx context.Context, chain []*x509.Certificate) (v verdict, err error) {
	var raw [][]byte
	for _, one := range chain {
		raw = append(raw, one.Raw)
	}
	now := c.gate.config.Now()
	var who identity.Identity
	for _, purpose := range purposes {
		who, err = ca.Verifier{Provider: c.gate.config.Provider, Suite: c.gate.config.Suite, Purpose: purpose}.Verify(ctx, raw, now)
		if refusal, refused := errors.AsType[*ca.Refusal](err); !refused || refusal.Code != ca.WrongPurpose {
			break
		}
	}
	switch {
	case err != nil:
		return v, err
	case !isKey(chain[0], who.Key):
		return v, ca.Refuse(ca.WrongPurpose, "the node's CA provider vouches for another key than that of the first certificate, which TLS has seen: send that which is meant first")
	}
	v = verdict{who: subjectOf(chain[0], who.Institution, who.Roles), paths: who.Paths, until: who.NotAfter, asked: now}
	if v.until.IsZero() {
		v.until = chain[0].NotAfter
	}
	return v, nil
}

// isKey reports whether a certificate is for a key. A provider may vouch for any certificate of a chain, and TLS proves the first one's key alone.
func isKey(leaf *x509.Certificate, key keys.PublicKey) bool {
	switch public := leaf.PublicKey.(type) {
	case ed25519.PublicKey:
		return key.Algorithm() == keys.Ed25519 && bytes.Equal(key.Bytes(), public)
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil || public.Curve != elliptic.P256() {
			return false
		}
		compressed := append([]byte{2 + point[len(point)-1]&1}, point[1:33]...) // SEC 1 §2.3.3
		return key.Algorithm() == keys.P256 && bytes.Equal(key.Bytes(), compressed)
	}
	return false
}

func subjectOf(leaf *x509.Certificate, institution string, roles []identity.Role) Subject {
	return Subject{Name: cmp.Or(leaf.Subject.CommonName, "serial number "+leaf.SerialNumber.Text(16)), Institution: institution, Means: "certificate", Roles: roles}
}

// institutionHeader is the header of a certificate's PEM block that binds the authority to an institution. Bind writes it.
const institutionHeader = "Institution"

// authorities are what a file of clients' authorities holds.
type authorities struct {
	anchors, between *x509.CertPool
	alone            bool                           // the anchors are of one authority
	bound            map[[sha256.Size]byte][]string // for which institutions an authority vouches, by authorityOf; none: it is not bound
	lists            []revocations
	unlisted         []string // subjects of those that have no list,
	unbound          []string // of the anchors that stand beside others and are not bound,
	vouch            []string // and of those that are, each with its institutions
	last             Clients
}

// revocations is a revocation list of one of the authorities.
type revocations struct {
	issuer  *x509.Certificate
	next    time.Time // when the next is due
	revoked map[string]time.Time
}

// authorityFile is what a file of authorities holds, as it is.
type authorityFile struct {
	certificates []*x509.Certificate // each once
	institutions [][]string          // of each certificate, what its headers say
	lists        []*x509.RevocationList
}

func readAuthorities(data []byte) (*authorityFile, error) {
	f := new(authorityFile)
	blocks := 0
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		text := data[:len(data)-len(rest)]
		data = rest
		switch block.Type {
		case "CERTIFICATE":
			blocks++
			one, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", blocks, err)
			}
			name := short(one.Subject.String())
			if err := identity.CheckForm(one.Raw); err != nil {
				return nil, fmt.Errorf("the certificate of %s does not count: %w", name, err)
			}
			if !one.BasicConstraintsValid || !one.IsCA {
				return nil, fmt.Errorf("the certificate of %s is not that of an authority, which issues others", name)
			}
			at := slices.IndexFunc(f.certificates, one.Equal)
			if at < 0 {
				at = len(f.certificates)
				f.certificates, f.institutions = append(f.certificates, one), append(f.institutions, nil)
			}
			if len(block.Headers) == 0 {
				continue
			}
			headers := 0 // of one that is there twice the PEM decoder tells the last
			for line := range bytes.Lines(text[bytes.LastIndex(text, []byte("-----BEGIN ")):]) {
				if bytes.ContainsRune(line, ':') {
					headers++
				}
			}
			institution, ok := block.Headers[institutionHeader]
			if !ok || headers != 1 {
				return nil, fmt.Errorf("the PEM block of %s has other headers than one %q: `fondaco ca clients` writes it; one that vouches for several institutions is there once for each", name, institutionHeader+": NAME")
			}
			if err := checkInstitution(institution); err != nil {
				return nil, fmt.Errorf("the PEM block of %s: %w", name, err)
			}
			f.institutions[at] = append(f.institutions[at], institution)
		case "X509 CRL":
			list, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("revocation list %d: %w", len(f.lists)+1, err)
			}
			f.lists = append(f.lists, list)
		default:
			return nil, fmt.Errorf("there is a PEM block %q, want CERTIFICATE and X509 CRL only", short(block.Type))
		}
	}
	if blocks == 0 || blocks > maxAuthorities || len(f.lists) > maxAuthorities {
		return nil, fmt.Errorf("it has %d certificates of authorities and %d revocation lists in PEM, want 1 to %d and at most %d", blocks, len(f.lists), maxAuthorities, maxAuthorities)
	}
	return f, nil
}

func checkInstitution(name string) error {
	if name == "" || len(name) > ca.MaxText || strings.TrimSpace(name) != name || strings.ToValidUTF8(name, "") != name || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%q is no name of an institution: want 1 to %d bytes of text without spaces at its ends", short(name), ca.MaxText)
	}
	return nil
}

// Bind returns a file of clients' authorities, see Files.Clients, with the header that binds each to an institution, and their subjects. Headers
// that were there are not kept. It fails if the file is none.
func Bind(data []byte, institution string) (bound []byte, subjects []string, err error) {
	if err := checkInstitution(institution); err != nil {
		return nil, nil, err
	}
	f, err := readAuthorities(data)
	if err == nil {
		_, err = f.authorities()
	}
	if err != nil {
		return nil, nil, err
	}
	for _, one := range f.certificates {
		bound = append(bound, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{institutionHeader: institution}, Bytes: one.Raw})...)
		subjects = append(subjects, short(one.Subject.String()))
	}
	for _, list := range f.lists {
		bound = append(bound, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw})...)
	}
	return bound, subjects, nil
}

func parseAuthorities(data []byte) (*authorities, error) {
	f, err := readAuthorities(data)
	if err != nil {
		return nil, err
	}
	return f.authorities()
}

func (f *authorityFile) authorities() (*authorities, error) {
	a := &authorities{anchors: x509.NewCertPool(), between: x509.NewCertPool(), bound: map[[sha256.Size]byte][]string{}}
	var names []string
	for i, one := range f.certificates {
		names = append(names, short(one.Subject.String()))
		for _, institution := range f.institutions[i] {
			if id := authorityOf(one); !slices.Contains(a.bound[id], institution) {
				a.bound[id] = append(a.bound[id], institution)
			}
		}
	}
	var seen, anchors [][sha256.Size]byte
	for i, one := range f.certificates {
		id := authorityOf(one)
		if bound := a.bound[id]; bound != nil && !slices.Contains(seen, id) {
			a.vouch = append(a.vouch, fmt.Sprintf("%s for %s", names[i], short(strings.Join(bound, ", "))))
		}
		seen = append(seen, id)
		// An authority below another one of the file counts only through that, so that it can be revoked. A root is below none: what else
		// verifies its signature is the same root, renewed.
		if !issued(one, one) && slices.ContainsFunc(f.certificates, func(parent *x509.Certificate) bool { return !parent.Equal(one) && issued(parent, one) }) {
			a.between.AddCert(one)
			continue
		}
		a.anchors.AddCert(one)
		if slices.Contains(anchors, id) {
			continue
		}
		anchors = append(anchors, id)
		if a.bound[id] == nil {
			a.unbound = append(a.unbound, names[i])
		}
	}
	switch len(anchors) {
	case 0:
		return nil, fmt.Errorf("each of its authorities was issued by another of them, so that none is the one to trust: %s; add the root's own certificate, which it signed itself", short(strings.Join(names, "; ")))
	case 1:
		a.alone, a.unbound = true, nil
	}
	for i, list := range f.lists {
		name := fmt.Sprintf("revocation list %d, of %s,", i+1, short(list.Issuer.String()))
		if slices.Contains([]x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1}, list.SignatureAlgorithm) { // the library refuses such certificates, and takes lists
			return nil, fmt.Errorf("%s is signed with %v, which others can forge: have its authority sign with SHA-256", name, list.SignatureAlgorithm)
		}
		at := slices.IndexFunc(f.certificates, func(one *x509.Certificate) bool {
			return bytes.Equal(one.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(one) == nil
		})
		if at < 0 {
			return nil, fmt.Errorf("%s is not signed by an authority of this file", name)
		}
		if list.NextUpdate.IsZero() { // then an old one could be kept in its place for ever
			return nil, fmt.Errorf("%s does not say when the next one is due: have its authority make lists that do (nextUpdate)", name)
		}
		r := revocations{issuer: f.certificates[at], next: list.NextUpdate, revoked: map[string]time.Time{}}
		for _, e := range list.RevokedCertificateEntries {
			r.revoked[e.SerialNumber.String()] = e.RevocationTime
		}
		for _, e := range list.Extensions { // it covers only some certificates, see RFC 5280 §5.2
			if e.Critical {
				return nil, fmt.Errorf("%s is a part of a list (critical extension %v): use a full one", name, e.Id)
			}
		}
		a.lists = append(a.lists, r)
	}
	for i, one := range f.certificates {
		id := authorityOf(one)
		if slices.Index(seen, id) == i && !slices.ContainsFunc(a.lists, func(r revocations) bool { return authorityOf(r.issuer) == id }) {
			a.unlisted = append(a.unlisted, names[i])
		}
	}
	a.last = f.last()
	return a, nil
}

// Clients is until when the authorities of a file of clients' authorities count, and their revocation lists. Of several of one name each slice has the
// one that ends first.
type Clients struct {
	Authorities []Authority
	Lists       []List
}

// Authority is an authority in such a file.
type Authority struct {
	Subject string    // UTF-8
	Ends    time.Time // of its certificate, the last one if it was renewed: then it lets nobody in
}

// List is a revocation list in such a file.
type List struct {
	Issuer string    // UTF-8
	Issued time.Time // by the authority
	Next   time.Time // when the authority will have issued the next: then the authority lets nobody in
}

func (f *authorityFile) last() (c Clients) {
	ends := map[[sha256.Size]byte]time.Time{}
	for _, one := range f.certificates {
		if id := authorityOf(one); ends[id].Before(one.NotAfter) {
			ends[id] = one.NotAfter
		}
	}
	for _, one := range f.certificates {
		c.Authorities = append(c.Authorities, Authority{label(one.Subject), ends[authorityOf(one)]})
	}
	for _, list := range f.lists {
		c.Lists = append(c.Lists, List{label(list.Issuer), list.ThisUpdate, list.NextUpdate})
	}
	slices.SortFunc(c.Authorities, func(a, b Authority) int { return cmp.Or(strings.Compare(a.Subject, b.Subject), a.Ends.Compare(b.Ends)) })
	slices.SortFunc(c.Lists, func(a, b List) int { return cmp.Or(strings.Compare(a.Issuer, b.Issuer), a.Next.Compare(b.Next)) })
	c.Authorities = slices.CompactFunc(c.Authorities, func(a, b Authority) bool { return a.Subject == b.Subject })
	c.Lists = slices.CompactFunc(c.Lists, func(a, b List) bool { return a.Issuer == b.Issuer })
	return c
}

func label(name pkix.Name) string { return strings.ToValidUTF8(short(name.String()), "?") }

// authorityOf returns what tells an authority from others: the hash of its name and key. A renewed certificate is of the same authority.
func authorityOf(one *x509.Certificate) [sha256.Size]byte {
	name := sha256.Sum256(one.RawSubject)
	return sha256.Sum256(append(name[:], one.RawSubjectPublicKeyInfo...))
}

func issued(parent, child *x509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, child.RawIssuer) && child.CheckSignatureFrom(parent) == nil
}

// judge says for whom a chain stands, and by which paths, with fingerprints under the chain's suite; or why it does not count.
func (a *authorities) judge(chain []*x509.Certificate, now time.Time, suite keys.Suite) (verdict, error) {
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		return verdict{}, fmt.Errorf("it expired on %s, and it is %s: have it renewed", timeText(leaf.NotAfter), timeText(now))
	}
	if now.Before(leaf.NotBefore) {
		return verdict{}, fmt.Errorf("it is valid from %s, and it is %s: check the clocks, or wait", timeText(leaf.NotBefore), timeText(now))
	}
	between := a.between.Clone()
	for _, one := range chain[1:] {
		between.AddCert(one)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{Roots: a.anchors, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
			return verdict{}, fmt.Errorf("%s, which issued it, is none of the authorities that this node trusts for clients, nor below one: send the certificates between, or have its operator add the authority", short(leaf.Issuer.String()))
		}
		return verdict{}, errors.New(short(err.Error()))
	}
	who, err := holder(leaf)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{who: who}
	var first error
	for _, path := range paths {
		until, err := a.walk(path, now)
		var guest bool
		if err == nil {
			guest, err = a.vouches(path, who.Institution)
		}
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		root := path[len(path)-1]
		switch one := (identity.Path{Leaf: identity.Fingerprint(suite, leaf.Raw), Root: identity.Fingerprint(suite, root.Raw)}); {
		case v.paths == nil, v.guest != "" && !guest: // by which it is more than a guest
			v.paths, v.until, v.guest = []identity.Path{one}, until, ""
			if guest {
				v.guest = short(root.Subject.String())
			}
		case guest == (v.guest != ""):
			v.paths = append(v.paths, one)
			if until.Before(v.until) { // then it is looked at again by which of the paths it counts
				v.until = until
			}
		}
	}
	if v.paths == nil {
		return v, first
	}
	slices.SortFunc(v.paths, identity.Path.Compare)
	v.paths = slices.Compact(v.paths)
	return v, nil
}

// vouches returns nil if the authorities on a path may vouch for an institution, and whether none of them is bound to it while others stand beside their anchor.
func (a *authorities) vouches(path []*x509.Certificate, institution string) (guest bool, err error) {
	guest = !a.alone
	for _, one := range path[1:] {
		switch bound := a.bound[authorityOf(one)]; {
		case bound == nil:
		case !slices.Contains(bound, institution):
			return false, fmt.Errorf("it names the institution %s, and %s, to which it leads, vouches at this node for %s alone: have the authority of that institution issue one", short(institution), short(one.Subject.String()), short(strings.Join(bound, ", ")))
		default:
			guest = false
		}
	}
	return guest, nil
}

// walk returns until when a path to an anchor counts.
func (a *authorities) walk(path []*x509.Certificate, now time.Time) (time.Time, error) {
	until := path[0].NotAfter
	for i, one := range path {
		if one.NotAfter.Before(until) {
			until = one.NotAfter
		}
		if key, ok := one.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
			return until, fmt.Errorf("the RSA key of %s has %d bits: have it issued anew with %d or more", short(one.Subject.String()), key.N.BitLen(), minRSA)
		}
		if i == len(path)-1 {
			break
		}
		for _, l := range a.lists {
			if !bytes.Equal(l.issuer.RawSubject, one.RawIssuer) || !issued(l.issuer, one) {
				continue
			}
			if at, revoked := l.revoked[cmp.Or(one.SerialNumber, new(big.Int)).String()]; revoked {
				return until, fmt.Errorf("%s with serial number %s was revoked on %s: have a new one issued", short(one.Subject.String()), one.SerialNumber.Text(16), timeText(at))
			}
			if now.After(l.next) {
				return until, fmt.Errorf("the revocation list of %s should have been replaced on %s: the node's operator must bring a newer one", short(l.issuer.Subject.String()), timeText(l.next))
			}
			if l.next.Before(until) {
				until = l.next
			}
		}
	}
	return until, nil
}

// holder says who the subject of a certificate is.
func holder(leaf *x509.Certificate) (Subject, error) {
	if n := len(leaf.Subject.Organization); n != 1 || strings.TrimSpace(leaf.Subject.Organization[0]) == "" {
		return Subject{}, fmt.Errorf("it names %d organizations (O), want one, the institution", n)
	}
	if n := len(leaf.Subject.Organization[0]); n > ca.MaxText {
		return Subject{}, fmt.Errorf("its organization (O) has %d bytes, at most %d", n, ca.MaxText)
	}
	var roles []identity.Role
	for _, u := range leaf.URIs {
		if role, ok := strings.CutPrefix(u.String(), rolePrefix); ok && len(role) <= ca.MaxRole && len(roles) < ca.MaxRoles {
			roles = append(roles, identity.Role(role))
		}
	}
	return subjectOf(leaf, leaf.Subject.Organization[0], roles), nil
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
