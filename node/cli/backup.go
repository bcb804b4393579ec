package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "copy the chain as a node has it into a file, and make a node's data of it",
		Description: "A backup holds blocks with their results, the world state and the genesis, and nothing secret. The node's key is not in it,\n" +
			"nor what lies beside the chain in data/GROUP: journal, statements, evidence and recoveries that were applied. Copy the key and\n" +
			"the file began-GROUP beside it to another place; the journal is of use only as it was when the node last ran.",
		Subcommands: []*cli.Command{{
			Name:  "create",
			Usage: "write a backup of a running node, or with --offline of a stopped one",
			Description: "A running node copies its world state into a temporary file first, in its data folder, so that who takes the backup may be slow.\n" +
				"It refuses where that would leave less than 256 MiB on the disk. With -d, who can read the node's folder is taken for its\n" +
				"operator, and does not wait for others who take one. Private data are in it too: beside the operator, regulators and auditors may take\n" +
				"one by a certificate or with --as, and the node writes each down (`fondaco audit log show`).",
			Flags: remoteFlags(
				keepFlag("of older ones the backup has headers and certificates; default: all that the node has"),
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write, or - for standard output"},
				&cli.BoolFlag{Name: "offline", Usage: "read the folder of a stopped node (-d)"},
			),
			Action: backupCreate,
		}, {
			Name:  "verify",
			Usage: "check a backup against a genesis, without a node",
			Description: "Every block is checked against the one before, its own header and its certificate, the world state against its block, and\n" +
				"that no transaction can come again which a node made of it would not know. Blocks are not executed: restore the backup and\n" +
				"`fondaco verify` that folder, which executes those above the world state; these are all if the backup has all in full.\n" +
				"Exit code 6 when something does not fit.",
			ArgsUsage: "FILE, or - for standard input", Flags: []cli.Flag{
				dirFlag(), outputFlag(),
				&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` that you trust; default: the one in the folder", EnvVars: []string{"FONDACO_GENESIS"}},
				recoveryFlag(),
			}, Action: backupVerify,
		}, {
			Name:  "restore",
			Usage: "make the data of the node in -d of a backup, checked as by verify",
			Description: "The folder has been made by `fondaco init`; its genesis is the one that is trusted. It has no blocks and no state: where those are\n" +
				"damaged, move them away and leave the rest. A member whose journal is there, as it was when the node last ran, goes on\n" +
				"voting. One without does not know what it voted for: it follows the others, and votes again as CHANGELOG.md tells of a\n" +
				"lost journal. If restore was interrupted, type it again, also with a newer backup. What lies beyond a recovery is taken if it\n" +
				"was applied in the folder, or by --recovery where there is no journal.\n\n" +
				"A node that joins gets there faster than by all blocks, and trusts its source in nothing:\n" +
				"  fondaco backup create --api URL --out - --keep 1 | fondaco backup restore - -d DIR",
			ArgsUsage: "FILE, or - for standard input", Flags: []cli.Flag{dirFlag(), outputFlag(), recoveryFlag()}, Action: backupRestore,
		}},
	}
}

// keepFlag is checked by keeps.
func keepFlag(what string) cli.Flag {
	return &cli.Uint64Flag{Name: "keep", Usage: "the last `NUMBER` of blocks in full, and more if they hold transactions that have not expired; " + what}
}

// keeps refuses --keep 0, which nobody means.
func keeps(c *cli.Context) error {
	if c.IsSet("keep") && c.Uint64("keep") == 0 {
		return usage("--keep 0: want how many of the last blocks are kept in full, 1 or more")
	}
	return nil
}

func backupCreate(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if err := keeps(c); err != nil {
		return err
	}
	path, err := writeOut(c, func(out io.Writer) error {
		if c.Bool("offline") {
			return backupOffline(c, out)
		}
		return talk(c, func(r *remote) error { return r.Backup(c.Context, c.Uint64("keep"), out) })
	})
	if err == nil && path != "-" {
		note(c, "Check it with `fondaco backup verify %s --genesis FILE`, with a genesis file that you trust.", path)
	}
	return err
}

func backupOffline(c *cli.Context, out io.Writer) (err error) {
	o, err := openOffline(c)
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%w: the node runs; leave --offline away to ask it", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.store.Close()) }()
	return backup.Create(c.Context, out, o.source(), o.keep(c))
}

func (o *offline) source() *backup.Source {
	return &backup.Source{Store: o.store, Genesis: o.genesis, Epoch: o.epoch}
}

// keep returns the first block that --keep names; all if it is not there.
func (o *offline) keep(c *cli.Context) ledger.Height {
	if !c.IsSet("keep") {
		return 0
	}
	blocks := uint64(o.head.Height()) + 1
	return ledger.Height(blocks - min(c.Uint64("keep"), blocks))
}

func backupVerify(c *cli.Context) error {
	path := c.String("genesis")
	if path == "" {
		path = filepath.Join(c.String("dir"), GenesisFile)
	}
	accepted, err := recoveries(c)
	if err != nil {
		return err
	}
	return readBackup(c, path, accepted, func(from io.Reader, trust *backup.Trust, progress func(ledger.Height, int64)) (*backup.Contents, error) {
		return backup.Verify(c.Context, from, trust, progress)
	}, "the backup holds")
}

func backupRestore(c *cli.Context) error {
	dir := c.String("dir")
	path := filepath.Join(dir, GenesisFile)
	genesis, suite, err := trustedGenesis(path)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data", string(genesis.Group))
	accepted, err := group.Applied(suite, state.OS(), data)
	if err != nil {
		return err
	}
	more, err := recoveries(c)
	if err != nil {
		return err
	}
	if len(more) > 0 { // what this node may have signed against it is in its journal, and apply asks that
		if _, err := os.Stat(filepath.Join(data, group.JournalName)); err == nil {
			return fmt.Errorf("the node in %s has a journal, and goes on with a recovery by `fondaco recover apply` only: leave --recovery away", dir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return readBackup(c, path, append(accepted, more...), func(from io.Reader, trust *backup.Trust, progress func(ledger.Height, int64)) (*backup.Contents, error) {
		found, err := backup.Restore(c.Context, from, trust, data, progress)
		switch {
		case errors.Is(err, state.ErrLocked):
			err = fmt.Errorf("%w: stop the node first", err)
		case errors.Is(err, state.ErrReplace):
			err = fmt.Errorf("%w, and it then has what it fetched; or, to have this backup in its stead, move replace, replace.moving and incoming in %s away, "+
				"as far as they are there, with blocks, base, state.db and index.db, and leave what else is there", err, data)
		case errors.Is(err, state.ErrStore):
			err = fmt.Errorf("%w: the node in %s has data: move blocks, base, state.db and index.db in %s away first, keep them until the node runs again, "+
				"and leave what else is there", err, dir, data)
		}
		return found, err
	}, "restored: the node may be started with `fondaco run`")
}

// readBackup checks the backup that is the command's argument, by verify or restore, and prints what it holds. genesis is
// the file that is trusted.
func readBackup(c *cli.Context, genesis string, accepted []keys.Digest, read func(io.Reader, *backup.Trust, func(ledger.Height, int64)) (*backup.Contents, error), verdict string) error {
	args, err := arguments(c, 1, 1, "FILE")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	trust, err := backupTrust(genesis, accepted)
	if err != nil {
		return err
	}
	file, size, err := openIn(c, args[0], "make a backup with `fondaco backup create`")
	if err != nil {
		return err
	}
	defer file.Close()
	bar := newProgress(c.App.ErrWriter)
	found, err := read(file, trust, func(h ledger.Height, done int64) { bar.show(h, done, size) })
	bar.end()
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted: nothing is known of the rest of %s; type the command again", args[0])
	case errors.Is(err, bundle.ErrBroken):
		return withCode(ExitInvalid, fmt.Errorf("%s is not a whole backup: %w; copy it again, or make another", args[0], err))
	case errors.Is(err, ledger.ErrRecovery):
		return withCode(ExitInvalid, withRecovery(err))
	case errors.Is(err, backup.ErrInvalid), errors.Is(err, backup.ErrChain):
		return withCode(ExitInvalid, fmt.Errorf("%s: %w; keep it for the inquiry, and use another one", args[0], err))
	case err != nil:
		return err
	}
	return show(c, found, func(w io.Writer) {
		row(w, "verdict", verdict)
		row(w, "chain", fmt.Sprintf("%s %s, group %s", found.Chain, trust.Genesis.Name, found.Group))
		row(w, "blocks", fmt.Sprintf("0 to %d, in full from %d on", found.Height, found.Kept))
		row(w, "block", fmt.Sprintf("%s, of epoch %d", found.Block, found.Epoch))
		row(w, "state", fmt.Sprintf("after block %d, %d keys, root %s", found.State, found.Keys, found.Root))
	})
}

func backupTrust(path string, accepted []keys.Digest) (*backup.Trust, error) {
	genesis, suite, err := trustedGenesis(path)
	if err != nil {
		return nil, err
	}
	first, err := genesisBlock(suite, genesis)
	return &backup.Trust{Suite: suite, Genesis: genesis, First: first, Accepted: accepted}, err
}

// genesisBlock returns the block that a genesis gives.
func genesisBlock(suite keys.Suite, genesis *ledger.Genesis) (*ledger.Block, error) {
	first, _, err := executor.Genesis(suite, genesis)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return first, nil
}

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "let a stopped node forget what old blocks held",
		Description: "Of the blocks below those kept, headers and certificates stay: every proof that was made holds, and the node proves the\n" +
			"history and the present state as before, and says in which block a transaction was. What is gone are transactions,\n" +
			"receipts and changes: the node says so to who asks, other nodes cannot fetch these blocks from it, and `fondaco verify`\n" +
			"executes the blocks that come from now on only; of those that are there it checks links, certificates, signatures and roots.\n" +
			"Keep a backup, or a node that is not pruned.\n" +
			"The world state is written into the data folder once more, as what the node begins with.",
		Flags:  []cli.Flag{dirFlag(), outputFlag(), keepFlag("required"), &cli.BoolFlag{Name: "yes", Usage: "do not ask"}},
		Action: prune,
	}
}

// pruned is what prune did.
type pruned struct {
	Kept   ledger.Height `json:"blocks_from"`
	Before ledger.Height `json:"before"`
	Height ledger.Height `json:"height"`
	Bytes  int64         `json:"bytes"` // of the data folder
	Was    int64         `json:"bytes_before"`
}

func prune(c *cli.Context) (err error) {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if !c.IsSet("keep") {
		return usage("`%s` needs --keep NUMBER, of the last blocks that the node keeps in full", c.Command.HelpName)
	}
	if err := keeps(c); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	o, err := openOffline(c)
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%w: stop the node first", err)
	}
	if err != nil {
		return err
	}
	open := true
	defer func() {
		if open {
			err = errors.Join(err, o.store.Close())
		}
	}()
	doc := &pruned{Before: o.store.Kept(), Height: o.head.Height()}
	if want := o.keep(c); want < doc.Before {
		return fmt.Errorf("--keep %d is from block %d on, and this node has only the blocks from %d on in full, which are %d: keep no more than these; of the others a backup, "+
			"or a node that is not pruned, has what they held", c.Uint64("keep"), want, doc.Before, doc.Height+1-doc.Before)
	}
	if doc.Kept, err = o.source().Kept(o.keep(c)); err != nil {
		return err
	}
	if doc.Was, err = folderSize(o.dir); err != nil {
		return err
	}
	if doc.Kept > doc.Before {
		if err := roomToPrune(o.dir); err != nil {
			return err
		}
		if err := confirm(c, "Forget what blocks %d to %d held?", doc.Before, doc.Kept-1); err != nil {
			return err
		}
	}
	if err := o.store.Prune(doc.Kept); err != nil {
		return err
	}
	open = false
	if err := o.store.Close(); err != nil {
		return err
	}
	if doc.Bytes, err = folderSize(o.dir); err != nil {
		return err
	}
	return show(c, doc, func(w io.Writer) {
		row(w, "blocks in full", fmt.Sprintf("%d to %d", doc.Kept, doc.Height))
		row(w, "pruned now", fmt.Sprintf("%d blocks", doc.Kept-doc.Before))
		row(w, "bytes", fmt.Sprintf("%d, before %d", doc.Bytes, doc.Was))
	})
}

// roomToPrune fails if the disk certainly lacks the space for what pruning writes before it removes something: the world
// state, which is less than the table of it, and one file of blocks.
func roomToPrune(dir string) error {
	need := int64(0)
	for _, path := range []string{"state.db", filepath.Join("blocks", "*")} {
		files, err := filepath.Glob(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		largest := int64(0)
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			largest = max(largest, info.Size())
		}
		need += largest
	}
	free, known, err := backup.FreeSpace(dir)
	if err == nil && known && free < need {
		err = fmt.Errorf("pruning may need %d bytes before it frees any, and the disk of %s has %d: make room first", need, dir, free)
	}
	return err
}

// folderSize returns how many bytes the files below a folder have.
func folderSize(dir string) (size int64, err error) {
	return size, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
}
