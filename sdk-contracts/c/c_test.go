package c_test

import (
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
	"github.com/fondaco/fondaco/wasmvm"
)

func TestToken(t *testing.T) {
	chain := contracttest.NewOn(t, wasmvm.Compiler, contracttest.Named("issuer", "alice", "bob")...)
	built, err := contract.Build(t.Context(), "contracts/token", "")
	if err != nil {
		t.Fatal(err)
	}
	token := chain.DeployModule("issuer", built.Code, "Gold", "XAU", chain.Address("issuer"))
	t.Log(token.Deployed.Gas)
	token.Call("issuer", "issue", chain.Address("alice"), "100000000000000000000000").OK()
	token.Call("alice", "issue", chain.Address("alice"), 100).Refused("NotIssuer", `{"issuer":"`+chain.Address("issuer").String()+`"}`)
	r := token.Call("alice", "transfer", chain.Address("bob"), 40).OK()
	t.Log("gas of transfer", r.Gas, len(built.Code))
	r = token.Call("alice", "transfer", chain.Address("bob"), 40).OK()
	t.Log("gas of transfer", r.Gas, len(built.Code))
	token.Call("bob", "transfer", chain.Address("alice"), 400).Refused("InsufficientFunds", `{"have":"80","need":"400"}`)
	token.Sees("balance_of", `"80"`, chain.Address("bob"))
	token.Sees("balance_of", `"99999999999999999999920"`, chain.Address("alice"))
}
