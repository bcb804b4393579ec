package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
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
					row(w, "engine", fmt.Sprintf("%s, epoch %d", status.Engine, status.Epoch))
					row(w, "role", roleText(status))
					row(w, "quorum", quorumText(ledger.Finality(status.Engine), status.Members))
					row(w, "height", fmt.Sprintf("%d, %s", status.Height, timeText(status.BlockTime)))
					row(w, "block", status.Block)
					row(w, "state root", status.StateRoot)
					if status.Kept > 0 {
						row(w, "pruned", fmt.Sprintf("of the blocks below %d there are headers and certificates only", status.Kept))
					}
					if status.Archive != nil {
						row(w, "archive", archiveText(status.Archive))
					}
					row(w, "view", fmt.Sprintf("%d, %s", status.View, leaderText(status, chain)))
					row(w, "pending", status.Pending)
					if status.Syncing > 0 {
						row(w, "behind", behindText(status))
					}
					if status.Joining != nil {
						row(w, "joining", joiningText(status.Joining))
					}
					if status.Lacking != "" {
						row(w, "lacks blocks", status.Lacking)
					}
					if status.Stopped != "" {
						row(w, "stopped", status.Stopped)
					}
					for _, f := range status.Features {
						row(w, "feature", featureText(&f, status))
					}
					for _, p := range status.Peers {
						how := fmt.Sprintf("up, %.1f ms", p.RTT)
						if !p.Up {
							how = "down: " + cmp.Or(p.Problem, "not reached yet")
						}
						row(w, "peer", fmt.Sprintf("%s at %s: %s", p.Node.Short(), p.Address, how))
					}
					for _, f := range status.Frozen {
						row(w, "frozen", fmt.Sprintf("%s of %s, %s", f.Node, f.Institution, nodeFreezeText(&f.Freeze)))
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

// featureText tells from when on a feature holds on a node's chain, and whether the node can follow.
func featureText(f *client.Feature, s *client.Status) string {
	text := fmt.Sprintf("%s, since block %d", f.Name, f.Height)
	if !f.Holds(s) {
		text = fmt.Sprintf("%s, from block %d on", f.Name, f.Height)
		if f.Height > s.Height {
			text += fmt.Sprintf(", in %d blocks", f.Height-s.Height)
		}
		if f.From > s.BlockTime {
			text += ", not before " + timeText(f.From)
		}
	}
	if !f.Known {
		text += fmt.Sprintf(": this node's release does not have it and stops before; install release %s or a later one", f.Release)
	}
	return text
}

// archiveText tells which old states a node has.
func archiveText(a *client.Archive) string {
	text := "no states yet"
	if a.Some {
		text = fmt.Sprintf("states after blocks %d to %d, %d bytes", a.From, a.To, a.Bytes)
	}
	if a.Problem != "" {
		text += "; it does not go on: " + a.Problem
	}
	return text
}

// behindText tells how a node catches up.
func behindText(s *client.Status) string {
	text := fmt.Sprintf("fetching blocks, at %d of %d", s.Height, s.Syncing)
	if f := s.Fetch; f != nil {
		text += fmt.Sprintf(", %.0f a second", f.PerSecond)
		if f.SecondsLeft > 0 {
			text += fmt.Sprintf(", %v left", time.Duration(f.SecondsLeft*float64(time.Second)).Round(time.Second))
		}
		var shares []string
		for _, share := range f.From {
			shares = append(shares, fmt.Sprintf("%s: %d", share.Node.Short(), share.Blocks))
		}
		if shares != nil {
			text += ", from " + strings.Join(shares, ", ")
		}
	}
	return text
}

// joiningText tells how a node fetches a state.
func joiningText(s *client.Joining) string {
	if s.Height == 0 {
		return "asking the others for a state to begin with"
	}
	text := fmt.Sprintf("fetching the state after block %d: %d of %d bytes, and %d of %d blocks", s.Height, s.Bytes, s.Of, s.Blocks, s.Height+1)
	var shares []string
	for _, share := range s.From {
		shares = append(shares, fmt.Sprintf("%s: %d", share.Node.Short(), share.Bytes))
	}
	if shares != nil {
		text += "; bytes from " + strings.Join(shares, ", ")
	}
	return text
}

func memberText(number int32, members int) string {
	if number < 0 {
		return "no: an observer"
	}
	return fmt.Sprintf("%d of %d", number, members)
}

// roleText says what a node is to the group, and why it has no vote if it has none.
func roleText(s *client.Status) string {
	switch s.Role {
	case precompiles.NodeMember.String():
		if s.Number < 0 {
			return "member from the next epoch on"
		}
		text := "member " + memberText(s.Number, s.Members)
		if s.Muted != "" {
			text += ", mute: " + s.Muted
		}
		return text
	case precompiles.NodeObserver.String():
		return "observer: it follows without a vote; `fondaco member propose --add` asks for one"
	case precompiles.NodeRetired.String():
		return "retired: it was a member, and follows without a vote"
	case precompiles.NodeDismissed.String():
		return "dismissed: the others do not let it connect any more"
	}
	return "unknown: the group has not admitted it, as far as it has fetched the blocks; `fondaco member propose --observe` asks for it"
}

func leaderText(s *client.Status, chain *client.Chain) string {
	switch {
	case s.Changing:
		return "changing"
	case s.Leader < 0:
		return "no leader known"
	case int(s.Leader) < len(chain.Members) && chain.Epoch == s.Epoch:
		return fmt.Sprintf("leader is member %d, of %s", s.Leader, chain.Members[s.Leader].Institution)
	}
	return fmt.Sprintf("leader is member %d", s.Leader)
}
