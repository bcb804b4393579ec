package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// SuiteByName returns the suite that a genesis names.
func SuiteByName(name string) (Suite, error) {
	switch name {
	case "std":
		return Std(), nil
	case "gm":
		return GM(), nil
	default:
		return nil, fmt.Errorf(`suite %q is unknown: want "std" or "gm"`, name)
	}
}

// SuiteOf returns the suite that accepts an algorithm: gm for SM2, std for the others. As with Std, a process should
// make it once.
func SuiteOf(a Algorithm) Suite {
	if a == SM2 {
		return GM()
	}
	return Std()
}

// Std returns the suite of SHA-256, Ed25519 (P-256 accepted for accounts) and AES-256-GCM. Each result
// remembers the public keys that it parsed last, up to 26 MB of them, so a process should make it once.
func Std() Suite { return &std{parsed: newKeyCache(cachedKeys, ed25519.PublicKeySize, parseEd25519)} }

type std struct {
	parsed *keyCache[*ed25519Key]
}

func (*std) Name() string { return "std" }

// Sum copies small inputs together, because one call on a short buffer costs half of a streaming hash.
func (*std) Sum(parts ...[]byte) Digest {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if len(parts) == 1 {
		return sha256.Sum256(parts[0])
	}
	var buffer [maxJoined]byte
	if size <= len(buffer) {
		return sha256.Sum256(join(buffer[:0], parts))
	}
	return stream(sha256.New(), parts)
}

// maxJoined is the size up to which the parts of a hash's input are copied together, in bytes.
const maxJoined = 1024

func join(joined []byte, parts [][]byte) []byte {
	for _, p := range parts {
		joined = append(joined, p...)
	}
	return joined
}

func stream(h hash.Hash, parts [][]byte) Digest {
	for _, p := range parts {
		h.Write(p)
	}
	return Digest(h.Sum(nil))
}

func (*std) Vote() Algorithm { return Ed25519 }

func (s *std) ParsePublic(a Algorithm, canonical []byte) (PublicKey, error) {
	switch a {
	case Ed25519:
		return s.parsed.get(canonical)
	case P256:
		return parseP256(canonical)
	default:
		return nil, fmt.Errorf("%w: %s in suite std", ErrAlgorithm, a)
	}
}

func (*std) Generate(a Algorithm, random io.Reader) (Signer, error) {
	switch a {
	case Ed25519:
		return generateEd25519(random)
	case P256:
		return generateScalar(a, random, newP256Signer)
	default:
		return nil, fmt.Errorf("%w: %s in suite std", ErrAlgorithm, a)
	}
}

func (*std) ParsePrivate(a Algorithm, private []byte) (Signer, error) {
	switch a {
	case Ed25519:
		return newEd25519Signer(private)
	case P256:
		return newP256Signer(private)
	default:
		return nil, fmt.Errorf("%w: %s in suite std", ErrAlgorithm, a)
	}
}

func (*std) NewBatch() Batch { return &batch{} }

func (*std) AEAD(key []byte) (cipher.AEAD, error) { return newGCM(aes.NewCipher, key) }
