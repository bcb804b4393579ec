package group

import (
	"fmt"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// How often, in ms, a node asks another one how far the chain is. Nobody sends votes to an observer, so that is how
// it follows. A member asks while it fetches blocks, since what one source has must not depend on what another one said;
// and while its own head rests: votes tell it of new blocks, unless it missed that it is no member any more; and while it does not
// vote for want of its journal.
const (
	followEvery = 200
	restEvery   = 2_000
	// A node that does not answer for so long is asked again; requests to it wait, and there may be only so many.
	headPatience = 5_000
)

// follower is what a group keeps of that.
type follower struct {
	next uint32                   // source that is asked next
	rest ledger.Height            // the head when it was last looked at
	open map[identity.NodeID]bool // sources that were asked not long ago and have not answered
}

// follow asks the sources in turn, for as long as the group runs.
func (g *Group) follow() {
	wait := int64(followEvery)
	observes := g.number < 0 || g.journal.guard.Lost || g.behind()
	if !observes && !g.sync.active {
		wait = restEvery
	}
	g.env.After(wait, func() {
		if g.stopped.Load() != nil {
			return
		}
		rests := g.follower.rest == g.head.Order.Height
		g.follower.rest = g.head.Order.Height
		if g.journal.guard.Lost {
			g.askUnheard()
		}
		if g.sync.active || observes || rests {
			g.askHead()
		}
		g.heal()
		g.follow()
	})
}

// askHead asks the next source that is not doubted, and owes no such answer, for the height of its head, and fetches blocks if that is above this
// node's.
func (g *Group) askHead() {
	n := uint32(len(g.sources))
	for range n {
		from := g.follower.next % n
		g.follower.next = from + 1
		if int32(from) != g.number && !g.follower.open[g.sources[from]] && (int64(from) >= int64(len(g.sync.peers)) || !g.sync.peers[from].doubted(g.env.Now())) {
			g.askHeadOf(from)
			return
		}
	}
}

// askUnheard asks all members that have not told yet how far they are: the epoch in which this one votes again depends on it.
func (g *Group) askUnheard() {
	for from, node := range g.sources {
		_, told := g.heard[node]
		if !told && int32(from) != g.number && g.isMember(uint32(from)) && !g.follower.open[node] {
			g.askHeadOf(uint32(from))
		}
	}
}

func (g *Group) askHeadOf(from uint32) {
	node := g.sources[from]
	if g.follower.open == nil {
		g.follower.open = map[identity.NodeID]bool{}
	}
	g.follower.open[node] = true
	closed := func() { delete(g.follower.open, node) }
	// In a later epoch, another may have the number.
	note := func(r *blocksync.Reply) {
		if from < uint32(len(g.sources)) && g.sources[from] == node {
			g.answered(g.source(from), r)
		}
	}
	cancel := g.env.After(headPatience, func() {
		closed()
		note(nil)
	})
	g.env.Request(node, Blocks, mustMarshal(&blocksync.Request{From: g.head.Order.Height + 1}), func(reply []byte, err error) {
		cancel()
		closed()
		var r blocksync.Reply
		if err == nil {
			err = ledger.Unmarshal(reply, &r)
		}
		if err == nil && (len(r.Blocks) > 0 || r.Head > 1<<62) {
			err = fmt.Errorf("it answered with %d blocks and a head at %d", len(r.Blocks), r.Head)
		}
		if err != nil {
			note(nil)
			g.log.Debug().Err(err).Str("node", node.Short()).Msg("no answer to how far the chain is; the next node is asked")
			return
		}
		g.hear(node, r.Head)
		note(&r)
		if from < uint32(len(g.sources)) && g.sources[from] == node {
			g.needSync(r.Head, from)
		}
	})
}

// others counts the nodes that blocks can be fetched from.
func (g *Group) others() int {
	if g.number >= 0 {
		return len(g.sources) - 1
	}
	return len(g.sources)
}
