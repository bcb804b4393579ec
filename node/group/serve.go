package group

import (
	"fmt"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what is served, so that one node which asks for much takes nothing from the others.
const (
	maxServing    = 8        // requests for blocks that are answered at once: each reads megabytes
	maxServingOne = 4        // of one node, those that wait included
	shareRate     = 16 << 10 // bytes per ms that one node is answered with, over time,
	shareBurst    = 32 << 20 // and at once: all the blocks in flight, or eight large ranges
	requestCost   = 4 << 10  // bytes that a request counts for, besides its answer and
	requestWeight = 8        // so many times its own: what it names must be looked up
	servingWait   = 100      // ms after which a node asks again whose requests for blocks wait here, and
	busyWait      = 500      // when the loop has no room
)

// share is how much one node was served that time has not paid off yet.
type share struct {
	bytes int64
	at    int64 // Unix ms
}

// wait returns the ms after which the node may be served more; 0: now.
func (s *share) wait(now int64) int64 {
	s.bytes = max(s.bytes-max(now-s.at, 0)*shareRate, 0)
	s.at = now
	if s.bytes < shareBurst {
		return 0
	}
	return (s.bytes-shareBurst)/shareRate + 1
}

// Serve answers a request of a peer. reply runs once, on the loop.
func (g *Group) Serve(from identity.NodeID, p Protocol, data []byte, reply func([]byte, error)) {
	number, ok := g.member[from]
	if !ok {
		err := breaks(RuleMember, "node %s is neither a member nor an observer of group %s", from, g.cfg.Group)
		g.refused(nobody, err)
		reply(nil, err)
		return
	}
	s := g.senders[number]
	share := &s.payloads
	if p == Blocks {
		share = &s.blocks
	}
	wait := share.wait(g.env.Now())
	if p == Blocks && s.serving >= maxServingOne {
		wait = max(wait, servingWait)
	}
	switch {
	case p == Blocks && wait > 0: // one that catches up is quicker than its share, and does no wrong
		reply(later(g.head.Order.Height, wait))
		return
	case wait > 0:
		g.refused(g.memberOf(number), breaks(RuleShare, "node %s asked for more than %d bytes a second", from, shareRate*1_000))
		reply(nil, ErrBusy)
		return
	}
	answer := func(answer []byte, err error) {
		share.bytes += int64(requestCost + requestWeight*len(data) + len(answer))
		reply(answer, err)
	}
	switch p {
	case Leaves:
		answer(g.serveLeaves(data))
	case Bodies:
		answer(g.serveBodies(data))
	case Blocks:
		s.serving++
		g.asked = append(g.asked, func() func() {
			blocks, err := g.serveBlocks(data)
			return func() {
				s.serving--
				answer(blocks, err)
			}
		})
		g.readBlocks()
	default:
		reply(nil, fmt.Errorf("protocol %d has no requests", p))
	}
}

// later is the answer to a request for blocks that is put off for so many ms.
func later(head ledger.Height, wait int64) ([]byte, error) {
	return ledger.Marshal(&blocksync.Reply{Blocks: [][]byte{}, Head: head, Wait: uint32(wait)})
}

// Busy answers a request for which the loop has no room. Who asks for blocks is told when to ask again, for an error
// would make it doubt that there are any. For any goroutine.
func (g *Group) Busy(p Protocol) ([]byte, error) {
	if p == Blocks {
		return later(g.cfg.Store.Head().Height(), busyWait)
	}
	return nil, ErrBusy
}

// readBlocks answers requests for blocks off the loop, in the order in which they came. No node has more than
// maxServingOne of them in the queue, so none waits for long.
func (g *Group) readBlocks() {
	for len(g.asked) > 0 && g.serving < maxServing {
		read := g.asked[0]
		g.asked = g.asked[1:]
		g.serving++
		g.env.Go(func() func() {
			then := read()
			return func() {
				g.serving--
				then()
				g.readBlocks()
			}
		})
	}
}
