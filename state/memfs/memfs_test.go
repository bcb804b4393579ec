package memfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/memfs"
)

// TestImage looks at many disks that a power failure could leave, of one file that was synced and then written over, and one that
// took the place of another.
func TestImage(t *testing.T) {
	const pages, page, sector = 4, 4096, 512
	disk := memfs.New()
	write := func(name string, content byte, synced bool) {
		f, err := disk.Open(name, true)
		if err == nil {
			for i := range pages {
				_, failed := f.WriteAt(bytes.Repeat([]byte{content}, page), int64(i*page))
				err = errors.Join(err, failed)
			}
		}
		if err == nil && synced {
			err = errors.Join(f.Sync(), disk.SyncDir("."))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("file", 'a', true)
	write("file", 'b', false)
	write("old", 'c', true)
	write("new", 'd', true)
	if err := disk.Rename("new", "old"); err != nil {
		t.Fatal(err)
	}
	write("short", 'e', false)
	if err := disk.Rename("short", "other"); err != nil {
		t.Fatal(err)
	}
	content := func(image *memfs.FS, name string) []byte {
		f, err := image.Open(name, false)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, pages*page)
		if n, err := f.ReadAt(data, 0); n < len(data) {
			t.Fatalf("%s has %d bytes: %v", name, n, err)
		}
		return data
	}
	seen := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 400 {
		image := disk.Image(rng)
		if i == 0 {
			image = disk.Image(nil)
		}
		data := content(image, "file")
		written := 0
		for at := 0; at < len(data); at += sector {
			b := data[at]
			if b != 'a' && b != 'b' || bytes.Count(data[at:at+sector], []byte{b}) != sector {
				t.Fatalf("a disk writes a sector as a whole, here is %q", data[at:at+sector])
			}
			if b == 'b' {
				written++
			}
		}
		switch {
		case written == 0:
			seen["nothing"]++
		case written == len(data)/sector:
			seen["everything"]++
		case bytes.Equal(data, append(bytes.Repeat([]byte{'b'}, written*sector), bytes.Repeat([]byte{'a'}, len(data)-written*sector)...)):
			seen["the beginning"]++
		case written%(page/sector) == 0:
			seen["pages"]++
		default:
			seen["sectors"]++
		}
		if i == 0 && seen["nothing"] != 1 {
			t.Fatalf("%d sectors survived that need not", written)
		}
		names := image.Names()
		if _, there := slices.BinarySearch(names, "old"); !there {
			t.Fatalf("the name that was replaced is gone: %q", names)
		}
		if slices.Contains(names, "short") && slices.Contains(names, "other") {
			seen["two names that were both made"]++
			dir := t.TempDir()
			if err := image.Save(dir); err != nil {
				t.Fatal(err)
			}
			again, err := memfs.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			f, err := again.Open("short", true)
			if err == nil {
				err = f.Truncate(0)
			}
			if err != nil {
				t.Fatal(err)
			}
			if g, err := again.Open("other", false); err != nil {
				t.Error(err)
			} else if size, err := g.Size(); size != 0 || err != nil {
				t.Errorf("two names are of two files: one has %d bytes, %v", size, err)
			}
		}
		_, both := slices.BinarySearch(names, "new")
		switch old := content(image, "old")[0]; {
		case old == 'c' && both:
			seen["before the renaming"]++
		case old == 'd' && !both:
			seen["after the renaming"]++
		case old == 'd' && both:
			seen["within the renaming"]++
		}
	}
	for _, what := range []string{
		"nothing", "everything", "the beginning", "pages", "sectors", "before the renaming", "after the renaming", "within the renaming",
		"two names that were both made",
	} {
		if seen[what] == 0 {
			t.Errorf("no image with %s: %v", what, seen)
		}
	}
	if data := content(disk, "file"); !bytes.Equal(data, bytes.Repeat([]byte{'b'}, len(data))) {
		t.Error("making images changed the disk")
	}
}

// TestUsed: a file counts once, whatever names a crash within a renaming has left it, and until its last name goes.
func TestUsed(t *testing.T) {
	both := false
	for seed := range uint64(50) {
		disk := memfs.New()
		f, err := disk.Open("a", true)
		if err == nil {
			_, err = f.WriteAt(make([]byte, 1000), 0)
		}
		if err = errors.Join(err, f.Sync(), disk.SyncDir("."), disk.Rename("a", "b")); err != nil {
			t.Fatal(err)
		}
		disk.Crash(rand.New(rand.NewPCG(seed, 2)))
		names := disk.Names()
		if want := int64(1000 * min(len(names), 1)); disk.Used() != want {
			t.Fatalf("after a crash %d bytes are used, of %v, want %d", disk.Used(), names, want)
		}
		if len(names) == 2 {
			both = true
			if seed%2 == 0 { // onto its other name
				err = disk.Rename("a", "b")
			} else {
				err = disk.Remove("a")
			}
			if names = []string{"b"}; err != nil || disk.Used() != 1000 {
				t.Fatalf("with one name of two gone %d bytes are used, want 1000: %v", disk.Used(), err)
			}
		}
		for _, name := range names {
			if err := disk.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		if disk.Used() != 0 {
			t.Fatalf("without a file %d bytes are used", disk.Used())
		}
	}
	if !both {
		t.Error("no crash left two names")
	}
}

// TestLost: after a sync that failed, readers see what was written, and only what is written again survives a crash.
func TestLost(t *testing.T) {
	disk := memfs.New()
	f, err := disk.Open("f", true)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string, at int64) {
		t.Helper()
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(disk *memfs.FS, want string) {
		t.Helper()
		f, err := disk.Open("f", false)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, _ := f.ReadAt(got, 0)
		if string(got[:n]) != want {
			t.Errorf("the file is %q, want %q", got[:n], want)
		}
	}
	write("first", 0)
	if err := errors.Join(f.Sync(), disk.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	write("F", 0)
	write("second", 5)
	disk.SetHook(func(op memfs.Op, _ string, _ int) error {
		if op == memfs.OpSync {
			return memfs.ErrLost
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, memfs.ErrLost) {
		t.Fatalf("the sync: %v, want ErrLost", err)
	}
	disk.SetHook(nil)
	write("third", 11)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	holds(disk, "Firstsecondthird")
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		holds(disk.Image(rng), "first\x00\x00\x00\x00\x00\x00third")
	}
	write("SECOND", 5)
	holds(disk.Image(nil), "first\x00\x00\x00\x00\x00\x00third")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	holds(disk.Image(nil), "firstSECONDthird")
	holds(disk, "FirstSECONDthird")
	disk.Crash(rng)
	holds(disk, "firstSECONDthird")
}
