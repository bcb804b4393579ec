// Package pbft is chained two-phase PBFT with a stable leader, as a [consensus.Engine].
//
// It descends from Castro and Liskov's PBFT (OSDI 1999); ranking certificates by view and height and chaining
// proposals on certificates is in the manner of HotStuff and DiemBFT. n members tolerate f = (n-1)/3 that lie; a
// quorum is q = (n+f)/2+1 (see ledger.Quorum), so any two quorums share f+1 members and at least one honest one.
//
// # Normal case
//
//	leader       proposal(h) ─┐                                  three one-way steps
//	everybody                 ├─ check ─ prepare vote ─┐
//	                          └─ execute ──────────────┴─ commit vote (with block hash) ─┐
//	                                                                                     └─ final
//
// The leader of view v is member v mod n. It proposes an order on top of a certified parent: the proposal carries
// the parent's certificate. Members vote to prepare once the transactions are there and valid, and execute at the
// same time. A quorum of prepare votes is a certificate. A member that has it, and its own result, votes to commit
// order and result together; a quorum of those makes the block final. There is no checkpoint phase: each final
// block's certificate covers its world state.
//
// Certificates are ranked by (view, height). A certificate at (v, h+1) stands for one at (v, h) too, so Params.Window
// blocks may be in flight: the next is proposed as soon as the one before has a Prepare certificate, and executed on
// top of its result. With a window of 1 a proposal carries the Commit certificate of its parent.
//
// A final block makes its ancestors final, but each is handed over by a Commit certificate of its own, lowest first:
// then every block in store proves itself. See "Why each block gets its certificate".
//
// An order holds neither view nor result, so an order that is proposed again keeps its hash, its votes' meaning and
// its cached result.
//
// # View change
//
// A member leaves its view when work is pending and no block becomes final in time, when the leader is silent, when
// f+1 members left (one of them is honest), when the leader takes what is much younger than a transaction that it leaves
// waiting, or to let back a member that left alone. It signs ViewChange with the rank of its highest certificate. The new leader takes the
// certificate of the highest rank that a quorum claims, and proposes that tip again, and only the tip: the NewView
// that goes with the proposal holds the signed claims and that one certificate. Any certificate of a higher view,
// or of the view that a member waits for, proves that a quorum is there, and the member enters it.
//
// The progress timer doubles with each view change, at most three times, until a block becomes final. In a view
// change it is half as long, and runs only when a quorum is there, so no member runs ahead of the others alone.
//
// A leader with nothing to propose sends heartbeats and makes no blocks.
//
// # Messages
//
//	kind  name         holds                                              sent
//	1     proposal     Propose vote; Order; parent's or own certificate;   by the leader to all
//	                   NewView with the first ones of a view
//	2     vote         Prepare or Commit votes                            to all; again to who lacks them
//	3     view change  ViewChange vote; the certificate that it claims     to all; again at each tick
//	4     new view     NewView                                            when there is no tip; to who lacks it
//	5     heartbeat    Heartbeat vote                                     by the leader to all
//	6     certificate  certificates                                       to who lacks them
//	7     status       Body: epoch, view, changing, height, rank          at ticks to the leader and two others
//	8     fetch        Body: an order hash                                to a member that must know it
//	9     order        Order, NewView                                     in answer to fetch
//
// The host checked signatures and certificates. The engine checks all else: kinds, epoch, view, roles, digests, that
// the votes of a NewView are for its view and its certificate is the highest that they claim. What a stranger can
// make it keep is bounded: votes of views from one below to two above its own and heights up to 16 above the window, one view
// change and one claimed height for each member, one proposal for each height.
//
// # What is on disk
//
// Everything that binds a member is one record: its view and view change, its last proposal, prepare and commit
// vote, its highest certificate, and the orders above the head. The record is persisted whole before each signature
// that it must outlive. After a crash the member signs the same statements again.
//
// For a recovery after a disaster the record also holds the certificate of the last commit vote. A member commits only
// if it knows every order up to the certificate's, with what opened their views, and keeps those: it can show what
// it helped to make final even if it hears of a higher certificate later and of nothing that leads there.
//
// # Why it is safe
//
// Lemma A (one view). Two certificates of view v at heights h ≤ h' are on one chain. Their quorums share an honest
// member, which voted for both. Its votes in a view rise strictly in height, and after the first each is justified
// by a certificate of the same view. By induction on height both are on the chain of the lower one.
//
// Lemma B (across views). Let q members have sent Commit(v, h, B). Each had persisted a highest certificate of rank
// ≥ (v, h) and never acts in v after it left v. A NewView of u > v holds the claim of one of them, so its highest
// rank is ≥ (v, h); by lemma A and induction that certificate is on B or a descendant, and the first proposal of u
// extends or repeats it. So no certificate that conflicts with B comes into being after v, and blocks that are
// final are on one chain.
//
// Only the tip is proposed again. If ancestors were certified again one by one, a certificate (u, h') with h' < h
// would outrank (v, h), and a block that is final could be dropped.
//
// Results: the block hash is a function of the order and its ancestors, and an honest member signs one for each
// order. When no result reaches a quorum the height stands still: a ledger must stop rather than fork.
//
// # Why each block gets its certificate
//
// Let there be a Commit certificate at (v, h+1), and a member whose head is below h. An honest member that signs
// Commit for a height has h as its head or above, or signed for every height from its head up to that one in the same
// view (commit goes the whole path), so each honest signer of (v, h+1) signed Commit at (v, h) too, or has h as final
// with a certificate of its own.
//
//   - If an honest member has h as final, the others get the certificate from it: with the answer to their status,
//     as long as they are less than a window behind, and with the block otherwise (NeedSync); statuses and view
//     changes tell its height. A new leader sends it at once to those whose view change says that they lack it.
//   - If none has, every honest member of the view is below h, so it signs Commit at (v, h) once it has the highest
//     certificate and the results. These are a quorum. Votes may be lost, so the answer to a status repeats all
//     commit votes of the view above the asker's head, those below its highest certificate too.
//   - A vote is lost for good when its member crashes after it signed for a later height: only the last is in its
//     record. Then h does not become final, the progress timers run out, and in the next view, which begins with the
//     highest certificate, every member signs for the whole path from its head again.
//
// # A lost journal
//
// A member that does not know what it signed may not vote. Its host finds that out and starts the engine as an observer,
// until the next epoch begins: nothing that was signed in another epoch counts.
package pbft

// The kinds of messages.
const (
	kindProposal    = 1
	kindVote        = 2
	kindViewChange  = 3
	kindNewView     = 4
	kindHeartbeat   = 5
	kindCertificate = 6
	kindStatus      = 7
	kindFetch       = 8
	kindOrder       = 9
)

// The rules by which messages are refused that no honest member sends, or none that is up to date; see
// consensus.Refused. What is only late or early, or known already, is dropped without a word.
const (
	ruleKind      = "unknown kind"
	ruleProposal  = "malformed proposal"      // its parts do not belong together
	ruleLeader    = "proposal by no leader"   // its view has another leader
	ruleParent    = "proposal out of order"   // it does not extend what it is justified by
	ruleView      = "proposal proves no view" // nothing in it shows that a quorum entered the view
	ruleNewView   = "new view"                // its votes are not a quorum's, or its certificate is not their highest
	ruleVote      = "malformed vote"
	ruleStale     = "stale vote"
	ruleAhead     = "vote too far ahead"
	ruleResult    = "another result" // a commit vote for the order that was executed here, with another block hash
	ruleChange    = "malformed view change"
	ruleStaleView = "stale view change"
	ruleHeartbeat = "heartbeat of no leader"
	ruleStatus    = "malformed status"
	ruleAnswers   = "too many questions" // it had maxReplies answers since the last tick
)
