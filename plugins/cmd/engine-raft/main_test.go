package engineraft

import (
	"os"
	"testing"

	"github.com/fondaco/fondaco/plugins/engine/enginetest"
)

// The test binary executes itself as the plugin program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		Main()
		return
	}
	os.Exit(m.Run())
}

// TestProgram runs the suite on the program; consensus/raft runs it in process.
func TestProgram(t *testing.T) { enginetest.RunProgram(t, enginetest.Program{Args: []string{"serve"}}) }
