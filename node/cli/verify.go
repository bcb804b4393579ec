package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "recompute a stopped node's whole history, trusting nothing but a genesis file",
		Description: "Every block from genesis to tip is checked: links, transactions, receipts, changes and roots, the certificate\n" +
			"against the members, every signature, and the result against executing the transactions again. Nothing in the\n" +
			"folder is changed. Exit code 6 and the height when something does not fit.\n" +
			"A node that was pruned, or restored from such a backup, does not know the state that its old blocks stood on: what is\n" +
			"executed are those that came since; of those before, all else is checked that is there.\n\n" +
			"With --consensus it is all that members signed, from a file and without a node: every certificate, epoch and\n" +
			"new-view, the history of blocks, and the node's log of statements. Members that contradicted themselves are named.",
		Flags: []cli.Flag{
			dirFlag(), outputFlag(),
			&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` that you trust; default: the one in the folder", EnvVars: []string{"FONDACO_GENESIS"}},
			engineFlag(wasmvm.Default),
			recoveryFlag(),
			&cli.StringFlag{Name: "consensus", Usage: "check this `FILE` of `fondaco export consensus` instead of a folder: all that members signed"},
		},
		Action: verifyHistory,
	}
}

// verdict is what verify found.
type verdict struct {
	Holds    bool           `json:"holds"`
	Chain    keys.Digest    `json:"chain"`
	Group    ledger.GroupID `json:"group"`
	Height   ledger.Height  `json:"height"` // of the tip, or of the first block that does not fit
	Block    keys.Digest    `json:"block"`
	Root     keys.Digest    `json:"state_root"`
	Txs      uint64         `json:"transactions"`
	Executed ledger.Height  `json:"executed_from"` // below, the world state is not known any more
	Seconds  float64        `json:"seconds"`
	Faults   []string       `json:"faults,omitempty"`
}

func verifyHistory(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	if c.IsSet("consensus") {
		return verifyConsensus(c, c.String("consensus"))
	}
	engine, err := engineOf(c)
	if err != nil {
		return err
	}
	dir := c.String("dir")
	path := c.String("genesis")
	if path == "" {
		path = filepath.Join(dir, GenesisFile)
	}
	genesis, suite, err := trustedGenesis(path)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data", string(genesis.Group))
	if _, err := os.Stat(data); err != nil {
		return withCode(ExitNotFound, fmt.Errorf("there is no history of group %s in %s (%w): name the folder of a node that ran with -d", genesis.Group, dir, err))
	}
	vm, err := wasmvm.New(c.Context, wasmvm.Config{Engine: engine, MemoryPages: genesis.Params.MemoryPages})
	if err != nil {
		return err
	}
	defer vm.Close(context.WithoutCancel(c.Context)) //nolint:errcheck // the process is about to end
	chain := genesis.Hash(suite)
	x, err := executor.New(executor.Config{Suite: suite, Chain: chain, Group: genesis.Group, VM: vm})
	if err != nil {
		return err
	}
	v := &verifier{
		suite: suite, executor: x, genesis: genesis, bar: newProgress(c.App.ErrWriter),
		chain: blocksync.Chain{Suite: suite, ID: chain, Group: genesis.Group, Finality: genesis.Finality()}, seen: map[ledger.TxID]int64{},
		verdict: verdict{Chain: chain, Group: genesis.Group},
	}
	if v.history.Accepted, err = recoveries(c); err != nil {
		return err
	}
	v.history.Finality = genesis.Finality()
	began := time.Now()
	err = v.run(c.Context, data)
	v.bar.end()
	v.verdict.Seconds = time.Since(began).Seconds()
	unreadable, damaged := errors.AsType[*state.SegmentError](err)
	base, noBase := errors.AsType[*state.BaseError](err)
	switch {
	case c.Context.Err() != nil:
		return fmt.Errorf("interrupted at block %d: nothing is known of the blocks from there on", v.verdict.Height)
	case errors.Is(err, state.ErrLocked):
		return fmt.Errorf("%w: stop the node first, or verify a copy of its folder", err)
	case damaged:
		v.unreadable = true
		v.verdict.Height, v.verdict.Faults = unreadable.Height, []string{unreadable.Error()}
	case noBase:
		v.unreadable = true
		v.verdict.Faults = []string{base.Error()}
	case err != nil:
		return err
	}
	v.verdict.Holds = len(v.verdict.Faults) == 0
	if err := v.show(c); err != nil || v.archive == nil {
		return err
	}
	return withCode(ExitInvalid, fmt.Errorf("the history holds, and the archive of old states does not: %w", v.archive))
}

// verifier recomputes a history, block by block.
type verifier struct {
	suite    keys.Suite
	executor *executor.Executor
	genesis  *ledger.Genesis
	chain    blocksync.Chain
	history  ledger.History
	epoch    ledger.Epoch // of the block being checked
	parent   *ledger.Header
	seen     map[ledger.TxID]int64 // at least the transactions that could come again, with their expiry
	cleared  int64                 // block time at which seen was last cleared of others
	bar      *progress
	verdict  verdict

	archive    error // what is wrong with the archive; nil: nothing
	unreadable bool  // a segment cannot be read
	unaccepted bool  // the history leads over a recovery that the user did not accept
}

// run stops at the first block that does not fit, with its faults in the verdict. What lies above it stands on
// sand.
func (v *verifier) run(ctx context.Context, dir string) error {
	for a, err := range state.Fsck(dir, v.suite, nil) {
		if bad, ok := errors.AsType[*state.ArchiveError](err); ok && a.Block == nil {
			v.archive = bad
			continue
		}
		if err != nil && a.Block == nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b := a.Block
		header := &b.Header
		if v.parent == nil {
			v.verdict.Height = 0
		} else {
			v.verdict.Height = v.parent.Order.Height + 1
		}
		fault, failure := v.block(ctx, &a)
		if failure != nil && err == nil { // behind a fault, anything may fail
			return failure
		}
		if fault = errors.Join(err, fault); fault != nil {
			v.unaccepted = errors.Is(fault, ledger.ErrRecovery)
			v.verdict.Faults = strings.Split(fault.Error(), "\n")
			return nil
		}
		v.parent = header
		v.verdict.Block, v.verdict.Root = header.Hash(v.suite), header.StateRoot
		v.verdict.Txs += uint64(len(b.Txs))
		v.bar.show(v.verdict.Height, a.Done, a.Total)
	}
	if err := v.history.End(); err != nil {
		v.unaccepted, v.verdict.Faults = true, []string{withRecovery(err).Error()}
	}
	return nil
}

func recoveryFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "recovery", Usage: "accept the recovery block `HASH`, by which the institutions agreed to go on after a disaster. May be repeated"}
}

// recoveries returns the recovery blocks that the user accepts.
func recoveries(c *cli.Context) ([]keys.Digest, error) {
	var accepted []keys.Digest
	for _, text := range c.StringSlice("recovery") {
		hash, err := parseDigest(text)
		if err != nil {
			return nil, usage("--recovery: %w", err)
		}
		accepted = append(accepted, hash)
	}
	return accepted, nil
}

// withRecovery adds to an error that lacks the user's word how to give it.
func withRecovery(err error) error {
	if errors.Is(err, ledger.ErrRecovery) {
		return fmt.Errorf("%w; if so, verify again with --recovery and its hash", err)
	}
	return err
}

// block checks what state.Fsck leaves to its caller. fault is what does not fit; err is a failure of this machine.
func (v *verifier) block(ctx context.Context, a *state.Audited) (fault, err error) {
	b := a.Block
	if v.parent == nil {
		first, _, err := v.executor.Genesis(v.genesis)
		if err != nil {
			return nil, err
		}
		want, err := ledger.Marshal(first)
		if err != nil {
			return nil, err
		}
		got, err := ledger.Marshal(b)
		if err != nil {
			return nil, err
		}
		if string(got) != string(want) {
			return fmt.Errorf("block 0: it is not the one that the genesis file gives, %s", first.Header.Hash(v.suite)), nil
		}
		return nil, nil
	}
	if a.Parent != nil { // its state is what it should be, so it tells who the members are, and the parameters
		v.epoch, err = v.executor.Epoch(a.Parent)
	} else {
		v.verdict.Executed = b.Header.Order.Height + 1
		fault, err = v.enter(a)
	}
	if fault != nil || err != nil {
		return fault, err
	}
	v.chain.Epoch = v.epoch.Number
	if v.chain.Members, err = v.epoch.PublicKeys(v.suite); err != nil {
		return nil, err
	}
	if err := v.history.Finalizes(v.suite, &b.Certificate, &b.Header, v.chain.Members); err != nil {
		return fmt.Errorf("block %d: %w", v.verdict.Height, withRecovery(err)), nil
	}
	if a.Pruned {
		if err := blocksync.Follows(v.suite, v.parent, &b.Header); err != nil {
			return fmt.Errorf("block %d: %w", v.verdict.Height, err), nil
		}
		return nil, nil
	}
	v.chain.Accepted = nil
	if b.Certificate.Statement.Kind == ledger.Recover { // the history says whether it leads to one that is accepted
		v.chain.Accepted = []keys.Digest{b.Header.Hash(v.suite)}
	}
	raw, err := ledger.Marshal(b)
	if err != nil {
		return nil, err
	}
	// Continuation, certificate, new-view, transactions' form.
	_, txs, err := v.chain.Check(v.parent, raw)
	if err != nil {
		return fmt.Errorf("block %d: %w", v.verdict.Height, err), nil
	}
	if err := v.transactions(b, txs); err != nil {
		return fmt.Errorf("block %d: %w", v.verdict.Height, err), nil
	}
	if a.Parent == nil {
		return nil, nil
	}
	return v.execute(ctx, a, txs)
}

// enter finds the epoch of a block whose parent's state is not known any more. The state that is known tells what it was,
// and the block that ended the one before whether that is so.
func (v *verifier) enter(a *state.Audited) (fault, err error) {
	order := &a.Block.Header.Order
	switch {
	case v.parent.Order.Height == 0:
		v.epoch = *v.genesis.Epoch()
	case v.parent.Order.Barrier:
		began, found, err := precompiles.ReadBeginning(a.Base, v.epoch.Number+1)
		if err != nil {
			return nil, err
		}
		if !found || began.Epoch.Hash(v.suite) != v.parent.NextEpoch {
			return fmt.Errorf("block %d: the members of epoch %d are not those that the block before names", order.Height, v.epoch.Number+1), nil
		}
		v.epoch = began.Epoch
	}
	if order.Epoch != v.epoch.Number {
		return fmt.Errorf("block %d: it says epoch %d, and that is epoch %d", order.Height, order.Epoch, v.epoch.Number), nil
	}
	return nil, nil
}

// transactions checks signatures, in one batch, and the rules that hold for blocks and for what is in them.
func (v *verifier) transactions(b *ledger.Block, txs []*ledger.SignedTx) error {
	order, params := &b.Header.Order, &v.epoch.Params
	for i, valid := range ledger.CheckBatch(v.suite, txs) {
		if !valid {
			return fmt.Errorf("transaction %d, %s: a signature does not verify", i, txs[i].ID)
		}
	}
	if order.UnixMilli-v.cleared > params.MaxLifetime/2 {
		maps.DeleteFunc(v.seen, func(_ ledger.TxID, expiry int64) bool { return expiry < order.UnixMilli })
		v.cleared = order.UnixMilli
	}
	var bytes uint64
	var gas ledger.Gas
	ends := slices.ContainsFunc(txs, v.executor.Barrier)
	for i, tx := range txs {
		_, twice := v.seen[tx.ID]
		var wrong string
		switch limit := v.executor.SizeLimit(tx.To); {
		case tx.Chain != order.Chain || tx.Group != order.Group:
			wrong = fmt.Sprintf("it is for chain %s, group %q", tx.Chain, tx.Group)
		case len(tx.Raw) > limit:
			wrong = fmt.Sprintf("it has %d bytes, at most %d", len(tx.Raw), limit)
		case tx.GasLimit == 0 || tx.GasLimit > params.TxGas:
			wrong = fmt.Sprintf("its gas limit is %d, want 1 to %d", tx.GasLimit, params.TxGas)
		case tx.Expiry < order.UnixMilli || tx.Expiry > order.UnixMilli+params.MaxLifetime:
			wrong = fmt.Sprintf("its expiry %d does not suit block time %d", tx.Expiry, order.UnixMilli)
		case twice:
			wrong = "it was in a block already"
		}
		if wrong != "" {
			return fmt.Errorf("transaction %d, %s: %s", i, tx.ID, wrong)
		}
		v.seen[tx.ID] = tx.Expiry
		bytes += uint64(len(tx.Raw))
		gas += tx.GasLimit
	}
	switch {
	case ends != order.Barrier || ends && len(txs) > 1:
		return fmt.Errorf("the order says %t of ending the epoch, its transactions %t: one of %d", order.Barrier, ends, len(txs))
	case bytes != order.TxBytes || gas != order.GasLimit:
		return fmt.Errorf("the order claims %d bytes and %d gas, its transactions have %d and %d", order.TxBytes, order.GasLimit, bytes, gas)
	case order.TxCount == 0 || order.TxCount > params.BlockTxs || bytes > params.BlockBytes || gas > params.BlockGas:
		return fmt.Errorf("%d transactions of %d bytes and %d gas exceed a block's limits", order.TxCount, bytes, gas)
	case int(order.Proposer) >= len(v.epoch.Members):
		return fmt.Errorf("proposer %d of %d members", order.Proposer, len(v.epoch.Members))
	}
	return nil
}

// execute runs the transactions again on the parent's state, and compares the result.
func (v *verifier) execute(ctx context.Context, a *state.Audited, txs []*ledger.SignedTx) (fault, err error) {
	header := &a.Block.Header
	if header.Order.Barrier {
		if err := v.executor.EndsEpoch(a.Parent, &header.Order, txs[0]); err != nil {
			return fmt.Errorf("block %d ends its epoch for nothing: %w", header.Order.Height, err), nil
		}
	}
	next, err := v.executor.Execute(ctx, a.Parent, &header.Order, txs)
	if err != nil {
		return nil, err
	}
	if next.Hash() == header.Hash(v.suite) {
		return nil, nil
	}
	own := next.Header()
	var faults []error
	for _, f := range []struct {
		what      string
		got, want any
	}{
		{"state root", header.StateRoot, own.StateRoot},
		{"receipt root", header.ReceiptRoot, own.ReceiptRoot},
		{"change root", header.ChangeRoot, own.ChangeRoot},
		{"history root", header.HistoryRoot, own.HistoryRoot},
		{"gas used", header.GasUsed, own.GasUsed},
		{"next epoch", header.NextEpoch, own.NextEpoch},
		{"parent", header.Parent, own.Parent},
	} {
		if f.got != f.want {
			faults = append(faults, fmt.Errorf("block %d: executing its transactions gives %s %v, the header says %v", header.Order.Height, f.what, f.want, f.got))
		}
	}
	return errors.Join(faults...), nil
}

func (v *verifier) show(c *cli.Context) error {
	d := &v.verdict
	err := show(c, d, func(w io.Writer) {
		row(w, "chain", fmt.Sprintf("%s %s, group %s", d.Chain, v.genesis.Name, d.Group))
		if !d.Holds {
			row(w, "verdict", fmt.Sprintf("DOES NOT HOLD at block %d", d.Height)+map[bool]string{true: ", without your word on a recovery"}[v.unaccepted])
			return
		}
		row(w, "verdict", "the history holds")
		row(w, "blocks", fmt.Sprintf("0 to %d, with %d transactions", d.Height, d.Txs))
		if d.Executed > 0 {
			row(w, "executed", fmt.Sprintf("from block %d on: up to the one before this node has certificates, and the state that they give", d.Executed))
		}
		row(w, "block", d.Block)
		row(w, "state root", d.Root)
		row(w, "took", fmt.Sprintf("%.1f s", d.Seconds))
	})
	switch {
	case err != nil || d.Holds:
		return err
	case v.unaccepted:
		return withCode(ExitInvalid, errors.New(d.Faults[0]))
	case v.unreadable: // the fault says what to do
		return withCode(ExitInvalid, fmt.Errorf("the history does not hold at block %d: it cannot be read: %s", d.Height, d.Faults[0]))
	}
	return withCode(ExitInvalid, fmt.Errorf("the history does not hold at block %d:\n  %s\nKeep this folder for the inquiry, and let the node start again with an empty data folder, to fetch all blocks from the others",
		d.Height, strings.Join(d.Faults, "\n  ")))
}

// progress tells how far a long work is: a bar at a terminal, otherwise a line now and then.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	last     time.Time
}

// Between two signs of life.
const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 5 * time.Second
)

func newProgress(out io.Writer) *progress {
	file, ok := out.(*os.File)
	now := time.Now()
	return &progress{out: out, terminal: ok && term.IsTerminal(int(file.Fd())), began: now, last: now}
}

// show tells of the block at a height, behind done of total bytes.
func (p *progress) show(h ledger.Height, done, total int64) {
	now := time.Now()
	every := lineEvery
	if p.terminal {
		every = barEvery
	}
	if now.Sub(p.last) < every || total == 0 || done == 0 {
		return
	}
	p.last = now
	took := now.Sub(p.began)
	left := time.Duration(float64(took) * float64(total-done) / float64(done))
	text := fmt.Sprintf("block %d, %.0f blocks/s, %.0f %%, %s left", h, float64(h+1)/took.Seconds(), 100*float64(done)/float64(total), left.Round(time.Second))
	if !p.terminal {
		fmt.Fprintln(p.out, text)
		return
	}
	const width = 30
	full := int(width * done / total)
	fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat("-", width-full), text)
}

// end takes the bar away.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
