package main

import (
	"context"
	"flag"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

var long = flag.Bool("long", false, "run the stories that take minutes too: TestMembers, TestFaults/raft")

// TestMembers is one story on one network under load: a node joins, one takes the place of another, and one leaves.
// No transfer is lost, and what happened can be verified with nothing but the genesis. It runs with -long.
func TestMembers(t *testing.T) {
	if !*long {
		t.Skip("starts six processes and loads them for half a minute: run with -long")
	}
	n := startNodes(t, 4, "pbft")
	ctx, stop := context.WithCancel(t.Context())
	payers := []*payer{newPayer(t, n, 0), newPayer(t, n, 2)}
	var running sync.WaitGroup
	for _, p := range payers {
		running.Go(func() { p.run(ctx) })
	}
	members := func(want ...string) {
		t.Helper()
		var err error
		if n, err = network.Open(n.Dir); err != nil {
			t.Fatal(err)
		}
		api, err := client.New(n.Nodes[2].API, nil)
		if err != nil {
			t.Fatal(err)
		}
		voting, err := n.Members(t.Context(), api)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range voting {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != strings.Join(want, " ") {
			t.Fatalf("members: %s, want %s", got, want)
		}
	}
	change := func(args ...string) {
		t.Helper()
		if out, diagnostics, code := testnet(t, append(args[:1:1], append([]string{"-d", n.Dir}, args[1:]...)...)...); code != 0 {
			t.Fatalf("%s: exit %d\n%s%s", args, code, out, diagnostics)
		}
	}
	change("add")
	members("node0", "node1", "node2", "node3", "node4")
	change("replace", "node1")
	members("node0", "node2", "node3", "node4", "node5")
	before := payers[0].count() + payers[1].count()
	change("remove", "node0") // the leader; a client goes on sending to it
	members("node2", "node3", "node4", "node5")
	eventually(t, "transfers are final by way of the node that observes, and by another", func() bool {
		return payers[0].count() > 0 && payers[0].count()+payers[1].count() >= before+10
	})
	if _, diagnostics, code := testnet(t, "remove", "-d", n.Dir, "node2"); code != 1 || !strings.Contains(diagnostics, "give a reason to override") {
		t.Errorf("below four members: exit %d, %s", code, diagnostics)
	}
	stop()
	running.Wait()
	final := map[ledger.TxID]ledger.Height{}
	for _, p := range payers {
		maps.Copy(final, p.final)
	}
	checkHistory(t, n, final)

	binary, err := n.Binary()
	if err != nil {
		t.Fatal(err)
	}
	fondaco := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(binary, args...).CombinedOutput()
		if err != nil {
			t.Errorf("fondaco %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	list := fondaco("member", "list", "-d", n.Nodes[5].Dir)
	for _, want := range []string{"epoch         5, engine pbft, quorum 3 of 4 members; 1 may be faulty", "retired       " + n.Nodes[0].ID.String(), "of bank-f at " + n.Nodes[5].Listen} {
		if !strings.Contains(list, want) {
			t.Errorf("member list lacks %q:\n%s", want, list)
		}
	}
	proof := filepath.Join(t.TempDir(), "proof")
	fondaco("proof", "get", "header", "latest", "--out", proof, "-d", n.Nodes[0].Dir)
	genesis := filepath.Join(n.Nodes[3].Dir, "genesis.json")
	if out := fondaco("proof", "verify", proof, "--genesis", genesis); !strings.Contains(out, "of 4 in epoch 5") {
		t.Errorf("proof verify:\n%s", out)
	}
	if out, diagnostics, code := testnet(t, "down", "-d", n.Dir); code != 0 {
		t.Fatalf("down: exit %d\n%s%s", code, out, diagnostics)
	}
	for _, node := range []int{0, 5} {
		fondaco("verify", "-d", n.Nodes[node].Dir, "--engine", "interpreter")
	}
}
