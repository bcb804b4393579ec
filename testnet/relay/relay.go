// Package relay is a bad network on loopback: nodes send their UDP packets to it, and it delays, loses, doubles,
// reorders and cuts them. It needs no privileges and works on every system.
//
// # Doors
//
// Each node has a door, which is the address at which the others are told to reach it. A packet that node A sends to the door of B
// leaves through the door of A, so that B answers there: both see one address for the other, and each
// direction between two nodes is a link of its own, with its own conditions and its own stream of random numbers.
// Packets from addresses of no node are dropped.
//
// The package is public by path but promised nothing.
package relay

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fondaco/fondaco/transport/simnet"
)

// Bounds of what a relay holds.
const (
	maxPacket = 1 << 16
	// maxQueued is how many packets wait on one link before more are lost: 100 ms at 40,000 packets a second.
	maxQueued = 4_096
	// socketBuffer is asked for on each door; the system may allow less.
	socketBuffer = 7 << 20
)

// Node is a node whose packets are relayed.
type Node struct {
	Listen netip.AddrPort // where the node sends from and listens
	Door   netip.AddrPort // where the others reach it
}

// Config says what a relay joins.
type Config struct {
	Nodes []Node // required; all addresses on loopback
	Seed  uint64 // of the links' random numbers
}

// Relay carries packets between nodes. Its methods may be called from any goroutine.
type Relay struct {
	nodes  []Node
	number map[netip.AddrPort]int // of nodes, by the address they send from
	doors  []*net.UDPConn
	links  [][]*link // [from][to]

	mu    sync.Mutex // guards queue
	queue agenda
	wake  chan struct{}
}

// link is one direction between two nodes.
type link struct {
	mu         sync.Mutex // guards what follows
	luck       *simnet.Link
	conditions simnet.Conditions
	cut        bool
	queued     int
	stats      simnet.Stats
}

// New binds the doors. Run must be called, or Close.
func New(c Config) (*Relay, error) {
	r := &Relay{nodes: c.Nodes, number: map[netip.AddrPort]int{}, wake: make(chan struct{}, 1)}
	for i, n := range c.Nodes {
		if !n.Listen.Addr().IsLoopback() || !n.Door.Addr().IsLoopback() {
			return nil, fmt.Errorf("relay: node %d at %s with door %s: want loopback addresses", i, n.Listen, n.Door)
		}
		r.number[n.Listen] = i
		row := make([]*link, len(c.Nodes))
		for j := range row {
			row[j] = &link{luck: simnet.NewLink(c.Seed, fmt.Sprint(i), fmt.Sprint(j))}
		}
		r.links = append(r.links, row)
	}
	for _, n := range c.Nodes {
		door, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(n.Door))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("relay: open a door: %w", err), r.Close())
		}
		door.SetReadBuffer(socketBuffer)  //nolint:errcheck // what the system allows
		door.SetWriteBuffer(socketBuffer) //nolint:errcheck // what the system allows
		r.doors = append(r.doors, door)
	}
	return r, nil
}

// Close closes the doors. Run does it too.
func (r *Relay) Close() error {
	var all error
	for _, door := range r.doors {
		if err := door.Close(); !errors.Is(err, net.ErrClosed) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// Run carries packets until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	for to := range r.doors {
		tasks.Go(func() { r.read(ctx, to) })
	}
	tasks.Go(func() { r.deliver(ctx) })
	<-ctx.Done()
	err := r.Close()
	tasks.Wait()
	return err
}

// read takes the packets that come to a node's door.
func (r *Relay) read(ctx context.Context, to int) {
	buffer := make([]byte, maxPacket)
	for ctx.Err() == nil {
		size, sender, err := r.doors[to].ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one packet, such as that an earlier one reached nobody
		}
		from, known := r.number[netip.AddrPortFrom(sender.Addr().Unmap(), sender.Port())]
		if known && from != to {
			r.take(from, to, buffer[:size])
		}
	}
}

// take decides what happens to a packet. There is one caller at a time for each link.
func (r *Relay) take(from, to int, data []byte) {
	l, now := r.links[from][to], time.Now()
	l.mu.Lock()
	fate := l.luck.Packet(l.conditions, l.cut, len(data), now)
	l.stats.Sent++
	l.stats.Count(fate, l.cut)
	arrivals := fate.Arrivals()
	if len(arrivals) == 1 && l.queued == 0 && !arrivals[0].After(now) {
		l.mu.Unlock()
		r.send(from, to, data)
		return
	}
	if l.queued+len(arrivals) > maxQueued {
		l.stats.Overflowed += uint64(len(arrivals))
		arrivals = nil
	}
	l.queued += len(arrivals)
	l.mu.Unlock()
	if len(arrivals) == 0 {
		return
	}
	data = append([]byte(nil), data...)
	r.mu.Lock()
	for _, at := range arrivals {
		r.queue.count++
		heap.Push(&r.queue, delayed{at: at, number: r.queue.count, from: from, to: to, data: data})
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// send lets a packet out of the sender's door. What the system refuses is lost, as packets are.
func (r *Relay) send(from, to int, data []byte) {
	_, err := r.doors[from].WriteToUDPAddrPort(data, r.nodes[to].Listen)
	l := r.links[from][to]
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.stats.Delivered++
	} else {
		l.stats.Overflowed++
	}
}

// deliver sends the packets that wait, when they are due.
func (r *Relay) deliver(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		r.mu.Lock()
		for len(r.queue.all) > 0 {
			if wait = time.Until(r.queue.all[0].at); wait > 0 {
				break
			}
			p := heap.Pop(&r.queue).(delayed)
			r.mu.Unlock()
			r.send(p.from, p.to, p.data)
			l := r.links[p.from][p.to]
			l.mu.Lock()
			l.queued--
			l.mu.Unlock()
			r.mu.Lock()
			wait = time.Hour
		}
		r.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// each calls f with every link, or with those of a direction; -1 stands for all nodes.
func (r *Relay) each(from, to int, f func(i, j int, l *link)) {
	for i, row := range r.links {
		for j, l := range row {
			if i != j && (from < 0 || from == i) && (to < 0 || to == j) {
				l.mu.Lock()
				f(i, j, l)
				l.mu.Unlock()
			}
		}
	}
}

// SetConditions sets the conditions from one node to another; -1 stands for all nodes. Packets that are under way
// are not concerned.
func (r *Relay) SetConditions(from, to int, c simnet.Conditions) {
	r.each(from, to, func(_, _ int, l *link) { l.conditions = c })
}

// Cut lets nothing through from one node to another any more; -1 stands for all nodes.
func (r *Relay) Cut(from, to int) {
	r.each(from, to, func(_, _ int, l *link) { l.cut = true })
}

// Partition lets nothing through between the sides given, and between them and the nodes on none.
func (r *Relay) Partition(sides ...[]int) {
	side := make([]int, len(r.nodes))
	for i, members := range sides {
		for _, n := range members {
			side[n] = i + 1
		}
	}
	r.each(-1, -1, func(i, j int, l *link) { l.cut = side[i] != side[j] })
}

// Heal lets everything through again. Conditions stay.
func (r *Relay) Heal() { r.each(-1, -1, func(_, _ int, l *link) { l.cut = false }) }

// Stats counts the packets from one node to another; -1 stands for all nodes.
func (r *Relay) Stats(from, to int) (sum simnet.Stats) {
	r.each(from, to, func(_, _ int, l *link) {
		sum.Sent += l.stats.Sent
		sum.Lost += l.stats.Lost
		sum.Duplicated += l.stats.Duplicated
		sum.Reordered += l.stats.Reordered
		sum.Cut += l.stats.Cut
		sum.Overflowed += l.stats.Overflowed
		sum.Delivered += l.stats.Delivered
	})
	return sum
}

// delayed is a packet that waits for its time.
type delayed struct {
	at       time.Time
	number   uint64
	from, to int
	data     []byte
}

// agenda is a heap of packets, the earliest first.
type agenda struct {
	all   []delayed
	count uint64 // of all that ever waited
}

func (a *agenda) Len() int { return len(a.all) }

func (a *agenda) Less(i, j int) bool {
	if !a.all[i].at.Equal(a.all[j].at) {
		return a.all[i].at.Before(a.all[j].at)
	}
	return a.all[i].number < a.all[j].number
}

func (a *agenda) Swap(i, j int) { a.all[i], a.all[j] = a.all[j], a.all[i] }

func (a *agenda) Push(x any) { a.all = append(a.all, x.(delayed)) }

func (a *agenda) Pop() any {
	last := a.all[len(a.all)-1]
	a.all[len(a.all)-1] = delayed{}
	a.all = a.all[:len(a.all)-1]
	return last
}
