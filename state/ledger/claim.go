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
//
// A block is final as well when a later one that is final has it in its history. A claim with History holds that
// later block's certificate and epochs, and none of its own block's.
type Claim struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16
	Header      Header
	Certificate Certificate // of the block; with History, of the later one
	Tx          *TxClaim
	Receipt     *ReceiptClaim // with Tx, of that transaction
	State       *StateClaim
	Epochs      []EpochLink   // how the epoch of the certificate came from the first: one for each epoch between, in order
	Event       *uint32       // with Receipt: the place of the event claimed among the receipt's
	History     *HistoryClaim // that the block is below a later one
	Genesis     *Genesis      // the chain's, for who knows no more than its id; see Verify
}

// HistoryClaim says that the block is in the history of a later one.
type HistoryClaim struct {
	_      struct{} `cbor:",toarray"`
	Header Header   // of the later block
	Proof  Proof    // of the block's hash, under HistoryRoot of Header
}

// EpochLink says which epoch followed another: the last block of that one, which its members made final, names the
// digest of the next one's members and parameters.
type EpochLink struct {
	_           struct{} `cbor:",toarray"`
	Header      Header
	Certificate Certificate
	Epoch       Epoch // that begins after the block
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
	if c.History != nil && c.History.Header.Order.Version != Version {
		return nil, fmt.Errorf("%w: version %d of the later header, want %d", ErrClaim, c.History.Header.Order.Version, Version)
	}
	return &c, nil
}

// Certified returns the header that the certificate makes final: the block's, or the later one of History.
func (c *Claim) Certified() *Header {
	if c.History != nil {
		return &c.History.Header
	}
	return &c.Header
}

// Verify checks the claim for a group of the chain whose genesis has the digest chain. epoch is one whose members
// the caller trusts, no later than the certified block's: Genesis.Epoch if it has nothing but the genesis; the
// claim's links lead on from it. finality is Genesis.Finality. A caller that knows chain alone takes all of these
// from the claim's own Genesis, which must then be there: Verify checks that it is the one with this digest.
// accepted is as for Certificate.Finalizes: blocks with which the chain goes on after a disaster, by the caller's own
// word; where one is missing Verify fails with ErrRecovery.
//
// It fails with ErrClaim, and with ErrCertificate or ErrProof where these are at fault. Transactions' signatures are
// not checked again: the members did that.
func (c *Claim) Verify(s keys.Suite, chain keys.Digest, group GroupID, finality StatementKind, epoch *Epoch, accepted ...keys.Digest) error {
	header := c.Certified()
	order := &header.Order
	switch {
	case c.Genesis != nil && c.Genesis.Hash(s) != chain:
		return fmt.Errorf("%w: its genesis is of chain %s, not %s", ErrClaim, c.Genesis.Hash(s), chain)
	case order.Chain != chain:
		return fmt.Errorf("%w: it is of chain %s, not %s", ErrClaim, order.Chain, chain)
	case order.Group != group:
		return fmt.Errorf("%w: it is of group %q, not %q", ErrClaim, order.Group, group)
	}
	history := &History{Finality: finality, Accepted: accepted}
	for i := range c.Epochs {
		link := &c.Epochs[i]
		if link.Epoch.Number <= epoch.Number { // the caller knows more than the claim needs to say
			continue
		}
		if err := link.verify(s, chain, group, history, epoch); err != nil {
			return fmt.Errorf("%w: how epoch %d began: %w", ErrClaim, link.Epoch.Number, err)
		}
		epoch = &link.Epoch
	}
	if order.Epoch != epoch.Number {
		return fmt.Errorf("%w: it is of epoch %d, and the members known are of epoch %d", ErrClaim, order.Epoch, epoch.Number)
	}
	err := history.finalizes(s, &c.Certificate, header, epoch)
	if err == nil {
		err = history.End()
	}
	if err != nil {
		return fmt.Errorf("%w: header: %w", ErrClaim, err)
	}
	return c.holds(s)
}

// VerifyUnder checks the claim for who trusts the block with a hash, which is the claim's own or the later one of
// History. What the claim has to show that this one is final, Certificate, Epochs and Genesis, is not looked at. Where
// the trusted block is the claim's own, nothing vouches for the later one: the path between them leads to a header that
// anybody can write. It fails with ErrClaim, and with ErrProof where a path is at fault.
func (c *Claim) VerifyUnder(s keys.Suite, block keys.Digest) error {
	if c.Header.Hash(s) != block && c.Certified().Hash(s) != block {
		return fmt.Errorf("%w: it leads to block %d and not to the one trusted, %s", ErrClaim, c.Certified().Order.Height, block)
	}
	return c.holds(s)
}

// holds checks that the block holds what is claimed, and that it is below the later one.
func (c *Claim) holds(s keys.Suite) error {
	if c.History != nil {
		if err := c.History.verify(s, &c.Header); err != nil {
			return fmt.Errorf("%w: history: %w", ErrClaim, err)
		}
	}
	if c.Tx != nil {
		if err := c.Tx.verify(s, &c.Header.Order); err != nil {
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
	if c.Event != nil && (c.Receipt == nil || int64(*c.Event) >= int64(len(c.Receipt.Receipt.Events))) {
		return fmt.Errorf("%w: there is no event %d in a receipt that it holds", ErrClaim, *c.Event)
	}
	if c.State != nil {
		if err := c.State.Proof.Verify(s, c.Header.StateRoot, c.State.Key, c.State.Value, c.State.Present); err != nil {
			return fmt.Errorf("%w: state: %w", ErrClaim, err)
		}
	}
	return nil
}

// verify checks that the link leads from an epoch to the next.
func (l *EpochLink) verify(s keys.Suite, chain keys.Digest, group GroupID, history *History, from *Epoch) error {
	order := &l.Header.Order
	switch {
	case order.Chain != chain || order.Group != group:
		return fmt.Errorf("%w: of chain %s, group %q", ErrClaim, order.Chain, order.Group)
	case order.Epoch != from.Number || l.Epoch.Number != from.Number+1:
		return fmt.Errorf("%w: it leads from epoch %d to %d, and the members known are of epoch %d", ErrClaim, order.Epoch, l.Epoch.Number, from.Number)
	case !order.Barrier || l.Header.NextEpoch != l.Epoch.Hash(s):
		return fmt.Errorf("%w: block %d does not begin it", ErrClaim, order.Height)
	}
	return history.finalizes(s, &l.Certificate, &l.Header, from)
}

func (y *History) finalizes(s keys.Suite, c *Certificate, h *Header, epoch *Epoch) error {
	members, err := epoch.PublicKeys(s)
	if err != nil {
		return err
	}
	return y.Finalizes(s, c, h, members)
}

// verify checks that the block is below the later one, in the place of its height.
func (h *HistoryClaim) verify(s keys.Suite, block *Header) error {
	order, later := &block.Order, &h.Header.Order
	switch {
	case order.Chain != later.Chain || order.Group != later.Group:
		return fmt.Errorf("%w: of chain %s, group %q", ErrClaim, order.Chain, order.Group)
	case h.Proof.Index != uint64(order.Height) || h.Proof.Size != uint64(later.Height):
		return fmt.Errorf("%w: for %d of %d, and the blocks are at heights %d and %d", ErrProof, h.Proof.Index, h.Proof.Size, order.Height, later.Height)
	}
	leaf := block.Hash(s)
	return h.Proof.Verify(s, h.Header.HistoryRoot, leaf[:])
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
