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
	from   uint32        // member asked last
	tries  int           // in a row without a block
	active bool
	round  uint64 // makes late answers recognizable
	wait   func() // cancels the patience timer
}

// needSync notes that a block at height is final at member from.
func (g *Group) needSync(height ledger.Height, from uint32) {
	if height <= g.head.Order.Height {
		return
	}
	g.sync.target = max(g.sync.target, height)
	if g.sync.active || len(g.epoch.Members) < 2 {
		return
	}
	g.sync.active, g.sync.tries, g.sync.from = true, 0, from
	g.log.Info().Uint64("height", uint64(g.head.Order.Height)).Uint64("target", uint64(height)).Msg("behind: fetching blocks")
	g.requestBlocks()
}

func (g *Group) requestBlocks() {
	s := &g.sync
	if g.head.Order.Height >= s.target || g.stopped.Load() != nil {
		g.endSync()
		return
	}
	if s.tries > 3*len(g.epoch.Members) {
		g.log.Warn().Uint64("target", uint64(s.target)).Msg("nobody sent the missing blocks; trying again when a member shows them")
		s.target = 0
		g.endSync()
		return
	}
	if int32(s.from) == g.number || int(s.from) >= len(g.epoch.Members) {
		s.from = (s.from + 1) % uint32(len(g.epoch.Members))
	}
	s.round++
	round, member := s.round, s.from
	s.wait = g.env.After(syncPatience, func() {
		if s.round == round {
			g.nextPeer()
		}
	})
	request := blocksync.Request{From: g.head.Order.Height + 1, To: s.target}
	g.env.Request(g.epoch.Members[member].Node, Blocks, mustMarshal(&request), func(reply []byte, err error) {
		if s.round != round {
			return
		}
		s.wait()
		var r blocksync.Reply
		if err == nil {
			err = ledger.Unmarshal(reply, &r)
		}
		if err == nil && len(r.Blocks) == 0 {
			err = fmt.Errorf("it has no block %d", request.From)
		}
		if err != nil {
			g.log.Debug().Err(err).Uint32("member", member).Msg("no blocks from member; the next is asked")
			s.wait = g.env.After(int64(min(100<<min(s.tries, 5), 2_000)), g.nextPeer)
			s.round++
			return
		}
		g.takeBlocks(r.Blocks)
	})
}

// nextPeer asks another member.
func (g *Group) nextPeer() {
	g.sync.tries++
	g.sync.from++
	g.requestBlocks()
}

func (g *Group) endSync() { g.sync.active = false }

// takeBlocks checks, executes and commits blocks one after the other, the heavy parts off the loop.
func (g *Group) takeBlocks(raws [][]byte) {
	s := &g.sync
	base := g.cfg.Store.Head()
	for len(raws) > 0 { // skip what was committed here meanwhile
		height, ok := peekHeight(raws[0])
		if !ok || height > base.Height() {
			break
		}
		raws = raws[1:]
	}
	if len(raws) == 0 {
		g.synced()
		g.requestBlocks()
		return
	}
	chain := blocksync.Chain{Suite: g.cfg.Suite, ID: g.cfg.Chain, Group: g.cfg.Group, Epoch: g.epoch.Number, Members: g.public}
	raw, rest := raws[0], raws[1:]
	g.env.Go(func() func() {
		block, txs, err := chain.Check(base.Header(), raw)
		if err == nil {
			for i, ok := range ledger.CheckBatch(chain.Suite, txs) {
				if !ok {
					err = fmt.Errorf("%w: block %d: signatures of transaction %d", blocksync.ErrBlock, block.Header.Order.Height, i)
					break
				}
			}
		}
		if err != nil {
			return func() {
				g.log.Warn().Err(err).Uint32("member", s.from).Msg("member sent a bad block; the next is asked")
				g.synced()
				g.nextPeer()
			}
		}
		result, err := g.cfg.Executor.Execute(context.Background(), base, &block.Header.Order, txs)
		return func() {
			if err != nil {
				g.fail(fmt.Errorf("execute fetched block %d: %w", block.Header.Order.Height, err))
				return
			}
			if g.stopped.Load() != nil {
				return
			}
			if g.head.Order.Height+1 == block.Header.Order.Height {
				if err := g.commit(block, result, txs); err != nil {
					g.fail(err)
					return
				}
				s.tries = 0
			}
			g.takeBlocks(rest)
		}
	})
}

// synced tells the engine how far the store is now.
func (g *Group) synced() { g.events = append(g.events, consensus.Synced{Head: g.head}) }

// peekHeight reads only as much of a block as its height needs.
func peekHeight(raw []byte) (ledger.Height, bool) {
	var b ledger.Block
	if err := ledger.Unmarshal(raw, &b); err != nil {
		return 0, false
	}
	return b.Header.Order.Height, true
}

func (g *Group) serveBlocks(request []byte) ([]byte, error) {
	return blocksync.Serve(request, g.cfg.Store.Head().Height(), g.cfg.Store.RawBlock)
}
