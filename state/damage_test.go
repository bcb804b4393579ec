package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// grown makes a folder with a closed store of n blocks.
func grown(t *testing.T, seed uint64, n int, o state.Options) (dir string, c *chain, head keys.Digest) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "group")
	s := open(t, dir, o)
	c = newChain(seed)
	for range n {
		c.commit(t, s)
	}
	head = s.Head().Hash()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, c, head
}

// TestDamagedTables damages the bbolt files in every way that a disk or a hand can, and expects the store to
// notice and to heal from the segments.
func TestDamagedTables(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true}
	dir, c, head := grown(t, 21, 30, o)
	rng := rand.New(rand.NewPCG(21, 4))
	originals := map[string][]byte{}
	for _, name := range []string{"state.db", "index.db"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		originals[name] = data
	}
	find := func(data []byte, text string) int {
		at := strings.LastIndex(string(data), text)
		if at < 0 {
			t.Fatalf("no %q in the file", text)
		}
		return at
	}
	used := func(d []byte) int { return len(bytes.TrimRight(d, "\x00")) } // bbolt lets files grow ahead of their use
	type damage struct {
		name  string
		file  string
		apply func(data []byte) []byte
		heals bool // a notice must tell of it
	}
	damages := []damage{
		{"a value is changed", "state.db", func(d []byte) []byte { d[find(d, "value ")] ^= 1; return d }, false},
		{"every value is changed", "state.db", func(d []byte) []byte {
			return []byte(strings.ReplaceAll(string(d), "value ", "Value "))
		}, true},
		{"every key is changed", "state.db", func(d []byte) []byte { return []byte(strings.ReplaceAll(string(d), "key 1", "kez 1")) }, true},
		{"it is cut to a half", "state.db", func(d []byte) []byte { return d[:used(d)/2] }, true},
		{"it is cut to one page", "state.db", func(d []byte) []byte { return d[:4096] }, true},
		{"it is cut within a page", "state.db", func(d []byte) []byte { return d[:used(d)-5000] }, false},
		{"it is empty", "state.db", func([]byte) []byte { return nil }, false},
		{"it is another kind of file", "state.db", func(d []byte) []byte { return []byte(strings.Repeat("hello ", 4000)) }, true},
		{"it is removed", "state.db", nil, false},
		{"the index is removed", "index.db", nil, false},
		{"both metas are zero", "state.db", func(d []byte) []byte { clear(d[:8192]); return d }, true},
		{"the index is cut to a half", "index.db", func(d []byte) []byte { return d[:used(d)/2] }, true},
		{"the index is another kind of file", "index.db", func(d []byte) []byte { return []byte(strings.Repeat("hello ", 4000)) }, true},
	}
	for i := range 45 {
		name := []string{"state.db", "state.db", "index.db"}[i%3]
		damages = append(damages, damage{fmt.Sprintf("flip %d", i), name, func(d []byte) []byte {
			d[rng.IntN(used(d))] ^= 1 << rng.IntN(8)
			return d
		}, false})
	}
	noticed := 0
	for _, tt := range damages {
		t.Run(tt.name, func(t *testing.T) {
			for name, data := range originals {
				if name == tt.file {
					if tt.apply == nil {
						if err := os.Remove(filepath.Join(dir, name)); err != nil {
							t.Fatal(err)
						}
						continue
					}
					data = tt.apply(append([]byte(nil), data...))
				}
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var notices []string
			o := o
			o.Notice = func(s string) { notices = append(notices, s) }
			s := open(t, dir, o)
			defer s.Close()
			if s.Head() == nil || s.Head().Hash() != head {
				t.Fatalf("the head is at height %d, want the block that was committed", s.Head().Height())
			}
			mustHold(t, s.Head(), c.model)
			noticed += len(notices)
			for _, n := range notices {
				if !strings.Contains(n, tt.file) {
					t.Errorf("notice %q does not name %s", n, tt.file)
				}
			}
			if tt.heals && len(notices) == 0 {
				t.Error("no notice told of it")
			}
		})
	}
	if noticed < 15 {
		t.Errorf("%d notices in all: the damage seems not to be noticed", noticed)
	}
}

// TestDamagedSegments damages segments of a stopped store whose state is made from the blocks. What a crash can leave is cut off. Of other
// damage the blocks before it stay, and those behind it are kept beside.
func TestDamagedSegments(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000, Memory: true, SetAside: true}
	dir, _, _ := grown(t, 22, 60, o)
	original, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range original.Names() {
		if strings.HasSuffix(name, ".blocks") {
			names = append(names, name)
		}
	}
	if len(names) < 3 {
		t.Fatalf("%d segments, want several", len(names))
	}
	first, second, third, last := names[0], names[1], names[2], names[len(names)-1]
	begin := func(name string) (h int) {
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.blocks", &h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	lastFrame := func(d []byte) int { return strings.LastIndex(string(d), "blck") }
	for _, tt := range []struct {
		name   string
		file   string
		apply  func(d []byte) []byte // nil: the file is removed
		left   int                   // blocks that are there
		notice string                // part of what is told, if anything is
	}{
		{"nothing is damaged", last, func(d []byte) []byte { return d }, 60, ""},
		{"the last frame is cut", last, func(d []byte) []byte { return d[:len(d)-7] }, 59, "cut off the incomplete frame of block 59"},
		{"the last frame's head is cut", last, func(d []byte) []byte { return d[:lastFrame(d)+5] }, 59, "cut off the incomplete frame of block 59"},
		{"the last frame is partly zero", last, func(d []byte) []byte { clear(d[lastFrame(d)+40 : lastFrame(d)+160]); return d }, 59, "cut off the incomplete frame of block 59"},
		{"the last frame is all zero", last, func(d []byte) []byte { clear(d[lastFrame(d):]); return d }, 59, "cut off the incomplete frame of block 59"},
		{"zeros follow the last frame", last, func(d []byte) []byte { return append(d, make([]byte, 700)...) }, 60, "cut off the incomplete frame of block 60"},
		{"a byte in the middle of the last segment is changed", last, func(d []byte) []byte { d[60] ^= 1; return d }, begin(last), "checksum, and blocks follow"},
		{"a length in the middle is changed", last, func(d []byte) []byte { d[29] ^= 1; return d }, begin(last), "checksum, and blocks follow"},
		{"a byte in an earlier segment is changed", second, func(d []byte) []byte { d[len(d)-3] ^= 1; return d }, begin(third) - 1, "does not have its checksum"},
		{"an earlier segment is cut", second, func(d []byte) []byte { return d[:len(d)-3] }, begin(third) - 1, "the file ends within the frame"},
		{"an earlier segment is cut between frames", second, func(d []byte) []byte { return d[:lastFrame(d)] }, begin(third) - 1, "the file is missing"},
		{"a segment's head is changed", second, func(d []byte) []byte { d[3] ^= 1; return d }, 60, "did not begin as it must"},
		{"the last segment's head is changed", last, func(d []byte) []byte { d[3] ^= 1; return d }, 60, "did not begin as it must"},
		{"a segment in the middle is missing", second, nil, begin(second), "the file is missing"},
		{"the first segment is missing", first, nil, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := o
			disk := original.Clone()
			var data []byte
			f, err := disk.Open(tt.file, false)
			if err == nil {
				data = make([]byte, must(f.Size()))
				_, err = f.ReadAt(data, 0)
			}
			if err == nil && tt.apply == nil {
				err = disk.Remove(tt.file)
			} else if err == nil {
				damaged := tt.apply(bytes.Clone(data))
				_, err = f.WriteAt(damaged, 0)
				err = errors.Join(err, f.Truncate(int64(len(damaged))))
			}
			if err != nil {
				t.Fatal(err)
			}
			var notices []string
			o.FS, o.Notice = disk, func(s string) { notices = append(notices, s) }
			s, err := state.Open("", suite, &o)
			if tt.left == 0 {
				if bad, ok := errors.AsType[*state.SegmentError](err); !ok || !strings.HasSuffix(bad.File, first) || !strings.Contains(err.Error(), "missing") {
					t.Errorf("Open: %v, want a SegmentError about %s", err, first)
				}
				return
			}
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			defer s.Close()
			if got := int(s.Head().Height()) + 1; got != tt.left {
				t.Errorf("there are %d blocks, want %d", got, tt.left)
			}
			if told := len(notices) > 0; told != (tt.notice != "") || told && (len(notices) != 1 || !strings.Contains(notices[0], tt.notice)) {
				t.Errorf("notices %q, want one with %q", notices, tt.notice)
			}
			aside := 0
			for _, name := range disk.Names() {
				if kept, ok := strings.CutSuffix(name, ".damaged"); ok && begin(kept) >= tt.left {
					aside++
				}
			}
			if want := len(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return begin(name) < tt.left || name == tt.file && tt.apply == nil })); aside != want {
				t.Errorf("%d segments are kept beside, want %d: %s", aside, want, disk)
			}
			again := newChain(22)
			source := open(t, "other", state.Options{FS: memfs.New(), Memory: true, Synchronous: true})
			for h := range 61 { // it goes on, with the same blocks
				b := again.commit(t, source)
				if h < tt.left {
					continue
				}
				next, err := s.Head().Extend(&b.Header.Order, state.Result{
					Receipts: must(source.Receipts(ledger.Height(h))), Changes: must(source.Changes(ledger.Height(h))), GasUsed: b.Header.GasUsed,
				})
				if err == nil {
					err = s.Commit(b, next)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			mustHold(t, s.Head(), again.model)
			if found := scrub(s); len(found.errs)+len(found.mended) > 0 {
				t.Errorf("a pass finds %v, %q", found.errs, found.mended)
			}
		})
	}
}

// TestUnreadable lets the disk fail to read the sectors of a block, of the base, and of the beginning of a file. That is damage: Scrub goes on
// behind it, a start sets the last block aside, and where nothing else is damaged the store is as before when it is healed.
func TestUnreadable(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000, Memory: true, SetAside: true}
	dir, other, c := grownTwice(t, 23, 40, o)
	theirs := open(t, other, o)
	disk, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	o.FS = disk
	s := open(t, "", o)
	if err := s.Prune(10); err != nil {
		t.Fatal(err)
	}
	// bad makes a sector unreadable until its file is replaced.
	bad := func(name string, sector int64) {
		gone := false
		disk.SetHook(func(op memfs.Op, at string, _ int) error {
			gone = gone || op == memfs.OpRename && strings.HasPrefix(at, name)
			return nil
		})
		disk.SetReadHook(func(at string, offset int64, n int) error {
			if !gone && at == name && offset < (sector+1)*512 && offset+int64(n) > sector*512 {
				return syscall.EIO
			}
			return nil
		})
	}
	for _, name := range disk.Names() {
		if !strings.HasSuffix(name, ".blocks") {
			continue
		}
		size := must(must(disk.Open(name, false)).Size())
		for sector := int64(0); sector*512 < size; sector += 9 {
			bad(name, sector)
			found := scrub(s)
			for _, err := range found.errs {
				if !errors.Is(err, state.ErrDamaged) || !strings.Contains(err.Error(), "the disk cannot read it") {
					t.Fatalf("%s, sector %d: the pass found %v", name, sector, err)
				}
			}
			if n := len(found.errs); n > 6 || n == 0 && len(found.mended) == 0 {
				t.Errorf("%s, sector %d: the pass found %v, %q", name, sector, found.errs, found.mended)
			}
			if err := healFrom(s, theirs); err != nil {
				t.Errorf("%s, sector %d: %v", name, sector, err)
			}
			if found := scrub(s); len(found.errs)+len(found.mended)+len(s.Damaged()) > 0 {
				t.Errorf("%s, sector %d: when it is healed, the pass finds %v, %q", name, sector, found.errs, found.mended)
			}
		}
	}
	bad("base", 0)
	if found := scrub(s); len(found.errs) != 1 {
		t.Errorf("the pass finds of the base: %v", found.errs)
	} else if _, ok := errors.AsType[*state.BaseError](found.errs[0]); !ok {
		t.Errorf("the pass finds of the base: %v", found.errs[0])
	}
	if err := s.HealBase(); err != nil {
		t.Error(err)
	}
	mustHold(t, s.Head(), c.model)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk = must(memfs.Load(dir))
	o.FS = disk
	names := must(disk.ReadDir("blocks"))
	last := "blocks/" + names[len(names)-1]
	bad(last, (must(must(disk.Open(last, false)).Size())-1)/512)
	if s = open(t, "", o); s.Head().Height() != 38 {
		t.Errorf("without its last block the store begins at height %d", s.Head().Height())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFailingDisk injects errors that a disk reports itself.
func TestFailingDisk(t *testing.T) {
	t.Run("a sync fails", func(t *testing.T) {
		disk := memfs.New()
		o := state.Options{FS: disk, Memory: true, Synchronous: true}
		s := open(t, "group", o)
		c := newChain(1)
		c.commit(t, s)
		broken := errors.New("input/output error")
		disk.SetHook(func(op memfs.Op, _ string, _ int) error {
			if op == memfs.OpSync {
				return broken
			}
			return nil
		})
		b, next, _ := c.next(t, s.Head())
		if err := s.Commit(b, next); !errors.Is(err, broken) {
			t.Fatalf("Commit: %v, want the disk's error", err)
		}
		disk.SetHook(nil)
		// After a failed sync nobody knows what is on the disk: the store must not go on.
		if err := s.Commit(b, next); !errors.Is(err, broken) {
			t.Fatalf("Commit after a failed sync: %v, want the same error", err)
		}
		if got := s.Head().Height(); got != 0 {
			t.Errorf("the head is at height %d, want 0", got)
		}
		s.Close()
		s = open(t, "group", o)
		if got := s.Head().Height(); got > 1 {
			t.Errorf("after opening again the head is at height %d", got)
		}
	})
	t.Run("the disk is full", func(t *testing.T) {
		disk := memfs.New()
		disk.SetLimit(10_000)
		o := state.Options{FS: disk, Memory: true, Synchronous: true}
		s := open(t, "group", o)
		c := newChain(1)
		var err error
		n := 0
		parent := state.Empty(suite)
		for err == nil {
			b, next, model := c.next(t, parent)
			if err = s.Commit(b, next); err == nil {
				c.model = model
				parent = s.Head()
				n++
			}
		}
		if !errors.Is(err, memfs.ErrFull) || n < 3 {
			t.Fatalf("after %d blocks Commit gives %v, want ErrFull", n, err)
		}
		s.Close()
		disk.SetLimit(0)
		s = open(t, "group", o)
		mustHold(t, s.Head(), c.model)
		for range 5 {
			c.commit(t, s)
		}
	})
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, state.Options{})
	if _, err := state.Open(dir, suite, nil); !errors.Is(err, state.ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
}

// branchKeys returns where the first and last bytes of the keys in bbolt's branch pages are.
func branchKeys(original []byte) (places []int) {
	const pageSize, branch, headSize, elementSize = 4096, 1, 16, 16 // flag of a page, its header, and pos uint32, ksize uint32, pgid uint64 of each key
	for at := 0; at+pageSize <= len(original); at += pageSize {
		page := original[at : at+pageSize]
		if binary.NativeEndian.Uint16(page[8:]) != branch {
			continue
		}
		for i := range int(binary.NativeEndian.Uint16(page[10:])) {
			element := page[headSize+i*elementSize:]
			key := at + headSize + i*elementSize + int(binary.NativeEndian.Uint32(element))
			places = append(places, key, key+int(binary.NativeEndian.Uint32(element[4:]))-1)
		}
	}
	return places
}

// TestBranchFlips flips bits in the keys of bbolt's branch pages, which have no checksum. A search is led astray by that while a scan is
// not; the store notices when it opens, or the page was not in use.
func TestBranchFlips(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true}
	dir, c, head := grown(t, 22, 40, o)
	file := filepath.Join(dir, "state.db")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	places := branchKeys(original)
	if len(places) < 20 {
		t.Fatalf("the branch pages have %d keys, too few to try", len(places)/2)
	}
	rng := rand.New(rand.NewPCG(22, 4))
	rng.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	noticed := 0
	for _, at := range places[:min(len(places), 40)] {
		data := bytes.Clone(original)
		data[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		told := o
		notices := 0
		told.Notice = func(string) { notices = 1 }
		s := open(t, dir, told)
		noticed += notices
		if s.Head() == nil || s.Head().Hash() != head {
			t.Fatalf("byte %d: the head is not the block that was committed", at)
		}
		mustHold(t, s.Head(), c.model)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if noticed < 5 {
		t.Errorf("%d of 40 flips were noticed", noticed)
	}
}

// TestMakingInterrupted leaves what a crash may leave of a file of tables that was being made: it is no damage, and nobody is told of any.
func TestMakingInterrupted(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true}
	dir, c, head := grown(t, 23, 12, o)
	for _, name := range []string{"state.db", "index.db"} {
		whole, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, left := range [][]byte{nil, whole[:100], whole[:8192], bytes.Repeat([]byte{0xff}, 16384)} {
			if err := errors.Join(os.Remove(filepath.Join(dir, name)), os.WriteFile(filepath.Join(dir, name+".new"), left, 0o600)); err != nil {
				t.Fatal(err)
			}
			told := o
			told.Notice = func(s string) { t.Errorf("%d bytes of %s left: %s", len(left), name, s) }
			s := open(t, dir, told)
			if s.Head() == nil || s.Head().Hash() != head {
				t.Fatalf("%d bytes of %s left: the head is not the block that was committed", len(left), name)
			}
			mustHold(t, s.Head(), c.model)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dir, name+".new")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s.new is there still: %v", name, err)
			}
		}
	}
}

// TestIndexBranchFlips flips bits in the keys of the branch pages of the index. Transactions are found all the same, and others are not: one that was
// not found could be put into a block again. A pass of Scrub sets the index aside before it compares rows, and the next start makes it again.
// Where a row would be put that others would be hidden by, the store stops.
func TestIndexBranchFlips(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 8, Synchronous: true}
	dir := filepath.Join(t.TempDir(), "group")
	s, c := open(t, dir, o), newChain(25)
	c.txs = 100
	for range 30 {
		c.commit(t, s)
	}
	places := map[ledger.TxID]ledger.Height{}
	for h := range ledger.Height(30) {
		for _, r := range must(s.Receipts(h)) {
			places[r.Tx] = h
		}
	}
	head := s.Head().Hash()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stopped := must(memfs.Load(dir))
	original, err := os.ReadFile(filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	keys := branchKeys(original)
	if len(keys) < 40 {
		t.Fatalf("the branch pages have %d keys, too few to try", len(keys)/2)
	}
	rng := rand.New(rand.NewPCG(25, 1))
	rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	asides, stops := 0, 0
	for _, at := range keys[:12] {
		dir := t.TempDir()
		if err := stopped.Save(dir); err != nil {
			t.Fatal(err)
		}
		data := bytes.Clone(original)
		data[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(filepath.Join(dir, "index.db"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, o)
		find := func(when string) {
			for id, want := range places {
				if h, _, found, err := s.FindTx(id); err != nil || !found || h != want {
					t.Fatalf("byte %d, %s: a transaction of block %d is found: %t, in block %d, %v", at, when, want, found, h, err)
				}
				id[rng.IntN(len(id))] ^= 1 << rng.IntN(8)
				if _, _, found, err := s.FindTx(id); found || err != nil {
					t.Fatalf("byte %d, %s: another transaction is found: %t, %v", at, when, found, err)
				}
			}
		}
		find("when the store is opened")
		c, parent := newChain(25+uint64(at)), s.Head()
		c.txs = 100
		for range 14 {
			b, next, _ := c.next(t, parent)
			if err := s.Commit(b, next); err != nil {
				if !strings.Contains(err.Error(), "comes to others") {
					t.Errorf("byte %d: Commit: %v", at, err)
				}
				stops++
				break
			}
			parent = s.Head()
		}
		find("with more blocks")
		if found := scrub(s); len(found.errs) > 0 {
			t.Errorf("byte %d: the pass found %v", at, found.errs)
		} else if len(found.mended) > 0 {
			asides++
			if len(found.mended) > 1 || !strings.Contains(found.mended[0], "is kept as") {
				t.Errorf("byte %d: the pass found %q", at, found.mended)
			}
		}
		find("after a pass")
		_ = s.Close() // it may have stopped
		s = open(t, dir, o)
		if _, err := s.Header(29); err != nil || must(s.BlockHash(29)) != head {
			t.Errorf("byte %d: after a restart block 29 is another, %v", at, err)
		}
		if found := scrub(s); len(found.errs)+len(found.mended) > 0 {
			t.Errorf("byte %d: after a restart a pass finds %v, %q", at, found.errs, found.mended)
		}
		if err := errors.Join(consistent(s), s.Close()); err != nil {
			t.Errorf("byte %d: after a restart: %v", at, err)
		}
	}
	if asides < 3 || stops < 1 {
		t.Errorf("of 12 flips %d were found by a pass, and %d stopped the store", asides, stops)
	}
}

// TestSetAsideAgain has a disk that damages something each time the store is stopped. What is set aside does not grow without bound, and
// nothing of a block is overwritten.
func TestSetAsideAgain(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 6_000, SetAside: true}
	dir, _, head := grown(t, 24, 80, o)
	var notices []string
	o.Notice = func(text string) { notices = append(notices, text) }
	for _, name := range []string{"state.db", "index.db"} {
		notices = nil
		for range 4 {
			if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("hello "), 4000), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, o)
			if s.Head().Hash() != head {
				t.Errorf("the head is at height %d", s.Head().Height())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if kept := must(filepath.Glob(filepath.Join(dir, name+".*"))); len(kept) != 1 {
			t.Errorf("of %s %q are kept, want one", name, kept)
		}
		if len(notices) != 4 || strings.Contains(notices[0], "in the place of") || !strings.Contains(notices[3], "in the place of") {
			t.Errorf("notices %q", notices)
		}
	}
	aside := func() map[string][]byte {
		return readFiles(t, must(filepath.Glob(filepath.Join(dir, "blocks", "*.damaged*"))))
	}
	rng := rand.New(rand.NewPCG(24, 1))
	refused := false
	before := aside()
	for h := ledger.Height(79); !refused; h-- {
		if err := flipBlock(dir, h, rng); err != nil {
			t.Fatal(err)
		}
		s, err := state.Open(dir, suite, &o)
		if refused = err != nil; refused {
			if !strings.Contains(err.Error(), "move these files away") || !errors.Is(err, state.ErrDamaged) {
				t.Errorf("Open: %v", err)
			}
		} else if got := s.Head().Height(); got != h-1 {
			t.Fatalf("without block %d the head is at height %d", h, got)
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		after := aside()
		for name, data := range before {
			if !bytes.Equal(after[name], data) {
				t.Errorf("%s was set aside, and is overwritten", name)
			}
		}
		if n := len(after) - len(before); n != 1 && !refused || n != 0 && refused {
			t.Errorf("%d files are set aside for block %d; refused: %t", n, h, refused)
		}
		size := 0
		for _, data := range after {
			size += len(data)
		}
		if before = after; len(before) > 32 || size > 9*6_000 {
			t.Fatalf("%d files with %d bytes are kept", len(before), size)
		}
	}
	if len(before) < 5 {
		t.Errorf("%d files are kept", len(before))
	}
	for name := range before {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(t, dir, o).Close(); err != nil {
		t.Error(err)
	}
}
