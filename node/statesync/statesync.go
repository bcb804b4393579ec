// Package statesync lets a node that has no blocks, or none that others still continue, begin with the world state of
// theirs: what it asks for, what they answer, and what they keep for that.
//
// A node that is asked for a state copies one of the last blocks into a file, its offer, in chunks that verify alone. Nodes
// offer the same heights if they can, and the chunks of one state are the same ones everywhere, so several of them serve one
// that joins. Nothing that they say is believed: a [ledger.Claim] leads from the genesis to the header of the state, chunks
// are checked under its root, and blocks by package backup. node/group asks and answers; a [Shelf] holds the offers.
//
// The package is public by path but promised nothing.
package statesync

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	// MaxReply bounds the bytes of the items in one reply. What is larger comes in parts.
	MaxReply = 1 << 20
	// MaxItems bounds the items in one reply.
	MaxItems = 256
	// MaxItem bounds one item, in bytes, of which the parts come from one node: a chunk, a block with its results, or a claim.
	MaxItem = ledger.MaxStateChunkSize
)

// ErrRequest says that a request is none that a node can answer, whatever it has.
var ErrRequest = errors.New("statesync: bad request")

// What is what a request asks for.
type What uint8

// What can be asked for.
const (
	Offers What = 1 // which states the node has copied
	Proof  What = 2 // an Anchor
	Blocks What = 3 // the blocks From to To, see state.Store.Payload
	Chunk  What = 4 // the ledger.StateChunk in which Path is
)

// Request asks for one thing of the state after a block, or for what there is.
type Request struct {
	_        struct{} `cbor:",toarray"`
	What     What
	Height   ledger.Height // of the state; with Offers, one that is wanted, or 0 for any
	From, To ledger.Height // with Blocks, both included
	Path     keys.Digest   // with Chunk
	Offset   uint64        // of the bytes of the first item
	Bytes    uint32        // as many as have so many bytes, MaxReply at most
}

// DecodeRequest reads a request from its canonical encoding.
func DecodeRequest(raw []byte) (*Request, error) {
	var r Request
	if err := ledger.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	switch {
	case r.What < Offers || r.What > Chunk:
		return nil, fmt.Errorf("%w: it asks for %d, which this node does not know", ErrRequest, r.What)
	case r.What == Blocks && (r.From > r.To || r.To > r.Height):
		return nil, fmt.Errorf("%w: for blocks %d to %d of the state after block %d", ErrRequest, r.From, r.To, r.Height)
	case r.Offset > MaxItem:
		return nil, fmt.Errorf("%w: for what is behind byte %d", ErrRequest, r.Offset)
	}
	return &r, nil
}

// Anchor shows that the header of a state is one of the chain.
type Anchor struct {
	_     struct{}      `cbor:",toarray"`
	Claim ledger.Claim  // of nothing but the header, without genesis
	Next  *ledger.Epoch // that begins after the block; nil: none does
}

// DecodeAnchor reads an anchor from its canonical encoding. It checks the form only.
func DecodeAnchor(raw []byte) (*Anchor, error) {
	if len(raw) > ledger.MaxClaimSize {
		return nil, fmt.Errorf("%w: an anchor of %d bytes, at most %d", ledger.ErrEncoding, len(raw), ledger.MaxClaimSize)
	}
	var a Anchor
	if err := ledger.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	if a.Claim.Version != ledger.Version || a.Claim.Header.Order.Version != ledger.Version {
		return nil, fmt.Errorf("%w: an anchor of version %d with a header of version %d, want %d", ledger.ErrEncoding, a.Claim.Version, a.Claim.Header.Order.Version, ledger.Version)
	}
	return &a, nil
}

// Verify checks the anchor against the genesis, and returns the epochs up to that of the block and the one that it begins, by
// number. accepted is as for ledger.Claim.Verify, which tells how it fails.
func (a *Anchor) Verify(s keys.Suite, genesis *ledger.Genesis, accepted ...keys.Digest) ([]ledger.Epoch, error) {
	c := &a.Claim
	if c.History != nil || c.Genesis != nil || c.Tx != nil || c.Receipt != nil || c.State != nil || c.Event != nil {
		return nil, fmt.Errorf("%w: an anchor claims a header and no more", ledger.ErrClaim)
	}
	first := genesis.Epoch()
	if err := c.Verify(s, genesis.Hash(s), genesis.Group, genesis.Finality(), first, accepted...); err != nil {
		return nil, err
	}
	epochs := []ledger.Epoch{*first}
	for i := range c.Epochs {
		if c.Epochs[i].Epoch.Number != uint64(len(epochs)) {
			return nil, fmt.Errorf("%w: epoch %d is not the next after %d", ledger.ErrClaim, c.Epochs[i].Epoch.Number, len(epochs)-1)
		}
		epochs = append(epochs, c.Epochs[i].Epoch)
	}
	barrier := c.Header.Order.Barrier
	if barrier != (a.Next != nil) || barrier && a.Next.Hash(s) != c.Header.NextEpoch {
		return nil, fmt.Errorf("%w: the epoch after block %d is not the one that it begins", ledger.ErrClaim, c.Header.Order.Height)
	}
	if barrier {
		epochs = append(epochs, *a.Next)
	}
	return epochs, nil
}

// Offer is a state that a node has copied.
type Offer struct {
	_      struct{} `cbor:",toarray"`
	Height ledger.Height
	Block  keys.Digest   // the hash of the block
	Kept   ledger.Height // the first block that comes in full, see backup.Source.Kept
	Bytes  uint64        // of all chunks
}

// Reply is what a node has of what it was asked for. There are no items if it does not have the state any more.
type Reply struct {
	_      struct{} `cbor:",toarray"`
	Offers []Offer  // what it has, MaxOffers at most, whatever was asked
	Items  [][]byte // of rising height; the first one from the offset on
	Size   uint64   // of the whole first item
	Wait   uint32   // ms after which to ask again, as it makes an offer or has sent as much as it may for now; 0: it does not
}

// DecodeReply reads a reply from its canonical encoding. It checks the form only.
func DecodeReply(raw []byte) (*Reply, error) {
	var r Reply
	if err := ledger.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	switch {
	case len(r.Offers) > MaxOffers:
		return nil, fmt.Errorf("%w: %d offers, at most %d", ledger.ErrEncoding, len(r.Offers), MaxOffers)
	case len(r.Items) > MaxItems:
		return nil, fmt.Errorf("%w: %d items, at most %d", ledger.ErrEncoding, len(r.Items), MaxItems)
	case r.Size > MaxItem:
		return nil, fmt.Errorf("%w: an item of %d bytes, at most %d", ledger.ErrEncoding, r.Size, MaxItem)
	case len(r.Items) > 0 && uint64(len(r.Items[0])) > r.Size:
		return nil, fmt.Errorf("%w: %d of %d bytes of an item", ledger.ErrEncoding, len(r.Items[0]), r.Size)
	}
	for _, o := range r.Offers {
		if o.Kept > o.Height || o.Height > 1<<62 {
			return nil, fmt.Errorf("%w: an offer of the state after block %d, and blocks in full from %d on", ledger.ErrEncoding, o.Height, o.Kept)
		}
	}
	return &r, nil
}
