package cli

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func memberCommand() *cli.Command {
	return &cli.Command{
		Name:  "member",
		Usage: "list the group's nodes, and propose changes of members and parameters",
		Description: "The members' institutions decide on a change by a motion, see `fondaco motion`:\n\n" +
			"  1. The new node's operator makes its folder, key and request: fondaco join-request -d DIR --institution NAME --listen HOST:PORT\n" +
			"     (with --account KEY, the key of its first account, if the institution is new) and gives DIR/join-request.pem to a member, who\n" +
			"     proposes it as an observer: fondaco member propose --observe join-request.pem. Others look at the motion with\n" +
			"     `motion show MOTION` and run `motion vote MOTION`; when it is carried, one runs `motion execute MOTION`.\n" +
			"  2. A member invites it: fondaco invitation new join-request.pem --out FILE. The operator completes the folder and runs the\n" +
			"     node, which fetches all blocks, or a recent state: fondaco init -d DIR --from FILE --chain ID, then fondaco run -d DIR\n" +
			"  3. It becomes a member: fondaco member propose --add NODE [--remove OTHER]\n" +
			"     Its operator states that it is synced: fondaco motion ready MOTION -d DIR --from ACCOUNT --key FILE, of any account.\n" +
			"     Then the others vote and one executes, as before.\n\n" +
			"A member is removed by member propose --remove NODE and goes on as an observer; --dismiss sends an observer away.\n" +
			"A motion about members or parameters is void once another one was executed.",
		Subcommands: append([]*cli.Command{
			{Name: "list", Usage: "print the members, observers and nodes that were", Flags: remoteFlags(), Action: listMembers},
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
					titleFlag(), expiresFlag(),
				),
				Action: proposeReform,
			},
		}, freezeNodeCommands()...),
	}
}

// memberDoc is a node in the output of member list.
type memberDoc struct {
	Node        identity.NodeID `json:"node"`
	Status      string          `json:"status"`
	Number      int             `json:"number"` // -1: no member
	Institution string          `json:"institution"`
	Address     string          `json:"address,omitempty"`
	Since       ledger.Height   `json:"since"`
	Frozen      *client.Freeze  `json:"frozen,omitempty"` // nil: it is not
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
		status, err := r.Status(r.ctx)
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
			for i := range status.Frozen {
				if f := &status.Frozen[i]; f.Node == node.Node {
					d.Frozen = &f.Freeze
				}
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
				text := fmt.Sprintf("%s of %s%s, since block %d", d.Node, d.Institution, where, d.Since)
				if d.Frozen != nil {
					text += "; frozen " + nodeFreezeText(d.Frozen)
				}
				row(w, what, text)
			}
		})
	})
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

func proposeReform(c *cli.Context) error {
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
		return r.propose(&precompiles.ProposeArgs{Reform: reform})
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
