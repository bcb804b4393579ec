// Package wasmvm runs WebAssembly contracts, metered and deterministic.
//
// A module is admitted ([VM.Check]) if it is valid and within limits, and is then rewritten: it counts gas and call
// depth, makes NaNs canonical, and avoids instruction sequences that an engine compiles wrongly. The original bytes
// are what a chain stores and hashes; the rewritten module is a cache. Engine (wazero's compiler or interpreter),
// architecture and wazero's version belong to a node and never change a result or a unit of gas.
//
// # From a module to a call
//
// The interpreter takes a module in time proportional to its size and runs its _initialize; what that leaves in
// memory and globals is the image, with which every call begins. From then on the module can be called
// ([Module.Call]). One goroutine compiles the modules that are asked for ([Module.Optimize]); when one is ready, and its
// _initialize has left the same image, the calls that follow run in machine code, and the interpreter's form is given
// up. What the compiler refuses, or crashes on, stays with the interpreter, which is slower and does the same
// (Config.Warn). Machine code in Config.CacheDir is taken up at once after a restart.
//
// Instances wait for calls. Before each, those with a small memory are compared with the image and corrected; for
// a large one, such as of a contract in Go, the operating system tells which pages were written.
//
// # Two engines at once
//
// The engine [Shadow] runs a call in the compiler, notes what the host is asked and answers, and runs it again in the
// interpreter with these answers. A difference in questions, status, code, output or gas is a
// [DivergenceError] and no outcome: the node must not vote.
//
// ABI.md is the contract between a module and the node. No package here is promised to stay compatible; the ABI is.
package wasmvm
