package group

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// begins is the time of genesis and the virtual clock's zero, Unix ms.
const begins = 1_700_000_000_000

// world is a group on virtual time, in one goroutine.
type world struct {
	t       testing.TB
	suite   keys.Suite
	genesis ledger.Genesis
	chain   keys.Digest
	block   *ledger.Block
	first   *state.Snapshot
	client  keys.Signer
	nodes   []*testNode

	delay      int64            // ms that a message takes, 1 by default
	line       int64            // bytes per ms of the line between two nodes, which answers to requests go through; 0: no limit
	lines      map[[2]int]int64 // when each is free
	execute    int64            // ms that executing a block takes
	prepareFor int64            // ms that taking up a module takes
	void       []ledger.TxID    // activations that are refused in later epochs
	barren     []ledger.TxID    // activations that change nothing
	lives      map[uint64]int64 // MaxLifetime of epochs that have another than genesis
	limits     mempool.Limits   // of the pools
	now        int64            // ms
	seq        int
	todo       agenda

	blockSize int   // bytes of a block that grow makes, at least
	rows      int   // keys that a transaction writes
	rowBytes  int   // of the value of each, or 0 for what differs from row to row
	step      int64 // ms between the blocks that grow makes; 0: 1

	// hook sees what a node sends, requests included, and returns what arrives; nil: nothing.
	hook func(from, to int, p Protocol, m []byte) []byte
	// reply sees what a node answers to another, and returns what arrives.
	reply func(from, to int, p Protocol, reply []byte) []byte
	// pause is how many ms a node takes to answer; nil: none.
	pause func(from int, p Protocol) int64
}

type event struct {
	at  int64
	seq int
	run func()
}

type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	e := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return e
}

// testNode is one member. Its fields may be set before start.
type testNode struct {
	*world
	number    int
	id        identity.NodeID
	key       keys.Signer
	fs        *memfs.FS
	disk      string // a folder that has its files, the tables in bbolt included, in place of fs; empty: none
	store     *state.Store
	group     *Group
	life      int
	up        bool
	engine    consensus.Factory
	skew      int64 // of its clock, ms
	snapshot  bool  // it joins by a state
	anchor    Anchor
	joined    int                 // how often it did
	full      int                 // how often it stopped for want of room
	spoil     func(*state.Result) // changes what it computes
	busy      int64               // ms that the work under way takes
	runs      int                 // blocks executed
	prepared  int                 // modules taken up
	judged    int                 // transactions that would end the epoch
	sent      int                 // consensus messages
	signed    []ledger.Statement
	alarms    []string
	notices   []string            // of its store
	blocks    []*ledger.Block     // finalized in this life
	left      func()              // runs before a consensus message leaves; nil
	finalized func(*ledger.Block) // runs when a block is stored; nil
}

func newWorld(t testing.TB, n int) *world {
	t.Helper()
	w := &world{t: t, suite: keystest.Suite(), delay: 1}
	rng := rand.NewChaCha8([32]byte{1})
	signers := make([]keys.Signer, n)
	w.genesis = ledger.Genesis{
		Version: 1, Name: "test", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: begins, Params: ledger.DefaultParams(),
	}
	for i := range signers {
		signers[i] = must(w.suite.Generate(w.suite.Vote(), rng))
		w.genesis.Members = append(w.genesis.Members, ledger.Member{
			Node: identity.NodeIDOf(w.suite, signers[i].Public()), Key: ledger.KeyOf(signers[i].Public()),
		})
	}
	w.client = must(w.suite.Generate(w.suite.Vote(), rng))
	w.begin()
	for i, key := range signers {
		w.nodes = append(w.nodes, &testNode{world: w, number: i, id: w.genesis.Members[i].Node, key: key, fs: memfs.New(), engine: pbft.New})
	}
	return w
}

// begin makes the first block of the genesis.
func (w *world) begin() {
	w.chain = w.genesis.Hash(w.suite)
	order := &ledger.Order{Version: 1, Chain: w.chain, Group: "main", UnixMilli: begins, TxRoot: ledger.Root(w.suite, nil)}
	w.first = must(state.Empty(w.suite).Extend(order, state.Result{}))
	w.block = &ledger.Block{Version: 1, Header: *w.first.Header()}
}

// diskWorld returns four members and a fifth node, the first of them with its files in a folder. Their blocks write some.
func diskWorld(t testing.TB, disk string) *world {
	w := newWorld(t, 4)
	w.rows = 8
	w.observe(1)
	w.nodes[0].disk = disk
	return w
}

// storedBy returns the blocks that a node has, and for each height the disk of another that has those up to there and never
// signed anything.
func storedBy(n *testNode) (blocks []*ledger.Block, others []*memfs.FS) {
	other := diskWorld(n.t, "").nodes[1]
	other.grow(0, other) // makes genesis and a journal
	for b, err := range n.store.Blocks(0, n.store.Head().Height()) {
		if err != nil {
			n.t.Fatal(err)
		}
		if b.Header.Order.Height > 0 {
			next := must(executor{other}.Execute(context.Background(), other.store.Head(), &b.Header.Order, must(b.Decode(n.suite))))
			if err := other.store.Commit(b, next); err != nil {
				n.t.Fatal(err)
			}
		}
		blocks, others = append(blocks, b), append(others, other.fs.Clone())
	}
	return blocks, others
}

// observe adds nodes that are no members at first.
func (w *world) observe(n int) {
	for range n {
		i := len(w.nodes)
		key := must(w.suite.Generate(w.suite.Vote(), rand.NewChaCha8([32]byte{2, byte(i)})))
		w.nodes = append(w.nodes, &testNode{world: w, number: i, id: identity.NodeIDOf(w.suite, key.Public()), key: key, fs: memfs.New(), engine: pbft.New})
	}
}

// activation returns a transaction that makes the nodes of these numbers the members of the next epoch.
func (w *world) activation(number uint64, members ...uint32) *ledger.SignedTx {
	tx := w.tx(number, min(60_000, w.genesis.Params.MaxLifetime)).Tx
	tx.Method, tx.Args, tx.Signatures = "activate", mustMarshal(members), nil
	return must(tx.Sign(w.suite, w.client))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// files returns what the node's files are in, and under which name a folder of them is.
func (n *testNode) files(folder string) (state.FS, string) {
	if n.disk != "" {
		return state.OS(), filepath.Join(n.disk, folder)
	}
	return n.fs, folder
}

// open opens the node's store.
func (n *testNode) open() (err error) {
	files, data := n.files("data")
	options := &state.Options{FS: files, Memory: true, Synchronous: true, SetAside: true}
	if n.disk != "" { // small, so that much happens
		options = &state.Options{FS: files, Recent: 4, FlushBlocks: 3, SegmentBytes: 20_000, SetAside: true, Notice: n.notice}
	}
	if n.store, err = state.Open(data, n.suite, options); err != nil {
		return err
	}
	if n.store.Head() == nil {
		return n.store.Commit(n.block, n.first)
	}
	return nil
}

func (n *testNode) notice(text string) { n.notices = append(n.notices, text) }

func (n *testNode) start() error {
	if n.store == nil {
		if err := n.open(); err != nil {
			return err
		}
	}
	n.life++
	n.up = true
	n.blocks = nil
	files, data := n.files("data")
	_, home := n.files("home")
	journal := int64(0)
	if n.disk != "" {
		journal = 20_000
	}
	var err error
	n.group, err = New(Config{
		Suite: n.suite, Chain: n.chain, Group: "main", Finality: n.genesis.Finality(), Genesis: &n.genesis, Snapshot: n.snapshot, Anchor: n.anchor, Signer: n.key, Store: n.store, Executor: executor{n}, Engine: n.engine,
		Pool: mempool.New(n.limits), FS: files, Dir: data, JournalBytes: journal, Home: home, Env: &env{n, n.life}, Log: zerolog.Nop(), StatementLog: 1 << 20,
		Trace: Trace{
			Signing: func(st ledger.Statement) { n.signed = append(n.signed, st) },
			Joined:  func(ledger.Height) { n.joined++ },
			Full:    func() { n.full++ },
			Alarm:   func(reason string) { n.alarms = append(n.alarms, reason) },
			Finalized: func(b *ledger.Block, _ []ledger.Receipt, _ []*ledger.SignedTx) {
				n.blocks = append(n.blocks, b)
				if n.finalized != nil {
					n.finalized(b)
				}
			},
		},
	})
	if err == nil {
		n.group.Drain()
	}
	return err
}

func (w *world) start(numbers ...int) {
	w.t.Helper()
	for _, i := range numbers {
		if err := w.nodes[i].start(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (n *testNode) crash() {
	n.up = false
	n.life++
	n.fs.Crash(nil)
	n.store = nil
}

// loseDisk takes all of a node's files but the folder of its key.
func (n *testNode) loseDisk() {
	n.t.Helper()
	if n.up {
		n.crash()
	}
	kept := memfs.New()
	for _, name := range must(n.fs.ReadDir("home")) {
		if err := copyFile(kept, n.fs, "home/"+name); err != nil {
			n.t.Fatal(err)
		}
	}
	n.fs, n.signed = kept, nil
}

// takeBlocks puts the blocks of another disk in the place of the node's own.
func (n *testNode) takeBlocks(from *memfs.FS) {
	n.t.Helper()
	for _, name := range must(n.fs.ReadDir("data/blocks")) {
		if err := n.fs.Remove("data/blocks/" + name); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, name := range must(from.ReadDir("data/blocks")) {
		if err := copyFile(n.fs, from, "data/blocks/"+name); err != nil {
			n.t.Fatal(err)
		}
	}
}

// damage changes a byte of a block on the node's disk.
func (n *testNode) damage(h ledger.Height) {
	n.t.Helper()
	payload := must(n.store.Payload(h, 0))
	for _, name := range must(n.fs.ReadDir("data/blocks")) {
		file := must(n.fs.Open("data/blocks/"+name, false))
		data := make([]byte, must(file.Size()))
		if _, err := file.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
			n.t.Fatal(err)
		}
		if at := bytes.Index(data, payload); at >= 0 {
			if _, err := file.WriteAt([]byte{^payload[0]}, int64(at)); err != nil {
				n.t.Fatal(err)
			}
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			n.t.Fatal(err)
		}
	}
}

// copyFile gives a disk a file of another, durably.
func copyFile(to, from *memfs.FS, name string) error {
	source, target := must(from.Open(name, false)), must(to.Open(name, true))
	data := make([]byte, must(source.Size()))
	_, read := source.ReadAt(data, 0)
	_, written := target.WriteAt(data, 0)
	if errors.Is(read, io.EOF) {
		read = nil
	}
	return errors.Join(read, written, target.Sync(), source.Close(), target.Close(), to.SyncDir(filepath.Dir(name)))
}

// on runs f on the node's loop after a while, unless it has crashed by then.
func (n *testNode) on(milli int64, f func()) {
	life := n.life
	n.seq++
	heap.Push(&n.todo, event{n.now + milli, n.seq, func() {
		if n.up && n.life == life {
			f()
			n.group.Drain()
		}
	}})
}

// run lets time pass until done, at most for a number of milliseconds, and reports whether it is done.
func (w *world) run(milli int64, done func() bool) bool {
	for until := w.now + milli; !done(); {
		if len(w.todo) == 0 || w.todo[0].at > until {
			w.now = until
			return done()
		}
		e := heap.Pop(&w.todo).(event)
		w.now = e.at
		e.run()
	}
	return true
}

// reach lets time pass until all nodes that are up have a height.
func (w *world) reach(height ledger.Height) {
	w.t.Helper()
	if !w.run(60_000, func() bool {
		for _, n := range w.nodes {
			if n.up && n.store.Head().Height() < height {
				return false
			}
		}
		return true
	}) {
		for _, n := range w.nodes {
			if n.up {
				w.t.Errorf("node %d is at height %d, want %d: %+v", n.number, n.store.Head().Height(), height, n.group.Status().Consensus)
			}
		}
		w.t.FailNow()
	}
}

// tx returns the number-th transaction, which lives for a number of milliseconds.
func (w *world) tx(number uint64, lives int64) *ledger.SignedTx {
	tx := ledger.Tx{
		Version: 1, Chain: w.chain, Group: "main", Sender: ledger.Address{1}, Expiry: begins + w.now + lives, GasLimit: 10,
		To: ledger.Target{Address: ledger.Address{2}}, Method: "m", Args: []byte{0x80},
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], number)
	return must(tx.Sign(w.suite, w.client))
}

// offer submits a transaction and returns what becomes of it.
func (n *testNode) offer(raw []byte) (err error) {
	n.t.Helper()
	answered := false
	n.on(0, func() {
		n.group.Offer(raw, func(_ ledger.TxID, e error) { answered, err = true, e })
	})
	if !n.run(1_000, func() bool { return answered }) {
		n.t.Fatal("the submission was not answered")
	}
	return err
}

func (n *testNode) mustOffer(tx *ledger.SignedTx) {
	n.t.Helper()
	if err := n.offer(tx.Raw); err != nil {
		n.t.Fatal(err)
	}
}

type env struct {
	node *testNode
	life int
}

func (e *env) Now() int64 { return begins + e.node.now + e.node.skew }

func (e *env) After(milli int64, f func()) func() {
	cancelled := false
	e.node.on(milli, func() {
		if !cancelled {
			f()
		}
	})
	return func() { cancelled = true }
}

func (e *env) Go(work func() func()) {
	life := e.life
	e.node.on(0, func() {
		if e.node.life == life {
			e.node.busy = 1
			then := work()
			e.node.on(e.node.busy, then)
		}
	})
}

func (e *env) Post(f func()) bool {
	e.node.on(0, f)
	return true
}

func (w *world) deliver(from, to int, p Protocol, m []byte) ([]byte, *testNode) {
	if w.hook != nil {
		m = w.hook(from, to, p, m)
	}
	if target := w.nodes[to]; m != nil && target.up {
		return m, target
	}
	return nil, nil
}

func (w *world) numberOf(id identity.NodeID) int {
	for i, n := range w.nodes {
		if n.id == id {
			return i
		}
	}
	return -1
}

func (e *env) Send(to identity.NodeID, p Protocol, m []byte) {
	n := e.node
	if p == Consensus {
		n.sent++
		if n.left != nil {
			n.left()
		}
	}
	if m, target := n.deliver(n.number, n.numberOf(to), p, m); target != nil {
		target.on(n.delay, func() { target.group.Receive(n.id, p, m) })
	}
}

func (e *env) Request(to identity.NodeID, p Protocol, m []byte, then func([]byte, error)) {
	n := e.node
	m, target := n.deliver(n.number, n.numberOf(to), p, m)
	if target == nil {
		n.on(5_000, func() { then(nil, context.DeadlineExceeded) })
		return
	}
	target.on(n.delay, func() {
		target.group.Serve(n.id, p, m, func(reply []byte, err error) {
			if n.reply != nil && err == nil {
				reply = n.reply(target.number, n.number, p, reply)
			}
			wait := n.delay + n.transfer(target.number, n.number, len(reply))
			if n.pause != nil {
				wait += n.pause(target.number, p)
			}
			if most := patience(p).Milliseconds(); wait > most {
				wait, reply, err = most, nil, context.DeadlineExceeded
			}
			n.on(wait, func() { then(reply, err) })
		})
	})
}

// transfer returns how many ms bytes take over the line between two nodes, behind those that are on it.
func (w *world) transfer(from, to, bytes int) int64 {
	if w.line == 0 {
		return 0
	}
	if w.lines == nil {
		w.lines = map[[2]int]int64{}
	}
	free := max(w.lines[[2]int{from, to}], w.now) + int64(bytes)/w.line
	w.lines[[2]int{from, to}] = free
	return free - w.now
}

type executor struct{ node *testNode }

var counterKey = append(make([]byte, ledger.AddressSize), "digest"...)

func (x executor) Execute(_ context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx) (*state.Snapshot, error) {
	x.node.busy += x.node.execute
	x.node.runs++
	value, _, err := base.Get(counterKey)
	if err != nil {
		return nil, err
	}
	var result state.Result
	for i, tx := range txs {
		d := x.node.suite.Sum(value, tx.ID[:])
		value = d[:]
		result.Receipts = append(result.Receipts, ledger.Receipt{Version: 1, Tx: tx.ID, Index: uint32(i), Gas: 1, Served: tx.To})
	}
	result.GasUsed = ledger.Gas(len(txs))
	result.Changes = []ledger.Change{{Key: counterKey, Value: value}}
	if order.Barrier {
		e, err := x.epochState(base)
		if err != nil {
			return nil, err
		}
		e.Number++
		e.Were = append(e.Were, slices.Clone(e.Members))
		e.Began = append(e.Began, order.Height)
		if tx := &txs[len(txs)-1].Tx; precompiles.Recovers(tx) {
			err = x.recover(&e, tx)
		} else {
			err = ledger.Unmarshal(tx.Args, &e.Members)
		}
		if err != nil {
			return nil, err
		}
		epoch := x.members(e)
		result.NextEpoch = epoch.Hash(x.node.suite)
		result.Changes = append(result.Changes, ledger.Change{Key: epochKey, Value: mustMarshal(&e)})
	}
	result.Changes = append(result.Changes, x.rowsOf(txs)...)
	if x.node.spoil != nil {
		x.node.spoil(&result)
	}
	return base.Extend(order, result)
}

// rowsOf returns what transactions write besides the digest: rows among a thousand, some long, some taken away.
func (x executor) rowsOf(txs []*ledger.SignedTx) (changes []ledger.Change) {
	rows := map[string]ledger.Change{}
	for _, tx := range txs {
		for i := range x.node.rows {
			d := x.node.suite.Sum(tx.ID[:], []byte{byte(i)})
			change := ledger.Change{Key: append(bytes.Repeat([]byte{3}, ledger.AddressSize), d[0], d[1]&3), Value: d[:]}
			switch d[2] % 6 {
			case 0:
				change.Value, change.Deleted = nil, true
			case 1:
				change.Value = bytes.Repeat(d[:], 12)
			}
			if n := x.node.rowBytes; n > 0 && !change.Deleted {
				change.Value = bytes.Repeat(d[:], n/len(d))
			}
			rows[string(change.Key)] = change
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		changes = append(changes, rows[key])
	}
	return changes
}

// recover changes the members as a recovery says.
func (x executor) recover(e *epochState, tx *ledger.Tx) error {
	args, err := precompiles.DecodeRecovery(tx)
	if err != nil {
		return err
	}
	e.Members = slices.DeleteFunc(e.Members, func(i uint32) bool { return slices.Contains(args.Reform.Remove, x.node.nodes[i].id) })
	for _, id := range args.Reform.Add {
		e.Members = append(e.Members, uint32(x.node.numberOf(id)))
	}
	return nil
}

// epochState is the epoch as the executor keeps it: numbers of nodes.
type epochState struct {
	_       struct{} `cbor:",toarray"`
	Number  uint64
	Members []uint32
	Began   []ledger.Height // of each epoch but the first
	Were    [][]uint32      // the members of each epoch before
}

var epochKey = append(make([]byte, ledger.AddressSize), "epoch"...)

func (x executor) epochState(base *state.Snapshot) (e epochState, err error) {
	raw, found, err := base.Get(epochKey)
	if err == nil && found {
		return e, ledger.Unmarshal(raw, &e)
	}
	for i := range x.node.genesis.Members {
		e.Members = append(e.Members, uint32(i))
	}
	return e, err
}

func (x executor) members(e epochState) ledger.Epoch {
	epoch := ledger.Epoch{Number: e.Number, Params: x.params(e.Number)}
	for _, i := range e.Members {
		n := x.node.nodes[i]
		epoch.Members = append(epoch.Members, ledger.Member{Node: n.id, Key: ledger.KeyOf(n.key.Public())})
	}
	return epoch
}

func (x executor) params(epoch uint64) ledger.Params {
	params := x.node.genesis.Params
	if lifetime, ok := x.node.lives[epoch]; ok {
		params.MaxLifetime = lifetime
	}
	return params
}

func (x executor) Beginning(base *state.Snapshot, epoch uint64) (precompiles.Beginning, bool, error) {
	e, err := x.epochState(base)
	if err != nil || epoch > e.Number {
		return precompiles.Beginning{}, false, err
	}
	var b precompiles.Beginning
	if epoch > 0 {
		b.Height = e.Began[epoch-1]
	}
	if epoch < e.Number {
		e.Number, e.Members = epoch, e.Were[epoch]
	}
	b.Epoch = x.members(e)
	return b, true, err
}

func (x executor) Epoch(base *state.Snapshot) (ledger.Epoch, error) {
	e, err := x.epochState(base)
	return x.members(e), err
}

func (x executor) Nodes(base *state.Snapshot) (nodes []precompiles.ListedNode, err error) {
	e, err := x.epochState(base)
	for i, n := range x.node.nodes {
		row := precompiles.Node{Status: precompiles.NodeObserver}
		if slices.Contains(e.Members, uint32(i)) {
			row.Status = precompiles.NodeMember
		}
		nodes = append(nodes, precompiles.ListedNode{Node: n.id, Row: row})
	}
	return nodes, err
}

func (executor) Barrier(tx *ledger.SignedTx) bool {
	return tx.Method == "activate" || precompiles.Recovers(&tx.Tx)
}

func (x executor) EndsEpoch(_ *state.Snapshot, order *ledger.Order, tx *ledger.SignedTx) error {
	x.node.judged++
	if slices.Contains(x.node.barren, tx.ID) || !order.Barrier || order.TxCount != 1 {
		return errBarred
	}
	return nil
}

// Deploys takes the arguments of the method deploy for a module.
func (x executor) Deploys(tx *ledger.SignedTx) (module keys.Digest, ok bool) {
	return x.node.suite.Sum(tx.Args), tx.Method == "deploy"
}

func (x executor) Prepare(context.Context, *ledger.SignedTx) error {
	x.node.prepared++
	x.node.busy = max(x.node.prepareFor, 1)
	return nil
}

func (executor) SizeLimit(ledger.Target) int { return ledger.MaxTxSize }

var errBarred = errors.New("the sender is barred")

func (x executor) Admit(base *state.Snapshot, tx *ledger.SignedTx) error {
	if tx.Sender == (ledger.Address{9}) {
		return errBarred
	}
	if e, err := x.epochState(base); err != nil || e.Number > 0 && slices.Contains(x.node.void, tx.ID) {
		return errors.Join(err, errBarred)
	}
	return nil
}

// grow makes blocks from..to with certificates of the first three members, and commits them to the nodes' stores.
func (w *world) grow(to ledger.Height, nodes ...*testNode) {
	w.t.Helper()
	for _, n := range nodes {
		if err := n.open(); err != nil {
			w.t.Fatal(err)
		}
		journal := must(openJournal(n.fs, "data", 0))
		journal.setGuard(guard{}) // blocks without a journal would make it mute
		if err := errors.Join(journal.sync(), journal.close()); err != nil {
			w.t.Fatal(err)
		}
	}
	for h := nodes[0].store.Head().Height() + 1; h <= to; h++ {
		txs := []*ledger.SignedTx{w.tx(uint64(h)<<32, 60_000)}
		size := len(txs[0].Raw)
		for size < w.blockSize {
			tx := w.tx(uint64(h)<<32|uint64(len(txs)), 60_000).Tx
			tx.Args, tx.Signatures = mustMarshal(make([]byte, 60_000)), nil
			txs = append(txs, must(tx.Sign(w.suite, w.client)))
			size += len(txs[len(txs)-1].Raw)
		}
		var raws [][]byte
		for _, tx := range txs {
			raws = append(raws, tx.Raw)
		}
		parent := nodes[0].store.Head().Header()
		order := &ledger.Order{
			Version: 1, Chain: w.chain, Group: "main", Height: h, Parent: parent.Order.Hash(w.suite), UnixMilli: begins + int64(h)*max(w.step, 1),
			TxRoot: ledger.Root(w.suite, leavesOf(txs)), TxCount: uint32(len(txs)), TxBytes: uint64(size), GasLimit: 10 * ledger.Gas(len(txs)),
		}
		var certificate ledger.Certificate
		for i, n := range nodes {
			next := must(executor{n}.Execute(context.Background(), n.store.Head(), order, txs))
			if i == 0 {
				st := ledger.Statement{Kind: ledger.Commit, Height: h, Order: order.Hash(w.suite), Block: next.Hash()}
				var votes []ledger.Vote
				for m := range 3 {
					signature := must(w.nodes[m].key.Sign(st.Digest(w.suite, w.chain, "main")))
					votes = append(votes, ledger.Vote{Signer: uint32(m), Statement: st, Signature: signature})
				}
				certificate = ledger.NewCertificate(votes)
			}
			block := &ledger.Block{Version: 1, Header: *next.Header(), Txs: raws, Certificate: certificate}
			if err := n.store.Commit(block, next); err != nil {
				w.t.Fatal(fmt.Errorf("block %d: %w", h, err))
			}
		}
	}
}

func digest(b byte) keys.Digest { return keys.Digest{b} }

func prepares(view uint64, height ledger.Height, order byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Prepare, View: view, Height: height, Order: digest(order)}
}
