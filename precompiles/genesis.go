package precompiles

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Genesis checks a genesis and returns the world state that it begins with, sorted by key: parameters,
// members, institutions and accounts. An account of genesis has threshold 1 and keys of weight 1 without
// end, so that each of its keys can act alone.
func Genesis(s keys.Suite, g *ledger.Genesis) ([]ledger.Change, error) {
	w := &genesisWriter{}
	w.put(paramsKey(), &g.Params)
	w.put(epochKey(), &Record{Version: ledger.Version, Minimum: uint32(min(minMembers, len(g.Members))), Members: g.Members})
	w.put(beginningKey(0), &Beginning{Version: ledger.Version, Epoch: *g.Epoch()})
	named := map[string]bool{}
	var regulators []ledger.Address
	for _, a := range g.Accounts {
		if slices.Contains(a.Roles, string(identity.Regulator)) {
			regulators = append(regulators, ledger.NamedAddress(s, "account", a.Name))
		}
	}
	if len(regulators) > MaxRegulators {
		return nil, fmt.Errorf("genesis has %d regulators, at most %d", len(regulators), MaxRegulators)
	}
	if len(regulators) > 0 {
		slices.SortFunc(regulators, compareAddresses)
		w.put(regulatorsKey(), regulators)
	}
	if g.VetoWindow != nil {
		settings := DefaultSettings()
		if settings.Window = *g.VetoWindow; settings.Window < 0 || settings.Window > settings.Lifetime/2 {
			return nil, fmt.Errorf("genesis has a veto window of %d ms, want 0 to %d, half of how long motions last", settings.Window, settings.Lifetime/2)
		}
		w.put(settingsKey(), &settings)
	}
	institution := func(name string) error {
		if name == "" || len(name) > MaxInstitutionName {
			return fmt.Errorf("institution name of %d bytes, want 1 to %d", len(name), MaxInstitutionName)
		}
		if !named[name] {
			named[name] = true
			w.put(institutionKey(name), &Institution{Version: ledger.Version})
		}
		return nil
	}
	if len(g.Members) == 0 {
		return nil, fmt.Errorf("genesis of chain %q has no members", g.Name)
	}
	for i, m := range g.Members {
		if err := institution(m.Institution); err != nil {
			return nil, fmt.Errorf("genesis member %d: %w", i, err)
		}
		if _, err := s.ParsePublic(m.Key.Algorithm, m.Key.Bytes); err != nil {
			return nil, fmt.Errorf("genesis member %d of %s: %w", i, m.Institution, err)
		}
		if slices.ContainsFunc(g.Members[:i], func(o ledger.Member) bool { return o.Node == m.Node || bytes.Equal(o.Key.Bytes, m.Key.Bytes) }) {
			return nil, fmt.Errorf("genesis member %d of %s is listed twice", i, m.Institution)
		}
		w.put(nodeKey(m.Node), &Node{Version: ledger.Version, Status: NodeMember, Institution: m.Institution, Key: m.Key})
	}
	seen := map[ledger.Address]bool{}
	holders := map[string]uint32{} // by state key
	for _, a := range g.Accounts {
		if err := institution(a.Institution); err != nil {
			return nil, fmt.Errorf("genesis account %q: %w", a.Name, err)
		}
		address := ledger.NamedAddress(s, "account", a.Name)
		if seen[address] {
			return nil, fmt.Errorf("genesis account %q is listed twice", a.Name)
		}
		seen[address] = true
		if err := checkHolder(a.Roles); err != nil {
			return nil, fmt.Errorf("genesis account %q: %w", a.Name, err)
		}
		account := Account{Version: ledger.Version, Institution: a.Institution, Threshold: 1, Roles: a.Roles}
		for _, k := range a.Keys {
			if _, err := s.ParsePublic(k.Algorithm, k.Bytes); err != nil {
				return nil, fmt.Errorf("genesis account %q: %w", a.Name, err)
			}
			if account.key(k.Algorithm, k.Bytes) != nil {
				return nil, fmt.Errorf("genesis account %q has a key twice", a.Name)
			}
			account.Keys = append(account.Keys, AccountKey{Algorithm: k.Algorithm, Key: k.Bytes, Weight: 1})
		}
		if len(account.Keys) == 0 || len(account.Keys) > MaxAccountKeys {
			return nil, fmt.Errorf("genesis account %q has %d keys, want 1 to %d", a.Name, len(account.Keys), MaxAccountKeys)
		}
		for _, role := range a.Roles {
			if counted(identity.Role(role)) {
				holders[string(holdersKey(role, a.Institution))]++
			}
		}
		w.put(AccountStateKey(address), &account)
		for _, k := range account.Keys {
			w.put(bindingKey(k, address), true)
		}
	}
	for key, n := range holders {
		w.put([]byte(key), n)
	}
	slices.SortFunc(w.changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
	return w.changes, w.err
}

type genesisWriter struct {
	changes []ledger.Change
	err     error
}

func (w *genesisWriter) put(key []byte, value any) {
	raw, err := ledger.Marshal(value)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("encode genesis: %w", err)
	}
	w.changes = append(w.changes, ledger.Change{Key: key, Value: raw})
}
