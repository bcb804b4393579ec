package ledger

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/keys"
)

// ErrClaim says that a claim does not hold.
var ErrClaim = errors.New("ledger: claim does not hold")

// MaxClaimSize bounds the encoding of a claim in bytes: a deploying transaction, and 1 MiB for the rest.
const MaxClaimSize = MaxDeployTxSize + 1<<20

// Claim says what a block holds, with all that it takes to check it without a node: the block's header, the
// certificate that makes it final, and a path to the header from each thing claimed. What is nil is not
// claimed; with all nil, the claim is the header itself. Its canonical encoding is the form in which proofs
// leave the chain (DecodeClaim reads it).
type Claim struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16
	Header      Header
	Certificate Certificate
	Tx          *TxClaim
	Receipt     *ReceiptClaim // with Tx, of that transaction
	State       *StateClaim
}

// TxClaim says that the block holds a transaction.
type TxClaim struct {
	_     struct{} `cbor:",toarray"`
	Raw   []byte   // canonical encoding of Tx, as in Block.Txs
	Proof Proof    // under Order.TxRoot
}

// ReceiptClaim says that the block gave a receipt.
type ReceiptClaim struct {
	_       struct{} `cbor:",toarray"`
	Receipt Receipt
	Proof   Proof // under Header.ReceiptRoot
}

// StateClaim says what the world state holds at a key after the block: Value, or nothing unless Present.
type StateClaim struct {
	_       struct{} `cbor:",toarray"`
	Key     []byte   // the contract's address followed by the key within the contract
	Value   []byte
	Present bool
	Proof   StateProof // under Header.StateRoot
}

// DecodeClaim reads a claim from its canonical encoding. It checks the form only.
func DecodeClaim(raw []byte) (*Claim, error) {
	if len(raw) > MaxClaimSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrClaim, len(raw), MaxClaimSize)
	}
	var c Claim
	if err := Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.Version != Version || c.Header.Order.Version != Version {
		return nil, fmt.Errorf("%w: version %d of a header of version %d, want %d", ErrClaim, c.Version, c.Header.Order.Version, Version)
	}
	return &c, nil
}

// Verify checks the claim for a group of the chain whose genesis has the digest chain. epoch is the one that
// the block is of; for a chain whose members never changed that is Genesis.Epoch. finality is Genesis.Finality. It fails with ErrClaim, and
// with ErrCertificate or ErrProof where these are at fault. Transactions' signatures are not checked again:
// the members did that.
func (c *Claim) Verify(s keys.Suite, chain keys.Digest, group GroupID, finality StatementKind, epoch *Epoch) error {
	order := &c.Header.Order
	switch {
	case order.Chain != chain:
		return fmt.Errorf("%w: it is of chain %s, not %s", ErrClaim, order.Chain, chain)
	case order.Group != group:
		return fmt.Errorf("%w: it is of group %q, not %q", ErrClaim, order.Group, group)
	case order.Epoch != epoch.Number:
		return fmt.Errorf("%w: it is of epoch %d, and the members known are of epoch %d", ErrClaim, order.Epoch, epoch.Number)
	}
	members, err := epoch.PublicKeys(s)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClaim, err)
	}
	if err := c.Certificate.Finalizes(s, &c.Header, finality, members); err != nil {
		return fmt.Errorf("%w: header: %w", ErrClaim, err)
	}
	if c.Tx != nil {
		if err := c.Tx.verify(s, order); err != nil {
			return fmt.Errorf("%w: transaction: %w", ErrClaim, err)
		}
	}
	if c.Receipt != nil {
		if err := c.Receipt.verify(s, &c.Header); err != nil {
			return fmt.Errorf("%w: receipt: %w", ErrClaim, err)
		}
	}
	if c.Tx != nil && c.Receipt != nil && c.Tx.Proof.Index != c.Receipt.Proof.Index {
		return fmt.Errorf("%w: transaction %d of the block, and the receipt of transaction %d", ErrClaim, c.Tx.Proof.Index, c.Receipt.Proof.Index)
	}
	if c.State != nil {
		if err := c.State.Proof.Verify(s, c.Header.StateRoot, c.State.Key, c.State.Value, c.State.Present); err != nil {
			return fmt.Errorf("%w: state: %w", ErrClaim, err)
		}
	}
	return nil
}

func (t *TxClaim) verify(s keys.Suite, order *Order) error {
	tx, err := DecodeTx(s, t.Raw)
	if err != nil {
		return err
	}
	if t.Proof.Size != uint64(order.TxCount) {
		return fmt.Errorf("%w: for a tree of %d, and the block has %d transactions", ErrProof, t.Proof.Size, order.TxCount)
	}
	return t.Proof.Verify(s, order.TxRoot, tx.Leaf[:])
}

func (r *ReceiptClaim) verify(s keys.Suite, h *Header) error {
	if r.Proof.Size != uint64(h.Order.TxCount) || r.Proof.Index != uint64(r.Receipt.Index) {
		return fmt.Errorf("%w: for %d of %d, and the receipt is %d of %d", ErrProof, r.Proof.Index, r.Proof.Size, r.Receipt.Index, h.Order.TxCount)
	}
	leaf := r.Receipt.Hash(s)
	return r.Proof.Verify(s, h.ReceiptRoot, leaf[:])
}
