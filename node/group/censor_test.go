package group

import (
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestOverload gives a group three times as much as it can do for long: transactions wait for much longer than a
// censored one may, and nobody accuses the leader.
func TestOverload(t *testing.T) {
	w := newWorld(t, 4)
	w.genesis.Params.BlockTxs, w.genesis.Params.Window = 2, 1
	w.execute = 200
	w.start(0, 1, 2, 3)
	const txs = 80
	for i := range uint64(txs) {
		n, raw := w.nodes[i%4], w.tx(i, 600_000).Raw
		n.on(int64(i)*10, func() { n.group.Offer(raw, func(ledger.TxID, error) {}) })
	}
	w.reach(txs / 2)
	for _, n := range w.nodes {
		waited := n.store.Head().Header().Order.UnixMilli - begins - 10*txs
		if view := n.group.Status().Consensus.View; view != 0 || waited < 5_000 {
			t.Errorf("node %d: view %d; the last transaction waited %d ms", n.number, view, waited)
		}
	}
}

// TestOverrun has one client give each node other transactions, more than the share of a pool that a sender has: each
// member sees blocks of transactions that it refused, while some that it took long before wait. Nobody accuses the leader,
// neither then nor when it has no more of its own and lacks theirs, which it refused.
func TestOverrun(t *testing.T) {
	w := newWorld(t, 4)
	w.limits.PerSender = 60
	w.genesis.Params.BlockTxs, w.genesis.Params.Window = 2, 1
	w.execute = 200
	w.start(0, 1, 2, 3)
	for i := range uint64(480) {
		n, raw := w.nodes[i%4], w.tx(i, 600_000).Raw
		n.on(int64(i/240)*6_000, func() { n.group.Offer(raw, func(ledger.TxID, error) {}) })
	}
	w.run(14_000, func() bool { return false }) // the leader has some all the while
	for _, n := range w.nodes {
		if count, _, _ := n.group.Pool().Size(); n.number > 0 && count == 0 {
			t.Errorf("node %d has none left, so the leader cannot lack any", n.number)
		}
	}
	if !w.run(60_000, w.emptied) {
		t.Error("after another minute some transactions are in no block")
	}
	for _, n := range w.nodes {
		if s := n.group.Status(); s.Consensus.View != 0 || s.Head.Order.Height < 60 {
			t.Errorf("node %d: view %d, height %d; want view 0 and 60 blocks", n.number, s.Consensus.View, s.Head.Order.Height)
		}
	}
}

// TestRush has clients rush all members at once after quiet, and more come for long. The leader loses what the others took in the rush, as
// when its inbox overruns: it hears of that when they send it again, while it has a line of younger ones. Nobody accuses it: they were
// admitted as 4 s of work, which is twice what clients are let to wait for. Of 24 s of work they would.
func TestRush(t *testing.T) {
	w := newWorld(t, 4)
	w.genesis.Params.BlockTxs, w.genesis.Params.Window = 20, 1
	w.limits.MaxWait, w.execute = -1, 200 // some 100 a second, and all come in
	lost := true
	w.hook = func(_, to int, p Protocol, m []byte) []byte {
		if lost && p == Transactions && to == 0 {
			return nil
		}
		return m
	}
	w.start(0, 1, 2, 3)
	w.run(3_000, func() bool { return false })
	const rush, more = 400, 400
	answers := 0
	for i := range uint64(rush + more) {
		n, raw, at := w.nodes[i%4], w.tx(i, 600_000).Raw, int64(0)
		if i >= rush {
			at = int64(i-rush) * 10
		}
		n.on(at, func() {
			n.group.Offer(raw, func(_ ledger.TxID, err error) {
				if answers++; err != nil {
					t.Error(err)
				}
			})
		})
	}
	w.run(100, func() bool { return false })
	lost = false
	if !w.run(30_000, func() bool { return answers == rush+more && w.emptied() }) {
		t.Errorf("%d of %d were answered, and some are in no block", answers, rush+more)
	}
	for _, n := range w.nodes {
		if s := n.group.Status(); s.Consensus.View != 0 {
			t.Errorf("node %d: view %d at height %d, want view 0", n.number, s.Consensus.View, s.Head.Order.Height)
		}
	}
}

// TestCensor lets the leader go without the transactions of one client, whatever it is sent, while it makes blocks of
// others. The members that have them leave it.
func TestCensor(t *testing.T) {
	w := newWorld(t, 4)
	victim := w.tx(1<<40, 600_000)
	w.hook = func(_, to int, p Protocol, m []byte) []byte {
		if p != Transactions || to != 0 {
			return m
		}
		var raws [][]byte
		if err := ledger.Unmarshal(m, &raws); err != nil {
			t.Error(err)
		}
		return mustMarshal(slices.DeleteFunc(raws, func(raw []byte) bool { return slices.Equal(raw, victim.Raw) }))
	}
	w.start(0, 1, 2, 3)
	w.nodes[1].mustOffer(victim)
	for i := range uint64(50) {
		raw := w.tx(i, 600_000).Raw
		n := w.nodes[i%4]
		n.on(int64(i)*300, func() { n.group.Offer(raw, func(ledger.TxID, error) {}) })
	}
	if !w.run(12_000, func() bool { f, err := w.nodes[2].group.Find(victim.ID); return err == nil && f.Progress == Committed }) {
		t.Fatalf("the transaction is in no block; view %d, height %d", w.nodes[2].group.Status().Consensus.View, w.nodes[2].store.Head().Height())
	}
	if view := w.nodes[2].group.Status().Consensus.View; view != 1 {
		t.Errorf("view %d, want 1", view)
	}
}
