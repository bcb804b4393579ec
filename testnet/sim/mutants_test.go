package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
)

var (
	testMutants = flag.Bool("mutants", false, "put known mistakes into the source and see whether the simulator finds them")
	mutantSeeds = flag.Int("mutant-schedules", 5_000, "schedules in which each must be found")
)

// mutants are mistakes that were made in nodes of this kind before. Each is a change of the source.
var mutants = []struct {
	name  string
	edits []string // file, old, new; and so on
}{
	{"a quorum is one too small", []string{
		"state/ledger/vote.go", "return (n+Faulty(n))/2 + 1", "return (n + Faulty(n)) / 2",
	}},
	{"votes that come twice count twice", []string{
		"consensus/pbft/normal.go", "\t\tif old.Statement != st {\n\t\t\te.accuse(old, v)\n\t\t}\n\t\treturn\n\t}\n\tvotes[v.Signer] = v\n",
		"\t\tif old.Statement != st {\n\t\t\te.accuse(old, v)\n\t\t\treturn\n\t\t}\n\t\tfor i := range votes {\n\t\t\tif votes[i].Statement.Kind == 0 {\n\t\t\t\tvotes[i] = v\n\t\t\t\tbreak\n\t\t\t}\n\t\t}\n\t} else {\n\t\tvotes[v.Signer] = v\n\t}\n",
	}},
	{"a prepare vote is not on disk before it is sent", []string{
		"consensus/pbft/normal.go", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)\n\t\te.persist()", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)",
	}},
	{"a proposal is not on disk before it is sent", []string{
		"consensus/pbft/normal.go", "e.inflight = m\n\te.persist()", "e.inflight = m",
	}},
	{"a commit vote and its certificate are not on disk before it is sent", []string{
		"consensus/pbft/normal.go", "e.Committed.Block = result\n\te.persist()", "e.Committed.Block = result",
	}},
	{"a commit vote follows the view change", []string{
		"consensus/pbft/normal.go", "if !e.voter() || e.changing() || e.High.IsZero() || st.View != e.View {", "if !e.voter() || e.High.IsZero() {",
		"consensus/pbft/normal.go", "e.Committed.Block = result", "e.Committed.Block, e.Committed.View = result, e.High.Statement.View",
	}},
	{"a view change claims the final block instead of the highest certificate", []string{
		"consensus/pbft/view.go", "High: e.High.Statement.Rank(), Order: e.High.Statement.Order,", "High: e.head.Certificate.Statement.Rank(), Order: e.head.Certificate.Statement.Order,",
		"consensus/pbft/view.go", "e.Claim = e.High", "e.Claim = e.head.Certificate",
	}},
	{"messages leave before the journal is synced", []string{
		"node/group/group.go", "\tif err := g.journal.sync(); err != nil {\n\t\treturn err\n\t}\n\toutbox := g.outbox", "\toutbox := g.outbox",
		"node/group/group.go", "\treturn g.storeFinal()\n}", "\treturn errors.Join(g.journal.sync(), g.storeFinal())\n}",
	}},
	{"votes are not on disk, and the guard is off", []string{
		"consensus/pbft/normal.go", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)\n\t\te.persist()", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)",
		"node/group/group.go", "changed, err := guarded.allow(e.Statement)\n\tif err != nil {\n\t\treturn err\n\t}", "changed, _ := guarded.allow(e.Statement)",
	}},
	{"blocks are not synced", []string{
		"state/segment.go", "if err := s.tail.Sync(); err != nil {\n\t\treturn place{}", "if err := error(nil); err != nil {\n\t\treturn place{}",
	}},
	{"a transaction that is in a block is not recognized", []string{
		"node/group/payload.go", "if g.cfg.Pool.Seen(tx.ID) {\n\t\treturn true, nil\n\t}", "if true {\n\t\treturn false, nil\n\t}",
		"node/mempool/mempool.go", "if _, ok := p.seen[tx.ID]; ok {\n\t\treturn ErrCommitted\n\t}", "",
		"node/group/transactions.go", "} else if g.cfg.Pool.Seen(tx.ID) {", "} else if false {",
	}},
}

// TestMutants tests the tester: each mistake, put into the source, must be found.
func TestMutants(t *testing.T) {
	if !*testMutants {
		t.Skip("builds the simulator once for each mutant: run with -mutants")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			overlay := struct{ Replace map[string]string }{map[string]string{}}
			for i := 0; i < len(m.edits); i += 3 {
				path := filepath.Join(root, filepath.FromSlash(m.edits[i]))
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
				changed := filepath.Join(dir, strings.ReplaceAll(m.edits[i], "/", "_"))
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
			out, err := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", file, "-run", "^TestSchedules$", ".",
				"-args", "-schedules", flag.Lookup("mutant-schedules").Value.String()).CombinedOutput()
			if err == nil {
				t.Fatalf("not found in %d schedules", *mutantSeeds)
			}
			if !strings.Contains(string(out), "repeat it with") {
				t.Fatalf("did not run: %s", out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, "broken at") || strings.Contains(line, " schedules of ") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// find runs schedules until a rule is broken and returns how many that took.
func find(t *testing.T, s Schedule, most int) int {
	t.Helper()
	for i := range most {
		s.Seed = uint64(i + 1)
		_, err := Run(s)
		if Violation(err) {
			t.Logf("schedule %d: %v", i+1, err)
			return i + 1
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("not found in %d schedules", most)
	return most
}

// TestFindsMistakes is TestMutants for mistakes that need no other source.
func TestFindsMistakes(t *testing.T) {
	t.Run("an engine that writes down nothing", func(t *testing.T) {
		find(t, Schedule{Nodes: 4, Engine: func() consensus.Engine { return forgetful{pbft.New()} }}, 200)
	})
	t.Run("a disk that does not sync the journal", func(t *testing.T) {
		find(t, Schedule{Nodes: 4, lies: func(file string) bool { return strings.HasSuffix(file, "journal") }}, 200)
	})
	t.Run("a disk that does not sync blocks", func(t *testing.T) {
		find(t, Schedule{Nodes: 4, lies: func(file string) bool { return strings.Contains(file, "blocks") }}, 200)
	})
	t.Run("an engine that commits what it did not execute", func(t *testing.T) {
		find(t, Schedule{Nodes: 4, Engine: func() consensus.Engine { return &hasty{Engine: pbft.New()} }}, 200)
	})
}

// forgetful is an engine whose records are lost.
type forgetful struct{ consensus.Engine }

func (f forgetful) Step(event consensus.Event) ([]consensus.Effect, error) {
	effects, err := f.Engine.Step(event)
	var kept []consensus.Effect
	for _, effect := range effects {
		if _, lost := effect.(consensus.Persist); !lost {
			kept = append(kept, effect)
		}
	}
	return kept, err
}

// hasty is an engine that votes for whatever result.
type hasty struct {
	consensus.Engine
	steps int
}

func (h *hasty) Step(event consensus.Event) ([]consensus.Effect, error) {
	if e, ok := event.(consensus.Executed); ok {
		if h.steps++; h.steps%7 == 0 {
			e.Block[0] ^= 1
			event = e
		}
	}
	return h.Engine.Step(event)
}
