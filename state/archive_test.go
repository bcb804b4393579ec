package state_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// past knows the world state after each block.
type past struct {
	*chain
	models []map[string]string
}

func (p *past) commit(t testing.TB, s *state.Store) {
	t.Helper()
	p.chain.commit(t, s)
	p.models = append(p.models, maps.Clone(p.model))
}

// change commits a block without transactions.
func (p *past) change(t testing.TB, s *state.Store, pairs ...string) {
	t.Helper()
	next := grow(t, s.Head(), written(t, pairs...))
	if err := s.Commit(&ledger.Block{Version: ledger.Version, Header: *next.Header()}, next); err != nil {
		t.Fatal(err)
	}
	p.model = maps.Clone(p.model)
	for i := 0; i < len(pairs); i += 2 {
		if p.model[pairs[i]] = pairs[i+1]; pairs[i+1] == "-" {
			delete(p.model, pairs[i])
		}
	}
	p.models = append(p.models, p.model)
}

// asked compares what the archive says of a key at a height with what must be, and verifies the proof as a stranger would.
func (p *past) asked(s *state.Store, h ledger.Height, key []byte) error {
	value, found, proof, err := s.Archived(h, key)
	if err != nil {
		return err
	}
	header, err := s.Header(h)
	if err != nil {
		return err
	}
	want, there := p.models[h][string(key)]
	if found != there || string(value) != want {
		return fmt.Errorf("key %q at height %d is %q, %t; want %q, %t", key, h, value, found, want, there)
	}
	raw, err := ledger.Marshal(&proof)
	if err != nil {
		return err
	}
	var received ledger.StateProof
	if err := ledger.Unmarshal(raw, &received); err != nil {
		return err
	}
	return received.Verify(suite, header.StateRoot, key, []byte(want), there)
}

// check asks for some keys, with values and without, at some of the heights from first to last.
func (p *past) check(t testing.TB, s *state.Store, first, last ledger.Height, times int) {
	t.Helper()
	for range times {
		h := first + ledger.Height(p.rng.IntN(int(last-first)+1))
		key := p.key()
		if all := slices.Sorted(maps.Keys(p.models[h])); p.rng.IntN(2) == 0 && len(all) > 0 {
			key = []byte(all[p.rng.IntN(len(all))])
		}
		if err := p.asked(s, h, key); err != nil {
			t.Fatalf("%v", err)
		}
	}
	h := first + ledger.Height(p.rng.IntN(int(last-first)+1))
	header, err := s.Header(h)
	if err != nil {
		t.Fatal(err)
	}
	if naiveRoot(p.models[h]) != header.StateRoot {
		t.Fatalf("the state root of block %d is not that of the definition", h)
	}
}

// archived brings the archive to the head, which must give it the states from one height to another.
func archived(t testing.TB, s *state.Store, from, to ledger.Height) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Archive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.ArchiveStatus(); !st.Some || st.From != from || st.To != to || st.Problem != nil {
		t.Fatalf("the archive is %+v, want %d to %d", st, from, to)
	}
}

// TestArchive asks for keys at all heights of a chain whose state grows over many buckets, nearly vanishes, and grows again,
// with the archive on, off, on again, removed, and made again.
func TestArchive(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		o.Recent, o.FlushBlocks, o.Archive = 2, 2, true
		s := open(t, dir, o)
		p := &past{chain: newChain(3)}
		p.txs = 20
		for range 40 {
			p.commit(t, s)
		}
		for _, part := range []int{1, 2} { // most keys go, and the inner nodes above them become buckets
			var gone []string
			for _, k := range slices.Sorted(maps.Keys(p.model)) {
				if len(gone)/2 < len(p.model)*part/2-5 {
					gone = append(gone, k, "-")
				}
			}
			p.change(t, s, gone...)
		}
		if len(p.model) == 0 || len(p.model) > 16 {
			t.Fatalf("%d keys are left, want some few", len(p.model))
		}
		for range 10 {
			p.commit(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, o)
		archived(t, s, 0, 51)
		p.check(t, s, 0, 51, 400)
		if _, _, _, err := s.Archived(52, p.key()); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("the state after the next block: %v, want ErrNotFound", err)
		}
		if found := scrub(s); len(found.errs) != 0 {
			t.Errorf("the scrubber finds %v", found.errs)
		}
		s.Close()

		// Off: old states are forgotten. On again: it goes on.
		off := o
		off.Archive = false
		s = open(t, dir, off)
		for range 20 {
			p.commit(t, s)
		}
		if _, _, _, err := s.Archived(3, p.key()); !errors.Is(err, state.ErrPruned) || s.ArchiveStatus().Some {
			t.Errorf("an old state without an archive: %v, want ErrPruned", err)
		}
		s.Close()
		s = open(t, dir, o)
		archived(t, s, 0, 71)
		p.check(t, s, 0, 71, 100)
		s.Close()
		if o.Memory {
			return
		}
		if _, err := verify(t, dir); err != nil {
			t.Errorf("Fsck: %v", err)
		}

		// Removed: it is made again, to the byte.
		before, err := os.ReadFile(filepath.Join(dir, "archive"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "archive")); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, o)
		archived(t, s, 0, 71)
		s.Close()
		after, err := os.ReadFile(filepath.Join(dir, "archive"))
		if err != nil {
			t.Fatal(err)
		}
		if frames := 3 * 64 << 10; !bytes.Equal(before[frames:], after[frames:]) { // how often it was synced differs
			t.Error("the archive that was made again is not the same")
		}
	})
}

// TestArchivedOff asks a store without an archive for an old state: the answer costs no block.
func TestArchivedOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	s := open(t, dir, state.Options{Recent: 2, FlushBlocks: 1, Synchronous: true})
	p := &past{chain: newChain(14)}
	for range 10 {
		p.commit(t, s)
	}
	names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%q, %v; want one segment", names, err)
	}
	if err := os.Truncate(names[0], 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(3); !errors.Is(err, state.ErrDamaged) {
		t.Fatalf("the header of a block that is gone: %v", err)
	}
	if _, _, _, err := s.Archived(3, p.key()); !errors.Is(err, state.ErrPruned) {
		t.Errorf("an old state: %v, want ErrPruned", err)
	}
	if _, _, _, err := s.Archived(10, p.key()); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the state after the next block: %v, want ErrNotFound", err)
	}
}

// TestArchiveBackground lets blocks and the archive be written side by side.
func TestArchiveBackground(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	o := state.Options{Recent: 8, FlushBlocks: 4, Archive: true}
	s := open(t, dir, o)
	p := &past{chain: newChain(4)}
	p.commit(t, s)
	ctx, stop := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Archive(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			runtime.Gosched()
		}
	})
	for range 60 {
		p.commit(t, s)
		if st := s.ArchiveStatus(); st.Some {
			p.check(t, s, st.From, st.To, 1)
		}
	}
	stop()
	ended.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, o)
	archived(t, s, 0, 60)
	p.check(t, s, 0, 60, 50)
}

// TestArchiveLarge has blocks of which few are in memory: the archive has the others.
func TestArchiveLarge(t *testing.T) {
	s := open(t, "group", state.Options{FS: memfs.New(), Memory: true, FlushBytes: 5000, Archive: true})
	p := &past{chain: newChain(14)}
	for range 25 { // fewer than the archive may be behind where all are in memory
		p.commit(t, s)
	}
	follow := func() {
		for more := true; more; {
			var err error
			if more, err = s.Archive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for s.Oldest() == 0 {
		runtime.Gosched()
	}
	for h := ledger.Height(0); h < s.Oldest(); h++ {
		follow()
		if err := p.asked(s, h, p.key()); err != nil {
			t.Errorf("height %d: %v", h, err)
		}
	}
}

// More crash points than the usual ones: go test -run TestArchivePowerCuts -archivecuts 20 ./state
var archiveCuts = flag.Int("archivecuts", 1, "how many histories TestArchivePowerCuts stops at every write")

// TestArchivePowerCuts stops the machine at each operation on the disk in turn, opens the folder again, and goes on.
func TestArchivePowerCuts(t *testing.T) {
	for seed := range uint64(*archiveCuts) {
		for stop := 1; ; stop++ {
			done, err := archiveCut(t, seed, stop, nil)
			if err != nil {
				t.Fatalf("history %d, stopped at operation %d: %v", seed, stop, err)
			}
			if done {
				if stop < 60 {
					t.Errorf("history %d has %d operations: too few to mean anything", seed, stop)
				}
				break
			}
		}
	}
	t.Run("finds a missing sync", func(t *testing.T) {
		lies := func(op memfs.Op, name string, _ int) error {
			if op == memfs.OpSync && strings.HasSuffix(name, "archive") {
				return memfs.ErrIgnore
			}
			return nil
		}
		for stop := 1; ; stop++ {
			done, err := archiveCut(t, 0, stop, lies)
			if err != nil {
				t.Logf("stopped at operation %d: %v", stop, err)
				return
			}
			if done {
				t.Fatal("nothing was noticed")
			}
		}
	})
}

// archiveCut commits blocks until the machine stops, and afterwards some more. It is done when it did not stop any more.
func archiveCut(t *testing.T, seed uint64, stop int, hook memfs.Hook) (done bool, err error) {
	rng := rand.New(rand.NewPCG(seed, uint64(stop)))
	disk := memfs.New()
	disk.SetHook(hook)
	o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, Archive: true}
	p := &past{chain: newChain(seed)}
	p.keys = 60
	disk.CrashAfter(stop)
	const blocks = 14
	shown := ledger.Height(0)
	run := func() error {
		s, err := state.Open("group", suite, &o)
		if err == nil {
			defer s.Close()
			for err == nil {
				if st := s.ArchiveStatus(); st.Some {
					shown = max(shown, st.To)
				}
				parent := s.Head()
				if parent == nil {
					parent = state.Empty(suite)
				} else if parent.Height() >= blocks {
					return nil
				}
				b, next, model := p.next(t, parent)
				p.models = append(p.models[:b.Header.Order.Height], model)
				if err = s.Commit(b, next); err == nil || disk.Ops() >= stop {
					p.model = model
				}
			}
		}
		if errors.Is(err, memfs.ErrCrashed) {
			return nil
		}
		return err
	}
	if err := run(); err != nil {
		return false, err
	}
	done = disk.Ops() < stop
	disk.Crash(rng)
	if rng.IntN(2) == 0 { // a second time while it is being repaired
		disk.CrashAfter(1 + rng.IntN(6))
		s, err := state.Open("group", suite, &o)
		if err == nil {
			s.Close()
		} else if !errors.Is(err, memfs.ErrCrashed) {
			return false, err
		}
		disk.Crash(rng)
	}
	s, err := state.Open("group", suite, &o)
	if err != nil {
		return false, err
	}
	defer s.Close()
	st := s.ArchiveStatus()
	if st.Problem != nil || s.Head() != nil && (!st.Some || st.From != 0 || st.To != s.Head().Height()) {
		return false, fmt.Errorf("the archive is %+v", st)
	}
	if st.Some && st.To < shown {
		return false, fmt.Errorf("the archive had block %d and ends at %d", shown, st.To)
	}
	if st.Some {
		for h := range st.To + 1 {
			for range 3 {
				if err := p.asked(s, h, p.key()); err != nil {
					return false, err
				}
			}
		}
		p.model = p.models[st.To]
	}
	if s.Head() != nil {
		p.models = p.models[:st.To+1]
		for range 4 {
			p.commit(t, s)
		}
		head := s.Head().Height()
		for range 20 {
			if err := p.asked(s, ledger.Height(rng.IntN(int(head)+1)), p.key()); err != nil && !errors.Is(err, state.ErrPruned) {
				return false, err
			}
		}
		if found := scrub(s); len(found.errs) > 0 {
			return false, found.errs[0]
		}
	}
	return done, nil
}

// TestArchiveBegins stops the machine at each operation while the first blocks make an archive, and looks at many disks that may be
// left: each has no archive, one that is begun anew, or one that is sound.
func TestArchiveBegins(t *testing.T) {
	begun, done := 0, false
	for stop := 1; !done; stop++ {
		for seed := range uint64(8) {
			rng := rand.New(rand.NewPCG(seed, uint64(stop)))
			disk := memfs.New()
			o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 1, FlushBlocks: 1, Archive: true}
			p := &past{chain: newChain(seed)}
			disk.CrashAfter(stop)
			s, err := state.Open("group", suite, &o)
			for err == nil && len(p.models) < 3 {
				parent := state.Empty(suite)
				if s.Head() != nil {
					parent = s.Head()
				}
				b, next, model := p.next(t, parent)
				p.models = append(p.models, model)
				if err = s.Commit(b, next); err == nil {
					p.model = model
				}
			}
			if err != nil && !errors.Is(err, memfs.ErrCrashed) {
				t.Fatal(err)
			}
			if s != nil {
				s.Close()
			}
			done = disk.Ops() < stop
			disk.Crash(rng)
			if f, err := disk.Open("group/archive", false); err == nil {
				if size, err := f.Size(); err == nil && size <= 3*64<<10 {
					begun++
				}
			}
			for _, err := range state.Fsck("group", suite, &o) {
				if errors.Is(err, state.ErrArchive) {
					t.Fatalf("stopped at operation %d, disk %d: %v", stop, seed, err)
				}
			}
			s, err = state.Open("group", suite, &o)
			if err != nil {
				t.Fatal(err)
			}
			st := s.ArchiveStatus()
			if s.Head() != nil && (st.Problem != nil || !st.Some || st.From != 0 || st.To != s.Head().Height()) {
				t.Fatalf("stopped at operation %d, disk %d: the archive is %+v", stop, seed, st)
			}
			if st.Some {
				p.check(t, s, 0, st.To, 2)
			}
			s.Close()
		}
	}
	if begun < 20 {
		t.Errorf("%d archives without a frame were left: too few to mean anything", begun)
	}
}

// TestArchiveSlots writes over what a disk may write at once, around either slot: the other one is enough. Without both the file is
// damaged, and says so; so is one that was cut.
func TestArchiveSlots(t *testing.T) {
	const unit = 64 << 10
	disk := memfs.New()
	o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, Archive: true}
	s := open(t, "group", o)
	p := &past{chain: newChain(17)}
	for range 9 {
		p.commit(t, s)
	}
	s.Close()
	opened := func(change func(f state.File) error) (*state.Store, state.ArchiveStatus) {
		left := o
		left.FS = disk.Clone()
		f, err := left.FS.Open("group/archive", false)
		if err == nil {
			err = change(f)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, "group", left)
		return s, s.ArchiveStatus()
	}
	garbage := bytes.Repeat([]byte{0xa5}, unit)
	for slot := int64(1); slot <= 2; slot++ {
		s, st := opened(func(f state.File) error {
			_, err := f.WriteAt(garbage, slot*unit)
			return err
		})
		if st.Problem != nil || st.From != 0 || st.To != 8 {
			t.Errorf("without slot %d the archive is %+v", slot, st)
			continue
		}
		p.check(t, s, 0, 8, 20)
	}
	for what, change := range map[string]func(f state.File) error{
		"without both slots": func(f state.File) error {
			_, err := f.WriteAt(append(garbage, garbage...), unit)
			return err
		},
		"cut behind the slots":   func(f state.File) error { return f.Truncate(3 * unit) },
		"cut between both slots": func(f state.File) error { return f.Truncate(2 * unit) },
	} {
		if _, st := opened(change); !errors.Is(st.Problem, state.ErrArchive) {
			t.Errorf("%s the archive is %+v, want ErrArchive", what, st)
		}
	}
}

// TestArchiveFull has a disk that takes nothing for the archive for a while, which blocks do not care about.
func TestArchiveFull(t *testing.T) {
	disk := memfs.New()
	s := open(t, "group", state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, Archive: true})
	p := &past{chain: newChain(12)}
	for h := range 30 {
		disk.SetHook(func(op memfs.Op, name string, _ int) error {
			if h%10 >= 5 && (op == memfs.OpWrite || op == memfs.OpSync && h%2 == 0) && strings.HasSuffix(name, "archive") {
				return memfs.ErrFull
			}
			return nil
		})
		p.commit(t, s)
		st := s.ArchiveStatus()
		if full := h%10 >= 5; full != errors.Is(st.Problem, memfs.ErrFull) || !full && st.To != ledger.Height(h) {
			t.Fatalf("after block %d the archive is %+v", h, st)
		}
		p.check(t, s, 0, st.To, 5)
	}
}

// TestArchiveLost has a disk that fails syncs of the archive now and then, and loses what they were for. Whatever the archive has
// shown by then, it has after a power failure at any time, whether the node was started again meanwhile or not.
func TestArchiveLost(t *testing.T) {
	const blocks = 40
	failures, shown := 0, 0
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 16))
		disk := memfs.New()
		o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, Archive: true}
		p := &past{chain: newChain(seed)}
		p.keys = 60
		disk.SetHook(func(op memfs.Op, name string, _ int) error {
			if op == memfs.OpSync && strings.HasSuffix(name, "archive") && rng.IntN(3) == 0 {
				failures++
				return memfs.ErrLost
			}
			return nil
		})
		s := open(t, "group", o)
		for h := range ledger.Height(blocks) {
			p.commit(t, s)
			had := s.ArchiveStatus()
			for i := range 3 {
				image := disk.Image(nil)
				if i > 0 {
					image = disk.Image(rng)
				}
				left := o
				left.FS = image
				after, err := state.Open("group", suite, &left)
				if err != nil {
					t.Fatal(err)
				}
				st := after.ArchiveStatus()
				if st.Problem != nil || had.Some && (!st.Some || st.To < had.To) {
					t.Fatalf("history %d: when the power fails after block %d the archive is %+v, and was %+v", seed, h, st, had)
				}
				if had.Some {
					shown++
					p.check(t, after, 0, had.To, 2)
				}
				after.Close()
			}
			if rng.IntN(5) == 0 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, "group", o)
			}
		}
		s.Close()
	}
	if failures < 30 || shown < 150 {
		t.Errorf("%d syncs failed and %d archives were looked at: too few to mean anything", failures, shown)
	}
}

// TestArchiveRoom has a disk that fills: the archive leaves the rest to the blocks, and goes on when there is room again, with blocks
// and with a base.
func TestArchiveRoom(t *testing.T) {
	const spare = 1 << 30
	free := int64(spare)
	o := state.Options{FS: memfs.New(), Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, Archive: true}
	o.Room = func() (int64, bool) { return free, free >= 0 }
	s := open(t, "group", o)
	p := &past{chain: newChain(15)}
	commit := func(room int64, full bool) {
		t.Helper()
		free = room
		p.commit(t, s)
		st := s.ArchiveStatus()
		if full != (st.Problem != nil && strings.Contains(st.Problem.Error(), "too little room")) || !full && (st.Problem != nil || st.To != s.Head().Height()) {
			t.Fatalf("with room for %d bytes the archive is %+v", room, st)
		}
	}
	for range 3 {
		commit(spare+8<<20, false)
		commit(spare+1000, true)
		commit(0, true)
		commit(-1, false) // nobody knows
	}
	p.check(t, s, 0, s.ArchiveStatus().To, 20)
	s.Close()
	if err := o.FS.Remove("group/archive"); err != nil {
		t.Fatal(err)
	}
	off := o
	off.Archive = false
	s = open(t, "group", off)
	if err := s.Prune(11); err != nil {
		t.Fatal(err)
	}
	s.Close()
	free = spare + 1000
	s = open(t, "group", o)
	commit(spare+1000, true)
	if s.ArchiveStatus().Some {
		t.Error("the base was written where there was no room")
	}
	commit(spare+8<<20, false)
	p.check(t, s, 11, s.ArchiveStatus().To, 20)
}

// reads counts what is read of the archive.
type reads struct {
	*memfs.FS
	n *int
}

func (r reads) Open(name string, create bool) (state.File, error) {
	f, err := r.FS.Open(name, create)
	if err == nil && filepath.Base(name) == "archive" {
		return countedFile{f, r.n}, nil
	}
	return f, err
}

type countedFile struct {
	state.File
	n *int
}

func (f countedFile) ReadAt(p []byte, at int64) (int, error) {
	*f.n++
	return f.File.ReadAt(p, at)
}

// TestArchiveSteps finds any of many heights in few steps.
func TestArchiveSteps(t *testing.T) {
	n := 0
	s := open(t, "group", state.Options{FS: reads{memfs.New(), &n}, Memory: true, Synchronous: true, Recent: 2, FlushBlocks: 1, Archive: true})
	p := &past{chain: newChain(13)}
	p.txs, p.keys = 1, 20
	const blocks = 1000
	for range blocks {
		p.commit(t, s)
	}
	most := 0
	for h := range s.ArchiveStatus().To + 1 {
		n = 0
		if err := p.asked(s, h, p.key()); err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	// Some 2 reads for each of 3 log₂ 1000 steps, and of a tree of some 40 keys 3 levels and at most 16 leaves.
	if most > 100 {
		t.Errorf("%d reads for one answer of %d blocks", most, blocks)
	}
}

// TestArchiveFlips changes bits of the archive. No answer is ever another one; the scrubber and Fsck find what means
// something.
func TestArchiveFlips(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	o := state.Options{Recent: 2, FlushBlocks: 1, Synchronous: true, Archive: true}
	s := open(t, dir, o)
	p := &past{chain: newChain(8)}
	p.keys = 100
	for range 12 {
		p.commit(t, s)
	}
	s.Close()
	file := filepath.Join(dir, "archive")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const frames = 3 * 64 << 10
	found, wrong := 0, 0
	rng := rand.New(rand.NewPCG(8, 8))
	flips := []int{0, 5, frames, frames + 3, frames + 10, len(original) - 1}
	for range 24 {
		flips = append(flips, frames+rng.IntN(len(original)-frames))
	}
	for _, at := range flips {
		data := bytes.Clone(original)
		data[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		blocks := 0
		for a, err := range state.Fsck(dir, suite, &state.Options{Memory: true}) {
			if as := new(state.ArchiveError); a.Block == nil && errors.As(err, &as) {
				blocks |= 1 << 20
			} else if err != nil {
				t.Errorf("byte %d: Fsck says of the blocks %v", at, err)
			} else {
				blocks++
			}
		}
		if blocks != 12|1<<20 {
			t.Errorf("byte %d: Fsck finds nothing wrong with the archive, or with some of %d blocks", at, blocks&(1<<20-1))
		}
		s := open(t, dir, o)
		bad := s.ArchiveStatus().Problem
		for _, err := range scrub(s).errs {
			bad = err
		}
		if bad == nil {
			t.Errorf("byte %d: the scrubber finds nothing", at)
		} else if as := new(state.ArchiveError); !errors.As(bad, &as) {
			t.Errorf("byte %d: the scrubber finds %v", at, bad)
		}
		for range 30 {
			err := p.asked(s, ledger.Height(p.rng.IntN(12)), p.key())
			if as := new(state.ArchiveError); errors.As(err, &as) {
				found++
			} else if err != nil && !errors.Is(err, state.ErrPruned) {
				t.Fatalf("byte %d: %v", at, err)
			} else {
				wrong++
			}
		}
		s.Close()
	}
	if found < 20 || wrong < 20 {
		t.Errorf("%d answers were refused and %d given: too few to mean anything", found, wrong)
	}

	// Removed, as the error says, it is made again.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, o)
	archived(t, s, 0, 11)
	p.check(t, s, 0, 11, 20)
}

// TestArchivePrune prunes a store with an archive, which keeps the old states, and one whose archive is behind, which is
// refused. An archive that is begun after pruning begins with the base.
func TestArchivePrune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	o := state.Options{Recent: 2, FlushBlocks: 1, Synchronous: true, Archive: true}
	s := open(t, dir, o)
	p := &past{chain: newChain(6)}
	for range 30 {
		p.commit(t, s)
	}
	if err := s.Prune(20); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		p.commit(t, s)
	}
	s.Close()
	s = open(t, dir, o)
	archived(t, s, 0, 34)
	p.check(t, s, 0, 34, 100)
	s.Close()
	if _, err := verify(t, dir); err != nil {
		t.Errorf("Fsck: %v", err)
	}

	// Behind: what it lacks would be gone.
	off := o
	off.Archive = false
	s = open(t, dir, off)
	for range 10 {
		p.commit(t, s)
	}
	if err := s.Prune(40); err == nil || !strings.Contains(err.Error(), "has the states up to block 34") {
		t.Errorf("Prune of what the archive lacks: %v", err)
	}
	if err := s.Prune(35); err != nil {
		t.Errorf("Prune of what the archive has: %v", err)
	}
	s.Close()
	s = open(t, dir, o)
	archived(t, s, 0, 44)
	p.check(t, s, 0, 44, 50)
	s.Close()

	// Begun, and without a state: it lacks all. Without the file nobody wants them.
	file, away := filepath.Join(dir, "archive"), filepath.Join(dir, "away")
	if err := os.Rename(file, away); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, off)
	if err := s.Prune(36); err == nil || !strings.Contains(err.Error(), "has no state yet") {
		t.Errorf("Prune of what an archive without a state lacks: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(36); err != nil {
		t.Errorf("Prune without an archive: %v", err)
	}
	s.Close()

	// From the base on, where there is nothing older; with a gap, where the archive was not there while blocks were pruned.
	s = open(t, dir, o)
	archived(t, s, 44, 44)
	for range 10 {
		p.commit(t, s)
	}
	p.check(t, s, 44, s.ArchiveStatus().To, 20)
	if _, _, _, err := s.Archived(43, p.key()); !errors.Is(err, state.ErrPruned) {
		t.Errorf("below the archive: %v", err)
	}
	if err := s.Prune(54); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.Rename(away, file); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, o)
	archived(t, s, 0, 54)
	for range 4 {
		p.commit(t, s)
	}
	for h := range s.ArchiveStatus().To + 1 {
		if err := p.asked(s, h, p.key()); (h > 44 && h < 54) != errors.Is(err, state.ErrPruned) || err != nil && !errors.Is(err, state.ErrPruned) {
			t.Errorf("height %d: %v", h, err)
		}
	}
	s.Close()
	if _, err := verify(t, dir); err != nil {
		t.Errorf("Fsck: %v", err)
	}
}
