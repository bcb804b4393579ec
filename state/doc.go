// Package state keeps what a group agreed on: its blocks and the world state after them.
//
// # Files
//
// A store's folder holds
//
//	blocks/000000000000.blocks  segments: the block log and write-ahead log, one frame per block (segment.go)
//	state.db                    the state table: all keys and values as of a recent height (table.go)
//	index.db                    where blocks and transactions are (index.go)
//	lock                        held while a process has the folder open
//
// The segments are the truth: both bbolt files can be removed and are made again.
//
// # Durability
//
// Store.Commit writes one frame with the block, its receipts and its changes, and syncs the file once. When it
// returns, the block survives a crash of the process and of the machine. The state table follows in the
// background, one synced transaction for many blocks, and holds the number of blocks that it includes, so a
// crash at any moment leaves it at some earlier block; Open applies the change sets that it lacks. No bbolt
// file is ever written without sync.
//
// # The state tree
//
// The state root commits to the set of keys and values (ledger.StateProof defines how). Its nodes are in
// memory only, in persistent versions that share structure, so a block can be executed on top of one that is
// not final: Snapshot.Extend computes a complete header and writes nothing. A bucket's leaves are in the state
// table unless the bucket changed since that was written.
//
// The changes of a block are hashed by as many goroutines as there are processors, each with a subtree of its own;
// they end before Extend returns, and how many there are shows in nothing but the time.
//
// A snapshot finds a key by walking its version of the tree. Where the bucket at the end carries its leaves,
// the answer is there; else it is in the state table, which holds the same as long as it includes no block
// that the snapshot does not. The table is therefore kept Options.Recent blocks behind the head, and a
// snapshot that it has overtaken fails with ErrPruned and never gives a wrong answer.
package state
