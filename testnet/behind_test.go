package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

var behind = flag.Int("behind", 0, "how many blocks a node misses that then has to catch up")

// TestBehind measures how a node catches up, on processes: while it is down, the others make blocks as fast as they can;
// then it starts, is killed when it has a third of them, and starts again. It must take no more than a third of the
// time in which the blocks were made, share the work among the others, and fetch no block twice. Then it loses its disk,
// but for its key, and must fetch everything, say that it does not vote and what helps, and vote in the next epoch.
// Ten thousand blocks take some ten minutes to make:
//
//	go test ./testnet -run TestBehind -behind 10000 -v -timeout 60m
func TestBehind(t *testing.T) {
	if *behind == 0 {
		t.Skip("makes blocks for many minutes: run with -behind 10000")
	}
	n := startNodes(t, 4, "pbft")
	first, err := leader(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(n.Nodes, func(x network.Node) bool { return x.Name != first })
	late := &latecomer{t: t, net: n, node: &n.Nodes[at], member: uint32(at), api: apiOf(t, &n.Nodes[at])}
	other := apiOf(t, &n.Nodes[(at+1)%4])
	if err := n.Kill(late.node); err != nil {
		t.Fatal(err)
	}
	from := statusOf(t, other).Height
	made := makeBlocks(t, n, other, from+ledger.Height(*behind))
	head := statusOf(t, other).Height
	missed := float64(head - from)
	txs := countTxs(t, other, from, head)
	t.Logf("%d blocks with %d transactions were made, at %.1f blocks and %.0f transactions a second at most", head-from, txs, made.blocks, made.txs)

	took := late.fetch(from + (head-from)/3)
	if err := n.Kill(late.node); err != nil {
		t.Fatal(err)
	}
	killed := late.height
	took += late.fetch(head)
	if late.began < killed {
		t.Errorf("the node was killed at height %d at least, and started at %d", killed, late.began)
	}
	if missing := uint64(head - late.began); late.sent() > missing+missing/10 {
		t.Errorf("after the kill %d blocks were fetched for the %d that were missing", late.sent(), missing)
	}
	byBlocks, byTxs := missed/took/made.blocks, float64(txs)/took/made.txs
	t.Logf("fetched in %.1f s, one kill at height %d included: %.1f blocks and %.0f transactions a second, %.1f and %.1f times the speed at which they were made; by source, since the kill: %v",
		took, killed, missed/took, float64(txs)/took, byBlocks, byTxs, late.shares)
	if byBlocks < 3 {
		t.Errorf("blocks come at %.1f times the speed at which they were made, want 3", byBlocks)
	}
	for _, node := range n.Nodes {
		if node.ID != late.node.ID && late.shares[node.ID.Short()] < late.sent()/10 {
			t.Errorf("%s sent %d of %d blocks: want a tenth of all at least", node.Name, late.shares[node.ID.Short()], late.sent())
		}
	}
	late.votes()

	t.Run("an empty disk", func(t *testing.T) {
		if err := n.Stop(late.node); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(late.node.Dir, "data")); err != nil {
			t.Fatal(err)
		}
		took := late.fetch(head)
		t.Logf("all %d blocks in %.1f s; by source: %v", head, took, late.shares)
		s := statusOf(t, late.api)
		if !strings.Contains(s.Muted, "does not vote before epoch 1") || !strings.Contains(s.Muted, "fondaco member propose") {
			t.Errorf("a member that lost its disk says of its vote: %q", s.Muted)
		}
		if err := n.Ready(t.Context(), late.node); err == nil || !strings.Contains(err.Error(), "does not vote") {
			t.Errorf("a member that lost its disk says of being ready: %v", err)
		}
		params := ledger.DefaultParams()
		for epoch := uint64(1); epoch <= 2; epoch++ { // of the first it may have been the only one to know
			params.BatchDelay++
			if _, err := n.Pass(t.Context(), other, &precompiles.Reform{Params: &params}, nil); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the member is in the next epoch, and votes in the one after that", func() bool {
				s, err := late.api.Status(t.Context())
				return err == nil && s.Epoch == epoch && (epoch < 2 || s.Muted == "")
			})
		}
		late.votes()
	})
}

// latecomer is the node that is behind.
type latecomer struct {
	t      *testing.T
	net    *network.Network
	node   *network.Node
	member uint32
	api    *client.Client

	began  ledger.Height     // when it started
	height ledger.Height     // seen last
	shares map[string]uint64 // blocks that came since it started, by source
}

// fetch starts the node and returns how many seconds it takes until it has a height.
func (l *latecomer) fetch(height ledger.Height) float64 {
	l.t.Helper()
	start, first := time.Now(), true
	if _, err := l.net.Start(l.node); err != nil {
		l.t.Fatal(err)
	}
	said := ""
	for deadline := start.Add(30 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("height %d of %d after half an hour", l.height, height)
		}
		s, err := l.api.Status(l.t.Context())
		if err != nil {
			continue
		}
		if l.height = s.Height; first {
			l.began, first = s.Height, false
		}
		if s.Syncing > 0 && s.Fetch != nil {
			said = fmt.Sprintf("at %d of %d, %.0f blocks a second, %.0f s left", s.Height, s.Syncing, s.Fetch.PerSecond, s.Fetch.SecondsLeft)
		}
		if s.Height >= height {
			took := time.Since(start).Seconds()
			l.shares = l.metric("fondaco_fetched_blocks_total")
			if said == "" {
				l.t.Error("the status did not say that the node is behind")
			}
			l.t.Logf("the status said last: %s", said)
			return took
		}
	}
}

// sent is how many blocks came from others since the node started.
func (l *latecomer) sent() (blocks uint64) {
	for _, n := range l.shares {
		blocks += n
	}
	return blocks
}

// metric returns the values of a counter, by its label "from".
func (l *latecomer) metric(name string) map[string]uint64 {
	l.t.Helper()
	response, err := http.Get(l.node.Admin + "/metrics")
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // a test's
	values := map[string]uint64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), "} ")
		_, from, ok := strings.Cut(series, `from="`)
		if !ok || !strings.HasPrefix(series, name+"{") {
			continue
		}
		from, _, _ = strings.Cut(from, `"`)
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			l.t.Fatal(err)
		}
		values[from] = uint64(count)
	}
	return values
}

// votes waits until a certificate has the node's signature.
func (l *latecomer) votes() {
	l.t.Helper()
	p := newPayer(l.t, l.net, int(l.member))
	eventually(l.t, "the node votes", func() bool {
		tx, err := p.token.Send(l.t.Context(), "alice", "transfer", p.net.Address("bob").String(), "1")
		if err != nil {
			return false
		}
		b, err := l.api.Block(l.t.Context(), tx.Height)
		return err == nil && slices.Contains(b.Signers, l.member)
	})
}

// output is what the network makes in a second.
type output struct{ blocks, txs float64 }

// makeBlocks loads the nodes that run until there is a height, and returns the most that they made: at first with as many
// transfers as they take, and then with fewer at once, which makes more blocks and smaller ones.
func makeBlocks(t *testing.T, n *network.Network, api *client.Client, height ledger.Height) (most output) {
	t.Helper()
	inflight := 1_200
	for duration := 20 * time.Second; statusOf(t, api).Height < height; inflight = 200 {
		out, diagnostics, code := testnet(t, "bench", "-d", n.Dir, "--accounts", "100", "--inflight", fmt.Sprint(inflight),
			"--warmup", "3s", "--duration", duration.String(), "-o", "json")
		if code != 0 {
			t.Fatalf("bench: exit %d\n%s%s", code, out, diagnostics)
		}
		var b Bench
		if err := json.Unmarshal([]byte(out), &b); err != nil {
			t.Fatal(err)
		}
		speed := float64(b.Blocks) / b.Seconds
		most = output{max(most.blocks, speed), max(most.txs, b.TPS)}
		now := statusOf(t, api).Height
		t.Logf("height %d of %d: with %d transfers at once, %.1f blocks and %.0f transfers a second", now, height, inflight, speed, b.TPS)
		left := time.Duration(float64(height-min(now, height)) / speed * float64(time.Second))
		duration = min(max(left, 10*time.Second), 2*time.Minute).Round(time.Second)
	}
	return most
}

// countTxs counts the transactions of the blocks above a height up to another.
func countTxs(t *testing.T, api *client.Client, above, to ledger.Height) (txs int) {
	t.Helper()
	for to > above {
		page, err := api.Blocks(t.Context(), to+1, int(min(100, to-above)))
		if err != nil || len(page) == 0 {
			t.Fatalf("%d blocks below %d, %v", len(page), to+1, err)
		}
		for _, b := range page {
			txs += len(b.Txs)
		}
		to = page[len(page)-1].Height - 1
	}
	return txs
}

func apiOf(t *testing.T, node *network.Node) *client.Client {
	t.Helper()
	api, err := client.New(node.API, nil)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func statusOf(t *testing.T, api *client.Client) *client.Status {
	t.Helper()
	s, err := api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
