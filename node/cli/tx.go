package cli

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func txCommand() *cli.Command {
	return &cli.Command{
		Name:  "tx",
		Usage: "send and follow transactions",
		Subcommands: []*cli.Command{{
			Name:      "send",
			Usage:     "send a transaction that was signed elsewhere (--sign-only)",
			ArgsUsage: "FILE|-|0x…",
			Flags: remoteFlags(
				&cli.BoolFlag{Name: "wait", Usage: "wait until it is in a block", Value: true},
			),
			Action: func(c *cli.Context) error {
				return talkOfFile(c, "FILE|-|0x…", func(r *remote, _ keys.Suite, tx *ledger.SignedTx, _ string) error { return r.deliver(tx, nil) })
			},
		}, {
			Name:      "sign",
			Usage:     "add signatures of other keys to a transaction that was signed elsewhere (--sign-only)",
			ArgsUsage: "FILE",
			Flags: remoteFlags(
				&cli.StringSliceFlag{Name: "key", Usage: "key `FILE` that signs; may be repeated", EnvVars: []string{"FONDACO_KEY"}},
				&cli.StringSliceFlag{Name: "signer", Usage: "`SOCKET` of a signer whose key signs, as --key", EnvVars: []string{"FONDACO_SIGNER"}},
				passphraseFlag(),
			),
			Action: signFile,
		}, {
			Name:      "get",
			Usage:     "print a transaction and what became of it",
			ArgsUsage: "ID",
			Flags:     remoteFlags(),
			Action: func(c *cli.Context) error {
				id, err := txArgument(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					tx, err := r.Lookup(r.ctx, id, 0, false)
					if err != nil {
						return err
					}
					return r.showProgress(tx)
				})
			},
		}, {
			Name:      "wait",
			Usage:     "wait until a transaction is in a block and print it; exit code 5 when it is not within --timeout, or expired",
			ArgsUsage: "ID",
			Flags:     remoteFlags(),
			Action: func(c *cli.Context) error {
				id, err := txArgument(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error { return r.await(id, nil) })
			},
		}},
	}
}

// talkOfFile is talk of the transaction that the only argument, wanted, names. What the argument is comes last.
func talkOfFile(c *cli.Context, wanted string, run func(r *remote, suite keys.Suite, tx *ledger.SignedTx, file string) error) error {
	args, err := arguments(c, 1, 1, wanted)
	if err != nil {
		return err
	}
	raw, err := binaryArgument(c, args[0], ledger.MaxDeployTxSize)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		suite, err := r.Suite(r.ctx)
		if err != nil {
			return err
		}
		tx, err := ledger.DecodeTx(suite, raw)
		if err != nil {
			return fmt.Errorf("%s holds no signed transaction: %w; make one with --sign-only", args[0], err)
		}
		return run(r, suite, tx, args[0])
	})
}

func txArgument(c *cli.Context) (ledger.TxID, error) {
	args, err := arguments(c, 1, 1, "ID")
	if err != nil {
		return ledger.TxID{}, err
	}
	return parseTxID(args[0])
}

func parseTxID(text string) (ledger.TxID, error) {
	digest, err := parseDigest(text)
	if err != nil {
		return ledger.TxID{}, usage("transaction id %q: want 64 hexadecimal digits, as `fondaco tx send` prints them", text)
	}
	return ledger.TxID(digest), nil
}

// showProgress shows a transaction wherever it is. To be asked for is no failure of it.
func (r *remote) showProgress(tx *client.Transaction) error {
	if tx.Progress == client.Committed {
		return r.showTransaction(tx, nil)
	}
	return show(r.c, tx, func(w io.Writer) {
		row(w, "transaction", tx.ID)
		row(w, "progress", tx.Progress)
		if tx.PastExpiry {
			row(w, "", "past its expiry: no coming block will take it")
		}
	})
}

// binaryArgument reads bytes from a file, from standard input ("-"), or from 0x and hexadecimal digits; a file may
// hold such digits as well.
func binaryArgument(c *cli.Context, text string, limit int) ([]byte, error) {
	data := []byte(text)
	if !strings.HasPrefix(text, "0x") {
		in := c.App.Reader
		if text != "-" {
			file, err := os.Open(text)
			if err != nil {
				return nil, withCode(ExitNotFound, err)
			}
			defer file.Close() //nolint:errcheck // only read
			in = file
		}
		var err error
		if data, err = io.ReadAll(io.LimitReader(in, 2*int64(limit)+16)); err != nil {
			return nil, err
		}
	}
	if digits, ok := bytes.CutPrefix(bytes.TrimSpace(data), []byte("0x")); ok {
		raw := make([]byte, hex.DecodedLen(len(digits)))
		if _, err := hex.Decode(raw, digits); err != nil {
			return nil, fmt.Errorf("%s: %w", shorten(text), err)
		}
		data = raw
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", shorten(text), limit)
	}
	return data, nil
}
