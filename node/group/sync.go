package group

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	rangeBlocks = 32     // blocks asked for at once
	maxRanges   = 8      // replies that are on their way, checked, or wait to be executed; each has about 4 MiB at most
	maxAsked    = 2      // requests to one node at once
	minPatience = 500    // ms that a node may take to send blocks: four times what the last answer took,
	maxPatience = 3_000  // and twice as long after one that took too long
	firstDoubt  = 250    // ms for which a node is not asked that did not send what it claims to have; doubled each time in a row
	maxDoubt    = 60_000 // ms for which one is not asked that sent what is no block of the chain
)

// syncer fetches blocks that are final elsewhere. Ranges of heights are asked of several nodes at once and
// checked off the loop as they come, while blocks before them are executed; all are committed through the group's one
// gate, as if they had been agreed on here. A stop loses only what was not committed.
//
// Heights beyond the head are claims. A node is believed until it does not send what it claims to have; then its
// claims count for nothing for a while, so that a claim which nobody can fulfil costs a request now and then.
type syncer struct {
	active  bool
	target  ledger.Height // the highest that is claimed and believed
	peers   []syncPeer    // by place in Group.sources
	ranges  []*blockRange // of rising height, each beginning where the one before it ends
	last    ledger.Height // the last height in ranges, or before them; what an epoch's end puts off included
	barrier ledger.Height // the epoch ends here, so no more is asked before it has; 0: unknown
	ender   uint32        // source that says so
	tip     *state.Snapshot
	running bool          // a block is being executed
	proved  ledger.Height // of the last block that was fetched and committed; 0: none since the sync began
	turn    int           // rotates the sources that are asked
	wait    int64         // how long a node may take, ms; 0: minPatience
}

// syncPeer is what the syncer knows of a source of blocks.
type syncPeer struct {
	claims ledger.Height // what it says that it has
	lacks  ledger.Height // a height that it did not have; 0: unknown
	asked  int           // requests under way
	fails  int           // in a row
	until  int64         // it is not asked before, Unix ms
}

// blockRange is heights that are fetched together.
type blockRange struct {
	from, to ledger.Height
	source   uint32 // asked last
	patience func() // not nil while it is asked: cancels the wait
	checking bool   // its reply is being checked
	blocks   []blocksync.Checked
}

// open reports whether the range must still be asked for.
func (r *blockRange) open() bool { return r.patience == nil && !r.checking && r.blocks == nil }

// needSync notes that a source, a member for example, claims to have the block at height.
func (g *Group) needSync(height ledger.Height, from uint32) {
	s := &g.sync
	for len(s.peers) < len(g.sources) {
		s.peers = append(s.peers, syncPeer{})
	}
	if int64(from) == int64(g.number) {
		from = (from + 1) % uint32(len(s.peers))
	}
	if height <= g.head.Order.Height || int64(from) >= int64(len(s.peers)) || g.others() == 0 {
		return
	}
	p := &s.peers[from]
	if p.doubted(g.env.Now()) {
		return
	}
	p.claims = height
	if p.lacks <= height {
		p.lacks = 0
	}
	s.target = max(s.target, height)
	if !s.active {
		s.active, s.proved = true, 0
		s.ranges, s.last, s.tip = nil, g.head.Order.Height, nil
		g.log.Info().Uint64("height", uint64(g.head.Order.Height)).Uint64("target", uint64(height)).Msg("behind: fetching blocks")
	}
	g.pumpSync()
}

// pumpSync does everything that the syncer can do now: it asks for ranges and executes what is checked.
func (g *Group) pumpSync() {
	s := &g.sync
	if !s.active || g.stopped.Load() != nil {
		return
	}
	height := g.head.Order.Height
	if s.barrier > 0 && height >= s.barrier {
		s.barrier = 0
		g.doubt(s.ender, maxDoubt, fmt.Errorf("it sent a block of a later epoch, and the epoch did not end at height %d", height))
		return
	}
	for len(s.ranges) > 0 && s.ranges[0].to <= height { // stored
		s.drop(0)
	}
	if len(s.ranges) == 0 {
		s.last = height
	}
	for len(s.ranges) < maxRanges && s.last < s.limit() {
		r := &blockRange{from: s.last + 1, to: min(s.last+rangeBlocks, s.limit())}
		s.ranges = append(s.ranges, r)
		s.last = r.to
	}
	busy := 0 // ranges that take memory, now or soon
	for _, r := range s.ranges {
		if !r.open() {
			busy++
		}
	}
	for i, r := range s.ranges {
		if r.open() && (i == 0 || busy < maxRanges) {
			if g.askRange(r); !r.open() {
				busy++
			}
		}
	}
	g.executeFetched()
	if busy == 0 && !s.running { // all is here, or nobody has more
		g.endSync()
	}
}

// limit returns the highest height to ask for.
func (s *syncer) limit() ledger.Height {
	if s.barrier > 0 {
		return min(s.target, s.barrier)
	}
	return s.target
}

// drop forgets the range at place i.
func (s *syncer) drop(i int) {
	s.ranges[i].answered(s)
	s.ranges = slices.Delete(s.ranges, i, i+1)
}

func (g *Group) endSync() {
	s := &g.sync
	for len(s.ranges) > 0 {
		s.drop(0)
	}
	s.active, s.target, s.barrier, s.tip = false, 0, 0, nil
	for i := range s.peers {
		s.peers[i].claims, s.peers[i].lacks = 0, 0
	}
}

// askRange asks a source for blocks: one that is not known to lack them, and among those in turn.
func (g *Group) askRange(r *blockRange) {
	s := &g.sync
	best := -1
	for i := range s.peers {
		m := (s.turn + i) % len(s.peers)
		p := &s.peers[m]
		if int32(m) == g.number || p.asked >= maxAsked || p.doubted(g.env.Now()) || p.lacks > 0 && p.lacks <= r.from {
			continue
		}
		if best < 0 || p.asked < s.peers[best].asked {
			best = m
		}
	}
	if best < 0 {
		return
	}
	s.turn = best + 1
	r.source = uint32(best)
	s.peers[best].asked++
	late, asked, wait := false, g.env.Now(), max(s.wait, minPatience)
	cancel := g.env.After(wait, func() {
		r.answered(s)
		s.wait = min(2*wait, maxPatience)
		g.doubt(r.source, firstDoubt, fmt.Errorf("no blocks from %d on within %d ms", r.from, wait))
	})
	r.patience = func() { late = true; cancel() }
	request := blocksync.Request{From: r.from, To: r.to}
	g.env.Request(g.sources[best], Blocks, mustMarshal(&request), func(reply []byte, err error) {
		if late || g.stopped.Load() != nil {
			return
		}
		r.answered(s)
		s.wait = min(4*(g.env.Now()-asked), maxPatience)
		var blocks blocksync.Reply
		if err == nil {
			err = ledger.Unmarshal(reply, &blocks)
		}
		n := ledger.Height(len(blocks.Blocks))
		switch p := &s.peers[r.source]; {
		case err != nil:
			g.doubt(r.source, firstDoubt, err)
		case n > r.to-r.from+1:
			g.doubt(r.source, maxDoubt, fmt.Errorf("%d blocks where %d were asked for", n, r.to-r.from+1))
		case n == 0 && p.claims >= r.from:
			g.doubt(r.source, firstDoubt, fmt.Errorf("it claims height %d and sends no block %d", p.claims, r.from))
		case n == 0:
			p.lacks = r.from
			g.pumpSync()
		default:
			g.checkRange(r, blocks.Blocks)
		}
	})
}

// answered ends the wait for an answer, if there is one.
func (r *blockRange) answered(s *syncer) {
	if r.patience != nil {
		r.patience()
		r.patience = nil
		s.peers[r.source].asked--
	}
}

// doubted reports whether the source is left alone for now. No doubt lasts longer than maxDoubt: if it seems to, the
// clock was set back.
func (p *syncPeer) doubted(now int64) bool { return now < p.until && p.until-now <= maxDoubt }

// doubt stops asking a source for at least a number of milliseconds, and believing it.
func (g *Group) doubt(source uint32, milli int64, why error) {
	s := &g.sync
	p := &s.peers[source]
	p.until = g.env.Now() + min(milli<<min(p.fails, 16), maxDoubt)
	p.fails++
	p.claims = 0
	if _, told := errors.AsType[*breach](why); !told {
		why = breaks(RuleNoBlocks, "%w", why)
	}
	g.refused(g.memberOf(source), why)
	g.log.Debug().Err(why).Uint32("source", source).Int64("milliseconds", p.until-g.env.Now()).Msg("no blocks are asked of the node for a while")
	s.target = 0
	for i := range s.peers {
		s.target = max(s.target, s.peers[i].claims)
	}
	s.cut(s.target)
	g.pumpSync()
}

// memberOf returns the number of a source, which has the same one as a member, or nobody for one that is none.
func (g *Group) memberOf(source uint32) uint32 {
	if int64(source) < int64(len(g.epoch.Members)) {
		return source
	}
	return nobody
}

// cut takes ranges above a height back that are not asked for.
func (s *syncer) cut(height ledger.Height) {
	for n := len(s.ranges) - 1; n >= 0 && s.ranges[n].from > height && s.ranges[n].open(); n-- {
		s.last = s.ranges[n].from - 1
		s.drop(n)
	}
}

// checkRange checks blocks that came, off the loop.
func (g *Group) checkRange(r *blockRange, raws [][]byte) {
	r.checking = true
	chain := blocksync.Chain{Suite: g.cfg.Suite, ID: g.cfg.Chain, Group: g.cfg.Group, Finality: g.cfg.Finality, Epoch: g.epoch.Number, Members: g.public}
	from, source := r.from, r.source
	g.env.Go(func() func() {
		good, err := chain.CheckRange(from, raws)
		return func() {
			s := &g.sync
			at := slices.Index(s.ranges, r)
			if at < 0 || g.stopped.Load() != nil {
				return
			}
			r.checking = false
			if chain.Epoch != g.epoch.Number {
				g.pumpSync() // it is asked for again
				return
			}
			n := ledger.Height(len(good))
			if n > 0 {
				s.peers[source].fails = 0
				r.blocks = good
				if rest := (&blockRange{from: from + n, to: r.to}); rest.from <= rest.to { // it had no more, or no more fitted
					r.to = rest.from - 1
					s.ranges = slices.Insert(s.ranges, at+1, rest)
				}
			}
			if errors.Is(err, blocksync.ErrEpoch) {
				if at := from + n - 1; s.barrier == 0 || at < s.barrier {
					s.barrier, s.ender = at, source
				}
				s.cut(s.barrier)
				err = nil
			}
			if err != nil {
				g.log.Warn().Err(err).Uint32("source", source).Msg("a node sent a bad block")
				g.doubt(source, maxDoubt, breaks(RuleBlock, "%w", err))
				return
			}
			g.pumpSync()
		}
	})
}

// executeFetched executes the next checked block, off the loop. It may run one block ahead of what is committed.
func (g *Group) executeFetched() {
	s := &g.sync
	if s.running {
		return
	}
	base := g.cfg.Store.Head()
	if s.tip != nil && s.tip.Height() > base.Height() {
		base = s.tip
	}
	at := base.Height() + 1
	i := slices.IndexFunc(s.ranges, func(r *blockRange) bool { return r.from <= at && at <= r.to })
	if i < 0 || s.ranges[i].blocks == nil {
		return
	}
	r := s.ranges[i]
	next := r.blocks[at-r.from]
	s.running = true
	g.env.Go(func() func() {
		header := &next.Block.Header
		if err := blocksync.Follows(g.cfg.Suite, base.Header(), header); err != nil {
			return func() {
				s.running = false
				if at := slices.Index(s.ranges, r); at >= 0 && base == g.cfg.Store.Head() {
					r.blocks = nil
					g.doubt(r.source, maxDoubt, breaks(RuleBlock, "%w", err))
					return
				}
				s.tip = nil // another block was stored here meanwhile
				g.pumpSync()
			}
		}
		result, err := g.cfg.Executor.Execute(context.Background(), base, &header.Order, next.Txs)
		return func() {
			s.running = false
			if g.stopped.Load() != nil {
				return
			}
			if err != nil {
				g.fail(fmt.Errorf("execute fetched block %d: %w", at, err))
				return
			}
			if base != g.cfg.Store.Head() { // stored here meanwhile
				s.tip = nil
				g.pumpSync()
				return
			}
			if !header.Order.Barrier {
				s.tip = result
				g.executeFetched() // while this one is written
			}
			if err := g.commitFetched(next, result); err != nil {
				g.fail(err)
			}
			g.pumpSync()
		}
	})
}

func (g *Group) commitFetched(b blocksync.Checked, result *state.Snapshot) error {
	epoch := g.epoch.Number
	if err := g.commit(b.Block, result, b.Txs); err != nil {
		return err
	}
	g.sync.proved = g.head.Order.Height
	g.synced()
	if g.epoch.Number != epoch { // which ended the sync, and whose claim was whose is forgotten
		for range g.sources {
			g.askHead()
		}
	}
	return g.storeFinal()
}

// synced tells the engine how far the store is now.
func (g *Group) synced() {
	g.events = append(g.events, consensus.Synced{Head: g.head, Epoch: g.begun()})
}

func (g *Group) serveBlocks(request []byte) ([]byte, error) {
	return blocksync.Serve(request, g.cfg.Store.Head().Height(), g.cfg.Store.RawBlock)
}
