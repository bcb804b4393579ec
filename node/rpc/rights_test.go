package rpc_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/login/logintest"
	"github.com/fondaco/fondaco/node/rpc"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// rights is who may do what, written down once more: by route, the roles that may.
var (
	readers   = []identity.Role{"reader", "user", "owner", "deployer", "registrar", "committee", "compliance", "auditor", "regulator", "institution-admin", "operator"}
	senders   = []identity.Role{"user", "owner", "deployer", "registrar", "committee", "compliance", "regulator", "institution-admin", "operator"}
	exporters = []identity.Role{"auditor", "regulator", "institution-admin", "operator"}
	operators = []identity.Role{"operator"}
	allRoles  = append(slices.Clone(readers), "monitor", "node", "clerk")

	mayUse = map[string][]identity.Role{
		"GET /openapi.json":                 readers,
		"GET /v1/chain":                     readers,
		"GET /v1/genesis":                   readers,
		"GET /v1/status":                    readers,
		"GET /v1/blocks":                    readers,
		"GET /v1/blocks/{height}":           readers,
		"GET /v1/blocks/{height}/raw":       readers,
		"GET /v1/transactions/{id}":         readers,
		"GET /v1/transactions/{id}/trace":   readers,
		"POST /v1/transactions":             senders,
		"POST /v1/transactions/batch":       senders,
		"GET /v1/accounts/{address}":        readers,
		"GET /v1/contracts/{address}":       readers,
		"GET /v1/corrections":               readers,
		"GET /v1/corrections/{number}":      readers,
		"GET /v1/contracts/{address}/code":  readers,
		"POST /v1/contracts/{address}/call": readers,
		"GET /v1/state/{address}/{key}":     readers,
		"GET /v1/headers/{height}/proof":    readers,
		"POST /v1/params/check":             readers,
		"POST /v1/motions/check":            readers,
		"GET /v1/consensus":                 exporters,
		"GET /v1/audit":                     readers,
		"GET /v1/audit/export":              exporters,
		"GET /v1/backup":                    exporters,
		"POST /v1/plugins/{name}/restart":   operators,
		"GET /v1/evidence":                  exporters,
		"GET /v1/evidence/{id}":             exporters,
		"GET /v1/events/blocks":             readers,
		"GET /v1/events":                    readers,
	}
)

// secured is a node whose API has TLS, and who may use it.
type secured struct {
	*chain
	pki    *logintest.PKI
	tokens string
}

func startSecured(t *testing.T, change ...func(*node.Config)) *secured {
	t.Helper()
	s := &secured{pki: logintest.New(t, "bank")}
	s.tokens = filepath.Join(s.pki.Dir, "tokens")
	cert, key := s.pki.Server("127.0.0.1", "localhost")
	s.chain = start(t, 1, append(change, func(c *node.Config) {
		c.APIFiles = login.Files{Cert: cert, Key: key, Clients: s.pki.Root(), Tokens: s.tokens}
	})...)
	s.url = "https" + strings.TrimPrefix(s.url, "http")
	return s
}

// as returns an HTTP client that shows what a says, and holds answers to the document.
func (s *secured) as(t *testing.T, a client.Access) *http.Client {
	t.Helper()
	a.CA = s.pki.Root()
	config, err := a.TLS()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: &checker{t: t, doc: readDocument(t), next: transport, asked: map[string]bool{}}}
}

// ask sends a request of a route, and returns the status and the code of the problem if there is one.
func (s *secured) ask(t *testing.T, h *http.Client, pattern string, header ...string) (int, string) {
	t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllStringFunc(path, func(name string) string {
		return map[string]string{"{height}": "0", "{id}": "0x" + strings.Repeat("00", 32), "{address}": "0x" + strings.Repeat("00", 19) + "01", "{key}": "0x00", "{name}": "none"}[name]
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := h.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", pattern, err)
	}
	defer answer.Body.Close()
	var p client.Problem
	if answer.StatusCode >= 400 {
		if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
			t.Fatalf("%s: %d: %v", pattern, answer.StatusCode, err)
		}
	} else if !strings.HasPrefix(path, "/v1/events") { // one package is written at a time, and who takes it half is in the way of the next
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Fatalf("%s: %v", pattern, err)
		}
	}
	return answer.StatusCode, p.Code
}

// TestRights asks for every route of the document with every role, shown by a token and by a certificate, and in the ways that do not count.
func TestRights(t *testing.T) {
	s := startSecured(t)
	if got := slices.Sorted(slices.Values(rpc.Patterns())); len(got) != len(mayUse) {
		t.Fatalf("the API has %d routes, and this test knows %d", len(got), len(mayUse))
	}
	nobody := s.as(t, client.Access{})
	expired := s.pki.Token(s.tokens, "expired", -time.Hour, "operator")
	refused := []struct {
		what   string
		header []string
	}{
		{"nothing", nil},
		{"no token at all", []string{"Authorization", "Bearer"}},
		{"a token that the node does not know", []string{"Authorization", "Bearer " + login.TokenPrefix + "AAAA"}},
		{"a token that has expired", []string{"Authorization", "Bearer " + expired}},
		{"a password", []string{"Authorization", "Basic b3BlcmF0b3I6b3BlcmF0b3I="}},
		{"a secret that is not the operator's", []string{client.OperatorHeader, strings.Repeat("00", 32)}},
	}
	secret, err := os.ReadFile(filepath.Join(s.config.Dir, node.OperatorKey))
	if err != nil {
		t.Fatal(err)
	}
	type visitor struct {
		role   identity.Role
		means  string
		http   *http.Client
		header []string
	}
	visitors := []visitor{{"operator", "the operator's secret", nobody, []string{client.OperatorHeader, hex.EncodeToString(secret)}}}
	for _, role := range allRoles {
		cert, key := s.pki.Client(time.Hour, role)
		visitors = append(visitors, visitor{role, "a certificate", s.as(t, client.Access{Cert: cert, Key: key}), nil})
		if role == "node" || role == "clerk" { // no token is made that may do nothing
			continue
		}
		visitors = append(visitors, visitor{role, "a token", nobody, []string{"Authorization", "Bearer " + s.pki.Token(s.tokens, string(role), time.Hour, role)}})
	}
	for pattern, may := range mayUse {
		if !slices.Contains(rpc.Patterns(), pattern) {
			t.Errorf("%s: the API has no such route", pattern)
			continue
		}
		for _, c := range refused {
			if status, code := s.ask(t, nobody, pattern, c.header...); status != http.StatusUnauthorized || code != client.CodeUnauthenticated {
				t.Errorf("%s with %s: %d %s, want 401 %s", pattern, c.what, status, code, client.CodeUnauthenticated)
			}
		}
		for _, v := range visitors {
			status, code := s.ask(t, v.http, pattern, v.header...)
			may := slices.Contains(may, v.role)
			if pattern == "GET /v1/backup" { // holds what is private too: no token makes an auditor, and an admin is none
				may = v.role == "operator" || v.means == "a certificate" && (v.role == "auditor" || v.role == "regulator")
			}
			if may {
				if status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 500 {
					t.Errorf("%s as %s by %s: %d %s, want it to be allowed", pattern, v.role, v.means, status, code)
				}
			} else if status != http.StatusForbidden || code != client.CodeForbidden {
				t.Errorf("%s as %s by %s: %d %s, want 403 %s", pattern, v.role, v.means, status, code, client.CodeForbidden)
			}
		}
	}
	if status, code := s.ask(t, nobody, "GET /v1/nothing"); status != http.StatusUnauthorized {
		t.Errorf("a path that is not there, with nothing: %d %s, want 401 like any other", status, code)
	}
}

// TestRightsOnLoopback asks a node without TLS, where whoever is on the machine may do everything but what is the operator's.
func TestRightsOnLoopback(t *testing.T) {
	c := start(t, 1)
	s := &secured{chain: c}
	for pattern := range mayUse {
		status, code := s.ask(t, c.http, pattern)
		switch {
		case pattern == "POST /v1/plugins/{name}/restart":
			if status != http.StatusForbidden || code != client.CodeDenied {
				t.Errorf("%s: %d %s, want 403 %s", pattern, status, code, client.CodeDenied)
			}
		case status == http.StatusUnauthorized || status == http.StatusForbidden || status >= 500:
			t.Errorf("%s: %d %s, want it to be allowed", pattern, status, code)
		}
	}
}

// TestHost asks for everything under a name that somebody else has lead to this machine.
func TestHost(t *testing.T) {
	c := start(t, 1)
	s := &secured{chain: c}
	web := &http.Client{Transport: named{"evil.example", c.http.Transport}}
	for pattern := range mayUse {
		if status, code := s.ask(t, web, pattern); status != http.StatusMisdirectedRequest || code != client.CodeMisdirected {
			t.Errorf("%s: %d %s, want 421 %s", pattern, status, code, client.CodeMisdirected)
		}
	}
	if status, _ := s.ask(t, web, "GET /v1/nothing"); status != http.StatusMisdirectedRequest {
		t.Errorf("a path that is not there: %d, want 421 like any other", status)
	}
}

// named sends requests with another Host.
type named struct {
	host string
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = n.host
	return n.next.RoundTrip(r)
}

// TestBackupsAreWrittenDown takes backups as everybody who may, and looks into the log of reads.
func TestBackupsAreWrittenDown(t *testing.T) {
	s := startSecured(t)
	nobody := s.as(t, client.Access{})
	secret, err := os.ReadFile(filepath.Join(s.config.Dir, node.OperatorKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := s.pki.Client(time.Hour, "auditor")
	auditor := s.as(t, client.Access{Cert: cert, Key: key})
	cert, key = s.pki.Client(time.Hour, "institution-admin")
	admin := s.as(t, client.Access{Cert: cert, Key: key})
	bearer := func(role identity.Role) []string {
		return []string{"Authorization", "Bearer " + s.pki.Token(s.tokens, "by-"+string(role), time.Hour, role)}
	}
	for _, c := range []struct {
		who    string
		http   *http.Client
		header []string
		status int
	}{
		{"the operator by his secret", nobody, []string{client.OperatorHeader, hex.EncodeToString(secret)}, 200},
		{"an operator by a token", nobody, bearer("operator"), 200},
		{"an auditor by a certificate", auditor, nil, 200},
		{"an auditor by a token", nobody, bearer("auditor"), 403},
		{"a regulator by a token", nobody, bearer("regulator"), 403},
		{"an admin of the institution by a certificate", admin, nil, 403},
	} {
		if status, _ := s.ask(t, c.http, "GET /v1/backup", c.header...); status != c.status {
			t.Errorf("%s: %d, want %d", c.who, status, c.status)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.wroteDown(t, "operator", "by-operator", "holder-2") // the auditor
}

// wroteDown checks that the log of reads has exactly the backups that these took, in order.
func (c *chain) wroteDown(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	_, err := audit.WalkReads(c.suite, state.OS(), []string{filepath.Join(c.config.Dir, "data", "main", node.ReadsDir)}, func(r *audit.Read, _ keys.Digest) error {
		if r.Method != http.MethodGet || r.URI != "/v1/backup" {
			t.Errorf("read %d is %s %s", r.Number, r.Method, r.URI)
		}
		got = append(got, r.Name)
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the log of reads has backups of %q, %v; want %q", got, err, want)
	}
}

// TestReadsTellAll: of two requests that are answered differently, the log of reads tells which it was, also where the path is the same.
func TestReadsTellAll(t *testing.T) {
	s := startSecured(t)
	cert, key := s.pki.Client(time.Hour, "auditor")
	auditor := s.as(t, client.Access{Cert: cert, Key: key})
	post := func(body string) {
		t.Helper()
		answer, err := auditor.Post(s.url+"/v1/contracts/"+precompiles.AccountsAddress.String()+"/call", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("an auditor calls %s: %s, %v", body, answer.Status, err)
		}
	}
	calls := []string{}
	for _, name := range []string{"alice", "bob"} {
		calls = append(calls, fmt.Sprintf(`{"method":"get","named":[%q]}`, s.address(name)))
		post(calls[len(calls)-1])
	}
	sender := s.pki.Token(s.tokens, "by-reader", time.Hour, "reader")
	for _, c := range []struct {
		what, path string
		header     []string
		http       *http.Client
		status     int
	}{
		{"an auditor's header", "/v1/events", []string{"Last-Event-ID", "0"}, auditor, 400},
		{"an auditor's header that is not what the path has", "/v1/events?after=1", []string{"Last-Event-ID", "0"}, auditor, 400},
		{"an auditor's header of blocks", "/v1/events/blocks?from=1", []string{"Last-Event-ID", "0"}, auditor, 400},
		{"an auditor's parameter", "/v1/events?after=0", nil, auditor, 200},
		{"an auditor's header that the path has, too", "/v1/events?after=0", []string{"Last-Event-ID", "0"}, auditor, 200},
		{"the header of who is not written down", "/v1/events", []string{"Last-Event-ID", "0", "Authorization", "Bearer " + sender}, s.as(t, client.Access{}), 200},
	} {
		if status, code := s.ask(t, c.http, "GET "+c.path, c.header...); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.what, status, code, c.status)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var posted []keys.Digest
	var followed []string
	_, err := audit.WalkReads(s.suite, state.OS(), []string{filepath.Join(s.config.Dir, "data", "main", node.ReadsDir)}, func(r *audit.Read, _ keys.Digest) error {
		switch {
		case r.Method == http.MethodPost:
			posted = append(posted, r.Body)
		case r.Body != client.QueryBody(s.suite, nil):
			t.Errorf("%s %s is written down with the body %s, and has none", r.Method, r.URI, r.Body)
		default:
			followed = append(followed, r.URI)
		}
		return nil
	})
	if want := []keys.Digest{client.QueryBody(s.suite, []byte(calls[0])), client.QueryBody(s.suite, []byte(calls[1]))}; err != nil || !slices.Equal(posted, want) {
		t.Errorf("the log of reads has calls with the bodies %s, %v; want %s", posted, err, want)
	}
	if want := []string{"/v1/events", "/v1/events?after=1", "/v1/events/blocks?from=1", "/v1/events?after=0", "/v1/events?after=0"}; !slices.Equal(followed, want) {
		t.Errorf("the log of reads has the streams %q, and an auditor asked for %q", followed, want)
	}
}

// TestReadsFull is the story of a regulator who reads until the node has no room to write that down.
func TestReadsFull(t *testing.T) {
	c := start(t, 1, func(config *node.Config) { config.Reads = 4_000 })
	c.send(c.tx("alice", precompiles.AccountsAddress, "nothing", nil)) // an anchor is for a node that has blocks
	regulator, key := c.as("rita"), append(precompiles.NodeKeys(), c.genesis.Members[0].Node[:]...)[ledger.AddressSize:]
	reads := func(by *client.Client) error {
		_, err := by.State(t.Context(), precompiles.MembersAddress, key, false)
		return err
	}
	full := func(what string, err error) {
		t.Helper()
		p, ok := errors.AsType[*client.Problem](err)
		if !ok || p.Status != http.StatusServiceUnavailable || p.Code != client.CodeReadsFull || !strings.Contains(p.Detail, "fondaco audit log anchor") {
			t.Errorf("%s of a node whose log of reads is full: %v, want 503 %s and what to do", what, err, client.CodeReadsFull)
		}
	}
	answered := 0
	var err error
	for ; answered < 1_000; answered++ {
		if err = reads(regulator); err != nil {
			break
		}
	}
	full("a regulator's read", err)
	c.refused(t, http.StatusServiceUnavailable, client.CodeReadsFull, "GET", "/v1/backup", "", nil)
	full("another read", reads(regulator))
	if err := reads(c.as("alice")); err != nil {
		t.Errorf("a read that is not written down: %v", err)
	}
	if _, err := regulator.Status(t.Context()); err != nil {
		t.Errorf("a regulator asks how the node is: %v", err)
	}
	if _, err := regulator.Chain(t.Context()); err != nil {
		t.Errorf("a regulator asks for the chain: %v", err)
	}
	if _, err := regulator.Genesis(t.Context()); err != nil {
		t.Errorf("a regulator asks for the genesis: %v", err)
	}
	signed := c.sign(c.tx("rita", precompiles.AccountsAddress, "nothing", nil), "rita")
	if err := regulator.Send(t.Context(), signed); err != nil {
		t.Errorf("a regulator sends a transaction: %v", err)
	}

	// What was answered is in the log, to the last read. Once that is on chain there is room.
	var last keys.Digest
	report, err := audit.WalkReads(c.suite, state.OS(), []string{filepath.Join(c.config.Dir, "data", "main", node.ReadsDir)}, func(_ *audit.Read, d keys.Digest) error {
		last = d
		return nil
	})
	if err != nil || report.Count != uint64(answered) {
		t.Fatalf("the log has %d reads, %v; %d were answered", report.Count, err, answered)
	}
	c.must("admin", precompiles.AuditAddress, "anchor", &precompiles.AnchorArgs{Log: audit.ReadsName(c.genesis.Members[0].Node), Count: report.Count, Digest: last})
	if err := reads(regulator); err != nil {
		t.Errorf("after the log was anchored: %v", err)
	}
}

// TestReadsOfRestored is the story of a node whose folder is put back as it was before its log of reads was anchored, and whose journal knows better: a log that
// goes on where that state says would never be anchored.
func TestReadsOfRestored(t *testing.T) {
	c := start(t, 1)
	dir, old := filepath.Join(c.config.Dir, "data", "main"), filepath.Join(t.TempDir(), "old")
	c.send(c.tx("alice", precompiles.AccountsAddress, "nothing", nil))
	stop := func() {
		t.Helper()
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	c.run()
	if _, err := c.as("rita").Account(t.Context(), c.address("alice")); err != nil {
		t.Fatal(err)
	}
	c.must("admin", precompiles.AuditAddress, "anchor", &precompiles.AnchorArgs{Log: audit.ReadsName(c.genesis.Members[0].Node), Count: 1, Digest: keys.Digest{1}})
	c.send(c.tx("alice", precompiles.AccountsAddress, "nothing", nil)) // the journal has the last block, and so the only member could go on after the one before it
	stop()
	journal, err := os.ReadFile(filepath.Join(dir, group.JournalName))
	if err == nil {
		err = errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(old)), os.WriteFile(filepath.Join(dir, group.JournalName), journal, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	c.run()
	_, err = c.as("rita").Account(t.Context(), c.address("alice"))
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Code != client.CodeUnavailable || !strings.Contains(p.Detail, "is behind the chain") {
		t.Errorf("a regulator's read of a node that lacks the newest blocks: %v, want 503 %s", err, client.CodeUnavailable)
	}
	if _, err := c.as("alice").Account(t.Context(), c.address("alice")); err != nil {
		t.Errorf("a read that is not written down: %v", err)
	}
}

// TestBackupOnLoopback takes a backup where nobody is asked who he is.
func TestBackupOnLoopback(t *testing.T) {
	c := start(t, 1)
	if status, _ := (&secured{chain: c}).ask(t, c.http, "GET /v1/backup"); status != http.StatusOK {
		t.Errorf("a backup on loopback: %d", status)
	}
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	c.wroteDown(t, audit.Unasked)
}

// TestStreamEnds follows blocks with a token, which is then revoked.
func TestStreamEnds(t *testing.T) {
	s := startSecured(t)
	text := s.pki.Token(s.tokens, "follower", time.Hour, "reader")
	path := s.pki.Write("token", []byte(text))
	api, err := client.Open(s.url, client.Access{CA: s.pki.Root(), Token: path})
	if err != nil {
		t.Fatal(err)
	}
	sender := s.pki.Write("sender", []byte(s.pki.Token(s.tokens, "sender", time.Hour, "user")))
	if s.api, err = client.Open(s.url, client.Access{CA: s.pki.Root(), Token: sender}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for b, err := range api.Follow(t.Context(), 0) {
		if err != nil {
			if p := fmt.Sprint(err); !strings.Contains(p, "not on the node's list") || seen < 2 {
				t.Errorf("after %d blocks: %v", seen, err)
			}
			return
		}
		if seen++; b.Height == 1 {
			all, err := login.ReadTokens(s.tokens)
			if err == nil {
				err = login.WriteTokens(s.tokens, slices.DeleteFunc(all, func(t login.Token) bool { return t.Name == "follower" }))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if b.Height > 3 {
			t.Fatalf("block %d is still sent", b.Height)
		}
		s.send(s.tx("alice", precompiles.AccountsAddress, "nothing", nil)) // has no effect, in a block
	}
	t.Error("the stream ended without a word")
}
