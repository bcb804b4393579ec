package state_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	bolt "go.etcd.io/bbolt"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// copied is what an import is given.
type copied struct {
	header ledger.Header
	kept   ledger.Height
	blocks [][]byte
	chunks []*ledger.StateChunk
}

// copyOf reads all that a store has, with the blocks from kept on in full.
func copyOf(t testing.TB, s *state.Store, kept ledger.Height) copied {
	t.Helper()
	p, err := s.Pin()
	if err != nil {
		t.Fatal(err)
	}
	all := copied{header: *p.Header(), kept: kept}
	_, all.chunks = chunked(t, p, func() {})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for h := range s.Head().Height() + 1 {
		payload, err := s.Payload(h, kept)
		if err != nil {
			t.Fatal(err)
		}
		all.blocks = append(all.blocks, payload)
	}
	return all
}

// into imports what was copied.
func (c *copied) into(dir string, o *state.Options) error {
	i, err := state.Import(dir, suite, &c.header, c.kept, o)
	if err != nil {
		return err
	}
	for _, b := range c.blocks {
		if _, err := i.Block(b, nil); err != nil {
			return errors.Join(err, i.Close())
		}
	}
	for _, chunk := range c.chunks {
		if err := i.Chunk(chunk); err != nil {
			return errors.Join(err, i.Close())
		}
	}
	return i.Finish()
}

// mustBePruned checks a store that lacks what the blocks below kept hold against one that has it.
func mustBePruned(t *testing.T, s, whole *state.Store, kept ledger.Height, model map[string]string) {
	t.Helper()
	if s.Kept() != kept {
		t.Fatalf("Kept() = %d, want %d", s.Kept(), kept)
	}
	mustHold(t, s.Head(), model)
	head := whole.Head().Height()
	header, err := whole.Header(head)
	if err != nil {
		t.Fatal(err)
	}
	for h := range head {
		b, err := s.Certified(h)
		want, wantErr := whole.Block(h)
		if err != nil || wantErr != nil || b.Header.Hash(suite) != want.Header.Hash(suite) || len(b.Txs) != 0 {
			t.Fatalf("Certified(%d) = %v, %v, %v", h, b, err, wantErr)
		}
		proof, err := s.ProveHistory(h, head)
		hash := want.Header.Hash(suite)
		if err == nil {
			err = proof.Verify(suite, header.HistoryRoot, hash[:])
		}
		if err != nil {
			t.Fatalf("ProveHistory(%d, %d): %v", h, head, err)
		}
		full, err := s.Block(h)
		_, receiptsErr := s.Receipts(h)
		_, changesErr := s.Changes(h)
		if h < kept {
			for _, err := range []error{err, receiptsErr, changesErr} {
				if !errors.Is(err, state.ErrPruned) {
					t.Fatalf("what block %d held, below block %d: %v, want ErrPruned", h, kept, err)
				}
			}
			continue
		}
		if err := errors.Join(err, receiptsErr, changesErr); err != nil || len(full.Txs) != len(want.Txs) {
			t.Fatalf("block %d: %v", h, err)
		}
		receipts, err := whole.Receipts(h)
		if err != nil {
			t.Fatal(err)
		}
		for i := range receipts {
			if at, index, found, err := s.FindTx(receipts[i].Tx); err != nil || !found || at != h || int(index) != i {
				t.Fatalf("FindTx of %d in block %d = %d, %d, %t, %v", i, h, at, index, found, err)
			}
		}
	}
}

func TestImport(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		o.SegmentBytes = 20_000
		s := open(t, dir+"/source", o)
		c := newChain(6)
		for range 50 {
			c.commit(t, s)
		}
		for _, kept := range []ledger.Height{0, 1, 30} {
			all := copyOf(t, s, kept)
			to := fmt.Sprintf("%s/kept-%d", dir, kept)
			if err := all.into(to, &o); err != nil {
				t.Fatalf("import with blocks from %d on: %v", kept, err)
			}
			copy := open(t, to, o)
			mustBePruned(t, copy, s, kept, c.model)
			if f, err := cmp.Or(o.FS, state.OS()).Open(to+"/base", false); (err == nil) != (kept > 0) {
				t.Errorf("the base of a store with blocks from %d on: %v", kept, err)
			} else if err == nil {
				f.Close()
			}
			model := c.model
			for range 20 { // it goes on like any store, also from its own files
				c.commit(t, copy)
			}
			if err := copy.Close(); err != nil {
				t.Fatal(err)
			}
			copy = open(t, to, o)
			mustHold(t, copy.Head(), c.model)
			c.model = model
			if err := copy.Close(); err != nil {
				t.Fatal(err)
			}
			if !o.Memory {
				if n, err := verify(t, to); n != 70 || err != nil {
					t.Errorf("Fsck of a store with blocks from %d on: %d blocks, %v", kept, n, err)
				}
			}
		}
		all := copyOf(t, s, 30)
		if err := all.into(dir+"/source", &o); !errors.Is(err, state.ErrLocked) {
			t.Errorf("import into a store that is open: %v, want ErrLocked", err)
		}
		if err := all.into(dir+"/kept-1", &o); !errors.Is(err, state.ErrStore) {
			t.Errorf("import into a store: %v, want ErrStore", err)
		}
		t.Run("a folder that is no store yet", func(t *testing.T) {
			to := dir + "/unfinished"
			some := all
			some.chunks = nil
			if err := some.into(to, &o); err == nil {
				t.Error("import without a state: no error")
			}
			if _, err := state.Open(to, suite, &o); !errors.Is(err, state.ErrImport) {
				t.Errorf("Open: %v, want ErrImport", err)
			}
			for _, err := range state.Fsck(to, suite, &o) {
				if !errors.Is(err, state.ErrImport) {
					t.Errorf("Fsck: %v, want ErrImport", err)
				}
			}
			c.commit(t, s)
			other := copyOf(t, s, 33) // a later one, with other blocks in full
			some = other
			some.blocks = some.blocks[:20]
			if err := some.into(to, &o); err == nil {
				t.Error("import of a part of something else: no error")
			}
			if err := other.into(to, &o); err != nil {
				t.Fatalf("import of something else: %v", err)
			}
			copy := open(t, to, o)
			mustBePruned(t, copy, s, 33, c.model)
			if err := copy.Close(); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("beside what is not of a store", func(t *testing.T) {
			to := dir + "/beside"
			files := cmp.Or(o.FS, state.OS())
			if err := files.MkdirAll(to); err != nil {
				t.Fatal(err)
			}
			f, err := files.Open(to+"/journal", true)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.Close(), all.into(to, &o)); err != nil {
				t.Errorf("import into a folder with a journal: %v", err)
			}
		})
		for n, tt := range []struct {
			name   string
			change func(c *copied)
		}{
			{"a block that does not follow", func(c *copied) { c.blocks = append(c.blocks[:7:7], c.blocks[8:]...) }},
			{"a block that is not in full", func(c *copied) { c.kept = 29 }},
			{"a block that is in full and should not be", func(c *copied) { c.kept = 31 }},
			{"a changed payload", func(c *copied) {
				c.blocks[35] = append([]byte(nil), c.blocks[35]...)
				c.blocks[35][len(c.blocks[35])-3] ^= 1
			}},
			{"the state of another block", func(c *copied) { c.header.StateRoot[0] ^= 1 }},
			{"a state without a block", func(c *copied) { c.blocks = c.blocks[:c.header.Order.Height] }},
			{"a changed value", func(c *copied) {
				chunk := *c.chunks[0]
				chunk.Entries = append([]ledger.StatePair(nil), chunk.Entries...)
				chunk.Entries[5].Value = []byte("other")
				c.chunks[0] = &chunk
			}},
			{"no state", func(c *copied) { c.chunks = nil }},
			{"the state after a block that is not in full", func(c *copied) { c.kept = c.header.Order.Height + 1 }},
			{"a version that no header covers", func(c *copied) {
				var b ledger.Block
				length, n := binary.Uvarint(c.blocks[7][1:])
				if err := ledger.Unmarshal(c.blocks[7][1+n:][:length], &b); err != nil {
					t.Fatal(err)
				}
				b.Version++
				raw, err := ledger.Marshal(&b)
				if err != nil {
					t.Fatal(err)
				}
				c.blocks[7] = append(append(binary.AppendUvarint([]byte{2}, uint64(len(raw))), raw...), 0)
			}},
			{"ids of transactions that nothing shows", func(c *copied) {
				rest := bytes.Clone(c.blocks[7])
				rest[len(rest)-1] = 1
				c.blocks[7] = append(rest, make([]byte, 32)...)
			}},
			{"a pruned block that something follows", func(c *copied) { c.blocks[7] = append(bytes.Clone(c.blocks[7]), 0) }},
		} {
			t.Run(tt.name, func(t *testing.T) {
				c := copied{all.header, all.kept, append([][]byte(nil), all.blocks...), append([]*ledger.StateChunk(nil), all.chunks...)}
				tt.change(&c)
				if err := c.into(fmt.Sprintf("%s/refused-%d", dir, n), &o); err == nil {
					t.Error("the import finished")
				}
			})
		}
	})
}

// onDisk says where the tables of a store are whose segments and base are on a disk that forgets: in memory, or in bbolt
// files, which forget nothing that was committed to them. A transaction there has few rows.
func onDisk(t *testing.T, name string, files bool, o *state.Options) (dir string) {
	o.Memory = !files
	if !files {
		return name
	}
	o.FlushBytes = 4 << 10
	return filepath.Join(t.TempDir(), name)
}

// importCuts stops the machine again and again while something is imported, until the import is through. It returns what
// contradicts the promise: that what is there either is the whole store, or says that it is none yet.
func importCuts(t *testing.T, seed uint64, s *state.Store, model map[string]string, files bool, hook memfs.Hook) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	all := copyOf(t, s, ledger.Height(rng.IntN(20)))
	disk := memfs.New()
	disk.SetHook(hook)
	o := state.Options{FS: disk, Synchronous: true, SegmentBytes: int64(1000 + rng.IntN(4000))}
	dir := onDisk(t, "copy", files, &o)
	for cuts := 0; ; cuts++ {
		disk.CrashAfter(1 + rng.IntN(10+5*cuts))
		err := all.into(dir, &o)
		crash(disk, rng)
		if err == nil && rng.IntN(2) == 0 { // the first Open is cut short too
			disk.CrashAfter(1 + rng.IntN(8))
			if s, err := state.Open(dir, suite, &o); err == nil {
				s.Close()
			}
			crash(disk, rng)
		}
		copy, opened := state.Open(dir, suite, &o)
		if opened == nil && copy.Head() != nil {
			mustBePruned(t, copy, s, all.kept, model)
			return copy.Close()
		}
		switch {
		case err == nil:
			return fmt.Errorf("the import finished, and Open says %w", opened)
		case !errors.Is(err, memfs.ErrCrashed):
			return fmt.Errorf("cut %d: %w", cuts, err)
		case opened == nil: // nothing had begun
			if err := copy.Close(); err != nil {
				return err
			}
			for _, name := range []string{"state.db", "index.db"} { // of a store without blocks
				if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
		case !errors.Is(opened, state.ErrImport):
			return fmt.Errorf("cut %d: Open: %w", cuts, opened)
		}
	}
}

// crash stops the machine, which forgets all that was not synced, or some of it.
func crash(disk *memfs.FS, rng *rand.Rand) {
	if rng.IntN(4) == 0 {
		disk.Crash(nil)
	} else {
		disk.Crash(rng)
	}
}

// TestPowerCutsOfImport repeats with the seeds of TestPowerCuts, and expects each kind of sync to be missed.
func TestPowerCutsOfImport(t *testing.T) {
	s := open(t, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true, Recent: 3, FlushBlocks: 2})
	c := newChain(8)
	c.keys = 60
	for range 25 {
		c.commit(t, s)
	}
	for seed := range *powerCutSeeds / 3 {
		if err := importCuts(t, seed, s, c.model, seed%8 == 0, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	cuts := func(seed uint64, hook memfs.Hook) error { return importCuts(t, seed, s, c.model, false, hook) }
	mustMiss(t, "of the base", memfs.OpSync, "base", cuts)
	mustMiss(t, "of a segment", memfs.OpSync, ".blocks", cuts)
	mustMiss(t, "of the folders", memfs.OpSyncDir, "", cuts)
}

// mustMiss ignores syncs of what has a name that ends in a certain way, and expects power cuts to notice.
func mustMiss(t *testing.T, what string, kind memfs.Op, end string, cuts func(seed uint64, hook memfs.Hook) error) {
	t.Run("without the sync "+what, func(t *testing.T) {
		for seed := range uint64(100) {
			err := cuts(seed, func(op memfs.Op, name string, _ int) error {
				if op == kind && strings.HasSuffix(name, end) {
					return memfs.ErrIgnore
				}
				return nil
			})
			if err != nil {
				t.Logf("seed %d: %v", seed, err)
				return
			}
		}
		t.Error("100 runs of power cuts did not notice that syncs are missing")
	})
}

// pruneCuts stops the machine while a store is pruned, twice. It returns what contradicts the promise: that afterwards the
// store is what it was, or what it was to be.
func pruneCuts(t *testing.T, seed uint64, files bool, hook memfs.Hook) error {
	rng := rand.New(rand.NewPCG(seed, 4))
	disk := memfs.New()
	o := state.Options{FS: disk, Synchronous: true, Recent: 3, FlushBlocks: 2, SegmentBytes: int64(1000 + rng.IntN(9000))}
	dir := onDisk(t, "group", files, &o)
	s := open(t, dir, o)
	c := newChain(seed)
	c.keys = 60
	for range 25 {
		c.commit(t, s)
	}
	if err := s.Close(); err != nil {
		return err
	}
	whole := o
	whole.FS, whole.Memory = disk.Clone(), true
	before := open(t, dir, whole)
	disk.SetHook(hook)
	kept := ledger.Height(0)
	for _, to := range []ledger.Height{ledger.Height(1 + rng.IntN(12)), 13 + ledger.Height(rng.IntN(12))} {
		for cuts := 0; kept != to; cuts++ {
			disk.CrashAfter(1 + rng.IntN(10+3*cuts))
			s, failed := state.Open(dir, suite, &o) // which may have to go on with it
			if failed == nil {
				failed = s.Prune(to)
				s.Close()
			}
			crash(disk, rng)
			s, err := state.Open(dir, suite, &o)
			if err != nil {
				return fmt.Errorf("cut %d: Open: %w", cuts, err)
			}
			if s.Kept() == to {
				kept = to
			} else if failed == nil || !errors.Is(failed, memfs.ErrCrashed) {
				return fmt.Errorf("cut %d: blocks from %d on are kept, not from %d: %w", cuts, s.Kept(), to, failed)
			}
			mustBePruned(t, s, before, kept, c.model)
			if err := s.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestPowerCutsOfPrune repeats with the seeds of TestPowerCuts, and expects each kind of sync to be missed.
func TestPowerCutsOfPrune(t *testing.T) {
	for seed := range *powerCutSeeds / 3 {
		if err := pruneCuts(t, seed, seed%8 == 0, nil); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	cuts := func(seed uint64, hook memfs.Hook) error { return pruneCuts(t, seed, false, hook) }
	mustMiss(t, "of the new base", memfs.OpSync, "base.new", cuts)
	mustMiss(t, "of a segment that was written anew", memfs.OpSync, ".blocks.new", cuts)
	mustMiss(t, "of the folders", memfs.OpSyncDir, "", cuts)
}

// TestPrune prunes a store, with its files, and takes them away one after the other.
func TestPrune(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		var notices []string
		o.Notice = func(text string) { notices = append(notices, text) }
		o.SegmentBytes = 8_000
		s, whole := open(t, dir+"/pruned", o), open(t, dir+"/whole", o)
		c, twin := newChain(9), newChain(9)
		var ids []ledger.TxID
		var earlier []byte // the base of the first time
		for h := range 60 {
			c.commit(t, s)
			twin.commit(t, whole)
			if h == 10 {
				receipts, err := s.Receipts(10)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, receipts[0].Tx)
			}
		}
		if err := s.Prune(61); !errors.Is(err, state.ErrNotFound) {
			t.Fatalf("Prune below a block that is not there: %v, want ErrNotFound", err)
		}
		if err := s.Prune(60); !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "the last block is 59") {
			t.Fatalf("Prune of the last block: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for n, kept := range []ledger.Height{20, 20, 5, 47} {
			if n == 1 && !o.Memory { // a row of a block that is pruned is known from what stays of it
				db, err := bolt.Open(filepath.Join(dir, "pruned", "index.db"), 0o600, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("txs")).Delete(ids[0][:]) }), db.Close()); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir+"/pruned", o)
				if found := scrub(s); len(found.errs) > 0 || len(found.mended) != 1 || !strings.Contains(found.mended[0], "1 rows of block 10 ") {
					t.Errorf("Scrub without the row of a transaction in block 10: %q, %v", found.mended, found.errs)
				}
				at, _, found, err := s.FindTx(ids[0])
				if err = errors.Join(err, s.Close()); err != nil || !found || at != 10 {
					t.Errorf("FindTx of a transaction of block 10, mended: %d, %t, %v", at, found, err)
				}
			}
			if kept == 47 && !o.Memory { // the table is at the head, and the index is made again
				if err := os.Remove(filepath.Join(dir, "pruned", "index.db")); err != nil {
					t.Fatal(err)
				}
			}
			s = open(t, dir+"/pruned", o)
			switch err := s.Prune(kept); {
			case kept < 20 && (!errors.Is(err, state.ErrPruned) || !strings.Contains(err.Error(), "the blocks from 20 on are here")):
				t.Fatalf("Prune of less than what was pruned before: %v, want ErrPruned", err)
			case kept >= 20 && err != nil:
				t.Fatalf("Prune(%d): %v", kept, err)
			}
			kept = max(kept, 20)
			mustBePruned(t, s, whole, kept, c.model)
			if found := scrub(s); len(found.errs)+len(found.mended) > 0 || len(found.heights) <= int(s.Head().Height())+1 {
				t.Errorf("Scrub of the pruned store read %d blocks and parts of the base, and found %q, %v", len(found.heights), found.mended, found.errs)
			}
			if kept == 20 && !o.Memory {
				var err error
				if earlier, err = os.ReadFile(filepath.Join(dir, "pruned", "base")); err != nil {
					t.Fatal(err)
				}
			}
			if at, _, found, err := s.FindTx(ids[0]); err != nil || !found || at != 10 {
				t.Errorf("FindTx of a transaction of block 10: %d, %t, %v", at, found, err)
			}
			for range 3 {
				c.commit(t, s)
				twin.commit(t, whole)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir+"/pruned", o)
			mustBePruned(t, s, whole, kept, c.model)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if len(notices) > 0 {
			t.Errorf("notices of nothing: %q", notices)
		}
		if o.Memory {
			return
		}
		if n, err := verify(t, dir+"/pruned"); n != 72 || err != nil {
			t.Errorf("Fsck: %d blocks, %v", n, err)
		}
		for _, lost := range [][]string{{"state.db"}, {"index.db"}, {"state.db", "index.db"}} {
			for _, name := range lost {
				if err := os.Remove(filepath.Join(dir, "pruned", name)); err != nil {
					t.Fatal(err)
				}
			}
			s = open(t, dir+"/pruned", o)
			mustBePruned(t, s, whole, 47, c.model)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "pruned", "base")
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// That it is lost is said at once, and not when the rest is lost as well.
		for _, index := range []bool{true, false} {
			for _, data := range [][]byte{nil, earlier} {
				if !index {
					if err := os.Remove(filepath.Join(dir, "pruned", "index.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
						t.Fatal(err)
					}
				}
				err := os.WriteFile(file, data, 0o600)
				if data == nil {
					err = os.Remove(file)
				}
				if err != nil {
					t.Fatal(err)
				}
				_, err = state.Open(dir+"/pruned", suite, &o)
				if bad, ok := errors.AsType[*state.BaseError](err); !ok || bad.File != file {
					t.Errorf("Open with %d bytes of an earlier base, and the index (%t): %v, want a BaseError that names it", len(data), index, err)
				}
				_, err = verify(t, dir+"/pruned")
				if bad, ok := errors.AsType[*state.BaseError](err); !ok || bad.File != file {
					t.Errorf("Fsck with %d bytes of an earlier base: %v, want a BaseError that names it", len(data), err)
				}
			}
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
		damages := []struct {
			name  string
			bytes func([]byte) []byte
		}{
			{"a changed byte", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
			{"a missing end", func(b []byte) []byte { return b[:len(b)-100] }},
			{"a changed beginning", func(b []byte) []byte { b[40] ^= 1; return b }},
			{"an empty file", func([]byte) []byte { return nil }},
		}
		s = open(t, dir+"/pruned", o)
		mustBePruned(t, s, whole, 47, c.model)
		for _, damage := range damages {
			if err := os.WriteFile(file, damage.bytes(bytes.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			found := scrub(s)
			if bad, ok := errors.AsType[*state.BaseError](errors.Join(found.errs...)); len(found.errs) != 1 || !ok || bad.File != file {
				t.Errorf("Scrub with %s in the base: %v, want a BaseError that names it", damage.name, found.errs)
			}
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(dir+"/further", os.DirFS(dir+"/pruned")); err != nil {
			t.Fatal(err)
		}
		further := open(t, dir+"/further", o)
		if err := errors.Join(further.Prune(60), further.Close()); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir+"/pruned", o)
		moved := dir + "/moved"
		if err := errors.Join(os.Rename(dir+"/pruned/blocks", moved), os.Rename(dir+"/further/blocks", dir+"/pruned/blocks")); err != nil {
			t.Fatal(err)
		}
		if found := scrub(s); len(found.errs) == 0 || !strings.Contains(found.errs[0].Error(), "block 47 ") || !strings.Contains(found.errs[0].Error(), "is pruned") {
			t.Errorf("Scrub of segments that were pruned further: %v", found.errs)
		}
		if err := errors.Join(os.RemoveAll(dir+"/pruned/blocks"), os.Rename(moved, dir+"/pruned/blocks"), s.Close()); err != nil {
			t.Fatal(err)
		}
		for _, damage := range damages {
			if err := os.WriteFile(file, damage.bytes(bytes.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "pruned", "state.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			_, err := state.Open(dir+"/pruned", suite, &o)
			if bad, ok := errors.AsType[*state.BaseError](err); !ok || bad.File != file {
				t.Errorf("Open with %s in the base: %v, want a BaseError that names it", damage.name, err)
			}
			if _, err := verify(t, dir+"/pruned"); err == nil {
				t.Errorf("Fsck with %s in the base finds nothing", damage.name)
			}
		}

		// Who takes blocks away and leaves the base is told of both, and what is to go as well.
		if err := errors.Join(os.WriteFile(file, good, 0o600), os.RemoveAll(dir+"/pruned/blocks")); err != nil {
			t.Fatal(err)
		}
		for _, index := range []bool{true, false} {
			if !index {
				if err := os.RemoveAll(filepath.Join(dir, "pruned", "index.db")); err != nil {
					t.Fatal(err)
				}
			}
			_, err := state.Open(dir+"/pruned", suite, &o)
			if err == nil || !strings.Contains(err.Error(), "move blocks, base, state.db and index.db of this folder away") {
				t.Errorf("Open without blocks: %v", err)
			}
			if bad, ok := errors.AsType[*state.BaseError](err); !index && (!ok || bad.File != file) {
				t.Errorf("Open with the base alone: %v, want a BaseError that names it", err)
			}
		}
	})
}

// TestImportBombs gives an import small payloads that unpack to a lot, and would to more if what they say of themselves were
// believed.
func TestImportBombs(t *testing.T) {
	s := open(t, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true})
	newChain(13).commit(t, s)
	genesis, err := s.Payload(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	length, used := binary.Uvarint(genesis[1:])
	block := genesis[1 : 1+used+int(length)]
	const size = 16 << 20
	const long, count = 30_000, 5_000
	changes := binary.AppendUvarint(append(bytes.Clone(block), 0), count)
	changes = append(binary.AppendUvarint(append(changes, 0), long+4), make([]byte, long+4+1)...)
	for n := uint32(1); n < count; n++ { // but for the last bytes the key is that of the one before
		changes = append(binary.AppendUvarint(changes, long), 4)
		changes = append(binary.BigEndian.AppendUint32(changes, n), 0)
	}
	for _, tt := range []struct {
		name  string
		plain []byte
		most  uint64 // bytes of memory, also of what is let go at once
	}{
		{"receipts of a byte", append(binary.AppendUvarint(bytes.Clone(block), size), make([]byte, size+1)...), 8 * size},
		{"long keys of few bytes", changes, count * 2000},
		{"a head that lies", nil, 1 << 20},
		{"a key of many bytes", append(binary.AppendUvarint(append(bytes.Clone(block), 0, 1, 0), size-1), make([]byte, size)...), 8 * size},
	} {
		t.Run(tt.name, func(t *testing.T) {
			zip, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			payload := zip.EncodeAll(tt.plain, []byte{1})
			if tt.plain == nil { // a head that says 1 GiB, and a block of no bytes
				payload = []byte{1, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0x3f, 1, 0, 0}
			}
			i, err := state.Import("copy", suite, s.Head().Header(), 0, &state.Options{FS: memfs.New()})
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = i.Block(payload, nil)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, state.ErrFault) {
				t.Errorf("Block: %v, want ErrFault", err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > tt.most {
				t.Errorf("it took %d bytes of memory for %d, packed into %d", took, len(tt.plain), len(payload))
			}
		})
	}
}

// TestPruneDiskFull prunes on a disk that lacks the space, at each of several sizes, and starts on it again.
func TestPruneDiskFull(t *testing.T) {
	disk := memfs.New()
	o := state.Options{FS: disk, Memory: true, Synchronous: true, Recent: 3, FlushBlocks: 2, SegmentBytes: 8000}
	s := open(t, "group", o)
	c := newChain(21)
	for range 40 {
		c.commit(t, s)
	}
	whole := o
	whole.FS = disk.Clone()
	before := open(t, "group", whole)
	used := disk.Used()
	full := 0
	for room := int64(100); room < 200_000; room += 500 {
		disk.SetLimit(used + room)
		if s.Kept() == 0 {
			if err := s.Prune(30); err != nil && !errors.Is(err, memfs.ErrFull) {
				t.Fatalf("Prune with room for %d bytes: %v", room, err)
			} else if err != nil {
				full++
			}
		}
		if err := s.Close(); err != nil && !errors.Is(err, memfs.ErrFull) {
			t.Fatal(err)
		}
		for _, folder := range []string{"group", "group/blocks"} {
			names, err := disk.ReadDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, ".new") }) {
				t.Errorf("with room for %d bytes, in %s are %q", room, folder, names)
			}
		}
		var err error
		if s, err = state.Open("group", suite, &o); err != nil {
			if !errors.Is(err, memfs.ErrFull) || !strings.Contains(err.Error(), "free space") {
				t.Errorf("Open with room for %d bytes: %v, want that it needs space", room, err)
			}
			disk.SetLimit(0)
			s = open(t, "group", o)
			mustBePruned(t, s, before, 30, c.model)
			return
		}
	}
	t.Errorf("the disk was full %d times, and never while a segment was written anew", full)
}

// TestOpenTidies: what a crash left of files that were to replace others is removed.
func TestOpenTidies(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, state.Options{})
	newChain(22).commit(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	left := []string{filepath.Join(dir, "base.new"), filepath.Join(dir, "blocks", "000000000000.blocks.new")}
	for _, name := range left {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, state.Options{})
	for _, name := range left {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

// TestLoadResumes stops the making of the state table from the base in the middle, and expects it to go on there.
func TestLoadResumes(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 3, Synchronous: true}
	s := open(t, t.TempDir(), o)
	c := newChain(11)
	c.commit(t, s)
	c.keys, c.txs = 2500, 1500
	for range 2 {
		c.commit(t, s)
	}
	c.txs = 3
	for range 6 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 1)
	if len(all.chunks) < 2 {
		t.Fatalf("%d chunks, want several", len(all.chunks))
	}
	dir := t.TempDir()
	if err := all.into(dir, &o); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "base")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(at int) []byte {
		data := bytes.Clone(good)
		data[at] ^= 1
		return data
	}
	o.FlushBytes = 1 // one transaction for each chunk
	for _, data := range [][]byte{damaged(len(good) - 9), damaged(len(good) - 8)} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := state.Open(dir, suite, &o); err == nil {
			t.Fatal("Open takes a base with a damaged end")
		}
	}
	if err := os.WriteFile(file, damaged(2000), 0o600); err != nil { // in the first chunk, which is not read again
		t.Fatal(err)
	}
	mustBePruned(t, open(t, dir, o), s, 1, c.model)
}

// TestImportDamagedBase takes base and table from a store that has all blocks: it needs neither.
func TestImportDamagedBase(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 3, Synchronous: true}
	s := open(t, t.TempDir(), o)
	c := newChain(10)
	for range 30 {
		c.commit(t, s)
	}
	all := copyOf(t, s, 0)
	dir := t.TempDir()
	if err := all.into(dir, &o); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "base")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-5] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var notices []string
	o.Notice = func(text string) { notices = append(notices, text) }
	copy := open(t, dir, o)
	mustBePruned(t, copy, s, 0, c.model)
	if len(notices) == 0 || !strings.Contains(notices[0], file) {
		t.Errorf("notices %q, want one that names %s", notices, file)
	}
}

// FuzzImporterBlock looks for a payload that breaks the importer, or fails with something else than a fault.
func FuzzImporterBlock(f *testing.F) {
	s := open(f, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true})
	c := newChain(13)
	for range 3 {
		c.commit(f, s)
	}
	header, err := s.Header(2)
	if err != nil {
		f.Fatal(err)
	}
	for h := range ledger.Height(3) {
		for _, kept := range []ledger.Height{0, 2} {
			payload, err := s.Payload(h, kept)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(payload, kept > 0)
		}
	}
	genesis, err := s.Payload(0, 0)
	if err != nil {
		f.Fatal(err)
	}
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(zip.EncodeAll(genesis[1:], []byte{1}), false) // which none is that is so small
	f.Fuzz(func(t *testing.T, payload []byte, pruned bool) {
		kept := ledger.Height(0)
		if pruned {
			kept = 2
		}
		i, err := state.Import("group", suite, header, kept, &state.Options{FS: memfs.New()})
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		b, err := i.Block(payload, nil)
		switch {
		case err != nil && !errors.Is(err, state.ErrFault):
			t.Errorf("%v is no fault", err)
		case err == nil && b.Header.Order.Height != 0:
			t.Errorf("block %d is taken for genesis", b.Header.Order.Height)
		}
	})
}
