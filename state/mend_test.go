package state

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

var errFull = errors.New("no space left")

// fullKV is tables on a disk that takes no more.
type fullKV struct{ kv }

func (fullKV) update(func(writer) error) error { return errFull }

// TestMendFails: rows of the index that cannot be written again are no reason to give the index up, nor to stop reading blocks.
func TestMendFails(t *testing.T) {
	suite := keystest.Suite()
	s, err := Open(t.TempDir(), suite, &Options{Memory: true, Synchronous: true, Recent: 1, FlushBlocks: 1})
	if err != nil {
		t.Fatal(err)
	}
	head := Empty(suite)
	for h := range ledger.Height(8) {
		order := ledger.Order{Version: 1, Group: "main", Height: h, TxRoot: ledger.Root(suite, nil)}
		if h > 0 {
			order.Parent, order.UnixMilli = head.OrderHash(), int64(h)
		}
		next, err := head.Extend(&order, Result{})
		if err == nil {
			err = s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next)
		}
		if err != nil {
			t.Fatal(err)
		}
		head = s.Head()
	}
	tables := s.index.kv
	if err := tables.update(func(w writer) error { return w.del(tableBlocks, binary.BigEndian.AppendUint64(nil, 2)) }); err != nil {
		t.Fatal(err)
	}
	pass := func() (blocks int, mended string, err error) {
		for at, bad := range s.Scrub() {
			err, mended = errors.Join(err, bad), mended+at.Mended
			if bad == nil && !at.State {
				blocks++
			}
		}
		return blocks, mended, err
	}
	s.index.kv = fullKV{tables}
	if blocks, mended, err := pass(); blocks != 8 || mended != "" || !errors.Is(err, errFull) {
		t.Errorf("with a full disk %d blocks are read, %q, %v", blocks, mended, err)
	}
	s.index.kv = tables
	for _, want := range []string{"the index was damaged: 1 rows of block 2 were written again", ""} {
		if blocks, mended, err := pass(); blocks != 8 || mended != want || err != nil {
			t.Errorf("with room %d blocks are read, %q, %v, want %q", blocks, mended, err, want)
		}
	}
}

// TestFlushFails: a store whose tables cannot be written takes nothing more until it is opened again.
func TestFlushFails(t *testing.T) {
	suite := keystest.Suite()
	for _, name := range []string{"index", "state"} {
		s, err := Open(t.TempDir(), suite, &Options{Memory: true, Synchronous: true, Recent: 1, FlushBlocks: 1})
		if err != nil {
			t.Fatal(err)
		}
		commit := func() error {
			order := ledger.Order{Version: 1, Group: "main", TxRoot: ledger.Root(suite, nil)}
			head := Empty(suite)
			if s.Head() != nil {
				head = s.Head()
				order.Height, order.Parent, order.UnixMilli = head.Height()+1, head.OrderHash(), head.Header().Order.UnixMilli+1
			}
			next, err := head.Extend(&order, Result{})
			if err != nil {
				t.Fatal(err)
			}
			return s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next)
		}
		for range 4 {
			if err := commit(); err != nil {
				t.Fatal(err)
			}
		}
		index, table := s.index.kv, s.world.table.kv
		if name == "index" {
			s.index.kv = fullKV{index}
		} else {
			s.world.table.kv = fullKV{table}
		}
		err = nil
		for range 4 {
			if err = commit(); err != nil {
				break
			}
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("%s: a flush that fails: %v", name, err)
		}
		s.index.kv, s.world.table.kv = index, table
		if err := commit(); !errors.Is(err, errFull) || !strings.Contains(err.Error(), "must be opened again") {
			t.Errorf("%s: a block after that: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
