package cli_test

import (
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract/testdata/client/shapes"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestGeneratedClients deploys a contract with values of every kind on a node, and calls it with the clients that
// `fondaco contract client` makes of it, on the chain that tests share and on one of the other suite.
func TestGeneratedClients(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts two nodes")
	}
	other := chain{suite: keys.GM()}
	if shared.suite.Name() == "gm" {
		other.suite = keys.Std()
	}
	t.Cleanup(func() {
		if err := other.end(!t.Failed()); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []*chain{&shared, &other} {
		t.Run(c.suite.Name(), func(t *testing.T) { c.generatedClients(t) })
	}
}

func (c *chain) generatedClients(t *testing.T) {
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("../contract/testdata/shapes")
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := c.fondaco(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run("contract", "build", "--no-lock", source, "--out", "shapes.wasm")
	out := run("contract", "deploy", "shapes.wasm", "--from", "admin", "--key", filepath.Join(c.dir, "admin.key"))
	address := regexp.MustCompile(`deployed +(0x[0-9a-f]{40})`).FindStringSubmatch(out)
	if address == nil {
		t.Fatalf("no address in %s", out)
	}

	run("name", "register", "shapes-demo", "1", address[1], "--from", "admin", "--key", filepath.Join(c.dir, "admin.key"))

	t.Run("the files are those that are tested", func(t *testing.T) {
		run("contract", "client", "--lang", "go", "--out", "made/shapes.go", "shapes.wasm")
		run("contract", "client", "--lang", "ts", "--out", "made/shapes.mjs", address[1])
		for _, name := range []string{"shapes.go", "shapes.mjs", "shapes.d.mts"} {
			made, err := os.ReadFile(filepath.Join(c.dir, "made", name))
			golden, goldenErr := os.ReadFile(filepath.Join("../contract/testdata/client/shapes", name))
			if err := errors.Join(err, goldenErr); err != nil || string(made) != string(golden) {
				t.Errorf("%s differs from the golden file: %v", name, err)
			}
		}
		if _, err := c.fondaco("contract", "client", "--lang", "ts", "--out", "x.ts", "shapes.wasm"); err == nil || !strings.Contains(err.Error(), "does not end with .mjs") {
			t.Errorf("a client in a file of the wrong kind: %v", err)
		}
		if _, err := c.fondaco("contract", "client", "--out", "x.go", "none.wasm"); err == nil || !strings.Contains(err.Error(), "there is no module none.wasm") {
			t.Errorf("a client of a module that is not there: %v", err)
		}
	})

	t.Run("Go", func(t *testing.T) {
		signer, err := keyfile.Read(filepath.Join(c.dir, "alice.key"), c.suite, nil)
		if err != nil {
			t.Fatal(err)
		}
		var env string
		for _, pair := range c.env {
			if url, ok := strings.CutPrefix(pair, "FONDACO_API="); ok {
				env = url
			}
		}
		api, err := client.New(env, nil)
		if err != nil {
			t.Fatal(err)
		}
		at, err := ledger.ParseAddress(address[1])
		if err != nil {
			t.Fatal(err)
		}
		nobody := shapes.New(api, at)
		alice := ledger.NamedAddress(c.suite, "account", "alice")
		contract := nobody.As(alice, signer)
		deal := shapes.Deal{
			Name: "XS1", Colour: shapes.ColourBlue, Legs: []shapes.Leg{{Pay: true, Rate: -250, Notes: []string{"a", ""}}},
			Agent: &alice, Digest: make(client.Bytes, 32), Short: client.Bytes{1, 2, 3, 4}, Blob: client.Bytes{}, Size: new(big.Int).Lsh(big.NewInt(1), 100), Low: -1 << 63,
			Cash: [][]uint16{{1, 65535}, {}},
		}
		if echo, err := nobody.Echo(t.Context(), deal); err != nil || !reflect.DeepEqual(echo, deal) {
			t.Errorf("Echo = %+v, %v, want %+v", echo, err, deal)
		}
		stored, tx, err := contract.Store(t.Context(), deal, []shapes.Colour{shapes.ColourGreen})
		if err != nil || stored == nil || !reflect.DeepEqual(*stored, deal) {
			t.Fatalf("Store = %+v, %v, want %+v", stored, err, deal)
		}
		events, err := contract.Events(tx)
		if err != nil || len(events) != 1 || !reflect.DeepEqual(events[0], &shapes.Stored{Name: "XS1", Deal: deal}) {
			t.Errorf("Events = %+v, %v", events, err)
		}
		for event, err := range contract.Follow(t.Context(), tx.Height) {
			if err != nil || !reflect.DeepEqual(event, events[0]) {
				t.Errorf("Follow = %+v, %v", event, err)
			}
			break
		}
		if n, err := contract.Count(t.Context()); err != nil || n != 1 {
			t.Errorf("Count = %d, %v", n, err)
		}
		about, err := contract.Who(t.Context())
		if err != nil || about.Caller != alice || about.Self != at || about.Method != "who" || !about.ReadOnly {
			t.Errorf("Who = %+v, %v", about, err)
		}
		named := shapes.NewNamed(api, "shapes-demo", "").As(alice, signer)
		if about, err := named.Who(t.Context()); err != nil || about.Self != at {
			t.Errorf("Who by name = %+v, %v", about, err)
		}
		_, tx, err = named.Store(t.Context(), deal, nil)
		if err != nil {
			t.Fatalf("Store by name: %v", err)
		}
		if events, err := named.Events(tx); err != nil || len(events) != 1 {
			t.Errorf("Events by name = %+v, %v", events, err)
		}
		for event, err := range named.Follow(t.Context(), tx.Height) {
			if err != nil || !reflect.DeepEqual(event, events[0]) {
				t.Errorf("Follow by name = %+v, %v", event, err)
			}
			break
		}
		deal.Legs = append(deal.Legs, shapes.Leg{}, shapes.Leg{})
		_, _, err = contract.Store(t.Context(), deal, nil)
		if tooBig, ok := errors.AsType[*shapes.TooBig](err); !ok || len(tooBig.Deal.Legs) != 3 {
			t.Errorf("too many legs: %v, want TooBig with the deal", err)
		}
		_, err = contract.Panic(t.Context(), nil)
		if failure, ok := errors.AsType[*shapes.Failure](err); !ok || failure.Status != "aborted" {
			t.Errorf("a panic: %v, want a Failure", err)
		}
		if _, err := nobody.Restricted(t.Context()); err == nil || !strings.Contains(err.Error(), "use Client.As") {
			t.Errorf("a transaction without a sender: %v", err)
		}
	})

	t.Run("JavaScript", func(t *testing.T) {
		node, err := exec.LookPath("node")
		if err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal("needs Node.js 20 or later: install it from https://nodejs.org")
		}
		if err != nil {
			t.Skip("needs Node.js 20 or later: install it from https://nodejs.org")
		}
		cmd := exec.CommandContext(t.Context(), node, "../contract/testdata/client/shapes.test.mjs", address[1], filepath.Join(c.dir, "bob.key"), "bob", c.suite.Name(), "shapes-demo@1")
		cmd.Env = append(os.Environ(), c.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
