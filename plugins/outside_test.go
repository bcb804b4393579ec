//go:build unix

package plugins_test

import (
	"context"
	crand "crypto/rand"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/testnet/network"
)

// TestOutside has a CA provider in a module of its own, which README.md tells how to make: it passes the conformance suite, and nodes
// run with it. Three of four are on its list; the fourth is connected once its line is added.
func TestOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it builds a module and starts four nodes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	n := freshNetwork(t, ctx, 4)
	binary, err := n.Binary()
	if err != nil {
		t.Fatal(err)
	}

	// The module, by the commands of README.md.
	module := t.TempDir()
	if err := os.CopyFS(module, os.DirFS("testdata/outside")); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(module, "list")
	write(t, list, "")
	write(t, filepath.Join(module, "settings"), list+"\n")
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```sh\n(go mod init.*?)^```$").FindSubmatch(text)
	root, err := filepath.Abs("..")
	if block == nil || err != nil {
		t.Fatalf("README.md has no commands for a module: %v", err)
	}
	shell := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", strings.ReplaceAll(string(block[1]), "/src/fondaco", root))
	shell.Dir, shell.Env = module, append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sum := regexp.MustCompile(`(?m)^sha256 +([0-9a-f]{64})$`).FindSubmatch(out)
	if sum == nil || !regexp.MustCompile(`(?m)^ok  	example.org/allowed`).Match(out) {
		t.Fatalf("the commands did not print the sum, or that the tests hold:\n%s", out)
	}

	// Each node has a certificate, by whatever authority: the list is what counts.
	suite := keys.Std()
	a := authority(t, suite, "anybody")
	var lines []string
	for i := range n.Nodes {
		node := &n.Nodes[i]
		chain := certify(t, a, suite, node)
		lines = append(lines, fmt.Sprintf("%s %s node\n", identity.Fingerprint(suite, chain[0]), node.Institution))
		write(t, filepath.Join(node.Dir, "chain.pem"), encoded(t, chain))
		adopt(t, node, cli.CASection{Program: filepath.Join(module, "build", "allowed"), SHA256: string(sum[1]), Settings: filepath.Join(module, "settings"), Chain: "chain.pem"})
	}
	write(t, list, strings.Join(lines[:3], ""))
	for i := range n.Nodes {
		if _, err := n.Start(&n.Nodes[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.WaitReady(ctx, &n.Nodes[0], &n.Nodes[1], &n.Nodes[2]); err != nil {
		t.Fatal(err)
	}
	first, last := &n.Nodes[0], &n.Nodes[3]
	fingerprint, _, _ := strings.Cut(lines[3], " ")
	until(t, ctx, first, last, func(p client.Peer) bool {
		return !p.Up && strings.Contains(p.Problem, "is not on the list: have a line added with "+fingerprint)
	})
	write(t, list, strings.Join(lines, ""))
	until(t, ctx, first, last, func(p client.Peer) bool { return p.Up })
}

// freshNetwork makes a network and the binary that its nodes run.
func freshNetwork(t *testing.T, ctx context.Context, nodes int) *network.Network {
	t.Helper()
	port := 20_000
	for network.CheckPorts(port, nodes) != nil {
		port = 20_000 + rand.IntN(30_000)
	}
	dir := t.TempDir()
	n, err := network.Create(network.Config{Dir: dir, Port: port, Nodes: nodes})
	if err == nil {
		_, err = network.Build(ctx, "..", dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.StopAll(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func authority(t *testing.T, suite keys.Suite, institution string) *x509ca.Authority {
	t.Helper()
	key, err := suite.Generate(suite.Vote(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := x509ca.Create(filepath.Join(t.TempDir(), "ca"), x509ca.NewAuthority{Suite: suite, Institution: institution, Key: key, At: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// certify issues a certificate for a node's key.
func certify(t *testing.T, a *x509ca.Authority, suite keys.Suite, node *network.Node, roles ...identity.Role) [][]byte {
	t.Helper()
	key, err := keyfile.Read(filepath.Join(node.Dir, cli.KeyFile), suite, nil)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509ca.Request(suite, key, node.Name)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Enroll(ca.EnrollRequest{CSR: csr, Institution: a.Institution(), Name: node.Name, Roles: roles, At: time.Now().Add(-time.Minute).UnixMilli()})
	if err != nil || answer.Issued == nil {
		t.Fatalf("Enroll = %+v, %v", answer, err)
	}
	return answer.Issued.Chain
}

// encoded returns certificates in PEM.
func encoded(t *testing.T, chain [][]byte) string {
	t.Helper()
	var out strings.Builder
	for _, der := range chain {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// adopt tells a node whom to ask about others.
func adopt(t *testing.T, node *network.Node, section cli.CASection) {
	t.Helper()
	file, err := cli.ReadConfig(node.Dir)
	if err != nil {
		t.Fatal(err)
	}
	file.CA = section
	if err := cli.WriteConfig(node.Dir, file); err != nil {
		t.Fatal(err)
	}
}

// until waits until a node sees a peer as it is wanted.
func until(t *testing.T, ctx context.Context, node, peer *network.Node, wanted func(client.Peer) bool) {
	t.Helper()
	api, err := client.New(node.API, nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen client.Peer
	for {
		status, err := api.Status(ctx)
		if err != nil {
			t.Fatalf("%s sees %s as %+v: %v", node.Name, peer.Name, seen, err)
		}
		for _, p := range status.Peers {
			if p.Node == peer.ID {
				seen = p
			}
		}
		if wanted(seen) {
			return
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
