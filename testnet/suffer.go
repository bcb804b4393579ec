package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/testnet/chaos"
	"github.com/fondaco/fondaco/testnet/history"
	"github.com/fondaco/fondaco/testnet/network"
)

func chaosCommand() *cli.Command {
	return &cli.Command{
		Name: "chaos", Usage: "run a network of its own under load and faults, and check that it kept its promises",
		Flags: []cli.Flag{
			&cli.Float64Flag{Name: "minutes", Usage: "of load and faults", Value: 10},
			&cli.Uint64Flag{Name: "seed", Usage: "which faults come, where, and for how long", Value: 1},
			&cli.StringFlag{Name: "faults", Usage: fmt.Sprintf("some of %v; default: all", chaos.Kinds())},
			&cli.StringFlag{Name: "relay", Usage: "`CONDITIONS` of the network while nothing else is wrong with it, such as loss=1%"},
			&cli.IntFlag{Name: "nodes", Aliases: []string{"n"}, Usage: "how many", Value: 4},
			&cli.IntFlag{Name: "port", Usage: "the first of four ports for each node", Value: network.DefaultPort},
			&cli.IntFlag{Name: "rate", Usage: "operations a second", Value: 50},
			&cli.DurationFlag{Name: "longest", Usage: "that a fault lasts", Value: 8 * time.Second},
			&cli.PathFlag{Name: "dir", Aliases: []string{"d"}, Usage: "the network's folder, which stays; default: a temporary one, which stays when a rule was broken"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "table or json", Value: "table"},
		},
		Action: suffer,
	}
}

func suffer(c *cli.Context) error {
	json, err := asJSON(c)
	if err != nil {
		return err
	}
	began := time.Now()
	config := chaos.Config{
		Dir: c.Path("dir"), Nodes: c.Int("nodes"), Port: c.Int("port"), Seed: c.Uint64("seed"), Rate: c.Int("rate"), Longest: c.Duration("longest"),
		Duration: time.Duration(c.Float64("minutes") * float64(time.Minute)),
		Progress: func(format string, args ...any) {
			fmt.Fprintf(c.App.ErrWriter, "%s  %s\n", time.Since(began).Round(time.Second), fmt.Sprintf(format, args...))
		},
	}
	if c.Args().Present() || config.Duration <= 0 || config.Rate < 1 || config.Nodes < 4 || config.Nodes > network.MaxNodes || config.Longest <= 0 {
		return fmt.Errorf("%w: want no arguments, 4 to %d nodes, and positive minutes, rate and longest", errUsage, network.MaxNodes)
	}
	if text := c.String("faults"); text != "" {
		if config.Faults, err = chaos.ParseKinds(text); err != nil {
			return fmt.Errorf("%w: --faults: %w", errUsage, err)
		}
	}
	if config.Conditions, err = relayConditions(c); err != nil {
		return err
	}
	keep := config.Dir != ""
	if !keep {
		if config.Dir, err = os.MkdirTemp("", "fondaco-chaos-"); err != nil {
			return err
		}
	}
	report, err := chaos.Run(c.Context, config)
	if err == nil && len(report.Violations) == 0 && !keep {
		err = os.RemoveAll(config.Dir)
	} else {
		config.Progress("the network's folder is %s", config.Dir)
	}
	if report != nil && json {
		err = errors.Join(err, printJSON(c, report))
	} else if report != nil {
		err = errors.Join(err, printReport(c, report))
	}
	if err == nil && len(report.Violations) > 0 {
		err = fmt.Errorf("%d violations: nodes' logs, operations.json and report.json are in %s", len(report.Violations), config.Dir)
	}
	return err
}

func printReport(c *cli.Context, r *chaos.Report) error {
	table := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "seed %d\t%d nodes, %.0f s, %d blocks, %d transactions, %d view changes\n", r.Seed, r.Nodes, r.Seconds, r.Blocks, r.Transactions, r.ViewChanges)
	fmt.Fprintf(table, "packets\t%d sent, %d lost, %d doubled, %d cut, %d overflowed\n\n", r.Packets.Sent, r.Packets.Lost, r.Packets.Duplicated, r.Packets.Cut, r.Packets.Overflowed)
	fmt.Fprintln(table, "FAULT\tTIMES\tNO COMMITS FOR: MEDIAN\tWORST")
	for _, f := range r.Faults {
		if f.NotRun != "" {
			fmt.Fprintf(table, "%s\tnot run\t%s\t\n", f.Kind, f.NotRun)
			continue
		}
		fmt.Fprintf(table, "%s\t%d\t%.2f s\t%.2f s\n", f.Kind, f.Count, f.Median, f.Worst)
	}
	fmt.Fprintf(table, "none\t\t\t%.2f s\n\n", r.CalmGap)
	fmt.Fprintln(table, "OPERATION\tDONE\tREFUSED\tUNKNOWN")
	for _, kind := range []history.Kind{history.Transfer, history.Query, history.Read} {
		counts := r.Operations[kind]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\n", kind, counts[history.Done], counts[history.Refused], counts[history.Unknown])
	}
	fmt.Fprintln(table, "\nRULE\tVERDICT")
	for _, rule := range r.Rules {
		broken := 0
		for _, v := range r.Violations {
			if v.Rule == rule {
				broken++
			}
		}
		if verdict := "held"; broken == 0 {
			fmt.Fprintf(table, "%s\t%s\n", rule, verdict)
		} else {
			fmt.Fprintf(table, "%s\tBROKEN %d times\n", rule, broken)
		}
	}
	for _, v := range r.Violations {
		fmt.Fprintf(table, "\n%s:\n  %s\n", v.Rule, strings.ReplaceAll(v.Detail, "\n", "\n  "))
	}
	return table.Flush()
}
