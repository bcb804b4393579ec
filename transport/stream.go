package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	// maxReaders bounds the goroutines that read one-way messages of one connection: the sum of the lanes of
	// a class and as many more that wait for a stream's first byte.
	maxReaders = 128
	// maxRequests bounds the requests from one peer that are open at once, and ours to it.
	maxRequests = 64
	// spareReaders is how many idle readers a connection keeps after a burst.
	spareReaders = 4
)

// Codes with which a stream alone is cancelled.
const (
	streamUnknown  quic.StreamErrorCode = 1 // the protocol is not known here, or not on this connection
	streamCanceled quic.StreamErrorCode = 2 // nobody waits for the response any more
	streamFailed   quic.StreamErrorCode = 3
)

// incomingStream is what the two kinds of stream have in common.
type incomingStream interface {
	io.Reader
	Peek([]byte) (int, error)
	CancelRead(quic.StreamErrorCode)
}

// receiver accepts streams of one kind on one connection. Its goroutines each accept a stream, read it, call
// the handler and accept the next one, so a message passes no queue and wakes one goroutine. One that finds
// nobody else waiting for a stream starts another.
type receiver[S incomingStream] struct {
	l      *link
	accept func(context.Context) (S, error)
	serve  func(Protocol, S, *bufio.Reader)
	most   int32

	goroutines atomic.Int32
	waiting    atomic.Int32 // goroutines that wait in accept
	lanes      [protocols]lane[S]
}

// start starts the first goroutine. The endpoint runs.
func (r *receiver[S]) start() {
	r.goroutines.Add(1)
	r.l.p.e.tasks.Go(r.run)
}

func (r *receiver[S]) run() {
	defer r.goroutines.Add(-1)
	ctx := r.l.conn.Context()
	buffer := bufio.NewReaderSize(nil, 4<<10)
	for r.waiting.Load() < spareReaders {
		r.waiting.Add(1)
		stream, err := r.accept(ctx)
		if r.waiting.Add(-1) == 0 && err == nil && r.goroutines.Load() < r.most {
			r.start() // called by a task: Run cannot have stopped waiting
		}
		if err != nil {
			return
		}
		r.handle(stream, buffer)
	}
}

// handle serves the stream, and then those of its protocol that had to wait for it.
func (r *receiver[S]) handle(stream S, buffer *bufio.Reader) {
	var first [1]byte
	if _, err := stream.Peek(first[:]); err != nil {
		stream.CancelRead(streamFailed)
		return
	}
	p := Protocol(first[0])
	if p.Class() != r.l.class {
		// A later version may send protocols that this one does not know. That is no reason to part.
		r.reject(stream)
		return
	}
	lane := &r.lanes[p]
	if !lane.enter(stream, table[p].lane) {
		return
	}
	for more := true; more; stream, more = lane.leave() {
		buffer.Reset(stream)
		buffer.ReadByte() //nolint:errcheck // it was peeked at
		r.serve(p, stream, buffer)
	}
}

func (r *receiver[S]) reject(stream S) {
	stream.CancelRead(streamUnknown)
	if both, ok := any(stream).(*quic.Stream); ok {
		both.CancelWrite(streamUnknown)
	}
}

// lane bounds how many streams of one peer and protocol are served at once. Those beyond wait unread, so their
// number is bounded by QUIC's stream limit and their bytes by its flow control, and then the peer has to wait.
type lane[S any] struct {
	mu      sync.Mutex // guards what follows
	busy    int
	waiting []S
}

func (l *lane[S]) enter(stream S, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy >= most {
		l.waiting = append(l.waiting, stream)
		return false
	}
	l.busy++
	return true
}

// leave returns the next stream to serve, if any waits.
func (l *lane[S]) leave() (stream S, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.busy--
		l.waiting = nil
		return stream, false
	}
	stream = l.waiting[0]
	l.waiting = l.waiting[1:]
	return stream, true
}

// readMessages reads a one-way stream to its end and hands its messages to the protocol's handler.
func (l *link) readMessages(p Protocol, stream *quic.ReceiveStream, r *bufio.Reader) {
	if table[p].queued == 0 {
		l.close(CodeViolation, fmt.Sprintf("one-way message on protocol %s, which has requests only", p))
		return
	}
	for number := uint32(0); ; number++ {
		m, err := l.readFrame(r, table[p].message, stream.StreamID(), number, byte(p))
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			l.broken(p, err)
			stream.CancelRead(streamFailed)
			return
		}
		l.p.received.Add(1)
		h := l.p.e.handlers[p].Load()
		if h == nil {
			continue
		}
		if _, _, ok := l.guard(p, func() ([]byte, error) { (*h)(l.p.node, m); return nil, nil }); !ok {
			return
		}
	}
}

// broken closes the connection if err shows that the peer broke the rules.
func (l *link) broken(p Protocol, err error) {
	if errors.Is(err, ErrTooLarge) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errSealed) {
		l.close(CodeViolation, fmt.Sprintf("protocol %s: %v", p, err))
	}
}

// readFrame reads the message with a number on a stream, whose first byte was first, as the peer meant it.
func (l *link) readFrame(r io.Reader, most int, stream quic.StreamID, number uint32, first byte) ([]byte, error) {
	m, err := readFrame(r, l.who.inner.most(most))
	if err != nil {
		return nil, err
	}
	return l.who.inner.open(stream, number, first, m)
}

// readFrame reads a length and as many bytes. It returns io.EOF at the end of the stream and ErrTooLarge for
// more than most bytes. Memory is taken as bytes arrive.
func readFrame(r io.Reader, most int) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n > most {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed: %w", n, most, ErrTooLarge)
	}
	m := make([]byte, min(n, copied))
	for have := 0; ; {
		got, err := io.ReadFull(r, m[have:])
		if err == io.EOF && n > 0 {
			err = io.ErrUnexpectedEOF
		}
		if have += got; err != nil || have == n {
			return m[:have:have], err
		}
		grown := make([]byte, min(n, 4*len(m)))
		copy(grown, m)
		m = grown
	}
}

// guard calls a handler. A panic is logged and costs the peer its connection, and nobody else anything; ok is
// then false.
func (l *link) guard(p Protocol, f func() ([]byte, error)) (result []byte, err error, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			l.p.e.config.Log.Error().Stringer("peer", l.p.node).Stringer("protocol", p).
				Str("panic", fmt.Sprint(v)).Str("stack", string(debug.Stack())).Msg("handler panicked")
			l.close(CodeFault, fmt.Sprintf("the %s handler of node %s failed", p, l.p.e.self.Short()))
		}
	}()
	result, err = f()
	return result, err, true
}

// Status of a response.
const (
	responseOK    = 0
	responseError = 1
)

// answer serves one request.
func (l *link) answer(p Protocol, stream *quic.Stream, r *bufio.Reader) {
	defer stream.CancelRead(streamFailed)              // no effect after the end was read
	stream.SetDeadline(time.Now().Add(RequestTimeout)) //nolint:errcheck // never fails
	if table[p].response == 0 {
		stream.CancelWrite(streamUnknown)
		return
	}
	m, err := l.readFrame(r, table[p].message, stream.StreamID(), 0, byte(p))
	if err != nil {
		l.broken(p, err)
		stream.CancelWrite(streamFailed)
		return
	}
	l.p.received.Add(1)
	ctx, cancel := context.WithTimeout(stream.Context(), RequestTimeout)
	defer cancel()
	response, err, ok := l.guard(p, func() ([]byte, error) {
		h := l.p.e.requestHandlers[p].Load()
		if h == nil {
			return nil, fmt.Errorf("node %s does not answer %s requests", l.p.e.self.Short(), p)
		}
		return (*h)(ctx, l.p.node, m)
	})
	if !ok {
		return
	}
	status := byte(responseOK)
	if err == nil && len(response) > table[p].response {
		err = fmt.Errorf("response of %d bytes, at most %d are allowed", len(response), table[p].response)
	}
	if err != nil {
		status, response = responseError, []byte(printable(err.Error()))
	}
	if err := l.writeFrame(stream, status, response); err != nil {
		stream.CancelWrite(streamFailed)
		return
	}
	r.Peek(1) //nolint:errcheck // reads the end of the request; without it the stream would not be free
}

// writeFrame writes a first byte and a message, and closes the stream.
func (l *link) writeFrame(stream *quic.Stream, first byte, m []byte) error {
	m = l.who.inner.seal(stream.StreamID(), 0, first, m)
	head := binary.BigEndian.AppendUint32([]byte{first}, uint32(len(m)))
	if len(m) <= copied {
		head, m = append(head, m...), nil
	}
	if _, err := stream.Write(head); err != nil {
		return err
	}
	if len(m) > 0 {
		if _, err := stream.Write(m); err != nil {
			return err
		}
	}
	return stream.Close()
}

// request sends a request and reads the response.
func (p *peer) request(ctx context.Context, protocol Protocol, m []byte) ([]byte, error) {
	l := p.link(protocol.Class())
	if l == nil {
		return nil, ErrNotConnected
	}
	if p.requests.Add(1) > maxRequests {
		p.requests.Add(-1)
		return nil, ErrQueueFull
	}
	defer p.requests.Add(-1)
	p.asked.Add(1)

	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	stream, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, l.why(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() {
		stream.CancelRead(streamCanceled)
		stream.CancelWrite(streamCanceled)
	})
	defer stop()

	defer stream.CancelRead(streamCanceled) // no effect after the end was read
	if err := l.writeFrame(stream, byte(protocol), m); err != nil {
		return nil, l.why(ctx, err)
	}
	r := bufio.NewReaderSize(stream, 4<<10)
	status, err := r.ReadByte()
	if err != nil {
		return nil, l.why(ctx, err)
	}
	most := table[protocol].response
	if status == responseError {
		most = maxReason
	}
	response, err := l.readFrame(r, most, stream.StreamID(), 0, status)
	if err != nil {
		l.broken(protocol, err)
		return nil, l.why(ctx, err)
	}
	switch status {
	case responseOK:
		r.Peek(1) //nolint:errcheck // reads the end, which frees the stream on both sides
		return response, nil
	case responseError:
		return nil, &RemoteError{Reason: printable(string(response))}
	default:
		l.close(CodeViolation, fmt.Sprintf("response with status %d", status))
		return nil, fmt.Errorf("response with status %d: %w", status, ErrProtocol)
	}
}

// why turns an error of a request's stream into one that a caller understands.
func (l *link) why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no response: %w", ctx.Err())
	}
	if cause := context.Cause(l.conn.Context()); cause != nil {
		return fmt.Errorf("%w: %s", ErrNotConnected, inWords(cause))
	}
	if canceled, ok := errors.AsType[*quic.StreamError](err); ok && canceled.Remote {
		return fmt.Errorf("the node refused the request (code %d): %w", canceled.ErrorCode, ErrProtocol)
	}
	return err
}
