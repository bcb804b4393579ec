package executor

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// books is a chain with a token of which ann and ben of alpha and eve of beta have 100 each, and officers of both and of gamma.
type books struct {
	*tokenChain
	paid *ledger.SignedTx // ann's payment of 40 to eve
	at   ledger.Height
}

func newBooks(t *testing.T) *books {
	t.Helper()
	built := token(t)
	c := &tokenChain{schema: built.Schema, chain: newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha", "beta", "gamma"}, []entry{
		{"admin", "alpha", "deployer,institution-admin"},
		{"ann", "alpha", ""},
		{"ben", "alpha", ""},
		{"eve", "beta", ""},
		{"beta admin", "beta", "institution-admin"},
		{"gamma officer", "gamma", "compliance"},
	})}
	c.self = c.deploy(built.Code, c.args("init", "Florin", "FLN", address("admin").String())...)
	for _, who := range []string{"ann", "ben", "eve"} {
		c.want(c.block(c.tx("admin", c.self, "issue", c.args("issue", address(who).String(), "100")))[0], ledger.OK, 0)
	}
	b := &books{tokenChain: c}
	b.paid = c.tx("ann", c.self, "transfer", c.args("transfer", address("eve").String(), "40"))
	c.want(c.block(b.paid)[0], ledger.OK, 0)
	b.at = c.head.Height()
	return b
}

func (b *books) entry(who string, amount int64, credit bool) precompiles.Entry {
	return precompiles.Entry{Contract: b.self, Account: address(who), Amount: *big.NewInt(amount), Credit: credit}
}

func (b *books) proposal(entries ...precompiles.Entry) precompiles.ProposeCorrectionArgs {
	return precompiles.ProposeCorrectionArgs{
		Transactions: []precompiles.Corrected{{Tx: b.paid.ID, Height: b.at}}, Reason: "wrong-account", Evidence: keys.Digest{1}, Entries: entries,
	}
}

func (b *books) by(who, method string, args any) ledger.Receipt {
	b.Helper()
	return b.block(b.tx(who, precompiles.CorrectionsAddress, method, args))[0]
}

func (b *books) holds(want map[string]string) {
	b.Helper()
	for who, want := range want {
		method, args := "balance_of", []string{address(who).String()}
		if who == "" {
			method, args = "total_supply", nil
		}
		o, err := b.x.View(context.Background(), b.head, Call{To: ledger.Target{Address: b.self}, Method: method, Args: b.args(method, args...)})
		if err != nil || o.Status != ledger.OK {
			b.Fatalf("%+v, %v", o, err)
		}
		value, err := b.schema.DecodeReturn(method, o.Data)
		if err != nil || fmt.Sprint(value) != want {
			b.Errorf("%q has %s, %v; want %s", who, value, err, want)
		}
	}
}

// TestCorrection is the story of a payment that went to the wrong account. What was stays, and an entry of all who have to do with it corrects it.
func TestCorrection(t *testing.T) {
	b := newBooks(t)
	one := precompiles.NumberArgs{Number: 1}
	good := b.proposal(b.entry("eve", 40, false), b.entry("ben", 40, true))
	b.want(b.by("ann", "propose", good), ledger.Denied, precompiles.DeniedRole)
	for what, bad := range map[string]precompiles.ProposeCorrectionArgs{
		"no entries":             b.proposal(),
		"nothing":                b.proposal(b.entry("eve", 0, false)),
		"less than nothing":      b.proposal(b.entry("eve", -1, false)),
		"twice the same":         b.proposal(b.entry("eve", 1, false), b.entry("eve", 1, true)),
		"more than there can be": b.proposal(precompiles.Entry{Contract: b.self, Account: address("eve"), Amount: *new(big.Int).Lsh(big.NewInt(1), 128)}),
		"a salt too long":        {Transactions: good.Transactions, Reason: good.Reason, Evidence: good.Evidence, Entries: good.Entries, Salt: make([]byte, precompiles.MaxSalt+1)},
		"no evidence":            {Transactions: good.Transactions, Reason: good.Reason, Entries: good.Entries},
		"another reason":         {Transactions: good.Transactions, Reason: "because", Evidence: good.Evidence, Entries: good.Entries},
		"no transaction":         {Reason: good.Reason, Evidence: good.Evidence, Entries: good.Entries},
		"a block yet to be made": {Transactions: []precompiles.Corrected{{Tx: b.paid.ID, Height: b.at + 100}}, Reason: good.Reason, Evidence: good.Evidence, Entries: good.Entries},
		"a transaction twice":    {Transactions: []precompiles.Corrected{{Tx: b.paid.ID, Height: b.at}, {Tx: b.paid.ID, Height: b.at}}, Reason: good.Reason, Evidence: good.Evidence, Entries: good.Entries},
	} {
		if r := b.by("admin", "propose", bad); r.Status != ledger.Aborted || r.Code != precompiles.AbortArguments {
			t.Errorf("%s: %s with code %d", what, r.Status, r.Code)
		}
	}
	missing := b.proposal(precompiles.Entry{Contract: address("ann"), Account: address("eve"), Amount: *big.NewInt(1)})
	b.want(b.by("admin", "propose", missing), ledger.Aborted, precompiles.AbortMissing)

	// Two institutions are not enough if they take from a third one's account.
	b.want(b.by("admin", "propose", good), ledger.OK, 0)
	b.want(b.by("admin", "approve", one), ledger.Aborted, precompiles.AbortUnchanged)
	b.want(b.by("admin", "apply", one), ledger.Aborted, precompiles.AbortSupport)
	b.want(b.by("gamma officer", "approve", one), ledger.OK, 0)
	b.want(b.by("admin", "apply", one), ledger.Aborted, precompiles.AbortSupport)
	if got := b.records(); len(got[0].Approvals) != 2 {
		t.Errorf("the record of what was refused is %+v, want the two approvals that there were", got[0])
	}
	// Whose approval is lacking would tell from whom something is taken, which in a private contract is nobody else's business.
	o, err := b.x.DryRun(context.Background(), b.head, Call{From: address("admin"), To: ledger.Target{Address: precompiles.CorrectionsAddress}, Method: "apply", Args: b.marshal(one)})
	if err != nil || !strings.Contains(o.Trace, "correction 1 lacks the approval of 1 institutions") || strings.Contains(o.Trace, "beta") {
		t.Errorf("the refusal says %q, %v", o.Trace, err)
	}
	b.want(b.by("beta admin", "approve", one), ledger.OK, 0)
	b.holds(map[string]string{"ann": "60", "ben": "100", "eve": "140", "": "300"})

	// It is applied once, whoever asks at the same time, and by nobody but the corrections of the chain.
	apply := b.tx("beta admin", precompiles.CorrectionsAddress, "apply", one)
	receipts := b.block(apply, b.tx("admin", precompiles.CorrectionsAddress, "apply", one), b.tx("admin", b.self, "adjust", b.args("adjust", address("admin").String(), "5", "true", "1")))
	b.want(receipts[0], ledger.OK, 0)
	b.want(receipts[1], ledger.Aborted, precompiles.AbortCorrection)
	b.want(receipts[2], ledger.Aborted, 1004)
	if got := b.records(); got[0].Method != "apply" || len(got[0].Approvals) != 3 || got[0].Approvals[2].Account != address("beta admin") {
		t.Errorf("the record of what was applied is %+v, want the approvals of three institutions", got[0])
	}
	b.holds(map[string]string{"ann": "60", "ben": "140", "eve": "100", "": "300"})
	c, found, err := precompiles.ReadCorrection(b.head, 1)
	if err != nil || !found || c.Status != precompiles.CorrectionApplied || c.Applied != apply.ID || c.AppliedAt != b.head.Height() {
		t.Errorf("the correction is %+v, %v", c, err)
	}
	for tx, applies := range map[ledger.TxID]bool{b.paid.ID: false, apply.ID: true} {
		o, err := b.x.View(context.Background(), b.head, Call{To: ledger.Target{Address: precompiles.CorrectionsAddress}, Method: "of", Args: b.marshal(precompiles.CorrectionsOfArgs{Tx: tx})})
		var links []precompiles.CorrectionLink
		if err == nil {
			err = ledger.Unmarshal(o.Data, &links)
		}
		if err != nil || len(links) != 1 || links[0].Number != 1 || links[0].Applies != applies {
			t.Errorf("the links of %s are %+v, %v", tx, links, err)
		}
	}
	b.want(b.by("admin", "withdraw", one), ledger.Aborted, precompiles.AbortCorrection)

	// What the holder has spent since cannot be taken, and then nothing is given either.
	b.want(b.by("admin", "propose", b.proposal(b.entry("ben", 1, true), b.entry("eve", 101, false), b.entry("ann", 100, true))), ledger.OK, 0)
	two := precompiles.NumberArgs{Number: 2}
	b.want(b.by("beta admin", "approve", two), ledger.OK, 0)
	r := b.by("admin", "apply", two)
	b.want(r, ledger.Aborted, precompiles.AbortCorrection)
	if len(r.Failures) != 1 || r.Failures[0].Contract != b.self || r.Failures[0].Code != 1001 {
		t.Errorf("the receipt says %+v", r.Failures)
	}
	b.holds(map[string]string{"ann": "60", "ben": "140", "eve": "100", "": "300"})
	b.want(b.by("beta admin", "withdraw", two), ledger.Denied, precompiles.DeniedInstitution)
	b.want(b.by("admin", "withdraw", two), ledger.OK, 0)

	// What issues, or takes from what is no account, is for the committee.
	for number, entries := range [][]precompiles.Entry{{b.entry("ann", 40, true)}, {b.entry("nobody", 40, false), b.entry("ann", 40, true)}} {
		b.want(b.by("admin", "propose", b.proposal(entries...)), ledger.OK, 0)
		n := precompiles.NumberArgs{Number: uint64(3 + number)}
		b.want(b.by("beta admin", "approve", n), ledger.OK, 0)
		b.want(b.by("admin", "apply", n), ledger.Denied, precompiles.DeniedMotion)
	}
}

// TestCorrectionSalt has somebody who may read no more of a correction than audit records look for its amount, by trying all there can be.
func TestCorrectionSalt(t *testing.T) {
	for what, salt := range map[string][]byte{"with a salt": bytes.Repeat([]byte{7}, 16), "without one": nil} {
		t.Run(what, func(t *testing.T) {
			b := newBooks(t)
			proposed := b.proposal(b.entry("eve", 40, false), b.entry("ben", 40, true))
			proposed.Salt = salt
			b.want(b.by("admin", "propose", proposed), ledger.OK, 0)
			propose := b.records()[0]
			before, _, err := precompiles.ReadCorrection(b.head, 1)
			if err != nil {
				t.Fatal(err)
			}
			b.want(b.by("beta admin", "approve", precompiles.NumberArgs{Number: 1}), ledger.OK, 0)
			approve := b.records()[0]
			after, _, err := precompiles.ReadCorrection(b.head, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(after.Salt, salt) {
				t.Fatalf("the row has the salt %x, want %x", after.Salt, salt)
			}
			row := func(c precompiles.Correction, entries []precompiles.Entry, salt []byte) keys.Digest {
				c.Entries, c.Salt = entries, salt
				key := append(precompiles.CorrectionKeys(), 0, 0, 0, 0, 0, 0, 0, 1)
				digest, err := precompiles.AuditRows(b.suite, []precompiles.AuditRow{precompiles.NewAuditRow(b.suite, key, b.marshal(&c), true)})
				if err != nil {
					t.Fatal(err)
				}
				return digest
			}
			found := func(salt []byte) (digests int) {
				for amount := range int64(100) {
					guess := b.proposal(b.entry("eve", amount, false), b.entry("ben", amount, true))
					guess.Salt = salt
					for is, digest := range map[keys.Digest]keys.Digest{
						propose.Args: precompiles.AuditArgs(b.suite, b.marshal(guess)), approve.Before: row(before, guess.Entries, salt), approve.After: row(after, guess.Entries, salt),
					} {
						if is == digest {
							digests++
						}
					}
				}
				return digests
			}
			if n := found(salt); n != 3 {
				t.Errorf("who knows the salt finds the amount in %d digests, want 3", n)
			}
			if n := found(nil); salt != nil && n != 0 {
				t.Errorf("who does not know the salt finds the amount in %d digests, want none", n)
			}
		})
	}
}
