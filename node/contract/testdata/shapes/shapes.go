// Package shapes is a contract with values of every type that a contract can have.
package shapes

import (
	"errors"
	"fmt"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

type Shapes struct{}

type Colour uint8

const (
	Red Colour = iota
	Green
	Blue
)

type Side int8

const (
	Buy Side = iota
	Sell
)

type ISIN string

type Leg struct {
	Pay   bool
	Rate  int32
	Notes []string
}

type Legs []Leg

type Deal struct {
	Name   ISIN
	Colour Colour
	Legs   Legs
	Agent  *sdk.Addr
	Digest sdk.Hash
	Short  [4]byte
	Blob   []byte
	Size   sdk.U128
	Low    int64
	Cash   [][]uint16
}

type Day struct {
	Holder sdk.Addr
	Number int32
	Note   string
}

var (
	deals = sdk.NewMap[ISIN, Deal]("deal")
	days  = sdk.NewMap[Day, Colour]("day")
	count = sdk.NewCounter("count")
)

//chain:event indexed=name
type Stored struct {
	sdk.Event
	Name ISIN
	Deal Deal
}

//chain:error 2000
type TooBig struct {
	sdk.Refusal
	Deal *Deal
}

// Echo returns what it is given.
//
//chain:view
func (Shapes) Echo(_ sdk.Ctx, deal Deal) Deal { return deal }

// Store keeps a deal and reads it back.
//
//chain:tx
func (*Shapes) Store(c sdk.Ctx, deal Deal, colours []Colour) (*Deal, error) {
	if len(deal.Legs) > 2 {
		return nil, fmt.Errorf("store: %w", TooBig{Deal: &deal})
	}
	deals.Set(deal.Name, deal)
	for i, colour := range colours {
		days.Set(Day{Holder: c.Caller(), Number: int32(1 - i), Note: "x"}, colour)
	}
	count.Add(1, 0, 10)
	c.Emit(Stored{Name: deal.Name, Deal: deal})
	stored, ok := deals.Lookup(deal.Name)
	if !ok {
		return nil, errors.New("not stored")
	}
	return &stored, nil
}

// Days returns the numbers under which colours are kept, in order.
//
//chain:view
func (Shapes) Days(_ sdk.Ctx, limit uint32) []Named {
	var all []Named
	for day, colour := range days.All(limit) {
		all = append(all, Named{day.Number, colour})
	}
	return all
}

type Named struct {
	Number int32
	Colour Colour
}

// Count returns how many deals were stored.
//
//chain:view
func (Shapes) Count(_ sdk.Ctx) int64 { return count.Get() }

// Panic fails in a way that the contract did not foresee.
//
//chain:view
func (Shapes) Panic(_ sdk.Ctx, list []uint64) uint64 { return list[0] }

// Who returns the context as the contract sees it.
//
//chain:view
func (Shapes) Who(c sdk.Ctx) About {
	return About{c.Caller(), c.Origin(), c.Self(), c.Height(), c.TimeMilli(), c.Group(), c.Method(), c.ReadOnly(), c.HasRole("deployer")}
}

type About struct {
	Caller, Origin, Self sdk.Addr
	Height, Time         uint64
	Group, Method        string
	ReadOnly, Deployer   bool
}

// Digest returns SHA-256 of data.
//
//chain:view
func (Shapes) Digest(_ sdk.Ctx, data []byte) sdk.Hash { return sdk.SHA256(data) }

// Forward calls a method of another contract without arguments, and returns the status.
//
//chain:tx
func (Shapes) Forward(_ sdk.Ctx, to sdk.Addr, method string, list []uint64) int32 {
	args := sdk.AppendArray(nil, 1)
	args = sdk.AppendArray(args, len(list))
	for _, n := range list {
		args = sdk.AppendUint(args, n)
	}
	return int32(sdk.Call(to, method, args, sdk.CallOptions{AllowReentry: true}).Status)
}

// Entry is what only another contract's method returns.
type Entry struct {
	Number int32
	Colour Colour
}

// Entries is a list of them.
type Entries []Entry

// AskDays asks a contract for its days, and returns how many there are.
//
//chain:view
func (Shapes) AskDays(_ sdk.Ctx, to sdk.Addr) uint32 {
	return uint32(len(sdk.Returned[Entries](sdk.Call(to, "days", sdk.Args(uint32(10)), sdk.CallOptions{AllowReentry: true}))))
}

// Turn returns the other side.
//
//chain:view
func (Shapes) Turn(_ sdk.Ctx, side Side) Side { return Sell - side }

// TurnNumber calls turn with a number, and returns the status.
//
//chain:view
func (Shapes) TurnNumber(_ sdk.Ctx, to sdk.Addr, side int8) int32 {
	return int32(sdk.Call(to, "turn", sdk.Args(side), sdk.CallOptions{AllowReentry: true}).Status)
}

// Of returns how many days a holder has.
//
//chain:view
func (Shapes) Of(_ sdk.Ctx, holder sdk.Addr) (n uint32) {
	for range sdk.Under(days, holder, 10) {
		n++
	}
	return n
}

// Restricted needs a role.
//
//chain:tx roles=deployer,regulator
func (Shapes) Restricted(_ sdk.Ctx) {}
