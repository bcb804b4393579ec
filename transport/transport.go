// Package transport carries messages between the nodes of a chain over QUIC.
//
// An [Endpoint] holds two connections to each peer, one for consensus and one for bulk, so that a block that
// is being fetched never delays a vote. Both ends prove their identity with their long-term keys before
// anything else is read; see PROTOCOL.md, which is enough to write another implementation from.
//
// # Guarantees
//
// A one-way message ([Endpoint.Send]) arrives at most once, unchanged, from the node that the handler is
// told. Messages may overtake one another: each consensus message has a stream of its own, so that one lost
// packet delays one message. A message is lost when its connection breaks, when a bounded queue drops it, or
// when the other side has no handler. Protocols above must resend what they need.
//
// # Concurrency
//
// All methods may be called from any goroutine. Handlers run on goroutines of the endpoint, several at once
// for one peer up to a bound per protocol; a handler that does not return holds up only messages of the same
// protocol and peer, and then that peer's sending. A handler that panics costs its peer the connection.
//
// # Why two connections and streams per message
//
// Measured with 500 messages/s and 1 % loss: p99 is 2.5 ms with a stream per message, 30 ms on one stream and
// 171 ms over TCP. QUIC's congestion and flow control are per connection, and quic-go's stream priorities do
// not reach across what is in flight already.
package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Address says where a node listens.
type Address struct {
	Node identity.NodeID
	Addr string // host:port, resolved again for each attempt to connect
}

// Config is what an endpoint needs. Fields without a note on zero are required.
type Config struct {
	// Listen is the UDP address to listen on and dial from. It is used when Conn is nil.
	Listen string
	// Conn is used instead of Listen when set. The endpoint closes it.
	Conn net.PacketConn

	Suite  keys.Suite
	Signer keys.Signer // the node's long-term key, of algorithm Suite.Vote()
	Chain  keys.Digest
	Groups []ledger.GroupID // that the node takes part in

	// Peers are connected to and kept connected. See SetPeers.
	Peers []Address

	// Admit decides whether a node whose id fits its key may take part at all: that it is a member or observer of a
	// common group. It is called before the node has proved anything, so it must be cheap and have no effect. nil: any may.
	Admit func(Hello) error
	// Authorize decides the same, once the node was admitted and has proved that it holds its key: that its
	// certificates hold. The identity's NotAfter bounds the connection's age, as it was told last. Both sides ask, one after the
	// other, so it must answer well within half of HandshakeTimeout.
	//
	// Several calls of either may run at once, and both are asked again about nodes that are connected, see Recheck.
	// Their errors are logged and sent to the other node, so they should say what is wrong in words for an operator
	// ("node 0x… is not a member of group main").
	Authorize func(Hello) (identity.Identity, error)

	// Inner seals each message once more, with SM4-GCM under keys that are agreed on with SM2, for chains that must encrypt
	// under Chinese algorithms. Both nodes of a connection must want it, and the chain's suite be gm.
	Inner bool

	Certificates [][]byte          // the node's certificate chain, leaf first; may be empty. See SetCertificates
	Info         map[string]string // for Hello; may be empty

	// StatelessResetKey lets peers learn at once that this node restarted, instead of after the idle timeout,
	// when the caller keeps it on disk. It is secret. Zero: a random key for this run.
	StatelessResetKey [32]byte

	// Now tells the time by which identities end and which Hello states; nil: time.Now.
	Now func() time.Time

	Log zerolog.Logger // zero: no logs

	IdleTimeout      time.Duration // at most so long a peer is silent until its connection ends; zero: 5 s; a quarter is the keep-alive
	HandshakeTimeout time.Duration // for TLS, and again for the proofs; zero: 3 s
	MaxAge           time.Duration // of a connection, which is then made anew without a gap; zero: 24 h
	MinBackoff       time.Duration // between attempts to connect; zero: 50 ms
	MaxBackoff       time.Duration // zero: 2 s

	// FallbackDial is how long the node with the greater id waits to be connected to before it dials too, for
	// networks where only one direction is open. Zero: 3 s.
	FallbackDial time.Duration

	// MaxUnidentified bounds incoming connections that have not proved who they are; more are refused. Each
	// may cost up to 0.5 MiB for HandshakeTimeout. Zero: 64.
	MaxUnidentified int
	// AddressRate and AddressBurst bound new incoming connections per IP address (IPv6: per /64), per second
	// and at once. Zero: 32 and 128, enough for a hundred nodes behind one address.
	AddressRate  float64
	AddressBurst int
}

func (c *Config) validate() error {
	switch {
	case c.Conn == nil && c.Listen == "":
		return errors.New("transport: Config.Listen and Config.Conn are both empty")
	case c.Suite == nil:
		return errors.New("transport: Config.Suite is nil")
	case c.Signer == nil:
		return errors.New("transport: Config.Signer is nil")
	case c.Signer.Public().Algorithm() != c.Suite.Vote():
		return fmt.Errorf("transport: Config.Signer has a key of algorithm %s, suite %s wants %s",
			c.Signer.Public().Algorithm(), c.Suite.Name(), c.Suite.Vote())
	case c.Inner && c.Suite.Vote() != keys.SM2:
		return fmt.Errorf("transport: Config.Inner is for suite gm, and the chain has %s", c.Suite.Name())
	case c.Chain.IsZero():
		return errors.New("transport: Config.Chain is zero")
	case len(c.Groups) == 0 || len(c.Groups) > MaxGroups:
		return fmt.Errorf("transport: Config.Groups has %d entries, want 1 to %d", len(c.Groups), MaxGroups)
	case c.Authorize == nil:
		return errors.New("transport: Config.Authorize is nil")
	case len(c.Certificates) > MaxCertificates:
		return fmt.Errorf("transport: Config.Certificates has %d entries, at most %d are allowed", len(c.Certificates), MaxCertificates)
	case len(c.Info) > MaxInfo-1: // the clock is one
		return fmt.Errorf("transport: Config.Info has %d entries, at most %d are allowed", len(c.Info), MaxInfo-1)
	case c.IdleTimeout < 0 || c.IdleTimeout > 5*time.Second:
		return fmt.Errorf("transport: Config.IdleTimeout is %v, want at most 5s so that a dead peer is noticed", c.IdleTimeout)
	}
	for k, v := range c.Info {
		if len(k) > MaxInfoSize || len(v) > MaxInfoSize {
			return fmt.Errorf("transport: Config.Info[%q] is longer than %d bytes", k, MaxInfoSize)
		}
	}
	for _, field := range []struct {
		name  string
		value time.Duration
	}{
		{"HandshakeTimeout", c.HandshakeTimeout},
		{"MaxAge", c.MaxAge},
		{"MinBackoff", c.MinBackoff},
		{"MaxBackoff", c.MaxBackoff},
		{"FallbackDial", c.FallbackDial},
	} {
		if field.value < 0 {
			return fmt.Errorf("transport: Config.%s is negative", field.name)
		}
	}
	return nil
}

func (c *Config) setDefaults() {
	setDefault(&c.IdleTimeout, 5*time.Second)
	setDefault(&c.HandshakeTimeout, 3*time.Second)
	setDefault(&c.MaxAge, 24*time.Hour)
	setDefault(&c.MinBackoff, 50*time.Millisecond)
	setDefault(&c.MaxBackoff, 2*time.Second)
	setDefault(&c.FallbackDial, 3*time.Second)
	setDefault(&c.MaxUnidentified, 64)
	setDefault(&c.AddressRate, 32)
	setDefault(&c.AddressBurst, 128)
	if c.StatelessResetKey == [32]byte{} {
		rand.Read(c.StatelessResetKey[:]) //nolint:errcheck // never fails
	}
	c.Groups = slices.Compact(slices.Sorted(slices.Values(c.Groups)))
	c.Info = maps.Clone(c.Info)
	if c.Now == nil {
		c.Now = time.Now
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Handler takes a one-way message. m belongs to the handler.
type Handler func(from identity.NodeID, m []byte)

// RequestHandler answers a request. m belongs to the handler, and what it returns to the endpoint. The text
// of an error is sent to the node that asked. ctx ends when that node gives up or after RequestTimeout.
type RequestHandler func(ctx context.Context, from identity.NodeID, m []byte) ([]byte, error)

// RequestTimeout bounds every request, from its first byte to the last of the response: a block of 32 MiB takes so long
// over a line of 2 Mbit/s. A peer that is gone is noticed by Config.IdleTimeout.
const RequestTimeout = 2 * time.Minute

// Endpoint is a node's end of its connections.
type Endpoint struct {
	config Config
	self   identity.NodeID
	hello  Hello // all but Certificates, Connection and Nonce

	certificates atomic.Pointer[[][]byte] // of Hello
	again        chan struct{}            // holds one: connected nodes are to be asked about again

	conn      net.PacketConn
	transport *quic.Transport
	quic      *quic.Config
	tls       ephemeral
	admission admission
	proofs    chan struct{} // holds one for each proof that is being signed for a caller
	refusals  refusals

	handlers        [protocols]atomic.Pointer[Handler]
	requestHandlers [protocols]atomic.Pointer[RequestHandler]

	mu      sync.Mutex // guards what follows
	peers   map[identity.NodeID]*peer
	watch   []func(identity.NodeID, bool)
	running context.Context // nil before Run and after
	tasks   sync.WaitGroup  // goroutines of the endpoint; Add only under mu while running is set
}

// maxProofs bounds the signatures for callers, who have not proved anything yet, that are made at once. The key may be in another process or a
// device, which makes the group's votes too.
const maxProofs = 4

// New makes an endpoint and, unless c.Conn is set, opens its socket, so that a taken port is known at once.
// Nothing is sent or read before Run.
func New(c Config) (*Endpoint, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.setDefaults()
	conn := c.Conn
	if conn == nil {
		addr, err := net.ResolveUDPAddr("udp", c.Listen)
		if err != nil {
			return nil, fmt.Errorf("transport: address to listen on: %w", err)
		}
		if conn, err = net.ListenUDP("udp", addr); err != nil {
			return nil, fmt.Errorf("transport: listen on UDP %s (is another node running there?): %w", c.Listen, err)
		}
	}
	key := c.Signer.Public()
	e := &Endpoint{
		config:    c,
		self:      identity.NodeIDOf(c.Suite, key),
		conn:      conn,
		peers:     make(map[identity.NodeID]*peer),
		admission: admission{limit: c.MaxUnidentified, rate: c.AddressRate, burst: float64(c.AddressBurst)},
		proofs:    make(chan struct{}, maxProofs),
		again:     make(chan struct{}, 1),
	}
	e.certificates.Store(&c.Certificates)
	var instance [8]byte
	rand.Read(instance[:]) //nolint:errcheck // never fails
	e.hello = Hello{
		Version: Version, Chain: c.Chain, Groups: c.Groups, Node: e.self,
		Algorithm: key.Algorithm(), Key: key.Bytes(),
		Instance: binary.BigEndian.Uint64(instance[:]), Info: c.Info,
	}
	e.quic = &quic.Config{
		Versions:             []quic.Version{quic.Version1},
		HandshakeIdleTimeout: c.HandshakeTimeout,
		// QUIC counts idle time from the first packet sent after the last one received, so a dead peer is
		// noticed up to one keep-alive later; together that is IdleTimeout.
		MaxIdleTimeout:  c.IdleTimeout * 3 / 4,
		KeepAlivePeriod: c.IdleTimeout / 4,
		// What a stranger can make us hold is bounded by the first connection window. Windows grow only as
		// data is read, which begins after the proofs.
		InitialStreamReceiveWindow:     256 << 10,
		InitialConnectionReceiveWindow: 512 << 10,
		MaxStreamReceiveWindow:         6 << 20,
		MaxConnectionReceiveWindow:     16 << 20,
		MaxIncomingStreams:             maxRequests,
		MaxIncomingUniStreams:          1024,
	}
	key32 := quic.StatelessResetKey(c.StatelessResetKey)
	e.transport = &quic.Transport{
		Conn:                conn,
		StatelessResetKey:   &key32,
		ConnContext:         e.admission.admit,
		VerifySourceAddress: e.admission.verifyAddress,
	}
	e.SetPeers(c.Peers)
	return e, nil
}

// Self returns the node's own id.
func (e *Endpoint) Self() identity.NodeID { return e.self }

// LocalAddr returns the address of the endpoint's socket.
func (e *Endpoint) LocalAddr() net.Addr { return e.conn.LocalAddr() }

// Run connects to the peers and serves until ctx ends, then closes all connections and the socket and
// returns nil when all goroutines of the endpoint have ended. An error says why it could not begin, or that
// the socket failed. Run may be called once.
func (e *Endpoint) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer e.conn.Close() //nolint:errcheck // nothing to lose

	// quic-go would print this to the standard logger, without what to do about it.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") //nolint:errcheck // worst case, it prints
	if hint := SocketBuffers(e.conn); hint != "" {
		e.config.Log.Warn().Str("hint", hint).Msg("UDP socket buffers are small: bursts of packets will be lost")
	}
	listener, err := e.transport.Listen(e.tls.server(), e.quic)
	if err != nil {
		return fmt.Errorf("transport: listen: %w", err)
	}
	e.config.Log.Info().Stringer("node", e.self).Stringer("address", e.conn.LocalAddr()).Msg("transport listens")

	e.mu.Lock()
	if e.running != nil {
		e.mu.Unlock()
		return errors.New("transport: Run was called twice")
	}
	e.running = ctx
	for _, p := range e.peers {
		p.start(ctx)
	}
	e.tasks.Go(func() { e.recheck(ctx) })
	e.mu.Unlock()

	var failed error
	for {
		conn, err := listener.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				failed = fmt.Errorf("transport: accept connections: %w", err)
			}
			break
		}
		e.tasks.Go(func() { e.accept(ctx, conn) })
	}

	cancel()
	e.mu.Lock()
	e.running = nil // no more tasks from here on
	peers := slices.Collect(maps.Values(e.peers))
	e.mu.Unlock()
	for _, p := range peers {
		p.close(CodeShutdown, "node "+e.self.Short()+" stops")
	}
	listener.Close()    //nolint:errcheck // the transport follows
	e.transport.Close() //nolint:errcheck // ends what is left: unidentified and replaced connections
	e.tasks.Wait()
	return failed
}

// Handle sets the handler of one-way messages of protocol p, replacing an earlier one. Without one they are
// dropped. It panics if p is not known.
func (e *Endpoint) Handle(p Protocol, h Handler) {
	if !p.known() {
		panic("transport: Handle of " + p.String())
	}
	e.handlers[p].Store(&h)
}

// HandleRequest sets the handler of requests of protocol p, replacing an earlier one. Without one they are
// answered with an error. It panics if p is not known or has no requests.
func (e *Endpoint) HandleRequest(p Protocol, h RequestHandler) {
	if p.MaxResponse() == 0 {
		panic("transport: HandleRequest of " + p.String())
	}
	e.requestHandlers[p].Store(&h)
}

// OnPeer adds a function that is called when both connections to a node are up, and when one is lost. Calls
// for one node come in order, one at a time; a short break may not be told. Call it before Run. The function
// must not block for long: it holds up what follows for its peer.
func (e *Endpoint) OnPeer(f func(node identity.NodeID, up bool)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watch = append(e.watch, f)
}

// SetPeers replaces the list of nodes that the endpoint connects to, and asks again about those that are connected, as
// Recheck does. A node that is only off the list stays connected as long as it wants, but is not dialed any more. The node's
// own entry, and those without an address, are left out.
func (e *Endpoint) SetPeers(list []Address) {
	e.mu.Lock()
	listed := make(map[identity.NodeID]string, len(list))
	for _, a := range list {
		if a.Node != e.self && a.Addr != "" {
			listed[a.Node] = a.Addr
		}
	}
	for node, addr := range listed {
		p := e.peers[node]
		if p == nil {
			p = newPeer(e, node)
			e.peers[node] = p
		}
		p.list(addr)
		if e.running != nil {
			p.start(e.running)
		}
	}
	peers := slices.Collect(maps.Values(e.peers))
	for _, p := range peers {
		if _, ok := listed[p.node]; !ok {
			p.list("")
			p.stop()
			e.forget(p)
		}
	}
	e.mu.Unlock()
	e.Recheck()
}

// Recheck has Admit and Authorize asked again about every node that is connected, and connections closed to those that are
// refused now; those of the others last until the identity ends that they have now. It returns at once.
func (e *Endpoint) Recheck() { wake(e.again) }

// maxRechecks is how many nodes are asked about again at a time, so that an answer that takes long holds up few others.
const maxRechecks = 16

// recheck does what Recheck asks for, until ctx ends.
func (e *Endpoint) recheck(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.again:
		}
		e.mu.Lock()
		peers := slices.Collect(maps.Values(e.peers))
		e.mu.Unlock()
		var asking sync.WaitGroup
		slots := make(chan struct{}, maxRechecks)
		for _, p := range peers {
			slots <- struct{}{}
			asking.Go(func() {
				defer func() { <-slots }()
				p.authorizeAgain()
			})
		}
		asking.Wait()
	}
}

// SetCertificates replaces the chain that the node shows, leaf first, on connections that are made from now on. Those that it
// dialed are made anew without a gap; those that it accepted show the new chain when the other node makes them anew, at
// the latest when the certificate ends that was shown on them. An error says why the chain cannot be shown: then the one before
// stays.
func (e *Endpoint) SetCertificates(chain [][]byte) error {
	if len(chain) > MaxCertificates {
		return fmt.Errorf("transport: a chain of %d certificates, at most %d are allowed", len(chain), MaxCertificates)
	}
	hello := e.hello
	hello.Certificates, hello.Connection = chain, ClassConsensus
	if data, err := ledger.Marshal(&hello); err != nil || len(data)+MaxInfoSize > MaxHelloSize { // the clock is added
		return errors.Join(err, fmt.Errorf("transport: a hello with the chain has %d bytes, at most %d are allowed: shorten the chain", len(data), MaxHelloSize-MaxInfoSize))
	}
	e.certificates.Store(&chain)
	e.mu.Lock()
	peers := slices.Collect(maps.Values(e.peers))
	e.mu.Unlock()
	for _, p := range peers {
		p.renew()
	}
	return nil
}

// forget drops a peer that is neither listed nor connected. e.mu is held.
func (e *Endpoint) forget(p *peer) {
	if p.idle() && e.peers[p.node] == p {
		delete(e.peers, p.node)
	}
}

// peer returns the peer, or nil.
func (e *Endpoint) peer(node identity.NodeID) *peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peers[node]
}

// Send queues m for the node and returns without waiting. m must not be changed after. When the queue of the
// protocol is full, the oldest message in it is dropped (Peer.Dropped counts them); for Status the queue is so
// short that the newest win. Errors: ErrProtocol, ErrTooLarge, ErrUnknownPeer, ErrNotConnected.
func (e *Endpoint) Send(to identity.NodeID, p Protocol, m []byte) error {
	if !p.known() || table[p].queued == 0 {
		return fmt.Errorf("send of %s: %w", p, ErrProtocol)
	}
	if len(m) > table[p].message {
		return fmt.Errorf("send %d bytes of %s, at most %d are allowed: %w", len(m), p, table[p].message, ErrTooLarge)
	}
	peer := e.peer(to)
	if peer == nil {
		return fmt.Errorf("send to node %s: %w", to, ErrUnknownPeer)
	}
	return peer.out[table[p].class.index()].send(p, m)
}

// Request sends m to the node and returns its response. It takes at most RequestTimeout. Errors: those of
// Send, ErrQueueFull when 64 requests to the node are under way, *RemoteError with what the other node's handler said,
// and ctx's.
func (e *Endpoint) Request(ctx context.Context, to identity.NodeID, p Protocol, m []byte) ([]byte, error) {
	if p.MaxResponse() == 0 {
		return nil, fmt.Errorf("request of %s: %w", p, ErrProtocol)
	}
	if len(m) > table[p].message {
		return nil, fmt.Errorf("request of %d bytes of %s, at most %d are allowed: %w", len(m), p, table[p].message, ErrTooLarge)
	}
	peer := e.peer(to)
	if peer == nil {
		return nil, fmt.Errorf("request to node %s: %w", to, ErrUnknownPeer)
	}
	response, err := peer.request(ctx, p, m)
	if err != nil {
		return nil, fmt.Errorf("%s request to node %s: %w", p, to.Short(), err)
	}
	return response, nil
}

// Peer is what is known of a node, at one moment.
type Peer struct {
	Node      identity.NodeID
	Address   string            // as configured, or where it connected from
	Listed    bool              // in Config.Peers or SetPeers
	Up        bool              // both connections are up
	Since     time.Time         // when Up last changed; zero: never
	RTT       time.Duration     // smoothed, of the consensus connection; zero: not connected
	LastError string            // why it is not connected, or was not before; in words for an operator
	Identity  identity.Identity // as Authorize returned it last; zero when not connected
	Info      map[string]string // of its Hello
	Clock     *time.Duration    // how much its clock was ahead of this node's when it connected, to within a round trip; nil: it did not say, or is not connected
	Sent      uint64            // messages and requests
	Received  uint64            // messages and requests
	Dropped   uint64            // messages that a full queue or a lost connection cost
	Queued    int               // messages that wait now
}

// Peers returns the nodes that are listed or connected, in order of their ids.
func (e *Endpoint) Peers() iter.Seq[Peer] {
	return func(yield func(Peer) bool) {
		e.mu.Lock()
		peers := slices.Collect(maps.Values(e.peers))
		e.mu.Unlock()
		slices.SortFunc(peers, func(a, b *peer) int { return slices.Compare(a.node[:], b.node[:]) })
		for _, p := range peers {
			if !yield(p.snapshot()) {
				return
			}
		}
	}
}

// resolve finds the UDP address of host:port.
func resolve(ctx context.Context, addr string) (net.Addr, error) {
	if a, err := netip.ParseAddrPort(addr); err == nil {
		return net.UDPAddrFromAddrPort(a), nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q is not host:port: %w", addr, err)
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("address %q: name has no address", addr)
	}
	// An IPv4 address first: a socket that listens on IPv4 only cannot reach the other kind.
	best := ips[0].Unmap()
	for _, ip := range ips[1:] {
		if !best.Is4() && ip.Unmap().Is4() {
			best = ip.Unmap()
		}
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(best, uint16(number))), nil
}
