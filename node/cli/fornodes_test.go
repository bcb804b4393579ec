package cli

import (
	"errors"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
)

// What a member passes on of the PKIs that it trusts is about nodes alone, and is what an invited node takes.
func TestForNodes(t *testing.T) {
	roles := func(r ...identity.Role) []identity.Role { return r }
	trust := []x509ca.Trust{
		{Roots: "any"},
		{Roots: "users", Roles: roles(identity.User)},
		{Roots: "both", Roles: roles(identity.Node, identity.Operator), Grant: []x509ca.Grant{
			{Unit: "machines", Roles: roles(identity.Node, identity.Operator)}, {Unit: "people", Roles: roles(identity.User)},
		}},
	}
	text, err := toml.Marshal(&x509ca.Settings{Trust: forNodes(trust)})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := authoritySettings("e.invitation", &join.Invitation{CA: &join.CA{Program: "ca-x509", Settings: text}})
	if err != nil {
		t.Fatal(err)
	}
	if got := settings.Trust; len(got) != 2 || got[0].Roots != "any" || got[1].Roots != "both" || len(got[1].Grant) != 1 || got[1].Grant[0].Unit != "machines" {
		t.Errorf("passed on: %+v", got)
	}
	if len(trust[2].Roles) != 2 || len(trust[2].Grant[0].Roles) != 2 {
		t.Errorf("the member's own settings became %+v", trust[2])
	}
	if text, err = toml.Marshal(&x509ca.Settings{Trust: trust}); err != nil {
		t.Fatal(err)
	}
	_, err = authoritySettings("e.invitation", &join.Invitation{CA: &join.CA{Program: "ca-x509", Settings: text}})
	if denied, ok := errors.AsType[*exitError](err); !ok || denied.code != ExitDenied {
		t.Errorf("all of it as it is: %v, want that it is refused", err)
	}
}
