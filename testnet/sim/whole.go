package sim

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
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

	nodeWorkers = 1  // that execute a node's blocks
	mostWorkers = 64 // that execute the oracle's: from two to so many, by the block's hash
)

// newVM returns the virtual machine that all nodes of the process share, so that each module is compiled once.
func newVM(ctx context.Context) (*wasmvm.VM, error) {
	vm, err := wasmvm.New(ctx, wasmvm.Config{Engine: wasmvm.Compiler, MemoryPages: ledger.DefaultParams().MemoryPages, Wait: true})
	if err != nil {
		return nil, fmt.Errorf("start the virtual machine: %w", err)
	}
	return vm, nil
}

// whole is what a schedule of whole nodes has beyond the others: the real executor with its system contracts, and a token
// in WebAssembly that accounts transfer. The oracle executes each final block a second time, on a state of its own and with
// several workers where nodes have one, and keeps the balances that the receipts say.
type whole struct {
	world    *world
	vm       *wasmvm.VM
	schema   *ledger.Schema
	accounts map[ledger.Address]keys.Signer
	names    []ledger.Address // holders, then the issuer
	made     int              // transactions of the client
	victims  []uint32         // members that spare nodes replace, one after the other
	motions  int              // that were carried out
	step     int              // of the motion under way
	waits    []*request       // what that step waits for

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

// addAccounts puts the accounts of the token's holders and of the institutions' committees into genesis. Where there are
// spare nodes it draws the members that they replace.
func (w *world) addAccounts(vm *wasmvm.VM, spares int) error {
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
	for i, m := range w.config.Members {
		name := fmt.Sprintf("committee-%d", i)
		signer := w.suite.signer(uint64(3_000_000 + i))
		x.accounts[ledger.NamedAddress(w.suite, "account", name)] = signer
		w.config.Accounts = append(w.config.Accounts, ledger.GenesisAccount{
			Name: name, Institution: m.Institution, Roles: []string{string(identity.Committee)}, Keys: []ledger.Key{ledger.KeyOf(signer.Public())},
		})
	}
	for len(x.victims) < spares {
		if v := uint32(w.rng.IntN(len(w.config.Members))); !slices.Contains(x.victims, v) {
			x.victims = append(x.victims, v)
		}
	}
	w.whole = x
	return nil
}

// govern takes the next step by which institutions change the members: a motion to admit all spare nodes, and then for each
// one to put it in the place of a member of its institution. A step waits until the one before is final.
func (p *play) govern() {
	w, x := p.world, p.whole
	if w.broken != nil || !w.governs() {
		return
	}
	p.after(30*milli, p.govern)
	if slices.ContainsFunc(x.waits, func(r *request) bool { return r.height == 0 }) {
		return
	}
	x.waits = x.waits[:0]
	ask := func(committee int, method string, args any) {
		if r := p.request(false, func(tx *ledger.Tx) keys.Signer { return x.govern(tx, committee, method, args) }); r != nil {
			x.waits = append(x.waits, r)
		}
	}
	if x.step == 0 {
		w.tell("institutions move to change the members: motion %d", x.motions)
		ask(0, "propose", precompiles.ProposeArgs{Reform: x.reform()})
		x.step = 1
		return
	}
	id, m, err := x.motion()
	if err != nil {
		w.fail("the motion to change members: %v", err)
		return
	}
	if x.step == 2 {
		ask(0, "activate", precompiles.MotionArgs{ID: id})
		x.step, x.motions = 0, x.motions+1
		return
	}
	x.step = 2
	for i := 1; 2*i <= len(w.config.Members); i++ { // with the proposer's, more than half
		ask(i, "vote", precompiles.VoteArgs{ID: id, For: true})
	}
	if x.motions > 0 {
		joiner := x.spare(x.motions - 1)
		signature, err := joiner.key.Sign(precompiles.ReadyDigest(w.suite, w.chain, w.config.Group, id, m, joiner.id))
		if err != nil {
			w.fail("sign that a node is ready: %v", err)
		}
		ask(1, "ready", precompiles.ReadyArgs{ID: id, Node: joiner.id[:], Signature: signature})
	}
}

// governs reports whether there are members that are still to be replaced by motions.
func (w *world) governs() bool {
	return w.whole != nil && w.whole.motions <= len(w.whole.victims) && len(w.whole.victims) > 0
}

func (x *whole) spare(i int) *host { return x.world.hosts[len(x.world.config.Members)+i] }

// reform is what the next motion changes.
func (x *whole) reform() *precompiles.Reform {
	w, r := x.world, &precompiles.Reform{}
	if x.motions > 0 {
		r.Add = []identity.NodeID{x.spare(x.motions - 1).id}
		r.Remove = []identity.NodeID{w.hosts[x.victims[x.motions-1]].id}
		return r
	}
	for i, v := range x.victims {
		r.Observe = append(r.Observe, precompiles.Candidate{
			Institution: w.config.Members[v].Institution, Key: ledger.KeyOf(x.spare(i).key.Public()), Address: fmt.Sprintf("spare-%d:7000", i),
		})
	}
	return r
}

// govern fills in a call of the governance contract by the committee of an institution.
func (x *whole) govern(tx *ledger.Tx, committee int, method string, args any) keys.Signer {
	w := x.world
	raw, err := ledger.Marshal(args)
	if err != nil {
		w.fail("encode the arguments of %s: %v", method, err)
	}
	tx.Sender = ledger.NamedAddress(w.suite, "account", fmt.Sprintf("committee-%d", committee))
	tx.To, tx.Method, tx.Args, tx.GasLimit = ledger.Target{Address: precompiles.GovernanceAddress}, method, raw, w.config.Params.TxGas
	return x.accounts[tx.Sender]
}

// motion returns the newest motion in the oracle's state.
func (x *whole) motion() (id uint64, m *precompiles.Motion, err error) {
	args, err := ledger.Marshal(precompiles.MotionsArgs{})
	if err != nil {
		return 0, nil, err
	}
	out, err := x.executor.View(context.Background(), x.head, executor.Call{To: ledger.Target{Address: precompiles.GovernanceAddress}, Method: "motions", Args: args})
	if err != nil {
		return 0, nil, err
	}
	var all []precompiles.ListedMotion
	if err := ledger.Unmarshal(out.Data, &all); err != nil {
		return 0, nil, err
	}
	if len(all) == 0 {
		return 0, nil, errors.New("there is none")
	}
	last := &all[len(all)-1]
	return last.ID, &last.Row, nil
}

// members returns those of the epoch in the oracle's state, as host.member.
func (x *whole) members() ([]uint32, error) {
	epoch, err := x.executor.Epoch(x.head)
	if err != nil {
		return nil, fmt.Errorf("read the epoch: %w", err)
	}
	var members []uint32
	for _, m := range epoch.Members {
		i := slices.IndexFunc(x.world.hosts, func(h *host) bool { return h.id == m.Node })
		if i < 0 {
			return nil, fmt.Errorf("the member %s is no host", m.Node)
		}
		members = append(members, uint32(x.world.hosts[i].member))
	}
	return members, nil
}

// genesis makes block 0 and the oracle's executor.
func (x *whole) genesis() error {
	w := x.world
	var err error
	if w.block, w.first, err = executor.Genesis(w.suite, &w.config); err != nil {
		return fmt.Errorf("make genesis: %w", err)
	}
	x.head = w.first
	x.executor, err = x.newExecutor(2)
	return err
}

func (x *whole) newExecutor(workers int) (*executor.Executor, error) {
	return executor.New(executor.Config{
		Suite: x.world.suite, Chain: x.world.chain, Group: x.world.config.Group, VM: x.vm, ViewGas: viewGas, Workers: workers,
	})
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
	var result *state.Snapshot
	var err error
	if x.executor, err = x.newExecutor(2 + int(hash[0])%(mostWorkers-1)); err == nil { // one that has not learnt to let transfers wait for one another
		result, err = x.executor.Execute(context.Background(), x.head, &b.Header.Order, txs)
	}
	if err != nil {
		w.fail("execute block %d again: %v", b.Header.Order.Height, err)
		return
	}
	if result.Hash() != hash {
		w.fail("%s: block %d is %s, and executed again it is %s", h, b.Header.Order.Height, hash.Short(), result.Hash().Short())
		return
	}
	x.head = result
	receipts := result.Receipts()
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
