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

	askAtOnce  = 4                // calls of the CA provider, which has other nodes to judge too
	askWithin  = 2 * time.Second  // that one may take
	askAgain   = 30 * time.Second // that a verdict of the provider counts without asking again
	keptAtMost = time.Hour        // that it counts while the provider does not answer
)

// rolePrefix begins the URIs among a subject's alternative names that confer a role, as plugins/ca/x509ca writes them.
const rolePrefix = "fondaco:role:"

// certificates judges client certificates, and keeps for whom they stand.
type certificates struct {
	gate   *Gate
	asking chan struct{} // holds one for each call of the provider

	mu    sync.Mutex // guards known
	known map[[sha256.Size]byte]verdict
}

// verdict is who shows a chain.
type verdict struct {
	who   Subject
	until time.Time // when the chain ends, or what is known of its revocation
	age   uint64    // of the file of authorities
	asked time.Time // when the provider said so
}

func newCertificates(g *Gate) *certificates {
	return &certificates{gate: g, asking: make(chan struct{}, askAtOnce), known: map[[sha256.Size]byte]verdict{}}
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
	for _, one := range chain {
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(one.Raw)))) //nolint:errcheck // never fails
		hash.Write(one.Raw)                                                  //nolint:errcheck // never fails
	}
	id, now := [sha256.Size]byte(hash.Sum(nil)), c.gate.config.Now()
	c.mu.Lock()
	last, known := c.known[id]
	c.mu.Unlock()
	if known && now.After(last.until) {
		known = false
	}
	var s Subject
	var reason Reason
	var err error
	if c.gate.clients != nil {
		s, reason, err = c.byFile(id, last, known, chain, now)
	} else {
		s, reason, err = c.byProvider(ctx, id, last, known, chain, now)
	}
	if err == nil {
		s.Roles = c.gate.conferred(s)
	}
	return s, reason, err
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
func (c *certificates) keep(id [sha256.Size]byte, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.known[id]; !known && len(c.known) >= maxJudged {
		clear(c.known)
	}
	c.known[id] = v
}

func (c *certificates) forget(id [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, id)
}

func (c *certificates) byFile(id [sha256.Size]byte, last verdict, known bool, chain []*x509.Certificate, now time.Time) (Subject, Reason, error) {
	trusted, age, err := c.gate.clients.get()
	c.gate.note("clients", err)
	if err != nil {
		return unable("this node cannot read the authorities of client certificates: ask its operator, whose log says why")
	}
	if known && last.age == age {
		return last.who, "", nil
	}
	v, err := trusted.judge(chain, now)
	if err != nil {
		return bad("%v", err)
	}
	v.age = age
	c.keep(id, v)
	return v.who, "", nil
}

// byProvider asks the provider for each purpose that a client may have. While it does not answer, what it said last counts for a while.
func (c *certificates) byProvider(ctx context.Context, id [sha256.Size]byte, last verdict, known bool, chain []*x509.Certificate, now time.Time) (Subject, Reason, error) {
	if known && now.Sub(last.asked) < askAgain && !now.Before(last.asked) {
		return last.who, "", nil
	}
	who, err := c.ask(ctx, chain, now)
	if err == nil && !isKey(chain[0], who.Key) {
		err = ca.Refuse(ca.WrongPurpose, "the node's CA provider vouches for another key than that of the first certificate, which TLS has seen: send that which is meant first")
	}
	refusal, refused := errors.AsType[*ca.Refusal](err)
	switch {
	case err == nil:
		v := verdict{who: subjectOf(chain[0], who.Institution, who.Roles), until: who.NotAfter, asked: now}
		if v.until.IsZero() {
			v.until = chain[0].NotAfter
		}
		c.keep(id, v)
		return v.who, "", nil
	case refused:
		c.forget(id)
		return bad("%s", refusal.Reason)
	case known && now.Sub(last.asked) < keptAtMost:
		return last.who, "", nil
	default:
		return unable("this node's CA provider cannot be asked about the client certificate now: come again later, or use a token")
	}
}

// purposes are those for which somebody may use the API, the commonest first.
var purposes = []ca.Purpose{ca.User, ca.Admin, ca.Regulator}

func (c *certificates) ask(ctx context.Context, chain []*x509.Certificate, now time.Time) (who identity.Identity, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return who, ctx.Err()
	}
	var raw [][]byte
	for _, one := range chain {
		raw = append(raw, one.Raw)
	}
	for _, purpose := range purposes {
		who, err = ca.Verifier{Provider: c.gate.config.Provider, Suite: c.gate.config.Suite, Purpose: purpose}.Verify(ctx, raw, now)
		if refusal, refused := errors.AsType[*ca.Refusal](err); !refused || refusal.Code != ca.WrongPurpose {
			break
		}
	}
	return who, err
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

// authorities are what a file of clients' authorities holds.
type authorities struct {
	anchors, between *x509.CertPool
	lists            []revocations
}

// revocations is a revocation list of one of the authorities.
type revocations struct {
	issuer  *x509.Certificate
	next    time.Time // when the next is due; zero: never
	revoked map[string]time.Time
}

func parseAuthorities(data []byte) (*authorities, error) {
	a := &authorities{anchors: x509.NewCertPool(), between: x509.NewCertPool()}
	var all []*x509.Certificate
	var lists []*x509.RevocationList
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			one, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
			}
			if !one.BasicConstraintsValid || !one.IsCA {
				return nil, fmt.Errorf("the certificate of %s is not that of an authority, which issues others", short(one.Subject.String()))
			}
			all = append(all, one)
		case "X509 CRL":
			list, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("revocation list %d: %w", len(lists)+1, err)
			}
			lists = append(lists, list)
		default:
			return nil, fmt.Errorf("there is a PEM block %q, want CERTIFICATE and X509 CRL only", short(block.Type))
		}
	}
	if len(all) == 0 || len(all) > maxAuthorities || len(lists) > maxAuthorities {
		return nil, fmt.Errorf("it has %d certificates of authorities and %d revocation lists in PEM, want 1 to %d and at most %d", len(all), len(lists), maxAuthorities, maxAuthorities)
	}
	for _, one := range all {
		// An authority below another one of the file counts only through that, so that it can be revoked.
		if slices.ContainsFunc(all, func(parent *x509.Certificate) bool { return !parent.Equal(one) && issued(parent, one) }) {
			a.between.AddCert(one)
		} else {
			a.anchors.AddCert(one)
		}
	}
	for i, list := range lists {
		at := slices.IndexFunc(all, func(one *x509.Certificate) bool {
			return bytes.Equal(one.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(one) == nil
		})
		if at < 0 {
			return nil, fmt.Errorf("revocation list %d, of %s, is not signed by an authority of this file", i+1, short(list.Issuer.String()))
		}
		r := revocations{issuer: all[at], next: list.NextUpdate, revoked: map[string]time.Time{}}
		for _, e := range list.RevokedCertificateEntries {
			r.revoked[e.SerialNumber.String()] = e.RevocationTime
		}
		for _, e := range list.Extensions { // it covers only some certificates, see RFC 5280 §5.2
			if e.Critical {
				return nil, fmt.Errorf("revocation list %d, of %s, is a part of a list (critical extension %v): use a full one", i+1, short(list.Issuer.String()), e.Id)
			}
		}
		a.lists = append(a.lists, r)
	}
	return a, nil
}

func issued(parent, child *x509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, child.RawIssuer) && child.CheckSignatureFrom(parent) == nil
}

// judge says for whom a chain stands, or why it does not count.
func (a *authorities) judge(chain []*x509.Certificate, now time.Time) (verdict, error) {
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
	var first error
	for _, path := range paths {
		until, err := a.walk(path, now)
		if err == nil {
			who, err := holder(leaf)
			return verdict{who: who, until: until}, err
		}
		first = cmp.Or(first, err)
	}
	return verdict{}, first
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
			if l.next.IsZero() {
				continue
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
	var roles []identity.Role
	for _, u := range leaf.URIs {
		if role, ok := strings.CutPrefix(u.String(), rolePrefix); ok && len(role) <= ca.MaxRole && len(roles) < ca.MaxRoles {
			roles = append(roles, identity.Role(role))
		}
	}
	return subjectOf(leaf, leaf.Subject.Organization[0], roles), nil
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
