// Package mempool holds the transactions of one group that wait for a block.
//
// Every transaction in a pool has had its form and signatures checked once, by the pool's user; blocks that
// hold the same signed bytes reuse that verdict. The pool checks neither state nor signatures itself. Its
// methods are safe for concurrent use. The package is public by path but promised nothing.
package mempool

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Errors that say why a transaction is not taken.
var (
	// ErrFull says that the pool holds as many transactions, or bytes, as it may. Try again later.
	ErrFull = errors.New("the pool of waiting transactions is full: send again later, or to another node")
	// ErrCrowded says that the sender's transactions take half of the room of this node's clients. Try again later.
	ErrCrowded = errors.New("half of what may wait at this node is the sender's: send again later, or to another node")
	// ErrKnown says that the transaction waits in the pool already.
	ErrKnown = errors.New("the transaction waits in the pool already")
	// ErrCommitted says that the transaction is in a block already.
	ErrCommitted = errors.New("the transaction is in a block already")
	// ErrExpired says that no coming block may include the transaction.
	ErrExpired = errors.New("the transaction has expired")
	// ErrExpiry says that the expiry lies too far ahead.
	ErrExpiry = errors.New("the transaction's expiry lies too far ahead")
)

// Limits bound a pool. Zero fields take the defaults.
type Limits struct {
	Count     int   // most transactions; default 50,000: some 20 s of work at saturation
	Bytes     int64 // most bytes of encodings; default 256 MiB
	PerSender int   // most transactions of one account, whichever node it sent them to; default Count/2, so that it cannot fill a pool
	MaxWait   int64 // ms that those before a client's transaction may take, else it is not admitted; default 2,000, at most MostWait; negative: no bound
}

// MostWait is the highest Limits.MaxWait: no transaction is valid for longer on most chains.
const MostWait = 600_000

func (l Limits) withDefaults() Limits {
	if l.Count <= 0 {
		l.Count = 50_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 256 << 20
	}
	if l.PerSender <= 0 {
		l.PerSender = (l.Count + 1) / 2
	}
	if l.MaxWait == 0 {
		l.MaxWait = defaultMaxWait
	}
	l.MaxWait = min(l.MaxWait, MostWait)
	return l
}

// Pool is the transactions of a group that are in no block yet, and the ids that were committed and may not come
// again. Those of proposed blocks are reserved; the others wait, in order of arrival.
type Pool struct {
	limits Limits

	mu       sync.Mutex // guards all below
	byID     map[ledger.TxID]*entry
	byLeaf   map[keys.Digest]*entry
	first    *entry // of those that wait: the oldest
	last     *entry
	arrivals uint64
	reserved map[ledger.TxID]int // by how many proposed blocks, whether the pool has the transaction or not
	bytes    int64
	senders  map[ledger.Address]int
	now      int64                    // time of the last block, Unix ms
	refused  int64                    // when it was too full for a transaction the last time, Unix ms; 0: never
	overran  map[ledger.Address]int64 // senders whose own share was full, with the last time that a transaction was refused for it
	seen     map[ledger.TxID]int64    // committed ids whose expiry lies after now, with that expiry
	aging    expiries                 // the same ids, by expiry
	clock    int64                    // the node's, Unix ms, as it was told last
	line     line
}

type entry struct {
	tx         *ledger.SignedTx
	own        bool   // as Arrival.Own
	came       int64  // to the node, Unix ms
	left       bool   // it was in a proposed block, whether it waits again or not
	arrived    int64  // in the pool, Unix ms
	arrival    uint64 // its place in the order of arrival
	forwarded  int64  // the leader that it was sent to last by Forward, plus 1
	times      int    // that Forward has returned it for that leader
	sent       int64  // when Forward returned it last, Unix ms
	waits      bool   // it is in the list; else it is reserved
	prev, next *entry
}

// New returns an empty pool.
func New(l Limits) *Pool {
	l = l.withDefaults()
	return &Pool{
		limits: l, line: line{room: l.room(assumedRate * l.MaxWait), senders: map[ledger.Address]int{}}, byID: map[ledger.TxID]*entry{}, byLeaf: map[keys.Digest]*entry{},
		senders: map[ledger.Address]int{}, seen: map[ledger.TxID]int64{}, reserved: map[ledger.TxID]int{},
		overran: map[ledger.Address]int64{},
	}
}

// Add takes a transaction whose form and signatures hold. now is the node's clock in Unix milliseconds and
// maxLifetime the chain's parameter.
func (p *Pool) Add(tx *ledger.SignedTx, now, maxLifetime int64, a Arrival) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock = now
	if _, ok := p.seen[tx.ID]; ok {
		return ErrCommitted
	}
	if _, ok := p.byID[tx.ID]; ok {
		return ErrKnown
	}
	// The coming block's time is about now, but never at or below the last block's.
	earliest := max(now, p.now+1)
	switch {
	case tx.Expiry < earliest:
		return fmt.Errorf("%w: expiry %d, the next block's time is at least %d", ErrExpired, tx.Expiry, earliest)
	case tx.Expiry > earliest+maxLifetime:
		return fmt.Errorf("%w: at most %d ms ahead", ErrExpiry, maxLifetime)
	case p.senders[tx.Sender] >= p.limits.PerSender:
		p.overrun(tx.Sender, now, maxLifetime)
		return ErrFull
	case a.Own && p.crowds(tx.Sender):
		return ErrCrowded
	case len(p.byID) >= p.limits.Count || p.bytes+int64(len(tx.Raw)) > p.limits.Bytes:
		p.refused = now
		return ErrFull
	}
	p.arrivals++
	e := &entry{tx: tx, own: a.Own, came: now, arrived: now, arrival: p.arrivals}
	if a.at != 0 {
		e.came = a.at
	}
	if p.reserved[tx.ID] == 0 {
		p.link(e, nil)
	}
	p.byID[tx.ID] = e
	p.byLeaf[tx.Leaf] = e
	p.bytes += int64(len(tx.Raw))
	p.senders[tx.Sender]++
	return nil
}

// maxOverran bounds how many senders are kept that had more transactions than their share.
const maxOverran = 1_024

// overrun notes that a transaction was refused for its sender's share: for as long as others hold it, what this pool
// says of the sender's tells nothing about theirs.
func (p *Pool) overrun(sender ledger.Address, now, maxLifetime int64) {
	if _, ok := p.overran[sender]; !ok && len(p.overran) >= maxOverran {
		maps.DeleteFunc(p.overran, func(_ ledger.Address, at int64) bool { return now-at > maxLifetime })
		if len(p.overran) >= maxOverran {
			p.refused = now // of all senders
			return
		}
	}
	p.overran[sender] = now
}

// overruns reports whether transactions of a sender may have been refused that a block at a time can hold.
func (p *Pool) overruns(sender ledger.Address, params *ledger.Params, at int64) bool {
	last, ok := p.overran[sender]
	return ok && at-last <= params.MaxLifetime
}

// link puts e into the list before next, or at the end.
func (p *Pool) link(e, next *entry) {
	e.waits, e.next = true, next
	p.line.count(e, 1)
	if next == nil {
		e.prev, p.last = p.last, e
	} else {
		e.prev, next.prev = next.prev, e
	}
	if e.prev == nil {
		p.first = e
	} else {
		e.prev.next = e
	}
}

// unlink takes e out of the list.
func (p *Pool) unlink(e *entry) {
	if e.prev == nil {
		p.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		p.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.waits, e.prev, e.next = false, nil, nil
	p.line.count(e, -1)
}

// Reserve says that a block which holds these transactions is proposed: they wait no more. Each Reserve needs a
// Release.
func (p *Pool) Reserve(txs []*ledger.SignedTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tx := range txs {
		p.reserved[tx.ID]++
		if e := p.byID[tx.ID]; e != nil && e.waits {
			p.leave(e)
			p.unlink(e)
		}
	}
	p.measure()
}

// Release says that a block which was proposed is stored, or will not be. Those of its transactions that are in
// the pool still wait again, in their old places, unless another proposed block holds them.
func (p *Pool) Release(txs []*ledger.SignedTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var back []*entry
	for _, tx := range txs {
		if p.reserved[tx.ID]--; p.reserved[tx.ID] > 0 {
			continue
		}
		delete(p.reserved, tx.ID)
		if e := p.byID[tx.ID]; e != nil && !e.waits {
			back = append(back, e)
		}
	}
	slices.SortFunc(back, func(a, b *entry) int { return cmp.Compare(a.arrival, b.arrival) })
	next := p.first
	for _, e := range back {
		for next != nil && next.arrival < e.arrival {
			next = next.next
		}
		p.link(e, next)
	}
}

// Pending reports whether the transaction is in the pool, and its expiry.
func (p *Pool) Pending(id ledger.TxID) (expiry int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byID[id]; e != nil {
		return e.tx.Expiry, true
	}
	return 0, false
}

// Seen reports whether the id was committed in the window in which it could come again.
func (p *Pool) Seen(id ledger.TxID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.seen[id]
	return ok
}

// Find returns the transactions with these leaf digests, in their order, nil where the pool has none, and
// how many it lacks.
func (p *Pool) Find(leaves []keys.Digest) (txs []*ledger.SignedTx, missing int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	txs = make([]*ledger.SignedTx, len(leaves))
	for i, leaf := range leaves {
		if e := p.byLeaf[leaf]; e != nil {
			txs[i] = e.tx
		} else {
			missing++
		}
	}
	return txs, missing
}

// fits reports whether a block at block time at may include the transaction.
func fits(tx *ledger.SignedTx, params *ledger.Params, at int64) bool {
	return tx.Expiry >= at && tx.Expiry-params.MaxLifetime <= at &&
		uint64(len(tx.Raw)) <= params.BlockBytes && tx.GasLimit <= params.BlockGas
}

// Select returns the oldest transactions that may stand together in a block at block time at, within the
// chain's bounds, and of no more than room bytes unless the first alone is larger. It reserves nothing.
func (p *Pool) Select(params *ledger.Params, at int64, room uint64) []*ledger.SignedTx {
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		txs   []*ledger.SignedTx
		bytes uint64
		gas   ledger.Gas
	)
	for e := p.first; e != nil && len(txs) < int(params.BlockTxs); e = e.next {
		tx := e.tx
		if !fits(tx, params, at) {
			continue
		}
		size := uint64(len(tx.Raw))
		if size > params.BlockBytes-bytes || tx.GasLimit > params.BlockGas-gas || len(txs) > 0 && bytes+size > room {
			break // later ones wait too, so that a large transaction is not overtaken for ever
		}
		bytes += size
		gas += tx.GasLimit
		txs = append(txs, tx)
	}
	return txs
}

// Waiting counts the transactions that a block made at the time now (Unix ms) could include, up to limit, and
// returns the oldest of them, nil for none. Others may be in the pool: those of proposed blocks, and what
// has expired by the clock; that stays until block time says so too, because until then a block of a leader with a
// slow clock could take it.
func (p *Pool) Waiting(params *ledger.Params, now int64, limit int) (count int, oldest *ledger.SignedTx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock = now
	for e := p.first; e != nil && count < limit; e = e.next {
		if fits(e.tx, params, max(now, p.now+1)) {
			if count == 0 {
				oldest = e.tx
			}
			count++
		}
	}
	return count, oldest
}

// Latest returns when the last of a block's transactions arrived (Unix ms); those that the pool does not have count as
// arriving now, unless it may have refused them when it was full, or their sender's share was. 0: unknown.
func (p *Pool) Latest(txs []*ledger.SignedTx, params *ledger.Params, now int64) (at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock = now
	for _, tx := range txs {
		if e := p.byID[tx.ID]; e != nil {
			at = max(at, e.arrived)
		} else if (p.refused == 0 || now-p.refused > params.MaxLifetime) && !p.overruns(tx.Sender, params, now) {
			return now
		}
	}
	return at
}

// Oldest returns when the oldest transaction arrived that waits and that the block made at a time could have included
// (Unix ms), 0 for none. It is 0 too when the pool was too full for others since then: the other members' pools are
// about as full, so it may have got into theirs much later. For the same reason those of a sender do not count whose share
// was full.
func (p *Pool) Oldest(params *ledger.Params, at int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.first; e != nil; e = e.next {
		if fits(e.tx, params, at) && !p.overruns(e.tx.Sender, params, at) {
			if e.arrived <= p.refused {
				return 0
			}
			return e.arrived
		}
	}
	return 0
}

// maxDoublings bounds how often the wait before Forward returns a transaction again doubles.
const maxDoublings = 5

// Forward returns transactions that the leader may lack at the time now (Unix ms), of no more than room bytes unless the
// first alone is larger: those that clients sent to this node first, each kind oldest first. All members forward the
// others, the same ones, so these would fill all links to the leader with one copy each. It returns what has waited for
// after ms: own transactions each again after that time, which doubles each time, and the others each once for a leader.
// What was sent is often still on its way: on a link that carries less than is sent, repeating it without a bound would
// be all that the link does. idle says that the leader has nothing under way, so what was sent did not come or was
// refused, and the time does not double.
func (p *Pool) Forward(leader uint32, now, after int64, idle bool, room int) []*ledger.SignedTx {
	p.mu.Lock()
	defer p.mu.Unlock()
	var txs []*ledger.SignedTx
	for _, own := range []bool{true, false} {
		for e := p.first; e != nil && e.arrived+after < now; e = e.next {
			if e.own != own || e.forwarded == int64(leader)+1 && !e.repeats(now, after, idle) {
				continue
			}
			if room -= len(e.tx.Raw); room < 0 && len(txs) > 0 {
				return txs
			}
			if e.forwarded != int64(leader)+1 {
				e.forwarded, e.times = int64(leader)+1, 0
			}
			e.sent = now
			e.times++
			txs = append(txs, e.tx)
		}
	}
	return txs
}

// repeats reports whether Forward returns a transaction again for the same leader.
func (e *entry) repeats(now, after int64, idle bool) bool {
	if !idle {
		after <<= min(e.times-1, maxDoublings)
	}
	return e.own && now >= e.sent+after
}

// Proposed reports whether all of the transactions are in blocks, proposed ones or final ones.
func (p *Pool) Proposed(txs []*ledger.SignedTx) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(txs, func(tx *ledger.SignedTx) bool {
		_, final := p.seen[tx.ID]
		return !final && p.reserved[tx.ID] == 0
	})
}

// Committed takes the transactions of a final block at block time at out of the pool, remembers their ids
// for as long as they could come again, and drops what no later block may include. It returns the ids it
// dropped as expired.
func (p *Pool) Committed(txs []*ledger.SignedTx, at int64) (expired []ledger.TxID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = max(p.now, at)
	p.line.unfit, p.line.recounted = 0, 0
	for _, tx := range txs {
		if e := p.byID[tx.ID]; e != nil {
			if e.waits { // this node saw no proposal: it observes, or is behind
				p.leave(e)
			}
			p.remove(e)
		}
		if _, ok := p.seen[tx.ID]; !ok && tx.Expiry > p.now {
			p.seen[tx.ID] = tx.Expiry
			p.aging.push(expiry{tx.Expiry, tx.ID})
		}
	}
	p.measure()
	for len(p.aging) > 0 && p.aging[0].at <= p.now {
		delete(p.seen, p.aging.pop().id)
	}
	for e := p.first; e != nil; {
		next := e.next
		if e.tx.Expiry <= p.now {
			expired = append(expired, e.tx.ID)
			p.remove(e)
		}
		e = next
	}
	return expired
}

// Drop takes out the transactions that which picks and returns their ids.
func (p *Pool) Drop(which func(*ledger.SignedTx) bool) (dropped []ledger.TxID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line.unfit, p.line.recounted = 0, 0
	for e := p.first; e != nil; {
		next := e.next
		if which(e.tx) {
			dropped = append(dropped, e.tx.ID)
			p.remove(e)
		}
		e = next
	}
	return dropped
}

func (p *Pool) remove(e *entry) {
	if e.waits {
		p.unlink(e)
	}
	delete(p.byID, e.tx.ID)
	delete(p.byLeaf, e.tx.Leaf)
	p.bytes -= int64(len(e.tx.Raw))
	if p.senders[e.tx.Sender]--; p.senders[e.tx.Sender] == 0 {
		delete(p.senders, e.tx.Sender)
	}
}

// Size returns how many transactions the pool holds, their bytes, and when the oldest of those that wait arrived
// (Unix ms; 0 for none).
func (p *Pool) Size() (count int, bytes, oldest int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first != nil {
		oldest = p.first.arrived
	}
	return len(p.byID), p.bytes, oldest
}

type expiry struct {
	at int64
	id ledger.TxID
}

// expiries is a binary heap, soonest first.
type expiries []expiry

func (h *expiries) push(x expiry) {
	*h = append(*h, x)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent].at <= s[i].at {
			break
		}
		s[parent], s[i] = s[i], s[parent]
		i = parent
	}
}

func (h *expiries) pop() expiry {
	s := *h
	top := s[0]
	n := len(s) - 1
	s[0] = s[n]
	s = s[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && s[child+1].at < s[child].at {
			child++
		}
		if s[i].at <= s[child].at {
			break
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
	*h = s
	return top
}
