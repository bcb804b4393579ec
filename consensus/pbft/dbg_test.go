package pbft_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/pbft"
)

func TestDebug(t *testing.T) {
	if os.Getenv("DBG") == "" {
		t.Skip()
	}
	consensustest.DebugTrace = func(n *consensustest.Node, now int64, ev consensus.Event, effects []consensus.Effect) {
		if os.Getenv("NODE") != "" && os.Getenv("NODE") != fmt.Sprint(n.ID) {
			return
		}
		fmt.Printf("%d.%03d node %d %s\n", now/1000, now%1000, n.ID, consensustest.DescribeEvent(ev))
		for _, ef := range effects {
			if s := consensustest.DescribeEffect(ef); s != "" {
				fmt.Printf("      %s\n", s)
			}
		}
	}
	r, err := consensustest.Simulate(consensustest.Schedule{Members: 4, Window: 1, Seed: *seed, Factory: func(int) consensus.Engine { return pbft.New() }})
	t.Log(r, err)
}
