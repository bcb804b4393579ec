// Package engineraft is the plugin program of the Raft engine. The node's own binary runs it when it is
// executed as "fondaco plugin serve engine-raft".
package engineraft

import (
	"github.com/fondaco/fondaco/consensus/raft"
	"github.com/fondaco/fondaco/plugins/engine"
)

// Main serves the engine until the node ends it. It returns only if the host asks for it.
func Main() {
	engine.Serve(raft.New, engine.Manifest{Name: "raft", Fault: engine.CFT, MinMembers: 1})
}
