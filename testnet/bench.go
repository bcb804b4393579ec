package main

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

// Bounds of a run.
const (
	benchBatch  = 100                  // transactions in one request
	benchTick   = 2 * time.Millisecond // between looks at what is due
	benchTail   = 30 * time.Second     // that the last transactions may take
	benchMax    = 2_000_000            // transactions signed ahead
	benchSigned = 6_000                // a second, when the rate is not limited
	benchExpiry = 9 * time.Minute      // below the chain's ten
	benchGas    = 2_000_000            // of a transfer
	benchUnits  = 1_000_000            // that each account begins with
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "load a running network with token transfers and measure",
		Flags: commonFlags(
			&cli.IntFlag{Name: "rate", Usage: "transfers a second over all nodes; 0: as many as the network takes"},
			&cli.DurationFlag{Name: "duration", Usage: "of the measurement", Value: 30 * time.Second},
			&cli.DurationFlag{Name: "warmup", Usage: "before it", Value: 5 * time.Second},
			&cli.IntFlag{Name: "accounts", Usage: "between which units move, in random pairs", Value: 1_000},
			&cli.IntFlag{Name: "inflight", Usage: "most transfers that wait at once, over all nodes", Value: 1_200},
			&cli.StringFlag{Name: "contract", Usage: "`ADDRESS` of a token; default: the one that up deployed"},
			&cli.IntFlag{Name: "payload", Usage: "bytes of a payment reference that each transfer carries"},
			&cli.Uint64Flag{Name: "seed", Usage: "of the random pairs, and of the relay's luck", Value: 1},
			&cli.StringFlag{Name: "relay", Usage: "measure a network of its own instead, whose packets go through a bad network with these `CONDITIONS`, such as loss=1%; clean: a relay that does nothing"},
			&cli.IntFlag{Name: "port", Usage: "with --relay, the first of four ports for each of its nodes", Value: network.DefaultPort},
		),
		Action: bench,
	}
}

// Bench is the result of a run. Latencies are from the moment a transfer is due to be sent until the node it was
// sent to shows it in a final block; CPU, memory and disk are those of all nodes with their plugins.
type Bench struct {
	TPS          float64 `json:"tps"`
	P50          float64 `json:"p50_ms"`
	P95          float64 `json:"p95_ms"`
	P99          float64 `json:"p99_ms"`
	CPU          float64 `json:"cpu_s_per_1000_tx"`
	RSS          float64 `json:"rss_mb"` // of the largest node
	Disk         float64 `json:"disk_bytes_per_tx"`
	RootsEqual   bool    `json:"roots_equal"`
	SumUnchanged bool    `json:"sum_unchanged"`

	Seconds   float64 `json:"seconds"`
	Sent      int64   `json:"sent"`
	Committed int64   `json:"committed"`
	Refused   int64   `json:"refused"`  // by a node, because it was busy or for the transfer's own fault
	Lost      int64   `json:"lost"`     // waited at a node that kept running, and were not seen in a block in time
	Stranded  int64   `json:"stranded"` // waited at a node that was killed during the run; nobody was told that they are final
	Blocks    int64   `json:"blocks"`
	Views     uint64  `json:"view_changes"` // during the measurement
	Accounts  int     `json:"accounts"`
	Rate      int     `json:"rate"`
	Nodes     int     `json:"nodes"`
	Relay     string  `json:"relay,omitempty"` // the conditions of its links
}

// load is a run under way.
type load struct {
	net      *network.Network
	apis     []*client.Client
	nodes    []*network.Node // of the apis
	pids     []int           // of the nodes when the run began
	txs      [][]byte
	ids      []ledger.TxID
	next     atomic.Int64
	rate     int
	inflight int64

	from, until time.Time // of the measurement

	mu      sync.Mutex              // guards what follows
	sent    map[ledger.TxID]sending // that wait
	latency []float64
	blocks  map[ledger.Height]struct{}

	waiting   atomic.Int64
	accepted  atomic.Int64
	refused   atomic.Int64
	committed atomic.Int64
}

type sending struct {
	node int
	due  time.Time
}

func bench(c *cli.Context) error {
	json, err := asJSON(c)
	if err != nil {
		return err
	}
	if c.Args().Present() {
		return fmt.Errorf("%w: bench takes no arguments, and got %q", errUsage, c.Args().First())
	}
	accounts, payload := c.Int("accounts"), c.Int("payload")
	switch {
	case accounts < 2:
		return fmt.Errorf("%w: --accounts %d: want at least 2", errUsage, accounts)
	case c.Int("rate") < 0, c.Duration("duration") < time.Second, c.Duration("warmup") < 0, c.Int("inflight") < 1, payload < 0, payload > 32<<10:
		return fmt.Errorf("%w: want a rate of at least 0, a duration of at least 1s, a payload of at most 32768", errUsage)
	case c.Duration("duration")+c.Duration("warmup") > 8*time.Minute:
		return fmt.Errorf("%w: warm-up and duration over 8 minutes: transfers are signed ahead and would expire", errUsage)
	}
	if c.IsSet("port") && !c.IsSet("relay") {
		return fmt.Errorf("%w: --port is for the network of its own that --relay measures", errUsage)
	}
	n, stop, err := benched(c)
	if err != nil {
		return err
	}
	defer stop()
	if text := c.String("contract"); text != "" {
		if n.Token, err = ledger.ParseAddress(text); err != nil {
			return fmt.Errorf("%w: --contract: %w", errUsage, err)
		}
	}
	progress := func(format string, args ...any) { fmt.Fprintf(c.App.ErrWriter, format+"\n", args...) }
	l := &load{
		net: n, rate: c.Int("rate"), inflight: int64(c.Int("inflight")), sent: map[ledger.TxID]sending{}, blocks: map[ledger.Height]struct{}{},
	}
	for i := range n.Nodes {
		if n.Pid(&n.Nodes[i]) == 0 {
			continue
		}
		api, err := client.New(n.Nodes[i].API, nil)
		if err != nil {
			return err
		}
		l.apis = append(l.apis, api)
		l.nodes = append(l.nodes, &n.Nodes[i])
		l.pids = append(l.pids, n.Pid(&n.Nodes[i]))
	}
	if len(l.apis) == 0 {
		return errors.New("no node of the network runs: start it with `up`")
	}
	token, err := n.OpenToken(c.Context, l.apis[0])
	if err == nil && token == nil {
		err = errors.New("the network has no token: start it with `up`")
	}
	if err != nil {
		return err
	}
	people, err := n.LoadAccounts(c.Context, l.apis[0], accounts, func(have int) { progress("registered %d accounts", have) })
	if err != nil {
		return err
	}
	if err := l.fund(c.Context, token, people, progress); err != nil {
		return err
	}
	before, err := l.sum(c.Context, token, people)
	if err != nil {
		return err
	}
	total := c.Duration("warmup") + c.Duration("duration")
	count := benchSigned * int(total.Seconds())
	if l.rate > 0 {
		count = l.rate*int(total.Seconds()+1) + benchBatch
	}
	count = min(count, benchMax)
	progress("signing %d transfers", count)
	if err := l.sign(c.Context, token, people, count, payload, c.Uint64("seed")); err != nil {
		return err
	}
	progress("warming up for %v, then measuring for %v", c.Duration("warmup"), c.Duration("duration"))
	result, err := l.run(c.Context, c.Duration("warmup"), c.Duration("duration"))
	if err != nil {
		return err
	}
	result.Accounts, result.Relay = accounts, c.String("relay")
	if token, err = l.survivors(c.Context); err != nil {
		return err
	}
	after, err := l.sum(c.Context, token, people)
	if err != nil {
		return err
	}
	result.SumUnchanged = before.Cmp(after) == 0
	if result.RootsEqual, err = l.rootsEqual(c.Context); err != nil {
		return err
	}
	if json {
		err = printJSON(c, result)
	} else {
		err = result.print(c)
	}
	switch {
	case err != nil:
		return err
	case !result.SumUnchanged:
		return fmt.Errorf("the sum of balances was %s and is %s: this must never happen", before, after)
	case !result.RootsEqual:
		return errors.New("the nodes' state roots differ: this must never happen")
	case result.Lost > 0:
		return fmt.Errorf("%d waiting transfers did not come into a block within %v", result.Lost, benchTail)
	}
	return nil
}

// benched returns the network to measure: the one in the folder, or with --relay one of its own, which stop ends and
// removes.
func benched(c *cli.Context) (n *network.Network, stop func(), err error) {
	if !c.IsSet("relay") {
		n, err := network.Open(c.String("dir"))
		return n, func() {}, err
	}
	conditions, err := relayConditions(c)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "fondaco-bench-")
	if err != nil {
		return nil, nil, err
	}
	progress := func(format string, args ...any) { fmt.Fprintf(c.App.ErrWriter, format+"\n", args...) }
	var own *network.Network
	var stopRelay func()
	end := func() {
		if own != nil {
			if err := own.StopAll(); err != nil {
				progress("testnet: %v", err)
			}
		}
		if stopRelay != nil {
			stopRelay()
		}
		if err := os.RemoveAll(dir); err != nil {
			progress("testnet: %v", err)
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	if own, err = network.Create(network.Config{Dir: dir, Port: c.Int("port"), Relay: true}); err != nil {
		return nil, nil, err
	}
	progress("building the node and starting a network behind a relay")
	if _, err = network.Build(c.Context, ".", dir); err != nil {
		return nil, nil, err
	}
	if stopRelay, err = startRelay(c, own, conditions, nil, progress); err != nil {
		return nil, nil, err
	}
	if err = startAll(c.Context, own); err != nil {
		return nil, nil, err
	}
	if _, err = demonstrate(c.Context, own, progress); err != nil {
		return nil, nil, err
	}
	return own, end, nil
}

func (b *Bench) print(c *cli.Context) error {
	table := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "committed transfers/s\t%.0f\t(%d in %.0f s, %d blocks)\n", b.TPS, b.Committed, b.Seconds, b.Blocks)
	fmt.Fprintf(table, "commit latency p50 / p95 / p99\t%.0f / %.0f / %.0f ms\t\n", b.P50, b.P95, b.P99)
	fmt.Fprintf(table, "CPU per 1,000 transfers\t%.2f s\t(all nodes and plugins)\n", b.CPU)
	fmt.Fprintf(table, "resident memory\t%.0f MB\t(anonymous, largest node with plugins)\n", b.RSS)
	fmt.Fprintf(table, "disk per transfer\t%.0f bytes\t(all nodes)\n", b.Disk)
	fmt.Fprintf(table, "view changes\t%d\t\n", b.Views)
	fmt.Fprintf(table, "refused / lost / stranded\t%d / %d / %d\t\n", b.Refused, b.Lost, b.Stranded)
	fmt.Fprintf(table, "state roots equal\t%t\t\n", b.RootsEqual)
	fmt.Fprintf(table, "sum of balances unchanged\t%t\t\n", b.SumUnchanged)
	if err := table.Flush(); err != nil || b.Relay == "" {
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "\n| relay | transfers/s | p50 / p99 | view changes |\n|---|---|---|---|\n| `%s` | %.0f | %.0f / %.0f ms | %d in %.0f s |\n",
		b.Relay, b.TPS, b.P50, b.P99, b.Views, b.Seconds)
	return err
}

// fund gives every account that has nothing its first units.
func (l *load) fund(ctx context.Context, token *network.Token, people []network.LoadAccount, progress func(string, ...any)) error {
	last := people[len(people)-1]
	if units, err := token.Balance(ctx, last.Address); err != nil {
		return err
	} else if units != "0" {
		return nil // the last is funded after all others
	}
	admin, address, err := l.net.Signer("admin")
	if err != nil {
		return err
	}
	suite, err := l.apis[0].Suite(ctx)
	if err != nil {
		return err
	}
	progress("issuing units to %d accounts", len(people))
	for start := 0; start < len(people); start += benchBatch * 10 {
		var raws [][]byte
		var id ledger.TxID
		for _, p := range people[start:min(start+benchBatch*10, len(people))] {
			if units, err := token.Balance(ctx, p.Address); err != nil {
				return err
			} else if units != "0" {
				continue
			}
			args, err := token.Schema.EncodeText("issue", []string{p.Address.String(), fmt.Sprint(benchUnits)})
			if err != nil {
				return err
			}
			tx, err := l.apis[0].Transaction(ctx, address, ledger.Target{Address: token.Address}, "issue", args)
			if err != nil {
				return err
			}
			signed, err := tx.Sign(suite, admin)
			if err != nil {
				return err
			}
			raws = append(raws, signed.Raw)
			id = signed.ID
		}
		if len(raws) == 0 {
			continue
		}
		if _, err := l.apis[0].SendBatch(ctx, raws); err != nil {
			return err
		}
		if _, err := l.apis[0].Wait(ctx, id); err != nil {
			return fmt.Errorf("issue units: %w", err)
		}
	}
	return nil
}

// sum adds up the accounts' balances at one height: it waits until all nodes rest at the same one with nothing
// waiting, and reads again if a block came meanwhile. A sum over several heights would be of no state.
func (l *load) sum(ctx context.Context, token *network.Token, people []network.LoadAccount) (*big.Int, error) {
	for deadline := time.Now().Add(benchTail); time.Now().Before(deadline); {
		before, resting, err := l.resting(ctx)
		if err != nil {
			return nil, err
		}
		if resting {
			total, err := l.add(ctx, token, people)
			if err != nil {
				return nil, err
			}
			if after, still, err := l.resting(ctx); err != nil || still && after == before {
				return total, err
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the nodes did not come to rest at one height within %v: the balances cannot be added up; `status` shows the nodes", benchTail)
}

// resting reports whether all nodes are at one height with no transaction waiting, and which.
func (l *load) resting(ctx context.Context) (height ledger.Height, resting bool, err error) {
	for i, api := range l.apis {
		status, err := api.Status(ctx)
		if err != nil {
			return 0, false, err
		}
		if status.Pending > 0 || i > 0 && status.Height != height {
			return 0, false, nil
		}
		height = status.Height
	}
	return height, true, nil
}

// add adds up the accounts' balances as the first node has them.
func (l *load) add(ctx context.Context, token *network.Token, people []network.LoadAccount) (*big.Int, error) {
	const readers = 4
	total := new(big.Int)
	var mu sync.Mutex // guards total and failed
	var failed error
	var wait sync.WaitGroup
	for r := range readers {
		wait.Go(func() {
			for i := r; i < len(people); i += readers {
				units, err := token.Balance(ctx, people[i].Address)
				v, ok := new(big.Int).SetString(units, 10)
				mu.Lock()
				if err != nil || !ok {
					failed = errors.Join(err, failed)
					mu.Unlock()
					return
				}
				total.Add(total, v)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return total, failed
}

// sign makes transfers of one unit between random pairs.
func (l *load) sign(ctx context.Context, token *network.Token, people []network.LoadAccount, count, payload int, seed uint64) error {
	suite, err := l.apis[0].Suite(ctx)
	if err != nil {
		return err
	}
	chain, err := l.apis[0].Chain(ctx)
	if err != nil {
		return err
	}
	l.txs = make([][]byte, count)
	l.ids = make([]ledger.TxID, count)
	expiry := time.Now().Add(benchExpiry).UnixMilli()
	const workers = 2
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := w; i < count && errs[w] == nil && ctx.Err() == nil; i += workers {
				l.txs[i], l.ids[i], errs[w] = signOne(suite, chain, token, people, payload, expiry, rng)
			}
		})
	}
	wait.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func signOne(suite keys.Suite, chain *client.Chain, token *network.Token, people []network.LoadAccount, payload int, expiry int64, rng *rand.Rand) ([]byte, ledger.TxID, error) {
	from := rng.IntN(len(people))
	to := rng.IntN(len(people) - 1)
	if to >= from {
		to++
	}
	method, text := "transfer", []string{people[to].Address.String(), "1"}
	if payload > 0 {
		method, text = "pay", append(text, fmt.Sprintf("0x%0*x", 2*payload, rng.Uint64()))
	}
	args, err := token.Schema.EncodeText(method, text)
	if err != nil {
		return nil, ledger.TxID{}, err
	}
	tx := ledger.Tx{
		Version: ledger.Version, Chain: chain.Chain, Group: chain.Group, Sender: people[from].Address, Expiry: expiry,
		GasLimit: min(chain.Params.TxGas, benchGas+ledger.Gas(payload)*1_000), To: ledger.Target{Address: token.Address}, Method: method, Args: args,
	}
	for i := range tx.Nonce {
		tx.Nonce[i] = byte(rng.Uint32())
	}
	for i, b := range [8]byte{byte(expiry), byte(expiry >> 8), byte(expiry >> 16), byte(expiry >> 24), byte(expiry >> 32)} {
		tx.Nonce[i] ^= b // another run with the same seed makes other transactions
	}
	signed, err := tx.Sign(suite, people[from].Key)
	if err != nil {
		return nil, ledger.TxID{}, err
	}
	return signed.Raw, signed.ID, nil
}

// run sends and watches.
func (l *load) run(ctx context.Context, warmup, duration time.Duration) (*Bench, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watchers, senders sync.WaitGroup
	failed := make(chan error, 2*len(l.apis))
	for i, api := range l.apis {
		status, err := api.Status(ctx)
		if err != nil {
			return nil, err
		}
		watchers.Go(func() { l.watch(ctx, i, api, status.Height+1) })
	}
	began := time.Now()
	l.from, l.until = began.Add(warmup), began.Add(warmup+duration)
	for i, api := range l.apis {
		senders.Go(func() {
			if err := l.send(ctx, i, api, began); err != nil {
				failed <- err
			}
		})
	}
	if err := pause(ctx, time.Until(l.from)); err != nil {
		return nil, err
	}
	first, err := l.usage()
	if err != nil {
		return nil, err
	}
	committedAtFirst, viewAtFirst := l.committed.Load(), l.view(ctx)
	if err := pause(ctx, time.Until(l.until)); err != nil {
		return nil, err
	}
	last, err := l.usage()
	if err != nil {
		return nil, err
	}
	committed, view := l.committed.Load()-committedAtFirst, l.view(ctx)
	senders.Wait()
	for deadline := time.Now().Add(benchTail); l.waiting.Load() > 0 && time.Now().Before(deadline); {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	cancel()
	watchers.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.latency)
	b := &Bench{
		Seconds: duration.Seconds(), Committed: committed, TPS: float64(committed) / duration.Seconds(), Rate: l.rate, Nodes: len(l.apis),
		Sent: l.accepted.Load() + l.refused.Load(), Refused: l.refused.Load(), Blocks: int64(len(l.blocks)), Views: view - min(view, viewAtFirst),
		P50: percentile(l.latency, 0.50), P95: percentile(l.latency, 0.95), P99: percentile(l.latency, 0.99),
	}
	var used network.Usage
	for pid, u := range last {
		used.CPU += u.CPU - first[pid].CPU
		used.Disk += u.Disk - first[pid].Disk
		used.Memory = max(used.Memory, u.Memory)
	}
	for _, waits := range l.sent {
		if node := l.nodes[waits.node]; l.net.Pid(node) == l.pids[waits.node] {
			b.Lost++
		} else {
			b.Stranded++
		}
	}
	if committed > 0 {
		b.CPU = used.CPU.Seconds() / float64(committed) * 1000
		b.Disk = float64(used.Disk) / float64(committed)
	}
	b.RSS = float64(used.Memory) / 1e6
	return b, nil
}

func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// view returns the highest view that a node is in, of those that answer.
func (l *load) view(ctx context.Context) (highest uint64) {
	for _, api := range l.apis {
		if status, err := api.Status(ctx); err == nil {
			highest = max(highest, status.View)
		}
	}
	return highest
}

// usage is what the running nodes use, by process id: a node that was started again counts from nothing.
func (l *load) usage() (map[int]network.Usage, error) {
	all := map[int]network.Usage{}
	for i := range l.net.Nodes {
		pid := l.net.Pid(&l.net.Nodes[i])
		if pid == 0 {
			continue
		}
		u, err := l.net.Usage(&l.net.Nodes[i])
		if err != nil {
			return nil, err
		}
		all[pid] = u
	}
	return all, nil
}

// send gives one node its share of the transfers: as they fall due, and no more than may wait.
func (l *load) send(ctx context.Context, node int, api *client.Client, began time.Time) error {
	share := float64(l.rate) / float64(len(l.apis))
	dues := 0
	for ctx.Err() == nil && time.Now().Before(l.until) {
		due := benchBatch
		if l.rate > 0 {
			due = min(int(time.Since(began).Seconds()*share)-dues, benchBatch)
		}
		if room := int(l.inflight - l.waiting.Load()); l.rate == 0 {
			due = min(due, room)
			if due < benchBatch/4 {
				due = 0 // small requests would cost more than they bring
			}
		}
		if due <= 0 {
			if err := pause(ctx, benchTick); err != nil {
				return nil
			}
			continue
		}
		first := int(l.next.Add(int64(due))) - due
		if first+due > len(l.txs) {
			return errors.New("the signed transfers ran out: the network is faster than this benchmark expects; use --rate")
		}
		now := time.Now()
		l.mu.Lock()
		for i := first; i < first+due; i++ {
			at := now
			if l.rate > 0 {
				at = began.Add(time.Duration(float64(dues+i-first+1) / share * float64(time.Second)))
			}
			l.sent[l.ids[i]] = sending{node, at}
		}
		l.mu.Unlock()
		dues += due
		l.waiting.Add(int64(due))
		results, err := api.SendBatch(ctx, l.txs[first:first+due])
		for i := range due {
			if err == nil && results[i].Progress == client.Pending {
				l.accepted.Add(1)
				continue
			}
			l.mu.Lock()
			if _, waits := l.sent[l.ids[first+i]]; waits {
				delete(l.sent, l.ids[first+i])
				l.waiting.Add(-1)
				l.refused.Add(1)
			}
			l.mu.Unlock()
		}
		if err != nil {
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return nil
			}
		}
	}
	return nil
}

// watch follows a node's blocks and notes when the transfers that were sent to it are final there.
func (l *load) watch(ctx context.Context, node int, api *client.Client, from ledger.Height) {
	for ctx.Err() == nil { // a node that was killed may come back; until then what was sent to it waits
		for block, err := range api.Follow(ctx, from) {
			if err != nil {
				break
			}
			from = block.Height + 1
			l.seen(node, block)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return
		}
	}
}

// seen notes the transfers that a node shows in a block.
func (l *load) seen(node int, block *client.Block) {
	now := time.Now()
	l.mu.Lock()
	for _, id := range block.Txs {
		s, waits := l.sent[id]
		if !waits || s.node != node {
			continue
		}
		delete(l.sent, id)
		l.waiting.Add(-1)
		l.committed.Add(1)
		if s.due.After(l.from) && s.due.Before(l.until) {
			l.latency = append(l.latency, float64(now.Sub(s.due).Microseconds())/1000)
		}
	}
	if now.After(l.from) && now.Before(l.until) {
		l.blocks[block.Height] = struct{}{}
	}
	l.mu.Unlock()
}

// survivors forgets the nodes that do not answer any more, and returns the token as one that does shows it.
func (l *load) survivors(ctx context.Context) (*network.Token, error) {
	l.apis = slices.DeleteFunc(l.apis, func(api *client.Client) bool {
		_, err := api.Status(ctx)
		return err != nil
	})
	if len(l.apis) == 0 {
		return nil, errors.New("no node answers any more: the run cannot be judged")
	}
	return l.net.OpenToken(ctx, l.apis[0])
}

// rootsEqual compares the nodes' state roots at the lowest height that all have reached.
func (l *load) rootsEqual(ctx context.Context) (bool, error) {
	lowest := ledger.Height(1<<63 - 1)
	for _, api := range l.apis {
		status, err := api.Status(ctx)
		if err != nil {
			return false, err
		}
		lowest = min(lowest, status.Height)
	}
	var root keys.Digest
	for i, api := range l.apis {
		block, err := api.Block(ctx, lowest)
		if err != nil {
			return false, err
		}
		if i > 0 && block.StateRoot != root {
			return false, nil
		}
		root = block.StateRoot
	}
	return true, nil
}
