package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/keys"
)

// ErrEvidence says that two statements do not prove that a member lied.
var ErrEvidence = errors.New("ledger: the evidence proves nothing")

// Offence says which promise of a member two of its statements break.
type Offence uint8

// The offences that two signatures prove.
const (
	// Equivocation is two different statements of one kind at one place: proposals, prepares or commits of one
	// view and height, view changes to one view, attestations of one height. The double-sign guard of an honest
	// node makes it impossible.
	Equivocation Offence = 1
	// Amnesia is a commit vote, which says that its signer holds a certificate of that rank, and a view change to
	// a later view that claims a lower one. A group that built on such claims could drop a final block.
	Amnesia Offence = 2
	// Divergence is two commits, or two attestations, that give one order two different blocks. What an order
	// gives is a function of its ancestors: a member whose statements differ does not execute as the others do.
	Divergence Offence = 3
)

// String returns the offence in the glossary's words.
func (o Offence) String() string {
	names := [...]string{"none", "equivocation", "amnesia", "divergence"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("offence(%d)", uint8(o))
}

// Evidence is two statements that one member signed and no honest member signs both. The statement that comes
// first in byte order of the encodings is A, so the same two votes are the same evidence.
type Evidence struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	A, B    Vote
}

// MaxEvidenceSize bounds the encoding of evidence, in bytes: two votes with signatures of 64 bytes.
const MaxEvidenceSize = 512

// Place is what one member can be accused of once: more pairs of statements at one place prove nothing new.
type Place struct {
	_       struct{} `cbor:",toarray"`
	Epoch   uint64
	Member  uint32
	Offence Offence
	Kind    StatementKind // of A
	View    uint64        // of A
	Height  Height        // of A; 0 for view changes, of which there is one in a view, whatever height it tells
}

// NewEvidence puts two votes in order. It fails with ErrEvidence unless the statements contradict one another;
// signatures are for Verify.
func NewEvidence(a, b Vote) (*Evidence, error) {
	if bytes.Compare(mustMarshal(&a.Statement), mustMarshal(&b.Statement)) > 0 {
		a, b = b, a
	}
	e := &Evidence{Version: Version, A: a, B: b}
	_, err := e.Place()
	return e, err
}

// DecodeEvidence reads evidence from its canonical encoding. Whether it proves anything is for Verify to tell.
func DecodeEvidence(raw []byte) (*Evidence, error) {
	if len(raw) > MaxEvidenceSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrEvidence, len(raw), MaxEvidenceSize)
	}
	var e Evidence
	if err := Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvidence, err)
	}
	return &e, nil
}

// Digest returns what names the evidence.
func (e *Evidence) Digest(s keys.Suite) keys.Digest { return keys.Hash(s, "evidence", mustMarshal(e)) }

// Place returns what the evidence is of. It fails with ErrEvidence unless the two statements are in order and
// contradict one another.
func (e *Evidence) Place() (Place, error) {
	a, b := &e.A.Statement, &e.B.Statement
	switch {
	case e.Version != Version:
		return Place{}, fmt.Errorf("%w: version %d, want %d", ErrEvidence, e.Version, Version)
	case e.A.Signer != e.B.Signer:
		return Place{}, fmt.Errorf("%w: the statements are of members %d and %d", ErrEvidence, e.A.Signer, e.B.Signer)
	case a.Epoch != b.Epoch:
		return Place{}, fmt.Errorf("%w: the statements are of epochs %d and %d", ErrEvidence, a.Epoch, b.Epoch)
	case bytes.Compare(mustMarshal(a), mustMarshal(b)) >= 0:
		return Place{}, fmt.Errorf("%w: the statements are equal, or not in order", ErrEvidence)
	}
	offence := Contradict(a, b)
	if offence == 0 {
		return Place{}, fmt.Errorf("%w: an honest member may sign the %s at view %d height %d and the %s at view %d height %d", ErrEvidence,
			a.Kind, a.View, a.Height, b.Kind, b.View, b.Height)
	}
	p := Place{Epoch: a.Epoch, Member: e.A.Signer, Offence: offence, Kind: a.Kind, View: a.View, Height: a.Height}
	if a.Kind == ViewChange {
		p.Height = 0
	}
	return p, nil
}

// Contradict returns which promise a member broke that signed both statements, in whichever order, or 0 when an honest one
// may have. Heartbeats promise nothing.
func Contradict(a, b *Statement) Offence {
	if a.Epoch != b.Epoch {
		return 0
	}
	if a.Kind > b.Kind {
		a, b = b, a
	}
	differ := a.Order != b.Order || a.Block != b.Block
	switch {
	case a.Kind == Commit && b.Kind == ViewChange:
		if b.View > a.View && b.High.Compare(a.Rank()) < 0 {
			return Amnesia
		}
	case a.Kind != b.Kind:
	case a.Kind == ViewChange:
		if a.View == b.View && *a != *b {
			return Equivocation
		}
	case a.Kind == Propose || a.Kind == Prepare || a.Kind == Commit:
		if a.Rank() == b.Rank() && differ {
			return Equivocation
		}
	case a.Kind == Attest:
		if a.Height == b.Height && differ {
			return Equivocation
		}
	}
	if a.Kind == b.Kind && (a.Kind == Commit || a.Kind == Attest) && a.Order == b.Order && a.Block != b.Block {
		return Divergence
	}
	return 0
}

// Verify checks, with nothing but the members of the statements' epoch, that the member which the evidence names
// signed both statements for this chain and group, and that they contradict one another. It fails with ErrEvidence.
func (e *Evidence) Verify(s keys.Suite, chain keys.Digest, group GroupID, epoch *Epoch) error {
	place, err := e.Place()
	switch {
	case err != nil:
		return err
	case place.Epoch != epoch.Number:
		return fmt.Errorf("%w: it is of epoch %d, the members given are those of %d", ErrEvidence, place.Epoch, epoch.Number)
	case int64(place.Member) >= int64(len(epoch.Members)):
		return fmt.Errorf("%w: member %d of %d", ErrEvidence, place.Member, len(epoch.Members))
	}
	m := &epoch.Members[place.Member]
	key, err := s.ParsePublic(m.Key.Algorithm, m.Key.Bytes)
	if err != nil {
		return fmt.Errorf("key of member %d (%s): %w", place.Member, m.Institution, err)
	}
	for _, v := range []*Vote{&e.A, &e.B} {
		if err := key.Verify(v.Statement.Digest(s, chain, group), v.Signature); err != nil {
			return fmt.Errorf("%w: %s at view %d height %d: %w", ErrEvidence, v.Statement.Kind, v.Statement.View, v.Statement.Height, err)
		}
	}
	return nil
}
