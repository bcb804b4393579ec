// Package chaos runs a network of real processes under load and faults, and checks at the end that it kept its
// promises: what clients were told holds (testnet/history), all nodes have the same blocks, `fondaco verify`
// finds nothing in any folder, and transactions kept being committed.
//
// # Faults
//
// Which faults come, at which nodes, and how long they last follows from the seed; what the nodes make of them does not,
// since they are processes on a machine. Faults come one after the other, each is undone, and the next waits until
// all nodes are ready. A safe fault strikes as many nodes as may fail, f = (n-1)/3, and must not stop commits for longer
// than 30 s; an outage strikes a quorum.
//
// The package is public by path but promised nothing.
package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/history"
	"github.com/fondaco/fondaco/testnet/network"
	"github.com/fondaco/fondaco/testnet/relay"
	"github.com/fondaco/fondaco/transport/simnet"
)

// Bounds of a run.
const (
	accounts = 16
	units    = 1_000 // of each account at the beginning
	// patience is how long the network may take to commit again while at most f nodes fail, and all nodes to become ready
	// again when nothing fails any more.
	patience = 30 * time.Second
	// settling is how long the nodes may take to come to rest at one height at the end.
	settling = time.Minute
	verifier = 10 * time.Minute // that `fondaco verify` may take
	// compiling is how many transactions the interpreter executes while the compiler compiles the token.
	compiling = 5_000
)

// Config says what a run is like. Zero fields take the defaults.
type Config struct {
	Dir        string // of the network, empty or missing; required
	Source     string // a folder inside the module; default the current one
	Nodes      int    // default 4
	Port       int    // the first of four for each node; default network.DefaultPort
	Seed       uint64
	Duration   time.Duration // of load and faults, apart from the checks after it; default 10 min
	Faults     []Kind        // default all
	Conditions simnet.Conditions
	Wasm       string // engine that runs contracts; default that of the machine
	Rate       int    // operations a second that the clients begin, if they get answers; default 50
	Clients    int    // default 12
	// Longest bounds how long a fault lasts, and the calm before it; default 8 s.
	Longest time.Duration
	// Progress, unless nil, is told what happens.
	Progress func(format string, args ...any)
}

func (c *Config) defaults() error {
	for _, f := range []struct {
		field *int
		value int
	}{{&c.Nodes, 4}, {&c.Port, network.DefaultPort}, {&c.Rate, 50}, {&c.Clients, 12}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if c.Source == "" {
		c.Source = "."
	}
	if c.Duration == 0 {
		c.Duration = 10 * time.Minute
	}
	if c.Longest == 0 {
		c.Longest = 8 * time.Second
	}
	if len(c.Faults) == 0 {
		c.Faults = Kinds()
	}
	if c.Progress == nil {
		c.Progress = func(string, ...any) {}
	}
	switch {
	case c.Dir == "":
		return errors.New("chaos: Config.Dir is empty")
	case c.Nodes < 4:
		return fmt.Errorf("chaos: %d nodes: want at least 4, of which one may fail", c.Nodes)
	case c.Rate < 1 || c.Clients < 1 || c.Duration < 0 || c.Longest < 0:
		return errors.New("chaos: want a positive rate, clients and duration")
	}
	return nil
}

// FaultSummary is what became of the faults of a kind.
type FaultSummary struct {
	Kind   Kind    `json:"kind"`
	Count  int     `json:"count"`
	Median float64 `json:"median_gap_s"` // longest time without a commit during each
	Worst  float64 `json:"worst_gap_s"`
	NotRun string  `json:"not_run,omitempty"` // why it cannot be run here
}

// Report is the verdict of a run.
type Report struct {
	Seed         uint64                                   `json:"seed"`
	Nodes        int                                      `json:"nodes"`
	Seconds      float64                                  `json:"seconds"`
	Faults       []FaultSummary                           `json:"faults"`
	Operations   map[history.Kind]map[history.Outcome]int `json:"operations"`
	WorstGap     float64                                  `json:"worst_gap_s"`
	CalmGap      float64                                  `json:"worst_calm_gap_s"` // while nothing failed
	Blocks       ledger.Height                            `json:"blocks"`
	Transactions int                                      `json:"transactions"`
	ViewChanges  uint64                                   `json:"view_changes"`
	Packets      simnet.Stats                             `json:"packets"` // of the relay
	Rules        []history.Rule                           `json:"rules"`   // that were put to the test
	Violations   []history.Violation                      `json:"violations"`
}

// The rules of a run, besides those of package history.
const (
	Agreement history.Rule = "all nodes have the same blocks and state roots"
	Verified  history.Rule = "fondaco verify finds nothing in any node's folder"
	Live      history.Rule = "with at most f faulty nodes, commits go on within 30 s"
	Recovered history.Rule = "when a fault is over, all nodes become ready within 30 s"
	Mute      history.Rule = "a node without its journal does not vote, and says so"
	FullDisk  history.Rule = "a node whose disk is full stops"
	Room      history.Rule = "a node whose disk was full goes on when it has room"
	Restarted history.Rule = "an engine that is killed is started again"
	Ended     history.Rule = "no process is left"
)

// run is a run under way.
type run struct {
	Config
	net     *network.Network
	relay   *relay.Relay
	apis    []*client.Client
	token   *network.Token
	people  []network.LoadAccount
	began   time.Time
	start   ledger.Height
	started uint64 // view

	mu         sync.Mutex // guards what follows
	operations []history.Operation
	violations []history.Violation

	windows []window // of faults
	notRun  map[Kind]string
}

// window is when a fault was there, and the nodes had not recovered.
type window struct {
	kind     Kind
	from, to time.Duration
}

func (r *run) now() time.Duration { return time.Since(r.began) }

func (r *run) violate(rule history.Rule, format string, args ...any) {
	v := history.Violation{Rule: rule, Detail: fmt.Sprintf(format, args...)}
	r.Progress("VIOLATION: %s: %s", v.Rule, v.Detail)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, v)
}

// Run makes a network, lets it suffer, and returns the verdict. An error says that the run could not be made; what
// the network did wrong is in Report.Violations. All processes have ended when Run returns, and the folder is left.
func Run(ctx context.Context, c Config) (report *Report, err error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	r := &run{Config: c, notRun: map[Kind]string{}}
	r.net, err = network.Create(network.Config{Dir: c.Dir, Nodes: c.Nodes, Port: c.Port, Wasm: c.Wasm, Relay: true})
	if err != nil {
		return nil, err
	}
	c.Progress("building the node")
	if _, err := network.Build(ctx, c.Source, c.Dir); err != nil {
		return nil, err
	}
	if r.relay, err = r.net.Relay(c.Seed); err != nil {
		return nil, err
	}
	r.relay.SetConditions(-1, -1, c.Conditions)
	relayed, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	tasks.Go(func() { err = errors.Join(err, r.relay.Run(relayed)) })
	defer func() {
		err = errors.Join(err, r.stop())
		stopRelay()
		tasks.Wait()
	}()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.suffer(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return r.judge(ctx)
}

// stop ends all processes and undoes what faults did to folders.
func (r *run) stop() error {
	err := r.net.StopAll()
	for i := range r.net.Nodes {
		err = errors.Join(err, r.leaveSmallDisk(i))
	}
	return err
}

// prepare starts the nodes and gives the accounts their units.
func (r *run) prepare(ctx context.Context) error {
	r.Progress("starting %d nodes in %s", len(r.net.Nodes), r.Dir)
	nodes := make([]*network.Node, len(r.net.Nodes))
	for i := range nodes {
		nodes[i] = &r.net.Nodes[i]
		if _, err := r.net.Start(nodes[i]); err != nil {
			return err
		}
		api, err := r.net.Client(nodes[i].API)
		if err != nil {
			return err
		}
		r.apis = append(r.apis, api)
	}
	waiting, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	if err := r.net.WaitReady(waiting, nodes...); err != nil {
		return err
	}
	r.Progress("deploying the token and giving %d accounts %d units each", accounts, units)
	var err error
	if r.token, err = r.net.DeployToken(ctx, r.apis[0], r.Source); err != nil {
		return err
	}
	if r.people, err = r.net.LoadAccounts(ctx, r.apis[0], accounts, func(int) {}); err != nil {
		return err
	}
	for _, p := range r.people {
		tx, err := r.token.Send(ctx, "admin", "issue", p.Address.String(), fmt.Sprint(units))
		if err != nil {
			return err
		}
		if tx.Receipt.Status != ledger.OK.String() {
			return fmt.Errorf("issuing units ended as %s", tx.Receipt.Status)
		}
	}
	status, err := r.rest(ctx)
	if err != nil {
		return err
	}
	r.start, r.started, r.began = status.Height, status.View, time.Now()
	return nil
}

// rest waits until all nodes are at one height with no transaction waiting.
func (r *run) rest(ctx context.Context) (*client.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	for {
		var first *client.Status
		resting := true
		for _, api := range r.apis {
			status, err := api.Status(ctx)
			if err != nil || status.Pending > 0 || first != nil && status.Height != first.Height {
				resting = false
				break
			}
			if first == nil {
				first = status
			}
		}
		if resting {
			return first, nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return nil, fmt.Errorf("the nodes did not come to rest at one height within %v", settling)
		}
	}
}

// pause reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// suffer lets clients work while faults come and go.
func (r *run) suffer(ctx context.Context) {
	working, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for i := range r.Clients {
		clients.Go(func() { newCustomer(r, i).work(working) })
	}
	script := newScript(r.Seed, r.Faults, len(r.net.Nodes), r.Longest)
	for number := 1; r.now() < r.Duration && ctx.Err() == nil; number++ {
		f := script.next()
		if r.notRun[f.kind] != "" {
			continue
		}
		if !pause(ctx, min(f.calm, r.Duration-r.now())) || r.now() >= r.Duration {
			break
		}
		from := r.now()
		r.Progress("%6.1fs  %3d  %s", from.Seconds(), number, f)
		err := r.inject(ctx, f)
		unable, cannot := errors.AsType[*unableError](err)
		if err != nil && !cannot && ctx.Err() == nil {
			r.violate(Recovered, "%s: %v", f, err)
		}
		r.recover(ctx, f)
		if cannot {
			r.notRun[f.kind] = unable.Error()
			r.Progress("not run: %v", unable)
			continue
		}
		r.windows = append(r.windows, window{f.kind, from, r.now()})
	}
	pause(ctx, 2*time.Second)
	stop()
	clients.Wait()
}

// recover waits until all nodes are ready and something was committed since.
func (r *run) recover(ctx context.Context, f fault) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	over := r.now()
	for i := range r.net.Nodes {
		if err := r.net.WaitReady(waiting, &r.net.Nodes[i]); err != nil && ctx.Err() == nil {
			r.violate(Recovered, "after %s: %v", f, err)
			return
		}
	}
	for r.lastCommit() < over {
		if !pause(waiting, 50*time.Millisecond) {
			if ctx.Err() == nil {
				r.violate(Live, "nothing was committed for %v after %s was over", patience, f)
			}
			return
		}
	}
}

func (r *run) lastCommit() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range slices.Backward(r.operations) {
		if o.Outcome == history.Done && o.Kind != history.Read {
			return o.Returned
		}
	}
	return -1
}

// judge checks everything.
func (r *run) judge(ctx context.Context) (*Report, error) {
	seconds := r.now().Seconds()
	r.Progress("%6.1fs  checking %d operations", seconds, len(r.operations))
	report := &Report{
		Seed: r.Seed, Nodes: r.Nodes, Seconds: seconds, Packets: r.relay.Stats(-1, -1), Operations: map[history.Kind]map[history.Outcome]int{},
		Rules: []history.Rule{Verified, Live, Recovered, Ended},
	}
	for kind, rules := range map[Kind][]history.Rule{Journal: {Mute}, Disk: {FullDisk, Room}, Engine: {Restarted}} {
		if slices.ContainsFunc(r.windows, func(w window) bool { return w.kind == kind }) {
			report.Rules = append(report.Rules, rules...)
		}
	}
	slices.Sort(report.Rules)
	for _, o := range r.operations {
		if report.Operations[o.Kind] == nil {
			report.Operations[o.Kind] = map[history.Outcome]int{}
		}
		report.Operations[o.Kind][o.Outcome]++
	}
	if err := r.record("operations.json", r.operations); err != nil {
		return nil, err
	}
	status, err := r.rest(ctx)
	if err != nil {
		r.violate(Recovered, "at the end: %v", err)
	} else {
		report.Blocks, report.ViewChanges = status.Height-r.start, status.View-min(r.started, status.View)
		h, err := r.collect(ctx, status.Height)
		if err != nil {
			return nil, err
		}
		report.Transactions = len(h.Chain)
		report.Rules = append(append(report.Rules, Agreement), history.Rules()...)
		r.violations = append(r.violations, h.Check()...)
	}
	r.gaps(report)
	if err := r.stop(); err != nil {
		r.violate(Ended, "%v", err)
	}
	for _, pid := range r.net.Processes() {
		r.violate(Ended, "process %d is still there", pid)
	}
	r.verify(ctx, report.Transactions)
	report.Violations = append([]history.Violation{}, r.violations...)
	return report, r.record("report.json", report)
}

// record keeps something in the network's folder for whoever looks into a violation.
func (r *run) record(name string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.Dir, name), data, 0o600)
}

// collect reads the chain and the balances from the nodes.
func (r *run) collect(ctx context.Context, tip ledger.Height) (*history.History, error) {
	h := &history.History{Start: r.start, Operations: r.operations}
	for range accounts {
		h.Balances = append(h.Balances, units)
	}
	for height := r.start + 1; height <= tip; height++ {
		var first *client.Block
		for i, api := range r.apis {
			block, err := api.Block(ctx, height)
			if err != nil {
				return nil, fmt.Errorf("read block %d of %s: %w", height, r.net.Nodes[i].Name, err)
			}
			if first == nil {
				first = block
			} else if block.Hash != first.Hash || block.StateRoot != first.StateRoot {
				r.violate(Agreement, "block %d is %s of state root %s at node0, and %s of %s at %s", height, first.Hash, first.StateRoot, block.Hash, block.StateRoot, r.net.Nodes[i].Name)
			}
		}
		for i, id := range first.Txs {
			h.Chain = append(h.Chain, history.Entry{Position: history.Position{Height: height, Index: uint32(i)}, ID: id})
		}
	}
	queries := map[ledger.TxID]bool{}
	for _, o := range r.operations {
		queries[o.ID] = o.Kind == history.Query
	}
	const readers = 4
	errs := make([]error, readers)
	var wait sync.WaitGroup
	for w := range readers {
		wait.Go(func() {
			for i := w; i < len(h.Chain) && errs[w] == nil; i += readers {
				e := &h.Chain[i]
				var tx *client.Transaction
				if tx, errs[w] = r.apis[w%len(r.apis)].Lookup(ctx, e.ID, 0, false); errs[w] == nil {
					e.OK, e.Units, errs[w] = outcome(tx, queries[e.ID])
				}
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, api := range r.apis {
		token, err := r.net.OpenToken(ctx, api)
		if err != nil {
			return nil, err
		}
		var balances []uint64
		for _, p := range r.people {
			text, err := token.Balance(ctx, p.Address)
			if err != nil {
				return nil, err
			}
			var units uint64
			if _, err := fmt.Sscan(text, &units); err != nil {
				return nil, fmt.Errorf("balance %q: %w", text, err)
			}
			balances = append(balances, units)
		}
		h.Final = append(h.Final, balances)
	}
	return h, nil
}

// outcome reads a committed transaction's receipt.
func outcome(tx *client.Transaction, query bool) (ok bool, units uint64, err error) {
	if tx.Receipt == nil {
		return false, 0, fmt.Errorf("transaction %s is committed and has no receipt", tx.ID)
	}
	switch {
	case tx.Receipt.Status == ledger.OK.String() && query:
		err = ledger.Unmarshal(tx.Receipt.Data, &units)
		return true, units, err
	case tx.Receipt.Status == ledger.OK.String():
		return true, 0, nil
	case tx.Receipt.Error == "InsufficientFunds":
		return false, 0, nil
	}
	return false, 0, fmt.Errorf("transaction %s ended as %s %s", tx.ID, tx.Receipt.Status, tx.Receipt.Error)
}

// gaps finds how long nothing was committed, by fault.
func (r *run) gaps(report *Report) {
	var commits []time.Duration
	for _, o := range r.operations {
		if o.Outcome == history.Done && o.Kind != history.Read {
			commits = append(commits, o.Returned)
		}
	}
	slices.Sort(commits)
	all := map[Kind][]float64{}
	for _, w := range r.windows {
		gap := longest(commits, w.from, w.to)
		all[w.kind] = append(all[w.kind], gap.Seconds())
		if w.kind.safe() && gap > patience {
			r.violate(Live, "nothing was committed for %v while %s", gap, w.kind)
		}
	}
	calm := time.Duration(0)
	for _, w := range r.windows {
		report.CalmGap = max(report.CalmGap, longest(commits, calm, w.from).Seconds())
		calm = w.to
	}
	report.WorstGap = longest(commits, 0, r.Duration).Seconds()
	for _, kind := range r.Faults {
		s := FaultSummary{Kind: kind, Count: len(all[kind]), NotRun: r.notRun[kind]}
		if gaps := all[kind]; len(gaps) > 0 {
			slices.Sort(gaps)
			s.Median, s.Worst = gaps[len(gaps)/2], gaps[len(gaps)-1]
		}
		report.Faults = append(report.Faults, s)
	}
}

// longest returns the longest time without a commit between from and to.
func longest(commits []time.Duration, from, to time.Duration) (gap time.Duration) {
	last := from
	for _, at := range commits {
		if at > from && at < to {
			gap = max(gap, at-last)
			last = at
		}
	}
	return max(gap, to-last)
}

// verify runs `fondaco verify` on every folder: on the first with the engine that the nodes did not use, and on the others, whose
// blocks are the same, with the one that takes less time.
func (r *run) verify(ctx context.Context, transactions int) {
	binary, err := r.net.Binary()
	if err != nil {
		r.violate(Verified, "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verifier)
	defer cancel()
	for i := range r.net.Nodes {
		node := &r.net.Nodes[i]
		r.Progress("%6.1fs  verifying %s", r.now().Seconds(), node.Name)
		arguments := []string{"verify", "-d", node.Dir}
		if i == 0 || transactions < compiling {
			arguments = append(arguments, "--engine", "interpreter")
		}
		if out, err := exec.CommandContext(ctx, binary, arguments...).CombinedOutput(); err != nil {
			r.violate(Verified, "%s: %v: %s", node.Name, err, strings.TrimSpace(string(out)))
		}
	}
}
