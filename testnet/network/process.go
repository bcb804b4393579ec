package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files of a running node, in its folder.
const (
	pidFile = "pid"
	logFile = "log"
)

// ErrNotReady says that a node did not become ready in time.
var ErrNotReady = errors.New("network: node not ready")

// Build compiles the node into the network's folder and returns the path of the binary. source is a folder
// inside the module.
func Build(ctx context.Context, source, dir string) (string, error) {
	compiler, err := exec.LookPath("go")
	if err != nil {
		return "", errors.New("the Go toolchain is not on PATH: install Go 1.26 or later from your distribution or go.dev, and try again")
	}
	binary := filepath.Join(dir, "bin", "fondaco")
	if binary, err = filepath.Abs(binary); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o700); err != nil {
		return "", fmt.Errorf("the folder %s cannot be written: %w; name another with -d", dir, err)
	}
	build := exec.CommandContext(ctx, compiler, "build", "-o", binary, "github.com/fondaco/fondaco/node/cmd/fondaco")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the node: %w\n%s\nIt is built from source: run this in the folder of fondaco's module, where ARCHITECTURE.md is", err, bytes.TrimSpace(out))
	}
	return binary, nil
}

// Binary returns the path of the network's node binary.
func (n *Network) Binary() (string, error) {
	binary, err := filepath.Abs(filepath.Join(n.Dir, "bin", "fondaco"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf("the network has no node binary (%w): start it with `up`", err)
	}
	return binary, nil
}

// Start starts a node as a process of its own, which outlives this one, and returns its process id. It does not
// wait until the node is ready. A node that runs already is left alone. args are further arguments of `fondaco run`.
// In a network with signers the node's own is started before.
func (n *Network) Start(node *Node, args ...string) (pid int, err error) {
	if pid := n.Pid(node); pid != 0 {
		return pid, nil
	}
	if n.Signers {
		if err := n.StartSigner(node); err != nil {
			return 0, err
		}
	}
	return n.spawn(node.Name, node.Dir, append([]string{"run", "-d", node.Dir}, args...)...)
}

// spawn starts the network's binary as a process of its own, whose log and process id are in a folder.
func (n *Network) spawn(name, dir string, args ...string) (pid int, err error) {
	binary, err := n.Binary()
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(filepath.Join(dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close() //nolint:errcheck // the child has its own copy
	command := exec.Command(binary, args...)
	command.Stdout, command.Stderr = out, out
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", name, err)
	}
	go command.Wait() //nolint:errcheck // reaps it while this process lives; its end is seen by Pid
	record := fmt.Sprintf("%d %s\n", command.Process.Pid, startTime(command.Process.Pid))
	if err := os.WriteFile(filepath.Join(dir, pidFile), []byte(record), 0o600); err != nil {
		return 0, errors.Join(err, command.Process.Kill())
	}
	return command.Process.Pid, nil
}

// Pid returns the process id of a running node, or 0. A process that merely got the old id is not taken for it.
func (n *Network) Pid(node *Node) int { return pidIn(node.Dir) }

// pidIn is Pid for what spawn started in a folder.
func pidIn(dir string) int {
	data, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) != 2 {
		return 0
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || startTime(pid) != fields[1] {
		return 0
	}
	return pid
}

// startTime identifies a process besides its id: on Linux the time it started. "-" where that is not to be had,
// "gone" for one that ended.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if _, noProc := os.Stat("/proc/self/stat"); noProc != nil {
			if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
				return "-"
			}
		}
		return "gone"
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	fields := bytes.Fields(after)
	// A process that was killed is a zombie before its other threads have ended, and they hold its files and locks.
	if len(fields) < 20 || fields[0][0] == 'Z' && len(fields[17]) == 1 && fields[17][0] <= '1' {
		return "gone"
	}
	return string(fields[19])
}

// Kill ends a node as a crash would (SIGKILL) and waits until it is gone.
func (n *Network) Kill(node *Node) error { return end(node.Name, node.Dir, syscall.SIGKILL) }

// Stop asks a node to end in order (SIGTERM), waits, and kills it after a while.
func (n *Network) Stop(node *Node) error { return end(node.Name, node.Dir, syscall.SIGTERM) }

// end ends what spawn started in a folder.
func end(name, dir string, signal syscall.Signal) error {
	pid := pidIn(dir)
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end %s (process %d): %w", name, pid, err)
	}
	for tries := 0; pidIn(dir) != 0; tries++ {
		if tries == 1000 {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill %s (process %d): %w", name, pid, err)
			}
		}
		if tries > 1500 {
			return fmt.Errorf("%s (process %d) does not end", name, pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return os.Remove(filepath.Join(dir, pidFile))
}

// Signal sends a signal to a running node and its plugins. It needs Linux's /proc.
func (n *Network) Signal(node *Node, signal syscall.Signal) error {
	pid := n.Pid(node)
	if pid == 0 {
		return fmt.Errorf("%s is not running", node.Name)
	}
	all, err := family(pid)
	if err != nil {
		return fmt.Errorf("find the processes of %s: %w", node.Name, err)
	}
	for _, p := range all {
		if err := syscall.Kill(p, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %v to process %d of %s: %w", signal, p, node.Name, err)
		}
	}
	return nil
}

// Processes returns the processes that run the network's binary: nodes, plugins, and what is left of them. It finds none
// without Linux's /proc.
func (n *Network) Processes() (pids []int) {
	binary, err := n.Binary()
	if err != nil {
		return nil
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if errors.Is(err, fs.ErrPermission) { // a node keeps its memory from others of its user, and this with it
			var arguments []byte
			arguments, err = os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
			target, _, _ = strings.Cut(string(arguments), "\x00")
		}
		if err == nil && target == binary {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil && startTime(pid) != "gone" {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// StopAll stops every node, and then its signer.
func (n *Network) StopAll() error {
	errs := make(chan error, len(n.Nodes))
	for i := range n.Nodes {
		node := &n.Nodes[i]
		go func() {
			errs <- errors.Join(n.Stop(node), end("the signer of "+node.Name, n.signerDir(node), syscall.SIGTERM))
		}()
	}
	var all error
	for range n.Nodes {
		all = errors.Join(all, <-errs)
	}
	return all
}

// Ready reports whether a node answers that it is ready, and if not, what it says.
func (n *Network) Ready(ctx context.Context, node *Node) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, node.Admin+"/readyz", nil)
	if err != nil {
		return err
	}
	web, err := n.HTTP()
	if err != nil {
		return err
	}
	response, err := web.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end below
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", ErrNotReady, bytes.TrimSpace(body))
	}
	return nil
}

// WaitReady waits until every node given is ready, or ctx ends, or one of them has ended by itself.
func (n *Network) WaitReady(ctx context.Context, nodes ...*Node) error {
	for _, node := range nodes {
		for {
			err := n.Ready(ctx, node)
			alive := n.Pid(node) != 0 // asked second: whoever answered may be a stranger on the same port
			if err == nil && alive {
				break
			}
			if !alive {
				return fmt.Errorf("%s ended while it started; the end of its log (%s):\n%s", node.Name, n.LogPath(node), n.logTail(node))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready (%w); see its log %s", node.Name, err, n.LogPath(node))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// LogPath returns where a node's log is.
func (n *Network) LogPath(node *Node) string { return filepath.Join(node.Dir, logFile) }

func (n *Network) logTail(node *Node) string {
	data, err := os.ReadFile(n.LogPath(node))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}
