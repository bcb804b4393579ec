package node_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins"
	cax509 "github.com/fondaco/fondaco/plugins/cmd/ca-x509"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// TestMain makes this test binary also be the CA provider's program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		cax509.Main()
		return
	}
	os.Exit(m.Run())
}

// authority is a bank's CA.
type authority struct {
	t    *testing.T
	name string
	key  ed25519.PrivateKey
	cert *x509.Certificate
	crl  string // path of its revocation list
	root string
}

func newAuthority(t *testing.T, dir, name string) *authority {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{name}, CommonName: name + " root"}, SubjectKeyId: []byte(name),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, name: name, key: private, root: filepath.Join(dir, name+".pem"), crl: filepath.Join(dir, name+".crl")}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	a.revoke()
	return a
}

func (a *authority) issue(serial int64, key keys.PublicKey) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{Organization: []string{a.name}, OrganizationalUnit: []string{"nodes"}, CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(500 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, ed25519.PublicKey(key.Bytes()), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// revoke writes a list of these certificates.
func (a *authority) revoke(serials ...int64) {
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err == nil {
		err = os.WriteFile(a.crl+".next", der, 0o600)
	}
	if err == nil {
		err = os.Rename(a.crl+".next", a.crl)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// TestCertificates runs a group whose two members have certificates of two banks' authorities: without the provider the group
// goes on, and a certificate that is revoked ends the connection.
func TestCertificates(t *testing.T) {
	suite := keys.Std()
	dir := t.TempDir()
	a, b := newAuthority(t, dir, "bank-a"), newAuthority(t, dir, "bank-b")
	settings := ""
	for _, x := range []*authority{a, b} {
		settings += fmt.Sprintf("[[trust]]\nroots = %q\ncrl = [%q]\ninstitutions = [%q]\n[[trust.grant]]\nunit = 'nodes'\nroles = ['node']\n", x.root, x.crl, x.name)
	}
	var signers []keys.Signer
	for range 3 {
		s, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	params := ledger.DefaultParams()
	params.BatchDelay = 1
	genesis := ledger.Genesis{
		Version: ledger.Version, Name: "two", Suite: suite.Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: params,
		Accounts: []ledger.GenesisAccount{{Name: "user", Institution: "bank-a", Roles: []string{"user"}, Keys: []ledger.Key{ledger.KeyOf(signers[2].Public())}}},
	}
	configs := make([]node.Config, 2)
	var peers []transport.Address
	for i, x := range []*authority{a, b} {
		id := identity.NodeIDOf(suite, signers[i].Public())
		genesis.Members = append(genesis.Members, ledger.Member{Node: id, Institution: x.name, Key: ledger.KeyOf(signers[i].Public())})
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, transport.Address{Node: id, Addr: socket.LocalAddr().String()})
		configs[i] = node.Config{
			Dir: t.TempDir(), Signer: signers[i], Listen: socket.LocalAddr().String(), Conn: socket, API: "127.0.0.1:0", EngineFactory: pbft.New,
			Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel),
			CA: node.CA{
				Provider: plugins.Spec{Name: "ca-x509", Args: []string{"plugin"}, Config: []byte(settings)},
				Chain:    [][]byte{x.issue(int64(10+i), signers[i].Public())}, Fresh: 200 * time.Millisecond,
			},
		}
	}
	var apis []*client.Client
	for i := range configs {
		configs[i].Genesis, configs[i].Peers = genesis, peers
		n, err := node.New(t.Context(), configs[i])
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("node %d ended: %v", i, err)
			}
		})
		api, err := client.New("http://"+n.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		apis = append(apis, api)
	}
	status := func(i int) *client.Status {
		t.Helper()
		s, err := apis[i].Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	eventually := func(what string, holds func() bool) {
		t.Helper()
		for limit := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("waited 30 s in vain until %s: %+v", what, status(0))
			}
		}
	}
	commits := func() {
		t.Helper()
		tx, err := apis[0].Transaction(t.Context(), ledger.NamedAddress(suite, "account", "user"), ledger.Target{Address: precompiles.AccountsAddress}, "nothing", nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := tx.Sign(suite, signers[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := apis[0].Send(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := apis[0].Wait(ctx, signed.ID); err != nil {
			t.Fatal(err)
		}
	}
	eventually("they are connected", func() bool { return len(status(0).Peers) == 1 && status(0).Peers[0].Up })
	commits()

	for i := range apis { // no provider: what is connected stays so
		process, err := os.FindProcess(status(i).Plugins[0].PID)
		if err == nil {
			err = process.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	commits()
	eventually("the providers are back", func() bool { return status(0).Plugins[0].Restarts == 1 && status(1).Plugins[0].Restarts == 1 })
	commits()

	b.revoke(11)
	eventually("the revoked node is cut off", func() bool {
		p := status(0).Peers[0]
		return !p.Up && strings.Contains(p.Problem, "revoked")
	})
	b.revoke()
	eventually("they are connected again", func() bool { return status(0).Peers[0].Up })
	commits()
}
