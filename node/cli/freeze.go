package cli

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
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

const freezeRights = "A regulator freezes accounts and contracts of everybody, a compliance officer those of its institution, each for at most 72 hours:\n" +
	"then the freeze lapses, unless a motion ratifies it (`fondaco freeze ratify`). An admin freezes accounts of its institution but itself and\n" +
	"those with the role committee, until it is lifted. Who froze does not unfreeze: another one of the same role does, or a stronger one.\n" +
	"A motion that lifts what a regulator froze takes a regulator's consent, for 72 hours. A freeze counts from the place of its transaction in its block on.\n" +
	"The chain stops what a frozen account sends. What others move for it, as it allowed them to, and what it is given, a contract refuses that asks\n" +
	"access.stopped first, as the tokens that come with fondaco do (abort Frozen). One that does not ask is stopped by `fondaco contract freeze`."

// frozen is a command that freezes an account, a contract or a node, or lifts a freeze: a call of the system contract access, with the arguments
// that args returns for what find resolves.
func frozen[T any](name, usageText, wanted, method string, find func(r *remote, text string) (T, error), args func(c *cli.Context, of T, evidence *keys.Digest) any, more ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usageText, ArgsUsage: wanted, Description: freezeRights,
		Flags: signingFlags(append([]cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "`CODE` for the record, such as court-order: up to 32 characters a-z, 0-9 and -", Value: "unspecified"},
			&cli.StringFlag{Name: "evidence", Usage: evidenceUsage},
		}, more...)...),
		Action: func(c *cli.Context) error {
			words, err := arguments(c, 1, 1, wanted)
			if err != nil {
				return err
			}
			return talk(c, func(r *remote) error {
				of, err := find(r, words[0])
				if err != nil {
					return err
				}
				var evidence *keys.Digest
				if text := c.String("evidence"); text != "" {
					digest, err := r.evidence(text)
					if err != nil {
						return err
					}
					evidence = &digest
				}
				return r.transact(precompiles.AccessAddress, method, args(c, of, evidence), nil)
			})
		},
	}
}

func lastingFlag() cli.Flag {
	return &cli.DurationFlag{Name: "for", Usage: "how long, such as 24h; default: 72h, and of an admin until it is lifted"}
}

func methodFlag(usageText string) cli.Flag {
	return &cli.StringFlag{Name: "method", Usage: usageText}
}

var directions = map[string]precompiles.Direction{"both": precompiles.FreezeBoth, "out": precompiles.FreezeOut, "in": precompiles.FreezeIn}

func directionFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "direction", Usage: "`WAY`: out, so that it sends nothing; in, so that contracts that ask access.stopped give it nothing; or both", Value: "both",
		Action: func(_ *cli.Context, text string) error {
			if _, known := directions[text]; !known {
				return usage("--direction %q: want out, in or both", text)
			}
			return nil
		},
	}
}

func freezeAccountCommands() []*cli.Command {
	const wanted = "ADDRESS|NAME"
	return []*cli.Command{
		frozen("freeze", "stop an account from sending, from being given to, or both", wanted, "freeze", (*remote).account,
			func(c *cli.Context, of ledger.Address, evidence *keys.Digest) any {
				return &precompiles.FreezeArgs{Account: of, Direction: directions[c.String("direction")], Duration: c.Duration("for").Milliseconds(), Reason: c.String("reason"), Evidence: evidence}
			},
			lastingFlag(), directionFlag()),
		frozen("unfreeze", "let an account go on that another one froze", wanted, "unfreeze", (*remote).account,
			func(c *cli.Context, of ledger.Address, evidence *keys.Digest) any {
				return &precompiles.UnfreezeArgs{Account: of, Reason: c.String("reason"), Evidence: evidence}
			}),
	}
}

func freezeContractCommands() []*cli.Command {
	const wanted = "CONTRACT"
	return []*cli.Command{
		frozen("freeze", "stop a contract from being called, or one method of it, by transactions and by contracts", wanted, "freeze_contract", (*remote).contract,
			func(c *cli.Context, of ledger.Address, evidence *keys.Digest) any {
				return &precompiles.FreezeContractArgs{Contract: of, Method: c.String("method"), Duration: c.Duration("for").Milliseconds(), Reason: c.String("reason"), Evidence: evidence}
			},
			lastingFlag(), methodFlag("`METHOD` to freeze; default: all of the contract")),
		frozen("unfreeze", "let a contract go on that another one froze, or a method of it", wanted, "unfreeze_contract", (*remote).contract,
			func(c *cli.Context, of ledger.Address, evidence *keys.Digest) any {
				return &precompiles.UnfreezeContractArgs{Contract: of, Method: c.String("method"), Reason: c.String("reason"), Evidence: evidence}
			},
			methodFlag("`METHOD` that was frozen; default: what froze all of the contract")),
	}
}

const nodeFreezeRights = "A regulator freezes every node, a compliance officer those of its institution, each for at most 72 hours: then the freeze lapses, unless a\n" +
	"motion ratifies it (`fondaco freeze ratify NODE`). The others refuse connections with a frozen node, so it gets no blocks and gives no votes.\n" +
	"The group's members stay the same, and no more of them are frozen than it goes on without. Who froze does not unfreeze."

func freezeNodeCommands() []*cli.Command {
	const wanted = "NODE"
	commands := []*cli.Command{
		frozen("freeze", "cut a node off from the others, for a time", wanted, "freeze_node", (*remote).node,
			func(c *cli.Context, of identity.NodeID, evidence *keys.Digest) any {
				return &precompiles.FreezeNodeArgs{Node: of, Duration: c.Duration("for").Milliseconds(), Reason: c.String("reason"), Evidence: evidence}
			},
			lastingFlag()),
		frozen("unfreeze", "let a node connect again that another one froze", wanted, "unfreeze_node", (*remote).node,
			func(c *cli.Context, of identity.NodeID, evidence *keys.Digest) any {
				return &precompiles.UnfreezeNodeArgs{Node: of, Reason: c.String("reason"), Evidence: evidence}
			}),
	}
	for _, command := range commands {
		command.Description = nodeFreezeRights
	}
	return commands
}

// node resolves a node of the group.
func (r *remote) node(text string) (identity.NodeID, error) {
	known, err := members.Nodes(r.ctx, r.Client)
	if err != nil {
		return identity.NodeID{}, err
	}
	return findNode(known, text)
}

func freezeCommand() *cli.Command {
	return &cli.Command{
		Name:        "freeze",
		Usage:       "list what is frozen, and have the committee ratify it",
		Description: freezeRights + "\n`fondaco account freeze`, `fondaco contract freeze` and `fondaco member freeze` freeze.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "print what is frozen, and how, by whom and until when", ArgsUsage: "[ADDRESS|NAME|CONTRACT|NODE]",
				Flags:  remoteFlags(&cli.BoolFlag{Name: "ended", Usage: "print freezes that lapsed or were lifted, too"}),
				Action: listFreezes,
			},
			{
				Name: "ratify", Usage: "propose a motion that makes a freeze last", ArgsUsage: "ADDRESS|NAME|CONTRACT|NODE",
				Flags: signingFlags(methodFlag("`METHOD` of the contract that is frozen; default: all of it"), titleFlag(), expiresFlag(),
					&cli.StringFlag{Name: "until", Usage: "block `TIME` at which the freeze ends, as 2026-01-02T15:04:05Z; default: it holds until a motion lifts it"}),
				Action: ratifyFreeze,
			},
		},
	}
}

// listedFreeze is a freeze as `freeze list` prints it.
type listedFreeze struct {
	Address ledger.Address `json:"address"`
	Method  string         `json:"method,omitempty"`
	// Node is the one that is frozen. Address has the first 20 bytes of its id, and Method is node. Nil: it is no node.
	Node  *identity.NodeID `json:"node,omitempty"`
	Holds bool             `json:"holds"` // at the last block's time
	client.Freeze
}

func listFreezes(c *cli.Context) error {
	args, err := arguments(c, 0, 1, "[ADDRESS|NAME|CONTRACT|NODE]")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		var of *ledger.Address
		if len(args) == 1 {
			place, err := r.frozenPlace(args[0])
			if err != nil {
				return err
			}
			of = &place.Address
		}
		status, err := r.Status(r.ctx)
		if err != nil {
			return err
		}
		listed, err := r.freezes(of)
		if err != nil {
			return err
		}
		docs := []listedFreeze{}
		for i := range listed {
			f := &listed[i]
			doc := listedFreeze{Address: f.Place.Address, Method: f.Place.Method, Node: f.Node, Holds: f.Row.Holds(status.BlockTime), Freeze: client.Freeze{
				Direction: f.Row.Direction.String(), Power: f.Row.Power.String(), By: f.Row.By, Since: f.Row.Since, Until: f.Row.Until, Reason: f.Row.Reason, Evidence: f.Row.Evidence,
			}}
			if doc.Holds || c.Bool("ended") {
				docs = append(docs, doc)
			}
		}
		return show(c, docs, func(w io.Writer) {
			for i := range docs {
				what := docs[i].Address.String()
				if docs[i].Node != nil {
					what = docs[i].Node.String()
				}
				if docs[i].Method != "" {
					what += " " + docs[i].Method
				}
				text := freezeText(&docs[i].Freeze)
				if !docs[i].Holds {
					text = "ended: " + text
				}
				row(w, what, text)
			}
		})
	})
}

func ratifyFreeze(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "ADDRESS|NAME|CONTRACT|NODE")
	if err != nil {
		return err
	}
	values := &precompiles.RatifyArgs{Method: c.String("method")}
	if err := readTime(c, "until", &values.Until); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		place, err := r.frozenPlace(args[0])
		if err != nil {
			return err
		}
		values.Address, values.Method = place.Address, cmp.Or(values.Method, place.Method)
		encoded, err := ledger.Marshal(values)
		if err != nil {
			return err
		}
		return r.propose(&precompiles.ProposeArgs{Actions: []precompiles.Action{{To: precompiles.AccessAddress, Method: "ratify", Args: encoded}}})
	})
}

// frozenPlace resolves an account, a contract, or the whole id of a node.
func (r *remote) frozenPlace(text string) (precompiles.FreezePlace, error) {
	if id, err := hex.DecodeString(digits(text)); err == nil && len(id) == len(identity.NodeID{}) {
		return precompiles.NodePlace(identity.NodeID(id)), nil
	}
	address, err := r.holder(text)
	return precompiles.FreezePlace{Address: address}, err
}

// holder resolves an account or a contract.
func (r *remote) holder(text string) (ledger.Address, error) {
	if address, said, err := parseAddress(text); said {
		return address, withCode(ExitUsage, err)
	}
	if address, err := r.account(text); err == nil {
		return address, nil
	}
	return r.contract(text)
}

// freezes returns the freezes of an address, or of all with nil.
func (r *remote) freezes(of *ledger.Address) ([]precompiles.ListedFreeze, error) {
	return askAll(r, precompiles.AccessAddress, "freezes", "freezes", &precompiles.FreezesArgs{Address: of},
		func(last precompiles.ListedFreeze) any {
			return &precompiles.FreezesArgs{Address: of, After: &last.Place}
		},
		func(a, b precompiles.ListedFreeze) int {
			return cmp.Or(bytes.Compare(a.Place.Address[:], b.Place.Address[:]), cmp.Compare(a.Place.Layer, b.Place.Layer), strings.Compare(a.Place.Method, b.Place.Method))
		})
}

// freezeText says how something is frozen, by whom and until when.
func freezeText(f *client.Freeze) string { return f.Direction + ", " + nodeFreezeText(f) }

// nodeFreezeText is freezeText of a node, for which there are no ways.
func nodeFreezeText(f *client.Freeze) string {
	until := "until it is lifted"
	if f.Until != 0 {
		until = "until " + time.UnixMilli(f.Until).UTC().Format(time.RFC3339)
	}
	by := strings.ReplaceAll(f.Power, "_", "-")
	if len(f.By) > 0 {
		names := make([]string, len(f.By))
		for i, a := range f.By {
			names[i] = a.String()
		}
		by += ", " + strings.Join(names, ", ")
	}
	text := fmt.Sprintf("%s, by %s, since %s: %s", until, by, time.UnixMilli(f.Since).UTC().Format(time.RFC3339), f.Reason)
	if f.Evidence != nil {
		text += ", evidence " + f.Evidence.String()
	}
	return text
}
