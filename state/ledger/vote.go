package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/fondaco/fondaco/state/keys"
)

// ErrCertificate says that a certificate does not prove its statement.
var ErrCertificate = errors.New("ledger: certificate does not verify")

// ErrRecovery says that no quorum made a block final but the survivors of a disaster, and that the verifier was not
// told to accept that. See [Certificate.Recovers].
var ErrRecovery = errors.New("ledger: the block is final by a recovery that was not accepted")

// StatementKind says what a member states when it signs.
type StatementKind uint8

// The statements that members sign.
const (
	Propose    StatementKind = 1 // "I propose Order at (View, Height)"
	Prepare    StatementKind = 2 // "I accept Order at (View, Height)"
	Commit     StatementKind = 3 // "Order at (View, Height) is certified and gives Block"
	ViewChange StatementKind = 4 // "I entered View; I committed Block at Height; my highest certificate is High, on Order"
	Heartbeat  StatementKind = 5 // "I lead View; I committed Block at Height"
	Attest     StatementKind = 6 // "Order gives Block": signed after the fact, under engines without votes
	Recover    StatementKind = 7 // "Order gives Block, and I vote for nothing else in Epoch": signed by survivors of a disaster
)

// String returns the kind in the glossary's words.
func (k StatementKind) String() string {
	names := [...]string{"none", "propose", "prepare", "commit", "view-change", "heartbeat", "attest", "recover"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("statement(%d)", uint8(k))
}

// Rank orders certificates of one epoch: by view, then by height.
type Rank struct {
	_      struct{} `cbor:",toarray"`
	View   uint64
	Height Height
}

// Compare returns -1, 0 or 1 as r is below, equal to or above o.
func (r Rank) Compare(o Rank) int {
	switch {
	case r.View != o.View:
		if r.View < o.View {
			return -1
		}
		return 1
	case r.Height != o.Height:
		if r.Height < o.Height {
			return -1
		}
		return 1
	default:
		return 0
	}
}

// Statement is the only thing that a node's vote key signs.
type Statement struct {
	_      struct{} `cbor:",toarray"`
	Kind   StatementKind
	Epoch  uint64
	View   uint64
	Height Height
	Order  keys.Digest // order hash
	Block  keys.Digest // block hash, or zero where the kind has none
	High   Rank        // with ViewChange: rank of the highest certificate held
	Seq    uint64      // with Heartbeat: a counter that makes each one new
}

// Rank returns the statement's place among certificates.
func (st Statement) Rank() Rank { return Rank{View: st.View, Height: st.Height} }

// Digest returns what is signed: it binds the statement to a chain and a group.
func (st Statement) Digest(s keys.Suite, chain keys.Digest, group GroupID) keys.Digest {
	return keys.Hash(s, StatementThing, st.message(chain, group)...)
}

// StatementThing is what keys.Hash takes statements for.
const StatementThing = "bft"

func (st Statement) message(chain keys.Digest, group GroupID) [][]byte {
	return [][]byte{chain[:], {byte(len(group))}, []byte(group), mustMarshal(&st)}
}

// Sign returns the signer's signature of what Digest returns.
func (st Statement) Sign(s keys.Suite, signer keys.Signer, chain keys.Digest, group GroupID) ([]byte, error) {
	return keys.SignHash(s, signer, StatementThing, st.message(chain, group)...)
}

// ParseStatement reads what a signer is shown of a statement: the message that keys.Hash takes with StatementThing. Anything that is
// not exactly that is an error, which tells what is wrong.
func ParseStatement(message []byte) (chain keys.Digest, group GroupID, st Statement, err error) {
	if len(message) < keys.DigestSize+1 {
		return chain, group, st, fmt.Errorf("%w: a statement's message of %d bytes", ErrEncoding, len(message))
	}
	copy(chain[:], message)
	length, rest := int(message[keys.DigestSize]), message[keys.DigestSize+1:]
	if length > len(rest) {
		return chain, group, st, fmt.Errorf("%w: a statement's message ends in its group", ErrEncoding)
	}
	group = GroupID(rest[:length])
	if err := group.Check(); err != nil {
		return chain, group, st, err
	}
	err = Unmarshal(rest[length:], &st)
	return chain, group, st, err
}

// Vote is a statement signed by a member.
type Vote struct {
	_         struct{} `cbor:",toarray"`
	Signer    uint32   // member number in the statement's epoch
	Statement Statement
	Signature []byte
}

// Certificate is a statement that a quorum signed. The zero Certificate is none.
type Certificate struct {
	_          struct{} `cbor:",toarray"`
	Statement  Statement
	Signers    []byte   // bitmap: member i is bit i%8 of byte i/8; no trailing zero bytes
	Signatures [][]byte // of the members whose bit is set, in rising order
}

// IsZero reports whether c is no certificate.
func (c *Certificate) IsZero() bool { return c.Statement.Kind == 0 }

// Count returns how many members signed.
func (c *Certificate) Count() int {
	n := 0
	for _, b := range c.Signers {
		n += bits.OnesCount8(b)
	}
	return n
}

// Members returns the numbers of the members that signed, in rising order.
func (c *Certificate) Members() []uint32 {
	var members []uint32
	for i := range len(c.Signers) * 8 {
		if c.Signers[i/8]&(1<<(i%8)) != 0 {
			members = append(members, uint32(i))
		}
	}
	return members
}

// NewCertificate makes a certificate of votes that all state the same, sorted by signer without duplicates.
// The signers must be numbers of members: their bitmap is as long as the highest demands.
func NewCertificate(votes []Vote) Certificate {
	var c Certificate
	for _, v := range votes {
		c.Statement = v.Statement
		for len(c.Signers) <= int(v.Signer/8) {
			c.Signers = append(c.Signers, 0)
		}
		c.Signers[v.Signer/8] |= 1 << (v.Signer % 8)
		c.Signatures = append(c.Signatures, v.Signature)
	}
	return c
}

// NewView proves that a quorum entered a view, and which certificate its leader must build on: the highest
// of those that the signed ViewChange statements claim.
type NewView struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64
	View  uint64
	Votes []Vote      // a quorum of ViewChange statements, in rising order of signer
	High  Certificate // the certificate of the highest rank claimed; zero when all claim the epoch's start
}

// Digest returns the new-view's digest, as Order.NewView holds it.
func (n *NewView) Digest(s keys.Suite) keys.Digest { return keys.Hash(s, "new-view", mustMarshal(n)) }

// Quorum returns how many of n members must vote alike for the vote to hold while up to f = (n-1)/3 of them
// lie: any two such sets share at least f+1 members. It is 2f+1 when n = 3f+1 (Castro and Liskov,
// OSDI 1999) and more otherwise; for n = 5, 2f+1 would be unsafe.
func Quorum(n int) int { return (n+Faulty(n))/2 + 1 }

// Quorum returns how many of n members must state the same for a certificate of this kind. Attestations are made in
// groups whose members do not lie, where any majority does; a recovery takes so many that one of them is honest, as
// there may be no quorum left; all else counts on f that may lie, see [Quorum].
func (k StatementKind) Quorum(n int) int {
	switch k {
	case Attest:
		return n/2 + 1
	case Recover:
		return Faulty(n) + 1
	default:
		return Quorum(n)
	}
}

// Faulty returns how many of n members may fail while the others still make certificates of this kind: by lying as well,
// see [Faulty], or, where all are trusted not to, by being down.
func (k StatementKind) Faulty(n int) int {
	if k == Attest {
		return n - k.Quorum(n)
	}
	return Faulty(n)
}

// Faulty returns how many of n members may lie without harm: f = (n-1)/3.
func Faulty(n int) int { return (n - 1) / 3 }

// Verify checks that a quorum of members signed the certificate's statement for the chain and group.
func (c *Certificate) Verify(s keys.Suite, chain keys.Digest, group GroupID, members []keys.PublicKey) error {
	if c.IsZero() {
		return fmt.Errorf("%w: there is none", ErrCertificate)
	}
	if n := len(c.Signers); n > 0 && c.Signers[n-1] == 0 || n > (len(members)+7)/8 {
		return fmt.Errorf("%w: bitmap of %d bytes for %d members", ErrCertificate, n, len(members))
	}
	signers := c.Members()
	if len(signers) != len(c.Signatures) {
		return fmt.Errorf("%w: %d signers and %d signatures", ErrCertificate, len(signers), len(c.Signatures))
	}
	if want := c.Statement.Kind.Quorum(len(members)); len(signers) < want {
		return fmt.Errorf("%w: %d of %d members signed, want %d", ErrCertificate, len(signers), len(members), want)
	}
	if last := signers[len(signers)-1]; int(last) >= len(members) {
		return fmt.Errorf("%w: signer %d of %d members", ErrCertificate, last, len(members))
	}
	digest := c.Statement.Digest(s, chain, group)
	if len(signers) <= batchFrom {
		for i, m := range signers {
			if err := members[m].Verify(digest, c.Signatures[i]); err != nil {
				return fmt.Errorf("%w: member %d: %w", ErrCertificate, m, err)
			}
		}
		return nil
	}
	batch := s.NewBatch()
	for i, m := range signers {
		batch.Add(members[m], digest, c.Signatures[i])
	}
	for i, valid := range batch.Verify() {
		if !valid {
			return fmt.Errorf("%w: member %d: %w", ErrCertificate, signers[i], keys.ErrSignature)
		}
	}
	return nil
}

// batchFrom is the most signatures that are checked one by one: a batch of fewer saves under a third.
const batchFrom = 8

// Finalizes checks that the certificate makes the block with this header final: a quorum of members, who must
// be those of the header's epoch, stated that the header's order gives exactly this block. The block of height
// 0 has no certificate: it is what the chain's genesis says. finality is Genesis.Finality; zero stands for Commit.
//
// accepted are the hashes of the blocks that the caller takes from survivors of a disaster (see Recovers). They are a
// person's word, as the genesis is: f+1 members could else rewrite what a quorum agreed on. Without that word such a
// block fails with ErrRecovery.
func (c *Certificate) Finalizes(s keys.Suite, h *Header, finality StatementKind, members []keys.PublicKey, accepted ...keys.Digest) error {
	switch kind := c.Statement.Kind; {
	case kind == Recover && !slices.Contains(accepted, h.Hash(s)):
		return fmt.Errorf("%w: %d members signed block %d, %s, to go on after a disaster, and no quorum did; ask the institutions whether that is "+
			"the block that they agreed on", ErrRecovery, c.Count(), h.Order.Height, h.Hash(s))
	case kind == Recover:
		return c.Recovers(s, h, members)
	case kind != cmp.Or(finality, Commit):
		return fmt.Errorf("%w: %s statements make no block final in this group", ErrCertificate, kind)
	}
	return c.proves(s, h, members)
}

// Recovers checks that the certificate is one of survivors: at least f+1 members of the header's epoch, so an honest one
// among them, stated that the chain goes on with exactly this block, and that they vote for no other one of the epoch.
func (c *Certificate) Recovers(s keys.Suite, h *Header, members []keys.PublicKey) error {
	if c.Statement.Kind != Recover {
		return fmt.Errorf("%w: %s statements recover nothing", ErrCertificate, c.Statement.Kind)
	}
	return c.proves(s, h, members)
}

// RecoverStatement returns what survivors sign to make the block with a header final.
func RecoverStatement(s keys.Suite, h *Header) Statement {
	return Statement{Kind: Recover, Epoch: h.Order.Epoch, Height: h.Order.Height, Order: h.Order.Hash(s), Block: h.Hash(s)}
}

// proves checks that as many members as its kind takes signed the certificate's statement, and that it is about the
// block with this header.
func (c *Certificate) proves(s keys.Suite, h *Header, members []keys.PublicKey) error {
	st := &c.Statement
	switch {
	case st.Epoch != h.Order.Epoch || st.Height != h.Order.Height:
		return fmt.Errorf("%w: it is for height %d of epoch %d, the block is at height %d of epoch %d", ErrCertificate,
			st.Height, st.Epoch, h.Order.Height, h.Order.Epoch)
	case st.Order != h.Order.Hash(s) || st.Block != h.Hash(s):
		return fmt.Errorf("%w: it is for another block at height %d", ErrCertificate, st.Height)
	}
	return c.Verify(s, h.Order.Chain, h.Order.Group, members)
}
