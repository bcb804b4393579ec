package group

import (
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// reportEvery is how often, in ms, the log tells how far a node has caught up.
const reportEvery = 5_000

// Fetch is how a node catches up.
type Fetch struct {
	PerSecond float64      // blocks stored, over the last seconds
	Left      int64        // ms until Status.Syncing is reached at this speed; 0: nobody knows
	From      []FetchShare // of the nodes that sent blocks since the node fell behind
}

// FetchShare is how many blocks came from a node.
type FetchShare struct {
	Node   identity.NodeID
	Blocks uint64
}

// report is what a group tells while it catches up.
type report struct {
	began  mark
	recent mark // one interval ago or more
	last   mark // of the last interval's end
	told   bool
	cancel func() // the next time
}

// mark is a height at a time.
type mark struct {
	at     int64 // Unix ms
	height ledger.Height
}

func (g *Group) mark() mark { return mark{g.env.Now(), g.head.Order.Height} }

// beginReport is called when blocks begin to be fetched. A node that follows others does so for each block, so the log
// is told only of what takes time.
func (g *Group) beginReport() {
	now := g.mark()
	g.sync.report = report{began: now, recent: now, last: now}
	g.scheduleReport()
}

func (g *Group) scheduleReport() {
	g.sync.report.cancel = g.env.After(reportEvery, func() {
		if g.stopped.Load() != nil {
			return
		}
		r := &g.sync.report
		g.scheduleReport()
		to, fetch := g.believed(), g.fetch()
		if to <= g.head.Order.Height {
			return // somebody claims what nobody has
		}
		r.told = true
		r.recent, r.last = r.last, g.mark()
		event := g.log.Info().Uint64("height", uint64(g.head.Order.Height)).Uint64("of", uint64(to)).Float64("per_second", fetch.PerSecond)
		if fetch.Left > 0 {
			event = event.Int64("seconds_left", (fetch.Left+999)/1_000)
		}
		for _, share := range fetch.From {
			event = event.Uint64("from_"+share.Node.Short(), share.Blocks)
		}
		event.Msg("fetching blocks")
	})
}

// endReport is called when no more blocks are fetched.
func (g *Group) endReport() {
	r := &g.sync.report
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	if r.told {
		now := g.mark()
		g.log.Info().Uint64("height", uint64(now.height)).Uint64("blocks", uint64(now.height-r.began.height)).
			Int64("milliseconds", now.at-r.began.at).Msg("no more blocks to fetch")
	}
}

// believed returns a height that is final, for all that is known, while blocks are fetched: one that the certificate of
// a fetched block shows, or that so many members claim that one of them is honest.
func (g *Group) believed() ledger.Height {
	s := &g.sync
	height := g.head.Order.Height
	for _, r := range s.ranges {
		if r.blocks != nil {
			height = max(height, r.to)
		}
	}
	var claims []ledger.Height
	for i, p := range s.peers {
		if g.isMember(uint32(i)) {
			claims = append(claims, p.claims)
		}
	}
	slices.Sort(claims)
	if n := len(claims) - 1 - ledger.Faulty(len(g.epoch.Members)); n >= 0 {
		height = max(height, claims[n])
	}
	return height
}

// fetch tells how the node catches up.
func (g *Group) fetch() Fetch {
	s := &g.sync
	var f Fetch
	now := g.mark()
	if took := now.at - s.report.recent.at; took > 0 {
		f.PerSecond = float64(now.height-s.report.recent.height) * 1_000 / float64(took)
	}
	if to := g.believed(); f.PerSecond > 0 && to > now.height {
		f.Left = int64(float64(to-now.height) * 1_000 / f.PerSecond)
	}
	for i, p := range s.peers {
		if p.sent > 0 {
			f.From = append(f.From, FetchShare{g.sources[i], p.sent})
		}
	}
	return f
}
