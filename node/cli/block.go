package cli

import (
	"fmt"
	"io"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
)

func blockCommand() *cli.Command {
	return &cli.Command{
		Name:  "block",
		Usage: "print blocks",
		Subcommands: []*cli.Command{{
			Name:      "get",
			Usage:     "print a block",
			ArgsUsage: "HEIGHT|latest",
			Flags:     remoteFlags(),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "HEIGHT|latest")
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					height, err := r.height(args[0])
					if err != nil {
						return err
					}
					block, err := r.Block(r.ctx, height)
					if err != nil {
						return err
					}
					return show(c, block, func(w io.Writer) { blockTable(w, block) })
				})
			},
		}, {
			Name:  "list",
			Usage: "list blocks, newest first",
			Flags: remoteFlags(
				&cli.Uint64Flag{Name: "below", Usage: "begin below this height; 0: at the newest"},
				&cli.IntFlag{Name: "limit", Usage: "at most this many, up to 100", Value: 20},
			),
			Action: func(c *cli.Context) error {
				if _, err := arguments(c, 0, 0, ""); err != nil {
					return err
				}
				if n := c.Int("limit"); n < 1 || n > 100 {
					return usage("--limit %d: want 1 to 100", n)
				}
				return talk(c, func(r *remote) error {
					blocks, err := r.Blocks(r.ctx, ledger.Height(c.Uint64("below")), c.Int("limit"))
					if err != nil {
						return err
					}
					return show(c, blocks, func(w io.Writer) {
						row(w, "HEIGHT", "TIME", "TXS", "GAS", "PROPOSER", "VIEW", "BLOCK")
						for _, b := range blocks {
							row(w, b.Height, timeText(b.Time), len(b.Txs), b.GasUsed, b.Proposer, b.View, b.Hash)
						}
					})
				})
			},
		}},
	}
}

// height reads a height, or asks for the newest.
func (r *remote) height(text string) (ledger.Height, error) {
	if text == "latest" {
		status, err := r.Status(r.ctx)
		if err != nil {
			return 0, err
		}
		return status.Height, nil
	}
	h, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, usage("height %q: want a number or latest", text)
	}
	return ledger.Height(h), nil
}

func blockTable(w io.Writer, b *client.Block) {
	row(w, "height", b.Height)
	row(w, "block", b.Hash)
	row(w, "order", b.Order)
	row(w, "parent", b.Parent)
	row(w, "time", timeText(b.Time))
	row(w, "proposer", fmt.Sprintf("member %d", b.Proposer))
	row(w, "certificate", fmt.Sprintf("epoch %d, view %d, signed by members %v", b.Epoch, b.View, b.Signers))
	row(w, "state root", b.StateRoot)
	row(w, "tx root", b.TxRoot)
	row(w, "receipt root", b.ReceiptRoot)
	row(w, "change root", b.ChangeRoot)
	row(w, "history root", b.HistoryRoot)
	row(w, "gas", b.GasUsed)
	for i, id := range b.Txs {
		row(w, fmt.Sprintf("tx %d", i), id)
	}
}
