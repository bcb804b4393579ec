package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/testnet/network"
)

// TestRecover is one story of real processes: two of four nodes are killed under load and lost with their folders, the
// others recover offline, transfers go on, and the history verifies across it for who knows of the recovery; by PBFT and by Raft. It runs with
// -long.
func TestRecover(t *testing.T) {
	if !*long {
		t.Skip("starts four processes, and runs the steps of a recovery: run with -long")
	}
	for _, engine := range []string{"pbft", "raft"} {
		t.Run(engine, func(t *testing.T) { recoverTwoOfFour(t, engine) })
	}
}

func recoverTwoOfFour(t *testing.T, engine string) {
	t.Helper()
	n := startNodes(t, 4, engine)
	p := newPayer(t, n, 0)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.run(ctx) }()
	eventually(t, "transfers are final", func() bool { return p.count() >= 10 })
	for _, node := range n.Nodes[2:] {
		if out, diagnostics, code := testnet(t, "kill", "-d", n.Dir, node.Name); code != 0 {
			t.Fatalf("kill: exit %d\n%s%s", code, out, diagnostics)
		}
	}
	time.Sleep(time.Second) // what is on its way stays there: no quorum is left
	stop()
	<-done
	other := newPayer(t, n, 1)
	eventually(t, "the survivors have the same blocks", func() bool {
		x, err1 := p.api.Status(t.Context())
		y, err2 := other.api.Status(t.Context())
		return err1 == nil && err2 == nil && x.Height == y.Height
	})
	if out, diagnostics, code := testnet(t, "down", "-d", n.Dir); code != 0 {
		t.Fatalf("down: exit %d\n%s%s", code, out, diagnostics)
	}
	binary, err := n.Binary()
	if err != nil {
		t.Fatal(err)
	}
	fondaco := func(wants bool, args ...string) string {
		t.Helper()
		out, err := exec.Command(binary, args...).CombinedOutput()
		if (err == nil) != wants {
			t.Fatalf("fondaco %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	lost := []string{"--remove", n.Nodes[2].ID.String(), "--remove", n.Nodes[3].ID.String()}
	for _, node := range n.Nodes[2:] {
		if err := os.RemoveAll(node.Dir); err != nil {
			t.Fatal(err)
		}
	}
	n.Nodes = n.Nodes[:2]
	if err := n.Save(); err != nil {
		t.Fatal(err)
	}
	a, b := n.Nodes[0].Dir, n.Nodes[1].Dir
	fondaco(true, "recover", "report", "-d", a, "--out", file("a"))
	fondaco(true, "recover", "report", "-d", b, "--out", file("b"))
	fondaco(true, append([]string{"recover", "propose", "-d", a, "--report", file("a"), "--report", file("b"), "--reason", "two sites burnt", "--out", file("r")}, lost...)...)
	if out := fondaco(false, "recover", "apply", "-d", a, "--yes", file("r")); !strings.Contains(out, "signatures of members [0 1] are missing") {
		t.Errorf("apply without signatures: %s", out)
	}
	fondaco(true, "recover", "sign", "-d", a, "--yes", "--out", file("ra"), file("r"))
	fondaco(true, "recover", "sign", "-d", b, "--yes", "--out", file("rb"), file("r"))
	var hash string
	for _, node := range []string{a, b} {
		out := fondaco(true, "recover", "apply", "-d", node, "--yes", file("ra"), file("rb"))
		_, rest, _ := strings.Cut(out, "--recovery ")
		hash, _, _ = strings.Cut(rest, "`")
	}
	if out, diagnostics, code := testnet(t, "up", "-d", n.Dir, "--detach"); code != 0 {
		t.Fatalf("up: exit %d\n%s%s", code, out, diagnostics)
	}
	if n, err = network.Open(n.Dir); err != nil {
		t.Fatal(err)
	}
	before := p.count()
	ctx, stop = context.WithCancel(t.Context())
	done = make(chan struct{})
	go func() { defer close(done); p.run(ctx) }()
	eventually(t, "transfers go on", func() bool { return p.count() >= before+5 })
	stop()
	<-done
	checkHistory(t, n, p.final)
	fondaco(true, "export", "consensus", "-d", a, "--out", file("package"))
	genesis := filepath.Join(a, "genesis.json")
	if out := fondaco(false, "verify", "--consensus", file("package"), "--genesis", genesis); !strings.Contains(out, hash) {
		t.Errorf("without the hash of the recovery: %s", out)
	}
	fondaco(true, "verify", "--consensus", file("package"), "--genesis", genesis, "--recovery", hash)
	// Every block is executed again, on the data of a node that does not run.
	if out, diagnostics, code := testnet(t, "down", "-d", n.Dir); code != 0 {
		t.Fatalf("down: exit %d\n%s%s", code, out, diagnostics)
	}
	if out := fondaco(false, "verify", "-d", b); !strings.Contains(out, hash) {
		t.Errorf("without the hash of the recovery: %s", out)
	}
	fondaco(true, "verify", "-d", b, "--recovery", hash)
}
