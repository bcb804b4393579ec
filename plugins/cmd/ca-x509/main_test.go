package cax509

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/keys"
)

// The test binary executes itself as the plugin program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		Main()
		return
	}
	os.Exit(m.Run())
}

// TestProgram runs the suite on the program; plugins/ca/x509ca runs it in process, with an authority.
func TestProgram(t *testing.T) {
	p, f := program(t)
	catest.RunProgram(t, p, f)
}

func BenchmarkProgram(b *testing.B) {
	p, f := program(b)
	catest.BenchProgram(b, p, f)
}

func program(t testing.TB) (catest.Program, catest.Fixtures) {
	p := catest.NewPKI(t, catest.Standard(keys.Ed25519), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC))
	settings := fmt.Sprintf("[[trust]]\nroots = %q\ncrl = [\"%s\"]\n", p.Path(catest.RootFile), strings.Join(p.Lists, `", "`))
	return catest.Program{Args: []string{"serve"}, Settings: []byte(settings)}, p.Fixtures()
}
