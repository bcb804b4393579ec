package backup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSpoolSpace: a copy of the state ends before it takes the space that the node needs, and leaves nothing.
func TestSpoolSpace(t *testing.T) {
	dir := t.TempDir()
	const disk = spoolReserve + 3*spoolBuffer + 1000
	s, err := newSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.free = func(string) (int64, bool, error) {
		info, err := s.file.Stat()
		return disk - info.Size(), true, err
	}
	body := make([]byte, 100_000)
	parts := 0
	err = s.fill(t.Context(), func(yield func([]byte, error) bool) {
		for parts < 100 && yield(body, nil) {
			parts++
		}
	})
	if !errors.Is(err, ErrSpace) || !strings.Contains(err.Error(), dir) || parts == 100 {
		t.Errorf("after %d of 100 parts: %v, want ErrSpace that names the folder", parts, err)
	}
	if info, err := s.file.Stat(); err != nil || info.Size() != 3*spoolBuffer {
		t.Errorf("the copy has %d bytes, want what there is room for, %d: %v", info.Size(), 3*spoolBuffer, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}

	full := func(string) (int64, bool, error) { return 0, true, nil }
	if s, err = newSpool(dir); err != nil {
		t.Fatal(err)
	}
	s.free = full
	err = s.fill(t.Context(), func(yield func([]byte, error) bool) { yield(body, nil) })
	if info, failed := s.file.Stat(); !errors.Is(err, ErrSpace) || failed != nil || info.Size() > 0 {
		t.Errorf("on a full disk: %v, and %d bytes are written", err, info.Size())
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// TestSpoolDamaged flips each of some bits of a copy of the state: it is told, and not written into a backup.
func TestSpoolDamaged(t *testing.T) {
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.free = func(string) (int64, bool, error) { return 0, false, nil }
	parts := [][]byte{bytes.Repeat([]byte("one"), 1000), bytes.Repeat([]byte("two"), 500), []byte("three")}
	if err := s.fill(t.Context(), func(yield func([]byte, error) bool) {
		for _, p := range parts {
			if !yield(p, nil) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	read := func() (n int, err error) {
		for body, err := range s.all() {
			if err != nil {
				return n, err
			}
			if n == len(parts) || !bytes.Equal(body, parts[n]) {
				t.Fatalf("part %d is another one", n)
			}
			n++
		}
		return n, nil
	}
	if n, err := read(); n != 3 || err != nil {
		t.Fatalf("%d parts, %v", n, err)
	}
	flip := func(at int64, bit uint) {
		var b [1]byte
		if _, err := s.file.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << bit
		if _, err := s.file.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	for at := int64(0); at < s.size; at += 7 {
		flip(at, uint(at%8))
		if n, err := read(); !errors.Is(err, ErrSpool) || !strings.Contains(err.Error(), s.dir) {
			t.Fatalf("a bit of byte %d is flipped: %d parts, %v, want ErrSpool that names the folder", at, n, err)
		}
		flip(at, uint(at%8))
	}
	if err := s.file.Truncate(s.size - 1); err != nil {
		t.Fatal(err)
	}
	if n, err := read(); n != 2 || !errors.Is(err, ErrSpool) {
		t.Errorf("without its end: %d parts, %v", n, err)
	}
}

// TestRemoveSpools: what a crash left goes, and nothing else.
func TestRemoveSpools(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{spoolPrefix + "17", spoolPrefix + "4", "state.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveSpools(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "state.db" {
		t.Errorf("left: %v, %v", left, err)
	}
}
