// Package multisig is a contract: voters decide on calls of other contracts.
package multisig

import (
	"slices"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

// Multisig makes the calls that enough of its voters want.
type Multisig struct{}

// Version is the contract's, which its schema tells.
const Version = "1.0.0"

var (
	committee = sdk.NewValue[Voters]("voters")
	needed    = sdk.NewValue[uint32]("threshold")
	next      = sdk.NewValue[uint64]("next") // id of the next motion; absent: 1
	motions   = sdk.NewMap[uint64, Motion]("motion")
)

// Voters are those who may vote.
type Voters []sdk.Addr

// Status is where a motion stands.
type Status uint8

const (
	open Status = iota
	executed
	rejected
)

// Motion is a call that voters decide on.
type Motion struct {
	Proposer sdk.Addr
	Text     string
	Target   sdk.Addr
	Method   string
	Args     []byte // canonical CBOR array
	Yes, No  []sdk.Addr
	Status   Status
}

// Proposed is emitted for a new motion.
//
//chain:event indexed=id,proposer
type Proposed struct {
	sdk.Event
	ID       uint64
	Proposer sdk.Addr
	Text     string
}

// Voted is emitted for each vote.
//
//chain:event indexed=id,voter
type Voted struct {
	sdk.Event
	ID      uint64
	Voter   sdk.Addr
	Approve bool
}

// Executed is emitted when a motion's call ended well.
//
//chain:event indexed=id
type Executed struct {
	sdk.Event
	ID     uint64
	Result []byte
}

// Rejected is emitted when a motion can get no majority any more.
//
//chain:event indexed=id
type Rejected struct {
	sdk.Event
	ID uint64
}

// NotVoter refuses who has no vote.
//
//chain:error 1001
type NotVoter struct {
	sdk.Refusal
	Who sdk.Addr
}

// NoSuchMotion refuses an id that was never given.
//
//chain:error 1002
type NoSuchMotion struct {
	sdk.Refusal
	ID uint64
}

// AlreadyVoted refuses a second vote.
//
//chain:error 1003
type AlreadyVoted struct {
	sdk.Refusal
	ID    uint64
	Voter sdk.Addr
}

// NotOpen refuses what comes after the end.
//
//chain:error 1004
type NotOpen struct {
	sdk.Refusal
	ID     uint64
	Status Status
}

// NotEnough refuses to execute a motion with too few votes.
//
//chain:error 1005
type NotEnough struct {
	sdk.Refusal
	Have, Need uint32
}

// BadCommittee refuses a committee for its voters, a double among them, or its threshold.
//
//chain:error 1006
type BadCommittee struct {
	sdk.Refusal
	Reason string
}

// CallFailed passes on why the motion's call failed.
//
//chain:error 1007
type CallFailed struct {
	sdk.Refusal
	Status int32
	Data   []byte
}

const largestCommittee = 32

// Init names the voters and how many of them must agree.
//
//chain:init
func (Multisig) Init(_ sdk.Ctx, voters []sdk.Addr, threshold uint32) error {
	if len(voters) == 0 || len(voters) > largestCommittee {
		return BadCommittee{Reason: "voters"}
	}
	for i, voter := range voters {
		if slices.Contains(voters[:i], voter) {
			return BadCommittee{Reason: "double"}
		}
	}
	if threshold == 0 || threshold > uint32(len(voters)) {
		return BadCommittee{Reason: "threshold"}
	}
	committee.Set(voters)
	needed.Set(threshold)
	return nil
}

// Propose puts a call to the vote and returns the motion's id.
//
//chain:tx
func (Multisig) Propose(c sdk.Ctx, text string, target sdk.Addr, method string, args []byte) (uint64, error) {
	if err := check(c.Caller()); err != nil {
		return 0, err
	}
	id := max(next.Get(), 1)
	next.Set(sdk.Add(id, 1))
	motions.Set(id, Motion{Proposer: c.Caller(), Text: text, Target: target, Method: method, Args: args})
	c.Emit(Proposed{ID: id, Proposer: c.Caller(), Text: text})
	return id, nil
}

// Vote is for or against a motion, once.
//
//chain:tx
func (Multisig) Vote(c sdk.Ctx, id uint64, approve bool) error {
	m, err := find(c.Caller(), id)
	if err != nil {
		return err
	}
	if slices.Contains(m.Yes, c.Caller()) || slices.Contains(m.No, c.Caller()) {
		return AlreadyVoted{ID: id, Voter: c.Caller()}
	}
	if approve {
		m.Yes = append(m.Yes, c.Caller())
	} else {
		m.No = append(m.No, c.Caller())
	}
	if len(committee.Get())-len(m.No) < int(needed.Get()) {
		m.Status = rejected
	}
	motions.Set(id, m)
	c.Emit(Voted{ID: id, Voter: c.Caller(), Approve: approve})
	if m.Status == rejected {
		c.Emit(Rejected{ID: id})
	}
	return nil
}

// Execute makes the call of a motion that has enough votes, and returns the call's output.
//
//chain:tx
func (Multisig) Execute(c sdk.Ctx, id uint64) ([]byte, error) {
	m, err := find(c.Caller(), id)
	if err != nil {
		return nil, err
	}
	if have, need := uint32(len(m.Yes)), needed.Get(); have < need {
		return nil, NotEnough{Have: have, Need: need}
	}
	m.Status = executed
	motions.Set(id, m) // before the call, which may come back here
	r := sdk.Call(m.Target, m.Method, m.Args, sdk.CallOptions{})
	if r.Status != sdk.StatusOK {
		return nil, CallFailed{Status: int32(r.Status), Data: r.Data}
	}
	c.Emit(Executed{ID: id, Result: r.Data})
	return r.Data, nil
}

// Get returns a motion.
//
//chain:view
func (Multisig) Get(_ sdk.Ctx, id uint64) (Motion, error) {
	m, ok := motions.Lookup(id)
	if !ok {
		return m, NoSuchMotion{ID: id}
	}
	return m, nil
}

// Voters returns who may vote.
//
//chain:view
func (Multisig) Voters(sdk.Ctx) []sdk.Addr { return committee.Get() }

// Threshold returns how many votes a motion needs.
//
//chain:view
func (Multisig) Threshold(sdk.Ctx) uint32 { return needed.Get() }

func check(who sdk.Addr) error {
	if !slices.Contains(committee.Get(), who) {
		return NotVoter{Who: who}
	}
	return nil
}

// find returns a motion that is open, for a voter.
func find(voter sdk.Addr, id uint64) (Motion, error) {
	if err := check(voter); err != nil {
		return Motion{}, err
	}
	m, ok := motions.Lookup(id)
	if !ok {
		return m, NoSuchMotion{ID: id}
	}
	if m.Status != open {
		return m, NotOpen{ID: id, Status: m.Status}
	}
	return m, nil
}
