package network

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// What an interrupted Add left behind is taken up again for as long as the group can still make it a member.
func TestJoiner(t *testing.T) {
	id := identity.NodeID{4}
	n := &Network{Nodes: []Node{{Name: "node3", ID: identity.NodeID{3}}, {Name: "node4", ID: id}}, Joining: "node4"}
	row := func(s precompiles.NodeStatus) *precompiles.Node { return &precompiles.Node{Status: s} }
	for what, c := range map[string]struct {
		row  *precompiles.Node
		want bool
	}{
		"unknown":   {nil, true},
		"observer":  {row(precompiles.NodeObserver), true},
		"member":    {row(precompiles.NodeMember), true},
		"retired":   {row(precompiles.NodeRetired), false},
		"dismissed": {row(precompiles.NodeDismissed), false},
	} {
		var known []precompiles.ListedNode
		if c.row != nil {
			known = []precompiles.ListedNode{{Node: identity.NodeID{3}}, {Node: id, Row: *c.row}}
		}
		node, got := n.joiner(known)
		if (node != nil) != c.want || node != nil && node.ID != id || (got != nil) != (c.want && c.row != nil) {
			t.Errorf("%s: the joiner is %+v, %+v", what, node, got)
		}
	}
	n.Joining = ""
	if node, _ := n.joiner(nil); node != nil {
		t.Errorf("the joiner is %s, and none was left behind", node.Name)
	}
}

// A node that tells less of an activation than there must be is told apart from one that fails.
func TestKeepFirstAccount(t *testing.T) {
	type reformed struct {
		_        struct{} `cbor:",toarray"`
		Founded  []ledger.Address
		Override string
	}
	for why, c := range map[string]struct {
		txs     []ledger.TxID
		founded []ledger.Address
	}{
		"holds no transaction":  {},
		"founded 0 institution": {txs: []ledger.TxID{{1}}},
		"founded 2 institution": {txs: []ledger.TxID{{1}}, founded: []ledger.Address{{1}, {2}}},
	} {
		data, err := ledger.Marshal(&reformed{Founded: c.founded})
		if err != nil {
			t.Fatal(err)
		}
		node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/blocks/") {
				_ = json.NewEncoder(w).Encode(client.Block{Txs: c.txs})
				return
			}
			_ = json.NewEncoder(w).Encode(client.Transaction{Receipt: &client.Receipt{Events: []client.Event{{Topic: "reformed", Data: data}}}})
		}))
		api, err := client.New(node.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = (&Network{}).keepFirstAccount(t.Context(), api, "bank-e", 5)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "%!") {
			t.Errorf("%v, want that it %s", err, why)
		}
		node.Close()
	}
}
