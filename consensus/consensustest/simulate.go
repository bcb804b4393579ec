package consensustest

import (
	"fmt"

	"github.com/fondaco/fondaco/consensus"
)

// Schedule says which kind of schedule to run; what happens in it comes from the seed.
type Schedule struct {
	Members int
	Window  uint32 // blocks in flight; 0: 1, 2, 4 or 16, by the seed
	Twins   int    // members that lie
	Seed    uint64
	Factory func(node int) consensus.Engine
	Trace   func(n *Node, event consensus.Event, effects []consensus.Effect) // nil: off
	// CrashOnly says that members stop but do not lie: Twins is zero, and a commit vote needs no certificate.
	CrashOnly bool
	Faults    int64 // µs of faults before the network heals; 0 means 10 s
}

// Report is what a schedule did.
type Report struct {
	Blocks, Messages, Lost, Crashes, ViewChanges, Syncs, Evidence int
}

// After the faults, a group has so long (µs) to show that it works, the last part of it without load.
const (
	calm  = 25_000_000
	quiet = 5_000_000
)

// Simulate runs one schedule: a stretch of faults that differ by seed, then calm in which the group must make
// progress again. It returns an error when a rule is broken.
func Simulate(s Schedule) (Report, error) {
	if s.Window == 0 {
		s.Window = []uint32{1, 2, 4, 16}[s.Seed/2%4]
	}
	n := NewNetwork(Settings{Members: s.Members, Window: s.Window, Twins: s.Twins, Seed: s.Seed, CrashOnly: s.CrashOnly, Factory: s.Factory})
	r := n.rand
	n.Delay = []int64{500, 5_000, 60_000}[r.IntN(3)]
	n.Loss = []float64{0, 0, 0.01, 0.1, 0.3}[r.IntN(5)]
	n.Duplicate = []float64{0, 0.05}[r.IntN(2)]
	n.Sync = []int64{0, 1_000, 10_000}[r.IntN(3)]
	n.Fetch = []int64{0, 5_000, 200_000}[r.IntN(3)]
	faults := s.Faults
	if faults == 0 {
		faults = 10_000_000
	}
	n.Trace = s.Trace
	for _, x := range n.nodes {
		x.Start()
	}

	// Load: transactions at intervals that differ by seed, with idle stretches.
	gap := []int64{20_000, 200_000, 2_000_000}[r.IntN(3)]
	var submit func()
	submit = func() {
		if n.now > faults+calm-quiet {
			return
		}
		n.Submit()
		n.After(1+n.upTo(2*gap), submit)
	}
	n.After(0, submit)

	// Faults.
	journals := 1 // how many members may lose theirs: it counts as a lie, though it must not become one
	if s.Twins > 0 || (s.Members-1)/3 == 0 {
		journals = 0
	}
	var harm func()
	harm = func() {
		if n.now >= faults {
			return
		}
		switch x := n.nodes[r.IntN(len(n.nodes))]; r.IntN(7) {
		case 0, 1:
			if x.up {
				x.Crash()
			} else {
				x.Start()
			}
		case 2: // power fails everywhere
			if r.IntN(4) == 0 {
				for _, y := range n.nodes {
					y.Crash()
				}
				for _, y := range n.nodes {
					n.After(n.upTo(1_000_000), y.Start)
				}
			}
		case 3:
			side := make([]int, len(n.nodes))
			for i := range side {
				side[i] = r.IntN(2)
			}
			n.Partition(side)
		case 4:
			n.Partition(nil)
		case 5:
			if journals > 0 && x.Head().Order.Height > 0 && r.IntN(3) == 0 {
				journals--
				x.Crash()
				x.LoseJournal()
			}
		case 6:
			for _, y := range n.nodes {
				y.Start()
			}
		}
		n.After(n.upTo(2_000_000), harm)
	}
	if r.IntN(5) > 0 {
		n.After(n.upTo(1_000_000), harm)
	}
	n.RunUntil(faults)

	// Calm: the group must go on.
	n.Partition(nil)
	n.Loss, n.Duplicate, n.Delay = 0, 0, min(n.Delay, 5_000)
	n.Fetch = min(n.Fetch, 5_000)
	for _, x := range n.nodes {
		x.Start()
	}
	gap = max(gap, 500_000)
	before := n.Oracle.Height()
	n.Submit()
	n.RunUntil(faults + calm)
	report := Report{
		Blocks: int(n.Oracle.Height()), Messages: n.Messages, Lost: n.Lost, Crashes: n.Crashes, ViewChanges: n.ViewChanges,
		Syncs: n.Syncs, Evidence: n.Oracle.Found,
	}
	if err := n.Err(); err != nil {
		return report, fmt.Errorf("seed %d: %w", s.Seed, err)
	}
	for _, x := range n.nodes {
		if !x.Liar && x.Head().Order.Height < n.Oracle.Height() || n.Oracle.Height() <= before {
			return report, fmt.Errorf("seed %d: no progress in the calm: node %d at %d of %d, which was %d: %+v",
				s.Seed, x.ID, x.Head().Order.Height, n.Oracle.Height(), before, x.engine.Status())
		}
	}
	return report, nil
}
