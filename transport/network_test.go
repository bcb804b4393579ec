package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/transport/simnet"
)

// onSimnet gives every node an address on a simulated network.
func (c *chain) onSimnet(network *simnet.Network) *chain {
	for i := range c.signers {
		c.addrs = append(c.addrs, fmt.Sprintf("10.0.0.%d:4000", i+1))
	}
	c.listen = func(i int) net.PacketConn {
		conn, err := network.Listen(c.addrs[i])
		if err != nil {
			c.t.Fatal(err)
		}
		return conn
	}
	return c
}

// inBubble runs f in virtual time, with a network.
func inBubble(t *testing.T, f func(t *testing.T, network *simnet.Network)) {
	synctest.Test(t, func(t *testing.T) { f(t, simnet.New(1)) })
}

func TestLoss(t *testing.T) {
	for _, test := range []struct {
		name       string
		conditions simnet.Conditions
	}{
		{"5 % loss between continents", simnet.Conditions{Latency: 40 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.05}},
		{"duplicates and reordering", simnet.Conditions{Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Duplicate: 0.1, Reorder: 0.2}},
		{"a narrow line", simnet.Conditions{Latency: 5 * time.Millisecond, Bandwidth: 250_000}},
	} {
		t.Run(test.name+": every consensus message arrives once", func(t *testing.T) {
			inBubble(t, func(t *testing.T, network *simnet.Network) {
				const n, messages = 4, 300
				network.SetConditions(test.conditions)
				c := newChain(t, n).onSimnet(network)
				var counters [n]counter
				var members []*member
				for i := range n {
					members = append(members, c.start(i, func(e *Endpoint) { e.Handle(Consensus, counters[i].handle) }))
				}
				connected(t, members...)
				for k := range messages {
					for _, a := range members {
						for _, b := range members {
							if a == b {
								continue
							}
							if err := a.Send(b.Self(), Consensus, fmt.Appendf(nil, "vote %d", k)); err != nil {
								t.Fatal(err)
							}
						}
					}
					time.Sleep(5 * time.Millisecond)
				}
				for i := range counters {
					eventually(t, "all votes arrive", func() bool { return counters[i].len() == messages*(n-1) })
					for m, times := range counters[i].seen {
						if times != 1 {
							t.Errorf("%q arrived %d times", m, times)
						}
					}
				}
				t.Logf("packets: %+v", network.Stats())
			})
		})
	}
}

func TestPartition(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		network.SetConditions(simnet.Conditions{Latency: time.Millisecond})
		c := newChain(t, 2).onSimnet(network)
		var mu sync.Mutex
		var events []string
		a := c.start(0, func(e *Endpoint) {
			e.OnPeer(func(_ identity.NodeID, up bool) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, fmt.Sprint(up))
			})
		})
		b := c.start(1, nil)
		connected(t, a, b)
		network.Partition([]string{c.addrs[0]})
		cut := time.Now()
		eventually(t, "the cut is noticed", func() bool { return !a.sees(b.Self()) && !b.sees(a.Self()) })
		if took := time.Since(cut); took > 6*time.Second {
			t.Errorf("a cut network was noticed after %v, want at most the idle timeout of 5s", took)
		}
		if p := a.peerAt(b.Self()); !strings.Contains(p.LastError, "the network between is cut") && !strings.Contains(p.LastError, "UDP is blocked") {
			t.Errorf("LastError = %q", p.LastError)
		}
		time.Sleep(time.Minute)
		network.Partition()
		healed := time.Now()
		connected(t, a, b)
		if took := time.Since(healed); took > 15*time.Second {
			t.Errorf("reconnected after %v", took)
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(events, " "); got != "true false true" {
			t.Errorf("OnPeer was told %s, want true false true", got)
		}
	})
}

func TestConnectionAge(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		network.SetConditions(simnet.Conditions{Latency: time.Millisecond})
		c := newChain(t, 2).onSimnet(network)
		c.change = func(_ int, config *Config) { config.MaxAge = time.Minute }
		var got counter
		var downs atomic.Int32
		a := c.start(0, nil)
		b := c.start(1, func(e *Endpoint) {
			e.Handle(Consensus, got.handle)
			e.OnPeer(func(_ identity.NodeID, up bool) {
				if !up {
					downs.Add(1)
				}
			})
		})
		connected(t, a, b)
		first := a.peer(b.Self()).link(ClassConsensus)
		sent := 0
		for start := time.Now(); time.Since(start) < 5*time.Minute; sent++ {
			if err := a.Send(b.Self(), Consensus, fmt.Appendf(nil, "%d", sent)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		eventually(t, "all messages arrive", func() bool { return got.len() == sent })
		if a.peer(b.Self()).link(ClassConsensus) == first {
			t.Error("the connection was not replaced")
		}
		if downs.Load() != 0 {
			t.Errorf("the peer went down %d times while connections were replaced", downs.Load())
		}
	})
}

func TestIdentityEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 2).onSimnet(network)
		end := time.Now().Add(time.Minute)
		c.change = func(_ int, config *Config) {
			config.Authorize = func(h Hello) (identity.Identity, error) { return identity.Identity{NotAfter: end}, nil }
		}
		a, b := c.start(0, nil), c.start(1, nil)
		connected(t, a, b)
		time.Sleep(59 * time.Second)
		if !a.sees(b.Self()) {
			t.Error("disconnected before the identity's end")
		}
		eventually(t, "the node is out", func() bool {
			return !a.sees(b.Self()) && strings.Contains(a.peerAt(b.Self()).LastError, "ended at")
		})
	})
}

// TestIdentityEndsEarlier has the end of a node's identity moved while it is connected, as when a provider knows more of its certificate than before:
// its connections end then, and neither at the end that was known when they were made nor at once.
func TestIdentityEndsEarlier(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 2).onSimnet(network)
		var end atomic.Pointer[time.Time]
		moved := func(after time.Duration) time.Time {
			at := time.Now().Add(after)
			end.Store(&at)
			return at
		}
		moved(time.Hour)
		c.change = func(i int, config *Config) {
			config.Authorize = func(Hello) (identity.Identity, error) {
				if i == 1 {
					return identity.Identity{}, nil
				}
				return identity.Identity{NotAfter: *end.Load()}, nil
			}
		}
		a, b := c.start(0, nil), c.start(1, nil)
		connected(t, a, b)
		for _, to := range []time.Duration{2 * time.Hour, time.Minute, 2 * time.Minute, time.Minute} {
			at := moved(to)
			a.Recheck()
			eventually(t, "the identity is the one of now", func() bool { return a.peerAt(b.Self()).Identity.NotAfter.Equal(at) })
			time.Sleep(to / 2)
			if !a.sees(b.Self()) || !b.sees(a.Self()) {
				t.Fatalf("disconnected before the identity's end in %v", to)
			}
		}
		time.Sleep(20 * time.Second)
		eventually(t, "the node is out and knows why", func() bool {
			return !a.sees(b.Self()) && strings.Contains(b.peerAt(a.Self()).LastError, "ended at")
		})
		time.Sleep(time.Minute)
		if a.sees(b.Self()) {
			t.Error("a node whose identity has ended is let in again")
		}
	})
}

func TestBothDial(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprintf("start %d", i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := simnet.New(uint64(i))
				network.SetConditions(simnet.Conditions{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
				c := newChain(t, 2).onSimnet(network)
				c.change = func(_ int, config *Config) { config.FallbackDial = 1 }
				var got [2]counter
				var members []*member
				for i := range 2 {
					members = append(members, c.start(i, func(e *Endpoint) {
						e.Handle(Consensus, got[i].handle)
						e.Handle(TxGossip, got[i].handle)
					}))
				}
				a, b := members[0], members[1]
				connected(t, a, b)
				for k := range 50 { // while duplicates are being resolved
					for _, p := range []Protocol{Consensus, TxGossip} {
						if err := errors.Join(a.Send(b.Self(), p, fmt.Appendf(nil, "%s %d", p, k)), b.Send(a.Self(), p, fmt.Appendf(nil, "%s %d", p, k))); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(2 * time.Millisecond)
				}
				for i := range got {
					eventually(t, "no message is lost to the loser", func() bool { return got[i].len() == 100 })
				}
				time.Sleep(time.Minute)
				for _, class := range []Class{ClassConsensus, ClassBulk} {
					x, y := a.peer(b.Self()).link(class), b.peer(a.Self()).link(class)
					if x == nil || y == nil || x.who.exporter != y.who.exporter {
						t.Errorf("the nodes do not agree on the %s connection", class)
					}
				}
			})
		})
	}
}

func TestOneDirectionOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 2).onSimnet(network)
		c.change = func(i int, config *Config) {
			if i == 0 { // the one that should dial does not know where to
				config.Peers = nil
			}
		}
		a, b := c.start(0, nil), c.start(1, nil)
		connected(t, a, b)
		if a.peerAt(b.Self()).Listed {
			t.Error("the caller became listed")
		}
		b.stop()
		eventually(t, "a node that is neither listed nor connected is forgotten", func() bool { return a.peer(b.Self()) == nil })
	})
}

func TestSetPeers(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 3).onSimnet(network)
		var banned atomic.Bool
		c.change = func(i int, config *Config) {
			config.Peers = nil
			config.Authorize = func(h Hello) (identity.Identity, error) {
				if banned.Load() && h.Node == c.id(2) {
					return identity.Identity{}, errors.New("node 2 was removed from group main")
				}
				return identity.Identity{}, nil
			}
		}
		var members []*member
		var all []Address
		for i := range 3 {
			members = append(members, c.start(i, nil))
			all = append(all, Address{Node: c.id(i), Addr: c.addrs[i]})
		}
		time.Sleep(10 * time.Second)
		for p := range members[0].Peers() {
			t.Errorf("a node without a list has the peer %+v", p)
		}
		for _, m := range members {
			m.SetPeers(all)
		}
		connected(t, members...)
		banned.Store(true)
		members[0].SetPeers(all[:2])
		eventually(t, "the removed node is disconnected and knows why", func() bool {
			return !members[0].sees(c.id(2)) && !members[2].sees(c.id(0)) &&
				strings.Contains(members[2].peerAt(c.id(0)).LastError, "was removed from group main")
		})
		if !members[0].sees(c.id(1)) || !members[1].sees(c.id(0)) {
			t.Error("the others were disturbed")
		}
	})
}

func TestRestart(t *testing.T) {
	c := newChain(t, 2).onLoopback()
	for _, i := range []int{1, 0} { // the one that is dialed, and the one that dials
		t.Run(fmt.Sprintf("node %d comes back at once", i), func(t *testing.T) {
			c.t = t
			var got counter
			stays, returns := c.start(1-i, nil), c.start(i, nil)
			connected(t, stays, returns)
			returns.stop()
			again := c.start(i, func(e *Endpoint) { e.Handle(Consensus, got.handle) })
			connected(t, stays, again)
			eventually(t, "a message arrives", func() bool {
				stays.Send(again.Self(), Consensus, []byte("vote"))
				return got.len() > 0
			})
			stays.stop()
			again.stop()
		})
	}
}

// TestCrash kills a node without a word and starts it again: its stateless resets tell the other one.
func TestCrash(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		network.SetConditions(simnet.Conditions{Latency: time.Millisecond})
		c := newChain(t, 2).onSimnet(network)
		a := c.start(0, nil)
		b := c.start(1, nil)
		connected(t, a, b)
		network.Partition([]string{c.addrs[1]}) // nothing that it says while it dies gets out
		b.stop()
		network.Partition()
		died := time.Now()
		b = c.start(1, nil)
		eventually(t, "a notices as soon as it says something", func() bool {
			a.Send(b.Self(), Status, []byte("a heartbeat that is longer than a stateless reset"))
			return !a.sees(b.Self())
		})
		if reason := a.peerAt(b.Self()).LastError; reason != "the node restarted" {
			t.Errorf("LastError = %q, want that it restarted", reason)
		}
		connected(t, a, b)
		if took := time.Since(died); took > time.Second {
			t.Errorf("connected %v after the restart, want far less than the idle timeout", took)
		}
	})
}

func TestGarbageDatagrams(t *testing.T) {
	c := newChain(t, 2).onLoopback()
	a, b := c.start(0, nil), c.start(1, nil)
	connected(t, a, b)
	socket, err := net.Dial("udp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	packet := make([]byte, 1200)
	for i := range 2000 {
		rand.Read(packet)
		switch i % 4 {
		case 1:
			packet[0] |= 0xc0 // long header
		case 2:
			packet[0] = 0xc3
			copy(packet[1:], []byte{0, 0, 0, 1, 8}) // QUIC version 1
		case 3:
			packet[0] = packet[0]&0x3f | 0x40 // short header
		}
		socket.Write(packet[:1+i%1200]) //nolint:errcheck // a full buffer is fine
	}
	if _, err := a.Request(t.Context(), b.Self(), AMOP, nil); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("after garbage, Request = %v", err)
	}
	if !a.sees(b.Self()) {
		t.Error("garbage cost a peer its connection")
	}
}

func TestStrangersAreBounded(t *testing.T) {
	c := newChain(t, 2).onLoopback()
	c.change = func(_ int, config *Config) {
		config.MaxUnidentified = 8
		config.Peers = nil
		config.HandshakeTimeout = time.Second
	}
	m := c.start(0, nil)
	calls := make(chan error)
	for range 32 {
		go func() {
			socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				calls <- err
				return
			}
			defer socket.Close()
			transport := &quic.Transport{Conn: socket}
			defer transport.Close()
			config, _, err := new(ephemeral).client()
			if err != nil {
				calls <- err
				return
			}
			to, _ := net.ResolveUDPAddr("udp", m.addr)
			conn, err := transport.Dial(t.Context(), to, config, nil)
			if err == nil { // and says nothing
				<-conn.Context().Done()
				err = context.Cause(conn.Context())
			}
			calls <- err
		}()
	}
	refused := 0
	for range 32 {
		if err := <-calls; err != nil && strings.Contains(inWords(err), "busy with other handshakes") {
			refused++
		}
	}
	if refused < 16 {
		t.Errorf("%d of 32 silent callers were refused, want at least 16 with a limit of 8", refused)
	}
	eventually(t, "their places are free again", func() bool {
		m.admission.mu.Lock()
		defer m.admission.mu.Unlock()
		return m.admission.unidentified == 0
	})
}

func TestAdmissionRate(t *testing.T) {
	a := admission{limit: 1000, rate: 1, burst: 3}
	now := time.Unix(0, 0)
	addr := addressOf(&net.UDPAddr{IP: net.ParseIP("2001:db8::1")})
	same := addressOf(&net.UDPAddr{IP: net.ParseIP("2001:db8::ffff:2")})
	other := addressOf(&net.UDPAddr{IP: net.ParseIP("192.0.2.1")})
	if addr != same || addr == other {
		t.Errorf("addresses %v, %v and %v: want one /64 counted as one", addr, same, other)
	}
	for i := range 3 {
		if !a.take(addr, now) {
			t.Errorf("call %d of a burst of 3 was refused", i)
		}
	}
	if a.take(same, now) {
		t.Error("a fourth call of the same /64 was let in")
	}
	if !a.take(other, now) {
		t.Error("one address shut out another")
	}
	if now = now.Add(time.Second); !a.take(addr, now) || a.take(addr, now) {
		t.Error("after a second, want exactly one more")
	}
	for i := range 3 * maxAddresses {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(i))
		a.take(addressOf(&net.UDPAddr{IP: ip[:]}), now)
	}
	if len(a.addresses) > maxAddresses {
		t.Errorf("%d addresses are kept, want at most %d", len(a.addresses), maxAddresses)
	}
}

func TestOversized(t *testing.T) {
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"a message over the protocol's bound", append([]byte{byte(Consensus)}, 0, 4, 0, 1), "262145 bytes, at most 262144 are allowed"},
		{"a message of 4 GiB", append([]byte{byte(Consensus)}, 0xff, 0xff, 0xff, 0xff), "at most 262144 are allowed"},
		{"a message shorter than it says", append([]byte{byte(Consensus)}, 0, 0, 0, 9, 1), "unexpected EOF"},
	} {
		t.Run(test.name+" costs the connection", func(t *testing.T) {
			inBubble(t, func(t *testing.T, network *simnet.Network) {
				c := newChain(t, 3).onSimnet(network)
				a, b, other := c.start(0, nil), c.start(1, nil), c.start(2, nil)
				connected(t, a, b, other)
				l := a.peer(b.Self()).link(ClassConsensus)
				stream, err := l.conn.OpenUniStream()
				if err != nil {
					t.Fatal(err)
				}
				stream.Write(test.data)
				stream.Close()
				<-l.conn.Context().Done()
				eventually(t, "the reason is told", func() bool { return strings.Contains(a.peerAt(b.Self()).LastError, test.want) })
				connected(t, a, b, other) // it may come back
			})
		})
	}
	t.Run("a protocol of a later version costs nothing", func(t *testing.T) {
		inBubble(t, func(t *testing.T, network *simnet.Network) {
			c := newChain(t, 2).onSimnet(network)
			a, b := c.start(0, nil), c.start(1, nil)
			connected(t, a, b)
			stream, err := a.peer(b.Self()).link(ClassConsensus).conn.OpenUniStream()
			if err != nil {
				t.Fatal(err)
			}
			stream.Write([]byte{200, 0, 0, 0, 0})
			stream.Close()
			time.Sleep(time.Second)
			if !a.sees(b.Self()) {
				t.Error("disconnected")
			}
		})
	})
}

func TestSlowHandler(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		network.SetConditions(simnet.Conditions{Latency: time.Millisecond})
		c := newChain(t, 3).onSimnet(network)
		a, b, other := c.start(0, nil), c.start(1, nil), (*member)(nil)
		release := make(chan struct{})
		var most, now atomic.Int32
		var status, votes, gossip counter
		other = c.start(2, func(e *Endpoint) {
			e.Handle(Consensus, func(from identity.NodeID, m []byte) {
				if from == a.Self() {
					if n := now.Add(1); n > most.Load() {
						most.Store(n)
					}
					<-release
					now.Add(-1)
				}
				votes.handle(from, m)
			})
			e.Handle(Status, status.handle)
			e.Handle(TxGossip, gossip.handle)
		})
		connected(t, a, b, other)
		const flood = 3000
		for i := range flood {
			if err := a.Send(other.Self(), Consensus, fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if got, want := most.Load(), int32(table[Consensus].lane); got != want {
			t.Errorf("%d handlers of one peer and protocol ran at once, want %d", got, want)
		}
		// Another peer, and the same peer on its other connection, notice nothing.
		sent := time.Now()
		if err := errors.Join(b.Send(other.Self(), Consensus, []byte("b")), b.Send(other.Self(), Status, []byte("b")), a.Send(other.Self(), TxGossip, []byte("a"))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "others get through", func() bool { return votes.len() == 1 && status.len() == 1 && gossip.len() == 1 })
		if took := time.Since(sent); took > 50*time.Millisecond {
			t.Errorf("others waited %v", took)
		}
		close(release)
		eventually(t, "the flood arrives too", func() bool { return votes.len() == flood+1 })
	})
}

func TestHandlerPanics(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 3).onSimnet(network)
		a, b := c.start(0, nil), c.start(1, nil)
		var got counter
		victim := c.start(2, func(e *Endpoint) {
			e.Handle(Consensus, func(from identity.NodeID, m []byte) {
				if string(m) == "boom" {
					panic("out of range")
				}
				got.handle(from, m)
			})
		})
		connected(t, a, b, victim)
		if err := errors.Join(a.Send(victim.Self(), Consensus, []byte("boom")), b.Send(victim.Self(), Consensus, []byte("vote"))); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the sender is told", func() bool {
			return strings.Contains(a.peerAt(victim.Self()).LastError, "the consensus handler of node")
		})
		eventually(t, "the other's vote arrives", func() bool { return got.len() == 1 })
		connected(t, a, b, victim)
	})
}

func TestQueueBounds(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		network.SetConditions(simnet.Conditions{Latency: time.Millisecond})
		c := newChain(t, 2).onSimnet(network)
		a := c.start(0, nil)
		release := make(chan struct{})
		var mu sync.Mutex
		var status []string
		b := c.start(1, func(e *Endpoint) {
			e.Handle(Consensus, func(identity.NodeID, []byte) { <-release })
			e.Handle(Status, func(_ identity.NodeID, m []byte) {
				mu.Lock()
				defer mu.Unlock()
				status = append(status, string(m))
			})
		})
		connected(t, a, b)
		// More than flow control and the queue hold together.
		big := make([]byte, Consensus.MaxMessage())
		for range 200 {
			if err := a.Send(b.Self(), Consensus, big); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			if err := a.Send(b.Self(), Status, fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		p := a.peerAt(b.Self())
		if limit := table[Consensus].queuedBytes/len(big) + table[Status].queued; p.Queued == 0 || p.Queued > limit {
			t.Errorf("%d messages are queued, want 1 to %d", p.Queued, limit)
		}
		if p.Dropped == 0 {
			t.Error("nothing was dropped")
		}
		close(release)
		eventually(t, "the newest status arrives", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Contains(status, "99")
		})
		if len(status) > 2*table[Status].queued {
			t.Errorf("%d old statuses arrived: %v", len(status), status)
		}
	})
}

func TestRequestBounds(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 2).onSimnet(network)
		a := c.start(0, nil)
		var gaveUp, atOnce, most atomic.Int32
		b := c.start(1, func(e *Endpoint) {
			e.HandleRequest(BlockSync, func(ctx context.Context, _ identity.NodeID, m []byte) ([]byte, error) {
				most.Store(max(most.Load(), atOnce.Add(1)))
				<-ctx.Done()
				atOnce.Add(-1)
				gaveUp.Add(1)
				return nil, ctx.Err()
			})
			e.HandleRequest(TxFetch, func(_ context.Context, _ identity.NodeID, m []byte) ([]byte, error) { return m, nil })
			e.HandleRequest(AMOP, func(context.Context, identity.NodeID, []byte) ([]byte, error) {
				return make([]byte, AMOP.MaxResponse()+1), nil
			})
		})
		connected(t, a, b)

		if _, err := a.Request(t.Context(), b.Self(), AMOP, nil); err == nil || !strings.Contains(err.Error(), "at most 1048576 are allowed") {
			t.Errorf("Request whose response is too large: %v", err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		results := make(chan error)
		for range maxRequests {
			go func() {
				_, err := a.Request(ctx, b.Self(), BlockSync, nil)
				results <- err
			}()
		}
		synctest.Wait()
		if _, err := a.Request(t.Context(), b.Self(), TxFetch, []byte("ids")); !errors.Is(err, ErrQueueFull) {
			t.Errorf("one request too many: %v, want ErrQueueFull", err)
		}
		for range maxRequests {
			if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a request that nobody answers: %v, want the context's error", err)
			}
		}
		eventually(t, "handlers learn that nobody waits", func() bool { return gaveUp.Load() > 0 && atOnce.Load() == 0 })
		if got, want := most.Load(), int32(table[BlockSync].lane); got > want {
			t.Errorf("%d handlers ran at once, want at most %d", got, want)
		}
		if m, err := a.Request(t.Context(), b.Self(), TxFetch, []byte("ids")); err != nil || !bytes.Equal(m, []byte("ids")) {
			t.Errorf("after that, Request = %q, %v", m, err)
		}
	})
}

func TestReadFrame(t *testing.T) {
	for _, n := range []int{0, 1, copied - 1, copied, copied + 1, 5*copied + 3, MaxTxGossip} {
		m := make([]byte, n)
		rand.Read(m)
		r := bytes.NewReader(appendFrame(nil, m))
		got, err := readFrame(r, MaxTxGossip)
		if err != nil || !bytes.Equal(got, m) || cap(got) != len(got) {
			t.Errorf("frame of %d bytes: %d bytes, capacity %d, %v", n, len(got), cap(got), err)
		}
		if _, err := readFrame(r, MaxTxGossip); !errors.Is(err, io.EOF) {
			t.Errorf("after the last frame: %v, want io.EOF", err)
		}
	}
}

func TestBufferHint(t *testing.T) {
	if hint := bufferHint("linux", 212992, 212992); !strings.Contains(hint, "sysctl -w net.core.rmem_max=7340032 net.core.wmem_max=7340032") {
		t.Errorf("hint = %q", hint)
	}
	if hint := bufferHint("linux", wantedBuffer, wantedBuffer); hint != "" {
		t.Errorf("hint = %q, want none", hint)
	}
}

// TestChurn stops, starts and cuts off nodes at random and then wants all of them connected, each pair by the
// same two connections.
func TestChurn(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := simnet.New(seed)
				random := mathrand.New(mathrand.NewPCG(seed, 0))
				network.SetConditions(simnet.Conditions{Latency: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.02, Reorder: 0.05})
				const n = 4
				c := newChain(t, n).onSimnet(network)
				c.change = func(_ int, config *Config) {
					config.FallbackDial = 100 * time.Millisecond
					config.MaxAge = 20 * time.Second
				}
				members := make([]*member, n)
				for range 100 {
					switch i := random.IntN(n); {
					case members[i] == nil:
						members[i] = c.start(i, nil)
					case random.IntN(3) == 0:
						network.Partition([]string{c.addrs[i]}, []string{c.addrs[(i+1)%n]})
					case random.IntN(2) == 0:
						network.Partition()
					default:
						members[i].stop()
						members[i] = nil
					}
					for _, a := range members {
						for k := range n {
							if a != nil {
								a.Send(c.id(k), Consensus, make([]byte, 300))
							}
						}
					}
					time.Sleep(mathrand.N(2 * time.Second))
				}
				network.Partition()
				for i := range members {
					if members[i] == nil {
						members[i] = c.start(i, nil)
					}
				}
				time.Sleep(10 * time.Second) // idle timeout, backoff, handshake
				agree := func() bool {
					for i, a := range members {
						for k, b := range members {
							for _, class := range []Class{ClassConsensus, ClassBulk} {
								if i == k {
									continue
								}
								x, y := a.peer(b.Self()).link(class), b.peer(a.Self()).link(class)
								if x == nil || y == nil || x.who.exporter != y.who.exporter {
									return false
								}
							}
						}
					}
					return true
				}
				eventually(t, "all pairs agree on their connections", agree)
			})
		})
	}
}

// TestAuthorizeComesLast tells whom Authorize is asked about, which may cost others work: nodes that were admitted and have
// proved their key, and nobody else.
func TestAuthorizeComesLast(t *testing.T) {
	for name, test := range map[string]struct {
		admits, proves bool
	}{
		"a stranger":                            {},
		"somebody who shows the id of a member": {admits: true},
		"a member":                              {admits: true, proves: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, 2).onLoopback()
			var asked [2]atomic.Int32
			c.change = func(i int, config *Config) {
				config.FallbackDial = time.Hour
				if i == 0 && !test.proves {
					config.Signer = forged{config.Signer, newChain(t, 1).signers[0]}
				}
				config.Authorize = func(h Hello) (identity.Identity, error) {
					asked[i].Add(1)
					return c.authorize(h)
				}
				if i == 1 {
					config.Admit = func(h Hello) error {
						if !test.admits {
							return errors.New("who are you?")
						}
						return nil
					}
				}
			}
			b, a := c.start(1, nil), c.start(0, nil)
			if test.proves {
				connected(t, a, b)
			} else {
				eventually(t, "the refusals are known", func() bool { return a.peerAt(c.id(1)).LastError != "" && b.peerAt(c.id(0)).LastError != "" })
			}
			if got := asked[1].Load() > 0; got != test.proves {
				t.Errorf("the node that was called asked: %t", got)
			}
			if got := asked[0].Load() > 0; got != test.admits {
				t.Errorf("the node that called asked: %t", got)
			}
		})
	}
}

// TestRefusedMeanwhile has a node refused from the moment on at which its second connection has passed all checks of the handshake.
func TestRefusedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 2).onSimnet(network)
		var frozen atomic.Bool
		c.change = func(i int, config *Config) {
			if i != 1 {
				return
			}
			config.Admit = func(Hello) error {
				if frozen.Load() {
					return errors.New("the node is frozen")
				}
				return nil
			}
			config.Authorize = func(h Hello) (identity.Identity, error) {
				if h.Connection == ClassBulk {
					frozen.Store(true)
				}
				return c.authorize(h)
			}
		}
		c.start(0, nil)
		b := c.start(1, nil)
		eventually(t, "the node is frozen", frozen.Load)
		time.Sleep(time.Minute)
		for _, class := range []Class{ClassConsensus, ClassBulk} {
			if p := b.peer(c.id(0)); p != nil && p.link(class) != nil {
				t.Errorf("the node is connected for %s", class)
			}
		}
	})
}

// TestRecheckWaitsForNobody has the answer about one of two connected nodes take half a minute.
func TestRecheckWaitsForNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 3).onSimnet(network)
		var slow atomic.Bool
		var refused atomic.Int64
		c.change = func(i int, config *Config) {
			if i != 0 {
				return
			}
			config.Authorize = func(h Hello) (identity.Identity, error) {
				switch {
				case slow.Load() && h.Node == c.id(1):
					time.Sleep(30 * time.Second)
				case slow.Load():
					refused.Add(1)
					return identity.Identity{}, errors.New("its certificate was revoked")
				}
				return identity.Identity{}, nil
			}
		}
		var members []*member
		var all []Address
		for i := range 3 {
			members = append(members, c.start(i, nil))
			all = append(all, Address{Node: c.id(i), Addr: c.addrs[i]})
		}
		connected(t, members...)
		slow.Store(true)
		began := time.Now()
		members[0].SetPeers(all)
		members[0].Recheck()
		if took := time.Since(began); took > 0 {
			t.Errorf("SetPeers took %v", took)
		}
		eventually(t, "the other node is refused meanwhile", func() bool { return !members[0].sees(c.id(2)) })
		if !members[0].sees(c.id(1)) {
			t.Error("a node was cut off without an answer")
		}
		time.Sleep(2 * time.Minute) // the answers come
		// Both sides dial for each of two classes, and come to wait a second at least.
		if n := refused.Load(); n < 60 || n > 4*120+60 {
			t.Errorf("the other node was refused %d times in two minutes", n)
		}
	})
}

// TestSetCertificates replaces the chain that a node shows, while it is connected.
func TestSetCertificates(t *testing.T) {
	inBubble(t, func(t *testing.T, network *simnet.Network) {
		c := newChain(t, 2).onSimnet(network)
		var downs atomic.Int32
		c.change = func(_ int, config *Config) { config.Certificates = [][]byte{[]byte("old")} }
		watch := func(e *Endpoint) {
			e.OnPeer(func(_ identity.NodeID, up bool) {
				if !up {
					downs.Add(1)
				}
			})
		}
		a, b := c.start(0, watch), c.start(1, watch) // a dials
		connected(t, a, b)
		shown := func(to *member, by *member) (all []string) {
			for _, class := range []Class{ClassConsensus, ClassBulk} {
				if l := to.peer(by.Self()).link(class); l != nil {
					all = append(all, string(l.who.hello.Certificates[0]))
				}
			}
			return all
		}
		for _, m := range []*member{a, b} {
			if err := m.SetCertificates([][]byte{[]byte("new")}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "both show the new chain", func() bool {
			return slices.Equal(shown(b, a), []string{"new", "new"}) && slices.Equal(shown(a, b), []string{"new", "new"})
		})
		time.Sleep(time.Minute)
		if n := downs.Load(); n != 0 {
			t.Errorf("nodes went down %d times", n)
		}
		if err := a.SetCertificates([][]byte{make([]byte, MaxHelloSize)}); err == nil || !strings.Contains(err.Error(), "shorten the chain") {
			t.Errorf("SetCertificates: %v", err)
		}
		if err := a.SetCertificates(make([][]byte, MaxCertificates+1)); err == nil {
			t.Error("too many certificates are taken")
		}
		if got := *a.certificates.Load(); string(got[0]) != "new" {
			t.Errorf("it shows %q", got)
		}
	})
}
