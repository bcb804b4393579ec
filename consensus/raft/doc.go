// Package raft is Raft as a [consensus.Engine], for groups whose members trust one another not to lie.
//
// The protocol is that of Ongaro and Ousterhout (USENIX ATC 2014) in the implementation of go.etcd.io/raft/v3, with
// pre-vote and check-quorum. Of n members any majority is enough: n/2+1 where PBFT needs (n+f)/2+1. In return one
// member that lies can fork the chain. A genesis chooses this engine only together with the statement that its
// members do not.
//
// # Normal case
//
//	leader     append(h) ─┐                          three one-way steps
//	everybody             ├─ check ─ appended ─┐
//	                      └─ execute ──────────┴─ commit index ─ attest (with block hash) ─┐
//	                                                                                       └─ final
//
// One entry of raft's log is one order, never transactions. The leader chains orders itself: each names the one
// before it in its log, and since a log is linear, so is the chain. It proposes when an entry of its own term was
// applied, so all that leaders before it left behind is final, and it has at most Params.Window orders above its
// head.
//
// # Why payloads come first
//
// An append waits outside of raft until the transactions of its order are here, valid and durable; for raft that is
// a slow link. So what raft calls committed is on the disks of a majority together with its transactions. Had the
// entry entered the log first and only its acknowledgement waited, a leader that dies with the only copy of the
// transactions would leave a log that nobody can complete, and an election that waits behind it.
//
// What raft wants written is one record, persisted before the messages that depend on it leave: raft runs with
// asynchronous storage writes, and its responses follow the Persist in the list of effects.
//
// # Why blocks are attested
//
// Raft signs nothing, and a commit index proves nothing to those who did not take part. When an order is committed
// and executed, each member signs Attest: this order gave this block. A majority of equal attestations is the block's
// certificate, and only with it does the engine emit Finalize. So proofs, block sync and clients work as with PBFT,
// and a member that computes another result stands out before anything is stored. Heights are attested one after the
// other, each when the one before is stored, so at most one attestation is open and the double-sign guard's rule for
// them is simple: they rise in height.
//
// # Log and blocks
//
// The record holds the log above the last durable block: its base is the entry of that block. Some entries below are
// kept in memory for members that are a little behind. One that is further behind gets a raft snapshot, which holds
// nothing but the height that goes with the base. It waits outside of raft, like an append, until block sync has
// brought the blocks up to there. A member whose journal is newer than its blocks, which are those of a backup for instance,
// keeps what it promised: it votes and appends, does not stand for leader before it has the blocks below its log, and attests
// nothing below what it attested last, which the record tells: those blocks come by block sync.
//
// # Epochs
//
// A barrier block ends its epoch, and raft starts anew on it with the new members: term 1, an empty log, members
// numbered from 0. There are no configuration changes inside a log, so none of their cases: no joint quorum, no
// learner, no leader that removes itself, no change that is applied here and not there. It is safe because a barrier
// block is final only with the attestations of a majority of the old members, so each of them knows nothing of the
// new epoch without that certificate, and nothing is proposed above a barrier. Messages carry their epoch; raft's
// rule that an id is used once for all time holds for the pair of epoch and member number.
//
// # Elections
//
// The leader sends heartbeats every two ticks, a tick being a quarter of Params.HeartbeatTime; a member that hears
// none for 8 to 15 ticks campaigns. The engine counts these ticks itself, with a jitter that is a digest of its node,
// epoch, term and a counter: the library would draw it from the system's random numbers, and runs could not be
// replayed. A member that waits long for a block of what is pending, because the leader's clock is wrong for instance,
// does not listen to it for a while; when a majority does so another is elected.
//
// # A lost journal
//
// A member that acknowledged an entry or voted, and forgets it, can undo what was committed (etcd issue 16220). One
// that lost its journal is therefore started as an observer by its host, in each epoch anew until one begins of which it is
// certain that this was after the loss: an observer says nothing, as most of what this engine says is not signed, and
// follows by block sync. A mark beside the node's key tells its host of the loss when the blocks are gone too. One that
// lost both halts as soon as a leader counts on an entry that it does not have, but may have voted by then; do not delete them.
//
// # Messages
//
//	kind  name          holds
//	1     append        Order, or none to carry a commit index or the first entry of a term
//	2     appended      answer
//	3     vote request  4 vote  5 pre-vote request  6 pre-vote
//	7     heartbeat     8 alive: answer
//	9     snapshot      the base of the leader's log
//	10    attest        Attest votes; sent again, with a frame, the vote asks for what makes it superfluous
//	11    certificate   the certificate of the sender's head, to who lacks it
//	12    status        epoch and height
//
// All but 10 when it is new, and 11, have a frame as their Body, with the sender's epoch and height. What a stranger can make the
// engine keep is bounded: appends of one leader up to maxWaiting, one snapshot, one attestation per member and
// height up to blocksAhead above the window.
package raft

// The kinds of messages.
const (
	kindAppend      = 1
	kindAppended    = 2
	kindVoteRequest = 3
	kindVote        = 4
	kindPreRequest  = 5
	kindPreVote     = 6
	kindHeartbeat   = 7
	kindAlive       = 8
	kindSnapshot    = 9
	kindAttest      = 10
	kindCertificate = 11
	kindStatus      = 12
)
