package group

import (
	"errors"
	"testing"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ask has one node ask another, as often as a flood would, and returns how many requests were answered so far.
func (w *world) ask(from, to *testNode, p Protocol, request []byte, times int) (answered, refused *int) {
	answered, refused = new(int), new(int)
	to.on(0, func() {
		for range times {
			to.group.Serve(from.id, p, request, func(_ []byte, err error) {
				if errors.Is(err, ErrBusy) {
					*refused++
				} else {
					*answered++
				}
			})
		}
	})
	return answered, refused
}

// TestServeShare floods a node with requests of one member: it is served its share and no more, and another is served.
func TestServeShare(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.tx(1, 60_000))
	w.reach(1)
	server, flooder, honest := w.nodes[3], w.nodes[1], w.nodes[2]
	broken := map[string]int{}
	server.group.cfg.Trace.Refused = func(member uint32, rule string) {
		if member == 1 {
			broken[rule]++
		}
	}
	leaves := make([]keys.Digest, w.genesis.Params.BlockTxs)
	most := mustMarshal(leaves)
	const flood = 5_000
	answered, refused := w.ask(flooder, server, Bodies, most, flood)
	w.run(1, func() bool { return false })
	if want := shareBurst/(requestCost+requestWeight*len(most)) + 2; *answered == 0 || *answered > want || *answered+*refused != flood || broken[RuleShare] != *refused {
		t.Errorf("of %d requests for bodies of %d bytes, %d were answered and %d refused, want at most %d; %v", flood, len(most), *answered, *refused, want, broken)
	}
	for p, request := range map[Protocol][]byte{Bodies: most, Blocks: mustMarshal(&blocksync.Request{From: 1, To: 1})} {
		if served, _ := w.ask(honest, server, p, request, 1); !w.run(100, func() bool { return *served == 1 }) {
			t.Errorf("protocol %d: a member is not served while another one floods", p)
		}
	}
	w.run(1_000, func() bool { return false })
	if served, _ := w.ask(flooder, server, Bodies, most, 1); !w.run(100, func() bool { return *served == 1 }) {
		t.Error("a member that asked for too much is not served when time has passed")
	}
}

// TestServeBlocksInTurn lets two members ask for blocks as often as they can, without end: a third is served.
func TestServeBlocksInTurn(t *testing.T) {
	w := newWorld(t, 4)
	w.start(0, 1, 2, 3)
	w.nodes[0].mustOffer(w.tx(1, 60_000))
	w.reach(1)
	server := w.nodes[3]
	request := mustMarshal(&blocksync.Request{From: 1, To: 1})
	asking := true
	var again func(from *testNode)
	again = func(from *testNode) {
		server.group.Serve(from.id, Blocks, request, func(reply []byte, err error) {
			var r blocksync.Reply
			if err == nil && ledger.Unmarshal(reply, &r) == nil && r.Wait == 0 && asking {
				again(from)
			}
		})
	}
	server.on(0, func() {
		for _, from := range w.nodes[:2] {
			for range 20 {
				again(from)
			}
		}
	})
	w.run(20, func() bool { return false })
	served := 0
	for range 10 {
		var height ledger.Height
		server.on(0, func() {
			server.group.Serve(w.nodes[2].id, Blocks, request, func(reply []byte, err error) {
				var r blocksync.Reply
				if err == nil && ledger.Unmarshal(reply, &r) == nil && len(r.Blocks) == 1 {
					height = r.Head
				}
			})
		})
		if w.run(20, func() bool { return height == 1 }) {
			served++
		}
	}
	asking = false
	if served != 10 {
		t.Errorf("%d of 10 requests of a member were served while two others flood", served)
	}
	if n := len(server.group.asked); n > 3*maxServingOne {
		t.Errorf("%d requests wait", n)
	}
}

// TestServeLater has a node catch up from others of which each has sent it all that one gets at once: it asks again when they
// say, nobody is accused, and it gets the transactions of proposals meanwhile.
func TestServeLater(t *testing.T) {
	const height, wait = 200, 3_000
	w, late := behind(t, height)
	broken := map[string]int{}
	for _, n := range w.nodes {
		n.group.cfg.Trace.Refused = func(_ uint32, rule string) { broken[rule]++ }
		n.group.senders[late.number].blocks = share{shareBurst + wait*shareRate, begins + w.now}
	}
	asked := w.countRequests()
	began := w.now
	late.on(0, func() { late.group.needSync(height, 1) })
	w.run(wait/2, func() bool { return false })
	if served, _ := w.ask(late, w.nodes[1], Bodies, mustMarshal([]keys.Digest{{}}), 1); !w.run(100, func() bool { return *served == 1 }) {
		t.Error("who fetches many blocks gets no transactions of a proposal")
	}
	if !w.run(2*wait, func() bool { return late.store.Head().Height() == height }) {
		t.Fatalf("height %d, want %d", late.store.Head().Height(), height)
	}
	if took := w.now - began; took < wait || took > wait+1_000 {
		t.Errorf("it took %d ms, want little more than %d", took, wait)
	}
	if len(broken) > 0 || asked[0]+asked[1]+asked[2] > 50 {
		t.Errorf("rules broken: %v; asked of each: %v", broken, asked)
	}
}

// TestServeNever lets a node put a request for its blocks off again and again: it is not believed for ever.
func TestServeNever(t *testing.T) {
	w, late := behind(t, 10)
	w.nodes[0].crash()
	w.nodes[2].crash()
	w.reply = func(from, _ int, p Protocol, reply []byte) []byte {
		if p != Blocks || from != 1 {
			return reply
		}
		return mustMarshal(&blocksync.Reply{Blocks: [][]byte{}, Head: 10, Wait: 1})
	}
	broken := map[string]int{}
	late.group.cfg.Trace.Refused = func(_ uint32, rule string) { broken[rule]++ }
	late.on(0, func() { late.group.needSync(10, 1) })
	if !w.run(10_000, func() bool { return broken[RuleNoBlocks] > 0 }) {
		t.Errorf("rules broken: %v", broken)
	}
}
