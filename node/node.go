// Package node is a running node: its groups, its connections, its API. [New] is the one place where the parts
// are put together; everything else takes what it needs as an argument.
//
// The package is public by path but promised nothing.
package node

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/node/monitor"
	"github.com/fondaco/fondaco/node/rpc"
	"github.com/fondaco/fondaco/node/vouch"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
	"github.com/fondaco/fondaco/wasmvm"
)

// Version is the release, told in handshakes and by the API.
const Version = "0.1.0"

// OperatorKey is the file in the node's folder with the secret that client.Client.Operator shows. Who can read it can read the
// node's key too.
const OperatorKey = "operator.key"

// ReadsDir is the folder, in that of the group's data, with the log of what regulators and auditors read, and of backups.
const ReadsDir = "reads"

// Config is what a node is made of. node/cli fills it from the configuration file.
type Config struct {
	Dir     string         // the node's folder: data, journal and caches go below it; required
	Genesis ledger.Genesis // required
	Signer  keys.Signer    // the node's long-term key; required

	Listen string              // UDP address for other nodes; required
	Conn   net.PacketConn      // used instead of Listen, for tests on a network in memory; nil. The node closes it
	Peers  []transport.Address // the other nodes
	Anchor group.Anchor        // as group.Config.Anchor
	Inner  bool                // as transport.Config.Inner

	API   string // TCP address of the HTTP API; empty: none
	Admin string // TCP address of metrics and health; empty: none
	// What these need for TLS. Without it they must be on loopback, and everybody there may do everything.
	APIFiles, AdminFiles login.Files

	// Engine is the consensus engine's program. With EngineFactory set it is not used.
	Engine plugins.Spec
	// CA says who vouches for nodes, besides the chain.
	CA CA
	// EngineFactory makes engines in this process, for tests and for operators who accept that.
	EngineFactory consensus.Factory

	Wasm        wasmvm.Engine // zero: the default for this machine
	ShadowShare float64       // of the transactions, that the engine wasmvm.Shadow runs twice; zero: all
	Workers     int           // as executor.Config.Workers
	Pool        mempool.Limits
	// Snapshot has a node without blocks, or that lacks one which nobody has any more, begin with a state of the others. Run then
	// ends with group.ErrJoined, and another New goes on with what was fetched.
	Snapshot bool
	// Statements is how many bytes of what members stated are kept for auditors; 0: audit.DefaultLogSize; below 0: none.
	Statements int64
	// Reads is how many bytes of what regulators and auditors read are kept; 0: audit.DefaultReadsSize.
	Reads   int64
	Archive bool // as state.Options.Archive
	Log     zerolog.Logger

	// Reopened is when a Run before ended with ErrReopen. This one does not for an hour from then. Zero: none did.
	Reopened time.Time

	// ClockOffset is added to the system's clock, for tests of what a wrong clock does; zero.
	ClockOffset time.Duration

	// Spoil is wasmvm.Config.Spoil, for tests of what happens when engines differ; nil.
	Spoil func(engine wasmvm.Engine, method string, o *wasmvm.Outcome)
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("node: Config.Dir is empty")
	case c.Signer == nil:
		return errors.New("node: Config.Signer is nil")
	case c.Listen == "":
		return errors.New("node: Config.Listen is empty")
	}
	return nil
}

// Node is a node of one group.
type Node struct {
	config       Config
	log          zerolog.Logger
	suite        keys.Suite
	chain        keys.Digest
	self         identity.NodeID
	store        *state.Store
	vm           *wasmvm.VM
	executor     *executor.Executor
	plugins      *plugins.Host
	endpoint     *transport.Endpoint
	ca           ca.Provider     // nil: there is none
	vouch        *vouch.Verdicts // nil: certificates are not asked for
	own          ownChain        // recheck alone touches it, once the node runs
	ends         atomic.Int64    // of the node's certificate, Unix ms; 0: not known
	lists        atomic.Pointer[[]monitor.List]
	monitor      *monitor.Monitor
	group        *group.Group
	loop         *group.Loop
	api          *rpc.Server
	reads        *audit.Reads // nil: it could not be opened
	apiAt        *login.Gate
	adminAt      *login.Gate
	alarms       chan *wasmvm.DivergenceError // for watch
	epochs       chan struct{}                // for watch: another epoch has begun, or a node was frozen or let in again
	revouched    chan struct{}                // for recheck: the provider says something else of a node than before
	fault        atomic.Pointer[error]        // what scrub could not read
	stateFault   atomic.Pointer[error]        // what scrubState could not read
	archiveFault atomic.Pointer[error]        // what scrubArchive found damaged
	joined       chan struct{}                // for Run: a state was fetched to begin with
	full         chan struct{}                // for Run: the group stopped as the disk is full
	toldOf       precompiles.Activation       // watch alone touches it: the feature that blocksLeft told of last,
	toldLate     bool                         // and whether few blocks were left
}

// New opens the node's data, makes the genesis block if there is none, starts the plugins and binds the
// addresses. Close must be called unless New or Run returned.
func New(ctx context.Context, c Config) (n *Node, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	suite, err := keys.SuiteByName(c.Genesis.Suite)
	if err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if err := c.Genesis.Check(suite); err != nil {
		return nil, err
	}
	n = newNode(c, suite)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			n = nil
		}
	}()
	if err := n.openState(ctx); err != nil {
		return n, err
	}
	factory, err := n.engine(ctx)
	if err != nil {
		return n, err
	}
	if err := n.openCA(ctx); err != nil {
		return n, err
	}
	if err := n.openNetwork(); err != nil {
		return n, err
	}
	seen := monitor.Config{
		Log: c.Log.With().Str("node", n.self.Short()).Logger(), Group: c.Genesis.Group, Finality: c.Genesis.Finality(),
		Suite: n.suite, Plugins: n.plugins.Status, Wasm: n.vm.Stats, Executor: n.executor.Stats, Pinned: n.store.Pinned, Damage: n.damage, Aside: func() int { return len(n.store.Aside()) }, Roots: n.roots, Unheeded: n.unheeded, Release: n.blocksLeft, HTTPS: n.https, Reads: n.readsFull, Profile: true,
		Checks: []monitor.Check{{Name: "disk", Run: n.checkDisk}},
	}
	if n.vouch != nil {
		seen.Certificate, seen.Lists, seen.Vouched = n.certificateEnds, n.revocationLists, n.vouchStats
	}
	n.monitor = monitor.New(seen)
	n.loop = group.NewLoop(&network{endpoint: n.endpoint, group: c.Genesis.Group})
	n.loop.ClockOffset = c.ClockOffset
	trace := n.monitor.Trace()
	changed := func() {
		select {
		case n.epochs <- struct{}{}:
		default: // one is enough: watch looks at what is in force then
		}
	}
	trace.Epoch = func(ledger.Epoch) { changed() }
	finalized := trace.Finalized
	trace.Finalized = func(b *ledger.Block, receipts []ledger.Receipt, txs []*ledger.SignedTx) {
		finalized(b, receipts, txs)
		if precompiles.FreezesNodes(receipts) {
			changed()
		}
	}
	trace.Joined = func(ledger.Height) { close(n.joined) }
	trace.Full = func() { close(n.full) }
	var sources []identity.NodeID
	for _, p := range c.Peers {
		sources = append(sources, p.Node)
	}
	n.group, err = group.New(group.Config{
		Suite: suite, Chain: n.chain, Group: c.Genesis.Group, Finality: c.Genesis.Finality(), Genesis: &n.config.Genesis, Snapshot: c.Snapshot, Room: n.room,
		Signer: c.Signer, Store: n.store, Executor: n.executor, Engine: factory, Pool: mempool.New(c.Pool), FS: state.OS(), Dir: n.groupDir(), Home: n.config.Dir, Env: n.loop, Log: n.log,
		Trace: trace, Sources: sources, Anchor: c.Anchor, StatementLog: max(cmp.Or(c.Statements, audit.DefaultLogSize), 0),
	})
	if err != nil {
		return n, err
	}
	n.handle()
	n.endpoint.SetPeers(n.peers())
	return n, n.openAPI()
}

// warming bounds how long a node's start waits for contracts to be made ready. The others become so when they are called.
const warming = 10 * time.Second

// warm makes deployed contracts ready before the first block. One that does not become so will stop the group when it is called.
func (n *Node) warm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, warming)
	defer cancel()
	began := time.Now()
	count, err := n.executor.Warm(ctx, n.store.Head())
	if err != nil {
		n.log.Error().Err(err).Msg("a deployed contract is not ready to be called")
	}
	n.log.Info().Int("modules", count).Dur("took", time.Since(began)).Str("engine", string(n.vm.Engine())).Str("wazero", wasmvm.EngineVersion()).Msg("contracts are ready")
}

// warned is told of a module that the compiler does not take.
func (n *Node) warned(module keys.Digest, err error) {
	n.log.Warn().Str("module", module.String()).Err(err).Msg("a contract stays with the interpreter, where it is slower and does the same")
}

// alarmed is told that the VM's engines differ: whatever this node computes may be wrong.
func (n *Node) alarmed(d *wasmvm.DivergenceError) {
	n.log.Error().Str("module", d.Module.String()).Str("method", d.Method).Hex("input", d.Input).Str("tx", d.Tx.String()).Str("difference", d.What).
		Msg("the engines that run contracts differ: this node stops voting; keep its data and this line, and run it with engine = 'interpreter'")
	select {
	case n.alarms <- d:
	default: // the first is enough
	}
}

func (n *Node) groupDir() string {
	return filepath.Join(n.config.Dir, "data", string(n.config.Genesis.Group))
}

// room tells the group and the store how much may still be written beside the blocks.
func (n *Node) room() (bytes int64, known bool) {
	bytes, known, err := backup.FreeSpace(n.groupDir())
	return bytes, known && err == nil
}

func (n *Node) openState(ctx context.Context) error {
	dir := n.groupDir()
	if err := state.OS().MkdirAll(dir); err != nil {
		return fmt.Errorf("make the data folder %s: %w", dir, err)
	}
	var err error
	began := time.Now()
	n.log.Info().Str("folder", dir).Msg("opening the data: the state is checked")
	n.store, err = state.Open(dir, n.suite, &state.Options{Archive: n.config.Archive, Room: n.room, SetAside: true, Notice: func(text string) { n.log.Warn().Msg(text) }})
	if err != nil {
		return fmt.Errorf("open the data of group %s: %w", n.config.Genesis.Group, err)
	}
	n.log.Info().Dur("took", time.Since(began)).Msg("the data is open")
	shadow, err := n.secret("shadow.key")
	if err != nil {
		return err
	}
	cache := filepath.Join(n.config.Dir, "cache", "wasm")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	n.vm, err = wasmvm.New(ctx, wasmvm.Config{
		Engine: n.config.Wasm, CacheDir: cache, MemoryPages: n.config.Genesis.Params.MemoryPages,
		Rewrite: n.config.Genesis.Params.Rewrite, Costs: n.config.Genesis.Params.Costs,
		ShadowShare: n.config.ShadowShare, ShadowKey: shadow, Warn: n.warned, Alarm: n.alarmed, Spoil: n.config.Spoil,
	})
	if err != nil {
		return fmt.Errorf("start the contract engine: %w", err)
	}
	n.executor, err = executor.New(executor.Config{Suite: n.suite, Chain: n.chain, Group: n.config.Genesis.Group, VM: n.vm, Workers: n.config.Workers})
	if err != nil {
		return err
	}
	block, first, err := executor.Genesis(n.suite, &n.config.Genesis)
	if err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	if n.store.Head() == nil {
		if err := n.store.Commit(block, first); err != nil {
			return fmt.Errorf("store the genesis block: %w", err)
		}
		n.log.Info().Str("chain", n.chain.String()).Msg("genesis block stored")
	}
	stored, err := n.store.BlockHash(0)
	if err != nil {
		return fmt.Errorf("read the genesis block: %w", err)
	}
	if want := first.Hash(); stored != want {
		return fmt.Errorf("the data in %s belong to another chain: its genesis block is %s, the genesis file gives %s; "+
			"use the genesis file that the data were made with, or an empty folder", dir, stored, want)
	}
	features, err := precompiles.ReadFeatures(n.store.Head())
	if err == nil {
		err = features.Due(&n.store.Head().Header().Order)
	}
	if err != nil {
		return fmt.Errorf("the data in %s are of a later release: %w", dir, err)
	}
	n.warm(ctx)
	return nil
}

// blocksLeft returns how many blocks there are until one begins with a feature that this release does not have, or -1 if none was
// decided on. It tells the operator as soon as one is, and when less than a tenth of the blocks are left.
func (n *Node) blocksLeft() int64 {
	head := n.store.Head()
	features, err := precompiles.ReadFeatures(head)
	unknown := features.Unknown()
	if err != nil || len(unknown) == 0 {
		n.toldOf = precompiles.Activation{}
		return -1
	}
	next := unknown[0]
	left := max(0, int64(next.Height)-int64(head.Height())-1)
	late := left < int64(next.Height-next.Decided)/10
	if next != n.toldOf || late && !n.toldLate {
		n.log.Warn().Str("feature", string(next.Feature)).Uint64("height", uint64(next.Height)).Int64("blocks_left", left).
			Msg("this node will stop: " + (&precompiles.ReleaseError{Activation: next}).Error())
		n.toldOf, n.toldLate = next, late
	}
	return left
}

// engine returns what makes consensus engines: a plugin program's, unless one is linked in.
func (n *Node) engine(ctx context.Context) (consensus.Factory, error) {
	n.plugins = plugins.New(plugins.Config{Log: n.log, Dir: filepath.Join(n.config.Dir, "cache", "plugins")})
	if n.config.EngineFactory != nil {
		return n.config.EngineFactory, nil
	}
	program, err := n.plugins.Engine(ctx, n.config.Engine)
	if err != nil {
		return nil, err
	}
	manifest := program.Manifest()
	if err := manifest.Suits(&n.config.Genesis); err != nil {
		return nil, err
	}
	n.log.Info().Str("engine", manifest.Name).Str("version", manifest.Version).Msg("consensus engine started")
	return program.New, nil
}

func (n *Node) openNetwork() error {
	reset, err := n.secret("reset.key")
	if err != nil {
		return err
	}
	n.endpoint, err = transport.New(transport.Config{
		Listen: n.config.Listen, Conn: n.config.Conn, Suite: n.suite, Signer: n.config.Signer, Chain: n.chain,
		Groups: []ledger.GroupID{n.config.Genesis.Group}, Peers: n.config.Peers, Admit: n.admit, Authorize: n.authorize, Certificates: n.config.CA.Chain, Inner: n.config.Inner,
		Info: map[string]string{
			"software": "fondaco " + Version, "engine": string(n.vm.Engine()), "wazero": wasmvm.EngineVersion(), "arch": runtime.GOARCH,
		},
		StatelessResetKey: reset, Log: n.log,
		Now: n.now,
	})
	return err
}

func (n *Node) admit(hello transport.Hello) error {
	_, err := n.admitted(hello.Node)
	return err
}

// admitted lets in the group's nodes, and those that the operator configured: a node that joins late does not know
// of today's members before it has the blocks that tell of them. Nobody is let in whom the chain has frozen. It returns the
// node's institution.
func (n *Node) admitted(id identity.NodeID) (institution string, err error) {
	if institution, err = n.institution(id); err != nil {
		return "", err
	}
	head := n.store.Head()
	if err := precompiles.CheckNode(head, id, n.judgedAt(head)); err != nil {
		return "", fmt.Errorf("by what group %s says at height %d, node %s is not let in: %w", n.config.Genesis.Group, head.Height(), id.Short(), err)
	}
	return institution, nil
}

// institution returns the one that the chain has a node for; of a node that the operator configured and the chain does not
// know yet, none.
func (n *Node) institution(id identity.NodeID) (string, error) {
	if node, ok := n.group.Status().Nodes[id]; ok {
		return node.Institution, nil
	}
	if slices.ContainsFunc(n.config.Peers, func(a transport.Address) bool { return a.Node == id }) && !n.dismissed(id) {
		return "", nil
	}
	return "", fmt.Errorf("node %s is neither a member nor an observer of group %s", id, n.config.Genesis.Group)
}

// authorize says whom a node stands for that has proved its key. It was admitted before, and may have been frozen since.
func (n *Node) authorize(hello transport.Hello) (identity.Identity, error) {
	institution, err := n.admitted(hello.Node)
	if err != nil {
		return identity.Identity{}, err
	}
	key, err := hello.PublicKey(n.suite)
	if err != nil {
		return identity.Identity{}, err
	}
	return n.vouched(&hello, key, institution)
}

// dismissed reports whether the group sent a node away. One that cannot be looked up is not let in.
func (n *Node) dismissed(id identity.NodeID) bool {
	node, found, err := precompiles.ReadNode(n.store.Head(), id)
	return err != nil || found && node.Status == precompiles.NodeDismissed
}

// roots returns those that may vouch for the node's institution, and how long they do as connections are judged; none where
// the group does not know the node, or names none.
func (n *Node) roots() []monitor.Root {
	head := n.store.Head()
	self, found, err := precompiles.ReadNode(head, n.self)
	if err != nil || !found {
		return nil
	}
	trust, _, err := precompiles.ReadTrust(head, self.Institution)
	if err != nil {
		return nil // the state is damaged, of which others tell
	}
	now := n.judgedAt(head)
	var roots []monitor.Root
	for _, a := range trust.Authorities {
		roots = append(roots, monitor.Root{Agency: a.Agency, Root: a.Root, Left: time.Duration(min(a.Until-now, maxLeft)) * time.Millisecond})
	}
	return roots
}

// maxLeft is what the end of a root is told as at most, in ms: some 290 years, as much as a time.Duration holds.
const maxLeft = math.MaxInt64 / int64(time.Millisecond)

// peers returns the nodes to connect to: the configured ones, and those whose address the chain knows. The
// configuration goes first: it may name a way that is better from here.
func (n *Node) peers() []transport.Address {
	peers := slices.Clone(n.config.Peers)
	for id, node := range n.group.Status().Nodes {
		if node.Address != "" && !slices.ContainsFunc(n.config.Peers, func(a transport.Address) bool { return a.Node == id }) {
			peers = append(peers, transport.Address{Node: id, Addr: node.Address})
		}
	}
	return peers
}

// secret returns 32 random bytes that are kept in a file of the node's folder.
func (n *Node) secret(name string) (secret [32]byte, err error) {
	path := filepath.Join(n.config.Dir, name)
	raw, err := os.ReadFile(path)
	if err == nil && len(raw) == len(secret) {
		return [32]byte(raw), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return secret, fmt.Errorf("read %s: %w", path, err)
	}
	secret = randomBytes()
	if err := os.WriteFile(path, secret[:], 0o600); err != nil {
		return secret, fmt.Errorf("write %s: %w", path, err)
	}
	return secret, nil
}

// handle connects the endpoint's protocols with the group's.
func (n *Node) handle() {
	oneWay := func(from identity.NodeID, m []byte) {
		if p, body, ok := n.unwrap(m); ok {
			n.loop.Offer(func() { n.group.Receive(from, p, body) })
		}
	}
	n.endpoint.Handle(transport.Consensus, oneWay)
	n.endpoint.Handle(transport.TxGossip, oneWay)
	n.endpoint.HandleRequest(transport.TxFetch, n.serve)
	n.endpoint.HandleRequest(transport.BlockSync, n.serve)
	n.endpoint.HandleRequest(transport.StateSync, n.serve)
	n.endpoint.OnPeer(func(node identity.NodeID, up bool) {
		n.loop.Offer(func() { n.group.PeerChanged(node, up) })
	})
}

// serve answers a request of another node.
func (n *Node) serve(ctx context.Context, from identity.NodeID, m []byte) ([]byte, error) {
	p, body, ok := n.unwrap(m)
	if !ok {
		return nil, fmt.Errorf("this node does not serve the group of the request")
	}
	type answer struct {
		reply []byte
		err   error
	}
	answers := make(chan answer, 1)
	if !n.loop.Offer(func() {
		n.group.Serve(from, p, body, func(reply []byte, err error) { answers <- answer{reply, err} })
	}) {
		return n.group.Busy(p)
	}
	select {
	case a := <-answers:
		return a.reply, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// asks says for whom a signed query stands, by the newest state.
func (n *Node) asks(q *client.Query) (s login.Subject, err error) {
	head := n.store.Head()
	account, found, err := precompiles.ReadAccount(head, q.Account)
	if err != nil {
		return s, err
	}
	refused := func(why string) error {
		return &client.Problem{Type: "about:blank", Title: http.StatusText(http.StatusUnauthorized), Status: http.StatusUnauthorized, Code: client.CodeUnauthenticated, Detail: "the signed query does not count: " + why}
	}
	if !found {
		return s, refused("there is no account " + q.Account.String())
	}
	err = account.MayAsk(head, q.Account, q.Key, n.judgedAt(head))
	if refusal, ok := errors.AsType[*precompiles.Error](err); ok {
		return s, refused(refusal.Reason)
	}
	if err != nil {
		return s, err
	}
	s.Name, s.Institution = q.Account.String(), account.Institution
	for _, role := range account.Roles {
		s.Roles = append(s.Roles, identity.Role(role))
	}
	return s, nil
}

func (n *Node) openAPI() (err error) {
	operator, err := n.secret(OperatorKey)
	if err != nil {
		return err
	}
	n.reads, err = audit.OpenReads(audit.ReadsConfig{Anchored: n.anchored, Behind: func() bool { return behind(n.group.Status()) }, LogConfig: audit.LogConfig{
		Suite: n.suite, Chain: n.chain, Group: n.config.Genesis.Group, Node: n.self, FS: state.OS(), Dir: filepath.Join(n.groupDir(), ReadsDir), Size: cmp.Or(n.config.Reads, audit.DefaultReadsSize),
	}})
	if err != nil {
		n.log.Error().Err(err).Msg("regulators and auditors are answered nothing and no backup is given, as it could not be written down")
	}
	gate := login.Config{Operator: hex.EncodeToString(operator[:]), Suite: n.suite, Check: n.certifiedRoles, Log: n.log, Refused: n.monitor.Refused, Now: n.now, Institution: func() string {
		own, err := n.institution(n.endpoint.Self())
		if err != nil {
			return ""
		}
		return own
	}, Account: n.asks, Chain: n.chain, Group: n.config.Genesis.Group}
	if n.suite.Name() == keys.Std().Name() { // one of suite gm vouches for SM2 certificates, which TLS does not know
		gate.Provider = n.ca
	}
	if n.config.Admin != "" {
		gate.Name, gate.Listen, gate.Files = "admin", n.config.Admin, n.config.AdminFiles
		if n.adminAt, err = login.Open(gate); err != nil {
			return err
		}
	}
	if n.config.API == "" {
		return nil
	}
	gate.Name, gate.Listen, gate.Files = "api", n.config.API, n.config.APIFiles
	if n.apiAt, err = login.Open(gate); err != nil {
		return err
	}
	statements := ""
	if n.config.Statements >= 0 {
		statements = filepath.Join(n.groupDir(), group.StatementsDir)
	}
	if err := backup.RemoveSpools(n.groupDir()); err != nil {
		return fmt.Errorf("remove what is left of a backup: %w", err)
	}
	n.api, err = rpc.New(rpc.Config{
		Statements: statements, Spool: n.groupDir(), Gate: n.apiAt,
		Group: n.group, Executor: n.executor, Suite: n.suite, Chain: n.chain, Genesis: &n.config.Genesis, Version: Version, Reads: n.reads,
		Peers: n.endpoint.Peers, JudgedAt: n.judgedAt, Plugins: n.plugins.Status, Restart: n.plugins.Restart, Log: n.log,
	})
	return err
}

// anchored returns up to which read the chain anchors this node's log of reads, and the digest there.
func (n *Node) anchored() (count uint64, digest keys.Digest, err error) {
	own, err := n.institution(n.self)
	if err != nil {
		return 0, digest, nil // of nobody in the group, so nobody anchors it
	}
	a, _, err := precompiles.ReadAnchor(n.store.Head(), own, audit.ReadsName(n.self))
	return a.Count, a.Digest, err
}

// behind reports whether a group's state may be an old one of the chain, for all that others say. A lie makes it one for as long as the node asks for what there is not.
func behind(s group.Status) bool { return s.Claimed || s.Joining != nil || s.Lacking != nil }

// readsFull returns which share of the log of reads is taken by what is not anchored, up to 1.
func (n *Node) readsFull() float64 {
	if n.reads == nil {
		return 0
	}
	count, _, err := n.anchored()
	if err != nil {
		return 1
	}
	return n.reads.Full(count)
}

// https returns the certificates of the node's listeners.
func (n *Node) https() []monitor.HTTPS {
	var all []monitor.HTTPS
	for name, gate := range map[string]*login.Gate{"api": n.apiAt, "admin": n.adminAt} {
		if gate.Secure() {
			all = append(all, monitor.HTTPS{Listener: name, Ends: gate.Ends(), Clients: gate.Clients()})
		}
	}
	return all
}

// Addr returns the address of the API, or nil.
func (n *Node) Addr() net.Addr {
	if n.apiAt == nil {
		return nil
	}
	return n.apiAt.Addr()
}

// AdminAddr returns the address of metrics and health, or nil.
func (n *Node) AdminAddr() net.Addr {
	if n.adminAt == nil {
		return nil
	}
	return n.adminAt.Addr()
}

// Run works until ctx ends, or until a part fails, and then closes everything. With group.ErrJoined, see Config.Snapshot; with ErrRoom
// and ErrReopen another New goes on.
func (n *Node) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	tasks, ctx := errgroup.WithContext(ctx)
	loopContext, endLoop := context.WithCancel(context.WithoutCancel(ctx))
	defer endLoop()
	looped := make(chan struct{})
	go func() {
		defer close(looped)
		n.loop.Run(loopContext, n.group.Drain)
	}()
	tasks.Go(func() error { return n.endpoint.Run(ctx) })
	tasks.Go(func() error { return n.watch(ctx) })
	tasks.Go(func() error { return n.watchSigner(ctx) })
	tasks.Go(func() error { return n.scrub(ctx) })
	tasks.Go(func() error { return n.scrubState(ctx) })
	tasks.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-n.joined:
			return group.ErrJoined
		}
	})
	tasks.Go(func() error { return n.awaitRoom(ctx) })
	tasks.Go(func() error { return n.awaitReopen(ctx) })
	if n.vouch != nil {
		tasks.Go(func() error { return n.recheck(ctx) })
		tasks.Go(func() error { return n.watchLists(ctx) })
	}
	if n.config.Archive {
		tasks.Go(func() error { return n.archive(ctx) })
		tasks.Go(func() error { return n.scrubArchive(ctx) })
	}
	if n.apiAt != nil {
		tasks.Go(func() error { return n.api.Serve(ctx, n.apiAt) })
	}
	if n.adminAt != nil {
		tasks.Go(func() error { return n.monitor.Serve(ctx, n.adminAt) })
	}
	n.log.Info().Str("listen", n.config.Listen).Str("api", n.config.API).Uint64("height", uint64(n.store.Head().Height())).Msg("node started")
	if epoch, err := precompiles.ReadEpoch(n.store.Head()); err == nil {
		if toy := precompiles.Toy(epoch.Members); toy != "" {
			n.log.Warn().Msg(toy)
		}
	}
	err := tasks.Wait()
	stop()
	endLoop()
	<-looped
	closed := n.Close()
	if errors.Is(err, ErrRoom) && closed != nil && !state.Full(closed) {
		return fmt.Errorf("close the node, which stopped when its disk was full: %w", closed) // a sync may have failed
	}
	if errors.Is(err, ErrReopen) && closed != nil {
		return fmt.Errorf("close the node, which found files of its state damaged: %w", closed)
	}
	return errors.Join(err, closed)
}

// readsWarning is the share of the log of reads from which the operator is warned that it fills up.
const readsWarning = 0.75

// watch feeds the monitor with what nobody tells it, and stops the group when the VM raises an alarm.
func (n *Node) watch(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	warned := false // that the log of reads fills up
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-n.alarms:
			n.loop.Post(func() { n.group.Fail(d) })
		case <-n.epochs:
			n.endpoint.SetPeers(n.peers()) // has everybody asked about again
		case <-tick.C:
			connected := 0
			for p := range n.endpoint.Peers() {
				if p.Up {
					connected++
				}
			}
			n.monitor.Observe(n.group.Status(), n.group.Pool(), connected)
			full := n.readsFull()
			if full >= readsWarning && !warned {
				n.log.Warn().Float64("full", full).Msg("the log of reads fills up with reads that are not anchored on chain: when it is full, regulators and auditors are answered nothing and no backup is given; run fondaco audit log anchor")
			}
			warned = full >= readsWarning
		}
	}
}

// signerLook is how often a node asks whether its signer is there.
const signerLook = 5 * time.Second

// watchSigner tells the group whether a signer that is elsewhere answers: of an idle chain, which has nothing signed, nobody would know.
func (n *Node) watchSigner(ctx context.Context) error {
	away, ok := n.config.Signer.(interface{ Present() (bool, error) })
	if !ok {
		return nil
	}
	tick := time.NewTicker(signerLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		known, err := away.Present()
		if !known {
			continue
		}
		n.loop.Post(func() { n.group.NoteSigner(err) })
	}
}

// Close ends what New began. Run calls it.
func (n *Node) Close() error {
	var errs []error
	if n.group != nil {
		errs = append(errs, n.group.Close())
	}
	if n.vouch != nil {
		n.vouch.Close()
	}
	if n.plugins != nil {
		errs = append(errs, n.plugins.Close())
	}
	if n.vm != nil {
		errs = append(errs, n.vm.Close(context.Background()))
	}
	if n.reads != nil {
		errs = append(errs, n.reads.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	for _, l := range []*login.Gate{n.apiAt, n.adminAt} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
