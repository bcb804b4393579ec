package monitor

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/login/logintest"
	"github.com/fondaco/fondaco/state/identity"
)

// TestRights asks for everything on an admin interface with TLS, with every role.
func TestRights(t *testing.T) {
	p := logintest.New(t, "bank")
	cert, key := p.Server("127.0.0.1")
	tokens := filepath.Join(p.Dir, "tokens")
	gate, err := login.Open(login.Config{Name: "admin", Listen: "127.0.0.1:0", Files: login.Files{Cert: cert, Key: key, Tokens: tokens}, Institution: func() string { return "bank" }})
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: gate, Config: &http.Server{Handler: New(Config{Profile: true}).Handler(gate)}}
	gate.Prepare(server.Config)
	server.Start()
	defer server.Close()
	config, err := client.Access{CA: p.Root()}.TLS()
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer web.CloseIdleConnections()
	watchers, operators := []identity.Role{"monitor", "operator"}, []identity.Role{"operator"}
	shown := map[identity.Role]string{"": ""}
	for _, role := range []identity.Role{"reader", "monitor", "user", "auditor", "regulator", "institution-admin", "operator"} {
		shown[role] = p.Token(tokens, string(role), time.Hour, role)
	}
	for path, may := range map[string][]identity.Role{
		"/metrics": watchers, "/livez": watchers, "/readyz": watchers, "/nothing": watchers,
		"/debug/pprof/": operators, "/debug/pprof/goroutine": operators, "/debug/pprof/profile?seconds=1": operators, "/debug/pprof/trace?seconds=1": operators,
	} {
		for role, token := range shown {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+gate.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := http.StatusForbidden
			if r.Header.Set("Authorization", "Bearer "+token); role == "" {
				r.Header.Del("Authorization")
				want = http.StatusUnauthorized
			}
			answer, err := web.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			allowed := answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusForbidden
			if allowed != slices.Contains(may, role) || !allowed && answer.StatusCode != want {
				t.Errorf("%s as %q: %d, want it to be allowed = %t", path, role, answer.StatusCode, slices.Contains(may, role))
			}
		}
	}
}
