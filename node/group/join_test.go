package group

import (
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/statesync"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// joinWorld returns four members with 300 blocks and a state of several megabytes, whose members change once, and a fifth node
// that has nothing and is to join by a state.
func joinWorld(t *testing.T) (*world, *testNode) {
	t.Helper()
	w := newWorld(t, 4)
	w.rows, w.rowBytes, w.step = 4, 8<<10, 100
	w.genesis.Params.MaxLifetime = 5_000
	w.begin()
	w.observe(1)
	w.grow(300, w.nodes[:4]...)
	w.now = 30_000
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.activation(1, 3, 1, 0, 2))
	w.inEpoch(1, 0, 1, 2, 3)
	for i := range uint64(16) {
		w.nodes[0].mustOffer(w.tx(10+i, 4_000))
	}
	late := w.nodes[4]
	late.snapshot = true
	return w, late
}

// goOn goes on making blocks until done, and fails when that takes too long.
func (w *world) goOn(milli int64, done func() bool) {
	w.t.Helper()
	for number, until := uint64(1)<<40, w.now+milli; !done(); number++ {
		if w.now > until {
			for _, n := range w.nodes {
				if n.up {
					w.t.Errorf("node %d: %+v", n.number, n.group.Status())
				}
			}
			w.t.Fatal("it takes too long")
		}
		w.nodes[number%3].mustOffer(w.tx(number, 4_000))
		w.run(400, done)
	}
}

// rejoin starts a node again that has ended with a state.
func (n *testNode) rejoin() {
	n.t.Helper()
	if err := n.group.Close(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.store.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.up, n.store = false, nil
	n.world.start(n.number)
}

// follows checks that a node that joined has the blocks of the others, pruned, and takes part.
func (n *testNode) follows() {
	n.t.Helper()
	w := n.world
	if n.store.Kept() == 0 {
		n.t.Error("it has all blocks: it did not join by a state")
	}
	n.goOn(60_000, func() bool { return n.store.Head().Height() >= w.nodes[0].store.Head().Height() })
	for h := range n.store.Head().Height() + 1 {
		want, got := must(w.nodes[0].store.BlockHash(h)), must(n.store.BlockHash(h))
		if want != got {
			n.t.Fatalf("block %d is %s, want %s", h, got, want)
		}
	}
	w.nodes[1].mustOffer(w.activation(5_000, 0, 1, 2, 3, uint32(n.number)))
	w.goOn(60_000, func() bool {
		return slices.ContainsFunc(n.signed, func(st ledger.Statement) bool { return st.Kind == ledger.Commit })
	})
	w.noAlarms()
}

func TestJoin(t *testing.T) {
	w, late := joinWorld(t)
	from := map[int]int{}
	w.reply = func(by, to int, p Protocol, reply []byte) []byte {
		if r, err := statesync.DecodeReply(reply); p == States && to == 4 && err == nil && len(r.Items) > 0 {
			from[by] += len(r.Items)
		}
		return reply
	}
	w.start(4)
	w.goOn(120_000, func() bool { return late.joined > 0 })
	t.Logf("items by node: %v, runs %d", from, late.runs)
	for i := range 4 {
		if from[i] == 0 {
			t.Errorf("node %d sent nothing: %v", i, from)
		}
	}
	if late.runs > 0 || late.store.Head().Height() != 0 {
		t.Errorf("it executed %d blocks, and is at height %d", late.runs, late.store.Head().Height())
	}
	late.rejoin()
	late.follows()
	for _, n := range w.nodes[:4] {
		if n.store.Pinned() != 0 {
			t.Errorf("node %d still has a state pinned", n.number)
		}
	}
}

// stretch makes lines between nodes so slow that a join takes a while.
func (w *world) stretch() { w.delay, w.line = 10, 1_000 }

// TestJoinLiars has one of four nodes that gives parts that are wrong, one that sends parts of them, and one that says nothing
// when it is asked for parts. The fourth is enough.
func TestJoinLiars(t *testing.T) {
	w, late := joinWorld(t)
	w.reply = func(by, to int, p Protocol, reply []byte) []byte {
		r, err := statesync.DecodeReply(reply)
		if p != States || to != 4 || err != nil || len(r.Items) == 0 {
			return reply
		}
		last := &r.Items[len(r.Items)-1]
		switch by {
		case 1:
			(*last)[len(*last)/2] ^= 1
		case 2:
			*last = (*last)[:len(*last)/2]
		}
		return mustMarshal(r)
	}
	parts := 0
	w.hook = func(from, to int, p Protocol, m []byte) []byte {
		if r, err := statesync.DecodeRequest(m); p == States && from == 4 && to == 3 && err == nil && r.What != statesync.Offers {
			parts++
			return nil
		}
		return m
	}
	w.start(4)
	w.goOn(120_000, func() bool { return late.joined > 0 })
	for i := 1; i <= 2; i++ {
		if p := late.group.join.peers[w.nodes[i].id]; p.fails == 0 {
			t.Errorf("node %d lied, and is not doubted", i)
		}
	}
	if parts > 2*joinAtOnce {
		t.Errorf("node 3 never answered, and was asked for %d parts", parts)
	}
	late.rejoin()
	w.hook, w.reply = nil, nil
	late.follows()
}

var noises = flag.Uint64("noises", 1, "how many seeds TestJoinNoise takes")

// TestJoinNoise has three of four nodes that answer whatever comes to their mind. For more of it: -run TestJoinNoise -noises 50.
func TestJoinNoise(t *testing.T) {
	for seed := range *noises {
		w, late := joinWorld(t)
		rng := rand.New(rand.NewPCG(seed, 9))
		w.reply = func(by, to int, p Protocol, reply []byte) []byte {
			r, err := statesync.DecodeReply(reply)
			if p != States || to != 4 || by == 0 || err != nil {
				return reply
			}
			switch rng.IntN(14) {
			case 0:
				r.Items = [][]byte{}
			case 1:
				r.Items = append(r.Items, r.Items...)
			case 2:
				r.Items = append([][]byte{{}}, r.Items...)
			case 3:
				r.Size = rng.Uint64N(statesync.MaxItem)
			case 4:
				r.Wait = rng.Uint32()
			case 5:
				r.Offers = []statesync.Offer{}
			case 6, 7:
				for i := range r.Offers {
					o := &r.Offers[i]
					o.Height, o.Kept, o.Bytes = ledger.Height(rng.IntN(400)), ledger.Height(rng.IntN(400)), rng.Uint64()
				}
			case 8:
				r.Offers = append(r.Offers, statesync.Offer{Height: 1 << 62})
			case 9:
				for _, item := range r.Items {
					if len(item) > 0 {
						item[rng.IntN(len(item))] ^= 1 << rng.IntN(8)
					}
				}
			case 10:
				r.Items, r.Size, r.Wait = [][]byte{{}}, 0, 0
			case 11:
				raw := mustMarshal(r)
				raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
				return raw
			}
			return mustMarshal(r)
		}
		w.start(4)
		if !w.run(1_000_000, func() bool { return late.joined > 0 }) {
			t.Fatalf("seed %d: it has not joined: %+v", seed, late.group.Status().Joining)
		}
		late.rejoin()
		if late.store.Kept() == 0 {
			t.Errorf("seed %d: it has all blocks", seed)
		}
	}
}

// TestJoinFalseOffers has one node that offers a state which does not exist, and two more that offer one with fewer blocks in
// full than it takes. The fourth is enough, though it takes a while to find out.
func TestJoinFalseOffers(t *testing.T) {
	w, late := joinWorld(t)
	w.reply = func(by, to int, p Protocol, reply []byte) []byte {
		r, err := statesync.DecodeReply(reply)
		if p != States || to != 4 || by == 0 || err != nil || len(r.Offers) == 0 {
			return reply
		}
		for i := range r.Offers {
			if r.Offers[i].Kept = r.Offers[i].Height; by == 1 {
				r.Offers[i].Height += 1_000
			}
		}
		return mustMarshal(r)
	}
	w.start(4)
	if !w.run(400_000, func() bool { return late.joined > 0 }) {
		t.Fatalf("it has not joined: %+v", late.group.Status().Joining)
	}
	if n := len(late.group.join.spoilt); n == 0 {
		t.Error("it never took what most offered")
	}
	late.rejoin()
	if kept, h := late.store.Kept(), late.store.Head().Height(); kept+10 > h {
		t.Errorf("at height %d it has blocks from %d on: transactions can come again that it does not know", h, kept)
	}
	late.follows()
}

// TestJoinStallers has one node that offers a state far above the others' and puts off whoever asks for it, one that says for
// ever that it copies one, and one that states the size of the true state wrongly. None of them keeps the node from that state,
// which the last two give as well.
func TestJoinStallers(t *testing.T) {
	w, late := joinWorld(t)
	from := map[int]int{}
	w.reply = func(by, to int, p Protocol, reply []byte) []byte {
		r, err := statesync.DecodeReply(reply)
		if p != States || to != 4 || err != nil {
			return reply
		}
		from[by] += len(r.Items)
		switch by {
		case 1:
			r.Offers, r.Items, r.Size, r.Wait = []statesync.Offer{{Height: 1 << 62}}, [][]byte{}, 0, 1_000
		case 2:
			if len(r.Items) == 0 {
				r.Offers, r.Wait = []statesync.Offer{}, 60_000
			}
		case 3:
			for i := range r.Offers {
				r.Offers[i].Bytes++
			}
		}
		return mustMarshal(r)
	}
	w.start(4)
	w.goOn(60_000, func() bool { return late.joined > 0 })
	if from[0] == 0 || from[3] == 0 {
		t.Errorf("items by node: %v", from)
	}
}

// TestJoinWaits has nodes that say for ever that they copy a state: blocks are fetched.
func TestJoinWaits(t *testing.T) {
	w, late := behind(t, 200)
	w.reply = func(_, _ int, p Protocol, reply []byte) []byte {
		if p == States {
			return mustMarshal(&statesync.Reply{Offers: []statesync.Offer{}, Items: [][]byte{}, Wait: 60_000})
		}
		return reply
	}
	late.crash()
	late.snapshot = true
	w.start(3)
	late.on(0, func() { late.group.needSync(200, 0) })
	w.run(joinMaking+60_000, func() bool { return late.group.join.until > 0 })
	late.on(0, func() { late.group.needSync(200, 0) })
	if !w.run(60_000, func() bool { return late.store.Head().Height() == 200 }) {
		t.Errorf("height %d: %+v", late.store.Head().Height(), late.group.join)
	}
}

// TestJoinSlow has one node that takes 40 s for each part. The others do not wait for it.
func TestJoinSlow(t *testing.T) {
	w, late := joinWorld(t)
	w.stretch()
	w.pause = func(from int, p Protocol) int64 {
		if from == 1 && p == States {
			return 40_000
		}
		return 0
	}
	w.start(4)
	began := w.now
	w.goOn(39_000, func() bool { return late.joined > 0 })
	t.Logf("joined after %d ms", w.now-began)
}

// TestJoinSlowLine has lines of 64 kbit/s, over which a reply as large as one may be takes longer than a request: nodes are asked
// for less.
func TestJoinSlowLine(t *testing.T) {
	w, late := joinWorld(t)
	w.line = 8
	vain := 0
	w.reply = func(_, to int, p Protocol, reply []byte) []byte {
		if p == States && to == 4 && int64(len(reply))/w.line > patience(p).Milliseconds() {
			vain++
		}
		return reply
	}
	w.start(4)
	if !w.run(1_500_000, func() bool { return late.joined > 0 }) {
		t.Fatalf("it has not joined: %+v", late.group.Status().Joining)
	}
	if vain > 0 {
		t.Errorf("%d replies could not come in time", vain)
	}
}

// TestJoinOvertaken has a node that stores blocks while it fetches a state, as one may that votes. The state must not take the
// place of what is newer.
func TestJoinOvertaken(t *testing.T) {
	w, late := joinWorld(t)
	w.start(4)
	if !w.run(60_000, func() bool {
		target := late.group.join.target
		return target != nil && target.whole() && target.running
	}) {
		t.Fatal("it never puts a state together")
	}
	g := late.group
	for b, err := range w.nodes[0].store.Blocks(1, w.nodes[0].store.Head().Height()) {
		if err != nil {
			t.Fatal(err)
		}
		txs := must(b.Decode(w.suite))
		if err := g.commit(b, must(executor{late}.Execute(t.Context(), late.store.Head(), &b.Header.Order, txs)), txs); err != nil {
			t.Fatal(err)
		}
	}
	head := late.store.Head().Height()
	w.run(60_000, func() bool { return g.join.target == nil })
	if s := g.Status(); late.joined > 0 || s.Joining != nil {
		t.Errorf("it joined %d times at height %d, and does: %+v", late.joined, head, s.Joining)
	}
	late.rejoin()
	w.goOn(60_000, func() bool { return late.store.Head().Height() > head })
	if kept := late.store.Kept(); kept > 0 {
		t.Errorf("started again, it has blocks from %d on", kept)
	}
	late.hasFetched(false)
}

// hasFetched checks whether files of a join are there.
func (n *testNode) hasFetched(want bool) {
	n.t.Helper()
	var names []string
	for _, name := range n.fs.Names() {
		if strings.Contains(name, "incoming/") && !strings.HasSuffix(name, "/lock") {
			names = append(names, name)
		}
	}
	if want != (len(names) > 0) {
		n.t.Errorf("of what was fetched there is %q; want some: %t", names, want)
	}
}

// TestJoinLeaves stops the machine when a state is about to take its place, and files of the join are still there; and it takes the
// setting back while another node joins. Neither keeps what it has no use for.
func TestJoinLeaves(t *testing.T) {
	t.Run("the machine stops", func(t *testing.T) {
		w, late := joinWorld(t)
		broken := errors.New("the machine is about to stop")
		late.fs.SetHook(func(op memfs.Op, name string, _ int) error {
			if op == memfs.OpRemove && strings.HasSuffix(name, "incoming/"+chunksFile) {
				return broken
			}
			return nil
		})
		w.start(4)
		w.goOn(120_000, func() bool { return late.group.stopped.Load() != nil })
		late.hasFetched(true)
		late.fs.SetHook(nil)
		late.crash()
		w.start(4)
		if late.store.Kept() == 0 {
			t.Error("the state did not take its place")
		}
		late.hasFetched(false)
		late.alarms = nil // of what the machine did
		late.follows()
	})
	t.Run("the setting is taken back", func(t *testing.T) {
		w, late := joinWorld(t)
		w.stretch()
		w.start(4)
		w.goOn(60_000, func() bool {
			s := late.group.Status().Joining
			return s != nil && s.Bytes > chunkSync
		})
		late.crash()
		late.hasFetched(true)
		late.snapshot = false
		w.start(4)
		late.hasFetched(false)
	})
}

// TestJoinFull has a disk that fills up while a state that was fetched is put together. That says nothing about the state: the
// node stops, and goes on with what it has when there is room.
func TestJoinFull(t *testing.T) {
	w, late := joinWorld(t)
	w.start(4)
	if !w.run(60_000, func() bool {
		target := late.group.join.target
		return target != nil && target.whole() && target.running
	}) {
		t.Fatal("it never has a state")
	}
	late.fs.SetLimit(late.fs.Used() + 1<<20)
	if !w.run(10_000, func() bool { return late.group.stopped.Load() != nil }) || len(late.alarms) == 0 || late.joined > 0 {
		t.Fatalf("it goes on without room: %+v, alarms %q", late.group.Status().Joining, late.alarms)
	}
	if n := len(late.group.join.spoilt); n > 0 {
		t.Errorf("%d states count as wrong, as the disk is full", n)
	}
	late.crash()
	late.fs.SetLimit(0)
	sent := 0
	w.hook = func(from, _ int, p Protocol, m []byte) []byte {
		if r, err := statesync.DecodeRequest(m); p == States && from == 4 && err == nil && r.What == statesync.Chunk {
			sent++
		}
		return m
	}
	w.start(4)
	w.goOn(60_000, func() bool { return late.joined > 0 })
	if sent > 20 {
		t.Errorf("%d chunks were fetched again", sent)
	}
}

// TestJoinCrash stops the machine again and again while a node joins. It goes on with what it has, and when those that
// gave it a state have lost that, with another one.
func TestJoinCrash(t *testing.T) {
	w, late := joinWorld(t)
	w.stretch()
	rng := rand.New(rand.NewPCG(5, 1))
	fetched := func() uint64 {
		if s := late.group.Status().Joining; s != nil && s.Height > 0 {
			return s.Bytes
		}
		return 0
	}
	w.start(4)
	w.goOn(60_000, func() bool { return fetched() > 5<<19 })
	late.crash()
	w.start(4)
	w.run(20_000, func() bool { return late.group.join.target != nil })
	if got := fetched(); got < chunkSync/2 {
		t.Errorf("after 2.5 MiB were fetched and the machine stopped, %d bytes are there", got)
	}
	for range 8 {
		w.run(rng.Int64N(3_000), func() bool { return late.joined > 0 })
		if late.joined > 0 {
			break
		}
		late.up, late.store = false, nil
		late.life++
		late.fs.Crash(rng)
		w.start(4)
	}
	for _, n := range w.nodes[:4] {
		n.crash()
	}
	w.start(0, 1, 2, 3)
	w.goOn(120_000, func() bool { return late.joined > 0 })
	late.rejoin()
	late.follows()
}

// TestJoinLacking has a node whose next block nobody has in full any more. It says so, or begins anew with a state if it
// may.
func TestJoinLacking(t *testing.T) {
	w := newWorld(t, 4)
	w.rows, w.step = 4, 100
	w.genesis.Params.MaxLifetime = 5_000
	w.begin()
	w.observe(1)
	w.grow(30, w.nodes...)
	for _, n := range w.nodes {
		n.crash()
	}
	w.grow(300, w.nodes[:4]...)
	for _, n := range w.nodes[:4] {
		if err := n.store.Prune(240); err != nil {
			t.Fatal(err)
		}
	}
	w.now = 30_000
	w.start(0, 1, 2, 3, 4)
	late := w.nodes[4]
	w.goOn(30_000, func() bool { return late.group.Status().Lacking != nil })
	if head := late.store.Head().Height(); head != 30 {
		t.Errorf("it is at height %d", head)
	}
	late.crash()
	late.snapshot = true
	w.start(4)
	w.goOn(120_000, func() bool { return late.joined > 0 })
	late.rejoin()
	late.follows()
}

// TestNothingToJoin has nodes that are all to join by a state, one member that claims to have many blocks, and no state yet:
// they make blocks.
func TestNothingToJoin(t *testing.T) {
	w := newWorld(t, 4)
	w.observe(1)
	for _, n := range w.nodes {
		n.snapshot = true
	}
	w.start(0, 1, 2, 3, 4)
	for _, n := range w.nodes {
		n.on(0, func() { n.group.needSync(joinAbove+1, 3) })
	}
	if !w.run(1_000, func() bool { return w.nodes[0].group.Status().Joining != nil }) {
		t.Fatal("the claim is not believed")
	}
	w.nodes[1].mustOffer(w.tx(1, 60_000))
	w.reach(1)
	w.run(2*joinAgain, func() bool { return false })
	for _, n := range w.nodes {
		if n.group.Status().Joining != nil {
			t.Errorf("node %d: %+v", n.number, n.group.Status().Joining)
		}
	}
}

// TestNobodyGivesStates has a node that is to join by a state, and others that give none: it fetches blocks.
func TestNobodyGivesStates(t *testing.T) {
	w, late := behind(t, 200)
	w.hook = func(_, _ int, p Protocol, m []byte) []byte {
		if p == States {
			return nil
		}
		return m
	}
	late.crash()
	late.snapshot = true
	w.start(3)
	late.on(0, func() { late.group.needSync(200, 0) })
	if !w.run(120_000, func() bool { return late.store.Head().Height() == 200 }) {
		t.Errorf("height %d: %+v", late.store.Head().Height(), late.group.join)
	}
}

// TestCoverage puts chunks of random trees in, in any order, among them such as nobody honest makes.
func TestCoverage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var all []chunkPlace
		var divide func(prefix keys.Digest, depth int)
		divide = func(prefix keys.Digest, depth int) {
			if depth < 2 || depth < 6 && rng.IntN(3) > 0 {
				divide(prefix, depth+1)
				prefix[0] |= 1 << (7 - depth)
				divide(prefix, depth+1)
				return
			}
			all = append(all, chunkPlace{prefix: prefix, depth: depth, offset: int64(len(all))})
		}
		divide(keys.Digest{}, 0)
		var c coverage
		under := map[keys.Digest]bool{}
		for asked := 0; !c.whole; asked++ {
			path, ok := c.next(func(p keys.Digest) bool { return under[p] })
			if ok && (len(under) == 0 || rng.IntN(3) > 0) {
				under[path] = true
				continue
			}
			if len(under) == 0 {
				t.Fatalf("nothing is asked for, and %d of %d are there", len(c.chunks), len(all))
			}
			var answered keys.Digest
			for p := range under { // any of them
				answered = p
				break
			}
			delete(under, answered)
			at := all[slices.IndexFunc(all, func(x chunkPlace) bool { return x.holds(answered) })]
			switch rng.IntN(8) {
			case 0: // a part of it alone
				for at.depth < 9 && at.holds(answered) {
					next := at
					next.depth++
					if !next.holds(answered) {
						next.prefix[at.depth/8] |= 1 << (7 - at.depth%8)
					}
					at = next
				}
			case 1: // more
				if at.depth > 0 {
					at.depth--
					at.prefix[at.depth/8] &^= 1 << (7 - at.depth%8)
				}
			}
			if !at.holds(answered) {
				t.Fatal("the test gives what was not asked for")
			}
			c.add(at)
			if asked > 10_000 {
				t.Fatal("it never ends")
			}
		}
		next := keys.Digest{}
		for i := range c.chunks {
			if c.chunks[i].prefix != next {
				t.Fatalf("chunk %d is at %s, want %s", i, c.chunks[i].prefix, next)
			}
			end, more := c.chunks[i].end()
			if next = end; more != (i < len(c.chunks)-1) {
				t.Fatalf("chunk %d of %d is the last: %t", i, len(c.chunks), !more)
			}
		}
	}
}
