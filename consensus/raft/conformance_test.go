package raft_test

import (
	"testing"

	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/raft"
)

func TestConformance(t *testing.T) {
	consensustest.Run(t, consensustest.Subject{Factory: raft.New, CrashOnly: true})
}

func FuzzStep(f *testing.F) { consensustest.Fuzz(f, raft.New) }
