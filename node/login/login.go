// Package login is the door of a node's HTTP listeners, the API and the admin interface: TLS, who a client is, and what
// that lets it do.
//
// # Where nobody is asked
//
// A listener on loopback without a certificate is open: whoever is on the machine may do everything, as before there was
// TLS. Beyond loopback a listener must have TLS (ErrPlain); no setting changes that. With TLS, on whatever address,
// everybody has to show who he is, and may do what his roles say ([Rights]) and nothing else.
//
// A page in a browser on the machine is nobody on the machine. Who wrote it can have its name lead to 127.0.0.1 (DNS rebinding),
// and the browser then lets it read what a listener there answers. So a listener without TLS answers only requests whose Host is a
// loopback address, localhost or the host of its address as it is configured, and others with 421 (RFC 9110, section 15.5.20).
//
// # Who a client is
//
// The first of these that a request shows decides; one that does not count refuses the request, whatever else it shows:
//
//   - the secret of the node's operator, from the node's folder, in the header client.OperatorHeader;
//   - a signed query in the header client.QueryHeader: a signature over the request by a key of an account of the chain, whose institution and
//     roles count, see [client.Query]. It also counts on a listener without TLS, where it says who asks for private data;
//   - a token, as "Authorization: Bearer …" (RFC 6750), which must be in the file of tokens, see [Token];
//   - a client certificate that leads to an authority of the file of clients' authorities or, without such a file, for which
//     the node's CA provider vouches (package plugins/ca), if the chain's suite is std. Institution and roles are those of the certificate: the subject's
//     O, and URIs fondaco:role:NAME among its alternative names. The roles operator, monitor and institution-admin count only if
//     the institution is the node's own.
//
// # For whom an authority vouches
//
// An authority that is the only one in the file of clients' authorities vouches for every institution, since whoever wrote the file chose to trust it so. Where there are several, each
// vouches for the institutions to which its operator has bound it, by the header "Institution: NAME" of its PEM block (Bind), and a path
// through one that is bound to others does not count. By an authority beside others that is not bound, a certificate never stands for the node's own
// institution, nor for any other: its holder has those of its roles that read and submit alone, and sees what everybody may see.
// Certificates of one name and key are of one authority, such as a root's before and after it was renewed: what binds one binds all of them.
//
// All of that is judged at each request, also on connections that were made before, and at each step of an event stream.
// Files are looked at whenever they are needed and read again when they changed, so nothing needs a restart. Revocation lists of
// the clients' authorities are read from the same file, as PEM blocks "X509 CRL"; an authority without one there revokes nothing,
// which the log tells.
//
// # What the chain says of certificates
//
// Then the chain is asked, as about nodes that connect (Config.Check, precompiles.CheckCredential): with each request, since that takes some
// microseconds. A certificate that its institution froze or revoked there does not count. Where the group names authorities of the
// institution, each role of the certificate counts only if as many of them vouch for that role as its policy wants; where it names none, it is
// enough that the certificate is neither frozen nor revoked. What it says goes by fingerprints under the chain's suite: of the client's
// own certificate, and of those in the file of clients' authorities, or of the provider's roots, to which it leads. A certificate is one vouch,
// so a policy that wants several agencies is met by a provider that asks several (ca-quorum), and by no file.
//
// # What the provider says
//
// What it said of a client counts for 30 s without asking again. A request waits 2 s for an answer, and the question goes on without
// it. Without an answer the last word counts until it is 2 min old, and until it is 1 h old if the provider does not run or says that it cannot
// tell. Strangers take up half of the questions that it is asked at a time, and each holder of a certificate one.
//
// # TLS
//
// TLS is version 1.3 with the algorithms of Go's standard library on every chain, those of suite gm too. HTTP/2 is not
// offered: one request at a time on a connection, so the bounds on connections bound requests.
//
// The package is public by path but promised nothing.
package login

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrPlain says that a listener would be reachable from other machines without TLS.
var ErrPlain = errors.New("reachable from other machines without TLS")

// Reason is why a client was refused, as metrics tell it.
type Reason string

// The reasons.
const (
	NoCredential   Reason = "no_credential"   // it shows nothing, or nothing that is understood
	BadToken       Reason = "token"           // unknown, revoked or expired
	BadCertificate Reason = "certificate"     // of no trusted authority, revoked, expired, without a role
	BadOperator    Reason = "operator"        // not the operator's secret
	BadQuery       Reason = "query"           // a signed query that does not verify, is late or was there before, or of no active account
	NoRight        Reason = "no_right"        // known, and its roles do not allow the request
	Handshake      Reason = "handshake"       // TLS did not come about, or took too long
	Connections    Reason = "connections"     // too many
	Unable         Reason = "cannot_be_asked" // the CA provider or a file could not be asked
	WrongHost      Reason = "host"            // without TLS: its Host does not name this machine
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{NoCredential, BadToken, BadCertificate, BadOperator, BadQuery, NoRight, Handshake, Connections, Unable, WrongHost}
}

// Files are the paths of what a listener needs for TLS. The zero value: no TLS.
type Files struct {
	Cert    string // PEM of the listener's certificate and those that lead to the root
	Key     string // its private key, which only the node's user may read; a key file without passphrase, or PEM as other programs write it
	Clients string // PEM of the authorities whose client certificates count, bound to institutions where there are several, and their revocation lists; empty: the CA provider is asked
	Tokens  string // file of tokens; empty: none count
}

// Config says how a listener lets clients in.
type Config struct {
	Name     string // of its section in the configuration file: api or admin
	Listen   string // TCP address
	Files    Files
	Operator string      // the operator's secret; empty: there is none
	Provider ca.Provider // of suite std, whose certificates TLS knows; asked about client certificates where Files.Clients is empty; nil: they do not count
	Suite    keys.Suite  // of the chain; required where client certificates count
	// Institution returns the node's own, whose certificates alone confer the roles operator, monitor and institution-admin here; nil,
	// or empty: none does.
	Institution func() string
	// Check returns which roles of a certificate count by what the chain says of it and of its authorities at this moment; paths are those by
	// which it leads to what this node trusts. A *ca.Refusal says why others do not count, in words for the client; without any role that
	// counts, the certificate does not. Any other error says why that cannot be told. It is called with each request that shows a
	// certificate with roles, and at each step of an event stream, by several goroutines at once. nil: all count.
	Check func(institution string, roles []identity.Role, paths []identity.Path) ([]identity.Role, error)
	// Account says for whom a signed query stands; nil: they do not count. Chain and Group are what queries are bound to, and are required with it, as is Suite.
	Account func(*client.Query) (Subject, error)
	Chain   keys.Digest
	Group   ledger.GroupID

	Log     zerolog.Logger
	Refused func(Reason)     // told of each refusal; nil: nobody
	Now     func() time.Time // time.Now
}

// Gate is a listener that knows who its clients are. Its methods are safe for concurrent use; a nil Gate lets everybody do
// everything, but nobody is the operator.
type Gate struct {
	net.Listener // nil until Open listens

	config       Config
	tls          *tls.Config // nil: open
	pair         *watchedPair
	clients      *watched[*authorities]
	tokens       *watched[[]Token]
	certificates *certificates
	asked        nonces
	opened       int64 // when, Unix ms
	count        connections

	mu      sync.Mutex // guards what follows
	told    time.Time  // when a refusal was logged last,
	untold  int        // and how many were not since
	trouble map[string]string

	unlisted, unbound string // the authorities without a revocation list, and without a binding, that were logged last
}

// Open listens. A listener that is reachable from other machines and has no TLS is ErrPlain.
func Open(c Config) (*Gate, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Refused == nil {
		c.Refused = func(Reason) {}
	}
	g := &Gate{config: c, opened: c.Now().UnixMilli(), trouble: map[string]string{}}
	at, err := g.prepare(c.Provider != nil)
	if err != nil {
		return nil, err
	}
	if g.certificates != nil && c.Suite == nil {
		return nil, errors.New("login: Config.Suite is nil")
	}
	if g.Listener, err = net.Listen("tcp", at.String()); err != nil {
		return nil, fmt.Errorf("%s.listen: %w; set another address under [%s]", c.Name, err, c.Name)
	}
	if g.clients != nil {
		_, _, _ = g.authorities() // logs those that revoke nobody; they can be read, as prepare has seen
	}
	return g, nil
}

// Close ends the listener, and the calls of the CA provider that are under way. Requests that come on open connections may be refused from then on.
func (g *Gate) Close() error {
	if g.certificates != nil {
		g.certificates.close()
	}
	return g.Listener.Close()
}

// Finding is what Check found of a listener that can be opened.
type Finding struct {
	Ends     time.Time // of its certificate; zero: it has no TLS
	Unlisted []string  // subjects of the authorities in Files.Clients without a revocation list there: what they revoked counts here
	Unbound  []string  // of those that stand beside others there and are bound to no institution
	Vouch    []string  // of those that are bound, each with its institutions
	Clients  Clients   // until when all of them count
}

// Check returns why Open would not listen, or what it found. provider says whether there is a CA provider. Whether the address is free it does
// not try.
func Check(name, listen string, f Files, provider bool) (Finding, error) {
	var found Finding
	g := &Gate{config: Config{Name: name, Listen: listen, Files: f}}
	if _, err := g.prepare(provider); err != nil || g.tls == nil {
		return found, err
	}
	pair, err := g.pair.get()
	if err != nil {
		return found, err
	}
	found.Ends = pair.Leaf.NotAfter
	if g.clients != nil {
		trusted, _, err := g.clients.get()
		if err != nil {
			return found, err
		}
		found.Unlisted, found.Unbound, found.Vouch = trusted.unlisted, trusted.unbound, trusted.vouch
		found.Clients = trusted.last
	}
	return found, nil
}

// prepare reads what the configuration names, and returns the address to listen on.
func (g *Gate) prepare(provider bool) (*net.TCPAddr, error) {
	name, f := g.config.Name, g.config.Files
	at, err := net.ResolveTCPAddr("tcp", g.config.Listen)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s.listen: %w; set another address under [%s]", name, err, name)
	case f == (Files{}) && at.IP.IsLoopback():
		return at, nil
	case f == (Files{}):
		return nil, fmt.Errorf("%s.listen: %s would be %w: set cert and key under [%s], and clients or tokens, or listen on 127.0.0.1; "+
			"`fondaco ca issue --host` makes a certificate, `fondaco token new` a token", name, g.config.Listen, ErrPlain, name)
	case f.Cert == "" || f.Key == "":
		return nil, fmt.Errorf("[%s] needs both cert and key, the files of the certificate that it shows and of its key: `fondaco ca issue --host` makes one", name)
	case f.Clients == "" && f.Tokens == "" && !provider:
		return nil, fmt.Errorf("[%s] has TLS, and nobody could get in: set clients, the PEM file of the authorities whose client certificates count, or tokens, the file that `fondaco token new` makes, or on a chain of suite std name a CA provider under [ca]", name)
	}
	if err := g.openTLS(provider); err != nil {
		return nil, fmt.Errorf("[%s]: %w", name, err)
	}
	return at, nil
}

func (g *Gate) openTLS(provider bool) error {
	f := g.config.Files
	g.pair = &watchedPair{cert: f.Cert, key: f.Key}
	if _, err := g.pair.get(); err != nil {
		return err
	}
	g.tls = &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := g.pair.get()
			g.note("certificate", err)
			return pair, nil
		},
	}
	if f.Tokens != "" {
		g.tokens = &watched[[]Token]{path: f.Tokens, parse: parseTokens, limit: maxTokensFile, private: true, optional: true}
		if _, _, err := g.tokens.get(); err != nil {
			return fmt.Errorf("tokens: %w", err)
		}
	}
	if f.Clients != "" {
		g.clients = &watched[*authorities]{path: f.Clients, parse: parseAuthorities, limit: maxAuthoritiesFile}
		if _, _, err := g.clients.get(); err != nil {
			return fmt.Errorf("clients: %w", err)
		}
	}
	if f.Clients != "" || provider {
		g.certificates = newCertificates(g)
		// A certificate is judged with the request, which can be answered in words; a handshake that fails cannot.
		g.tls.ClientAuth = tls.RequestClientCert
	}
	return nil
}

// Secure reports whether the listener has TLS and asks everybody who he is.
func (g *Gate) Secure() bool { return g != nil && g.tls != nil }

// Ends returns until when the listener's certificate counts, as its files are now; zero where it has no TLS.
func (g *Gate) Ends() time.Time {
	if !g.Secure() {
		return time.Time{}
	}
	pair, err := g.pair.get()
	g.note("certificate", err)
	return pair.Leaf.NotAfter
}

// Clients returns until when the authorities of clients count, as their file is now; nothing where there is none, or it does not read.
func (g *Gate) Clients() Clients {
	if g == nil || g.clients == nil {
		return Clients{}
	}
	trusted, _, err := g.authorities()
	if err != nil {
		return Clients{}
	}
	return trusted.last
}

// Subject is who a client is.
type Subject struct {
	Name        string // of a token, or of a certificate's subject; empty on an open listener
	Institution string // as the certificate or the provider says it; empty: not known
	Means       string // token, certificate or operator; empty on an open listener
	Roles       []identity.Role
	Operator    bool // may do what the node's operator does

	lost  string        // why roles of the certificate do not count; empty: all do
	Open  bool          // nobody was asked: the listener has no TLS, and the request shows no query
	Query *client.Query // that was shown; nil: none
	again func() error  // why the query's account may not ask any more; nil: it may
}

type subjectKey struct{}

// SubjectOf returns who sent a request that Allow let in.
func SubjectOf(r *http.Request) Subject {
	s, _ := r.Context().Value(subjectKey{}).(Subject)
	return s
}

// Allow says who sent a request, see SubjectOf, if it may have what it needs a right for, and otherwise why not, as a *client.Problem with
// code CodeUnauthenticated, CodeForbidden or CodeMisdirected, or CodeUnavailable if that cannot be told now.
func (g *Gate) Allow(w http.ResponseWriter, r *http.Request, need Right) (*http.Request, error) {
	s, reason, err := g.judge(r, need)
	if c, ok := r.Context().Value(connKey{}).(*conn); ok && (err == nil || reason == NoRight) {
		c.recognize()
	}
	if err != nil {
		g.refuse(reason, r.RemoteAddr, err)
		if reason != NoRight { // a stranger holds a connection no longer than it takes to send him away
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leaveWithin)) // the server reads some of his body before it closes
		}
		if p, ok := errors.AsType[*client.Problem](err); ok && p.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="fondaco"`)
		}
		return r, err
	}
	if !s.Open {
		if e := g.config.Log.Debug(); e.Enabled() {
			e.Str("listener", g.config.Name).Str("subject", s.Name).Str("institution", s.Institution).Str("means", s.Means).Str("method", r.Method).
				Str("path", short(r.URL.Path)).Msg("request over HTTPS")
		}
	}
	return r.WithContext(context.WithValue(r.Context(), subjectKey{}, s)), nil
}

// Still returns nil while a request that Allow let in would be let in again: an answer that lasts ends when a token is revoked or
// a certificate ends.
func (g *Gate) Still(r *http.Request, need Right) error {
	if s := SubjectOf(r); s.again != nil { // a query counts once, and for the answer that it got
		err := s.again()
		if err != nil {
			g.refuse(BadQuery, r.RemoteAddr, err)
		}
		return err
	}
	now, reason, err := g.judge(r, need)
	if before := SubjectOf(r); err == nil {
		reason, err = BadCertificate, before.unchanged(&now)
	}
	if err != nil {
		g.refuse(reason, r.RemoteAddr, err)
	}
	return err
}

// unchanged returns nil while who asks has the institution and the roles that it had when it began to ask: what it gets is chosen by them.
func (s *Subject) unchanged(now *Subject) error {
	if s.Institution == now.Institution && slices.Equal(s.Roles, now.Roles) {
		return nil
	}
	return unauthenticated("your roles or your institution have changed since: ask again")
}

// Require is a handler that answers only those that may have what it needs a right for.
func (g *Gate) Require(need Right, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed, err := g.Allow(w, r, need)
		if p, ok := errors.AsType[*client.Problem](err); ok {
			WriteProblem(w, p)
			return
		}
		h.ServeHTTP(w, allowed)
	})
}

// WriteProblem answers with a problem.
func WriteProblem(w http.ResponseWriter, p *client.Problem) {
	data, err := json.Marshal(p)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	w.WriteHeader(p.Status)
	w.Write(append(data, '\n')) //nolint:errcheck // the client is gone
}

func (g *Gate) judge(r *http.Request, need Right) (Subject, Reason, error) {
	if g == nil {
		return Subject{Open: true}, "", nil
	}
	if !g.Secure() && !g.ownHost(r.Host) {
		return Subject{}, WrongHost, problem(http.StatusMisdirectedRequest, client.CodeMisdirected,
			"this listener has no TLS, and answers only requests whose header Host is localhost, a loopback address or the host of listen under [%[1]s], so that no page in a browser reads it under a name of its own; "+
				"it is %[2]q: use such an address, have the proxy in between send such a Host, or set cert and key under [%[1]s]", g.config.Name, short(r.Host))
	}
	shown := r.Header.Get(client.QueryHeader)
	if !g.Secure() && shown == "" {
		return Subject{Open: true, Operator: g.isOperator(r.Header.Get(client.OperatorHeader))}, "", nil
	}
	s, reason, err := g.identify(r)
	if err != nil {
		return s, reason, err
	}
	if !Allows(s.Roles, need) {
		lost := ""
		if s.lost != "" {
			lost = "; other roles of the certificate do not count: " + s.lost
		}
		return s, NoRight, problem(http.StatusForbidden, client.CodeForbidden,
			"%s (%s) has the roles %s, and this needs the right to %s, which %s have: ask the node's operator for another token, or your authority for a certificate with such a role%s",
			short(s.Name), s.Means, join(s.Roles), need, join(holders(need)), lost)
	}
	s.Operator = Allows(s.Roles, Operate)
	return s, "", nil
}

// ownHost reports whether a request's header Host (RFC 9110, section 7.2), with or without a port, names this machine as nobody
// else's name can: by a loopback address, localhost, or the host that the listener is configured with.
func (g *Gate) ownHost(header string) bool {
	host := hostOf(header)
	if at, err := netip.ParseAddr(host); err == nil {
		return at.Unmap().IsLoopback()
	}
	return host != "" && (strings.EqualFold(host, "localhost") || strings.EqualFold(host, hostOf(g.config.Listen)))
}

// hostOf returns the host of an address with or without a port, without brackets.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
}

func problem(status int, code, format string, args ...any) *client.Problem {
	return &client.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

func unauthenticated(format string, args ...any) error {
	return problem(http.StatusUnauthorized, client.CodeUnauthenticated, format, args...)
}

// identify says who sent a request.
func (g *Gate) identify(r *http.Request) (Subject, Reason, error) {
	if shown := r.Header.Get(client.QueryHeader); shown != "" && (!g.Secure() || r.Header.Get(client.OperatorHeader) == "") {
		return g.byQuery(r, shown)
	}
	if r.TLS == nil { // cannot be: all connections of the listener have it
		return Subject{}, NoCredential, unauthenticated("the request did not come over TLS")
	}
	if shown := r.Header.Get(client.OperatorHeader); shown != "" {
		if !g.isOperator(shown) {
			return Subject{}, BadOperator, unauthenticated("this is not the secret of the node's operator: use that of this node's folder, or a token")
		}
		return Subject{Name: "operator", Means: "operator", Roles: []identity.Role{identity.Operator}}, "", nil
	}
	if shown := r.Header.Get("Authorization"); shown != "" {
		scheme, text, _ := strings.Cut(shown, " ")
		switch {
		case g.tokens == nil:
			return Subject{}, NoCredential, unauthenticated("this node takes no tokens: %s", g.wanted())
		case !strings.EqualFold(scheme, "Bearer"):
			return Subject{}, NoCredential, unauthenticated("the header Authorization must have the form: Bearer TOKEN")
		}
		return g.byToken(strings.TrimSpace(text))
	}
	if len(r.TLS.PeerCertificates) > 0 && g.certificates != nil {
		return g.certificates.judge(r.Context(), r.TLS.PeerCertificates)
	}
	return Subject{}, NoCredential, unauthenticated("show who you are: %s", g.wanted())
}

// wanted says what a client may show.
func (g *Gate) wanted() string {
	const (
		token       = "a token that its operator makes with `fondaco token new` (Authorization: Bearer TOKEN, or --token-file)"
		certificate = "a client certificate (--client-cert and --client-key)"
	)
	switch {
	case g.tokens == nil:
		return "this node wants " + certificate
	case g.certificates == nil:
		return "this node wants " + token
	}
	return "this node wants " + token + " or " + certificate
}

func (g *Gate) isOperator(shown string) bool {
	return g.config.Operator != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(g.config.Operator)) == 1
}

func (g *Gate) byToken(text string) (Subject, Reason, error) {
	all, _, err := g.tokens.get()
	g.note("tokens", err)
	if err != nil {
		return Subject{}, Unable, problem(http.StatusServiceUnavailable, client.CodeUnavailable, "this node cannot read its list of tokens: ask its operator, whose log says why")
	}
	hash := sha256.Sum256([]byte(text))
	var found *Token
	for i := range all { // all of them, so that the time tells nothing
		if subtle.ConstantTimeCompare(hash[:], all[i].Hash[:]) == 1 {
			found = &all[i]
		}
	}
	if found == nil {
		return Subject{}, BadToken, unauthenticated("this token is not on the node's list: it was revoked, is of another node or was not copied whole; ask the node's operator for one")
	}
	if !g.config.Now().Before(found.Expires) {
		return Subject{}, BadToken, unauthenticated("the token %s expired on %s: ask the node's operator for a new one", found.Name, found.Expires.Format(time.RFC3339))
	}
	return Subject{Name: found.Name, Means: "token", Roles: found.Roles}, "", nil
}

// refuse counts a refusal, and logs it if none was logged in the last second.
func (g *Gate) refuse(reason Reason, from string, err error) {
	g.config.Refused(reason)
	now := g.config.Now()
	g.mu.Lock()
	quiet := now.Sub(g.told) < time.Second && !now.Before(g.told)
	untold := g.untold
	if quiet {
		g.untold++
	} else {
		g.told, g.untold = now, 0
	}
	g.mu.Unlock()
	if !quiet {
		g.config.Log.Warn().Str("listener", g.config.Name).Str("reason", string(reason)).Str("from", from).Str("why", short(err.Error())).Int("more", untold).Msg("client refused")
	}
}

// note logs what is wrong with a file of the listener, once, and that it is right again.
func (g *Gate) note(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	g.mu.Lock()
	changed := g.trouble[what] != text
	g.trouble[what] = text
	g.mu.Unlock()
	switch {
	case changed && err != nil:
		g.config.Log.Error().Err(err).Str("listener", g.config.Name).Msgf("the %s cannot be read again: mend it, the node needs no restart", what)
	case changed:
		g.config.Log.Info().Str("listener", g.config.Name).Msgf("the %s can be read again", what)
	}
}

// authorities returns those of clients as their file has them now, and a number that changes with it. It logs which of them revoke nobody, and which
// are bound to no institution, when these are others than before.
func (g *Gate) authorities() (*authorities, uint64, error) {
	trusted, age, err := g.clients.get()
	g.note("clients", err)
	if err != nil {
		return nil, age, err
	}
	g.tell(&g.unlisted, trusted.unlisted, "authorities of client certificates have no revocation list: what they revoked lets in; put their lists into the file, `fondaco ca crl` makes one")
	g.tell(&g.unbound, trusted.unbound, "authorities of client certificates are bound to no institution, and others stand beside them: their clients read and submit, and are of no institution; bind them with `fondaco ca clients`")
	return trusted, age, nil
}

// tell logs something of authorities of clients that was not logged of them last.
func (g *Gate) tell(last *string, of []string, message string) {
	text := strings.Join(of, "; ")
	g.mu.Lock()
	changed := *last != text
	*last = text
	g.mu.Unlock()
	if changed && text != "" {
		g.config.Log.Warn().Str("listener", g.config.Name).Str("file", g.config.Files.Clients).Strs("authorities", of).Msg(message)
	}
}

// Limits of a server behind a gate.
const (
	headWithin = 5 * time.Second // that a TLS handshake may take, and the head of a request from the connection's first byte or the answer before
	idleAtMost = 2 * time.Minute // that a connection is kept between requests
	maxHead    = 16 << 10        // bytes of a request's head, about

	leaveWithin = time.Second // that a stranger who is refused has left to send what he is sending
)

// Prepare sets what a server needs beside its handler and how long requests and answers may take.
func (g *Gate) Prepare(server *http.Server) {
	server.ReadHeaderTimeout, server.IdleTimeout, server.MaxHeaderBytes = headWithin, idleAtMost, maxHead
	if g == nil {
		return
	}
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		return context.WithValue(ctx, connKey{}, c)
	}
	server.ErrorLog = slog.NewLogLogger(complaints{g}, slog.LevelError)
}

// complaints takes what the library's server logs, which is a line for each stranger's handshake.
type complaints struct{ gate *Gate }

func (complaints) Enabled(context.Context, slog.Level) bool { return true }
func (c complaints) WithAttrs([]slog.Attr) slog.Handler     { return c }
func (c complaints) WithGroup(string) slog.Handler          { return c }

// Handle implements slog.Handler.
func (c complaints) Handle(_ context.Context, r slog.Record) error {
	if rest, ok := strings.CutPrefix(r.Message, "http: TLS handshake error from "); ok {
		from, why, _ := strings.Cut(rest, ": ")
		c.gate.refuse(Handshake, from, errors.New(why))
		return nil
	}
	c.gate.config.Log.Error().Str("listener", c.gate.config.Name).Str("why", short(r.Message)).Msg("a request was not served")
	return nil
}

// short bounds what a stranger can put into a log or an answer.
func short(text string) string {
	const most = 500
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func join(roles []identity.Role) string {
	if len(roles) == 0 {
		return "(none)"
	}
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return short(strings.Join(slices.Sorted(slices.Values(names)), ", "))
}
