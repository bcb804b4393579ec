package transport

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// admission bounds what strangers can cost: how many connections may be unidentified at once, and how often
// one address may open one.
type admission struct {
	limit int     // unidentified connections
	rate  float64 // new connections per second and address
	burst float64

	mu           sync.Mutex // guards what follows
	unidentified int
	addresses    map[netip.Addr]bucket
}

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time
}

// maxAddresses bounds the memory of admission. With more addresses than that, somebody may open connections
// faster than AddressRate, but not more than MaxUnidentified at once.
const maxAddresses = 4096

var (
	errBusy = errors.New("too many connections have not proved who they are yet")
	errRate = errors.New("too many connections from this address")
)

// incoming is the state of an accepted connection until it is identified. It travels in the connection's
// context.
type incoming struct {
	spki     []byte // of the certificate that this node shows on it
	released func()
}

type incomingKey struct{}

// admit is quic.Transport.ConnContext: it is asked before any work on a new connection is done.
func (a *admission) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unidentified >= a.limit {
		return nil, errBusy
	}
	// An address that is not verified may be forged: counting it would let a stranger shut out a peer.
	if (info.AddrVerified || !a.crowded()) && !a.take(addressOf(info.RemoteAddr), time.Now()) {
		return nil, errRate
	}
	a.unidentified++
	in := &incoming{released: sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.unidentified--
	})}
	context.AfterFunc(ctx, in.released)
	return context.WithValue(ctx, incomingKey{}, in), nil
}

// verifyAddress is quic.Transport.VerifySourceAddress: with many connections under way, a caller must first
// show that it receives at its address, which costs it a round trip and this node nearly nothing.
func (a *admission) verifyAddress(net.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.crowded()
}

// crowded is true from a quarter of the limit. a.mu is held.
func (a *admission) crowded() bool { return a.unidentified >= a.limit/4 }

// take takes a token from the address's bucket, if there is one. a.mu is held.
func (a *admission) take(addr netip.Addr, now time.Time) bool {
	b, ok := a.addresses[addr]
	if !ok {
		b = bucket{tokens: a.burst, at: now}
	}
	b.tokens = min(a.burst, b.tokens+now.Sub(b.at).Seconds()*a.rate)
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	if a.addresses == nil {
		a.addresses = make(map[netip.Addr]bucket)
	}
	if !ok && len(a.addresses) >= maxAddresses {
		a.prune(now)
	}
	a.addresses[addr] = b
	return allowed
}

// prune makes room: full buckets say nothing; if there is none, all go.
func (a *admission) prune(now time.Time) {
	for addr, b := range a.addresses {
		if b.tokens+now.Sub(b.at).Seconds()*a.rate >= a.burst {
			delete(a.addresses, addr)
		}
	}
	if len(a.addresses) >= maxAddresses {
		clear(a.addresses)
	}
}

// addressOf returns the IP address that limits count by: for IPv6 the /64, which one customer has whole.
func addressOf(addr net.Addr) netip.Addr {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := udp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return ip
}

// alpn names the protocol in TLS. The number changes only with the identity handshake itself; Hello carries
// the version.
const alpn = "fondaco/1"

// ephemeral makes the TLS certificates: self-signed, Ed25519, in memory only, new per process and day. They
// carry no identity; the proofs that follow do.
type ephemeral struct {
	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	until   time.Time
}

const certificateLife = 24 * time.Hour

func (e *ephemeral) certificate() (*tls.Certificate, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.current != nil && now.Before(e.until) {
		return e.current, nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    now.Add(-certificateLife), // nobody checks; wide, for clocks that differ
		NotAfter:     now.Add(2 * certificateLife),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	e.current = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
	e.until = now.Add(certificateLife)
	return e.current, nil
}

// server returns the TLS configuration for incoming connections. It notes in each connection's incoming
// which certificate was shown.
func (e *ephemeral) server() *tls.Config {
	c := base()
	c.ClientAuth = tls.RequireAnyClientCert
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := e.certificate()
		if err != nil {
			return nil, err
		}
		in, ok := hello.Context().Value(incomingKey{}).(*incoming)
		if !ok {
			return nil, errors.New("connection was not admitted")
		}
		in.spki = certificate.Leaf.RawSubjectPublicKeyInfo
		return certificate, nil
	}
	return c
}

// client returns the TLS configuration for one outgoing connection and the SPKI of its certificate.
func (e *ephemeral) client() (*tls.Config, []byte, error) {
	certificate, err := e.certificate()
	if err != nil {
		return nil, nil, err
	}
	c := base()
	c.InsecureSkipVerify = true // the proofs over the exporter identify the server
	c.ServerName = "fondaco"    // says nothing about the node
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	return c, certificate.Leaf.RawSubjectPublicKeyInfo, nil
}

func base() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true, // a resumed session would carry an old identity
		VerifyConnection: func(s tls.ConnectionState) error {
			switch {
			case s.Version != tls.VersionTLS13:
				return fmt.Errorf("TLS version %#x, want 1.3", s.Version)
			case s.NegotiatedProtocol != alpn:
				return fmt.Errorf("ALPN %q, want %q", s.NegotiatedProtocol, alpn)
			case s.DidResume:
				return errors.New("session was resumed")
			case len(s.PeerCertificates) != 1:
				return fmt.Errorf("%d TLS certificates, want one", len(s.PeerCertificates))
			case s.PeerCertificates[0].PublicKeyAlgorithm != x509.Ed25519:
				return fmt.Errorf("TLS certificate has a key of %v, want Ed25519", s.PeerCertificates[0].PublicKeyAlgorithm)
			}
			return nil
		},
	}
}
