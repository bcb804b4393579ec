package group

import (
	"context"
	"fmt"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state/ledger"
)

// syncPatience is how long, in ms, a member may take to send blocks before the next one is asked.
const syncPatience = 3_000

// syncer fetches blocks that are final elsewhere. One request is under way at a time; blocks are executed and
// committed through the group's one gate, as if they had been agreed on here.
type syncer struct {
	target ledger.Height // the highest that somebody is known to have
	from   uint32        // source asked last, by its place in Group.sources, which is a member's number
	tries  int           // in a row without a block
	active bool
	proved ledger.Height // the height of the last block that was fetched for this target
	round  uint64        // makes late answers recognizable
	wait   func()        // cancels the patience timer
}

// needSync notes that a block at height is final at member from.
func (g *Group) needSync(height ledger.Height, from uint32) {
	if height <= g.head.Order.Height {
		return
	}
	g.sync.target = max(g.sync.target, height)
	if g.sync.active || g.others() == 0 {
		return
	}
	g.sync.active, g.sync.tries, g.sync.from, g.sync.proved = true, 0, from, 0
	g.log.Info().Uint64("height", uint64(g.head.Order.Height)).Uint64("target", uint64(height)).Msg("behind: fetching blocks")
	g.requestBlocks()
}

func (g *Group) requestBlocks() {
	s := &g.sync
	if g.head.Order.Height >= s.target || g.stopped.Load() != nil {
		g.endSync()
		return
	}
	if s.tries > 3*len(g.sources) {
		g.log.Warn().Uint64("target", uint64(s.target)).Msg("nobody sent the missing blocks; trying again when a member shows them")
		s.target = 0
		g.endSync()
		return
	}
	if s.from %= uint32(len(g.sources)); int32(s.from) == g.number {
		s.from = (s.from + 1) % uint32(len(g.sources))
	}
	s.round++
	round, member := s.round, s.from
	s.wait = g.env.After(syncPatience, func() {
		if s.round == round {
			g.nextPeer()
		}
	})
	request := blocksync.Request{From: g.head.Order.Height + 1, To: s.target}
	g.env.Request(g.sources[member], Blocks, mustMarshal(&request), func(reply []byte, err error) {
		if s.round != round {
			return
		}
		s.wait()
		var r blocksync.Reply
		if err == nil {
			err = ledger.Unmarshal(reply, &r)
		}
		if n := len(r.Blocks); err == nil && (n == 0 || n > blocksync.MaxBlocks) {
			err = fmt.Errorf("it sent %d blocks from %d on", n, request.From)
		}
		if err != nil {
			g.log.Debug().Err(err).Uint32("member", member).Msg("no blocks from member; the next is asked")
			g.refused(member, breaks(RuleNoBlocks, "%w", err))
			s.wait = g.env.After(int64(min(100<<min(s.tries, 5), 2_000)), g.nextPeer)
			s.round++
			return
		}
		g.takeBlocks(member, request.From, r.Blocks)
	})
}

// nextPeer asks another member.
func (g *Group) nextPeer() {
	g.sync.tries++
	g.sync.from++
	g.requestBlocks()
}

func (g *Group) endSync() { g.sync.active = false }

// takeBlocks checks, executes and commits blocks that a member sent, the first of which should have the height
// at, one after the other and the heavy parts off the loop. Then it asks the next member for more, so that one
// that is slow on purpose is only one of several.
func (g *Group) takeBlocks(member uint32, at ledger.Height, raws [][]byte) {
	s := &g.sync
	if g.stopped.Load() != nil {
		return
	}
	base := g.cfg.Store.Head()
	for len(raws) > 0 && at <= base.Height() { // committed here meanwhile
		raws, at = raws[1:], at+1
	}
	if len(raws) == 0 {
		s.from++
		g.requestBlocks()
		return
	}
	chain := blocksync.Chain{Suite: g.cfg.Suite, ID: g.cfg.Chain, Group: g.cfg.Group, Finality: g.cfg.Finality, Epoch: g.epoch.Number, Members: g.public}
	g.env.Go(func() func() {
		block, txs, err := chain.Check(base.Header(), raws[0])
		if err == nil {
			for i, ok := range ledger.CheckBatch(chain.Suite, txs) {
				if !ok {
					err = fmt.Errorf("%w: block %d: signatures of transaction %d", blocksync.ErrBlock, at, i)
					break
				}
			}
		}
		if err != nil {
			return func() {
				g.log.Warn().Err(err).Uint32("member", member).Msg("member sent a bad block; the next is asked")
				g.refused(member, breaks(RuleBlock, "%w", err))
				g.nextPeer()
			}
		}
		result, err := g.cfg.Executor.Execute(context.Background(), base, &block.Header.Order, txs)
		return func() {
			if g.stopped.Load() != nil {
				return
			}
			if err != nil {
				g.fail(fmt.Errorf("execute fetched block %d: %w", at, err))
				return
			}
			if g.head.Order.Height+1 == at {
				if err := g.commit(block, result, txs); err != nil {
					g.fail(err)
					return
				}
				s.tries, s.proved = 0, at
				g.synced()
				if err := g.storeFinal(); err != nil {
					g.fail(err)
					return
				}
			}
			g.takeBlocks(member, at+1, raws[1:])
		}
	})
}

// synced tells the engine how far the store is now.
func (g *Group) synced() {
	g.events = append(g.events, consensus.Synced{Head: g.head, Epoch: g.begun()})
}

func (g *Group) serveBlocks(request []byte) ([]byte, error) {
	return blocksync.Serve(request, g.cfg.Store.Head().Height(), g.cfg.Store.RawBlock)
}
