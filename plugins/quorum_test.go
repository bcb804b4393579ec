//go:build unix

package plugins_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/keys"
)

var long = flag.Bool("long", false, "run TestQuorumNetwork")

// TestQuorumNetwork has two nodes for whom two of three providers must vouch. The third has no program, which is in nobody's way; when
// the two others no longer vouch for a node, it is sent away with the words of both.
func TestQuorumNetwork(t *testing.T) {
	if !*long {
		t.Skip("waits a minute for nodes to ask again: run with -long")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	n := freshNetwork(t, ctx, 2)
	dir, suite := t.TempDir(), keys.Std()
	quorum := "k = 2\n[[provider]]\nname = \"gone\"\nprogram = \"/nowhere\"\nsha256 = \"" + strings.Repeat("00", 32) + "\"\n"
	chains := make([]string, len(n.Nodes))
	var ends []func() // of the second node's certificates
	for _, provider := range []string{"registry", "notary"} {
		var trust strings.Builder
		for i := range n.Nodes {
			node := &n.Nodes[i]
			a := authority(t, suite, node.Institution)
			issued := certify(t, a, suite, node, "node")
			chains[i] += encoded(t, issued)
			root := filepath.Join(dir, fmt.Sprintf("%s-%d.pem", provider, i))
			write(t, root, encoded(t, issued[1:]))
			fmt.Fprintf(&trust, "[[trust]]\nroots = %q\ncrl = [%q]\ninstitutions = [%q]\n", root, a.ListPath(), node.Institution)
			if i == 1 {
				ends = append(ends, func() { revoke(t, a) })
			}
		}
		settings := filepath.Join(dir, provider+".toml")
		write(t, settings, trust.String())
		quorum += fmt.Sprintf("[[provider]]\nname = %q\nshipped = \"ca-x509\"\nsettings = %q\n", provider, settings)
	}
	write(t, filepath.Join(dir, "quorum.toml"), quorum)
	for i := range n.Nodes {
		node := &n.Nodes[i]
		write(t, filepath.Join(node.Dir, "chain.pem"), chains[i])
		adopt(t, node, cli.CASection{Program: "ca-quorum", Settings: filepath.Join(dir, "quorum.toml"), Chain: "chain.pem"})
		if _, err := n.Start(node); err != nil {
			t.Fatal(err)
		}
	}
	first, second := &n.Nodes[0], &n.Nodes[1]
	if err := n.WaitReady(ctx, first, second); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, first, second, func(p client.Peer) bool { return p.Up })
	for _, end := range ends {
		end()
	}
	until(t, ctx, first, second, func(p client.Peer) bool {
		return !p.Up && strings.Contains(p.Problem, "2 of 3 providers must vouch for the same key and institution, and 0 do: gone: ") &&
			strings.Contains(p.Problem, "registry: ") && strings.Contains(p.Problem, "notary: ") && strings.Count(p.Problem, "was revoked on") == 2
	})
	log, err := os.ReadFile(n.LogPath(first))
	if err != nil || !strings.Contains(string(log), "provider did not start") {
		t.Errorf("the node's log says nothing of the provider that is gone: %v", err)
	}
}

// revoke ends the validity of the only certificate of an authority.
func revoke(t *testing.T, a *x509ca.Authority) {
	t.Helper()
	issued, err := a.Issued()
	if err != nil || len(issued) != 1 {
		t.Fatalf("Issued = %+v, %v", issued, err)
	}
	if r, err := a.Revoke(ca.RevokeRequest{Serial: issued[0].Serial, At: time.Now().UnixMilli()}); err != nil || r.Refusal != nil {
		t.Fatalf("Revoke = %+v, %v", r, err)
	}
}
