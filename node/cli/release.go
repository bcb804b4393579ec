package cli

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// releaseCommands are the commands by which code comes onto a chain that reviews it, and those that stop contracts.
func releaseCommands(argsFlag cli.Flag) []*cli.Command {
	halt := func(name, usage, method string, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "CONTRACT",
			Flags:  signingFlags(append(flags, &cli.StringFlag{Name: "reason", Usage: "`TEXT` for those who find it stopped"})...),
			Action: func(c *cli.Context) error { return haltContract(c, method) },
		}
	}
	byID := func(name, usage, method string) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "ID", Flags: signingFlags(),
			Action: func(c *cli.Context) error {
				id, err := releaseArgument(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					return r.transact(precompiles.ContractsAddress, method, precompiles.ReleaseArgs{ID: id}, nil)
				})
			},
		}
	}
	return []*cli.Command{
		{
			Name: "show", Usage: "print what a contract runs, by which release it came, and whether it is stopped", ArgsUsage: "CONTRACT",
			Flags: remoteFlags(), Action: showContract,
		},
		{
			Name: "mode", Usage: "print how code comes onto the chain: open, by listed deployers, or reviewed", Flags: remoteFlags(),
			Description: "A motion changes it: `fondaco motion propose contracts set_mode MODE DEPLOYERS INSTITUTIONS REVIEWERS MS`, with 0 for open, 1 for listed and\n" +
				"2 for review, such as `… contracts set_mode 2 [] 2 [\"committee\"] 0`.",
			Action: showMode,
		},
		{
			Name: "propose", Usage: "propose a contract, or the new code of one, where code is reviewed; ARGs are those of init or upgrade", ArgsUsage: "FILE.wasm [ARG...]",
			Flags: signingFlags(argsFlag,
				&cli.StringFlag{Name: "contract", Usage: "`CONTRACT` whose code it replaces; default: a new one"},
				&cli.StringFlag{Name: "name", Usage: "`NAME@VERSION` that a new contract is to have; of a name that you own, another version"},
				&cli.StringFlag{Name: "audit", Usage: "`FILE` of the audit's report, or its SHA-256 as 0x…"},
				&cli.StringFlag{Name: "source", Usage: "`FILE` of the sources, such as an archive, or its SHA-256 as 0x…"},
				&cli.BoolFlag{Name: "breaking", Usage: "allow changes that callers of the old code, or readers of its events and state, would trip over"},
			),
			Action: proposeContract,
		},
		{
			Name: "releases", Usage: "print the releases, or one with what it lacks", ArgsUsage: "[ID]", Flags: remoteFlags(), Action: showReleases,
		},
		{
			Name: "approve", Usage: "approve of a release, in the name of another institution than its proposer's", ArgsUsage: "ID FILE.wasm|HASH",
			Description: "FILE.wasm is the module that you reviewed, best built by yourself from the sources; HASH is what `contract releases` states of\n" +
				"it. What else the release says is printed, and approved as it is printed.",
			Flags: signingFlags(), Action: approveContract,
		},
		byID("withdraw", "end a release of your own, or take an approval back", "withdraw"),
		{
			Name: "release", Usage: "deploy or upgrade to exactly what was approved", ArgsUsage: "ID", Flags: signingFlags(),
			Action: func(c *cli.Context) error {
				id, err := releaseArgument(c)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					return r.transact(precompiles.ContractsAddress, "release", precompiles.ReleaseArgs{ID: id}, tellAddress("contract"))
				})
			},
		},
		halt("pause", "stop all of a contract but its views, until it is resumed", "pause"),
		{
			Name: "resume", Usage: "have a paused contract go on", ArgsUsage: "CONTRACT", Flags: signingFlags(),
			Action: func(c *cli.Context) error { return haltContract(c, "resume") },
		},
		halt("retire", "stop all of a contract but its views, for ever", "retire", &cli.BoolFlag{Name: "for-ever", Usage: "say that nobody can take it back"}),
	}
}

func askContracts[T any](r *remote, method string, args any) (T, error) {
	return ask[T](r, precompiles.ContractsAddress, "reading the contracts", method, args)
}

func releaseArgument(c *cli.Context) (uint64, error) {
	args, err := arguments(c, 1, 1, "ID")
	if err != nil {
		return 0, err
	}
	return parseRelease(args[0])
}

func parseRelease(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, usage("release %q: want its number; `fondaco contract releases` lists them", text)
	}
	return id, nil
}

// digestOf returns the SHA-256 of the file that a flag names, or the digest that it states; zero if it is not set.
func digestOf(c *cli.Context, flag string) (digest keys.Digest, err error) {
	text := c.String(flag)
	if text == "" {
		return digest, nil
	}
	if hash, err := contract.ParseHash(text); err == nil {
		return hash, nil
	}
	file, err := os.Open(text)
	if err != nil {
		return digest, usage("--%s %s: want a file, or its SHA-256, 0x and 64 hexadecimal digits: %w", flag, text, err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return digest, err
	}
	return keys.Digest(sum.Sum(nil)), nil
}

func proposeContract(c *cli.Context) error {
	args, err := arguments(c, 1, -1, "FILE.wasm [ARG...]")
	if err != nil {
		return err
	}
	p := precompiles.ProposalArgs{Breaking: c.Bool("breaking")}
	if p.Code, err = readModule(args[0]); err != nil {
		return err
	}
	if p.Audit, err = digestOf(c, "audit"); err != nil {
		return err
	}
	if p.Source, err = digestOf(c, "source"); err != nil {
		return err
	}
	if name := c.String("name"); name != "" {
		found := false
		if p.Name, p.Label, found = strings.Cut(name, "@"); !found || p.Label == "" {
			return usage("--name %s: want a name and its version, such as token@2", name)
		}
	}
	return talk(c, func(r *remote) error {
		kind := ledger.MethodInit
		if text := c.String("contract"); text != "" {
			kind = ledger.MethodUpgrade
			if p.Contract, err = r.contract(text); err != nil {
				return err
			}
			if err := r.compare(p.Contract, p.Code); err != nil {
				return err
			}
		}
		if p.Args, err = r.hookArgs(p.Code, kind, args[1:]); err != nil {
			return err
		}
		return r.transact(precompiles.ContractsAddress, "propose", &p, func(tx *client.Transaction, w io.Writer) {
			var id uint64
			if ledger.Unmarshal(tx.Receipt.Data, &id) == nil {
				row(w, "release", id)
			}
		})
	})
}

// tellAddress tells the address that a transaction returned.
func tellAddress(what string) func(*client.Transaction, io.Writer) {
	return func(tx *client.Transaction, w io.Writer) {
		var address ledger.Address
		if ledger.Unmarshal(tx.Receipt.Data, &address) == nil {
			row(w, what, address)
		}
	}
}

func approveContract(c *cli.Context) error {
	args, err := arguments(c, 2, 2, "ID FILE.wasm|HASH")
	if err != nil {
		return err
	}
	id, err := parseRelease(args[0])
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		suite, err := r.Suite(r.ctx)
		if err != nil {
			return err
		}
		reviewed, err := contract.ParseHash(args[1])
		if err != nil {
			code, err := readModule(args[1])
			if err != nil {
				return err
			}
			reviewed = precompiles.CodeHash(suite, code)
		}
		d, err := r.release(id)
		if err != nil {
			return err
		}
		if d.Code != reviewed {
			return withCode(ExitDenied, fmt.Errorf("release %d is of the code %s, and you reviewed %s: nothing is sent", id, d.Code, keys.Digest(reviewed)))
		}
		note(c, "You approve of release %d:", id)
		w := tabwriter.NewWriter(c.App.ErrWriter, 0, 8, 2, ' ', 0)
		d.contents(w)
		if err := w.Flush(); err != nil {
			return err
		}
		return r.transact(precompiles.ContractsAddress, "approve", precompiles.ApproveArgs{ID: id, Digest: d.Digest}, nil)
	})
}

// releaseDoc is a release as it is shown.
type releaseDoc struct {
	ID          uint64          `json:"id"`
	State       string          `json:"state"` // open, released, or void: its time is over
	Proposer    ledger.Address  `json:"proposer"`
	Institution string          `json:"institution"`
	Replaces    *ledger.Address `json:"replaces,omitempty"`
	Digest      keys.Digest     `json:"digest,omitzero"` // that approvals name; of a single release
	Code        keys.Digest     `json:"code"`
	Schema      *keys.Digest    `json:"schema,omitempty"`
	Audit       *keys.Digest    `json:"audit,omitempty"`
	Source      *keys.Digest    `json:"source,omitempty"`
	Args        string          `json:"args,omitempty"` // CBOR
	Breaking    bool            `json:"breaking"`
	Name        string          `json:"name,omitempty"` // with its version
	Until       string          `json:"until"`
	Approvals   []approvalDoc   `json:"approvals"`
	Motion      bool            `json:"motion"`
	Contract    *ledger.Address `json:"contract,omitempty"`
	Released    ledger.Height   `json:"released,omitempty"`
	row         precompiles.Release
}

type approvalDoc struct {
	Institution string         `json:"institution"`
	Account     ledger.Address `json:"account"`
	Height      ledger.Height  `json:"height"`
	Void        bool           `json:"void,omitempty"` // of a single release: it counts no more, as who approved has none of the roles, or its institution no member
}

// stated returns a digest, or nil for none.
func stated(d keys.Digest) *keys.Digest {
	if d.IsZero() {
		return nil
	}
	return &d
}

func statedAddress(a ledger.Address) *ledger.Address {
	if a.IsZero() {
		return nil
	}
	return &a
}

func newReleaseDoc(id uint64, row *precompiles.Release, now int64) releaseDoc {
	c := &row.Content
	d := releaseDoc{
		ID: id, State: "open", Proposer: row.Proposer, Institution: row.Institution, Replaces: statedAddress(c.Contract), Code: c.Code, Schema: stated(c.Schema), Audit: stated(c.Audit),
		Source: stated(c.Source), Breaking: c.Breaking, Until: timeText(row.Until), Approvals: []approvalDoc{}, Motion: row.Motion, Contract: statedAddress(row.Contract), Released: row.Released, row: *row,
	}
	if len(c.Args) > 1 { // more than the empty array
		d.Args = hexText(c.Args)
	}
	if c.Name != "" {
		d.Name = c.Name + "@" + c.Label
	}
	for _, a := range row.Approvals {
		d.Approvals = append(d.Approvals, approvalDoc{Institution: a.Institution, Account: a.Account, Height: a.Height})
	}
	switch {
	case row.Released != 0:
		d.State = "released"
	case !row.Open(now):
		d.State = "void"
	}
	return d
}

// contents prints what is approved, a line for each.
func (d *releaseDoc) contents(w io.Writer) {
	if d.Replaces != nil {
		row(w, "replaces the code of", *d.Replaces)
	}
	row(w, "code", d.Code)
	for _, digest := range []struct {
		what string
		of   *keys.Digest
	}{{"schema", d.Schema}, {"audit report, SHA-256", d.Audit}, {"sources, SHA-256", d.Source}} {
		if digest.of != nil {
			row(w, digest.what, *digest.of)
		} else {
			row(w, digest.what, "none")
		}
	}
	if d.Args != "" {
		row(w, "arguments", d.Args)
	}
	if d.Name != "" {
		row(w, "name", d.Name)
	}
	if d.Breaking {
		row(w, "breaking", "users of the old code may trip over it")
	}
}

func (d *releaseDoc) approvedBy() string {
	var by []string
	for _, a := range d.Approvals {
		if a.Void {
			by = append(by, fmt.Sprintf("%s (counts no more: it has no member, or %s lost its role)", a.Institution, a.Account))
			continue
		}
		by = append(by, a.Institution)
	}
	if d.Motion {
		by = append(by, "a motion")
	}
	if len(by) == 0 {
		return "nobody"
	}
	return strings.Join(by, ", ")
}

// counting returns how many approvals count.
func (d *releaseDoc) counting() (n int) {
	for _, a := range d.Approvals {
		if !a.Void {
			n++
		}
	}
	return n
}

// void tells which approvals of a release that is open count no more: whose institution has no member, or whose account none of the roles that
// reviewers have. rolesOf returns those that an account has.
func (d *releaseDoc) void(members, reviewers []string, rolesOf func(ledger.Address) ([]string, error)) error {
	if d.State != "open" {
		return nil
	}
	for i := range d.Approvals {
		a := &d.Approvals[i]
		roles, err := rolesOf(a.Account)
		if err != nil {
			return err
		}
		a.Void = !slices.Contains(members, a.Institution) || !slices.ContainsFunc(reviewers, func(role string) bool { return slices.Contains(roles, role) })
	}
	return nil
}

// release returns a release as the chain has it.
func (r *remote) release(id uint64) (*releaseDoc, error) {
	found, err := askContracts[*precompiles.Release](r, "proposal", precompiles.ReleaseArgs{ID: id})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no release %d, or no more: `fondaco contract releases` lists them", id))
	}
	now, err := r.blockTime()
	if err != nil {
		return nil, err
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	d := newReleaseDoc(id, found, now)
	d.Digest, err = found.Content.Hash(suite)
	return &d, err
}

// blockTime returns the time of the node's last block, Unix ms.
func (r *remote) blockTime() (int64, error) {
	status, err := r.Status(r.ctx)
	if err != nil {
		return 0, err
	}
	block, err := r.Block(r.ctx, status.Height)
	if err != nil {
		return 0, err
	}
	return block.Time, nil
}

func showReleases(c *cli.Context) error {
	args, err := arguments(c, 0, 1, "[ID]")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		if len(args) == 1 {
			id, err := parseRelease(args[0])
			if err != nil {
				return err
			}
			d, err := r.release(id)
			if err != nil {
				return err
			}
			rules, err := askContracts[precompiles.DeployRules](r, "mode", []any{})
			if err != nil {
				return err
			}
			chain, err := r.Chain(r.ctx)
			if err != nil {
				return err
			}
			if err := d.void(institutions(chain), rules.ReviewerRoles(), func(a ledger.Address) ([]string, error) {
				account, err := r.Account(r.ctx, a)
				if err != nil {
					return nil, err
				}
				return account.Roles, nil
			}); err != nil {
				return err
			}
			return show(c, d, func(w io.Writer) {
				row(w, "release", d.ID)
				row(w, "digest", d.Digest)
				row(w, "state", d.State)
				row(w, "proposed by", fmt.Sprintf("%s of %s", d.Proposer, d.Institution))
				d.contents(w)
				row(w, "approved by", d.approvedBy())
				switch d.State {
				case "released":
					row(w, "contract", *d.Contract)
					row(w, "released", fmt.Sprintf("block %d", d.Released))
				case "open":
					row(w, "until", d.Until)
					if have, want := d.counting(), rules.Wanted(); have < want && !d.Motion {
						row(w, "next", fmt.Sprintf("%d of %d institutions have approved: another than %s runs `fondaco contract approve %d FILE.wasm`, or a motion approves: `fondaco motion propose contracts approve %d %s`", have, want, d.Institution, d.ID, d.ID, d.Digest))
					} else {
						row(w, "next", fmt.Sprintf("its proposer runs `fondaco contract release %d`", d.ID))
					}
				default:
					row(w, "next", "its time is over: propose it again")
				}
			})
		}
		now, err := r.blockTime()
		if err != nil {
			return err
		}
		releases, err := askAll(r, precompiles.ContractsAddress, "releases", "releases", precompiles.ReleasesArgs{},
			func(last precompiles.ListedRelease) any { return precompiles.ReleasesArgs{After: last.ID} },
			func(a, b precompiles.ListedRelease) int { return cmp.Compare(a.ID, b.ID) })
		if err != nil {
			return err
		}
		docs := []releaseDoc{}
		for i := range releases {
			docs = append(docs, newReleaseDoc(releases[i].ID, &releases[i].Row, now))
		}
		return show(c, docs, func(w io.Writer) {
			row(w, "RELEASE", "STATE", "OF", "CODE", "CONTRACT", "APPROVED BY")
			for i := range docs {
				d := &docs[i]
				contract := "new " + d.Name
				if d.Contract != nil {
					contract = d.Contract.String()
				} else if d.Replaces != nil {
					contract = d.Replaces.String()
				}
				row(w, d.ID, d.State, d.Institution, d.Code.Short(), strings.TrimSpace(contract), d.approvedBy())
			}
		})
	})
}

func showMode(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		rules, err := askContracts[precompiles.DeployRules](r, "mode", []any{})
		if err != nil {
			return err
		}
		doc := struct {
			Mode         string           `json:"mode"`
			Deployers    []ledger.Address `json:"deployers"`
			Institutions int              `json:"institutions"`
			Reviewers    []string         `json:"reviewers"`
		}{rules.Mode.String(), slices.Concat([]ledger.Address{}, rules.Deployers), rules.Wanted(), rules.ReviewerRoles()}
		return show(c, doc, func(w io.Writer) {
			row(w, "mode", doc.Mode)
			for _, d := range doc.Deployers {
				row(w, "deployer", d)
			}
			if rules.Mode == precompiles.DeployReview {
				row(w, "approvals", fmt.Sprintf("of %d institutions beside the proposer's, by accounts with one of the roles %s", doc.Institutions, strings.Join(doc.Reviewers, ", ")))
			}
		})
	})
}

func haltContract(c *cli.Context, method string) error {
	args, err := arguments(c, 1, 1, "CONTRACT")
	if err != nil {
		return err
	}
	if method == "retire" && !c.Bool("for-ever") {
		return usage("a retired contract never runs again: say so with --for-ever, or use `fondaco contract pause`")
	}
	return talk(c, func(r *remote) error {
		address, err := r.contract(args[0])
		if err != nil {
			return err
		}
		if method == "resume" {
			return r.transact(precompiles.ContractsAddress, method, precompiles.AddressArgs{Address: address}, nil)
		}
		return r.transact(precompiles.ContractsAddress, method, precompiles.HaltArgs{Address: address, Reason: c.String("reason")}, nil)
	})
}

// contractDoc is a contract as it is shown.
type contractDoc struct {
	Address ledger.Address    `json:"address"`
	State   string            `json:"state"` // runs, paused, frozen or retired
	By      *ledger.Address   `json:"by,omitempty"`
	Since   ledger.Height     `json:"since,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	Owner   ledger.Address    `json:"owner"`
	Code    keys.Digest       `json:"code"`
	Number  uint32            `json:"number"`
	Height  ledger.Height     `json:"height"`
	Version string            `json:"version,omitempty"`
	Release *releaseDoc       `json:"release,omitempty"`
	halt    *precompiles.Halt // nil: nobody has halted it
}

func showContract(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "CONTRACT")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		address, err := r.contract(args[0])
		if err != nil {
			return err
		}
		d, err := askContracts[*precompiles.Deployment](r, "info", precompiles.AddressArgs{Address: address})
		if err != nil {
			return err
		}
		if d == nil {
			return withCode(ExitNotFound, fmt.Errorf("no contract was deployed at %s", address))
		}
		doc := contractDoc{Address: address, State: "runs", Owner: d.Owner, Code: d.Code, Number: d.Number, Height: d.Height, Version: d.Release}
		if d.Flags&(precompiles.ContractPaused|precompiles.ContractRetired) != 0 {
			if doc.halt, err = askContracts[*precompiles.Halt](r, "halted", precompiles.AddressArgs{Address: address}); err != nil {
				return err
			}
		}
		if doc.halt != nil {
			doc.By, doc.Since, doc.Reason = &doc.halt.By, doc.halt.Height, doc.halt.Reason
		}
		switch {
		case d.Flags&precompiles.ContractRetired != 0:
			doc.State = "retired"
		case d.Flags&precompiles.ContractPaused != 0:
			doc.State = "paused"
		case d.Flags&precompiles.ContractFrozen != 0:
			doc.State = "frozen"
		}
		if d.Review != 0 {
			if doc.Release, err = r.release(d.Review); err != nil {
				return err
			}
		}
		return show(c, doc, doc.table)
	})
}

func (d contractDoc) table(w io.Writer) {
	row(w, "contract", d.Address)
	state := d.State
	if d.By != nil {
		by := d.By.String()
		if *d.By == precompiles.GovernanceAddress {
			by = "a motion"
		}
		state += fmt.Sprintf(", by %s, since block %d", by, d.Since)
		if d.Reason != "" {
			state += ": " + d.Reason
		}
	}
	row(w, "state", state)
	row(w, "owner", d.Owner)
	row(w, "code", d.Code)
	row(w, "since", fmt.Sprintf("block %d, as number %d", d.Height, d.Number))
	if d.Version != "" {
		row(w, "version", d.Version)
	}
	if d.Release == nil {
		row(w, "release", "none: it came without review")
		return
	}
	row(w, "release", d.Release.ID)
	d.Release.contents(w)
	row(w, "approved by", d.Release.approvedBy())
}
