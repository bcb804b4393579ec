package executor

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// token returns the example token, built from its Go source.
func token(tb testing.TB) *contract.Built {
	tb.Helper()
	built, err := contract.Build(context.Background(), "../../examples/token", "")
	if errors.Is(err, contract.ErrToolchain) {
		tb.Skipf("%v: install Go from https://go.dev/dl", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return built
}

type tokenChain struct {
	*chain
	schema *ledger.Schema
	self   ledger.Address
}

func newTokenChain(tb testing.TB) *tokenChain {
	tb.Helper()
	built := token(tb)
	c := &tokenChain{chain: newChainOn(tb, newVM(tb, wasmvm.Default)), schema: built.Schema}
	issuer := address("admin").String()
	c.self = c.deploy(built.Code, c.args("init", "Florin", "FLN", issuer)...)
	c.want(c.block(c.tx("admin", c.self, "issue", c.args("issue", issuer, "1000000")))[0], ledger.OK, 0)
	return c
}

func (c *tokenChain) args(method string, args ...string) []byte {
	c.Helper()
	raw, err := c.schema.EncodeText(method, args)
	if err != nil {
		c.Fatal(err)
	}
	return raw
}

// TestGoContract runs a contract in Go, with a runtime that starts up, through the whole executor.
func TestGoContract(t *testing.T) {
	c := newTokenChain(t)
	user := address("user").String()
	r := c.block(
		c.tx("admin", c.self, "transfer", c.args("transfer", user, "30")),
		c.tx("user", c.self, "transfer", c.args("transfer", address("stranger").String(), "31")),
		c.tx("user", c.self, "transfer", c.args("transfer", address("stranger").String(), "10")),
		c.tx("user", c.self, "issue", c.args("issue", user, "1")),
		c.tx("user", c.self, "transfer", []byte{0x82, 0x01, 0x02}),
	)
	c.want(r[0], ledger.OK, 0)
	c.want(r[1], ledger.Aborted, 1001)
	c.want(r[2], ledger.OK, 0)
	c.want(r[3], ledger.Aborted, 1002)
	if r[4].Status != ledger.Aborted {
		t.Errorf("arguments of another form: %s", r[4].Status)
	}
	if len(r[0].Events) != 1 || len(r[1].Events) != 0 {
		t.Errorf("events %v, %v", r[0].Events, r[1].Events)
	}
	for holder, want := range map[string]string{"admin": "999970", "user": "20", "stranger": "10"} {
		o, err := c.x.View(context.Background(), c.head, Call{To: ledger.Target{Address: c.self}, Method: "balance_of", Args: c.args("balance_of", address(holder).String())})
		if err != nil || o.Status != ledger.OK {
			t.Fatalf("%+v, %v", o, err)
		}
		value, err := c.schema.DecodeValue(c.schema.Method("balance_of").Return, o.Data)
		if err != nil || fmt.Sprint(value) != want {
			t.Errorf("balance of %s = %s, %v; want %s", holder, value, err, want)
		}
	}
	if schema, err := precompiles.ReadSchema(c.head, mustDeployment(t, c.chain, c.self).Code); err != nil || schema.Name != c.schema.Name {
		t.Errorf("ReadSchema = %v, %v", schema, err)
	}
}

func mustDeployment(t *testing.T, c *chain, address ledger.Address) precompiles.Deployment {
	t.Helper()
	d, found, err := precompiles.ReadContract(c.head, address)
	if err != nil || !found {
		t.Fatalf("ReadContract: found %v, %v", found, err)
	}
	return d
}

func BenchmarkToken(b *testing.B) {
	c := newTokenChain(b)
	txs := make([]*ledger.SignedTx, 1_000)
	for i := range txs {
		to := ledger.Address{1, byte(i), byte(i >> 8)}
		txs[i] = c.tx("admin", c.self, "transfer", c.args("transfer", to.String(), "1"))
	}
	order := c.order(txs...)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		result, err := c.x.execute(context.Background(), c.head, &order, txs)
		if err != nil || result.Receipts[0].Status != ledger.OK {
			b.Fatal(result.Receipts[0], err)
		}
		n += len(txs)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/tx")
}
