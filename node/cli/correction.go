package cli

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

func correctionCommand() *cli.Command {
	call := func(method, usageText string) *cli.Command {
		return &cli.Command{
			Name: method, Usage: usageText, ArgsUsage: "NUMBER", Flags: signingFlags(),
			Action: func(c *cli.Context) error {
				number, err := correctionNumber(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error { return r.decideCorrection(method, number) })
			},
		}
	}
	return &cli.Command{
		Name:  "correction",
		Usage: "correct what transactions did, by entries that come later",
		Description: "A correction names the transactions that it corrects, and what is taken from and given to whom. History stays. It takes the approval of\n" +
			"two institutions, among them each of whose accounts something is taken. What is not balanced in each contract takes a motion.\n" +
			"Random bytes go with it (salt), so that nobody finds entries in private contracts by trying the digests of audit records.",
		Subcommands: []*cli.Command{
			{
				Name: "propose", Usage: "propose a correction of transactions; the sender is a compliance officer or admin of an institution", ArgsUsage: "TRANSACTION...",
				Flags: signingFlags(
					&cli.StringSliceFlag{Name: "take", Usage: "`CONTRACT:ACCOUNT:AMOUNT`, in the contract's smallest unit. May be repeated"},
					&cli.StringSliceFlag{Name: "give", Usage: "`CONTRACT:ACCOUNT:AMOUNT`. May be repeated"},
					&cli.StringFlag{Name: "reason", Usage: "`CODE`: " + strings.Join(precompiles.CorrectionReasons(), ", ")},
					&cli.StringFlag{Name: "evidence", Usage: evidenceUsage},
				),
				Action: proposeCorrection,
			},
			call("approve", "approve a correction for the sender's institution"),
			call("withdraw", "end a correction that the sender's institution proposed"),
			call("apply", "make the entries of a correction that has its approvals"),
			{
				Name: "list", Usage: "list the corrections", Flags: remoteFlags(&cli.BoolFlag{Name: "open", Usage: "only those that are neither applied nor withdrawn"}),
				Action: func(c *cli.Context) error {
					if _, err := arguments(c, 0, 0, ""); err != nil {
						return err
					}
					return talk(c, listCorrections)
				},
			},
			{
				Name: "show", Usage: "print a correction, and whether the node has the transactions that it names", ArgsUsage: "NUMBER", Flags: remoteFlags(),
				Action: func(c *cli.Context) error {
					number, err := correctionNumber(c)
					if err != nil {
						return err
					}
					return talk(c, func(r *remote) error {
						found, err := r.Correction(r.ctx, number)
						if err != nil {
							return err
						}
						return show(c, found, func(w io.Writer) { correctionTable(w, found) })
					})
				},
			},
		},
	}
}

func correctionNumber(c *cli.Context) (uint64, error) {
	args, err := arguments(c, 1, 1, "NUMBER")
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || number == 0 {
		return 0, usage("correction %q: want its number, as `fondaco correction list` tells it", args[0])
	}
	return number, nil
}

func proposeCorrection(c *cli.Context) error {
	args, err := arguments(c, 1, precompiles.MaxCorrected, "TRANSACTION...")
	if err != nil {
		return err
	}
	reason, err := required(c, "reason", strings.Join(precompiles.CorrectionReasons(), "|"))
	if err != nil {
		return err
	}
	shown, err := required(c, "evidence", "FILE, such as the customer's complaint")
	if err != nil {
		return err
	}
	values := &precompiles.ProposeCorrectionArgs{Reason: reason, Salt: make([]byte, precompiles.MaxSalt)}
	rand.Read(values.Salt) //nolint:errcheck // it never fails
	return talk(c, func(r *remote) error {
		for _, text := range args {
			id, err := parseTxID(text)
			if err != nil {
				return err
			}
			tx, err := r.Lookup(r.ctx, id, 0, false)
			switch {
			case err != nil:
				return err
			case tx.Progress != client.Committed:
				return withCode(ExitNotFound, fmt.Errorf("transaction %s is %s: only one in a block is corrected", id, tx.Progress))
			case tx.Receipt.Status != ledger.OK.String():
				return fmt.Errorf("transaction %s had no effect (%s): there is nothing to correct", id, tx.Receipt.Status)
			}
			values.Transactions = append(values.Transactions, precompiles.Corrected{Tx: id, Height: tx.Height})
		}
		if values.Evidence, err = r.evidence(shown); err != nil {
			return err
		}
		for _, flag := range []string{"take", "give"} {
			for _, text := range c.StringSlice(flag) {
				entry, err := r.correctionEntry(text)
				if err != nil {
					return err
				}
				entry.Credit = flag == "give"
				values.Entries = append(values.Entries, entry)
			}
		}
		if len(values.Entries) == 0 {
			return usage("`%s` needs --take and --give: from whom something is taken, and to whom it is given", c.Command.HelpName)
		}
		return r.transact(precompiles.CorrectionsAddress, "propose", values, func(tx *client.Transaction, w io.Writer) {
			row(w, "correction", strings.Trim(string(tx.Receipt.Decoded), `"`))
		})
	})
}

// correctionEntry reads CONTRACT:ACCOUNT:AMOUNT.
func (r *remote) correctionEntry(text string) (entry precompiles.Entry, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return entry, usage("entry %q: want CONTRACT:ACCOUNT:AMOUNT, such as token:alice:40", text)
	}
	if _, ok := entry.Amount.SetString(parts[2], 10); !ok || entry.Amount.Cmp(big.NewInt(0)) <= 0 {
		return entry, usage("entry %q: want an amount above 0 in decimal digits", text)
	}
	if entry.Contract, err = r.contract(parts[0]); err != nil {
		return entry, err
	}
	entry.Account, err = r.account(parts[1])
	return entry, err
}

// decideCorrection sends a decision about a correction. None is approved or applied of which the node does not have the transactions.
func (r *remote) decideCorrection(method string, number uint64) error {
	if method != "withdraw" {
		found, err := r.Correction(r.ctx, number)
		if err != nil {
			return err
		}
		for _, t := range found.Transactions {
			if t.Found != nil && !*t.Found {
				return withCode(ExitInvalid, fmt.Errorf("correction %d names transaction %s of block %d, which %s does not have there: ask who proposed it, or a node that has all blocks", number, t.ID, t.Height, r.url))
			}
		}
	}
	return r.transact(precompiles.CorrectionsAddress, method, &precompiles.NumberArgs{Number: number}, nil)
}

func listCorrections(r *remote) error {
	all := []client.Correction{}
	for after := uint64(0); ; {
		page, err := r.Corrections(r.ctx, after)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].Number
		for _, c := range page {
			if c.Status == precompiles.CorrectionOpen.String() || !r.c.Bool("open") {
				all = append(all, c)
			}
		}
	}
	return show(r.c, all, func(w io.Writer) {
		for i := range all {
			c := &all[i]
			row(w, strconv.FormatUint(c.Number, 10), fmt.Sprintf("%s, %s, by %s, %d transactions, %d entries", correctionState(c), c.Reason, c.Institution, len(c.Transactions), len(c.Entries)+c.Withheld))
		}
	})
}

// correctionState says how far a correction is.
func correctionState(c *client.Correction) string {
	switch {
	case c.Status != precompiles.CorrectionOpen.String():
		return c.Status
	case c.Motion:
		return "to be applied by motion"
	case c.Lacks == 0:
		return "to be applied"
	case len(c.Missing) > 0:
		return fmt.Sprintf("to be approved by %s", strings.Join(c.Missing, ", "))
	}
	return "to be approved by another institution"
}

func correctionTable(w io.Writer, c *client.Correction) {
	row(w, "correction", c.Number)
	row(w, "status", correctionState(c))
	row(w, "proposed", fmt.Sprintf("by %s of %s in block %d", c.By, c.Institution, c.Height))
	row(w, "reason", c.Reason)
	row(w, "evidence", c.Evidence)
	for _, t := range c.Transactions {
		state := cmp.Or(t.Status, "private")
		if t.Found != nil && !*t.Found {
			state = "NOT THERE"
		}
		row(w, "corrects", fmt.Sprintf("%s of block %d, %s", t.ID, t.Height, state))
	}
	for _, e := range c.Entries {
		what := "takes"
		if e.Credit {
			what = "gives"
		}
		row(w, what, fmt.Sprintf("%s, %s in %s", e.Amount, e.Account, e.Contract))
	}
	if c.Withheld > 0 {
		row(w, "withheld", fmt.Sprintf("%d entries in private contracts: ask in the name of an account that may read them (--as)", c.Withheld))
	}
	for _, a := range c.Approvals {
		row(w, "approved", fmt.Sprintf("by %s of %s", a.Account, a.Institution))
	}
	if c.Applied != (ledger.TxID{}) {
		row(w, "applied", fmt.Sprintf("by %s in block %d", c.Applied, c.AppliedAt))
		return
	}
	row(w, "open until", timeText(c.Expiry))
}

// linksTable prints which corrections have to do with a transaction.
func linksTable(w io.Writer, tx *client.Transaction) {
	for _, c := range tx.CorrectedBy {
		by := ""
		if c.Applied != (ledger.TxID{}) {
			by = fmt.Sprintf(", by %s", c.Applied)
		}
		row(w, "corrected by", fmt.Sprintf("correction %d (%s), %s%s", c.Number, c.Reason, c.Status, by))
	}
	for _, c := range tx.Corrects {
		for _, id := range c.Transactions {
			row(w, "corrects", fmt.Sprintf("%s, as correction %d (%s)", id, c.Number, c.Reason))
		}
	}
}
