package precompiles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on corrections.
const (
	MaxCorrected   = 32 // transactions that a correction names
	MaxEntries     = 32 // entries; each is a call of a contract
	MaxCorrections = 32 // open ones of an institution
	MaxSalt        = 32 // bytes of the salt
	// CorrectionLifetime is for how long a correction may be approved and applied.
	CorrectionLifetime = 30 * 24 * time.Hour
	maxAmountBits      = 128
)

// AdjustMethod is the method by which a contract takes part in corrections: adjust(account addr, amount u128, credit bool,
// correction u64), which adds an amount to what an account has, or takes it away. It refuses every caller but CorrectionsAddress.
const AdjustMethod = "adjust"

// CorrectionReasons returns the codes of reasons, in the order in which people are offered them.
func CorrectionReasons() []string {
	return []string{"duplicate", "wrong-amount", "wrong-account", "unauthorised", "court-order", "fault", "other"}
}

// CorrectionStatus says how far a correction is.
type CorrectionStatus uint8

// The statuses of a correction.
const (
	CorrectionOpen      CorrectionStatus = 0
	CorrectionApplied   CorrectionStatus = 1
	CorrectionWithdrawn CorrectionStatus = 2
)

// String returns the status in the words of the schema.
func (s CorrectionStatus) String() string {
	if names := correctionStatuses(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

func correctionStatuses() []string { return []string{"open", "applied", "withdrawn"} }

// Correction is a row of the table of corrections, keyed by number.
//
// # Approval
//
// A correction is an entry like others, made later: nothing that was is changed. It takes the approval of at least two institutions that have a member (where only one has, of that and another one), that of who
// proposed it included, and of each institution of whose accounts something is taken, with a member or without one; then anybody of them applies it. An approval counts
// as long as who gave it has the role. One whose entries do not
// add up to nothing in each contract, so that something is issued or redeemed, or that takes from an address that is no account's, such as a contract, is applied by motion
// only. A motion may apply any.
//
// # What the chain checks
//
// The state holds no transactions. It checks that the heights are of blocks that are there, and keeps ids and heights as they were given. A node has the
// transactions: the API tells whether each is there, and `fondaco correction` looks before it proposes or approves.
//
// # Salt
//
// Audit records, which every member reads, have digests of the arguments of propose and of the row. All that these cover is public, but for entries
// in private contracts, and amounts and accounts are few: without a salt, they are found by trying. So whoever proposes puts random bytes into
// the correction, which are as private as all of its entries together.
type Correction struct {
	_            struct{} `cbor:",toarray"`
	Version      uint16   // ledger.Version
	Height       ledger.Height
	By           ledger.Address
	Institution  string
	Transactions []Corrected
	Reason       string // one of CorrectionReasons
	Evidence     keys.Digest
	Entries      []Entry
	Salt         []byte     // random, at most MaxSalt bytes; empty: audit records give away entries in private contracts to whoever guesses them
	Debited      []string   // institutions of the accounts from which something is taken, sorted
	Motion       bool       // it takes a motion
	Approvals    []Approval // in order; the first is of who proposed it
	Expiry       int64      // last block time, Unix ms, at which it is approved and applied
	Status       CorrectionStatus
	Applied      ledger.TxID   // the transaction that applied it; zero: none has
	AppliedAt    ledger.Height // of its block
}

// Corrected is a transaction that a correction corrects.
type Corrected struct {
	_      struct{} `cbor:",toarray"`
	Tx     ledger.TxID
	Height ledger.Height // of its block
}

// Entry is what a correction does to one account in one contract.
type Entry struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Account  ledger.Address
	Amount   big.Int // 1 to 2^128-1, in the contract's smallest unit
	Credit   bool    // the account gets it; else it is taken
}

// CorrectionLink is an entry of the index of transactions: a correction that names it, or that it applied.
type CorrectionLink struct {
	_       struct{} `cbor:",toarray"`
	Number  uint64
	Applies bool // the transaction applied the correction; else it is corrected by it, once that is applied
}

// ReadCorrection returns a correction by its number.
func ReadCorrection(r Reader, number uint64) (correction Correction, found bool, err error) {
	return read[Correction](r, correctionKey(number))
}

// CorrectionKeys returns what the state keys of corrections begin with. The number follows, as eight bytes.
func CorrectionKeys() []byte { return key(CorrectionsAddress, []byte("c")) }

// CorrectionLinkKeys returns what the state keys of a transaction's links begin with. The number of the correction follows, and the value is
// whether the transaction applied it.
func CorrectionLinkKeys(tx ledger.TxID) []byte { return key(CorrectionsAddress, []byte("t"), tx[:]) }

func correctionKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64(CorrectionKeys(), number)
}

func linkKey(tx ledger.TxID, number uint64) []byte {
	return binary.BigEndian.AppendUint64(CorrectionLinkKeys(tx), number)
}

// openKey is that of how many corrections of an institution are open.
func openKey(institution string) []byte {
	return key(CorrectionsAddress, []byte("o"), []byte(institution))
}

func lastKey() []byte { return key(CorrectionsAddress, []byte("n")) }

func newCorrections() Contract {
	number, reason, evidence := ledger.Field{Name: "number", Type: "u64"}, ledger.Field{Name: "reason", Type: "str"}, ledger.Field{Name: "evidence", Type: "bytes"}
	transactions, entries, salt := ledger.Field{Name: "transactions", Type: "list<Corrected>"}, ledger.Field{Name: "entries", Type: "list<Entry>"}, ledger.Field{Name: "salt", Type: "bytes"}
	institution, height := ledger.Field{Name: "institution", Type: "str"}, ledger.Field{Name: "height", Type: "u64"}
	var statuses []ledger.Variant
	for _, s := range correctionStatuses() {
		statuses = append(statuses, ledger.Variant{Name: s})
	}
	return &system{
		address: CorrectionsAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"propose":  query(proposeCorrection),
			"approve":  command(approveCorrection),
			"withdraw": command(withdrawCorrection),
			"apply":    command(applyCorrection),
			"get":      query(getCorrection),
			"list":     query(listCorrections),
			"of":       query(correctionsOf),
		},
		policies: map[string]Policy{
			"propose":  byAny(identity.Compliance, identity.InstitutionAdmin),
			"approve":  byAny(identity.Compliance, identity.InstitutionAdmin),
			"withdraw": byAny(identity.Compliance, identity.InstitutionAdmin),
			"apply":    byAny(identity.Compliance, identity.InstitutionAdmin),
		},
		own: []string{"propose", "approve"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "corrections", Version: "1", Profile: "strict",
			Doc: "Adjusting entries that name the transactions which they correct. Nothing that was is changed. They are balanced in each contract and approved by at least two institutions, among them those of whose accounts something is taken; " +
				"others are applied by motion. A contract takes part by the method adjust(account addr, amount u128, credit bool, correction u64), which no other caller may call.",
			Types: []ledger.TypeDef{
				{Name: "Corrected", Fields: []ledger.Field{{Name: "tx", Type: "bytes"}, height}},
				{Name: "Entry", Fields: []ledger.Field{{Name: "contract", Type: "addr"}, {Name: "account", Type: "addr"}, {Name: "amount", Type: "u128"}, {Name: "credit", Type: "bool"}}},
				{Name: "Approval", Fields: []ledger.Field{institution, {Name: "account", Type: "addr"}}},
				{Name: "Status", Variants: statuses},
				{Name: "Correction", Fields: []ledger.Field{
					{Name: "version", Type: "u16"},
					height,
					{Name: "by", Type: "addr"},
					institution, transactions, reason, evidence, entries, salt,
					{Name: "debited", Type: "list<str>"},
					{Name: "motion", Type: "bool"},
					{Name: "approvals", Type: "list<Approval>"},
					{Name: "expiry", Type: "i64"},
					{Name: "status", Type: "Status"},
					{Name: "applied", Type: "bytes"},
					{Name: "applied_at", Type: "u64"},
				}},
				{Name: "ListedCorrection", Fields: []ledger.Field{number, {Name: "row", Type: "Correction"}}},
				{Name: "Link", Fields: []ledger.Field{number, {Name: "applies", Type: "bool"}}},
			},
			Methods: []ledger.Method{
				{
					Name: "propose", Kind: ledger.MethodTx, Args: []ledger.Field{transactions, reason, evidence, entries, salt}, Return: "u64",
					Doc: "Proposes a correction of up to 32 transactions by up to 32 entries, which the caller's institution approves by that, and returns its number. The caller is a compliance officer or institution-admin. Reasons: duplicate, wrong-amount, wrong-account, unauthorised, court-order, fault, other. " +
						"The evidence is a digest. The salt is up to 32 random bytes: with fewer than 16, entries in private contracts can be guessed from the digests that audit records have.",
				},
				{Name: "approve", Kind: ledger.MethodTx, Args: []ledger.Field{number}, Doc: "Approves a correction for the caller's institution. The caller is a compliance officer or institution-admin of another than approved it."},
				{Name: "withdraw", Kind: ledger.MethodTx, Args: []ledger.Field{number}, Doc: "Ends a correction that was not applied. The caller is a compliance officer or institution-admin of the institution that proposed it; or a motion."},
				{Name: "apply", Kind: ledger.MethodTx, Args: []ledger.Field{number}, Doc: "Makes the entries of a correction, all or none. The caller is a compliance officer or institution-admin, once it has its approvals; or a motion, which needs none."},
				{Name: "get", Kind: ledger.MethodView, Args: []ledger.Field{number}, Return: "opt<Correction>"},
				{Name: "list", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "u64"}}, Return: "list<ListedCorrection>", Doc: "Returns up to 64 corrections in order, beginning after one."},
				{
					Name: "of", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "tx", Type: "bytes"}, {Name: "after", Type: "u64"}}, Return: "list<Link>",
					Doc: "Returns up to 64 corrections that name a transaction or that it applied, in order, beginning after one.",
				},
			},
			Events: []ledger.EventDef{
				{Topic: "proposed", Fields: []ledger.Field{number, institution, reason, evidence}},
				{Topic: "approved", Fields: []ledger.Field{number, institution}},
				{Topic: "withdrawn", Fields: []ledger.Field{number}},
				{Topic: "applied", Fields: []ledger.Field{number, transactions}},
			},
			Errors: abortDefs(AbortArguments, AbortMissing, AbortUnchanged, AbortSupport, AbortCorrection),
			State: []ledger.StateDef{
				{Prefix: "c", Key: []ledger.Type{"u64"}, Value: "Correction"},
				{Prefix: "n", Value: "u64", Doc: "number of the last correction"},
				{Prefix: "o", Key: []ledger.Type{"str"}, Value: "u32", Doc: "institution; how many of its corrections are open"},
				{Prefix: "t", Key: []ledger.Type{"bytes"}, Value: "bool", Doc: "transaction and number of a correction; whether it applied that one, rather than being corrected by it"},
			},
		},
	}
}

// ProposeCorrectionArgs are the arguments of the corrections method propose.
type ProposeCorrectionArgs struct {
	_            struct{} `cbor:",toarray"`
	Transactions []Corrected
	Reason       string
	Evidence     keys.Digest
	Entries      []Entry
	Salt         []byte // random, at most MaxSalt bytes; 16 or more keep entries in private contracts from being guessed
}

func proposeCorrection(env Env, a ProposeCorrectionArgs) (uint64, error) {
	caller, err := keeper(env)
	if err != nil {
		return 0, err
	}
	c := Correction{
		Version: ledger.Version, Height: env.Order().Height, By: env.Caller(), Institution: caller.Institution, Transactions: a.Transactions, Reason: a.Reason, Evidence: a.Evidence,
		Entries: a.Entries, Salt: a.Salt, Approvals: []Approval{{Institution: caller.Institution, Account: env.Caller()}}, Expiry: env.Order().UnixMilli + CorrectionLifetime.Milliseconds(),
	}
	if err := checkCorrected(env, &c); err != nil {
		return 0, err
	}
	if err := checkEntries(env, &c); err != nil {
		return 0, err
	}
	open, _, err := read[uint32](env, openKey(c.Institution))
	if err != nil {
		return 0, err
	}
	if open >= MaxCorrections {
		return 0, aborted(AbortCorrection, []any{uint64(0)}, "%s has %d open corrections: apply or withdraw one", c.Institution, open)
	}
	number, _, err := read[uint64](env, lastKey())
	if err != nil {
		return 0, err
	}
	number++
	if err := write(env, lastKey(), number); err != nil {
		return 0, err
	}
	if err := write(env, openKey(c.Institution), open+1); err != nil {
		return 0, err
	}
	for _, t := range c.Transactions {
		if err := write(env, linkKey(t.Tx, number), false); err != nil {
			return 0, err
		}
	}
	if err := write(env, correctionKey(number), &c); err != nil {
		return 0, err
	}
	return number, emit(env, "proposed", number, c.Institution, c.Reason, c.Evidence)
}

// keeper returns the caller's account, which may propose, approve and apply corrections.
func keeper(env Env) (Account, error) {
	caller, err := callerAccount(env, CorrectionsAddress)
	if err == nil && !caller.HasAny(keepers()...) {
		err = denied(DeniedRole, "a compliance officer or institution-admin does this")
	}
	return caller, err
}

// keepers are the roles of which one is needed.
func keepers() []string {
	return []string{string(identity.Compliance), string(identity.InstitutionAdmin)}
}

func checkCorrected(env Env, c *Correction) error {
	switch {
	case len(c.Transactions) == 0 || len(c.Transactions) > MaxCorrected:
		return aborted(AbortArguments, nil, "%d transactions, want 1 to %d", len(c.Transactions), MaxCorrected)
	case !slices.Contains(CorrectionReasons(), c.Reason):
		return aborted(AbortArguments, nil, "the reason %q, want one of %q", c.Reason, CorrectionReasons())
	case c.Evidence.IsZero():
		return aborted(AbortArguments, nil, "no digest of evidence: name what shows that the entries are right")
	case len(c.Salt) > MaxSalt:
		return aborted(AbortArguments, nil, "a salt of %d bytes, want at most %d", len(c.Salt), MaxSalt)
	}
	for i, t := range c.Transactions {
		switch {
		case t.Height == 0 || t.Height >= env.Order().Height:
			return aborted(AbortArguments, nil, "transaction %s is in block %d, want one of 1 to %d", t.Tx, t.Height, env.Order().Height-1)
		case slices.ContainsFunc(c.Transactions[:i], func(o Corrected) bool { return o.Tx == t.Tx }):
			return aborted(AbortArguments, nil, "transaction %s is named twice", t.Tx)
		}
	}
	return nil
}

// checkEntries checks the entries of a correction, and sets whose approval it takes.
func checkEntries(env Env, c *Correction) error {
	if len(c.Entries) == 0 || len(c.Entries) > MaxEntries {
		return aborted(AbortArguments, nil, "%d entries, want 1 to %d", len(c.Entries), MaxEntries)
	}
	sums := map[ledger.Address]*big.Int{}
	for i := range c.Entries {
		e := &c.Entries[i]
		if e.Amount.Sign() <= 0 || e.Amount.BitLen() > maxAmountBits {
			return aborted(AbortArguments, nil, "entry %d is of %s units, want 1 to 2^128-1", i, &e.Amount)
		}
		if slices.ContainsFunc(c.Entries[:i], func(o Entry) bool { return o.Contract == e.Contract && o.Account == e.Account }) {
			return aborted(AbortArguments, nil, "entry %d is a second one of %s in %s: make one of them", i, e.Account, e.Contract)
		}
		sum := sums[e.Contract]
		if sum == nil {
			if err := checkAdjusts(env, e.Contract); err != nil {
				return err
			}
			sum = new(big.Int)
			sums[e.Contract] = sum
		}
		account, found, err := ReadAccount(env, e.Account)
		if err != nil {
			return err
		}
		c.Motion = c.Motion || !found // nobody could give back what an address has that is no account
		if e.Credit {
			sum.Add(sum, &e.Amount)
			continue
		}
		sum.Sub(sum, &e.Amount)
		switch {
		case !found:
		case !slices.Contains(c.Debited, account.Institution):
			c.Debited = append(c.Debited, account.Institution)
		}
	}
	slices.Sort(c.Debited)
	for _, sum := range sums { // in any order: the answer is the same
		c.Motion = c.Motion || sum.Sign() != 0
	}
	return nil
}

// checkAdjusts checks that a contract takes part in corrections.
func checkAdjusts(env Env, contract ledger.Address) error {
	d, found, err := ReadContract(env, contract)
	if err != nil {
		return err
	}
	if !found {
		return aborted(AbortMissing, []any{contract}, "no contract at %s", contract)
	}
	schema, err := chargedSchema(env, d.Code)
	if err != nil {
		return err
	}
	if schema != nil {
		m := schema.Method(AdjustMethod)
		if m != nil && m.Kind == ledger.MethodTx && slices.EqualFunc(m.Args, []ledger.Type{"addr", "u128", "bool", "u64"}, func(f ledger.Field, t ledger.Type) bool { return f.Type == t }) {
			return nil
		}
	}
	return aborted(AbortMissing, []any{contract}, "the contract at %s takes no corrections: it has no method adjust(account addr, amount u128, credit bool, correction u64)", contract)
}

// openCorrection returns a correction that was neither applied nor withdrawn, and, unless it is to be withdrawn, is not too old.
func openCorrection(env Env, number uint64, withdraw bool) (Correction, error) {
	c, found, err := ReadCorrection(env, number)
	switch {
	case err != nil:
		return c, err
	case !found:
		return c, aborted(AbortCorrection, []any{number}, "there is no correction %d: `fondaco correction list` tells which there are", number)
	case c.Status != CorrectionOpen:
		return c, aborted(AbortCorrection, []any{number}, "correction %d is %s", number, c.Status)
	case !withdraw && env.Order().UnixMilli > c.Expiry:
		return c, aborted(AbortCorrection, []any{number}, "correction %d could be applied until %s: propose it anew", number, timeText(c.Expiry))
	}
	return c, nil
}

func approveCorrection(env Env, a NumberArgs) error {
	caller, err := keeper(env)
	if err != nil {
		return err
	}
	c, err := openCorrection(env, a.Number, false)
	if err != nil {
		return err
	}
	if at := slices.IndexFunc(c.Approvals, func(p Approval) bool { return p.Institution == caller.Institution }); at >= 0 {
		if counts, err := hasStill(env, c.Approvals[at].Account, keepers()); err != nil {
			return err
		} else if counts {
			return aborted(AbortUnchanged, nil, "%s has approved correction %d", caller.Institution, a.Number)
		}
		c.Approvals = slices.Delete(c.Approvals, at, at+1) // of who is no officer any more
	}
	c.Approvals = append(c.Approvals, Approval{Institution: caller.Institution, Account: env.Caller()})
	if err := write(env, correctionKey(a.Number), &c); err != nil {
		return err
	}
	return emit(env, "approved", a.Number, caller.Institution)
}

// Missing returns the institutions whose approval the correction still lacks, and how many more it takes at least. An approval counts as long as
// who gave it is a compliance officer or institution-admin.
func (c *Correction) Missing(r Reader) (institutions []string, count int, err error) {
	_, institutions, count, err = c.support(r)
	return institutions, count, err
}

// support is Missing, with how many approvals count.
func (c *Correction) support(r Reader) (have int, missing []string, count int, err error) {
	var approved []string
	for _, a := range c.Approvals {
		counts, err := hasStill(r, a.Account, keepers())
		if err != nil {
			return 0, nil, 0, err
		}
		if counts {
			approved = append(approved, a.Institution)
		}
	}
	record, err := readRecord(r)
	if err != nil {
		return 0, nil, 0, err
	}
	members := MemberInstitutions(record.Members)
	given := slices.Concat(approved, c.Debited) // or to be given
	slices.Sort(given)
	given = slices.Compact(given)
	count = 2 - len(given)
	lacking := min(2, len(members)) // a toy has fewer
	for _, name := range given {
		if slices.Contains(members, name) {
			lacking--
		}
	}
	count = max(count, lacking, 0)
	for _, i := range c.Debited {
		if !slices.Contains(approved, i) {
			missing, count = append(missing, i), count+1
		}
	}
	return len(approved), missing, count, nil
}

func withdrawCorrection(env Env, a NumberArgs) error {
	c, err := openCorrection(env, a.Number, true)
	if !byMotion(env) {
		caller, refused := keeper(env)
		if refused != nil {
			return refused
		}
		if err == nil && caller.Institution != c.Institution {
			err = denied(DeniedInstitution, "%s proposed correction %d, and withdraws it", c.Institution, a.Number)
		}
	}
	if err != nil {
		return err
	}
	c.Status = CorrectionWithdrawn
	for _, t := range c.Transactions {
		if err := env.Delete(linkKey(t.Tx, a.Number)); err != nil {
			return err
		}
	}
	if err := closeCorrection(env, a.Number, &c); err != nil {
		return err
	}
	return emit(env, "withdrawn", a.Number)
}

// closeCorrection writes a correction that is not open any more.
func closeCorrection(env Env, number uint64, c *Correction) error {
	open, _, err := read[uint32](env, openKey(c.Institution))
	if err != nil {
		return err
	}
	if err := write(env, openKey(c.Institution), open-1); err != nil {
		return err
	}
	return write(env, correctionKey(number), c)
}

func applyCorrection(env Env, a NumberArgs) error {
	if !byMotion(env) {
		if _, err := keeper(env); err != nil {
			return err
		}
	}
	c, err := openCorrection(env, a.Number, false)
	if err != nil {
		return err
	}
	by := make([]AuditApproval, 0, len(c.Approvals))
	for _, p := range c.Approvals {
		counts, err := hasStill(env, p.Account, keepers())
		if err != nil {
			return err
		}
		if counts {
			by = append(by, AuditApproval{Institution: p.Institution, Account: p.Account, For: true})
		}
	}
	if err := env.Approved(by); err != nil {
		return err
	}
	if !byMotion(env) {
		if c.Motion {
			return denied(DeniedMotion, "correction %d issues or redeems units, or takes them from what is no account: `fondaco motion propose` has it applied", a.Number)
		}
		have, _, count, err := c.support(env)
		if err != nil {
			return err
		}
		if count > 0 { // their names would tell of private contracts
			return aborted(AbortSupport, []any{uint32(have), uint32(have + count)},
				"correction %d lacks the approval of %d institutions: `fondaco correction show %d` says of which, if you may read all of it", a.Number, count, a.Number)
		}
	}
	c.Status, c.Applied, c.AppliedAt = CorrectionApplied, env.Tx(), env.Order().Height
	if err := closeCorrection(env, a.Number, &c); err != nil {
		return err
	}
	if err := write(env, linkKey(c.Applied, a.Number), true); err != nil {
		return err
	}
	for _, credit := range []bool{false, true} { // what is taken first, so that no total is ever above what it ends at
		for i := range c.Entries {
			e := &c.Entries[i]
			if e.Credit != credit {
				continue
			}
			args, err := ledger.Marshal([]any{e.Account, &e.Amount, e.Credit, a.Number})
			if err != nil {
				return fmt.Errorf("encode entry %d: %w", i, err)
			}
			_, err = env.Invoke(e.Contract, AdjustMethod, args)
			if refused, ok := errors.AsType[*Error](err); ok && refused.Status == ledger.Aborted { // its codes are not those of this contract
				return aborted(AbortCorrection, []any{a.Number}, "the contract %s refuses entry %d, %s, with code %d", e.Contract, i, e.Account, refused.Code)
			}
			if err != nil {
				return err
			}
		}
	}
	return emit(env, "applied", a.Number, c.Transactions)
}

func getCorrection(env Env, a NumberArgs) (*Correction, error) {
	c, found, err := ReadCorrection(env, a.Number)
	if err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// AfterNumberArgs are the arguments of the corrections method list.
type AfterNumberArgs struct {
	_     struct{} `cbor:",toarray"`
	After uint64
}

// ListedCorrection is a correction with its number.
type ListedCorrection struct {
	_      struct{} `cbor:",toarray"`
	Number uint64
	Row    Correction
}

func listCorrections(env Env, a AfterNumberArgs) ([]ListedCorrection, error) {
	return page(env, CorrectionKeys(), correctionKey(a.After), maxFound, func(id, value []byte) (c ListedCorrection, err error) {
		if err := ofSize(id, 8); err != nil {
			return c, err
		}
		c.Number = binary.BigEndian.Uint64(id)
		err = ledger.Unmarshal(value, &c.Row)
		return c, err
	})
}

// CorrectionsOfArgs are the arguments of the corrections method of.
type CorrectionsOfArgs struct {
	_     struct{} `cbor:",toarray"`
	Tx    ledger.TxID
	After uint64
}

func correctionsOf(env Env, a CorrectionsOfArgs) ([]CorrectionLink, error) {
	prefix := CorrectionLinkKeys(a.Tx)
	return page(env, prefix, linkKey(a.Tx, a.After), maxFound, DecodeCorrectionLink)
}

// DecodeCorrectionLink reads a link of a transaction: what follows CorrectionLinkKeys in its state key, and its value.
func DecodeCorrectionLink(id, value []byte) (l CorrectionLink, err error) {
	if err := ofSize(id, 8); err != nil {
		return l, err
	}
	l.Number = binary.BigEndian.Uint64(id)
	err = ledger.Unmarshal(value, &l.Applies)
	return l, err
}

// Approval says that an account approved for its institution.
type Approval struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Account     ledger.Address
}
