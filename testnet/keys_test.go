package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/testnet/network"
)

// TestSigners has the key of each node in a process of its own. Under load the leader's is killed and started again, then those of
// two nodes, without which there is no quorum, then one together with its node: nothing is lost, and no two nodes have
// different blocks.
func TestSigners(t *testing.T) {
	n := startNetwork(t, filepath.Join(t.TempDir(), "net"), "--suite", keystest.Suite().Name(), "--signer", "--nodes", "4", "--port", freePort(t, 4))
	for i := range n.Nodes {
		if _, err := os.Stat(filepath.Join(n.Nodes[i].Dir, cli.KeyFile)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder of %s has a key: %v", n.Nodes[i].Name, err)
		}
	}
	first, err := leader(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	lead, err := n.Node(first)
	if err != nil {
		t.Fatal(err)
	}
	var others []int
	for i := range n.Nodes {
		if n.Nodes[i].Name != first {
			others = append(others, i)
		}
	}
	status := func(node *network.Node) *client.Status {
		t.Helper()
		api, err := client.New(node.API, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := api.Status(t.Context())
		if err != nil {
			return &client.Status{}
		}
		return s
	}
	ctx, stop := context.WithCancel(t.Context())
	payers := []*payer{newPayer(t, n, others[0]), newPayer(t, n, others[1])}
	var running sync.WaitGroup
	for _, p := range payers {
		running.Go(func() { p.run(ctx) })
	}
	finals := func() int { return payers[0].count() + payers[1].count() }
	goOn := func(what string) {
		t.Helper()
		before := finals()
		eventually(t, what, func() bool { return finals() >= before+5 })
	}
	votes := func(node *network.Node) {
		t.Helper()
		eventually(t, node.Name+" votes", func() bool { s := status(node); return s.Number >= 0 && s.Muted == "" })
	}
	goOn("transfers are final")

	if out, diagnostics, code := testnet(t, "kill", "-d", n.Dir, "--signer", first); code != 0 || strings.TrimSpace(out) != first {
		t.Fatalf("kill --signer: exit %d, %q\n%s", code, out, diagnostics)
	}
	eventually(t, "the leader says that its signer is away", func() bool { return strings.Contains(status(lead).Muted, "the signer does not answer") })
	goOn("transfers are final under another leader")
	if out, diagnostics, code := testnet(t, "start", "-d", n.Dir, "--signer", first); code != 0 {
		t.Fatalf("start --signer: exit %d\n%s%s", code, out, diagnostics)
	}
	votes(lead)

	two := []*network.Node{lead, &n.Nodes[others[2]]}
	for _, node := range two {
		if err := n.KillSigner(node); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range two {
		eventually(t, node.Name+" says that its signer is away", func() bool { return status(node).Muted != "" })
	}
	for _, node := range two {
		if err := n.StartSigner(node); err != nil {
			t.Fatal(err)
		}
	}
	goOn("transfers are final when there is a quorum again")
	for _, node := range two {
		votes(node)
	}

	last := &n.Nodes[others[2]]
	if err := errors.Join(n.KillSigner(last), n.Kill(last)); err != nil {
		t.Fatal(err)
	}
	goOn("transfers are final without a node and its signer")
	if _, err := n.Start(last); err != nil {
		t.Fatal(err)
	}
	votes(last)
	goOn("and with them")

	stop()
	running.Wait()
	for _, p := range payers {
		checkHistory(t, n, p.final)
	}
}

// TestAuthorities has an authority for each of four institutions, whose nodes are known to one another by their certificates alone, which
// are pairs on suite gm. An institution that revokes its node's certificate ends the node's connections, and the others go on.
// It runs with -long.
func TestAuthorities(t *testing.T) {
	if !*long {
		t.Skip("run with -long")
	}
	for _, suite := range []string{"gm", "std"} {
		t.Run(suite, func(t *testing.T) { authorities(t, suite) })
	}
}

func authorities(t *testing.T, suite string) {
	n := startNetwork(t, filepath.Join(t.TempDir(), "net"), "--ca", "--suite", suite, "--nodes", "4", "--port", freePort(t, 4))
	status := func(i int) *client.Status {
		t.Helper()
		api, err := client.New(n.Nodes[i].API, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := api.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	connected := func(i int) (up int) {
		for _, p := range status(i).Peers {
			if p.Up {
				up++
			}
		}
		return up
	}
	for i := range n.Nodes {
		eventually(t, n.Nodes[i].Name+" is connected with all others", func() bool { return connected(i) == 3 })
		text, err := os.ReadFile(filepath.Join(n.Nodes[i].Dir, "node.pem"))
		if err != nil {
			t.Fatal(err)
		}
		if pair := bytes.Contains(text, []byte("BEGIN ENCRYPTION CERTIFICATE")) && bytes.Contains(text, []byte("BEGIN SM2 ENVELOPED KEY")); pair != (suite == "gm") {
			t.Errorf("the certificates of %s are a pair: %t", n.Nodes[i].Name, pair)
		}
	}
	if out, diagnostics, code := testnet(t, "bench", "-d", n.Dir, "--duration", "2s", "--warmup", "1s", "--accounts", "20"); code != 0 {
		t.Fatalf("bench: exit %d\n%s%s", code, out, diagnostics)
	}

	out := &n.Nodes[3]
	a, err := x509ca.Open(n.AuthorityDir(out.Institution))
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyfile.Read(a.KeyPath(), a.Suite(), nil)
	if err == nil {
		err = a.Unlock(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issued()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range issued {
		if answer, err := a.Revoke(ca.RevokeRequest{Serial: c.Serial, Reason: ca.KeyCompromise, At: time.Now().UnixMilli()}); err != nil || answer.Refusal != nil {
			t.Fatalf("revoke: %v, %v", err, answer.Refusal)
		}
	}
	eventually(t, "the node with the revoked certificate is alone", func() bool { return connected(3) == 0 })
	payer := newPayer(t, n, 0)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { payer.run(ctx) })
	eventually(t, "transfers are final without it", func() bool { return payer.count() >= 5 })
	stop()
	running.Wait()
	if h := status(3).Height; h >= status(0).Height {
		t.Errorf("the node that is alone has block %d too", h)
	}
}
