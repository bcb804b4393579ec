package executor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// version is a contract that answers with its number, fails on demand, and calls another one by its name.
func version(tb testing.TB, number byte) []byte {
	a := &assembler{}
	a.method("number", hostCall("output", a.text(string([]byte{number}))), succeed)
	a.method("fail", hostCall("abort", i32(1001), a.text("\x80")), succeed)
	a.method("ask", join(hostCall("call", a.text("token"), a.text("number"), a.text("\x80"), i64(0), i32(4)), drop,
		hostCall("result_read", i32(600), i32(0), i32(1)), drop, hostCall("output", i32(600), i32(1))), succeed)
	a.method("asks", join(hostCall("call", a.text("token@1"), a.text("number"), a.text("\x80"), i64(0), i32(4)), drop,
		hostCall("result_read", i32(600), i32(0), i32(1)), drop, hostCall("output", i32(600), i32(1))), succeed)
	a.method("lost", join(hostCall("call", a.text("nobody"), a.text("number"), a.text("\x80"), i64(0), i32(4)), i32(-4), body{0x6b}))
	return a.module(tb, nil)
}

// named is a chain whose name token has the versions 1, which is current, and 2, and accounts u0 to u39 of alpha.
type named struct {
	*chain
	one, two, asker ledger.Address
	users           []string
}

func newNamed(t *testing.T) *named {
	var users []string
	for i := range 40 {
		users = append(users, fmt.Sprintf("u%d", i))
	}
	n := &named{chain: newChainOn(t, newVM(t, "interpreter"), users...), users: users}
	n.one, n.two, n.asker = n.deploy(version(t, 1)), n.deploy(version(t, 2)), n.deploy(version(t, 3))
	n.ok("register", precompiles.NameVersionArgs{Name: "token", Version: "1", Address: n.one})
	n.ok("publish", precompiles.NameVersionArgs{Name: "token", Version: "2", Address: n.two})
	return n
}

// cns has admin call the contract cns.
func (n *named) cns(method string, args any) ledger.Receipt {
	n.Helper()
	return n.block(n.tx("admin", precompiles.CNSAddress, method, args))[0]
}

func (n *named) ok(method string, args any) {
	n.Helper()
	n.want(n.cns(method, args), ledger.OK, 0)
}

// call returns a transaction to a name.
func (n *named) call(sender, name, version, method string) *ledger.SignedTx {
	n.Helper()
	tx := n.body(sender, ledger.Address{1}, method, none)
	tx.To = ledger.Target{Name: name, Version: version}
	return n.sign(tx, n.signers[sender])
}

// served returns the labels that serve each user's transaction to token.
func (n *named) served(method string) (labels []string) {
	n.Helper()
	var txs []*ledger.SignedTx
	for _, u := range n.users {
		txs = append(txs, n.call(u, "token", "", method))
	}
	for _, r := range n.block(txs...) {
		to := map[string]ledger.Address{"1": n.one, "2": n.two}[r.Served.Version]
		if r.Served.Name != "token" || r.Served.Address != to {
			n.Fatalf("a transaction to token was served by %+v", r.Served)
		}
		labels = append(labels, r.Served.Version)
	}
	return labels
}

func (n *named) row() precompiles.Name {
	n.Helper()
	row, found, err := precompiles.ReadName(n.head, "token")
	if err != nil || !found {
		n.Fatal("no row of token", err)
	}
	return row
}

func (n *named) stats() (s precompiles.NameStats) {
	n.Helper()
	outcome, err := n.x.View(context.Background(), n.head, Call{To: ledger.Target{Address: precompiles.CNSAddress}, Method: "stats", Args: n.marshal([]any{"token"})})
	if err != nil || outcome.Status != ledger.OK {
		n.Fatal(outcome, err)
	}
	if err := ledger.Unmarshal(outcome.Data, &s); err != nil {
		n.Fatal(err)
	}
	return s
}

func count(labels []string, label string) (n int) {
	for _, l := range labels {
		if l == label {
			n++
		}
	}
	return n
}

func TestNames(t *testing.T) {
	for _, c := range precompiles.All() {
		if precompiles.IsName(c.Name()) {
			t.Errorf("%s can be the name of a contract", c.Name())
		}
	}
	n := newNamed(t)
	t.Log("a transaction, and a contract, call by name; the receipt says which version served")
	r := n.block(n.call("user", "token", "", "number"), n.call("user", "token", "2", "number"), n.tx("user", n.asker, "ask", none), n.tx("user", n.asker, "asks", none))
	for i, want := range []string{"\x01", "\x02", "\x01", "\x01"} {
		n.want(r[i], ledger.OK, 0)
		if string(r[i].Data) != want {
			t.Errorf("call %d returns %x, want %x", i, r[i].Data, want)
		}
	}
	if want := (ledger.Target{Address: n.two, Name: "token", Version: "2"}); r[1].Served != want {
		t.Errorf("served by %+v, want %+v", r[1].Served, want)
	}
	t.Log("a name that nobody has, and a version that it does not have, are not found")
	r = n.block(n.call("user", "nobody", "", "number"), n.call("user", "token", "9", "number"), n.tx("user", n.asker, "lost", none))
	n.want(r[0], ledger.NotFound, 0)
	n.want(r[1], ledger.NotFound, 0)
	n.want(r[2], ledger.OK, 0)
	t.Log("promoting and rolling back move everybody, from the next block on")
	n.ok("promote", precompiles.VersionArgs{Name: "token", Version: "2"})
	if labels := n.served("number"); count(labels, "2") != len(labels) {
		t.Errorf("served by %v", labels)
	}
	n.ok("rollback", precompiles.NameArgs{Name: "token"})
	if labels := n.served("number"); count(labels, "1") != len(labels) {
		t.Errorf("served by %v", labels)
	}
	if s := n.stats(); len(s.Versions) != 2 || s.Versions[0].Calls != 41 || s.Versions[1].Calls != 41 || s.Versions[0].Failures != 0 || s.Versions[0].Gas == 0 {
		t.Errorf("counted %+v", s)
	}
}

// TestNameRefusals: what changes of names are refused, and to whom.
func TestNameRefusals(t *testing.T) {
	n := newNamed(t)
	publish := func(name, version string, address ledger.Address) any {
		return precompiles.NameVersionArgs{Name: name, Version: version, Address: address}
	}
	canary := func(change func(*precompiles.Canary)) any {
		c := precompiles.Canary{Label: "2", Weight: 1000, Rules: []precompiles.CanaryRule{}}
		change(&c)
		return precompiles.CanaryArgs{Name: "token", Canary: c}
	}
	rule := func(kind precompiles.RuleKind, values ...string) any {
		return canary(func(c *precompiles.Canary) {
			c.Rules = append(c.Rules, precompiles.CanaryRule{Kind: kind, Values: values, Canary: true})
		})
	}
	const bad, args, same = precompiles.AbortName, precompiles.AbortArguments, precompiles.AbortUnchanged
	for what, test := range map[string]struct {
		sender, method string
		args           any
		status         ledger.Status
		code           uint32
	}{
		"a name that is taken":              {"admin", "register", publish("token", "3", n.asker), ledger.Aborted, bad},
		"the name of a system contract":     {"admin", "register", publish("accounts", "1", n.asker), ledger.Aborted, bad},
		"its own name":                      {"admin", "register", publish("cns", "1", n.asker), ledger.Aborted, bad},
		"a name like an address":            {"admin", "register", publish("a"+strings.Repeat("0", 39), "1", n.asker), ledger.Aborted, bad},
		"a name with an @":                  {"admin", "register", publish("a@b", "1", n.asker), ledger.Aborted, bad},
		"a name of capitals":                {"admin", "register", publish("Token", "1", n.asker), ledger.Aborted, bad},
		"a name of a system contract to be": {"admin", "register", publish("governance", "1", n.asker), ledger.Aborted, bad},
		"a name that ends in a dot":         {"admin", "register", publish("accounts.", "1", n.asker), ledger.Aborted, bad},
		"a name with two dots":              {"admin", "register", publish("a..b", "1", n.asker), ledger.Aborted, bad},
		"a canary that is over":             {"admin", "canary", canary(func(c *precompiles.Canary) { c.Until = 1 }), ledger.Aborted, args},
		"a value with a line break":         {"admin", "canary", rule(precompiles.RuleMethod, "a\nb"), ledger.Aborted, args},
		"an empty name":                     {"admin", "register", publish("", "1", n.asker), ledger.Aborted, bad},
		"a name of 65 characters":           {"admin", "register", publish(strings.Repeat("a", 65), "1", n.asker), ledger.Aborted, bad},
		"an empty version":                  {"admin", "register", publish("other", "", n.asker), ledger.Aborted, bad},
		"no deployer":                       {"user", "register", publish("other", "1", n.asker), ledger.Denied, precompiles.DeniedRole},
		"no contract":                       {"admin", "register", publish("other", "1", ledger.Address{9}), ledger.Aborted, precompiles.AbortMissing},
		"a system contract":                 {"admin", "register", publish("other", "1", precompiles.AccountsAddress), ledger.Aborted, precompiles.AbortMissing},
		"a version that there is":           {"admin", "publish", publish("token", "2", n.asker), ledger.Aborted, bad},
		"a version of no name":              {"admin", "publish", publish("other", "1", n.asker), ledger.Aborted, bad},
		"another's name, publish":           {"committee", "publish", publish("token", "3", n.asker), ledger.Denied, precompiles.DeniedOwner},
		"another's name, promote":           {"regulator", "promote", precompiles.VersionArgs{Name: "token", Version: "2"}, ledger.Denied, precompiles.DeniedOwner},
		"another's name, roll back":         {"user", "rollback", precompiles.NameArgs{Name: "token"}, ledger.Denied, precompiles.DeniedOwner},
		"another's name, canary":            {"user", "canary", canary(func(*precompiles.Canary) {}), ledger.Denied, precompiles.DeniedOwner},
		"another's name, withdraw":          {"user", "withdraw", precompiles.VersionArgs{Name: "token", Version: "2"}, ledger.Denied, precompiles.DeniedOwner},
		"another's name, transfer":          {"user", "transfer", precompiles.NameOwnerArgs{Name: "token", Owner: address("user")}, ledger.Denied, precompiles.DeniedOwner},
		"an owner that does not exist":      {"admin", "transfer", precompiles.NameOwnerArgs{Name: "token", Owner: ledger.Address{9}}, ledger.Aborted, precompiles.AbortMissing},
		"the current version away":          {"admin", "withdraw", precompiles.VersionArgs{Name: "token", Version: "1"}, ledger.Aborted, bad},
		"the current version promoted":      {"admin", "promote", precompiles.VersionArgs{Name: "token", Version: "1"}, ledger.Aborted, same},
		"no canary to promote":              {"admin", "promote", precompiles.VersionArgs{Name: "token"}, ledger.Aborted, bad},
		"nothing to roll back":              {"admin", "rollback", precompiles.NameArgs{Name: "token"}, ledger.Aborted, same},
		"a canary of no version":            {"admin", "canary", canary(func(c *precompiles.Canary) { c.Label = "7" }), ledger.Aborted, bad},
		"a canary of the current version":   {"admin", "canary", canary(func(c *precompiles.Canary) { c.Label = "1" }), ledger.Aborted, same},
		"more than all":                     {"admin", "canary", canary(func(c *precompiles.Canary) { c.Weight = 10_001 }), ledger.Aborted, args},
		"a canary that serves nobody":       {"admin", "canary", canary(func(c *precompiles.Canary) { c.Weight = 0 }), ledger.Aborted, args},
		"an end before the beginning":       {"admin", "canary", canary(func(c *precompiles.Canary) { c.From, c.Until = 9, 8 }), ledger.Aborted, args},
		"a watch without a window":          {"admin", "canary", canary(func(c *precompiles.Canary) { c.Watch.Permille = 5 }), ledger.Aborted, args},
		"a watch beyond all":                {"admin", "canary", canary(func(c *precompiles.Canary) { c.Watch = precompiles.Watch{Permille: 1001, Window: 1} }), ledger.Aborted, args},
		"a rule of no kind":                 {"admin", "canary", rule(5, "a"), ledger.Aborted, args},
		"a rule without values":             {"admin", "canary", rule(precompiles.RuleMethod), ledger.Aborted, args},
		"values out of order":               {"admin", "canary", rule(precompiles.RuleInstitution, "beta", "alpha"), ledger.Aborted, args},
		"an account by its name":            {"admin", "canary", rule(precompiles.RuleAccount, "alice"), ledger.Aborted, args},
		"a role that is none":               {"admin", "canary", rule(precompiles.RuleRole, "Trader"), ledger.Aborted, args},
		"arguments of another method":       {"admin", "canary", precompiles.NameArgs{Name: "token"}, ledger.Aborted, args},
		"more versions than there may be":   {"admin", "publish", publish("full", "x", n.asker), ledger.Aborted, bad},
		"a version that is not there away":  {"admin", "withdraw", precompiles.VersionArgs{Name: "token", Version: "5"}, ledger.Aborted, bad},
	} {
		if what == "more versions than there may be" {
			n.ok("register", publish("full", "0", n.asker))
			for i := 1; i < precompiles.MaxNameVersions; i++ {
				n.ok("publish", publish("full", fmt.Sprint(i), n.asker))
			}
		}
		r := n.block(n.tx(test.sender, precompiles.CNSAddress, test.method, test.args))[0]
		if r.Status != test.status || r.Code != test.code {
			t.Errorf("%s: %s with code %d, want %s with code %d", what, r.Status, r.Code, test.status, test.code)
		}
	}
	t.Log("what is withdrawn is not called any more")
	n.ok("withdraw", precompiles.VersionArgs{Name: "token", Version: "2"})
	n.want(n.block(n.call("user", "token", "2", "number"))[0], ledger.NotFound, 0)
}

// TestCanary: shares of accounts, rules, the schedule, and who is served by what stays so.
func TestCanary(t *testing.T) {
	n := newNamed(t)
	begin := func(c precompiles.Canary) {
		t.Helper()
		c.Label = "2"
		if c.Rules == nil {
			c.Rules = []precompiles.CanaryRule{}
		}
		n.ok("canary", precompiles.CanaryArgs{Name: "token", Canary: c})
	}
	begin(precompiles.Canary{Weight: 2000})
	few := n.served("number")
	if again := n.served("number"); !slices.Equal(few, again) {
		t.Errorf("accounts were served by %v, and then by %v", few, again)
	}
	begin(precompiles.Canary{Weight: 6000})
	many := n.served("number")
	for i := range few {
		if few[i] == "2" && many[i] != "2" {
			t.Errorf("%s was in the canary of 20 %% and is not in that of 60 %%", n.users[i])
		}
	}
	if a, b := count(few, "2"), count(many, "2"); a < 2 || a > 16 || b < 14 || b > 34 {
		t.Errorf("20 %% are %d of 40 accounts, 60 %% are %d", a, b)
	}
	t.Log("nobody in particular is served by the current version")
	outcome, err := n.x.View(context.Background(), n.head, Call{To: ledger.Target{Name: "token"}, Method: "number", Args: none})
	if err != nil || string(outcome.Data) != "\x01" {
		t.Errorf("a view of nobody returns %x, %v", outcome.Data, err)
	}
	t.Log("a transaction is served by one version, whoever makes the call")
	for i, u := range n.users[:10] {
		r := n.block(n.tx(u, n.asker, "ask", none))[0]
		if want := map[string]string{"1": "\x01", "2": "\x02"}[many[i]]; string(r.Data) != want {
			t.Errorf("%s is served by %s itself, and by %x through a contract", u, many[i], r.Data)
		}
	}
	t.Log("rules come first, the first that fits decides")
	begin(precompiles.Canary{Weight: 0, Rules: []precompiles.CanaryRule{
		{Kind: precompiles.RuleMethod, Values: []string{"fail"}},
		{Kind: precompiles.RuleAccount, Values: []string{address("u3").String()}, Canary: true},
		{Kind: precompiles.RuleInstitution, Values: []string{"beta"}, Canary: true},
		{Kind: precompiles.RuleRole, Values: []string{"committee", "regulator"}, Canary: true},
	}})
	for _, test := range []struct{ sender, method, want string }{
		{"u3", "number", "2"}, {"u3", "fail", "1"}, {"u4", "number", "1"}, {"stranger", "number", "2"}, {"committee", "number", "2"}, {"regulator", "fail", "1"}, {"user", "number", "1"},
	} {
		if r := n.block(n.call(test.sender, "token", "", test.method))[0]; r.Served.Version != test.want {
			t.Errorf("%s of %s is served by %s, want %s", test.method, test.sender, r.Served.Version, test.want)
		}
	}
	t.Log("a schedule by height")
	at := n.head.Height()
	begin(precompiles.Canary{Weight: 10_000, From: at + 3, Until: at + 4})
	for i, want := range []string{"1", "2", "2", "1"} {
		if r := n.block(n.call("user", "token", "", "number"))[0]; r.Served.Version != want {
			t.Errorf("in block %d of the schedule %s serves, want %s", i, r.Served.Version, want)
		}
	}
	t.Log("promote without a version takes the canary's, and ends it")
	n.ok("promote", precompiles.VersionArgs{Name: "token"})
	if row := n.row(); row.Current != "2" || row.Previous != "1" || row.Canary != nil {
		t.Errorf("after promoting: %+v", row)
	}
}

// TestWatch: a canary that fails too often ends after the block, and not for what failed before its window.
func TestWatch(t *testing.T) {
	n := newNamed(t)
	begin := func(w precompiles.Watch) {
		t.Helper()
		n.ok("canary", precompiles.CanaryArgs{Name: "token", Canary: precompiles.Canary{Label: "2", Weight: 10_000, Rules: []precompiles.CanaryRule{}, Watch: w}})
	}
	send := func(good, failing int) {
		t.Helper()
		var txs []*ledger.SignedTx
		for i := range good + failing {
			txs = append(txs, n.call(n.users[i], "token", "", map[bool]string{true: "number", false: "fail"}[i < good]))
		}
		n.block(txs...)
	}
	begin(precompiles.Watch{Permille: 200, Least: 10, Window: 100})
	send(0, 9) // fewer than it takes
	if n.row().Canary == nil {
		t.Fatal("the canary ended before the least number of calls")
	}
	send(31, 0) // 9 of 40 are more than 200 of 1,000
	row := n.row()
	if row.Canary != nil || row.Stopped == nil || row.Stopped.Calls != 40 || row.Stopped.Failures != 9 || row.Stopped.Label != "2" || row.Stopped.Height != n.head.Height() {
		t.Fatalf("after 9 of 40 failed: %+v, stopped %+v", row, row.Stopped)
	}
	t.Log("the last transaction to the name in the block tells so, and it alone")
	var told []int
	for i, r := range n.head.Receipts() {
		for _, e := range r.Events {
			if e.Topic == "stopped" && e.Contract == precompiles.CNSAddress && string(e.Data) == string(n.marshal([]any{"token", "2", 40, 9})) {
				told = append(told, i)
			}
		}
	}
	if !slices.Equal(told, []int{30}) {
		t.Errorf("the transactions %v tell that the canary was stopped", told)
	}
	t.Log("the chain leaves an audit record of what it did")
	if got := n.records(); len(got) != 1 {
		t.Errorf("the block has the records %+v, want one", got)
	} else if r := got[0]; r.Index != 30 || r.Number != 0 || r.Tx != n.head.Receipts()[30].Tx || r.Actor != precompiles.CNSAddress || !r.Origin.IsZero() || r.Contract != precompiles.CNSAddress ||
		r.Method != "stopped" || r.Object != "token" || r.Reason != "watch" || r.Args != precompiles.AuditArgs(n.suite, n.marshal([]any{"token", "2", 40, 9})) ||
		r.Before.IsZero() || r.After.IsZero() || r.Before == r.After || r.Status != ledger.OK || r.Time == 0 {
		t.Errorf("the end of the canary is recorded as %+v", r)
	}
	t.Log("who wants to end what has ended does not change what serves")
	n.want(n.cns("rollback", precompiles.NameArgs{Name: "token"}), ledger.Aborted, precompiles.AbortUnchanged)
	t.Log("a new canary, even of the same version and at once, begins with nothing counted against it; what names the version does not count, nor what is the sender's fault")
	enough := n.block(n.call("u2", "token", "", "number"))[0].Gas // without a canary, whose row is longer
	begin(precompiles.Watch{Permille: 1, Least: 1, Window: 100})
	limited := n.body("u2", ledger.Address{1}, "number", none)
	limited.To, limited.GasLimit = ledger.Target{Name: "token"}, enough
	starved := n.block(n.call("u0", "token", "2", "fail"), n.call("u1", "token", "", "nothing"), n.sign(limited, n.signers["u2"]), n.call("u3", "token", "", "number"))
	for i, status := range []ledger.Status{ledger.Aborted, ledger.NotFound, ledger.OutOfGas, ledger.OK} {
		if starved[i].Status != status || status == ledger.OutOfGas && starved[i].Served.Version != "2" {
			t.Fatalf("transaction %d: %s, served by %+v", i, starved[i].Status, starved[i].Served)
		}
	}
	if row := n.row(); row.Canary == nil || n.stats().Calls != 1 || n.stats().Failures != 0 {
		t.Fatalf("counted %+v, stopped %+v", n.stats(), row.Stopped)
	}
	t.Log("nor what comes before the schedule")
	n.ok("canary", precompiles.CanaryArgs{Name: "token", Canary: precompiles.Canary{
		Label: "2", Weight: 10_000, Rules: []precompiles.CanaryRule{}, From: n.head.Height() + 50, Watch: precompiles.Watch{Permille: 1, Least: 1, Window: 100},
	}})
	send(0, 5)
	if n.row().Canary == nil {
		t.Fatal("a canary ended before it began")
	}
	n.ok("rollback", precompiles.NameArgs{Name: "token"})
	if labels := n.served("number"); count(labels, "1") != 40 {
		t.Errorf("after the rollback %v serve", labels)
	}
	begin(precompiles.Watch{Permille: 500, Least: 1, Window: 2})
	send(20, 15)
	if row := n.row(); row.Canary == nil || row.Stopped != nil {
		t.Fatalf("15 of 35 ended a canary that 500 of 1,000 end: %+v", row.Stopped)
	}
	send(1, 0)
	send(0, 1) // in a window of its own
	if row := n.row(); row.Canary != nil || row.Stopped == nil || row.Stopped.Calls != 1 {
		t.Fatalf("1 of 1 failed in the window: %+v", row.Stopped)
	}
	t.Log("current versions are not watched")
	for range 3 {
		send(0, 40)
	}
	if row := n.row(); row.Current != "1" {
		t.Errorf("the current version is %s", row.Current)
	}
}

// TestWatchRegressions: a canary that lacks what the current version has, or that does not come to an end, is stopped, and no sender stops one by asking for
// what there never was, or with too little gas.
func TestWatchRegressions(t *testing.T) {
	n := newNamed(t)
	publish := func(label string, methods func(a *assembler)) {
		a := &assembler{}
		methods(a)
		n.ok("publish", precompiles.NameVersionArgs{Name: "token", Version: label, Address: n.deploy(a.module(t, nil))})
	}
	publish("bare", func(a *assembler) { a.method("fresh", succeed) })
	publish("loops", func(a *assembler) { a.method("number", forever(nil), succeed) })
	begin := func(label string) {
		t.Helper()
		n.ok("canary", precompiles.CanaryArgs{Name: "token", Canary: precompiles.Canary{
			Label: label, Weight: precompiles.CanaryWhole, Rules: []precompiles.CanaryRule{}, Watch: precompiles.Watch{Permille: 100, Least: 5, Window: 100},
		}})
	}
	send := func(status ledger.Status, method string, gas ledger.Gas) {
		t.Helper()
		var txs []*ledger.SignedTx
		for _, u := range n.users[:5] {
			tx := n.body(u, ledger.Address{1}, method, none)
			tx.To, tx.GasLimit = ledger.Target{Name: "token"}, gas
			txs = append(txs, n.sign(tx, n.signers[u]))
		}
		for _, r := range n.block(txs...) {
			if r.Status != status || r.Served.Address.IsZero() {
				t.Fatalf("%s ended as %s, served by %+v; want %s", method, r.Status, r.Served, status)
			}
		}
	}
	counted := func(calls, failures uint64) {
		t.Helper()
		if s := n.stats(); n.row().Canary == nil || s.Calls != calls || s.Failures != failures {
			t.Fatalf("of the canary %d transactions and %d failures are counted, want %d and %d; stopped: %+v", s.Calls, s.Failures, calls, failures, n.row().Stopped)
		}
	}
	stopped := func(label string) {
		t.Helper()
		if row := n.row(); row.Canary != nil || row.Stopped == nil || row.Stopped.Label != label || row.Stopped.Failures != 5 || row.Current != "1" {
			t.Fatalf("the canary %s was not stopped after 5 failures: %+v, %+v", label, row, row.Stopped)
		}
		send(ledger.OK, "number", testGas) // served by the current version
	}

	t.Log("out of gas counts for nothing while there is no measure: the current version has served nobody")
	begin("loops")
	send(ledger.OutOfGas, "number", testGas/20)
	counted(0, 0)
	n.ok("rollback", precompiles.NameArgs{Name: "token"})
	send(ledger.OK, "number", testGas)

	t.Log("a version without a method that the current one has")
	begin("bare")
	send(ledger.NotFound, "nothing", testGas) // nobody has it
	counted(0, 0)
	send(ledger.OK, "fresh", testGas)
	counted(5, 0)
	send(ledger.NotFound, "number", testGas)
	stopped("bare")

	t.Log("a version that loops")
	begin("loops")
	mean := ledger.Gas(n.stats().Versions[0].Gas / n.stats().Versions[0].Calls)
	send(ledger.OutOfGas, "number", 2*mean-2)
	counted(0, 0)
	send(ledger.OutOfGas, "number", 2*mean)
	stopped("loops")
}

// TestLookAlikes: a name that people could take for another is not given out, nor is one that its owner gave up.
func TestLookAlikes(t *testing.T) {
	n := newNamed(t)
	register := func(name string) any {
		return precompiles.NameVersionArgs{Name: name, Version: "1", Address: n.one}
	}
	for _, name := range []string{"t0ken", "to-ken", "t.0-k.en", "token", "c0nfig", "po1icies", "acc0unts"} {
		n.want(n.cns("register", register(name)), ledger.Aborted, precompiles.AbortName)
	}
	n.ok("register", register("tokens"))
	t.Log("what is given up is its former owner's, until a motion lets others have it")
	n.ok("canary", precompiles.CanaryArgs{Name: "token", Canary: precompiles.Canary{Label: "2", Weight: 10_000, Rules: []precompiles.CanaryRule{}}})
	n.want(n.cns("unregister", precompiles.NameArgs{Name: "token"}), ledger.Aborted, precompiles.AbortName)
	n.ok("rollback", precompiles.NameArgs{Name: "token"})
	n.want(n.block(n.tx("user", precompiles.CNSAddress, "unregister", precompiles.NameArgs{Name: "token"}))[0], ledger.Denied, precompiles.DeniedOwner)
	receipts := n.block(n.call("user", "token", "", "number"), n.tx("admin", precompiles.CNSAddress, "unregister", precompiles.NameArgs{Name: "token"}), n.call("user", "token", "", "number"))
	n.want(receipts[0], ledger.OK, 0)
	n.want(receipts[1], ledger.OK, 0)
	n.want(receipts[2], ledger.NotFound, 0)
	n.ok("register", register("t-oken")) // the same owner
	n.ok("unregister", precompiles.NameArgs{Name: "t-oken"})
	for _, r := range n.block(
		n.tx("admin", precompiles.ContractsAddress, "transfer", precompiles.TransferArgs{Address: n.one, Owner: address("user")}),
		n.tx("admin", precompiles.AccessAddress, "grant", precompiles.RoleArgs{Account: address("user"), Role: "deployer"}),
	) {
		n.want(r, ledger.OK, 0)
	}
	other := func() ledger.Receipt {
		return n.block(n.tx("user", precompiles.CNSAddress, "register", register("token")))[0]
	}
	n.want(other(), ledger.Aborted, precompiles.AbortName)
	if err := n.carry(precompiles.CNSAddress, "unregister", precompiles.NameArgs{Name: "t-oken"}); err != nil {
		t.Fatal(err)
	}
	n.want(other(), ledger.OK, 0)
	n.block(n.call("user", "token", "", "number"))
	if s := n.stats(); len(s.Versions) != 1 || s.Versions[0].Calls != 1 {
		t.Errorf("the name's former life counts: %+v", s)
	}
}

// TestVeto: the committee ends a canary, and takes back a promotion for good.
func TestVeto(t *testing.T) {
	n := newNamed(t)
	two := precompiles.VersionArgs{Name: "token", Version: "2"}
	canary := precompiles.CanaryArgs{Name: "token", Canary: precompiles.Canary{Label: "2", Weight: 10_000, Rules: []precompiles.CanaryRule{}}}
	carry := func(method string, args any) error { return n.carry(precompiles.CNSAddress, method, args) }
	n.want(n.cns("veto", two), ledger.Denied, precompiles.DeniedMotion)
	n.ok("canary", canary)
	if err := carry("rollback", precompiles.NameArgs{Name: "token"}); err != nil || n.row().Canary != nil || n.row().Current != "1" {
		t.Fatalf("a motion that ends the canary: %v, %+v", err, n.row())
	}
	n.ok("promote", two)
	if err := carry("veto", two); err != nil {
		t.Fatal(err)
	}
	if row := n.row(); row.Current != "1" || row.Previous != "" || !row.Versions[1].Vetoed {
		t.Errorf("after the veto: %+v", row)
	}
	t.Log("its owner gets it back by no way")
	for _, r := range []ledger.Receipt{
		n.cns("promote", two), n.cns("canary", canary), n.cns("withdraw", two), n.cns("unregister", precompiles.NameArgs{Name: "token"}),
		n.cns("publish", precompiles.NameVersionArgs{Name: "token", Version: "3", Address: n.two}),
	} {
		n.want(r, ledger.Denied, precompiles.DeniedMotion)
	}
	n.want(n.cns("rollback", precompiles.NameArgs{Name: "token"}), ledger.Aborted, precompiles.AbortUnchanged)
	n.want(n.block(n.call("user", "token", "2", "number"))[0], ledger.OK, 0) // who names it means it
	if err := carry("veto", precompiles.VersionArgs{Name: "token", Version: "1"}); err == nil {
		t.Error("a veto leaves a name without a version that serves")
	}
	if err := carry("allow", two); err != nil {
		t.Fatal(err)
	}
	n.ok("promote", two)
}
