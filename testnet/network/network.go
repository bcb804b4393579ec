// Package network makes and runs temporary networks of nodes on this machine: each node is a process of the
// fondaco binary with its own folder, key and storage. Examples, tests and the testnet command use it.
//
// A network is a folder. Nothing about it is only in memory, so one process can start it and another stop it.
// The keys in it protect nothing: they lie beside one another. The package is public by path but promised
// nothing.
package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/relay"
)

// ManifestFile is the file that makes a folder a network.
const ManifestFile = "testnet.json"

// Limits and defaults of a network on one machine.
const (
	MaxNodes    = 32
	DefaultPort = 9540
	portsEach   = 3 // UDP for nodes, TCP for the API, TCP for the admin interface
)

// Config says what a new network is like. Zero fields take the defaults.
type Config struct {
	Dir    string // required
	Nodes  int    // default 4
	Port   int    // first of 3 ports for each node; default DefaultPort
	Params ledger.Params
	Suite  string // default std
	Inner  bool   // the nodes have network.inner
	Engine string // default pbft; raft trusts the members, who are all ours
	// EngineProgram is the file of an engine that is not shipped, whose manifest has the name Engine. The nodes pin it
	// as it is now. Empty: the program of that engine in the node's own binary.
	EngineProgram string
	Trust         bool   // the members do not lie, which an engine for crash faults needs; raft implies it
	LogLevel      string // default info
	Wasm          string // engine that runs contracts; default that of the machine
	Sync          string // how the nodes begin that have no blocks, see cli.NetworkSection; default cli.SyncBlocks
	// Relay gives each node a door: the nodes reach one another only through the relay that Network.Relay returns,
	// which must run while they do. The doors take one more port for each node, behind the others.
	Relay bool
	// TLS has the nodes' APIs and admin interfaces speak HTTPS, with certificates of an authority of the network's own.
	TLS bool
	// CA gives each institution an authority of its own, and each node certificates of it: nodes ask a CA provider about one another.
	CA bool
	// Signers has each node's key in a process of its own, with a journal.
	Signers bool
	// VetoWindow is how long a regulator may object to a motion after the decision. The default is none, so that motions are carried out at once: what
	// is tried out here does not wait the day of other chains.
	VetoWindow time.Duration
}

// Node is one node of a network.
type Node struct {
	Name        string          `json:"name"`
	Institution string          `json:"institution"`
	ID          identity.NodeID `json:"id"`
	Dir         string          `json:"-"`
	Listen      string          `json:"listen"`
	Door        string          `json:"door,omitempty"` // where the others reach it, if there is a relay
	API         string          `json:"api"`            // URL
	Admin       string          `json:"admin"`          // URL
}

// Account is an account of the genesis whose key is in the network's folder.
type Account struct {
	Name    string         `json:"name"`
	Address ledger.Address `json:"address"`
	Key     string         `json:"-"` // path of the key file
}

// Network is a network as its folder describes it.
type Network struct {
	Dir      string         `json:"-"`
	Chain    keys.Digest    `json:"chain"`
	Suite    string         `json:"suite"`
	TLS      bool           `json:"tls,omitempty"`     // the nodes are reached by HTTPS, see Access
	CA       bool           `json:"ca,omitempty"`      // the nodes have certificates, see AuthorityDir
	Signers  bool           `json:"signers,omitempty"` // the nodes' keys are in processes of their own, see StartSigner
	Group    ledger.GroupID `json:"group"`
	Nodes    []Node         `json:"nodes"`
	Accounts []Account      `json:"accounts"`
	// Token is the address of the deployed example contract; zero until there is one.
	Token ledger.Address `json:"token"`
	// Tokens are the addresses of those that TokenIn deployed, by language.
	Tokens map[string]ledger.Address `json:"tokens,omitempty"`
	// Joining is the name of a node that Add has not added to the end; empty for none.
	Joining string `json:"joining,omitempty"`

	web struct {
		sync.Mutex // guards client
		client     *http.Client
	}
}

// Create writes the folders of a new network: keys, genesis, configurations. It starts nothing. A folder that
// holds a network already, or anything else, is left alone with an error.
func Create(c Config) (*Network, error) {
	if c.Nodes == 0 {
		c.Nodes = 4
	}
	if c.Nodes < 1 || c.Nodes > MaxNodes {
		return nil, fmt.Errorf("a network of %d nodes: want 1 to %d", c.Nodes, MaxNodes)
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if last := c.Port + (portsEach+1)*c.Nodes; c.Port < 1 || last > 65536 {
		return nil, fmt.Errorf("ports %d to %d: want them between 1 and 65535; choose another --port", c.Port, last-1)
	}
	if c.Params.BlockTxs == 0 {
		c.Params = ledger.DefaultParams()
	}
	if c.Suite == "" {
		c.Suite = "std"
	}
	if c.Engine == "" {
		c.Engine = "pbft"
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
	}
	suite, err := keys.SuiteByName(c.Suite)
	if err != nil {
		return nil, err
	}
	switch {
	case c.EngineProgram == "" && c.Engine != "pbft" && c.Engine != ledger.RaftEngine:
		return nil, fmt.Errorf("engine %q: the node has pbft and raft; name the program of another one with --engine-program", c.Engine)
	case c.Engine == "pbft" && c.Trust:
		return nil, errors.New("engine pbft bears members that lie: leave --trust-members out")
	}
	engine, err := pin(c.EngineProgram)
	if err != nil {
		return nil, err
	}
	if err := claim(c.Dir); err != nil {
		return nil, err
	}
	if err := CheckPorts(c.Port, c.Nodes); err != nil {
		return nil, err
	}
	n := &Network{Dir: c.Dir, Suite: c.Suite, Group: "main", TLS: c.TLS, CA: c.CA, Signers: c.Signers}
	if c.TLS {
		if err := n.found(); err != nil {
			return nil, fmt.Errorf("make the network's certificates: %w", err)
		}
	}
	genesis := &ledger.Genesis{
		Version: ledger.Version, Name: "testnet", Suite: c.Suite, Group: n.Group, Engine: c.Engine, Trust: c.Trust || c.Engine == ledger.RaftEngine,
		UnixMilli: time.Now().UnixMilli(), Params: c.Params,
	}
	veto := c.VetoWindow.Milliseconds()
	genesis.VetoWindow = &veto
	nodeKeys := make([]keys.Signer, c.Nodes)
	for i := range c.Nodes {
		if nodeKeys[i], err = suite.Generate(suite.Vote(), rand.Reader); err != nil {
			return nil, err
		}
		name := "node" + strconv.Itoa(i)
		port := c.Port + portsEach*i
		node := Node{
			Name: name, Institution: institution(i), ID: identity.NodeIDOf(suite, nodeKeys[i].Public()), Dir: filepath.Join(c.Dir, name),
			Listen: loopback(port), API: n.scheme() + loopback(port+1), Admin: n.scheme() + loopback(port+2),
		}
		if c.Relay {
			door := c.Port + portsEach*c.Nodes + i
			if err := checkPort(door, true); err != nil {
				return nil, fmt.Errorf("port %d, for the relay, is taken (%w): stop what uses it, or choose other ports with --port", door, err)
			}
			node.Door = loopback(door)
		}
		n.Nodes = append(n.Nodes, node)
		genesis.Members = append(genesis.Members, ledger.Member{Node: node.ID, Institution: node.Institution, Key: ledger.KeyOf(nodeKeys[i].Public())})
	}
	type founder struct {
		name, institution string
		roles             []string
	}
	founders := []founder{
		{"admin", n.Nodes[0].Institution, []string{string(identity.Deployer), string(identity.InstitutionAdmin), string(identity.Registrar)}},
		{"alice", n.Nodes[0].Institution, []string{string(identity.User)}},
		{"bob", n.Nodes[0].Institution, []string{string(identity.User)}},
		{"clerk", n.Nodes[0].Institution, []string{string(identity.Registrar)}},
		{"operator", n.Nodes[0].Institution, []string{string(identity.Operator)}},
		{"regulator", "regulator", []string{string(identity.Regulator)}},
		{"auditor", "auditors", []string{string(identity.Auditor)}},
	}
	for _, node := range n.Nodes { // each institution's voice in motions has its name, as the first account of one that is founded later
		founders = append(founders, founder{node.Institution, node.Institution, []string{string(identity.Committee), string(identity.InstitutionAdmin)}})
	}
	for _, a := range founders {
		key, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			return nil, err
		}
		account := Account{Name: a.name, Address: ledger.NamedAddress(suite, "account", a.name), Key: n.keyPath(a.name)}
		if err := os.MkdirAll(filepath.Dir(account.Key), 0o700); err != nil {
			return nil, err
		}
		if err := keyfile.Write(account.Key, key, ""); err != nil {
			return nil, err
		}
		n.Accounts = append(n.Accounts, account)
		slices.Sort(a.roles)
		genesis.Accounts = append(genesis.Accounts, ledger.GenesisAccount{
			Name: a.name, Institution: a.institution, Roles: a.roles, Keys: []ledger.Key{ledger.KeyOf(key.Public())},
		})
	}
	n.Chain = genesis.Hash(suite)
	if c.CA {
		if err := n.foundAuthorities(suite); err != nil {
			return nil, fmt.Errorf("make the institutions' authorities: %w", err)
		}
	}
	for i, node := range n.Nodes {
		if err := n.writeNode(node, nodeKeys[i], genesis, engine, c); err != nil {
			return nil, fmt.Errorf("write the folder of %s: %w", node.Name, err)
		}
	}
	for i := range n.Accounts {
		if err := n.writeProfile(&n.Accounts[i], genesis.Accounts[i].Institution); err != nil {
			return nil, err
		}
	}
	return n, n.Save()
}

// writeProfile writes how the command line speaks for an account, to the node of its institution if there is one.
func (n *Network) writeProfile(a *Account, institution string) error {
	node := &n.Nodes[0]
	if i := slices.IndexFunc(n.Nodes, func(o Node) bool { return o.Institution == institution }); i >= 0 {
		node = &n.Nodes[i]
	}
	access := n.Access()
	p := &cli.Profile{API: node.API, From: a.Address.String(), Key: a.Key, CA: access.CA, TokenFile: access.Token, Genesis: filepath.Join(n.Nodes[0].Dir, cli.GenesisFile)}
	for _, path := range []*string{&p.Key, &p.CA, &p.TokenFile, &p.Genesis} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Rel(n.ProfileDir(), *path); err != nil {
			return err
		}
	}
	return cli.WriteProfile(filepath.Join(n.ProfileDir(), a.Name+".toml"), p)
}

// ProfileDir returns the folder of the profiles for the command line, NAME.toml for each account.
func (n *Network) ProfileDir() string { return filepath.Join(n.Dir, "profiles") }

func (n *Network) writeNode(node Node, key keys.Signer, genesis *ledger.Genesis, engine cli.ConsensusSection, c Config) error {
	if err := os.MkdirAll(node.Dir, 0o700); err != nil {
		return err
	}
	file := &cli.File{
		Network: cli.NetworkSection{Listen: node.Listen, Sync: cmp.Or(c.Sync, cli.SyncBlocks), Inner: c.Inner},
		API:     cli.ListenSection{Listen: strings.TrimPrefix(node.API, n.scheme())},
		Admin:   cli.ListenSection{Listen: strings.TrimPrefix(node.Admin, n.scheme())},
		Wasm:    cli.WasmSection{Engine: c.Wasm},
		Log:     cli.LogSection{Level: c.LogLevel, Format: "json"},

		Consensus: engine,
	}
	if n.TLS {
		if err := n.secure(&node, file); err != nil {
			return err
		}
	}
	if n.CA {
		if err := n.certify(&node, key, file); err != nil {
			return err
		}
	}
	if n.Signers {
		if err := os.MkdirAll(n.signerDir(&node), 0o700); err != nil {
			return err
		}
		var err error
		if file.Signer.Socket, err = n.socket(&node); err != nil {
			return err
		}
	}
	for _, other := range n.Nodes {
		if other.ID != node.ID {
			file.Network.Peers = append(file.Network.Peers, cli.Peer{Node: other.ID, Address: cmp.Or(other.Door, other.Listen)})
		}
	}
	return errors.Join(
		keyfile.Write(n.nodeKeyPath(&node), key, ""),
		cli.WriteGenesis(filepath.Join(node.Dir, cli.GenesisFile), genesis),
		cli.WriteConfig(node.Dir, file),
		cli.WriteMember(node.Dir, cli.MemberCard{
			Institution: node.Institution, Node: node.ID, Key: ledger.KeyOf(key.Public()), Address: cmp.Or(node.Door, node.Listen),
		}),
	)
}

// pin names an engine's program for the configuration of nodes.
func pin(program string) (cli.ConsensusSection, error) {
	if program == "" {
		return cli.ConsensusSection{}, nil
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return cli.ConsensusSection{}, fmt.Errorf("the engine's program: %w; build it first", err)
	}
	if program, err = filepath.Abs(program); err != nil {
		return cli.ConsensusSection{}, err
	}
	return cli.ConsensusSection{Program: program, SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}, nil
}

// Open reads the network in a folder.
func Open(dir string) (*Network, error) {
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no network in %s: make one with `go run ./testnet up`, or name its folder with -d", dir)
	}
	if err != nil {
		return nil, err
	}
	n := &Network{Dir: dir}
	if err := json.Unmarshal(data, n); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; remove the folder and make a new network", filepath.Join(dir, ManifestFile), err)
	}
	for i := range n.Nodes {
		n.Nodes[i].Dir = filepath.Join(dir, n.Nodes[i].Name)
	}
	for i := range n.Accounts {
		n.Accounts[i].Key = n.keyPath(n.Accounts[i].Name)
	}
	return n, nil
}

// HasRelay reports whether the nodes reach one another through a relay.
func (n *Network) HasRelay() bool { return len(n.Nodes) > 0 && n.Nodes[0].Door != "" }

// Relay opens the doors of a network that was made with Config.Relay. The caller runs the relay, before the nodes
// start and until they have ended.
func (n *Network) Relay(seed uint64) (*relay.Relay, error) {
	config := relay.Config{Seed: seed}
	for _, node := range n.Nodes {
		listen, err := netip.ParseAddrPort(node.Listen)
		if err != nil {
			return nil, err
		}
		door, err := netip.ParseAddrPort(node.Door)
		if err != nil {
			return nil, fmt.Errorf("%s has no door for a relay: make a new network with one (`up --relay`)", node.Name)
		}
		config.Nodes = append(config.Nodes, relay.Node{Listen: listen, Door: door})
	}
	return relay.New(config)
}

// Save writes the manifest.
func (n *Network) Save() error {
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(n.Dir, ManifestFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Node returns the node of a name ("node2") or number ("2").
func (n *Network) Node(name string) (*Node, error) {
	for i := range n.Nodes {
		if n.Nodes[i].Name == name || strconv.Itoa(i) == name {
			return &n.Nodes[i], nil
		}
	}
	return nil, fmt.Errorf("there is no node %q: want node0 to node%d", name, len(n.Nodes)-1)
}

// Signer reads the key of one of the network's accounts.
func (n *Network) Signer(account string) (keys.Signer, ledger.Address, error) {
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return nil, ledger.Address{}, err
	}
	for _, a := range n.Accounts {
		if a.Name == account {
			key, err := keyfile.Read(a.Key, suite, nil)
			return key, a.Address, err
		}
	}
	return nil, ledger.Address{}, fmt.Errorf("the network has no account %q", account)
}

func (n *Network) keyPath(account string) string { return filepath.Join(n.Dir, "keys", account+".key") }

// claim makes sure that dir is an empty folder that can be written.
func claim(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, ManifestFile)); err == nil {
		return fmt.Errorf("%s holds a network already: start it with `up -d %s`, or remove the folder to make a new one", dir, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the folder %s cannot be made: %w; name another with -d", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("the folder %s cannot be read: %w; name another with -d", dir, err)
	}
	for _, e := range entries {
		if e.Name() != "bin" {
			return fmt.Errorf("%s is not empty and holds no network: name another folder with -d", dir)
		}
	}
	probe := filepath.Join(dir, ".probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("the folder %s cannot be written: %w; name another with -d", dir, err)
	}
	return os.Remove(probe)
}

// CheckPorts reports which of a network's ports are taken.
func CheckPorts(first, nodes int) error {
	for port := first; port < first+portsEach*nodes; port++ {
		if err := checkPort(port, (port-first)%portsEach == 0); err != nil {
			return fmt.Errorf("port %d is taken (%w): stop what uses it, or choose other ports with --port", port, err)
		}
	}
	return nil
}

func checkPort(port int, udp bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var config net.ListenConfig
	if udp {
		c, err := config.ListenPacket(ctx, "udp", loopback(port))
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := config.Listen(ctx, "tcp", loopback(port))
	if err != nil {
		return err
	}
	return l.Close()
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func institution(i int) string {
	return "bank-" + string(rune('a'+i%26)) + map[bool]string{true: strconv.Itoa(i / 26)}[i >= 26]
}
