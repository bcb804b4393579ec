package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// scrubbed is what a pass of ScrubState, Scrub and ScrubArchive found.
type scrubbed struct {
	heights []ledger.Height // of blocks, and parts of the base
	rows    int             // bytes of the state table
	mended  []string
	errs    []error
}

func scrub(s *state.Store) (found scrubbed) {
	pass := func(yield func(state.Scrubbed, error) bool) {
		s.ScrubState()(yield)
		s.Scrub()(yield)
		s.ScrubArchive()(yield) // no test stops before the end
	}
	for at, err := range pass {
		switch {
		case err != nil:
			found.errs = append(found.errs, err)
			continue
		case at.Mended != "":
			found.mended = append(found.mended, at.Mended)
		}
		if at.State {
			found.rows += at.Bytes
		} else {
			found.heights = append(found.heights, at.Height)
		}
	}
	return found
}

// consistent says what of the index is not what the blocks say, or nothing.
func consistent(s *state.Store) error {
	head := s.Head()
	for b, err := range s.Blocks(0, head.Height()) {
		if err != nil {
			return err
		}
		h, hash := b.Header.Order.Height, b.Header.Hash(suite)
		if got, err := s.BlockHash(h); err != nil || got != hash {
			return fmt.Errorf("the hash of block %d is %s, %w", h, got, err)
		}
		receipts, err := s.Receipts(h)
		if err != nil {
			return err
		}
		for i, r := range receipts {
			if at, index, found, err := s.FindTx(r.Tx); err != nil || !found || at != h || int(index) != i {
				return fmt.Errorf("transaction %d of block %d is found %t in block %d, %w", i, h, found, at, err)
			}
		}
		if h == head.Height() {
			break
		}
		proof, err := s.ProveHistory(h, head.Height())
		if err == nil {
			err = proof.Verify(suite, head.Header().HistoryRoot, hash[:])
		}
		if err != nil {
			return fmt.Errorf("block %d is not shown to be in the history: %w", h, err)
		}
	}
	return nil
}

// TestScrubIndex damages rows of the index. Lookups go wrong, and are right again after a pass.
func TestScrubIndex(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 8, Synchronous: true, SegmentBytes: 30_000}
	dir, _, head := grown(t, 31, 130, o)
	file := filepath.Join(dir, "index.db")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, o)
	receipts, err := s.Receipts(70)
	if err != nil {
		t.Fatal(err)
	}
	id := receipts[1].Tx
	if found := scrub(s); len(found.heights) != 130 || !slices.IsSorted(found.heights) || len(found.mended)+len(found.errs) > 0 {
		t.Fatalf("of a sound store: %+v", found)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	key := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	change := func(table string, key []byte, f func(value []byte) []byte) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(table))
			value := bytes.Clone(b.Get(key))
			if value == nil {
				return errors.New("there is no such row")
			}
			if value = f(value); value == nil {
				return b.Delete(key)
			}
			return b.Put(key, value)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(value []byte) []byte { value[at] ^= 4; return value }
	}
	for _, tt := range []struct {
		name   string
		damage func(*bolt.Tx) error
		opened bool // Open finds it, and makes the index again
	}{
		{"a transaction is lost", change("txs", id[:], func([]byte) []byte { return nil }), false},
		{"a transaction is in another block", change("txs", id[:], flip(0)), false},
		{"a block has another hash", change("blocks", key(5), flip(3)), false},
		{"a block is elsewhere", change("blocks", key(7), flip(39)), false},
		{"a block is lost", change("blocks", key(77), func([]byte) []byte { return nil }), false},
		{"the last block has another hash", change("blocks", key(129), flip(3)), true},
		{"the history is another", change("tiles", append([]byte{6}, key(1)...), flip(31)), true},
		{"the history is lost", change("tiles", append([]byte{6}, key(0)...), func([]byte) []byte { return nil }), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, original, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := bolt.Open(file, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(tt.damage), db.Close()); err != nil {
				t.Fatal(err)
			}
			var notices []string
			o := o
			o.Notice = func(text string) { notices = append(notices, text) }
			s := open(t, dir, o)
			if tt.opened != (len(notices) == 1) {
				t.Errorf("notices %q, expected: %t", notices, tt.opened)
			}
			wrong := consistent(s)
			lookups := !tt.opened && tt.name != "the history is lost" && tt.name != "a block is elsewhere" // it is computed then, or searched for
			if lookups != (wrong != nil) {
				t.Errorf("before the pass: %v", wrong)
			}
			if found := scrub(s); len(found.heights) != 130 || len(found.errs) > 0 || tt.opened != (len(found.mended) == 0) {
				t.Errorf("the pass found %q and %v in %d blocks", found.mended, found.errs, len(found.heights))
			}
			if err := consistent(s); err != nil {
				t.Errorf("after the pass: %v", err)
			}
			if found := scrub(s); len(found.mended)+len(found.errs) > 0 {
				t.Errorf("the next pass found %q and %v", found.mended, found.errs)
			}
			if s.Head().Hash() != head {
				t.Error("the head is another")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("behind a damaged block", func(t *testing.T) {
		if err := os.WriteFile(file, original, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bolt.Open(file, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Update(change("blocks", key(5), flip(3))), db.Close()); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, o)
		segment := filepath.Join(dir, "blocks", "000000000000.blocks")
		data, err := os.ReadFile(segment)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(data)
		damaged[100] ^= 1
		if err := os.WriteFile(segment, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := scrub(s); len(found.errs) != 1 || len(found.mended) != 1 || !strings.Contains(found.mended[0], "1 rows of block 5") {
			t.Errorf("the pass found %q and %v", found.mended, found.errs)
		}
		if err := os.WriteFile(segment, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := scrub(s); len(found.errs)+len(found.mended)+len(s.Damaged()) > 0 {
			t.Errorf("with the block restored it found %q and %v", found.mended, found.errs)
		}
		if err := errors.Join(consistent(s), s.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Run("keys are in another order", func(t *testing.T) {
		data := bytes.Clone(original)
		changed := 0
		for at := bytes.Index(data, id[:]); at >= 0; at = bytes.Index(data, id[:]) {
			data[at] ^= 0x80
			changed++
		}
		if err := os.WriteFile(file, data, 0o600); changed == 0 || err != nil {
			t.Fatalf("%d rows hold the transaction, %v", changed, err)
		}
		s := open(t, dir, o)
		found := scrub(s)
		if len(found.heights) != 130 || len(found.errs) > 0 || len(found.mended) != 1 || !strings.Contains(found.mended[0], "do not rise") {
			t.Errorf("the pass found %q and %v in %d blocks", found.mended, found.errs, len(found.heights))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = open(t, dir, o)
		if err := errors.Join(consistent(s), s.Close()); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	})
	t.Run("a page is damaged", func(t *testing.T) {
		data := bytes.Clone(original)
		const page = 4096
		pages := 0
		for at := 2 * page; at < len(data); at += page {
			if bytes.Contains(data[at:at+page], id[:]) {
				copy(data[at:at+page], bytes.Repeat([]byte{0xaa}, page))
				pages++
			}
		}
		if err := os.WriteFile(file, data, 0o600); pages == 0 || err != nil {
			t.Fatalf("%d pages hold the transaction, %v", pages, err)
		}
		s := open(t, dir, o)
		found := scrub(s)
		if len(found.heights) != 130 || len(found.errs) > 0 || len(found.mended) != 1 || !strings.Contains(found.mended[0], "made again from the blocks when") {
			t.Errorf("the pass found %q and %v in %d blocks", found.mended, found.errs, len(found.heights))
		}
		if again := scrub(s); len(again.heights) != 130 || len(again.errs) > 0 || !slices.Equal(again.mended, found.mended) {
			t.Errorf("the next pass found %q and %v in %d blocks", again.mended, again.errs, len(again.heights))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = open(t, dir, o)
		if err := consistent(s); err != nil || s.Head().Hash() != head {
			t.Errorf("after a restart: %v", err)
		}
	})
}

// TestScrubSegments damages segments while the store is open, and commits while it looks.
func TestScrubSegments(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000}
	dir, c, _ := grown(t, 32, 60, o)
	names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
	if err != nil || len(names) < 4 {
		t.Fatalf("%d segments, %v; want several", len(names), err)
	}
	s := open(t, dir, o)
	for at, err := range s.Scrub() {
		if err != nil || at.Mended != "" || at.Bytes < 100 && !at.State {
			t.Fatalf("%+v, %v", at, err)
		}
		if at.Height%20 == 0 {
			c.commit(t, s)
		}
	}
	for _, tt := range []struct {
		name   string
		apply  func(data []byte) []byte // nil: the file is removed
		reason string
	}{
		{"a byte in the middle is changed", func(d []byte) []byte { d[len(d)/2] ^= 1; return d }, "checksum"},
		{"it is cut", func(d []byte) []byte { return d[:len(d)-9] }, "ends within the frame"},
		{"it is gone", nil, "missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, err := os.ReadFile(names[1])
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.WriteFile(names[1], data, 0o600); err != nil {
					t.Fatal(err)
				}
			}()
			if tt.apply == nil {
				err = os.Remove(names[1])
			} else {
				err = os.WriteFile(names[1], tt.apply(bytes.Clone(data)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			found := scrub(s)
			if len(found.errs) != 1 || len(found.mended) > 0 {
				t.Fatalf("the pass found %v, %q", found.errs, found.mended)
			}
			bad, ok := errors.AsType[*state.SegmentError](found.errs[0])
			if !ok || bad.File != names[1] || !strings.Contains(bad.Reason, tt.reason) || slices.Contains(found.heights, bad.Height) {
				t.Errorf("the pass found %v, want %q about %s", found.errs[0], tt.reason, names[1])
			}
			if last := s.Head().Height(); found.heights[len(found.heights)-1] != last {
				t.Errorf("it ended with block %d, want %d", found.heights[len(found.heights)-1], last)
			}
		})
	}
	if found := scrub(s); len(found.errs)+len(found.mended) > 0 {
		t.Errorf("with the file restored it found %v, %q", found.errs, found.mended)
	}
	for _, name := range names[1:] { // the last one too, to which blocks are appended
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(data)
		damaged[2] ^= 1
		if err := os.WriteFile(name, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := scrub(s); len(found.errs) > 0 || len(found.mended) != 1 || !strings.Contains(found.mended[0], name+" did not begin as it must") {
			t.Errorf("with another beginning it found %v, %q", found.errs, found.mended)
		}
		if mended, err := os.ReadFile(name); err != nil || !bytes.Equal(mended, data) {
			t.Errorf("%s is another than it was: %v", name, err)
		}
		c.commit(t, s)
	}
}

// TestScrubDiskFull: a segment that could not be begun is not damaged.
func TestScrubDiskFull(t *testing.T) {
	disk := memfs.New()
	s := open(t, "group", state.Options{FS: disk, Memory: true, Synchronous: true, SegmentBytes: 1})
	c := newChain(33)
	for range 5 {
		c.commit(t, s)
	}
	disk.SetLimit(disk.Used() + 10)
	b, next, _ := c.next(t, s.Head())
	if err := s.Commit(b, next); !errors.Is(err, memfs.ErrFull) {
		t.Fatalf("Commit on a full disk: %v", err)
	}
	if found := scrub(s); len(found.heights) != 5 || len(found.errs)+len(found.mended) > 0 {
		t.Errorf("the pass read %d blocks, and found %v, %q", len(found.heights), found.errs, found.mended)
	}
}

// TestScrubState changes rows of the state table so that they have their checksums, and so passes a start: a read and a pass find it.
func TestScrubState(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true}
	dir, c, head := grown(t, 34, 40, o)
	file := filepath.Join(dir, "state.db")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, o)
	if found := scrub(s); found.rows < 60*len(c.model) || len(found.mended)+len(found.errs) > 0 {
		t.Fatalf("of a sound store: %+v", found)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		long, pinned := i%2 == 1, i > 1
		t.Run(fmt.Sprintf("a value is another: long %t, in a pinned state %t", long, pinned), func(t *testing.T) {
			if err := os.WriteFile(file, original, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := bolt.Open(file, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			var key string
			for k, v := range c.model {
				if len(v) > 0 && len(v) < 200 && !long || len(v) > 257 && long {
					key = max(key, k)
				}
			}
			path := ledger.StatePath(suite, []byte(key))
			err = db.Update(func(tx *bolt.Tx) error {
				rows, values := tx.Bucket([]byte("S")), tx.Bucket([]byte("V"))
				row, value := bytes.Clone(rows.Get(path[:])), bytes.Clone(values.Get(path[:]))
				if long {
					value[7] ^= 1
				} else {
					row[len(row)-1] ^= 1
				}
				sum := crc32.Checksum(slices.Concat(path[:], row[4:], value), crc32.MakeTable(crc32.Castagnoli))
				binary.BigEndian.PutUint32(row, sum)
				if long {
					err = values.Put(path[:], value)
				}
				return errors.Join(err, rows.Put(path[:], row))
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			o := o
			o.Notice = func(text string) { t.Errorf("the start noticed %q: this tests nothing", text) }
			s := open(t, dir, o)
			if pinned {
				p := must(s.Pin())
				last := error(nil)
				for _, err := range p.Chunks() {
					last = err
				}
				if err := p.Close(); last == nil || err != nil {
					t.Errorf("its chunks end with %v, and Close gives %v", last, err)
				}
			} else if value, _, err := s.Head().Get([]byte(key)); err == nil {
				t.Errorf("a read gives %q, want an error", value)
			}
			if told := s.Aside(); len(told) != 1 {
				t.Errorf("the store tells of %q", told)
			}
			found := scrub(s)
			if len(found.errs) > 0 || len(found.mended) != 1 || !strings.Contains(found.mended[0], "state.db is damaged") {
				t.Fatalf("the pass found %q and %v", found.mended, found.errs)
			}
			if again := scrub(s); !slices.Equal(again.mended, found.mended) {
				t.Errorf("the next pass found %q", again.mended)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, o)
			mustHold(t, s.Head(), c.model)
			if again := scrub(s); s.Head().Hash() != head || len(again.mended)+len(again.errs) > 0 {
				t.Errorf("after a restart it found %q and %v", again.mended, again.errs)
			}
		})
	}
}

// TestScrubStateFlips flips a bit of the state table's file while the store is open. A pass finds it, or it means nothing.
func TestScrubStateFlips(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true}
	dir, c, head := grown(t, 35, 40, o)
	file := filepath.Join(dir, "state.db")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	size := len(bytes.TrimRight(original, "\x00")) // bbolt lets files grow ahead of their use
	rng := rand.New(rand.NewPCG(35, 1))
	found := 0
	for range 30 {
		if err := os.WriteFile(file, original, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, o)
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(rng.IntN(size))
		_, err = f.WriteAt([]byte{original[at] ^ 1<<rng.IntN(8)}, at)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		pass := scrub(s)
		if len(pass.errs) > 0 {
			t.Errorf("a bit of byte %d: %v", at, pass.errs)
		}
		if len(pass.mended) > 0 {
			found++
		} else {
			mustHold(t, s.Head(), c.model)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, o)
		mustHold(t, s.Head(), c.model)
		if err := s.Close(); err != nil || s.Head().Hash() != head {
			t.Fatalf("after a restart: block %s, %v", s.Head().Hash(), err)
		}
	}
	if found < 5 {
		t.Errorf("%d of 30 flips were found: the passes see too little", found)
	}
}

// counting counts the hashes that a suite makes.
type counting struct {
	keys.Suite
	sums atomic.Int64
}

func (c *counting) Sum(parts ...[]byte) keys.Digest {
	c.sums.Add(1)
	return c.Suite.Sum(parts...)
}

// TestOpenHashes counts what makes a start slow where there are many keys: a node of the tree is hashed for several, a key is not.
func TestOpenHashes(t *testing.T) {
	const n = 4000
	dir := t.TempDir()
	s := open(t, dir, state.Options{Synchronous: true})
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("key %d", i), "value")
	}
	sn := grow(t, state.Empty(suite), written(t, pairs...))
	if err := s.Commit(&ledger.Block{Version: 1, Header: *sn.Header()}, sn); err != nil {
		t.Fatal(err)
	}
	sn = grow(t, s.Head(), nil)
	if err := errors.Join(s.Commit(&ledger.Block{Version: 1, Header: *sn.Header()}, sn), s.Close()); err != nil {
		t.Fatal(err)
	}
	counter := &counting{Suite: suite}
	s, err := state.Open(dir, counter, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if sums := counter.sums.Load(); s.Head().Len() != n || sums > n/3 {
		t.Errorf("the start with %d keys made %d hashes, want one for three keys at most", s.Head().Len(), sums)
	}
}
