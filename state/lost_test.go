package state_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/memfs"
)

// losing is a disk whose sync number n, of files with a name that ends so, fails and loses what it was for.
func losing(end string, n int) (disk *memfs.FS, failed *bool) {
	disk, failed = memfs.New(), new(bool)
	disk.SetHook(func(op memfs.Op, name string, _ int) error {
		if op == memfs.OpSync && strings.HasSuffix(name, end) {
			if n--; n == 0 {
				*failed = true
				return memfs.ErrLost
			}
		}
		return nil
	})
	return disk, failed
}

// TestCommitLost fails each sync of a block in turn. The store takes nothing more until it is opened again, and whatever it shows then
// is there after a power failure, although the block that was lost can be read.
func TestCommitLost(t *testing.T) {
	for n := 1; ; n++ {
		disk, failed := losing(".blocks", n)
		o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, SegmentBytes: 2_000}
		s := open(t, "group", o)
		c := newChain(5)
		commit := func() error {
			parent := state.Empty(suite)
			if s.Head() != nil {
				parent = s.Head()
			}
			b, next, model := c.next(t, parent)
			err := s.Commit(b, next)
			if err == nil {
				c.model = model
			}
			return err
		}
		var err error
		for blocks := 0; blocks < 12 && err == nil; blocks++ {
			err = commit()
		}
		if err == nil {
			if *failed || n < 12 {
				t.Fatalf("sync %d failed, and nobody was told", n)
			}
			return
		}
		if !errors.Is(err, memfs.ErrLost) {
			t.Fatal(err)
		}
		if err := commit(); err == nil || !strings.Contains(err.Error(), "must be opened again") {
			t.Fatalf("a block after sync %d, which failed: %v", n, err)
		}
		s.Close()
		s = open(t, "group", o)
		if s.Head() != nil {
			after := o
			after.FS = disk.Image(nil)
			left, err := state.Open("group", suite, &after)
			if err != nil {
				t.Fatalf("after a power failure behind sync %d, which failed: %v", n, err)
			}
			if left.Head() == nil || left.Head().Hash() != s.Head().Hash() {
				t.Fatalf("after sync %d failed there are %d blocks, and after a power failure not all of them", n, s.Head().Height()+1)
			}
			left.Close()
		}
		s.Close()
	}
}

// TestImportLost fails each sync of an import in turn, and imports again: the store is whole after a power failure.
func TestImportLost(t *testing.T) {
	o := state.Options{FS: memfs.New(), Memory: true, Synchronous: true, SegmentBytes: 5_000, Recent: 2, FlushBlocks: 2}
	s := open(t, "source", o)
	c := newChain(7)
	for range 20 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 10)
	for n := 1; ; n++ {
		disk, failed := losing("", n)
		o.FS = disk
		err := all.into("group", &o)
		if !*failed {
			if n < 4 {
				t.Errorf("an import has %d syncs: too few to mean anything: %v", n-1, err)
			}
			return
		}
		if !errors.Is(err, memfs.ErrLost) {
			t.Fatalf("sync %d failed: %v", n, err)
		}
		if err := all.into("group", &o); err != nil {
			t.Fatal(err)
		}
		o.FS = disk.Image(nil)
		left, err := state.Open("group", suite, &o)
		if err != nil {
			t.Fatalf("after a power failure behind an import whose sync %d failed: %v", n, err)
		}
		mustBePruned(t, left, s, 10, c.model)
		left.Close()
	}
}

// TestReplaceLost fails each sync of putting a store in the place of another, tries again, and stops the machine at each step of that:
// it is the one or the other.
func TestReplaceLost(t *testing.T) {
	o := state.Options{FS: memfs.New(), Memory: true, Synchronous: true, SegmentBytes: 1_500, Recent: 2, FlushBlocks: 2}
	s := open(t, "source", o)
	c := newChain(7)
	for range 12 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 5)
	before := memfs.New()
	o.FS = before
	behind, old := open(t, "behind", o), newChain(7)
	for range 6 {
		old.commit(t, behind)
	}
	if err := errors.Join(behind.Close(), all.into(state.Incoming("behind"), &o)); err != nil {
		t.Fatal(err)
	}
	replaced, stopped := 0, 0
	for n := 1; ; n++ {
		for steps := 1; ; steps++ {
			disk, syncs, failed := before.Clone(), 0, false
			disk.SetHook(func(op memfs.Op, _ string, _ int) error {
				if op == memfs.OpSync {
					if syncs++; syncs == n {
						failed = true
						return memfs.ErrLost
					}
				}
				return nil
			})
			o.FS = disk
			replace := func() error {
				err := state.Replace("behind", &o)
				if err == nil {
					var now *state.Store
					if now, err = state.Open("behind", suite, &o); err == nil {
						err = now.Close()
					}
				}
				return err
			}
			err := replace()
			if err == nil && !failed {
				if n < 5 || stopped < 40 || replaced < 10 {
					t.Errorf("%d syncs, %d times stopped, %d times replaced: too few to mean anything", n, stopped, replaced)
				}
				return
			}
			if !errors.Is(err, memfs.ErrLost) {
				t.Fatalf("sync %d failed: %v", n, err)
			}
			disk.CrashAfter(steps)
			now, err := state.Open("behind", suite, &o) // as a node that is started again
			done := err == nil
			if done {
				now.Close()
			} else if !errors.Is(err, memfs.ErrCrashed) {
				t.Fatalf("after sync %d failed: %v", n, err)
			}
			disk.Crash(rand.New(rand.NewPCG(uint64(n), uint64(steps))))
			stopped++
			if now, err = state.Open("behind", suite, &o); err != nil {
				t.Fatalf("after sync %d failed, and the power %d steps later: %v", n, steps, err)
			}
			if now.Head().Height() == s.Head().Height() {
				replaced++
				mustBePruned(t, now, s, 5, c.model)
			} else if mustHold(t, now.Head(), old.model); now.Head().Height() != 5 {
				t.Fatalf("after sync %d failed, and the power %d steps later: height %d", n, steps, now.Head().Height())
			}
			now.Close()
			if done {
				break
			}
		}
	}
}
