// Package receivable is a contract: what a buyer owes a supplier becomes a receivable that its holder can split, pass
// on to its own suppliers, and be paid for in a token when it is due.
//
// A receivable begins as an invoice, which binds nobody until the debtor accepts it. From then on it has a holder, to whom the debtor
// owes it. Parts of a receivable add up to it, and whoever owes it pays all of one part at a time.
package receivable

import (
	"math"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

// Receivable has the contract's methods.
type Receivable struct{}

// Phase is where a receivable stands.
type Phase uint8

// The phases of a receivable.
const (
	Invoiced Phase = iota // the debtor has not accepted it
	Owed
	Divided   // into others, which took its place
	Settled   // paid
	Cancelled // by the creditor, before it was accepted
)

// Claim is a receivable.
type Claim struct {
	Debtor    sdk.Addr
	Creditor  sdk.Addr // who delivered and invoiced
	Holder    sdk.Addr // to whom it is owed
	Amount    sdk.U128
	Due       uint64 // Unix ms; a block of a later time is late
	Reference string // such as the invoice's number; the creditor's own
	Origin    uint64 // the receivable that this one is a part of; 0: none
	Phase     Phase
}

// Entry is a receivable with its number.
type Entry struct {
	ID    uint64
	Claim Claim
}

// held orders the receivables of a holder.
type held struct {
	Holder sdk.Addr
	ID     uint64
}

// invoice names what a creditor invoiced.
type invoice struct {
	Creditor  sdk.Addr
	Reference string
}

var (
	token    = sdk.NewValue[sdk.Addr]("token") // in which receivables are paid
	last     = sdk.NewValue[uint64]("last")    // number given out last
	claims   = sdk.NewMap[uint64, Claim]("claim")
	owned    = sdk.NewMap[held, bool]("held")         // that are owed
	invoices = sdk.NewMap[invoice, uint64]("invoice") // that were not withdrawn, whatever became of them
)

// Issued is emitted for a new invoice.
//
//chain:event indexed=id,debtor,creditor
type Issued struct {
	sdk.Event
	ID               uint64
	Debtor, Creditor sdk.Addr
	Amount           sdk.U128
	Due              uint64
	Reference        string
}

// Accepted is emitted when the debtor binds itself.
//
//chain:event indexed=id,debtor
type Accepted struct {
	sdk.Event
	ID     uint64
	Debtor sdk.Addr
}

// Withdrawn is emitted when a creditor takes an invoice back.
//
//chain:event indexed=id
type Withdrawn struct {
	sdk.Event
	ID uint64
}

// Passed is emitted when a receivable gets another holder.
//
//chain:event indexed=id,from,to
type Passed struct {
	sdk.Event
	ID       uint64
	From, To sdk.Addr
}

// Parted is emitted for each part of a receivable that was split.
//
//chain:event indexed=id,origin
type Parted struct {
	sdk.Event
	ID, Origin uint64
	Amount     sdk.U128
}

// Paid is emitted when a receivable is settled.
//
//chain:event indexed=id,debtor,holder
type Paid struct {
	sdk.Event
	ID             uint64
	Debtor, Holder sdk.Addr
	Amount         sdk.U128
}

// Unknown refuses a number that no receivable has.
//
//chain:error 1001
type Unknown struct {
	sdk.Refusal
	ID uint64
}

// WrongPhase refuses what cannot be done where a receivable stands.
//
//chain:error 1002
type WrongPhase struct {
	sdk.Refusal
	ID    uint64
	Phase Phase
}

// NotYours refuses a caller who is not the party whose decision it is.
//
//chain:error 1003
type NotYours struct {
	sdk.Refusal
	ID    uint64
	Party sdk.Addr
}

// BadTerms refuses arguments that make no sense.
//
//chain:error 1004
type BadTerms struct {
	sdk.Refusal
	Reason string
}

// BadParts refuses parts that do not add up to the receivable.
//
//chain:error 1005
type BadParts struct {
	sdk.Refusal
	Want, Got sdk.U128
}

// NotPaid refuses to settle, because the token refused to move the amount.
//
//chain:error 1006
type NotPaid struct {
	sdk.Refusal
	Status int32
	Data   []byte
}

// AlreadyIssued refuses a second receivable for one invoice: it could be sold twice.
//
//chain:error 1007
type AlreadyIssued struct {
	sdk.Refusal
	ID uint64
}

// TooLate refuses to accept an invoice that should have been paid by now.
//
//chain:error 1008
type TooLate struct {
	sdk.Refusal
	ID, Due uint64
}

// Frozen refuses to pass a receivable on, because a freeze keeps the account from being given to.
//
//chain:error 1009
type Frozen struct {
	sdk.Refusal
	Account sdk.Addr
}

const (
	maxReference = 128 // bytes
	maxParts     = 32
	maxPage      = 100
)

// Init names the token that receivables are paid in.
//
//chain:init
func (Receivable) Init(_ sdk.Ctx, paidIn sdk.Addr) error {
	if paidIn.IsZero() {
		return BadTerms{Reason: "token"}
	}
	token.Set(paidIn)
	return nil
}

// Issue invoices the debtor on behalf of the caller, and returns the receivable's number. A creditor uses a reference once, or again
// after it withdrew the invoice.
//
//chain:tx conflicts=last,invoice/{$caller}
func (Receivable) Issue(c sdk.Ctx, debtor sdk.Addr, amount sdk.U128, due uint64, reference string) (uint64, error) {
	creditor := c.Caller()
	switch {
	case debtor.IsZero() || debtor == creditor:
		return 0, BadTerms{Reason: "debtor"}
	case amount.IsZero():
		return 0, BadTerms{Reason: "amount"}
	case due <= c.TimeMilli():
		return 0, BadTerms{Reason: "due"}
	case reference == "" || len(reference) > maxReference:
		return 0, BadTerms{Reason: "reference"}
	}
	number := invoice{creditor, reference}
	if id, found := invoices.Lookup(number); found {
		return 0, AlreadyIssued{ID: id}
	}
	id := add(Claim{Debtor: debtor, Creditor: creditor, Holder: creditor, Amount: amount, Due: due, Reference: reference})
	invoices.Set(number, id)
	c.Emit(Issued{ID: id, Debtor: debtor, Creditor: creditor, Amount: amount, Due: due, Reference: reference})
	return id, nil
}

// Accept binds the caller, who is the debtor, to pay the holder. It is refused once the invoice is late.
//
//chain:tx conflicts=claim/{id}
func (Receivable) Accept(c sdk.Ctx, id uint64) error {
	claim, err := in(id, Invoiced)
	if err != nil {
		return err
	}
	if c.Caller() != claim.Debtor {
		return NotYours{ID: id, Party: claim.Debtor}
	}
	if c.TimeMilli() > claim.Due {
		return TooLate{ID: id, Due: claim.Due}
	}
	claim.Phase = Owed
	claims.Set(id, claim)
	owned.Set(held{claim.Holder, id}, true)
	c.Emit(Accepted{ID: id, Debtor: claim.Debtor})
	return nil
}

// Withdraw takes back an invoice that was not accepted. Only the creditor may.
//
//chain:tx conflicts=claim/{id},invoice/{$caller}
func (Receivable) Withdraw(c sdk.Ctx, id uint64) error {
	claim, err := in(id, Invoiced)
	if err != nil {
		return err
	}
	if c.Caller() != claim.Creditor {
		return NotYours{ID: id, Party: claim.Creditor}
	}
	claim.Phase = Cancelled
	claims.Set(id, claim)
	invoices.Delete(invoice{claim.Creditor, claim.Reference})
	c.Emit(Withdrawn{ID: id})
	return nil
}

// Transfer passes a receivable on. Only the holder may, and it goes to nobody whom a freeze keeps from being given to.
//
//chain:tx conflicts=claim/{id}
func (Receivable) Transfer(c sdk.Ctx, id uint64, to sdk.Addr) error {
	if to.IsZero() || to == c.Self() { // neither could be paid
		return BadTerms{Reason: "to"}
	}
	claim, err := ownedBy(c.Caller(), id)
	if err != nil {
		return err
	}
	from := claim.Holder
	if account, stopped := sdk.Stopped(sdk.Addr{}, to); stopped { // the caller is not: the chain keeps a frozen account from calling
		return Frozen{Account: account}
	}
	owned.Delete(held{from, id})
	claim.Holder = to
	claims.Set(id, claim)
	owned.Set(held{to, id}, true)
	c.Emit(Passed{ID: id, From: from, To: to})
	return nil
}

// Split divides a receivable into parts of the given amounts, which take its place, and returns their numbers. Only the
// holder may.
//
//chain:tx conflicts=claim/{id},last
func (Receivable) Split(c sdk.Ctx, id uint64, amounts []sdk.U128) ([]uint64, error) {
	claim, err := ownedBy(c.Caller(), id)
	if err != nil {
		return nil, err
	}
	if len(amounts) < 2 || len(amounts) > maxParts {
		return nil, BadTerms{Reason: "parts"}
	}
	var sum sdk.U128
	for _, a := range amounts {
		if a.IsZero() {
			return nil, BadTerms{Reason: "amount"}
		}
		sum = sum.Add(a)
	}
	if sum != claim.Amount {
		return nil, BadParts{Want: claim.Amount, Got: sum}
	}
	claim.Phase = Divided
	claims.Set(id, claim)
	owned.Delete(held{claim.Holder, id})
	parts := make([]uint64, len(amounts))
	for i, a := range amounts {
		part := claim
		part.Phase, part.Amount, part.Origin = Owed, a, id
		parts[i] = add(part)
		owned.Set(held{part.Holder, parts[i]}, true)
		c.Emit(Parted{ID: parts[i], Origin: id, Amount: a})
	}
	return parts, nil
}

// Settle pays a receivable: the token moves its amount from the caller, who is the debtor and has approved that, to the holder. It
// may be paid before it is due.
//
//chain:tx conflicts=claim/{id}
func (Receivable) Settle(c sdk.Ctx, id uint64) error {
	claim, err := in(id, Owed)
	if err != nil {
		return err
	}
	if c.Caller() != claim.Debtor {
		return NotYours{ID: id, Party: claim.Debtor}
	}
	claim.Phase = Settled // before anybody else is called
	claims.Set(id, claim)
	owned.Delete(held{claim.Holder, id})
	paid := sdk.Call(token.Get(), "transfer_from", sdk.Args(claim.Debtor, claim.Holder, claim.Amount), sdk.CallOptions{})
	if paid.Status != sdk.StatusOK {
		return NotPaid{Status: int32(paid.Status), Data: paid.Data}
	}
	c.Emit(Paid{ID: id, Debtor: claim.Debtor, Holder: claim.Holder, Amount: claim.Amount})
	return nil
}

// Get returns a receivable.
//
//chain:view
func (Receivable) Get(_ sdk.Ctx, id uint64) (Claim, error) { return get(id) }

// Overdue reports whether a receivable is owed and should have been paid.
//
//chain:view
func (Receivable) Overdue(c sdk.Ctx, id uint64) (bool, error) {
	claim, err := get(id)
	return claim.Phase == Owed && c.TimeMilli() > claim.Due, err
}

// HeldBy returns what is owed to a holder, by number from the one after the given one on, at most limit (1 to 100).
//
//chain:view
func (Receivable) HeldBy(_ sdk.Ctx, holder sdk.Addr, after uint64, limit uint32) ([]Entry, error) {
	if limit < 1 || limit > maxPage {
		return nil, BadTerms{Reason: "limit"}
	}
	page := []Entry{}
	if after == math.MaxUint64 { // nothing comes after it; 0 would be the first page again
		return page, nil
	}
	for h := range owned.From(held{holder, after + 1}, limit) {
		if h.Holder != holder {
			break
		}
		page = append(page, Entry{ID: h.ID, Claim: claims.Get(h.ID)})
	}
	return page, nil
}

// add gives a receivable its number.
func add(claim Claim) uint64 {
	id := sdk.Add(last.Get(), 1)
	last.Set(id)
	claims.Set(id, claim)
	return id
}

func get(id uint64) (Claim, error) {
	claim, found := claims.Lookup(id)
	if !found {
		return claim, Unknown{ID: id}
	}
	return claim, nil
}

// in returns a receivable that is in a phase.
func in(id uint64, phase Phase) (Claim, error) {
	claim, err := get(id)
	if err == nil && claim.Phase != phase {
		err = WrongPhase{ID: id, Phase: claim.Phase}
	}
	return claim, err
}

// ownedBy returns a receivable that is owed to who.
func ownedBy(who sdk.Addr, id uint64) (Claim, error) {
	claim, err := in(id, Owed)
	if err == nil && claim.Holder != who {
		err = NotYours{ID: id, Party: claim.Holder}
	}
	return claim, err
}
