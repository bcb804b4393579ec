package sim

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/state/ledger"
)

var rewrite = flag.Bool("rewrite-token", false, "build testdata/token.wasm again")

// TestWhole runs a few schedules of whole nodes; "testnet sim --whole" runs as many as wanted.
func TestWhole(t *testing.T) {
	s, err := Campaign{Schedule: Schedule{Nodes: 4, Seed: 1, Whole: true}, Schedules: 24}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.Broken {
		t.Errorf("%s\nrepeat it with: %s", v.What, v.Repeat)
	}
	if s.Transfers == 0 || s.Refused == 0 || s.Epochs == 0 {
		t.Errorf("%d transfers, %d refused, %d epochs, want some of each", s.Transfers, s.Refused, s.Epochs)
	}
}

// TestToken holds the module that the schedules run against its source.
func TestToken(t *testing.T) {
	for _, tool := range []string{"clang", "wasm-ld"} {
		_, err := exec.LookPath(tool)
		switch {
		case err != nil && os.Getenv("FONDACO_REQUIRE_TOOLS") == "1":
			t.Fatal(err)
		case err != nil:
			t.Skipf("%v: on Debian, apt-get install clang lld", err)
		}
	}
	built, err := contract.Build(t.Context(), "../../sdk-contracts/c/contracts/token", "")
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile("testdata/token.wasm", built.Code, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	// Compilers differ in their code, but what the contract offers is in the module too.
	schema, err := ledger.ModuleSchema(tokenModule)
	if err != nil {
		t.Fatal(err)
	}
	got, want := encoded(t, built.Schema), encoded(t, schema)
	if !bytes.Equal(got, want) {
		t.Error("testdata/token.wasm was built from another source: -rewrite-token builds it again")
	}
}

func encoded(t *testing.T, s *ledger.Schema) []byte {
	t.Helper()
	data, err := ledger.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
