package cli

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func caCommand() *cli.Command {
	days := func(what string) cli.Flag {
		return &cli.IntFlag{Name: "days", Usage: "`DAYS` that " + what}
	}
	outFlag := &cli.StringFlag{Name: "out", Usage: "write the chain to this `FILE`; default: standard output"}
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
			ArgsUsage: "FOLDER REQUEST",
			Flags: []cli.Flag{
				passphraseFlag(), outFlag, days("the certificate is valid; default: 365"),
				&cli.StringFlag{Name: "name", Usage: "`NAME` of the holder"},
				&cli.StringFlag{Name: "agency", Usage: "`UNIT` of the institution to which the holder belongs"},
				&cli.StringSliceFlag{Name: "role", Usage: "`ROLE` of the holder, such as node, user, regulator or institution-admin; may be repeated. Of a join request the default is node"},
				&cli.StringSliceFlag{Name: "host", Usage: "`NAME` or address of a server, such as a node's API, that the certificate is for instead; may be repeated"},
			},
			Action: issueCertificate,
		}, {
			Name:      "renew",
			Usage:     "issue a certificate in the place of another, for its key or that of a request",
			ArgsUsage: "FOLDER SERIAL [REQUEST]",
			Flags:     []cli.Flag{passphraseFlag(), outFlag, days("the certificate is valid; default: 365")},
			Action:    renewCertificate,
		}, {
			Name:      "fetch",
			Usage:     "print once more what the holder of a certificate was given",
			ArgsUsage: "FOLDER SERIAL",
			Flags:     []cli.Flag{outFlag},
			Action:    fetchCertificate,
		}, {
			Name:      "revoke",
			Usage:     "end a certificate's validity for ever, and issue a new revocation list",
			ArgsUsage: "FOLDER SERIAL",
			Flags:     []cli.Flag{passphraseFlag(), &cli.StringFlag{Name: "reason", Usage: "`REASON`, such as key-compromise", Value: ca.Unspecified.String()}},
			Action:    revokeCertificate,
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

func issueCertificate(c *cli.Context) error {
	args, err := arguments(c, 2, 2, "FOLDER REQUEST")
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
	a, err := openCA(c, args[0])
	if err != nil {
		return err
	}
	now := time.Now()
	r := ca.EnrollRequest{CSR: csr, Institution: a.Institution(), Agency: c.String("agency"), Name: c.String("name"), At: now.UnixMilli(), NotAfter: endOf(now, validity)}
	for _, role := range c.StringSlice("role") {
		r.Roles = append(r.Roles, identity.Role(role))
	}
	if wanted != nil {
		if err := joinEnrollment(c, args[1], wanted, a, &r); err != nil {
			return err
		}
	}
	slices.Sort(r.Roles)
	r.Roles = slices.Compact(r.Roles)
	answer, err := a.EnrollServer(r, c.StringSlice("host"))
	if err != nil {
		return err
	}
	return writeIssued(c, answer)
}

// joinEnrollment fills in what a join request says of the certificate that its node needs.
func joinEnrollment(c *cli.Context, path string, wanted *join.Request, a *x509ca.Authority, r *ca.EnrollRequest) error {
	switch {
	case c.IsSet("host"):
		return usage("--host is for the certificate of a server, and %s asks for that of a node: leave it out", path)
	case wanted.Suite != a.Suite().Name():
		return withCode(ExitDenied, fmt.Errorf("%s is for a chain of suite %s, and this authority is of suite %s: make one with `fondaco ca new --suite %s`", path, wanted.Suite, a.Suite().Name(), wanted.Suite))
	case wanted.Institution != a.Institution():
		return withCode(ExitDenied, fmt.Errorf("%s is for a node of %q, and this authority issues for %q", path, wanted.Institution, a.Institution()))
	}
	id, err := wanted.Node(a.Suite())
	if err != nil {
		return err
	}
	print, err := wanted.Fingerprint(a.Suite())
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

func renewCertificate(c *cli.Context) error {
	args, err := arguments(c, 2, 3, "FOLDER SERIAL [REQUEST]")
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
	a, err := openCA(c, args[0])
	if err != nil {
		return err
	}
	answer, err := a.Renew(r)
	if err != nil {
		return err
	}
	return writeIssued(c, answer)
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
	answer, err := a.Fetch(args[1])
	if err != nil {
		return err
	}
	return writeIssued(c, answer)
}

// writeIssued writes what an authority issued as PEM: the chain, and for suite gm the certificate for encryption and its enveloped key.
func writeIssued(c *cli.Context, answer ca.IssueResponse) error {
	if answer.Refusal != nil {
		return refused(answer.Refusal)
	}
	var out strings.Builder
	for _, der := range answer.Issued.Chain {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	if e := answer.Issued.Encryption; e != nil {
		_ = pem.Encode(&out, &pem.Block{Type: x509ca.EncryptionLabel, Bytes: e.Certificate})
		_ = pem.Encode(&out, &pem.Block{Type: x509ca.EnvelopeLabel, Bytes: e.Key})
	}
	path := c.String("out")
	if path == "" {
		_, err := io.WriteString(c.App.Writer, out.String())
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: name another file; `fondaco ca show` lists the certificate, which was issued", path)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, out.String())
	return errors.Join(err, file.Sync(), file.Close())
}

// refused makes an error of a refusal.
func refused(r *ca.Refusal) error {
	if r.Code == ca.UnknownSerial {
		return withCode(ExitNotFound, r)
	}
	return withCode(ExitDenied, r)
}

func revokeCertificate(c *cli.Context) error {
	args, err := arguments(c, 2, 2, "FOLDER SERIAL")
	if err != nil {
		return err
	}
	reason, err := ca.ParseReason(c.String("reason"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	a, err := openCA(c, args[0])
	if err != nil {
		return err
	}
	answer, err := a.Revoke(ca.RevokeRequest{Serial: args[1], Reason: reason, At: time.Now().UnixMilli()})
	if err != nil {
		return err
	}
	if answer.Refusal != nil {
		return refused(answer.Refusal)
	}
	note(c, "Revoked. Publish %s where the others fetch it, or bring it to those who verify; until then they do not know.", a.ListPath())
	return nil
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
