// Package wasmvm runs WebAssembly contracts, metered and deterministic.
//
// A module is admitted ([VM.Check]) if it is valid and within limits, and is then rewritten: it counts gas and call
// depth, makes NaNs canonical, and avoids instruction sequences that an engine compiles wrongly. The original bytes
// are what a chain stores and hashes; the rewritten module is a cache. Engine (wazero's compiler or interpreter),
// architecture and wazero's version belong to a node and never change a result or a unit of gas.
//
// ABI.md is the contract between a module and the node. No package here is promised to stay compatible; the ABI is.
package wasmvm
