package precompiles

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on freezes.
const (
	// MaxFreeze is the longest, in ms of block time, that a regulator or a compliance officer freezes alone: three days, in
	// which a motion can be carried. It is also what a freeze lasts if nobody says otherwise.
	MaxFreeze = int64(72 * 3_600_000)
	// MaxFrozenMethods bounds the methods of a contract that were frozen one by one.
	MaxFrozenMethods = 64
	maxFreezers      = 8 // accounts that joined one freeze
)

// Direction says what a frozen account may not do. A frozen contract or method has FreezeBoth.
type Direction uint8

// The directions of a freeze.
const (
	FreezeBoth Direction = 0
	FreezeOut  Direction = 1 // it sends no transactions, and contracts that ask take nothing from it
	FreezeIn   Direction = 2 // contracts that ask give it nothing
)

// String returns the direction's name, as the schema has it.
func (d Direction) String() string {
	if names := directions(); int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("direction %d", uint8(d))
}

func directions() []string { return []string{"both", "out", "in"} }

func (d Direction) out() bool { return d != FreezeIn }
func (d Direction) in() bool  { return d != FreezeOut }

func (d Direction) with(o Direction) Direction {
	if d == o {
		return d
	}
	return FreezeBoth
}

// Power says by what right something is frozen, from the weakest to the strongest.
type Power uint8

// The powers by which something is frozen.
const (
	ByAdmin      Power = 0 // an admin of the account's institution, until it is lifted
	ByCompliance Power = 1 // a compliance officer of the institution, for at most MaxFreeze
	ByRegulator  Power = 2 // a regulator, for at most MaxFreeze
	ByMotion     Power = 3 // a motion, or one that ratified what another had frozen
)

// String returns the power's name, as the schema has it.
func (a Power) String() string {
	if names := powers(); int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("power %d", uint8(a))
}

func powers() []string { return []string{"institution_admin", "compliance", "regulator", "motion"} }

// Freeze is a row of the table of freezes. It stays when it has ended, so that it tells when the next may begin.
type Freeze struct {
	_         struct{} `cbor:",toarray"`
	Version   uint16   // ledger.Version
	Direction Direction
	Power     Power            // the strongest of those that joined it
	By        []ledger.Address // who froze, in order of time; none: a motion alone
	Since     int64            // block time, Unix ms
	Until     int64            // block time from which it does not hold any more; 0: it holds until it is lifted
	Reason    string           // a code, such as court-order
	Evidence  *keys.Digest     // of what it rests on; nil: nothing was named
}

// Holds reports whether the freeze is in force at a block time.
func (f *Freeze) Holds(unixMilli int64) bool { return f.Until == 0 || unixMilli < f.Until }

// regulated returns until when the freeze is also a regulator's, whom the committee alone does not undo: for as long as one freezes alone, although a motion
// ratified it. 0: it is none's.
func (f *Freeze) regulated(regulators []ledger.Address) int64 {
	switch {
	case f.Power == ByRegulator:
		return f.Until
	case slices.ContainsFunc(f.By, func(a ledger.Address) bool { return slices.Contains(regulators, a) }):
		return f.Since + MaxFreeze
	}
	return 0
}

// FreezePlace is what a freeze is of, and its key in the table.
type FreezePlace struct {
	_       struct{}       `cbor:",toarray"`
	Address ledger.Address // of an account or a contract
	Layer   AccountStatus  // of an account one of its bits, so that no freeze lifts or lengthens another; else FrozenByAuthority, whoever froze
	Method  string         // of a contract; empty: all of it, or an account
}

// nodeMethod stands in the place of a node where the name of a method stands in that of a contract's.
const nodeMethod = "node"

// NodePlace returns the place of a node's freeze. It has the first 20 bytes of the id as its address, which belong to nobody else
// but by a collision of digests.
func NodePlace(node identity.NodeID) FreezePlace {
	return FreezePlace{Address: ledger.Address(node[:ledger.AddressSize]), Layer: FrozenByAuthority, Method: nodeMethod}
}

// layers are those that an account's freezes may be in, the strongest last.
var layers = [...]AccountStatus{FrozenByInstitution, FrozenByAuthority, FrozenByMotion}

func (p FreezePlace) key() []byte {
	return key(AccessAddress, []byte("f"), p.Address[:], []byte{byte(p.Layer)}, []byte(p.Method))
}

// ListedFreeze is a freeze with its place.
type ListedFreeze struct {
	_     struct{} `cbor:",toarray"`
	Place FreezePlace
	Row   Freeze
	Node  *identity.NodeID // that is frozen; nil: it is no node
}

// ReadFreeze returns the freeze of a place, which may have ended.
func ReadFreeze(r Reader, place FreezePlace) (f Freeze, found bool, err error) {
	return read[Freeze](r, place.key())
}

// held returns the freeze of a place if it is in force at a block time.
func held(r Reader, place FreezePlace, unixMilli int64) (f Freeze, holds bool, err error) {
	f, found, err := ReadFreeze(r, place)
	return f, found && f.Holds(unixMilli), err
}

// AccountFreezes returns the freezes of an account that are in force at a block time, at most one of each layer.
func AccountFreezes(r Reader, address ledger.Address, account *Account, unixMilli int64) (in []ListedFreeze, err error) {
	for _, layer := range layers {
		if account.Status&layer == 0 {
			continue
		}
		place := FreezePlace{Address: address, Layer: layer}
		f, holds, err := held(r, place, unixMilli)
		if err != nil {
			return nil, err
		}
		if holds {
			in = append(in, ListedFreeze{Place: place, Row: f})
		}
	}
	return in, nil
}

// checkFrozen says why a freeze keeps an account from sending at a state and a block time, or returns nil.
func (a *Account) checkFrozen(r Reader, address ledger.Address, unixMilli int64) error {
	freezes, err := AccountFreezes(r, address, a, unixMilli)
	if err != nil {
		return err
	}
	for i := range slices.Backward(freezes) {
		if f := &freezes[i].Row; f.Direction.out() {
			return denied(DeniedFrozen, "the account is frozen %s", f.words())
		}
	}
	return nil
}

// words tell how long and why, and who lifts it.
func (f *Freeze) words() string {
	until := "until it is lifted"
	if f.Until != 0 {
		until = "until " + timeText(f.Until)
	}
	lifts := map[Power]string{
		ByAdmin:      "another admin or a compliance officer of its institution, or a regulator,",
		ByCompliance: "another compliance officer of the institution, or a regulator,",
		ByRegulator:  "another regulator, or a motion with a regulator's consent,",
	}[f.Power]
	switch {
	case lifts != "":
	case len(f.By) > 0:
		lifts = fmt.Sprintf("a motion, until %s with a regulator's consent if one froze it,", timeText(f.Since+MaxFreeze))
	default:
		lifts = "a motion"
	}
	return fmt.Sprintf("%s (%s): %s lifts it", until, f.Reason, lifts)
}

// checkCode says why a freeze of a contract, or of any of its methods, keeps its code from being replaced, or returns nil.
func checkCode(env Env, contract ledger.Address) error {
	now := env.Order().UnixMilli
	return env.Range(FreezePlace{Address: contract, Layer: FrozenByAuthority}.key(), nil, 1+MaxFrozenMethods, func(_, value []byte) error {
		f, err := entryOf[Freeze](nil, value)
		if err == nil && f.Holds(now) {
			err = denied(DeniedFrozen, "the contract, or a method of it, is frozen %s; until then its code stays", f.words())
		}
		return err
	})
}

// CheckContract says why a freeze keeps a contract's method from being called at a state and a block time, or returns nil.
// It need be asked of contracts with ContractFrozen only.
func CheckContract(r Reader, contract ledger.Address, method string, unixMilli int64) error {
	for _, m := range []string{"", method} {
		f, holds, err := held(r, FreezePlace{Address: contract, Layer: FrozenByAuthority, Method: m}, unixMilli)
		switch {
		case err != nil:
			return err
		case !holds:
		case m == "":
			return denied(DeniedFrozen, "the contract is frozen %s", f.words())
		default:
			return denied(DeniedFrozen, "the method %s is frozen %s", m, f.words())
		}
	}
	return nil
}

func freezeTypes() []ledger.TypeDef {
	variants := func(names []string) (all []ledger.Variant) {
		for _, n := range names {
			all = append(all, ledger.Variant{Name: n})
		}
		return all
	}
	return []ledger.TypeDef{
		{Name: "Direction", Variants: variants(directions())},
		{Name: "Power", Variants: variants(powers())},
		{Name: "Place", Fields: []ledger.Field{{Name: "address", Type: "addr"}, {Name: "layer", Type: "u8"}, {Name: "method", Type: "str"}}},
		{Name: "Freeze", Fields: []ledger.Field{
			{Name: "version", Type: "u16"},
			{Name: "direction", Type: "Direction"},
			{Name: "power", Type: "Power"},
			{Name: "by", Type: "list<addr>"},
			{Name: "since", Type: "i64"},
			{Name: "until", Type: "i64"},
			{Name: "reason", Type: "str"},
			{Name: "evidence", Type: "opt<bytes>"},
		}},
		{Name: "Listed", Fields: []ledger.Field{{Name: "place", Type: "Place"}, {Name: "freeze", Type: "Freeze"}, {Name: "node", Type: "opt<bytes>"}}},
		{Name: "Frozen", Fields: []ledger.Field{{Name: "in", Type: "bool"}, {Name: "out", Type: "bool"}}},
	}
}

// FreezeArgs are the arguments of the access method freeze.
type FreezeArgs struct {
	_         struct{} `cbor:",toarray"`
	Account   ledger.Address
	Direction Direction
	Duration  int64        // ms of block time. 0: MaxFreeze, and by an admin or a motion until it is lifted
	Reason    string       // a code of 1 to 32 characters a-z, 0-9 and -
	Evidence  *keys.Digest // nil: none
}

// UnfreezeArgs are the arguments of the access method unfreeze.
type UnfreezeArgs struct {
	_        struct{} `cbor:",toarray"`
	Account  ledger.Address
	Reason   string       // as in FreezeArgs
	Evidence *keys.Digest // nil: none
}

// FreezeContractArgs are the arguments of the access method freeze_contract.
type FreezeContractArgs struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Method   string       // empty: all of the contract
	Duration int64        // as in FreezeArgs
	Reason   string       // as in FreezeArgs
	Evidence *keys.Digest // nil: none
}

// UnfreezeContractArgs are the arguments of the access method unfreeze_contract.
type UnfreezeContractArgs struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Method   string       // empty: what froze all of the contract
	Reason   string       // as in FreezeArgs
	Evidence *keys.Digest // nil: none
}

// FreezeNodeArgs are the arguments of the access method freeze_node.
type FreezeNodeArgs struct {
	_        struct{} `cbor:",toarray"`
	Node     identity.NodeID
	Duration int64        // as in FreezeArgs
	Reason   string       // as in FreezeArgs
	Evidence *keys.Digest // nil: none
}

// UnfreezeNodeArgs are the arguments of the access method unfreeze_node.
type UnfreezeNodeArgs struct {
	_        struct{} `cbor:",toarray"`
	Node     identity.NodeID
	Reason   string       // as in FreezeArgs
	Evidence *keys.Digest // nil: none
}

// RatifyArgs are the arguments of the access method ratify.
type RatifyArgs struct {
	_       struct{}       `cbor:",toarray"`
	Address ledger.Address // of an account or a contract, or as in the place of a node
	Method  string         // of the contract; empty: all of it, or an account
	Until   int64          // block time, Unix ms, from which it does not hold any more; 0: it holds until a motion lifts it
}

// order is a request to freeze.
type freezeOrder struct {
	direction Direction
	power     Power
	duration  int64
	reason    string
	evidence  *keys.Digest
}

func freeze(env Env, a FreezeArgs) error {
	account, layer, power, err := accountFreezer(env, a.Account)
	if err != nil {
		return err
	}
	place := FreezePlace{Address: a.Account, Layer: layer}
	f, err := impose(env, place, freezeOrder{a.Direction, power, a.Duration, a.Reason, a.Evidence})
	if err != nil {
		return err
	}
	account.Status |= layer
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	if err := mark(env, a.Account, true); err != nil {
		return err
	}
	return emit(env, "frozen", a.Account, f)
}

func unfreeze(env Env, a UnfreezeArgs) error {
	account, found, err := ReadAccount(env, a.Account)
	switch {
	case err != nil:
		return err
	case !found:
		return aborted(AbortMissing, []any{a.Account}, "no account %s", a.Account)
	case a.Account == env.Caller():
		return denied(DeniedRole, "nobody lifts a freeze of itself")
	}
	// Of two freezes, who may lift both lifts both, and who may lift one the one.
	freezes, err := AccountFreezes(env, a.Account, &account, env.Order().UnixMilli)
	if err != nil {
		return err
	}
	lifted := false
	var refused error
	for i := range freezes {
		err := mayLift(env, account.Institution, &freezes[i].Row)
		if err == nil {
			err = lift(env, &freezes[i], a.Reason)
		} else if isRefusal(err) {
			refused = err
			continue
		}
		if err != nil {
			return err
		}
		account.Status &^= freezes[i].Place.Layer
		lifted = true
	}
	switch {
	case lifted:
	case refused != nil:
		return refused
	default:
		if err := mayLift(env, account.Institution, &Freeze{}); err != nil {
			return err
		}
		return aborted(AbortUnchanged, nil, "the account is not frozen")
	}
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	if err := mark(env, a.Account, account.Status != Active || account.Leaked()); err != nil {
		return err
	}
	return emit(env, "unfrozen", a.Account, a.Reason, a.Evidence)
}

func freezeContract(env Env, a FreezeContractArgs) error {
	d, institution, err := frozenContract(env, a.Contract)
	if err != nil {
		return err
	}
	power, err := powerOver(env, institution)
	switch {
	case err != nil:
		return err
	case power == ByAdmin:
		return denied(DeniedRole, "only a regulator, a compliance officer or a motion freezes contracts")
	case len(a.Method) > ledger.MaxMethodLength:
		return aborted(AbortArguments, nil, "a method of %d characters, at most %d", len(a.Method), ledger.MaxMethodLength)
	}
	place := FreezePlace{Address: a.Contract, Layer: FrozenByAuthority, Method: a.Method}
	if err := checkMethod(env, &d, place); err != nil {
		return err
	}
	f, err := impose(env, place, freezeOrder{FreezeBoth, power, a.Duration, a.Reason, a.Evidence})
	if err != nil {
		return err
	}
	d.Flags |= ContractFrozen
	if err := write(env, DeploymentStateKey(a.Contract), &d); err != nil {
		return err
	}
	if a.Method == "" {
		if err := mark(env, a.Contract, true); err != nil {
			return err
		}
	}
	return emit(env, "contract_frozen", a.Contract, a.Method, f)
}

// checkMethod refuses methods that a contract does not have, and more of them than there may be.
func checkMethod(env Env, d *Deployment, place FreezePlace) error {
	if place.Method == "" {
		return nil
	}
	schema, err := chargedSchema(env, d.Code)
	if err != nil {
		return err
	}
	if schema != nil && schema.Method(place.Method) == nil {
		return aborted(AbortArguments, nil, "the contract has no method %q", place.Method)
	}
	if _, found, err := ReadFreeze(env, place); err != nil || found {
		return err
	}
	n := 0
	prefix := FreezePlace{Address: place.Address, Layer: place.Layer}.key()
	if err := env.Range(prefix, prefix, MaxFrozenMethods, func(_, _ []byte) error { n++; return nil }); err != nil {
		return err
	}
	if n >= MaxFrozenMethods {
		return aborted(AbortArguments, nil, "%d methods of the contract were frozen one by one, and no more are: freeze the contract", n)
	}
	return nil
}

func unfreezeContract(env Env, a UnfreezeContractArgs) error {
	d, institution, err := frozenContract(env, a.Contract)
	if err != nil {
		return err
	}
	place := FreezePlace{Address: a.Contract, Layer: FrozenByAuthority, Method: a.Method}
	now := env.Order().UnixMilli
	f, frozen, err := held(env, place, now)
	if err != nil {
		return err
	}
	if err := mayLift(env, institution, &f); err != nil {
		return err
	}
	if !frozen {
		return aborted(AbortUnchanged, nil, "it is not frozen")
	}
	if err := lift(env, &ListedFreeze{Place: place, Row: f}, a.Reason); err != nil {
		return err
	}
	if a.Method == "" {
		if err := mark(env, a.Contract, false); err != nil {
			return err
		}
	}
	holds := false
	prefix := FreezePlace{Address: a.Contract, Layer: FrozenByAuthority}.key()
	if err := env.Range(prefix, nil, 1+MaxFrozenMethods, func(_, value []byte) error {
		f, err := entryOf[Freeze](nil, value)
		holds = holds || f.Holds(now)
		return err
	}); err != nil {
		return err
	}
	if !holds {
		d.Flags &^= ContractFrozen
		if err := write(env, DeploymentStateKey(a.Contract), &d); err != nil {
			return err
		}
	}
	return emit(env, "contract_unfrozen", a.Contract, a.Method, a.Reason, a.Evidence)
}

// frozenContract returns the deployment at an address and the institution of its owner.
func frozenContract(env Env, address ledger.Address) (d Deployment, institution string, err error) {
	d, found, err := ReadContract(env, address)
	switch {
	case err != nil:
		return d, "", err
	case IsSystem(address):
		return d, "", aborted(AbortMissing, []any{address}, "%s is a system contract, and those are not frozen: policies say who calls their methods", address)
	case !found:
		return d, "", aborted(AbortMissing, []any{address}, "no contract %s", address)
	}
	owner, _, err := ReadAccount(env, d.Owner)
	return d, owner.Institution, err
}

func freezeNode(env Env, a FreezeNodeArgs) error {
	node, power, err := nodeFreezer(env, a.Node)
	switch {
	case err != nil:
		return err
	case node.Status == NodeDismissed:
		return aborted(AbortUnchanged, nil, "the node is dismissed, so it connects no more")
	}
	if node.Status == NodeMember {
		record, err := readRecord(env)
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(record.Members, func(m ledger.Member) bool { return m.Node == a.Node })
		frozen, err := frozenMembers(env, others, env.Order().UnixMilli)
		if err != nil {
			return err
		}
		if most := ledger.Faulty(len(others) + 1); len(frozen)+1 > most {
			instead := ""
			if len(frozen) > 0 {
				instead = tellFrozen(frozen) + ", with `fondaco member unfreeze`; or "
			}
			return aborted(AbortArguments, nil, "%d of the group's %d members are frozen, and it goes on without %d at most: %shave a motion remove the node (`fondaco member propose --remove`)",
				len(frozen), len(others)+1, most, instead)
		}
	}
	f, err := impose(env, NodePlace(a.Node), freezeOrder{FreezeBoth, power, a.Duration, a.Reason, a.Evidence})
	if err != nil {
		return err
	}
	return emit(env, "node_frozen", a.Node, f)
}

func unfreezeNode(env Env, a UnfreezeNodeArgs) error {
	node, found, err := ReadNode(env, a.Node)
	switch {
	case err != nil:
		return err
	case !found:
		return noNode(a.Node)
	}
	f, frozen, err := held(env, NodePlace(a.Node), env.Order().UnixMilli)
	if err != nil {
		return err
	}
	if err := mayLift(env, node.Institution, &f); err != nil {
		return err
	}
	if !frozen {
		return aborted(AbortUnchanged, nil, "the node is not frozen")
	}
	if err := lift(env, &ListedFreeze{Place: NodePlace(a.Node), Row: f}, a.Reason); err != nil {
		return err
	}
	return emit(env, "node_unfrozen", a.Node, a.Reason, a.Evidence)
}

func noNode(id identity.NodeID) error {
	return aborted(AbortArguments, nil, "the group knows no node %s: `fondaco member list` has them", id)
}

// nodeFreezer returns a node, and by what right the caller freezes it.
func nodeFreezer(env Env, id identity.NodeID) (node Node, power Power, err error) {
	node, found, err := ReadNode(env, id)
	if err != nil {
		return node, 0, err
	}
	power, err = powerOver(env, node.Institution)
	switch {
	case !found && (err == nil || isRefusal(err)):
		return node, 0, noNode(id)
	case err == nil && power == ByAdmin:
		err = denied(DeniedRole, "only a regulator, a compliance officer or a motion freezes nodes")
	}
	return node, power, err
}

// CheckNode says why a freeze keeps a node from connecting at a state and a time in Unix ms, or returns nil.
func CheckNode(r Reader, node identity.NodeID, unixMilli int64) error {
	f, frozen, err := held(r, NodePlace(node), unixMilli)
	if err == nil && frozen {
		err = denied(DeniedFrozen, "the node is frozen %s", f.words())
	}
	return err
}

// FreezesNodes reports whether a block's receipts tell that a node was frozen, or a freeze of one lifted.
func FreezesNodes(receipts []ledger.Receipt) bool {
	for i := range receipts {
		for _, e := range receipts[i].Events {
			if e.Contract == AccessAddress && (e.Topic == "node_frozen" || e.Topic == "node_unfrozen") {
				return true
			}
		}
	}
	return false
}

// frozenMember is a member that is frozen.
type frozenMember struct {
	ledger.Member
	by Freeze
}

// frozenMembers returns those of the members that are frozen at a block time.
func frozenMembers(r Reader, members []ledger.Member, unixMilli int64) (frozen []frozenMember, err error) {
	for _, m := range members {
		f, holds, err := held(r, NodePlace(m.Node), unixMilli)
		if err != nil {
			return nil, err
		}
		if holds {
			frozen = append(frozen, frozenMember{m, f})
		}
	}
	return frozen, nil
}

// tellFrozen says how members are frozen, and who lifts that.
func tellFrozen(frozen []frozenMember) string {
	texts := make([]string, len(frozen))
	for i, m := range frozen {
		texts[i] = fmt.Sprintf("node %s of %s is frozen %s", m.Node, m.Institution, m.by.words())
	}
	return strings.Join(texts, "; ")
}

func ratify(env Env, a RatifyArgs) error {
	now := env.Order().UnixMilli
	switch {
	case !byMotion(env):
		return denied(DeniedMotion, "what was frozen is ratified by a motion: make one with `fondaco freeze ratify`")
	case a.Until != 0 && a.Until <= now:
		return aborted(AbortArguments, nil, "until %d, and block time is %d", a.Until, now)
	}
	place := FreezePlace{Address: a.Address, Layer: FrozenByAuthority, Method: a.Method}
	f, alone, err := held(env, place, now)
	if err != nil {
		return err
	}
	if a.Method == "" {
		account, found, err := ReadAccount(env, a.Address)
		if err != nil {
			return err
		}
		if found {
			return ratifyAccount(env, a, &account, f, alone)
		}
	}
	if err := mayRatify(a, alone, &f); err != nil {
		return err
	}
	f.Power, f.Until = ByMotion, a.Until
	if err := write(env, place.key(), &f); err != nil {
		return err
	}
	return emit(env, "ratified", a.Address, a.Method, &f)
}

// ratifyAccount makes one freeze by motion of what a regulator or a compliance officer froze, if that is in force, and what a motion did.
func ratifyAccount(env Env, a RatifyArgs, account *Account, f Freeze, alone bool) error {
	place := FreezePlace{Address: a.Address, Layer: FrozenByMotion}
	lifted := f
	lifted.Until = env.Order().UnixMilli
	before, lasts, err := held(env, place, lifted.Until)
	switch {
	case err != nil:
		return err
	case lasts && alone:
		// Those of both made it, and it is theirs for as long as the later one's alone would be.
		f.Direction, f.Since, f.By = f.Direction.with(before.Direction), max(f.Since, before.Since), slices.Clone(f.By)
		for _, who := range before.By {
			if !slices.Contains(f.By, who) {
				f.By = append(f.By, who)
			}
		}
	case lasts:
		f = before
	}
	if err := mayRatify(a, alone || lasts, &f); err != nil {
		return err
	}
	if alone {
		if err := write(env, FreezePlace{Address: a.Address, Layer: FrozenByAuthority}.key(), &lifted); err != nil {
			return err
		}
	}
	f.Power, f.Until = ByMotion, a.Until
	if err := write(env, place.key(), &f); err != nil {
		return err
	}
	account.Status = account.Status&^FrozenByAuthority | FrozenByMotion
	if err := write(env, AccountStateKey(a.Address), account); err != nil {
		return err
	}
	return emit(env, "ratified", a.Address, a.Method, &f)
}

func mayRatify(a RatifyArgs, holds bool, f *Freeze) error {
	switch {
	case !holds:
		return aborted(AbortUnchanged, nil, "no regulator or compliance officer has frozen it, or the freeze has ended: a motion may freeze it anew")
	case f.Power == ByMotion && f.Until == a.Until:
		return aborted(AbortUnchanged, nil, "it is frozen by a motion already")
	}
	return nil
}

// accountFreezer returns an account, and by what right and in which layer the caller freezes it.
func accountFreezer(env Env, address ledger.Address) (account Account, layer AccountStatus, power Power, err error) {
	account, found, err := ReadAccount(env, address)
	if err != nil {
		return account, 0, 0, err
	}
	power, err = powerOver(env, account.Institution)
	switch {
	case !found && (err == nil || isRefusal(err)):
		return account, 0, 0, aborted(AbortMissing, []any{address}, "no account %s", address)
	case err != nil:
		return account, 0, 0, err
	case account.Has(identity.Regulator) && power != ByRegulator:
		return account, 0, 0, denied(DeniedRole, "only another regulator freezes a regulator; a motion may ratify that")
	case address == env.Caller():
		return account, 0, 0, denied(DeniedRole, "nobody freezes itself: have another one do it, so that its institution keeps one who acts")
	case power == ByMotion:
		return account, FrozenByMotion, power, nil
	case power != ByAdmin:
		return account, FrozenByAuthority, power, nil
	case account.Has(identity.Committee):
		return account, 0, 0, denied(DeniedRole, "only a regulator, a compliance officer or a motion freezes an account with the role committee")
	}
	return account, FrozenByInstitution, power, nil
}

// powerOver returns by what right the caller freezes what belongs to an institution.
func powerOver(env Env, institution string) (Power, error) {
	if byMotion(env) {
		return ByMotion, nil
	}
	caller, err := callerAccount(env, AccessAddress)
	switch {
	case err != nil:
		return 0, err
	case caller.Has(identity.Regulator):
		return ByRegulator, nil
	case caller.HasAny(string(identity.Compliance), string(identity.InstitutionAdmin)) && caller.Institution != institution:
		return 0, denied(DeniedInstitution, "the caller may freeze what belongs to %s only", caller.Institution)
	case caller.Has(identity.Compliance):
		return ByCompliance, nil
	case caller.Has(identity.InstitutionAdmin):
		return ByAdmin, nil
	}
	return 0, denied(DeniedRole, "only an institution-admin, a compliance officer, a regulator or a motion freezes")
}

// impose begins a freeze, or joins one that holds.
func impose(env Env, place FreezePlace, o freezeOrder) (*Freeze, error) {
	alone := o.power == ByCompliance || o.power == ByRegulator
	switch {
	case !isRole(o.reason):
		return nil, aborted(AbortArguments, nil, "reason %q: want a code of 1 to 32 characters a-z, 0-9 and -", o.reason)
	case int(o.direction) >= len(directions()):
		return nil, aborted(AbortArguments, nil, "direction %d, want 0 both, 1 out or 2 in", o.direction)
	case o.duration < 0 || alone && o.duration > MaxFreeze:
		return nil, aborted(AbortArguments, nil, "a duration of %d ms; alone one freezes for at most %d hours, and a motion ratifies it", o.duration, MaxFreeze/3_600_000)
	case o.duration > maxLasting:
		return nil, aborted(AbortArguments, nil, "a duration of %d ms, at most %d; 0: until it is lifted", o.duration, maxLasting)
	case alone && o.duration == 0:
		o.duration = MaxFreeze
	}
	now := env.Order().UnixMilli
	old, holds, err := held(env, place, now)
	if err != nil {
		return nil, err
	}
	f := &Freeze{Version: ledger.Version, Direction: o.direction, Power: o.power, By: []ledger.Address{}, Since: now, Reason: o.reason, Evidence: o.evidence}
	if o.duration != 0 {
		f.Until = now + o.duration
	}
	if holds {
		// Who joins a freeze does not end or weaken it, and makes it last longer only with a stronger right, or the
		// same ones could go on for ever by turns. A row has one end, so a motion that wants another one for one direction lifts what another motion said.
		f.Direction = old.Direction.with(o.direction)
		switch {
		case (f.Direction == old.Direction || o.power == ByMotion) && o.power <= old.Power:
			return nil, aborted(AbortUnchanged, nil, "it is frozen %s", old.words())
		case o.power <= old.Power:
			f.Power, f.Since, f.Until = old.Power, old.Since, old.Until
		case old.Until == 0 || f.Until != 0 && f.Until < old.Until:
			f.Until = old.Until
		}
		if o.power == ByMotion { // as one that ratifies: what a regulator began is no longer a regulator's because of it
			f.Since = old.Since
		}
		f.By = old.By
	} else if alone {
		if err := rested(env, place, o.power); err != nil {
			return nil, err
		}
	}
	if o.power != ByMotion && !slices.Contains(f.By, env.Caller()) {
		if len(f.By) >= maxFreezers {
			return nil, aborted(AbortArguments, nil, "%d accounts have joined the freeze, and no more do", len(f.By))
		}
		f.By = append(f.By, env.Caller())
	}
	return f, write(env, place.key(), f)
}

// rested refuses that one alone freezes what was frozen by the same right or a stronger one until a short while ago.
func rested(env Env, place FreezePlace, power Power) error {
	now := env.Order().UnixMilli
	for _, place.Layer = range []AccountStatus{FrozenByAuthority, FrozenByMotion} {
		old, found, err := ReadFreeze(env, place)
		if err != nil {
			return err
		}
		if !found || old.Holds(now) || power > old.Power {
			continue
		}
		if rest := old.Until + min(old.Until-old.Since, MaxFreeze); now < rest {
			return denied(DeniedMotion, "it was frozen until %s: until %s only a motion or a stronger authority freezes it again", timeText(old.Until), timeText(rest))
		}
	}
	return nil
}

// maxLasting keeps the end of a freeze within what an int64 of Unix ms holds: a hundred years.
const maxLasting = int64(100 * 365 * 24 * 3_600_000)

// mayLift says why the caller may not lift a freeze of what belongs to an institution, or returns nil. Who froze does not
// unfreeze: another one of the same authority does, or a stronger one, who has had its role for a window of recoveries when the freeze began, or since
// genesis.
func mayLift(env Env, institution string, f *Freeze) error {
	power, err := powerOver(env, institution)
	switch {
	case err != nil:
		return err
	case f.Power == ByMotion && power != ByMotion:
		return denied(DeniedMotion, "it is frozen %s", f.words())
	case power < f.Power:
		return denied(DeniedRole, "it is frozen %s", f.words())
	case power == ByMotion || len(f.By) == 0:
		return nil
	}
	role, instead := identity.InstitutionAdmin, "a regulator, or a motion"
	switch power {
	case ByCompliance:
		role = identity.Compliance
	case ByRegulator:
		role, instead = identity.Regulator, "a motion"
	default:
	}
	return second(env, f.By, role, f.Since, "who froze does not unfreeze", instead)
}

// lift ends a freeze.
func lift(env Env, f *ListedFreeze, reason string) error {
	if !isRole(reason) {
		return aborted(AbortArguments, nil, "reason %q: want a code of 1 to 32 characters a-z, 0-9 and -", reason)
	}
	f.Row.Until = env.Order().UnixMilli
	return write(env, f.Place.key(), &f.Row)
}

// Frozen says which ways an account is frozen.
type Frozen struct {
	_   struct{} `cbor:",toarray"`
	In  bool     // contracts that ask give it nothing
	Out bool     // it sends no transactions, and contracts that ask take nothing from it
}

// markKey returns the state key that says that an account, or a contract as a holder, may be frozen.
func markKey(address ledger.Address) []byte { return key(AccessAddress, []byte("m"), address[:]) }

// marked says of which addresses there may be marks, so that one short row, which is the same for all that ask, tells of most
// that they are not frozen. Bit n, counted from the highest of the first byte, stands for the addresses whose first byte is n.
type marked [32]byte

func markedKey() []byte { return key(AccessAddress, []byte("b")) }

// readMarked decodes by hand, as every transfer of a token asks.
func readMarked(env Env) (m marked, err error) {
	const text, size = 0x58, byte(len(m)) // RFC 8949 §3: a byte string, and the byte of its length
	raw, found, err := env.Get(markedKey())
	switch {
	case err != nil || !found:
		return m, err
	case len(raw) != 2+len(m) || raw[0] != text || raw[1] != size:
		return m, fmt.Errorf("state under %x: %d bytes, want a byte string of %d", markedKey(), len(raw), len(m))
	}
	return marked(raw[2:]), nil
}

func (m *marked) bit(address ledger.Address) (of *byte, mask byte) {
	return &m[address[0]/8], 0x80 >> (address[0] % 8)
}

func (m *marked) has(address ledger.Address) bool {
	of, mask := m.bit(address)
	return *of&mask != 0
}

func mark(env Env, address ledger.Address, on bool) error {
	m, err := readMarked(env)
	if err != nil {
		return err
	}
	had := m
	of, mask := m.bit(address)
	if on {
		*of |= mask
		err = write(env, markKey(address), true)
	} else if err = env.Delete(markKey(address)); err == nil {
		*of &^= mask
		err = env.Range(markKey(address)[:ledger.AddressSize+2], nil, 1, func(_, _ []byte) error { // another one of the same first byte
			*of |= mask
			return nil
		})
	}
	switch {
	case err != nil || m == had:
		return err
	case m == marked{}:
		return env.Delete(markedKey())
	}
	return write(env, markedKey(), m[:])
}

func frozenWays(env Env, account ledger.Address) (Frozen, error) {
	m, err := readMarked(env)
	if err != nil {
		return Frozen{}, err
	}
	return m.frozenWays(env, account)
}

func (m *marked) frozenWays(env Env, account ledger.Address) (f Frozen, err error) {
	if account.IsZero() || !m.has(account) { // nobody: a contract asks about the other one alone
		return f, nil
	}
	if _, marked, err := env.Get(markKey(account)); err != nil || !marked {
		return f, err
	}
	row, _, err := ReadAccount(env, account)
	if err != nil {
		return f, err
	}
	f.Out = row.Leaked() // whom it let spend beforehand may be the thief
	now := env.Order().UnixMilli
	for _, layer := range layers {
		row, holds, err := held(env, FreezePlace{Address: account, Layer: layer}, now)
		if err != nil {
			return f, err
		}
		if holds {
			f.In, f.Out = f.In || row.Direction.in(), f.Out || row.Direction.out()
		}
	}
	return f, nil
}

func frozen(env Env, a AddressArgs) (Frozen, error) { return frozenWays(env, a.Address) }

// MoveArgs are the arguments of the access method stopped.
type MoveArgs struct {
	_    struct{} `cbor:",toarray"`
	From ledger.Address
	To   ledger.Address
}

func stopped(env Env, a MoveArgs) (*ledger.Address, error) {
	m, err := readMarked(env)
	if err != nil {
		return nil, err
	}
	f, err := m.frozenWays(env, a.From)
	if err != nil || f.Out {
		return &a.From, err
	}
	if f, err = m.frozenWays(env, a.To); err != nil || f.In {
		return &a.To, err
	}
	return nil, nil
}

// askStopped is query(stopped). Tokens ask it with each transfer, and to decode the arguments is half of its cost: those of two
// addresses are taken as they stand, and nobody is null.
func askStopped(env Env, args []byte) ([]byte, error) {
	const pair, address, end, null = 0x82, 0x40 | ledger.AddressSize, 2 + ledger.AddressSize, 0xf6 // RFC 8949 §3
	if len(args) != 2*end-1 || args[0] != pair || args[1] != address || args[end] != address {
		return query(stopped)(env, args)
	}
	who, err := stopped(env, MoveArgs{From: ledger.Address(args[2:end]), To: ledger.Address(args[end+1:])})
	switch {
	case err != nil:
		return nil, err
	case who == nil:
		return []byte{null}, nil
	}
	return ledger.Marshal(who)
}

// FreezesArgs are the arguments of the access method freezes.
type FreezesArgs struct {
	_       struct{} `cbor:",toarray"`
	Address *ledger.Address
	After   *FreezePlace
}

func freezes(env Env, a FreezesArgs) ([]ListedFreeze, error) {
	table := key(AccessAddress, []byte("f"))
	prefix := table
	if a.Address != nil {
		prefix = key(AccessAddress, []byte("f"), a.Address[:])
	}
	var after []byte
	if a.After != nil {
		after = a.After.key()
	}
	found := []ListedFreeze{}
	err := env.Range(prefix, after, maxFound, func(k, value []byte) error {
		id := k[len(table):]
		if len(id) <= ledger.AddressSize {
			return fmt.Errorf("state under %x: an id of %d bytes", k, len(id))
		}
		row, err := entryOf[Freeze](nil, value)
		if err != nil {
			return fmt.Errorf("state under %x: %w", k, err)
		}
		place := FreezePlace{Address: ledger.Address(id[:ledger.AddressSize]), Layer: AccountStatus(id[ledger.AddressSize]), Method: string(id[ledger.AddressSize+1:])}
		found = append(found, ListedFreeze{Place: place, Row: row})
		return nil
	})
	for i := range found {
		if f := &found[i]; err == nil && f.Place.Method == nodeMethod {
			f.Node, err = nodeAt(env, f.Place)
		}
	}
	return found, err
}

// nodeAt returns the id of the node whose freeze would be at a place; nil: the group knows no such node.
func nodeAt(env Env, place FreezePlace) (id *identity.NodeID, err error) {
	err = env.Range(append(NodeKeys(), place.Address[:]...), nil, 1, func(k, value []byte) error {
		node, err := DecodeNode(k, value)
		id = &node.Node
		return err
	})
	return id, err
}
