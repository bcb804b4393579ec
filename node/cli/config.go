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
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
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
	Admin     ListenSection    `toml:"admin" comment:"metrics and health; the same keys as in [api]"`
	Signer    SignerSection    `toml:"signer"`
	Consensus ConsensusSection `toml:"consensus"`
	CA        CASection        `toml:"ca"`
	State     StateSection     `toml:"state"`
	Wasm      WasmSection      `toml:"wasm"`
	Pool      PoolSection      `toml:"pool"`
	Log       LogSection       `toml:"log"`
}

// What NetworkSection.Sync may say.
const (
	SyncBlocks   = "blocks"
	SyncSnapshot = "snapshot"
)

// NetworkSection says where this node and the others are.
type NetworkSection struct {
	Listen string `toml:"listen" comment:"UDP address for other nodes"`
	Sync   string `toml:"sync" comment:"how this node begins where it has no blocks, or lacks one that nobody has any more: blocks, which executes all, or snapshot, which\nfetches the state after a recent block from several nodes, and of older blocks headers and certificates; empty: blocks"`
	Inner  bool   `toml:"inner" comment:"seal messages once more under TLS, with SM4-GCM under keys agreed on with SM2: for chains of suite gm that must encrypt\nunder Chinese algorithms; true at all nodes or at none"`
	Peers  []Peer `toml:"peers"`

	Anchor *Anchor `toml:"anchor,omitempty" comment:"a block that the chain must have, from the invitation by which this node joined"`
}

// Anchor is a block that is in the chain by the word of a member.
type Anchor struct {
	Height ledger.Height   `toml:"height"`
	Block  keys.Digest     `toml:"block"`
	By     identity.NodeID `toml:"by" comment:"the node of the member that invited this one, which must have been a member when its word was taken"`
	Used   time.Time       `toml:"used"`
}

func (n *NetworkSection) check() error {
	if n.Sync != "" && n.Sync != SyncBlocks && n.Sync != SyncSnapshot {
		return fmt.Errorf("sync %q: want %s or %s", n.Sync, SyncBlocks, SyncSnapshot)
	}
	return nil
}

// Peer is another node.
type Peer struct {
	Node    identity.NodeID `toml:"node"`
	Address string          `toml:"address"`
}

// ListenSection is a TCP address to listen on, and what it takes to do so with TLS. Paths are below the node's folder, unless they are absolute.
type ListenSection struct {
	Listen  string `toml:"listen" comment:"address; empty: do not listen. Beyond loopback it needs cert and key"`
	Cert    string `toml:"cert" comment:"PEM file of the certificate for HTTPS, followed by those that lead to the root; empty: no TLS, and whoever is on this machine may do everything"`
	Key     string `toml:"key" comment:"file of its key"`
	Clients string `toml:"clients" comment:"PEM file of the authorities whose client certificates count, and of their revocation lists; empty: the provider of [ca] is asked, on a chain of suite std"`
	Tokens  string `toml:"tokens" comment:"file of tokens, as fondaco token new makes it; empty: none count"`
}

// files returns the paths of what a section names, in a node's folder.
func (l *ListenSection) files(dir string) login.Files {
	f := login.Files{Cert: l.Cert, Key: l.Key, Clients: l.Clients, Tokens: l.Tokens}
	for _, path := range []*string{&f.Cert, &f.Key, &f.Clients, &f.Tokens} {
		if *path != "" {
			*path = within(dir, *path)
		}
	}
	return f
}

// within returns a path that an operator wrote into the configuration of a node's folder.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// SignerSection says who holds the node's key.
type SignerSection struct {
	Socket string `toml:"socket" comment:"socket of the signer that holds the node's key (fondaco signer serve); empty: the key is in node.key"`
}

// ConsensusSection names the engine's program.
type ConsensusSection struct {
	Program string `toml:"program,omitempty" comment:"path of an engine of your own; empty: the one that the genesis names, from this binary"`
	SHA256  string `toml:"sha256,omitempty" comment:"of that program, in hexadecimal; required with a program"`

	StatementsMB int64 `toml:"statements_mb" comment:"most megabytes of what members stated, for auditors (fondaco export); 0: 1024, below 0: none"`
}

// CASection names who vouches for nodes by their certificates, besides the chain's own list of them.
type CASection struct {
	Program  string `toml:"program" comment:"path of a CA provider, or the name of one in this binary, such as ca-x509; empty: nodes need no certificates"`
	SHA256   string `toml:"sha256,omitempty" comment:"of a provider that is a file, in hexadecimal; required with a path"`
	Settings string `toml:"settings,omitempty" comment:"file with the provider's settings"`
	Chain    string `toml:"chain,omitempty" comment:"PEM file of this node's certificates, its own first, for its key; it is read again when it changes"`
	Grace    string `toml:"grace,omitempty" comment:"how long a node that the provider vouched for counts while the provider cannot tell: it is down, or a revocation list is too old; such as 24h; empty: 72h"`
}

// StateSection says what is kept of the world state.
type StateSection struct {
	Archive bool `toml:"archive" comment:"keep values and proofs of the state after every block, in a file beside the blocks; false: of the last blocks only"`
}

// WasmSection chooses how contracts are run.
type WasmSection struct {
	Engine      string  `toml:"engine" comment:"compiler, interpreter, or shadow: both, and stop voting when they differ; empty: the best for this machine"`
	ShadowShare float64 `toml:"shadow_share" comment:"share of the transactions that shadow runs in both, above 0 and at most 1; 0: all"`
	Workers     int     `toml:"workers" comment:"how many transactions of a block are executed at once, at most 256; results do not depend on it; 0: one less than there are processors, and 1 where there are two"`
}

// PoolSection bounds the waiting transactions; zero: the defaults.
type PoolSection struct {
	Count  int   `toml:"count"`
	Bytes  int64 `toml:"bytes"`
	WaitMS int64 `toml:"wait_ms" comment:"clients are refused while what waits takes longer than this until a block is proposed with it; at most 600000; 0: 2000, below 0: never"`
}

// LogSection says what is logged, to standard error.
type LogSection struct {
	Level  string `toml:"level" comment:"debug, info, warn or error"`
	Format string `toml:"format" comment:"json or text"`
}

// decodeTOML decodes what the file at path holds, and knows no other keys than those of value.
func decodeTOML(path string, data []byte, value any) error {
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(value)
	if err == nil {
		return nil
	}
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return fmt.Errorf("%s:%d: unknown key %q: remove it, or correct its spelling", path, row, strings.Join(strict.Errors[0].Key(), "."))
	}
	if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := bad.Position()
		return fmt.Errorf("%s:%d: %s", path, row, bad.Error())
	}
	return fmt.Errorf("%s: %w", path, err)
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
	if err := decodeTOML(path, data, &f); err != nil {
		return nil, err
	}
	if f.Consensus.SHA256 != "" {
		if raw, err := hex.DecodeString(f.Consensus.SHA256); err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("%s: consensus.sha256 %q: want 64 hexadecimal digits, as sha256sum prints", path, f.Consensus.SHA256)
		}
	}
	if f.CA.Program == "" && f.CA != (CASection{}) {
		return nil, fmt.Errorf("%s: [ca] has no program: name a provider, or remove the section", path)
	}
	if err := f.Network.check(); err != nil {
		return nil, fmt.Errorf("%s: network.%w", path, err)
	}
	if share := f.Wasm.ShadowShare; !(share >= 0 && share <= 1) {
		return nil, fmt.Errorf("%s: wasm.shadow_share %v: want a share from 0 to 1", path, share)
	}
	if n := f.Wasm.Workers; n < 0 || n > executor.MaxWorkers {
		return nil, fmt.Errorf("%s: wasm.workers %d: want a number from 0, which leaves the choice to the node, to %d", path, n, executor.MaxWorkers)
	}
	if wait := f.Pool.WaitMS; wait > mempool.MostWait {
		return nil, fmt.Errorf("%s: pool.wait_ms %d: want %d at most, or a number below 0 to refuse nobody", path, wait, mempool.MostWait)
	}
	return &f, nil
}

// WriteConfig writes the configuration file of a node's folder.
func WriteConfig(dir string, f *File) error {
	data, err := toml.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	return replaceWith(filepath.Join(dir, ConfigFile), data, 0o600)
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
	return replaceFile(path, append(data, '\n'))
}
