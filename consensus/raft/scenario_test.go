package raft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/raft"
	"github.com/fondaco/fondaco/state/ledger"
)

func TestScenarios(t *testing.T) {
	consensustest.Scenarios(t, "testdata/*.txt", raft.New, consensustest.Words{
		Kinds: map[uint8]string{
			1: "append", 2: "appended", 3: "vote request", 4: "vote", 5: "pre-vote request", 6: "pre-vote",
			7: "heartbeat", 8: "alive", 9: "snapshot", 10: "attest", 11: "certificate", 12: "status",
		},
		Timers: map[consensus.Timer]string{1: "tick", 2: "batch"},
		Body:   body,
	})
}

// body says what a message of raft holds beside its order.
func body(data []byte) string {
	var f struct {
		_                                       struct{} `cbor:",toarray"`
		Epoch                                   uint64
		Height                                  ledger.Height
		Term, LogTerm, Index, Commit, EntryTerm uint64
		Reject                                  bool
		RejectHint                              uint64
		Base                                    struct {
			_           struct{} `cbor:",toarray"`
			Index, Term uint64
			Height      ledger.Height
		}
	}
	if err := ledger.Unmarshal(data, &f); err != nil {
		return err.Error()
	}
	parts := []string{}
	add := func(show bool, format string, args ...any) {
		if show {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(f.Term == 0, "epoch %d height %d", f.Epoch, f.Height)
	add(f.Term != 0, "term %d", f.Term)
	add(f.Index != 0, "after %d/%d", f.LogTerm, f.Index)
	add(f.EntryTerm != 0, "entry %d/%d", f.EntryTerm, f.Index+1)
	add(f.Commit != 0, "commit %d", f.Commit)
	add(f.Reject, "no")
	add(f.Base.Index != 0, "log from %d/%d, blocks to %d", f.Base.Term, f.Base.Index, f.Base.Height)
	return strings.Join(parts, ", ")
}
