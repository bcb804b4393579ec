package transport

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/quic-go/quic-go"
)

// Errors that callers branch on.
var (
	// ErrNotConnected says that there is no connection to the node now. Nothing was queued.
	ErrNotConnected = errors.New("transport: not connected")
	// ErrUnknownPeer says that the node is neither configured nor connected.
	ErrUnknownPeer = errors.New("transport: unknown peer")
	// ErrTooLarge says that a message exceeds its protocol's bound.
	ErrTooLarge = errors.New("transport: message too large")
	// ErrQueueFull says that too many requests to the node are under way.
	ErrQueueFull = errors.New("transport: too many requests to this peer are under way")
	// ErrProtocol says that the protocol is unknown or does not do what was asked of it.
	ErrProtocol = errors.New("transport: protocol does not allow this")
)

// RemoteError is what the other node's request handler answered instead of a response.
type RemoteError struct{ Reason string }

// Error implements error.
func (e *RemoteError) Error() string { return "peer answered: " + e.Reason }

// Code tells the other side why a connection ends. It is the QUIC application error code.
type Code uint64

// The codes. PROTOCOL.md says for each what to do about it.
const (
	CodeShutdown  Code = 0  // the node stops
	CodeMalformed Code = 1  // what arrived in the handshake is not what PROTOCOL.md describes
	CodeVersion   Code = 2  // the nodes speak different versions of this protocol
	CodeChain     Code = 3  // the nodes belong to different chains
	CodeGroups    Code = 4  // the nodes have no group in common
	CodeIdentity  Code = 5  // node id, key and suite do not fit together, or another node answered
	CodeNotMember Code = 6  // the node is who it says, but may not take part
	CodeProof     Code = 7  // the proof of identity is wrong: another key, or somebody in the middle
	CodeTimeout   Code = 8  // identity was not proved in time
	CodeSelf      Code = 9  // a node reached itself
	CodeReplaced  Code = 10 // another connection between the same nodes took over
	CodeAge       Code = 11 // the connection reached its greatest age, or the identity its end
	CodeRemoved   Code = 12 // the node may not take part any more
	CodeViolation Code = 13 // a stream broke the rules: oversized message, broken frame
	CodeFault     Code = 14 // a handler of the closing node panicked
	CodeInner     Code = 15 // one node seals messages once more, and the other does not
)

// HandshakeError says why two nodes did not connect, in words for an operator.
type HandshakeError struct {
	Code   Code
	Reason string
	Remote bool // the other side refused and sent the reason
}

// Error implements error.
func (e *HandshakeError) Error() string {
	if e.Remote {
		return "the other node refused: " + e.Reason
	}
	return e.Reason
}

func refuse(c Code, format string, args ...any) *HandshakeError {
	return &HandshakeError{Code: c, Reason: fmt.Sprintf(format, args...)}
}

// maxReason bounds the words that go with a code, so that they fit one packet and one log line.
const maxReason = 512

// printable makes words from elsewhere safe for logs and bounded.
func printable(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// inWords says why a connection ended or was not made, for operators.
func inWords(err error) string {
	if err == nil {
		return ""
	}
	if refused, ok := errors.AsType[*HandshakeError](err); ok {
		return refused.Error()
	}
	if closed, ok := errors.AsType[*quic.ApplicationError](err); ok {
		words := printable(closed.ErrorMessage)
		if closed.Remote {
			words = "closed by the other node: " + words
		}
		return words
	}
	if _, ok := errors.AsType[*quic.IdleTimeoutError](err); ok {
		return "nothing was heard from the node for the idle timeout: it stopped, or the network between is cut"
	}
	if _, ok := errors.AsType[*quic.HandshakeTimeoutError](err); ok {
		return "no answer: the node does not run, its address is wrong, or UDP is blocked between"
	}
	if _, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		return "the node restarted"
	}
	if broken, ok := errors.AsType[*quic.TransportError](err); ok {
		switch {
		case broken.Remote && broken.ErrorCode == quic.ConnectionRefused:
			return "the node is busy with other handshakes and refused this one"
		case broken.ErrorCode.IsCryptoError():
			return printable(fmt.Sprintf("what is at the other end is no node of fondaco, or of a release with another transport: correct the address (%v)", err))
		}
	}
	return printable(err.Error())
}
