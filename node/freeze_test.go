package node

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport/simnet"
)

// TestFrozenNode has a compliance officer freeze one of four members, by a transaction. The others cut it off and go on committing without it,
// until the freeze lapses or is lifted: it is let in again, catches up, and takes part, as the one that it was before.
func TestFrozenNode(t *testing.T) {
	for who, test := range map[string]struct {
		number int
		lapses bool // else a motion lifts it
		epoch  bool // another epoch begins meanwhile
	}{
		"the leader, until it lapses":                     {0, true, false},
		"a follower, until it lapses":                     {3, true, false},
		"the leader, until it is lifted":                  {0, false, false},
		"a follower, until it is lifted":                  {3, false, false},
		"the leader, until it is lifted in another epoch": {0, false, true},
		"a follower, until it is lifted in another epoch": {3, false, true},
	} {
		number := test.number
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bank{links: newLinks(t, 4, simnet.Conditions{Latency: time.Millisecond},
					ledger.GenesisAccount{Name: "admin", Institution: "bank", Roles: []string{"committee"}}, ledger.GenesisAccount{Name: "ward", Institution: "bank", Roles: []string{"compliance"}})}
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				defer running.Wait()
				defer cancel()
				for _, n := range b.nodes {
					running.Go(func() {
						if err := n.Run(ctx); err != nil {
							t.Error(err)
						}
					})
				}
				eventually := func(what string, holds func() bool) {
					t.Helper()
					for end := time.Now().Add(time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
						if time.Now().After(end) {
							t.Fatalf("waited a minute in vain until %s", what)
						}
					}
				}
				// sees reports whether a node has a connection with a member, and for what reason it has none.
				sees := func(n *Node, member int) (up bool, problem string) {
					for p := range n.endpoint.Peers() {
						if p.Node == b.genesis.Members[member].Node {
							return p.Up, p.LastError
						}
					}
					return false, "unknown"
				}
				together := func() bool {
					for i, n := range b.nodes {
						for k := range b.nodes {
							if up, _ := sees(n, k); i != k && !up {
								return false
							}
						}
					}
					return true
				}
				height := func(n *Node) ledger.Height { return n.group.Store().Head().Height() }
				commit := func() {
					t.Helper()
					b.does("admin", precompiles.ConfigAddress, "params", none{})
				}
				eventually("all are connected", together)
				commit()

				howLong := 20 * time.Second
				if !test.lapses {
					howLong = time.Hour
				}
				all, frozen := b.nodes, b.nodes[number]
				b.nodes = slices.Delete(slices.Clone(all), number, number+1)
				b.does("ward", precompiles.AccessAddress, "freeze_node", precompiles.FreezeNodeArgs{
					Node: b.genesis.Members[number].Node, Duration: howLong.Milliseconds(), Reason: "intrusion",
				})
				lapses := time.Now().Add(howLong)
				eventually("the others have cut it off, and say why", func() bool {
					return !slices.ContainsFunc(b.nodes, func(n *Node) bool {
						up, problem := sees(n, number)
						return up || !strings.Contains(problem, "the node is frozen until") || !strings.Contains(problem, "(intrusion)")
					})
				})
				eventually("it has no connection", func() bool {
					return !slices.ContainsFunc([]int{0, 1, 2, 3}, func(k int) bool { up, _ := sees(frozen, k); return up })
				})
				left := height(frozen)
				for range 5 {
					commit()
				}
				if h := height(frozen); h != left {
					t.Errorf("the frozen node went on from block %d to %d", left, h)
				}

				if test.epoch {
					params := ledger.DefaultParams()
					params.BatchDelay = 7
					b.pass(precompiles.Reform{Params: &params})
					commit()
				}
				if test.lapses {
					time.Sleep(time.Until(lapses) - time.Second)
				} else {
					time.Sleep(time.Minute) // alone for so long
				}
				if up, _ := sees(b.nodes[0], number); up {
					t.Error("it was let in before the freeze ended")
				}
				if test.lapses {
					time.Sleep(time.Second)
				} else {
					b.carry(precompiles.AccessAddress, "unfreeze_node", precompiles.UnfreezeNodeArgs{Node: b.genesis.Members[number].Node, Reason: "searched"})
				}
				b.nodes = all
				eventually("it is let in again", together)
				eventually("it has caught up", func() bool { return height(frozen) == height(all[(number+1)%4]) })
				commit() // by a receipt of each

				// Without another one, nothing goes on unless it votes.
				other := (number + 1) % 4
				b.nodes = slices.Delete(slices.Clone(all), other, other+1)
				b.does("ward", precompiles.AccessAddress, "freeze_node", precompiles.FreezeNodeArgs{
					Node: b.genesis.Members[other].Node, Duration: time.Hour.Milliseconds(), Reason: "intrusion",
				})
				eventually("the other one is cut off", func() bool { up, _ := sees(frozen, other); return !up })
				for range 5 {
					commit()
				}
			})
		})
	}
}
