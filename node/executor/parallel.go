package executor

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The transactions of a block take effect one after the other, in the block's order, and what that gives does not depend on
// how many workers there are. Several workers execute transactions ahead of their turn, each on what those before it have
// written until then, which is the state that it would find at an earlier place of the same block; so it sees nothing
// that could not be. In its turn the transaction takes effect as it was executed, if what it read still reads the same
// (state.Layers), or else is executed once more, on the state of its turn: at most twice in all. Besides the state and the
// order, its outcome depends only on how much the block wrote so far, and on that only where the block is full.

// schedule is a block being executed by several workers, of which the caller of run is one.
type schedule struct {
	block    *block // not written
	layers   *state.Layers
	txs      []*ledger.SignedTx
	receipts []ledger.Receipt // each written by who executes the transaction
	records  [][]keys.Digest  // likewise, of the audit records of the transaction
	lane     *lane
	workers  int

	// How far workers may be ahead of the turn: transactions, and what the gas limits of those add up to which were taken.
	window int
	gas    ledger.Gas

	// starting is called before each execution of a transaction, which has its layers then, from any worker, in tests; nil.
	starting func(index int)

	// Of run alone.
	written      int // as block.written, which is not used: workers read the block
	held, failed tally
	largest      ledger.Gas // of an execution ahead of its turn

	mu       sync.Mutex // guards what follows
	room     sync.Cond  // for workers: a transaction can be taken, or there is no more to do
	ready    sync.Cond  // for run: a transaction whose turn it is has been executed, or a worker panicked
	attempts []attempt
	next     int        // all below were taken, or are left to their turn
	turn     int        // so many have taken effect
	pending  ledger.Gas // costs of those that were taken and have not
	ended    bool       // run has returned, or no more is to be executed ahead
	crash    *panicError
}

// attempt is a transaction's execution ahead of its turn.
type attempt struct {
	taken, done bool
	execution
}

// execution is what executing a transaction gave beside the receipt.
type execution struct {
	overlay *state.Overlay
	written int   // bytes, as block.written
	err     error // of this node
}

// tally counts executions.
type tally struct {
	txs int
	gas ledger.Gas
}

func (t *tally) add(gas ledger.Gas) {
	t.txs++
	t.gas += gas
}

// panicError is what a worker panicked with, and where.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("%v\n\nin a worker:\n%s", p.value, p.stack) }

// Unwrap returns the value if it is an error.
func (p *panicError) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// Bounds on what is executed ahead.
const (
	// aheadOfWorker is how many transactions for each worker may be executed ahead of the turn. As a rule there are only as
	// many as workers; with fewer, all would wait for a transaction that takes long, or whose worker has lost its processor, and
	// with more, what they read meanwhile would be old.
	aheadOfWorker = 64
	// aheadGas is what the gas limits of the transactions ahead may add up to, a single one excepted. The contracts that call
	// one another in a transaction hold up to 3 bytes of memories and stacks for a unit of gas, beyond some 30 MB; so those ahead
	// hold up to 2 GB, and 30 MB for each worker. Of what clients send as a rule (client.DefaultGas) 64 fit.
	aheadGas ledger.Gas = 640_000_000
	// briefGas is the highest gas limit of a transaction that run executes ahead while it waits for another: all wait for run.
	briefGas ledger.Gas = 10_000_000
)

func newSchedule(b *block, txs []*ledger.SignedTx, workers int) *schedule {
	s := &schedule{
		block: b, layers: state.NewLayers(b.base, keysOfTx*len(txs)), txs: txs, receipts: make([]ledger.Receipt, len(txs)), records: make([][]keys.Digest, len(txs)), lane: &b.x.lane, workers: workers,
		window: aheadOfWorker * workers, gas: aheadGas, attempts: make([]attempt, len(txs)),
	}
	s.room.L, s.ready.L = &s.mu, &s.mu
	return s
}

// run executes the block's transactions. Its workers have ended when it returns.
func (s *schedule) run(ctx context.Context) (receipts []ledger.Receipt, changes []ledger.Change, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer func() {
		cancel()
		s.end()
		workers.Wait()
		if s.crash != nil { // to panic where the block is executed, as it would without workers
			panic(s.crash)
		}
	}()
	for range s.workers - 1 {
		workers.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					s.crashed(&panicError{v, debug.Stack()})
				}
			}()
			s.work(ctx)
		})
	}
	own := *s.block
	for i, tx := range s.txs {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if err := s.apply(ctx, &own, i); err != nil {
			return nil, nil, fmt.Errorf("transaction %d, %s: %w", i, tx.ID, err)
		}
	}
	last := s.layers.Overlay()
	if err := s.block.tally(ctx, last, s.txs, s.receipts, s.records); err != nil {
		return nil, nil, err
	}
	if !s.layers.Commit(last) {
		return nil, nil, errors.New("what was counted has changed, although nothing was written meanwhile")
	}
	s.block.x.ahead.Add(uint64(s.held.txs + s.failed.txs))
	s.block.x.again.Add(uint64(s.failed.txs))
	return s.receipts, s.layers.Changes(), nil
}

// apply lets a transaction take effect whose turn it is. own is a copy of the block that this goroutine may write.
func (s *schedule) apply(ctx context.Context, own *block, i int) error {
	ahead, err := s.await(ctx, own, i)
	if err != nil {
		return err
	}
	if ahead != nil {
		if ahead.err != nil { // serially it could have been executed on the same state
			return ahead.err
		}
		ok := s.written+ahead.written <= maxBlockWrites && s.layers.Commit(ahead.overlay)
		s.lane.note(classOf(s.txs[i]), !ok)
		s.judge(ok, s.receipts[i].Gas)
		if ok {
			s.written += ahead.written
			s.pass(i)
			return nil
		}
	}
	now := s.execute(ctx, own, i, s.written)
	if now.err != nil {
		return now.err
	}
	if !s.layers.Commit(now.overlay) {
		return errors.New("what it read in its turn has changed, although nothing was written meanwhile")
	}
	s.written = now.written
	s.pass(i)
	return nil
}

// await returns what a transaction gave that was executed ahead of its turn, which has come, or nil if nobody took it. As
// long as another worker is at it, it executes others.
func (s *schedule) await(ctx context.Context, own *block, i int) (*execution, error) {
	t := &s.attempts[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	for t.taken && !t.done && s.crash == nil {
		if j, ok := s.take(briefGas); ok {
			s.try(ctx, own, j)
		} else {
			s.ready.Wait()
		}
	}
	if s.crash != nil {
		return nil, s.crash
	}
	if !t.taken {
		return nil, nil
	}
	return &t.execution, nil
}

// pass moves on to the next transaction's turn.
func (s *schedule) pass(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	if t := &s.attempts[i]; t.taken {
		s.pending -= s.cost(i)
		t.overlay = nil
	}
	s.room.Signal()
}

// judge has no more transactions executed ahead of their turn in a block where most of that work comes to nothing.
func (s *schedule) judge(ok bool, gas ledger.Gas) {
	s.largest = max(s.largest, gas)
	if ok {
		s.held.add(gas)
	} else {
		s.failed.add(gas)
	}
	if s.failed.gas > s.held.gas+2*s.largest+briefGas { // with less it is too early to say
		s.end()
	}
}

// end has the workers return.
func (s *schedule) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.room.Broadcast()
}

func (s *schedule) crashed(p *panicError) {
	s.mu.Lock()
	s.crash = p
	s.mu.Unlock()
	s.ready.Signal()
}

// work executes transactions ahead of their turn until there are no more.
func (s *schedule) work(ctx context.Context) {
	own := *s.block
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended && s.next < len(s.txs) {
		if i, ok := s.take(s.gas); ok {
			if s.open(s.gas) {
				s.room.Signal() // for another one: pass calls one only
			}
			s.try(ctx, &own, i)
		} else if s.next < len(s.txs) {
			s.room.Wait()
		}
	}
}

// take returns a transaction to be executed ahead of its turn that costs no more than most, and leaves those to their turn
// that had better wait for it. s.mu is held.
func (s *schedule) take(most ledger.Gas) (i int, ok bool) {
	for s.next = max(s.next, s.turn+1); s.open(most); {
		i, s.next = s.next, s.next+1
		if !s.lane.keeps(classOf(s.txs[i])) {
			s.attempts[i].taken = true
			s.pending += s.cost(i)
			return i, true
		}
	}
	return 0, false
}

// open reports whether the next transaction may be taken now. s.mu is held.
func (s *schedule) open(most ledger.Gas) bool {
	return !s.ended && s.next < min(len(s.txs), s.turn+1+s.window) && s.cost(s.next) <= min(most, s.gas-s.pending)
}

// cost is what a transaction takes of s.gas while it is ahead.
func (s *schedule) cost(i int) ledger.Gas { return min(s.txs[i].GasLimit, s.gas) }

// try executes a transaction that was taken. s.mu is held, and meanwhile released; a panic finds it held too.
func (s *schedule) try(ctx context.Context, own *block, i int) {
	var e execution
	func() {
		s.mu.Unlock()
		defer s.mu.Lock()
		e = s.execute(ctx, own, i, 0)
	}()
	s.attempts[i].execution, s.attempts[i].done = e, true
	if i == s.turn {
		s.ready.Signal()
	}
}

// execute executes a transaction on the layers that there are, after so many bytes were written.
func (s *schedule) execute(ctx context.Context, own *block, i, written int) (e execution) {
	own.overlay, own.written = s.layers.Overlay(), written
	if s.starting != nil {
		s.starting(i)
	}
	s.receipts[i], e.err = own.transact(ctx, uint32(i), s.txs[i], nil)
	s.records[i] = own.recorded
	e.overlay, e.written = own.overlay, own.written
	return e
}

// lane remembers which methods of which contracts are not worth executing ahead of their turn, since what they read has
// changed by then. It changes when a transaction is executed, never what that gives. It is safe for concurrent
// use, and the zero value knows nothing.
type lane struct {
	mu      sync.Mutex // guards records
	records map[class]record
}

// class are transactions that are taken to behave alike.
type class struct {
	contract ledger.Target
	method   string
}

func classOf(tx *ledger.SignedTx) class { return class{tx.To, tx.Method} }

// record is how executions of a class ahead of their turn went.
type record struct {
	vain    int // how often they were in vain, averaged over the last; of always
	skipped int // transactions since it is too often
}

// Numbers of the lane. Of a class above threshold most wait for their turn, and one in every so many is tried: what that
// wastes is little, however far workers are ahead, and after some twenty that hold, all are executed ahead again.
const (
	always     = 1 << 16
	threshold  = always * 3 / 10
	memory     = 16 // executions that the average looks back
	every      = 16
	maxClasses = 4096
)

// note tells how an execution ahead of its turn went.
func (l *lane) note(c class, vain bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[c]
	sample := 0
	if vain {
		sample = always
	}
	r.vain += (sample - r.vain) / memory
	if r.vain < memory { // what the division leaves
		delete(l.records, c)
		return
	}
	if l.records == nil || len(l.records) >= maxClasses { // anybody can make up methods: simpler to begin anew, and rare
		l.records = map[class]record{}
	}
	l.records[c] = r
}

// keeps reports whether a transaction is to wait for its turn.
func (l *lane) keeps(c class) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.records[c]
	if r.vain <= threshold {
		return false
	}
	r.skipped++
	l.records[c] = r
	return r.skipped%every != 0
}
