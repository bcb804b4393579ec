package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Bounds on what one trial of parameters looks at.
const (
	maxTrialRows  = 100_000 // accounts and deployments
	maxTrialCodes = 1_000   // modules that are read
)

// Trial says what would become of a chain with other parameters.
type Trial struct {
	Refused string   // why no motion can set them; empty: one can
	Breaks  []string // what works now and would not, in words
	Partial bool     // there was more than a trial looks at
}

// TryParams says what would happen if the parameters after came into force on the state after base, and changes nothing. An error is a
// fault of this node, or the end of ctx.
func (x *Executor) TryParams(ctx context.Context, base *state.Snapshot, after *ledger.Params) (t Trial, err error) {
	r, err := x.rules(base)
	if err != nil {
		return t, err
	}
	err = precompiles.CheckParams(&r.params, after)
	if refusal, ok := errors.AsType[*precompiles.Error](err); ok {
		t.Refused = refusal.Reason
		return t, nil
	}
	if err == nil && after.MemoryPages < r.params.MemoryPages {
		err = x.tryPages(ctx, base, after, &t)
	}
	if err == nil && !slices.Equal(after.DeployRoles, r.params.DeployRoles) && len(after.DeployRoles) > 0 {
		err = tryDeployers(ctx, base, after, &t)
	}
	if err != nil {
		return t, fmt.Errorf("try parameters at height %d: %w", base.Height(), err)
	}
	if after.TxGas < r.params.TxGas {
		t.breaks("transactions with a gas limit over %d, which now may have %d: they are refused, those that wait among them, and so are deployments of modules that take more", after.TxGas, r.params.TxGas)
	}
	if after.MaxLifetime < r.params.MaxLifetime {
		t.breaks("transactions that expire more than %d ms ahead, which now may be %d: programs that sign such are refused", after.MaxLifetime, r.params.MaxLifetime)
	}
	return t, nil
}

func (t *Trial) breaks(format string, args ...any) {
	t.Breaks = append(t.Breaks, fmt.Sprintf(format, args...))
}

// tryPages looks for contracts whose modules want more memory.
func (x *Executor) tryPages(ctx context.Context, base *state.Snapshot, after *ledger.Params, t *Trial) error {
	wants := map[string]uint64{} // initial pages by code
	prefix := precompiles.DeploymentStateKey(ledger.Address{})
	prefix = prefix[:len(prefix)-ledger.AddressSize]
	rows := 0
	for entry, err := range base.Range(prefix, prefixEnd(prefix), false) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if rows++; rows > maxTrialRows || len(wants) >= maxTrialCodes {
			t.Partial = true
			return nil
		}
		address := ledger.Address(entry.Key[len(prefix):])
		d, err := x.deployments.read(base, address)
		if err != nil {
			return err
		}
		pages, known := wants[string(d.Code[:])]
		if !known {
			code, _, err := precompiles.CodeByHash(base, d.Code)
			if err != nil {
				return err
			}
			a, err := wasmvm.Analyze(code)
			if err != nil {
				return fmt.Errorf("contract %s: %w", address, err)
			}
			pages = a.Pages
			wants[string(d.Code[:])] = pages
		}
		if pages > uint64(after.MemoryPages) {
			t.breaks("contract %s: its module begins with %d pages of memory, and no call of it would be served any more", address, pages)
		}
	}
	t.breaks("contracts that grow beyond %d pages of memory, which now may have more: such calls fail", after.MemoryPages)
	return nil
}

// tryDeployers looks for an account that could deploy.
func tryDeployers(ctx context.Context, base *state.Snapshot, after *ledger.Params, t *Trial) error {
	prefix := precompiles.AccountStateKey(ledger.Address{})
	prefix = prefix[:len(prefix)-ledger.AddressSize]
	rows := 0
	for entry, err := range base.Range(prefix, prefixEnd(prefix), false) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if rows++; rows > maxTrialRows {
			t.Partial = true
			return nil
		}
		var account precompiles.Account
		if err := ledger.Unmarshal(entry.Value, &account); err != nil {
			return fmt.Errorf("state under %x: %w", entry.Key, err)
		}
		if account.Status == precompiles.Active && account.HasAny(after.DeployRoles...) {
			return nil
		}
	}
	t.breaks("deployment of contracts: no active account has one of the roles %v", after.DeployRoles)
	return nil
}
