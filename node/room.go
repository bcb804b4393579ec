package node

import (
	"context"
	"errors"
	"time"

	"github.com/fondaco/fondaco/node/backup"
)

// ErrRoom says that a node that stopped because its disk was full has room again: another New goes on.
var ErrRoom = errors.New("node: the disk has room again, with which this node begins when it is opened again")

const (
	// roomBytes is how much can be written before a node that stopped for want of room goes on: some seconds of work under load, so that it
	// does not stop again at once where somebody else takes the room.
	roomBytes = 32 << 20
	// roomEvery is how often that is looked for, and roomTold how often the log says that there is none.
	roomEvery = 5 * time.Second
	roomTold  = 10 * time.Minute
)

// awaitRoom returns ErrRoom when the group stopped because the disk was full and it has room again. Until then what is stored can
// be read.
func (n *Node) awaitRoom(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.full:
	}
	n.log.Warn().Str("dir", n.groupDir()).Int64("bytes", roomBytes).Msg("this node goes on by itself when its disk has room")
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := backup.Room(n.groupDir(), roomBytes)
		if err == nil {
			n.log.Info().Msg("the disk has room again: this node starts again")
			return ErrRoom
		}
		if time.Since(told) >= roomTold {
			told = time.Now()
			n.log.Error().Err(err).Msg("this node takes no part in consensus until its disk has room")
		}
	}
}
