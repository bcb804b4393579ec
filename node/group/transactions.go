package group

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	// checkBatch is how many transactions are checked together: batch verification pays up to about 1,024.
	checkBatch = 512
	// checkWorkers is how many batches are checked at once.
	checkWorkers = 2
	// maxPreparing is how many modules of deployments may be compiled ahead of their blocks at once.
	maxPreparing = 4
	// maxUnprepared is how many deployments of each other member's clients may wait for that, of maxInboxBytes together.
	maxUnprepared = 4
	// maxInbox and maxInboxBytes bound what waits to be checked.
	maxInbox      = 20_000
	maxInboxBytes = 64 << 20
	// gossipDelay is how long, in ms, transactions wait for company before they are sent to the other members.
	gossipDelay = 2
	// gossipBytes bounds one message of transactions, unless the first alone is larger.
	gossipBytes = 128 << 10
	// maxInboxShare is how much of the inbox, one part of it, the transactions from one member may take.
	maxInboxShare = 4
	// resendAfter is how long, in ms, a transaction waits before the leader is sent it again.
	resendAfter = 500
	// resendBytes is how much the leader is sent again at once, twice a second, at first, and maxResend at most.
	resendBytes = 32 << 10
	maxResend   = 1 << 20
	// pendingPulse is how often, in ms, the engine hears of a pool that stays filled.
	pendingPulse = 500
)

// incoming is an encoded transaction on its way to the pool.
type incoming struct {
	raw     []byte
	arrival mempool.Arrival
	done    func(ledger.TxID, error) // nil for gossip
	shown   bool                     // the other members got it before it was known what becomes of it
	from    uint32                   // the member, for gossip
	sender  *sender                  // its place, for gossip
}

// ErrUncertain says that a transaction is not in this node's pool, but may be in a block or become part of one: other
// members have it, or this node cannot tell. Ask for it by its id, or send the same bytes again.
var ErrUncertain = errors.New("the chain may have taken the transaction, this node's pool has not")

// Submitted is what became of a transaction that a client sent.
type Submitted struct {
	ID  ledger.TxID // zero when the bytes were not looked at, or are no transaction
	Err error       // nil, mempool.ErrKnown included: it waits in the pool
}

// Submit takes encoded transactions of clients into the pool and sends them to the other members. It takes as many, the first
// ones, as there is room for; the others it does not look at and answers with a *mempool.OverloadError. It returns
// what became of each when all were checked; acceptance is no promise of a block. If ctx ends before, some of them
// may be taken later. Methods for any goroutine.
func (g *Group) Submit(ctx context.Context, raws [][]byte) ([]Submitted, error) {
	if err := g.Stopped(); err != nil {
		return nil, err
	}
	status := g.Status()
	takers := max(len(status.Nodes), len(status.Epoch.Members)) // observers take transactions of clients too
	admitted, arrival, wait := g.cfg.Pool.Admit(len(raws), takers, &status.Epoch.Params, g.env.Now())
	results := make([]Submitted, len(raws))
	if admitted < len(raws) {
		refused := &mempool.OverloadError{Wait: wait}
		for i := admitted; i < len(raws); i++ {
			results[i].Err = refused
		}
	}
	if admitted == 0 {
		return results, nil
	}
	finished := make(chan struct{})
	posted := g.env.Post(func() {
		left := admitted
		for i, raw := range raws[:admitted] {
			g.enqueue(incoming{raw: raw, arrival: arrival, done: func(id ledger.TxID, err error) {
				results[i] = Submitted{id, err}
				if left--; left == 0 {
					close(finished)
				}
			}})
		}
		g.checkInbox()
	})
	if !posted {
		g.cfg.Pool.Settle(arrival, admitted, false)
		return nil, ErrStopped
	}
	select {
	case <-finished:
		return results, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Offer is Submit of one transaction on the loop, whether there is room or not; done runs there, once, when it was checked.
func (g *Group) Offer(raw []byte, done func(ledger.TxID, error)) {
	g.enqueue(incoming{raw: raw, arrival: g.cfg.Pool.Enter(true, g.env.Now()), done: done})
	g.checkInbox()
}

// receiveTransactions takes transactions that another member had from its clients.
func (g *Group) receiveTransactions(from uint32, data []byte) error {
	var raws [][]byte
	if err := ledger.Unmarshal(data, &raws); err != nil {
		return breaks(RuleMalformed, "transactions: %w", err)
	}
	for _, raw := range raws {
		if g.senders[from].inbox >= maxInbox/maxInboxShare || g.inBytes > maxInboxBytes-maxInboxBytes/maxInboxShare {
			break
		}
		g.enqueue(incoming{raw: raw, arrival: g.cfg.Pool.Enter(false, g.env.Now()), from: from, sender: g.senders[from]})
	}
	g.checkInbox()
	return nil
}

func (g *Group) enqueue(in incoming) {
	err := g.Stopped()
	if err == nil && (len(g.inbox) >= maxInbox || g.inBytes+len(in.raw) > maxInboxBytes) {
		err = ErrBusy
	}
	if err != nil {
		g.answer(in, ledger.TxID{}, err)
		return
	}
	if in.done == nil {
		in.sender.inbox++
	}
	g.inbox = append(g.inbox, in)
	g.inBytes += len(in.raw)
}

// checkInbox checks form and signatures of what waits, in batches off the loop.
func (g *Group) checkInbox() {
	for g.checking < checkWorkers && len(g.inbox) > 0 {
		n := min(len(g.inbox), checkBatch)
		batch := g.inbox[:n:n]
		if g.inbox = g.inbox[n:]; len(g.inbox) == 0 {
			g.inbox = nil
		}
		for _, in := range batch {
			g.inBytes -= len(in.raw)
			if in.done == nil {
				in.sender.inbox--
			}
		}
		g.checking++
		base, params := g.cfg.Store.Head(), g.epoch.Params
		g.env.Go(func() func() {
			txs := make([]*ledger.SignedTx, n)
			errs := make([]error, n)
			modules := map[int]keys.Digest{} // that transactions deploy
			var fresh []*ledger.SignedTx
			var place []int
			for i, in := range batch {
				tx, err := ledger.DecodeTx(g.cfg.Suite, in.raw)
				if err == nil {
					txs[i] = tx
					err = g.wellFormed(&params, tx)
				}
				if err == nil {
					if _, known := g.cfg.Pool.Pending(tx.ID); known {
						err = mempool.ErrKnown
					} else if g.cfg.Pool.Seen(tx.ID) {
						err = mempool.ErrCommitted
					} else if in.done != nil && g.cfg.Pool.Crowds(tx.Sender) { // before its signatures cost anything
						err = mempool.ErrCrowded
					}
				}
				if err == nil {
					err = g.cfg.Executor.Admit(base, tx)
				}
				if errs[i] = err; err == nil {
					fresh = append(fresh, tx)
					place = append(place, i)
				}
			}
			for j, ok := range ledger.CheckBatch(g.cfg.Suite, fresh) {
				if !ok {
					errs[place[j]] = fresh[j].CheckSignatures(g.cfg.Suite) // says which one
				} else if module, ok := g.cfg.Executor.Deploys(fresh[j]); ok {
					modules[place[j]] = module
				}
			}
			return func() {
				g.checking--
				g.admit(batch, txs, errs, modules)
				g.checkInbox()
			}
		})
	}
}

func (g *Group) admit(batch []incoming, txs []*ledger.SignedTx, errs []error, modules map[int]keys.Digest) {
	for i, in := range batch {
		if module, ok := modules[i]; ok && errs[i] == nil {
			g.prepare(in, txs[i], module)
		} else if g.add(in, txs[i], errs[i]) && in.done != nil {
			g.gossip = append(g.gossip, txs[i])
		}
	}
	g.complete()
	if len(g.gossip) > 0 && g.gossipAt == nil {
		g.gossipAt = g.env.After(gossipDelay, func() {
			g.gossipAt = nil
			txs := g.gossip
			g.gossip = nil
			g.sendTransactions(txs, func(member int) bool { return true })
		})
	}
	g.tellPending()
}

// errPreparing says that the same transaction came before, and that the VM takes up what it deploys.
var errPreparing = errors.New("its module is being compiled")

// preparation is a module that the VM takes up or is to take up, for a transaction that deploys it.
type preparation struct {
	in     incoming
	tx     *ledger.SignedTx
	module keys.Digest
}

// prepare sends a transaction that deploys a module to the others before the VM takes up the module here, so that all
// do that at the same time, and puts it into the pool after. A node whose pool had it seconds before the leader's
// would think that the leader is not working. A module has one place, whoever deploys it how often.
//
// What clients of other members deploy waits for a place, as it has one there: dropped, it would come again half a second later, and
// the leader have it too late.
func (g *Group) prepare(in incoming, tx *ledger.SignedTx, module keys.Digest) {
	p := g.preparing[module]
	if p == nil || p.tx.ID != tx.ID {
		if i := slices.IndexFunc(g.unprepared, func(w *preparation) bool { return w.tx.ID == tx.ID }); i >= 0 {
			p = g.unprepared[i]
		}
	}
	_, known := g.cfg.Pool.Pending(tx.ID)
	switch free := g.preparing[module] == nil && len(g.preparing) < maxPreparing; {
	case known || g.cfg.Pool.Seen(tx.ID): // it came from others since it was checked
		g.add(in, tx, nil)
	case p != nil && p.tx.ID == tx.ID: // a copy that waited too would keep a place in the line
		in.shown = true
		g.answer(in, tx.ID, errPreparing)
	case free:
		in.shown = true
		if in.done != nil {
			g.gossip = append(g.gossip, tx)
		}
		g.beginPreparing(&preparation{in: in, tx: tx, module: module})
	case in.done != nil || in.sender.unprepared >= maxUnprepared || g.unpreparedBytes+len(tx.Raw) > maxInboxBytes:
		g.add(in, tx, ErrBusy)
	default:
		in.sender.unprepared++
		g.unpreparedBytes += len(tx.Raw)
		g.unprepared = append(g.unprepared, &preparation{in: in, tx: tx, module: module})
	}
}

// beginPreparing gives a preparation its place, and when it is done to the first that can have it.
func (g *Group) beginPreparing(p *preparation) {
	g.preparing[p.module] = p
	g.env.Go(func() func() {
		err := g.cfg.Executor.Prepare(context.Background(), p.tx)
		if err != nil {
			err = fmt.Errorf("prepare the transaction: %w", err)
		}
		return func() {
			delete(g.preparing, p.module)
			g.add(p.in, p.tx, err)
			g.tellPending()
			i := slices.IndexFunc(g.unprepared, func(w *preparation) bool { return g.preparing[w.module] == nil })
			if i < 0 {
				return
			}
			next := g.unprepared[i]
			g.unprepared = slices.Delete(g.unprepared, i, i+1)
			next.in.sender.unprepared--
			g.unpreparedBytes -= len(next.tx.Raw)
			g.beginPreparing(next)
		}
	})
}

// add puts a checked transaction into the pool, unless err says why not, and answers its sender.
func (g *Group) add(in incoming, tx *ledger.SignedTx, err error) bool {
	if err == nil {
		if again, lookup := g.committed(tx); lookup != nil {
			err = fmt.Errorf("%w: %w", ErrUncertain, lookup) // it may be in a block
		} else if again {
			err = mempool.ErrCommitted
		}
	}
	if err == nil {
		err = g.cfg.Pool.Add(tx, g.env.Now(), g.epoch.Params.MaxLifetime, in.arrival)
	}
	if err == nil && g.cfg.Trace.Admitted != nil {
		g.cfg.Trace.Admitted(tx, in.done != nil)
	}
	if denied, ok := errors.AsType[*precompiles.Error](err); ok && in.done != nil && g.cfg.Trace.Denied != nil {
		g.cfg.Trace.Denied(tx, denied)
	}
	var id ledger.TxID
	if tx != nil {
		id = tx.ID
	}
	g.answer(in, id, err)
	return err == nil
}

// answer says what became of a transaction that is no longer on its way to the pool.
func (g *Group) answer(in incoming, id ledger.TxID, err error) {
	g.cfg.Pool.Settle(in.arrival, 1, err == nil)
	if in.done == nil {
		return
	}
	if in.shown && err != nil && !errors.Is(err, mempool.ErrKnown) && !errors.Is(err, mempool.ErrCommitted) && !errors.Is(err, ErrUncertain) {
		err = fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	in.done(id, err)
}

// sendTransactions sends transactions to the members that to picks.
func (g *Group) sendTransactions(txs []*ledger.SignedTx, to func(member int) bool) {
	for len(txs) > 0 {
		raws := [][]byte{}
		size := 0
		for _, tx := range txs {
			if size += len(tx.Raw); size > gossipBytes && len(raws) > 0 {
				break
			}
			raws = append(raws, tx.Raw)
		}
		txs = txs[len(raws):]
		message := mustMarshal(raws)
		for i, m := range g.epoch.Members {
			if int32(i) != g.number && to(i) {
				g.env.Send(m.Node, Transactions, message)
			}
		}
	}
}

// tellPending keeps the engine informed of the pool: when it fills, when it empties, and twice a second between.
func (g *Group) tellPending() {
	if count := g.waiting(1); (count == 0) != (g.pending.told == 0) {
		g.pendingEvent()
	}
}

// waiting counts the transactions that a block could include now. What has expired by the clock does not count,
// though it may stay in the pool until the next block: nobody can make progress with it.
func (g *Group) waiting(limit int) (count int) {
	for {
		count, oldest := g.cfg.Pool.Waiting(&g.epoch.Params, g.env.Now(), limit)
		if oldest == nil || !g.cfg.Executor.Barrier(oldest) {
			return count
		}
		// The verdict may change with the clock as well as with the head, and costs too much for each transaction that comes.
		f, now := &g.ending, g.env.Now()
		if f.tx == oldest && f.head == g.headHash() && f.at <= now && now < f.at+pendingPulse {
			return count
		}
		if !g.dropBarren(oldest) {
			f.tx, f.head, f.at = oldest, g.headHash(), now
			return count
		}
	}
}

func (g *Group) pendingEvent() {
	count := g.waiting(int(g.epoch.Params.BlockTxs))
	g.pending.told = uint32(count)
	if count > 0 {
		if !g.pending.pulse { // blocks that the leader fills with others do not put it off
			g.pending.pulse = true
			g.env.After(pendingPulse, func() {
				g.pending.pulse = false
				if g.stopped.Load() == nil {
					g.pendingEvent()
					g.resend()
				}
			})
		}
	}
	g.events = append(g.events, consensus.Pending{Count: uint32(count)})
}

// resent is what a leader was sent again last.
type resent struct {
	leader uint32
	room   int // bytes
	txs    []*ledger.SignedTx
}

// everyMember stands for the leader on an observer, which does not hear who leads.
const everyMember = math.MaxUint32

// resend gives the leader what it seems to lack. A leader that started again lacks all that waits; one that has more to
// do than it can lacks nothing, and a link may carry little. So the room doubles while all that was sent last is in blocks.
func (g *Group) resend() {
	if g.down {
		return
	}
	leader := uint32(everyMember)
	if g.number >= 0 {
		at := g.engine.Status().Leader
		if at < 0 || at == g.number {
			return
		}
		leader = uint32(at)
	}
	last := &g.resent
	room := resendBytes
	if last.leader == leader && len(last.txs) > 0 && g.cfg.Pool.Proposed(last.txs) {
		room = min(2*last.room, maxResend)
	}
	*last = resent{leader, room, g.cfg.Pool.Forward(leader, g.env.Now(), resendAfter, g.idle(), room)}
	g.sendTransactions(last.txs, func(member int) bool { return leader == everyMember || uint32(member) == leader })
}

// idle reports whether no block is under way. Only a member that is not behind knows.
func (g *Group) idle() bool {
	if g.number < 0 || g.sync.active {
		return false
	}
	for _, p := range g.proposals {
		if !p.aside {
			return false
		}
	}
	return true
}

// IsRefusal reports whether an error of Submit is about the transaction, so that sending it again is no use.
func IsRefusal(err error) bool {
	if _, overload := errors.AsType[*mempool.OverloadError](err); overload || err == nil {
		return false
	}
	for _, passing := range []error{ErrBusy, ErrStopped, ErrUncertain, mempool.ErrFull, mempool.ErrCrowded} {
		if errors.Is(err, passing) {
			return false
		}
	}
	return true
}
