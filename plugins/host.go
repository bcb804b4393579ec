// Package plugins runs programs outside the node that do work for it: it finds them, checks what they are,
// starts and watches them, and starts them again when they fail. Package plugins/engine is the contract of
// consensus engines, plugins/ca the one of CA providers. plugins/README.md has the wires and a guide to what goes wrong.
//
// # What a program is trusted with
//
// A program is handed nothing of the node: no environment but what the wire wants and CopiesVariable, no open file, no key, no terminal,
// and the root folder as working directory. But it runs as the node's user, and may do what that user may: read the node's folder, with a
// key file that is not locked, and kill the node. So a node with a program of somebody else wants a key that is locked, or better one that
// a signer of another user holds. The node keeps its memory from its programs (signer.Harden), and on Linux the kernel ends a program
// before the node where memory is short, lets it write no core and no file beyond 1 GiB, and gives it at most 2 GiB of memory beyond
// what it has when it has shaken hands. It is either the node's own binary, executed again from
// the running image, or a file whose SHA-256 the configuration pins. Such a file is copied while it is hashed,
// and the copy, in a folder that only the node's user can write, is what runs: nobody can exchange the file
// between check and use.
//
// # Supervision
//
// Each program has a supervisor. It notices when the program exits, kills it when a call found it hanging or
// talking nonsense, and starts it again after a pause that doubles from Config.MinPause to Config.MaxPause
// while the program keeps failing. Programs hold no state that matters: users bring back theirs, as
// consensus.ErrEngineDown describes. A program dies with its node, however the node dies: on Linux by the
// parent-death signal, everywhere because its standard input ends.
package plugins

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/engine"
)

// Errors that callers branch on.
var (
	// ErrChecksum says that a program is not the one that the configuration names, or that it names none.
	ErrChecksum = errors.New("plugins: checksum")
	// ErrVersion says that a program and this node have no version of the wire in common.
	ErrVersion = errors.New("plugins: version")
	// ErrUnknown says that a host runs no program of that name.
	ErrUnknown = errors.New("plugins: no such program")
	// ErrSettings says that a program, asked to start again, did not take its settings.
	ErrSettings = errors.New("plugins: settings")
	// ErrClosed says that the host has been closed.
	ErrClosed = errors.New("plugins: host closed")
)

// Spec names a program.
type Spec struct {
	Name   string   // in messages and in Status; unique within a host
	Path   string   // of the file; empty: the binary of this very process
	Args   []string // without the program's name
	SHA256 [32]byte // of the file; required with a Path
	Config []byte   // settings of the plugin, which the host passes on without looking inside

	// Reread returns Config anew whenever a CA provider is started; nil: Config stays. It may be called at any time, but not twice
	// at once. After an error, or if nothing is left of Config, which is logged, the program gets what it took before. So it does
	// at the start after one at which it did not take what Reread returned, unless it has taken none yet.
	Reread func() ([]byte, error)

	// Before has the settings that this program took last under a host before this one; nil: that is not known.
	Before []byte

	// Took is called with the settings whenever a CA provider has taken them, before it is asked anything. The program is not used
	// before Took returns. It may be called at any time, but not twice at once, and must keep no reference to the settings; nil.
	Took func(settings []byte)
}

// Config says how a host treats its programs. Zero values mean the defaults named beside them.
type Config struct {
	Log          zerolog.Logger
	Dir          string        // for the copies of programs; only the node may write it. Default, and if it is mounted noexec: a temporary folder
	Near         string        // where that folder is made if programs may not be executed in other temporary ones; empty: nowhere
	Timeout      time.Duration // for an engine to answer a call; 2 s
	CATimeout    time.Duration // for a CA provider to answer a call, which may ask others; 10 s
	StartTimeout time.Duration // for a program to start, and for a call to wait until it has; 10 s
	MinPause     time.Duration // before a program is started again; 50 ms
	MaxPause     time.Duration // the same when it keeps failing; 5 s
}

// Host runs plugin programs. Its methods are safe for concurrent use.
type Host struct {
	config Config

	mu        sync.Mutex // guards what follows
	processes []*process
	scratch   *scratch // for sockets, and for copies without Config.Dir; made when first needed
	copies    *scratch // for copies if programs may be executed neither in Config.Dir nor in scratch; likewise
	closed    bool
}

// New returns a host without programs.
func New(c Config) *Host {
	c.Timeout = cmp.Or(c.Timeout, engine.DefaultTimeout)
	c.CATimeout = cmp.Or(c.CATimeout, ca.DefaultTimeout)
	c.StartTimeout = cmp.Or(c.StartTimeout, engine.DefaultStartTimeout)
	c.MinPause = cmp.Or(c.MinPause, 50*time.Millisecond)
	c.MaxPause = max(cmp.Or(c.MaxPause, 5*time.Second), c.MinPause)
	return &Host{config: c}
}

// Close ends all programs and waits until they are gone.
func (h *Host) Close() error {
	h.mu.Lock()
	processes := h.processes
	h.processes, h.closed = nil, true
	folders := []*scratch{h.scratch, h.copies}
	h.mu.Unlock()
	for _, p := range processes {
		p.cancel()
	}
	for _, p := range processes {
		<-p.done
	}
	var errs []error
	for _, folder := range folders {
		if folder != nil {
			errs = append(errs, folder.remove())
		}
	}
	return errors.Join(errs...)
}

// Kind is what a program does for the node.
type Kind string

// The kinds.
const (
	KindEngine Kind = "engine" // without its consensus engine a node stands still
	KindCA     Kind = "ca"     // without a CA provider it goes on with what it knows
)

// Status is what operators see of a program.
type Status struct {
	Name     string
	Kind     Kind
	Version  string // as the program says, with its name; empty before it first ran
	Pid      int    // zero while it does not run
	Restarts int    // since the host began
	Healthy  bool
	Reason   string    // why it is in this state, in words
	Since    time.Time // when it entered this state
}

// Status returns the state of every program, in the order in which they were added.
func (h *Host) Status() []Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Status, len(h.processes))
	for i, p := range h.processes {
		all[i] = p.currentStatus()
	}
	return all
}

// Restart ends the program of that name and waits until it runs again, without a pause. What was under way in it fails as if it had
// exited. ErrUnknown says that there is none, and ErrSettings that it did not take its settings: it is then started again with those
// that it took before. Any other error says why it does not run again when ctx ends.
func (h *Host) Restart(ctx context.Context, name string) error {
	h.mu.Lock()
	i := slices.IndexFunc(h.processes, func(p *process) bool { return p.name == name })
	if i < 0 {
		h.mu.Unlock()
		return ErrUnknown
	}
	p := h.processes[i]
	h.mu.Unlock()
	return p.restart(ctx)
}

// Engine is a running program that holds consensus engines: one for each group that asked for one.
type Engine struct {
	process *process
	spec    Spec
	config  Config
}

// Engine starts the engine program that s names and waits until it runs. It fails with ErrChecksum or
// ErrVersion if the program is not the right one; then, as with any other error, the program is not kept. ctx
// bounds only the wait: the program runs until Close.
func (h *Host) Engine(ctx context.Context, s Spec) (*Engine, error) {
	p, err := h.start(ctx, s, kind{
		name:      KindEngine,
		handshake: engine.Handshake(),
		versions:  engine.Versions(),
		options:   engine.DialOptions(),
		timeout:   h.config.Timeout,
		contract:  "plugins/engine",
		greet: func(ctx context.Context, conn grpc.ClientConnInterface) (any, string, error) {
			m, err := engine.Describe(ctx, conn)
			return m, m.Name + " " + m.Version, err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start engine plugin %s: %w", s.Name, err)
	}
	return &Engine{process: p, spec: s, config: h.config}, nil
}

// New returns an engine that has not been started, for one group; it is a consensus.Factory. The engine is a
// consensus.Batcher. Its Init waits for the program if that is just being started again.
func (e *Engine) New() consensus.Engine {
	return engine.NewClient(engine.ClientConfig{
		Name: e.spec.Name, Connect: e.connect, Settings: e.spec.Config,
		Timeout: e.config.Timeout, StartTimeout: e.config.StartTimeout,
	})
}

// Manifest returns what the program said of itself when it was last started.
func (e *Engine) Manifest() engine.Manifest {
	m, _ := e.process.said().(engine.Manifest)
	return m
}

// Restart ends the program and waits until it runs again, without a pause. All engines in it are down then.
func (e *Engine) Restart(ctx context.Context) error { return e.process.restart(ctx) }

func (e *Engine) connect(ctx context.Context) (engine.Connection, error) {
	r, err := e.process.running(ctx)
	if err != nil {
		return engine.Connection{}, err
	}
	return engine.Connection{Conn: r.conn, Manifest: e.Manifest(), Broken: func(reason string) { e.process.broken(r, reason) }}, nil
}

// CA is a running program that is a CA provider. Its methods are safe for concurrent use.
type CA struct {
	*ca.Client
	process *process
}

// CA starts the CA provider that s names and waits until it runs and has taken its settings. It fails as Engine does,
// and if the provider does not take the settings; whenever the program is started again it gets them anew. ctx bounds only
// the wait: the program runs until Close.
func (h *Host) CA(ctx context.Context, s Spec) (*CA, error) {
	c, err := h.startCA(s, h.config.StartTimeout)
	if err != nil {
		return nil, err
	}
	if err := c.Started(ctx); err != nil {
		h.remove(c.process)
		return nil, err
	}
	return c, nil
}

// StartCA has the CA provider that s names started, and started again for as long as it does not run, whatever keeps it from
// that: Status says why. It does not wait, nor do calls of the provider: while the program does not run they fail at once with
// ca.ErrDown. An error says that s cannot be a program of this host.
func (h *Host) StartCA(s Spec) (*CA, error) { return h.startCA(s, -1) }

// startCA starts a provider whose calls wait until it runs for as long as wait.
func (h *Host) startCA(s Spec, wait time.Duration) (*CA, error) {
	p, err := h.add(s, kind{
		name:      KindCA,
		handshake: ca.Handshake(),
		versions:  ca.Versions(),
		options:   ca.DialOptions(),
		timeout:   h.config.CATimeout,
		contract:  "plugins/ca",
		configure: ca.Configure,
		greet: func(ctx context.Context, conn grpc.ClientConnInterface) (any, string, error) {
			m, err := ca.Describe(ctx, conn)
			return m, m.Name + " " + m.Version, err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start CA plugin %s: %w", s.Name, err)
	}
	connect := func(ctx context.Context) (ca.Connection, error) {
		r, err := p.running(ctx)
		if err != nil {
			return ca.Connection{}, err
		}
		return ca.Connection{Conn: r.conn, Broken: func(reason string) { p.broken(r, reason) }}, nil
	}
	client := ca.NewClient(ca.ClientConfig{Name: s.Name, Connect: connect, Timeout: h.config.CATimeout, StartTimeout: wait})
	return &CA{Client: client, process: p}, nil
}

// Started waits until the program has run, or has failed to start, for the first time, and returns why it failed.
func (c *CA) Started(ctx context.Context) error {
	if err := c.process.firstStart(ctx); err != nil {
		return fmt.Errorf("start CA plugin %s: %w", c.process.name, err)
	}
	return nil
}

// Manifest returns what the program said of itself when it was last started.
func (c *CA) Manifest() ca.Manifest {
	m, _ := c.process.said().(ca.Manifest)
	return m
}

// Restart does what Host.Restart does. Calls that are under way fail.
func (c *CA) Restart(ctx context.Context) error { return c.process.restart(ctx) }

// start brings the program of s up for the first time.
func (h *Host) start(ctx context.Context, s Spec, k kind) (*process, error) {
	p, err := h.add(s, k)
	if err != nil {
		return nil, err
	}
	if err := p.firstStart(ctx); err != nil {
		h.remove(p)
		return nil, err
	}
	return p, nil
}

// add begins to supervise the program of s.
func (h *Host) add(s Spec, k kind) (*process, error) {
	if s.Name == "" {
		return nil, errors.New("Spec.Name is empty; give the plugin a name")
	}
	sockets, copies, err := h.folders(s.Path != "")
	if err != nil {
		return nil, err
	}
	p := newProcess(s, copies, sockets, k, h.config)
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	for _, other := range h.processes {
		if other.name == s.Name {
			h.mu.Unlock()
			return nil, fmt.Errorf("a plugin of this name runs already")
		}
	}
	h.processes = append(h.processes, p)
	h.mu.Unlock()
	go p.supervise()
	return p, nil
}

// remove ends p and forgets it.
func (h *Host) remove(p *process) {
	p.cancel()
	<-p.done
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, other := range h.processes {
		if other == p {
			h.processes = append(h.processes[:i:i], h.processes[i+1:]...)
			return
		}
	}
}

// CopiesVariable is the environment variable that tells a program of a folder where programs may be executed, for copies of those that it
// starts itself (Config.Near). It is missing where there is no such folder.
const CopiesVariable = "FONDACO_PLUGIN_COPIES"

// folders returns where sockets and copies of programs go. Sockets are never in Config.Dir, whose path may be long. Without need copies is
// empty if there is no folder for them.
func (h *Host) folders(need bool) (sockets, copies string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return "", "", ErrClosed
	}
	if h.scratch == nil {
		if h.scratch, err = newScratch(os.TempDir(), "/tmp", "/var/tmp", "/dev/shm"); err != nil {
			return "", "", err
		}
	}
	places := []string{h.scratch.path}
	if h.config.Dir != "" {
		if err := os.MkdirAll(h.config.Dir, 0o700); err != nil {
			return "", "", fmt.Errorf("make the folder for copies of plugins: %w", err)
		}
		if err := os.Chmod(h.config.Dir, 0o700); err != nil { // it may have been there before
			return "", "", fmt.Errorf("close the folder for copies of plugins to others: %w", err)
		}
		places = []string{h.config.Dir, h.scratch.path}
	}
	for _, place := range places {
		if mayExecute(place) == nil {
			return h.scratch.path, place, nil
		}
	}
	if h.copies == nil {
		if h.copies, err = newCopies(slices.DeleteFunc([]string{os.TempDir(), "/tmp", "/var/tmp", "/dev/shm", h.config.Near}, func(s string) bool { return s == "" })...); err != nil {
			if !need {
				return h.scratch.path, "", nil
			}
			return "", "", err
		}
	}
	return h.scratch.path, h.copies.path, nil
}
