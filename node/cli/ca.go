package cli

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func caCommand(programs Plugins) *cli.Command {
	days := func(what string) cli.Flag {
		return &cli.IntFlag{Name: "days", Usage: "`DAYS` that " + what}
	}
	outFlag := &cli.StringFlag{Name: "out", Usage: "write the chain to this `FILE`; default: standard output"}
	byProvider := func(flags ...cli.Flag) []cli.Flag {
		return append(flags, passphraseFlag(),
			&cli.StringFlag{Name: "provider", Usage: "`NAME|FILE` of a CA provider's program that does it, in place of the authority in FOLDER"},
			&cli.StringFlag{Name: "settings", Usage: "`FILE` of the provider's settings"},
			&cli.StringFlag{Name: "sha256", Usage: "`SUM` of the provider's FILE, in hexadecimal: no other is started"})
	}
	const providers = "With --provider there is no FOLDER: the program of that name in this binary, or in that file, is started as a node would start it,\n" +
		"does it by its settings, and is ended."
	return &cli.Command{
		Name:  "ca",
		Usage: "run a small certificate authority: files in a folder",
		Subcommands: []*cli.Command{{
			Name:      "new",
			Usage:     "make an authority of an institution in a new folder",
			ArgsUsage: "FOLDER",
			Flags: append([]cli.Flag{
				suiteFlag(), outputFlag(), days("its certificate is valid; default: 3650"),
				&cli.StringFlag{Name: "institution", Usage: "`NAME` to which all its certificates belong"},
				&cli.StringFlag{Name: "name", Usage: "its own `NAME`; default: the institution's and CA"},
			}, lockFlags()...),
			Action: newCA,
		}, {
			Name:      "request",
			Usage:     "print a request for a certificate for a key",
			ArgsUsage: "KEYFILE",
			Flags:     []cli.Flag{suiteFlag(), passphraseFlag()},
			Action:    requestCertificate,
		}, {
			Name:      "issue",
			Usage:     "issue a certificate for a join request, or a plain request (PKCS #10)",
			ArgsUsage: "FOLDER REQUEST", Description: providers,
			Flags: byProvider(
				outFlag, days("the certificate is valid; default: 365, or what the provider does"),
				&cli.StringFlag{Name: "institution", Usage: "`NAME` of the holder's institution, with --provider; default: that of the join request"},
				&cli.StringFlag{Name: "name", Usage: "`NAME` of the holder"},
				&cli.StringFlag{Name: "agency", Usage: "`UNIT` of the institution to which the holder belongs"},
				&cli.StringSliceFlag{Name: "role", Usage: "`ROLE` of the holder, such as node, user, regulator or institution-admin; may be repeated. Of a join request the default is node"},
				&cli.StringSliceFlag{Name: "host", Usage: "`NAME` or address of a server, such as a node's API, that the certificate is for instead; may be repeated"},
			),
			Action: func(c *cli.Context) error { return issueCertificate(c, programs) },
		}, {
			Name:      "renew",
			Usage:     "issue a certificate in the place of another, for its key or that of a request",
			ArgsUsage: "FOLDER SERIAL [REQUEST]", Description: providers,
			Flags:  byProvider(outFlag, days("the certificate is valid; default: 365, or what the provider does")),
			Action: func(c *cli.Context) error { return renewCertificate(c, programs) },
		}, {
			Name:      "fetch",
			Usage:     "print once more what the holder of a certificate was given",
			ArgsUsage: "FOLDER SERIAL",
			Flags:     []cli.Flag{outFlag},
			Action:    fetchCertificate,
		}, {
			Name:      "revoke",
			Usage:     "end a certificate's validity for ever, and issue a new revocation list",
			ArgsUsage: "FOLDER SERIAL", Description: providers,
			Flags:  byProvider(&cli.StringFlag{Name: "reason", Usage: "`REASON`, such as key-compromise", Value: ca.Unspecified.String()}),
			Action: func(c *cli.Context) error { return revokeCertificate(c, programs) },
		}, {
			Name:      "crl",
			Usage:     "issue the revocation list anew, so that it does not become stale",
			ArgsUsage: "FOLDER",
			Flags:     []cli.Flag{passphraseFlag(), days("until the next is due; default: 7")},
			Action:    refreshList,
		}, {
			Name:      "clients",
			Usage:     "print authorities and their revocation lists for the file api.clients of a node, bound to an institution",
			ArgsUsage: "FILE...",
			Flags:     []cli.Flag{&cli.StringFlag{Name: "institution", Usage: "`NAME` of the one for whose clients these authorities vouch, and for no other"}},
			Action:    bindClients,
		}, {
			Name:      "show",
			Usage:     "list the certificates that an authority issued, and its revocation list",
			ArgsUsage: "FOLDER",
			Flags:     []cli.Flag{outputFlag()},
			Action:    showCA,
		}},
	}
}

// daysOf returns what --days says as a time, or zero.
func daysOf(c *cli.Context) (time.Duration, error) {
	n := c.Int("days")
	if n < 0 || n > 100*365 || c.IsSet("days") && n == 0 {
		return 0, usage("--days %d: want 1 to 36500", n)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

func newCA(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FOLDER")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	institution, err := required(c, "institution", "NAME")
	if err != nil {
		return err
	}
	validity, err := daysOf(c)
	if err != nil {
		return err
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	key, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		return err
	}
	text, err := newLock(c, passphrase(c))
	if err != nil {
		return err
	}
	a, err := x509ca.Create(args[0], x509ca.NewAuthority{
		Suite: suite, Institution: institution, Name: c.String("name"), Key: key, Passphrase: text, At: time.Now(), Validity: validity,
	})
	if err != nil {
		return err
	}
	warnUnlocked(c, a.KeyPath(), text)
	return showKey(c, a.KeyPath(), ledger.KeyOf(key.Public()))
}

// requestWays is how a request for a certificate is made for a key that a signer has.
const requestWays = "with `fondaco ca request KEYFILE`, or, if the key is in a device, with `signer-pkcs11 request`"

func requestCertificate(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "KEYFILE")
	if err != nil {
		return err
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	key, err := openKey(c, args[0], suite)
	if err != nil {
		return err
	}
	if _, remote := key.(keys.MessageSigner); remote {
		return withCode(ExitDenied, fmt.Errorf("%s is the socket of a signer, which makes no request for a certificate over it: make one where the key is, %s", args[0], requestWays))
	}
	der, err := x509ca.Request(suite, key, "")
	if err != nil {
		return err
	}
	return pem.Encode(c.App.Writer, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// lookAtCA opens an authority without its key.
func lookAtCA(folder string) (*x509ca.Authority, error) {
	a, err := x509ca.Open(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, withCode(ExitNotFound, err)
	}
	return a, err
}

// openCA opens an authority with its key.
func openCA(c *cli.Context, folder string) (*x509ca.Authority, error) {
	a, err := lookAtCA(folder)
	if err != nil {
		return nil, err
	}
	key, err := openKey(c, a.KeyPath(), a.Suite())
	if err != nil {
		return nil, err
	}
	return a, a.Unlock(key)
}

// readRequest reads a request for a certificate in PEM or DER.
func readRequest(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, withCode(ExitNotFound, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 2*ca.MaxCertificate))
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		return block.Bytes, nil
	}
	return data, nil
}

// issuer is an authority that a command has do something: one in a folder, or a CA provider's program.
type issuer struct {
	folder   *x509ca.Authority // with its key; nil: a program
	provider *plugins.CA
	c        *cli.Context
}

// issuerArguments returns the arguments of a command of an authority. With --provider the first one, FOLDER, is not given and empty.
func issuerArguments(c *cli.Context, least, most int, want string) ([]string, error) {
	if !c.IsSet("provider") {
		for _, flag := range []string{"settings", "sha256", "institution"} {
			if c.IsSet(flag) {
				return nil, usage("--%s goes with --provider: an authority in a folder has its own", flag)
			}
		}
		return arguments(c, least, most, want)
	}
	args, err := arguments(c, least-1, most-1, strings.TrimPrefix(want, "FOLDER "))
	if err == nil && c.IsSet("passphrase-fd") {
		err = usage("--passphrase-fd is for the key of an authority in a folder: a provider finds the passphrase of its key by its settings")
	}
	return append([]string{""}, args...), err
}

const (
	issueTimeout = 10 * time.Minute // for a provider to issue: its authority may ask a device, or people
	issueSilence = 5 * time.Second  // after which a command says that it waits for that
)

// withIssuer opens the authority in a folder, or starts the program of --provider, for as long as use needs it.
func withIssuer(c *cli.Context, programs Plugins, folder string, use func(*issuer) error) (err error) {
	if !c.IsSet("provider") {
		a, err := openCA(c, folder)
		if err != nil {
			return err
		}
		return use(&issuer{folder: a, c: c})
	}
	name := c.String("provider")
	if programs[name] == nil && !c.IsSet("sha256") {
		return usage("--provider %s is no program of this binary (%s): give --sha256 SUM of the file that you trust; `fondaco plugin check --kind ca %s` prints what it has", name, strings.Join(slices.Sorted(maps.Keys(programs)), ", "), name)
	}
	spec, err := checkedSpec(c, name, programs)
	if err != nil {
		return err
	}
	if settings := c.String("settings"); settings != "" {
		if spec.Config, err = readBounded(settings, ca.MaxSettings); err != nil {
			return err
		}
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: c.App.ErrWriter, NoColor: true}).Level(zerolog.ErrorLevel)
	host := plugins.New(plugins.Config{Log: log, CATimeout: issueTimeout})
	defer func() { err = errors.Join(err, host.Close()) }()
	provider, err := host.CA(c.Context, spec)
	if err != nil {
		return err
	}
	if m := provider.Manifest(); !m.Issues {
		return withCode(ExitDenied, fmt.Errorf("the provider %s says that it issues nothing: name one that does", m.Name))
	}
	return use(&issuer{provider: provider, c: c})
}

func (i *issuer) enroll(r ca.EnrollRequest, hosts []string) (ca.IssueResponse, error) {
	if i.folder != nil {
		return i.folder.EnrollServer(r, hosts)
	}
	return patiently(i, func(ctx context.Context) (ca.IssueResponse, error) { return i.provider.Enroll(ctx, r) })
}

func (i *issuer) renew(r ca.RenewRequest) (ca.IssueResponse, error) {
	if i.folder != nil {
		return i.folder.Renew(r)
	}
	return patiently(i, func(ctx context.Context) (ca.IssueResponse, error) { return i.provider.Renew(ctx, r) })
}

func (i *issuer) revoke(r ca.RevokeRequest) (ca.RevokeResponse, error) {
	if i.folder != nil {
		return i.folder.Revoke(r)
	}
	return patiently(i, func(ctx context.Context) (ca.RevokeResponse, error) { return i.provider.Revoke(ctx, r) })
}

// patiently waits for a provider's answer, and says so if it takes a while.
func patiently[A any](i *issuer, ask func(context.Context) (A, error)) (answer A, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err = ask(i.c.Context)
	}()
	timer := time.NewTimer(issueSilence)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		note(i.c, "The provider has not answered yet: its authority may ask a device, or people. It has %d minutes in all.", int(issueTimeout.Minutes()))
		<-done
	}
	return answer, err
}

func issueCertificate(c *cli.Context, programs Plugins) error {
	args, err := issuerArguments(c, 2, 2, "FOLDER REQUEST")
	if err != nil {
		return err
	}
	validity, err := daysOf(c)
	if err != nil {
		return err
	}
	text, err := readText(args[1], join.MaxRequest)
	if err != nil {
		return err
	}
	var wanted *join.Request
	var csr []byte
	if join.IsRequest(text) {
		if wanted, _, err = readJoinRequest(args[1]); err == nil && len(wanted.CSR) == 0 {
			err = fmt.Errorf("%s has no request for a certificate: its operator makes it again with --csr FILE", args[1])
		}
	} else {
		csr, err = readRequest(args[1])
	}
	if err != nil {
		return err
	}
	institution := c.String("institution")
	switch {
	case !c.IsSet("provider"):
	case c.IsSet("host"):
		return usage("--host goes with an authority in a folder: providers issue to holders of roles, not to servers")
	case institution == "" && wanted == nil:
		return usage("--provider needs --institution NAME: the request does not say whose the holder is")
	case institution == "":
		institution = wanted.Institution
	}
	return withIssuer(c, programs, args[0], func(i *issuer) error {
		now := time.Now()
		if i.folder != nil {
			institution = i.folder.Institution()
		}
		r := ca.EnrollRequest{CSR: csr, Institution: institution, Agency: c.String("agency"), Name: c.String("name"), At: now.UnixMilli(), NotAfter: endOf(now, validity)}
		for _, role := range c.StringSlice("role") {
			r.Roles = append(r.Roles, identity.Role(role))
		}
		if wanted != nil {
			if err := joinEnrollment(c, args[1], wanted, i, &r); err != nil {
				return err
			}
		}
		slices.Sort(r.Roles)
		r.Roles = slices.Compact(r.Roles)
		return writeIssued(c, func() (ca.IssueResponse, error) { return i.enroll(r, c.StringSlice("host")) })
	})
}

// joinEnrollment fills in what a join request says of the certificate that its node needs.
func joinEnrollment(c *cli.Context, path string, wanted *join.Request, i *issuer, r *ca.EnrollRequest) error {
	suite, err := keys.SuiteByName(wanted.Suite)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case c.IsSet("host"):
		return usage("--host is for the certificate of a server, and %s asks for that of a node: leave it out", path)
	case i.folder != nil && wanted.Suite != i.folder.Suite().Name():
		return withCode(ExitDenied, fmt.Errorf("%s is for a chain of suite %s, and this authority is of suite %s: make one with `fondaco ca new --suite %s`", path, wanted.Suite, i.folder.Suite().Name(), wanted.Suite))
	case i.folder == nil && !slices.Contains(i.provider.Manifest().Algorithms, suite.Vote()):
		return withCode(ExitDenied, fmt.Errorf("%s is for a chain of suite %s, and the provider %s does not know its keys, of %s: name one that does", path, wanted.Suite, i.provider.Manifest().Name, suite.Vote()))
	case wanted.Institution != r.Institution:
		return withCode(ExitDenied, fmt.Errorf("%s is for a node of %q, and this authority issues for %q", path, wanted.Institution, r.Institution))
	}
	id, err := wanted.Node(suite)
	if err != nil {
		return err
	}
	print, err := wanted.Fingerprint(suite)
	if err != nil {
		return err
	}
	r.CSR = wanted.CSR
	if r.Name == "" {
		r.Name = "node " + id.Short()
	}
	if len(r.Roles) == 0 {
		r.Roles = []identity.Role{ca.Node.Role()}
	}
	note(c, "The request is of %s, for node %s at %s. Its fingerprint must be the one that the operator tells by another way: %s", wanted.Institution, id, wanted.Address, print)
	return nil
}

func endOf(begin time.Time, validity time.Duration) int64 {
	if validity == 0 {
		return 0
	}
	return begin.Add(validity).UnixMilli()
}

func renewCertificate(c *cli.Context, programs Plugins) error {
	args, err := issuerArguments(c, 2, 3, "FOLDER SERIAL [REQUEST]")
	if err != nil {
		return err
	}
	validity, err := daysOf(c)
	if err != nil {
		return err
	}
	now := time.Now()
	r := ca.RenewRequest{Serial: args[1], At: now.UnixMilli(), NotAfter: endOf(now, validity)}
	if len(args) == 3 {
		if r.CSR, err = readRequest(args[2]); err != nil {
			return err
		}
	}
	return withIssuer(c, programs, args[0], func(i *issuer) error {
		return writeIssued(c, func() (ca.IssueResponse, error) { return i.renew(r) })
	})
}

func fetchCertificate(c *cli.Context) error {
	args, err := arguments(c, 2, 2, "FOLDER SERIAL")
	if err != nil {
		return err
	}
	a, err := lookAtCA(args[0])
	if err != nil {
		return err
	}
	return writeIssued(c, func() (ca.IssueResponse, error) { return a.Fetch(args[1]) })
}

// writeIssued has something issued, and writes it as PEM: the chain, and for suite gm the certificate for encryption and its enveloped
// key. The file of --out is made first, so that nothing is issued that has no place.
func writeIssued(c *cli.Context, issue func() (ca.IssueResponse, error)) (err error) {
	var out strings.Builder
	to := c.App.Writer
	if path := c.String("out"); path != "" {
		file, taken := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(taken, os.ErrExist) {
			return fmt.Errorf("%s exists: name another file", path)
		}
		if taken != nil {
			return taken
		}
		to = file
		defer func() {
			if err == nil {
				err = file.Sync()
			}
			if err = errors.Join(err, file.Close()); err == nil {
				return
			}
			_ = os.Remove(path)
			if out.Len() > 0 { // a provider may not tell it again
				_, told := io.WriteString(c.App.Writer, out.String())
				err = errors.Join(fmt.Errorf("%s cannot be written, so what was issued is printed: %w", path, err), told)
			}
		}()
	}
	answer, err := issue()
	if err == nil && answer.Refusal != nil {
		err = refused(answer.Refusal)
	}
	if err != nil {
		return err
	}
	for _, der := range answer.Issued.Chain {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	if e := answer.Issued.Encryption; e != nil {
		_ = pem.Encode(&out, &pem.Block{Type: x509ca.EncryptionLabel, Bytes: e.Certificate})
		_ = pem.Encode(&out, &pem.Block{Type: x509ca.EnvelopeLabel, Bytes: e.Key})
	}
	_, err = io.WriteString(to, out.String())
	return err
}

// refused makes an error of a refusal.
func refused(r *ca.Refusal) error {
	if r.Code == ca.UnknownSerial {
		return withCode(ExitNotFound, r)
	}
	return withCode(ExitDenied, r)
}

func revokeCertificate(c *cli.Context, programs Plugins) error {
	args, err := issuerArguments(c, 2, 2, "FOLDER SERIAL")
	if err != nil {
		return err
	}
	reason, err := ca.ParseReason(c.String("reason"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	return withIssuer(c, programs, args[0], func(i *issuer) error {
		answer, err := i.revoke(ca.RevokeRequest{Serial: args[1], Reason: reason, At: time.Now().UnixMilli()})
		if err != nil {
			return err
		}
		if answer.Refusal != nil {
			return refused(answer.Refusal)
		}
		which := "FILE"
		if i.folder == nil {
			note(c, "Revoked. Where verifiers do not ask it, bring them its revocation list; until then they do not know.")
		} else {
			note(c, "Revoked. Publish %s where the others fetch it, or bring it to those who verify; until then they do not know.", i.folder.ListPath())
			if given, err := i.folder.Fetch(args[1]); err == nil && given.Issued != nil {
				which = identity.Fingerprint(i.folder.Suite(), given.Issued.Chain[0]).String()
			}
		}
		note(c, "The chain looks at no list. Where an account goes by the certificate, or a node, a registrar or institution-admin stops it there too: fondaco certificate revoke %s --reason %s", which, reason)
		return nil
	})
}

func refreshList(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FOLDER")
	if err != nil {
		return err
	}
	next, err := daysOf(c)
	if err != nil {
		return err
	}
	if next == 0 {
		next = x509ca.DefaultNext
	}
	a, err := openCA(c, args[0])
	if err != nil {
		return err
	}
	now := time.Now()
	if err := a.Refresh(now, next); err != nil {
		return err
	}
	note(c, "%s is new. The next is due on %s.", a.ListPath(), timeText(now.Add(next).UnixMilli()))
	return nil
}

// bindClients prints what a node reads with login.Files.Clients.
func bindClients(c *cli.Context) error {
	paths, err := arguments(c, 1, -1, "FILE...")
	if err != nil {
		return err
	}
	institution, err := required(c, "institution", "NAME")
	if err != nil {
		return err
	}
	var data []byte
	for _, path := range paths {
		one, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data = append(append(data, one...), '\n')
	}
	bound, subjects, err := login.Bind(data, institution)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	if _, err := c.App.Writer.Write(bound); err != nil {
		return err
	}
	note(c, "%s: vouches for clients of %s and nobody else's, at nodes that have this in their file of api.clients.", strings.Join(subjects, "; "), institution)
	return nil
}

func showCA(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FOLDER")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	a, err := lookAtCA(args[0])
	if err != nil {
		return err
	}
	issued, err := a.Issued()
	if err != nil {
		return err
	}
	list, err := a.List()
	if err != nil {
		return err
	}
	type shown struct {
		Institution string                     `json:"institution"`
		Suite       string                     `json:"suite"`
		List        string                     `json:"list"`
		ListIssued  int64                      `json:"list_issued"`
		ListNext    int64                      `json:"list_next"`
		Issued      []x509ca.IssuedCertificate `json:"issued"`
	}
	return show(c, shown{a.Institution(), a.Suite().Name(), list.Number, list.Issued, list.NextUpdate, issued}, func(w io.Writer) {
		row(w, "institution", a.Institution())
		row(w, "suite", a.Suite().Name())
		row(w, "list", fmt.Sprintf("number %s of %s, the next is due on %s", list.Number, timeText(list.Issued), timeText(list.NextUpdate)))
		row(w)
		row(w, "SERIAL", "NAME", "AGENCY", "ROLES", "UNTIL", "STATUS")
		for _, i := range issued {
			status := "active"
			switch {
			case i.Revoked != nil:
				status = "revoked " + timeText(i.Revoked.At) + " (" + i.Revoked.Reason.String() + ")"
			case i.Encryption:
				status = "for encryption"
			}
			var roles []string
			for _, r := range i.Roles {
				roles = append(roles, string(r))
			}
			row(w, i.Serial, i.Name, i.Agency, strings.Join(roles, ","), timeText(i.NotAfter.UnixMilli()), status)
		}
	})
}
