package precompiles

import (
	"bytes"
	"slices"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what keeps an account alive.
const (
	MaxCosigners   = 4
	MaxClasses     = 16  // of one co-signer
	MaxClassMethod = 128 // bytes of the name of a method
	// MaxCosigning is how long a requirement lasts at most: it ends by itself, whatever became of the co-signer's keys.
	MaxCosigning = 366 * 24 * time.Hour
	// MaxOverlap is how long a key that was rotated may sign beside the new one at most.
	MaxOverlap = 90 * 24 * time.Hour
	// DefaultWindow is how long the owner may object to a recovery where no motion said otherwise, and a regulator at least: two days, a weekend.
	DefaultWindow = 48 * time.Hour
	// MinWindow is the least that a motion may make of it: for networks that are tried out.
	MinWindow = time.Second
	// MaxWindow is the most.
	MaxWindow = 30 * 24 * time.Hour
	// MaxObjections is how many recoveries an account may object to before those of its institution are at an end, and
	// the committee decides.
	MaxObjections = 2
	// MaxAccountReason bounds the reason of a recovery, in bytes.
	MaxAccountReason = 256
)

// Lifeline is what an account has beside its keys for the day on which they fail it.
//
// # Lost and stolen keys
//
// A registrar or institution-admin of the account's institution asks for new keys (recover), and an institution-admin of
// it with another account and other keys confirms. Both have had their roles for as long as a window when it is asked for, or since genesis, so that
// an admin is not both by an account that it registers for it. From then on a window runs, in which the account may object with the keys
// that it has; after it, anybody may have the new keys put into place (settle). The address and all that
// belongs to it stay. A motion may ask instead of the two officers, and only a motion may for an account with the role
// committee or regulator; it shortens no window.
//
// Who stole a key could spend, and object for ever. Against the first there is report_leak, for which any one key
// of the account is enough, and which a registrar may send as well: from then on the account sends nothing but
// objections, until a recovery is settled. Against the second, an account may object to [MaxObjections]
// recoveries; then its institution's officers cannot ask again, the committee decides by motion whose account it is, and to that
// there is no objection. The window runs all the same: the committee may withdraw. An account with the role regulator may always object, so
// that no committee takes it over.
//
// An objection needs the account's keys and nothing else: neither a freeze, nor the end of a certificate, nor a co-signer
// keeps it from being heard, or an institution could silence an account and then take it.
type Lifeline struct {
	_          struct{}   `cbor:",toarray"`
	Cosigners  []Cosigner // in order of their addresses
	Overlaps   []Overlap
	Leak       *Leak     // that keeps the account from sending; nil: none
	Recoveries uint64    // that were asked for so far; the number of the last
	Objections uint32    // to recoveries, since the last that was settled
	Recovery   *Recovery // that is open; nil: none
}

// Cosigner is another account whose keys must sign, too, what an account does of some classes. It never suffices alone: the
// account's own keys must reach its threshold all the same.
type Cosigner struct {
	_       struct{} `cbor:",toarray"`
	Account ledger.Address
	Classes []Class
	Until   int64 // last block time, Unix ms, at which it must
}

// Class is a class of the transactions of an account. A name as target is followed to the contract that serves it; as a later
// version is another contract, a class of all contracts and one method covers them better than one of a contract.
type Class struct {
	_        struct{}       `cbor:",toarray"`
	Contract ledger.Address // zero: every contract
	Method   string         // empty: every method
}

// Overlap is a key that was rotated and is valid until its end, beside the one that replaced it. Where both sign, they count as the new one alone:
// they are of one hand.
type Overlap struct {
	_        struct{} `cbor:",toarray"`
	Old, New ledger.Key
}

// Leak is the report that a key of an account is in wrong hands.
type Leak struct {
	_         struct{} `cbor:",toarray"`
	By        ledger.Address
	UnixMilli int64
}

// Recovery is new keys for an account whose owner lost his.
type Recovery struct {
	_         struct{} `cbor:",toarray"`
	Number    uint64   // counted by account, from 1
	Threshold uint32
	Keys      []AccountKey
	Reason    string         // up to MaxAccountReason bytes, for people
	Evidence  keys.Digest    // of what shows that the owner asked for it
	Asked     ledger.Address // by whom; GovernanceAddress: by motion
	Began     int64          // block time, Unix ms, at which it was asked for
	Confirmed ledger.Address // by whom; zero: by nobody yet
	Until     int64          // last block time, Unix ms, at which the account may object; 0 until it is confirmed
	Final     bool           // the account may not object any more
}

// lifeline returns the account's, which is made when there is none.
func (a *Account) lifeline() *Lifeline {
	if a.Lifeline == nil {
		a.Lifeline = &Lifeline{}
	}
	return a.Lifeline
}

// Leaked reports whether a report that a key leaked keeps the account from sending.
func (a *Account) Leaked() bool { return a.Lifeline != nil && a.Lifeline.Leak != nil }

// recovering reports whether a window runs in which the account may object, or has run off.
func (a *Account) recovering() bool {
	return a.Lifeline != nil && a.Lifeline.Recovery != nil && a.Lifeline.Recovery.Until != 0
}

// defends reports whether a call is by what an account defends itself with, which nothing keeps it from.
func (a *Account) defends(to ledger.Target, method string) bool {
	return to == ledger.Target{Address: AccountsAddress} && (method == "object" && a.recovering() || method == "report_leak" && !a.Leaked())
}

// motions reports whether calls of a contract are what an account with the role committee or regulator takes part in motions with.
func (a *Account) motions(to ledger.Target) bool {
	return a.HasAny(string(identity.Committee), string(identity.Regulator)) && to == ledger.Target{Address: GovernanceAddress}
}

// succeeded reports whether the key that replaced k, and is valid beside it, is among those that signed.
func (a *Account) succeeded(k *AccountKey, signers []ledger.Key) bool {
	if a.Lifeline == nil {
		return false
	}
	return slices.ContainsFunc(a.Lifeline.Overlaps, func(o Overlap) bool {
		return k.is(o.Old) && slices.ContainsFunc(signers, func(s ledger.Key) bool { return s.Algorithm == o.New.Algorithm && bytes.Equal(s.Bytes, o.New.Bytes) })
	})
}

// signersOf returns the keys of signatures.
func signersOf(signatures []ledger.Signature) []ledger.Key {
	signers := make([]ledger.Key, len(signatures))
	for i, s := range signatures {
		signers[i] = ledger.Key{Algorithm: s.Algorithm, Bytes: s.Key}
	}
	return signers
}

func (k *AccountKey) is(o ledger.Key) bool {
	return k.Algorithm == o.Algorithm && bytes.Equal(k.Key, o.Bytes)
}

func (k *AccountKey) public() ledger.Key { return ledger.Key{Algorithm: k.Algorithm, Bytes: k.Key} }

// validAt reports whether the key may sign at a block time.
func (k *AccountKey) validAt(unixMilli int64) bool {
	return unixMilli >= k.From && (k.Until == 0 || unixMilli <= k.Until)
}

// tidy drops keys that have ended, and overlaps of which a key is gone.
func (a *Account) tidy(now int64) {
	a.Keys = slices.DeleteFunc(a.Keys, func(k AccountKey) bool { return k.Until != 0 && k.Until < now })
	if a.Lifeline != nil {
		a.Lifeline.Overlaps = slices.DeleteFunc(a.Lifeline.Overlaps, func(o Overlap) bool {
			return a.key(o.Old.Algorithm, o.Old.Bytes) == nil || a.key(o.New.Algorithm, o.New.Bytes) == nil
		})
	}
}

// Co-signing

func (c *Class) covers(to ledger.Address, method string) bool {
	return (c.Contract.IsZero() || c.Contract == to) && (c.Method == "" || c.Method == method)
}

// cosigning returns the accounts that must sign beside this one at a block time, and are there.
func (a *Account) cosigning(r Reader, unixMilli int64) ([]Account, error) {
	if a.Lifeline == nil {
		return nil, nil
	}
	var all []Account
	for _, c := range a.Lifeline.Cosigners {
		if unixMilli > c.Until {
			continue
		}
		account, found, err := ReadAccount(r, c.Account)
		if err != nil {
			return nil, err
		}
		if found {
			all = append(all, account)
		}
	}
	return all, nil
}

// Cosigned checks that those whom the account needs for a call of the contract at an address have signed it. The error is an [*Error] with
// status denied, or the reader's.
func (a *Account) Cosigned(r Reader, to ledger.Address, method string, signatures []ledger.Signature, unixMilli int64) error {
	if a.Lifeline == nil || len(a.Lifeline.Cosigners) == 0 || a.motions(ledger.Target{Address: to}) || a.defends(ledger.Target{Address: to}, method) {
		return nil
	}
	for i := range a.Lifeline.Cosigners {
		c := &a.Lifeline.Cosigners[i]
		if unixMilli > c.Until || !slices.ContainsFunc(c.Classes, func(k Class) bool { return k.covers(to, method) }) {
			continue
		}
		other, found, err := ReadAccount(r, c.Account)
		if err != nil {
			return err
		}
		frozen := other.checkFrozen(r, c.Account, unixMilli)
		if frozen != nil && !isRefusal(frozen) {
			return frozen
		}
		if !found || frozen != nil || !other.signedBeside(a, signersOf(signatures), unixMilli) {
			return denied(DeniedCosigner, "until %s the keys of account %s must sign %s of %s, too: have it add its signature with `fondaco tx sign`", timeText(c.Until), c.Account, method, to)
		}
	}
	return nil
}

// signedBeside reports whether keys that signed reach the threshold of a co-signer, none of which is reported as leaked. Keys that are bound to the account that sends as
// well count for that one alone.
func (a *Account) signedBeside(sender *Account, signers []ledger.Key, unixMilli int64) bool {
	if a.Leaked() {
		return false
	}
	var weight uint32
	for _, s := range signers {
		k := a.key(s.Algorithm, s.Bytes)
		if k != nil && sender.key(s.Algorithm, s.Bytes) == nil && k.validAt(unixMilli) && !a.succeeded(k, signers) {
			weight += k.Weight
		}
	}
	return weight >= a.Threshold
}

// fewest returns how few keys reach the account's threshold.
func (a *Account) fewest() int {
	weights := make([]uint32, len(a.Keys))
	for i, k := range a.Keys {
		weights[i] = k.Weight
	}
	slices.Sort(weights)
	slices.Reverse(weights)
	var sum uint32
	for i, w := range weights {
		if sum += w; sum >= a.Threshold {
			return i + 1
		}
	}
	return len(weights)
}

// CosignArgs are the arguments of the accounts method cosign.
type CosignArgs struct {
	_        struct{} `cbor:",toarray"`
	Account  ledger.Address
	Cosigner ledger.Address
	Classes  []Class // none: it need not sign any more
	Until    int64   // last block time, Unix ms, at which it must; 0 without classes
}

func cosign(env Env, a CosignArgs) error {
	account, err := existing(env, a.Account)
	if err != nil {
		return err
	}
	other, err := existing(env, a.Cosigner)
	if err != nil {
		return err
	}
	now := env.Order().UnixMilli
	if !byMotion(env) {
		if _, err := callerAccount(env, AccountsAddress); err != nil {
			return err
		}
		if err := other.checkFrozen(env, a.Cosigner, now); err != nil {
			return err
		}
		switch {
		case env.Caller() != a.Account:
			return denied(DeniedRole, "an account says itself who must co-sign, with the co-signer's signature, or a motion does: `fondaco motion propose`")
		case !other.signedBeside(&account, env.Signers(), now):
			return denied(DeniedCosigner, "the keys of the co-signer %s must sign this, too: have it add its signature with `fondaco tx sign`", a.Cosigner)
		}
	}
	l := account.lifeline()
	at, has := slices.BinarySearchFunc(l.Cosigners, a.Cosigner, func(c Cosigner, address ledger.Address) int { return bytes.Compare(c.Account[:], address[:]) })
	switch {
	case a.Account == a.Cosigner:
		return aborted(AbortCosigner, []any{a.Cosigner}, "an account does not co-sign for itself")
	case len(a.Classes) == 0 && a.Until != 0:
		return aborted(AbortArguments, nil, "no class of transactions, and an end")
	case len(a.Classes) == 0 && !has:
		return aborted(AbortUnchanged, nil, "the account %s does not co-sign", a.Cosigner)
	case len(a.Classes) == 0:
		l.Cosigners = slices.Delete(l.Cosigners, at, at+1)
	default:
		c := Cosigner{Account: a.Cosigner, Classes: a.Classes, Until: a.Until}
		if err := checkCosigner(&c, now); err != nil {
			return err
		}
		if has {
			l.Cosigners[at] = c
		} else {
			l.Cosigners = slices.DeleteFunc(slices.Insert(l.Cosigners, at, c), func(c Cosigner) bool { return c.Until < now })
		}
		if len(l.Cosigners) > MaxCosigners {
			return aborted(AbortArguments, nil, "%d co-signers, at most %d", len(l.Cosigners), MaxCosigners)
		}
		others, err := account.cosigning(env, now)
		if err != nil {
			return err
		}
		need := account.fewest()
		for i := range others {
			need += others[i].fewest()
		}
		if need > ledger.MaxSignatures {
			return aborted(AbortCosigner, []any{a.Cosigner}, "the account and its co-signers would need %d signatures together, and a transaction has at most %d", need, ledger.MaxSignatures)
		}
	}
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	return emit(env, "cosigners_changed", a.Account, a.Cosigner, a.Classes, a.Until)
}

func checkCosigner(c *Cosigner, now int64) error {
	switch {
	case len(c.Classes) > MaxClasses:
		return aborted(AbortArguments, nil, "%d classes of transactions, at most %d", len(c.Classes), MaxClasses)
	case c.Until <= now || c.Until > now+MaxCosigning.Milliseconds():
		return aborted(AbortArguments, nil, "co-signing ends at %s, want a time after %s and at most %d days later", timeText(c.Until), timeText(now), int(MaxCosigning.Hours()/24))
	}
	for i, k := range c.Classes {
		if len(k.Method) > MaxClassMethod {
			return aborted(AbortArguments, nil, "class %d: a method of %d bytes, at most %d", i, len(k.Method), MaxClassMethod)
		}
	}
	return nil
}

// Leaks

func reportLeak(env Env, a AddressArgs) error {
	account, err := existing(env, a.Address)
	if err != nil {
		return err
	}
	if !byMotion(env) && env.Caller() != a.Address {
		if err := officer(env, &account, false); err != nil {
			return err
		}
		if err := fullySigned(env); err != nil {
			return err
		}
	}
	if account.Leaked() {
		return aborted(AbortUnchanged, nil, "a leak is reported already")
	}
	if byMotion(env) {
		if err := mayMute(env, a.Address, &account); err != nil {
			return err
		}
	}
	if err := mute(env, &account, true); err != nil {
		return err
	}
	if account.Has(identity.Committee) { // one key of it is enough for the report
		if err := stillGoverned(env); isRefusal(err) {
			return aborted(AbortRole, []any{string(identity.Committee)}, "others are silent already, and without this account too few would be left to decide: have a motion recover it, with `fondaco motion propose` (%v)", err)
		} else if err != nil {
			return err
		}
	}
	account.lifeline().Leak = &Leak{By: env.Caller(), UnixMilli: env.Order().UnixMilli}
	if err := mark(env, a.Address, true); err != nil {
		return err
	}
	if err := write(env, AccountStateKey(a.Address), &account); err != nil {
		return err
	}
	return emit(env, "leak_reported", a.Address, env.Caller())
}

// mayMute refuses a motion that takes its voice from the last account that speaks for an institution, or as a regulator.
func mayMute(r Reader, address ledger.Address, account *Account) error {
	if account.Has(identity.Committee) {
		return keepsVoice(r, account.Institution, "have the motion recover it")
	}
	if !account.Has(identity.Regulator) {
		return nil
	}
	regulators, err := ReadRegulators(r)
	if err != nil {
		return err
	}
	for _, other := range regulators {
		o, _, err := ReadAccount(r, other)
		if err != nil || other != address && !o.Leaked() {
			return err
		}
	}
	return aborted(AbortRole, []any{string(identity.Regulator)}, "it is the last account that speaks as a regulator: have the motion recover it")
}

// fullySigned checks that the keys that signed reach the caller's threshold: where it reports a leak of its own, one is enough.
func fullySigned(env Env) error {
	caller, err := callerAccount(env, AccountsAddress)
	if err != nil {
		return err
	}
	var weight uint32
	signers := env.Signers()
	for _, s := range signers {
		if k := caller.key(s.Algorithm, s.Bytes); k != nil && k.validAt(env.Order().UnixMilli) && !caller.succeeded(k, signers) {
			weight += k.Weight
		}
	}
	if weight < caller.Threshold {
		return denied(DeniedThreshold, "the signers weigh %d, the account wants %d to report a leak of another one", weight, caller.Threshold)
	}
	return nil
}

func clearLeak(env Env, a AddressArgs) error {
	account, err := existing(env, a.Address)
	if err != nil {
		return err
	}
	if !byMotion(env) {
		if err := officer(env, &account, true); err != nil {
			return err
		}
		if account.Leaked() {
			l := account.Lifeline.Leak
			if err := second(env, []ledger.Address{l.By}, identity.InstitutionAdmin, l.UnixMilli, "who reported the leak does not withdraw the report", "a motion"); err != nil {
				return err
			}
		}
	}
	if !account.Leaked() {
		return aborted(AbortUnchanged, nil, "no leak is reported")
	}
	if err := mute(env, &account, false); err != nil {
		return err
	}
	account.Lifeline.Leak = nil
	if err := mark(env, a.Address, account.Status != Active); err != nil {
		return err
	}
	if err := write(env, AccountStateKey(a.Address), &account); err != nil {
		return err
	}
	return emit(env, "leak_cleared", a.Address)
}

// Recovery of an account

// RecoverAccountArgs are the arguments of the accounts method recover.
type RecoverAccountArgs struct {
	_         struct{} `cbor:",toarray"`
	Account   ledger.Address
	Keys      []AccountKey
	Threshold uint32
	Reason    string
	Evidence  keys.Digest
}

func recoverAccount(env Env, a RecoverAccountArgs) (uint64, error) {
	account, err := existing(env, a.Account)
	if err != nil {
		return 0, err
	}
	l := account.lifeline()
	motion := byMotion(env)
	if !motion {
		if err := officer(env, &account, false); err != nil {
			return 0, err
		}
		if l.Objections >= MaxObjections {
			return 0, denied(DeniedMotion, "the account %s objected to %d recoveries: the committee decides, with `fondaco motion propose`", a.Account, l.Objections)
		}
		if err := seniorOfficer(env); err != nil {
			return 0, err
		}
	}
	switch {
	case account.recovering():
		return 0, aborted(AbortRecovery, []any{l.Recovery.Number}, "recovery %d of the account is under way: settle or withdraw it first", l.Recovery.Number)
	case a.Reason == "" || len(a.Reason) > MaxAccountReason:
		return 0, aborted(AbortArguments, nil, "a reason of %d bytes, want 1 to %d", len(a.Reason), MaxAccountReason)
	case a.Evidence.IsZero():
		return 0, aborted(AbortArguments, nil, "no digest of evidence: name what shows that the owner asked for it")
	}
	next := Account{Threshold: a.Threshold, Keys: a.Keys, Roles: account.Roles}
	if err := checkKeys(env, &next, nil); err != nil {
		return 0, err
	}
	l.Recoveries++
	l.Recovery = &Recovery{Number: l.Recoveries, Threshold: a.Threshold, Keys: a.Keys, Reason: a.Reason, Evidence: a.Evidence, Asked: env.Caller(), Began: env.Order().UnixMilli}
	if motion {
		l.Recovery.Final = l.Objections >= MaxObjections && !account.Has(identity.Regulator)
		if err := begin(env, &account, l.Recovery); err != nil {
			return 0, err
		}
	}
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return 0, err
	}
	if err := write(env, recoveryKey(a.Account), true); err != nil {
		return 0, err
	}
	return l.Recoveries, emit(env, "recovery_asked", a.Account, l.Recoveries, env.Caller(), a.Evidence, l.Recovery.Until)
}

// askByMotion is what remains where an institution has no two officers.
const askByMotion = "a motion asks for the recovery: `fondaco motion propose accounts recover …`"

// seniorOfficer checks that the caller has one of the roles that ask for recoveries for long enough.
func seniorOfficer(env Env) error {
	caller, err := callerAccount(env, AccountsAddress)
	if err != nil {
		return err
	}
	for _, role := range []identity.Role{identity.InstitutionAdmin, identity.Registrar} {
		if caller.Has(role) {
			if err = senior(env, env.Caller(), &caller, role, env.Order().UnixMilli, askByMotion); err == nil || !isRefusal(err) {
				return err
			}
		}
	}
	return err
}

// begin begins the window of a recovery that the caller confirms. That of a regulator is never below DefaultWindow: no committee set one when there was no regulator
// yet, or with the consent of another, that leaves it no time to object.
func begin(env Env, account *Account, r *Recovery) error {
	window, err := ReadWindow(env)
	if err != nil {
		return err
	}
	if account.Has(identity.Regulator) {
		window = max(window, DefaultWindow.Milliseconds())
	}
	r.Confirmed, r.Until = env.Caller(), env.Order().UnixMilli+window
	return nil
}

// RecoveryArgs are the arguments of the accounts methods confirm and withdraw: the account and the number of the recovery that is meant, so that it is no
// other that has taken its place.
type RecoveryArgs struct {
	_       struct{} `cbor:",toarray"`
	Account ledger.Address
	Number  uint64
}

func confirmRecovery(env Env, a RecoveryArgs) error {
	account, r, err := openRecovery(env, a)
	if err != nil {
		return err
	}
	if err := officer(env, &account, true); err != nil {
		return err
	}
	if r.Until != 0 {
		return aborted(AbortUnchanged, nil, "the recovery is confirmed")
	}
	if err := second(env, []ledger.Address{r.Asked}, identity.InstitutionAdmin, r.Began, "who asked for the recovery does not confirm it", askByMotion); err != nil {
		return err
	}
	if err := begin(env, &account, r); err != nil {
		return err
	}
	if err := write(env, AccountStateKey(a.Account), &account); err != nil {
		return err
	}
	return emit(env, "recovery_confirmed", a.Account, a.Number, r.Confirmed, r.Until)
}

func withdrawRecovery(env Env, a RecoveryArgs) error {
	account, r, err := openRecovery(env, a)
	if err != nil {
		return err
	}
	if !byMotion(env) {
		if err := officer(env, &account, false); err != nil {
			return err
		}
		if r.Asked == GovernanceAddress {
			return denied(DeniedMotion, "a motion asked for the recovery, and a motion withdraws it")
		}
	}
	return endRecovery(env, a, &account, "withdrawn")
}

// objectRecovery takes the number of the recovery alone: an account objects for itself.
func objectRecovery(env Env, a NumberArgs) error {
	of := RecoveryArgs{Account: env.Caller(), Number: a.Number}
	account, r, err := openRecovery(env, of)
	switch {
	case err != nil:
		return err
	case r.Until == 0:
		return aborted(AbortRecovery, []any{r.Number}, "recovery %d is not confirmed: there is nothing to object to", r.Number)
	case r.Final:
		return denied(DeniedMotion, "the account has objected %d times, and the committee decided by motion: ask it to withdraw", account.Lifeline.Objections)
	case env.Order().UnixMilli > r.Until:
		return aborted(AbortRecovery, []any{r.Number}, "objections to recovery %d were heard until %s", r.Number, timeText(r.Until))
	}
	account.Lifeline.Objections++
	return endRecovery(env, of, &account, "objected")
}

// NumberArgs are the arguments of the accounts method object.
type NumberArgs struct {
	_      struct{} `cbor:",toarray"`
	Number uint64
}

func endRecovery(env Env, a RecoveryArgs, account *Account, how string) error {
	account.Lifeline.Recovery = nil
	if err := write(env, AccountStateKey(a.Account), account); err != nil {
		return err
	}
	if err := env.Delete(recoveryKey(a.Account)); err != nil {
		return err
	}
	return emit(env, "recovery_ended", a.Account, a.Number, how)
}

func settleRecovery(env Env, a RecoveryArgs) error {
	account, r, err := openRecovery(env, a)
	if err != nil {
		return err
	}
	if !byMotion(env) { // anybody may: nobody can keep a recovery from its end
		if _, err := callerAccount(env, AccountsAddress); err != nil {
			return err
		}
	}
	var by []AuditApproval
	for _, officer := range []ledger.Address{r.Asked, r.Confirmed} {
		if officer.IsZero() {
			continue
		}
		a, err := approvalOf(env, officer)
		if err != nil {
			return err
		}
		by = append(by, a)
	}
	if err := env.Approved(by); err != nil {
		return err
	}
	switch {
	case r.Until == 0:
		return aborted(AbortRecovery, []any{r.Number}, "recovery %d is not confirmed by a second officer of %s", r.Number, account.Institution)
	case env.Order().UnixMilli <= r.Until:
		return aborted(AbortRecovery, []any{r.Number}, "the account may object until %s: settle recovery %d after that", timeText(r.Until), r.Number)
	}
	before, bound := account.Keys, account.Certificate
	account.Keys, account.Threshold = r.Keys, r.Threshold
	l := account.Lifeline
	if l.Leak != nil {
		if err := mute(env, &account, false); err != nil {
			return err
		}
	}
	l.Overlaps, l.Leak, l.Objections, l.Recovery, l.Cosigners = nil, nil, 0, nil, nil // whoever had the old keys chose the co-signers
	unbound := bound != nil && account.bindsItself()                                  // and the certificates
	if unbound {
		account.Certificate = nil
		if err := bindCertificates(env, a.Account, &account, bound); err != nil {
			return err
		}
	}
	if err := putAccount(env, a.Account, &account, before); err != nil {
		return err
	}
	if err := mark(env, a.Account, account.Status != Active); err != nil {
		return err
	}
	if err := env.Delete(recoveryKey(a.Account)); err != nil {
		return err
	}
	if err := emit(env, "keys_changed", a.Account); err != nil {
		return err
	}
	if unbound {
		if err := emit(env, "certified", a.Account, account.Certificate); err != nil {
			return err
		}
	}
	return emit(env, "recovery_ended", a.Account, a.Number, "settled")
}

// WindowArgs are the arguments of the accounts method set_window.
type WindowArgs struct {
	_      struct{} `cbor:",toarray"`
	Window int64    // ms
}

func setWindow(env Env, a WindowArgs) error {
	if !byMotion(env) {
		return denied(DeniedMotion, "the window of recoveries is set by motion: `fondaco motion propose`")
	}
	if a.Window < MinWindow.Milliseconds() || a.Window > MaxWindow.Milliseconds() {
		return aborted(AbortArguments, nil, "a window of %d ms, want %d to %d", a.Window, MinWindow.Milliseconds(), MaxWindow.Milliseconds())
	}
	if err := write(env, windowKey(), a.Window); err != nil {
		return err
	}
	return emit(env, "window_set", a.Window)
}

// ReadWindow returns how long an owner may object to a recovery that is confirmed now, in milliseconds of block time.
func ReadWindow(r Reader) (int64, error) {
	window, found, err := read[int64](r, windowKey())
	if err == nil && !found {
		window = DefaultWindow.Milliseconds()
	}
	return window, err
}

// RecoveriesArgs are the arguments of the accounts method recoveries.
type RecoveriesArgs struct {
	_     struct{} `cbor:",toarray"`
	After *ledger.Address
}

func recoveries(env Env, a RecoveriesArgs) ([]ledger.Address, error) {
	return accountsUnder(env, recoveryKey(ledger.Address{})[:ledger.AddressSize+1], a.After)
}

func windowKey() []byte { return key(AccountsAddress, []byte("w")) }

// recoveryKey is that of the index of accounts with an open recovery.
func recoveryKey(address ledger.Address) []byte {
	return key(AccountsAddress, []byte("r"), address[:])
}

// existing returns the account at an address, which must be there.
func existing(env Env, address ledger.Address) (Account, error) {
	account, found, err := ReadAccount(env, address)
	if err == nil && !found {
		err = aborted(AbortMissing, []any{address}, "no account %s", address)
	}
	return account, err
}

// openRecovery returns an account and its open recovery, which is part of it.
func openRecovery(env Env, a RecoveryArgs) (Account, *Recovery, error) {
	account, err := existing(env, a.Account)
	if err != nil {
		return account, nil, err
	}
	if account.Lifeline == nil || account.Lifeline.Recovery == nil || account.Lifeline.Recovery.Number != a.Number {
		return account, nil, aborted(AbortRecovery, []any{a.Number}, "the account %s has no open recovery %d: `fondaco account show` tells which it has", a.Account, a.Number)
	}
	return account, account.Lifeline.Recovery, nil
}

// officer checks that the caller may act for an account that has lost its keys: an admin of its institution, or a registrar
// where no admin is needed.
func officer(env Env, account *Account, admin bool) error {
	caller, err := callerAccount(env, AccountsAddress)
	switch {
	case err != nil:
		return err
	case admin && !caller.Has(identity.InstitutionAdmin):
		return denied(DeniedRole, "an institution-admin of %s does this", account.Institution)
	case !caller.HasAny(string(identity.InstitutionAdmin), string(identity.Registrar)):
		return denied(DeniedRole, "a registrar or institution-admin of %s does this", account.Institution)
	case caller.Institution != account.Institution:
		return denied(DeniedInstitution, "the caller may do this for accounts of %s only", caller.Institution)
	case account.HasAny(string(identity.Committee), string(identity.Regulator), string(identity.Auditor)):
		return denied(DeniedMotion, "an account with the role committee, regulator or auditor is recovered by motion: `fondaco motion propose`")
	}
	return nil
}
