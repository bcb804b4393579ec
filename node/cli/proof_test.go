package cli

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestDescribeClaim describes proofs by other implementations with a schema at hand, and each receipt as that of a call by a name as well. Not
// every proof of a receipt holds the transaction.
func TestDescribeClaim(t *testing.T) {
	raw, err := os.ReadFile("../../state/ledger/testdata/claims.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Claims []struct {
			What     string
			Encoding client.Bytes
		}
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	schema := &ledger.Schema{Methods: []ledger.Method{{Name: "transfer"}}}
	alone := 0 // receipts without the transaction
	for _, g := range golden.Claims {
		claim, err := ledger.DecodeClaim(g.Encoding)
		if err != nil {
			t.Fatalf("%s: %v", g.What, err)
		}
		if _, err := describeClaim(keys.Std(), claim, trust{}, schema); err != nil {
			t.Errorf("%s: %v", g.What, err)
		}
		if claim.Receipt == nil {
			continue
		}
		r := &claim.Receipt.Receipt
		r.Status, r.Code, r.Served.Name, r.Served.Version = ledger.OK, 0, "token", "2"
		doc, err := describeClaim(keys.Std(), claim, trust{}, schema)
		if err != nil || doc.Receipt.Version != "2" || doc.Receipt.Contract != r.Served.Address {
			t.Errorf("%s, by a name: %+v, %v", g.What, doc, err)
		}
		if claim.Tx == nil {
			alone++
		}
	}
	if alone == 0 {
		t.Error("each receipt comes with its transaction")
	}
}
