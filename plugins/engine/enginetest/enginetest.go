// Package enginetest is the conformance suite for consensus engines: what a node relies on in an engine, checked
// before a bank runs it. The author of an engine runs it twice:
//
//	func TestEngine(t *testing.T)  { enginetest.Run(t, New, manifest) }
//	func TestProgram(t *testing.T) { enginetest.RunProgram(t, enginetest.Program{Path: "./build/engine"}) }
//
// [Run] checks the engine in the test's own process, where a failure is easy to debug. [RunProgram] starts the
// finished program as a node does, several times over, and checks its handshake and then the same rules, because the
// wire must change nothing. Each rule is a subtest with a name; a failure says the rule and what the engine did. The
// rules are listed by consensustest.Rules; what is asked depends on the manifest: of an engine for members that lie
// (BFT) more than of one for members that only stop (CFT).
//
// The suite runs on virtual time, so that it takes seconds, and it is the same in each run. It is no proof: simulate
// the engine with thousands of seeds as well (consensustest.Simulate). The README of package consensus has the bugs of
// other systems that the suite and its neighbours look for.
//
// It is one of the packages with a compatibility promise: rules may be added in a later release.
package enginetest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/engine"
)

// Run checks the engines that factory makes, in this process, by the fault model and size of the manifest with which
// the program will serve them.
func Run(t *testing.T, factory consensus.Factory, m engine.Manifest) {
	t.Helper()
	consensustest.Run(t, subject(factory, m))
}

func subject(factory consensus.Factory, m engine.Manifest) consensustest.Subject {
	return consensustest.Subject{Factory: factory, CrashOnly: m.Fault == engine.CFT, MinMembers: int(m.MinMembers)}
}

// Program is an engine program.
type Program struct {
	Path     string   // of the file; empty: the test's own binary, executed again
	Args     []string // without the program's name
	Settings []byte   // for an engine that is a Configurer
}

// RunProgram checks an engine program, running it as a node does.
func RunProgram(t *testing.T, p Program) {
	t.Helper()
	for _, r := range programRules() {
		t.Run(r.name, func(t *testing.T) {
			if err := r.check(t.Context(), p); err != nil {
				t.Errorf("rule %q, %s: %v", r.name, r.says, err)
			}
		})
	}
	if t.Failed() {
		return
	}
	c, err := start(t.Context(), p, 4) // each member of a group of four has one of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.host.Close(); err != nil {
			t.Error(err)
		}
	})
	consensustest.Run(t, c.subject())
}

// cluster is a program that runs several times.
type cluster struct {
	host    *plugins.Host
	engines []*plugins.Engine
	next    atomic.Uint32
}

func start(ctx context.Context, p Program, processes int) (*cluster, error) {
	c := &cluster{host: plugins.New(plugins.Config{Log: zerolog.Nop(), Timeout: patience, StartTimeout: patience})}
	for i := range processes {
		spec, err := p.spec(fmt.Sprintf("engine-%d", i))
		if err != nil {
			return nil, errors.Join(err, c.host.Close())
		}
		e, err := c.host.Engine(ctx, spec)
		if err != nil {
			return nil, errors.Join(err, c.host.Close())
		}
		c.engines = append(c.engines, e)
	}
	return c, nil
}

// subject makes engines in the programs by turns.
func (c *cluster) subject() consensustest.Subject {
	s := subject(func() consensus.Engine { return c.engines[int(c.next.Add(1))%len(c.engines)].New() }, c.engines[0].Manifest())
	s.Memory = c.memory
	return s
}

// memory sums what the programs hold in memory, as the kernel counts it.
func (c *cluster) memory() (uint64, error) {
	sum := uint64(0)
	for _, st := range c.host.Status() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", st.Pid))
		if errors.Is(err, os.ErrNotExist) {
			return 0, nil // no such file on this system: the rule holds for want of a measure
		}
		if err != nil {
			return 0, err
		}
		var total, resident uint64
		if _, err := fmt.Sscan(string(data), &total, &resident); err != nil {
			return 0, fmt.Errorf("read %q: %w", data, err)
		}
		sum += resident * uint64(os.Getpagesize())
	}
	return sum, nil
}

// spec names the program to a host, pinning the file as it is now.
func (p Program) spec(name string) (plugins.Spec, error) {
	s := plugins.Spec{Name: name, Args: p.Args, Config: p.Settings}
	if p.Path == "" {
		return s, nil
	}
	file, err := os.Open(p.Path)
	if err != nil {
		return s, fmt.Errorf("open the program: %w; build it first", err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return s, err
	}
	s.Path, s.SHA256 = p.Path, [32]byte(hash.Sum(nil))
	return s, nil
}

// patience is how long a program may take for what takes a few milliseconds.
const patience = 30 * time.Second

type programRule struct {
	name, says string
	check      func(context.Context, Program) error
}

func programRules() []programRule {
	return []programRule{
		{"by hand", "a program that no host started says so and exits with an error", byHand},
		{"version", "a program does not claim a version of the wire that it does not know", version},
		{"orphan", "a program exits when its standard input ends, because then its host is gone", orphan},
		{"manifest", "a program shakes hands with the node and introduces itself alike each time", manifest},
		{"side by side", "engines of several groups in one program do not touch one another", sideBySide},
		{"restart", "a program that was killed starts again, and its engine from the journal", restart},
	}
}

// command returns the program as a host would start it, with an environment of its own.
func (p Program) command(ctx context.Context, env ...string) (*exec.Cmd, error) {
	path := p.Path
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		path = self
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, p.Args...)
	cmd.Env, cmd.Dir = append([]string{"PLUGIN_UNIX_SOCKET_DIR=" + os.TempDir()}, env...), "/"
	return cmd, nil
}

func byHand(ctx context.Context, p Program) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd, err := p.command(ctx)
	if err != nil {
		return err
	}
	said, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it still runs after %s", patience)
	case err == nil:
		return fmt.Errorf("it exited without an error and said %q", said)
	case len(said) == 0:
		return errors.New("it said nothing")
	}
	return nil
}

// shakeHands starts the program with a host's cookie and the versions of the wire that the host knows, and returns
// the first line that it prints, how to end its standard input, and how to wait for it.
func shakeHands(ctx context.Context, p Program, versions string) (line string, end func() error, wait func() error, err error) {
	h := engine.Handshake()
	cmd, err := p.command(ctx, h.MagicCookieKey+"="+h.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS="+versions)
	if err != nil {
		return "", nil, nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, nil, err
	}
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, nil, errors.Join(fmt.Errorf("its handshake: it printed %q and ended: %w", line, err), in.Close(), cmd.Wait())
	}
	return line, in.Close, cmd.Wait, nil
}

func version(ctx context.Context, p Program) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	const unknown = "99"
	line, end, wait, err := shakeHands(ctx, p, unknown)
	if err != nil {
		return nil // it may end instead: then the host says that it did not shake hands
	}
	cancel() // kills it
	_, _ = end(), wait()
	if parts := strings.Split(line, "|"); len(parts) < 5 || parts[1] == unknown {
		return fmt.Errorf("a host that knows only version %s is answered %q", unknown, strings.TrimSpace(line))
	}
	return nil
}

func orphan(ctx context.Context, p Program) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, end, wait, err := shakeHands(ctx, p, fmt.Sprint(engine.MaxWire))
	if err != nil {
		return err
	}
	_, _ = end(), wait()
	if ctx.Err() != nil {
		return fmt.Errorf("it still runs %s after its standard input ended", patience)
	}
	return nil
}

func manifest(ctx context.Context, p Program) error {
	c, err := start(ctx, p, 2)
	if err != nil {
		return err
	}
	defer c.host.Close()
	for _, e := range c.engines {
		if a, b := c.engines[0].Manifest(), e.Manifest(); a != b {
			return fmt.Errorf("it is %+v, and started again %+v", a, b)
		}
	}
	return nil
}

func sideBySide(ctx context.Context, p Program) error {
	c, err := start(ctx, p, 1)
	if err != nil {
		return err
	}
	defer c.host.Close()
	for _, r := range consensustest.Rules() {
		if r.Name == "independence" {
			return r.Check(subject(c.engines[0].New, c.engines[0].Manifest()))
		}
	}
	return errors.New("there is no rule of independence")
}

func restart(ctx context.Context, p Program) error {
	c, err := start(ctx, p, 1)
	if err != nil {
		return err
	}
	defer c.host.Close()
	e := c.engines[0]
	config := consensustest.Alone(max(4, int(e.Manifest().MinMembers)))
	first := e.New()
	effects, err := first.Init(config, nil)
	if err != nil {
		return err
	}
	var journal []consensus.Record
	for _, effect := range effects {
		if persist, ok := effect.(consensus.Persist); ok {
			journal = append(journal, persist.Records...)
		}
	}
	if err := e.Restart(ctx); err != nil {
		return err
	}
	if _, err := first.Step(consensus.Expired{Timer: 1}); !errors.Is(err, consensus.ErrEngineDown) {
		return fmt.Errorf("an engine of the killed program answers with error %q, want that it is down", fmt.Sprint(err))
	}
	_, err = e.New().Init(config, journal)
	return err
}
