package sim

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

const (
	// epochStart is the virtual clock's zero in Unix milliseconds.
	epochStart = 1_700_000_000_000

	milli  = 1_000 // of the virtual clock, which counts microseconds
	second = 1_000 * milli
)

// world is everything that a schedule happens in: a clock, a network, hosts with their disks, and the oracle.
type world struct {
	rng     *rand.Rand
	now     int64 // µs
	queue   agenda
	seq     uint64
	steps   int
	suite   *suite
	config  ledger.Genesis
	chain   keys.Digest
	block   *ledger.Block
	first   *state.Snapshot
	hosts   []*host // those of the members by number, then second halves of twins
	engine  consensus.Factory
	links   links
	lies    func(file string) bool // whose syncs do nothing, though they succeed; nil: none
	oracle  *oracle
	liars   []*liar
	turned  func()      // is told of each change of members as it first becomes final; nil: nobody
	sighted func(*host) // is told who is the first to have a block; nil: nobody
	whole   *whole      // nil: contracts are replaced by a running digest
	log     zerolog.Logger
	report  Report
	print   func(format string, args ...any) // the trace; nil: off
	broken  error                            // the first rule that was broken

	// Sizes at which hosts begin new files or write them anew; 0: as by default.
	segment, journal, statements int64
}

// newWorld makes hosts for n members, the first twins of which run twice, and for spares that may become members, with
// genesis stored, not started. Where there are spares nobody runs twice.
func newWorld(s *Schedule, twins, spares int) (*world, error) {
	n := s.Nodes
	w := &world{rng: rand.New(rand.NewPCG(s.Seed, 0x5eed)), suite: newSuite(), engine: s.Engine, log: zerolog.Nop()}
	params := ledger.DefaultParams()
	params.BlockTxs, params.BlockBytes, params.BatchDelay, params.HeartbeatTime = 8, 1<<20, 5, 400
	params.Window = []uint32{1, 2, 4, 16}[s.Seed/4%4] // seed%4 picks twins and liars
	if s.Seed/256%2 == 1 {
		params.BlockTxs = 3 // so that blocks are full
	}
	w.config = ledger.Genesis{
		Version: ledger.Version, Name: "sim", Suite: w.suite.Name(), Group: "main", Engine: "pbft", UnixMilli: epochStart - minute/milli, Params: params,
	}
	if s.Raft {
		w.config.Engine, w.config.Trust = ledger.RaftEngine, true
	}
	for i := range n {
		key := w.suite.signer(uint64(i))
		w.config.Members = append(w.config.Members, ledger.Member{
			Node: identity.NodeIDOf(w.suite, key.Public()), Institution: fmt.Sprintf("bank-%d", i), Key: ledger.KeyOf(key.Public()),
		})
	}
	if s.Seed/128%2 == 1 { // files are small, so that power fails as they are replaced
		w.segment, w.journal, w.statements = 4<<10, 4<<10, 32<<10
	}
	if s.Whole {
		if err := w.addAccounts(s.vm, spares); err != nil {
			return nil, err
		}
	}
	w.chain = w.config.Hash(w.suite)
	if err := w.genesis(); err != nil {
		return nil, err
	}
	w.oracle = newOracle(w)
	for i := range n + twins + spares {
		h := &host{world: w, index: i, member: i, twin: i%n < twins, fs: memfs.New()}
		if i < n+twins {
			h.member = i % n
		}
		h.key = w.suite.signer(uint64(h.member))
		h.id = identity.NodeIDOf(w.suite, h.key.Public())
		h.fs.SetHook(h.operation)
		w.hosts = append(w.hosts, h)
	}
	w.links = newLinks(len(w.hosts))
	return w, nil
}

// genesis makes block 0.
func (w *world) genesis() error {
	if w.whole != nil {
		return w.whole.genesis()
	}
	order := &ledger.Order{
		Version: ledger.Version, Chain: w.chain, Group: w.config.Group, UnixMilli: w.config.UnixMilli, TxRoot: ledger.Root(w.suite, nil),
	}
	first, err := state.Empty(w.suite).Extend(order, state.Result{})
	if err != nil {
		return fmt.Errorf("make genesis: %w", err)
	}
	w.first = first
	w.block = &ledger.Block{Version: ledger.Version, Header: *first.Header()}
	return nil
}

const minute = 60 * second

// errFound marks violations, so that a caller can tell them from a simulator that could not run.
var errFound = errors.New("rule broken")

// fail notes that a rule was broken. The first one counts.
func (w *world) fail(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf("%w at %d.%03d ms: %s", errFound, w.now/milli, w.now%milli, fmt.Sprintf(format, args...))
		w.tell("BROKEN: %v", w.broken)
	}
}

// tell writes a line of the trace.
func (w *world) tell(format string, args ...any) {
	if w.print != nil {
		w.print("%10.3f ms  %s\n", float64(w.now)/milli, fmt.Sprintf(format, args...))
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// note folds something that happened into the schedule's digest.
func (w *world) note(a, b int, data []byte) {
	d := w.report.Digest ^ uint64(w.now)<<16 ^ uint64(a)<<8 ^ uint64(b) ^ uint64(crc32.Checksum(data, castagnoli))<<32
	d *= 0x9e3779b97f4a7c15
	w.report.Digest = d ^ d>>29
}

// event is something that will happen.
type event struct {
	at  int64
	seq uint64
	run func()
}

// agenda is a binary heap, soonest first, and of the same time in order of planning.
type agenda []event

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (a *agenda) push(e event) {
	*a = append(*a, e)
	s := *a
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent].before(s[i]) {
			break
		}
		s[parent], s[i] = s[i], s[parent]
		i = parent
	}
}

func (a *agenda) pop() event {
	s := *a
	top := s[0]
	n := len(s) - 1
	s[0], s[n] = s[n], event{}
	s = s[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && s[child+1].before(s[child]) {
			child++
		}
		if s[i].before(s[child]) {
			break
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
	*a = s
	return top
}

// after plans run for a number of microseconds from now.
func (w *world) after(micro int64, run func()) {
	w.seq++
	w.queue.push(event{w.now + max(micro, 0), w.seq, run})
}

// Bounds on what a schedule may keep and do: memory and messages must not grow without load.
const (
	maxQueue = 50_000
	maxSteps = 2_000_000
)

// runUntil lets time pass until a moment, until done says so, or until a rule is broken.
func (w *world) runUntil(end int64, done func() bool) {
	for w.broken == nil && len(w.queue) > 0 && w.queue[0].at <= end {
		e := w.queue.pop()
		w.now = e.at
		w.steps++
		e.run()
		if len(w.queue) > maxQueue*len(w.hosts) || w.steps > maxSteps*len(w.hosts) {
			w.fail("%d things planned after %d steps: somebody sends without bound", len(w.queue), w.steps)
		}
		if done != nil && done() {
			return
		}
	}
	if w.broken == nil {
		w.now = max(w.now, end)
	}
}

// upTo returns a random number from 0 to limit.
func (w *world) upTo(limit int64) int64 {
	if limit <= 0 {
		return 0
	}
	return w.rng.Int64N(limit + 1)
}

// chance is true so many times in a hundred.
func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// links say what happens to messages between hosts.
type links struct {
	delay     int64   // longest usual one-way delay, µs
	loss      int     // percent
	duplicate int     // percent
	worse     [][]int // percent lost from one host to another, on top
	side      []int   // with a partition: where each host is
}

func newLinks(n int) links {
	l := links{delay: 500, worse: make([][]int, n)}
	for i := range l.worse {
		l.worse[i] = make([]int, n)
	}
	return l
}

func (l *links) connected(a, b int) bool { return l.side == nil || l.side[a] == l.side[b] }

// arrivals returns the delays in µs after which copies of a message arrive: none when it is lost.
func (w *world) arrivals(from, to int) []int64 {
	l := &w.links
	w.report.Messages++
	if !l.connected(from, to) || l.loss > 0 && w.chance(l.loss) || l.worse[from][to] > 0 && w.chance(l.worse[from][to]) {
		w.report.Lost++
		return nil
	}
	delays := make([]int64, 1, 2)
	if l.duplicate > 0 && w.chance(l.duplicate) {
		w.report.Copied++
		delays = delays[:2]
	}
	for i := range delays {
		delays[i] = 50 + w.upTo(l.delay)
		if w.rng.IntN(50) == 0 {
			delays[i] *= 10 // a straggler, overtaken by what was sent after it
			w.report.Late++
		}
	}
	return delays
}
