package rpc_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// must sends a call with these arguments, and wants it to end well.
func (c *chain) must(by string, to ledger.Address, method string, args any) *client.Transaction {
	c.t.Helper()
	raw, err := ledger.Marshal(args)
	if err != nil {
		c.t.Fatal(err)
	}
	done := c.send(c.tx(by, to, method, raw))
	if done.Receipt.Status != "ok" {
		c.t.Fatalf("%s by %s: %s %s %s", method, by, done.Receipt.Status, done.Receipt.Error, done.Receipt.Decoded)
	}
	return done
}

// restrict has only parties read the token.
func (c *chain) restrict() {
	c.t.Helper()
	status, err := c.api.Status(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	begins := status.Height + 60
	args, err := ledger.Marshal(&precompiles.ActivateArgs{Feature: string(precompiles.Visibility), Height: uint64(begins), Release: "0.2"})
	if err != nil {
		c.t.Fatal(err)
	}
	motion := c.must("chair", precompiles.GovernanceAddress, "propose", &precompiles.ProposeArgs{
		Title: "privacy", Actions: []precompiles.Action{{To: precompiles.ConfigAddress, Method: "activate_feature", Args: args}},
	})
	var id uint64
	if err := ledger.Unmarshal(motion.Receipt.Data, &id); err != nil {
		c.t.Fatal(err)
	}
	c.must("chair", precompiles.GovernanceAddress, "execute", &precompiles.MotionArgs{ID: id})
	for {
		if done := c.send(c.tx("alice", precompiles.AccountsAddress, "nothing", nil)); done.Height >= begins {
			break
		}
	}
	c.must("admin", precompiles.ContractsAddress, "restrict", &precompiles.RestrictArgs{Address: c.token, Visible: precompiles.VisibleParties})
}

// as returns a client that asks in the name of an account.
func (c *chain) as(name string) *client.Client {
	c.t.Helper()
	api, err := client.New(c.url, c.http)
	if err != nil {
		c.t.Fatal(err)
	}
	api.Ask(client.Asker{Suite: c.suite, Chain: c.id, Group: "main", Account: c.address(name), Signer: c.signers[name]})
	return api
}

// TestPrivateContract is the story of a token that only parties read, on a chain where others look at what is near it.
func TestPrivateContract(t *testing.T) {
	c := start(t, 1)
	c.deployToken()
	paid := c.send(c.call("alice", "transfer", c.address("bob").String(), "7"))
	c.restrict()
	proposed := c.must("admin", precompiles.CorrectionsAddress, "propose", &precompiles.ProposeCorrectionArgs{
		Transactions: []precompiles.Corrected{{Tx: paid.ID, Height: paid.Height}}, Reason: "wrong-amount", Evidence: keys.Digest{1},
		Entries: []precompiles.Entry{
			{Contract: c.token, Account: c.address("bob"), Amount: *big.NewInt(3)}, {Contract: c.token, Account: c.address("alice"), Amount: *big.NewInt(3), Credit: true},
		},
		Salt: bytes.Repeat([]byte{7}, precompiles.MaxSalt),
	})
	old, err := ledger.Marshal([]any{[]any{}, "wrong-amount", keys.Digest{1}, []any{[]any{c.token, c.address("bob"), 3, false}}}) // before there was a salt
	if err != nil {
		t.Fatal(err)
	}
	malformed := c.send(c.tx("admin", precompiles.CorrectionsAddress, "propose", old))
	if malformed.Receipt.Status == "ok" {
		t.Fatalf("a proposal of four arguments: %+v", malformed.Receipt)
	}
	ctx := t.Context()
	stranger, alice, bob, admin, regulator := c.as("bea"), c.as("alice"), c.as("bob"), c.as("admin"), c.as("rita")
	private := func(t *testing.T, err error, words string) {
		t.Helper()
		p, ok := errors.AsType[*client.Problem](err)
		if !ok || p.Status != http.StatusForbidden || p.Code != client.CodeForbidden || !strings.Contains(p.Detail, words) {
			t.Errorf("%v, want 403 and %q", err, words)
		}
	}

	t.Run("a proof shows digests of its neighbours, and so is for who may read them", func(t *testing.T) {
		public := precompiles.MembersAddress
		key := append(precompiles.NodeKeys(), c.genesis.Members[0].Node[:]...)[ledger.AddressSize:]
		for who, asker := range map[string]*client.Client{"alice": alice, "bea": stranger, "admin": admin} {
			if row, err := asker.State(ctx, public, key, false); err != nil || !row.Found {
				t.Errorf("%s reads a public row: %+v, %v", who, row, err)
			}
			_, err := asker.State(ctx, public, key, true)
			private(t, err, "ask without a proof")
			_, err = asker.State(ctx, public, []byte("no such row"), true) // its proof would show paths and values apart
			private(t, err, "small values can be guessed")
			if _, err := asker.HeaderProof(ctx, paid.Height, "latest"); err != nil {
				t.Errorf("%s proves a header: %v", who, err)
			}
		}
		for who, asker := range map[string]*client.Client{"the regulator": regulator, "who is on the machine": c.api} {
			if row, err := asker.State(ctx, public, key, true); err != nil || row.Proof == nil {
				t.Errorf("%s proves a row: %+v, %v", who, row, err)
			}
		}
		private(t, admin.AuditExport(ctx, 0, 1, &bytes.Buffer{}), "ask without a proof")
		if err := regulator.AuditExport(ctx, 0, 1, &bytes.Buffer{}); err != nil {
			t.Errorf("the regulator takes the audit records: %v", err)
		}
	})
	t.Run("a correction shows each the entries that are his business", func(t *testing.T) {
		for _, asker := range []struct {
			who             string
			api             *client.Client
			shown, withheld int
		}{
			{"a stranger of another bank", stranger, 0, 2},
			{"alice, to whom it gives", alice, 1, 1},
			{"bob, from whom it takes", bob, 1, 1},
			{"the admin of their bank, who proposed it", admin, 2, 0},
			{"the regulator", regulator, 2, 0},
			{"who is on the machine", c.api, 2, 0},
		} {
			one, err := asker.api.Correction(ctx, 1)
			if err != nil || len(one.Entries) != asker.shown || one.Withheld != asker.withheld || (len(one.Debited) == 0) != (asker.withheld > 0) {
				t.Errorf("%s sees %+v, %v; want %d entries and %d withheld", asker.who, one, err, asker.shown, asker.withheld)
			}
			all, err := asker.api.Corrections(ctx, 0)
			if err != nil || len(all) != 1 || len(all[0].Entries) != asker.shown || all[0].Withheld != asker.withheld {
				t.Errorf("%s lists %+v, %v", asker.who, all, err)
			}
		}
		if one, err := stranger.Correction(ctx, 1); err != nil || one.Transactions[0].Status != "" || !*one.Transactions[0].Found {
			t.Errorf("a stranger sees how a private payment ended: %+v, %v", one, err)
		}
		// Nor is it told by what the API shows of the chain as it is.
		row := append(precompiles.CorrectionKeys()[ledger.AddressSize:], 0, 0, 0, 0, 0, 0, 0, 1)
		_, err := stranger.State(ctx, precompiles.CorrectionsAddress, row, false)
		private(t, err, "GET /v1/corrections/")
		_, err = stranger.Lookup(ctx, proposed.ID, 0, false)
		private(t, err, "2 of the 2 entries")
		_, err = stranger.Trace(ctx, proposed.ID)
		private(t, err, "2 of the 2 entries")
		_, err = stranger.RawBlock(ctx, proposed.Height)
		private(t, err, "2 of the 2 entries")
		_, err = stranger.Lookup(ctx, malformed.ID, 0, false)
		private(t, err, fmt.Sprintf("contract %s is private", c.token))
		_, err = stranger.RawBlock(ctx, malformed.Height)
		private(t, err, fmt.Sprintf("contract %s is private", c.token))
		_, err = stranger.Call(ctx, precompiles.CorrectionsAddress, client.Call{Method: "list", Named: []byte("[0]")})
		private(t, err, "`fondaco correction list`")
		_, err = stranger.Call(ctx, precompiles.CorrectionsAddress, client.Call{Method: "get", Named: []byte("[1]")})
		private(t, err, "`fondaco correction list`")
		if _, err := admin.Lookup(ctx, proposed.ID, 0, false); err != nil {
			t.Errorf("who proposed it reads his transaction: %v", err)
		}
		if got, err := regulator.Call(ctx, precompiles.CorrectionsAddress, client.Call{Method: "get", Named: []byte("[1]")}); err != nil || got.Status != "ok" {
			t.Errorf("the regulator calls get: %+v, %v", got, err)
		}
	})
	t.Run("what names no entry is everybody's", func(t *testing.T) {
		for what, tx := range map[string]struct {
			method string
			args   any
		}{
			"approves of it":        {"approve", &precompiles.NumberArgs{Number: 1}},
			"asks what corrects it": {"of", &precompiles.CorrectionsOfArgs{Tx: paid.ID}},
			"has no arguments":      {"approve", nil},
			"has an empty array":    {"apply", []any{}},
		} {
			var args []byte
			if tx.args != nil {
				if args, err = ledger.Marshal(tx.args); err != nil {
					t.Fatal(err)
				}
			}
			sent := c.send(c.tx("admin", precompiles.CorrectionsAddress, tx.method, args))
			if _, err := stranger.Lookup(ctx, sent.ID, 0, false); err != nil {
				t.Errorf("a transaction that %s: %v", what, err)
			}
			if _, err := stranger.RawBlock(ctx, sent.Height); err != nil {
				t.Errorf("the block of one that %s: %v", what, err)
			}
		}
	})
	t.Run("a block as it is goes to who may read all of it", func(t *testing.T) {
		for who, asker := range map[string]*client.Client{"bea": stranger, "admin": admin} {
			_, err := asker.RawBlock(ctx, paid.Height)
			private(t, err, fmt.Sprintf("contract %s is private", c.token))
			if _, err := asker.RawBlock(ctx, paid.Height+1); err != nil {
				t.Errorf("%s reads a block of other business: %v", who, err)
			}
		}
		if _, err := bob.RawBlock(ctx, paid.Height); err != nil {
			t.Errorf("a party reads the block of its payment: %v", err)
		}
	})
}
