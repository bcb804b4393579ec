package keys

import (
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
)

// What P-256 and SM2 share: private keys are scalars of 32 bytes, signatures two of them.

const scalarSize = 32

// generateScalar draws scalars until signer takes one; it refuses one in 2³².
func generateScalar(a Algorithm, random io.Reader, signer func(scalar []byte) (Signer, error)) (Signer, error) {
	for range 8 {
		var scalar [scalarSize]byte
		if _, err := io.ReadFull(random, scalar[:]); err != nil {
			return nil, fmt.Errorf("generate %s key: %w", a, err)
		}
		if s, err := signer(scalar[:]); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("generate %s key: the source of randomness is broken: no scalar in range in 8 draws", a)
}

// splitSignature reads r and s of SignatureSize bytes.
func splitSignature(signature []byte) (r, s *big.Int) {
	return new(big.Int).SetBytes(signature[:scalarSize]), new(big.Int).SetBytes(signature[scalarSize:])
}

func joinSignature(r, s *big.Int) []byte {
	signature := make([]byte, SignatureSize)
	r.FillBytes(signature[:scalarSize])
	s.FillBytes(signature[scalarSize:])
	return signature
}

// parseDER reads a signature as libraries give it (RFC 3279 §2.2.3).
func parseDER(der []byte) (r, s *big.Int, err error) {
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &signature); err != nil {
		return nil, nil, err
	}
	return signature.R, signature.S, nil
}
