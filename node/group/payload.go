package group

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	fetchRetry  = 250     // ms after which missing transactions are asked of the next member; it doubles in each round
	fetchRounds = 3       // doublings, at most
	fetchDelay  = 30      // ms before the first request, while transactions that came are being checked
	maxBodies   = 2 << 20 // bytes of transactions in one reply, unless the first alone is larger
	maxUnstored = 256     // proposals kept at once
	maxAside    = 32      // abandoned ones among them
)

// proposal is a block on its way: proposed, and not stored yet. While it is under way its transactions are reserved
// in the pool. One that the engine abandoned is set aside: view changes bring blocks back, and then its result need
// not be computed again.
type proposal struct {
	order   ledger.Order
	hash    keys.Digest
	ask     *consensus.CheckPayload // the engine waits for the answer
	valid   bool                    // checked, and its bodies are in the journal
	aside   bool                    // abandoned
	leaves  []keys.Digest
	txs     []*ledger.SignedTx // in order; nil where missing
	missing int
	asked   uint32 // requests for what is missing; it tells which member is asked next
	waited  bool   // for transactions that were being checked
	retry   func() // cancels the next attempt
	latest  int64  // when the last of its transactions came here, or it itself with some that had not, Unix ms
	wanted  bool   // the engine asked for its execution
	running bool
	base    *state.Snapshot // what result was computed on
	result  *state.Snapshot
}

// restorePayloads makes the bodies in the journal available to proposals that come again after a restart.
func (g *Group) restorePayloads() {
	g.journal.stored(g.head.Order.Height)
	for _, p := range g.journal.payloads {
		txs := make([]*ledger.SignedTx, 0, len(p.Txs))
		for _, raw := range p.Txs {
			if tx, err := ledger.DecodeTx(g.cfg.Suite, raw); err == nil {
				txs = append(txs, tx)
			}
		}
		if leaves := leavesOf(txs); ledger.Root(g.cfg.Suite, leaves) == p.TxRoot {
			g.hold(p.TxRoot, leaves, txs)
		}
	}
}

func leavesOf(txs []*ledger.SignedTx) []keys.Digest {
	leaves := make([]keys.Digest, len(txs))
	for i, tx := range txs {
		leaves[i] = tx.Leaf
	}
	return leaves
}

// hold makes the transactions of a payload in the journal known.
func (g *Group) hold(root keys.Digest, leaves []keys.Digest, txs []*ledger.SignedTx) {
	g.held = append(g.held, leafList{root, leaves})
	for _, tx := range txs {
		g.bodies[tx.Leaf] = tx
	}
}

// release forgets what the journal has forgotten.
func (g *Group) release() {
	if len(g.held) == len(g.journal.payloads) {
		return
	}
	kept := map[keys.Digest]bool{}
	for _, p := range g.journal.payloads {
		kept[p.TxRoot] = true
	}
	g.held = slices.DeleteFunc(g.held, func(l leafList) bool { return !kept[l.root] })
	bodies := map[keys.Digest]*ledger.SignedTx{}
	for _, l := range g.held {
		for _, leaf := range l.leaves {
			bodies[leaf] = g.bodies[leaf]
		}
	}
	g.bodies = bodies
}

// build answers BuildPayload from the pool.
func (g *Group) build(e consensus.BuildPayload) {
	built := consensus.Built{Parent: e.Parent}
	defer func() { g.events = append(g.events, built) }()
	parentTime, _, ok := g.ancestry(e.Parent)
	if !ok {
		return
	}
	at := max(g.env.Now(), parentTime+1)
	room := g.pace.next(g.engine.Status().View, g.waited(), &g.epoch.Params)
	var txs []*ledger.SignedTx
	for {
		txs = g.cfg.Pool.Select(&g.epoch.Params, at, room)
		i := slices.IndexFunc(txs, g.cfg.Executor.Barrier)
		if i < 0 {
			break
		}
		if i > 0 {
			txs = txs[:i] // what came before it goes into blocks before
			break
		}
		if e.Parent != g.headHash() {
			g.pending.told = 0 // the engine is told again when the blocks before are stored
			return
		}
		if !g.dropBarren(txs[0]) {
			txs = txs[:1]
			break
		}
	}
	if len(txs) == 0 {
		return
	}
	built.Payload = g.payloadOf(txs, at)
	g.pace.built(e.Height)
	g.keepLeaves(g.own, built.Payload.TxRoot, leavesOf(txs))
}

// waited returns for how many ms the first of this node's proposals that are not final has been under way.
func (g *Group) waited() (milli int64) {
	for _, p := range g.proposals {
		if int64(p.order.Proposer) == int64(g.number) && !p.aside {
			milli = max(milli, g.env.Now()-p.order.UnixMilli)
		}
	}
	return milli
}

// dropBarren drops a transaction that would end the epoch for nothing in the next block, so that nobody waits for it,
// and reports whether it is one.
func (g *Group) dropBarren(tx *ledger.SignedTx) bool {
	if !g.cfg.Executor.Barrier(tx) {
		return false
	}
	order := g.payloadOf([]*ledger.SignedTx{tx}, g.env.Now()).Order(&g.head.Order, g.headHash(), g.epoch.Number, uint32(max(g.number, 0)))
	why := g.cfg.Executor.EndsEpoch(g.cfg.Store.Head(), &order, tx)
	if why == nil {
		return false
	}
	g.log.Warn().Err(why).Str("transaction", tx.ID.String()).Msg("a transaction that would end the epoch for nothing is dropped")
	g.drop(func(other *ledger.SignedTx) bool { return other == tx }, why)
	return true
}

func (g *Group) payloadOf(txs []*ledger.SignedTx, at int64) consensus.Payload {
	p := consensus.Payload{
		TxRoot: ledger.Root(g.cfg.Suite, leavesOf(txs)), TxCount: uint32(len(txs)), UnixMilli: at, Barrier: g.cfg.Executor.Barrier(txs[0]),
	}
	for _, tx := range txs {
		p.TxBytes += uint64(len(tx.Raw))
		p.GasLimit += tx.GasLimit
	}
	return p
}

// ancestry returns the block time of a block that is final or proposed, and the ids of the transactions of it and
// its ancestors that are not stored yet.
func (g *Group) ancestry(order keys.Digest) (at int64, ids map[ledger.TxID]struct{}, ok bool) {
	at = -1
	for head := g.headHash(); order != head; {
		p := g.proposals[order]
		if p == nil || p.txs == nil || p.missing > 0 {
			return 0, nil, false
		}
		if ids == nil {
			ids = map[ledger.TxID]struct{}{}
		}
		for _, tx := range p.txs {
			ids[tx.ID] = struct{}{}
		}
		if at < 0 {
			at = p.order.UnixMilli
		}
		order = p.order.Parent
	}
	if at < 0 {
		at = g.head.Order.UnixMilli
	}
	return at, ids, true
}

func (g *Group) headHash() keys.Digest { return g.cfg.Store.Head().OrderHash() }

// check answers CheckPayload when it can.
func (g *Group) check(e consensus.CheckPayload) {
	hash := e.Order.Hash(g.cfg.Suite)
	if hash == g.headHash() {
		g.events = append(g.events, consensus.Checked{Order: hash, Valid: true})
		return
	}
	if e.Order.Height <= g.head.Order.Height {
		return // the engine is about to hear that the chain went on
	}
	if err := g.possible(&e.Order); err != nil {
		g.refuse(&e.Order, hash, err)
		return
	}
	p := g.proposals[hash]
	if p == nil {
		if len(g.proposals) >= maxUnstored {
			return // the engine follows few blocks at once; this bounds a broken one
		}
		p = &proposal{order: e.Order, hash: hash}
		g.proposals[hash] = p
	}
	if p.valid {
		if p.aside {
			p.aside = false
			g.aside = slices.DeleteFunc(g.aside, func(a *proposal) bool { return a == p })
			g.cfg.Pool.Reserve(p.txs)
		}
		g.events = append(g.events, consensus.Checked{Order: hash, Valid: true})
		return
	}
	p.ask = &e
	p.asked = 0
	g.gather(p)
}

// refuse answers the engine that a proposal is invalid, and forgets it.
func (g *Group) refuse(o *ledger.Order, hash keys.Digest, why error) {
	g.log.Warn().Err(why).Uint64("height", uint64(o.Height)).Uint32("proposer", o.Proposer).Msg("proposal refused")
	g.refused(o.Proposer, why)
	g.abandon(hash)
	g.events = append(g.events, consensus.Checked{Order: hash})
}

// gather collects a proposal's transactions from pool and journal, asks other members for the rest, and answers
// the engine when all are there.
func (g *Group) gather(p *proposal) {
	if p.retry != nil {
		p.retry()
		p.retry = nil
	}
	if p.leaves == nil {
		if leaves := g.leavesOf(p.order.TxRoot); len(leaves) == int(p.order.TxCount) {
			p.leaves = leaves
		}
	}
	if p.leaves == nil {
		g.askFor(p, Leaves, p.order.TxRoot[:], g.tookLeaves)
		return
	}
	if p.txs == nil {
		p.txs = make([]*ledger.SignedTx, len(p.leaves))
		p.missing = len(p.leaves)
	}
	if g.find(p); p.missing > 0 {
		if g.checking > 0 && !p.waited { // what is missing is most likely among them, and complete takes it
			p.waited = true
			p.retry = g.env.After(fetchDelay, func() {
				p.retry = nil
				g.gather(p)
			})
			return
		}
		g.askFor(p, Bodies, mustMarshal(p.wants()), g.tookBodies)
		return
	}
	g.judge(p)
}

// find takes what a proposal lacks from pool and journal.
func (g *Group) find(p *proposal) {
	if p.missing == 0 {
		return
	}
	want := p.wants()
	found, _ := g.cfg.Pool.Find(want)
	next := 0
	for i := range p.txs {
		if p.txs[i] != nil {
			continue
		}
		tx := found[next]
		if tx == nil {
			tx = g.bodies[want[next]]
		}
		if next++; tx != nil {
			p.txs[i] = tx
			p.missing--
		}
	}
}

// complete looks again at the proposals that lack transactions, some of which may have come into the pool: on a slow
// link they are often on their way when the proposal comes, and need not wait for the next request.
func (g *Group) complete() {
	for _, p := range g.unstored() {
		if p.ask == nil || p.txs == nil || p.missing == 0 {
			continue
		}
		if g.find(p); p.missing == 0 {
			g.gather(p)
		}
	}
}

// wants returns the leaves of the transactions that are missing.
func (p *proposal) wants() []keys.Digest {
	var want []keys.Digest
	for i, tx := range p.txs {
		if tx == nil {
			want = append(want, p.leaves[i])
		}
	}
	return want
}

// askFor sends a request to the proposer, and on later attempts to the other members in turn: in the first round
// as soon as one has failed, later after a wait.
func (g *Group) askFor(p *proposal, protocol Protocol, request []byte, took func(*proposal, []byte) error) {
	if p.ask == nil || len(g.epoch.Members) < 2 {
		return
	}
	n := uint32(len(g.epoch.Members))
	to := (p.ask.From + p.asked) % n
	if int32(to) == g.number {
		p.asked++
		to = (to + 1) % n
	}
	p.asked++
	asked := p.asked
	p.retry = g.env.After(fetchRetry<<min(asked/n, fetchRounds), func() {
		p.retry = nil
		g.gather(p)
	})
	g.env.Request(g.epoch.Members[to].Node, protocol, request, func(reply []byte, err error) {
		if g.proposals[p.hash] != p || p.valid || p.ask == nil || g.stopped.Load() != nil {
			return
		}
		if err == nil {
			err = took(p, reply)
		}
		if err == nil {
			return
		}
		g.log.Debug().Err(err).Uint32("member", to).Uint64("height", uint64(p.order.Height)).Msg("payload not received; the next member is asked")
		if _, told := errors.AsType[*breach](err); !told {
			err = breaks(RuleWithheld, "%w", err)
		}
		g.refused(to, err)
		if p.asked == asked && asked < n {
			g.gather(p)
		}
	})
}

func (g *Group) tookLeaves(p *proposal, reply []byte) error {
	var leaves []keys.Digest
	if err := ledger.Unmarshal(reply, &leaves); err != nil {
		return breaks(RuleMalformed, "leaves: %w", err)
	}
	if err := g.isList(&p.order, leaves); err != nil {
		return err
	}
	if p.leaves == nil {
		p.leaves = leaves
		p.asked = 0 // who proposed it is asked for the transactions
		g.gather(p)
	}
	return nil
}

// tookBodies checks fetched transactions off the loop, for they were in no pool here. A leaf is the digest of
// all of a transaction, signatures included: one that was asked for and is not valid makes the proposal invalid.
func (g *Group) tookBodies(p *proposal, reply []byte) error {
	var raws [][]byte
	if err := ledger.Unmarshal(reply, &raws); err != nil {
		return breaks(RuleMalformed, "bodies: %w", err)
	}
	suite := g.cfg.Suite
	wanted := map[keys.Digest]bool{}
	for _, leaf := range p.wants() {
		wanted[leaf] = true
	}
	size := 0
	raws = slices.DeleteFunc(raws, func(raw []byte) bool {
		leaf := keys.Hash(suite, "signed-tx", raw)
		ok := wanted[leaf]
		delete(wanted, leaf)
		if ok {
			size += len(raw)
		}
		return !ok
	})
	if len(raws) == 0 {
		return fmt.Errorf("bodies: the member sent none of those that were asked for")
	}
	asked := p.asked
	g.env.Go(func() func() {
		var txs []*ledger.SignedTx
		var bad error
		for _, raw := range raws {
			tx, err := ledger.DecodeTx(suite, raw)
			if err != nil {
				bad = err
				continue
			}
			txs = append(txs, tx)
		}
		for i, ok := range ledger.CheckBatch(suite, txs) {
			if !ok {
				bad = fmt.Errorf("%s: %w", txs[i].ID, keys.ErrSignature)
			}
		}
		return func() {
			if g.proposals[p.hash] != p || p.valid || p.ask == nil || g.stopped.Load() != nil {
				return
			}
			if bad != nil {
				g.refuse(&p.order, p.hash, breaks(RuleTransaction, "it holds a bad transaction: %w", bad))
				return
			}
			byLeaf := make(map[keys.Digest]*ledger.SignedTx, len(txs))
			for _, tx := range txs {
				byLeaf[tx.Leaf] = tx
			}
			for i, leaf := range p.leaves {
				if tx := byLeaf[leaf]; tx != nil && p.txs[i] == nil {
					p.txs[i] = tx
					p.missing--
				}
			}
			if p.missing > 0 && size >= maxBodies/2 && p.asked == asked {
				p.asked-- // the member sent as much as fits; it has more
			}
			g.gather(p)
		}
	})
	return nil
}

// judge answers the engine's CheckPayload for a proposal whose transactions are all here.
func (g *Group) judge(p *proposal) {
	ask := p.ask
	_, _, known := g.ancestry(p.order.Parent)
	if !known {
		return // the parent's own check is under way; judged again when it is done
	}
	if p.order.Barrier && g.stateAfter(p.order.Parent) == nil {
		return // judged again when the parent has its result
	}
	p.ask = nil
	if err := g.valid(p, ask); err != nil {
		g.refuse(&p.order, p.hash, err)
		return
	}
	p.valid = true
	raws := make([][]byte, len(p.txs))
	for i, tx := range p.txs {
		raws[i] = tx.Raw
	}
	g.journal.addPayload(payload{Height: p.order.Height, TxRoot: p.order.TxRoot, Txs: raws})
	if !slices.ContainsFunc(g.held, func(l leafList) bool { return l.root == p.order.TxRoot }) {
		g.hold(p.order.TxRoot, p.leaves, p.txs)
	}
	g.release()
	p.latest = g.cfg.Pool.Latest(p.txs, &g.epoch.Params, g.env.Now())
	g.cfg.Pool.Reserve(p.txs)
	g.events = append(g.events, consensus.Checked{Order: p.hash, Valid: true})
	g.pendingEvent()
	g.takeUp(p.hash)
}

// takeUp goes on with the proposals that waited for their parent: for its transactions, its result, or its being stored.
func (g *Group) takeUp(parent keys.Digest) {
	for _, child := range g.children(parent) {
		switch {
		case child.ask != nil && child.retry == nil: // else its transactions are on their way
			g.gather(child)
		case child.wanted:
			g.run(child)
		}
	}
}

// unstored returns all proposals, in a fixed order.
func (g *Group) unstored() []*proposal {
	return slices.SortedFunc(maps.Values(g.proposals), func(a, b *proposal) int { return bytes.Compare(a.hash[:], b.hash[:]) })
}

// children returns the proposals on a block, in a fixed order.
func (g *Group) children(parent keys.Digest) []*proposal {
	return slices.DeleteFunc(g.unstored(), func(p *proposal) bool { return p.order.Parent != parent })
}

// possible checks of an order what needs neither its transactions nor other blocks.
func (g *Group) possible(o *ledger.Order) error {
	params := &g.epoch.Params
	switch {
	case o.Version != ledger.Version || o.Chain != g.cfg.Chain || o.Group != g.cfg.Group || o.Epoch != g.epoch.Number:
		return breaks(RuleOrder, "order of chain %s group %q epoch %d version %d", o.Chain.Short(), o.Group, o.Epoch, o.Version)
	case int64(o.Proposer) >= int64(len(g.epoch.Members)):
		return breaks(RuleOrder, "proposer %d of %d members", o.Proposer, len(g.epoch.Members))
	case o.TxCount == 0 || o.TxCount > params.BlockTxs || o.TxBytes > params.BlockBytes || o.GasLimit > params.BlockGas:
		return breaks(RuleLimits, "%d transactions of %d bytes and %d gas, a block has 1 to %d of at most %d bytes and %d gas",
			o.TxCount, o.TxBytes, o.GasLimit, params.BlockTxs, params.BlockBytes, params.BlockGas)
	}
	return nil
}

// valid checks a complete proposal, which is possible, against the rules of block validity. All but the clock's
// are the same on every node.
func (g *Group) valid(p *proposal, ask *consensus.CheckPayload) error {
	o := &p.order
	parentTime, ancestors, _ := g.ancestry(o.Parent)
	skew := g.epoch.Params.ClockSkew << min(ask.Widen, 3)
	ahead := o.UnixMilli - g.env.Now()
	switch {
	case o.UnixMilli <= parentTime:
		return breaks(RuleTime, "block time %d is not after the parent's %d", o.UnixMilli, parentTime)
	case !ask.Seen && (ahead > skew || ahead < -skew):
		return breaks(RuleTime, "block time is %d ms from this node's clock, at most %d: check the clocks of both nodes", ahead, skew)
	}
	return g.validTransactions(g.stateAfter(o.Parent), o, p.txs, func(id ledger.TxID) bool {
		_, taken := ancestors[id]
		return taken
	})
}

// validTransactions checks the transactions of a block that are in order, on a parent whose ids taken knows. base is the
// state after the parent; only a block that ends the epoch needs it.
//
// Such a block holds one transaction, and changes the members or parameters when it is executed. Else one dishonest
// leader with an account of its institution could end an epoch with each of its blocks, for nothing: views would begin
// at 0 again, under the same leader, with timers set anew and what others proposed thrown away, and it would lead for
// ever. All that counts is known from the parent: nothing else in the block can take the motion's support away.
func (g *Group) validTransactions(base *state.Snapshot, o *ledger.Order, txs []*ledger.SignedTx, taken func(ledger.TxID) bool) error {
	params := &g.epoch.Params
	var (
		bytes uint64
		gas   ledger.Gas
		here  = make(map[ledger.TxID]struct{}, len(txs))
	)
	switch ends := slices.ContainsFunc(txs, g.cfg.Executor.Barrier); {
	case ends != o.Barrier:
		return breaks(RuleTransactions, "the order says %t of ending the epoch, its transactions %t", o.Barrier, ends)
	case ends && len(txs) > 1:
		return breaks(RuleTransactions, "a transaction that ends the epoch is one of %d, and must be alone", len(txs))
	}
	for i, tx := range txs {
		bytes += uint64(len(tx.Raw))
		gas += tx.GasLimit
		_, twice := here[tx.ID]
		here[tx.ID] = struct{}{}
		if err := g.wellFormed(params, tx); err != nil {
			return breaks(RuleTransactions, "transaction %d: %w", i, err)
		}
		switch {
		case tx.Expiry < o.UnixMilli || tx.Expiry-params.MaxLifetime > o.UnixMilli:
			return breaks(RuleTransactions, "transaction %d: expiry %d does not suit block time %d", i, tx.Expiry, o.UnixMilli)
		case twice || taken(tx.ID):
			return breaks(RuleTransactions, "transaction %d: %s comes twice", i, tx.ID)
		}
		again, err := g.committed(tx)
		if err != nil {
			return err
		}
		if again {
			return breaks(RuleTransactions, "transaction %d: %s is in a block already", i, tx.ID)
		}
	}
	if bytes != o.TxBytes || gas != o.GasLimit {
		return breaks(RuleTransactions, "the order claims %d bytes and %d gas, its transactions have %d and %d", o.TxBytes, o.GasLimit, bytes, gas)
	}
	if o.Barrier {
		if err := g.cfg.Executor.EndsEpoch(base, o, txs[0]); err != nil {
			return breaks(RuleBarrier, "it would end the epoch for nothing: %w", err)
		}
	}
	return nil
}

// wellFormed checks what depends on the chain but not on its state. It may run on any goroutine.
func (g *Group) wellFormed(params *ledger.Params, tx *ledger.SignedTx) error {
	switch limit := g.cfg.Executor.SizeLimit(tx.To); {
	case tx.Chain != g.cfg.Chain:
		return fmt.Errorf("it is for chain %s, this is %s", tx.Chain, g.cfg.Chain)
	case tx.Group != g.cfg.Group:
		return fmt.Errorf("it is for group %q, this is %q", tx.Group, g.cfg.Group)
	case precompiles.Recovers(&tx.Tx):
		return errors.New("it is a recovery, which survivors of a disaster sign offline with `fondaco recover`")
	case len(tx.Raw) > limit:
		return fmt.Errorf("it has %d bytes, a transaction to this target at most %d", len(tx.Raw), limit)
	case uint64(len(tx.Raw)) > params.BlockBytes:
		return fmt.Errorf("it has %d bytes, a block at most %d", len(tx.Raw), params.BlockBytes)
	case tx.GasLimit == 0 || tx.GasLimit > min(params.TxGas, params.BlockGas):
		return fmt.Errorf("its gas limit is %d, want 1 to %d", tx.GasLimit, min(params.TxGas, params.BlockGas))
	}
	return nil
}

// committed reports whether a transaction is in a block. The pool knows the ids since the start of the node;
// only a transaction that could be in an earlier block is looked up on disk.
func (g *Group) committed(tx *ledger.SignedTx) (bool, error) {
	if g.cfg.Pool.Seen(tx.ID) {
		return true, nil
	}
	if tx.Expiry > g.horizon {
		return false, nil
	}
	_, _, found, err := g.cfg.Store.FindTx(tx.ID)
	if err != nil {
		return false, fmt.Errorf("look up transaction %s: %w", tx.ID, err)
	}
	return found, nil
}

// execute computes a block's result off the loop, or answers from the cache.
func (g *Group) execute(o *ledger.Order) error {
	hash := o.Hash(g.cfg.Suite)
	if hash == g.headHash() {
		g.events = append(g.events, consensus.Executed{Order: hash, Block: g.head.Block})
		return nil
	}
	if o.Height <= g.head.Order.Height {
		return nil // the engine is about to hear that the chain went on
	}
	p := g.proposals[hash]
	if p == nil || !p.valid {
		return fmt.Errorf("the consensus engine asked to execute %s, which was not found valid", hash.Short())
	}
	p.wanted = true
	g.run(p)
	return nil
}

// stateAfter returns the state after the head or a proposal that was executed, or nil.
func (g *Group) stateAfter(order keys.Digest) *state.Snapshot {
	if order == g.headHash() {
		return g.cfg.Store.Head()
	}
	if p := g.proposals[order]; p != nil {
		return p.result
	}
	return nil
}

// run executes a valid proposal when its parent's result is there.
func (g *Group) run(p *proposal) {
	if p.running {
		return
	}
	base := g.stateAfter(p.order.Parent)
	if base == nil {
		return // run again when the parent has its result
	}
	if p.result != nil && p.base == base {
		if p.wanted {
			p.wanted = false
			g.events = append(g.events, consensus.Executed{Order: p.hash, Block: p.result.Hash()})
		}
		return
	}
	p.result = nil // none, or on a parent that was fetched meanwhile: the same result, in another snapshot
	p.running = true
	g.env.Go(func() func() {
		result, err := g.cfg.Executor.Execute(context.Background(), base, &p.order, p.txs)
		return func() {
			p.running = false
			if err != nil {
				g.fail(fmt.Errorf("execute block %d: %w", p.order.Height, err))
				return
			}
			if g.proposals[p.hash] != p || g.stopped.Load() != nil {
				return
			}
			p.base, p.result = base, result
			g.phase("executed", p.order.Height, 0, p.hash)
			g.run(p)
			g.takeUp(p.hash)
			if err := g.storeFinal(); err != nil {
				g.fail(err)
			}
		}
	})
}

// abandon sets a proposal aside that is not under way any more: its transactions wait in the pool again.
func (g *Group) abandon(hash keys.Digest) {
	p := g.proposals[hash]
	if p == nil || p.aside {
		return
	}
	if !p.valid {
		g.forget(p)
		return
	}
	p.aside, p.ask, p.wanted = true, nil, false
	g.cfg.Pool.Release(p.txs)
	g.tellPending()
	if g.aside = append(g.aside, p); len(g.aside) > maxAside {
		g.forget(g.aside[0])
	}
}

// forget drops a proposal that is stored, or that nobody will ask for.
func (g *Group) forget(p *proposal) {
	if p.retry != nil {
		p.retry()
	}
	if p.aside {
		g.aside = slices.DeleteFunc(g.aside, func(a *proposal) bool { return a == p })
	} else if p.valid {
		g.cfg.Pool.Release(p.txs)
	}
	delete(g.proposals, p.hash)
}

// storeFinal stores decided blocks, in order, as far as their results are there. It is the only place, with
// the syncer's, where blocks are committed, and both go through commit.
func (g *Group) storeFinal() error {
	for len(g.final) > 0 && g.stopped.Load() == nil {
		f := g.final[0]
		st := f.Certificate.Statement
		if st.Kind != g.cfg.Finality {
			return fmt.Errorf("the consensus engine made block %d final by a %s", st.Height, st.Kind)
		}
		if st.Height <= g.head.Order.Height { // fetched meanwhile
			g.final = g.final[1:]
			continue
		}
		if err := g.checkCertificate(nobody, &f.Certificate); err != nil {
			return fmt.Errorf("the consensus engine made block %d final: %w", st.Height, err)
		}
		p := g.proposals[st.Order]
		if p == nil || !p.valid {
			g.needSync(st.Height, f.Certificate.Members()[0])
			return nil
		}
		if p.result == nil || p.base != g.cfg.Store.Head() {
			g.run(p)
			return nil
		}
		raws := make([][]byte, len(p.txs))
		for i, tx := range p.txs {
			raws[i] = tx.Raw
		}
		block := &ledger.Block{Version: ledger.Version, Header: *p.result.Header(), Txs: raws, Certificate: f.Certificate}
		if want := p.order.NewView; !want.IsZero() {
			if f.NewView == nil || f.NewView.Digest(g.cfg.Suite) != want {
				return fmt.Errorf("the consensus engine made block %d final without the new-view that it names", st.Height)
			}
			block.NewView = f.NewView
		}
		g.final = g.final[1:]
		if err := g.commit(block, p.result, p.txs); err != nil {
			return err
		}
		overtaken := int64(0)
		if since := g.cfg.Pool.Oldest(&g.epoch.Params, g.head.Order.UnixMilli); since > 0 {
			overtaken = max(p.latest-since, 0)
		}
		g.events = append(g.events, consensus.Stored{Head: g.head, Epoch: g.begun(), Overtaken: overtaken})
	}
	return nil
}

// commit makes a final block durable and tells everybody. It is the one gate for blocks that were agreed on
// here and blocks that came from others.
func (g *Group) commit(block *ledger.Block, result *state.Snapshot, txs []*ledger.SignedTx) error {
	if own := result.Hash(); block.Certificate.Statement.Block != own {
		return fmt.Errorf("%w: height %d: own block hash %s, certified %s. Stop this node, keep its data for the "+
			"inquiry, and let it start again from an empty folder", ErrDiverged, block.Header.Order.Height, own, block.Certificate.Statement.Block)
	}
	if err := g.cfg.Anchor.check(block.Header.Order.Height, result.Hash()); err != nil {
		return err
	}
	if err := g.cfg.Store.Commit(block, result); err != nil {
		return fmt.Errorf("commit block %d: %w", block.Header.Order.Height, err)
	}
	g.head = consensus.Head{Order: block.Header.Order, Block: result.Hash(), Certificate: block.Certificate}
	height := g.head.Order.Height
	if int64(g.head.Order.Proposer) == int64(g.number) {
		g.pace.stored(&g.head.Order, g.env.Now(), &g.epoch.Params)
	}
	expired := g.cfg.Pool.Committed(txs, g.head.Order.UnixMilli)
	for _, p := range g.proposals {
		if p.order.Height <= height {
			g.forget(p)
		}
	}
	g.journal.stored(height)
	g.release()
	for _, id := range expired {
		g.expired.add(id)
		if g.cfg.Trace.Dropped != nil {
			g.cfg.Trace.Dropped(id, mempool.ErrExpired)
		}
	}
	g.retries = 0
	if g.head.Order.Barrier {
		if err := g.nextEpoch(); err != nil {
			return err
		}
	}
	g.phase("stored", height, block.Certificate.Statement.View, block.Certificate.Statement.Order)
	if g.cfg.Trace.Finalized != nil {
		receipts, err := g.cfg.Store.Receipts(height)
		if err != nil {
			return fmt.Errorf("read back the receipts of block %d: %w", height, err)
		}
		g.cfg.Trace.Finalized(block, receipts, txs)
	}
	g.takeUp(g.headHash()) // it may have come from elsewhere
	g.tellPending()
	g.publish()
	g.mu.Lock()
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
	return nil
}

func (g *Group) serveLeaves(request []byte) ([]byte, error) {
	if len(request) != keys.DigestSize {
		return nil, fmt.Errorf("a request for leaves has %d bytes, want %d", len(request), keys.DigestSize)
	}
	leaves := g.leavesOf(keys.Digest(request))
	if leaves == nil {
		return nil, fmt.Errorf("no leaves of root %x here", request)
	}
	return ledger.Marshal(leaves)
}

// serveBodies replies with as many of the transactions as are here and fit.
func (g *Group) serveBodies(request []byte) ([]byte, error) {
	var leaves []keys.Digest
	if err := ledger.Unmarshal(request, &leaves); err != nil {
		return nil, fmt.Errorf("request for bodies: %w", err)
	}
	if len(leaves) > int(g.epoch.Params.BlockTxs) {
		return nil, fmt.Errorf("request for %d bodies, at most %d", len(leaves), g.epoch.Params.BlockTxs)
	}
	txs, _ := g.cfg.Pool.Find(leaves)
	for i, tx := range txs {
		if tx == nil {
			txs[i] = g.bodies[leaves[i]]
		}
	}
	raws := [][]byte{}
	size := 0
	for _, tx := range txs {
		if tx == nil {
			continue
		}
		if size += len(tx.Raw); size > maxBodies && len(raws) > 0 {
			break
		}
		raws = append(raws, tx.Raw)
	}
	return ledger.Marshal(raws)
}
