package network

import (
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
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
