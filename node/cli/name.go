package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

func nameCommand() *cli.Command {
	// changes is a command that sends a call of the system contract cns.
	changes := func(name, usage, want string, least, most int, method string, encode func(r *remote, args []string) (any, error), flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: want, Flags: signingFlags(flags...),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, least, most, want)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					value, err := encode(r, args)
					if err != nil {
						return err
					}
					return r.transact(precompiles.CNSAddress, method, value, nil)
				})
			},
		}
	}
	version := func(r *remote, args []string) (any, error) {
		address, err := r.contract(args[2])
		return precompiles.NameVersionArgs{Name: args[0], Version: args[1], Address: address}, err
	}
	label := func(_ *remote, args []string) (any, error) {
		return precompiles.VersionArgs{Name: args[0], Version: strings.Join(args[1:], "")}, nil
	}
	canary := changes("canary", "send a share of a name's calls to a version", "NAME VERSION", 2, 2, "canary", beginCanary,
		&cli.StringFlag{Name: "weight", Usage: "`SHARE` of the accounts, such as 10% or 0.5%, in steps of 0.01%", Value: "0%"},
		&cli.StringSliceFlag{Name: "rule", Usage: "KIND=VALUE,VALUE: send calls there where it fits, or with ! before it to the current version; `RULE`s count in order, before the weight. KIND is institution, role, account or method"},
		&cli.Uint64Flag{Name: "from-height", Usage: "first `HEIGHT`; 0: at once"},
		&cli.Uint64Flag{Name: "until-height", Usage: "last `HEIGHT`; 0: no end"},
		&cli.StringFlag{Name: "stop-at", Usage: "end the canary when this `SHARE` of the transactions to the name that it served failed, such as 5%; calls by contracts do not count"},
		&cli.Uint64Flag{Name: "least", Usage: "with --stop-at: `TRANSACTIONS` before it may end", Value: 20},
		&cli.Uint64Flag{Name: "window", Usage: "with --stop-at: `BLOCKS` after which counting begins anew", Value: 1000},
	)
	canary.Description = "An account is served by the same version every time: a digest of it and the name decides, and a greater weight keeps\n" +
		"those of a smaller one. `fondaco name promote NAME` makes the canary current, `rollback NAME` ends it."
	return &cli.Command{
		Name:  "name",
		Usage: "call contracts by name, and release new versions of them step by step",
		Description: "A name stands for a contract wherever a command takes one: `fondaco contract call token transfer …`, or token@2 for a version.\n" +
			"Its versions are contracts of their own, each with its own state. Who owns a name changes it, to contracts that he owns.",
		Subcommands: []*cli.Command{
			changes("register", "give a contract a name, under its first version", "NAME VERSION CONTRACT", 3, 3, "register", version),
			changes("publish", "add a version to a name, which nobody is sent to yet", "NAME VERSION CONTRACT", 3, 3, "publish", version),
			canary,
			changes("promote", "make a version current; without VERSION the canary's", "NAME [VERSION]", 1, 2, "promote", label),
			changes("rollback", "end the canary, or go back to the previous version", "NAME", 1, 1, "rollback", func(_ *remote, args []string) (any, error) {
				return precompiles.NameArgs{Name: args[0]}, nil
			}),
			changes("withdraw", "take a version away that serves nobody", "NAME VERSION", 2, 2, "withdraw", label),
			changes("unregister", "give a name up; nobody but you can take it again", "NAME", 1, 1, "unregister", func(_ *remote, args []string) (any, error) {
				return precompiles.NameArgs{Name: args[0]}, nil
			}),
			changes("transfer", "make another account the owner of a name", "NAME ACCOUNT", 2, 2, "transfer", func(r *remote, args []string) (any, error) {
				owner, err := r.account(args[1])
				return precompiles.NameOwnerArgs{Name: args[0], Owner: owner}, err
			}),
			{
				Name: "show", Usage: "print a name, its versions and what they served", ArgsUsage: "NAME", Flags: remoteFlags(),
				Action: showName,
			},
			{
				Name: "list", Usage: "print the names", Flags: remoteFlags(),
				Action: listNames,
			},
			{
				Name: "resolve", Usage: "tell which contract serves an account's call of a method in the next block", ArgsUsage: "NAME[@VERSION]",
				Description: "With --proof no node is asked: the file, which `fondaco proof get name` writes, says what the chain had for the name after its\n" +
					"block, and is verified first, as `fondaco proof verify` does.",
				Flags: remoteFlags(append([]cli.Flag{
					&cli.StringFlag{Name: "from", Usage: "`ACCOUNT` that sends; default: none", EnvVars: []string{"FONDACO_FROM"}},
					&cli.StringFlag{Name: "method", Usage: "`METHOD` that is called"},
					&cli.StringFlag{Name: "proof", Usage: "look it up in the proof of this `FILE`, without a node"},
				}, trustFlags()...)...),
				Action: resolveName,
			},
		},
	}
}

// beginCanary reads the flags of a canary.
func beginCanary(r *remote, args []string) (any, error) {
	c := r.c
	canary := precompiles.Canary{Label: args[1], Rules: []precompiles.CanaryRule{}, From: ledger.Height(c.Uint64("from-height")), Until: ledger.Height(c.Uint64("until-height"))}
	weight, err := shareOf(c.String("weight"), precompiles.CanaryWhole)
	if err != nil {
		return nil, usage("--weight: %w", err)
	}
	canary.Weight = weight
	for _, text := range ruleTexts(c.StringSlice("rule")) {
		rule, err := r.canaryRule(text)
		if err != nil {
			return nil, err
		}
		canary.Rules = append(canary.Rules, rule)
	}
	if text := c.String("stop-at"); text != "" {
		permille, err := shareOf(text, 1000)
		if err != nil || permille == 0 {
			return nil, usage("--stop-at %s: want a share such as 5%%, in steps of 0.1%%, above 0", text)
		}
		canary.Watch = precompiles.Watch{Permille: permille, Least: c.Uint64("least"), Window: c.Uint64("window")}
	} else if c.IsSet("least") || c.IsSet("window") {
		return nil, usage("--least and --window go with --stop-at SHARE")
	}
	return precompiles.CanaryArgs{Name: args[0], Canary: canary}, nil
}

// ruleTexts joins what the flag parser has split at commas.
func ruleTexts(parts []string) (rules []string) {
	for _, part := range parts {
		if strings.Contains(part, "=") || len(rules) == 0 {
			rules = append(rules, part)
		} else {
			rules[len(rules)-1] += "," + part
		}
	}
	return rules
}

var ruleKinds = map[string]precompiles.RuleKind{
	"institution": precompiles.RuleInstitution, "role": precompiles.RuleRole, "account": precompiles.RuleAccount, "method": precompiles.RuleMethod,
}

func (r *remote) canaryRule(text string) (precompiles.CanaryRule, error) {
	plain, not := strings.CutPrefix(text, "!")
	kind, values, _ := strings.Cut(plain, "=")
	rule := precompiles.CanaryRule{Kind: ruleKinds[kind], Canary: !not}
	if rule.Kind == 0 || values == "" {
		return rule, usage("--rule %s: want institution=NAME,NAME, or role, account or method in place of institution, and perhaps ! before it", text)
	}
	for value := range strings.SplitSeq(values, ",") {
		if rule.Kind == precompiles.RuleAccount {
			address, err := r.account(value)
			if err != nil {
				return rule, err
			}
			value = address.String()
		}
		rule.Values = append(rule.Values, value)
	}
	slices.Sort(rule.Values)
	rule.Values = slices.Compact(rule.Values)
	return rule, nil
}

// shareOf reads a share such as 0.5% as parts of a whole.
func shareOf(text string, whole uint32) (uint32, error) {
	bad := fmt.Errorf("%q: want a share from 0%% to 100%%, in steps of %s%%", text, strconv.FormatFloat(100/float64(whole), 'f', -1, 64))
	digits, ok := strings.CutSuffix(text, "%")
	before, after, _ := strings.Cut(digits, ".")
	places := len(strconv.Itoa(int(whole))) - 3 // that whole has beyond percents
	if !ok || len(after) > places || len(before) > 3 {
		return 0, bad
	}
	parts, err := strconv.ParseUint(before+after+strings.Repeat("0", places-len(after)), 10, 32)
	if err != nil || parts > uint64(whole) {
		return 0, bad
	}
	return uint32(parts), nil
}

// shareText is how a share is shown.
func shareText(parts, whole uint32) string {
	return strconv.FormatFloat(100*float64(parts)/float64(whole), 'f', -1, 64) + "%"
}

// askCNS calls a view of the system contract cns. A name that nobody has, or a version that the name has not, is an error with ExitNotFound.
func askCNS[T any](r *remote, method string, args any) (T, error) {
	return ask[T](r, precompiles.CNSAddress, "looking up the name", method, args)
}

// resolve returns the contract that a name, and perhaps a version behind an @, stands for when an account, or nobody, calls a method.
func (r *remote) resolve(text, method, from string) (precompiles.Resolved, ledger.Target, error) {
	var to ledger.Target
	to.Name, to.Version, _ = strings.Cut(text, "@")
	args := precompiles.ResolveArgs{Name: to.Name, Version: to.Version, Method: method}
	if from != "" {
		address, err := r.account(from)
		if err != nil {
			return precompiles.Resolved{}, to, err
		}
		args.Sender = address
	}
	found, err := askCNS[precompiles.Resolved](r, "resolve", args)
	refused, _ := errors.AsType[*exitError](err)
	switch {
	case refused == nil || refused.code != ExitNotFound:
	case to.Version == "":
		err = withCode(ExitNotFound, fmt.Errorf("no contract has the name %s: `fondaco name list` prints them", text))
	default:
		err = withCode(ExitNotFound, fmt.Errorf("no contract has the name %s, or it has no version %s: `fondaco name show %s` prints them", to.Name, to.Version, to.Name))
	}
	return found, to, err
}

// resolved is which contract serves a name.
type resolved struct {
	Address ledger.Address `json:"address"`
	Version string         `json:"version"`
	Height  ledger.Height  `json:"height,omitempty"` // of the block that a proof is of
}

func (d resolved) table(w io.Writer) {
	row(w, "contract", d.Address)
	row(w, "version", d.Version)
	if d.Height != 0 {
		row(w, "proven", fmt.Sprintf("for calls in the block after %d", d.Height))
	}
}

// proof is what a proof says of one state key. It is a precompiles.Reader.
type proof struct{ *ledger.Claim }

// Get implements precompiles.Reader.
func (p proof) Get(key []byte) ([]byte, bool, error) {
	if p.State == nil || string(p.State.Key) != string(key) {
		return nil, false, usage("the proof is of something else: get one with `fondaco proof get name`")
	}
	return p.State.Value, p.State.Present, nil
}

// resolveProven looks a name up in a proof, without a node.
func resolveProven(c *cli.Context, text string) error {
	raw, err := binaryArgument(c, c.String("proof"), ledger.MaxClaimSize)
	if err != nil {
		return err
	}
	claim, suite, _, err := provenClaim(c, raw)
	if err != nil {
		return err
	}
	var to ledger.Target
	to.Name, to.Version, _ = strings.Cut(text, "@")
	from := precompiles.Sender{Account: func() (*precompiles.Account, error) {
		return nil, usage("a rule of the canary asks for the institution or the roles of the sender, which this proof does not have: ask a node, without --proof")
	}}
	if sender := c.String("from"); sender != "" {
		var said bool
		if from.Address, said, err = parseAddress(sender); said && err != nil {
			return withCode(ExitUsage, err)
		} else if !said {
			from.Address = ledger.NamedAddress(suite, "account", sender)
		}
	}
	height := claim.Header.Order.Height
	found, err := precompiles.Resolve(proof{claim}, suite, to, from, c.String("method"), height+1)
	if refusal, ok := errors.AsType[*precompiles.Error](err); ok {
		return withCode(ExitNotFound, fmt.Errorf("after block %d %s", height, refusal.Reason))
	}
	if err != nil {
		return err
	}
	doc := resolved{found.Address, found.Version, height}
	return show(c, doc, doc.table)
}

func resolveName(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "NAME[@VERSION]")
	if err != nil {
		return err
	}
	if c.String("proof") != "" {
		return resolveProven(c, args[0])
	}
	return talk(c, func(r *remote) error {
		found, _, err := r.resolve(args[0], c.String("method"), c.String("from"))
		if err != nil {
			return err
		}
		doc := resolved{Address: found.Address, Version: found.Version}
		return show(c, doc, doc.table)
	})
}

// nameDoc is a name with what its versions served.
type nameDoc struct {
	Name     string                `json:"name"`
	Owner    ledger.Address        `json:"owner"`
	Current  string                `json:"current"`
	Previous string                `json:"previous,omitempty"`
	Versions []nameVersionDoc      `json:"versions"`
	Canary   *precompiles.Canary   `json:"canary,omitempty"`
	Stopped  *precompiles.Stopped  `json:"stopped,omitempty"`
	row      precompiles.Name      // of the chain
	stats    precompiles.NameStats // the same
}

type nameVersionDoc struct {
	Label    string         `json:"label"`
	Address  ledger.Address `json:"address"`
	Height   ledger.Height  `json:"height"`
	Calls    uint64         `json:"calls"`
	Failures uint64         `json:"failures"`
	Vetoed   bool           `json:"vetoed,omitempty"` // by a motion: it is promoted no more
	Gas      uint64         `json:"gas,string"`
}

func newNameDoc(name string, n *precompiles.Name, stats *precompiles.NameStats) nameDoc {
	doc := nameDoc{Name: name, Owner: n.Owner, Current: n.Current, Previous: n.Previous, Canary: n.Canary, Stopped: n.Stopped, row: *n, Versions: []nameVersionDoc{}}
	if stats != nil {
		doc.stats = *stats
	}
	for _, v := range n.Versions {
		d := nameVersionDoc{Label: v.Label, Address: v.Address, Height: v.Height, Vetoed: v.Vetoed}
		for _, s := range doc.stats.Versions {
			if s.Label == v.Label {
				d.Calls, d.Failures, d.Gas = s.Calls, s.Failures, s.Gas
			}
		}
		doc.Versions = append(doc.Versions, d)
	}
	return doc
}

func showName(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "NAME")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		n, err := askCNS[*precompiles.Name](r, "get", precompiles.NameArgs{Name: args[0]})
		if err != nil {
			return err
		}
		if n == nil {
			return withCode(ExitNotFound, fmt.Errorf("no contract has the name %s: `fondaco name list` prints them", args[0]))
		}
		stats, err := askCNS[*precompiles.NameStats](r, "stats", precompiles.NameArgs{Name: args[0]})
		if err != nil {
			return err
		}
		doc := newNameDoc(args[0], n, stats)
		return show(c, doc, doc.table)
	})
}

func (d nameDoc) table(w io.Writer) {
	row(w, "name", d.Name)
	row(w, "owner", d.Owner)
	if c := d.Canary; c != nil {
		row(w, "canary", fmt.Sprintf("%s serves %s of the accounts%s", c.Label, shareText(c.Weight, precompiles.CanaryWhole), scheduleText(c)))
		for _, rule := range c.Rules {
			row(w, "rule", ruleText(rule))
		}
		if c.Watch.Permille > 0 {
			row(w, "watch", fmt.Sprintf("ends at %s failed of at least %d in %d blocks; %d of %d failed since block %d", shareText(c.Watch.Permille, 1000), c.Watch.Least, c.Watch.Window,
				d.stats.Failures, d.stats.Calls, d.stats.Since))
		}
	}
	if s := d.Stopped; s != nil {
		row(w, "stopped", fmt.Sprintf("canary %s ended after block %d: %d of %d transactions failed", s.Label, s.Height, s.Failures, s.Calls))
	}
	row(w)
	row(w, "VERSION", "CONTRACT", "SINCE", "SERVED", "FAILED", "GAS", "")
	for _, v := range d.Versions {
		is := ""
		switch v.Label {
		case d.Current:
			is = "current"
		case d.Previous:
			is = "previous"
		}
		if v.Vetoed {
			is = strings.TrimSpace(is + " vetoed")
		}
		row(w, v.Label, v.Address, v.Height, v.Calls, v.Failures, v.Gas, is)
	}
}

func scheduleText(c *precompiles.Canary) (text string) {
	if c.From > 0 {
		text += fmt.Sprintf(", from block %d", c.From)
	}
	if c.Until > 0 {
		text += fmt.Sprintf(", until block %d", c.Until)
	}
	return text
}

func ruleText(rule precompiles.CanaryRule) string {
	for name, kind := range ruleKinds {
		if kind == rule.Kind {
			to := "the current version"
			if rule.Canary {
				to = "the canary"
			}
			return fmt.Sprintf("%s %s: %s", name, strings.Join(rule.Values, ", "), to)
		}
	}
	return "of a kind that this release does not know"
}

func listNames(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		names, err := askAll(r, precompiles.CNSAddress, "names", "list", precompiles.AfterArgs{},
			func(last precompiles.ListedName) any { return precompiles.AfterArgs{After: last.Name} },
			func(a, b precompiles.ListedName) int { return strings.Compare(a.Name, b.Name) })
		if err != nil {
			return err
		}
		docs := []nameDoc{}
		for _, n := range names {
			docs = append(docs, newNameDoc(n.Name, &n.Row, nil))
		}
		return show(c, docs, func(w io.Writer) {
			row(w, "NAME", "CURRENT", "CANARY", "OWNER")
			for _, d := range docs {
				canary := "-"
				if d.Canary != nil {
					canary = d.Canary.Label
				}
				row(w, d.Name, d.Current, canary, d.Owner)
			}
		})
	})
}
