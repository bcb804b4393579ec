package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// fixtures are certificates with the list that names them. There is no fixture for what a list has no idea of: revocation
// lists, authorities and what they may issue.
func fixtures(t *testing.T) (settings []byte, f catest.Fixtures) {
	all := catest.NewPKI(t, catest.Standard(keys.Ed25519), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)).Fixtures()
	f = catest.Fixtures{
		At: all.At, Institution: "bank-a", Good: all.Good, Root: all.Good[len(all.Good)-1], Purpose: ca.Node, Roles: []identity.Role{"node", "operator"}, Other: ca.User,
		UnknownRoot: all.UnknownRoot, Expired: all.Expired, NotYetValid: all.NotYetValid, WrongAlgorithm: all.WrongAlgorithm, Forged: all.Forged,
	}
	var list []byte
	for _, chain := range [][][]byte{f.Good, f.Expired, f.NotYetValid, f.WrongAlgorithm, f.Forged} {
		list = fmt.Appendf(list, "%s bank-a operator,node\n", identity.Fingerprint(keys.Std(), chain[0]))
	}
	path := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return []byte(path), f
}

func TestProvider(t *testing.T) {
	settings, f := fixtures(t)
	p := new(Provider)
	if err := p.Configure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	catest.Run(t, p, f)
}

func TestProgram(t *testing.T) {
	settings, f := fixtures(t)
	catest.RunProgram(t, catest.Program{Path: "build/allowed", Settings: settings}, f)
}
