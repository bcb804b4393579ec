package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/node/signer"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/transport"
	"github.com/fondaco/fondaco/wasmvm"
)

// dirVariable is the environment's variable for the node's folder.
const dirVariable = "FONDACO_DIR"

func dirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Aliases: []string{"d"}, Usage: "the node's folder", Value: ".", EnvVars: []string{dirVariable}}
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run the node until it is interrupted",
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringFlag{Name: "api-listen", Usage: "TCP address of the API, instead of the file's", EnvVars: []string{"FONDACO_API_LISTEN"}},
			&cli.StringFlag{Name: "admin-listen", Usage: "TCP address of metrics and health, instead of the file's", EnvVars: []string{"FONDACO_ADMIN_LISTEN"}},
			&cli.StringFlag{Name: "log-level", Usage: "debug, info, warn or error, instead of the file's", EnvVars: []string{"FONDACO_LOG_LEVEL"}},
			&cli.DurationFlag{Name: "clock-offset", Usage: "make this node's clock wrong, for tests", Hidden: true},
			passphraseFlag(),
		},
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0, ""); err != nil {
				return err
			}
			config, err := nodeConfig(c)
			if err != nil {
				return err
			}
			go paceGarbage(c.Context)
			for {
				n, err := node.New(c.Context, *config)
				if err != nil {
					return err
				}
				err = n.Run(c.Context)
				reopen := errors.Is(err, node.ErrReopen)
				if again := reopen || errors.Is(err, group.ErrJoined) || errors.Is(err, node.ErrRoom); !again || c.Context.Err() != nil {
					return err
				}
				if reopen {
					config.Reopened = time.Now()
				}
			}
		},
	}
}

// nodeConfig puts together what the folder's files and the flags say.
func nodeConfig(c *cli.Context) (*node.Config, error) {
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return nil, err
	}
	file, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	genesis, suite, err := trustedGenesis(filepath.Join(dir, GenesisFile))
	if err != nil {
		return nil, err
	}
	if file.Network.Inner && suite.Vote() != keys.SM2 {
		return nil, fmt.Errorf("%s: network.inner is for chains of suite gm, and this one has %s: remove it", filepath.Join(dir, ConfigFile), genesis.Suite)
	}
	if file.Signer.Socket == "" { // the key will be in this process's memory
		err := wasmvm.Prepare()
		if err = errors.Join(err, signer.Harden()); err != nil {
			note(c, "WARNING: the memory of this process, with the node's key, can be read by others: %v", err)
		}
	}
	key, err := nodeKey(c, dir, file, suite)
	if err != nil {
		return nil, err
	}
	if c.IsSet("api-listen") {
		file.API.Listen = c.String("api-listen")
	}
	if c.IsSet("admin-listen") {
		file.Admin.Listen = c.String("admin-listen")
	}
	if c.IsSet("log-level") {
		file.Log.Level = c.String("log-level")
	}
	log, err := logger(file.Log, c.App.ErrWriter)
	if err != nil {
		return nil, err
	}
	config := &node.Config{
		Dir: dir, Genesis: *genesis, Signer: key, Listen: file.Network.Listen, API: file.API.Listen, Admin: file.Admin.Listen,
		APIFiles: file.API.files(dir), AdminFiles: file.Admin.files(dir),
		ClockOffset: c.Duration("clock-offset"), Snapshot: file.Network.Sync == SyncSnapshot, Inner: file.Network.Inner,
		Wasm: wasmvm.Engine(file.Wasm.Engine), ShadowShare: file.Wasm.ShadowShare, Workers: file.Wasm.Workers, Statements: file.Consensus.StatementsMB << 20, Log: log,
		Archive: file.State.Archive,
		Pool:    mempool.Limits{Count: file.Pool.Count, Bytes: file.Pool.Bytes, MaxWait: file.Pool.WaitMS},
	}
	for _, p := range file.Network.Peers {
		config.Peers = append(config.Peers, transport.Address{Node: p.Node, Addr: p.Address})
	}
	if a := file.Network.Anchor; a != nil {
		config.Anchor = group.Anchor{Height: a.Height, Block: a.Block, By: a.By, Used: a.Used.UnixMilli()}
	}
	if config.Engine, err = engineSpec(genesis.Engine, file.Consensus); err != nil {
		return nil, err
	}
	config.CA, err = authority(dir, file.CA)
	return config, err
}

// authority names the CA provider's program, this binary again or the operator's own, and reads what goes with it. Paths are as
// the operator wrote them, or below the node's folder.
func authority(dir string, section CASection) (node.CA, error) {
	var a node.CA
	if section.Program == "" {
		return a, nil
	}
	a.Provider.Name = filepath.Base(section.Program)
	if section.Program == a.Provider.Name {
		a.Provider.Args = []string{"plugin", "serve", a.Provider.Name}
	} else {
		a.Provider.Path = within(dir, section.Program)
		sum, err := hex.DecodeString(section.SHA256)
		if err != nil || len(sum) != len(a.Provider.SHA256) {
			return a, fmt.Errorf("ca.program needs ca.sha256: put there what `fondaco plugin check --kind ca %s` prints, after you checked the program", section.Program)
		}
		a.Provider.SHA256 = [32]byte(sum)
	}
	var err error
	if section.Settings != "" {
		a.Provider.Reread = func() ([]byte, error) {
			settings, err := readBounded(within(dir, section.Settings), ca.MaxSettings)
			if err == nil {
				return settings, nil
			}
			if _, halfway := os.Lstat(filepath.Join(dir, retiredDir)); halfway == nil && errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: `fondaco init --from` ended while it replaced the folder; run it again", err)
			}
			return nil, fmt.Errorf("ca.settings: %w", err)
		}
		if a.Provider.Config, err = a.Provider.Reread(); err != nil {
			return a, err
		}
	}
	if section.Grace != "" {
		if a.Grace, err = time.ParseDuration(section.Grace); err != nil || a.Grace <= 0 {
			return a, fmt.Errorf(`ca.grace is %q, want a time such as "24h"`, section.Grace)
		}
	}
	if section.Chain == "" {
		return a, errors.New("[ca] needs ca.chain: the PEM file of this node's certificate and those that lead to the root")
	}
	a.Reread = func() ([][]byte, error) {
		chain, err := readChain(within(dir, section.Chain))
		if err != nil {
			err = fmt.Errorf("ca.chain: %w", err)
		}
		return chain, err
	}
	a.Chain, err = a.Reread()
	return a, err
}

// engineSpec names the program of the consensus engine: this binary again, or the operator's own.
func engineSpec(engine string, section ConsensusSection) (plugins.Spec, error) {
	name := "engine-" + engine
	if section.Program == "" {
		return plugins.Spec{Name: name, Args: []string{"plugin", "serve", name}}, nil
	}
	spec := plugins.Spec{Name: name, Path: section.Program}
	sum, err := hex.DecodeString(section.SHA256)
	if err != nil || len(sum) != len(spec.SHA256) {
		return spec, fmt.Errorf("consensus.program needs consensus.sha256: put there what `sha256sum %s` prints, after you checked the program", section.Program)
	}
	spec.SHA256 = [32]byte(sum)
	return spec, nil
}

func logger(section LogSection, out io.Writer) (zerolog.Logger, error) {
	level := zerolog.InfoLevel
	if section.Level != "" {
		var err error
		if level, err = zerolog.ParseLevel(section.Level); err != nil {
			return zerolog.Nop(), fmt.Errorf("log level %q: want debug, info, warn or error", section.Level)
		}
	}
	switch section.Format {
	case "", "json":
	case "text":
		out = zerolog.ConsoleWriter{Out: out, NoColor: true}
	default:
		return zerolog.Nop(), fmt.Errorf("log format %q: want json or text", section.Format)
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger(), nil
}
