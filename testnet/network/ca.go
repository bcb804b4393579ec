package network

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// What a network with Config.CA has: a folder with the authority of each institution, and the settings of the nodes' providers,
// which trust each of them for its own institution.
const (
	authoritiesDir  = "authorities"
	settingsFile    = "settings.toml"
	certificateFile = "node.pem" // in the folder of a node
)

// AuthorityDir returns the folder of an institution's authority, for `fondaco ca`.
func (n *Network) AuthorityDir(institution string) string {
	return filepath.Join(n.Dir, authoritiesDir, institution)
}

// foundAuthorities makes an authority for each institution, and the settings that trust them.
func (n *Network) foundAuthorities(suite keys.Suite) error {
	var settings strings.Builder
	for _, node := range n.Nodes {
		dir, err := filepath.Abs(n.AuthorityDir(node.Institution))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return err
		}
		key, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			return err
		}
		a, err := x509ca.Create(dir, x509ca.NewAuthority{Suite: suite, Institution: node.Institution, Key: key, At: time.Now().Add(-time.Minute)})
		if err != nil {
			return err
		}
		if err := a.Refresh(time.Now(), x509ca.DefaultValidity); err != nil { // nobody issues the list anew, and the network is to start next month too
			return err
		}
		fmt.Fprintf(&settings, "[[trust]]\nroots = %q\ncrl = [%q]\ninstitutions = [%q]\nroles = ['node']\n", filepath.Join(dir, x509ca.ChainFile), a.ListPath(), node.Institution)
	}
	return os.WriteFile(filepath.Join(n.Dir, authoritiesDir, settingsFile), []byte(settings.String()), 0o600)
}

// certify has the authority of a node's institution issue certificates for the node's key, and fills in what its configuration says of
// them. On suite gm they are two: the other one is for encryption.
func (n *Network) certify(node *Node, key keys.Signer, file *cli.File) error {
	a, err := openAuthority(n.AuthorityDir(node.Institution))
	if err != nil {
		return err
	}
	csr, err := x509ca.Request(a.Suite(), key, "")
	if err != nil {
		return err
	}
	answer, err := a.Enroll(ca.EnrollRequest{CSR: csr, Institution: a.Institution(), Name: node.Name, Roles: []identity.Role{identity.Node}, At: time.Now().UnixMilli()})
	if err != nil {
		return err
	}
	if answer.Refusal != nil {
		return answer.Refusal
	}
	settings, err := filepath.Abs(filepath.Join(n.Dir, authoritiesDir, settingsFile))
	if err != nil {
		return err
	}
	file.CA = cli.CASection{Program: map[string]string{"std": "ca-x509", "gm": "ca-gm"}[n.Suite], Settings: settings, Chain: certificateFile}
	text := chainPEM(answer.Issued)
	if pair := answer.Issued.Encryption; pair != nil {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTION CERTIFICATE", Bytes: pair.Certificate})...)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "SM2 ENVELOPED KEY", Bytes: pair.Key})...)
	}
	return os.WriteFile(filepath.Join(node.Dir, certificateFile), text, 0o644)
}

// openAuthority opens an authority with its key, which is not locked.
func openAuthority(dir string) (*x509ca.Authority, error) {
	a, err := x509ca.Open(dir)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Read(a.KeyPath(), a.Suite(), nil)
	if err != nil {
		return nil, err
	}
	return a, a.Unlock(key)
}

// chainPEM returns the certificates of a chain, the holder's first.
func chainPEM(issued *ca.Issued) []byte {
	var text []byte
	for _, der := range issued.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// errFounders says why a network with authorities takes no further nodes.
var errFounders = errors.New("the nodes of this network trust the authorities of its founders alone: make one without --ca to add nodes")
