package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "load a running network with token transfers and measure",
		Flags: commonFlags(
			&cli.IntFlag{Name: "rate", Usage: "transfers a second over all nodes, whatever becomes of them; 0: as many as the network takes"},
			&cli.DurationFlag{Name: "duration", Usage: "of the measurement", Value: 30 * time.Second},
			&cli.DurationFlag{Name: "warmup", Usage: "before it", Value: 5 * time.Second},
			&cli.IntFlag{Name: "runs", Usage: "how often to measure; the figures are those of the median", Value: 1},
			&cli.IntFlag{Name: "accounts", Usage: "between which units move, in random pairs; those that are missing are registered first, a million in some minutes", Value: 1_000},
			&cli.IntFlag{Name: "inflight", Usage: "most transfers that wait at once, over all nodes, without --rate", Value: 2_400},
			&cli.StringFlag{Name: "contract", Usage: "token to load: `LANGUAGE` (" + strings.Join(network.TokenLanguages(), ", ") + "), deployed the first time, or an address; default: the one that up deployed"},
			&cli.IntFlag{Name: "payload", Usage: "bytes of a payment reference that each transfer carries"},
			&cli.Float64Flag{Name: "conflict", Usage: "`PERCENT` of the transfers that all pay the same account"},
			&cli.Float64Flag{Name: "overload", Usage: "measure as many as the network takes, then `FACTOR` times as many a second"},
			&cli.Uint64Flag{Name: "seed", Usage: "of the random pairs, and of the relay's luck", Value: 1},
			&cli.StringFlag{Name: "relay", Usage: "measure a network of its own instead, whose packets go through a bad network with these `CONDITIONS`, such as loss=1%; clean: a relay that does nothing"},
			&cli.BoolFlag{Name: "sweep", Usage: "measure networks of its own over ranges of load, block size, payload, accounts and conflict rate: some ten minutes"},
			&cli.BoolFlag{Name: "suites", Usage: "measure three networks of its own in turn: on the suite std, on gm, and on gm with --inner of up"},
			&cli.StringSliceFlag{Name: "over", Usage: "with --sweep, only `DIMENSION`, or DIMENSION=VALUE,VALUE…; dimensions are " + strings.Join(dimensionNames(), ", ")},
			&cli.PathFlag{Name: "out", Usage: "with --sweep, write `FILE`.csv and FILE.svg", Value: "sweep"},
			&cli.IntFlag{Name: "port", Usage: "with --relay, --sweep and --suites, the first of four ports for each node", Value: network.DefaultPort},
		),
		Action: bench,
	}
}

// Bench is the result of a run. Latencies are from the moment a transfer is due to be sent until the node it was
// sent to shows it in a final block, of those that nodes took; CPU, memory and disk are those of all nodes with their plugins.
type Bench struct {
	TPS           float64 `json:"tps"`
	P50           float64 `json:"p50_ms"`
	P95           float64 `json:"p95_ms"`
	P99           float64 `json:"p99_ms"`
	CPU           float64 `json:"cpu_s_per_1000_tx"`
	RSS           float64 `json:"rss_mb"`       // anonymous, of the largest node
	Files         float64 `json:"rss_files_mb"` // of files that are in that one's memory: maps of its data, programs
	Disk          float64 `json:"disk_bytes_per_tx"`
	RootsEqual    bool    `json:"roots_equal"`
	BalancesRight bool    `json:"balances_right"` // those of at most 10,000 accounts are what the committed transfers make of them

	Seconds   float64          `json:"seconds"`
	Runs      int              `json:"runs"`
	Offered   float64          `json:"offered"` // transfers a second that were sent, warm-up included
	Sent      int64            `json:"sent"`
	Committed int64            `json:"committed"`
	Refused   int64            `json:"refused"`            // by a node, because it was busy or for the transfer's own fault
	Refusals  map[string]int64 `json:"refusals,omitempty"` // the same by code; no_answer: the request failed
	Lost      int64            `json:"lost"`               // waited at a node that kept running, and were not seen in a block in time
	Stranded  int64            `json:"stranded"`           // waited at a node that was killed during the run; nobody was told that they are final
	Blocks    int64            `json:"blocks"`
	Views     uint64           `json:"view_changes"` // during the measurement
	Accounts  int              `json:"accounts"`
	Payload   int              `json:"payload"`
	Conflict  float64          `json:"conflict"` // share of the transfers that pay one account
	Rate      int              `json:"rate"`
	Nodes     int              `json:"nodes"`
	Relay     string           `json:"relay,omitempty"` // the conditions of its links

	wrong string // what must never be
}

// Overload is the result of a run with more than the network takes.
type Overload struct {
	Factor     float64 `json:"factor"`
	Saturated  *Bench  `json:"saturated"` // as many as the network takes
	Overloaded *Bench  `json:"overloaded"`
	Kept       float64 `json:"kept"` // transfers a second of Overloaded for each of Saturated
}

// What a network that is offered more than it takes has to keep.
const (
	leastKept    = 0.8             // transfers a second, of those without
	keptFrom     = 5 * time.Second // a shorter measurement says too little of that
	overloadWait = 4_000           // ms: the 2 s of pool.wait_ms, twice at most
)

// fault says what more load than the network takes must not do to it.
func (o *Overload) fault() error {
	var errs []error
	if o.Overloaded.Seconds >= keptFrom.Seconds() && o.Kept < leastKept {
		errs = append(errs, fmt.Errorf("with %g times as many, %.0f transfers/s are committed, and %.0f without: want %g of that at least",
			o.Factor, o.Overloaded.TPS, o.Saturated.TPS, leastKept))
	}
	if most := overloadWait + 2*o.Saturated.P99; o.Overloaded.P99 > most {
		errs = append(errs, fmt.Errorf("with %g times as many, the commit latency p99 is %.0f ms: want %.0f ms at most, as the nodes should have refused what waits for longer",
			o.Factor, o.Overloaded.P99, most))
	}
	return errors.Join(errs...)
}

// fault says what a run found that must not be.
func (b *Bench) fault() error {
	switch {
	case b.wrong != "":
		return fmt.Errorf("%s: this must never happen", b.wrong)
	case !b.RootsEqual:
		return errors.New("the nodes' state roots differ: this must never happen")
	case b.Lost > 0:
		return fmt.Errorf("%d waiting transfers did not come into a block within %v", b.Lost, benchTail)
	}
	return nil
}

func bench(c *cli.Context) error {
	json, err := asJSON(c)
	if err != nil {
		return err
	}
	if c.Args().Present() {
		return fmt.Errorf("%w: bench takes no arguments, and got %q", errUsage, c.Args().First())
	}
	w := workload{
		rate: c.Int("rate"), inflight: c.Int("inflight"), accounts: c.Int("accounts"), payload: c.Int("payload"), conflict: c.Float64("conflict") / 100,
		seed: c.Uint64("seed"), warmup: c.Duration("warmup"), duration: c.Duration("duration"),
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	runs, factor := c.Int("runs"), c.Float64("overload")
	switch {
	case runs < 1 || runs > 100:
		return fmt.Errorf("%w: --runs %d: want 1 to 100", errUsage, runs)
	case c.IsSet("overload") && !(factor > 1 && factor <= 100):
		return fmt.Errorf("%w: --overload %v: want a factor above 1, and at most 100", errUsage, factor)
	case c.IsSet("overload") && (c.IsSet("rate") || c.Bool("sweep")):
		return fmt.Errorf("%w: --overload finds its own rate: leave --rate and --sweep out", errUsage)
	case c.Bool("suites") && (c.IsSet("relay") || c.Bool("sweep") || c.IsSet("overload")):
		return fmt.Errorf("%w: --suites measures networks of its own: leave --relay, --sweep and --overload out", errUsage)
	case c.IsSet("port") && !c.IsSet("relay") && !c.Bool("sweep") && !c.Bool("suites"):
		return fmt.Errorf("%w: --port is for the networks of its own that --relay, --sweep and --suites measure", errUsage)
	case !c.Bool("sweep") && (c.IsSet("over") || c.IsSet("out")):
		return fmt.Errorf("%w: --over and --out are for --sweep", errUsage)
	}
	progress := func(format string, args ...any) { fmt.Fprintf(c.App.ErrWriter, format+"\n", args...) }
	if c.Bool("sweep") {
		return sweep(c, w, runs, progress)
	}
	if c.Bool("suites") {
		return suites(c, w, runs, progress)
	}
	n, stop, err := benched(c, progress)
	if err != nil {
		return err
	}
	defer stop()
	token, err := benchedToken(c.Context, n, c.String("contract"))
	if err != nil {
		return err
	}
	result, err := median(c.Context, n, token, w, runs, progress)
	if err != nil {
		return err
	}
	result.Relay = c.String("relay")
	if !c.IsSet("overload") {
		if json {
			err = printJSON(c, result)
		} else {
			err = errors.Join(printBench(c, []string{""}, result), result.printRelay(c))
		}
		return errors.Join(err, result.fault())
	}
	if result.Committed == 0 {
		return errors.Join(errors.New("no transfer was committed: make --duration longer"), result.fault())
	}
	w.rate, w.full = int(factor*result.TPS), true // requests of another size would cost something else
	progress("now %d transfers a second, %g times as many", w.rate, factor)
	if err := w.check(); err != nil {
		return err
	}
	over, err := median(c.Context, n, token, w, runs, progress)
	if err != nil {
		return err
	}
	o := &Overload{Factor: factor, Saturated: result, Overloaded: over, Kept: over.TPS / result.TPS}
	if json {
		err = printJSON(c, o)
	} else {
		err = printBench(c, []string{"as many as it takes", fmt.Sprintf("%g times as many", factor)}, result, over)
	}
	return errors.Join(err, result.fault(), over.fault(), o.fault())
}

// Suites is the result of runs in turn on std, on gm, and on gm whose nodes seal messages once more.
type Suites struct {
	Std   *Bench `json:"std"`
	GM    *Bench `json:"gm"`
	Inner *Bench `json:"gm_inner"`

	TPS      float64 `json:"tps_ratio"` // gm by std
	CPU      float64 `json:"cpu_ratio"`
	InnerTPS float64 `json:"inner_tps_ratio"` // gm with the inner layer by gm
	InnerCPU float64 `json:"inner_cpu_ratio"`
}

// suites measures a network of each kind, in turn, while the others are idle.
func suites(c *cli.Context, w workload, runs int, progress func(string, ...any)) error {
	var (
		nets   [3]*network.Network
		tokens [3]ledger.Address
		all    [3][]*Bench
		names  = [3]string{"std", "gm", "gm --inner"}
	)
	for i, config := range [3]network.Config{{Suite: "std"}, {Suite: "gm"}, {Suite: "gm", Inner: true}} {
		progress("starting a network on %s", names[i])
		config.Port = c.Int("port") + i*suitePorts
		n, stop, err := ownNetwork(c, config, progress)
		if err != nil {
			return err
		}
		defer stop()
		nets[i] = n
		if tokens[i], err = benchedToken(c.Context, n, c.String("contract")); err != nil {
			return err
		}
	}
	for r := range runs {
		for i, name := range names {
			progress("run %d of %d on %s", r+1, runs, name)
			b, err := measure(c.Context, nets[i], tokens[i], w, progress)
			if err != nil {
				return err
			}
			all[i] = append(all[i], b)
		}
	}
	result := &Suites{Std: medianOf(all[0]), GM: medianOf(all[1]), Inner: medianOf(all[2])}
	faults := errors.Join(result.Std.fault(), result.GM.fault(), result.Inner.fault())
	if result.Std.Committed == 0 || result.GM.Committed == 0 {
		return errors.Join(errors.New("no transfer was committed: make --duration longer"), faults)
	}
	result.TPS, result.CPU = result.GM.TPS/result.Std.TPS, result.GM.CPU/result.Std.CPU
	result.InnerTPS, result.InnerCPU = result.Inner.TPS/result.GM.TPS, result.Inner.CPU/result.GM.CPU
	json, err := asJSON(c)
	switch {
	case err != nil:
	case json:
		err = printJSON(c, result)
	default:
		err = printBench(c, names[:], result.Std, result.GM, result.Inner)
		fmt.Fprintf(c.App.Writer, "gm has %.2f of the transfers/s of std, and takes %.2f times its CPU\n", result.TPS, result.CPU)
		fmt.Fprintf(c.App.Writer, "gm with the inner layer has %.2f of the transfers/s of gm, and takes %.2f times its CPU\n", result.InnerTPS, result.InnerCPU)
	}
	return errors.Join(err, faults)
}

// suitePorts is how far apart the ports of two networks are: four for each of four nodes, and room.
const suitePorts = 32

// benchedToken returns the token that a flag names on a running network.
func benchedToken(ctx context.Context, n *network.Network, name string) (ledger.Address, error) {
	api, err := anyAPI(n)
	switch {
	case err != nil:
		return ledger.Address{}, err
	case name == "" && n.Token.IsZero():
		return ledger.Address{}, errors.New("the network has no token: start it with `up`")
	case name == "":
		return n.Token, nil
	case slices.Contains(network.TokenLanguages(), name):
		token, err := n.TokenIn(ctx, api, ".", name)
		if err != nil {
			return ledger.Address{}, err
		}
		return token.Address, nil
	}
	address, err := ledger.ParseAddress(name)
	if err != nil {
		return address, fmt.Errorf("%w: --contract: want %s, or an address: %w", errUsage, strings.Join(network.TokenLanguages(), ", "), err)
	}
	return address, nil
}

// anyAPI returns the API of the first node that runs.
func anyAPI(n *network.Network) (*client.Client, error) {
	for i := range n.Nodes {
		if n.Pid(&n.Nodes[i]) != 0 {
			return n.Client(n.Nodes[i].API)
		}
	}
	return nil, errors.New("no node of the network runs: start it with `up`")
}

// median measures some times and returns the run with the median of transfers a second, with the medians of the other
// figures, and whatever must not be of any.
func median(ctx context.Context, n *network.Network, token ledger.Address, w workload, runs int, progress func(string, ...any)) (*Bench, error) {
	var all []*Bench
	for i := range runs {
		if runs > 1 {
			progress("run %d of %d", i+1, runs)
		}
		b, err := measure(ctx, n, token, w, progress)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return medianOf(all), nil
}

func medianOf(all []*Bench) *Bench {
	slices.SortFunc(all, func(a, b *Bench) int { return int(a.Committed - b.Committed) })
	m := *all[len(all)/2]
	m.Runs = len(all)
	for _, figure := range []func(*Bench) *float64{
		func(b *Bench) *float64 { return &b.P50 }, func(b *Bench) *float64 { return &b.P95 }, func(b *Bench) *float64 { return &b.P99 },
		func(b *Bench) *float64 { return &b.CPU }, func(b *Bench) *float64 { return &b.RSS }, func(b *Bench) *float64 { return &b.Files }, func(b *Bench) *float64 { return &b.Disk },
	} {
		values := make([]float64, len(all))
		for i, b := range all {
			values[i] = *figure(b)
		}
		slices.Sort(values)
		*figure(&m) = values[len(values)/2]
	}
	m.Lost = 0
	for _, b := range all {
		m.RootsEqual = m.RootsEqual && b.RootsEqual
		m.BalancesRight = m.BalancesRight && b.BalancesRight
		m.Lost += b.Lost
		if m.wrong == "" {
			m.wrong = b.wrong
		}
	}
	return &m
}

// benched returns the network to measure: the one in the folder, or with --relay one of its own, which stop ends and
// removes.
func benched(c *cli.Context, progress func(string, ...any)) (n *network.Network, stop func(), err error) {
	if !c.IsSet("relay") {
		n, err := network.Open(c.String("dir"))
		return n, func() {}, err
	}
	progress("building the node and starting a network behind a relay")
	return ownNetwork(c, network.Config{Port: c.Int("port"), Relay: true}, progress)
}

// ownNetwork makes and starts a network in a temporary folder, with a relay if the configuration wants one, and with the
// demonstration of up. stop ends and removes it.
func ownNetwork(c *cli.Context, config network.Config, progress func(string, ...any)) (n *network.Network, stop func(), err error) {
	conditions, err := relayConditions(c)
	if err != nil {
		return nil, nil, err
	}
	if config.Dir, err = os.MkdirTemp("", "fondaco-bench-"); err != nil {
		return nil, nil, err
	}
	var own *network.Network
	stopRelay := func() {}
	end := func() {
		if own != nil {
			if err := own.StopAll(); err != nil {
				progress("testnet: %v", err)
			}
		}
		stopRelay()
		if err := os.RemoveAll(config.Dir); err != nil {
			progress("testnet: %v", err)
		}
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	if own, err = network.Create(config); err != nil {
		return nil, nil, err
	}
	if _, err = network.Build(c.Context, ".", config.Dir); err != nil {
		return nil, nil, err
	}
	if config.Relay {
		if stopRelay, err = startRelay(c, own, conditions, nil, progress); err != nil {
			stopRelay = func() {}
			return nil, nil, err
		}
	}
	if err = startAll(c.Context, own); err != nil {
		return nil, nil, err
	}
	if _, err = demonstrate(c.Context, own, progress); err != nil {
		return nil, nil, err
	}
	return own, end, nil
}

// printBench prints runs side by side, under their titles.
func printBench(c *cli.Context, titles []string, all ...*Bench) error {
	table := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	row := func(name, note string, value func(*Bench) string) {
		fmt.Fprint(table, name)
		for _, b := range all {
			fmt.Fprintf(table, "\t%s", value(b))
		}
		fmt.Fprintf(table, "\t%s\n", note)
	}
	if len(all) > 1 {
		fmt.Fprintf(table, "\t%s\t\n", strings.Join(titles, "\t"))
	}
	row("committed transfers/s", "", func(b *Bench) string {
		return fmt.Sprintf("%.0f (%d in %.0f s, %d blocks)", b.TPS, b.Committed, b.Seconds, b.Blocks)
	})
	row("offered transfers/s", "", func(b *Bench) string { return fmt.Sprintf("%.0f", b.Offered) })
	row("commit latency p50 / p95 / p99", "(of those that nodes took)", func(b *Bench) string { return fmt.Sprintf("%.0f / %.0f / %.0f ms", b.P50, b.P95, b.P99) })
	row("CPU per 1,000 transfers", "(all nodes and plugins)", func(b *Bench) string { return fmt.Sprintf("%.2f s", b.CPU) })
	row("resident memory", "(anonymous + files, largest node with plugins)", func(b *Bench) string { return fmt.Sprintf("%.0f + %.0f MB", b.RSS, b.Files) })
	row("disk per transfer", "(all nodes)", func(b *Bench) string { return fmt.Sprintf("%.0f bytes", b.Disk) })
	row("view changes", "", func(b *Bench) string { return fmt.Sprint(b.Views) })
	row("refused / lost / stranded", "", func(b *Bench) string { return fmt.Sprintf("%d / %d / %d", b.Refused, b.Lost, b.Stranded) })
	row("refused by code", "", func(b *Bench) string {
		var codes []string
		for _, code := range slices.Sorted(maps.Keys(b.Refusals)) {
			codes = append(codes, fmt.Sprintf("%s %d", code, b.Refusals[code]))
		}
		return strings.Join(codes, ", ")
	})
	row("state roots equal", "", func(b *Bench) string { return fmt.Sprint(b.RootsEqual) })
	row("balances right", "", func(b *Bench) string { return fmt.Sprint(b.BalancesRight) })
	if all[0].Runs > 1 {
		row("runs", "(medians)", func(b *Bench) string { return fmt.Sprint(b.Runs) })
	}
	return table.Flush()
}

// printRelay prints the line of a table of relays that the run makes.
func (b *Bench) printRelay(c *cli.Context) error {
	if b.Relay == "" {
		return nil
	}
	_, err := fmt.Fprintf(c.App.Writer, "\n| relay | transfers/s | p50 / p99 | view changes |\n|---|---|---|---|\n| `%s` | %.0f | %.0f / %.0f ms | %d in %.0f s |\n",
		b.Relay, b.TPS, b.P50, b.P99, b.Views, b.Seconds)
	return err
}
