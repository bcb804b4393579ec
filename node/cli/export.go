package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "write what a node has into files that can be checked without it",
		Subcommands: []*cli.Command{{
			Name:  "consensus",
			Usage: "write certificates, epochs, new-views and what members stated, for `fondaco verify --consensus`",
			Description: "The package holds no transactions: the headers in it commit to them. It is written while it is read, so its size\n" +
				"does not matter to the node. With --offline it comes from the folder of a stopped node (-d).",
			Flags: remoteFlags(
				&cli.Uint64Flag{Name: "from", Usage: "first `HEIGHT`"},
				&cli.Uint64Flag{Name: "to", Usage: "last `HEIGHT`; default: the newest"},
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write, or - for standard output"},
				&cli.BoolFlag{Name: "offline", Usage: "read the folder of a stopped node"},
			),
			Action: exportConsensus,
		}, {
			Name:  "blocks",
			Usage: "write blocks with their transactions and certificates, for `fondaco import blocks`",
			Description: "The file holds what members agreed on and no results: whoever imports it executes the blocks himself.\n" +
				"With --offline it comes from the folder of a stopped node (-d).",
			Flags: remoteFlags(
				&cli.Uint64Flag{Name: "from", Usage: "first `HEIGHT`", Value: 1},
				&cli.Uint64Flag{Name: "to", Usage: "last `HEIGHT`; default: the newest"},
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write, or - for standard output"},
				&cli.BoolFlag{Name: "offline", Usage: "read the folder of a stopped node"},
			),
			Action: exportBlocks,
		}},
	}
}

func exportConsensus(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	from, to := ledger.Height(c.Uint64("from")), ledger.Height(math.MaxUint64)
	if c.IsSet("to") {
		to = ledger.Height(c.Uint64("to"))
	}
	write := func(out io.Writer) error {
		if c.Bool("offline") {
			return exportStopped(c, out, from, to)
		}
		return talk(c, func(r *remote) error {
			if to == math.MaxUint64 {
				status, err := r.Status(r.ctx)
				if err != nil {
					return err
				}
				to = status.Height
			}
			return r.Consensus(c.Context, from, to, out) // which may take longer than one answer
		})
	}
	path, err := writeOut(c, write)
	if err == nil && path != "-" {
		note(c, "Check it with `fondaco verify --consensus %s --genesis FILE`, with a genesis file that you trust.", path)
	}
	return err
}

// writeOut writes what --out names, and returns that: a file that gets the name only when it is whole, and has it after a power
// failure too, or - for standard output.
func writeOut(c *cli.Context, write func(io.Writer) error) (path string, err error) {
	if path, err = required(c, "out", "FILE, or - for standard output"); err != nil {
		return "", err
	}
	if path == "-" {
		return path, write(c.App.Writer)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return "", err
	}
	if err = write(file); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = putInPlace(state.OS(), file.Name(), path)
	}
	if err != nil {
		if left := os.Remove(file.Name()); !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
		return "", err
	}
	return path, nil
}

// putInPlace gives a file that is whole and durable its name, durably too.
func putInPlace(files state.FS, from, path string) error {
	return errors.Join(files.Rename(from, path), files.SyncDir(filepath.Dir(path)))
}

// openIn opens the file that a command reads, or for - standard input, whose size is not known: 0. hint says how to come by
// such a file.
func openIn(c *cli.Context, path, hint string) (in io.ReadCloser, size int64, err error) {
	if path == "-" {
		return io.NopCloser(c.App.Reader), 0, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, withCode(ExitNotFound, fmt.Errorf("%w: %s", err, hint))
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// offline is the data of a node that does not run.
type offline struct {
	genesis *ledger.Genesis
	suite   keys.Suite
	dir     string // of the group's data
	store   *state.Store
	head    *state.Snapshot // after its last block
}

// openOffline opens the data of the node in -d. The store must be closed.
func openOffline(c *cli.Context) (*offline, error) {
	o, err := openData(c)
	if err != nil {
		return nil, err
	}
	if o.head = o.store.Head(); o.head == nil {
		return nil, errors.Join(withCode(ExitNotFound, fmt.Errorf("there are no blocks in %s", o.dir)), o.store.Close())
	}
	return o, nil
}

// openOrBegin is openOffline that begins the data of a node which never ran with the genesis block.
func openOrBegin(c *cli.Context) (*offline, error) {
	dir := c.String("dir")
	genesis, suite, err := trustedGenesis(filepath.Join(dir, GenesisFile))
	if err != nil {
		return nil, err
	}
	if err := state.OS().MkdirAll(filepath.Join(dir, "data", string(genesis.Group))); err != nil {
		return nil, err
	}
	o, err := openData(c)
	if err != nil {
		return nil, err
	}
	if o.store.Head() == nil {
		block, first, err := executor.Genesis(suite, genesis)
		if err == nil {
			err = o.store.Commit(block, first)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("genesis: %w", err), o.store.Close())
		}
	}
	o.head = o.store.Head()
	return o, nil
}

// openData is openOffline of data that may have no blocks.
func openData(c *cli.Context) (*offline, error) {
	dir := c.String("dir")
	genesis, suite, err := trustedGenesis(filepath.Join(dir, GenesisFile))
	if err != nil {
		return nil, err
	}
	o := &offline{genesis: genesis, suite: suite, dir: filepath.Join(dir, "data", string(genesis.Group))}
	if _, err := os.Stat(o.dir); err != nil {
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no history of group %s in %s (%w): name the folder of a node that ran with -d", genesis.Group, dir, err))
	}
	o.store, err = state.Open(o.dir, suite, &state.Options{Notice: func(text string) { note(c, "%s", text) }})
	return o, err
}

// epoch returns an epoch that has begun, and the height of the block that it follows.
func (o *offline) epoch(number uint64) (ledger.Epoch, ledger.Height, error) {
	b, found, err := precompiles.ReadBeginning(o.head, number)
	if err == nil && !found {
		err = fmt.Errorf("epoch %d has not begun", number)
	}
	return b.Epoch, b.Height, err
}

// exportStopped writes the package from the folder of a node that does not run.
func exportStopped(c *cli.Context, out io.Writer, from, to ledger.Height) (err error) {
	o, err := openOffline(c)
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%w: the node runs; leave --offline away to ask it", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	err = audit.Export(c.Context, out, &audit.Source{
		Suite: o.suite, Chain: o.genesis.Hash(o.suite), Group: o.genesis.Group, Head: o.head.Height(), FS: state.OS(), Statements: filepath.Join(o.dir, group.StatementsDir),
		Block: o.store.Certified, BlockHash: o.store.BlockHash, Epoch: o.epoch,
	}, from, min(to, o.head.Height()))
	switch {
	case errors.Is(err, audit.ErrRange):
		return withCode(ExitUsage, err)
	case errors.Is(err, audit.ErrLog):
		return withCode(ExitInvalid, err)
	}
	return err
}

// consensusVerdict is what `verify --consensus` found.
type consensusVerdict struct {
	Holds bool `json:"holds"`
	*audit.Verdict
	Evidence []accused `json:"evidence,omitempty"`
	Fault    string    `json:"fault,omitempty"`
	Broken   bool      `json:"broken,omitempty"` // the file is not a whole package

	Unaccepted bool `json:"unaccepted,omitempty"` // it leads over a recovery that the user did not accept
}

// accused is evidence that a package holds. Proof is what `fondaco evidence submit` takes.
type accused struct {
	Offence string        `json:"offence"`
	Epoch   uint64        `json:"epoch"`
	Member  uint32        `json:"member"`
	Kind    string        `json:"kind"`
	View    uint64        `json:"view"`
	Height  ledger.Height `json:"height"`
	Proof   client.Bytes  `json:"proof"`
}

// verifyConsensus checks a package with nothing but a genesis.
func verifyConsensus(c *cli.Context, path string) error {
	trusted := c.String("genesis")
	if trusted == "" {
		trusted = filepath.Join(c.String("dir"), GenesisFile)
	}
	genesis, suite, err := trustedGenesis(trusted)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return withCode(ExitNotFound, fmt.Errorf("%w: make a package with `fondaco export consensus`", err))
	}
	first, err := genesisBlock(suite, genesis)
	if err != nil {
		return err
	}
	accepted, err := recoveries(c)
	if err != nil {
		return err
	}
	bar := newProgress(c.App.ErrWriter)
	verdict, err := audit.Verify(c.Context, func() (io.ReadCloser, error) { return os.Open(path) },
		audit.Trust{Suite: suite, Genesis: genesis, First: first.Header.Hash(suite), Recoveries: accepted},
		func(h ledger.Height, read int64) { bar.show(h, read, info.Size()) })
	bar.end()
	if verdict == nil {
		return err
	}
	d := &consensusVerdict{Holds: err == nil, Verdict: verdict}
	fault, bad := errors.AsType[*audit.FaultError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted at block %d: nothing is known of the blocks from there on", verdict.Height)
	case bad:
		d.Height, d.Fault, d.Broken = fault.Height, fault.What, fault.Broken
		d.Unaccepted = errors.Is(fault, ledger.ErrRecovery)
	case err != nil:
		return err
	}
	for i := range verdict.Evidence {
		e := &verdict.Evidence[i]
		place, err := e.Place()
		if err != nil {
			return err
		}
		raw, err := ledger.Marshal(e)
		if err != nil {
			return err
		}
		d.Evidence = append(d.Evidence, accused{place.Offence.String(), place.Epoch, place.Member, place.Kind.String(), place.View, place.Height, raw})
	}
	err = show(c, d, func(w io.Writer) { consensusTable(w, genesis, d) })
	switch {
	case err != nil:
		return err
	case bad && errors.Is(fault, ledger.ErrRecovery):
		return withCode(ExitInvalid, withRecovery(fault))
	case bad && fault.Broken:
		return withCode(ExitInvalid, fmt.Errorf("%s is not a whole package of consensus statements: it ends %w\nExport or copy it again; compare its SHA-256 where it was made", path, fault))
	case bad:
		return withCode(ExitInvalid, fmt.Errorf("what members agreed on does not hold %w\nKeep this package for the inquiry, and compare with one of another node", fault))
	case len(d.Evidence) > 0:
		return withCode(ExitInvalid, fmt.Errorf("the history holds, and %d pairs of statements in it contradict one another: put the proofs on chain with `fondaco evidence submit`", len(d.Evidence)))
	}
	return nil
}

func consensusTable(w io.Writer, genesis *ledger.Genesis, d *consensusVerdict) {
	row(w, "chain", fmt.Sprintf("%s %s, group %s", d.Chain, genesis.Name, d.Group))
	if !d.Holds {
		if d.Broken {
			row(w, "verdict", fmt.Sprintf("NOT A WHOLE PACKAGE behind block %d: it shows nothing", d.Height))
		} else {
			row(w, "verdict", fmt.Sprintf("DOES NOT HOLD at block %d", d.Height)+map[bool]string{true: ", without your word on a recovery"}[d.Unaccepted])
		}
		return
	}
	row(w, "verdict", "what members agreed on holds")
	row(w, "blocks", fmt.Sprintf("%d to %d, with %d signatures of members of epochs up to %d", d.From, d.Height, d.Signatures, d.Epoch))
	row(w, "block", d.Block)
	row(w, "new-views", d.NewViews)
	if d.LogDigest.IsZero() {
		row(w, "statements", "none: the node kept no log")
	} else {
		row(w, "statements", fmt.Sprintf("%d, of which %d are of epochs behind the package; the log missed %d", d.Statements, d.Unchecked, d.Missed))
		row(w, "log digest", d.LogDigest)
	}
	for _, text := range d.Notes {
		row(w, "note", text)
	}
	for _, e := range d.Evidence {
		row(w, "evidence", fmt.Sprintf("%s by member %d of epoch %d: %s at view %d height %d", e.Offence, e.Member, e.Epoch, e.Kind, e.View, e.Height))
		row(w, "proof", hexText(e.Proof))
	}
}
