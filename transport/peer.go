package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/state/identity"
)

const (
	// linger is how long a replaced connection still delivers what is on its way.
	linger = 2 * time.Second
	// settled is how long a connection must have held for the next attempt to begin with the least backoff.
	settled = 10 * time.Second
	// ageGrace is how much longer the accepting side lets a connection live than the dialing side, which
	// replaces it without a gap.
	ageGrace = time.Minute
)

// peer is another node, connected or to be connected. Locks are taken in the order Endpoint.mu, telling, mu,
// outbox.mu.
type peer struct {
	e    *Endpoint
	node identity.NodeID

	cancel context.CancelFunc // ends the dial loops; nil: none run; guarded by Endpoint.mu

	out      [classes]outbox
	changed  [classes]chan struct{} // wakes the dial loop of the class
	requests atomic.Int32           // of ours, under way
	asked    atomic.Uint64          // requests sent
	received atomic.Uint64          // messages and requests

	telling sync.Mutex // held while the watchers are told, so that they hear of changes in order

	mu        sync.Mutex // guards what follows
	addr      string     // empty: not listed
	links     [classes]*link
	up        bool // as the watchers were told
	since     time.Time
	lastError string
	logged    string // the last error that was logged as a warning, without digits
}

func newPeer(e *Endpoint, node identity.NodeID) *peer {
	p := &peer{e: e, node: node}
	for i := range classes {
		p.changed[i] = make(chan struct{}, 1)
		p.out[i].wake = make(chan struct{}, 1)
	}
	return p
}

// start begins to dial. Endpoint.mu is held and the endpoint runs.
func (p *peer) start(ctx context.Context) {
	if p.cancel != nil {
		return
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.e.tasks.Go(func() { p.keepConnected(ctx, ClassConsensus) })
	p.e.tasks.Go(func() { p.keepConnected(ctx, ClassBulk) })
}

// stop ends dialing. Endpoint.mu is held.
func (p *peer) stop() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

func (p *peer) list(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr = addr
}

// idle reports whether nothing is known of the peer that is worth keeping.
func (p *peer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr == "" && p.links == [classes]*link{}
}

// keepConnected dials whenever the class has no connection, or one that is due for replacement. The node with
// the lesser id dials; the other waits to be dialed, and dials too when that does not happen.
func (p *peer) keepConnected(ctx context.Context, class Class) {
	var (
		changed = p.changed[class.index()]
		first   = bytes.Compare(p.e.self[:], p.node[:]) < 0
		backoff = p.e.config.MinBackoff
		last    *link // until it is seen to be lost
		tried   bool
	)
	for ctx.Err() == nil {
		p.mu.Lock()
		l, addr := p.links[class.index()], p.addr
		p.mu.Unlock()
		if l != nil && !l.due.Load() {
			last, tried = l, true
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if l == nil {
			if last != nil && time.Since(last.established) > settled {
				backoff = p.e.config.MinBackoff
			}
			last = nil
			wait := backoff/2 + rand.N(backoff/2+1)
			if !first {
				wait += p.e.config.FallbackDial
			}
			if first && !tried {
				wait = 0 // the very first attempt
			}
			if !sleep(ctx, wait, changed) {
				continue // something changed: look again
			}
			tried = true
			backoff = min(2*backoff, p.e.config.MaxBackoff)
		}
		if err := p.e.dial(ctx, p.node, addr, class); err != nil && ctx.Err() == nil {
			p.failed(addr, class, err)
			if l != nil { // an old connection still serves: no hurry
				sleep(ctx, p.e.config.MaxBackoff, changed)
			}
		}
	}
}

// sleep waits for d, and reports false if ctx ended or a change came first.
func sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-changed:
		return false
	case <-ctx.Done():
		return false
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look anyway
	}
}

// failed notes an attempt to connect that did not succeed, and logs its reason when it is new.
func (p *peer) failed(addr string, class Class, err error) {
	words := inWords(err)
	p.mu.Lock()
	p.lastError = words
	kind := strings.Map(func(r rune) rune { // times and ages in the words make no other reason
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, words)
	again := p.logged == kind
	p.logged = kind
	p.mu.Unlock()
	level := zerolog.WarnLevel
	if again {
		level = zerolog.DebugLevel
	}
	p.e.config.Log.WithLevel(level).Stringer("peer", p.node).Str("address", addr).Stringer("connection", class).Str("reason", words).Msg("peer not reached")
}

// note keeps the reason why an incoming connection was refused, if there is no connection.
func (p *peer) note(words string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.up {
		p.lastError = words
	}
}

// install makes l the connection of its class, or retires it when the other one stays. Both sides decide
// alike. Endpoint.mu is held.
func (p *peer) install(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := l.class.index()
	old := p.links[i]
	if old != nil && old.stays(l) {
		l.retire()
		return
	}
	p.links[i] = l
	p.out[i].attach(l)
	if old != nil {
		old.retire()
	}
	for _, other := range p.links {
		if other != nil && other.who.hello.Instance != l.who.hello.Instance {
			other.closeSoon(CodeReplaced, "the node at the other end has restarted")
		}
	}
	wake(p.changed[i])
}

// stays decides between the connection l and a later one of the same nodes and class. A node that restarted
// has forgotten the old one. A node that dials again has lost the old one or means to replace it. What is left
// is that both dialed at once: then the greater exporter wins, which is the same number on both sides.
func (l *link) stays(later *link) bool {
	switch {
	case l.who.hello.Instance != later.who.hello.Instance, l.dialed == later.dialed:
		return false
	default:
		return bytes.Compare(l.who.exporter[:], later.who.exporter[:]) > 0
	}
}

// ended takes away a connection that is closed.
func (p *peer) ended(l *link) {
	l.stopTimers()
	i := l.class.index()
	cause := context.Cause(l.conn.Context())
	words := inWords(cause)
	_, restarted := errors.AsType[*quic.StatelessResetError](cause)
	p.mu.Lock()
	if p.links[i] == l {
		// The first connection to meet a restarted node takes the other one along, which may be silent for long.
		for _, other := range p.links {
			if restarted && other != nil && other != l && other.who.hello.Instance == l.who.hello.Instance {
				other.closeSoon(CodeReplaced, words)
			}
		}
		p.links[i] = nil
		p.out[i].detach(l)
		p.lastError = words
		wake(p.changed[i])
	}
	p.mu.Unlock()
	p.e.config.Log.Debug().Stringer("peer", p.node).Stringer("connection", l.class).Str("reason", words).Msg("connection closed")
	p.announce()
	p.e.mu.Lock()
	p.e.forget(p)
	p.e.mu.Unlock()
}

// announce tells the watchers if the peer came up or went down since they were last told.
func (p *peer) announce() {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	up := !slices.Contains(p.links[:], nil)
	news := up != p.up
	p.up = up
	var remote, clocks string
	if news {
		p.since = time.Now()
		if up {
			p.logged = ""
			remote = p.links[0].conn.RemoteAddr().String()
			clocks = clockWords(p.node, p.e.self, p.links[0].who.ahead)
		}
	}
	reason := p.lastError
	p.mu.Unlock()
	if !news {
		return
	}
	if up {
		p.e.config.Log.Info().Stringer("peer", p.node).Str("address", remote).Msg("peer connected")
		if clocks != "" {
			p.e.config.Log.Warn().Stringer("peer", p.node).Msg(clocks)
		}
	} else {
		p.e.config.Log.Info().Stringer("peer", p.node).Str("reason", reason).Msg("peer disconnected")
	}
	p.e.mu.Lock()
	watch := p.e.watch
	p.e.mu.Unlock()
	for _, f := range watch {
		f(p.node, up)
	}
}

// close ends the peer's connections.
func (p *peer) close(c Code, reason string) {
	p.mu.Lock()
	links := p.links
	p.mu.Unlock()
	for _, l := range links {
		if l != nil {
			l.close(c, reason)
		}
	}
}

// authorizeAgain asks whether the node may still take part, and disconnects it if not, or when its identity ends as it is now.
func (p *peer) authorizeAgain() {
	p.mu.Lock()
	links := p.links
	p.mu.Unlock()
	for _, l := range links {
		if l == nil {
			continue
		}
		var who identity.Identity
		var err error
		if p.e.config.Admit != nil {
			err = p.e.config.Admit(*l.who.hello)
		}
		if err == nil {
			if who, err = p.e.config.Authorize(*l.who.hello); err != nil {
				l.close(CodeRemoved, withClocks(err.Error(), clockWords(p.node, p.e.self, l.who.aheadNow(time.Now()))))
				continue
			}
		}
		if err != nil {
			l.close(CodeRemoved, err.Error())
			continue
		}
		l.identify(who)
	}
}

// renew has the connections that this node dialed made anew.
func (p *peer) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.links {
		if l != nil && l.dialed {
			l.due.Store(true)
			wake(p.changed[i])
		}
	}
}

func (p *peer) link(c Class) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[c.index()]
}

func (p *peer) snapshot() Peer {
	p.mu.Lock()
	s := Peer{
		Node: p.node, Address: p.addr, Listed: p.addr != "", Up: p.up, Since: p.since, LastError: p.lastError,
		Sent: p.asked.Load(), Received: p.received.Load(),
	}
	if l := p.links[ClassConsensus.index()]; l != nil {
		s.RTT = l.conn.ConnectionStats().SmoothedRTT
		s.Identity = *l.identity.Load()
		s.Info = l.who.hello.Info
		s.Clock = l.who.aheadNow(time.Now())
		if s.Address == "" {
			s.Address = l.conn.RemoteAddr().String()
		}
	}
	p.mu.Unlock()
	for i := range p.out {
		p.out[i].count(&s)
	}
	return s
}

// link is one identified connection.
type link struct {
	p           *peer
	conn        *quic.Conn
	class       Class
	who         *proved
	dialed      bool
	established time.Time
	due         atomic.Bool // this side should replace it
	identity    atomic.Pointer[identity.Identity]

	oneWay   receiver[*quic.ReceiveStream]
	requests receiver[*quic.Stream]

	timersMu sync.Mutex // guards what follows
	timers   []*time.Timer
	end      *time.Timer // one of them: the greatest age or the identity's end, whichever comes first; nil: not started
	over     bool        // the connection is closed: no timer begins any more
}

func newLink(p *peer, conn *quic.Conn, who *proved, dialed bool) *link {
	l := &link{p: p, conn: conn, class: who.hello.Connection, who: who, dialed: dialed, established: time.Now()}
	l.identity.Store(&who.identity)
	return l
}

// start begins to serve the connection. Endpoint.mu is held and the endpoint runs.
func (l *link) start() {
	e := l.p.e
	age := e.config.MaxAge
	l.identify(*l.identity.Load())
	if l.dialed {
		l.after(age-rand.N(age/10+1), func() {
			l.due.Store(true)
			wake(l.p.changed[l.class.index()])
		})
	}
	e.tasks.Go(func() {
		l.p.out[l.class.index()].write(l)
		<-l.conn.Context().Done()
		l.p.ended(l)
	})
	l.oneWay = receiver[*quic.ReceiveStream]{l: l, accept: l.conn.AcceptUniStream, serve: l.readMessages, most: maxReaders}
	l.oneWay.start()
	l.requests = receiver[*quic.Stream]{l: l, accept: l.conn.AcceptStream, serve: l.answer, most: maxRequests}
	l.requests.start()
}

// identify notes for whom the node at the other end stands now, and closes the connection when that ends, at the latest at its greatest age.
func (l *link) identify(who identity.Identity) {
	l.identity.Store(&who)
	e := l.p.e
	left := e.config.MaxAge + ageGrace - time.Since(l.established)
	reason := fmt.Sprintf("the connection reached its greatest age of %v", e.config.MaxAge)
	if end := who.NotAfter; !end.IsZero() && end.Sub(e.config.Now()) < left {
		left = end.Sub(e.config.Now())
		reason = fmt.Sprintf("the identity of node %s ended at %s: renew its certificate", l.p.node, end.UTC().Format(time.RFC3339))
	}
	l.timersMu.Lock()
	defer l.timersMu.Unlock()
	if l.end != nil {
		l.end.Stop()
		l.timers = slices.DeleteFunc(l.timers, func(t *time.Timer) bool { return t == l.end })
	}
	l.end = l.begin(left, func() { l.close(CodeAge, reason) })
}

func (l *link) after(d time.Duration, f func()) {
	l.timersMu.Lock()
	defer l.timersMu.Unlock()
	l.begin(d, f)
}

// begin returns a timer that ends with the connection; nil: that has ended. timersMu is held.
func (l *link) begin(d time.Duration, f func()) *time.Timer {
	if l.over {
		return nil
	}
	t := time.AfterFunc(d, f)
	l.timers = append(l.timers, t)
	return t
}

func (l *link) stopTimers() {
	l.timersMu.Lock()
	defer l.timersMu.Unlock()
	l.over = true
	for _, t := range l.timers {
		t.Stop()
	}
}

// retire closes the connection after what is on its way has arrived.
func (l *link) retire() {
	l.after(linger, func() { l.close(CodeReplaced, "another connection between the nodes took over") })
}

// closeSoon is close for callers that hold locks: closing waits for a packet to be written.
func (l *link) closeSoon(c Code, reason string) {
	l.after(0, func() { l.close(c, reason) })
}

func (l *link) close(c Code, reason string) {
	l.conn.CloseWithError(quic.ApplicationErrorCode(c), printable(reason)) //nolint:errcheck // it closes
}
