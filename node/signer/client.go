package signer

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrDenied says that the signer does not sign what it was asked to, or that the key never leaves it.
var ErrDenied = errors.New("signer: denied")

// Client is the key behind a socket. It is a keys.MessageSigner, safe for concurrent use, and connects again by itself.
type Client struct {
	path   string
	suite  keys.Suite
	public keys.PublicKey

	// Whoever connects to a node makes it sign a proof, and a signer refuses connections beyond maxConnections: so votes have some of their own.
	votes, others lane
}

// Requests of a client that are under way at once, each on a connection of its own. Further ones wait. Together they leave two of the signer's
// connections to commands that use the same key.
const (
	maxVotes  = 6 // statements
	maxOthers = 8 // all else
)

// errBusy says that a request found no place, which tells nothing of the signer. It is a keys.ErrAway.
var errBusy = fmt.Errorf("%w", keys.ErrAway)

// lane is a share of a signer's connections.
type lane struct {
	places chan struct{} // holds one for each request that is under way

	mu   sync.Mutex // guards idle
	idle []net.Conn // kept for the next request; with those that are in use, at most as many as places
}

// Dial asks the signer at a socket for its key, which must be one of the suite. It fails with keys.ErrAway if nobody answers.
func Dial(path string, suite keys.Suite) (*Client, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	c := &Client{path: path, suite: suite, votes: lane{places: make(chan struct{}, maxVotes)}, others: lane{places: make(chan struct{}, maxOthers)}}
	a, err := c.ask(&request{Version: version})
	if err != nil {
		return nil, err
	}
	if c.public, err = suite.ParsePublic(a.Algorithm, a.Data); err != nil {
		return nil, errors.Join(fmt.Errorf("the key of the signer at %s: %w", path, err), c.Close())
	}
	return c, nil
}

// Public returns the key's public half.
func (c *Client) Public() keys.PublicKey { return c.public }

// Sign refuses every digest: nobody can tell what it is of. Use keys.SignHash.
func (c *Client) Sign(keys.Digest) ([]byte, error) {
	return nil, fmt.Errorf("%w: the signer at %s signs no bare digests", ErrDenied, c.path)
}

// Private fails: the key does not leave its signer.
func (c *Client) Private() ([]byte, error) {
	return nil, fmt.Errorf("%w: the key is in the signer at %s and does not leave it", ErrDenied, c.path)
}

// SignMessage returns the signer's signature over keys.Hash(suite, thing, message), after it checked it. It fails with a doublesign.Err
// if the message is a statement that contradicts an earlier one, with keys.ErrAway if nobody answers within 2 seconds, the
// signer cannot sign now, or earlier requests leave it no room for 2 seconds, and with ErrDenied if it does not want to. For a statement every error but a doublesign.Err is an
// ErrAway too: the operator starts the right signer in the place of one of another release, key or kind, and the node goes on.
func (c *Client) SignMessage(thing string, message []byte) ([]byte, error) {
	a, err := c.ask(&request{Version: version, Thing: thing, Message: message})
	if err == nil {
		if err = c.public.Verify(keys.Hash(c.suite, thing, message), a.Data); err == nil {
			return a.Data, nil
		}
		err = fmt.Errorf("the signer at %s signed with another key than %s:0x%x, or wrongly: %w", c.path, c.public.Algorithm(), c.public.Bytes(), err)
	}
	if thing == ledger.StatementThing && !errors.Is(err, doublesign.Err) {
		err = &unsignedError{err}
	}
	return nil, err
}

// unsignedError is why there is no vote now. It is a keys.ErrAway.
type unsignedError struct{ error }

func (e *unsignedError) Unwrap() error { return e.error }

func (*unsignedError) Is(target error) bool { return target == keys.ErrAway }

// Present asks the signer nothing but whether it answers with its key, and fails as SignMessage does if it does not. known is false where requests that
// are no votes left no room to ask, which says nothing of votes.
func (c *Client) Present() (known bool, err error) {
	a, err := c.ask(&request{Version: version})
	if errors.Is(err, errBusy) {
		return false, err
	}
	if err == nil && (a.Algorithm != c.public.Algorithm() || !bytes.Equal(a.Data, c.public.Bytes())) {
		err = fmt.Errorf("%w with the key %s:0x%x: the signer at %s has another one", keys.ErrAway, c.public.Algorithm(), c.public.Bytes(), c.path)
	}
	return true, err
}

// Close closes the connections that are kept. The client can be used after it.
func (c *Client) Close() error {
	return errors.Join(c.votes.close(), c.others.close())
}

// ask sends a request and returns the answer, if it is what was asked for. To ask again what was answered and not heard is safe.
func (c *Client) ask(r *request) (*reply, error) {
	l := &c.others
	if r.Thing == ledger.StatementThing {
		l = &c.votes
	}
	if !l.enter() {
		return nil, fmt.Errorf("%w at %s: other requests took all %d places for %v: it is slow, or its device is", errBusy, c.path, cap(l.places), patience)
	}
	defer l.leave()
	var a reply
	conn := l.take()
	kept := conn != nil
	var err error
	if !kept {
		conn, err = net.DialTimeout("unix", c.path, patience)
	}
	if err == nil {
		if err = exchange(conn, r, &a); err != nil && kept && !errors.Is(err, os.ErrDeadlineExceeded) { // the signer was started again, or had enough of it
			if conn, err = net.DialTimeout("unix", c.path, patience); err == nil {
				err = exchange(conn, r, &a)
			}
		}
	}
	if errors.Is(err, errFrame) {
		return nil, fmt.Errorf("what answers at %s is no signer of this release: %w", c.path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w; start it with `fondaco signer serve --socket %s`", keys.ErrAway, c.path, err, c.path)
	}
	l.keep(conn)
	switch {
	case a.Version != version:
		return nil, fmt.Errorf("the signer at %s speaks version %d of the protocol, want %d: run both from one release", c.path, a.Version, version)
	case a.Status == statusDone:
		return &a, nil
	case a.Status == statusDoubleSign:
		return nil, &refusedError{path: c.path, text: a.Text}
	case a.Status == statusDenied:
		return nil, fmt.Errorf("%w at %s: %s", ErrDenied, c.path, a.Text)
	default:
		return nil, fmt.Errorf("%w at %s: %s", keys.ErrAway, c.path, a.Text)
	}
}

// refusedError is a doublesign.Err that the signer found.
type refusedError struct{ path, text string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the signer at %s refuses: %s. Either another node signs with this key: stop one. Or this node's folder is an older copy: "+
		"put back the newer one, or remove the group's journal file, and the node follows until an epoch begins", e.path, e.text)
}

func (*refusedError) Unwrap() error { return doublesign.Err }

// exchange sends a request and reads the answer, and closes the connection if that does not work.
func exchange(conn net.Conn, r *request, a *reply) error {
	err := writeFrame(conn, r)
	if err == nil {
		err = readFrame(conn, patience, a)
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return nil
}

// enter waits for a place, and reports whether there was one in time.
func (l *lane) enter() bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case l.places <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (l *lane) leave() { <-l.places }

// take returns a connection that was kept; nil: there is none.
func (l *lane) take() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.idle)
	if n == 0 {
		return nil
	}
	conn := l.idle[n-1]
	l.idle = l.idle[:n-1]
	return conn
}

// keep keeps the connection of a request that is still in its place.
func (l *lane) keep(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, conn)
}

func (l *lane) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for _, conn := range l.idle {
		err = errors.Join(err, conn.Close())
	}
	l.idle = nil
	return err
}
