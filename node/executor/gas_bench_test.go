package executor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// gasKeys is how many keys the contract of BenchmarkGas has.
const gasKeys = 100_000

// gasClass is a method that spends its time in one host function.
type gasClass struct {
	name   string
	code   body // repeated
	rounds int
	writes bool // the time is that of a block that is committed, with its share of the state table
	before body // is done once, and not counted
}

// nextKey puts a key of 4 bytes that is there at address 0: another each time, all over the state.
func nextKey() body {
	const seed = 60_008
	load := func(at int) body { return join(i32(at), body{0x28, 0x02, 0x00}) }
	next := join(load(seed), i32(1664525), body{0x6c}, i32(1013904223), body{0x6a})
	return join(
		i32(seed), next, body{0x36, 0x02, 0x00},
		i32(0), load(seed), i32(8), body{0x76}, i32(gasKeys), body{0x70}, body{0x36, 0x02, 0x00},
	)
}

func gasClasses(a *assembler) []gasClass {
	key := join(i32(0), i32(4))
	get := join(nextKey(), hostCall("get", key, i32(64), i32(200)), drop)
	scan := func(flags, limit int) body { return hostCall("scan", key, i32(0), i32(0), i32(flags), i32(limit)) }
	next := join(hostCall("scan_next", i32(1), i32(64), i32(200)), drop)
	emit := func(n int) body { return hostCall("emit", a.text("t"), i32(20_000), i32(n)) }
	bytestring := func(n int) body { return join(i32(20_000), i32(0x59|n>>8<<8|n&0xff<<16), body{0x36, 0x02, 0x00}) } // the head of a byte string
	hash := func(alg, n int) body {
		return join(hostCall("hash", i32(alg), i32(0), i32(n), i32(50_000), i32(32)), drop)
	}
	digest := keys.Std().Sum([]byte("gas"))
	verify := func(name string, alg int, suite keys.Suite, of keys.Algorithm) gasClass {
		signer, err := suite.Generate(of, zeros{})
		if err != nil {
			panic(err)
		}
		signature, err := signer.Sign(digest)
		if err != nil {
			panic(err)
		}
		public, message := signer.Public().Bytes(), string(digest[:])
		return gasClass{name: "verify " + name, rounds: 20, code: join(hostCall("verify", i32(alg), a.text(string(public)), a.text(string(signature)), a.text(message)), drop)}
	}
	return []gasClass{
		{name: "gas_left", rounds: 5_000, code: join(hostCall("gas_left"), drop)},
		{name: "input_read of nothing", rounds: 5_000, code: join(hostCall("input_read", i32(0), i32(0), i32(0)), drop)},
		{name: "input_read, 16 KiB", rounds: 200, code: join(hostCall("input_read", i32(1024), i32(0), i32(16_384)), drop)},
		{name: "output, 32 KiB", rounds: 200, before: bytestring(32_765), code: hostCall("output", i32(20_000), i32(32_768))},
		{name: "output of nothing", rounds: 5_000, code: hostCall("output", i32(0), i32(0))},
		{name: "ctx", rounds: 2_000, code: join(hostCall("ctx", i32(1024), i32(512)), drop)},
		{name: "caller_attr", rounds: 2_000, code: join(hostCall("caller_attr", i32(1), i32(1024), i32(512)), drop)},
		{name: "get", rounds: 2_000, code: get},
		{name: "get, absent", rounds: 2_000, code: join(nextKey(), hostCall("get", i32(0), i32(5), i32(64), i32(200)), drop)},
		{name: "get, absent, long key", rounds: 2_000, code: join(nextKey(), hostCall("get", i32(0), i32(256), i32(64), i32(200)), drop)},
		{name: "get, 16 KiB", rounds: 64, code: join(nextKey(), i32(4), i32(1), body{0x36, 0x02, 0x00}, i32(0), i32(0), body{0x28, 0x02, 0x00}, i32(63), body{0x71, 0x36, 0x02, 0x00}, hostCall("get", i32(0), i32(5), i32(2_000), i32(20_000)), drop)},
		{name: "has", rounds: 2_000, code: join(nextKey(), hostCall("has", key), drop)},
		{name: "scan", rounds: 500, code: join(nextKey(), scan(0, 1), drop, next, hostCall("scan_close", i32(1)))},
		{name: "scan_next, 500 pairs", rounds: 4, code: join(nextKey(), scan(0, 1000), drop, times2(500, next), hostCall("scan_close", i32(1)))},
		{name: "scan_next, 500 keys", rounds: 4, code: join(nextKey(), scan(2, 1000), drop, times2(500, next), hostCall("scan_close", i32(1)))},
		{name: "set while a scan is open", rounds: 4, code: join(nextKey(), scan(0, 1000), drop, hostCall("set", key, i32(64), i32(16)), hostCall("scan_close", i32(1)))},
		{name: "scan over 5,000 deleted keys", rounds: 200, before: times2(5_000, join(i32(4), i32(60_012), body{0x28, 0x02, 0x00}, body{0x36, 0x02, 0x00}, hostCall("del", i32(4), i32(4)))), code: join(
			hostCall("scan", i32(3_996), i32(1), i32(0), i32(0), i32(0), i32(1)), drop, next, hostCall("scan_close", i32(1)))},
		{name: "set, 16 bytes", rounds: 2_000, writes: true, code: join(nextKey(), hostCall("set", key, i32(0), i32(16)))},
		{name: "set, new key", rounds: 2_000, writes: true, code: join(nextKey(), hostCall("set", i32(0), i32(8), i32(0), i32(16)))},
		{name: "set, 4 KiB", rounds: 500, writes: true, code: join(nextKey(), hostCall("set", key, i32(0), i32(4096)))},
		{name: "set, 48 KiB", rounds: 50, writes: true, code: join(nextKey(), hostCall("set", key, i32(0), i32(48<<10)))},
		{name: "del", rounds: 2_000, writes: true, code: join(nextKey(), hostCall("del", key))},
		{name: "add", rounds: 2_000, writes: true, code: join(nextKey(), hostCall("add", i32(0), i32(6), i64(1), i64(0), i64(1<<60)), drop)},
		{name: "emit, 1 byte", rounds: 60, code: join(i32(20_000), i32(0x40), body{0x36, 0x02, 0x00}, emit(1))},
		{name: "emit, 1,000 bytes", rounds: 60, code: join(bytestring(997), emit(1000))},
		{name: "call of another contract", rounds: 500, code: join(hostCall("call", i32(59_000), i32(20), a.text("nothing"), i32(0), i32(0), i64(0), i32(2)), drop), before: self(a)},
		{name: "call of no contract", rounds: 500, code: join(hostCall("call", i32(59_100), i32(20), a.text("nothing"), i32(0), i32(0), i64(0), i32(2)), drop)},
		// 40,000 small items, which are the wrong arguments of params.
		{name: "call of a system contract, 40 KB", rounds: 20, code: join(hostCall("call", i32(59_200), i32(20), a.text("params"), i32(10_000), i32(40_003), i64(0), i32(0)), drop), before: join(
			i32(59_219), i32(5), body{0x3a, 0x00, 0x00}, i32(10_000), i32(0x409c99), body{0x36, 0x02, 0x00})},
		{name: "output of 40,000 items", rounds: 1, code: join(i32(10_000), i32(0x409c99), body{0x36, 0x02, 0x00}, hostCall("output", i32(10_000), i32(40_003)))},
		{name: "hash SM3, 0 bytes", rounds: 2_000, code: hash(1, 0)},
		{name: "hash SM3, 16 KiB", rounds: 20, code: hash(1, 16_384)},
		{name: "hash SHA-256, 0 bytes", rounds: 2_000, code: hash(2, 0)},
		{name: "hash SHA-256, 16 KiB", rounds: 20, code: hash(2, 16_384)},
		{name: "hash Keccak-256, 0 bytes", rounds: 2_000, code: hash(3, 0)},
		{name: "hash Keccak-256, 16 KiB", rounds: 20, code: hash(3, 16_384)},
		verify("SM2", 1, keys.GM(), keys.SM2),
		verify("Ed25519", 2, keys.Std(), keys.Ed25519),
		verify("P-256", 3, keys.Std(), keys.P256),
		{name: "rand, 1 byte", rounds: 2_000, code: hostCall("rand", i32(0), i32(1))},
		{name: "rand, 16 KiB", rounds: 20, code: hostCall("rand", i32(0), i32(16_384))},
		{name: "log, 1 byte", rounds: 2_000, code: hostCall("log", i32(0), i32(4_000), i32(1))},
		{name: "log, 32 KiB", rounds: 20, code: hostCall("log", i32(3), i32(4_000), i32(32_768))},
	}
}

// self leaves the contract's address at 59,000.
func self(a *assembler) body {
	return join(hostCall("ctx", i32(58_000), i32(512)), drop, i32(59_000), i32(58_000+1+5+1), body{0x29, 0x00, 0x00}, body{0x37, 0x00, 0x00},
		i32(59_008), i32(58_000+1+5+1+8), body{0x29, 0x00, 0x00}, body{0x37, 0x00, 0x00}, i32(59_016), i32(58_000+1+5+1+16), body{0x28, 0x00, 0x00}, body{0x36, 0x00, 0x00})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i + 1)
	}
	return len(p), nil
}

// times2 is times for a loop within one, with a counter at 60,012.
func times2(n int, b body) body {
	load := join(i32(60_012), body{0x28, 0x02, 0x00})
	store := func(v body) body { return join(i32(60_012), v, body{0x36, 0x02, 0x00}) }
	return join(store(i32(n)), body{0x03, 0x40}, b, store(join(load, i32(1), body{0x6b})), load, body{0x0d, 0x00, 0x0b})
}

// BenchmarkGas prints how much gas each host function takes for a nanosecond, over a state of 100,000 keys on disk, and the
// spread between them. Each is measured once in a pass, and its least time counts: run it with -benchtime 20x, and longer on a
// busy machine. The benchmark of the same name in wasmvm does it for instructions.
func BenchmarkGas(b *testing.B) {
	a := &assembler{}
	a.method("nothing", succeed)
	classes := gasClasses(a)
	for i, g := range classes {
		a.method(fmt.Sprint("c", i), g.before, times(g.rounds, g.code), succeed)
		a.method(fmt.Sprint("b", i), g.before, succeed)
	}
	c := newChainOn(b, newVM(b, wasmvm.Compiler))
	schema := &ledger.Schema{ABI: ledger.ContractABI, Name: "gas", Profile: "strict", Random: true}
	for _, m := range a.methods {
		schema.Methods = append(schema.Methods, ledger.Method{Name: m, Kind: ledger.MethodTx})
	}
	contract := c.deploy(a.module(b, schema))
	dir := b.TempDir()
	options := &state.Options{Recent: 1, FlushBlocks: 1, Synchronous: true}
	store, err := state.Open(dir, c.suite, options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	// The chain so far moves into the store, with the keys of the contract.
	changes := c.head.Result().Changes
	genesis, first, err := c.x.Genesis(c.genesis)
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Commit(genesis, first); err != nil {
		b.Fatal(err)
	}
	changes = slices.Clone(changes)
	add := func(suffix []byte, value []byte) {
		changes = append(changes, ledger.Change{Key: append(slices.Clone(contract[:]), suffix...), Value: value})
	}
	for i := range gasKeys {
		add(binary.LittleEndian.AppendUint32(nil, uint32(i)), binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i)))
	}
	for i := range 64 {
		add(append(binary.LittleEndian.AppendUint32(nil, uint32(i)), 1), make([]byte, 16<<10))
	}
	slices.SortFunc(changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
	commit := func(base *state.Snapshot, order *ledger.Order, result state.Result) {
		next, err := base.Extend(order, result)
		if err == nil {
			err = store.Commit(&ledger.Block{Version: ledger.Version, Header: *next.Header()}, next)
		}
		if err != nil {
			b.Fatal(err)
		}
		c.head = store.Head()
	}
	c.head = store.Head()
	order := c.order()
	commit(c.head, &order, state.Result{Changes: changes})
	for range 3 { // until the state table has it all
		order = c.order()
		commit(c.head, &order, state.Result{})
	}
	args := bytes.Repeat([]byte{0x59, 0x40, 0x00}, 1)
	args = append(append([]byte{0x81}, args...), make([]byte, 0x4000)...)

	type measure struct {
		run   func() (ledger.Gas, time.Duration)
		least time.Duration
		gas   ledger.Gas
	}
	type row struct {
		name   string
		each   int // operations in a run
		whole  measure
		before measure // what of it only prepares
	}
	var rows []*row
	begin := func() *transaction {
		order := c.order()
		blk, err := c.x.newBlock(c.head, &order)
		if err != nil {
			b.Fatal(err)
		}
		return &transaction{block: blk, ctx: context.Background(), origin: address("admin")}
	}
	run := func(t *transaction, method string) ledger.Gas {
		o, err := t.call(call{target: ledger.Target{Address: contract}, caller: address("admin"), method: method, args: args, limit: 1 << 50})
		if err != nil || o.Status != ledger.OK {
			b.Fatal(method, o, err)
		}
		return o.Gas
	}
	for i, g := range classes {
		r := &row{name: g.name, each: g.rounds}
		if len(g.before) > 0 {
			r.before.run = func() (ledger.Gas, time.Duration) {
				t := begin()
				began := time.Now()
				return run(t, fmt.Sprint("b", i)), time.Since(began)
			}
		}
		r.whole.run = func() (ledger.Gas, time.Duration) {
			t := begin()
			began := time.Now()
			gas := run(t, fmt.Sprint("c", i))
			took := time.Since(began)
			switch {
			case g.writes:
				commit(c.head, t.order, state.Result{Changes: t.overlay.Changes()})
				took = time.Since(began)
			case len(t.events) > 0: // with its share of the receipts of a block that is full of such
				result := state.Result{Receipts: make([]ledger.Receipt, 50)}
				for i := range result.Receipts {
					result.Receipts[i] = ledger.Receipt{Version: ledger.Version, Index: uint32(i), Tx: ledger.TxID{byte(i), byte(c.head.Height()), byte(c.head.Height() >> 8)}, Events: t.events}
				}
				t.order.TxCount = uint32(len(result.Receipts))
				began := time.Now()
				if _, err := c.head.Extend(t.order, result); err != nil {
					b.Fatal(err)
				}
				took += time.Since(began) / time.Duration(len(result.Receipts))
			}
			return gas, took
		}
		rows = append(rows, r)
	}
	rows = append(rows, &row{name: "start of a call", each: 200, whole: measure{run: func() (gas ledger.Gas, _ time.Duration) {
		t := begin()
		began := time.Now()
		for range 200 {
			gas += run(t, "nothing")
		}
		return gas, time.Since(began)
	}}})
	for b.Loop() {
		for _, r := range rows {
			for _, m := range []*measure{&r.before, &r.whole} {
				if m.run == nil {
					continue
				}
				gas, took := m.run()
				if m.least == 0 || took < m.least {
					m.least, m.gas = took, gas
				}
			}
		}
	}
	took := func(r *row) time.Duration { return r.whole.least - r.before.least }
	gas := func(r *row) ledger.Gas { return r.whole.gas - r.before.gas }
	ratio := func(r *row) float64 { return float64(gas(r)) / float64(took(r).Nanoseconds()) }
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(ratio(a), ratio(b)) })
	for _, r := range rows {
		fmt.Printf("%7.2f gas/ns  %11v for %8d gas  %s\n", ratio(r), took(r)/time.Duration(r.each), gas(r)/ledger.Gas(r.each), r.name)
	}
	b.ReportMetric(ratio(rows[len(rows)-1])/ratio(rows[0]), "spread")
	b.ReportMetric(0, "ns/op")
}
