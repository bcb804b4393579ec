package precompiles

import (
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/ledger"
)

// MaxRecoveryReason bounds the reason of a recovery, in bytes.
const MaxRecoveryReason = MaxOverride

// RecoverArgs are the arguments of the members method recover, by which the survivors of a disaster begin an epoch
// without those members that are gone.
type RecoverArgs struct {
	_     struct{} `cbor:",toarray"`
	Epoch uint64   // that ends: the one that the survivors are members of
	// Reform is what changes. Params, Dismiss, Trust, Distrust, Policies and RealNames must be empty; Add may name nodes of Observe, which need not show that
	// they are synced; Override is the reason, and must not be empty.
	Reform Reform
}

// Recovers reports whether a transaction is a recovery: its sender is the members contract itself, which has no account
// and so can send nothing else. It is the only transaction of its block, which ends its epoch and which no votes make
// final, but a certificate of survivors (ledger.Recover). That certificate is its authority; whoever executes such a
// block must have checked it.
func Recovers(tx *ledger.Tx) bool {
	return tx.Sender == MembersAddress && tx.To == ledger.Target{Address: MembersAddress} && tx.Method == "recover"
}

func recovery(env Env, a RecoverArgs) error {
	if env.Origin() != MembersAddress || env.Caller() != MembersAddress {
		return denied(DeniedDirect, "recover is called by a recovery block only, which survivors sign with `fondaco recover`")
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	f := &a.Reform
	switch {
	case a.Epoch != record.Number:
		return refused(reformEpoch, a.Epoch, record.Number)
	case f.Override == "" || len(f.Override) > MaxRecoveryReason:
		return refused(reformRecoveryReason, len(f.Override), MaxRecoveryReason)
	case f.Params != nil || len(f.Dismiss)+len(f.Trust)+len(f.Distrust)+len(f.Policies)+len(f.RealNames) > 0:
		return refused(reformBeyondRecovery)
	case len(f.Found) > MaxReform || len(f.Observe) > MaxReform || len(f.Add) > MaxReform || len(f.Remove) > ledger.MaxMembers:
		return refused(reformRecoveryLists, MaxReform, MaxReform)
	}
	if err := checkFound(env, env.Suite(), f); err != nil {
		return err
	}
	if err := checkObserve(env, env.Suite(), f); err != nil {
		return err
	}
	founded := []ledger.Address{}
	for _, institution := range f.Found {
		address, err := foundInstitution(env, &institution)
		if err != nil {
			return err
		}
		founded = append(founded, address)
	}
	if err := enroll(env, &Reform{Observe: f.Observe}); err != nil { // so that they can be added
		return err
	}
	if err := checkStatuses(env, f); err != nil {
		return err
	}
	members, err := membersAfter(env, &record, f)
	if err != nil {
		return err
	}
	if err := checkFrozenMembers(env, &record, members, env.Order().UnixMilli); err != nil {
		return err
	}
	record.Members = members
	if err := enroll(env, &Reform{Add: f.Add, Remove: f.Remove}); err != nil {
		return err
	}
	record.Reformed = record.Number + 1
	if err := write(env, epochKey(), &record); err != nil {
		return err
	}
	return emit(env, "recovered", record.Reformed, founded, f.Override)
}

// DecodeRecovery returns the arguments of a transaction that Recovers holds for.
func DecodeRecovery(tx *ledger.Tx) (a RecoverArgs, err error) {
	if err := ledger.Unmarshal(tx.Args, &a); err != nil {
		return a, fmt.Errorf("arguments of a recovery: %w", err)
	}
	return a, nil
}

// Stay returns the members that are members of a later epoch too, by their numbers in the earlier one.
func Stay(before, after *ledger.Epoch) []uint32 {
	var stay []uint32
	for i, m := range before.Members {
		if slices.ContainsFunc(after.Members, func(o ledger.Member) bool { return o.Node == m.Node }) {
			stay = append(stay, uint32(i))
		}
	}
	return stay
}
