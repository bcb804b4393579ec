package transport

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"

	"github.com/fondaco/fondaco/state/keys"
)

// errSealed says that a message was not sealed for its place by the node at the other end.
var errSealed = errors.New("a message of the inner layer does not open")

// inner seals each message of a connection once more, under QUIC's own TLS: SM4-GCM with keys from an exchange on the curve
// of SM2 with a point of each side that is made for the connection. Both points are in the Hellos, so the proofs of
// identity, which are SM2 signatures, vouch for them. A nil inner leaves messages as they are.
//
// A nonce is a message's place, the QUIC stream's id and the message's number on it, which both sides know and which
// never comes twice on a connection under the key of one direction. So a message opens in its own place alone.
type inner struct {
	out, in cipher.AEAD
}

// newInner agrees on the keys of a connection with the point of the other side. They are bound to the connection and to
// all that the Hellos say: the salt is the digest of what the server's proof signs.
func newInner(suite keys.Suite, own *keys.Agreement, point []byte, b *binding, as role) (*inner, error) {
	salt := keys.Hash(suite, "inner", b.preimage(roleServer))
	var ciphers [2]cipher.AEAD // of the client's messages, of the server's
	for i, info := range []string{"fondaco inner client", "fondaco inner server"} {
		key, err := own.Key(point, salt, info)
		if err != nil {
			return nil, fmt.Errorf("inner layer: %w", err)
		}
		if ciphers[i], err = suite.AEAD(key); err != nil {
			return nil, err
		}
	}
	if as == roleClient {
		return &inner{out: ciphers[0], in: ciphers[1]}, nil
	}
	return &inner{out: ciphers[1], in: ciphers[0]}, nil
}

// nonce is the place of a message.
func nonce(stream quic.StreamID, number uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(stream)), number)
}

// seal returns a message as it goes on its stream. first is the stream's first byte in this direction.
func (s *inner) seal(stream quic.StreamID, number uint32, first byte, m []byte) []byte {
	if s == nil {
		return m
	}
	return s.out.Seal(nil, nonce(stream, number), m, []byte{first})
}

// open reverses seal of the other side. It may use the bytes of m.
func (s *inner) open(stream quic.StreamID, number uint32, first byte, m []byte) ([]byte, error) {
	if s == nil {
		return m, nil
	}
	opened, err := s.in.Open(m[:0], nonce(stream, number), m, []byte{first})
	if err != nil {
		return nil, errSealed
	}
	return opened, nil
}

// most returns how many bytes a message of at most n has on its stream.
func (s *inner) most(n int) int {
	if s == nil {
		return n
	}
	return n + keys.SealOverhead
}
