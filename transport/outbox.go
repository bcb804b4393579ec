package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/fondaco/fondaco/state/keys"
)

const (
	// coalesce is from how many bytes on no further message is put on a bulk stream. A stream costs both
	// ends about as much as 10 KiB of content.
	coalesce = 256 << 10
	// copied is up to what size a message is copied next to others instead of being written by itself.
	copied = 64 << 10
)

// outbox holds the one-way messages of one class that wait for a peer.
//
// A consensus message goes to QUIC on the goroutine of Send when nothing waits before it and flow control
// allows; everything else is queued for the writer, one goroutine per connection. The writer takes whatever
// came together while it was busy, so streams grow with the load and an idle peer costs no delay.
type outbox struct {
	wake chan struct{} // the writer has something to do, or is to end

	mu      sync.Mutex // guards what follows
	link    *link      // nil: not connected
	queues  [protocols]queue
	waiting int              // messages in queues
	writing bool             // the writer has taken messages that are not with QUIC yet
	next    int              // the protocol to begin with, so that each gets its turn
	spare   *quic.SendStream // opened, and nothing written on it
	scratch []byte           // for Send
	sent    uint64
	dropped uint64
}

// queue is a list of messages, oldest first, bounded by its protocol.
type queue struct {
	messages [][]byte
	first    int // index of the oldest; those before it are gone
	bytes    int
}

func (q *queue) len() int { return len(q.messages) - q.first }

func (q *queue) push(m []byte) {
	if q.first > len(q.messages)/2 && q.first > 16 {
		n := copy(q.messages, q.messages[q.first:])
		clear(q.messages[n:])
		q.messages, q.first = q.messages[:n], 0
	}
	q.messages = append(q.messages, m)
	q.bytes += len(m)
}

func (q *queue) pop() []byte {
	m := q.messages[q.first]
	q.messages[q.first] = nil
	q.first++
	q.bytes -= len(m)
	return m
}

// send takes m for the peer.
func (o *outbox) send(p Protocol, m []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link == nil {
		return fmt.Errorf("send %s: %w", p, ErrNotConnected)
	}
	o.sent++
	if o.link.class == ClassConsensus && o.waiting == 0 && !o.writing && o.direct(p, m) {
		return nil
	}
	q, b := &o.queues[p], &table[p]
	q.push(m)
	o.waiting++
	for q.len() > b.queued || q.bytes > b.queuedBytes {
		q.pop()
		o.waiting--
		o.dropped++
	}
	wake(o.wake)
	return nil
}

// direct hands m to QUIC if that is possible at once. o.mu is held.
func (o *outbox) direct(p Protocol, m []byte) bool {
	stream := o.spare
	if stream == nil {
		var err error
		if stream, err = o.link.conn.OpenUniStream(); err != nil {
			return false // too many streams are open, or the connection is closed; the writer will see
		}
	}
	o.scratch = appendFrame(append(o.scratch[:0], byte(p)), o.link.who.inner.seal(stream.StreamID(), 0, byte(p), m))
	err := stream.TryWriteAll(o.scratch)
	if cap(o.scratch) > copied {
		o.scratch = nil
	}
	if errors.Is(err, quic.ErrWouldBlock) {
		o.spare = stream
		return false
	}
	o.spare = nil
	return err == nil && stream.Close() == nil
}

func appendFrame(to, m []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(m))), m...)
}

// attach makes l the connection to write to. What waits goes there.
func (o *outbox) attach(l *link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.link, o.writing, o.spare = l, false, nil
	wake(o.wake)
}

// detach drops what waits for a connection that is gone: it would be stale when the peer returns.
func (o *outbox) detach(l *link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link != l {
		return
	}
	o.dropped += uint64(o.waiting)
	o.link, o.writing, o.spare, o.waiting = nil, false, nil, 0
	clear(o.queues[:])
}

func (o *outbox) count(s *Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Sent += o.sent
	s.Dropped += o.dropped
	s.Queued += o.waiting
}

// batch is what goes on one stream.
type batch struct {
	stream   *quic.SendStream // already open, or nil
	protocol Protocol
	messages [][]byte
	head     []byte // for write
}

// take fills b with what waits for l. It reports false when l is not the connection any more; with nothing
// waiting, b has no messages.
func (o *outbox) take(l *link, b *batch) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link != l {
		return false
	}
	if cap(b.head) > 2*coalesce {
		b.head = nil
	}
	clear(b.messages)
	*b = batch{messages: b.messages[:0], head: b.head[:0]}
	o.writing = o.waiting > 0
	if o.waiting == 0 {
		return true
	}
	b.stream, o.spare = o.spare, nil
	for o.queues[o.next].len() == 0 {
		o.next = (o.next + 1) % protocols
	}
	q := &o.queues[o.next]
	b.protocol = Protocol(o.next)
	o.next = (o.next + 1) % protocols
	for size := 0; q.len() > 0 && size < coalesce; {
		m := q.pop()
		o.waiting--
		b.messages = append(b.messages, m)
		if size += len(m); l.class == ClassConsensus || len(m) > copied {
			break
		}
	}
	return true
}

// write writes what waits for l until l is closed or replaced.
func (o *outbox) write(l *link) {
	ctx := l.conn.Context()
	var b batch
	for o.take(l, &b) {
		if len(b.messages) == 0 {
			select {
			case <-o.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		if err := b.write(ctx, l); err != nil {
			o.mu.Lock()
			o.dropped += uint64(len(b.messages))
			o.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
		}
	}
	wake(o.wake) // the signal may have been for the writer of the connection that took over
}

func (b *batch) write(ctx context.Context, l *link) error {
	stream := b.stream
	if stream == nil {
		var err error
		if stream, err = l.conn.OpenUniStreamSync(ctx); err != nil {
			return err
		}
	}
	b.head = append(b.head, byte(b.protocol))
	var body []byte // of the last message, if it is too long to be copied
	for i, m := range b.messages {
		m = l.who.inner.seal(stream.StreamID(), uint32(i), byte(b.protocol), m)
		if len(m) > copied+keys.SealOverhead {
			b.head, body = binary.BigEndian.AppendUint32(b.head, uint32(len(m))), m
		} else {
			b.head = appendFrame(b.head, m)
		}
	}
	if _, err := stream.Write(b.head); err != nil {
		return err
	}
	if len(body) > 0 {
		if _, err := stream.Write(body); err != nil {
			return err
		}
	}
	return stream.Close()
}
