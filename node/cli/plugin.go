package cli

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func pluginCommand(programs Plugins) *cli.Command {
	names := slices.Sorted(maps.Keys(programs))
	return &cli.Command{
		Name:  "plugin",
		Usage: "plugin programs: those that a node runs, and those that this binary contains",
		Subcommands: []*cli.Command{{
			Name:  "list",
			Usage: "list the programs that a node runs, and how they are",
			Flags: remoteFlags(),
			Action: func(c *cli.Context) error {
				if _, err := arguments(c, 0, 0, ""); err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					status, err := r.Status(r.ctx)
					if err != nil {
						return err
					}
					return show(c, status.Plugins, func(w io.Writer) {
						row(w, "NAME", "PROGRAM", "PROCESS", "RESTARTS", "SINCE", "STATE")
						for i := range status.Plugins {
							pluginRow(w, &status.Plugins[i])
						}
					})
				})
			},
		}, {
			Name:      "check",
			Usage:     "start a program as a node would, and say what it is and whether it suits the chain",
			ArgsUsage: "FILE|" + strings.Join(names, "|"),
			Description: "It prints the SHA-256 to put into the configuration. The program gets nothing of this folder but its settings. A node that\n" +
				"runs is not touched. Exit code 6 when the program does not suit the chain of the node in -d.",
			Flags: []cli.Flag{
				dirFlag(), outputFlag(),
				&cli.StringFlag{Name: "kind", Usage: "what the program is: engine or ca; default: what its name in this binary says; of a FILE, ca if the node in -d has it as ca.program, or else engine"},
				&cli.StringFlag{Name: "sha256", Usage: "refuse a file with another sum than this, in hexadecimal; default: whatever it has"},
				&cli.StringFlag{Name: "settings", Usage: "`FILE` of settings for a CA provider; default: those of the node in -d if it has this provider"},
			},
			Action: func(c *cli.Context) error { return checkPlugin(c, programs) },
		}, {
			Name:      "restart",
			Usage:     "have the node in -d end a program and start it again",
			ArgsUsage: "NAME",
			Description: "The group goes on from its journal, as after a crash of the program. Only the node's operator may: who can read operator.key in\n" +
				"the node's folder.",
			Flags: remoteFlags(),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "NAME")
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					p, err := r.RestartPlugin(r.ctx, args[0])
					if err != nil {
						return err
					}
					return show(c, p, func(w io.Writer) { pluginRow(w, p) })
				})
			},
		}, {
			Name:      "serve",
			Usage:     "be the plugin program NAME of this binary; the node starts it, not you",
			ArgsUsage: strings.Join(names, "|"),
			Action: func(c *cli.Context) error {
				program := programs[c.Args().First()]
				if program == nil {
					return usage("there is no plugin program %q: this binary has %s", c.Args().First(), strings.Join(names, ", "))
				}
				program()
				return nil
			},
		}},
	}
}

func pluginRow(w io.Writer, p *client.Plugin) {
	state := "healthy"
	if !p.Healthy {
		state = "not healthy: " + p.Reason
	}
	row(w, p.Name, cmp.Or(p.Version, "-"), p.PID, p.Restarts, timeText(p.Since), state)
}

// The kinds of plugin programs.
const (
	kindEngine = "engine"
	kindCA     = "ca"
)

// checkedPlugin is what `plugin check` found.
type checkedPlugin struct {
	Kind       string   `json:"kind"`
	Path       string   `json:"path,omitempty"` // empty: of this binary
	SHA256     string   `json:"sha256,omitempty"`
	Name       string   `json:"name"` // as the program says, and so on
	Version    string   `json:"version"`
	Wire       uint16   `json:"wire"`
	Fault      string   `json:"fault,omitempty"`
	MinMembers uint32   `json:"min_members,omitempty"`
	Algorithms []string `json:"algorithms,omitempty"`
	Issues     bool     `json:"issues,omitempty"`
	Chain      string   `json:"chain,omitempty"` // compared with; empty: none
	Unsuited   string   `json:"unsuited,omitempty"`
}

func checkPlugin(c *cli.Context, programs Plugins) (err error) {
	args, err := arguments(c, 1, 1, "FILE")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	if kind := c.String("kind"); kind != "" && kind != kindEngine && kind != kindCA {
		return usage("--kind %q: want %s or %s", kind, kindEngine, kindCA)
	}
	kind, settings, err := checkedAs(c, args[0], programs)
	if err != nil {
		return err
	}
	found := &checkedPlugin{Kind: kind}
	spec, err := checkedSpec(c, args[0], programs)
	if err != nil {
		return err
	}
	if settings != "" {
		if spec.Config, err = readBounded(settings, ca.MaxSettings); err != nil {
			return err
		}
	}
	if spec.Path != "" {
		found.Path, found.SHA256 = spec.Path, hex.EncodeToString(spec.SHA256[:])
	}
	genesis, suite, err := trustedGenesis(filepath.Join(c.String("dir"), GenesisFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if genesis != nil {
		found.Chain = genesis.Name
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: c.App.ErrWriter, NoColor: true}).Level(zerolog.ErrorLevel)
	host := plugins.New(plugins.Config{Log: log, Near: copiesIn(c.String("dir"))})
	defer func() { err = errors.Join(err, host.Close()) }()
	if kind == kindEngine {
		err = found.engine(c, host, spec, genesis)
	} else {
		err = found.provider(c, host, spec, suite)
	}
	if err != nil {
		return err
	}
	if err := show(c, found, found.table); err != nil {
		return err
	}
	if found.Unsuited != "" {
		return withCode(ExitInvalid, errors.New(found.Unsuited))
	}
	return nil
}

// copiesIn returns the folder where a node keeps copies of programs. Commands use it only if it is there and programs may be executed in
// no temporary one.
func copiesIn(dir string) string { return filepath.Join(dir, "cache", "plugins") }

// checkedAs returns the kind of a program and the path of its settings: what the flags say, and else what its name in this binary and
// the configuration of the node in -d do. A folder without a node says nothing.
func checkedAs(c *cli.Context, arg string, programs Plugins) (kind, settings string, err error) {
	kind, settings = c.String("kind"), c.String("settings")
	if kind == "" && programs[arg] != nil {
		kind, _, _ = strings.Cut(arg, "-")
	}
	if kind == kindEngine || kind == kindCA && settings != "" {
		return kind, settings, nil
	}
	dir := c.String("dir")
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(kind, kindEngine), settings, nil
	}
	file, err := ReadConfig(dir)
	if err != nil {
		return "", "", err
	}
	own := file.CA.Program == arg
	if programs[arg] == nil && strings.ContainsRune(file.CA.Program, filepath.Separator) {
		configured, err := os.Stat(within(dir, file.CA.Program))
		given, failed := os.Stat(arg)
		own = err == nil && failed == nil && os.SameFile(configured, given)
	}
	if !own {
		return cmp.Or(kind, kindEngine), settings, nil
	}
	if settings == "" && file.CA.Settings != "" {
		settings = within(dir, file.CA.Settings)
	}
	return kindCA, settings, nil
}

// checkedSpec names a file, with the sum that it must have, or a program of this binary.
func checkedSpec(c *cli.Context, arg string, programs Plugins) (plugins.Spec, error) {
	spec := plugins.Spec{Name: filepath.Base(arg)}
	if programs[arg] != nil {
		spec.Args = []string{"plugin", "serve", arg}
		return spec, nil
	}
	path, err := filepath.Abs(arg)
	if err != nil {
		return spec, err
	}
	spec.Path = path
	if text := c.String("sha256"); text != "" {
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != len(spec.SHA256) {
			return spec, usage("--sha256 %q: want 64 hexadecimal digits, as sha256sum prints", text)
		}
		spec.SHA256 = [32]byte(sum)
		return spec, nil
	}
	spec.SHA256, err = plugins.Sum(path)
	if errors.Is(err, fs.ErrNotExist) {
		return spec, withCode(ExitNotFound, fmt.Errorf("there is no file %s, and this binary has no program of that name: it has %s", path, strings.Join(slices.Sorted(maps.Keys(programs)), ", ")))
	}
	return spec, err
}

// unlike adds to an error of a start what may be meant.
func (p *checkedPlugin) unlike(err error) error {
	if strings.Contains(err.Error(), "before the plugin handshake") {
		other := map[string]string{kindEngine: kindCA, kindCA: kindEngine}[p.Kind]
		return fmt.Errorf("%w; it was started as --kind %s: if it is of the other kind, give --kind %s", err, p.Kind, other)
	}
	return err
}

func (p *checkedPlugin) engine(c *cli.Context, host *plugins.Host, spec plugins.Spec, genesis *ledger.Genesis) error {
	if len(spec.Config) > 0 {
		return usage("--settings is for CA providers")
	}
	program, err := host.Engine(c.Context, spec)
	if err != nil {
		return p.unlike(err)
	}
	m := program.Manifest()
	p.Name, p.Version, p.Wire, p.Fault, p.MinMembers = m.Name, m.Version, m.Wire, string(m.Fault), m.MinMembers
	if genesis == nil {
		return nil
	}
	if err := m.Suits(genesis); err != nil {
		p.Unsuited = err.Error()
	} else if members := uint32(len(genesis.Members)); members < m.MinMembers {
		p.Unsuited = fmt.Sprintf("engine %s needs at least %d members, and the genesis has %d: found the chain with more", m.Name, m.MinMembers, members)
	}
	return nil
}

func (p *checkedPlugin) provider(c *cli.Context, host *plugins.Host, spec plugins.Spec, suite keys.Suite) error {
	program, err := host.CA(c.Context, spec)
	if err != nil && len(spec.Config) == 0 && strings.Contains(err.Error(), "configure: ") {
		return fmt.Errorf("%w; it was given no settings: name their file with --settings, or with -d a node that has this provider", err)
	}
	if err != nil {
		return p.unlike(err)
	}
	m := program.Manifest()
	p.Name, p.Version, p.Wire, p.Issues = m.Name, m.Version, m.Wire, m.Issues
	for _, a := range m.Algorithms {
		p.Algorithms = append(p.Algorithms, a.String())
	}
	if suite != nil && !slices.Contains(m.Algorithms, suite.Vote()) {
		p.Unsuited = fmt.Sprintf("provider %s vouches for keys of %s, and nodes of this chain have %s: use a provider for them", m.Name, strings.Join(p.Algorithms, ", "), suite.Vote())
	}
	return nil
}

func (p *checkedPlugin) table(w io.Writer) {
	row(w, "program", cmp.Or(p.Path, "of this binary"))
	if p.SHA256 != "" {
		row(w, "sha256", p.SHA256)
	}
	row(w, "says it is", fmt.Sprintf("%s %s %s, wire version %d", p.Kind, p.Name, p.Version, p.Wire))
	if p.Kind == kindEngine {
		row(w, "bears", fmt.Sprintf("%s, with at least %d members", map[string]string{"BFT": "members that lie (BFT)", "CFT": "members that stop, and none that lies (CFT)"}[p.Fault], p.MinMembers))
	} else {
		row(w, "vouches for", strings.Join(p.Algorithms, ", "))
		row(w, "issues", map[bool]string{true: "certificates, given the settings for it", false: "nothing"}[p.Issues])
	}
	switch {
	case p.Chain == "":
		row(w, "chain", "none to compare with: name the folder of a node with -d")
	case p.Unsuited == "":
		row(w, "chain", "it suits "+p.Chain)
	default:
		row(w, "chain", "IT DOES NOT SUIT "+p.Chain)
	}
}
