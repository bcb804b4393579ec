// Package identity says whom a key stands for: an institution, an agency, a set of roles.
//
// It is one of the three leaf packages with a compatibility promise.
package identity

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/fondaco/fondaco/state/keys"
)

// NodeID names a node for its whole life: the digest of its long-term public key.
type NodeID keys.Digest

// String returns the id as 0x and 64 hexadecimal digits.
func (id NodeID) String() string { return keys.Digest(id).String() }

// Short returns the first four bytes in hexadecimal, for logs.
func (id NodeID) Short() string { return keys.Digest(id).Short() }

// MarshalText implements encoding.TextMarshaler.
func (id NodeID) MarshalText() ([]byte, error) { return keys.Digest(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *NodeID) UnmarshalText(text []byte) error { return (*keys.Digest)(id).UnmarshalText(text) }

// NodeIDOf returns the id of the node whose long-term key is key.
func NodeIDOf(s keys.Suite, key keys.PublicKey) NodeID {
	return NodeID(keys.Hash(s, "node", []byte{byte(key.Algorithm())}, key.Bytes()))
}

// Role says what an identity may do. Roles are strings so that a chain can add its own.
type Role string

// The roles that the system contracts know.
const (
	Committee        Role = "committee"
	Regulator        Role = "regulator"
	Auditor          Role = "auditor"
	InstitutionAdmin Role = "institution-admin"
	Deployer         Role = "deployer"
	Owner            Role = "owner"
	User             Role = "user"
	Operator         Role = "operator"
	Registrar        Role = "registrar"
	Compliance       Role = "compliance"
	Node             Role = "node" // to run a node: vouched for by certificates, of no use to an account
)

// Identity is what is known of the holder of a key.
type Identity struct {
	Institution string
	Agency      string // the certificate authority of the institution that vouched; may be empty
	Roles       []Role // sorted, without duplicates
	Key         keys.PublicKey
	Serial      string    // of the certificate; empty where the key itself is listed on chain
	NotAfter    time.Time // zero: no end
	Issuers     []string  // from the one that signed up to the root
	Paths       []Path    // by which certificates vouch; empty where the key itself is listed on chain
}

// Path is a way of certificates from the holder's own up to a root, named by the fingerprints of its ends.
type Path struct {
	_    struct{}    `cbor:",toarray"`
	Leaf keys.Digest // of the holder's certificate
	Root keys.Digest // of the certificate that a verifier trusts without another
}

// Compare orders paths by leaf, then by root.
func (p Path) Compare(o Path) int {
	return cmp.Or(bytes.Compare(p.Leaf[:], o.Leaf[:]), bytes.Compare(p.Root[:], o.Root[:]))
}

// Has reports whether the identity holds the role.
func (i Identity) Has(r Role) bool { return slices.Contains(i.Roles, r) }

// Verifier turns a certificate chain, leaf first, into an identity valid at a time, or says in words an
// operator can act on why it will not.
type Verifier interface {
	Verify(ctx context.Context, chain [][]byte, at time.Time) (Identity, error)
}
