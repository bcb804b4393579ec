package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

// Bounds of a run.
const (
	benchBatch    = 100                  // transactions in one request
	benchRequests = 8                    // requests at a node at once, when transfers fall due whatever becomes of those before
	benchTick     = 2 * time.Millisecond // between looks at what is due
	benchCompany  = 100                  // requests a second at a node, at most: what falls due between them goes together
	benchBusy     = time.Second          // most that a client which is told to come later waits, without a rate
	benchTail     = 30 * time.Second     // that the last transactions may take
	benchMax      = 2_000_000            // transactions signed ahead
	benchSigned   = 10_000               // a second, when the rate is not limited
	benchExpiry   = 9 * time.Minute      // below the chain's ten
	benchGas      = 2_000_000            // of a transfer
	benchUnits    = 1_000_000            // that each account begins with
	benchChecked  = 10_000               // accounts whose balances are checked
	benchSigners  = 2
)

// workload is what a run sends, and for how long.
type workload struct {
	rate     int     // transfers a second over all nodes; 0: as many as the network takes
	full     bool    // with a rate, requests are as large as without one, whatever that does to latency
	inflight int     // with rate 0, most transfers that wait at once
	accounts int     // between which units move, in random pairs
	payload  int     // bytes of a payment reference that each transfer carries
	conflict float64 // share of the transfers that pay the same account, 0 to 1
	seed     uint64  // of the pairs
	warmup   time.Duration
	duration time.Duration
}

// check says what is wrong with a workload.
func (w *workload) check() error {
	switch {
	case w.accounts < 2:
		return fmt.Errorf("%d accounts: want at least 2", w.accounts)
	case w.rate < 0, w.duration < time.Second, w.warmup < 0, w.inflight < 1, w.payload < 0, w.payload > 32<<10:
		return errors.New("want a rate of at least 0, a duration of at least 1s, a payload of at most 32768")
	case !(w.conflict >= 0 && w.conflict <= 1):
		return errors.New("want a conflict rate of 0 to 100 %")
	case w.duration+w.warmup > 8*time.Minute:
		return errors.New("warm-up and duration over 8 minutes: transfers are signed ahead and would expire")
	case w.count() > benchMax:
		return fmt.Errorf("%d transfers would be signed ahead, want at most %d: make the duration shorter or the rate lower", w.count(), benchMax)
	}
	return nil
}

// count returns how many transfers are signed ahead.
func (w *workload) count() int {
	seconds := (w.warmup + w.duration).Seconds()
	if w.rate > 0 {
		return int(float64(w.rate)*(seconds+1)) + benchBatch
	}
	return min(int(benchSigned*seconds), benchMax)
}

// fate is what is known to have become of a transfer.
type fate uint8

const (
	unsent   fate = iota
	sent          // and taken, or its request still runs
	doubtful      // its request failed: nobody knows
	refused
	committed
)

// transfer is a signed transfer of one unit.
type transfer struct {
	raw      []byte
	id       ledger.TxID
	from, to int32 // numbers of accounts
	node     int32 // that it was sent to
	fate     fate
	due      time.Time
}

// load is a run under way.
type load struct {
	workload
	net    *network.Network
	token  *network.Token
	people []network.LoadAccount
	apis   []*client.Client
	nodes  []*network.Node // of the apis
	pids   []int           // of the nodes when the run began

	from, until time.Time // of the measurement
	next        atomic.Int64

	mu        sync.Mutex // guards what follows
	transfers []transfer
	index     map[ledger.TxID]int // of those that wait
	latency   []float64
	blocks    map[ledger.Height]struct{}
	refusals  map[string]int64 // by code

	waiting   atomic.Int64
	accepted  atomic.Int64
	refused   atomic.Int64
	committed atomic.Int64
}

// noAnswer is the code of refusals by nobody.
const noAnswer = "no_answer"

// measure runs a workload on a network's token once.
func measure(ctx context.Context, n *network.Network, token ledger.Address, w workload, progress func(string, ...any)) (*Bench, error) {
	l := &load{workload: w, net: n, index: map[ledger.TxID]int{}, blocks: map[ledger.Height]struct{}{}, refusals: map[string]int64{}}
	for i := range n.Nodes {
		if n.Pid(&n.Nodes[i]) == 0 {
			continue
		}
		api, err := n.Client(n.Nodes[i].API)
		if err != nil {
			return nil, err
		}
		l.apis = append(l.apis, api)
		l.nodes = append(l.nodes, &n.Nodes[i])
		l.pids = append(l.pids, n.Pid(&n.Nodes[i]))
	}
	if len(l.apis) == 0 {
		return nil, errors.New("no node of the network runs: start it with `up`")
	}
	var err error
	if l.token, err = n.TokenAt(ctx, l.apis[0], token); err != nil {
		return nil, err
	}
	told := time.Now()
	seldom := func(format string, args ...any) {
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			progress(format, args...)
		}
	}
	if l.people, err = n.LoadAccounts(ctx, l.apis[0], w.accounts, func(have int) { seldom("registered %d of %d accounts", have, w.accounts) }); err != nil {
		return nil, err
	}
	senders := l.plan()
	if err := l.token.Fund(ctx, l.people, senders, benchUnits, func(done, of int) { seldom("issued units to %d of %d accounts", done, of) }); err != nil {
		return nil, err
	}
	checked := l.checked()
	if err := l.rest(ctx); err != nil {
		return nil, err
	}
	before, err := l.balances(ctx, checked)
	if err != nil {
		return nil, err
	}
	progress("signing %d transfers", len(l.transfers))
	if err := l.sign(ctx); err != nil {
		return nil, err
	}
	progress("warming up for %v, then measuring for %v", w.warmup, w.duration)
	result, err := l.run(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.survivors(ctx); err != nil {
		return nil, err
	}
	if err := l.rest(ctx); err != nil {
		return nil, err
	}
	if err := l.clear(ctx); err != nil {
		return nil, err
	}
	after, err := l.balances(ctx, checked)
	if err != nil {
		return nil, err
	}
	want := l.expected(checked, before)
	result.BalancesRight = slices.Equal(after, want)
	for i, number := range checked {
		if after[i] != want[i] {
			result.wrong = fmt.Sprintf("account %s has %d units, and should have %d after the transfers that are in blocks", l.people[number].Address, after[i], want[i])
			break
		}
	}
	result.RootsEqual, err = l.rootsEqual(ctx)
	return result, err
}

// plan draws the pairs, and returns who sends anything.
func (l *load) plan() (senders []int) {
	l.transfers = make([]transfer, l.count())
	rng := rand.New(rand.NewPCG(l.seed, 0))
	sends := make([]bool, l.accounts)
	for i := range l.transfers {
		from, to := rng.IntN(l.accounts), rng.IntN(l.accounts-1)
		if l.conflict > 0 && rng.Float64() < l.conflict {
			from, to = max(from, 1), 0
		} else if to >= from {
			to++
		}
		l.transfers[i].from, l.transfers[i].to = int32(from), int32(to)
		sends[from] = true
	}
	for i, does := range sends {
		if does {
			senders = append(senders, i)
		}
	}
	return senders
}

// checked returns the accounts whose balances are checked: all, or so many that lie evenly among them.
func (l *load) checked() []int {
	numbers := make([]int, min(l.accounts, benchChecked))
	for i := range numbers {
		numbers[i] = i * l.accounts / len(numbers)
	}
	return numbers
}

// rest waits until all nodes rest at one height with nothing waiting.
func (l *load) rest(ctx context.Context) error {
	for deadline := time.Now().Add(benchTail); time.Now().Before(deadline); {
		if _, resting, err := l.resting(ctx); err != nil || resting {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the nodes did not come to rest at one height within %v: the balances cannot be read; `status` shows the nodes", benchTail)
}

// resting reports whether all nodes are at one height with no transaction waiting, and which.
func (l *load) resting(ctx context.Context) (height ledger.Height, resting bool, err error) {
	for i, api := range l.apis {
		status, err := api.Status(ctx)
		if err != nil {
			return 0, false, err
		}
		if status.Pending > 0 || i > 0 && status.Height != height {
			return 0, false, nil
		}
		height = status.Height
	}
	return height, true, nil
}

// balances returns the units of accounts as the first node has them.
func (l *load) balances(ctx context.Context, numbers []int) ([]uint64, error) {
	const readers = 4
	units := make([]uint64, len(numbers))
	errs := make([]error, readers)
	var wait sync.WaitGroup
	for r := range readers {
		wait.Go(func() {
			for i := r; i < len(numbers) && errs[r] == nil; i += readers {
				text, err := l.token.Balance(ctx, l.people[numbers[i]].Address)
				if err == nil {
					units[i], err = strconv.ParseUint(text, 10, 64)
				}
				errs[r] = err
			}
		})
	}
	wait.Wait()
	return units, errors.Join(errs...)
}

// clear finds out what became of the transfers that nobody knows about. The nodes rest, so what is in no block does not come
// into one any more.
func (l *load) clear(ctx context.Context) error {
	for i := range l.transfers {
		t := &l.transfers[i]
		if t.fate != sent && t.fate != doubtful {
			continue
		}
		tx, err := l.apis[0].Lookup(ctx, t.id, 0, false)
		problem, told := errors.AsType[*client.Problem](err)
		switch {
		case told && problem.Code == client.CodeNotFound:
		case err != nil:
			return fmt.Errorf("what became of transfer %s: %w", t.id, err)
		case tx.Progress == client.Committed:
			t.fate = committed
		}
	}
	return nil
}

// expected returns what accounts must have that had so many units before.
func (l *load) expected(numbers []int, before []uint64) []uint64 {
	change := make([]int64, l.accounts)
	for i := range l.transfers {
		if t := &l.transfers[i]; t.fate == committed {
			change[t.from]--
			change[t.to]++
		}
	}
	want := make([]uint64, len(numbers))
	for i, number := range numbers {
		want[i] = before[i] + uint64(change[number])
	}
	return want
}

// sign signs the transfers.
func (l *load) sign(ctx context.Context) error {
	suite, err := l.apis[0].Suite(ctx)
	if err != nil {
		return err
	}
	chain, err := l.apis[0].Chain(ctx)
	if err != nil {
		return err
	}
	expiry := time.Now().Add(benchExpiry).UnixMilli()
	signers := make([]keys.Signer, l.accounts)
	errs := make([]error, benchSigners)
	var wait sync.WaitGroup
	for w := range benchSigners {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(l.seed, uint64(w)+1))
			for i := range l.transfers {
				t := &l.transfers[i]
				if int(t.from)%benchSigners != w {
					continue // the other's, and so is the signer
				}
				if errs[w] != nil || ctx.Err() != nil {
					return
				}
				if signers[t.from] == nil {
					signers[t.from], errs[w] = l.people[t.from].Key()
				}
				if errs[w] == nil {
					errs[w] = l.signOne(t, suite, chain, signers[t.from], expiry, rng)
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

func (l *load) signOne(t *transfer, suite keys.Suite, chain *client.Chain, signer keys.Signer, expiry int64, rng *rand.Rand) error {
	method, text := "transfer", []string{l.people[t.to].Address.String(), "1"}
	if l.payload > 0 {
		method, text = "pay", append(text, fmt.Sprintf("0x%0*x", 2*l.payload, rng.Uint64()>>(64-min(8*l.payload, 64))))
	}
	args, err := l.token.Schema.EncodeText(method, text)
	if err != nil {
		return err
	}
	tx := ledger.Tx{
		Version: ledger.Version, Chain: chain.Chain, Group: chain.Group, Sender: l.people[t.from].Address, Expiry: expiry,
		GasLimit: min(chain.Params.TxGas, benchGas+ledger.Gas(l.payload)*3_000), To: ledger.Target{Address: l.token.Address}, Method: method, Args: args,
	}
	for i := range tx.Nonce {
		tx.Nonce[i] = byte(rng.Uint32())
	}
	for i, b := range [8]byte{byte(expiry), byte(expiry >> 8), byte(expiry >> 16), byte(expiry >> 24), byte(expiry >> 32)} {
		tx.Nonce[i] ^= b // another run with the same seed makes other transactions
	}
	signed, err := tx.Sign(suite, signer)
	if err != nil {
		return err
	}
	t.raw, t.id = signed.Raw, signed.ID
	return nil
}

// run sends and watches.
func (l *load) run(ctx context.Context) (*Bench, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watchers, senders sync.WaitGroup
	failed := make(chan error, 2*len(l.apis))
	for i, api := range l.apis {
		status, err := api.Status(ctx)
		if err != nil {
			return nil, err
		}
		watchers.Go(func() { l.watch(ctx, i, api, status.Height+1) })
	}
	began := time.Now()
	l.from, l.until = began.Add(l.warmup), began.Add(l.warmup+l.duration)
	for i, api := range l.apis {
		senders.Go(func() {
			if err := l.send(ctx, i, api, began); err != nil {
				failed <- err
			}
		})
	}
	if err := pause(ctx, time.Until(l.from)); err != nil {
		return nil, err
	}
	first, err := l.usage()
	if err != nil {
		return nil, err
	}
	committedAtFirst, viewAtFirst := l.committed.Load(), l.view(ctx)
	if err := pause(ctx, time.Until(l.until)); err != nil {
		return nil, err
	}
	last, err := l.usage()
	if err != nil {
		return nil, err
	}
	committed, view := l.committed.Load()-committedAtFirst, l.view(ctx)
	senders.Wait()
	for deadline := time.Now().Add(benchTail); l.waiting.Load() > 0 && time.Now().Before(deadline); {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	cancel()
	watchers.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.latency)
	b := &Bench{
		Seconds: l.duration.Seconds(), Committed: committed, TPS: float64(committed) / l.duration.Seconds(), Rate: l.rate, Nodes: len(l.apis),
		Sent: l.accepted.Load() + l.refused.Load(), Refused: l.refused.Load(), Refusals: maps.Clone(l.refusals),
		Blocks: int64(len(l.blocks)), Views: view - min(view, viewAtFirst), Accounts: l.accounts, Payload: l.payload, Conflict: l.conflict, Runs: 1,
		P50: percentile(l.latency, 0.50), P95: percentile(l.latency, 0.95), P99: percentile(l.latency, 0.99),
	}
	b.Offered = float64(b.Sent) / (l.warmup + l.duration).Seconds()
	var used network.Usage
	for pid, u := range last {
		used.CPU += u.CPU - first[pid].CPU
		used.Disk += u.Disk - first[pid].Disk
		if u.Memory > used.Memory {
			used.Memory, used.Mapped = u.Memory, u.Mapped
		}
	}
	for _, i := range l.index {
		if at := l.transfers[i].node; l.net.Pid(l.nodes[at]) == l.pids[at] {
			b.Lost++
		} else {
			b.Stranded++
		}
	}
	if committed > 0 {
		b.CPU = used.CPU.Seconds() / float64(committed) * 1000
		b.Disk = float64(used.Disk) / float64(committed)
	}
	b.RSS, b.Files = float64(used.Memory)/1e6, float64(used.Mapped)/1e6
	return b, nil
}

func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// view returns the highest view that a node is in, of those that answer.
func (l *load) view(ctx context.Context) (highest uint64) {
	for _, api := range l.apis {
		if status, err := api.Status(ctx); err == nil {
			highest = max(highest, status.View)
		}
	}
	return highest
}

// usage is what the running nodes use, by process id: a node that was started again counts from nothing.
func (l *load) usage() (map[int]network.Usage, error) {
	all := map[int]network.Usage{}
	for i := range l.net.Nodes {
		pid := l.net.Pid(&l.net.Nodes[i])
		if pid == 0 {
			continue
		}
		u, err := l.net.Usage(&l.net.Nodes[i])
		if err != nil {
			return nil, err
		}
		all[pid] = u
	}
	return all, nil
}

// send gives one node its share of the transfers: as they fall due, or no more than may wait.
func (l *load) send(ctx context.Context, node int, api *client.Client, began time.Time) error {
	share := float64(l.rate) / float64(len(l.apis))
	requests, least := 1, min(benchBatch/4, l.inflight) // small requests would cost more than they bring
	if l.rate > 0 {
		requests, least = benchRequests, min(max(int(share/benchCompany), 1), benchBatch) // nothing due waits for answers to what was due before
	}
	if l.full {
		least = benchBatch
	}
	slots := make(chan struct{}, requests)
	var running sync.WaitGroup
	defer running.Wait()
	dues := 0
	for ctx.Err() == nil && time.Now().Before(l.until) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		due := benchBatch
		if l.rate > 0 {
			due = min(int(time.Since(began).Seconds()*share)-dues, benchBatch)
		} else {
			due = min(due, l.inflight-int(l.waiting.Load()))
		}
		if due < least {
			<-slots
			if err := pause(ctx, benchTick); err != nil {
				return nil
			}
			continue
		}
		first := int(l.next.Add(int64(due))) - due
		if first+due > len(l.transfers) {
			<-slots
			return errors.New("the signed transfers ran out: the network is faster than this benchmark expects; use --rate")
		}
		now := time.Now()
		l.mu.Lock()
		for i := first; i < first+due; i++ {
			t := &l.transfers[i]
			t.due, t.node, t.fate = now, int32(node), sent
			if l.rate > 0 {
				t.due = began.Add(time.Duration(float64(dues+i-first+1) / share * float64(time.Second)))
			}
			l.index[t.id] = i
		}
		l.mu.Unlock()
		dues += due
		l.waiting.Add(int64(due))
		running.Go(func() {
			defer func() { <-slots }()
			l.request(ctx, api, first, due)
		})
	}
	return nil
}

// request sends some of the transfers and notes which were refused. Without a rate the node then gets nothing for as long as it says.
func (l *load) request(ctx context.Context, api *client.Client, first, count int) {
	raws := make([][]byte, count)
	for i := range raws {
		raws[i] = l.transfers[first+i].raw
	}
	results, err := api.SendBatch(ctx, raws)
	whole, code, busy := refused, "", 0
	if err != nil {
		whole, code = doubtful, noAnswer
		if problem, ok := errors.AsType[*client.Problem](err); ok {
			code = problem.Code
		}
	}
	l.mu.Lock()
	for i := range count {
		if err == nil {
			if results[i].Progress == client.Pending {
				l.accepted.Add(1)
				continue
			}
			code = string(results[i].Progress)
			if results[i].Problem != nil {
				code, busy = results[i].Problem.Code, max(busy, results[i].Problem.RetryAfter)
			}
		}
		t := &l.transfers[first+i]
		if _, waits := l.index[t.id]; waits {
			delete(l.index, t.id)
			t.fate = whole
			l.refusals[code]++
			l.waiting.Add(-1)
			l.refused.Add(1)
		} else {
			l.accepted.Add(1) // it is in a block, whatever the answer was
		}
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		pause(ctx, 200*time.Millisecond) //nolint:errcheck // the next request fails as well
	case busy > 0 && l.rate == 0:
		pause(ctx, min(time.Duration(busy)*time.Second, benchBusy)) //nolint:errcheck // the next request fails as well
	}
}

// watch follows a node's blocks and notes when the transfers that were sent to it are final there.
func (l *load) watch(ctx context.Context, node int, api *client.Client, from ledger.Height) {
	for ctx.Err() == nil { // a node that was killed may come back; until then what was sent to it waits
		for block, err := range api.Follow(ctx, from) {
			if err != nil {
				break
			}
			from = block.Height + 1
			l.seen(node, block)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return
		}
	}
}

// seen notes the transfers that a node shows in a block.
func (l *load) seen(node int, block *client.Block) {
	now := time.Now()
	l.mu.Lock()
	for _, id := range block.Txs {
		i, waits := l.index[id]
		if !waits || int(l.transfers[i].node) != node {
			continue
		}
		t := &l.transfers[i]
		delete(l.index, id)
		t.fate = committed
		l.waiting.Add(-1)
		l.committed.Add(1)
		if t.due.After(l.from) && t.due.Before(l.until) {
			l.latency = append(l.latency, float64(now.Sub(t.due).Microseconds())/1000)
		}
	}
	if now.After(l.from) && now.Before(l.until) {
		l.blocks[block.Height] = struct{}{}
	}
	l.mu.Unlock()
}

// survivors forgets the nodes that do not answer any more, and looks at the token as one does that answers.
func (l *load) survivors(ctx context.Context) (err error) {
	l.apis = slices.DeleteFunc(l.apis, func(api *client.Client) bool {
		_, err := api.Status(ctx)
		return err != nil
	})
	if len(l.apis) == 0 {
		return errors.New("no node answers any more: the run cannot be judged")
	}
	l.token, err = l.net.TokenAt(ctx, l.apis[0], l.token.Address)
	return err
}

// rootsEqual compares the nodes' state roots at the lowest height that all have reached.
func (l *load) rootsEqual(ctx context.Context) (bool, error) {
	lowest := ledger.Height(1<<63 - 1)
	for _, api := range l.apis {
		status, err := api.Status(ctx)
		if err != nil {
			return false, err
		}
		lowest = min(lowest, status.Height)
	}
	var root keys.Digest
	for i, api := range l.apis {
		block, err := api.Block(ctx, lowest)
		if err != nil {
			return false, err
		}
		if i > 0 && block.StateRoot != root {
			return false, nil
		}
		root = block.StateRoot
	}
	return true, nil
}
