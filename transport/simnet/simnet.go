// Package simnet is a network of packets in memory, with latency, loss, duplication, reordering, limited
// bandwidth and partitions, all drawn from a seed.
//
// Its connections are net.PacketConns. All waiting is on channels and timers, so that it runs in a bubble of
// testing/synctest in virtual time. What happens to a packet depends on the seed, the two addresses and how
// many packets went between them before, not on other traffic.
package simnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conditions are those of a link in one direction. The zero value delivers at once and loses nothing.
type Conditions struct {
	Latency   time.Duration
	Jitter    time.Duration // up to this much is added to Latency, without changing the order of packets
	Loss      float64       // probability that a packet is lost
	Duplicate float64       // probability that it arrives twice
	Reorder   float64       // probability that it is held back by up to Latency+Jitter and others overtake it
	Bandwidth int           // bytes per second; zero: unlimited
}

const (
	// inbox is how many packets wait unread at a connection before more are lost, as in a socket's buffer.
	inbox = 4096
	// backlog is the longest that a packet waits for Bandwidth before more are lost, as in a router.
	backlog = 200 * time.Millisecond
)

// Stats counts packets.
type Stats struct{ Sent, Lost, Duplicated, Reordered, Cut, Overflowed, Delivered uint64 }

// Network joins connections. Its methods may be called from any goroutine.
type Network struct {
	seed uint64

	mu         sync.Mutex // guards what follows
	conditions Conditions
	special    map[direction]Conditions
	links      map[direction]*Link
	conns      map[string]*Conn
	side       map[string]int // of the partition; missing: 0
	stats      Stats
}

type direction struct{ from, to string }

// New returns a network without connections.
func New(seed uint64) *Network {
	return &Network{
		seed:    seed,
		special: make(map[direction]Conditions),
		links:   make(map[direction]*Link),
		conns:   make(map[string]*Conn),
		side:    make(map[string]int),
	}
}

// SetConditions sets the conditions of all links without conditions of their own.
func (n *Network) SetConditions(c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conditions = c
}

// SetLink sets the conditions from one address to another, in that direction only.
func (n *Network) SetLink(from, to string, c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.special[direction{from, to}] = c
}

// Partition cuts the network into the given sides and a last one of all other addresses. Packets that are
// under way still arrive. Partition() heals it.
func (n *Network) Partition(sides ...[]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.side)
	for i, side := range sides {
		for _, addr := range side {
			n.side[addr] = i + 1
		}
	}
}

// Stats returns the counts so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Listen returns a connection at an address of the form ip:port, which must be free. It is free again after
// Close.
func (n *Network) Listen(addr string) (*Conn, error) {
	udp, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("simnet: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns[udp.String()] != nil {
		return nil, fmt.Errorf("simnet: listen on %s: %w", addr, syscall.EADDRINUSE)
	}
	c := &Conn{
		net: n, addr: udp,
		packets:  make(chan packet, inbox),
		closed:   make(chan struct{}),
		deadline: make(chan struct{}),
	}
	n.conns[udp.String()] = c
	return c, nil
}

type packet struct {
	from *net.UDPAddr
	data []byte
}

// send decides what happens to a packet.
func (n *Network) send(from *net.UDPAddr, to string, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := direction{from.String(), to}
	c, ok := n.special[d]
	if !ok {
		c = n.conditions
	}
	l := n.links[d]
	if l == nil {
		l = NewLink(n.seed, d.from, d.to)
		n.links[d] = l
	}
	n.stats.Sent++
	now := time.Now()
	cut := n.side[d.from] != n.side[d.to]
	fate := l.Packet(c, cut, len(data), now)
	n.stats.Count(fate, cut)
	p := packet{from: from, data: append([]byte(nil), data...)}
	for _, at := range fate.Arrivals() {
		n.deliver(to, p, at.Sub(now))
	}
}

// deliver puts the packet into the inbox at addr after a delay. n.mu is held.
func (n *Network) deliver(addr string, p packet, after time.Duration) {
	if after <= 0 {
		n.arrive(addr, p)
		return
	}
	time.AfterFunc(after, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.arrive(addr, p)
	})
}

// arrive: n.mu is held.
func (n *Network) arrive(addr string, p packet) {
	c := n.conns[addr]
	if c == nil {
		n.stats.Cut++ // nobody listens
		return
	}
	select {
	case c.packets <- p:
		n.stats.Delivered++
	default:
		n.stats.Overflowed++
	}
}

// Conn is a net.PacketConn of the network.
type Conn struct {
	net  *Network
	addr *net.UDPAddr

	packets chan packet
	closed  chan struct{}

	mu       sync.Mutex // guards what follows
	deadline chan struct{}
	timer    *time.Timer
}

// ReadFrom returns the next packet. What does not fit into p is lost, as with UDP.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	select {
	case <-c.closed:
		return 0, nil, c.fail("read", net.ErrClosed)
	case <-deadline:
		return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
	default:
	}
	select {
	case m := <-c.packets:
		return copy(p, m.data), m.from, nil
	case <-c.closed:
		return 0, nil, c.fail("read", net.ErrClosed)
	case <-deadline:
		return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
	}
}

// WriteTo sends a packet. It never waits and does not tell whether the packet arrives.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, c.fail("write", net.ErrClosed)
	default:
	}
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.fail("write", errors.New("address is not a UDP address"))
	}
	c.net.send(c.addr, udp.String(), p)
	return len(p), nil
}

// Close frees the address. Reads end with net.ErrClosed.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	select {
	case <-c.closed:
		return c.fail("close", net.ErrClosed)
	default:
	}
	close(c.closed)
	delete(c.net.conns, c.addr.String())
	return nil
}

// LocalAddr returns the connection's address.
func (c *Conn) LocalAddr() net.Addr { return c.addr }

// SetReadDeadline makes reads fail from t on; they do not while t is zero. It interrupts a read under way
// only if it is set for the first time or the earlier deadline was not reached.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	select {
	case <-c.deadline:
		c.deadline = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return nil
	}
	reached := c.deadline
	if wait := time.Until(t); wait > 0 {
		c.timer = time.AfterFunc(wait, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.deadline != reached {
				return
			}
			select {
			case <-reached:
			default:
				close(reached)
			}
		})
	} else {
		close(reached)
	}
	return nil
}

// SetWriteDeadline has nothing to do: writes never wait.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadBuffer has nothing to do. quic-go prints a warning where it is missing.
func (c *Conn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer has nothing to do.
func (c *Conn) SetWriteBuffer(int) error { return nil }

func (c *Conn) fail(operation string, err error) error {
	return &net.OpError{Op: operation, Net: "simnet", Addr: c.addr, Err: err}
}
