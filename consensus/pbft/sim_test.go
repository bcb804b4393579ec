package pbft_test

import (
	"flag"
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/pbft"
)

var (
	seed      = flag.Uint64("seed", 1, "first seed of the simulation")
	schedules = flag.Int("schedules", 40, "schedules to simulate")
	members   = flag.Int("members", 4, "members of the simulated group")
	window    = flag.Uint("window", 0, "blocks in flight; 0: by the seed")
	stop      = flag.Bool("stop", false, "stop at the first schedule that breaks a rule")
	trace     = flag.Bool("trace", false, "print every event and effect")
	twins     = flag.Int("twins", 0, "members that run twice")
)

func TestSimulate(t *testing.T) {
	var sum consensustest.Report
	for i := range *schedules {
		schedule := consensustest.Schedule{
			Members: *members, Window: uint32(*window), Twins: *twins, Seed: *seed + uint64(i), Factory: func(int) consensus.Engine { return pbft.New() },
		}
		if *trace {
			schedule.Trace = printStep
		}
		r, err := consensustest.Simulate(schedule)
		if err != nil {
			t.Errorf("%v; repeat with: go test ./consensus/pbft -run TestSimulate -schedules 1 -members %d -window %d -twins %d -seed %d",
				err, *members, *window, *twins, *seed+uint64(i))
			if *stop {
				return
			}
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

// TestTwins has a third of the members, less one, run twice with separate journals, in networks that split: the honest
// ones stay on one chain, and see evidence.
func TestTwins(t *testing.T) {
	evidence := 0
	for i := range uint64(16) {
		schedule := consensustest.Schedule{Members: 4, Twins: 1, Seed: *seed + i, Factory: func(int) consensus.Engine { return pbft.New() }}
		if i%8 == 7 {
			schedule.Members, schedule.Twins = 7, 2
		}
		r, err := consensustest.Simulate(schedule)
		if err != nil {
			t.Errorf("%v; repeat with: go test ./consensus/pbft -run TestSimulate -schedules 1 -members %d -twins %d -seed %d",
				err, schedule.Members, schedule.Twins, schedule.Seed)
		}
		evidence += r.Evidence
	}
	if evidence == 0 {
		t.Error("nobody found evidence against a member that runs twice")
	}
}

func printStep(n *consensustest.Node, event consensus.Event, effects []consensus.Effect) {
	fmt.Printf("%9.3f ms  node %d: %s\n", float64(n.Now())/1000, n.ID, consensustest.DescribeEvent(event))
	for _, effect := range effects {
		fmt.Printf("%22s  %s\n", "", consensustest.DescribeEffect(effect))
	}
}
