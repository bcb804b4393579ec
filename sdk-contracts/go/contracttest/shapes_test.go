package contracttest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestShapes passes values of every type through a contract: arguments, state, events, errors and results.
func TestShapes(t *testing.T) {
	chain := contracttest.New(t, append(contracttest.Named("alice"), contracttest.Account{Name: "deployer", Roles: []string{"deployer"}})...)
	shapes := chain.Deploy("alice", "../../../node/contract/testdata/shapes")
	alice := chain.Address("alice")
	full := fmt.Sprintf(`{"name":"XS0123","colour":"Blue","legs":[{"pay":true,"rate":-2147483648,"notes":["å","日本"]},{"pay":false,"rate":1,"notes":[]}],`+
		`"agent":"%s","digest":"0x%s","short":"0x01020304","blob":"0xff","size":"18446744073709551616","low":"-9223372036854775808","cash":[[1,65535],[]]}`,
		alice, strings.Repeat("ab", 32))
	empty := `{"name":"","colour":"Red","legs":[],"agent":null,"digest":"0x` + strings.Repeat("00", 32) + `","short":"0x00000000","blob":"0x","size":"0","low":"0","cash":[]}`
	for name, deal := range map[string]string{"full": full, "empty": empty} {
		t.Run(name, func(t *testing.T) { shapes.Sees("echo", deal, json.RawMessage(deal)) })
	}
	r := shapes.Call("alice", "store", json.RawMessage(full), []string{"Red", "Green", "Blue"})
	if got, err := json.Marshal(r.Returned()); err != nil || string(got) != full {
		t.Errorf("store returns %s, %v, want %s", got, err, full)
	}
	r.Emitted("Stored", `{"name":"XS0123","deal":`+full+`}`)
	shapes.Sees("days", `[{"number":-1,"colour":"Blue"},{"number":0,"colour":"Green"},{"number":1,"colour":"Red"}]`, 10)
	shapes.Sees("days", `[{"number":-1,"colour":"Blue"}]`, 1)
	shapes.Sees("count", `"1"`)

	t.Run("an error with data, wrapped", func(t *testing.T) {
		long := strings.Replace(full, `"legs":[`, `"legs":[{"pay":false,"rate":0,"notes":[]},`, 1)
		shapes.Call("alice", "store", json.RawMessage(long), []string{}).Refused("TooBig", `{"deal":`+long+`}`)
		shapes.Sees("count", `"1"`)
	})
	t.Run("a panic", func(t *testing.T) {
		shapes.ViewAs("", "panic", []int{}).Ended(ledger.Aborted, 2)
	})
	t.Run("the context", func(t *testing.T) {
		chain.Advance(24 * time.Hour)
		shapes.Call("alice", "store", json.RawMessage(empty), []string{}).OK()
		want := fmt.Sprintf(`{"caller":"%s","origin":"%s","self":"%s","height":"%d","time":"%d","group":"main","method":"who","read_only":true,"deployer":true}`,
			chain.Address("deployer"), chain.Address("deployer"), shapes.Address, chain.Height(), chain.Now().UnixMilli())
		who, err := json.Marshal(shapes.ViewAs("deployer", "who").Returned())
		if err != nil || string(who) != want {
			t.Errorf("who = %s, %v, want %s", who, err, want)
		}
		if passed := chain.Now().UnixMilli() - contracttest.Start; passed < 24*3_600_000 {
			t.Errorf("%d ms passed, want a day and more", passed)
		}
	})
	t.Run("roles", func(t *testing.T) {
		shapes.Call("deployer", "restricted").OK()
		shapes.Call("alice", "restricted").Ended(ledger.Denied, 105)
	})
	t.Run("a hash", func(t *testing.T) {
		shapes.Sees("digest", `"0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`, []byte("abc"))
	})
	t.Run("a call to a contract that fails, and to none", func(t *testing.T) {
		for want, method := range map[string]string{"2": "panic", "-4": "nothing"} {
			if got := shapes.Call("alice", "forward", shapes.Address, method, []int{}).Returned(); fmt.Sprint(got) != want {
				t.Errorf("forward to %s = %v, want %s", method, got, want)
			}
		}
		if got := shapes.Call("alice", "forward", shapes.Address, "panic", []int{7}).Returned(); fmt.Sprint(got) != "0" {
			t.Errorf("forward to panic with a list of one = %v, want 0", got)
		}
	})
	t.Run("what a call returned is of the type that it was asked for", func(t *testing.T) {
		shapes.Sees("ask_days", `3`, shapes.Address)
	})
	t.Run("an enum of signed numbers", func(t *testing.T) {
		shapes.Sees("turn", `"Buy"`, "Sell")
		for number, status := range map[int]string{0: "0", 1: "0", -1: "1", 2: "1", -128: "1"} {
			shapes.Sees("turn_number", status, shapes.Address, number)
		}
	})
	t.Run("a scan under a first key", func(t *testing.T) {
		shapes.Sees("of", `3`, alice)
		shapes.Sees("of", `0`, chain.Address("deployer"))
	})
	t.Run("arguments that do not fit are refused", func(t *testing.T) {
		shapes.ViewAs("", "days", 4_294_967_295).Ended(ledger.Denied, 5) // more than a scan may return
	})
}
