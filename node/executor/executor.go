// Package executor computes what a block does to the world state: it checks that each transaction's signers
// may act for its sender, runs the contract that it calls, and makes the receipts. Transactions take effect in the block's
// order; several workers may execute them ahead of their turn (parallel.go).
//
// Everything that it returns is a function of the base snapshot, the order and the transactions, on every
// node and every engine of the VM. A contract that misbehaves, whatever it does, gives a receipt. An error is
// a fault of this node (a damaged disk, a module that was admitted and that the interpreter does not take, engines
// that differ): no receipt may be made, and the node must not vote. For the same reason a panic is not recovered from, and a
// worker's reaches the caller: after it the node cannot trust its own state.
package executor

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// DefaultViewGas is what a view may use when Config.ViewGas is 0: about a quarter of a second.
const DefaultViewGas ledger.Gas = 1_000_000_000

// Config is what an executor is made of. Suite, Chain, Group and VM are required.
type Config struct {
	Suite   keys.Suite
	Chain   keys.Digest // digest of the chain's genesis
	Group   ledger.GroupID
	VM      *wasmvm.VM
	ViewGas ledger.Gas // highest gas limit of a view or dry run; 0: DefaultViewGas
	// Workers is how many goroutines execute a block's transactions, at most MaxWorkers. What they compute is the same for
	// any number. 0: one less than there are processors, which leaves one to consensus, and 1 where there are two or fewer.
	Workers int
}

// MaxWorkers is the most that Config.Workers can be.
const MaxWorkers = 256

func (c *Config) validate() error {
	switch {
	case c.Suite == nil:
		return errors.New("executor: Config.Suite is not set")
	case c.Chain.IsZero():
		return errors.New("executor: Config.Chain is zero")
	case c.Group == "" || len(c.Group) > ledger.MaxGroupLength:
		return fmt.Errorf("executor: Config.Group %q is not a group name", c.Group)
	case c.VM == nil:
		return errors.New("executor: Config.VM is not set")
	case c.Workers < 0 || c.Workers > MaxWorkers:
		return fmt.Errorf("executor: Config.Workers is %d, want 0 to %d", c.Workers, MaxWorkers)
	}
	if c.Workers == 0 {
		c.Workers = workersOf(runtime.GOMAXPROCS(0))
	}
	if c.ViewGas == 0 {
		c.ViewGas = DefaultViewGas
	}
	return nil
}

// workersOf returns what Config.Workers is on a machine if it is 0.
func workersOf(processors int) int { return min(max(1, processors-1), MaxWorkers) }

// Stats counts what the workers of an executor's blocks have done since New.
type Stats struct {
	Ahead uint64 // transactions that were executed ahead of their turn
	Again uint64 // of those, executed once more in their turn: what they had read had changed, or the block was full
}

// Stats returns what the workers have done in blocks that were executed to their end.
func (x *Executor) Stats() Stats { return Stats{Ahead: x.ahead.Load(), Again: x.again.Load()} }

// Executor executes the blocks of one group. It is safe for concurrent use.
type Executor struct {
	suite   keys.Suite
	chain   keys.Digest
	group   ledger.GroupID
	vm      *wasmvm.VM
	viewGas ledger.Gas
	workers int
	lane    lane
	ahead   atomic.Uint64 // see Stats
	again   atomic.Uint64
	known   atomic.Pointer[known]
	trial   map[uint16]ledger.Gas // as wasmvm.Config.Trial, in tests

	system      map[ledger.Address]*system
	accounts    *decoded[ledger.Address, precompiles.Account]
	deployments *decoded[ledger.Address, precompiles.Deployment]
	trusts      *decoded[string, precompiles.Trust] // by institution
}

// New returns an executor. The VM stays the caller's, who closes it after the executor's last call.
func New(c Config) (*Executor, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	x := &Executor{
		suite: c.Suite, chain: c.Chain, group: c.Group, vm: c.VM, viewGas: c.ViewGas, workers: c.Workers,
		system:      map[ledger.Address]*system{},
		accounts:    newDecoded[ledger.Address, precompiles.Account](precompiles.AccountStateKey),
		deployments: newDecoded[ledger.Address, precompiles.Deployment](precompiles.DeploymentStateKey),
		trusts:      newDecoded[string, precompiles.Trust](precompiles.TrustStateKey),
	}
	for _, contract := range precompiles.All() {
		x.system[contract.Address()] = newSystem(contract)
	}
	return x, nil
}

// Genesis returns block 0 of a chain and the state after it. The snapshot is not connected to a store.
func Genesis(suite keys.Suite, g *ledger.Genesis) (*ledger.Block, *state.Snapshot, error) {
	if g.Version != ledger.Version || g.Suite != suite.Name() {
		return nil, nil, fmt.Errorf("genesis of version %d and suite %q, want %d and %q", g.Version, g.Suite, ledger.Version, suite.Name())
	}
	changes, err := precompiles.Genesis(suite, g)
	if err != nil {
		return nil, nil, err
	}
	order := &ledger.Order{
		Version: ledger.Version, Chain: g.Hash(suite), Group: g.Group, UnixMilli: g.UnixMilli, TxRoot: ledger.Root(suite, nil),
	}
	snapshot, err := state.Empty(suite).Extend(order, state.Result{Changes: changes})
	if err != nil {
		return nil, nil, fmt.Errorf("state of genesis: %w", err)
	}
	return &ledger.Block{Version: ledger.Version, Header: *snapshot.Header()}, snapshot, nil
}

// Genesis returns block 0 of the executor's chain and the state after it. See the function Genesis.
func (x *Executor) Genesis(g *ledger.Genesis) (*ledger.Block, *state.Snapshot, error) {
	if hash := g.Hash(x.suite); hash != x.chain || g.Group != x.group {
		return nil, nil, fmt.Errorf("genesis of chain %s, group %q; want chain %s, group %q", hash, g.Group, x.chain, x.group)
	}
	return Genesis(x.suite, g)
}

// Execute returns the state after the block of order on base. The transactions are those of the order, and
// the block is valid: signatures verify, no transaction is expired or repeated. An error is a fault of this
// node, or the end of ctx.
func (x *Executor) Execute(ctx context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx) (*state.Snapshot, error) {
	result, err := x.execute(ctx, base, order, txs)
	if err != nil {
		return nil, fmt.Errorf("execute block %d of group %s: %w", order.Height, order.Group, err)
	}
	return base.Extend(order, result)
}

func (x *Executor) execute(ctx context.Context, base *state.Snapshot, order *ledger.Order, txs []*ledger.SignedTx) (result state.Result, err error) {
	if order.Chain != x.chain || order.Group != x.group || int(order.TxCount) != len(txs) {
		return result, fmt.Errorf("order of chain %s, group %q and %d transactions; there are %d", order.Chain, order.Group, order.TxCount, len(txs))
	}
	b, err := x.newBlock(base, order)
	if err != nil {
		return result, err
	}
	workers := min(x.workers, len(txs))
	serial := workers <= 1 || order.Barrier
	if serial {
		var records [][]keys.Digest
		if result.Receipts, records, err = b.serially(ctx, txs); err == nil {
			err = b.tally(ctx, b.overlay, txs, result.Receipts, records)
		}
	} else {
		result.Receipts, result.Changes, err = newSchedule(b, txs, workers).run(ctx)
	}
	if err != nil {
		return state.Result{}, err
	}
	for i := range result.Receipts {
		result.GasUsed += result.Receipts[i].Gas
	}
	if order.Barrier {
		epoch, writes, err := precompiles.EndEpoch(b.overlay, order.Height)
		if err != nil {
			return result, fmt.Errorf("end epoch %d: %w", order.Epoch, err)
		}
		for _, w := range writes {
			b.overlay.Put(w.Key, w.Value)
		}
		b.overlay.Settle()
		result.NextEpoch = epoch.Hash(x.suite)
	}
	if serial {
		result.Changes = b.overlay.Changes()
	}
	return result, nil
}

// tally writes what is counted of a block's transactions and the records of what the chain does by that, and links the audit records, after all of them.
func (b *block) tally(ctx context.Context, o *state.Overlay, txs []*ledger.SignedTx, receipts []ledger.Receipt, records [][]keys.Digest) error {
	writes, acts, err := precompiles.TallyNames(o, b.x.suite, b.order, txs, receipts, func(contract ledger.Address, method string) (bool, error) {
		return b.offers(ctx, o, contract, method)
	})
	if err != nil {
		return fmt.Errorf("count what was sent to names: %w", err)
	}
	for _, w := range writes {
		o.Put(w.Key, w.Value)
	}
	for i := range acts {
		a := &acts[i]
		of := &records[a.Index]
		a.Number = uint32(len(*of))
		raw, digest, err := a.Encode(b.x.suite)
		if err != nil {
			return err
		}
		o.Put(precompiles.AuditRecordKey(a.Height, a.Index, a.Number), raw)
		*of = append(slices.Clip(*of), digest)
	}
	if err := b.link(o, records); err != nil {
		return err
	}
	o.Settle()
	return nil
}

// offers reports whether a deployed contract has a method, at a state. One that does not keep to the chain's present rules has none.
func (b *block) offers(ctx context.Context, r precompiles.Reader, contract ledger.Address, method string) (bool, error) {
	deployment, err := b.x.deployments.read(r, contract)
	if err != nil || deployment == nil {
		return false, err
	}
	m, err := b.x.module(ctx, b.vm, r, deployment.Code)
	if errors.Is(err, wasmvm.ErrModule) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("contract %s: %w", contract, err)
	}
	schema := m.Info().Schema
	return m.Has(method) && (schema == nil || schema.Method(method) != nil), nil
}

// serially executes the block's transactions one after the other.
func (b *block) serially(ctx context.Context, txs []*ledger.SignedTx) (receipts []ledger.Receipt, records [][]keys.Digest, err error) {
	receipts, records = make([]ledger.Receipt, len(txs)), make([][]keys.Digest, len(txs))
	b.overlay.Grow(keysOfTx * len(txs))
	for i, tx := range txs {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if receipts[i], err = b.transact(ctx, uint32(i), tx, nil); err != nil {
			return nil, nil, fmt.Errorf("transaction %d, %s: %w", i, tx.ID, err)
		}
		records[i] = b.recorded
	}
	return receipts, records, nil
}

// Barrier reports whether a transaction ends the epoch of its block, in which it must be alone. The answer depends on
// the transaction alone.
func (x *Executor) Barrier(tx *ledger.SignedTx) bool {
	return precompiles.Activates(&tx.Tx) || precompiles.Recovers(&tx.Tx)
}

// EndsEpoch says why a transaction that Barrier holds for would change nothing as the block of order on base, or returns
// nil. It executes the block, for there are other reasons than what the motion lacks: a gas limit that is too low, a key
// that is not valid at the block's time. That takes one call of a system contract.
func (x *Executor) EndsEpoch(base *state.Snapshot, order *ledger.Order, tx *ledger.SignedTx) error {
	if !precompiles.Recovers(&tx.Tx) { // which no account sends
		if err := x.Admit(base, tx); err != nil {
			return err
		}
	}
	result, err := x.execute(context.Background(), base, order, []*ledger.SignedTx{tx})
	if err != nil {
		return fmt.Errorf("try block %d of group %s: %w", order.Height, order.Group, err)
	}
	r := &result.Receipts[0]
	if r.Status == ledger.OK {
		return nil
	}
	e, err := x.Explain(context.Background(), base, order, []*ledger.SignedTx{tx}, 0)
	if err != nil {
		return err
	}
	return fmt.Errorf("it ends as %s with code %d: %s", r.Status, r.Code, e.Reason)
}

// Nodes returns the nodes that have to do with the group after base, in order of their ids: members, observers,
// and those that were.
func (x *Executor) Nodes(base *state.Snapshot) ([]precompiles.ListedNode, error) {
	var nodes []precompiles.ListedNode
	prefix := precompiles.NodeKeys()
	for entry, err := range base.Range(prefix, prefixEnd(prefix), false) {
		if err == nil {
			var n precompiles.ListedNode
			n, err = precompiles.DecodeNode(entry.Key, entry.Value)
			nodes = append(nodes, n)
		}
		if err != nil {
			return nil, fmt.Errorf("read the nodes at height %d: %w", base.Height(), err)
		}
	}
	return nodes, nil
}

// Beginning returns how an epoch began, as the state after base has it, and whether it has begun.
func (x *Executor) Beginning(base *state.Snapshot, epoch uint64) (b precompiles.Beginning, found bool, err error) {
	if b, found, err = precompiles.ReadBeginning(base, epoch); err != nil {
		err = fmt.Errorf("read the beginning of epoch %d at height %d: %w", epoch, base.Height(), err)
	}
	return b, found, err
}

// Epoch returns the members and parameters in force after base.
func (x *Executor) Epoch(base *state.Snapshot) (ledger.Epoch, error) {
	epoch, err := precompiles.ReadEpoch(base)
	if err != nil {
		return epoch, fmt.Errorf("read the epoch at height %d: %w", base.Height(), err)
	}
	return epoch, nil
}

// SizeLimit returns how many bytes a transaction to the target may have.
func (x *Executor) SizeLimit(to ledger.Target) int {
	if to.Address == precompiles.ContractsAddress {
		return ledger.MaxDeployTxSize
	}
	return ledger.MaxTxSize
}

// following returns what is known of the order of the block after a state: its height, and that it is later.
func following(base *state.Snapshot) *ledger.Order {
	last := &base.Header().Order
	return &ledger.Order{Height: last.Height + 1, UnixMilli: last.UnixMilli + 1}
}

// Admit says why a transaction would, at a state, be refused before its contract runs, or returns nil. It
// is a filter for what is received: the state may change until the transaction is executed.
func (x *Executor) Admit(base *state.Snapshot, tx *ledger.SignedTx) error {
	if limit := x.SizeLimit(tx.To); len(tx.Raw) > limit {
		return fmt.Errorf("a transaction of %d bytes to %s, at most %d", len(tx.Raw), tx.To.Address, limit)
	}
	r, err := x.rules(base)
	if err != nil {
		return err
	}
	if price := x.price(r, following(base), tx); tx.GasLimit < price {
		return fmt.Errorf("a gas limit of %d; the transaction takes %d before its contract runs", tx.GasLimit, price)
	}
	account, err := x.accounts.read(base, tx.Sender)
	if err != nil {
		return fmt.Errorf("sender %s: %w", tx.Sender, err)
	}
	if account == nil {
		return &precompiles.Error{Status: ledger.Denied, Code: precompiles.DeniedAccount, Reason: fmt.Sprintf("the sender %s has no account", tx.Sender)}
	}
	// The block that includes the transaction is later than base, at most at the transaction's expiry.
	err = account.Authorize(x.keep(base), tx.Sender, tx.To, tx.Method, tx.Signatures, base.Header().Order.UnixMilli)
	if e, ok := errors.AsType[*precompiles.Error](err); ok && (e.Code == precompiles.DeniedKeyTime || e.Code == precompiles.DeniedFrozen) {
		err = account.Authorize(x.keep(base), tx.Sender, tx.To, tx.Method, tx.Signatures, tx.Expiry)
	}
	if err == nil && tx.To.Name == "" {
		err = account.Cosigned(base, tx.To.Address, tx.Method, tx.Signatures, base.Header().Order.UnixMilli)
	}
	if err == nil && tx.To.Address == precompiles.ContractsAddress && precompiles.Deploys(tx.Method) {
		err = precompiles.MayDeploy(base, tx.Sender, account, tx.Method) // before anybody compiles its module
	}
	if err == nil && x.Barrier(tx) {
		activate := func(unixMilli int64) error { // or anybody could end epochs
			return precompiles.MayActivate(base, x.suite, account, tx.Args, unixMilli, base.Height()+1)
		}
		err = activate(base.Header().Order.UnixMilli)
		if e, ok := errors.AsType[*precompiles.Error](err); ok && e.Code == precompiles.AbortLocked { // time stands still on an idle chain
			err = activate(tx.Expiry)
		}
	}
	return err
}

// Deploys returns the digest of the module that a transaction deploys or proposes, and whether it does.
func (x *Executor) Deploys(tx *ledger.SignedTx) (module keys.Digest, ok bool) {
	code, ok := deployed(tx)
	if !ok {
		return keys.Digest{}, false
	}
	return precompiles.CodeHash(x.suite, code), true
}

// deployed returns the module that a transaction deploys, and whether it deploys one.
func deployed(tx *ledger.SignedTx) (code []byte, ok bool) {
	if tx.To.Address != precompiles.ContractsAddress {
		return nil, false
	}
	switch tx.Method {
	case "deploy":
		var args precompiles.DeployArgs
		err := ledger.Unmarshal(tx.Args, &args)
		return args.Code, err == nil
	case "replace":
		var args precompiles.ReplaceArgs
		err := ledger.Unmarshal(tx.Args, &args)
		return args.Code, err == nil
	case "propose":
		var args precompiles.ProposalArgs
		err := ledger.Unmarshal(tx.Args, &args)
		return args.Code, err == nil
	}
	return nil, false
}

// Prepare admits the module that a transaction deploys, if it deploys one, and queues it for the compiler, so that executing the block
// need not wait for either. It takes time in proportion to the module and to the gas that the transaction offers its _initialize: call it when the
// transaction is received, Admit lets it pass and its signatures hold, away from anything that votes. What is wrong with the
// module the receipt will tell.
func (x *Executor) Prepare(ctx context.Context, tx *ledger.SignedTx) error {
	code, ok := deployed(tx)
	if !ok {
		return nil
	}
	r := x.known.Load() // of the state that was looked at last: good enough to be early
	if r == nil || tx.GasLimit > r.params.TxGas {
		return nil
	}
	left := tx.GasLimit
	spend := func(gas ledger.Gas) error {
		if gas > left {
			return errSpent
		}
		left -= gas
		return nil
	}
	if spend(x.price(r.rules, following(r.base), tx)) != nil || spend(r.prices.codeByte*ledger.Gas(len(code))) != nil {
		return nil
	}
	offer := ledger.Gas(0) // to _initialize
	m, used, err := r.vm.Admit(ctx, precompiles.CodeHash(x.suite, code), code, func(weight uint64) (ledger.Gas, error) {
		err := spend(r.prices.weight * ledger.Gas(weight))
		offer = left / r.prices.initialize
		return offer, err
	})
	if err == nil {
		return m.Optimize(ctx, 0)
	}
	if used > offer || errors.Is(err, errSpent) || errors.Is(err, wasmvm.ErrModule) {
		return nil
	}
	return fmt.Errorf("prepare the module of transaction %s: %w", tx.ID, err)
}

// errSpent says that a transaction's gas limit is too low for its module.
var errSpent = errors.New("the gas limit is used up")

// Warm makes the modules of deployed contracts ready to be called, as many as the VM keeps, and returns how many. Those
// in the VM's cache come compiled, and the others are queued for the compiler. It stops without an error when ctx ends.
func (x *Executor) Warm(ctx context.Context, base *state.Snapshot) (int, error) {
	r, err := x.rules(base)
	if err != nil {
		return 0, err
	}
	seen := map[keys.Digest]bool{}
	prefix := precompiles.DeploymentStateKey(ledger.Address{})
	prefix = prefix[:len(prefix)-ledger.AddressSize]
	for entry, err := range base.Range(prefix, prefixEnd(prefix), false) {
		if err != nil {
			return len(seen), fmt.Errorf("read the deployed contracts: %w", err)
		}
		if ctx.Err() != nil || len(seen) >= x.vm.Capacity() {
			return len(seen), nil
		}
		var deployment precompiles.Deployment
		if err := ledger.Unmarshal(entry.Value, &deployment); err != nil {
			return len(seen), fmt.Errorf("state under %x: %w", entry.Key, err)
		}
		if seen[deployment.Code] {
			continue
		}
		m, err := x.module(ctx, r.vm, base, deployment.Code)
		if err != nil {
			return len(seen), fmt.Errorf("contract %x: %w", entry.Key[len(prefix):], err)
		}
		if err := m.Optimize(ctx, 0); err != nil {
			return len(seen), nil
		}
		seen[deployment.Code] = true
	}
	return len(seen), nil
}

// module returns the module of a code that is in state. That it is not admitted now is a fault of this node.
func (x *Executor) module(ctx context.Context, vm *wasmvm.VM, r precompiles.Reader, hash keys.Digest) (*wasmvm.Module, error) {
	return vm.Module(ctx, hash, func() ([]byte, error) {
		code, found, err := precompiles.CodeByHash(r, hash)
		if err == nil && !found {
			err = fmt.Errorf("the code %s is not in state", hash)
		}
		return code, err
	})
}
