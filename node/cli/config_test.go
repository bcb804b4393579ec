package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/cli"
)

func TestReadConfig(t *testing.T) {
	for text, want := range map[string]string{
		"[pool]\nwait_ms = 600000":              "",
		"[pool]\nwait_ms = -1":                  "",
		"[pool]\nwait_ms = 600001":              "want 600000 at most",
		"[pool]\nwait_ms = 9223372036854775807": "want 600000 at most",
		"[wasm]\nshadow_share = 1.5":            "from 0 to 1",
		"[network]\nsync = 'fast'":              "want blocks or snapshot",
		"[wasm]\nworkers = -1":                  "wasm.workers -1",
		"[consensus]\nsha256 = '00'":            "64 hexadecimal digits",
		"[pool]\nwait = 5":                      `unknown key "pool.wait"`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, cli.ConfigFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := cli.ReadConfig(dir); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}
