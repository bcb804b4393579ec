package state

import (
	"encoding/binary"
	"errors"
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
