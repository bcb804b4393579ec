package transport_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

func Example() {
	suite := keys.Std()
	var nodes []*transport.Endpoint
	for i := range 2 {
		signer, err := suite.Generate(suite.Vote(), rand.NewChaCha8([32]byte{byte(i)}))
		if err != nil {
			panic(err)
		}
		node, err := transport.New(transport.Config{
			Listen: "127.0.0.1:0", Suite: suite, Signer: signer,
			Chain: keys.Digest{1}, Groups: []ledger.GroupID{"main"},
			Authorize: func(h transport.Hello) (identity.Identity, error) { return identity.Identity{}, nil }, // a node asks its members
		})
		if err != nil {
			panic(err)
		}
		nodes = append(nodes, node)
	}
	alice, bob := nodes[0], nodes[1]
	alice.SetPeers([]transport.Address{{Node: bob.Self(), Addr: bob.LocalAddr().String()}})
	bob.SetPeers([]transport.Address{{Node: alice.Self(), Addr: alice.LocalAddr().String()}})

	up := make(chan struct{}, 1)
	alice.OnPeer(func(_ identity.NodeID, isUp bool) {
		if isUp {
			up <- struct{}{}
		}
	})
	bob.HandleRequest(transport.BlockSync, func(_ context.Context, _ identity.NodeID, m []byte) ([]byte, error) {
		return append([]byte("blocks "), m...), nil
	})

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, node := range nodes {
		running.Go(func() {
			if err := node.Run(ctx); err != nil {
				fmt.Println(err)
			}
		})
	}
	<-up
	blocks, err := alice.Request(ctx, bob.Self(), transport.BlockSync, []byte("7 to 9"))
	fmt.Println(string(blocks), err)
	cancel()
	running.Wait()
	// Output: blocks 7 to 9 <nil>
}
