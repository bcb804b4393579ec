// Command fondaco is a node of a fondaco chain and the command line to it.
package main

import (
	"os"

	"github.com/fondaco/fondaco/node/cli"
	cagm "github.com/fondaco/fondaco/plugins/cmd/ca-gm"
	caquorum "github.com/fondaco/fondaco/plugins/cmd/ca-quorum"
	cax509 "github.com/fondaco/fondaco/plugins/cmd/ca-x509"
	enginepbft "github.com/fondaco/fondaco/plugins/cmd/engine-pbft"
	engineraft "github.com/fondaco/fondaco/plugins/cmd/engine-raft"
)

func main() {
	os.Exit(cli.Main(os.Args, cli.Plugins{
		"ca-gm":       cagm.Main,
		"ca-quorum":   caquorum.Main,
		"ca-x509":     cax509.Main,
		"engine-pbft": enginepbft.Main,
		"engine-raft": engineraft.Main,
	}))
}
