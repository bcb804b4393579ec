// Package state keeps what a group agreed on: its blocks and the world state after them.
//
// # Files
//
// A store's folder holds
//
//	blocks/000000000000.blocks  segments: the block log and write-ahead log, one frame per block (segment.go)
//	state.db                    the state table: all keys and values as of a recent height (table.go)
//	index.db                    where blocks and transactions are (index.go)
//	base                        the world state that the store begins with, if not with genesis (base.go)
//	incoming                    what is imported to take this store's place (replace.go)
//	archive                     the state tree after every block, if Options.Archive is set (archive.go)
//	lock                        held while a process has the folder open
//
// The segments, with the base where there is one, are the truth: both bbolt files can be removed and are made again. So can
// the archive, but for the states below the base.
//
// # Damage
//
// What a disk changes shows when it is read, and Scrub reads all. The tables are made again or mended from the segments (Aside), the base is
// written again from the state of today (HealBase). Of a block there is no other copy here: Damaged tells which were found not
// to read back, CheckCopy checks what another store has of one, and Heal writes it in its place.
//
// # Less than everything
//
// Store.Pin reads a whole world state in chunks while blocks are committed; each chunk verifies alone against the
// state root of its block's header (ledger.StateChunk). Import makes a store of such chunks and of blocks, of which
// the first may be headers with their certificates only; Prune makes such a store of one that had more. Both keep the
// state in the base, since the change sets that led to it are gone. Replace puts an imported store in the place of one
// that is in use until it is opened again. A proof that a block is in the history, or that a
// certificate made it final, needs nothing that goes.
//
// # Durability
//
// Store.Commit writes one frame with the block, its receipts and its changes, and syncs the file once. When it
// returns, the block survives a crash of the process and of the machine. The state table follows in the
// background, a few synced transactions for many blocks, and holds the number of blocks that all of its rows include, so a
// crash at any moment leaves them at that or a later block; Open applies the change sets that they lack. No bbolt
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
