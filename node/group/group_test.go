package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
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
		if err := w.nodes[0].group.cfg.Pool.Add(forged, begins, 600_000, mempool.Arrival{Own: true}); err != nil { // a leader that checks nothing
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
	forgot := guard{Guard: doublesign.Guard{Epoch: 4}, Mute: 5}
	if _, err := forgot.allow(st); !errors.Is(err, doublesign.Err) {
		t.Errorf("the guard lets it vote in the epoch that it forgot: %v", err)
	}
	for st.Epoch = 5; st.Epoch < 7; st.Epoch++ {
		if _, err := forgot.allow(st); err != nil || forgot.Mute != 5 {
			t.Errorf("in epoch %d it may vote again: %v", st.Epoch, err)
		}
	}
}

// TestJournalAhead: a member that lost its blocks gets those of an earlier time, as of a backup, and has its journal. It
// catches up, votes, and contradicts nothing that it signed, also when what it signed last was a view change, or when the
// journal is of a later epoch than the blocks, in which the node may have been no member.
func TestJournalAhead(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before ledger.Height
		change bool // the leader is gone when the member loses its blocks
		epochs int  // that have begun by then, behind the blocks of the earlier time
		joins  bool // the node is a member from the first of them on
		raft   bool
		rots   bool // the blocks are not of an earlier time, but the one behind before is damaged
		load   bool // blocks are made while others are in flight, so that what the journal says of the blocks is older than they are
	}{
		{name: "no blocks"},
		{name: "some blocks", before: 7},
		{name: "all but one", before: 29},
		{name: "in a view change", before: 7, change: true},
		{name: "an epoch ago", before: 7, epochs: 1},
		{name: "no blocks, two epochs ago", epochs: 2},
		{name: "an epoch ago, in a view change", before: 7, change: true, epochs: 1},
		{name: "before it joined", before: 7, epochs: 2, joins: true},
		{name: "raft, no blocks", raft: true},
		{name: "raft, some blocks", before: 7, raft: true},
		{name: "raft, all but one", before: 29, raft: true},
		{name: "raft, an epoch ago", before: 7, epochs: 1, raft: true},
		{name: "raft, within the epoch before", before: 16, epochs: 2, raft: true},
		{name: "three of what was in flight", before: 27, load: true},
		{name: "raft, three of what was in flight", before: 27, raft: true, load: true},
		{name: "raft, two of what was in flight", before: 28, raft: true, load: true},
		{name: "raft, two of what was in flight, damaged", before: 28, raft: true, load: true, rots: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, vote := newWorld(t, 4), ledger.Commit
			w.observe(1)
			if tt.raft {
				w, vote = newRaftWorld(t, 4, 1), ledger.Attest
			}
			if tt.load {
				w.delay, w.execute = 30, 20
				w.genesis.Params.BlockTxs = 1
			}
			w.start(0, 1, 2, 3, 4)
			n, members := w.nodes[3], []uint32{0, 1, 2, 3}
			if tt.joins {
				n, members = w.nodes[4], []uint32{0, 1, 2, 3, 4}
			}
			var backup *memfs.FS
			if tt.load {
				n.finalized = func(b *ledger.Block) {
					if b.Header.Order.Height == tt.before {
						backup = n.fs.Clone()
					}
				}
				w.load(600, 20)
				w.reach(30)
			}
			for h := w.nodes[0].store.Head().Height(); h < 30; h++ {
				if h == tt.before {
					backup = n.fs.Clone()
				}
				if epoch := int(h) - 14; epoch > 0 && epoch <= tt.epochs {
					w.nodes[0].mustOffer(w.activation(uint64(h), members...))
					w.inEpoch(uint64(epoch), 0, 1, 2, 3, 4)
				} else {
					w.nodes[0].mustOffer(w.tx(uint64(h), 10_000))
				}
				w.reach(h + 1)
			}
			leader := n.group.Status().Consensus.Leader
			if tt.change {
				w.nodes[leader].crash()
				w.nodes[(leader+1)%3].mustOffer(w.tx(100, 60_000))
				changing := func(st ledger.Statement) bool { return st.Kind == ledger.ViewChange }
				if int(leader) == n.number || !w.run(60_000, func() bool { return slices.ContainsFunc(n.signed, changing) }) {
					t.Fatalf("the member, whose leader is %d, signs no view change", leader)
				}
			}
			if tt.rots {
				n.damage(tt.before + 1)
			}
			n.crash()
			if !tt.rots {
				n.takeBlocks(backup)
			}
			signed := len(n.signed)
			w.start(n.number)
			if err := n.group.Status().Muted; errors.Is(err, ErrBehind) != (tt.epochs > 0 && !tt.joins) {
				t.Errorf("at the start it is mute: %v", err)
			}
			if h := n.store.Head().Height(); h != tt.before {
				t.Fatalf("it starts at height %d, want %d", h, tt.before)
			}
			if tt.change {
				w.start(int(leader))
			}
			w.nodes[0].mustOffer(w.tx(200, 60_000))
			votes := func(st ledger.Statement) bool {
				return st.Kind == vote && st.Height > 30 && st.Epoch == uint64(tt.epochs)
			}
			for number := uint64(300); !slices.ContainsFunc(n.signed[signed:], votes) && number < 310; number++ {
				w.nodes[0].mustOffer(w.tx(number, 60_000))
				w.run(10_000, func() bool { return slices.ContainsFunc(n.signed[signed:], votes) })
			}
			if n.group.Stopped() != nil || n.group.Status().Muted != nil || !slices.ContainsFunc(n.signed[signed:], votes) {
				t.Errorf("height %d, stopped %v, muted %v, and no vote", n.store.Head().Height(), n.group.Stopped(), n.group.Status().Muted)
			}
			said := map[ledger.Statement]ledger.Statement{} // by what may be said once only
			for _, st := range n.signed {
				if st.Kind == ledger.Heartbeat {
					continue
				}
				once := ledger.Statement{Kind: st.Kind, Epoch: st.Epoch, View: st.View}
				if st.Kind != ledger.ViewChange {
					once.Height = st.Height
				}
				if other, twice := said[once]; twice && other != st {
					t.Errorf("it signed %+v and %+v", other, st)
				}
				said[once] = st
			}
		})
	}
}

// TestBlocksLost: a member that starts on older blocks than it had says so until it has them again. When nobody has them the
// group makes no others, and goes on in the way that the status tells.
func TestBlocksLost(t *testing.T) {
	for name, make := range map[string]func() *world{
		"pbft": func() *world { return newWorld(t, 4) },
		"raft": func() *world { return newRaftWorld(t, 4, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			w := make()
			all := []int{0, 1, 2, 3}
			w.start(all...)
			var old []*memfs.FS // of each node, with block 4; then of node 3, with block 8
			for h := range ledger.Height(9) {
				switch h {
				case 4:
					for _, n := range w.nodes {
						old = append(old, n.fs.Clone())
					}
				case 8:
					old = append(old, w.nodes[3].fs.Clone())
				}
				w.nodes[0].mustOffer(w.tx(uint64(h), 10_000))
				w.reach(h + 1)
			}
			says := func(want string, numbers ...int) {
				t.Helper()
				for _, i := range numbers {
					why := w.nodes[i].group.Status().Lacking
					if want == "" && why != nil || want != "" && (why == nil || !strings.Contains(why.Error(), want)) {
						t.Errorf("node %d says that it lacks blocks: %v, want %q", i, why, want)
					}
				}
			}

			n := w.nodes[3]
			if err := n.group.Close(); err != nil {
				t.Fatal(err)
			}
			for _, n := range w.nodes {
				n.crash()
			}
			n.takeBlocks(old[4])
			w.start(3)
			says("once had block 9, and block 8 is the last", 3)
			w.start(0, 1, 2)
			w.reach(9)
			says("", all...)

			for i, n := range w.nodes {
				n.crash()
				n.takeBlocks(old[i])
			}
			w.start(all...)
			w.nodes[0].mustOffer(w.tx(100, 60_000))
			w.run(10_000, func() bool { return false })
			says("block 4 is the last", all...)
			for _, n := range w.nodes {
				n.crash()
				if err := errors.Join(n.fs.Remove("data/journal"), n.fs.SyncDir("data")); err != nil {
					t.Fatal(err)
				}
			}
			plan := &Plan{Now: begins + w.now, Lossy: true, Reform: precompiles.Reform{Override: "the disks lost blocks"}}
			s := w.nodes[0].stopped()
			r, err := s.Propose(t.Context(), append(w.reports(1, 2, 3), must(s.Report())), plan)
			if err = errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
			w.sign(r, all...)
			for _, n := range w.nodes {
				if _, err := n.apply(r); err != nil {
					t.Fatal(err)
				}
			}
			w.start(all...)
			w.inEpoch(1, all...)
			w.nodes[1].mustOffer(w.tx(200, 60_000))
			w.reach(r.Last().Header.Order.Height + 1)
			says("", all...)
			w.noAlarms()
		})
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
				n.group.Offer(nil, func(_ ledger.TxID, err error) {
					if errors.Is(err, ErrBusy) && !IsRefusal(err) {
						busy++
					}
				})
			}
			n.group.checking, done = 0, true
			n.group.checkInbox()
		})
		w.run(2_000, func() bool { return done && n.group.checking == 0 && len(n.group.inbox) == 0 })
		if busy != maxInbox/maxInboxShare || members.inbox != 0 || n.group.inBytes != 0 {
			t.Errorf("%d were told that the node is busy, want %d; %d left of the member", busy, maxInbox/maxInboxShare, members.inbox)
		}
		if line := n.group.Pool().Admission().Waiting; line != 0 {
			t.Errorf("%d are in the line when all were refused", line)
		}
	})
	t.Run("observers have a share too", func(t *testing.T) {
		status := n.group.Status()
		status.Nodes = map[identity.NodeID]precompiles.Node{}
		for i := range 20 {
			status.Nodes[identity.NodeID{byte(i)}] = precompiles.Node{}
		}
		n.group.status.Store(&status)
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := n.group.Submit(ended, make([][]byte, 1_000)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if refused := n.group.Pool().Admission().Refused; refused != 800 {
			t.Errorf("%d of 1,000 were refused, want 800: a room for 2,000 in which 19 others take some", refused)
		}
		w.run(2_000, func() bool { return n.group.Pool().Admission().Waiting == 0 })
	})
	t.Run("more than there is room for", func(t *testing.T) {
		pool := n.group.Pool()
		for { // others take all of it
			if admitted, _, _ := pool.Admit(1_000_000, 1, &w.genesis.Params, begins); admitted == 0 {
				break
			}
		}
		refused := pool.Admission().Refused
		results, err := n.group.Submit(t.Context(), [][]byte{{1}, {2}})
		if err != nil || len(results) != 2 || pool.Admission().Refused != refused+2 {
			t.Fatalf("Submit = %v, %v, with %d refused, want 2 refused", results, err, pool.Admission().Refused-refused)
		}
		for _, r := range results {
			if o, ok := errors.AsType[*mempool.OverloadError](r.Err); !ok || o.Wait.Seconds() < 1 || IsRefusal(r.Err) {
				t.Errorf("Submit = %v, want how long the others take", r.Err)
			}
		}
	})
}

// TestSubmitUnindexed gives a node whose index cannot be read a transaction: it cannot tell that no block has it.
func TestSubmitUnindexed(t *testing.T) {
	disk := t.TempDir()
	if err := os.Mkdir(filepath.Join(disk, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := diskWorld(t, disk)
	w.start(0)
	n := w.nodes[0]
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	n.group.horizon = math.MaxInt64
	n.group.add(incoming{arrival: n.group.Pool().Enter(true, begins), done: func(_ ledger.TxID, err error) {
		if !errors.Is(err, ErrUncertain) || IsRefusal(err) {
			t.Errorf("add = %v, want ErrUncertain", err)
		}
	}}, w.tx(1, 10_000), nil)
}

// TestDeployments gives a node deployments while modules take seconds to be taken up: each module has one place, however often
// it is sent, and who sent it hears what became of it.
func TestDeployments(t *testing.T) {
	w := newWorld(t, 4)
	w.prepareFor = 3_000
	w.start(0, 1, 2, 3)
	n := w.nodes[0]
	deployment := func(number uint64, module byte, lives int64) []byte {
		tx := w.tx(number, lives).Tx
		tx.Method, tx.Args, tx.Signatures = "deploy", mustMarshal([]byte{module}), nil
		return must(tx.Sign(w.suite, w.client)).Raw
	}
	answers := map[string]error{}
	offer := func(name string, raw []byte) {
		answers[name] = errors.New("no answer")
		n.group.Offer(raw, func(_ ledger.TxID, err error) { answers[name] = err })
	}
	n.on(0, func() {
		first := deployment(1, 1, 60_000)
		offer("the first", first)
		offer("the same again", first)
		offer("its module in another", deployment(2, 1, 60_000))
		offer("one that expires meanwhile", deployment(3, 2, 1_000))
		offer("another module", deployment(4, 3, 60_000))
		offer("and another", deployment(5, 4, 60_000))
		offer("one too many", deployment(6, 5, 60_000))
	})
	n.on(1_500, func() {
		offer("the same later", deployment(1, 1, 60_000-n.now))
		n.on(100, func() {
			if line := n.group.Pool().Admission().Waiting; line != maxPreparing {
				t.Errorf("%d are in the line, want %d: copies take no place", line, maxPreparing)
			}
		})
	})
	w.run(10_000, func() bool {
		return n.store.Head().Height() > 0 && n.prepared == maxPreparing && len(n.group.preparing) == 0
	})
	for name, want := range map[string]error{
		"the first": nil, "another module": nil, "and another": nil, "the same again": ErrUncertain, "the same later": ErrUncertain,
		"its module in another": ErrBusy, "one too many": ErrBusy, "one that expires meanwhile": ErrUncertain,
	} {
		if err := answers[name]; !errors.Is(err, want) || !errors.Is(err, mempool.ErrKnown) && IsRefusal(err) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if n.prepared != maxPreparing {
		t.Errorf("%d modules were taken up, want %d", n.prepared, maxPreparing)
	}
}

// TestDeploymentsEverywhere gives each node as many deployments as it takes up at once, all at the same time. Nobody takes the leader, to
// which the others' come while its places are taken, for idle.
func TestDeploymentsEverywhere(t *testing.T) {
	w := newWorld(t, 4)
	w.prepareFor = 400
	w.start(0, 1, 2, 3)
	left := 4 * maxPreparing
	for i := range left {
		tx := w.tx(uint64(i), 60_000).Tx
		tx.Method, tx.Args, tx.Signatures = "deploy", mustMarshal([]byte{byte(i)}), nil
		raw := must(tx.Sign(w.suite, w.client)).Raw
		n := w.nodes[i%4]
		n.on(0, func() {
			n.group.Offer(raw, func(_ ledger.TxID, err error) {
				if err != nil {
					t.Errorf("deployment %d: %v", i, err)
				}
				left--
			})
		})
	}
	if !w.run(30_000, func() bool { return left == 0 && w.emptied() }) {
		t.Fatalf("%d deployments have no answer, or are in no block", left)
	}
	for _, n := range w.nodes {
		if view := n.group.Status().Consensus.View; view > 0 {
			t.Errorf("node %d is in view %d", n.number, view)
		}
		if n.prepared != 4*maxPreparing || len(n.group.unprepared) > 0 || n.group.unpreparedBytes > 0 {
			t.Errorf("node %d took up %d modules, want %d; %d of %d bytes wait", n.number, n.prepared, 4*maxPreparing, len(n.group.unprepared), n.group.unpreparedBytes)
		}
	}
	// What one member sends cannot take more than its share.
	n := w.nodes[0]
	w.prepareFor = 1 << 40
	for i := range 3 * maxUnprepared {
		tx := w.tx(uint64(100+i), 60_000).Tx
		tx.Method, tx.Args, tx.Signatures = "deploy", mustMarshal([]byte{byte(100 + i)}), nil
		if err := n.group.receiveTransactions(1, mustMarshal([][]byte{must(tx.Sign(w.suite, w.client)).Raw})); err != nil {
			t.Fatal(err)
		}
	}
	w.run(100, func() bool { return false })
	if len(n.group.preparing) != maxPreparing || len(n.group.unprepared) != maxUnprepared || n.group.senders[1].unprepared != maxUnprepared {
		t.Errorf("of one member %d modules are taken up and %d wait, want %d and %d", len(n.group.preparing), len(n.group.unprepared), maxPreparing, maxUnprepared)
	}
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
