// Package sim runs whole groups (engine, host, journal, store) in one process on virtual time, virtual disks and
// a virtual network, from one seed, and checks what they do. A seed replays to the same steps.
//
// What is real: consensus/pbft, node/group with its mempool, guard, journal and block sync, and the state
// store on an in-memory file system that loses what was not synced. What is not: signatures (a hash, which
// only the simulator can compute), contract execution (a running digest), bbolt (a table in memory).
package sim

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// epochStart is the virtual clock's zero in Unix milliseconds.
const epochStart = 1_700_000_000_000

// world is everything that a schedule happens in.
type world struct {
	rng    *rand.Rand
	now    int64 // microseconds
	queue  agenda
	seq    uint64
	suite  *suite
	config ledger.Genesis
	block  *ledger.Block
	first  *state.Snapshot
	chain  keys.Digest
	nodes  []*host
	engine consensus.Factory
	link   link
	log    zerolog.Logger
	watch  watcher
	steps  int
	counts Counts
}

// watcher is told what the nodes do.
type watcher interface {
	signing(h *host, st ledger.Statement)
	finalized(h *host, b *ledger.Block, txs []*ledger.SignedTx)
	alarm(h *host, reason string)
}

// link decides what happens to a message: the delays in microseconds after which copies arrive, none if lost.
type link func(from, to int) []int64

// Counts tells what a schedule contained.
type Counts struct {
	Sent, Lost, Copied, Crashes, Views, Blocks int
}

type event struct {
	at  int64
	seq uint64
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
	old := *a
	e := old[len(old)-1]
	*a = old[:len(old)-1]
	return e
}

// after plans run for a number of microseconds from now.
func (w *world) after(micro int64, run func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + micro, w.seq, run})
}

// step runs what is next and reports whether there was anything before the time until.
func (w *world) step(until int64) bool {
	if len(w.queue) == 0 || w.queue[0].at > until {
		w.now = until
		return false
	}
	e := heap.Pop(&w.queue).(event)
	w.now = e.at
	w.steps++
	e.run()
	return true
}

// newWorld makes n nodes with genesis stored, not started.
func newWorld(n int, seed uint64, engine consensus.Factory, watch watcher) (*world, error) {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 0x5eed)), suite: newSuite(), engine: engine, watch: watch, log: zerolog.Nop(),
	}
	w.link = func(int, int) []int64 { return []int64{500} }
	params := ledger.DefaultParams()
	w.config = ledger.Genesis{Version: ledger.Version, Name: "sim", Suite: "std", Group: "main", Engine: "pbft", UnixMilli: epochStart, Params: params}
	for i := range n {
		key := w.suite.signer(uint64(i))
		w.config.Members = append(w.config.Members, ledger.Member{
			Node: identity.NodeIDOf(w.suite, key.Public()), Institution: fmt.Sprintf("bank-%d", i), Key: ledger.KeyOf(key.Public()),
		})
	}
	w.chain = w.config.Hash(w.suite)
	order := &ledger.Order{Version: ledger.Version, Chain: w.chain, Group: "main", UnixMilli: epochStart, TxRoot: ledger.Root(w.suite, nil)}
	first, err := state.Empty(w.suite).Extend(order, state.Result{})
	if err != nil {
		return nil, err
	}
	w.first = first
	w.block = &ledger.Block{Version: ledger.Version, Header: *first.Header()}
	for i := range n {
		w.nodes = append(w.nodes, &host{world: w, number: i, id: w.config.Members[i].Node, key: w.suite.signer(uint64(i)), fs: memfs.New()})
	}
	return w, nil
}

// host is one node of the simulation.
type host struct {
	world  *world
	number int
	id     identity.NodeID
	key    keys.Signer
	fs     *memfs.FS
	store  *state.Store
	group  *group.Group
	life   int   // counts starts: callbacks of an earlier life are void
	skew   int64 // of its clock, ms
	up     bool
}

// start opens the node's disk and runs it.
func (h *host) start() error {
	w := h.world
	store, err := state.Open("data", w.suite, &state.Options{FS: h.fs, Memory: true, Synchronous: true})
	if err != nil {
		return fmt.Errorf("node %d: open the store: %w", h.number, err)
	}
	if store.Head() == nil {
		if err := store.Commit(w.block, w.first); err != nil {
			return fmt.Errorf("node %d: store genesis: %w", h.number, err)
		}
	}
	h.store = store
	h.life++
	h.up = true
	h.group, err = group.New(group.Config{
		Suite: w.suite, Chain: w.chain, Group: "main", Signer: h.key, Store: store, Executor: executor{w},
		Engine: w.engine, Pool: mempool.New(mempool.Limits{}), FS: h.fs, Dir: "data", Env: &env{h, h.life}, Log: w.log,
		Trace: group.Trace{
			Signing:   func(st ledger.Statement) { w.watch.signing(h, st) },
			Finalized: func(b *ledger.Block, _ []ledger.Receipt, txs []*ledger.SignedTx) { w.watch.finalized(h, b, txs) },
			Alarm:     func(reason string) { w.watch.alarm(h, reason) },
		},
	})
	if err != nil {
		return fmt.Errorf("node %d: %w", h.number, err)
	}
	h.group.Drain()
	for _, other := range w.nodes {
		if other.up && other != h {
			h.tell(other, true)
			other.tell(h, true)
		}
	}
	return nil
}

// crash ends the node at once; its disk loses what was not synced.
func (h *host) crash() {
	h.up = false
	h.life++
	h.fs.Crash(h.world.rng)
	h.world.counts.Crashes++
	for _, other := range h.world.nodes {
		if other.up {
			other.tell(h, false)
		}
	}
}

// tell lets the node know of a peer a moment later.
func (h *host) tell(peer *host, up bool) {
	h.run(1_000, func() { h.group.PeerChanged(peer.id, up) })
}

// run plans f on the node's loop, unless the node has gone through a crash by then.
func (h *host) run(micro int64, f func()) {
	life := h.life
	h.world.after(micro, func() {
		if h.up && h.life == life {
			f()
			h.group.Drain()
		}
	})
}

// env is the node's group.Env.
type env struct {
	host *host
	life int
}

func (e *env) Now() int64 { return epochStart + e.host.world.now/1_000 + e.host.skew }

func (e *env) After(milli int64, f func()) (cancel func()) {
	cancelled := false
	e.host.run(milli*1_000, func() {
		if !cancelled {
			f()
		}
	})
	return func() { cancelled = true }
}

func (e *env) Go(work func() (then func())) {
	then := work()
	e.host.run(e.host.world.rng.Int64N(2_000), then)
}

func (e *env) Post(f func()) bool {
	e.host.run(0, f)
	return true
}

func (e *env) Send(to identity.NodeID, p group.Protocol, m []byte) {
	w := e.host.world
	target := w.node(to)
	if target == nil {
		return
	}
	w.counts.Sent++
	arrivals := w.link(e.host.number, target.number)
	if len(arrivals) == 0 {
		w.counts.Lost++
	}
	w.counts.Copied += max(len(arrivals)-1, 0)
	from := e.host.id
	for _, delay := range arrivals {
		w.after(delay, func() {
			if target.up {
				target.group.Receive(from, p, m)
				target.group.Drain()
			}
		})
	}
}

func (e *env) Request(to identity.NodeID, p group.Protocol, m []byte, then func([]byte, error)) {
	w := e.host.world
	target := w.node(to)
	answered := false
	e.host.run(5_000_000, func() {
		if !answered {
			answered = true
			then(nil, context.DeadlineExceeded)
		}
	})
	if target == nil {
		return
	}
	from := e.host
	for _, there := range w.link(from.number, target.number) {
		w.after(there, func() {
			if !target.up {
				return
			}
			target.group.Serve(from.id, p, m, func(reply []byte, err error) {
				for _, back := range w.link(target.number, from.number) {
					from.run(back, func() {
						if !answered {
							answered = true
							then(reply, err)
						}
					})
				}
			})
			target.group.Drain()
		})
		break
	}
}

func (w *world) node(id identity.NodeID) *host {
	for _, h := range w.nodes {
		if h.id == id {
			return h
		}
	}
	return nil
}

// executor gives each transaction one write that depends on all before it, so that any difference in order or
// content shows in the state root.
type executor struct{ world *world }

var counterKey = append(make([]byte, ledger.AddressSize), "digest"...)

func (x executor) Execute(_ context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx) (*state.Snapshot, error) {
	value, _, err := base.Get(counterKey)
	if err != nil {
		return nil, err
	}
	var result state.Result
	for i, tx := range txs {
		d := x.world.suite.Sum(value, tx.ID[:])
		value = d[:]
		result.Receipts = append(result.Receipts, ledger.Receipt{Version: ledger.Version, Tx: tx.ID, Index: uint32(i), Gas: 1, Served: tx.To})
		result.GasUsed++
	}
	result.Changes = []ledger.Change{{Key: counterKey, Value: value}}
	return base.Extend(order, result)
}

func (x executor) Epoch(*state.Snapshot) (ledger.Epoch, error) {
	return ledger.Epoch{Members: x.world.config.Members, Params: x.world.config.Params}, nil
}

func (executor) Admit(*state.Snapshot, *ledger.SignedTx) error   { return nil }
func (executor) Prepare(context.Context, *ledger.SignedTx) error { return nil }
func (executor) SizeLimit(ledger.Target) int                     { return ledger.MaxTxSize }
