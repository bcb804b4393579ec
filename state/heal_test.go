package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// grownTwice makes two folders with closed stores of the same n blocks.
func grownTwice(t *testing.T, seed uint64, n int, o state.Options) (dir, other string, c *chain) {
	t.Helper()
	dir, c, _ = grown(t, seed, n, o)
	other, _, _ = grown(t, seed, n, o)
	return dir, other, c
}

// healFrom has a store heal what it knows to be damaged with what another one has.
func healFrom(s, other *state.Store) error {
	var copies []*state.Copy
	for _, d := range s.Damaged() {
		kept := ledger.Height(0)
		if d.Height < s.Kept() && d.Height%2 == 1 {
			kept = d.Height + 1
		}
		payload, err := other.Payload(d.Height, kept)
		if err != nil {
			return err
		}
		r, err := s.CheckCopy(d.Height, payload)
		if err != nil {
			return err
		}
		copies = append(copies, r)
	}
	return s.Heal(copies)
}

func readFiles(t *testing.T, names []string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = data
	}
	return all
}

// TestHeal damages block files of an open store in many ways. A pass of Scrub finds all of it, and with the blocks of another store
// the files become what they were, byte for byte.
func TestHeal(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000}
	dir, other, c := grownTwice(t, 41, 60, o)
	theirs := open(t, other, o)
	names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
	if err != nil || len(names) < 4 {
		t.Fatalf("%d segments, %v; want several", len(names), err)
	}
	originals := readFiles(t, names)
	s := open(t, dir, o)
	rng := rand.New(rand.NewPCG(41, 1))
	for round := range 24 {
		damaged := map[string][]byte{}
		for range 1 + round%3 {
			name := names[rng.IntN(len(names))]
			data := bytes.Clone(originals[name])
			switch round % 6 {
			case 4:
				data = data[:rng.IntN(len(data))]
			case 5:
				clear(data[len(data)/3 : len(data)/3+1000])
			default:
				data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
			}
			damaged[name] = data
		}
		if round == 22 {
			damaged = map[string][]byte{names[1]: nil}
		}
		for name, data := range damaged {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if data == nil {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
		found := scrub(s)
		if len(found.errs)+len(found.mended) == 0 || len(found.errs) > 0 && len(s.Damaged()) == 0 {
			t.Fatalf("round %d: the pass found %v, %q", round, found.errs, found.mended)
		}
		for _, d := range s.Damaged() {
			if _, err := s.Block(d.Height); !errors.Is(err, state.ErrDamaged) {
				t.Errorf("round %d: block %d is read: %v", round, d.Height, err)
			}
		}
		if err := healFrom(s, theirs); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if found := scrub(s); len(found.errs)+len(found.mended)+len(s.Damaged()) > 0 || len(found.heights) != 60 {
			t.Fatalf("round %d: once healed, a pass finds %v, %q", round, found.errs, found.mended)
		}
		for name, data := range readFiles(t, names) {
			if !bytes.Equal(data, originals[name]) {
				t.Fatalf("round %d: %s is not what it was", round, name)
			}
		}
	}
	if s.Healed() < 20 {
		t.Errorf("%d blocks were healed", s.Healed())
	}
	c.commit(t, s) // the last segment was replaced too
	if err := errors.Join(consistent(s), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, o)
	if s.Head().Height() != 60 {
		t.Errorf("the head is at height %d", s.Head().Height())
	}
	mustHold(t, s.Head(), c.model)
}

// TestCheckCopyRefuses changes what another store gives.
func TestCheckCopyRefuses(t *testing.T) {
	o := state.Options{Synchronous: true, Memory: true}
	dir, other, _ := grownTwice(t, 42, 20, o)
	s, theirs := open(t, dir, o), open(t, other, o)
	strange, _, _ := grown(t, 43, 20, o)
	stranger := open(t, strange, o)
	payload, err := theirs.Payload(7, 0)
	if err != nil {
		t.Fatal(err)
	}
	sound, err := s.CheckCopy(7, payload)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, h ledger.Height, payload []byte) {
		if _, err := s.CheckCopy(h, payload); !errors.Is(err, state.ErrFault) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refuse("another height", 8, payload)
	for at := range payload {
		bad := bytes.Clone(payload)
		bad[at] ^= 1
		if r, err := s.CheckCopy(7, bad); err == nil && !reflect.DeepEqual(r.Block().Certificate, sound.Block().Certificate) {
			continue // which the caller checks
		}
		refuse(fmt.Sprintf("byte %d of %d changed", at, len(payload)), 7, bad)
	}
	for _, h := range []ledger.Height{7, 19} {
		if payload, err = stranger.Payload(h, 0); err != nil {
			t.Fatal(err)
		}
		refuse("a block of another chain", h, payload)
	}
	if payload, err = theirs.Payload(7, 8); err != nil {
		t.Fatal(err)
	}
	refuse("a pruned block", 7, payload)
	refuse("nothing", 7, nil)
	bomb := append([]byte{1, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x3f}, make([]byte, 64<<10)...)
	refuse("a bomb", 7, bomb)
}

// TestHealCrash stops the machine at each operation of healing. What is there then is the damaged file or the healed one, and all other
// blocks in either case but one behind, the head of whose frame is lost too. The block comes from a store that knows another certificate for it, so frames are elsewhere when it is healed.
func TestHealCrash(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 40_000}
	dir, _, head := grown(t, 44, 40, o)
	blocks, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	const h, second = 12, 15
	other := open(t, filepath.Join(t.TempDir(), "other"), o)
	again := newChain(44)
	for range 40 {
		parent := other.Head()
		if parent == nil {
			parent = state.Empty(suite)
		}
		b, next, model := again.next(t, parent)
		if b.Header.Order.Height == h {
			b.Certificate.Signatures = [][]byte{bytes.Repeat([]byte{1}, 333)}
		}
		if err := other.Commit(b, next); err != nil {
			t.Fatal(err)
		}
		again.model = model
	}
	for _, crash := range []bool{false, true} {
		healed, stopped := 0, 0
		for n := 1; ; n++ {
			at := filepath.Join(t.TempDir(), "group")
			for _, name := range []string{"state.db", "index.db"} {
				data, err := os.ReadFile(filepath.Join(dir, name))
				if err == nil {
					err = errors.Join(os.MkdirAll(at, 0o700), os.WriteFile(filepath.Join(at, name), data, 0o600))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			disk := memfs.New()
			for _, name := range blocks.Names() {
				if !strings.HasPrefix(name, "blocks/") {
					continue
				}
				data, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if i := bytes.Index(data, []byte{'b', 'l', 'c', 'k'}); name == "blocks/000000000000.blocks" {
					for range h {
						i += 24 + int(uint32(data[i+4])<<24|uint32(data[i+5])<<16|uint32(data[i+6])<<8|uint32(data[i+7]))
					}
					data[i+10] ^= 1
					at, _ := frameAt(data, second)
					data[at+6] ^= 1
				}
				f, err := disk.Open(filepath.Join(at, name), true)
				if err == nil {
					_, err = f.WriteAt(data, 0)
				}
				if err = errors.Join(err, f.Sync(), disk.SyncDir(filepath.Join(at, "blocks"))); err != nil {
					t.Fatal(err)
				}
			}
			o := o
			o.FS = disk
			s := open(t, at, o)
			if found := scrub(s); len(found.errs) != 2 || len(s.Damaged()) != 2 || s.Damaged()[0].Height != h {
				t.Fatalf("the pass found %v, %q", found.errs, found.mended)
			}
			payload, err := other.Payload(h, 0)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.CheckCopy(h, payload)
			if err != nil {
				t.Fatal(err)
			}
			disk.CrashAfter(n)
			healing := s.Heal([]*state.Copy{r})
			s.Close()
			if crash {
				disk.Crash(rand.New(rand.NewPCG(uint64(n), 44)))
			} else {
				disk.Crash(nil)
			}
			s = open(t, at, o)
			if s.Head().Hash() != head {
				t.Fatalf("stopped at operation %d: the head is at height %d", n, s.Head().Height())
			}
			for i := range ledger.Height(40) {
				b, err := s.Block(i)
				switch {
				case i == second && errors.Is(err, state.ErrDamaged):
				case i == second:
					t.Fatalf("stopped at operation %d: block %d is read: %v", n, i, err)
				case i == h && healing != nil && errors.Is(err, state.ErrDamaged):
					stopped++
				case err != nil || b.Header.Order.Height != i:
					t.Fatalf("stopped at operation %d: block %d: %v", n, i, err)
				case i == h:
					healed++
				}
			}
			for _, name := range disk.Names() {
				if strings.HasSuffix(name, ".new") {
					t.Errorf("stopped at operation %d: %s is left", n, name)
				}
			}
			scrub(s)
			if err := healFrom(s, other); err != nil {
				t.Fatal(err)
			}
			if found := scrub(s); len(found.errs)+len(found.mended) > 0 {
				t.Errorf("stopped at operation %d: once healed, a pass finds %v, %q", n, found.errs, found.mended)
			}
			if err := errors.Join(consistent(s), s.Close()); err != nil {
				t.Errorf("stopped at operation %d: %v", n, err)
			}
			if healing == nil {
				break
			}
		}
		if healed < 1 || stopped < 4 {
			t.Errorf("it was healed %d times and not %d times", healed, stopped)
		}
	}
}

// TestHealBusy heals while others commit, read and scrub.
func TestHealBusy(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, SegmentBytes: 20_000}
	dir, other, c := grownTwice(t, 45, 40, o)
	theirs, s := open(t, other, o), open(t, dir, o)
	stop := make(chan struct{})
	var others sync.WaitGroup
	begun := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	others.Go(func() {
		for n := 0; n < 150 && begun(); n++ {
			c.commit(t, s)
		}
	})
	others.Go(func() {
		rng := rand.New(rand.NewPCG(45, 2))
		for begun() {
			h := ledger.Height(rng.IntN(40))
			if b, err := s.Block(h); err == nil && b.Header.Order.Height != h || err != nil && !errors.Is(err, state.ErrDamaged) {
				t.Errorf("block %d: %v", h, err)
			}
		}
	})
	others.Go(func() {
		for begun() {
			for _, err := range s.Scrub() {
				if err != nil && !errors.Is(err, state.ErrDamaged) {
					t.Error(err)
				}
			}
		}
	})
	rng := rand.New(rand.NewPCG(45, 3))
	for range 30 {
		h := ledger.Height(rng.IntN(40))
		if err := flipBlock(dir, h, rng); err != nil {
			t.Error(err)
			break
		}
		for i := range ledger.Height(40) {
			_, _ = s.Block(i) // it remembers which is damaged
		}
		if err := healFrom(s, theirs); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	others.Wait()
	if found := scrub(s); len(found.errs)+len(found.mended) > 0 {
		t.Errorf("once healed, a pass finds %v, %q", found.errs, found.mended)
	}
	if err := consistent(s); err != nil {
		t.Error(err)
	}
}

// flipBlock flips a bit of the frame of a block.
func flipBlock(dir string, h ledger.Height, rng *rand.Rand) error {
	names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for at := int64(28); ; {
			var head [24]byte
			if _, err := f.ReadAt(head[:], at); err != nil {
				break
			}
			length := int64(head[4])<<24 | int64(head[5])<<16 | int64(head[6])<<8 | int64(head[7])
			if head[15] != byte(h) {
				at += 24 + length
				continue
			}
			at += 24 + rng.Int64N(length)
			var b [1]byte
			if _, err := f.ReadAt(b[:], at); err != nil {
				return err
			}
			b[0] ^= 1 << rng.IntN(8)
			_, err := f.WriteAt(b[:], at)
			return err
		}
	}
	return fmt.Errorf("there is no block %d", h)
}

// TestOpenWithoutTail damages the last block of a stopped store, or one that its table does not include, and each of the files with
// tables as well. It must open with the blocks before, and take the others again.
func TestOpenWithoutTail(t *testing.T) {
	o := state.Options{Recent: 8, FlushBlocks: 8, Synchronous: true, SegmentBytes: 20_000, SetAside: true}
	dir, other, c := grownTwice(t, 46, 50, o)
	theirs := open(t, other, o)
	s := open(t, dir, o)
	for range 10 { // which the table does not include when the machine stops
		b := c.commit(t, s)
		next, err := theirs.Head().Extend(&b.Header.Order, state.Result{
			Receipts: must(s.Receipts(b.Header.Order.Height)), Changes: must(s.Changes(b.Header.Order.Height)), GasUsed: b.Header.GasUsed,
		})
		if err == nil {
			err = theirs.Commit(b, next)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stopped, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	closed, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(46, 1))
	for _, tt := range []struct {
		name string
		from *memfs.FS
		h    ledger.Height // that is damaged
		left ledger.Height // the head then
	}{
		{"the last block of a closed store", closed, 59, 58},
		{"a block in the middle of a closed store", closed, 30, 59},
		{"the last but one block of a closed store", closed, 58, 59},
		{"the last block of a stopped store", stopped, 59, 58},
		{"a block that the table of a stopped store does not include", stopped, 55, 54},
		{"a block that it includes", stopped, 40, 59},
	} {
		for range 2 {
			dir := t.TempDir()
			if err := errors.Join(tt.from.Save(dir), flipBlock(dir, tt.h, rng)); err != nil {
				t.Fatal(err)
			}
			var notices []string
			o := o
			o.Notice = func(text string) { notices = append(notices, text) }
			s := open(t, dir, o)
			if got := s.Head().Height(); got != tt.left {
				t.Fatalf("%s: the head is at height %d, want %d; %q", tt.name, got, tt.left, notices)
			}
			if told := fmt.Sprint(notices); (tt.left == 59) != (len(notices) == 0) || tt.left < 59 && !strings.Contains(told, fmt.Sprintf("block %d", tt.h)) {
				t.Errorf("%s: notices %q", tt.name, notices)
			}
			for h := tt.left + 1; h < 60; h++ {
				b := must(theirs.Block(h))
				for _, tx := range must(theirs.Receipts(h)) {
					if _, _, found, err := s.FindTx(tx.Tx); found || err != nil {
						t.Errorf("%s: a transaction of block %d is found: %t, %v", tt.name, h, found, err)
					}
				}
				next, err := s.Head().Extend(&b.Header.Order, state.Result{Receipts: must(theirs.Receipts(h)), Changes: must(theirs.Changes(h)), GasUsed: b.Header.GasUsed})
				if err == nil {
					err = s.Commit(b, next)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if found := scrub(s); (len(found.errs) > 0) != (tt.left == 59) || len(found.mended) > 0 {
				t.Errorf("%s: the pass found %v, %q", tt.name, found.errs, found.mended)
			}
			if err := errors.Join(healFrom(s, theirs), consistent(s)); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			mustHold(t, s.Head(), c.model)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOpenRefuses damages two things at once, so that the state cannot be had without a block in the middle. The store must not open, and
// must leave everything as it is.
func TestOpenRefuses(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000}
	grew, _, _ := grown(t, 48, 180, o)
	original := must(memfs.Load(grew))
	for _, tt := range []struct {
		name     string
		lost     string
		damaged  ledger.Height
		setAside bool
	}{
		{"the index and a block", "index.db", 5, true},
		{"the state table and a block", "state.db", 5, true}, // where any block is one that the table lacks
		{"the last block, but another owner", "", 179, false},
	} {
		dir, o := t.TempDir(), o
		o.SetAside = tt.setAside
		err := errors.Join(original.Save(dir), flipBlock(dir, tt.damaged, rand.New(rand.NewPCG(48, 1))))
		if tt.lost != "" {
			err = errors.Join(err, os.Remove(filepath.Join(dir, tt.lost)))
		}
		names, globErr := filepath.Glob(filepath.Join(dir, "blocks", "*"))
		if err = errors.Join(err, globErr); err != nil {
			t.Fatal(err)
		}
		before := readFiles(t, names)
		for range 2 {
			_, err := state.Open(dir, suite, &o)
			if bad, ok := errors.AsType[*state.SegmentError](err); !ok || bad.Height != tt.damaged {
				t.Fatalf("%s: Open: %v, want a SegmentError of block %d", tt.name, err, tt.damaged)
			}
		}
		after, err := filepath.Glob(filepath.Join(dir, "blocks", "*"))
		if err != nil || !reflect.DeepEqual(before, readFiles(t, after)) {
			t.Errorf("%s: the files are %q now, %v", tt.name, after, err)
		}
	}
}

// TestOpenTwoTails damages the last block and one some way before it, both of a store whose table includes them. All that is set aside
// is kept, also of a file from which something is set aside twice; and an old block instead is not set aside with all behind it.
func TestOpenTwoTails(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000, SetAside: true}
	grew, _, _ := grown(t, 49, 200, o)
	original := must(memfs.Load(grew))
	names := must(original.ReadDir("blocks"))
	var begin ledger.Height // of the last file but one
	if _, err := fmt.Sscanf(names[len(names)-2], "%d.blocks", &begin); err != nil {
		t.Fatal(err)
	}
	for _, second := range []ledger.Height{begin + 1, 198, 5} {
		dir := t.TempDir()
		if err := errors.Join(original.Save(dir), flipBlock(dir, 199, rand.New(rand.NewPCG(49, 1))), flipBlock(dir, second, rand.New(rand.NewPCG(49, 2)))); err != nil {
			t.Fatal(err)
		}
		before := must(memfs.Load(dir))
		s, err := state.Open(dir, suite, &o)
		bad, refused := errors.AsType[*state.SegmentError](err)
		switch {
		case second == 5 && (!refused || bad.Height != 5):
			t.Fatalf("blocks 5 and 199: Open: %v, want a SegmentError of block 5", err)
		case second != 5 && err != nil:
			t.Fatal(err)
		case second != 5:
			if got := s.Head().Height(); got != second-1 {
				t.Errorf("without block %d the head is at height %d", second, got)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range names {
			left := readFiles(t, must(filepath.Glob(filepath.Join(dir, "blocks", name+"*"))))
			f := must(before.Open("blocks/"+name, false))
			want := make([]byte, must(f.Size()))
			if _, err := f.ReadAt(want, 0); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(slices.Collect(maps.Values(left)), func(have []byte) bool { return bytes.Equal(have, want) }) {
				t.Errorf("blocks %d and 199: %s is not kept as it was: %q", second, name, slices.Sorted(maps.Keys(left)))
			}
		}
	}
}

// TestHealDiskFull: a segment that cannot be written anew stays as it is, and nothing is left of the attempt.
func TestHealDiskFull(t *testing.T) {
	disk := memfs.New()
	o := state.Options{FS: disk, Memory: true, Synchronous: true}
	s, other := open(t, "group", o), open(t, "other", state.Options{FS: memfs.New(), Memory: true, Synchronous: true})
	c, again := newChain(49), newChain(49)
	for range 8 {
		c.commit(t, s)
		again.commit(t, other)
	}
	f := must(disk.Open("group/blocks/000000000000.blocks", false))
	at := must(f.Size()) / 2
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 1}, at); err != nil {
		t.Fatal(err)
	}
	if found := scrub(s); len(found.errs) != 1 {
		t.Fatalf("the pass found %v, %q", found.errs, found.mended)
	}
	used := disk.Used()
	disk.SetLimit(used + 1000)
	if err := healFrom(s, other); !errors.Is(err, memfs.ErrFull) || disk.Used() != used || len(s.Damaged()) != 1 {
		t.Errorf("on a full disk: %v; %d bytes are used and were %d", err, disk.Used(), used)
	}
	disk.SetLimit(0)
	c.commit(t, s)
	if err := healFrom(s, other); err != nil {
		t.Error(err)
	}
	if found := scrub(s); len(found.errs)+len(found.mended)+len(s.Damaged()) > 0 {
		t.Errorf("once healed, a pass finds %v, %q", found.errs, found.mended)
	}
}

// TestHealPruned damages each file of a store that was pruned.
func TestHealPruned(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000}
	dir, other, c := grownTwice(t, 47, 60, o)
	s := open(t, dir, o)
	if err := s.Prune(40); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c.commit(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	pruned, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	theirs := open(t, other, o) // it has not pruned, and ends before
	rng := rand.New(rand.NewPCG(47, 1))
	for n := range 16 {
		dir := t.TempDir()
		if err := pruned.Save(dir); err != nil {
			t.Fatal(err)
		}
		base := filepath.Join(dir, "base")
		if n < 6 { // blocks
			if err := flipBlock(dir, ledger.Height(11*n), rng); err != nil {
				t.Fatal(err)
			}
		} else {
			data, err := os.ReadFile(base)
			if err != nil {
				t.Fatal(err)
			}
			at := rng.IntN(len(data))
			if n%2 == 0 {
				at = rng.IntN(300) // what it begins with
			}
			data[at] ^= 1 << rng.IntN(8)
			if err := os.WriteFile(base, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var notices []string
		o := o
		o.Notice = func(text string) { notices = append(notices, text) }
		s := open(t, dir, o)
		found := scrub(s)
		if (len(notices) == 1) == (len(found.errs) == 1) {
			t.Errorf("%d: notices %q, and the pass found %v, %q", n, notices, found.errs, found.mended)
		}
		for _, err := range found.errs {
			if _, bad := errors.AsType[*state.BaseError](err); bad {
				if err := s.HealBase(); err != nil {
					t.Error(err)
				}
			}
		}
		if err := healFrom(s, theirs); err != nil {
			t.Error(err)
		}
		if n < 6 && n%2 == 0 { // from one that has it in full
			for _, name := range must(filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))) {
				file := must(pruned.Open(filepath.Join("blocks", filepath.Base(name)), false))
				want := make([]byte, must(file.Size()))
				if _, err := file.ReadAt(want, 0); err != nil {
					t.Fatal(err)
				}
				if got := must(os.ReadFile(name)); !bytes.Equal(got, want) {
					t.Errorf("%d: %s is not what it was", n, name)
				}
			}
		}
		if found := scrub(s); len(found.errs)+len(found.mended) > 0 || s.Kept() != 40 {
			t.Errorf("%d: once healed, a pass finds %v, %q; blocks are kept from %d on", n, found.errs, found.mended, s.Kept())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "state.db")); err != nil { // it is made again from the base
			t.Fatal(err)
		}
		s = open(t, dir, o)
		mustHold(t, s.Head(), c.model)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// beginning makes a store of which no state can be had without one block, its last in full or one of the last: just pruned, or just imported.
// It returns its folder, one with all blocks, and the height of that block.
func beginning(t *testing.T, imported bool, behind int, kept ledger.Height, o state.Options) (dir string, whole *state.Store, c *chain, at ledger.Height) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "group")
	whole = open(t, filepath.Join(t.TempDir(), "whole"), o)
	c = newChain(47)
	for range 60 {
		c.commit(t, whole)
	}
	for range behind {
		c.commit(t, whole)
	}
	all := copyOf(t, whole, kept)
	if err := all.into(dir, &o); err != nil {
		t.Fatal(err)
	}
	if imported {
		return dir, whole, c, all.header.Order.Height
	}
	s := open(t, dir, o)
	head := s.Head().Height()
	if err := errors.Join(s.Prune(head), s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, whole, c, head
}

// takeRest has a store take the blocks that it lacks from another one.
func takeRest(t *testing.T, s, from *state.Store) {
	t.Helper()
	for h := s.Head().Height() + 1; h <= from.Head().Height(); h++ {
		b := must(from.Block(h))
		next, err := s.Head().Extend(&b.Header.Order, state.Result{Receipts: must(from.Receipts(h)), Changes: must(from.Changes(h)), GasUsed: b.Header.GasUsed})
		if err == nil {
			err = s.Commit(b, next)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenWithoutBegin damages the block on whose state a store begins while it is one of the last: no state without that block can
// be had, and the base has it once more.
func TestOpenWithoutBegin(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000, SetAside: true}
	for _, imported := range []bool{false, true} {
		for _, opened := range []bool{false, true} { // once, after the import
			for n, damage := range []func(dir string, h ledger.Height) error{
				func(dir string, h ledger.Height) error { return flipBlock(dir, h, rand.New(rand.NewPCG(47, 1))) },
				func(dir string, _ ledger.Height) error { // the end of the last file
					names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
					if err != nil {
						return err
					}
					info, err := os.Stat(names[len(names)-1])
					if err != nil {
						return err
					}
					return os.Truncate(names[len(names)-1], info.Size()-7)
				},
			} {
				if n == 1 && imported {
					continue // the end is of a block behind that of the state
				}
				dir, whole, c, at := beginning(t, imported, 6, 40, o)
				if opened {
					if err := open(t, dir, o).Close(); err != nil {
						t.Fatal(err)
					}
				}
				if err := damage(dir, at); err != nil {
					t.Fatal(err)
				}
				var notices []string
				o := o
				o.Notice = func(text string) { notices = append(notices, text) }
				s := open(t, dir, o)
				if told := fmt.Sprint(notices); s.Head().Height() < at || !opened && !strings.Contains(told, "put back from ") {
					t.Errorf("imported %t, opened %t: the head is at height %d, and block %d was damaged: %q", imported, opened, s.Head().Height(), at, notices)
				}
				takeRest(t, s, whole)
				scrub(s)
				if err := errors.Join(healFrom(s, whole), s.Close()); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir, o)
				mustHold(t, s.Head(), c.model)
				if found := scrub(s); len(found.errs) > 0 {
					t.Errorf("the pass found %v", found.errs)
				}
			}
		}
	}
}

// TestOpenWithoutBeginCuts stops the machine at each step of putting that block back.
func TestOpenWithoutBeginCuts(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000, SetAside: true}
	dir, whole, c, at := beginning(t, true, 6, 40, o)
	if err := flipBlock(dir, at, rand.New(rand.NewPCG(47, 1))); err != nil {
		t.Fatal(err)
	}
	original := must(memfs.Load(dir))
	o.Memory = true
	for n := 1; ; n++ {
		disk, rng := original.Clone(), rand.New(rand.NewPCG(47, uint64(n)))
		o.FS = disk
		disk.CrashAfter(n)
		s, err := state.Open("", suite, &o)
		if err == nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, memfs.ErrCrashed) {
			t.Fatalf("stopped at step %d: %v", n, err)
		}
		crash(disk, rng)
		if s, err = state.Open("", suite, &o); err != nil {
			t.Fatalf("after step %d: %v", n, err)
		}
		takeRest(t, s, whole)
		mustHold(t, s.Head(), c.model)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
