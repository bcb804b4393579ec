package group

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/statesync"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what is served, so that one node which asks for much takes nothing from the others.
const (
	maxServing    = 8        // requests for blocks that are answered at once: each reads megabytes
	maxServingOne = 4        // of one node, those that wait included
	shareRate     = 16 << 10 // bytes per ms that one node is answered with, over time,
	shareBurst    = 32 << 20 // and at once: all the blocks in flight, or eight large ranges
	requestCost   = 4 << 10  // bytes that a request counts for, besides its answer, or what is read for that if it is more, and
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
	if p.reads() {
		share = &s.blocks
	}
	wait := share.wait(g.env.Now())
	if p.reads() && s.serving >= maxServingOne {
		wait = max(wait, servingWait)
	}
	switch {
	case p.reads() && wait > 0: // one that catches up is quicker than its share, and does no wrong
		reply(p.later(g.head.Order.Height, wait))
		return
	case wait > 0:
		g.refused(g.memberOf(number), breaks(RuleShare, "node %s asked for more than %d bytes a second", from, shareRate*1_000))
		reply(nil, ErrBusy)
		return
	}
	answerFor := func(read int, answer []byte, err error) {
		share.bytes += int64(requestCost + requestWeight*len(data) + max(len(answer), read))
		reply(answer, err)
	}
	answer := func(answer []byte, err error) { answerFor(0, answer, err) }
	switch p {
	case Leaves:
		answer(g.serveLeaves(data))
	case Bodies:
		answer(g.serveBodies(data))
	case Blocks, Stored:
		serve := g.serveBlocks
		if p == Stored {
			serve = g.parts.Serve
		}
		s.serving++
		g.asked = append(g.asked, func() func() {
			blocks, read, err := serve(data)
			return func() {
				s.serving--
				answerFor(read, blocks, err)
			}
		})
		g.readBlocks()
	case States:
		if g.shelf == nil {
			reply(nil, errors.New("this node gives no states"))
			return
		}
		s.serving++
		now := g.env.Now()
		g.asked = append(g.asked, func() func() {
			part, make, err := g.shelf.Serve(now, data)
			return func() {
				s.serving--
				if errors.Is(err, statesync.ErrOffer) {
					g.log.Error().Err(err).Msg("the disk damaged what is kept for nodes that join")
				}
				answer(part, err)
				if make != nil {
					g.makeOffer(make)
				}
			}
		})
		g.readBlocks()
	default:
		reply(nil, fmt.Errorf("protocol %d has no requests", p))
	}
}

// sweepEvery is how often, in ms, offers are looked at that nobody may ask for any more.
const sweepEvery = 60_000

// openShelf makes room for states that others ask for.
func (g *Group) openShelf() (err error) {
	if g.cfg.Genesis == nil {
		return nil
	}
	source := &backup.Source{Store: g.cfg.Store, Genesis: g.cfg.Genesis, Epoch: func(number uint64) (ledger.Epoch, ledger.Height, error) {
		b, found, err := g.cfg.Executor.Beginning(g.cfg.Store.Head(), number)
		if err == nil && !found {
			err = fmt.Errorf("epoch %d has not begun", number)
		}
		return b.Epoch, b.Height, err
	}}
	g.shelf, err = statesync.NewShelf(statesync.Config{Source: source, FS: g.cfg.FS, Dir: g.cfg.Dir, Room: g.cfg.Room})
	return err
}

// makeOffer has a state copied, off the loop, and later removed.
func (g *Group) makeOffer(make func() error) {
	g.env.Go(func() func() {
		err := make()
		return func() {
			if err != nil {
				g.log.Warn().Err(err).Msg("no state is offered to nodes that join")
			}
		}
	})
	if !g.sweeping {
		g.sweeping = true
		g.sweep()
	}
}

func (g *Group) sweep() {
	g.env.After(sweepEvery, func() {
		left, err := g.shelf.Sweep(g.env.Now())
		if err != nil {
			g.log.Warn().Err(err).Msg("a copy of a state is left on the disk")
		}
		if g.sweeping = left; left {
			g.sweep()
		}
	})
}

// reads reports whether requests are answered with what is read from the disk.
func (p Protocol) reads() bool { return p == Blocks || p == Stored || p == States }

// later is the answer to a request for blocks or states that is put off for so many ms.
func (p Protocol) later(head ledger.Height, wait int64) ([]byte, error) {
	switch p {
	case Stored:
		return ledger.Marshal(&blocksync.PartReply{Part: []byte{}, Wait: uint32(wait)})
	case States:
		return ledger.Marshal(&statesync.Reply{Offers: []statesync.Offer{}, Items: [][]byte{}, Wait: uint32(wait)})
	default:
		return ledger.Marshal(&blocksync.Reply{Blocks: [][]byte{}, Head: head, Wait: uint32(wait)})
	}
}

// Busy answers a request for which the loop has no room. Who asks for blocks is told when to ask again, for an error
// would make it doubt that there are any. For any goroutine.
func (g *Group) Busy(p Protocol) ([]byte, error) {
	if p.reads() {
		return p.later(g.cfg.Store.Head().Height(), busyWait)
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
