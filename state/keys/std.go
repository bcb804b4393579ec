package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// SuiteByName returns the suite that a genesis names.
func SuiteByName(name string) (Suite, error) {
	switch name {
	case "std":
		return Std(), nil
	case "gm":
		return nil, errors.New(`suite "gm" is not in this build of fondaco: use a build that has it, or make the chain with suite "std"`)
	default:
		return nil, fmt.Errorf(`suite %q is unknown: want "std" or "gm"`, name)
	}
}

// Std returns the suite of SHA-256, Ed25519 (P-256 accepted for accounts) and AES-256-GCM. Each result
// remembers the public keys that it parsed last, up to 26 MB of them, so a process should make it once.
func Std() Suite { return &std{parsed: newKeyCache(cachedKeys)} }

// cachedKeys bounds each of the two generations of a suite's cache of parsed keys, at 1.6 kB a key.
const cachedKeys = 8192

type std struct {
	parsed *keyCache
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
	var buffer [1024]byte
	if size <= len(buffer) {
		joined := buffer[:0]
		for _, p := range parts {
			joined = append(joined, p...)
		}
		return sha256.Sum256(joined)
	}
	h := sha256.New()
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
		return generateP256(random)
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

func (*std) Seal(key, nonce, plaintext, additional []byte) ([]byte, error) {
	aead, err := newAEAD(key, nonce)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(nil, nonce, plaintext, additional), nil
}

func (*std) Open(key, nonce, sealed, additional []byte) ([]byte, error) {
	aead, err := newAEAD(key, nonce)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	plaintext, err := aead.Open(nil, nonce, sealed, additional)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// The sizes of what Seal takes under either suite, in bytes.
const (
	SealKeySize   = 32
	SealNonceSize = 12
)

func newAEAD(key, nonce []byte) (cipher.AEAD, error) {
	if len(key) != SealKeySize || len(nonce) != SealNonceSize {
		return nil, fmt.Errorf("key of %d and nonce of %d bytes, want %d and %d", len(key), len(nonce), SealKeySize, SealNonceSize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
