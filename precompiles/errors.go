package precompiles

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// Error is a refusal that ends a call and becomes a receipt, or, in a call from a contract, a status that
// the contract sees.
type Error struct {
	Status ledger.Status
	Code   uint32 // with Denied: one of the Denied… constants; with Aborted from a system contract: an Abort… constant
	Data   []byte // with Aborted: canonical CBOR array of the fields that the schema gives the code
	Reason string // for people; never part of a receipt
}

// Error returns the reason.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s (code %d)", e.Status, e.Code)
	}
	return fmt.Sprintf("%s (code %d): %s", e.Status, e.Code, e.Reason)
}

// refusal returns the refusal that an error is. Gas that ran out is none: nothing was decided.
func refusal(err error) (*Error, bool) {
	e, ok := errors.AsType[*Error](err)
	return e, ok && e.Status != ledger.OutOfGas
}

func isRefusal(err error) bool {
	_, ok := refusal(err)
	return ok
}

// Codes of receipts with status denied: a rule of the chain refused. They are stable. Lower codes are those
// of the contract ABI, see the package wasmvm.
const (
	DeniedAccount     uint32 = 100 // the sender, or the caller, has no account
	DeniedFrozen      uint32 = 101 // the account, the contract or its method is frozen
	DeniedKey         uint32 = 102 // a key that signed is not bound to the sender
	DeniedKeyTime     uint32 = 103 // a key that signed is not valid at block time
	DeniedThreshold   uint32 = 104 // the keys that signed do not weigh the sender's threshold
	DeniedRole        uint32 = 105 // the caller has none of the roles that may do this
	DeniedInstitution uint32 = 106 // the caller may do this for its own institution only
	DeniedOwner       uint32 = 107 // the caller does not own the contract
	DeniedHook        uint32 = 108 // init and upgrade are run by deployment only
	DeniedModule      uint32 = 109 // code that the admission rules refuse
	DeniedSize        uint32 = 110 // arguments or a result that are too large
	DeniedGasLimit    uint32 = 111 // a gas limit over the chain's
	DeniedDirect      uint32 = 112 // the method is called by transactions only, not by contracts
	DeniedCertificate uint32 = 113 // a certificate does not count: frozen, revoked, ended, or vouched for by nobody whom the group trusts; or its key did not sign
	DeniedMotion      uint32 = 114 // the policy wants a motion of the committee
	DeniedHalted      uint32 = 117 // the contract is paused or retired: only its views run
	DeniedReview      uint32 = 118 // the chain's mode lets the account bring no code onto it in this way
	DeniedCosigner    uint32 = 120 // a co-signer of the account did not sign
	DeniedView        uint32 = 121 // a view tells what is private, and is not for transactions; or a contract calls one that is more private than it is
)

// Codes of receipts with status aborted from a system contract, as in its schema. They are stable.
const (
	AbortArguments   uint32 = 1000 // the arguments are not what the schema says
	AbortKey         uint32 = 1001 // [index]: a key is malformed, bound twice, or not bound
	AbortThreshold   uint32 = 1002 // [threshold, weight]: the keys could never reach the threshold, or those of an account that governs not for ever
	AbortRole        uint32 = 1003 // [role]: malformed, not for this caller to give or take, or not together with another one of the account
	AbortMissing     uint32 = 1004 // [address]: no such account or contract
	AbortInstitution uint32 = 1005 // [institution]: no such institution
	AbortUnchanged   uint32 = 1006 // the change would change nothing

	AbortIncompatible uint32 = 1007 // [broken, count]: users of the code that runs could trip over the new one
	AbortDowngrade    uint32 = 1008 // [number, version, release]: the code is older than what runs

	AbortMotion  uint32 = 1009 // [id]: no such motion that is open, or too many; then the id is 0
	AbortReform  uint32 = 1010 // [fault]: the group would not be sound after it
	AbortSupport uint32 = 1011 // [have, want]: approvals, or statements of nodes that join, are missing

	AbortCertificate uint32 = 1012 // [fingerprint]: a certificate that does not count, or is the caller's own

	AbortName uint32 = 1013 // [name]: the name or its version is malformed, taken, in use, or not there

	AbortGoverned uint32 = 1031 // [method]: the code lacks a method for which there is a policy
	AbortRelease  uint32 = 1030 // [id]: no such release that is open, or it lacks approvals, or there are too many; then the id is 0
	AbortRecovery uint32 = 1020 // [number]: no such recovery of the account, or one that is under way, or at another time
	AbortCosigner uint32 = 1021 // [account]: it cannot co-sign

	AbortCorrection uint32 = 1022 // [number]: no such correction that is open, or too many; then the number is 0

	AbortLocked uint32 = 1040 // [until, height]: the motion is not to be carried out before a block time and a height
	AbortAction uint32 = 1041 // [index, contract, method, status, code]: a call of the motion did not end well
	AbortPolicy uint32 = 1042 // [fault]: a policy or settings by which the group could not be governed
	AbortStale  uint32 = 1043 // [contract, method]: the policy of what the motion does has changed since it was made, or it takes a regulator's consent by now
)

func abortDefs(codes ...uint32) []ledger.ErrorDef {
	all := []ledger.ErrorDef{
		{Code: AbortArguments, Name: "BadArguments", Doc: "the arguments are not what the schema says, or out of bounds"},
		{Code: AbortKey, Name: "BadKey", Fields: []ledger.Field{{Name: "index", Type: "u32"}}, Doc: "a key is malformed, bound twice, or not bound"},
		{Code: AbortThreshold, Name: "Unreachable", Fields: []ledger.Field{{Name: "threshold", Type: "u32"}, {Name: "weight", Type: "u32"}}, Doc: "the account's keys could never reach the threshold, or would not any more when some of them end, and it has the role committee or regulator"},
		{Code: AbortRole, Name: "BadRole", Fields: []ledger.Field{{Name: "role", Type: "str"}}, Doc: "a role is malformed, not for this caller to give or take, or does not go together with another one of the account"},
		{Code: AbortMissing, Name: "Missing", Fields: []ledger.Field{{Name: "address", Type: "addr"}}, Doc: "there is no such account or contract"},
		{Code: AbortInstitution, Name: "UnknownInstitution", Fields: []ledger.Field{{Name: "institution", Type: "str"}}},
		{Code: AbortUnchanged, Name: "Unchanged", Doc: "the change would change nothing"},
		{
			Code: AbortIncompatible, Name: "Incompatible", Fields: []ledger.Field{{Name: "broken", Type: "list<Broken>"}, {Name: "count", Type: "u32"}},
			Doc: "users of the code that runs could trip over the new one: keep what is broken, or say that the change is breaking; the first 32 of count, and none where the schema is gone",
		},
		{
			Code: AbortDowngrade, Name: "Downgrade", Fields: []ledger.Field{{Name: "number", Type: "u32"}, {Name: "version", Type: "str"}, {Name: "release", Type: "str"}},
			Doc: "the contract ran the code before, under that number; or, with number 0, its version comes before the highest release that the contract has run",
		},
		{Code: AbortMotion, Name: "NoMotion", Fields: []ledger.Field{{Name: "id", Type: "u64"}}, Doc: "there is no such motion, or it is void, or with id 0 there are too many"},
		{Code: AbortReform, Name: "BadReform", Fields: []ledger.Field{{Name: "fault", Type: "ReformFault"}}, Doc: "the group would not be sound after the reform, or could not be governed"},
		{
			Code: AbortSupport, Name: "NoSupport", Fields: []ledger.Field{{Name: "have", Type: "u32"}, {Name: "want", Type: "u32"}},
			Doc: "the motion lacks approvals of institutions, or statements of the nodes that join",
		},
		{
			Code: AbortCertificate, Name: "BadCertificate", Fields: []ledger.Field{{Name: "fingerprint", Type: "bytes"}},
			Doc: "the certificate does not count: it is frozen, revoked, ended, or vouched for by nobody that the group trusts; or it is the caller's own",
		},
		{
			Code: AbortLocked, Name: "Locked", Fields: []ledger.Field{{Name: "until", Type: "i64"}, {Name: "height", Type: "u64"}},
			Doc: "the motion is carried, and not to be carried out before a block time in Unix ms and a height",
		},
		{
			Code: AbortAction, Name: "ActionFailed",
			Fields: []ledger.Field{{Name: "index", Type: "u32"}, {Name: "contract", Type: "addr"}, {Name: "method", Type: "str"}, {Name: "status", Type: "u8"}, {Name: "code", Type: "u32"}},
			Doc:    "a call of the motion did not end well, so nothing of it took effect",
		},
		{Code: AbortPolicy, Name: "BadPolicy", Fields: []ledger.Field{{Name: "fault", Type: "PolicyFault"}}, Doc: "a policy or settings that make no sense, or by which the group could not be governed"},
		{
			Code: AbortStale, Name: "StaleMotion", Fields: []ledger.Field{{Name: "contract", Type: "addr"}, {Name: "method", Type: "str"}},
			Doc: "the policy of a method that the motion calls is another than when the motion was made, or the call takes a regulator's consent by now: propose it again",
		},
		{Code: AbortName, Name: "BadName", Fields: []ledger.Field{{Name: "name", Type: "str"}}, Doc: "the name or its version is malformed, taken, in use, or not there"},
		{Code: AbortRelease, Name: "NoRelease", Fields: []ledger.Field{{Name: "id", Type: "u64"}}, Doc: "there is no such release, or it is void or lacks approvals, or with id 0 there are too many"},
		{Code: AbortGoverned, Name: "Governed", Fields: []ledger.Field{{Name: "method", Type: "str"}}, Doc: "the new code lacks a method for which there is a policy, which must be taken away first"},
		{Code: AbortRecovery, Name: "Recovery", Fields: []ledger.Field{{Name: "number", Type: "u64"}}, Doc: "the account has no such recovery, or one is under way, or its window has not ended, or has"},
		{Code: AbortCosigner, Name: "BadCosigner", Fields: []ledger.Field{{Name: "account", Type: "addr"}}, Doc: "the account cannot co-sign"},
		{Code: AbortCorrection, Name: "NoCorrection", Fields: []ledger.Field{{Name: "number", Type: "u64"}}, Doc: "there is no such correction, or it is not open any more, or with number 0 there are too many"},
	}
	var defs []ledger.ErrorDef
	for _, d := range all {
		for _, c := range codes {
			if d.Code == c {
				defs = append(defs, d)
			}
		}
	}
	return defs
}

func denied(code uint32, format string, args ...any) error {
	return &Error{Status: ledger.Denied, Code: code, Reason: fmt.Sprintf(format, args...)}
}

// aborted refuses with a code of the schema and the values of its fields.
func aborted(code uint32, fields []any, format string, args ...any) error {
	data, err := ledger.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode the data of abort %d: %w", code, err)
	}
	return &Error{Status: ledger.Aborted, Code: code, Data: data, Reason: fmt.Sprintf(format, args...)}
}
