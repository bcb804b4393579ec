// Package blocksync lets a node that is behind fetch blocks from others and check them: that each continues
// the chain and that a quorum of the epoch's members certified it.
//
// It does no I/O of its own: node/group asks peers, executes what [Chain.Check] accepted and compares the result with
// the certified header. The package is public by path but promised nothing.
package blocksync

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	// MaxReply bounds the bytes of blocks in one reply, unless the first alone is larger.
	MaxReply = 4 << 20
	// MaxBlocks bounds the blocks in one reply.
	MaxBlocks = 256
)

// ErrBlock says that a fetched block does not continue the chain or is not certified. The peer lied or is
// broken.
var ErrBlock = errors.New("blocksync: fetched block refused")

// ErrEpoch says that a fetched block is of a later epoch than it can be checked against. It may be good.
var ErrEpoch = errors.New("blocksync: fetched block of a later epoch")

// Request asks for blocks From to To, both included; with To 0 for none, and how far the chain is.
type Request struct {
	_        struct{} `cbor:",toarray"`
	From, To ledger.Height
	Bytes    uint32 // as many of them as have so many bytes, MaxReply at most, but always the first
}

// Reply is encoded blocks of rising height from the requested one on: as many as are there and fit.
type Reply struct {
	_      struct{} `cbor:",toarray"`
	Blocks [][]byte
	Head   ledger.Height // of the node that answers
	First  ledger.Height // the lowest block that it has with its transactions, see state.Store.Kept, or one above a block that is damaged there
	// Wait is after how many ms to ask again a node that has sent as much as it may for now; there are no blocks then.
	Wait uint32
}

// Serve answers an encoded request. raw returns the encoding of a stored block, of those from first to head.
func Serve(request []byte, first, head ledger.Height, raw func(ledger.Height) ([]byte, error)) ([]byte, error) {
	var r Request
	if err := ledger.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("request for blocks: %w", err)
	}
	if r.From == 0 || r.From > r.To && r.To != 0 {
		return nil, fmt.Errorf("request for blocks %d to %d", r.From, r.To)
	}
	reply := Reply{Blocks: [][]byte{}, Head: head, First: first}
	size := 0
	for h := r.From; h >= first && h <= min(r.To, head) && len(reply.Blocks) < MaxBlocks; h++ {
		block, err := raw(h)
		if errors.Is(err, state.ErrDamaged) { // it is not here until it is healed
			if len(reply.Blocks) == 0 {
				reply.First = h + 1
			}
			break
		}
		if err != nil {
			return nil, err
		}
		if size += len(block); size > min(int(r.Bytes), MaxReply) && len(reply.Blocks) > 0 {
			break
		}
		reply.Blocks = append(reply.Blocks, block)
	}
	return ledger.Marshal(&reply)
}

// Chain is what a block is checked against.
type Chain struct {
	Suite    keys.Suite
	ID       keys.Digest
	Group    ledger.GroupID
	Finality ledger.StatementKind // see ledger.Genesis.Finality; zero stands for Commit
	Epoch    uint64
	Members  []keys.PublicKey // of the epoch, by number
	// Accepted are the hashes of the blocks that the node's operator takes from survivors of a disaster. Another block
	// that survivors signed is refused with ledger.ErrRecovery.
	Accepted []keys.Digest
}

// Check reads an encoded block and verifies that it follows the block of parent and that a quorum certified it.
// Signatures of its transactions and its result are the caller's to check.
func (c *Chain) Check(parent *ledger.Header, raw []byte) (*ledger.Block, []*ledger.SignedTx, error) {
	b, err := c.decode(raw)
	if err == nil {
		err = Follows(c.Suite, parent, &b.Header)
	}
	if err != nil {
		return nil, nil, err
	}
	txs, err := c.checkBlock(b)
	if err != nil {
		return nil, nil, err
	}
	return b, txs, nil
}

// Checked is a block that a quorum certified, with its transactions, whose signatures hold.
type Checked struct {
	Block *ledger.Block
	Txs   []*ledger.SignedTx
}

// CheckRange verifies encoded blocks that follow one another, the first of height from: all that Check does but what
// the first one follows, and the signatures of the transactions. It returns the blocks before the first that is bad
// or of another epoch, and what is wrong with that one.
func (c *Chain) CheckRange(from ledger.Height, raws [][]byte) (good []Checked, err error) {
	for i, raw := range raws {
		var b *ledger.Block
		var txs []*ledger.SignedTx
		b, err = c.decode(raw)
		switch at := from + ledger.Height(i); {
		case err != nil:
		case b.Header.Order.Height != at:
			err = fmt.Errorf("%w: height %d where %d should be", ErrBlock, b.Header.Order.Height, at)
		case i > 0:
			err = Follows(c.Suite, &good[i-1].Block.Header, &b.Header)
		}
		if err == nil {
			txs, err = c.checkBlock(b)
		}
		if err != nil {
			break
		}
		good = append(good, Checked{b, txs})
	}
	var all []*ledger.SignedTx
	for _, b := range good {
		all = append(all, b.Txs...)
	}
	ok := ledger.CheckBatch(c.Suite, all)
	for i, b := range good {
		if n := slices.Index(ok[:len(b.Txs)], false); n >= 0 {
			return good[:i], fmt.Errorf("%w: block %d: signatures of transaction %d", ErrBlock, b.Block.Header.Order.Height, n)
		}
		ok = ok[len(b.Txs):]
	}
	return good, err
}

// decode reads an encoded block of the chain, group and epoch.
func (c *Chain) decode(raw []byte) (*ledger.Block, error) {
	b, err := ledger.DecodeBlock(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlock, err)
	}
	switch o := &b.Header.Order; {
	case o.Chain != c.ID || o.Group != c.Group:
		return nil, fmt.Errorf("%w: of chain %s group %q", ErrBlock, o.Chain, o.Group)
	case o.Epoch > c.Epoch:
		return nil, fmt.Errorf("%w: block %d is of epoch %d", ErrEpoch, o.Height, o.Epoch)
	case o.Epoch < c.Epoch:
		return nil, fmt.Errorf("%w: block %d is of epoch %d, which is over", ErrBlock, o.Height, o.Epoch)
	}
	return b, nil
}

// Follows checks that a header continues its parent's chain.
func Follows(suite keys.Suite, parent, h *ledger.Header) error {
	switch o := &h.Order; {
	case o.Height != parent.Order.Height+1:
		return fmt.Errorf("%w: height %d after %d", ErrBlock, o.Height, parent.Order.Height)
	case o.Parent != parent.Order.Hash(suite) || h.Parent != parent.Hash(suite):
		return fmt.Errorf("%w: block %d does not follow block %d", ErrBlock, o.Height, parent.Order.Height)
	case o.UnixMilli <= parent.Order.UnixMilli:
		return fmt.Errorf("%w: the time of block %d is not after its parent's", ErrBlock, o.Height)
	}
	return nil
}

// checkBlock verifies that a quorum certified the block and that what it carries is what its header names.
func (c *Chain) checkBlock(b *ledger.Block) ([]*ledger.SignedTx, error) {
	o := &b.Header.Order
	err := b.Certificate.Finalizes(c.Suite, &b.Header, c.Finality, c.Members, c.Accepted...)
	if errors.Is(err, ledger.ErrRecovery) { // said to an operator, so not at one peer's word
		if forged := b.Certificate.Recovers(c.Suite, &b.Header, c.Members); forged != nil {
			err = forged
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: block %d: %w", ErrBlock, o.Height, err)
	}
	txs, err := c.CheckBody(b)
	if err == nil && len(txs) > 0 && precompiles.Recovers(&txs[0].Tx) && b.Certificate.Statement.Kind != ledger.Recover {
		err = fmt.Errorf("%w: block %d is a recovery, which takes the certificate of one", ErrBlock, o.Height)
	}
	return txs, err
}

// CheckBody verifies that a block of the epoch carries what its header names. Its certificate, the signatures of its
// transactions and its result are the caller's to check.
func (c *Chain) CheckBody(b *ledger.Block) ([]*ledger.SignedTx, error) {
	o := &b.Header.Order
	if err := c.checkNewView(b); err != nil {
		return nil, err
	}
	txs, err := b.Decode(c.Suite)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlock, err)
	}
	leaves := make([]keys.Digest, len(txs))
	for i, tx := range txs {
		leaves[i] = tx.Leaf
	}
	if ledger.Root(c.Suite, leaves) != o.TxRoot {
		return nil, fmt.Errorf("%w: the transactions of block %d are not those of its header", ErrBlock, o.Height)
	}
	for i, tx := range txs {
		if !precompiles.Recovers(&tx.Tx) {
			continue
		}
		by := int64(o.Proposer)
		if i > 0 || len(txs) > 1 || !o.Barrier || by >= int64(len(c.Members)) || len(tx.Signatures) != 1 || !bytes.Equal(tx.Signatures[0].Key, c.Members[by].Bytes()) {
			return nil, fmt.Errorf("%w: a recovery is the only transaction of its block, ends the epoch, and the member signed it that made the block; not so in block %d", ErrBlock, o.Height)
		}
	}
	return txs, nil
}

// checkNewView checks that a block carries the new-view that its header names, and no other: who audits the
// history needs it, and the header's certificate covers it by its digest.
func (c *Chain) checkNewView(b *ledger.Block) error {
	want, height := b.Header.Order.NewView, b.Header.Order.Height
	switch {
	case b.NewView == nil && want.IsZero():
		return nil
	case b.NewView == nil || b.NewView.Digest(c.Suite) != want:
		return fmt.Errorf("%w: block %d lacks the new-view that its header names", ErrBlock, height)
	}
	for i, v := range b.NewView.Votes {
		st := v.Statement
		if int64(v.Signer) >= int64(len(c.Members)) || i > 0 && v.Signer <= b.NewView.Votes[i-1].Signer ||
			st.Kind != ledger.ViewChange || st.View != b.NewView.View || st.Epoch != c.Epoch {
			return fmt.Errorf("%w: block %d: new-view vote of member %d", ErrBlock, height, v.Signer)
		}
		if err := c.Members[v.Signer].Verify(st.Digest(c.Suite, c.ID, c.Group), v.Signature); err != nil {
			return fmt.Errorf("%w: block %d: new-view vote of member %d: %w", ErrBlock, height, v.Signer, err)
		}
	}
	if n := len(b.NewView.Votes); n < ledger.Quorum(len(c.Members)) {
		return fmt.Errorf("%w: block %d: new-view of %d votes", ErrBlock, height, n)
	}
	return nil
}

// MaxPart bounds the bytes of a stored block in one reply.
const MaxPart = 1 << 20

// PartRequest asks for a part of a block as a store keeps it: with its results, or pruned.
type PartRequest struct {
	_      struct{} `cbor:",toarray"`
	Height ledger.Height
	Pruned bool   // only what stays of it when it is pruned
	Offset uint64 // of the part, in what state.Store.Payload returns
}

// PartReply is that part.
type PartReply struct {
	_    struct{} `cbor:",toarray"`
	Part []byte   // up to MaxPart bytes, or the end
	Size uint64   // of the whole; 0: the node does not have the block so, now
	Wait uint32   // ms after which to ask again a node that has sent as much as it may for now; Size is 0 then
}

// Parts answers requests for parts of stored blocks. It keeps the last block that did not fit into one part, until its end was asked for:
// each part is of a block that must be read whole. It is safe for concurrent use.
type Parts struct {
	// Payload is that of the node's store.
	Payload func(h, kept ledger.Height) ([]byte, error)

	last atomic.Pointer[whole]
}

// whole is a stored block that was read.
type whole struct {
	height, kept ledger.Height
	payload      []byte
}

// Serve answers an encoded request, and returns how many bytes were read for it. Of a block that is pruned for the answer that is not
// known, and it counts for MaxPart.
func (p *Parts) Serve(request []byte) (answer []byte, read int, err error) {
	var r PartRequest
	if err := ledger.Unmarshal(request, &r); err != nil {
		return nil, 0, fmt.Errorf("request for a stored block: %w", err)
	}
	if r.Height == math.MaxUint64 {
		return nil, 0, fmt.Errorf("request for block %d", r.Height)
	}
	reply := PartReply{Part: []byte{}}
	kept := ledger.Height(0)
	if r.Pruned {
		kept = r.Height + 1
	}
	b := p.last.Load()
	if b == nil || b.height != r.Height || b.kept != kept {
		b = &whole{height: r.Height, kept: kept}
		b.payload, err = p.Payload(r.Height, kept)
		if read = len(b.payload); r.Pruned {
			read = max(read, MaxPart)
		}
	}
	switch {
	case errors.Is(err, state.ErrPruned), errors.Is(err, state.ErrNotFound), errors.Is(err, state.ErrDamaged):
	case err != nil:
		return nil, read, err
	case r.Offset >= uint64(len(b.payload)):
		return nil, read, fmt.Errorf("request for byte %d of block %d, which has %d", r.Offset, r.Height, len(b.payload))
	default:
		rest := b.payload[r.Offset:]
		reply.Size, reply.Part = uint64(len(b.payload)), rest[:min(len(rest), MaxPart)]
		if len(rest) > MaxPart {
			p.last.Store(b)
		} else {
			p.last.CompareAndSwap(b, nil)
		}
	}
	answer, err = ledger.Marshal(&reply)
	return answer, read, err
}

// CheckCertificate verifies that members of the epoch certified a stored block, or survivors of a disaster, whom this node's
// operator believed when the block was stored. That it holds what its header names is checked already.
func (c *Chain) CheckCertificate(b *ledger.Block) error {
	o := &b.Header.Order
	var err error
	switch {
	case o.Height > 0:
		err = b.Certificate.Finalizes(c.Suite, &b.Header, c.Finality, c.Members, b.Header.Hash(c.Suite))
	case !b.Certificate.IsZero() || len(b.Certificate.Signers)+len(b.Certificate.Signatures) > 0 || b.Certificate.Statement != (ledger.Statement{}):
		err = errors.New("genesis has a certificate")
	}
	if err == nil {
		err = c.checkNewView(b)
	}
	if err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrBlock, o.Height, err)
	}
	return nil
}
