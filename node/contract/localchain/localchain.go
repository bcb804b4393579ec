// Package localchain is a chain in one process: the real executor, the real virtual machine and the real meter, one block
// for each transaction, and no network, consensus or disk. Gas, statuses and receipts are those of a node. It is what tests
// of contracts run on: "fondaco contract test" and the package contracttest stand on it.
//
// Time moves by one second a block, or as the caller says; nothing reads a clock, so a run repeats to the bit. A point in
// the chain's history can be kept and gone back to, as often as wanted.
package localchain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Errors that a caller may branch on.
var (
	// ErrName says that the chain has no account of that name.
	ErrName = errors.New("no such account")
	// ErrTime says that a time or height is not after the last block's, or too far ahead.
	ErrTime = errors.New("not a time to come")
)

// Start is the time of block 0 in Unix milliseconds: 2026-01-01 UTC.
const Start = 1_767_225_600_000

// BlockTime is how much later each block is than the one before, in milliseconds, unless time is moved.
const BlockTime = 1_000

// MaxSkip bounds the blocks that one call of SkipTo makes: they stay in memory.
const MaxSkip = 10_000

// DefaultInstitution is that of accounts that name none, and of the chain's one member.
const DefaultInstitution = "bank"

// Account is an account that exists from block 0 on.
type Account struct {
	Name        string
	Institution string // empty: DefaultInstitution
	Roles       []string
}

// Config says what a chain begins with. The zero value has nobody on it who could send a transaction.
type Config struct {
	Accounts []Account
	// Suite is the cryptography of the chain; nil: std. Addresses and digests depend on it.
	Suite keys.Suite
	// VM runs the contracts; it stays the caller's, and chains that share one compile each module once. Nil: an own one, with
	// the interpreter, which begins soonest.
	VM *wasmvm.VM
}

// Chain is a chain with a block for each transaction, on which everybody may deploy. It is not safe for concurrent use.
type Chain struct {
	suite   keys.Suite
	genesis *ledger.Genesis
	id      keys.Digest
	signers map[string]keys.Signer
	names   map[ledger.Address]string
	own     *wasmvm.VM // to be closed; nil when it is the caller's
	exec    *executor.Executor
	schemas map[keys.Digest]*ledger.Schema // by digest of the module
	at      Point
}

// Point is a place in a chain's history. It is valid for the chain that made it.
type Point struct {
	head *state.Snapshot
	next int64 // Unix ms of the next block when somebody set it; 0: BlockTime after the head
}

// NewVM returns a VM as a chain needs it. The caller closes it.
func NewVM(ctx context.Context, engine wasmvm.Engine) (*wasmvm.VM, error) {
	return NewProfiledVM(ctx, engine, nil)
}

// NewProfiledVM is NewVM with a profile, unless it is nil, of the calls that the VM runs.
func NewProfiledVM(ctx context.Context, engine wasmvm.Engine, profile *wasmvm.Profile) (*wasmvm.VM, error) {
	params := ledger.DefaultParams()
	return wasmvm.New(ctx, wasmvm.Config{Engine: engine, MemoryPages: params.MemoryPages, Wait: true, Profile: profile})
}

// New returns a chain at block 0. Close releases it.
func New(ctx context.Context, cfg Config) (*Chain, error) {
	c := &Chain{
		suite: cfg.Suite, signers: map[string]keys.Signer{}, names: map[ledger.Address]string{}, schemas: map[keys.Digest]*ledger.Schema{},
	}
	if c.suite == nil {
		c.suite = keys.Std()
	}
	params := ledger.DefaultParams()
	params.DeployRoles = nil
	node, err := c.signer("node of " + DefaultInstitution)
	if err != nil {
		return nil, err
	}
	c.genesis = &ledger.Genesis{
		Version: ledger.Version, Name: "localchain", Suite: c.suite.Name(), Group: "main", Engine: "none", UnixMilli: Start, Params: params,
		Members: []ledger.Member{{Node: [32]byte{1}, Institution: DefaultInstitution, Key: ledger.KeyOf(node.Public())}},
	}
	for _, a := range cfg.Accounts {
		if a.Name == "" || c.signers[a.Name] != nil {
			return nil, fmt.Errorf("account %q has no name, or that of another", a.Name)
		}
		if a.Institution == "" {
			a.Institution = DefaultInstitution
		}
		signer, err := c.signer(a.Name)
		if err != nil {
			return nil, err
		}
		c.signers[a.Name] = signer
		c.names[ledger.NamedAddress(c.suite, "account", a.Name)] = a.Name
		c.genesis.Accounts = append(c.genesis.Accounts, ledger.GenesisAccount{
			Name: a.Name, Institution: a.Institution, Roles: slices.Sorted(slices.Values(a.Roles)), Keys: []ledger.Key{ledger.KeyOf(signer.Public())},
		})
	}
	c.id = c.genesis.Hash(c.suite)
	if _, c.at.head, err = executor.Genesis(c.suite, c.genesis); err != nil {
		return nil, err
	}
	vm := cfg.VM
	if vm == nil {
		if c.own, err = NewVM(ctx, wasmvm.Interpreter); err != nil {
			return nil, err
		}
		vm = c.own
	}
	if c.exec, err = executor.New(executor.Config{Suite: c.suite, Chain: c.id, Group: c.genesis.Group, VM: vm, Workers: 1}); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// Close releases what the chain holds. A VM that came with the Config stays open.
func (c *Chain) Close(ctx context.Context) error {
	if c.own == nil {
		return nil
	}
	return c.own.Close(ctx)
}

// signer returns a key that depends on the name alone.
func (c *Chain) signer(name string) (keys.Signer, error) {
	seed := [32]byte(c.suite.Sum([]byte("localchain"), []byte(name)))
	signer, err := c.suite.Generate(c.suite.Vote(), rand.NewChaCha8(seed))
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	return signer, nil
}

// Address returns the address of an account; the error is ErrName.
func (c *Chain) Address(account string) (ledger.Address, error) {
	if c.signers[account] == nil {
		return ledger.Address{}, fmt.Errorf("%w as %q; there are: %s", ErrName, account, strings.Join(slices.Sorted(maps.Keys(c.signers)), ", "))
	}
	return ledger.NamedAddress(c.suite, "account", account), nil
}

// Height is the height of the last block.
func (c *Chain) Height() ledger.Height { return c.at.head.Height() }

// Now is the time of the last block, or the time that was set since, in UTC.
func (c *Chain) Now() time.Time {
	return time.UnixMilli(max(c.at.next, c.at.head.Header().Order.UnixMilli)).UTC()
}

// Advance sets the time of the next block to d, at least a millisecond, after Now. Views see the new time at once. The error is
// ErrTime.
func (c *Chain) Advance(d time.Duration) error { return c.Set(c.Now().Add(d)) }

// Set sets the time of the next block, in whole milliseconds, as Advance does.
func (c *Chain) Set(t time.Time) error {
	last := c.at.head.Header().Order.UnixMilli
	if ms := t.UnixMilli(); ms <= last || ms > Start<<4 {
		return fmt.Errorf("%w: %s; the last block is of %s", ErrTime, t.UTC().Format(time.RFC3339Nano), time.UnixMilli(last).UTC().Format(time.RFC3339Nano))
	}
	c.at.next = t.UnixMilli()
	return nil
}

// SkipTo makes empty blocks until the next one is of height h: at most MaxSkip (ErrTime).
func (c *Chain) SkipTo(ctx context.Context, h ledger.Height) error {
	if last := c.Height(); h <= last || h-last > MaxSkip {
		return fmt.Errorf("%w: height %d; the last block is of height %d, and at most %d are skipped at a time", ErrTime, h, last, MaxSkip)
	}
	for c.Height()+1 < h {
		next, err := c.empty(ctx)
		if err != nil {
			return err
		}
		c.at = Point{head: next}
	}
	return nil
}

// Point returns where the chain is.
func (c *Chain) Point() Point { return c.at }

// GoBack makes the chain what it was at a point. What was later can be gone back to as well.
func (c *Chain) GoBack(to Point) { c.at = to }

// Call is a call of a contract.
type Call struct {
	From   string // account; empty in a view: nobody
	To     ledger.Address
	Method string
	Args   []byte     // canonical CBOR array
	Gas    ledger.Gas // limit; 0: the chain's
}

// Receipt is how a call ended.
type Receipt struct {
	ledger.Receipt // of a view: in no block
	Method         string
	Schema         *ledger.Schema // of the contract that was called or deployed; nil if it has none

	trace   string
	explain func(context.Context) (string, error)
}

// Call sends a transaction and returns its receipt. A contract that fails, or a rule that refuses, is a receipt; an error is a
// fault in the use of the chain.
func (c *Chain) Call(ctx context.Context, call Call) (*Receipt, error) {
	schema, err := c.Schema(call.To)
	if err != nil {
		return nil, err
	}
	return c.transact(ctx, call, schema)
}

// Deploy deploys a module with the arguments of its init. The address is zero unless the receipt's status is OK.
func (c *Chain) Deploy(ctx context.Context, from string, code, init []byte) (ledger.Address, *Receipt, error) {
	r, err := c.install(ctx, Call{From: from, Method: "deploy"}, code, precompiles.DeployArgs{Code: code, Args: init})
	if err != nil {
		return ledger.Address{}, nil, err
	}
	r.Method = string(ledger.MethodInit)
	var address ledger.Address
	if r.Status == ledger.OK {
		err = ledger.Unmarshal(r.Data, &address)
	}
	return address, r, err
}

// Upgrade replaces the code of a contract, with the arguments of the new code's upgrade. Unless it is breaking, code that users of
// the old one trip over is refused.
func (c *Chain) Upgrade(ctx context.Context, from string, contract ledger.Address, code, upgrade []byte, breaking bool) (*Receipt, error) {
	args := precompiles.ReplaceArgs{Address: contract, Code: code, Args: upgrade, Breaking: breaking}
	r, err := c.install(ctx, Call{From: from, Method: "replace"}, code, args)
	if err == nil {
		r.Method = string(ledger.MethodUpgrade)
	}
	return r, err
}

func (c *Chain) install(ctx context.Context, call Call, code []byte, args any) (*Receipt, error) {
	var err error
	if call.Args, err = ledger.Marshal(args); err != nil {
		return nil, fmt.Errorf("encode the arguments of %s: %w", call.Method, err)
	}
	call.To = precompiles.ContractsAddress
	schema, _ := ledger.ModuleSchema(code) // without one there is nothing to decode by
	return c.transact(ctx, call, schema)
}

func (c *Chain) transact(ctx context.Context, call Call, schema *ledger.Schema) (*Receipt, error) {
	sender, err := c.Address(call.From)
	if err != nil {
		return nil, err
	}
	base := c.at
	tx := ledger.Tx{
		Version: ledger.Version, Chain: c.id, Group: c.genesis.Group, Sender: sender, Expiry: c.nextTime(), GasLimit: call.Gas,
		To: ledger.Target{Address: call.To}, Method: call.Method, Args: call.Args,
	}
	if call.Gas == 0 {
		tx.GasLimit = c.genesis.Params.TxGas
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], uint64(c.Height())) // one transaction in a block: no other has it
	signed, err := tx.Sign(c.suite, c.signers[call.From])
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", call.From, err)
	}
	order := c.order(signed)
	txs := []*ledger.SignedTx{signed}
	next, err := c.exec.Execute(ctx, base.head, order, txs)
	if err != nil {
		return nil, err
	}
	c.at = Point{head: next}
	return &Receipt{Receipt: next.Receipts()[0], Method: call.Method, Schema: schema, explain: func(ctx context.Context) (string, error) {
		e, err := c.exec.Explain(ctx, base.head, order, txs, 0)
		return e.Text, err
	}}, nil
}

// nextTime is the time of the next block.
func (c *Chain) nextTime() int64 {
	if c.at.next != 0 {
		return c.at.next
	}
	return c.at.head.Header().Order.UnixMilli + BlockTime
}

// order returns the order of the next block, of one transaction or none.
func (c *Chain) order(tx *ledger.SignedTx) *ledger.Order {
	order := &ledger.Order{
		Version: ledger.Version, Chain: c.id, Group: c.genesis.Group, Height: c.Height() + 1, Parent: c.at.head.OrderHash(),
		UnixMilli: c.nextTime(), TxRoot: ledger.Root(c.suite, nil), GasLimit: c.genesis.Params.BlockGas,
	}
	if tx != nil {
		order.TxRoot, order.TxCount, order.TxBytes = ledger.Root(c.suite, []keys.Digest{tx.Leaf}), 1, uint64(len(tx.Raw))
	}
	return order
}

// empty returns the state after an empty block.
func (c *Chain) empty(ctx context.Context) (*state.Snapshot, error) {
	return c.exec.Execute(ctx, c.at.head, c.order(nil), nil)
}

// View calls a method that only reads, at the last block. If time was set since, it sees that time, as after an empty block.
func (c *Chain) View(ctx context.Context, call Call) (*Receipt, error) {
	schema, err := c.Schema(call.To)
	if err != nil {
		return nil, err
	}
	request := executor.Call{To: ledger.Target{Address: call.To}, Method: call.Method, Args: call.Args, Gas: call.Gas}
	if call.From != "" {
		if request.From, err = c.Address(call.From); err != nil {
			return nil, err
		}
	}
	base := c.at.head
	if c.at.next != 0 {
		if base, err = c.empty(ctx); err != nil {
			return nil, err
		}
	}
	out, err := c.exec.View(ctx, base, request)
	if err != nil {
		return nil, err
	}
	r := &Receipt{Method: call.Method, Schema: schema, trace: out.Trace}
	r.Status, r.Code, r.Data, r.Gas = out.Status, out.Code, out.Data, out.Gas
	return r, nil
}

// System returns the address and the schema of a system contract by its name, such as "access"; a nil schema if there is none.
func System(name string) (ledger.Address, *ledger.Schema) {
	for _, c := range precompiles.All() {
		if schema := c.Schema(); schema.Name == name {
			return c.Address(), schema
		}
	}
	return ledger.Address{}, nil
}

// IsSystem reports whether an address is one of those of system contracts.
func IsSystem(contract ledger.Address) bool { return precompiles.IsSystem(contract) }

// Schema returns the schema of the contract at an address, as of the last block; nil if there is none.
func (c *Chain) Schema(contract ledger.Address) (*ledger.Schema, error) {
	if precompiles.IsSystem(contract) {
		for _, system := range precompiles.All() {
			if system.Address() == contract {
				return system.Schema(), nil
			}
		}
		return nil, nil
	}
	deployment, found, err := precompiles.ReadContract(c.at.head, contract)
	if err != nil || !found {
		return nil, err
	}
	schema, ok := c.schemas[deployment.Code]
	if !ok {
		if schema, err = precompiles.ReadSchema(c.at.head, deployment.Code); err != nil {
			return nil, err
		}
		c.schemas[deployment.Code] = schema
	}
	return schema, nil
}

// Denial returns the name of the rule that refused, such as "ReadOnly"; empty unless the status is Denied.
func (r *Receipt) Denial() string {
	if r.Status != ledger.Denied {
		return ""
	}
	return executor.DenialName(r.Code)
}

// Trace returns what no receipt holds: the lines that the contracts logged, and for each call that failed, the innermost first,
// the contract's address, the method, and why. For a transaction the block is executed once more.
func (r *Receipt) Trace(ctx context.Context) (string, error) {
	if r.explain != nil {
		text, err := r.explain(ctx)
		if err != nil {
			return "", err
		}
		r.trace, r.explain = text, nil
	}
	return r.trace, nil
}
