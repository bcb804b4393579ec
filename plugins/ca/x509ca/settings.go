package x509ca

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
)

// Settings are what a provider is configured with, in TOML. All paths are absolute, because the working directory of a
// plugin program is the root folder. Files hold PEM or DER.
type Settings struct {
	Lists string  `toml:"lists,omitempty"` // folder in which the lists that were fetched are kept; may be empty where crl has no URL
	Trust []Trust `toml:"trust"`           // tried in this order
	Issue *Issue  `toml:"issue"`           // nil: the provider only verifies
}

// Trust is a PKI whose certificates count.
type Trust struct {
	// Roots, Intermediates and CRL name files, which are read again when they change. CRL may have URLs (http, https) too. What is there is fetched
	// after a twentieth of the last list's life, but not within a minute, and at least once an hour; see [Settings.Lists].
	Roots         string   `toml:"roots"`         // certificates at which chains end
	Intermediates string   `toml:"intermediates"` // certificates that holders may leave out of their chains; may be empty
	CRL           []string `toml:"crl"`           // a revocation list each
	OCSP          string   `toml:"ocsp"`          // URL of a responder, which is asked about issuers without a list
	// MaxAge is how old, such as "24h", what is known of the revocation of a holder's certificate may be, counted from when
	// its authority signed it. Empty: as old as the list or answer itself says, which then must say so. For
	// certificates of authorities it counts only where the list says nothing: offline roots sign lists twice a year.
	MaxAge string `toml:"max_age"`
	// Revocation must be "none" where there is neither CRL nor OCSP: then nothing is ever revoked.
	Revocation string `toml:"revocation"`
	// Institutions lists the names that this PKI may vouch for. Empty: any, which is right only where a single institution's
	// PKIs, or those of an authority that all trust, are configured.
	Institutions []string        `toml:"institutions"`
	Institution  string          `toml:"institution"` // of all holders, whatever their certificates say; empty: their subject's O
	Roles        []identity.Role `toml:"roles"`       // that this PKI may confer; empty: any
	Grant        []Grant         `toml:"grant"`       // roles besides those that certificates name themselves
}

// Grant confers roles by what an existing PKI writes into certificates anyway.
type Grant struct {
	Issuer string          `toml:"issuer"` // common name of the authority that issued; empty: any
	Unit   string          `toml:"unit"`   // one of the subject's OU; empty: any
	Roles  []identity.Role `toml:"roles"`
}

// Issue is the authority that Enroll, Renew and Revoke work with.
type Issue struct {
	Folder         string `toml:"folder"`          // of `fondaco ca new`
	PassphraseFile string `toml:"passphrase_file"` // of the authority's key; only the node's user may read it. Empty: the key is not locked
}

// Limits of what settings name.
const (
	maxFile  = ca.MaxListBytes
	maxTrust = 64
	maxCerts = 64 // roots, or intermediates, of one PKI
)

// Parse reads settings, and says which is wrong.
func Parse(data []byte) (*Settings, error) {
	s := new(Settings)
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(s)
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return nil, fmt.Errorf("settings: line %d: %s is unknown", row, strings.Join(strict.Errors[0].Key(), "."))
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := bad.Position()
		return nil, fmt.Errorf("settings: line %d, column %d: %w", row, column, err)
	}
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return s, s.validate()
}

func (s *Settings) validate() error {
	if len(s.Trust) == 0 || len(s.Trust) > maxTrust {
		return fmt.Errorf("settings: %d sections [[trust]], want 1 to %d: each names the roots of a PKI", len(s.Trust), maxTrust)
	}
	lists := 0
	for i := range s.Trust {
		if err := s.Trust[i].validate(); err != nil {
			return fmt.Errorf("settings: [[trust]] %d: %w", i+1, err)
		}
		lists += len(s.Trust[i].CRL)
		if at := slices.IndexFunc(s.Trust[i].CRL, func(entry string) bool { _, fetched := Kept(entry); return fetched }); at >= 0 && s.Lists == "" {
			return fmt.Errorf("settings: [[trust]] %d: crl has the URL %s: name a folder in lists, above the first [[trust]], such as lists = \"/var/lib/fondaco/lists\", where what comes from there is kept", i+1, s.Trust[i].CRL[at])
		}
	}
	if s.Lists != "" {
		if err := absolute("lists", s.Lists); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	if lists > ca.MaxLists {
		return fmt.Errorf("settings: crl has %d lists in all sections, want at most %d; use a responder (OCSP) instead", lists, ca.MaxLists)
	}
	if s.Issue != nil {
		if err := absolute("folder", s.Issue.Folder); err != nil {
			return fmt.Errorf("settings: [issue]: %w", err)
		}
		if s.Issue.PassphraseFile != "" {
			if err := absolute("passphrase_file", s.Issue.PassphraseFile); err != nil {
				return fmt.Errorf("settings: [issue]: %w", err)
			}
		}
	}
	return nil
}

func (t *Trust) validate() error {
	if err := absolute("roots", t.Roots); err != nil {
		return err
	}
	if t.Intermediates != "" {
		if err := absolute("intermediates", t.Intermediates); err != nil {
			return err
		}
	}
	for _, entry := range t.CRL {
		var err error
		if _, fetched := Kept(entry); fetched {
			err = checkURL(entry)
		} else {
			err = absolute("crl", entry)
		}
		if err != nil {
			return err
		}
	}
	if t.OCSP != "" {
		if u, err := url.Parse(t.OCSP); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("ocsp is %q, want a URL such as http://ocsp.example.org", t.OCSP)
		}
	}
	if d, err := time.ParseDuration(t.MaxAge); t.MaxAge != "" && (err != nil || d <= 0) {
		return fmt.Errorf(`max_age is %q, want a time such as "24h"`, t.MaxAge)
	}
	known := len(t.CRL) > 0 || t.OCSP != ""
	switch {
	case t.Revocation != "" && t.Revocation != "none":
		return fmt.Errorf(`revocation is %q, want "none" or nothing`, t.Revocation)
	case t.Revocation == "none" && known:
		return errors.New(`revocation is "none", and there are lists or a responder: remove one or the other`)
	case t.Revocation == "" && !known:
		return errors.New(`nothing tells which certificates were revoked: name files or URLs in crl, or a responder in ocsp, or write revocation = "none" if none ever is`)
	case t.Institution != "" && len(t.Institutions) > 0:
		return errors.New("institution and institutions are both set: the first is for all holders, the second a choice")
	}
	for _, name := range append(slices.Clone(t.Institutions), cmpOr(t.Institution, "-")) {
		if err := checkName(name); err != nil {
			return err
		}
	}
	for i, g := range t.Grant {
		if len(g.Roles) == 0 || g.Issuer == "" && g.Unit == "" {
			return fmt.Errorf("[[trust.grant]] %d: want roles, and an issuer or a unit to whose holders they are granted", i+1)
		}
	}
	return nil
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func absolute(field, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is %q, want an absolute path: a plugin program works in the root folder", field, path)
	}
	return nil
}

// checkName says what is wrong with the name of an institution or an agency.
func checkName(name string) error {
	if name == "" || len(name) > ca.MaxText || strings.TrimSpace(name) != name || strings.ToValidUTF8(name, "") != name || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is no name: want 1 to %d bytes of text without spaces at its ends", name, ca.MaxText)
	}
	return nil
}

// readFile reads a file of limited size.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return data, err
}

// readCertificates reads a file of certificates.
func readCertificates(lib library, path string) ([]*certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	found, err := parseCertificates(lib, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

func parseCertificates(lib library, data []byte) ([]*certificate, error) {
	var found []*certificate
	for _, der := range blocks(data, "CERTIFICATE") {
		c, err := lib.parse(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(found)+1, err)
		}
		if found = append(found, c); len(found) > maxCerts {
			return nil, fmt.Errorf("it has more than %d certificates", maxCerts)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it has no certificate in PEM or DER")
	}
	return found, nil
}

// parseList reads a revocation list in PEM or DER.
func parseList(lib library, data []byte) (*list, error) {
	found := blocks(data, "X509 CRL")
	if len(found) != 1 {
		return nil, fmt.Errorf("it has %d revocation lists in PEM or DER, want 1", len(found))
	}
	return lib.parseList(found[0])
}

// blocks returns what the PEM blocks of a type hold, or data itself if it is no PEM.
func blocks(data []byte, label string) [][]byte {
	var found [][]byte
	rest, any := data, false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		any = true
		if block.Type == label {
			found = append(found, block.Bytes)
		}
	}
	if !any && len(data) > 0 {
		return [][]byte{data}
	}
	return found
}
