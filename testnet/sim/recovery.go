package sim

import (
	"context"
	"errors"
	"slices"

	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// losses returns between how many and how many members may be lost for good so that no quorum is left, and one of those
// that remain is honest and knows of each block that may be final. least is more than most where no number does that.
func losses(members int, finality ledger.StatementKind) (least, most int) {
	quorum := finality.Quorum(members)
	return members - quorum + 1, min(members-ledger.Recover.Quorum(members), quorum-1)
}

// lose plans the end of members shortly before faults end: each at a moment of its own or, more often, all at once, as one of
// them is the first to learn that a block is final, and with them every message on its way, so that nobody else learns it.
func (p *play) lose(faults int64) {
	w := p.world
	least, most := losses(len(w.config.Members), w.config.Finality())
	doomed := w.rng.Perm(len(w.config.Members))[:least+w.rng.IntN(most-least+1)]
	end := func(h *host) {
		h.gone, h.removed = true, true
		h.crash("for good")
	}
	for _, i := range doomed {
		w.after(faults-w.upTo(200*milli), func() { end(w.hosts[i]) })
	}
	if w.chance(30) {
		return
	}
	w.after(faults/2, func() {
		w.sighted = func(first *host) {
			if !slices.Contains(doomed, first.index) {
				return
			}
			w.sighted = nil
			w.after(0, func() { // the node that told this is at work
				side := make([]int, len(w.hosts))
				for i := range side {
					side[i] = i
				}
				p.split(side)
				for _, i := range doomed {
					end(w.hosts[i])
				}
				w.after(50*milli, p.reconnect)
			})
		}
	})
}

// recover does what the operators of the survivors do after a loss: all stop, each reports, one proposes, all sign, and each
// applies the result and starts again, at a time of its own. Power may fail at each operation on a disk, and between the
// steps. Of those that were lost one may come back, with its old disk, to which nobody applies anything.
func (p *play) recover() {
	w := p.world
	var survivors, lost []*host
	for _, h := range w.hosts {
		if h.removed {
			lost = append(lost, h)
		} else {
			survivors = append(survivors, h)
		}
	}
	w.tell("%d members are lost for good", len(lost))
	level := func() bool {
		return !slices.ContainsFunc(survivors, func(h *host) bool {
			return !h.up || h.store.Head().Height() != survivors[0].store.Head().Height()
		})
	}
	w.runUntil(w.now+second/2+w.upTo(2*second), nil) // by then all that was to start has
	if w.runUntil(w.now+calm, level); w.broken == nil && !level() {
		w.fail("after %d s the survivors do not have the same blocks", calm/second)
	}
	if w.broken != nil {
		return
	}
	for _, h := range survivors {
		h.crash("as its operator stops it")
	}
	plan := &group.Plan{Reform: precompiles.Reform{Override: "a flood"}}
	for _, h := range lost {
		plan.Reform.Remove = append(plan.Reform.Remove, h.id)
	}
	r := p.agree(survivors, plan)
	if r == nil {
		return
	}
	w.report.Recoveries++
	w.report.Kept += len(r.Blocks) - 1
	w.oracle.recovery(r)
	if w.chance(50) {
		x := lost[w.rng.IntN(len(lost))]
		w.after(w.upTo(3*second), func() {
			w.tell("%s comes back with its old disk", x)
			x.gone = false
			x.start()
		})
	}
	for _, h := range survivors {
		if w.chance(30) { // signed, and not applied
			w.after(w.upTo(200*milli), h.start)
		}
		w.after(200*milli+w.upTo(2*second), func() {
			h.crash("as its operator stops it")
			err := h.offline(func(s *group.Stopped) error {
				_, err := s.Apply(context.Background(), w.carried(r))
				return err
			})
			if err != nil {
				w.fail("%s does not apply the recovery: %v", h, err)
				return
			}
			w.tell("%s applied the recovery", h)
			h.start()
		})
	}
	w.runUntil(w.now+3*second, nil)
}

// agree returns the recovery that all survivors signed. It returns nil when that broke a rule.
func (p *play) agree(survivors []*host, plan *group.Plan) *group.Recovery {
	w := p.world
	refuses := func(h *host, step string, err error) bool {
		if err != nil {
			w.fail("%s refuses to %s a recovery: %v", h, step, err)
		}
		return err != nil
	}
	var reports []*group.Report
	for _, h := range survivors {
		var report *group.Report
		if refuses(h, "report for", h.offline(func(s *group.Stopped) (err error) { report, err = s.Report(); return err })) {
			return nil
		}
		if report.Lost && report.Head.Order.Height == 0 { // it has no journal because it never voted, which it cannot know
			plan.Lossy = true
		}
		reports = append(reports, report)
	}
	var r *group.Recovery
	proposer := survivors[w.rng.IntN(len(survivors))]
	plan.Now = epochStart + w.now/milli + proposer.skew
	if refuses(proposer, "propose", proposer.offline(func(s *group.Stopped) (err error) {
		r, err = s.Propose(context.Background(), reports, plan)
		return err
	})) {
		return nil
	}
	w.tell("%s proposes a recovery with %d blocks that it keeps", proposer, len(r.Blocks)-1)
	for _, h := range survivors {
		w.runUntil(w.now+w.upTo(second), nil)
		signed := r
		err := h.offline(func(s *group.Stopped) error {
			signed = w.carried(r) // a copy that the power took with it is no copy
			_, err := s.Sign(context.Background(), signed, keys.Digest{}, epochStart+w.now/milli+h.skew)
			return err
		})
		if refuses(h, "sign", err) {
			return nil
		}
		r = signed
		w.oracle.gaveUp(h, r)
		if h.up = w.chance(30); h.up {
			h.crash("after its signature left")
		}
	}
	return r
}

// carried returns a recovery as it comes out of a file.
func (w *world) carried(r *group.Recovery) *group.Recovery {
	raw, err := ledger.Marshal(r)
	if err == nil {
		r, err = group.DecodeRecovery(w.suite, raw)
	}
	if err != nil {
		w.fail("carry a recovery in a file: %v", err)
	}
	return r
}

// offline does something with what a stopped node has, again after each failure of the power.
func (h *host) offline(do func(*group.Stopped) error) error {
	for {
		h.up = true
		if h.world.chance(40) {
			h.powerFails = 1 + h.world.rng.IntN(12)
		}
		err := h.stopped(do)
		if !h.dead {
			h.up, h.powerFails = false, 0
			return err
		}
		h.crash("while its operator recovers it")
	}
}

func (h *host) stopped(do func(*group.Stopped) error) error {
	w := h.world
	store, err := state.Open(dataDir, w.suite, w.storage(h))
	if err != nil {
		return err
	}
	if store.Head() == nil { // it never started
		if err := store.Commit(w.block, w.first); err != nil {
			return errors.Join(err, store.Close())
		}
	}
	s, err := group.OpenStopped(group.Config{
		Suite: w.suite, Chain: w.chain, Group: "main", Finality: w.config.Finality(), Trust: w.config.Trust, Signer: h.key, Store: store,
		Executor: stub{w}, Engine: w.engine, FS: h.fs, Dir: dataDir, Log: w.log, JournalBytes: w.journal,
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	return errors.Join(do(s), s.Close(), store.Close())
}

// gaveUp notes that a survivor signed a recovery: it votes no more in the epochs that end with it.
func (o *oracle) gaveUp(h *host, r *group.Recovery) {
	for _, v := range r.Votes {
		if members := o.members[len(o.members)-1]; int(members[v.Signer]) == h.member {
			note(o.signed, v.Statement, h.member)
		}
	}
	o.gave[h.member] = r.Last().Header.Order.Epoch + 1
}

// recovery takes note of one that all who stay signed. Its blocks must be all that is final anywhere above those below it.
func (o *oracle) recovery(r *group.Recovery) {
	for i := range r.Blocks {
		h := &r.Blocks[i].Header
		hash := h.Hash(o.world.suite)
		o.recovered[hash] = true
		if at := h.Order.Height; at <= o.height() && o.chain[at].hash != hash {
			o.world.fail("a recovery has block %d %s, and %s is final", at, hash.Short(), o.chain[at].hash.Short())
			return
		}
	}
}
