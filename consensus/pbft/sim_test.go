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
	members   = flag.Int("members", 4, "members of the simulated group")
	window    = flag.Uint("window", 1, "blocks in flight")
	twins     = flag.Int("twins", 0, "members that run twice")
)

func TestSimulate(t *testing.T) {
	var sum consensustest.Report
	for i := range *schedules {
		r, err := consensustest.Simulate(consensustest.Schedule{
			Members: *members, Window: uint32(*window), Twins: *twins, Seed: *seed + uint64(i), Factory: func(int) consensus.Engine { return pbft.New() },
		})
		if err != nil {
			t.Errorf("%v; repeat with: go test ./consensus/pbft -run TestSimulate -schedules 1 -members %d -window %d -twins %d -seed %d",
				err, *members, *window, *twins, *seed+uint64(i))
		}
		sum.Blocks += r.Blocks
		sum.Messages += r.Messages
		sum.ViewChanges += r.ViewChanges
		sum.Crashes += r.Crashes
		sum.Syncs += r.Syncs
		sum.Lost += r.Lost
		sum.Evidence += r.Evidence
	}
	t.Logf("%+v", sum)
}
