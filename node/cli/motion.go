package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func titleFlag() cli.Flag {
	return &cli.StringFlag{Name: "title", Usage: "`TEXT` that tells others what the motion is for"}
}

func expiresFlag() cli.Flag {
	return &cli.DurationFlag{Name: "expires", Usage: "`TIME` after which nothing can come of the motion (default: as long as the settings allow)"}
}

func motionCommand() *cli.Command {
	const one = "MOTION"
	say := func(name, usage string, args func(c *cli.Context, id uint64) any, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: one, Flags: signingFlags(flags...),
			Action: func(c *cli.Context) error {
				id, err := motionArgument(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					return r.transact(precompiles.GovernanceAddress, name, args(c, id), r.tellNext(id))
				})
			},
		}
	}
	plain := func(_ *cli.Context, id uint64) any { return &precompiles.MotionArgs{ID: id} }
	dry := func(usage string) cli.Flag { return &cli.BoolFlag{Name: "dry-run", Usage: usage} }
	return &cli.Command{
		Name:  "motion",
		Usage: "propose what the institutions decide on together, and vote on it",
		Description: "Institutions that have members vote, each by an account of its own with the role committee, at its own node, with its own key.\n" +
			"What a motion takes follows from the policies of what it calls: `fondaco motion policies` prints them. It is carried as soon as the\n" +
			"votes that are missing cannot change that, and anybody of the committee executes it then, when no lock is on it any more.\n" +
			"Calls that a motion makes rest on no role of an account. Several are parted by a plus; all of them take effect, or none:\n\n" +
			"  fondaco motion propose --title 'a second auditor' access grant 0x… auditor + access revoke 0x… auditor\n" +
			"  fondaco motion propose governance set_policy contracts replace '{\"rule\":\"share\",\"n\":2,\"of\":3,…}'\n\n" +
			"`fondaco member propose` and `fondaco authority propose` make motions that change members, parameters and authorities.",
		Subcommands: []*cli.Command{
			{
				Name: "propose", Usage: "propose calls of contracts", ArgsUsage: "CONTRACT METHOD [ARG]... [+ CONTRACT METHOD [ARG]...]...",
				Flags: signingFlags(titleFlag(), expiresFlag(), dry("say what the calls would do on the node's newest state, one after the other, and send nothing"),
					&cli.StringSliceFlag{Name: "unknown-feature", Usage: "propose the feature of this `NAME` although the node's release does not have it: a chain stops for ever at a feature that no release has"}),
				Action: proposeCalls,
			},
			{Name: "list", Usage: "print all open motions", Flags: remoteFlags(), Action: func(c *cli.Context) error { return showMotions(c, false) }},
			{
				Name: "show", Usage: "print a motion, what it would change and what it lacks", ArgsUsage: one,
				Flags:  remoteFlags(dry("also say what the calls would do on the node's newest state, one after the other")),
				Action: func(c *cli.Context) error { return showMotions(c, true) },
			},
			say("vote", "vote for a motion for the sender's institution, or against it", func(c *cli.Context, id uint64) any {
				return &precompiles.VoteArgs{ID: id, For: !c.Bool("against")}
			}, &cli.BoolFlag{Name: "against", Usage: "vote against it"}),
			say("consent", "consent to a motion as a regulator", plain),
			say("veto", "end a motion as a regulator", plain),
			say("withdraw", "end a motion that the sender's institution proposed, or take its vote on another back", plain),
			{
				Name: "ready", Usage: "state that the node in -d, which a motion adds, is synced; its key signs, and any account sends it", ArgsUsage: one,
				Flags: signingFlags(), Action: stateReady,
			},
			{
				Name: "execute", Usage: "carry out a motion that is carried; one that changes members or parameters begins a new epoch", ArgsUsage: one,
				Flags: signingFlags(dry("run it on the node's newest state, and send nothing")), Action: executeMotion,
			},
			{Name: "policies", Usage: "print how motions are decided, and which policies were set", Flags: remoteFlags(), Action: showPolicies},
		},
	}
}

func motionArgument(c *cli.Context) (uint64, error) {
	args, err := arguments(c, 1, 1, "MOTION")
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return 0, usage("motion %q: want its number; `fondaco motion list` prints them", args[0])
	}
	return id, nil
}

// motionDoc is a motion in the output of motion show.
type motionDoc struct {
	ID       uint64            `json:"id"`
	Title    string            `json:"title"`
	Epoch    uint64            `json:"epoch"`
	Over     string            `json:"over,omitempty"` // why nothing can come of it any more
	Height   ledger.Height     `json:"height"`
	Block    keys.Digest       `json:"block"`
	Changes  []string          `json:"changes"`
	Reforms  bool              `json:"reforms"` // the next three are of the group after it
	Members  int               `json:"members"`
	Quorum   int               `json:"quorum"`
	Faulty   int               `json:"faulty"`
	Proposer string            `json:"proposer"` // the institution
	For      []string          `json:"for"`
	Against  []string          `json:"against"`
	Takes    []string          `json:"takes"` // of the policies, each with how far it is
	Carried  bool              `json:"carried"`
	Due      int64             `json:"due"`        // block time, Unix ms, from which on it can be carried out; 0: it is not carried
	From     ledger.Height     `json:"due_height"` // height from which on it can
	Locked   bool              `json:"locked"`     // it is carried, and that is not yet
	Expires  int64             `json:"expires"`
	Missing  []identity.NodeID `json:"not_ready"` // nodes that have not stated that they are synced
	Next     []string          `json:"next"`      // what it lacks, in words
	Trials   []string          `json:"dry_run,omitempty"`
}

// complete reports whether a motion has all that it takes.
func (d *motionDoc) complete() bool { return d.Carried && !d.Locked && len(d.Missing) == 0 }

// scene is what motions are looked at before.
type scene struct {
	chain    *client.Chain
	record   precompiles.Record
	settings precompiles.Settings
	nodes    []precompiles.ListedNode
	now      int64 // time of the last block
	height   ledger.Height
}

func (r *remote) scene() (*scene, error) {
	chain, err := r.Chain(r.ctx)
	if err != nil {
		return nil, err
	}
	s := &scene{chain: chain}
	if s.record, err = members.Record(r.ctx, r.Client); err != nil {
		return nil, err
	}
	if s.settings, err = members.Settings(r.ctx, r.Client); err != nil {
		return nil, err
	}
	if s.nodes, err = members.Nodes(r.ctx, r.Client); err != nil {
		return nil, err
	}
	status, err := r.Status(r.ctx)
	if err != nil {
		return nil, err
	}
	// On an idle chain time stands still, and the next block has that of its proposer's clock.
	s.now, s.height = max(status.BlockTime, time.Now().UnixMilli()), status.Height
	return s, nil
}

func showMotions(c *cli.Context, single bool) error {
	id := uint64(0)
	var err error
	if single {
		id, err = motionArgument(c)
	} else {
		_, err = arguments(c, 0, 0, "")
	}
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		docs, err := r.motions(func(d *precompiles.ListedMotion) bool { return id == 0 || d.ID == id })
		if err != nil {
			return err
		}
		docs = slices.DeleteFunc(docs, func(d motionDoc) bool { return id == 0 && d.Over != "" })
		if id != 0 && len(docs) == 0 {
			return withCode(ExitNotFound, fmt.Errorf("there is no motion %d: it was executed, lost, vetoed or withdrawn; `fondaco motion list` prints the open ones", id))
		}
		return show(c, docs, func(w io.Writer) {
			if len(docs) == 0 {
				row(w, "motions", "none is open")
			}
			for _, d := range docs {
				motionTable(w, &d)
			}
		})
	})
}

func motionTable(w io.Writer, d *motionDoc) {
	title := fmt.Sprintf("%d, of epoch %d, on block %d", d.ID, d.Epoch, d.Height)
	if d.Over != "" {
		title += ", OVER: it " + d.Over
	}
	row(w, "motion", title)
	if d.Title != "" {
		row(w, "title", strconv.Quote(d.Title))
	}
	row(w, "proposed by", d.Proposer)
	for _, change := range d.Changes {
		row(w, "", change)
	}
	if d.Reforms {
		row(w, "result", fmt.Sprintf("%d members, %d may fail, quorum %d", d.Members, d.Faulty, d.Quorum))
	}
	for _, trial := range d.Trials {
		row(w, "dry run", trial)
	}
	motionVotes(w, d)
	row(w, "expires", timeText(d.Expires))
	for _, next := range d.Next {
		row(w, "next", next)
	}
}

func motionVotes(w io.Writer, d *motionDoc) {
	row(w, "for", fmt.Sprintf("%s (%d)", strings.Join(d.For, ", "), len(d.For)))
	if len(d.Against) > 0 {
		row(w, "against", fmt.Sprintf("%s (%d)", strings.Join(d.Against, ", "), len(d.Against)))
	}
	for _, takes := range d.Takes {
		row(w, "takes", takes)
	}
}

// describeMotion says in words what a motion would change, and what it lacks. calls tell what it calls.
func describeMotion(s *scene, m *precompiles.ListedMotion, calls []string) motionDoc {
	d := motionDoc{
		ID: m.ID, Title: m.Row.Title, Epoch: m.Row.Epoch, Over: m.Row.Over(&s.record, s.now), Proposer: m.Row.Proposer, Height: m.Row.Height, Block: m.Row.Block,
		Expires: m.Row.Expires, Changes: []string{}, For: []string{}, Against: []string{}, Takes: []string{}, Missing: []identity.NodeID{}, Next: []string{},
	}
	if m.Row.Reform != nil {
		describeReform(&d, s, m.Row.Reform)
	}
	d.Changes = append(d.Changes, calls...)
	for _, v := range m.Row.Votes {
		if v.For {
			d.For = append(d.For, v.Institution)
		} else {
			d.Against = append(d.Against, v.Institution)
		}
	}
	for i := range m.Row.Needs {
		d.Takes = append(d.Takes, needText(&m.Row, i))
	}
	if d.Carried = m.Row.Decided != 0; d.Carried {
		d.Due, d.From = m.Row.Due()
		d.Locked = s.now < d.Due || s.height+1 < d.From
	}
	for _, node := range m.Row.Adds() {
		if !slices.ContainsFunc(m.Row.Ready, func(s precompiles.Readiness) bool { return s.Node == node }) {
			d.Missing = append(d.Missing, node)
		}
	}
	if d.Over != "" {
		d.Next = append(d.Next, "nothing comes of it any more: propose it again")
		return d
	}
	if !d.Carried {
		var others []string
		for _, v := range m.Row.Voters {
			if !slices.ContainsFunc(m.Row.Votes, func(o precompiles.Vote) bool { return o.Institution == v.Institution }) {
				others = append(others, v.Institution)
			}
		}
		if len(others) > 0 {
			d.Next = append(d.Next, fmt.Sprintf("%s: `fondaco motion vote %d`", strings.Join(others, ", "), d.ID))
		}
		if m.Row.Consent == nil && slices.ContainsFunc(m.Row.Needs, func(p precompiles.Policy) bool { return p.Regulator }) {
			d.Next = append(d.Next, fmt.Sprintf("a regulator: `fondaco motion consent %d`", d.ID))
		}
	}
	for _, node := range d.Missing {
		d.Next = append(d.Next, fmt.Sprintf("the operator of node %s, once it is synced, runs `fondaco motion ready %d -d DIR --from ACCOUNT --key FILE`, of any account", node.Short(), d.ID))
	}
	if d.Locked {
		d.Next = append(d.Next, fmt.Sprintf("wait: it is locked until %s, and block %d", timeText(d.Due), d.From))
	}
	if d.complete() {
		d.Next = append(d.Next, fmt.Sprintf("one of %s runs `fondaco motion execute %d`", strings.Join(institutions(s.chain), ", "), d.ID))
	}
	return d
}

// needText says what a policy takes of a motion, and what of that is there.
func needText(m *precompiles.Motion, need int) string {
	p := m.Needs[need]
	votes := m.Count(need)
	text := p.String()
	if p.Rule == precompiles.RuleMajority {
		text = strings.Replace(text, "majority", fmt.Sprintf("more than %d %% of the institutions' weight", m.Approval), 1)
	}
	if m.Participation > 0 {
		text += fmt.Sprintf(", at least %d %% vote", m.Participation)
	}
	text += fmt.Sprintf(": %d of %d are for it", votes.For, votes.All)
	if votes.Against > 0 {
		text += fmt.Sprintf(", %d against", votes.Against)
	}
	if p.Regulator && m.Consent != nil {
		text += fmt.Sprintf(", and the regulator %s consented", m.Consent)
	}
	return text
}

// describeReform says in words what a reform would change.
func describeReform(d *motionDoc, s *scene, f *precompiles.Reform) {
	d.Reforms, d.Members = true, len(s.chain.Members)+len(f.Add)-len(f.Remove)
	finality := ledger.Finality(s.chain.Engine)
	d.Quorum, d.Faulty = finality.Quorum(d.Members), finality.Faulty(d.Members)
	say := func(format string, args ...any) { d.Changes = append(d.Changes, fmt.Sprintf(format, args...)) }
	for _, n := range f.Found {
		say("+ institution %s, first account with key %s", n.Name, keyText(n.Key))
	}
	for _, n := range f.Observe {
		say("+ observer of %s at %s, key %s", n.Institution, n.Address, keyText(n.Key))
	}
	whose := func(id identity.NodeID) string {
		for _, n := range s.nodes {
			if n.Node == id && n.Row.Address != "" {
				return fmt.Sprintf("%s of %s at %s", id, n.Row.Institution, n.Row.Address)
			} else if n.Node == id {
				return fmt.Sprintf("%s of %s", id, n.Row.Institution)
			}
		}
		return id.String()
	}
	for _, n := range f.Dismiss {
		say("- observer %s", whose(n))
	}
	for _, n := range f.Add {
		say("+ member %s", whose(n))
	}
	for _, n := range f.Remove {
		number := ""
		for i, old := range s.chain.Members {
			if old.Node == n {
				number = fmt.Sprintf(", number %d", i)
			}
		}
		say("- member %s%s", whose(n), number)
	}
	if f.Params != nil {
		for _, p := range paramChanges(&s.chain.Params, f.Params) {
			say("~ %s", p)
		}
	}
	d.Changes = append(d.Changes, trustChanges(f)...)
	if f.Override != "" {
		say("! below the least number of members, because: %s", f.Override)
	}
}

// callTexts says in words what the calls of a motion would change: policies and settings with what they are now, others with
// their arguments.
func (r *remote) callTexts(s *scene, actions []precompiles.Action) ([]string, error) {
	var texts []string
	for i := range actions {
		text, err := r.actionText(s, &actions[i])
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func (r *remote) actionText(s *scene, a *precompiles.Action) (string, error) {
	schema, err := r.schema(a.To)
	if err != nil {
		return "", err
	}
	name := a.To.String()
	if schema != nil && precompiles.IsSystem(a.To) {
		name = schema.Name
	}
	text := fmt.Sprintf("~ %s.%s", name, a.Method)
	if node := s.ratified(a); node != nil {
		text += fmt.Sprintf(" node=%s of %s", node.Node, node.Row.Institution)
	}
	if a.To == precompiles.GovernanceAddress {
		var (
			policy   precompiles.SetPolicyArgs
			settings precompiles.SetSettingsArgs
		)
		switch {
		case a.Method == "set_policy" && ledger.Unmarshal(a.Args, &policy) == nil:
			return r.policyChange(&policy)
		case a.Method == "set_settings" && ledger.Unmarshal(a.Args, &settings) == nil:
			return text + " " + settingsChange(&s.settings, &settings), nil
		}
	}
	if schema == nil {
		return text + " 0x" + fmt.Sprintf("%x", a.Args), nil
	}
	fields, err := schema.DecodeArgs(a.Method, a.Args)
	if err != nil {
		return text + fmt.Sprintf(" 0x%x, which are no arguments of it: %v", a.Args, err), nil
	}
	for _, f := range fields {
		value, err := json.Marshal(f.Value)
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf(" %s=%s", f.Name, shorten(string(value)))
	}
	return text, nil
}

// ratified returns the node whose freeze a call ratifies, of whose id it has the beginning alone; nil: it is no such call.
func (s *scene) ratified(a *precompiles.Action) *precompiles.ListedNode {
	var args precompiles.RatifyArgs
	if a.To != precompiles.AccessAddress || a.Method != "ratify" || ledger.Unmarshal(a.Args, &args) != nil {
		return nil
	}
	for i := range s.nodes {
		if place := precompiles.NodePlace(s.nodes[i].Node); place.Address == args.Address && place.Method == args.Method {
			return &s.nodes[i]
		}
	}
	return nil
}

func (r *remote) policyChange(p *precompiles.SetPolicyArgs) (string, error) {
	contract := p.Contract.String()
	for _, c := range precompiles.All() {
		if c.Address() == p.Contract {
			contract = c.Name()
		}
	}
	before, err := members.Policy(r.ctx, r.Client, p.Contract, p.Method)
	if err != nil {
		return "", err
	}
	after := p.Policy
	if after == nil {
		if d, found := precompiles.DefaultPolicy(p.Contract, p.Method); found {
			after = &d
		}
	}
	words := func(p *precompiles.Policy) string {
		if p == nil {
			return "the contract decides"
		}
		return p.String()
	}
	return fmt.Sprintf("~ policy of %s.%s: %s → %s", contract, p.Method, words(before), words(after)), nil
}

func settingsChange(before *precompiles.Settings, after *precompiles.SetSettingsArgs) string {
	var changes []string
	change := func(name string, was, is any) {
		if a, b := fmt.Sprint(was), fmt.Sprint(is); a != b {
			changes = append(changes, fmt.Sprintf("%s %s → %s", name, a, b))
		}
	}
	change("approval", before.Approval, after.Approval)
	change("participation", before.Participation, after.Participation)
	change("motions", before.Motions, after.Motions)
	change("lifetime", before.Lifetime, after.Lifetime)
	change("window", before.Window, after.Window)
	change("weights", weightsText(before.Weights), weightsText(after.Weights))
	if len(changes) == 0 {
		return "(as they are)"
	}
	return strings.Join(changes, ", ")
}

func weightsText(weights []precompiles.Weight) string {
	if len(weights) == 0 {
		return "1 each"
	}
	var texts []string
	for _, w := range weights {
		texts = append(texts, fmt.Sprintf("%s %d", w.Institution, w.Weight))
	}
	return strings.Join(texts, ", ")
}

// trials runs the calls of a motion on the node's newest state, as the motion would make them: in their order, each on what those
// before it left.
func (r *remote) trials(reform *precompiles.Reform, actions []precompiles.Action) ([]string, error) {
	var calls []client.MotionCall
	if reform != nil {
		args, err := ledger.Marshal(&precompiles.ReformArgs{Reform: *reform})
		if err != nil {
			return nil, err
		}
		calls = append(calls, client.MotionCall{To: precompiles.MembersAddress, Method: "reform", Args: args})
	}
	for _, a := range actions {
		calls = append(calls, client.MotionCall{To: a.To, Method: a.Method, Args: a.Args})
	}
	trial, err := r.TryMotion(r.ctx, calls)
	if err != nil {
		return nil, err
	}
	var texts []string
	for i, result := range trial.Calls {
		method := calls[i].Method
		if result.Status == ledger.OK.String() {
			texts = append(texts, fmt.Sprintf("%s: ok, %d gas, %d events, on block %d", method, result.Gas, len(result.Events), trial.Height))
			continue
		}
		text := fmt.Sprintf("%s: %s: %s", method, outcomeText(result.Status, result.Code, result.Error), strings.TrimSpace(result.Trace))
		if len(calls) > 1 {
			text += fmt.Sprintf("; with this, call %d of %d, the motion ends, and nothing that it did stays", i+1, len(calls))
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// proposeCalls makes a motion of the calls that the arguments spell.
func proposeCalls(c *cli.Context) error {
	words, err := arguments(c, 2, -1, "CONTRACT METHOD [ARG]...")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		a := &precompiles.ProposeArgs{}
		for len(words) > 0 {
			call := words
			if at := slices.Index(words, "+"); at >= 0 {
				call, words = words[:at], words[at+1:]
			} else {
				words = nil
			}
			if len(call) < 2 {
				return usage("a call of %q: want CONTRACT METHOD [ARG]..., and a plus between calls", strings.Join(call, " "))
			}
			to, err := r.contract(call[0])
			if err != nil {
				return err
			}
			schema, err := r.schema(to)
			if err != nil {
				return err
			}
			args, err := r.encode(schema, call[1], call[2:])
			if err != nil {
				return err
			}
			a.Actions = append(a.Actions, precompiles.Action{To: to, Method: call[1], Args: args})
		}
		if err := r.knowFeatures(a.Actions); err != nil {
			return err
		}
		if c.Bool("dry-run") {
			s, err := r.scene()
			if err != nil {
				return err
			}
			changes, err := r.callTexts(s, a.Actions)
			if err != nil {
				return err
			}
			trials, err := r.trials(nil, a.Actions)
			if err != nil {
				return err
			}
			return show(c, map[string]any{"changes": changes, "dry_run": trials}, func(w io.Writer) {
				for _, change := range changes {
					row(w, "", change)
				}
				for _, trial := range trials {
					row(w, "dry run", trial)
				}
			})
		}
		return r.propose(a)
	})
}

// knowFeatures refuses calls that begin a feature which the node's release does not have, unless the flag names it.
func (r *remote) knowFeatures(actions []precompiles.Action) error {
	for _, a := range actions {
		if a.To != precompiles.ConfigAddress || a.Method != "activate_feature" {
			continue
		}
		var args precompiles.ActivateArgs
		if err := ledger.Unmarshal(a.Args, &args); err != nil {
			return err
		}
		if args.Height == 0 || slices.Contains(r.c.StringSlice("unknown-feature"), args.Feature) {
			continue
		}
		status, err := r.Status(r.ctx)
		if err != nil {
			return err
		}
		if !slices.Contains(status.Knows, args.Feature) {
			return usage("the node's release, %s, does not have the feature %q; it has %s. At a feature that no release has, because its name is misspelt, the chain stops for ever: look at the name, and ask a node that has release %s. "+
				"If it is right, say so with --unknown-feature %s", status.Version, args.Feature, strings.Join(status.Knows, ", "), args.Release, args.Feature)
		}
	}
	return nil
}

// propose makes a motion, with the title and the expiry of the flags, and tells what it lacks.
func (r *remote) propose(a *precompiles.ProposeArgs) error {
	a.Title = r.c.String("title")
	if d := r.c.Duration("expires"); d != 0 {
		if d < 0 {
			return usage("--expires %s: want a time above zero, such as 48h", d)
		}
		a.Expires = time.Now().Add(d).UnixMilli()
	}
	return r.transact(precompiles.GovernanceAddress, "propose", a, func(tx *client.Transaction, w io.Writer) {
		var id uint64
		if ledger.Unmarshal(tx.Receipt.Data, &id) == nil {
			row(w, "motion", id)
			r.tellNext(id)(tx, w)
		}
	})
}

// stateReady signs with the key of the node in -d that it has the block which a motion names, after that node said so.
func stateReady(c *cli.Context) error {
	id, err := motionArgument(c)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		suite, err := r.Suite(r.ctx)
		if err != nil {
			return err
		}
		dir := c.String("dir")
		file, err := ReadConfig(dir)
		if err != nil {
			return err
		}
		key, err := nodeKey(c, dir, file, suite)
		if err != nil {
			return err
		}
		args, err := members.Ready(r.ctx, r.Client, key, id)
		switch {
		case errors.Is(err, members.ErrNode):
			return usage("%w; name the folder of the node that motion %d adds with -d", err, id)
		case errors.Is(err, members.ErrFork):
			return withCode(ExitInvalid, err)
		case errors.Is(err, members.ErrBehind):
			return withCode(ExitNotFound, fmt.Errorf("%w; try again when it has the blocks, `fondaco status` tells how far it is, and `fondaco motion show %d` on a member whether the motion is open", err, id))
		case err != nil:
			return err
		}
		return r.transact(precompiles.GovernanceAddress, "ready", args, r.tellNext(id))
	})
}

// tellNext tells what a motion still lacks.
func (r *remote) tellNext(id uint64) func(*client.Transaction, io.Writer) {
	return func(tx *client.Transaction, w io.Writer) {
		for _, e := range tx.Receipt.Events {
			if e.Contract == precompiles.GovernanceAddress && (e.Topic == "carried" || e.Topic == "lost" || e.Topic == "vetoed") {
				row(w, "motion "+strconv.FormatUint(id, 10), e.Topic)
			}
		}
		docs, err := r.motions(func(m *precompiles.ListedMotion) bool { return m.ID == id })
		if err != nil || len(docs) == 0 {
			return // what was asked for is done
		}
		motionVotes(w, &docs[0])
		for _, next := range docs[0].Next {
			row(w, "next", next)
		}
	}
}

// motions returns those of all motions that are wanted.
func (r *remote) motions(want func(*precompiles.ListedMotion) bool) ([]motionDoc, error) {
	s, err := r.scene()
	if err != nil {
		return nil, err
	}
	all, err := members.Motions(r.ctx, r.Client)
	if err != nil {
		return nil, err
	}
	docs := []motionDoc{}
	for i := range all {
		if !want(&all[i]) {
			continue
		}
		calls, err := r.callTexts(s, all[i].Row.Actions)
		if err != nil {
			return nil, err
		}
		d := describeMotion(s, &all[i], calls)
		if r.c.Bool("dry-run") && r.c.Command.Name == "show" {
			if d.Trials, err = r.trials(all[i].Row.Reform, all[i].Row.Actions); err != nil {
				return nil, err
			}
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// supportPatience is how long a node may be behind the one at which a motion was voted on last.
const supportPatience = 3 * time.Second

// awaitSupport waits a little for what a motion lacks: who voted last did so at another node, perhaps a moment ago.
// The chain judges whether that is enough. It returns the motion, or nil when the node knows none.
func (r *remote) awaitSupport(id uint64) (*precompiles.Motion, error) {
	for until := time.Now().Add(supportPatience); ; {
		s, err := r.scene()
		if err != nil {
			return nil, err
		}
		all, err := members.Motions(r.ctx, r.Client)
		if err != nil {
			return nil, err
		}
		var found *precompiles.Motion
		for i := range all {
			if all[i].ID == id {
				found = &all[i].Row
				if d := describeMotion(s, &all[i], nil); d.Over != "" || d.complete() {
					return found, nil
				}
			}
		}
		if time.Now().After(until) {
			return found, nil
		}
		select {
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// executeMotion carries a motion out and tells the accounts of the institutions that it founded.
func executeMotion(c *cli.Context) error {
	id, err := motionArgument(c)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		m, err := r.awaitSupport(id)
		if err != nil {
			return err
		}
		if m == nil {
			return withCode(ExitNotFound, fmt.Errorf("there is no motion %d, or no more: `fondaco motion list` prints the open ones", id))
		}
		method := "execute"
		var names []string
		if m.Reform != nil {
			method = "activate"
			for _, f := range m.Reform.Found {
				names = append(names, f.Name)
			}
		}
		args := &precompiles.MotionArgs{ID: id}
		if c.Bool("dry-run") {
			encoded, err := ledger.Marshal(args)
			if err != nil {
				return err
			}
			return r.try(called{contract: precompiles.GovernanceAddress, to: ledger.Target{Address: precompiles.GovernanceAddress}, method: method, args: encoded}, true)
		}
		return r.transact(precompiles.GovernanceAddress, method, args, func(tx *client.Transaction, w io.Writer) {
			row(w, "motion "+strconv.FormatUint(id, 10), "executed")
			for _, e := range tx.Receipt.Events {
				var fields struct {
					Founded []ledger.Address `json:"founded"`
				}
				if e.Topic != "reformed" || json.Unmarshal(e.Decoded, &fields) != nil || len(fields.Founded) != len(names) {
					continue
				}
				for i, address := range fields.Founded {
					row(w, "founded", fmt.Sprintf("%s, whose first account is %s: --from of its transactions", names[i], address))
				}
			}
			if m.Reform != nil {
				row(w, "next", "`fondaco member list` prints the nodes as they are now")
			}
		})
	})
}

// policiesDoc is the output of motion policies.
type policiesDoc struct {
	Settings precompiles.Settings `json:"settings"`
	Policies []policyDoc          `json:"policies"`
}

type policyDoc struct {
	Contract string        `json:"contract"`
	Method   string        `json:"method"`
	Policy   string        `json:"policy"`
	Number   uint64        `json:"number"` // of the change that set it; 0: it is that of the release
	Height   ledger.Height `json:"height"`
}

// showPolicies prints the policies of all methods of system contracts, and those that were set for others.
func showPolicies(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		settings, err := members.Settings(r.ctx, r.Client)
		if err != nil {
			return err
		}
		set, err := members.Policies(r.ctx, r.Client)
		if err != nil {
			return err
		}
		doc := policiesDoc{Settings: settings, Policies: []policyDoc{}}
		for _, contract := range precompiles.All() {
			for _, m := range contract.Schema().Methods {
				if m.Kind != ledger.MethodTx {
					continue
				}
				d := policyDoc{Contract: contract.Name(), Method: m.Name}
				p, _ := precompiles.DefaultPolicy(contract.Address(), m.Name)
				if at := slices.IndexFunc(set, func(l precompiles.ListedPolicy) bool { return l.Contract == contract.Address() && l.Method == m.Name }); at >= 0 {
					p, d.Number, d.Height = set[at].Row.Policy, set[at].Row.Number, set[at].Row.Height
				}
				d.Policy = p.String()
				doc.Policies = append(doc.Policies, d)
			}
		}
		for _, l := range set {
			if !precompiles.IsSystem(l.Contract) {
				doc.Policies = append(doc.Policies, policyDoc{Contract: l.Contract.String(), Method: l.Method, Policy: l.Row.Policy.String(), Number: l.Row.Number, Height: l.Row.Height})
			}
		}
		return show(c, doc, func(w io.Writer) {
			row(w, "motions", fmt.Sprintf("more than %d %% of the weight must be for one, and %d %% vote; %d of an institution may be open, for %s", settings.Approval, settings.Participation,
				settings.Motions, time.Duration(settings.Lifetime)*time.Millisecond))
			row(w, "window", fmt.Sprintf("%s for regulators between decision and execution", time.Duration(settings.Window)*time.Millisecond))
			row(w, "weights", weightsText(settings.Weights))
			for _, p := range doc.Policies {
				text := p.Policy
				if p.Number > 0 {
					text += fmt.Sprintf(" (set at height %d)", p.Height)
				}
				row(w, p.Contract+"."+p.Method, text)
			}
		})
	})
}
