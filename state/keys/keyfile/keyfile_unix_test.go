//go:build unix

package keyfile

import (
	"crypto/rand"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fondaco/fondaco/state/keys/keystest"
)

// A key file that could not be written to its end is not there, so that it is in nobody's way.
func TestWriteFails(t *testing.T) {
	if os.Getenv("KEYFILE_TOO_SMALL") == "" {
		process, err := os.StartProcess(os.Args[0], []string{os.Args[0], "-test.run", "^TestWriteFails$"}, &os.ProcAttr{
			Env: append(os.Environ(), "KEYFILE_TOO_SMALL="+t.TempDir()), Files: []*os.File{nil, os.Stdout, os.Stderr},
		})
		if err != nil {
			t.Fatal(err)
		}
		if state, err := process.Wait(); err != nil || !state.Success() {
			t.Fatalf("the process without room for a file: %v, %v", state, err)
		}
		return
	}
	s := keystest.Suite()
	key, err := s.Generate(s.Vote(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(os.Getenv("KEYFILE_TOO_SMALL"), "node.key")
	signal.Ignore(syscall.SIGXFSZ) // so that the write fails instead
	room := syscall.Rlimit{Cur: 10, Max: 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &room); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, key, ""); err == nil {
		t.Error("a key was written where there is room for 10 bytes")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("half a key file is there: %v", err)
	}
}
