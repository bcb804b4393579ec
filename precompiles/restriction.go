package precompiles

import (
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// Visible says who may read what a contract keeps and does, through the API of a node. It keeps clients of nodes apart, and
// not nodes: every member's node has all data of the group.
type Visible uint8

// Who may read. A regulator and an auditor may read everything, and each such read is logged.
const (
	VisibleMembers     Visible = 0 // whoever may read at all; a contract without a Restriction is so
	VisibleInstitution Visible = 1 // the institution that owned the contract when it was restricted; and a sender his own transactions
	VisibleParties     Visible = 2 // an account what names it: transactions that it sent or that name it in an argument or event, and rows of state whose key does
)

// String returns the word of the schema.
func (v Visible) String() string {
	if names := visibleNames(); int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("visible(%d)", uint8(v))
}

func visibleNames() []string { return []string{"members", "institution", "parties"} }

// Restriction is a row of the table of contracts that not everybody may read, keyed by address.
type Restriction struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16   // ledger.Version
	Visible     Visible
	Institution string        // of the contract's owner when it was restricted
	Height      ledger.Height // of the block in which it was
}

// ReadRestriction returns who may read a contract; the zero value where everybody may.
func ReadRestriction(r Reader, contract ledger.Address) (Restriction, error) {
	row, _, err := read[Restriction](r, restrictionKey(contract))
	return row, err
}

// Answers reports whether a restricted contract answers another one in a transaction: one that is as private, so visible to the same of the same
// institution, and owned by an account of that still. With its code an owner decides what it shows.
func (x *Restriction) Answers(r Reader, caller ledger.Address) (bool, error) {
	other, err := ReadRestriction(r, caller)
	if err != nil || other.Visible != x.Visible || other.Institution != x.Institution {
		return false, err
	}
	d, _, err := ReadContract(r, caller)
	if err != nil {
		return false, err
	}
	owner, _, err := ReadAccount(r, d.Owner)
	return owner.Institution == x.Institution, err
}

// TellsPrivate reports whether a view of a system contract tells what is in private contracts. It answers no transaction once [Visibility] holds, nor a
// contract in one: everybody reads receipts of system contracts, and a contract could copy what it is told.
func TellsPrivate(contract ledger.Address, method string) bool {
	return contract == CorrectionsAddress && (method == "get" || method == "list")
}

// RestrictionKeys returns the prefix of the state keys of restrictions. A restriction's key is the prefix and the contract's address.
func RestrictionKeys() []byte { return key(ContractsAddress, []byte("v")) }

func restrictionKey(contract ledger.Address) []byte {
	return key(ContractsAddress, []byte("v"), contract[:])
}

// RestrictArgs are the arguments of the contracts method restrict.
type RestrictArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	Visible Visible
}

func restrict(env Env, a RestrictArgs) error {
	if int(a.Visible) >= len(visibleNames()) {
		return aborted(AbortArguments, nil, "%s: want members, institution or parties", a.Visible)
	}
	d, found, err := ReadContract(env, a.Address)
	switch {
	case err != nil:
		return err
	case !found:
		return aborted(AbortMissing, []any{a.Address}, "no contract %s", a.Address)
	}
	row, err := ReadRestriction(env, a.Address)
	switch {
	case err != nil:
		return err
	case !byMotion(env) && d.Owner != env.Caller():
		return denied(DeniedOwner, "%s does not own the contract", env.Caller())
	case row.Visible == a.Visible:
		return aborted(AbortUnchanged, nil, "the contract is visible to %s already", a.Visible)
	case !byMotion(env) && row.Visible != VisibleMembers:
		return denied(DeniedMotion, "the contract is visible to %s since block %d, and others relied on that: a motion of the committee changes it, `fondaco motion propose --help`", row.Visible, row.Height)
	}
	if err := writeRestriction(env, a, row.Institution, d.Owner); err != nil {
		return err
	}
	return emit(env, "restricted", a.Address, a.Visible)
}

// writeRestriction writes or deletes the row of a contract. The institution stays the one that it was first restricted to: a contract that is
// passed on does not show its new owner's institution what the old one kept.
func writeRestriction(env Env, a RestrictArgs, institution string, owner ledger.Address) error {
	if a.Visible == VisibleMembers {
		return env.Delete(restrictionKey(a.Address))
	}
	if institution == "" {
		account, _, err := ReadAccount(env, owner)
		if err != nil {
			return err
		}
		institution = account.Institution
	}
	return write(env, restrictionKey(a.Address), &Restriction{Version: ledger.Version, Visible: a.Visible, Institution: institution, Height: env.Order().Height})
}

func contractRestriction(env Env, a AddressArgs) (*Restriction, error) {
	row, err := ReadRestriction(env, a.Address)
	if err != nil || row.Visible == VisibleMembers {
		return nil, err
	}
	return &row, nil
}

func restrictionTypes() []ledger.TypeDef {
	return []ledger.TypeDef{
		{Name: "Visible", Variants: variants(visibleNames())},
		{Name: "Restriction", Fields: []ledger.Field{
			{Name: "version", Type: "u16"}, {Name: "visible", Type: "Visible"}, {Name: "institution", Type: "str"}, {Name: "height", Type: "u64"},
		}},
	}
}

func restrictionMethods() []ledger.Method {
	address := ledger.Field{Name: "address", Type: "addr"}
	return []ledger.Method{
		{
			Name: "restrict", Kind: ledger.MethodTx, Args: []ledger.Field{address, {Name: "visible", Type: "Visible"}},
			Doc: "Says who may read the contract through nodes' APIs. The owner restricts what every member could read; a motion changes it after that. " +
				"No contract calls one that is restricted, unless it is restricted to the same, of the same institution, and that owns it.",
		},
		{Name: "restriction", Kind: ledger.MethodView, Args: []ledger.Field{address}, Return: "opt<Restriction>", Doc: "Returns who may read the contract; nothing if every member may."},
	}
}

// MayAsk says why the holder of a key may not ask for what the account at an address may read, at a state and a time in Unix ms, as an *Error, or
// the reader's error, or returns nil. One key is enough, whatever the account's threshold: to read is not to act.
func (a *Account) MayAsk(r Reader, address ledger.Address, k ledger.Key, unixMilli int64) error {
	if err := a.checkFrozen(r, address, unixMilli); err != nil {
		return err
	}
	if a.Certificate != nil {
		if err := a.CheckCertificates(r, unixMilli); err != nil {
			return err
		}
	}
	switch bound := a.key(k.Algorithm, k.Bytes); {
	case a.Leaked():
		return denied(DeniedFrozen, "a key of the account is reported as leaked: it asks for nothing until it is recovered")
	case bound == nil:
		return denied(DeniedKey, "the %s key %x is not bound to the account", k.Algorithm, k.Bytes)
	case unixMilli < bound.From || bound.Until != 0 && unixMilli > bound.Until:
		return denied(DeniedKeyTime, "the %s key %x is not valid at the time %d", k.Algorithm, k.Bytes, unixMilli)
	}
	return nil
}
