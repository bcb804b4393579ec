package group

import (
	"errors"
	"fmt"
)

// The rules by which a group drops or refuses what members send, as Trace.Refused names them. The engine has more,
// for what only it understands.
const (
	RuleMember       = "not a member"
	RuleMalformed    = "malformed message"
	RuleEpoch        = "another epoch"
	RuleSignature    = "signature"
	RuleCertificate  = "certificate"
	RuleRate         = "too many signatures"
	RuleShare        = "more than its share" // of what a node answers
	RuleLeaves       = "leaves of another root"
	RuleWithheld     = "payload withheld" // a member does not send what it proposed or voted for
	RuleTransaction  = "bad transaction"
	RuleOrder        = "order of another place" // chain, group, epoch, version, or a proposer that does not exist
	RuleLimits       = "block limits"
	RuleTime         = "block time"
	RuleTransactions = "block transactions"
	RuleBarrier      = "epoch ended for nothing"
	RuleBlock        = "bad block"              // of those fetched to catch up
	RuleRecovery     = "recovery not applied"   // a block that survivors of a disaster made final, without this operator's word
	RuleNoBlocks     = "blocks not sent"        // a member does not send what it says it has
	RuleConflict     = "conflicting statements" // evidence
)

// breach is an error that says which rule a member broke.
type breach struct {
	rule string
	error
}

func (b *breach) Unwrap() error { return b.error }

func breaks(rule, format string, args ...any) error {
	return &breach{rule, fmt.Errorf(format, args...)}
}

// refused tells whoever watches that something that a member sent was dropped, if err names the rule.
func (g *Group) refused(member uint32, err error) {
	if b, ok := errors.AsType[*breach](err); ok && g.cfg.Trace.Refused != nil {
		g.cfg.Trace.Refused(member, b.rule)
	}
}
