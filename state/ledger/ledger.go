// Package ledger holds what a group agrees on and keeps: headers, blocks, transactions, receipts,
// certificates and proofs, with one canonical encoding each.
//
// # Encoding
//
// Everything is CBOR in the core deterministic form of RFC 8949 §4.2.1. Wire structs are arrays of fixed
// length; those that are kept or sent on their own begin with a version, which fixes their form and that of
// what they hold. Decoding is strict: unknown or missing fields, duplicate keys, non-canonical forms and
// trailing bytes are errors, so that one value has one byte form.
//
// # Digests
//
// A digest covers "fondaco/<thing>/1", a zero byte and the canonical CBOR of the thing (see keys.Hash).
// Lists are committed to by the tree of RFC 6962 §2.1 under the chain's hash (see Root).
//
// It is one of the three leaf packages with a compatibility promise. Golden vectors are in testdata.
package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/state/keys"
)

// Version is the first element of the wire structs of this package that are kept or sent on their own.
const Version = 1

// ErrBlock says that a block is malformed: no state can make it valid.
var ErrBlock = errors.New("ledger: malformed block")

// Height is a block's distance from genesis, which has height 0.
type Height uint64

// GroupID names one ledger of a chain: 1 to 32 characters of a–z, 0–9 and '-'.
type GroupID string

// Check fails unless the id has the form that GroupID describes.
func (g GroupID) Check() error {
	if g == "" || len(g) > MaxGroupLength {
		return fmt.Errorf("group %q has %d characters, want 1 to %d", string(g), len(g), MaxGroupLength)
	}
	for _, c := range []byte(g) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("group %q has a character that is not of a-z, 0-9 and '-'", string(g))
		}
	}
	return nil
}

// Gas counts metered work. It is a limit and never money.
type Gas uint64

// AddressSize is the length of an address in bytes.
const AddressSize = 20

// Address names an account or a contract. It is assigned, not derived from a key: an account keeps its
// address when its keys change. The zero address is nobody.
type Address [AddressSize]byte

// IsZero reports whether a is the zero address.
func (a Address) IsZero() bool { return a == Address{} }

// String returns the address as 0x and 40 lower-case hexadecimal digits.
func (a Address) String() string { return "0x" + hex.EncodeToString(a[:]) }

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the form that String writes.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

// ParseAddress reads 0x and 40 hexadecimal digits.
func ParseAddress(s string) (Address, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil || len(raw) != AddressSize {
		return Address{}, fmt.Errorf("address %q: want 0x and 40 hexadecimal digits", s)
	}
	return Address(raw), nil
}

// AssignedAddress returns the address of the index-th account or contract that transaction tx creates.
func AssignedAddress(s keys.Suite, tx TxID, index uint32) Address {
	d := keys.Hash(s, "address", tx[:], []byte{byte(index >> 24), byte(index >> 16), byte(index >> 8), byte(index)})
	return Address(d[:AddressSize])
}

// NamedAddress returns the address of a genesis account or a system contract by its name.
func NamedAddress(s keys.Suite, kind, name string) Address {
	d := keys.Hash(s, "address/"+kind, []byte(name))
	return Address(d[:AddressSize])
}

// Order is the part of a header that is known before execution. Its digest is the order hash. It holds
// neither view nor result, so a block that is proposed again in a later view keeps its hash.
type Order struct {
	_         struct{} `cbor:",toarray"`
	Version   uint16
	Chain     keys.Digest // digest of the chain's genesis
	Group     GroupID
	Epoch     uint64
	Height    Height
	Parent    keys.Digest // the parent's order hash
	UnixMilli int64       // block time: greater than the parent's
	Proposer  uint32      // member number in the epoch
	TxRoot    keys.Digest // tree over the leaf digests of the signed transactions
	TxCount   uint32
	TxBytes   uint64
	GasLimit  Gas
	Barrier   bool        // the block ends its epoch
	NewView   keys.Digest // digest of the NewView that opened the view of the first proposal, or zero
	Extra     []byte      // at most MaxOrderExtra bytes, for the engine
}

// MaxOrderExtra bounds Order.Extra, so that a header has a bounded size.
const MaxOrderExtra = 256

// Hash returns the order hash.
func (o *Order) Hash(s keys.Suite) keys.Digest { return keys.Hash(s, "order", mustMarshal(o)) }

// Header is an order with its results. Its digest is the block hash.
type Header struct {
	_           struct{} `cbor:",toarray"`
	Order       Order
	Parent      keys.Digest // the parent's block hash; zero in genesis
	StateRoot   keys.Digest // world state after the block
	ReceiptRoot keys.Digest // tree over the digests of the receipts
	ChangeRoot  keys.Digest // tree over the digests of the sorted changes
	HistoryRoot keys.Digest // tree over the hashes of the blocks below this one
	GasUsed     Gas
	NextEpoch   keys.Digest // digest of the next epoch's members and parameters when Barrier is set, else zero
}

// Hash returns the block hash.
func (h *Header) Hash(s keys.Suite) keys.Digest { return keys.Hash(s, "block", mustMarshal(h)) }

// Block is a header with its transactions and the proof that it is final.
type Block struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16
	Header      Header
	Txs         [][]byte    // canonical encodings of Tx, in order of execution
	Certificate Certificate // zero in genesis
	NewView     *NewView    // what Header.Order.NewView is the digest of, or nil
}

// DecodeBlock reads a block from its canonical encoding and checks its form: versions, group, sizes. What it
// says is for the caller to check.
func DecodeBlock(raw []byte) (*Block, error) {
	var b Block
	if err := Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	order := &b.Header.Order
	switch {
	case b.Version != Version || order.Version != Version:
		return nil, fmt.Errorf("%w: version %d of a header of version %d, want %d", ErrBlock, b.Version, order.Version, Version)
	case len(order.Extra) > MaxOrderExtra:
		return nil, fmt.Errorf("%w: %d bytes for the engine, at most %d", ErrBlock, len(order.Extra), MaxOrderExtra)
	case len(b.Txs) != int(order.TxCount):
		return nil, fmt.Errorf("%w: %d transactions, and the header says %d", ErrBlock, len(b.Txs), order.TxCount)
	}
	if err := order.Group.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlock, err)
	}
	return &b, nil
}

// Decode reads and returns the block's transactions.
func (b *Block) Decode(s keys.Suite) ([]*SignedTx, error) {
	txs := make([]*SignedTx, len(b.Txs))
	for i, raw := range b.Txs {
		tx, err := DecodeTx(s, raw)
		if err != nil {
			return nil, fmt.Errorf("transaction %d of block %d: %w", i, b.Header.Order.Height, err)
		}
		txs[i] = tx
	}
	return txs, nil
}

// TxID is the digest of a transaction without its signatures.
type TxID keys.Digest

// String returns the id as 0x and 64 hexadecimal digits.
func (id TxID) String() string { return keys.Digest(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id TxID) MarshalText() ([]byte, error) { return keys.Digest(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *TxID) UnmarshalText(text []byte) error { return (*keys.Digest)(id).UnmarshalText(text) }

// Target names the contract that a transaction calls: by address, or by CNS name with an optional
// version. Exactly one of Address and Name is set.
type Target struct {
	_       struct{} `cbor:",toarray"`
	Address Address
	Name    string
	Version string
}

// String returns the address, or the name with @ and the version if there is one.
func (t Target) String() string {
	switch {
	case t.Name == "":
		return t.Address.String()
	case t.Version == "":
		return t.Name
	}
	return t.Name + "@" + t.Version
}

// Signature is one signer's signature over a transaction's id.
type Signature struct {
	_         struct{} `cbor:",toarray"`
	Algorithm keys.Algorithm
	Key       []byte // canonical form
	Signature []byte // 64 bytes
}

// Bounds on a transaction that any stranger may send.
const (
	MaxTxSize       = 64 << 10 // bytes of an ordinary transaction
	MaxDeployTxSize = 5 << 20  // bytes of a transaction to the contracts system contract: a Go module is 1.8–2.6 MB
	MaxSignatures   = 16
	MaxMethodLength = 64
	MaxNameLength   = 64
	MaxGroupLength  = 32
)

// Tx is a signed request to call a method of a contract. Its id is the digest of everything but
// Signatures.
type Tx struct {
	_          struct{} `cbor:",toarray"`
	Version    uint16
	Chain      keys.Digest
	Group      GroupID
	Sender     Address
	Nonce      [16]byte // random; makes equal requests distinct transactions
	Expiry     int64    // last block time, Unix ms, at which the transaction may be included
	GasLimit   Gas
	To         Target
	Method     string
	Args       []byte      // canonical CBOR of the arguments, by convention an array
	Signatures []Signature // sorted by Key, without duplicates
}

// SignedTx is a transaction with its encoding and digests, made once where it is received. It must not be
// changed.
type SignedTx struct {
	Tx
	ID   TxID
	Leaf keys.Digest // digest of Raw: what the transaction tree holds
	Raw  []byte      // canonical encoding of Tx
}

// Status says how a transaction ended. It is part of the receipt; the human reason is not.
type Status uint8

// The statuses of a receipt.
const (
	OK          Status = 0
	Aborted     Status = 1 // the contract refused; Code and Data are the contract's
	Trapped     Status = 2 // the contract's code is faulty
	OutOfGas    Status = 3
	OutOfDepth  Status = 4
	OutOfMemory Status = 5
	BadOutput   Status = 6 // the contract's output is not canonical CBOR or too large
	Denied      Status = 7 // a rule of the chain refused; Code tells which
	NotFound    Status = 8 // no such contract, method, name or account
)

// String returns the status in the words that the API uses.
func (s Status) String() string {
	names := [...]string{"ok", "aborted", "trapped", "out_of_gas", "out_of_depth", "out_of_memory", "bad_output", "denied", "not_found"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Event is named data that a contract emits into its receipt.
type Event struct {
	_        struct{} `cbor:",toarray"`
	Contract Address
	Topic    string
	Data     []byte // canonical CBOR
}

// Receipt is the result of one transaction. It holds no text of an execution engine: that is the node's
// local trace.
type Receipt struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16
	Tx       TxID
	Index    uint32 // position in the block
	Status   Status
	Code     uint32 // with Aborted and Denied: which reason
	Data     []byte // output, or the data of the abort
	Gas      Gas
	Served   Target // the contract that served the call
	Events   []Event
	Failures []Failure // with another status than OK: the failed calls within, see Failure; none if the contract itself failed
}

// Failure is a call between contracts that did not end well, the last one that its caller made before it
// failed too. In a receipt, each one's caller is the one before it, the first one's the contract that served the
// transaction: the last is where the trouble began.
type Failure struct {
	_        struct{} `cbor:",toarray"`
	Contract Address
	Method   string
	Status   Status
	Code     uint32
	Data     []byte // of an abort, one canonical CBOR value as in the receipt; empty if it is longer than MaxFailureData
}

// MaxFailureData bounds the data of each Failure, in bytes: a receipt keeps the reasons and no bulk.
const MaxFailureData = 256

// Hash returns the receipt's digest, the leaf of the receipt tree.
func (r *Receipt) Hash(s keys.Suite) keys.Digest { return keys.Hash(s, "receipt", mustMarshal(r)) }

// Change is one write of a block to the world state. Key is the contract's address followed by the key
// within the contract.
type Change struct {
	_       struct{} `cbor:",toarray"`
	Key     []byte
	Value   []byte // empty when Deleted
	Deleted bool
}

// Hash returns the change's digest, the leaf of the change tree. It covers the digest of the value, so that
// a proof need not carry the value.
func (c *Change) Hash(s keys.Suite) keys.Digest {
	tag := byte(0)
	if c.Deleted {
		tag = 1
	}
	value := s.Sum(c.Value)
	return keys.Hash(s, "change", []byte{tag}, value[:], c.Key)
}
