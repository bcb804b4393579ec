// Package escrow is a contract: an amount of a token waits until its buyer releases it to the seller, or a deadline passes.
package escrow

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Escrow keeps agreements between buyers and sellers.
type Escrow struct{}

// Version is the contract's, which its schema tells.
const Version = "1.0.0"

var (
	coin       = sdk.NewValue[sdk.Addr]("token")
	next       = sdk.NewValue[uint64]("next") // id of the next agreement; absent: 1
	agreements = sdk.NewMap[uint64, Agreement]("agreement")
)

// Status is where an agreement stands.
type Status uint8

const (
	open Status = iota
	released
	refunded
)

// Agreement is an amount that waits for the buyer, until the deadline in Unix ms.
type Agreement struct {
	Buyer, Seller sdk.Addr
	Amount        sdk.U128
	Deadline      uint64
	Status        Status
}

// Opened is emitted when the buyer has paid in.
//
//chain:event indexed=id,buyer,seller
type Opened struct {
	sdk.Event
	ID            uint64
	Buyer, Seller sdk.Addr
	Amount        sdk.U128
	Deadline      uint64
}

// Released is emitted when the seller got the amount.
//
//chain:event indexed=id,seller
type Released struct {
	sdk.Event
	ID     uint64
	Seller sdk.Addr
	Amount sdk.U128
}

// Refunded is emitted when the buyer got the amount back.
//
//chain:event indexed=id,buyer
type Refunded struct {
	sdk.Event
	ID     uint64
	Buyer  sdk.Addr
	Amount sdk.U128
}

// NoSuchAgreement refuses an id that was never given.
//
//chain:error 1001
type NoSuchAgreement struct {
	sdk.Refusal
	ID uint64
}

// NotYours refuses who has no say in the agreement.
//
//chain:error 1002
type NotYours struct {
	sdk.Refusal
	ID uint64
}

// NotOpen refuses what comes after the end.
//
//chain:error 1003
type NotOpen struct {
	sdk.Refusal
	ID     uint64
	Status Status
}

// TooEarly refuses a buyer who wants the amount back before the deadline.
//
//chain:error 1004
type TooEarly struct {
	sdk.Refusal
	Deadline, Now uint64
}

// BadTerms refuses an agreement for its amount, seller or deadline.
//
//chain:error 1005
type BadTerms struct {
	sdk.Refusal
	Reason string
}

// PaymentFailed passes on why the token refused.
//
//chain:error 1006
type PaymentFailed struct {
	sdk.Refusal
	Status int32
	Data   []byte
}

// Init names the token in which is paid.
//
//chain:init
func (Escrow) Init(_ sdk.Ctx, token sdk.Addr) { coin.Set(token) }

// Open takes an amount from the caller, who allowed the escrow to, and returns the agreement's id.
//
//chain:tx
func (Escrow) Open(c sdk.Ctx, seller sdk.Addr, amount sdk.U128, deadline uint64) (uint64, error) {
	buyer := c.Caller()
	switch {
	case amount.IsZero():
		return 0, BadTerms{Reason: "amount"}
	case seller == buyer:
		return 0, BadTerms{Reason: "seller"}
	case deadline <= c.TimeMilli():
		return 0, BadTerms{Reason: "deadline"}
	}
	id := max(next.Get(), 1)
	next.Set(sdk.Add(id, 1))
	agreements.Set(id, Agreement{Buyer: buyer, Seller: seller, Amount: amount, Deadline: deadline})
	if err := pay("transfer_from", sdk.Args(buyer, c.Self(), amount)); err != nil {
		return 0, err
	}
	c.Emit(Opened{ID: id, Buyer: buyer, Seller: seller, Amount: amount, Deadline: deadline})
	return id, nil
}

// Release gives the amount to the seller. Only the buyer may.
//
//chain:tx
func (Escrow) Release(c sdk.Ctx, id uint64) error {
	a, err := find(id)
	if err != nil {
		return err
	}
	if c.Caller() != a.Buyer {
		return NotYours{ID: id}
	}
	if err := end(id, a, released, a.Seller); err != nil {
		return err
	}
	c.Emit(Released{ID: id, Seller: a.Seller, Amount: a.Amount})
	return nil
}

// Refund gives the amount back to the buyer: for the seller at any time, for the buyer from the deadline on.
//
//chain:tx
func (Escrow) Refund(c sdk.Ctx, id uint64) error {
	a, err := find(id)
	if err != nil {
		return err
	}
	switch now := c.TimeMilli(); {
	case c.Caller() == a.Seller:
	case c.Caller() != a.Buyer:
		return NotYours{ID: id}
	case now < a.Deadline:
		return TooEarly{Deadline: a.Deadline, Now: now}
	}
	if err := end(id, a, refunded, a.Buyer); err != nil {
		return err
	}
	c.Emit(Refunded{ID: id, Buyer: a.Buyer, Amount: a.Amount})
	return nil
}

// Get returns an agreement.
//
//chain:view
func (Escrow) Get(_ sdk.Ctx, id uint64) (Agreement, error) {
	a, ok := agreements.Lookup(id)
	if !ok {
		return a, NoSuchAgreement{ID: id}
	}
	return a, nil
}

// find returns an agreement that is open.
func find(id uint64) (Agreement, error) {
	a, ok := agreements.Lookup(id)
	if !ok {
		return a, NoSuchAgreement{ID: id}
	}
	if a.Status != open {
		return a, NotOpen{ID: id, Status: a.Status}
	}
	return a, nil
}

// end writes the outcome before it pays, so that nothing can come between.
func end(id uint64, a Agreement, status Status, to sdk.Addr) error {
	a.Status = status
	agreements.Set(id, a)
	return pay("transfer", sdk.Args(to, a.Amount))
}

func pay(method string, args []byte) error {
	if r := sdk.Call(coin.Get(), method, args, sdk.CallOptions{}); r.Status != sdk.StatusOK {
		return PaymentFailed{Status: int32(r.Status), Data: r.Data}
	}
	return nil
}
