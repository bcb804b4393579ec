package rpc

import (
	"crypto/rand"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// A verifier is told the hash of a recovery block. What was kept below it is proven under that one.
func TestCertifier(t *testing.T) {
	suite := keystest.Suite()
	signer, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(h ledger.Height, kind ledger.StatementKind, sender ledger.Address, method string) *ledger.Block {
		tx, err := ledger.Tx{
			Version: ledger.Version, Group: "main", Sender: sender, Expiry: 1, GasLimit: 1, To: ledger.Target{Address: precompiles.MembersAddress},
			Method: method, Args: []byte{0x80},
		}.Sign(suite, signer)
		if err != nil {
			t.Fatal(err)
		}
		b := &ledger.Block{Version: ledger.Version, Txs: [][]byte{tx.Raw}}
		b.Header.Order.Height = h
		b.Certificate.Statement.Kind = kind
		return b
	}
	blocks := []*ledger.Block{
		block(0, ledger.Commit, ledger.Address{1}, "propose"),
		block(1, ledger.Recover, ledger.Address{1}, "propose"),
		block(2, ledger.Recover, ledger.Address{1}, "activate"),
		block(3, ledger.Recover, precompiles.MembersAddress, "recover"),
		block(4, ledger.Commit, ledger.Address{1}, "propose"),
	}
	for h, want := range []ledger.Height{0, 3, 3, 3, 4} {
		got, err := certifier(suite, blocks[h], func(h ledger.Height) (*ledger.Block, error) { return blocks[h], nil })
		if err != nil || got != want {
			t.Errorf("block %d is final by block %d, %v; want %d", h, got, err, want)
		}
	}
}
