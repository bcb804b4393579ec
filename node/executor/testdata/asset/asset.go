// Package asset is a contract whose units a freeze stops, whoever moves them: it asks the chain before each move.
package asset

import sdk "github.com/fondaco/fondaco/sdk-contracts/go"

// Asset keeps balances, which others may spend as their holders allow.
type Asset struct{}

var (
	balances   = sdk.NewMap[sdk.Addr, uint64]("bal")
	allowances = sdk.NewMap[pair, uint64]("allow")
)

type pair struct{ Owner, Spender sdk.Addr }

// Moved is emitted by every move.
//
//chain:event
type Moved struct {
	sdk.Event
	From, To sdk.Addr
	Amount   uint64
}

// Issue gives units to an account.
//
//chain:tx
func (Asset) Issue(_ sdk.Ctx, to sdk.Addr, amount uint64) { balances.Set(to, balances.Get(to)+amount) }

// Approve lets a spender move units of the caller's.
//
//chain:tx
func (Asset) Approve(c sdk.Ctx, spender sdk.Addr, amount uint64) {
	allowances.Set(pair{c.Caller(), spender}, amount)
}

// Transfer moves units of the caller's.
//
//chain:tx
func (Asset) Transfer(c sdk.Ctx, to sdk.Addr, amount uint64) error {
	return move(c, c.Caller(), to, amount)
}

// TransferFrom moves units of owner's, as owner allowed the caller.
//
//chain:tx
func (Asset) TransferFrom(c sdk.Ctx, owner, to sdk.Addr, amount uint64) error {
	allowed := allowances.Get(pair{owner, c.Caller()})
	if allowed < amount {
		return sdk.Denied("it is not allowed")
	}
	allowances.Set(pair{owner, c.Caller()}, allowed-amount)
	return move(c, owner, to, amount)
}

func move(c sdk.Ctx, from, to sdk.Addr, amount uint64) error {
	if account, stopped := sdk.Stopped(from, to); stopped {
		return sdk.Denied("account " + account.String() + " is frozen")
	}
	have := balances.Get(from)
	if have < amount {
		return sdk.Denied("the balance is lower")
	}
	balances.Set(from, have-amount)
	balances.Set(to, balances.Get(to)+amount)
	c.Emit(Moved{From: from, To: to, Amount: amount})
	return nil
}

// BalanceOf returns the units that an account has.
//
//chain:view
func (Asset) BalanceOf(_ sdk.Ctx, who sdk.Addr) uint64 { return balances.Get(who) }
