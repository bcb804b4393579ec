package cli

import (
	"testing"

	"github.com/fondaco/fondaco/node/client"
)

// A node that became a member in the last block of an epoch has no number yet, and is no observer.
func TestRoleText(t *testing.T) {
	for number, want := range map[int32]string{2: "member 2 of 4", -1: "member from the next epoch on"} {
		if got := roleText(&client.Status{Role: "member", Number: number, Members: 4}); got != want {
			t.Errorf("number %d: %q, want %q", number, got, want)
		}
	}
}
