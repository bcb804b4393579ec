// Package token is a contract: an issuer puts units of a token into circulation, and holders transfer them.
package token

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Token keeps balances that add up to the total supply.
type Token struct{}

var (
	about    = sdk.NewValue[About]("about")
	supply   = sdk.NewValue[sdk.U128]("supply")
	balances = sdk.NewMap[sdk.Addr, sdk.U128]("bal")
)

// About is what the token says of itself.
type About struct {
	Name, Symbol string
	Issuer       sdk.Addr
}

// Issued is emitted when the issuer puts units into circulation.
//
//chain:event indexed=to
type Issued struct {
	sdk.Event
	To     sdk.Addr
	Amount sdk.U128
}

// Transferred is emitted by every transfer.
//
//chain:event indexed=from,to
type Transferred struct {
	sdk.Event
	From, To sdk.Addr
	Amount   sdk.U128
}

// Paid is emitted by a transfer that names what it is for.
//
//chain:event indexed=from,to
type Paid struct {
	sdk.Event
	From, To  sdk.Addr
	Amount    sdk.U128
	Reference []byte
}

// InsufficientFunds refuses a transfer of more than the holder has.
//
//chain:error 1001
type InsufficientFunds struct {
	sdk.Refusal
	Have, Need sdk.U128
}

// NotIssuer refuses an issue by anybody but the issuer.
//
//chain:error 1002
type NotIssuer struct {
	sdk.Refusal
	Issuer sdk.Addr
}

// Init names the token and who may issue it.
//
//chain:init
func (Token) Init(_ sdk.Ctx, name, symbol string, issuer sdk.Addr) {
	about.Set(About{Name: name, Symbol: symbol, Issuer: issuer})
}

// Issue puts amount units into circulation, at to.
//
//chain:tx conflicts=supply,bal/{to}
func (Token) Issue(c sdk.Ctx, to sdk.Addr, amount sdk.U128) error {
	if issuer := about.Get().Issuer; c.Caller() != issuer {
		return NotIssuer{Issuer: issuer}
	}
	supply.Set(supply.Get().Add(amount))
	balances.Set(to, balances.Get(to).Add(amount))
	c.Emit(Issued{To: to, Amount: amount})
	return nil
}

// Transfer moves amount units from the caller to to.
//
//chain:tx conflicts=bal/{$caller},bal/{to}
func (Token) Transfer(c sdk.Ctx, to sdk.Addr, amount sdk.U128) error {
	if err := move(c.Caller(), to, amount); err != nil {
		return err
	}
	c.Emit(Transferred{From: c.Caller(), To: to, Amount: amount})
	return nil
}

// Pay is Transfer with a reference, such as an invoice's number, that goes into the event.
//
//chain:tx conflicts=bal/{$caller},bal/{to}
func (Token) Pay(c sdk.Ctx, to sdk.Addr, amount sdk.U128, reference []byte) error {
	if err := move(c.Caller(), to, amount); err != nil {
		return err
	}
	c.Emit(Paid{From: c.Caller(), To: to, Amount: amount, Reference: reference})
	return nil
}

func move(from, to sdk.Addr, amount sdk.U128) error {
	have := balances.Get(from)
	if have.Less(amount) {
		return InsufficientFunds{Have: have, Need: amount}
	}
	balances.Set(from, have.Sub(amount))
	balances.Set(to, balances.Get(to).Add(amount)) // read after the write: to may be from
	return nil
}

// BalanceOf returns the units that who holds.
//
//chain:view
func (Token) BalanceOf(_ sdk.Ctx, who sdk.Addr) sdk.U128 { return balances.Get(who) }

// TotalSupply returns the units in circulation.
//
//chain:view
func (Token) TotalSupply(_ sdk.Ctx) sdk.U128 { return supply.Get() }

// About returns the token's name, symbol and issuer.
//
//chain:view
func (Token) About(_ sdk.Ctx) About { return about.Get() }
