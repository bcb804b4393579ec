package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"fmt"

	"github.com/emmansun/gmsm/ecdh"
	"github.com/emmansun/gmsm/sm3"
)

// PointSize is the length of Agreement.Point: an uncompressed point, SEC 1 §2.3.3.
const PointSize = 65

// Agreement is one side of an ephemeral Diffie-Hellman exchange on the curve of SM2 (GM/T 0003.5). It authenticates
// nobody: both points have to be signed by their sides.
type Agreement struct{ private *ecdh.PrivateKey }

// NewAgreement makes a key that is forgotten with the value.
func NewAgreement() (*Agreement, error) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key to agree with: %w", err)
	}
	return &Agreement{private}, nil
}

// Point returns what the other side needs, PointSize bytes.
func (a *Agreement) Point() []byte { return a.private.PublicKey().Bytes() }

// Key returns SealKeySize bytes that only the side with the other point knows besides: HKDF (RFC 5869) with HMAC-SM3 of the
// shared x coordinate. ErrKey says that theirs is no point of the curve.
func (a *Agreement) Key(theirs []byte, salt Digest, info string) ([]byte, error) {
	point, err := ecdh.P256().NewPublicKey(theirs)
	if err != nil {
		return nil, fmt.Errorf("%w: no point of the curve of SM2: %w", ErrKey, err)
	}
	shared, err := a.private.ECDH(point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return hkdf.Key(sm3.New, shared, salt[:], info, SealKeySize)
}
