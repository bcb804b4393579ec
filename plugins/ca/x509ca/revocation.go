package x509ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/fondaco/fondaco/plugins/ca"
)

// revocation tells which certificates of a PKI were revoked. When it knows nothing that is fresh enough, no certificate
// counts. Its methods are safe for concurrent use.
type revocation struct {
	lib       library
	maxAge    time.Duration // 0: as a list or answer says itself
	files     []*listFile
	responder *responder // nil: none
}

func newRevocation(lib library, t Trust) (*revocation, error) {
	r := &revocation{lib: lib}
	if t.MaxAge != "" {
		var err error
		if r.maxAge, err = time.ParseDuration(t.MaxAge); err != nil {
			return nil, fmt.Errorf("max_age: %w", err)
		}
	}
	for _, path := range t.CRL {
		f := &listFile{lib: lib, path: path}
		if _, err := f.read(); err != nil {
			return nil, fmt.Errorf("crl: %w", err)
		}
		r.files = append(r.files, f)
	}
	if t.OCSP != "" {
		if _, ok := lib.(std); !ok {
			return nil, fmt.Errorf("ocsp: there is no OCSP for suite %s here; name revocation lists in crl", lib.suite().Name())
		}
		r.responder = newResponder(t.OCSP)
	}
	return r, nil
}

// check refuses a certificate that was revoked, or of which nothing fresh is known. holder says that it is no authority's.
func (r *revocation) check(ctx context.Context, c, issuer *certificate, holder bool, at time.Time) (*ca.Refusal, error) {
	l, unusable := r.newest(issuer)
	if l != nil {
		if refusal := r.stale("the revocation list of "+issuer.name(), l.issued, l.nextUpdate, holder, at); refusal != nil {
			return refusal, nil
		}
		if e, ok := l.revoked[c.serial]; ok {
			return revokedRefusal(c, time.UnixMilli(e.At), e.Reason), nil
		}
		return nil, nil
	}
	if r.responder == nil {
		why := ""
		if unusable != nil {
			why = fmt.Sprintf(" (one does not count: %v)", unusable)
		}
		return ca.Refuse(ca.StaleList, "there is no revocation list of %s%s, so the certificate of %s does not count: name a file with one in crl", issuer.name(), why, c.name()), nil
	}
	status, err := r.responder.ask(ctx, c, issuer, at)
	if err != nil {
		return nil, err
	}
	if refusal := r.stale("the answer of "+r.responder.url, status.ThisUpdate, status.NextUpdate, holder, at); refusal != nil {
		return refusal, nil
	}
	switch status.Status {
	case ocsp.Good:
		return nil, nil
	case ocsp.Revoked:
		return revokedRefusal(c, status.RevokedAt, reasonOf(status.RevocationReason)), nil
	default:
		return ca.Refuse(ca.UnknownSerial, "the responder %s knows no certificate %s of %s", r.responder.url, c.serial, issuer.name()), nil
	}
}

func revokedRefusal(c *certificate, at time.Time, reason ca.Reason) *ca.Refusal {
	return ca.Refuse(ca.Revoked, "the certificate of %s, serial %s, was revoked on %s (%v)", c.name(), c.serial, timeText(at), reason)
}

// stale refuses what was signed too long ago.
func (r *revocation) stale(what string, issued, next time.Time, holder bool, at time.Time) *ca.Refusal {
	age := at.Sub(issued).Truncate(time.Second)
	switch {
	case !next.IsZero() && at.After(next):
		return ca.Refuse(ca.StaleList, "%s is %s old, and a newer one was due on %s: fetch it, or look why its authority issues none", what, age, timeText(next))
	case r.maxAge > 0 && age > r.maxAge && (holder || next.IsZero()):
		return ca.Refuse(ca.StaleList, "%s is %s old, and max_age allows %s: fetch a newer one, or look why its authority issues none", what, age, r.maxAge)
	case r.maxAge == 0 && next.IsZero():
		return ca.Refuse(ca.StaleList, "%s is %s old and does not say when the next is due: set max_age", what, age)
	}
	return nil
}

// newest returns the issuer's list that was signed last, or nil and why one that names it does not count.
func (r *revocation) newest(issuer *certificate) (found *list, unusable error) {
	for _, f := range r.files {
		l, err := f.current()
		if l == nil {
			unusable = err
			continue
		}
		if !bytes.Equal(l.rawIssuer, issuer.rawSubject) {
			continue
		}
		if err := r.lib.checkList(l, issuer); err != nil {
			unusable = fmt.Errorf("%s: %w", f.path, err)
			continue
		}
		if l.partial != nil {
			unusable = fmt.Errorf("%s: %w", f.path, l.partial)
			continue
		}
		if found == nil || l.issued.After(found.issued) {
			found = l
		}
	}
	return found, unusable
}

// lists returns the lists as they are now.
func (r *revocation) lists() []ca.List {
	var all []ca.List
	for _, f := range r.files {
		l, _ := f.current()
		if l == nil {
			continue
		}
		all = append(all, l.public())
	}
	return all
}

// public returns the list as the contract has it.
func (l *list) public() ca.List {
	out := ca.List{Issuer: nameText(l.issuer), Issued: l.issued.UnixMilli(), Signed: l.raw}
	if l.number != nil {
		out.Number = serialText(l.number)
	}
	if !l.nextUpdate.IsZero() {
		out.NextUpdate = l.nextUpdate.UnixMilli()
	}
	for _, e := range l.entries {
		out.Revoked = append(out.Revoked, l.revoked[serialText(e.SerialNumber)])
	}
	return out
}

// listFile is a file with a revocation list. It is read again when it changes; a version that does not read back leaves the
// one before in force, which becomes stale in time.
type listFile struct {
	lib  library
	path string

	mu   sync.Mutex // guards what follows
	seen os.FileInfo
	list *list
	err  error // why the newest version of the file did not replace list
}

func (f *listFile) current() (*list, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		f.err = err
		return f.list, err
	}
	if f.seen == nil || !info.ModTime().Equal(f.seen.ModTime()) || info.Size() != f.seen.Size() || !os.SameFile(info, f.seen) {
		l, err := f.read()
		f.seen, f.err = info, err
		if err == nil {
			f.list = l
		}
	}
	return f.list, f.err
}

func (f *listFile) read() (*list, error) {
	data, err := readFile(f.path)
	if err != nil {
		return nil, err
	}
	found := blocks(data, "X509 CRL")
	if len(found) != 1 {
		return nil, fmt.Errorf("%s has %d revocation lists in PEM or DER, want 1", f.path, len(found))
	}
	l, err := f.lib.parseList(found[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return l, nil
}

// Limits of what a responder is trusted with.
const (
	maxAnswer   = 64 << 10        // bytes of an answer
	maxAnswers  = 4096            // that are remembered
	reuseAnswer = time.Minute     // how long an answer is used again before the responder is asked anew
	askTimeout  = 5 * time.Second // for an answer
)

// responder asks an OCSP responder (RFC 6960) and remembers its answers, so that one that is down for a short while stops nobody.
type responder struct {
	url    string
	client http.Client

	mu      sync.Mutex // guards answers
	answers map[[32]byte]answer
}

type answer struct {
	*ocsp.Response
	asked time.Time // by the time of the request
}

func newResponder(url string) *responder {
	return &responder{
		url: url, answers: make(map[[32]byte]answer),
		client: http.Client{Timeout: askTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// ask returns what the responder says of a certificate, now or within the last minute; or the last it said if it does not
// answer now, whose age the caller checks. The error says why there is nothing.
func (r *responder) ask(ctx context.Context, c, issuer *certificate, at time.Time) (*ocsp.Response, error) {
	key := sha256.Sum256(append(slices.Clone(issuer.raw), c.serial...))
	r.mu.Lock()
	known, ok := r.answers[key]
	r.mu.Unlock()
	if ok && at.Sub(known.asked).Abs() < reuseAnswer {
		return known.Response, nil
	}
	fresh, err := r.fetch(ctx, c.native.(*x509.Certificate), issuer.native.(*x509.Certificate), at)
	if err != nil {
		if ok {
			return known.Response, nil
		}
		return nil, fmt.Errorf("ask the responder %s about the certificate of %s: %w", r.url, c.name(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= maxAnswers {
		clear(r.answers)
	}
	r.answers[key] = answer{fresh, at}
	return fresh, nil
}

func (r *responder) fetch(ctx context.Context, c, issuer *x509.Certificate, at time.Time) (*ocsp.Response, error) {
	question, err := ocsp.CreateRequest(c, issuer, nil)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	status, err := ocsp.ParseResponseForCert(data, c, issuer)
	if err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	// The library checks that the issuer signed the responder's certificate, and not that it is one for this (RFC 6960 §4.2.2.2).
	if d := status.Certificate; d != nil && !d.Equal(issuer) {
		if !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return nil, fmt.Errorf("its answer is signed by %s, whose certificate is not for OCSP", nameText(d.Subject))
		}
		if at.Before(d.NotBefore) || at.After(d.NotAfter) {
			return nil, fmt.Errorf("the certificate of %s, which signed its answer, is valid from %s to %s", nameText(d.Subject), timeText(d.NotBefore), timeText(d.NotAfter))
		}
	}
	if status.Status != ocsp.Good && status.Status != ocsp.Revoked && status.Status != ocsp.Unknown {
		return nil, errors.New("its answer has no status")
	}
	return status, nil
}
