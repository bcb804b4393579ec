package executor

import "github.com/fondaco/fondaco/state/ledger"

// What a transaction costs before its contract runs, and what system contracts pay for the world state. They
// are part of costs version 1, as are the prices of the VM: a unit is about a quarter of a nanosecond.
const (
	gasPerTx        ledger.Gas = 20_000 // account lookup, receipt, its hashes
	gasPerTxByte    ledger.Gas = 8      // decoding, hashing, storing
	gasPerSignature ledger.Gas = 60_000 // about 15 µs in a batch

	gasPerGet       ledger.Gas = 2_000
	gasPerGetByte   ledger.Gas = 2
	gasPerPut       ledger.Gas = 8_000
	gasPerPutByte   ledger.Gas = 8
	gasPerRange     ledger.Gas = 2_000
	gasPerRangePair ledger.Gas = 500
	gasPerEvent     ledger.Gas = 1_000
	gasPerEventByte ledger.Gas = 8
	gasPerHook      ledger.Gas = 5_000
	gasPerAddress   ledger.Gas = 1_000
	gasPerWeight    ledger.Gas = 5 // of a module's weight, which tells how long it compiles
)

// maxBlockWrites bounds the bytes that a block's transactions write. A block must fit into memory and into one record
// of the store, with its receipts: one that does not would stop every node for good.
const maxBlockWrites = 512 << 20

// Bounds on a transaction's execution.
const (
	maxDepth      = 16       // contracts that call one another
	maxEvents     = 64       // in a transaction
	maxEventBytes = 64 << 10 // topics and data in a transaction
	maxKeptScan   = 1 << 20  // bytes of an open scan that a write takes into memory
	maxTrace      = 64 << 10 // bytes of local trace
)

func intrinsicGas(bytes, signatures int) ledger.Gas {
	return gasPerTx + gasPerTxByte*ledger.Gas(bytes) + gasPerSignature*ledger.Gas(signatures)
}
