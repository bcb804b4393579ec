package precompiles

import (
	"slices"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

func newAccess() Contract {
	account := ledger.Field{Name: "account", Type: "addr"}
	role := ledger.Field{Name: "role", Type: "str"}
	contract := ledger.Field{Name: "contract", Type: "addr"}
	method := ledger.Field{Name: "method", Type: "str"}
	duration := ledger.Field{Name: "duration", Type: "i64"}
	reason := ledger.Field{Name: "reason", Type: "str"}
	evidence := ledger.Field{Name: "evidence", Type: "opt<bytes>"}
	address := ledger.Field{Name: "address", Type: "addr"}
	node := ledger.Field{Name: "node", Type: "bytes"}
	frozenAs := ledger.Field{Name: "freeze", Type: "Freeze"}
	indexed := []string{"account"}
	return &system{
		address: AccessAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"grant":             command(grantRole),
			"revoke":            command(revokeRole),
			"freeze":            command(freeze),
			"unfreeze":          command(unfreeze),
			"freeze_contract":   command(freezeContract),
			"unfreeze_contract": command(unfreezeContract),
			"freeze_node":       command(freezeNode),
			"unfreeze_node":     command(unfreezeNode),
			"ratify":            command(ratify),
			"roles":             query(rolesOf),
			"frozen":            query(frozen),
			"stopped":           askStopped,
			"freezes":           query(freezes),
		},
		policies: map[string]Policy{
			"grant":    byAny(identity.Committee, identity.InstitutionAdmin),
			"revoke":   byAny(identity.Committee, identity.InstitutionAdmin, identity.Regulator),
			"freeze":   byAny(identity.InstitutionAdmin, identity.Compliance, identity.Regulator),
			"unfreeze": byAny(identity.InstitutionAdmin, identity.Compliance, identity.Regulator),

			"freeze_contract":   byAny(identity.Compliance, identity.Regulator),
			"unfreeze_contract": byAny(identity.Compliance, identity.Regulator),
			"freeze_node":       byAny(identity.Compliance, identity.Regulator),
			"unfreeze_node":     byAny(identity.Compliance, identity.Regulator),
			"ratify":            byMajority(),
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "access", Version: "1", Profile: "strict",
			Doc: "Roles of accounts, and freezing. An institution-admin, and an account with the role committee, give and take roles in their institution. " +
				"A motion alone gives committee, regulator and auditor, and takes committee and auditor; a regulator alone takes that role, from another one of its institution. No account " +
				"gets roles that do not go together. A freeze takes effect at once, in its own block, whatever the way of a call. " +
				"Whoever froze an account with the role committee, it takes part in motions.",
			Types: freezeTypes(),
			Methods: []ledger.Method{
				{
					Name: "grant", Kind: ledger.MethodTx, Args: []ledger.Field{account, role},
					Doc: "An account that goes by certificates gets a role that the group judges by them only if they do for it. A motion is not asked for that.",
				},
				{Name: "revoke", Kind: ledger.MethodTx, Args: []ledger.Field{account, role}},
				{
					Name: "freeze", Kind: ledger.MethodTx, Args: []ledger.Field{account, {Name: "direction", Type: "Direction"}, duration, reason, evidence},
					Doc: "Stops an account from sending (out), from being given to by contracts that ask (in), or both. A regulator freezes every account, a compliance officer those of its institution, " +
						"each for at most 72 hours of block time, which duration 0 means; it lapses unless a motion ratifies it. An institution-admin freezes accounts of its institution " +
						"but itself and those with the role committee, until it is lifted. A motion freezes for as long as it says, beside the others: each way lasts as long as whoever froze it said. Duration is in ms.",
				},
				{
					Name: "unfreeze", Kind: ledger.MethodTx, Args: []ledger.Field{account, reason, evidence},
					Doc: "Lifts what the caller may. Who froze does not: another one of the same authority does, or a stronger one, with other keys, and who if it is no regulator had its role for a window of recoveries when the freeze began, or since genesis; what a motion froze or ratified, a motion. " +
						"A motion takes a regulator's consent to lift what a regulator froze, or to have it end sooner, for as long as one freezes alone.",
				},
				{
					Name: "freeze_contract", Kind: ledger.MethodTx, Args: []ledger.Field{contract, method, duration, reason, evidence},
					Doc: "Stops a contract from being called, or one method of it, by transactions and by contracts. A regulator freezes every contract, a compliance officer those that its institution owns, as accounts. Views from outside go on.",
				},
				{Name: "unfreeze_contract", Kind: ledger.MethodTx, Args: []ledger.Field{contract, method, reason, evidence}, Doc: "Lifts what freeze_contract did, as unfreeze."},
				{
					Name: "freeze_node", Kind: ledger.MethodTx, Args: []ledger.Field{node, duration, reason, evidence},
					Doc: "Has all other nodes of the group refuse connections with a node: it gets no blocks and gives no transactions or votes. A regulator freezes every node, a compliance officer those of " +
						"its institution, as accounts. The group's members stay the same, so no more of them are frozen than it goes on without: f of 3f+1.",
				},
				{Name: "unfreeze_node", Kind: ledger.MethodTx, Args: []ledger.Field{node, reason, evidence}, Doc: "Lifts what freeze_node did, as unfreeze. Of a node of a regulator's institution a motion takes the regulator's consent, as freeze_node and ratify do."},
				{
					Name: "ratify", Kind: ledger.MethodTx, Args: []ledger.Field{address, method, {Name: "until", Type: "i64"}},
					Doc: "Makes what a regulator or a compliance officer froze last until a block time, or with 0 until a motion lifts it. Of an account that a motion froze, too, it makes one freeze of both. Of a node the address is the first 20 bytes of its id, and the method is node. By a motion only.",
				},
				{Name: "roles", Kind: ledger.MethodView, Args: []ledger.Field{account}, Return: "list<str>"},
				{Name: "frozen", Kind: ledger.MethodView, Args: []ledger.Field{account}, Return: "Frozen", Doc: "Says which ways an account is frozen now, or a contract as a holder."},
				{
					Name: "stopped", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "from", Type: "addr"}, {Name: "to", Type: "addr"}}, Return: "opt<addr>",
					Doc: "Returns which of two accounts a freeze keeps from giving, or from being given to; null: neither. Contracts ask it before they move an asset. From nobody, the zero address, it says so of the other alone: what a frozen account sends itself, the chain stops.",
				},
				{
					Name: "freezes", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "address", Type: "opt<addr>"}, {Name: "after", Type: "opt<Place>"}}, Return: "list<Listed>",
					Doc: "Returns at most 64 freezes, ended ones too, of one address or of all, beginning after a place, of nodes with their whole ids.",
				},
			},
			Events: []ledger.EventDef{
				{Topic: "granted", Fields: []ledger.Field{account, role}, Indexed: indexed},
				{Topic: "revoked", Fields: []ledger.Field{account, role}, Indexed: indexed},
				{Topic: "frozen", Fields: []ledger.Field{account, frozenAs}, Indexed: indexed},
				{Topic: "unfrozen", Fields: []ledger.Field{account, reason, evidence}, Indexed: indexed},
				{Topic: "contract_frozen", Fields: []ledger.Field{contract, method, frozenAs}, Indexed: []string{"contract"}},
				{Topic: "contract_unfrozen", Fields: []ledger.Field{contract, method, reason, evidence}, Indexed: []string{"contract"}},
				{Topic: "node_frozen", Fields: []ledger.Field{node, frozenAs}, Indexed: []string{"node"}},
				{Topic: "node_unfrozen", Fields: []ledger.Field{node, reason, evidence}, Indexed: []string{"node"}},
				{Topic: "ratified", Fields: []ledger.Field{address, method, frozenAs}, Indexed: []string{"address"}},
			},
			Errors: abortDefs(AbortArguments, AbortThreshold, AbortRole, AbortMissing, AbortUnchanged),
			State: []ledger.StateDef{
				{Prefix: "b", Value: "bytes", Doc: "32 bytes: bit n, counted from the highest of the first byte, says that there are rows m of addresses whose first byte is n; none: there are no rows m"},
				{Prefix: "f", Key: []ledger.Type{"addr", "u8", "bytes"}, Value: "Freeze", Doc: "address; layer, of an account 1 of its institution, 2 of an authority and 4 of a motion, else 2; method. Of a node the address is the first 20 bytes of its id, and the method is node. Freezes that have ended stay"},
				{Prefix: "h", Key: []ledger.Type{"bytes"}, Value: "u32", Doc: "how many accounts of an institution have the role committee, institution-admin or regulator; the key is the role, / and the institution"},
				{Prefix: "l", Key: []ledger.Type{"bytes"}, Value: "u32", Doc: "how many accounts of an institution with the role committee have no voice, as a key of theirs is reported as leaked; the key is the institution"},
				{Prefix: "m", Key: []ledger.Type{"addr"}, Value: "bool", Doc: "accounts, and contracts as holders, that may be frozen"},
				{Prefix: "s", Key: []ledger.Type{"addr", "str"}, Value: "i64", Doc: "block time, Unix ms, since which an account has the role institution-admin, registrar or compliance; none: since genesis"},
			},
		},
	}
}

// conflict is a pair of roles that no account has together.
type conflict struct {
	role, other identity.Role // other empty: every other role
	reason      string
}

// conflicts are the roles that do not go together (requirement: separation of duties).
var conflicts = []conflict{
	{identity.Regulator, "", "a regulator is nothing else: it watches over all others"},
	{identity.Auditor, "", "an auditor does nothing that is audited"},
	{identity.Operator, identity.User, "who runs nodes sees and orders transactions, and does not trade"},
	{identity.Operator, identity.Owner, "who runs nodes sees and orders transactions, and has no stake in contracts"},
	{identity.Operator, identity.Committee, "who runs nodes does not decide which nodes there are"},
	{identity.Operator, identity.Deployer, "who runs nodes does not decide what code runs on them"},
	{identity.Committee, identity.Deployer, "who votes on contracts does not deploy them"},
	{identity.Committee, identity.Compliance, "who freezes does not vote on whether it lasts"},
	{identity.Compliance, identity.User, "who watches over trades does not trade"},
	{identity.Compliance, identity.InstitutionAdmin, "who watches over an institution's accounts does not run them"},
}

// checkConflicts refuses roles, sorted or not, that do not go together.
func checkConflicts(roles []string) error {
	for _, c := range conflicts {
		if !slices.Contains(roles, string(c.role)) {
			continue
		}
		for _, r := range roles {
			if other := identity.Role(r); other == c.other || c.other == "" && other != c.role {
				return aborted(AbortRole, []any{r}, "the roles %s and %s do not go together: %s", c.role, r, c.reason)
			}
		}
	}
	return nil
}

// counted reports whether the accounts with a role are counted, because an institution keeps one of them.
func counted(role identity.Role) bool {
	return role == identity.Committee || role == identity.InstitutionAdmin || role == identity.Regulator
}

func holdersKey(role, institution string) []byte {
	return key(AccessAddress, []byte("h"), []byte(role), []byte("/"), []byte(institution))
}

// Holders returns how many accounts of an institution have a role: committee, institution-admin or regulator.
func Holders(r Reader, role identity.Role, institution string) (uint32, error) {
	n, _, err := read[uint32](r, holdersKey(string(role), institution))
	return n, err
}

func mutedKey(institution string) []byte { return key(AccessAddress, []byte("l"), []byte(institution)) }

// Voices returns how many accounts speak for an institution in motions: those with the role committee of which no key is reported as leaked.
func Voices(r Reader, institution string) (uint32, error) {
	all, err := Holders(r, identity.Committee, institution)
	if err != nil {
		return 0, err
	}
	muted, _, err := read[uint32](r, mutedKey(institution))
	return all - muted, err
}

// mute notes that an account lost its voice in motions, or has it back. It does nothing of an account without the role committee.
func mute(env Env, account *Account, on bool) error {
	if !account.Has(identity.Committee) {
		return nil
	}
	n, _, err := read[uint32](env, mutedKey(account.Institution))
	if err != nil {
		return err
	}
	if on {
		return write(env, mutedKey(account.Institution), n+1)
	}
	return write(env, mutedKey(account.Institution), n-1)
}

// keepsVoice refuses to take the voice of the last account that speaks for an institution. instead says what to do.
func keepsVoice(r Reader, institution, instead string) error {
	n, err := Voices(r, institution)
	if err == nil && n <= 1 {
		err = aborted(AbortRole, []any{string(identity.Committee)}, "it is the last account that speaks for %s: %s", institution, instead)
	}
	return err
}

// officers reports whether accounts with the role act for accounts of their institution, and check one another when they do: it is noted since
// when an account has it. Regulators check one another, too, and only a motion makes one.
func officers(role identity.Role) bool {
	return role == identity.InstitutionAdmin || role == identity.Registrar || role == identity.Compliance
}

func sinceKey(account ledger.Address, role string) []byte {
	return key(AccessAddress, []byte("s"), account[:], []byte(role))
}

// RoleSince returns the block time, Unix ms, since which an account has a role of officers that it has, institution-admin, registrar or compliance;
// false: it had it when the chain began.
func RoleSince(r Reader, account ledger.Address, role identity.Role) (unixMilli int64, later bool, err error) {
	return read[int64](r, sinceKey(account, string(role)))
}

// senior says why an account has a role for too short a time to ask for a recovery at a block time, or to be the second officer in something that began at it, or
// returns nil. It must have had it for a window of recoveries by then: an admin could else be both, with an account that it registers for it.
func senior(env Env, who ledger.Address, account *Account, role identity.Role, begun int64, instead string) error {
	since, later, err := RoleSince(env, who, role)
	if err != nil || !later {
		return err
	}
	window, err := ReadWindow(env)
	if err != nil || since+window <= begun {
		return err
	}
	return denied(DeniedRole, "%s has the role %s since %s: this takes one who has had it for %s when it begins; one of %s does this who has it since %s, or %s",
		who, role, timeText(since), time.Duration(window)*time.Millisecond, account.Institution, timeText(begun-window), instead)
}

// second says why the caller, who has a role, is no second officer beside those who began something at a block time, or returns nil: it is one of
// them, or has a key of theirs, or has the role for too short a time. For how long they have it is not asked.
func second(env Env, first []ledger.Address, role identity.Role, begun int64, what, instead string) error {
	caller, err := callerAccount(env, AccessAddress)
	if err != nil {
		return err
	}
	another := "another " + string(role)
	if role != identity.Regulator {
		another += " of " + caller.Institution
	}
	for _, f := range first {
		other, _, err := ReadAccount(env, f)
		if err != nil {
			return err
		}
		if f == env.Caller() || slices.ContainsFunc(env.Signers(), func(k ledger.Key) bool { return other.key(k.Algorithm, k.Bytes) != nil }) {
			return denied(DeniedRole, "%s: %s does, with keys of its own, or %s", what, another, instead)
		}
	}
	return senior(env, env.Caller(), &caller, role, begun, instead)
}

// countRole counts an account that got a role, or lost it, and notes since when it has it.
func countRole(env Env, account ledger.Address, role, institution string, gone bool) error {
	if officers(identity.Role(role)) {
		if gone {
			if err := env.Delete(sinceKey(account, role)); err != nil {
				return err
			}
		} else if err := write(env, sinceKey(account, role), env.Order().UnixMilli); err != nil {
			return err
		}
	}
	if !counted(identity.Role(role)) {
		return nil
	}
	n, err := Holders(env, identity.Role(role), institution)
	if err != nil {
		return err
	}
	if !gone {
		return write(env, holdersKey(role, institution), n+1)
	}
	if n <= 1 {
		return aborted(AbortRole, []any{role}, "it is the last account of %s with the role %s: give that to another one first", institution, role)
	}
	return write(env, holdersKey(role, institution), n-1)
}

// byMotionOnly reports whether a motion alone gives and takes the role.
func byMotionOnly(role identity.Role) bool {
	return role == identity.Committee || role == identity.Regulator || role == identity.Auditor
}

// grantable reports whether the holder may give and take a role in an institution.
func grantable(holder *Account, institution, role string) bool {
	if holder.Institution != institution || byMotionOnly(identity.Role(role)) {
		return false
	}
	if role == string(identity.User) && holder.Has(identity.Registrar) {
		return true
	}
	return holder.HasAny(string(identity.Committee), string(identity.InstitutionAdmin))
}

// checkHolder checks the roles of one account: they are well formed, and go together.
func checkHolder(roles []string) error {
	if err := checkRoles(roles); err != nil {
		return err
	}
	return checkConflicts(roles)
}

// checkRoles checks that a list of roles is well formed.
func checkRoles(roles []string) error {
	if len(roles) > MaxRoles {
		return aborted(AbortArguments, nil, "%d roles, at most %d", len(roles), MaxRoles)
	}
	for i, r := range roles {
		if !isRole(r) {
			return aborted(AbortRole, []any{""}, "%q is no role: want 1 to 32 characters of a-z, 0-9 and -", r)
		}
		if i > 0 && roles[i-1] >= r {
			return aborted(AbortRole, []any{r}, "roles are not sorted, or %s is named twice", r)
		}
	}
	return nil
}

func isRole(r string) bool {
	for i := range len(r) {
		if c := r[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return r != "" && len(r) <= 32
}

// RoleArgs are the arguments of the access methods grant and revoke.
type RoleArgs struct {
	_       struct{} `cbor:",toarray"`
	Account ledger.Address
	Role    string
}

func grantRole(env Env, a RoleArgs) error {
	return changeRoles(env, a, "granted", func(roles []string, at int, has bool) ([]string, bool) {
		return slices.Insert(roles, min(at, len(roles)), a.Role), !has
	})
}

func revokeRole(env Env, a RoleArgs) error {
	return changeRoles(env, a, "revoked", func(roles []string, at int, has bool) ([]string, bool) {
		if !has {
			return roles, false
		}
		return slices.Delete(slices.Clone(roles), at, at+1), true
	})
}

func changeRoles(env Env, a RoleArgs, topic string, change func(roles []string, at int, has bool) ([]string, bool)) error {
	account, found, err := ReadAccount(env, a.Account)
	switch {
	case err != nil:
		return err
	case !isRole(a.Role):
		return aborted(AbortRole, []any{""}, "%q is no role: want 1 to 32 characters of a-z, 0-9 and -", a.Role)
	case byMotion(env) && a.Role == string(identity.Regulator) && topic == "revoked":
		return aborted(AbortRole, []any{a.Role}, "no motion takes the role regulator: another regulator of its institution does")
	case !byMotion(env):
		if err := mayChangeRole(env, a, &account, found, topic == "revoked"); err != nil {
			return err
		}
	}
	if !found {
		return aborted(AbortMissing, []any{a.Account}, "no account %s", a.Account)
	}
	at, has := slices.BinarySearch(account.Roles, a.Role)
	roles, changed := change(account.Roles, at, has)
	if !changed {
		return aborted(AbortUnchanged, nil, "the account already has these roles")
	}
	if len(roles) > MaxRoles {
		return aborted(AbortArguments, nil, "%d roles, at most %d", len(roles), MaxRoles)
	}
	if err := checkConflicts(roles); err != nil && !has {
		return err
	}
	if !has && account.Leaked() && (a.Role == string(identity.Committee) || a.Role == string(identity.Regulator)) {
		return aborted(AbortRole, []any{a.Role}, "a key of the account is reported as leaked, so it would have no voice: recover it first, with `fondaco account recover`")
	}
	if !has && (a.Role == string(identity.Committee) || a.Role == string(identity.Regulator)) {
		if err := account.lasts(env.Order().UnixMilli); err != nil {
			return err
		}
	}
	if !has && !byMotion(env) {
		if err := account.mayConfer(env, a.Role); err != nil {
			return err
		}
	}
	silences := has && a.Role == string(identity.Committee)
	if silences && !account.Leaked() {
		if err := keepsVoice(env, account.Institution, "give the role to another one first, or recover one that has it and lost a key"); err != nil {
			return err
		}
	}
	if err := countRole(env, a.Account, a.Role, account.Institution, has); err != nil {
		return err
	}
	if silences && account.Leaked() {
		if err := mute(env, &account, false); err != nil {
			return err
		}
	}
	account.Roles = roles
	if err := seated(env, a.Account, a.Role, !has); err != nil {
		return err
	}
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	return emit(env, topic, a.Account, a.Role)
}

// mayChangeRole checks that the caller may give a role to an account, or take it.
func mayChangeRole(env Env, a RoleArgs, account *Account, found, take bool) error {
	caller, err := callerAccount(env, AccessAddress)
	if err != nil || !found {
		return err
	}
	role, verb := identity.Role(a.Role), "grant"
	if take {
		verb = "revoke"
	}
	switch {
	case role == identity.Regulator && take:
		return mayTakeRegulator(env, a, &caller, account)
	case !caller.HasAny(string(identity.Committee), string(identity.InstitutionAdmin)):
		return denied(DeniedRole, "only an institution-admin or the committee changes roles")
	case byMotionOnly(role):
		return denied(DeniedMotion, "the role %s is given and taken by a motion only: make one with `fondaco motion propose access %s %s %s`", a.Role, verb, a.Account, a.Role)
	case caller.Institution != account.Institution:
		return denied(DeniedInstitution, "the caller may change roles in %s only", caller.Institution)
	case take && role == identity.InstitutionAdmin && a.Account == env.Caller():
		return aborted(AbortRole, []any{a.Role}, "nobody lays the role %s down: have another one take it, so that the institution keeps one", a.Role)
	}
	return nil
}

// mayTakeRegulator checks that the caller may take the role regulator from an account. The committee does not, by a motion or
// otherwise: it cannot be rid of who watches over it.
func mayTakeRegulator(env Env, a RoleArgs, caller, account *Account) error {
	switch {
	case !caller.Has(identity.Regulator):
		return denied(DeniedRole, "only another regulator of its institution takes the role regulator")
	case caller.Institution != account.Institution:
		return denied(DeniedInstitution, "the caller may take the role regulator in %s only", caller.Institution)
	case a.Account == env.Caller():
		return aborted(AbortRole, []any{a.Role}, "nobody lays the role regulator down: have another one take it, so that the institution keeps one")
	}
	return nil
}

func rolesOf(env Env, a AddressArgs) ([]string, error) {
	account, found, err := ReadAccount(env, a.Address)
	if err == nil && !found {
		err = aborted(AbortMissing, []any{a.Address}, "no account %s", a.Address)
	}
	return account.Roles, err
}

// parties returns the account of the caller and the one it wants to change.
func parties(env Env, address ledger.Address) (caller, account Account, err error) {
	if caller, err = callerAccount(env, AccessAddress); err != nil {
		return caller, account, err
	}
	account, found, err := ReadAccount(env, address)
	if err == nil && !found {
		err = aborted(AbortMissing, []any{address}, "no account %s", address)
	}
	return caller, account, err
}
