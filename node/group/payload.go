package group

import (
	"context"
	"fmt"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	fetchRetry  = 250     // ms after which missing transactions are asked of the next member
	maxBodies   = 2 << 20 // bytes of transactions in one reply, unless the first alone is larger
	maxUnstored = 256     // proposals kept at once
)

// proposal is a block on its way: proposed, and not stored yet.
type proposal struct {
	order   ledger.Order
	hash    keys.Digest
	ask     *consensus.CheckPayload // the engine waits for the answer
	valid   bool                    // checked, and its bodies are in the journal
	leaves  []keys.Digest
	txs     []*ledger.SignedTx // in order; nil where missing
	missing int
	asked   uint32 // members asked for what is missing
	retry   func() // cancels the next attempt
	wanted  bool   // the engine asked for its execution
	running bool
	result  *state.Snapshot
}

// restorePayloads makes the bodies in the journal available to proposals that come again after a restart.
func (g *Group) restorePayloads() {
	g.journal.stored(g.head.Order.Height)
	for _, p := range g.journal.payloads {
		leaves := make([]keys.Digest, 0, len(p.Txs))
		for _, raw := range p.Txs {
			tx, err := ledger.DecodeTx(g.cfg.Suite, raw)
			if err != nil {
				continue // it was checked before it was written; a proposal that needs it fetches it
			}
			g.bodies[tx.Leaf] = tx
			leaves = append(leaves, tx.Leaf)
		}
		g.keepLeaves(p.TxRoot, leaves)
	}
}

// build answers BuildPayload from the pool.
func (g *Group) build(e consensus.BuildPayload) {
	built := consensus.Built{Parent: e.Parent}
	defer func() { g.events = append(g.events, built) }()
	parentTime, ancestors, ok := g.ancestry(e.Parent)
	if !ok {
		return
	}
	at := max(g.env.Now(), parentTime+1)
	txs := g.cfg.Pool.Select(&g.epoch.Params, at, func(id ledger.TxID) bool {
		_, taken := ancestors[id]
		return taken
	})
	if len(txs) == 0 {
		return
	}
	payload := consensus.Payload{TxCount: uint32(len(txs)), UnixMilli: at}
	leaves := make([]keys.Digest, len(txs))
	for i, tx := range txs {
		leaves[i] = tx.Leaf
		payload.TxBytes += uint64(len(tx.Raw))
		payload.GasLimit += tx.GasLimit
	}
	payload.TxRoot = ledger.Root(g.cfg.Suite, leaves)
	g.keepLeaves(payload.TxRoot, leaves)
	built.Payload = payload
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
	p := g.proposals[hash]
	if p == nil {
		if len(g.proposals) >= maxUnstored {
			return // the engine follows few blocks at once; this bounds a broken one
		}
		p = &proposal{order: e.Order, hash: hash}
		g.proposals[hash] = p
	}
	if p.valid {
		g.events = append(g.events, consensus.Checked{Order: hash, Valid: true})
		return
	}
	p.ask = &e
	p.asked = 0
	g.gather(p)
}

// gather collects a proposal's transactions from pool and journal, asks other members for the rest, and answers
// the engine when all are there.
func (g *Group) gather(p *proposal) {
	if p.retry != nil {
		p.retry()
		p.retry = nil
	}
	if p.leaves == nil {
		p.leaves = g.leaves[p.order.TxRoot]
	}
	if p.leaves == nil {
		g.askFor(p, Leaves, p.order.TxRoot[:], g.tookLeaves)
		return
	}
	if p.txs == nil {
		p.txs = make([]*ledger.SignedTx, len(p.leaves))
		p.missing = len(p.leaves)
	}
	if p.missing > 0 {
		found, _ := g.cfg.Pool.Find(p.leaves)
		for i, tx := range found {
			if tx == nil {
				tx = g.bodies[p.leaves[i]]
			}
			if tx != nil && p.txs[i] == nil {
				p.txs[i] = tx
				p.missing--
			}
		}
	}
	if p.missing > 0 {
		var want []keys.Digest
		for i, tx := range p.txs {
			if tx == nil {
				want = append(want, p.leaves[i])
			}
		}
		g.askFor(p, Bodies, mustMarshal(want), g.tookBodies)
		return
	}
	g.judge(p)
}

// askFor sends a request to the proposer, and on later attempts to the other members in turn.
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
	p.retry = g.env.After(fetchRetry, func() {
		p.retry = nil
		g.gather(p)
	})
	g.env.Request(g.epoch.Members[to].Node, protocol, request, func(reply []byte, err error) {
		if g.proposals[p.hash] != p || p.valid || p.ask == nil {
			return
		}
		if err == nil {
			err = took(p, reply)
		}
		if err != nil {
			g.log.Debug().Err(err).Uint32("member", to).Uint64("height", uint64(p.order.Height)).Msg("payload not received; the next member is asked")
		}
	})
}

func (g *Group) tookLeaves(p *proposal, reply []byte) error {
	var leaves []keys.Digest
	if err := ledger.Unmarshal(reply, &leaves); err != nil {
		return fmt.Errorf("leaves: %w", err)
	}
	if uint32(len(leaves)) != p.order.TxCount || ledger.Root(g.cfg.Suite, leaves) != p.order.TxRoot {
		return fmt.Errorf("leaves: they are not those of root %s", p.order.TxRoot)
	}
	g.keepLeaves(p.order.TxRoot, leaves)
	p.asked = 0
	g.gather(p)
	return nil
}

// tookBodies checks fetched transactions off the loop, for they were in no pool here.
func (g *Group) tookBodies(p *proposal, reply []byte) error {
	var raws [][]byte
	if err := ledger.Unmarshal(reply, &raws); err != nil {
		return fmt.Errorf("bodies: %w", err)
	}
	if len(raws) == 0 {
		return fmt.Errorf("bodies: the member has none of them")
	}
	suite := g.cfg.Suite
	g.env.Go(func() func() {
		var txs []*ledger.SignedTx
		for _, raw := range raws {
			if tx, err := ledger.DecodeTx(suite, raw); err == nil {
				txs = append(txs, tx)
			}
		}
		verdicts := ledger.CheckBatch(suite, txs)
		return func() {
			byLeaf := make(map[keys.Digest]*ledger.SignedTx, len(txs))
			for i, tx := range txs {
				if verdicts[i] {
					byLeaf[tx.Leaf] = tx
				}
			}
			took := 0
			for i, leaf := range p.leaves {
				if tx := byLeaf[leaf]; tx != nil && p.txs[i] == nil {
					p.txs[i] = tx
					p.missing--
					took++
				}
			}
			if took > 0 && g.proposals[p.hash] == p && !p.valid && p.ask != nil {
				p.asked = 0
				g.gather(p)
			}
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
	p.ask = nil
	if err := g.valid(p, ask); err != nil {
		g.log.Warn().Err(err).Uint64("height", uint64(p.order.Height)).Uint32("proposer", p.order.Proposer).Msg("proposal refused")
		delete(g.proposals, p.hash)
		g.events = append(g.events, consensus.Checked{Order: p.hash})
		return
	}
	p.valid = true
	raws := make([][]byte, len(p.txs))
	for i, tx := range p.txs {
		raws[i] = tx.Raw
	}
	g.journal.addPayload(payload{Height: p.order.Height, TxRoot: p.order.TxRoot, Txs: raws})
	g.events = append(g.events, consensus.Checked{Order: p.hash, Valid: true})
	for _, child := range g.children(p.hash) {
		if child.ask != nil {
			g.gather(child)
		}
	}
}

// children returns the proposals on a block, in a fixed order.
func (g *Group) children(parent keys.Digest) []*proposal {
	var found []*proposal
	for _, p := range g.proposals {
		if p.order.Parent == parent {
			found = append(found, p)
		}
	}
	sortByHash(found)
	return found
}

// valid checks a complete proposal against the rules of block validity. All but the clock's are the same on
// every node.
func (g *Group) valid(p *proposal, ask *consensus.CheckPayload) error {
	o := &p.order
	params := &g.epoch.Params
	parentTime, ancestors, _ := g.ancestry(o.Parent)
	skew := params.ClockSkew << min(ask.Widen, 3)
	ahead := o.UnixMilli - g.env.Now()
	switch {
	case o.Version != ledger.Version || o.Chain != g.cfg.Chain || o.Group != g.cfg.Group || o.Epoch != g.epoch.Number:
		return fmt.Errorf("order of chain %s group %s epoch %d version %d", o.Chain.Short(), o.Group, o.Epoch, o.Version)
	case int(o.Proposer) >= len(g.epoch.Members):
		return fmt.Errorf("proposer %d of %d members", o.Proposer, len(g.epoch.Members))
	case o.Barrier:
		return fmt.Errorf("a block that ends its epoch, which none of its transactions does")
	case o.UnixMilli <= parentTime:
		return fmt.Errorf("block time %d is not after the parent's %d", o.UnixMilli, parentTime)
	case !ask.Seen && (ahead > skew || ahead < -skew):
		return fmt.Errorf("block time is %d ms from this node's clock, at most %d: check the clocks of both nodes", ahead, skew)
	case o.TxCount == 0 || o.TxCount > params.BlockTxs || o.TxBytes > params.BlockBytes || o.GasLimit > params.BlockGas:
		return fmt.Errorf("%d transactions of %d bytes and %d gas exceed the block's limits", o.TxCount, o.TxBytes, o.GasLimit)
	}
	return g.validTransactions(o, p.txs, func(id ledger.TxID) bool {
		_, taken := ancestors[id]
		return taken
	})
}

// validTransactions checks the transactions of a block that are in order, on a parent whose ids taken knows.
func (g *Group) validTransactions(o *ledger.Order, txs []*ledger.SignedTx, taken func(ledger.TxID) bool) error {
	params := &g.epoch.Params
	var (
		bytes uint64
		gas   ledger.Gas
		here  = make(map[ledger.TxID]struct{}, len(txs))
	)
	for i, tx := range txs {
		bytes += uint64(len(tx.Raw))
		gas += tx.GasLimit
		_, twice := here[tx.ID]
		here[tx.ID] = struct{}{}
		if err := g.wellFormed(params, tx); err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
		switch {
		case tx.Expiry < o.UnixMilli || tx.Expiry > o.UnixMilli+params.MaxLifetime:
			return fmt.Errorf("transaction %d: expiry %d does not suit block time %d", i, tx.Expiry, o.UnixMilli)
		case twice || taken(tx.ID):
			return fmt.Errorf("transaction %d: %s comes twice", i, tx.ID)
		}
		again, err := g.committed(tx)
		if err != nil {
			return err
		}
		if again {
			return fmt.Errorf("transaction %d: %s is in a block already", i, tx.ID)
		}
	}
	if bytes != o.TxBytes || gas != o.GasLimit {
		return fmt.Errorf("the order claims %d bytes and %d gas, its transactions have %d and %d", o.TxBytes, o.GasLimit, bytes, gas)
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
	case len(tx.Raw) > limit:
		return fmt.Errorf("it has %d bytes, a transaction to this target at most %d", len(tx.Raw), limit)
	case tx.GasLimit == 0 || tx.GasLimit > params.TxGas:
		return fmt.Errorf("its gas limit is %d, want 1 to %d", tx.GasLimit, params.TxGas)
	}
	return nil
}

// committed reports whether a transaction is in a block. The pool knows the ids since the start of the node;
// only a transaction that lived before then is looked up on disk.
func (g *Group) committed(tx *ledger.SignedTx) (bool, error) {
	if g.cfg.Pool.Seen(tx.ID) {
		return true, nil
	}
	if tx.Expiry-g.epoch.Params.MaxLifetime > g.started {
		return false, nil
	}
	_, _, found, err := g.cfg.Store.FindTx(tx.ID)
	if err != nil {
		return false, fmt.Errorf("look up transaction %s: %w", tx.ID, err)
	}
	return found, nil
}

// execute computes a block's result off the loop, or answers from the cache.
func (g *Group) execute(hash keys.Digest) error {
	if hash == g.headHash() {
		g.events = append(g.events, consensus.Executed{Order: hash, Block: g.head.Block})
		return nil
	}
	p := g.proposals[hash]
	if p == nil || !p.valid {
		return fmt.Errorf("the consensus engine asked to execute %s, which was not found valid", hash.Short())
	}
	p.wanted = true
	g.run(p)
	return nil
}

// run executes a valid proposal when its parent's result is there.
func (g *Group) run(p *proposal) {
	if p.running {
		return
	}
	if p.result != nil {
		if p.wanted {
			p.wanted = false
			g.events = append(g.events, consensus.Executed{Order: p.hash, Block: p.result.Hash()})
		}
		return
	}
	base := g.cfg.Store.Head()
	if p.order.Parent != g.headHash() {
		parent := g.proposals[p.order.Parent]
		if parent == nil || parent.result == nil {
			return // run again when the parent has its result
		}
		base = parent.result
	}
	p.running = true
	g.env.Go(func() func() {
		result, err := g.cfg.Executor.Execute(context.Background(), base, &p.order, p.txs)
		return func() {
			p.running = false
			if err != nil {
				g.fail(fmt.Errorf("execute block %d: %w", p.order.Height, err))
				return
			}
			if g.proposals[p.hash] != p {
				return
			}
			p.result = result
			g.phase("executed", p.order.Height, 0, p.hash)
			g.run(p)
			for _, child := range g.children(p.hash) {
				if child.wanted {
					g.run(child)
				}
			}
			if err := g.storeFinal(); err != nil {
				g.fail(err)
			}
		}
	})
}

// abandon forgets a proposal. Its transactions never left the pool.
func (g *Group) abandon(hash keys.Digest) {
	if p := g.proposals[hash]; p != nil {
		if p.retry != nil {
			p.retry()
		}
		delete(g.proposals, hash)
	}
}

// storeFinal stores decided blocks, in order, as far as their results are there. It is the only place, with
// the syncer's, where blocks are committed, and both go through commit.
func (g *Group) storeFinal() error {
	for len(g.final) > 0 {
		f := g.final[0]
		for i, hash := range f.Orders {
			p := g.proposals[hash]
			if p == nil {
				if hash != g.headHash() && f.Certificate.Statement.Height > g.head.Order.Height {
					g.needSync(f.Certificate.Statement.Height, f.Certificate.Members()[0])
				}
				continue
			}
			if p.order.Height <= g.head.Order.Height {
				continue
			}
			if p.result == nil {
				if p.valid {
					g.run(p)
				} else {
					g.needSync(f.Certificate.Statement.Height, f.Certificate.Members()[0])
				}
				return nil
			}
			if i < len(f.Orders)-1 {
				return fmt.Errorf("block %d has no certificate of its own, which window %d must not lead to", p.order.Height, g.epoch.Params.Window)
			}
			raws := make([][]byte, len(p.txs))
			for i, tx := range p.txs {
				raws[i] = tx.Raw
			}
			block := &ledger.Block{Version: ledger.Version, Header: *p.result.Header(), Txs: raws, Certificate: f.Certificate}
			for n := range f.NewViews {
				if f.NewViews[n].Digest(g.cfg.Suite) == p.order.NewView {
					block.NewView = &f.NewViews[n]
				}
			}
			if err := g.commit(block, p.result, p.txs); err != nil {
				return err
			}
			g.events = append(g.events, consensus.Stored{Head: g.head})
		}
		g.final = g.final[1:]
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
	if err := g.cfg.Store.Commit(block, result); err != nil {
		return fmt.Errorf("commit block %d: %w", block.Header.Order.Height, err)
	}
	g.head = consensus.Head{Order: block.Header.Order, Block: result.Hash(), Certificate: block.Certificate}
	height := g.head.Order.Height
	for hash, p := range g.proposals {
		if p.order.Height <= height {
			g.abandon(hash)
		}
	}
	for _, tx := range txs {
		delete(g.bodies, tx.Leaf)
	}
	g.journal.stored(height)
	for _, id := range g.cfg.Pool.Committed(txs, g.head.Order.UnixMilli) {
		g.expired.add(id)
		if g.cfg.Trace.Dropped != nil {
			g.cfg.Trace.Dropped(id, mempool.ErrExpired)
		}
	}
	g.retries = 0
	g.phase("stored", height, block.Certificate.Statement.View, block.Certificate.Statement.Order)
	if g.cfg.Trace.Finalized != nil {
		g.cfg.Trace.Finalized(block, result.Result().Receipts, txs)
	}
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
	leaves := g.leaves[keys.Digest(request)]
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
	txs, missing := g.cfg.Pool.Find(leaves)
	if missing > 0 {
		held := map[keys.Digest]*ledger.SignedTx{}
		for _, p := range g.proposals {
			for _, tx := range p.txs {
				if tx != nil {
					held[tx.Leaf] = tx
				}
			}
		}
		for i, tx := range txs {
			if tx == nil {
				if txs[i] = held[leaves[i]]; txs[i] == nil {
					txs[i] = g.bodies[leaves[i]]
				}
			}
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
