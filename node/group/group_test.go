package group

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

func TestCommit(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	tx := w.tx(1, 10_000)
	w.nodes[2].mustOffer(tx)
	w.reach(1)
	for _, n := range w.nodes {
		if got, err := n.group.Find(tx.ID); err != nil || got.Progress != Committed || got.Height != 1 {
			t.Errorf("node %d: Find = %+v, %v", n.number, got, err)
		}
		if hash, want := n.store.Head().Hash(), w.nodes[0].store.Head().Hash(); hash != want {
			t.Errorf("node %d: block %s, want %s", n.number, hash, want)
		}
		if len(n.alarms) > 0 || len(n.group.proposals) > 0 || len(n.group.held) > 0 || len(n.group.bodies) > 0 {
			t.Errorf("node %d keeps %d proposals, %d lists, %d bodies; alarms %v", n.number, len(n.group.proposals), len(n.group.held), len(n.group.bodies), n.alarms)
		}
	}
}

func TestPayload(t *testing.T) {
	t.Run("the proposer withholds bodies: the next member is asked", func(t *testing.T) {
		w := newWorld(t, 4)
		w.hook = func(from, to int, p Protocol, m []byte) []byte {
			if p == Transactions && to != 1 || p == Bodies && to == 0 {
				return nil
			}
			return m
		}
		w.start(0, 1, 2, 3)
		w.nodes[0].mustOffer(w.tx(1, 10_000))
		w.reach(1)
		if v := w.nodes[0].blocks[0].Certificate.Statement.View; v != 0 {
			t.Errorf("it took a view change to %d", v)
		}
	})
	t.Run("transactions come after the proposal: it waits for no request", func(t *testing.T) {
		w := newWorld(t, 4)
		var late []func()
		w.hook = func(from, to int, p Protocol, m []byte) []byte {
			if p == Transactions {
				late = append(late, func() { w.nodes[to].group.Receive(w.nodes[from].id, p, m) })
			}
			if p == Transactions || p == Leaves || p == Bodies {
				return nil
			}
			return m
		}
		w.start(0, 1, 2, 3)
		w.nodes[0].mustOffer(w.tx(1, 10_000))
		w.run(100, func() bool { return false })
		if len(late) != 3 {
			t.Fatalf("%d messages of transactions, want 3", len(late))
		}
		began := w.now
		for i, arrive := range late {
			w.nodes[i+1].on(0, arrive)
		}
		w.reach(1)
		if took := w.now - began; took > fetchRetry/2 {
			t.Errorf("the block took %d ms more", took)
		}
	})
	t.Run("leaves are missing or wrong: they are asked for", func(t *testing.T) {
		for _, wrong := range []bool{false, true} {
			w := newWorld(t, 4)
			dropped := 0
			w.hook = func(from, to int, p Protocol, m []byte) []byte {
				var packed packet
				if p != Consensus || ledger.Unmarshal(m, &packed) != nil || packed.Message.Order == nil || len(packed.Leaves) == 0 {
					return m
				}
				dropped++
				packed.Leaves = nil
				if wrong && dropped <= 3 {
					packed.Leaves = []keys.Digest{{1}} // refused whole; the engine sends it again
				}
				return mustMarshal(&packed)
			}
			w.start(0, 1, 2, 3)
			w.nodes[0].mustOffer(w.tx(1, 10_000))
			w.reach(1)
			if dropped == 0 {
				t.Error("no leaves were sent")
			}
		}
	})
	t.Run("a body with a bad signature: the proposal is refused, and not asked for again", func(t *testing.T) {
		w := newWorld(t, 4)
		w.start(0, 1, 2, 3)
		tx := w.tx(1, 10_000)
		var bad ledger.Tx
		if err := ledger.Unmarshal(tx.Raw, &bad); err != nil {
			t.Fatal(err)
		}
		bad.Signatures[0].Signature[0] ^= 1
		forged := must(ledger.DecodeTx(w.suite, mustMarshal(&bad)))
		if err := w.nodes[0].group.cfg.Pool.Add(forged, begins, 600_000, true); err != nil { // a leader that checks nothing
			t.Fatal(err)
		}
		asked := 0
		w.hook = func(from, to int, p Protocol, m []byte) []byte {
			if p == Bodies {
				asked++
			}
			return m
		}
		w.nodes[0].on(0, func() { w.nodes[0].group.tellPending() })
		w.run(3_000, func() bool { return false })
		if h := w.nodes[1].store.Head().Height(); h != 0 {
			t.Fatalf("height %d", h)
		}
		if asked == 0 || asked > 12 {
			t.Errorf("its transactions were asked for %d times by three members", asked)
		}
		w.nodes[1].mustOffer(w.tx(2, 60_000)) // the group lives on
		w.run(20_000, func() bool { return w.nodes[1].store.Head().Height() > 0 })
		if h := w.nodes[1].store.Head().Height(); h == 0 {
			t.Error("the group does not go on with another leader")
		}
	})
	t.Run("after a crash of all, bodies come from the journals", func(t *testing.T) {
		w := newWorld(t, 4)
		mute := true
		w.hook = func(from, to int, p Protocol, m []byte) []byte {
			var packed packet
			switch {
			case p == Leaves || p == Bodies || p == Blocks:
				if !mute {
					return nil
				}
			case p == Consensus && mute && ledger.Unmarshal(m, &packed) == nil:
				for _, v := range packed.Message.Votes {
					if v.Statement.Kind == ledger.Commit {
						return nil
					}
				}
			}
			return m
		}
		w.start(0, 1, 2, 3)
		tx := w.tx(1, 60_000)
		w.nodes[0].mustOffer(tx)
		if !w.run(5_000, func() bool {
			return !slices.ContainsFunc(w.nodes, func(n *testNode) bool {
				return !slices.ContainsFunc(n.signed, func(st ledger.Statement) bool { return st.Kind == ledger.Commit })
			})
		}) {
			t.Fatal("not all members voted to commit")
		}
		for _, n := range w.nodes {
			n.crash()
		}
		mute = false
		w.start(0, 1, 2, 3)
		w.reach(1)
		if got := w.nodes[3].blocks[0].Txs; len(got) != 1 || !bytes.Equal(got[0], tx.Raw) {
			t.Error("another block was made than the one that was voted for")
		}
	})
}

func TestIdle(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	w.hook = func(from, to int, p Protocol, m []byte) []byte {
		if p == Transactions && to == 0 {
			return nil
		}
		return m
	}
	tx := w.tx(1, 15) // the leader never has it in time
	w.nodes[1].mustOffer(tx)
	w.run(10_000, func() bool { return false })
	for _, n := range w.nodes {
		if st := n.group.Status(); st.Consensus.View != 0 || st.Head.Order.Height != 0 {
			t.Errorf("node %d is in view %d at height %d: a transaction that expired keeps the group busy", n.number, st.Consensus.View, st.Head.Order.Height)
		}
	}
	if got, _ := w.nodes[1].group.Find(tx.ID); got.Progress != Pending || !got.PastExpiry {
		t.Errorf("Find = %+v: only block time says that a transaction has expired", got)
	}
	w.hook = nil
	w.nodes[1].mustOffer(w.tx(2, 10_000))
	w.reach(1)
	if got, _ := w.nodes[1].group.Find(tx.ID); got.Progress != Expired {
		t.Errorf("after a later block, Find = %+v, want expired", got)
	}
}

func TestDiverged(t *testing.T) {
	w := newWorld(t, 4)
	bad := w.nodes[3]
	bad.spoil = func(r *state.Result) { r.Changes[0].Value = []byte("another") }
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.tx(1, 10_000))
	w.run(2_000, func() bool { return bad.group.Stopped() != nil })
	if err := bad.group.Stopped(); !errors.Is(err, ErrDiverged) || !errors.Is(err, ErrStopped) {
		t.Fatalf("Stopped = %v, want ErrDiverged", err)
	}
	if len(bad.alarms) != 1 {
		t.Errorf("alarms %q, want one", bad.alarms)
	}
	signed, sent := len(bad.signed), bad.sent
	w.nodes[1].mustOffer(w.tx(2, 10_000))
	w.run(10_000, func() bool { return w.nodes[0].store.Head().Height() == 2 })
	if h := w.nodes[0].store.Head().Height(); h != 2 {
		t.Errorf("the other three are at height %d, want 2", h)
	}
	w.run(3_000, func() bool { return false })
	if len(bad.signed) != signed || bad.sent != sent {
		t.Errorf("it signed %d statements and sent %d messages after it stopped", len(bad.signed)-signed, bad.sent-sent)
	}
	if bad.store.Head().Height() != 0 {
		t.Error("it stored a block of its own")
	}
	if err := bad.offer(w.tx(3, 10_000).Raw); !errors.Is(err, ErrStopped) {
		t.Errorf("a submission to it = %v, want ErrStopped", err)
	}
}

// askBlocks asks a node's group for blocks, as another member would.
func (w *world) askBlocks(n *testNode, from, to ledger.Height) (reply []byte, err error) {
	answered := false
	n.on(0, func() {
		n.group.Serve(w.nodes[0].id, Blocks, mustMarshal(&blocksync.Request{From: from, To: to}), func(r []byte, e error) {
			reply, err, answered = r, e, true
		})
	})
	w.run(100, func() bool { return answered })
	return reply, err
}

// mortal is an engine in a program that dies when it is told to.
type mortal struct {
	consensus.Engine
	node *testNode
	dead *bool
}

func (m mortal) Step(e consensus.Event) ([]consensus.Effect, error) {
	if *m.dead {
		return nil, fmt.Errorf("the program ended: %w", consensus.ErrEngineDown)
	}
	return m.Engine.Step(e)
}

func (m mortal) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	if *m.dead {
		return nil, fmt.Errorf("the program does not start: %w", consensus.ErrEngineDown)
	}
	return m.Engine.Init(c, journal)
}

func TestEngineDown(t *testing.T) {
	w := newWorld(t, 4)
	n := w.nodes[1]
	var dead bool
	starts := 0
	pbft := n.engine
	n.engine = func() consensus.Engine {
		starts++
		return mortal{pbft(), n, &dead}
	}
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.tx(1, 60_000))
	w.run(22, func() bool { return len(n.group.proposals) > 0 })
	dead = true // in the middle of a block
	w.run(1_500, func() bool { return false })
	if st := n.group.Status(); st.Engine || n.group.Stopped() != nil || st.Consensus.Leader != -1 {
		t.Fatalf("status while the engine is down: %+v", st)
	}
	if h := w.nodes[0].store.Head().Height(); h != 1 {
		t.Fatalf("the others are at height %d, want 1", h)
	}
	tried := starts
	dead = false
	w.nodes[1].mustOffer(w.tx(2, 60_000))
	w.reach(2)
	if st := n.group.Status(); !st.Engine || tried < 2 {
		t.Errorf("engine running: %t, %d attempts while it was down", st.Engine, tried-1)
	}
	signed := len(n.signed)
	w.nodes[2].mustOffer(w.tx(3, 60_000))
	w.reach(3)
	if len(n.signed) == signed {
		t.Error("the node does not vote after its engine came back")
	}
}

func TestJournalFails(t *testing.T) {
	for _, op := range []memfs.Op{memfs.OpWrite, memfs.OpSync} {
		t.Run(string(op), func(t *testing.T) {
			w := newWorld(t, 4)
			w.start(0, 1, 2, 3)
			n := w.nodes[2]
			w.nodes[0].mustOffer(w.tx(1, 60_000))
			w.reach(1)
			broken := false
			n.fs.SetHook(func(o memfs.Op, name string, _ int) error {
				if o == op && name == "data/journal" {
					broken = true
					return errors.New("input/output error")
				}
				return nil
			})
			sent, signed := 0, 0
			w.hook = func(from, to int, p Protocol, m []byte) []byte {
				if from == n.number && broken && p == Consensus {
					t.Error("something left the node after its journal failed")
				}
				return m
			}
			w.nodes[0].mustOffer(w.tx(2, 60_000))
			if !w.run(10_000, func() bool { return n.group.Stopped() != nil }) {
				t.Fatal("the node goes on without a journal")
			}
			sent, signed = n.sent, len(n.signed)
			n.fs.SetHook(nil)
			w.run(5_000, func() bool { return false })
			if n.sent != sent || len(n.signed) != signed {
				t.Error("the node spoke again")
			}
			if h := w.nodes[0].store.Head().Height(); h != 2 {
				t.Errorf("the others are at height %d, want 2", h)
			}
		})
	}
}

// TestJournalLost: a member that lost its journal follows and does not vote, until it gets the journal back.
func TestJournalLost(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.tx(1, 10_000))
	w.reach(1)
	n := w.nodes[1]
	n.crash()
	kept := readAll(t, n.fs)
	write := func(content []byte) {
		file := must(n.fs.Open("data/journal", true))
		_, failed := file.WriteAt(content, 0)
		if err := errors.Join(failed, file.Truncate(int64(len(content))), file.Sync(), file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	height := ledger.Height(1)
	for _, life := range []struct {
		name    string
		journal []byte // nil: as it was left
		mute    bool
	}{
		{"without a journal", []byte{}, true},
		{"with the journal that it began anew", nil, true},
		{"with a header that a crash left of it", newHeader(), true},
		{"with its journal restored", kept, false},
	} {
		if life.journal != nil {
			write(life.journal)
		}
		n.signed = nil
		w.start(1)
		height++
		w.nodes[0].mustOffer(w.tx(uint64(height), 10_000))
		w.reach(height)
		if life.mute != errors.Is(n.group.Status().Muted, ErrJournalLost) || life.mute != (len(n.signed) == 0) {
			t.Errorf("%s: it signed %d statements; %v", life.name, len(n.signed), n.group.Status().Muted)
		}
		n.crash()
	}
	st := ledger.Statement{Kind: ledger.Commit, Epoch: 4, Height: 1, Order: keys.Digest{1}, Block: keys.Digest{1}}
	forgot := guard{Epoch: 4, Mute: 5}
	if _, err := forgot.allow(st); !errors.Is(err, ErrDoubleSign) {
		t.Errorf("the guard lets it vote in the epoch that it forgot: %v", err)
	}
	for st.Epoch = 5; st.Epoch < 7; st.Epoch++ {
		if _, err := forgot.allow(st); err != nil || forgot.Mute != 5 {
			t.Errorf("in epoch %d it may vote again: %v", st.Epoch, err)
		}
	}
}

// TestMarkDamaged: what is left of a damaged mark still keeps a member with an empty disk from voting, and is mended.
func TestMarkDamaged(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	n := w.nodes[3]
	for _, damage := range []func(state.File) error{
		func(f state.File) error { return f.Truncate(0) },
		func(f state.File) error { return f.Truncate(10) },
		func(f state.File) error { _, err := f.WriteAt([]byte("zz"), 4); return err },
	} {
		n.loseDisk()
		mark := must(n.fs.Open(n.group.markName(), false))
		if err := errors.Join(damage(mark), mark.Sync(), mark.Close()); err != nil {
			t.Fatal(err)
		}
		w.start(3)
		if why := n.group.Status().Muted; !errors.Is(why, ErrJournalLost) {
			t.Errorf("with a damaged mark it votes: %v", why)
		}
		if marked, damaged, err := n.group.marked(); !marked || damaged || err != nil {
			t.Errorf("marked %t, damaged %t, %v", marked, damaged, err)
		}
	}
}

// TestMutedAlone: where no block can be made without the member that lost its journal, it does not advise one.
func TestMutedAlone(t *testing.T) {
	for members, advice := range map[int]string{2: "fondaco recover", 4: "fondaco member propose"} {
		w := newWorld(t, members)
		n := w.nodes[0]
		for i := range members {
			w.start(i)
		}
		n.mustOffer(w.tx(1, 10_000))
		w.reach(1)
		n.crash()
		if err := n.fs.Remove("data/journal"); err != nil {
			t.Fatal(err)
		}
		w.start(0)
		why := fmt.Sprint(n.group.Status().Muted)
		if !strings.Contains(why, advice) || members == 2 && strings.Contains(why, "propose") {
			t.Errorf("of %d members: %s", members, why)
		}
	}
}

func TestSubmit(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	n := w.nodes[0]
	change := func(f func(*ledger.Tx)) []byte {
		tx := w.tx(100, 10_000).Tx
		tx.Signatures = nil
		f(&tx)
		return must(tx.Sign(w.suite, w.client)).Raw
	}
	committed := w.tx(1, 10_000)
	n.mustOffer(committed)
	w.reach(1)
	pending := w.tx(2, 10_000)
	n.mustOffer(pending)
	tampered := bytes.Clone(w.tx(3, 10_000).Raw)
	tampered[len(tampered)-1] ^= 1
	for _, c := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"one that waits", pending.Raw, mempool.ErrKnown},
		{"one that is in a block", committed.Raw, mempool.ErrCommitted},
		{"expired", change(func(tx *ledger.Tx) { tx.Expiry = begins - 1 }), mempool.ErrExpired},
		{"an expiry too far ahead", change(func(tx *ledger.Tx) { tx.Expiry = begins + 10_000_000 }), mempool.ErrExpiry},
		{"a barred sender", change(func(tx *ledger.Tx) { tx.Sender = ledger.Address{9} }), errBarred},
		{"a wrong signature", tampered, keys.ErrSignature},
		{"garbage", []byte("garbage"), ledger.ErrTx},
	} {
		err := n.offer(c.raw)
		if !errors.Is(err, c.want) && (c.name != "garbage" || err == nil) {
			t.Errorf("%s: Offer = %v, want %v", c.name, err, c.want)
		}
		if !IsRefusal(err) {
			t.Errorf("%s: IsRefusal(%v) = false", c.name, err)
		}
	}
	for name, raw := range map[string][]byte{
		"another chain": change(func(tx *ledger.Tx) { tx.Chain = keys.Digest{1} }),
		"another group": change(func(tx *ledger.Tx) { tx.Group = "other" }),
		"no gas":        change(func(tx *ledger.Tx) { tx.GasLimit = 0 }),
		"too much gas":  change(func(tx *ledger.Tx) { tx.GasLimit = w.genesis.Params.TxGas + 1 }),
		"too large":     change(func(tx *ledger.Tx) { tx.Args = make([]byte, ledger.MaxTxSize) }),
	} {
		if err := n.offer(raw); err == nil || !IsRefusal(err) {
			t.Errorf("%s: Offer = %v", name, err)
		}
	}
	t.Run("too many at once", func(t *testing.T) {
		busy, members, done := 0, n.group.senders[1], false
		n.on(0, func() {
			n.group.checking = checkWorkers // as if the workers were busy
			many := make([][]byte, 2*maxInbox/maxInboxShare)
			if err := n.group.receiveTransactions(1, mustMarshal(many)); err != nil {
				t.Error(err)
			}
			if members.inbox != maxInbox/maxInboxShare {
				t.Errorf("one member has %d transactions in the inbox, at most %d", members.inbox, maxInbox/maxInboxShare)
			}
			for range maxInbox {
				n.group.enqueue(incoming{done: func(_ ledger.TxID, err error) {
					if errors.Is(err, ErrBusy) && !IsRefusal(err) {
						busy++
					}
				}})
			}
			n.group.checking, done = 0, true
			n.group.checkInbox()
		})
		w.run(2_000, func() bool { return done && n.group.checking == 0 && len(n.group.inbox) == 0 })
		if busy != maxInbox/maxInboxShare || members.inbox != 0 || n.group.inBytes != 0 {
			t.Errorf("%d were told that the node is busy, want %d; %d left of the member", busy, maxInbox/maxInboxShare, members.inbox)
		}
	})
}

// TestDiskLost takes a member's disk away, all but the folder of its key, while the group is in its second epoch. It comes
// through both epochs anew, and must not take the second for one in which it never voted, nor the one after it, of which it
// could have been the first to hear. Its clock tells it nothing.
func TestDiskLost(t *testing.T) {
	for _, skew := range []int64{0, -3_600_000, 3_600_000} {
		t.Run(fmt.Sprintf("a clock that is %d ms ahead", skew), func(t *testing.T) { diskLost(t, skew) })
	}
}

func diskLost(t *testing.T, skew int64) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	w.nodes[1].mustOffer(w.activation(1<<40, 0, 1, 2, 3))
	w.inEpoch(1, 0, 1, 2, 3)
	n := w.nodes[3]
	n.loseDisk()
	n.skew = skew
	w.start(3)
	n.skew = 0 // corrected
	quiet := func(epoch uint64) {
		t.Helper()
		w.inEpoch(epoch, 0, 1, 2, 3)
		w.nodes[0].mustOffer(w.tx(epoch, 10_000))
		w.reach(w.nodes[0].store.Head().Height() + 1)
		w.run(3_000, func() bool { return false })
		if s := n.group.Status(); len(n.signed) > 0 || !errors.Is(s.Muted, ErrJournalLost) {
			t.Errorf("in epoch %d it signed %d statements; %v", epoch, len(n.signed), s.Muted)
		}
	}
	quiet(1)
	w.nodes[1].mustOffer(w.activation(2<<40, 0, 1, 2, 3))
	quiet(2) // of which the others may have known less than it did
	n.crash()
	w.start(3)
	quiet(2)
	w.nodes[1].mustOffer(w.activation(3<<40, 0, 1, 2, 3))
	quiet(3) // what it heard from the others it heard in the epoch before this one
	w.nodes[1].mustOffer(w.activation(4<<40, 0, 1, 2, 3))
	w.inEpoch(4, 0, 1, 2, 3)
	w.nodes[0].mustOffer(w.tx(4, 10_000))
	if !w.run(60_000, func() bool { return len(n.signed) > 0 }) || n.group.Status().Muted != nil {
		t.Errorf("in an epoch that began after the loss it does not vote: %v", n.group.Status().Muted)
	}
	w.noAlarms()

	t.Run("another chain in the same folder", func(t *testing.T) {
		n.crash()
		other := must(n.fs.Open(n.group.markName(), true))
		if _, err := other.WriteAt([]byte("0x1234"), 0); err != nil {
			t.Fatal(err)
		}
		if marked, damaged, err := n.group.marked(); marked || damaged || err != nil {
			t.Errorf("the mark of another chain counts: %v", err)
		}
	})
}
