package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/chart"
	"github.com/fondaco/fondaco/testnet/network"
)

// Bounds of a sweep.
const (
	sweepDuration = 8 * time.Second // of a measurement, unless --duration says otherwise
	sweepWarmup   = 3 * time.Second
	sweepAside    = 6 * time.Second // about what a measurement takes besides
	sweepStart    = 10 * time.Second
	sweepPatience = 15 * time.Minute // that one value may take, runs aside: a million accounts are registered in it
	maxValues     = 50               // of a dimension
)

// dimension is what a sweep varies while all else stays.
type dimension struct {
	name   string
	axis   string // with its unit
	values []float64
	// One of these takes a value: a workload, or the parameters of a chain, which then is a new one.
	load  func(*workload, float64)
	chain func(*ledger.Params, float64)
}

// dimensions returns all that a sweep can vary, with its usual values. All but load are swept with as many transfers as the
// network takes. The accounts come last: a network keeps those that it has.
func dimensions() []dimension {
	return []dimension{
		{
			name: "load", axis: "offered load, transfers/s", values: []float64{50, 250, 1_000, 2_000, 3_000, 4_500, 9_000},
			load: func(w *workload, v float64) { w.rate = int(v) },
		},
		{
			name: "payload", axis: "payload, bytes", values: []float64{0, 256, 1_024, 4_096},
			load: func(w *workload, v float64) { w.payload = int(v) },
		},
		{
			name: "conflict", axis: "transfers that pay one account, %", values: []float64{0, 10, 50, 100},
			load: func(w *workload, v float64) { w.conflict = v / 100 },
		},
		{
			name: "block-txs", axis: "most transactions in a block", values: []float64{50, 200, 500, 2_000},
			chain: func(p *ledger.Params, v float64) { p.BlockTxs = uint32(v) },
		},
		{
			name: "accounts", axis: "accounts", values: []float64{100, 1_000, 10_000, 100_000},
			load: func(w *workload, v float64) { w.accounts = int(v) },
		},
	}
}

func dimensionNames() (names []string) {
	for _, d := range dimensions() {
		names = append(names, d.name)
	}
	return names
}

// chosen returns the dimensions that texts like "load=50,500" and "payload" name; all without any.
func chosen(texts []string) ([]dimension, error) {
	all := dimensions()
	if len(texts) == 0 {
		return all, nil
	}
	var some []dimension
	for _, text := range joined(texts) {
		name, list, valued := strings.Cut(text, "=")
		i := slices.IndexFunc(all, func(d dimension) bool { return d.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no dimension %q: want %s", name, strings.Join(dimensionNames(), ", "))
		}
		d := all[i]
		if valued {
			d.values = nil
			for field := range strings.SplitSeq(list, ",") {
				v, err := strconv.ParseFloat(field, 64)
				if err != nil || !(v >= 0 && v <= 1e9) {
					return nil, fmt.Errorf("%s: %q is no number from 0 to a thousand million", name, field)
				}
				d.values = append(d.values, v)
			}
			slices.Sort(d.values)
			d.values = slices.Compact(d.values)
		}
		if slices.ContainsFunc(some, func(s dimension) bool { return s.name == name }) {
			return nil, fmt.Errorf("%s is named twice", name)
		}
		if len(d.values) > maxValues {
			return nil, fmt.Errorf("%s has %d values, at most %d", name, len(d.values), maxValues)
		}
		some = append(some, d)
	}
	return some, nil
}

// joined puts together what the command line cut: a comma may part two values as well as two dimensions.
func joined(texts []string) (whole []string) {
	for _, text := range texts {
		if _, err := strconv.ParseFloat(text, 64); err == nil && len(whole) > 0 {
			whole[len(whole)-1] += "," + text
			continue
		}
		whole = append(whole, text)
	}
	return whole
}

// SweepPoint is what was measured at one value of a dimension.
type SweepPoint struct {
	Dimension string  `json:"dimension"`
	Value     float64 `json:"value"`
	*Bench
}

// sweeper runs a sweep.
type sweeper struct {
	c        *cli.Context
	base     workload
	runs     int
	progress func(string, ...any)

	params ledger.Params // of the running network
	net    *network.Network
	token  ledger.Address
	stop   func()
}

func sweep(c *cli.Context, base workload, runs int, progress func(string, ...any)) error {
	some, err := chosen(c.StringSlice("over"))
	if err != nil {
		return fmt.Errorf("%w: --over: %w", errUsage, err)
	}
	if !c.IsSet("duration") {
		base.duration = sweepDuration
	}
	if !c.IsSet("warmup") {
		base.warmup = sweepWarmup
	}
	s := &sweeper{c: c, base: base, runs: runs, progress: progress, stop: func() {}}
	points, estimate := 0, sweepStart
	for _, d := range some {
		for _, v := range d.values {
			w, params := s.at(&d, v)
			if err := errors.Join(w.check(), params.Check()); err != nil {
				return fmt.Errorf("%w: %s=%v: %w", errUsage, d.name, v, err)
			}
			points++
			estimate += time.Duration(runs) * (w.warmup + w.duration + sweepAside)
			if d.chain != nil {
				estimate += sweepStart
			}
		}
	}
	progress("%d points of %d runs, about %v", points, runs, estimate.Round(time.Minute))
	defer func() { s.stop() }()
	began, done := time.Now(), []SweepPoint(nil)
	for _, d := range some {
		for _, v := range d.values {
			b, err := s.measure(c.Context, &d, v)
			if err != nil {
				return fmt.Errorf("%s=%v: %w", d.name, v, err)
			}
			done = append(done, SweepPoint{d.name, v, b})
			took := time.Since(began)
			progress("%d of %d: %s=%v: %.0f transfers/s, p50 %.0f ms, %.2f s of CPU for 1,000; %v passed, about %v to go", len(done), points, d.name, v,
				b.TPS, b.P50, b.CPU, took.Round(time.Second), (took * time.Duration(points-len(done)) / time.Duration(len(done))).Round(time.Second))
			if err := writeSweep(c.Path("out"), c.String("contract"), base, done); err != nil { // what there is stays if the next one fails
				return err
			}
			if err := b.fault(); err != nil {
				return fmt.Errorf("%s=%v: %w", d.name, v, err)
			}
		}
	}
	progress("wrote %s.csv and %s.svg", c.Path("out"), c.Path("out"))
	if c.String("output") == "json" {
		return printJSON(c, done)
	}
	return printSweep(c.App.Writer, done)
}

// at returns the workload and the chain's parameters at a value.
func (s *sweeper) at(d *dimension, v float64) (workload, ledger.Params) {
	w, params := s.base, ledger.DefaultParams()
	if d.load != nil {
		d.load(&w, v)
	} else {
		d.chain(&params, v)
	}
	return w, params
}

// measure measures at a value, on the network that runs if its parameters are right.
func (s *sweeper) measure(ctx context.Context, d *dimension, v float64) (*Bench, error) {
	w, params := s.at(d, v)
	ctx, cancel := context.WithTimeout(ctx, sweepPatience+time.Duration(s.runs)*(w.warmup+w.duration+2*benchTail))
	defer cancel()
	if s.net == nil || !reflect.DeepEqual(params, s.params) {
		if err := s.start(ctx, params); err != nil {
			return nil, err
		}
	}
	return median(ctx, s.net, s.token, w, s.runs, func(string, ...any) {})
}

// start starts a network of its own in place of the one that runs.
func (s *sweeper) start(ctx context.Context, params ledger.Params) (err error) {
	s.stop()
	s.net, s.stop = nil, func() {}
	s.progress("starting a network with blocks of at most %d transactions", params.BlockTxs)
	n, stop, err := ownNetwork(s.c, network.Config{Port: s.c.Int("port"), Params: params, Relay: s.c.IsSet("relay")}, func(string, ...any) {})
	if err != nil {
		return err
	}
	s.net, s.stop, s.params = n, stop, params
	s.token, err = benchedToken(ctx, n, s.c.String("contract"))
	return err
}

// columns are the figures of a sweep, in its table, in its file and, if they have an axis, in its chart.
var columns = []struct {
	name, format string
	value        func(*Bench) float64
}{
	{"offered_per_s", "%.0f", func(b *Bench) float64 { return b.Offered }},
	{"transfers_per_s", "%.0f", func(b *Bench) float64 { return b.TPS }},
	{"p50_ms", "%.0f", func(b *Bench) float64 { return b.P50 }},
	{"p95_ms", "%.0f", func(b *Bench) float64 { return b.P95 }},
	{"p99_ms", "%.0f", func(b *Bench) float64 { return b.P99 }},
	{"cpu_s_per_1000", "%.3f", func(b *Bench) float64 { return b.CPU }},
	{"rss_mb", "%.0f", func(b *Bench) float64 { return b.RSS }},
	{"disk_bytes_per_transfer", "%.0f", func(b *Bench) float64 { return b.Disk }},
	{"refused", "%.0f", func(b *Bench) float64 { return float64(b.Refused) }},
	{"view_changes", "%.0f", func(b *Bench) float64 { return float64(b.Views) }},
	{"runs", "%.0f", func(b *Bench) float64 { return float64(b.Runs) }},
}

func printSweep(out io.Writer, points []SweepPoint) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "DIMENSION\tVALUE\t")
	for _, column := range columns {
		fmt.Fprintf(table, "%s\t", strings.ToUpper(strings.ReplaceAll(column.name, "_", " ")))
	}
	for _, p := range points {
		fmt.Fprintf(table, "\n%s\t%v\t", p.Dimension, p.Value)
		for _, column := range columns {
			fmt.Fprintf(table, column.format+"\t", column.value(p.Bench))
		}
	}
	fmt.Fprintln(table)
	return table.Flush()
}

// writeSweep writes what was measured so far into the files of a name.
func writeSweep(name, contract string, base workload, points []SweepPoint) error {
	for extension, write := range map[string]func(io.Writer) error{
		".csv": func(w io.Writer) error { return writeCSV(w, points) },
		".svg": func(w io.Writer) error { return sweepChart(contract, base, points).Write(w) },
	} {
		file, err := os.Create(name + extension)
		if err != nil {
			return fmt.Errorf("%w; name other files with --out", err)
		}
		if err := errors.Join(write(file), file.Close()); err != nil {
			return fmt.Errorf("write %s: %w", file.Name(), err)
		}
	}
	return nil
}

func writeCSV(out io.Writer, points []SweepPoint) error {
	w := csv.NewWriter(out)
	header := []string{"dimension", "value"}
	for _, column := range columns {
		header = append(header, column.name)
	}
	w.Write(header) //nolint:errcheck // Flush keeps the error
	for _, p := range points {
		record := []string{p.Dimension, strconv.FormatFloat(p.Value, 'f', -1, 64)}
		for _, column := range columns {
			record = append(record, fmt.Sprintf(column.format, column.value(p.Bench)))
		}
		w.Write(record) //nolint:errcheck // Flush keeps the error
	}
	w.Flush()
	return w.Error()
}

// sweepChart draws a row of panels for each dimension.
func sweepChart(contract string, base workload, points []SweepPoint) *chart.Chart {
	c := &chart.Chart{Title: "fondaco: transfers of a token in " + cmp.Or(contract, "go")}
	if len(points) > 0 {
		load := "as many as the network takes"
		if base.rate > 0 {
			load = fmt.Sprintf("%d transfers/s", base.rate)
		}
		c.Note = fmt.Sprintf("%d nodes and their client on one machine; unless swept: %s, %d accounts, payload %d bytes, conflict %g %%; %v each, median of %d",
			points[0].Nodes, load, base.accounts, base.payload, base.conflict*100, base.duration, points[0].Runs)
	}
	for _, d := range dimensions() {
		line := func(name string, value func(*Bench) float64) (l chart.Line) {
			l.Name = name
			for _, p := range points {
				if p.Dimension == d.name {
					l.Points = append(l.Points, chart.Point{X: p.Value, Y: value(p.Bench)})
				}
			}
			return l
		}
		rate := line("", func(b *Bench) float64 { return b.TPS })
		if rate.Points == nil {
			continue
		}
		c.Rows = append(c.Rows, []chart.Panel{
			{X: d.axis, Y: "committed transfers/s", Lines: []chart.Line{rate}},
			{X: d.axis, Y: "commit latency, ms", Lines: []chart.Line{
				line("p50", func(b *Bench) float64 { return b.P50 }), line("p95", func(b *Bench) float64 { return b.P95 }), line("p99", func(b *Bench) float64 { return b.P99 }),
			}},
			{X: d.axis, Y: "CPU of all nodes, s for 1,000 transfers", Lines: []chart.Line{line("", func(b *Bench) float64 { return b.CPU })}},
		})
	}
	return c
}
