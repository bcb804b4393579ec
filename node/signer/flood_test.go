package signer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/signer"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// device makes one signature at a time, as a session of a hardware security module does.
type device struct {
	keys.Signer
	takes time.Duration
	mu    sync.Mutex // held while it signs
}

func (d *device) Sign(of keys.Digest) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	time.Sleep(d.takes)
	return d.Signer.Sign(of)
}

// impostor has a member's public key, and another private one.
type impostor struct {
	keys.Signer
	public keys.PublicKey
	signs  *atomic.Int64 // each after it got the other node's proof
}

func (i *impostor) Public() keys.PublicKey { return i.public }

func (i *impostor) Sign(of keys.Digest) ([]byte, error) {
	i.signs.Add(1)
	return i.Signer.Sign(of)
}

func generate(t *testing.T) keys.Signer {
	t.Helper()
	key, err := keys.Std().Generate(keys.Ed25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// serve starts the signer of a node's key, which ends with the test, and returns a client of it.
func serve(t *testing.T, key keys.Signer, log zerolog.Logger) *signer.Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	c := signer.Config{
		Key: key, Socket: filepath.Join(t.TempDir(), "s"), User: uint32(os.Getuid()), Journal: filepath.Join(t.TempDir(), "journal"), Begin: true, Log: log, Ready: func() { close(ready) },
	}
	go func() { ended <- signer.Serve(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	client, err := signer.Dial(c.Socket, keys.Std())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TestFlood has many that name themselves a member connect to a node again and again, each of which makes its signer sign, while the
// node votes. No vote is refused.
func TestFlood(t *testing.T) {
	const strangers = 64
	suite := keys.Std()
	key, member := generate(t), generate(t)
	client := serve(t, &device{Signer: key, takes: 15 * time.Millisecond}, zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	at, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	node, signs := identity.NodeIDOf(suite, key.Public()), new(atomic.Int64)
	start := func(c transport.Config) {
		t.Helper()
		c.Suite, c.Chain, c.Groups = suite, keys.Digest{1}, []ledger.GroupID{"main"}
		c.Authorize = func(transport.Hello) (identity.Identity, error) { return identity.Identity{}, nil }
		e, err := transport.New(c)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	start(transport.Config{Conn: at, Signer: client, AddressRate: 1e6, AddressBurst: 1e6}) // so many as if each had an address of its own
	for range strangers {
		start(transport.Config{
			Listen: "127.0.0.1:0", Signer: &impostor{generate(t), member.Public(), signs}, Peers: []transport.Address{{Node: node, Addr: at.LocalAddr().String()}},
			FallbackDial: time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond,
		})
	}
	votes := ledger.Height(0)
	for ; votes < 20; votes++ {
		for begun, next := time.Now(), signs.Load()+4; signs.Load() < next; time.Sleep(time.Millisecond) {
			if time.Since(begun) > time.Minute {
				t.Fatalf("after %d proofs and %d votes there are no more proofs", signs.Load(), votes)
			}
		}
		vote := ledger.Statement{Kind: ledger.Prepare, Height: votes + 1, Order: keys.Digest{1}}
		if _, err := vote.Sign(suite, client, keys.Digest{1}, "main"); err != nil {
			t.Fatalf("vote %d, after %d proofs: %v", votes, signs.Load(), err)
		}
	}
	t.Logf("%d votes while %d strangers got %d proofs", votes, strangers, signs.Load())
}

// TestTurns has a node ask for more signatures at once than its signer has connections: all are made, and votes do not wait for the others' turns.
func TestTurns(t *testing.T) {
	var log bytes.Buffer
	client := serve(t, &device{Signer: generate(t), takes: time.Millisecond}, zerolog.New(zerolog.SyncWriter(&log)))
	var asking sync.WaitGroup
	var made atomic.Int64
	const asked = 64
	for range asked {
		asking.Go(func() {
			for range 2 {
				if _, err := client.SignMessage("id", []byte("a proof")); err != nil {
					t.Error(err)
				}
				made.Add(1)
			}
		})
	}
	for height := ledger.Height(1); made.Load() < asked; height++ {
		vote := ledger.Statement{Kind: ledger.Prepare, Height: height, Order: keys.Digest{1}}
		if _, err := vote.Sign(keys.Std(), client, keys.Digest{1}, "main"); err != nil {
			t.Error(err)
		}
	}
	asking.Wait()
	if log.Len() > 0 {
		t.Errorf("the signer logs: %s", &log)
	}
}
