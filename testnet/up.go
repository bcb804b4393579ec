package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
	"github.com/fondaco/fondaco/testnet/relay"
	"github.com/fondaco/fondaco/transport/simnet"
)

// startPatience is how long nodes may take to become ready.
const startPatience = 30 * time.Second

func upCommand() *cli.Command {
	return &cli.Command{
		Name: "up", Usage: "start a network, making it first if the folder is empty",
		Flags: commonFlags(
			&cli.IntFlag{Name: "nodes", Aliases: []string{"n"}, Usage: "how many nodes a new network has", Value: 4},
			&cli.IntFlag{Name: "port", Usage: "the first of three ports for each node of a new network", Value: network.DefaultPort},
			&cli.StringFlag{Name: "log-level", Usage: "of the nodes of a new network", Value: "info"},
			&cli.StringFlag{Name: "suite", Usage: "cryptographic `SUITE` of a new network: std, or gm for SM2, SM3 and SM4", Value: "std"},
			&cli.BoolFlag{Name: "ca", Usage: "give each institution of a new network a certificate authority, and each node certificates of it, which the nodes ask ca-x509 about, or ca-gm"},
			&cli.BoolFlag{Name: "signer", Usage: "have the key of each node of a new network in a process of its own"},
			&cli.BoolFlag{Name: "inner", Usage: "have the nodes of a new network on gm seal their messages with SM4 once more, under TLS"},
			&cli.StringFlag{Name: "engine", Usage: "consensus `ALGORITHM` of a new network: pbft, or raft, whose members must not lie", Value: "pbft"},
			&cli.BoolFlag{Name: "trust-members", Usage: "let a new network's genesis say that its members do not lie, for an engine of your own that needs it; raft implies it"},
			&cli.PathFlag{Name: "engine-program", Usage: "`FILE` of an engine of your own, of the name that --engine gives, for a new network"},
			&cli.BoolFlag{Name: "tls", Usage: "let the APIs and admin interfaces of a new network speak HTTPS, with certificates of an authority of its own"},
			&cli.BoolFlag{Name: "detach", Usage: "leave the nodes running and return"},
			&cli.StringFlag{Name: "relay", Usage: "carry the nodes' packets through a bad network with these `CONDITIONS`, such as loss=1% or delay=50ms,jitter=20ms; clean: none yet"},
			&cli.PathFlag{Name: "relay-script", Usage: "change the relay's conditions at times, as `FILE` says (see testnet/relay)"},
			&cli.Uint64Flag{Name: "seed", Usage: "of the relay's luck", Value: 1},
		),
		Action: up,
	}
}

func up(c *cli.Context) error {
	began := time.Now()
	json, err := asJSON(c)
	if err != nil {
		return err
	}
	if c.Args().Present() {
		return fmt.Errorf("%w: up takes no arguments, and got %q", errUsage, c.Args().First())
	}
	dir := c.String("dir")
	n, err := existing(dir)
	if err == nil {
		err = checkUp(c, n)
	}
	if err != nil {
		return err
	}
	conditions, err := relayConditions(c)
	if err != nil {
		return err
	}
	nodes := c.Int("nodes")
	if n != nil {
		nodes = len(n.Nodes)
	}
	script, err := relayScript(c, nodes)
	if err != nil {
		return err
	}
	progress := func(format string, args ...any) {
		fmt.Fprintf(c.App.ErrWriter, "%5.1fs  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
	}
	fresh := n == nil
	if fresh {
		n, err = network.Create(network.Config{
			Dir: dir, Nodes: nodes, Port: c.Int("port"), Suite: c.String("suite"), Inner: c.Bool("inner"), Engine: c.String("engine"), EngineProgram: c.Path("engine-program"),
			Trust: c.Bool("trust-members"), LogLevel: c.String("log-level"), Relay: c.IsSet("relay"), TLS: c.Bool("tls"), CA: c.Bool("ca"), Signers: c.Bool("signer"),
		})
		if err != nil {
			return err
		}
	}
	running := 0
	for i := range n.Nodes {
		if n.Pid(&n.Nodes[i]) != 0 {
			running++
		}
	}
	if running == len(n.Nodes) {
		return fmt.Errorf("the network in %s is running already: `status` shows it, `down` stops it", dir)
	}
	progress("building the node")
	if _, err := network.Build(c.Context, ".", dir); err != nil {
		if fresh { // the folder was empty, and the same command is to work again
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}
	if n.HasRelay() {
		stop, err := startRelay(c, n, conditions, script, progress)
		if err != nil {
			return err
		}
		defer stop() // after the nodes
	}
	progress("starting %d nodes in %s", len(n.Nodes)-running, dir)
	started := false
	defer func() {
		if !started || !c.Bool("detach") {
			if err := n.StopAll(); err != nil {
				fmt.Fprintf(c.App.ErrWriter, "testnet: %v\n", err)
			}
		}
	}()
	if err := startAll(c.Context, n); err != nil {
		return err
	}
	demo, err := demonstrate(c.Context, n, progress)
	if err != nil {
		return err
	}
	started = true
	if json {
		err = printJSON(c, map[string]any{"network": n, "dir": dir, "transfers": demo.transfers, "balances": demo.balances, "seconds": time.Since(began).Seconds()})
	} else {
		err = report(c.App.Writer, n, dir, demo, c.Bool("detach"))
	}
	if err != nil || c.Bool("detach") {
		return err
	}
	<-c.Context.Done()
	progress("stopping the nodes")
	return nil
}

// startAll starts the nodes that do not run and waits until all are ready.
func startAll(ctx context.Context, n *network.Network) error {
	nodes := make([]*network.Node, len(n.Nodes))
	for i := range n.Nodes {
		nodes[i] = &n.Nodes[i]
		if _, err := n.Start(nodes[i]); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return n.WaitReady(ctx, nodes...)
}

// relayConditions reads the flag --relay.
func relayConditions(c *cli.Context) (simnet.Conditions, error) {
	conditions, err := relay.ParseConditions(c.String("relay"))
	if err != nil {
		err = fmt.Errorf("%w: --relay: %w", errUsage, err)
	}
	return conditions, err
}

// relayScript reads the script of --relay-script for a network of so many nodes; nil without that flag.
func relayScript(c *cli.Context, nodes int) ([]relay.Change, error) {
	path := c.Path("relay-script")
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--relay-script: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	script, err := relay.ParseScript(file, nodes)
	if err != nil {
		return nil, fmt.Errorf("--relay-script %s: %w", path, err)
	}
	return script, nil
}

// startRelay runs the network's relay under conditions and a script. stop ends it.
func startRelay(c *cli.Context, n *network.Network, conditions simnet.Conditions, script []relay.Change, progress func(string, ...any)) (stop func(), err error) {
	r, err := n.Relay(c.Uint64("seed"))
	if err != nil {
		return nil, err
	}
	r.SetConditions(-1, -1, conditions)
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context))
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if err := r.Run(ctx); err != nil {
			progress("%v", err)
		}
	})
	tasks.Go(func() { r.Play(ctx, script, func(change relay.Change) { progress("relay: %s", change.Text) }) })
	return func() {
		cancel()
		tasks.Wait()
	}, nil
}

// existing returns the network in a folder; nil if there is none yet.
func existing(dir string) (*network.Network, error) {
	_, err := os.Stat(filepath.Join(dir, network.ManifestFile))
	switch {
	case err == nil:
		return network.Open(dir)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	return nil, fmt.Errorf("the folder %s cannot be read: %w; name another with -d", dir, err)
}

// checkUp refuses flags that would be without effect on the network in the folder, or on the new one if n is nil.
func checkUp(c *cli.Context, n *network.Network) error {
	dir, relayed := c.String("dir"), c.IsSet("relay")
	if n != nil {
		for _, name := range []string{"nodes", "port", "log-level", "suite", "inner", "engine", "trust-members", "engine-program", "tls", "ca", "signer"} {
			if c.IsSet(name) {
				return fmt.Errorf("%w: --%s is for a new network, and there is one in %s: leave it out to start that one, or name another folder with -d", errUsage, name, dir)
			}
		}
		if relayed && !n.HasRelay() {
			return fmt.Errorf("%w: the network in %s has no relay: leave --relay out, or name another folder with -d to make one that has", errUsage, dir)
		}
		relayed = n.HasRelay()
	}
	nodes := c.Int("nodes")
	switch {
	case nodes < 1 || nodes > network.MaxNodes:
		return fmt.Errorf("%w: -n %d: want 1 to %d nodes", errUsage, nodes, network.MaxNodes)
	case c.Bool("inner") && c.String("suite") != "gm":
		return fmt.Errorf("%w: --inner is for networks on gm: add --suite gm", errUsage)
	case relayed && c.Bool("detach"):
		return fmt.Errorf("%w: the relay of the network in %s ends with this command: leave --detach out", errUsage, dir)
	}
	for _, name := range []string{"relay-script", "seed"} {
		if c.IsSet(name) && !relayed {
			return fmt.Errorf("%w: --%s is for a network with a relay: add --relay clean, or other conditions", errUsage, name)
		}
	}
	return nil
}

// demo is what up shows of the running network.
type demo struct {
	transfers []*client.Transaction
	balances  []balance
}

type balance struct {
	Account string         `json:"account"`
	Address ledger.Address `json:"address"`
	Units   string         `json:"units"`
}

// demonstrate deploys the token if the network has none, transfers some of it, and reads the balances.
func demonstrate(ctx context.Context, n *network.Network, progress func(string, ...any)) (*demo, error) {
	api, err := n.Client(n.Nodes[0].API)
	if err != nil {
		return nil, err
	}
	token, err := n.OpenToken(ctx, api)
	if err != nil {
		return nil, err
	}
	if token == nil {
		progress("building examples/token to WebAssembly and deploying it")
		if token, err = n.DeployToken(ctx, api, "."); err != nil {
			return nil, err
		}
		receipt, err := token.Send(ctx, "admin", "issue", n.Address("alice").String(), "1000")
		if err != nil {
			return nil, err
		}
		if receipt.Receipt.Status != ledger.OK.String() {
			return nil, fmt.Errorf("the token's issue ended as %s", receipt.Receipt.Status)
		}
	}
	d := &demo{}
	progress("transferring")
	for _, amount := range []string{"5", "7", "100000000"} {
		tx, err := token.Send(ctx, "alice", "transfer", n.Address("bob").String(), amount)
		if err != nil {
			return nil, err
		}
		d.transfers = append(d.transfers, tx)
	}
	for _, name := range []string{"alice", "bob"} {
		units, err := token.Balance(ctx, n.Address(name))
		if err != nil {
			return nil, err
		}
		d.balances = append(d.balances, balance{name, n.Address(name), units})
	}
	progress("ready")
	return d, nil
}

func report(out io.Writer, n *network.Network, dir string, d *demo, detached bool) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nTRANSFER\tBLOCK\tSTATUS\tGAS")
	for _, tx := range d.transfers {
		status := tx.Receipt.Status
		if tx.Receipt.Error != "" {
			status += ": " + tx.Receipt.Error + " " + string(tx.Receipt.Decoded)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\n", tx.ID, tx.Height, status, tx.Receipt.Gas)
	}
	fmt.Fprintln(table, "\nACCOUNT\tADDRESS\tUNITS")
	for _, b := range d.balances {
		fmt.Fprintf(table, "%s\t%s\t%s\n", b.Account, b.Address, b.Units)
	}
	fmt.Fprintln(table, "\nNODE\tINSTITUTION\tAPI\tMETRICS")
	for _, node := range n.Nodes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s/metrics\n", node.Name, node.Institution, node.API, node.Admin)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	where := ""
	if def := commonFlags()[0].(*cli.StringFlag).Value; def != dir {
		where = " -d " + dir
	}
	shown := ""
	if n.TLS {
		shown = fmt.Sprintf(`--cacert %s -H "Authorization: Bearer $(cat %s)" `, n.RootPath(), n.TokenPath())
	}
	fmt.Fprintf(out, `
The token is at %s. Try:

  go run ./testnet status%s
  go run ./testnet kill%s leader
  go run ./testnet bench%s --duration 10s
  curl %s%s/v1/blocks/latest
  go run ./node/cmd/fondaco --profile %s account show alice
`, n.Token, where, where, where, shown, n.Nodes[0].API, filepath.Join(n.ProfileDir(), "alice.toml"))
	if detached {
		_, err := fmt.Fprintf(out, "  go run ./testnet down%s\n", where)
		return err
	}
	_, err := fmt.Fprintln(out, "\nCtrl-C stops all nodes; their state stays for the next `up`.")
	return err
}
