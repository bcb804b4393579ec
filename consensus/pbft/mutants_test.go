package pbft_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var testMutants = flag.Bool("mutants", false, "put known mistakes into the source and see whether the simulation finds them")

// mutants are mistakes that were made in engines of this family before. Each is a change of the source.
var mutants = []struct {
	name  string
	edits []string // file, old, new; and so on
	args  []string
}{
	{"a quorum is one too small", []string{
		"normal.go", "case len(equal) >= e.quorum:", "case len(equal) >= e.quorum-1:",
	}, nil},
	{"a view change claims the final block instead of the highest certificate", []string{
		"view.go", "High: e.High.Statement.Rank(), Order: e.High.Statement.Order,", "High: e.head.Certificate.Statement.Rank(), Order: e.head.Certificate.Statement.Order,",
		"view.go", "e.Claim = e.High", "e.Claim = e.head.Certificate",
	}, nil},
	{"votes in a view fall in height", []string{
		"normal.go", "(p.order.Height <= e.Prepared.Height || !p.inView)", "(p.order.Height == e.Prepared.Height && p.hash == e.Prepared.Order)",
	}, []string{"-window", "4"}},
	{"a prepare vote is not on disk before it is sent", []string{
		"normal.go", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)\n\t\te.persist()", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)",
	}, []string{"-twins", "1"}},
	{"a proposal is not on disk before it is sent", []string{
		"normal.go", "e.inflight = m\n\te.persist()", "e.inflight = m",
	}, nil},
	{"a commit vote and its certificate are not on disk before it is sent", []string{
		"normal.go", "e.Committed.Block = result\n\te.persist()", "e.Committed.Block = result",
	}, nil},
	{"a view change is not on disk before it is sent", []string{
		"view.go", "e.forgetVotes()\n\te.persist()", "e.forgetVotes()",
	}, nil},
	{"a commit vote follows the view change", []string{
		"normal.go", "if !e.voter() || e.changing() || e.High.IsZero() || st.View != e.View {", "if !e.voter() || e.High.IsZero() {",
		"normal.go", "e.Committed.Block = result", "e.Committed.Block, e.Committed.View = result, e.High.Statement.View",
	}, nil},
	{"a restart begins in view 0", []string{
		"record.go", "e.record = r\n", "e.record.High, e.record.Prepared = r.High, r.Prepared\n",
	}, nil},
}

// TestMutants tests the tester: each mistake, put into the source, must be found by the simulation.
func TestMutants(t *testing.T) {
	if !*testMutants {
		t.Skip("builds the package once for each mutant: run with -mutants")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			overlay := struct{ Replace map[string]string }{map[string]string{}}
			for i := 0; i < len(m.edits); i += 3 {
				path, err := filepath.Abs(m.edits[i])
				if err != nil {
					t.Fatal(err)
				}
				from := path
				if done, ok := overlay.Replace[path]; ok {
					from = done
				}
				source, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(string(source), m.edits[i+1]); n != 1 {
					t.Fatalf("%s holds the text %d times, want once: %s", m.edits[i], n, m.edits[i+1])
				}
				changed := filepath.Join(dir, m.edits[i])
				if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.edits[i+1], m.edits[i+2], 1)), 0o600); err != nil {
					t.Fatal(err)
				}
				overlay.Replace[path] = changed
			}
			data, err := json.Marshal(overlay)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"test", "-vet=off", "-overlay", file, "-run", "^TestSimulate$", ".", "-args", "-schedules", "300", "-stop"}, m.args...)
			out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
			if err == nil {
				t.Fatalf("not found in 300 schedules")
			}
			if !strings.Contains(string(out), "repeat with") {
				t.Fatalf("did not run: %s", out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "repeat with") {
					t.Log(strings.TrimSpace(line))
					break
				}
			}
		})
	}
}
