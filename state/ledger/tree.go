package ledger

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/fondaco/fondaco/state/keys"
)

// ErrProof says that a proof does not show what it should.
var ErrProof = errors.New("ledger: proof does not verify")

// LeafHash returns the hash of a leaf of the tree of RFC 6962 §2.1.
func LeafHash(s keys.Suite, leaf []byte) keys.Digest { return s.Sum([]byte{0}, leaf) }

// NodeHash returns the hash of an inner node of the tree of RFC 6962 §2.1.
func NodeHash(s keys.Suite, left, right keys.Digest) keys.Digest {
	return s.Sum([]byte{1}, left[:], right[:])
}

// Root returns the root of the RFC 6962 tree over leaves; the root over none is the hash of nothing.
func Root(s keys.Suite, leaves []keys.Digest) keys.Digest {
	if len(leaves) == 0 {
		return s.Sum()
	}
	level := make([]keys.Digest, len(leaves))
	buffer := make([]byte, 1+2*keys.DigestSize) // for all nodes: blocks have thousands
	parts := [][]byte{buffer[:1+keys.DigestSize]}
	for i := range leaves {
		copy(buffer[1:], leaves[i][:])
		level[i] = s.Sum(parts...) // as LeafHash
	}
	buffer[0], parts[0] = 1, buffer
	for len(level) > 1 {
		n := 0
		for i := 0; i < len(level); i += 2 {
			if i+1 < len(level) {
				copy(buffer[1:], level[i][:])
				copy(buffer[1+keys.DigestSize:], level[i+1][:])
				level[n] = s.Sum(parts...) // as NodeHash
			} else {
				level[n] = level[i]
			}
			n++
		}
		level = level[:n]
	}
	return level[0]
}

// Proof shows that a leaf is the Index-th of Size leaves under a root: the audit path of RFC 6962 §2.1.1,
// from the leaf's sibling upwards.
type Proof struct {
	_     struct{} `cbor:",toarray"`
	Index uint64
	Size  uint64
	Path  []keys.Digest
}

// Prove returns the proof for the leaf at index.
func Prove(s keys.Suite, leaves []keys.Digest, index uint64) (Proof, error) {
	size := uint64(len(leaves))
	if index >= size {
		return Proof{}, fmt.Errorf("prove leaf %d of %d: no such leaf", index, size)
	}
	proof := Proof{Index: index, Size: size}
	for lo, hi := uint64(0), size; hi-lo > 1; {
		split := lo + 1<<(bits.Len64(hi-lo-1)-1)
		if index < split {
			proof.Path = append(proof.Path, Root(s, leaves[split:hi]))
			hi = split
		} else {
			proof.Path = append(proof.Path, Root(s, leaves[lo:split]))
			lo = split
		}
	}
	for i, j := 0, len(proof.Path)-1; i < j; i, j = i+1, j-1 {
		proof.Path[i], proof.Path[j] = proof.Path[j], proof.Path[i]
	}
	return proof, nil
}

// Verify checks that leaf is at p.Index of the p.Size leaves under root, as RFC 9162 §2.1.3.2 does.
func (p Proof) Verify(s keys.Suite, root keys.Digest, leaf []byte) error {
	if p.Index >= p.Size {
		return fmt.Errorf("%w: index %d of %d", ErrProof, p.Index, p.Size)
	}
	fn, sn := p.Index, p.Size-1
	h := LeafHash(s, leaf)
	for _, sibling := range p.Path {
		if sn == 0 {
			return fmt.Errorf("%w: path too long", ErrProof)
		}
		if fn&1 == 1 || fn == sn {
			h = NodeHash(s, sibling, h)
			for fn&1 == 0 && fn != 0 {
				fn >>= 1
				sn >>= 1
			}
		} else {
			h = NodeHash(s, h, sibling)
		}
		fn >>= 1
		sn >>= 1
	}
	if sn != 0 {
		return fmt.Errorf("%w: path too short", ErrProof)
	}
	if h != root {
		return fmt.Errorf("%w: the path leads to another root", ErrProof)
	}
	return nil
}

// Frontier is a growing RFC 6962 tree of which only the right edge is kept: what is needed to append and
// to know the root. The zero value is the empty tree.
type Frontier struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	Peaks []keys.Digest // roots of the complete subtrees, largest first
}

// Check fails unless the frontier, which may come from a damaged file, has a peak for each bit of its size.
func (f *Frontier) Check() error {
	if want := bits.OnesCount64(f.Size); len(f.Peaks) != want {
		return fmt.Errorf("%w: frontier of %d leaves has %d peaks, want %d", ErrProof, f.Size, len(f.Peaks), want)
	}
	return nil
}

// Append adds a leaf.
func (f *Frontier) Append(s keys.Suite, leaf keys.Digest) {
	h := LeafHash(s, leaf[:])
	for n := f.Size; n&1 == 1; n >>= 1 {
		last := len(f.Peaks) - 1
		h = NodeHash(s, f.Peaks[last], h)
		f.Peaks = f.Peaks[:last:last]
	}
	f.Peaks = append(f.Peaks, h)
	f.Size++
}

// Root returns the root over the leaves so far.
func (f *Frontier) Root(s keys.Suite) keys.Digest {
	if f.Size == 0 {
		return s.Sum()
	}
	h := f.Peaks[len(f.Peaks)-1]
	for i := len(f.Peaks) - 2; i >= 0; i-- {
		h = NodeHash(s, f.Peaks[i], h)
	}
	return h
}
