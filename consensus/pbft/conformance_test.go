package pbft_test

import (
	"testing"

	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/pbft"
)

func TestConformance(t *testing.T) { consensustest.Run(t, consensustest.Subject{Factory: pbft.New}) }

func FuzzStep(f *testing.F) { consensustest.Fuzz(f, pbft.New) }

func FuzzHost(f *testing.F) { consensustest.FuzzHost(f, pbft.New) }
