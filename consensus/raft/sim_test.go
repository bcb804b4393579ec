package raft_test

import (
	"flag"
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/raft"
)

var (
	seed      = flag.Uint64("seed", 1, "first seed of the simulation")
	schedules = flag.Int("schedules", 40, "schedules to simulate")
	members   = flag.Int("members", 4, "members of the simulated group")
	window    = flag.Uint("window", 1, "blocks in flight")
	stop      = flag.Bool("stop", false, "stop at the first schedule that breaks a rule")
	trace     = flag.Bool("trace", false, "print every event and effect")
)

func TestSimulate(t *testing.T) {
	var sum consensustest.Report
	for i := range *schedules {
		schedule := consensustest.Schedule{
			Members: *members, Window: uint32(*window), Seed: *seed + uint64(i), Factory: func(int) consensus.Engine { return raft.New() },
		}
		if *trace {
			schedule.Trace = printStep
		}
		r, err := consensustest.Simulate(schedule)
		if err != nil {
			t.Errorf("%v; repeat with: go test ./consensus/raft -run TestSimulate -schedules 1 -members %d -window %d -seed %d",
				err, *members, *window, *seed+uint64(i))
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

func printStep(n *consensustest.Node, event consensus.Event, effects []consensus.Effect) {
	fmt.Printf("%9.3f ms  node %d: %s\n", float64(n.Now())/1000, n.ID, consensustest.DescribeEvent(event))
	for _, effect := range effects {
		fmt.Printf("%22s  %s\n", "", consensustest.DescribeEffect(effect))
	}
}
