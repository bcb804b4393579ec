// Package enginepbft is the plugin program of the PBFT engine. The node's own binary runs it when it is
// executed as "fondaco plugin serve engine-pbft".
package enginepbft

import (
	"runtime/debug"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/plugins/engine"
)

// Main serves the engine until the node ends it. It returns only if the host asks for it.
func Main() { engine.Serve(pbft.New, manifest()) }

func manifest() engine.Manifest {
	m := engine.Manifest{Name: "pbft", Version: "unknown", Fault: engine.BFT, MinMembers: 1}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && len(info.Main.Version) <= 64 {
		m.Version = info.Main.Version
	}
	return m
}
