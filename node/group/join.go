package group

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/statesync"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrJoined says that the group stopped because it has fetched a state to begin with. Opening the store again puts that in place.
var ErrJoined = errors.New("group: a state was fetched, with which this node begins when it is opened again")

const (
	joinAbove   = 64       // blocks that others are ahead of a node that has none, from which on a state is fetched
	joinAtOnce  = 2        // requests to one node; 1 as long as it is asked for little
	joinUnder   = 8 << 20  // bytes that are asked for and not late: as many as share a slow line
	joinRanges  = 16       // ranges of blocks that are begun ahead of what is checked
	joinHeld    = 32 << 20 // bytes that were fetched and are being checked, or wait for it
	joinResume  = 512      // blocks of an earlier life that are checked in a row
	joinChoose  = 3_000    // ms for which answers are awaited before a state is chosen
	joinAgain   = 5_000    // ms after which nodes are asked again what they have
	joinMaking  = 300_000  // ms for which nodes are waited for that say they copy one, unless enough offer another
	joinGiveUp  = 30_000   // ms after which blocks are fetched, if they can be and nobody gives a state
	joinRest    = 600_000  // ms for which that stays so
	joinStale   = 120_000  // ms without progress after which another state is chosen, or with
	joinLeast   = 4 << 20  // less than so many bytes that held, if more nodes have another one
	joinTries   = 16       // states that were given up, after which blocks are fetched, if they can be
	joinSlow    = 10_000   // ms after which what did not come is asked of another node as well, at least, and at most: where
	joinSlowest = 60_000   // all share a slow line, to ask again makes it slower, and few parts wait for one another
)

// joiner fetches a state that others have, with all blocks up to it. It asks several nodes at once: blocks are checked in
// their order and chunks as they come, off the loop. A request that takes long is not given up, but its node is asked for
// nothing more until it has answered, and another one for the same. All is kept as it comes (joinFiles). The group's own
// store stays as it is until the next one is whole; while it runs, no blocks are fetched.
type joiner struct {
	active  bool
	head    ledger.Height // of this node when it began
	opening int           // goroutines that open files
	life    int           // counts the states that were chosen, so that answers and work for another one are known
	peers   map[identity.NodeID]*joinPeer
	spoilt  []statesync.Offer // that did not hold
	began   int64             // when the choice began, Unix ms
	moved   int64             // when something came last, Unix ms
	until   int64             // no state is fetched before, Unix ms
	proving bool
	target  *joinTarget // nil: none is chosen
	tries   int         // states that were given up
	under   int         // bytes that are asked for and not late
	turn    int         // rotates the nodes that are asked
	cancel  func()      // of the ticking
	told    int64       // when the log was told last, Unix ms
}

// joinPeer is what the joiner knows of a node.
type joinPeer struct {
	offers []statesync.Offer
	asking bool  // what it offers
	making bool  // it makes an offer
	again  int64 // it is not asked for parts before this time, that it named, Unix ms
	bytes  int   // it is asked for at once; 0: firstBytes
	asked  int   // requests for parts
	late   int   // of them, those that take long
	wait   int64 // ms, four times what its last part took
	fails  int   // in a row
	until  int64 // it is not asked before, Unix ms
	sent   uint64
}

// joinTarget is the state that is fetched.
type joinTarget struct {
	offer    statesync.Offer
	files    *joinFiles
	cover    coverage
	under    map[keys.Digest]*joinPart // chunks under way, by the path that was asked for
	ranges   []*joinRange              // of rising height, each beginning where the one before it ends
	next     ledger.Height             // that files takes next
	last     ledger.Height             // first that is in no range
	resuming bool                      // blocks of an earlier life may be there
	running  bool                      // blocks are being checked
	checking int                       // bytes of chunks that are being checked
	working  int                       // goroutines that use files
	dropped  bool
	bad      int    // parts that did not hold since something did
	bytes    uint64 // of chunks that are there
	held     uint64 // bytes that came and held,
	before   uint64 // of them before the time since,
	since    int64  // Unix ms
}

// joinRange is blocks that are fetched together.
type joinRange struct {
	from, to ledger.Height
	part     joinPart
	source   identity.NodeID
	payloads [][]byte
	size     int
}

// joinPart is what was asked for.
type joinPart struct{ under, late int }

// Joining is how a node fetches a state to begin with.
type Joining struct {
	Height ledger.Height // of the state; 0: none is chosen yet
	Blocks ledger.Height // that are there, headers for the most part, of as many as Height and one
	Bytes  uint64        // of the state that are there,
	Of     uint64        // of so many, by the word of who gives it
	From   []JoinShare   // of the nodes that sent something
}

// JoinShare is how many bytes came from a node, of blocks too.
type JoinShare struct {
	Node  identity.NodeID
	Bytes uint64
}

// joins reports whether blocks up to a height that somebody has are not fetched, because a state is.
func (g *Group) joins(height ledger.Height) bool {
	j := &g.join
	if g.cfg.Snapshot && g.head.Order.Height == 0 && height > joinAbove && !j.rests(g.env.Now()) {
		g.beginJoin()
	}
	return j.active
}

// rests reports whether no state is fetched for now. If it is for longer than may be, the clock was set back.
func (j *joiner) rests(now int64) bool { return now < j.until && j.until-now <= joinRest }

// beginJoin begins, unless that was done or an earlier join still has its files open.
func (g *Group) beginJoin() {
	j, now := &g.join, g.env.Now()
	if j.active || j.target != nil || j.opening > 0 {
		return
	}
	g.endSync()
	*j = joiner{active: true, head: g.head.Order.Height, life: j.life + 1, peers: map[identity.NodeID]*joinPeer{}, began: now, moved: now, told: now, until: j.until, under: j.under}
	g.log.Info().Uint64("height", uint64(g.head.Order.Height)).Msg("this node begins with a state of others: it asks them what they have")
	life := j.life
	g.env.Go(func() func() {
		r, err := readAnchor(g.cfg.FS, g.cfg.Dir)
		return func() {
			if !j.active || j.life != life {
				return
			}
			if err != nil {
				g.fail(fmt.Errorf("read how far this node has joined: %w", err))
				return
			}
			if r != nil && r.Offer.Height > g.head.Order.Height {
				g.joinProve(&r.Offer, r.Anchor, nobodyNode)
				return
			}
			g.joinAsk()
		}
	})
	g.env.After(joinChoose, g.joinPump)
	g.joinTick()
}

// nobodyNode stands for the node's own files among the sources.
var nobodyNode identity.NodeID

// joinTick looks at what nothing else would bring forward.
func (g *Group) joinTick() {
	j := &g.join
	j.cancel = g.env.After(joinAgain, func() {
		if g.joinOvertaken(); !j.active || g.stopped.Load() != nil {
			return
		}
		now := g.env.Now()
		if j.target != nil && !j.target.running && !j.target.whole() && now-j.moved > j.stale() {
			g.log.Warn().Uint64("height", uint64(j.target.offer.Height)).Msg("nobody gives the rest of the state: another one is chosen")
			j.spoilt = append(j.spoilt, j.target.offer)
			g.joinDrop(j.target)
		}
		g.joinCompare()
		if now-j.told >= reportEvery {
			j.told = now
			g.tellJoining()
		}
		g.joinAsk()
		g.joinPump()
		g.joinTick()
	})
}

// joinOvertaken ends the join of a node that has stored a block since it began: it takes part, or finds blocks elsewhere, and a
// state that is older than its own, which somebody gives it in time, must never take the place of that.
func (g *Group) joinOvertaken() {
	j, head := &g.join, g.head.Order.Height
	if !j.active || g.stopped.Load() != nil || head == j.head {
		return
	}
	g.log.Info().Uint64("height", uint64(head)).Msg("this node goes on without a state of others, as it has blocks")
	g.endJoin()
}

// joinCompare gives a state up that comes slower than a line may be, if more nodes have another one: who is alone with it may
// be slow on purpose.
func (g *Group) joinCompare() {
	j, now := &g.join, g.env.Now()
	t := j.target
	if t == nil || t.dropped || t.running || t.whole() {
		return
	}
	if since := now - t.since; since >= 0 && since < joinStale {
		return
	}
	came := t.held - t.before
	t.since, t.before = now, t.held
	if came >= joinLeast {
		return
	}
	found := j.found(now, g.head.Order.Height)
	have := found[key(&t.offer)]
	for o, n := range found {
		if n > have {
			g.log.Warn().Uint64("height", uint64(t.offer.Height)).Uint64("bytes", came).Uint64("other", uint64(o.Height)).
				Msg("the state comes slowly, and more nodes have another one, which is fetched now")
			j.spoilt = append(j.spoilt, t.offer)
			g.joinDrop(t)
			return
		}
	}
}

// key returns what is compared of an offer: what is checked. Who states the size of a state wrongly has the same one.
func key(o *statesync.Offer) statesync.Offer {
	return statesync.Offer{Height: o.Height, Block: o.Block, Kept: o.Kept}
}

// found returns how many nodes have each state above a head, but those that did not hold.
func (j *joiner) found(now int64, head ledger.Height) map[statesync.Offer]int {
	found := map[statesync.Offer]int{}
	for _, p := range j.peers {
		if p.doubted(now) {
			continue
		}
		for i, o := range p.offers {
			same := func(other statesync.Offer) bool { return key(&other) == key(&o) }
			if o.Height > head && !slices.ContainsFunc(j.spoilt, same) && !slices.ContainsFunc(p.offers[:i], same) {
				found[key(&o)]++
			}
		}
	}
	return found
}

// stale returns how many ms may pass without progress: few, if no node has the state any more.
func (j *joiner) stale() int64 {
	for _, p := range j.peers {
		if p.has(&j.target.offer) || p.making || p.asked > 0 {
			return joinStale
		}
	}
	return 2 * joinAgain
}

func (t *joinTarget) whole() bool { return t.cover.whole && t.next > t.offer.Height }

func (g *Group) tellJoining() {
	s := g.joining()
	event := g.log.Info()
	if s.Height > 0 {
		event = event.Uint64("height", uint64(s.Height)).Uint64("blocks", uint64(s.Blocks)).Uint64("bytes", s.Bytes).Uint64("of", s.Of)
	}
	for _, share := range s.From {
		event = event.Uint64("from_"+share.Node.Short(), share.Bytes)
	}
	event.Msg("fetching a state to begin with")
}

// joining tells how the node joins; nil: it does not.
func (g *Group) joining() *Joining {
	j := &g.join
	if !j.active {
		return nil
	}
	s := &Joining{}
	if t := j.target; t != nil {
		s.Height, s.Blocks, s.Bytes, s.Of = t.offer.Height, t.next, t.bytes, max(t.offer.Bytes, t.bytes)
	}
	for _, node := range g.sources {
		if p := j.peers[node]; p != nil && p.sent > 0 {
			s.From = append(s.From, JoinShare{node, p.sent})
		}
	}
	return s
}

func (g *Group) joinPeer(node identity.NodeID) *joinPeer {
	p := g.join.peers[node]
	if p == nil {
		p = &joinPeer{}
		g.join.peers[node] = p
	}
	return p
}

func (p *joinPeer) doubted(now int64) bool { return now < p.until && p.until-now <= maxDoubt }

func (p *joinPeer) has(o *statesync.Offer) bool {
	return slices.ContainsFunc(p.offers, func(other statesync.Offer) bool { return key(&other) == key(o) })
}

// joinAsk asks all nodes what they have that do not have what is fetched, as far as this node knows.
func (g *Group) joinAsk() {
	j, now := &g.join, g.env.Now()
	for _, node := range slices.Clone(g.sources) {
		if node == g.self {
			continue
		}
		p := g.joinPeer(node)
		if p.asking || p.making || p.doubted(now) || j.target != nil && p.has(&j.target.offer) {
			continue
		}
		g.joinAskOne(node, p)
	}
}

func (g *Group) joinAskOne(node identity.NodeID, p *joinPeer) {
	j := &g.join
	request := statesync.Request{What: statesync.Offers}
	if j.target != nil {
		request.Height = j.target.offer.Height
	}
	p.asking = true
	life := j.life
	closed := g.env.After(headPatience, func() {
		if p.asking && j.life == life {
			p.asking, p.making = false, false // it may be asked again, and what waits for it goes on
			g.joinPump()
		}
	})
	g.env.Request(node, States, mustMarshal(&request), func(raw []byte, err error) {
		closed()
		if !j.active || j.peers[node] != p || g.stopped.Load() != nil {
			return
		}
		p.asking, p.making = false, false
		var r *statesync.Reply
		if err == nil {
			r, err = statesync.DecodeReply(raw)
		}
		if err != nil {
			g.joinDoubt(node, breaks(RuleNoBlocks, "%w", err))
			return
		}
		p.offers = r.Offers
		if p.making = r.Wait > 0; p.making && !p.has(j.wanted()) {
			g.env.After(min(max(int64(r.Wait), servingWait), maxWait), func() {
				if j.active && j.peers[node] == p && !p.asking {
					g.joinAskOne(node, p)
				}
			})
		}
		g.joinPump()
	})
}

// wanted returns the offer that is fetched, or none.
func (j *joiner) wanted() *statesync.Offer {
	if j.target == nil {
		return &statesync.Offer{}
	}
	return &j.target.offer
}

// joinDoubt leaves a node alone for a while.
func (g *Group) joinDoubt(node identity.NodeID, why error) {
	p := g.joinPeer(node)
	milli := int64(firstDoubt)
	if b, ok := errors.AsType[*breach](why); ok && b.rule != RuleNoBlocks {
		milli = maxDoubt
		g.log.Warn().Err(why).Str("node", node.Short()).Msg("a node sent a bad part of a state, and is asked for none for a while")
	}
	p.until = g.env.Now() + min(milli<<min(p.fails, 16), maxDoubt)
	p.fails++
	if i := slices.Index(g.sources, node); i >= 0 {
		g.refused(g.memberOf(uint32(i)), why)
	}
	g.joinPump()
}

// joinMoved notes that there is more of a state than before.
func (g *Group) joinMoved(t *joinTarget) {
	t.bad = 0
	g.join.moved = g.env.Now()
}

// joinBad notes that a node sent a part that does not hold. It lies, unless all that send something do: then what the state was
// offered with is not so.
func (g *Group) joinBad(t *joinTarget, from identity.NodeID, err error) {
	if t.bad++; t.bad > 2*len(g.sources) && !t.dropped {
		g.log.Warn().Err(err).Uint64("height", uint64(t.offer.Height)).Msg("nothing holds that comes of the state: another one is chosen")
		g.join.spoilt = append(g.join.spoilt, t.offer)
		g.joinDrop(t)
	}
	g.joinDoubt(from, breaks(RuleBlock, "%w", err))
}

// joinPump does everything that can be done now.
func (g *Group) joinPump() {
	j := &g.join
	g.joinOvertaken()
	switch {
	case !j.active || g.stopped.Load() != nil || j.proving:
	case j.target == nil:
		g.joinPick()
	default:
		g.joinFetch(j.target)
	}
}

// joinPick chooses the state that most nodes have, of those the newest.
func (g *Group) joinPick() {
	j, now := &g.join, g.env.Now()
	waits, making := false, false
	for _, p := range j.peers {
		making = making || p.making && !p.doubted(now) && now-j.began < joinMaking // their word is no reason to wait for ever
		waits = waits || p.asking
	}
	found := j.found(now, g.head.Order.Height)
	gives := g.lacking() == 0 // blocks
	switch {
	case (waits || making) && now-j.began < joinChoose:
		return
	case gives && (j.tries >= joinTries || len(found) == 0 && len(j.spoilt) == 0 && !making && now-j.began >= joinGiveUp):
		g.log.Warn().Msg("nobody gives a state to begin with: blocks are fetched")
		g.endJoin()
		j.until = now + joinRest
		return
	case len(found) == 0 && !making && len(j.spoilt) > 0 && now-j.began >= joinGiveUp: // they may have been slow only
		j.spoilt = nil
		return
	}
	best := slices.SortedFunc(maps.Keys(found), func(a, b statesync.Offer) int {
		return -cmp.Or(cmp.Compare(found[a], found[b]), cmp.Compare(a.Height, b.Height), bytes.Compare(a.Block[:], b.Block[:]), cmp.Compare(a.Kept, b.Kept))
	})
	if len(best) == 0 || making && found[best[0]] <= g.liars() {
		return // one that is honest may have another state in a while, and more nodes with it
	}
	for i := range best { // a node that has only said that it has one may be silent, or put off, for as long as it likes
		if node := g.joinFree(&best[i]); node != nil {
			g.joinAskProof(&best[i], *node)
			return
		}
	}
}

// liars returns how many members may lie.
func (g *Group) liars() int {
	if g.cfg.Finality == ledger.Attest {
		return 0
	}
	return ledger.Faulty(len(g.epoch.Members))
}

// joinAskProof asks for what shows that a state is one of the chain. If that takes long, another state may be asked for.
func (g *Group) joinAskProof(o *statesync.Offer, node identity.NodeID) {
	j := &g.join
	j.proving = true
	late := false
	g.joinRequest(node, statesync.Request{What: statesync.Proof, Height: o.Height}, func() {
		late, j.proving = true, false
	}, func(items [][]byte, err error) {
		if !late {
			j.proving = false
		}
		switch {
		case err != nil:
			g.joinDoubt(node, err)
		case items != nil && !j.proving && j.target == nil: // else it has the state no more, or later, or another one is here
			g.joinProve(o, items[0], node)
		}
	})
}

// joinFree returns a node that has an offer and may be asked now, in turn; nil: there is none.
func (g *Group) joinFree(o *statesync.Offer) *identity.NodeID {
	j, now := &g.join, g.env.Now()
	best, at := -1, 0
	for i := range g.sources {
		n := (j.turn + i) % len(g.sources)
		p := j.peers[g.sources[n]]
		if p == nil || p.doubted(now) || p.late > 0 || p.asked >= p.atOnce() || !p.has(o) || now < p.again && p.again-now <= maxWait {
			continue
		}
		if best < 0 || p.asked < best {
			best, at = p.asked, n
		}
	}
	if best < 0 {
		return nil
	}
	j.turn = at + 1
	node := g.sources[at]
	return &node
}

func (p *joinPeer) atOnce() int {
	if p.bytes <= firstBytes {
		return 1
	}
	return joinAtOnce
}

// joinRequest asks a node for items, all parts of the first. late runs when they take long, and done once, with one item at
// least, with none if the node has the state no more or asks to wait, or with a breach, unless another state was chosen meanwhile.
func (g *Group) joinRequest(node identity.NodeID, r statesync.Request, late func(), done func(items [][]byte, err error)) {
	j, p := &g.join, g.joinPeer(node)
	life, isLate := j.life, false
	var first []byte
	p.asked++
	p.bytes = cmp.Or(p.bytes, firstBytes)
	var ask func()
	ask = func() {
		began, under, slow := g.env.Now(), p.bytes, false
		r.Bytes = uint32(under)
		j.under += under
		cancel := g.env.After(g.joinPatience(), func() {
			slow = true
			j.under -= under
			p.bytes = max(under/2, minBytes)
			if !isLate {
				isLate = true
				p.late++
				if j.active && j.life == life {
					late()
					g.joinPump()
				}
			}
		})
		g.env.Request(node, States, mustMarshal(&r), func(raw []byte, err error) {
			cancel()
			if !slow {
				j.under -= under
			}
			var reply *statesync.Reply
			if err == nil {
				reply, err = statesync.DecodeReply(raw)
			}
			if err != nil {
				reply = &statesync.Reply{}
			}
			if err == nil && !slow && len(raw) >= under/2 {
				// Twice as much, unless that could take longer than a request may.
				fit := int64(len(raw)) * blocksPatience.Milliseconds() / (2 * max(g.env.Now()-began, 1))
				p.bytes = int(max(min(int64(2*under), statesync.MaxReply, fit), minBytes))
			}
			if err == nil && len(reply.Items) > 0 && j.active && j.life == life && g.stopped.Load() == nil {
				now := g.env.Now()
				p.wait = max(4*(now-began), 1)
				p.sent += uint64(len(raw))
				if r.Offset > 0 || uint64(len(reply.Items[0])) < reply.Size {
					j.moved = now
					first = append(first, reply.Items[0]...)
					if uint64(len(first)) < reply.Size && len(reply.Items[0]) == under && len(reply.Items) == 1 {
						r.Offset = uint64(len(first))
						ask()
						return
					}
					if uint64(len(first)) != reply.Size {
						err = breaks(RuleBlock, "it sent %d of %d bytes", len(first), reply.Size)
					}
					reply.Items = [][]byte{first}
				}
			}
			p.asked--
			if isLate {
				p.late--
			}
			if !j.active || j.life != life || g.stopped.Load() != nil {
				return
			}
			if err == nil && len(reply.Items) == 0 {
				of := func(o statesync.Offer) bool { return o.Height == r.Height }
				switch {
				case reply.Wait > 0: // it has sent as much as it may for now
					milli := min(max(int64(reply.Wait), servingWait), maxWait)
					p.again = g.env.Now() + milli
					g.env.After(milli, g.joinPump)
				case slices.ContainsFunc(reply.Offers, of):
					err = breaks(RuleNoBlocks, "it offers the state after block %d and sends nothing of it", r.Height)
					fallthrough
				default:
					p.offers = slices.DeleteFunc(reply.Offers, of)
				}
				done(nil, err)
				g.joinPump()
				return
			}
			if _, told := errors.AsType[*breach](err); err != nil && !told {
				err = breaks(RuleNoBlocks, "%w", err)
			}
			done(reply.Items, err)
		})
	}
	ask()
}

// joinPatience returns after how many ms what did not come may be asked of another node as well.
func (g *Group) joinPatience() int64 {
	best, now := int64(0), g.env.Now()
	for _, p := range g.join.peers {
		if p.wait > 0 && !p.doubted(now) && (best == 0 || p.wait < best) {
			best = p.wait
		}
	}
	return min(max(best, joinSlow), joinSlowest)
}

// joinProve checks that the header of a state is one of the chain, and goes on with what there is of the state.
func (g *Group) joinProve(o *statesync.Offer, raw []byte, from identity.NodeID) {
	j := &g.join
	j.proving = true
	j.opening++
	life := j.life
	store, trust := g.cfg.Store, backup.Trust{Suite: g.cfg.Suite, Genesis: g.cfg.Genesis, Accepted: g.accepted}
	g.env.Go(func() func() {
		t := &joinTarget{offer: *o, under: map[keys.Digest]*joinPart{}, resuming: true}
		var epochs []ledger.Epoch
		a, bad := statesync.DecodeAnchor(raw)
		if bad == nil {
			epochs, bad = a.Verify(trust.Suite, trust.Genesis, trust.Accepted...)
		}
		if h := o.Height; bad == nil && (a.Claim.Header.Order.Height != h || a.Claim.Header.Hash(trust.Suite) != o.Block) {
			bad = fmt.Errorf("%w: it is of another block than %d", ledger.ErrClaim, h)
		}
		var err error
		var there []chunkPlace
		if bad == nil {
			if trust.First, err = store.Certified(0); err == nil {
				t.files, there, err = openJoin(g.cfg.FS, g.cfg.Dir, &trust, o, raw, epochs)
			}
		}
		return func() {
			j.opening--
			if g.joinOvertaken(); !j.active || j.life != life || g.stopped.Load() != nil {
				if t.files != nil {
					_ = t.files.close() // nothing was written that matters
				}
				return
			}
			j.proving = false
			switch {
			case errors.Is(bad, ledger.ErrRecovery):
				g.log.Error().Err(bad).Msg("others went on with a recovery that was not applied on this node: if its institution agrees, " +
					"stop the node, `fondaco recover apply` the file that the others have, and run it again")
				g.joinSpoilt(o, from, breaks(RuleRecovery, "%w", bad))
			case bad != nil:
				g.joinSpoilt(o, from, breaks(RuleBlock, "%w", bad))
			case err != nil:
				g.fail(fmt.Errorf("begin to keep the state after block %d: %w", o.Height, err))
			default:
				for _, at := range there {
					if t.cover.add(at) {
						t.bytes += uint64(at.size)
					}
				}
				j.target, j.moved = t, g.env.Now()
				t.since = j.moved
				g.log.Info().Uint64("height", uint64(o.Height)).Uint64("bytes", o.Bytes).Uint64("there", t.bytes).Msg("this node begins with the state after a block")
				g.joinAsk()
				g.joinPump()
			}
		}
	})
}

// joinSpoilt notes that a node's offer does not hold; of what is in the node's own files, that it does not any more.
func (g *Group) joinSpoilt(o *statesync.Offer, from identity.NodeID, why error) {
	j := &g.join
	if from != nobodyNode {
		g.joinDoubt(from, why)
		return
	}
	j.spoilt = append(j.spoilt, *o)
	g.joinAsk()
}

// joinFetch asks for what is missing, and checks what came.
func (g *Group) joinFetch(t *joinTarget) {
	j := &g.join
	if t.dropped {
		return
	}
	g.joinBlocks(t)
	if t.whole() && t.working == 0 {
		g.joinFinish(t)
		return
	}
	if t.resuming {
		return // what is there need not be asked for
	}
	for len(t.ranges) < joinRanges && t.last <= t.offer.Height {
		r := &joinRange{from: t.last, to: min(t.last+statesync.MaxItems-1, t.offer.Height)}
		t.ranges = append(t.ranges, r)
		t.last = r.to + 1
	}
	held := t.checking
	for _, r := range t.ranges {
		held += r.size
	}
	underWay := func(path keys.Digest) bool {
		part := t.under[path]
		return part != nil && part.under > part.late
	}
	for i := 0; i < len(t.ranges); i++ {
		r := t.ranges[i]
		if r.payloads != nil || r.part.under > r.part.late || i > 0 && (held > joinHeld || j.under >= joinUnder) {
			continue
		}
		if node := g.joinFree(&t.offer); node != nil {
			g.joinAskBlocks(t, r, *node)
		}
	}
	for held <= joinHeld && j.under < joinUnder {
		path, ok := t.cover.next(underWay)
		if !ok {
			return
		}
		node := g.joinFree(&t.offer)
		if node == nil {
			return
		}
		g.joinAskChunk(t, path, *node)
	}
}

func (g *Group) joinAskBlocks(t *joinTarget, r *joinRange, node identity.NodeID) {
	late := false
	r.part.under++
	from, to := r.from, r.to
	g.joinRequest(node, statesync.Request{What: statesync.Blocks, Height: t.offer.Height, From: from, To: to}, func() {
		late = true
		r.part.late++
	}, func(items [][]byte, err error) {
		r.part.under--
		if late {
			r.part.late--
		}
		n := ledger.Height(len(items))
		if err == nil && n > to-from+1 {
			err = breaks(RuleBlock, "%d blocks where %d were asked for", n, to-from+1)
		}
		if err != nil {
			g.joinDoubt(node, err)
			return
		}
		if n == 0 || t.dropped || r.payloads != nil || !slices.Contains(t.ranges, r) { // another node was quicker
			return
		}
		n = min(n, r.to-r.from+1)
		if rest := (&joinRange{from: r.from + n, to: r.to}); rest.from <= rest.to {
			r.to = rest.from - 1
			t.ranges = slices.Insert(t.ranges, slices.Index(t.ranges, r)+1, rest)
		}
		r.payloads, r.source, r.size = items[:n], node, 0
		for _, payload := range r.payloads {
			r.size += len(payload)
		}
		g.joinPump()
	})
}

// joinBlocks checks the next blocks that came, off the loop.
func (g *Group) joinBlocks(t *joinTarget) {
	if t.running || !t.resuming && (len(t.ranges) == 0 || t.ranges[0].payloads == nil) {
		return
	}
	var r *joinRange
	if !t.resuming {
		r = t.ranges[0]
	}
	t.running = true
	more := false
	g.joinWork(t, func() (err error) {
		if r == nil {
			more, err = t.files.resume(joinResume)
			return err
		}
		for _, payload := range r.payloads {
			if err := t.files.block(payload); err != nil {
				return err
			}
		}
		return nil
	}, func(err error) {
		t.running = false
		if next := t.files.to.Next(); next > t.next {
			t.next = next
			g.joinMoved(t)
		}
		if r == nil {
			t.resuming, t.last = more, t.next
			g.joinPump()
			return
		}
		if err == nil {
			t.held += uint64(r.size)
			t.ranges = t.ranges[1:]
			g.joinPeer(r.source).fails = 0
			g.joinPump()
			return
		}
		r.from, r.payloads, r.size = t.next, nil, 0
		g.joinBad(t, r.source, err)
	})
}

// joinWork does work with the files of a target off the loop, and then what follows, unless the work failed for want of a disk
// or another target was chosen.
func (g *Group) joinWork(t *joinTarget, work func() error, then func(error)) {
	t.working++
	g.env.Go(func() func() {
		err := work()
		return func() {
			t.working--
			switch {
			case g.stopped.Load() != nil:
			case t.dropped:
				g.joinDropped(t)
			case err != nil && !errors.Is(err, errPart):
				g.fail(fmt.Errorf("keep the state after block %d: %w", t.offer.Height, err))
			default:
				then(err)
			}
		}
	})
}

func (g *Group) joinAskChunk(t *joinTarget, path keys.Digest, node identity.NodeID) {
	late := false
	part := t.under[path]
	if part == nil {
		part = &joinPart{}
		t.under[path] = part
	}
	part.under++
	closed := func() {
		part.under--
		if late {
			part.late--
		}
		if part.under == 0 {
			delete(t.under, path)
		}
	}
	g.joinRequest(node, statesync.Request{What: statesync.Chunk, Height: t.offer.Height, Path: path}, func() {
		late = true
		part.late++
	}, func(items [][]byte, err error) {
		if err == nil && len(items) > 1 {
			err = breaks(RuleBlock, "%d chunks where one was asked for", len(items))
		}
		if err != nil || items == nil || t.dropped || t.cover.whole { // the rest may be put together already
			closed()
			if err != nil {
				g.joinDoubt(node, err)
			}
			return
		}
		t.checking += len(items[0])
		var at chunkPlace
		g.joinWork(t, func() (err error) {
			at, err = t.files.keep(items[0], path)
			return err
		}, func(err error) {
			closed()
			t.checking -= len(items[0])
			if err != nil {
				g.joinBad(t, node, err)
				return
			}
			g.joinMoved(t)
			g.joinPeer(node).fails = 0
			if t.cover.add(at) {
				t.bytes += uint64(at.size)
				t.held += uint64(at.size)
			}
			g.joinPump()
		})
	})
}

// joinFinish makes a store of all that came.
func (g *Group) joinFinish(t *joinTarget) {
	if t.running {
		return
	}
	t.running = true
	event := g.log.Info().Uint64("height", uint64(t.offer.Height)).Uint64("bytes", t.bytes)
	for node, p := range g.join.peers {
		if p.sent > 0 {
			event = event.Uint64("from_"+node.Short(), p.sent)
		}
	}
	event.Msg("the state is here: it is put together")
	g.joinWork(t, func() error { return t.files.finish(t.cover.chunks) }, func(err error) {
		if err != nil { // though each part holds: what the offer says besides is wrong
			g.log.Warn().Err(err).Uint64("height", uint64(t.offer.Height)).Msg("the state cannot be used: another one is chosen")
			g.join.spoilt = append(g.join.spoilt, t.offer)
			g.joinDrop(t)
			return
		}
		g.joined(t.offer.Height)
	})
}

// joined ends the group, and has its store replaced by what was fetched, which is above the head: nothing is committed between
// this look at it and the end.
func (g *Group) joined(h ledger.Height) {
	if g.joinOvertaken(); !g.join.active {
		return // the next start removes what was fetched
	}
	if err := settle(g.cfg.FS, g.cfg.Dir); err != nil {
		g.fail(fmt.Errorf("begin with the state after block %d: %w", h, err))
		return
	}
	g.log.Info().Uint64("height", uint64(h)).Msg("this node has a state to begin with, and starts again on it")
	g.join.active, g.join.target = false, nil
	g.stop(ErrJoined)
	if g.cfg.Trace.Joined != nil {
		g.cfg.Trace.Joined(h)
	}
}

// joinDrop gives a target up, and another is chosen.
func (g *Group) joinDrop(t *joinTarget) {
	t.dropped = true
	g.joinDropped(t)
}

func (g *Group) joinDropped(t *joinTarget) {
	if t.working > 0 {
		return // it uses the files
	}
	j, now := &g.join, g.env.Now()
	if err := t.files.close(); err != nil {
		g.fail(fmt.Errorf("close the state after block %d: %w", t.offer.Height, err))
		return
	}
	j.target = nil
	if !j.active {
		return
	}
	j.life++
	j.tries++
	j.began, j.moved = now, now
	for node, p := range j.peers { // requests under way go on with the one that was
		j.peers[node] = &joinPeer{fails: p.fails, until: p.until, bytes: p.bytes, sent: p.sent}
	}
	g.joinAsk()
	g.env.After(joinChoose, g.joinPump)
}

// endJoin goes on without a state.
func (g *Group) endJoin() {
	j := &g.join
	j.active, j.proving = false, false
	j.life++
	if j.cancel != nil {
		j.cancel()
	}
	if j.target != nil {
		g.joinDrop(j.target)
	}
}

// closeJoin closes the files, when nothing runs any more.
func (g *Group) closeJoin() error {
	var errs []error
	if t := g.join.target; t != nil && t.files != nil {
		errs = append(errs, t.files.close())
	}
	if g.shelf != nil {
		errs = append(errs, g.shelf.Close())
	}
	return errors.Join(errs...)
}
