package sim

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
)

var testMutants = flag.Bool("mutants", false, "put known mistakes into the source and see whether the simulator finds them")

// mutant is a mistake that was made in nodes of this kind before, as a change of the source.
type mutant struct {
	name   string
	within int      // schedules of n=4 from seed 1 in which the simulator must find it; 0: a scripted test finds it
	test   string   // then: package and test
	flags  []string // more arguments
	edits  []edit
}

type edit struct{ file, old, new string }

var mutants = []mutant{
	{name: "a quorum is one too small", within: 400, edits: []edit{
		{"state/ledger/vote.go", `return (n+Faulty(n))/2 + 1`, `return (n + Faulty(n)) / 2`},
	}},
	{name: "votes that come twice count twice", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", `
		if old.Statement != st {
			e.accuse(old, v)
		}
		return ""
	}
	votes[v.Signer] = v
`, `
		if old.Statement != st {
			e.accuse(old, v)
			return ""
		}
		for i := range votes {
			if votes[i].Statement.Kind == 0 {
				votes[i] = v
				break
			}
		}
	} else {
		votes[v.Signer] = v
	}
`},
	}},
	{name: "a certificate's signatures are counted, not its signers", within: 400, edits: []edit{
		{"state/ledger/vote.go", `	signers := c.Members()
	if len(signers)`, `	signers := c.Members()
	for len(signers) > 0 && len(signers) < len(c.Signatures) {
		signers = append(signers, signers[0])
	}
	if len(signers)`},
		{"node/group/message.go", `	if len(members) != len(c.Signatures) || len`, `	if len`},
	}},
	{name: "certificates inside messages are not verified", within: 400, edits: []edit{
		{"node/group/message.go", `	once := keys.Hash(g.cfg.Suite, "checked-certificate"`, `	if from != nobody {
		return nil
	}
	once := keys.Hash(g.cfg.Suite, "checked-certificate"`},
	}},
	{name: "the signatures of view changes are not verified", within: 2_000, edits: []edit{
		{"node/group/message.go", `		once := voteKey(v)
`, `		if v.Statement.Kind == ledger.ViewChange {
			continue
		}
		once := voteKey(v)
`},
	}},
	{name: "a prepare vote is not on disk before it is sent", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)\n\t\te.persist()", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)"},
	}},
	{name: "a proposal is not on disk before it is sent", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", "e.inflight = m\n\te.persist()", "e.inflight = m"},
	}},
	{name: "a commit vote and its certificate are not on disk before it is sent", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", "e.Committed.Block = result\n\te.persist()", "e.Committed.Block = result"},
	}},
	{name: "a view change is not on disk before it is sent", within: 2_000, edits: []edit{
		{"consensus/pbft/view.go", "e.forgetVotes()\n\te.persist()", "e.forgetVotes()"},
	}},
	{name: "messages leave before the journal is synced", within: 2_000, edits: []edit{
		{"node/group/group.go", "\tif err := g.journal.sync(); err != nil {\n\t\treturn err\n\t}\n\tif err := g.signUnsigned()", "\tif err := g.signUnsigned()"},
		{"node/group/group.go", "\treturn g.storeFinal()\n}", "\treturn errors.Join(g.journal.sync(), g.storeFinal())\n}"},
	}},
	{name: "votes are not on disk, and the guard is off", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)\n\t\te.persist()", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)"},
		{"node/group/group.go", "changed, err := guarded.allow(e.Statement)\n\tif err != nil {\n\t\treturn err\n\t}", "changed, _ := guarded.allow(e.Statement)"},
	}},
	{name: "the guard's state is not in the journal, and votes are not on disk", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)\n\t\te.persist()", "e.Prepared = e.statement(ledger.Prepare, p.order.Height, p.hash)"},
		{"node/group/group.go", "\tif changed {\n\t\tg.journal.setGuard(guarded)\n\t}", "\tif changed {\n\t\tg.journal.guard = guarded\n\t}"},
	}},
	{name: "a failed sync of the journal is not noticed", within: 400, edits: []edit{
		{"node/group/journal.go", "\tif err := j.file.Sync(); err != nil {\n\t\treturn err\n\t}\n\tj.size += int64(len(frame))", "\t_ = j.file.Sync()\n\tj.size += int64(len(frame))"},
	}},
	{name: "the torn end of a journal is taken for damage", within: 400, edits: []edit{
		{"node/group/journal.go", "\t\t\t// Torn, or damaged: then a later frame is whole.", "\t\t\tif len(data) > 0 {\n\t\t\t\treturn ErrJournal\n\t\t\t}"},
	}},
	{name: "a member without a journal votes at once", within: 2_000, edits: []edit{
		{"node/group/group.go", "if head > 0 || marked {\n\t\t\tfirst.Mute", "if head > 1<<40 {\n\t\t\tfirst.Mute"},
	}},
	{name: "a restart begins in view 0", within: 2_000, edits: []edit{
		{"consensus/pbft/record.go", "\te.record = r\n", "\te.record.High, e.record.Prepared = r.High, r.Prepared\n"},
	}},
	{name: "blocks are not synced", within: 400, edits: []edit{
		{"state/segment.go", "if err := s.tail.Sync(); err != nil {\n\t\treturn place{}", "if err := error(nil); err != nil {\n\t\treturn place{}"},
	}},
	{name: "a commit vote follows the view change", within: 400, edits: []edit{
		{"consensus/pbft/normal.go", "if !e.voter() || e.changing() || e.High.IsZero() || st.View != e.View {", "if !e.voter() || e.High.IsZero() {"},
		{"consensus/pbft/normal.go", "e.Committed.Block = result", "e.Committed.Block, e.Committed.View = result, e.High.Statement.View"},
	}},
	{name: "a view change claims the final block instead of the highest certificate", within: 2_000, edits: []edit{
		{"consensus/pbft/view.go", "High: e.High.Statement.Rank(), Order: e.High.Statement.Order,", "High: e.head.Certificate.Statement.Rank(), Order: e.head.Certificate.Statement.Order,"},
		{"consensus/pbft/view.go", "e.Claim = e.High", "e.Claim = e.head.Certificate"},
	}},
	{name: "votes in a view need not rise in height", within: 2_000, edits: []edit{
		{"consensus/pbft/normal.go", "(p.order.Height <= e.Prepared.Height || !p.inView)", "(p.order.Height == e.Prepared.Height && p.hash == e.Prepared.Order)"},
	}},
	{name: "a result is voted for that differs from execution", within: 400, edits: []edit{
		{"consensus/pbft/pbft.go", "b.result = ev.Block", "b.result = ev.Block\n\t\t\tb.result[0] ^= byte(e.self) >> 1"},
	}},
	{name: "agreed and fetched blocks are both delivered", within: 2_000, edits: []edit{
		{"node/group/payload.go", `		if st.Height <= g.head.Order.Height { // fetched meanwhile
			g.final = g.final[1:]
			continue
		}
`, ""},
		{"node/group/sync.go", "if base != g.cfg.Store.Head() { // stored", "if base == nil { // stored"},
	}},
	{name: "honest members are accused of view changes that came first", within: 400, edits: []edit{
		{"consensus/pbft/view.go", "if commit.Statement.View < change.Statement.View && change", "if change"},
		{"state/ledger/evidence.go", "if b.View > a.View && b.High", "if b.High"},
	}},
	{name: "a transaction that is in a block is not recognized", within: 400, edits: []edit{
		{"node/group/payload.go", "if g.cfg.Pool.Seen(tx.ID) {\n\t\treturn true, nil\n\t}", "if true {\n\t\treturn false, nil\n\t}"},
		{"node/mempool/mempool.go", "if _, ok := p.seen[tx.ID]; ok {\n\t\treturn ErrCommitted\n\t}", ""},
		{"node/group/transactions.go", "} else if g.cfg.Pool.Seen(tx.ID) {", "} else if false {"},
	}},
	{name: "a block's limits are not checked", test: "./node/group TestValid", edits: []edit{
		{"node/group/payload.go", "o.TxCount > params.BlockTxs ||", "o.TxCount > 1<<16 ||"},
		{"node/group/message.go", " || o.TxCount > g.epoch.Params.BlockTxs", ""},
	}},
	{name: "a block's time is not held against the clock", within: 100, flags: []string{"-byzantine", "future-time"}, edits: []edit{
		{"node/group/payload.go", "case !ask.Seen && (ahead > skew || ahead < -skew):", "case ahead > 1<<40:"},
	}},
	{name: "a block's time may be as far behind the clock as it likes", within: 200, flags: []string{"-byzantine", "past-time"}, edits: []edit{
		{"node/group/payload.go", "case !ask.Seen && (ahead > skew || ahead < -skew):", "case !ask.Seen && ahead > skew:"},
	}},
	{name: "every member must have the leader's clock when a block is proposed again", test: "./node/group TestValid", edits: []edit{
		{"node/group/payload.go", "case !ask.Seen && (ahead > skew || ahead < -skew):", "case ahead > skew || ahead < -skew:"},
	}},
	{name: "certificates are ranked by height alone", test: "./consensus/pbft TestScenarios", edits: []edit{
		{"consensus/pbft/pbft.go", "switch st.Rank().Compare(e.High.Statement.Rank()) {", "switch compare(st.Height, e.High.Statement.Height) {"},
	}},
	{name: "a new view builds on any certificate claimed", test: "./consensus/pbft TestScenarios", edits: []edit{
		{"consensus/pbft/view.go", "if c.high.Statement.Rank().Compare(n.High.Statement.Rank()) > 0 {", "if n.High.IsZero() {"},
		{"consensus/pbft/view.go", "\t\te.observe(high, v.Signer)\n", ""},
		{"consensus/pbft/view.go", "\treturn e.proves(n.High, top)", "\treturn true"},
	}},
	{name: "a block that is outranked keeps its transactions", test: "./consensus/pbft TestScenarios", edits: []edit{
		{"consensus/pbft/normal.go", "if linked && b.asked && !e.changing() {", "if linked && e.halted {"},
	}},
	{name: "timers go on when the view ends", test: "./consensus/pbft TestScenarios", edits: []edit{
		{"consensus/pbft/view.go", "\te.forgetBlocks()\n\te.stopTimers()\n\te.startTimers(0)\n", "\te.forgetBlocks()\n"},
	}},
	{name: "one member's view change takes everybody along", within: 200, flags: []string{"-byzantine", "change-spam"}, edits: []edit{
		{"consensus/pbft/view.go", "if len(higher) > e.faulty {", "if len(higher) > 0 {"},
		{"consensus/pbft/view.go", "higher[len(higher)-1-e.faulty]", "higher[len(higher)-1]"},
	}},
	{name: "an epoch may end for nothing", within: 200, flags: []string{"-byzantine", "endless-epochs"}, edits: []edit{
		{"node/group/payload.go", "if err := g.cfg.Executor.EndsEpoch(base, o, txs[0]); err != nil {", "if err := error(nil); err != nil {"},
	}},
	{name: "a new epoch's votes are checked by the keys of the old one's members", within: 400, edits: []edit{
		{"node/group/group.go", "	g.epoch, g.public, g.number = epoch, public, -1", "	if g.public != nil {\n\t\tpublic = g.public\n\t}\n\tg.epoch, g.public, g.number = epoch, public, -1"},
	}},
	{name: "a node that is a member no more goes on to vote", within: 400, edits: []edit{
		{"node/group/group.go", "	g.epoch, g.public, g.number = epoch, public, -1", "	g.epoch, g.public = epoch, public"},
		{"node/group/group.go", "			g.number, g.own = int32(i), g.senders[i]\n\t\t}", "			g.number = int32(i)\n\t\t}\n\t\tif g.number == int32(i) {\n\t\t\tg.own = g.senders[i]\n\t\t}"},
	}},
	{name: "a recovery leaves out what a survivor voted for", test: "./testnet/sim TestRecoveries", edits: []edit{
		{"node/group/recovery.go", "\tslices.SortStableFunc(current, func", "\tcurrent = nil\n\tslices.SortStableFunc(current, func"},
		{"node/group/recovery.go", "\tif err := s.leavesNothingOut(r, f); err != nil {\n\t\treturn nil, err\n\t}\n", ""},
	}},
	{name: "who signed a recovery votes on", test: "./testnet/sim TestRecoveries", edits: []edit{
		{"node/group/recovery.go", "\t\tguard.Leave, guard.Left = max(guard.Leave, f.Before.Number+1), last\n", ""},
	}},
	{name: "a signature of a recovery leaves before it is on disk", test: "./testnet/sim TestRecoveries", edits: []edit{
		{"node/group/recovery.go", "\t\ts.journal.setGuard(guard)\n\t\tif err := s.journal.sync(); err != nil {\n\t\t\treturn nil, err\n\t\t}\n", "\t\ts.journal.setGuard(guard)\n"},
	}},
	{name: "the word of a recovery is not on disk before its blocks", test: "./testnet/sim TestRecoveries", edits: []edit{
		{"node/group/recovery.go", "\tif err := keepRecovery(&s.cfg, r); err != nil {\n\t\treturn 0, err\n\t}\n", ""},
	}},
	{name: "blocks fetched from a peer need no certificate", within: 2_000, flags: []string{"-byzantine", "bad-blocks"}, edits: []edit{
		{"node/blocksync/blocksync.go", "	if err != nil {\n\t\treturn nil, fmt.Errorf(\"%w: block %d: %w\"", "	if err != nil && len(c.Members) == 0 {\n\t\treturn nil, fmt.Errorf(\"%w: block %d: %w\""},
	}},
}

// TestMutants tests the tester: each mistake, put into the source, must be found. With -v it prints the table that is in
// README.md.
func TestMutants(t *testing.T) {
	if !*testMutants {
		t.Skip("builds the simulator once for each mutant, a quarter of an hour in all: run with -mutants -timeout 1h")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			const here = "./testnet/sim"
			pkg, name := here, "TestSchedules"
			if m.test != "" {
				pkg, name, _ = strings.Cut(m.test, " ")
			}
			args := []string{"test", "-vet=off", "-count=1", "-overlay", overlay(t, root, m.edits), "-run", "^" + name + "$", pkg}
			if m.test == "" {
				args = append(args, "-args", "-schedules", strconv.Itoa(m.within))
				args = append(args, m.flags...)
			}
			command := exec.CommandContext(t.Context(), "go", args...)
			command.Dir = root
			out, err := command.CombinedOutput()
			if err == nil {
				t.Fatalf("not found by %s", args)
			}
			found := finding.FindSubmatch(out)
			switch {
			case pkg != here && bytes.Contains(out, []byte("--- FAIL: ")):
				fmt.Fprintf(&table, "| %s | `%s` in `%s` | |\n", m.name, name, pkg)
			case found == nil:
				t.Fatalf("no rule was broken: %s", out)
			case m.test != "":
				fmt.Fprintf(&table, "| %s | `%s` | %s |\n", m.name, name, words(found[2]))
			default:
				fmt.Fprintf(&table, "| %s | schedule %s of %d | %s |\n", m.name, found[1], m.within, words(found[2]))
			}
		})
	}
	t.Logf("\n| mistake | found by | as |\n|---|---|---|\n%s", table.String())
}

// TestMutantsApply sees that the mistakes still fit the source, so that the long test does not find out late.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) { overlay(t, "../..", m.edits) })
	}
}

// words returns what was seen with single spaces.
func words(b []byte) string { return strings.Join(strings.Fields(string(b)), " ") }

// finding is what TestSchedules says of the first violation: its seed, which counts from 1, and what was seen.
var finding = regexp.MustCompile(`seed (\d+): rule broken at [0-9.]+ ms: (.{0,120})`)

// overlay writes changed copies of source files, and the file that go build reads them by.
func overlay(t *testing.T, root string, edits []edit) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		from := path
		if done, ok := replace[path]; ok {
			from = done
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), e.old); n != 1 {
			t.Fatalf("%s holds the text %d times, want once: %s", e.file, n, e.old)
		}
		changed := filepath.Join(dir, strings.ReplaceAll(e.file, "/", "_"))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = changed
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
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
