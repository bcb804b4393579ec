// Package logintest makes what tests of HTTPS listeners need: an authority, certificates and tokens, as files.
package logintest

import (
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// PKI is an institution's authority and what it issued, in a folder.
type PKI struct {
	*x509ca.Authority
	Dir    string
	t      testing.TB
	issued int
}

// New makes an authority of an institution.
func New(t testing.TB, institution string) *PKI {
	t.Helper()
	p := &PKI{t: t, Dir: t.TempDir()}
	key, err := keys.Std().Generate(keys.Ed25519, rand.Reader)
	p.must(err)
	p.Authority, err = x509ca.Create(filepath.Join(p.Dir, "ca"), x509ca.NewAuthority{Suite: keys.Std(), Institution: institution, Key: key, At: time.Now().Add(-time.Hour)})
	p.must(err)
	return p
}

func (p *PKI) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// Root returns the path of the authority's certificate.
func (p *PKI) Root() string { return filepath.Join(p.Dir, "ca", x509ca.ChainFile) }

// Write writes a file into the folder, which only its owner can read, by renaming it into its place, and returns its path.
func (p *PKI) Write(name string, data []byte) string {
	p.t.Helper()
	path := filepath.Join(p.Dir, name)
	p.must(os.WriteFile(path+".new", data, 0o600))
	p.must(os.Rename(path+".new", path))
	return path
}

// Server issues a certificate for hosts, and returns the paths of it and of its key.
func (p *PKI) Server(hosts ...string) (cert, key string) {
	p.t.Helper()
	return p.issue(hosts, nil, time.Hour)
}

// Client issues a certificate for a client with roles that ends after a time.
func (p *PKI) Client(left time.Duration, roles ...identity.Role) (cert, key string) {
	p.t.Helper()
	return p.issue(nil, roles, left)
}

func (p *PKI) issue(hosts []string, roles []identity.Role, left time.Duration) (cert, keyPath string) {
	p.t.Helper()
	signer, err := keys.Std().Generate(keys.P256, rand.Reader)
	p.must(err)
	p.issued++
	name := fmt.Sprintf("holder-%d", p.issued)
	keyPath = filepath.Join(p.Dir, name+".key")
	p.must(keyfile.Write(keyPath, signer, ""))
	csr, err := x509ca.Request(keys.Std(), signer, "")
	p.must(err)
	now := time.Now()
	roles = slices.Sorted(slices.Values(roles))
	answer, err := p.EnrollServer(ca.EnrollRequest{
		CSR: csr, Institution: p.Institution(), Name: name, Roles: roles, At: now.Add(-time.Minute).UnixMilli(), NotAfter: now.Add(left).UnixMilli(),
	}, hosts)
	p.must(err)
	if answer.Refusal != nil {
		p.t.Fatal(answer.Refusal)
	}
	var text []byte
	for _, der := range answer.Issued.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return p.Write(name+".pem", text), keyPath
}

// Token adds a token to a file of tokens, and returns it.
func (p *PKI) Token(tokens, name string, left time.Duration, roles ...identity.Role) string {
	p.t.Helper()
	all, err := login.ReadTokens(tokens)
	p.must(err)
	text, token, err := login.NewToken(name, roles, time.Now().Add(left))
	p.must(err)
	p.must(login.WriteTokens(tokens, append(all, token)))
	return text
}
