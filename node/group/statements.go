package group

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// StatementsDir is the folder of the statement log in Config.Dir.
const StatementsDir = "statements"

const (
	// flushAfter is how long, in ms, statements wait for others before they are written: one sync serves many blocks.
	flushAfter = 500
	// flushFrom is how many may wait for less long.
	flushFrom = 2_000
	// maxStated bounds the statements of one member that are logged between two changes of this node's head or view, so
	// that a liar cannot fill the log. An honest member makes three in a view for each block in flight.
	maxStated = 128
	// maxStatedViews bounds the new-views in the same way.
	maxStatedViews = 4
)

// statements writes the statement log, if there is one. It has no part in consensus: it never delays what is sent.
type statements struct {
	log      *audit.Log // nil: none
	waiting  bool       // a flush is due
	flushing bool

	// Since the head or the view last changed:
	head  ledger.Height
	view  uint64
	votes []int // of each member
	views int
	seen  recent[keys.Digest] // new-views
}

func (g *Group) openStatements() error {
	if g.cfg.StatementLog <= 0 {
		return nil
	}
	log, damage, err := audit.OpenLog(audit.LogConfig{
		Suite: g.cfg.Suite, Chain: g.cfg.Chain, Group: g.cfg.Group, Node: g.self, FS: g.cfg.FS,
		Dir: filepath.Join(g.cfg.Dir, StatementsDir), Size: g.cfg.StatementLog,
	})
	if err != nil {
		return fmt.Errorf("group %s: %w", g.cfg.Group, err)
	}
	if damage != nil {
		g.log.Error().Err(damage).Msg("the statement log goes on in a new segment; consensus does not depend on it")
	}
	g.statements = statements{log: log, seen: recent[keys.Digest]{limit: 64}}
	return nil
}

// fresh forgets the bounds of before when the head or the view has changed.
func (s *statements) fresh(g *Group) {
	view := uint64(0)
	if !g.down && g.engine != nil {
		view = g.engine.Status().View
	}
	if s.votes == nil || len(s.votes) != len(g.public) || s.head != g.head.Order.Height || s.view != view {
		s.head, s.view, s.votes, s.views = g.head.Order.Height, view, make([]int, len(g.public)), 0
	}
}

// stated notes votes that this node signed or verified.
func (g *Group) stated(votes ...ledger.Vote) {
	s := &g.statements
	if s.log == nil {
		return
	}
	s.fresh(g)
	for _, v := range votes {
		if v.Statement.Kind == ledger.Heartbeat || int64(v.Signer) >= int64(len(s.votes)) {
			continue
		}
		if s.votes[v.Signer]++; s.votes[v.Signer] <= maxStated || int64(v.Signer) == int64(g.number) {
			s.log.Vote(g.env.Now(), s.head, v)
		}
	}
	g.flushStatements()
}

// statedCertificate notes the votes of a certificate that was verified as a whole.
func (g *Group) statedCertificate(c *ledger.Certificate) {
	if g.statements.log == nil {
		return
	}
	for i, m := range c.Members() {
		v := ledger.Vote{Signer: m, Statement: c.Statement, Signature: c.Signatures[i]}
		if !g.checked.has(voteKey(&v)) {
			g.stated(v)
		}
	}
}

// statedView notes the new-view of a message that was verified or is sent.
func (g *Group) statedView(m *consensus.Message) {
	s := &g.statements
	if s.log == nil || m.NewView == nil {
		return
	}
	if _, known := s.seen.set[m.NewView.Digest(g.cfg.Suite)]; known {
		return
	}
	s.fresh(g)
	if s.views++; s.views > maxStatedViews {
		return
	}
	s.seen.add(m.NewView.Digest(g.cfg.Suite))
	s.log.NewView(g.env.Now(), s.head, m.NewView)
	g.flushStatements()
}

// flushStatements has what waits written, off the loop and soon.
func (g *Group) flushStatements() {
	s := &g.statements
	waiting := s.log.Waiting()
	if s.flushing || waiting == 0 || s.waiting && waiting < flushFrom {
		return
	}
	if waiting >= flushFrom {
		g.writeStatements()
		return
	}
	s.waiting = true
	g.env.After(flushAfter, func() {
		if !s.flushing {
			g.writeStatements()
		}
	})
}

func (g *Group) writeStatements() {
	s := &g.statements
	s.waiting, s.flushing = false, true
	g.env.Go(func() func() {
		err := s.log.Flush()
		return func() {
			s.flushing = false
			if err != nil {
				g.fail(err)
				return
			}
			g.flushStatements()
		}
	})
}

func (g *Group) closeStatements(err error) error {
	if g.statements.log == nil {
		return err
	}
	return errors.Join(err, g.statements.log.Close())
}

// FlushStatements makes the statement log complete up to now, for whoever reads its files. Any goroutine may call it.
func (g *Group) FlushStatements() error {
	if g.statements.log == nil {
		return nil
	}
	return g.statements.log.Flush()
}
