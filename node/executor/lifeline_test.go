package executor

import (
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestRecoveryInBlock has a leak, objections, confirmations and settlements meet in one block. The order of the block decides, and
// executed in parallel the outcome is the same (chain.block compares).
func TestRecoveryInBlock(t *testing.T) {
	c := newChainOf(t, newVM(t, wasmvm.Interpreter), []string{"alpha"}, []entry{{"clerk", "alpha", "registrar"}, {"admin", "alpha", "institution-admin"}, {"user", "alpha", ""}})
	c.signers["new"] = newSigner(t, "new")
	key := ledger.KeyOf(c.signers["new"].Public())
	pay := func(signer string) *ledger.SignedTx {
		return c.sign(c.body("user", ledger.Address{1}, "anything", none), c.signers[signer]) // not found: it may
	}
	accounts := func(by, method string, args any) *ledger.SignedTx {
		return c.tx(by, precompiles.AccountsAddress, method, args)
	}
	ask := func() *ledger.SignedTx {
		return accounts("clerk", "recover", precompiles.RecoverAccountArgs{
			Account: address("user"), Keys: []precompiles.AccountKey{{Algorithm: key.Algorithm, Key: key.Bytes, Weight: 1}}, Threshold: 1, Reason: "lost", Evidence: keys.Digest{1},
		})
	}
	number := func(n uint64) precompiles.RecoveryArgs {
		return precompiles.RecoveryArgs{Account: address("user"), Number: n}
	}
	want := func(receipts []ledger.Receipt, codes ...uint32) {
		t.Helper()
		for i, code := range codes {
			r := receipts[i]
			if ok := r.Status == ledger.OK || r.Status == ledger.NotFound; ok != (code == 0) || r.Code != code {
				t.Errorf("transaction %d of block %d: %s with code %d, want code %d", i, c.head.Height(), r.Status, r.Code, code)
			}
		}
	}
	user := precompiles.AddressArgs{Address: address("user")}

	// All in one block: what is before the report is paid, what is after it is not, and the objection is heard.
	want(c.block(ask(), pay("user"), accounts("admin", "confirm", number(1)), pay("user"), accounts("clerk", "report_leak", user), pay("user"),
		accounts("user", "object", precompiles.NumberArgs{Number: 1}), accounts("admin", "settle", number(1)), pay("user")),
		0, 0, 0, 0, 0, precompiles.DeniedFrozen, 0, precompiles.AbortRecovery, precompiles.DeniedFrozen)

	// Asked for again, confirmed twice at once, and asked for by both at once.
	want(c.block(ask(), ask(), accounts("admin", "confirm", number(2)), accounts("admin", "confirm", number(3)), accounts("admin", "confirm", number(3)), ask()),
		0, 0, precompiles.AbortRecovery, 0, precompiles.AbortUnchanged, precompiles.AbortRecovery)

	// Once the window has passed, who comes first settles, and from then on within the same block the new key counts alone.
	order := c.head.Header().Order.UnixMilli
	account, _, err := precompiles.ReadAccount(c.head, address("user"))
	if err != nil || account.Lifeline.Recovery.Until != order+precompiles.DefaultWindow.Milliseconds() {
		t.Fatalf("the window ends at %+v, %v", account.Lifeline, err)
	}
	late := func(tx ledger.Tx, signer string) *ledger.SignedTx {
		tx.Expiry = order + precompiles.DefaultWindow.Milliseconds() + 60_000
		return c.sign(tx, c.signers[signer])
	}
	settle := c.body("admin", precompiles.AccountsAddress, "settle", number(3))
	again := c.body("clerk", precompiles.AccountsAddress, "settle", number(3))
	txs := []*ledger.SignedTx{
		late(c.body("user", precompiles.AccountsAddress, "object", precompiles.NumberArgs{Number: 3}), "user"),
		late(settle, "admin"), late(again, "clerk"),
		late(c.body("user", ledger.Address{1}, "anything", none), "user"), late(c.body("user", ledger.Address{1}, "anything", none), "new"),
	}
	c.wait(precompiles.DefaultWindow.Milliseconds())
	want(c.block(txs...), precompiles.AbortRecovery, 0, precompiles.AbortRecovery, precompiles.DeniedKey, 0)
}

// TestCosignedTransactions sends what wants a co-signature, by a contract's address and by its name, with signatures of whoever there is.
func TestCosignedTransactions(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	c.want(c.block(c.tx("admin", precompiles.CNSAddress, "register", precompiles.NameVersionArgs{Name: "probe", Version: "1", Address: self}))[0], ledger.OK, 0)
	set := func(signers ...string) ledger.Receipt {
		body := c.body("user", precompiles.AccountsAddress, "cosign", precompiles.CosignArgs{
			Account: address("user"), Cosigner: address("regulator"), Classes: []precompiles.Class{{Contract: self}}, Until: 2_000_000,
		})
		return c.block(c.sign(body, c.signersOf(signers)...))[0]
	}
	c.want(set("user"), ledger.Denied, precompiles.DeniedCosigner)
	c.want(set("user", "stranger"), ledger.Denied, precompiles.DeniedCosigner)
	c.want(set("regulator"), ledger.Denied, precompiles.DeniedThreshold)
	c.want(set("user", "regulator"), ledger.OK, 0)
	for _, target := range []ledger.Target{{Address: self}, {Name: "probe"}, {Name: "probe", Version: "1"}} {
		for _, try := range []struct {
			signers []string
			code    uint32
		}{
			{[]string{"user"}, precompiles.DeniedCosigner},
			{[]string{"regulator"}, precompiles.DeniedThreshold},
			{[]string{"user", "stranger"}, precompiles.DeniedKey},
			{[]string{"user", "regulator"}, 0},
		} {
			body := c.body("user", self, "no such method", none)
			body.To = target
			tx := c.sign(body, c.signersOf(try.signers)...)
			if err := c.x.Admit(c.head, tx); (err == nil) != (try.code == 0) && target.Name == "" {
				t.Errorf("Admit of a call of %s by %q: %v", target, try.signers, err)
			}
			r := c.block(tx)[0]
			if r.Code != try.code || (try.code == 0) != (r.Status == ledger.NotFound) {
				t.Errorf("a call of %s by %q: %s with code %d, want code %d", target, try.signers, r.Status, r.Code, try.code)
			}
		}
	}
}

func (c *chain) signersOf(names []string) []keys.Signer {
	all := make([]keys.Signer, len(names))
	for i, n := range names {
		all[i] = c.signers[n]
	}
	return all
}

// A policy that wants two keys is kept by two officers of one institution, of whom one co-signs for the other, and by no one else beside an officer.
func TestKeysOfCosigners(t *testing.T) {
	c := newChain(t)
	self := c.deploy(probe().module(t, probeSchema()))
	cosign := c.body("user", precompiles.AccountsAddress, "cosign", precompiles.CosignArgs{
		Account: address("user"), Cosigner: address("admin"), Classes: []precompiles.Class{{Contract: self}}, Until: 2_000_000,
	})
	c.want(c.block(c.sign(cosign, c.signersOf([]string{"user", "admin"})...))[0], ledger.OK, 0)
	policy := precompiles.Action{To: precompiles.GovernanceAddress, Method: "set_policy", Args: c.marshal(precompiles.SetPolicyArgs{
		Contract: self, Method: "put", Policy: &precompiles.Policy{Rule: precompiles.RuleSelf, Keys: 2},
	})}
	c.want(c.block(c.tx("committee", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Actions: []precompiles.Action{policy}}))[0], ledger.OK, 0)
	motion := precompiles.MotionArgs{ID: 1}
	c.want(c.block(c.tx("regulator", precompiles.GovernanceAddress, "consent", motion))[0], ledger.OK, 0)
	c.want(c.block(c.tx("committee", precompiles.GovernanceAddress, "execute", motion))[0], ledger.OK, 0)
	put := func(sender string, signers ...string) ledger.Receipt {
		return c.block(c.sign(c.body(sender, self, "put", none), c.signersOf(signers)...))[0]
	}
	c.want(put("user", "user", "admin"), ledger.OK, 0)
	c.want(put("user", "user"), ledger.Denied, precompiles.DeniedCosigner)
	c.want(put("committee", "committee"), ledger.Denied, precompiles.DeniedThreshold)
	c.want(put("committee", "committee", "admin"), ledger.Denied, precompiles.DeniedKey)
}
