package keys

import (
	"crypto/cipher"
	"fmt"
)

// The sizes of what Suite.AEAD takes under either suite, and by how many bytes a sealed text is longer.
const (
	SealKeySize   = 32
	SealNonceSize = 12
	SealOverhead  = 16
)

// newGCM returns the cipher in Galois/counter mode (NIST SP 800-38D) with tags of 16 bytes, under a key of which c may use
// fewer bytes than there are.
func newGCM(c func(key []byte) (cipher.Block, error), key []byte) (cipher.AEAD, error) {
	if len(key) != SealKeySize {
		return nil, fmt.Errorf("key of %d bytes to seal with, want %d", len(key), SealKeySize)
	}
	block, err := c(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
