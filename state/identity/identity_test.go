package identity

import (
	"bytes"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
)

func TestNodeID(t *testing.T) {
	s := keys.Std()
	ids := make(map[NodeID]string)
	for _, a := range []keys.Algorithm{keys.Ed25519, keys.P256} {
		for _, fill := range []byte{1, 2} {
			signer, err := s.ParsePrivate(a, bytes.Repeat([]byte{fill}, 32))
			if err != nil {
				t.Fatal(err)
			}
			id := NodeIDOf(s, signer.Public())
			if other, twice := ids[id]; twice {
				t.Errorf("two keys have the id %s: %s and %s", id, other, a)
			}
			ids[id] = a.String()
			var back NodeID
			text, _ := id.MarshalText()
			if err := back.UnmarshalText(text); err != nil || back != id || string(text) != id.String() {
				t.Errorf("UnmarshalText(%s) = %s, %v", text, back, err)
			}
			if got := id.Short(); got != id.String()[2:10] {
				t.Errorf("Short() = %s of %s", got, id)
			}
		}
	}
	if err := new(NodeID).UnmarshalText([]byte("0x12")); err == nil {
		t.Error("an id of one byte is accepted")
	}
}

func TestIdentityHas(t *testing.T) {
	i := Identity{Roles: []Role{Deployer, User}}
	if !i.Has(User) || i.Has(Committee) {
		t.Errorf("roles %v: Has(user) = %t, Has(committee) = %t", i.Roles, i.Has(User), i.Has(Committee))
	}
}
