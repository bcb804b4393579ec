package pbft_test

import (
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/pbft"
)

func TestScenarios(t *testing.T) {
	consensustest.Scenarios(t, "testdata/*.txt", pbft.New, consensustest.Words{
		Kinds: map[uint8]string{
			1: "proposal", 2: "vote", 3: "view change", 4: "new view", 5: "heartbeat",
			6: "certificate", 7: "status", 8: "fetch", 9: "order",
		},
		Timers: map[consensus.Timer]string{
			1: "progress", 2: "alive", 3: "beat", 4: "tick", 5: "batch", 6: "censor",
		},
	})
}
