package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fondaco/fondaco/node/vouch"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/state/keys"
)

// Kept returns how many verdicts of a node's file count under settings of its provider.
func Kept(t *testing.T, s keys.Suite, file []byte, p *plugins.Spec, settings []byte) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), verdictsFile)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	v := vouch.New(vouch.Config{Suite: s, Path: path, Origin: origin(s, p, settings)})
	defer v.Close()
	return v.Stats().Confirmed
}
