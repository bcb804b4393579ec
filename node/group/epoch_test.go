package group

import (
	"errors"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// members returns the numbers of the nodes that vote by what a node says.
func (n *testNode) members() []int {
	var numbers []int
	for _, m := range n.group.Status().Epoch.Members {
		numbers = append(numbers, n.numberOf(m.Node))
	}
	return numbers
}

// inEpoch lets time pass until nodes are in an epoch.
func (w *world) inEpoch(epoch uint64, numbers ...int) {
	w.t.Helper()
	if !w.run(60_000, func() bool {
		return !slices.ContainsFunc(numbers, func(i int) bool { return w.nodes[i].group.Status().Epoch.Number != epoch })
	}) {
		for _, i := range numbers {
			s := w.nodes[i].group.Status()
			w.t.Errorf("node %d: epoch %d at height %d, want epoch %d; %v", i, s.Epoch.Number, s.Head.Order.Height, epoch, s.Stopped)
		}
		w.t.FailNow()
	}
}

// load submits transactions at a node, one every few milliseconds, and returns them.
type load struct {
	*world
	at   int // node
	sent []*ledger.SignedTx
	done bool
}

func (l *load) begin() {
	n := l.nodes[l.at]
	n.on(7, func() {
		if l.done {
			return
		}
		tx := l.tx(uint64(len(l.sent)), 60_000)
		l.sent = append(l.sent, tx)
		n.group.Offer(tx.Raw, func(_ ledger.TxID, err error) {
			if err != nil {
				l.t.Errorf("transaction %d: %v", len(l.sent), err)
			}
		})
		l.begin()
	})
}

// settled checks that all that was sent is in a block, the same one on each node.
func (l *load) settled(numbers ...int) {
	l.t.Helper()
	l.done = true
	for i, tx := range l.sent {
		var height ledger.Height
		for _, number := range numbers {
			n := l.nodes[number]
			if !l.run(60_000, func() bool { f, err := n.group.Find(tx.ID); return err == nil && f.Progress == Committed }) {
				l.t.Fatalf("transaction %d of %d is not in a block on node %d", i, len(l.sent), number)
			}
			if f, _ := n.group.Find(tx.ID); height != 0 && f.Height != height {
				l.t.Fatalf("transaction %d is in block %d on node %d, elsewhere in %d", i, f.Height, number, height)
			} else {
				height = f.Height
			}
		}
	}
}

func (w *world) noAlarms() {
	w.t.Helper()
	for _, n := range w.nodes {
		if len(n.alarms) > 0 {
			w.t.Errorf("node %d: %v", n.number, n.alarms)
		}
	}
}

func TestMembersChangeUnderLoad(t *testing.T) {
	w := newWorld(t, 4)
	w.observe(1)
	w.start(0, 1, 2, 3, 4)
	l := &load{world: w, at: 1}
	l.begin()
	w.reach(5) // the observer follows
	if n := w.nodes[4]; n.group.Status().Number != -1 || len(n.signed) > 0 {
		t.Fatalf("the observer is member %d and signed %d statements", n.group.Status().Number, len(n.signed))
	}

	w.nodes[1].mustOffer(w.activation(1<<40, 0, 1, 2, 3, 4))
	w.inEpoch(1, 0, 1, 2, 3, 4)
	if !w.run(60_000, func() bool {
		return slices.ContainsFunc(w.nodes[4].signed, func(st ledger.Statement) bool { return st.Epoch == 1 && st.Kind == ledger.Commit })
	}) {
		t.Fatal("the node that joined does not vote")
	}

	// The leader leaves. It goes on as an observer.
	w.nodes[1].mustOffer(w.activation(2<<40, 1, 2, 3, 4))
	w.inEpoch(2, 0, 1, 2, 3, 4)
	signed := len(w.nodes[0].signed)
	at := w.nodes[1].store.Head().Height()
	w.reach(at + 5)
	if len(w.nodes[0].signed) != signed {
		t.Error("the node that left still signs")
	}

	// One is replaced by another that was never a member, in an order of its own.
	w.observe(1)
	w.start(5)
	w.nodes[1].mustOffer(w.activation(3<<40, 5, 4, 3, 1))
	w.inEpoch(3, 0, 1, 2, 3, 4, 5)
	if got := w.nodes[0].members(); !slices.Equal(got, []int{5, 4, 3, 1}) {
		t.Errorf("members %v", got)
	}
	at = w.nodes[1].store.Head().Height()
	w.reach(at + 5)
	l.settled(0, 1, 2, 3, 4, 5)
	w.noAlarms()
	for _, n := range []*testNode{w.nodes[0], w.nodes[1], w.nodes[5]} { // what all signed, across the epochs, holds without them
		if v := n.audit(); v.Epoch != 3 || v.Statements < 100 || v.Unchecked > 0 || v.Missed > 0 || len(v.Evidence) > 0 {
			w.t.Errorf("node %d: verdict %+v", n.number, v)
		}
	}
}

func TestBarrierBlock(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	// An activation stands among other transactions in the pool: what is before it goes into a block before, and what is
	// behind it waits.
	w.nodes[0].mustOffer(w.tx(1, 60_000))
	w.nodes[0].mustOffer(w.activation(2, 0, 1, 2, 3))
	stale := w.activation(3, 0, 1, 2, 3)
	w.void = []ledger.TxID{stale.ID}
	w.nodes[0].mustOffer(stale)
	w.nodes[0].mustOffer(w.tx(4, 60_000))
	good := w.activation(5, 0, 1, 2, 3)
	w.nodes[0].mustOffer(good)
	w.inEpoch(2, 0, 1, 2, 3)
	w.run(5_000, func() bool { return false })
	for _, n := range w.nodes {
		for h := ledger.Height(1); h <= n.store.Head().Height(); h++ {
			b := must(n.store.Block(h))
			for i, tx := range must(b.Decode(w.suite)) {
				if ends := tx.Method == "activate"; ends != b.Header.Order.Barrier || ends && len(b.Txs) > 1 {
					t.Errorf("node %d, block %d, barrier %t: transaction %d is %s", n.number, h, b.Header.Order.Barrier, i, tx.Method)
				}
			}
			if b.Header.Order.Barrier == b.Header.NextEpoch.IsZero() {
				t.Errorf("block %d: barrier %t and next epoch %s", h, b.Header.Order.Barrier, b.Header.NextEpoch)
			}
		}
		// What can end no epoch any more is gone from the pools, or the group would wait for it. What can has its turn.
		if e := n.group.Status().Epoch.Number; e != 2 {
			t.Errorf("node %d is in epoch %d", n.number, e)
		}
		if f, err := n.group.Find(good.ID); err != nil || f.Progress != Committed {
			t.Errorf("node %d: the third activation is %s, %v", n.number, f.Progress, err)
		}
		if f, err := n.group.Find(stale.ID); err != nil || f.Progress == Pending {
			t.Errorf("node %d: the second activation is %s, %v", n.number, f.Progress, err)
		}
	}
	w.noAlarms()
}

func TestEpochEndRefused(t *testing.T) {
	g := newWorld(t, 4)
	g.start(0, 1, 2, 3)
	n := g.nodes[1].group
	order := func(barrier bool, txs ...*ledger.SignedTx) *ledger.Order {
		o := &ledger.Order{UnixMilli: begins + 1, Barrier: barrier, TxCount: uint32(len(txs))}
		for _, tx := range txs {
			o.TxBytes += uint64(len(tx.Raw))
			o.GasLimit += tx.GasLimit
		}
		return o
	}
	plain, end, barren := g.tx(1, 60_000), g.activation(2, 0, 1, 2, 3), g.activation(3, 0, 1, 2, 3)
	g.barren = []ledger.TxID{barren.ID}
	for _, c := range []struct {
		story   string
		barrier bool
		txs     []*ledger.SignedTx
		valid   bool
	}{
		{"an activation", true, []*ledger.SignedTx{end}, true},
		{"an activation behind another transaction", true, []*ledger.SignedTx{plain, end}, false},
		{"no activation", false, []*ledger.SignedTx{plain}, true},
		{"an activation in front", true, []*ledger.SignedTx{end, plain}, false},
		{"an activation in front, and no barrier", false, []*ledger.SignedTx{end, plain}, false},
		{"two of them", true, []*ledger.SignedTx{end, barren}, false},
		{"an activation without barrier", false, []*ledger.SignedTx{end}, false},
		{"a barrier without activation", true, []*ledger.SignedTx{plain}, false},
		{"an activation that would change nothing", true, []*ledger.SignedTx{barren}, false},
	} {
		err := n.validTransactions(n.cfg.Store.Head(), order(c.barrier, c.txs...), c.txs, func(ledger.TxID) bool { return false })
		if (err == nil) != c.valid {
			t.Errorf("%s: %v", c.story, err)
		}
	}
}

// An activation that would change nothing is in no block, and nobody waits for it: views do not change over it.
func TestBarrenActivation(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	for i := range uint64(3) {
		barren := w.activation(i, 0, 1, 2, 3)
		w.barren = append(w.barren, barren.ID)
		w.nodes[i].mustOffer(barren)
	}
	w.nodes[1].mustOffer(w.tx(4, 60_000))
	w.reach(1)
	w.run(5_000, func() bool { return false })
	for _, n := range w.nodes {
		s := n.group.Status()
		if count, _, _ := n.group.Pool().Size(); count != 0 || s.Epoch.Number != 0 || s.Consensus.View != 0 || s.Head.Order.Height != 1 {
			t.Errorf("node %d: epoch %d, view %d, height %d, %d transactions wait", n.number, s.Epoch.Number, s.Consensus.View, s.Head.Order.Height, count)
		}
	}
	w.noAlarms()
}

// A block that would end the epoch is judged on the state after its parent, which may still be executed.
func TestBarrierWaitsForParent(t *testing.T) {
	w := newWorld(t, 4)
	w.execute = 500
	w.start(0, 1, 2, 3)
	n := w.nodes[1]
	n.mustOffer(w.tx(1, 60_000))
	if !w.run(1_000, func() bool { return len(n.group.proposals) == 1 && n.runs == 1 }) {
		t.Fatal("no block is executed")
	}
	var parent *proposal
	for _, p := range n.group.proposals {
		parent = p
	}
	end := w.activation(2, 0, 1, 2, 3)
	order := n.group.payloadOf([]*ledger.SignedTx{end}, parent.order.UnixMilli+1).Order(&parent.order, parent.hash, 0, 0)
	hash := order.Hash(w.suite)
	n.group.keepLeaves(n.group.own, order.TxRoot, []keys.Digest{end.Leaf})
	if err := n.group.cfg.Pool.Add(end, n.group.env.Now(), 60_000, mempool.Arrival{}); err != nil {
		t.Fatal(err)
	}
	n.group.check(consensus.CheckPayload{Order: order})
	if p := n.group.proposals[hash]; p == nil || p.missing > 0 || p.valid || p.ask == nil {
		t.Fatalf("before its parent has a result: %+v", p)
	}
	if !w.run(2_000, func() bool { p := n.group.proposals[hash]; return p == nil || p.valid }) || n.group.proposals[hash] == nil {
		t.Error("it is not found valid when its parent has its result")
	}
}

// A member that sleeps through changes of members wakes up in another group, of which it may be no member any more.
func TestSleepThroughEpochs(t *testing.T) {
	for _, stays := range []bool{true, false} {
		w := newWorld(t, 4)
		w.observe(2)
		w.start(0, 1, 2, 4, 5) // node 3 sleeps from the start
		last := []uint32{1, 2, 4, 5}
		if stays {
			last = []uint32{1, 2, 3, 4, 5}
		}
		for i, members := range [][]uint32{{0, 1, 2, 3, 4}, {1, 2, 3, 4, 5}, last} {
			w.nodes[1].mustOffer(w.activation(uint64(i), members...))
			w.inEpoch(uint64(i+1), 0, 1, 2, 4, 5)
			w.nodes[1].mustOffer(w.tx(uint64(10+i), 60_000))
		}
		w.start(3)
		w.inEpoch(3, 3)
		w.reach(w.nodes[1].store.Head().Height())
		if got := w.nodes[3].group.Status().Number >= 0; got != stays {
			t.Errorf("member: %t, want %t", got, stays)
		}
		w.noAlarms()
	}
}

// Power fails between any two steps of a change of members; the group goes on, and nobody signs against himself.
func TestCrashAroundBarrier(t *testing.T) {
	for wait := int64(0); wait < 60; wait += 3 {
		w := newWorld(t, 4)
		w.observe(1)
		w.start(0, 1, 2, 3, 4)
		w.reach(0)
		first := w.activation(1, 0, 2, 3, 4)
		w.void = []ledger.TxID{first.ID}
		w.nodes[0].on(0, func() { w.nodes[0].group.Offer(first.Raw, func(ledger.TxID, error) {}) })
		w.run(wait, func() bool { return false })
		for _, n := range w.nodes {
			n.crash()
		}
		w.start(0, 1, 2, 3, 4)
		if w.nodes[0].group.Status().Epoch.Number == 0 {
			again := w.activation(1, 0, 2, 3, 4)
			w.void = append(w.void, again.ID)
			if err := w.nodes[0].offer(again.Raw); err != nil && !slices.Contains([]error{mempool.ErrCommitted, mempool.ErrKnown}, err) {
				t.Logf("after %d ms: %v", wait, err)
			}
		}
		w.inEpoch(1, 0, 1, 2, 3, 4)
		tx := w.tx(2, 60_000)
		w.nodes[2].mustOffer(tx)
		w.reach(2)
		w.noAlarms()
	}
}

// The engine's process dies while the epoch changes: its successor starts in the new one, that of a member and that
// of an observer that has become one.
func TestEngineRestartsInNewEpoch(t *testing.T) {
	for _, dies := range []int{2, 4} {
		w := newWorld(t, 4)
		w.observe(1)
		frail := &frailEngine{}
		w.nodes[dies].engine = func() consensus.Engine {
			frail.Engine = w.nodes[0].engine()
			return frail
		}
		w.start(0, 1, 2, 3, 4)
		w.nodes[0].mustOffer(w.tx(1, 60_000))
		w.reach(1)
		frail.down = true
		w.nodes[0].on(20_000, func() { frail.down = false })
		w.nodes[0].mustOffer(w.activation(2, 0, 1, 2, 3, 4))
		w.inEpoch(1, 0, 1, 2, 3, 4)
		if !w.run(60_000, func() bool { return !frail.down && w.nodes[dies].group.Status().Engine }) {
			t.Fatalf("the engine of node %d was not started again", dies)
		}
		w.nodes[0].mustOffer(w.tx(3, 60_000))
		w.reach(3)
		if !w.run(30_000, func() bool {
			return slices.ContainsFunc(w.nodes[dies].signed, func(st ledger.Statement) bool { return st.Epoch == 1 })
		}) {
			t.Errorf("node %d, whose engine died, does not vote in the new epoch", dies)
		}
		w.noAlarms()
	}
}

// frailEngine is an engine whose process dies when down is set.
type frailEngine struct {
	consensus.Engine
	down bool
}

func (f *frailEngine) Step(e consensus.Event) ([]consensus.Effect, error) {
	if f.down {
		return nil, consensus.ErrEngineDown
	}
	return f.Engine.Step(e)
}

// TestNothingTwiceAfterShorterLives replays a transaction of an earlier lifetime of the nodes, which lived longer than
// any may now: the present lifetime does not tell how old it can be.
func TestNothingTwiceAfterShorterLives(t *testing.T) {
	w := newWorld(t, 4)
	w.genesis.Params.MaxLifetime = 20_000
	w.lives = map[uint64]int64{1: 5_000}
	w.start(0, 1, 2, 3)
	tx := w.tx(1, 20_000)
	w.nodes[0].mustOffer(tx)
	w.reach(1)
	for _, n := range w.nodes {
		n.crash()
	}
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.activation(2, 0, 1, 2, 3))
	w.inEpoch(1, 0, 1, 2, 3)

	// Those that saw the lifetime change, and one that starts after.
	w.nodes[3].crash()
	w.start(3)
	w.run(tx.Expiry-begins-4_000-w.now, func() bool { return false })
	for _, n := range w.nodes {
		if err := n.offer(tx.Raw); !errors.Is(err, mempool.ErrCommitted) {
			t.Errorf("node %d takes it again: %v", n.number, err)
		}
	}
	w.nodes[0].mustOffer(w.tx(3, 4_000))
	w.reach(3)
	w.run(2_000, func() bool { return false })
	if height := w.nodes[0].store.Head().Height(); height != 3 {
		t.Errorf("%d blocks, want 3", height)
	}
}

// TestActivationWaits keeps a transaction that ends the epoch at the front of a pool that fills, on a node that cannot make
// blocks: it is not judged again for each transaction that comes, but now and then.
func TestActivationWaits(t *testing.T) {
	w := newWorld(t, 4)
	n := w.nodes[1]
	w.start(1)
	n.mustOffer(w.activation(1, 0, 1, 2))
	n.judged = 0
	began := w.now
	for i := range uint64(100) {
		n.mustOffer(w.tx(2+i, 60_000))
	}
	if most := int(w.now-began)/pendingPulse + 1; n.judged > most {
		t.Errorf("judged %d times within %d ms, want at most %d", n.judged, w.now-began, most)
	}
	n.judged = 0
	w.run(2*pendingPulse, func() bool { return false })
	if n.judged == 0 {
		t.Error("it is not judged again when time has passed")
	}
}

// TestInviter has a node join by the word of a member that was removed. It stops if that was before it took the word, whatever it fetched first, and
// goes on if it was later.
func TestInviter(t *testing.T) {
	w := newWorld(t, 4)
	w.observe(1)
	w.start(0, 1, 2, 3)
	w.nodes[1].mustOffer(w.activation(1<<40, 0, 1, 2, 3, 4))
	w.inEpoch(1, 0, 1, 2, 3)
	w.nodes[1].mustOffer(w.tx(1, 60_000))
	w.run(20_000, func() bool { return w.nodes[1].store.Head().Height() == 2 })
	anchor := w.nodes[1].store.Head().Height()
	w.nodes[1].mustOffer(w.activation(2<<40, 1, 2, 3, 4))
	w.inEpoch(2, 0, 1, 2, 3)
	removed := must(w.nodes[1].store.Header(w.nodes[1].store.Head().Height())).Order
	w.nodes[1].mustOffer(w.activation(3<<40, 1, 2, 4))
	w.inEpoch(3, 0, 1, 2, 3)

	late := w.nodes[4]
	late.anchor = Anchor{Height: anchor, Block: must(w.nodes[1].store.BlockHash(anchor)), By: w.nodes[0].id, Used: removed.UnixMilli}
	w.start(4)
	w.run(20_000, func() bool { return late.group.Stopped() != nil })
	if h := late.store.Head().Height(); !errors.Is(late.group.Stopped(), ErrInviter) || h != removed.Height {
		t.Fatalf("at height %d it is stopped because of %v, want it at block %d because of who invited it", h, late.group.Stopped(), removed.Height)
	}
	c := late.group.cfg
	late.crash()
	if _, err := New(c); !errors.Is(err, ErrInviter) {
		t.Errorf("it starts again all the same: %v", err)
	}

	// By the word of who still is a member it goes on from there, and by that of who was one when it took it.
	for _, by := range []Anchor{{By: w.nodes[1].id, Used: removed.UnixMilli}, {By: w.nodes[0].id, Used: removed.UnixMilli - 1}} {
		late.anchor.By, late.anchor.Used = by.By, by.Used
		w.start(4)
		w.inEpoch(3, 4)
		if err := late.group.Stopped(); err != nil {
			t.Error(err)
		}
		late.crash()
	}

	// Who has all blocks at once, as one that joins by a state, looks back over the epochs since.
	late.anchor.Used = removed.UnixMilli
	c = late.group.cfg
	c.Anchor = late.anchor
	c.Store = w.nodes[1].store
	if _, err := New(c); !errors.Is(err, ErrInviter) {
		t.Errorf("with the state of another epoch it starts: %v", err)
	}
}
