package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// The files of a node's folder.
const (
	ConfigFile  = "fondaco.toml"
	GenesisFile = "genesis.json"
	KeyFile     = "node.key"
)

// File is the configuration file of a node. An unknown key in it is an error that names its line.
type File struct {
	Network   NetworkSection   `toml:"network"`
	API       ListenSection    `toml:"api" comment:"HTTP API for applications and the command line"`
	Admin     ListenSection    `toml:"admin" comment:"metrics and health; keep it on loopback"`
	Consensus ConsensusSection `toml:"consensus"`
	Wasm      WasmSection      `toml:"wasm"`
	Pool      PoolSection      `toml:"pool"`
	Log       LogSection       `toml:"log"`
}

// NetworkSection says where this node and the others are.
type NetworkSection struct {
	Listen string `toml:"listen" comment:"UDP address for other nodes"`
	Peers  []Peer `toml:"peers"`
}

// Peer is another node.
type Peer struct {
	Node    identity.NodeID `toml:"node"`
	Address string          `toml:"address"`
}

// ListenSection is a TCP address to listen on; empty: do not.
type ListenSection struct {
	Listen string `toml:"listen"`
}

// ConsensusSection names the engine's program.
type ConsensusSection struct {
	Program string `toml:"program,omitempty" comment:"path of an engine of your own; empty: the one that the genesis names, from this binary"`
	SHA256  string `toml:"sha256,omitempty" comment:"of that program, in hexadecimal; required with a program"`

	StatementsMB int64 `toml:"statements_mb" comment:"most megabytes of what members stated, for auditors (fondaco export); 0: 1024, below 0: none"`
}

// WasmSection chooses how contracts are run.
type WasmSection struct {
	Engine      string  `toml:"engine" comment:"compiler, interpreter, or shadow: both, and stop voting when they differ; empty: the best for this machine"`
	ShadowShare float64 `toml:"shadow_share" comment:"share of the transactions that shadow runs in both, above 0 and at most 1; 0: all"`
}

// PoolSection bounds the waiting transactions; zero: the defaults.
type PoolSection struct {
	Count int   `toml:"count"`
	Bytes int64 `toml:"bytes"`
}

// LogSection says what is logged, to standard error.
type LogSection struct {
	Level  string `toml:"level" comment:"debug, info, warn or error"`
	Format string `toml:"format" comment:"json or text"`
}

// ReadConfig reads the configuration file of a node's folder.
func ReadConfig(dir string) (*File, error) {
	path := filepath.Join(dir, ConfigFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no node in %s: make one with `fondaco init -d %s`, or name its folder with -d", dir, dir))
	}
	if err != nil {
		return nil, err
	}
	var f File
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
			row, _ := strict.Errors[0].Position()
			return nil, fmt.Errorf("%s:%d: unknown key %q: remove it, or correct its spelling", path, row, strings.Join(strict.Errors[0].Key(), "."))
		}
		if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, _ := bad.Position()
			return nil, fmt.Errorf("%s:%d: %s", path, row, bad.Error())
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.Consensus.SHA256 != "" {
		if raw, err := hex.DecodeString(f.Consensus.SHA256); err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("%s: consensus.sha256 %q: want 64 hexadecimal digits, as sha256sum prints", path, f.Consensus.SHA256)
		}
	}
	if share := f.Wasm.ShadowShare; !(share >= 0 && share <= 1) {
		return nil, fmt.Errorf("%s: wasm.shadow_share %v: want a share from 0 to 1", path, share)
	}
	return &f, nil
}

// WriteConfig writes the configuration file of a node's folder.
func WriteConfig(dir string, f *File) error {
	data, err := toml.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, ConfigFile), data, 0o600)
}

// ReadGenesis reads a genesis file.
func ReadGenesis(path string) (*ledger.Genesis, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var g ledger.Genesis
	if err := decoder.Decode(&g); err != nil {
		return nil, fmt.Errorf("%s is not a genesis file: %w", path, err)
	}
	return &g, nil
}

// WriteGenesis writes a genesis file.
func WriteGenesis(path string, g *ledger.Genesis) error {
	data, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the genesis: %w", err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
