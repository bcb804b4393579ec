package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// disaster is a world in which nodes 2 and 3 of four are gone for good. What became final last, it became on node 3 only,
// with the votes of the others.
type disaster struct {
	*world
	kept []*ledger.Block // final on node 3, and not on 0 and 1
}

// strike lets a group work, and then ends nodes 2 and 3 at a moment at which only node 3 has learnt that a number of blocks are final.
func strike(t *testing.T, w *world, blocks ledger.Height) *disaster {
	t.Helper()
	w.start(0, 1, 2, 3)
	l := &load{world: w, at: 1}
	l.begin()
	w.reach(3)
	// From a height on nobody but node 3 hears of commits, and it tells nobody.
	doom := w.height() + 16
	final := func(st ledger.Statement) bool {
		return (st.Kind == ledger.Commit || st.Kind == ledger.Attest) && st.Height > doom
	}
	w.hook = func(_, to int, p Protocol, m []byte) []byte {
		if p == Blocks {
			return nil
		}
		var got packet
		if p != Consensus || to == 3 {
			return m
		}
		if err := ledger.Unmarshal(m, &got); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(got.Message.Votes, func(v ledger.Vote) bool { return final(v.Statement) }) ||
			slices.ContainsFunc(got.Message.Certificates, func(c ledger.Certificate) bool { return final(c.Statement) }) {
			return nil
		}
		return m
	}
	if !w.run(20_000, func() bool { return w.nodes[3].store.Head().Height() >= doom+blocks }) {
		t.Fatalf("no block becomes final on node 3 alone: it has block %d", w.nodes[3].store.Head().Height())
	}
	l.done = true
	d := &disaster{world: w}
	base := max(w.nodes[0].store.Head().Height(), w.nodes[1].store.Head().Height())
	for h := base + 1; h <= w.nodes[3].store.Head().Height(); h++ {
		d.kept = append(d.kept, must(w.nodes[3].store.Block(h)))
	}
	for _, n := range w.nodes {
		if n.up {
			n.crash()
		}
	}
	w.hook = nil
	// The survivors bring one another to the same height. They have no quorum.
	w.start(0, 1)
	if !w.run(10_000, func() bool {
		return w.nodes[0].store.Head().Height() == base && w.nodes[1].store.Head().Height() == base
	}) {
		t.Fatalf("the survivors are at %d and %d, want %d", w.nodes[0].store.Head().Height(), w.nodes[1].store.Head().Height(), base)
	}
	w.nodes[0].crash()
	w.nodes[1].crash()
	return d
}

// stopped opens what a node has that does not run.
func (n *testNode) stopped() *Stopped {
	n.t.Helper()
	s, err := n.tryStopped()
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (n *testNode) tryStopped() (*Stopped, error) {
	if n.store == nil {
		if err := n.open(); err != nil {
			n.t.Fatal(err)
		}
	}
	return OpenStopped(Config{
		Suite: n.suite, Chain: n.chain, Group: "main", Finality: n.genesis.Finality(), Trust: n.genesis.Trust, Signer: n.key, Store: n.store, Executor: executor{n}, Engine: n.engine,
		FS: n.fs, Dir: "data",
	})
}

// reports returns what nodes report, and leaves them stopped.
func (w *world) reports(numbers ...int) (all []*Report) {
	w.t.Helper()
	for _, i := range numbers {
		s := w.nodes[i].stopped()
		r := must(s.Report())
		if err := s.Close(); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, must(DecodeReport(mustMarshal(r))))
	}
	return all
}

func (w *world) plan() *Plan {
	return &Plan{Now: begins + w.now, Reform: precompiles.Reform{Remove: []identity.NodeID{w.nodes[2].id, w.nodes[3].id}, Override: "a flood"}}
}

// propose has node 0 propose the recovery of reports.
func (d *disaster) propose(reports []*Report) *Recovery {
	d.t.Helper()
	s := d.nodes[0].stopped()
	defer s.Close()
	r := must(s.Propose(context.Background(), reports, d.plan()))
	return must(DecodeRecovery(d.suite, mustMarshal(r)))
}

// sign adds the signatures of nodes.
func (w *world) sign(r *Recovery, numbers ...int) {
	w.t.Helper()
	for _, i := range numbers {
		s := w.nodes[i].stopped()
		if _, err := s.Sign(context.Background(), r, keys.Digest{}, begins+w.now); err != nil {
			w.t.Fatalf("node %d: %v", i, err)
		}
		if err := s.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (n *testNode) apply(r *Recovery) (ledger.Height, error) {
	n.t.Helper()
	s := n.stopped()
	height, err := s.Apply(context.Background(), must(DecodeRecovery(n.suite, mustMarshal(r))))
	return height, errors.Join(err, s.Close())
}

func TestRecovery(t *testing.T) {
	for engine, make := range map[string]func() *world{
		"pbft": func() *world { return newWorld(t, 4) },
		"raft": func() *world { return newRaftWorld(t, 4, 0) },
		"trusted": func() *world { // commit votes of members that do not lie: nothing shows what they hold but their word
			w := newWorld(t, 4)
			w.genesis.Engine, w.genesis.Trust = "rota", true
			for _, n := range w.nodes {
				n.engine = func() consensus.Engine { return &wordOnly{pbft.New()} }
			}
			return w
		},
	} {
		t.Run(engine, func(t *testing.T) {
			d := strike(t, make(), 1)
			w := d.world
			r := d.propose(w.reports(1, 0))
			if len(r.Blocks) != len(d.kept)+1 && engine == "pbft" || len(r.Blocks) <= len(d.kept) {
				t.Fatalf("the recovery has %d blocks, and %d are final on node 3", len(r.Blocks), len(d.kept))
			}
			w.sign(r, 0, 1)
			for _, n := range w.nodes[:2] {
				for range 2 { // again does no harm
					if height, err := n.apply(r); err != nil || height != r.Last().Header.Order.Height {
						t.Fatalf("node %d has block %d after it applied block %d: %v", n.number, height, r.Last().Header.Order.Height, err)
					}
				}
			}
			for _, b := range d.kept { // what a client was told by node 3 holds
				if got := must(w.nodes[0].store.BlockHash(b.Header.Order.Height)); got != b.Header.Hash(w.suite) {
					t.Errorf("block %d is %s, and was final on node 3 as %s", b.Header.Order.Height, got, b.Header.Hash(w.suite))
				}
			}
			w.start(0, 1)
			w.inEpoch(1, 0, 1)
			for i := range 3 {
				w.nodes[i%2].mustOffer(w.tx(uint64(i)<<50, 60_000))
			}
			w.reach(r.Last().Header.Order.Height + 1)

			// A node that was gone comes back. It asks the others, and does not believe them before its operator does.
			w.start(2)
			before := w.nodes[2].store.Head().Height()
			w.run(5_000, func() bool { return false })
			if at := w.nodes[2].store.Head().Height(); at >= r.Last().Header.Order.Height || at < before {
				t.Errorf("the node that was gone has block %d, and nobody applied block %d there", at, r.Last().Header.Order.Height)
			}
			w.nodes[2].crash()
			if _, err := w.nodes[2].apply(r); err != nil {
				t.Fatal(err)
			}
			w.start(2)
			w.reach(w.nodes[0].store.Head().Height())
			if got := w.nodes[2].group.Status(); got.Number != -1 || got.Epoch.Number != 1 {
				t.Errorf("it is member %d of epoch %d", got.Number, got.Epoch.Number)
			}
			w.noAlarms()

			if engine != "pbft" {
				return // its world has the chain id of a genesis for pbft
			}
			last := r.Last().Header.Hash(w.suite)
			if _, err := w.nodes[0].verify(last); err != nil {
				t.Errorf("the history with the verifier's word: %v", err)
			}
			for _, accepted := range [][]keys.Digest{nil, {keys.Digest{1}}, r.hashes(w.suite)[:len(r.Blocks)-1]} {
				if v, err := w.nodes[0].verify(accepted...); !errors.Is(err, ledger.ErrRecovery) {
					t.Errorf("the history without the verifier's word: %v, up to block %d", err, v.Height)
				}
			}
		})
	}
}

// wordOnly is an engine that shows no certificate for what it holds.
type wordOnly struct{ consensus.Engine }

func (e *wordOnly) Step(event consensus.Event) ([]consensus.Effect, error) {
	effects, err := e.Engine.Step(event)
	for i, effect := range effects {
		if h, ok := effect.(consensus.Holding); ok {
			h.Certificate = ledger.Certificate{}
			effects[i] = h
		}
	}
	return effects, err
}

// verify checks all that a node has of the history, with nothing but the genesis and the recoveries that are accepted.
func (n *testNode) verify(accepted ...keys.Digest) (*audit.Verdict, error) {
	n.t.Helper()
	head := n.store.Head()
	source := &audit.Source{
		Suite: n.suite, Chain: n.chain, Group: "main", Head: head.Height(), Block: n.store.Block, BlockHash: n.store.BlockHash,
		Epoch: func(uint64) (ledger.Epoch, ledger.Height, error) {
			epoch, err := executor{n}.Epoch(head)
			return epoch, 0, err
		},
	}
	var out strings.Builder
	if err := audit.Export(n.t.Context(), &out, source, 0, head.Height()); err != nil {
		n.t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(out.String())), nil }
	return audit.Verify(n.t.Context(), open, audit.Trust{Suite: n.suite, Genesis: &n.genesis, First: n.first.Hash(), Recoveries: accepted}, func(ledger.Height, int64) {})
}

// Each refusal of a recovery, and what it would have cost.
func TestRefusedRecoveries(t *testing.T) {
	w := newWorld(t, 4)
	w.genesis.Params.Window = 8
	d := strike(t, w, 3)
	reports := w.reports(0, 1)
	good := d.propose(reports)
	ctx := context.Background()
	refused := func(why string, err error, want string) {
		t.Helper()
		if !errors.Is(err, ErrRecover) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a refusal with %q", why, err, want)
		}
	}
	with := func(i int, f func(*Stopped) error) error {
		s := w.nodes[i].stopped()
		return errors.Join(f(s), s.Close())
	}
	propose := func(i int, p *Plan, reports ...*Report) error {
		return with(i, func(s *Stopped) error { _, err := s.Propose(ctx, reports, p); return err })
	}
	changed := func(f func(*Report)) *Report {
		r := *reports[1]
		f(&r)
		return &r
	}
	refused("a report that was changed", propose(0, w.plan(), reports[0], changed(func(r *Report) { r.Lost = true })), "signature")
	wrong := must(DecodeReport(mustMarshal(reports[1])))
	if len(wrong.Txs) == 0 {
		t.Fatal("node 1 holds no block")
	}
	wrong.Txs[0] = [][]byte{w.tx(1<<60, 60_000).Raw}
	wrong.Signature = must(w.nodes[1].key.Sign(wrong.digest(w.suite)))
	refused("a report with other transactions", propose(0, w.plan(), reports[0], wrong), "other transactions")
	refused("a report of another chain", propose(0, w.plan(), reports[0], changed(func(r *Report) { r.Chain[0] ^= 1 })), "is about chain")
	refused("a report twice", propose(0, w.plan(), reports[0], reports[0]), "two reports")
	refused("no report of its own", propose(0, w.plan(), reports[1]), "of this node is missing")
	lie := func(f func(*Report)) *Report {
		r := must(DecodeReport(mustMarshal(reports[1])))
		f(r)
		r.Signature = must(w.nodes[1].key.Sign(r.digest(w.suite)))
		return r
	}
	refused("a rank without a certificate", propose(0, w.plan(), reports[0], lie(func(r *Report) {
		r.Holding, r.Txs = consensus.Holding{Rank: ledger.Rank{View: 9}}, nil
	})), "shows nothing for rank")
	refused("a new-view that its order does not name", propose(0, w.plan(), reports[0], lie(func(r *Report) {
		r.Holding.Blocks[0].NewView = &ledger.NewView{}
	})), "another new-view")
	plan := w.plan()
	refused("three of four silent", propose(0, plan, reports[0]), "--lossy")
	plan.Reform.Remove = append(plan.Reform.Remove, w.nodes[1].id)
	refused("one of four stays", propose(0, plan, reports...), "1 of 4 members stay")

	sign := func(i int, r *Recovery, now int64, instead ...keys.Digest) error {
		return with(i, func(s *Stopped) error {
			_, err := s.Sign(ctx, must(DecodeRecovery(w.suite, mustMarshal(r))), append(instead, keys.Digest{})[0], now)
			return err
		})
	}
	now := begins + w.now
	// The proposer leaves out what may be final, and says that nobody holds anything.
	forgot := must(DecodeReport(mustMarshal(reports[0])))
	forgot.Holding.Blocks, forgot.Txs, forgot.Holding.Certificate, forgot.Holding.Rank = nil, nil, ledger.Certificate{}, ledger.Rank{}
	forgot.Signature = must(w.nodes[0].key.Sign(forgot.digest(w.suite)))
	lossy := w.plan()
	lossy.Lossy = true
	var bad *Recovery
	if err := with(0, func(s *Stopped) (err error) { bad, err = s.Propose(ctx, []*Report{forgot}, lossy); return err }); err != nil {
		t.Fatal(err)
	}
	refused("what may be final is left out", sign(1, bad, now), "left out")
	claimed := *bad
	claimed.Holding = ledger.Rank{View: 9, Height: 99} // and that something higher speaks against it
	refused("a rank that nothing shows", sign(1, &claimed, now), "left out")
	higher := good.Lock.Statement // and shows a certificate for that, which the signer has not seen
	higher.Kind, higher.Height, higher.Order, higher.Block = ledger.Prepare, higher.Height+1, keys.Digest{1}, keys.Digest{}
	claimed.Holding, claimed.Lock = higher.Rank(), w.certificate(higher, 0, 2, 3)
	refused("a certificate above what is kept", sign(1, &claimed, now), "leaves that out")
	untold := make([]*Report, len(reports)) // and says that nobody has the transactions of the last
	for i, report := range reports {
		untold[i] = must(DecodeReport(mustMarshal(report)))
		untold[i].Txs[len(untold[i].Txs)-1] = nil
		untold[i].Signature = must(w.nodes[i].key.Sign(untold[i].digest(w.suite)))
	}
	var lacking *Recovery
	if err := with(0, func(s *Stopped) (err error) { lacking, err = s.Propose(ctx, untold, w.plan()); return err }); err != nil {
		t.Fatal(err)
	}
	if len(lacking.Lacking) != 1 || len(lacking.Blocks) < 2 || len(lacking.Blocks)+1 != len(good.Blocks) {
		t.Fatalf("of %d blocks it keeps %d and gives up %d", len(good.Blocks)-1, len(lacking.Blocks)-1, len(lacking.Lacking))
	}
	refused("transactions that this node has are said to be lacking", sign(1, lacking, now), "left out")
	unlinked := *lacking
	unlinked.Lacking = []ledger.Order{lacking.Lacking[0]}
	unlinked.Lacking[0].Parent[0] ^= 1
	refused("what is lacking is not on what is kept", sign(1, &unlinked, now), "not on the block before")
	unlinked.Lacking = nil
	refused("what is lacking is not told", sign(1, &unlinked, now), "about another")
	// Something else was accepted at the height of the last, in a later view: what is below that is not outranked.
	sibling := *bad
	sibling.Reported = good.Reported
	for _, b := range good.Blocks[:len(good.Blocks)-1] {
		sibling.Lacking = append(sibling.Lacking, b.Header.Order)
	}
	tip := &sibling.Lacking[len(sibling.Lacking)-1]
	tip.UnixMilli++
	accepted := ledger.Statement{Kind: ledger.Prepare, Epoch: tip.Epoch, View: 7, Height: tip.Height, Order: tip.Hash(w.suite)}
	sibling.Lock, sibling.Holding = w.certificate(accepted, 0, 2, 3), accepted.Rank()
	refused("a block below one that is outranked is given up", sign(1, &sibling, now), fmt.Sprintf("block %d", sibling.Lacking[0].Height))
	final := *bad
	final.Reported = good.Reported
	final.Lacking = []ledger.Order{d.kept[0].Header.Order}
	final.Lock, final.Holding = d.kept[0].Certificate, d.kept[0].Certificate.Statement.Rank()
	refused("a block that is final by its own certificate is given up", sign(1, &final, now), "is final, as its own certificate shows")
	refused("a survivor without the transactions signs what names no block", with(1, func(s *Stopped) error {
		s.journal.payloads, s.journal.guard.Commit = nil, ledger.Statement{}
		return s.leavesNothingOut(bad, must(s.Examine(ctx, must(DecodeRecovery(w.suite, mustMarshal(bad))))))
	}), "left out")
	unlocked := *good
	unlocked.Lock = ledger.Certificate{}
	refused("blocks that nothing shows were accepted", sign(1, &unlocked, now), "nothing shows")
	other := must(DecodeRecovery(w.suite, mustMarshal(good)))
	other.Last().Header.StateRoot[0] ^= 1
	refused("another result", sign(1, other, now), "executing block")
	for why, c := range map[string]struct {
		change func(*ledger.Order)
		want   string
	}{
		"bytes that it does not have":     {func(o *ledger.Order) { o.TxBytes = 0 }, "the order claims"},
		"gas that it does not have":       {func(o *ledger.Order) { o.GasLimit = 0 }, "the order claims"},
		"a time long after its own end":   {func(o *ledger.Order) { o.UnixMilli++ }, "expiry"},
		"a time that is not after parent": {func(o *ledger.Order) { o.UnixMilli = 0 }, "not after its parent"},
	} {
		refused(why, with(1, func(s *Stopped) error {
			b := must(ledger.DecodeBlock(mustMarshal(bad.Last())))
			c.change(&b.Header.Order)
			next, err := s.cfg.Executor.Execute(ctx, s.base, &b.Header.Order, []*ledger.SignedTx{must(ledger.DecodeTx(w.suite, b.Txs[0]))})
			if err != nil {
				return err
			}
			b.Header = *next.Header()
			_, err = s.Sign(ctx, &Recovery{Version: ledger.Version, Reported: bad.Reported, Blocks: []ledger.Block{*b}}, keys.Digest{}, now)
			return err
		}), c.want)
	}
	refused("a time ahead", sign(1, good, now-60_000), "ahead of this node's clock")
	refused("too few signatures", func() error { _, err := w.nodes[1].apply(good); return err }(), "signatures of members")

	if err := with(1, func(s *Stopped) error { // nodes 2 and 3, if they return, are a quorum with one that lies
		if f := must(s.Examine(ctx, good)); !f.Forkable || f.Lossy {
			t.Errorf("with two of four gone: forkable %t, lossy %t", f.Forkable, f.Lossy)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// A node that is behind knows who must sign, as one does that has what is kept.
	for _, i := range []int{2, 3} {
		n := w.nodes[i]
		if i == 2 {
			n.fs, n.store = memfs.New(), nil
		}
		_, err := n.apply(good)
		refused("without signatures", err, "signatures of members [0 1]")
		if i == 2 {
			n = w.nodes[1]
			disk := n.fs.Clone()
			s := n.stopped()
			if err := errors.Join(keepRecovery(&s.cfg, good), s.Close()); err != nil {
				t.Fatal(err)
			}
			w.start(1) // though it was applied without
			n.crash()
			n.fs, n.store = disk, nil
		}
	}
	w.sign(good, 0)
	later := w.plan()
	later.Now += 5
	var second *Recovery
	if err := with(0, func(s *Stopped) (err error) { second, err = s.Propose(ctx, reports, later); return err }); err != nil {
		t.Fatal(err)
	}
	refused("a second recovery of the epoch", sign(0, second, now), "--instead")
	if err := with(0, func(s *Stopped) error { // signed before: one that keeps a block which ends the epoch, and ends the next one
		left := s.journal.guard
		left.Leave, left.Left = 2, keys.Digest{9}
		s.journal.setGuard(left)
		return s.journal.sync()
	}); err != nil {
		t.Fatal(err)
	}
	refused("a second recovery, which ends another epoch", sign(0, second, now, good.Last().Header.Hash(w.suite)), "--instead")
	if err := sign(0, second, now, keys.Digest{9}); err != nil {
		t.Errorf("with the word that nobody applies the first: %v", err)
	}
	if left := w.nodes[0].stopped(); left.journal.guard.Leave != 2 || left.Close() != nil {
		t.Errorf("it votes again in epoch %d, and promised not to before 2", left.journal.guard.Leave)
	}
	refused("two recoveries merged", good.Merge(w.suite, second), "two recoveries")
	refused("one who stays has not signed", func() error { _, err := w.nodes[1].apply(good); return err }(), "signatures of members [1]")
	forged := must(DecodeRecovery(w.suite, mustMarshal(good)))
	for _, v := range good.Votes {
		v.Signer, v.Signature = 1, slices.Clone(v.Signature)
		forged.Votes = append(forged.Votes, v)
	}
	refused("a forged signature", func() error { _, err := w.nodes[1].apply(forged); return err }(), "does not verify")

	// Who signed votes no more, whatever happens.
	w.start(0)
	if err := w.nodes[0].group.muted(); !errors.Is(err, ErrLeft) {
		t.Errorf("after the signature: %v, want ErrLeft", err)
	}
	guarded := w.nodes[0].group.journal.guard
	if _, err := guarded.allow(ledger.Statement{Kind: ledger.ViewChange, View: 1 << 20, High: ledger.Rank{View: 1 << 19}}); !errors.Is(err, doublesign.Err) {
		t.Errorf("a vote after the signature: %v", err)
	}
	w.nodes[0].crash()

	w.sign(good, 1)
	for _, i := range []int{1, 0} {
		if _, err := w.nodes[i].apply(good); err != nil {
			t.Fatal(err)
		}
	}
	refused("it is applied", sign(1, good, now), "applied on this node already")
	_, err := w.nodes[0].apply(second)
	refused("another recovery was applied", err, "another recovery is applied")
}

// The machine stops at each operation on the disk of signing and applying.
func TestRecoveryCrash(t *testing.T) {
	d := strike(t, newWorld(t, 4), 1)
	w := d.world
	r := d.propose(w.reports(0, 1))
	n := w.nodes[1]
	disk := n.fs.Clone()
	reset := func(from *memfs.FS) { n.store, n.fs = nil, from.Clone() }

	signed := false
	for at := 1; !signed; at++ {
		reset(disk)
		s := n.stopped()
		copied := must(DecodeRecovery(w.suite, mustMarshal(r)))
		n.fs.CrashAfter(at)
		_, err := s.Sign(context.Background(), copied, keys.Digest{}, begins+w.now)
		gone := len(copied.Votes) > 0 // may have left the machine
		signed = err == nil
		n.fs.Crash(nil)
		n.store = nil
		s = n.stopped()
		if left := s.journal.guard.Leave > 0; gone && !left {
			t.Fatalf("operation %d: the node signed and forgot that it votes no more", at)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if at > 50 {
			t.Fatal("signing takes no end")
		}
	}
	reset(disk)
	w.sign(r, 0, 1)
	disk = n.fs.Clone()
	want := r.Last().Header.Order.Height
	seen := map[ledger.Height]bool{}
	for at, applied := 1, false; !applied; at++ {
		reset(disk)
		s := n.stopped()
		n.fs.CrashAfter(at)
		_, err := s.Apply(context.Background(), must(DecodeRecovery(w.suite, mustMarshal(r))))
		applied = err == nil
		n.fs.Crash(nil)
		n.store = nil
		if err := n.open(); err != nil {
			n.t.Fatal(err)
		}
		seen[n.store.Head().Height()] = true
		// It starts again, with the operator's word or without it, and has all or nothing of the recovery.
		if err := n.start(); err != nil {
			t.Fatalf("operation %d: %v", at, err)
		}
		if got := n.store.Head().Height(); got != want && got != want-ledger.Height(len(r.Blocks)) {
			t.Fatalf("operation %d: the node starts at block %d, want %d", at, got, want)
		}
		n.crash()
		if height, err := n.apply(r); err != nil || height != want {
			t.Fatalf("operation %d: applied again at block %d: %v", at, height, err)
		}
		if got, err := Applied(w.suite, n.fs, "data"); err != nil || !slices.Equal(got, r.hashes(w.suite)) {
			t.Fatalf("operation %d: applied are %v, %v; want %v", at, got, err, r.hashes(w.suite))
		}
		if at > 200 {
			t.Fatal("applying takes no end")
		}
	}
	if len(seen) < 3 && len(r.Blocks) > 1 {
		t.Errorf("the machine stopped at the heights %v only", fmt.Sprint(seen))
	}
}

// What is kept fits into a recovery, with its own block, or it is refused before anybody signs it.
func TestTooManyKept(t *testing.T) {
	w := newRaftWorld(t, 4, 0)
	s := w.nodes[0].stopped()
	defer s.Close()
	for n, want := range map[int]bool{maxRecovered - 1: true, maxRecovered: false} {
		report := &Report{Epoch: s.epoch.Number, Holding: consensus.Holding{Rank: ledger.Rank{Height: ledger.Height(n)}}}
		parent := s.base.OrderHash()
		for i := range n {
			order := ledger.Order{Epoch: s.epoch.Number, Height: ledger.Height(i) + 1, Parent: parent, TxRoot: keys.Digest{byte(i)}}
			parent = order.Hash(w.suite)
			report.Holding.Blocks = append(report.Holding.Blocks, consensus.HeldBlock{Order: order})
			report.Txs = append(report.Txs, [][]byte{{1}})
		}
		blocks, err := s.kept([]*Report{report}, &Recovery{})
		if ok := err == nil && len(blocks) == n; ok != want || err != nil && !errors.Is(err, ErrRecover) {
			t.Errorf("of %d blocks %d are kept: %v", n, len(blocks), err)
		}
	}
}

// What is on top of an order whose transactions nobody has is given up with it, whatever else was reported of it.
func TestLackingTransactions(t *testing.T) {
	w := newRaftWorld(t, 4, 0)
	s := w.nodes[0].stopped()
	defer s.Close()
	report := &Report{Epoch: s.epoch.Number, Holding: consensus.Holding{Rank: ledger.Rank{Height: 3}}}
	parent := s.base.OrderHash()
	for i := range byte(3) {
		order := ledger.Order{Epoch: s.epoch.Number, Height: ledger.Height(i) + 1, Parent: parent, TxRoot: keys.Digest{i}}
		parent = order.Hash(w.suite)
		report.Holding.Blocks = append(report.Holding.Blocks, consensus.HeldBlock{Order: order})
	}
	report.Txs = [][][]byte{{{1}}, nil, {{3}}}
	behind := *report // has one block less, and of that the transactions
	behind.Holding.Rank.Height, behind.Holding.Blocks, behind.Txs = 2, report.Holding.Blocks[:2], [][][]byte{nil, {{2}}}
	for _, c := range []struct {
		reports       []*Report
		kept, lacking int
	}{
		{[]*Report{report}, 1, 2},
		{[]*Report{&behind, report}, 3, 0},
		{[]*Report{&behind}, 0, 2},
	} {
		r := &Recovery{}
		if blocks, err := s.kept(c.reports, r); err != nil || len(blocks) != c.kept || len(r.Lacking) != c.lacking {
			t.Errorf("of %d reports %d blocks are kept and %d given up: %v, want %d and %d", len(c.reports), len(blocks), len(r.Lacking), err, c.kept, c.lacking)
		}
	}
}

// A survivor whose disk is empty counts as silent, for who proposes and for all who sign.
func TestEmptySurvivor(t *testing.T) {
	d := strike(t, newWorld(t, 4), 1)
	n := d.nodes[1]
	n.fs, n.store = memfs.New(), nil
	reports := d.reports(0, 1)
	if !reports[1].Lost {
		t.Error("a node with neither blocks nor a journal knows what it voted for")
	}
	s := d.nodes[0].stopped()
	defer s.Close()
	plan := d.plan()
	if _, err := s.Propose(t.Context(), reports, plan); !errors.Is(err, ErrRecover) || !strings.Contains(err.Error(), "--lossy") {
		t.Errorf("with three of four silent: %v", err)
	}
	plan.Lossy = true
	f := must(s.Examine(t.Context(), must(s.Propose(t.Context(), reports, plan))))
	if !f.Lossy || !slices.Equal(f.Silent, []uint32{1, 2, 3}) {
		t.Errorf("who signs is told of silent members %v, lossy %t", f.Silent, f.Lossy)
	}
}
