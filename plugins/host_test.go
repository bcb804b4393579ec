//go:build unix

package plugins

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// logged is the log of a host under test.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newHost(t testing.TB, c Config) *Host {
	t.Helper()
	h := New(c)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if h.scratch == nil {
			return
		}
		if _, err := os.Lstat(h.scratch.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Close left %s: %v", h.scratch.path, err)
		}
	})
	return h
}

func start(t testing.TB, h *Host, s Spec) *Engine {
	t.Helper()
	e, err := h.Engine(t.Context(), s)
	if err != nil {
		t.Fatalf("Engine(%s): %v", s.Name, err)
	}
	return e
}

// config is enough of a group for the engines here: one member, and a head.
func config(height ledger.Height) consensus.Config {
	c := consensus.Config{Suite: "std", Group: "main"}
	c.Epoch.Members = make([]ledger.Member, 1)
	c.Head.Order.Height = height
	return c
}

func begin(t testing.TB, e consensus.Engine, height ledger.Height, journal ...consensus.Record) []consensus.Effect {
	t.Helper()
	effects, err := e.Init(config(height), journal)
	if err != nil {
		t.Fatalf("Init: %v", err)
	}
	return effects
}

func TestEngine(t *testing.T) {
	log := new(logged)
	h := newHost(t, Config{Log: zerolog.New(log), Timeout: time.Minute})
	s := self("echo")
	s.Config = []byte("fast")
	e := start(t, h, s)

	t.Run("the program introduces itself", func(t *testing.T) {
		if m := e.Manifest(); m.Name != "echo" || m.Wire != 1 {
			t.Errorf("Manifest = %+v", m)
		}
		st := h.Status()[0]
		if st.Pid == 0 || !st.Healthy || st.Version != "echo 1.2.3" || st.Reason != "running" || st.Restarts != 0 {
			t.Errorf("Status = %+v", st)
		}
	})
	t.Run("journal, settings and head arrive", func(t *testing.T) {
		engine := e.New()
		effects := begin(t, engine, 41, consensus.Record("one"), consensus.Record("two"))
		if got, want := fmt.Sprintf("%s", effects), "[{{} [one two] %!s(bool=true)} {{} fast %!s(ledger.Height=0) %!s(uint64=0) 0x"; !strings.HasPrefix(got, want) {
			t.Errorf("Init = %s, want %s…", got, want)
		}
		if got := engine.Status().Height; got != 41 {
			t.Errorf("Status.Height = %d, want 41", got)
		}
	})
	t.Run("groups have engines of their own", func(t *testing.T) {
		a, b := e.New(), e.New()
		begin(t, a, 1)
		begin(t, b, 2)
		for range 3 {
			if _, err := a.Step(consensus.Pending{}); err != nil {
				t.Fatal(err)
			}
		}
		if a.Status().View != 3 || b.Status().View != 0 || b.Status().Height != 2 {
			t.Errorf("views %d and %d, want 3 and 0", a.Status().View, b.Status().View)
		}
	})
	t.Run("a batch gives what its events give one by one", func(t *testing.T) {
		engine := e.New()
		begin(t, engine, 0)
		batch := make([]consensus.Event, 10_000) // more than one frame holds
		for i := range batch {
			batch[i] = consensus.Expired{}
		}
		effects, err := consensus.StepBatch(engine, batch)
		if err != nil || len(effects) != len(batch) {
			t.Fatalf("StepBatch = %d effects, %v", len(effects), err)
		}
		for i, effect := range effects {
			if got := effect.(consensus.SetTimer).Milli; got != int64(i+1) {
				t.Fatalf("effect %d is of event %d", i, got)
			}
		}
	})
	t.Run("large events and effects are spread over frames", func(t *testing.T) {
		engine := e.New()
		begin(t, engine, 0)
		var batch []consensus.Event
		for range 8 {
			batch = append(batch, consensus.Expired{Timer: timerLarge}, consensus.Received{Message: consensus.Message{Body: make([]byte, 1<<20)}})
		}
		effects, err := consensus.StepBatch(engine, batch)
		if err != nil || len(effects) != 8 {
			t.Fatalf("StepBatch = %d effects, %v", len(effects), err)
		}
	})
	t.Run("an engine's own error does not count as a broken program", func(t *testing.T) {
		engine := e.New()
		begin(t, engine, 0)
		_, err := engine.Step(consensus.Expired{Timer: timerError})
		if err == nil || errors.Is(err, consensus.ErrEngineDown) || err.Error() != "engine echo: view 1 is inconsistent" {
			t.Errorf("Step: %v", err)
		}
	})
	t.Run("an event before Init is refused", func(t *testing.T) {
		if _, err := e.New().Step(consensus.Expired{}); !errors.Is(err, consensus.ErrEngineDown) {
			t.Errorf("Step: %v", err)
		}
	})
	t.Run("too few members", func(t *testing.T) {
		_, err := e.New().Init(consensus.Config{}, nil)
		if err == nil || errors.Is(err, consensus.ErrEngineDown) || !strings.Contains(err.Error(), "needs at least 1 members") {
			t.Errorf("Init: %v", err)
		}
	})
	t.Run("what the program prints is in the log", func(t *testing.T) {
		engine := e.New()
		begin(t, engine, 0)
		if _, err := engine.Step(consensus.Expired{Timer: timerPrint}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the line appears", func() bool { return strings.Contains(log.String(), `"printed":"a line from the engine"`) })
	})
	t.Run("the program inherits nothing", func(t *testing.T) {
		env, dir := environment(t, h.Status()[0].Pid)
		if dir != "/" {
			t.Errorf("working directory %s", dir)
		}
		for _, v := range env {
			if !strings.HasPrefix(v, "PLUGIN_") && !strings.HasPrefix(v, "FONDACO_PLUGIN=") && v != CopiesVariable+"="+h.scratch.path {
				t.Errorf("inherited %s", v)
			}
		}
	})
	t.Run("a name is used once", func(t *testing.T) {
		if _, err := h.Engine(t.Context(), s); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("Engine: %v", err)
		}
	})
}

// stepUntilDown steps until the engine does not answer: a signal takes effect some time after kill(2) returns.
func stepUntilDown(e consensus.Engine) error {
	for {
		if _, err := e.Step(consensus.Expired{}); err != nil {
			return err
		}
	}
}

// TestRecovery tells how a group gets over a program that fails in each way it can.
func TestRecovery(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason string // a regular expression: a death is told by the process or by the connection, whichever is noticed first
		harm   func(h *Host, e consensus.Engine) error
	}{
		{"killed", "the connection broke|it exited: signal: killed", func(h *Host, e consensus.Engine) error {
			if err := syscall.Kill(h.Status()[0].Pid, syscall.SIGKILL); err != nil {
				return err
			}
			return stepUntilDown(e)
		}},
		{"panics", "its last words: panic: asked to", func(_ *Host, e consensus.Engine) error {
			_, err := e.Step(consensus.Expired{Timer: timerPanic})
			return err
		}},
		{"hangs", "it did not answer frame 2 within 200ms", func(_ *Host, e consensus.Engine) error {
			_, err := e.Step(consensus.Expired{Timer: timerHang})
			return err
		}},
		{"stopped by a signal", `it did not answer frame \d+ within 200ms`, func(h *Host, e consensus.Engine) error {
			if err := syscall.Kill(h.Status()[0].Pid, syscall.SIGSTOP); err != nil {
				return err
			}
			return stepUntilDown(e)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := new(logged)
			h := newHost(t, Config{Log: zerolog.New(log), Timeout: 200 * time.Millisecond})
			made := start(t, h, self("echo"))
			e := made.New()
			begin(t, e, 7, consensus.Record("a vote"))
			before := h.Status()[0].Pid

			err := c.harm(h, e)
			if !errors.Is(err, consensus.ErrEngineDown) {
				t.Fatalf("error %v, want consensus.ErrEngineDown", err)
			}
			if _, err := e.Step(consensus.Expired{}); !errors.Is(err, consensus.ErrEngineDown) {
				t.Errorf("the next Step: %v", err)
			}

			next := made.New() // what a group does: a new engine, with the journal as it is on disk
			effects := begin(t, next, 7, consensus.Record("a vote"))
			if got := effects[0].(consensus.Persist).Records; len(got) != 1 || string(got[0]) != "a vote" {
				t.Errorf("journal %q", got)
			}
			if _, err := next.Step(consensus.Expired{}); err != nil {
				t.Errorf("Step after recovery: %v", err)
			}
			st := h.Status()[0]
			if st.Pid == before || st.Restarts != 1 || !st.Healthy {
				t.Errorf("Status = %+v, was pid %d", st, before)
			}
			if !regexp.MustCompile(c.reason).MatchString(log.String()) {
				t.Errorf("log does not say %q:\n%s", c.reason, log)
			}
		})
	}
	t.Run("the same Client can be started again", func(t *testing.T) {
		h := newHost(t, Config{})
		made := start(t, h, self("echo"))
		e := made.New()
		begin(t, e, 0)
		if err := made.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Step(consensus.Expired{}); !errors.Is(err, consensus.ErrEngineDown) {
			t.Errorf("Step: %v", err)
		}
		begin(t, e, 0)
		if _, err := e.Step(consensus.Expired{}); err != nil {
			t.Errorf("Step: %v", err)
		}
	})
}

// TestNonsense starts programs that break the wire's rules.
func TestNonsense(t *testing.T) {
	for name, reason := range map[string]string{
		"garbage":        "its answer to frame 1 does not decode",
		"wrong-number":   "it answered frame 1 with number 7",
		"unknown-effect": "effect of unknown kind 200",
		"enormous":       "is larger than 16711680 bytes",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, Config{Timeout: time.Minute})
			e := start(t, h, self(name)).New()
			_, err := e.Init(config(0), nil)
			if !errors.Is(err, consensus.ErrEngineDown) || !strings.Contains(err.Error(), reason) {
				t.Errorf("Init: %v\nwant: %s", err, reason)
			}
			eventually(t, "the program was started again", func() bool { return h.Status()[0].Restarts > 0 })
		})
	}
}

// TestStart names what can be wrong with a program, and what the message says to do.
func TestStart(t *testing.T) {
	path := copyOfTest(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	other := sum
	other[0]++
	args := []string{"plugin", "echo"}
	for _, c := range []struct {
		name string
		spec Spec
		want error
		says []string
	}{
		{
			"a changed program",
			Spec{Name: "x", Path: path, Args: args, SHA256: other},
			ErrChecksum,
			[]string{fmt.Sprintf("%x", sum), fmt.Sprintf("%x", other), "restore the original file"},
		},
		{
			"a program without a checksum",
			Spec{Name: "x", Path: path, Args: args},
			ErrChecksum,
			[]string{fmt.Sprintf("set sha256 = \"%x\"", sum)},
		},
		{"no such file", Spec{Name: "x", Path: path + "2", SHA256: sum}, os.ErrNotExist, []string{"check the path"}},
		{"a folder", Spec{Name: "x", Path: "/", SHA256: sum}, nil, []string{"/ is not a file"}},
		{"no name", Spec{}, nil, []string{"give the plugin a name"}},
		{"another version", self("versions", "7"), ErrVersion, []string{"Plugin version: 7, Client versions: [1]", "build the program against"}},
		{"no plugin at all", self("chatty"), nil, []string{"print nothing before"}},
		{"a program that panics", self("panics"), nil, []string{"its last words: panic: no configuration found"}},
		{"a program that says nothing", self("mute"), nil, []string{"did not shake hands within 500ms"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := 10 * time.Second
			if c.spec.Name == "mute" {
				limit = 500 * time.Millisecond
			}
			h := newHost(t, Config{StartTimeout: limit, Dir: t.TempDir()})
			_, err := h.Engine(t.Context(), c.spec)
			if err == nil {
				t.Fatal("it was started")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %q is not %q", err, c.want)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
			if n := len(h.Status()); n != 0 {
				t.Errorf("%d programs are kept", n)
			}
			if left, _ := filepath.Glob(h.config.Dir + "/unchecked-*"); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
	t.Run("the right program", func(t *testing.T) {
		h := newHost(t, Config{Dir: t.TempDir()})
		made := start(t, h, Spec{Name: "x", Path: path, Args: args, SHA256: sum})
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho another"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := made.Restart(t.Context()); err != nil {
			t.Errorf("Restart after the file was replaced: %v", err)
		}
		begin(t, made.New(), 0)
	})
	t.Run("the newest version that both know", func(t *testing.T) {
		if m := start(t, newHost(t, Config{}), self("versions", "1", "2", "3")).Manifest(); m.Wire != 1 {
			t.Errorf("Wire = %d, want 1", m.Wire)
		}
	})
	t.Run("settings that the engine refuses", func(t *testing.T) {
		s := self("echo")
		s.Config = []byte("wrong")
		_, err := start(t, newHost(t, Config{}), s).New().Init(config(0), nil)
		if err == nil || errors.Is(err, consensus.ErrEngineDown) || !strings.Contains(err.Error(), `configure: settings are "wrong"`) {
			t.Errorf("Init: %v", err)
		}
	})
	t.Run("a temporary folder with a long path", func(t *testing.T) {
		long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
		if err := os.Mkdir(long, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", long)
		h, beside := newHost(t, Config{}), newHost(t, Config{}) // two nodes of one machine
		start(t, h, self("echo"))
		start(t, beside, self("echo"))
		info, err := os.Stat(h.scratch.path)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the folder of the sockets: %v, %v; want mode 0700", info, err)
		}
		if left, err := os.ReadDir(long); err != nil || len(left) > 0 || h.scratch.path == beside.scratch.path {
			t.Errorf("sockets are in %s and %s, and %s has %v; %v", h.scratch.path, beside.scratch.path, long, left, err)
		}
		if _, err := newScratch(long, filepath.Join(long, "missing")); err == nil || !strings.Contains(err.Error(), "set TMPDIR to a folder") {
			t.Errorf("without a folder that does: %v", err)
		}
		if left, _ := os.ReadDir(long); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	})
	t.Run("a closed host", func(t *testing.T) {
		h := New(Config{})
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Engine(t.Context(), self("echo")); !errors.Is(err, ErrClosed) {
			t.Errorf("Engine: %v", err)
		}
	})
	t.Run("a caller that does not wait", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h := newHost(t, Config{})
		if _, err := h.Engine(ctx, self("echo")); !errors.Is(err, context.Canceled) {
			t.Errorf("Engine: %v", err)
		}
	})
}

// TestPause starts a program that fails again and again.
func TestPause(t *testing.T) {
	h := newHost(t, Config{MinPause: time.Hour})
	made := start(t, h, self("echo"))
	made.config.StartTimeout = 50 * time.Millisecond // how long Init waits
	e := made.New()
	begin(t, e, 0)
	if _, err := e.Step(consensus.Expired{Timer: timerPanic}); !errors.Is(err, consensus.ErrEngineDown) {
		t.Fatal(err)
	}
	eventually(t, "the status says so", func() bool { return strings.Contains(h.Status()[0].Reason, "starting again within 1h") })
	if st := h.Status()[0]; st.Healthy || st.Pid != 0 {
		t.Errorf("Status = %+v", st)
	}
	_, err := made.New().Init(config(0), nil)
	if !errors.Is(err, consensus.ErrEngineDown) || !strings.Contains(err.Error(), "panic: asked to") {
		t.Errorf("Init during the pause: %v", err)
	}
	if err := made.Restart(t.Context()); err != nil {
		t.Errorf("Restart does not wait for the pause: %v", err)
	}
}

func TestDiesWithHost(t *testing.T) {
	host, pid := startHost(t)
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	eventually(t, "the plugin is gone", func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
}

// TestScratch has a host killed, and another one remove what it left, and nothing else.
func TestScratch(t *testing.T) {
	parent, err := os.MkdirTemp("", "scratch") //nolint:usetesting // t.TempDir is longer than the path of a socket may be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	t.Setenv("TMPDIR", parent)
	killed, _ := startHost(t)
	folders := func() []string {
		found, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"[0-9]*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	left := folders()
	if len(left) != 1 {
		t.Fatalf("a host has the folders %v, want one", left)
	}
	living := newHost(t, Config{})
	start(t, living, self("echo"))
	if len(folders()) != 2 {
		t.Fatalf("while both hosts run there are %v, want two folders", folders())
	}
	// What others may have there: a folder with something in it that is reached by a link, a file, and folders of like names.
	kept := filepath.Join(parent, "kept")
	for _, path := range []string{kept, filepath.Join(parent, scratchPrefix+"notes"), filepath.Join(parent, "fondaco-42")} {
		if err := os.MkdirAll(filepath.Join(path, "work"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link, file, open := filepath.Join(parent, scratchPrefix+"1"), filepath.Join(parent, scratchPrefix+"2"), filepath.Join(parent, scratchPrefix+"3")
	if err := errors.Join(os.Symlink(kept, link), os.WriteFile(file, nil, 0o600), os.Mkdir(open, 0o755)); err != nil {
		t.Fatal(err)
	}

	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	next := newHost(t, Config{})
	start(t, next, self("echo"))
	if _, err := os.Lstat(left[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what the killed host left is there: %v", err)
	}
	for _, path := range []string{living.scratch.path, next.scratch.path, filepath.Join(kept, "work"), filepath.Join(parent, scratchPrefix+"notes", "work"), filepath.Join(parent, "fondaco-42", "work"), link, file, open} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("a start removed what is not its own: %v", err)
		}
	}
}

// TestScratchLock makes folders where their mode keeps them from being locked.
func TestScratchLock(t *testing.T) {
	parent := t.TempDir()
	mask := syscall.Umask(0o700)
	made, err := newScratch(parent)
	syscall.Umask(mask)
	if err == nil || !strings.Contains(err.Error(), scratchPrefix) {
		t.Errorf("newScratch = %+v, %v; want why it is not locked", made, err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// TestScratchSweep has more names in a folder than are read at once, with files among them that cannot be locked.
func TestScratchSweep(t *testing.T) {
	parent := t.TempDir()
	for i := range 2 * maxSwept {
		path := filepath.Join(parent, fmt.Sprint("other-", i))
		switch i % 100 {
		case 0:
			path = filepath.Join(parent, fmt.Sprint(scratchPrefix, i))
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		case 1, 2, 3, 4:
			path = filepath.Join(parent, fmt.Sprint(scratchPrefix, i))
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sweep(parent)
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 2*maxSwept*99/100 {
		t.Errorf("%d names are left, %v; want the %d files", len(left), err, 2*maxSwept*99/100)
	}
	for _, entry := range left {
		if entry.IsDir() {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

func TestDiesWhenInputEnds(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newChild(t.Context(), path, "echo", []string{"plugin", "echo"}, []string{"FONDACO_PLUGIN=engine"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.stdout.Read(make([]byte, 1)); err != nil { // it is up when it shakes hands
		t.Fatal(err)
	}
	if err := c.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	if got := c.state(); got != "exit status 0" {
		t.Errorf("it ended with %s", got)
	}
}

// zombie reports whether the process has ended and waits for someone to take note, which in a container may
// never happen.
func zombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(data), ") Z ")
}

func BenchmarkStep(b *testing.B) {
	h := newHost(b, Config{})
	e := start(b, h, self("echo")).New()
	begin(b, e, 0)
	for _, size := range []int{200, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			event := consensus.Received{Message: consensus.Message{Body: make([]byte, size)}}
			for b.Loop() {
				if _, err := e.Step(event); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("batch=16", func(b *testing.B) {
		batch := make([]consensus.Event, 16)
		for i := range batch {
			batch[i] = consensus.Expired{}
		}
		for b.Loop() {
			if _, err := consensus.StepBatch(e, batch); err != nil {
				b.Fatal(err)
			}
		}
	})
}
