package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "see who used which power, and prove it to auditors",
		Description: "Every call of a method of a system contract that changes something leaves a record on chain, also one that was refused: by whom,\n" +
			"in which role, what about, on whose approval, what it changed, and how it ended. So does every call of another contract's method for\n" +
			"which a policy was set; of a private contract the record says what was called and how it ended, and the transaction the rest.",
		Subcommands: []*cli.Command{auditLogCommand(), {
			Name:  "list",
			Usage: "list audit records, newest first",
			Flags: remoteFlags(
				&cli.StringFlag{Name: "actor", Usage: "only what this `ACCOUNT`, or contract, called, or sent the transaction for"},
				&cli.StringFlag{Name: "institution", Usage: "only what accounts of this `INSTITUTION` sent"},
				&cli.StringFlag{Name: "contract", Usage: "only calls of this `CONTRACT`, such as access"},
				&cli.StringFlag{Name: "method", Usage: "only calls of this `METHOD`"},
				&cli.StringFlag{Name: "object", Usage: "only what is about this account, contract, name or number: `OBJECT` as records have it, or the name of an account in the genesis"},
				&cli.BoolFlag{Name: "refused", Usage: "only calls that did not end well"},
				&cli.Uint64Flag{Name: "from", Usage: "first `HEIGHT`"},
				&cli.Uint64Flag{Name: "to", Usage: "last `HEIGHT`; default: the newest"},
				&cli.StringFlag{Name: "before", Usage: "only records before this `PLACE`, such as 7.0.0"},
				&cli.IntFlag{Name: "limit", Usage: "at most this many, up to 10000", Value: 20},
			),
			Action: listAudit,
		}, {
			Name:      "show",
			Usage:     "show one audit record, or all of a transaction",
			ArgsUsage: "PLACE|TX",
			Flags:     remoteFlags(),
			Action:    showAudit,
		}, {
			Name:  "export",
			Usage: "write the audit records of a range of blocks with their proof, for `fondaco audit verify`",
			Flags: remoteFlags(
				&cli.Uint64Flag{Name: "from", Usage: "first `HEIGHT`"},
				&cli.Uint64Flag{Name: "to", Usage: "last `HEIGHT`; default: the newest"},
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write, or - for standard output"},
			),
			Action: exportAudit,
		}, {
			Name:  "verify",
			Usage: "check exported audit records offline, trusting nothing but a genesis; exit code 6 when they do not hold",
			Description: "Members of the chain signed the state that the records lead to: that none was changed, and that none of the blocks' records\n" +
				"is missing.",
			ArgsUsage: "FILE|-",
			Flags: []cli.Flag{
				outputFlag(),
				&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` of the chain, from a source that you trust", Value: GenesisFile, EnvVars: []string{"FONDACO_GENESIS"}},
				recoveryFlag(),
				&cli.BoolFlag{Name: "records", Usage: "print the records too, oldest first"},
			},
			Action: verifyAudit,
		}},
	}
}

// maxAuditList bounds how many records a command lists at once: it holds them in memory.
const maxAuditList = 10_000

func listAudit(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	limit := c.Int("limit")
	if limit < 1 || limit > maxAuditList {
		return usage("--limit %d: want 1 to %d", limit, maxAuditList)
	}
	return talk(c, func(r *remote) error {
		q := client.AuditQuery{
			Institution: c.String("institution"), Object: c.String("object"), Method: c.String("method"), Refused: c.Bool("refused"),
			From: ledger.Height(c.Uint64("from")), To: ledger.Height(c.Uint64("to")), Before: c.String("before"),
		}
		if text := c.String("actor"); text != "" {
			actor, err := r.account(text)
			if err != nil {
				return err
			}
			q.Actor = &actor
		}
		if text := c.String("contract"); text != "" {
			contract, err := r.contract(text)
			if err != nil {
				return err
			}
			q.Contract = &contract
		}
		if account, err := r.account(q.Object); err == nil && q.Object != "" {
			q.Object = account.String()
		}
		found, err := r.auditRecords(q, limit)
		if err != nil {
			return err
		}
		return show(c, found, func(w io.Writer) {
			auditHeading(w)
			for i := range found {
				auditRow(w, &found[i])
			}
		})
	})
}

// auditRecords returns the records that fit, as many as are wanted.
func (r *remote) auditRecords(q client.AuditQuery, limit int) ([]client.AuditRecord, error) {
	all := []client.AuditRecord{}
	for {
		q.Limit = min(limit-len(all), 100)
		page, err := r.Audit(r.ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Records...)
		if !page.More || len(all) >= limit {
			return all, nil
		}
		q.Before = page.Before
	}
}

func auditPlace(a *client.AuditRecord) string {
	return fmt.Sprintf("%d.%d.%d", a.Height, a.Index, a.Number)
}

func auditHeading(w io.Writer) {
	row(w, "PLACE", "TIME", "ACTOR", "INSTITUTION", "ROLES", "ACTION", "OBJECT", "MOTION", "RESULT")
}

func auditRow(w io.Writer, a *client.AuditRecord) {
	motion := "-"
	if a.Motion != 0 {
		motion = fmt.Sprint(a.Motion)
	}
	row(w, auditPlace(a), timeText(a.Time), a.Actor, orDash(a.Institution), orDash(strings.Join(a.Roles, ",")), auditAction(a), orDash(a.Object), motion, auditResult(a))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// auditAction returns what was called: contracts that are no system contracts have no name here.
func auditAction(a *client.AuditRecord) string {
	if a.Name == "" {
		return a.Contract.String() + "." + a.Method
	}
	return a.Name + "." + a.Method
}

func auditResult(a *client.AuditRecord) string {
	text := outcomeText(a.Status, a.Code, a.Error)
	if a.Undone {
		text += ", undone with the call around it"
	}
	return text
}

func showAudit(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "PLACE|TX")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		var height ledger.Height
		var index, number uint32
		n, _ := fmt.Sscanf(args[0], "%d.%d.%d", &height, &index, &number) //nolint:errcheck // n tells
		if n != 3 {
			id, err := parseTxID(args[0])
			if err != nil {
				return usage("%q: want the place of a record, such as 7.0.0, or the id of a transaction", args[0])
			}
			tx, err := r.Lookup(r.ctx, id, 0, false)
			if err != nil {
				return err
			}
			if tx.Receipt == nil {
				return withCode(ExitNotFound, fmt.Errorf("transaction %s is in no block that %s knows", id, r.url))
			}
			height, index = tx.Height, tx.Index
		}
		status, err := r.Status(r.ctx)
		if err != nil {
			return err
		}
		if height > status.Height {
			return withCode(ExitNotFound, fmt.Errorf("there is no block %d yet: the last that %s knows is %d", height, r.url, status.Height))
		}
		// The newest below the next transaction are this one's.
		found, err := r.auditRecords(client.AuditQuery{From: height, To: height, Before: fmt.Sprintf("%d.%d.0", height, index+1)}, precompiles.MaxAuditRecords+1) // its own, and what the chain did after it
		if err != nil {
			return err
		}
		var wanted []client.AuditRecord
		for _, a := range slices.Backward(found) {
			if a.Index == index && (n != 3 || a.Number == number) {
				wanted = append(wanted, a)
			}
		}
		if len(wanted) == 0 {
			return withCode(ExitNotFound, fmt.Errorf("there is no audit record of %s: it called no method of a system contract that changes something, and none for which a policy was set", args[0]))
		}
		return show(c, wanted, func(w io.Writer) {
			for i := range wanted {
				auditTable(w, &wanted[i])
			}
		})
	})
}

func auditTable(w io.Writer, a *client.AuditRecord) {
	row(w, "record", auditPlace(a))
	row(w, "time", timeText(a.Time))
	row(w, "transaction", a.Tx)
	row(w, "actor", a.Actor)
	if a.Origin != a.Actor {
		row(w, "sender", a.Origin)
	}
	row(w, "institution", orDash(a.Institution))
	row(w, "roles", orDash(strings.Join(a.Roles, ",")))
	for _, d := range a.Certificates {
		row(w, "certificate", d)
	}
	row(w, "action", auditAction(a))
	row(w, "object", orDash(a.Object))
	row(w, "arguments", a.Args)
	if !a.After.IsZero() {
		row(w, "before", a.Before)
		row(w, "after", a.After)
	}
	if a.Policy != 0 {
		row(w, "policy", a.Policy)
	}
	if a.Motion != 0 {
		row(w, "motion", a.Motion)
	}
	if a.Reason != "" {
		row(w, "reason", a.Reason)
	}
	if !a.Evidence.IsZero() {
		row(w, "evidence", a.Evidence)
	}
	for _, p := range a.Approvals {
		word := "for"
		if !p.For {
			word = "against"
		}
		row(w, "approval", fmt.Sprintf("%s %s of %s", word, p.Account, orDash(p.Institution)))
	}
	row(w, "result", auditResult(a))
	row(w, "proof", fmt.Sprintf("fondaco proof get state audit %s", hexText(a.Key)))
}

func exportAudit(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	path, err := writeOut(c, func(out io.Writer) error {
		return talk(c, func(r *remote) error {
			to := ledger.Height(c.Uint64("to"))
			if !c.IsSet("to") {
				status, err := r.Status(r.ctx)
				if err != nil {
					return err
				}
				to = status.Height
			}
			return r.AuditExport(c.Context, ledger.Height(c.Uint64("from")), to, out) // which may take longer than one answer
		})
	})
	if err == nil && path != "-" {
		note(c, "Check it anywhere with `fondaco audit verify %s --genesis FILE`, with a genesis file that you trust.", path)
	}
	return err
}

// auditVerdict is what `audit verify` found.
type auditVerdict struct {
	Holds bool `json:"holds"`
	*audit.RecordVerdict
	List []client.AuditRecord `json:"list,omitempty"`
}

func verifyAudit(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE|-")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	genesis, suite, err := trustedGenesis(c.String("genesis"))
	if err != nil {
		return err
	}
	accepted, err := recoveries(c)
	if err != nil {
		return err
	}
	file, _, err := openIn(c, args[0], "make a package with `fondaco audit export`")
	if err != nil {
		return err
	}
	defer file.Close()
	list := []client.AuditRecord{} // which count for nothing unless the package holds
	verdict, err := audit.VerifyRecords(file, audit.Trust{Suite: suite, Genesis: genesis, Recoveries: accepted}, func(a *precompiles.AuditRecord) error {
		if c.Bool("records") {
			list = append(list, audit.Document(a))
		}
		return nil
	})
	switch {
	case errors.Is(err, ledger.ErrRecovery):
		return withCode(ExitInvalid, fmt.Errorf("the records lead over a recovery: %w", withRecovery(err)))
	case errors.Is(err, audit.ErrRecords):
		return withCode(ExitInvalid, fmt.Errorf("%s: %w\nRely on none of its records. Export again, from another node too, and keep this file for the inquiry", args[0], err))
	case err != nil:
		return err
	}
	doc := &auditVerdict{Holds: true, RecordVerdict: verdict, List: list}
	return show(c, doc, func(w io.Writer) {
		row(w, "verdict", "the records hold, and none is missing")
		row(w, "chain", fmt.Sprintf("%s %s, group %s", doc.Chain, genesis.Name, doc.Group))
		row(w, "blocks", fmt.Sprintf("%d to %d", doc.From, doc.To))
		row(w, "records", fmt.Sprintf("%d, after %d before them; %d up to block %d", doc.Records, doc.First, doc.Total, doc.Height))
		row(w, "trusting", "the genesis of "+genesis.Name)
		row(w, "signed by", fmt.Sprintf("members %v in epoch %d: block %d %s", doc.Signers, doc.Epoch, doc.Height, doc.Block))
		if len(doc.List) > 0 {
			row(w)
			auditHeading(w)
			for i := range doc.List {
				auditRow(w, &doc.List[i])
			}
		}
	})
}
