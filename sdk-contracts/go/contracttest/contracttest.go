// Package contracttest runs contracts as a node does, without a network: the real module, rewritten and
// metered, on the real executor and world state, one block for each call. Gas, statuses and receipts are those
// of a chain. Time moves only when a test moves it.
//
//	chain := contracttest.New(t, contracttest.Named("issuer", "alice", "bob")...)
//	token := chain.Deploy("issuer", ".", "Gold", "XAU", chain.Address("issuer"))
//	token.Call("issuer", "issue", chain.Address("alice"), 100).OK()
//	token.Call("alice", "transfer", chain.Address("bob"), 101).Refused("InsufficientFunds", `{"have":"100","need":"101"}`)
//	token.Call("alice", "transfer", chain.Address("bob"), 40).OK().Emitted("Transferred", …)
//	token.Sees("balance_of", `"60"`, chain.Address("alice"))
//
// Arguments are Go values whose JSON is what ledger.Schema.EncodeArgs reads: numbers, strings, ledger.Address,
// structs and slices; []byte is given as it is. Whatever is wrong with a test ends it.
package contracttest

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
	"github.com/fondaco/fondaco/wasmvm"
)

// Account is an account of the chain. Its institution is "bank" if empty.
type Account struct {
	Name        string
	Institution string
	Roles       []string // sorted
}

// Named returns accounts without roles.
func Named(names ...string) []Account {
	accounts := make([]Account, len(names))
	for i, name := range names {
		accounts[i].Name = name
	}
	return accounts
}

// Chain is a chain with a block for each call. It is not safe for concurrent use.
type Chain struct {
	tb      testing.TB
	suite   keys.Suite
	genesis *ledger.Genesis
	id      keys.Digest
	signers map[string]keys.Signer
	vm      *wasmvm.VM
	exec    *executor.Executor
	store   *state.Store
	now     int64 // Unix ms of the next block
	nonce   uint64
}

// Start is the time of block 0 in Unix milliseconds: 2026-01-01 UTC.
const Start = 1_767_225_600_000

// blockTime is how much later each block is than the one before.
const blockTime = 1_000

// New returns a chain with the accounts, on which everybody may deploy. It ends with the test.
func New(tb testing.TB, accounts ...Account) *Chain {
	tb.Helper()
	return NewOn(tb, wasmvm.Interpreter, accounts...)
}

// NewOn is New with an engine of choice: the interpreter begins sooner, the compiler runs faster, and results
// and gas are equal.
func NewOn(tb testing.TB, engine wasmvm.Engine, accounts ...Account) *Chain {
	tb.Helper()
	c := &Chain{tb: tb, suite: keys.Std(), signers: map[string]keys.Signer{}, now: Start}
	params := ledger.DefaultParams()
	params.DeployRoles = nil
	node := c.signer("node of bank")
	c.genesis = &ledger.Genesis{
		Version: ledger.Version, Name: "contracttest", Suite: c.suite.Name(), Group: "main", Engine: "none", UnixMilli: Start, Params: params,
		Members: []ledger.Member{{Node: [32]byte{1}, Institution: "bank", Key: ledger.KeyOf(node.Public())}},
	}
	for _, a := range accounts {
		if a.Institution == "" {
			a.Institution = "bank"
		}
		c.signers[a.Name] = c.signer(a.Name)
		c.genesis.Accounts = append(c.genesis.Accounts, ledger.GenesisAccount{
			Name: a.Name, Institution: a.Institution, Roles: a.Roles, Keys: []ledger.Key{ledger.KeyOf(c.signers[a.Name].Public())},
		})
	}
	c.id = c.genesis.Hash(c.suite)
	var err error
	if c.store, err = state.Open("chain", c.suite, &state.Options{FS: memfs.New(), Memory: true, Synchronous: true}); err != nil {
		tb.Fatal(err)
	}
	block, genesis, err := executor.Genesis(c.suite, c.genesis)
	if err == nil {
		err = c.store.Commit(block, genesis)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if c.vm, err = wasmvm.New(context.Background(), wasmvm.Config{Engine: engine, Suite: c.suite, MemoryPages: params.MemoryPages}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(c.vm.Close(context.Background()), c.store.Close()); err != nil {
			tb.Error(err)
		}
	})
	if c.exec, err = executor.New(executor.Config{Suite: c.suite, Chain: c.id, Group: "main", VM: c.vm}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// signer returns a key that depends on the name alone.
func (c *Chain) signer(name string) keys.Signer {
	c.tb.Helper()
	seed := [32]byte(c.suite.Sum([]byte("contracttest"), []byte(name)))
	signer, err := c.suite.Generate(keys.Ed25519, rand.NewChaCha8(seed))
	if err != nil {
		c.tb.Fatal(err)
	}
	return signer
}

// Address returns the address of an account.
func (c *Chain) Address(account string) ledger.Address {
	c.tb.Helper()
	if c.signers[account] == nil {
		c.tb.Fatalf("the chain has no account %q: name it in New", account)
	}
	return ledger.NamedAddress(c.suite, "account", account)
}

// Height is the height of the last block.
func (c *Chain) Height() ledger.Height { return c.store.Head().Height() }

// Now is the time of the last block.
func (c *Chain) Now() time.Time { return time.UnixMilli(c.store.Head().Header().Order.UnixMilli) }

// Advance makes the next block later by d.
func (c *Chain) Advance(d time.Duration) { c.now += d.Milliseconds() }

// Deploy builds the contract in the Go package in folder dir and deploys it on behalf of an account, with the
// arguments of its init.
func (c *Chain) Deploy(from, dir string, args ...any) *Contract {
	c.tb.Helper()
	built, err := contract.Build(c.tb.Context(), dir, "")
	if err != nil {
		c.tb.Fatal(err)
	}
	return c.DeployModule(from, built.Code, args...)
}

// DeployModule deploys a module, of whatever language, that has a schema.
func (c *Chain) DeployModule(from string, code []byte, args ...any) *Contract {
	c.tb.Helper()
	schema, err := ledger.ModuleSchema(code)
	if err != nil {
		c.tb.Fatal(err)
	}
	init := []byte{0x80}
	if schema.Method("init") != nil || len(args) > 0 {
		init = c.encode(schema, "init", args)
	}
	raw, err := ledger.Marshal(precompiles.DeployArgs{Code: code, Args: init})
	if err != nil {
		c.tb.Fatal(err)
	}
	receipt := c.transact(from, ledger.Target{Address: precompiles.ContractsAddress}, "deploy", raw, 0)
	deployed := &Contract{chain: c, Schema: schema}
	r := &Receipt{Receipt: receipt, contract: deployed, method: "init"}
	if receipt.Status != ledger.OK {
		c.tb.Fatalf("deploy %s: %s", schema.Name, r.outcome())
	}
	if err := ledger.Unmarshal(receipt.Data, &deployed.Address); err != nil {
		c.tb.Fatal(err)
	}
	deployed.Deployed = r
	return deployed
}

// transact makes a block of one transaction. Gas 0 is the chain's limit.
func (c *Chain) transact(from string, to ledger.Target, method string, args []byte, gas ledger.Gas) ledger.Receipt {
	c.tb.Helper()
	last := c.store.Head().Header().Order
	c.now = max(c.now, last.UnixMilli) + blockTime
	c.nonce++
	tx := ledger.Tx{
		Version: ledger.Version, Chain: c.id, Group: "main", Sender: c.Address(from), Expiry: c.now, GasLimit: gas, To: to, Method: method, Args: args,
	}
	if gas == 0 {
		tx.GasLimit = c.genesis.Params.TxGas
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], c.nonce)
	signed, err := tx.Sign(c.suite, c.signers[from])
	if err != nil {
		c.tb.Fatal(err)
	}
	order := ledger.Order{
		Version: ledger.Version, Chain: c.id, Group: "main", Height: last.Height + 1, Parent: c.store.Head().OrderHash(), UnixMilli: c.now,
		TxRoot: ledger.Root(c.suite, []keys.Digest{signed.Leaf}), TxCount: 1, TxBytes: uint64(len(signed.Raw)), GasLimit: c.genesis.Params.BlockGas,
	}
	next, err := c.exec.Execute(context.Background(), c.store.Head(), &order, []*ledger.SignedTx{signed})
	if err == nil {
		err = c.store.Commit(&ledger.Block{Version: ledger.Version, Header: *next.Header(), Txs: [][]byte{signed.Raw}}, next)
	}
	if err != nil {
		c.tb.Fatal(err)
	}
	receipts, err := c.store.Receipts(order.Height)
	if err != nil || len(receipts) != 1 {
		c.tb.Fatalf("%d receipts of a block of one transaction, %v", len(receipts), err)
	}
	return receipts[0]
}

func (c *Chain) encode(schema *ledger.Schema, method string, args []any) []byte {
	c.tb.Helper()
	raw := make([]json.RawMessage, len(args))
	for i, a := range args {
		if b, ok := a.([]byte); ok {
			a = "0x" + hex.EncodeToString(b)
		}
		text, err := json.Marshal(a)
		if err != nil {
			c.tb.Fatalf("argument %d of %s: %v", i, method, err)
		}
		raw[i] = text
	}
	encoded, err := schema.EncodeArgs(method, raw)
	if err != nil {
		c.tb.Fatal(err)
	}
	return encoded
}

// Contract is a deployed contract.
type Contract struct {
	Address  ledger.Address
	Schema   *ledger.Schema
	Deployed *Receipt // of the deployment

	chain *Chain
}

// Call sends a transaction on behalf of an account and returns its receipt.
func (x *Contract) Call(from, method string, args ...any) *Receipt {
	x.chain.tb.Helper()
	return x.CallGas(from, 0, method, args...)
}

// CallGas is Call with a gas limit.
func (x *Contract) CallGas(from string, gas ledger.Gas, method string, args ...any) *Receipt {
	x.chain.tb.Helper()
	encoded := x.chain.encode(x.Schema, method, args)
	receipt := x.chain.transact(from, ledger.Target{Address: x.Address}, method, encoded, gas)
	return &Receipt{Receipt: receipt, contract: x, method: method}
}

// View calls a view at the last block, on behalf of nobody, and returns its result as
// ledger.Schema.DecodeValue does.
func (x *Contract) View(method string, args ...any) any {
	x.chain.tb.Helper()
	out := x.ViewAs("", method, args...)
	if out.Status != ledger.OK {
		x.chain.tb.Fatalf("view %s: %s", method, out.outcome())
	}
	return out.Returned()
}

// ViewAs calls a view on behalf of an account, or of nobody, and returns how it ended; the receipt is in no
// block.
func (x *Contract) ViewAs(from, method string, args ...any) *Receipt {
	c := x.chain
	c.tb.Helper()
	call := executor.Call{To: ledger.Target{Address: x.Address}, Method: method, Args: c.encode(x.Schema, method, args)}
	if from != "" {
		call.From = c.Address(from)
	}
	out, err := c.exec.View(context.Background(), c.store.Head(), call)
	if err != nil {
		c.tb.Fatal(err)
	}
	return &Receipt{Receipt: ledger.Receipt{Status: out.Status, Code: out.Code, Data: out.Data, Gas: out.Gas}, Trace: out.Trace, contract: x, method: method}
}

// Sees fails the test unless the view returns what the JSON says.
func (x *Contract) Sees(method, want string, args ...any) {
	x.chain.tb.Helper()
	if got := x.chain.json(x.View(method, args...)); got != want {
		x.chain.tb.Errorf("%s.%s returns %s, want %s", x.Schema.Name, method, got, want)
	}
}

func (c *Chain) json(v any) string {
	c.tb.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		c.tb.Fatal(err)
	}
	return string(text)
}

// Receipt is how a call ended.
type Receipt struct {
	ledger.Receipt
	Trace string // of a view: log lines and reasons, for people

	contract *Contract
	method   string
}

// outcome says in words how the call ended.
func (r *Receipt) outcome() string {
	text := r.Status.String()
	if r.Status == ledger.Aborted || r.Status == ledger.Denied {
		text += fmt.Sprintf(" with code %d", r.Code)
	}
	if name, fields, err := r.contract.Schema.DecodeError(r.Code, r.Data); r.Status == ledger.Aborted && err == nil {
		text += fmt.Sprintf(", %s%s", name, r.contract.chain.json(fields))
	} else if v, err := r.contract.Schema.DecodeValue("str", r.Data); err == nil {
		text += fmt.Sprintf(", %q", v)
	} else if len(r.Data) > 0 && len(r.Data) <= 1<<10 {
		text += fmt.Sprintf(", data %x", r.Data)
	}
	if r.Trace != "" {
		text += "\n" + r.Trace
	}
	return text
}

// OK ends the test unless the call succeeded.
func (r *Receipt) OK() *Receipt {
	tb := r.contract.chain.tb
	tb.Helper()
	if r.Status != ledger.OK {
		tb.Fatalf("%s: %s, want ok", r.method, r.outcome())
	}
	return r
}

// Refused fails the test unless the contract refused with the named error and the fields that the JSON says.
func (r *Receipt) Refused(name, fields string) *Receipt {
	c := r.contract.chain
	c.tb.Helper()
	got, record, err := r.contract.Schema.DecodeError(r.Code, r.Data)
	if r.Status != ledger.Aborted || err != nil || got != name || c.json(record) != fields {
		c.tb.Errorf("%s: %s, want the error %s%s", r.method, r.outcome(), name, fields)
	}
	return r
}

// Ended fails the test unless the call ended with the status and code.
func (r *Receipt) Ended(status ledger.Status, code uint32) *Receipt {
	tb := r.contract.chain.tb
	tb.Helper()
	if r.Status != status || r.Code != code {
		tb.Errorf("%s: %s, want %s with code %d", r.method, r.outcome(), status, code)
	}
	return r
}

// Returned returns the result as ledger.Schema.DecodeValue does.
func (r *Receipt) Returned() any {
	tb := r.contract.chain.tb
	tb.Helper()
	v, err := r.contract.Schema.DecodeReturn(r.method, r.OK().Data)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// Emitted fails the test unless the call emitted, alone or among others, the named
// event with the fields that the JSON says.
func (r *Receipt) Emitted(topic, fields string) *Receipt {
	c := r.contract.chain
	c.tb.Helper()
	var others []string
	for _, e := range r.Events {
		if e.Contract != r.contract.Address {
			continue
		}
		record, err := r.contract.Schema.DecodeEvent(e.Topic, e.Data)
		if err != nil {
			c.tb.Fatal(err)
		}
		text := c.json(record)
		if e.Topic == topic && text == fields {
			return r
		}
		others = append(others, e.Topic+text)
	}
	c.tb.Errorf("%s did not emit %s%s; it emitted %q", r.method, topic, fields, others)
	return r
}
