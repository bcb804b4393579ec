package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/state/ledger"
)

// stale is how old the last Observe may be; the node observes every second.
const stale = 10 * time.Second

// closing is how long Serve waits for requests under way.
const closing = 2 * time.Second

// Check is a condition of being healthy. Run returns nil, or why it does not hold, in words for an operator. It
// must be quick.
type Check struct {
	Name  string
	Run   func() error
	Spare bool // it is shown, and the node is healthy without it
}

// live returns what must hold or the node should be restarted.
func (m *Monitor) live() []Check { return []Check{{Name: "loop", Run: m.checkLoop}} }

// ready returns what must hold for clients to be sent here.
func (m *Monitor) ready() []Check {
	checks := []Check{
		{Name: "loop", Run: m.checkLoop}, {Name: "group", Run: m.checkGroup}, {Name: "engine", Run: m.checkEngine}, {Name: "sync", Run: m.checkSync}, {Name: "peers", Run: m.checkPeers},
	}
	if m.config.Plugins != nil {
		for _, s := range m.config.Plugins() {
			checks = append(checks, Check{Name: "plugin " + s.Name, Spare: s.Kind == plugins.KindCA, Run: func() error {
				if s.Healthy {
					return nil
				}
				return errors.New(s.Reason)
			}})
		}
	}
	if m.config.Unheeded != nil {
		checks = append(checks, Check{Name: "authorities", Spare: true, Run: func() error {
			if institution := m.config.Unheeded(); institution != "" {
				return unheededError(institution)
			}
			return nil
		}})
	}
	return append(checks, m.config.Checks...)
}

func (m *Monitor) checkLoop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.observed.IsZero() {
		return errors.New("the node is starting")
	}
	if age := m.config.Now().Sub(m.observed); age > stale {
		return fmt.Errorf("the node has not looked after itself for %s", age.Round(time.Second))
	}
	return nil
}

func (m *Monitor) checkGroup() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.Stopped != nil {
		return fmt.Errorf("stopped: %w", m.status.Stopped)
	}
	if m.status.Muted != nil {
		return fmt.Errorf("does not vote: %w", m.status.Muted)
	}
	if m.alarm != "" {
		return fmt.Errorf("alarm: %s", m.alarm)
	}
	return nil
}

func (m *Monitor) checkEngine() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.observed.IsZero() && !m.status.Engine {
		return errors.New("the consensus engine is down and being started again")
	}
	return nil
}

func (m *Monitor) checkSync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if to := m.status.Joining; to != nil {
		return fmt.Errorf("fetching the state after block %d to begin with: %d of %d bytes, %d of %d blocks", to.Height, to.Bytes, to.Of, to.Blocks, to.Height+1)
	}
	if m.status.Lacking != nil {
		return m.status.Lacking
	}
	if head, to := m.status.Head.Order.Height, m.status.Syncing; to > head {
		return fmt.Errorf("fetching blocks: at height %d of %d, %.0f a second", head, to, m.status.Fetch.PerSecond)
	}
	return nil
}

// checkPeers wants as many connections as a quorum needs.
func (m *Monitor) checkPeers() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.status.Epoch.Members)
	if n == 0 {
		return nil
	}
	want := cmp.Or(m.config.Finality, ledger.Commit).Quorum(n) - 1
	if m.status.Number < 0 { // an observer is content with a single source
		want = 1
	}
	if m.peers < want {
		return fmt.Errorf("connected to %d other nodes, but %d are needed for a quorum of %d members", m.peers, want, n)
	}
	return nil
}

// Handler serves /metrics (Prometheus text), /livez and /readyz. The latter two answer 200 or 503, and tell
// each check on a line of its own, those that fail first and with the reason; then those that fail and that the node does without.
// The gate says who may see that; profiles of the process are for its operator.
func (m *Monitor) Handler(gate *login.Gate) http.Handler {
	mux := http.NewServeMux()
	observe := func(pattern string, h http.Handler) { mux.Handle(pattern, gate.Require(login.Observe, h)) }
	observe("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	observe("GET /livez", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, m.live()) }))
	observe("GET /readyz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, m.ready()) }))
	observe("/", http.NotFoundHandler()) // a stranger is told nothing about what there is
	if m.config.Profile {
		for pattern, h := range map[string]http.HandlerFunc{"GET /debug/pprof/": pprof.Index, "GET /debug/pprof/profile": pprof.Profile, "GET /debug/pprof/trace": pprof.Trace} {
			mux.Handle(pattern, gate.Require(login.Operate, h))
		}
	}
	return mux
}

func answer(w http.ResponseWriter, checks []Check) {
	var bad, spared, good strings.Builder
	for _, c := range checks {
		err := c.Run()
		switch {
		case err == nil:
			fmt.Fprintf(&good, "ok      %s\n", c.Name)
		case c.Spare:
			fmt.Fprintf(&spared, "spared  %s: %v\n", c.Name, err)
		default:
			fmt.Fprintf(&bad, "not ok  %s: %v\n", c.Name, err)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if bad.Len() > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(bad.String() + spared.String() + good.String()))
}

// Serve answers requests on a gate until ctx ends, and closes it.
func (m *Monitor) Serve(ctx context.Context, gate *login.Gate) error {
	server := &http.Server{Handler: m.Handler(gate), ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute} // profiles take their time
	gate.Prepare(server)
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer cancel()
		if server.Shutdown(late) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(gate)
	if !unwatch() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics and health: %w", err)
}
