package state_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// powerCuts commits blocks on a disk that forgets, stops the machine at operation number stop, lets it forget
// what was not synced, and opens the folder again; it does this until blocks are committed. It returns what
// contradicts the promise: that everything acknowledged is there, unchanged, and the head is a block that was
// committed or was being committed. The tables are in memory here; with bbolt, votes and real files it is
// TestPowerFailure of node/group, which has one failure or two.
func powerCuts(t *testing.T, seed uint64, hook memfs.Hook) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	disk := memfs.New()
	disk.SetHook(hook)
	o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 3, FlushBlocks: 2, SegmentBytes: int64(1000 + rng.IntN(4000))}
	c := newChain(seed)
	c.keys = 60
	var acknowledged []keys.Digest // block hashes by height
	var models []map[string]string
	for cut := range 6 {
		disk.CrashAfter(1 + rng.IntN(40))
		attempted := keys.Digest{}
		var attemptedModel map[string]string
		s, err := state.Open("group", suite, &o)
		for err == nil {
			parent := s.Head()
			if parent == nil {
				parent = state.Empty(suite)
			}
			b, next, model := c.next(t, parent)
			attempted, attemptedModel = next.Hash(), model
			if err = s.Commit(b, next); err == nil {
				acknowledged, models = append(acknowledged, attempted), append(models, model)
				c.model = model
				attempted = keys.Digest{}
			}
		}
		if !errors.Is(err, memfs.ErrCrashed) {
			return fmt.Errorf("cut %d: %w", cut, err)
		}
		if s != nil {
			s.Close()
		}
		if rng.IntN(4) == 0 {
			disk.Crash(nil)
		} else {
			disk.Crash(rng)
		}
		s, err = state.Open("group", suite, &o)
		if err != nil {
			return fmt.Errorf("cut %d: open after it: %w", cut, err)
		}
		head := s.Head()
		n := len(acknowledged)
		switch {
		case n == 0 && head == nil:
			s.Close()
			continue
		case head == nil:
			return fmt.Errorf("cut %d: %d blocks were acknowledged, now there is none", cut, n)
		case int(head.Height()) < n-1:
			return fmt.Errorf("cut %d: %d blocks were acknowledged, the head is at height %d", cut, n, head.Height())
		case int(head.Height()) == n && head.Hash() == attempted:
			acknowledged, models = append(acknowledged, attempted), append(models, attemptedModel)
		case int(head.Height()) >= n || head.Hash() != acknowledged[n-1]:
			return fmt.Errorf("cut %d: the head at height %d is none of the blocks committed", cut, head.Height())
		}
		c.model = models[len(models)-1]
		mustHold(t, head, c.model)
		for h, want := range acknowledged {
			b, err := s.Block(ledger.Height(h))
			if err != nil || b.Header.Hash(suite) != want {
				return fmt.Errorf("cut %d: acknowledged block %d: %v, %w", cut, h, b, err)
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
		// What was shown once must stay, even when the power fails right after.
		disk.Crash(nil)
	}
	return nil
}

// More seeds than the usual ones: go test -run TestPowerCuts -powercuts 2000 ./state
var powerCutSeeds = flag.Uint64("powercuts", 40, "how many seeds TestPowerCuts runs")

func TestPowerCuts(t *testing.T) {
	for seed := range *powerCutSeeds {
		if err := powerCuts(t, seed, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestPowerCutsFindMissingSync takes one kind of sync away and expects the power cuts to notice.
func TestPowerCutsFindMissingSync(t *testing.T) {
	for _, tt := range []struct {
		name string
		hook memfs.Hook
	}{
		{"of a segment's content", func(op memfs.Op, name string, _ int) error {
			if op == memfs.OpSync && strings.HasSuffix(name, ".blocks") {
				return memfs.ErrIgnore
			}
			return nil
		}},
		{"of one segment in three", func(op memfs.Op, name string, n int) error {
			if op == memfs.OpSync && n%3 == 0 {
				return memfs.ErrIgnore
			}
			return nil
		}},
		{"of the folder when a segment is new", func(op memfs.Op, _ string, _ int) error {
			if op == memfs.OpSyncDir {
				return memfs.ErrIgnore
			}
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(100) {
				if err := powerCuts(t, seed, tt.hook); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("100 runs of power cuts did not notice that syncs are missing")
		})
	}
}
