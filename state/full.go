package state

import (
	"errors"
	"io/fs"
	"syscall"
)

// Full reports whether an error is that of writes for which the disk or a quota had no room (ENOSPC, EDQUOT), and of nothing else that a disk
// says. Then what was durable before is, and who opens the files again goes on where they end. A sync that failed is never that, even for want of room:
// what the disk has of what it took before is not known.
func Full(err error) bool {
	full, other := wants(err)
	return full && !other
}

// wants walks an error: whether it has a write without room, and whether it has another failure of a disk.
func wants(err error) (full, other bool) {
	switch e := err.(type) { //nolint:errorlint // each error of the tree is looked at
	case *fs.PathError:
		room := errors.Is(e.Err, syscall.ENOSPC) || errors.Is(e.Err, syscall.EDQUOT)
		full = room && (e.Op == "write" || e.Op == "open" || e.Op == "mkdir")
		return full, !full
	case syscall.Errno: // of a sync: writes come with their file
		return false, true
	case interface{ Unwrap() []error }:
		for _, in := range e.Unwrap() {
			f, o := wants(in)
			full, other = full || f, other || o
		}
	case interface{ Unwrap() error }:
		return wants(e.Unwrap())
	}
	return full, other
}
