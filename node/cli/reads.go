package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// askFlags are those of requests in an account's name.
func askFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "as", Usage: "`ACCOUNT` in whose name to ask, by its address or its name in the genesis: each request is signed, and the node answers what the account may read", EnvVars: []string{"FONDACO_AS"}},
		&cli.StringFlag{Name: "as-key", Usage: "key `FILE` of that account (default: the first of FONDACO_KEY)", EnvVars: []string{"FONDACO_AS_KEY"}},
	}
}

// askAs has all requests signed by an account.
func (r *remote) askAs(text string) error {
	asker := client.Asker{}
	if path := os.Getenv("FONDACO_GENESIS"); path != "" {
		genesis, suite, err := trustedGenesis(path)
		if err != nil {
			return err
		}
		asker.Suite, asker.Chain, asker.Group = suite, genesis.Hash(suite), genesis.Group
	} else {
		chain, err := r.Chain(r.ctx)
		if problem, ok := errors.AsType[*client.Problem](err); ok && problem.Code == client.CodeUnauthenticated {
			return usage("--as: a query is signed for one chain, and the node does not say which its is before it knows who asks: name the genesis file in FONDACO_GENESIS")
		}
		if err != nil {
			return err
		}
		if asker.Suite, err = keys.SuiteByName(chain.Suite); err != nil {
			return err
		}
		asker.Chain, asker.Group = chain.Chain, chain.Group
	}
	address, said, err := parseAddress(text)
	switch {
	case !said:
		address = ledger.NamedAddress(asker.Suite, "account", text)
	case err != nil:
		return withCode(ExitUsage, err)
	}
	path := r.c.String("as-key")
	if path == "" {
		path, _, _ = strings.Cut(os.Getenv("FONDACO_KEY"), ",")
	}
	if path == "" {
		return usage("--as %s needs a key of the account: give --as-key FILE or set FONDACO_KEY", text)
	}
	asker.Account = address
	if asker.Signer, err = openKey(r.c, path, asker.Suite); err != nil {
		return err
	}
	r.Ask(asker)
	return nil
}

// auditLogCommand is about the log of what a node answered to regulators and auditors, and of backups.
func auditLogCommand() *cli.Command {
	local := []cli.Flag{dirFlag(), outputFlag()}
	return &cli.Command{
		Name:  "log",
		Usage: "see what a node answered to regulators and auditors, and who took backups, and prove that nothing of it was changed",
		Description: "To regulators and auditors nothing on the chain is private, and a node writes down what they ask before it answers, and each backup, whoever takes it:\n" +
			"in a log of which each entry fixes all before it. `audit log anchor`, say once a day, puts its end on chain; `audit log verify` compares.",
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "print the reads that the log of the node in -d has, oldest first", Flags: local, Action: showReads},
			{
				Name: "verify", Usage: "check the log of the node in -d, who signed what, and its anchor on chain; exit code 6 when it does not hold",
				Description: "The log is read from the folder, and compared with all its anchors of reads in these files. They are asked for at the node, or at the one that --api names:\n" +
					"ask one of another institution. Of reads before these files, and of anchors up to there, it shows nothing, and says so: it cannot tell whether a file was there\n" +
					"when the reads behind it were anchored.\n" +
					"A node has room for 1 GiB of the log. It then deletes the oldest files of data/GROUP/reads, but none with a read that is not anchored: it\n" +
					"answers no regulator, no auditor and gives no backup until the log is anchored (fondaco_reads_full tells how far that is). Keep copies of the files:\n" +
					"a log that lacks reads before its first file which are not anchored is not tied to the chain, and that is exit code 6.",
				Flags: remoteFlags(
					&cli.BoolFlag{Name: "offline", Usage: "do not ask for the anchor"},
					olderFlag(),
				),
				Action: verifyReads,
			},
			{
				Name: "anchor", Usage: "put the end of the log of the node in -d on chain", Description: "By an operator, auditor or institution-admin of the node's institution. Nothing is sent when there is nothing new, and none that is not\n" +
					"what was anchored last and more, as where reads before its first file are missing and not anchored: exit code 6.",
				Flags: signingFlags(olderFlag()), Action: anchorReads,
			},
		},
	}
}

func olderFlag() cli.Flag {
	return &cli.StringFlag{Name: "older", Usage: "`FOLDER` with copies of files of the log that are not in the node's folder any more"}
}

// readsVerdict is what audit log verify found.
type readsVerdict struct {
	Node        string `json:"node"`
	First       uint64 `json:"first"`          // number of the first read that is kept; 0: none is
	Gone        uint64 `json:"gone,omitempty"` // up to here reads are in no file: neither they nor anchors of fewer were compared
	Count       uint64 `json:"count"`
	Digest      string `json:"digest"`
	Signed      uint64 `json:"signed"`       // reads whose signed query holds
	Certificate uint64 `json:"certificates"` // reads by client certificates, for which the node's word stands
	Backups     uint64 `json:"backups"`      // taken by the operator, or where nobody is asked; the node's word stands for them too
	Anchored    uint64 `json:"anchored"`     // reads up to the anchor; 0: there is none, or it was not asked for
	AnchorBlock uint64 `json:"anchor_block"`
	Unseen      uint64 `json:"unseen,omitempty"` // block of an anchor that was not compared, as none before it were: the node no longer has what the block held; 0: all were
	Torn        bool   `json:"torn"`
}

// readsFolder is where the log of a node is.
type readsFolder struct {
	suite keys.Suite
	chain keys.Digest
	group ledger.GroupID
	dirs  []string        // also that with older files
	node  identity.NodeID // as the first file says
	begun bool            // there is one
}

// findReads finds the log of the node in -d, and whose it is.
func findReads(c *cli.Context) (*readsFolder, error) {
	genesis, suite, err := trustedGenesis(filepath.Join(c.String("dir"), GenesisFile))
	if err != nil {
		return nil, err
	}
	l := &readsFolder{suite: suite, chain: genesis.Hash(suite), group: genesis.Group}
	dir := filepath.Join(c.String("dir"), "data", string(genesis.Group), node.ReadsDir)
	if _, err := os.Stat(dir); err != nil {
		return nil, withCode(ExitNotFound, fmt.Errorf("the node in %s has no log of reads: it makes one when it first runs with an API", c.String("dir")))
	}
	l.dirs = []string{dir}
	if older := c.String("older"); older != "" {
		if _, err := os.Stat(older); err != nil {
			return nil, withCode(ExitNotFound, fmt.Errorf("--older: %w", err))
		}
		l.dirs = append(l.dirs, older)
	}
	head, err := audit.FirstReadHead(state.OS(), l.dirs)
	switch {
	case errors.Is(err, audit.ErrLog):
		return nil, withCode(ExitInvalid, err)
	case err != nil:
		return nil, err
	case head != nil && head.Chain != l.chain:
		return nil, withCode(ExitInvalid, fmt.Errorf("the log is of chain %s, and the genesis in the folder of %s", head.Chain, l.chain))
	case head != nil:
		l.node, l.begun = head.Node, true
	}
	return l, nil
}

// walk checks the log and visits its reads.
func (l *readsFolder) walk(visit func(r *audit.Read, digest keys.Digest) error) (*audit.ReadsReport, *readsVerdict, error) {
	v := &readsVerdict{}
	report, err := audit.WalkReads(l.suite, state.OS(), l.dirs, func(one *audit.Read, digest keys.Digest) error {
		switch {
		case len(one.Query) == 0 && (slices.Contains(one.Roles, string(identity.Regulator)) || slices.Contains(one.Roles, string(identity.Auditor))):
			v.Certificate++
		case len(one.Query) == 0:
			v.Backups++
		default:
			q := new(client.Query)
			err := ledger.Unmarshal(one.Query, q)
			if err == nil {
				err = q.Verify(l.suite, l.chain, l.group, one.Method, one.Whole)
			}
			if whole := client.QueryURI(l.suite, one.URI); err == nil && len(one.URI) < audit.MaxURI-utf8.UTFMax && whole != one.Whole { // nothing was cut off
				err = errors.New("the digest of its path is another")
			}
			if err == nil && (q.Account.String() != one.Name || q.Body != one.Body) {
				err = errors.New("it is of another account or request")
			}
			if err != nil {
				return fmt.Errorf("%w: the signed query of read %d, by %s: %w", audit.ErrLog, one.Number, one.Name, err)
			}
			v.Signed++
		}
		return visit(one, digest)
	})
	if errors.Is(err, audit.ErrLog) {
		err = withCode(ExitInvalid, err)
	}
	v.Node, v.First, v.Gone, v.Count, v.Digest, v.Torn = report.Node.String(), report.First, report.Gone, report.Count, report.Last.String(), report.Torn
	return &report, v, err
}

// anchorArgs returns the digest by which audit records tell of an anchor of the log.
func (l *readsFolder) anchorArgs(count uint64, digest keys.Digest) (keys.Digest, error) {
	args, err := ledger.Marshal(&precompiles.AnchorArgs{Log: audit.ReadsName(l.node), Count: count, Digest: digest})
	return precompiles.AuditArgs(l.suite, args), err
}

// knownReads are the anchors that a log would have of each read that is there, and of those before them: up to which read, by the digest of their arguments.
type knownReads map[keys.Digest]uint64

// readDoc is a read in the output of audit log show.
type readDoc struct {
	Number      uint64        `json:"number"`
	Time        int64         `json:"time"`
	Height      ledger.Height `json:"height"`
	Name        string        `json:"name"`
	Institution string        `json:"institution"`
	Means       string        `json:"means,omitempty"` // query, certificate, token or operator; empty: nobody was asked
	Roles       []string      `json:"roles"`
	Request     string        `json:"request"`
	Digest      keys.Digest   `json:"digest"` // of the path with parameters, of which request may have the beginning alone
	Body        keys.Digest   `json:"body"`   // client.QueryBody of the body, which the log does not have
	Signed      bool          `json:"signed"`
}

func showReads(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	l, err := findReads(c)
	if err != nil {
		return err
	}
	docs := []readDoc{}
	_, _, err = l.walk(func(r *audit.Read, _ keys.Digest) error {
		docs = append(docs, readDoc{Number: r.Number, Time: r.UnixMilli, Height: r.Head, Name: r.Name, Institution: r.Institution, Means: r.Means, Roles: r.Roles, Request: r.Method + " " + r.URI, Digest: r.Whole, Body: r.Body, Signed: len(r.Query) > 0})
		return nil
	})
	if err != nil {
		return err
	}
	return show(c, docs, func(w io.Writer) {
		row(w, "read", "time", "who", "by", "of", "as", "asked")
		for _, d := range docs {
			row(w, d.Number, timeText(d.Time), d.Name, orDash(d.Means), d.Institution, strings.Join(d.Roles, ", "), shorten(d.Request))
		}
	})
}

// anchoredLog is what the chain says of a log of reads.
type anchoredLog struct {
	institution string              // of the node
	anchor      *precompiles.Anchor // the newest; nil: there is none
}

// count returns up to which read the log is anchored.
func (a *anchoredLog) count() uint64 {
	if a.anchor == nil {
		return 0
	}
	return a.anchor.Count
}

// anchoredLog asks for the newest anchor of a log, before the log is read: what is anchored while it is read may be of reads that were not seen.
func (r *remote) anchoredLog(l *readsFolder) (*anchoredLog, error) {
	if !l.begun { // there may have been files
		cards, err := readCards(l.suite, []string{filepath.Join(r.c.String("dir"), MemberFile)})
		if err != nil {
			return nil, err
		}
		l.node = cards[0].Node
	}
	nodes, err := members.Nodes(r.ctx, r.Client)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(nodes, func(n precompiles.ListedNode) bool { return n.Node == l.node })
	if i < 0 {
		return nil, withCode(ExitNotFound, fmt.Errorf("the chain knows no node %s", l.node))
	}
	on := &anchoredLog{institution: nodes[i].Row.Institution}
	on.anchor, err = members.Anchored(r.ctx, r.Client, on.institution, audit.ReadsName(l.node))
	return on, err
}

func verifyReads(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	l, err := findReads(c)
	if err != nil {
		return err
	}
	var on *anchoredLog
	known, told := knownReads{}, "not asked for"
	know := func(count uint64, digest keys.Digest) error {
		if c.Bool("offline") {
			return nil
		}
		args, err := l.anchorArgs(count, digest)
		known[args] = count
		return err
	}
	if !c.Bool("offline") {
		err = talk(c, func(r *remote) error {
			on, err = r.anchoredLog(l)
			return err
		})
	}
	if err != nil {
		return err
	}
	report, v, err := l.walk(func(one *audit.Read, digest keys.Digest) error { return know(one.Number, digest) })
	if err == nil {
		err = know(report.Gone, report.Base)
	}
	if err != nil {
		return err
	}
	if !c.Bool("offline") {
		err = talk(c, func(r *remote) error {
			told, err = r.compareAnchor(l, report, v, on, known)
			return err
		})
	}
	if err != nil {
		return err
	}
	return show(c, v, func(w io.Writer) {
		row(w, "reads", fmt.Sprintf("%d, kept from %d on", v.Count, v.First))
		row(w, "chain", "whole: "+v.Digest)
		row(w, "signed", fmt.Sprintf("%d by accounts, whose signatures hold; %d by certificate", v.Signed, v.Certificate))
		if v.Backups > 0 {
			row(w, "backups", fmt.Sprintf("%d by the operator, or whoever is on the node's machine", v.Backups))
		}
		row(w, "anchor", told)
		if v.Torn {
			row(w, "torn", "behind the last read is a torn one, which was not answered")
		}
	})
}

// compareAnchor compares a log with its anchors on chain, and says in words what came of it.
func (r *remote) compareAnchor(l *readsFolder, report *audit.ReadsReport, v *readsVerdict, on *anchoredLog, known knownReads) (string, error) {
	anchor := on.anchor
	switch {
	case anchor == nil && report.Count == 0:
		return "nothing to anchor", nil
	case on.count() < report.Gone:
		return "", r.untied(l, report, on)
	case anchor == nil:
		return "none: run `fondaco audit log anchor`", nil
	case anchor.Count > report.Count:
		return "", errCutOff(anchor.Height, anchor.Count, report)
	}
	args, err := l.anchorArgs(anchor.Count, anchor.Digest)
	if err != nil {
		return "", err
	}
	if _, holds := known[args]; !holds {
		return "", errRewritten(anchor.Height, anchor.Count)
	}
	unseen, err := r.compareAnchors(l, report, on, known)
	if err != nil {
		return "", err
	}
	v.Anchored, v.AnchorBlock, v.Unseen = anchor.Count, uint64(anchor.Height), uint64(unseen)
	told := fmt.Sprintf("holds up to read %d, by block %d of %s", anchor.Count, anchor.Height, on.institution)
	if unseen > 0 {
		told += fmt.Sprintf("; the anchor of block %d and those before it are not compared, as the node no longer has what that block held: ask one that was not pruned, by --api", unseen)
	}
	if report.Gone > 0 {
		told += fmt.Sprintf("; reads up to %d are in no file here, so nothing shows what they were, nor that anchors of fewer are of this log: name the folder with copies of these files by --older", report.Gone)
	}
	return told, nil
}

// untied refuses a log of which more reads are gone than are anchored: its files begin with what somebody says that came before. A node deletes none of them,
// and a log that is begun anew follows the newest anchor.
func (r *remote) untied(l *readsFolder, report *audit.ReadsReport, on *anchoredLog) error {
	now, err := r.anchoredLog(l)
	if err != nil {
		return err
	}
	if now.count() >= report.Gone {
		return errors.New("while the log was read somebody anchored it, and the node deleted files: run the command again")
	}
	return withCode(ExitInvalid, fmt.Errorf("the chain anchors the log up to read %d, and the files begin with read %d: no node deletes those between, and nothing shows that these are what followed. "+
		"If the node that was asked lacks blocks (`fondaco status`), ask another one by --api. Name the folder with copies of the older files by --older. If there are none, keep this log for the inquiry, and move it away for the node to go on after read %d", on.count(), report.Gone+1, on.count()))
}

func errCutOff(h ledger.Height, count uint64, report *audit.ReadsReport) error {
	return withCode(ExitInvalid, fmt.Errorf("block %d anchors %d reads, and the log has %d: its end was cut off", h, count, report.Count))
}

func errRewritten(h ledger.Height, count uint64) error {
	return withCode(ExitInvalid, fmt.Errorf("block %d anchors another log up to read %d: one of the reads up to there was changed", h, count))
}

// compareAnchors compares a log with its anchors, from that which was the newest before it was read back to the first of no more reads than are gone: who changes
// reads that are anchored can anchor what he made of them as soon as it has more reads. unseen is the block of an anchor whose transaction the node no longer has,
// with which the comparison ended, as it may be of fewer reads than are gone; 0: there was none.
func (r *remote) compareAnchors(l *readsFolder, report *audit.ReadsReport, on *anchoredLog, known knownReads) (unseen ledger.Height, err error) {
	contract := precompiles.AuditAddress
	q := client.AuditQuery{Contract: &contract, Method: "anchor", Institution: on.institution, Object: audit.ReadsName(l.node), To: on.anchor.Height, Limit: 100}
	for {
		page, err := r.Audit(r.ctx, q)
		if err != nil {
			return 0, err
		}
		for i := range page.Records {
			one := &page.Records[i]
			if one.Status != ledger.OK.String() || one.Undone {
				continue
			}
			count, holds := known[one.Args]
			if !holds {
				tx, err := r.Lookup(r.ctx, one.Tx, 0, false)
				var args precompiles.AnchorArgs
				switch problem, ok := errors.AsType[*client.Problem](err); {
				case ok && (problem.Status == http.StatusGone || problem.Code == client.CodeNotFound): // it was pruned, or began with the state of others
					if report.Gone == 0 { // the log has every read, and nothing in it makes these arguments
						return 0, withCode(ExitInvalid, fmt.Errorf("block %d anchors another log: reads of this one were changed or cut off", one.Height))
					}
					return one.Height, nil
				case err != nil:
					return 0, err
				}
				if err := ledger.Unmarshal(tx.Args, &args); err != nil {
					return 0, fmt.Errorf("the arguments of transaction %s: %w", one.Tx, err)
				}
				switch count = args.Count; {
				case count > report.Count:
					return 0, errCutOff(one.Height, count, report)
				case count >= report.Gone:
					return 0, errRewritten(one.Height, count)
				}
			}
			if count <= report.Gone { // the others are of fewer
				return 0, nil
			}
		}
		if !page.More {
			return 0, nil
		}
		q.Before = page.Before
	}
}

func anchorReads(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	l, err := findReads(c)
	if err != nil {
		return err
	}
	nothing := func() error {
		note(c, "Nobody to whom nothing is private has asked this node anything, and nobody took a backup, so there is nothing to anchor.")
		return nil
	}
	if !l.begun {
		return nothing()
	}
	var on *anchoredLog
	if err := talk(c, func(r *remote) error {
		on, err = r.anchoredLog(l)
		return err
	}); err != nil {
		return err
	}
	last := on.anchor
	var there, end keys.Digest // stand for what is anchored, and for all
	report, _, err := l.walk(func(one *audit.Read, digest keys.Digest) error {
		if end = digest; one.Number == on.count() {
			there = digest
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case report.Count == 0 && last == nil:
		return nothing()
	case on.count() == report.Gone:
		there = report.Base
	}
	return talk(c, func(r *remote) error {
		switch {
		case on.count() < report.Gone:
			return r.untied(l, report, on)
		case on.count() > report.Count:
			return withCode(ExitInvalid, fmt.Errorf("block %d anchors %d reads, and the log has %d: its end was cut off, or the node began another before it knew of the anchor; keep it for the inquiry, and move it away for the node to go on after read %d", last.Height, last.Count, report.Count, last.Count))
		case last != nil && there != last.Digest:
			return withCode(ExitInvalid, fmt.Errorf("block %d anchors another log up to read %d: keep this one for the inquiry, and move it away for the node to go on after read %d", last.Height, last.Count, last.Count))
		case on.count() == report.Count:
			note(c, "All %d reads are anchored since block %d.", last.Count, last.Height)
			return nil
		}
		return r.transact(precompiles.AuditAddress, "anchor", &precompiles.AnchorArgs{Log: audit.ReadsName(l.node), Count: report.Count, Digest: end}, nil)
	})
}
