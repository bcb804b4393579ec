package x509ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/internal/wire"
)

// revocation tells which certificates of a PKI were revoked. When it knows nothing that is fresh enough, no certificate
// counts. Its methods are safe for concurrent use.
//
// What an authority said later is not taken back: a list or an answer that is older than one seen before does not count. The memory of
// that ends with the program, but for the lists that were fetched.
type revocation struct {
	lib       library
	maxAge    time.Duration // 0: as a list or answer says itself
	sources   []source
	responder *responder // nil: none

	mu     sync.Mutex                     // guards what follows
	kept   map[[sha256.Size]byte]keptList // by authority
	judged map[source]judgement           // of the list of each whose signature was looked at last, while the source has it
}

// judgement says why an authority did not sign a list; nil: it did.
type judgement struct {
	*list
	by  [sha256.Size]byte
	why error
}

// source is where the lists of an authority come from: a file or a URL.
type source interface {
	name() string
	current() ([]*list, error)  // those that may count, the newest last, and why a newer one is not among them
	counts(l *list)             // is told that one of them is signed by its authority, and that it had none that is newer,
	refused(l *list, why error) // or that this is not so
	fault() string              // what is wrong with the source, whether or not another one has the newest list; empty: nothing that is known
}

// keptList is the newest list of an authority, and the newest of each source that had one: that one, or one that is older.
type keptList struct {
	*list
	had map[source]*list
}

const (
	maxAuthorities = ca.MaxLists     // whose lists are kept
	maxSkew        = 5 * time.Minute // by which the clock of an authority may be ahead
)

func newRevocation(lib library, t Trust, fetching fetching, warn func(string)) (*revocation, error) {
	r := &revocation{lib: lib, kept: map[[sha256.Size]byte]keptList{}, judged: map[source]judgement{}}
	if t.MaxAge != "" {
		var err error
		if r.maxAge, err = time.ParseDuration(t.MaxAge); err != nil {
			return nil, fmt.Errorf("max_age: %w", err)
		}
	}
	for _, entry := range t.CRL {
		if f := fetching[entry]; f != nil {
			if r.maxAge > 0 {
				f.within(r.maxAge / fetchShare)
			}
			r.sources = append(r.sources, f)
			continue
		}
		f, err := newFile(entry, warn, func(data []byte) (*list, error) { return parseList(lib, data) })
		if err != nil {
			return nil, fmt.Errorf("crl: %w", err)
		}
		r.sources = append(r.sources, listFile{f})
	}
	if t.OCSP != "" {
		r.responder = newResponder(lib, t.OCSP, warn)
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
		return ca.Refuse(ca.StaleList, "there is no revocation list of %s%s, so the certificate of %s does not count: name a file with one in crl, or the URL at which it is published", issuer.name(), why, c.name()), nil
	}
	found, err := r.responder.ask(ctx, c, issuer, at)
	if err != nil {
		return nil, err
	}
	if refusal := r.stale("the answer of "+r.responder.url, found.issued, found.next, holder, at); refusal != nil {
		return refusal, nil
	}
	switch found.code {
	case statusGood:
		return nil, nil
	case statusRevoked:
		return revokedRefusal(c, found.revoked, found.reason), nil
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
	for _, from := range r.sources {
		lists, err := from.current()
		if !slices.Contains(lists, r.judged[from].list) {
			delete(r.judged, from)
		}
		if len(lists) == 0 {
			unusable = err
		}
		for _, l := range lists {
			if !bytes.Equal(l.rawIssuer, issuer.rawSubject) {
				continue
			}
			if err != nil {
				unusable = err
			}
			had := known.had[from]
			switch {
			case l == had:
				continue
			case had != nil && l.before(had):
				why := r.usable(from, l, issuer, at)
				if why == nil {
					why = fmt.Errorf("it has %s, and had %s: bring the newer one back", l.text(), had.text())
				}
				unusable = fmt.Errorf("%s: %w", from.name(), why)
				from.refused(l, unusable)
				continue
			case known.list != nil && l.before(known.list): // another source is ahead
				if err := r.usable(from, l, issuer, at); err != nil {
					from.refused(l, fmt.Errorf("%s: %w", from.name(), err))
					continue
				}
				known.had[from] = l
				from.counts(l)
				continue
			}
			if known.list == nil || !bytes.Equal(l.raw, known.raw) {
				if err := r.usable(from, l, issuer, at); err != nil {
					unusable = fmt.Errorf("%s: %w", from.name(), err)
					from.refused(l, unusable)
					continue
				}
				if known.list == nil {
					if len(r.kept) >= maxAuthorities {
						return nil, fmt.Errorf("there are lists of %d authorities already", len(r.kept))
					}
					known.had = map[source]*list{}
				}
				known.list = l
				r.kept[id] = known
			}
			known.had[from] = l
			from.counts(l)
		}
	}
	return known.list, unusable
}

// usable says why a list of a source that names the issuer does not count, or returns nil. One that goes on being sent is checked once, and not for
// each verdict.
func (r *revocation) usable(from source, l *list, issuer *certificate, at time.Time) error {
	if l.flaw != nil {
		return l.flaw
	}
	if l.issued.After(at.Add(maxSkew)) {
		return fmt.Errorf("it is of %s, and it is %s: check the clocks", timeText(l.issued), timeText(at))
	}
	id := issuer.authorityID()
	if was, ok := r.judged[from]; ok && was.list == l && was.by == id {
		return was.why
	}
	why := r.lib.checkList(l, issuer)
	if why != nil {
		why = fmt.Errorf("%s did not sign it: %w", issuer.name(), why)
	}
	r.judged[from] = judgement{l, id, why}
	return why
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
		public := l.public()
		var faults []string
		for _, from := range r.sources {
			if l.had[from] != nil {
				faults = append(faults, from.fault())
			}
		}
		faults = slices.DeleteFunc(faults, func(s string) bool { return s == "" })
		public.Fault = wire.Truncate(strings.Join(faults, "; "), ca.MaxReason-len("…"))
		all = append(all, public)
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
	lib    library
	url    string
	client http.Client
	warn   func(string) // when it does not answer, and when it does again

	mu      sync.Mutex // guards what follows
	answers map[[32]byte]answer
	silent  error     // why it did not answer when it was asked last; nil: it did
	until   time.Time // by the clock: when it is asked again
}

type answer struct {
	*status
	asked time.Time // by the time of the request
}

func newResponder(lib library, url string, warn func(string)) *responder {
	return &responder{
		lib: lib, url: url, answers: make(map[[32]byte]answer), warn: warn,
		client: http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// ask returns what the responder says of a certificate, now or within the last minute; or the last it said if it does not
// answer now, whose age the caller checks. The error says why there is nothing.
func (r *responder) ask(ctx context.Context, c, issuer *certificate, at time.Time) (*status, error) {
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
		return known.status, nil
	}
	var fresh *status
	if err == nil {
		limit := askTimeout
		if ok {
			limit = askAgain
		}
		fresh, err = r.fetch(ctx, limit, c, issuer, at)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok = r.answers[key]
	if err == nil && ok && fresh.issued.Before(known.issued) {
		err = fmt.Errorf("its answer is of %s, and one of %s came before", timeText(fresh.issued), timeText(known.issued))
	}
	if err != nil {
		if ok {
			return known.status, nil
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
func (r *responder) fetch(ctx context.Context, limit time.Duration, c, issuer *certificate, at time.Time) (*status, error) {
	id, err := idOf(c, issuer, r.lib.idHash())
	if err != nil {
		return nil, err
	}
	question, err := marshalQuestion(id)
	if err != nil {
		return nil, err
	}
	data, err := r.post(ctx, limit, question)
	if err != nil {
		return nil, err
	}
	found, err := readAnswer(r.lib, data, c, issuer, at)
	if err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	if found.issued.After(at.Add(maxSkew)) || found.produced.After(at.Add(maxSkew)) {
		return nil, fmt.Errorf("its answer is of %s, and it is %s: check the clocks", timeText(found.issued), timeText(at))
	}
	return found, nil
}
