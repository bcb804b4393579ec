package cli_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// mustRun runs a command that must succeed, and returns what it printed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	code, out := run(args...)
	if code != 0 {
		t.Fatalf("fondaco %s: exit code %d, %s", strings.Join(args, " "), code, out)
	}
	return out
}

// joined makes the folder of a node that has the genesis of another one and no data.
func joined(t *testing.T, of string) string {
	t.Helper()
	dir := t.TempDir()
	genesis, err := os.ReadFile(filepath.Join(of, cli.GenesisFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, cli.GenesisFile), genesis, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// item is an item of a bundle.
type item struct {
	kind uint8
	body []byte
}

func readBundle(t *testing.T, file, mark string) (items []item) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := bundle.NewReader(f, keystest.Suite(), mark, bundle.MaxItem)
	for err == nil {
		var i item
		if i.kind, i.body, err = r.Next(); err == nil {
			items = append(items, i)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return items
}

// writeBundle writes a bundle with the right digest, as somebody would who means it.
func writeBundle(t *testing.T, file, mark string, items []item) {
	t.Helper()
	var out bytes.Buffer
	w := bundle.NewWriter(&out, keystest.Suite(), mark)
	for _, i := range items {
		if err := w.Raw(i.kind, i.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	const last = 12
	writeHistory(t, dir, last)
	for _, tt := range []struct {
		name string
		keep []string
		from int
	}{
		{"all blocks", nil, 0},
		{"the last five blocks", []string{"--keep", "5"}, last - 4},
		{"fewer than hold transactions that may come again", []string{"--keep", "1"}, last - 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "backup")
			mustRun(t, append([]string{"backup", "create", "-d", dir, "--offline", "--out", file}, tt.keep...)...)
			want := fmt.Sprintf(`"blocks_from": %d,`, tt.from)
			if out := mustRun(t, "backup", "verify", file, "-d", dir, "-o", "json"); !strings.Contains(out, want) || !strings.Contains(out, fmt.Sprintf(`"height": %d,`, last)) {
				t.Errorf("verify says %s, want %s", out, want)
			}
			to := joined(t, dir)
			if out := mustRun(t, "backup", "restore", file, "-d", to); !strings.Contains(out, fmt.Sprintf("0 to %d, in full from %d on", last, tt.from)) {
				t.Errorf("restore says %s", out)
			}
			mustRun(t, "backup", "restore", file, "-d", to) // once more, as if the first time had been cut short
			out := mustRun(t, "verify", "-d", to, "-o", "json")
			if !strings.Contains(out, fmt.Sprintf(`"height": %d,`, last)) {
				t.Errorf("verify of what was restored: %s", out)
			}
			again := filepath.Join(t.TempDir(), "again")
			mustRun(t, "backup", "create", "-d", to, "--offline", "--out", again)
			mustRun(t, "backup", "verify", again, "-d", dir)
		})
	}
}

// TestRestoreAgain types restore again after it was cut short at several points, and over data that are not of the backup.
func TestRestoreAgain(t *testing.T) {
	dir := t.TempDir()
	writeHistory(t, dir, 6)
	early, late := filepath.Join(t.TempDir(), "early"), filepath.Join(t.TempDir(), "late")
	mustRun(t, "backup", "create", "-d", dir, "--offline", "--out", early)
	more := t.TempDir()
	writeHistory(t, more, 9)
	mustRun(t, "backup", "create", "-d", more, "--offline", "--out", late, "--keep", "4")
	whole, err := os.ReadFile(early)
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(part, whole[:len(whole)*3/4], 0o600); err != nil {
		t.Fatal(err)
	}
	to := joined(t, dir)
	data := filepath.Join(to, "data", "main")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "journal"), nil, 0o600); err != nil { // of a member that lost the rest
		t.Fatal(err)
	}
	if code, out := run("backup", "restore", part, "-d", to); code != cli.ExitInvalid || !strings.Contains(out, "breaks off") {
		t.Fatalf("half a backup: exit code %d, %s", code, out)
	}
	if code, out := run("verify", "-d", to); code != cli.ExitError || !strings.Contains(out, "type `fondaco backup restore` again") {
		t.Errorf("verify of half a restore: exit code %d, %s", code, out)
	}
	if code, out := run("backup", "restore", late, "-d", to, "--recovery", keys.Digest{1}.String()); code != cli.ExitError || !strings.Contains(out, "`fondaco recover apply` only") {
		t.Errorf("over a recovery with a journal: exit code %d, %s", code, out)
	}
	mustRun(t, "backup", "restore", late, "-d", to) // a newer one, which has not all in full
	for _, lost := range [][]string{{"state.db", "index.db"}, {"index.db"}} {
		for _, name := range lost {
			if err := os.Remove(filepath.Join(data, name)); err != nil {
				t.Fatal(err)
			}
		}
		if out := mustRun(t, "backup", "restore", late, "-d", to); !strings.Contains(out, "0 to 9, in full from 6 on") {
			t.Errorf("restore without %v: %s", lost, out)
		}
	}
	if code, out := run("backup", "restore", early, "-d", to); code != cli.ExitError || !strings.Contains(out, "has data: move blocks, base, state.db and index.db") {
		t.Errorf("restore over other data: exit code %d, %s", code, out)
	}
	if out := mustRun(t, "verify", "-d", to, "-o", "json"); !strings.Contains(out, `"height": 9,`) {
		t.Errorf("verify says %s", out)
	}
	if _, err := os.Stat(filepath.Join(data, "journal")); err != nil {
		t.Errorf("the journal: %v", err)
	}
	for _, mark := range []string{"replace", "replace.moving"} { // of a state that it fetched, and that would take the backup's place
		to := joined(t, dir)
		data := filepath.Join(to, "data", "main")
		if err := errors.Join(os.MkdirAll(data, 0o700), os.WriteFile(filepath.Join(data, mark), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if code, out := run("backup", "restore", early, "-d", to); code != cli.ExitError || !strings.Contains(out, "move replace, replace.moving and incoming in "+data+" away") {
			t.Errorf("restore beside %s: exit code %d, %s", mark, code, out)
		}
		if err := os.Remove(filepath.Join(data, mark)); err != nil {
			t.Fatal(err)
		}
		mustRun(t, "backup", "restore", early, "-d", to)
	}
	// Nothing but the genesis in the folder says which chain it is of.
	genesis, err := cli.ReadGenesis(filepath.Join(dir, cli.GenesisFile))
	if err != nil {
		t.Fatal(err)
	}
	genesis.Name = "another"
	other := t.TempDir()
	if err := cli.WriteGenesis(filepath.Join(other, cli.GenesisFile), genesis); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FONDACO_GENESIS", filepath.Join(dir, cli.GenesisFile))
	if code, out := run("backup", "restore", early, "-d", other); code != cli.ExitInvalid || !strings.Contains(out, "another chain") {
		t.Errorf("restore into the folder of another chain: exit code %d, %s", code, out)
	}
}

// TestBackupOfEpochs backs up and prunes a chain whose parameters changed twice.
func TestBackupOfEpochs(t *testing.T) {
	dir := t.TempDir()
	h := startHistory(t, dir)
	for range 2 {
		for range 12 {
			h.append(h.bind())
		}
		h.reform()
	}
	h.append(h.bind())
	h.close()
	const last = 29
	file := filepath.Join(t.TempDir(), "backup")
	for i := range 2 { // the second time of a node that was pruned
		mustRun(t, "backup", "create", "-d", dir, "--offline", "--out", file, "--keep", "3")
		out := mustRun(t, "backup", "verify", file, "-d", dir, "-o", "json")
		for _, want := range []string{`"epoch": 2`, fmt.Sprintf(`"height": %d,`, last), `"blocks_from": 20,`} { // by the lifetime of 10 s
			if !strings.Contains(out, want) {
				t.Errorf("round %d: verify says %s, want %s", i, out, want)
			}
		}
		to := joined(t, dir)
		mustRun(t, "backup", "restore", file, "-d", to)
		if out := mustRun(t, "verify", "-d", to, "-o", "json"); !strings.Contains(out, `"holds": true`) || !strings.Contains(out, fmt.Sprintf(`"executed_from": %d`, last+1)) {
			t.Errorf("round %d: verify of what was restored: %s", i, out)
		}
		mustRun(t, "export", "consensus", "-d", to, "--offline", "--out", file)
		mustRun(t, "verify", "--consensus", file, "-d", dir)
		mustRun(t, "prune", "-d", dir, "--keep", "3", "--yes")
	}
	mustRun(t, "backup", "create", "-d", dir, "--offline", "--out", file)
	const mark, epoch = "fondaco backup 1\n", 5
	items := readBundle(t, file, mark)
	at := slices.IndexFunc(items, func(i item) bool { return i.kind == epoch })
	for _, tt := range []struct {
		name   string
		change func() []item
	}{
		{"without an epoch", func() []item { return slices.Delete(slices.Clone(items), at, at+1) }},
		{"with another epoch", func() []item {
			var e ledger.Epoch
			if err := ledger.Unmarshal(items[at].body, &e); err != nil {
				t.Fatal(err)
			}
			e.Params.BatchDelay++
			changed := slices.Clone(items)
			changed[at].body = encoding(t, &e)
			return changed
		}},
	} {
		writeBundle(t, file, mark, tt.change())
		if code, out := run("backup", "verify", file, "-d", dir); code != cli.ExitInvalid || !strings.Contains(out, "epoch") {
			t.Errorf("%s: exit code %d, %s", tt.name, code, out)
		}
	}
}

// TestBackupChanged cuts and changes backups, also such that the digest at the end fits, and expects both commands to
// refuse them and no node's data to be made.
func TestBackupChanged(t *testing.T) {
	dir := t.TempDir()
	writeHistory(t, dir, 9)
	const mark = "fondaco backup 1\n"
	file := filepath.Join(t.TempDir(), "backup")
	mustRun(t, "backup", "create", "-d", dir, "--offline", "--out", file, "--keep", "4")
	intact, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(t *testing.T, what string) {
		t.Helper()
		to := joined(t, dir)
		for _, args := range [][]string{{"backup", "verify", file, "-d", dir}, {"backup", "restore", file, "-d", to}} {
			if code, out := run(args...); code != cli.ExitInvalid || !strings.Contains(out, what) {
				t.Fatalf("%s: exit code %d, %s; want %q", args[1], code, out, what)
			}
		}
		if s, err := state.Open(filepath.Join(to, "data", "main"), keystest.Suite(), nil); err == nil {
			defer s.Close()
			if s.Head() != nil {
				t.Fatal("what was refused became a node's data")
			}
		}
	}
	for at := 0; at < len(intact); at += 1 + len(intact)/23 {
		if err := os.WriteFile(file, intact[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, "is not a whole backup")
		changed := bytes.Clone(intact)
		changed[at] ^= 1
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, file)
	}
	if err := os.WriteFile(file, intact, 0o600); err != nil {
		t.Fatal(err)
	}
	items := readBundle(t, file, mark)
	const chunk, block = 3, 4
	blocks := slices.IndexFunc(items, func(i item) bool { return i.kind == block })
	// pruned returns an item of what stays of a block, as package state has it.
	pruned := func(b *ledger.Block) []byte {
		raw := encoding(t, b)
		return append(append(binary.AppendUvarint([]byte{2}, uint64(len(raw))), raw...), 0)
	}
	// kept makes it a backup with blocks in full from a height on, by whoever does not care what could come again.
	kept := func(items []item, height ledger.Height) []item {
		var start struct {
			_          struct{} `cbor:",toarray"`
			Header     ledger.Header
			Kept, Last ledger.Height
		}
		if err := ledger.Unmarshal(items[0].body, &start); err != nil {
			t.Fatal(err)
		}
		start.Kept = height
		items[0].body = encoding(t, &start)
		for h := range int(height) {
			if i := &items[blocks+h]; i.body[0] == 0 {
				b := parse(t, i.body[1:]).block
				i.body = pruned(&ledger.Block{Version: b.Version, Header: b.Header, Certificate: b.Certificate, NewView: b.NewView})
			}
		}
		return items
	}
	// certified changes what there is of a block that is not in full.
	certified := func(items []item, height int, change func(b *ledger.Block)) []item {
		i := &items[blocks+height]
		var b ledger.Block
		length, n := binary.Uvarint(i.body[1:])
		if err := ledger.Unmarshal(i.body[1+n:][:length], &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		i.body = pruned(&b)
		return items
	}
	for _, tt := range []struct {
		name   string
		change func(items []item) []item
		want   string
	}{
		{"a value of the state", func(items []item) []item {
			at := slices.IndexFunc(items, func(i item) bool { return i.kind == chunk })
			c, err := ledger.DecodeStateChunk(items[at].body)
			if err != nil {
				t.Fatal(err)
			}
			c.Entries[0].Value = append([]byte{1}, c.Entries[0].Value...)
			items[at].body = encoding(t, c)
			return items
		}, "another root"},
		{"no state", func(items []item) []item {
			return slices.DeleteFunc(items, func(i item) bool { return i.kind == chunk })
		}, "the state ends before"},
		{"a header without what it held", func(items []item) []item { items[blocks+3].body[100] ^= 1; return items }, "block "},
		{"what a block holds", func(items []item) []item { b := items[len(items)-1].body; b[len(b)-9] ^= 1; return items }, "block 9"},
		{"a missing block", func(items []item) []item { return slices.Delete(items, blocks+4, blocks+5) }, "block 4"},
		{"a missing end", func(items []item) []item { return items[:len(items)-1] }, "does not end with block 9"},
		{"a certificate", func(items []item) []item {
			i := &items[len(items)-2]
			b := parse(t, i.body[1:]).block
			at := bytes.Index(i.body, b.Certificate.Signatures[0])
			i.body[at+5] ^= 1
			return items
		}, "certificate does not verify"},
		{"no block of which transactions could come again", func(items []item) []item { return kept(items, 8) }, "can come again for 1000 ms"},
		{"the last block alone", func(items []item) []item { return kept(items, 9) }, "can come again for 1000 ms"},
		{"no block in full", func(items []item) []item { return kept(items, 10) }, "in full from 10 on"},
		{"a version, which no header covers", func(items []item) []item {
			return certified(items, 3, func(b *ledger.Block) { b.Version++ })
		}, "block 3: it is of version"},
		{"a certificate of genesis, which nobody certified", func(items []item) []item {
			return certified(items, 0, func(b *ledger.Block) { b.Certificate.Statement.View = 1 })
		}, "block 0 is not the one"},
		{"an item that nobody knows", func(items []item) []item { return append(items, item{99, nil}) }, "kind 99"},
		{"an epoch that did not begin", func(items []item) []item { return append(items, item{5, encoding(t, &ledger.Epoch{Number: 1})}) }, "epoch 1 is not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var copied []item
			for _, i := range items {
				copied = append(copied, item{i.kind, bytes.Clone(i.body)})
			}
			writeBundle(t, file, mark, tt.change(copied))
			refused(t, tt.want)
		})
	}
	t.Run("all blocks of which transactions could come again", func(t *testing.T) {
		var copied []item
		for _, i := range items {
			copied = append(copied, item{i.kind, bytes.Clone(i.body)})
		}
		writeBundle(t, file, mark, kept(copied, 7))
		mustRun(t, "backup", "verify", file, "-d", dir)
	})
	t.Run("another chain", func(t *testing.T) {
		writeBundle(t, file, mark, items)
		genesis, err := cli.ReadGenesis(filepath.Join(dir, cli.GenesisFile))
		if err != nil {
			t.Fatal(err)
		}
		genesis.Name = "another"
		other := filepath.Join(t.TempDir(), "other.json")
		if err := cli.WriteGenesis(other, genesis); err != nil {
			t.Fatal(err)
		}
		if code, out := run("backup", "verify", file, "--genesis", other); code != cli.ExitInvalid || !strings.Contains(out, "another chain") {
			t.Errorf("exit code %d, %s", code, out)
		}
	})
}

func TestExportImportBlocks(t *testing.T) {
	source, dir, short := t.TempDir(), t.TempDir(), t.TempDir()
	writeHistory(t, source, 12)
	writeHistory(t, dir, 4)
	writeHistory(t, short, 2)
	const mark = "fondaco blocks 1\n"
	file := filepath.Join(t.TempDir(), "blocks")
	if code, out := run("export", "blocks", "-d", source, "--offline", "--out", file, "--to", "13"); code != cli.ExitUsage || !strings.Contains(out, "want a range of blocks 1 to 12") {
		t.Fatalf("blocks that are not there: exit code %d, %s", code, out)
	}
	mustRun(t, "export", "blocks", "-d", source, "--offline", "--out", file, "--from", "4", "--to", "11")
	if code, out := run("import", "blocks", file, "-d", short); code != cli.ExitError || !strings.Contains(out, "import those between first") {
		t.Errorf("a gap: exit code %d, %s", code, out)
	}
	if out := mustRun(t, "import", "blocks", file, "-d", dir, "-o", "json"); !strings.Contains(out, `"stored": 7`) || !strings.Contains(out, `"compared": 1`) {
		t.Errorf("import says %s", out)
	}
	if out := mustRun(t, "import", "blocks", file, "-d", dir, "-o", "json"); !strings.Contains(out, `"stored": 0`) || !strings.Contains(out, `"compared": 8`) {
		t.Errorf("a second import says %s", out)
	}
	if out := mustRun(t, "verify", "-d", dir, "-o", "json"); !strings.Contains(out, `"height": 11,`) {
		t.Errorf("verify says %s", out)
	}
	mustRun(t, "export", "blocks", "-d", source, "--offline", "--out", file)
	intact, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, intact[:len(intact)-200], 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := run("import", "blocks", file, "-d", short); code != cli.ExitInvalid || !strings.Contains(out, "breaks off") || !strings.Contains(out, "blocks up to 11 are stored") {
		t.Errorf("a file that was cut: exit code %d, %s", code, out)
	}
	if err := os.WriteFile(file, intact, 0o600); err != nil {
		t.Fatal(err)
	}
	items := readBundle(t, file, mark)
	b, err := ledger.DecodeBlock(items[len(items)-1].body)
	if err != nil {
		t.Fatal(err)
	}
	b.Certificate.Signatures[0][3] ^= 1
	items[len(items)-1].body = encoding(t, b)
	writeBundle(t, file, mark, items)
	if code, out := run("import", "blocks", file, "-d", short); code != cli.ExitInvalid || !strings.Contains(out, "block 12") {
		t.Errorf("a forged certificate: exit code %d, %s", code, out)
	}
	genesis, err := cli.ReadGenesis(filepath.Join(source, cli.GenesisFile))
	if err != nil {
		t.Fatal(err)
	}
	statement := ledger.RecoverStatement(keystest.Suite(), &b.Header)
	signature, err := (&history{t: t, suite: keystest.Suite()}).key("member").Sign(statement.Digest(keystest.Suite(), genesis.Hash(keystest.Suite()), "main"))
	if err != nil {
		t.Fatal(err)
	}
	b.Certificate = ledger.NewCertificate([]ledger.Vote{{Statement: statement, Signature: signature}})
	items[len(items)-1].body = encoding(t, b)
	writeBundle(t, file, mark, items)
	if code, out := run("import", "blocks", file, "-d", short); code != cli.ExitInvalid || !strings.Contains(out, "`fondaco recover apply` it on this node") {
		t.Errorf("a recovery that was not applied: exit code %d, %s", code, out)
	}
	if code, out := run("import", "blocks", file, "-d", short, "--recovery", b.Header.Hash(keystest.Suite()).String()); code != cli.ExitUsage {
		t.Errorf("a recovery by the user's word alone: exit code %d, %s", code, out)
	}
	if err := os.WriteFile(file, intact, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := joined(t, source)
	for _, to := range []string{short, fresh} {
		mustRun(t, "import", "blocks", file, "-d", to)
		if out := mustRun(t, "verify", "-d", to, "-o", "json"); !strings.Contains(out, `"height": 12,`) {
			t.Errorf("verify says %s", out)
		}
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	const last = 20
	writeHistory(t, dir, last)
	if code, out := run("prune", "-d", dir); code != cli.ExitUsage || !strings.Contains(out, "--keep") {
		t.Fatalf("without a window: exit code %d, %s", code, out)
	}
	if out := mustRun(t, "prune", "-d", dir, "--keep", "6", "--yes", "-o", "json"); !strings.Contains(out, `"blocks_from": 15,`) {
		t.Fatalf("prune says %s", out)
	}
	if code, out := run("prune", "-d", dir, "--keep", "7", "--yes"); code != cli.ExitError || !strings.Contains(out, "only the blocks from 15 on in full, which are 6") {
		t.Errorf("a window of blocks that were pruned before: exit code %d, %s", code, out)
	}
	if out := mustRun(t, "prune", "-d", dir, "--keep", "6", "--yes"); !strings.Contains(out, "0 blocks") {
		t.Errorf("prune once more says %s", out)
	}
	if out := mustRun(t, "verify", "-d", dir, "-o", "json"); !strings.Contains(out, `"holds": true`) || !strings.Contains(out, `"executed_from": 21`) {
		t.Errorf("verify says %s", out)
	}
	file := filepath.Join(t.TempDir(), "file")
	if code, out := run("export", "blocks", "-d", dir, "--offline", "--out", file, "--from", "14"); code != cli.ExitError || !strings.Contains(out, "the blocks from 15 on are here") {
		t.Errorf("export of a pruned block: exit code %d, %s", code, out)
	}
	mustRun(t, "export", "blocks", "-d", dir, "--offline", "--out", file, "--from", "15")
	mustRun(t, "export", "consensus", "-d", dir, "--offline", "--out", file)
	mustRun(t, "verify", "--consensus", file, "-d", dir)
	mustRun(t, "backup", "create", "-d", dir, "--offline", "--out", file)
	to := joined(t, dir)
	mustRun(t, "backup", "restore", file, "-d", to)
	mustRun(t, "verify", "-d", to)
	if code, out := run("backup", "create", "-d", dir, "--offline", "--out", file, "--keep", "0"); code != cli.ExitUsage || !strings.Contains(out, "1 or more") {
		t.Errorf("a backup that keeps nothing: exit code %d, %s", code, out)
	}
	base := filepath.Join(dir, "data", "main", "base")
	changed, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	changed[len(changed)-5] ^= 1
	if err := os.WriteFile(base, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := run("verify", "-d", dir); code != cli.ExitInvalid || !strings.Contains(out, base) {
		t.Errorf("a damaged base: exit code %d, %s", code, out)
	}
	// A certificate below what is executed is checked too.
	s, err := state.Open(filepath.Join(to, "data", "main"), keystest.Suite(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Certified(7)
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(to, "data", "main", "blocks", "000000000000.blocks")
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, b.Certificate.Signatures[0])
	if at < 0 {
		t.Fatal("the signature is not in the file")
	}
	data[at+9] ^= 1
	fixFrames(data)
	if err := os.WriteFile(segment, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := run("verify", "-d", to); code != cli.ExitInvalid || !strings.Contains(out, "does not hold at block 7") {
		t.Errorf("a forged certificate: exit code %d, %s", code, out)
	}
}

// fixFrames makes the checksums of a segment's frames right.
func fixFrames(data []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for at := segmentHead; at < len(data); {
		end := at + frameHead + int(binary.BigEndian.Uint32(data[at+4:]))
		binary.BigEndian.PutUint32(data[at+16:], crc32.Checksum(data[at+frameHead:end], table))
		binary.BigEndian.PutUint32(data[at+20:], crc32.Checksum(data[at:at+20], table))
		at = end
	}
}

// TestOperator: the command line shows the operator's secret to the node of the folder, and to no other.
func TestOperator(t *testing.T) {
	var shown []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.Header.Get(client.OperatorHeader))
	}))
	defer server.Close()
	dir := t.TempDir()
	address := strings.TrimPrefix(server.URL, "http://")
	for name, content := range map[string]string{cli.ConfigFile: "[api]\nlisten = '" + address + "'\n", node.OperatorKey: "\x01\x02\xff"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "backup", "create", "-d", dir, "--out", filepath.Join(dir, "one"))
	mustRun(t, "backup", "create", "-d", dir, "--api", server.URL, "--out", filepath.Join(dir, "two"))
	if want := []string{"0102ff", ""}; !slices.Equal(shown, want) {
		t.Errorf("it showed %q, want %q", shown, want)
	}
}
