package x509ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // in the names of certificates (RFC 6960), not in signatures
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/fondaco/fondaco/plugins/ca"
)

// revocation tells which certificates of a PKI were revoked. When it knows nothing that is fresh enough, no certificate
// counts. Its methods are safe for concurrent use.
//
// What an authority said later is not taken back: a list or an answer that is older than one seen before does not count. The memory of
// that ends with the program.
type revocation struct {
	lib       library
	maxAge    time.Duration // 0: as a list or answer says itself
	files     []*file[*list]
	responder *responder // nil: none

	mu   sync.Mutex                     // guards kept
	kept map[[sha256.Size]byte]keptList // by authority
}

// keptList is the newest list of an authority, and the file that it was in.
type keptList struct {
	*list
	path string
}

const (
	maxAuthorities = ca.MaxLists     // whose lists are kept
	maxSkew        = 5 * time.Minute // by which the clock of an authority may be ahead
)

func newRevocation(lib library, t Trust, warn func(string)) (*revocation, error) {
	r := &revocation{lib: lib, kept: map[[sha256.Size]byte]keptList{}}
	if t.MaxAge != "" {
		var err error
		if r.maxAge, err = time.ParseDuration(t.MaxAge); err != nil {
			return nil, fmt.Errorf("max_age: %w", err)
		}
	}
	for _, path := range t.CRL {
		f, err := newFile(path, warn, func(data []byte) (*list, error) { return parseList(lib, data) })
		if err != nil {
			return nil, fmt.Errorf("crl: %w", err)
		}
		r.files = append(r.files, f)
	}
	if t.OCSP != "" {
		if _, ok := lib.(std); !ok {
			return nil, fmt.Errorf("ocsp: there is no OCSP for suite %s here; name revocation lists in crl", lib.suite().Name())
		}
		r.responder = newResponder(t.OCSP, warn)
	}
	return r, nil
}

// check refuses a certificate that was revoked, or of which nothing fresh is known. The issuer must be on a valid way from a root, and
// checked before. holder says that it is no authority's.
func (r *revocation) check(ctx context.Context, c, issuer *certificate, holder bool, at time.Time) (*ca.Refusal, error) {
	l, unusable := r.newest(issuer, at)
	why := ""
	if unusable != nil {
		why = fmt.Sprintf(" (one does not count: %v)", unusable)
	}
	if l != nil {
		if refusal := r.stale("the revocation list of "+issuer.name()+why, l.issued, l.nextUpdate, holder, at); refusal != nil {
			return refusal, nil
		}
		if e, ok := l.revoked[c.serial]; ok {
			return revokedRefusal(c, time.UnixMilli(e.At), e.Reason), nil
		}
		return nil, nil
	}
	if r.responder == nil {
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
	case issued.After(at.Add(maxSkew)):
		return ca.Refuse(ca.StaleList, "%s is of %s, and it is %s: check the clocks", what, timeText(issued), timeText(at))
	case !next.IsZero() && at.After(next):
		return ca.Refuse(ca.StaleList, "%s is %s old, and a newer one was due on %s: fetch it, or look why its authority issues none", what, age, timeText(next))
	case r.maxAge > 0 && age > r.maxAge && (holder || next.IsZero()):
		return ca.Refuse(ca.StaleList, "%s is %s old, and max_age allows %s: fetch a newer one, or look why its authority issues none", what, age, r.maxAge)
	case r.maxAge == 0 && next.IsZero():
		return ca.Refuse(ca.StaleList, "%s is %s old and does not say when the next is due: set max_age", what, age)
	}
	return nil
}

// newest returns the list that the issuer signed last, or nil, and why one that names it does not count.
func (r *revocation) newest(issuer *certificate, at time.Time) (found *list, unusable error) {
	id := issuer.authorityID()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.kept[id]
	for _, f := range r.files {
		l, err := f.current()
		if !bytes.Equal(l.rawIssuer, issuer.rawSubject) {
			continue
		}
		if err != nil {
			unusable = err
		}
		if l == known.list {
			continue
		}
		if known.list != nil && l.before(known.list) {
			if known.path == f.path { // several files may have lists of one authority
				unusable = fmt.Errorf("%s: it has %s, and had %s: bring the newer one back", f.path, l.text(), known.list.text())
			}
			continue
		}
		if err := r.usable(l, issuer, at); err != nil {
			unusable = fmt.Errorf("%s: %w", f.path, err)
			continue
		}
		if known.list == nil && len(r.kept) >= maxAuthorities {
			return nil, fmt.Errorf("there are lists of %d authorities already", len(r.kept))
		}
		known = keptList{l, f.path}
		r.kept[id] = known
	}
	return known.list, unusable
}

// usable says why a list that names the issuer does not count, or returns nil.
func (r *revocation) usable(l *list, issuer *certificate, at time.Time) error {
	if l.flaw != nil {
		return l.flaw
	}
	if l.issued.After(at.Add(maxSkew)) {
		return fmt.Errorf("it is of %s, and it is %s: check the clocks", timeText(l.issued), timeText(at))
	}
	return r.lib.checkList(l, issuer)
}

// follow looks for the lists of the authorities of a way from a root, as far as none of them was revoked.
func (r *revocation) follow(path []*certificate, at time.Time) {
	for i, c := range slices.Backward(path) {
		l, _ := r.newest(c, at)
		if i == 0 || l == nil {
			continue
		}
		if _, revoked := l.revoked[path[i-1].serial]; revoked {
			return
		}
	}
}

// lists returns the lists that count, by the names of their authorities.
func (r *revocation) lists() []ca.List {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []ca.List
	for _, l := range r.kept {
		all = append(all, l.public())
	}
	slices.SortFunc(all, func(a, b ca.List) int {
		return cmp.Or(strings.Compare(a.Issuer, b.Issuer), bytes.Compare(a.Signed, b.Signed))
	})
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

// Limits of what a responder is trusted with.
const (
	maxAnswer   = 64 << 10         // bytes of an answer
	maxAnswers  = 4096             // that are remembered
	reuseAnswer = time.Minute      // how long an answer is used again before the responder is asked anew
	askTimeout  = 5 * time.Second  // for an answer
	askAgain    = time.Second      // the same where there is an earlier one, which counts if this one does not come
	silence     = 10 * time.Second // for which one that did not answer is not asked
)

// responder asks an OCSP responder (RFC 6960) and remembers its answers, so that one that is down for a short while stops nobody.
type responder struct {
	url    string
	client http.Client
	warn   func(string) // when it does not answer, and when it does again

	mu      sync.Mutex // guards what follows
	answers map[[32]byte]answer
	silent  error     // why it did not answer when it was asked last; nil: it did
	until   time.Time // by the clock: when it is asked again
}

type answer struct {
	*ocsp.Response
	asked time.Time // by the time of the request
}

func newResponder(url string, warn func(string)) *responder {
	return &responder{
		url: url, answers: make(map[[32]byte]answer), warn: warn,
		client: http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// ask returns what the responder says of a certificate, now or within the last minute; or the last it said if it does not
// answer now, whose age the caller checks. The error says why there is nothing.
func (r *responder) ask(ctx context.Context, c, issuer *certificate, at time.Time) (*ocsp.Response, error) {
	id := issuer.authorityID()
	key := sha256.Sum256(append(id[:], c.serial...))
	r.mu.Lock()
	known, ok := r.answers[key]
	err := r.silent
	if !time.Now().Before(r.until) {
		err = nil
	}
	r.mu.Unlock()
	if ok && at.Sub(known.asked).Abs() < reuseAnswer {
		return known.Response, nil
	}
	var fresh *ocsp.Response
	if err == nil {
		limit := askTimeout
		if ok {
			limit = askAgain
		}
		fresh, err = r.fetch(ctx, limit, c.native.(*x509.Certificate), issuer.native.(*x509.Certificate), at)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok = r.answers[key]
	if err == nil && ok && fresh.ThisUpdate.Before(known.ThisUpdate) {
		err = fmt.Errorf("its answer is of %s, and one of %s came before", timeText(fresh.ThisUpdate), timeText(known.ThisUpdate))
	}
	if err != nil {
		if ok {
			return known.Response, nil
		}
		return nil, fmt.Errorf("ask the responder %s about the certificate of %s: %w", r.url, c.name(), err)
	}
	if !ok && len(r.answers) >= maxAnswers {
		var oldest [32]byte
		var first time.Time
		for k, a := range r.answers {
			if first.IsZero() || a.asked.Before(first) {
				oldest, first = k, a.asked
			}
		}
		delete(r.answers, oldest)
	}
	r.answers[key] = answer{fresh, at}
	return fresh, nil
}

// heard notes whether the responder answered, which says nothing of the answer.
func (r *responder) heard(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.until = time.Now().Add(silence)
	}
	switch was := r.silent; {
	case was == nil && err != nil:
		r.warn(fmt.Sprintf("the responder %s does not answer, and what it said before counts until it is too old: %v", r.url, err))
	case was != nil && err == nil:
		r.warn(fmt.Sprintf("the responder %s answers again", r.url))
	}
	r.silent = err
}

// post has the responder answer a question.
func (r *responder) post(ctx context.Context, limit time.Duration, question []byte) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodPost, r.url, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	response, err := r.client.Do(request)
	if err == nil {
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			err = fmt.Errorf("it answered %s", response.Status)
		}
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	}
	if err != nil && ctx.Err() != nil {
		return nil, err // who asked did not wait
	}
	r.heard(err)
	if len(data) > maxAnswer {
		err = fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	return data, err
}

// fetch asks about a certificate and checks the answer.
func (r *responder) fetch(ctx context.Context, limit time.Duration, c, issuer *x509.Certificate, at time.Time) (*ocsp.Response, error) {
	question, err := ocsp.CreateRequest(c, issuer, nil)
	if err != nil {
		return nil, err
	}
	data, err := r.post(ctx, limit, question)
	if err != nil {
		return nil, err
	}
	status, err := ocsp.ParseResponseForCert(data, c, issuer)
	if err == nil {
		err = about(data, c, issuer)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("its answer: %w", err)
	case !strong(status.SignatureAlgorithm):
		return nil, fmt.Errorf("its answer is signed with %v, and only SHA-256 or better counts", status.SignatureAlgorithm)
	case status.ThisUpdate.After(at.Add(maxSkew)) || status.ProducedAt.After(at.Add(maxSkew)):
		return nil, fmt.Errorf("its answer is of %s, and it is %s: check the clocks", timeText(status.ThisUpdate), timeText(at))
	}
	// The library checks that the issuer signed the responder's certificate, and not that it is one for this (RFC 6960 §4.2.2.2).
	if d := status.Certificate; d != nil && !d.Equal(issuer) {
		weak := weakKey(d.PublicKey)
		if !strong(d.SignatureAlgorithm) {
			weak = fmt.Errorf("it is signed with %v", d.SignatureAlgorithm)
		}
		switch {
		case weak != nil:
			return nil, fmt.Errorf("the certificate of %s, which signed its answer, does not count: %w", nameText(d.Subject), weak)
		case !slices.Contains(d.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			return nil, fmt.Errorf("its answer is signed by %s, whose certificate is not for OCSP", nameText(d.Subject))
		case d.KeyUsage != 0 && d.KeyUsage&x509.KeyUsageDigitalSignature == 0 || len(d.UnhandledCriticalExtensions) > 0:
			return nil, fmt.Errorf("its answer is signed by %s, whose certificate is not for signatures, or has a critical extension that is not known here", nameText(d.Subject))
		case at.Before(d.NotBefore) || at.After(d.NotAfter):
			return nil, fmt.Errorf("the certificate of %s, which signed its answer, is valid from %s to %s", nameText(d.Subject), timeText(d.NotBefore), timeText(d.NotAfter))
		}
	}
	if status.Status != ocsp.Good && status.Status != ocsp.Revoked && status.Status != ocsp.Unknown {
		return nil, errors.New("its answer has no status")
	}
	return status, nil
}

// answered is how far an answer (RFC 6960 §4.2.1) is read here: about which certificates it is.
type answered struct {
	Status   asn1.Enumerated
	Response struct {
		Type  asn1.ObjectIdentifier
		Bytes []byte
	} `asn1:"explicit,tag:0,optional"`
}

type basicAnswer struct {
	Inner struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Singles   []struct{ ID certificateID }
	}
}

// certificateID is CertID of RFC 6960 §4.1.1.
type certificateID struct {
	Hash              pkix.AlgorithmIdentifier
	NameHash, KeyHash []byte
	Serial            *big.Int
}

// idHashes are the hashes of certificate ids. SHA-1 is what everybody uses there; nothing is signed by it.
var idHashes = map[string]func() hash.Hash{"1.3.14.3.2.26": sha1.New, "2.16.840.1.101.3.4.2.1": sha256.New, "2.16.840.1.101.3.4.2.2": sha512.New384, "2.16.840.1.101.3.4.2.3": sha512.New}

// about says why an answer is not about the issuer's certificate, or returns nil. The library compares the number alone, which
// another authority may have given to another certificate.
func about(data []byte, c, issuer *x509.Certificate) error {
	var outer answered
	var inner basicAnswer
	if _, err := asn1.Unmarshal(data, &outer); err != nil {
		return err
	}
	if _, err := asn1.Unmarshal(outer.Response.Bytes, &inner); err != nil {
		return err
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return err
	}
	sum := func(h hash.Hash, data []byte) []byte {
		h.Write(data)
		return h.Sum(nil)
	}
	for _, s := range inner.Inner.Singles {
		if s.ID.Serial.Cmp(c.SerialNumber) != 0 {
			continue
		}
		h := idHashes[s.ID.Hash.Algorithm.String()]
		if h == nil || !bytes.Equal(s.ID.NameHash, sum(h(), issuer.RawSubject)) || !bytes.Equal(s.ID.KeyHash, sum(h(), key.Key.RightAlign())) {
			return fmt.Errorf("it is about a certificate %s of another authority than %s", serialText(c.SerialNumber), nameText(issuer.Subject))
		}
	}
	return nil
}
