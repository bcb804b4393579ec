//go:build unix && !linux

package plugins

import (
	"os"
	"syscall"
)

// processAttributes puts the program into a process group of its own, away from the terminal's signals.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killTree(p *os.Process) {
	_ = p.Kill()
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
}
