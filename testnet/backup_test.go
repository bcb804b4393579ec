package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

// TestBackup is one story of real processes under load, which never stops: a backup is taken of one node; another one that
// lost its blocks, but not its journal, is made of it and votes at once, and later takes blocks from a file; a third, with an archive, is pruned; a fourth that lost everything
// joins by a stream from the pruned one, and votes again after motions; and one whose disk is empty fetches from whoever has
// what it needs. In the end what all have verifies. It runs with -long, and takes more than a transaction's lifetime.
func TestBackup(t *testing.T) {
	if !*long {
		t.Skip("starts four processes, and stops and starts them under load for minutes: run with -long")
	}
	const nodes = 4
	params := ledger.DefaultParams()
	params.MaxLifetime = client.DefaultLifetime.Milliseconds() + 5_000 // what may come again is not pruned
	port, err := strconv.Atoi(freePort(t, nodes))
	if err != nil {
		t.Fatal(err)
	}
	made, err := network.Create(network.Config{Dir: filepath.Join(t.TempDir(), "net"), Suite: keystest.Suite().Name(), Nodes: nodes, Port: port, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	config, err := cli.ReadConfig(made.Nodes[2].Dir)
	if err != nil {
		t.Fatal(err)
	}
	config.State.Archive = true
	if err := cli.WriteConfig(made.Nodes[2].Dir, config); err != nil {
		t.Fatal(err)
	}
	n := startNetwork(t, made.Dir)
	begun := time.Now()
	p := newPayer(t, n, 0)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.run(ctx) }()
	defer func() { stop(); <-done }()
	goesOn := func(when string) {
		t.Helper()
		before := p.count()
		eventually(t, "transfers are final "+when, func() bool { return p.count() >= before+5 })
	}
	goesOn("at first")
	binary, err := n.Binary()
	if err != nil {
		t.Fatal(err)
	}
	fondaco := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(binary, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("fondaco %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	data := func(node int) string { return filepath.Join(n.Nodes[node].Dir, "data") }
	// down stops a node, and up starts it and waits until it has a block that is newer than that.
	down := func(node int) {
		t.Helper()
		if err := n.Stop(&n.Nodes[node]); err != nil {
			t.Fatal(err)
		}
		goesOn("without " + n.Nodes[node].Name)
	}
	up := func(node int) {
		t.Helper()
		want := statusOf(t, p.api).Height + 1
		if _, err := n.Start(&n.Nodes[node]); err != nil {
			t.Fatal(err)
		}
		api := apiOf(t, &n.Nodes[node])
		eventually(t, n.Nodes[node].Name+" has the newest blocks", func() bool {
			s, err := api.Status(t.Context())
			return err == nil && s.Height >= want
		})
	}
	votes := func(node int) {
		t.Helper()
		api := apiOf(t, &n.Nodes[node])
		late := latecomer{t: t, net: n, node: &n.Nodes[node], member: uint32(statusOf(t, api).Number), api: api}
		late.votes()
	}

	file := filepath.Join(t.TempDir(), "backup")
	fondaco("backup", "create", "--api", n.Nodes[0].API, "--out", file)
	fondaco("backup", "verify", file, "-d", n.Nodes[1].Dir)
	goesOn("after a backup")

	down(3)
	for _, name := range []string{"blocks", "base", "state.db", "index.db"} {
		if err := os.RemoveAll(filepath.Join(data(3), "main", name)); err != nil {
			t.Fatal(err)
		}
	}
	if out := fondaco("backup", "restore", file, "-d", n.Nodes[3].Dir); !strings.Contains(out, "restored") {
		t.Errorf("restore says %s", out)
	}
	up(3)
	if s := statusOf(t, apiOf(t, &n.Nodes[3])); s.Muted != "" {
		t.Errorf("the node that has its journal says %s", s.Muted)
	}
	votes(3)

	time.Sleep(time.Until(begun.Add(time.Duration(params.MaxLifetime)*time.Millisecond + 5*time.Second)))
	goesOn("after a lifetime")
	down(2)
	fondaco("prune", "-d", n.Nodes[2].Dir, "--keep", "5", "--yes")
	up(2)
	votes(2)
	pruned := statusOf(t, apiOf(t, &n.Nodes[2]))
	if pruned.Kept == 0 {
		t.Error("the node that was pruned says that it has all blocks")
	}
	// It has an archive, and proves what it has no blocks of any more, to somebody who asks no node.
	genesis := filepath.Join(n.Nodes[0].Dir, cli.GenesisFile)
	for _, what := range [][]string{
		{"header", "1", "--under", "latest"},
		{"state", "accounts", "0x61" + strings.TrimPrefix(n.Address("alice").String(), "0x"), "--height", "1"},
	} {
		proof := filepath.Join(t.TempDir(), what[0]+".proof")
		fondaco(append([]string{"proof", "get", what[0], "--api", n.Nodes[2].API, "--out", proof}, what[1:]...)...)
		if out := fondaco("proof", "verify", proof, "--genesis", genesis); !strings.Contains(out, "proven") {
			t.Errorf("the proof of %q: %s", what, out)
		}
	}

	// Blocks that one node exports while it makes others are given to one that is down.
	down(3)
	blocks := filepath.Join(t.TempDir(), "blocks")
	fondaco("export", "blocks", "--api", n.Nodes[0].API, "--out", blocks)
	goesOn("after an export")
	var imported struct{ Stored, Compared uint64 }
	if err := json.Unmarshal([]byte(fondaco("import", "blocks", blocks, "-d", n.Nodes[3].Dir, "-o", "json")), &imported); err != nil || imported.Stored == 0 || imported.Compared == 0 {
		t.Errorf("of the blocks %d were stored and %d compared, want some of each: %v", imported.Stored, imported.Compared, err)
	}
	up(3)
	votes(3)

	down(1)
	if err := os.RemoveAll(data(1)); err != nil {
		t.Fatal(err)
	}
	join := exec.Command("sh", "-c", `"$0" backup create --api "$1" --out - | "$0" backup restore - -d "$2"`, binary, n.Nodes[2].API, n.Nodes[1].Dir)
	if out, err := join.CombinedOutput(); err != nil {
		t.Fatalf("a node that joins: %v\n%s", err, out)
	}
	up(1)
	joined := apiOf(t, &n.Nodes[1])
	if s := statusOf(t, joined); s.Kept != pruned.Kept || !strings.Contains(s.Muted, "does not vote before epoch 1") {
		t.Errorf("the node that joined has blocks from %d on, want %d, and says of its vote: %q", s.Kept, pruned.Kept, s.Muted)
	}
	time.Sleep(2 * time.Second) // it asks all how far they are, which motions that follow one another at once would outrun
	// Each epoch that begins may be the one of which all other members' answers show that it is newer than the loss.
	for epoch, mute := uint64(1), true; mute; epoch++ {
		if epoch > 4 {
			t.Fatal("after four motions the node that joined does not vote")
		}
		params.BatchDelay++
		if _, err := n.Pass(t.Context(), p.api, &precompiles.Reform{Params: &params}, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the node that joined is in the next epoch", func() bool {
			s, err := joined.Status(t.Context())
			mute = err != nil || s.Muted != ""
			return err == nil && s.Epoch == epoch
		})
	}
	votes(1)

	down(3) // its journal as well
	if err := os.RemoveAll(data(3)); err != nil {
		t.Fatal(err)
	}
	up(3) // of its sources one alone has the first blocks
	goesOn("in the end")

	stop()
	<-done
	maps.DeleteFunc(p.final, func(_ ledger.TxID, h ledger.Height) bool { return h < pruned.Kept }) // which not all have in full
	checkHistory(t, n, p.final)
	if err := n.StopAll(); err != nil {
		t.Fatal(err)
	}
	for node := range n.Nodes {
		if out := fondaco("verify", "-d", n.Nodes[node].Dir); !strings.Contains(out, "the history holds") {
			t.Errorf("%s: %s", n.Nodes[node].Name, out)
		}
	}
}
