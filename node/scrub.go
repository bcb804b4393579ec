package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fondaco/fondaco/state"
)

// How a node reads its blocks and its state again, so that what its disk changed is found while others still have it.
const (
	scrubAfter = time.Minute // a pass begins so long after the node started
	scrubEvery = time.Hour   // and so long after the one before ended
	scrubRate  = 2 << 20     // bytes a second, as many of the state table, and as many of the archive, where reading them takes less than one part in scrubShare of the time
	scrubShare = 50
	scrubLeast = scrubRate / 8 // bytes a second where it takes more, as it does while other work keeps the processors or the disk busy: 100 GB take four and a half days
	scrubChunk = 64 << 10      // bytes between two rests
	scrubTells = 20            // damaged blocks of a pass that are logged one by one
)

// scrub reads what is stored again and again, until ctx ends. What it finds is logged. Damaged blocks the group fetches from other
// nodes, and the base it writes again; until that is done, and where it cannot be, the node is not ready.
func (n *Node) scrub(ctx context.Context) error {
	wait := scrubAfter
	for rest(ctx, wait); ctx.Err() == nil; rest(ctx, wait) {
		began, blocks, damaged, p := time.Now(), 0, 0, newPace()
		var fault error
		wait = scrubEvery
		for at, err := range n.store.Scrub() {
			switch {
			case errors.Is(err, state.ErrDamaged):
				if damaged++; damaged <= scrubTells { // a disk may have lost much
					n.log.Error().Err(err).Msg("the disk does not hold what was written")
				}
			case err != nil:
				if err = n.healBase(err); err != nil {
					n.log.Error().Err(err).Msg("reading what is stored again")
					fault, wait = cmp.Or(fault, err), scrubAfter // one is enough to act on, and it may pass
					n.fault.Store(&fault)
				}
			case !at.Base && !at.State:
				blocks++
			}
			if at.Mended != "" {
				n.log.Warn().Uint64("height", uint64(at.Height)).Msg(at.Mended)
			}
			p.read(ctx, at.Bytes)
			if ctx.Err() != nil {
				return nil
			}
		}
		n.fault.Store(&fault)
		n.log.Info().Int("blocks", blocks).Int("damaged", damaged).Dur("took", time.Since(began)).Bool("fault", fault != nil).Msg("read all blocks again")
	}
	return nil
}

// scrubState reads the state table again and again, until ctx ends, beside scrub: a pass over the blocks of a long chain takes hours, and votes
// depend on the state. The store sets a damaged table aside, which is logged in each pass until the node is opened again (awaitReopen).
func (n *Node) scrubState(ctx context.Context) error {
	wait := scrubAfter
	for rest(ctx, wait); ctx.Err() == nil; rest(ctx, wait) {
		wait = scrubEvery
		p := newPace()
		for at, err := range n.store.ScrubState() {
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				err = fmt.Errorf("the state table cannot be read now: %w", err)
				n.log.Error().Err(err).Msg("reading what is stored again")
				n.stateFault.Store(&err)
				wait = scrubAfter // it may pass
				break
			}
			if at.Mended != "" {
				n.log.Error().Msg(at.Mended)
				if len(n.store.Aside()) == 0 { // the file could not be renamed
					err = errors.New(at.Mended)
					n.stateFault.Store(&err)
					wait = scrubAfter
				}
			}
			p.read(ctx, at.Bytes)
		}
		if wait == scrubEvery {
			n.stateFault.Store(nil)
			n.log.Info().Msg("read the state again")
		}
	}
	return nil
}

// scrubArchive reads the archive of old states again and again, until ctx ends, beside scrub: a pass may take days, which
// the blocks cannot wait for. Damage is logged, and the node is not ready until a pass finds none: a person decides when the archive is made again,
// which takes long. Another error is only logged: the node needs nothing of the archive.
func (n *Node) scrubArchive(ctx context.Context) error {
	wait := scrubAfter
	for rest(ctx, wait); ctx.Err() == nil; rest(ctx, wait) {
		err := n.readArchive(ctx)
		wait = scrubEvery
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			n.archiveFault.Store(nil)
			continue
		case errors.Is(err, state.ErrArchive):
			err = fmt.Errorf("the disk does not hold what was written: %w", err)
			n.archiveFault.Store(&err)
		default:
			wait = scrubAfter // it may pass
		}
		n.log.Error().Err(err).Msg("reading the archive of old states again")
	}
	return nil
}

// readArchive reads the archive once, or until ctx ends.
func (n *Node) readArchive(ctx context.Context) error {
	p := newPace()
	for at, err := range n.store.ScrubArchive() {
		if err != nil || ctx.Err() != nil {
			return err
		}
		p.read(ctx, at.Bytes)
	}
	return nil
}

// healBase writes the base again if it is what an error is about; else, and if that fails, it returns the error.
func (n *Node) healBase(err error) error {
	if _, base := errors.AsType[*state.BaseError](err); !base {
		return fmt.Errorf("what is stored cannot be read and compared now: %w", err)
	}
	err = fmt.Errorf("the disk does not hold what was written: %w", err)
	n.log.Error().Err(err).Msg("the base is written again")
	if failed := n.store.HealBase(); failed != nil {
		return errors.Join(err, failed)
	}
	n.log.Warn().Msg("the base was written again")
	return nil
}

// damage returns how many blocks are damaged, and how many were and are healed.
func (n *Node) damage() (damaged, healed uint64) {
	return uint64(len(n.store.Damaged())), n.store.Healed()
}

// checkDisk says what of the disk is damaged and not yet good again, or what the last pass of scrub could not read.
func (n *Node) checkDisk() error {
	if damaged := n.store.Damaged(); len(damaged) > 0 {
		return fmt.Errorf("blocks that the disk does not hold as they were written: %d, which are being fetched from other nodes; the first: %w", len(damaged), damaged[0])
	}
	if aside := n.store.Aside(); len(aside) > 0 {
		return errors.New(strings.Join(aside, "; "))
	}
	for _, fault := range []*error{n.fault.Load(), n.stateFault.Load(), n.archiveFault.Load()} {
		if fault != nil && *fault != nil {
			return *fault
		}
	}
	return nil
}

// pace spreads what a pass reads over time. Where the processors or the disk are busy a chunk takes longer, and the rest after it too.
type pace struct {
	bytes int // since the last rest
	since time.Time
}

func newPace() *pace { return &pace{since: time.Now()} }

// read notes what was read, and rests after enough of it, or until ctx ends.
func (p *pace) read(ctx context.Context, bytes int) {
	if p.bytes += bytes; p.bytes >= scrubChunk {
		at := func(rate int) time.Duration { return time.Duration(p.bytes) * time.Second / time.Duration(rate) }
		rest(ctx, max(at(scrubRate), min(at(scrubLeast), (scrubShare-1)*time.Since(p.since))))
		*p = pace{since: time.Now()}
	}
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
