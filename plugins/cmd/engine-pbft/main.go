// Package enginepbft is the plugin program of the PBFT engine. The node's own binary runs it when it is
// executed as "fondaco plugin serve engine-pbft".
package enginepbft

import (
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/plugins/engine"
)

// Main serves the engine until the node ends it. It returns only if the host asks for it.
func Main() {
	engine.Serve(pbft.New, engine.Manifest{Name: "pbft", Fault: engine.BFT, MinMembers: 1})
}
