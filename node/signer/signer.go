// Package signer keeps a key in a process of its own, which signs for a node or for an account over a unix socket and never gives the
// key away. What it signs it is shown, not a digest of it, and what a node states in consensus it compares with a journal of its
// own: a node whose folder was copied to another machine, or put back from an older copy, gets no signature that contradicts an
// earlier one. README.md says how operators use it, and describes the protocol.
//
// The package is public by path but promised nothing.
package signer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// MaxSocket bounds the path of a signer's socket, in bytes (unix(7): 108 with a zero at the end).
const MaxSocket = 107

const (
	// version is that of the protocol.
	version = 1
	// maxFrame bounds a request or reply: the largest transaction, and what is around it. A transaction is shown whole.
	maxFrame = ledger.MaxDeployTxSize + 1<<10
	// maxThing bounds the name of what is signed.
	maxThing = 32
	// maxConnections bounds those that are served at once, so a signer holds 80 MiB of requests at most.
	maxConnections = 16
	// frameTime bounds how long the rest of a frame takes once it has begun, in either direction.
	frameTime = 5 * time.Second
	// idleTime is how long a connection may stay without a request.
	idleTime = 5 * time.Minute
	// patience bounds how long a client waits for a signature. A group goes on without its vote meanwhile.
	patience = 2 * time.Second
)

// checkPath says why a path is none of a socket.
func checkPath(path string) error {
	if len(path) > MaxSocket {
		return fmt.Errorf("the path of the socket %s has %d bytes, and unix sockets have at most %d: name a shorter one", path, len(path), MaxSocket)
	}
	return nil
}

// request asks for a signature over keys.Hash(suite, Thing, Message), or with an empty Thing for the public key.
type request struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Thing   string
	Message []byte
}

// status tells what became of a request.
type status uint8

const (
	statusDone       status = 0 // Data is the signature, or the key
	statusDoubleSign status = 1 // the statement contradicts an earlier one: never ask again
	statusDenied     status = 2 // this signer does not sign such a thing
	statusFailed     status = 3 // the signer or its device could not; asking again may help
)

// reply answers a request. Text says why there is no signature.
type reply struct {
	_         struct{} `cbor:",toarray"`
	Version   uint16
	Status    status
	Text      string
	Algorithm keys.Algorithm
	Data      []byte
}

var errFrame = errors.New("not a frame of the signer's protocol")

// writeFrame sends a value: its length in four bytes, big endian, and its canonical CBOR.
func writeFrame(conn net.Conn, v any) error {
	body, err := ledger.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d", errFrame, len(body), maxFrame)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(frameTime)); err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// readFrame reads a value, which begins within wait.
func readFrame(conn net.Conn, wait time.Duration, v any) error {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d", errFrame, n, maxFrame)
	}
	if err := conn.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err // who sent it ended, or hangs
	}
	if err := ledger.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// isThing reports whether keys.Hash may be asked for a thing of this name: only then one preimage is of one thing.
func isThing(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxThing
}
