// Package flaws is a contract that builds, and that a linter has much to say about.
package flaws

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Flaws has the contract's methods.
type Flaws struct{}

var (
	total   = sdk.NewValue[uint64]("total")
	members = sdk.NewMap[string, uint64]("member")
	shares  = sdk.NewBalances[string]("share")
)

// Join writes, as a transaction should.
//
//chain:tx
func (Flaws) Join(_ sdk.Ctx, name string) {
	members.Set(name, 1)
	shares.Add(name, sdk.NewU128(1))
}

// Size only reads.
//
//chain:tx
func (Flaws) Size(sdk.Ctx) uint64 { return total.Get() }

// Peek writes.
//
//chain:view
func (Flaws) Peek(_ sdk.Ctx, name string) uint64 {
	members.Set(name, 2)
	return 2
}

// Pay does not look whether it paid.
//
//chain:tx
func (Flaws) Pay(_ sdk.Ctx, token sdk.Addr) {
	sdk.Call(token, "transfer", sdk.Args(token), sdk.CallOptions{})
	members.Set("paid", 1)
}

// Ask takes what a failed call returned, too.
//
//chain:tx
func (Flaws) Ask(_ sdk.Ctx, token sdk.Addr) uint64 {
	held := sdk.Call(token, "held", nil, sdk.CallOptions{ReadOnly: true})
	members.Set("asked", 1)
	return uint64(len(held.Data))
}

// Sum goes over all members again and again.
//
//chain:view
func (Flaws) Sum(_ sdk.Ctx, times uint32) uint64 {
	n := uint64(0)
	for range times {
		for _, value := range members.All(10) {
			n += value
		}
		for _, held := range shares.All(10) {
			n += held.Lo
		}
		n += last()
	}
	return n
}

func last() uint64 {
	for _, value := range sdk.Under(members, "a", 1) {
		return value
	}
	return 0
}

// Settle is as it should be.
//
//chain:tx
func (Flaws) Settle(_ sdk.Ctx, token sdk.Addr) {
	paid := sdk.Call(token, "transfer", sdk.Args(token), sdk.CallOptions{})
	if paid.Status == sdk.StatusOK {
		members.Set("settled", uint64(len(paid.Data)))
	}
}

// Page is as it should be.
//
//chain:view
func (Flaws) Page(_ sdk.Ctx, from string) uint64 {
	n := last()
	for _, value := range members.From(from, 10) {
		n += value
	}
	return n
}

// Average counts with floats.
//
//chain:view
func (Flaws) Average(_ sdk.Ctx, parts uint64) uint64 {
	return uint64(average(float64(total.Get()), parts))
}

//go:noinline
func average(sum float64, parts uint64) float64 { return sum / float64(parts) }
