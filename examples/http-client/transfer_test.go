// Package httpclient holds a script that uses a node's HTTP API without any of this project's code; its test runs
// the script against a network of four nodes.
package httpclient

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
	"github.com/fondaco/fondaco/wasmvm"
)

// program returns the path of Node.js. It skips the test where that is not installed.
func program(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		const advice = "Node.js is not installed: apt-get install nodejs (version 20 or later)"
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal(advice)
		}
		t.Skip(advice)
	}
	return path
}

// script runs transfer.mjs and returns what it wrote.
func script(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program(t), append([]string{"transfer.mjs"}, args...)...)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), problems.String(), command.ProcessState.ExitCode()
}

func TestGoldenVectors(t *testing.T) {
	for suite, folder := range map[string]string{"std": "../../state/ledger/testdata", "gm": "../../state/ledger/testdata/gm"} {
		t.Run(suite, func(t *testing.T) {
			out, problems, code := script(t, "--self-test", folder)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, problems)
			}
			var checked struct {
				Suite                                          string
				Transactions, Trees, Worlds, Claims, Forgeries int
			}
			if err := json.Unmarshal([]byte(out), &checked); err != nil || checked.Suite != suite ||
				checked.Transactions == 0 || checked.Trees == 0 || checked.Worlds == 0 || checked.Claims == 0 || checked.Forgeries < 1000 {
				t.Errorf("checked %s: nothing of a kind, or %v", out, err)
			}
		})
	}
}

// TestGM keeps the file the same that contracts' clients have.
func TestGM(t *testing.T) {
	ours, err := os.ReadFile("gm.mjs")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("../../node/contract/clientgm.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, theirs) {
		t.Error("gm.mjs is not node/contract/clientgm.mjs: copy that")
	}
}

// TestVerify has proofs in files verified for who trusts a chain's id, or a block.
func TestVerify(t *testing.T) {
	program(t)
	for folder, suite := range map[string]keys.Suite{"../../state/ledger/testdata": keys.Std(), "../../state/ledger/testdata/gm": keys.GM()} {
		t.Run(suite.Name(), func(t *testing.T) { verifies(t, folder, suite) })
	}
}

// verifies has the golden claims in a folder verified.
func verifies(t *testing.T, folder string, suite keys.Suite) {
	var vectors struct {
		Genesis string
		Claims  []struct{ What, Encoding string }
	}
	raw, err := os.ReadFile(filepath.Join(folder, "claims.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	decoded := func(text string) []byte {
		t.Helper()
		raw, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	verify := func(proof []byte, args ...string) (string, error) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "proof")
		if err := os.WriteFile(file, proof, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), program(t), append([]string{"verify.mjs", file}, args...)...).CombinedOutput()
		return string(out), err
	}
	run := func(what string, args ...string) (string, error) {
		t.Helper()
		for _, c := range vectors.Claims {
			if c.What == what {
				return verify(decoded(c.Encoding), args...)
			}
		}
		t.Fatalf("there is no claim %q", what)
		return "", nil
	}
	chain := keys.Hash(suite, "genesis", decoded(vectors.Genesis)).String()
	if out, err := run("header with the genesis", "--chain", chain); err != nil || !strings.Contains(out, `"height":1,`) || !strings.Contains(out, `"voters":3`) {
		t.Errorf("%s, %v", out, err)
	}
	out, err := run("event", "--chain", chain)
	if err == nil || !strings.Contains(out, "there is no genesis") {
		t.Errorf("without genesis: %s, %v", out, err)
	}
	for _, c := range vectors.Claims {
		if c.What != "event, under a later block" {
			continue
		}
		claim, err := ledger.DecodeClaim(decoded(c.Encoding))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := run(c.What, "--block", claim.Certified().Hash(suite).String(), "--suite", suite.Name()); err != nil || !strings.Contains(out, `"topic":"transfer"`) || !strings.Contains(out, `"under":6`) {
			t.Errorf("%s, %v", out, err)
		}
	}
	accepted, over := recovery(t, folder)
	if out, err := verify(over, "--chain", chain, "--recovery", accepted); err != nil || !strings.Contains(out, `"height":`) {
		t.Errorf("over a recovery: %s, %v", out, err)
	}
	for why, args := range map[string][]string{
		accepted:                 {"--chain", chain},
		"go on with block":       {"--chain", chain, "--recovery", chain},
		"verify.mjs FILE":        {"--chain", chain, "--recovery"},
		"verify.mjs FILE --bloc": {"--block", chain, "--recovery", accepted},
		"[--suite std|gm]":       {"--block", chain, "--suite", "ed25519"},
	} {
		if out, err := verify(over, args...); err == nil || !strings.Contains(out, why) {
			t.Errorf("over a recovery, %v: %s, %v", args, out, err)
		}
	}
	if out, err := run("event", "--block", chain); err == nil || !strings.Contains(out, "another block than the one trusted") {
		t.Errorf("another block: %s, %v", out, err)
	}
}

// recovery returns the golden claim that leads over a recovery, with the genesis in it, and the block to accept.
func recovery(t *testing.T, folder string) (accepted string, proof []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, "recovery.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vector struct{ Genesis, Accepted, Claim string }
	if err := json.Unmarshal(raw, &vector); err != nil {
		t.Fatal(err)
	}
	var genesis ledger.Genesis
	encoded, err := hex.DecodeString(vector.Genesis[2:])
	if err == nil {
		err = ledger.Unmarshal(encoded, &genesis)
	}
	if err != nil {
		t.Fatal(err)
	}
	if encoded, err = hex.DecodeString(vector.Claim[2:]); err != nil {
		t.Fatal(err)
	}
	claim, err := ledger.DecodeClaim(encoded)
	if err != nil {
		t.Fatal(err)
	}
	claim.Genesis = &genesis
	if proof, err = ledger.Marshal(claim); err != nil {
		t.Fatal(err)
	}
	return vector.Accepted, proof
}

func TestTransfer(t *testing.T) {
	program(t) // skips before a network is made
	for _, suite := range []string{"std", "gm"} {
		t.Run(suite, func(t *testing.T) { transfers(t, suite) })
	}
}

// transfers has the script transfer units on a network under a suite.
func transfers(t *testing.T, suite string) {
	net := startNetwork(t, suite)
	api, err := client.New(net.Nodes[0].API, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := net.DeployToken(t.Context(), api, "../..")
	if err != nil {
		t.Fatal(err)
	}
	if issued, err := token.Send(t.Context(), "admin", "issue", net.Address("alice").String(), "100"); err != nil || issued.Receipt.Status != "ok" {
		t.Fatalf("issue: %+v, %v", issued, err)
	}
	transfer := func(from, to, amount, chain string) []string {
		key := ""
		for _, a := range net.Accounts {
			if a.Name == from {
				key = a.Key
			}
		}
		return []string{net.Nodes[1].API, key, from, token.Address.String(), to, amount, chain}
	}
	type outcome struct {
		ID                   string
		Status, Code, Voters int
	}
	run := func(args []string) outcome {
		t.Helper()
		out, problems, code := script(t, args...)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, problems)
		}
		var got outcome
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return got
	}

	t.Run("a transfer is made and its receipt verified", func(t *testing.T) {
		if got := run(transfer("alice", "bob", "5", net.Chain.String())); got.Status != 0 || got.Voters < 3 {
			t.Errorf("outcome = %+v, want status 0 and at least 3 voters", got)
		}
		if units, err := token.Balance(t.Context(), net.Address("bob")); err != nil || units != "5" {
			t.Errorf("bob has %s, %v, want 5", units, err)
		}
	})
	t.Run("an amount of more than 64 bits is refused by the contract, which is proven as well", func(t *testing.T) {
		if got := run(transfer("alice", net.Address("bob").String(), "340282366920938463463374607431768211455", net.Chain.String())); got.Status != 1 || got.Code != 1001 {
			t.Errorf("outcome = %+v, want status 1 (aborted) and code 1001", got)
		}
	})
	t.Run("a node of another chain than the one trusted is found out", func(t *testing.T) {
		other := "0x" + strings.Repeat("ab", 32)
		if _, problems, code := script(t, transfer("alice", "bob", "5", other)...); code != 1 || !strings.Contains(problems, "(refused)") {
			t.Errorf("exit code %d: %s, want 1 and a refusal", code, problems)
		}
	})
	t.Run("another account's key is refused in words", func(t *testing.T) {
		args := transfer("alice", "bob", "5", net.Chain.String())
		args[1] = transfer("bob", "", "", "")[1]
		if _, problems, code := script(t, args...); code != 1 || !strings.Contains(problems, "(denied)") {
			t.Errorf("exit code %d: %s, want 1 and a denial", code, problems)
		}
	})
}

// startNetwork runs four nodes, each a process of its own, until the test ends.
func startNetwork(t *testing.T, suite string) *network.Network {
	t.Helper()
	port := 0
	for range 50 {
		if p := 20_000 + rand.IntN(30_000); network.CheckPorts(p, 4) == nil {
			port = p
			break
		}
	}
	net, err := network.Create(network.Config{
		Dir: t.TempDir(), Port: port, Suite: suite, Wasm: string(wasmvm.Interpreter), // four compilations for a handful of calls take longer than all of them
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.Build(t.Context(), ".", net.Dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := net.StopAll(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var nodes []*network.Node
	for i := range net.Nodes {
		if _, err := net.Start(&net.Nodes[i]); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, &net.Nodes[i])
	}
	if err := net.WaitReady(ctx, nodes...); err != nil {
		t.Fatal(err)
	}
	return net
}
