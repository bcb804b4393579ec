package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// A file of blocks is a bundle (package bundle) of a blocksStart and the encodings of the blocks, see ledger.DecodeBlock.
const (
	blocksMark = "fondaco blocks 1\n"

	itemBlocks = 1
	itemBlock  = 2
)

// blocksStart says what a file of blocks holds.
type blocksStart struct {
	_     struct{} `cbor:",toarray"`
	Chain keys.Digest
	Group ledger.GroupID
	From  ledger.Height
	To    ledger.Height
}

func exportBlocks(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	path, err := writeOut(c, func(out io.Writer) error {
		if c.Bool("offline") {
			return exportBlocksOffline(c, out)
		}
		return talk(c, func(r *remote) error {
			chain, err := r.Chain(r.ctx)
			if err != nil {
				return err
			}
			suite, err := keys.SuiteByName(chain.Suite)
			if err != nil {
				return err
			}
			status, err := r.Status(r.ctx)
			if err != nil {
				return err
			}
			return writeBlocks(c, out, suite, &blocksStart{Chain: chain.Chain, Group: chain.Group}, status.Height, func(h ledger.Height) ([]byte, error) {
				return r.RawBlock(c.Context, h)
			})
		})
	})
	if err == nil && path != "-" {
		note(c, "`fondaco import blocks %s` gives them to a stopped node that has the blocks below.", path)
	}
	return err
}

func exportBlocksOffline(c *cli.Context, out io.Writer) (err error) {
	o, err := openOffline(c)
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%w: the node runs; leave --offline away to ask it", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	return writeBlocks(c, out, o.suite, &blocksStart{Chain: o.genesis.Hash(o.suite), Group: o.genesis.Group}, o.head.Height(), o.store.RawBlock)
}

// writeBlocks writes the blocks that --from and --to name, of those up to head.
func writeBlocks(c *cli.Context, out io.Writer, suite keys.Suite, start *blocksStart, head ledger.Height, raw func(ledger.Height) ([]byte, error)) error {
	start.From, start.To = ledger.Height(c.Uint64("from")), head
	if c.IsSet("to") {
		start.To = ledger.Height(c.Uint64("to"))
	}
	if start.From == 0 || start.From > start.To || start.To > head {
		return usage("blocks %d to %d: want a range of blocks 1 to %d; block 0 is in the genesis", start.From, start.To, head)
	}
	w := bundle.NewWriter(out, suite, blocksMark)
	if err := w.Item(itemBlocks, start); err != nil {
		return err
	}
	for h := start.From; h <= start.To; h++ {
		block, err := raw(h)
		if err == nil {
			err = errors.Join(c.Context.Err(), w.Raw(itemBlock, block))
		}
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func importCommand() *cli.Command {
	return &cli.Command{
		Name:  "import",
		Usage: "give a stopped node what others have",
		Subcommands: []*cli.Command{{
			Name:  "blocks",
			Usage: "check, execute and store the blocks of `fondaco export blocks`",
			Description: "Each block must follow the last, and members of its epoch must have made it final, as when a node fetches blocks from\n" +
				"others. Blocks that the node has are compared; one that never ran begins with the genesis. Over a recovery it goes if that\n" +
				"was applied on this node. An import that was interrupted is typed again.",
			ArgsUsage: "FILE, or - for standard input", Flags: []cli.Flag{dirFlag(), outputFlag(), engineFlag(wasmvm.Default)}, Action: importBlocks,
		}},
	}
}

// imported is what import blocks did.
type imported struct {
	Stored   uint64        `json:"stored"`
	Compared uint64        `json:"compared"` // blocks that the node had
	Height   ledger.Height `json:"height"`
	Block    keys.Digest   `json:"block"`
}

// errBlocks says that a file holds blocks that are not those of the node's chain.
var errBlocks = errors.New("the blocks do not hold")

func importBlocks(c *cli.Context) (err error) {
	args, err := arguments(c, 1, 1, "FILE")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	engine, err := engineOf(c)
	if err != nil {
		return err
	}
	file, size, err := openIn(c, args[0], "make a file with `fondaco export blocks`")
	if err != nil {
		return err
	}
	defer file.Close()
	o, err := openOrBegin(c)
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%w: stop the node first", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	accepted, err := group.Applied(o.suite, state.OS(), o.dir)
	if err != nil {
		return err
	}
	vm, err := wasmvm.New(c.Context, wasmvm.Config{
		Engine: engine, MemoryPages: o.genesis.Params.MemoryPages, Rewrite: o.genesis.Params.Rewrite, Costs: o.genesis.Params.Costs,
	})
	if err != nil {
		return err
	}
	defer vm.Close(context.WithoutCancel(c.Context)) //nolint:errcheck // the process is about to end
	i := &blockImport{offline: o, chain: blocksync.Chain{Suite: o.suite, ID: o.genesis.Hash(o.suite), Group: o.genesis.Group, Finality: o.genesis.Finality(), Accepted: accepted}}
	if i.executor, err = executor.New(executor.Config{Suite: o.suite, Chain: i.chain.ID, Group: o.genesis.Group, VM: vm}); err != nil {
		return err
	}
	bar := newProgress(c.App.ErrWriter)
	err = i.run(c.Context, file, func(h ledger.Height, done int64) { bar.show(h, done, size) })
	bar.end()
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted at block %d: type the command again to go on", o.store.Head().Height())
	case errors.Is(err, bundle.ErrBroken):
		return withCode(ExitInvalid, fmt.Errorf("%s is not a whole file of blocks: %w; blocks up to %d are stored; copy it again, or make another", args[0], err, o.store.Head().Height()))
	case errors.Is(err, ledger.ErrRecovery):
		return withCode(ExitInvalid, fmt.Errorf("%w; if so, `fondaco recover apply` it on this node, and type the command again", err))
	case errors.Is(err, errBlocks):
		return withCode(ExitInvalid, fmt.Errorf("%s: %w; blocks up to %d are stored", args[0], err, o.store.Head().Height()))
	case err != nil:
		return err
	}
	head := o.store.Head()
	i.done.Height, i.done.Block = head.Height(), head.Hash()
	return show(c, &i.done, func(w io.Writer) {
		row(w, "stored", fmt.Sprintf("%d blocks", i.done.Stored))
		row(w, "compared", fmt.Sprintf("%d blocks, which the node had", i.done.Compared))
		row(w, "last block", fmt.Sprintf("%d, %s", i.done.Height, i.done.Block))
	})
}

// blockImport stores blocks from a file.
type blockImport struct {
	*offline
	executor *executor.Executor
	chain    blocksync.Chain
	epoch    bool // chain is that of the head's epoch
	done     imported
}

func (i *blockImport) run(ctx context.Context, from io.Reader, progress func(ledger.Height, int64)) error {
	r, err := bundle.NewReader(from, i.suite, blocksMark, bundle.MaxItem)
	if err != nil {
		return err
	}
	var start blocksStart
	kind, body, err := r.Next()
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case err != nil || kind != itemBlocks || ledger.Unmarshal(body, &start) != nil || start.To == math.MaxUint64:
		return fmt.Errorf("%w: the file does not say what it holds", errBlocks)
	case start.Chain != i.chain.ID || start.Group != i.chain.Group:
		return fmt.Errorf("%w: they are of chain %s, group %q, and the node is of %s, %q", errBlocks, start.Chain, start.Group, i.chain.ID, i.chain.Group)
	case start.From > i.store.Head().Height()+1:
		return fmt.Errorf("the blocks begin at %d, and the last of the node is %d: import those between first", start.From, i.store.Head().Height())
	}
	next := start.From
	for ; ; next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, body, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if kind != itemBlock || next > start.To {
			return fmt.Errorf("%w: an item of kind %d where block %d should be", errBlocks, kind, next)
		}
		if err := i.block(ctx, next, body); err != nil {
			return fmt.Errorf("block %d: %w", next, err)
		}
		progress(next, r.Bytes())
	}
	if next != start.To+1 {
		return fmt.Errorf("%w: they end before block %d", errBlocks, start.To)
	}
	return nil
}

// block stores the block of a height that the node has, or that is the next.
func (i *blockImport) block(ctx context.Context, h ledger.Height, raw []byte) error {
	head := i.store.Head()
	if h <= head.Height() {
		b, err := ledger.DecodeBlock(raw)
		if err != nil {
			return fmt.Errorf("%w: %w", errBlocks, err)
		}
		hash, err := i.store.BlockHash(h)
		if err != nil {
			return err
		}
		if got := b.Header.Hash(i.suite); got != hash {
			return fmt.Errorf("%w: it is %s, and the node has %s", errBlocks, got, hash)
		}
		i.done.Compared++
		return nil
	}
	if !i.epoch {
		epoch, err := i.executor.Epoch(head)
		if err != nil {
			return err
		}
		i.chain.Epoch = epoch.Number
		if i.chain.Members, err = epoch.PublicKeys(i.suite); err != nil {
			return err
		}
		i.epoch = true
	}
	checked, err := i.chain.CheckRange(h, [][]byte{raw})
	if err == nil {
		err = blocksync.Follows(i.suite, head.Header(), &checked[0].Block.Header)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBlocks, err)
	}
	b := checked[0].Block
	result, err := i.executor.Execute(ctx, head, &b.Header.Order, checked[0].Txs)
	if err != nil {
		return err
	}
	if got, want := result.Hash(), b.Header.Hash(i.suite); got != want {
		return fmt.Errorf("executing it gives block %s, and members signed %s: run `fondaco verify` on this node, and keep its data for the inquiry", got, want)
	}
	i.epoch = !b.Header.Order.Barrier
	i.done.Stored++
	return i.store.Commit(b, result)
}
