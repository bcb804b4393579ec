package state_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/memfs"
)

// TestFull tells a disk that has no room from one that cannot be relied on.
func TestFull(t *testing.T) {
	write := &fs.PathError{Op: "write", Path: "blocks/1", Err: syscall.ENOSPC}
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"a write", write, true},
		{"a write beyond a quota", &fs.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}, true},
		{"a write, wrapped and with what was meant", fmt.Errorf("group: %w: %w", io.ErrClosedPipe, fmt.Errorf("commit: %w", write)), true},
		{"a file that cannot be made", &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOSPC}, true},
		{"a write that a sector refused", &fs.PathError{Op: "write", Path: "x", Err: syscall.EIO}, false},
		{"a sync", &fs.PathError{Op: "sync", Path: "x", Err: syscall.ENOSPC}, false},
		{"a sync of data", fmt.Errorf("sync block 7: %w", syscall.ENOSPC), false},
		{"a write and then a sync", errors.Join(write, &fs.PathError{Op: "sync", Path: "x", Err: syscall.EIO}), false},
		{"a write and then a sync of data", errors.Join(write, os.NewSyscallError("fdatasync", syscall.ENOSPC)), false},
		{"something else", memfs.ErrCrashed, false},
	} {
		if got := state.Full(tt.err); got != tt.want {
			t.Errorf("%s: Full(%v) = %t, want %t", tt.name, tt.err, got, tt.want)
		}
	}
}

// TestFullDisk commits to a disk that is full, and to one that fails to sync for want of room. Of the first all that was committed is there, and the
// store goes on when it is opened again.
func TestFullDisk(t *testing.T) {
	disk := memfs.New()
	o := state.Options{FS: disk, Memory: true, Synchronous: true}
	s, c := open(t, "group", o), newChain(3)
	for range 5 {
		c.commit(t, s)
	}
	try := func() error {
		b, next, _ := c.next(t, s.Head())
		return s.Commit(b, next)
	}
	disk.SetLimit(disk.Used() + 10)
	if err := try(); !state.Full(err) {
		t.Errorf("without room: %v, want an error that Full holds for", err)
	}
	if err := try(); !state.Full(err) {
		t.Errorf("once more: %v", err)
	}
	disk.SetLimit(0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, "group", o)
	mustHold(t, s.Head(), c.model)
	c.commit(t, s)
	disk.SetHook(func(op memfs.Op, _ string, _ int) error {
		if op == memfs.OpSync {
			return fmt.Errorf("%w: %w", memfs.ErrLost, syscall.ENOSPC)
		}
		return nil
	})
	if err := try(); err == nil || state.Full(err) {
		t.Errorf("a sync without room: %v, want an error that Full does not hold for", err)
	}
}
