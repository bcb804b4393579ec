package main

import (
	"context"
	"flag"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fondaco/fondaco/testnet/network"
)

var kills = flag.Int("kills", 0, "how often to kill the leader of a network under load, and measure how long no transfer becomes final")

// TestKills measures what the death of a leader costs, on processes: of the leader of four, and of two leaders in a row
// of seven. It asserts only that the network goes on, because times differ by machine; read what it logs. Allow some
// ten seconds for each kill:
//
//	go test ./testnet -run TestKills -kills 30 -v -timeout 30m
func TestKills(t *testing.T) {
	if *kills == 0 {
		t.Skip("kills leaders for many minutes: run with -kills 30")
	}
	t.Run("the leader of four", func(t *testing.T) { measureKills(t, 4, 1) })
	t.Run("two leaders in a row of seven", func(t *testing.T) { measureKills(t, 7, 2) })
}

func measureKills(t *testing.T, nodes, dead int) {
	n := startNodes(t, nodes, "pbft")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	payers := make([]*payer, nodes)
	for i := range payers {
		payers[i] = newPayer(t, n, i)
		running.Go(func() { payers[i].run(ctx) })
	}
	finals := func() (count int) {
		for _, p := range payers {
			count += p.count()
		}
		return count
	}
	var gaps []time.Duration
	for range *kills {
		before := finals()
		eventually(t, "transfers are final", func() bool { return finals() >= before+10 })
		name, err := leader(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		first := slices.IndexFunc(n.Nodes, func(x network.Node) bool { return x.Name == name })
		var gone []*network.Node
		for i := range dead {
			gone = append(gone, &n.Nodes[(first+i)%nodes])
		}
		began := time.Now()
		var wait sync.WaitGroup
		for _, node := range gone {
			wait.Go(func() {
				if err := n.Kill(node); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		gaps = append(gaps, longestGap(t, began, finals))
		for _, node := range gone {
			if _, err := n.Start(node); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.WaitReady(t.Context(), gone...); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(gaps)
	at := func(percent int) time.Duration { return gaps[(len(gaps)-1)*percent/100].Round(time.Millisecond) }
	t.Logf("%d kills of %d in %d: no transfer became final for %v at least, %v at the median, %v at 90 %%, %v at most",
		len(gaps), dead, nodes, at(0), at(50), at(90), at(100))
}

// longestGap watches a counter since began, until it has moved often after a rest, and returns its longest rest.
func longestGap(t *testing.T, began time.Time, count func() int) (gap time.Duration) {
	t.Helper()
	last, seen, moved := began, count(), 0
	eventually(t, "transfers become final again", func() bool {
		now := time.Now()
		if n := count(); n > seen {
			gap = max(gap, now.Sub(last))
			if now.Sub(began) > time.Second {
				moved += n - seen
			}
			seen, last = n, now
		}
		return moved >= 10
	})
	return gap
}
