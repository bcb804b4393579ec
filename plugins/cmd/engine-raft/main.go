// Package engineraft is the plugin program of the Raft engine. The node's own binary runs it when it is
// executed as "fondaco plugin serve engine-raft".
package engineraft

import (
	"runtime/debug"

	"github.com/fondaco/fondaco/consensus/raft"
	"github.com/fondaco/fondaco/plugins/engine"
)

// Main serves the engine until the node ends it. It returns only if the host asks for it.
func Main() { engine.Serve(raft.New, manifest()) }

func manifest() engine.Manifest {
	m := engine.Manifest{Name: "raft", Version: "unknown", Fault: engine.CFT, MinMembers: 1}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && len(info.Main.Version) <= 64 {
		m.Version = info.Main.Version
	}
	return m
}
