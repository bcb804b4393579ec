// Command fondaco is a node of a fondaco chain and the command line to it.
package main

import (
	"os"

	"github.com/fondaco/fondaco/node/cli"
	enginepbft "github.com/fondaco/fondaco/plugins/cmd/engine-pbft"
	engineraft "github.com/fondaco/fondaco/plugins/cmd/engine-raft"
)

func main() {
	os.Exit(cli.Main(os.Args, cli.Plugins{
		"engine-pbft": enginepbft.Main,
		"engine-raft": engineraft.Main,
	}))
}
