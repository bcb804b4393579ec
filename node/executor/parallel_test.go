package executor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// schedule returns a block on the chain's head for several workers, which know nothing of earlier blocks.
func (c *chain) schedule(order *ledger.Order, txs []*ledger.SignedTx, workers int) *schedule {
	c.Helper()
	b, err := c.x.newBlock(c.head, order)
	if err != nil {
		c.Fatal(err)
	}
	s := newSchedule(b, txs, workers)
	s.lane = &lane{}
	return s
}

// executor returns another executor of the chain's blocks.
func (c *chain) executor(workers int) *Executor {
	c.Helper()
	x, err := New(Config{Suite: c.suite, Chain: c.x.chain, Group: c.x.group, VM: c.x.vm, Workers: workers})
	if err != nil {
		c.Fatal(err)
	}
	return x
}

// same runs a schedule and wants what executing the block serially gave.
func (c *chain) same(s *schedule, want *state.Result) {
	c.Helper()
	receipts, changes, err := s.run(context.Background())
	if err != nil {
		c.Fatal(err)
	}
	for i := range want.Receipts {
		if got := c.marshal(receipts[i]); !bytes.Equal(got, c.marshal(want.Receipts[i])) {
			c.Fatalf("transaction %d of %d with %d workers:\n%+v\nwant\n%+v", i, len(s.txs), s.workers, receipts[i], want.Receipts[i])
		}
	}
	if got := c.marshal(changes); !bytes.Equal(got, c.marshal(want.Changes)) {
		c.Fatalf("%d transactions with %d workers:\n%v\nwant\n%v", len(s.txs), s.workers, changes, want.Changes)
	}
}

// early has all transactions but the first executed ahead of their turn, on the state before the block, and counts the
// executions of each.
func early(s *schedule) (count func(index int) int) {
	s.window, s.gas = len(s.txs), math.MaxUint64
	executions := make([]atomic.Int32, len(s.txs))
	var others sync.WaitGroup
	others.Add(max(len(s.txs)-1, 0))
	s.starting = func(index int) {
		if n := executions[index].Add(1); index == 0 {
			others.Wait()
		} else if n == 1 {
			others.Done()
		}
	}
	return func(index int) int { return int(executions[index].Load()) }
}

// mixed is a contract whose methods meet at a few keys, in all the ways in which one transaction can depend on another.
func mixed() *assembler {
	a := &assembler{}
	get := func(key string, to int) body { return join(hostCall("get", a.text(key), i32(to), i32(64)), drop) }
	set := func(key string, from, size int) body { return hostCall("set", a.text(key), i32(from), i32(size)) }
	increment := join(i32(600), i32(600), body{0x28, 0x02, 0x00}, i32(1), body{0x6a, 0x36, 0x02, 0x00})
	for _, from := range []string{"a", "b", "c"} {
		for _, to := range []string{"a", "b", "d"} {
			a.method("copy_"+from+to, get(from, 600), increment, set(to, 600, 4), succeed)
		}
		a.method("del_"+from, hostCall("del", a.text(from)), succeed)
	}
	add := func(key string, delta, low, high int64) body {
		return hostCall("add", a.text(key), i64(delta), i64(low), i64(high))
	}
	a.method("add", add("n", 2, 0, 9))
	a.method("sub", add("n", -3, 0, 9))
	a.method("much", add("n", 5, -1_000_000, 1_000_000), drop, add("n", 7, -1_000_000, 1_000_000))
	a.method("lose", add("n", 4, 0, 12), drop, hostCall("abort", i32(1300), i32(0), i32(0)), succeed)
	a.method("add_get", add("n", 1, 0, 99), drop, get("n", 600), set("a", 600, 2), succeed)
	a.method("add_scan", add("n", 1, 0, 99), drop, hostCall("scan", a.text("m"), a.text("o"), i32(0), i32(9)), drop,
		hostCall("scan_next", i32(1), i32(600), i32(64)), drop, set("b", 600, 8), succeed)
	for name, n := range map[string]string{"narrow": "\x08", "widest": "\x1b\x7f\xff\xff\xff\xff\xff\xff\xfe", "wide": "\xc2\x49\x01" + strings.Repeat("\x00", 8)} {
		a.method(name, hostCall("set", a.text("n"), a.text(n)), succeed)
	}
	a.method("no_counter", add("a", 1, 0, 9))
	for i, name := range []string{"scan", "scan_back"} {
		a.method(name, hostCall("scan", a.text("a"), a.text("d"), i32(i), i32(2)), drop,
			hostCall("scan_next", i32(1), i32(600), i32(16)), drop, hostCall("scan_next", i32(1), i32(616), i32(16)), drop, set("s", 600, 32), succeed)
	}
	a.method("scan_all", hostCall("scan", i32(0), i32(0), i32(0), i32(0), i32(0), i32(100)), drop, set("t", 600, 1),
		times(8, join(hostCall("scan_next", i32(1), i32(600), i32(32)), drop)), set("d", 600, 16), succeed)
	a.method("where", hostCall("ctx", i32(600), i32(512)), drop, set("w", 600, 120), hostCall("rand", i32(600), i32(8)), set("r", 600, 8), succeed)
	a.method("tell", get("a", 600), hostCall("emit", a.text("Told"), a.text("\x81\x01")), hostCall("output", a.text("\x07")), succeed)
	a.method("fail", set("a", 600, 3), unreachable)
	a.method("loop", set("a", 600, 5), forever(nil))
	readTarget := join(hostCall("input_read", i32(0), i32(0), i32(64)), drop) // [bytes(20)]: the address is at 2
	call := func(method string) body {
		return hostCall("call", i32(2), i32(20), a.text(method), a.text("\x80"), i64(0), i32(0))
	}
	for _, method := range []string{"copy_aa", "lose", "add", "fail", "scan"} {
		a.method("call_"+method, readTarget, i32(600), call(method), body{0x36, 0x02, 0x00}, set("b", 600, 4), succeed)
	}
	return a
}

var (
	mixSeed   = flag.Uint64("seed", 0, "what the blocks of TestParallel are drawn from; 0: another each time")
	mixBlocks = flag.Int("blocks", 30, "how many blocks TestParallel executes")
)

// real is a token and an escrow of it, as in the suite of the SDKs, whose transactions meet at balances and by calls from one to the other.
type real struct {
	*chain
	random        *rand.Rand
	token, escrow ledger.Address // no escrow where it cannot be compiled
	tokenSchema   *ledger.Schema
	escrowSchema  *ledger.Schema
}

func newReal(t *testing.T, c *chain, random *rand.Rand) *real {
	t.Helper()
	r := &real{chain: c, random: random}
	code, err := os.ReadFile("../../testnet/sim/testdata/token.wasm")
	if err == nil {
		r.tokenSchema, err = ledger.ModuleSchema(code)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.token = c.deploy(code, r.args(r.tokenSchema, "init", "Florin", "FLN", address("admin").String())...)
	built, err := contract.Build(t.Context(), "../../sdk-contracts/c/contracts/escrow", "")
	switch {
	case errors.Is(err, contract.ErrToolchain) && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1":
		t.Logf("%v: without the escrow; on Debian, apt-get install clang lld", err)
	case err != nil:
		t.Fatal(err)
	default:
		r.escrowSchema = built.Schema
		r.escrow = c.deploy(built.Code, r.args(built.Schema, "init", r.token.String())...)
	}
	for _, name := range []string{"admin", "user", "stranger"} {
		c.want(c.block(r.tx("admin", r.token, r.tokenSchema, "issue", address(name).String(), "1000"))[0], ledger.OK, 0)
	}
	return r
}

func (r *real) args(schema *ledger.Schema, method string, args ...string) []byte {
	r.Helper()
	raw, err := schema.EncodeText(method, args)
	if err != nil {
		r.Fatal(err)
	}
	return raw
}

func (r *real) tx(sender string, to ledger.Address, schema *ledger.Schema, method string, args ...string) *ledger.SignedTx {
	r.Helper()
	tx := r.body(sender, to, method, r.args(schema, method, args...))
	tx.GasLimit = 2_000_000
	return r.sign(tx, r.signers[sender])
}

// draw returns a transaction that may find too little money, no allowance, an agreement that has ended, or another's.
func (r *real) draw(sender, other string) *ledger.SignedTx {
	r.Helper()
	amount, to := fmt.Sprint(1+r.random.IntN(300)), address(other).String()
	if r.escrow.IsZero() || r.random.IntN(2) == 0 {
		switch r.random.IntN(6) {
		case 0:
			return r.tx(sender, r.token, r.tokenSchema, "issue", to, amount)
		case 1:
			return r.tx(sender, r.token, r.tokenSchema, "approve", to, amount)
		case 2:
			return r.tx(sender, r.token, r.tokenSchema, "transfer_from", to, address("admin").String(), amount)
		default:
			return r.tx(sender, r.token, r.tokenSchema, "transfer", to, amount)
		}
	}
	switch id := fmt.Sprint(1 + r.random.IntN(20)); r.random.IntN(6) {
	case 0:
		return r.tx(sender, r.token, r.tokenSchema, "approve", r.escrow.String(), "500")
	case 1:
		return r.tx(sender, r.escrow, r.escrowSchema, "refund", id)
	case 2, 3:
		return r.tx(sender, r.escrow, r.escrowSchema, "release", id)
	default:
		deadline := r.head.Header().Order.UnixMilli + r.random.Int64N(5_000)
		return r.tx(sender, r.escrow, r.escrowSchema, "open", to, amount, fmt.Sprint(deadline))
	}
}

// TestParallel executes random blocks with several workers and wants what executing them serially gives: the same hash of the
// header, which has the roots of receipts, changes and state. How many workers there are is drawn for each block. The executors have seen
// the blocks before, so that some transactions wait for their turn, and others do not. What workers are ahead of changes from run to run, but where all of them are.
func TestParallel(t *testing.T) {
	seed := cmp.Or(*mixSeed, rand.Uint64())
	defer func() {
		if t.Failed() {
			t.Logf("repeat it with: go test ./node/executor -run 'TestParallel$' -seed %d -blocks %d", seed, *mixBlocks)
		}
	}()
	c := newChainOn(t, newVM(t, wasmvm.Default))
	contract := mixed()
	code := contract.module(t, nil)
	self, other := c.deploy(code), c.deploy(code)
	random := rand.New(rand.NewPCG(seed, 4))
	suite := newReal(t, c, random)
	senders := []string{"admin", "user", "stranger"}
	draw := func(least int) []*ledger.SignedTx {
		var txs []*ledger.SignedTx
		for n := least + random.IntN(30); len(txs) < n; {
			to, target := self, other
			if random.IntN(4) == 0 {
				to, target = other, self
			}
			sender, method := senders[random.IntN(len(senders))], contract.methods[random.IntN(len(contract.methods))]
			switch random.IntN(40) {
			case 0:
				if random.IntN(2) == 0 {
					txs = append(txs, c.tx("admin", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Duration: random.Int64N(3_000), Reason: "suspicion"}))
				} else {
					txs = append(txs, c.tx("regulator", precompiles.AccessAddress, "unfreeze", precompiles.UnfreezeArgs{Account: address("user"), Reason: "error"}))
				}
			case 1:
				key := ledger.KeyOf(newSigner(t, fmt.Sprint(random.Uint64())).Public())
				txs = append(txs, c.tx("admin", precompiles.AccountsAddress, "register", precompiles.RegisterArgs{Institution: "alpha", Accounts: []precompiles.NewAccount{
					{Threshold: 1, Keys: []precompiles.AccountKey{{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1}}},
				}}))
			case 2:
				deploy := c.tx("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: code})
				txs = append(txs, deploy, c.tx(sender, ledger.AssignedAddress(c.suite, deploy.ID, 0), method, none))
			case 3:
				txs = append(txs, c.sign(c.body(sender, to, method, none), c.signers["regulator"]))
			case 4:
				tx := c.body(sender, to, method, none)
				tx.GasLimit = 100_000 + ledger.Gas(random.IntN(1_000_000))
				txs = append(txs, c.sign(tx, c.signers[sender]))
			case 5, 6, 7, 8, 9, 10, 11, 12:
				txs = append(txs, suite.draw(sender, senders[random.IntN(len(senders))]))
			default:
				tx := c.body(sender, to, method, [1]ledger.Address{target})
				tx.GasLimit = 1_200_000
				txs = append(txs, c.sign(tx, c.signers[sender]))
			}
		}
		return txs
	}
	serial := c.executor(1)
	executors := []*Executor{serial, c.executor(2), c.executor(2), c.executor(2), c.executor(2)}
	held, executed := 0, 0
	for i := range *mixBlocks {
		least := 2
		switch i {
		case 0:
			least = 0
		case 10, 20:
			least = 80 // more than any of them has workers
		}
		txs := draw(least)
		order := c.order(txs...)
		want, err := c.x.execute(t.Context(), c.head, &order, txs)
		if err != nil {
			t.Fatal(err)
		}
		next, err := c.head.Extend(&order, want)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range executors {
			if x != serial {
				x.workers = 1 + random.IntN(64)
			}
			got, err := x.Execute(t.Context(), c.head, &order, txs)
			if err != nil {
				t.Fatalf("block %d, %d transactions with %d workers: %v", i, len(txs), x.workers, err)
			}
			if got.Hash() != next.Hash() {
				t.Fatalf("block %d, %d transactions with %d workers:\n%+v\nwant\n%+v", i, len(txs), x.workers, got.Header(), next.Header())
			}
		}
		s := c.schedule(&order, txs, 4)
		count := early(s)
		c.same(s, &want)
		for i := range txs {
			if n := count(i); n == 0 || n > 2 {
				t.Fatalf("transaction %d was executed %d times", i, n)
			}
			executed += count(i)
		}
		held += s.held.txs
		c.head = next
	}
	if *mixBlocks < 30 {
		return // too few for what follows
	}
	for _, x := range executors {
		if now := x.Stats(); x != serial && (now.Ahead == 0 || now.Again > now.Ahead) || x == serial && now != (Stats{}) {
			t.Errorf("%d workers: %+v", x.workers, now)
		}
	}
	if held < executed/10 || held > executed*9/10 {
		t.Errorf("%d of %d executions ahead of their turn held: the test looks at one case only", held, executed)
	}
}

// TestExecutions counts how often transactions are executed that were all executed ahead of their turn.
func TestExecutions(t *testing.T) {
	const txs = 40
	a := mixed()
	a.method("own", hostCall("input_read", i32(0), i32(0), i32(64)), drop,
		hostCall("get", i32(2), i32(20), i32(600), i32(64)), drop, hostCall("set", i32(2), i32(20), i32(600), i32(4)), succeed)
	c := newChain(t)
	self := c.deploy(a.module(t, nil))
	for _, s := range []struct {
		story, method string
		want          int // executions in all
	}{
		{"they have nothing to do with one another", "own", txs},
		{"each reads what the one before wrote", "copy_aa", 2*txs - 1},
		{"all add to one counter", "much", txs},
		{"all write what they did not read", "where", txs},
	} {
		t.Run(s.story, func(t *testing.T) {
			c.TB = t
			block := make([]*ledger.SignedTx, txs)
			for i := range block {
				block[i] = c.tx("user", self, s.method, [1]ledger.Address{{byte(i)}})
			}
			order := c.order(block...)
			want, err := c.x.execute(t.Context(), c.head, &order, block)
			if err != nil {
				t.Fatal(err)
			}
			c.want(want.Receipts[txs-1], ledger.OK, 0)
			side, before := c.schedule(&order, block, 3), c.x.Stats()
			count := early(side)
			c.same(side, &want)
			sum := 0
			for i := range txs {
				sum += count(i)
			}
			if sum != s.want {
				t.Errorf("%d executions, want %d", sum, s.want)
			}
			if now := c.x.Stats(); now.Ahead-before.Ahead != txs-1 || int(now.Again-before.Again) != s.want-txs {
				t.Errorf("%+v after %+v", now, before)
			}
			if s.want == txs {
				return
			}
			// The lane has learnt that they had better wait for their turn, and tries few.
			again := c.schedule(&order, block, 3)
			again.lane = side.lane
			var n atomic.Int32
			again.starting = func(int) { n.Add(1) }
			c.same(again, &want)
			if n.Load() < txs || n.Load() > txs+txs/every {
				t.Errorf("%d executions in the next block, want %d and a few", n.Load(), txs)
			}
		})
	}
}

// TestLane tells what a lane makes of how executions went.
func TestLane(t *testing.T) {
	hot, cold := class{method: "hot"}, class{method: "cold"}
	var l lane
	kept := func(c class) (n int) { // of 160
		for range 160 {
			if l.keeps(c) {
				n++
			}
		}
		return n
	}
	for i := range 16 {
		l.note(hot, true)
		l.note(cold, i%8 == 0)
	}
	if kept(hot) != 150 || kept(cold) != 0 {
		t.Errorf("of 160 transactions wait %d that were in vain, and %d that held in 7 of 8", kept(hot), kept(cold))
	}
	tries := 0
	for ; kept(hot) > 0; tries++ {
		l.note(hot, false)
	}
	if tries < 4 || tries > 32 {
		t.Errorf("they are executed ahead again after %d that held", tries)
	}
	for range 200 {
		l.note(hot, false)
		l.note(cold, false)
	}
	if len(l.records) > 0 {
		t.Errorf("after 200 that held: %v", l.records)
	}
	for i := range 3 * maxClasses {
		l.note(class{method: fmt.Sprint(i)}, true)
	}
	if len(l.records) > maxClasses {
		t.Errorf("%d classes", len(l.records))
	}
}

// TestGivesUp wants a block in which most work ahead of their turn comes to nothing to go on without, whether its
// transactions are many or large. Each is of another method, of which the lane knows nothing, and is executed ahead before
// those in front of it have taken effect.
func TestGivesUp(t *testing.T) {
	for _, s := range []struct {
		story      string
		txs, bytes int // written beside what they meet at, for the gas
	}{
		{"many", 60, 20_000},
		{"large", 14, 400_000},
	} {
		t.Run(s.story, func(t *testing.T) {
			c := newChain(t)
			a := &assembler{}
			for i := range s.txs {
				store := body{}
				for left := s.bytes; left > 0; left -= 20_000 {
					store = append(store, hostCall("set", a.text("x"), i32(0), i32(20_000))...)
				}
				a.method(fmt.Sprint("m", i), hostCall("get", a.text("k"), i32(600), i32(64)), drop,
					i32(600), i32(600), body{0x28, 0x02, 0x00}, i32(1), body{0x6a, 0x36, 0x02, 0x00}, hostCall("set", a.text("k"), i32(600), i32(4)), store, succeed)
			}
			self := c.deploy(a.module(t, nil))
			txs, started := make([]*ledger.SignedTx, s.txs), make([]chan struct{}, s.txs)
			for i, method := range a.methods {
				txs[i], started[i] = c.tx("user", self, method, none), make(chan struct{})
			}
			order := c.order(txs...)
			want, err := c.x.execute(t.Context(), c.head, &order, txs)
			if err != nil {
				t.Fatal(err)
			}
			c.want(want.Receipts[s.txs-1], ledger.OK, 0)
			side := c.schedule(&order, txs, 6)
			side.window = 3
			var executions atomic.Int32
			side.starting = func(index int) {
				executions.Add(1)
				side.mu.Lock()
				again, ahead, ended := side.attempts[index].done, side.attempts[index].taken, side.ended
				side.mu.Unlock()
				if !again {
					close(started[index])
				}
				if (again || !ahead) && !ended {
					for _, next := range started[index+1 : min(index+1+side.window, s.txs)] {
						<-next
					}
				}
			}
			c.same(side, &want)
			if got := int(executions.Load()); got > s.txs*3/2 {
				t.Errorf("%d executions of %d transactions", got, s.txs)
			}
		})
	}
}

// TestTake tells which transactions may be executed ahead of their turn, by their gas limits.
func TestTake(t *testing.T) {
	c := newChain(t)
	for _, s := range []struct {
		story  string
		limits []ledger.Gas // from that of the transaction on whose turn it is
		most   ledger.Gas
		want   int // that are taken
	}{
		{"of what clients send, many", slices.Repeat([]ledger.Gas{10_000_000}, 200), aheadGas, 64},
		{"of the largest, a few", slices.Repeat([]ledger.Gas{320_000_000}, 12), aheadGas, 2},
		{"one that takes all", []ledger.Gas{1, math.MaxUint64, 1}, aheadGas, 1},
		{"none before one that takes all", []ledger.Gas{1, 1, math.MaxUint64, 1}, aheadGas, 1},
		{"while another is awaited, what is brief", []ledger.Gas{1, briefGas, briefGas + 1, 1}, briefGas, 1},
		{"no more than the window", slices.Repeat([]ledger.Gas{1}, 400), aheadGas, 2 * aheadOfWorker},
		{"no more than there are", []ledger.Gas{1, 1, 1}, aheadGas, 2},
	} {
		t.Run(s.story, func(t *testing.T) {
			var txs []*ledger.SignedTx
			for _, limit := range s.limits {
				txs = append(txs, &ledger.SignedTx{Tx: ledger.Tx{GasLimit: limit}})
			}
			order := c.order()
			side := c.schedule(&order, txs, 2)
			taken := 0
			for {
				if _, ok := side.take(s.most); !ok {
					break
				}
				taken++
			}
			if taken != s.want {
				t.Errorf("%d were taken, want %d", taken, s.want)
			}
			side.pass(0)
			for i := range taken {
				side.pass(i + 1)
			}
			if side.pending != 0 {
				t.Errorf("they still take %d", side.pending)
			}
		})
	}
}

// TestFullBlock fills a block with writes while several workers are ahead: what does not fit is denied as it is serially.
func TestFullBlock(t *testing.T) {
	c := newChain(t)
	self := c.deploy(mixed().module(t, nil))
	var txs []*ledger.SignedTx
	for range 6 {
		txs = append(txs, c.tx("user", self, "where", none), c.tx("user", self, "much", none)) // whose sum takes one byte, then two
	}
	order := c.order(txs...)
	one, err := c.x.newBlock(c.head, &order)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.transact(t.Context(), 0, txs[1], nil); err != nil || one.written != 2*(ledger.AddressSize+1+state.MaxCounter) {
		t.Errorf("two additions wrote %d bytes, %v", one.written, err)
	}
	for left := 0; left < 900; left += 50 {
		b, err := c.x.newBlock(c.head, &order)
		if err != nil {
			t.Fatal(err)
		}
		b.written = maxBlockWrites - left
		receipts, _, err := b.serially(t.Context(), txs)
		if err != nil {
			t.Fatal(err)
		}
		s := c.schedule(&order, txs, 3)
		s.written = maxBlockWrites - left
		early(s)
		c.same(s, &state.Result{Receipts: receipts, Changes: b.overlay.Changes()})
		if s.written != b.written {
			t.Errorf("with %d bytes left %d were written, want %d", left, s.written-maxBlockWrites+left, b.written-maxBlockWrites+left)
		}
	}
}

// failing is a state of which the first read fails.
type failing struct {
	state.Reader
	failed atomic.Bool
}

var errDisk = errors.New("a bad sector")

func (f *failing) Get(key []byte) ([]byte, bool, error) {
	if !f.failed.Swap(true) {
		return nil, false, errDisk
	}
	return f.Reader.Get(key)
}

// TestFaultsOfWorkers wants faults of the node to end a block as they do when it is executed serially.
func TestFaultsOfWorkers(t *testing.T) {
	vm := newVM(t, wasmvm.Interpreter)
	c := newChainOn(t, vm)
	self := c.deploy(mixed().module(t, nil))
	var txs []*ledger.SignedTx
	for range 12 {
		txs = append(txs, c.tx("user", self, "copy_aa", none))
	}
	order := c.order(txs...)
	broken := errors.New("a broken invariant")
	for _, story := range []string{"a panic", "a panic, and an error of an earlier transaction"} {
		t.Run(story, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := c.schedule(&order, txs, 3)
			early(s)
			counts := s.starting
			s.starting = func(index int) {
				if counts(index); index == 0 && story != "a panic" {
					cancel()
				} else if index == 5 {
					panic(broken)
				}
			}
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, broken) || !strings.Contains(err.Error(), "in a worker") {
					t.Errorf("recovered %v", err)
				}
			}()
			_, _, err := s.run(ctx)
			t.Errorf("run returned %v", err)
		})
	}
	t.Run("a panic of a worker that takes a transaction", func(t *testing.T) {
		s := c.schedule(&order, slices.Clone(txs), 3)
		s.txs[5] = nil
		s.starting = func(index int) {
			if index > 0 {
				return
			}
			for range 1_000 { // the block goes on when a worker has come to it
				if s.mu.TryLock() {
					crashed := s.crash != nil
					s.mu.Unlock()
					if crashed {
						return
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			panic("a worker that panicked keeps the others waiting")
		}
		defer func() {
			if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "in a worker") {
				t.Errorf("recovered %v", err)
			}
		}()
		_, _, err := s.run(t.Context())
		t.Errorf("run returned %v", err)
	})
	t.Run("a read that fails once", func(t *testing.T) {
		s := c.schedule(&order, txs, 3)
		s.layers = state.NewLayers(&failing{Reader: c.head}, 0)
		early(s)
		if _, _, err := s.run(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("run returned %v", err)
		}
	})
	t.Run("the end of the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := c.schedule(&order, txs, 3)
		s.starting = func(index int) {
			if index == 3 {
				cancel()
			}
		}
		if _, _, err := s.run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("run returned %v", err)
		}
	})
	t.Run("a module that is not to be had", func(t *testing.T) {
		if err := vm.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, want := c.x.execute(t.Context(), c.head, &order, txs)
		s := c.schedule(&order, txs, 3)
		early(s)
		if _, _, err := s.run(t.Context()); err == nil || want == nil || err.Error() != want.Error() {
			t.Errorf("run returned %v, want %v", err, want)
		}
	})
}

// TestHotAccount counts how often payments through the token in C are executed that were all executed ahead of their turn, on the state
// before the block: of many accounts to a shop, and of the shop to them.
func TestHotAccount(t *testing.T) {
	const most, half = "340282366920938463463374607431768211455", "9223372036854775808" // 2^63
	var payers []string
	for i := range 30 {
		payers = append(payers, fmt.Sprint("payer ", i))
	}
	c := newChainOn(t, newVM(t, wasmvm.Default), append(payers, "shop")...)
	code, err := os.ReadFile("../../testnet/sim/testdata/token.wasm")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := ledger.ModuleSchema(code)
	if err != nil {
		t.Fatal(err)
	}
	r := &real{chain: c, tokenSchema: schema}
	base := c.head
	for _, s := range []struct {
		story         string
		each, shop    string               // what they have: "" is nothing
		pay           func(i int) []string // sender, receiver and amount of a payment
		again, failed int                  // of them all, those executed once more, and those refused
	}{
		{"all pay the shop", "1000", "", func(i int) []string { return []string{payers[i], "shop", "7"} }, 0, 0},
		{"the shop pays all", "", "1000", func(i int) []string { return []string{"shop", payers[i], "7"} }, 0, 0},
		{"the shop pays what it earns, of what it had", "1000", "1000", func(i int) []string {
			if i%2 == 0 {
				return []string{"shop", payers[i], "7"}
			}
			return []string{payers[i], "shop", "9"}
		}, 0, 0},
		{"it has 10, and pays 7 out of what it earns", "1000", "10", func(i int) []string {
			if i%2 == 0 {
				return []string{"shop", payers[i], "7"}
			}
			return []string{payers[i], "shop", "7"}
		}, 0, 0},
		{"it has nothing, and pays what it earned", "1000", "", func(i int) []string { // 14 of these would have been refused
			if i > 0 && i%2 == 0 {
				return []string{"shop", payers[i], "7"}
			}
			return []string{payers[i], "shop", "7"}
		}, 14, 0},
		{"it has too little for most", "", "50", func(i int) []string { return []string{"shop", payers[i], "7"} }, 23, 23},
		{"it pays itself", "", "1000", func(int) []string { return []string{"shop", "shop", "7"} }, 0, 0},
		{"large amounts are read and written", half, "", func(i int) []string { return []string{payers[i], "shop", half} }, 29, 0},
		{"so is a large balance", "1000", most, func(i int) []string { return []string{payers[i], "shop", "0"} }, 0, 0}, // and stays as it is
		{"so is one that becomes large", "1000", "9223372036854775700", func(i int) []string { return []string{payers[i], "shop", "7"} }, 15, 0},
	} {
		t.Run(s.story, func(t *testing.T) {
			c.TB, c.head = t, base
			r.token = c.deploy(code, r.args(schema, "init", "Florin", "FLN", address("admin").String())...)
			var issues, block []*ledger.SignedTx
			issue := func(to, amount string) {
				if amount != "" {
					issues = append(issues, r.tx("admin", r.token, schema, "issue", address(to).String(), amount))
				}
			}
			for _, name := range payers {
				if s.shop != most {
					issue(name, s.each)
				}
			}
			issue("shop", s.shop)
			c.block(issues...)
			for i := range payers {
				p := s.pay(i)
				block = append(block, r.tx(p[0], r.token, schema, "transfer", address(p[1]).String(), p[2]))
			}
			order := c.order(block...)
			want, err := c.x.execute(t.Context(), c.head, &order, block)
			if err != nil {
				t.Fatal(err)
			}
			failed := 0
			for _, receipt := range want.Receipts {
				if receipt.Status != ledger.OK {
					failed++
				}
			}
			side := c.schedule(&order, block, 4)
			count := early(side)
			c.same(side, &want)
			again := 0
			for i := range block {
				again += count(i) - 1
			}
			if again != s.again || failed != s.failed {
				t.Errorf("of %d, %d were executed once more and %d refused, want %d and %d", len(block), again, failed, s.again, s.failed)
			}
			if again == 0 && side.lane.keeps(classOf(block[0])) {
				t.Error("the next block's wait for their turn")
			}
		})
	}
}

// BenchmarkParallel executes blocks of 2,000 transfers of a token in C, on a store, with one worker and with two. GOMAXPROCS=1 shows
// what two cost, without what they gain. Independent transfers are each between two accounts of their own; the others draw both from
// so many accounts, or pay one. Those that are executed once more are again/tx. Heavy transactions are 12 of the largest, each of which reads at its end what the one before wrote.
func BenchmarkParallel(b *testing.B) {
	const txs, shop = 2_000, -1
	code, err := os.ReadFile("../../testnet/sim/testdata/token.wasm")
	if err != nil {
		b.Fatal(err)
	}
	schema, err := ledger.ModuleSchema(code)
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for i := range txs {
		names = append(names, fmt.Sprint("holder ", i))
	}
	c := newChainOn(b, newVM(b, wasmvm.Default), names...)
	store, err := state.Open(b.TempDir(), c.suite, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	}()
	commit := func() {
		raw := [][]byte{}
		if len(c.blocks) > 0 {
			for _, tx := range c.blocks[len(c.blocks)-1].txs {
				raw = append(raw, tx.Raw)
			}
		}
		if err := store.Commit(&ledger.Block{Version: ledger.Version, Header: *c.head.Header(), Txs: raw}, c.head); err != nil {
			b.Fatal(err)
		}
		c.head = store.Head()
	}
	commit()
	args := func(method string, args ...string) []byte {
		raw, err := schema.EncodeText(method, args)
		if err != nil {
			b.Fatal(err)
		}
		return raw
	}
	self := c.deploy(code, args("init", "Florin", "FLN", address("admin").String())...)
	commit()
	var issues []*ledger.SignedTx
	for _, name := range names {
		issues = append(issues, c.tx("admin", self, "issue", args("issue", address(name).String(), "1000000")))
	}
	c.want(c.block(issues...)[txs-1], ledger.OK, 0)
	commit()
	run := func(story string, block []*ledger.SignedTx) {
		order := c.order(block...)
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", story, workers), func(b *testing.B) {
				x := c.executor(workers)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					result, err := x.execute(b.Context(), c.head, &order, block)
					if last := len(block) - 1; err != nil || result.Receipts[last].Status != ledger.OK {
						b.Fatal(result.Receipts[last], err)
					}
					n += len(block)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/1000/float64(n), "µs/tx")
				b.ReportMetric(float64(x.Stats().Again)/float64(n), "again/tx")
			})
		}
	}
	sign := func(from string, to ledger.Address, method string, gas ledger.Gas, args []byte) *ledger.SignedTx {
		tx := c.body(from, to, method, none)
		tx.Args, tx.GasLimit = args, gas
		return c.sign(tx, c.signers[from])
	}
	for _, accounts := range []int{0, 2_000, 100, 1, shop} {
		random := rand.New(rand.NewPCG(1, 1))
		story := "independent"
		block := make([]*ledger.SignedTx, txs)
		for i := range block {
			from, to := names[i], ledger.Address{1, byte(i), byte(i >> 8)}
			if accounts == shop {
				story, to = "one receiver", address("shop")
			} else if accounts > 0 {
				story = fmt.Sprint("between ", accounts)
				from, to = names[random.IntN(accounts)], address(names[random.IntN(accounts)])
			}
			block[i] = sign(from, self, "transfer", 2_000_000, args("transfer", to.String(), "1"))
		}
		run(story, block)
	}
	a := mixed()
	for i := range 12 { // of which the lane knows nothing
		a.method(fmt.Sprint("m", i), times(5_000_000, nil), hostCall("get", a.text("a"), i32(600), i32(64)), drop, hostCall("set", a.text("a"), i32(600), i32(64)), succeed)
	}
	heavy := c.deploy(a.module(b, nil))
	commit()
	block := make([]*ledger.SignedTx, 12)
	for i := range block {
		block[i] = sign("user", heavy, fmt.Sprint("m", i), ledger.DefaultParams().TxGas, []byte{0x80})
	}
	run("heavy", block)
}
