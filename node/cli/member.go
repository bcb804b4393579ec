package cli

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
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

func memberCommand() *cli.Command {
	const one = "MOTION"
	act := func(name, usage, method string) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: one, Flags: signingFlags(),
			Action: func(c *cli.Context) error {
				id, err := motionArgument(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					encoded, err := ledger.Marshal(&precompiles.MotionArgs{ID: id})
					if err != nil {
						return err
					}
					return r.transact(precompiles.MembersAddress, method, encoded, r.tellNext(id))
				})
			},
		}
	}
	return &cli.Command{
		Name:  "member",
		Usage: "list the group's nodes, and change members and parameters",
		Description: "More than half of the members' institutions must approve a change, each by an account with the role committee:\n\n" +
			"  1. The new node's operator makes its folder, key and request: fondaco join-request -d DIR --institution NAME --listen HOST:PORT\n" +
			"     (with --account KEY, the key of its first account, if the institution is new) and gives DIR/join-request.pem to a member, who\n" +
			"     proposes it as an observer: fondaco member propose --observe join-request.pem. Others look at the motion with\n" +
			"     `member show MOTION` and run `member approve MOTION`; when enough of them have, one runs `member activate MOTION`.\n" +
			"  2. A member invites it: fondaco invitation new join-request.pem --out FILE. The operator completes the folder and runs the\n" +
			"     node, which fetches all blocks, or a recent state: fondaco init -d DIR --from FILE --chain ID, then fondaco run -d DIR\n" +
			"  3. It becomes a member: fondaco member propose --add NODE [--remove OTHER]\n" +
			"     Its operator states that it is synced: fondaco member ready MOTION -d DIR --from ACCOUNT --key FILE, of any account.\n" +
			"     Then the others approve and one activates, as before.\n\n" +
			"A member is removed by member propose --remove NODE and goes on as an observer; --dismiss sends an observer away.\n" +
			"A motion is void once another one was activated. An institution has at most two open ones that it proposed.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "print the members, observers and nodes that were", Flags: remoteFlags(), Action: listMembers},
			{
				Name: "show", Usage: "print a motion, what it would change and what it lacks; without argument, all open ones", ArgsUsage: "[MOTION]",
				Flags: remoteFlags(), Action: showMotions,
			},
			{
				Name: "propose", Usage: "propose a change of members or parameters",
				Flags: signingFlags(
					&cli.StringSliceFlag{Name: "found", Usage: "a new institution, `NAME=KEY`; the key is that of its first account. May be repeated"},
					&cli.StringSliceFlag{Name: "observe", Usage: "admit the node of a join request or member `FILE` as an observer, and found its institution if the request wants that. May be repeated"},
					&cli.StringSliceFlag{Name: "add", Usage: "make the observer `NODE` a member. May be repeated"},
					&cli.StringSliceFlag{Name: "remove", Usage: "take the vote from member `NODE`, for ever. May be repeated"},
					&cli.StringSliceFlag{Name: "dismiss", Usage: "send the observer `NODE` away. May be repeated"},
					&cli.StringSliceFlag{Name: "param", Usage: "`NAME=VALUE` of a parameter, such as batch_delay=10. May be repeated"},
					&cli.StringFlag{Name: "override", Usage: "`REASON` for fewer members than the group must keep; it is recorded"},
				),
				Action: proposeMotion,
			},
			act("approve", "approve a motion for the sender's institution", "approve"),
			act("withdraw", "take the approval of the sender's institution back; a motion that it proposed is deleted", "withdraw"),
			{
				Name: "ready", Usage: "state that the node in -d, which a motion adds, is synced; its key signs, and any account sends it", ArgsUsage: one,
				Flags: signingFlags(), Action: stateReady,
			},
			{Name: "activate", Usage: "carry an approved motion out and begin a new epoch", ArgsUsage: one, Flags: signingFlags(), Action: activateMotion},
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
		return 0, usage("motion %q: want its number; `fondaco member show` lists them", args[0])
	}
	return id, nil
}

// memberDoc is a node in the output of member list.
type memberDoc struct {
	Node        identity.NodeID `json:"node"`
	Status      string          `json:"status"`
	Number      int             `json:"number"` // -1: no member
	Institution string          `json:"institution"`
	Address     string          `json:"address,omitempty"`
	Since       ledger.Height   `json:"since"`
}

// groupDoc is the output of member list.
type groupDoc struct {
	Engine       string      `json:"engine"`
	Epoch        uint64      `json:"epoch"`
	Members      int         `json:"members"`
	Faulty       int         `json:"faulty"`
	Quorum       int         `json:"quorum"`
	Institutions []string    `json:"institutions"`
	Needed       int         `json:"approvals_needed"`
	Nodes        []memberDoc `json:"nodes"`
}

func listMembers(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		chain, err := r.Chain(r.ctx)
		if err != nil {
			return err
		}
		nodes, err := members.Nodes(r.ctx, r.Client)
		if err != nil {
			return err
		}
		n, finality := len(chain.Members), ledger.Finality(chain.Engine)
		doc := groupDoc{Engine: chain.Engine, Epoch: chain.Epoch, Members: n, Faulty: finality.Faulty(n), Quorum: finality.Quorum(n), Nodes: []memberDoc{}}
		number := map[identity.NodeID]int{}
		for i, m := range chain.Members {
			number[m.Node] = i
		}
		doc.Institutions = institutions(chain)
		doc.Needed = len(doc.Institutions)/2 + 1
		for _, node := range nodes {
			d := memberDoc{
				Node: node.Node, Status: node.Row.Status.String(), Number: -1, Institution: node.Row.Institution,
				Address: node.Row.Address, Since: node.Row.Height,
			}
			if i, votes := number[node.Node]; votes {
				d.Number = i
			}
			doc.Nodes = append(doc.Nodes, d)
		}
		slices.SortStableFunc(doc.Nodes, func(a, b memberDoc) int { return cmp.Compare(uint(a.Number), uint(b.Number)) })
		return show(c, doc, func(w io.Writer) {
			row(w, "epoch", fmt.Sprintf("%d, engine %s, quorum %s", doc.Epoch, doc.Engine, quorumText(finality, n)))
			row(w, "motions need", fmt.Sprintf("%d of %d institutions: %s", doc.Needed, len(doc.Institutions), strings.Join(doc.Institutions, ", ")))
			for _, d := range doc.Nodes {
				where := d.Address
				if where != "" {
					where = " at " + where
				}
				what := d.Status
				if d.Number >= 0 {
					what = fmt.Sprintf("member %d", d.Number)
				}
				row(w, what, fmt.Sprintf("%s of %s%s, since block %d", d.Node, d.Institution, where, d.Since))
			}
		})
	})
}

// motionDoc is a motion in the output of member show.
type motionDoc struct {
	ID       uint64            `json:"id"`
	Epoch    uint64            `json:"epoch"`
	Void     bool              `json:"void"` // another was carried out since
	Height   ledger.Height     `json:"height"`
	Block    keys.Digest       `json:"block"`
	Changes  []string          `json:"changes"`
	Members  int               `json:"members"`  // after it
	Quorum   int               `json:"quorum"`   // after it
	Faulty   int               `json:"faulty"`   // after it
	Proposer string            `json:"proposer"` // the institution
	Approved []string          `json:"approved"`
	Needed   int               `json:"approvals_needed"`
	Missing  []identity.NodeID `json:"not_ready"` // nodes that have not stated that they are synced
	Next     []string          `json:"next"`      // what it lacks, in words
}

// complete reports whether a motion has all that it takes.
func (d *motionDoc) complete() bool { return len(d.Approved) >= d.Needed && len(d.Missing) == 0 }

func showMotions(c *cli.Context) error {
	args, err := arguments(c, 0, 1, "[MOTION]")
	if err != nil {
		return err
	}
	id := uint64(0)
	if len(args) == 1 {
		if id, err = motionArgument(c); err != nil {
			return err
		}
	}
	return talk(c, func(r *remote) error {
		docs, err := r.motions()
		if err != nil {
			return err
		}
		docs = slices.DeleteFunc(docs, func(d motionDoc) bool { return id != 0 && d.ID != id || id == 0 && d.Void })
		if id != 0 && len(docs) == 0 {
			return withCode(ExitNotFound, fmt.Errorf("there is no motion %d: it was withdrawn or activated, or another one was; `fondaco member show` lists the open ones", id))
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
	if d.Void {
		title += ", VOID: another one was activated since"
	}
	row(w, "motion", title)
	row(w, "proposed by", d.Proposer)
	for _, change := range d.Changes {
		row(w, "", change)
	}
	row(w, "result", fmt.Sprintf("%d members, %d may fail, quorum %d", d.Members, d.Faulty, d.Quorum))
	row(w, "approved by", approvedText(d))
	for _, next := range d.Next {
		row(w, "next", next)
	}
}

func approvedText(d *motionDoc) string {
	return fmt.Sprintf("%s (%d, needs %d)", strings.Join(d.Approved, ", "), len(d.Approved), d.Needed)
}

// describeMotion says in words what a motion would change.
func describeMotion(chain *client.Chain, record *precompiles.Record, nodes []precompiles.ListedNode, m *precompiles.ListedMotion) motionDoc {
	f := &m.Row.Reform
	d := motionDoc{
		ID: m.ID, Epoch: m.Row.Epoch, Void: m.Row.Void(record), Proposer: m.Row.Proposer(), Height: m.Row.Height, Block: m.Row.Block,
		Changes: []string{}, Approved: []string{}, Missing: []identity.NodeID{}, Next: []string{}, Members: len(chain.Members) + len(f.Add) - len(f.Remove),
	}
	say := func(format string, args ...any) { d.Changes = append(d.Changes, fmt.Sprintf(format, args...)) }
	for _, n := range f.Found {
		say("+ institution %s, first account with key %s", n.Name, keyText(n.Key))
	}
	for _, n := range f.Observe {
		say("+ observer of %s at %s, key %s", n.Institution, n.Address, keyText(n.Key))
	}
	whose := func(id identity.NodeID) string {
		for _, n := range nodes {
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
		for i, old := range chain.Members {
			if old.Node == n {
				number = fmt.Sprintf(", number %d", i)
			}
		}
		say("- member %s%s", whose(n), number)
	}
	if f.Params != nil {
		for _, p := range paramChanges(&chain.Params, f.Params) {
			say("~ %s", p)
		}
	}
	d.Changes = append(d.Changes, trustChanges(f)...)
	if f.Override != "" {
		say("! below the least number of members, because: %s", f.Override)
	}
	finality := ledger.Finality(chain.Engine)
	d.Quorum, d.Faulty = finality.Quorum(d.Members), finality.Faulty(d.Members)
	for _, a := range m.Row.Approvals {
		d.Approved = append(d.Approved, a.Institution)
	}
	all := institutions(chain)
	d.Needed = len(all)/2 + 1
	for _, node := range f.Add {
		if !slices.ContainsFunc(m.Row.Ready, func(s precompiles.Readiness) bool { return s.Node == node }) {
			d.Missing = append(d.Missing, node)
		}
	}
	if d.Void {
		d.Next = append(d.Next, "it is void: propose it again")
		return d
	}
	if len(d.Approved) < d.Needed {
		others := slices.DeleteFunc(all, func(name string) bool { return slices.Contains(d.Approved, name) })
		d.Next = append(d.Next, fmt.Sprintf("%d of %s run `fondaco member approve %d`", d.Needed-len(d.Approved), strings.Join(others, ", "), d.ID))
	}
	for _, node := range d.Missing {
		d.Next = append(d.Next, fmt.Sprintf("the operator of node %s, once it is synced, runs `fondaco member ready %d -d DIR --from ACCOUNT --key FILE`, of any account", node.Short(), d.ID))
	}
	if d.complete() {
		d.Next = append(d.Next, fmt.Sprintf("one of %s runs `fondaco member activate %d`", strings.Join(institutions(chain), ", "), d.ID))
	}
	return d
}

// institutions returns those that have a member, sorted.
func institutions(chain *client.Chain) []string {
	var names []string
	for _, m := range chain.Members {
		names = append(names, m.Institution)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// quorumText says what a group of n members bears.
func quorumText(finality ledger.StatementKind, n int) string {
	fail := "may be faulty"
	if finality == ledger.Attest {
		fail = "may be down"
	}
	return fmt.Sprintf("%d of %d members; %d %s", finality.Quorum(n), n, finality.Faulty(n), fail)
}

// paramChanges lists the parameters that differ, by their names in the genesis file.
func paramChanges(before, after *ledger.Params) []string {
	var changes []string
	old, fresh := paramTexts(before), paramTexts(after)
	for i := range fresh {
		if old[i] != fresh[i] {
			changes = append(changes, fmt.Sprintf("%s → %s", old[i], strings.SplitN(fresh[i], " ", 2)[1]))
		}
	}
	return changes
}

func proposeMotion(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	changes := []string{"found", "observe", "add", "remove", "dismiss", "param"}
	if !slices.ContainsFunc(changes, c.IsSet) {
		return usage("a motion changes something: give at least one of --%s", strings.Join(changes, ", --"))
	}
	return talk(c, func(r *remote) error {
		reform, err := r.reform()
		if err != nil {
			return err
		}
		return r.propose(reform)
	})
}

// propose makes a motion and tells what it lacks.
func (r *remote) propose(f *precompiles.Reform) error {
	encoded, err := ledger.Marshal(&precompiles.ProposeArgs{Reform: *f})
	if err != nil {
		return err
	}
	return r.transact(precompiles.MembersAddress, "propose", encoded, func(tx *client.Transaction, w io.Writer) {
		var id uint64
		if ledger.Unmarshal(tx.Receipt.Data, &id) == nil {
			row(w, "motion", id)
			r.tellNext(id)(tx, w)
		}
	})
}

// reform puts together what the flags of propose say.
func (r *remote) reform() (*precompiles.Reform, error) {
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	f := &precompiles.Reform{Override: r.c.String("override")}
	if f.Found, f.Observe, err = newcomers(r.c, suite); err != nil {
		return nil, err
	}
	if f.Found, err = r.foundings(r.c.StringSlice("observe"), f.Found); err != nil {
		return nil, err
	}
	var known []precompiles.ListedNode
	for _, l := range []struct {
		flag string
		to   *[]identity.NodeID
	}{{"add", &f.Add}, {"remove", &f.Remove}, {"dismiss", &f.Dismiss}} {
		for _, text := range r.c.StringSlice(l.flag) {
			if known == nil {
				if known, err = members.Nodes(r.ctx, r.Client); err != nil {
					return nil, err
				}
			}
			id, err := findNode(known, text)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", l.flag, err)
			}
			*l.to = append(*l.to, id)
		}
	}
	if settings := r.c.StringSlice("param"); len(settings) > 0 {
		chain, err := r.Chain(r.ctx)
		if err != nil {
			return nil, err
		}
		params := chain.Params
		if err := setParams(&params, settings); err != nil {
			return nil, err
		}
		f.Params = &params
	}
	return f, nil
}

// newcomers returns the institutions and nodes that the flags found and observe name.
func newcomers(c *cli.Context, suite keys.Suite) (found []precompiles.Founding, observe []precompiles.Candidate, err error) {
	for _, text := range c.StringSlice("found") {
		name, keyed, ok := strings.Cut(text, "=")
		if !ok {
			return nil, nil, usage("--found %q: want NAME=KEY", text)
		}
		if err := checkInstitution(name); err != nil {
			return nil, nil, withCode(ExitUsage, err)
		}
		key, err := publicKey(c, suite, keyed)
		if err != nil {
			return nil, nil, fmt.Errorf("--found %s: %w", name, err)
		}
		found = append(found, precompiles.Founding{Name: name, Key: key})
	}
	cards, err := readCards(suite, c.StringSlice("observe"))
	if err != nil {
		return nil, nil, err
	}
	for _, card := range cards {
		observe = append(observe, precompiles.Candidate{Institution: card.Institution, Key: card.Key, Address: card.Address})
	}
	return found, observe, nil
}

// findNode returns the node whose id begins with the text, of which eight digits or more tell which it is.
func findNode(known []precompiles.ListedNode, text string) (identity.NodeID, error) {
	begin := digits(text)
	var found []identity.NodeID
	for _, n := range known {
		if strings.HasPrefix(hex.EncodeToString(n.Node[:]), begin) {
			found = append(found, n.Node)
		}
	}
	switch {
	case len(begin) < 8:
		return identity.NodeID{}, usage("node %q: want its id, or at least the first eight digits, as `fondaco member list` prints it", text)
	case len(found) == 0:
		return identity.NodeID{}, withCode(ExitNotFound, fmt.Errorf("no node %s has to do with the group: `fondaco member list` prints them", text))
	case len(found) > 1:
		return identity.NodeID{}, usage("%d nodes have ids that begin with %s: give more digits", len(found), begin)
	}
	return found[0], nil
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
			return withCode(ExitNotFound, fmt.Errorf("%w; try again when it has the blocks, `fondaco status` tells how far it is, and `fondaco member show %d` on a member whether the motion is open", err, id))
		case err != nil:
			return err
		}
		encoded, err := ledger.Marshal(args)
		if err != nil {
			return err
		}
		return r.transact(precompiles.MembersAddress, "ready", encoded, r.tellNext(id))
	})
}

// tellNext tells what a motion still lacks.
func (r *remote) tellNext(id uint64) func(*client.Transaction, io.Writer) {
	return func(_ *client.Transaction, w io.Writer) {
		docs, err := r.motions()
		at := slices.IndexFunc(docs, func(d motionDoc) bool { return d.ID == id })
		if err != nil || at < 0 {
			return // what was asked for is done
		}
		row(w, "approved by", approvedText(&docs[at]))
		for _, next := range docs[at].Next {
			row(w, "next", next)
		}
	}
}

// motions returns all motions, void ones among them.
func (r *remote) motions() ([]motionDoc, error) {
	chain, err := r.Chain(r.ctx)
	if err != nil {
		return nil, err
	}
	record, err := members.Record(r.ctx, r.Client)
	if err != nil {
		return nil, err
	}
	nodes, err := members.Nodes(r.ctx, r.Client)
	if err != nil {
		return nil, err
	}
	motions, err := members.Motions(r.ctx, r.Client)
	docs := []motionDoc{}
	for i := range motions {
		docs = append(docs, describeMotion(chain, &record, nodes, &motions[i]))
	}
	return docs, err
}

// supportPatience is how long a node may be behind the one at which a motion was approved last.
const supportPatience = 3 * time.Second

// awaitSupport waits a little for what a motion lacks: who approved last did so at another node, perhaps a moment ago.
// The chain judges whether that is enough.
func (r *remote) awaitSupport(id uint64) error {
	for until := time.Now().Add(supportPatience); ; {
		docs, err := r.motions()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(docs, func(d motionDoc) bool { return d.ID == id })
		if at >= 0 && (docs[at].Void || docs[at].complete()) || time.Now().After(until) {
			return nil
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// activateMotion carries a motion out and tells the accounts of the institutions that it founded.
func activateMotion(c *cli.Context) error {
	id, err := motionArgument(c)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		if err := r.awaitSupport(id); err != nil {
			return err
		}
		motions, err := members.Motions(r.ctx, r.Client)
		if err != nil {
			return err
		}
		var names []string
		for _, m := range motions {
			if m.ID == id {
				for _, f := range m.Row.Reform.Found {
					names = append(names, f.Name)
				}
			}
		}
		encoded, err := ledger.Marshal(&precompiles.MotionArgs{ID: id})
		if err != nil {
			return err
		}
		return r.transact(precompiles.MembersAddress, "activate", encoded, func(tx *client.Transaction, w io.Writer) {
			for _, e := range tx.Receipt.Events {
				var fields struct {
					Founded []ledger.Address `json:"founded"`
				}
				if e.Topic != "activated" || json.Unmarshal(e.Decoded, &fields) != nil || len(fields.Founded) != len(names) {
					continue
				}
				for i, address := range fields.Founded {
					row(w, "founded", fmt.Sprintf("%s, whose first account is %s: --from of its transactions", names[i], address))
				}
			}
			row(w, "next", "`fondaco member list` prints the nodes as they are now")
		})
	})
}

// paramTexts returns "name value" of each parameter, in order.
func paramTexts(p *ledger.Params) []string {
	var texts []string
	fields, values := reflect.TypeFor[ledger.Params](), reflect.ValueOf(*p)
	for i := range fields.NumField() {
		if name := fields.Field(i).Tag.Get("json"); name != "" {
			texts = append(texts, fmt.Sprintf("%s %v", name, values.Field(i)))
		}
	}
	return texts
}
