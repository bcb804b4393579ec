package backup

import (
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
