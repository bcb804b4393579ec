package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

var suite = keystest.Suite()

// chain makes blocks of made-up transactions and knows what the world state must be.
type chain struct {
	rng   *rand.Rand
	model map[string]string // the world state after the last block
	txs   int               // per block
	keys  int               // key space
	extra []byte            // in the first transaction of a block
}

func newChain(seed uint64) *chain {
	return &chain{rng: rand.New(rand.NewPCG(seed, 1)), model: map[string]string{}, txs: 3, keys: 400}
}

func (c *chain) key() []byte {
	k := bytes.Repeat([]byte{byte(c.rng.IntN(3))}, ledger.AddressSize)
	return fmt.Appendf(k, "key %d", c.rng.IntN(c.keys))
}

// next returns a block on top of parent, its result and the world state after it.
func (c *chain) next(t testing.TB, parent *state.Snapshot) (*ledger.Block, *state.Snapshot, map[string]string) {
	t.Helper()
	model := maps.Clone(c.model)
	txs := c.txs
	order := ledger.Order{Version: ledger.Version, Group: "test", Proposer: 1, UnixMilli: 1}
	if h := parent.Header(); h != nil {
		order.Chain, order.Height, order.Parent = h.Order.Chain, h.Order.Height+1, parent.OrderHash()
		order.UnixMilli = h.Order.UnixMilli + 1
	} else {
		txs = 0
	}
	b := &ledger.Block{Version: ledger.Version}
	var r state.Result
	var leaves []keys.Digest
	for i := range txs {
		raw := fmt.Appendf(nil, "transaction %d of block %d: %d", i, order.Height, c.rng.Uint64())
		if i == 0 {
			raw = append(raw, c.extra...)
		}
		b.Txs = append(b.Txs, raw)
		leaves = append(leaves, keys.Hash(suite, "signed-tx", raw))
		order.TxBytes += uint64(len(raw))
		r.Receipts = append(r.Receipts, ledger.Receipt{
			Version: ledger.Version, Tx: ledger.TxID(suite.Sum(raw)), Index: uint32(i), Gas: 7, Data: raw[:5],
		})
	}
	order.TxCount, order.TxRoot = uint32(txs), ledger.Root(suite, leaves)
	changes := map[string]ledger.Change{}
	for range 4 * max(txs, 2) {
		k := c.key()
		change := ledger.Change{Key: k}
		switch c.rng.IntN(8) {
		case 0, 1:
			change.Deleted = true
			delete(model, string(k))
		case 2:
			change.Value = bytes.Repeat([]byte{byte(c.rng.Uint32())}, 250+c.rng.IntN(300))
		case 3:
			change.Value = []byte{}
		default:
			change.Value = fmt.Appendf(nil, "value %d", c.rng.Uint32())
		}
		if !change.Deleted {
			model[string(k)] = string(change.Value)
		}
		changes[string(k)] = change
	}
	for _, k := range slices.Sorted(maps.Keys(changes)) {
		r.Changes = append(r.Changes, changes[k])
	}
	r.GasUsed = ledger.Gas(7 * txs)
	next, err := parent.Extend(&order, r)
	if err != nil {
		t.Fatalf("Extend to height %d: %v", order.Height, err)
	}
	b.Header = *next.Header()
	return b, next, model
}

// commit makes and commits a block.
func (c *chain) commit(t testing.TB, s *state.Store) *ledger.Block {
	t.Helper()
	parent := s.Head()
	if parent == nil {
		parent = state.Empty(suite)
	}
	b, next, model := c.next(t, parent)
	if err := s.Commit(b, next); err != nil {
		t.Fatalf("Commit block %d: %v", b.Header.Order.Height, err)
	}
	c.model = model
	return b
}

func open(t testing.TB, dir string, o state.Options) *state.Store {
	t.Helper()
	s, err := state.Open(dir, suite, &o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// mustHold checks a world state, through gets, ranges and proofs, against what it must be.
func mustHold(t testing.TB, r *state.Snapshot, model map[string]string) {
	t.Helper()
	all := slices.Sorted(maps.Keys(model))
	for _, k := range all {
		v, found, err := r.Get([]byte(k))
		if err != nil || !found || string(v) != model[k] {
			t.Fatalf("height %d: Get(%q) = %q, %t, %v; want %q", r.Height(), k, v, found, err, model[k])
		}
	}
	if r.Len() != len(model) {
		t.Fatalf("height %d: Len() = %d, want %d", r.Height(), r.Len(), len(model))
	}
	var got []string
	for e, err := range r.Range(nil, nil, false) {
		if err != nil {
			t.Fatalf("height %d: Range: %v", r.Height(), err)
		}
		if string(e.Value) != model[string(e.Key)] {
			t.Fatalf("height %d: Range gives %q = %q, want %q", r.Height(), e.Key, e.Value, model[string(e.Key)])
		}
		got = append(got, string(e.Key))
	}
	if !slices.Equal(got, all) {
		t.Fatalf("height %d: Range gives %d keys, want %d", r.Height(), len(got), len(all))
	}
	if len(all) > 4 {
		start, end := all[len(all)/4], all[3*len(all)/4]
		got = got[:0]
		for e, err := range r.Range([]byte(start), []byte(end), true) {
			if err != nil {
				t.Fatalf("height %d: Range: %v", r.Height(), err)
			}
			got = append(got, string(e.Key))
		}
		want := slices.Clone(all[len(all)/4 : 3*len(all)/4])
		slices.Reverse(want)
		if !slices.Equal(got, want) {
			t.Fatalf("height %d: reverse Range from %q to %q gives %q, want %q", r.Height(), start, end, got, want)
		}
	}
	if want := naiveRoot(model); r.Root() != want {
		t.Fatalf("height %d: Root() = %s, want %s", r.Height(), r.Root(), want)
	}
}

// naiveRoot computes the state root from its definition.
func naiveRoot(model map[string]string) keys.Digest {
	type leaf struct{ path, digest keys.Digest }
	var leaves []leaf
	for k, v := range model {
		p := ledger.StatePath(suite, []byte(k))
		leaves = append(leaves, leaf{p, ledger.StateLeaf(suite, p, ledger.StateValue(suite, []byte(v)))})
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return bytes.Compare(a.path[:], b.path[:]) })
	var root func(leaves []leaf, depth int) keys.Digest
	root = func(leaves []leaf, depth int) keys.Digest {
		if len(leaves) <= ledger.StateBucketSize {
			var digests []keys.Digest
			for _, l := range leaves {
				digests = append(digests, l.digest)
			}
			return ledger.StateBucket(suite, digests)
		}
		var halves [2][]leaf
		for _, l := range leaves {
			b := ledger.StateBit(l.path, depth)
			halves[b] = append(halves[b], l)
		}
		return ledger.StateInner(suite, root(halves[0], depth+1), root(halves[1], depth+1))
	}
	return root(leaves, 0)
}

// modes are the ways to run a store.
func modes(t *testing.T, f func(t *testing.T, dir string, o state.Options)) {
	t.Run("files", func(t *testing.T) {
		f(t, t.TempDir(), state.Options{Recent: 4, FlushBlocks: 3})
	})
	t.Run("memory", func(t *testing.T) {
		f(t, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true, Recent: 4, FlushBlocks: 3})
	})
}

// TestOldest asks for the states around the oldest that is kept.
func TestOldest(t *testing.T) {
	s := open(t, "group", state.Options{FS: memfs.New(), Memory: true, Synchronous: true, Recent: 4, FlushBlocks: 3})
	if got := s.Oldest(); got != 0 {
		t.Errorf("before genesis the oldest state is after block %d", got)
	}
	c := newChain(11)
	for range 30 {
		c.commit(t, s)
	}
	oldest := s.Oldest()
	if kept := s.Head().Height() - oldest; kept < 4 || kept > 8 {
		t.Fatalf("the oldest state of 30 is after block %d", oldest)
	}
	for h := oldest; h <= s.Head().Height(); h++ {
		if sn, err := s.At(h); err != nil || sn.Height() != h {
			t.Errorf("state after block %d: %v", h, err)
		}
	}
	if _, err := s.At(oldest - 1); !errors.Is(err, state.ErrPruned) {
		t.Errorf("state after block %d: %v, want ErrPruned", oldest-1, err)
	}
}

func TestStoreCommit(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		s := open(t, dir, o)
		if s.Head() != nil {
			t.Fatal("a new store has a head")
		}
		c := newChain(1)
		var blocks []*ledger.Block
		var models []map[string]string
		for range 60 {
			blocks = append(blocks, c.commit(t, s))
			models = append(models, c.model)
			for back := range min(4, len(models)) {
				h := len(models) - 1 - back
				sn, err := s.At(ledger.Height(h))
				if err != nil {
					t.Fatalf("At(%d) with head %d: %v", h, len(models)-1, err)
				}
				mustHold(t, sn, models[h])
			}
		}
		said := map[int][]byte{} // the same from memory as from the disk
		check := func() {
			t.Helper()
			mustHold(t, s.Head(), c.model)
			for h, want := range blocks {
				got, err := s.Block(ledger.Height(h))
				if err != nil || got.Header.Hash(suite) != want.Header.Hash(suite) || len(got.Txs) != len(want.Txs) {
					t.Fatalf("Block(%d) = %v, %v", h, got, err)
				}
				receipts, err := s.Receipts(ledger.Height(h))
				if err != nil || len(receipts) != len(want.Txs) {
					t.Fatalf("Receipts(%d): %d, %v; want %d", h, len(receipts), err, len(want.Txs))
				}
				all, err := ledger.Marshal(receipts)
				if before, ok := said[h]; err != nil || ok && !bytes.Equal(all, before) {
					t.Fatalf("the receipts of block %d are %x, %v, and were %x", h, all, err, before)
				}
				said[h] = all
				for i := range receipts {
					at, index, found, err := s.FindTx(receipts[i].Tx)
					if err != nil || !found || at != ledger.Height(h) || index != uint32(i) {
						t.Fatalf("FindTx of %d in block %d = %d, %d, %t, %v", i, h, at, index, found, err)
					}
				}
				for at := h + 1; at < len(blocks); at += 7 {
					proof, err := s.ProveHistory(ledger.Height(h), ledger.Height(at))
					hash := want.Header.Hash(suite)
					if err == nil {
						err = proof.Verify(suite, blocks[at].Header.HistoryRoot, hash[:])
					}
					if err != nil {
						t.Fatalf("ProveHistory(%d, %d): %v", h, at, err)
					}
				}
			}
		}
		check()
		if _, err := s.At(0); !errors.Is(err, state.ErrPruned) {
			t.Errorf("At(0) with head 59: %v, want ErrPruned", err)
		}
		for range 3 {
			if err := s.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			s = open(t, dir, o)
			check()
			blocks = append(blocks, c.commit(t, s))
		}
		check()
	})
}

// TestLargeBlocks commits blocks that each hold more than is to stay in memory.
func TestLargeBlocks(t *testing.T) {
	for _, limit := range []int64{1, 2000, 20_000} {
		s := open(t, t.TempDir(), state.Options{FlushBytes: limit})
		c := newChain(3)
		for range 30 {
			c.commit(t, s)
			mustHold(t, s.Head(), c.model)
		}
	}
}
