package main

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/sim"
)

func simCommand() *cli.Command {
	return &cli.Command{
		Name: "sim", Usage: "run whole groups on virtual time, disks and network, with faults from a seed, and check what they do",
		Description: "Exits with 0 when every rule held in every schedule, with 1 and the command that repeats it when one was broken. An interrupt " +
			"(Ctrl-C) ends it with the summary so far, and 1.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "schedules", Aliases: []string{"n"}, Usage: "how many, of consecutive seeds", Value: 5_000},
			&cli.IntFlag{Name: "nodes", Usage: fmt.Sprintf("members of the group, %d to %d", sim.MinNodes, sim.MaxNodes), Value: 4},
			&cli.Uint64Flag{Name: "seed", Usage: "of the first schedule", Value: 1},
			&cli.StringFlag{Name: "engine", Usage: "consensus `ALGORITHM`: pbft, or raft, with which nobody lies", Value: "pbft"},
			&cli.IntFlag{Name: "parallel", Usage: "schedules at once; 0: one for each processor"},
			&cli.StringFlag{Name: "byzantine", Usage: "let as many members lie as may, by this strategy; none: nobody lies"},
			&cli.BoolFlag{Name: "whole", Usage: "with the real executor, system contracts and a token in WebAssembly; slower"},
			&cli.BoolFlag{Name: "list", Usage: "print the strategies by which members lie, and the rules that refuse them"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "with --schedules 1: print what happens"},
			&cli.BoolFlag{Name: "logs", Usage: "with -v: the nodes' logs too"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "table or json", Value: "table"},
		},
		Action: simulate,
	}
}

// progressEvery is how often a campaign says how far it is.
const progressEvery = 5 * time.Second

func simulate(c *cli.Context) error {
	json, err := asJSON(c)
	if err != nil {
		return err
	}
	campaign := sim.Campaign{
		Schedule:  sim.Schedule{Nodes: c.Int("nodes"), Seed: c.Uint64("seed"), Raft: c.String("engine") == ledger.RaftEngine, Byzantine: c.String("byzantine"), Whole: c.Bool("whole")},
		Schedules: c.Int("schedules"), Parallel: c.Int("parallel"),
	}
	switch {
	case c.Args().Present():
		return fmt.Errorf("%w: sim takes no argument %q", errUsage, c.Args().First())
	case campaign.Schedules < 1:
		return fmt.Errorf("%w: --schedules %d: want at least 1", errUsage, campaign.Schedules)
	case campaign.Nodes < sim.MinNodes || campaign.Nodes > sim.MaxNodes:
		return fmt.Errorf("%w: --nodes %d: want %d to %d", errUsage, campaign.Nodes, sim.MinNodes, sim.MaxNodes)
	case c.String("engine") != "pbft" && !campaign.Raft:
		return fmt.Errorf("%w: --engine %s: want pbft or raft", errUsage, c.String("engine"))
	case campaign.Raft && campaign.Byzantine != "" && campaign.Byzantine != "none":
		return fmt.Errorf("%w: --byzantine %s: with raft nobody lies", errUsage, campaign.Byzantine)
	case campaign.Parallel < 0:
		return fmt.Errorf("%w: --parallel %d: want at least 1, or 0 for one for each processor", errUsage, campaign.Parallel)
	case c.Bool("verbose") && campaign.Schedules != 1:
		return fmt.Errorf("%w: -v prints one schedule: add --schedules 1", errUsage)
	case c.Bool("logs") && !c.Bool("verbose"):
		return fmt.Errorf("%w: --logs goes with -v", errUsage)
	case c.Bool("list"):
		return listStrategies(c, json)
	case campaign.Byzantine != "" && campaign.Byzantine != "none" && !slices.ContainsFunc(sim.Strategies(), func(s sim.Strategy) bool { return s.Name == campaign.Byzantine }):
		return fmt.Errorf("%w: --byzantine %s: there is no such strategy; --list shows them", errUsage, campaign.Byzantine)
	}
	debug.SetGCPercent(1_600) // schedules are short and leave nothing behind
	if c.Bool("verbose") {
		one := campaign.Schedule
		one.Trace, one.Log = c.App.Writer, c.Bool("logs")
		report, err := sim.Run(one)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "every rule held: %d blocks, digest %016x\n", report.Blocks, report.Digest)
		return nil
	}
	campaign.Every = progressEvery
	campaign.Progress = func(s sim.Summary) {
		fmt.Fprintf(c.App.ErrWriter, "%d of %d schedules, %.0f/s, %s left, %d blocks, %d view changes, %d crashes, %d violations\n",
			s.Schedules, s.Wanted, s.Rate, s.Left(), s.Blocks, s.Views, s.Crashes, len(s.Broken))
	}
	campaign.Found = func(v sim.Broken) bool {
		fmt.Fprintf(c.App.ErrWriter, "%s\n  repeat it with: %s\n", v.What, v.Repeat)
		return false
	}
	s, err := campaign.Run(c.Context)
	if err != nil && s.Schedules == 0 {
		return err
	}
	if json {
		if err := printJSON(c, s); err != nil {
			return err
		}
	} else if err := printSummary(c, s); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("stopped after %d of %d schedules, go on with --seed %d: %w", s.Schedules, s.Wanted, s.Seed+uint64(s.Schedules), err)
	}
	if len(s.Broken) > 0 {
		return fmt.Errorf("%d of %d schedules broke a rule; repeat the first with: %s", len(s.Broken), s.Schedules, s.Broken[0].Repeat)
	}
	return nil
}

func printSummary(c *cli.Context, s sim.Summary) error {
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "schedules\t%d of %d nodes, seeds %d to %d, in %.1f s (%.0f/s)\n", s.Schedules, s.Nodes, s.Seed, s.Seed+uint64(s.Schedules)-1, s.Seconds, s.Rate)
	fmt.Fprintf(t, "blocks\t%d, with %d transactions, in %.0f s of virtual time\n", s.Blocks, s.Txs, float64(s.VirtualMs)/1000)
	if s.Whole {
		fmt.Fprintf(t, "tokens\t%d transfers, and %d refused for want of balance\n", s.Transfers, s.Refused)
	}
	fmt.Fprintf(t, "messages\t%d, %d lost, %d copied, %d late\n", s.Messages, s.Lost, s.Copied, s.Late)
	fmt.Fprintf(t, "crashes\t%d, %d of them between two sends; %d unsynced writes lost, %d torn; %d journals lost\n", s.Crashes, s.SendCrashes, s.LostWrites, s.TornWrites, s.Journals)
	fmt.Fprintf(t, "disks\t%d failed syncs, %d writes without space, %d slow syncs\n", s.DiskErrors, s.DiskFull, s.SlowSyncs)
	fmt.Fprintf(t, "network\t%d partitions, %d of them flapping; links uneven %d times\n", s.Partitions, s.Flaps, s.Uneven)
	fmt.Fprintf(t, "clocks\t%d jumps\n", s.ClockJumps)
	fmt.Fprintf(t, "liars\t%d members that ran twice, %d that lied\n", s.Twins, s.Liars)
	for _, l := range s.Lies {
		if l.Attacks > 0 {
			fmt.Fprintf(t, "  %s\t%d attacks, %d refusals by the rules that name them\n", l.Strategy, l.Attacks, l.Refusals)
		}
	}
	fmt.Fprintf(t, "views\t%d changes\n", s.Views)
	fmt.Fprintf(t, "epochs\t%d changes of members, %d with a fault just then\n", s.Epochs, s.Turns)
	fmt.Fprintf(t, "recoveries\t%d after more members were lost for good than a group bears; %d blocks kept above the survivors' last\n", s.Recoveries, s.Kept)
	fmt.Fprintf(t, "idling\t%d times with nothing to do: no block, no view change, few messages\n", s.Idles)
	fmt.Fprintf(t, "evidence\t%d, all against members that lied\n", s.Evidence)
	switch {
	case len(s.Broken) > 0:
		fmt.Fprintf(t, "verdict\tBROKEN in %d schedules\n", len(s.Broken))
	case s.Held:
		fmt.Fprintf(t, "verdict\tevery rule held\n")
	default:
		fmt.Fprintf(t, "verdict\tevery rule held in the first %d of %d schedules\n", s.Schedules, s.Wanted)
	}
	return t.Flush()
}

func listStrategies(c *cli.Context, json bool) error {
	all := sim.Strategies()
	if json {
		return printJSON(c, all)
	}
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\trefused by: %s\n", s.Name, s.Does, strings.Join(s.Rules, ", "))
	}
	return t.Flush()
}
