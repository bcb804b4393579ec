package cli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/cli/clitest"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// TestEvidence runs three nodes of a chain of four. The fourth member is a program of the test's own making, with a
// member's key and the real wire: it votes for two orders. The others find out, and an operator puts it on chain.
func TestEvidence(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: three nodes run")
	}
	const members = 4
	suite := keystest.Suite()
	var signers []keys.Signer
	key := filepath.Join(t.TempDir(), "user.key")
	user, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Write(key, user, ""); err != nil {
		t.Fatal(err)
	}
	genesis := ledger.Genesis{
		Version: ledger.Version, Name: "lies", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: ledger.DefaultParams(),
		Accounts: []ledger.GenesisAccount{{Name: "user", Institution: "bank-0", Roles: []string{"user"}, Keys: []ledger.Key{ledger.KeyOf(user.Public())}}},
	}
	ports, err := clitest.FreePorts(members)
	if err != nil {
		t.Fatal(err)
	}
	var peers []transport.Address
	for i := range members {
		signer, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, signer)
		id := identity.NodeIDOf(suite, signer.Public())
		genesis.Members = append(genesis.Members, ledger.Member{Node: id, Institution: fmt.Sprintf("bank-%d", i), Key: ledger.KeyOf(signer.Public())})
		peers = append(peers, transport.Address{Node: id, Addr: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	others := func(self int) (list []transport.Address) {
		for i, p := range peers {
			if i != self {
				list = append(list, p)
			}
		}
		return list
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, members)
	running := 0
	defer func() {
		cancel()
		for range running {
			if err := <-ended; err != nil {
				t.Errorf("a node ended: %v", err)
			}
		}
	}()
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	start := func(i int, ctx context.Context) *node.Node {
		n, err := node.New(ctx, node.Config{
			Dir: dirs[i], Genesis: genesis, Signer: signers[i], Listen: peers[i].Addr, Peers: others(i), API: "127.0.0.1:0", Admin: "127.0.0.1:0",
			EngineFactory: pbft.New, Log: zerolog.Nop(),
		})
		if err != nil {
			t.Fatal(err)
		}
		running++
		go func() { ended <- n.Run(ctx) }()
		return n
	}
	first, stopFirst := context.WithCancel(ctx)
	defer stopFirst()
	nodes := []*node.Node{start(0, first), start(1, ctx), start(2, ctx)}

	liar, err := transport.New(transport.Config{
		Listen: peers[3].Addr, Suite: suite, Signer: signers[3], Chain: genesis.Hash(suite), Groups: []ledger.GroupID{"main"}, Peers: others(3),
		Authorize: func(h transport.Hello) (identity.Identity, error) {
			public, err := h.PublicKey(suite)
			return identity.Identity{Key: public}, err
		},
		Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	running++
	go func() { ended <- liar.Run(ctx) }()

	// It votes for one order at height 1 and tells everybody, and then for another.
	lie := func(to int) {
		var votes []ledger.Vote
		for order := range byte(2) {
			st := ledger.Statement{Kind: ledger.Prepare, Height: 1, Order: keys.Digest{order + 1}}
			signature, err := signers[3].Sign(st.Digest(suite, genesis.Hash(suite), "main"))
			if err != nil {
				t.Fatal(err)
			}
			votes = append(votes, ledger.Vote{Signer: 3, Statement: st, Signature: signature})
		}
		packet, err := ledger.Marshal([]any{&consensus.Message{Kind: 2, Votes: votes}, []keys.Digest(nil)})
		if err != nil {
			t.Fatal(err)
		}
		framed := append([]byte{byte(group.Consensus), 4}, "main"...)
		liar.Send(peers[to].Node, transport.Consensus, append(framed, packet...)) //nolint:errcheck // sent until it arrives
	}
	api := func(n *node.Node) string { return "http://" + n.Addr().String() }
	var found []client.Evidence
	for _, n := range []int{0, 1} {
		for began := time.Now(); len(found) == 0; time.Sleep(20 * time.Millisecond) {
			if time.Since(began) > clitest.Patience {
				t.Fatalf("node %d has no evidence", n)
			}
			lie(n)
			code, out := run("evidence", "list", "--api", api(nodes[n]), "-o", "json")
			if code != 0 {
				t.Fatalf("evidence list: exit code %d, %s", code, out)
			}
			if err := json.Unmarshal([]byte(out), &found); err != nil {
				t.Fatal(err)
			}
		}
		if len(found) != 1 || found[0].Member != 3 || found[0].Institution != "bank-3" || found[0].Offence != "equivocation" || found[0].Recorded != nil {
			t.Fatalf("node %d has evidence %+v", n, found)
		}
		if n == 0 {
			found = nil
		}
	}
	id := found[0].ID.String()
	wants := func(what string, code, wantCode int, out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if code != wantCode || !strings.Contains(out, want) {
				t.Fatalf("%s: exit code %d, want %d, and %q in\n%s", what, code, wantCode, want, out)
			}
		}
	}
	code, out := run("evidence", "show", id, "--api", api(nodes[0]))
	wants("evidence show", code, 0, out, "member 3 of epoch 0, bank-3", "both signatures hold", "prepare at view 0 height 1", "on chain")
	code, out = run("evidence", "show", strings.Repeat("00", 31), "--api", api(nodes[0]))
	wants("evidence show of what is no id", code, cli.ExitUsage, out, "want 64 hexadecimal digits")
	code, out = run("evidence", "show", "0X"+strings.Repeat("00", 32), "--api", api(nodes[0]))
	wants("evidence show of an unknown id", code, cli.ExitNotFound, out, "this node has no evidence")

	code, out = run("evidence", "submit", id, "--api", api(nodes[1]), "--key", key, "--from", "user")
	wants("evidence submit", code, 0, out, "accused", "ok")
	for i, n := range nodes {
		for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			code, out = run("evidence", "show", id, "--api", api(n))
			if i == 2 { // it was not told, and knows from the chain only
				code, out = run("contract", "view", "0x0000000000000000000000000000000000000004", "accusations", "0", "3", "--api", api(n))
			}
			if code == 0 && (strings.Contains(out, "block 1") || i == 2 && strings.Contains(out, strings.TrimPrefix(id, "0x"))) {
				break
			}
			if time.Since(began) > clitest.Patience {
				t.Fatalf("node %d does not show that the chain recorded it: exit code %d, %s", i, code, out)
			}
		}
	}
	code, out = run("evidence", "submit", id, "--api", api(nodes[1]), "--key", key, "--from", "user")
	wants("evidence submit, again", code, cli.ExitError, out, "AlreadyAccused")

	forged := bytes.Clone(found[0].Proof)
	forged[len(forged)-1] ^= 1
	code, out = run("evidence", "submit", fmt.Sprintf("0x%x", forged), "--api", api(nodes[1]), "--key", key, "--from", "user")
	wants("evidence submit of a forgery", code, cli.ExitError, out, "NoEvidence")

	response, err := http.Get("http://" + nodes[0].AdminAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(text), `fondaco_evidence_total{group="main"} 1`) {
		t.Errorf("the metrics do not count the evidence: %v", err)
	}

	// The whole is checked without a node: from a running one, and from the folder of a stopped one.
	trusted := filepath.Join(dirs[0], cli.GenesisFile)
	if err := cli.WriteGenesis(trusted, &genesis); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "consensus")
	code, out = run("export", "consensus", "--api", api(nodes[1]), "--out", file)
	wants("export consensus", code, 0, out, "fondaco verify --consensus "+file)
	code, out = run("verify", "--consensus", file, "--genesis", trusted)
	wants("verify --consensus", code, cli.ExitInvalid, out, "what members agreed on holds", "equivocation by member 3 of epoch 0: prepare at view 0 height 1",
		"1 pairs of statements in it contradict one another")
	code, out = run("verify", "--consensus", file, "--genesis", trusted, "-o", "json")
	wants("verify --consensus -o json", code, cli.ExitInvalid, out, `"holds": true`, `"member": 3`, fmt.Sprintf(`"proof": "0x%x"`, found[0].Proof))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out = run("verify", "--consensus", file, "--genesis", trusted)
	wants("verify --consensus of a changed package", code, cli.ExitInvalid, out, "DOES NOT HOLD at block ")
	code, out = run("verify", "--consensus", filepath.Join(dirs[1], "none"), "--genesis", trusted)
	wants("verify --consensus of no file", code, cli.ExitNotFound, out, "make a package with")
	code, out = run("export", "consensus", "--api", api(nodes[1]), "--out", file, "--from", "99")
	wants("export consensus of blocks to come", code, cli.ExitUsage, out, "from")
	code, out = run("export", "consensus", "-d", dirs[0], "--offline", "--out", file)
	wants("export consensus --offline of a running node", code, cli.ExitError, out, "leave --offline away")

	// It outlives the node that found it.
	stopFirst()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	running--
	code, out = run("export", "consensus", "-d", dirs[0], "--offline", "--out", file)
	wants("export consensus --offline", code, 0, out, "verify --consensus")
	code, out = run("verify", "--consensus", file, "-d", dirs[0])
	wants("verify --consensus of a stopped node's package", code, cli.ExitInvalid, out, "what members agreed on holds", "equivocation by member 3")
	again := start(0, ctx)
	code, out = run("evidence", "list", "--api", api(again))
	wants("evidence list after a restart", code, 0, out, id, "bank-3", "block 1")
}
