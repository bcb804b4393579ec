package group

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	healBytes = 64 << 20 // of blocks that are fetched before they are written, all in one go
	healAgain = 60_000   // ms after which all nodes are asked again for blocks that none had
	partWaits = 64       // how often in a row a node may put a part of a block off
	maxStored = 1 << 28  // bytes of a block with its results that a node is believed to have
	giveTime  = 60_000   // ms in which a node gives a block, or the next is asked; in so many more for
	giveRate  = 1 << 10  // bytes of it each
)

// healer fetches blocks that the disk does not hold any more as they were written, and writes them again. It asks one node at
// a time for one block. A block counts as damaged from when it was read, by Scrub or by anybody, until it is written again.
type healer struct {
	active  bool
	sources []identity.NodeID // that are asked, this node not among them
	blocks  []ledger.Height   // that are still to be fetched, lowest first
	asked   int               // sources that did not have the first of them in full, and then, if that is enough, as it is when it is pruned
	turn    int               // rotates the sources
	part    []byte            // of the first block, that has come from the source that is asked
	waits   int               // that the source named in a row
	whole   uint64            // bytes of the block, as the source said with the first part
	until   int64             // when the next source is asked, Unix ms
	fetched []*state.Copy
	size    int             // bytes of these
	lacking []ledger.Height // that nobody has
	again   int64           // nothing is asked before, Unix ms
	told    int64           // when it was told last that nobody has a block, Unix ms; 0: never
}

// heal begins to fetch damaged blocks, if there are any, and that is not under way.
func (g *Group) heal() {
	h := &g.healer
	now := g.env.Now()
	if h.active || now < h.again && h.again-now <= healAgain {
		return
	}
	damaged := g.cfg.Store.Damaged()
	if len(damaged) == 0 {
		return
	}
	turn, told := h.turn+1, h.told
	*h = healer{active: true, turn: turn, told: told}
	for _, d := range damaged {
		h.blocks = append(h.blocks, d.Height)
	}
	for _, node := range g.sources {
		if node != g.self {
			h.sources = append(h.sources, node)
		}
	}
	g.log.Error().Err(damaged[0]).Int("damaged", len(damaged)).Msg("a stored block does not read back: it is fetched from other nodes")
	g.fetchStored()
}

// fetchStored asks the next node for the next block, or writes what has come.
func (g *Group) fetchStored() {
	h := &g.healer
	for len(h.blocks) > 0 && h.asked >= len(h.sources)*g.forms(h.blocks[0]) {
		h.lacking, h.blocks, h.asked = append(h.lacking, h.blocks[0]), h.blocks[1:], 0
	}
	if len(h.blocks) == 0 || h.size >= healBytes {
		g.writeHealed()
		return
	}
	h.part, h.waits, h.whole, h.until = nil, 0, 0, g.env.Now()+giveTime
	g.askPart()
}

// forms returns in how many forms a block may come, the first being in full.
func (g *Group) forms(height ledger.Height) int {
	if height < g.cfg.Store.Kept() {
		return 2
	}
	return 1
}

// askPart asks a node for the next part of the first block.
func (g *Group) askPart() {
	h := &g.healer
	node, height := h.sources[(h.turn+h.asked)%len(h.sources)], h.blocks[0]
	request := blocksync.PartRequest{Height: height, Pruned: h.asked >= len(h.sources), Offset: uint64(len(h.part))}
	g.env.Request(node, Stored, mustMarshal(&request), func(reply []byte, err error) {
		if g.stopped.Load() != nil {
			return
		}
		var part blocksync.PartReply
		if err == nil {
			err = ledger.Unmarshal(reply, &part)
		}
		have := uint64(len(h.part))
		if have == 0 && err == nil && part.Size <= maxStored {
			h.whole = part.Size
			h.until += int64(h.whole / giveRate)
		}
		switch {
		case err != nil:
		case g.env.Now() > h.until:
			err = fmt.Errorf("it gave %d bytes of %d in the time for all", have, h.whole)
		case part.Size == 0 && part.Wait > 0 && h.waits < partWaits:
			h.waits++
			g.env.After(min(int64(part.Wait), maxWait), g.askPart)
			return
		case part.Size == 0:
			err = errors.New("it does not have the block so, now")
		case have > 0 && part.Size != h.whole: // it may have healed the block itself meanwhile
			err = fmt.Errorf("the block had %d bytes first, then %d", h.whole, part.Size)
		case part.Size > maxStored || uint64(len(part.Part)) != min(blocksync.MaxPart, part.Size-have):
			err = breaks(RuleBlock, "%d bytes of block %d at %d, of %d", len(part.Part), height, have, part.Size)
		default:
			h.waits = 0
			if h.part = append(h.part, part.Part...); uint64(len(h.part)) < h.whole {
				g.askPart()
				return
			}
			g.checkStored(node, height, h.part)
			return
		}
		g.notStored(node, height, err)
	})
}

// notStored goes on with the next node after one that does not give a block.
func (g *Group) notStored(node identity.NodeID, height ledger.Height, why error) {
	if m, known := g.member[node]; known {
		g.refused(g.memberOf(m), why)
	}
	g.log.Debug().Err(why).Str("node", node.Short()).Uint64("height", uint64(height)).Msg("a node does not give a damaged block")
	g.healer.asked++
	g.fetchStored()
}

// checkStored checks a block that came, off the loop.
func (g *Group) checkStored(node identity.NodeID, height ledger.Height, payload []byte) {
	g.env.Go(func() func() {
		checked, err := g.checkCopy(height, payload)
		return func() {
			h := &g.healer
			switch {
			case g.stopped.Load() != nil:
				return
			case err != nil:
				if errors.Is(err, state.ErrFault) || errors.Is(err, blocksync.ErrBlock) {
					g.log.Warn().Err(err).Str("node", node.Short()).Msg("a node sent a bad block")
					err = breaks(RuleBlock, "%w", err)
				}
				g.notStored(node, height, err)
				return
			}
			h.fetched, h.size = append(h.fetched, checked), h.size+checked.Size()
			h.turn += h.asked % len(h.sources) // to whom gave this one: nobody who gives nothing is waited for with each block
			h.blocks, h.asked = h.blocks[1:], 0
			g.fetchStored()
		}
	})
}

// checkCopy checks that a payload is that of a block of this history, with a certificate of its epoch's members.
func (g *Group) checkCopy(height ledger.Height, payload []byte) (*state.Copy, error) {
	r, err := g.cfg.Store.CheckCopy(height, payload)
	if err != nil {
		return nil, err
	}
	b := r.Block()
	number := b.Header.Order.Epoch
	began, found, err := g.cfg.Executor.Beginning(g.cfg.Store.Head(), number)
	if err == nil && !found {
		err = fmt.Errorf("the state lacks the beginning of epoch %d", number)
	}
	var members []keys.PublicKey
	if err == nil {
		members, err = began.Epoch.PublicKeys(g.cfg.Suite)
	}
	if err != nil {
		return nil, err
	}
	chain := blocksync.Chain{Suite: g.cfg.Suite, ID: g.cfg.Chain, Group: g.cfg.Group, Finality: g.cfg.Finality, Epoch: number, Members: members}
	return r, chain.CheckCertificate(b)
}

// writeHealed writes the blocks that came, off the loop.
func (g *Group) writeHealed() {
	h := &g.healer
	fetched := h.fetched
	h.fetched, h.size = nil, 0
	if len(fetched) == 0 {
		g.endHealing()
		return
	}
	g.env.Go(func() func() {
		err := g.cfg.Store.Heal(fetched)
		return func() {
			if g.stopped.Load() != nil {
				return
			}
			if err != nil { // the disk may be full
				g.log.Error().Err(err).Int64("milliseconds", healAgain).Msg("damaged blocks were fetched and cannot be written; they will be fetched again")
				h.active, h.again = false, g.env.Now()+healAgain
				return
			}
			heights := make([]uint64, len(fetched))
			for i, r := range fetched {
				heights[i] = uint64(r.Block().Header.Order.Height)
			}
			g.log.Warn().Uints64("heights", heights[:min(len(heights), 20)]).Int("blocks", len(heights)).Msg("damaged blocks were fetched from other nodes and written again")
			g.fetchStored()
		}
	})
}

// endHealing tells of blocks that nobody has, and rests if there are any.
func (g *Group) endHealing() {
	h := &g.healer
	h.active = false
	if len(h.lacking) == 0 {
		return
	}
	now := g.env.Now()
	h.again = now + healAgain
	if h.told != 0 && now-h.told < tellEvery {
		return
	}
	h.told = now
	damaged := g.cfg.Store.Damaged()
	if i := slices.IndexFunc(damaged, func(d *state.SegmentError) bool { return d.Height == h.lacking[0] }); i >= 0 {
		g.log.Error().Err(damaged[i]).Int("damaged", len(h.lacking)).Msg("no node that answers has a block that is damaged here; they are asked again every minute")
	}
}
