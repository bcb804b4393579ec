// Package consensustest tests consensus engines: any engine that a Factory makes, in process or in a plugin.
//
//   - [Run] is the conformance suite, which every engine must pass.
//   - [Simulate] runs one seeded schedule of delays, losses, partitions and crashes, and checks every statement
//     that a member signs against the rules of the double-sign guard.
//   - [Scenario] runs a script of commands and compares what engines do with what the script expects.
//
// All three use the same small host: [Network], on a virtual clock.
package consensustest

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// Settings say how a Network is built and how its links and disks behave. Times are in microseconds.
type Settings struct {
	Members   int
	Observers int // nodes that follow without a vote
	Twins     int // of the members, how many run twice with separate journals: they lie
	Window    uint32
	Seed      uint64
	Factory   func(node int) consensus.Engine

	Keys      bool    // sign with real keys and verify; else signatures name their signer
	Delay     int64   // longest one-way delay of a link
	Loss      float64 // share of messages lost
	Duplicate float64 // share of messages that arrive twice
	Sync      int64   // longest time of a write to disk
	Fetch     int64   // longest time to fetch a payload
	Barrier   uint64  // one transaction in so many ends its epoch, the next having the same members; 0: none
	Record    bool    // keep the events and effects of each start of an engine
	CrashOnly bool    // members do not lie: commit votes need no certificate of prepare votes
}

// Network is engines, their hosts and the links between them, on a virtual clock. It is not safe for concurrent
// use, and it is deterministic: one seed, one run.
type Network struct {
	Settings
	Oracle *Oracle
	Trace  func(n *Node, event consensus.Event, effects []consensus.Effect) // nil: off

	now      int64 // µs
	seq      uint64
	queue    queue
	rand     *rand.Rand
	suite    keys.Suite
	chain    keys.Digest
	group    ledger.GroupID
	epoch    ledger.Epoch
	signers  []keys.Signer
	publics  []keys.PublicKey
	verified map[keys.Digest]bool // signed things that were checked, by their digest
	genesis  Block
	nodes    []*Node
	payloads map[keys.Digest][]uint64
	txs      uint64
	side     []int                                                     // with a partition: which side each node is on
	tamper   func(from *Node, m consensus.Message) []consensus.Message // what liars send instead; nil: the message
	faults   error                                                     // the first rule that was broken

	// What happened, for reports.
	Messages, Lost, Crashes, ViewChanges, Syncs int
}

// Block is a final block as a Node keeps it.
type Block struct {
	Head    consensus.Head
	NewView *ledger.NewView
}

// Node is a host with its engine.
type Node struct {
	ID     int // place among the network's nodes
	Member int // member number, or -1
	Liar   bool
	net    *Network

	// On disk.
	journal []consensus.Record
	chain   []Block
	votes   uint64 // the first epoch in which it votes: it lost its journal before

	// Lost in a crash.
	engine  consensus.Engine
	up      bool
	life    int // counts starts
	outbox  []consensus.Effect
	waiting bool // for the disk
	timers  map[consensus.Timer]uint64
	orders  map[keys.Digest]ledger.Order // asked about, not final
	results map[keys.Digest]keys.Digest
	pool    []uint64
	done    map[uint64]bool      // transactions in the chain
	stored  map[keys.Digest]bool // order hashes in the chain
	told    int                  // the last count of Pending
	syncing bool

	Log []Life // with Settings.Record
}

// Life is what one start of an engine was given and what it answered.
type Life struct {
	Config  consensus.Config
	Journal []consensus.Record
	Start   []consensus.Effect
	Events  []consensus.Event
	Effects [][]consensus.Effect
}

type task struct {
	at  int64
	seq uint64
	do  func()
}

type queue []task

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(task)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = task{}
	*q = old[:len(old)-1]
	return last
}

// NewNetwork makes a network of nodes that are all down.
func NewNetwork(s Settings) *Network {
	n := &Network{
		Settings: s, suite: keystest.Suite(), group: "main", payloads: map[keys.Digest][]uint64{}, verified: map[keys.Digest]bool{},
		rand: rand.New(rand.NewPCG(s.Seed, 0x66_6f_6e_64_61_63_6f)),
	}
	n.chain = n.suite.Sum([]byte("consensustest"))
	for i := range s.Members {
		seed := n.suite.Sum([]byte("member"), []byte{byte(i)})
		member := ledger.Member{
			Node: identity.NodeID(n.suite.Sum(seed[:])), Institution: fmt.Sprintf("bank-%d", i),
			Key: ledger.Key{Algorithm: n.suite.Vote(), Bytes: seed[:]},
		}
		if s.Keys {
			signer, err := n.suite.Generate(n.suite.Vote(), bytes.NewReader(seed[:]))
			if err != nil {
				panic(err)
			}
			n.signers = append(n.signers, signer)
			n.publics = append(n.publics, signer.Public())
			member.Key = ledger.KeyOf(signer.Public())
		}
		n.epoch.Members = append(n.epoch.Members, member)
	}
	n.epoch.Params = ledger.DefaultParams()
	n.epoch.Params.Window = max(s.Window, 1)
	order := ledger.Order{Version: ledger.Version, Chain: n.chain, Group: n.group}
	n.genesis = Block{Head: consensus.Head{Order: order, Block: n.suite.Sum([]byte("genesis"))}}
	n.Oracle = newOracle(n)
	for i := range s.Members {
		n.add(i, false)
	}
	for range s.Observers {
		n.add(-1, false)
	}
	for i := range s.Twins {
		n.nodes[i].Liar = true
		n.add(i, true)
	}
	return n
}

func (n *Network) add(member int, liar bool) {
	n.nodes = append(n.nodes, &Node{ID: len(n.nodes), Member: member, Liar: liar, net: n, chain: []Block{n.genesis}, done: map[uint64]bool{}, stored: map[keys.Digest]bool{}})
}

// Nodes returns the nodes: the members by number, then observers, then the second halves of twins.
func (n *Network) Nodes() []*Node { return n.nodes }

// Now returns the virtual time in microseconds.
func (n *Network) Now() int64 { return n.now }

// Err returns the first rule that was broken, or nil.
func (n *Network) Err() error { return n.faults }

func (n *Network) fail(format string, args ...any) {
	if n.faults == nil {
		n.faults = fmt.Errorf("at %d ms: %w", n.now/1000, fmt.Errorf(format, args...))
	}
}

// After does something later.
func (n *Network) After(delay int64, do func()) {
	n.seq++
	heap.Push(&n.queue, task{at: n.now + max(delay, 0), seq: n.seq, do: do})
}

// RunUntil lets time pass until a moment, or until a rule is broken.
func (n *Network) RunUntil(end int64) {
	for len(n.queue) > 0 && n.queue[0].at <= end && n.faults == nil {
		t := heap.Pop(&n.queue).(task)
		n.now = t.at
		t.do()
	}
	n.now = max(n.now, end)
}

func (n *Network) upTo(limit int64) int64 {
	if limit <= 0 {
		return 0
	}
	return n.rand.Int64N(limit + 1)
}

// Submit gives a new transaction to every node that is up, at slightly different times.
func (n *Network) Submit() {
	n.txs++
	id := n.txs
	for _, node := range n.nodes {
		life := node.life
		n.After(n.upTo(n.Delay), func() {
			if node.up && node.life == life {
				node.pool = append(node.pool, id)
				node.tell(false)
			}
		})
	}
}

// Partition splits the nodes into sides; nil heals. Members see connections break and come up.
func (n *Network) Partition(side []int) {
	for _, a := range n.nodes {
		for _, b := range n.nodes {
			was, is := n.linked(a.ID, b.ID), side == nil || side[a.ID] == side[b.ID]
			if was != is && b.Member >= 0 {
				n.hint(a, b.Member, is)
			}
		}
	}
	n.side = side
}

func (n *Network) linked(a, b int) bool { return n.side == nil || n.side[a] == n.side[b] }

// hint tells a node that a connection changed, some time later.
func (n *Network) hint(to *Node, member int, up bool) {
	life := to.life
	n.After(n.upTo(100_000), func() {
		if to.up && to.life == life && to.Member != member {
			to.step(consensus.Peer{Member: uint32(member), Up: up})
		}
	})
}

// send carries a message over a link.
func (n *Network) send(from, to *Node, m consensus.Message) {
	if from.Member < 0 || from.Member == to.Member {
		return
	}
	if from.Liar && n.tamper != nil {
		for _, forged := range n.tamper(from, m) {
			n.carry(from, to, forged)
		}
		return
	}
	n.carry(from, to, m)
}

func (n *Network) carry(from, to *Node, m consensus.Message) {
	copies := 1
	if n.Duplicate > 0 && n.rand.Float64() < n.Duplicate {
		copies = 2
	}
	for range copies {
		n.Messages++
		if !n.linked(from.ID, to.ID) || n.Loss > 0 && n.rand.Float64() < n.Loss {
			n.Lost++
			continue
		}
		delay := n.upTo(n.Delay)
		if n.Delay > 0 && n.rand.IntN(50) == 0 {
			delay *= 10 // a straggler, overtaken by what was sent after it
		}
		n.After(delay, func() {
			if to.up && n.linked(from.ID, to.ID) {
				if !ofEpoch(m, to.epoch()) {
					return
				}
				if n.Keys {
					if err := n.verify(m); err != nil {
						if from.Liar {
							return
						}
						n.fail("node %d sent what does not verify: %w", from.ID, err)
						return
					}
				}
				to.step(consensus.Received{From: uint32(from.Member), Message: m})
			}
		})
	}
}

// ofEpoch reports whether all that is signed in a message is of an epoch: a host drops it otherwise.
func ofEpoch(m consensus.Message, epoch uint64) bool {
	if m.NewView != nil && m.NewView.Epoch != epoch {
		return false
	}
	for _, v := range m.Votes {
		if v.Statement.Epoch != epoch {
			return false
		}
	}
	for _, c := range m.Certificates {
		if c.Statement.Epoch != epoch {
			return false
		}
	}
	return true
}

// verify checks a message's signatures as a host does.
func (n *Network) verify(m consensus.Message) error {
	votes, certificates := slices.Clone(m.Votes), slices.Clone(m.Certificates)
	if m.NewView != nil {
		votes = append(votes, m.NewView.Votes...)
		if !m.NewView.High.IsZero() {
			certificates = append(certificates, m.NewView.High)
		}
	}
	for _, v := range votes {
		if int(v.Signer) >= len(n.publics) {
			return fmt.Errorf("vote of member %d", v.Signer)
		}
		if err := n.once(&v, func() error {
			return n.publics[v.Signer].Verify(v.Statement.Digest(n.suite, n.chain, n.group), v.Signature)
		}); err != nil {
			return fmt.Errorf("%s vote of member %d: %w", v.Statement.Kind, v.Signer, err)
		}
	}
	for _, c := range certificates {
		if err := n.once(&c, func() error { return c.Verify(n.suite, n.chain, n.group, n.publics) }); err != nil {
			return err
		}
	}
	return nil
}

// once checks a signed thing that was not checked before: a broadcast reaches several nodes.
func (n *Network) once(signed any, check func() error) error {
	data, err := ledger.Marshal(signed)
	if err != nil {
		return err
	}
	key := n.suite.Sum(data)
	if !n.verified[key] {
		if err := check(); err != nil {
			return err
		}
		n.verified[key] = true
	}
	return nil
}

func (n *Network) sign(member int, st ledger.Statement) ledger.Vote {
	v := ledger.Vote{Signer: uint32(member), Statement: st, Signature: []byte{byte(member), byte(member >> 8)}}
	if n.Keys {
		signature, err := n.signers[member].Sign(st.Digest(n.suite, n.chain, n.group))
		if err != nil {
			panic(err)
		}
		v.Signature = signature
	}
	return v
}

// Now returns the virtual time in microseconds.
func (x *Node) Now() int64 { return x.net.now }

// Up reports whether the node runs.
func (x *Node) Up() bool { return x.up }

// Head returns the node's last final block.
func (x *Node) Head() consensus.Head { return x.chain[len(x.chain)-1].Head }

func (x *Node) headOrder() keys.Digest {
	o := x.Head().Order
	return o.Hash(x.net.suite)
}

// epoch returns the number of the epoch of the node's next block.
func (x *Node) epoch() uint64 { return x.net.epochAfter(x.Head()).Number }

// begun returns the epoch of the node's next block if it is another one than before.
func (x *Node) begun(before uint64) *ledger.Epoch {
	if epoch := x.net.epochAfter(x.Head()); epoch.Number != before {
		clear(x.timers)
		return &epoch
	}
	return nil
}

// epochAfter returns the epoch of the block that follows a head.
func (n *Network) epochAfter(h consensus.Head) ledger.Epoch {
	epoch := n.epoch
	if epoch.Number = h.Order.Epoch; h.Order.Barrier {
		epoch.Number++
	}
	return epoch
}

// Engine returns the node's engine.
func (x *Node) Engine() consensus.Engine { return x.engine }

// Start starts the node with what is on its disk.
func (x *Node) Start() {
	if x.up {
		return
	}
	n := x.net
	x.up, x.waiting, x.outbox, x.told, x.syncing = true, false, nil, 0, false
	x.life++
	x.timers = map[consensus.Timer]uint64{}
	x.orders, x.results = map[keys.Digest]ledger.Order{}, map[keys.Digest]keys.Digest{}
	x.pool = nil
	x.engine = n.Factory(x.ID)
	config := n.config(int32(x.Member), x.Head())
	if config.Epoch.Number < x.votes {
		config.Self = -1
	}
	effects, err := x.engine.Init(config, slices.Clone(x.journal))
	if err != nil {
		n.fail("node %d: start: %w", x.ID, err)
		return
	}
	if n.Record {
		x.Log = append(x.Log, Life{Config: config, Journal: slices.Clone(x.journal), Start: effects})
	}
	if n.Trace != nil {
		n.Trace(x, nil, effects)
	}
	x.outbox = append(x.outbox, effects...)
	x.drain()
	if x.Member >= 0 {
		for _, o := range n.nodes {
			if o.up && o != x {
				n.hint(o, x.Member, true)
			}
		}
	}
	x.everySecond(x.life)
}

// everySecond repeats Pending while transactions wait, and gets those that were missed.
func (x *Node) everySecond(life int) {
	x.net.After(1_000_000, func() {
		if x.up && x.life == life {
			x.gossip()
			x.tell(true)
			x.everySecond(life)
		}
	})
}

// gossip copies transactions from a neighbour, as a pool does after a start.
func (x *Node) gossip() {
	o := x.net.nodes[x.net.rand.IntN(len(x.net.nodes))]
	if !o.up || !x.net.linked(x.ID, o.ID) {
		return
	}
	for _, id := range o.pool {
		if !slices.Contains(x.pool, id) && !x.done[id] {
			x.pool = append(x.pool, id)
		}
	}
}

// Crash stops the node. What was not on disk is lost.
func (x *Node) Crash() {
	if !x.up {
		return
	}
	x.up = false
	x.life++
	x.net.Crashes++
	shut(x.engine)
	if x.Member >= 0 {
		for _, o := range x.net.nodes {
			if o != x {
				x.net.hint(o, x.Member, false)
			}
		}
	}
}

// LoseJournal deletes the node's journal. As a host must, it follows from then on and does not vote before the next epoch.
func (x *Node) LoseJournal() { x.journal, x.votes = nil, x.epoch()+1 }

// step hands an event to the engine.
func (x *Node) step(event consensus.Event) {
	n := x.net
	if !x.up || n.faults != nil {
		return
	}
	effects, err := x.engine.Step(event)
	if err != nil {
		n.fail("node %d: step %T: %w", x.ID, event, err)
		return
	}
	if n.Record {
		life := &x.Log[len(x.Log)-1]
		life.Events, life.Effects = append(life.Events, event), append(life.Effects, effects)
	}
	if n.Trace != nil {
		n.Trace(x, event, effects)
	}
	x.outbox = append(x.outbox, effects...)
	x.drain()
}

// drain carries out effects in order. What follows a Persist or a Sign waits for the disk.
func (x *Node) drain() {
	for len(x.outbox) > 0 && !x.waiting && x.up {
		effect := x.outbox[0]
		x.outbox = x.outbox[1:]
		x.carryOut(effect)
	}
}

// onDisk does something when a write is durable, and then goes on with the effects that waited.
func (x *Node) onDisk(do func()) {
	life := x.life
	x.waiting = true
	x.net.After(x.net.upTo(x.net.Sync), func() {
		if x.up && x.life == life {
			x.waiting = false
			do()
			x.drain()
		}
	})
}

func (x *Node) later(delay int64, do func()) {
	life := x.life
	x.net.After(delay, func() {
		if x.up && x.life == life {
			do()
		}
	})
}

func (x *Node) carryOut(effect consensus.Effect) {
	n := x.net
	switch ef := effect.(type) {
	case consensus.Persist:
		x.onDisk(func() {
			if ef.Replace {
				x.journal = nil
			}
			x.journal = append(x.journal, ef.Records...)
		})
	case consensus.Sign:
		if x.Member < 0 {
			n.fail("node %d is an observer and signs", x.ID)
			return
		}
		x.onDisk(func() {
			if ef.Statement.Epoch < x.epoch() {
				return // asked for before the block that ended its epoch was stored
			}
			if !x.Liar {
				n.Oracle.signed(x, ef.Statement)
			}
			if ef.Statement.Kind == ledger.ViewChange {
				n.ViewChanges++
			}
			vote := n.sign(x.Member, ef.Statement)
			n.Oracle.voted(vote)
			if ef.Broadcast != nil {
				m := *ef.Broadcast
				m.Votes = append([]ledger.Vote{vote}, m.Votes...)
				x.broadcast(m)
			}
			x.step(consensus.Signed{Vote: vote})
		})
	case consensus.Send:
		if ef.To < 0 {
			x.broadcast(ef.Message)
			return
		}
		for _, o := range n.nodes {
			if o.Member == int(ef.To) {
				n.send(x, o, ef.Message)
			}
		}
	case consensus.SetTimer:
		n.seq++
		mark := n.seq
		x.timers[ef.Timer] = mark
		x.later(ef.Milli*1000, func() {
			if x.timers[ef.Timer] == mark {
				delete(x.timers, ef.Timer)
				x.step(consensus.Expired{Timer: ef.Timer})
			}
		})
	case consensus.ClearTimer:
		delete(x.timers, ef.Timer)
	case consensus.BuildPayload:
		payload := x.build(ef)
		x.later(0, func() { x.step(consensus.Built{Parent: ef.Parent, Payload: payload}) })
	case consensus.CheckPayload:
		hash := ef.Order.Hash(n.suite)
		x.orders[hash] = ef.Order
		x.later(n.upTo(n.Fetch), func() {
			x.step(consensus.Checked{Order: hash, Valid: x.check(ef.Order)})
			x.tell(false)
		})
	case consensus.Execute:
		if ef.Order.Height <= x.Head().Order.Height {
			return // blocks from others overtook the engine
		}
		hash := ef.Order.Hash(n.suite)
		result := x.execute(ef.Order)
		x.results[hash] = result
		x.later(n.upTo(n.Sync), func() { x.step(consensus.Executed{Order: hash, Block: result}) })
	case consensus.Abandon:
		delete(x.orders, ef.Order)
		x.tell(false)
	case consensus.Finalize:
		x.store(ef)
	case consensus.NeedSync:
		x.sync(ef)
	case consensus.Evidence:
		n.Oracle.evidence(x, ef)
	case consensus.Halt:
		if !x.Liar {
			n.fail("node %d halts: %s", x.ID, ef.Reason)
		}
	case consensus.Flow, consensus.Refused, consensus.Holding:
	default:
		n.fail("node %d: unknown effect %T", x.ID, effect)
	}
}

func (x *Node) broadcast(m consensus.Message) {
	for _, o := range x.net.nodes {
		x.net.send(x, o, m)
	}
}

// included returns the transactions of a block and its ancestors that are not final.
func (x *Node) included(order keys.Digest) []uint64 {
	var ids []uint64
	for {
		o, ok := x.orders[order]
		if !ok {
			return ids
		}
		ids = append(ids, x.net.payloads[o.TxRoot]...)
		order = o.Parent
	}
}

func (x *Node) build(ef consensus.BuildPayload) consensus.Payload {
	n := x.net
	done := x.included(ef.Parent)
	var ids []uint64
	for _, id := range x.pool {
		if !x.done[id] && !slices.Contains(done, id) && len(ids) < 5 {
			ids = append(ids, id)
		}
	}
	if at := slices.IndexFunc(ids, n.barrier); at >= 0 { // it is a block of its own
		ids = ids[:max(at, 1)]
	}
	if len(ids) == 0 {
		return consensus.Payload{}
	}
	raw, err := ledger.Marshal(ids)
	if err != nil {
		panic(err)
	}
	root := n.suite.Sum(raw)
	n.payloads[root] = ids
	return consensus.Payload{TxRoot: root, TxCount: uint32(len(ids)), TxBytes: uint64(len(raw)), GasLimit: 1, Barrier: n.barrier(ids[0]), UnixMilli: n.now/1000 + 1}
}

// barrier reports whether a transaction ends its epoch.
func (n *Network) barrier(tx uint64) bool { return n.Barrier > 0 && tx%n.Barrier == 0 }

// check reports whether the order's transactions are known and none is in the chain already.
func (x *Node) check(o ledger.Order) bool {
	ids, ok := x.net.payloads[o.TxRoot]
	if !ok || o.Barrier != x.net.barrier(ids[0]) {
		return false
	}
	done := x.included(o.Parent)
	for _, id := range ids {
		if x.done[id] || slices.Contains(done, id) {
			return false
		}
	}
	return true
}

// execute returns the block hash of an order: a function of its order and its parent's result.
func (x *Node) execute(o ledger.Order) keys.Digest {
	n := x.net
	parent, ok := x.results[o.Parent]
	if !ok {
		head := x.Head()
		if head.Order.Hash(n.suite) != o.Parent {
			n.fail("node %d: execute height %d whose parent has no result, head %d", x.ID, o.Height, head.Order.Height)
		}
		parent = head.Block
	}
	hash := o.Hash(n.suite)
	return n.suite.Sum(parent[:], hash[:])
}

// store makes a final block durable.
func (x *Node) store(ef consensus.Finalize) {
	n := x.net
	st := ef.Certificate.Statement
	if x.stored[st.Order] {
		return // blocks from others overtook the engine
	}
	order, ok := x.orders[st.Order]
	result, executed := x.results[st.Order]
	switch {
	case !ok || !executed:
		n.fail("node %d: finalize by %s an order that was not executed here", x.ID, st.Kind)
		return
	case st.Height != order.Height || result != st.Block:
		n.fail("node %d: height %d is final with another height or result", x.ID, order.Height)
		return
	case !order.NewView.IsZero() && (ef.NewView == nil || ef.NewView.Digest(n.suite) != order.NewView):
		n.fail("node %d: height %d is final without its new-view", x.ID, order.Height)
		return
	}
	block := Block{Head: consensus.Head{Order: order, Block: result, Certificate: ef.Certificate}, NewView: ef.NewView}
	x.later(n.upTo(n.Sync), func() { x.append(block) })
}

// append is the one gate through which blocks reach the disk, from the engine and from others alike.
func (x *Node) append(b Block) {
	n := x.net
	head := x.Head()
	switch {
	case b.Head.Order.Height <= head.Order.Height:
		return
	case b.Head.Order.Height > head.Order.Height+1: // the one below is still on its way to the disk
		x.later(n.upTo(n.Sync)+1, func() { x.append(b) })
		return
	case b.Head.Order.Parent != head.Order.Hash(n.suite):
		n.fail("node %d: block %d does not extend the head", x.ID, b.Head.Order.Height)
		return
	}
	was := x.epoch()
	x.keep(b)
	x.step(consensus.Stored{Head: b.Head, Epoch: x.begun(was)})
	x.tell(false)
}

func (x *Node) keep(b Block) {
	n := x.net
	x.chain = append(x.chain, b)
	n.Oracle.stored(x, b)
	for _, id := range n.payloads[b.Head.Order.TxRoot] {
		x.done[id] = true
	}
	x.pool = slices.DeleteFunc(x.pool, func(id uint64) bool { return x.done[id] })
	x.stored[x.headOrder()] = true
	delete(x.orders, x.headOrder())
}

// sync fetches blocks from the member that is said to have them.
func (x *Node) sync(ef consensus.NeedSync) {
	n := x.net
	if x.syncing {
		return
	}
	x.syncing = true
	x.later(2*n.upTo(n.Delay)+1000, func() {
		x.syncing = false
		for _, o := range n.nodes {
			if o.Member != int(ef.From) || !o.up || !n.linked(x.ID, o.ID) || o.Head().Order.Height <= x.Head().Order.Height {
				continue
			}
			n.Syncs++
			was := x.epoch()
			for _, b := range o.chain[x.Head().Order.Height+1:] {
				x.keep(b)
			}
			x.step(consensus.Synced{Head: x.Head(), Epoch: x.begun(was)})
			x.tell(false)
			return
		}
	})
}

// tell reports the pool to the engine when its count leaves zero or falls to it, and when always is set.
func (x *Node) tell(always bool) {
	var busy []uint64
	for _, o := range x.orders {
		busy = append(busy, x.net.payloads[o.TxRoot]...)
	}
	count := 0
	for _, id := range x.pool {
		if !slices.Contains(busy, id) {
			count++
		}
	}
	if (count > 0) != (x.told > 0) || always && count > 0 {
		x.step(consensus.Pending{Count: uint32(count)})
	}
	x.told = count
}
