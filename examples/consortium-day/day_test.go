// Package consortiumday_test lives through a day of a consortium, day.txt, on a network of real nodes.
package consortiumday_test

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fondaco/fondaco/node/cli/clitest"
	"github.com/fondaco/fondaco/testnet/network"
)

// TestDay runs day.txt, in which $NET is the network's folder, $AS that of the accounts' profiles, and $PORT the first of its ports.
func TestDay(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts a network")
	}
	bin := t.TempDir()
	for name, source := range map[string]string{"fondaco": "../../node/cmd/fondaco", "testnet": "../../testnet"} {
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), source).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", source, err, out)
		}
	}
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	port := 20_000
	for network.CheckPorts(port, 5) != nil {
		port = 20_000 + rand.IntN(30_000)
	}
	testscript.Run(t, testscript.Params{
		Files:               []string{"day.txt"},
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			dir := t.TempDir()
			env.Defer(func() {
				if n, err := network.Open(filepath.Join(dir, "net")); err == nil {
					if err := n.StopAll(); err != nil {
						t.Error(err)
					}
				}
			})
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} { // what building contracts needs
				value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
				if err != nil {
					return err
				}
				env.Setenv(name, string(value[:len(value)-1]))
			}
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("MODULE", module)
			env.Setenv("NET", filepath.Join(dir, "net"))
			env.Setenv("AS", filepath.Join(dir, "net", "profiles"))
			env.Setenv("PORT", strconv.Itoa(port))
			return nil
		},
		Cmds: clitest.Commands(nil),
	})
}
