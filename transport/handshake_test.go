package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestRefused shows what an operator reads on both sides when two nodes do not fit together.
func TestRefused(t *testing.T) {
	stranger := newChain(t, 1)
	for _, test := range []struct {
		name   string
		change func(i int, c *Config)
		want   string // regular expression for the last error of both nodes
	}{
		{"another chain", func(i int, c *Config) {
			if i == 1 {
				c.Chain = keys.Digest{2}
			}
		}, "chain differs: node 0x"},
		{"no group in common", func(i int, c *Config) {
			if i == 1 {
				c.Groups = []ledger.GroupID{"other"}
			}
		}, `no group in common: node 0x`},
		{"the other is not a member", func(i int, c *Config) {
			c.Authorize = func(h Hello) (identity.Identity, error) {
				return identity.Identity{}, fmt.Errorf("node %s is not a member of group main", h.Node)
			}
		}, " is not a member of group main"},
		{"the identity has ended", func(i int, c *Config) {
			c.Authorize = func(h Hello) (identity.Identity, error) {
				return identity.Identity{NotAfter: time.Unix(1e9, 0)}, nil
			}
		}, "ended at 2001-09-09T01:46:40Z"},
		{"the identity has ended by a clock that is wrong", func(i int, c *Config) {
			if i == 1 {
				c.Now = func() time.Time { return time.Now().Add(3 * time.Hour) }
			}
			c.Authorize = func(h Hello) (identity.Identity, error) {
				return identity.Identity{NotAfter: time.Now().Add(time.Hour)}, nil
			}
		}, "(3h0m[0-9]+s|2h59m5[0-9]s) ahead of that of node .*: set the one that is wrong"},
		{"a certificate has ended by a clock that is wrong, and much is to be said of it", func(i int, c *Config) {
			if i == 1 {
				c.Now = func() time.Time { return time.Now().Add(3 * time.Hour) }
			}
			c.Authorize = func(h Hello) (identity.Identity, error) {
				return identity.Identity{}, errors.New("the certificate of " + strings.Repeat("Bank of Corfu ", maxReason) + " expired")
			}
		}, "the certificate of Bank of Corfu .*; the clock of node .* is (3h0m[0-9]+s|2h59m5[0-9]s) ahead of that of node [0-9a-f]+: set the one that is wrong$"},
		{"another node at the address", func(i int, c *Config) {
			if i == 1 {
				c.Signer = stranger.signers[0]
			}
		}, "correct the address in the list of peers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newChain(t, 2).onLoopback()
			c.change = test.change
			a, b := c.start(0, nil), c.start(1, nil)
			for _, side := range []struct {
				m    *member
				peer identity.NodeID
			}{{a, c.id(1)}, {b, a.Self()}} {
				eventually(t, "an error that says "+test.want, func() bool {
					p := side.m.peerAt(side.peer)
					return !p.Up && regexp.MustCompile(test.want).MatchString(p.LastError)
				})
			}
			if err := a.Send(c.id(1), Consensus, []byte("vote")); !errors.Is(err, ErrNotConnected) {
				t.Errorf("Send = %v, want ErrNotConnected", err)
			}
		})
	}
}

// caller speaks to an endpoint without being one.
type caller struct {
	t      *testing.T
	conn   *quic.Conn
	stream *quic.Stream
	h      *handshake // of an endpoint that does not run, for what a proper caller would do
}

// call opens a QUIC connection to m. The caller has the key of node i.
func (c *chain) call(t *testing.T, i int, m *member) *caller {
	t.Helper()
	config := Config{
		Listen: "127.0.0.1:0", Suite: c.suite, Signer: c.signers[i], Chain: keys.Digest{1}, Groups: []ledger.GroupID{"main"},
		Authorize: func(Hello) (identity.Identity, error) { return identity.Identity{}, nil },
	}
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.transport.Close(); e.conn.Close() })
	tlsConfig, spki, err := e.tls.client()
	if err != nil {
		t.Fatal(err)
	}
	to, _ := net.ResolveUDPAddr("udp", m.addr)
	conn, err := e.transport.Dial(t.Context(), to, tlsConfig, e.quic)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	h := &handshake{e: e, conn: conn, as: roleClient, class: ClassConsensus, want: m.Self()}
	if err := h.begin(spki); err != nil {
		t.Fatal(err)
	}
	return &caller{t: t, conn: conn, stream: stream, h: h}
}

// sendHello sends a Hello that change was applied to, and keeps its digest for the proofs.
func (c *caller) sendHello(change func(*Hello)) {
	c.t.Helper()
	hello := c.h.e.hello
	hello.Connection = ClassConsensus
	change(&hello)
	data, err := ledger.Marshal(&hello)
	if err != nil {
		c.t.Fatal(err)
	}
	c.h.binding.helloClient = keys.Hash(c.h.e.config.Suite, "hello", data)
	c.send(appendFrame(nil, data))
}

func (c *caller) send(data []byte) {
	c.t.Helper()
	if _, err := c.stream.Write(data); err != nil {
		c.t.Fatal(err)
	}
}

// closed returns the code and reason with which the endpoint closes the connection.
func (c *caller) closed() (Code, string) {
	c.t.Helper()
	select {
	case <-c.conn.Context().Done():
	case <-time.After(10 * time.Second):
		c.t.Fatal("the connection stays open")
	}
	closed, ok := errors.AsType[*quic.ApplicationError](context.Cause(c.conn.Context()))
	if !ok || !closed.Remote {
		c.t.Fatalf("the connection ended with %v", context.Cause(c.conn.Context()))
	}
	return Code(closed.ErrorCode), closed.ErrorMessage
}

func TestHandshakeHostile(t *testing.T) {
	c := newChain(t, 2).onLoopback()
	c.change = func(i int, config *Config) {
		config.Peers = nil // so that nobody else calls
		config.HandshakeTimeout = 400 * time.Millisecond
	}
	m := c.start(0, nil)
	same := func(*Hello) {}
	for _, test := range []struct {
		name string
		act  func(*caller)
		want Code
		says string
	}{
		{"another version", func(x *caller) { x.sendHello(func(h *Hello) { h.Version = 2 }) }, CodeVersion, "peer speaks protocol 2, node 0x"},
		{"another version with another form", func(x *caller) {
			data, _ := ledger.Marshal([]any{uint16(9), "what comes later"})
			x.send(appendFrame(nil, data))
		}, CodeVersion, "peer speaks protocol 9"},
		{"another chain", func(x *caller) { x.sendHello(func(h *Hello) { h.Chain = keys.Digest{7} }) }, CodeChain, "chain differs"},
		{"no group", func(x *caller) { x.sendHello(func(h *Hello) { h.Groups = nil }) }, CodeGroups, "no group in common"},
		{"groups twice", func(x *caller) { x.sendHello(func(h *Hello) { h.Groups = []ledger.GroupID{"a", "a"} }) }, CodeMalformed, "twice"},
		{"a node id that is not of the key", func(x *caller) { x.sendHello(func(h *Hello) { h.Node[0] ^= 1 }) }, CodeIdentity, "does not belong to the key"},
		{"a key that is not a key", func(x *caller) { x.sendHello(func(h *Hello) { h.Key = h.Key[:5] }) }, CodeIdentity, "key of node"},
		{"an algorithm of accounts only", func(x *caller) { x.sendHello(func(h *Hello) { h.Algorithm = keys.P256 }) }, CodeIdentity, "nodes of this chain have " + keystest.Suite().Vote().String()},
		{"the node's own name", func(x *caller) {
			x.sendHello(func(h *Hello) { h.Node, h.Key = m.Self(), m.hello.Key })
		}, CodeSelf, "reached itself"},
		{"a third connection", func(x *caller) { x.sendHello(func(h *Hello) { h.Connection = 3 }) }, CodeMalformed, "connection 3"},
		{"a hello without end", func(x *caller) { x.send([]byte{0x7f, 0, 0, 0}) }, CodeMalformed, "at most 32768"},
		{"garbage", func(x *caller) { x.send(appendFrame(nil, []byte("GET / HTTP/1.1"))) }, CodeMalformed, "not a canonical CBOR array"},
		{"half a hello", func(x *caller) { x.send([]byte{0, 0, 1, 0, 0x8b}); x.stream.Close() }, CodeMalformed, "unexpected EOF"},
		{"silence", func(*caller) {}, CodeTimeout, "within 400ms"},
		{"silence after the hello", func(x *caller) { x.sendHello(same) }, CodeTimeout, "within 400ms"},
		{"a proof by another key", func(x *caller) { x.prove(c.signers[0], roleClient, false) }, CodeProof, "does not hold the key"},
		{"the server's proof sent back", func(x *caller) { x.prove(nil, roleServer, false) }, CodeProof, "does not hold the key"},
		{"a proof for another connection", func(x *caller) { x.prove(c.signers[1], roleClient, true) }, CodeProof, "does not hold the key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := c.call(t, 1, m)
			test.act(x)
			code, reason := x.closed()
			if code != test.want || !strings.Contains(reason, test.says) {
				t.Errorf("closed with %d %q, want %d and %q", code, reason, test.want, test.says)
			}
		})
	}
	for p := range m.Peers() {
		t.Errorf("a stranger became a peer: %+v", p)
	}
}

// prove carries the handshake to the client's proof and sends one by signer, or the server's own when it is
// nil; with another exporter if stale is set.
func (c *caller) prove(signer keys.Signer, as role, stale bool) {
	c.t.Helper()
	c.sendHello(func(*Hello) {})
	theirs, err := c.h.readHello(c.stream)
	if err != nil {
		c.t.Fatal(err)
	}
	c.h.binding.helloServer = keys.Hash(c.h.e.config.Suite, "hello", theirs)
	proof := make([]byte, keys.SignatureSize)
	if _, err := io.ReadFull(c.stream, proof); err != nil {
		c.t.Fatal(err)
	}
	if stale {
		c.h.binding.exporter[0] ^= 1
	}
	if signer != nil {
		if proof, err = signer.Sign(c.h.binding.digest(c.h.e.config.Suite, as)); err != nil {
			c.t.Fatal(err)
		}
	}
	c.send(proof)
}

func TestTLS(t *testing.T) {
	c := newChain(t, 1).onLoopback()
	m := c.start(0, nil)
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		want   string
	}{
		{"another application protocol", func(c *tls.Config) { c.NextProtos = []string{"h3"} }, "no application protocol"},
		{"no certificate", func(c *tls.Config) { c.GetClientCertificate = nil }, "certificate required"},
		{"a certificate of another kind", func(c *tls.Config) {
			key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			template := &x509.Certificate{SerialNumber: big.NewInt(1)}
			der, _ := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
			}
		}, "bad certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, _, err := new(ephemeral).client()
			if err != nil {
				t.Fatal(err)
			}
			test.change(config)
			conn, err := quic.DialAddr(t.Context(), m.addr, config, nil)
			if err == nil {
				<-conn.Context().Done()
				err = context.Cause(conn.Context())
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q", err, test.want)
			}
		})
	}
}

// TestManInTheMiddle puts a relay between two nodes, which ends TLS on both sides with certificates of its own
// and passes on every byte.
func TestManInTheMiddle(t *testing.T) {
	c := newChain(t, 2).onLoopback()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c.change = func(i int, config *Config) {
		config.FallbackDial = time.Hour
		config.Peers = nil
		if i == 0 {
			config.Peers = []Address{{Node: c.id(1), Addr: socket.LocalAddr().String()}}
		}
	}
	real := c.start(1, nil)

	var own ephemeral
	a := admission{limit: 100, rate: 100, burst: 100}
	between := &quic.Transport{Conn: socket, ConnContext: a.admit}
	listener, err := between.Listen(own.server(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { between.Close(); socket.Close() })
	passed := make(chan int, 100)
	go func() {
		for {
			in, err := listener.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				config, _, _ := own.client()
				to, _ := net.ResolveUDPAddr("udp", real.addr)
				out, err := between.Dial(t.Context(), to, config, nil)
				if err != nil {
					return
				}
				context.AfterFunc(in.Context(), func() { out.CloseWithError(0, "") })
				from, err := in.AcceptStream(t.Context())
				if err != nil {
					return
				}
				onward, err := out.OpenStream()
				if err != nil {
					return
				}
				go io.Copy(onward, from)
				n, _ := io.Copy(from, onward)
				passed <- int(n)
			}()
		}
	}()

	victim := c.start(0, nil)
	eventually(t, "the caller finds out", func() bool {
		return strings.Contains(victim.peerAt(c.id(1)).LastError, "somebody sits between the nodes")
	})
	if n := <-passed; n < 100 {
		t.Errorf("the relay passed %d bytes from the server: it was found out for another reason", n)
	}
	for p := range real.Peers() {
		t.Errorf("the server has the peer %+v", p)
	}
}

var update = os.Getenv("FONDACO_UPDATE") != ""

type vector struct {
	Comment     string            `json:"comment"`
	Hello       string            `json:"hello"`
	HelloDigest string            `json:"hello_digest"`
	Fields      map[string]string `json:"fields"`
	Binding     map[string]string `json:"binding"`
	Preimage    map[string]string `json:"preimage"`
	Digest      map[string]string `json:"digest"`
	Signature   map[string]string `json:"signature"`
}

// TestGolden fixes the bytes of a Hello and of what is signed. Other implementations can read testdata/identity.json.
func TestGolden(t *testing.T) {
	suite := keys.Std()
	seed := [32]byte{1, 2, 3}
	signer, err := suite.ParsePrivate(keys.Ed25519, seed[:])
	if err != nil {
		t.Fatal(err)
	}
	hello := Hello{
		Version: Version, Chain: keys.Digest{0xc4}, Groups: []ledger.GroupID{"main", "settlement"},
		Node: identity.NodeIDOf(suite, signer.Public()), Algorithm: keys.Ed25519, Key: signer.Public().Bytes(),
		Connection: ClassBulk, Instance: 7, Nonce: [32]byte{9}, Info: map[string]string{"arch": "amd64", "software": "fondaco 0.1.0"},
	}
	data, err := ledger.Marshal(&hello)
	if err != nil {
		t.Fatal(err)
	}
	b := binding{
		exporter: [32]byte{0xe1}, helloClient: keys.Hash(suite, "hello", data), helloServer: keys.Digest{0x52},
		certClient: keys.Hash(suite, "spki", []byte("client")), certServer: keys.Hash(suite, "spki", []byte("server")),
	}
	got := vector{
		Comment:     "suite std; the node's Ed25519 seed is 010203 and 29 zero bytes; SPKIs are the ASCII strings client and server; signatures are deterministic",
		Hello:       hex.EncodeToString(data),
		HelloDigest: b.helloClient.String(),
		Fields: map[string]string{
			"version": "1", "chain": hello.Chain.String(), "groups": "main settlement", "node": hello.Node.String(), "algorithm": "1",
			"key": hex.EncodeToString(hello.Key), "certificates": "", "connection": "2", "instance": "7",
			"nonce": hex.EncodeToString(hello.Nonce[:]), "info": "arch=amd64 software=fondaco 0.1.0",
		},
		Binding: map[string]string{
			"exporter": hex.EncodeToString(b.exporter[:]), "hello_client": b.helloClient.String(), "hello_server": b.helloServer.String(),
			"spki_client": b.certClient.String(), "spki_server": b.certServer.String(),
		},
		Preimage: map[string]string{}, Digest: map[string]string{}, Signature: map[string]string{},
	}
	for name, r := range map[string]role{"client": roleClient, "server": roleServer} {
		signature, err := signer.Sign(b.digest(suite, r))
		if err != nil {
			t.Fatal(err)
		}
		got.Preimage[name] = hex.EncodeToString(b.preimage(r))
		got.Digest[name] = b.digest(suite, r).String()
		got.Signature[name] = hex.EncodeToString(signature)
	}
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("testdata", "identity.json")
	if update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != string(want) {
		t.Errorf("identity vector changed; if that is meant, raise Version and run with FONDACO_UPDATE=1\ngot\n%s\nwant\n%s", text, want)
	}
	again, refused := decodeHello(data, identity.NodeID{})
	if refused != nil || again.Node != hello.Node || again.Instance != 7 {
		t.Errorf("decodeHello = %+v, %v", again, refused)
	}
}

func FuzzDecodeHello(f *testing.F) {
	vectors, err := os.ReadFile(filepath.Join("testdata", "identity.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(vectors, &v); err != nil {
		f.Fatal(err)
	}
	data, _ := hex.DecodeString(v.Hello)
	f.Add(data)
	f.Add([]byte{0x80})
	f.Add([]byte{0x81, 0x02})
	ours := Hello{Groups: []ledger.GroupID{"main"}}
	suite := keys.Std()
	f.Fuzz(func(t *testing.T, data []byte) {
		h, refused := decodeHello(data, identity.NodeID{})
		if refused != nil {
			return
		}
		again, err := ledger.Marshal(h)
		if err != nil || string(again) != string(data) {
			t.Errorf("a Hello has two encodings: %x and %x (%v)", data, again, err)
		}
		ours.matches(h, suite)
	})
}

// slow is a signer that makes a signature for each token.
type slow struct {
	keys.Signer
	tokens   chan struct{}
	calls    atomic.Int32 // for signatures
	now, top atomic.Int32 // that are being made, and were at most
}

func (s *slow) Sign(d keys.Digest) ([]byte, error) {
	s.calls.Add(1)
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for top := s.top.Load(); now > top && !s.top.CompareAndSwap(top, now); top = s.top.Load() {
	}
	<-s.tokens
	return s.Signer.Sign(d)
}

// TestProofs has many call at once with the Hello of a member. The node signs for a few of them at a time, and for those that left, or waited too
// long, not at all.
func TestProofs(t *testing.T) {
	const callers = 24
	start := func(t *testing.T, timeout time.Duration) (*chain, *member, *slow, *atomic.Int32) {
		c := newChain(t, 2).onLoopback()
		key := &slow{Signer: c.signers[0], tokens: make(chan struct{})}
		admitted := new(atomic.Int32)
		c.change = func(_ int, config *Config) {
			config.Peers, config.Signer, config.HandshakeTimeout = nil, key, timeout
			config.Admit = func(Hello) error { admitted.Add(1); return nil }
		}
		return c, c.start(0, nil), key, admitted
	}
	come := func(t *testing.T, c *chain, m *member) (all []*caller) {
		for range callers {
			x := c.call(t, 1, m)
			x.sendHello(func(*Hello) {})
			all = append(all, x)
		}
		return all
	}
	t.Run("each in its turn", func(t *testing.T) {
		c, m, key, admitted := start(t, time.Minute)
		all := come(t, c, m)
		eventually(t, "all are admitted", func() bool { return admitted.Load() == callers })
		for range callers {
			key.tokens <- struct{}{}
		}
		for _, x := range all {
			theirs, err := x.h.readHello(x.stream)
			if err != nil {
				t.Fatal(err)
			}
			x.h.binding.helloServer = keys.Hash(c.suite, "hello", theirs)
			if err := x.h.readProof(x.stream, roleServer); err != nil {
				t.Error(err)
			}
		}
		if top := key.top.Load(); top != maxProofs {
			t.Errorf("up to %d proofs were made at once, want %d", top, maxProofs)
		}
	})
	t.Run("who leaves or waits too long gets none", func(t *testing.T) {
		c, m, key, admitted := start(t, time.Second)
		all := come(t, c, m)
		eventually(t, "all are admitted", func() bool { return admitted.Load() == callers })
		all[callers-1].conn.CloseWithError(0, "") //nolint:errcheck // it closes
		eventually(t, "all are gone but those for whom the signer makes one", func() bool {
			gone := 0
			for _, x := range all {
				if x.conn.Context().Err() != nil {
					gone++
				}
			}
			return gone == callers-maxProofs
		})
		close(key.tokens)
		eventually(t, "nobody is left", func() bool { return key.now.Load() == 0 })
		m.stop()
		if n := key.calls.Load(); n != maxProofs {
			t.Errorf("%d proofs were made, want %d", n, maxProofs)
		}
	})
}
