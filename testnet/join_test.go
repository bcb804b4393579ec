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
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

// TestJoin is one story of real processes under load: two of four nodes are pruned, and a fifth one joins by a state that
// several of them give it, with the blocks since then, becomes a member, and votes. Then one whose blocks are old, after all
// others were pruned, says that it cannot catch up, and does so by a state, killed three times meanwhile. In the end what all have verifies. It runs
// with -long, and takes twice a transaction's lifetime.
func TestJoin(t *testing.T) {
	if !*long {
		t.Skip("starts five processes, and stops and starts them under load for minutes: run with -long")
	}
	const nodes = 4
	params := ledger.DefaultParams()
	params.MaxLifetime = client.DefaultLifetime.Milliseconds() + 5_000 // what may come again is not pruned
	port, err := strconv.Atoi(freePort(t, nodes+1))
	if err != nil {
		t.Fatal(err)
	}
	made, err := network.Create(network.Config{Dir: filepath.Join(t.TempDir(), "net"), Suite: keystest.Suite().Name(), Nodes: nodes, Port: port, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	n := startNetwork(t, made.Dir)
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
	down := func(node int) {
		t.Helper()
		if err := n.Stop(&n.Nodes[node]); err != nil {
			t.Fatal(err)
		}
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
	prune := func(node int) {
		t.Helper()
		down(node)
		fondaco("prune", "-d", n.Nodes[node].Dir, "--keep", "5", "--yes")
		up(node)
	}
	lifetime := func() {
		t.Helper()
		time.Sleep(time.Duration(params.MaxLifetime)*time.Millisecond + 5*time.Second)
		goesOn("after a lifetime")
	}
	logged := func(node int, what string) bool {
		t.Helper()
		log, err := os.ReadFile(n.LogPath(&n.Nodes[node]))
		return err == nil && strings.Contains(string(log), what)
	}
	goesOn("at first")
	lifetime()
	prune(2)
	prune(3)
	if out, diagnostics, code := testnet(t, "add", "-d", n.Dir, "--sync", cli.SyncSnapshot); code != 0 {
		t.Fatalf("add: exit %d\n%s%s", code, out, diagnostics)
	}
	if n, err = network.Open(n.Dir); err != nil {
		t.Fatal(err)
	}
	joined := apiOf(t, &n.Nodes[4])
	s := statusOf(t, joined)
	if s.Kept == 0 || s.Number < 0 || s.Muted != "" || !logged(4, "this node has a state to begin with") {
		t.Errorf("the node that joined has blocks from %d on, is member %d, and says of its vote: %q", s.Kept, s.Number, s.Muted)
	}
	if from := gave(t, n.LogPath(&n.Nodes[4])); len(from) < 2 {
		t.Errorf("it has the state from %q, want several nodes", from)
	}
	late := latecomer{t: t, net: n, node: &n.Nodes[4], member: uint32(s.Number), api: joined}
	late.votes()

	down(1) // from now on nothing is final without all the others
	lifetime()
	for _, node := range []int{2, 3, 4} {
		prune(node)
	}
	goesOn("when most are pruned")
	down(0)
	fondaco("prune", "-d", n.Nodes[0].Dir, "--keep", "5", "--yes")
	if _, err := n.Start(&n.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	goesOn("when all are pruned")
	if _, err := n.Start(&n.Nodes[1]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node with old blocks says what to do", func() bool {
		s, err := apiOf(t, &n.Nodes[1]).Status(t.Context())
		return err == nil && strings.Contains(s.Lacking, "sync = 'snapshot'")
	})
	down(1)
	config, err := cli.ReadConfig(n.Nodes[1].Dir)
	if err != nil {
		t.Fatal(err)
	}
	config.Network.Sync = cli.SyncSnapshot
	if err := cli.WriteConfig(n.Nodes[1].Dir, config); err != nil {
		t.Fatal(err)
	}
	for range 3 { // killed somewhere, it goes on
		if _, err := n.Start(&n.Nodes[1]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it begins to join", func() bool {
			_, begun := os.Stat(filepath.Join(n.Nodes[1].Dir, "data", "main", "incoming"))
			return begun == nil
		})
		if err := n.Kill(&n.Nodes[1]); err != nil {
			t.Fatal(err)
		}
	}
	up(1)
	s = statusOf(t, apiOf(t, &n.Nodes[1]))
	if s.Kept == 0 || s.Muted != "" {
		t.Errorf("the node that was behind has blocks from %d on, and says of its vote: %q", s.Kept, s.Muted)
	}
	goesOn("in the end")

	stop()
	<-done
	kept := ledger.Height(0)
	for node := range n.Nodes {
		kept = max(kept, statusOf(t, apiOf(t, &n.Nodes[node])).Kept)
	}
	maps.DeleteFunc(p.final, func(_ ledger.TxID, h ledger.Height) bool { return h < kept }) // which not all have in full
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

// gave returns from which nodes parts came, as the log of one that joined tells.
func gave(t *testing.T, path string) (nodes []string) {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, "the state is here: it is put together") {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for name := range fields {
			if node, ok := strings.CutPrefix(name, "from_"); ok {
				nodes = append(nodes, node)
			}
		}
	}
	return nodes
}
