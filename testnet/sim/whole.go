package sim

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// tokenModule is sdk-contracts/c/contracts/token as a WebAssembly module; TestToken builds it again.
//
//go:embed testdata/token.wasm
var tokenModule []byte

const (
	issued   = 1_000       // to each holder at the start
	tokenGas = 20_000_000  // limit of a call of the token
	holders  = 4           // accounts that have some of it
	issuer   = "issuer"    // deploys it
	viewGas  = 100_000_000 // of the checks' own calls
)

// newVM returns the virtual machine that all nodes of the process share, so that each module is compiled once.
func newVM(ctx context.Context) (*wasmvm.VM, error) {
	vm, err := wasmvm.New(ctx, wasmvm.Config{Engine: wasmvm.Compiler, Suite: keys.Std(), MemoryPages: ledger.DefaultParams().MemoryPages, Wait: true})
	if err != nil {
		return nil, fmt.Errorf("start the virtual machine: %w", err)
	}
	return vm, nil
}

// whole is what a schedule of whole nodes has beyond the others: the real executor with its system contracts, and a token
// in WebAssembly that accounts transfer. The oracle executes each final block a second time, on a state of its own, and
// keeps the balances that the receipts say.
type whole struct {
	world    *world
	vm       *wasmvm.VM
	schema   *ledger.Schema
	accounts map[ledger.Address]keys.Signer
	names    []ledger.Address // holders, then the issuer
	made     int              // transactions of the client

	executor *executor.Executor
	head     *state.Snapshot // the oracle's own
	token    ledger.Address  // zero until a final block deployed it
	balances map[ledger.Address]uint64
	supply   uint64
	calls    map[ledger.TxID]call
}

// call is what a transaction of the client asks the token for.
type call struct {
	method   string
	from, to ledger.Address
	amount   uint64
}

// addAccounts puts the accounts of the token's holders into genesis.
func (w *world) addAccounts(vm *wasmvm.VM) error {
	x := &whole{
		world: w, vm: vm, accounts: map[ledger.Address]keys.Signer{}, balances: map[ledger.Address]uint64{}, calls: map[ledger.TxID]call{},
	}
	var err error
	if x.schema, err = ledger.ModuleSchema(tokenModule); err != nil {
		return fmt.Errorf("the token's schema: %w", err)
	}
	w.config.Params.DeployRoles = nil
	for i := range holders + 1 {
		name := fmt.Sprintf("holder-%d", i)
		if i == holders {
			name = issuer
		}
		signer := w.suite.signer(uint64(2_000_000 + i))
		address := ledger.NamedAddress(w.suite, "account", name)
		x.accounts[address] = signer
		x.names = append(x.names, address)
		w.config.Accounts = append(w.config.Accounts, ledger.GenesisAccount{
			Name: name, Institution: w.config.Members[0].Institution, Keys: []ledger.Key{ledger.KeyOf(signer.Public())},
		})
	}
	w.whole = x
	return nil
}

// genesis makes block 0 and the oracle's executor.
func (x *whole) genesis() error {
	w := x.world
	var err error
	if w.block, w.first, err = executor.Genesis(w.suite, &w.config); err != nil {
		return fmt.Errorf("make genesis: %w", err)
	}
	x.head = w.first
	x.executor, err = x.newExecutor()
	return err
}

func (x *whole) newExecutor() (*executor.Executor, error) {
	return executor.New(executor.Config{Suite: x.world.suite, Chain: x.world.chain, Group: x.world.config.Group, VM: x.vm, ViewGas: viewGas})
}

// next fills in what the client's next transaction does: it deploys the token, issues to each holder, and then transfers
// between them, now and then more than there is.
func (x *whole) next(tx *ledger.Tx) (keys.Signer, call) {
	w := x.world
	from := x.names[holders]
	var c call
	if x.token.IsZero() {
		init := x.args("init", "Gold", "XAU", from)
		args, err := ledger.Marshal(precompiles.DeployArgs{Code: tokenModule, Args: init})
		if err != nil {
			w.fail("encode a deployment: %v", err)
		}
		tx.To, tx.Method, tx.Args, tx.GasLimit = ledger.Target{Address: precompiles.ContractsAddress}, "deploy", args, w.config.Params.TxGas
		c = call{method: "deploy", from: from}
	} else {
		c = call{method: "issue", from: from, to: x.names[x.made%holders], amount: issued}
		if x.made >= holders {
			c = call{method: "transfer", from: x.names[w.rng.IntN(holders)], to: x.names[w.rng.IntN(holders)], amount: 1 + w.rng.Uint64N(issued/4)}
			if w.chance(5) {
				c.amount = 100 * issued
			}
		}
		x.made++
		tx.To, tx.Method, tx.Args, tx.GasLimit = ledger.Target{Address: x.token}, c.method, x.args(c.method, c.to, c.amount), tokenGas
	}
	tx.Sender = c.from
	return x.accounts[c.from], c
}

func (x *whole) args(method string, values ...any) []byte {
	raw := make([]json.RawMessage, len(values))
	var err error
	for i, v := range values {
		if raw[i], err = json.Marshal(v); err != nil {
			x.world.fail("encode an argument: %v", err)
		}
	}
	args, err := x.schema.EncodeArgs(method, raw)
	if err != nil {
		x.world.fail("encode the arguments of %s: %v", method, err)
	}
	return args
}

// extend executes a final block once more and compares: its hash, which holds the state root, and what each call should
// have done to the balances.
func (x *whole) extend(h *host, b *ledger.Block, hash keys.Digest, txs []*ledger.SignedTx) {
	w := x.world
	result, err := x.executor.Execute(context.Background(), x.head, &b.Header.Order, txs)
	if err != nil {
		w.fail("execute block %d again: %v", b.Header.Order.Height, err)
		return
	}
	if result.Hash() != hash {
		w.fail("%s: block %d is %s, and executed again it is %s", h, b.Header.Order.Height, hash.Short(), result.Hash().Short())
		return
	}
	x.head = result
	receipts, err := result.Receipts()
	if err != nil {
		w.fail("receipts of block %d: %v", b.Header.Order.Height, err)
		return
	}
	for i := range receipts {
		x.receipt(h, &receipts[i])
	}
}

func (x *whole) receipt(h *host, r *ledger.Receipt) {
	w := x.world
	c := x.calls[r.Tx]
	should := true
	switch c.method {
	case "deploy":
		if x.token.IsZero() && r.Status == ledger.OK {
			if err := ledger.Unmarshal(r.Data, &x.token); err != nil {
				w.fail("%s: the address of the token: %v", h, err)
			}
		}
	case "issue":
		x.balances[c.to] += c.amount
		x.supply += c.amount
	case "transfer":
		if should = x.balances[c.from] >= c.amount; should {
			x.balances[c.from] -= c.amount
			x.balances[c.to] += c.amount
			w.report.Transfers++
		} else {
			w.report.Refused++
		}
	}
	if did := r.Status == ledger.OK; did != should {
		w.fail("%s: %s of %d ended as %s, code %d, with balance %d", h, c.method, c.amount, r.Status, r.Code, x.balances[c.from])
	}
}

// compare checks the balances that the token's own code reads from a host's state, when that is at the highest block.
func (x *whole) compare(h *host) {
	w := x.world
	if x.token.IsZero() || h.store.Head().Height() != w.oracle.height() {
		return
	}
	read := func(method string, values ...any) uint64 {
		out, err := h.executor.(*executor.Executor).View(context.Background(), h.store.Head(), executor.Call{
			To: ledger.Target{Address: x.token}, Method: method, Args: x.args(method, values...),
		})
		var n uint64
		if err == nil && out.Status == ledger.OK {
			n, err = amount(out.Data)
		}
		if err != nil || out.Status != ledger.OK {
			w.fail("%s: %s: %s, %v", h, method, out.Status, err)
		}
		return n
	}
	sum := uint64(0)
	for _, who := range x.names[:holders] {
		n := read("balance_of", who)
		sum += n
		if n != x.balances[who] {
			w.fail("%s: balance of %s is %d, by the receipts it is %d", h, who, n, x.balances[who])
		}
	}
	if supply := read("total_supply"); supply != x.supply || sum != supply {
		w.fail("%s: the supply is %d, the balances' sum %d; %d were issued", h, supply, sum, x.supply)
	}
}

// amount reads a number of the token's, a canonical CBOR integer.
func amount(data []byte) (uint64, error) {
	var n uint64
	if err := ledger.Unmarshal(data, &n); err != nil {
		return 0, fmt.Errorf("a number of %d bytes: %w", len(data), err)
	}
	return n, nil
}
