package cli

import (
	"slices"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
)

// A node that became a member in the last block of an epoch has no number yet, and is no observer.
func TestRoleText(t *testing.T) {
	for number, want := range map[int32]string{2: "member 2 of 4", -1: "member from the next epoch on"} {
		if got := roleText(&client.Status{Role: "member", Number: number, Members: 4}); got != want {
			t.Errorf("number %d: %q, want %q", number, got, want)
		}
	}
}

// What a motion lacks is told as commands that run as they are, but for names in capitals.
func TestMotionNext(t *testing.T) {
	m := &precompiles.ListedMotion{ID: 7, Row: precompiles.Motion{Reform: &precompiles.Reform{Add: []identity.NodeID{{1}}}}}
	d := describeMotion(&scene{chain: &client.Chain{}}, m, nil)
	want := "the operator of node " + identity.NodeID{1}.Short() + ", once it is synced, runs `fondaco motion ready 7 -d DIR --from ACCOUNT --key FILE`, of any account"
	if !slices.Contains(d.Next, want) {
		t.Errorf("next is %q, want %q in it", d.Next, want)
	}
}
