package precompiles

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on releases.
const (
	MaxReleases      = 4        // open ones of an institution
	MaxReleaseArgs   = 16 << 10 // bytes of the arguments of init or upgrade
	MaxDeployers     = 64       // that are listed
	MaxApprovers     = 64       // institutions that must approve
	MaxReason        = 256      // bytes of a reason
	maxReleasesFound = 16       // that releases returns at once

	minReleaseTime     = int64(60_000)               // ms; with less, nobody could look at the code
	maxReleaseTime     = int64(366 * 24 * 3_600_000) // ms
	defaultReleaseTime = int64(30 * 24 * 3_600_000)  // ms, where the rules say 0
)

// DeployMode says how code comes onto the chain.
type DeployMode uint8

// The modes. In each, who brings code has one of the chain's deploy roles.
const (
	DeployOpen   DeployMode = 0 // deploy and replace
	DeployListed DeployMode = 1 // the same, by accounts that are listed
	DeployReview DeployMode = 2 // releases that other institutions approved
)

// String returns the mode's name: open, listed or review.
func (m DeployMode) String() string {
	switch m {
	case DeployOpen:
		return "open"
	case DeployListed:
		return "listed"
	case DeployReview:
		return "review"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// DeployRules is the row that says how code comes onto the chain. Motions alone change it. Where there is none, the mode is open.
type DeployRules struct {
	_            struct{} `cbor:",toarray"`
	Version      uint16   // ledger.Version
	Mode         DeployMode
	Deployers    []ledger.Address // with DeployListed: the accounts, sorted, at most MaxDeployers
	Institutions uint32           // with DeployReview: how many must approve of a release, beside the proposer's; 0: one
	Reviewers    []string         // roles of which an account that approves has one, until the release, sorted; none: committee. Its institution has a member
	Lifetime     int64            // ms of block time in which a release must be out, 1 minute to 366 days; 0: 30 days
}

// Release is a row of the table of releases, keyed by its id: a module that is to be a new contract, or to replace a contract's
// code. What was released stays; a release that was withdrawn, or whose time is over, is deleted.
type Release struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16   // ledger.Version
	Proposer    ledger.Address
	Institution string // the proposer's
	Content     ReleaseContent
	Height      ledger.Height // at which it was proposed
	Until       int64         // block time in Unix ms until which it may be released
	Approvals   []ReleaseApproval
	Motion      bool           // a motion approved it, which stands for all institutions
	Released    ledger.Height  // at which it was; 0: it is open
	Contract    ledger.Address // that runs it; zero: it is open
}

// ReleaseContent is what institutions approve of.
type ReleaseContent struct {
	_        struct{}       `cbor:",toarray"`
	Contract ledger.Address // whose code it replaces; zero: a new contract
	Code     keys.Digest    // of the module; see CodeHash
	Schema   keys.Digest    // of the module's schema section, see SchemaHash; zero: it has none
	Audit    keys.Digest    // SHA-256 of the audit's report; zero: none
	Source   keys.Digest    // SHA-256 of the sources; zero: none
	Args     []byte         // of init or upgrade, a canonical CBOR array; empty: none
	Breaking bool           // see ReplaceArgs
	Name     string         // of a new contract; empty: none
	Label    string         // its version under that name
}

// ReleaseApproval says that an account approved for its institution.
type ReleaseApproval struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Account     ledger.Address
	Height      ledger.Height
}

// Halt is a row that says who paused or retired a contract, keyed by its address.
type Halt struct {
	_       struct{}       `cbor:",toarray"`
	Version uint16         // ledger.Version
	By      ledger.Address // an account, or GovernanceAddress: a motion, and then a motion alone resumes it
	Height  ledger.Height
	Reason  string
}

// SchemaHash returns the digest of a module's schema section that a release states.
func SchemaHash(s keys.Suite, section []byte) keys.Digest { return keys.Hash(s, "schema", section) }

// Hash returns the digest that an approval names, so that nobody approves what a node made up.
func (c *ReleaseContent) Hash(s keys.Suite) (keys.Digest, error) {
	raw, err := ledger.Marshal(c)
	return keys.Hash(s, "release", raw), err
}

// Open reports whether a release can still be approved and released at a block time in Unix ms.
func (r *Release) Open(unixMilli int64) bool { return r.Released == 0 && unixMilli <= r.Until }

// approval returns the place of an institution's approval, or -1.
func (r *Release) approval(institution string) int {
	return slices.IndexFunc(r.Approvals, func(a ReleaseApproval) bool { return a.Institution == institution })
}

// counts reports whether an approval still counts: who gave it has one of the reviewers' roles, and its institution a member.
func (a *ReleaseApproval) counts(r Reader, members []string, rules *DeployRules) (bool, error) {
	if !slices.Contains(members, a.Institution) {
		return false, nil
	}
	return hasStill(r, a.Account, rules.ReviewerRoles())
}

// hasStill reports whether an account, which once approved of something, has one of the roles that it takes.
func hasStill(r Reader, address ledger.Address, roles []string) (bool, error) {
	account, _, err := ReadAccount(r, address)
	return account.HasAny(roles...), err
}

func rulesKey() []byte    { return key(ContractsAddress, []byte("g")) }
func releasesKey() []byte { return key(ContractsAddress, []byte("i")) }
func releaseKey(id uint64) []byte {
	return key(ContractsAddress, []byte("q"), binary.BigEndian.AppendUint64(nil, id))
}

func openReleasesKey(institution string) []byte {
	return key(ContractsAddress, []byte("o"), []byte(institution))
}

func haltKey(contract ledger.Address) []byte { return key(ContractsAddress, []byte("p"), contract[:]) }

// ReadDeployRules returns how code comes onto the chain.
func ReadDeployRules(r Reader) (DeployRules, error) {
	rules, found, err := read[DeployRules](r, rulesKey())
	if !found {
		rules.Version = ledger.Version
	}
	return rules, err
}

// ReadRelease returns a release by its id.
func ReadRelease(r Reader, id uint64) (release Release, found bool, err error) {
	return read[Release](r, releaseKey(id))
}

// allow says why an account with a deploy role may not bring code onto the chain by a method, or returns nil.
func (g *DeployRules) allow(from ledger.Address, method string) error {
	if method == "propose" {
		if g.Mode != DeployReview {
			return denied(DeniedReview, "the chain's mode is %s, so nothing is reviewed: `fondaco contract deploy` or `upgrade` does it at once", g.Mode)
		}
		return nil
	}
	switch g.Mode {
	case DeployOpen:
	case DeployReview:
		return denied(DeniedReview, "code is reviewed on this chain: `fondaco contract propose`, have %d other institutions run `fondaco contract approve`, then `fondaco contract release`", g.Wanted())
	case DeployListed:
		if _, found := slices.BinarySearchFunc(g.Deployers, from, byAddress); !found {
			return denied(DeniedReview, "%s is none of the accounts that the chain lists as deployers: `fondaco contract mode` prints them, and a motion changes them", from)
		}
	}
	return nil
}

// Wanted returns how many institutions must approve of a release.
func (g *DeployRules) Wanted() int { return max(int(g.Institutions), 1) }

// ReviewerRoles returns the roles of which an account that approves has one.
func (g *DeployRules) ReviewerRoles() []string {
	if len(g.Reviewers) == 0 {
		return []string{string(identity.Committee)}
	}
	return g.Reviewers
}

func byAddress(a, b ledger.Address) int { return bytes.Compare(a[:], b[:]) }

func releaseTypes() []ledger.TypeDef {
	version := ledger.Field{Name: "version", Type: "u16"}
	return []ledger.TypeDef{
		{Name: "DeployRules", Fields: append([]ledger.Field{version}, modeFields()...)},
		{Name: "Content", Fields: []ledger.Field{
			{Name: "contract", Type: "addr"},
			{Name: "code", Type: "bytes"},
			{Name: "schema", Type: "bytes"},
			{Name: "audit", Type: "bytes"},
			{Name: "source", Type: "bytes"},
			{Name: "args", Type: "bytes"},
			{Name: "breaking", Type: "bool"},
			{Name: "name", Type: "str"},
			{Name: "label", Type: "str"},
		}},
		{Name: "Approval", Fields: []ledger.Field{{Name: "institution", Type: "str"}, {Name: "account", Type: "addr"}, {Name: "height", Type: "u64"}}},
		{Name: "Release", Fields: []ledger.Field{
			version,
			{Name: "proposer", Type: "addr"},
			{Name: "institution", Type: "str"},
			{Name: "content", Type: "Content"},
			{Name: "height", Type: "u64"},
			{Name: "until", Type: "i64"},
			{Name: "approvals", Type: "list<Approval>"},
			{Name: "motion", Type: "bool"},
			{Name: "released", Type: "u64"},
			{Name: "contract", Type: "addr"},
		}},
		{Name: "ListedRelease", Fields: []ledger.Field{{Name: "id", Type: "u64"}, {Name: "row", Type: "Release"}}},
		{Name: "Halt", Fields: []ledger.Field{version, {Name: "by", Type: "addr"}, {Name: "height", Type: "u64"}, {Name: "reason", Type: "str"}}},
	}
}

func modeFields() []ledger.Field {
	return []ledger.Field{
		{Name: "mode", Type: "u8"}, {Name: "deployers", Type: "list<addr>"}, {Name: "institutions", Type: "u32"}, {Name: "reviewers", Type: "list<str>"}, {Name: "lifetime", Type: "i64"},
	}
}

func releaseMethods() []ledger.Method {
	id := ledger.Field{Name: "id", Type: "u64"}
	address := ledger.Field{Name: "address", Type: "addr"}
	reason := ledger.Field{Name: "reason", Type: "str"}
	return []ledger.Method{
		{
			Name: "propose", Kind: ledger.MethodTx, Return: "u64", Args: []ledger.Field{
				{Name: "contract", Type: "addr"},
				{Name: "code", Type: "bytes"},
				{Name: "args", Type: "bytes"},
				{Name: "breaking", Type: "bool"},
				{Name: "audit", Type: "bytes"},
				{Name: "source", Type: "bytes"},
				{Name: "name", Type: "str"},
				{Name: "label", Type: "str"},
			},
			Doc: "Stores a module that is to be a new contract, with the zero address, or to replace a contract's code, and returns the release's id. Where code is reviewed, by accounts with one of the chain's deploy roles.",
		},
		{
			Name: "approve", Kind: ledger.MethodTx, Args: []ledger.Field{id, {Name: "digest", Type: "bytes"}},
			Doc: "Approves of a release, whose content's digest it names. An account of another institution than the proposer's does, with one of the reviewers' roles, or a motion for all. " +
				"The institution has a member. What is approved counts as long as that is so, and the account has the role.",
		},
		{Name: "withdraw", Kind: ledger.MethodTx, Args: []ledger.Field{id}, Doc: "Ends a release: its proposer, an institution-admin of the institution, or a motion. Another institution takes back its approval."},
		{Name: "release", Kind: ledger.MethodTx, Args: []ledger.Field{id}, Return: "addr", Doc: "Deploys or replaces what was approved, and nothing else, and runs init or upgrade. The proposer does, who becomes or is the contract's owner, or a motion in its name."},
		{Name: "pause", Kind: ledger.MethodTx, Args: []ledger.Field{address, reason}, Doc: "Stops all of a contract but its views and its upgrade. Its owner does, or a motion, which a motion alone takes back."},
		{Name: "resume", Kind: ledger.MethodTx, Args: []ledger.Field{address}},
		{Name: "retire", Kind: ledger.MethodTx, Args: []ledger.Field{address, reason}, Doc: "Stops all of a contract but its views, for ever. Its owner does, or a motion."},
		{Name: "set_mode", Kind: ledger.MethodTx, Args: modeFields(), Doc: "Says how code comes onto the chain: 0 open, 1 by the deployers listed, 2 by review. By motion only."},
		{Name: "mode", Kind: ledger.MethodView, Return: "DeployRules"},
		{Name: "proposal", Kind: ledger.MethodView, Args: []ledger.Field{id}, Return: "opt<Release>"},
		{Name: "releases", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "u64"}}, Return: "list<ListedRelease>", Doc: "Returns releases in order of their ids, after one, at most 16."},
		{Name: "halted", Kind: ledger.MethodView, Args: []ledger.Field{address}, Return: "opt<Halt>", Doc: "Tells who paused or retired a contract, and why."},
	}
}

func releaseEvents() []ledger.EventDef {
	id := ledger.Field{Name: "id", Type: "u64"}
	institution := ledger.Field{Name: "institution", Type: "str"}
	address := ledger.Field{Name: "address", Type: "addr"}
	code := ledger.Field{Name: "code", Type: "bytes"}
	by := ledger.Field{Name: "by", Type: "addr"}
	reason := ledger.Field{Name: "reason", Type: "str"}
	indexed := []string{"address"}
	return []ledger.EventDef{
		{Topic: "proposed", Fields: []ledger.Field{id, institution, code, address}, Indexed: indexed},
		{Topic: "approved", Fields: []ledger.Field{id, institution}},
		{Topic: "withdrawn", Fields: []ledger.Field{id, institution}},
		{Topic: "released", Fields: []ledger.Field{id, address, code}, Indexed: indexed},
		{Topic: "paused", Fields: []ledger.Field{address, by, reason}, Indexed: indexed},
		{Topic: "resumed", Fields: []ledger.Field{address, by}, Indexed: indexed},
		{Topic: "retired", Fields: []ledger.Field{address, by, reason}, Indexed: indexed},
		{Topic: "mode", Fields: []ledger.Field{{Name: "mode", Type: "u8"}}},
	}
}

// ProposalArgs are the arguments of the contracts method propose. The fields are those of ReleaseContent.
type ProposalArgs struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Code     []byte // WebAssembly
	Args     []byte // at most MaxReleaseArgs bytes
	Breaking bool
	Audit    keys.Digest
	Source   keys.Digest
	Name     string
	Label    string
}

func proposeRelease(env Env, a ProposalArgs) (uint64, error) {
	account, err := mayDeploy(env, "propose")
	if err != nil {
		return 0, err
	}
	if len(a.Args) > MaxReleaseArgs {
		return 0, aborted(AbortArguments, nil, "arguments of %d bytes, at most %d", len(a.Args), MaxReleaseArgs)
	}
	open, err := roomForRelease(env, account.Institution)
	if err != nil {
		return 0, err
	}
	hash, err := storeCode(env, a.Code)
	if err != nil {
		return 0, err
	}
	c := ReleaseContent{Contract: a.Contract, Code: hash, Audit: a.Audit, Source: a.Source, Args: a.Args, Breaking: a.Breaking, Name: a.Name, Label: a.Label}
	if section, found, err := env.Get(schemaKey(hash)); err != nil {
		return 0, err
	} else if found {
		c.Schema = SchemaHash(env.Suite(), section)
	}
	if err := mayRelease(env, &c); err != nil {
		return 0, err
	}
	rules, err := ReadDeployRules(env)
	if err != nil {
		return 0, err
	}
	id, _, err := read[uint64](env, releasesKey())
	if err != nil {
		return 0, err
	}
	id++
	if err := write(env, releasesKey(), id); err != nil {
		return 0, err
	}
	r := &Release{
		Version: ledger.Version, Proposer: env.Caller(), Institution: account.Institution, Content: c, Height: env.Order().Height,
		Until: env.Order().UnixMilli + rules.lifetime(), Approvals: []ReleaseApproval{},
	}
	if err := write(env, releaseKey(id), r); err != nil {
		return 0, err
	}
	if err := write(env, openReleasesKey(account.Institution), append(open, id)); err != nil {
		return 0, err
	}
	return id, emit(env, "proposed", id, account.Institution, hash, a.Contract)
}

func (g *DeployRules) lifetime() int64 {
	if g.Lifetime == 0 {
		return defaultReleaseTime
	}
	return g.Lifetime
}

// mayRelease refuses, at the proposal and not only at the release, what could not be released by the caller now.
func mayRelease(env Env, c *ReleaseContent) error {
	if c.Contract.IsZero() {
		if c.Name == "" && c.Label == "" {
			return nil
		}
		return mayName(env, c.Name, c.Label)
	}
	if c.Name != "" || c.Label != "" {
		return aborted(AbortArguments, nil, "an upgrade goes without a name: names of the contract lead to the new code by themselves")
	}
	d, err := owned(env, env.Caller(), c.Contract)
	if err != nil {
		return err
	}
	_, err = mayReplace(env, c.Contract, &d, c.Code, c.Breaking)
	return err
}

// roomForRelease returns the open releases of an institution, deletes those whose time is over, and fails when it may not have another.
func roomForRelease(env Env, institution string) ([]uint64, error) {
	ids, _, err := read[[]uint64](env, openReleasesKey(institution))
	if err != nil {
		return nil, err
	}
	open := []uint64{}
	for _, id := range ids {
		r, found, err := ReadRelease(env, id)
		if err == nil && found && !r.Open(env.Order().UnixMilli) {
			err = env.Delete(releaseKey(id))
		} else if found {
			open = append(open, id)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(open) >= MaxReleases {
		return nil, aborted(AbortRelease, []any{uint64(0)}, "%s has proposed the releases %d, which are open: release or withdraw one", institution, open)
	}
	return open, nil
}

// closeRelease takes a release out of those that its institution has open.
func closeRelease(env Env, r *Release, id uint64) error {
	ids, _, err := read[[]uint64](env, openReleasesKey(r.Institution))
	if err != nil {
		return err
	}
	return write(env, openReleasesKey(r.Institution), slices.DeleteFunc(ids, func(other uint64) bool { return other == id }))
}

// openRelease returns a release that can still be approved and released.
func openRelease(env Env, id uint64) (*Release, error) {
	r, found, err := ReadRelease(env, id)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, aborted(AbortRelease, []any{id}, "there is no release %d, or no more: `fondaco contract releases` lists them", id)
	case r.Released != 0:
		return nil, aborted(AbortRelease, []any{id}, "release %d is out since block %d, as contract %s", id, r.Released, r.Contract)
	case !r.Open(env.Order().UnixMilli):
		return nil, aborted(AbortRelease, []any{id}, "the time of release %d was over at %s: propose it again", id, timeText(r.Until))
	}
	return &r, nil
}

// ApproveArgs are the arguments of the contracts method approve.
type ApproveArgs struct {
	_      struct{} `cbor:",toarray"`
	ID     uint64
	Digest keys.Digest // see ReleaseContent.Hash
}

func approveRelease(env Env, a ApproveArgs) error {
	motion := byMotion(env)
	account := Account{}
	if !motion {
		var err error
		if account, err = callerAccount(env, ContractsAddress); err != nil {
			return err
		}
	}
	r, err := openRelease(env, a.ID)
	if err != nil {
		return err
	}
	digest, err := r.Content.Hash(env.Suite())
	if err != nil {
		return err
	}
	there := r.Motion
	if !motion {
		if there, err = mayReview(env, &account, r, a.ID); err != nil {
			return err
		}
	}
	switch {
	case digest != a.Digest:
		return aborted(AbortRelease, []any{a.ID}, "release %d has the digest %s, not %s: look at it again with `fondaco contract releases %d`, from a node that you trust", a.ID, digest, a.Digest, a.ID)
	case there:
		return aborted(AbortUnchanged, nil, "release %d has this approval already", a.ID)
	}
	if motion {
		r.Motion = true
	} else {
		r.Approvals = append(r.Approvals, ReleaseApproval{Institution: account.Institution, Account: env.Caller(), Height: env.Order().Height})
	}
	if err := write(env, releaseKey(a.ID), r); err != nil {
		return err
	}
	return emit(env, "approved", a.ID, account.Institution)
}

// mayReview checks that an account may approve of a release: nobody approves what its own institution brings, nor whose institution has no
// member. It reports whether the institution has approved. An approval that counts no more is taken out, so that another account can
// approve for the institution.
func mayReview(env Env, account *Account, r *Release, id uint64) (approved bool, err error) {
	rules, err := ReadDeployRules(env)
	if err != nil {
		return false, err
	}
	record, err := readRecord(env)
	if err != nil {
		return false, err
	}
	members := MemberInstitutions(record.Members)
	at := r.approval(account.Institution)
	switch {
	case !account.HasAny(rules.ReviewerRoles()...):
		return false, denied(DeniedRole, "approving of a release needs one of the roles %v", rules.ReviewerRoles())
	case account.Institution == r.Institution:
		return false, denied(DeniedInstitution, "release %d is of %s itself: another institution approves of it", id, r.Institution)
	case !slices.Contains(members, account.Institution):
		return false, denied(DeniedInstitution, "%s has no member in the group, and so no say in releases", account.Institution)
	case len(r.Approvals) >= MaxApprovers && at < 0:
		return false, aborted(AbortUnchanged, nil, "release %d has %d approvals: no more are kept", id, len(r.Approvals))
	case at < 0:
		return false, nil
	}
	if approved, err = r.Approvals[at].counts(env, members, &rules); err == nil && !approved {
		r.Approvals = slices.Delete(r.Approvals, at, at+1)
	}
	return approved, err
}

// supported checks that a release has the approvals that it takes, as they count now, and keeps those in the record of the call.
func (r *Release) supported(env Env, id uint64) error {
	if r.Motion {
		return env.Approved([]AuditApproval{{Account: GovernanceAddress, For: true}})
	}
	rules, err := ReadDeployRules(env)
	if err != nil {
		return err
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	members := MemberInstitutions(record.Members)
	by, void := []AuditApproval{}, ""
	for i := range r.Approvals {
		switch counts, err := r.Approvals[i].counts(env, members, &rules); {
		case err != nil:
			return err
		case counts:
			by = append(by, AuditApproval{Institution: r.Approvals[i].Institution, Account: r.Approvals[i].Account, For: true})
		default:
			void += fmt.Sprintf("; that of %s counts no more: it has no member, or %s has none of the roles %v", r.Approvals[i].Institution, r.Approvals[i].Account, rules.ReviewerRoles())
		}
	}
	if err := env.Approved(by); err != nil {
		return err
	}
	if have, want := len(by), rules.Wanted(); have < want {
		return aborted(AbortRelease, []any{id}, "release %d has the approval of %d institutions, and %d are needed%s: `fondaco contract releases %d` names them", id, have, want, void, id)
	}
	return nil
}

// ReleaseArgs are the arguments of contracts methods that take the id of a release.
type ReleaseArgs struct {
	_  struct{} `cbor:",toarray"`
	ID uint64
}

func withdrawRelease(env Env, a ReleaseArgs) error {
	motion := byMotion(env)
	account := Account{}
	if !motion {
		var err error
		if account, err = callerAccount(env, ContractsAddress); err != nil {
			return err
		}
	}
	r, found, err := ReadRelease(env, a.ID) // also one whose time is over
	if err != nil {
		return err
	}
	if !found || r.Released != 0 {
		return aborted(AbortRelease, []any{a.ID}, "there is no open release %d: `fondaco contract releases` lists them", a.ID)
	}
	switch {
	case motion, env.Caller() == r.Proposer, account.Institution == r.Institution && account.Has(identity.InstitutionAdmin):
		if err := closeRelease(env, &r, a.ID); err != nil {
			return err
		}
		err = env.Delete(releaseKey(a.ID))
	case account.Institution == r.Institution:
		return denied(DeniedOwner, "release %d is withdrawn by who proposed it, %s, or by an institution-admin of %s", a.ID, r.Proposer, r.Institution)
	default:
		rules, err := ReadDeployRules(env)
		if err != nil {
			return err
		}
		if !account.HasAny(rules.ReviewerRoles()...) {
			return denied(DeniedRole, "who may not approve of a release takes no approval back")
		}
		if r.approval(account.Institution) < 0 {
			return aborted(AbortUnchanged, nil, "%s has not approved of release %d, so there is nothing to take back", account.Institution, a.ID)
		}
		r.Approvals = slices.DeleteFunc(r.Approvals, func(p ReleaseApproval) bool { return p.Institution == account.Institution })
		if err := write(env, releaseKey(a.ID), &r); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return emit(env, "withdrawn", a.ID, account.Institution)
}

func releaseCode(env Env, a ReleaseArgs) (ledger.Address, error) {
	if !byMotion(env) { // which does it in the proposer's name
		if _, err := mayDeploy(env, ""); err != nil {
			return ledger.Address{}, err
		}
	}
	r, err := openRelease(env, a.ID)
	if err != nil {
		return ledger.Address{}, err
	}
	if r.Proposer != env.Caller() && !byMotion(env) {
		return ledger.Address{}, denied(DeniedOwner, "release %d is carried out by who proposed it, %s", a.ID, r.Proposer)
	}
	if err := r.supported(env, a.ID); err != nil {
		return ledger.Address{}, err
	}
	c := &r.Content
	if r.Contract = c.Contract; r.Contract.IsZero() {
		r.Contract, err = newContract(env, r.Proposer, c.Code, c.Args, a.ID)
	} else {
		var d Deployment
		if d, err = owned(env, r.Proposer, r.Contract); err == nil {
			err = newCode(env, r.Contract, &d, c.Code, c.Args, c.Breaking, a.ID)
		}
	}
	if err != nil {
		return ledger.Address{}, err
	}
	if c.Name != "" {
		if err := nameRelease(env, r); err != nil {
			return ledger.Address{}, err
		}
	}
	if err := closeRelease(env, r, a.ID); err != nil {
		return ledger.Address{}, err
	}
	r.Released = env.Order().Height
	if err := write(env, releaseKey(a.ID), r); err != nil {
		return ledger.Address{}, err
	}
	return r.Contract, emit(env, "released", a.ID, r.Contract, c.Code)
}

// nameRelease has the system contract cns give a new contract its name, or a version of the one that the proposer owns.
func nameRelease(env Env, r *Release) error {
	by, method := r.Proposer, "register"
	if _, found, err := ReadName(env, r.Content.Name); err != nil {
		return err
	} else if found {
		by, method = env.Caller(), "publish" // which a motion may, whatever it takes
	}
	args, err := ledger.Marshal(NameVersionArgs{Name: r.Content.Name, Version: r.Content.Label, Address: r.Contract})
	if err != nil {
		return err
	}
	return env.Call(by, CNSAddress, method, args)
}

// ModeArgs are the arguments of the contracts method set_mode. The fields are those of DeployRules.
type ModeArgs struct {
	_            struct{} `cbor:",toarray"`
	Mode         DeployMode
	Deployers    []ledger.Address
	Institutions uint32
	Reviewers    []string
	Lifetime     int64
}

func setMode(env Env, a ModeArgs) error {
	if !byMotion(env) {
		return denied(DeniedMotion, "how code comes onto the chain is changed by a motion: `fondaco motion propose` makes one")
	}
	sorted := slices.IsSortedFunc(a.Deployers, byAddress) && len(slices.Compact(slices.Clone(a.Deployers))) == len(a.Deployers)
	bad := func(format string, args ...any) error { return aborted(AbortArguments, nil, format, args...) }
	switch {
	case a.Mode > DeployReview:
		return bad("there is no %s: want 0 (open), 1 (listed) or 2 (review)", a.Mode)
	case a.Mode == DeployListed && len(a.Deployers) == 0:
		return bad("no deployer is listed, so nobody could deploy")
	case a.Mode != DeployListed && len(a.Deployers) > 0:
		return bad("deployers are listed, and the mode is %s", a.Mode)
	case len(a.Deployers) > MaxDeployers || !sorted:
		return bad("%d deployers, want at most %d, sorted, each once", len(a.Deployers), MaxDeployers)
	case a.Institutions > MaxApprovers:
		return bad("%d institutions that must approve, at most %d", a.Institutions, MaxApprovers)
	case a.Lifetime != 0 && (a.Lifetime < minReleaseTime || a.Lifetime > maxReleaseTime):
		return bad("%d ms for a release, want 0 or %d to %d", a.Lifetime, minReleaseTime, maxReleaseTime)
	}
	if err := checkRoles(a.Reviewers); err != nil {
		return err
	}
	for _, deployer := range a.Deployers {
		if _, found, err := ReadAccount(env, deployer); err != nil {
			return err
		} else if !found {
			return aborted(AbortMissing, []any{deployer}, "no account %s", deployer)
		}
	}
	rules := DeployRules{Version: ledger.Version, Mode: a.Mode, Deployers: a.Deployers, Institutions: a.Institutions, Reviewers: a.Reviewers, Lifetime: a.Lifetime}
	if err := write(env, rulesKey(), &rules); err != nil {
		return err
	}
	return emit(env, "mode", a.Mode)
}

// HaltArgs are the arguments of the contracts methods pause and retire.
type HaltArgs struct {
	_       struct{} `cbor:",toarray"`
	Address ledger.Address
	Reason  string // for people, at most MaxReason bytes
}

func pauseContract(env Env, a HaltArgs) error { return halt(env, a, ContractPaused, "paused") }

func retireContract(env Env, a HaltArgs) error { return halt(env, a, ContractRetired, "retired") }

func halt(env Env, a HaltArgs, flag uint8, topic string) error {
	if len(a.Reason) > MaxReason {
		return aborted(AbortArguments, nil, "a reason of %d bytes, at most %d", len(a.Reason), MaxReason)
	}
	d, before, err := governed(env, a.Address)
	if err != nil {
		return err
	}
	// A motion makes its own what the owner has paused; the owner then waits for a motion.
	if d.Flags&flag != 0 && (flag == ContractRetired || !byMotion(env) || before.By == GovernanceAddress) {
		return aborted(AbortUnchanged, nil, "contract %s is %s already", a.Address, topic)
	}
	d.Flags |= flag
	if err := write(env, DeploymentStateKey(a.Address), d); err != nil {
		return err
	}
	if err := write(env, haltKey(a.Address), &Halt{Version: ledger.Version, By: env.Caller(), Height: env.Order().Height, Reason: a.Reason}); err != nil {
		return err
	}
	return emit(env, topic, a.Address, env.Caller(), a.Reason)
}

func resumeContract(env Env, a AddressArgs) error {
	d, before, err := governed(env, a.Address)
	switch {
	case err != nil:
		return err
	case d.Flags&ContractPaused == 0:
		return aborted(AbortUnchanged, nil, "contract %s is not paused", a.Address)
	case before.By == GovernanceAddress && !byMotion(env):
		return denied(DeniedMotion, "a motion paused the contract, and a motion resumes it: `fondaco motion propose` makes one")
	}
	d.Flags &^= ContractPaused
	if err := write(env, DeploymentStateKey(a.Address), d); err != nil {
		return err
	}
	if err := env.Delete(haltKey(a.Address)); err != nil {
		return err
	}
	return emit(env, "resumed", a.Address, env.Caller())
}

// governed returns a deployment that the caller may pause, resume and retire, and who has halted it.
func governed(env Env, address ledger.Address) (*Deployment, *Halt, error) {
	var d Deployment
	var err error
	if byMotion(env) {
		var found bool
		if d, found, err = ReadContract(env, address); err == nil && !found {
			err = aborted(AbortMissing, []any{address}, "no contract %s", address)
		}
		if err == nil && d.Flags&ContractRetired != 0 {
			err = denied(DeniedHalted, "the contract is retired, for ever")
		}
	} else if _, err = callerAccount(env, ContractsAddress); err == nil {
		d, err = owned(env, env.Caller(), address)
	}
	if err != nil {
		return nil, nil, err
	}
	h, _, err := read[Halt](env, haltKey(address))
	return &d, &h, err
}

func haltOf(env Env, a AddressArgs) (*Halt, error) {
	h, found, err := read[Halt](env, haltKey(a.Address))
	if err != nil || !found {
		return nil, err
	}
	return &h, nil
}

func getRelease(env Env, a ReleaseArgs) (*Release, error) {
	r, found, err := ReadRelease(env, a.ID)
	if err != nil || !found {
		return nil, err
	}
	return &r, nil
}

// ListedRelease is a release with its id.
type ListedRelease struct {
	_   struct{} `cbor:",toarray"`
	ID  uint64
	Row Release
}

// ReleasesArgs are the arguments of the contracts method releases.
type ReleasesArgs struct {
	_     struct{} `cbor:",toarray"`
	After uint64   // id of the last that is known; 0: from the first
}

func listReleases(env Env, a ReleasesArgs) ([]ListedRelease, error) {
	return page(env, key(ContractsAddress, []byte("q")), releaseKey(a.After), maxReleasesFound, func(id, value []byte) (r ListedRelease, err error) {
		if err := ofSize(id, 8); err != nil {
			return r, err
		}
		r.ID = binary.BigEndian.Uint64(id)
		err = ledger.Unmarshal(value, &r.Row)
		return r, err
	})
}
