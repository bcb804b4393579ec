package node

import (
	"context"
	"errors"
	"time"
)

// ErrReopen says that a file of tables was found damaged, and is made again from the blocks when it is opened: another New goes on.
var ErrReopen = errors.New("node: what is damaged of the stored state is made again when this node is opened again")

const (
	// reopenEvery is how long a node runs at least after it was opened again for what was damaged: a disk that damages files again and again
	// must not have it do nothing else.
	reopenEvery = time.Hour
	// reopenLook is how often it looks for damage that was found.
	reopenLook = time.Second
)

// awaitReopen returns ErrReopen when a file of tables was set aside, whether a block, a client or the scrubber read it. A group that came to
// the damage has stopped, and one that has not yet may stop at the next block.
func (n *Node) awaitReopen(ctx context.Context) error {
	tick := time.NewTicker(reopenLook)
	defer tick.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		aside := n.store.Aside()
		if len(aside) == 0 {
			continue
		}
		wait := time.Until(n.config.Reopened.Add(reopenEvery))
		if !told {
			told = true
			n.log.Error().Strs("files", aside).Dur("wait", max(wait, 0)).Msg("the disk does not hold what was written: this node opens its data again, which makes it good from the blocks")
		}
		if wait <= 0 {
			return ErrReopen
		}
	}
}
