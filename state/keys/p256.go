package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
)

const (
	p256KeySize    = 33
	p256ScalarSize = 32
)

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
	var uncompressed [1 + 2*p256ScalarSize]byte
	uncompressed[0] = 4
	x.FillBytes(uncompressed[1 : 1+p256ScalarSize])
	y.FillBytes(uncompressed[1+p256ScalarSize:])
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
	r := new(big.Int).SetBytes(signature[:p256ScalarSize])
	s := new(big.Int).SetBytes(signature[p256ScalarSize:])
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

// generateP256 draws scalars until one is in range; all but one in 2³² are.
func generateP256(random io.Reader) (Signer, error) {
	for range 8 {
		var scalar [p256ScalarSize]byte
		if _, err := io.ReadFull(random, scalar[:]); err != nil {
			return nil, fmt.Errorf("generate p256 key: %w", err)
		}
		if signer, err := newP256Signer(scalar[:]); err == nil {
			return signer, nil
		}
	}
	return nil, errors.New("generate p256 key: the source of randomness is broken: no scalar in range in 8 draws")
}

func newP256Signer(scalar []byte) (Signer, error) {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, fmt.Errorf("p256 private key of %d bytes is not a scalar of %d bytes in range: %w", len(scalar), p256ScalarSize, err)
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
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, fmt.Errorf("sign with p256 key: %w", err)
	}
	if !isLowS(sig.S) {
		sig.S.Sub(elliptic.P256().Params().N, sig.S)
	}
	fixed := make([]byte, SignatureSize)
	sig.R.FillBytes(fixed[:p256ScalarSize])
	sig.S.FillBytes(fixed[p256ScalarSize:])
	return fixed, nil
}

func (s *p256Signer) Private() ([]byte, error) { return s.private.Bytes() }
