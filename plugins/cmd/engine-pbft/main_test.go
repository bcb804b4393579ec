package enginepbft

import (
	"os"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/plugins"
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

func TestInProcess(t *testing.T) { enginetest.Run(t, pbft.New) }

func TestOutOfProcess(t *testing.T) {
	h := plugins.New(plugins.Config{Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	e, err := h.Engine(t.Context(), plugins.Spec{Name: "pbft", Args: []string{"serve"}})
	if err != nil {
		t.Fatal(err)
	}
	if m := e.Manifest(); m.Name != "pbft" {
		t.Errorf("Manifest.Name = %q, want pbft", m.Name)
	}
	enginetest.Run(t, e.New)
}
