// Package x509ca is a CA provider for X.509 certificates (RFC 5280): it verifies chains of PKIs that an institution has, and
// runs a small authority for one that has none. The programs ca-x509 (Ed25519 and P-256, authorities also RSA) and ca-gm
// (SM2) are made of it.
//
// # Whom a certificate vouches for
//
//   - institution: the subject's only O, or what [Trust] says of all holders;
//   - agency: the subject's first OU in the order of its DER, if there is one;
//   - roles: URIs fondaco:role:NAME among the subject's alternative names, and what [Trust] grants by issuer or OU;
//   - key: the certificate's, in the canonical form of package keys;
//   - validity: from the latest beginning to the earliest end on the way to the root.
//
// A certificate serves for node, user and regulator if it has the role of that name, and for admin with the role institution-admin.
//
// # What is refused
//
// Chains out of order, or with a certificate that is not valid at the time of the request; signatures with SHA-1 or
// MD5, those of revocation lists and OCSP answers too; RSA keys of less than 2048 bits or more than 8192, or with a small exponent, up to
// the root; authorities' own certificates; key usage that does not allow signatures; extended key
// usage that does not allow client authentication; what RFC 5280's path validation refuses, as the library does it:
// path length, name constraints, critical extensions that it does not know. A certificate counts only while what is known of
// its revocation, and of that of each authority below the root, is fresh: see [Trust]. Lists and answers from the future, and such as are
// older than others seen before, do not count. Lists that settings name by URLs are fetched behind; the newest that counted is kept in a folder.
//
// It is public by path but promised nothing; plugins/ca has the promise.
package x509ca

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// Provider is a CA provider. Configure it before anything else.
type Provider struct {
	// Warn is told, in a line of text, when a file that changed does not count, once for each version, and when a list cannot be fetched and
	// when it can again. It may be called from several goroutines at once. It must be set before Configure. Nil: nobody is told, but for the words of refusals.
	Warn func(string)

	lib       library
	trusts    []*trust
	authority *Authority // nil: it only verifies
}

var (
	_ ca.Provider   = (*Provider)(nil)
	_ ca.Configurer = (*Provider)(nil)
)

// New returns a provider for holders with keys of a suite.
func New(s keys.Suite) *Provider { return &Provider{lib: libraryOf(s)} }

// Serve is the main function of the program of that name: it serves a provider until its host ends it. What the provider warns of
// is printed, so that it appears in the node's log.
func Serve(s keys.Suite, name string) {
	p := New(s)
	p.Warn = func(text string) { fmt.Fprintln(os.Stderr, text) }
	ca.Serve(p, p.Manifest(name))
}

// Manifest describes the program of a provider of that name.
func (p *Provider) Manifest(name string) ca.Manifest {
	return ca.Manifest{Name: name, Algorithms: p.lib.algorithms(), Issues: true}
}

// Configure reads settings and the files that they name. It begins to fetch the lists that they name by URLs, and waits up to 5 s for those of
// which none is kept; what does not come is no error.
func (p *Provider) Configure(ctx context.Context, data []byte) error {
	s, err := Parse(data)
	if err != nil {
		return err
	}
	warn := p.Warn
	if warn == nil {
		warn = func(string) {}
	}
	fetching := fetching{}
	for _, t := range s.Trust {
		for _, entry := range t.CRL {
			if _, ok := Kept(entry); !ok || fetching[entry] != nil {
				continue
			}
			if len(fetching) == 0 {
				if err := makeFolder(s.Lists); err != nil {
					return fmt.Errorf("settings: %w", err)
				}
			}
			fetching[entry] = newFetched(entry, s.Lists, warn, func(data []byte) (*list, error) { return parseList(p.lib, data) })
		}
	}
	var trusts []*trust
	for i, t := range s.Trust {
		read, err := newTrust(p.lib, t, fetching, warn)
		if err != nil {
			return fmt.Errorf("settings: [[trust]] %d: %w", i+1, err)
		}
		trusts = append(trusts, read)
	}
	var authority *Authority
	if s.Issue != nil {
		if authority, err = openToIssue(p.lib.suite(), *s.Issue); err != nil {
			return fmt.Errorf("settings: [issue]: %w", err)
		}
	}
	fetching.start(ctx, func() {
		for _, t := range trusts {
			t.lists(time.Now())
		}
	})
	p.trusts, p.authority = trusts, authority
	return nil
}

func openToIssue(suite keys.Suite, i Issue) (*Authority, error) {
	a, err := Open(i.Folder)
	if err != nil {
		return nil, err
	}
	if got := a.Suite().Name(); got != suite.Name() {
		return nil, fmt.Errorf("the authority in %s is of suite %s, and this provider of %s", i.Folder, got, suite.Name())
	}
	key, err := keyfile.Read(a.KeyPath(), suite, func() (string, error) {
		if i.PassphraseFile == "" {
			return "", errors.New("the authority's key is locked: name a file with its passphrase in passphrase_file")
		}
		info, err := os.Stat(i.PassphraseFile)
		if err != nil {
			return "", err
		}
		if info.Mode().Perm()&0o077 != 0 {
			return "", fmt.Errorf("%s can be read by others (mode %v): run chmod 600 on it", i.PassphraseFile, info.Mode().Perm())
		}
		text, err := readFile(i.PassphraseFile)
		defer clear(text)
		return strings.TrimRight(string(text), "\r\n"), err
	})
	if err != nil {
		return nil, err
	}
	return a, a.Unlock(key)
}

// Verify implements ca.Provider.
func (p *Provider) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return ca.VerifyResponse{Refusal: refusal}, nil
	}
	if len(p.trusts) == 0 {
		return ca.VerifyResponse{}, errors.New("the provider was not configured")
	}
	at := time.UnixMilli(r.At)
	chain, refusal := parseChain(p.lib, r.Chain, at)
	if refusal != nil {
		return ca.VerifyResponse{Refusal: refusal}, nil
	}
	var failed error
	for _, t := range p.trusts {
		holder, no, err := t.verify(ctx, chain, r.Purpose, at)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case holder != nil:
			return ca.VerifyResponse{Holder: holder}, nil
		case refusal == nil || refusal.Code == ca.UnknownRoot: // a PKI that knows the holder has the better reason
			refusal = no
		}
	}
	if failed != nil {
		return ca.VerifyResponse{}, failed
	}
	return ca.VerifyResponse{Refusal: refusal}, nil
}

// Enroll implements ca.Provider.
func (p *Provider) Enroll(_ context.Context, r ca.EnrollRequest) (ca.IssueResponse, error) {
	if p.authority == nil {
		return ca.IssueResponse{Refusal: onlyVerifies()}, nil
	}
	return p.authority.Enroll(r)
}

// Renew implements ca.Provider.
func (p *Provider) Renew(_ context.Context, r ca.RenewRequest) (ca.IssueResponse, error) {
	if p.authority == nil {
		return ca.IssueResponse{Refusal: onlyVerifies()}, nil
	}
	return p.authority.Renew(r)
}

// Revoke implements ca.Provider.
func (p *Provider) Revoke(_ context.Context, r ca.RevokeRequest) (ca.RevokeResponse, error) {
	if p.authority == nil {
		return ca.RevokeResponse{Refusal: onlyVerifies()}, nil
	}
	return p.authority.Revoke(r)
}

func onlyVerifies() *ca.Refusal {
	return ca.Refuse(ca.Unsupported, "this provider only verifies: its settings have no section [issue]; ask the authority itself")
}

// Revoked implements ca.Provider. A list is there once its authority is known: from the settings, or from the chain of a holder.
func (p *Provider) Revoked(_ context.Context, r ca.RevokedRequest) (ca.RevokedResponse, error) {
	var out ca.RevokedResponse
	for _, t := range p.trusts {
		out.Lists = append(out.Lists, t.lists(time.UnixMilli(r.At))...)
	}
	out.Lists = ca.Fit(out.Lists)
	return out, nil
}

func libraryOf(s keys.Suite) library {
	if s.Vote() == keys.SM2 {
		return gm{s}
	}
	return std{s}
}

func libraries() []library { return []library{std{keys.Std()}, gm{keys.GM()}} }
