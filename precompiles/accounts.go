package precompiles

import (
	"bytes"
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on an account.
const (
	MaxAccountKeys   = ledger.MaxSignatures // more could never sign together
	MaxKeyWeight     = 1_000
	MaxRoles         = 16
	MaxRegistrations = 1_000 // accounts in one call
	maxFound         = 64    // addresses that find returns at once
)

// gasPerKey is the price of parsing a public key: about 10 µs.
const gasPerKey ledger.Gas = 40_000

// AccountStatus says which freezes of an account may be in force: one bit for each layer, cleared when that is lifted. Of a
// freeze that lapsed it stays set; see [AccountFreezes].
type AccountStatus uint8

// The bits of the status of an account, which are the layers of freezes.
const (
	Active              AccountStatus = 0
	FrozenByInstitution AccountStatus = 1 // an admin of its institution froze it
	FrozenByAuthority   AccountStatus = 2 // a compliance officer or a regulator did
	FrozenByMotion      AccountStatus = 4 // a motion did, or ratified what one of those had frozen
)

// Account is a row of the account table. It is keyed by an assigned address that says nothing of its keys.
type Account struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16   // ledger.Version
	Institution string
	Status      AccountStatus
	Threshold   uint32   // total weight of keys that must sign
	Roles       []string // sorted, without duplicates
	Keys        []AccountKey
	Certificate *Binding  // by which certificates it goes; nil: by none
	Lifeline    *Lifeline // co-signers, and what is under way for lost keys; nil: nothing
}

// AccountKey is a key bound to an account.
type AccountKey struct {
	_         struct{} `cbor:",toarray"`
	Algorithm keys.Algorithm
	Key       []byte // canonical form
	Weight    uint32 // 1 to MaxKeyWeight
	From      int64  // first block time, Unix ms, at which the key may sign
	Until     int64  // last block time at which it may; 0: no end
}

// Has reports whether the account holds the role.
func (a *Account) Has(r identity.Role) bool {
	_, found := slices.BinarySearch(a.Roles, string(r))
	return found
}

// HasAny reports whether the account holds one of the roles.
func (a *Account) HasAny(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return a.Has(identity.Role(r)) })
}

// MaySend checks that neither a freeze of the account, whose address is self, nor its certificates keep the account from calling a target at a state and a
// block time. The error is an [*Error] with status denied, or the reader's. A freeze keeps no account with the role
// committee or regulator from taking part in motions: what institutions agree on is not for a single account to prevent. Nothing keeps an
// account from what it defends itself with, see [Lifeline].
func (a *Account) MaySend(r Reader, self ledger.Address, to ledger.Target, method string, unixMilli int64) error {
	if a.defends(to, method) {
		return nil
	}
	if a.Status != Active && !a.motions(to) {
		if err := a.checkFrozen(r, self, unixMilli); err != nil {
			return err
		}
	}
	if a.Leaked() {
		return denied(DeniedFrozen, "a key of the account is reported as leaked: its institution recovers it with `fondaco account recover`")
	}
	return a.checkBinding(r, to, unixMilli)
}

// Authorize checks that the account may send a transaction that calls a method of a target and that these keys signed, at a
// state and a block time. Whether its co-signers signed, Cosigned tells once the contract is known. The error is an [*Error] with status
// denied, or the reader's.
func (a *Account) Authorize(r Reader, self ledger.Address, to ledger.Target, method string, signatures []ledger.Signature, unixMilli int64) error {
	if err := a.MaySend(r, self, to, method, unixMilli); err != nil {
		return err
	}
	own := ledger.Target{Address: AccountsAddress} == to
	var weight uint32
	var others []Account
	var err error
	for i := range signatures {
		s := &signatures[i]
		k := a.key(s.Algorithm, s.Key)
		switch {
		case k == nil && own && method == "cosign": // which looks itself at who signed
			continue
		case k == nil:
			if others == nil {
				if others, err = a.cosigning(r, unixMilli); err != nil {
					return err
				}
			}
			if slices.ContainsFunc(others, func(o Account) bool { return o.key(s.Algorithm, s.Key) != nil }) {
				continue
			}
			return denied(DeniedKey, "the %s key %x is not bound to the account", s.Algorithm, s.Key)
		case !k.validAt(unixMilli):
			return denied(DeniedKeyTime, "the %s key %x is not valid at block time %d", s.Algorithm, s.Key, unixMilli)
		case a.Lifeline != nil && a.succeeded(k, signersOf(signatures)):
			continue
		}
		weight += k.Weight
	}
	if weight < a.Threshold && !(weight > 0 && own && method == "report_leak") {
		return denied(DeniedThreshold, "the signers weigh %d, the account wants %d", weight, a.Threshold)
	}
	if a.defends(to, method) {
		return nil
	}
	return a.checkSigned(r, to, signatures)
}

func (a *Account) key(algorithm keys.Algorithm, key []byte) *AccountKey {
	for i := range a.Keys {
		if k := &a.Keys[i]; k.Algorithm == algorithm && bytes.Equal(k.Key, key) {
			return k
		}
	}
	return nil
}

// ReadAccount returns the account at an address.
func ReadAccount(r Reader, address ledger.Address) (account Account, found bool, err error) {
	return read[Account](r, AccountStateKey(address))
}

// AccountStateKey returns the state key of an account.
func AccountStateKey(address ledger.Address) []byte {
	return key(AccountsAddress, []byte("a"), address[:])
}

// bindingKey is the state key that leads from a public key to an account. One key may be bound to several
// accounts: to refuse that would let anybody block a key that is not theirs.
func bindingKey(k AccountKey, address ledger.Address) []byte {
	return key(AccountsAddress, []byte("k"), []byte{byte(k.Algorithm)}, k.Key, address[:])
}

func newAccounts() Contract {
	keyFields := []ledger.Field{
		{Name: "algorithm", Type: "u8"},
		{Name: "key", Type: "bytes"},
		{Name: "weight", Type: "u32"},
		{Name: "from", Type: "i64"},
		{Name: "until", Type: "i64"},
	}
	certificate := ledger.Field{Name: "certificate", Type: "opt<Binding>"}
	account, number := ledger.Field{Name: "account", Type: "addr"}, ledger.Field{Name: "number", Type: "u64"}
	threshold, until := ledger.Field{Name: "threshold", Type: "u32"}, ledger.Field{Name: "until", Type: "i64"}
	reason, evidence := ledger.Field{Name: "reason", Type: "str"}, ledger.Field{Name: "evidence", Type: "bytes"}
	cosigner, classes := ledger.Field{Name: "cosigner", Type: "addr"}, ledger.Field{Name: "classes", Type: "list<Class>"}
	by := ledger.Field{Name: "by", Type: "addr"}
	indexed := []string{"account"}
	return &system{
		address: AccountsAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"register": query(register),
			"bind":     command(bindKeys),
			"unbind":   command(unbindKeys),
			"rotate":   command(rotateKey),
			"certify":  command(certify),

			"cosign":      command(cosign),
			"report_leak": command(reportLeak),
			"clear_leak":  command(clearLeak),
			"recover":     query(recoverAccount),
			"confirm":     command(confirmRecovery),
			"object":      command(objectRecovery),
			"withdraw":    command(withdrawRecovery),
			"settle":      command(settleRecovery),
			"set_window":  command(setWindow),
			"window":      query(func(env Env, _ none) (int64, error) { return ReadWindow(env) }),
			"recoveries":  query(recoveries),

			"get":  query(getAccount),
			"find": query(findAccounts),
		},
		policies: map[string]Policy{
			"register": byAny(identity.InstitutionAdmin, identity.Registrar),
			"bind":     bySelf(),
			"unbind":   bySelf(),
			"rotate":   bySelf(),
			"certify":  byAny(identity.Committee, identity.InstitutionAdmin, identity.Registrar, identity.Regulator),

			"cosign":      bySelf(),
			"report_leak": bySelf(), // by one key of an account that may send nothing else
			"clear_leak":  byAny(identity.InstitutionAdmin),
			"recover":     byAny(identity.InstitutionAdmin, identity.Registrar),
			"confirm":     byAny(identity.InstitutionAdmin),
			"object":      bySelf(),
			"withdraw":    byAny(identity.InstitutionAdmin, identity.Registrar),
			"settle":      bySelf(),
			"set_window":  {Rule: RuleMajority, Regulator: true}, // within it a regulator objects
		},
		own: []string{"register", "bind", "unbind", "rotate", "certify", "confirm", "object"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "accounts", Version: "1", Profile: "strict",
			Doc: "Accounts and the keys bound to them. Key algorithms: 1 ed25519, 2 p256, 3 sm2. An account's status says which freezes it may have, " +
				"1 by its institution, 2 by an authority and 4 by a motion: the contract access has them, and until when each holds.",
			Types: []ledger.TypeDef{
				{Name: "Key", Fields: keyFields},
				{Name: "PublicKey", Fields: keyFields[:2]},
				{Name: "Path", Fields: []ledger.Field{{Name: "leaf", Type: "bytes"}, {Name: "root", Type: "bytes"}}},
				{Name: "Binding", Fields: []ledger.Field{{Name: "paths", Type: "list<Path>"}, {Name: "until", Type: "i64"}, {Name: "key", Type: "opt<PublicKey>"}}},
				{Name: "NewAccount", Fields: []ledger.Field{{Name: "threshold", Type: "u32"}, {Name: "roles", Type: "list<str>"}, {Name: "keys", Type: "list<Key>"}, certificate}},
				{Name: "Class", Fields: []ledger.Field{{Name: "contract", Type: "addr"}, {Name: "method", Type: "str"}}},
				{Name: "Cosigner", Fields: []ledger.Field{account, classes, until}},
				{Name: "Overlap", Fields: []ledger.Field{{Name: "old", Type: "PublicKey"}, {Name: "new", Type: "PublicKey"}}},
				{Name: "Leak", Fields: []ledger.Field{by, {Name: "unix_milli", Type: "i64"}}},
				{Name: "Recovery", Fields: []ledger.Field{
					number, threshold,
					{Name: "keys", Type: "list<Key>"},
					reason, evidence,
					{Name: "asked", Type: "addr"},
					{Name: "began", Type: "i64"},
					{Name: "confirmed", Type: "addr"},
					until,
					{Name: "final", Type: "bool"},
				}},
				{Name: "Lifeline", Fields: []ledger.Field{
					{Name: "cosigners", Type: "list<Cosigner>"},
					{Name: "overlaps", Type: "list<Overlap>"},
					{Name: "leak", Type: "opt<Leak>"},
					{Name: "recoveries", Type: "u64"},
					{Name: "objections", Type: "u32"},
					{Name: "recovery", Type: "opt<Recovery>"},
				}},
				{Name: "Account", Fields: []ledger.Field{
					{Name: "version", Type: "u16"},
					{Name: "institution", Type: "str"},
					{Name: "status", Type: "u8"},
					{Name: "threshold", Type: "u32"},
					{Name: "roles", Type: "list<str>"},
					{Name: "keys", Type: "list<Key>"},
					certificate,
					{Name: "lifeline", Type: "opt<Lifeline>"},
				}},
			},
			Methods: []ledger.Method{
				{
					Name: "register", Kind: ledger.MethodTx, Return: "list<addr>",
					Args: []ledger.Field{{Name: "institution", Type: "str"}, {Name: "accounts", Type: "list<NewAccount>"}},
					Doc:  "Makes up to 1,000 accounts and returns their addresses. The caller is a registrar or institution-admin of the institution.",
				},
				{
					Name: "bind", Kind: ledger.MethodTx,
					Args: []ledger.Field{{Name: "keys", Type: "list<Key>"}, {Name: "threshold", Type: "u32"}},
					Doc:  "Adds keys to the caller's account and sets its threshold. Of an account with the role committee or regulator keys without an end reach it, here and wherever its keys change.",
				},
				{
					Name: "unbind", Kind: ledger.MethodTx,
					Args: []ledger.Field{{Name: "keys", Type: "list<PublicKey>"}, {Name: "threshold", Type: "u32"}},
					Doc:  "Takes keys from the caller's account and sets its threshold.",
				},
				{
					Name: "rotate", Kind: ledger.MethodTx,
					Args: []ledger.Field{{Name: "old", Type: "PublicKey"}, {Name: "new", Type: "Key"}, until},
					Doc: "Replaces a key of the caller's account: at once if until is 0, or else the old key is valid beside the new one until that block time in Unix ms, at most 90 days ahead. " +
						"Where both sign, they count as the new one.",
				},
				{
					Name: "certify", Kind: ledger.MethodTx,
					Args: []ledger.Field{{Name: "account", Type: "addr"}, certificate},
					Doc: "Binds an account to certificates, by their fingerprints and those of their roots, or to none. A registrar binds accounts of its institution that have no role but user, " +
						"an institution-admin all of its institution but those with the role committee or regulator, which bind themselves.",
				},
				{
					Name: "cosign", Kind: ledger.MethodTx, Args: []ledger.Field{account, cosigner, classes, until},
					Doc: "Says of which calls of an account the keys of another account must sign, too, until a block time at most 366 days ahead; of none, and until 0, when there are no classes. The account calls it itself, and the " +
						"co-signer's keys sign as well; or a motion does. In a class a zero contract stands for all, and an empty method for all. An account's objections and reports of a leak, and motions of the committee, need no co-signer.",
				},
				{
					Name: "report_leak", Kind: ledger.MethodTx, Args: []ledger.Field{account},
					Doc: "Stops an account from sending anything but objections until it is recovered, because a key is in wrong hands. The caller is the account itself, of which any one key is enough, or a registrar or institution-admin of its institution; or a motion. " +
						"Accounts with the role committee or regulator report for themselves, if enough institutions are left that speak to decide without one of the committee; or a motion does, but not of the last account that speaks for its institution, or as a regulator. So a thief who holds that one is not silenced at once: " +
						"the committee recovers the account by motion, or reforms the group.",
				},
				{Name: "clear_leak", Kind: ledger.MethodTx, Args: []ledger.Field{account}, Doc: "Withdraws the report of a leak. The caller is an institution-admin of the account's institution who did not report it, and has been one for a window of recoveries when it was, or since genesis; or a motion."},
				{
					Name: "recover", Kind: ledger.MethodTx, Args: []ledger.Field{account, {Name: "keys", Type: "list<Key>"}, threshold, reason, evidence}, Return: "u64",
					Doc: "Asks for new keys for an account whose owner lost his, and returns the number of the recovery. The caller is a registrar or institution-admin of its institution; or a motion, which needs no confirmation. Only a motion may for an account with the role " +
						"committee or regulator, and for one that objected twice. Another request takes its place until it is confirmed.",
				},
				{
					Name: "confirm", Kind: ledger.MethodTx, Args: []ledger.Field{account, number},
					Doc: "Confirms a recovery and begins the window in which the account may object. The caller is an institution-admin of its institution, of another account than asked, and with other keys. Both have had their roles for a window when it is asked for, or since genesis.",
				},
				{
					Name: "object", Kind: ledger.MethodTx, Args: []ledger.Field{number},
					Doc: "Ends a recovery of the caller's account within its window. An account that is frozen may, too. There is no objection to what a motion asks for after two of them, but by an account with the role regulator.",
				},
				{Name: "withdraw", Kind: ledger.MethodTx, Args: []ledger.Field{account, number}, Doc: "Ends a recovery. The caller is a registrar or institution-admin of the account's institution; or a motion, which alone withdraws what a motion asked for."},
				{Name: "settle", Kind: ledger.MethodTx, Args: []ledger.Field{account, number}, Doc: "Puts the keys of a recovery in the place of the account's, after its window. Anybody may. An account that binds itself to certificates then goes by none, until it does so again."},
				{Name: "set_window", Kind: ledger.MethodTx, Args: []ledger.Field{{Name: "window", Type: "i64"}}, Doc: "Sets how long accounts may object to recoveries that are confirmed from now on, in ms: 1,000 to 30 days. A motion does, which takes the consent of a regulator where there is one. A regulator may object for 48 hours at least."},
				{Name: "window", Kind: ledger.MethodView, Return: "i64", Doc: "Returns how long that is: two days, unless a motion set it."},
				{
					Name: "recoveries", Kind: ledger.MethodView, Return: "list<addr>", Args: []ledger.Field{{Name: "after", Type: "opt<addr>"}},
					Doc: "Returns up to 64 accounts with an open recovery, in order of address, beginning after one.",
				},
				{Name: "get", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "address", Type: "addr"}}, Return: "opt<Account>"},
				{
					Name: "find", Kind: ledger.MethodView, Return: "list<addr>",
					Args: []ledger.Field{{Name: "key", Type: "PublicKey"}, {Name: "after", Type: "opt<addr>"}},
					Doc:  "Returns up to 64 accounts that a key is bound to, in order of address, beginning after one.",
				},
			},
			Events: []ledger.EventDef{
				{Topic: "registered", Fields: []ledger.Field{{Name: "institution", Type: "str"}, {Name: "accounts", Type: "list<addr>"}}, Indexed: []string{"institution"}},
				{Topic: "keys_changed", Fields: []ledger.Field{{Name: "account", Type: "addr"}}, Indexed: []string{"account"}},
				{Topic: "certified", Fields: []ledger.Field{{Name: "account", Type: "addr"}, certificate}, Indexed: []string{"account"}},
				{Topic: "cosigners_changed", Fields: []ledger.Field{account, cosigner, classes, until}, Indexed: indexed},
				{Topic: "leak_reported", Fields: []ledger.Field{account, by}, Indexed: indexed},
				{Topic: "leak_cleared", Fields: []ledger.Field{account}, Indexed: indexed},
				{Topic: "recovery_asked", Fields: []ledger.Field{account, number, by, evidence, until}, Indexed: indexed},
				{Topic: "recovery_confirmed", Fields: []ledger.Field{account, number, by, until}, Indexed: indexed},
				{Topic: "recovery_ended", Fields: []ledger.Field{account, number, {Name: "how", Type: "str"}}, Indexed: indexed},
				{Topic: "window_set", Fields: []ledger.Field{{Name: "window", Type: "i64"}}},
			},
			Errors: abortDefs(AbortArguments, AbortKey, AbortThreshold, AbortRole, AbortMissing, AbortInstitution, AbortUnchanged, AbortCertificate, AbortRecovery, AbortCosigner),
			State: []ledger.StateDef{
				{Prefix: "a", Key: []ledger.Type{"addr"}, Value: "Account"},
				{Prefix: "k", Key: []ledger.Type{"u8", "bytes"}, Value: "bool", Doc: "algorithm; key and address of an account that it is bound to"},
				{Prefix: "r", Key: []ledger.Type{"addr"}, Value: "bool", Doc: "account with an open recovery"},
				{Prefix: "w", Value: "i64", Doc: "window of recoveries, ms"},
			},
		},
	}
}

// NewAccount is an account to be registered.
type NewAccount struct {
	_           struct{} `cbor:",toarray"`
	Threshold   uint32
	Roles       []string // sorted, without duplicates
	Keys        []AccountKey
	Certificate *Binding // nil: none
}

// RegisterArgs are the arguments of the accounts method register.
type RegisterArgs struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Accounts    []NewAccount
}

func register(env Env, a RegisterArgs) ([]ledger.Address, error) {
	caller, err := callerAccount(env, AccountsAddress)
	if err != nil {
		return nil, err
	}
	admin := caller.Has(identity.InstitutionAdmin)
	switch {
	case !admin && !caller.Has(identity.Registrar):
		return nil, denied(DeniedRole, "only a registrar or institution-admin registers accounts")
	case caller.Institution != a.Institution:
		return nil, denied(DeniedInstitution, "the caller may register accounts of %s only", caller.Institution)
	case len(a.Accounts) == 0 || len(a.Accounts) > MaxRegistrations:
		return nil, aborted(AbortArguments, nil, "%d accounts, want 1 to %d", len(a.Accounts), MaxRegistrations)
	}
	addresses := make([]ledger.Address, len(a.Accounts))
	for i, n := range a.Accounts {
		if err := checkHolder(n.Roles); err != nil {
			return nil, err
		}
		for _, role := range n.Roles {
			if !grantable(&caller, a.Institution, role) {
				return nil, aborted(AbortRole, []any{role}, "account %d: the caller may not give the role %s", i, role)
			}
		}
		account := Account{Version: ledger.Version, Institution: a.Institution, Threshold: n.Threshold, Roles: n.Roles, Keys: n.Keys, Certificate: n.Certificate}
		if addresses[i], err = env.NewAddress(); err != nil {
			return nil, err
		}
		if err := bindCertificates(env, addresses[i], &account, nil); err != nil {
			return nil, err
		}
		if err := putAccount(env, addresses[i], &account, nil); err != nil {
			return nil, err
		}
	}
	return addresses, emit(env, "registered", a.Institution, addresses)
}

// BindArgs are the arguments of the accounts method bind.
type BindArgs struct {
	_         struct{} `cbor:",toarray"`
	Keys      []AccountKey
	Threshold uint32
}

func bindKeys(env Env, a BindArgs) error {
	return changeKeys(env, func(account *Account) error {
		if len(a.Keys) > MaxAccountKeys {
			return aborted(AbortArguments, nil, "%d keys, at most %d", len(a.Keys), MaxAccountKeys)
		}
		if len(a.Keys) == 0 && a.Threshold == account.Threshold {
			return aborted(AbortArguments, nil, "no key to bind and the same threshold")
		}
		account.Keys = append(account.Keys, a.Keys...)
		account.Threshold = a.Threshold
		return nil
	})
}

// UnbindArgs are the arguments of the accounts method unbind.
type UnbindArgs struct {
	_         struct{} `cbor:",toarray"`
	Keys      []ledger.Key
	Threshold uint32
}

func unbindKeys(env Env, a UnbindArgs) error {
	return changeKeys(env, func(account *Account) error {
		if len(a.Keys) == 0 || len(a.Keys) > MaxAccountKeys {
			return aborted(AbortArguments, nil, "%d keys, want 1 to %d", len(a.Keys), MaxAccountKeys)
		}
		for i, k := range a.Keys {
			n := len(account.Keys)
			account.Keys = slices.DeleteFunc(account.Keys, func(b AccountKey) bool {
				return b.Algorithm == k.Algorithm && bytes.Equal(b.Key, k.Bytes)
			})
			if len(account.Keys) == n {
				return aborted(AbortKey, []any{i}, "the %s key %x is not bound to the account", k.Algorithm, k.Bytes)
			}
		}
		account.Threshold = a.Threshold
		return nil
	})
}

// RotateArgs are the arguments of the accounts method rotate.
type RotateArgs struct {
	_     struct{} `cbor:",toarray"`
	Old   ledger.Key
	New   AccountKey
	Until int64 // last block time, Unix ms, at which the old key may sign beside the new one; 0: it is replaced at once
}

func rotateKey(env Env, a RotateArgs) error {
	return changeKeys(env, func(account *Account) error {
		old := account.key(a.Old.Algorithm, a.Old.Bytes)
		if old == nil {
			return aborted(AbortKey, []any{0}, "the %s key %x is not bound to the account", a.Old.Algorithm, a.Old.Bytes)
		}
		overlaps := func(k *AccountKey) bool {
			return account.Lifeline != nil && slices.ContainsFunc(account.Lifeline.Overlaps, func(o Overlap) bool { return k.is(o.Old) || k.is(o.New) })
		}
		if a.Until == 0 {
			if account.Lifeline != nil {
				for i := range account.Lifeline.Overlaps { // the one that it replaced is still of the same hand
					if o := &account.Lifeline.Overlaps[i]; old.is(o.New) {
						o.New = a.New.public()
					}
				}
			}
			*old = a.New
			return nil
		}
		now := env.Order().UnixMilli
		switch {
		case a.Until <= now || a.Until > now+MaxOverlap.Milliseconds():
			return aborted(AbortArguments, nil, "the old key would be valid until %s, want a time after %s and at most %d days later", timeText(a.Until), timeText(now), int(MaxOverlap.Hours()/24))
		case old.Until != 0 && old.Until < a.Until:
			return aborted(AbortKey, []any{0}, "the old key ends at %s already: a rotation does not prolong it", timeText(old.Until))
		case a.New.From > a.Until:
			return aborted(AbortKey, []any{1}, "the new key begins at %s, after the old one has ended", timeText(a.New.From))
		case overlaps(old):
			return aborted(AbortKey, []any{0}, "the key is in the overlap of an earlier rotation: unbind the older of the two, or wait until it has ended")
		}
		old.Until = a.Until
		l := account.lifeline()
		l.Overlaps = append(l.Overlaps, Overlap{Old: a.Old, New: a.New.public()})
		account.Keys = append(account.Keys, a.New)
		return nil
	})
}

// CertifyArgs are the arguments of the accounts method certify.
type CertifyArgs struct {
	_           struct{} `cbor:",toarray"`
	Account     ledger.Address
	Certificate *Binding // nil: none
}

func certify(env Env, a CertifyArgs) error {
	caller, account, err := parties(env, a.Account)
	if err != nil {
		return err
	}
	if err := mayCertify(&caller, &account, env.Caller() == a.Account); err != nil {
		return err
	}
	before := account.Certificate
	if before.equal(a.Certificate) {
		return aborted(AbortUnchanged, nil, "the account %s goes by that already", a.Account)
	}
	account.Certificate = a.Certificate
	if err := bindCertificates(env, a.Account, &account, before); err != nil {
		return err
	}
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	return emit(env, "certified", a.Account, a.Certificate)
}

// changeKeys applies a change to the keys of the caller's own account.
func changeKeys(env Env, change func(*Account) error) error {
	account, err := callerAccount(env, AccountsAddress)
	if err != nil {
		return err
	}
	if account.recovering() {
		return aborted(AbortRecovery, []any{account.Lifeline.Recovery.Number}, "recovery %d of the account is under way: object to it first, with `fondaco account object`", account.Lifeline.Recovery.Number)
	}
	before := slices.Clone(account.Keys)
	if err := change(&account); err != nil {
		return err
	}
	account.tidy(env.Order().UnixMilli)
	if err := putAccount(env, env.Caller(), &account, before); err != nil {
		return err
	}
	return emit(env, "keys_changed", env.Caller())
}

// putAccount checks and writes an account whose keys were before, none of a new one, and the way back from its keys to it.
func putAccount(env Env, address ledger.Address, account *Account, before []AccountKey) error {
	if err := checkKeys(env, account, before); err != nil {
		return err
	}
	if len(before) == 0 {
		for _, role := range account.Roles {
			if err := countRole(env, address, role, account.Institution, false); err != nil {
				return err
			}
		}
	}
	for _, k := range before {
		if account.key(k.Algorithm, k.Key) == nil {
			if err := env.Delete(bindingKey(k, address)); err != nil {
				return err
			}
		}
	}
	old := Account{Keys: before}
	for _, k := range account.Keys {
		if old.key(k.Algorithm, k.Key) == nil {
			if err := write(env, bindingKey(k, address), true); err != nil {
				return err
			}
		}
	}
	return write(env, AccountStateKey(address), account)
}

// checkKeys checks the keys that are new and that all together can reach the threshold now, and of an account that governs for ever.
func checkKeys(env Env, account *Account, before []AccountKey) error {
	if len(account.Keys) == 0 || len(account.Keys) > MaxAccountKeys {
		return aborted(AbortArguments, nil, "an account of %d keys, want 1 to %d", len(account.Keys), MaxAccountKeys)
	}
	old := Account{Keys: before}
	for i, k := range account.Keys {
		if k.Weight == 0 || k.Weight > MaxKeyWeight || k.From < 0 || k.Until < 0 || k.Until != 0 && k.Until < k.From {
			return aborted(AbortKey, []any{i}, "key %d: weight %d, want 1 to %d; valid from %d until %d", i, k.Weight, MaxKeyWeight, k.From, k.Until)
		}
		first := Account{Keys: account.Keys[:i]}
		if first.key(k.Algorithm, k.Key) != nil {
			return aborted(AbortKey, []any{i}, "key %d is bound twice", i)
		}
		if old.key(k.Algorithm, k.Key) == nil {
			if err := env.Charge(gasPerKey); err != nil {
				return err
			}
			if _, err := env.Suite().ParsePublic(k.Algorithm, k.Key); err != nil {
				return aborted(AbortKey, []any{i}, "key %d: %v", i, err)
			}
		}
	}
	now := env.Order().UnixMilli
	if weight := account.weightAt(now); account.Threshold == 0 || weight < account.Threshold {
		return aborted(AbortThreshold, []any{account.Threshold, weight}, "a threshold of %d, and keys of weight %d that are valid now", account.Threshold, weight)
	}
	if !account.HasAny(string(identity.Committee), string(identity.Regulator)) {
		return nil
	}
	return account.lasts(now)
}

// lasts refuses keys that do not reach the account's threshold at every block time from now on. Who governs is counted on, and an account of
// which the keys ended would say nothing and be counted all the same.
func (a *Account) lasts(now int64) error {
	for _, k := range a.Keys {
		if k.Until == 0 {
			continue
		}
		if weight := a.weightAt(max(now, k.Until+1)); weight < a.Threshold {
			return aborted(AbortThreshold, []any{a.Threshold, weight},
				"keys of weight %d are left after %s, and the threshold is %d: an account with the role committee or regulator has keys without an end that reach it", weight, timeText(k.Until), a.Threshold)
		}
	}
	return nil
}

// weightAt returns what the keys weigh together that are valid at a block time. Of two in the overlap of a rotation the new one counts.
func (a *Account) weightAt(unixMilli int64) (weight uint32) {
	var valid []ledger.Key
	for i := range a.Keys {
		if k := &a.Keys[i]; k.validAt(unixMilli) {
			valid = append(valid, k.public())
		}
	}
	for i := range a.Keys {
		if k := &a.Keys[i]; k.validAt(unixMilli) && !a.succeeded(k, valid) {
			weight += k.Weight
		}
	}
	return weight
}

// AddressArgs are the arguments of methods that take an address.
type AddressArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
}

func getAccount(env Env, a AddressArgs) (*Account, error) {
	account, found, err := ReadAccount(env, a.Address)
	if err != nil || !found {
		return nil, err
	}
	return &account, nil
}

// FindArgs are the arguments of the accounts method find.
type FindArgs struct {
	_     struct{} `cbor:",toarray"`
	Key   ledger.Key
	After *ledger.Address
}

func findAccounts(env Env, a FindArgs) ([]ledger.Address, error) {
	// A key of another length would find the accounts of keys that it is the beginning of.
	if _, err := env.Suite().ParsePublic(a.Key.Algorithm, a.Key.Bytes); err != nil {
		return nil, aborted(AbortKey, []any{0}, "%v", err)
	}
	prefix := bindingKey(AccountKey{Algorithm: a.Key.Algorithm, Key: a.Key.Bytes}, ledger.Address{})
	prefix = prefix[:len(prefix)-ledger.AddressSize]
	return accountsUnder(env, prefix, a.After)
}

// accountsUnder returns at most maxFound accounts of an index whose keys are a prefix and an address, beginning after one.
func accountsUnder(env Env, prefix []byte, after *ledger.Address) ([]ledger.Address, error) {
	var from []byte
	if after != nil {
		from = append(slices.Clip(prefix), after[:]...)
	}
	return page(env, prefix, from, maxFound, func(id, _ []byte) (account ledger.Address, err error) {
		if err := ofSize(id, len(account)); err != nil {
			return account, err
		}
		return ledger.Address(id), nil
	})
}

// callerAccount returns the account of the direct caller, which may call the system contract at an address.
func callerAccount(env Env, to ledger.Address) (Account, error) {
	account, found, err := ReadAccount(env, env.Caller())
	switch {
	case err != nil:
		return account, err
	case !found:
		return account, denied(DeniedAccount, "the caller %s has no account", env.Caller())
	}
	return account, account.MaySend(env, env.Caller(), ledger.Target{Address: to}, "", env.Order().UnixMilli)
}
