package precompiles

import (
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// What is wrong with a reform, a policy or settings is in the data of an abort as a number and typed values, so that all
// releases make the same receipt of it. The words are in no receipt: a later release may find better ones.

// fault is a variant of the enum ReformFault or PolicyFault. Its number, fields and their types are stable.
type fault struct {
	name   string
	fields string // names and types, such as "have u32, most u32"
	words  string // a format of the values of the fields, in their order
}

// reformFault says why the group would not be sound after a reform, or could not be governed. New ones go to the end.
type reformFault uint8

const (
	reformListLength reformFault = iota
	reformReasonLength
	reformTooManyAtOnce
	reformInstitutionName
	reformInstitutionTaken
	reformInstitutionKey
	reformNodeAlgorithm
	reformNodeKey
	reformNodeKnown
	reformNodeTwice
	reformNodeAddress
	reformNodeUnknown
	reformNodeStatus
	reformMemberCount
	reformFewMembers
	reformParam
	reformParamVersions
	reformTxGas
	reformMaxLifetime
	reformClockSkew
	reformHeartbeatTime
	reformNoCommittee
	reformOneDecides
	reformNoTime
	reformNoShare
	reformRootTwice
	reformRootUnknown
	reformRootUnchanged
	reformAuthorityCount
	reformRealNamesTwice
	reformRealNamesUnchanged
	reformVouchTwice
	reformVouchRole
	reformVouchNeed
	reformVouchUnchanged
	reformVouchCount
	reformAgencyName
	reformNoRoot
	reformRootDates
	reformNoRole
	reformRootRoles
	reformFewAgencies
	reformEpoch
	reformBeyondRecovery
	reformRecoveryLists
	reformRecoveryReason
	reformFrozenMembers
	reformFaultCount
)

func reformFaults() [reformFaultCount]fault {
	return [...]fault{
		reformListLength:       {"list_length", "entries u32, most u32", "a list of %d entries, at most %d"},
		reformReasonLength:     {"reason_length", "bytes u32, most u32", "a reason of %d bytes, at most %d"},
		reformTooManyAtOnce:    {"too_many_at_once", "join u32, leave u32, members u32, most u32", "%d members join and %d leave at once; a group of %d changes at most %d of each"},
		reformInstitutionName:  {"institution_name", "bytes u32, most u32", "an institution's name of %d bytes, want 1 to %d"},
		reformInstitutionTaken: {"institution_taken", "institution str", "there is an institution %q already"},
		reformInstitutionKey:   {"institution_key", "institution str", "the key of the first account of %s"},
		reformNodeAlgorithm:    {"node_algorithm", "algorithm u8, want u8", "a node's key of algorithm %s, want %s"},
		reformNodeKey:          {"node_key", "institution str", "the key of a node of %s"},
		reformNodeKnown:        {"node_known", "node bytes, status u8", "the node %s cannot be admitted again: it %s"},
		reformNodeTwice:        {"node_twice", "node bytes", "the node %s is named twice"},
		reformNodeAddress:      {"node_address", "node bytes, most u32", "the node %s has an address that is not HOST:PORT of at most %d bytes"},
		reformNodeUnknown:      {"node_unknown", "node bytes, change str", "the node %s cannot be %s: the group does not know it; admit it as an observer first"},
		reformNodeStatus:       {"node_status", "node bytes, change str, status u8", "the node %s cannot be %s: it %s"},
		reformMemberCount:      {"member_count", "members u32, most u32", "%d members, want 1 to %d"},
		reformFewMembers:       {"few_members", "members u32, least u32", "%d members would be left, and the group keeps at least %d: give a reason to override"},
		reformParam:            {"param", "name str", "the group could not run with this %s"},
		reformParamVersions:    {"param_versions", "rewrite u32, costs u32", "rewrite %d and costs %d: a motion does not change versions of the rules, which every node's release must have"},
		reformTxGas:            {"tx_gas", "gas u64, least u64", "tx_gas is %d, want at least %d, or no motion could be carried out"},
		reformMaxLifetime:      {"max_lifetime", "ms i64, least i64", "max_lifetime is %d ms, want at least %d, or transactions would expire on their way"},
		reformClockSkew:        {"clock_skew", "ms i64, least i64", "clock_skew is %d ms, want at least %d, or members would refuse one another's blocks"},
		reformHeartbeatTime:    {"heartbeat_time", "ms i64, view_timeout i64", "heartbeat_time is %d ms and view_timeout %d: members would change the view without end"},
		reformNoCommittee:      {"no_committee", "able u64, all u64", "institutions of the weight %d of %d have an account with the role committee that may vote: no motion could be carried out any more"},
		reformOneDecides:       {"one_decides", "weight u64, all u64", "an institution of the weight %d of %d would decide alone: change the weights first"},
		reformNoTime:           {"no_time", "method str, lock i64, window i64, lifetime i64", "%s is locked for %d ms, and a regulator may object for %d: a motion that expires after %d ms at most has no time for it"},
		reformNoShare:          {"no_share", "able u64, all u64, method str, n u32, of u32", "institutions of the weight %d of %d have an account with the role committee, and %s wants %d/%d of the weight"},

		reformRootTwice:          {"root_twice", "root bytes, institution str", "the root %s of %s is named twice"},
		reformRootUnknown:        {"root_unknown", "root bytes, institution str", "the root %s is not trusted for %s: `fondaco authority show` lists those that are"},
		reformRootUnchanged:      {"root_unchanged", "root bytes, institution str", "the root %s is trusted for %s so already"},
		reformAuthorityCount:     {"authority_count", "authorities u32, institution str, most u32", "%d authorities of %s, at most %d: take those away that ended"},
		reformRealNamesTwice:     {"real_names_twice", "institution str", "whether accounts of %s go by real names is said twice"},
		reformRealNamesUnchanged: {"real_names_unchanged", "institution str", "whether accounts of %s go by real names is said already"},
		reformVouchTwice:         {"vouch_twice", "role str, institution str", "the policy for role %s of %s is named twice"},
		reformVouchRole:          {"vouch_role", "institution str", "a policy of %s is for what is no role: want 1 to 32 characters of a-z, 0-9 and -"},
		reformVouchNeed:          {"vouch_need", "agencies u32, most u32", "a policy that wants %d agencies, and an institution has at most %d"},
		reformVouchUnchanged:     {"vouch_unchanged", "role str, institution str", "the policy for role %s of %s is that already"},
		reformVouchCount:         {"vouch_count", "policies u32, institution str, most u32", "%d policies of %s, at most %d"},
		reformAgencyName:         {"agency_name", "bytes u32, most u32", "an agency's name of %d bytes, want 1 to %d"},
		reformNoRoot:             {"no_root", "agency str", "the agency %s has no root: want the fingerprint of its certificate"},
		reformRootDates:          {"root_dates", "root bytes, from i64, until i64", "the root %s is valid from %d until %d: want times in Unix ms, and an end behind the beginning"},
		reformNoRole:             {"no_role", "root bytes", "the root %s vouches for no role"},
		reformRootRoles:          {"root_roles", "root bytes", "the roles of root %s"},
		reformFewAgencies: {
			"few_agencies", "agencies u32, institution str, role str, time i64, want u32",
			"%d agencies of %s could vouch for role %s at block time %s, and its policy wants %d: trust another root for it, distrust those that ended, or change the policy, in the same motion",
		},
		reformEpoch:          {"epoch", "epoch u64, now u64", "the recovery is from epoch %d, and the group is in epoch %d"},
		reformBeyondRecovery: {"beyond_recovery", "", "a recovery changes neither parameters, observers nor authorities: make a motion after it"},
		reformRecoveryLists:  {"recovery_lists", "institutions u32, nodes u32", "a list is too long: a recovery has at most %d new institutions and %d new nodes"},
		reformRecoveryReason: {"recovery_reason", "bytes u32, most u32", "a reason of %d bytes, want 1 to %d"},
		reformFrozenMembers:  {"frozen_members", "frozen u32, members u32, most u32", "%d of the %d members would be frozen nodes, and they go on without %d at most: remove those, too, or wait until their freezes end; only a group that runs can lift them"},
	}
}

// policyFault says what is wrong with a policy or settings. New ones go to the end.
type policyFault uint8

const (
	policyRule policyFault = iota
	policyCount
	policyShare
	policyNumbers
	policyRoles
	policyForbidden
	policyKeys
	policyLock
	policyInstitutionCount
	policyCountOf
	policyInstitutionOrder
	policyInstitutionName
	policyRoleList
	policyMethod
	policyVitalRule
	policyVitalBlocks
	policyVitalConditions
	policyVitalConsent
	policyFixed
	policyMotionsOnly
	policyRoleInVain
	policyForbids
	settingsApproval
	settingsParticipation
	settingsMotions
	settingsLifetime
	settingsWindow
	settingsWeightCount
	settingsWeightOrder
	settingsWeight
	settingsOneDecides
	policyOwnAccount
	policyFaultCount
)

func policyFaults() [policyFaultCount]fault {
	return [...]fault{
		policyRule:             {"rule", "rule u8", "there is no rule %d"},
		policyCount:            {"count", "n u32, of u32, most u32", "a count of %d institutions of %d, want 1 to %d, of 0"},
		policyShare:            {"share", "n u32, of u32", "a share of %d/%d, want a fraction of at most 1"},
		policyNumbers:          {"numbers", "rule u8, n u32, of u32", "the rule %s goes without numbers, and there are %d and %d"},
		policyRoles:            {"roles", "rule u8", "the rule %s goes without roles: institutions vote by their committees"},
		policyForbidden:        {"forbidden", "", "what is forbidden has no conditions"},
		policyKeys:             {"keys", "keys u32, most u32", "signatures of %d keys, and an account has at most %d"},
		policyLock:             {"lock", "ms i64, blocks u64, most_ms i64, most_blocks u64", "a lock of %d ms and %d blocks, at most %d and %d"},
		policyInstitutionCount: {"institution_count", "institutions u32, most u32", "%d institutions, at most %d"},
		policyCountOf:          {"count_of", "n u32, institutions u32", "%d of %d institutions"},
		policyInstitutionOrder: {"institution_order", "institution str", "institutions are not sorted, or %s is named twice"},
		policyInstitutionName:  {"institution_name", "bytes u32, most u32", "an institution's name of %d bytes, at most %d"},
		policyRoleList:         {"role_list", "", "the roles"},
		policyMethod:           {"method", "contract addr, method str", "%s has no method %q that changes something"},
		policyVitalRule:        {"vital_rule", "method str", "%s is for a majority, or a share of at most 3/4: the group must not lose the way to change its rules"},
		policyVitalBlocks:      {"vital_blocks", "method str, blocks u64, most u64", "%s is locked for %d blocks, at most %d: an idle chain makes none"},
		policyVitalConditions:  {"vital_conditions", "method str", "%s is for all institutions, with as many keys as their accounts want"},
		policyVitalConsent:     {"vital_consent", "method str", "%s takes the consent of a regulator, where the chain has one"},
		policyFixed:            {"fixed", "method str", "how motions are made and carried out, and how a group recovers, is not for policies: %s"},
		policyMotionsOnly:      {"motions_only", "method str", "%s is for motions alone: want count, majority, share or all"},
		policyRoleInVain:       {"role_in_vain", "method str, roles list<str>, role str", "%s refuses accounts without one of the roles %v, whatever the policy says: %s is none"},
		policyForbids:          {"forbids", "method str, contract addr", "the chain's policy forbids calls of %s of %s: change that first"},
		settingsApproval:       {"approval", "percent u32, least u32, most u32", "an approval of %d %%, want %d to %d"},
		settingsParticipation:  {"participation", "percent u32, most u32", "a participation of %d %%, at most %d"},
		settingsMotions:        {"motions", "motions u32, most u32", "%d open motions of an institution, want 1 to %d"},
		settingsLifetime:       {"lifetime", "ms i64, least i64, most i64", "a lifetime of %d ms, want %d to %d"},
		settingsWindow:         {"window", "ms i64, most i64, lifetime i64", "a window of %d ms, want 0 to %d, and at most half of the lifetime of %d"},
		settingsWeightCount:    {"weight_count", "weights u32, most u32", "%d weights, at most %d"},
		settingsWeightOrder:    {"weight_order", "institution str", "weights are not sorted, or %s is named twice"},
		settingsWeight:         {"weight", "weight u32, institution str, most u32", "a weight of %d for %q, want 1 to %d"},
		settingsOneDecides:     {"one_decides", "weight u32, all u32", "one institution would have the weight %d of %d, and decide alone"},
		policyOwnAccount:       {"own_account", "method str", "%s acts for the account that calls it, and a motion has none: want self or any, without a regulator or a lock"},
	}
}

// faultType makes the enum of faults.
func faultType(name string, faults []fault) ledger.TypeDef {
	def := ledger.TypeDef{Name: name}
	for _, f := range faults {
		v := ledger.Variant{Name: f.name}
		for field := range strings.SplitSeq(f.fields, ", ") {
			if name, t, found := strings.Cut(field, " "); found {
				v.Fields = append(v.Fields, ledger.Field{Name: name, Type: ledger.Type(t)})
			}
		}
		def.Variants = append(def.Variants, v)
	}
	return def
}

func reformFaultType() ledger.TypeDef {
	faults := reformFaults()
	return faultType("ReformFault", faults[:])
}

func policyFaultType() ledger.TypeDef {
	faults := policyFaults()
	return faultType("PolicyFault", faults[:])
}

// refused refuses a reform. The values are those of the fault's fields, in their order.
func refused(f reformFault, values ...any) error { return refusedAs(nil, f, values...) }

// refusedAs is refused with a cause, of which only the words tell. A fault without one has nil.
func refusedAs(cause error, f reformFault, values ...any) error {
	return faulty(AbortReform, uint8(f), reformFaults()[f].words, cause, values)
}

// unsound refuses a policy or settings as refused does a reform, and unsoundAs as refusedAs does.
func unsound(f policyFault, values ...any) error { return unsoundAs(nil, f, values...) }

func unsoundAs(cause error, f policyFault, values ...any) error {
	return faulty(AbortPolicy, uint8(f), policyFaults()[f].words, cause, values)
}

func faulty(code uint32, number uint8, words string, cause error, values []any) error {
	words = fmt.Sprintf(words, values...)
	if cause != nil {
		words += ": " + cause.Error()
	}
	if len(values) == 0 {
		return aborted(code, []any{number}, "%s", words)
	}
	return aborted(code, []any{append([]any{number}, values...)}, "%s", words)
}

// moment is a time in Unix ms, as in the data of an abort, that goes by its date in words.
type moment int64

// String returns the time as people read it.
func (m moment) String() string { return timeText(int64(m)) }
