package keys

import (
	"crypto/cipher"
	"fmt"
	"io"

	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"
)

// GM returns the suite of SM3 (GM/T 0004), SM2 (GM/T 0003.2) and SM4-GCM (GM/T 0002, NIST SP 800-38D). Each result
// remembers the public keys that it parsed last, up to 11 MB of them, so a process should make it once.
func GM() Suite { return &gm{parsed: newKeyCache(cachedKeys, sm2KeySize, parseSM2)} }

type gm struct {
	parsed *keyCache[*sm2Key]
}

func (*gm) Name() string { return "gm" }

// Sum copies small inputs together, as that of std does.
func (*gm) Sum(parts ...[]byte) Digest {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if len(parts) == 1 {
		return sm3.Sum(parts[0])
	}
	var buffer [maxJoined]byte
	if size <= len(buffer) {
		return sm3.Sum(join(buffer[:0], parts))
	}
	return stream(sm3.New(), parts)
}

func (*gm) Vote() Algorithm { return SM2 }

func (s *gm) ParsePublic(a Algorithm, canonical []byte) (PublicKey, error) {
	if a != SM2 {
		return nil, fmt.Errorf("%w: %s in suite gm", ErrAlgorithm, a)
	}
	return s.parsed.get(canonical)
}

func (*gm) Generate(a Algorithm, random io.Reader) (Signer, error) {
	if a != SM2 {
		return nil, fmt.Errorf("%w: %s in suite gm", ErrAlgorithm, a)
	}
	return generateScalar(a, random, newSM2Signer)
}

func (*gm) ParsePrivate(a Algorithm, private []byte) (Signer, error) {
	if a != SM2 {
		return nil, fmt.Errorf("%w: %s in suite gm", ErrAlgorithm, a)
	}
	return newSM2Signer(private)
}

func (*gm) NewBatch() Batch { return &batch{} }

// newSM4 uses the first half of a key: SM4 has keys of 16 bytes.
func newSM4(key []byte) (cipher.Block, error) { return sm4.NewCipher(key[:SealKeySize/2]) }

func (*gm) AEAD(key []byte) (cipher.AEAD, error) { return newGCM(newSM4, key) }
