package plugins

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLimits looks at what the kernel knows of a running program, and of one that has a lower limit already.
func TestLimits(t *testing.T) {
	h := newHost(t, Config{})
	start(t, h, self("echo"))
	pid := h.Status()[0].Pid
	if score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); err != nil || strings.TrimSpace(string(score)) != "1000" {
		t.Errorf("oom_score_adj is %q, %v", score, err)
	}
	limit := func(resource int) uint64 {
		t.Helper()
		var l unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &l); err != nil || l.Cur != l.Max {
			t.Fatalf("limit %d is %+v, %v", resource, l, err)
		}
		return l.Cur
	}
	if core, file := limit(unix.RLIMIT_CORE), limit(unix.RLIMIT_FSIZE); core != 0 || file != maxProgramFile {
		t.Errorf("the program may write %d bytes of core and files of %d, want 0 and %d", core, file, maxProgramFile)
	}
	memory := limit(unix.RLIMIT_DATA)
	if memory <= maxProgramMemory || memory == unix.RLIM_INFINITY {
		t.Errorf("the program may have %d bytes, want more than %d by what it has", memory, maxProgramMemory)
	}
	for _, c := range []struct{ to, want uint64 }{{memory - 1, memory - 1}, {memory, memory - 1}} {
		if err := lower(pid, unix.RLIMIT_DATA, c.to); err != nil || limit(unix.RLIMIT_DATA) != c.want {
			t.Errorf("lower to %d: %v, and it is %d, want %d", c.to, err, limit(unix.RLIMIT_DATA), c.want)
		}
	}
}
