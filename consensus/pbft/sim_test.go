package pbft_test

import (
	"flag"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/pbft"
)

var (
	seed      = flag.Uint64("seed", 1, "first seed of the simulation")
	schedules = flag.Int("schedules", 40, "schedules to simulate")
)

func TestSimulate(t *testing.T) {
	var sum consensustest.Report
	for i := range *schedules {
		r, err := consensustest.Simulate(consensustest.Schedule{
			Members: 4, Window: 1, Seed: *seed + uint64(i), Factory: func(int) consensus.Engine { return pbft.New() },
		})
		if err != nil {
			t.Errorf("%v; repeat with: go test ./consensus/pbft -run TestSimulate -seed %d -schedules 1", err, *seed+uint64(i))
		}
		sum.Blocks += r.Blocks
		sum.Messages += r.Messages
		sum.ViewChanges += r.ViewChanges
		sum.Crashes += r.Crashes
		sum.Syncs += r.Syncs
	}
	t.Logf("%+v", sum)
}
