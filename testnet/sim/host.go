package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// dataDir is where a host keeps everything.
const dataDir = "data"

// errDisk is what a disk answers that cannot sync.
var errDisk = errors.New("sim: input/output error")

// host is a machine that runs a node of the group.
type host struct {
	world    *world
	index    int // among the hosts
	member   int
	twin     bool  // another host has the same key: the member lies
	liar     *liar // says what the member says in its place; nil: it says what its node says
	id       identity.NodeID
	key      keys.Signer
	fs       *memfs.FS
	skew     int64 // of its clock, ms
	store    *state.Store
	executor group.Executor
	group    *group.Group
	life     int // counts starts: what was planned in an earlier life is void
	up       bool

	powerFails int   // in so many file operations; 0: not planned
	sendFails  int   // power fails when so many messages have left; 0: not planned
	syncFails  bool  // the next one
	full       bool  // writes fail
	slow       int64 // longest time that a sync takes, µs
	busy       int64 // when the sync under way is done: until then the node does nothing else
	dead       bool  // power failed in the middle of something: nothing leaves the host any more
	sick       bool  // a sync or write failed
	ailing     bool  // one of the statement log did: consensus, which does not depend on it, may go on until the node's loop learns of it
	gone       bool  // its machine is lost
	removed    bool  // it was lost, and the others go on without the member
}

// honest reports whether the member keeps the rules.
func (h *host) honest() bool { return !h.twin && h.liar == nil }

// listed reports whether the group knows the node: it does from genesis, unless institutions must admit it first.
func (h *host) listed() bool {
	return h.world.whole == nil || h.member < len(h.world.config.Members) || len(h.world.oracle.members) > 1
}

func (h *host) String() string {
	if h.index != h.member {
		return fmt.Sprintf("node %d' ", h.member)
	}
	return fmt.Sprintf("node %d  ", h.member)
}

// start runs the node on what is on its disk.
func (h *host) start() {
	if h.up || h.gone {
		return
	}
	w := h.world
	h.life++
	h.up = true
	err := h.open()
	switch {
	case h.dead:
		h.crash("in the middle of its start")
	case err != nil && (h.sick || h.ailing):
		h.crash("because its disk failed at the start")
	case err != nil:
		h.up = false
		w.fail("%s cannot start: %v", h, err)
	default:
		w.tell("%s starts at height %d", h, h.store.Head().Height())
		w.oracle.started(h)
		h.drain()
		for _, other := range w.hosts {
			if other.up && other.member != h.member {
				other.hint(h, true)
				if !w.links.connected(h.index, other.index) {
					h.hint(other, false)
				}
			}
		}
	}
}

func (h *host) open() error {
	w := h.world
	options := w.storage(h)
	options.SetAside = true
	store, err := state.Open(dataDir, w.suite, options)
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	if store.Head() == nil {
		if err := store.Commit(w.block, w.first); err != nil {
			return fmt.Errorf("store genesis: %w", err)
		}
	}
	h.store = store
	h.executor = stub{w}
	if w.whole != nil {
		if h.executor, err = w.whole.newExecutor(nodeWorkers); err != nil {
			return err
		}
	}
	h.group, err = group.New(group.Config{
		Suite: w.suite, Chain: w.chain, Group: "main", Finality: w.config.Finality(), Signer: h.key, Store: store, Executor: h.executor,
		Engine: w.engine, Pool: mempool.New(mempool.Limits{Count: 1_000}), FS: h.fs, Dir: dataDir, Env: &env{h, h.life}, Log: w.log,
		JournalBytes: w.journal, StatementLog: w.statements,
		Trace: w.oracle.trace(h),
	})
	return err
}

// storage returns how a host keeps blocks.
func (w *world) storage(h *host) *state.Options {
	return &state.Options{FS: h.fs, Memory: true, Synchronous: true, SegmentBytes: w.segment}
}

// crash ends the node at once. Its disk loses what was not synced: all of it, or a random part, torn.
func (h *host) crash(why string) {
	if !h.up {
		return
	}
	w := h.world
	w.tell("%s crashes %s", h, why)
	w.report.Crashes++
	h.up, h.powerFails, h.sendFails, h.syncFails, h.dead, h.sick, h.ailing, h.busy = false, 0, 0, false, false, false, false, 0
	h.life++
	var rng *rand.Rand
	if w.chance(70) {
		rng = w.rng
	}
	lost, torn := h.fs.Crash(rng)
	w.report.LostWrites += lost
	w.report.TornWrites += torn
	w.oracle.crashed(h)
	for _, other := range w.hosts {
		if other.up && other.member != h.member {
			other.hint(h, false)
		}
	}
}

// operation is asked before each file operation that changes something.
func (h *host) operation(op memfs.Op, name string, _ int) error {
	if h.powerFails > 0 {
		if h.powerFails--; h.powerFails == 0 {
			h.dead = true
		}
	}
	ill := &h.sick
	if strings.HasPrefix(name, dataDir+"/"+group.StatementsDir+"/") {
		ill = &h.ailing
	}
	if op == memfs.OpSync && h.syncFails {
		h.syncFails, *ill = false, true
		h.world.report.DiskErrors++
	}
	switch {
	case h.dead:
		return memfs.ErrCrashed
	case h.full && (op == memfs.OpWrite || op == memfs.OpCreate):
		*ill = true
		h.world.report.DiskFull++
		return fmt.Errorf("write %s: %w", name, memfs.ErrFull)
	case *ill:
		return fmt.Errorf("sync %s: %w", name, errDisk)
	case op == memfs.OpSync && h.slow > 0:
		h.busy = max(h.busy, h.world.now) + h.world.upTo(h.slow)
		h.world.report.SlowSyncs++
		return nil
	case op == memfs.OpSync && h.world.lies != nil && h.world.lies(name):
		return memfs.ErrIgnore
	}
	return nil
}

// loseJournal deletes the file that tells what the node has signed.
func (h *host) loseJournal() {
	if err := errors.Join(h.fs.Remove(dataDir+"/journal"), h.fs.SyncDir(dataDir)); err != nil {
		h.world.tell("%s had no journal to lose: %v", h, err)
		return
	}
	h.world.tell("%s loses its journal", h)
	h.world.report.Journals++
}

// hint tells the node a moment later that the connection to another came up or broke.
func (h *host) hint(peer *host, up bool) {
	h.run(h.world.upTo(100*milli), func() { h.group.PeerChanged(peer.id, up) })
}

// run plans f on the node's loop, unless the node went through a crash by then.
func (h *host) run(micro int64, f func()) {
	life := h.life
	h.world.after(micro, func() { h.when(func() bool { return h.up && h.life == life }, f) })
}

// when runs f and what it brings up on the node's loop, as soon as its disk lets it, if it is still wanted then.
func (h *host) when(wanted func() bool, f func()) {
	switch w := h.world; {
	case !wanted():
	case h.busy > w.now:
		w.after(h.busy-w.now, func() { h.when(wanted, f) })
	default:
		f()
		h.drain()
	}
}

// drain lets the node do what has come up, and sees whether it survived that.
func (h *host) drain() {
	h.group.Drain()
	stopped := h.group.Stopped()
	switch {
	case h.dead:
		h.crash("in the middle of its work")
	case h.sick && stopped == nil:
		h.world.fail("%s goes on after its disk failed", h)
	case h.sick || h.ailing && stopped != nil:
		h.crash("because its disk failed")
	case stopped != nil && h.liar != nil: // its own lies caught up with it
	case stopped != nil:
		h.world.fail("%s stopped: %v", h, stopped)
	}
}

// env is the node's group.Env. It is of one life: a callback of an earlier one does not run.
type env struct {
	host *host
	life int
}

func (e *env) Now() int64 { return epochStart + e.host.world.now/milli + e.host.skew }

func (e *env) After(milliseconds int64, f func()) (cancel func()) {
	h, cancelled := e.host, false
	h.world.after(milliseconds*milli, func() { h.when(func() bool { return !cancelled && h.up && h.life == e.life }, f) })
	return func() { cancelled = true }
}

// Go runs work at some moment between now and when its result is due, as a worker would.
func (e *env) Go(work func() (then func())) {
	w := e.host.world
	took := w.upTo(2 * milli)
	if w.chance(50) {
		e.host.run(took, work())
		return
	}
	e.host.run(took, func() { work()() })
}

func (e *env) Post(f func()) bool {
	e.host.run(0, f)
	return true
}

func (e *env) Send(to identity.NodeID, p group.Protocol, m []byte) {
	h := e.host
	w := h.world
	if h.dead {
		return
	}
	if h.sendFails > 0 {
		if h.sendFails--; h.sendFails == 0 {
			h.dead = true
			w.report.SendCrashes++
			return
		}
	}
	if h.sick {
		w.fail("%s sends a message after its disk failed", h)
	}
	w.oracle.witness(h).sent++
	if p == group.Consensus {
		w.oracle.left(h)
	}
	for _, target := range w.hosts {
		switch {
		case target.id != to:
		case h.liar != nil:
			h.liar.send(target, p, m)
		default:
			w.transmit(h, target, h.id, p, m)
		}
	}
}

// transmit puts a one-way message on the link between two hosts, in the name of a node.
func (w *world) transmit(h, target *host, from identity.NodeID, p group.Protocol, m []byte) {
	wait := max(h.busy-w.now, 0)
	for _, delay := range w.arrivals(h.index, target.index) {
		w.after(wait+delay, func() {
			target.when(func() bool { return target.up && w.links.connected(h.index, target.index) }, func() {
				w.note(h.index, target.index, m)
				if target.liar != nil {
					target.liar.hear(p, m)
				}
				target.group.Receive(from, p, m)
			})
		})
	}
}

// requestPatience is that of group.Loop.
const requestPatience = 5 * second

func (e *env) Request(to identity.NodeID, p group.Protocol, m []byte, then func([]byte, error)) {
	h := e.host
	w := h.world
	w.oracle.witness(h).sent++
	answered := false
	answer := func(reply []byte, err error) {
		if !answered {
			answered = true
			then(reply, err)
		}
	}
	var target *host
	for _, x := range w.hosts { // of twins, the one or the other
		if x.id == to && (target == nil || w.chance(50)) {
			target = x
		}
	}
	if target == nil || !target.up {
		h.run(milli, func() { answer(nil, errors.New("no connection")) })
		return
	}
	w.after(requestPatience, func() {
		if !answered && h.up && h.life == e.life {
			answer(nil, context.DeadlineExceeded)
			h.drain()
		}
	})
	for _, there := range w.arrivals(h.index, target.index) {
		w.after(there, func() {
			target.when(func() bool { return target.up }, func() {
				w.note(h.index, target.index, m)
				target.group.Serve(h.id, p, m, func(reply []byte, err error) {
					if target.dead {
						return
					}
					if target.liar != nil {
						reply, err = target.liar.serve(h, p, m, reply, err)
					}
					for _, back := range w.arrivals(target.index, h.index) {
						h.run(back, func() { answer(reply, err) })
					}
				})
			})
		})
	}
}

// stub gives each block one write that depends on all transactions so far, so that any difference in order or
// content shows in the state root.
type stub struct{ world *world }

// counterKey is where the running digest is.
var counterKey = append(make([]byte, ledger.AddressSize), "digest"...)

func (w *world) running(value []byte, tx ledger.TxID) []byte {
	d := w.suite.Sum(value, tx[:])
	return d[:]
}

// Execute implements group.Executor. A transaction that ends the epoch changes something if it names other members.
func (x stub) Execute(_ context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx) (*state.Snapshot, error) {
	value, _, err := base.Get(counterKey)
	if err != nil {
		return nil, fmt.Errorf("read the running digest: %w", err)
	}
	var result state.Result
	for i, tx := range txs {
		value = x.world.running(value, tx.ID)
		result.Receipts = append(result.Receipts, ledger.Receipt{Version: ledger.Version, Tx: tx.ID, Index: uint32(i), Gas: 1, Served: tx.To})
		result.GasUsed++
	}
	result.Changes = []ledger.Change{{Key: counterKey, Value: value}}
	if order.Barrier {
		e, err := x.epochAt(base)
		if err != nil {
			return nil, err
		}
		e.Number++
		if e.Members, err = x.world.membersBy(txs[len(txs)-1], e.Members); err != nil {
			return nil, fmt.Errorf("members of epoch %d: %w", e.Number, err)
		}
		raw, err := ledger.Marshal(&e)
		if err != nil {
			return nil, fmt.Errorf("encode epoch %d: %w", e.Number, err)
		}
		epoch := x.members(e)
		result.NextEpoch = epoch.Hash(x.world.suite)
		result.Changes = append(result.Changes, ledger.Change{Key: epochKey, Value: raw}, ledger.Change{Key: beganKey(e.Number), Value: raw})
	}
	return base.Extend(order, result)
}

// membersBy returns the members that a transaction which ends an epoch leads to.
func (w *world) membersBy(tx *ledger.SignedTx, before []uint32) (next []uint32, err error) {
	if !precompiles.Recovers(&tx.Tx) {
		return next, ledger.Unmarshal(tx.Args, &next)
	}
	args, err := precompiles.DecodeRecovery(&tx.Tx)
	for _, m := range before {
		if !slices.Contains(args.Reform.Remove, w.hosts[m].id) {
			next = append(next, m)
		}
	}
	return next, err
}

// epochState is the epoch as the stub keeps it: who its members are, by host.member.
type epochState struct {
	_       struct{} `cbor:",toarray"`
	Number  uint64
	Members []uint32
}

// epochKey is where the state of the epoch is.
var epochKey = append(make([]byte, ledger.AddressSize), "epoch"...)

// beganKey is where the state of the epoch with a number stays.
func beganKey(epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(epochKey), epoch)
}

func (x stub) epochAt(base *state.Snapshot) (e epochState, err error) {
	raw, found, err := base.Get(epochKey)
	if err != nil {
		return e, fmt.Errorf("read the epoch: %w", err)
	}
	if found {
		return e, ledger.Unmarshal(raw, &e)
	}
	return x.founding(), nil
}

// founding returns epoch 0.
func (x stub) founding() (e epochState) {
	for i := range x.world.config.Members {
		e.Members = append(e.Members, uint32(i))
	}
	return e
}

func (x stub) members(e epochState) ledger.Epoch {
	epoch := ledger.Epoch{Number: e.Number, Params: x.world.config.Params}
	for i, m := range e.Members {
		h := x.world.hosts[m]
		epoch.Members = append(epoch.Members, ledger.Member{Node: h.id, Institution: x.world.config.Members[i].Institution, Key: ledger.KeyOf(h.key.Public())})
	}
	return epoch
}

// Epoch implements group.Executor.
func (x stub) Epoch(base *state.Snapshot) (ledger.Epoch, error) {
	e, err := x.epochAt(base)
	return x.members(e), err
}

// Beginning implements group.Executor. Parameters never change here.
func (x stub) Beginning(base *state.Snapshot, epoch uint64) (b precompiles.Beginning, found bool, err error) {
	e := x.founding()
	if found = epoch == 0; !found {
		var raw []byte
		if raw, found, err = base.Get(beganKey(epoch)); err != nil || !found {
			return b, found, err
		}
		err = ledger.Unmarshal(raw, &e)
	}
	return precompiles.Beginning{Version: ledger.Version, Epoch: x.members(e)}, found, err
}

// Admit implements group.Executor.
func (stub) Admit(*state.Snapshot, *ledger.SignedTx) error { return nil }

// Deploys implements group.Executor.
func (stub) Deploys(*ledger.SignedTx) (keys.Digest, bool) { return keys.Digest{}, false }

// Prepare implements group.Executor.
func (stub) Prepare(context.Context, *ledger.SignedTx) error { return nil }

// methodEpoch is that of transactions which end an epoch; their arguments are the members of the next.
const methodEpoch = "activate"

// Barrier implements group.Executor.
func (stub) Barrier(tx *ledger.SignedTx) bool {
	return tx.Method == methodEpoch || precompiles.Recovers(&tx.Tx)
}

// EndsEpoch implements group.Executor.
func (x stub) EndsEpoch(base *state.Snapshot, _ *ledger.Order, tx *ledger.SignedTx) error {
	e, err := x.epochAt(base)
	if err != nil {
		return err
	}
	var next []uint32
	if err := ledger.Unmarshal(tx.Args, &next); err != nil {
		return fmt.Errorf("members of epoch %d: %w", e.Number+1, err)
	}
	if slices.Equal(next, e.Members) {
		return errors.New("sim: the same members")
	}
	return nil
}

// Nodes implements group.Executor.
func (x stub) Nodes(base *state.Snapshot) ([]precompiles.ListedNode, error) {
	e, err := x.epochAt(base)
	if err != nil {
		return nil, err
	}
	var nodes []precompiles.ListedNode
	for _, h := range x.world.hosts {
		if h.index != h.member {
			continue // the second half of a twin
		}
		row := precompiles.Node{Status: precompiles.NodeObserver}
		if slices.Contains(e.Members, uint32(h.member)) {
			row.Status = precompiles.NodeMember
		}
		nodes = append(nodes, precompiles.ListedNode{Node: h.id, Row: row})
	}
	slices.SortFunc(nodes, func(a, b precompiles.ListedNode) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return nodes, nil
}

// SizeLimit implements group.Executor.
func (stub) SizeLimit(ledger.Target) int { return ledger.MaxTxSize }
