// Package flaws is a contract that builds, and that a linter has much to say about.
package flaws

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Flaws has the contract's methods.
type Flaws struct{}

var (
	total   = sdk.NewValue[uint64]("total")
	members = sdk.NewMap[string, uint64]("member")
)

// Join writes, as a transaction should.
//
//chain:tx
func (Flaws) Join(_ sdk.Ctx, name string) { members.Set(name, 1) }

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

// Average counts with floats.
//
//chain:view
func (Flaws) Average(_ sdk.Ctx, parts uint64) uint64 {
	return uint64(average(float64(total.Get()), parts))
}

//go:noinline
func average(sum float64, parts uint64) float64 { return sum / float64(parts) }
