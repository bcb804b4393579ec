package keys

import (
	"crypto/ed25519"
	"fmt"
	"io"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// zip215 returns the rules of ZIP-215 (https://zips.z.cash/zip-0215): the cofactored equation, any encoding
// of R that decodes, s below the group order. They are the only rules under which a signature has one verdict
// alone and in a batch. The rules for keys are stricter: see parseEd25519.
func zip215() *voi.Options { return &voi.Options{Verify: voi.VerifyOptionsZIP_215} }

// ed25519Key is a public key with the table that makes checks cheaper.
type ed25519Key struct {
	bytes    [ed25519.PublicKeySize]byte
	expanded *voi.ExpandedPublicKey
}

// parseEd25519 accepts the one canonical encoding (RFC 8032 §5.1.3) of every point but the eight of small
// order, for which everybody can make signatures and one signature holds for all messages.
func parseEd25519(canonical []byte) (*ed25519Key, error) {
	if len(canonical) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: ed25519 key of %d bytes, want %d", ErrKey, len(canonical), ed25519.PublicKeySize)
	}
	if !belowFieldPrime(canonical) {
		return nil, fmt.Errorf("%w: ed25519 key is not in canonical form", ErrKey)
	}
	if smallOrder(canonical) {
		return nil, fmt.Errorf("%w: ed25519 key is a point of small order", ErrKey)
	}
	expanded, err := voi.NewExpandedPublicKey(canonical)
	if err != nil {
		return nil, fmt.Errorf("%w: ed25519 key is not on the curve", ErrKey)
	}
	return &ed25519Key{bytes: [32]byte(canonical), expanded: expanded}, nil
}

// belowFieldPrime reports whether the y that a point's encoding holds is less than p = 2²⁵⁵ - 19.
func belowFieldPrime(point []byte) bool {
	if point[31]&0x7f != 0x7f {
		return true
	}
	for i := 30; i > 0; i-- {
		if point[i] != 0xff {
			return true
		}
	}
	return point[0] < 0xed
}

// smallOrder reports whether the canonical y of a point's encoding is one of the five that the points of
// order 1, 2, 4 and 8 have. It ignores the sign of x, and so also catches the second encoding of the two
// points whose x is zero.
func smallOrder(point []byte) bool {
	y := [32]byte(point)
	y[31] &= 0x7f
	switch y {
	case
		[32]byte{1}, // order 1
		[32]byte{ // order 2
			0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
		},
		[32]byte{}, // order 4
		[32]byte{ // order 8
			0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
			0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
		},
		[32]byte{ // order 8
			0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
			0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
		}:
		return true
	default:
		return false
	}
}

func (*ed25519Key) Algorithm() Algorithm { return Ed25519 }

func (k *ed25519Key) Bytes() []byte { return k.bytes[:] }

func (k *ed25519Key) Verify(d Digest, signature []byte) error {
	if len(signature) != SignatureSize || !voi.VerifyExpandedWithOptions(k.expanded, d[:], signature, zip215()) {
		return ErrSignature
	}
	return nil
}

// ed25519Signer signs as RFC 8032 says, with the standard library.
type ed25519Signer struct {
	private ed25519.PrivateKey
	public  *ed25519Key
}

func generateEd25519(random io.Reader) (Signer, error) {
	var seed [ed25519.SeedSize]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, fmt.Errorf("generate ed25519 key: %w", err)
	}
	return newEd25519Signer(seed[:])
}

func newEd25519Signer(seed []byte) (Signer, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("ed25519 private key of %d bytes, want the %d of the seed", len(seed), ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, err := parseEd25519(private[ed25519.SeedSize:])
	if err != nil {
		return nil, err
	}
	return &ed25519Signer{private: private, public: public}, nil
}

func (s *ed25519Signer) Public() PublicKey { return s.public }

func (s *ed25519Signer) Sign(d Digest) ([]byte, error) { return ed25519.Sign(s.private, d[:]), nil }

func (s *ed25519Signer) Private() ([]byte, error) { return s.private.Seed(), nil }
