package state

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// failingKV takes some updates, and then fails.
type failingKV struct {
	kv
	left int
}

func (k *failingKV) update(f func(writer) error) error {
	if k.left--; k.left < 0 {
		return errFull
	}
	return k.kv.update(f)
}

// TestFlushInPieces ends a flush, which takes several transactions, after each of them. What is read does not change by it, and the
// next start finishes it.
func TestFlushInPieces(t *testing.T) {
	suite := keystest.Suite()
	for cut := range 12 {
		dir := t.TempDir()
		options := &Options{Synchronous: true, Recent: 2, FlushBytes: 1 << 12, FlushBlocks: 1 << 20, Notice: func(text string) { t.Errorf("cut %d: %s", cut, text) }}
		s, err := Open(dir, suite, options)
		if err != nil {
			t.Fatal(err)
		}
		model := map[string]string{}
		parent := Empty(suite)
		commit := func(changes []ledger.Change) {
			order := ledger.Order{Version: 1, Group: "main", TxRoot: ledger.Root(suite, nil), Height: ledger.Height(parent.blocks()), Parent: parent.OrderHash()}
			next, err := parent.Extend(&order, Result{Changes: changes})
			if err == nil {
				s.options.FlushBytes = 1 << 40 // only by hand
				err = s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				if delete(model, string(c.Key)); !c.Deleted {
					model[string(c.Key)] = string(c.Value)
				}
			}
			parent = s.Head()
		}
		for h := range 4 { // a third of the keys comes, a third goes, a third changes
			var changes []ledger.Change
			for i := range 90 {
				c := ledger.Change{Key: fmt.Appendf(nil, "key %03d", i+30*h), Value: make([]byte, 10+i%4*100)}
				if c.Value[3] = byte(h); i < 30 && h > 0 {
					c.Value, c.Deleted = nil, true
				}
				changes = append(changes, c)
			}
			commit(changes)
			if h == 1 {
				if err := s.flush(parent); err != nil {
					t.Fatal(err)
				}
			}
		}
		older, err := s.At(2)
		if err != nil {
			t.Fatal(err)
		}
		failing := &failingKV{kv: s.world.table.kv, left: cut}
		s.world.table.kv = failing
		err = s.flush(parent)
		if done := failing.left >= 0; done != (err == nil) || !done && !errors.Is(err, errFull) {
			t.Fatalf("cut %d: the flush ends with %v", cut, err)
		}
		hold := func(sn *Snapshot) {
			found := map[string]string{}
			for e, err := range sn.Range(nil, nil, false) {
				if err != nil {
					t.Fatalf("cut %d: %v", cut, err)
				}
				found[string(e.Key)] = string(e.Value)
				if v, ok, err := sn.Get(e.Key); err != nil || !ok || string(v) != string(e.Value) {
					t.Fatalf("cut %d: a read of %q gives %q, %t, %v", cut, e.Key, v, ok, err)
				}
			}
			if !maps.Equal(found, model) {
				t.Fatalf("cut %d: there are %d keys that are not the %d that were written", cut, len(found), len(model))
			}
		}
		hold(s.Head())
		if err := older.view(func(reader) error { return nil }); errors.Is(err, ErrPruned) != (cut > 0) {
			t.Errorf("cut %d: a read of the table for an older state: %v", cut, err)
		}
		root := s.Head().Root()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(dir, suite, options); err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		hold(s.Head())
		for at, err := range s.ScrubState() {
			if err != nil || at.Mended != "" {
				t.Errorf("cut %d: the scrubber finds %q, %v", cut, at.Mended, err)
			}
		}
		if s.Head().Root() != root {
			t.Errorf("cut %d: the root is another after a restart", cut)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if cut == 11 && failing.left < 0 {
			t.Error("the flush has more than 11 transactions: it was never whole")
		}
		if cut == 2 && failing.left >= 0 {
			t.Error("the flush has two transactions: it was never cut in the middle")
		}
	}
}

// hookedKV calls a hook when a transaction has begun and not read yet.
type hookedKV struct {
	kv
	hook func()
}

func (k *hookedKV) view(f func(reader) error) error {
	return k.kv.view(func(r reader) error {
		if k.hook != nil {
			k.hook()
		}
		return f(r)
	})
}

// TestExtendWhileFlushing brings the state table up to date between the moment when Extend begins to read it and the moment when
// it looks for the buckets that the flush took the leaves from.
func TestExtendWhileFlushing(t *testing.T) {
	suite := keystest.Suite()
	for workers := 1; workers <= 2; workers++ {
		s, err := Open(t.TempDir(), suite, &Options{Memory: true, Synchronous: true, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		const n = 600
		block := func(parent *Snapshot, value string) *Snapshot {
			order := ledger.Order{Version: 1, Group: "main", TxRoot: ledger.Root(suite, nil), Height: ledger.Height(parent.blocks()), Parent: parent.OrderHash()}
			changes := make([]ledger.Change, n)
			for i := range changes {
				changes[i] = ledger.Change{Key: fmt.Appendf(nil, "key %03d", i), Value: []byte(value)}
			}
			next, err := parent.Extend(&order, Result{Changes: changes})
			if err != nil {
				t.Fatal(err)
			}
			return next
		}
		parent := Empty(suite)
		for h := range 3 {
			next := block(parent, fmt.Sprintf("value %d", h))
			if err := s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next); err != nil {
				t.Fatal(err)
			}
			parent = s.Head()
			if h == 0 { // the next block's leaves are not those of the table, but as many
				if err := s.flush(parent); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := block(parent, "another").Root() // of leaves in memory
		var flush sync.Once
		var reads atomic.Int32
		table := s.world.table
		table.kv = &hookedKV{table.kv, func() {
			reads.Add(1)
			flush.Do(func() {
				if err := s.flush(parent); err != nil {
					t.Error(err)
				}
			})
		}}
		if got := block(parent, "another").Root(); got != want || int(reads.Load()) < workers+1 {
			t.Errorf("%d workers: the root is %s after %d transactions, want %s", workers, got, reads.Load(), want)
		}
	}
}
