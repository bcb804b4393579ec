package wasmvm

import (
	"context"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// ErrVersion says that a chain's parameters name a rewriter or a gas table that this release does not have.
var ErrVersion = errors.New("wasmvm: the chain's rules are not known to this release")

// Rules are the parameters of a chain that decide what is made of a module and what calls cost. A chain may change them at
// a height: the blocks before it are executed by the old ones for ever.
type Rules struct {
	Rewrite, Costs uint16 // versions of the rewriter and of the gas table
	MemoryPages    uint32 // most 64 KiB pages of a contract's memory
}

// RulesOf returns the rules in a chain's parameters.
func RulesOf(p *ledger.Params) Rules {
	return Rules{Rewrite: p.Rewrite, Costs: p.Costs, MemoryPages: p.MemoryPages}
}

// check reports rules that no VM can run by.
func (r Rules) check(trial map[uint16]uint64) error {
	switch {
	case r.Rewrite == 0 || r.Rewrite > RewriteVersion:
		return fmt.Errorf("%w: rewriter %d, of 1 to %d; run a release of fondaco that has it", ErrVersion, r.Rewrite, RewriteVersion)
	case (r.Costs == 0 || r.Costs > CostsVersion) && trial[r.Costs] == 0:
		return fmt.Errorf("%w: gas table %d, of 1 to %d; run a release of fondaco that has it", ErrVersion, r.Costs, CostsVersion)
	case r.MemoryPages == 0 || r.MemoryPages > 65_536:
		return fmt.Errorf("wasmvm: %d pages of memory, want 1 to 65,536", r.MemoryPages)
	}
	return nil
}

// At returns the VM for other rules than v's own, with the same configuration. It belongs to v, is made when it is first asked
// for, and is closed with it: modules are kept for each of them. Unknown versions are an error that wraps ErrVersion.
func (v *VM) At(ctx context.Context, r Rules) (*VM, error) {
	if r == (Rules{v.config.Rewrite, v.config.Costs, v.config.MemoryPages}) {
		return v, nil
	}
	v.rules.Lock()
	defer v.rules.Unlock()
	if other, ok := v.others[r]; ok {
		return other, nil
	}
	if err := r.check(v.config.Trial); err != nil {
		return nil, err
	}
	c := v.config
	c.Rewrite, c.Costs, c.MemoryPages = r.Rewrite, r.Costs, r.MemoryPages
	other, err := newOn(ctx, c, v)
	if err != nil {
		return nil, err
	}
	if v.others == nil {
		v.others = map[Rules]*VM{}
	}
	v.others[r] = other
	return other, nil
}
