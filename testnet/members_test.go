package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

var long = flag.Bool("long", false, "run the stories that take minutes too: TestRecover, TestMembers, TestMembersByHand, TestFaults with raft and for longer, TestAuthorities, TestBackup, TestJoin, TestUnread")

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
		eventually(t, fmt.Sprintf("the members are %s", want), func() bool { // the node that is asked may be some blocks behind
			voting, err := n.Members(t.Context(), api)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range voting {
				names = append(names, m.Name)
			}
			return slices.Equal(names, want)
		})
	}
	change := func(args ...string) {
		t.Helper()
		if out, diagnostics, code := testnet(t, append(args[:1:1], append([]string{"-d", n.Dir}, args[1:]...)...)...); code != 0 {
			t.Fatalf("%s: exit %d\n%s%s", args, code, out, diagnostics)
		}
	}
	// Interrupted at each step, it is the same node that the next one goes on with.
	for _, step := range []string{"asks to observe", "starts and fetches", "is synced and asks"} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &watched{text: step, seen: cancel}
		if code := run(ctx, []string{"testnet", "add", "-d", n.Dir}, io.Discard, out); code != 1 || !strings.Contains(out.String(), "run the same command again") {
			t.Fatalf("add, interrupted when it printed %q: exit %d\n%s", step, code, out.String())
		}
		cancel()
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
	// A node without a vote has none to give away, and nothing is done.
	for _, args := range [][]string{{"replace", "-d", n.Dir, "node1"}, {"remove", "-d", n.Dir, "node0"}} {
		if _, diagnostics, code := testnet(t, args...); code != 1 || !strings.Contains(diagnostics, "has no vote to take: it is retired since block") {
			t.Errorf("%v: exit %d, %s", args, code, diagnostics)
		}
	}
	if _, err := os.Stat(filepath.Join(n.Dir, "node6")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a replacement that was refused made a node: %v", err)
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

// watched keeps what is written, and calls seen at the first line that has the text in it.
type watched struct {
	safeBuffer
	text string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.safeBuffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.seen()
	}
	return n, err
}

// TestMembersByHand is the story of `fondaco member --help` on a network of Raft under load, typed as it is told there: a
// fifth node of a new institution joins, and one of the first leaves. It runs with -long.
func TestMembersByHand(t *testing.T) {
	if !*long {
		t.Skip("starts five processes and loads them: run with -long")
	}
	n := startNodes(t, 4, "raft")
	binary, err := n.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p := newPayer(t, n, 2)
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })

	fondaco := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(binary, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("fondaco %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	as := func(node int, args ...string) string {
		t.Helper()
		bank := n.Nodes[node].Institution
		return fondaco(append(args, "-d", n.Nodes[node].Dir, "--from", bank, "--key", filepath.Join(n.Dir, "keys", bank+".key"))...)
	}
	// pass carries out what the first node's institution proposes, with prepare between proposal and approvals.
	pass := func(prepare func(motion string), propose ...string) string {
		t.Helper()
		out := as(1, append([]string{"member", "propose"}, propose...)...)
		motion := field(t, out, "motion")
		if prepare != nil {
			prepare(motion)
		}
		as(2, "motion", "vote", motion)
		if out := as(3, "motion", "vote", motion); !strings.Contains(out, "fondaco motion execute "+motion) {
			t.Errorf("the last approval does not tell what is next:\n%s", out)
		}
		return as(1, "motion", "execute", motion)
	}

	dir := filepath.Join(t.TempDir(), "node")
	port := freePort(t, 1)
	first := 0
	if _, err := fmt.Sscan(port, &first); err != nil {
		t.Fatal(err)
	}
	voice := filepath.Join(t.TempDir(), "voice.key")
	fondaco("keys", "new", voice)
	fondaco("join-request", "-d", dir, "--institution", "bank-x", "--listen", "127.0.0.1:"+port, "--account", voice,
		"--api-listen", fmt.Sprintf("127.0.0.1:%d", first+1), "--admin-listen", fmt.Sprintf("127.0.0.1:%d", first+2))
	request, invitation := filepath.Join(dir, "join-request.pem"), filepath.Join(t.TempDir(), "invitation")
	activated := pass(nil, "--observe", request)
	account := field(t, activated, "founded bank-x, whose first account is")
	fondaco("invitation", "new", request, "-d", n.Nodes[2].Dir, "--out", invitation)
	fondaco("init", "-d", dir, "--from", invitation, "--chain", n.Chain.String())
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // a test's
	node := exec.Command(binary, "run", "-d", dir)
	node.Stderr = log
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		node.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
		node.Wait()                       //nolint:errcheck // however it ended
	}()
	says := func(dir, what string) {
		t.Helper()
		eventually(t, "the status in "+dir+" says "+what, func() bool {
			out, err := exec.Command(binary, "status", "-d", dir).CombinedOutput()
			return err == nil && strings.Contains(strings.Join(strings.Fields(string(out)), " "), what)
		})
	}
	says(dir, "role observer")
	id := field(t, fondaco("status", "-d", dir), "node")
	pass(func(motion string) {
		eventually(t, "the new node states that it is synced", func() bool {
			out, err := exec.Command(binary, "motion", "ready", motion, "-d", dir, "--from", account, "--key", voice).CombinedOutput()
			return err == nil && strings.Contains(string(out), "ok")
		})
	}, "--add", strings.ToUpper(strings.TrimPrefix(id, "0x")))
	says(dir, "role member 4 of 5")
	says(dir, "quorum 3 of 5 members; 2 may be down")
	pass(nil, "--remove", n.Nodes[0].ID.Short())
	says(n.Nodes[0].Dir, "role retired")
	says(dir, "role member 3 of 4")
	before := p.count()
	eventually(t, "transfers go on", func() bool { return p.count() >= before+5 })
	stop()
	running.Wait()
	checkHistory(t, n, p.final)

	// A node that is killed while the network is measured, the first that is asked at that, spoils no measurement.
	killed := make(chan error, 1)
	go func() {
		time.Sleep(3 * time.Second)
		killed <- n.Kill(&n.Nodes[0])
	}()
	out, diagnostics, code := testnet(t, "bench", "-d", n.Dir, "--rate", "20", "--accounts", "10", "--warmup", "0s", "--duration", "8s")
	if err := <-killed; err != nil {
		t.Error(err)
	}
	if code != 0 || field(t, out, "balances right") != "true" {
		t.Errorf("bench: exit %d\n%s%s", code, out, diagnostics)
	}
}

// field returns the word after a name in a command's output.
func field(t *testing.T, out, name string) string {
	t.Helper()
	words := strings.Join(strings.Fields(out), " ")
	if _, after, found := strings.Cut(" "+words, " "+name+" "); found {
		return strings.Trim(strings.Fields(after)[0], ":,")
	}
	t.Fatalf("no %s in\n%s", name, out)
	return ""
}
