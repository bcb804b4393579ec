// Own-engine is a consensus engine of a third party: a program that a node runs in place of the shipped ones. Its
// algorithm is in rota.go, what it is good for and its limits in README.md.
package main

import "github.com/fondaco/fondaco/plugins/engine"

func main() { engine.Serve(New, manifest()) }

// manifest says that members may fail and do not lie.
func manifest() engine.Manifest {
	return engine.Manifest{Name: "rota", Version: "1.0.0", Fault: engine.CFT, MinMembers: 1}
}
