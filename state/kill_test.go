package state_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// killDir, when set, makes this test binary a process that a test kills while it does what killWork names.
const (
	killDir  = "FONDACO_TEST_KILL_DIR"
	killWork = "FONDACO_TEST_KILL_WORK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		switch os.Getenv(killWork) {
		case "prune":
			pruneOnce(dir)
		case "import":
			importOnce(dir)
		default:
			commitForever(dir)
		}
	}
	debug.SetGCPercent(1_600) // stores here are small, and opened thousands of times
	os.Exit(m.Run())
}

// few are options by which a store needs many files and transactions for little.
var few = state.Options{Recent: 4, FlushBlocks: 4, SegmentBytes: 3_000, FlushBytes: 1 << 10}

// pruneOnce prunes the store in a folder a bit more than it is.
func pruneOnce(dir string) {
	s, err := state.Open(dir, suite, &few)
	if err == nil {
		fmt.Println("begun")
		err = s.Prune(s.Kept() + 9)
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

// importOnce imports the store in the folder whole into the folder copy, and opens that.
func importOnce(dir string) {
	s, err := state.Open(filepath.Join(dir, "whole"), suite, &few)
	if err == nil {
		all := copyOf(&fatal{}, s, killKept)
		fmt.Println("begun")
		if err = all.into(filepath.Join(dir, "copy"), &few); errors.Is(err, state.ErrStore) { // killed behind it
			err = nil
		}
	}
	if err == nil {
		_, err = state.Open(filepath.Join(dir, "copy"), suite, &few)
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

// killKept is from where on an import that is killed has blocks in full.
const killKept = 30

// killed runs this test binary for some work in a folder and kills it so long after it has begun. It reports whether it was
// done before.
func killed(t *testing.T, dir, work string, after time.Duration) (done bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("no path to this test binary: %v", err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killDir+"="+dir, killWork+"="+work)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch line := lines.Text(); line {
		case "begun":
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		case "done":
			done = true
		default:
			cmd.Process.Kill()
			t.Errorf("the process says %q", line)
		}
	}
	if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the process ended with %v", err)
	}
	return done
}

// history makes a store of many blocks in a folder, and returns the world state.
func history(t *testing.T, dir string) map[string]string {
	t.Helper()
	s := open(t, dir, few)
	c := newChain(30)
	for range 60 {
		c.commit(t, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c.model
}

// TestKillPrune kills a process that prunes, again and again: what is there is the store as it was, or as it was to be.
func TestKillPrune(t *testing.T) {
	dir := t.TempDir()
	model := history(t, dir)
	if err := os.CopyFS(dir+"-whole", os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir + "-whole") })
	whole := open(t, dir+"-whole", few)
	last := ledger.Height(0)
	for round := range 10 {
		done := killed(t, dir, "prune", time.Duration(round%5)*4*time.Millisecond)
		s := open(t, dir, few)
		kept := s.Kept()
		if kept != last && kept != last+9 || done && kept == last {
			t.Fatalf("round %d: blocks from %d on are kept, after %d", round, kept, last)
		}
		last = kept
		mustBePruned(t, s, whole, kept, model)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if last > 40 {
			break
		}
	}
	t.Logf("in the end, blocks from %d on are kept", last)
}

// TestKillImport kills a process that imports and opens what it imported, later each time, until it is through.
func TestKillImport(t *testing.T) {
	dir := t.TempDir()
	model := history(t, filepath.Join(dir, "whole"))
	kills := 0
	for after := time.Duration(0); !killed(t, dir, "import", after); after += 8 * time.Millisecond {
		kills++
	}
	whole := open(t, filepath.Join(dir, "whole"), few)
	mustBePruned(t, open(t, filepath.Join(dir, "copy"), few), whole, killKept, model)
	t.Logf("%d kills", kills)
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

func (f *fatal) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

func (*fatal) Fatalf(format string, args ...any) {
	fmt.Println("error", fmt.Sprintf(format, args...))
	os.Exit(1)
}

// TestKill kills a process that commits blocks, again and again, and expects every block that it reported.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("no path to this test binary: %v", err)
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
