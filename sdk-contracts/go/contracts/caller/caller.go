// Package caller is a contract that calls others and survives their failures.
package caller

import (
	"math"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

// Caller pays many at once, and tells how calls end.
type Caller struct{}

// Version is the contract's, which its schema tells.
const Version = "1.0.0"

var (
	coin     = sdk.NewValue[sdk.Addr]("token")
	failures = sdk.NewCounter("failures")
)

// Payment is one of many.
type Payment struct {
	To     sdk.Addr
	Amount sdk.U128
}

// Result is how a call ended: its status, and its output or the data of its abort.
type Result struct {
	Status int32
	Data   []byte
}

// PaidOut is emitted for a payment that went well.
//
//chain:event indexed=to
type PaidOut struct {
	sdk.Event
	To     sdk.Addr
	Amount sdk.U128
}

// Failed is emitted for a payment that did not.
//
//chain:event indexed=to
type Failed struct {
	sdk.Event
	To     sdk.Addr
	Amount sdk.U128
	Status int32
	Data   []byte
}

// TooMany refuses more payments than a call may make.
//
//chain:error 1001
type TooMany struct {
	sdk.Refusal
	Count, Most uint32
}

// PeekFailed passes on why the token did not answer.
//
//chain:error 1002
type PeekFailed struct {
	sdk.Refusal
	Status int32
	Data   []byte
}

const mostPayments = 50

// Init names the token that pays.
//
//chain:init
func (Caller) Init(_ sdk.Ctx, token sdk.Addr) { coin.Set(token) }

// PayMany pays from the transaction's sender, one payment at a time. One that fails is told and counted, and the others go on.
//
//chain:tx
func (Caller) PayMany(c sdk.Ctx, payments []Payment) ([]Result, error) {
	if len(payments) > mostPayments {
		return nil, TooMany{Count: uint32(len(payments)), Most: mostPayments}
	}
	results := make([]Result, len(payments))
	for i, p := range payments {
		r := sdk.Call(coin.Get(), "transfer_from", sdk.Args(c.Origin(), p.To, p.Amount), sdk.CallOptions{})
		results[i] = Result{int32(r.Status), r.Data}
		if r.Status == sdk.StatusOK {
			c.Emit(PaidOut{To: p.To, Amount: p.Amount})
			continue
		}
		failures.Add(1, 0, math.MaxInt64)
		c.Emit(Failed{To: p.To, Amount: p.Amount, Status: int32(r.Status), Data: r.Data})
	}
	return results, nil
}

// Probe makes any call with at most so much gas, or 0 for what may be passed on, and returns how it ended.
//
//chain:tx
func (Caller) Probe(_ sdk.Ctx, target sdk.Addr, method string, args []byte, gas uint64) Result {
	r := sdk.Call(target, method, args, sdk.CallOptions{Gas: gas})
	return Result{int32(r.Status), r.Data}
}

// Recurse calls itself, and returns how many calls deep it got.
//
//chain:tx
func (Caller) Recurse(c sdk.Ctx, depth uint32) uint32 {
	if depth == 0 {
		return 0
	}
	r := sdk.Call(c.Self(), "recurse", sdk.Args(sdk.Sub(depth, 1)), sdk.CallOptions{AllowReentry: true})
	if r.Status != sdk.StatusOK {
		return 1
	}
	return sdk.Add(1, sdk.Returned[uint32](r))
}

// Peek asks the token for a balance, without letting it write.
//
//chain:view
func (Caller) Peek(_ sdk.Ctx, who sdk.Addr) (sdk.U128, error) {
	r := sdk.Call(coin.Get(), "balance_of", sdk.Args(who), sdk.CallOptions{ReadOnly: true})
	if r.Status != sdk.StatusOK {
		return sdk.U128{}, PeekFailed{Status: int32(r.Status), Data: r.Data}
	}
	return sdk.Returned[sdk.U128](r), nil
}

// Failures returns how many payments failed.
//
//chain:view
func (Caller) Failures(sdk.Ctx) int64 { return failures.Get() }
