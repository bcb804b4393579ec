package token_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/gas.txt anew")

func TestToken(t *testing.T) {
	chain := contracttest.New(t, contracttest.Named("issuer", "alice", "bob")...)
	issuer, alice, bob := chain.Address("issuer"), chain.Address("alice"), chain.Address("bob")
	token := chain.Deploy("issuer", ".", "Gold", "XAU", issuer)
	token.Sees("about", fmt.Sprintf(`{"name":"Gold","symbol":"XAU","issuer":"%s"}`, issuer))

	token.Call("issuer", "issue", alice, 100).OK().Emitted("Issued", fmt.Sprintf(`{"to":"%s","amount":"100"}`, alice))
	token.Call("alice", "transfer", bob, 40).OK().Emitted("Transferred", fmt.Sprintf(`{"from":"%s","to":"%s","amount":"40"}`, alice, bob))
	token.Sees("balance_of", `"60"`, alice)
	token.Sees("balance_of", `"40"`, bob)

	t.Run("nobody can transfer more than they have", func(t *testing.T) {
		token.Call("alice", "transfer", bob, 61).Refused("InsufficientFunds", `{"have":"60","need":"61"}`)
		token.Sees("balance_of", `"60"`, alice)
	})
	t.Run("a transfer to oneself changes nothing", func(t *testing.T) {
		token.Call("alice", "transfer", alice, 60).OK()
		token.Sees("balance_of", `"60"`, alice)
	})
	t.Run("a payment says what it is for", func(t *testing.T) {
		token.Call("alice", "pay", bob, 0, "0x1234").OK().Emitted("Paid", fmt.Sprintf(`{"from":"%s","to":"%s","amount":"0","reference":"0x1234"}`, alice, bob))
	})
	t.Run("only the issuer issues", func(t *testing.T) {
		token.Call("alice", "issue", alice, 1).Refused("NotIssuer", fmt.Sprintf(`{"issuer":"%s"}`, issuer))
	})
	t.Run("amounts have 128 bits and never wrap around", func(t *testing.T) {
		const most = "340282366920938463463374607431768211455"
		token.Call("issuer", "issue", alice, most).Ended(ledger.Aborted, 3)
		token.Call("issuer", "issue", bob, "340282366920938463463374607431768211355").OK()
		token.Sees("total_supply", `"`+most+`"`)
	})
	t.Run("a view cannot be given a transfer", func(t *testing.T) {
		token.ViewAs("alice", "transfer", bob, 1).Ended(ledger.Denied, 1)
	})
	t.Run("nothing is half done when the gas runs out", func(t *testing.T) {
		full := token.Call("alice", "transfer", bob, 0).OK().Gas
		token.CallGas("alice", full-1_000, "transfer", bob, 0).Ended(ledger.OutOfGas, 0)
		token.CallGas("alice", full, "transfer", bob, 0).OK()
	})
	sum := fmt.Sprint(token.View("balance_of", alice), "+", token.View("balance_of", bob))
	if sum != "60+340282366920938463463374607431768211395" {
		t.Errorf("balances are %s", sum)
	}
}

func BenchmarkTransfer(b *testing.B) {
	chain := contracttest.NewOn(b, wasmvm.Compiler, contracttest.Named("issuer", "alice", "bob")...)
	token := chain.Deploy("issuer", ".", "Gold", "XAU", chain.Address("issuer"))
	token.Call("issuer", "issue", chain.Address("alice"), 1_000_000_000).OK()
	bob := chain.Address("bob")
	b.Run("transaction", func(b *testing.B) { // with signature, block and commit to memory
		for b.Loop() {
			token.Call("alice", "transfer", bob, 1).OK()
		}
	})
	b.Run("view", func(b *testing.B) {
		for b.Loop() {
			token.View("balance_of", bob)
		}
	})
}

// TestGas states what each method costs, which is the same on both engines. The gas is that of the Go release in
// testdata/gas.txt, on suite std: another one makes other code, and keys of another suite are longer. After a change of contract, SDK or prices, run it with -rewrite and
// read the difference.
func TestGas(t *testing.T) {
	built, err := contract.Build(t.Context(), ".", "")
	if err != nil {
		t.Fatal(err)
	}
	made := strings.TrimPrefix(contracttest.Compilers(built), built.Build.Language+" ")
	got := made + "\n" + costs(t, wasmvm.Interpreter, built.Code)
	const file = "testdata/gas.txt"
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if compiled := made + "\n" + costs(t, wasmvm.Default, built.Code); compiled != got {
		t.Errorf("gas on this machine's engine is\n%swant that of the interpreter\n%s", compiled, got)
	}
	if release, _, _ := strings.Cut(string(want), "\n"); release != made {
		t.Skipf("the gas in %s is that of %s, and this is %s", file, release, made)
	}
	if got != string(want) {
		t.Errorf("gas is\n%swant\n%s", got, want)
	}
}

func costs(t *testing.T, engine wasmvm.Engine, code []byte) string {
	t.Helper()
	chain := contracttest.NewOn(t, engine, contracttest.Named("issuer", "alice", "bob")...)
	issuer, alice, bob := chain.Address("issuer"), chain.Address("alice"), chain.Address("bob")
	token := chain.DeployModule("issuer", code, "Gold", "XAU", issuer)
	var lines strings.Builder
	for _, step := range []struct {
		name    string
		receipt *contracttest.Receipt
	}{
		{"issue to a new holder", token.Call("issuer", "issue", alice, 1_000).OK()},
		{"transfer to a new holder", token.Call("alice", "transfer", bob, 10).OK()},
		{"transfer", token.Call("alice", "transfer", bob, 10).OK()},
		{"transfer refused", token.Call("alice", "transfer", bob, 10_000)},
		{"balance_of", token.ViewAs("", "balance_of", bob).OK()},
		{"total_supply", token.ViewAs("", "total_supply").OK()},
	} {
		fmt.Fprintf(&lines, "%9d %s\n", step.receipt.Gas, step.name)
	}
	return lines.String()
}
