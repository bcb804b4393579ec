package rpc

import (
	"net/http"
	"strconv"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// prove completes a claim about a stored block, and encodes it. It leads to the block's own certificate (see
// certifier) or, with under, a height or latest, to that of this later block.
func (s *Server) prove(b *stored, under string, claim *ledger.Claim) (*client.Bytes, error) {
	of := b.block.Header.Order.Height
	own, err := certifier(s.config.Suite, b.block, s.group.Store().Certified)
	if err != nil {
		return nil, err
	}
	at, err := s.heightOf("parameter under", under, own)
	if err != nil {
		return nil, err
	}
	final := b.block
	switch {
	case at < of:
		return nil, badRequest("parameter under=%d: block %d is not in the history of block %d, but only in that of later ones", at, of, at)
	case at > of:
		later, err := s.stored(at)
		if err != nil {
			return nil, err
		}
		final = later.block
		path, err := s.group.Store().ProveHistory(of, at)
		if err != nil {
			return nil, err
		}
		claim.History = &ledger.HistoryClaim{Header: final.Header, Proof: path}
	case of == 0:
		return nil, problem(http.StatusConflict, client.CodeUnavailable,
			"block 0 is what the genesis says, and nobody signed it: name a later block that it is to be proven under, such as under=latest, once there is one")
	}
	claim.Version, claim.Header, claim.Certificate = ledger.Version, b.block.Header, final.Certificate
	if claim.Epochs, err = s.epochs.until(final.Header.Order.Epoch); err != nil {
		return nil, err
	}
	return marshalled(claim)
}

// certifier returns the height of the block whose certificate makes b final for a verifier: its own but for a block that
// survivors of a disaster kept. Of these a verifier knows the recovery block alone, which is the next one of its kind.
func certifier(suite keys.Suite, b *ledger.Block, block func(ledger.Height) (*ledger.Block, error)) (ledger.Height, error) {
	for b.Certificate.Statement.Kind == ledger.Recover {
		txs, err := b.Decode(suite)
		if err != nil {
			return 0, err
		}
		if len(txs) == 1 && precompiles.Recovers(&txs[0].Tx) {
			break
		}
		if b, err = block(b.Header.Order.Height + 1); err != nil {
			return 0, err
		}
	}
	return b.Header.Order.Height, nil
}

// headerProof returns the header of a block as a claim.
func (s *Server) headerProof(_ http.ResponseWriter, r *http.Request) (any, error) {
	h, err := s.height(r)
	if err != nil {
		return nil, err
	}
	b, err := s.stored(h)
	if err != nil {
		return nil, err
	}
	claim, err := s.prove(b, r.URL.Query().Get("under"), &ledger.Claim{})
	if err != nil {
		return nil, err
	}
	return &client.HeaderProof{Height: h, Proof: *claim}, nil
}

// txProof says which proof of a transaction is asked for: of it and its receipt or, with event, of one of its events.
type txProof struct {
	event *uint32
	under string
}

// parseTxProof returns nil when no proof is asked for.
func parseTxProof(r *http.Request) (*txProof, error) {
	wanted, err := flag(r, "proof")
	if err != nil || !wanted {
		return nil, err
	}
	p := &txProof{under: r.URL.Query().Get("under")}
	if text := r.URL.Query().Get("event"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, badRequest("parameter event=%q: want the place of an event in the receipt, from 0", text)
		}
		p.event = new(uint32(n))
	}
	return p, nil
}

func (s *Server) proveTx(b *stored, index uint32, p *txProof) (*client.Bytes, error) {
	if n := len(b.receipts[index].Events); p.event != nil && int64(*p.event) >= int64(n) {
		return nil, notFound("the transaction's receipt has %d events and none in place %d, counted from 0", n, *p.event)
	}
	suite := s.config.Suite
	leaves := make([]keys.Digest, len(b.receipts))
	for i := range b.receipts {
		leaves[i] = b.receipts[i].Hash(suite)
	}
	path, err := ledger.Prove(suite, leaves, uint64(index))
	if err != nil {
		return nil, err
	}
	claim := &ledger.Claim{Receipt: &ledger.ReceiptClaim{Receipt: b.receipts[index], Proof: path}, Event: p.event}
	if p.event == nil {
		for i, raw := range b.block.Txs {
			leaves[i] = keys.Hash(suite, "signed-tx", raw)
		}
		if path, err = ledger.Prove(suite, leaves, uint64(index)); err != nil {
			return nil, err
		}
		claim.Tx = &ledger.TxClaim{Raw: b.block.Txs[index], Proof: path}
	}
	return s.prove(b, p.under, claim)
}
