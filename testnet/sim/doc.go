// Package sim runs whole groups of nodes in one process on virtual time, virtual disks and a virtual network,
// from one seed, harms them, and checks what they do. The same seed gives the same steps.
//
// # What is real
//
// consensus/pbft and consensus/raft; node/group with its guard, journal, payload gathering and block sync; node/mempool;
// node/blocksync; the state store with its segments, tree and recovery. Each host runs them on a disk that
// loses, in a crash, what was not synced (state/memfs), and on a clock of its own.
//
// # What is not
//
// Signatures cost next to nothing, and nobody forges them (but members that lie by running twice sign what they
// like). Contracts are replaced by one running digest over all transactions, unless Schedule.Whole asks for whole nodes:
// those run node/executor, the system contracts and a token in WebAssembly, and share one virtual machine; the oracle executes
// each final block again, by 2 to 64 workers where nodes have one. The tables that bbolt holds in a node
// are in memory, and made again from the segments at each start. Callbacks of a node run one at a time, as on its
// loop, and its workers' results come at random moments: data races are for the race detector, not for this.
// Parameters stay the same. Windows are 1, 2, 4 and 16, by seed; blocks of half the seeds hold three transactions at most,
// so that they are full; and for half, segments, journals and statement logs are so small that new ones are begun all the time.
//
// # A schedule
//
// A [Schedule] draws its network from the seed: delays on one of three scales, up to 40 % loss, copies, stragglers,
// clocks that differ by up to four seconds, the rate of its client, and in one of four schedules f members that run
// twice, each half with its own disk. Then it does harm at random moments: hosts crash, lose power in the middle of
// a file operation or between two sends, fail to sync, run out of space or sync slowly; all lose power at once, the
// network splits into several sides, once or flapping, links become uneven, clocks jump forwards and backwards, and up
// to f honest members lose their journals or have clocks an hour off. The client submits at random nodes, sometimes
// the same at several, sends old transactions again, and short-lived ones. Then all faults end, and the group must
// recover, make at least 10 blocks altogether and bring every honest node to the same head; in one of eight schedules
// in which nobody lies it is watched when idle.
//
// In three of sixteen schedules two nodes beyond the members follow as observers, and take the places of members one after
// the other while all this goes on: each change ends an epoch with a barrier block. In one of the three members lie as well,
// and may be those who are replaced; in another something happens just as the epoch ends: hosts lose power between its last
// block and the next epoch, the network splits across it, or the disk of the node that joins is slow. In schedules of whole
// nodes institutions change the members as they do in life: a motion admits the two nodes, and one for each puts it in the
// place of a member, with approvals and the node's statement that it is ready.
//
// # A disaster
//
// In one of 32 schedules of a group in which nobody lies, more members are lost for good than it bears: each at a moment of its
// own just before the faults end, or all as one of them is the first to learn that a block is final, so that nobody else does. The survivors
// stop, report, propose, sign and apply a recovery (see consensus/README.md), with power failures at operations of the disk in
// between; some run for a while with what they signed before it is applied. In half
// of them one of the lost comes back with its old disk, to which nobody applies anything. Blocks that were final on any
// disk must be in the recovery, who signed it votes no more in the old epoch, and the survivors must go on.
//
// # Members that lie
//
// In another quarter of all seeds f members lie by a strategy each; [Strategies] lists them. Such a host runs an honest
// node, so that it follows the group, and what the node sends passes through the strategy, as bytes on the wire, signed
// with the member's key. Liars go on when the faults have ended, until they have sent 600 bad messages. Attacks are
// counted as they are sent, and refusals at honest nodes, by the rules that the strategy names (group.Trace.Refused);
// TestStrategies wants both of each.
//
// # What is checked
//
// See oracle: every statement that leaves an honest member, against a memory that survives its crashes; agreement
// block by block; the model's state after each start and at the end; that transactions come once, in time and from
// the client; that no finalized block is lost or delivered twice; that nobody honest is accused or stops; that
// nothing grows without bound; and that the group recovers.
package sim
