package rpc

import (
	"errors"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// rows is a world state.
type rows map[string][]byte

func (r rows) Get(key []byte) ([]byte, bool, error) {
	v, ok := r[string(key)]
	return v, ok, nil
}

func (r rows) Range(start, end []byte, _ bool) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(r)) {
			if key >= string(start) && key < string(end) && !yield(state.Entry{Key: []byte(key), Value: r[key]}, nil) {
				return
			}
		}
	}
}

// TestPrivacy asks for each kind of data of a contract of each visibility, as each kind of client: the whole table of who may read what.
func TestPrivacy(t *testing.T) {
	public, institution, parties := ledger.Address{1: 1, 5: 9}, ledger.Address{1: 2, 5: 9}, ledger.Address{1: 3, 5: 9}
	base := rows{}
	for contract, visible := range map[ledger.Address]precompiles.Visible{institution: precompiles.VisibleInstitution, parties: precompiles.VisibleParties} {
		raw, err := ledger.Marshal(&precompiles.Restriction{Version: ledger.Version, Visible: visible, Institution: "alpha", Height: 7})
		if err != nil {
			t.Fatal(err)
		}
		base[string(precompiles.RestrictionKeys())+string(contract[:])] = raw
	}
	account := func(n byte) ledger.Address { return ledger.Address{0: 0xaa, 19: n} }
	sender, named, other := account(1), account(2), account(3)
	args, err := ledger.Marshal([]any{named[:], uint64(5)})
	if err != nil {
		t.Fatal(err)
	}
	schema := &ledger.Schema{Methods: []ledger.Method{
		{Name: "balance", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "of", Type: "addr"}, {Name: "unit", Type: "u64"}}},
		{Name: "memo", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "memo", Type: "bytes"}, {Name: "unit", Type: "u64"}}},
		{Name: "pay", Kind: ledger.MethodTx, Args: []ledger.Field{{Name: "to", Type: "addr"}, {Name: "unit", Type: "u64"}}},
		{Name: "ledger", Kind: ledger.MethodView, Roles: []string{"user"}, Args: []ledger.Field{{Name: "of", Type: "addr"}, {Name: "unit", Type: "u64"}}},
	}}
	receipt := func(contract ledger.Address) *ledger.Receipt {
		return &ledger.Receipt{Served: ledger.Target{Address: contract}, Events: []ledger.Event{{Contract: contract, Topic: "moved", Data: args}}}
	}
	// Through a contract that everybody may read, what it calls is no less private.
	through := func(contract ledger.Address) *ledger.Receipt {
		return &ledger.Receipt{Served: ledger.Target{Address: public}, Events: []ledger.Event{{Contract: contract, Topic: "moved", Data: args}}}
	}
	view := func(method string) func(v *reads, contract ledger.Address) error {
		return func(v *reads, contract ledger.Address) error {
			return v.call(contract, schema, &executor.Call{From: v.account, To: ledger.Target{Address: contract}, Method: method, Args: args}, false)
		}
	}
	dry := func(schema *ledger.Schema, method string) func(v *reads, contract ledger.Address) error {
		return func(v *reads, contract ledger.Address) error {
			return v.call(contract, schema, &executor.Call{From: v.account, To: ledger.Target{Address: contract}, Method: method, Args: args}, true)
		}
	}
	data := []struct {
		what string
		read func(v *reads, contract ledger.Address) error
	}{
		{"a row that names an account", func(v *reads, c ledger.Address) error { return v.state(c, append([]byte("bal/"), named[:]...)) }},
		{"a row that names nobody", func(v *reads, c ledger.Address) error { return v.state(c, []byte("total")) }},
		{"a transaction", func(v *reads, c ledger.Address) error { return v.transaction(sender, args, receipt(c)) }},
		{"a transaction through another contract", func(v *reads, c ledger.Address) error { return v.transaction(sender, args, through(c)) }},
		{"the trace of a transaction", func(v *reads, c ledger.Address) error { return v.whole(contractsOf(through(c))) }},
		{"an event", func(v *reads, c ledger.Address) error {
			ok, err := v.event(func() (ledger.Address, error) { return sender, nil }, &receipt(c).Events[0])
			if err == nil && !ok {
				err = problem(http.StatusForbidden, client.CodeForbidden, "left out")
			}
			return err
		}},
		{"a view about an account", view("balance")},
		{"a view about nobody", view("memo")},
		{"a view for some roles", view("ledger")},
		{"a view through another contract", func(v *reads, c ledger.Address) error { return v.called(public, []ledger.Address{public, c}) }},
		{"a view in another's name", func(v *reads, c ledger.Address) error {
			return v.call(c, schema, &executor.Call{From: account(9), To: ledger.Target{Address: c}, Method: "balance", Args: args}, false)
		}},
		{"a dry run in one's own name", dry(schema, "pay")},
		{"a dry run of a view about another", dry(schema, "balance")}, // who is named asks about itself
		{"a dry run of a view about nobody", dry(schema, "memo")},
		{"a dry run of a method that the schema has not", dry(schema, "burn")},
		{"a dry run of a contract without a schema", dry(nil, "pay")},
	}
	query := func(a ledger.Address, institution string, roles ...identity.Role) login.Subject {
		return login.Subject{Name: a.String(), Institution: institution, Means: "query", Roles: roles, Query: &client.Query{Account: a}}
	}
	by := func(means, institution string, roles ...identity.Role) login.Subject {
		return login.Subject{Name: means, Institution: institution, Means: means, Roles: roles}
	}
	// What each client may read of the data above, by place: of the contract for the institution, and of that for parties.
	const all, none = "yyyyyyyyyyyyyyyy", "----------------"
	for _, c := range []struct {
		who     string
		subject login.Subject
		of      map[ledger.Address]string
	}{
		{"who is on the machine", login.Subject{Open: true}, map[ledger.Address]string{institution: all, parties: all}},
		{"the sender, of another institution", query(sender, "beta", identity.User), map[ledger.Address]string{institution: "--yy-y----------", parties: "--yy-y--y--y----"}},
		{"an account that is named", query(named, "beta", identity.User), map[ledger.Address]string{institution: none, parties: "y-yy-yy-y--yy---"}},
		{"another account of that institution", query(other, "beta", identity.User), map[ledger.Address]string{institution: none, parties: "--------y--y----"}},
		{"an account of the owner's institution", query(other, "alpha", identity.User), map[ledger.Address]string{institution: "yyyyyyyyyy-yyyyy", parties: "--------y--y----"}},
		{"an admin of another institution", query(other, "beta", identity.InstitutionAdmin), map[ledger.Address]string{institution: none, parties: "--------y--y----"}},
		{"a committee member of another institution", query(other, "beta", identity.Committee), map[ledger.Address]string{institution: none, parties: "--------y--y----"}},
		{"a compliance officer of another institution", query(other, "beta", identity.Compliance), map[ledger.Address]string{institution: none, parties: "--------y--y----"}},
		{"a regulator", query(other, "authority", identity.Regulator), map[ledger.Address]string{institution: "yyyyyyyyyy-yyyyy", parties: "yyyyyyyyyy-yyyyy"}},
		{"an auditor", query(other, "auditors", identity.Auditor), map[ledger.Address]string{institution: "yyyyyyyyyy-yyyyy", parties: "yyyyyyyyyy-yyyyy"}},
		{"an auditor by certificate", by("certificate", "auditors", identity.Auditor), map[ledger.Address]string{institution: "yyyyyyyyyy-yyyyy", parties: "yyyyyyyyyy-yyyyy"}},
		{"an auditor by a token", by("token", "", identity.Auditor), map[ledger.Address]string{institution: none, parties: none}},
		{"a token", by("token", "", identity.User), map[ledger.Address]string{institution: none, parties: none}},
		{"a certificate of the owner's institution", by("certificate", "alpha", identity.User), map[ledger.Address]string{institution: "yyyyyyyyyy-yyyyy", parties: none}},
		{"a certificate of another institution", by("certificate", "beta", identity.User), map[ledger.Address]string{institution: none, parties: none}},
		{"the node's operator", by("operator", "", identity.Operator), map[ledger.Address]string{institution: none, parties: none}},
	} {
		c.of[public] = all
		for contract, want := range c.of {
			for i, d := range data {
				v := &reads{head: base, who: c.subject, known: map[ledger.Address]precompiles.Restriction{}}
				if c.subject.Query != nil {
					v.account = c.subject.Query.Account
				}
				err := d.read(v, contract)
				p, refused := errors.AsType[*client.Problem](err)
				if err != nil && (!refused || p.Status != http.StatusForbidden) {
					t.Errorf("%s, %s of contract %x: %v", c.who, d.what, contract[1], err)
				}
				if got := err == nil; got != (want[i] == 'y') {
					t.Errorf("%s, %s of contract %x: allowed %v, %v", c.who, d.what, contract[1], got, err)
				}
			}
		}
	}
}

// counted counts how often ranges of rows are read.
type counted struct {
	rows
	times *int
}

func (c counted) Range(start, end []byte, reverse bool) iter.Seq2[state.Entry, error] {
	*c.times++
	return c.rows.Range(start, end, reverse)
}

// TestManyPrivate has an institution that may read all contracts, of which there become more than a node looks at.
func TestManyPrivate(t *testing.T) {
	raw, err := ledger.Marshal(&precompiles.Restriction{Version: ledger.Version, Visible: precompiles.VisibleInstitution, Institution: "alpha", Height: 7})
	if err != nil {
		t.Fatal(err)
	}
	world := rows{}
	restrict := func(i int) {
		contract := ledger.Address{0: byte(i >> 8), 1: byte(i)}
		world[string(precompiles.RestrictionKeys())+string(contract[:])] = raw
	}
	for i := range maxPrivate {
		restrict(i)
	}
	ask := func(who login.Subject) error {
		return (&reads{head: world, who: who, known: map[ledger.Address]precompiles.Restriction{}}).private()
	}
	alpha := login.Subject{Means: "query", Institution: "alpha", Roles: []identity.Role{identity.User}}
	if err := ask(alpha); err != nil {
		t.Errorf("of %d contracts: %v", maxPrivate, err)
	}
	var asked int
	v := &reads{head: counted{world, &asked}, who: alpha, known: map[ledger.Address]precompiles.Restriction{}}
	receipt := &ledger.Receipt{Served: ledger.Target{Address: precompiles.CorrectionsAddress}}
	for range 3 { // transactions of a block
		if err := v.transaction(ledger.Address{1}, []byte("no arguments"), receipt); err != nil {
			t.Errorf("a proposal that does not decode: %v", err)
		}
	}
	if asked != 1 {
		t.Errorf("the private contracts were looked through %d times for one request", asked)
	}
	restrict(maxPrivate)
	p, ok := errors.AsType[*client.Problem](ask(alpha))
	if !ok || p.Code != client.CodeForbidden || !strings.Contains(p.Detail, "more than 1000 contracts") || !strings.Contains(p.Detail, "an auditor") {
		t.Errorf("of one more: %+v, want that there are too many and who may ask", p)
	}
	beta := alpha
	beta.Institution = "beta"
	if p, ok := errors.AsType[*client.Problem](ask(beta)); !ok || !strings.Contains(p.Detail, "is private: alpha") {
		t.Errorf("of another institution's: %+v, want a contract that it may not read", p)
	}
	if err := ask(login.Subject{Means: "query", Roles: []identity.Role{identity.Auditor}}); err != nil {
		t.Errorf("an auditor: %v", err)
	}
}

// TestPrivateEntries: who keeps the accounts of an institution reads the entries about them, whichever node is asked. The login says of nobody
// that he is an admin of another institution than the node's; the chain does.
func TestPrivateEntries(t *testing.T) {
	contract := ledger.Address{1: 3, 5: 9}
	base := rows{}
	put := func(key []byte, row any) {
		raw, err := ledger.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		base[string(key)] = raw
	}
	put(append(precompiles.RestrictionKeys(), contract[:]...), &precompiles.Restriction{Version: ledger.Version, Visible: precompiles.VisibleParties, Institution: "alpha", Height: 7})
	account := func(n byte, institution string, roles ...string) ledger.Address {
		a := ledger.Address{0: 0xaa, 19: n}
		put(precompiles.AccountStateKey(a), &precompiles.Account{Version: ledger.Version, Institution: institution, Roles: roles})
		return a
	}
	entries := []precompiles.Entry{{Contract: contract, Account: account(1, "beta", "user")}, {Contract: contract, Account: account(2, "gamma", "user"), Credit: true}}
	for _, c := range []struct {
		who         string
		account     ledger.Address
		institution string
		login       []identity.Role
		shown       int
	}{
		{"an admin of the bank from which it takes", account(3, "beta", "institution-admin"), "beta", []identity.Role{identity.User}, 1},
		{"a compliance officer of that bank", account(4, "beta", "compliance"), "beta", []identity.Role{identity.Compliance}, 1},
		{"a deployer of that bank", account(5, "beta", "deployer"), "beta", []identity.Role{identity.Deployer}, 0},
		{"an admin of a bank that it is not about", account(6, "delta", "institution-admin"), "delta", []identity.Role{identity.User}, 0},
		{"an admin who went to another bank since the login", account(7, "delta", "institution-admin"), "beta", []identity.Role{identity.User}, 0},
		{"a certificate of an admin of that bank", ledger.Address{}, "beta", []identity.Role{identity.InstitutionAdmin}, 1},
		{"a certificate of a user of that bank", ledger.Address{}, "beta", []identity.Role{identity.User}, 0},
		{"a token", ledger.Address{}, "", []identity.Role{identity.Compliance}, 0},
	} {
		v := &reads{head: base, who: login.Subject{Institution: c.institution, Roles: c.login}, known: map[ledger.Address]precompiles.Restriction{}, account: c.account}
		shown, err := v.entries(entries)
		if err != nil || len(shown) != c.shown || c.shown == 1 && shown[0].Account != entries[0].Account {
			t.Errorf("%s reads %+v, %v; want %d entries", c.who, shown, err, c.shown)
		}
	}
}
