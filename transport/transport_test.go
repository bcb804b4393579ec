package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// member is a node of a test.
type member struct {
	*Endpoint
	addr string
	stop func() // ends Run and waits for it
}

// chain is a set of nodes that know one another.
type chain struct {
	t       testing.TB
	suite   keys.Suite
	signers []keys.Signer // in order of node ids
	addrs   []string
	listen  func(i int) net.PacketConn
	change  func(i int, c *Config) // may be nil
}

func newChain(t testing.TB, n int) *chain { return newChainOf(t, keystest.Suite(), n) }

func newChainOf(t testing.TB, suite keys.Suite, n int) *chain {
	c := &chain{t: t, suite: suite}
	for range n {
		s, err := c.suite.Generate(c.suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.signers = append(c.signers, s)
	}
	slices.SortFunc(c.signers, func(a, b keys.Signer) int {
		x, y := identity.NodeIDOf(c.suite, a.Public()), identity.NodeIDOf(c.suite, b.Public())
		return bytes.Compare(x[:], y[:])
	})
	return c
}

// onLoopback gives every node a UDP socket on loopback.
func (c *chain) onLoopback() *chain {
	for range c.signers {
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			c.t.Fatal(err)
		}
		c.addrs = append(c.addrs, socket.LocalAddr().String())
		socket.Close()
	}
	c.listen = func(i int) net.PacketConn {
		addr, _ := net.ResolveUDPAddr("udp", c.addrs[i])
		socket, err := net.ListenUDP("udp", addr)
		if err != nil {
			c.t.Fatal(err)
		}
		return socket
	}
	return c
}

func (c *chain) id(i int) identity.NodeID { return identity.NodeIDOf(c.suite, c.signers[i].Public()) }

// authorize knows the nodes of the chain.
func (c *chain) authorize(h Hello) (identity.Identity, error) {
	for i := range c.signers {
		if c.id(i) == h.Node {
			return identity.Identity{Institution: fmt.Sprintf("bank-%d", i)}, nil
		}
	}
	return identity.Identity{}, fmt.Errorf("node %s is not a member of group main", h.Node)
}

func (c *chain) config(i int) Config {
	config := Config{
		Conn: c.listen(i), Suite: c.suite, Signer: c.signers[i], Chain: keys.Digest{1}, Groups: []ledger.GroupID{"main"},
		Authorize: c.authorize, Info: map[string]string{"software": "test"}, StatelessResetKey: [32]byte{byte(i + 1)},
	}
	if testing.Verbose() {
		config.Log = zerolog.New(zerolog.NewTestWriter(c.t)).With().Int("at", i).Logger()
	}
	for k := range c.signers {
		config.Peers = append(config.Peers, Address{Node: c.id(k), Addr: c.addrs[k]})
	}
	if c.change != nil {
		c.change(i, &config)
	}
	return config
}

// start starts node i. setup is called before it runs.
func (c *chain) start(i int, setup func(*Endpoint)) *member {
	c.t.Helper()
	e, err := New(c.config(i))
	if err != nil {
		c.t.Fatal(err)
	}
	if setup != nil {
		setup(e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	m := &member{Endpoint: e, addr: c.addrs[i]}
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("Run of node %d: %v", i, err)
		}
	})
	c.t.Cleanup(m.stop)
	return m
}

// eventually waits for a condition, real or virtual time.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in 20 s: %s", what)
		}
	}
}

func (m *member) peerAt(id identity.NodeID) Peer {
	for p := range m.Peers() {
		if p.Node == id {
			return p
		}
	}
	return Peer{}
}

func (m *member) sees(id identity.NodeID) bool { return m.peerAt(id).Up }

func connected(t testing.TB, members ...*member) {
	t.Helper()
	for _, a := range members {
		for _, b := range members {
			if a != b {
				eventually(t, "node "+a.Self().Short()+" connects to "+b.Self().Short(), func() bool { return a.sees(b.Self()) })
			}
		}
	}
}

// counter counts messages by sender and content.
type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) handle(from identity.NodeID, m []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string]int)
	}
	c.seen[from.Short()+" "+string(m)]++
}

func (c *counter) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func TestExchange(t *testing.T) {
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d nodes send on every protocol and answer requests", n), func(t *testing.T) {
			c := newChain(t, n).onLoopback()
			var members []*member
			counters := make([]counter, n)
			for i := range n {
				members = append(members, c.start(i, func(e *Endpoint) {
					for _, p := range []Protocol{Consensus, Status, TxGossip, AMOP} {
						e.Handle(p, counters[i].handle)
					}
					e.HandleRequest(BlockSync, func(_ context.Context, from identity.NodeID, m []byte) ([]byte, error) {
						if string(m) == "unknown" {
							return nil, errors.New("no such block")
						}
						return append([]byte(from.Short()), m...), nil
					})
				}))
			}
			connected(t, members...)
			for _, a := range members {
				for _, b := range members {
					if a == b {
						continue
					}
					for _, p := range []Protocol{Consensus, Status, TxGossip, AMOP} {
						if err := a.Send(b.Self(), p, []byte(p.String())); err != nil {
							t.Fatal(err)
						}
					}
					got, err := a.Request(t.Context(), b.Self(), BlockSync, []byte("7"))
					if want := a.Self().Short() + "7"; err != nil || string(got) != want {
						t.Errorf("Request = %q, %v; want %q", got, err, want)
					}
					_, err = a.Request(t.Context(), b.Self(), BlockSync, []byte("unknown"))
					if remote, ok := errors.AsType[*RemoteError](err); !ok || remote.Reason != "no such block" {
						t.Errorf("Request of an unknown block: %v", err)
					}
					if _, err = a.Request(t.Context(), b.Self(), TxFetch, nil); err == nil || !strings.Contains(err.Error(), "does not answer tx-fetch") {
						t.Errorf("Request without a handler: %v", err)
					}
				}
			}
			for i := range counters {
				eventually(t, "all messages arrive", func() bool { return counters[i].len() == 4*(n-1) })
			}
			for p := range members[0].Peers() {
				if p.Node == members[0].Self() {
					t.Error("a node is its own peer")
				}
				if p.RTT == 0 || p.Info["software"] != "test" || p.Identity.Institution == "" || p.Clock == nil || p.Clock.Abs() > time.Minute || p.Received == 0 {
					t.Errorf("Peer = %+v", p)
				}
			}
		})
	}
}

func TestLargeMessages(t *testing.T) {
	c := newChain(t, 2).onLoopback()
	var got [protocols]atomic.Pointer[[]byte]
	a := c.start(0, nil)
	b := c.start(1, func(e *Endpoint) {
		for p := range Protocol(protocols) {
			if p.known() {
				e.Handle(p, func(_ identity.NodeID, m []byte) { got[p].Store(&m) })
			}
			if p.MaxResponse() > 0 {
				e.HandleRequest(p, func(_ context.Context, _ identity.NodeID, m []byte) ([]byte, error) {
					return bytes.Repeat([]byte("x"), p.MaxResponse()), nil
				})
			}
		}
	})
	connected(t, a, b)
	for p := range Protocol(protocols) {
		if !p.known() {
			continue
		}
		m := make([]byte, p.MaxMessage())
		rand.Read(m)
		if table[p].queued > 0 {
			if err := a.Send(b.Self(), p, m); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the largest message of "+p.String(), func() bool {
				arrived := got[p].Load()
				return arrived != nil && bytes.Equal(*arrived, m)
			})
			if err := a.Send(b.Self(), p, make([]byte, p.MaxMessage()+1)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("Send of one byte too many on %s: %v", p, err)
			}
		} else if err := a.Send(b.Self(), p, m); !errors.Is(err, ErrProtocol) {
			t.Errorf("Send on %s, which has requests only: %v", p, err)
		}
		if p.MaxResponse() > 0 {
			response, err := a.Request(t.Context(), b.Self(), p, m)
			if err != nil || len(response) != p.MaxResponse() {
				t.Errorf("largest request of %s: %d bytes, %v", p, len(response), err)
			}
			if _, err := a.Request(t.Context(), b.Self(), p, make([]byte, p.MaxMessage()+1)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("Request with one byte too many on %s: %v", p, err)
			}
		}
	}
}
