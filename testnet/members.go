package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	nodecli "github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/testnet/network"
)

// changePatience is how long a change of members may take, with all that a node that joins must fetch.
const changePatience = 2 * time.Minute

func addCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add a node of a new institution: it observes, fetches all blocks, and becomes a member",
		Flags: commonFlags(&cli.StringFlag{Name: "sync", Usage: "how it begins, `blocks` or snapshot: by a recent state and the blocks since then", Value: nodecli.SyncBlocks}),
		Action: func(c *cli.Context) error {
			sync := c.String("sync")
			if sync != nodecli.SyncBlocks && sync != nodecli.SyncSnapshot {
				return fmt.Errorf("%w: --sync %q: want %s or %s", errUsage, sync, nodecli.SyncBlocks, nodecli.SyncSnapshot)
			}
			return changeMembers(0, func(ctx context.Context, n *network.Network, _ *network.Node, tell func(string, ...any)) error {
				_, err := n.Add(ctx, nil, sync, tell)
				return err
			})(c)
		},
	}
}

func removeCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "take the vote from a node, which goes on as an observer", ArgsUsage: "NODE",
		Flags: commonFlags(&cli.StringFlag{Name: "override", Usage: "`REASON` for fewer members than the network must keep"}),
		Action: func(c *cli.Context) error {
			return changeMembers(1, func(ctx context.Context, n *network.Network, node *network.Node, tell func(string, ...any)) error {
				tx, err := n.Remove(ctx, node, c.String("override"))
				if err == nil {
					tell("%s has no vote any more since block %d", node.Name, tx.Height)
				}
				return err
			})(c)
		},
	}
}

func replaceCommand() *cli.Command {
	return &cli.Command{
		Name: "replace", Usage: "add a node that takes the vote of another", ArgsUsage: "NODE", Flags: commonFlags(),
		Action: changeMembers(1, func(ctx context.Context, n *network.Network, node *network.Node, tell func(string, ...any)) error {
			_, err := n.Add(ctx, node, "", tell)
			return err
		}),
	}
}

// changeMembers runs a change with the node that the argument names, if one is wanted, and shows the members after.
func changeMembers(wanted int, change func(context.Context, *network.Network, *network.Node, func(string, ...any)) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		switch {
		case c.NArg() == 0 && wanted == 1:
			return fmt.Errorf("%w: name a node, such as node0", errUsage)
		case c.NArg() > wanted:
			return fmt.Errorf("%w: %s does not take %q", errUsage, c.Command.Name, c.Args().Get(wanted))
		}
		if _, err := asJSON(c); err != nil {
			return err
		}
		n, err := network.Open(c.String("dir"))
		if err != nil {
			return err
		}
		var node *network.Node
		if wanted > 0 {
			if node, err = n.Node(c.Args().First()); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(c.Context, changePatience)
		defer cancel()
		began := time.Now()
		if err := change(ctx, n, node, func(format string, args ...any) {
			fmt.Fprintf(c.App.ErrWriter, "%5.1fs  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
		}); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("%w: run the same command again, it goes on where it was", err)
			}
			return err
		}
		return showNodes(c, n)
	}
}
