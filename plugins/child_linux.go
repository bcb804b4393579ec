package plugins

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxProgramFile bounds each file that a program writes, in bytes: none of a provider's has a hundredth of it.
	maxProgramFile = 1 << 30
	// maxProgramMemory bounds what a program allocates after the handshake, in bytes.
	maxProgramMemory = 2 << 30
)

// processAttributes puts the program into a process group of its own, away from the terminal's signals, and
// has the kernel kill it when the node dies.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func killTree(p *os.Process) {
	_ = p.Kill()
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
}

// mayExecute says why programs may not be executed in a folder.
func mayExecute(folder string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", folder, err)
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return fmt.Errorf("%s is mounted noexec", folder)
	}
	return nil
}

// restrain has the kernel end a process first where memory is short (proc(5), oom_score_adj), and bounds what it writes. Its own
// children inherit that.
func restrain(pid int) error {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0)
	return errors.Join(err, lower(pid, unix.RLIMIT_CORE, 0), lower(pid, unix.RLIMIT_FSIZE, maxProgramFile))
}

// boundMemory bounds what a process allocates beyond what it has. Only what is mapped to be written counts (setrlimit(2), RLIMIT_DATA): the
// addresses that Go and others reserve do not.
func boundMemory(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmData:"))
	text, _, found := bytes.Cut(rest, []byte(" kB\n"))
	kilobytes, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 54)
	if !found || err != nil { // it has ended
		return nil
	}
	return lower(pid, unix.RLIMIT_DATA, kilobytes<<10+maxProgramMemory)
}

// lower sets a limit of a process, unless it has a lower one.
func lower(pid, resource int, to uint64) error {
	var now unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &now); err != nil {
		return fmt.Errorf("prlimit: %w", err)
	}
	to = min(to, now.Max)
	if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: min(to, now.Cur), Max: to}, nil); err != nil {
		return fmt.Errorf("prlimit: %w", err)
	}
	return nil
}
