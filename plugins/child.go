package plugins

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// grace is how long a program's output is read after it ended: someone else may still hold the pipe.
const grace = 100 * time.Millisecond

// child is one operating-system process; it is go-plugin's runner.Runner. Its standard input is a pipe that
// ends when the host does.
type child struct {
	cmd            *exec.Cmd
	stdin          *os.File
	stdout, stderr *os.File
	ends           []*os.File      // of the pipes, that the process inherits
	alive          context.Context // when it ends, so does the process
	exited         chan struct{}
	drained        chan struct{} // closed when also its output has been read
	killing        sync.Once
	restrained     error // why the process does not have all of its limits
}

func newChild(alive context.Context, path, name string, args, env []string) (*child, error) {
	c := &child{alive: alive, exited: make(chan struct{}), drained: make(chan struct{})}
	c.cmd = &exec.Cmd{Path: path, Args: append([]string{name}, args...), Env: env, Dir: "/", SysProcAttr: processAttributes()}
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		closeAll(in, stdin)
		return nil, err
	}
	stderr, fail, err := os.Pipe()
	if err != nil {
		closeAll(in, stdin, stdout, out)
		return nil, err
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = in, out, fail
	c.stdin, c.stdout, c.stderr, c.ends = stdin, stdout, stderr, []*os.File{in, out, fail}
	return c, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Start starts the process, and sees to it that the pipes are closed when it has ended.
func (c *child) Start(context.Context) error {
	err := c.cmd.Start()
	closeAll(c.ends...)
	if err != nil {
		closeAll(c.stdin, c.stdout, c.stderr)
		close(c.exited)
		return fmt.Errorf("execute the program: %w", err)
	}
	c.restrained = restrain(c.pid())
	unwatch := context.AfterFunc(c.alive, c.kill)
	go func() {
		_ = c.cmd.Wait()
		unwatch()
		close(c.exited)
		time.Sleep(grace)
		closeAll(c.stdin, c.stdout, c.stderr)
	}()
	return nil
}

func (c *child) pid() int {
	if c.cmd.Process == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// kill ends the process and its children at once. It may be called at any time after Start, and more than once.
func (c *child) kill() {
	if c.cmd.Process == nil {
		return
	}
	c.killing.Do(func() {
		select {
		case <-c.exited: // its number may belong to another process by now
		default:
			killTree(c.cmd.Process)
		}
	})
}

// state says how the process ended. Call it after drained is closed.
func (c *child) state() string {
	if c.cmd.ProcessState == nil {
		return "it never ran"
	}
	return c.cmd.ProcessState.String()
}

// Wait waits until the process has ended. go-plugin calls it once, when it has read all output.
func (c *child) Wait(context.Context) error {
	<-c.exited
	close(c.drained)
	return nil
}

// The rest of runner.Runner.

func (c *child) Kill(context.Context) error      { c.kill(); return nil }
func (c *child) Stdout() io.ReadCloser           { return c.stdout }
func (c *child) Stderr() io.ReadCloser           { return c.stderr }
func (c *child) Name() string                    { return c.cmd.Args[0] }
func (c *child) ID() string                      { return fmt.Sprint(c.pid()) }
func (c *child) Diagnose(context.Context) string { return "" }
func (c *child) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
