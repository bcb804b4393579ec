package client

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The documents of the HTTP API. Ids, digests and bytes are hexadecimal with 0x, times are Unix milliseconds,
// gas and 128-bit amounts that may exceed 2^53 are strings where JSON would lose digits. Fields are only ever
// added.

// Bytes is binary data in the API: 0x and hexadecimal digits.
type Bytes []byte

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte("0x" + hex.EncodeToString(b)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return fmt.Errorf("bytes %q: want 0x and an even number of hexadecimal digits", text)
	}
	*b = raw
	return nil
}

// Problem is an error of the API: application/problem+json of RFC 9457 with a stable code.
type Problem struct { //nolint:errname // RFC 9457 calls it so
	Type   string `json:"type"`   // "about:blank"
	Title  string `json:"title"`  // of the HTTP status
	Status int    `json:"status"` // HTTP status
	Code   string `json:"code"`   // stable, for programs
	Detail string `json:"detail"` // for people: what is wrong and what to do
	// RetryAfter is after how many seconds the same may be sent again, with code busy; else 0.
	RetryAfter int `json:"retry_after,omitempty"`
}

// Error returns the detail and the code.
func (p *Problem) Error() string { return p.Detail + " (" + p.Code + ")" }

// The stable codes of problems.
const (
	CodeBadRequest  = "bad_request"
	CodeNotFound    = "not_found"
	CodeMalformed   = "malformed" // the transaction is not one: sending it again is no use
	CodeSignature   = "signature" // a signature of it does not hold
	CodeDenied      = "denied"    // its sender may not send it, or not with these keys
	CodeRefused     = "refused"   // it breaks another rule of the chain: chain, group, size, gas limit, expiry
	CodeKnown       = "known"     // it waits already; this is no failure
	CodeCommitted   = "committed" // it is in a block already
	CodeExpired     = "expired"
	CodeBusy        = "busy"      // this request did not bring it in: send the same again after Problem.RetryAfter
	CodeUncertain   = "uncertain" // the node does not know whether it was taken: look it up, or send the same bytes again
	CodeStopped     = "stopped"
	CodeUnavailable = "unavailable" // this node no longer has, or does not have yet, what is asked for
	CodeReadsFull   = "reads_full"  // what regulators and auditors ask is written down, and there is no room until the log is anchored on chain
	CodeInternal    = "internal"
	CodeTooLarge    = "too_large"

	// Of nodes that ask who their clients are.
	CodeUnauthenticated = "unauthenticated" // the client does not show who it is, or with what does not count
	CodeForbidden       = "forbidden"       // who the client is may not do this
	CodeMisdirected     = "misdirected"     // the node has no TLS, and the header Host does not name its machine
)

// Chain is what a client must know of a chain before it signs for it.
type Chain struct {
	Chain   keys.Digest    `json:"chain"`
	Name    string         `json:"name"`
	Group   ledger.GroupID `json:"group"`
	Suite   string         `json:"suite"`
	Engine  string         `json:"engine"`
	Params  ledger.Params  `json:"params"`
	Members []Member       `json:"members"`
	Epoch   uint64         `json:"epoch"`
}

// Member is a node that votes.
type Member struct {
	Number      uint32          `json:"number"`
	Node        identity.NodeID `json:"node"`
	Institution string          `json:"institution"`
	Key         ledger.Key      `json:"key"`
}

// Status is how a node is.
type Status struct {
	Node      identity.NodeID `json:"node"`
	Version   string          `json:"version"`
	Engine    string          `json:"engine"`
	Role      string          `json:"role"`    // member, observer, retired or dismissed; unknown to the group before it was admitted
	Number    int32           `json:"number"`  // among the members; -1: none of them
	Members   int             `json:"members"` // of the epoch, this node among them or not
	Quorum    int             `json:"quorum"`  // of them make a block final
	Faulty    int             `json:"faulty"`  // of them may fail: lie, or with raft be down
	Height    ledger.Height   `json:"height"`
	Block     keys.Digest     `json:"block"`
	StateRoot keys.Digest     `json:"state_root"`
	BlockTime int64           `json:"block_time"`
	Kept      ledger.Height   `json:"kept"`              // the first block that the node has in full: 0 unless it was pruned, or made of such a backup
	Archive   *Archive        `json:"archive,omitempty"` // of old states; nil: the node keeps none
	Epoch     uint64          `json:"epoch"`
	View      uint64          `json:"view"`
	Leader    int32           `json:"leader"` // member number; -1: none known
	Changing  bool            `json:"changing"`
	Syncing   ledger.Height   `json:"syncing"`           // height being fetched up to; 0: not behind
	Fetch     *Fetch          `json:"fetch,omitempty"`   // how that goes; nil: not behind
	Joining   *Joining        `json:"joining,omitempty"` // how the node fetches a state to begin with; nil: it does not
	Lacking   string          `json:"lacking"`           // which blocks the node lacks that nobody who answers has, or that it once had and is not fetching; empty when none
	Pending   int             `json:"pending"`           // transactions that wait
	Stopped   string          `json:"stopped"`           // why the group stopped; empty while it runs
	Muted     string          `json:"muted"`             // why this member does not vote though its group runs; empty when it does
	Peers     []Peer          `json:"peers"`
	Plugins   []Plugin        `json:"plugins"`
	Features  []Feature       `json:"features"` // that were decided on
	Frozen    []FrozenNode    `json:"frozen"`   // nodes with which the others refuse connections now, in order of their ids
	Knows     []string        `json:"knows"`    // features that this node's release has
}

// FrozenNode is a node that is frozen.
type FrozenNode struct {
	Node        identity.NodeID `json:"node"`
	Institution string          `json:"institution"`
	Freeze      Freeze          `json:"freeze"`
}

// Feature is a rule of a later release than the chain's first, which holds from a height on.
type Feature struct {
	Name    string        `json:"name"`
	Height  ledger.Height `json:"height"`  // of the first block with it, unless that is before From
	Release string        `json:"release"` // the first that has it
	From    int64         `json:"from"`    // block time, Unix ms, of the first block with it, at the earliest
	Known   bool          `json:"known"`   // this node's release has it; if not, the node stops before that block
}

// Holds reports whether a feature holds in the last block of a node.
func (f *Feature) Holds(s *Status) bool { return f.Height <= s.Height && f.From <= s.BlockTime }

// ParamsTrial says what would become of a chain with other parameters.
type ParamsTrial struct {
	Height  ledger.Height `json:"height"`  // of the block on whose state it was tried
	Refused string        `json:"refused"` // why no motion can set them; empty: one can
	Breaks  []string      `json:"breaks"`  // what works now and would not, in words
	Partial bool          `json:"partial"` // the chain has more contracts or accounts than a trial looks at
}

// Archive says of which blocks a node can tell and prove what the state after them held.
type Archive struct {
	Some    bool          `json:"some"`    // false: it has just been begun
	From    ledger.Height `json:"from"`    // the first block
	To      ledger.Height `json:"to"`      // the last; the newest states are in memory
	Bytes   int64         `json:"bytes"`   // on disk
	Problem string        `json:"problem"` // why it does not go on; empty: it does
}

// Fetch is how a node that is behind catches up.
type Fetch struct {
	PerSecond   float64      `json:"per_second"`   // blocks stored, over the last seconds
	SecondsLeft float64      `json:"seconds_left"` // at this speed; 0: nobody knows
	From        []FetchShare `json:"from"`         // of the nodes that sent blocks since it fell behind
}

// FetchShare is how many blocks came from a node.
type FetchShare struct {
	Node   identity.NodeID `json:"node"`
	Blocks uint64          `json:"blocks"`
}

// Joining is how a node fetches the state after a recent block to begin with.
type Joining struct {
	Height ledger.Height `json:"height"` // of that block; 0: none is chosen yet
	Blocks ledger.Height `json:"blocks"` // that are there, headers for the most part, of height and one
	Bytes  uint64        `json:"bytes"`  // of the state that are there
	Of     uint64        `json:"of"`     // so many, by the word of who gives it
	From   []JoinShare   `json:"from"`   // the nodes that sent something
}

// JoinShare is how many bytes came from a node.
type JoinShare struct {
	Node  identity.NodeID `json:"node"`
	Bytes uint64          `json:"bytes"`
}

// Evidence is two statements that one member signed and no honest member signs both.
type Evidence struct {
	ID          keys.Digest     `json:"id"`
	Offence     string          `json:"offence"` // equivocation, amnesia or divergence: see ledger.Offence
	Epoch       uint64          `json:"epoch"`
	Member      uint32          `json:"member"` // number in the epoch
	Node        identity.NodeID `json:"node"`
	Institution string          `json:"institution"`
	Statements  []Statement     `json:"statements"` // two
	Found       int64           `json:"found"`      // when, by the clock of the node asked
	Head        ledger.Height   `json:"head"`       // of that node then
	Proof       Bytes           `json:"proof"`      // encoding of ledger.Evidence, as the members method accuse takes it
	Recorded    *Accusation     `json:"recorded,omitempty"`
}

// Statement is what a member signed.
type Statement struct {
	Kind       string        `json:"kind"`
	View       uint64        `json:"view"`
	Height     ledger.Height `json:"height"`
	Order      keys.Digest   `json:"order"`
	Block      keys.Digest   `json:"block"`
	HighView   uint64        `json:"high_view"` // with a view change: of the highest certificate claimed
	HighHeight ledger.Height `json:"high_height"`
	Signature  Bytes         `json:"signature"`
}

// Accusation is the chain's record of what evidence is of.
type Accusation struct {
	Height   ledger.Height  `json:"height"`
	By       ledger.Address `json:"by"`
	Evidence keys.Digest    `json:"evidence"` // id of the evidence that was shown: perhaps other statements of the same place
}

// Peer is another node as this one sees it.
type Peer struct {
	Node    identity.NodeID `json:"node"`
	Address string          `json:"address"`
	Up      bool            `json:"up"`
	RTT     float64         `json:"rtt_ms"`
	Problem string          `json:"problem"` // the last one, in words
	// Clock is by how many milliseconds the peer's clock was ahead of the node's when they connected, to within a round trip;
	// nil: it did not say, or is not connected.
	Clock *int64 `json:"clock_ms,omitempty"`
}

// Plugin is a plugin program as the node sees it.
type Plugin struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	PID      int    `json:"pid"`
	Healthy  bool   `json:"healthy"`
	Restarts int    `json:"restarts"`
	Reason   string `json:"reason"`
	Since    int64  `json:"since,omitempty"` // when it entered this state
}

// Block is a block without the bodies of its transactions.
type Block struct {
	Height      ledger.Height `json:"height"`
	Hash        keys.Digest   `json:"hash"`
	Order       keys.Digest   `json:"order"`
	Parent      keys.Digest   `json:"parent"`
	Time        int64         `json:"time"`
	Epoch       uint64        `json:"epoch"`
	View        uint64        `json:"view"` // of the certificate
	Proposer    uint32        `json:"proposer"`
	Signers     []uint32      `json:"signers"` // of the certificate
	StateRoot   keys.Digest   `json:"state_root"`
	TxRoot      keys.Digest   `json:"tx_root"`
	ReceiptRoot keys.Digest   `json:"receipt_root"`
	ChangeRoot  keys.Digest   `json:"change_root"`
	HistoryRoot keys.Digest   `json:"history_root"`
	GasUsed     ledger.Gas    `json:"gas_used,string"`
	Txs         []ledger.TxID `json:"txs"`
	Pruned      bool          `json:"pruned,omitempty"` // the node no longer has what the block held: Txs is empty
	Header      Bytes         `json:"header"`           // canonical CBOR
	Certificate Bytes         `json:"certificate"`      // canonical CBOR
}

// Progress says where a transaction is.
type Progress string

// The states of a transaction. A client is told rejected when it sends; a timeout is never success.
const (
	Pending   Progress = "pending"
	Committed Progress = "committed"
	Rejected  Progress = "rejected"
	Expired   Progress = "expired"
)

// Transaction is a transaction and what became of it.
type Transaction struct {
	ID         ledger.TxID     `json:"id"`
	Progress   Progress        `json:"progress"`
	PastExpiry bool            `json:"past_expiry,omitempty"` // pending, but no coming block will take it
	Height     ledger.Height   `json:"height,omitempty"`
	Index      uint32          `json:"index"`           // in the block
	Time       int64           `json:"time,omitempty"`  // of the block
	Sender     ledger.Address  `json:"sender,omitzero"` // this and the fields below: once committed
	To         ledger.Address  `json:"to,omitzero"`
	Name       string          `json:"name,omitempty"` // of the target, when called by name; with @ and the version, if the sender named one
	Method     string          `json:"method,omitempty"`
	Args       Bytes           `json:"args,omitempty"`
	Decoded    json.RawMessage `json:"decoded,omitempty"` // the arguments by the contract's schema
	Raw        Bytes           `json:"raw,omitempty"`     // canonical CBOR
	Receipt    *Receipt        `json:"receipt,omitempty"`
	Proof      *Bytes          `json:"proof,omitempty"` // a ledger.Claim about the receipt, canonical CBOR
	// CorrectedBy are corrections that name the transaction, by the last block: at most 64 with Corrects.
	CorrectedBy []CorrectionLink `json:"corrected_by,omitempty"`
	Corrects    []CorrectionLink `json:"corrects,omitempty"` // corrections that it applied
}

// CorrectionLink is a correction in the document of a transaction.
type CorrectionLink struct {
	Number       uint64        `json:"number"`
	Status       string        `json:"status"`
	Reason       string        `json:"reason"`
	Applied      ledger.TxID   `json:"applied,omitzero"`       // the transaction that applied it; none: it is not applied
	Transactions []ledger.TxID `json:"transactions,omitempty"` // of a transaction that applied it: those that it corrects
}

// Correction is entries that correct transactions.
type Correction struct {
	Number       uint64            `json:"number"`
	Status       string            `json:"status"` // open, applied, withdrawn
	Height       ledger.Height     `json:"height"` // of the block in which it was proposed
	By           ledger.Address    `json:"by"`
	Institution  string            `json:"institution"`
	Transactions []Corrected       `json:"transactions"`
	Reason       string            `json:"reason"`
	Evidence     keys.Digest       `json:"evidence"`
	Entries      []CorrectionEntry `json:"entries"`
	Withheld     int               `json:"withheld,omitempty"` // entries that are left out, as they are in private contracts that the asker may not read
	Debited      []string          `json:"debited"`            // institutions of the accounts from which something is taken; empty if entries are left out
	Motion       bool              `json:"motion"`             // it takes a motion
	Approvals    []Approval        `json:"approvals"`
	Lacks        int               `json:"lacks,omitempty"`   // how many approvals it lacks while it is open
	Missing      []string          `json:"missing,omitempty"` // institutions that must be among them
	Expiry       int64             `json:"expiry"`            // last block time at which it is approved and applied
	Applied      ledger.TxID       `json:"applied,omitzero"`  // the transaction that applied it; none: it is not applied
	AppliedAt    ledger.Height     `json:"applied_at,omitempty"`
}

// Corrected is a transaction that a correction names.
type Corrected struct {
	ID     ledger.TxID   `json:"id"`
	Height ledger.Height `json:"height"`
	Found  *bool         `json:"found,omitempty"`  // whether the node has it in the block of that height; nil in a list: nobody looked
	Status string        `json:"status,omitempty"` // of its receipt, when it was found and the asker may read it
}

// CorrectionEntry is what a correction does to one account in one contract.
type CorrectionEntry struct {
	Contract ledger.Address `json:"contract"`
	Account  ledger.Address `json:"account"`
	Amount   string         `json:"amount"` // in the contract's smallest unit
	Credit   bool           `json:"credit"` // the account gets it; else it is taken
}

// Approval is the approval of an institution.
type Approval struct {
	Institution string         `json:"institution"`
	Account     ledger.Address `json:"account"`
}

// Receipt is the result of a transaction.
type Receipt struct {
	Status   string          `json:"status"`
	Code     uint32          `json:"code"`
	Error    string          `json:"error,omitempty"` // name of the contract's error, or what the code of a rule means
	Data     Bytes           `json:"data"`
	Decoded  json.RawMessage `json:"decoded,omitempty"` // Data by the contract's schema
	Gas      ledger.Gas      `json:"gas,string"`
	Served   ledger.Address  `json:"served"`
	Version  string          `json:"version,omitempty"` // of the name that was called; empty: the call was by address
	Events   []Event         `json:"events"`
	Failures []Failure       `json:"failures,omitempty"` // the failed calls between contracts that led to the status, the innermost last
	Raw      Bytes           `json:"raw,omitempty"`      // canonical CBOR
}

// Trace is what a node tells people of a transaction's execution. Nothing in its text is agreed upon.
type Trace struct {
	ID     ledger.TxID   `json:"id"`
	Height ledger.Height `json:"height"`
	Index  uint32        `json:"index"`            // position in the block
	Reason string        `json:"reason,omitempty"` // why it had no effect, where the chain or the contract gave a reason
	Text   string        `json:"text"`
}

// Failure is a call from one contract to another that failed.
type Failure struct {
	Contract ledger.Address `json:"contract"`
	Method   string         `json:"method"`
	Status   string         `json:"status"`
	Code     uint32         `json:"code"`
	Error    string         `json:"error,omitempty"` // name of the contract's error, or what the code of a rule means
	// Data came with an abort: one CBOR value, empty if it was longer than ledger.MaxFailureData. Decoded is the same by
	// the contract's schema.
	Data    Bytes           `json:"data,omitempty"`
	Decoded json.RawMessage `json:"decoded,omitempty"`
}

// Event is what a contract emitted.
type Event struct {
	Height   ledger.Height   `json:"height,omitempty"`
	Tx       *ledger.TxID    `json:"tx,omitempty"`
	Contract ledger.Address  `json:"contract"`
	Topic    string          `json:"topic"`
	Data     Bytes           `json:"data"`
	Decoded  json.RawMessage `json:"decoded,omitempty"`
}

// Submitted is what became of a transaction that was sent: Progress is pending, committed, rejected or expired. With the
// code uncertain it is pending, at other nodes if anywhere.
type Submitted struct {
	ID       ledger.TxID `json:"id,omitzero"` // none when the bytes are no transaction, or the node was too busy to look
	Progress Progress    `json:"progress"`
	Problem  *Problem    `json:"problem,omitempty"`
}

// Account is an account.
type Account struct {
	Address     ledger.Address `json:"address"`
	Institution string         `json:"institution"`
	Roles       []string       `json:"roles"`
	Status      string         `json:"status"` // active or frozen, at the last block's time
	Threshold   uint32         `json:"threshold"`
	Keys        []AccountKey   `json:"keys"`
	Certificate *Binding       `json:"certificate,omitempty"` // nil: it goes by none
	Freezes     []Freeze       `json:"freezes,omitempty"`     // that hold at the last block's time, at most one of each layer
	Cosigners   []Cosigner     `json:"cosigners,omitempty"`
	Leak        *Leak          `json:"leak,omitempty"`     // that keeps it from sending; nil: none is reported
	Recovery    *Recovery      `json:"recovery,omitempty"` // that is open; nil: none
	Objections  uint32         `json:"objections,omitempty"`
	Time        int64          `json:"time"` // of the last block, by which keys begin and end
}

// Cosigner is an account whose keys must sign, too, what another does of some classes.
type Cosigner struct {
	Account ledger.Address `json:"account"`
	Classes []Class        `json:"classes"`
	Until   int64          `json:"until"` // last block time at which they must
}

// Class is a class of calls.
type Class struct {
	Contract ledger.Address `json:"contract,omitzero"` // none: every contract
	Method   string         `json:"method,omitempty"`  // empty: every method
}

// Leak is the report that a key of an account is in wrong hands.
type Leak struct {
	By   ledger.Address `json:"by"`
	Time int64          `json:"time"` // of the block
}

// Recovery is new keys for an account whose owner lost his.
type Recovery struct {
	Number    uint64         `json:"number"`
	Threshold uint32         `json:"threshold"`
	Keys      []AccountKey   `json:"keys"`
	Reason    string         `json:"reason"`
	Evidence  keys.Digest    `json:"evidence"`
	Asked     ledger.Address `json:"asked"`              // by whom; the contract governance: by motion
	Began     int64          `json:"began"`              // block time, Unix ms, at which it was asked for
	Confirmed ledger.Address `json:"confirmed,omitzero"` // by whom; none: by nobody yet
	Until     int64          `json:"until,omitempty"`    // last block time at which the account may object; 0 until it is confirmed
	Final     bool           `json:"final,omitempty"`    // the account may not object any more
}

// Freeze says how an account or a node is frozen, the latter both ways.
type Freeze struct {
	Direction string           `json:"direction"`          // out: it sends nothing; in: contracts that ask give it nothing; both
	Power     string           `json:"power"`              // by what right: institution_admin, compliance, regulator, motion
	By        []ledger.Address `json:"by"`                 // who froze, in order of time; none: a motion alone
	Since     int64            `json:"since"`              // block time
	Until     int64            `json:"until,omitempty"`    // block time from which it does not hold any more; 0: it holds until it is lifted
	Reason    string           `json:"reason"`             // a code, such as court-order
	Evidence  *keys.Digest     `json:"evidence,omitempty"` // of what it rests on; nil: nothing was named
}

// Binding says by which certificates an account goes.
type Binding struct {
	Certificates []Certificate `json:"certificates"`
	Until        int64         `json:"until"`             // last block time at which they count
	Key          *ledger.Key   `json:"key,omitempty"`     // that must be among those that sign calls of contracts; nil: none
	Refused      string        `json:"refused,omitempty"` // why the account calls no contracts by them at the last block's time
}

// Certificate is what an institution says of a certificate.
type Certificate struct {
	Fingerprint keys.Digest   `json:"fingerprint"`      // hash of its signed part under the chain's suite (identity.Fingerprint)
	Root        keys.Digest   `json:"root,omitzero"`    // of the authority that vouches for it; none where none was named
	Status      string        `json:"status"`           // active, frozen, revoked
	Reason      string        `json:"reason,omitempty"` // of RFC 5280, 5.3.1; empty while it is active
	Height      ledger.Height `json:"height,omitempty"` // of the block in which its institution said so last; 0: never
}

// AccountKey is a key bound to an account.
type AccountKey struct {
	Key    ledger.Key `json:"key"`
	Weight uint32     `json:"weight"`
	From   int64      `json:"from,omitempty"`  // block time from which it is valid; 0: from the start
	Until  int64      `json:"until,omitempty"` // last block time at which it is; 0: no end
	// Successor is the key that replaced it and is valid beside it; where both sign, they count as that one. Nil: none.
	Successor *ledger.Key `json:"successor,omitempty"`
}

// Contract is a deployed contract, or a system contract.
type Contract struct {
	Address  ledger.Address  `json:"address"`
	Name     string          `json:"name"`
	System   bool            `json:"system"`
	Owner    *ledger.Address `json:"owner,omitempty"`
	CodeHash *keys.Digest    `json:"code_hash,omitempty"`
	Height   ledger.Height   `json:"height,omitempty"` // of the last deployment or upgrade
	Number   uint32          `json:"number,omitempty"` // 1 when deployed, one more with each upgrade
	Schema   json.RawMessage `json:"schema"`           // null when the module has none
}

// Call is a read-only call, or a dry run of a transaction. Args is the canonical CBOR array of the arguments.
// Named is used instead when set: a JSON object of them by name, or an array of them in the schema's order.
type Call struct {
	From   *ledger.Address `json:"from,omitempty"`
	Method string          `json:"method"`
	Args   Bytes           `json:"args,omitempty"`
	Named  json.RawMessage `json:"named,omitempty"`
	Gas    ledger.Gas      `json:"gas,string,omitempty"`
	DryRun bool            `json:"dry_run,omitempty"` // run as a transaction would, and throw the result away
}

// CallResult is what a Call gave.
type CallResult struct {
	Status   string          `json:"status"`
	Code     uint32          `json:"code"`
	Error    string          `json:"error,omitempty"`
	Data     Bytes           `json:"data"`
	Decoded  json.RawMessage `json:"decoded,omitempty"`
	Gas      ledger.Gas      `json:"gas,string"`
	Height   ledger.Height   `json:"height"`             // of the state it saw
	Events   []Event         `json:"events,omitempty"`   // of a dry run
	Failures []Failure       `json:"failures,omitempty"` // as in a Receipt
	Trace    string          `json:"trace,omitempty"`    // this node's own words; not the same on every node
}

// MotionCalls are the calls of a motion, in their order; that of its reform, members.reform, comes first. At least one, and at most 17.
type MotionCalls struct {
	Calls []MotionCall `json:"calls"`
}

// MotionCall is a call that a motion makes. Args is the canonical CBOR array of the arguments.
type MotionCall struct {
	To     ledger.Address `json:"to"`
	Method string         `json:"method"`
	Args   Bytes          `json:"args"`
}

// MotionTrial is what the calls of a motion would do together: in their order, each on what those before it left.
type MotionTrial struct {
	Height ledger.Height `json:"height"` // of the block on whose state they were tried
	// Calls has a result for each call up to the first whose status is not ok, with which nothing that the motion did would stay.
	Calls []CallResult `json:"calls"`
}

// State is a value of the world state with an optional proof.
type State struct {
	Height ledger.Height `json:"height"`
	Key    Bytes         `json:"key"` // contract address and key
	Found  bool          `json:"found"`
	Value  Bytes         `json:"value"`
	Proof  *Bytes        `json:"proof,omitempty"` // a ledger.Claim, canonical CBOR
}

// AuditRecords are audit records that fit a question, newest first.
type AuditRecords struct {
	Height  ledger.Height `json:"height"` // of the state that they are from
	Records []AuditRecord `json:"records"`
	// More says that older records were not looked at: AuditQuery.Before goes on there. Records may be empty then.
	More   bool   `json:"more"`
	Before string `json:"before,omitempty"` // place of the last record that was looked at
}

// AuditRecord tells one call of a method of a system contract that changes something, or of another contract's method for which a policy was set, and how it ended.
type AuditRecord struct {
	Height ledger.Height `json:"height"`
	Index  uint32        `json:"index"`  // of the transaction in the block
	Number uint32        `json:"number"` // of the call among the recorded ones of the transaction
	Time   int64         `json:"time"`
	Tx     ledger.TxID   `json:"tx"`
	Key    Bytes         `json:"key"` // of the record in the state of the contract audit, where it can be proven

	Actor        ledger.Address `json:"actor"`  // that made the call: an account, a contract, or governance for a motion
	Origin       ledger.Address `json:"origin"` // sender of the transaction; what follows is of its account
	Institution  string         `json:"institution"`
	Roles        []string       `json:"roles"`
	Certificates []keys.Digest  `json:"certificates"`

	Contract ledger.Address `json:"contract"`
	Name     string         `json:"name"` // of the system contract; empty: it is none, but a policy was set for the method
	Method   string         `json:"method"`
	Object   string         `json:"object,omitempty"` // what the call is about
	Args     keys.Digest    `json:"args"`             // digest of the arguments
	Before   keys.Digest    `json:"before"`           // digest of the rows that it wrote, before; zero: it had no effect
	After    keys.Digest    `json:"after"`

	Policy   uint64      `json:"policy"` // number of the policy's row; 0: that of the release
	Motion   uint64      `json:"motion"` // 0: none
	Reason   string      `json:"reason,omitempty"`
	Evidence keys.Digest `json:"evidence"` // zero: none
	// Approvals are on what it rests: votes on the motion, approvals of the release or the correction, officers of the recovery; of a vote, that.
	Approvals []AuditApproval `json:"approvals,omitempty"`

	Status string `json:"status"`
	Code   uint32 `json:"code"`
	Error  string `json:"error,omitempty"` // name of the contract's error, or what the code of a rule means
	Undone bool   `json:"undone"`          // it ended well and has no effect, as a call around it did not
}

// AuditApproval is what an account said for its institution.
type AuditApproval struct {
	Institution string         `json:"institution"` // empty: it speaks for itself
	Account     ledger.Address `json:"account"`     // governance: a motion
	For         bool           `json:"for"`         // false: it voted against
}

// AuditQuery says which audit records are wanted. The zero value of a field wants all.
type AuditQuery struct {
	Actor       *ledger.Address // that called, or sent the transaction
	Contract    *ledger.Address
	Institution string // of the sender
	Object      string
	Method      string
	Refused     bool          // only calls that did not end well
	From        ledger.Height // first block
	To          ledger.Height // last block; 0: the newest
	Before      string        // only records before this place, see AuditRecords
	Limit       int           // at most 100; 0: 20
}

// HeaderProof is the header of a block with its certificate.
type HeaderProof struct {
	Height ledger.Height `json:"height"`
	Proof  Bytes         `json:"proof"` // a ledger.Claim, canonical CBOR
}
