package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// exporterLabel is that of RFC 9266.
const exporterLabel = "EXPORTER-Channel-Binding"

// accepted is the last byte of the handshake, from the server: the client may use the connection.
const accepted = 1

// proved is what the handshake established about the other node.
type proved struct {
	hello    *Hello
	identity identity.Identity
	exporter [32]byte
	inner    *inner         // nil: messages go as they are
	ahead    *time.Duration // of its clock, at the time
	at       time.Time      // of the system's clock, with its monotonic part
}

// accept identifies whoever opened conn and makes it the peer's connection.
func (e *Endpoint) accept(ctx context.Context, conn *quic.Conn) {
	in, ok := conn.Context().Value(incomingKey{}).(*incoming)
	if !ok {
		conn.CloseWithError(quic.ApplicationErrorCode(CodeFault), "") //nolint:errcheck // cannot happen
		return
	}
	defer in.released()
	who, err := e.identify(ctx, conn, roleServer, 0, identity.NodeID{}, in.spki)
	if err != nil {
		if others, ok := e.refusals.tell(time.Now()); ok {
			e.config.Log.Warn().Stringer("from", conn.RemoteAddr()).Str("reason", inWords(err)).Int("others", others).Msg("incoming connection refused")
		}
		// Why a node that should be connected is not must be seen here too. Anybody can claim an id, so this
		// neither creates a peer nor changes a connection.
		if refused, ok := errors.AsType[*HandshakeError](err); ok && who != nil {
			if p := e.peer(who.hello.Node); p != nil {
				p.note(fmt.Sprintf("connection from %s: %s", conn.RemoteAddr(), refused))
			}
		}
		return
	}
	e.install(conn, who, false)
}

// refusals keeps strangers from filling the log: one refusal in refusalPause is told, with the number of those
// that were not.
type refusals struct {
	mu     sync.Mutex // guards what follows
	last   time.Time
	untold int
}

const refusalPause = 10 * time.Second

func (r *refusals) tell(now time.Time) (others int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last) < refusalPause {
		r.untold++
		return 0, false
	}
	others, r.untold, r.last = r.untold, 0, now
	return others, true
}

// dial connects to the node at addr.
func (e *Endpoint) dial(ctx context.Context, node identity.NodeID, addr string, class Class) error {
	tlsConfig, spki, err := e.tls.client()
	if err != nil {
		return fmt.Errorf("make a TLS certificate: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, 2*e.config.HandshakeTimeout)
	defer cancel()
	to, err := resolve(limited, addr)
	if err != nil {
		return err
	}
	conn, err := e.transport.Dial(limited, to, tlsConfig, e.quic)
	if err != nil {
		if _, silent := errors.AsType[*quic.IdleTimeoutError](err); silent || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = &quic.HandshakeTimeoutError{} // QUIC tells it alike when a node that was reached falls silent
		}
		return err
	}
	who, err := e.identify(ctx, conn, roleClient, class, node, spki)
	if err != nil {
		return err
	}
	e.install(conn, who, true)
	return nil
}

// install makes an identified connection the peer's, or closes it when the endpoint does not run any more.
func (e *Endpoint) install(conn *quic.Conn, who *proved, dialed bool) {
	e.mu.Lock()
	if e.running == nil {
		e.mu.Unlock()
		conn.CloseWithError(quic.ApplicationErrorCode(CodeShutdown), "node "+e.self.Short()+" stops") //nolint:errcheck // it closes
		return
	}
	p := e.peers[who.hello.Node]
	if p == nil {
		p = newPeer(e, who.hello.Node)
		e.peers[p.node] = p
	}
	l := newLink(p, conn, who, dialed)
	p.install(l)
	l.start() // under e.mu: running is set
	// What was said of the node may have changed since the handshake asked, and a Recheck meanwhile did not see the connection.
	e.tasks.Go(p.authorizeAgain)
	e.mu.Unlock()
	p.announce()
}

// identify runs the identity handshake on a fresh connection. Nothing else on the connection is read before
// it returns nil. On an error the connection is closed with the reason; the result then holds the Hello, not
// proved, if one was read. class and want count for the client only.
func (e *Endpoint) identify(ctx context.Context, conn *quic.Conn, as role, class Class, want identity.NodeID, spki []byte) (*proved, error) {
	deadline := time.Now().Add(e.config.HandshakeTimeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	h := &handshake{e: e, conn: conn, as: as, class: class, want: want}
	err := h.begin(spki)
	if err == nil {
		if as == roleClient {
			err = h.client(ctx, deadline)
		} else {
			err = h.server(ctx, deadline)
		}
	}
	who := h.who()
	if err == nil && h.offered != nil {
		who.inner, err = newInner(e.config.Suite, h.offered, h.theirs.Inner, &h.binding, as)
	}
	if err == nil {
		return who, nil
	}
	return who, h.fail(ctx, err)
}

// handshake is one side of the exchange on the first stream.
type handshake struct {
	e     *Endpoint
	conn  *quic.Conn
	as    role
	class Class
	want  identity.NodeID

	binding  binding
	theirs   *Hello
	offered  *keys.Agreement // for the inner layer; nil: none
	ahead    *time.Duration  // of their clock, see Hello.ahead
	identity identity.Identity
}

func (h *handshake) who() *proved {
	if h.theirs == nil {
		return nil
	}
	return &proved{hello: h.theirs, identity: h.identity, exporter: h.binding.exporter, ahead: h.ahead, at: time.Now()}
}

// aheadNow returns how much the other node's clock is ahead now, if it was not set since; this node's may have been. nil: it did
// not say.
func (p *proved) aheadNow(now time.Time) *time.Duration {
	if p.ahead == nil {
		return nil
	}
	set := now.Round(0).Sub(p.at.Round(0)) - now.Sub(p.at)
	return new(*p.ahead - set)
}

// fail closes the connection with the reason and returns it in words.
func (h *handshake) fail(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*HandshakeError](err)
	if !ok {
		if closed, remote := errors.AsType[*quic.ApplicationError](err); remote && closed.Remote {
			return &HandshakeError{Code: Code(closed.ErrorCode), Reason: printable(closed.ErrorMessage), Remote: true}
		}
		timeout, isTimeout := errors.AsType[net.Error](err)
		switch {
		case context.Cause(h.conn.Context()) != nil:
			return err // the connection broke
		case ctx.Err() == context.Canceled:
			refused = refuse(CodeShutdown, "node %s stops", h.e.self.Short())
		case ctx.Err() != nil || (isTimeout && timeout.Timeout()):
			refused = refuse(CodeTimeout, "identity was not proved within %v", h.e.config.HandshakeTimeout)
		default:
			refused = refuse(CodeMalformed, "identity handshake: %v", err)
		}
	}
	h.conn.CloseWithError(quic.ApplicationErrorCode(refused.Code), printable(refused.Reason)) //nolint:errcheck // it closes
	return refused
}

// begin takes from TLS what ties the proofs to this connection. spki is of the own certificate.
func (h *handshake) begin(spki []byte) error {
	state := h.conn.ConnectionState().TLS
	ekm, err := state.ExportKeyingMaterial(exporterLabel, nil, len(h.binding.exporter))
	if err != nil {
		return fmt.Errorf("export keying material: %w", err)
	}
	copy(h.binding.exporter[:], ekm)
	mine := keys.Hash(h.e.config.Suite, "spki", spki)
	their := keys.Hash(h.e.config.Suite, "spki", state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	h.binding.certClient, h.binding.certServer = mine, their
	if h.as == roleServer {
		h.binding.certClient, h.binding.certServer = their, mine
	}
	return nil
}

// client: Hello →, ← Hello and proof, proof →, ← accepted.
func (h *handshake) client(ctx context.Context, deadline time.Time) error {
	stream, err := h.conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	stream.SetDeadline(deadline) //nolint:errcheck // never fails
	mine, err := h.hello(h.class)
	if err != nil {
		return err
	}
	h.binding.helloClient = keys.Hash(h.e.config.Suite, "hello", mine)
	if _, err := stream.Write(appendFrame(nil, mine)); err != nil {
		return err
	}
	theirs, err := h.readHello(stream)
	if err != nil {
		return err
	}
	h.binding.helloServer = keys.Hash(h.e.config.Suite, "hello", theirs)
	if h.theirs.Node != h.want {
		return refuse(CodeIdentity, "at %s is node %s, not node %s: correct the address in the list of peers",
			h.conn.RemoteAddr(), h.theirs.Node, h.want)
	}
	if h.theirs.Connection != h.class {
		return refuse(CodeMalformed, "node %s answered for the %s connection on the %s connection", h.theirs.Node, h.theirs.Connection, h.class)
	}
	if err := h.admit(); err != nil {
		return err
	}
	if err := h.readProof(stream, roleServer); err != nil {
		return err
	}
	if err := h.authorize(); err != nil {
		return err
	}
	proof, err := h.proof(roleClient)
	if err != nil {
		return err
	}
	if _, err := stream.Write(proof); err != nil {
		return err
	}
	var last [1]byte
	if _, err := io.ReadFull(stream, last[:]); err != nil {
		return err
	}
	if last[0] != accepted {
		return refuse(CodeMalformed, "handshake ends with %d, want %d", last[0], accepted)
	}
	return stream.Close()
}

// server: the same from the other side. It does the cheap checks before it signs, and asks Authorize when the client has signed.
func (h *handshake) server(ctx context.Context, deadline time.Time) error {
	stream, err := h.conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	stream.SetDeadline(deadline) //nolint:errcheck // never fails
	theirs, err := h.readHello(stream)
	if err != nil {
		return err
	}
	h.binding.helloClient = keys.Hash(h.e.config.Suite, "hello", theirs)
	if err := h.admit(); err != nil {
		return err
	}
	mine, err := h.hello(h.theirs.Connection)
	if err != nil {
		return err
	}
	h.binding.helloServer = keys.Hash(h.e.config.Suite, "hello", mine)
	// Whoever calls gets a proof before he gives one: strangers must not take all of a signer's time, which votes need too.
	select {
	case h.e.proofs <- struct{}{}:
	case <-h.conn.Context().Done():
		return context.Cause(h.conn.Context())
	case <-ctx.Done():
		return ctx.Err()
	}
	proof, err := h.proof(roleServer)
	<-h.e.proofs
	if err != nil {
		return err
	}
	if _, err := stream.Write(append(appendFrame(nil, mine), proof...)); err != nil {
		return err
	}
	if err := h.readProof(stream, roleClient); err != nil {
		return err
	}
	if err := h.authorize(); err != nil {
		return err
	}
	if _, err := stream.Write([]byte{accepted}); err != nil {
		return err
	}
	return stream.Close()
}

// hello returns the encoding of this node's Hello for the class.
func (h *handshake) hello(class Class) ([]byte, error) {
	mine := h.e.hello
	mine.Connection, mine.Certificates = class, *h.e.certificates.Load()
	mine.Info = maps.Clone(mine.Info)
	if mine.Info == nil {
		mine.Info = map[string]string{}
	}
	mine.Info[infoClock] = strconv.FormatInt(h.e.config.Now().UnixMilli(), 10)
	rand.Read(mine.Nonce[:]) //nolint:errcheck // never fails
	if h.e.config.Inner {
		var err error
		if h.offered, err = keys.NewAgreement(); err != nil {
			return nil, err
		}
		mine.Inner = h.offered.Point()
	}
	data, err := ledger.Marshal(&mine)
	if err == nil && len(data) > MaxHelloSize {
		err = fmt.Errorf("own hello has %d bytes, at most %d are allowed: shorten the certificate chain", len(data), MaxHelloSize)
	}
	return data, err
}

// readHello reads the other node's Hello and compares it with ours.
func (h *handshake) readHello(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxHelloSize {
		return nil, refuse(CodeMalformed, "hello of %d bytes, at most %d are allowed", n, MaxHelloSize)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	theirs, refused := decodeHello(data, h.e.self)
	if refused != nil {
		return nil, refused
	}
	h.theirs, h.ahead = theirs, theirs.ahead(h.e.config.Now())
	if refused := h.e.hello.matches(theirs, h.e.config.Suite); refused != nil {
		return nil, refused
	}
	if offers := len(theirs.Inner) > 0; offers != h.e.config.Inner {
		with, without := h.e.self, theirs.Node
		if offers {
			with, without = without, with
		}
		return nil, refuse(CodeInner, "node %s wants messages sealed with SM4 and node %s does not: give network.inner the same value on both", with, without)
	}
	return data, nil
}

// admit is asked before anything was proved.
func (h *handshake) admit() error {
	if h.e.config.Admit == nil {
		return nil
	}
	if err := h.e.config.Admit(*h.theirs); err != nil {
		return &HandshakeError{Code: CodeNotMember, Reason: err.Error()}
	}
	return nil
}

// authorize is asked when the other node has proved that it holds its key.
func (h *handshake) authorize() error {
	who, err := h.e.config.Authorize(*h.theirs)
	if err != nil {
		return &HandshakeError{Code: CodeNotMember, Reason: withClocks(err.Error(), clockWords(h.theirs.Node, h.e.self, h.ahead))}
	}
	if now := h.e.config.Now(); !who.NotAfter.IsZero() && !now.Before(who.NotAfter) {
		words := fmt.Sprintf("the identity of node %s ended at %s, and the clock of node %s says %s", h.theirs.Node, who.NotAfter.UTC().Format(time.RFC3339),
			h.e.self.Short(), now.UTC().Format(time.RFC3339))
		clocks := clockWords(h.theirs.Node, h.e.self, h.ahead)
		if clocks == "" || !now.Add(*h.ahead).Before(who.NotAfter) { // by its own clock it ended too
			words += ": renew its certificate"
		}
		if clocks != "" {
			words += "; " + clocks
		}
		return &HandshakeError{Code: CodeNotMember, Reason: words}
	}
	h.identity = who
	return nil
}

func (h *handshake) proof(as role) ([]byte, error) {
	signature, err := keys.SignHash(h.e.config.Suite, h.e.config.Signer, proofThing, h.binding.preimage(as))
	if err != nil {
		return nil, fmt.Errorf("sign the proof of identity: %w", err)
	}
	return signature, nil
}

// readProof reads and checks the other side's proof. h.theirs matches already, so its key parses.
func (h *handshake) readProof(r io.Reader, as role) error {
	var signature [keys.SignatureSize]byte
	if _, err := io.ReadFull(r, signature[:]); err != nil {
		return err
	}
	key, err := h.theirs.PublicKey(h.e.config.Suite)
	if err != nil {
		return err
	}
	if err := key.Verify(h.binding.digest(h.e.config.Suite, as), signature[:]); err != nil {
		return refuse(CodeProof, "proof of node %s is wrong: it does not hold the key it claims, or somebody sits between the nodes", h.theirs.Node)
	}
	return nil
}
