package wasmvm

import (
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// Host is what a running contract can reach. The executor implements it, one for each call of a contract.
//
// Gas is charged before the host works: the VM subtracts the price of a host function (ABI.md) first, so a
// Host needs no prices of its own. Byte slices that a Host is given are copies, which it may keep and must not
// change, but for single keys, which are the contract's memory: it must not keep them either. Slices that it returns stay the Host's and are only
// read, until the call ends, and must not change before that. Keys are the contract's own: the Host prefixes them with the contract's address.
//
// A Host answers a breach of a rule with a [*Denial], which ends the call with ledger.Denied and its code.
// Any other error is a fault of the node (a disk that cannot be read): it aborts the call and comes back from
// [Module.Call], and no receipt may be made of it.
//
// The VM itself denies writes, events and log entries beyond the limits and writes in a read-only call
// (Context.ReadOnly), so a Host need not. Undoing the writes and events of a call that did not end with
// ledger.OK is the Host's owner's work. A Host is used by one goroutine at a time.
type Host interface {
	// Context describes the call. It is asked once, when the call begins.
	Context() Context

	// Get returns the value under key, and whether there is one.
	Get(key []byte) (value []byte, found bool, err error)
	// Put writes a value, which may be empty.
	Put(key, value []byte) error
	// Delete removes a key, which may be absent.
	Delete(key []byte) error
	// Add adds delta to the counter under key if the sum lies in min…max, and reports whether it did. An
	// absent counter is 0. The value of a counter is its canonical CBOR integer; to one from 2^63 to 2^128-1 nothing
	// is added, and a value that is none is a Denial with DeniedCounter.
	Add(key []byte, delta, min, max int64) (ok bool, err error)
	// Scan returns the pairs with start ≤ key < end (empty end: no bound), at most limit of them, as they are
	// now: later writes of the same call do not change what the scanner returns.
	Scan(start, end []byte, reverse bool, limit int) (Scanner, error)

	// Keep is called before a write: it takes into memory what open scans of the transaction have not shown yet, and gives
	// each pair to pay first, which ends it by an error. Without open scans it does nothing.
	Keep(pay func(Pair) error) error

	// Emit records an event of this contract. Data is canonical CBOR.
	Emit(topic string, data []byte) error
	// Call runs a method of another contract with at most limit gas, and returns how it ended. A callee that
	// is already running, without CallReentry in flags, is answered with Status Denied and Code
	// DeniedReentry; too deep a chain of calls with OutOfDepth. Outcome.Gas is charged to the caller.
	Call(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error)

	// CallerAttribute returns an attribute of the caller's identity as CBOR, and whether it has it.
	CallerAttribute(kind Attribute) (value []byte, found bool, err error)
	// Rand fills dst with bytes that are equal on every node and differ between calls of Rand: HKDF over the
	// previous block's hash, the transaction's id and a counter.
	Rand(dst []byte) error
	// Log takes a line for people: it must not influence anything that is hashed. Text is not trusted.
	Log(level LogLevel, text string)
}

// Scanner iterates over a range of keys.
type Scanner interface {
	// Next returns the next pair, or a key to pass; ok is false at the end.
	Next() (pair Pair, ok bool, err error)
	// Close ends the iteration. It is called once.
	Close()
}

// Pair is a key of a contract and its value.
type Pair struct {
	Key, Value []byte
	// Deleted says that an earlier write of the block took the key away. A scan does not show it, and pays for passing it,
	// since whoever deletes many keys could else make every scan slow.
	Deleted bool
}

// Context describes a call to the contract that runs.
type Context struct {
	Height    ledger.Height
	UnixMilli int64 // block time
	Group     ledger.GroupID
	Tx        ledger.TxID
	Index     uint32 // of the transaction in its block
	Self      ledger.Address
	Caller    ledger.Address // the account or contract that made this call
	Origin    ledger.Address // the account that signed the transaction
	Method    string
	ReadOnly  bool
}

// Outcome is how a call ended.
type Outcome struct {
	Status ledger.Status
	Code   uint32     // with Aborted the contract's code, with Denied which rule
	Data   []byte     // the output, or the data of the abort; nil or canonical CBOR
	Gas    ledger.Gas // used, never more than the limit
	Trace  string     // text for people on this node: it differs between engines and is never hashed
}

// CallFlags change how one contract calls another.
type CallFlags uint32

// The call flags of the ABI.
const (
	CallReadOnly CallFlags = 1 // the callee, and what it calls, cannot write
	CallReentry  CallFlags = 2 // the callee may be running already
	CallByName   CallFlags = 4 // the target is a CNS name; the VM has parsed it into the Target
)

// Attribute names what a contract may know of its caller's identity.
type Attribute uint32

// The attributes of the ABI.
const (
	AttributeInstitution Attribute = 1
	AttributeRoles       Attribute = 2
	AttributeSerial      Attribute = 3 // of the certificate
	AttributeKYC         Attribute = 4
)

// LogLevel is how important a contract thinks a log line is.
type LogLevel uint32

// The log levels of the ABI. Others are read as LogError.
const (
	LogDebug LogLevel = 0
	LogInfo  LogLevel = 1
	LogWarn  LogLevel = 2
	LogError LogLevel = 3
)

// Denial is the error with which a Host, or the VM, refuses what a contract asks for by a rule of the chain. It ends the
// contract's call with ledger.Denied.
type Denial struct { //nolint:errname // it is a verdict first, and reads as one
	Code   uint32
	Reason string // for the local trace
}

// Error returns the reason and the code.
func (d *Denial) Error() string { return fmt.Sprintf("denied (%d): %s", d.Code, d.Reason) }

// Codes of ledger.Denied that the VM and the ABI define. Rules of the chain use codes from 100.
const (
	DeniedReadOnly  uint32 = 1  // a write or an event in a read-only call
	DeniedReentry   uint32 = 2  // the callee is already running
	DeniedKey       uint32 = 3  // a key is empty or longer than MaxKey
	DeniedValue     uint32 = 4  // a value is longer than MaxValue
	DeniedScan      uint32 = 5  // a scan's limit is not 1…MaxScan, or too many are open, or none is
	DeniedEvent     uint32 = 6  // more than MaxEvents events or MaxEventBytes bytes, or a topic or data that is malformed
	DeniedCall      uint32 = 7  // the target or method of a call is malformed
	DeniedInput     uint32 = 8  // the arguments are longer than MaxInput
	DeniedAlgorithm uint32 = 9  // there is no such hash or signature algorithm
	DeniedCounter   uint32 = 10 // the value under the key is no counter
)

// Limits of the host functions. They are rules of ABI version 1.
const (
	MaxKey        = 256
	MaxValue      = 128 << 10
	MaxScan       = 1024
	MaxOpenScans  = 8
	MaxEvents     = 64       // in one call; over a whole transaction the Host holds it
	MaxEventBytes = 64 << 10 // topics and data, in one call; over a whole transaction the Host holds it
	MaxTopic      = 64
	MaxInput      = 64 << 10
	MaxOutput     = 128 << 10
	MaxLogBytes   = 64 << 10
)
