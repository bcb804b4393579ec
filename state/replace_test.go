package state_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

func TestReplace(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		o.SegmentBytes = 5_000
		s := open(t, dir+"/source", o)
		c := newChain(6)
		for range 40 {
			c.commit(t, s)
		}
		all := copyOf(t, s, 30)
		to := dir + "/behind"
		behind, old := open(t, to, o), newChain(6) // the first blocks of the same chain
		for range 12 {
			old.commit(t, behind)
		}
		if err := state.Replace(to, &o); !errors.Is(err, state.ErrImport) {
			t.Errorf("with nothing: %v, want ErrImport", err)
		}
		some := all
		some.blocks = some.blocks[:20]
		if err := some.into(state.Incoming(to), &o); err == nil {
			t.Fatal("an import without the last blocks ended")
		}
		if err := state.Replace(to, &o); !errors.Is(err, state.ErrImport) {
			t.Errorf("with an import that has not ended: %v, want ErrImport", err)
		}
		if err := all.into(state.Incoming(to), &o); err != nil {
			t.Fatal(err)
		}
		if err := state.Replace(to, &o); err != nil {
			t.Fatal(err)
		}
		old.commit(t, behind) // it goes on as long as it is open
		if err := behind.Close(); err != nil {
			t.Fatal(err)
		}
		for _, err := range state.Fsck(to, suite, &o) {
			if !errors.Is(err, state.ErrReplace) {
				t.Errorf("Fsck: %v, want ErrReplace", err)
			}
		}
		replaced := open(t, to, o)
		mustBePruned(t, replaced, s, 30, c.model)
		c.commit(t, replaced)
		if err := replaced.Close(); err != nil {
			t.Fatal(err)
		}
		replaced = open(t, to, o)
		mustHold(t, replaced.Head(), c.model)
		if err := replaced.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestReplaceCuts stops the machine at each step of putting a store in the place of another: it is the one or the other.
func TestReplaceCuts(t *testing.T) {
	for _, kept := range []ledger.Height{0, 1, 5} {
		o := state.Options{FS: memfs.New(), Memory: true, Synchronous: true, SegmentBytes: 1_500, Recent: 2, FlushBlocks: 2}
		s := open(t, "source", o)
		c := newChain(7)
		for range 12 {
			c.commit(t, s)
		}
		all := copyOf(t, s, kept)
		for n, through := 1, false; !through; n++ {
			disk, rng := memfs.New(), rand.New(rand.NewPCG(uint64(n), 1))
			o.FS = disk
			behind, old := open(t, "behind", o), newChain(7)
			for range 6 {
				old.commit(t, behind)
			}
			if err := errors.Join(behind.Close(), all.into(state.Incoming("behind"), &o)); err != nil {
				t.Fatal(err)
			}
			disk.CrashAfter(n)
			err := state.Replace("behind", &o)
			announced := err == nil
			if announced {
				var now *state.Store
				if now, err = state.Open("behind", suite, &o); err == nil {
					err = now.Close()
				}
				through = err == nil
			}
			if err != nil && !errors.Is(err, memfs.ErrCrashed) {
				t.Fatalf("stopped at step %d: %v", n, err)
			}
			for range 3 { // and while it is made good
				crash(disk, rng)
				disk.CrashAfter(1 + rng.IntN(12))
				if now, err := state.Open("behind", suite, &o); err == nil {
					now.Close()
				}
			}
			crash(disk, rng)
			now := open(t, "behind", o)
			if announced || now.Head().Height() == s.Head().Height() {
				mustBePruned(t, now, s, kept, c.model)
			} else if mustHold(t, now.Head(), old.model); now.Head().Height() != 5 {
				t.Fatalf("stopped at step %d: height %d", n, now.Head().Height())
			}
			if err := now.Close(); err != nil {
				t.Fatal(err)
			}
			if n > 200 {
				t.Fatal("it never ends")
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplaceGone takes what was fetched away before it is in its place: nothing is removed for it, and nothing is opened that
// has lost its blocks.
func TestReplaceGone(t *testing.T) {
	o := state.Options{FS: memfs.New(), Memory: true, Synchronous: true, SegmentBytes: 1_500, Recent: 2, FlushBlocks: 2}
	s := open(t, "source", o)
	defer s.Close()
	c := newChain(6)
	for range 12 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 5)
	incoming := func(disk *memfs.FS) (names []string) {
		for _, name := range disk.Names() {
			if strings.HasPrefix(name, "behind/incoming/") && !strings.HasSuffix(name, "/lock") {
				names = append(names, name)
			}
		}
		return names
	}
	refused, moving := 0, 0
	for n := 1; ; n++ {
		disk := memfs.New()
		o.FS = disk
		behind, old := open(t, "behind", o), newChain(6)
		for range 6 {
			old.commit(t, behind)
		}
		if err := errors.Join(behind.Close(), all.into(state.Incoming("behind"), &o), state.Replace("behind", &o)); err != nil {
			t.Fatal(err)
		}
		disk.CrashAfter(n)
		now, err := state.Open("behind", suite, &o)
		if err == nil {
			if left := incoming(disk); len(left) > 0 {
				t.Errorf("when all is in place %q are left", left)
			}
			if err := now.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		disk.Crash(nil)
		names := incoming(disk)
		if len(names) == 0 {
			continue
		}
		if err := disk.Remove(names[n%len(names)]); err != nil {
			t.Fatal(err)
		}
		now, err = state.Open("behind", suite, &o)
		if err == nil { // all was copied before
			if mustBePruned(t, now, s, 5, c.model); now.Close() != nil {
				t.Fatal("not closed")
			}
			continue
		}
		if !errors.Is(err, state.ErrIncoming) {
			t.Fatalf("stopped at step %d, and %s removed: %v", n, names[n%len(names)], err)
		}
		refused++
		if slices.Contains(disk.Names(), "behind/replace.moving") {
			moving++
			continue
		}
		if err := disk.Remove("behind/replace"); err != nil { // as the error says
			t.Fatal(err)
		}
		if now, err = state.Open("behind", suite, &o); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			mustHold(t, now.Head(), old.model)
		}
		if err := now.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused == moving || moving == 0 {
		t.Errorf("%d starts were refused, %d of them while files were copied", refused, moving)
	}
}

// TestThere goes on with an import by what is there of it.
func TestThere(t *testing.T) {
	disk := memfs.New()
	o := state.Options{FS: disk, Memory: true, Synchronous: true, SegmentBytes: 2_000, Recent: 3, FlushBlocks: 2}
	s := open(t, "source", o)
	defer s.Close()
	c := newChain(8)
	for range 30 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 10)
	first := all
	first.blocks, first.chunks = first.blocks[:20], nil
	if err := first.into("copy", &o); err == nil {
		t.Fatal("an import of a part ended")
	}
	resume := func(kept ledger.Height) (there int) {
		t.Helper()
		i, err := state.Import("copy", suite, &all.header, kept, &o)
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		for ; ; there++ {
			payload, err := i.There()
			if err != nil {
				t.Fatal(err)
			}
			if again, err := i.There(); err != nil || string(again) != string(payload) {
				t.Fatalf("block %d is another one when it is asked for again: %v", there, err)
			}
			if payload == nil {
				return there
			}
			if _, err := i.Block(payload, nil); errors.Is(err, state.ErrFault) {
				return there
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	// What was not written when the machine stopped is missing, and what is to be there otherwise does not count.
	if n := resume(10); n > 20 {
		t.Errorf("%d blocks are there, of 20", n)
	}
	if n := resume(15); n > 10 {
		t.Errorf("%d blocks are there, and those from 10 on should be pruned", n)
	}
	i, err := state.Import("copy", suite, &all.header, 15, &o)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	other := copyOf(t, s, 15)
	for h := 0; h < len(other.blocks); {
		payload, err := i.There()
		if err != nil {
			t.Fatal(err)
		}
		if payload == nil {
			payload = other.blocks[h]
		}
		if h%7 == 3 { // the caller has a word in it
			if _, err := i.Block(payload, func(*ledger.Block) error { return refused }); !errors.Is(err, refused) && !errors.Is(err, state.ErrFault) {
				t.Fatalf("block %d: %v", h, err)
			}
			payload = other.blocks[h]
		}
		if _, err := i.Block(payload, nil); errors.Is(err, state.ErrFault) {
			_, err = i.Block(other.blocks[h], nil)
			if err != nil {
				t.Fatal(err)
			}
		}
		h++
	}
	for _, chunk := range other.chunks {
		if err := i.Chunk(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Finish(); err != nil {
		t.Fatal(err)
	}
	copied := open(t, "copy", o)
	defer copied.Close()
	mustBePruned(t, copied, s, 15, c.model)
}

func TestPinAt(t *testing.T) {
	s := open(t, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true, Recent: 8, FlushBlocks: 4})
	defer s.Close()
	c := newChain(9)
	models := map[ledger.Height]map[string]string{}
	for range 30 {
		b := c.commit(t, s)
		models[b.Header.Order.Height] = c.model
	}
	oldest, head := s.Oldest(), s.Head().Height()
	for _, tt := range []struct {
		at   ledger.Height
		want error
	}{{oldest - 1, state.ErrPruned}, {head + 1, state.ErrNotFound}} {
		if _, err := s.PinAt(tt.at); !errors.Is(err, tt.want) {
			t.Errorf("PinAt(%d) = %v, want %v", tt.at, err, tt.want)
		}
	}
	for _, at := range []ledger.Height{oldest, oldest + 3, head} {
		p, err := s.PinAt(at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.PinAt(at); !errors.Is(err, state.ErrPinned) {
			t.Errorf("PinAt(%d) again: %v, want ErrPinned", at, err)
		}
		world, chunks := chunked(t, p, func() { c.commit(t, s) })
		if want := models[at]; len(world) != len(want) || chunks[0].Verify(suite, p.Header().StateRoot) != nil {
			t.Errorf("PinAt(%d) has %d keys, want %d", at, len(world), len(want))
		}
		for key, value := range models[at] {
			if world[key] != value {
				t.Fatalf("PinAt(%d): key %x is %x, want %x", at, key, world[key], value)
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s.Head(), c.model)
	}
}

// TestImportBesideReplace restores a node from a backup when what it fetched before had not taken its place yet: the machine stopped
// at any step of that, and a person moved the store's files away. It is refused as long as a mark says that the place is
// taken, and is not undone, by what was fetched, when the marks are gone.
func TestImportBesideReplace(t *testing.T) {
	o := state.Options{FS: memfs.New(), Memory: true, Synchronous: true, SegmentBytes: 1_500, Recent: 2, FlushBlocks: 2}
	s := open(t, "source", o)
	c := newChain(6)
	for range 12 {
		c.commit(t, s)
	}
	fetched, model := copyOf(t, s, 5), c.model
	for range 30 {
		c.commit(t, s)
	}
	late := o
	late.SegmentBytes = 2_300 // with other bounds of the segments
	backup := copyOf(t, s, 5)
	refused := map[string]int{}
	for n := 1; ; n++ {
		disk, rng := memfs.New(), rand.New(rand.NewPCG(uint64(n), 2))
		o.FS, late.FS = disk, disk
		behind, old := open(t, "behind", o), newChain(6)
		for range 6 {
			old.commit(t, behind)
		}
		if err := errors.Join(behind.Close(), fetched.into(state.Incoming("behind"), &o)); err != nil {
			t.Fatal(err)
		}
		disk.CrashAfter(n)
		err := state.Replace("behind", &o)
		if err == nil {
			var now *state.Store
			if now, err = state.Open("behind", suite, &o); err == nil {
				if err := now.Close(); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		if !errors.Is(err, memfs.ErrCrashed) {
			t.Fatalf("stopped at step %d: %v", n, err)
		}
		crash(disk, rng)
		remove := func(prefixes ...string) {
			for _, name := range disk.Names() {
				if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, "behind/"+p) }) {
					if err := disk.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, dir := range []string{"behind", "behind/blocks", "behind/incoming", "behind/incoming/blocks"} {
				if err := disk.SyncDir(dir); err != nil {
					t.Fatal(err)
				}
			}
		}
		remove("blocks/", "base")
		var marks []string
		for _, mark := range []string{"replace", "replace.moving"} {
			if slices.Contains(disk.Names(), "behind/"+mark) {
				marks = append(marks, mark)
			}
		}
		if len(marks) > 0 {
			if err := backup.into("behind", &late); !errors.Is(err, state.ErrReplace) {
				t.Fatalf("stopped at step %d: an import beside %q: %v, want ErrReplace", n, marks, err)
			}
			refused[strings.Join(marks, " and ")]++
			if n%2 == 0 { // the node is started, and has what it fetched
				now := open(t, "behind", o)
				if now.Head() != nil {
					mustHold(t, now.Head(), model)
				}
				if err := now.Close(); err != nil {
					t.Fatal(err)
				}
				remove("blocks/", "base")
			} else {
				remove("replace", "incoming/")
			}
		}
		disk.CrashAfter(1 + rng.IntN(30))
		if err := backup.into("behind", &late); err != nil && !errors.Is(err, memfs.ErrCrashed) {
			t.Fatalf("stopped at step %d: %v", n, err)
		}
		crash(disk, rng)
		if err := backup.into("behind", &late); err != nil && !errors.Is(err, state.ErrStore) {
			t.Fatalf("stopped at step %d: the import again: %v", n, err)
		}
		for range 2 {
			now := open(t, "behind", late)
			mustBePruned(t, now, s, 5, c.model)
			if err := now.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(refused) != 3 {
		t.Errorf("imports were refused beside %v, want each mark and both", refused)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReplaceMixed has files of another store where what was fetched is being copied to: they are removed, not read with it.
func TestReplaceMixed(t *testing.T) {
	disk := memfs.New()
	o := state.Options{FS: disk, Memory: true, Synchronous: true, SegmentBytes: 1_500, Recent: 2, FlushBlocks: 2}
	s := open(t, "source", o)
	defer s.Close()
	c := newChain(6)
	for range 40 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 5)
	other, longer := o, newChain(7) // another chain, with other bounds of the segments
	other.SegmentBytes = 900
	foreign := open(t, "behind", other)
	for range 60 {
		longer.commit(t, foreign)
	}
	if err := errors.Join(foreign.Close(), all.into(state.Incoming("behind"), &o), state.Replace("behind", &o)); err != nil {
		t.Fatal(err)
	}
	if err := disk.Rename("behind/replace", "behind/replace.moving"); err != nil {
		t.Fatal(err)
	}
	now := open(t, "behind", o)
	mustBePruned(t, now, s, 5, c.model)
	c.commit(t, now)
	if err := now.Close(); err != nil {
		t.Fatal(err)
	}
	mustHold(t, open(t, "behind", o).Head(), c.model)
}
