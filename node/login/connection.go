package login

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// Limits of a listener's connections. Who has TLS and has not shown yet who he is, is a stranger; he is cut off after the
// server's limit of time for a handshake or for the head of a request, and with the answer that refuses him.
const (
	MaxConnections    = 4096 // all together
	MaxStrangers      = 1024 // of them strangers,
	MaxStrangersOfOne = 256  // and strangers from one address
)

// connections counts those that are open.
type connections struct {
	mu        sync.Mutex // guards what follows
	all       int
	strangers int
	from      map[netip.Addr]int // strangers by address; none has zero
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	count *connections
	from  netip.Addr

	// guarded by count.mu
	stranger, closed bool
}

type connKey struct{}

// enter counts a connection, or returns why there is no room for it.
func (c *connections) enter(inner net.Conn, stranger bool) (*conn, error) {
	k := &conn{Conn: inner, count: c, stranger: stranger}
	if at, err := netip.ParseAddrPort(inner.RemoteAddr().String()); err == nil {
		k.from = at.Addr().Unmap().WithZone("")
		if k.from.Is6() { // who has one of these has its whole network
			if net, err := k.from.Prefix(64); err == nil {
				k.from = net.Addr()
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.all >= MaxConnections:
		return nil, errors.New("there is no room for more connections")
	case stranger && c.strangers >= MaxStrangers:
		return nil, errors.New("there is no room for more connections of clients that have not shown who they are")
	case stranger && c.from[k.from] >= MaxStrangersOfOne && !k.from.IsLoopback():
		return nil, errors.New("there is no room for more connections from this address of clients that have not shown who they are")
	}
	c.all++
	if stranger {
		if c.from == nil {
			c.from = map[netip.Addr]int{}
		}
		c.strangers++
		c.from[k.from]++
	}
	return k, nil
}

// recognize notes that the client has shown who he is.
func (k *conn) recognize() {
	k.count.mu.Lock()
	defer k.count.mu.Unlock()
	k.known()
}

func (k *conn) known() {
	if !k.stranger {
		return
	}
	k.stranger = false
	k.count.strangers--
	if k.count.from[k.from]--; k.count.from[k.from] == 0 {
		delete(k.count.from, k.from)
	}
}

// Close implements net.Conn.
func (k *conn) Close() error {
	k.count.mu.Lock()
	if !k.closed {
		k.closed = true
		k.known()
		k.count.all--
	}
	k.count.mu.Unlock()
	return k.Conn.Close()
}

// Accept implements net.Listener. Connections for which there is no room are closed.
func (g *Gate) Accept() (net.Conn, error) {
	for {
		inner, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		k, err := g.count.enter(inner, g.Secure())
		if err != nil {
			_ = inner.Close()
			g.refuse(Connections, inner.RemoteAddr().String(), err)
			continue
		}
		if g.Secure() {
			return tls.Server(k, g.tls), nil
		}
		return k, nil
	}
}
