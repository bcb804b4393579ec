package consensus

import (
	"fmt"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Check says what is wrong with a configuration, or returns its suite.
func (c *Config) Check() (keys.Suite, error) {
	suite, err := keys.SuiteByName(c.Suite)
	switch {
	case err != nil:
		return nil, err
	case len(c.Epoch.Members) == 0:
		return nil, fmt.Errorf("epoch %d has no members", c.Epoch.Number)
	case int(c.Self) >= len(c.Epoch.Members):
		return nil, fmt.Errorf("self is member %d of %d", c.Self, len(c.Epoch.Members))
	}
	return suite, nil
}

// NodeID returns the id by which the node finds itself in later epochs; zero: it never becomes a member.
func (c *Config) NodeID() identity.NodeID {
	if c.Self >= 0 && c.Node == (identity.NodeID{}) {
		return c.Epoch.Members[c.Self].Node
	}
	return c.Node
}

// MemberOf returns the number of a node among the members of an epoch, or -1.
func MemberOf(epoch *ledger.Epoch, node identity.NodeID) int {
	if node != (identity.NodeID{}) {
		for i, m := range epoch.Members {
			if m.Node == node {
				return i
			}
		}
	}
	return -1
}
