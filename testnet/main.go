// Command testnet runs temporary networks of nodes on this machine:
//
//	go run ./testnet up
//
// builds the node, makes keys and a genesis, starts four nodes on loopback, deploys examples/token and transfers
// some of it. Run it in the folder of the module. The library behind it is in testnet/network, the simulator in
// testnet/sim.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/testnet/network"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage marks errors of the command line; they exit with 2.
var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, out, diagnostics io.Writer) int {
	app := &cli.App{
		Name: "testnet", Usage: "temporary networks of fondaco nodes on this machine", HideHelpCommand: true,
		Writer: out, ErrWriter: diagnostics,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return fmt.Errorf("%w: %w", errUsage, err) },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return fmt.Errorf("%w: there is no command %q; `go run ./testnet --help` lists them", errUsage, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{upCommand(), statusCommand(), downCommand(), killCommand(), startCommand(), addCommand(), removeCommand(), replaceCommand(), benchCommand(), simCommand(), chaosCommand()},
	}
	for _, command := range app.Commands {
		command.OnUsageError = app.OnUsageError
	}
	err := app.RunContext(ctx, args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(diagnostics, "testnet: %v\n", err)
		return 2
	default:
		fmt.Fprintf(diagnostics, "testnet: %v\n", err)
		return 1
	}
}

// commonFlags are the flags of every command.
func commonFlags(more ...cli.Flag) []cli.Flag {
	dir := "testnet"
	if cache, err := os.UserCacheDir(); err == nil {
		dir = filepath.Join(cache, "fondaco", "testnet")
	}
	return append([]cli.Flag{
		&cli.StringFlag{Name: "dir", Aliases: []string{"d"}, Usage: "the network's folder", Value: dir, EnvVars: []string{"FONDACO_TESTNET"}},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "table or json", Value: "table"},
	}, more...)
}

// asJSON reports whether the output is for programs.
func asJSON(c *cli.Context) (bool, error) {
	switch o := c.String("output"); o {
	case "table":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, fmt.Errorf("%w: -o %q: want table or json", errUsage, o)
	}
}

func printJSON(c *cli.Context, v any) error {
	encoder := json.NewEncoder(c.App.Writer)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// NodeStatus is a node in the output of `status -o json`.
type NodeStatus struct {
	Name        string         `json:"name"`
	Institution string         `json:"institution"`
	PID         int            `json:"pid"` // 0: not running
	API         string         `json:"api"`
	Admin       string         `json:"admin"`
	Ready       bool           `json:"ready"`
	Problem     string         `json:"problem"` // why it is not ready
	Status      *client.Status `json:"status,omitempty"`
}

func nodeStatus(ctx context.Context, n *network.Network, node *network.Node) NodeStatus {
	s := NodeStatus{Name: node.Name, Institution: node.Institution, PID: n.Pid(node), API: node.API, Admin: node.Admin}
	if s.PID == 0 {
		s.Problem = "not running"
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := n.Ready(ctx, node); err != nil {
		s.Problem = err.Error()
	} else {
		s.Ready = true
	}
	if api, err := n.Client(node.API); err == nil {
		if status, err := api.Status(ctx); err == nil {
			s.Status = status
		}
	}
	return s
}

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the nodes", Flags: commonFlags(),
		Action: func(c *cli.Context) error {
			n, err := opened(c)
			if err != nil {
				return err
			}
			return showNodes(c, n)
		},
	}
}

// showNodes prints how the nodes are.
func showNodes(c *cli.Context, n *network.Network) error {
	json, err := asJSON(c)
	if err != nil {
		return err
	}
	all := make([]NodeStatus, len(n.Nodes))
	for i := range n.Nodes {
		all[i] = nodeStatus(c.Context, n, &n.Nodes[i])
	}
	if json {
		return printJSON(c, all)
	}
	return printNodes(c.App.Writer, all)
}

// printNodes prints a line for each node. Numbers are those that the commands take and other nodes' logs have.
func printNodes(out io.Writer, all []NodeStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tPID\tAPI\tMEMBER\tROLE\tHEIGHT\tEPOCH\tVIEW\tWAITING\tSTATE ROOT\tREADY")
	for _, s := range all {
		pid, ready := fmt.Sprint(s.PID), "yes"
		if s.PID == 0 {
			pid = "-"
		}
		if !s.Ready {
			ready = "no: " + strings.Join(strings.FieldsFunc(s.Problem, func(r rune) bool { return r == '\n' || r == '\t' }), "; ")
		}
		if s.Status == nil {
			fmt.Fprintf(table, "%s\t%s\t%s\t-\t-\t-\t-\t-\t-\t-\t%s\n", s.Name, pid, s.API, ready)
			continue
		}
		member, role := "-", s.Status.Role
		if s.Status.Number >= 0 {
			member = fmt.Sprint(s.Status.Number)
		}
		switch {
		case s.Status.Muted != "":
			role = "mute"
		case s.Status.Number >= 0 && s.Status.Number == s.Status.Leader:
			role = "leader"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n",
			s.Name, pid, s.API, member, role, s.Status.Height, s.Status.Epoch, s.Status.View, s.Status.Pending, s.Status.StateRoot.Short(), ready)
	}
	return table.Flush()
}

// opened returns the network that the flags of a command without arguments name.
func opened(c *cli.Context) (*network.Network, error) {
	if c.Args().Present() {
		return nil, fmt.Errorf("%w: %s takes no arguments, and got %q", errUsage, c.Command.Name, c.Args().First())
	}
	if _, err := asJSON(c); err != nil {
		return nil, err
	}
	return network.Open(c.String("dir"))
}

func downCommand() *cli.Command {
	return &cli.Command{
		Name: "down", Usage: "stop all nodes; their state stays", Flags: commonFlags(),
		Action: func(c *cli.Context) error {
			n, err := opened(c)
			if err != nil {
				return err
			}
			return n.StopAll()
		},
	}
}

func killCommand() *cli.Command {
	return &cli.Command{
		Name: "kill", Usage: "end a node, or its signer, as a crash would", ArgsUsage: "NODE…", Flags: commonFlags(signerFlag()),
		Action: eachNode(func(_ context.Context, n *network.Network, node *network.Node) error { return n.Kill(node) }, (*network.Network).KillSigner),
	}
}

func startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start a node again, or its signer alone", ArgsUsage: "NODE…", Flags: commonFlags(signerFlag()),
		Action: eachNode(func(ctx context.Context, n *network.Network, node *network.Node) error {
			if _, err := n.Start(node); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, startPatience)
			defer cancel()
			return n.WaitReady(ctx, node)
		}, (*network.Network).StartSigner),
	}
}

func signerFlag() cli.Flag {
	return &cli.BoolFlag{Name: "signer", Usage: "the signer of the node, and not the node"}
}

// eachNode applies a function to the nodes that the arguments name, or to the leader for the argument "leader"; with --signer another one.
func eachNode(do func(context.Context, *network.Network, *network.Node) error, signer func(*network.Network, *network.Node) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if !c.Args().Present() {
			return fmt.Errorf("%w: name a node, such as node0, or leader", errUsage)
		}
		json, err := asJSON(c)
		if err != nil {
			return err
		}
		n, err := network.Open(c.String("dir"))
		if err != nil {
			return err
		}
		done := []string{}
		for _, name := range c.Args().Slice() {
			if name == "leader" {
				if name, err = leader(c.Context, n); err != nil {
					return err
				}
			}
			node, err := n.Node(name)
			if err != nil {
				return err
			}
			if !c.Bool("signer") {
				err = do(c.Context, n, node)
			} else if n.Signers {
				err = signer(n, node)
			} else {
				err = fmt.Errorf("%w: this network has no signers: make one that has with `up --signer`", errUsage)
			}
			if err != nil {
				return err
			}
			if done = append(done, node.Name); !json {
				fmt.Fprintln(c.App.Writer, node.Name)
			}
		}
		if json {
			return printJSON(c, done)
		}
		return nil
	}
}

// leader asks the running nodes who leads.
func leader(ctx context.Context, n *network.Network) (string, error) {
	for i := range n.Nodes {
		if s := nodeStatus(ctx, n, &n.Nodes[i]); s.Status != nil && s.Status.Number >= 0 && s.Status.Leader >= 0 {
			api, err := n.Client(n.Nodes[i].API)
			if err != nil {
				return "", err
			}
			chain, err := api.Chain(ctx)
			if err != nil || int(s.Status.Leader) >= len(chain.Members) {
				continue
			}
			id := chain.Members[s.Status.Leader].Node
			at := slices.IndexFunc(n.Nodes, func(node network.Node) bool { return node.ID == id })
			if at < 0 {
				return "", fmt.Errorf("member %d leads, whose node %s this network did not start", s.Status.Leader, id.Short())
			}
			return n.Nodes[at].Name, nil
		}
	}
	return "", errors.New("no running node knows a leader")
}
