package executor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

const testGas = 30_000_000

// chain is a chain of one node that makes a block of whatever it is given.
type chain struct {
	testing.TB
	suite   keys.Suite
	genesis *ledger.Genesis
	x       *Executor
	head    *state.Snapshot
	signers map[string]keys.Signer
	nonce   uint64
	late    int64 // ms that the next block is later than others
	blocks  []block0
}

// block0 is a block as it was executed, to be executed again.
type block0 struct {
	order ledger.Order
	txs   []*ledger.SignedTx
	root  keys.Digest
}

func newSigner(tb testing.TB, seed string) keys.Signer {
	tb.Helper()
	var s [32]byte
	copy(s[:], seed)
	signer, err := keystest.Suite().Generate(keystest.Suite().Vote(), rand.NewChaCha8(s))
	if err != nil {
		tb.Fatal(err)
	}
	return signer
}

func address(name string) ledger.Address {
	return ledger.NamedAddress(keystest.Suite(), "account", name)
}

// newVM returns a VM of which every call is run by the engine that is asked for.
func newVM(tb testing.TB, engine wasmvm.Engine) *wasmvm.VM {
	tb.Helper()
	return newConfigured(tb, wasmvm.Config{Engine: engine, Wait: true})
}

func newConfigured(tb testing.TB, c wasmvm.Config) *wasmvm.VM {
	tb.Helper()
	vm, err := wasmvm.New(context.Background(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if s := vm.Stats(); c.Wait && vm.Engine() == wasmvm.Compiler && (int(s.Compiled) < s.Modules || s.Refused > 0) {
			tb.Errorf("%+v: not all modules were compiled", s)
		}
		if err := vm.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return vm
}

// newChain returns a chain with the accounts admin, user, committee (of alpha), stranger and regulator (beta).
func newChain(tb testing.TB) *chain { return newChainOn(tb, newVM(tb, wasmvm.Interpreter)) }

// newChainOn returns such a chain, with more accounts of alpha, on a VM.
func newChainOn(tb testing.TB, vm *wasmvm.VM, more ...string) *chain {
	tb.Helper()
	accounts := []entry{
		{"admin", "alpha", "deployer,institution-admin"},
		{"user", "alpha", ""},
		{"stranger", "beta", "trader"},
		{"regulator", "beta", "regulator"},
		{"committee", "alpha", "committee"},
	}
	for _, name := range more {
		accounts = append(accounts, entry{name, "alpha", ""})
	}
	return newChainOf(tb, vm, []string{"alpha"}, accounts)
}

// entry is an account of a genesis. Roles are separated by commas.
type entry struct{ name, institution, roles string }

// newChainOf returns a chain of institutions, each with a member, and accounts.
func newChainOf(tb testing.TB, vm *wasmvm.VM, institutions []string, accounts []entry) *chain {
	tb.Helper()
	c := &chain{TB: tb, suite: keystest.Suite(), signers: map[string]keys.Signer{}}
	c.genesis = &ledger.Genesis{
		Version: ledger.Version, Name: "test", Suite: keystest.Suite().Name(), Group: "main", Engine: "none", UnixMilli: 1_000_000, Params: ledger.DefaultParams(),
		VetoWindow: new(int64), // motions wait for nobody
	}
	for i, institution := range institutions {
		node := newSigner(tb, strings.TrimSuffix(fmt.Sprint("node ", i), " 0"))
		c.genesis.Members = append(c.genesis.Members, ledger.Member{Node: [32]byte{byte(i + 1)}, Institution: institution, Key: ledger.KeyOf(node.Public())})
	}
	for _, a := range accounts {
		c.signers[a.name] = newSigner(tb, a.name)
		account := ledger.GenesisAccount{Name: a.name, Institution: a.institution, Keys: []ledger.Key{ledger.KeyOf(c.signers[a.name].Public())}}
		if a.roles != "" {
			account.Roles = strings.Split(a.roles, ",")
		}
		c.genesis.Accounts = append(c.genesis.Accounts, account)
	}
	_, snapshot, err := Genesis(c.suite, c.genesis)
	if err != nil {
		tb.Fatal(err)
	}
	c.head = snapshot
	if c.x, err = New(Config{Suite: c.suite, Chain: c.genesis.Hash(c.suite), Group: "main", VM: vm, Workers: 1}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// body returns an unsigned transaction. Args is encoded, unless it is bytes.
func (c *chain) body(sender string, to ledger.Address, method string, args any) ledger.Tx {
	c.Helper()
	raw, ok := args.([]byte)
	if !ok {
		var err error
		if raw, err = ledger.Marshal(args); err != nil {
			c.Fatal(err)
		}
	}
	c.nonce++
	tx := ledger.Tx{
		Version: ledger.Version, Chain: c.x.chain, Group: "main", Sender: address(sender), Expiry: 2_000_000,
		GasLimit: testGas, To: ledger.Target{Address: to}, Method: method, Args: raw,
	}
	if to == precompiles.ContractsAddress {
		tx.GasLimit = c.genesis.Params.TxGas
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], c.nonce)
	return tx
}

func (c *chain) sign(tx ledger.Tx, signers ...keys.Signer) *ledger.SignedTx {
	c.Helper()
	signed, err := tx.Sign(c.suite, signers...)
	if err != nil {
		c.Fatal(err)
	}
	return signed
}

// tx returns a transaction signed by its sender.
func (c *chain) tx(sender string, to ledger.Address, method string, args any) *ledger.SignedTx {
	c.Helper()
	return c.sign(c.body(sender, to, method, args), c.signers[sender])
}

// wait makes the next block so many ms later.
func (c *chain) wait(ms int64) { c.late = ms }

func (c *chain) order(txs ...*ledger.SignedTx) ledger.Order {
	leaves := make([]keys.Digest, len(txs))
	for i, tx := range txs {
		leaves[i] = tx.Leaf
	}
	last := c.head.Header().Order
	return ledger.Order{
		Version: ledger.Version, Chain: last.Chain, Group: last.Group, Height: last.Height + 1, Parent: c.head.OrderHash(),
		UnixMilli: last.UnixMilli + 1_000 + c.late, TxRoot: ledger.Root(c.suite, leaves), TxCount: uint32(len(txs)),
		Barrier: len(txs) > 0 && c.x.Barrier(txs[len(txs)-1]),
	}
}

// block executes a block twice, the second time with three workers that are as far ahead as can be, and moves on.
func (c *chain) block(txs ...*ledger.SignedTx) []ledger.Receipt {
	c.Helper()
	order := c.order(txs...)
	result, err := c.x.execute(context.Background(), c.head, &order, txs)
	if err != nil {
		c.Fatal(err)
	}
	if order.Barrier {
		if again, err := c.x.execute(context.Background(), c.head, &order, txs); err != nil || again.NextEpoch != result.NextEpoch {
			c.Fatal(again, err)
		}
	} else {
		s := c.schedule(&order, txs, 3)
		early(s)
		c.same(s, &result)
	}
	next, err := c.head.Extend(&order, result)
	if err != nil {
		c.Fatal(err)
	}
	c.head = next
	c.blocks = append(c.blocks, block0{order: order, txs: txs, root: next.Hash()})
	return result.Receipts
}

// left reports whether the last block, on a state, changed more than audit records.
func (c *chain) left(before *state.Snapshot) bool {
	c.Helper()
	last := c.blocks[len(c.blocks)-1]
	result, err := c.x.execute(context.Background(), before, &last.order, last.txs)
	if err != nil {
		c.Fatal(err)
	}
	return slices.ContainsFunc(result.Changes, func(change ledger.Change) bool { return !bytes.HasPrefix(change.Key, precompiles.AuditAddress[:]) })
}

func (c *chain) want(r ledger.Receipt, status ledger.Status, code uint32) {
	c.Helper()
	if r.Status != status || r.Code != code {
		c.Fatalf("receipt says %s with code %d, want %s with code %d", r.Status, r.Code, status, code)
	}
}

// deploy deploys as admin and returns the contract's address.
func (c *chain) deploy(code []byte, args ...byte) ledger.Address {
	c.Helper()
	r := c.block(c.tx("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: code, Args: args}))[0]
	if r.Status != ledger.OK {
		o, err := c.x.DryRun(context.Background(), c.head, Call{From: address("admin"), To: ledger.Target{Address: precompiles.ContractsAddress}, Method: "deploy", Args: c.marshal(precompiles.DeployArgs{Code: code, Args: args})})
		c.Fatalf("deploy: %s, code %d: %s %v", r.Status, r.Code, o.Trace, err)
	}
	var a ledger.Address
	if err := ledger.Unmarshal(r.Data, &a); err != nil {
		c.Fatal(err)
	}
	return a
}

func (c *chain) marshal(v any) []byte {
	c.Helper()
	raw, err := ledger.Marshal(v)
	if err != nil {
		c.Fatal(err)
	}
	return raw
}

// value returns what a contract keeps under a key, or nil.
func (c *chain) value(contract ledger.Address, key string) []byte {
	c.Helper()
	v, found, err := c.head.Get(append(contract[:], key...))
	if err != nil {
		c.Fatal(err)
	}
	if !found {
		return nil
	}
	return append([]byte{}, v...)
}

// probe is a contract that does one thing per method.
func probe() *assembler {
	a := &assembler{}
	set := func(key, value string) body { return hostCall("set", a.text(key), a.text(value)) }
	readTarget := join(hostCall("input_read", i32(0), i32(0), i32(64)), drop) // input: [bytes(20)], so the address is at 2
	callTarget := func(method string, flags int) body {
		return hostCall("call", i32(2), i32(20), a.text(method), a.text("\x80"), i64(0), i32(flags))
	}
	// store keeps an i32 under a key.
	store := func(key string, value body) body {
		return join(i32(512), value, body{0x36, 0x02, 0x00}, hostCall("set", a.text(key), i32(512), i32(4)))
	}
	a.method("put", set("k", "v1"), succeed)
	a.method("fail", set("k", "v2"), hostCall("emit", a.text("lost"), a.text("\x80")), hostCall("abort", i32(1234), a.text("\x05")), succeed)
	a.method("trap", set("k", "v3"), unreachable)
	a.method("loop", set("k", "v4"), forever(nil))
	a.method("event", hostCall("emit", a.text("hello"), a.text("\x81\x01")), succeed)
	a.method("events", times(65, hostCall("emit", a.text("hello"), a.text("\x80"))), succeed)
	a.method("garbage", hostCall("output", a.text("\xff")), succeed)
	a.method("bigkey", hostCall("set", i32(0), i32(257), i32(0), i32(1)), succeed)
	a.method("random", hostCall("rand", i32(600), i32(40)), hostCall("set", a.text("r"), i32(600), i32(40)), succeed)
	a.method("count", hostCall("add", a.text("n"), i64(2), i64(0), i64(4)))
	a.method("institution", store("len", hostCall("caller_attr", i32(1), i32(600), i32(64))), hostCall("set", a.text("who"), i32(600), i32(6)), succeed)
	a.method("survive", readTarget, set("mine", "before"), store("status", callTarget("fail", 0)), set("mine2", "after"), succeed)
	a.method("survive_trap", readTarget, store("status", callTarget("trap", 0)), succeed)
	a.method("readonly", readTarget, store("status", callTarget("put", 1)), succeed)
	a.method("again", readTarget, store("status", callTarget("put", 0)), succeed)
	a.method("reenter", readTarget, store("status", callTarget("put", 2)), succeed)
	a.method("deeper", readTarget, store("status", hostCall("call", i32(2), i32(20), a.text("deeper"), i32(0), i32(22), i64(0), i32(2))), succeed)
	a.method("spread", readTarget, times(40, hostCall("emit", a.text("mine"), a.text("\x80"))), store("status", callTarget("forty", 0)), succeed)
	a.method("forty", times(40, hostCall("emit", a.text("theirs"), a.text("\x80"))), succeed)
	a.method("scan", set("s1", "a"), set("s2", "b"), set("s3", "c"),
		hostCall("scan", a.text("s"), a.text("t"), i32(0), i32(10)), drop,
		hostCall("scan_next", i32(1), i32(700), i32(64)), drop,
		hostCall("del", a.text("s2")), set("s3", "x"), set("s4", "y"),
		store("second", hostCall("scan_next", i32(1), i32(720), i32(64))),
		store("third", hostCall("scan_next", i32(1), i32(740), i32(64))),
		store("fourth", hostCall("scan_next", i32(1), i32(760), i32(64))),
		hostCall("set", a.text("found"), i32(740), i32(6)), succeed)
	a.method("peek", hostCall("get", a.text("k"), i32(600), i32(64)), drop, hostCall("log", i32(1), a.text("looked")), hostCall("output", a.text("\x07")), succeed)
	return a
}

func probeSchema() *ledger.Schema {
	s := &ledger.Schema{ABI: ledger.ContractABI, Name: "probe", Profile: "strict", Random: true}
	for _, m := range probe().methods {
		kind := ledger.MethodTx
		if m == "peek" {
			kind = ledger.MethodView
		}
		s.Methods = append(s.Methods, ledger.Method{Name: m, Kind: kind})
	}
	return s
}

var none = []byte{0x80}

func TestSenderRules(t *testing.T) {
	second := newSigner(t, "second")
	bind := func(threshold uint32, until int64) func(*chain) {
		return func(c *chain) {
			key := ledger.KeyOf(second.Public())
			r := c.block(c.tx("user", precompiles.AccountsAddress, "bind", precompiles.BindArgs{Threshold: threshold, Keys: []precompiles.AccountKey{
				{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1, Until: until},
			}}))
			c.want(r[0], ledger.OK, 0)
		}
	}
	// certify binds the account to a certificate of which its institution then says these things.
	certify := func(say ...string) func(*chain) {
		return func(c *chain) {
			leaf := keys.Digest{1}
			binding := &precompiles.Binding{Paths: []identity.Path{{Leaf: leaf}}, Until: 1_100_000}
			c.want(c.block(c.tx("admin", precompiles.AccountsAddress, "certify", precompiles.CertifyArgs{Account: address("user"), Certificate: binding}))[0], ledger.OK, 0)
			for _, method := range say {
				var args any = precompiles.StatusArgs{Fingerprint: leaf}
				if method == "unfreeze" {
					args = precompiles.CertificateArgs{Fingerprint: leaf}
				}
				c.want(c.block(c.tx("admin", precompiles.CertificatesAddress, method, args))[0], ledger.OK, 0)
			}
		}
	}
	for _, s := range []struct {
		story  string
		before func(*chain)
		change func(*ledger.Tx)
		signer []string // default: user
		status ledger.Status
		code   uint32
	}{
		{story: "own key", status: ledger.OK},
		{story: "a key of somebody else", signer: []string{"stranger"}, status: ledger.Denied, code: precompiles.DeniedKey},
		{story: "own key and one of somebody else", signer: []string{"user", "stranger"}, status: ledger.Denied, code: precompiles.DeniedKey},
		{story: "a second key alone under threshold 2", before: bind(2, 0), signer: []string{"second"}, status: ledger.Denied, code: precompiles.DeniedThreshold},
		{story: "two keys under threshold 2", before: bind(2, 0), signer: []string{"user", "second"}, status: ledger.OK},
		{story: "a key whose time has passed", before: bind(1, 1_001_999), signer: []string{"second"}, status: ledger.Denied, code: precompiles.DeniedKeyTime},
		{story: "a key on its last millisecond", before: bind(1, 1_002_000), signer: []string{"second"}, status: ledger.OK},
		{story: "an account that does not exist", change: func(tx *ledger.Tx) { tx.Sender[0] ^= 1 }, status: ledger.Denied, code: precompiles.DeniedAccount},
		{story: "a frozen account", before: func(c *chain) {
			c.want(c.block(c.tx("regulator", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Reason: "suspicion"}))[0], ledger.OK, 0)
		}, status: ledger.Denied, code: precompiles.DeniedFrozen},
		{story: "a certificate", before: certify(), status: ledger.OK},
		{story: "a frozen certificate", before: certify("freeze"), status: ledger.Denied, code: precompiles.DeniedCertificate},
		{story: "a certificate that is not frozen any more", before: certify("freeze", "unfreeze"), status: ledger.OK},
		{story: "a revoked certificate", before: certify("revoke"), status: ledger.Denied, code: precompiles.DeniedCertificate},
		{story: "gas below what the transaction itself takes", change: func(tx *ledger.Tx) { tx.GasLimit = 100 }, status: ledger.OutOfGas},
		{story: "gas for the transaction but not for the call", change: func(tx *ledger.Tx) { tx.GasLimit = 84_000 }, status: ledger.OutOfGas},
		{story: "gas over the chain's limit", change: func(tx *ledger.Tx) { tx.GasLimit = ledger.DefaultParams().TxGas + 1 }, status: ledger.Denied, code: precompiles.DeniedGasLimit},
		{story: "more bytes than a call may have", change: func(tx *ledger.Tx) { tx.Args = make([]byte, ledger.MaxTxSize) }, status: ledger.Denied, code: precompiles.DeniedSize},
		{story: "a contract that does not exist", change: func(tx *ledger.Tx) { tx.To.Address[0] = 9 }, status: ledger.NotFound},
		{story: "a name", change: func(tx *ledger.Tx) { tx.To = ledger.Target{Name: "token"} }, status: ledger.NotFound},
		{story: "a method that does not exist", change: func(tx *ledger.Tx) { tx.Method = "nosuch" }, status: ledger.NotFound},
		{story: "arguments of another method", change: func(tx *ledger.Tx) { tx.Args = none }, status: ledger.Aborted, code: precompiles.AbortArguments},
	} {
		t.Run(s.story, func(t *testing.T) {
			c := newChain(t)
			c.signers["second"] = second
			if s.before != nil {
				s.before(c)
			}
			tx := c.body("user", precompiles.AccountsAddress, "get", precompiles.AddressArgs{Address: address("user")})
			if s.change != nil {
				s.change(&tx)
			}
			if s.signer == nil {
				s.signer = []string{"user"}
			}
			var signers []keys.Signer
			for _, n := range s.signer {
				signers = append(signers, c.signers[n])
			}
			signed := c.sign(tx, signers...)
			admitted := c.x.Admit(c.head, signed)
			before := c.head.Root()
			r := c.block(signed)[0]
			c.want(r, s.status, s.code)
			if c.head.Root() != before {
				t.Error("the state changed")
			}
			if r.Gas > tx.GasLimit {
				t.Errorf("used %d gas of %d", r.Gas, tx.GasLimit)
			}
			early := s.status == ledger.Denied && s.code != precompiles.DeniedGasLimit && s.code != precompiles.DeniedKeyTime || tx.GasLimit == 100
			if (admitted != nil) != early {
				t.Errorf("Admit = %v", admitted)
			}
		})
	}
}

func TestContract(t *testing.T) {
	for _, engine := range []wasmvm.Engine{wasmvm.Interpreter, wasmvm.Default} {
		t.Run(string(newVM(t, engine).Engine()), func(t *testing.T) { testContract(t, engine) })
	}
}

func testContract(t *testing.T, engine wasmvm.Engine) {
	code := probe().module(t, probeSchema())
	status := func(n int32) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
	type state = map[string][]byte
	for _, s := range []struct {
		story  string
		method string
		args   func(self, other ledger.Address) any
		status ledger.Status
		code   uint32
		self   state // nil value: the key is absent
		other  state
		events int
	}{
		{story: "a write stays", method: "put", self: state{"k": []byte("v1")}},
		{story: "an abort undoes writes and events", method: "fail", status: ledger.Aborted, code: 1234, self: state{"k": nil}},
		{story: "so does a trap", method: "trap", status: ledger.Trapped, self: state{"k": nil}},
		{story: "and a loop that never ends", method: "loop", status: ledger.OutOfGas, self: state{"k": nil}},
		{story: "an event is in the receipt", method: "event", events: 1},
		{story: "too many events", method: "events", status: ledger.Denied, code: wasmvm.DeniedEvent},
		{story: "output that is no CBOR", method: "garbage", status: ledger.BadOutput},
		{story: "a key that is too long", method: "bigkey", status: ledger.Denied, code: wasmvm.DeniedKey},
		{story: "a counter within its bounds", method: "count", self: state{"n": {0x02}}},
		{story: "the caller's institution", method: "institution", self: state{"len": status(6), "who": []byte("\x65alpha")}},
		{
			story: "a callee's abort undoes its writes and not the caller's", method: "survive", args: toOther,
			self: state{"mine": []byte("before"), "mine2": []byte("after"), "status": status(1234)}, other: state{"k": nil},
		},
		{story: "a callee's trap as well", method: "survive_trap", args: toOther, self: state{"status": status(-1)}, other: state{"k": nil}},
		{story: "a callee in a read-only call cannot write", method: "readonly", args: toOther, self: state{"status": status(-5)}, other: state{"k": nil}},
		{story: "a callee that exists writes", method: "again", args: toOther, self: state{"status": status(0)}, other: state{"k": []byte("v1")}},
		{story: "a contract is not entered again", method: "again", args: toSelf, self: state{"status": status(-3), "k": nil}},
		{story: "unless the caller says so", method: "reenter", args: toSelf, self: state{"status": status(0), "k": []byte("v1")}},
		{story: "a callee that does not exist", method: "again", args: func(_, _ ledger.Address) any { return [1]ledger.Address{{9}} }, self: state{"status": status(-4)}},
		{story: "a system contract refuses a contract", method: "again", args: func(_, _ ledger.Address) any { return [1]ledger.Address{precompiles.AccountsAddress} }, self: state{"status": status(-4)}},
		{story: "calls do not nest without end", method: "deeper", args: toSelf, self: state{"status": status(0)}},
		{story: "events are bounded over the whole transaction", method: "spread", args: toOther, self: state{"status": status(-5)}, events: 40},
		{
			story: "a scan shows what was there when it was opened", method: "scan",
			self: state{"second": status(6), "third": status(6), "fourth": status(-1), "found": []byte("\x82\x42s3\x41c"), "s2": nil, "s4": []byte("y")},
		},
		{story: "a method that is not there", method: "nosuch", status: ledger.NotFound},
		{story: "init is not called by transactions", method: "init", status: ledger.Denied, code: precompiles.DeniedHook},
		{story: "nor upgrade", method: "upgrade", status: ledger.Denied, code: precompiles.DeniedHook},
		{story: "a view in a transaction", method: "peek"},
	} {
		t.Run(s.story, func(t *testing.T) {
			c := newChainOn(t, newVM(t, engine))
			self, other := c.deploy(code), c.deploy(code)
			var args any = none
			if s.args != nil {
				args = s.args(self, other)
			}
			r := c.block(c.tx("user", self, s.method, args))[0]
			c.want(r, s.status, s.code)
			if len(r.Events) != s.events {
				t.Errorf("%d events, want %d", len(r.Events), s.events)
			}
			for contract, want := range map[ledger.Address]state{self: s.self, other: s.other} {
				for k, v := range want {
					if got := c.value(contract, k); !bytes.Equal(got, v) || (got == nil) != (v == nil) {
						t.Errorf("%q holds %q, want %q", k, got, v)
					}
				}
			}
		})
	}
}

func toOther(_, other ledger.Address) any { return [1]ledger.Address{other} }
func toSelf(self, _ ledger.Address) any   { return [1]ledger.Address{self} }

func TestRandom(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	seen := map[string]bool{}
	for range 3 {
		c.block(c.tx("user", self, "random", none))
		v := c.value(self, "r")
		if len(v) != 40 || seen[string(v)] || bytes.Equal(v[:8], v[32:]) {
			t.Fatalf("random bytes %x", v)
		}
		seen[string(v)] = true
	}
}

// TestLargeScan writes while a scan over more than a megabyte is open: the node would have to keep the rest in
// memory for it.
func TestLargeScan(t *testing.T) {
	a := &assembler{}
	a.method("fill", times(20, hostCall("set", i32(60_000), i32(4), i32(0), i32(59_000))), succeed)
	scan := join(hostCall("scan", i32(0), i32(0), i32(0), i32(0), i32(0), i32(100)), drop, hostCall("scan_next", i32(1), i32(0), i32(60_000)), drop)
	write := hostCall("set", a.text("k"), a.text("v"))
	a.method("write", scan, write, succeed)
	a.method("close", scan, hostCall("scan_close", i32(1)), write, succeed)
	a.method("read", scan, succeed)
	c := newChain(t)
	self := c.deploy(a.module(t, nil))
	tx := c.body("user", self, "fill", none)
	tx.GasLimit = 80_000_000
	c.want(c.block(c.sign(tx, c.signers["user"]))[0], ledger.OK, 0)
	r := c.block(c.tx("user", self, "write", none), c.tx("user", self, "close", none), c.tx("user", self, "read", none))
	c.want(r[0], ledger.Denied, wasmvm.DeniedScan)
	c.want(r[1], ledger.OK, 0)
	c.want(r[2], ledger.OK, 0)
}

// TestBlockWrites fills a block with writes: what does not fit is denied, and the block stays one that can be stored.
func TestBlockWrites(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	put := c.tx("user", self, "put", none)
	order := c.order(put)
	b, err := c.x.newBlock(c.head, &order)
	if err != nil {
		t.Fatal(err)
	}
	b.written = maxBlockWrites - 30
	small, err := b.transact(t.Context(), 0, put, nil) // a key of 21 bytes and a value of 2
	if err != nil {
		t.Fatal(err)
	}
	c.want(small, ledger.OK, 0)
	large, err := b.transact(t.Context(), 0, put, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.want(large, ledger.Denied, precompiles.DeniedSize)
}

func TestSchemaRules(t *testing.T) {
	a := &assembler{}
	a.method("trade", succeed)
	a.method("look", hostCall("set", a.text("k"), a.text("v")), succeed)
	a.method("hidden", succeed)
	code := a.module(t, &ledger.Schema{ABI: ledger.ContractABI, Name: "rules", Profile: "strict", Random: true, Methods: []ledger.Method{
		{Name: "trade", Kind: ledger.MethodTx, Roles: []string{"broker", "trader"}}, {Name: "look", Kind: ledger.MethodView},
	}})
	c := newChain(t)
	self := c.deploy(code)
	r := c.block(c.tx("user", self, "trade", none), c.tx("stranger", self, "trade", none), c.tx("user", self, "look", none), c.tx("user", self, "hidden", none))
	c.want(r[0], ledger.Denied, precompiles.DeniedRole)
	c.want(r[1], ledger.OK, 0)
	c.want(r[2], ledger.Denied, wasmvm.DeniedReadOnly)
	c.want(r[3], ledger.NotFound, 0)
}

func TestDeployment(t *testing.T) {
	good := probe().module(t, probeSchema())
	hooked := func(hook string, code ...body) []byte {
		a := &assembler{}
		a.method(hook, code...)
		a.method("answer", hostCall("output", a.text("\x18\x2a")), succeed)
		return a.module(t, nil)
	}
	deploy := func(code []byte, args ...byte) any { return precompiles.DeployArgs{Code: code, Args: args} }
	badImport := bytes.Replace(good, []byte("input_read"), []byte("input_reed"), 1)
	var failing assembler
	failing.method("init", hostCall("set", failing.text("k"), failing.text("v")), hostCall("emit", failing.text("e"), failing.text("\x80")), hostCall("abort", i32(2000), i32(0), i32(0)), succeed)

	for _, s := range []struct {
		story  string
		sender string
		args   any
		status ledger.Status
		code   uint32
	}{
		{"a good module", "admin", deploy(good), ledger.OK, 0},
		{"by somebody who may not", "user", deploy(good), ledger.Denied, precompiles.DeniedRole},
		{"nothing", "admin", deploy(nil), ledger.Denied, precompiles.DeniedModule},
		{"a text", "admin", deploy([]byte("hello")), ledger.Denied, precompiles.DeniedModule},
		{"half a module", "admin", deploy(good[:len(good)/2]), ledger.Denied, precompiles.DeniedModule},
		{"an import that is not offered", "admin", deploy(badImport), ledger.Denied, precompiles.DeniedModule},
		{"arguments for an init that is not there", "admin", deploy(good, 0x81, 0x01), ledger.NotFound, 0},
		{"an init that aborts", "admin", deploy(failing.module(t, nil)), ledger.Aborted, 2000},
		{"an init that traps", "admin", deploy(hooked("init", unreachable)), ledger.Trapped, 0},
		{"an init that never ends", "admin", deploy(hooked("init", forever(nil))), ledger.OutOfGas, 0},
		{"an init that returns an error", "admin", deploy(hooked("init", i32(7))), ledger.Aborted, 7},
	} {
		t.Run(s.story, func(t *testing.T) {
			c := newChain(t)
			before := c.head
			tx := c.body(s.sender, precompiles.ContractsAddress, "deploy", s.args)
			tx.GasLimit = testGas
			r := c.block(c.sign(tx, c.signers[s.sender]))[0]
			c.want(r, s.status, s.code)
			if s.status != ledger.OK && (c.left(before) || len(r.Events) != 0) {
				t.Error("a refused deployment left something")
			}
		})
	}
	t.Run("an upgrade keeps address and state, and a failing one the old code", func(t *testing.T) {
		c := newChain(t)
		self := c.deploy(good)
		c.want(c.block(c.tx("user", self, "put", none))[0], ledger.OK, 0)
		replace := func(sender string, code []byte) ledger.Receipt {
			return c.block(c.tx(sender, precompiles.ContractsAddress, "replace", precompiles.ReplaceArgs{Address: self, Code: code, Breaking: true}))[0]
		}
		c.want(replace("user", hooked("upgrade", succeed)), ledger.Denied, precompiles.DeniedRole)
		c.want(replace("admin", hooked("upgrade", unreachable)), ledger.Trapped, 0)
		c.want(c.block(c.tx("user", self, "peek", none))[0], ledger.OK, 0)
		c.want(replace("admin", hooked("upgrade", succeed)), ledger.OK, 0)
		r := c.block(c.tx("user", self, "answer", none))[0]
		c.want(r, ledger.OK, 0)
		if !bytes.Equal(r.Data, []byte{0x18, 0x2a}) || string(c.value(self, "k")) != "v1" {
			t.Errorf("answer %x, k = %q", r.Data, c.value(self, "k"))
		}
	})
}

func TestViews(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	ctx := context.Background()
	target := func(a ledger.Address) ledger.Target { return ledger.Target{Address: a} }
	for _, s := range []struct {
		story  string
		call   Call
		status ledger.Status
		code   uint32
	}{
		{"a view", Call{To: target(self), Method: "peek", Args: none}, ledger.OK, 0},
		{"a method that is no view", Call{To: target(self), Method: "put", Args: none}, ledger.Denied, wasmvm.DeniedReadOnly},
		{"a system view", Call{To: target(precompiles.ConfigAddress), Method: "params", Args: none}, ledger.OK, 0},
		{"a system method that is no view", Call{From: address("admin"), To: target(precompiles.AccessAddress), Method: "freeze", Args: none}, ledger.Denied, wasmvm.DeniedReadOnly},
		{"too little gas", Call{To: target(self), Method: "peek", Args: none, Gas: 10}, ledger.OutOfGas, 0},
		{"no contract", Call{To: target(ledger.Address{7}), Method: "peek"}, ledger.NotFound, 0},
	} {
		t.Run(s.story, func(t *testing.T) {
			o, err := c.x.View(ctx, c.head, s.call)
			if err != nil || o.Status != s.status || o.Code != s.code || len(o.Changes) != 0 {
				t.Errorf("%+v, %v; want %s with code %d", o, err, s.status, s.code)
			}
		})
	}
	t.Run("a module comes back whole", func(t *testing.T) {
		d, _, err := precompiles.ReadContract(c.head, self)
		if err != nil {
			t.Fatal(err)
		}
		o, err := c.x.View(ctx, c.head, Call{To: target(precompiles.ContractsAddress), Method: "code", Args: c.marshal(precompiles.CodeArgs{Digest: d.Code})})
		var code []byte
		if err != nil || ledger.Unmarshal(o.Data, &code) != nil || !bytes.Equal(code, probe().module(t, probeSchema())) {
			t.Errorf("%d bytes, %v", len(o.Data), err)
		}
	})
	t.Run("a dry run writes nothing and tells what it would", func(t *testing.T) {
		root := c.head.Root()
		o, err := c.x.DryRun(ctx, c.head, Call{From: address("user"), To: target(self), Method: "put", Args: none})
		if err != nil || o.Status != ledger.OK || len(o.Changes) != 1 || c.head.Root() != root {
			t.Errorf("%+v, %v", o, err)
		}
		o, err = c.x.DryRun(ctx, c.head, Call{From: address("user"), To: target(self), Method: "trap", Args: none})
		if err != nil || o.Status != ledger.Trapped || !strings.Contains(o.Trace, "trap") || len(o.Changes) != 0 {
			t.Errorf("%+v, %v", o, err)
		}
		o, err = c.x.DryRun(ctx, c.head, Call{To: target(self), Method: "put", Args: none})
		if err != nil || o.Status != ledger.Denied || o.Code != precompiles.DeniedAccount {
			t.Errorf("%+v, %v", o, err)
		}
	})
	t.Run("the trace holds what the contract logs", func(t *testing.T) {
		o, err := c.x.View(ctx, c.head, Call{To: target(self), Method: "peek", Args: none})
		if err != nil || !strings.Contains(o.Trace, `info: "looked"`) {
			t.Errorf("trace %q, %v", o.Trace, err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 20 {
					if o, err := c.x.View(ctx, c.head, Call{To: target(self), Method: "peek", Args: none}); err != nil || o.Status != ledger.OK {
						t.Errorf("%+v, %v", o, err)
					}
				}
			})
		}
		all.Wait()
	})
}

// TestDeterminism executes one history on the interpreter, then again on the other engine and from the bytes of
// its transactions, and compares every block hash.
func TestDeterminism(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	other := c.deploy(probe().module(t, probeSchema()))
	random := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		var txs []*ledger.SignedTx
		for range random.IntN(12) {
			method := probe().methods[random.IntN(len(probe().methods))]
			to, target := self, other
			if random.IntN(2) == 0 {
				to, target = other, self
			}
			sender := []string{"admin", "user", "stranger"}[random.IntN(3)]
			switch random.IntN(6) {
			case 0:
				key := ledger.KeyOf(newSigner(t, fmt.Sprint(random.Uint64())).Public())
				txs = append(txs, c.tx("admin", precompiles.AccountsAddress, "register", precompiles.RegisterArgs{Institution: "alpha", Accounts: []precompiles.NewAccount{
					{Threshold: 1, Keys: []precompiles.AccountKey{{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1}}},
				}}))
			case 1:
				txs = append(txs, c.sign(c.body(sender, to, method, none), c.signers["regulator"]))
			default:
				txs = append(txs, c.tx(sender, to, method, [1]ledger.Address{target}))
			}
		}
		c.block(txs...)
	}

	t.Run("the other engine", func(t *testing.T) {
		again := newChainOn(t, newVM(t, wasmvm.Default))
		for _, b := range c.blocks {
			next, err := again.x.Execute(context.Background(), again.head, &b.order, b.txs)
			if err != nil {
				t.Fatal(err)
			}
			if again.head = next; next.Hash() != b.root {
				t.Fatalf("block %d has another hash", b.order.Height)
			}
		}
	})
	t.Run("transactions decoded from bytes", func(t *testing.T) {
		again := newChain(t)
		for _, b := range c.blocks {
			txs := make([]*ledger.SignedTx, len(b.txs))
			for i, tx := range b.txs {
				var err error
				if txs[i], err = ledger.DecodeTx(c.suite, bytes.Clone(tx.Raw)); err != nil {
					t.Fatal(err)
				}
			}
			next, err := again.x.Execute(context.Background(), again.head, &b.order, txs)
			if err != nil {
				t.Fatal(err)
			}
			if again.head = next; next.Hash() != b.root {
				t.Fatalf("block %d has another hash", b.order.Height)
			}
		}
	})
}

// TestReopenedStore executes each block twice on a store that is closed and opened after every block.
func TestReopenedStore(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	for _, method := range []string{"put", "event", "fail", "random", "count", "scan"} {
		c.block(c.tx("user", self, method, none), c.tx("admin", self, method, none))
	}
	dir := t.TempDir()
	open := func() *state.Store {
		t.Helper()
		store, err := state.Open(dir, c.suite, nil)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	block, snapshot, err := c.x.Genesis(c.genesis)
	if err != nil {
		t.Fatal(err)
	}
	store := open()
	commit := func(b *ledger.Block, next *state.Snapshot) {
		t.Helper()
		if err := store.Commit(b, next); err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		store = open()
	}
	commit(block, snapshot)
	for _, b := range c.blocks {
		next, err := c.x.Execute(context.Background(), store.Head(), &b.order, b.txs)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.x.Execute(context.Background(), store.Head(), &b.order, b.txs)
		if err != nil {
			t.Fatal(err)
		}
		if next.Hash() != b.root || again.Hash() != b.root {
			t.Fatalf("block %d has another hash", b.order.Height)
		}
		raw := make([][]byte, len(b.txs))
		for i, tx := range b.txs {
			raw[i] = tx.Raw
		}
		commit(&ledger.Block{Version: ledger.Version, Header: *next.Header(), Txs: raw}, next)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestExplain(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	txs := []*ledger.SignedTx{c.tx("user", self, "put", none), c.tx("user", self, "peek", none), c.tx("user", self, "trap", none), c.sign(c.body("user", self, "put", none), c.signers["admin"])}
	base, order := c.head, c.order(txs...)
	receipts := c.block(txs...)
	for i, want := range []struct{ text, reason string }{{}, {text: "looked"}, {"unreachable", "unreachable"}, {"not bound", "not bound"}} {
		e, err := c.x.Explain(context.Background(), base, &order, txs, i)
		if err != nil || e.Receipt.Hash(c.suite) != receipts[i].Hash(c.suite) || !strings.Contains(e.Text, want.text) || !strings.Contains(e.Reason, want.reason) || want.reason == "" && e.Reason != "" {
			t.Errorf("Explain(%d) = %+v, %v; want %+v in it", i, e, err, want)
		}
	}
	if _, err := c.x.Explain(context.Background(), base, &order, txs, 4); err == nil {
		t.Error("explained a transaction that is not there")
	}
}

func TestGenesisBlock(t *testing.T) {
	c := newChain(t)
	block, snapshot, err := Genesis(c.suite, c.genesis)
	if err != nil || block.Header.Hash(c.suite) != snapshot.Hash() || block.Header.Order.Chain != c.genesis.Hash(c.suite) || !block.Certificate.IsZero() {
		t.Fatalf("%+v, %v", block, err)
	}
	epoch, err := c.x.Epoch(snapshot)
	if err != nil || len(epoch.Members) != 1 || epoch.Params.TxGas != c.genesis.Params.TxGas {
		t.Errorf("Epoch = %+v, %v", epoch, err)
	}
	if again, _, err := c.x.Genesis(c.genesis); err != nil || again.Header.Hash(c.suite) != block.Header.Hash(c.suite) {
		t.Errorf("Executor.Genesis = %+v, %v", again, err)
	}
	for _, bad := range []func(*ledger.Genesis){
		func(g *ledger.Genesis) { g.Suite = "none" },
		func(g *ledger.Genesis) { g.Version = 9 },
		func(g *ledger.Genesis) { g.Members = nil },
	} {
		g := *c.genesis
		bad(&g)
		if _, _, err := Genesis(c.suite, &g); err == nil {
			t.Error("accepted a bad genesis")
		}
		if _, _, err := c.x.Genesis(&g); err == nil {
			t.Error("accepted another chain's genesis")
		}
	}
}

func TestPrepare(t *testing.T) {
	c := newChain(t)
	for _, args := range []any{precompiles.DeployArgs{Code: probe().module(t, nil)}, precompiles.DeployArgs{Code: []byte("no module")}, none} {
		for _, method := range []string{"deploy", "replace", "info"} {
			tx := c.tx("admin", precompiles.ContractsAddress, method, args)
			if err := errors.Join(c.x.Admit(c.head, tx), c.x.Prepare(context.Background(), tx)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	for processors, want := range map[int]int{1: 1, 2: 1, 3: 2, 64: 63, 1000: MaxWorkers} {
		if got := workersOf(processors); got != want {
			t.Errorf("%d workers on %d processors, want %d", got, processors, want)
		}
	}
	good := Config{Suite: keystest.Suite(), Chain: keys.Digest{1}, Group: "main", VM: newVM(t, wasmvm.Interpreter)}
	for field, change := range map[string]func(*Config){
		"Suite": func(c *Config) { c.Suite = nil }, "Chain": func(c *Config) { c.Chain = keys.Digest{} },
		"Group": func(c *Config) { c.Group = "" }, "VM": func(c *Config) { c.VM = nil },
		"Workers": func(c *Config) { c.Workers = MaxWorkers + 1 },
	} {
		bad := good
		change(&bad)
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New without %s = %v", field, err)
		}
	}
}

// TestWrongOrder gives the executor orders that are not of its group: faults of this node, not receipts.
func TestWrongOrder(t *testing.T) {
	c := newChain(t)
	for _, change := range []func(*ledger.Order){
		func(o *ledger.Order) { o.Group = "other" }, func(o *ledger.Order) { o.Chain[0] ^= 1 },
		func(o *ledger.Order) { o.TxCount = 3 }, func(o *ledger.Order) { o.Height = 9 },
	} {
		order := c.order()
		change(&order)
		if _, err := c.x.Execute(context.Background(), c.head, &order, nil); err == nil {
			t.Errorf("executed %+v", order)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tx := c.tx("user", precompiles.ConfigAddress, "params", none)
	order := c.order(tx)
	if _, err := c.x.Execute(ctx, c.head, &order, []*ledger.SignedTx{tx}); err == nil {
		t.Error("executed after the context ended")
	}
}

func BenchmarkExecute(b *testing.B) {
	bench := func(b *testing.B, prepare func(c *chain) func(i int) *ledger.SignedTx) {
		c := newChainOn(b, newVM(b, wasmvm.Default))
		tx := prepare(c)
		txs := make([]*ledger.SignedTx, 1_000)
		for i := range txs {
			txs[i] = tx(i)
		}
		order := c.order(txs...)
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			result, err := c.x.execute(context.Background(), c.head, &order, txs)
			if err != nil || result.Receipts[0].Status != ledger.OK {
				b.Fatal(result.Receipts[0], err)
			}
			n += len(txs)
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/tx")
	}
	b.Run("system view", func(b *testing.B) {
		bench(b, func(c *chain) func(int) *ledger.SignedTx {
			return func(int) *ledger.SignedTx {
				return c.tx("user", precompiles.AccountsAddress, "get", precompiles.AddressArgs{Address: address("user")})
			}
		})
	})
	b.Run("small contract, one write", func(b *testing.B) {
		bench(b, func(c *chain) func(int) *ledger.SignedTx {
			self := c.deploy(probe().module(b, probeSchema()))
			return func(int) *ledger.SignedTx { return c.tx("user", self, "put", none) }
		})
	})
}
