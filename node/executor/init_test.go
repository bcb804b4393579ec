package executor

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// initializing returns a module with an _initialize of the body.
func initializing(body string) []byte {
	code := "\x00" + body + "\x0b"
	return []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x08\x02\x60\x00\x00\x60\x00\x01\x7f" + // types () -> () and () -> i32
		"\x03\x04\x03\x00\x01\x00" + // functions _initialize, run and the marker
		"\x05\x03\x01\x00\x01" +
		"\x07\x2e\x04\x0b_initialize\x00\x00\x03run\x00\x01\x0dfondaco_abi_1\x00\x02\x06memory\x02\x00" +
		"\x0a" + string(rune(10+len(code))) + "\x03" + string(rune(len(code))) + code + "\x04\x00\x41\x00\x0b\x02\x00\x0b")
}

// TestInitialize deploys modules of which _initialize fails or takes much, with more and less gas, on nodes that have never seen
// them, that prepared them and that executed them before: the receipts must be equal, and pay for the work.
func TestInitialize(t *testing.T) {
	for name, test := range map[string]struct {
		code   []byte
		status ledger.Status // with enough gas
		least  ledger.Gas    // that _initialize takes then
	}{
		"loops":     {initializing("\x03\x40\x0c\x00\x0b"), ledger.Denied, 8 * wasmvm.MaxInitGas},
		"traps":     {initializing("\x41\x28\x40\x00\x1a\x00"), ledger.Denied, 2_400_000}, // after memory.grow by 40 pages
		"ends well": {initializing("\x41\x28\x40\x00\x1a"), ledger.OK, 2_400_000},
	} {
		t.Run(name, func(t *testing.T) {
			deploy := func(c *chain, limit ledger.Gas, prepare bool) ledger.Receipt {
				body := c.body("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: test.code})
				body.Nonce, body.GasLimit = [16]byte{1}, limit
				tx := c.sign(body, c.signers["admin"])
				if prepare {
					if err := errors.Join(c.x.Admit(c.head, tx), c.x.Prepare(context.Background(), tx)); err != nil {
						t.Fatal(err)
					}
				}
				order := c.order(tx)
				result, err := c.x.execute(context.Background(), c.head, &order, []*ledger.SignedTx{tx})
				if err != nil {
					t.Fatal(err)
				}
				return result.Receipts[0]
			}
			knows := newChain(t)
			most := deploy(knows, knows.genesis.Params.TxGas, true)
			if most.Status != test.status || most.Gas < test.least {
				t.Fatalf("%v with %d gas, want %v and at least %d", most.Status, most.Gas, test.status, test.least)
			}
			for _, limit := range []ledger.Gas{600_000, most.Gas / 2, most.Gas - 1, most.Gas, most.Gas + 1} {
				if most.Gas > wasmvm.MaxInitGas && limit >= most.Gas/2 {
					limit = 4_000_000 // it takes as long as it may
				}
				tried := newChain(t)
				deploy(tried, limit*2/3, true)
				want := deploy(newChain(t), limit, false)
				if out := limit < most.Gas; (want.Status == ledger.OutOfGas) != out || out && want.Gas != limit || !out && want.Gas != most.Gas {
					t.Errorf("limit %d: %v with %d gas; it takes %d", limit, want.Status, want.Gas, most.Gas)
				}
				for what, got := range map[string]ledger.Receipt{
					"prepared": deploy(newChain(t), limit, true), "executed before": deploy(knows, limit, false), "tried with less": deploy(tried, limit, false),
				} {
					if !reflect.DeepEqual(got, want) {
						t.Errorf("limit %d, %s: %+v, want %+v", limit, what, got, want)
					}
				}
			}
		})
	}
	t.Run("preparing takes no more than the transaction offers", func(t *testing.T) {
		c := newChain(t)
		body := c.body("admin", precompiles.ContractsAddress, "deploy", precompiles.DeployArgs{Code: initializing("\x41\x28\x40\x00\x1a")})
		for limit, want := range map[ledger.Gas]int{50_000: 0, 2_000_000: 0, c.genesis.Params.TxGas + 1: 0, c.genesis.Params.TxGas: 1} {
			c := newChain(t)
			body.GasLimit = limit
			tx := c.sign(body, c.signers["admin"])
			_ = c.x.Admit(c.head, tx)
			if err := c.x.Prepare(context.Background(), tx); err != nil {
				t.Error(err)
			}
			if got := c.x.vm.Stats().Modules; got != want {
				t.Errorf("with %d gas %d modules are prepared, want %d", limit, got, want)
			}
		}
	})
}
