package transport

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Version is the version of the protocol between nodes that this package speaks.
const Version = 1

// Bounds on a Hello, against strangers.
const (
	MaxHelloSize    = 32 << 10 // room for a chain of four X.509 certificates with long names
	MaxGroups       = 256
	MaxCertificates = 8
	MaxInfo         = 16  // entries
	MaxInfoSize     = 128 // bytes of a key, and of a value
)

// Hello is what a node says of itself first on each connection. Its proof follows; until then nothing in it
// is to be believed.
type Hello struct {
	_            struct{} `cbor:",toarray"`
	Version      uint16
	Chain        keys.Digest
	Groups       []ledger.GroupID // sorted, without duplicates
	Node         identity.NodeID
	Algorithm    keys.Algorithm
	Key          []byte   // the node's long-term public key in canonical form
	Certificates [][]byte // DER, leaf first; may be empty where keys are listed on chain
	Connection   Class
	Instance     uint64            // random per start of the node's process
	Nonce        [32]byte          // random per connection
	Info         map[string]string // for operators: "software", "engine", "wazero", "arch", "clock"; decides nothing
	Inner        []byte            // point of the curve of SM2 to agree on keys of the inner layer with, new for each connection; empty: none
}

// infoClock is the entry of Hello.Info with the sender's clock in Unix milliseconds, in decimal digits.
const infoClock = "clock"

// clockNotice is the least difference of clocks that is worth a word. Chains refuse blocks that are seconds from a voter's clock.
const clockNotice = 2 * time.Second

// ahead returns how much the sender's clock is ahead of now, less what the Hello took to arrive; nil if it does not say.
func (h *Hello) ahead(now time.Time) *time.Duration {
	text, told := h.Info[infoClock]
	milli, err := strconv.ParseInt(text, 10, 64)
	if !told || err != nil {
		return nil
	}
	return new(time.UnixMilli(milli).Sub(now))
}

// clockWords says by how much the clock of a node differs from that of node self, if that is worth a word.
func clockWords(node, self identity.NodeID, ahead *time.Duration) string {
	if ahead == nil || ahead.Abs() < clockNotice {
		return ""
	}
	if *ahead < 0 {
		node, self = self, node
	}
	return fmt.Sprintf("the clock of node %s is %v ahead of that of node %s: set the one that is wrong", node.Short(), ahead.Abs().Round(time.Second), self.Short())
}

// withClocks adds what clockWords says, if anything, to why a node is not let in: a certificate and a revocation list end by a clock. The reason is cut where both
// would be too long to be sent.
func withClocks(reason, clocks string) string {
	if clocks == "" {
		return reason
	}
	return reason[:min(len(reason), maxReason-len("; ")-len(clocks))] + "; " + clocks
}

// PublicKey returns the node's long-term public key.
func (h *Hello) PublicKey(s keys.Suite) (keys.PublicKey, error) {
	return s.ParsePublic(h.Algorithm, h.Key)
}

// decodeHello reads a Hello and checks its form. self is the reader's node id, for the words of errors.
func decodeHello(data []byte, self identity.NodeID) (*Hello, *HandshakeError) {
	var (
		fields  []ledger.RawMessage
		version uint16
	)
	// The version comes first, so that it can be told from a Hello of another shape.
	if err := ledger.Unmarshal(data, &fields); err != nil || len(fields) == 0 {
		return nil, refuse(CodeMalformed, "hello is not a canonical CBOR array")
	}
	if err := ledger.Unmarshal(fields[0], &version); err != nil {
		return nil, refuse(CodeMalformed, "hello does not begin with a version")
	}
	if version != Version {
		return nil, refuse(CodeVersion, "peer speaks protocol %d, node %s speaks %d: run releases that speak the same on both",
			version, self, Version)
	}
	h := new(Hello)
	if err := ledger.Unmarshal(data, h); err != nil {
		return nil, refuse(CodeMalformed, "hello: %v", err)
	}
	switch {
	case h.Connection != ClassConsensus && h.Connection != ClassBulk:
		return nil, refuse(CodeMalformed, "hello asks for connection %d, want 1 (consensus) or 2 (bulk)", h.Connection)
	case len(h.Groups) > MaxGroups:
		return nil, refuse(CodeMalformed, "hello lists %d groups, at most %d are allowed", len(h.Groups), MaxGroups)
	case !slices.IsSorted(h.Groups) || len(slices.Compact(slices.Clone(h.Groups))) != len(h.Groups):
		return nil, refuse(CodeMalformed, "hello lists groups out of order or twice")
	case len(h.Certificates) > MaxCertificates:
		return nil, refuse(CodeMalformed, "hello holds %d certificates, at most %d are allowed", len(h.Certificates), MaxCertificates)
	case len(h.Inner) != 0 && len(h.Inner) != keys.PointSize:
		return nil, refuse(CodeMalformed, "hello offers %d bytes for the inner layer, want none or %d", len(h.Inner), keys.PointSize)
	case len(h.Info) > MaxInfo:
		return nil, refuse(CodeMalformed, "hello holds %d entries of information, at most %d are allowed", len(h.Info), MaxInfo)
	}
	for k, v := range h.Info {
		if len(k) > MaxInfoSize || len(v) > MaxInfoSize {
			return nil, refuse(CodeMalformed, "hello holds information of more than %d bytes", MaxInfoSize)
		}
	}
	return h, nil
}

// matches checks theirs, which is well formed, against h, this node's own. It does not check the proof.
func (h *Hello) matches(theirs *Hello, s keys.Suite) *HandshakeError {
	if theirs.Chain != h.Chain {
		return refuse(CodeChain, "chain differs: node %s has %s, node %s has %s: start both from one genesis file",
			h.Node, h.Chain, theirs.Node, theirs.Chain)
	}
	if theirs.Node == h.Node {
		return refuse(CodeSelf, "node %s reached itself: take its own address off its list of peers, or give the other node its own key", h.Node)
	}
	if theirs.Algorithm != h.Algorithm {
		return refuse(CodeIdentity, "node %s has a key of algorithm %s, nodes of this chain have %s", theirs.Node, theirs.Algorithm, h.Algorithm)
	}
	key, err := theirs.PublicKey(s)
	if err != nil {
		return refuse(CodeIdentity, "key of node %s: %v", theirs.Node, err)
	}
	if id := identity.NodeIDOf(s, key); id != theirs.Node {
		return refuse(CodeIdentity, "node id %s does not belong to the key that came with it, which makes %s", theirs.Node, id)
	}
	if !slices.ContainsFunc(theirs.Groups, func(g ledger.GroupID) bool { return slices.Contains(h.Groups, g) }) {
		return refuse(CodeGroups, "no group in common: node %s has %q, node %s has %q", h.Node, h.Groups, theirs.Node, theirs.Groups)
	}
	return nil
}

// role tells the two proofs of one connection apart, so that neither can be reflected.
type role byte

const (
	roleClient role = 1 // opened the QUIC connection
	roleServer role = 2
)

// binding is what ties a proof to one connection.
type binding struct {
	exporter               [32]byte    // TLS exporter, label "EXPORTER-Channel-Binding" (RFC 9266), no context
	helloClient            keys.Digest // Hash("hello", bytes as sent)
	helloServer            keys.Digest
	certClient, certServer keys.Digest // Hash("spki", SubjectPublicKeyInfo of the TLS certificate)
}

// digest returns what the node in the role signs with its long-term key.
func (b *binding) digest(s keys.Suite, r role) keys.Digest {
	return keys.Hash(s, proofThing, b.preimage(r))
}

// proofThing is what keys.Hash takes a proof of identity for.
const proofThing = "id"

// preimage returns 161 bytes: role, exporter and the four digests. All parts have fixed lengths, so there is
// one way to read it.
func (b *binding) preimage(r role) []byte {
	return bytes.Join([][]byte{
		{byte(r)}, b.exporter[:], b.helloClient[:], b.helloServer[:], b.certClient[:], b.certServer[:],
	}, nil)
}
