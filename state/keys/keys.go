// Package keys holds digests, signatures and sealing under one of two cryptographic suites: std
// (SHA-256, Ed25519, AES-256-GCM) and gm (SM3, SM2, SM4-GCM).
//
// A chain fixes its suite in genesis and every node of the chain uses that one. What is signed is
// always a 32-byte digest; signatures travel as 64 fixed bytes and public keys in one canonical form,
// so that there is exactly one byte string for each of them and no ASN.1 inside a transaction or vote.
//
// This package is one of the three leaf packages with a compatibility promise. All its values are safe
// for concurrent use.
package keys

import (
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// DigestSize is the length of a digest in bytes under either suite.
const DigestSize = 32

// SignatureSize is the length of a signature in bytes under every algorithm: r‖s, or Ed25519's R‖S.
const SignatureSize = 64

// Errors that callers branch on.
var (
	// ErrSignature says that a signature is not valid for the digest and key, or is not canonical.
	ErrSignature = errors.New("keys: invalid signature")
	// ErrKey says that the bytes are not the canonical form of a key of the algorithm.
	ErrKey = errors.New("keys: invalid public key")
	// ErrAlgorithm says that the suite does not accept the algorithm.
	ErrAlgorithm = errors.New("keys: algorithm not in suite")
	// ErrAway says that the process or device that holds the key does not answer, or does not sign now and may later. Nothing is
	// known to be signed; asking again is right.
	ErrAway = errors.New("keys: the signer does not answer")
)

// Digest is a 32-byte hash under the chain's suite. The zero Digest stands for "none".
type Digest [DigestSize]byte

// IsZero reports whether d is the zero digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d as 0x and 64 lower-case hexadecimal digits.
func (d Digest) String() string { return "0x" + hex.EncodeToString(d[:]) }

// Short returns the first four bytes in hexadecimal, for logs.
func (d Digest) Short() string { return hex.EncodeToString(d[:4]) }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form that String writes; the 0x is required.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// MarshalBinary implements encoding.BinaryMarshaler: the 32 bytes. The CBOR of a digest is the same without it, and
// is made a byte at a time.
func (d Digest) MarshalBinary() ([]byte, error) { return d[:], nil }

// UnmarshalBinary reads the form that MarshalBinary writes.
func (d *Digest) UnmarshalBinary(raw []byte) error {
	if len(raw) != DigestSize {
		return fmt.Errorf("digest has %d bytes, want %d", len(raw), DigestSize)
	}
	*d = Digest(raw)
	return nil
}

// ParseDigest reads 0x and 64 hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return d, fmt.Errorf("digest %q does not begin with 0x", s)
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return d, fmt.Errorf("digest %q: %w", s, err)
	}
	if len(raw) != DigestSize {
		return d, fmt.Errorf("digest %q has %d bytes, want %d", s, len(raw), DigestSize)
	}
	return Digest(raw), nil
}

// Algorithm names a signature algorithm. The numbers are part of every encoding that holds a key.
type Algorithm uint8

// The signature algorithms. Suite std accepts Ed25519 and P256, suite gm accepts SM2.
const (
	Ed25519 Algorithm = 1 // 32-byte canonical point not of small order; RFC 8032 signatures under ZIP-215 rules
	P256    Algorithm = 2 // 33-byte compressed point; ECDSA with SHA-256 over the digest, low s only
	SM2     Algorithm = 3 // 33-byte compressed point; GM/T 0003.2 over the digest, default user id
)

// String returns the algorithm's name as configuration files and the API write it.
func (a Algorithm) String() string {
	switch a {
	case Ed25519:
		return "ed25519"
	case P256:
		return "p256"
	case SM2:
		return "sm2"
	default:
		return fmt.Sprintf("algorithm(%d)", uint8(a))
	}
}

// ParseAlgorithm reads the form that String writes.
func ParseAlgorithm(s string) (Algorithm, error) {
	for _, a := range []Algorithm{Ed25519, P256, SM2} {
		if a.String() == s {
			return a, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrAlgorithm, s)
}

// Suite is the set of algorithms of a chain.
type Suite interface {
	// Name returns "std" or "gm".
	Name() string
	// Sum returns the hash of the concatenation of parts.
	Sum(parts ...[]byte) Digest
	// Vote returns the algorithm of node and vote keys.
	Vote() Algorithm
	// ParsePublic reads a public key from its canonical form. It refuses an algorithm that is not of the
	// suite (ErrAlgorithm) and bytes that are not canonical (ErrKey).
	ParsePublic(a Algorithm, canonical []byte) (PublicKey, error)
	// Generate makes a key of the algorithm from random.
	Generate(a Algorithm, random io.Reader) (Signer, error)
	// ParsePrivate reads the form that Signer.Private writes.
	ParsePrivate(a Algorithm, private []byte) (Signer, error)
	// NewBatch returns an empty batch of signature checks.
	NewBatch() Batch
	// AEAD returns the suite's cipher in Galois/counter mode under a key of SealKeySize bytes, of which gm uses the first
	// 16. Its nonces have SealNonceSize bytes and must never repeat under one key. It may be used concurrently.
	AEAD(key []byte) (cipher.AEAD, error)
}

// PublicKey is a parsed, valid public key.
type PublicKey interface {
	Algorithm() Algorithm
	// Bytes returns the canonical form. The caller must not change it.
	Bytes() []byte
	// Verify returns nil, or ErrSignature.
	Verify(d Digest, signature []byte) error
}

// Signer signs digests with a private key that it may or may not hold itself.
type Signer interface {
	Public() PublicKey
	Sign(d Digest) (signature []byte, err error)
	// Private returns the private key's canonical form (Ed25519: the 32-byte seed; P-256 and SM2: the
	// 32-byte scalar), or an error where the key cannot leave its device.
	Private() ([]byte, error)
}

// MessageSigner is a Signer that is shown what it signs instead of a digest, and decides by that whether to. Its Sign may refuse
// every digest: use [SignHash], which asks each signer as it wants to be asked.
type MessageSigner interface {
	Signer
	// SignMessage signs Hash(suite, thing, message), the suite being that of the key. It fails with ErrAway if nobody answers.
	SignMessage(thing string, message []byte) (signature []byte, err error)
}

// SignHash returns the signature over Hash(s, thing, parts...).
func SignHash(s Suite, signer Signer, thing string, parts ...[]byte) ([]byte, error) {
	if shown, ok := signer.(MessageSigner); ok {
		return shown.SignMessage(thing, slices.Concat(parts...))
	}
	return signer.Sign(Hash(s, thing, parts...))
}

// Batch checks many signatures at less cost than one by one. It is not safe for concurrent use.
// The verdict on each signature is the one that PublicKey.Verify gives.
type Batch interface {
	// Add queues a check. key must come from the same suite; signature must not change until Verify.
	Add(key PublicKey, d Digest, signature []byte)
	Len() int
	// Verify checks all and returns the verdict on each in the order of Add, and empties the batch.
	Verify() []bool
}

// Hash returns the digest of a thing: H("fondaco/" ‖ thing ‖ "/1" ‖ 0x00 ‖ parts). The domain tag makes
// the digest of one kind of thing useless as the digest of another.
func Hash(s Suite, thing string, parts ...[]byte) Digest {
	all := make([][]byte, 0, len(parts)+1)
	all = append(all, append([]byte("fondaco/"+thing+"/1"), 0))
	return s.Sum(append(all, parts...)...)
}
