package main

import (
	"flag"
	"os"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/plugins/engine/enginetest"
)

// The test binary executes itself as the plugin program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

var (
	schedules = flag.Int("schedules", 12, "schedules to simulate")
	seed      = flag.Uint64("seed", 1, "first seed of the simulation")
)

// TestSimulate looks for what the suite misses: each seed is another schedule of delays, losses, partitions and crashes.
func TestSimulate(t *testing.T) {
	for i := range uint64(*schedules) {
		schedule := consensustest.Schedule{
			Members: 3 + int(i%3), Seed: *seed + i, CrashOnly: true, Factory: func(int) consensus.Engine { return New() },
		}
		if _, err := consensustest.Simulate(schedule); err != nil {
			t.Errorf("%d members: %v", schedule.Members, err)
		}
	}
}

func TestEngine(t *testing.T) { enginetest.Run(t, New, manifest()) }

func TestProgram(t *testing.T) { enginetest.RunProgram(t, enginetest.Program{Args: []string{"serve"}}) }

// TestClaim shows that the suite asks more of an engine that says that members may lie: this one does not bear them.
func TestClaim(t *testing.T) {
	for _, r := range consensustest.Rules() {
		if r.Name == "liars" {
			if err := r.Check(consensustest.Subject{Factory: New}); err == nil {
				t.Error("the rule of liars holds for an engine that trusts all members")
			}
		}
	}
}
