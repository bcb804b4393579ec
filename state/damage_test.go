package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
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

// TestDamagedSegments tells a crash from damage: what a crash can leave is cut off, the rest is an error that
// names the file and the block.
func TestDamagedSegments(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000, Memory: true}
	dir, c, _ := grown(t, 22, 60, o)
	blocks := filepath.Join(dir, "blocks")
	entries, err := os.ReadDir(blocks)
	if err != nil || len(entries) < 3 {
		t.Fatalf("%d segments, %v; want several", len(entries), err)
	}
	originals := map[string][]byte{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(blocks, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		originals[e.Name()] = data
	}
	first, second, last := entries[0].Name(), entries[1].Name(), entries[len(entries)-1].Name()
	lastFrame := func(d []byte) int { return strings.LastIndex(string(d), "blck") }
	for _, tt := range []struct {
		name   string
		file   string
		apply  func(d []byte) []byte // nil: the file is removed
		lost   int                   // blocks that are gone, when it is repaired
		reason string                // part of the error, when it is not
	}{
		{"nothing is damaged", last, func(d []byte) []byte { return d }, 0, ""},
		{"the last frame is cut", last, func(d []byte) []byte { return d[:len(d)-7] }, 1, ""},
		{"the last frame's head is cut", last, func(d []byte) []byte { return d[:lastFrame(d)+5] }, 1, ""},
		{"the last frame is partly zero", last, func(d []byte) []byte { clear(d[lastFrame(d)+40 : lastFrame(d)+160]); return d }, 1, ""},
		{"the last frame is all zero", last, func(d []byte) []byte { clear(d[lastFrame(d):]); return d }, 1, ""},
		{"zeros follow the last frame", last, func(d []byte) []byte { return append(d, make([]byte, 700)...) }, 0, ""},
		{"a byte in the middle of the last segment is changed", last, func(d []byte) []byte { d[60] ^= 1; return d }, 0, "checksum, and blocks follow"},
		{"a length in the middle is changed", last, func(d []byte) []byte { d[29] ^= 1; return d }, 0, "checksum, and blocks follow"},
		{"a byte in an earlier segment is changed", second, func(d []byte) []byte { d[len(d)-3] ^= 1; return d }, 0, "does not have its checksum"},
		{"an earlier segment is cut", second, func(d []byte) []byte { return d[:len(d)-3] }, 0, "the file ends within the frame"},
		{"an earlier segment is cut between frames", second, func(d []byte) []byte { return d[:lastFrame(d)] }, 0, "the file is missing"},
		{"a segment's head is changed", second, func(d []byte) []byte { d[3] ^= 1; return d }, 0, "does not begin as it must"},
		{"the last segment's head is changed", last, func(d []byte) []byte { d[3] ^= 1; return d }, 0, "does not begin as it must"},
		{"a segment in the middle is missing", second, nil, 0, "the file is missing"},
		{"the first segment is missing", first, nil, 0, "the file is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, data := range originals {
				data = append([]byte(nil), data...)
				if name == tt.file {
					if tt.apply == nil {
						if err := os.Remove(filepath.Join(blocks, name)); err != nil {
							t.Fatal(err)
						}
						continue
					}
					data = tt.apply(data)
				}
				if err := os.WriteFile(filepath.Join(blocks, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var notices []string
			o := o
			o.Notice = func(s string) { notices = append(notices, s) }
			s, err := state.Open(dir, suite, &o)
			if tt.reason != "" {
				bad, ok := errors.AsType[*state.SegmentError](err)
				if !ok || !strings.Contains(err.Error(), tt.reason) || !strings.Contains(err.Error(), blocks) {
					t.Fatalf("Open: %v, want a SegmentError with %q and the file", err, tt.reason)
				}
				if tt.name == "a byte in the middle of the last segment is changed" && fmt.Sprintf("%012d.blocks", bad.Height) != last {
					t.Errorf("the error is about block %d, want the first of %s", bad.Height, last)
				}
				return
			}
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			defer s.Close()
			if want := ledger.Height(59 - tt.lost); s.Head().Height() != want {
				t.Errorf("the head is at height %d, want %d", s.Head().Height(), want)
			}
			if tt.lost > 0 && (len(notices) != 1 || !strings.Contains(notices[0], "cut off the incomplete frame of block 59")) {
				t.Errorf("notices %q, want one that tells of block 59", notices)
			}
			model := maps.Clone(c.model)
			c.commit(t, s)
			c.model = model
		})
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
