package sim

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/state/ledger"
)

type logWatcher struct{ t *testing.T }

func (l logWatcher) signing(h *host, st ledger.Statement) {
	if st.Kind != ledger.Heartbeat {
		l.t.Logf("%d us node %d signs %s v%d h%d %s", h.world.now, h.number, st.Kind, st.View, st.Height, st.Order.Short())
	}
}
func (l logWatcher) finalized(h *host, b *ledger.Block, txs []*ledger.SignedTx) {
	l.t.Logf("%d us node %d final h%d txs %d", h.world.now, h.number, b.Header.Order.Height, len(txs))
}
func (l logWatcher) alarm(h *host, reason string) { l.t.Errorf("node %d: %s", h.number, reason) }

func (w *world) tx(n uint64) []byte {
	tx := ledger.Tx{Version: 1, Chain: w.chain, Group: "main", Sender: ledger.Address{1}, Expiry: epochStart + w.now/1000 + 60_000,
		GasLimit: 1, To: ledger.Target{Address: ledger.Address{2}}, Method: "m", Args: []byte{0x80}}
	binary.BigEndian.PutUint64(tx.Nonce[:], n)
	signed, err := tx.Sign(w.suite, w.suite.signer(1_000_000))
	if err != nil {
		panic(err)
	}
	return signed.Raw
}

func TestSmoke(t *testing.T) {
	w, err := newWorld(4, 1, pbft.New, logWatcher{t})
	if err != nil {
		t.Fatal(err)
	}
	w.log = zerolog.New(os.Stderr)
	for _, h := range w.nodes {
		if err := h.start(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		h := w.nodes[i%4]
		h.run(int64(i)*50_000, func() {
			h.group.Offer(w.tx(uint64(i)), func(id ledger.TxID, err error) {
				if err != nil {
					t.Errorf("tx: %v", err)
				}
			})
		})
	}
	for w.step(5_000_000) {
	}
	for _, h := range w.nodes {
		t.Logf("node %d height %d steps %d", h.number, h.store.Head().Height(), w.steps)
	}
}
