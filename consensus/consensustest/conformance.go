package consensustest

import (
	"slices"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// second is a second of virtual time.
const second = 1_000_000

// Run is the conformance suite: what the node relies on in every engine, in process or behind a plugin. It drives
// groups of engines with real keys on a virtual clock. An engine that is an io.Closer is closed when its node stops.
func Run(t *testing.T, factory consensus.Factory) {
	t.Helper()
	group := func(t *testing.T, members int) *Network {
		n := NewNetwork(Settings{
			Members: members, Observers: 1, Seed: 1, Keys: true, Delay: 2_000, Sync: 500, Record: true,
			Factory: func(int) consensus.Engine { return factory() },
		})
		for _, x := range n.nodes {
			x.Start()
		}
		t.Cleanup(func() {
			for _, x := range n.nodes {
				x.Crash()
			}
		})
		return n
	}
	load := func(n *Network, every, until int64) {
		var submit func()
		submit = func() {
			if n.now < until {
				n.Submit()
				n.After(every, submit)
			}
		}
		n.After(0, submit)
	}
	// agrees checks that no rule was broken and that all nodes that are up have the same head, at least at height.
	agrees := func(t *testing.T, n *Network, height ledger.Height) {
		t.Helper()
		if err := n.Err(); err != nil {
			t.Fatal(err)
		}
		if n.Oracle.Height() < height {
			t.Fatalf("height %d, want at least %d", n.Oracle.Height(), height)
		}
		for _, x := range n.nodes {
			if x.up && x.Head().Order.Height != n.Oracle.Height() {
				t.Errorf("node %d is at height %d, want %d", x.ID, x.Head().Order.Height, n.Oracle.Height())
			}
		}
	}

	t.Run("members and an observer agree on blocks", func(t *testing.T) {
		n := group(t, 4)
		load(n, second/5, 6*second)
		n.RunUntil(8 * second)
		agrees(t, n, 10)
		for _, x := range n.nodes {
			if len(x.pool) > 0 {
				t.Errorf("node %d still has %d transactions", x.ID, len(x.pool))
			}
		}
	})
	t.Run("a group of one works", func(t *testing.T) {
		n := group(t, 1)
		load(n, second/5, 3*second)
		n.RunUntil(5 * second)
		agrees(t, n, 5)
	})
	t.Run("an idle group makes no blocks and changes no view", func(t *testing.T) {
		n := group(t, 4)
		n.Submit()
		n.RunUntil(5 * second)
		agrees(t, n, 1)
		height, changes := n.Oracle.Height(), n.ViewChanges
		n.RunUntil(25 * second)
		agrees(t, n, height)
		if n.Oracle.Height() != height || n.ViewChanges != changes {
			t.Errorf("height %d and %d view changes, want %d and %d", n.Oracle.Height(), n.ViewChanges, height, changes)
		}
	})
	t.Run("the loss of any one member of four is survived", func(t *testing.T) {
		for lost := range 4 {
			n := group(t, 4)
			load(n, second/4, 9*second)
			n.RunUntil(2 * second)
			n.nodes[lost].Crash()
			before := n.Oracle.Height()
			n.RunUntil(5 * second)
			if n.Oracle.Height() < before+3 {
				t.Errorf("height %d three seconds after the loss of member %d at %d", n.Oracle.Height(), lost, before)
			}
			n.nodes[lost].Start()
			n.RunUntil(12 * second)
			agrees(t, n, before+10)
		}
	})
	t.Run("power fails everywhere", func(t *testing.T) {
		n := group(t, 4)
		load(n, second/4, 20*second)
		for range 4 {
			n.RunUntil(n.now + second + n.upTo(second))
			for _, x := range n.nodes {
				x.Crash()
			}
			n.RunUntil(n.now + second/10)
			for _, x := range n.nodes {
				x.Start()
			}
		}
		n.RunUntil(25 * second)
		agrees(t, n, 20)
	})
	t.Run("messages are lost, doubled and late", func(t *testing.T) {
		n := group(t, 4)
		n.Delay, n.Loss, n.Duplicate = 20_000, 0.1, 0.1
		load(n, second/4, 10*second)
		n.RunUntil(10 * second)
		n.Loss = 0
		n.RunUntil(20 * second)
		agrees(t, n, 10)
	})
	t.Run("the same events give the same effects", func(t *testing.T) {
		n := group(t, 4)
		n.Loss = 0.05
		load(n, second/4, 5*second)
		n.RunUntil(2 * second)
		n.nodes[0].Crash()
		n.RunUntil(4 * second)
		n.nodes[0].Start()
		n.RunUntil(7 * second)
		agrees(t, n, 5)
		for _, x := range n.nodes {
			for i, life := range x.Log {
				life.replay(t, factory, x.ID, i)
			}
		}
	})
}

// replay gives a new engine what another was given and compares the effects byte for byte.
func (l *Life) replay(t *testing.T, factory consensus.Factory, node, life int) {
	t.Helper()
	engine := factory()
	defer shut(engine)
	effects, err := engine.Init(l.Config, slices.Clone(l.Journal))
	if err != nil {
		t.Fatal(err)
	}
	if !equal(effects, l.Start) {
		t.Errorf("node %d, start %d: Init gives %v, gave %v", node, life, effects, l.Start)
	}
	for i, event := range l.Events {
		effects, err := engine.Step(event)
		if err != nil {
			t.Fatal(err)
		}
		if !equal(effects, l.Effects[i]) {
			t.Fatalf("node %d, start %d, event %d %s: other effects than before", node, life, i, DescribeEvent(event))
		}
	}
}

// Fuzz gives a member of a group of four arbitrary events: Step must neither panic nor return an error. The seeds
// are what a member of a working group gets.
func Fuzz(f *testing.F, factory consensus.Factory) {
	n := NewNetwork(Settings{
		Members: 4, Seed: 1, Delay: 2_000, Sync: 500, Record: true, Loss: 0.02, Factory: func(int) consensus.Engine { return factory() },
	})
	for _, x := range n.nodes {
		x.Start()
	}
	for range 10 {
		n.After(n.upTo(4*second), n.Submit)
	}
	n.RunUntil(2 * second)
	n.nodes[0].Crash()
	n.RunUntil(5 * second)
	var config consensus.Config
	for _, x := range n.nodes {
		for _, life := range x.Log {
			config = life.Config
			for chunk := range slices.Chunk(life.Events, 8) {
				data, err := consensus.EncodeEvents(chunk)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := consensus.DecodeEvents(data)
		if err != nil {
			return
		}
		engine := factory()
		defer shut(engine)
		if _, err := engine.Init(config, nil); err != nil {
			t.Fatal(err)
		}
		for _, event := range events {
			effects, err := engine.Step(event)
			if err != nil {
				t.Fatalf("Step(%T): %v", event, err)
			}
			if _, err := consensus.EncodeEffects(effects); err != nil {
				t.Fatalf("effects of %T do not encode: %v", event, err)
			}
			engine.Status()
		}
	})
}
