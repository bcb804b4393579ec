// Package consensus is the contract between a consensus algorithm and the node that runs it.
//
// An [Engine] is a pure state machine: events in, effects out. It has no clock, no random numbers, no
// goroutine, no network, no disk and no private key, so the same code runs in a node's process, in a plugin
// program and in a simulator, and a recorded run replays to the same bytes. Its host ([Step]'s caller) does
// the rest:
//
//   - It checks every signature and certificate in a message before the engine sees the message, and
//     drops the message otherwise. Engines do no signature work; they do hash orders.
//   - It signs statements, and refuses one that contradicts an earlier one (the double-sign guard).
//   - It keeps the journal: records that the engine finds again in [Engine.Init] after a crash.
//   - It holds transactions. Engines see [Payload]s: roots, counts and sizes.
//
// # Order of effects
//
// Effects are carried out in order. What follows a Persist or a Sign waits until that is on disk: nothing
// leaves the node that a crash could make it forget. The host may do this once for several batches.
//
// # Errors
//
// An error from Init or Step means that the engine found its own state inconsistent; the host stops the
// group. Input from other members, however strange, must never cause one.
package consensus

import (
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Engine is a consensus algorithm for one group. Calls come from one goroutine at a time.
type Engine interface {
	// Init is called once, first. journal holds the records that the engine persisted before, oldest first,
	// beginning with the last Persist that had Replace set. It is empty when there never were any: a member whose
	// journal was lost is started as an observer, until an epoch begins in which it has promised nothing.
	Init(c Config, journal []Record) ([]Effect, error)
	// Step handles one event. The caller may reuse nothing that it passed, and must not change what it got.
	Step(Event) ([]Effect, error)
	// Status returns what operators see. It changes nothing.
	Status() Status
}

// Factory makes engines: one call per group and start.
type Factory func() Engine

// Config is what an engine knows from the start.
type Config struct {
	_     struct{} `cbor:",toarray"`
	Suite string   // name of the chain's suite; see keys.SuiteByName
	Chain keys.Digest
	Group ledger.GroupID
	Epoch ledger.Epoch    // members, in order of their numbers, and parameters
	Self  int32           // this node's member number, or -1 for an observer and for a member that lost its journal
	Node  identity.NodeID // this node's id, by which it finds itself in later epochs; zero: that of member Self, if it is one
	Head  Head            // the last block that is durable here
}

// Head is a final block.
type Head struct {
	_           struct{} `cbor:",toarray"`
	Order       ledger.Order
	Block       keys.Digest        // block hash
	Certificate ledger.Certificate // zero for genesis
}

// Record is something that an engine must find again after a crash. The host does not look inside.
type Record []byte

// Status is what an engine shows of itself.
type Status struct {
	_        struct{} `cbor:",toarray"`
	Epoch    uint64
	View     uint64 // or term
	Leader   int32  // member number, or -1 when there is none
	Changing bool   // a view change or an election is under way
	Height   ledger.Height
}

// Message is what engines say to one another. The host verifies all votes and certificates in it (signatures,
// distinct signers, quorum, epoch), including those of NewView, before it hands it over.
type Message struct {
	_            struct{} `cbor:",toarray"`
	Kind         uint8    // the engine's own numbering
	Votes        []ledger.Vote
	Certificates []ledger.Certificate
	Order        *ledger.Order   // a proposed order; the host makes its payload available
	NewView      *ledger.NewView // why the proposal's leader may lead
	Body         []byte          // anything else, unchecked
}

// Limits on a message; the host drops what exceeds them.
const (
	MaxMessageSize         = 256 << 10
	MaxMessageVotes        = 512
	MaxMessageCertificates = 8
)

// Payload stands for an ordered list of transactions.
type Payload struct {
	_         struct{} `cbor:",toarray"`
	TxRoot    keys.Digest
	TxCount   uint32
	TxBytes   uint64
	GasLimit  ledger.Gas
	Barrier   bool
	UnixMilli int64 // block time proposed by the host: greater than the parent's
}

// Order returns the order of a block with the payload on a parent with this order hash, which a member proposes.
func (p Payload) Order(parent *ledger.Order, hash keys.Digest, epoch uint64, proposer uint32) ledger.Order {
	return ledger.Order{
		Version: ledger.Version, Chain: parent.Chain, Group: parent.Group, Epoch: epoch, Height: parent.Height + 1, Parent: hash,
		UnixMilli: max(p.UnixMilli, parent.UnixMilli+1), Proposer: proposer, TxRoot: p.TxRoot, TxCount: p.TxCount, TxBytes: p.TxBytes,
		GasLimit: p.GasLimit, Barrier: p.Barrier,
	}
}

// Plausible checks of an order, which should stand in an epoch, what does not depend on other blocks.
func Plausible(o *ledger.Order, chain keys.Digest, group ledger.GroupID, epoch *ledger.Epoch) bool {
	return o.Version == ledger.Version && o.Chain == chain && o.Group == group && o.Epoch == epoch.Number &&
		o.Height > 0 && o.TxCount > 0 && int64(o.Proposer) < int64(len(epoch.Members)) && len(o.Extra) <= ledger.MaxOrderExtra
}

// Follows reports whether a plausible order may stand on its parent: an epoch ends with its barrier block.
func Follows(o, parent *ledger.Order) bool {
	return o.Height == parent.Height+1 && o.UnixMilli > parent.UnixMilli && !EndsEpoch(parent, o.Epoch)
}

// EndsEpoch reports whether no block of an epoch may follow the order.
func EndsEpoch(o *ledger.Order, epoch uint64) bool { return o.Barrier && o.Epoch == epoch }

// Event is something that happened: one of the types below.
type Event interface{ event() }

type (
	// Expired says that a timer ran out.
	Expired struct {
		_     struct{} `cbor:",toarray"`
		Timer Timer
	}
	// Received is a message from member From whose signatures hold. From is authenticated by the channel.
	Received struct {
		_       struct{} `cbor:",toarray"`
		From    uint32
		Message Message
	}
	// Signed returns the vote for an earlier Sign.
	Signed struct {
		_    struct{} `cbor:",toarray"`
		Vote ledger.Vote
	}
	// Built answers BuildPayload. A TxCount of zero means that there is nothing to propose.
	Built struct {
		_       struct{}    `cbor:",toarray"`
		Parent  keys.Digest // order hash of the parent it was built on
		Payload Payload
	}
	// Checked answers CheckPayload once all transactions of the order are here and durable.
	Checked struct {
		_     struct{} `cbor:",toarray"`
		Order keys.Digest
		Valid bool
	}
	// Executed answers Execute.
	Executed struct {
		_     struct{} `cbor:",toarray"`
		Order keys.Digest
		Block keys.Digest // block hash
	}
	// Stored says that the block of a Finalize is durable. Head tells which; after a block with Barrier set, Epoch
	// holds the epoch that begins. With it all timers are cleared. Overtaken is how much earlier than the last of the
	// block's transactions the oldest came to this node that still waits and could have been in it, in milliseconds;
	// 0: the block overtook none.
	Stored struct {
		_         struct{} `cbor:",toarray"`
		Head      Head
		Epoch     *ledger.Epoch
		Overtaken int64
	}
	// Synced says that blocks up to Head were fetched from others, verified and made durable.
	Synced struct {
		_     struct{} `cbor:",toarray"`
		Head  Head
		Epoch *ledger.Epoch // set when the epoch changed since the last Head; then all timers are cleared
	}
	// Pending tells how many transactions wait in the pool, those of orders in flight left out. It comes when the count
	// leaves zero, falls to zero, and twice a second between.
	Pending struct {
		_     struct{} `cbor:",toarray"`
		Count uint32
	}
	// Peer says that the connection to a member came up or broke. It is a hint.
	Peer struct {
		_      struct{} `cbor:",toarray"`
		Member uint32
		Up     bool
	}
	// Survey asks what this member helped to agree on above its head, for a recovery after a disaster. It comes to an
	// engine that was started from the journal of a stopped node, and whose other effects nobody carries out. The engine
	// answers with Holding.
	Survey struct {
		_ struct{} `cbor:",toarray"`
	}
)

func (Expired) event()  {}
func (Received) event() {}
func (Signed) event()   {}
func (Built) event()    {}
func (Checked) event()  {}
func (Executed) event() {}
func (Stored) event()   {}
func (Synced) event()   {}
func (Pending) event()  {}
func (Peer) event()     {}
func (Survey) event()   {}

// Timer names a timer of an engine, in the engine's own numbering. Setting a timer again moves it.
type Timer uint8

// Effect is something for the host to do: one of the types below.
type Effect interface{ effect() }

type (
	// Persist appends records to the journal. Replace says that earlier records are not needed any more.
	Persist struct {
		_       struct{} `cbor:",toarray"`
		Records []Record
		Replace bool
	}
	// Sign asks for a vote on a statement. The host answers with Signed, and if Broadcast is not nil adds the
	// vote to its Votes, in front, and sends it to all other members. The guard checks every statement, and none is signed before
	// the guard and the records that came with it are on disk. Where the key is elsewhere, Signed comes when that answers:
	// after other events, or never, as if the vote were lost.
	Sign struct {
		_         struct{} `cbor:",toarray"`
		Statement ledger.Statement
		Broadcast *Message
	}
	// Send sends a message to one member, or to all others when To is negative.
	Send struct {
		_       struct{} `cbor:",toarray"`
		To      int32
		Message Message
	}
	// SetTimer asks for Expired after a number of milliseconds, unless cleared or set again.
	SetTimer struct {
		_     struct{} `cbor:",toarray"`
		Timer Timer
		Milli int64
	}
	// ClearTimer takes a SetTimer back.
	ClearTimer struct {
		_     struct{} `cbor:",toarray"`
		Timer Timer
	}
	// BuildPayload asks for transactions for a block on the parent with this order hash. The host answers at
	// once with Built, leaving out what the parent and its ancestors that are not final hold. The engine may drop
	// an offer without a word: an offer counts only once a CheckPayload shows its order.
	BuildPayload struct {
		_      struct{} `cbor:",toarray"`
		Parent keys.Digest
		Height ledger.Height
	}
	// CheckPayload asks whether the order's transactions are here, valid on its ancestors, and its block time is
	// credible. The host fetches what it lacks and answers with Checked when it knows; it does not answer while
	// transactions are missing. Own proposals are checked too. Widen is the number of views since the last final
	// block, at most 3: the clock bound doubles with each. Seen says that the order was proposed in an earlier
	// view, which excuses its time.
	CheckPayload struct {
		_     struct{} `cbor:",toarray"`
		Order ledger.Order
		From  uint32 // who proposed it, and so has the transactions
		Widen uint8
		Seen  bool
	}
	// Execute asks for the block's result on top of its parent, which is final or was executed. It follows a
	// Checked that was valid. The host answers with Executed, from its cache if it has the result.
	Execute struct {
		_     struct{} `cbor:",toarray"`
		Order ledger.Order
	}
	// Abandon says that the engine drops the order with this hash: its transactions return to the pool. An order
	// that turns out to be certified elsewhere comes back with a new CheckPayload.
	Abandon struct {
		_     struct{} `cbor:",toarray"`
		Order keys.Digest
	}
	// Finalize decides the block of Certificate, for ever: a Commit statement, or Attest in a group whose genesis trusts
	// its members. Blocks become final one by one,
	// lowest first, each with a certificate of its own, which is stored with it; the block was executed here. The
	// host answers Stored. If the certificate's block hash is not the one that this node computed, the host stops
	// voting and raises an alarm.
	Finalize struct {
		_           struct{} `cbor:",toarray"`
		Certificate ledger.Certificate
		NewView     *ledger.NewView // the one whose digest the order holds, or nil
	}
	// NeedSync says that a block at Height is final elsewhere. The host fetches blocks and answers Synced.
	NeedSync struct {
		_      struct{} `cbor:",toarray"`
		Height ledger.Height
		From   uint32 // a member that has it
	}
	// Evidence is two statements that one member must not both have signed.
	Evidence struct {
		_    struct{} `cbor:",toarray"`
		A, B ledger.Vote
	}
	// Refused says that the engine dropped something that a member sent, because it breaks a rule. It asks for
	// nothing; operators see who sends what nobody should.
	Refused struct {
		_    struct{} `cbor:",toarray"`
		From uint32
		Rule string // a few fixed words: "stale vote", …
	}
	// Flow tells of a step in the life of a block or view, for the flow log. It asks for nothing.
	Flow struct {
		_      struct{} `cbor:",toarray"`
		Phase  string   // proposed, checked, prepared, committed, view-change, new-view, …
		Height ledger.Height
		View   uint64
		Order  keys.Digest
	}
	// Holding answers Survey. Any block that another member may have seen become final with this member's vote is among
	// Blocks, or below them. Of several members' holdings the one of the highest rank counts.
	Holding struct {
		_           struct{}           `cbor:",toarray"`
		Rank        ledger.Rank        // of what shows that the last of Blocks may be final; View may be a term
		Certificate ledger.Certificate // that shows it, of that rank; zero of an engine whose members do not lie
		Blocks      []HeldBlock        // above the head, lowest first, each on the one before; none if a link is missing, and then it shows nothing
	}
	// Halt says that the engine cannot go on safely. The host stops the group and shows the reason.
	Halt struct {
		_      struct{} `cbor:",toarray"`
		Reason string
	}
)

func (Persist) effect()      {}
func (Sign) effect()         {}
func (Send) effect()         {}
func (SetTimer) effect()     {}
func (ClearTimer) effect()   {}
func (BuildPayload) effect() {}
func (CheckPayload) effect() {}
func (Execute) effect()      {}
func (Abandon) effect()      {}
func (Finalize) effect()     {}
func (NeedSync) effect()     {}
func (Evidence) effect()     {}
func (Refused) effect()      {}
func (Flow) effect()         {}
func (Holding) effect()      {}
func (Halt) effect()         {}

// HeldBlock is an order and, when it names one, its new-view.
type HeldBlock struct {
	_       struct{} `cbor:",toarray"`
	Order   ledger.Order
	NewView *ledger.NewView
}
