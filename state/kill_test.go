package state_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// killDir, when set, makes this test binary the child of TestKill.
const killDir = "FONDACO_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		commitForever(dir)
	}
	os.Exit(m.Run())
}

// commitForever commits blocks and says which after each.
func commitForever(dir string) {
	t := &fatal{}
	s, err := state.Open(dir, suite, &state.Options{Recent: 4, FlushBlocks: 4, SegmentBytes: 50_000})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	c := newChain(uint64(os.Getpid()))
	for {
		b := c.commit(t, s)
		fmt.Println("committed", b.Header.Order.Height, b.Header.Hash(suite))
	}
}

// fatal is a testing.TB outside a test.
type fatal struct{ testing.TB }

func (*fatal) Helper() {}

func (*fatal) Fatalf(format string, args ...any) {
	fmt.Println("error", fmt.Sprintf(format, args...))
	os.Exit(1)
}

// TestKill kills a process that commits blocks, again and again, and expects every block that it reported.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Skipf("no path to this test binary: %v", err)
	}
	dir := t.TempDir()
	reported := map[ledger.Height]string{}
	for round := range 8 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), killDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			line := lines.Text()
			var h ledger.Height
			var hash string
			if _, err := fmt.Sscanf(line, "committed %d %s", &h, &hash); err != nil {
				cmd.Process.Kill()
				t.Fatalf("round %d: the process says %q", round, line)
			}
			reported[h] = hash
			if n == 5+7*round {
				// Not right after a commit, but at some moment within one.
				time.AfterFunc(time.Duration(round)*time.Millisecond, func() { cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d: the process ended with %v, want it killed", round, err)
		}
		s := open(t, dir, state.Options{})
		head := s.Head()
		if head == nil || int(head.Height()) < len(reported)-1 || int(head.Height()) > len(reported) {
			t.Fatalf("round %d: the head is %v after %d reported blocks", round, head.Height(), len(reported))
		}
		for h, want := range reported {
			if got, err := s.BlockHash(h); err != nil || got.String() != want {
				t.Fatalf("round %d: block %d has hash %s, %v; reported was %s", round, h, got, err, want)
			}
		}
		if int(head.Height()) == len(reported) { // committed, and killed before it could say so
			reported[head.Height()] = head.Hash().String()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d blocks survived 8 kills", len(reported))
}
