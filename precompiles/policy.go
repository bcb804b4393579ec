package precompiles

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Rule says who decides about calls of a method.
type Rule uint8

// The rules. With those up to RuleAny an account calls the method itself; with the others, and with any that wants a
// regulator's consent or a lock, only a motion does.
const (
	RuleForbidden Rule = 0 // nobody calls it, and no motion does
	RuleSelf      Rule = 1 // everybody; the method looks at whose things it touches
	RuleAny       Rule = 2 // an account that has one of the roles, of one of the institutions
	RuleCount     Rule = 3 // N institutions
	RuleMajority  Rule = 4 // institutions of more than the weight that the settings want
	RuleShare     Rule = 5 // institutions of at least N/Of of the weight
	RuleAll       Rule = 6 // all institutions
)

// String returns the rule in the words of the schema.
func (r Rule) String() string {
	if names := ruleNames(); int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("rule(%d)", uint8(r))
}

func ruleNames() []string {
	return []string{"forbidden", "self", "any", "count", "majority", "share", "all"}
}

// Policy says what a call of a method takes. The zero value forbids it.
//
// Methods that act for the account that calls them have no policy that wants a motion ([AbortPolicy]).
//
// A method of a system contract has one in this release (Default); a row of the governance contract takes its place. A
// method of another contract has none until there is a row, and there is none for a method that new code adds: who must not add
// one without the committee gets no code onto the chain without it ([DeployReview], or a policy for contracts.replace, by which a motion then brings modules of up to [MaxActionBytes] in the owner's name). Code that lacks a method with a row
// does not replace a contract's ([AbortGoverned]). Policies are about what changes the chain: views are called
// by everybody. They come before what the method itself checks, which goes on in any case, but for the roles of who calls
// when a motion does.
type Policy struct {
	_            struct{} `cbor:",toarray"`
	Rule         Rule
	N            uint32   // institutions of RuleCount, numerator of RuleShare; else 0
	Of           uint32   // denominator of RuleShare; else 0
	Institutions []string // that count, sorted; none: all
	Roles        []string // with RuleAny: one of which the account has, sorted; none: every account
	Regulator    bool     // a regulator must consent, where the chain has one
	// Keys is how many keys must sign, at most MaxAccountKeys; of a motion, each vote on it. Those count that are bound to the account that calls or votes, or to
	// a co-signer of it ([Cosigner]) that is of the same institution, and neither frozen nor reported as leaked: two officers with an
	// account each are as good as one account with two keys. Each key counts as one, whatever its weight there is and the co-signer's threshold. Of calls that a contract makes, none do.
	Keys   uint32
	Lock   int64  // ms of block time between the decision on a motion and its execution
	Blocks uint64 // blocks between them
}

// direct reports whether accounts call the method, rather than motions alone.
func (p *Policy) direct() bool {
	return (p.Rule == RuleSelf || p.Rule == RuleAny) && !p.Regulator && p.Lock == 0 && p.Blocks == 0
}

// String says in words what a call takes.
func (p Policy) String() string {
	var s string
	switch p.Rule {
	case RuleAny:
		s = "any account"
		if len(p.Roles) > 0 {
			s = "any " + strings.Join(p.Roles, " or ")
		}
	case RuleCount:
		s = fmt.Sprintf("%d institutions", p.N)
	case RuleShare:
		s = fmt.Sprintf("%d/%d of the institutions' weight", p.N, p.Of)
	default:
		s = p.Rule.String()
	}
	if len(p.Institutions) > 0 {
		s += " of " + strings.Join(p.Institutions, ", ")
	}
	if p.Regulator {
		s += ", with a regulator's consent"
	}
	if p.Keys > 1 {
		s += fmt.Sprintf(", %d keys sign", p.Keys)
	}
	if p.Lock > 0 {
		s += fmt.Sprintf(", not before %d ms", p.Lock)
	}
	if p.Blocks > 0 {
		s += fmt.Sprintf(", not before %d blocks", p.Blocks)
	}
	return s
}

// The policies that methods of system contracts have in this release, in a table next to each contract's schema.

func bySelf() Policy     { return Policy{Rule: RuleSelf} }
func byMajority() Policy { return Policy{Rule: RuleMajority} }

func byAny(roles ...identity.Role) Policy {
	p := Policy{Rule: RuleAny}
	for _, r := range roles {
		p.Roles = append(p.Roles, string(r))
	}
	slices.Sort(p.Roles)
	return p
}

// PolicyRow is a row of the table of policies, keyed by contract and method.
type PolicyRow struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Number  uint64   // of the change of policies that made it, from 1
	Height  ledger.Height
	Policy  Policy
}

// DefaultPolicy returns what calls of a method take as long as there is no row for it, and false for methods of contracts
// that are no system contracts, where the contract alone decides. Methods that a system contract does not have are forbidden.
func DefaultPolicy(contract ledger.Address, method string) (Policy, bool) {
	if !IsSystem(contract) {
		return Policy{}, false
	}
	if s := systemAt(contract); s != nil {
		return s.policies[method], true
	}
	return Policy{}, true
}

// defaultPolicy is DefaultPolicy in the block of env, to which methods of features that do not hold yet are none.
func defaultPolicy(env Env, contract ledger.Address, method string) (Policy, bool, error) {
	holds, err := methodHolds(env, contract, method)
	if err != nil || !holds {
		return Policy{}, true, err
	}
	p, system := DefaultPolicy(contract, method)
	return p, system, nil
}

// ReadPolicy returns the row of a method.
func ReadPolicy(r Reader, contract ledger.Address, method string) (row PolicyRow, found bool, err error) {
	return read[PolicyRow](r, PolicyStateKey(contract, method))
}

// PolicyStateKey returns the state key of the policy of a method.
func PolicyStateKey(contract ledger.Address, method string) []byte {
	return key(GovernanceAddress, []byte("r"), contract[:], []byte(method))
}

// byMotion reports whether a motion that was carried makes the call: what its institutions agreed on rests on no role of an account.
func byMotion(env Env) bool { return env.Caller() == GovernanceAddress }

// permit checks that the caller may call a method of a system contract that changes something.
func (s *system) permit(env Env, method string) error {
	if byMotion(env) { // which has what its policies took
		return nil
	}
	policy := s.policies[method]
	row, found, err := ReadPolicy(env, s.address, method)
	if err != nil {
		return err
	}
	if found {
		policy = row.Policy
	}
	return policy.Permit(env, s.schema.Name+"."+method, env.Caller() == env.Origin(), env.Signers(), env.Order().UnixMilli, func() (*Account, error) {
		account, err := callerAccount(env, s.address)
		return &account, err
	})
}

// Permit says why an account may not call a method itself at a state and a block time in Unix ms, or returns nil. The signers are those of the
// transaction, of which direct says that the account is its sender. The account is asked for when it matters; nil: there is none.
func (p *Policy) Permit(r Reader, method string, direct bool, signers []ledger.Key, unixMilli int64, caller func() (*Account, error)) error {
	switch {
	case p.Rule == RuleForbidden:
		return denied(DeniedRole, "the chain's policy lets nobody call %s", method)
	case !p.direct():
		return denied(DeniedMotion, "%s takes a motion (%s): make one with `fondaco motion propose CONTRACT METHOD ARG…`", method, p)
	case len(p.Roles)+len(p.Institutions) == 0 && p.Keys == 0:
		return nil
	}
	account, err := caller()
	if err != nil {
		return err
	}
	switch {
	case account == nil:
		return denied(DeniedAccount, "%s is called by accounts: %s", method, p)
	case len(p.Roles) > 0 && !account.HasAny(p.Roles...):
		return denied(DeniedRole, "%s takes one of the roles %s", method, strings.Join(p.Roles, ", "))
	case len(p.Institutions) > 0 && !slices.Contains(p.Institutions, account.Institution):
		return denied(DeniedInstitution, "%s is called by accounts of %s only", method, strings.Join(p.Institutions, ", "))
	case p.Keys > 0:
		return account.checkKeys(r, method, p.Keys, direct, signers, unixMilli)
	}
	return nil
}

// checkKeys says that too few keys signed the transaction for what the words tell (see [Policy]), or returns nil. direct says that the account is its sender.
func (a *Account) checkKeys(r Reader, what string, want uint32, direct bool, signers []ledger.Key, unixMilli int64) error {
	var signed []ledger.Key
	if direct {
		var err error
		if signed, err = a.institutionSigned(r, signers, unixMilli); err != nil {
			return err
		}
	}
	if len(signed) < int(want) {
		return denied(DeniedThreshold, "%s takes the signatures of %d keys of the account, or of co-signers of its institution, and has %d: sign with more of them", what, want, len(signed))
	}
	return nil
}

// institutionSigned returns those of the signers that are keys of the account, or of its co-signers that are of its institution and neither frozen nor
// reported as leaked. A key that was rotated is left out where its successor signed, too; one that is bound to several accounts is there once.
func (a *Account) institutionSigned(r Reader, signers []ledger.Key, unixMilli int64) (signed []ledger.Key, err error) {
	add := func(of *Account) {
		for i := range of.Keys {
			k := &of.Keys[i]
			others := of != a && a.key(k.Algorithm, k.Key) != nil // it counts for the account that sends, if at all
			if !others && k.validAt(unixMilli) && !of.succeeded(k, signers) && slices.ContainsFunc(signers, k.is) && !slices.ContainsFunc(signed, k.is) {
				signed = append(signed, k.public())
			}
		}
	}
	if add(a); a.Lifeline == nil || len(signed) == len(signers) {
		return signed, nil
	}
	for i := range a.Lifeline.Cosigners {
		c := &a.Lifeline.Cosigners[i]
		if unixMilli > c.Until {
			continue
		}
		other, found, err := ReadAccount(r, c.Account)
		if err != nil {
			return nil, err
		}
		if !found || other.Institution != a.Institution || other.Leaked() {
			continue
		}
		err = other.checkFrozen(r, c.Account, unixMilli)
		if err == nil {
			add(&other)
		} else if !isRefusal(err) {
			return nil, err
		}
	}
	return signed, nil
}
