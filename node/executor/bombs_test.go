package executor

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestBombs deploys the hostile modules of wasmvm on one chain for each engine and calls them: blocks must have equal receipts and
// hashes, gas within the transaction's limit, and the contract that was there before must answer afterwards.
func TestBombs(t *testing.T) {
	raw, err := os.ReadFile("../../wasmvm/testdata/bombs.json")
	if err != nil {
		t.Fatal(err)
	}
	var bombs []struct {
		Name, Why string
		Code      []byte
	}
	if err := json.Unmarshal(raw, &bombs); err != nil {
		t.Fatal(err)
	}
	if len(bombs) < 30 {
		t.Fatalf("%d bombs, want at least 30", len(bombs))
	}
	var chains [2]*chain
	var probes [2]ledger.Address
	for i, engine := range []wasmvm.Engine{wasmvm.Compiler, wasmvm.Interpreter} {
		chains[i] = newChainOn(t, newVM(t, engine))
		probes[i] = chains[i].deploy(probe().module(t, probeSchema()))
	}
	for _, b := range bombs {
		t.Run(b.Name, func(t *testing.T) {
			var receipts [2]ledger.Receipt
			for i, c := range chains {
				c.TB = t
				address := c.deploy(b.Code)
				tx := c.body("user", address, "run", none)
				tx.GasLimit = 2_000_000
				receipts[i] = c.block(c.sign(tx, c.signers["user"]))[0]
				if receipts[i].Gas > tx.GasLimit {
					t.Errorf("%d gas used, the limit is %d", receipts[i].Gas, tx.GasLimit)
				}
				if receipts[i].Status != ledger.OK && len(receipts[i].Events) > 0 {
					t.Errorf("%v with %d events", receipts[i].Status, len(receipts[i].Events))
				}
				c.want(c.block(c.tx("user", probes[i], "put", none))[0], ledger.OK, 0)
			}
			a, b := chains[0].marshal(receipts[0]), chains[1].marshal(receipts[1])
			if !bytes.Equal(a, b) {
				t.Errorf("compiler: %+v\ninterpreter: %+v", receipts[0], receipts[1])
			}
			if chains[0].head.Hash() != chains[1].head.Hash() {
				t.Error("the blocks of compiler and interpreter have different hashes")
			}
		})
	}
}
