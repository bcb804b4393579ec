package transport

import "fmt"

// Class is one of the two connections that each pair of peers holds. Congestion and flow control are per
// connection, so bulk traffic cannot delay votes.
type Class uint8

// The classes, as Hello writes them.
const (
	ClassConsensus Class = 1 // votes, proposals, certificates, heartbeats: one stream per message; what a proposal lacks
	ClassBulk      Class = 2 // gossip, synchronisation: messages share streams
)

const classes = 2

// String returns the name that logs and errors use.
func (c Class) String() string {
	switch c {
	case ClassConsensus:
		return "consensus"
	case ClassBulk:
		return "bulk"
	default:
		return fmt.Sprintf("class(%d)", uint8(c))
	}
}

func (c Class) index() int { return int(c) - 1 }

// Protocol says what a message is for, and with that its connection and its bounds. The numbers are on the
// wire.
type Protocol uint8

// The protocols. See the table in PROTOCOL.md.
const (
	Consensus Protocol = 1 // messages of a group's engine
	Status    Protocol = 2 // heartbeats and status: only the newest few matter
	TxGossip  Protocol = 3 // signed transactions, pushed
	TxFetch   Protocol = 4 // request: what a proposal lacks, leaf digests or transactions
	BlockSync Protocol = 5 // request: ranges of blocks with certificates
	StateSync Protocol = 6 // request: pieces of a state snapshot
	AMOP      Protocol = 7 // application messages, pushed and requested
)

const protocols = 8 // one more than the highest

// Bounds of a protocol.
type bounds struct {
	name  string
	class Class

	message  int // bytes of a one-way message or request; 0: neither is allowed
	response int // bytes of a response; 0: no requests

	queued      int // one-way messages that wait for a peer at most; the oldest is dropped for a new one
	queuedBytes int

	lane int // streams of one peer that are read and handled at once; the others wait unread
}

// MaxTxGossip is the bound on one gossiped message. It leaves room for the largest deploying transaction
// (5 MiB) with its signatures.
const MaxTxGossip = 6 << 20

// table is indexed by Protocol.
//
// Transactions are fetched over the consensus connection because a vote waits for them: behind gossip, which on a
// bad link may take seconds, they would come after the view has changed.
//
// A consensus message is at most 256 KiB because proposals carry digests, not bodies: that is 8,192
// transactions. A lane of 64 lets 64 lost packets be repaired while the messages behind them are handled.
var table = [protocols]bounds{
	Consensus: {name: "consensus", class: ClassConsensus, message: 256 << 10, queued: 4096, queuedBytes: 16 << 20, lane: 64},
	Status:    {name: "status", class: ClassConsensus, message: 4 << 10, queued: 4, queuedBytes: 16 << 10, lane: 8},
	TxGossip:  {name: "tx-gossip", class: ClassBulk, message: MaxTxGossip, queued: 8192, queuedBytes: 32 << 20, lane: 8},
	TxFetch:   {name: "tx-fetch", class: ClassConsensus, message: 512 << 10, response: 16 << 20, lane: 8},
	BlockSync: {name: "block-sync", class: ClassBulk, message: 64 << 10, response: 32 << 20, lane: 4},
	StateSync: {name: "state-sync", class: ClassBulk, message: 64 << 10, response: 8 << 20, lane: 4},
	AMOP:      {name: "amop", class: ClassBulk, message: 1 << 20, response: 1 << 20, queued: 1024, queuedBytes: 8 << 20, lane: 16},
}

func (p Protocol) known() bool { return p < protocols && table[p].name != "" }

// String returns the protocol's name.
func (p Protocol) String() string {
	if !p.known() {
		return fmt.Sprintf("protocol(%d)", uint8(p))
	}
	return table[p].name
}

// MaxMessage returns how many bytes a one-way message or a request may have, 0 for an unknown protocol.
func (p Protocol) MaxMessage() int {
	if !p.known() {
		return 0
	}
	return table[p].message
}

// MaxResponse returns how many bytes a response may have; 0 says that the protocol has no requests.
func (p Protocol) MaxResponse() int {
	if !p.known() {
		return 0
	}
	return table[p].response
}

// Class returns the connection that carries the protocol, 0 for an unknown one.
func (p Protocol) Class() Class {
	if !p.known() {
		return 0
	}
	return table[p].class
}
