package group

import (
	"cmp"
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
	rangeBlocks = 64                     // blocks asked for at once, at most
	maxRanges   = 16                     // that are begun ahead of what is executed
	maxFetched  = 8 * blocksync.MaxReply // bytes of blocks that are on their way, checked, or wait to be executed
	maxAsked    = 2                      // requests to one node at once; 1 as long as it is asked for little
	firstBytes  = 256 << 10              // of blocks that a node is asked for at first; doubled when they come in time, and
	minBytes    = 32 << 10               // halved when they do not
	minPatience = 500                    // ms after which blocks that did not come may be asked of another node as well:
	maxPatience = 30_000                 // four times what the last answer took of the source that is quickest
	firstDoubt  = 250                    // ms for which a node is not asked that did not send what it claims to have; doubled each time in a row
	maxDoubt    = 60_000                 // ms for which one is not asked that sent what is no block of the chain
	maxWait     = 5_000                  // ms that a node may put a request off, and
	maxWaits    = 16                     // how often in a row
)

// syncer fetches blocks that are final elsewhere. Ranges of heights are asked of several nodes at once and
// checked off the loop as they come, while blocks before them are executed; all are committed through the group's one
// gate, as if they had been agreed on here. A stop loses only what was not committed.
//
// Heights beyond the head are claims. A node is believed until it does not send what it claims to have; then its
// claims count for nothing for a while, so that a claim which nobody can fulfil costs a request now and then.
//
// # Slow lines
//
// A block may take longer than any wait that would be right for a fast network. So a request that takes long is not given
// up: its node is asked for nothing more until it has answered, for less from then on, and if nothing can be executed
// without that answer, another node is asked as well. Whichever answer comes first is used. So there is progress as
// long as one block arrives within the time of a request, and one node that is slow on purpose delays little.
type syncer struct {
	active  bool
	target  ledger.Height // the highest that is claimed and believed
	peers   []*syncPeer   // by place in Group.sources
	ranges  []*blockRange // of rising height, each beginning where the one before it ends
	last    ledger.Height // the last height in ranges, or before them; what an epoch's end puts off included
	barrier ledger.Height // the epoch ends here, so no more is asked before it has; 0: unknown
	ender   uint32        // source that says so
	tip     *state.Snapshot
	running bool          // a block is being executed
	proved  ledger.Height // of the last block that was fetched and committed; 0: none since the sync began
	bytes   int           // asked for and not late
	each    int           // bytes of a block of the last answer; 0: none came
	turn    int           // rotates the sources that are asked
	told    int64         // when the log was told last that no node has the next block any more, Unix ms; 0: never
	report  report
}

// syncPeer is what the syncer knows of a source of blocks.
type syncPeer struct {
	claims ledger.Height // what it said last that it has; 0: nothing that is believed
	answer answer        // what became of the last request
	head   ledger.Height // what its last answer says that it has, believed or not,
	first  ledger.Height // and of that the lowest block with its transactions
	asked  int           // requests under way
	late   int           // of them, those that take long
	bytes  int           // it is asked for at once; 0: firstBytes
	wait   int64         // ms, four times what its last answer took; 0: none yet
	fails  int           // in a row
	until  int64         // it is not asked before, Unix ms
	again  int64         // nor before this time, that it named itself, Unix ms
	waits  int           // that it named in a row
	sent   uint64        // blocks that came from it since the sync began
}

// answer is what became of a request.
type answer uint8

const (
	answerOpen answer = iota // nothing yet
	answerCame
	answerFailed
)

// blockRange is heights that are fetched together.
type blockRange struct {
	from, to ledger.Height
	under    int    // requests under way
	late     int    // of them, those that take long
	source   uint32 // that sent blocks
	checking int    // bytes of a reply that is being checked
	size     int    // bytes of blocks
	blocks   []blocksync.Checked
}

// lacks reports whether nothing has come for the range.
func (r *blockRange) lacks() bool { return r.checking == 0 && r.blocks == nil }

// needSync notes that a source, a member for example, claims to have the block at height.
func (g *Group) needSync(height ledger.Height, from uint32) {
	s := &g.sync
	if int64(from) == int64(g.number) {
		from = (from + 1) % uint32(len(g.sources))
	}
	if int64(from) >= int64(len(g.sources)) || g.others() == 0 {
		return
	}
	p := g.source(from)
	if p.doubted(g.env.Now()) {
		return
	}
	p.claims = height
	if height <= g.head.Order.Height || g.joins(height) {
		return
	}
	s.target = max(s.target, height)
	if !s.active {
		s.active, s.proved = true, 0
		s.ranges, s.last, s.tip = nil, g.head.Order.Height, nil
		g.beginReport()
	}
	g.pumpSync()
}

// source returns what is known of a source, which there is.
func (g *Group) source(number uint32) *syncPeer {
	s := &g.sync
	for len(s.peers) < len(g.sources) {
		s.peers = append(s.peers, &syncPeer{})
	}
	return s.peers[number]
}

// answered notes what a source answered to a request, nil if nothing.
func (g *Group) answered(p *syncPeer, reply *blocksync.Reply) {
	switch {
	case reply == nil:
		p.answer = answerFailed
	case reply.Wait == 0:
		p.answer, p.head, p.first = answerCame, reply.Head, reply.First
	}
	lacking := g.lacking()
	if now := g.env.Now(); lacking > 0 && (g.sync.told == 0 || now-g.sync.told >= tellEvery) {
		g.sync.told = now
		g.log.Error().Err(errLacking(lacking)).Msg("this node cannot catch up by itself")
	}
	if lacking > 0 && g.cfg.Snapshot && !g.join.active && g.stopped.Load() == nil {
		g.beginJoin()
	}
}

// tellEvery is after how many ms the log tells again that this node cannot catch up: peers that come and go must not fill it.
const tellEvery = 600_000

// lacking returns the height of the next block if others have gone on, by the word of members of which one at least is honest,
// and no node that answers has it in full any more; else 0. Then this node cannot catch up by itself.
func (g *Group) lacking() ledger.Height {
	next, pruned := g.head.Order.Height+1, 0
	for i, p := range g.sync.peers {
		switch {
		case int32(i) == g.number || p.answer == answerFailed || p.answer == answerCame && p.head < next:
		case p.answer == answerOpen || p.first <= next: // it may have it
			return 0
		case g.isMember(uint32(i)):
			pruned++
		}
	}
	if pruned <= g.liars() {
		return 0
	}
	return next
}

// errLacking says what to do about a block that no node has any more.
func errLacking(h ledger.Height) error {
	return fmt.Errorf("no node that answers has block %d any more, as all were pruned: start one that has it, or have this node begin with a state of the others, or with a backup, which "+
		"both give up what it has of older blocks: write sync = 'snapshot' into [network] of its configuration and start it again", h)
}

// errLost says what to do about blocks that this node once had.
func errLost(head, once ledger.Height) error {
	return fmt.Errorf("this node once had block %d, and block %d is the last that it has now. It fetches the others by itself from a node that has them: start one, or stop "+
		"this node and use `fondaco import blocks` or `fondaco backup restore` with a file that has them. If nobody has them, what clients were told of them is lost, and the "+
		"members can go on without: stop all, move the file %s of each away, and use `fondaco recover`, whose `propose` then wants --lossy", once, head, JournalName)
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
		g.doubt(s.ender, breaks(RuleBlock, "it sent a block of a later epoch, and the epoch did not end at height %d", height))
		return
	}
	for len(s.ranges) > 0 && s.ranges[0].to <= height { // stored
		s.ranges = slices.Delete(s.ranges, 0, 1)
	}
	if len(s.ranges) == 0 {
		s.last = height
	}
	for len(s.ranges) < maxRanges && s.last < s.limit() {
		r := &blockRange{from: s.last + 1, to: min(s.last+rangeBlocks, s.limit())}
		s.ranges = append(s.ranges, r)
		s.last = r.to
	}
	held := 0
	for _, r := range s.ranges {
		held += r.size + r.checking
	}
	first, busy := true, s.running || s.waits(height, g.env.Now())
	for i := 0; i < len(s.ranges); i++ { // askRange may put in another one behind it
		r := s.ranges[i]
		if s.barrier > 0 && r.from > s.barrier {
			break // it cannot be checked yet
		}
		if r.lacks() {
			if first && r.under == r.late || r.under == 0 && held+s.bytes < maxFetched {
				g.askRange(r)
			}
			first = false // what is executed next waits for this one
		}
		busy = busy || r.under > 0 || !r.lacks()
	}
	g.executeFetched()
	if !busy && !s.running { // all is here, or nobody has more
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

func (g *Group) endSync() {
	s := &g.sync
	g.endReport()
	s.active, s.target, s.barrier, s.tip, s.ranges = false, 0, 0, nil, nil
	for _, p := range s.peers {
		p.claims, p.sent = 0, 0
	}
}

// free reports whether a source may be asked for the block at a height: one that did not say how far it is may have it.
func (p *syncPeer) free(at ledger.Height, now int64) bool {
	atOnce := maxAsked
	if p.bytes <= firstBytes {
		atOnce = 1
	}
	return p.asked < atOnce && p.late == 0 && !p.doubted(now) && !p.waiting(now) && p.first <= at && (p.claims == 0 || p.claims >= at)
}

// patience returns the milliseconds after which it is worth asking another node.
func (s *syncer) patience(now int64) int64 {
	best := int64(0)
	for _, p := range s.peers {
		if p.wait > 0 && !p.doubted(now) && (best == 0 || p.wait < best) {
			best = p.wait
		}
	}
	return min(max(best, minPatience), maxPatience)
}

// askRange asks a source for the blocks of a range: of those that have the fewest requests, in turn.
func (g *Group) askRange(r *blockRange) {
	s := &g.sync
	best, now := -1, g.env.Now()
	for i := range s.peers {
		m := (s.turn + i) % len(s.peers)
		if int32(m) != g.number && s.peers[m].free(r.from, now) && (best < 0 || s.peers[m].asked < s.peers[best].asked) {
			best = m
		}
	}
	if best < 0 {
		return
	}
	s.turn = best + 1
	p, source := s.peers[best], uint32(best)
	p.bytes = cmp.Or(p.bytes, firstBytes)
	bytes, claimed, late := p.bytes, p.claims, false
	fit := 1
	if s.each > 0 {
		fit = max(bytes/s.each, 1)
	}
	s.split(r, ledger.Height(fit)) // the others may be asked of another node at the same time
	p.asked++
	r.under++
	s.bytes += bytes
	cancel := g.env.After(s.patience(now), func() {
		late = true
		r.late++
		p.late++
		p.bytes = max(p.bytes/2, minBytes)
		s.bytes -= bytes
		g.pumpSync()
	})
	request := blocksync.Request{From: r.from, To: r.to, Bytes: uint32(bytes)}
	g.env.Request(g.sources[best], Blocks, mustMarshal(&request), func(reply []byte, err error) {
		cancel()
		p.asked--
		r.under--
		if late {
			r.late--
			p.late--
		} else {
			s.bytes -= bytes
		}
		if g.stopped.Load() != nil || best >= len(s.peers) || s.peers[best] != p { // in a later epoch, another may have the place
			return
		}
		if err = g.tookBlocks(r, source, &request, claimed, reply, err); err != nil {
			g.answered(p, nil)
			g.doubt(source, err)
			return
		}
		if len(reply) >= minBytes {
			p.wait = max(4*(g.env.Now()-now), 1)
		}
		if !late && len(reply) >= bytes/2 {
			p.bytes = min(2*p.bytes, blocksync.MaxReply)
		}
		g.pumpSync()
	})
}

// tookBlocks takes the answer of a source, which claimed a height before, to a request for a range.
func (g *Group) tookBlocks(r *blockRange, source uint32, request *blocksync.Request, claimed ledger.Height, reply []byte, err error) error {
	s := &g.sync
	var answer blocksync.Reply
	if err == nil {
		err = ledger.Unmarshal(reply, &answer)
	}
	if err != nil {
		return err
	}
	n, asked := ledger.Height(len(answer.Blocks)), request.To-request.From+1
	claimed = max(claimed, answer.Head)
	g.answered(s.peers[source], &answer)
	if p := s.peers[source]; n == 0 && answer.Wait > 0 && p.waits < maxWaits {
		milli := min(int64(answer.Wait), maxWait)
		p.waits++
		p.again = g.env.Now() + milli
		g.env.After(milli, g.pumpSync)
		return nil
	}
	switch {
	case n > asked:
		return breaks(RuleBlock, "%d blocks where %d were asked for", n, asked)
	case n == 0 && answer.First > request.From:
		s.peers[source].claims = answer.Head
		return nil
	case n == 0 && claimed >= request.From:
		return fmt.Errorf("it claims height %d and sends no block %d", claimed, request.From)
	}
	p := s.peers[source]
	p.claims = answer.Head
	if n == 0 { // it never said that it has more, so this is no reason to doubt it, nor one to ask it again at once
		p.until = g.env.Now() + firstDoubt
	}
	if s.active {
		s.target = max(s.target, answer.Head)
	}
	if n > 0 && r.lacks() && slices.Contains(s.ranges, r) { // else another answer was quicker
		g.checkRange(r, source, answer.Blocks[:min(n, r.to-r.from+1)], len(reply))
	}
	return nil
}

// waiting reports whether the source named a later time to be asked. If that is further off than one may be, the clock
// was set back.
func (p *syncPeer) waiting(now int64) bool { return now < p.again && p.again-now <= maxWait }

// waits reports whether a source that has blocks above the head named a later time to be asked.
func (s *syncer) waits(head ledger.Height, now int64) bool {
	return slices.ContainsFunc(s.peers, func(p *syncPeer) bool { return p.waiting(now) && p.claims > head })
}

// doubted reports whether the source is left alone for now. No doubt lasts longer than maxDoubt: if it seems to, the
// clock was set back.
func (p *syncPeer) doubted(now int64) bool { return now < p.until && p.until-now <= maxDoubt }

// doubt stops asking a source for a while, and believing it.
func (g *Group) doubt(source uint32, why error) {
	s := &g.sync
	p := s.peers[source]
	milli := int64(firstDoubt)
	if b, ok := errors.AsType[*breach](why); ok && (b.rule == RuleBlock || b.rule == RuleRecovery) {
		milli = maxDoubt
	}
	p.until = g.env.Now() + min(milli<<min(p.fails, 16), maxDoubt)
	p.fails++
	p.claims = 0
	if _, told := errors.AsType[*breach](why); !told {
		why = breaks(RuleNoBlocks, "%w", why)
	}
	g.refused(g.memberOf(source), why)
	g.log.Debug().Err(why).Uint32("source", source).Int64("milliseconds", p.until-g.env.Now()).Msg("no blocks are asked of the node for a while")
	s.target = 0
	for _, p := range s.peers {
		s.target = max(s.target, p.claims)
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

// split makes a range one of n blocks, and another of those that are left.
func (s *syncer) split(r *blockRange, n ledger.Height) {
	rest := &blockRange{from: r.from + n, to: r.to}
	if rest.from > rest.to {
		return
	}
	r.to = rest.from - 1
	s.ranges = slices.Insert(s.ranges, slices.Index(s.ranges, r)+1, rest)
}

// cut takes ranges above a height back that are not asked for.
func (s *syncer) cut(height ledger.Height) {
	for i, r := range slices.Backward(s.ranges) {
		if r.from <= height || r.under > 0 || !r.lacks() {
			return
		}
		s.last = r.from - 1
		s.ranges = s.ranges[:i]
	}
}

// checkRange checks blocks that came, off the loop.
func (g *Group) checkRange(r *blockRange, source uint32, raws [][]byte, size int) {
	r.checking = size
	chain := blocksync.Chain{Suite: g.cfg.Suite, ID: g.cfg.Chain, Group: g.cfg.Group, Finality: g.cfg.Finality, Epoch: g.epoch.Number, Members: g.public, Accepted: g.accepted}
	from := r.from
	g.env.Go(func() func() {
		good, err := chain.CheckRange(from, raws)
		return func() {
			s := &g.sync
			if !slices.Contains(s.ranges, r) || g.stopped.Load() != nil {
				return
			}
			r.checking = 0
			if chain.Epoch != g.epoch.Number {
				g.pumpSync() // it is asked for again
				return
			}
			n := ledger.Height(len(good))
			if n > 0 {
				p := s.peers[source]
				p.fails, p.waits = 0, 0
				p.sent += uint64(n)
				if g.cfg.Trace.Fetched != nil {
					g.cfg.Trace.Fetched(g.sources[source], int(n))
				}
				r.blocks, r.size, r.source = good, size, source
				s.each = size / int(n)
				s.split(r, n) // it had no more, or no more fitted
			}
			if at := from + n - 1; errors.Is(err, blocksync.ErrEpoch) && at > g.head.Order.Height { // else it is known that the epoch goes on
				if s.barrier == 0 || at < s.barrier {
					s.barrier, s.ender = at, source
				}
				s.cut(s.barrier)
				err = nil
			}
			if errors.Is(err, ledger.ErrRecovery) {
				g.log.Error().Err(err).Uint32("source", source).Msg("others went on with a recovery that was not applied on this node: if its institution agrees, " +
					"stop the node, `fondaco recover apply` the file that the others have, and run it again")
				g.doubt(source, breaks(RuleRecovery, "%w", err))
				return
			}
			if err != nil {
				g.log.Warn().Err(err).Uint32("source", source).Msg("a node sent a bad block")
				g.doubt(source, breaks(RuleBlock, "%w", err))
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
					r.blocks, r.size = nil, 0
					g.doubt(r.source, breaks(RuleBlock, "%w", err))
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

func (g *Group) serveBlocks(request []byte) (answer []byte, read int, err error) {
	answer, err = blocksync.Serve(request, g.cfg.Store.Kept(), g.cfg.Store.Head().Height(), g.cfg.Store.RawBlock)
	return answer, len(answer), err
}
