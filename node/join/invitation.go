package join

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const invitationLabel = "FONDACO INVITATION"

// Limits of an invitation.
const (
	MaxInvitation = 24 << 20 // bytes of its text: a claim and the lists of a CA provider, as text, and the rest
	MaxPeers      = 1024
	MaxFiles      = 256
	MaxName       = 64 // bytes of a file's name
)

// MaxAge is how long after the time of its anchor an invitation may be used. No maker of one can lie about that time.
const MaxAge = 30 * 24 * time.Hour

// ErrOld says that an invitation is older than MaxAge.
var ErrOld = errors.New("the invitation is too old")

// invitationThing is what keys.Hash takes an invitation for.
const invitationThing = "invitation"

// Invitation is what a member of a group gives to the operator of a node that the group admitted. See Open for what it proves.
type Invitation struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16
	Suite       string
	Node        identity.NodeID // whom it is for
	Institution string          // of that node, by the chain
	Genesis     ledger.Genesis
	Anchor      []byte   // canonical encoding of a ledger.Claim of the newest header, and that the node is admitted by the state after it; empty: see Open
	Peers       []Peer   // sorted by node, at least one
	Chain       [][]byte // DER of the node's certificates, its own first; may be empty
	CA          *CA      // nil: nodes of the group need no certificates, as far as the inviting member asks for them
	Engine      []byte   // SHA-256 of the engine's program that the inviting member runs; empty: the one that is shipped
	Sync        string   // how to begin, as cli.NetworkSection.Sync
	UnixMilli   int64    // when it was made, by its maker's clock
	Signer      ledger.Key
	Signature   []byte // by Signer
}

// Peer is a node to connect to.
type Peer struct {
	_           struct{} `cbor:",toarray"`
	Node        identity.NodeID
	Institution string
	Address     string // host:port, UDP
}

// CA is the CA provider that the inviting member asks.
type CA struct {
	_        struct{} `cbor:",toarray"`
	Program  string   // name of a shipped program, or the file name of another one
	SHA256   []byte   // of a program that is not shipped; empty: it is
	Settings []byte   // of a shipped program, in which paths are names of Files; empty: they cannot be passed on
	Files    []File   // sorted by name: roots and revocation lists, nothing secret
}

// File is a file that settings name.
type File struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Data []byte
}

var fileForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

// said returns the canonical encoding of all but the signature.
func (i *Invitation) said() ([]byte, error) {
	unsigned := *i
	unsigned.Signature = nil
	return ledger.Marshal(&unsigned)
}

// Sign fills in Version, Suite, Signer and Signature by the key of a member's node, and puts lists in order.
func (i *Invitation) Sign(s keys.Suite, key keys.Signer) error {
	i.Version, i.Suite, i.Signer = version, s.Name(), ledger.KeyOf(key.Public())
	slices.SortFunc(i.Peers, func(a, b Peer) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	if i.CA != nil {
		slices.SortFunc(i.CA.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	}
	said, err := i.said()
	if err == nil {
		i.Signature, err = keys.SignHash(s, key, invitationThing, said)
	}
	return err
}

// Encode returns the text of a signed invitation.
func (i *Invitation) Encode() ([]byte, error) {
	s, err := keys.SuiteByName(i.Suite)
	if err != nil {
		return nil, err
	}
	return encode(invitationLabel, s, i)
}

// DecodeInvitation reads the text of an invitation and checks its form. Open checks what it says.
func DecodeInvitation(text []byte) (*Invitation, keys.Suite, error) {
	i := new(Invitation)
	s, err := decode(invitationLabel, text, MaxInvitation, i)
	if err != nil {
		return nil, nil, err
	}
	if err := i.check(s); err != nil {
		return nil, nil, err
	}
	again, err := i.Encode()
	if err != nil {
		return nil, nil, err
	}
	if !same(text, again) {
		return nil, nil, fmt.Errorf("%w: there is more in it than one invitation", ErrDamaged)
	}
	return i, s, nil
}

func (i *Invitation) check(s keys.Suite) error {
	if i.Version != version || i.Suite != s.Name() || i.Genesis.Suite != s.Name() {
		return fmt.Errorf("%w: version %d for suite %q and a genesis of suite %q, want %d for %q", ErrVersion, i.Version, i.Suite, i.Genesis.Suite, version, s.Name())
	}
	if err := checkInstitution(i.Institution); err != nil {
		return err
	}
	if len(i.Peers) == 0 || len(i.Peers) > MaxPeers {
		return fmt.Errorf("the invitation names %d nodes to connect to, want 1 to %d", len(i.Peers), MaxPeers)
	}
	for n, p := range i.Peers {
		if n > 0 && bytes.Compare(i.Peers[n-1].Node[:], p.Node[:]) >= 0 {
			return errors.New("the invitation's nodes are not in order")
		}
		if p.Node == i.Node {
			return errors.New("the invitation names the invited node as one to connect to")
		}
		if err := errors.Join(checkInstitution(p.Institution), checkAddress(p.Address)); err != nil {
			return fmt.Errorf("node %s: %w", p.Node.Short(), err)
		}
	}
	if len(i.Chain) > ca.MaxChain {
		return fmt.Errorf("the invitation has a chain of %d certificates, want at most %d", len(i.Chain), ca.MaxChain)
	}
	for _, der := range i.Chain {
		if len(der) == 0 || len(der) > ca.MaxCertificate {
			return fmt.Errorf("a certificate of the invitation has %d bytes, want 1 to %d", len(der), ca.MaxCertificate)
		}
	}
	if n := len(i.Engine); n != 0 && n != 32 {
		return fmt.Errorf("the checksum of the engine's program has %d bytes, want 32", n)
	}
	if i.CA == nil {
		return nil
	}
	if n := len(i.CA.SHA256); n != 0 && n != 32 {
		return fmt.Errorf("the checksum of the CA provider's program has %d bytes, want 32", n)
	}
	if p := i.CA.Program; !fileForm.MatchString(p) || len(p) > MaxName {
		return fmt.Errorf("the CA provider's program is %q, want a name of a-z, 0-9, . and -", p)
	}
	if len(i.CA.Settings) > ca.MaxSettings || len(i.CA.Files) > MaxFiles {
		return fmt.Errorf("the CA provider has settings of %d bytes and %d files, want at most %d and %d", len(i.CA.Settings), len(i.CA.Files), ca.MaxSettings, MaxFiles)
	}
	for n, f := range i.CA.Files {
		if !fileForm.MatchString(f.Name) || len(f.Name) > MaxName || n > 0 && i.CA.Files[n-1].Name >= f.Name {
			return fmt.Errorf("%q is no name of a file of the CA provider, or not in order: want a-z, 0-9, . and -", f.Name)
		}
	}
	return nil
}

// Opened is what an invitation proves of itself.
type Opened struct {
	Chain  keys.Digest     // the chain's id; whether it is the right one, only people can tell
	Signer identity.NodeID // who invites, a member in Epoch
	Member ledger.Member   // the same, by the chain
	Epoch  ledger.Epoch    // of the anchor
	Head   *ledger.Header  // the anchor's; nil: the chain has only block 0
}

// Open checks what an invitation says. The genesis leads to the anchor by one certified header for each epoch, the state after it has the
// invited node as one that the group admitted, and a member of the anchor's epoch signed the invitation. So who was a member before
// the node was admitted, and is none any more, invites nobody; who ceased to be one since can, until MaxAge (CheckAge), and the
// node finds that out when it has the blocks of then (group.Inviter). An invitation without an anchor is for a founder of the chain, whom the genesis
// admits. All stands and falls with the genesis: whoever makes a genesis of his own makes invitations to it, and the chain's id must be compared
// with what is known from elsewhere.
//
// What else it says is the signer's word: the CA roots and the way to begin. The nodes prove their ids
// when they connect, so a wrong address comes to no more than no connection. accepted is as for ledger.Claim.Verify, which tells how it fails.
func (i *Invitation) Open(s keys.Suite, accepted ...keys.Digest) (*Opened, error) {
	if err := i.Genesis.Check(s); err != nil {
		return nil, fmt.Errorf("the invitation's genesis: %w", err)
	}
	o := &Opened{Chain: i.Genesis.Hash(s), Epoch: *i.Genesis.Epoch()}
	if len(i.Anchor) > 0 {
		if err := i.openAnchor(s, o, accepted); err != nil {
			return nil, err
		}
	} else if m := o.member(i.Node); m == nil || m.Institution != i.Institution {
		return nil, fmt.Errorf("%w: it has no anchor, and the genesis has no node %s of %s: only founders begin without one", ErrForged, i.Node.Short(), i.Institution)
	}
	key, err := s.ParsePublic(i.Signer.Algorithm, i.Signer.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key that signed the invitation: %w", err)
	}
	said, err := i.said()
	if err != nil {
		return nil, err
	}
	o.Signer = identity.NodeIDOf(s, key)
	if err := key.Verify(keys.Hash(s, invitationThing, said), i.Signature); err != nil {
		return nil, fmt.Errorf("%w: node %s did not sign this invitation: %w", ErrForged, o.Signer.Short(), err)
	}
	signer := o.member(o.Signer)
	if signer == nil {
		return nil, fmt.Errorf("%w: node %s is no member of the chain in epoch %d, and only members invite", ErrForged, o.Signer, o.Epoch.Number)
	}
	o.Member = *signer
	return o, nil
}

// openAnchor checks the anchor and says what it proves.
func (i *Invitation) openAnchor(s keys.Suite, o *Opened, accepted []keys.Digest) error {
	claim, err := ledger.DecodeClaim(i.Anchor)
	if err != nil {
		return fmt.Errorf("the invitation's anchor: %w", err)
	}
	if claim.History != nil || claim.Genesis != nil || claim.Tx != nil || claim.Receipt != nil || claim.Event != nil {
		return fmt.Errorf("the invitation's anchor: %w: it claims more than a header and the state of a node", ledger.ErrClaim)
	}
	if err := claim.Verify(s, o.Chain, i.Genesis.Group, i.Genesis.Finality(), i.Genesis.Epoch(), accepted...); err != nil {
		return fmt.Errorf("the invitation's anchor does not follow from its genesis: %w", err)
	}
	for n := range claim.Epochs { // Verify passes over those that it needs not
		if o.Epoch = claim.Epochs[n].Epoch; o.Epoch.Number != uint64(n)+1 {
			return fmt.Errorf("the invitation's anchor: %w: epoch %d is not the next after %d", ledger.ErrClaim, o.Epoch.Number, n)
		}
	}
	o.Head = &claim.Header
	if st := claim.State; st == nil || !st.Present || !bytes.Equal(st.Key, append(precompiles.NodeKeys(), i.Node[:]...)) {
		return fmt.Errorf("the invitation's anchor: %w: it does not show that the group admitted node %s", ledger.ErrClaim, i.Node.Short())
	}
	admitted, err := precompiles.DecodeNode(claim.State.Key, claim.State.Value)
	switch {
	case err != nil:
		return fmt.Errorf("the invitation's anchor: %w: %w", ledger.ErrClaim, err)
	case admitted.Row.Status == precompiles.NodeDismissed || admitted.Row.Institution != i.Institution:
		return fmt.Errorf("%w: at block %d the group has node %s as %s of %s, and the invitation is for one of %s",
			ErrForged, o.Head.Order.Height, i.Node.Short(), admitted.Row.Status, admitted.Row.Institution, i.Institution)
	}
	return nil
}

// CheckAge fails with ErrOld if an invitation is used, at a time in Unix ms, more than MaxAge after its anchor.
func (o *Opened) CheckAge(unixMilli int64) error {
	if o.Head == nil {
		return nil
	}
	if made := time.UnixMilli(o.Head.Order.UnixMilli).UTC(); time.UnixMilli(unixMilli).Sub(made) > MaxAge {
		return fmt.Errorf("%w: its newest block, %d, is of %s, and it counts for %d days", ErrOld, o.Head.Order.Height, made.Format(time.RFC3339), MaxAge/(24*time.Hour))
	}
	return nil
}

// member returns a member of the epoch; nil: it is none.
func (o *Opened) member(id identity.NodeID) *ledger.Member {
	at := slices.IndexFunc(o.Epoch.Members, func(m ledger.Member) bool { return m.Node == id })
	if at < 0 {
		return nil
	}
	return &o.Epoch.Members[at]
}

// IsInvitation reports whether a text has the block of an invitation, whole or not.
func IsInvitation(text []byte) bool { return hasLabel(text, invitationLabel) }
