// Package faults has one of each fault that the builder reports; the comments say how.
package faults

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

type Faults struct{} // want "may have keys of the map"

type Other struct{}

type hidden struct{ A uint64 }

type Chain struct {
	Next []Chain // want "Chain contains itself"
}

type Loose struct {
	kept uint64 // want "field kept of Loose would be lost"
}

type Key struct {
	Name string // want "field Name of the key Key has no fixed length"
	Day  uint32
}

type Silent struct { // want "embeds sdk.Refusal: give its abort code"
	sdk.Refusal
}

//chain:error 12
type Low struct { // want "a contract's codes are numbers from 1000"
	sdk.Refusal
}

//chain:event
type NoEvent struct{} // want "events embed sdk.Event"

var name = "computed" + sdk.Version

var (
	_ = sdk.NewValue[uint64](name)       // want "must be a constant string"
	_ = sdk.NewMap[Key, uint64]("keyed") //
	_ = sdk.NewMap[string, uint64]("order")
	_ = sdk.NewMap[string, uint64]("order/item")
	_ = sdk.NewValue[[]uint64]("list") // want "can be of the unnamed type"
)

//chain:tx
func (Faults) Float(c sdk.Ctx, x float64) {} // want "no floating point in values"

//chain:tx
func (Faults) Int(c sdk.Ctx, x int) {} // want "int has no stated width"

//chain:tx
func (Faults) Map(c sdk.Ctx, x map[string]uint64) {} // want "maps have no order"

//chain:tx
func (Faults) Hidden(c sdk.Ctx, x hidden) {} // want "hidden appears in the schema"

//chain:tx
func (Faults) Recursive(c sdk.Ctx, x Chain, y Loose) {}

//chain:view
func (Faults) Two(c sdk.Ctx) (uint64, uint64) { return 0, 0 } // want "returns 2 values"

//chain:tx
func (Faults) NoContext(x uint64) {} // want "the first parameter is an sdk.Ctx"

//chain:tx
func (Faults) NoName(c sdk.Ctx, _ uint64) {} // want "parameter 1 needs a name"

//chain:tx colour=red
func (Faults) Option(c sdk.Ctx) {} // the directive's line: no option "colour"

//chain:tx
func (Other) Second(c sdk.Ctx) {} // want "belong to one struct"

//chain:tx
func (Faults) Asks(c sdk.Ctx) { sdk.Returned[[]uint64](sdk.Result{}) } // want "what a call returned can be of the unnamed type"

//chain:init
func (Faults) Init(c sdk.Ctx) uint64 { return 0 } // want "returns at most an error"
