// Package group runs one ledger of a chain: it drives a consensus engine, makes and checks blocks, has them
// executed, stores them, and answers for what it stored.
//
// # One loop
//
// A Group is a single-threaded state machine over an [Env]: clock, timers, workers and network are injected,
// and so are the files (state.FS), the store and the engine. In a node the Env is a [Loop]; the simulator
// passes one on virtual time. All methods but those under "Methods for any goroutine" must be called on the
// Env's loop, and the Env calls [Group.Drain] after each run of callbacks.
//
// # What leaves the node
//
// Effects of the engine are carried out in order. What the node sends waits in an outbox until the journal
// (engine records, double-sign guard, bodies of blocks voted for) is synced, once per drained batch.
//
// The package is public by path but promised nothing.
package group

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/node/statesync"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/rs/zerolog"
)

// Errors of a group.
var (
	// ErrStopped says that the group stopped because it could not go on safely; Status tells why.
	ErrStopped = errors.New("the group has stopped on this node")
	// ErrDiverged says that this node computed another result than the quorum.
	ErrDiverged = errors.New("group: this node's result differs from the quorum's")
	// ErrJournalLost says that the node has blocks and no consensus journal.
	ErrJournalLost = errors.New("group: the consensus journal was lost")
	// ErrLeft says that this node signed a recovery, which is not applied.
	ErrLeft = errors.New("group: this node gave its epoch up")
	// ErrBehind says that the node voted in a later epoch than that of its last block: it has older blocks than its journal.
	ErrBehind = errors.New("group: the blocks are older than the consensus journal")
	// ErrBusy says that too much waits to be checked. Try again later.
	ErrBusy = errors.New("the node is busy: send again later, or to another node")
)

// Env is everything about the world that a group cannot compute. Callbacks run on the group's loop.
type Env interface {
	// Now returns the node's clock in Unix milliseconds.
	Now() int64
	// After runs f on the loop after a number of milliseconds. cancel may be called at any time on the loop.
	After(milli int64, f func()) (cancel func())
	// Go runs work elsewhere and then, on the loop, what it returned.
	Go(work func() (then func()))
	// Post runs f on the loop soon. It may be called from any goroutine, and reports false when the node is
	// shutting down.
	Post(f func()) bool
	// Send queues a message; it may be lost.
	Send(to identity.NodeID, p Protocol, m []byte)
	// Request asks a peer and runs then on the loop with its reply.
	Request(to identity.NodeID, p Protocol, m []byte, then func(reply []byte, err error))
}

// Protocol says what a message between groups is.
type Protocol uint8

// The protocols between the nodes of a group.
const (
	Consensus    Protocol = 1 // one-way: a consensus.Message with the leaves of a proposed payload
	Transactions Protocol = 2 // one-way: encoded transactions
	Leaves       Protocol = 3 // request: a transaction root; reply: the leaf digests under it
	Bodies       Protocol = 4 // request: leaf digests; reply: the encoded transactions that the peer has
	Blocks       Protocol = 5 // request: a range of heights; reply: encoded blocks
	States       Protocol = 6 // request and reply: of package statesync
	Stored       Protocol = 7 // request: a height; reply: a part of the block as a store keeps it, with its results
)

// Executor computes what a block does. node/executor satisfies it.
type Executor interface {
	// Execute returns the state after the block of order, whose transactions are valid and signed, on base.
	// An error is a fault of this node.
	Execute(ctx context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx) (*state.Snapshot, error)
	// Epoch returns the members and parameters in force after base.
	Epoch(base *state.Snapshot) (ledger.Epoch, error)
	// Beginning returns how an epoch began, as the state after base has it, and whether it has begun.
	Beginning(base *state.Snapshot, epoch uint64) (b precompiles.Beginning, found bool, err error)
	// Admit says why a transaction, at a state, would be refused before its contract runs, or returns nil. It
	// checks form that depends on the target (size), the account, and that the signing keys are bound to it.
	Admit(base *state.Snapshot, tx *ledger.SignedTx) error
	// Deploys returns the digest of the module that a transaction deploys, and whether it deploys one.
	Deploys(tx *ledger.SignedTx) (module keys.Digest, ok bool)
	// Prepare does ahead of time, off the loop, what would make executing the transaction slow: it has the VM take up
	// the module that it deploys. What it finds wrong the receipt will tell.
	Prepare(ctx context.Context, tx *ledger.SignedTx) error
	// Barrier reports whether a transaction ends the epoch of the block that it is in, where it must be alone. The
	// answer depends on the transaction alone.
	Barrier(tx *ledger.SignedTx) bool
	// EndsEpoch says why a transaction that Barrier holds for would change nothing as the block of order on base, or
	// returns nil. It is quick, and the answer is the same on all nodes.
	EndsEpoch(base *state.Snapshot, order *ledger.Order, tx *ledger.SignedTx) error
	// Nodes returns the nodes that have to do with the group after base, in order of their ids.
	Nodes(base *state.Snapshot) ([]precompiles.ListedNode, error)
	// SizeLimit returns how many bytes a transaction to the target may have.
	SizeLimit(to ledger.Target) int
}

// Trace tells others what happens. Nil functions are not called. They run on the loop and must be quick.
type Trace struct {
	Stepped   func(events []consensus.Event, effects []consensus.Effect)
	Phase     func(phase string, height ledger.Height, view uint64, order keys.Digest)
	Finalized func(b *ledger.Block, receipts []ledger.Receipt, txs []*ledger.SignedTx)
	Admitted  func(tx *ledger.SignedTx, own bool)
	Dropped   func(id ledger.TxID, why error)
	// Denied tells that a client's transaction was not taken because of what its sender may do. Whether the sender signed it was not looked at.
	Denied   func(tx *ledger.SignedTx, why *precompiles.Error)
	Evidence func(a, b ledger.Vote) // verified, and new here
	Alarm    func(reason string)
	// Full tells, after Alarm, that the group has ended because the disk had no room for a write (state.Full): when there is some, it is to be opened again.
	Full func()
	// Epoch tells that an epoch begins after the head. Status has the members and nodes.
	Epoch func(ledger.Epoch)
	// Fetched tells that a node sent so many blocks that this one lacked, with their certificates.
	Fetched func(from identity.NodeID, blocks int)
	// Joined tells that the group has ended with ErrJoined: the state after a block was fetched, on which it is to be opened again.
	Joined func(ledger.Height)
	// Refused tells by which rule something that a member sent was dropped: one of the group's, above, or of the
	// engine's. The member is the one that sent it or, in a block, proposed it; or that the evidence is against.
	// For RuleMember it is meaningless.
	Refused func(member uint32, rule string)
	// Signing runs before a statement is signed, after the guard allowed it.
	Signing func(ledger.Statement)
}

// Config is what a group is made of. Fields are required where nothing else is said of them.
type Config struct {
	Suite    keys.Suite
	Chain    keys.Digest
	Group    ledger.GroupID
	Finality ledger.StatementKind // see ledger.Genesis.Finality; zero stands for Commit
	Genesis  *ledger.Genesis      // nil: this node neither gives states to others that join nor takes one
	Snapshot bool                 // join by a state of others, where this node has no blocks or nobody has the next; needs Genesis
	Trust    bool                 // see ledger.Genesis.Trust: a recovery then needs no proof of what members say they hold; false: it does
	Signer   keys.Signer          // the node's long-term key, which signs its votes
	Sources  []identity.NodeID    // nodes to fetch blocks from besides the group's, for one that joins late; may be empty
	Anchor   Anchor               // a block that the chain must have
	Store    *state.Store
	Executor Executor
	// Engine makes an engine for each start: of the group, and after the engine's process died, which a Step
	// error that wraps consensus.ErrEngineDown tells.
	Engine consensus.Factory
	Pool   *mempool.Pool
	FS     state.FS // holds the journal
	Dir    string   // of the journal; must exist
	// Home is a folder that outlives Dir, such as that of the node's key. A mark in it says that the node has had a journal, so
	// that one which loses all of Dir does not take itself for a new one. Empty: none.
	Home string
	// JournalBytes is the size at which the journal is written anew with only what still matters; 0: 8 MiB.
	JournalBytes int64
	// StatementLog is how many bytes of what members stated are kept for auditors; 0: none.
	StatementLog int64
	// Room returns how many bytes may still be written into Dir, or that nobody knows. Nil: nobody knows.
	Room  func() (bytes int64, known bool)
	Env   Env
	Log   zerolog.Logger // the zero Logger: none
	Trace Trace          // the zero Trace: nobody is told
}

// Anchor is a block that a member of the group vouched for to who joined late. What a node would fetch below it can be certified by
// keys of old members that somebody stole, and then does not lead to it. The zero value: none.
type Anchor struct {
	Height ledger.Height   // above 0
	Block  keys.Digest     // its hash
	By     identity.NodeID // the member; zero: nobody looks whether it was one
	Used   int64           // when its word was taken, Unix ms by the clock of who took it
}

var (
	// ErrAnchor says that the chain which the node fetched does not have the block of its anchor.
	ErrAnchor = errors.New("group: another history than that of the anchor")
	// ErrInviter says that who vouched for the anchor was no member any more when the node took its word.
	ErrInviter = errors.New("group: no member vouched for the anchor")
)

// check fails if a block is in the place of the anchor.
func (a *Anchor) check(height ledger.Height, block keys.Digest) error {
	if a.Height == 0 || height != a.Height || block == a.Block {
		return nil
	}
	return fmt.Errorf("%w: block %d is %s, and the member that invited this node says %s. Stop this node and ask members by another way which is right: if this node's "+
		"is, remove the anchor from its configuration; if not, keep its data for the inquiry, and let it start again from an empty folder", ErrAnchor, height, block, a.Block)
}

func (c *Config) validate() error {
	switch {
	case c.Suite == nil, c.Signer == nil, c.Store == nil, c.Executor == nil, c.Engine == nil, c.Pool == nil, c.FS == nil, c.Env == nil:
		return errors.New("group: a required field of Config is not set")
	case c.Chain.IsZero():
		return errors.New("group: Config.Chain is zero")
	case c.Snapshot && c.Genesis == nil:
		return errors.New("group: Config.Snapshot needs Config.Genesis")
	case c.Group == "" || len(c.Group) > ledger.MaxGroupLength:
		return fmt.Errorf("group: Config.Group %q is not a group name", c.Group)
	}
	return nil
}

// Group is one ledger as this node runs it.
type Group struct {
	cfg     Config
	env     Env
	log     zerolog.Logger
	self    identity.NodeID
	journal *journal

	evidence   *evidenceStore
	statements statements

	// The engine and what it is owed.
	engine consensus.Engine
	events []consensus.Event
	outbox []outgoing
	signed []ledger.Vote // since the journal was last synced
	// What the guard let pass and the signer has not signed, in order, and why the signer does not: nil while it answers.
	unsigned    []consensus.Sign
	asking      bool   // a signer elsewhere was asked and did not answer yet
	dropped     uint64 // counts how often statements were dropped from unsigned: an answer to what was asked before is void
	signerAway  error
	signerGone  error                      // as NoteSigner was told; nil: it answers, or nobody looks
	retrySigner func()                     // cancels asking again; nil: nobody waits for that
	timers      map[consensus.Timer]func() // cancels
	retries     int                        // restarts of the engine in a row
	down        bool                       // the engine is being restarted

	// The epoch.
	epoch   ledger.Epoch
	nodes   map[identity.NodeID]precompiles.Node // those that may connect, members included; never changed in place
	sources []identity.NodeID                    // of blocks: the members by number, then others
	member  map[identity.NodeID]uint32           // the number of each node among the senders: the members' own, then others
	public  []keys.PublicKey
	number  int32 // of this node; -1 for an observer
	checked recent[checkedVote]
	proved  recent[keys.Digest] // certificates

	// Blocks in the making.
	head      consensus.Head
	horizon   int64 // latest expiry that a transaction in a block can have had at start: only up to it the store is asked
	proposals map[keys.Digest]*proposal
	aside     []*proposal                      // of them, those that were abandoned, in that order
	senders   []*sender                        // by number, see member
	own       *sender                          // holds what this node built or fetched
	held      []leafList                       // of the payloads in the journal
	bodies    map[keys.Digest]*ledger.SignedTx // of the payloads in the journal, by leaf
	final     []consensus.Finalize             // decided, and waiting for their payload or result

	// Transactions on their way in and out.
	checking        int                          // running signature checks
	preparing       map[keys.Digest]*preparation // modules being taken up
	unprepared      []*preparation               // deployments of others that wait for that, oldest first
	unpreparedBytes int
	serving         int                    // requests for blocks that are being answered
	asked           []func() (then func()) // others, which wait
	inbox           []incoming
	inBytes         int
	gossip          []*ledger.SignedTx
	gossipAt        func()
	pace            pace
	ending          struct { // the transaction that would end the epoch and was found not to do so for nothing: when, and on which head
		tx   *ledger.SignedTx
		head keys.Digest
		at   int64 // Unix ms
	}
	resent  resent
	pending struct {
		told  uint32 // count in the last Pending event
		pulse bool   // another will be sent in a while
	}

	heard    map[identity.NodeID]ledger.Height // heads that nodes told first, for a member that lost its journal: see beganSince
	accepted []keys.Digest                     // blocks that the operator takes from survivors of a disaster

	sync     syncer
	join     joiner
	parts    blocksync.Parts
	shelf    *statesync.Shelf // nil: none
	sweeping bool             // offers are looked at again
	follower follower
	healer   healer

	// For any goroutine.
	mu      sync.Mutex // guards changed
	changed chan struct{}
	stopped atomic.Pointer[error]
	status  atomic.Pointer[Status]
	proofs  atomic.Pointer[[]Evidence]
	expired recentIDs
}

type outgoing struct {
	to      identity.NodeID
	message []byte
}

// New opens the journal and starts the engine on what the store and journal hold. It must be called on the
// Env's loop, followed by Drain.
func New(c Config) (*Group, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.Finality = cmp.Or(c.Finality, ledger.Commit)
	accepted, err := takeRecoveries(&c)
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", c.Group, err)
	}
	base := c.Store.Head()
	if base == nil {
		return nil, errors.New("group: the store has no genesis block: run `fondaco init` first")
	}
	g := &Group{
		cfg: c, env: c.Env, log: c.Log, self: identity.NodeIDOf(c.Suite, c.Signer.Public()),
		accepted: accepted, timers: map[consensus.Timer]func(){}, proposals: map[keys.Digest]*proposal{}, bodies: map[keys.Digest]*ledger.SignedTx{},
		preparing: map[keys.Digest]*preparation{}, changed: make(chan struct{}),
	}
	g.expired.limit = 100_000
	block, err := c.Store.Block(base.Height())
	if err != nil {
		return nil, fmt.Errorf("group %s: read the last block: %w", c.Group, err)
	}
	g.head = consensus.Head{Order: block.Header.Order, Block: base.Hash(), Certificate: block.Certificate}
	if at := c.Anchor.Height; at > 0 && at <= base.Height() {
		hash, err := c.Store.BlockHash(at)
		if err == nil {
			err = c.Anchor.check(at, hash)
		}
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", c.Group, err)
		}
	}
	if err := g.enterEpoch(base); err != nil {
		return nil, err
	}
	g.parts.Payload = g.cfg.Store.Payload
	if err := g.sweepJoin(); err != nil {
		return nil, fmt.Errorf("group %s: remove what a join left in %s: %w", c.Group, state.Incoming(c.Dir), err)
	}
	if err := g.openShelf(); err != nil {
		return nil, fmt.Errorf("group %s: %w", c.Group, err)
	}
	if g.horizon, err = g.lastExpiry(base); err != nil {
		return nil, fmt.Errorf("group %s: %w", c.Group, err)
	}
	if g.evidence, err = openEvidence(c.FS, c.Dir); err != nil {
		return nil, fmt.Errorf("group %s: %w", c.Group, err)
	}
	g.publishEvidence()
	if err := g.openStatements(); err != nil {
		return nil, err
	}
	if g.journal, err = openJournal(c.FS, c.Dir, c.JournalBytes); err != nil {
		return nil, g.closeStatements(fmt.Errorf("group %s: %w", c.Group, err))
	}
	if err := g.beginJournal(base.Height()); err != nil {
		return nil, errors.Join(fmt.Errorf("group %s: %w", c.Group, err), g.closeStatements(g.journal.close()))
	}
	g.guardEpoch()
	g.restorePayloads()
	c.Pool.Committed(nil, g.head.Order.UnixMilli)
	if why := g.muted(); why != nil {
		g.log.Error().Err(why).Msg("this member does not vote")
	}
	engine := c.Engine()
	effects, err := engine.Init(g.engineConfig(), g.journal.records)
	if err == nil {
		err = g.begin(engine, effects)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("group %s: start the consensus engine: %w", c.Group, err), g.closeStatements(g.journal.close()))
	}
	g.publish()
	if why := g.Status().Lacking; why != nil {
		g.log.Error().Err(why).Msg("blocks are missing")
	}
	if g.journal.guard.Lost { // the sooner the others answer, the sooner it is certain that an epoch began later
		for range g.sources {
			g.askHead()
		}
	}
	g.follow()
	return g, nil
}

// lastExpiry returns the latest expiry that a transaction in a block up to base can have. A block's epoch bounds it,
// and later ones may have shorter lifetimes: the longest of all counts.
func (g *Group) lastExpiry(base *state.Snapshot) (int64, error) {
	longest := g.epoch.Params.MaxLifetime
	for epoch := range g.epoch.Number {
		b, found, err := g.cfg.Executor.Beginning(base, epoch)
		if err == nil && !found {
			err = fmt.Errorf("the state at height %d lacks the beginning of epoch %d", base.Height(), epoch)
		}
		if err != nil {
			return 0, err
		}
		longest = max(longest, b.Epoch.Params.MaxLifetime)
	}
	return base.Header().Order.UnixMilli + longest, nil
}

// beginJournal writes the first frame of a journal that has none. If there are blocks, or the mark of an earlier life, the
// node may have voted and have forgotten how: it does not vote in this epoch any more.
func (g *Group) beginJournal(head ledger.Height) error {
	marked, damaged, err := g.marked()
	if err != nil {
		return err
	}
	if damaged {
		g.log.Warn().Str("file", g.markName()).Msg("the mark that tells of this node's journal is damaged: taken for that of this chain, and written anew")
	}
	if g.journal.seq == 0 {
		first := guard{Guard: doublesign.Guard{Epoch: g.epoch.Number}}
		if head > 0 || marked {
			first.Mute, first.Lost = g.epoch.Number+1, true
		}
		g.journal.setGuard(first)
		if err := g.journal.sync(); err != nil {
			return err
		}
	}
	if !marked || damaged {
		if err := g.setMark(); err != nil { // before the first vote, and not before there is a journal
			return err
		}
	}
	return g.stayMute(nil)
}

// markName is the file in Config.Home that says for which chain a node has had a journal.
func (g *Group) markName() string { return filepath.Join(g.cfg.Home, "began-"+string(g.cfg.Group)) }

// marked reports whether the node has had a journal of this chain, though its data may be gone. A damaged mark counts as this
// chain's: the journal is on disk before the mark, so what a crash left of one stands beside a journal.
func (g *Group) marked() (marked, damaged bool, err error) {
	if g.cfg.Home == "" {
		return false, false, nil
	}
	file, err := g.cfg.FS.Open(g.markName(), false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("open %s: %w", g.markName(), err)
	}
	want := []byte(g.cfg.Chain.String())
	got := make([]byte, len(want))
	n, err := file.ReadAt(got, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return false, false, fmt.Errorf("read %s: %w", g.markName(), err)
	}
	_, wrong := keys.ParseDigest(string(got[:n]))
	return wrong != nil || bytes.Equal(got, want), wrong != nil, nil
}

func (g *Group) setMark() error {
	if g.cfg.Home == "" {
		return nil
	}
	text := g.cfg.Chain.String() + "\nThe chain that this node has taken part in. Its consensus journal is elsewhere; if that is lost, this file keeps\n" +
		"the node from voting against what it signed. Do not delete it.\n"
	file, err := g.cfg.FS.Open(g.markName(), true)
	if err == nil {
		_, written := file.WriteAt([]byte(text), 0)
		err = errors.Join(written, file.Truncate(int64(len(text))), file.Sync(), file.Close(), g.cfg.FS.SyncDir(g.cfg.Home))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", g.markName(), err)
	}
	return nil
}

// stayMute keeps a member that lost its journal silent in an epoch that may have begun before the loss: a node with an empty
// disk comes through all epochs anew. ended is the epoch that the head ended; nil at a start, where it is not known any more.
func (g *Group) stayMute(ended *ledger.Epoch) error {
	guarded := g.journal.guard
	if !guarded.Lost || guarded.Mute > g.epoch.Number {
		return nil
	}
	fresh, err := g.beganSince(ended)
	if err != nil {
		return err
	}
	if fresh {
		guarded.Lost = false
	} else {
		guarded.Mute = g.epoch.Number + 1
	}
	g.journal.setGuard(guarded)
	return g.journal.sync() // the block that began the epoch is stored already
}

// beganSince reports whether it is certain that the epoch which the head begins began after this node started without its
// journal. No clock is asked. Had it begun before, then members enough for a certificate had voted for the head by then; each of
// them that does not lie was in the epoch that ended, and no more than the blocks in flight below the head. So it is
// certain when so many members told after the start that they were further behind that one of them would have had to vote.
func (g *Group) beganSince(ended *ledger.Epoch) (bool, error) {
	if g.head.Certificate.Statement.Kind == ledger.Recover { // no certificate of the members began it
		return g.journal.guard.Left == g.head.Block, nil // which this node signed, in the journal that it has now
	}
	if ended == nil {
		return false, nil
	}
	began, found, err := g.cfg.Executor.Beginning(g.cfg.Store.Head(), ended.Number)
	if err != nil || !found {
		return false, err
	}
	behind, lie := 0, 0
	for _, m := range ended.Members {
		head, told := g.heard[m.Node]
		if told && (head < began.Height || head+maxRecovered < g.head.Order.Height) {
			behind++
		}
	}
	n := len(ended.Members)
	if g.cfg.Finality != ledger.Attest {
		lie = ledger.Faulty(n)
	}
	return behind > n+lie-g.cfg.Finality.Quorum(n), nil // this node's own vote may have been among them
}

// hear notes how far a node said to be when it was first asked, which tells a member that lost its journal what can have been
// final by then.
func (g *Group) hear(from identity.NodeID, head ledger.Height) {
	if _, told := g.heard[from]; told || !g.journal.guard.Lost || from == g.self {
		return
	}
	if g.heard == nil {
		g.heard = map[identity.NodeID]ledger.Height{}
	}
	g.heard[from] = head
}

// behind reports whether this node took part in a later epoch than that of its head. What its engine kept is of that one:
// no engine reads or replaces it before the node has the blocks up to there.
func (g *Group) behind() bool { return g.epoch.Number < g.journal.guard.Epoch }

// guardEpoch notes that this node takes part in the epoch, durably before or with the first record that its engine keeps of it.
func (g *Group) guardEpoch() {
	if g.number >= 0 && g.journal.guard.Epoch < g.epoch.Number {
		g.journal.setGuard(g.journal.guard.in(g.epoch.Number))
	}
}

// muted says why this member does not vote, or returns nil.
func (g *Group) muted() error {
	if g.number >= 0 && g.behind() {
		return fmt.Errorf("%w: the journal is of epoch %d and block %d, the last that is stored, begins or is in epoch %d, so this node follows "+
			"until it has fetched the blocks of epoch %d, and then votes. It does so by itself while other nodes run that have them",
			ErrBehind, g.journal.guard.Epoch, g.head.Order.Height, g.epoch.Number, g.journal.guard.Epoch)
	}
	if g.number >= 0 && g.epoch.Number < g.journal.guard.Mute {
		next := "Any change of members or parameters begins an epoch: have one made by `fondaco member propose` while this node runs, and another " +
			"one if this node still does not vote then. If so many members lost their journals that no block is made, go on with `fondaco recover`"
		if n := len(g.epoch.Members); n-1 < g.cfg.Finality.Quorum(n) {
			next = "No block can be made without this member, so no other epoch can begin but by `fondaco recover`"
		}
		return fmt.Errorf("%w: without it this node could contradict what it signed, so it follows and does not vote before epoch %d, "+
			"or a later one of which the other members' answers show that it began after the loss. %s. "+
			"Or restore the file %s as it was when the node last ran, with the node stopped",
			ErrJournalLost, g.journal.guard.Mute, next, JournalName)
	}
	if guard := &g.journal.guard; g.number >= 0 && g.epoch.Number < guard.Leave {
		return fmt.Errorf("%w: with the recovery %s, so it follows and does not vote before epoch %d. When all who stay have signed, "+
			"stop this node and `fondaco recover apply` it", ErrLeft, guard.Left, guard.Leave)
	}
	return nil
}

// Close stops the group and closes the journal. It is called on the loop, or after the loop has ended. The store
// stays open.
func (g *Group) Close() error {
	g.cancelTimers()
	g.stop(errors.New("it was closed"))
	return g.closeStatements(errors.Join(g.journal.close(), g.closeJoin()))
}

func (g *Group) cancelTimers() {
	for timer, cancel := range g.timers {
		cancel()
		delete(g.timers, timer)
	}
}

func (g *Group) enterEpoch(base *state.Snapshot) error {
	epoch, err := g.cfg.Executor.Epoch(base)
	if err != nil {
		return fmt.Errorf("group %s: read the epoch at height %d: %w", g.cfg.Group, base.Height(), err)
	}
	public, err := epoch.PublicKeys(g.cfg.Suite)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.cfg.Group, err)
	}
	g.epoch, g.public, g.number = epoch, public, -1
	g.checked.limit = max(1_024, 16*len(epoch.Members))
	g.proved.limit = 256
	g.member = make(map[identity.NodeID]uint32, len(epoch.Members))
	g.senders, g.sources, g.own = nil, nil, &sender{}
	for i, m := range epoch.Members {
		g.enlist(m.Node)
		if m.Node == g.self {
			g.number, g.own = int32(i), g.senders[i]
		}
	}
	if err := g.checkInviter(base); err != nil {
		return fmt.Errorf("group %s: %w", g.cfg.Group, err)
	}
	return g.enlistOthers(base)
}

// checkInviter fails if, by the chain up to base, who vouched for the anchor was no member any more at the time at which its word was
// taken. Below the anchor it knows nothing yet. No node becomes a member twice, so one that is a member has been since.
func (g *Group) checkInviter(base *state.Snapshot) error {
	a := &g.cfg.Anchor
	in := func(e *ledger.Epoch) bool {
		return slices.ContainsFunc(e.Members, func(m ledger.Member) bool { return m.Node == a.By })
	}
	if a.By == (identity.NodeID{}) || base.Height() < a.Height || in(&g.epoch) {
		return nil
	}
	for number := g.epoch.Number; number > 0; number-- {
		b, found, err := g.cfg.Executor.Beginning(base, number)
		if err != nil || !found || b.Height < a.Height || in(&b.Epoch) {
			return err
		}
		h, err := g.cfg.Store.Header(b.Height)
		if err != nil {
			return err
		}
		if h.Order.UnixMilli <= a.Used {
			when := func(unixMilli int64) string { return time.UnixMilli(unixMilli).UTC().Format(time.RFC3339) }
			return fmt.Errorf("%w: node %s, whose invitation this node took on %s, is a member no more since block %d of %s. Whoever has its key may have made up what "+
				"the invitation says of authorities and nodes: have a member make another one with `fondaco invitation new`, and run `fondaco init --from` again",
				ErrInviter, a.By, when(a.Used), b.Height, when(h.Order.UnixMilli))
		}
	}
	return nil
}

// enlist gives a node the next number.
func (g *Group) enlist(node identity.NodeID) {
	g.member[node] = uint32(len(g.senders))
	g.senders = append(g.senders, &sender{shown: recent[keys.Digest]{limit: maxShown}})
	g.sources = append(g.sources, node)
}

// enlistOthers gives numbers to the nodes that are not members: they may fetch blocks and bring their clients'
// transactions.
func (g *Group) enlistOthers(base *state.Snapshot) error {
	listed, err := g.cfg.Executor.Nodes(base)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.cfg.Group, err)
	}
	nodes := make(map[identity.NodeID]precompiles.Node, len(listed))
	for _, n := range listed {
		if n.Row.Status == precompiles.NodeDismissed {
			continue
		}
		nodes[n.Node] = n.Row
		if _, known := g.member[n.Node]; !known && n.Node != g.self {
			g.enlist(n.Node)
		}
	}
	g.nodes = nodes
	for _, node := range g.cfg.Sources {
		if node != g.self && !slices.Contains(g.sources, node) {
			g.sources = append(g.sources, node)
		}
	}
	return nil
}

// isMember reports whether a sender's number is a member's.
func (g *Group) isMember(number uint32) bool { return int64(number) < int64(len(g.epoch.Members)) }

// nextEpoch enters the epoch that the head begins. What was said and proposed in the last one is void: it stands on
// the barrier block, and no block of that epoch may.
func (g *Group) nextEpoch() error {
	g.endSync()
	g.sync.peers = nil // the sources of blocks get other places
	ended, wasBehind := g.epoch, g.behind()
	if err := g.enterEpoch(g.cfg.Store.Head()); err != nil {
		return err
	}
	if err := g.stayMute(&ended); err != nil {
		return err
	}
	g.guardEpoch()
	for _, p := range g.proposals {
		g.forget(p)
	}
	g.events, g.final = nil, nil
	g.forgetUnsigned()
	g.cancelTimers() // one may have run out among these events
	// Activations of motions that are void now would make the group wait for them.
	void := func(tx *ledger.SignedTx) bool {
		return g.cfg.Executor.Barrier(tx) && g.cfg.Executor.Admit(g.cfg.Store.Head(), tx) != nil
	}
	g.drop(void, errVoid)
	g.pendingEvent()
	g.log.Info().Uint64("epoch", g.epoch.Number).Int("members", len(g.epoch.Members)).Int("quorum", g.cfg.Finality.Quorum(len(g.epoch.Members))).
		Int32("number", g.number).Uint64("height", uint64(g.head.Order.Height)).Msg("a new epoch begins")
	why := g.muted()
	if why != nil {
		g.log.Error().Err(why).Msg("this member does not vote")
	}
	// An engine that entered the epoch now would do so as a member, and not all that a member says is signed; and of the epoch
	// that it was behind, a member must find again what was kept.
	if (why != nil || wasBehind) && !g.down {
		if closer, ok := g.engine.(io.Closer); ok { // of a program
			_ = closer.Close()
		}
		g.replaceEngine(1)
	}
	if g.cfg.Trace.Epoch != nil {
		g.publish()
		g.cfg.Trace.Epoch(g.epoch)
	}
	return nil
}

var errVoid = errors.New("an epoch began in which the transaction cannot end another")

// drop takes out of the pool what no block may include any more.
func (g *Group) drop(which func(*ledger.SignedTx) bool, why error) {
	for _, id := range g.cfg.Pool.Drop(which) {
		if g.cfg.Trace.Dropped != nil {
			g.cfg.Trace.Dropped(id, why)
		}
	}
}

// begun returns the epoch that the head begins, or nil.
func (g *Group) begun() *ledger.Epoch {
	if !g.head.Order.Barrier {
		return nil
	}
	epoch := g.epoch
	return &epoch
}

func (g *Group) engineConfig() consensus.Config {
	c := consensus.Config{
		Suite: g.cfg.Suite.Name(), Chain: g.cfg.Chain, Group: g.cfg.Group, Epoch: g.epoch, Self: g.number, Node: g.self, Head: g.head,
	}
	if g.muted() != nil {
		c.Self = -1
	}
	return c
}

// begin puts an engine to work that was initialized.
func (g *Group) begin(engine consensus.Engine, effects []consensus.Effect) error {
	g.engine, g.down = engine, false
	if err := g.carryOut(nil, effects); err != nil {
		return err
	}
	g.pending.told = 0
	g.tellPending()
	return nil
}

// Drain lets the engine handle what has happened since the last call, until nothing is left to do.
func (g *Group) Drain() {
	defer g.publish()
	for len(g.events) > 0 {
		events := g.events
		g.events = nil
		if g.down || g.stopped.Load() != nil {
			return // an engine that comes back starts from the journal and the head
		}
		effects, err := consensus.StepBatch(g.engine, events)
		if errors.Is(err, consensus.ErrEngineDown) {
			g.restartEngine(err)
			return
		}
		if err == nil {
			err = g.carryOut(events, effects)
		}
		if err != nil {
			g.fail(err)
			return
		}
	}
}

// restartEngine gives a dead engine a successor.
func (g *Group) restartEngine(cause error) {
	g.log.Warn().Err(cause).Int("restarts", g.retries).Msg("consensus engine went down; restarting it from the journal")
	wait := int64(100) << min(g.retries, 6)
	g.retries++
	g.replaceEngine(wait)
}

// replaceEngine starts another engine after some ms, from the journal as after a crash. To start a program may take long, so
// it happens off the loop.
func (g *Group) replaceEngine(wait int64) {
	g.down = true
	g.forgetUnsigned()
	g.cancelTimers()
	g.final = nil
	for _, p := range g.unstored() { // nobody waits for the answers any more
		g.abandon(p.hash)
	}
	g.env.After(wait, func() {
		config, records := g.engineConfig(), slices.Clone(g.journal.records)
		g.env.Go(func() func() {
			engine := g.cfg.Engine()
			effects, err := engine.Init(config, records)
			return func() { g.restarted(engine, &config, effects, err) }
		})
	})
}

func (g *Group) restarted(engine consensus.Engine, from *consensus.Config, effects []consensus.Effect, err error) {
	if g.stopped.Load() != nil {
		return
	}
	if err == nil && from.Epoch.Number != g.epoch.Number {
		err = fmt.Errorf("%w: epoch %d began while it started in %d", consensus.ErrEngineDown, g.epoch.Number, from.Epoch.Number)
	}
	if err == nil {
		err = g.begin(engine, effects)
	}
	switch {
	case errors.Is(err, consensus.ErrEngineDown):
		g.restartEngine(err)
		return
	case err != nil:
		g.fail(fmt.Errorf("start the consensus engine again: %w", err))
		return
	}
	if g.head.Order.Height > from.Head.Order.Height { // blocks were fetched meanwhile
		g.synced()
	}
	g.log.Info().Int32("member", from.Self).Msg("consensus engine started again")
}

// Fail stops the group for good, as a fault does that it finds itself: somebody else found that this node cannot trust what it
// computes. It is called on the loop.
func (g *Group) Fail(err error) { g.fail(err) }

// fail stops the group for good: it cannot trust itself any more, or has no room. What is stored can still be read.
func (g *Group) fail(err error) {
	if g.stopped.Load() != nil {
		return
	}
	g.log.Error().Err(err).Uint64("height", uint64(g.head.Order.Height)).Msg("group stopped: this node takes no further part in consensus")
	if g.cfg.Trace.Alarm != nil {
		g.cfg.Trace.Alarm(err.Error())
	}
	g.stop(err)
	g.publish()
	if g.cfg.Trace.Full != nil && state.Full(err) {
		g.cfg.Trace.Full()
	}
}

func (g *Group) stop(err error) {
	wrapped := fmt.Errorf("%w: %w", ErrStopped, err)
	g.stopped.CompareAndSwap(nil, &wrapped)
	g.cancelTimers()
	g.forgetUnsigned()
	g.outbox, g.events = nil, nil
}

// carryOut does what the engine asked, makes the journal durable, and only then lets anything out.
func (g *Group) carryOut(events []consensus.Event, effects []consensus.Effect) error {
	if g.cfg.Trace.Stepped != nil {
		g.cfg.Trace.Stepped(events, effects)
	}
	for _, effect := range effects {
		if err := g.carry(effect); err != nil {
			g.outbox = nil
			return err
		}
	}
	if err := g.journal.sync(); err != nil {
		return err
	}
	if err := g.signUnsigned(); err != nil {
		return err
	}
	g.letOut()
	return g.storeFinal()
}

// letOut sends what waited for the journal.
func (g *Group) letOut() {
	g.stated(g.signed...) // no sooner: what the journal forgot may be signed otherwise
	g.signed = nil
	outbox := g.outbox
	g.outbox = nil
	for _, out := range outbox {
		g.env.Send(out.to, Consensus, out.message)
	}
}

func (g *Group) carry(effect consensus.Effect) error {
	switch e := effect.(type) {
	case consensus.Persist:
		if !g.behind() {
			g.journal.persist(e)
		}
	case consensus.Sign:
		return g.sign(e)
	case consensus.Send:
		return g.send(e.To, &e.Message)
	case consensus.SetTimer:
		g.setTimer(e.Timer, e.Milli)
	case consensus.ClearTimer:
		g.clearTimer(e.Timer)
	case consensus.BuildPayload:
		g.build(e)
	case consensus.CheckPayload:
		g.check(e)
	case consensus.Execute:
		return g.execute(&e.Order)
	case consensus.Abandon:
		g.abandon(e.Order)
	case consensus.Finalize:
		g.final = append(g.final, e)
	case consensus.NeedSync:
		g.needSync(e.Height, e.From)
	case consensus.Evidence:
		if g.cfg.Trace.Refused != nil {
			g.cfg.Trace.Refused(e.A.Signer, RuleConflict)
		}
		return g.accuse(e.A, e.B)
	case consensus.Refused:
		if g.cfg.Trace.Refused != nil {
			g.cfg.Trace.Refused(e.From, e.Rule)
		}
	case consensus.Flow:
		g.phase(e.Phase, e.Height, e.View, e.Order)
	case consensus.Halt:
		return fmt.Errorf("the consensus engine halted: %s", e.Reason)
	default:
		return fmt.Errorf("the consensus engine asked for %T, which this node does not know", effect)
	}
	return nil
}

func (g *Group) phase(phase string, height ledger.Height, view uint64, order keys.Digest) {
	if g.cfg.Trace.Phase != nil {
		g.cfg.Trace.Phase(phase, height, view, order)
	}
}

// sign has the guard pass on a statement. It is signed when that is on disk: a signer that does not forget may sit elsewhere, and
// what this node forgot in a crash it would ask otherwise.
func (g *Group) sign(e consensus.Sign) error {
	if e.Statement.Epoch < g.epoch.Number {
		return nil // the engine is about to hear that this epoch is over
	}
	if g.number < 0 || e.Statement.Epoch != g.epoch.Number {
		return doublesign.Refuse(e.Statement, "this node is member %d of epoch %d", g.number, g.epoch.Number)
	}
	if g.muted() != nil {
		return nil // an engine that follows signs nothing: this is the last gate
	}
	guarded := g.journal.guard
	changed, err := guarded.allow(e.Statement)
	if err != nil {
		return err
	}
	if changed {
		g.journal.setGuard(guarded)
	}
	if g.signerAway != nil || len(g.unsigned) >= maxUnsigned { // what is left away here is as a message that was lost
		switch {
		case e.Statement.Kind == ledger.Heartbeat:
			return nil // the next one says the same
		case e.Statement.Kind == ledger.ViewChange:
			g.dropUnsigned(len(g.unsigned)) // votes of views that were left
		case len(g.unsigned) >= maxUnsigned:
			g.dropUnsigned(1)
		}
	}
	g.unsigned = append(g.unsigned, e)
	return nil
}

const (
	// maxUnsigned bounds the statements that wait for a signer that is away: a view has two or three for each block in flight.
	maxUnsigned = 256
	// signerPause is the time, in ms, after which a signer that was away is asked again.
	signerPause = 250
)

// signUnsigned has the statements signed that are on disk, in order, as long as the signer answers. One that is elsewhere takes
// milliseconds, or seconds when it hangs, so it is asked off the loop.
func (g *Group) signUnsigned() error {
	if g.retrySigner != nil || g.asking || len(g.unsigned) == 0 {
		return nil
	}
	if g.cfg.Trace.Signing != nil {
		for _, e := range g.unsigned {
			g.cfg.Trace.Signing(e.Statement)
		}
	}
	if _, elsewhere := g.cfg.Signer.(keys.MessageSigner); !elsewhere {
		return g.takeSigned(g.signatures(g.unsigned))
	}
	g.asking = true
	batch, before := slices.Clone(g.unsigned), g.dropped
	g.env.Go(func() func() {
		signatures, err := g.signatures(batch)
		return func() {
			g.asking = false
			if g.stopped.Load() != nil {
				return
			}
			if g.dropped != before {
				if signatures = nil; !errors.Is(err, keys.ErrAway) {
					err = nil
				}
			}
			if err = g.takeSigned(signatures, err); err == nil {
				err = g.signUnsigned()
			}
			if err != nil {
				g.fail(err)
				return
			}
			g.letOut()
		}
	})
	return nil
}

// signatures signs statements until that fails. It may run off the loop.
func (g *Group) signatures(all []consensus.Sign) ([][]byte, error) {
	made := make([][]byte, 0, len(all))
	for _, e := range all {
		signature, err := e.Statement.Sign(g.cfg.Suite, g.cfg.Signer, g.cfg.Chain, g.cfg.Group)
		if err != nil {
			return made, fmt.Errorf("sign a %s: %w", e.Statement.Kind, err)
		}
		made = append(made, signature)
	}
	return made, nil
}

// takeSigned tells the engine of votes with the signatures that were made of the first statements, and asks again later if the
// signer is away.
func (g *Group) takeSigned(signatures [][]byte, err error) error {
	if len(signatures) > 0 && (g.signerAway != nil || g.signerGone != nil) {
		g.signerAway, g.signerGone = nil, nil
		g.log.Info().Msg("the signer answers again: this member votes")
	}
	done := g.unsigned[:len(signatures)]
	g.unsigned = g.unsigned[len(signatures):]
	for i, e := range done {
		vote := ledger.Vote{Signer: uint32(g.number), Statement: e.Statement, Signature: signatures[i]}
		g.checked.add(voteKey(&vote))
		g.events = append(g.events, consensus.Signed{Vote: vote})
		g.signed = append(g.signed, vote)
		if e.Broadcast == nil {
			continue
		}
		message := *e.Broadcast
		message.Votes = append([]ledger.Vote{vote}, message.Votes...)
		if err := g.send(-1, &message); err != nil {
			return err
		}
	}
	if errors.Is(err, keys.ErrAway) {
		g.awaitSigner(err)
		return nil
	}
	return err
}

// awaitSigner asks the signer again in a while.
func (g *Group) awaitSigner(err error) {
	if g.signerAway == nil {
		g.log.Error().Err(err).Msg("this member does not vote until its signer answers")
	}
	g.signerAway = err
	g.retrySigner = g.env.After(signerPause, func() {
		g.retrySigner = nil
		if g.stopped.Load() != nil {
			return
		}
		if err := g.signUnsigned(); err != nil {
			g.fail(err)
			return
		}
		g.letOut()
	})
}

// NoteSigner is told now and then whether the signer answers, so that the status says of a member of an idle group that it would not
// vote. nil: it does. What the group itself finds out as it signs counts more. It is called on the loop.
func (g *Group) NoteSigner(err error) {
	switch {
	case g.number < 0: // an observer votes on nothing
		err = nil
	case err != nil && g.signerGone == nil && g.signerAway == nil:
		g.log.Error().Err(err).Msg("the signer does not answer: this member cannot vote on the next block")
	case err == nil && g.signerGone != nil:
		g.log.Info().Msg("the signer answers again")
	}
	if err != nil || g.signerGone != nil {
		g.signerGone = err
		g.publish()
	}
}

// forgetUnsigned drops the statements that wait for the signer: the engine that asked for them is gone, or the epoch is over.
func (g *Group) forgetUnsigned() {
	g.dropUnsigned(len(g.unsigned))
	g.signerAway = nil // whether it is there shows when it is asked next
	if g.retrySigner != nil {
		g.retrySigner()
		g.retrySigner = nil
	}
}

// dropUnsigned drops the first n statements that wait for the signer.
func (g *Group) dropUnsigned(n int) {
	g.unsigned = g.unsigned[n:]
	g.dropped++
}

// send puts a message into the outbox, for one member or for all others.
func (g *Group) send(to int32, m *consensus.Message) error {
	g.statedView(m)
	packet := packet{Message: *m}
	if m.Order != nil && g.shows(to, m.Order) { // what is repeated comes without: a member that lacks them asks for them
		packet.Leaves = g.leavesOf(m.Order.TxRoot)
	}
	data, err := ledger.Marshal(&packet)
	if err == nil && len(data) > maxPacket && packet.Leaves != nil {
		packet.Leaves = nil // the others ask for them
		data, err = ledger.Marshal(&packet)
	}
	if err != nil {
		return fmt.Errorf("encode a consensus message: %w", err)
	}
	if len(data) > maxPacket {
		return fmt.Errorf("a consensus message has %d bytes, at most %d", len(data), maxPacket)
	}
	for i, member := range g.epoch.Members {
		if (to < 0 || int(to) == i) && int32(i) != g.number {
			g.outbox = append(g.outbox, outgoing{member.Node, data})
		}
	}
	return nil
}

// shows reports whether the leaves of an order go with it to a member, or to all others: with what goes to all, and with
// this node's own proposal the first time that it goes to a member, for engines that send to each on its own.
func (g *Group) shows(to int32, o *ledger.Order) bool {
	own := int64(o.Proposer) == int64(g.number)
	first := to < 0
	for i := range g.epoch.Members {
		if shown := &g.senders[i].shown; own && (to < 0 || int(to) == i) && !shown.has(o.TxRoot) {
			first = true
			shown.add(o.TxRoot)
		}
	}
	return first
}

func (g *Group) setTimer(timer consensus.Timer, milli int64) {
	g.clearTimer(timer)
	g.timers[timer] = g.env.After(max(milli, 1), func() {
		delete(g.timers, timer)
		g.events = append(g.events, consensus.Expired{Timer: timer})
	})
}

func (g *Group) clearTimer(timer consensus.Timer) {
	if cancel := g.timers[timer]; cancel != nil {
		cancel()
		delete(g.timers, timer)
	}
}

// PeerChanged tells that the connection to a node came up or broke.
func (g *Group) PeerChanged(node identity.NodeID, up bool) {
	if m, ok := g.member[node]; ok && g.isMember(m) {
		g.events = append(g.events, consensus.Peer{Member: m, Up: up})
	}
}

// Receive takes a one-way message from a node that the transport authenticated. Malformed and forged messages
// are dropped.
func (g *Group) Receive(from identity.NodeID, p Protocol, data []byte) {
	if g.stopped.Load() != nil {
		return
	}
	member, ok := g.member[from]
	if !ok {
		g.refused(nobody, breaks(RuleMember, "message of node %s", from))
		return
	}
	var err error
	switch p {
	case Consensus:
		if g.isMember(member) {
			err = g.receiveMessage(member, data)
		} else {
			err = breaks(RuleMember, "consensus message of node %s, which observes", from)
		}
	case Transactions:
		err = g.receiveTransactions(member, data)
	default:
		err = breaks(RuleMalformed, "protocol %d has no one-way messages", p)
	}
	if err != nil {
		g.refused(member, err)
		g.log.Debug().Err(err).Str("from", from.Short()).Msg("message dropped")
	}
}

// recent is a bounded set that forgets the oldest.
type recent[K comparable] struct {
	limit int
	set   map[K]struct{}
	order []K
}

// add puts k in and returns what it forgot for that.
func (r *recent[K]) add(k K) (forgotten K, any bool) {
	if _, ok := r.set[k]; ok {
		return forgotten, false
	}
	if r.set == nil {
		r.set = map[K]struct{}{}
	}
	r.set[k] = struct{}{}
	r.order = append(r.order, k)
	if len(r.order) <= r.limit {
		return forgotten, false
	}
	forgotten = r.order[0]
	r.order = r.order[1:]
	delete(r.set, forgotten)
	return forgotten, true
}

func (r *recent[K]) has(k K) bool {
	_, ok := r.set[k]
	return ok
}
