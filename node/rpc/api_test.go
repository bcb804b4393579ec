package rpc_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/node/rpc"
	"github.com/fondaco/fondaco/plugins"
	enginepbft "github.com/fondaco/fondaco/plugins/cmd/engine-pbft"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// chain is a running chain of one node in this process, and a client of its API whose every answer is held to
// the document.
type chain struct {
	t       *testing.T
	suite   keys.Suite
	genesis ledger.Genesis
	id      keys.Digest
	url     string
	api     *client.Client
	http    *http.Client
	checker *checker
	signers map[string]keys.Signer
	lie     *ledger.Evidence // against the member; the node has found it before it started
	config  node.Config
	stop    func() error // stops the node and says how it ended; once

	token  ledger.Address
	schema *ledger.Schema
	module []byte
}

// accounts of the genesis; nobody's key is in none.
var accounts = map[string][]string{
	"admin": {string(identity.Deployer), string(identity.InstitutionAdmin)}, "alice": {string(identity.User)}, "bob": {string(identity.User)}, "bea": {string(identity.Compliance)},
	"chair": {string(identity.Committee)}, "rita": {string(identity.Regulator)},
}

// start runs a node of a chain that has as many members; the others do not run. Its configuration can be changed before.
func start(t *testing.T, members int, change ...func(*node.Config)) *chain {
	t.Helper()
	c := &chain{t: t, suite: keystest.Suite(), signers: map[string]keys.Signer{}}
	generate := func() keys.Signer {
		key, err := c.suite.Generate(c.suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	self := generate()
	params := ledger.DefaultParams()
	params.BatchDelay = 1
	c.genesis = ledger.Genesis{
		Version: ledger.Version, Name: "api", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: params, VetoWindow: new(int64),
	}
	for member := self; len(c.genesis.Members) < members; member = generate() {
		public := member.Public()
		c.genesis.Members = append(c.genesis.Members, ledger.Member{Node: identity.NodeIDOf(c.suite, public), Institution: "bank", Key: ledger.KeyOf(public)})
	}
	for _, name := range []string{"admin", "alice", "bob", "bea", "chair", "rita"} {
		c.signers[name] = generate()
		institution := "bank"
		switch name {
		case "bea":
			institution = "savings bank"
		case "rita":
			institution = "authority"
		}
		c.genesis.Accounts = append(c.genesis.Accounts, ledger.GenesisAccount{
			Name: name, Institution: institution, Roles: accounts[name], Keys: []ledger.Key{ledger.KeyOf(c.signers[name].Public())},
		})
	}
	c.signers["nobody"] = generate()
	c.id = c.genesis.Hash(c.suite)
	dir := t.TempDir()
	c.keepLie(self, filepath.Join(dir, "data", "main"))
	c.config = node.Config{
		Dir: dir, Genesis: c.genesis, Signer: self, Listen: "127.0.0.1:0", API: "127.0.0.1:0", EngineFactory: pbft.New,
		Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel),
	}
	for _, f := range change {
		f(&c.config)
	}
	c.run()
	return c
}

// run starts the node, also again after stop.
func (c *chain) run() {
	t := c.t
	t.Helper()
	n, err := node.New(t.Context(), c.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stopped := false
	c.stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-ended
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Errorf("the node ended: %v", err)
		}
	})
	c.url = "http://" + n.Addr().String()
	c.checker = &checker{t: t, doc: readDocument(t), next: &http.Transport{MaxIdleConnsPerHost: 16}, asked: map[string]bool{}}
	c.http = &http.Client{Transport: c.checker}
	if c.api, err = client.New(c.url, c.http); err != nil {
		t.Fatal(err)
	}
}

// keepLie writes the file in which a node keeps evidence.
func (c *chain) keepLie(self keys.Signer, dir string) {
	c.t.Helper()
	var votes []ledger.Vote
	for order := range byte(2) {
		st := ledger.Statement{Kind: ledger.Commit, View: 7, Height: 70, Order: keys.Digest{order}, Block: keys.Digest{1}}
		signature, err := self.Sign(st.Digest(c.suite, c.id, "main"))
		if err != nil {
			c.t.Fatal(err)
		}
		votes = append(votes, ledger.Vote{Statement: st, Signature: signature})
	}
	var err error
	if c.lie, err = ledger.NewEvidence(votes[0], votes[1]); err != nil {
		c.t.Fatal(err)
	}
	data, err := ledger.Marshal([]any{1, []any{&group.Evidence{Proof: *c.lie, Node: c.genesis.Members[0].Node, Institution: "bank", UnixMilli: 1_700_000_000_000}}})
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "evidence"), data, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *chain) address(name string) ledger.Address {
	return ledger.NamedAddress(c.suite, "account", name)
}

// deployToken builds and deploys the example token, with 1,000 units at alice.
func (c *chain) deployToken() {
	c.t.Helper()
	built, err := contract.Build(c.t.Context(), "../../examples/token", "")
	if err != nil {
		c.t.Fatal(err)
	}
	c.schema, c.module = built.Schema, built.Code
	init, err := built.Schema.EncodeText("init", []string{"Coin", "FDC", c.address("admin").String()})
	if err != nil {
		c.t.Fatal(err)
	}
	args, err := ledger.Marshal(&precompiles.DeployArgs{Code: built.Code, Args: init})
	if err != nil {
		c.t.Fatal(err)
	}
	done := c.send(c.tx("admin", precompiles.ContractsAddress, "deploy", args))
	if done.Receipt.Status != "ok" {
		c.t.Fatalf("deploying the token: %s %s %d", done.Receipt.Status, done.Receipt.Error, done.Receipt.Code)
	}
	if err := ledger.Unmarshal(done.Receipt.Data, &c.token); err != nil {
		c.t.Fatal(err)
	}
	if done := c.send(c.call("admin", "issue", c.address("alice").String(), "1000")); done.Receipt.Status != "ok" {
		c.t.Fatalf("issue: %s %s", done.Receipt.Status, done.Receipt.Error)
	}
}

func (c *chain) tx(sender string, to ledger.Address, method string, args []byte) ledger.Tx {
	c.t.Helper()
	tx, err := c.api.Transaction(c.t.Context(), c.address(sender), ledger.Target{Address: to}, method, args)
	if err != nil {
		c.t.Fatal(err)
	}
	tx.Expiry = time.Now().UnixMilli() + c.genesis.Params.MaxLifetime/2 // this machine may be busy
	return tx
}

// call returns a call of the token, arguments as a person types them.
func (c *chain) call(sender, method string, args ...string) ledger.Tx {
	c.t.Helper()
	encoded, err := c.schema.EncodeText(method, args)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.tx(sender, c.token, method, encoded)
}

func (c *chain) sign(tx ledger.Tx, names ...string) *ledger.SignedTx {
	c.t.Helper()
	var signers []keys.Signer
	for _, name := range names {
		signers = append(signers, c.signers[name])
	}
	signed, err := tx.Sign(c.suite, signers...)
	if err != nil {
		c.t.Fatal(err)
	}
	return signed
}

// send signs a transaction with its sender's key and waits until it is in a block.
func (c *chain) send(tx ledger.Tx) *client.Transaction {
	c.t.Helper()
	for name := range accounts {
		if c.address(name) == tx.Sender {
			return c.sendSigned(c.sign(tx, name))
		}
	}
	c.t.Fatal("the sender is no account of the genesis")
	return nil
}

func (c *chain) sendSigned(tx *ledger.SignedTx) *client.Transaction {
	c.t.Helper()
	if err := c.api.Send(c.t.Context(), tx); err != nil {
		c.t.Fatal(err)
	}
	done, err := c.api.Wait(c.t.Context(), tx.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	return done
}

// do makes a request and returns status and body.
func (c *chain) do(method, path, kind string, body []byte) (int, []byte) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := c.http.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, data
}

// refused makes a request that must give a problem with this status and code, and returns its detail.
func (c *chain) refused(t *testing.T, status int, code, method, path, kind string, body []byte) string {
	t.Helper()
	got, data := c.do(method, path, kind, body)
	var p client.Problem
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatalf("%s %s: %s", method, path, data)
	}
	if got != status || p.Code != code || len(p.Detail) < 10 {
		t.Errorf("%s %s: %d %s (%s), want %d %s", method, path, got, p.Code, p.Detail, status, code)
	}
	return p.Detail
}

// TestMain makes this test binary also be the engine's program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		enginepbft.Main()
		return
	}
	os.Exit(m.Run())
}

func TestAPI(t *testing.T) {
	c := start(t, 1, func(config *node.Config) {
		config.EngineFactory, config.Engine = nil, plugins.Spec{Name: "engine-pbft", Args: []string{"plugin"}}
	})
	ctx := t.Context()

	t.Run("the chain is described, before there is a block", func(t *testing.T) {
		got, err := c.api.Chain(ctx)
		if err != nil || got.Chain != c.id || got.Group != "main" || len(got.Members) != 1 || got.Params.TxGas != c.genesis.Params.TxGas {
			t.Errorf("chain = %+v, %v", got, err)
		}
		genesis, err := c.api.Genesis(ctx)
		if err != nil || genesis.Hash(c.suite) != c.id {
			t.Errorf("the genesis has another digest, or %v", err)
		}
		status, err := c.api.Status(ctx)
		if err != nil || status.Height != 0 || status.Number != 0 || status.Stopped != "" || status.Node != c.genesis.Members[0].Node {
			t.Errorf("status = %+v, %v", status, err)
		}
	})
	t.Run("other parameters are tried", func(t *testing.T) {
		params := c.genesis.Params
		params.DeployRoles = []string{"nobody-has-it"}
		if trial, err := c.api.TryParams(ctx, &params); err != nil || trial.Refused != "" || len(trial.Breaks) != 1 {
			t.Errorf("without deployers: %+v, %v; want that deployment breaks", trial, err)
		}
		params.TxGas = 1
		if trial, err := c.api.TryParams(ctx, &params); err != nil || trial.Refused == "" {
			t.Errorf("with tx_gas 1: %+v, %v; want it refused", trial, err)
		}
		c.refused(t, 400, client.CodeBadRequest, "POST", "/v1/params/check", "application/json", []byte(`{"batch_dealy": 1}`))
	})
	t.Run("the calls of a motion are tried on one another's effects", func(t *testing.T) {
		call := func(method string) client.MotionCall {
			args, err := ledger.Marshal(precompiles.RoleArgs{Account: c.address("bob"), Role: "owner"})
			if err != nil {
				t.Fatal(err)
			}
			return client.MotionCall{To: precompiles.AccessAddress, Method: method, Args: args}
		}
		grant, revoke := call("grant"), call("revoke")
		if trial, err := c.api.TryMotion(ctx, []client.MotionCall{grant, revoke}); err != nil || len(trial.Calls) != 2 || trial.Calls[1].Status != "ok" || len(trial.Calls[1].Events) != 1 || trial.Calls[1].Events[0].Topic != "revoked" {
			t.Errorf("grant, revoke: %+v, %v", trial, err)
		}
		if trial, err := c.api.TryMotion(ctx, []client.MotionCall{revoke, grant}); err != nil || len(trial.Calls) != 1 || trial.Calls[0].Error != "Unchanged" || trial.Calls[0].Trace == "" {
			t.Errorf("revoke, grant: %+v, %v; want that it ends at the first", trial, err)
		}
		c.refused(t, 400, client.CodeBadRequest, "POST", "/v1/motions/check", "application/json", []byte(`{"calls":[]}`))
		many, err := json.Marshal(client.MotionCalls{Calls: slices.Repeat([]client.MotionCall{grant}, 18)})
		if err != nil {
			t.Fatal(err)
		}
		c.refused(t, 400, client.CodeBadRequest, "POST", "/v1/motions/check", "application/json", many)
	})
	t.Run("nothing of block 0 can be proven, and the answer says why", func(t *testing.T) {
		c.refused(t, 409, client.CodeUnavailable, "GET", "/v1/headers/0/proof", "", nil)
		c.refused(t, 409, client.CodeUnavailable, "GET", "/v1/headers/0/proof?under=latest", "", nil)
		c.refused(t, 409, client.CodeUnavailable, "GET", "/v1/state/"+c.address("bob").String()+"/0x?proof=true", "", nil)
	})

	c.deployToken()
	alice, bob := c.address("alice"), c.address("bob")
	transfer := func(amount int) ledger.Tx { return c.call("alice", "transfer", bob.String(), strconv.Itoa(amount)) }
	claimed := func(t *testing.T, raw []byte) *ledger.Claim {
		t.Helper()
		claim, err := ledger.DecodeClaim(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := claim.Verify(c.suite, c.id, "main", c.genesis.Finality(), c.genesis.Epoch()); err != nil {
			t.Fatal(err)
		}
		return claim
	}

	t.Run("a transfer is committed with a decoded receipt", func(t *testing.T) {
		done := c.send(transfer(10))
		r := done.Receipt
		want := fmt.Sprintf(`{"from":"%s","to":"%s","amount":"10"}`, alice, bob)
		if done.Progress != client.Committed || r.Status != "ok" || len(r.Events) != 1 || r.Events[0].Topic != "Transferred" || string(r.Events[0].Decoded) != want {
			t.Errorf("transaction = %+v, receipt = %+v", done, r)
		}
		if want := fmt.Sprintf(`{"to":"%s","amount":"10"}`, bob); string(done.Decoded) != want || done.Sender != alice || done.Method != "transfer" {
			t.Errorf("arguments = %s, want %s", done.Decoded, want)
		}
	})
	t.Run("a name stands for a contract, in transactions and in paths", func(t *testing.T) {
		args, err := ledger.Marshal(precompiles.NameVersionArgs{Name: "token", Version: "1.0", Address: c.token})
		if err != nil {
			t.Fatal(err)
		}
		if r := c.send(c.tx("admin", precompiles.CNSAddress, "register", args)).Receipt; r.Status != "ok" {
			t.Fatalf("register: %+v", r)
		}
		named := transfer(0)
		named.To = ledger.Target{Name: "token", Version: "1.0"}
		done := c.send(named)
		if r := done.Receipt; done.Name != "token@1.0" || !done.To.IsZero() || r.Served != c.token || r.Version != "1.0" || r.Status != "ok" || len(done.Decoded) == 0 {
			t.Errorf("transaction = %+v, receipt = %+v", done, done.Receipt)
		}
		for _, path := range []string{"/v1/contracts/token", "/v1/contracts/token@1.0"} {
			var contract client.Contract
			if status, data := c.do("GET", path, "", nil); status != 200 || json.Unmarshal(data, &contract) != nil || contract.Address != c.token {
				t.Errorf("%s: %d %s", path, status, data)
			}
		}
		var result client.CallResult
		body := fmt.Appendf(nil, `{"method":"balance_of","named":["%s"]}`, alice)
		if status, data := c.do("POST", "/v1/contracts/token/call", "application/json", body); status != 200 || json.Unmarshal(data, &result) != nil || string(result.Decoded) != `"990"` {
			t.Errorf("call: %d %s", status, data)
		}
		if result, err := c.api.CallTo(t.Context(), ledger.Target{Name: "token"}, client.Call{Method: "balance_of", Named: json.RawMessage(fmt.Sprintf(`["%s"]`, alice))}); err != nil || string(result.Decoded) != `"990"` {
			t.Errorf("CallTo: %+v, %v", result, err)
		}
		for _, of := range []ledger.Target{{Name: "token"}, {Name: "token", Version: "1.0"}} {
			for e, err := range c.api.FollowEventsOf(t.Context(), 0, of, "") {
				if err != nil || e.Contract != c.token {
					t.Errorf("event of %s: %+v, %v", of, e, err)
				}
				break
			}
		}
		for _, of := range []string{"nobody", "token@2"} {
			c.refused(t, 404, client.CodeNotFound, "GET", "/v1/events?contract="+of, "", nil)
		}
		c.refused(t, 404, client.CodeNotFound, "GET", "/v1/contracts/nobody", "", nil)
		c.refused(t, 404, client.CodeNotFound, "GET", "/v1/contracts/token@2", "", nil)
		c.refused(t, 404, client.CodeNotFound, "POST", "/v1/contracts/nobody/call", "application/json", body)
		c.refused(t, 400, client.CodeBadRequest, "GET", "/v1/contracts/Token", "", nil)
	})
	t.Run("a refusal of the contract is committed too, with its name and data", func(t *testing.T) {
		r := c.send(transfer(5000)).Receipt
		if r.Status != "aborted" || r.Code != 1001 || r.Error != "InsufficientFunds" || string(r.Decoded) != `{"have":"990","need":"5000"}` || len(r.Events) != 0 {
			t.Errorf("receipt = %+v %s", r, r.Decoded)
		}
	})
	t.Run("a trace tells what a transaction did, and why it failed", func(t *testing.T) {
		done := c.send(transfer(5001))
		trace, err := c.api.Trace(t.Context(), done.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{c.token.String() + ".transfer 0x82", `  get "bal`, "= aborted (code 1001)"} {
			if !strings.Contains(trace.Text, want) {
				t.Errorf("the trace lacks %q:\n%s", want, trace.Text)
			}
		}
		if trace.ID != done.ID || trace.Height != done.Height || trace.Index != done.Index {
			t.Errorf("trace of %s, transaction %d of block %d", trace.ID, trace.Index, trace.Height)
		}
	})
	t.Run("the proof of a receipt holds without the node", func(t *testing.T) {
		signed := c.sign(transfer(1), "alice")
		done := c.sendSigned(signed)
		proven, err := c.api.Lookup(ctx, done.ID, 0, true)
		if err != nil {
			t.Fatal(err)
		}
		claim := claimed(t, *proven.Proof)
		if claim.Receipt.Receipt.Tx != done.ID || claim.Receipt.Receipt.Status != ledger.OK || !bytes.Equal(claim.Tx.Raw, signed.Raw) {
			t.Errorf("the claim is about %s", claim.Receipt.Receipt.Tx)
		}
		forged := *claim
		forged.Receipt = &ledger.ReceiptClaim{Receipt: claim.Receipt.Receipt, Proof: claim.Receipt.Proof}
		forged.Receipt.Receipt.Status = ledger.Aborted
		if err := forged.Verify(c.suite, c.id, "main", c.genesis.Finality(), c.genesis.Epoch()); !errors.Is(err, ledger.ErrProof) {
			t.Errorf("a forged receipt: %v, want ErrProof", err)
		}
	})
	t.Run("one transaction is sent as CBOR or JSON", func(t *testing.T) {
		for _, kind := range []string{"application/cbor", "application/json; charset=utf-8"} {
			signed := c.sign(transfer(1), "alice")
			body := signed.Raw
			if strings.HasPrefix(kind, "application/json") {
				body = fmt.Appendf(nil, `{"raw":"0x%x"}`, signed.Raw)
			}
			var sent client.Submitted
			status, data := c.do("POST", "/v1/transactions", kind, body)
			if err := json.Unmarshal(data, &sent); err != nil || status != 200 || sent.ID != signed.ID || sent.Progress != client.Pending || sent.Problem != nil {
				t.Errorf("%s: %d %s", kind, status, data)
			}
			if done, err := c.api.Wait(ctx, signed.ID); err != nil || done.Receipt.Status != "ok" {
				t.Errorf("%s: %+v, %v", kind, done, err)
			}
			status, data = c.do("POST", "/v1/transactions", kind, body)
			if err := json.Unmarshal(data, &sent); err != nil || status != 200 || sent.Progress != client.Committed || sent.Problem.Code != client.CodeCommitted {
				t.Errorf("%s again: %d %s", kind, status, data)
			}
		}
	})
	t.Run("a transaction that waits is told as known", func(t *testing.T) {
		signed := c.sign(transfer(1), "alice")
		results, err := c.api.SendBatch(ctx, [][]byte{signed.Raw, signed.Raw})
		if err != nil || results[0].Problem != nil || results[1].Problem == nil || results[1].Progress != client.Pending && results[1].Progress != client.Committed {
			t.Errorf("results = %+v, %v", results, err)
		}
		if code := results[1].Problem.Code; code != client.CodeKnown && code != client.CodeCommitted {
			t.Errorf("the second is %s, want known", code)
		}
		if _, err := c.api.Wait(ctx, signed.ID); err != nil {
			t.Error(err)
		}
	})
	t.Run("bad transactions are refused in words", func(t *testing.T) {
		change := func(f func(*ledger.Tx)) *ledger.SignedTx {
			tx := transfer(1)
			f(&tx)
			return c.sign(tx, "alice")
		}
		spoilt := slices.Clone(c.sign(transfer(1), "alice").Raw)
		spoilt[len(spoilt)-1] ^= 1
		canonical := c.sign(transfer(1), "alice").Raw
		longer := slices.Concat(canonical[:1], []byte{0x18, 0x01}, canonical[2:]) // the version in two bytes
		for _, refusal := range []struct {
			what, code, says string
			raw              []byte
		}{
			{"expired", client.CodeExpired, "expired", change(func(tx *ledger.Tx) { tx.Expiry = time.Now().Add(-time.Minute).UnixMilli() }).Raw},
			{"expiry too far ahead", client.CodeRefused, "too far ahead", change(func(tx *ledger.Tx) { tx.Expiry = time.Now().Add(time.Hour).UnixMilli() }).Raw},
			{"a signature that does not hold", client.CodeSignature, "invalid signature", spoilt},
			{"a key that is not bound", client.CodeDenied, "key", c.sign(transfer(1), "nobody").Raw},
			{"a sender without an account", client.CodeDenied, "no account", change(func(tx *ledger.Tx) { tx.Sender = ledger.Address{9} }).Raw},
			{"oversized", client.CodeRefused, "at most 65536", change(func(tx *ledger.Tx) { tx.Args = make([]byte, ledger.MaxTxSize) }).Raw},
			{"another chain", client.CodeRefused, "chain", change(func(tx *ledger.Tx) { tx.Chain = keys.Digest{1} }).Raw},
			{"another group", client.CodeRefused, `group "other"`, change(func(tx *ledger.Tx) { tx.Group = "other" }).Raw},
			{"too much gas", client.CodeRefused, "gas limit", change(func(tx *ledger.Tx) { tx.GasLimit = c.genesis.Params.TxGas + 1 }).Raw},
			{"too little gas", client.CodeRefused, "gas limit", change(func(tx *ledger.Tx) { tx.GasLimit = 1 }).Raw},
			{"not canonical", client.CodeMalformed, "canonical", longer},
			{"trailing bytes", client.CodeMalformed, "canonical", append(slices.Clone(canonical), 0)},
			{"no transaction", client.CodeMalformed, "canonical", []byte("hello")},
			{"nothing", client.CodeMalformed, "canonical", nil},
		} {
			t.Run(refusal.what, func(t *testing.T) {
				detail := c.refused(t, 422, refusal.code, "POST", "/v1/transactions", "application/cbor", refusal.raw)
				if !strings.Contains(detail, refusal.says) {
					t.Errorf("detail %q does not say %q", detail, refusal.says)
				}
				results, err := c.api.SendBatch(ctx, [][]byte{refusal.raw})
				if err != nil || results[0].Problem == nil || results[0].Problem.Code != refusal.code || results[0].Problem.Detail != detail && refusal.code != client.CodeExpired && refusal.what != "expiry too far ahead" {
					t.Errorf("in a batch: %+v, %v", results, err)
				}
			})
		}
	})
	t.Run("evidence against a member is shown, and that the chain recorded it", func(t *testing.T) {
		id := c.lie.Digest(c.suite)
		list, err := c.api.Evidence(ctx)
		if err != nil || len(list) != 1 || list[0].ID != id || list[0].Offence != "equivocation" || list[0].Institution != "bank" || list[0].Recorded != nil {
			t.Fatalf("evidence = %+v, %v", list, err)
		}
		if st := list[0].Statements; len(st) != 2 || st[0].Kind != "commit" || st[0].View != 7 || st[1].Height != 70 || st[1].Order != (keys.Digest{1}) {
			t.Errorf("statements = %+v", st)
		}
		args, err := ledger.Marshal(&precompiles.AccuseArgs{Evidence: list[0].Proof})
		if err != nil {
			t.Fatal(err)
		}
		done := c.send(c.tx("alice", precompiles.MembersAddress, "accuse", args))
		one, err := c.api.FindEvidence(ctx, id)
		if done.Receipt.Status != "ok" || err != nil || one.Recorded == nil || one.Recorded.Evidence != id || one.Recorded.By != alice {
			t.Errorf("accuse: %+v; then %+v, %v", done.Receipt, one, err)
		}
	})
	t.Run("what was agreed on comes as a package that verifies", func(t *testing.T) {
		status, err := c.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, first, err := executor.Genesis(c.suite, &c.genesis)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []ledger.Height{0, status.Height} {
			var data bytes.Buffer
			if err := c.api.Consensus(ctx, from, status.Height, &data); err != nil {
				t.Fatal(err)
			}
			open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil }
			v, err := audit.Verify(ctx, open, audit.Trust{Suite: c.suite, Genesis: &c.genesis, First: first.Hash()}, nil)
			if err != nil || v.Height != status.Height || v.Block != status.Block || v.Statements < 2*int(status.Height) || len(v.Evidence) > 0 {
				t.Errorf("from block %d: verdict %+v, %v", from, v, err)
			}
		}
	})
	t.Run("acts of power are searched, and come as a package that verifies", func(t *testing.T) {
		all, err := c.api.Audit(ctx, client.AuditQuery{Limit: 100})
		if err != nil || len(all.Records) < 2 || all.More {
			t.Fatalf("%+v, %v", all, err)
		}
		last := all.Records[0]
		one, err := c.api.Audit(ctx, client.AuditQuery{Limit: 1})
		if err != nil || len(one.Records) != 1 || !one.More || !reflect.DeepEqual(one.Records[0], last) {
			t.Errorf("the newest alone: %+v, %v", one, err)
		}
		rest, err := c.api.Audit(ctx, client.AuditQuery{Limit: 100, Before: one.Before})
		if err != nil || !reflect.DeepEqual(append(one.Records, rest.Records...), all.Records) {
			t.Errorf("those before: %+v, %v", rest, err)
		}
		for what, q := range map[string]client.AuditQuery{
			"actor": {Actor: &last.Actor}, "contract": {Contract: &last.Contract}, "institution": {Institution: last.Institution}, "method": {Method: last.Method},
			"from": {From: last.Height}, "to": {To: all.Records[len(all.Records)-1].Height}, "object": {Object: all.Records[len(all.Records)-1].Object}, "refused": {Refused: true},
		} {
			found, err := c.api.Audit(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, r := range all.Records {
				if (q.Actor == nil || r.Actor == *q.Actor) && (q.Contract == nil || r.Contract == *q.Contract) && (q.Institution == "" || r.Institution == q.Institution) &&
					(q.Method == "" || r.Method == q.Method) && r.Height >= q.From && (q.To == 0 || r.Height <= q.To) && (q.Object == "" || r.Object == q.Object) && (!q.Refused || r.Status != "ok") {
					want++
				}
			}
			if len(found.Records) != min(want, 20) {
				t.Errorf("by %s: %d records, want %d", what, len(found.Records), want)
			}
		}
		status, err := c.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if err := c.api.AuditExport(ctx, 0, status.Height, &data); err != nil {
			t.Fatal(err)
		}
		n := 0
		v, err := audit.VerifyRecords(&data, audit.Trust{Suite: c.suite, Genesis: &c.genesis}, func(*precompiles.AuditRecord) error {
			n++
			return nil
		})
		if err != nil || n < len(all.Records) || v.Height < status.Height || v.Total != uint64(n) {
			t.Errorf("%d records, verdict %+v, %v", n, v, err)
		}
	})
	t.Run("a correction and what it corrects lead to each other", func(t *testing.T) {
		paid := c.send(c.call("alice", "transfer", c.address("bob").String(), "1"))
		send := func(by, method string, args any) *client.Transaction {
			raw, err := ledger.Marshal(args)
			if err != nil {
				t.Fatal(err)
			}
			done := c.send(c.tx(by, precompiles.CorrectionsAddress, method, raw))
			if done.Receipt.Status != "ok" {
				t.Fatalf("%s by %s: %s %s", method, by, done.Receipt.Status, done.Receipt.Error)
			}
			return done
		}
		one := precompiles.NumberArgs{Number: 1}
		send("admin", "propose", precompiles.ProposeCorrectionArgs{
			Transactions: []precompiles.Corrected{{Tx: paid.ID, Height: paid.Height}, {Tx: ledger.TxID{1}, Height: 1}}, Reason: "wrong-account", Evidence: keys.Digest{1},
			Entries: []precompiles.Entry{
				{Contract: c.token, Account: c.address("bob"), Amount: *big.NewInt(1)}, {Contract: c.token, Account: c.address("alice"), Amount: *big.NewInt(1), Credit: true},
			},
		})
		open, err := c.api.Correction(ctx, 1)
		if err != nil || open.Status != "open" || open.Lacks != 1 || !*open.Transactions[0].Found || open.Transactions[0].Status != "ok" || *open.Transactions[1].Found {
			t.Fatalf("the correction is %+v, %v", open, err)
		}
		send("bea", "approve", one)
		applied := send("bea", "apply", one)
		all, err := c.api.Corrections(ctx, 0)
		if err != nil || len(all) != 1 || all[0].Status != "applied" || all[0].Applied != applied.ID || all[0].AppliedAt != applied.Height {
			t.Errorf("the corrections are %+v, %v", all, err)
		}
		if more, err := c.api.Corrections(ctx, 1); err != nil || len(more) != 0 {
			t.Errorf("after the last there are %+v, %v", more, err)
		}
		was, err := c.api.Lookup(ctx, paid.ID, 0, false)
		if err != nil || len(was.CorrectedBy) != 1 || was.CorrectedBy[0].Applied != applied.ID || len(was.Corrects) != 0 {
			t.Errorf("the payment is corrected by %+v, corrects %+v, %v", was.CorrectedBy, was.Corrects, err)
		}
		is, err := c.api.Lookup(ctx, applied.ID, 0, false)
		if err != nil || len(is.Corrects) != 1 || len(is.CorrectedBy) != 0 || !slices.Equal(is.Corrects[0].Transactions, []ledger.TxID{paid.ID, {1}}) {
			t.Errorf("what applied it corrects %+v, is corrected by %+v, %v", is.Corrects, is.CorrectedBy, err)
		}
		c.refused(t, 404, client.CodeNotFound, "GET", "/v1/corrections/2", "", nil)
		c.refused(t, 400, client.CodeBadRequest, "GET", "/v1/corrections/first", "", nil)
		c.refused(t, 400, client.CodeBadRequest, "GET", "/v1/corrections?after=-1", "", nil)
	})
	t.Run("a backup that verifies", func(t *testing.T) {
		status, err := c.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		first, _, err := executor.Genesis(c.suite, &c.genesis)
		if err != nil {
			t.Fatal(err)
		}
		if detail := c.refused(t, 400, client.CodeBadRequest, "GET", "/v1/backup?keep=0", "", nil); !strings.Contains(detail, "1 or more") {
			t.Errorf("a backup that keeps nothing: %s", detail)
		}
		secret, err := os.ReadFile(filepath.Join(c.config.Dir, node.OperatorKey))
		if err != nil {
			t.Fatal(err)
		}
		for _, keep := range []uint64{0, 1} {
			var data bytes.Buffer
			api, err := client.New(c.url, c.http)
			if err != nil {
				t.Fatal(err)
			}
			if keep > 0 {
				api.Operator(secret)
			}
			if err := api.Backup(ctx, keep, &data); err != nil {
				t.Fatal(err)
			}
			found, err := backup.Verify(ctx, &data, &backup.Trust{Suite: c.suite, Genesis: &c.genesis, First: first}, nil)
			if err != nil || found.Height != status.Height || found.Block != status.Block || found.Kept != 0 { // all are too young to be left out
				t.Errorf("keep %d: %+v, %v", keep, found, err)
			}
		}
	})
	t.Run("requests that are wrong are refused in words", func(t *testing.T) {
		long, err := ledger.Marshal(make([][]byte, rpc.MaxBatchTx+1))
		if err != nil {
			t.Fatal(err)
		}
		token := c.token.String()
		for _, r := range []struct {
			status                   int
			code, method, path, kind string
			body                     []byte
		}{
			{404, client.CodeNotFound, "GET", "/v1/nothing", "", nil},
			{404, client.CodeNotFound, "GET", "/", "", nil},
			{405, client.CodeBadRequest, "POST", "/v1/chain", "", nil},
			{405, client.CodeBadRequest, "GET", "/v1/transactions", "", nil},
			{405, client.CodeBadRequest, "DELETE", "/v1/blocks/1", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/blocks/999999", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/blocks/999999/raw", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/headers/999999/proof", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/blocks/first", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/consensus?from=999999", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/consensus?from=2&to=1", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit/export?from=2&to=1", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit/export?to=999999", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit?from=2&to=1", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit?actor=alice", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit?before=1.2", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit?before=1.2.3x", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit?refused=perhaps", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/audit?limit=101", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/evidence/0x12", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/evidence/" + c.id.String(), "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/blocks?limit=101", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/blocks?below=x", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/transactions/0x12", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/transactions/" + c.id.String() + "?wait=30001", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/transactions/" + c.id.String() + "?proof=perhaps", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/transactions/" + c.id.String() + "?wait=50", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/transactions/0x12/trace", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/transactions/" + c.id.String() + "/trace", "", nil},
			{415, client.CodeBadRequest, "POST", "/v1/transactions", "text/plain", nil},
			{400, client.CodeBadRequest, "POST", "/v1/transactions", "application/json", []byte(`{"raw":"12"}`)},
			{400, client.CodeBadRequest, "POST", "/v1/transactions", "application/json", []byte(`{"row":"0x12"}`)},
			{413, client.CodeTooLarge, "POST", "/v1/transactions", "application/cbor", make([]byte, 2*ledger.MaxDeployTxSize+1025)},
			{413, client.CodeTooLarge, "POST", "/v1/transactions/batch", "application/cbor", make([]byte, rpc.MaxBatch+1)},
			{400, client.CodeBadRequest, "POST", "/v1/transactions/batch", "application/cbor", long},
			{400, client.CodeBadRequest, "POST", "/v1/transactions/batch", "application/cbor", []byte{0x80}},
			{400, client.CodeBadRequest, "POST", "/v1/transactions/batch", "application/cbor", []byte{0xff}},
			{400, client.CodeBadRequest, "GET", "/v1/accounts/alice", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/accounts/" + token, "", nil},
			{404, client.CodeNotFound, "GET", "/v1/contracts/" + alice.String(), "", nil},
			{404, client.CodeNotFound, "GET", "/v1/contracts/0x0000000000000000000000000000000000000099", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/contracts/" + precompiles.ContractsAddress.String() + "/code", "", nil},
			{404, client.CodeNotFound, "POST", "/v1/contracts/" + alice.String() + "/call", "", []byte(`{"method":"x"}`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":"about","gass":"1"}`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":"about"} {}`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":"about","args":"0x80","named":[]}`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":"balance_of","named":{"whom":"0x"}}`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":"balance_of","named":["0x12"]}`)},
			{400, client.CodeBadRequest, "POST", "/v1/contracts/" + token + "/call", "", []byte(`{"method":"balance","named":{}}`)},
			{413, client.CodeTooLarge, "POST", "/v1/contracts/" + token + "/call", "", make([]byte, 1<<20+1)},
			{400, client.CodeBadRequest, "GET", "/v1/state/" + token + "/supply", "", nil},
			{404, client.CodeNotFound, "GET", "/v1/state/" + token + "/0x00?height=999999", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/events?contract=Token", "", nil},
			{400, client.CodeBadRequest, "GET", "/v1/events/blocks?from=-1", "", nil},
		} {
			c.refused(t, r.status, r.code, r.method, r.path, r.kind, r.body)
		}
	})
	t.Run("blocks are read one by one, in pages and raw", func(t *testing.T) {
		status, err := c.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var heights []ledger.Height
		for below := ledger.Height(0); ; {
			page, err := c.api.Blocks(ctx, below, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range page {
				heights = append(heights, b.Height)
			}
			if below = page[len(page)-1].Height; below == 0 {
				break
			}
		}
		for i, h := range heights {
			if h != status.Height-ledger.Height(i) {
				t.Fatalf("heights in pages: %v, from %d", heights, status.Height)
			}
		}
		if len(heights) != int(status.Height)+1 {
			t.Fatalf("heights in pages: %v, want %d to 0", heights, status.Height)
		}
		parent := keys.Digest{}
		for h := range status.Height + 1 {
			b, err := c.api.Block(ctx, h)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := c.api.RawBlock(ctx, h)
			if err != nil {
				t.Fatal(err)
			}
			block, err := ledger.DecodeBlock(raw)
			if err != nil {
				t.Fatal(err)
			}
			if block.Header.Hash(c.suite) != b.Hash || b.Parent != parent || b.Height != h || len(b.Txs) != len(block.Txs) {
				t.Errorf("block %d = %+v", h, b)
			}
			parent = b.Hash
			if h > 0 {
				proof, err := c.api.HeaderProof(ctx, h, "")
				if err != nil {
					t.Fatal(err)
				}
				if claim := claimed(t, proof.Proof); claim.Header.Hash(c.suite) != b.Hash {
					t.Errorf("the proof of header %d is of another", h)
				}
			}
		}
		if status.Block != parent {
			t.Errorf("status has block %s, want %s", status.Block, parent)
		}
		var latest client.Block
		if _, data := c.do("GET", "/v1/blocks/latest", "", nil); json.Unmarshal(data, &latest) != nil || latest.Hash != parent {
			t.Errorf("latest = %s", data)
		}
	})
	t.Run("accounts and contracts are described", func(t *testing.T) {
		a, err := c.api.Account(ctx, c.address("admin"))
		if err != nil || a.Institution != "bank" || a.Status != "active" || !slices.Equal(a.Roles, accounts["admin"]) || len(a.Keys) != 1 || !bytes.Equal(a.Keys[0].Key.Bytes, c.signers["admin"].Public().Bytes()) {
			t.Errorf("account = %+v, %v", a, err)
		}
		if a, err := c.api.Account(ctx, c.address("bob")); err != nil || a.Certificate != nil {
			t.Errorf("account = %+v, %v", a, err)
		}
		leaf := keys.Digest{1}
		binding := &precompiles.Binding{Paths: []identity.Path{{Leaf: leaf}}, Until: 4_000_000_000_000}
		for _, call := range []struct {
			to     ledger.Address
			method string
			args   any
			want   client.Certificate
		}{
			{precompiles.AccountsAddress, "certify", &precompiles.CertifyArgs{Account: bob, Certificate: binding}, client.Certificate{Fingerprint: leaf, Status: "active"}},
			{
				precompiles.CertificatesAddress, "freeze", &precompiles.StatusArgs{Fingerprint: leaf, Reason: 6},
				client.Certificate{Fingerprint: leaf, Status: "frozen", Reason: "certificate-hold"},
			},
			{precompiles.CertificatesAddress, "unfreeze", &precompiles.CertificateArgs{Fingerprint: leaf}, client.Certificate{Fingerprint: leaf, Status: "active"}},
		} {
			args, err := ledger.Marshal(call.args)
			if err != nil {
				t.Fatal(err)
			}
			done := c.send(c.tx("admin", call.to, call.method, args))
			a, err := c.api.Account(ctx, bob)
			if call.to == precompiles.CertificatesAddress {
				call.want.Height = done.Height
			}
			if err != nil || a.Certificate == nil || !slices.Equal(a.Certificate.Certificates, []client.Certificate{call.want}) {
				t.Fatalf("after %s the certificate is %+v, %v; want %+v", call.method, a.Certificate, err, call.want)
			}
			if frozen := call.want.Status == "frozen"; strings.Contains(a.Certificate.Refused, "was frozen at height") != frozen || a.Certificate.Until != 4_000_000_000_000 {
				t.Errorf("after %s the binding is %+v", call.method, a.Certificate)
			}
		}
		got, err := c.api.Contract(ctx, c.token)
		if err != nil || got.System || got.Name != c.schema.Name || *got.Owner != c.address("admin") || got.Number != 1 {
			t.Errorf("contract = %+v, %v", got, err)
		}
		code, err := c.api.Code(ctx, c.token)
		if err != nil || !bytes.Equal(code, c.module) || precompiles.CodeHash(c.suite, code) != *got.CodeHash {
			t.Errorf("the code is another, or %v", err)
		}
		for _, s := range precompiles.All() {
			if got, err := c.api.Contract(ctx, s.Address()); err != nil || !got.System || len(got.Schema) < 10 {
				t.Errorf("system contract %s = %+v, %v", s.Address(), got, err)
			}
		}
	})
	t.Run("views take arguments by name, in order and encoded", func(t *testing.T) {
		encoded, err := c.schema.EncodeText("balance_of", []string{bob.String()})
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []client.Call{
			{Method: "balance_of", Named: json.RawMessage(`{"who":"` + bob.String() + `"}`)},
			{Method: "balance_of", Named: json.RawMessage(`["` + bob.String() + `"]`)},
			{Method: "balance_of", Args: encoded},
		} {
			got, err := c.api.Call(ctx, c.token, call)
			if err != nil || got.Status != "ok" || string(got.Decoded) != `"14"` || got.Gas == 0 {
				t.Errorf("%+v: %+v, %v", call, got, err)
			}
		}
		if got, err := c.api.Call(ctx, c.token, client.Call{Method: "total_supply"}); err != nil || string(got.Decoded) != `"1000"` {
			t.Errorf("total_supply = %+v, %v", got, err)
		}
	})
	t.Run("a call that does not go well says so in its answer", func(t *testing.T) {
		named := json.RawMessage(`{"to":"` + bob.String() + `","amount":"5000"}`)
		for _, want := range []struct {
			call          client.Call
			status, error string
		}{
			{client.Call{Method: "transfer", Named: named, From: &alice}, "denied", "ReadOnly"},
			{client.Call{Method: "transfer", Named: named, From: &alice, DryRun: true}, "aborted", "InsufficientFunds"},
			{client.Call{Method: "nothing"}, "not_found", ""},
			{client.Call{Method: "total_supply", Gas: 10}, "out_of_gas", ""},
			{client.Call{Method: "transfer", Named: named, DryRun: true}, "denied", "NoAccount"},
		} {
			got, err := c.api.Call(ctx, c.token, want.call)
			if err != nil || got.Status != want.status || got.Error != want.error {
				t.Errorf("%+v: %+v, %v", want, got, err)
			}
		}
		before, err := c.api.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		dry, err := c.api.Call(ctx, c.token, client.Call{Method: "transfer", Named: json.RawMessage(`["` + bob.String() + `","1"]`), From: &alice, DryRun: true})
		if err != nil || dry.Status != "ok" || len(dry.Events) != 1 || len(dry.Events[0].Decoded) == 0 {
			t.Errorf("dry run = %+v, %v", dry, err)
		}
		if after, err := c.api.Status(ctx); err != nil || after.StateRoot != before.StateRoot {
			t.Errorf("a dry run changed the state, or %v", err)
		}
	})
	t.Run("values of the state are proven, and that there is none", func(t *testing.T) {
		for _, want := range []struct {
			key   []byte
			found bool
		}{{append([]byte("bal/"), bob[:]...), true}, {[]byte("supply"), true}, {[]byte("balance"), false}} {
			got, err := c.api.State(ctx, c.token, want.key, true)
			if err != nil || got.Found != want.found {
				t.Fatalf("state at %q = %+v, %v", want.key, got, err)
			}
			claim := claimed(t, *got.Proof)
			if claim.State.Present != want.found || !bytes.Equal(claim.State.Key, append(c.token[:], want.key...)) || !bytes.Equal(claim.State.Value, got.Value) {
				t.Errorf("the claim is %+v", claim.State)
			}
			if plain, err := c.api.State(ctx, c.token, want.key, false); err != nil || !bytes.Equal(plain.Value, got.Value) || plain.Proof != nil {
				t.Errorf("without proof: %+v, %v", plain, err)
			}
		}
		var old client.State
		if _, data := c.do("GET", fmt.Sprintf("/v1/state/%s/0x%x?height=1", c.token, "supply"), "", nil); json.Unmarshal(data, &old) != nil || old.Found || old.Height != 1 {
			t.Errorf("before the issue: %s", data)
		}
	})
	t.Run("everything is proven under a later block as well, and for who trusts that one", func(t *testing.T) {
		done := c.send(transfer(1))
		c.send(transfer(1))
		last := c.send(transfer(1)).Height
		trusted, err := c.api.Block(ctx, last)
		if err != nil {
			t.Fatal(err)
		}
		under := strconv.FormatUint(uint64(last), 10)
		check := func(t *testing.T, of ledger.Height, raw *client.Bytes, err error) *ledger.Claim {
			t.Helper()
			if err != nil || raw == nil {
				t.Fatalf("proof %v, %v", raw, err)
			}
			claim := claimed(t, *raw)
			if claim.Header.Order.Height != of || claim.History == nil || claim.Certified().Hash(c.suite) != trusted.Hash {
				t.Errorf("the claim is about block %d, under block %d, history %v", claim.Header.Order.Height, claim.Certified().Order.Height, claim.History != nil)
			}
			if err := claim.VerifyUnder(c.suite, trusted.Hash); err != nil {
				t.Error(err)
			}
			return claim
		}
		for h := range last {
			found, err := c.api.HeaderProof(ctx, h, under)
			if err != nil {
				t.Fatal(err)
			}
			check(t, h, &found.Proof, nil)
		}
		raw, err := c.api.ReceiptProof(ctx, done.ID, under)
		if claim := check(t, done.Height, raw, err); claim.Tx == nil || claim.Receipt.Receipt.Tx != done.ID {
			t.Errorf("the claim is about %+v", claim.Receipt)
		}
		raw, err = c.api.EventProof(ctx, done.ID, 0, under)
		if claim := check(t, done.Height, raw, err); claim.Tx != nil || *claim.Event != 0 || claim.Receipt.Receipt.Events[0].Topic != "Transferred" {
			t.Errorf("the claim is about %+v", claim.Receipt)
		}
		old, err := c.api.StateProof(ctx, c.token, []byte("supply"), "1", under)
		if err != nil {
			t.Fatal(err)
		}
		if claim := check(t, 1, old.Proof, nil); claim.State.Present || old.Found || old.Height != 1 {
			t.Errorf("the supply before the issue: %+v", old)
		}
		if first, err := c.api.StateProof(ctx, c.token, []byte("supply"), "0", "1"); err != nil || claimed(t, *first.Proof).State.Present {
			t.Errorf("the state after genesis: %+v, %v", first, err)
		}
		own, err := c.api.HeaderProof(ctx, last, under)
		if err != nil || claimed(t, own.Proof).History != nil {
			t.Errorf("a block under itself: %v", err)
		}
		for _, want := range []struct {
			status int
			code   string
			query  string
		}{
			{400, client.CodeBadRequest, "under=1"},
			{400, client.CodeBadRequest, "under=soon"},
			{404, client.CodeNotFound, "under=999999"},
			{404, client.CodeNotFound, "event=1"},
			{400, client.CodeBadRequest, "event=first"},
		} {
			c.refused(t, want.status, want.code, "GET", "/v1/transactions/"+done.ID.String()+"?proof=true&"+want.query, "", nil)
		}
	})
	t.Run("streams go on where they were left", func(t *testing.T) { streams(t, c) })
	t.Run("a waiting request is answered when the block comes", func(t *testing.T) {
		signed := c.sign(transfer(1), "alice")
		sent, answers := make(chan struct{}), make(chan *client.Transaction, 8)
		for range cap(answers) {
			go func() {
				<-sent
				tx, err := c.api.Wait(ctx, signed.ID)
				if err != nil {
					t.Error(err)
				}
				answers <- tx
			}()
		}
		close(sent)
		if err := c.api.Send(ctx, signed); err != nil {
			t.Fatal(err)
		}
		for range cap(answers) {
			if tx := <-answers; tx == nil || tx.Progress != client.Committed {
				t.Errorf("answer = %+v", tx)
			}
		}
	})
	t.Run("only the operator restarts a program", func(t *testing.T) {
		const path = "/v1/plugins/engine-pbft/restart"
		before, err := c.api.Status(ctx)
		if err != nil || len(before.Plugins) != 1 || !before.Plugins[0].Healthy || before.Plugins[0].Since == 0 {
			t.Fatalf("plugins = %+v, %v", before, err)
		}
		c.refused(t, 403, client.CodeDenied, "POST", path, "", nil)
		operator, err := client.New(c.url, c.http)
		if err != nil {
			t.Fatal(err)
		}
		operator.Operator([]byte("another secret"))
		if _, err := operator.RestartPlugin(ctx, "engine-pbft"); err == nil {
			t.Error("a wrong secret is the operator's")
		}
		secret, err := os.ReadFile(filepath.Join(c.config.Dir, node.OperatorKey))
		if err != nil {
			t.Fatal(err)
		}
		operator.Operator(secret)
		if _, err := operator.RestartPlugin(ctx, "engine-raft"); err == nil || !strings.Contains(err.Error(), "no plugin program of this name") {
			t.Errorf("RestartPlugin of none: %v", err)
		}
		now, err := operator.RestartPlugin(ctx, "engine-pbft")
		if err != nil || !now.Healthy || now.PID == before.Plugins[0].PID || now.Restarts != before.Plugins[0].Restarts+1 {
			t.Errorf("RestartPlugin = %+v, %v; before %+v", now, err, before.Plugins[0])
		}
		c.send(transfer(1)) // the group goes on
	})
	t.Run("every operation was checked against the document", func(t *testing.T) {
		for _, pattern := range rpc.Patterns() {
			if pattern == "GET /openapi.json" {
				c.do("GET", "/openapi.json", "", nil)
			}
			if !c.checker.asked[pattern+" 200"] {
				t.Errorf("%s: no answer was checked", pattern)
			}
		}
	})
}

// event is a server-sent event.
type event struct{ id, data string }

// stream opens a stream and returns a function that reads its next event.
func (c *chain) stream(t *testing.T, path, last string) (next func() event, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	response, err := c.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, response.Status)
	}
	_, op := c.checker.operation(request)
	schema := c.checker.doc.at(op, "responses", "200", "content", "text/event-stream", "x-event-data")
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return func() event {
		t.Helper()
		var e event
		for lines.Scan() {
			line := lines.Text()
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				e.id = v
			}
			if v, ok := strings.CutPrefix(line, "data: "); ok {
				e.data = v
			}
			if line == "" && e.data != "" {
				var value any
				if err := json.Unmarshal([]byte(e.data), &value); err != nil {
					t.Fatal(err)
				}
				for _, fault := range c.checker.doc.check(path, schema, value) {
					t.Error(fault)
				}
				return e
			}
		}
		t.Fatalf("%s ended: %v", path, lines.Err())
		return e
	}, func() { cancel(); response.Body.Close() }
}

func streams(t *testing.T, c *chain) {
	bob := c.address("bob").String()
	first := c.send(c.call("alice", "transfer", bob, "1"))
	status, err := c.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := status.Height

	t.Run("blocks from a height on, then those that come", func(t *testing.T) {
		next, end := c.stream(t, "/v1/events/blocks?from=0", "")
		defer end()
		for h := range head + 1 {
			if e := next(); e.id != strconv.Itoa(int(h)) {
				t.Fatalf("event %s, want %d", e.id, h)
			}
		}
		done := c.send(c.call("alice", "transfer", bob, "1"))
		var b client.Block
		if e := next(); json.Unmarshal([]byte(e.data), &b) != nil || b.Height != done.Height || !slices.Contains(b.Txs, done.ID) {
			t.Errorf("event = %+v, want block %d", e, done.Height)
		}
	})
	t.Run("blocks after the last one received", func(t *testing.T) {
		next, end := c.stream(t, "/v1/events/blocks?from=0", "2")
		defer end()
		if e := next(); e.id != "3" {
			t.Errorf("event %s, want 3", e.id)
		}
	})
	t.Run("blocks after the one that the path names, unless the header names another", func(t *testing.T) {
		for last, want := range map[string]string{"": "3", "3": "4"} {
			next, end := c.stream(t, "/v1/events/blocks?from=0&after=2", last)
			if e := next(); e.id != want {
				t.Errorf("with the header %q: event %s, want %s", last, e.id, want)
			}
			end()
		}
	})
	t.Run("events of one contract and topic", func(t *testing.T) {
		next, end := c.stream(t, "/v1/events?from=0&topic=Issued&contract="+c.token.String(), "")
		defer end()
		var e client.Event
		if got := next(); json.Unmarshal([]byte(got.data), &e) != nil || e.Topic != "Issued" || e.Contract != c.token || !strings.Contains(string(e.Decoded), `"amount":"1000"`) {
			t.Errorf("event = %+v", got)
		}
	})
	t.Run("events after the last one received, within a block", func(t *testing.T) {
		// Many transfers in one request come to lie in few blocks; every cut must give the same sequence.
		var raws [][]byte
		var last ledger.TxID
		for range 20 {
			signed := c.sign(c.call("alice", "transfer", bob, "1"), "alice")
			raws, last = append(raws, signed.Raw), signed.ID
		}
		if _, err := c.api.SendBatch(t.Context(), raws); err != nil {
			t.Fatal(err)
		}
		if _, err := c.api.Wait(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/v1/events?topic=Transferred&from=%d", first.Height)
		next, end := c.stream(t, path, "")
		defer end()
		var whole []event
		within := false
		for range 15 {
			whole = append(whole, next())
			within = within || !strings.Contains(whole[len(whole)-1].id, "-0-0")
		}
		if !within {
			t.Error("no block has two events: the test shows nothing")
		}
		for i := range len(whole) - 1 {
			next, end := c.stream(t, path, whole[i].id)
			if got := next(); got != whole[i+1] {
				t.Errorf("after %s comes %s, want %s", whole[i].id, got.id, whole[i+1].id)
			}
			end()
		}
	})
	t.Run("an id of another chain is refused", func(t *testing.T) {
		for _, last := range []string{"999999", "1-2", "x", "1-2-3-4"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/v1/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Last-Event-ID", last)
			response, err := c.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusBadRequest {
				t.Errorf("Last-Event-ID %s: %s, want 400", last, response.Status)
			}
		}
	})
	t.Run("the client follows blocks and events", func(t *testing.T) {
		next := ledger.Height(1)
		for b, err := range c.api.Follow(t.Context(), 1) {
			if err != nil || b.Height != next {
				t.Fatalf("block %+v, %v, want %d", b, err, next)
			}
			if next++; next > head {
				break
			}
		}
		for e, err := range c.api.FollowEvents(t.Context(), 0, &c.token, "") {
			if err != nil || e.Topic != "Issued" {
				t.Errorf("event %+v, %v, want Issued", e, err)
			}
			break
		}
	})
}

// TestPruned asks a node for what it has let go of, and for what it has not.
func TestPruned(t *testing.T) {
	c := start(t, 1)
	args, err := ledger.Marshal([]any{c.lie})
	if err != nil {
		t.Fatal(err)
	}
	var sent []*client.Transaction
	for range 4 {
		sent = append(sent, c.send(c.tx("alice", precompiles.MembersAddress, "accuse", args)))
	}
	old, kept := sent[0], sent[3]
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(filepath.Join(c.config.Dir, "data", "main"), c.suite, nil)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(c.config.Dir, "data", "main", "spool-1") // of a backup, by a crash
	if err := errors.Join(store.Prune(kept.Height), store.Close(), os.WriteFile(left, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.run()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is left of a backup is still there: %v", err)
	}
	ctx := t.Context()
	for _, path := range []string{
		"/v1/blocks/0/raw", fmt.Sprintf("/v1/blocks/%d/raw", old.Height), "/v1/transactions/" + old.ID.String(), "/v1/transactions/" + old.ID.String() + "/trace",
		fmt.Sprintf("/v1/events?from=%d", old.Height),
	} {
		detail := c.refused(t, 410, client.CodeUnavailable, "GET", path, "", nil)
		if !strings.Contains(detail, fmt.Sprintf("keeps blocks %d to ", kept.Height)) {
			t.Errorf("%s: detail %q does not say what there is", path, detail)
		}
	}
	if status, err := c.api.Status(ctx); err != nil || status.Kept != kept.Height {
		t.Errorf("status says %+v, %v; want blocks from %d on", status, err, kept.Height)
	}
	for h := range kept.Height + 1 {
		b, err := c.api.Block(ctx, h)
		if err != nil || b.Pruned != (h < kept.Height) || b.Pruned && len(b.Txs) > 0 {
			t.Errorf("block %d: %+v, %v", h, b, err)
		}
	}
	proof, err := c.api.HeaderProof(ctx, old.Height, "latest")
	if err != nil {
		t.Fatal(err)
	}
	claim, err := ledger.DecodeClaim(proof.Proof)
	if err == nil {
		err = claim.Verify(c.suite, c.id, "main", c.genesis.Finality(), c.genesis.Epoch())
	}
	if err != nil || claim.Header.Order.Height != old.Height {
		t.Errorf("the header of block %d: %v", old.Height, err)
	}
	if tx, err := c.api.Lookup(ctx, kept.ID, 0, false); err != nil || tx.Height != kept.Height {
		t.Errorf("a transaction of block %d: %+v, %v", kept.Height, tx, err)
	}
	// A row of the index that a disk has changed leads to another transaction, which is not shown.
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(c.config.Dir, "data", "main", "index.db")
	data, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	row := append(bytes.Clone(old.ID[:]), byte(old.Height)) // in bbolt's pages a value follows its key
	if n := bytes.Count(data, row); n == 0 {
		t.Fatal("the index has no row of the transaction")
	}
	if err := os.WriteFile(index, bytes.ReplaceAll(data, row, append(bytes.Clone(old.ID[:]), byte(kept.Height))), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run()
	c.refused(t, 500, client.CodeInternal, "GET", "/v1/transactions/"+old.ID.String(), "", nil)
	// An index that is made again knows it.
	if err := errors.Join(c.stop(), os.Remove(index)); err != nil {
		t.Fatal(err)
	}
	c.run()
	c.refused(t, 410, client.CodeUnavailable, "GET", "/v1/transactions/"+old.ID.String(), "", nil)
	unknown := ledger.TxID{1}
	if detail := c.refused(t, 404, client.CodeNotFound, "GET", "/v1/transactions/"+unknown.String(), "", nil); !strings.Contains(detail, fmt.Sprintf("in a block below %d", kept.Height)) {
		t.Errorf("a transaction that may be in a block which came pruned: %s", detail)
	}
	// A block that a disk has changed is not here until another node gives it.
	blocks := filepath.Join(c.config.Dir, "data", "main", "blocks", "000000000000.blocks")
	raw, err := c.api.RawBlock(ctx, kept.Height)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(blocks); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, raw)
	if at < 0 {
		t.Fatal("the block is not in the file")
	}
	data[at] ^= 1
	if err := os.WriteFile(blocks, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if detail := c.refused(t, 503, client.CodeUnavailable, "GET", fmt.Sprintf("/v1/blocks/%d/raw", kept.Height), "", nil); !strings.Contains(detail, "damaged") {
		t.Errorf("a damaged block: %s", detail)
	}
}

// TestServeEnds: a node ends although clients would read on.
func TestServeEnds(t *testing.T) {
	c := start(t, 1)
	_, end := c.stream(t, "/v1/events/blocks", "")
	defer end()
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		for range c.api.Follow(t.Context(), 5) {
			break
		}
	}()
	if err := c.stop(); err != nil {
		t.Errorf("the node ended: %v", err)
	}
	<-waiting
	if _, err := c.api.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a node that ended: %v", err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	c := start(t, 1)
	for range rpc.MaxStreams {
		_, end := c.stream(t, "/v1/events/blocks", "")
		defer end()
	}
	detail := c.refused(t, 503, client.CodeBusy, "GET", "/v1/events", "", nil)
	if !strings.Contains(detail, strconv.Itoa(rpc.MaxStreams)) {
		t.Errorf("detail %q does not say how many", detail)
	}
}

func TestPending(t *testing.T) {
	c := start(t, 4) // one of four members can make no block
	tx := c.tx("alice", precompiles.AccountsAddress, "account", nil)
	var signed *ledger.SignedTx
	var sent client.Submitted
	waiting := uint32(0)
	for lifetime := 500 * time.Millisecond; ; lifetime *= 2 { // until one is sent twice before it expires, on a machine that is busy
		tx.Expiry = time.Now().Add(lifetime).UnixMilli()
		signed = c.sign(tx, "alice")
		err := c.api.Send(t.Context(), signed)
		if err == nil {
			waiting++
		}
		_, data := c.do("POST", "/v1/transactions", "application/cbor", signed.Raw)
		if time.Now().UnixMilli() >= tx.Expiry {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(data, &sent) != nil || sent.Progress != client.Pending || sent.Problem.Code != client.CodeKnown {
			t.Errorf("sent again: %+v, want it known", sent)
		}
		break
	}
	got, err := c.api.Lookup(t.Context(), signed.ID, 20*time.Millisecond, true)
	if err != nil || got.Progress != client.Pending || got.Receipt != nil || got.Proof != nil {
		t.Errorf("after a short wait: %+v, %v, want it pending", got, err)
	}
	got, err = c.api.Lookup(t.Context(), signed.ID, time.Until(time.UnixMilli(tx.Expiry))+100*time.Millisecond, false)
	if err != nil || got.Progress != client.Pending || !got.PastExpiry {
		t.Errorf("after its expiry: %+v, %v, want it pending and past expiry: no final block says that it is expired", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := c.api.Wait(ctx, signed.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting ended with %+v, %v, want nothing but the deadline", got, err)
	}
	status, err := c.api.Status(t.Context())
	if err != nil || uint64(status.Pending) != uint64(waiting) || status.Height != 0 {
		t.Errorf("status = %+v, %v, want %d transactions that wait", status, err, waiting)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	c := start(t, 1)
	const most = rpc.MaxBodies / rpc.MaxBatch
	answers := make(chan int, most+1)
	for range most + 1 { // clients that announce the largest body and send none of it: one more than there is room for
		connection, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		if _, err := fmt.Fprintf(connection, "POST /v1/transactions/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", rpc.MaxBatch); err != nil {
			t.Fatal(err)
		}
		go func() {
			answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				return // closed at the end of the test
			}
			answer.Body.Close()
			answers <- answer.StatusCode
		}()
	}
	if status := <-answers; status != http.StatusServiceUnavailable {
		t.Fatalf("the first of %d announced bodies that was answered got status %d, want %d for the one too many", most+1, status, http.StatusServiceUnavailable)
	}
	one, err := ledger.Marshal([][]byte{{}})
	if err != nil {
		t.Fatal(err)
	}
	c.refused(t, 503, client.CodeBusy, "POST", "/v1/transactions/batch", "application/cbor", one)
}

func TestAdmission(t *testing.T) {
	c := start(t, 4, func(config *node.Config) { // one of four members proposes some blocks, and none becomes final
		config.Pool = mempool.Limits{MaxWait: 1} // room for the fewest, which is 256
	})
	busy := func(p *client.Problem) {
		t.Helper()
		if p == nil || p.Code != client.CodeBusy || p.RetryAfter != 1 || !strings.Contains(p.Detail, "wait") {
			t.Errorf("problem %+v, want busy and when to send again", p)
		}
	}
	unseen := []byte("no transaction, which nobody looks at")
	for sent := 0; ; sent += 256 {
		var raws [][]byte
		for i := range 256 {
			sender := []string{"admin", "alice", "bob"}[i%3] // one alone had half of the room
			raws = append(raws, c.sign(c.tx(sender, precompiles.AccountsAddress, "account", nil), sender).Raw)
		}
		results, err := c.api.SendBatch(t.Context(), append(raws, unseen))
		if err != nil {
			t.Fatal(err)
		}
		if last := results[256]; last.ID != (ledger.TxID{}) {
			t.Fatalf("result %+v of the one too many, want none that looked at it", last)
		}
		busy(results[256].Problem)
		if sent == 0 && slices.ContainsFunc(results[:128], func(s client.Submitted) bool { return s.Problem != nil }) {
			t.Fatalf("results %+v, want those taken for which there is room, half of it for one request", results[:128])
		}
		response, err := c.http.Post(c.url+"/v1/transactions", "application/cbor", bytes.NewReader(unseen))
		if err != nil {
			t.Fatal(err)
		}
		var p client.Problem
		err = json.NewDecoder(response.Body).Decode(&p)
		response.Body.Close()
		if response.StatusCode == http.StatusUnprocessableEntity && sent < 10_000 {
			continue // it was looked at: the leader has proposed some of those before
		}
		if after := response.Header.Get("Retry-After"); err != nil || response.StatusCode != http.StatusServiceUnavailable || after != "1" {
			t.Fatalf("a pool without room answers %d, Retry-After %q, %v, want 503 and 1", response.StatusCode, after, err)
		}
		busy(&p)
		return
	}
}
