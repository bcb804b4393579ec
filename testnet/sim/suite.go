package sim

import (
	"encoding/binary"
	"io"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// suite is the suite of the tests with signatures that cost next to nothing: a signature is a mix of the signer's secret and
// the digest, and the suite, which alone knows all secrets, computes it again to verify. Nobody in the simulation
// tries to work one out, and secrets leave the suite only inside Signers.
type suite struct {
	keys.Suite
	secrets map[[32]byte]keys.Digest // by public key
}

func newSuite() *suite { return &suite{Suite: keystest.Suite(), secrets: map[[32]byte]keys.Digest{}} }

func (s *suite) signature(secret, d keys.Digest) []byte {
	signature := make([]byte, 0, 64)
	state := uint64(1)
	for i := range 8 {
		state ^= binary.BigEndian.Uint64(secret[i%4*8:])
		state *= 0x9e3779b97f4a7c15
		state ^= state>>29 ^ binary.BigEndian.Uint64(d[i%4*8:])
		state *= 0xbf58476d1ce4e5b9
		state ^= state >> 32
		signature = binary.BigEndian.AppendUint64(signature, state)
	}
	return signature
}

// signer makes the key with a number.
func (s *suite) signer(number uint64) keys.Signer {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], number)
	secret := s.Sum([]byte("simulated secret"), seed[:])
	public := s.Sum([]byte("simulated public key"), secret[:])
	s.secrets[public] = secret
	return &signer{s, public, secret}
}

// ParsePublic implements keys.Suite for the simulated keys alone.
func (s *suite) ParsePublic(a keys.Algorithm, canonical []byte) (keys.PublicKey, error) {
	if a != s.Vote() || len(canonical) != 32 {
		return nil, keys.ErrKey
	}
	secret, ok := s.secrets[[32]byte(canonical)]
	if !ok {
		return nil, keys.ErrKey
	}
	return &public{s, canonical, secret}, nil
}

// Generate implements keys.Suite.
func (s *suite) Generate(_ keys.Algorithm, random io.Reader) (keys.Signer, error) {
	var seed [8]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, err
	}
	return s.signer(binary.BigEndian.Uint64(seed[:])), nil
}

// NewBatch implements keys.Suite.
func (s *suite) NewBatch() keys.Batch { return &batch{} }

type public struct {
	suite     *suite
	canonical []byte
	secret    keys.Digest
}

func (p *public) Algorithm() keys.Algorithm { return p.suite.Vote() }
func (p *public) Bytes() []byte             { return p.canonical }
func (p *public) Verify(d keys.Digest, signature []byte) error {
	if string(p.suite.signature(p.secret, d)) != string(signature) {
		return keys.ErrSignature
	}
	return nil
}

type signer struct {
	suite  *suite
	public keys.Digest
	secret keys.Digest
}

func (s *signer) Public() keys.PublicKey             { return &public{s.suite, s.public[:], s.secret} }
func (s *signer) Sign(d keys.Digest) ([]byte, error) { return s.suite.signature(s.secret, d), nil }
func (s *signer) Private() ([]byte, error)           { return s.secret[:], nil }

type batch struct{ verdicts []bool }

func (b *batch) Add(key keys.PublicKey, d keys.Digest, signature []byte) {
	b.verdicts = append(b.verdicts, key.Verify(d, signature) == nil)
}
func (b *batch) Len() int { return len(b.verdicts) }
func (b *batch) Verify() []bool {
	verdicts := b.verdicts
	b.verdicts = nil
	return verdicts
}
