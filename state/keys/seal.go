package keys

import (
	"crypto/cipher"
	"fmt"
)

// The sizes of what Seal takes under either suite, in bytes.
const (
	SealKeySize   = 32
	SealNonceSize = 12
)

// blockCipher makes the cipher under a key of SealKeySize bytes, of which it may use fewer.
type blockCipher func(key []byte) (cipher.Block, error)

func seal(c blockCipher, key, nonce, plaintext, additional []byte) ([]byte, error) {
	aead, err := newGCM(c, key, nonce)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(nil, nonce, plaintext, additional), nil
}

func unseal(c blockCipher, key, nonce, sealed, additional []byte) ([]byte, error) {
	aead, err := newGCM(c, key, nonce)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	plaintext, err := aead.Open(nil, nonce, sealed, additional)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}

// newGCM returns the cipher in Galois/counter mode (NIST SP 800-38D) with tags of 16 bytes.
func newGCM(c blockCipher, key, nonce []byte) (cipher.AEAD, error) {
	if len(key) != SealKeySize || len(nonce) != SealNonceSize {
		return nil, fmt.Errorf("key of %d and nonce of %d bytes, want %d and %d", len(key), len(nonce), SealKeySize, SealNonceSize)
	}
	block, err := c(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
