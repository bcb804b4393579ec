package node_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// idleContract has a method run that does nothing.
const idleContract = "\x00asm\x01\x00\x00\x00" + "\x01\x05\x01\x60\x00\x01\x7f" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x20\x03\x06memory\x02\x00\x03run\x00\x00\x0dfondaco_abi_1\x00\x00" + "\x0a\x06\x01\x04\x00\x41\x00\x0b"

// TestShadow plants a fault in one of the engines of a node that runs both.
func TestShadow(t *testing.T) {
	for _, where := range []string{"in a block", "in a view"} {
		t.Run("a difference "+where+" stops the vote", func(t *testing.T) {
			suite := keystest.Suite()
			generate := func() keys.Signer {
				key, err := suite.Generate(suite.Vote(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				return key
			}
			self, user := generate(), generate()
			params := ledger.DefaultParams()
			params.BatchDelay = 1
			genesis := ledger.Genesis{
				Version: ledger.Version, Name: "shadow", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: params,
				Members:  []ledger.Member{{Node: identity.NodeIDOf(suite, self.Public()), Institution: "bank", Key: ledger.KeyOf(self.Public())}},
				Accounts: []ledger.GenesisAccount{{Name: "user", Institution: "bank", Roles: []string{string(identity.Deployer)}, Keys: []ledger.Key{ledger.KeyOf(user.Public())}}},
			}
			var faulty atomic.Bool
			var log node.LogText
			n, err := node.New(t.Context(), node.Config{
				Dir: t.TempDir(), Genesis: genesis, Signer: self, Listen: "127.0.0.1:0", API: "127.0.0.1:0", Admin: "127.0.0.1:0",
				EngineFactory: pbft.New, Wasm: wasmvm.Shadow, Log: zerolog.New(&log),
				Spoil: func(engine wasmvm.Engine, method string, o *wasmvm.Outcome) {
					if faulty.Load() && engine == wasmvm.Compiler && method == "run" {
						o.Gas++
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			ended := make(chan error, 1)
			go func() { ended <- n.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("the node ended: %v", err)
				}
			}()
			api, err := client.New("http://"+n.Addr().String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			send := func(to ledger.Address, method string, args []byte) *ledger.SignedTx {
				tx, err := api.Transaction(ctx, ledger.NamedAddress(suite, "account", "user"), ledger.Target{Address: to}, method, args)
				if err != nil {
					t.Fatal(err)
				}
				signed, err := tx.Sign(suite, user)
				if err != nil {
					t.Fatal(err)
				}
				if err := api.Send(ctx, signed); err != nil {
					t.Fatal(err)
				}
				return signed
			}
			done := func(tx *ledger.SignedTx) *client.Transaction {
				result, err := api.Wait(ctx, tx.ID)
				if err != nil || result.Receipt == nil || result.Receipt.Status != "ok" {
					t.Fatalf("%+v, %v, want a receipt with status ok", result, err)
				}
				return result
			}
			until := func(what string, holds func() bool) {
				for began := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
					if time.Since(began) > 30*time.Second {
						t.Fatalf("after 30 s still not: %s\n%s", what, &log)
					}
				}
			}
			admin := func(path string) string {
				reply, err := http.Get("http://" + n.AdminAddr().String() + path)
				if err != nil {
					t.Fatal(err)
				}
				defer reply.Body.Close()
				text, err := io.ReadAll(reply.Body)
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("%d %s", reply.StatusCode, text)
			}
			args, err := ledger.Marshal(&precompiles.DeployArgs{Code: []byte(idleContract)})
			if err != nil {
				t.Fatal(err)
			}
			var contract ledger.Address
			if err := ledger.Unmarshal(done(send(precompiles.ContractsAddress, "deploy", args)).Receipt.Data, &contract); err != nil {
				t.Fatal(err)
			}
			until("a call compared, which takes the compiler", func() bool {
				done(send(contract, "run", nil))
				return !strings.Contains(admin("/metrics"), "fondaco_wasm_compared_total{group=\"main\"} 0\n")
			})
			faulty.Store(true)
			if where == "in a block" {
				send(contract, "run", nil)
			} else if _, err := api.Call(ctx, contract, client.Call{Method: "run"}); err == nil {
				t.Error("the view has a result")
			}
			until("the group stopped", func() bool {
				status, err := api.Status(ctx)
				return err == nil && strings.Contains(status.Stopped, "the engines differ on method run of module")
			})
			until("health is red", func() bool {
				health := admin("/readyz")
				return strings.HasPrefix(health, "503") && strings.Contains(health, "the engines differ")
			})
			if metrics := admin("/metrics"); !strings.Contains(metrics, "fondaco_wasm_divergences_total{group=\"main\"} 1\n") || !strings.Contains(metrics, "fondaco_alarms_total{group=\"main\"} 1\n") {
				t.Errorf("the metrics do not tell:\n%s", metrics)
			}
			code := precompiles.CodeHash(suite, []byte(idleContract)).String()
			if !log.Has(`"level":"error"`, `"module":"`+code, `"method":"run"`, `"input":"80"`, `"difference":"gas`) {
				t.Errorf("the log has no line with module, method, input and difference:\n%s", &log)
			}
		})
	}
}
