package main

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// golden compares what a test made with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s differs, or %v; it is\n%s", file, err, got)
	}
}

// TestSweepFiles compares what a sweep writes and prints with files in testdata. After a change, run it with -update and
// look at them.
func TestSweepFiles(t *testing.T) {
	run := func(tps, latency, cpu float64) *Bench {
		return &Bench{
			TPS: tps, P50: latency, P95: 2 * latency, P99: 3 * latency, CPU: cpu, RSS: 287.4, Disk: 2050.3, Offered: tps + 20, Refused: 123, Runs: 3, Nodes: 4,
		}
	}
	points := []SweepPoint{
		{"load", 50, run(50, 36, 1.2)},
		{"load", 1_000, run(1_000, 48, 0.75)},
		{"load", 9_000, run(2_780, 2_100, 0.71)},
		{"payload", 0, run(2_774, 380, 0.7)},
		{"payload", 4_096, run(900, 700, 1.25)},
		{"conflict", 0, run(2_774, 380, 0.7)},
		{"conflict", 100, run(2_600, 401.5, 0.724)},
	}
	base := workload{accounts: 1_000, duration: 8 * time.Second}
	var table, file, drawing bytes.Buffer
	if err := printSweep(&table, points); err != nil {
		t.Fatal(err)
	}
	if err := writeCSV(&file, points); err != nil {
		t.Fatal(err)
	}
	if err := sweepChart("rust", base, points).Write(&drawing); err != nil {
		t.Fatal(err)
	}
	golden(t, "sweep.txt", table.Bytes())
	golden(t, "sweep.csv", file.Bytes())
	golden(t, "sweep.svg", drawing.Bytes())
}

func TestChosen(t *testing.T) {
	for _, c := range []struct{ over, want string }{
		{"", "load 7, payload 4, conflict 4, block-txs 4, accounts 4"},
		{"conflict", "conflict 4"},
		{"block-txs payload=0", "block-txs 4, payload 1"},
		{"load=3000 50 50 accounts", "load 2, accounts 4"},
	} {
		some, err := chosen(strings.Fields(c.over))
		var got []string
		for _, d := range some {
			got = append(got, fmt.Sprintf("%s %d", d.name, len(d.values)))
			if !slices.IsSorted(d.values) {
				t.Errorf("%q: values %v, want them in order", c.over, d.values)
			}
		}
		if err != nil || strings.Join(got, ", ") != c.want {
			t.Errorf("%q: %v, %v, want %s", c.over, got, err, c.want)
		}
	}
	for _, over := range []string{"speed", "load=", "load=much", "load=-1", "load=1e10", "load load=5"} {
		if some, err := chosen(strings.Fields(over)); err == nil {
			t.Errorf("%q gives %v, want an error", over, some)
		}
	}
}

func TestMedian(t *testing.T) {
	runs := []*Bench{
		{TPS: 30, Committed: 30, P50: 1, CPU: 9, RootsEqual: true, BalancesRight: true},
		{TPS: 10, Committed: 10, P50: 3, CPU: 8, RootsEqual: true, BalancesRight: true, Lost: 2},
		{TPS: 20, Committed: 20, P50: 2, CPU: 7, RootsEqual: true, wrong: "a balance"},
	}
	if m := medianOf(runs); m.TPS != 20 || m.P50 != 2 || m.CPU != 8 || m.Runs != 3 || m.Lost != 2 || !m.RootsEqual || m.BalancesRight || m.fault() == nil {
		t.Errorf("median %+v, want the middle figures and whatever must not be", m)
	}
}

func TestOverloadFault(t *testing.T) {
	for _, c := range []struct {
		name               string
		seconds, kept, p99 float64
		want               string
	}{
		{"as it should be", 10, 0.85, 4_900, ""},
		{"less is committed", 10, 0.79, 2_000, "transfers/s"},
		{"a second tells nothing of that", 1, 0.5, 2_000, ""},
		{"they wait for long", 1, 1, 5_100, "p99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &Overload{Factor: 3, Saturated: &Bench{TPS: 1_000, P99: 500}, Overloaded: &Bench{Seconds: c.seconds, TPS: 1_000 * c.kept, P99: c.p99}, Kept: c.kept}
			if err := o.fault(); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("fault = %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	for _, conflict := range []float64{0, 0.25, 1} {
		l := &load{workload: workload{rate: 1_000, duration: 10 * time.Second, accounts: 50, conflict: conflict, seed: 7}}
		senders := l.plan()
		if len(l.transfers) < 10_000 {
			t.Fatalf("%d transfers are planned, want ten seconds of them", len(l.transfers))
		}
		first := 0
		for _, p := range l.transfers {
			if p.from == p.to || !slices.Contains(senders, int(p.from)) {
				t.Fatalf("a transfer from %d to %d; senders are %v", p.from, p.to, senders)
			}
			if p.to == 0 {
				first++
			}
		}
		if got, want := float64(first)/float64(len(l.transfers)), conflict+(1-conflict)/50; math.Abs(got-want) > 0.03 {
			t.Errorf("conflict %v: %.2f of the transfers pay one account, want %.2f", conflict, got, want)
		}
		again := &load{workload: l.workload}
		same := func(a, b transfer) bool { return a.from == b.from && a.to == b.to }
		if again.plan(); !slices.EqualFunc(again.transfers, l.transfers, same) {
			t.Error("the same seed gives other pairs")
		}
	}
}

func TestExpected(t *testing.T) {
	l := &load{workload: workload{accounts: 3}, people: make([]network.LoadAccount, 3), transfers: []transfer{
		{from: 0, to: 1, fate: committed}, {from: 0, to: 2, fate: committed}, {from: 1, to: 2, fate: refused}, {from: 2, to: 1, fate: doubtful}, {from: 2, to: 0},
	}}
	if got := l.expected([]int{0, 2}, []uint64{10, 20}); !slices.Equal(got, []uint64{8, 21}) {
		t.Errorf("expected %v, want those that committed transfers make", got)
	}
	if got := l.checked(); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("accounts %v are checked, want all", got)
	}
	l.accounts = 1_000_000
	if got := l.checked(); len(got) != benchChecked || got[1] != 100 || got[benchChecked-1] != 999_900 {
		t.Errorf("%d accounts are checked, want %d that lie evenly", len(got), benchChecked)
	}
}

// TestPrintNodes compares what status prints with testdata/status.txt.
func TestPrintNodes(t *testing.T) {
	status := func(number int32, role string, height ledger.Height, muted string) *client.Status {
		return &client.Status{Number: number, Role: role, Leader: 1, Height: height, View: 1, Pending: 12, Muted: muted, StateRoot: keys.Digest{1, 2, 3}}
	}
	var out bytes.Buffer
	if err := printNodes(&out, []NodeStatus{
		{Name: "node0", PID: 81_234, API: "http://127.0.0.1:9541", Ready: true, Status: status(0, "member", 12_345, "")},
		{Name: "node1", PID: 7, API: "http://127.0.0.1:9544", Ready: true, Status: status(1, "member", 12_345, "")},
		{Name: "node2", API: "http://127.0.0.1:9547", Problem: "not running"},
		{Name: "node3", PID: 81_236, API: "http://127.0.0.1:9550", Problem: "engine: down\nplugin: it did not answer", Status: status(3, "member", 9, "its journal is new")},
		{Name: "node4", PID: 81_237, API: "http://127.0.0.1:9553", Ready: true, Status: status(-1, "observer", 12_344, "")},
	}); err != nil {
		t.Fatal(err)
	}
	golden(t, "status.txt", out.Bytes())
}
