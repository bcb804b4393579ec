package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func recoverCommand() *cli.Command {
	out := func(usage string) cli.Flag {
		return &cli.StringFlag{Name: "out", Usage: "`FILE` to write" + usage}
	}
	flags := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{dirFlag(), outputFlag(), passphraseFlag()}, more...)
	}
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	return &cli.Command{
		Name:  "recover",
		Usage: "go on after a disaster in which so many members are gone for good that no quorum is left",
		Description: "All surviving nodes are stopped, and stay so until the end:\n\n" +
			"  1. Each survivor: fondaco recover report --out NAME.report, and sends the file to the others.\n" +
			"  2. One of them: fondaco recover propose --report NAME.report… --remove NODE… --reason TEXT --out recovery.cbor\n" +
			"     (with --observe member.json, and --found NAME=KEY if its institution is new, for each node that takes a place).\n" +
			"  3. Each survivor that stays: fondaco recover sign recovery.cbor. It reads what it gives up, and says yes.\n" +
			"  4. Each node, also those that join: fondaco recover apply recovery.cbor… (all signed copies), then fondaco run.\n\n" +
			"Nothing that clients were told is lost as long as fewer members than a quorum make no report, and those who report\n" +
			"tell the truth. The nodes that are removed must never run again: if they are enough for a quorum, they would go\n" +
			"on with a chain of their own.\n" +
			"Who verifies the chain later needs the hash of the recovery block, besides the genesis: fondaco verify --recovery HASH.",
		Subcommands: []*cli.Command{
			{
				Name: "report", Usage: "write what this node knows of the end of its chain, signed with its key", Flags: flags(out("")),
				Action: func(c *cli.Context) error { return stopped(c, 0, "", recoverReport, "out FILE") },
			},
			{
				Name: "propose", Usage: "make the recovery of the survivors' reports", Flags: flags(
					&cli.StringSliceFlag{Name: "report", Usage: "`FILE` of a survivor, this node's too. May be repeated"},
					&cli.StringSliceFlag{Name: "remove", Usage: "member `NODE` is gone for good. May be repeated"},
					&cli.StringSliceFlag{Name: "observe", Usage: "the node of a member `FILE` becomes a member. May be repeated"},
					&cli.StringSliceFlag{Name: "found", Usage: "a new institution, `NAME=KEY`; the key is that of its first account. May be repeated"},
					&cli.StringFlag{Name: "reason", Usage: "`TEXT` that says what happened; it is recorded"},
					&cli.BoolFlag{Name: "lossy", Usage: "accept that blocks may be missing of which clients were told"},
					out(""),
				),
				Action: func(c *cli.Context) error {
					return stopped(c, 0, "", recoverPropose, "report FILE", "reason TEXT", "out FILE")
				},
			},
			{
				Name: "show", Usage: "print what a recovery does and who signed it", ArgsUsage: "FILE", Flags: flags(),
				Action: func(c *cli.Context) error { return stopped(c, 1, "FILE", recoverShow) },
			},
			{
				Name: "sign", Usage: "check a recovery on this node's data and sign it; the node votes no more in the epoch that ends", ArgsUsage: "FILE",
				Flags: flags(yes,
					&cli.StringFlag{Name: "instead", Usage: "`HASH` of the recovery that this node signed before, and that nobody applies"},
					&cli.StringFlag{Name: "out", Usage: "`FILE` to write; default: the same"}),
				Action: func(c *cli.Context) error { return stopped(c, 1, "FILE", recoverSign) },
			},
			{
				Name: "apply", Usage: "go on with a recovery that all who stay have signed", ArgsUsage: "FILE…", Flags: flags(yes),
				Action: func(c *cli.Context) error { return stopped(c, -1, "FILE…", recoverApply) },
			},
		},
	}
}

// survivor is the stopped node in -d.
type survivor struct {
	*node.Stopped
	c      *cli.Context
	suite  keys.Suite
	config *node.Config
	args   []string
}

// stopped runs an action on the stopped node in -d. count is how many arguments it takes; -1: one or more. flags are those
// that it cannot do without, each followed by what its value is.
func stopped(c *cli.Context, count int, want string, action func(context.Context, *survivor) error, flags ...string) (err error) {
	least := count
	if count < 0 {
		least = 1
	}
	args, err := arguments(c, least, count, want)
	if err != nil {
		return err
	}
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, " ")
		if _, err := required(c, name, value); err != nil {
			return err
		}
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	config, err := nodeConfig(c)
	if err != nil {
		return err
	}
	config.Log = config.Log.Level(zerolog.WarnLevel)
	suite, err := keys.SuiteByName(config.Genesis.Suite)
	if err != nil {
		return err
	}
	s, err := node.OpenStopped(c.Context, *config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = action(c.Context, &survivor{Stopped: s, c: c, suite: suite, config: config, args: args})
	if errors.Is(err, group.ErrRecover) {
		err = withCode(ExitInvalid, err)
	}
	return err
}

func recoverReport(_ context.Context, s *survivor) error {
	r, err := s.Report()
	if err != nil {
		return err
	}
	file := s.c.String("out")
	if err := writeWhole(file, r); err != nil {
		return err
	}
	doc := map[string]any{
		"file": file, "node": r.Node, "epoch": r.Epoch, "height": r.Head.Order.Height, "block": r.Head.Hash(s.suite), "held": len(r.Holding.Blocks), "journal_lost": r.Lost,
	}
	return show(s.c, doc, func(w io.Writer) {
		row(w, "report", file)
		row(w, "node", r.Node)
		row(w, "final", fmt.Sprintf("block %d of epoch %d, %s", r.Head.Order.Height, r.Epoch, r.Head.Hash(s.suite)))
		for _, b := range r.Holding.Blocks {
			row(w, "may be final", fmt.Sprintf("block %d, order %s, with %d transactions", b.Order.Height, b.Order.Hash(s.suite), b.Order.TxCount))
		}
		if r.Lost {
			row(w, "journal", "LOST: the node cannot know what else it voted for, so it counts as one that made no report")
		}
		row(w, "next", "send the file to the survivor who proposes; leave this node stopped")
	})
}

func recoverPropose(ctx context.Context, s *survivor) error {
	var reports []*group.Report
	for _, path := range s.c.StringSlice("report") {
		raw, err := readBounded(path, group.MaxRecoverySize)
		if err != nil {
			return err
		}
		r, err := group.DecodeReport(raw)
		if err != nil {
			return withCode(ExitInvalid, fmt.Errorf("%s is no report of `fondaco recover report`: %w", path, err))
		}
		reports = append(reports, r)
	}
	plan := &group.Plan{Reform: precompiles.Reform{Override: s.c.String("reason")}, Lossy: s.c.Bool("lossy"), Now: s.now()}
	var err error
	if plan.Reform.Found, plan.Reform.Observe, err = newcomers(s.c, s.suite); err != nil {
		return err
	}
	for _, candidate := range plan.Reform.Observe {
		public, err := s.suite.ParsePublic(candidate.Key.Algorithm, candidate.Key.Bytes)
		if err != nil {
			return fmt.Errorf("the key of the node of %s: %w", candidate.Institution, err)
		}
		plan.Reform.Add = append(plan.Reform.Add, identity.NodeIDOf(s.suite, public))
	}
	nodes, err := s.Nodes()
	if err != nil {
		return err
	}
	for _, text := range s.c.StringSlice("remove") {
		id, err := findNode(nodes, text)
		if err != nil {
			return fmt.Errorf("--remove: %w", err)
		}
		plan.Reform.Remove = append(plan.Reform.Remove, id)
	}
	r, err := s.Propose(ctx, reports, plan)
	if err != nil {
		return err
	}
	file := s.c.String("out")
	if err := writeWhole(file, r); err != nil {
		return err
	}
	return s.tell(ctx, r, "send "+file+" to each member that stays; it runs `fondaco recover sign "+file+"`, you too")
}

func recoverShow(ctx context.Context, s *survivor) error {
	r, err := s.read()
	if err != nil {
		return err
	}
	return s.tell(ctx, r, "")
}

func recoverSign(ctx context.Context, s *survivor) error {
	r, err := s.read()
	if err != nil {
		return err
	}
	var instead keys.Digest
	if text := s.c.String("instead"); text != "" {
		if instead, err = parseDigest(text); err != nil {
			return usage("--instead: %w", err)
		}
	}
	if !s.c.Bool("yes") {
		f, err := s.Examine(ctx, r)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(s.c.App.ErrWriter, 0, 8, 2, ' ', 0)
		s.words(w, r, f)
		if err := w.Flush(); err != nil {
			return err
		}
		if err := s.confirm("Sign it, and never vote again in epoch %d with this node?", f.Before.Number); err != nil {
			return err
		}
	}
	if _, err := s.Sign(ctx, r, instead, s.now()); err != nil {
		return err
	}
	file := s.c.String("out")
	if file == "" {
		file = s.args[0]
	}
	if err := writeWhole(file, r); err != nil {
		return err
	}
	return s.tell(ctx, r, "send "+file+" to the others; when all who stay have signed, each node runs `fondaco recover apply` with all copies")
}

func recoverApply(ctx context.Context, s *survivor) error {
	r, err := s.read()
	if err != nil {
		return err
	}
	hash := r.Last().Header.Hash(s.suite)
	fmt.Fprintf(s.c.App.ErrWriter, "The chain goes on with the recovery block %d, %s.\n", r.Last().Header.Order.Height, hash)
	if err := s.confirm("Is that what the institutions agreed on?"); err != nil {
		return err
	}
	height, err := s.Apply(ctx, r)
	if err != nil {
		return err
	}
	doc := map[string]any{"recovery": hash, "at": r.Last().Header.Order.Height, "height": height}
	return show(s.c, doc, func(w io.Writer) {
		row(w, "recovery", hash)
		if at := r.Last().Header.Order.Height; height >= at {
			row(w, "applied", fmt.Sprintf("this node has block %d, which begins a new epoch", at))
		} else {
			row(w, "accepted", fmt.Sprintf("this node has block %d of %d and fetches the others when it runs", height, at))
		}
		row(w, "next", "run the node: `fondaco run`; who verifies the chain needs the hash: `fondaco verify --recovery "+hash.String()+"`")
	})
}

// now is the clock in Unix ms, as the node would have it.
func (s *survivor) now() int64 { return time.Now().Add(s.config.ClockOffset).UnixMilli() }

// read merges the files that the arguments name.
func (s *survivor) read() (*group.Recovery, error) {
	var all []*group.Recovery
	for _, path := range s.args {
		raw, err := readBounded(path, group.MaxRecoverySize)
		if err != nil {
			return nil, err
		}
		r, err := group.DecodeRecovery(s.suite, raw)
		if err != nil {
			return nil, withCode(ExitInvalid, fmt.Errorf("%s is no recovery of `fondaco recover propose`: %w", path, err))
		}
		all = append(all, r)
	}
	return all[0], all[0].Merge(s.suite, all[1:]...)
}

// confirm asks for a yes.
func (s *survivor) confirm(question string, args ...any) error {
	return confirm(s.c, question, args...)
}

// confirm asks the person at the terminal, unless --yes says that nobody is to be asked.
func confirm(c *cli.Context, question string, args ...any) error {
	if c.Bool("yes") {
		return nil
	}
	fmt.Fprint(c.App.ErrWriter, plain(fmt.Sprintf(question, args...), prose)+" Type yes: ")
	line, err := bufio.NewReader(c.App.Reader).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("not done: the answer was not yes")
	}
	return nil
}

// tell prints what a recovery does.
func (s *survivor) tell(ctx context.Context, r *group.Recovery, next string) error {
	f, err := s.Examine(ctx, r)
	if err != nil {
		return err
	}
	kept, lacking := []ledger.Height{}, []ledger.Height{}
	for _, h := range f.Kept {
		kept = append(kept, h.Order.Height)
	}
	for _, o := range f.Lacking {
		lacking = append(lacking, o.Height)
	}
	doc := map[string]any{
		"recovery": f.Last.Hash(s.suite), "height": f.Last.Order.Height, "base": f.Base, "kept": kept, "lacking": lacking, "epoch": f.After.Number, "members": f.After.Members,
		"silent": f.Silent, "signed": f.Signed, "missing": f.Missing, "lossy": f.Lossy, "forkable": f.Forkable, "reason": f.Args.Reform.Override,
	}
	return show(s.c, doc, func(w io.Writer) {
		s.words(w, r, f)
		if next != "" {
			row(w, "next", next)
		}
	})
}

// words says what a recovery changes and what it gives up.
func (s *survivor) words(w io.Writer, r *group.Recovery, f *group.Findings) {
	row(w, "recovery", fmt.Sprintf("%s, block %d at %s", f.Last.Hash(s.suite), f.Last.Order.Height, timeText(f.Last.Order.UnixMilli)))
	row(w, "because", f.Args.Reform.Override)
	row(w, "goes on from", fmt.Sprintf("block %d, the last that is final on the nodes that reported", f.Base))
	for _, h := range f.Kept {
		row(w, "keeps", fmt.Sprintf("block %d with %d transactions, which may be final elsewhere", h.Order.Height, h.Order.TxCount))
	}
	for _, o := range f.Lacking {
		row(w, "gives up", fmt.Sprintf("block %d: no report has the transactions of block %d", o.Height, f.Lacking[0].Height))
	}
	row(w, "gives up", fmt.Sprintf("what was proposed above block %d, and what waits at the nodes that are removed: clients send it again", f.Last.Order.Height-1))
	row(w, "ends", fmt.Sprintf("epoch %d with %d members, quorum %d", f.Before.Number, len(f.Before.Members), s.quorum(len(f.Before.Members))))
	for i, m := range f.Before.Members {
		if !slices.Contains(precompiles.Stay(&f.Before, &f.After), uint32(i)) {
			row(w, "", fmt.Sprintf("- member %d, %s of %s", i, m.Node, m.Institution))
		}
	}
	for _, n := range f.Args.Reform.Found {
		row(w, "", fmt.Sprintf("+ institution %s, first account with key %s", n.Name, keyText(n.Key)))
	}
	for _, m := range f.After.Members {
		if !slices.ContainsFunc(f.Before.Members, func(o ledger.Member) bool { return o.Node == m.Node }) {
			row(w, "", fmt.Sprintf("+ member %s of %s", m.Node, m.Institution))
		}
	}
	row(w, "begins", fmt.Sprintf("epoch %d with %d members, quorum %d", f.After.Number, len(f.After.Members), s.quorum(len(f.After.Members))))
	row(w, "reports of", fmt.Sprintf("%d of %d members; none, or without a journal, of %s", len(r.Reported), len(f.Before.Members), numbers(f.Silent)))
	if f.Lossy {
		row(w, "LOSS", "those without a report, or without a journal, were enough to make blocks final that are nowhere else: clients may have been told of what is missing here")
	}
	if f.Forkable {
		row(w, "DANGER", "those who sign nothing, with as many of the others as may lie, can go on by themselves: if one day they run again, there can be two chains")
	}
	row(w, "signed by", numbers(f.Signed))
	row(w, "must sign", numbers(f.Missing))
}

func (s *survivor) quorum(n int) int { return s.config.Genesis.Finality().Quorum(n) }

func numbers(members []uint32) string {
	if len(members) == 0 {
		return "nobody"
	}
	return "members " + strings.Trim(fmt.Sprint(members), "[]")
}

// readBounded reads a file of at most most bytes.
func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withCode(ExitNotFound, err)
	}
	if !info.Mode().IsRegular() { // a pipe may never end
		return nil, fmt.Errorf("%s is not a file (mode %v)", path, info.Mode())
	}
	if info.Size() > most {
		return nil, withCode(ExitInvalid, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), most))
	}
	return os.ReadFile(path)
}

// writeWhole writes the encoding of v into a file that never is half of it, nor after a power cut.
func writeWhole(path string, v any) error {
	raw, err := ledger.Marshal(v)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.Write(raw); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = putInPlace(state.OS(), path+".new", path)
	}
	return err
}
