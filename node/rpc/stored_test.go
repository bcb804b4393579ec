package rpc

import (
	"testing"

	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// BenchmarkBlockEvent makes the event of a block, which all streams share.
func BenchmarkBlockEvent(b *testing.B) {
	const txs = 2_000
	s := &Server{config: Config{Suite: keystest.Suite()}}
	block := &stored{block: &ledger.Block{Version: ledger.Version}, receipts: make([]ledger.Receipt, txs)}
	for i := range block.receipts {
		block.receipts[i].Tx = ledger.TxID(s.config.Suite.Sum([]byte{byte(i), byte(i >> 8)}))
	}
	b.ReportAllocs()
	for b.Loop() {
		doc, err := s.blockDocument(block)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := frame("1", doc); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/txs, "ns/tx")
}
