package login_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for a list that is refused
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/login/logintest"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestBeyondLoopback opens listeners without TLS: only on this machine.
func TestBeyondLoopback(t *testing.T) {
	for listen, local := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "127.0.0.7:0": true, "[::ffff:127.0.0.1]:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "192.0.2.1:0": false, "[2001:db8::1]:0": false,
	} {
		g, err := login.Open(login.Config{Name: "api", Listen: listen})
		if g != nil {
			if !g.Addr().(*net.TCPAddr).IP.IsLoopback() {
				t.Errorf("%s: listens on %s", listen, g.Addr())
			}
			g.Close()
		}
		if local && err != nil || !local && (!errors.Is(err, login.ErrPlain) || !strings.Contains(err.Error(), "set cert and key under [api]")) {
			t.Errorf("%s: %v, want it to be allowed = %t, or words that say what to set", listen, err, local)
		}
	}
}

// TestHost is a page in a browser on the node's machine, whose name its author has lead to 127.0.0.1: the browser sends that name as Host.
func TestHost(t *testing.T) {
	machine, err := os.Hostname()
	if at, wrong := net.ResolveTCPAddr("tcp", machine+":0"); err != nil || wrong != nil || !at.IP.IsLoopback() {
		machine = "LocalHost" // this machine's name is not one of loopback
	}
	for _, listen := range []string{"127.0.0.1:0", machine + ":0"} {
		asked := map[login.Reason]int{}
		g, err := login.Open(login.Config{Name: "admin", Listen: listen, Operator: "secret", Refused: func(r login.Reason) { asked[r]++ }})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		h := g.Require(login.Read, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "private") }))
		refused := 0
		for host, own := range map[string]bool{
			"127.0.0.1": true, "127.0.0.1:9541": true, "127.8.8.8:80": true, "[::1]": true, "[::1]:9541": true, "[::ffff:127.0.0.1]:1": true,
			"localhost": true, "LOCALHOST:9541": true, g.Addr().String(): true, machine: !strings.HasPrefix(listen, "127.") || machine == "LocalHost",
			"": false, ":9541": false, "evil.example": false, "evil.example:9541": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false,
			"0.0.0.0:9541": false, "192.0.2.1": false, "[2001:db8::1]:9541": false, "[::]": false, strings.Repeat("a", 2000): false,
		} {
			for _, header := range []string{"", client.OperatorHeader, client.QueryHeader} {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				if r.Host = host; header != "" {
					r.Header.Set(header, "secret")
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				text := w.Body.String()
				switch {
				case own && header != client.QueryHeader && (w.Code != http.StatusOK || text != "private"):
					t.Errorf("%s: Host %q is answered %d %s, want 200", listen, host, w.Code, text)
				case own && w.Code == http.StatusMisdirectedRequest:
					t.Errorf("%s: Host %q is answered %s", listen, host, text)
				case own:
				case w.Code != http.StatusMisdirectedRequest || !strings.Contains(text, "set cert and key under [admin]") || !strings.Contains(text, `"code":"misdirected"`) || len(text) > 1500:
					t.Errorf("%s: Host %q is answered %d %s, want 421 and words that name the settings", listen, host, w.Code, text)
				default:
					refused++
				}
			}
		}
		if refused == 0 || asked[login.WrongHost] != refused {
			t.Errorf("%s: %d refusals for the host were told, want %d", listen, asked[login.WrongHost], refused)
		}
	}

	// With TLS a client has seen the listener's certificate, and shows who it is.
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	tokens := filepath.Join(p.Dir, "tokens")
	token := p.Token(tokens, "reader", time.Hour, "reader")
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Tokens: tokens}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "node.bank.example"
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := h.visitor(client.Access{CA: p.Root()}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body.Close(); answer.StatusCode != http.StatusOK {
		t.Errorf("over TLS another Host is answered %d, want 200", answer.StatusCode)
	}
}

// TestSettings opens listeners with settings that are wrong.
func TestSettings(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	_, other := p.Server("127.0.0.1")
	open := p.Write("open.key", mustRead(t, key))
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	shared := p.Write("shared", nil)
	if err := os.Chmod(shared, 0o604); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		files login.Files
		want  string
	}{
		{"a certificate without a key", login.Files{Cert: cert, Tokens: "tokens"}, "needs both cert and key"},
		{"tokens without a certificate", login.Files{Tokens: "tokens"}, "needs both cert and key"},
		{"nothing by which anybody could get in", login.Files{Cert: cert, Key: key}, "nobody could get in"},
		{"the key of another certificate", login.Files{Cert: cert, Key: other, Tokens: "tokens"}, "private key does not match"},
		{"a key that others can read", login.Files{Cert: cert, Key: open, Tokens: "tokens"}, "chmod 600"},
		{"tokens that others can read", login.Files{Cert: cert, Key: key, Tokens: shared}, "chmod 600"},
		{"a folder for tokens", login.Files{Cert: cert, Key: key, Tokens: p.Dir}, "is not a file"},
		{"something else as tokens", login.Files{Cert: cert, Key: key, Tokens: key}, "line 1"},
		{"a certificate of nobody else as authority", login.Files{Cert: cert, Key: key, Clients: cert}, "not that of an authority"},
		{"a key as authority", login.Files{Cert: cert, Key: key, Clients: key}, `PEM block "FONDACO PRIVATE KEY"`},
		{"no authority", login.Files{Cert: cert, Key: key, Clients: p.Write("empty", nil)}, "0 certificates"},
		{"a file that is not there", login.Files{Cert: cert, Key: key, Clients: "nowhere.pem"}, "no such file"},
	} {
		t.Run(c.what, func(t *testing.T) {
			g, err := login.Open(login.Config{Name: "api", Listen: "127.0.0.1:0", Files: c.files})
			if err == nil {
				g.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "[api]") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// house is a server behind a gate, whose only answer is the name of who asks.
type house struct {
	gate *login.Gate
	t    *testing.T
	url  string
	log  *text
	mu   sync.Mutex // guards what follows
	why  map[login.Reason]int
	late time.Duration // of the house's clock
}

// text is a log that is read while it is written.
type text struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func open(t *testing.T, c login.Config) *house {
	t.Helper()
	h := &house{t: t, log: &text{}, why: map[login.Reason]int{}}
	c.Name, c.Listen, c.Log, c.Operator = "api", "127.0.0.1:0", zerolog.New(h.log), "secret"
	if c.Suite == nil {
		c.Suite = keys.Std()
	}
	if c.Institution == nil {
		c.Institution = func() string { return "bank" }
	}
	c.Refused = func(r login.Reason) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.why[r]++
	}
	c.Now = func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return time.Now().Add(h.late)
	}
	g, err := login.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	h.gate = g
	server := &http.Server{Handler: g.Require(login.Read, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := login.SubjectOf(r)
		fmt.Fprintf(w, "%s of %s by %s, %v, operator %t", s.Name, s.Institution, s.Means, s.Roles, s.Operator)
	}))}
	g.Prepare(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(g) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	h.url = "https://" + g.Addr().String()
	return h
}

func (h *house) refused(r login.Reason) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why[r]
}

func (h *house) later(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.late = d
}

// visitor returns a client.
func (h *house) visitor(a client.Access) *http.Client {
	h.t.Helper()
	config, err := a.TLS()
	if err != nil {
		h.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask returns the status and the text of an answer.
func (h *house) ask(v *http.Client, header ...string) (int, string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.url, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := v.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func (h *house) wants(v *http.Client, status int, words string, header ...string) {
	h.t.Helper()
	if got, text := h.ask(v, header...); got != status || !strings.Contains(text, words) {
		h.t.Errorf("%d %s, want %d and %q", got, text, status, words)
	}
}

// TestTokens uses a token from its making to its end, over one connection.
func TestTokens(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	tokens := filepath.Join(p.Dir, "tokens")
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Tokens: tokens}})
	v := h.visitor(client.Access{CA: p.Root()})

	h.wants(v, 401, "show who you are: this node wants a token")
	reader := []string{"Authorization", "Bearer " + p.Token(tokens, "reports", time.Hour, "reader", "auditor")}
	monitor := []string{"Authorization", "Bearer " + p.Token(tokens, "prometheus", 3*time.Hour, "monitor")}
	h.wants(v, 200, "reports of  by token, [auditor reader], operator false", reader...)
	h.wants(v, 403, "prometheus (token) has the roles monitor, and this needs the right to read, which auditor, committee,", monitor...)
	h.wants(v, 200, "operator of  by operator, [operator], operator true", client.OperatorHeader, "secret")
	h.wants(v, 401, "not the secret", append([]string{client.OperatorHeader, "Secret"}, reader...)...)
	h.wants(v, 401, "was not copied whole", "Authorization", reader[1][:len(reader[1])-1])

	h.later(2 * time.Hour)
	h.wants(v, 401, "the token reports expired on", reader...)
	h.later(0)

	all, err := login.ReadTokens(tokens)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d tokens, %v", len(all), err)
	}
	if err := login.WriteTokens(tokens, all[1:]); err != nil {
		t.Fatal(err)
	}
	h.wants(v, 401, "it was revoked", reader...)
	h.wants(v, 403, "prometheus", monitor...)

	// A file that cannot be read lets nobody in, and nothing of what was in it counts.
	good := mustRead(t, tokens)
	p.Write("tokens", append(slices.Clone(good), "sha256:00 x reader never\n"...))
	h.wants(v, 503, "cannot read its list of tokens", monitor...)
	p.Write("tokens", good)
	h.wants(v, 403, "prometheus", monitor...)
	if err := os.Remove(tokens); err != nil {
		t.Fatal(err)
	}
	h.wants(v, 401, "it was revoked", monitor...)

	for _, r := range []struct {
		reason login.Reason
		times  int
	}{{login.NoCredential, 1}, {login.BadToken, 4}, {login.BadOperator, 1}, {login.NoRight, 3}, {login.Unable, 1}, {login.BadCertificate, 0}} {
		if got := h.refused(r.reason); got != r.times {
			t.Errorf("%s counted %d times, want %d", r.reason, got, r.times)
		}
	}
	for _, secret := range []string{reader[1][7:], monitor[1][7:], reader[1][7 : len(reader[1])-1]} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log has a token: %s", h.log)
		}
	}
	if !strings.Contains(h.log.String(), `"subject":"reports"`) || !strings.Contains(h.log.String(), "request over HTTPS") {
		t.Errorf("the log does not tell of requests: %s", h.log)
	}
	if !strings.Contains(h.log.String(), "the tokens cannot be read again") || !strings.Contains(h.log.String(), "the tokens can be read again") {
		t.Errorf("the log tells nothing of a file that was wrong: %s", h.log)
	}
}

// TestTokenFiles reads files of tokens that people wrote.
func TestTokenFiles(t *testing.T) {
	dir := t.TempDir()
	hash := "sha256:" + strings.Repeat("0f", 32)
	for _, c := range []struct{ what, text, want string }{
		{"nothing", "", ""},
		{"remarks", "# tokens\n\n  # more\n", ""},
		{"one token", hash + " a reader,auditor 2027-01-31T12:00:00Z\n", ""},
		{"a zone", hash + "\ta  reader   2027-01-31T12:00:00+02:00", ""},
		{"the token itself", login.TokenPrefix + "verysecret a reader 2027-01-31T12:00:00Z", "the first field is not sha256:"},
		{"half a hash", hash[:40] + " a reader 2027-01-31T12:00:00Z", "the first field is not sha256:"},
		{"no roles", hash + " a  2027-01-31T12:00:00Z", "3 fields, want four"},
		{"a role that does not exist", hash + " a reader,kin 2027-01-31T12:00:00Z", `the role "kin"`},
		{"a role that may do nothing", hash + " a node 2027-01-31T12:00:00Z", `the role "node"`},
		{"no end", hash + " a reader never", "want a time such as"},
		{"a name with capitals", hash + " A reader 2027-01-31T12:00:00Z", "lower-case letters"},
		{"one name twice", strings.Repeat(hash+" a reader 2027-01-31T12:00:00Z\n", 2), "line 2: the name a is there twice"},
		{"too many", many(login.MaxTokens + 1), "more than 1000 tokens"},
		{"a file without end", strings.Repeat("#\n", 300<<10), "more than 524288 bytes"},
	} {
		t.Run(c.what, func(t *testing.T) {
			path := filepath.Join(dir, "tokens")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := login.ReadTokens(path)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "verysecret") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

func many(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "sha256:%064x t%d reader 2027-01-31T12:00:00Z\n", i, i)
	}
	return text.String()
}

// TestCertificates shows certificates of all kinds to a node that trusts one authority.
func TestCertificates(t *testing.T) {
	p, stranger := logintest.New(t, "bank"), logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	clients := p.Write("clients.pem", mustRead(t, p.Root()))
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Clients: clients}})
	as := func(cert, key string) *http.Client {
		return h.visitor(client.Access{CA: p.Root(), Cert: cert, Key: key})
	}
	h.wants(h.visitor(client.Access{CA: p.Root()}), 401, "this node wants a client certificate")
	h.wants(h.visitor(client.Access{CA: p.Root()}), 401, "this node takes no tokens", "Authorization", "Bearer x")
	good := as(p.Client(time.Hour, "user", "regulator"))
	h.wants(good, 200, "of bank by certificate, [regulator user]")
	h.wants(as(p.Client(time.Hour)), 403, "has the roles (none)")
	h.wants(as(p.Client(time.Hour, "node")), 403, "has the roles node")
	h.wants(as(p.Server("127.0.0.1")), 401, "incompatible key usage")
	h.wants(as(stranger.Client(time.Hour, "user")), 401, "which issued it, is none of the authorities")

	brief, briefKey := p.Client(time.Minute, "user")
	h.later(2 * time.Minute)
	h.wants(as(brief, briefKey), 401, "it expired on")
	h.later(-time.Hour)
	h.wants(as(brief, briefKey), 401, "it is valid from")
	h.later(0)
	h.wants(as(brief, briefKey), 200, "by certificate")

	t.Run("revoked over an open connection", func(t *testing.T) {
		gone, goneKey := p.Client(time.Hour, "user")
		v := as(gone, goneKey)
		h.wants(v, 200, "by certificate")
		block, _ := pem.Decode(mustRead(t, gone))
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Revoke(ca.RevokeRequest{Serial: fmt.Sprintf("%x", parsed.SerialNumber.Bytes()), At: time.Now().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		list := append(mustRead(t, p.Root()), mustRead(t, p.ListPath())...)
		p.Write("clients.pem", list)
		h.wants(v, 401, "was revoked on")
		h.wants(good, 200, "by certificate")
		h.later(8 * 24 * time.Hour)
		defer h.later(0)
		h.wants(as(p.Client(30*24*time.Hour, "user")), 401, "should have been replaced on")
	})
	t.Run("a list of somebody else", func(t *testing.T) {
		p.Write("clients.pem", append(mustRead(t, p.Root()), mustRead(t, stranger.ListPath())...))
		h.wants(good, 503, "cannot read the authorities")
	})
	t.Run("another authority in its place", func(t *testing.T) {
		p.Write("clients.pem", mustRead(t, stranger.Root()))
		h.wants(good, 401, "none of the authorities")
		h.wants(as(stranger.Client(time.Hour, "user")), 200, "by certificate")
	})
	if h.refused(login.BadCertificate) != 7 {
		t.Errorf("refusals by reason: %v", h.why)
	}
}

// provider is a CA provider that answers as a test wants.
type provider struct {
	ca.Provider
	verify func(ca.VerifyRequest) (ca.VerifyResponse, error)
}

func (p *provider) Verify(_ context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	return p.verify(r)
}

// TestProvider asks the CA provider whom certificates stand for: a regulator, who is neither user nor admin.
func TestProvider(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	certificate, certificateKey := p.Client(time.Hour, "regulator")
	holder := certified(t, certificate)
	var mu sync.Mutex // guards asked, down, revoked and holder
	var asked []ca.Purpose
	down, revoked := false, false
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key}, Provider: &provider{verify: func(r ca.VerifyRequest) (ca.VerifyResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Purpose)
		switch {
		case down:
			return ca.VerifyResponse{}, ca.ErrDown
		case revoked:
			return ca.VerifyResponse{Refusal: ca.Refuse(ca.Revoked, "it was revoked yesterday")}, nil
		case r.Purpose != ca.Regulator:
			return ca.VerifyResponse{Refusal: ca.Refuse(ca.WrongPurpose, "not for this")}, nil
		}
		return ca.VerifyResponse{Holder: &ca.Holder{
			Institution: "watch", Roles: []identity.Role{"regulator"}, Key: holder,
			Serial: "01", NotAfter: time.Now().Add(time.Hour).UnixMilli(), Issuers: []string{"root"},
		}}, nil
	}}})
	v := h.visitor(client.Access{CA: p.Root(), Cert: certificate, Key: certificateKey})
	h.wants(v, 200, "of watch by certificate, [regulator]")
	h.wants(v, 200, "of watch by certificate, [regulator]")
	if want := []ca.Purpose{ca.User, ca.Admin, ca.Regulator}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v once", asked, want)
	}
	set := func(f func()) { mu.Lock(); defer mu.Unlock(); f() }

	t.Log("a client that has another key than the one that is vouched for is not who that is")
	thief, thiefKey := p.Client(time.Hour, "user")
	h.wants(h.visitor(client.Access{CA: p.Root(), Cert: thief, Key: thiefKey}), 401, "vouches for another key")

	set(func() { down = true })
	h.later(5 * time.Minute)
	h.wants(v, 200, "of watch by certificate") // who is known goes on for a while
	other, otherKey := p.Client(time.Hour, "user")
	h.wants(h.visitor(client.Access{CA: p.Root(), Cert: other, Key: otherKey}), 503, "cannot be asked")
	h.later(2 * time.Hour)
	h.wants(v, 503, "cannot be asked")
	h.later(6 * time.Minute)
	set(func() { down, revoked = false, true })
	h.wants(v, 401, "it was revoked yesterday")
	set(func() { down = true })
	h.wants(v, 503, "cannot be asked") // nothing is kept of who was refused
}

// certified returns the key of the first certificate of a file.
func certified(t *testing.T, path string) ledger.Key {
	t.Helper()
	block, _ := pem.Decode(mustRead(t, path))
	one, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	switch public := one.PublicKey.(type) {
	case ed25519.PublicKey:
		return ledger.Key{Algorithm: keys.Ed25519, Bytes: public}
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return ledger.Key{Algorithm: keys.P256, Bytes: append([]byte{2 + point[64]&1}, point[1:33]...)}
	}
	t.Fatalf("%s is for a %T", path, one.PublicKey)
	return ledger.Key{}
}

// TestAsksChain has the chain of a node, of either suite, say something else of a certificate with each request. It is asked by the certificate's
// fingerprint and that of the root under its own suite, though certificates of TLS are of suite std.
func TestAsksChain(t *testing.T) {
	for _, suite := range []keys.Suite{keys.Std(), keys.GM()} {
		t.Run(suite.Name(), func(t *testing.T) {
			p := logintest.New(t, "bank")
			cert, key := p.Server("127.0.0.1")
			certificate, certificateKey := p.Client(time.Hour, "auditor", "user")
			print := func(path string) keys.Digest {
				block, _ := pem.Decode(mustRead(t, path))
				return identity.Fingerprint(suite, block.Bytes)
			}
			want := []identity.Path{{Leaf: print(certificate), Root: print(p.Root())}}
			var mu sync.Mutex // guards says
			var says error
			count := 2
			h := open(t, login.Config{
				Suite: suite, Files: login.Files{Cert: cert, Key: key, Clients: p.Root()},
				Check: func(institution string, roles []identity.Role, paths []identity.Path) ([]identity.Role, error) {
					if institution != "bank" || !slices.Equal(paths, want) || !slices.Equal(roles, []identity.Role{"auditor", "user"}) {
						t.Errorf("asked about %s in the roles %v by %v, want bank by %v", institution, roles, paths, want)
					}
					mu.Lock()
					defer mu.Unlock()
					return roles[:count], says
				},
			})
			v := h.visitor(client.Access{CA: p.Root(), Cert: certificate, Key: certificateKey})
			set := func(n int, err error) { mu.Lock(); defer mu.Unlock(); count, says = n, err }
			h.wants(v, 200, "of bank by certificate, [auditor user]")
			set(1, ca.Refuse(ca.Denied, "its root is not trusted for role user"))
			h.wants(v, 200, "of bank by certificate, [auditor]")
			set(0, ca.Refuse(ca.Denied, "it was frozen at height 7"))
			h.wants(v, 401, "the client certificate does not count: it was frozen at height 7")
			set(2, nil)
			h.wants(v, 200, "of bank by certificate, [auditor user]")
			set(0, errors.New("the state is damaged"))
			h.wants(v, 503, "cannot tell what the chain says of the client certificate: ask its operator; the state is damaged")
			if h.refused(login.BadCertificate) != 1 || h.refused(login.Unable) != 1 {
				t.Errorf("refusals by reason: %v", h.why)
			}
		})
	}
}

// TestUnlisted has authorities of clients with and without revocation lists: the log names those without, once.
func TestUnlisted(t *testing.T) {
	p, other := logintest.New(t, "bank"), logintest.New(t, "other bank")
	cert, key := p.Server("127.0.0.1")
	both := slices.Concat(bind(t, p.Root(), "bank"), bind(t, other.Root(), "other bank"))
	clients := p.Write("clients.pem", append(slices.Clone(both), mustRead(t, p.ListPath())...))
	files := login.Files{Cert: cert, Key: key, Clients: clients}
	found, err := login.Check("api", "127.0.0.1:0", files, false)
	if err != nil || found.Ends.IsZero() || len(found.Unlisted) != 1 || !strings.Contains(found.Unlisted[0], "other bank") {
		t.Errorf("%+v, %v, want the end of the certificate and the other bank", found, err)
	}
	h := open(t, login.Config{Files: files})
	certificate, certificateKey := p.Client(time.Hour, "user")
	v := h.visitor(client.Access{CA: p.Root(), Cert: certificate, Key: certificateKey})
	told := func() int { return strings.Count(h.log.String(), "have no revocation list") }
	h.wants(v, 200, "by certificate")
	h.wants(v, 200, "by certificate")
	if told() != 1 || !strings.Contains(h.log.String(), "other bank") || !strings.Contains(h.log.String(), clients) {
		t.Errorf("the log has it %d times, want once, with the authority and the file: %s", told(), h.log)
	}
	p.Write("clients.pem", slices.Concat(both, mustRead(t, p.ListPath()), mustRead(t, other.ListPath())))
	h.wants(v, 200, "by certificate")
	if found, err := login.Check("api", "127.0.0.1:0", files, false); err != nil || len(found.Unlisted) != 0 {
		t.Errorf("%+v, %v, with lists of both", found, err)
	}
	p.Write("clients.pem", both)
	h.wants(v, 200, "by certificate")
	if told() != 2 {
		t.Errorf("the log has it %d times, want once more for a file that lost its lists", told())
	}
}

// bind returns a file of authorities, bound to an institution.
func bind(t *testing.T, path, institution string) []byte {
	t.Helper()
	bound, _, err := login.Bind(mustRead(t, path), institution)
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

// TestBound has the authority of another bank, which the node's bank trusts for that bank's people, issue certificates that name the node's
// own bank, in each way that the two can stand in one file.
func TestBound(t *testing.T) {
	own, theirs := logintest.New(t, "bank"), logintest.New(t, "bank") // theirs is that of the other bank, and issues in the name of this one
	other := logintest.New(t, "other bank")
	cert, key := own.Server("127.0.0.1")
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Clients: own.Write("clients.pem", mustRead(t, own.Root()))}})
	as := func(p *logintest.PKI) *http.Client {
		cert, key := p.Client(time.Hour, "auditor", "institution-admin", "monitor", "operator", "regulator", "user")
		return h.visitor(client.Access{CA: own.Root(), Cert: cert, Key: key})
	}
	mine, forged, foreign := as(own), as(theirs), as(other)
	const all = "of bank by certificate, [auditor institution-admin monitor operator regulator user]"
	roots := func(parts ...[]byte) { own.Write("clients.pem", slices.Concat(parts...)) }
	raw := func(p *logintest.PKI) []byte { return mustRead(t, p.Root()) }

	t.Log("the only one vouches for its bank, bound or not")
	h.wants(mine, 200, all)
	roots(bind(t, own.Root(), "bank"))
	h.wants(mine, 200, all)
	h.wants(forged, 401, "none of the authorities")

	t.Log("of several, each for the bank to which it is bound")
	roots(bind(t, own.Root(), "bank"), bind(t, theirs.Root(), "other bank"), bind(t, other.Root(), "other bank"))
	h.wants(mine, 200, all)
	h.wants(forged, 401, "it names the institution bank, and CN=bank CA,O=bank, to which it leads, vouches at this node for other bank alone")
	h.wants(foreign, 200, "of other bank by certificate, [auditor regulator user]")

	t.Log("one that is not bound makes nobody anything but a guest")
	roots(bind(t, own.Root(), "bank"), raw(theirs), raw(other))
	h.wants(mine, 200, all)
	h.wants(forged, 401, "it names bank, the node's own institution, and CN=bank CA,O=bank, to which it leads, is one of several authorities that this node trusts for clients, and bound to no institution there")
	h.wants(foreign, 200, "of  by certificate, [user]")
	if !strings.Contains(h.log.String(), "are bound to no institution") {
		t.Errorf("the log does not tell of authorities that are not bound: %s", h.log)
	}
	found, err := login.Check("api", "127.0.0.1:0", login.Files{Cert: cert, Key: key, Clients: filepath.Join(own.Dir, "clients.pem")}, false)
	if want := []string{"CN=bank CA,O=bank", "CN=other bank CA,O=other bank"}; err != nil || !slices.Equal(found.Unbound, want) || !slices.Equal(found.Vouch, []string{"CN=bank CA,O=bank for bank"}) {
		t.Errorf("%+v, %v, want %q unbound and one that is bound", found, err, want)
	}
	roots(raw(own), raw(other))
	h.wants(mine, 401, "is one of several authorities")

	t.Log("one is bound to several banks by being there once for each")
	roots(bind(t, own.Root(), "third bank"), bind(t, own.Root(), "bank"), raw(other))
	h.wants(mine, 200, all)
	roots(bind(t, own.Root(), "third bank"))
	h.wants(mine, 401, "vouches at this node for third bank alone")

	t.Log("what others wrote before it does not bind it: the operator says for whom it vouches")
	if again := bind(t, own.Write("theirs.pem", bind(t, theirs.Root(), "bank")), "other bank"); bytes.Contains(again, []byte("Institution: bank")) {
		t.Errorf("it is bound to what its file said before: %s", again)
	}
	for _, text := range []string{"Institutions: bank", "Institution: bank\nInstitution: other bank", "Institution: bank\n Institution: other bank", "Institution: bank\nColour: red", "Institution:"} {
		roots([]byte(strings.Replace(string(raw(own)), "CERTIFICATE-----\n", "CERTIFICATE-----\n"+text+"\n\n", 1)))
		h.wants(mine, 503, "cannot read the authorities")
	}
	for _, name := range []string{"", " bank", "bank\n", strings.Repeat("b", ca.MaxText+1)} {
		if _, _, err := login.Bind(raw(own), name); err == nil {
			t.Errorf("an authority is bound to %q", name)
		}
	}
}

// TestRenewedRoot has a root renewed, with the same name and key, and its certificates of before and after in one file.
func TestRenewedRoot(t *testing.T) {
	own, other := logintest.New(t, "bank"), logintest.New(t, "other bank")
	cert, key := own.Server("127.0.0.1")
	root, rootKey := newRoot(t, "bank CA", 1, nil)
	renewed, _ := newRoot(t, "bank CA", 2, rootKey)
	file := func(certificates ...*x509.Certificate) (all []byte) {
		for _, one := range certificates {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.Raw})...)
		}
		return all
	}
	clients := own.Write("clients.pem", file(root, renewed))
	files := login.Files{Cert: cert, Key: key, Clients: clients}
	h := open(t, login.Config{Files: files})
	holder, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	role, err := url.Parse("fondaco:role:operator")
	if err != nil {
		t.Fatal(err)
	}
	certificate := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{Organization: []string{"bank"}, CommonName: "alice"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{role}, PublicKey: holder.Public(),
	}, root, rootKey)
	private, err := x509.MarshalPKCS8PrivateKey(holder)
	if err != nil {
		t.Fatal(err)
	}
	alice := h.visitor(client.Access{
		CA: own.Root(), Cert: own.Write("alice.pem", file(certificate)),
		Key: own.Write("alice.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	})
	const all = "alice of bank by certificate, [operator]"
	bound := func(institution string, certificates ...*x509.Certificate) []byte {
		t.Helper()
		data, _, err := login.Bind(file(certificates...), institution)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, renewed, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	theirs := mustRead(t, other.Root())
	for _, c := range []struct {
		what    string
		file    []byte
		status  int
		words   string
		unbound int
		vouch   []string
	}{
		{"the first alone", file(root), 200, all, 0, nil},
		{"both", file(root, renewed), 200, all, 0, nil},
		{"both, the other way round", file(renewed, root), 200, all, 0, nil},
		{"both, and one is bound to the bank", append(bound("bank", renewed), file(root)...), 200, all, 0, []string{"CN=bank CA for bank"}},
		{"both, and one is bound to another bank", append(bound("other bank", renewed), file(root)...), 401, "vouches at this node for other bank alone", 0, []string{"CN=bank CA for other bank"}},
		{"both, each bound to a bank", slices.Concat(bound("other bank", renewed), bound("bank", root)), 200, all, 0, []string{"CN=bank CA for other bank, bank"}},
		{"both beside another authority", slices.Concat(file(root, renewed), theirs), 401, "is one of several authorities", 2, nil},
		{"both beside another authority, and one is bound", slices.Concat(file(root), bound("bank", renewed), theirs), 200, all, 1, []string{"CN=bank CA for bank"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			h.t = t
			own.Write("clients.pem", c.file)
			h.wants(alice, c.status, c.words)
			found, err := login.Check("api", "127.0.0.1:0", files, false)
			if err != nil || len(found.Unbound) != c.unbound || !slices.Equal(found.Vouch, c.vouch) {
				t.Errorf("%+v, %v; want %d unbound, and %q", found, err, c.unbound, c.vouch)
			}
			own.Write("clients.pem", append(c.file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})...))
			before := found.Unlisted
			if found, err = login.Check("api", "127.0.0.1:0", files, false); err != nil || len(found.Unlisted) != len(before)-1 {
				t.Errorf("with its list: %+v, %v; want one less than %q without a list", found, err, before)
			}
		})
	}

	// Authorities that issued one another, without a root that says so itself.
	second, secondKey := newRoot(t, "second CA", 4, nil)
	one, two := issue(t, root, second, secondKey), issue(t, second, root, rootKey)
	own.Write("clients.pem", file(one, two))
	if _, err := login.Check("api", "127.0.0.1:0", files, false); err == nil || !strings.Contains(err.Error(), "CN=bank CA; CN=second CA; add the root's own certificate") {
		t.Errorf("two that issued one another: %v", err)
	}
	own.Write("clients.pem", file(one, two, second))
	h.t = t
	h.wants(alice, 200, "alice of bank by certificate")
}

// newRoot makes a root, with a new key if none is given.
func newRoot(t *testing.T, name string, serial int64, key *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, PublicKey: key.Public(),
	}
	return issue(t, c, c, key), key
}

// issue signs a certificate.
func issue(t *testing.T, c, issuer *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, c.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLists has authorities publish lists that would let in whom they revoked.
func TestLists(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old CA", Organization: []string{"bank"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p := logintest.New(t, "bank")
	cert, certKey := p.Server("127.0.0.1")
	says := func(list []byte) error {
		file := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})...)
		_, err := login.Check("api", "127.0.0.1:0", login.Files{Cert: cert, Key: certKey, Clients: p.Write("clients.pem", file)}, false)
		return err
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, root, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := says(list); err != nil {
		t.Errorf("a proper list: %v", err)
	}

	// The library makes no such lists any more, so their parts are put together here (RFC 5280 §5.1).
	type content struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
		NextUpdate time.Time `asn1:"optional"`
	}
	forge := func(algorithm asn1.ObjectIdentifier, hash crypto.Hash, next time.Time) []byte {
		t.Helper()
		by := pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.NullRawValue}
		body, err := asn1.Marshal(content{Version: 1, Algorithm: by, Issuer: asn1.RawValue{FullBytes: root.RawSubject}, ThisUpdate: time.Now().UTC(), NextUpdate: next.UTC()})
		if err != nil {
			t.Fatal(err)
		}
		digest := hash.New()
		digest.Write(body)
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, hash, digest.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		list, err := asn1.Marshal(struct {
			Content   asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
		}{asn1.RawValue{FullBytes: body}, by, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	sha1RSA, sha256RSA := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	next := time.Now().Add(time.Hour)
	if err := says(forge(sha256RSA, crypto.SHA256, next)); err != nil {
		t.Errorf("a list that was put together: %v", err)
	}
	if err := says(forge(sha1RSA, crypto.SHA1, next)); err == nil || !strings.Contains(err.Error(), "revocation list 1, of CN=old CA,O=bank, is signed with SHA1-RSA, which others can forge: have its authority sign with SHA-256") {
		t.Errorf("a list signed with SHA-1: %v", err)
	}
	if err := says(forge(sha256RSA, crypto.SHA256, time.Time{})); err == nil || !strings.Contains(err.Error(), "does not say when the next one is due") {
		t.Errorf("a list that counts for ever: %v", err)
	}
}

// TestForeignRoles: what another institution's authority says of its people gives them nothing of the node's own, whoever is trusted.
func TestForeignRoles(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	for _, test := range []struct {
		own  string
		want string
	}{{"bank", "[institution-admin monitor operator user]"}, {"another bank", "[user]"}, {"", "[user]"}} {
		h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Clients: p.Root()}, Institution: func() string { return test.own }})
		certificate, certificateKey := p.Client(time.Hour, "institution-admin", "monitor", "operator", "user")
		h.wants(h.visitor(client.Access{CA: p.Root(), Cert: certificate, Key: certificateKey}), 200, test.want)
		certificate, certificateKey = p.Client(time.Hour, "operator")
		status := 403
		if test.own == "bank" {
			status = 200
		}
		h.wants(h.visitor(client.Access{CA: p.Root(), Cert: certificate, Key: certificateKey}), status, "")
	}
}

// TestRotation replaces a listener's certificate while it listens.
func TestRotation(t *testing.T) {
	p := logintest.New(t, "bank")
	first, firstKey := p.Server("127.0.0.1")
	cert, key := p.Write("server.pem", mustRead(t, first)), p.Write("server.key", mustRead(t, firstKey))
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Tokens: filepath.Join(p.Dir, "tokens")}})
	shown := func() []byte {
		t.Helper()
		c, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Raw
	}
	old := shown()
	second, secondKey := p.Server("127.0.0.1")
	p.Write("server.pem", mustRead(t, second))
	if !bytes.Equal(shown(), old) {
		t.Error("between the two steps another certificate is shown than before")
	}
	p.Write("server.key", mustRead(t, secondKey))
	block, _ := pem.Decode(mustRead(t, second))
	if !bytes.Equal(shown(), block.Bytes) {
		t.Error("the new certificate is not shown")
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(shown(), block.Bytes) {
		t.Error("without its file the key is forgotten")
	}
	if got := h.log.String(); strings.Count(got, "the certificate cannot be read again") != 2 || strings.Count(got, "the certificate can be read again") != 1 {
		t.Errorf("the log tells it otherwise: %s", got)
	}
	h.wants(h.visitor(client.Access{Pin: second}), 401, "show who you are")
	if _, err := h.visitor(client.Access{Pin: first}).Get(h.url); err == nil || !strings.Contains(err.Error(), "shows another certificate") {
		t.Errorf("another certificate than the pinned one: %v", err)
	}
}

// TestVersions speaks older TLS, and no TLS, to a listener.
func TestVersions(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Tokens: filepath.Join(p.Dir, "tokens")}})
	at := strings.TrimPrefix(h.url, "https://")
	if c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		c.Close()
		t.Error("TLS 1.2 is spoken")
	}
	c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := c.ConnectionState(); s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "http/1.1" {
		t.Errorf("version %x with %q, want TLS 1.3 with HTTP/1.1", s.Version, s.NegotiatedProtocol)
	}
	plain, err := http.Get("http://" + at)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Body.Close()
	if body, _ := io.ReadAll(plain.Body); plain.StatusCode != 400 || !strings.Contains(string(body), "HTTPS") {
		t.Errorf("without TLS: %d %s", plain.StatusCode, body)
	}
	for began := time.Now(); h.refused(login.Handshake) != 2; time.Sleep(time.Millisecond) { // the client knows before the server
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d handshakes were refused, want 2", h.refused(login.Handshake))
		}
	}
}

// TestBoundInAnotherForm has an authority below the root of several banks, which is bound to one of them, issue in the name of another, and
// the client send the authority's certificate with another signature: it is the same authority.
func TestBoundInAnotherForm(t *testing.T) {
	own := logintest.New(t, "bank")
	cert, key := own.Server("127.0.0.1")
	now := time.Now()
	serial := int64(0)
	issue := func(name, institution string, issuer *x509.Certificate, by, of *ecdsa.PrivateKey, change func(*x509.Certificate)) *x509.Certificate {
		t.Helper()
		serial++
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{Organization: []string{institution}, CommonName: name}, SubjectKeyId: []byte(name),
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
		}
		change(c)
		if issuer == nil {
			issuer = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, of.Public(), by)
		if err == nil {
			c, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	generate := func() *ecdsa.PrivateKey {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	isCA := func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }
	rootKey, theirKey, clientKey := generate(), generate(), generate()
	root := issue("root", "association", nil, rootKey, rootKey, isCA)
	theirs := issue("their CA", "other bank", root, rootKey, theirKey, isCA)
	leaf := issue("mallory", "bank", theirs, theirKey, clientKey, func(c *x509.Certificate) {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.URIs = []*url.URL{{Scheme: "fondaco", Opaque: "role:operator"}}
	})
	encoded := func(certificates ...[]byte) (text []byte) {
		for _, der := range certificates {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		return text
	}
	private, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	keyPath := own.Write("mallory.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	authorities := slices.Concat(encoded(root.Raw), bind(t, own.Write("their.pem", encoded(theirs.Raw)), "other bank"))
	h := open(t, login.Config{Files: login.Files{Cert: cert, Key: key, Clients: own.Write("clients.pem", authorities)}})
	other, err := catest.OtherSignature(theirs.Raw, root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, between := range map[string][]byte{"as it is": theirs.Raw, "in another form": other} {
		mallory := h.visitor(client.Access{CA: own.Root(), Cert: own.Write(name+".pem", encoded(leaf.Raw, between)), Key: keyPath})
		h.wants(mallory, 401, "it names the institution bank, and CN=their CA,O=other bank, to which it leads, vouches at this node for other bank alone")
	}
}

// TestClientsEnd has a file of authorities tell until when they count: of one that was renewed until its last certificate ends, of a list until the
// next is due, of several of a name until the first ends.
func TestClientsEnd(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	begun := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	at := func(days int) time.Time { return begun.Add(time.Duration(days) * 24 * time.Hour) }
	root := func(name string, key *ecdsa.PrivateKey, ends time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
		c, made := newRoot(t, name, 1, key)
		c.NotAfter, c.SerialNumber = ends, big.NewInt(ends.Unix())
		return issue(t, c, c, made), made
	}
	list := func(by *x509.Certificate, key *ecdsa.PrivateKey, number int64, next time.Time) []byte {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: begun, NextUpdate: next}, by, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	one, oneKey := root("bank CA", nil, at(10))
	renewed, _ := root("bank CA", oneKey, at(400))
	same, _ := root("bank CA", nil, at(300))
	other, otherKey := root("other CA", nil, at(200))
	var file []byte
	for _, c := range []*x509.Certificate{one, renewed, other} {
		file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	file = slices.Concat(file, list(renewed, oneKey, 1, at(7)), list(renewed, oneKey, 2, at(5)), list(other, otherKey, 1, at(9)))
	files := login.Files{Cert: cert, Key: key, Clients: p.Write("clients.pem", file)}
	want := login.Clients{
		Authorities: []login.Authority{{Subject: "CN=bank CA", Ends: at(400)}, {Subject: "CN=other CA", Ends: at(200)}},
		Lists:       []login.List{{Issuer: "CN=bank CA", Issued: begun, Next: at(5)}, {Issuer: "CN=other CA", Issued: begun, Next: at(9)}},
	}
	h := open(t, login.Config{Files: files})
	found, err := login.Check("api", "127.0.0.1:0", files, false)
	if got := h.gate.Clients(); err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(found.Clients, want) {
		t.Errorf("the gate has %+v, Check %+v, %v, want %+v", got, found.Clients, err, want)
	}
	p.Write("clients.pem", append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: same.Raw})...))
	want.Authorities[0].Ends = at(300)
	if got := h.gate.Clients(); !reflect.DeepEqual(got, want) {
		t.Errorf("with another authority of the name: %+v, want %+v", got, want)
	}
	p.Write("clients.pem", []byte("no file of authorities"))
	if got := h.gate.Clients(); len(got.Authorities)+len(got.Lists) != 0 || !strings.Contains(h.log.String(), "clients.pem") {
		t.Errorf("of a file that does not read: %+v, and the log has %s", got, h.log)
	}
}
