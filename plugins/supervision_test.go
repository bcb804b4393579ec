//go:build unix

package plugins_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// TestSupervision tells how a group gets over a member whose engine program goes wrong, in each way it can. There are two
// members, and a block needs both: the other one's engine is well, in its own process.
func TestSupervision(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it starts two dozen nodes")
	}
	const works = "" // the group goes on meanwhile
	for _, c := range []struct {
		mood   string
		starts bool   // the mood counts when the program starts: so it is killed
		reason string // regular expression of what Status says
	}{
		{"panics at its start", true, "before the plugin handshake.*its last words: panic: no configuration found"},
		{"prints before the handshake", true, "print nothing before"},
		{"speaks another version", true, "plugins: version: .*Plugin version: 7, Client versions: .1.*build the program against"},
		{"panics in a call", false, "its last words: panic: asked to|the connection broke"},
		{"hangs", false, "it did not answer frame [0-9]+ within 2s"},
		{"allocates without end", false, "its last words: fatal error: .*out of memory|its last words: fatal error: .*cannot allocate"},
		{"sends garbage", true, "its answer to frame 1 does not decode"},
		{"sends a reply of 64 MB", true, "its answer to frame 1 is larger than 16711680 bytes"},
		{"sends replies without end", true, "its answer to frame 1 does not decode"},
		{"prints without end", true, works},
		{"forgets its journal", true, works},
	} {
		t.Run(c.mood, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.sends(t, p.well)
			before := p.blocks(t, p.moody)
			var start runtime.MemStats
			runtime.ReadMemStats(&start)

			p.set(t, c.mood)
			if c.starts {
				p.kill(t)
			}
			if c.reason == works {
				p.waits(t, "the program runs in that mood", func(s *client.Plugin) bool { return s.Healthy && s.Restarts > 0 })
				p.sends(t, p.well)
			} else {
				tx := p.transaction(t, p.well)
				if err := p.well.Send(t.Context(), tx); err != nil {
					t.Fatal(err)
				}
				red := regexp.MustCompile(c.reason)
				p.waits(t, "the status says "+c.reason, func(s *client.Plugin) bool { return !s.Healthy && red.MatchString(s.Reason) })
				if found, err := p.well.Lookup(t.Context(), tx.ID, 0, false); err != nil || found.Progress != client.Pending {
					t.Errorf("with half of the members the transaction is %+v, %v", found, err)
				}
				p.set(t, "well")
				if _, err := p.well.Wait(t.Context(), tx.ID); err != nil {
					t.Fatal(err)
				}
			}
			p.set(t, "well")
			p.sends(t, p.moody)
			p.waits(t, "the status is green again", func(s *client.Plugin) bool { return s.Healthy && s.Reason == "running" })
			p.safe(t, before)
			var end runtime.MemStats
			runtime.ReadMemStats(&end)
			if took := end.TotalAlloc - start.TotalAlloc; took > 1<<30 {
				t.Errorf("the nodes allocated %d MB meanwhile", took>>20)
			}
		})
	}
	t.Run("is killed again and again", func(t *testing.T) {
		t.Parallel()
		p := newPair(t)
		p.sends(t, p.well)
		before := p.blocks(t, p.moody)
		for i := range 4 {
			p.kill(t)
			p.sends(t, p.well)
			p.waits(t, "the kill is counted", func(s *client.Plugin) bool { return s.Healthy && s.Restarts == i+1 })
		}
		p.safe(t, before)
	})
	t.Run("is another file since it was started", func(t *testing.T) {
		t.Parallel()
		p := newPair(t)
		p.sends(t, p.well)
		before := p.blocks(t, p.moody)
		if err := os.WriteFile(p.config.Engine.Path, []byte("#!/bin/sh\necho another program\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		p.kill(t) // what comes back is what was checked, not what lies there now
		p.sends(t, p.moody)
		p.safe(t, before)
		p.stop[1]()
		if n, err := node.New(t.Context(), p.config); !errors.Is(err, plugins.ErrChecksum) {
			t.Errorf("the node started again with the other file: %v, %v", n, err)
		}
	})
}

// pair is a group of two members on this machine.
type pair struct {
	suite       keys.Suite
	user        keys.Signer
	well, moody *client.Client
	stop        [2]func()
	config      node.Config // of the moody one
	mood        string      // path of the file that says it
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{suite: keystest.Suite(), mood: filepath.Join(t.TempDir(), "mood")}
	p.set(t, "well")
	var signers [3]keys.Signer
	for i := range signers {
		var err error
		if signers[i], err = p.suite.Generate(p.suite.Vote(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	p.user = signers[2]
	params := ledger.DefaultParams()
	params.BatchDelay = 1
	genesis := ledger.Genesis{
		Version: ledger.Version, Name: "pair", Suite: p.suite.Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: params,
		Accounts: []ledger.GenesisAccount{{Name: "user", Institution: "bank", Roles: []string{string(identity.User)}, Keys: []ledger.Key{ledger.KeyOf(p.user.Public())}}},
	}
	var configs [2]node.Config
	var peers []transport.Address
	for i, signer := range signers[:2] {
		id := identity.NodeIDOf(p.suite, signer.Public())
		genesis.Members = append(genesis.Members, ledger.Member{Node: id, Institution: "bank", Key: ledger.KeyOf(signer.Public())})
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, transport.Address{Node: id, Addr: socket.LocalAddr().String()})
		configs[i] = node.Config{
			Dir: t.TempDir(), Signer: signer, Listen: socket.LocalAddr().String(), Conn: socket, API: "127.0.0.1:0",
			Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel),
		}
	}
	configs[0].EngineFactory = pbft.New
	path, sum := copyOfBinary(t)
	configs[1].Engine = plugins.Spec{Name: "engine-pbft", Path: path, SHA256: sum, Args: []string{"plugin", "moody", p.mood}}
	for i := range configs {
		configs[i].Genesis, configs[i].Peers = genesis, peers
		n, err := node.New(t.Context(), configs[i])
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		stopped := false
		p.stop[i] = func() {
			if stopped {
				return
			}
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("node %d ended: %v", i, err)
			}
		}
		t.Cleanup(p.stop[i])
		api, err := client.New("http://"+n.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			p.well = api
		} else {
			p.moody = api
		}
	}
	p.config = configs[1]
	p.config.Conn = nil
	// A transaction before they are connected has them change the view, and one that forgets what it signed in another view than
	// the first may not go on.
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		up := 0
		for _, api := range []*client.Client{p.well, p.moody} {
			if s, err := api.Status(t.Context()); err == nil && len(s.Peers) == 1 && s.Peers[0].Up {
				up++
			}
		}
		if up == 2 {
			return p
		}
		if time.Now().After(end) {
			t.Fatal("the nodes are not connected")
		}
	}
}

func copyOfBinary(t *testing.T) (path string, sum [32]byte) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	if sum, err = plugins.Sum(path); err != nil {
		t.Fatal(err)
	}
	return path, sum
}

func (p *pair) set(t *testing.T, mood string) {
	t.Helper()
	next := p.mood + ".next"
	if err := os.WriteFile(next, []byte(mood), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, p.mood); err != nil { // the program never reads half of it
		t.Fatal(err)
	}
}

func (p *pair) status(t *testing.T) *client.Plugin {
	t.Helper()
	s, err := p.moody.Status(t.Context())
	if err != nil || len(s.Plugins) != 1 {
		t.Fatalf("Status = %+v, %v", s, err)
	}
	if s.Stopped != "" {
		t.Fatalf("the group stopped: %s", s.Stopped)
	}
	return &s.Plugins[0]
}

func (p *pair) waits(t *testing.T, what string, holds func(*client.Plugin) bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(3 * time.Millisecond) {
		s := p.status(t)
		if holds(s) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("waited 30 s in vain until %s; it is %+v", what, s)
		}
	}
}

// kill ends the program that runs now.
func (p *pair) kill(t *testing.T) {
	t.Helper()
	p.waits(t, "the program runs", func(s *client.Plugin) bool {
		return s.Healthy && s.PID != 0 && syscall.Kill(s.PID, syscall.SIGKILL) == nil
	})
}

// transaction makes one that has no effect but to be in a block.
func (p *pair) transaction(t *testing.T, to *client.Client) *ledger.SignedTx {
	t.Helper()
	tx, err := to.Transaction(t.Context(), ledger.NamedAddress(p.suite, "account", "user"), ledger.Target{Address: precompiles.AccountsAddress}, "nothing", nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := tx.Sign(p.suite, p.user)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// sends waits until a transaction is in a block.
func (p *pair) sends(t *testing.T, to *client.Client) {
	t.Helper()
	tx := p.transaction(t, to)
	if err := to.Send(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := to.Wait(ctx, tx.ID); err != nil {
		t.Fatal(err)
	}
}

// blocks returns the hashes of a node's blocks.
func (p *pair) blocks(t *testing.T, of *client.Client) []keys.Digest {
	t.Helper()
	s, err := of.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var hashes []keys.Digest
	for h := range s.Height + 1 {
		b, err := of.Block(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, b.Hash)
	}
	return hashes
}

// safe checks that both members have the blocks from before and the same ones since, and that nobody signed two votes
// that contradict one another.
func (p *pair) safe(t *testing.T, before []keys.Digest) {
	t.Helper()
	p.sends(t, p.well)
	p.sends(t, p.moody)
	a, b := p.blocks(t, p.well), p.blocks(t, p.moody)
	shorter := min(len(a), len(b))
	if shorter <= len(before) {
		t.Errorf("%d and %d blocks, and %d before", len(a), len(b), len(before))
	}
	for h := range shorter {
		if a[h] != b[h] || h < len(before) && a[h] != before[h] {
			t.Errorf("block %d is %s and %s", h, a[h], b[h])
		}
	}
	for _, of := range []*client.Client{p.well, p.moody} {
		if found, err := of.Evidence(t.Context()); err != nil || len(found) > 0 {
			t.Errorf("evidence of a double vote: %+v, %v", found, err)
		}
	}
}
