// Package token is a contract: an issuer puts units of a token into circulation, holders transfer them, or allow others to.
package token

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Token keeps balances that add up to the total supply.
type Token struct{}

// Version is the contract's, which its schema tells.
const Version = "1.0.0"

var (
	about      = sdk.NewValue[About]("about")
	supply     = sdk.NewValue[sdk.U128]("supply")
	balances   = sdk.NewBalances[sdk.Addr]("bal")
	allowances = sdk.NewMap[Allowed, sdk.U128]("allow")
)

// Allowed is a pair of whose units and who may move some of them.
type Allowed struct{ Owner, Spender sdk.Addr }

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

// Approved is emitted when a holder allows a spender to move an amount.
//
//chain:event indexed=owner,spender
type Approved struct {
	sdk.Event
	Owner, Spender sdk.Addr
	Amount         sdk.U128
}

// Adjusted is emitted when a correction gives an account units or takes them.
//
//chain:event indexed=account
type Adjusted struct {
	sdk.Event
	Account    sdk.Addr
	Amount     sdk.U128
	Credit     bool
	Correction uint64
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

// InsufficientAllowance refuses a spender who moves more than is allowed.
//
//chain:error 1003
type InsufficientAllowance struct {
	sdk.Refusal
	Have, Need sdk.U128
}

// NotCorrections refuses an adjustment by anybody but the system contract corrections.
//
//chain:error 1004
type NotCorrections struct{ sdk.Refusal }

// Frozen refuses what a freeze stops: the account may not give, or may not be given to.
//
//chain:error 1005
type Frozen struct {
	sdk.Refusal
	Account sdk.Addr
}

// corrections is the system contract that applies corrections which institutions approved.
var corrections = sdk.Addr{19: 10}

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
	if err := ask(nobody, to); err != nil {
		return err
	}
	supply.Set(supply.Get().Add(amount))
	balances.Add(to, amount)
	c.Emit(Issued{To: to, Amount: amount})
	return nil
}

// Transfer moves amount units from the caller to to.
//
//chain:tx conflicts=bal/{$caller},bal/{to}
func (Token) Transfer(c sdk.Ctx, to sdk.Addr, amount sdk.U128) error {
	if err := ask(nobody, to); err != nil {
		return err
	}
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
	if err := ask(nobody, to); err != nil {
		return err
	}
	if err := move(c.Caller(), to, amount); err != nil {
		return err
	}
	c.Emit(Paid{From: c.Caller(), To: to, Amount: amount, Reference: reference})
	return nil
}

// Approve lets a spender move amount units of the caller's, instead of what was allowed before.
//
//chain:tx
func (Token) Approve(c sdk.Ctx, spender sdk.Addr, amount sdk.U128) {
	allowances.Set(Allowed{c.Caller(), spender}, amount)
	c.Emit(Approved{Owner: c.Caller(), Spender: spender, Amount: amount})
}

// TransferFrom moves amount units from owner to to, as owner allowed the caller.
//
//chain:tx conflicts=bal/{owner},bal/{to}
func (Token) TransferFrom(c sdk.Ctx, owner, to sdk.Addr, amount sdk.U128) error {
	key := Allowed{owner, c.Caller()}
	allowed := allowances.Get(key)
	if allowed.Less(amount) {
		return InsufficientAllowance{Have: allowed, Need: amount}
	}
	if err := ask(owner, to); err != nil {
		return err
	}
	if err := move(owner, to, amount); err != nil {
		return err
	}
	allowances.Set(key, allowed.Sub(amount))
	c.Emit(Transferred{From: owner, To: to, Amount: amount})
	return nil
}

// Adjust gives an account amount units, or takes them, as a correction says.
//
//chain:tx conflicts=supply,bal/{account}
func (Token) Adjust(c sdk.Ctx, account sdk.Addr, amount sdk.U128, credit bool, correction uint64) error {
	if c.Caller() != corrections {
		return NotCorrections{}
	}
	switch {
	case credit:
		supply.Set(supply.Get().Add(amount))
		balances.Add(account, amount)
	case balances.Sub(account, amount):
		supply.Set(supply.Get().Sub(amount))
	default:
		return InsufficientFunds{Have: balances.Get(account), Need: amount}
	}
	c.Emit(Adjusted{Account: account, Amount: amount, Credit: credit, Correction: correction})
	return nil
}

var nobody sdk.Addr

// ask refuses what a freeze stops. Of who calls it need not ask, and is given nobody: the chain keeps a frozen account from calling.
func ask(from, to sdk.Addr) error {
	if account, stopped := sdk.Stopped(from, to); stopped {
		return Frozen{Account: account}
	}
	return nil
}

func move(from, to sdk.Addr, amount sdk.U128) error {
	if !balances.Sub(from, amount) {
		return InsufficientFunds{Have: balances.Get(from), Need: amount}
	}
	balances.Add(to, amount)
	return nil
}

// BalanceOf returns the units that who holds.
//
//chain:view
func (Token) BalanceOf(_ sdk.Ctx, who sdk.Addr) sdk.U128 { return balances.Get(who) }

// Allowance returns the units of owner's that spender may move.
//
//chain:view
func (Token) Allowance(_ sdk.Ctx, owner, spender sdk.Addr) sdk.U128 {
	return allowances.Get(Allowed{owner, spender})
}

// TotalSupply returns the units in circulation.
//
//chain:view
func (Token) TotalSupply(_ sdk.Ctx) sdk.U128 { return supply.Get() }

// About returns the token's name, symbol and issuer.
//
//chain:view
func (Token) About(_ sdk.Ctx) About { return about.Get() }
