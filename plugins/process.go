package plugins

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
)

// settled is how long a program must run before its next failure counts as the first.
const settled = 10 * time.Second

// kind is what differs between the kinds of plugins.
type kind struct {
	name      Kind
	handshake plugin.HandshakeConfig
	versions  map[int]plugin.PluginSet
	options   []grpc.DialOption
	timeout   time.Duration // for greet
	contract  string        // package that programs of the kind are built with
	// greet is called once per start, before anything else is sent. It returns what the kind wants to keep,
	// and the program's version in words.
	greet func(context.Context, grpc.ClientConnInterface) (greeting any, version string, err error)
	// configure hands over settings, once per start, after greet and within its timeout; nil: the kind does so elsewhere.
	configure func(ctx context.Context, conn grpc.ClientConnInterface, settings []byte) error
}

// process keeps one program running.
type process struct {
	name            string
	spec            Spec
	path            string // to execute; empty until the program was found to be the right one; supervise alone touches it
	copies, sockets string // folders
	kind            kind
	config          Config
	log             zerolog.Logger

	settings []byte // that the program took last, Spec.Before or those of spec until then; supervise alone touches this and the next two
	took     bool   // settings, once at least, or before this host
	refused  []byte // settings that the start before this one did not take; nil: it took them

	ctx    context.Context // ends when the program shall end
	cancel context.CancelFunc
	done   chan struct{} // closed when supervise has returned
	hurry  chan struct{} // cuts a pause short

	mu       sync.Mutex // guards what follows
	run      *run       // nil while the program does not run
	greeting any
	status   Status
	starts   int
	lastErr  error         // why the last start or run ended
	asked    bool          // for a restart, and no start has read the settings since
	refusal  error         // why a start that was asked for did not take its settings; nil from the next request on
	changed  chan struct{} // closed and replaced at each change
}

// run is one life of a program.
type run struct {
	conn   *grpc.ClientConn
	child  *child
	reason string // why it is being killed; guarded by process.mu
}

func newProcess(s Spec, copies, sockets string, k kind, c Config) *process {
	ctx, cancel := context.WithCancel(context.Background())
	before := s.Config
	if s.Before != nil {
		before = s.Before
	}
	return &process{
		name: s.Name, spec: s, settings: before, took: s.Before != nil, copies: copies, sockets: sockets, kind: k, config: c,
		log: c.Log.With().Str("plugin", s.Name).Logger(),
		ctx: ctx, cancel: cancel, done: make(chan struct{}), hurry: make(chan struct{}, 1),
		status:  Status{Name: s.Name, Kind: k.name, Reason: "starting", Since: time.Now()},
		changed: make(chan struct{}),
	}
}

// supervise runs the program again and again until ctx ends.
func (p *process) supervise() {
	defer close(p.done)
	// The parent-death signal of Linux is sent when the thread that started the child ends, so this thread
	// must live as long as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pause := p.config.MinPause
	for {
		began := time.Now()
		err := p.live()
		if p.ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			pause = p.config.MinPause
		}
		p.set(func() {
			p.run, p.lastErr = nil, err
			p.status.Pid, p.status.Healthy, p.status.Since = 0, false, time.Now()
			p.status.Reason = fmt.Sprintf("%v; starting again within %s", err, pause)
		})
		p.log.Warn().Err(err).Dur("pause", pause).Msg("plugin is down")
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.hurry:
		case <-p.ctx.Done():
			return
		}
		timer.Stop()
		pause = min(2*pause, p.config.MaxPause)
	}
}

// live starts the program, offers it to callers, and returns why it ended.
func (p *process) live() error {
	if p.path == "" {
		var err error
		if p.path, err = resolve(p.spec, p.copies); err != nil {
			return err
		}
	}
	var started *child
	tail := &tail{}
	printed := &printer{log: p.log.Sample(&zerolog.BurstSampler{Burst: maxLines, Period: time.Second})}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  p.kind.handshake,
		VersionedPlugins: p.kind.versions,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     p.config.StartTimeout,
		GRPCDialOptions:  p.kind.options,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: p.sockets},
		Logger:           newLogger(p.log),
		Stderr:           tail,
		SyncStdout:       printed,
		SyncStderr:       printed,
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			var err error
			env := cmd.Env
			if p.copies != "" {
				env = append(env, CopiesVariable+"="+p.copies)
			}
			started, err = newChild(p.ctx, p.path, p.name, p.spec.Args, env)
			return started, err
		},
	})
	defer func() {
		if started != nil {
			started.kill() // before client.Kill, which would wait for a program that hangs
		}
		client.Kill()
	}()
	began := time.Now()
	protocol, err := client.Client()
	if err != nil {
		return p.explain(err, started, tail)
	}
	if err := errors.Join(started.restrained, boundMemory(started.pid())); err != nil {
		p.log.Warn().Err(err).Msg("plugin runs without some of the limits that the node sets it")
	}
	r := &run{conn: protocol.(*plugin.GRPCClient).Conn, child: started}
	ctx, cancel := context.WithTimeout(p.ctx, p.kind.timeout)
	greeting, version, err := p.kind.greet(ctx, r.conn)
	if err == nil && p.kind.configure != nil {
		err = p.configure(ctx, r.conn)
	}
	cancel()
	if err != nil {
		return err
	}
	p.set(func() {
		p.run, p.greeting, p.lastErr, p.asked = r, greeting, nil, false
		p.status.Restarts = p.starts
		p.starts++
		p.status.Version, p.status.Pid, p.status.Healthy, p.status.Since = version, started.pid(), true, time.Now()
		p.status.Reason = "running"
	})
	p.log.Info().Int("pid", started.pid()).Str("version", version).Int("wire", client.NegotiatedVersion()).
		Dur("took", time.Since(began)).Msg("plugin started")

	<-started.drained
	p.mu.Lock()
	reason := r.reason
	p.mu.Unlock()
	switch ended := started.state(); {
	case reason == "":
		return fmt.Errorf("it exited: %s%s", ended, tail.lastWords())
	case ended == "signal: killed": // which this host did, for that reason
		return fmt.Errorf("%s%s", reason, tail.lastWords())
	default:
		return fmt.Errorf("%s; it exited: %s%s", reason, ended, tail.lastWords())
	}
}

// configure gives the program its settings as they are now. If it does not take them, this start fails, since a program gets settings
// once; the next start gives it those that it took before, unless the settings have changed or a restart is asked for meanwhile.
func (p *process) configure(ctx context.Context, conn grpc.ClientConnInterface) error {
	p.mu.Lock()
	asked := p.asked
	p.asked = false
	p.mu.Unlock()
	settings, err := p.spec.Config, error(nil)
	if p.spec.Reread != nil {
		settings, err = p.spec.Reread()
		if err == nil && len(settings) == 0 && len(p.settings) > 0 {
			err = errors.New("they are empty")
		}
	}
	switch {
	case err != nil:
		p.log.Warn().Err(err).Msg("settings do not read: the program gets those that it had")
		settings = p.settings
	case p.took && !asked && p.refused != nil && bytes.Equal(settings, p.refused) && !bytes.Equal(settings, p.settings):
		p.log.Warn().Msg("the program does not take its settings as they are now: it gets those that it took before")
		settings = p.settings
	}
	if err := p.kind.configure(ctx, conn, settings); err != nil {
		p.refused = append([]byte{}, settings...)
		if p.took && !bytes.Equal(settings, p.settings) {
			err = fmt.Errorf("%w; the next start gives it the settings that it took before", err)
		}
		if asked {
			p.set(func() { p.refusal = fmt.Errorf("%w: %w", ErrSettings, err) })
		}
		return err
	}
	p.settings, p.took, p.refused = settings, true, nil
	if p.spec.Took != nil {
		p.spec.Took(settings)
	}
	return nil
}

// explain turns an error of go-plugin's start into one that says what to do.
func (p *process) explain(err error, c *child, t *tail) error {
	switch text := err.Error(); {
	case strings.Contains(text, "incompatible API version"):
		return fmt.Errorf("%w: %w; build the program against a release of %s that shares a wire version with this node", ErrVersion, err, p.kind.contract)
	case strings.Contains(text, "Unrecognized remote plugin message"):
		said := ""
		if c != nil {
			c.kill()
			<-c.drained
			said = fmt.Sprintf(" (%s)%s", c.state(), t.lastWords())
		}
		return fmt.Errorf("the program ended or printed something before the plugin handshake%s; a plugin program must call Serve first and print nothing before", said)
	case strings.Contains(text, "timeout while waiting"):
		return fmt.Errorf("the program did not shake hands within %s", p.config.StartTimeout)
	default:
		return err
	}
}

// firstStart waits for the outcome of the first attempt.
func (p *process) firstStart(ctx context.Context) error {
	var failed error
	err := p.await(ctx, func() bool {
		failed = p.lastErr
		return p.run != nil || failed != nil
	})
	return cmp.Or(err, failed)
}

// running waits until the program runs.
func (p *process) running(ctx context.Context) (*run, error) {
	var r *run
	var reason string
	err := p.await(ctx, func() bool {
		r, reason = p.run, p.status.Reason
		return r != nil
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		err = errors.New(reason)
	}
	return r, err
}

// await waits until done, which it calls with mu locked, reports true. It fails with ErrClosed, or as ctx ended.
func (p *process) await(ctx context.Context, done func() bool) error {
	for {
		p.mu.Lock()
		ok, changed := done(), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// broken kills the program if it still is the same one.
func (p *process) broken(r *run, reason string) {
	same := false
	p.set(func() {
		if same = p.run == r; same {
			p.run, r.reason = nil, reason
			p.status.Healthy, p.status.Reason, p.status.Since = false, reason, time.Now()
		}
	})
	if same {
		r.child.kill()
	}
}

// restart ends the program and waits until it runs again or has not taken its settings.
func (p *process) restart(ctx context.Context) error {
	var r *run
	p.set(func() { r, p.asked, p.refusal = p.run, true, nil })
	if r != nil {
		p.broken(r, "restarted on request")
	}
	select {
	case p.hurry <- struct{}{}:
	default:
	}
	var refusal error
	var reason string
	err := p.await(ctx, func() bool {
		refusal, reason = p.refusal, p.status.Reason
		return p.run != nil || refusal != nil
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		err = errors.New(reason)
	}
	return cmp.Or(err, refusal)
}

// said returns what the program was greeted with when it was last started.
func (p *process) said() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.greeting
}

func (p *process) currentStatus() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *process) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}
