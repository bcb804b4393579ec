package cli

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "say how a node is",
		Flags: remoteFlags(),
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0, ""); err != nil {
				return err
			}
			return talk(c, func(r *remote) error {
				chain, err := r.Chain(r.ctx)
				if err != nil {
					return err
				}
				status, err := r.Status(r.ctx)
				if err != nil {
					return err
				}
				return show(c, status, func(w io.Writer) {
					row(w, "node", status.Node)
					row(w, "version", status.Version)
					row(w, "chain", fmt.Sprintf("%s %s, group %s", chain.Chain, chain.Name, chain.Group))
					row(w, "member", memberText(status.Number, len(chain.Members)))
					row(w, "height", fmt.Sprintf("%d, %s", status.Height, timeText(status.BlockTime)))
					row(w, "block", status.Block)
					row(w, "state root", status.StateRoot)
					row(w, "view", fmt.Sprintf("%d, %s", status.View, leaderText(status.Leader, status.Changing)))
					row(w, "pending", status.Pending)
					if status.Syncing > 0 {
						row(w, "behind", fmt.Sprintf("fetching blocks up to %d", status.Syncing))
					}
					if status.Stopped != "" {
						row(w, "stopped", status.Stopped)
					}
					if status.Muted != "" {
						row(w, "muted", status.Muted)
					}
					for _, p := range status.Peers {
						how := fmt.Sprintf("up, %.1f ms", p.RTT)
						if !p.Up {
							how = "down " + p.Problem
						}
						row(w, "peer", fmt.Sprintf("%s at %s: %s", p.Node.Short(), p.Address, how))
					}
					for _, p := range status.Plugins {
						how := "healthy"
						if !p.Healthy {
							how = "not healthy: " + p.Reason
						}
						row(w, "plugin", fmt.Sprintf("%s %s, process %d, %d restarts: %s", p.Name, p.Version, p.PID, p.Restarts, how))
					}
				})
			})
		},
	}
}

func memberText(number int32, members int) string {
	if number < 0 {
		return "no: an observer"
	}
	return fmt.Sprintf("%d of %d", number, members)
}

func leaderText(leader int32, changing bool) string {
	switch {
	case changing:
		return "changing"
	case leader < 0:
		return "no leader known"
	}
	return fmt.Sprintf("leader is member %d", leader)
}
