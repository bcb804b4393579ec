package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// TestHTTPS starts a network whose nodes speak HTTPS, and asks it as the commands do, as a monitor does with a token, and as a stranger.
func TestHTTPS(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts processes")
	}
	n := startNetwork(t, filepath.Join(t.TempDir(), "net"), "--suite", keystest.Suite().Name(), "--tls", "--nodes", "1", "--port", freePort(t, 2))
	out, diagnostics, code := testnet(t, "status", "-d", n.Dir, "-o", "json")
	var nodes []NodeStatus
	if err := json.Unmarshal([]byte(out), &nodes); err != nil || code != 0 || len(nodes) != 1 || !nodes[0].Ready || nodes[0].Status == nil {
		t.Fatalf("status: exit %d, %v\n%s%s", code, err, out, diagnostics)
	}
	text, err := os.ReadFile(n.TokenPath())
	if err != nil {
		t.Fatal(err)
	}
	config, err := client.Access{CA: n.RootPath()}.TLS()
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer web.CloseIdleConnections()
	ask := func(url, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for _, url := range []string{n.Nodes[0].API + "/v1/status", n.Nodes[0].Admin + "/metrics", n.Nodes[0].Admin + "/nothing"} {
		if status, body := ask(url, ""); status != http.StatusUnauthorized || !strings.Contains(body, "show who you are") {
			t.Errorf("%s, to a stranger: %d %s", url, status, body)
		}
	}
	if status, body := ask(n.Nodes[0].Admin+"/metrics", strings.TrimSpace(string(text))); status != http.StatusOK || !strings.Contains(body, `fondaco_clients_refused_total{group="main",reason="no_credential"} 3`) {
		t.Errorf("metrics: %d %s", status, body)
	}
	if _, diagnostics, code := testnet(t, "up", "-d", n.Dir, "--tls"); code != 2 || !strings.Contains(diagnostics, "--tls is for a new network") {
		t.Errorf("up --tls again: exit %d\n%s", code, diagnostics)
	}
}
