package network

import (
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// The folder of what a network with Config.TLS shares: its authority, which vouches for the nodes, and the token of the testnet command. All nodes
// take it, for everything; a client certificate would make its holder operator of one institution's nodes only.
const (
	tlsDir     = "tls"
	clientName = "testnet"
	tokensFile = "tokens"
)

// ours returns a path below the folder of what the network shares.
func (n *Network) ours(name ...string) string {
	return filepath.Join(append([]string{n.Dir, tlsDir}, name...)...)
}

// RootPath returns the path of the certificate that vouches for the nodes of a network with TLS.
func (n *Network) RootPath() string { return n.ours("ca", x509ca.ChainFile) }

// TokenPath returns the path of a token for all nodes of a network with TLS.
func (n *Network) TokenPath() string { return n.ours("token") }

// Access returns how clients get in at the network's nodes.
func (n *Network) Access() client.Access {
	if !n.TLS {
		return client.Access{}
	}
	return client.Access{CA: n.RootPath(), Token: n.TokenPath()}
}

// Client returns a client of the network's node whose API is at base.
func (n *Network) Client(base string) (*client.Client, error) { return client.Open(base, n.Access()) }

// HTTP returns a client of the nodes' admin interfaces.
func (n *Network) HTTP() (*http.Client, error) {
	if !n.TLS {
		return http.DefaultClient, nil
	}
	n.web.Lock()
	defer n.web.Unlock()
	if n.web.client == nil {
		config, err := n.Access().TLS()
		if err != nil {
			return nil, err
		}
		token, err := os.ReadFile(n.TokenPath())
		if err != nil {
			return nil, err
		}
		n.web.client = &http.Client{Transport: bearer{&http.Transport{TLSClientConfig: config}, strings.TrimSpace(string(token))}}
	}
	return n.web.client, nil
}

// bearer shows a token with every request.
type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

// scheme begins the URLs of nodes.
func (n *Network) scheme() string {
	if n.TLS {
		return "https://"
	}
	return "http://"
}

// found makes the network's authority, and what its clients show.
func (n *Network) found() error {
	if err := os.MkdirAll(n.ours(), 0o700); err != nil {
		return err
	}
	key, err := keys.Std().Generate(keys.P256, rand.Reader) // browsers take no Ed25519
	if err != nil {
		return err
	}
	_, err = x509ca.Create(n.ours("ca"), x509ca.NewAuthority{Suite: keys.Std(), Institution: "testnet", Key: key, At: time.Now().Add(-time.Minute)})
	if err != nil {
		return err
	}
	text, token, err := login.NewToken(clientName, []identity.Role{identity.Operator}, time.Now().AddDate(1, 0, 0))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(n.TokenPath(), []byte(text+"\n"), 0o600), login.WriteTokens(n.ours(tokensFile), []login.Token{token}))
}

// secure issues a node's certificate, and fills in what its configuration says of TLS.
func (n *Network) secure(node *Node, file *cli.File) error {
	a, err := openAuthority(n.ours("ca"))
	if err != nil {
		return err
	}
	if err := issue(a, filepath.Join(node.Dir, "api"), []string{"127.0.0.1", "localhost"}); err != nil {
		return err
	}
	shared, err := filepath.Abs(n.ours())
	if err != nil {
		return err
	}
	for _, s := range []*cli.ListenSection{&file.API, &file.Admin} {
		s.Cert, s.Key, s.Tokens = "api.pem", "api.key", filepath.Join(shared, tokensFile)
	}
	return nil
}

// issue makes a key and a certificate for it, path.key and path.pem.
func issue(a *x509ca.Authority, path string, hosts []string) error {
	key, err := keys.Std().Generate(keys.P256, rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509ca.Request(keys.Std(), key, "")
	if err != nil {
		return err
	}
	answer, err := a.EnrollServer(ca.EnrollRequest{CSR: csr, Institution: a.Institution(), Name: filepath.Base(path), At: time.Now().UnixMilli()}, hosts)
	if err != nil {
		return err
	}
	if answer.Refusal != nil {
		return answer.Refusal
	}
	return errors.Join(keyfile.Write(path+".key", key, ""), os.WriteFile(path+".pem", chainPEM(answer.Issued), 0o644))
}
