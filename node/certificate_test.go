package node_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/login/logintest"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca/catest"
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

// authority is a bank's CA, with a key of P-256.
type authority struct {
	t    *testing.T
	name string
	key  crypto.Signer
	cert *x509.Certificate
	crl  string // path of its revocation list
	root string
	next *authority // whose root is to take the place of this one's; nil: none
}

func newAuthority(t *testing.T, dir, name string) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{name}, CommonName: name + " root"}, SubjectKeyId: []byte(name),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, name: name, key: key, root: filepath.Join(dir, name+".pem"), crl: filepath.Join(dir, name+".crl")}
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
	return a.issueAs(serial, key, func(*x509.Certificate) {})
}

func (a *authority) issueAs(serial int64, key keys.PublicKey, change func(*x509.Certificate)) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{Organization: []string{a.name}, OrganizationalUnit: []string{"nodes"}, CommonName: "node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(500 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, ed25519.PublicKey(key.Bytes()), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// revoke writes a list of these certificates.
func (a *authority) revoke(serials ...int64) { a.lists(time.Now().Add(24*time.Hour), serials...) }

// lists writes a list of these certificates that counts until a time.
func (a *authority) lists(until time.Time, serials ...int64) {
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: until}
	if until.Before(time.Now()) {
		list.ThisUpdate = until.Add(-time.Hour)
	}
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

// valve is a socket that can be cut off.
type valve struct {
	net.PacketConn
	shut atomic.Bool
}

func (v *valve) WriteTo(p []byte, to net.Addr) (int, error) {
	if v.shut.Load() {
		return len(p), nil
	}
	return v.PacketConn.WriteTo(p, to)
}

// banks are a group of three members, each of a bank with an authority of its own, that want certificates of one another.
type banks struct {
	t           *testing.T
	suite       keys.Suite
	dir         string
	authorities []*authority
	signers     []keys.Signer // of the nodes, and then of one account of each bank
	configs     []node.Config
	valves      []*valve
	nodes       []*node.Node
	apis        []*client.Client
	stops       []func()
	logs        []*node.LogText
}

func newBanks(t *testing.T) *banks {
	b := &banks{t: t, suite: keys.Std(), dir: t.TempDir()}
	names := []string{"bank-a", "bank-b", "bank-c"}
	settings := ""
	for _, name := range names {
		x, next := newAuthority(t, b.dir, name), newAuthority(t, b.dir, name+"-next")
		b.authorities = append(b.authorities, x)
		settings += fmt.Sprintf("[[trust]]\nroots = %q\ncrl = [%q, %q]\ninstitution = %q\n[[trust.grant]]\nunit = 'nodes'\nroles = ['node']\n", x.root, x.crl, next.crl, name)
		b.authorities[len(b.authorities)-1].next = next
	}
	for range 2 * len(names) {
		s, err := b.suite.Generate(b.suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		b.signers = append(b.signers, s)
	}
	params := ledger.DefaultParams()
	params.BatchDelay = 1
	genesis := ledger.Genesis{Version: ledger.Version, Name: "banks", Suite: b.suite.Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: params}
	var peers []transport.Address
	b.nodes, b.apis, b.stops = make([]*node.Node, len(names)), make([]*client.Client, len(names)), make([]func(), len(names))
	for i, name := range names {
		id := identity.NodeIDOf(b.suite, b.signers[i].Public())
		genesis.Members = append(genesis.Members, ledger.Member{Node: id, Institution: name, Key: ledger.KeyOf(b.signers[i].Public())})
		genesis.Accounts = append(genesis.Accounts, ledger.GenesisAccount{
			Name: name, Institution: name, Roles: []string{"committee", "institution-admin"}, Keys: []ledger.Key{ledger.KeyOf(b.signers[len(names)+i].Public())},
		})
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b.valves = append(b.valves, &valve{PacketConn: socket})
		peers = append(peers, transport.Address{Node: id, Addr: socket.LocalAddr().String()})
		chain := filepath.Join(b.dir, name+"-chain")
		b.writeChain(i, b.authorities[i].issue(int64(10+i), b.signers[i].Public()))
		b.logs = append(b.logs, new(node.LogText))
		b.configs = append(b.configs, node.Config{
			Dir: t.TempDir(), Signer: b.signers[i], Listen: socket.LocalAddr().String(), API: "127.0.0.1:0", Admin: "127.0.0.1:0", EngineFactory: pbft.New,
			Log: zerolog.New(b.logs[i]).Level(zerolog.InfoLevel),
			CA: node.CA{
				Provider: plugins.Spec{Name: "ca-x509", Args: []string{"plugin"}, Config: []byte(settings)}, Fresh: 200 * time.Millisecond,
				Reread: func() ([][]byte, error) {
					der, err := os.ReadFile(chain)
					return [][]byte{der}, err
				},
			},
		})
	}
	for i := range b.configs {
		b.configs[i].Genesis, b.configs[i].Peers = genesis, peers
		b.start(i)
	}
	t.Cleanup(func() {
		for i := range b.stops {
			b.stop(i)
		}
		if t.Failed() {
			for i, log := range b.logs {
				t.Logf("node %d:\n%s", i, log)
			}
		}
	})
	b.connected(0, 1, 2)
	return b
}

// writeChain puts a certificate where a node reads its chain.
func (b *banks) writeChain(i int, der []byte) {
	path := filepath.Join(b.dir, b.authorities[i].name+"-chain")
	if err := errors.Join(os.WriteFile(path+".new", der, 0o600), os.Rename(path+".new", path)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *banks) start(i int) {
	b.t.Helper()
	config := b.configs[i]
	if b.valves[i] == nil {
		socket, err := net.ListenPacket("udp", config.Listen)
		if err != nil {
			b.t.Fatal(err)
		}
		b.valves[i] = &valve{PacketConn: socket}
	}
	config.Conn = b.valves[i]
	var err error
	if config.CA.Chain, err = config.CA.Reread(); err != nil {
		b.t.Fatal(err)
	}
	n, err := node.New(b.t.Context(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	b.nodes[i] = n
	b.stops[i] = func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("node %d ended: %v", i, err)
		}
	}
	b.apis[i] = b.visitor(i, client.Access{})
	secret, err := os.ReadFile(filepath.Join(config.Dir, node.OperatorKey))
	if err != nil {
		b.t.Fatal(err)
	}
	b.apis[i].Operator(secret)
}

// visitor returns a client of a node's API, who knows its certificate if it has one.
func (b *banks) visitor(i int, a client.Access) *client.Client {
	b.t.Helper()
	scheme := "http://"
	if a.Pin = b.configs[i].APIFiles.Cert; a.Pin != "" {
		scheme = "https://"
	}
	c, err := client.Open(scheme+b.nodes[i].Addr().String(), a)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *banks) stop(i int) {
	if b.stops[i] != nil {
		b.stops[i]()
		b.stops[i], b.valves[i] = nil, nil
	}
}

func (b *banks) status(i int) *client.Status {
	b.t.Helper()
	s, err := b.apis[i].Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// peer is node k as node i sees it.
func (b *banks) peer(i, k int) client.Peer {
	b.t.Helper()
	for _, p := range b.status(i).Peers {
		if p.Node == b.configs[0].Genesis.Members[k].Node {
			return p
		}
	}
	return client.Peer{}
}

func (b *banks) eventually(what string, holds func() bool) {
	b.t.Helper()
	for limit := time.Now().Add(60 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			b.t.Fatalf("waited 60 s in vain until %s", what)
		}
	}
}

func (b *banks) connected(these ...int) {
	b.t.Helper()
	for _, i := range these {
		for _, k := range these {
			if i != k {
				b.eventually(fmt.Sprintf("node %d is connected to node %d", i, k), func() bool { return b.peer(i, k).Up })
			}
		}
	}
}

// cutOff waits until nobody is connected to a node, for a reason with these words.
func (b *banks) cutOff(k int, words string) {
	b.t.Helper()
	for i := range b.configs {
		if i != k {
			b.eventually(fmt.Sprintf("node %d refuses node %d: %s", i, k, words), func() bool {
				p := b.peer(i, k)
				return !p.Up && strings.Contains(p.Problem, words)
			})
		}
	}
}

// sends has the account of a bank call a system contract by a node, and waits for the block.
func (b *banks) sends(i, bank int, to ledger.Address, method string, args any) *client.Transaction {
	b.t.Helper()
	encoded, err := ledger.Marshal(args)
	if err != nil {
		b.t.Fatal(err)
	}
	tx, err := b.apis[i].Transaction(b.t.Context(), ledger.NamedAddress(b.suite, "account", b.authorities[bank].name), ledger.Target{Address: to}, method, encoded)
	if err != nil {
		b.t.Fatal(err)
	}
	signed, err := tx.Sign(b.suite, b.signers[len(b.configs)+bank])
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.apis[i].Send(b.t.Context(), signed); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 60*time.Second)
	defer cancel()
	done, err := b.apis[i].Wait(ctx, signed.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return done
}

// calls is sends of what must succeed.
func (b *banks) calls(i, bank int, to ledger.Address, method string, args any) []byte {
	b.t.Helper()
	done := b.sends(i, bank, to, method, args)
	if done.Receipt == nil || done.Receipt.Status != ledger.OK.String() {
		b.t.Fatalf("%s: %+v", method, done.Receipt)
	}
	return done.Receipt.Data
}

// trusts passes a motion by which a root may vouch for the nodes of an institution.
func (b *banks) trusts(institution string, a *authority) {
	b.t.Helper()
	b.trustsFor(institution, precompiles.Authority{
		Agency: a.name, Root: identity.Fingerprint(b.suite, a.cert.Raw), Until: a.cert.NotAfter.UnixMilli(), Roles: []string{"node"},
	})
}

// trustsFor passes a motion by which a root may vouch as it says.
func (b *banks) trustsFor(institution string, a precompiles.Authority) {
	b.t.Helper()
	reform := precompiles.Reform{Trust: []precompiles.TrustedRoot{{Institution: institution, Authority: a}}}
	var id precompiles.MotionArgs
	if err := ledger.Unmarshal(b.calls(0, 0, precompiles.GovernanceAddress, "propose", &precompiles.ProposeArgs{Reform: &reform}), &id.ID); err != nil {
		b.t.Fatal(err)
	}
	b.calls(0, 1, precompiles.GovernanceAddress, "vote", &precompiles.VoteArgs{ID: id.ID, For: true})
	b.sends(0, 2, precompiles.GovernanceAddress, "vote", &precompiles.VoteArgs{ID: id.ID, For: true}) // which may be one more than is needed
	b.calls(0, 0, precompiles.GovernanceAddress, "activate", &id)
}

// commits has a node take a transaction, which at least two members must be connected for.
func (b *banks) commits(i int) {
	b.t.Helper()
	b.sends(i, i, precompiles.AccountsAddress, "nothing", nil)
}

// killProviders ends the provider's program of every node that runs.
func (b *banks) killProviders() {
	b.t.Helper()
	for i := range b.nodes {
		if pid := b.status(i).Plugins[0].PID; pid != 0 { // else it has just ended
			process, err := os.FindProcess(pid)
			if err == nil {
				err = process.Kill()
			}
			if err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

// TestCertificates has a member's certificate revoked, and the provider's program killed.
func TestCertificates(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	b.commits(0)
	b.killProviders() // what is connected stays so
	b.commits(0)
	b.eventually("the providers are back", func() bool { return b.status(0).Plugins[0].Restarts == 1 && b.status(1).Plugins[0].Restarts == 1 })
	b.commits(0)

	b.authorities[1].revoke(11)
	b.cutOff(1, "revoked")
	b.commits(0) // the others go on
	b.authorities[1].revoke()
	b.connected(0, 1, 2)
	b.commits(1)
}

// TestProviderDown has all providers killed, and kept from starting: connections that are cut are made again, nodes are started again,
// and blocks come. Who is not known is refused with the reason.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	b.commits(0)
	roots := b.authorities[0].root
	if err := os.Rename(roots, roots+".away"); err != nil {
		t.Fatal(err)
	}
	b.killProviders()
	red := func() {
		t.Helper()
		for i := range b.nodes {
			b.eventually(fmt.Sprintf("the provider of node %d is red", i), func() bool {
				p := b.status(i).Plugins[0]
				return !p.Healthy && strings.Contains(p.Reason, "no such file")
			})
		}
	}
	red()
	b.commits(0)

	b.valves[2].shut.Store(true)
	b.eventually("node 2 is cut off", func() bool { return !b.peer(0, 2).Up && !b.peer(1, 2).Up && !b.peer(2, 0).Up })
	b.valves[2].shut.Store(false)
	b.connected(0, 1, 2)
	b.commits(2)

	b.eventually("the nodes are ready all the same", func() bool { // what watches them looks once a second
		response, err := http.Get("http://" + b.nodes[2].AdminAddr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && response.StatusCode == http.StatusOK && strings.Contains(string(text), "spared  plugin ca-x509: ")
	})

	b.stop(1) // one of them, and then all
	b.start(1)
	b.connected(0, 1, 2)
	b.commits(1)
	for i := range b.nodes {
		b.stop(i)
	}
	for i := range b.nodes {
		b.start(i)
	}
	red()
	b.connected(0, 1, 2)
	b.commits(0)
	if !b.logs[0].Has("the CA provider does not run", "no such file") {
		t.Error("the log does not say that a node started without its provider")
	}

	b.stop(2) // it comes with a certificate of which nobody has heard
	old, err := b.configs[2].CA.Reread()
	if err != nil {
		t.Fatal(err)
	}
	b.writeChain(2, b.authorities[2].issue(99, b.signers[2].Public()))
	b.start(2)
	b.cutOff(2, "cannot be asked about a node that is not known from before: CA provider ca-x509 is down: ")
	b.commits(0)
	if err := os.Rename(roots+".away", roots); err != nil {
		t.Fatal(err)
	}
	b.connected(0, 1, 2)
	b.commits(2)

	b.writeChain(2, old[0])
	b.eventually("node 2 shows its old certificate again", func() bool { return b.logs[2].Has("this node shows its new certificate", `"serial":"0c"`) })
}

// TestProviderSettings has the operator of a node change its provider's settings while it runs: what the provider says under them outlives
// the node's next start without the provider. Settings that it refuses at such a start leave those in force that it took last.
func TestProviderSettings(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	path := filepath.Join(b.dir, "settings")
	good := append(bytes.Clone(b.configs[0].CA.Provider.Config), "# reviewed\n"...)
	write := func(settings []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", settings, 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	again := func() {
		t.Helper()
		b.stop(0)
		var err error
		if b.configs[0].CA.Provider.Config, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		b.start(0)
	}
	roots := b.authorities[0].root
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	healthy := func() {
		t.Helper()
		b.eventually("the provider of node 0 runs", func() bool { return b.status(0).Plugins[0].Healthy })
	}
	write(b.configs[0].CA.Provider.Config)
	b.configs[0].CA.Provider.Reread = func() ([]byte, error) { return os.ReadFile(path) }
	again()
	b.connected(0, 1, 2)

	write(good)
	if _, err := b.apis[0].RestartPlugin(t.Context(), "ca-x509"); err != nil {
		t.Fatal(err)
	}
	b.eventually("the three nodes are kept under the new settings", func() bool {
		data, err := os.ReadFile(filepath.Join(b.configs[0].Dir, "verdicts.cbor"))
		if err != nil {
			t.Fatal(err)
		}
		return node.Kept(t, b.suite, data, &b.configs[0].CA.Provider, good) == 3
	})
	move(roots, roots+".away")
	again()
	b.eventually("the provider of node 0 is red", func() bool {
		p := b.status(0).Plugins[0]
		return !p.Healthy && strings.Contains(p.Reason, "no such file")
	})
	b.connected(0, 1, 2)
	b.commits(0)
	move(roots+".away", roots)
	healthy()

	write([]byte("nonsense"))
	again()
	healthy()
	if !b.logs[0].Has("it gets those that it took before", "ca-x509") {
		t.Error("the log does not say that the provider goes on with its settings of before")
	}
	b.connected(0, 1, 2)
	b.commits(0)

	move(roots, roots+".away") // so that it takes neither: nobody knows whom the operator meant to trust no more
	again()
	b.eventually("node 0 says why it lets in nobody", func() bool {
		p := b.peer(0, 1)
		return !p.Up && strings.Contains(p.Problem, "of bank-b under other settings, on ")
	})
	move(roots+".away", roots)
	healthy()
	b.connected(0, 1, 2)
	b.commits(0)
}

// TestStaleList has the revocation list of a bank become too old: its node is not cut off, is let in when it connects again, and
// the operators are told.
func TestStaleList(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	b.authorities[1].lists(time.Now().Add(-time.Hour))
	b.eventually("the providers cannot confirm node 1", func() bool {
		return b.logs[0].Has("cannot confirm the certificate", "bank-b") && b.logs[2].Has("cannot confirm the certificate", "bank-b")
	})
	b.commits(1)
	b.stop(1)
	b.start(1)
	b.connected(0, 1, 2)
	b.commits(1)
	b.eventually("the log tells of the end of its own certificate", func() bool { return b.logs[0].Has("this node's certificate ends", `"days":20.`) })
	b.eventually("the log tells of the list", func() bool { return b.logs[0].Has("a revocation list is too old to count", "bank-b root") })
	metrics := func() string {
		response, err := http.Get("http://" + b.nodes[0].AdminAddr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, want := range []string{`fondaco_revocation_list_ends_seconds{group="main",issuer="CN=bank-b root,O=bank-b"} -`, `fondaco_vouched_nodes{group="main",verdict="doubted"} 1`, `fondaco_certificate_ends_seconds{group="main"} `} {
		b.eventually("the metrics have "+want, func() bool { return strings.Contains(metrics(), want) })
	}
	b.authorities[1].revoke(11) // a fresh one, and with bad news
	b.cutOff(1, "revoked")
}

// TestRotation replaces the root of a bank's authority, and then the certificate of its node, without a node being started again.
func TestRotation(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	old := b.authorities[0]
	roots := func(of ...*authority) {
		t.Helper()
		var text []byte
		for _, a := range of {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
		}
		if err := os.WriteFile(old.root, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range b.nodes {
			if _, err := b.apis[i].RestartPlugin(t.Context(), "ca-x509"); err != nil {
				t.Fatal(err)
			}
		}
	}
	fresh := old.next.issue(20, b.signers[0].Public())
	b.writeChain(0, fresh) // too early: its own provider does not know the root
	b.eventually("node 0 says why it does not show the certificate", func() bool {
		return b.logs[0].Has("this node's new chain of certificates does not count", "bank-a-next root")
	})
	b.connected(0, 1, 2)
	roots(old, old.next)
	b.eventually("node 0 shows the new certificate", func() bool { return b.logs[0].Has("this node shows its new certificate", `"serial":"14"`) })
	b.commits(0)
	roots(old.next)
	b.commits(0)
	b.connected(0, 1, 2)
	b.commits(0)

	b.stop(0) // and one that comes with the old certificate is refused now
	b.writeChain(0, old.issue(21, b.signers[0].Public()))
	b.start(0)
	b.cutOff(0, "bank-a root")
	b.writeChain(0, fresh)
	b.connected(0, 1, 2)
	b.commits(0)
}

// TestCertificatesOnChain has the group say which certificates and authorities count: all nodes refuse a node by it, and tell it why.
func TestCertificatesOnChain(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	chain, err := b.configs[1].CA.Reread()
	if err != nil {
		t.Fatal(err)
	}
	leaf := identity.Fingerprint(b.suite, chain[0])
	b.calls(0, 1, precompiles.CertificatesAddress, "freeze", &precompiles.StatusArgs{Fingerprint: leaf, Reason: 6})
	b.cutOff(1, fmt.Sprintf("certificate %s of institution bank-b was frozen", leaf))
	b.eventually("node 1 knows why", func() bool { return strings.Contains(b.peer(1, 0).Problem, "was frozen at height") })
	b.commits(0)

	t.Log("the operator of node 1 writes the certificate otherwise, which nobody needs the issuer's key for")
	comes := func(der []byte, err error) {
		t.Helper()
		if err != nil || der == nil {
			t.Fatalf("no other form of the certificate: %v", err)
		}
		b.stop(1)
		b.writeChain(1, der)
		b.start(1)
	}
	comes(catest.OtherSignature(chain[0], b.authorities[1].cert.Raw))
	b.eventually("node 1 is refused still", func() bool {
		return strings.Contains(b.peer(1, 0).Problem, fmt.Sprintf("certificate %s of institution bank-b was frozen", leaf))
	})
	comes(catest.UnusedBits(chain[0]))
	b.eventually("node 1 is refused for the form", func() bool { return strings.Contains(b.peer(1, 0).Problem, "its signature has unused bits (1)") })
	b.cutOff(1, "its signature has unused bits (1)")

	b.calls(0, 1, precompiles.CertificatesAddress, "unfreeze", &precompiles.CertificateArgs{Fingerprint: leaf})
	comes(chain[0], nil)
	b.connected(0, 1, 2)
	b.commits(1)

	b.trusts("bank-c", b.authorities[2].next)
	b.cutOff(2, fmt.Sprintf("CA root %s is not trusted for institution bank-c", identity.Fingerprint(b.suite, b.authorities[2].cert.Raw)))
	b.eventually("node 2 knows why", func() bool { return strings.Contains(b.peer(2, 0).Problem, "is not trusted for institution bank-c") })
	b.commits(0)
	b.trusts("bank-c", b.authorities[2])
	b.connected(0, 1, 2)
	b.commits(2)

	b.calls(0, 1, precompiles.CertificatesAddress, "revoke", &precompiles.StatusArgs{Fingerprint: leaf, Reason: 1})
	b.cutOff(1, "was revoked at height")
	b.writeChain(1, b.authorities[1].issue(31, b.signers[1].Public())) // another certificate for its key
	b.connected(0, 1, 2)
	b.commits(1)
}

// TestClock has nodes of a chain that is idle judge roots by their clocks: block time stands still, and a root that has ended meanwhile
// vouches for nobody who connects. What the group agrees on is not touched by it.
func TestClock(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	root := precompiles.Authority{
		Agency: "bank-a", Root: identity.Fingerprint(b.suite, b.authorities[0].cert.Raw), Until: time.Now().Add(2 * time.Hour).UnixMilli(), Roles: []string{"node"},
	}
	b.trustsFor("bank-a", root)
	b.connected(0, 1, 2)
	b.stop(2)
	b.configs[2].ClockOffset = 3 * time.Hour // it is later there than any block says
	b.start(2)
	b.connected(1, 2)
	words := fmt.Sprintf("CA bank-a, root %s, counts from 1970-01-01T00:00:00Z until %s, and it is ", root.Root, time.UnixMilli(root.Until).UTC().Format(time.RFC3339))
	b.eventually("node 2 refuses node 0, whose root has ended by its clock", func() bool { p := b.peer(2, 0); return !p.Up && strings.Contains(p.Problem, words) })
	b.eventually("node 0 knows why", func() bool { return strings.Contains(b.peer(0, 2).Problem, words) })
	b.eventually("node 0, by whose clock the root counts, is connected to node 1 still", func() bool { return b.peer(0, 1).Up && b.peer(1, 0).Up })

	root.Until += (10 * time.Hour).Milliseconds()
	b.trustsFor("bank-a", root)
	b.connected(0, 1, 2)
}

// TestClientsOnChain has the group say which certificates of API clients count: who is refused is told why with the next request, and does not
// go on reading events.
func TestClientsOnChain(t *testing.T) {
	t.Parallel()
	b := newBanks(t)
	desk := logintest.New(t, "bank-a") // an authority for clients alone, which makes no lists
	b.stop(0)
	files := &b.configs[0].APIFiles
	files.Cert, files.Key = desk.Server("127.0.0.1")
	files.Clients = desk.Write("clients.pem", mustRead(t, desk.Root()))
	b.start(0)
	b.connected(0, 1, 2)
	certificate, key := desk.Client(time.Hour, "user", "regulator")
	leaf, root := fingerprint(t, b.suite, certificate), fingerprint(t, b.suite, desk.Root())
	alice := b.visitor(0, client.Access{Cert: certificate, Key: key})
	refused := func(words string) {
		t.Helper()
		_, err := alice.Status(t.Context())
		if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusUnauthorized || !strings.Contains(p.Detail, words) {
			t.Errorf("%v, want 401 and %q", err, words)
		}
	}
	welcome := func() {
		t.Helper()
		if _, err := alice.Status(t.Context()); err != nil {
			t.Error(err)
		}
	}
	welcome()
	read, ended := make(chan ledger.Height, 100), make(chan error, 1)
	go func() {
		var last error
		for block, err := range alice.Follow(t.Context(), 0) {
			if last = err; err == nil {
				read <- block.Height
			}
		}
		ended <- last
	}()
	<-read

	t.Log("no bank makes auditors of other banks' nodes, nor operators in the name of their bank")
	other, forger := logintest.New(t, "bank-b"), logintest.New(t, "bank-a")
	bound := func(p *logintest.PKI, institution string) []byte {
		file, _, err := login.Bind(mustRead(t, p.Root()), institution)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	desk.Write("clients.pem", slices.Concat(bound(desk, "bank-a"), bound(other, "bank-b"), mustRead(t, forger.Root())))
	certificate, key = forger.Client(time.Hour, "operator")
	mallory := b.visitor(0, client.Access{Cert: certificate, Key: key})
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) { // until the file is read again
		_, err := mallory.Status(t.Context())
		if p, ok := errors.AsType[*client.Problem](err); ok && p.Status == http.StatusUnauthorized && strings.Contains(p.Detail, "it names bank-a, the node's own institution, and CN=bank-a CA,O=bank-a, to which it leads, is one of several") {
			break
		} else if err == nil || time.Since(begun) > 20*time.Second {
			t.Fatalf("%v, want 401 and why", err)
		}
	}
	certificate, key = other.Client(time.Hour, "user", "auditor")
	bob := b.visitor(0, client.Access{Cert: certificate, Key: key})
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) { // until the file is read again
		if _, err := bob.Status(t.Context()); err == nil {
			break
		} else if time.Since(begun) > 20*time.Second {
			t.Fatal(err)
		}
	}
	auditing := bob.Backup(t.Context(), 0, io.Discard)
	if p, ok := errors.AsType[*client.Problem](auditing); !ok || p.Status != http.StatusForbidden || !strings.Contains(p.Detail, "names no authority of institution bank-b") {
		t.Errorf("%v, want 403 and why the role auditor does not count", auditing)
	}

	t.Log("its institution freezes the certificate, and unfreezes it")
	b.calls(0, 0, precompiles.CertificatesAddress, "freeze", &precompiles.StatusArgs{Fingerprint: leaf, Reason: 6})
	refused(fmt.Sprintf("certificate %s of institution bank-a was frozen at height", leaf))
	refused("(certificate-hold): a registrar or institution-admin of it can unfreeze it")
	twisted, err := catest.UnusedBits(decoded(t, certificate))
	if err != nil {
		t.Fatal(err)
	}
	written := desk.Write("twisted.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: twisted}))
	_, err = b.visitor(0, client.Access{Cert: written, Key: key}).Status(t.Context())
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusUnauthorized || !strings.Contains(p.Detail, "certificate 1 of its chain: its signature has unused bits (1)") {
		t.Errorf("in another form: %v, want 401 and why", err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "was frozen at height") {
		t.Errorf("events ended with %v, want the reason", err)
	}
	b.calls(0, 0, precompiles.CertificatesAddress, "unfreeze", &precompiles.CertificateArgs{Fingerprint: leaf})
	welcome()
	b.calls(0, 1, precompiles.CertificatesAddress, "freeze", &precompiles.StatusArgs{Fingerprint: leaf})
	welcome() // what another institution says of it is nothing

	t.Log("the group names authorities of the institution, and that of its clients is none of them")
	b.trusts("bank-a", b.authorities[0])
	refused(fmt.Sprintf("CA root %s is not trusted for institution bank-a: `fondaco authority show bank-a` prints what is trusted", root))
	desks := precompiles.Authority{Agency: "desk", Root: root, Until: time.Now().Add(24 * time.Hour).UnixMilli(), Roles: []string{"user"}}
	b.trustsFor("bank-a", desks)
	welcome()
	err = alice.Backup(t.Context(), 0, io.Discard)
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusForbidden || !strings.Contains(p.Detail, "has the roles user, and this needs the right to export") ||
		!strings.Contains(p.Detail, fmt.Sprintf("CA desk, root %s, is not trusted for role regulator of institution bank-a", root)) {
		t.Errorf("%v, want 403 and why the role regulator does not count", err)
	}
	desks.Roles = []string{"regulator", "user"}
	b.trustsFor("bank-a", desks)
	if err := alice.Backup(t.Context(), 0, io.Discard); err != nil {
		t.Error(err)
	}

	t.Log("its institution revokes the certificate, of which the authority itself says nothing")
	b.calls(0, 0, precompiles.CertificatesAddress, "revoke", &precompiles.StatusArgs{Fingerprint: leaf, Reason: 1})
	refused("was revoked at height")
	certificate, key = desk.Client(time.Hour, "user")
	alice = b.visitor(0, client.Access{Cert: certificate, Key: key})
	welcome()
	if !b.logs[0].Has("authorities of client certificates have no revocation list", "clients.pem", "bank-a", "fondaco ca crl") {
		t.Error("the log does not tell of an authority without a revocation list")
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fingerprint returns that of the first certificate of a file.
func fingerprint(t *testing.T, s keys.Suite, path string) keys.Digest {
	t.Helper()
	return identity.Fingerprint(s, decoded(t, path))
}

// decoded returns the first certificate of a file.
func decoded(t *testing.T, path string) []byte {
	t.Helper()
	block, _ := pem.Decode(mustRead(t, path))
	return block.Bytes
}

// TestCertificateFailures provokes each cause in the table of transport/PROTOCOL.md between node 1 and the others, and compares what both
// sides print with what the table says.
func TestCertificateFailures(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "transport", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## When certificates are why\n")
	if !found {
		t.Fatal("PROTOCOL.md has no section about certificates")
	}
	b := newBanks(t)
	serial := int64(100)
	comes := func(a *authority, change func(*x509.Certificate)) { // with another certificate
		b.stop(1)
		serial++
		b.writeChain(1, a.issueAs(serial, b.signers[1].Public(), change))
		b.start(1)
	}
	as := func(*x509.Certificate) {}
	bank, root := b.authorities[1], b.authorities[0].root
	away := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	var leaf keys.Digest
	causes := map[string]struct{ provoke, mend func() }{
		"no certificate": {provoke: func() {
			b.stop(1)
			with := b.configs[1].CA
			b.configs[1].CA = node.CA{Reread: func() ([][]byte, error) { return nil, nil }}
			b.start(1)
			b.configs[1].CA = with
		}},
		"a certificate that somebody wrote otherwise": {provoke: func() {
			b.stop(1)
			twisted, err := catest.UnusedBits(bank.issue(98, b.signers[1].Public()))
			if err != nil {
				t.Fatal(err)
			}
			b.writeChain(1, twisted)
			b.start(1)
		}},
		"an authority that nobody trusts": {provoke: func() { comes(bank.next, as) }},
		"a certificate that has ended":    {provoke: func() { comes(bank, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }) }},
		"a certificate that begins later": {provoke: func() { comes(bank, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }) }},
		"a certificate that begins later by a clock that differs": {
			provoke: func() {
				b.configs[1].ClockOffset = 2 * time.Hour
				comes(bank, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
			},
			mend: func() { b.configs[1].ClockOffset = 0; comes(bank, as) },
		},
		"a revocation list that is too old by a clock that differs": {
			provoke: func() {
				b.configs[1].ClockOffset = -2 * time.Hour
				bank.lists(time.Now().Add(-time.Hour))
				comes(bank, as)
			},
			mend: func() { b.configs[1].ClockOffset = 0; bank.revoke(); comes(bank, as) },
		},
		"a certificate that is not for nodes": {provoke: func() { comes(bank, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"payments"} }) }},
		"a certificate of another key": {provoke: func() {
			b.stop(1)
			b.writeChain(1, bank.issue(99, b.signers[3].Public()))
			b.start(1)
		}},
		"a certificate of another institution": {provoke: func() { comes(b.authorities[0], as) }},
		"a certificate that was revoked":       {provoke: func() { bank.revoke(serial + 1); comes(bank, as) }, mend: func() { bank.revoke() }},
		"a revocation list that is too old, and a node that is not known from before": {
			provoke: func() { bank.lists(time.Now().Add(-time.Hour)); comes(bank, as) }, mend: func() { bank.revoke() },
		},
		"a provider that is down, and a node that is not known from before": {
			provoke: func() { away(root, root+".away"); b.killProviders(); comes(bank, as) },
			mend:    func() { away(root+".away", root) },
		},
		"a certificate that its institution froze or revoked on chain": {
			provoke: func() {
				chain, err := b.configs[1].CA.Reread()
				if err != nil {
					t.Fatal(err)
				}
				leaf = identity.Fingerprint(b.suite, chain[0])
				b.calls(0, 1, precompiles.CertificatesAddress, "freeze", &precompiles.StatusArgs{Fingerprint: leaf, Reason: 6})
			},
			mend: func() {
				b.calls(0, 1, precompiles.CertificatesAddress, "unfreeze", &precompiles.CertificateArgs{Fingerprint: leaf})
			},
		},
		"a root that the chain does not name for the institution": {
			provoke: func() { b.trusts("bank-b", bank.next) }, mend: func() { b.trusts("bank-b", bank) },
		},
		"a root that the chain names for another time": {
			provoke: func() {
				b.trustsFor("bank-b", precompiles.Authority{
					Agency: "bank-b", Root: identity.Fingerprint(b.suite, bank.cert.Raw), Roles: []string{"node"},
					From: time.Now().Add(time.Hour).UnixMilli(), Until: bank.cert.NotAfter.UnixMilli(),
				})
			},
			mend: func() { b.trusts("bank-b", bank) },
		},
	}
	for _, row := range regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^|]+)` \\| `([^|]+)` \\|$").FindAllStringSubmatch(section, -1) {
		cause, known := causes[row[1]]
		if !known {
			t.Errorf("PROTOCOL.md has the cause %q, which nobody provokes", row[1])
			continue
		}
		delete(causes, row[1])
		pattern := func(words string) *regexp.Regexp {
			words = strings.ReplaceAll(regexp.QuoteMeta(words), "…", ".*")
			words = strings.Replace(words, "the other node refused: ", "(the other node refused|closed by the other node): ", 1)
			return regexp.MustCompile("^(connection from [0-9.:]+: )?" + words + "$")
		}
		refuses, refused := pattern(row[2]), pattern(row[3])
		cause.provoke()
		for _, i := range []int{0, 2} {
			b.eventually(fmt.Sprintf("%s: node %d prints %s", row[1], i, refuses), func() bool { p := b.peer(i, 1); return !p.Up && refuses.MatchString(p.Problem) })
			b.eventually(fmt.Sprintf("%s: node 1 prints %s", row[1], refused), func() bool { p := b.peer(1, i); return !p.Up && refused.MatchString(p.Problem) })
		}
		b.commits(0) // the others go on
		if cause.mend != nil {
			cause.mend()
			b.connected(0, 1, 2)
		}
	}
	for cause := range causes {
		t.Errorf("PROTOCOL.md lacks the cause %q", cause)
	}
}
