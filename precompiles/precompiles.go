// Package precompiles holds the system contracts: contracts written in Go that every group has from genesis
// at fixed addresses.
//
// # Addresses
//
//	0x0000000000000000000000000000000000000001  accounts      accounts and the keys bound to them
//	0x0000000000000000000000000000000000000002  contracts     deployed contracts and their code
//	0x0000000000000000000000000000000000000003  access        roles, freezing
//	0x0000000000000000000000000000000000000004  members       institutions and nodes
//	0x0000000000000000000000000000000000000005  config        parameters of the chain
//	0x0000000000000000000000000000000000000006  certificates  authorities that may vouch, and what became of certificates
//	0x0000000000000000000000000000000000000007  cns           names of contracts, their versions and canaries
//	0x0000000000000000000000000000000000000008  governance    motions, how they are decided, and policies: who may call what
//	0x0000000000000000000000000000000000000009  audit         records of acts of power, anchors of logs outside of the chain
//	0x000000000000000000000000000000000000000a  corrections   adjusting entries, and which transactions they correct
//
// All of 0x00…01 to 0x00…ff is kept for system contracts ([IsSystem]); assigned addresses are digests and do
// not fall there.
//
// # Calling
//
// A system contract is called like any other: arguments are the canonical CBOR array that its
// [Contract.Schema] describes, the result is one CBOR value. Its state is in the world state under its
// address, laid out as the schema's State says; the functions Read… of this package read it.
//
// # Rights
//
// Rights are those of the direct caller, never of the transaction's sender behind it: a contract that is
// tricked into calling here has no account and so no rights.
//
// The package has no goroutine, no clock and no state but what it makes of its own tables: every function depends on its arguments
// and the world state alone. It promises no compatibility beyond the encodings and codes.
package precompiles

import (
	"fmt"
	"sync"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Contract is a system contract. It holds no state and is safe for concurrent use.
type Contract interface {
	Name() string
	Address() ledger.Address
	// Schema describes the methods, events, abort codes and state. The caller may keep and must not change it.
	Schema() *ledger.Schema
	// Invoke runs a method. args is the canonical CBOR array of its arguments. A refusal is an [*Error] and
	// becomes a receipt; any other error is one that an Env method returned. After an error, the caller
	// discards every write and event of the call.
	Invoke(env Env, method string, args []byte) (out []byte, err error)
}

// Addresses of the system contracts.
var (
	AccountsAddress     = systemAddress(1)
	ContractsAddress    = systemAddress(2)
	AccessAddress       = systemAddress(3)
	MembersAddress      = systemAddress(4)
	ConfigAddress       = systemAddress(5)
	CertificatesAddress = systemAddress(6)
	CNSAddress          = systemAddress(7)
	GovernanceAddress   = systemAddress(8)
	AuditAddress        = systemAddress(9)
	CorrectionsAddress  = systemAddress(10)
)

func systemAddress(n byte) ledger.Address { return ledger.Address{ledger.AddressSize - 1: n} }

// IsSystem reports whether the address is kept for a system contract.
func IsSystem(a ledger.Address) bool {
	return !a.IsZero() && [ledger.AddressSize - 1]byte(a[:]) == [ledger.AddressSize - 1]byte{}
}

// All returns the system contracts in the order of their addresses.
func All() []Contract {
	return []Contract{newAccounts(), newContracts(), newAccess(), newMembers(), newConfig(), newCertificates(), newCNS(), newGovernance(), newAudit(), newCorrections()}
}

// table has the system contracts by address, for what looks their schemas and policies up. It is made when it is first
// needed, as the contracts that it holds look into it.
var table struct {
	once      sync.Once
	contracts map[ledger.Address]*system
	sections  sync.Map // of sectionKey to []byte: schema sections, one for each contract and set of its features
}

// systemAt returns the system contract at an address, or nil. The caller must not change it.
func systemAt(a ledger.Address) *system {
	table.once.Do(func() {
		table.contracts = map[ledger.Address]*system{}
		for _, c := range All() {
			table.contracts[c.Address()] = c.(*system)
		}
	})
	return table.contracts[a]
}

// Reader reads the world state. Keys are a contract's address followed by the key within the contract.
type Reader interface {
	// Get returns the value, which the caller must not change, and whether there is one.
	Get(key []byte) (value []byte, found bool, err error)
}

// Env is what a running system contract can reach. Its errors are returned to the caller of Invoke as they
// are; they are of the caller's making (out of gas, read-only, a damaged disk).
type Env interface {
	// Reader reads through the writes of the transaction so far, at the price of state access.
	Reader
	// Put and Delete write, and fail in a read-only call. The key must be in the space of a system contract.
	Put(key, value []byte) error
	Delete(key []byte) error
	// Range visits, in order, at most limit keys that begin with prefix and are greater than after (nil: from
	// the first). It ends early with the error of visit.
	Range(prefix, after []byte, limit int, visit func(key, value []byte) error) error

	Suite() keys.Suite
	// Order is that of the block being executed; in a view, that of the last block.
	Order() *ledger.Order
	// Parent is the hash of the block below that of Order.
	Parent() keys.Digest
	// Caller is the account or contract that makes this call, Origin the sender of the transaction.
	Caller() ledger.Address
	Origin() ledger.Address
	// Tx is the id of the transaction; zero in a view and a dry run.
	Tx() ledger.TxID
	// Signers returns the keys that signed the transaction; none in a view.
	Signers() []ledger.Key

	// Approved keeps in the record of this call on what it rests, at the price of its bytes: the first MaxAuditApprovals of them, in place of what was kept
	// before. A call without a record keeps nothing.
	Approved(by []AuditApproval) error
	// Charge takes gas for work that the other methods do not price, before it is done.
	Charge(gas ledger.Gas) error
	// Emit adds an event of this contract to the receipt.
	Emit(topic string, data []byte) error
	// NewAddress assigns the next address of the transaction.
	NewAddress() (ledger.Address, error)

	// Admit takes gas for the code's size and complexity, checks that it is a module that the chain's rules allow, makes it
	// ready to run and returns its schema section, nil for none. A module that they do not allow is an [*Error].
	Admit(code []byte) (schema []byte, err error)
	// Call runs a hook, init or upgrade, of the contract at to on behalf of by: Caller, or the account in whose name it calls as a
	// motion. A contract without that method is skipped, unless args hold arguments.
	Call(by, to ledger.Address, hook string, args []byte) error
	// Invoke calls a method in the name of this contract, with the gas that is left. The refusal of one that does not end
	// well is an [*Error] with its status and code.
	Invoke(to ledger.Address, method string, args []byte) (out []byte, err error)
}

// key returns a state key: the contract's address and the parts.
func key(contract ledger.Address, parts ...[]byte) []byte {
	n := len(contract)
	for _, p := range parts {
		n += len(p)
	}
	k := append(make([]byte, 0, n), contract[:]...)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

// read decodes the value under key into a T.
func read[T any](r Reader, key []byte) (value T, found bool, err error) {
	raw, found, err := r.Get(key)
	if err != nil || !found {
		return value, false, err
	}
	// What is in state was encoded here: a failure means that the state is damaged.
	if err := ledger.Unmarshal(raw, &value); err != nil {
		return value, false, fmt.Errorf("state under %x: %w", key, err)
	}
	return value, true, nil
}

// page returns at most limit entries of a table in the order of their keys, beginning after one of them (nil: with the
// first). The keys begin with prefix; entry makes an entry of what follows it in the key, and of the value. It is not nil,
// as the encoding of nil is not that of an empty list.
func page[T any](env Env, prefix, after []byte, limit int, entry func(id, value []byte) (T, error)) ([]T, error) {
	found := []T{}
	err := env.Range(prefix, after, limit, func(k, v []byte) error {
		e, err := entry(k[len(prefix):], v)
		if err != nil {
			return fmt.Errorf("state under %x: %w", k, err)
		}
		found = append(found, e)
		return nil
	})
	return found, err
}

// entryOf makes an entry of a value alone.
func entryOf[T any](_, value []byte) (entry T, err error) {
	err = ledger.Unmarshal(value, &entry)
	return entry, err
}

// ofSize returns an error when an id within a key has not so many bytes.
func ofSize(id []byte, size int) error {
	if len(id) != size {
		return fmt.Errorf("an id of %d bytes, want %d", len(id), size)
	}
	return nil
}

func write(env Env, key []byte, value any) error {
	raw, err := ledger.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %T: %w", value, err)
	}
	return env.Put(key, raw)
}

// system is what the system contracts have in common.
type system struct {
	schema  *ledger.Schema
	address ledger.Address
	methods map[string]func(Env, []byte) ([]byte, error) // by name; one for each of schema.Methods
	// policies say who may call the methods that change something, as long as there is no row for them; one for each.
	policies map[string]Policy
	own      []string // methods that act for the account that calls them. A motion has none and calls none of them
}

func (s *system) Name() string            { return s.schema.Name }
func (s *system) Address() ledger.Address { return s.address }
func (s *system) Schema() *ledger.Schema  { return s.schema }

func (s *system) Invoke(env Env, method string, args []byte) ([]byte, error) {
	run := s.methods[method]
	if run == nil {
		return nil, &Error{Status: ledger.NotFound, Reason: fmt.Sprintf("%s has no method %q", s.schema.Name, method)}
	}
	if s.schema.Method(method).Kind == ledger.MethodTx {
		if err := s.permit(env, method); err != nil {
			return nil, err
		}
	}
	return run(env, args)
}

// query is a method with a result, command one without. A is a toarray struct of the arguments.
func query[A, R any](f func(Env, A) (R, error)) func(Env, []byte) ([]byte, error) {
	return func(env Env, args []byte) ([]byte, error) {
		var a A
		if err := ledger.Unmarshal(args, &a); err != nil {
			return nil, aborted(AbortArguments, nil, "%v", err)
		}
		r, err := f(env, a)
		if err != nil {
			return nil, err
		}
		out, err := ledger.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode the result: %w", err)
		}
		return out, nil
	}
}

func command[A any](f func(Env, A) error) func(Env, []byte) ([]byte, error) {
	return func(env Env, args []byte) ([]byte, error) {
		var a A
		if err := ledger.Unmarshal(args, &a); err != nil {
			return nil, aborted(AbortArguments, nil, "%v", err)
		}
		return nil, f(env, a)
	}
}

// emit encodes the fields of an event as an array.
func emit(env Env, topic string, fields ...any) error {
	data, err := ledger.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", topic, err)
	}
	return env.Emit(topic, data)
}

// none is the arguments of a method that takes none.
type none struct {
	_ struct{} `cbor:",toarray"`
}
