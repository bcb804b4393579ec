package executor

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// records returns the audit records of the last block, checked against the link and the head that stand for them.
func (c *chain) records() []precompiles.AuditRecord {
	c.Helper()
	var records []precompiles.AuditRecord
	var digests []keys.Digest
	height := c.head.Height()
	prefix := precompiles.AuditRecordKeys(&height)
	for entry, err := range c.head.Range(prefix, prefixEnd(prefix), false) {
		if err != nil {
			c.Fatal(err)
		}
		var r precompiles.AuditRecord
		if err := ledger.Unmarshal(entry.Value, &r); err != nil {
			c.Fatal(err)
		}
		raw, digest, err := r.Encode(c.suite)
		if err != nil || string(raw) != string(entry.Value) || string(precompiles.AuditRecordKey(r.Height, r.Index, r.Number)) != string(entry.Key) {
			c.Fatalf("record %+v under %x: %v", r, entry.Key, err)
		}
		records, digests = append(records, r), append(digests, digest)
	}
	link, found, err := precompiles.ReadAuditLink(c.head, height)
	if err != nil || found != (len(records) > 0) {
		c.Fatalf("link %+v, %v of %d records, %v", link, found, len(records), err)
	}
	if !found {
		return nil
	}
	hash, err := link.Hash(c.suite)
	head, _, failed := precompiles.ReadAuditHead(c.head)
	if err != nil || failed != nil || head.Link != hash || head.Height != height || head.Total != link.First+uint64(link.Count) || int(link.Count) != len(records) || link.Root != ledger.Root(c.suite, digests) {
		c.Fatalf("head %+v over link %+v of %d records, %v, %v", head, link, len(records), err, failed)
	}
	return records
}

// wantRecord wants the record of a transaction that was alone in the last block and calls a system contract, or none of a view.
func (c *chain) wantRecord(tx *ledger.SignedTx, r *ledger.Receipt) {
	c.Helper()
	records := c.records()
	if audited(c, tx) == nil {
		if len(records) != 0 {
			c.Errorf("a call of the view %s left the records %+v", tx.Method, records)
		}
		return
	}
	if len(records) == 0 {
		c.Fatalf("no record of %s, which ended as %s", tx.Method, r.Status)
	}
	got := records[0]
	account, _, err := precompiles.ReadAccount(c.head, tx.Sender)
	if err != nil {
		c.Fatal(err)
	}
	switch {
	case got.Tx != tx.ID || got.Actor != tx.Sender || got.Origin != tx.Sender || got.Contract != tx.To.Address || got.Method != tx.Method,
		got.Status != r.Status || got.Code != r.Code || got.Undone,
		got.Institution != account.Institution || r.Status != ledger.OK && !slices.Equal(got.Roles, account.Roles),
		got.Args != precompiles.AuditArgs(c.suite, tx.Args),
		r.Status != ledger.OK && (got.Before != keys.Digest{} || got.After != keys.Digest{}),
		r.Status == ledger.OK && (got.Before == got.After || got.After.IsZero()):
		c.Errorf("%s by %s ended as %s with code %d; its record: %+v", tx.Method, tx.Sender, r.Status, r.Code, got)
	}
}

// TestAudit has acts of all kinds leave their records; executed in parallel they are the same (chain.block compares).
func TestAudit(t *testing.T) {
	a := probe()
	system := func(address ledger.Address, method string) body { // calls a method of a system contract with the transaction's arguments
		return join(i32(519), i32(int(address[ledger.AddressSize-1])), body{0x3a, 0x00, 0x00}, hostCall("call", i32(500), i32(20), a.text(method), i32(0), hostCall("input_read", i32(0), i32(0), i32(200)), i64(0), i32(0)))
	}
	a.method("freezes", system(precompiles.AccessAddress, "freeze"), drop, succeed)
	a.method("binds", system(precompiles.AccountsAddress, "bind"), drop, succeed)
	a.method("binds_often", times(precompiles.MaxAuditRecords, join(system(precompiles.AccountsAddress, "bind"), drop)), i32(600), system(precompiles.AccountsAddress, "bind"), body{0x36, 0x02, 0x00}, hostCall("output", i32(608), i32(1)), succeed)
	a.method("anchors_and_fails", system(precompiles.AuditAddress, "anchor"), drop, hostCall("abort", i32(1234), a.text("\x05")), succeed)
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{
		{"admin", "alpha", "deployer,institution-admin"}, {"user", "alpha", "user"}, {"regulator", "beta", "regulator"}, {"other", "beta", "user"},
	})
	self := c.deploy(a.module(t, nil))
	if got := c.records()[0]; got.Object != self.String() || got.Method != "deploy" || got.Args.IsZero() || got.After.IsZero() {
		t.Errorf("a deployment is recorded as %+v", got)
	}
	t.Run("arguments that are too long for a digest are left to the transaction", func(t *testing.T) {
		tx := c.tx("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: make([]byte, precompiles.MaxAuditBytes)})
		c.want(c.block(tx)[0], ledger.Denied, precompiles.DeniedModule)
		if got := c.records()[0]; !got.Args.IsZero() || got.Tx != tx.ID {
			t.Errorf("record %+v", got)
		}
	})
	freeze := func(by, whom string) *ledger.SignedTx {
		return c.tx(by, precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address(whom), Reason: "suspicion"})
	}
	rowOf := func(name string) keys.Digest {
		key := precompiles.AccountStateKey(address(name))
		value, found, err := c.head.Get(key)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		d, err := precompiles.AuditRows(c.suite, []precompiles.AuditRow{precompiles.NewAuditRow(c.suite, key, value, true)})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}

	t.Run("what took effect, with the row before and after", func(t *testing.T) {
		before := rowOf("user")
		c.want(c.block(c.tx("admin", precompiles.AccessAddress, "grant", precompiles.RoleArgs{Account: address("user"), Role: "owner"}))[0], ledger.OK, 0)
		got := c.records()
		if len(got) != 1 || got[0].Object != address("user").String() || got[0].Before != before || got[0].After != rowOf("user") || got[0].Institution != "alpha" || !slices.Equal(got[0].Roles, []string{"deployer", "institution-admin"}) {
			t.Errorf("records %+v", got)
		}
		c.want(c.block(freeze("regulator", "other"))[0], ledger.OK, 0)
		if got := c.records(); len(got) != 1 || got[0].Object != address("other").String() || got[0].Reason != "suspicion" {
			t.Errorf("records %+v", got)
		}
	})
	t.Run("a frozen sender, a wrong key, a stranger, too little gas for more than the record", func(t *testing.T) {
		wrong := c.sign(c.body("user", precompiles.AccountsAddress, "bind", none), c.signers["other"])
		c.signers["stranger"] = newSigner(t, "stranger")
		poor := c.body("user", precompiles.AccessAddress, "freeze", precompiles.FreezeArgs{Account: address("user"), Reason: "suspicion"})
		poor.GasLimit = 390_000
		poorer := poor
		poorer.GasLimit = 370_000
		r := c.block(freeze("other", "user"), wrong, freeze("stranger", "user"), c.sign(poor, c.signers["user"]), c.sign(poorer, c.signers["user"]), c.tx("other", self, "put", none))
		got := c.records()
		if len(got) != 4 {
			t.Fatalf("%d records: %+v", len(got), got)
		}
		for i, want := range []struct {
			status ledger.Status
			code   uint32
		}{{ledger.Denied, precompiles.DeniedFrozen}, {ledger.Denied, precompiles.DeniedKey}, {ledger.Denied, precompiles.DeniedAccount}, {ledger.OutOfGas, 0}} {
			c.want(r[i], want.status, want.code)
			if g := got[i]; g.Status != want.status || g.Code != want.code || int(g.Index) != i || g.Number != 0 || !g.After.IsZero() {
				t.Errorf("record %d: %+v", i, g)
			}
		}
		if got[2].Institution != "" || got[0].Institution != "beta" || r[3].Gas != 390_000 {
			t.Errorf("records %+v, gas %d", got, r[3].Gas)
		}
		c.want(r[4], ledger.OutOfGas, 0)
		c.want(r[5], ledger.Denied, precompiles.DeniedFrozen)
	})
	t.Run("calls by a contract, which has no rights", func(t *testing.T) {
		r := c.block(c.tx("regulator", self, "freezes", precompiles.FreezeArgs{Account: address("user"), Reason: "suspicion"}), c.tx("user", self, "put", none))
		c.want(r[0], ledger.OK, 0)
		got := c.records()
		if len(got) != 1 || got[0].Actor != self || got[0].Origin != address("regulator") || got[0].Status != ledger.Denied || got[0].Code != precompiles.DeniedAccount || got[0].Object != address("user").String() {
			t.Errorf("records %+v", got)
		}
	})
	t.Run("what is undone with the call around it", func(t *testing.T) {
		// A contract with an account, which only a test can make.
		order := c.order()
		next, err := c.head.Extend(&order, state.Result{Changes: []ledger.Change{{
			Key: precompiles.AccountStateKey(self), Value: c.marshal(precompiles.Account{Version: ledger.Version, Institution: "alpha", Threshold: 1, Roles: []string{"operator"}}),
		}}})
		if err != nil {
			t.Fatal(err)
		}
		c.head = next
		r := c.block(c.tx("user", self, "anchors_and_fails", precompiles.AnchorArgs{Log: "reads", Count: 3, Digest: keys.Digest{1}}))
		c.want(r[0], ledger.Aborted, 1234)
		got := c.records()
		if len(got) != 1 || got[0].Status != ledger.OK || !got[0].Undone || !got[0].After.IsZero() || got[0].Object != "reads" {
			t.Errorf("records %+v", got)
		}
		if _, found, err := precompiles.ReadAnchor(c.head, "alpha", "reads"); found || err != nil {
			t.Errorf("the anchor stayed: %v %v", found, err)
		}
	})
	t.Run("more calls than a transaction may make are not made", func(t *testing.T) {
		r := c.block(c.tx("regulator", self, "binds_often", none))
		got := c.records()
		if len(got) != precompiles.MaxAuditRecords {
			t.Errorf("%d records of %s with code %d", len(got), r[0].Status, r[0].Code)
		}
		for i, g := range got {
			if int(g.Number) != i || g.Status == ledger.OK {
				t.Fatalf("record %d: %+v", i, g)
			}
		}
	})
	t.Run("motions are named by what is done about them", func(t *testing.T) {
		c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta"}, []entry{{"ann", "alpha", "committee"}, {"ben", "beta", "committee"}})
		params := ledger.DefaultParams()
		params.BatchDelay = 7
		for _, tx := range []*ledger.SignedTx{
			c.tx("ann", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Reform: &precompiles.Reform{Params: &params}}),
			c.tx("ben", precompiles.GovernanceAddress, "vote", precompiles.VoteArgs{ID: 1, For: true}),
			c.tx("ben", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: 1}),
		} {
			c.want(c.block(tx)[0], ledger.OK, 0)
			got := c.records()
			methods := []string{}
			for _, r := range got {
				methods = append(methods, r.Method)
				if r.Motion != 1 {
					t.Errorf("%s: the record of %s names motion %d", tx.Method, r.Method, r.Motion)
				}
			}
			want := []string{tx.Method}
			if tx.Method == "activate" {
				want = append(want, "reform")
			}
			if slices.Sort(methods); !slices.Equal(methods, want) {
				t.Errorf("%s: records of %q, want %q", tx.Method, methods, want)
			}
		}
	})
	t.Run("each call of a motion names it, and those of one that fails are undone", func(t *testing.T) {
		c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta"}, []entry{{"ann", "alpha", "committee"}, {"ben", "beta", "committee"}, {"user", "alpha", ""}})
		evidence := keys.Digest{9}
		freeze := precompiles.Action{To: precompiles.AccessAddress, Method: "freeze", Args: c.marshal(precompiles.FreezeArgs{
			Account: address("user"), Direction: precompiles.FreezeOut, Reason: "court-order", Evidence: &evidence,
		})}
		grant := func(role string) precompiles.Action {
			return precompiles.Action{To: precompiles.AccessAddress, Method: "grant", Args: c.marshal(precompiles.RoleArgs{Account: address("user"), Role: role})}
		}
		carry := func(id uint64, actions ...precompiles.Action) (ledger.Receipt, []precompiles.AuditRecord) {
			c.want(c.block(c.tx("ann", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Title: "a freeze", Actions: actions}))[0], ledger.OK, 0)
			c.want(c.block(c.tx("ben", precompiles.GovernanceAddress, "vote", precompiles.VoteArgs{ID: id, For: true}))[0], ledger.OK, 0)
			r := c.block(c.tx("ben", precompiles.GovernanceAddress, "execute", precompiles.MotionArgs{ID: id}))[0]
			return r, c.records()
		}
		// The same role twice, which changes nothing the second time.
		r, got := carry(1, freeze, grant("auditor"), grant("auditor"))
		c.want(r, ledger.Aborted, precompiles.AbortAction)
		if len(got) != 4 || got[0].Status != ledger.Aborted || !got[1].Undone || !got[2].Undone || got[3].Status != ledger.Aborted || got[3].Undone || !got[1].After.IsZero() {
			t.Errorf("a motion that fails: %+v", got)
		}
		r, got = carry(2, freeze, grant("auditor"))
		c.want(r, ledger.OK, 0)
		if len(got) != 3 {
			t.Fatalf("records %+v", got)
		}
		for i, g := range got {
			actor, method := precompiles.GovernanceAddress, []string{"execute", "freeze", "grant"}[i]
			if i == 0 {
				actor = address("ben")
			}
			if g.Motion != 2 || g.Actor != actor || g.Origin != address("ben") || g.Method != method || g.Status != ledger.OK || g.Undone || g.After.IsZero() || int(g.Number) != i {
				t.Errorf("record %d: %+v", i, g)
			}
		}
		if g := got[1]; g.Reason != "court-order" || g.Evidence != evidence || g.Object != address("user").String() {
			t.Errorf("the freeze: %+v", g)
		}
	})
	t.Run("acts of different accounts do not wait for one another", func(t *testing.T) {
		accounts := []entry{}
		for i := range 40 {
			accounts = append(accounts, entry{fmt.Sprint("user", i), "alpha", "user"})
		}
		c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, accounts)
		var txs []*ledger.SignedTx
		for i, a := range accounts {
			key := ledger.KeyOf(newSigner(t, fmt.Sprint("second", i)).Public())
			txs = append(txs, c.tx(a.name, precompiles.AccountsAddress, "bind", precompiles.BindArgs{Threshold: 1, Keys: []precompiles.AccountKey{{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1}}}))
		}
		order := c.order(txs...)
		s := c.schedule(&order, txs, 3)
		count := early(s)
		if _, _, err := s.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range txs {
			if n := count(i); n != 1 {
				t.Errorf("transaction %d was executed %d times", i, n)
			}
		}
		for _, r := range c.block(txs...) {
			c.want(r, ledger.OK, 0)
		}
		if got := c.records(); len(got) != len(txs) {
			t.Errorf("%d records of %d transactions", len(got), len(txs))
		}
	})
}

// BenchmarkRecord executes blocks of 1,000 transactions that are refused before their call, without records (to a contract) and
// with (to a system contract), and hashes the state after them: the difference is what records cost.
func BenchmarkRecord(b *testing.B) {
	for _, s := range []struct {
		name string
		to   ledger.Address
	}{{"none", ledger.Address{1}}, {"each", precompiles.AccessAddress}} {
		b.Run("records="+s.name, func(b *testing.B) {
			c := newChain(b)
			txs := make([]*ledger.SignedTx, 1_000)
			for i := range txs {
				txs[i] = c.sign(c.body("user", s.to, "freeze", precompiles.AddressArgs{Address: address("user")}), c.signers["stranger"])
			}
			order := c.order(txs...)
			rows, bytes := 0, 0
			for b.Loop() {
				result, err := c.x.execute(b.Context(), c.head, &order, txs)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.head.Extend(&order, result); err != nil {
					b.Fatal(err)
				}
				rows, bytes = len(result.Changes), 0
				for _, change := range result.Changes {
					bytes += len(change.Key) + len(change.Value)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(txs)), "ns/tx")
			b.ReportMetric(float64(bytes)/float64(max(rows, 1)), "B/row")
		})
	}
}
