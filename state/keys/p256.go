package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"math/big"
)

const p256KeySize = 33

// p256Key is a point of NIST P-256.
type p256Key struct {
	bytes [p256KeySize]byte
	point *ecdsa.PublicKey
}

// parseP256 reads a compressed point (SEC 1 §2.3.4). There is no compressed form of the point at infinity.
func parseP256(canonical []byte) (PublicKey, error) {
	if len(canonical) != p256KeySize {
		return nil, fmt.Errorf("%w: p256 key of %d bytes, want %d", ErrKey, len(canonical), p256KeySize)
	}
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), canonical)
	if x == nil {
		return nil, fmt.Errorf("%w: p256 key is not a compressed point of the curve", ErrKey)
	}
	var uncompressed [1 + 2*scalarSize]byte
	uncompressed[0] = 4
	x.FillBytes(uncompressed[1 : 1+scalarSize])
	y.FillBytes(uncompressed[1+scalarSize:])
	point, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed[:])
	if err != nil {
		return nil, fmt.Errorf("%w: p256 key: %w", ErrKey, err)
	}
	return &p256Key{bytes: [p256KeySize]byte(canonical), point: point}, nil
}

func (*p256Key) Algorithm() Algorithm { return P256 }

func (k *p256Key) Bytes() []byte { return k.bytes[:] }

// Verify accepts only the lower of the two values of s that make a signature valid, so that nobody but the
// signer can change a signature into another valid one.
func (k *p256Key) Verify(d Digest, signature []byte) error {
	if len(signature) != SignatureSize {
		return ErrSignature
	}
	r, s := splitSignature(signature)
	message := sha256.Sum256(d[:])
	if !isLowS(s) || !ecdsa.Verify(k.point, message[:], r, s) {
		return ErrSignature
	}
	return nil
}

// isLowS reports whether s is at most half of the group order.
func isLowS(s *big.Int) bool {
	return new(big.Int).Lsh(s, 1).Cmp(elliptic.P256().Params().N) <= 0
}

// p256Signer signs deterministically (RFC 6979).
type p256Signer struct {
	private *ecdsa.PrivateKey
	public  *p256Key
}

func newP256Signer(scalar []byte) (Signer, error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, fmt.Errorf("p256 private key of %d bytes is not a scalar of %d bytes in range: %w", len(scalar), scalarSize, err)
	}
	uncompressed, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("p256 public key: %w", err)
	}
	compressed := [p256KeySize]byte(uncompressed)
	compressed[0] = 2 + uncompressed[len(uncompressed)-1]&1
	return &p256Signer{private: private, public: &p256Key{bytes: compressed, point: &private.PublicKey}}, nil
}

func (s *p256Signer) Public() PublicKey { return s.public }

func (s *p256Signer) Sign(d Digest) ([]byte, error) {
	message := sha256.Sum256(d[:])
	der, err := s.private.Sign(nil, message[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign with p256 key: %w", err)
	}
	r, t, err := parseDER(der)
	if err != nil {
		return nil, fmt.Errorf("sign with p256 key: %w", err)
	}
	if !isLowS(t) {
		t.Sub(elliptic.P256().Params().N, t)
	}
	return joinSignature(r, t), nil
}

func (s *p256Signer) Private() ([]byte, error) { return s.private.Bytes() }
