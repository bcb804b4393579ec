package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

// testnet runs the command line in this process and returns what it printed.
func testnet(t *testing.T, args ...string) (out, diagnostics string, code int) {
	t.Helper()
	var o, d bytes.Buffer
	code = run(t.Context(), append([]string{"testnet"}, args...), &o, &d)
	return o.String(), d.String(), code
}

// freePort returns the first of enough free ports.
func freePort(t *testing.T, nodes int) string {
	t.Helper()
	for range 100 {
		port := 20_000 + rand.IntN(12_000) // below those that connections get of the system
		if network.CheckPorts(port, nodes) == nil {
			return fmt.Sprint(port)
		}
	}
	t.Fatal("no free ports")
	return ""
}

// startNodes starts a network with a consensus engine in the background of the test. The tests run in the folder testnet,
// and the module is its parent.
func startNodes(t *testing.T, nodes int, engine string) *network.Network {
	t.Helper()
	return startNetwork(t, filepath.Join(t.TempDir(), "net"), "--suite", keystest.Suite().Name(), "--engine", engine, "--nodes", fmt.Sprint(nodes), "--port", freePort(t, nodes))
}

// startNetwork is startNodes for a network that is in a folder, or that the arguments of `up` describe.
func startNetwork(t *testing.T, dir string, args ...string) *network.Network {
	t.Helper()
	t.Chdir("..")
	out, diagnostics, code := testnet(t, append([]string{"up", "-d", dir, "--detach"}, args...)...)
	if code != 0 {
		t.Fatalf("up: exit %d\n%s%s", code, out, diagnostics)
	}
	n, err := network.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.StopAll(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for i := range n.Nodes {
				log, _ := os.ReadFile(n.LogPath(&n.Nodes[i]))
				t.Logf("the end of the log of %s:\n%s", n.Nodes[i].Name, log[max(0, len(log)-3000):])
			}
		}
	})
	return n
}

// payer transfers single units, one after the other, and remembers which transfers a node told it were final.
type payer struct {
	net   *network.Network
	token *network.Token
	api   *client.Client

	mu    sync.Mutex // guards final
	final map[ledger.TxID]ledger.Height
}

func newPayer(t *testing.T, n *network.Network, node int) *payer {
	t.Helper()
	api, err := client.New(n.Nodes[node].API, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := n.OpenToken(t.Context(), api)
	if err != nil {
		t.Fatal(err)
	}
	return &payer{net: n, token: token, api: api, final: map[ledger.TxID]ledger.Height{}}
}

// run pays until ctx ends. Errors are expected while nodes are down.
func (p *payer) run(ctx context.Context) {
	for ctx.Err() == nil {
		tx, err := p.token.Send(ctx, "alice", "transfer", p.net.Address("bob").String(), "1")
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		p.mu.Lock()
		p.final[tx.ID] = tx.Height
		p.mu.Unlock()
	}
}

func (p *payer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.final)
}

// eventually polls until done, for at most a minute.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute passed, and still not: %s", what)
		}
	}
}

// checkHistory makes sure that every node has every transfer that was told to be final, in the same block.
func checkHistory(t *testing.T, n *network.Network, final map[ledger.TxID]ledger.Height) {
	t.Helper()
	var highest ledger.Height
	for _, h := range final {
		highest = max(highest, h)
	}
	var reference []*client.Block
	for i := range n.Nodes {
		api, err := client.New(n.Nodes[i].API, nil)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("%s has block %d", n.Nodes[i].Name, highest), func() bool {
			s, err := api.Status(t.Context())
			return err == nil && s.Height >= highest
		})
		where := map[ledger.TxID]ledger.Height{}
		for h := ledger.Height(1); h <= highest; h++ {
			b, err := api.Block(t.Context(), h)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range b.Txs {
				where[id] = h
			}
			if i == 0 {
				reference = append(reference, b)
			} else if reference[h-1].Hash != b.Hash {
				t.Fatalf("block %d of %s is %s, of node0 %s", h, n.Nodes[i].Name, b.Hash, reference[h-1].Hash)
			}
		}
		for id, h := range final {
			if where[id] != h {
				t.Errorf("%s has transfer %s at height %d; a node said it was final at %d", n.Nodes[i].Name, id, where[id], h)
			}
		}
	}
}

// TestFaults is one story on one network of each engine: the leader is killed under load, comes back and votes; then
// the power fails everywhere.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and loads them")
	}
	for _, engine := range []string{"pbft", "raft"} {
		t.Run(engine, func(t *testing.T) {
			if engine != "pbft" && !*long {
				t.Skip("run with -long")
			}
			faults(t, engine)
		})
	}
}

func faults(t *testing.T, engine string) {
	n := startNodes(t, 4, engine)
	first, err := leader(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	var others []int
	for i := range n.Nodes {
		if n.Nodes[i].Name != first {
			others = append(others, i)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	payers := []*payer{newPayer(t, n, others[0]), newPayer(t, n, others[1])}
	var running sync.WaitGroup
	for _, p := range payers {
		running.Go(func() { p.run(ctx) })
	}
	finals := func() int { return payers[0].count() + payers[1].count() }
	eventually(t, "transfers are final", func() bool { return finals() >= 5 })

	if out, diagnostics, code := testnet(t, "kill", "-d", n.Dir, "leader"); code != 0 || strings.TrimSpace(out) != first {
		t.Fatalf("kill leader: exit %d, %q, want %s\n%s", code, out, first, diagnostics)
	}
	before, killed := finals(), time.Now()
	eventually(t, "transfers are final again under another leader", func() bool { return finals() > before+len(payers) })
	t.Logf("transfers were final again %d ms after the kill", time.Since(killed).Milliseconds())
	eventually(t, "and go on", func() bool { return finals() >= before+5 })

	if out, diagnostics, code := testnet(t, "start", "-d", n.Dir, first); code != 0 {
		t.Fatalf("start: exit %d\n%s%s", code, out, diagnostics)
	}
	node, err := n.Node(first)
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.New(node.API, nil)
	if err != nil {
		t.Fatal(err)
	}
	member := uint32(first[len(first)-1] - '0')
	eventually(t, "the node that was killed votes again", func() bool {
		b, err := api.Blocks(t.Context(), 0, 10)
		if err != nil {
			return false
		}
		for _, block := range b {
			for _, s := range block.Signers {
				if s == member && block.Height > 0 {
					return true
				}
			}
		}
		return false
	})

	// The power fails, while transfers are under way.
	var wait sync.WaitGroup
	for i := range n.Nodes {
		wait.Go(func() {
			if err := n.Kill(&n.Nodes[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	stop()
	running.Wait()
	if out, diagnostics, code := testnet(t, "up", "-d", n.Dir, "--detach"); code != 0 {
		t.Fatalf("up again: exit %d\n%s%s", code, out, diagnostics)
	}
	final := map[ledger.TxID]ledger.Height{}
	for _, p := range payers {
		maps.Copy(final, p.final)
	}
	checkHistory(t, n, final)

	t.Run("it is measured, with as many transfers as it takes and with more", func(t *testing.T) {
		duration, warmup := "1s", "200ms"
		if *long {
			duration, warmup = "3s", "1s"
		}
		out, diagnostics, code := testnet(t, "bench", "-d", n.Dir, "-o", "json", "--overload", "2", "--duration", duration, "--warmup", warmup, "--accounts", "20", "--conflict", "20")
		var got Overload
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Fatalf("bench: exit %d, %v\n%s%s", code, err, out, diagnostics)
		}
		for _, b := range []*Bench{got.Saturated, got.Overloaded} {
			if b.Committed == 0 || !b.RootsEqual || !b.BalancesRight || b.P50 <= 0 || b.CPU <= 0 || b.RSS <= 0 || b.Sent < b.Committed || b.Lost > 0 {
				t.Errorf("a measurement with %+v", *b)
			}
		}
		if *long && got.Kept < 1./3 || got.Kept != got.Overloaded.TPS/got.Saturated.TPS { // in three seconds, far from what it keeps in ten
			t.Errorf("overloaded, it takes %.2f of what it takes otherwise", got.Kept)
		}
	})
	t.Run("a second up says what to do", func(t *testing.T) {
		if _, diagnostics, code := testnet(t, "up", "-d", n.Dir); code != 1 || !strings.Contains(diagnostics, "running already") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
	})
	if out, diagnostics, code := testnet(t, "down", "-d", n.Dir); code != 0 {
		t.Fatalf("down: exit %d\n%s%s", code, out, diagnostics)
	}
	t.Run("the history verifies", func(t *testing.T) {
		binary, err := n.Binary()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n.Nodes {
			if engine == "raft" && i > 0 {
				break // the certificates differ, and all nodes have the same
			}
			if out, err := exec.Command(binary, "verify", "-d", n.Nodes[i].Dir).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", n.Nodes[i].Name, err, out)
			}
		}
	})
}

func TestUpRefuses(t *testing.T) {
	t.Run("a folder with something else in it", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, diagnostics, code := testnet(t, "up", "-d", dir); code != 1 || !strings.Contains(diagnostics, "name another folder with -d") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
	})
	t.Run("an engine that there is not", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "net")
		if _, diagnostics, code := testnet(t, "up", "-d", dir, "--engine", "pbtf"); code != 1 || !strings.Contains(diagnostics, "--engine-program") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	})
	t.Run("a folder that cannot be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, diagnostics, code := testnet(t, "up", "-d", filepath.Join(file, "net")); code != 1 || !strings.Contains(diagnostics, "name another with -d") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
	})
	t.Run("a taken port", func(t *testing.T) {
		port := freePort(t, 1)
		listener, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() //nolint:errcheck // a test's
		if _, diagnostics, code := testnet(t, "up", "-d", filepath.Join(t.TempDir(), "net"), "-n", "1", "--port", port); code != 1 || !strings.Contains(diagnostics, "port "+port+" is taken") || !strings.Contains(diagnostics, "--port") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
	})
	t.Run("no Go toolchain", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, diagnostics, code := testnet(t, "up", "-d", filepath.Join(t.TempDir(), "net"), "--port", freePort(t, 4)); code != 1 || !strings.Contains(diagnostics, "install Go") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
	})
	t.Run("a folder without the source", func(t *testing.T) {
		t.Chdir(t.TempDir())
		dir := filepath.Join(t.TempDir(), "net")
		if _, diagnostics, code := testnet(t, "up", "-d", dir, "--port", freePort(t, 4)); code != 1 || !strings.Contains(diagnostics, "in the folder of fondaco's module") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	})
	for name, args := range map[string][]string{
		"an unknown command": {"upp"}, "an unknown flag": {"up", "--nods", "4"}, "a wrong output form": {"status", "-o", "xml"},
		"an argument too many": {"up", "now"}, "a node without a name": {"kill"}, "a load of nothing": {"bench", "--accounts", "1"},
		"a relay that nobody runs": {"up", "--relay", "clean", "--detach"}, "links that lose all and more": {"up", "--relay", "loss=101%"},
		"a measurement of no network": {"bench", "--relay", "speed=3"}, "a fault that there is not": {"chaos", "--faults", "flood"},
		"too few nodes for faults": {"chaos", "--nodes", "3"}, "chaos without time": {"chaos", "--minutes", "0"},
		"a network of nothing": {"up", "-n", "0"}, "a network of too much": {"up", "-n", "100"},
		"a script for no relay": {"up", "--relay-script", "calm.txt"}, "luck for no relay": {"up", "--seed", "7"},
		"an argument of status": {"status", "node0"}, "an argument of down": {"down", "node0"}, "an argument of bench": {"bench", "now"},
		"another output of down": {"down", "-o", "xml"}, "another output of kill": {"kill", "-o", "xml", "node0"},
		"a port for no network of its own": {"bench", "--port", "7000"}, "a sweep over nothing": {"bench", "--sweep", "--over", "speed"},
		"a block of no transaction": {"bench", "--sweep", "--over", "block-txs=0"}, "a range without a sweep": {"bench", "--over", "load"},
		"an overload that is none": {"bench", "--overload", "1"}, "an overload at a rate": {"bench", "--overload", "3", "--rate", "5"},
		"no run": {"bench", "--runs", "0"}, "more than all in conflict": {"bench", "--conflict", "101"}, "no node to replace": {"replace"}, "a node to add": {"add", "node4"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, diagnostics, code := testnet(t, args...); code != 2 || diagnostics == "" {
				t.Errorf("exit %d: %s", code, diagnostics)
			}
		})
	}
	t.Run("flags of a new network for one that is there", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "net")
		port, err := strconv.Atoi(freePort(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := network.Create(network.Config{Dir: dir, Nodes: 1, Port: port}); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"--nodes", "1"},
			{"--port", "7000"},
			{"--engine", "raft"},
			{"--engine-program", "x"},
			{"--log-level", "debug"},
			{"--relay", "loss=1%"},
			{"--relay-script", "x"},
			{"--seed", "3"},
			{"--trust-members"},
		} {
			if _, diagnostics, code := testnet(t, append([]string{"up", "-d", dir}, args...)...); code != 2 || !strings.Contains(diagnostics, args[0]) {
				t.Errorf("up %v: exit %d: %s", args, code, diagnostics)
			}
		}
	})
	t.Run("a script that is not there", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "net")
		if _, diagnostics, code := testnet(t, "up", "-d", dir, "--relay", "clean", "--relay-script", "calm.txt"); code != 1 || !strings.Contains(diagnostics, "calm.txt") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	})
	t.Run("status of no network", func(t *testing.T) {
		if _, diagnostics, code := testnet(t, "status", "-d", t.TempDir()); code != 1 || !strings.Contains(diagnostics, "go run ./testnet up") {
			t.Errorf("exit %d: %s", code, diagnostics)
		}
	})
}

// TestReadme types what README.md says and compares the words of the answer, numbers aside.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a network")
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(readme), "```console\n$ go run ./testnet up\n")
	want, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatal("README.md has no transcript of `go run ./testnet up`")
	}
	t.Chdir("..")
	dir := filepath.Join(t.TempDir(), "net")
	// The transcript is of the default folder and ports, which somebody may be using: the test names others.
	command := exec.CommandContext(t.Context(), "go", "run", "./testnet", "up", "-d", dir, "--port", freePort(t, 4))
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches all processes of the terminal's group
	var out safeBuffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n, err := network.Open(dir); err == nil {
			if err := n.StopAll(); err != nil {
				t.Error(err)
			}
		}
	})
	waitForPrompt(t, &out, command)
	if err := syscall.Kill(-command.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() > 1 {
			t.Error(err)
		}
	}
	got := strings.ReplaceAll(out.String(), " -d "+dir, "")
	got = strings.ReplaceAll(got, dir, "/home/you/.cache/fondaco/testnet")
	got, _, _ = strings.Cut(got, "next `up`.")
	want, _, _ = strings.Cut(want, "next `up`.")
	if g, w := words(got), words(want); g != w {
		t.Errorf("README.md shows\n%s\nand the command prints\n%s\nwhich differ in\n%s\n%s", want, got, w, g)
	}
}

// words replaces numbers and runs of spaces.
func words(s string) string {
	s = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+(\.[0-9]+)?`).ReplaceAllString(s, "#")
	return regexp.MustCompile(`[ \t]+`).ReplaceAllString(strings.TrimSpace(s), " ")
}

func waitForPrompt(t *testing.T, out *safeBuffer, command *exec.Cmd) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !strings.Contains(out.String(), "Ctrl-C stops"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) || command.ProcessState != nil {
			t.Fatalf("`go run ./testnet up` printed only\n%s", out.String())
		}
	}
}

type safeBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
