package precompiles

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// DefaultVeto is how long a regulator may object where nobody said otherwise: a day, in which it reads what was decided. In ms.
const DefaultVeto = int64(24 * 3_600_000)

// Bounds on settings and policies.
const (
	MaxSettingWeight = 1_000
	MaxPolicyBlocks  = 100_000              // of a lock
	MaxLock          = int64(30 * 86400000) // ms, of a lock and of the veto window
	MaxMotionLife    = int64(365 * 86400000)
	MinMotionLife    = int64(60_000)
	MaxRegulators    = 16
	maxOpenMotions   = 16 // that the settings let an institution have
	maxMethodName    = 64
	maxVitalBlocks   = 1_000 // of the lock of a method by which the rules themselves change
	minApproval      = 50    // percent: no more than half is no majority
	maxThreshold     = 75    // percent, of approval and participation: with more, few institutions that are away stop all motions for ever
)

// Settings say how motions are decided. Motions change them, and those that are open go on under the settings that they
// were made under.
type Settings struct {
	_             struct{} `cbor:",toarray"`
	Version       uint16   // ledger.Version
	Number        uint64   // of the last change of settings or policies; 0: none was made
	Approval      uint32   // percent, 50 to 75: institutions of more than this share of the weight must be for a motion
	Participation uint32   // percent, at most 75: institutions of at least this share must have voted
	Motions       uint32   // open ones that an institution proposed, 1 to 16
	Lifetime      int64    // ms until a motion expires, at most and by default; MinMotionLife to MaxMotionLife
	Window        int64    // ms between decision and execution in which a regulator may object, where the chain has one; at most MaxLock
	Weights       []Weight // sorted by institution; one that is not listed has the weight 1
}

// Weight is how much an institution's vote counts.
type Weight struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Weight      uint32 // 1 to MaxSettingWeight
}

// DefaultSettings are those of a chain that did not change them, and whose genesis has no veto window of its own.
func DefaultSettings() Settings {
	return Settings{Version: ledger.Version, Approval: minApproval, Motions: 4, Lifetime: 30 * 86400000, Window: DefaultVeto, Weights: []Weight{}}
}

// ReadSettings returns the settings in force.
func ReadSettings(r Reader) (Settings, error) {
	s, found, err := read[Settings](r, settingsKey())
	if err == nil && !found {
		s = DefaultSettings()
	}
	return s, err
}

// weigh returns the weights of institutions, in their order.
func (s *Settings) weigh(institutions []string) []Weight {
	weights := make([]Weight, len(institutions))
	for i, name := range institutions {
		weights[i] = Weight{Institution: name, Weight: 1}
		if at, found := slices.BinarySearchFunc(s.Weights, name, func(w Weight, name string) int { return strings.Compare(w.Institution, name) }); found {
			weights[i].Weight = s.Weights[at].Weight
		}
	}
	return weights
}

// ReadRegulators returns the accounts with the role regulator, sorted.
func ReadRegulators(r Reader) ([]ledger.Address, error) {
	all, _, err := read[[]ledger.Address](r, regulatorsKey())
	return all, err
}

func settingsKey() []byte   { return key(GovernanceAddress, []byte("s")) }
func regulatorsKey() []byte { return key(GovernanceAddress, []byte("g")) }

func newGovernance() Contract {
	id := ledger.Field{Name: "id", Type: "u64"}
	list := func(name string, t ledger.Type) ledger.Field {
		return ledger.Field{Name: name, Type: "list<" + t + ">"}
	}
	u32 := func(name string) ledger.Field { return ledger.Field{Name: name, Type: "u32"} }
	i64 := func(name string) ledger.Field { return ledger.Field{Name: name, Type: "i64"} }
	var rules []ledger.Variant
	for _, r := range ruleNames() {
		rules = append(rules, ledger.Variant{Name: r})
	}
	version, number, height := ledger.Field{Name: "version", Type: "u16"}, ledger.Field{Name: "number", Type: "u64"}, ledger.Field{Name: "height", Type: "u64"}
	institution, account := ledger.Field{Name: "institution", Type: "str"}, ledger.Field{Name: "account", Type: "addr"}
	contract, method := ledger.Field{Name: "contract", Type: "addr"}, ledger.Field{Name: "method", Type: "str"}
	policy, node := ledger.Field{Name: "policy", Type: "Policy"}, ledger.Field{Name: "node", Type: "bytes"}
	title, expires := ledger.Field{Name: "title", Type: "str"}, i64("expires")
	settings := []ledger.Field{u32("approval"), u32("participation"), u32("motions"), i64("lifetime"), i64("window"), list("weights", "Weight")}
	reform := ledger.Field{Name: "reform", Type: "opt<Reform>"}
	committee, regulators := byAny(identity.Committee), byAny(identity.Regulator)
	rulesChange := Policy{Rule: RuleMajority, Regulator: true}
	return &system{
		address: GovernanceAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"propose":      query(propose),
			"vote":         command(vote),
			"consent":      command(consent),
			"veto":         command(veto),
			"withdraw":     command(withdraw),
			"ready":        command(ready),
			"execute":      command(execute),
			"activate":     command(activate),
			"set_policy":   command(setPolicy),
			"set_settings": command(setSettings),
			"motions":      query(motions),
			"settings":     query(func(env Env, _ none) (Settings, error) { return ReadSettings(env) }),
			"policies":     query(policies),
			"policy":       query(policyFor),
			"regulators":   query(func(env Env, _ none) ([]ledger.Address, error) { return ReadRegulators(env) }),
		},
		policies: map[string]Policy{
			"propose":      committee,
			"vote":         committee,
			"consent":      regulators,
			"veto":         regulators,
			"withdraw":     committee,
			"ready":        bySelf(),
			"execute":      committee,
			"activate":     committee,
			"set_policy":   rulesChange,
			"set_settings": rulesChange,
		},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "governance", Version: "1", Profile: "strict",
			Doc: "Motions, by which the institutions that have members decide what the chain does in nobody's name, how they decide, and who may call what. " +
				"Each institution votes by accounts of its own with the role committee. A motion calls methods with this contract as the caller; all of them take effect, or none.",
			Types: append(reformTypes(), []ledger.TypeDef{
				policyFaultType(),
				{Name: "Rule", Variants: rules},
				{Name: "Policy", Fields: []ledger.Field{
					{Name: "rule", Type: "Rule"},
					u32("n"), u32("of"), list("institutions", "str"), list("roles", "str"),
					{Name: "regulator", Type: "bool"},
					u32("keys"), i64("lock"),
					{Name: "blocks", Type: "u64"},
				}},
				{Name: "PolicyRow", Fields: []ledger.Field{version, number, height, policy}},
				{Name: "ListedPolicy", Fields: []ledger.Field{contract, method, {Name: "row", Type: "PolicyRow"}}},
				{Name: "Weight", Fields: []ledger.Field{institution, u32("weight")}},
				{Name: "Settings", Fields: append([]ledger.Field{version, number}, settings...)},
				{Name: "Action", Fields: []ledger.Field{{Name: "to", Type: "addr"}, method, {Name: "args", Type: "bytes"}}},
				{Name: "Vote", Fields: []ledger.Field{institution, account, {Name: "for", Type: "bool"}}},
				{Name: "Readiness", Fields: []ledger.Field{node, {Name: "signature", Type: "bytes"}}},
				{Name: "Motion", Fields: []ledger.Field{
					version,
					{Name: "epoch", Type: "u64"},
					height,
					{Name: "block", Type: "bytes"},
					title,
					{Name: "proposer", Type: "str"},
					list("actions", "Action"),
					reform,
					expires,
					list("voters", "Weight"), list("needs", "Policy"),
					u32("approval"), u32("participation"),
					i64("window"),
					list("votes", "Vote"),
					{Name: "consent", Type: "opt<addr>"},
					list("ready", "Readiness"),
					i64("decided"),
					{Name: "decided_at", Type: "u64"},
					number,
				}},
				{Name: "ListedMotion", Fields: []ledger.Field{id, {Name: "row", Type: "Motion"}}},
			}...),
			Methods: []ledger.Method{
				{
					Name: "propose", Kind: ledger.MethodTx, Args: []ledger.Field{title, list("actions", "Action"), reform, expires}, Return: "u64",
					Doc: "Makes a motion, for which the caller's institution votes by that, and returns its id. Who votes, and what the policies take, is as of now. " +
						"It expires at the block time expires, in Unix ms; 0: as late as the settings allow.",
				},
				{
					Name: "vote", Kind: ledger.MethodTx, Args: []ledger.Field{id, {Name: "for", Type: "bool"}},
					Doc: "Votes for the caller's institution, which may change its vote until the motion is decided. It is decided as soon as the votes that are missing cannot change it.",
				},
				{Name: "consent", Kind: ledger.MethodTx, Args: []ledger.Field{id}, Doc: "Consents to a motion as a regulator."},
				{Name: "veto", Kind: ledger.MethodTx, Args: []ledger.Field{id}, Doc: "Ends a motion as a regulator, at any time before it is carried out."},
				{
					Name: "withdraw", Kind: ledger.MethodTx, Args: []ledger.Field{id},
					Doc: "Ends a motion that the caller's institution proposed, or takes its vote on another back as long as that is not decided.",
				},
				{
					Name: "ready", Kind: ledger.MethodTx, Args: []ledger.Field{id, node, {Name: "signature", Type: "bytes"}},
					Doc: "Brings the statement of a node that a motion adds that it has the block which the motion names. Anybody may bring it.",
				},
				{Name: "execute", Kind: ledger.MethodTx, Args: []ledger.Field{id}, Doc: "Carries out a motion without a reform."},
				{
					Name: "activate", Kind: ledger.MethodTx, Args: []ledger.Field{id},
					Doc: "Carries out a motion with a reform, and ends the epoch with the block. Only a transaction may call it, directly.",
				},
				{
					Name: "set_policy", Kind: ledger.MethodTx, Args: []ledger.Field{contract, method, {Name: "policy", Type: "opt<Policy>"}},
					Doc: "Says what a call of a method takes; nothing: what this release says, or the contract. By motion only. Code that replaces a contract's keeps its policies and the methods that they are for; methods that it adds have none until one is set.",
				},
				{Name: "set_settings", Kind: ledger.MethodTx, Args: settings, Doc: "Says how motions are decided. By motion only."},
				{
					Name: "motions", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "u64"}}, Return: "list<ListedMotion>",
					Doc: "Returns up to 64 motions in order, beginning after one, those that are void or expired among them.",
				},
				{Name: "settings", Kind: ledger.MethodView, Return: "Settings"},
				{
					Name: "policies", Kind: ledger.MethodView, Args: []ledger.Field{contract, method}, Return: "list<ListedPolicy>",
					Doc: "Returns up to 64 policies that were set, in order of contract and method, beginning after those.",
				},
				{
					Name: "policy", Kind: ledger.MethodView, Args: []ledger.Field{contract, method}, Return: "opt<Policy>",
					Doc: "Returns what a call of a method takes; nothing: the contract alone decides.",
				},
				{Name: "regulators", Kind: ledger.MethodView, Return: "list<addr>"},
			},
			Events: []ledger.EventDef{
				{Topic: "proposed", Fields: []ledger.Field{id, institution, title}, Indexed: []string{"id"}},
				{Topic: "voted", Fields: []ledger.Field{id, institution, {Name: "for", Type: "bool"}}, Indexed: []string{"id"}},
				{Topic: "consented", Fields: []ledger.Field{id, account}, Indexed: []string{"id"}},
				{Topic: "carried", Fields: []ledger.Field{id}, Indexed: []string{"id"}},
				{Topic: "lost", Fields: []ledger.Field{id}, Indexed: []string{"id"}},
				{Topic: "vetoed", Fields: []ledger.Field{id, account}, Indexed: []string{"id"}},
				{Topic: "withdrawn", Fields: []ledger.Field{id, institution}, Indexed: []string{"id"}},
				{Topic: "ready", Fields: []ledger.Field{id, node}, Indexed: []string{"id"}},
				{Topic: "executed", Fields: []ledger.Field{id, account}, Indexed: []string{"id"}},
				{Topic: "policy_set", Fields: []ledger.Field{contract, method, number, {Name: "policy", Type: "opt<Policy>"}}, Indexed: []string{"contract"}},
				{Topic: "settings_set", Fields: []ledger.Field{number}},
			},
			Errors: abortDefs(AbortArguments, AbortKey, AbortMissing, AbortInstitution, AbortUnchanged, AbortMotion, AbortReform, AbortSupport, AbortLocked, AbortAction, AbortPolicy, AbortStale),
			State: []ledger.StateDef{
				{Prefix: "c", Value: "u64", Doc: "the last id of a motion"},
				{Prefix: "g", Value: "list<addr>", Doc: "accounts with the role regulator"},
				{Prefix: "m", Key: []ledger.Type{"u64"}, Value: "Motion"},
				{Prefix: "p", Key: []ledger.Type{"str"}, Value: "list<u64>", Doc: "motions that an institution proposed"},
				{Prefix: "r", Key: []ledger.Type{"addr", "str"}, Value: "PolicyRow", Doc: "contract and method"},
				{Prefix: "s", Value: "Settings"},
			},
		},
	}
}

// MinInstitutions is how many institutions with members a group has at least in which none decides alone and none can stop the others.
const MinInstitutions = 3

// Toy says why a group of members is one to try things out with, and no consortium, or returns nothing.
func Toy(members []ledger.Member) string {
	names := MemberInstitutions(members)
	if len(names) >= MinInstitutions {
		return ""
	}
	return fmt.Sprintf("THIS CHAIN IS A TOY: its members are of %d institutions (%s), so one of them decides or stops everything; a consortium has at least %d", len(names), strings.Join(names, ", "), MinInstitutions)
}

// AtMercy says why a single key of a regulator stops a group, or returns nothing. Regulators are all accounts of the chain with that role. Who has the key vetoes every
// motion, also the one that would take it from him; another regulator of the institution could take the role from the account, and nobody else.
func AtMercy(regulators []Account) string {
	var of []string
	for i := range regulators {
		a := &regulators[i]
		others := slices.ContainsFunc(slices.Delete(slices.Clone(regulators), i, i+1), func(o Account) bool { return o.Institution == a.Institution })
		if !others && a.fewest() == 1 {
			of = append(of, a.Institution)
		}
	}
	if len(of) == 0 {
		return ""
	}
	slices.Sort(of)
	return fmt.Sprintf("THIS CHAIN IS AT THE MERCY OF ONE KEY: the only regulator of %s acts with a single one, and who steals it vetoes every motion, also that to recover the account", strings.Join(of, ", and that of "))
}

// governable says why the institutions of members could not carry out motions about the chain itself, or returns nil.
func governable(r Reader, institutions []string) error {
	s, err := ReadSettings(r)
	if err != nil {
		return err
	}
	var able, all, most uint64
	for _, w := range s.weigh(institutions) {
		most = max(most, uint64(w.Weight))
		voices, err := Voices(r, w.Institution)
		if err != nil {
			return err
		}
		if all += uint64(w.Weight); voices > 0 {
			able += uint64(w.Weight)
		}
	}
	if 100*able <= uint64(s.Approval)*all || 100*able < uint64(s.Participation)*all {
		return refused(reformNoCommittee, able, all)
	}
	if len(institutions) > 1 && 2*most > all {
		return refused(reformOneDecides, most, all)
	}
	for _, m := range vital() {
		row, found, err := ReadPolicy(r, m.contract, m.method)
		if err != nil {
			return err
		}
		if found && row.Policy.Rule == RuleShare && able*uint64(row.Policy.Of) < uint64(row.Policy.N)*all {
			return refused(reformNoShare, able, all, m.method, row.Policy.N, row.Policy.Of)
		}
	}
	params, err := ReadParams(r)
	if err != nil {
		return err
	}
	return inTime(r, &s, &params)
}

// inTime says why a motion about the chain itself could not be carried out before it expires under parameters, or returns nil: half of its life is for
// its locks and the regulator's window. A block of a lock counts for as long as members wait for one before they change the view.
func inTime(r Reader, s *Settings, params *ledger.Params) error {
	for _, m := range vital() {
		row, found, err := ReadPolicy(r, m.contract, m.method)
		if err != nil {
			return err
		}
		lock := row.Policy.Lock + int64(row.Policy.Blocks)*params.ViewTimeout //nolint:gosec // at most maxVitalBlocks
		if found && 2*(lock+s.Window) > s.Lifetime {
			return refused(reformNoTime, m.method, lock, s.Window, s.Lifetime)
		}
	}
	return nil
}

// seated keeps the list of regulators, when an account gets a role or loses it.
func seated(env Env, address ledger.Address, role string, has bool) error {
	if identity.Role(role) != identity.Regulator {
		return nil
	}
	all, err := ReadRegulators(env)
	if err != nil {
		return err
	}
	at, found := slices.BinarySearchFunc(all, address, compareAddresses)
	switch {
	case found == has:
		return nil
	case has && len(all) >= MaxRegulators:
		return aborted(AbortRole, []any{role}, "the chain has %d regulators, at most %d", len(all), MaxRegulators)
	case has:
		all = slices.Insert(all, at, address)
	default:
		all = slices.Delete(all, at, at+1)
	}
	return write(env, regulatorsKey(), all)
}

func compareAddresses(a, b ledger.Address) int { return bytes.Compare(a[:], b[:]) }

// vitalMethod is a method by which the group changes itself or its rules. Its policy must stay within what the
// institutions can reach.
type vitalMethod struct {
	contract ledger.Address
	method   string
}

func vital() []vitalMethod {
	return []vitalMethod{{GovernanceAddress, "set_policy"}, {GovernanceAddress, "set_settings"}, {MembersAddress, "reform"}}
}

// MethodArgs name a method.
type MethodArgs struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Method   string
}

// ListedPolicy is a policy that was set, with its method.
type ListedPolicy struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Method   string
	Row      PolicyRow
}

func policies(env Env, a MethodArgs) ([]ListedPolicy, error) {
	if len(a.Method) > maxMethodName {
		return nil, aborted(AbortArguments, nil, "a method of %d bytes, at most %d", len(a.Method), maxMethodName)
	}
	return page(env, key(GovernanceAddress, []byte("r")), PolicyStateKey(a.Contract, a.Method), maxFound, func(id, value []byte) (p ListedPolicy, err error) {
		if len(id) < len(p.Contract) {
			return p, fmt.Errorf("an id of %d bytes", len(id))
		}
		p.Contract, p.Method = ledger.Address(id[:len(p.Contract)]), string(id[len(p.Contract):])
		err = ledger.Unmarshal(value, &p.Row)
		return p, err
	})
}

func policyFor(env Env, a MethodArgs) (*Policy, error) {
	if len(a.Method) > maxMethodName {
		return nil, aborted(AbortArguments, nil, "a method of %d bytes, at most %d", len(a.Method), maxMethodName)
	}
	p, found, err := policyInForce(env, a.Contract, a.Method)
	if err != nil || !found {
		return nil, err
	}
	return &p, nil
}

// policyInForce returns what a method takes, and false where its contract alone decides.
func policyInForce(env Env, contract ledger.Address, method string) (Policy, bool, error) {
	row, found, err := ReadPolicy(env, contract, method)
	if err != nil || found {
		return row.Policy, found, err
	}
	return defaultPolicy(env, contract, method)
}

// SetPolicyArgs are the arguments of the governance method set_policy.
type SetPolicyArgs struct {
	_        struct{} `cbor:",toarray"`
	Contract ledger.Address
	Method   string
	Policy   *Policy // nil: the row goes
}

func setPolicy(env Env, a SetPolicyArgs) error {
	if !byMotion(env) {
		return denied(DeniedMotion, "policies are set by motion: `fondaco motion propose governance set_policy CONTRACT METHOD POLICY` makes one")
	}
	if a.Method == "" || len(a.Method) > maxMethodName {
		return aborted(AbortArguments, nil, "a method of %d bytes, want 1 to %d", len(a.Method), maxMethodName)
	}
	before, _, err := policyInForce(env, a.Contract, a.Method)
	if err != nil {
		return err
	}
	_, there, err := ReadPolicy(env, a.Contract, a.Method)
	if err != nil {
		return err
	}
	if a.Policy != nil {
		if err := a.Policy.check(env); err != nil {
			return err
		}
		if IsSystem(a.Contract) {
			if err := checkSystemPolicy(env, a.Contract, a.Method, a.Policy); err != nil {
				return err
			}
		} else if err := changesSomething(env, a.Contract, a.Method); err != nil {
			return err
		}
	}
	switch {
	case a.Policy == nil && !there:
		return aborted(AbortUnchanged, nil, "no policy was set for %s of %s", a.Method, a.Contract)
	case a.Policy != nil && there && equalPolicy(&before, a.Policy):
		return aborted(AbortUnchanged, nil, "the policy of %s of %s is that already: %s", a.Method, a.Contract, before)
	}
	s, err := ReadSettings(env)
	if err != nil {
		return err
	}
	s.Number++
	if err := write(env, settingsKey(), &s); err != nil {
		return err
	}
	if a.Policy == nil {
		err = env.Delete(PolicyStateKey(a.Contract, a.Method))
	} else {
		err = write(env, PolicyStateKey(a.Contract, a.Method), &PolicyRow{Version: ledger.Version, Number: s.Number, Height: env.Order().Height, Policy: *a.Policy})
	}
	if err != nil {
		return err
	}
	if err := markPolicies(env, a.Contract); err != nil {
		return err
	}
	if err := stillGoverned(env); err != nil {
		return err
	}
	return emit(env, "policy_set", a.Contract, a.Method, s.Number, a.Policy)
}

// changesSomething refuses a policy for a method that the schema of a deployed contract, if it has one, does not have.
func changesSomething(env Env, contract ledger.Address, method string) error {
	d, found, err := ReadContract(env, contract)
	if err != nil || !found { // which markPolicies refuses
		return err
	}
	schema, err := chargedSchema(env, d.Code)
	if err != nil || schema == nil {
		return err
	}
	if m := schema.Method(method); m == nil || m.Kind != ledger.MethodTx {
		return unsound(policyMethod, contract, method)
	}
	return nil
}

// stillGoverned refuses what would keep the group from changing itself.
func stillGoverned(env Env) error {
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	return governable(env, MemberInstitutions(record.Members))
}

// markPolicies notes at a contract's deployment whether there are policies for it, so that calls of those without pay for none.
func markPolicies(env Env, contract ledger.Address) error {
	if IsSystem(contract) {
		return nil
	}
	d, found, err := ReadContract(env, contract)
	if err != nil {
		return err
	}
	if !found {
		return aborted(AbortMissing, []any{contract}, "no contract %s", contract)
	}
	flags := d.Flags &^ ContractPolicies
	if err := env.Range(key(GovernanceAddress, []byte("r"), contract[:]), nil, 1, func(_, _ []byte) error {
		flags |= ContractPolicies
		return nil
	}); err != nil {
		return err
	}
	if flags == d.Flags {
		return nil
	}
	d.Flags = flags
	return write(env, DeploymentStateKey(contract), &d)
}

func equalPolicy(a, b *Policy) bool {
	x, errX := ledger.Marshal(a)
	y, errY := ledger.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// check refuses a policy that makes no sense.
func (p *Policy) check(r Reader) error {
	switch {
	case int(p.Rule) >= len(ruleNames()):
		return unsound(policyRule, p.Rule)
	case p.Rule == RuleCount && (p.N == 0 || p.N > ledger.MaxMembers || p.Of != 0):
		return unsound(policyCount, p.N, p.Of, ledger.MaxMembers)
	case p.Rule == RuleShare && (p.N == 0 || p.N > p.Of || p.Of > 1_000):
		return unsound(policyShare, p.N, p.Of)
	case p.Rule != RuleCount && p.Rule != RuleShare && (p.N != 0 || p.Of != 0):
		return unsound(policyNumbers, p.Rule, p.N, p.Of)
	case p.Rule != RuleAny && len(p.Roles) > 0:
		return unsound(policyRoles, p.Rule)
	case p.Rule == RuleForbidden && (len(p.Institutions) > 0 || p.Regulator || p.Keys > 0 || p.Lock != 0 || p.Blocks > 0):
		return unsound(policyForbidden)
	case p.Keys > MaxAccountKeys:
		return unsound(policyKeys, p.Keys, MaxAccountKeys)
	case p.Lock < 0 || p.Lock > MaxLock || p.Blocks > MaxPolicyBlocks:
		return unsound(policyLock, p.Lock, p.Blocks, MaxLock, MaxPolicyBlocks)
	case len(p.Institutions) > ledger.MaxMembers:
		return unsound(policyInstitutionCount, len(p.Institutions), ledger.MaxMembers)
	case p.Rule == RuleCount && len(p.Institutions) > 0 && int(p.N) > len(p.Institutions):
		return unsound(policyCountOf, p.N, len(p.Institutions))
	}
	for i, name := range p.Institutions {
		if len(name) > MaxInstitutionName {
			return unsound(policyInstitutionName, len(name), MaxInstitutionName)
		}
		if i > 0 && p.Institutions[i-1] >= name {
			return unsound(policyInstitutionOrder, name)
		}
		if _, found, err := ReadInstitution(r, name); err != nil {
			return err
		} else if !found {
			return aborted(AbortInstitution, []any{name}, "there is no institution %q", name)
		}
	}
	if err := checkRoles(p.Roles); err != nil {
		return unsoundAs(err, policyRoleList)
	}
	return nil
}

// checkSystemPolicy refuses a policy for a method of a system contract that its method would not keep to, or by which the
// group could lose the way to change its rules again.
func checkSystemPolicy(env Env, contract ledger.Address, method string, p *Policy) error {
	was, _, err := defaultPolicy(env, contract, method)
	if err != nil {
		return err
	}
	if was.Rule == RuleForbidden {
		return unsound(policyMethod, contract, method)
	}
	if slices.Contains(vital(), vitalMethod{contract, method}) {
		switch {
		case p.Rule != RuleMajority && (p.Rule != RuleShare || 4*p.N > 3*p.Of):
			return unsound(policyVitalRule, method)
		case p.Blocks > maxVitalBlocks:
			return unsound(policyVitalBlocks, method, p.Blocks, maxVitalBlocks)
		case len(p.Institutions) > 0 || p.Keys > 0:
			return unsound(policyVitalConditions, method)
		case was.Regulator && !p.Regulator:
			return unsound(policyVitalConsent, method)
		}
		return nil
	}
	switch {
	case contract == GovernanceAddress || contract == MembersAddress && method == "recover":
		return unsound(policyFixed, method)
	case !was.direct() && (p.Rule == RuleSelf || p.Rule == RuleAny):
		return unsound(policyMotionsOnly, method)
	case p.Rule != RuleForbidden && !p.direct() && slices.Contains(systemAt(contract).own, method):
		return unsound(policyOwnAccount, method)
	}
	for _, r := range p.Roles {
		if len(was.Roles) > 0 && !slices.Contains(was.Roles, r) {
			return unsound(policyRoleInVain, method, was.Roles, r)
		}
	}
	return nil
}

// SetSettingsArgs are the arguments of the governance method set_settings. The fields are those of Settings.
type SetSettingsArgs struct {
	_             struct{} `cbor:",toarray"`
	Approval      uint32
	Participation uint32
	Motions       uint32
	Lifetime      int64
	Window        int64
	Weights       []Weight
}

func setSettings(env Env, a SetSettingsArgs) error {
	if !byMotion(env) {
		return denied(DeniedMotion, "settings are changed by motion: `fondaco motion propose governance set_settings …` makes one")
	}
	before, err := ReadSettings(env)
	if err != nil {
		return err
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	after := Settings{
		Version: ledger.Version, Number: before.Number, Approval: a.Approval, Participation: a.Participation, Motions: a.Motions,
		Lifetime: a.Lifetime, Window: a.Window, Weights: a.Weights,
	}
	if err := after.check(env, MemberInstitutions(record.Members)); err != nil {
		return err
	}
	x, err := ledger.Marshal(&before)
	if err != nil {
		return err
	}
	if y, err := ledger.Marshal(&after); err != nil || bytes.Equal(x, y) {
		return aborted(AbortUnchanged, nil, "the settings are that already")
	}
	after.Number++
	if err := write(env, settingsKey(), &after); err != nil {
		return err
	}
	if err := stillGoverned(env); err != nil {
		return err
	}
	return emit(env, "settings_set", after.Number)
}

// check refuses settings under which a group of members of these institutions could not be governed, or by one alone.
func (s *Settings) check(r Reader, institutions []string) error {
	switch {
	case s.Approval < minApproval || s.Approval > maxThreshold:
		return unsound(settingsApproval, s.Approval, minApproval, maxThreshold)
	case s.Participation > maxThreshold:
		return unsound(settingsParticipation, s.Participation, maxThreshold)
	case s.Motions == 0 || s.Motions > maxOpenMotions:
		return unsound(settingsMotions, s.Motions, maxOpenMotions)
	case s.Lifetime < MinMotionLife || s.Lifetime > MaxMotionLife:
		return unsound(settingsLifetime, s.Lifetime, MinMotionLife, MaxMotionLife)
	case s.Window < 0 || s.Window > MaxLock || 2*s.Window > s.Lifetime:
		return unsound(settingsWindow, s.Window, MaxLock, s.Lifetime)
	case len(s.Weights) > ledger.MaxMembers:
		return unsound(settingsWeightCount, len(s.Weights), ledger.MaxMembers)
	}
	for i, w := range s.Weights {
		if len(w.Institution) > MaxInstitutionName {
			return unsound(policyInstitutionName, len(w.Institution), MaxInstitutionName)
		}
		if i > 0 && s.Weights[i-1].Institution >= w.Institution {
			return unsound(settingsWeightOrder, w.Institution)
		}
		if w.Weight == 0 || w.Weight > MaxSettingWeight {
			return unsound(settingsWeight, w.Weight, w.Institution, MaxSettingWeight)
		}
		if _, found, err := ReadInstitution(r, w.Institution); err != nil {
			return err
		} else if !found {
			return aborted(AbortInstitution, []any{w.Institution}, "there is no institution %q", w.Institution)
		}
	}
	var all, most uint32
	for _, w := range s.weigh(institutions) {
		all, most = all+w.Weight, max(most, w.Weight)
	}
	if len(institutions) > 1 && 2*most > all {
		return unsound(settingsOneDecides, most, all)
	}
	return nil
}
