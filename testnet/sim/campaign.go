package sim

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fondaco/fondaco/state/keys/keystest"
)

// Campaign is many schedules of consecutive seeds.
type Campaign struct {
	Schedule                             // the first; the others differ by their seeds
	Schedules int                        // how many
	Parallel  int                        // run at once; 0: one for each processor
	Progress  func(Summary)              // is told what happened so far, now and then; nil: not
	Every     time.Duration              // between calls of Progress; 0: a second
	Found     func(v Broken) (stop bool) // is told of each violation; nil: the campaign stops at the first
}

// Summary is what a campaign did.
type Summary struct {
	Nodes     int           `json:"nodes"`
	Whole     bool          `json:"whole"`
	Byzantine string        `json:"byzantine,omitempty"`
	Seed      uint64        `json:"seed"`
	Wanted    int           `json:"wanted"`    // schedules that were asked for
	Schedules int           `json:"schedules"` // that ran to their end
	Elapsed   time.Duration `json:"-"`
	Seconds   float64       `json:"seconds"`
	Rate      float64       `json:"schedules_per_second"`
	Report                  // sums over all schedules
	Lies      []Lies        `json:"lies"`       // by strategy
	Broken    []Broken      `json:"violations"` // by seed
	Held      bool          `json:"held"`       // all ran, and no rule was broken in any
}

// Left returns how long the rest will take at the rate so far, or 0 while nobody can tell.
func (s Summary) Left() time.Duration {
	if s.Schedules == 0 {
		return 0
	}
	return (s.Elapsed / time.Duration(s.Schedules) * time.Duration(s.Wanted-s.Schedules)).Round(time.Second)
}

// Lies is what the members did that lied by one strategy, and how honest nodes took it.
type Lies struct {
	Strategy string `json:"strategy"`
	Attacks  int    `json:"attacks"`  // messages that broke the rules
	Refusals int    `json:"refusals"` // by a rule that the strategy names
}

// Broken is a schedule in which a rule was broken.
type Broken struct {
	Seed   uint64 `json:"seed"`
	What   string `json:"what"`
	Repeat string `json:"repeat"` // the command that shows it again, with its trace
}

// maxBroken bounds how many violations a campaign collects before it stops.
const maxBroken = 20

// Run runs the schedules on several processors. The error says that the simulator could not run, or that ctx
// ended; violations are in the summary, which holds what was done until then too.
func (c Campaign) Run(ctx context.Context) (Summary, error) {
	if c.Schedules < 0 {
		return Summary{}, fmt.Errorf("run %d schedules", c.Schedules)
	}
	workers := c.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	start := time.Now()
	var (
		next  atomic.Int64
		mu    sync.Mutex // guards all below
		sum   = Summary{Nodes: c.Nodes, Whole: c.Whole, Byzantine: c.Byzantine, Seed: c.Seed, Wanted: c.Schedules, Broken: []Broken{}}
		fatal error
		all   sync.WaitGroup
	)
	snapshot := func() Summary {
		mu.Lock()
		defer mu.Unlock()
		s := sum
		s.Elapsed = time.Since(start)
		s.Seconds = s.Elapsed.Seconds()
		s.Rate = float64(s.Schedules) / max(s.Seconds, 1e-9)
		for i, x := range strategies() {
			s.Lies = append(s.Lies, Lies{x.name, s.Attacks[i], s.Refusals[i]})
		}
		s.Held = len(s.Broken) == 0 && s.Schedules == c.Schedules
		return s
	}
	if c.Whole && c.vm == nil {
		vm, err := newVM(ctx)
		if err != nil {
			return Summary{}, err
		}
		defer vm.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing depends on it
		c.vm = vm
	}
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(c.Schedules) {
					return
				}
				one := c.Schedule
				one.Seed += uint64(i)
				report, err := Run(one)
				mu.Lock()
				sum.Schedules++
				sum.add(report)
				switch {
				case err == nil:
				case Violation(err):
					v := Broken{Seed: one.Seed, What: err.Error(), Repeat: Repeat(one)}
					sum.Broken = append(sum.Broken, v)
					if c.Found == nil || c.Found(v) || len(sum.Broken) >= maxBroken {
						stop()
					}
				default:
					fatal = err
					stop()
				}
				mu.Unlock()
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	if c.Every <= 0 {
		c.Every = time.Second
	}
	ticker := time.NewTicker(c.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if c.Progress != nil {
				c.Progress(snapshot())
			}
			continue
		case <-finished:
		}
		break
	}
	s := snapshot()
	if fatal == nil && len(s.Broken) == 0 && s.Schedules < c.Schedules {
		fatal = context.Cause(ctx)
	}
	return s, fatal
}

// Repeat returns the command that runs one schedule again and prints its trace.
func Repeat(s Schedule) string {
	command := fmt.Sprintf("go run ./testnet sim --seed %d --schedules 1 --nodes %d", s.Seed, s.Nodes)
	if s.Raft {
		command += " --engine raft"
	}
	if s.Byzantine != "" {
		command += " --byzantine " + s.Byzantine
	}
	if s.Whole {
		command += " --whole"
	}
	if suite := keystest.Suite().Name(); suite != "std" {
		command = keystest.Variable + "=" + suite + " " + command
	}
	return command + " -v"
}
