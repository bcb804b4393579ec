package precompiles

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// world is an Env over a map, for a caller that each test sets. Like the executor, it drops the writes and
// events of a call that fails.
type world struct {
	state  map[string][]byte
	order  ledger.Order
	caller ledger.Address
	events []string
	next   uint32
	gas    ledger.Gas
	hook   func(to ledger.Address, hook string, args []byte) error
	refuse error // of Admit
	signed []ledger.Key
	origin *ledger.Address // nil: the caller

	approved []AuditApproval // of the last call that told on what it rests

	rows *int // for which there is gas; nil: for all
}

// look takes the gas of a row.
func (w *world) look() error {
	if w.rows == nil {
		return nil
	}
	if *w.rows--; *w.rows < 0 {
		return &Error{Status: ledger.OutOfGas, Reason: "the gas limit is used up"}
	}
	return nil
}

func (w *world) Get(key []byte) ([]byte, bool, error) {
	if err := w.look(); err != nil {
		return nil, false, err
	}
	v, ok := w.state[string(key)]
	return v, ok, nil
}

func (w *world) Put(key, value []byte) error { w.state[string(key)] = bytes.Clone(value); return nil }
func (w *world) Delete(key []byte) error     { delete(w.state, string(key)); return nil }
func (w *world) Range(prefix, after []byte, limit int, visit func(key, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(w.state)) {
		if !strings.HasPrefix(k, string(prefix)) || after != nil && k <= string(after) {
			continue
		}
		if limit--; limit < 0 {
			return nil
		}
		if err := w.look(); err != nil {
			return err
		}
		if err := visit([]byte(k), w.state[k]); err != nil {
			return err
		}
	}
	return nil
}
func (w *world) Suite() keys.Suite      { return keystest.Suite() }
func (w *world) Order() *ledger.Order   { return &w.order }
func (w *world) Parent() keys.Digest    { return keys.Digest{7} }
func (w *world) Caller() ledger.Address { return w.caller }
func (w *world) Origin() ledger.Address {
	if w.origin != nil {
		return *w.origin
	}
	return w.caller
}
func (w *world) Signers() []ledger.Key       { return w.signed }
func (w *world) Charge(gas ledger.Gas) error { w.gas += gas; return nil }
func (w *world) Emit(topic string, _ []byte) error {
	w.events = append(w.events, topic)
	return nil
}

func (w *world) Approved(by []AuditApproval) error {
	w.approved = by
	return nil
}

func (w *world) NewAddress() (ledger.Address, error) {
	w.next++
	return ledger.AssignedAddress(keystest.Suite(), ledger.TxID{1}, w.next), nil
}

func (w *world) Admit(code []byte) ([]byte, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	section, err := ledger.ModuleSection(code, ledger.SchemaSection)
	if err != nil {
		return nil, denied(DeniedModule, "%v", err)
	}
	return section, nil
}

func (w *world) Tx() ledger.TxID { return ledger.TxID{byte(w.order.Height)} }

func (w *world) Call(_, to ledger.Address, hook string, args []byte) error {
	if w.hook == nil {
		return nil
	}
	return w.hook(to, hook, args)
}

func (w *world) Invoke(to ledger.Address, method string, args []byte) ([]byte, error) {
	if !IsSystem(to) {
		return nil, w.Call(w.caller, to, method, args)
	}
	caller, origin := w.caller, w.Origin()
	before := w.origin
	w.caller, w.origin = GovernanceAddress, &origin // the one that calls others
	defer func() { w.caller, w.origin = caller, before }()
	for _, c := range All() {
		if c.Address() == to {
			return c.Invoke(w, method, args)
		}
	}
	return nil, &Error{Status: ledger.NotFound}
}

func (w *world) call(c Contract, method string, args any) ([]byte, error) {
	raw, err := ledger.Marshal(args)
	if err != nil {
		return nil, err
	}
	before, events := maps.Clone(w.state), len(w.events)
	out, err := c.Invoke(w, method, raw)
	if err != nil {
		w.state, w.events = before, w.events[:events]
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status == ledger.Aborted && w.hook == nil { // a hook has codes of its own
		if _, _, err := c.Schema().DecodeError(e.Code, e.Data); err != nil {
			return nil, fmt.Errorf("%s.%s: abort %d: %w", c.Name(), method, e.Code, err)
		}
	}
	return out, err
}

func (w *world) account(t *testing.T, address ledger.Address) Account {
	t.Helper()
	a, found, err := ReadAccount(w, address)
	if err != nil || !found {
		t.Fatalf("ReadAccount(%s) = found %v, %v", address, found, err)
	}
	return a
}

// newKey returns the n-th key of the tests.
func newKey(t *testing.T, n uint64) ledger.Key {
	t.Helper()
	return newKeyOf(t, keystest.Suite(), n)
}

func newKeyOf(t *testing.T, s keys.Suite, n uint64) ledger.Key {
	t.Helper()
	signer, err := s.Generate(s.Vote(), rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), 1}))
	if err != nil {
		t.Fatal(err)
	}
	return ledger.KeyOf(signer.Public())
}

func bound(k ledger.Key) AccountKey {
	return AccountKey{Algorithm: k.Algorithm, Key: k.Bytes, Weight: 1}
}

func name(n string) ledger.Address { return ledger.NamedAddress(keystest.Suite(), "account", n) }

func newWorld(t *testing.T) *world {
	t.Helper()
	g := &ledger.Genesis{
		Version: ledger.Version, Name: "test", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: 1_000, Params: ledger.DefaultParams(),
		Members: []ledger.Member{{Node: [32]byte{1}, Institution: "alpha", Key: newKey(t, 100)}, {Node: [32]byte{2}, Institution: "beta", Key: newKey(t, 101)}},
		Accounts: []ledger.GenesisAccount{
			{Name: "admin", Institution: "alpha", Roles: []string{"deployer", "institution-admin"}, Keys: []ledger.Key{newKey(t, 1)}},
			{Name: "registrar", Institution: "alpha", Roles: []string{"registrar"}, Keys: []ledger.Key{newKey(t, 2)}},
			{Name: "user", Institution: "alpha", Keys: []ledger.Key{newKey(t, 3)}},
			{Name: "stranger", Institution: "beta", Roles: []string{"institution-admin"}, Keys: []ledger.Key{newKey(t, 4)}},
			{Name: "regulator", Institution: "beta", Roles: []string{"regulator"}, Keys: []ledger.Key{newKey(t, 5)}},
			{Name: "committee", Institution: "beta", Roles: []string{"committee"}, Keys: []ledger.Key{newKey(t, 6)}},
		},
	}
	changes, err := Genesis(keystest.Suite(), g)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{state: map[string][]byte{}, order: ledger.Order{Height: 7, UnixMilli: 5_000}}
	for _, c := range changes {
		w.state[string(c.Key)] = c.Value
	}
	return w
}

// founded makes the officers that there are such as the chain began with.
func (w *world) founded() {
	prefix := string(key(AccessAddress, []byte("s")))
	maps.DeleteFunc(w.state, func(k string, _ []byte) bool { return strings.HasPrefix(k, prefix) })
}

// wantError checks status and code of a refusal; code 0 means none is expected.
func wantError(t *testing.T, err error, status ledger.Status, code uint32) {
	t.Helper()
	if status == ledger.OK {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status != status || e.Code != code {
		t.Fatalf("got %v, want %s with code %d", err, status, code)
	}
}

func TestSchemas(t *testing.T) {
	last := ledger.Address{}
	for _, c := range All() {
		if a := c.Address(); a.String() <= last.String() || !IsSystem(a) {
			t.Errorf("%s is at %s, after %s", c.Name(), a, last)
		}
		last = c.Address()
		if _, err := c.Schema().Encode(); err != nil {
			t.Errorf("%s: %v", c.Name(), err)
		}
		methods := c.(*system).methods
		for _, m := range c.Schema().Methods {
			if methods[m.Name] == nil {
				t.Errorf("%s: the schema has %s, the code has not", c.Name(), m.Name)
			}
		}
		if len(methods) != len(c.Schema().Methods) {
			t.Errorf("%s: %d methods, the schema has %d", c.Name(), len(methods), len(c.Schema().Methods))
		}
		_, err := c.Invoke(newWorld(t), "nosuch", []byte{0x80})
		wantError(t, err, ledger.NotFound, 0)
	}
	if IsSystem(ledger.Address{}) || IsSystem(name("admin")) {
		t.Error("IsSystem holds for nobody or for an account")
	}
}

func TestSchemasDescribeState(t *testing.T) {
	w := newWorld(t)
	if _, err := w.call(newAccounts(), "nosuch", none{}); err == nil {
		t.Fatal("called a method that does not exist")
	}
	for _, c := range All() {
		address := c.Address()
		for k, v := range w.state {
			inner, ok := strings.CutPrefix(k, string(address[:]))
			if !ok {
				continue
			}
			i := slices.IndexFunc(c.Schema().State, func(d ledger.StateDef) bool { return strings.HasPrefix(inner, d.Prefix) })
			if i < 0 {
				t.Errorf("%s: the schema does not describe the key %q", c.Name(), inner)
				continue
			}
			if _, err := c.Schema().DecodeValue(c.Schema().State[i].Value, v); err != nil {
				t.Errorf("%s: value under %q: %v", c.Name(), inner, err)
			}
		}
	}
}

func TestBadArguments(t *testing.T) {
	w := newWorld(t)
	for _, c := range All() {
		for _, m := range c.Schema().Methods {
			for _, args := range [][]byte{nil, {0xff}, {0x80, 0x80}, {0x9f, 0xff}, bytes.Repeat([]byte{0x81}, 100), {0x9a, 0xff, 0xff, 0xff, 0xff}} {
				w.caller = GovernanceAddress // so that no policy comes before
				_, err := c.Invoke(w, m.Name, args)
				wantError(t, err, ledger.Aborted, AbortArguments)
			}
		}
	}
}

func TestGenesis(t *testing.T) {
	w := newWorld(t)
	epoch, err := ReadEpoch(w)
	if err != nil || len(epoch.Members) != 2 || epoch.Params.BlockTxs != ledger.DefaultParams().BlockTxs {
		t.Fatalf("ReadEpoch = %+v, %v", epoch, err)
	}
	if a := w.account(t, name("admin")); a.Institution != "alpha" || a.Threshold != 1 || len(a.Keys) != 1 || !a.HasAny("x", "deployer") {
		t.Errorf("admin = %+v", a)
	}
	out, err := w.call(newMembers(), "institutions", InstitutionsArgs{})
	if err != nil || !bytes.Equal(out, mustMarshal(t, []string{"alpha", "beta"})) {
		t.Errorf("institutions = %x, %v", out, err)
	}
	for _, c := range []struct {
		story  string
		change func(*ledger.Genesis)
	}{
		{"no members", func(g *ledger.Genesis) { g.Members = nil }},
		{"a member without an institution", func(g *ledger.Genesis) { g.Members[0].Institution = "" }},
		{"a member with half a key", func(g *ledger.Genesis) { g.Members[0].Key.Bytes = g.Members[0].Key.Bytes[:16] }},
		{"a member twice", func(g *ledger.Genesis) { g.Members = append(g.Members, g.Members[0]) }},
		{"an account twice", func(g *ledger.Genesis) { g.Accounts = append(g.Accounts, g.Accounts[0]) }},
		{"an account without a key", func(g *ledger.Genesis) { g.Accounts[0].Keys = nil }},
		{"unsorted roles", func(g *ledger.Genesis) { g.Accounts[0].Roles = []string{"b", "a"} }},
	} {
		t.Run(c.story, func(t *testing.T) {
			g := &ledger.Genesis{
				Members:  []ledger.Member{{Node: [32]byte{1}, Institution: "alpha", Key: newKey(t, 100)}},
				Accounts: []ledger.GenesisAccount{{Name: "a", Institution: "alpha", Keys: []ledger.Key{newKey(t, 1)}}},
			}
			if _, err := Genesis(keystest.Suite(), g); err != nil {
				t.Fatal(err)
			}
			c.change(g)
			if _, err := Genesis(keystest.Suite(), g); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := ledger.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRegister(t *testing.T) {
	one := []NewAccount{{Threshold: 1, Roles: []string{"user"}, Keys: []AccountKey{bound(newKey(t, 50))}}}
	many := func(n int) []NewAccount { return slices.Repeat(one, n) }
	with := func(change func(*NewAccount)) []NewAccount {
		a := NewAccount{Threshold: 1, Roles: []string{"user"}, Keys: []AccountKey{bound(newKey(t, 50))}}
		change(&a)
		return []NewAccount{a}
	}
	for _, c := range []struct {
		story       string
		caller      string
		institution string
		accounts    []NewAccount
		status      ledger.Status
		code        uint32
	}{
		{"registrar registers a user", "registrar", "alpha", one, ledger.OK, 0},
		{"admin registers a deployer", "admin", "alpha", with(func(a *NewAccount) { a.Roles = []string{"deployer"} }), ledger.OK, 0},
		{"a thousand at once", "registrar", "alpha", many(1_000), ledger.OK, 0},
		{"more than a thousand", "registrar", "alpha", many(1_001), ledger.Aborted, AbortArguments},
		{"none", "registrar", "alpha", nil, ledger.Aborted, AbortArguments},
		{"a user may not", "user", "alpha", one, ledger.Denied, DeniedRole},
		{"of another institution", "stranger", "alpha", one, ledger.Denied, DeniedInstitution},
		{"of an institution that does not exist", "admin", "gamma", one, ledger.Denied, DeniedInstitution},
		{"by somebody without an account", "nobody", "alpha", one, ledger.Denied, DeniedAccount},
		{"registrar gives a role that is not for users", "registrar", "alpha", with(func(a *NewAccount) { a.Roles = []string{"deployer"} }), ledger.Aborted, AbortRole},
		{"admin makes a committee member", "admin", "alpha", with(func(a *NewAccount) { a.Roles = []string{"committee"} }), ledger.Aborted, AbortRole},
		{"role that is no word", "admin", "alpha", with(func(a *NewAccount) { a.Roles = []string{"A b"} }), ledger.Aborted, AbortRole},
		{"threshold zero", "admin", "alpha", with(func(a *NewAccount) { a.Threshold = 0 }), ledger.Aborted, AbortThreshold},
		{"threshold out of reach", "admin", "alpha", with(func(a *NewAccount) { a.Threshold = 2 }), ledger.Aborted, AbortThreshold},
		{"no key", "admin", "alpha", with(func(a *NewAccount) { a.Keys = nil }), ledger.Aborted, AbortArguments},
		{"key of no weight", "admin", "alpha", with(func(a *NewAccount) { a.Keys[0].Weight = 0 }), ledger.Aborted, AbortKey},
		{"key that is no point", "admin", "alpha", with(func(a *NewAccount) { a.Keys[0].Key = make([]byte, 31) }), ledger.Aborted, AbortKey},
		{"algorithm of another suite", "admin", "alpha", with(func(a *NewAccount) { a.Keys[0].Algorithm = keystest.Foreign() }), ledger.Aborted, AbortKey},
		{"the same key twice", "admin", "alpha", with(func(a *NewAccount) { a.Keys = append(a.Keys, a.Keys[0]) }), ledger.Aborted, AbortKey},
		{"key that ends before it begins", "admin", "alpha", with(func(a *NewAccount) { a.Keys[0].From, a.Keys[0].Until = 9, 8 }), ledger.Aborted, AbortKey},
		{"key that has expired", "admin", "alpha", with(func(a *NewAccount) { a.Keys[0].Until = 4_999 }), ledger.Aborted, AbortThreshold},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := newWorld(t)
			w.caller = name(c.caller)
			before := len(w.state)
			out, err := w.call(newAccounts(), "register", RegisterArgs{Institution: c.institution, Accounts: c.accounts})
			wantError(t, err, c.status, c.code)
			if err != nil {
				if len(w.state) != before {
					t.Error("a refused call left something in state")
				}
				return
			}
			var addresses []ledger.Address
			if err := ledger.Unmarshal(out, &addresses); err != nil || len(addresses) != len(c.accounts) {
				t.Fatalf("returned %d addresses, %v; want %d", len(addresses), err, len(c.accounts))
			}
			if a := w.account(t, addresses[0]); a.Institution != c.institution || a.Status != Active {
				t.Errorf("account = %+v", a)
			}
			if !slices.Equal(w.events, []string{"registered"}) {
				t.Errorf("events = %v", w.events)
			}
		})
	}
}

func TestOwnKeys(t *testing.T) {
	w := newWorld(t)
	w.caller = name("user")
	accounts := newAccounts()
	find := func(k ledger.Key) []ledger.Address {
		t.Helper()
		out, err := w.call(accounts, "find", FindArgs{Key: k})
		wantError(t, err, ledger.OK, 0)
		var found []ledger.Address
		if err := ledger.Unmarshal(out, &found); err != nil {
			t.Fatal(err)
		}
		return found
	}
	sign := func(ks ...ledger.Key) []ledger.Signature {
		s := make([]ledger.Signature, len(ks))
		for i, k := range ks {
			s[i] = ledger.Signature{Algorithm: k.Algorithm, Key: k.Bytes}
		}
		return s
	}
	old, second, third := newKey(t, 3), newKey(t, 60), newKey(t, 61)

	_, err := w.call(accounts, "bind", BindArgs{Keys: []AccountKey{bound(second)}, Threshold: 3})
	wantError(t, err, ledger.Aborted, AbortThreshold)
	_, err = w.call(accounts, "bind", BindArgs{Keys: []AccountKey{bound(old)}, Threshold: 1})
	wantError(t, err, ledger.Aborted, AbortKey)
	_, err = w.call(accounts, "bind", BindArgs{Keys: []AccountKey{bound(second)}, Threshold: 2})
	wantError(t, err, ledger.OK, 0)
	a := w.account(t, w.caller)
	wantError(t, a.Authorize(w, w.caller, contract, "transfer", sign(old), 5_000), ledger.Denied, DeniedThreshold)
	wantError(t, a.Authorize(w, w.caller, contract, "transfer", sign(old, third), 5_000), ledger.Denied, DeniedKey)
	wantError(t, a.Authorize(w, w.caller, contract, "transfer", sign(old, second), 5_000), ledger.OK, 0)

	_, err = w.call(accounts, "rotate", RotateArgs{Old: third, New: bound(third)})
	wantError(t, err, ledger.Aborted, AbortKey)
	replacement := bound(third)
	replacement.Until = 6_000
	_, err = w.call(accounts, "rotate", RotateArgs{Old: old, New: replacement})
	wantError(t, err, ledger.OK, 0)
	if len(find(old)) != 0 || !slices.Equal(find(third), []ledger.Address{w.caller}) {
		t.Errorf("after the rotation the old key finds %v, the new one %v", find(old), find(third))
	}
	a = w.account(t, w.caller)
	wantError(t, a.Authorize(w, w.caller, contract, "transfer", sign(old, second), 5_000), ledger.Denied, DeniedKey)
	wantError(t, a.Authorize(w, w.caller, contract, "transfer", sign(second, third), 6_000), ledger.OK, 0)
	wantError(t, a.Authorize(w, w.caller, contract, "transfer", sign(second, third), 6_001), ledger.Denied, DeniedKeyTime)

	_, err = w.call(accounts, "unbind", UnbindArgs{Keys: []ledger.Key{second}, Threshold: 2})
	wantError(t, err, ledger.Aborted, AbortThreshold)
	_, err = w.call(accounts, "unbind", UnbindArgs{Keys: []ledger.Key{old}, Threshold: 1})
	wantError(t, err, ledger.Aborted, AbortKey)
	_, err = w.call(accounts, "unbind", UnbindArgs{Keys: []ledger.Key{second}, Threshold: 1})
	wantError(t, err, ledger.OK, 0)
	if len(find(second)) != 0 {
		t.Errorf("an unbound key finds %v", find(second))
	}
	if !slices.Equal(w.events, []string{"keys_changed", "keys_changed", "keys_changed"}) {
		t.Errorf("events = %v", w.events)
	}
}

func TestRoles(t *testing.T) {
	type step struct {
		caller, method, account, role string
		status                        ledger.Status
		code                          uint32
	}
	for _, c := range []struct {
		story string
		steps []step
	}{
		{"an admin gives and takes a role in its institution", []step{
			{"admin", "grant", "user", "deployer", ledger.OK, 0},
			{"admin", "grant", "user", "deployer", ledger.Aborted, AbortUnchanged},
			{"admin", "revoke", "user", "deployer", ledger.OK, 0},
			{"admin", "revoke", "user", "deployer", ledger.Aborted, AbortUnchanged},
		}},
		{"but not in another", []step{
			{"admin", "grant", "stranger", "deployer", ledger.Denied, DeniedInstitution},
			{"committee", "grant", "user", "deployer", ledger.Denied, DeniedInstitution},
		}},
		{"nor those of the chain, which motions give", []step{
			{"admin", "grant", "user", "committee", ledger.Denied, DeniedMotion},
			{"committee", "grant", "user", "regulator", ledger.Denied, DeniedMotion},
			{"admin", "grant", "user", "auditor", ledger.Denied, DeniedMotion},
			{"motion", "grant", "user", "auditor", ledger.OK, 0},
			{"admin", "revoke", "user", "auditor", ledger.Denied, DeniedMotion},
			{"motion", "revoke", "user", "auditor", ledger.OK, 0},
			{"motion", "grant", "registrar", "committee", ledger.OK, 0},
		}},
		{"the committee gives them in its institution", []step{{"committee", "grant", "stranger", "deployer", ledger.OK, 0}}},
		{"a registrar and a user do not", []step{
			{"registrar", "grant", "user", "user", ledger.Denied, DeniedRole},
			{"user", "grant", "user", "deployer", ledger.Denied, DeniedRole},
		}},
		{"an account that does not exist", []step{{"admin", "grant", "nobody", "user", ledger.Aborted, AbortMissing}}},
		{"roles that do not go together", []step{
			{"admin", "grant", "user", "operator", ledger.OK, 0},
			{"admin", "grant", "user", "user", ledger.Aborted, AbortRole},
			{"admin", "grant", "user", "deployer", ledger.Aborted, AbortRole},
			{"motion", "grant", "user", "committee", ledger.Aborted, AbortRole},
			{"motion", "grant", "regulator", "committee", ledger.Aborted, AbortRole},
			{"motion", "grant", "regulator", "trader", ledger.Aborted, AbortRole},
			{"motion", "grant", "admin", "auditor", ledger.Aborted, AbortRole},
			{"admin", "grant", "admin", "compliance", ledger.Aborted, AbortRole},
		}},
		{"an institution keeps an account with each of the roles that others cannot do without", []step{
			{"admin", "revoke", "admin", "institution-admin", ledger.Aborted, AbortRole},
			{"motion", "revoke", "admin", "institution-admin", ledger.Aborted, AbortRole},
			{"admin", "grant", "user", "institution-admin", ledger.OK, 0},
			{"motion", "revoke", "admin", "institution-admin", ledger.OK, 0},
			{"motion", "revoke", "user", "institution-admin", ledger.Aborted, AbortRole},
			{"motion", "revoke", "committee", "committee", ledger.Aborted, AbortRole},
		}},
		{"no motion is rid of a regulator, and the last one stays", []step{
			{"motion", "revoke", "regulator", "regulator", ledger.Aborted, AbortRole},
			{"regulator", "revoke", "regulator", "regulator", ledger.Aborted, AbortRole},
			{"motion", "grant", "user", "regulator", ledger.OK, 0},
			{"user", "revoke", "regulator", "regulator", ledger.Denied, DeniedInstitution},
			{"admin", "revoke", "user", "regulator", ledger.Denied, DeniedRole},
		}},
	} {
		t.Run(c.story, func(t *testing.T) {
			w := newWorld(t)
			for _, s := range c.steps {
				_, err := w.as(s.caller).call(newAccess(), s.method, RoleArgs{Account: name(s.account), Role: s.role})
				wantError(t, err, s.status, s.code)
				if a, found, _ := ReadAccount(w, name(s.account)); found && !slices.IsSorted(a.Roles) {
					t.Fatalf("roles = %v", a.Roles)
				}
			}
		})
	}
}

// as makes an account the caller, or a motion.
func (w *world) as(caller string) *world {
	w.caller = name(caller)
	if caller == "motion" {
		w.caller = GovernanceAddress
	}
	return w
}

// TestConflicts checks that roles which do not go together are refused wherever an account gets them.
func TestConflicts(t *testing.T) {
	for _, c := range conflicts {
		other := cmp.Or(string(c.other), "some-role")
		roles := []string{string(c.role), other}
		slices.Sort(roles)
		if c.reason == "" {
			t.Errorf("the conflict of %v has no reason", roles)
		}
		g := &ledger.Genesis{
			Members:  []ledger.Member{{Node: [32]byte{1}, Institution: "alpha", Key: newKey(t, 100)}},
			Accounts: []ledger.GenesisAccount{{Name: "a", Institution: "alpha", Roles: roles, Keys: []ledger.Key{newKey(t, 1)}}},
		}
		if _, err := Genesis(keystest.Suite(), g); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("genesis with an account of %v: %v, want the reason %q", roles, err, c.reason)
		}
		g.Accounts[0].Roles = roles[:1]
		if _, err := Genesis(keystest.Suite(), g); err != nil {
			t.Errorf("genesis with an account of %v: %v", roles[:1], err)
		}
		w := newWorld(t)
		_, err := w.as("admin").call(newAccounts(), "register", RegisterArgs{Institution: "alpha", Accounts: []NewAccount{{Threshold: 1, Roles: roles, Keys: []AccountKey{bound(newKey(t, 50))}}}})
		wantError(t, err, ledger.Aborted, AbortRole)
		for i := range roles { // one after the other, in either order
			w := newWorld(t)
			_, err := w.as("motion").call(newAccess(), "grant", RoleArgs{Account: name("user"), Role: roles[i]})
			wantError(t, err, ledger.OK, 0)
			_, err = w.call(newAccess(), "grant", RoleArgs{Account: name("user"), Role: roles[1-i]})
			wantError(t, err, ledger.Aborted, AbortRole)
		}
	}
}

// module returns a module without code, with a schema if there is one.
func module(t *testing.T, schema *ledger.Schema) []byte {
	t.Helper()
	code := []byte("\x00asm\x01\x00\x00\x00")
	if schema == nil {
		return code
	}
	section, err := schema.Encode()
	if err != nil {
		t.Fatal(err)
	}
	body := append([]byte{byte(len(ledger.SchemaSection))}, ledger.SchemaSection...)
	body = append(body, section...)
	return append(append(code, 0, byte(len(body)|0x80), byte(len(body)>>7)), body...)
}

func TestDeploy(t *testing.T) {
	schema := &ledger.Schema{ABI: ledger.ContractABI, Name: "token", Profile: "std"}
	code := module(t, schema)
	t.Run("only with a deploy role", func(t *testing.T) {
		w := newWorld(t)
		w.caller = name("user")
		_, err := w.call(newContracts(), "deploy", DeployArgs{Code: code})
		wantError(t, err, ledger.Denied, DeniedRole)
	})
	t.Run("with everybody when there are no deploy roles", func(t *testing.T) {
		w := newWorld(t)
		params := ledger.DefaultParams()
		params.DeployRoles = nil
		if err := write(w, paramsKey(), &params); err != nil {
			t.Fatal(err)
		}
		w.caller = name("user")
		_, err := w.call(newContracts(), "deploy", DeployArgs{Code: code})
		wantError(t, err, ledger.OK, 0)
		w.caller = name("nobody")
		_, err = w.call(newContracts(), "deploy", DeployArgs{Code: code})
		wantError(t, err, ledger.Denied, DeniedAccount)
	})
	t.Run("what the rules refuse leaves nothing", func(t *testing.T) {
		w := newWorld(t)
		w.caller = name("admin")
		w.refuse = &Error{Status: ledger.Denied, Code: DeniedModule}
		before := len(w.state)
		_, err := w.call(newContracts(), "deploy", DeployArgs{Code: code})
		wantError(t, err, ledger.Denied, DeniedModule)
		if len(w.state) != before {
			t.Error("state changed")
		}
	})
	t.Run("a failing init leaves nothing", func(t *testing.T) {
		w := newWorld(t)
		w.caller = name("admin")
		before := len(w.state)
		w.hook = func(ledger.Address, string, []byte) error { return &Error{Status: ledger.Aborted, Code: 1234} }
		_, err := w.call(newContracts(), "deploy", DeployArgs{Code: code})
		wantError(t, err, ledger.Aborted, 1234)
		if len(w.state) != before || len(w.events) != 0 {
			t.Errorf("%d state keys more, events %v", len(w.state)-before, w.events)
		}
	})
	t.Run("deploy, upgrade, pass on", func(t *testing.T) {
		w := newWorld(t)
		w.caller = name("admin")
		var hooks []string
		w.hook = func(_ ledger.Address, hook string, args []byte) error {
			hooks = append(hooks, hook+" "+string(args))
			return nil
		}
		out, err := w.call(newContracts(), "deploy", DeployArgs{Code: code, Args: []byte("one")})
		wantError(t, err, ledger.OK, 0)
		var address ledger.Address
		if err := ledger.Unmarshal(out, &address); err != nil {
			t.Fatal(err)
		}
		d, found, err := ReadContract(w, address)
		if err != nil || !found || d.Number != 1 || d.Owner != w.caller || d.Height != 7 {
			t.Fatalf("deployment = %+v, %v, %v", d, found, err)
		}
		if stored, _, _ := CodeByHash(w, d.Code); !bytes.Equal(stored, code) {
			t.Error("another code is stored")
		}
		if s, err := ReadSchema(w, d.Code); err != nil || s.Name != "token" {
			t.Errorf("ReadSchema = %+v, %v", s, err)
		}
		_, err = w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: code})
		wantError(t, err, ledger.Aborted, AbortUnchanged)
		_, err = w.call(newContracts(), "transfer", TransferArgs{Address: address, Owner: name("nobody")})
		wantError(t, err, ledger.Aborted, AbortMissing)
		_, err = w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: module(t, nil), Args: []byte("two")})
		wantError(t, err, ledger.Aborted, AbortIncompatible)
		_, err = w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: module(t, nil), Args: []byte("two"), Breaking: true})
		wantError(t, err, ledger.OK, 0)
		_, err = w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: code, Breaking: true})
		wantError(t, err, ledger.Aborted, AbortDowngrade)
		old := d.Code
		if d, _, _ = ReadContract(w, address); d.Number != 2 || d.Code == old {
			t.Errorf("after the upgrade: %+v", d)
		}
		if _, found, _ := CodeByHash(w, old); !found {
			t.Error("the old code is gone")
		}
		if s, err := ReadSchema(w, d.Code); err != nil || s != nil {
			t.Errorf("schema of a module without one = %v, %v", s, err)
		}
		_, err = w.call(newContracts(), "transfer", TransferArgs{Address: address, Owner: name("user")})
		wantError(t, err, ledger.OK, 0)
		_, err = w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: code})
		wantError(t, err, ledger.Denied, DeniedOwner)
		if !slices.Equal(hooks, []string{"init one", "upgrade two"}) || !slices.Equal(w.events, []string{"deployed", "upgraded", "transferred"}) {
			t.Errorf("hooks %v, events %v", hooks, w.events)
		}
	})
}

// TestReplace tells which code may follow which.
func TestReplace(t *testing.T) {
	w := newWorld(t)
	w.caller = name("admin")
	release := func(version string, methods ...string) []byte {
		schema := &ledger.Schema{ABI: ledger.ContractABI, Name: "token", Version: version, Profile: "strict"}
		for _, m := range methods {
			schema.Methods = append(schema.Methods, ledger.Method{Name: m, Kind: ledger.MethodTx})
		}
		return module(t, schema)
	}
	first := release("1.0.0", "pay", "issue")
	out, err := w.call(newContracts(), "deploy", DeployArgs{Code: first})
	wantError(t, err, ledger.OK, 0)
	address := ledger.Address(out[1:])
	for _, step := range []struct {
		name     string
		code     []byte
		breaking bool
		status   ledger.Status
		abort    uint32
		data     any
	}{
		{"a method goes", release("1.1.0", "pay"), false, ledger.Aborted, AbortIncompatible, []any{[]Broken{{Kind: ledger.MethodGone, Name: "issue"}}, 1}},
		{"a method goes, and the owner says so", release("1.1.0", "pay"), true, ledger.OK, 0, nil},
		{"an older version", release("1.0.9", "pay", "mint"), true, ledger.Aborted, AbortDowngrade, []any{0, "1.0.9", "1.1.0"}},
		{"code that ran before", first, true, ledger.Aborted, AbortDowngrade, []any{1, "1.0.0", "1.1.0"}},
		{"a newer version", release("1.2.0", "pay", "mint"), false, ledger.OK, 0, nil},
		{"a module without a schema", module(t, nil), true, ledger.OK, 0, nil},
		{"an older version behind it", release("1.1.5", "pay", "mint"), true, ledger.Aborted, AbortDowngrade, []any{0, "1.1.5", "1.2.0"}},
		{"a version that is none", release("the best", "pay", "mint"), true, ledger.OK, 0, nil},
		{"an older version behind that", release("1.1.5", "pay", "mint"), true, ledger.Aborted, AbortDowngrade, []any{0, "1.1.5", "1.2.0"}},
		{"the next version", release("1.3.0", "pay", "mint"), true, ledger.OK, 0, nil},
	} {
		t.Run(step.name, func(t *testing.T) {
			_, err := w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: step.code, Breaking: step.breaking})
			wantError(t, err, step.status, step.abort)
			if e, ok := errors.AsType[*Error](err); ok && !bytes.Equal(e.Data, mustMarshal(t, step.data)) {
				t.Errorf("data %x", e.Data)
			}
		})
	}
	t.Run("all that ran is remembered", func(t *testing.T) {
		for after, numbers := range [][]uint32{{1, 2, 3, 4, 5, 6}, {2, 3, 4, 5, 6}, {3, 4, 5, 6}} {
			out, err := w.call(newContracts(), "history", HistoryArgs{Address: address, After: uint32(after)})
			wantError(t, err, ledger.OK, 0)
			var history []Deployment
			if err := ledger.Unmarshal(out, &history); err != nil {
				t.Fatal(err)
			}
			var got []uint32
			for _, d := range history {
				got = append(got, d.Number)
				if _, found, err := CodeByHash(w, d.Code); !found || err != nil {
					t.Errorf("code of number %d: %v, %v", d.Number, found, err)
				}
			}
			if !slices.Equal(got, numbers) {
				t.Errorf("after %d: %v, want %v", after, got, numbers)
			}
		}
	})
	t.Run("an abort names 32 reasons at most", func(t *testing.T) {
		var many []string
		for i := range 60 {
			many = append(many, fmt.Sprint("m", i))
		}
		_, err := w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: release("2.0.0", append(many, "pay", "mint")...)})
		wantError(t, err, ledger.OK, 0)
		_, err = w.call(newContracts(), "replace", ReplaceArgs{Address: address, Code: release("3.0.0")})
		wantError(t, err, ledger.Aborted, AbortIncompatible)
		if e, _ := errors.AsType[*Error](err); !strings.HasSuffix(e.Reason, "and 30 more") {
			t.Error(e.Reason)
		}
	})
}
