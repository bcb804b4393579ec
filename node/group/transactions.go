package group

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	// checkBatch is how many transactions are checked together: batch verification pays up to about 1,024.
	checkBatch = 512
	// checkWorkers is how many batches are checked at once.
	checkWorkers = 2
	// maxPreparing is how many deployments may be compiled ahead of their blocks at once.
	maxPreparing = 4
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
	raw    []byte
	done   func(ledger.TxID, error) // nil for gossip
	from   uint32                   // the member, for gossip
	sender *sender                  // its place, for gossip
}

// Submitted is what became of a transaction that a client sent.
type Submitted struct {
	ID  ledger.TxID // zero when the bytes are no transaction
	Err error       // nil, mempool.ErrKnown included: it waits in the pool
}

// Submit takes encoded transactions of clients into the pool and sends them to the other members. It returns
// what became of each when all were checked; acceptance is no promise of a block. Methods for any goroutine.
func (g *Group) Submit(ctx context.Context, raws [][]byte) ([]Submitted, error) {
	if err := g.Stopped(); err != nil {
		return nil, err
	}
	results := make([]Submitted, len(raws))
	finished := make(chan struct{})
	posted := g.env.Post(func() {
		left := len(raws)
		if left == 0 {
			close(finished)
		}
		for i, raw := range raws {
			g.enqueue(incoming{raw: raw, done: func(id ledger.TxID, err error) {
				results[i] = Submitted{id, err}
				if left--; left == 0 {
					close(finished)
				}
			}})
		}
		g.checkInbox()
	})
	if !posted {
		return nil, ErrStopped
	}
	select {
	case <-finished:
		return results, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Offer is Submit of one transaction on the loop; done runs there, once, when it was checked.
func (g *Group) Offer(raw []byte, done func(ledger.TxID, error)) {
	g.enqueue(incoming{raw: raw, done: done})
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
		g.enqueue(incoming{raw: raw, from: from, sender: g.senders[from]})
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
		if in.done != nil {
			in.done(ledger.TxID{}, err)
		}
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
					errs[place[j]] = txs[place[j]].CheckSignatures(g.cfg.Suite) // says which one
				}
			}
			return func() {
				g.checking--
				g.admit(batch, txs, errs)
				g.checkInbox()
			}
		})
	}
}

func (g *Group) admit(batch []incoming, txs []*ledger.SignedTx, errs []error) {
	for i, in := range batch {
		if tx := txs[i]; errs[i] == nil && g.cfg.Executor.SizeLimit(tx.To) > ledger.MaxTxSize {
			g.prepare(in, tx)
		} else if g.add(in, tx, errs[i]) && in.done != nil {
			g.gossip = append(g.gossip, tx)
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

// prepare sends a transaction that may deploy code to the others before the VM takes up the code here, so that all
// do that at the same time, and puts it into the pool after. A node whose pool had it seconds before the leader's
// would think that the leader is not working.
func (g *Group) prepare(in incoming, tx *ledger.SignedTx) {
	if g.preparing >= maxPreparing {
		g.add(in, tx, ErrBusy)
		return
	}
	g.preparing++
	if in.done != nil {
		g.gossip = append(g.gossip, tx)
	}
	g.env.Go(func() func() {
		err := g.cfg.Executor.Prepare(context.Background(), tx)
		if err != nil {
			err = fmt.Errorf("prepare the transaction: %w", err)
		}
		return func() {
			g.preparing--
			g.add(in, tx, err)
			g.tellPending()
		}
	})
}

// add puts a checked transaction into the pool, unless err says why not, and answers its sender.
func (g *Group) add(in incoming, tx *ledger.SignedTx, err error) bool {
	if err == nil {
		if again, lookup := g.committed(tx); lookup != nil {
			err = lookup
		} else if again {
			err = mempool.ErrCommitted
		}
	}
	own := in.done != nil
	if err == nil {
		err = g.cfg.Pool.Add(tx, g.env.Now(), g.epoch.Params.MaxLifetime, own)
	}
	if err == nil && g.cfg.Trace.Admitted != nil {
		g.cfg.Trace.Admitted(tx, own)
	}
	if own {
		var id ledger.TxID
		if tx != nil {
			id = tx.ID
		}
		in.done(id, err)
	}
	return err == nil
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
	return err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, mempool.ErrFull) && !errors.Is(err, ErrStopped)
}
