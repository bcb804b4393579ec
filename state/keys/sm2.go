package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"fmt"
	"math/big"
	"sync"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
)

const sm2KeySize = 33

// sm2Key is a point of the curve of GM/T 0003.5.
type sm2Key struct {
	bytes [sm2KeySize]byte
	point ecdsa.PublicKey // in here: what sm2.Verify keeps of a key it finds faster the fewer keys share a page
	z     Digest          // of GM/T 0003.2 §5.5: user id, curve and key
}

// parseSM2 reads a compressed point (GM/T 0003.1 §4.2.9). There is no compressed form of the point at infinity.
func parseSM2(canonical []byte) (*sm2Key, error) {
	if len(canonical) != sm2KeySize {
		return nil, fmt.Errorf("%w: sm2 key of %d bytes, want %d", ErrKey, len(canonical), sm2KeySize)
	}
	x, y := elliptic.UnmarshalCompressed(sm2.P256(), canonical)
	if x == nil {
		return nil, fmt.Errorf("%w: sm2 key is not a compressed point of the curve", ErrKey)
	}
	return newSM2Key(elements([]byte{4}, x, y))
}

// newSM2Key takes the uncompressed form of a point.
func newSM2Key(uncompressed []byte) (*sm2Key, error) {
	point, err := sm2.ParseUncompressedPublicKey(uncompressed)
	if err != nil {
		return nil, fmt.Errorf("%w: sm2 key: %w", ErrKey, err)
	}
	var joined [256]byte
	k := &sm2Key{point: *point, z: sm3.Sum(append(append(joined[:0], sm2Domain()...), uncompressed[1:]...))}
	copy(k.bytes[:], uncompressed)
	k.bytes[0] = 2 + uncompressed[len(uncompressed)-1]&1
	return k, nil
}

// sm2Domain returns what all keys have in common of that of which Z is the hash: the length of the default user id (GM/T 0009 §10) in
// bits, that id, and the curve's a, b and base point.
var sm2Domain = sync.OnceValue(func() []byte {
	const id = "1234567812345678"
	curve := sm2.P256().Params()
	a := new(big.Int).Sub(curve.P, big.NewInt(3))
	return elements(append(binary.BigEndian.AppendUint16(nil, uint16(8*len(id))), id...), a, curve.B, curve.Gx, curve.Gy)
})

// elements appends numbers of 32 bytes.
func elements(out []byte, all ...*big.Int) []byte {
	for _, n := range all {
		out = append(out, n.FillBytes(make([]byte, scalarSize))...)
	}
	return out
}

func (*sm2Key) Algorithm() Algorithm { return SM2 }

func (k *sm2Key) Bytes() []byte { return k.bytes[:] }

// message returns e of GM/T 0003.2 §6.1: what is signed in the place of the digest.
func (k *sm2Key) message(d Digest) []byte {
	var joined [2 * DigestSize]byte
	e := sm3.Sum(append(append(joined[:0], k.z[:]...), d[:]...))
	return e[:]
}

// Verify accepts r and s in 1…n-1 alone, in 32 bytes each. Unlike ECDSA, no second value of s makes a signature valid.
func (k *sm2Key) Verify(d Digest, signature []byte) error {
	if len(signature) != SignatureSize {
		return ErrSignature
	}
	r, s := splitSignature(signature)
	if !sm2.Verify(&k.point, k.message(d), r, s) {
		return ErrSignature
	}
	return nil
}

// sm2Signer signs deterministically (RFC 6979 with HMAC-SM3), so that a broken source of randomness gives no key away.
type sm2Signer struct {
	private *sm2.PrivateKey
	public  *sm2Key
}

// newSM2Signer takes a scalar of 1…n-2 (GM/T 0003.1 §6.1).
func newSM2Signer(scalar []byte) (Signer, error) {
	if len(scalar) != scalarSize {
		return nil, fmt.Errorf("sm2 private key of %d bytes, want the %d of the scalar", len(scalar), scalarSize)
	}
	private, err := sm2.ParseRawPrivateKey(scalar)
	if err != nil {
		return nil, fmt.Errorf("sm2 private key is not a scalar in range: %w", err)
	}
	point, err := private.ECDH()
	if err != nil {
		return nil, fmt.Errorf("sm2 public key: %w", err)
	}
	public, err := newSM2Key(point.PublicKey().Bytes())
	if err != nil {
		return nil, err
	}
	return &sm2Signer{private: private, public: public}, nil
}

func (s *sm2Signer) Public() PublicKey { return s.public }

func (s *sm2Signer) Sign(d Digest) ([]byte, error) {
	der, err := sm2.SignDeterministic(s.private, s.public.message(d), nil)
	if err != nil {
		return nil, fmt.Errorf("sign with sm2 key: %w", err)
	}
	r, t, err := parseDER(der)
	if err != nil {
		return nil, fmt.Errorf("sign with sm2 key: %w", err)
	}
	return joinSignature(r, t), nil
}

func (s *sm2Signer) Private() ([]byte, error) {
	scalar := make([]byte, scalarSize)
	return s.private.D.FillBytes(scalar), nil
}
