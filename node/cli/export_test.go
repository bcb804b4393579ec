package cli

import (
	"testing"

	"github.com/fondaco/fondaco/state/memfs"
)

// TestPutInPlace cuts the power when a command has said that it wrote a file.
func TestPutInPlace(t *testing.T) {
	disk := memfs.New()
	f, err := disk.Open("backups/today.part", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("whole"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := putInPlace(disk, "backups/today.part", "backups/today"); err != nil {
		t.Fatal(err)
	}
	disk.Crash(nil)
	if names := disk.Names(); len(names) != 1 || names[0] != "backups/today" {
		t.Errorf("after a power cut there is %q", names)
	}
}
