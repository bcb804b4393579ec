package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const certifyWanted = "ADDRESS|NAME FILE[@ROOT]|FINGERPRINT[@ROOT]|none..."

func accountCommand() *cli.Command {
	const keysWanted = "KEY[*WEIGHT]..."
	validUntil := func() cli.Flag {
		return &cli.StringFlag{Name: "valid-until", Usage: "last block `TIME` at which the certificates count, as 2026-01-02T15:04:05Z (default: the end of the first to end)"}
	}
	unchecked := func() cli.Flag {
		return &cli.BoolFlag{Name: "unchecked", Usage: "bind the account whatever the certificates say, and whoever issued them"}
	}
	lists := func() cli.Flag {
		return &cli.StringSliceFlag{Name: "crl", Usage: "`FILE` of an authority's revocation list, on which the certificates must not be. May be repeated"}
	}
	threshold := func(usage string) cli.Flag {
		return &cli.UintFlag{Name: "threshold", Usage: usage}
	}
	return &cli.Command{
		Name:  "account",
		Usage: "make and show accounts, change their keys, roles and certificates, and freeze them",
		Description: "A KEY is a key file, or what `fondaco keys show` prints, such as ed25519:0x…. The keys that sign a\n" +
			"transaction must together weigh the account's threshold.",
		Subcommands: append([]*cli.Command{
			{
				Name:      "register",
				Usage:     "make an account in an institution; the sender is one of its registrars or admins",
				ArgsUsage: keysWanted,
				Flags: signingFlags(
					&cli.StringFlag{Name: "institution", Usage: "`NAME`; default: the sender's"},
					&cli.StringFlag{Name: "roles", Usage: "`ROLE,ROLE` of the account", Value: "user"},
					threshold("weight of keys that must sign; 0: 1"),
					&cli.StringSliceFlag{Name: "certificate", Usage: "`FILE[@ROOT]` or FINGERPRINT[@ROOT] of a certificate that the account goes by, as of certify. May be repeated"},
					validUntil(), lists(), unchecked(),
				),
				Action: registerAccount,
			},
			{
				Name:      "show",
				Usage:     "print an account",
				ArgsUsage: "ADDRESS|NAME",
				Flags:     remoteFlags(),
				Action: func(c *cli.Context) error {
					args, err := arguments(c, 1, 1, "ADDRESS|NAME")
					if err != nil {
						return err
					}
					return talk(c, func(r *remote) error {
						address, err := r.account(args[0])
						if err != nil {
							return err
						}
						account, err := r.Account(r.ctx, address)
						if err != nil {
							return err
						}
						return show(c, account, func(w io.Writer) { accountTable(w, account) })
					})
				},
			},
			{
				Name:      "certify",
				Usage:     "bind an account to certificates; the sender is a registrar or admin of its institution",
				ArgsUsage: certifyWanted,
				Description: "A certificate is named by its file, PEM or DER, or its fingerprint, and ROOT in the same way names the root that it leads to:\n" +
					"where the group names authorities of the institution, one of those. If the certificate is for a key of the account, that key\n" +
					"must be among those that sign calls of contracts. Before anything is sent, a FILE@ROOT is looked into: that it leads to ROOT,\n" +
					"for which FILE has the authorities between behind it, is of the account's institution, valid now, not on the lists of --crl, and\n" +
					"has the role user and the account's other roles for which the group trusts that root. A registrar binds accounts that have no role but user, an admin all but\n" +
					"those with the role committee, which bind themselves.",
				Flags:  signingFlags(validUntil(), lists(), unchecked()),
				Action: certifyAccount,
			},
			{
				Name:      "bind",
				Usage:     "add keys to the sender's account",
				ArgsUsage: keysWanted,
				Flags:     signingFlags(threshold("new weight of keys that must sign; 0: as it is")),
				Action: func(c *cli.Context) error {
					return changeKeys(c, 1, -1, keysWanted, func(bound []precompiles.AccountKey, threshold uint32) (string, any) {
						return "bind", &precompiles.BindArgs{Keys: bound, Threshold: threshold}
					})
				},
			},
			{
				Name:      "unbind",
				Usage:     "take keys from the sender's account",
				ArgsUsage: "KEY...",
				Flags:     signingFlags(threshold("new weight of keys that must sign; 0: as it is")),
				Action: func(c *cli.Context) error {
					return changeKeys(c, 1, -1, "KEY...", func(bound []precompiles.AccountKey, threshold uint32) (string, any) {
						var gone []ledger.Key
						for _, k := range bound {
							gone = append(gone, ledger.Key{Algorithm: k.Algorithm, Bytes: k.Key})
						}
						return "unbind", &precompiles.UnbindArgs{Keys: gone, Threshold: threshold}
					})
				},
			},
			{
				Name:      "rotate",
				Usage:     "replace a key of the sender's account",
				ArgsUsage: "OLD-KEY NEW-KEY[*WEIGHT]",
				Flags:     signingFlags(&cli.DurationFlag{Name: "overlap", Usage: "how long the old key may sign beside the new one; 0: not at all"}),
				Action: func(c *cli.Context) error {
					return changeKeys(c, 2, 2, "OLD-KEY NEW-KEY[*WEIGHT]", func(bound []precompiles.AccountKey, _ uint32) (string, any) {
						args := &precompiles.RotateArgs{Old: ledger.Key{Algorithm: bound[0].Algorithm, Bytes: bound[0].Key}, New: bound[1]}
						if overlap := c.Duration("overlap"); overlap != 0 {
							args.Until = time.Now().Add(overlap).UnixMilli()
						}
						return "rotate", args
					})
				},
			},
			accessCommand("grant", "give an account a role; the sender is an admin of its institution. Motions alone give committee, regulator and auditor"),
			accessCommand("revoke", "take a role from an account, as grant gives it"),
		}, append(freezeAccountCommands(), lifelineCommands()...)...),
	}
}

// accessCommand is a command that gives a role to an account, or takes it.
func accessCommand(method, usageText string) *cli.Command {
	const wanted = "ADDRESS|NAME ROLE"
	return &cli.Command{
		Name: method, Usage: usageText, ArgsUsage: wanted, Flags: signingFlags(),
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 2, 2, wanted)
			if err != nil {
				return err
			}
			return talk(c, func(r *remote) error {
				address, err := r.account(args[0])
				if err != nil {
					return err
				}
				return r.transact(precompiles.AccessAddress, method, &precompiles.RoleArgs{Account: address, Role: args[1]}, nil)
			})
		},
	}
}

func registerAccount(c *cli.Context) error {
	args, err := arguments(c, 1, precompiles.MaxAccountKeys, "KEY[*WEIGHT]...")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		bound, err := r.weighedKeys(args)
		if err != nil {
			return err
		}
		institution, err := r.institution()
		if err != nil {
			return err
		}
		own := make([]ledger.Key, len(bound))
		for i, k := range bound {
			own[i] = ledger.Key{Algorithm: k.Algorithm, Bytes: k.Key}
		}
		roles := splitList(c.String("roles"))
		certificate, err := r.binding(c.StringSlice("certificate"), &bearer{institution: institution, roles: roles, keys: own})
		if err != nil {
			return err
		}
		values := &precompiles.RegisterArgs{Institution: institution, Accounts: []precompiles.NewAccount{{
			Threshold: max(1, uint32(min(c.Uint("threshold"), math.MaxUint32))), Roles: roles, Keys: bound, Certificate: certificate,
		}}}
		return r.transact(precompiles.AccountsAddress, "register", values, func(tx *client.Transaction, w io.Writer) {
			var made []ledger.Address
			if json.Unmarshal(tx.Receipt.Decoded, &made) == nil && len(made) == 1 {
				row(w, "account", made[0])
			}
		})
	})
}

// certifyAccount binds an account to other certificates, or to none.
func certifyAccount(c *cli.Context) error {
	args, err := arguments(c, 2, 1+precompiles.MaxAuthorities, certifyWanted)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		address, err := r.account(args[0])
		if err != nil {
			return err
		}
		values := &precompiles.CertifyArgs{Account: address}
		if texts := args[1:]; !slices.Equal(texts, []string{"none"}) {
			account, err := r.Account(r.ctx, address)
			if err != nil {
				return err
			}
			own := make([]ledger.Key, len(account.Keys))
			for i, k := range account.Keys {
				own[i] = k.Key
			}
			if values.Certificate, err = r.binding(texts, &bearer{institution: account.Institution, roles: account.Roles, keys: own}); err != nil {
				return err
			}
		}
		return r.transact(precompiles.AccountsAddress, "certify", values, nil)
	})
}

// bearer is an account that is to go by certificates.
type bearer struct {
	institution string
	roles       []string
	keys        []ledger.Key
}

// binding returns what binds an account to the certificates that a person named, or nil for none. It refuses those that do not say of the
// account what the group would take them for, but with --unchecked.
func (r *remote) binding(texts []string, of *bearer) (*precompiles.Binding, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	trust, err := members.Trust(r.ctx, r.Client, of.institution)
	if err != nil {
		return nil, err
	}
	b := &precompiles.Binding{Until: math.MaxInt64}
	dated := true
	for _, text := range texts {
		name, root, rooted := text, "", false
		if at := strings.LastIndexByte(text, '@'); at >= 0 {
			name, root, rooted = text[:at], text[at+1:], true
		}
		found, err := readCertificate(suite, name)
		if err != nil {
			return nil, err
		}
		path := identity.Path{Leaf: found.fingerprint}
		if rooted {
			authority, err := readCertificate(suite, root)
			if err != nil {
				return nil, fmt.Errorf("the root of %s: %w", name, err)
			}
			path.Root = authority.fingerprint
			if !r.c.Bool("unchecked") {
				ends, err := r.examine(suite, trust, of, name, &found, root, &authority)
				if err != nil {
					return nil, fmt.Errorf("%w; to bind the account all the same, give --unchecked", err)
				}
				found.until = min(found.until, ends)
			}
		}
		b.Paths = append(b.Paths, path)
		dated = dated && found.until != 0
		b.Until = min(b.Until, cmp.Or(found.until, math.MaxInt64))
		if found.key != nil && slices.ContainsFunc(of.keys, func(k ledger.Key) bool {
			return k.Algorithm == found.key.Algorithm && bytes.Equal(k.Bytes, found.key.Bytes)
		}) {
			b.Key = found.key
		}
	}
	slices.SortFunc(b.Paths, identity.Path.Compare)
	if !dated && r.c.String("valid-until") == "" {
		return nil, usage("a fingerprint does not tell when the certificate ends: give --valid-until, or its file")
	}
	switch {
	case b.Key != nil:
	case trust != nil && trust.RealNames:
		note(r.c, "None of the certificates is known to be for a key of the account, and accounts of %s call contracts only under one that is: bind its key first (`fondaco account bind`), or have a certificate issued for a key that it has.", of.institution)
	default:
		note(r.c, "None of the certificates is known to be for a key of the account: which of its keys sign makes no difference to them.")
	}
	ends := b.Until
	if err := readTime(r.c, "valid-until", &b.Until); err != nil {
		return nil, err
	}
	if b.Until > ends && dated && !r.c.Bool("unchecked") {
		return nil, usage("--valid-until is after the certificates end, at %s: leave it out, or give --unchecked", timeText(ends))
	}
	return b, nil
}

// examine says what keeps a certificate from standing for an account where the group trusts a root, and else when it ends, Unix ms. The file of
// the certificate has the authorities between behind it.
func (r *remote) examine(suite keys.Suite, trust *precompiles.Trust, of *bearer, name string, found *certificateFile, rootName string, root *certificateFile) (ends int64, err error) {
	if found.chain == nil || root.chain == nil {
		return 0, withCode(ExitUsage, fmt.Errorf("%s@%s: a fingerprint does not tell who issued a certificate, and to whom: give the files of both", name, rootName))
	}
	holder, err := r.certified(suite, found.chain, root.chain[0])
	refusal, refused := errors.AsType[*ca.Refusal](err)
	switch {
	case refused && refusal.Code == ca.UnknownRoot:
		err = fmt.Errorf("%s does not lead to %s: name the root of its authority, and have the certificates between behind it in its file", name, rootName)
	case err != nil:
		err = fmt.Errorf("%s under %s: %w", name, rootName, err)
	case holder.Institution != of.institution:
		err = fmt.Errorf("%s is of institution %q, and the account is of %q", name, holder.Institution, of.institution)
	}
	if err != nil {
		return 0, withCode(ExitInvalid, err)
	}
	for _, role := range asks(trust, of, root.fingerprint) {
		if !slices.Contains(holder.Roles, identity.Role(role)) {
			return 0, withCode(ExitInvalid, fmt.Errorf("%s has the roles %s, and the group would take it for the account's role %s, for which it trusts %s: have it issued with that role", name, roleTexts(holder.Roles), role, rootName))
		}
	}
	return holder.NotAfter, nil
}

// asks returns the roles for which the group takes an account's certificate under a root: user, and the account's others that it judges, as
// far as it trusts the root for them. A root that it does not trust is asked for user.
func asks(trust *precompiles.Trust, of *bearer, root keys.Digest) []string {
	may := []string{string(identity.User)}
	if trust != nil {
		if i := slices.IndexFunc(trust.Authorities, func(a precompiles.Authority) bool { return a.Root == root }); i >= 0 {
			may = trust.Authorities[i].Roles
		}
	}
	return slices.DeleteFunc(slices.Clone(may), func(role string) bool {
		return role != string(identity.User) && !(trust.Judges(role) && slices.Contains(of.roles, role))
	})
}

func roleTexts(roles []identity.Role) string {
	var texts []string
	for _, role := range roles {
		texts = append(texts, string(role))
	}
	return cmp.Or(strings.Join(texts, ", "), "none")
}

// certified returns whom a chain vouches for under a root now, by the lists of --crl, as a provider for X.509 has it, for whatever purpose of a person.
func (r *remote) certified(suite keys.Suite, chain [][]byte, root []byte) (holder *ca.Holder, err error) {
	dir, err := os.MkdirTemp("", "fondaco-") // for what settings name: files
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	trust := x509ca.Trust{Roots: filepath.Join(dir, "root.pem"), Revocation: "none"}
	if err := os.WriteFile(trust.Roots, encodeBlocks("CERTIFICATE", [][]byte{root}), 0o600); err != nil {
		return nil, err
	}
	for _, path := range r.c.StringSlice("crl") {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		trust.CRL, trust.Revocation = append(trust.CRL, path), ""
	}
	settings, err := toml.Marshal(x509ca.Settings{Trust: []x509ca.Trust{trust}})
	if err != nil {
		return nil, err
	}
	provider := x509ca.New(suite)
	if err := provider.Configure(r.ctx, settings); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), trust.Roots+": ", "")) // the caller names the root's own file
	}
	var refusal *ca.Refusal
	for _, purpose := range []ca.Purpose{ca.User, ca.Admin, ca.Regulator} {
		answer, err := provider.Verify(r.ctx, ca.VerifyRequest{Chain: chain, Purpose: purpose, At: time.Now().UnixMilli()})
		if err != nil || answer.Holder != nil {
			return answer.Holder, err
		}
		refusal = cmp.Or(refusal, answer.Refusal)
	}
	return nil, refusal
}

// changeKeys sends a change of the sender's keys: the method and arguments that change returns.
func changeKeys(c *cli.Context, least, most int, want string, change func(bound []precompiles.AccountKey, threshold uint32) (string, any)) error {
	args, err := arguments(c, least, most, want)
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		bound, err := r.weighedKeys(args)
		if err != nil {
			return err
		}
		threshold := uint32(min(c.Uint("threshold"), math.MaxUint32))
		if threshold == 0 {
			account, err := r.senderAccount()
			if err != nil {
				return err
			}
			threshold = account.Threshold
		}
		method, values := change(bound, threshold)
		return r.transact(precompiles.AccountsAddress, method, values, nil)
	})
}

// senderAccount returns the account of --from as it is now.
func (r *remote) senderAccount() (*client.Account, error) {
	from := r.c.String("from")
	if from == "" {
		return nil, usage("no account to send from: give --from ADDRESS or set FONDACO_FROM")
	}
	address, err := r.account(from)
	if err != nil {
		return nil, err
	}
	return r.Account(r.ctx, address)
}

// institution returns that of --institution, or else the sender's.
func (r *remote) institution() (string, error) {
	if name := r.c.String("institution"); name != "" {
		return name, nil
	}
	account, err := r.senderAccount()
	if err != nil {
		return "", err
	}
	return account.Institution, nil
}

// weighedKeys reads KEY or KEY*WEIGHT.
func (r *remote) weighedKeys(texts []string) ([]precompiles.AccountKey, error) {
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	bound := make([]precompiles.AccountKey, len(texts))
	for i, text := range texts {
		weight := uint64(1)
		name, digits, ok := strings.Cut(text, "*")
		if ok {
			if weight, err = strconv.ParseUint(digits, 10, 32); err != nil || weight == 0 || weight > precompiles.MaxKeyWeight {
				return nil, usage("key %q: want a weight of 1 to %d after the *", text, precompiles.MaxKeyWeight)
			}
		}
		key, err := publicKey(r.c, suite, name)
		if err != nil {
			return nil, err
		}
		bound[i] = precompiles.AccountKey{Algorithm: key.Algorithm, Key: key.Bytes, Weight: uint32(weight)}
	}
	return bound, nil
}

// bindingTable prints by which certificates an account goes.
// endsSoon is how long before the end of a binding `account show` warns of it, as nodes do of what they watch.
const endsSoon = 30 * 24 * time.Hour

// bindingTable prints a binding as it is at a time, Unix ms.
func bindingTable(w io.Writer, b *client.Binding, now int64) {
	for _, c := range b.Certificates {
		text := fmt.Sprintf("%s, %s", c.Fingerprint, c.Status)
		if c.Reason != "" {
			text += fmt.Sprintf(" since block %d (%s)", c.Height, c.Reason)
		}
		if !c.Root.IsZero() {
			text += fmt.Sprintf(", root %s", c.Root)
		}
		row(w, "certificate", text)
	}
	row(w, "valid until", timeText(b.Until))
	if b.Key != nil {
		row(w, "signs with", keyText(*b.Key))
	}
	switch {
	case b.Refused != "":
		row(w, "refused", "it calls no contracts: "+b.Refused)
	case b.Until-now <= endsSoon.Milliseconds():
		row(w, "WARNING", fmt.Sprintf("it calls no contracts after %s (%s): have it bound to the next certificate before that, with `fondaco account certify`", timeText(b.Until), endText(now, b.Until)))
	}
}

func accountTable(w io.Writer, a *client.Account) {
	row(w, "account", a.Address)
	row(w, "institution", a.Institution)
	row(w, "roles", strings.Join(a.Roles, ", "))
	row(w, "status", a.Status)
	row(w, "threshold", a.Threshold)
	for i := range a.Freezes {
		row(w, "frozen", freezeText(&a.Freezes[i]))
	}
	if a.Certificate != nil {
		bindingTable(w, a.Certificate, max(a.Time, time.Now().UnixMilli())) // block time stands still on an idle chain
	}
	lifelineTable(w, a)
	for _, k := range a.Keys {
		valid := ""
		if k.From != 0 {
			valid += ", from " + timeText(k.From)
		}
		if k.Until != 0 {
			valid += fmt.Sprintf(", until %s (%s)", timeText(k.Until), endText(a.Time, k.Until))
		}
		if k.Successor != nil {
			valid += ", beside " + keyText(*k.Successor)
		}
		row(w, "key", fmt.Sprintf("%s, weight %d%s", keyText(k.Key), k.Weight, valid))
	}
}
