package precompiles

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on names.
const (
	MaxNameVersions = 16     // under which a name can be called at a time
	MaxCanaryRules  = 16     // of a canary
	MaxRuleValues   = 64     // of a rule
	CanaryWhole     = 10_000 // what weights are shares of
	maxNames        = 64     // that list returns at once
)

// Name is a row of the table of names, keyed by the name. Versions are contracts of their own, each with its own state.
type Name struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16   // ledger.Version
	Owner    ledger.Address
	Height   ledger.Height // at which it was registered
	Versions []NameVersion // in the order in which they were published, 1 to MaxNameVersions
	Current  string        // version that serves
	Previous string        // version that served before; empty: none, or it was withdrawn
	Canary   *Canary       // nil: Current serves all
	Stopped  *Stopped      // the last canary that its watch ended; nil: none, or the owner has changed what serves since
}

// NameVersion is a contract under a name.
type NameVersion struct {
	_       struct{} `cbor:",toarray"`
	Label   string   // such as "2" or "1.4.0"
	Address ledger.Address
	Height  ledger.Height // at which it was published
	Vetoed  bool          // by a motion: it neither becomes current nor a canary, and only who names it is served by it
}

// TakenName is a row that keeps names apart which people could take for one another, keyed by what they have in common; see
// [LookAlike]. When a name is unregistered, the row stays: who used the name would else call a stranger's contract.
type TakenName struct {
	_       struct{}       `cbor:",toarray"`
	Version uint16         // ledger.Version
	Name    string         // that is, or was, registered
	Former  ledger.Address // who owned it when it was unregistered, and alone may register it again; zero: it is registered
}

// Canary sends a share of a name's calls to another version than the current one, from one block on until another.
//
// The rules come first: the first one that fits decides. Where none does, a digest of sender and name decides, so an account is
// served by the same version every time, and one that a weight sends to the canary is sent there by every greater weight. Who has
// no account is served by the current version. The sender is that of the transaction, whichever contract makes the call.
type Canary struct {
	_      struct{} `cbor:",toarray"`
	Label  string
	Weight uint32 // accounts of CanaryWhole
	Rules  []CanaryRule
	From   ledger.Height // first block
	Until  ledger.Height // last block; 0: no end
	Watch  Watch
	Begun  ledger.Height // at which the contract noted it; what a caller says is not looked at
}

// RuleKind says what of a call a rule looks at.
type RuleKind uint8

// The kinds of rules.
const (
	RuleInstitution RuleKind = 1 // the sender's institution
	RuleRole        RuleKind = 2 // a role of the sender
	RuleAccount     RuleKind = 3 // the sender, as 0x and 40 lower-case hexadecimal digits
	RuleMethod      RuleKind = 4 // the method that is called
)

// CanaryRule decides the version of calls where one of the values fits.
type CanaryRule struct {
	_      struct{} `cbor:",toarray"`
	Kind   RuleKind
	Values []string // sorted, 1 to MaxRuleValues
	Canary bool     // they go to the canary; false: to the current version
}

// Watch ends a canary that fails too often, counted over transactions that were sent to the name and that it served. It looks after each
// block at those since the window began, and takes effect with the next block. Transactions that name the version do not count, nor failures that are the
// sender's: denied, a method that the current version lacks too, and out of gas with less than twice what a transaction to the current version has taken on average
// (NameStats), or while that has served none. Whom the canary serves can make it fail on purpose: then all are
// served by the current version again, as before it. The zero value watches nothing.
type Watch struct {
	_        struct{} `cbor:",toarray"`
	Permille uint32   // failed transactions of 1,000 at which the canary ends; 0: it is not watched
	Least    uint64   // transactions in the window before it may end
	Window   uint64   // blocks, after which counting begins anew
}

// Stopped is a canary that its watch ended.
type Stopped struct {
	_        struct{} `cbor:",toarray"`
	Label    string
	Height   ledger.Height // block after which it ended
	Calls    uint64        // transactions in the window
	Failures uint64        // of those
}

// NameStats is a row that counts the transactions that were sent to a name, keyed by the name. Calls by contracts are not counted,
// nor are transactions that were refused before the name was looked up.
type NameStats struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16   // ledger.Version
	Versions []VersionStats
	Begun    ledger.Height // Canary.Begun of the canary that the rest is of; 0: of none
	Since    ledger.Height // at which its window began
	Calls    uint64        // in the window
	Failures uint64
}

// VersionStats counts what a version of a name served.
type VersionStats struct {
	_        struct{} `cbor:",toarray"`
	Label    string
	Calls    uint64
	Failures uint64 // that ended in another way than ok
	Gas      uint64
}

// NameStateKey returns the state key of a name.
func NameStateKey(name string) []byte { return nameKey(name) }

func nameKey(name string) []byte  { return key(CNSAddress, []byte("n"), []byte(name)) }
func takenKey(name string) []byte { return key(CNSAddress, []byte("k"), []byte(LookAlike(name))) }
func statsKey(name string) []byte { return key(CNSAddress, []byte("s"), []byte(name)) }

// ReadName returns the row of a name.
func ReadName(r Reader, name string) (n Name, found bool, err error) {
	return read[Name](r, nameKey(name))
}

// reserved are the names of system contracts, of those to come too: a name that users have could not become one later, or
// releases would differ in what they accept.
var reserved = []string{
	"access", "accounts", "amop", "audit", "certificates", "cns", "compliance", "config", "contracts", "corrections", "crossgroup", "evidence",
	"governance", "groups", "hotaccount", "kyc", "members", "names", "policies", "recovery", "regulator", "roles", "system",
}

// IsName reports whether a text can be the name of a contract: 1 to ledger.MaxNameLength of a-z and 0-9, with single '-' and '.' between, that
// begin with a letter, and that are neither reserved for system contracts nor what may be meant as an address.
func IsName(name string) bool {
	if !isLabel(name) || name[0] < 'a' || slices.Contains(reserved, name) {
		return false
	}
	_, err := ledger.ParseAddress("0x" + name)
	return err != nil
}

// LookAlike returns what a name has in common with those that people could take for it: it has no - and no ., o for 0, and l for 1.
func LookAlike(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '-', '.':
			return -1
		case '0':
			return 'o'
		case '1':
			return 'l'
		}
		return r
	}, name)
}

// isLabel reports whether a text can be the label of a version.
func isLabel(label string) bool {
	between := true // nothing, '-' or '.' was last
	for i := range len(label) {
		switch c := label[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z':
			between = false
		case (c == '-' || c == '.') && !between:
			between = true
		default:
			return false
		}
	}
	return !between && len(label) <= ledger.MaxNameLength
}

// Sender is for whom a name is resolved.
type Sender struct {
	Address ledger.Address
	Account func() (*Account, error) // reads the account, if a rule asks for it; nil, if there is none
}

// Resolve returns the contract that serves a call of a method by name at a height, and the label of its version. target names a version, or
// leaves it to the name. A refusal is an *Error with status not_found.
func Resolve(r Reader, s keys.Suite, target ledger.Target, from Sender, method string, height ledger.Height) (ledger.Target, error) {
	n, found, err := ReadName(r, target.Name)
	if err != nil {
		return target, err
	}
	if !found {
		return target, &Error{Status: ledger.NotFound, Reason: fmt.Sprintf("no contract has the name %q", target.Name)}
	}
	label := target.Version
	if label == "" {
		if label, err = n.serving(s, target.Name, from, method, height); err != nil {
			return target, err
		}
	}
	v := n.version(label)
	if v == nil {
		return target, &Error{Status: ledger.NotFound, Reason: fmt.Sprintf("the name %q has no version %q", target.Name, label)}
	}
	return ledger.Target{Address: v.Address, Name: target.Name, Version: label}, nil
}

// serving returns the version for a call that names none.
func (n *Name) serving(s keys.Suite, name string, from Sender, method string, height ledger.Height) (string, error) {
	c := n.Canary
	if c == nil || height < c.From || c.Until != 0 && height > c.Until {
		return n.Current, nil
	}
	for i := range c.Rules {
		fits, err := c.Rules[i].fits(from, method)
		if err != nil {
			return "", err
		}
		if fits {
			return n.either(c.Rules[i].Canary), nil
		}
	}
	if from.Address.IsZero() {
		return n.Current, nil
	}
	digest := keys.Hash(s, "canary", from.Address[:], []byte(name))
	return n.either(binary.BigEndian.Uint64(digest[:])%CanaryWhole < uint64(c.Weight)), nil
}

func (n *Name) either(canary bool) string {
	if canary {
		return n.Canary.Label
	}
	return n.Current
}

func (r *CanaryRule) fits(from Sender, method string) (bool, error) {
	has := func(value string) bool { _, found := slices.BinarySearch(r.Values, value); return found }
	if r.Kind == RuleAccount {
		return has(from.Address.String()), nil
	}
	if r.Kind == RuleMethod {
		return has(method), nil
	}
	account, err := from.Account()
	if err != nil || account == nil {
		return false, err
	}
	if r.Kind == RuleInstitution {
		return has(account.Institution), nil
	}
	return slices.ContainsFunc(account.Roles, has), nil
}

func (n *Name) version(label string) *NameVersion {
	for i := range n.Versions {
		if n.Versions[i].Label == label {
			return &n.Versions[i]
		}
	}
	return nil
}

// TallyNames counts the transactions of a block that were sent to names, and ends canaries that failed too often. It returns
// what to write after the block's transactions, which are txs with their receipts, at a state that has their effects. The event that a
// canary was stopped goes into the receipt of the block's last transaction to the name, also of one that failed. acts are the audit records of that, of
// the same transaction, without their numbers: whose act it is, is the chain's, and nobody sent it. offers reports whether a contract has a method
// at that state; an error of it is returned.
func TallyNames(
	r Reader, s keys.Suite, order *ledger.Order, txs []*ledger.SignedTx, receipts []ledger.Receipt, offers func(contract ledger.Address, method string) (bool, error),
) (writes []ledger.Change, acts []AuditRecord, err error) {
	var names []string
	all := map[string][]served{}
	for i := range receipts {
		to := &receipts[i].Served
		if to.Name == "" || to.Address.IsZero() { // refused before it was resolved
			continue
		}
		if all[to.Name] == nil {
			names = append(names, to.Name)
		}
		all[to.Name] = append(all[to.Name], served{&receipts[i], &txs[i].Tx})
	}
	slices.Sort(names)
	for _, name := range names {
		n, found, err := ReadName(r, name)
		if err != nil {
			return nil, nil, err
		}
		if !found { // it was unregistered in the block
			continue
		}
		stats, _, err := read[NameStats](r, statsKey(name))
		if err != nil {
			return nil, nil, err
		}
		ended, err := stats.count(&n, order.Height, all[name], offers)
		if err != nil {
			return nil, nil, err
		}
		raw, err := ledger.Marshal(&stats)
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, ledger.Change{Key: statsKey(name), Value: raw})
		if !ended {
			continue
		}
		before, _, err := r.Get(nameKey(name))
		if err != nil {
			return nil, nil, err
		}
		n.Stopped = &Stopped{Label: n.Canary.Label, Height: order.Height, Calls: stats.Calls, Failures: stats.Failures}
		n.Canary = nil
		if raw, err = ledger.Marshal(&n); err != nil {
			return nil, nil, err
		}
		writes = append(writes, ledger.Change{Key: nameKey(name), Value: raw})
		data, err := ledger.Marshal([]any{name, n.Stopped.Label, n.Stopped.Calls, n.Stopped.Failures})
		if err != nil {
			return nil, nil, err
		}
		last := all[name][len(all[name])-1].Receipt
		last.Events = append(slices.Clip(last.Events), ledger.Event{Contract: CNSAddress, Topic: "stopped", Data: data})
		act := AuditRecord{
			Version: ledger.Version, Height: order.Height, Index: last.Index, Time: order.UnixMilli, Tx: last.Tx, Actor: CNSAddress, Roles: []string{}, Certificates: []keys.Digest{},
			Contract: CNSAddress, Method: "stopped", Object: name, Args: AuditArgs(s, data), Reason: "watch", Approvals: []AuditApproval{},
		}
		act.Before, err = AuditRows(s, []AuditRow{NewAuditRow(s, nameKey(name), before, true)})
		if err != nil {
			return nil, nil, err
		}
		if act.After, err = AuditRows(s, []AuditRow{NewAuditRow(s, nameKey(name), raw, true)}); err != nil {
			return nil, nil, err
		}
		acts = append(acts, act)
	}
	return writes, acts, nil
}

// served is a transaction that a version of a name served.
type served struct {
	*ledger.Receipt
	tx *ledger.Tx
}

// count adds what versions of a name served in a block, and reports whether its canary failed too often.
func (s *NameStats) count(n *Name, height ledger.Height, receipts []served, offers func(ledger.Address, string) (bool, error)) (ended bool, err error) {
	s.Version = ledger.Version
	c, begun := n.Canary, ledger.Height(0)
	if c != nil && height >= c.From && (c.Until == 0 || height <= c.Until) {
		begun = c.Begun
	}
	if s.Begun != begun || begun != 0 && uint64(height-s.Since) >= max(c.Watch.Window, 1) {
		s.Begun, s.Since, s.Calls, s.Failures = begun, height, 0, 0
	}
	for _, receipt := range receipts {
		i, found := s.find(receipt.Served.Version)
		if !found {
			s.Versions = slices.Insert(s.Versions, i, VersionStats{Label: receipt.Served.Version})
		}
		v := &s.Versions[i]
		v.Calls, v.Gas = v.Calls+1, v.Gas+uint64(receipt.Gas)
		if receipt.Status != ledger.OK {
			v.Failures++
		}
	}
	s.Versions = slices.DeleteFunc(s.Versions, func(v VersionStats) bool { return n.version(v.Label) == nil })
	if begun == 0 {
		return false, nil
	}
	for _, receipt := range receipts {
		if receipt.Served.Version != c.Label || receipt.tx.To.Version != "" {
			continue
		}
		own, err := s.own(n, &receipt, offers)
		if err != nil {
			return false, err
		}
		if own {
			continue
		}
		s.Calls++
		if receipt.Status != ledger.OK {
			s.Failures++
		}
	}
	return c.Watch.Permille > 0 && s.Calls >= max(c.Watch.Least, 1) && s.Failures*1000 >= s.Calls*uint64(c.Watch.Permille), nil
}

// find returns where the counts of a version are, or would be.
func (s *NameStats) find(label string) (i int, found bool) {
	return slices.BinarySearchFunc(s.Versions, label, func(v VersionStats, label string) int { return strings.Compare(v.Label, label) })
}

// own reports whether a transaction that a canary served ended as it did for reasons of its sender. The current version is the measure: what that
// does not do either, or takes more than half as much gas for as the transaction had, is no regression.
func (s *NameStats) own(n *Name, of *served, offers func(ledger.Address, string) (bool, error)) (bool, error) {
	switch of.Status {
	case ledger.Denied:
		return true, nil
	case ledger.NotFound:
		has, err := offers(n.version(n.Current).Address, of.tx.Method)
		return !has, err
	case ledger.OutOfGas:
		i, found := s.find(n.Current)
		return !found || uint64(of.tx.GasLimit)/2 < s.Versions[i].Gas/s.Versions[i].Calls, nil
	default:
		return false, nil
	}
}

func newCNS() Contract {
	name := ledger.Field{Name: "name", Type: "str"}
	version := ledger.Field{Name: "version", Type: "str"}
	address := ledger.Field{Name: "address", Type: "addr"}
	owner := ledger.Field{Name: "owner", Type: "addr"}
	indexed := []string{"name"}
	return &system{
		address: CNSAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"register":   command(registerName),
			"publish":    command(publishVersion),
			"withdraw":   command(withdrawVersion),
			"promote":    command(promoteVersion),
			"rollback":   command(rollbackName),
			"canary":     command(beginCanary),
			"transfer":   command(transferName),
			"unregister": command(unregisterName),
			"veto":       command(vetoVersion),
			"allow":      command(allowVersion),
			"resolve":    query(resolveName),
			"get":        query(getName),
			"stats":      query(nameStats),
			"list":       query(listNames),
		},
		policies: map[string]Policy{
			"register":   bySelf(),
			"publish":    bySelf(),
			"withdraw":   bySelf(),
			"promote":    bySelf(),
			"rollback":   bySelf(),
			"canary":     bySelf(),
			"transfer":   bySelf(),
			"unregister": bySelf(),
			"veto":       byMajority(),
			"allow":      byMajority(),
		},
		own: []string{"register"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "cns", Version: "1", Profile: "strict",
			Doc: "Names of contracts. A name has versions, which are contracts of their own; one of them is current, and a canary may serve a share of the calls. " +
				"Its owner changes a name, and only to contracts that the owner owns; a motion ends canaries, rolls back, promotes and transfers, too. Names that differ in no more than -, ., 0 for o or 1 for l exclude one another.",
			Types: []ledger.TypeDef{
				{Name: "Version", Fields: []ledger.Field{{Name: "label", Type: "str"}, address, {Name: "height", Type: "u64"}, {Name: "vetoed", Type: "bool"}}},
				{Name: "Taken", Fields: []ledger.Field{{Name: "version", Type: "u16"}, name, {Name: "former", Type: "addr"}}},
				{Name: "Rule", Fields: []ledger.Field{
					{Name: "kind", Type: "u8"}, {Name: "values", Type: "list<str>"}, {Name: "canary", Type: "bool"},
				}},
				{Name: "Watch", Fields: []ledger.Field{{Name: "permille", Type: "u32"}, {Name: "least", Type: "u64"}, {Name: "window", Type: "u64"}}},
				{Name: "Canary", Fields: []ledger.Field{
					{Name: "label", Type: "str"}, {Name: "weight", Type: "u32"}, {Name: "rules", Type: "list<Rule>"}, {Name: "from", Type: "u64"}, {Name: "until", Type: "u64"}, {Name: "watch", Type: "Watch"}, {Name: "begun", Type: "u64"},
				}},
				{Name: "Stopped", Fields: []ledger.Field{{Name: "label", Type: "str"}, {Name: "height", Type: "u64"}, {Name: "calls", Type: "u64"}, {Name: "failures", Type: "u64"}}},
				{Name: "Name", Fields: []ledger.Field{
					{Name: "version", Type: "u16"},
					owner,
					{Name: "height", Type: "u64"},
					{Name: "versions", Type: "list<Version>"},
					{Name: "current", Type: "str"},
					{Name: "previous", Type: "str"},
					{Name: "canary", Type: "opt<Canary>"},
					{Name: "stopped", Type: "opt<Stopped>"},
				}},
				{Name: "Served", Fields: []ledger.Field{{Name: "label", Type: "str"}, {Name: "calls", Type: "u64"}, {Name: "failures", Type: "u64"}, {Name: "gas", Type: "u64"}}},
				{Name: "Stats", Fields: []ledger.Field{
					{Name: "version", Type: "u16"},
					{Name: "versions", Type: "list<Served>"},
					{Name: "begun", Type: "u64"},
					{Name: "since", Type: "u64"},
					{Name: "calls", Type: "u64"},
					{Name: "failures", Type: "u64"},
				}},
				{Name: "Listed", Fields: []ledger.Field{name, {Name: "row", Type: "Name"}}},
				{Name: "Resolved", Fields: []ledger.Field{address, version}},
			},
			Methods: []ledger.Method{
				{Name: "register", Kind: ledger.MethodTx, Args: []ledger.Field{name, version, address}, Doc: "Gives a contract that the caller owns a name, under a first version, which is current. The caller needs one of the chain's deploy roles and becomes the name's owner."},
				{Name: "publish", Kind: ledger.MethodTx, Args: []ledger.Field{name, version, address}, Doc: "Adds a version, which is called only by who names it until it is promoted or a canary."},
				{Name: "withdraw", Kind: ledger.MethodTx, Args: []ledger.Field{name, version}, Doc: "Takes a version away that neither is current nor a canary."},
				{Name: "promote", Kind: ledger.MethodTx, Args: []ledger.Field{name, version}, Doc: "Makes a version current and ends the canary; with an empty version the canary's."},
				{Name: "rollback", Kind: ledger.MethodTx, Args: []ledger.Field{name}, Doc: "Ends the canary, or if there is none makes the previous version current."},
				{Name: "canary", Kind: ledger.MethodTx, Args: []ledger.Field{name, {Name: "canary", Type: "Canary"}}, Doc: "Sends a share of the calls to a version, in place of a canary that is under way."},
				{Name: "transfer", Kind: ledger.MethodTx, Args: []ledger.Field{name, owner}, Doc: "Makes another account the owner of the name, not of its contracts."},
				{Name: "unregister", Kind: ledger.MethodTx, Args: []ledger.Field{name}, Doc: "Takes a name away. Its owner alone may register it, or one that looks like it, again; after a motion everybody may."},
				{Name: "veto", Kind: ledger.MethodTx, Args: []ledger.Field{name, version}, Doc: "Keeps a version from being promoted or a canary; if it is, the canary ends, and the previous version is current again. By motion only."},
				{Name: "allow", Kind: ledger.MethodTx, Args: []ledger.Field{name, version}, Doc: "Takes a veto back. By motion only."},
				{Name: "resolve", Kind: ledger.MethodView, Args: []ledger.Field{name, version, {Name: "sender", Type: "addr"}, {Name: "method", Type: "str"}}, Return: "Resolved", Doc: "Tells which contract serves a call in the next block; an empty version leaves it to the name."},
				{Name: "get", Kind: ledger.MethodView, Args: []ledger.Field{name}, Return: "opt<Name>"},
				{Name: "stats", Kind: ledger.MethodView, Args: []ledger.Field{name}, Return: "opt<Stats>"},
				{Name: "list", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "str"}}, Return: "list<Listed>", Doc: "Returns names in order, after the one given, at most 64."},
			},
			Events: []ledger.EventDef{
				{Topic: "registered", Fields: []ledger.Field{name, version, address, owner}, Indexed: indexed},
				{Topic: "published", Fields: []ledger.Field{name, version, address}, Indexed: indexed},
				{Topic: "withdrawn", Fields: []ledger.Field{name, version}, Indexed: indexed},
				{Topic: "promoted", Fields: []ledger.Field{name, version}, Indexed: indexed},
				{Topic: "rolled_back", Fields: []ledger.Field{name, version}, Indexed: indexed},
				{Topic: "canary", Fields: []ledger.Field{name, version, {Name: "weight", Type: "u32"}}, Indexed: indexed},
				{Topic: "stopped", Fields: []ledger.Field{name, version, {Name: "calls", Type: "u64"}, {Name: "failures", Type: "u64"}}, Indexed: indexed},
				{Topic: "transferred", Fields: []ledger.Field{name, owner}, Indexed: indexed},
				{Topic: "unregistered", Fields: []ledger.Field{name}, Indexed: indexed},
				{Topic: "vetoed", Fields: []ledger.Field{name, version}, Indexed: indexed},
				{Topic: "allowed", Fields: []ledger.Field{name, version}, Indexed: indexed},
			},
			Errors: abortDefs(AbortArguments, AbortMissing, AbortUnchanged, AbortName),
			State: []ledger.StateDef{
				{Prefix: "k", Key: []ledger.Type{"str"}, Value: "Taken", Doc: "names that are taken, without - and ., with o for 0 and l for 1"},
				{Prefix: "n", Key: []ledger.Type{"str"}, Value: "Name"},
				{Prefix: "s", Key: []ledger.Type{"str"}, Value: "Stats", Doc: "what was sent to names, written after the transactions of each block"},
			},
		},
	}
}

// NameVersionArgs are the arguments of the cns methods register and publish.
type NameVersionArgs struct {
	_       struct{} `cbor:",toarray"`
	Name    string
	Version string
	Address ledger.Address
}

func registerName(env Env, a NameVersionArgs) error {
	if _, err := mayDeploy(env, ""); err != nil {
		return err
	}
	if err := isFree(env, a.Name, a.Version); err != nil {
		return err
	}
	if _, err := owned(env, env.Caller(), a.Address); err != nil {
		return err
	}
	height := env.Order().Height
	n := &Name{
		Version: ledger.Version, Owner: env.Caller(), Height: height, Current: a.Version,
		Versions: []NameVersion{{Label: a.Version, Address: a.Address, Height: height}},
	}
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	if err := write(env, takenKey(a.Name), &TakenName{Version: ledger.Version, Name: a.Name}); err != nil {
		return err
	}
	return emit(env, "registered", a.Name, a.Version, a.Address, n.Owner)
}

// isFree checks that a name and its first version are well formed, and that nobody has the name or one that looks like it.
func isFree(env Env, name, label string) error {
	if !IsName(name) || !isLabel(label) {
		return badName(name, "the name %q or its version %q is malformed: want 1 to %d of a-z, 0-9, - and ., beginning with a letter (a version may begin with a digit), and no system contract's name", name, label, ledger.MaxNameLength)
	}
	if i := slices.IndexFunc(reserved, func(r string) bool { return LookAlike(r) == LookAlike(name) }); i >= 0 {
		return badName(name, "the name %q looks like %q, which is a system contract's", name, reserved[i])
	}
	taken, found, err := read[TakenName](env, takenKey(name))
	switch {
	case err != nil || !found:
		return err
	case !taken.Former.IsZero() && taken.Former == env.Caller():
		return nil
	case !taken.Former.IsZero():
		return badName(name, "the name %q was registered by %s, who alone may take it, or %q, again, unless a motion of cns.unregister lets others", taken.Name, taken.Former, name)
	case taken.Name == name:
		return badName(name, "the name %q is taken", name)
	}
	return badName(name, "the name %q looks like %q, which is taken", name, taken.Name)
}

// mayName checks that the caller could give a contract a name, as the first version of a new one or another of its own.
func mayName(env Env, name, label string) error {
	_, found, err := ReadName(env, name)
	if err != nil {
		return err
	}
	if !found {
		return isFree(env, name, label)
	}
	n, err := ownName(env, name)
	if err != nil {
		return err
	}
	return mayPublish(n, name, label, ledger.Address{})
}

func publishVersion(env Env, a NameVersionArgs) error {
	n, err := ownName(env, a.Name)
	if err != nil {
		return err
	}
	if err := mayPublish(n, a.Name, a.Version, a.Address); err != nil {
		return err
	}
	if _, err := owned(env, n.Owner, a.Address); err != nil {
		return err
	}
	n.Versions = append(n.Versions, NameVersion{Label: a.Version, Address: a.Address, Height: env.Order().Height})
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "published", a.Name, a.Version, a.Address)
}

// mayPublish checks that a name can have another version, of a contract.
func mayPublish(n *Name, name, label string, contract ledger.Address) error {
	switch {
	case !isLabel(label):
		return badName(name, "the version %q is malformed: want 1 to %d of a-z, 0-9, - and .", label, ledger.MaxNameLength)
	case n.version(label) != nil:
		return badName(name, "the name %q has a version %q already", name, label)
	case len(n.Versions) >= MaxNameVersions:
		return badName(name, "the name %q has %d versions: withdraw one", name, len(n.Versions))
	}
	for _, v := range n.Versions {
		if v.Vetoed && v.Address == contract { // under another label it would be promoted
			return vetoed(name, v.Label)
		}
	}
	return nil
}

// VersionArgs are the arguments of the cns methods promote and withdraw.
type VersionArgs struct {
	_       struct{} `cbor:",toarray"`
	Name    string
	Version string
}

func withdrawVersion(env Env, a VersionArgs) error {
	n, err := ownName(env, a.Name)
	if err != nil {
		return err
	}
	switch {
	case n.version(a.Version) == nil:
		return noVersion(a.Name, a.Version)
	case n.Current == a.Version || n.Canary != nil && n.Canary.Label == a.Version:
		return badName(a.Name, "the version %q of %q serves calls: promote another one, or end the canary, first", a.Version, a.Name)
	case n.version(a.Version).Vetoed && !byMotion(env):
		return vetoed(a.Name, a.Version)
	}
	n.Versions = slices.DeleteFunc(n.Versions, func(v NameVersion) bool { return v.Label == a.Version })
	if n.Previous == a.Version {
		n.Previous = ""
	}
	stats, found, err := read[NameStats](env, statsKey(a.Name))
	if err != nil {
		return err
	}
	if found { // another contract may have the label later
		stats.Versions = slices.DeleteFunc(stats.Versions, func(v VersionStats) bool { return v.Label == a.Version })
		if err := write(env, statsKey(a.Name), &stats); err != nil {
			return err
		}
	}
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "withdrawn", a.Name, a.Version)
}

func promoteVersion(env Env, a VersionArgs) error {
	n, err := ownName(env, a.Name)
	if err != nil {
		return err
	}
	label := a.Version
	if label == "" {
		if n.Canary == nil {
			return badName(a.Name, "the name %q has no canary: name the version to promote", a.Name)
		}
		label = n.Canary.Label
	}
	switch {
	case n.version(label) == nil:
		return noVersion(a.Name, label)
	case label == n.Current:
		return aborted(AbortUnchanged, nil, "the version %q of %q is current: roll back to end a canary", label, a.Name)
	case n.version(label).Vetoed:
		return vetoed(a.Name, label)
	}
	n.Previous, n.Current, n.Canary, n.Stopped = n.Current, label, nil, nil
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "promoted", a.Name, label)
}

// NameArgs are the arguments of cns methods that take a name alone.
type NameArgs struct {
	_    struct{} `cbor:",toarray"`
	Name string
}

func rollbackName(env Env, a NameArgs) error {
	n, err := ownName(env, a.Name)
	switch {
	case err != nil:
		return err
	case n.Canary != nil:
		n.Canary = nil
	case n.Stopped != nil: // who sends this may not have seen it
		return aborted(AbortUnchanged, nil, "the watch of the canary %q ended it after block %d: promote a version to change what serves", n.Stopped.Label, n.Stopped.Height)
	case n.Previous == "":
		return aborted(AbortUnchanged, nil, "the name %q has neither a canary nor a previous version", a.Name)
	default:
		n.Previous, n.Current = n.Current, n.Previous
	}
	n.Stopped = nil
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "rolled_back", a.Name, n.Current)
}

// CanaryArgs are the arguments of the cns method canary.
type CanaryArgs struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Canary Canary
}

func beginCanary(env Env, a CanaryArgs) error {
	n, err := ownName(env, a.Name)
	if err != nil {
		return err
	}
	c := &a.Canary
	switch {
	case n.version(c.Label) == nil:
		return noVersion(a.Name, c.Label)
	case c.Label == n.Current:
		return aborted(AbortUnchanged, nil, "the version %q of %q is current", c.Label, a.Name)
	case n.version(c.Label).Vetoed:
		return vetoed(a.Name, c.Label)
	}
	if err := c.check(env.Order().Height); err != nil {
		return err
	}
	c.Begun = env.Order().Height
	n.Canary, n.Stopped = c, nil
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "canary", a.Name, c.Label, c.Weight)
}

// check refuses a canary that makes no sense at a height.
func (c *Canary) check(height ledger.Height) error {
	bad := func(format string, args ...any) error { return aborted(AbortArguments, nil, format, args...) }
	switch {
	case c.Weight > CanaryWhole:
		return bad("a weight of %d, at most %d", c.Weight, CanaryWhole)
	case c.Weight == 0 && !slices.ContainsFunc(c.Rules, func(r CanaryRule) bool { return r.Canary }):
		return bad("a canary without a weight and without a rule that sends it calls")
	case len(c.Rules) > MaxCanaryRules:
		return bad("%d rules, at most %d", len(c.Rules), MaxCanaryRules)
	case c.Until != 0 && c.Until < max(c.From, height):
		return bad("a canary from block %d until block %d, and this is block %d", c.From, c.Until, height)
	case c.Watch.Permille > 1000:
		return bad("a watch at %d failures of 1,000", c.Watch.Permille)
	case c.Watch.Permille > 0 && (c.Watch.Window == 0 || c.Watch.Window > math.MaxInt64):
		return bad("a watch needs a window of 1 to %d blocks", int64(math.MaxInt64))
	}
	for i, r := range c.Rules {
		if r.Kind < RuleInstitution || r.Kind > RuleMethod || len(r.Values) == 0 || len(r.Values) > MaxRuleValues {
			return bad("rule %d has the kind %d and %d values, want a kind of 1 to 4 and 1 to %d values", i+1, r.Kind, len(r.Values), MaxRuleValues)
		}
		for k, v := range r.Values {
			if v == "" || len(v) > MaxInstitutionName || k > 0 && r.Values[k-1] >= v {
				return bad("the values of rule %d are not sorted, or one is named twice, empty, or longer than %d bytes", i+1, MaxInstitutionName)
			}
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return bad("a value of rule %d has control characters", i+1)
			}
			address, err := ledger.ParseAddress(v)
			if r.Kind == RuleAccount && (err != nil || address.String() != v) {
				return bad("the value %q of rule %d is no account: want 0x and 40 lower-case hexadecimal digits", v, i+1)
			}
			if r.Kind == RuleRole && !isRole(v) {
				return bad("the value %q of rule %d is no role", v, i+1)
			}
		}
	}
	return nil
}

// NameOwnerArgs are the arguments of the cns method transfer.
type NameOwnerArgs struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Owner ledger.Address
}

func transferName(env Env, a NameOwnerArgs) error {
	n, err := ownName(env, a.Name)
	if err != nil {
		return err
	}
	if n.Owner == a.Owner {
		return aborted(AbortUnchanged, nil, "the account already owns the name")
	}
	if _, found, err := ReadAccount(env, a.Owner); err != nil {
		return err
	} else if !found {
		return aborted(AbortMissing, []any{a.Owner}, "no account %s", a.Owner)
	}
	n.Owner = a.Owner
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "transferred", a.Name, a.Owner)
}

// ResolveArgs are the arguments of the cns method resolve.
type ResolveArgs struct {
	_       struct{} `cbor:",toarray"`
	Name    string
	Version string
	Sender  ledger.Address
	Method  string
}

// Resolved is which contract serves a name.
type Resolved struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	Version string
}

func resolveName(env Env, a ResolveArgs) (Resolved, error) {
	from := Sender{Address: a.Sender, Account: func() (*Account, error) {
		account, found, err := ReadAccount(env, a.Sender)
		if !found {
			return nil, err
		}
		return &account, err
	}}
	to, err := Resolve(env, env.Suite(), ledger.Target{Name: a.Name, Version: a.Version}, from, a.Method, env.Order().Height+1)
	return Resolved{Address: to.Address, Version: to.Version}, err
}

func getName(env Env, a NameArgs) (*Name, error) {
	n, found, err := ReadName(env, a.Name)
	if err != nil || !found {
		return nil, err
	}
	return &n, nil
}

func nameStats(env Env, a NameArgs) (*NameStats, error) {
	s, found, err := read[NameStats](env, statsKey(a.Name))
	if err != nil || !found {
		return nil, err
	}
	return &s, nil
}

// ListedName is a name with its row.
type ListedName struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Row  Name
}

// AfterArgs are the arguments of the cns method list.
type AfterArgs struct {
	_     struct{} `cbor:",toarray"`
	After string
}

func listNames(env Env, a AfterArgs) ([]ListedName, error) {
	prefix := nameKey("")
	found := []ListedName{}
	err := env.Range(prefix, nameKey(a.After), maxNames, func(k, v []byte) error {
		n := ListedName{Name: string(k[len(prefix):])}
		if err := ledger.Unmarshal(v, &n.Row); err != nil {
			return fmt.Errorf("state under %x: %w", k, err)
		}
		found = append(found, n)
		return nil
	})
	return found, err
}

// ownName returns the row of a name that the caller owns, or of any for a motion. An owner's account must be one that acts: a contract owns no names.
func ownName(env Env, name string) (*Name, error) {
	if !byMotion(env) {
		if _, err := callerAccount(env, CNSAddress); err != nil {
			return nil, err
		}
	}
	n, found, err := ReadName(env, name)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, badName(name, "no contract has the name %q", name)
	case n.Owner != env.Caller() && !byMotion(env):
		return nil, denied(DeniedOwner, "%s does not own the name %q", env.Caller(), name)
	}
	return &n, nil
}

func unregisterName(env Env, a NameArgs) error {
	taken, found, err := read[TakenName](env, takenKey(a.Name))
	if err != nil {
		return err
	}
	if byMotion(env) && found && taken.Name == a.Name && !taken.Former.IsZero() {
		if err := env.Delete(takenKey(a.Name)); err != nil { // it becomes everybody's
			return err
		}
		return emit(env, "unregistered", a.Name)
	}
	n, err := ownName(env, a.Name)
	if err != nil {
		return err
	}
	if n.Canary != nil && !byMotion(env) {
		return badName(a.Name, "the name %q has a canary under way: roll back first", a.Name)
	}
	for _, v := range n.Versions {
		if v.Vetoed && !byMotion(env) { // under a new row nobody would know of it
			return vetoed(a.Name, v.Label)
		}
	}
	if err := env.Delete(nameKey(a.Name)); err != nil {
		return err
	}
	if err := env.Delete(statsKey(a.Name)); err != nil {
		return err
	}
	if byMotion(env) {
		err = env.Delete(takenKey(a.Name))
	} else {
		err = write(env, takenKey(a.Name), &TakenName{Version: ledger.Version, Name: a.Name, Former: n.Owner})
	}
	if err != nil {
		return err
	}
	return emit(env, "unregistered", a.Name)
}

// markVersion is what veto and allow have in common.
func markVersion(env Env, a VersionArgs, veto bool) (*Name, error) {
	if !byMotion(env) {
		return nil, denied(DeniedMotion, "a motion vetoes versions of names, and takes the veto back: `fondaco motion propose` makes one")
	}
	n, err := ownName(env, a.Name)
	if err != nil {
		return nil, err
	}
	v := n.version(a.Version)
	if v == nil {
		return nil, noVersion(a.Name, a.Version)
	}
	if v.Vetoed == veto {
		return nil, aborted(AbortUnchanged, nil, "the veto on the version %q of %q is as it should be", a.Version, a.Name)
	}
	v.Vetoed = veto
	return n, nil
}

func vetoVersion(env Env, a VersionArgs) error {
	n, err := markVersion(env, a, true)
	if err != nil {
		return err
	}
	if n.Previous == a.Version {
		n.Previous = ""
	}
	if n.Canary != nil && n.Canary.Label == a.Version {
		n.Canary = nil
	}
	back := n.Current == a.Version
	if back {
		if n.Previous == "" {
			return badName(a.Name, "the version %q of %q is current, and there is none before it: have the motion promote another, or pause the contract", a.Version, a.Name)
		}
		// A canary beside the version goes on beside the one before, unless it is that one.
		if n.Canary != nil && n.Canary.Label == n.Previous {
			n.Canary = nil
		}
		n.Current, n.Previous, n.Stopped = n.Previous, "", nil
	}
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	if err := emit(env, "vetoed", a.Name, a.Version); err != nil || !back {
		return err
	}
	return emit(env, "rolled_back", a.Name, n.Current)
}

func allowVersion(env Env, a VersionArgs) error {
	n, err := markVersion(env, a, false)
	if err != nil {
		return err
	}
	if err := write(env, nameKey(a.Name), n); err != nil {
		return err
	}
	return emit(env, "allowed", a.Name, a.Version)
}

func vetoed(name, label string) error {
	return denied(DeniedMotion, "a motion vetoed the version %q of %q: a motion of cns.allow takes that back", label, name)
}

func badName(name, format string, args ...any) error {
	if len(name) > ledger.MaxNameLength {
		name = ""
	}
	return aborted(AbortName, []any{name}, format, args...)
}

func noVersion(name, label string) error {
	return badName(name, "the name %q has no version %q", name, label)
}
