package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// slow is a client of which nobody knows when it takes the next part.
type slow struct{ taking func() error }

func (s *slow) Write(data []byte) (int, error) { return len(data), s.taking() }

// grow commits a block to a store.
func grow(s *state.Store) error {
	head := s.Head()
	order := ledger.Order{
		Version: ledger.Version, Group: "main", Height: head.Height() + 1, Parent: head.OrderHash(), UnixMilli: int64(head.Height()) + 1,
		TxRoot: ledger.Root(s.Suite(), nil),
	}
	next, err := head.Extend(&order, state.Result{Changes: []ledger.Change{{Key: []byte("key 007"), Value: fmt.Append(nil, order.Height)}}})
	if err != nil {
		return err
	}
	return s.Commit(&ledger.Block{Version: ledger.Version, Header: *next.Header()}, next)
}

// TestSpool takes a backup so slowly that another one begins between any two parts, and a block is committed. None is refused for
// want of a pin, and none holds one or keeps a commit waiting.
func TestSpool(t *testing.T) {
	suite := keystest.Suite()
	genesis := &ledger.Genesis{Version: ledger.Version, Name: "spool", Group: "main", Params: ledger.DefaultParams()}
	s, err := state.Open("group", suite, &state.Options{FS: memfs.New(), Memory: true, Synchronous: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	order := ledger.Order{Version: ledger.Version, Group: "main", TxRoot: ledger.Root(suite, nil)}
	var changes []ledger.Change
	for i := range 300 {
		changes = append(changes, ledger.Change{Key: fmt.Appendf(nil, "key %03d", i), Value: bytes.Repeat([]byte{byte(i)}, 1000)})
	}
	first, err := state.Empty(suite).Extend(&order, state.Result{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(&ledger.Block{Version: ledger.Version, Header: *first.Header()}, first); err != nil {
		t.Fatal(err)
	}
	source := &backup.Source{Store: s, Genesis: genesis, Spool: t.TempDir()}
	parts := 0
	if err := backup.Create(t.Context(), &slow{func() error {
		parts++
		if s.Pinned() != 0 {
			return fmt.Errorf("a state is pinned while part %d is taken", parts)
		}
		p, err := s.Pin()
		if err == nil {
			err = errors.Join(p.Close(), grow(s)) // which waits for nobody who reads
		}
		return err
	}}, source, 0); err != nil {
		t.Fatal(err)
	}
	if parts < 3 {
		t.Errorf("it came in %d parts", parts)
	}
	var spooled, direct bytes.Buffer
	if err := backup.Create(t.Context(), &spooled, source, 0); err != nil {
		t.Fatal(err)
	}
	folder := source.Spool
	source.Spool = ""
	if err := backup.Create(t.Context(), &direct, source, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(spooled.Bytes(), direct.Bytes()) {
		t.Error("a backup by way of a file is another one")
	}
	broken := errors.New("gone")
	source.Spool = folder
	if err := backup.Create(t.Context(), &slow{func() error { return broken }}, source, 0); !errors.Is(err, broken) {
		t.Errorf("to a client that went away: %v", err)
	}
	if left, err := os.ReadDir(folder); s.Pinned() != 0 || err != nil || len(left) > 0 {
		t.Errorf("though nobody reads, a state is pinned: %t; of the copies %v are left, %v", s.Pinned() != 0, left, err)
	}
	// What somebody else has pinned is waited for, as long as the client does.
	held, err := s.Pin()
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- backup.Create(gone, io.Discard, source, 0) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("with a state pinned and no client: %v", err)
	}
	go func() { ended <- backup.Create(t.Context(), io.Discard, source, 0) }()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("with a state that is pinned no longer: %v", err)
	}
}
