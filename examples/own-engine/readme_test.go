package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/testnet/network"
)

var readme = flag.Bool("readme", false, "run TestReadme")

// TestReadme does what README.md says, and transfers something after the leader was killed.
func TestReadme(t *testing.T) {
	if !*readme {
		t.Skip("builds and starts a network: run with -readme")
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```sh\n")
	script, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("README.md has no commands")
	}
	port := 20_000
	for network.CheckPorts(port, 3) != nil {
		port = 20_000 + rand.IntN(30_000)
	}
	temp := t.TempDir()
	dir := filepath.Join(temp, "rota-net")
	t.Cleanup(func() {
		if n, err := network.Open(dir); err == nil {
			if err := n.StopAll(); err != nil {
				t.Error(err)
			}
		}
	})
	said, killed := map[string]string{}, false
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "go test") {
			continue // this is it
		}
		if strings.Contains(line, " down ") {
			transfer(t, dir, strings.TrimSpace(said["kill"]))
		}
		line = strings.ReplaceAll(line, "/tmp/", temp+"/")
		line = strings.Replace(line, "testnet up", fmt.Sprintf("testnet up --port %d", port), 1)
		command := exec.CommandContext(t.Context(), "bash", "-c", line)
		command.Dir = "../.."
		out, err := command.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", line, err, out, stderr(err))
		}
		for _, word := range []string{"up", "kill", "status"} {
			if strings.Contains(line, "testnet "+word) {
				said[word] = string(out)
				killed = killed || word == "kill"
			}
		}
	}
	if !killed || !strings.Contains(said["up"], "InsufficientFunds") || strings.Count(said["status"], "yes") != 2 {
		t.Errorf("up said\n%s\nkill\n%s\nstatus\n%s", said["up"], said["kill"], said["status"])
	}
}

// transfer moves a unit through a node that was not killed.
func transfer(t *testing.T, dir, killed string) {
	t.Helper()
	n, err := network.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	node := n.Nodes[0]
	if node.Name == killed {
		node = n.Nodes[1]
	}
	api, err := client.New(node.API, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := n.OpenToken(t.Context(), api)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := token.Send(t.Context(), "alice", "transfer", n.Address("bob").String(), "1")
	if err != nil || sent.Receipt.Status != "ok" {
		t.Errorf("a transfer after %s was killed: %+v, %v", killed, sent, err)
	}
}

func stderr(err error) string {
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it unwrapped
		return string(exit.Stderr)
	}
	return ""
}
