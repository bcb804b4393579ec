package node

import (
	"errors"
	"testing"

	"github.com/fondaco/fondaco/node/group"
)

// TestBehind: a node that is only told of blocks may lack the newest anchor of its log of reads as well as one that has fetched some.
func TestBehind(t *testing.T) {
	for what, c := range map[string]struct {
		status group.Status
		want   bool
	}{
		"nobody says that there are more blocks":          {group.Status{}, false},
		"somebody says so":                                {group.Status{Claimed: true}, true},
		"it fetches a state":                              {group.Status{Joining: new(group.Joining)}, true},
		"it lacks blocks that nobody who answers has":     {group.Status{Lacking: errors.New("no node has block 7 any more")}, true},
		"it fetches blocks, of which the first have come": {group.Status{Claimed: true, Syncing: 9}, true},
	} {
		if got := behind(c.status); got != c.want {
			t.Errorf("%s: behind = %t", what, got)
		}
	}
}
