package node

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// How a node writes its archive of old states.
const (
	archivePause = time.Second      // while there is little to write
	archiveRetry = time.Minute      // after an error
	archiveTells = 30 * time.Second // that it is far behind, or why it does not go on
	archiveFar   = 1000             // blocks
)

// archive writes the archive of old states behind the head, until ctx ends. Far behind, it rests for as long as it works: blocks
// that are being made need the processor.
func (n *Node) archive(ctx context.Context) error {
	var told time.Time
	far := false
	for pause := time.Duration(0); ctx.Err() == nil; rest(ctx, pause) {
		began := time.Now()
		more, err := n.store.Archive(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			pause = archiveRetry
		case more:
			pause = time.Since(began)
		default:
			pause = archivePause
		}
		st, head := n.store.ArchiveStatus(), n.store.Head().Height()
		was := far
		far = !st.Some || head > st.To+archiveFar
		text := ""
		switch {
		case err != nil && time.Since(told) >= archiveRetry:
			text = "the archive of old states does not go on"
		case err == nil && far && time.Since(told) >= archiveTells:
			text = "the archive of old states is being made"
		case err == nil && was && !far:
			text = "the archive of old states has come to the head"
		}
		if text != "" {
			told = time.Now()
			n.log.WithLevel(level(err)).Err(err).Uint64("to", uint64(st.To)).Uint64("height", uint64(head)).Msg(text)
		}
	}
	return nil
}

// level returns the level at which to log what ended with an error, or without one.
func level(err error) zerolog.Level {
	if err != nil {
		return zerolog.ErrorLevel
	}
	return zerolog.InfoLevel
}
