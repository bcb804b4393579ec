// Package contracttest runs contracts in Go tests as a node does: node/contract/localchain with a testing.TB in its hand. For
// tests that need no Go, write a story: see node/contract/story.
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
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Account is an account of the chain. Its institution is "bank" if empty.
type Account = localchain.Account

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
	tb    testing.TB
	chain *localchain.Chain
}

// Start is the time of block 0 in Unix milliseconds: 2026-01-01 UTC.
const Start = localchain.Start

// New returns a chain with the accounts, on which everybody may deploy. It ends with the test. Its suite is std, or gm if the
// environment variable FONDACO_TEST_SUITE says so.
func New(tb testing.TB, accounts ...Account) *Chain {
	tb.Helper()
	return NewOn(tb, wasmvm.Interpreter, accounts...)
}

// NewOn is New with an engine of choice: the interpreter begins sooner, the compiler runs faster, and results
// and gas are equal.
func NewOn(tb testing.TB, engine wasmvm.Engine, accounts ...Account) *Chain {
	tb.Helper()
	vm, err := localchain.NewVM(context.Background(), engine)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := vm.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	chain, err := localchain.New(context.Background(), localchain.Config{Accounts: accounts, Suite: keystest.Suite(), VM: vm})
	if err != nil {
		tb.Fatal(err)
	}
	return &Chain{tb: tb, chain: chain}
}

// Address returns the address of an account.
func (c *Chain) Address(account string) ledger.Address {
	c.tb.Helper()
	address, err := c.chain.Address(account)
	if err != nil {
		c.tb.Fatal(err)
	}
	return address
}

// Height is the height of the last block.
func (c *Chain) Height() ledger.Height { return c.chain.Height() }

// Now is the time of the last block, or what Advance made of it since.
func (c *Chain) Now() time.Time { return c.chain.Now() }

// Advance sets the time of the next block to d after Now.
func (c *Chain) Advance(d time.Duration) {
	c.tb.Helper()
	if err := c.chain.Advance(d); err != nil {
		c.tb.Fatal(err)
	}
}

// Point returns where the chain is, for GoBack.
func (c *Chain) Point() localchain.Point { return c.chain.Point() }

// GoBack makes the chain what it was at a point.
func (c *Chain) GoBack(to localchain.Point) { c.chain.GoBack(to) }

// Deploy builds the contract in folder dir, whatever its language, and deploys it on behalf of an account, with
// the arguments of its init.
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
	var init []byte
	if schema.Method("init") != nil || len(args) > 0 {
		init = c.encode(schema, "init", args)
	}
	address, receipt, err := c.chain.Deploy(context.Background(), from, code, init)
	if err != nil {
		c.tb.Fatal(err)
	}
	deployed := &Contract{Address: address, Schema: schema, chain: c}
	deployed.Deployed = c.receipt(deployed, "init", receipt)
	if receipt.Status != ledger.OK {
		c.tb.Fatalf("deploy %s: %s", schema.Name, deployed.Deployed.outcome())
	}
	return deployed
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
	call := localchain.Call{From: from, To: x.Address, Method: method, Args: x.chain.encode(x.Schema, method, args), Gas: gas}
	r, err := x.chain.chain.Call(context.Background(), call)
	if err != nil {
		x.chain.tb.Fatal(err)
	}
	return x.chain.receipt(x, method, r)
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
	x.chain.tb.Helper()
	call := localchain.Call{From: from, To: x.Address, Method: method, Args: x.chain.encode(x.Schema, method, args)}
	r, err := x.chain.chain.View(context.Background(), call)
	if err != nil {
		x.chain.tb.Fatal(err)
	}
	return x.chain.receipt(x, method, r)
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

func (c *Chain) receipt(x *Contract, method string, r *localchain.Receipt) *Receipt {
	return &Receipt{Receipt: r.Receipt, full: r, contract: x, method: method}
}

// Receipt is how a call ended.
type Receipt struct {
	ledger.Receipt

	full     *localchain.Receipt
	contract *Contract
	method   string
}

// Trace returns log lines and reasons, for people. See localchain.Receipt.Trace.
func (r *Receipt) Trace() string {
	tb := r.contract.chain.tb
	tb.Helper()
	text, err := r.full.Trace(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return text
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
	if trace := r.Trace(); trace != "" {
		text += "\n" + trace
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
