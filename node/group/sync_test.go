package group

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// behind returns a world whose first three nodes have blocks and whose fourth has none. All have begun their journals.
func behind(t *testing.T, height ledger.Height) (*world, *testNode) {
	t.Helper()
	return behindBy(t, height, 0)
}

// behindBy makes the blocks at least of a size.
func behindBy(t *testing.T, height ledger.Height, size int) (*world, *testNode) {
	t.Helper()
	w := newWorld(t, 4)
	w.blockSize = size
	w.start(0, 1, 2, 3)
	for _, n := range w.nodes {
		n.crash()
	}
	w.grow(height, w.nodes[0], w.nodes[1], w.nodes[2])
	w.start(0, 1, 2, 3)
	return w, w.nodes[3]
}

// A node that joined by an invitation follows the history in which the block of its anchor is, and no other, whoever certified it.
func TestAnchor(t *testing.T) {
	w, late := behind(t, 40)
	late.crash()
	right := must(w.nodes[0].store.BlockHash(20))
	late.anchor = Anchor{Height: 20, Block: keys.Digest{1}}
	w.start(3)
	w.run(20_000, func() bool { return late.group.Stopped() != nil })
	if h := late.store.Head().Height(); !errors.Is(late.group.Stopped(), ErrAnchor) || h != 19 {
		t.Fatalf("at height %d it is stopped because of %v, want it before block 20 because of the anchor", h, late.group.Stopped())
	}
	late.crash()
	late.anchor.Block = right
	w.start(3)
	w.run(20_000, func() bool { return late.store.Head().Height() >= 40 })
	if h := late.store.Head().Height(); h < 40 {
		t.Fatalf("with the right anchor it came to block %d", h)
	}

	// What it has from before, or from a state that it joined by, is looked at when it starts.
	c := late.group.cfg
	c.Anchor.Block = keys.Digest{1}
	late.crash()
	if _, err := New(c); !errors.Is(err, ErrAnchor) {
		t.Errorf("it starts with another block in the place of its anchor: %v", err)
	}
}

// countRequests counts the requests for blocks to each node, those for its height aside.
func (w *world) countRequests() []int {
	asked := make([]int, len(w.nodes))
	w.hook = func(_, to int, p Protocol, m []byte) []byte {
		var r blocksync.Request
		if p == Blocks && ledger.Unmarshal(m, &r) == nil && r.To > 0 {
			asked[to]++
		}
		return m
	}
	return asked
}

// spoilBlocks changes the blocks that a node sends, when it sends more than one.
func (w *world) spoilBlocks(liar int, change func([][]byte) [][]byte) {
	w.reply = func(from, _ int, p Protocol, reply []byte) []byte {
		var r blocksync.Reply
		if p != Blocks || from != liar || ledger.Unmarshal(reply, &r) != nil || len(r.Blocks) < 2 {
			return reply
		}
		r.Blocks = change(r.Blocks)
		return mustMarshal(&r)
	}
}

func TestCatchUp(t *testing.T) {
	const height = 600
	w, late := behind(t, height)
	asked := w.countRequests()
	w.delay, w.execute = 20, 1
	began := w.now
	late.on(0, func() { late.group.needSync(height, 0) })
	w.run(10, func() bool { return false }) // less than a block takes to come
	if s := late.group.Status(); !s.Claimed || s.Syncing != 0 || s.Head.Order.Height != 0 {
		t.Errorf("before a block came, of which it was told: claimed is %t, at %d of %d", s.Claimed, s.Head.Order.Height, s.Syncing)
	}
	if !w.run(30_000, func() bool { return late.store.Head().Height() == height }) {
		t.Fatalf("height %d, want %d", late.store.Head().Height(), height)
	}
	t.Logf("%d blocks in %d ms, asked of each: %v", height, w.now-began, asked)
	for i, n := range asked[:3] {
		if n < height/rangeBlocks/5 {
			t.Errorf("node %d was asked %d times of %v: all who have blocks should share", i, n, asked)
		}
	}
	// A block takes the executor 2 ms here. Fetching goes on beside it, so it costs little more than the first reply.
	if late.runs != height || w.now-began > 2*height+300 {
		t.Errorf("%d ms and %d executions for %d blocks of 2 ms: fetching holds up executing", w.now-began, late.runs, height)
	}
	w.nodes[0].mustOffer(w.tx(1, 60_000))
	w.reach(height + 1)
	w.run(2_000, func() bool { return false })
	if !slices.ContainsFunc(late.signed, func(st ledger.Statement) bool { return st.Kind == ledger.Commit && st.Height == height+1 }) {
		t.Error("the node that caught up does not vote")
	}
	if s := &late.group.sync; s.active || len(s.ranges) > 0 || s.tip != nil {
		t.Errorf("the syncer keeps %+v", s)
	}
	if late.group.Status().Claimed {
		t.Error("the node that caught up says that there are blocks which it lacks")
	}
}

// TestPrunedSources: two of three sources have only the last blocks in full, and say so. The third is asked for the others,
// nobody is doubted, and the two are asked again for what they have.
func TestPrunedSources(t *testing.T) {
	const height, kept = 300, 200
	w, late := behind(t, height)
	for _, n := range w.nodes[:2] {
		if err := n.store.Prune(kept); err != nil {
			t.Fatal(err)
		}
	}
	lacked, had := make([]int, 4), make([]int, 4)
	w.hook = func(_, to int, p Protocol, m []byte) []byte {
		var r blocksync.Request
		if p == Blocks && ledger.Unmarshal(m, &r) == nil && r.To >= kept {
			had[to]++
		} else if r.To > 0 {
			lacked[to]++
		}
		return m
	}
	late.on(0, func() { late.group.needSync(height, 0) })
	if !w.run(30_000, func() bool { return late.store.Head().Height() == height }) {
		t.Fatalf("height %d, want %d", late.store.Head().Height(), height)
	}
	for i, p := range late.group.sync.peers[:3] {
		if p.fails > 0 {
			t.Errorf("node %d is doubted", i)
		}
	}
	for i := range 2 {
		if lacked[i] > 2 || had[i] == 0 {
			t.Errorf("node %d was asked %d times for what it has not, and %d times for what it has", i, lacked[i], had[i])
		}
	}
}

// TestAllPruned: nobody has the next block, but for a node that is down. A node does not ask for it over and over, and says
// that it needs help, until one that has the block is there again, under the name of one that had not.
func TestAllPruned(t *testing.T) {
	const height, kept = 60, 40
	w, late := behind(t, height)
	var lines bytes.Buffer
	late.group.log = zerolog.New(&lines)
	w.nodes[2].crash()
	pruned, silent := true, false // silent: node 1 answers nothing that can be read
	w.reply = func(from, to int, p Protocol, reply []byte) []byte {
		var r blocksync.Reply
		if silent && p == Blocks && to == 3 && from == 1 {
			return nil
		}
		if !pruned || p != Blocks || to != 3 || ledger.Unmarshal(reply, &r) != nil {
			return reply
		}
		r.First = kept
		if len(r.Blocks) > 0 {
			if b, err := ledger.DecodeBlock(r.Blocks[0]); err != nil || b.Header.Order.Height < kept {
				r.Blocks = [][]byte{}
			}
		}
		return mustMarshal(&r)
	}
	asked := w.countRequests()
	for range 10 {
		late.on(0, func() { late.group.needSync(height, 0) })
		w.run(2_000, func() bool { return false })
	}
	status := late.group.Status()
	if late.store.Head().Height() != 0 || status.Syncing != 0 {
		t.Fatalf("height %d, and it fetches up to %d", late.store.Head().Height(), status.Syncing)
	}
	for i, n := range asked[:2] {
		if n > 2 {
			t.Errorf("node %d, which said that it has no such block, was asked %d times", i, n)
		}
	}
	const says = "no node that answers has block 1 any more"
	if status.Lacking == nil || !strings.Contains(status.Lacking.Error(), says) || strings.Count(lines.String(), says) != 1 {
		t.Errorf("the status says %v, and the log\n%s", status.Lacking, lines.String())
	}
	began, flaps := w.now, 0
	for ; w.now-began < tellEvery+60_000; silent = !silent {
		before := late.group.Status().Lacking == nil
		late.on(0, func() { late.group.needSync(height, 0) })
		w.run(20_000, func() bool { return before != (late.group.Status().Lacking == nil) })
		if before != (late.group.Status().Lacking == nil) {
			flaps++
		}
		w.run(1_000, func() bool { return false })
	}
	if told := strings.Count(lines.String(), says); flaps < 10 || told != 2 {
		t.Errorf("a node came and went %d times in %d ms, and the log told %d times, want 2", flaps, w.now-began, told)
	}
	silent = false
	pruned = false
	if !w.run(30_000, func() bool { return late.store.Head().Height() == height }) {
		t.Fatalf("height %d after a node with all blocks came, want %d", late.store.Head().Height(), height)
	}
	if why := late.group.Status().Lacking; why != nil {
		t.Errorf("at height %d the status says %v", height, why)
	}
}

// TestOneSaysPruned: one of three nodes says that there are more blocks, and that it has them no more. That is no reason for an alarm.
func TestOneSaysPruned(t *testing.T) {
	w, late := behind(t, 20)
	w.reply = func(from, to int, p Protocol, reply []byte) []byte {
		if p == Blocks && to == 3 && from == 1 {
			return mustMarshal(&blocksync.Reply{Blocks: [][]byte{}, Head: 500, First: 400})
		}
		return reply
	}
	late.on(0, func() { late.group.needSync(20, 0) })
	if !w.run(30_000, func() bool { return late.store.Head().Height() == 20 }) {
		t.Fatalf("height %d, want 20", late.store.Head().Height())
	}
	w.run(20_000, func() bool { return false })
	if why := late.group.Status().Lacking; why != nil {
		t.Errorf("the status says %v", why)
	}
}

func TestCatchUpAfterCrash(t *testing.T) {
	const height = 200
	w, late := behind(t, height)
	for range 5 {
		late.on(0, func() { late.group.needSync(height, 1) })
		at := late.store.Head().Height()
		if !w.run(10_000, func() bool { return late.store.Head().Height() >= at+20 }) {
			t.Fatalf("stuck at height %d", at)
		}
		at = late.store.Head().Height()
		late.crash()
		w.start(3)
		if got := late.store.Head().Height(); got < at {
			t.Fatalf("height %d after a crash at height %d", got, at)
		}
	}
	w.reach(height)
}

// TestSilentSource: of two sources one is silent for as long as a request may last, and one has nothing. Both are asked before
// the third, which has it all: neither what is late nor what is empty keeps the third from being asked.
func TestSilentSource(t *testing.T) {
	const height = 300
	w, late := behind(t, height)
	asked := w.countRequests()
	w.pause = func(from int, p Protocol) int64 {
		if p == Blocks && from == 1 {
			return 600_000
		}
		return 0
	}
	w.reply = func(from, to int, p Protocol, reply []byte) []byte {
		if p == Blocks && to == late.number && from == 2 {
			return mustMarshal(&blocksync.Reply{})
		}
		return reply
	}
	began := w.now
	late.on(0, func() { late.group.needSync(height, 1) })
	if !w.run(10_000, func() bool { return late.store.Head().Height() == height }) {
		t.Errorf("height %d after %d ms, want %d", late.store.Head().Height(), w.now-began, height)
	}
	if most := int(1 + (w.now-began)/firstDoubt); asked[2] > most {
		t.Errorf("the source that has nothing was asked %d times in %d ms, want at most %d", asked[2], w.now-began, most)
	}
}

// TestSlowLines fetches blocks of 1 MiB over lines of 2 Mbit/s, on each of which a block takes 4.2 s, far longer than any
// wait that suits a fast network: nothing is fetched over and over, and the lines are busy all the time.
func TestSlowLines(t *testing.T) {
	const blocks, size, line = 12, 1 << 20, 250 // bytes per ms
	w, late := behindBy(t, blocks, size)
	w.line = line
	asked := w.countRequests()
	came := 0
	w.reply = func(_, to int, p Protocol, reply []byte) []byte {
		if p == Blocks && to == late.number {
			came += len(reply)
		}
		return reply
	}
	began := w.now
	late.on(0, func() { late.group.needSync(blocks, 0) })
	if !w.run(600_000, func() bool { return late.store.Head().Height() == blocks }) {
		t.Fatalf("height %d of %d after ten minutes; asked %v", late.store.Head().Height(), blocks, asked)
	}
	took, best := w.now-began, int64(blocks*size/line/3)
	t.Logf("%d blocks of 1 MiB in %d ms, no less than %d ms over three lines; %d bytes came; asked of each: %v", blocks, took, best, came, asked)
	if took > 2*best {
		t.Errorf("it took %d ms, want at most twice the %d ms that the lines need", took, best)
	}
	if came > 2*blocks*size {
		t.Errorf("%d bytes came for %d of blocks", came, blocks*size)
	}
	if len(late.alarms) > 0 {
		t.Errorf("alarms %v", late.alarms)
	}
}

// TestSlowSource lets one of three sources answer a minute late, and then with what was asked. It must not hold up
// the blocks that the others have.
func TestSlowSource(t *testing.T) {
	const height = 2_000
	w, late := behind(t, height)
	w.pause = func(from int, p Protocol) int64 {
		if p == Blocks && from == 1 {
			return 60_000
		}
		return 0
	}
	asked := w.countRequests()
	began := w.now
	late.on(0, func() { late.group.needSync(height, 1) })
	if !w.run(100_000, func() bool { return late.store.Head().Height() == height }) {
		t.Fatalf("height %d, want %d; asked %v", late.store.Head().Height(), height, asked)
	}
	t.Logf("%d blocks in %d ms, asked of each: %v", height, w.now-began, asked)
	if w.now-began > 15_000 {
		t.Errorf("%d ms for %d blocks: the slow source holds up the others", w.now-began, height)
	}
}

// TestFollowBesideLiar lets a source tell an observer, whenever it can, of more blocks than there are or of fewer: the
// observer follows the others all the same, and is not told to be behind by the liar alone.
func TestFollowBesideLiar(t *testing.T) {
	for name, lie := range map[string]func(head ledger.Height) ledger.Height{
		"more than it has":  func(head ledger.Height) ledger.Height { return head + 1_000 },
		"as much as can be": func(ledger.Height) ledger.Height { return 1 << 62 },
		"less than it has":  func(ledger.Height) ledger.Height { return 1 },
	} {
		for _, answers := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, and sends blocks: %t", name, answers), func(t *testing.T) {
				w := newWorld(t, 4)
				w.observe(1)
				w.reply = func(from, to int, p Protocol, reply []byte) []byte {
					var r blocksync.Reply
					if p != Blocks || from != 1 || to != 4 || ledger.Unmarshal(reply, &r) != nil {
						return reply
					}
					r.Head = lie(r.Head)
					return mustMarshal(&r)
				}
				w.hook = func(from, to int, p Protocol, m []byte) []byte {
					var r blocksync.Request
					if !answers && p == Blocks && from == 4 && to == 1 && ledger.Unmarshal(m, &r) == nil && r.To > 0 {
						return nil
					}
					return m
				}
				w.start(0, 1, 2, 3, 4)
				observer := w.nodes[4]
				var worst int64
				for number := range uint64(40) {
					w.nodes[0].mustOffer(w.tx(number, 60_000))
					height := ledger.Height(number + 1)
					if !w.run(5_000, func() bool { return w.nodes[0].store.Head().Height() == height }) {
						t.Fatal("the members make no block")
					}
					began := w.now
					if !w.run(30_000, func() bool {
						if s := observer.group.Status().Syncing; s > height {
							t.Fatalf("the observer is told to be behind: at %d of %d", height, s)
						}
						return observer.store.Head().Height() == height
					}) {
						t.Fatalf("the observer is at height %d of %d", observer.store.Head().Height(), height)
					}
					worst = max(worst, w.now-began)
				}
				if worst > 5*followEvery {
					t.Errorf("the observer was %d ms late", worst)
				}
			})
		}
	}
}

// TestSpoiledBlocks lets one of three nodes that have blocks send something else. The others bring the late node up,
// and the liar is left alone.
func TestSpoiledBlocks(t *testing.T) {
	const height = 120
	for name, spoil := range map[string]func([][]byte) [][]byte{
		"garbage": func([][]byte) [][]byte { return [][]byte{[]byte("garbage")} },
		"a spoiled block": func(b [][]byte) [][]byte {
			b[0] = append(bytes.Clone(b[0][:len(b[0])-9]), make([]byte, 9)...)
			return b
		},
		"a later block": func(b [][]byte) [][]byte { return b[1:] },
		"a block twice": func(b [][]byte) [][]byte { b[1] = b[0]; return b },
		"too many":      func(b [][]byte) [][]byte { return slices.Repeat(b, rangeBlocks) },
		"a block whose certificate is that of another": func(b [][]byte) [][]byte {
			first, second := must(ledger.DecodeBlock(b[0])), must(ledger.DecodeBlock(b[1]))
			first.Certificate = second.Certificate
			b[0] = mustMarshal(first)
			return b
		},
		"a block of a later epoch": func(b [][]byte) [][]byte {
			block := must(ledger.DecodeBlock(b[0]))
			block.Header.Order.Epoch++
			b[0] = mustMarshal(block)
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, late := behind(t, height)
			asked := w.countRequests()
			w.spoilBlocks(1, spoil)
			late.on(0, func() { late.group.needSync(height, 1) })
			if !w.run(20_000, func() bool { return late.store.Head().Height() == height }) {
				t.Fatalf("height %d, want %d; asked %v", late.store.Head().Height(), height, asked)
			}
			if asked[1] == 0 || asked[1] > 2*maxAsked {
				t.Errorf("the liar was asked %d times, want 1 to %d; the others %v", asked[1], 2*maxAsked, asked)
			}
			if len(late.alarms) > 0 {
				t.Errorf("alarms %v", late.alarms)
			}
		})
	}
}

// TestFalseHeight claims blocks that nobody has, as often as a member can: it must cost almost nothing, and not
// keep the node from following.
func TestFalseHeight(t *testing.T) {
	for name, drop := range map[string]bool{"it sends none": false, "it does not answer": true} {
		t.Run(name, func(t *testing.T) {
			w, late := behind(t, 5)
			w.reach(5)
			asked := w.countRequests()
			count := w.hook
			w.hook = func(from, to int, p Protocol, m []byte) []byte {
				if count(from, to, p, m); drop && p == Blocks && to == 1 {
					return nil
				}
				return m
			}
			until := w.now + 60_000
			var claim func()
			claim = func() {
				late.group.needSync(1<<62, 1)
				if s := late.group.Status().Syncing; s != 0 {
					t.Errorf("a claim alone makes the node say that it is behind: %d", s)
				}
				if w.now < until {
					late.on(50, claim)
				}
			}
			late.on(0, claim)
			w.run(30_000, func() bool { return false })
			w.nodes[0].mustOffer(w.tx(1, 60_000))
			w.reach(6)
			w.run(until-w.now, func() bool { return false })
			if asked[1] == 0 || asked[1] > 60 || asked[0]+asked[2] > 200 {
				t.Errorf("in a minute, the node asked for blocks that nobody has: %v", asked)
			}
		})
	}
}

// TestEpochWhileBehind begins an epoch while requests for blocks are on their way: the sources have other places then.
func TestEpochWhileBehind(t *testing.T) {
	w, late := behind(t, 100)
	late.on(0, func() { late.group.needSync(100, 0) })
	late.on(2, func() {
		late.group.sources = append(late.group.sources, late.id, late.id) // those of an epoch with more nodes
		late.group.needSync(100, 5)
		if err := late.group.nextEpoch(); err != nil {
			t.Error(err)
		}
		if s := &late.group.sync; s.active || len(s.peers) > 0 || len(s.ranges) > 0 {
			t.Errorf("the syncer keeps %+v", s)
		}
		late.group.needSync(100, 1)
	})
	if !w.run(10_000, func() bool { return late.store.Head().Height() == 100 }) {
		t.Errorf("height %d, want 100", late.store.Head().Height())
	}
}

func TestServeBlocks(t *testing.T) {
	w := newWorld(t, 4)
	w.start(3)
	n := w.nodes[3]
	var reply blocksync.Reply
	if err := ledger.Unmarshal(must(w.askBlocks(n, 1, 5)), &reply); err != nil || len(reply.Blocks) != 0 {
		t.Errorf("a node without blocks served %d, %v", len(reply.Blocks), err)
	}
	answers, busy := 0, 0
	n.on(0, func() {
		for range 2 * maxServingOne {
			n.group.Serve(w.nodes[0].id, Blocks, mustMarshal(&blocksync.Request{From: 1, To: 5}), func(data []byte, err error) {
				var later blocksync.Reply
				if answers++; err == nil && ledger.Unmarshal(data, &later) == nil && later.Wait > 0 {
					busy++
				}
			})
		}
	})
	w.run(100, func() bool { return false })
	if answers != 2*maxServingOne || busy != maxServingOne {
		t.Errorf("%d of %d requests of one member at once were put off, want %d", busy, answers, maxServingOne)
	}
}

// TestParentFetched gives a node a proposal whose parent it does not know yet. The parent comes by block sync, and then
// the proposal is judged.
func TestParentFetched(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2)
	w.nodes[0].mustOffer(w.tx(1, 600_000))
	w.reach(1)
	parent := w.nodes[0].store.Head()
	for _, n := range w.nodes[:3] {
		n.crash() // else the group goes on without the late node's proposal
	}
	late := w.nodes[3]
	w.start(3)
	tx := w.tx(2, 600_000)
	late.mustOffer(tx)
	g := late.group
	order := ledger.Order{
		Version: 1, Chain: w.chain, Group: "main", Height: 2, Parent: parent.OrderHash(), UnixMilli: begins + w.now,
		TxRoot: ledger.Root(w.suite, leavesOf([]*ledger.SignedTx{tx})), TxCount: 1, TxBytes: uint64(len(tx.Raw)), GasLimit: tx.GasLimit,
	}
	g.keepLeaves(g.own, order.TxRoot, leavesOf([]*ledger.SignedTx{tx}))
	late.on(0, func() { g.check(consensus.CheckPayload{Order: order}) })
	w.run(100, func() bool { return false })
	p := g.proposals[order.Hash(w.suite)]
	if p == nil || p.valid {
		t.Fatalf("the proposal is judged without its parent: %+v", p)
	}
	w.start(0, 1, 2)
	late.on(0, func() { g.needSync(1, 0) })
	if !w.run(30_000, func() bool { return p.valid }) {
		t.Errorf("at height %d, the proposal on block 1 is still not judged", late.store.Head().Height())
	}
}

// TestSilentHeads: a source that never answers how far it is does not fill the requests that may wait for it.
func TestSilentHeads(t *testing.T) {
	w := newWorld(t, 4)
	w.observe(1)
	w.pause = func(from int, p Protocol) int64 {
		if p == Blocks && from == 1 {
			return 600_000
		}
		return 0
	}
	asked := 0
	w.hook = func(from, to int, p Protocol, m []byte) []byte {
		if p == Blocks && from == 4 && to == 1 {
			asked++
		}
		return m
	}
	w.start(0, 1, 2, 3, 4)
	w.run(100_000, func() bool { return false })
	if most := 100_000/headPatience + 1; asked > most || asked < most/2 {
		t.Errorf("it was asked %d times in 100 s, want about %d", asked, most)
	}
}

// TestReportEnds: a group that stopped while it fetched blocks tells nothing more of that.
func TestReportEnds(t *testing.T) {
	w, late := behind(t, 1_000)
	late.on(0, func() { late.group.needSync(1_000, 0) })
	w.run(300, func() bool { return false })
	late.on(0, func() { late.group.fail(errBarred) })
	w.run(20, func() bool { return false })
	before := late.group.sync.report.last
	w.run(3*reportEvery, func() bool { return false })
	if after := late.group.sync.report.last; after != before || before.height == 1_000 {
		t.Errorf("its last report was at %+v, and then at %+v", before, after)
	}
}

// TestEndlessEpoch: a source that sends a block of a later epoch right above the head, where the epoch did not end, is not
// asked again at the speed of the network.
func TestEndlessEpoch(t *testing.T) {
	const height = 50
	w, late := behind(t, height)
	asked := w.countRequests()
	w.reply = func(from, to int, p Protocol, reply []byte) []byte {
		var r blocksync.Reply
		if p != Blocks || to != late.number || from != 1 || ledger.Unmarshal(reply, &r) != nil || len(r.Blocks) == 0 {
			return reply
		}
		b := must(ledger.DecodeBlock(r.Blocks[0]))
		b.Header.Order.Epoch++
		r.Blocks = [][]byte{mustMarshal(b)}
		return mustMarshal(&r)
	}
	w.pause = func(from int, p Protocol) int64 {
		if p == Blocks && from != 1 {
			return 3_000
		}
		return 0
	}
	late.on(0, func() { late.group.needSync(height, 1) })
	if !w.run(20_000, func() bool { return late.store.Head().Height() == height }) {
		t.Fatalf("height %d, want %d", late.store.Head().Height(), height)
	}
	if asked[1] > 3 {
		t.Errorf("it was asked %d times", asked[1])
	}
}
