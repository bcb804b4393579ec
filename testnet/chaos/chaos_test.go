package chaos

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/history"
	"github.com/fondaco/fondaco/testnet/network"
)

var minutes = flag.Float64("minutes", 0, "run TestChaos, for as long")

// TestChaos is `go run ./testnet chaos` as a test.
func TestChaos(t *testing.T) {
	if *minutes == 0 {
		t.Skip("starts processes and loads them: run with -minutes")
	}
	c := Config{
		Dir: filepath.Join(t.TempDir(), "net"), Source: "../..", Port: freePorts(t), Seed: 1, Rate: 30, Wasm: "interpreter",
		Duration: time.Duration(*minutes * float64(time.Minute)), Longest: 8 * time.Second, Progress: t.Logf,
	}
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Errorf("%s: %s", v.Rule, v.Detail)
	}
	faults := 0
	for _, f := range report.Faults {
		faults += f.Count
	}
	if p := report.Packets; p.Delivered == 0 || p.Cut == 0 {
		t.Errorf("the relay had nothing to do: %+v", p)
	}
	if done := report.Operations[history.Transfer][history.Done]; faults == 0 || done == 0 || report.Transactions < done {
		t.Errorf("%d faults, %d transfers done, %d transactions: the run shows nothing", faults, done, report.Transactions)
	}
}

func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20_000 + rand.IntN(20_000)
		if network.CheckPorts(port, 6) == nil { // four nodes with their doors, and some more
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

func TestScript(t *testing.T) {
	for _, nodes := range []int{4, 7} {
		a, b, c := newScript(1, Kinds(), nodes, time.Second), newScript(1, Kinds(), nodes, time.Second), newScript(2, Kinds(), nodes, time.Second)
		different := false
		for round := range 50 {
			seen := map[Kind]bool{}
			for range Kinds() {
				f, g, h := a.next(), b.next(), c.next()
				if f.String() != g.String() || f.calm != g.calm || f.draw != g.draw || !slices.Equal(f.nodes, g.nodes) {
					t.Fatalf("the same seed gives %v and %v", f, g)
				}
				different = different || f.String() != h.String()
				seen[f.kind] = true
				if f.kind.safe() && (len(f.nodes) == 0 || len(f.nodes) > ledger.Faulty(nodes)) {
					t.Fatalf("%v strikes %d of %d nodes", f, len(f.nodes), nodes)
				}
				if f.lasts > time.Second || f.calm > time.Second {
					t.Fatalf("%v takes longer than a second", f)
				}
			}
			if len(seen) != len(Kinds()) {
				t.Fatalf("round %d has %d of %d kinds", round, len(seen), len(Kinds()))
			}
		}
		if !different {
			t.Error("two seeds give the same script")
		}
	}
	if kinds, err := ParseKinds("kill,power"); err != nil || !slices.Equal(kinds, []Kind{Crash, Power}) {
		t.Errorf("%v %v", kinds, err)
	}
	if _, err := ParseKinds("kill,flood"); err == nil {
		t.Error("a fault that there is not was taken")
	}
}

// TestGaps: the longest time without a commit within a window is found, at its edges too.
func TestGaps(t *testing.T) {
	commits := []time.Duration{1, 5, 6, 20, 22}
	for _, test := range []struct{ from, to, want time.Duration }{{0, 30, 14}, {5, 7, 1}, {7, 19, 12}, {21, 40, 18}, {2, 6, 3}, {40, 50, 10}} {
		if got := longest(commits, test.from, test.to); got != test.want {
			t.Errorf("from %d to %d: %d, want %d", test.from, test.to, got, test.want)
		}
	}
}
