package ledger

import (
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

func sampleTx(t testing.TB, s keys.Suite, i int) *SignedTx {
	t.Helper()
	signer, err := s.Generate(s.Vote(), seeded(uint64(i%50)))
	if err != nil {
		t.Fatal(err)
	}
	args, err := Marshal([]any{AssignedAddress(s, TxID{}, uint32(i)), uint64(i)})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := Tx{
		Version: Version, Chain: keys.Digest{1}, Group: "main", Sender: NamedAddress(s, "account", "alice"),
		Nonce: [16]byte{byte(i), byte(i >> 8)}, Expiry: 1_700_000_000_000, GasLimit: 1_000_000,
		To: Target{Address: NamedAddress(s, "contract", "token")}, Method: "transfer", Args: args,
	}.Sign(s, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func sampleBlock(t testing.TB, s keys.Suite, n int) (*Block, []*SignedTx) {
	t.Helper()
	b := &Block{Version: Version, Header: Header{Order: Order{Version: Version, Group: "main", Height: 7, TxCount: uint32(n)}}}
	var txs []*SignedTx
	for i := range n {
		tx := sampleTx(t, s, i)
		txs = append(txs, tx)
		b.Txs = append(b.Txs, tx.Raw)
	}
	return b, txs
}

func BenchmarkTx(b *testing.B) {
	s := keystest.Suite()
	tx := sampleTx(b, s, 1)
	b.Run(fmt.Sprintf("decode/bytes=%d", len(tx.Raw)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeTx(s, tx.Raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unmarshal without the check of form", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var t Tx
			if err := decoding.Unmarshal(tx.Raw, &t); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var t Tx
			if err := Unmarshal(tx.Raw, &t); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Marshal(&tx.Tx)
		}
	})
	b.Run("id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tx.Tx.ID(s)
		}
	})
}

func BenchmarkBlock(b *testing.B) {
	s := keystest.Suite()
	block, _ := sampleBlock(b, s, 2000)
	raw, err := Marshal(block)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("unmarshal/txs=2000/bytes=%d", len(raw)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var again Block
			if err := Unmarshal(raw, &again); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode transactions", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := block.Decode(s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("header hash", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			block.Header.Hash(s)
		}
	})
}
