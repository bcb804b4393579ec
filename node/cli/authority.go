package cli

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
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

// maxCertificateFile bounds the file of a certificate, in bytes: a PEM file may have text around it.
const maxCertificateFile = 1 << 20

func authorityCommand() *cli.Command {
	return &cli.Command{
		Name:  "authority",
		Usage: "show and propose which certificate authorities may vouch for an institution",
		Description: "A root is named by its certificate, a PEM or DER file, or by its fingerprint: the hash under the chain's suite of what is\n" +
			"signed in it, its TBSCertificate in DER.\n" +
			"The group reads no certificates: who votes for a motion compares the fingerprint, the dates and the roles with the\n" +
			"certificate. `motion show`, `motion vote` and `motion execute` go on with a motion. For an institution of which no\n" +
			"authority is named, the group asks for none. A role that was conferred on an account is judged by its certificates once a root\n" +
			"of the institution may vouch for it or a policy names it: the account calls nothing until enough do, so bind it to the certificates\n" +
			"of those that will vouch (`account certify`) before the motion takes effect. An account that goes by no certificate is\n" +
			"judged by none, unless --real-names is on. A root is rotated by proposing the next one of the same agency, and\n" +
			"removing the old one when it has ended.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "print all authorities and policies", Flags: remoteFlags(), Action: listAuthorities},
			{Name: "show", Usage: "print an institution's authorities and policies", ArgsUsage: "INSTITUTION", Flags: remoteFlags(), Action: showAuthorities},
			{
				Name: "propose", Usage: "propose authorities and policies of an institution",
				Flags: signingFlags(
					&cli.StringFlag{Name: "institution", Usage: "`NAME`; default: the sender's"},
					&cli.StringSliceFlag{Name: "root", Usage: "`AGENCY=FILE|FINGERPRINT` of a root that may vouch. May be repeated"},
					&cli.StringFlag{Name: "roles", Usage: "`ROLE,ROLE` that the roots may vouch for", Value: "node,user"},
					&cli.StringFlag{Name: "valid-from", Usage: "first block `TIME` at which the roots count, as 2026-01-02T15:04:05Z (default: that of the certificate)"},
					&cli.StringFlag{Name: "valid-until", Usage: "last block `TIME` at which they do (default: that of the certificate)"},
					&cli.StringSliceFlag{Name: "remove", Usage: "`FILE|FINGERPRINT` of a root that may not vouch any more. May be repeated"},
					&cli.StringSliceFlag{Name: "policy", Usage: "`ROLE=any|all|K`: how many agencies must vouch for a role: of nodes, of API clients with certificates, and of accounts that go by certificates and have the role (user: all of them). May be repeated"},
					&cli.StringFlag{Name: "real-names", Usage: "`on|off`: whether accounts call contracts only under certificates for keys that sign"},
					titleFlag(), expiresFlag(),
				),
				Action: proposeAuthorities,
			},
		},
	}
}

// authorityDoc is an institution in the output of authority list.
type authorityDoc struct {
	Institution string    `json:"institution"`
	Authorities []rootDoc `json:"authorities"`
	Policies    []string  `json:"policies"` // role=any|all|K; a role without one: any
	RealNames   bool      `json:"real_names"`
}

type rootDoc struct {
	Agency string      `json:"agency"`
	Root   keys.Digest `json:"root"`
	From   int64       `json:"from"`
	Until  int64       `json:"until"`
	Roles  []string    `json:"roles"`
}

func describeTrust(t *precompiles.InstitutionTrust) authorityDoc {
	d := authorityDoc{Institution: t.Institution, Authorities: []rootDoc{}, Policies: []string{}, RealNames: t.Row.RealNames}
	for _, a := range t.Row.Authorities {
		d.Authorities = append(d.Authorities, rootDoc{Agency: a.Agency, Root: a.Root, From: a.From, Until: a.Until, Roles: a.Roles})
	}
	for _, p := range t.Row.Policies {
		d.Policies = append(d.Policies, policyText(p))
	}
	return d
}

func policyText(p precompiles.VouchPolicy) string {
	switch p.Need {
	case 0:
		return p.Role + "=all"
	case 1:
		return p.Role + "=any"
	}
	return fmt.Sprintf("%s=%d", p.Role, p.Need)
}

func authorityText(a *precompiles.Authority) string {
	return fmt.Sprintf("%s, root %s, for %s, from %s until %s", a.Agency, a.Root, strings.Join(a.Roles, ", "), timeText(a.From), timeText(a.Until))
}

func authorityTable(w io.Writer, d *authorityDoc) {
	row(w, "institution", d.Institution)
	for _, a := range d.Authorities {
		row(w, "authority", authorityText(&precompiles.Authority{Agency: a.Agency, Root: a.Root, From: a.From, Until: a.Until, Roles: a.Roles}))
	}
	for _, p := range d.Policies {
		row(w, "policy", p)
	}
	if d.RealNames {
		row(w, "real names", "on: accounts call contracts only under certificates for keys that sign")
	}
}

func listAuthorities(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		trusts, err := members.Trusts(r.ctx, r.Client)
		if err != nil {
			return err
		}
		docs := []authorityDoc{}
		for i := range trusts {
			docs = append(docs, describeTrust(&trusts[i]))
		}
		return show(c, docs, func(w io.Writer) {
			if len(docs) == 0 {
				row(w, "authorities", "the group names none: local providers alone decide")
			}
			for i := range docs {
				authorityTable(w, &docs[i])
			}
		})
	})
}

func showAuthorities(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "INSTITUTION")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		trust, err := members.Trust(r.ctx, r.Client, args[0])
		if err != nil {
			return err
		}
		if trust == nil {
			return withCode(ExitNotFound, fmt.Errorf("the group names no authority of an institution %q: `fondaco authority list` prints all that it names", args[0]))
		}
		d := describeTrust(&precompiles.InstitutionTrust{Institution: args[0], Row: *trust})
		return show(c, d, func(w io.Writer) { authorityTable(w, &d) })
	})
}

func proposeAuthorities(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if !slices.ContainsFunc([]string{"root", "remove", "policy", "real-names"}, c.IsSet) {
		return usage("a motion changes something: give at least one of --root, --remove, --policy, --real-names")
	}
	return talk(c, func(r *remote) error {
		institution, err := r.institution()
		if err != nil {
			return err
		}
		f, err := r.trustReform(institution)
		if err != nil {
			return err
		}
		return r.propose(&precompiles.ProposeArgs{Reform: f})
	})
}

// trustReform puts together what the flags of authority propose say of an institution.
func (r *remote) trustReform(institution string) (*precompiles.Reform, error) {
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	f := &precompiles.Reform{}
	roles := splitList(r.c.String("roles"))
	slices.Sort(roles)
	for _, text := range r.c.StringSlice("root") {
		agency, file, ok := strings.Cut(text, "=")
		if !ok || agency == "" {
			return nil, usage("--root %q: want AGENCY=FILE or AGENCY=FINGERPRINT", text)
		}
		found, err := readCertificate(suite, file)
		if err != nil {
			return nil, fmt.Errorf("--root %s: %w", agency, err)
		}
		a := precompiles.Authority{Agency: agency, Root: found.fingerprint, From: found.from, Until: found.until, Roles: roles}
		for flag, to := range map[string]*int64{"valid-from": &a.From, "valid-until": &a.Until} {
			if err := readTime(r.c, flag, to); err != nil {
				return nil, err
			}
		}
		if a.Until == 0 {
			return nil, usage("--root %s: a fingerprint does not tell when the root ends: give --valid-until, and --valid-from, or the certificate's file", text)
		}
		f.Trust = append(f.Trust, precompiles.TrustedRoot{Institution: institution, Authority: a})
	}
	for _, text := range r.c.StringSlice("remove") {
		found, err := readCertificate(suite, text)
		if err != nil {
			return nil, fmt.Errorf("--remove: %w", err)
		}
		f.Distrust = append(f.Distrust, precompiles.DistrustedRoot{Institution: institution, Root: found.fingerprint})
	}
	for _, text := range r.c.StringSlice("policy") {
		role, rule, _ := strings.Cut(text, "=")
		need, err := strconv.ParseUint(rule, 10, 32)
		switch {
		case rule == "any":
			need = 1
		case rule == "all":
			need = 0
		case err != nil || need == 0 || need > precompiles.MaxAuthorities:
			return nil, usage("--policy %q: want ROLE=any, ROLE=all or ROLE=K, of 1 to %d agencies", text, precompiles.MaxAuthorities)
		}
		f.Policies = append(f.Policies, precompiles.InstitutionPolicy{Institution: institution, Policy: precompiles.VouchPolicy{Role: role, Need: uint32(need)}})
	}
	switch text := r.c.String("real-names"); text {
	case "":
	case "on", "off":
		f.RealNames = append(f.RealNames, precompiles.InstitutionNames{Institution: institution, Required: text == "on"})
	default:
		return nil, usage("--real-names %q: want on or off", text)
	}
	return f, nil
}

// trustChanges says in words what a motion changes about authorities.
func trustChanges(f *precompiles.Reform) (changes []string) {
	for i := range f.Trust {
		changes = append(changes, fmt.Sprintf("+ authority of %s: %s", f.Trust[i].Institution, authorityText(&f.Trust[i].Authority)))
	}
	for _, d := range f.Distrust {
		changes = append(changes, fmt.Sprintf("- authority of %s: root %s", d.Institution, d.Root))
	}
	for _, p := range f.Policies {
		changes = append(changes, fmt.Sprintf("~ policy of %s: %s", p.Institution, policyText(p.Policy)))
	}
	for _, n := range f.RealNames {
		how := "may call contracts without certificates"
		if n.Required {
			how = "call contracts only under certificates for keys that sign"
		}
		changes = append(changes, fmt.Sprintf("~ accounts of %s %s", n.Institution, how))
	}
	return changes
}

// certificateFile is what is known of a certificate that a person named.
type certificateFile struct {
	fingerprint keys.Digest
	from, until int64       // Unix ms; 0: not known, of a fingerprint
	key         *ledger.Key // nil: not known, or none of the suite
	chain       [][]byte    // DER of it and of those behind it in the file; nil: not known, of a fingerprint
}

// readCertificate reads the fingerprint of a certificate, or the first certificate of a file in PEM or DER. It looks at
// no more than the dates and the key (RFC 5280 §4.1), so the certificate may be of any algorithm.
func readCertificate(suite keys.Suite, text string) (certificateFile, error) {
	if digest, err := parseDigest(text); err == nil {
		return certificateFile{fingerprint: digest}, nil
	}
	file, err := os.Open(text)
	if errors.Is(err, fs.ErrNotExist) {
		return certificateFile{}, withCode(ExitNotFound, fmt.Errorf("there is no certificate file %s: name a file in PEM or DER, or a fingerprint, 0x and 64 hexadecimal digits", text))
	}
	if err != nil {
		return certificateFile{}, err
	}
	defer file.Close()
	der, err := io.ReadAll(io.LimitReader(file, maxCertificateFile))
	if err != nil {
		return certificateFile{}, err
	}
	chain := pemBlocks(der, "CERTIFICATE")
	if len(chain) == 0 {
		chain = [][]byte{der}
	}
	found, err := parseCertificate(suite, chain[0])
	found.chain = chain
	if err != nil {
		return found, withCode(ExitInvalid, fmt.Errorf("%s holds no certificate in PEM or DER, and is no fingerprint, 0x and 64 hexadecimal digits", text))
	}
	return found, nil
}

// parseCertificate reads the dates of a certificate in DER, which may be of any algorithm.
func parseCertificate(suite keys.Suite, der []byte) (certificateFile, error) {
	var parsed struct {
		TBS struct {
			Version   asn1.RawValue `asn1:"optional,explicit,tag:0"`
			Serial    *big.Int
			Algorithm asn1.RawValue
			Issuer    asn1.RawValue
			Validity  struct{ From, Until time.Time }
			Subject   asn1.RawValue
			Key       struct {
				Algorithm struct {
					ID    asn1.ObjectIdentifier
					Curve asn1.RawValue `asn1:"optional"`
				}
				Bits asn1.BitString
			}
		}
	}
	rest, err := asn1.Unmarshal(der, &parsed)
	if err != nil {
		return certificateFile{}, err
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return certificateFile{}, errors.New("something follows the certificate")
	}
	return certificateFile{
		fingerprint: identity.Fingerprint(suite, der[:len(der)-len(rest)]),
		from:        parsed.TBS.Validity.From.UnixMilli(), until: parsed.TBS.Validity.Until.UnixMilli(),
		key: certificateKey(suite, parsed.TBS.Key.Algorithm.ID, parsed.TBS.Key.Algorithm.Curve.FullBytes, parsed.TBS.Key.Bits.RightAlign()),
	}, nil
}

// certificateKey returns the canonical form of a certificate's key (RFC 5480 and 8410, GM/T 0015), or nil if the suite has none
// such.
func certificateKey(suite keys.Suite, id asn1.ObjectIdentifier, parameters, bits []byte) *ledger.Key {
	var curve asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(parameters, &curve); err != nil && len(parameters) > 0 {
		return nil
	}
	const uncompressed = 65
	if len(bits) == uncompressed && bits[0] == 4 {
		bits = append([]byte{2 + bits[uncompressed-1]&1}, bits[1:33]...)
	}
	for algorithm, ids := range map[keys.Algorithm]string{
		keys.Ed25519: "1.3.101.112 ", keys.P256: "1.2.840.10045.2.1 1.2.840.10045.3.1.7", keys.SM2: "1.2.840.10045.2.1 1.2.156.10197.1.301",
	} {
		if _, err := suite.ParsePublic(algorithm, bits); err == nil && id.String()+" "+curve.String() == ids {
			return &ledger.Key{Algorithm: algorithm, Bytes: bits}
		}
	}
	return nil
}

func certificateCommand() *cli.Command {
	const one = "FINGERPRINT|FILE"
	act := func(name, usageText string, reason bool) *cli.Command {
		flags := signingFlags()
		if reason {
			flags = signingFlags(&cli.StringFlag{Name: "reason", Usage: "`NAME` of RFC 5280: " + strings.Join(reasonNames(), ", "), Value: "unspecified"})
		}
		return &cli.Command{
			Name: name, Usage: usageText, ArgsUsage: one, Flags: flags,
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, one)
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					suite, err := r.Suite(r.ctx)
					if err != nil {
						return err
					}
					found, err := readCertificate(suite, args[0])
					if err != nil {
						return err
					}
					var values any = &precompiles.CertificateArgs{Fingerprint: found.fingerprint}
					if reason {
						code := slices.Index(precompiles.Reasons(), c.String("reason"))
						if code < 0 || c.String("reason") == "" {
							return usage("--reason %q: want one of %s", c.String("reason"), strings.Join(reasonNames(), ", "))
						}
						values = &precompiles.StatusArgs{Fingerprint: found.fingerprint, Reason: uint8(code)}
					}
					return r.transact(precompiles.CertificatesAddress, name, values, func(_ *client.Transaction, w io.Writer) {
						row(w, "certificate", found.fingerprint)
					})
				})
			},
		}
	}
	return &cli.Command{
		Name:  "certificate",
		Usage: "show what institutions say of a certificate; freeze and revoke those of one's own",
		Description: "A certificate is named by its file, PEM or DER, or its fingerprint. The sender is a registrar or institution-admin, and\n" +
			"speaks for its own institution alone. Accounts that go by a certificate which is frozen or revoked send nothing until\n" +
			"`account certify` binds them to another one; but an institution-admin goes on governing unless another one said so, and\n" +
			"an account with the role committee in any case.",
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "print what institutions say of a certificate", ArgsUsage: one, Flags: remoteFlags(&cli.StringFlag{Name: "institution", Usage: "`NAME` whose accounts that go by it are listed, too"}), Action: showCertificate},
			act("freeze", "stop a certificate from counting for now", true),
			act("unfreeze", "lift what freeze did", false),
			act("revoke", "stop a certificate from counting, for ever", true),
		},
	}
}

func reasonNames() []string {
	return slices.DeleteFunc(precompiles.Reasons(), func(name string) bool { return name == "" })
}

// certificateDoc is the output of certificate status.
type certificateDoc struct {
	Fingerprint keys.Digest      `json:"fingerprint"`
	Accounts    []ledger.Address `json:"accounts,omitempty"` // of --institution that go by it
	Said        []saidDoc        `json:"said"`
}

type saidDoc struct {
	Institution string         `json:"institution"`
	Status      string         `json:"status"`
	Reason      string         `json:"reason"`
	By          ledger.Address `json:"by"`
	Height      ledger.Height  `json:"height"`
}

func showCertificate(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FINGERPRINT|FILE")
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		suite, err := r.Suite(r.ctx)
		if err != nil {
			return err
		}
		found, err := readCertificate(suite, args[0])
		if err != nil {
			return err
		}
		said, err := members.Certificate(r.ctx, r.Client, found.fingerprint)
		if err != nil {
			return err
		}
		d := certificateDoc{Fingerprint: found.fingerprint, Said: []saidDoc{}}
		if institution := c.String("institution"); institution != "" {
			if d.Accounts, err = members.Bound(r.ctx, r.Client, found.fingerprint, institution); err != nil {
				return err
			}
		}
		for _, s := range said {
			d.Said = append(d.Said, saidDoc{Institution: s.Institution, Status: s.Row.Status.String(), Reason: precompiles.ReasonName(s.Row.Reason), By: s.Row.By, Height: s.Row.Height})
		}
		return show(c, d, func(w io.Writer) {
			row(w, "certificate", d.Fingerprint)
			for _, a := range d.Accounts {
				row(w, "account", a)
			}
			if len(d.Said) == 0 {
				row(w, "status", "active: no institution said anything of it")
			}
			for _, s := range d.Said {
				row(w, "status", fmt.Sprintf("%s for %s since block %d, %s, by %s", s.Status, s.Institution, s.Height, s.Reason, s.By))
			}
		})
	})
}
