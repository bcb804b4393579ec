package node

import (
	"errors"
	"testing"

	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport/simnet"
)

// TestServeBusy asks a node that can take up nothing more for blocks: it says how far it is and when to ask again, which
// is no reason to doubt it. Other requests are refused.
func TestServeBusy(t *testing.T) {
	l := newLinks(t, 4, simnet.Conditions{})
	defer func() {
		for _, n := range l.nodes {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	n, from := l.nodes[0], l.nodes[1].self // nothing runs the loop, so it fills
	for n.loop.Offer(func() {}) {
	}
	ask := func(p group.Protocol, request any) ([]byte, error) {
		body, err := ledger.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		net := &network{group: "main"}
		return n.serve(t.Context(), from, net.wrap(p, body))
	}
	reply, err := ask(group.Blocks, &blocksync.Request{From: 1, To: 1})
	var r blocksync.Reply
	if err == nil {
		err = ledger.Unmarshal(reply, &r)
	}
	if err != nil || r.Wait == 0 || len(r.Blocks) > 0 || r.Head != 0 {
		t.Errorf("%+v, %v; want no blocks, head 0 and a time to ask again", r, err)
	}
	if _, err := ask(group.Bodies, [][]byte{}); !errors.Is(err, group.ErrBusy) {
		t.Errorf("bodies: %v, want ErrBusy", err)
	}
}
