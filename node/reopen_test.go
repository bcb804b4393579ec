package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport/simnet"
)

// TestReopen flips a bit in the state tables of two members of four that run, in the row of the account that then sends a transaction. No
// block can be made without one of the two. They open their data again, and take part in the next block, without anybody's help.
func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks(t, 4, simnet.Conditions{Latency: time.Millisecond})
		opens := make([]int, len(l.nodes))
		again := func(i int, reopened time.Time) error { // New, as `fondaco run` does it
			config := l.nodes[i].config
			conn, err := l.network.Listen(config.Listen)
			if err != nil {
				return err
			}
			config.Conn, config.Reopened = conn, reopened
			l.nodes[i], err = New(t.Context(), config)
			opens[i]++
			return err
		}
		run := func(ctx context.Context) (wait func()) {
			var running sync.WaitGroup
			for i := range l.nodes {
				running.Go(func() {
					err := l.nodes[i].Run(ctx)
					for errors.Is(err, ErrReopen) {
						if err = again(i, time.Now()); err == nil {
							err = l.nodes[i].Run(ctx)
						}
					}
					if err != nil {
						t.Errorf("node %d: %v", i, err)
					}
				})
			}
			time.Sleep(2 * time.Second) // they connect
			return running.Wait
		}
		ctx, stop := context.WithCancel(t.Context())
		wait := run(ctx)
		l.load(ctx, 50, time.Second)
		time.Sleep(time.Second)
		stop()
		wait()
		for i := range l.nodes { // so that the rows are in the tables, and not in memory
			if err := again(i, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop = context.WithCancel(t.Context())
		defer stop()
		wait = run(ctx)
		key := l.user.Public().Bytes()
		for i := range 2 {
			if n := flip(t, filepath.Join(l.nodes[i].groupDir(), "state.db"), key); n == 0 {
				t.Fatal("the account is not in the state table")
			}
			if aside := l.nodes[i].store.Aside(); len(aside) != 0 {
				t.Fatalf("before anybody reads it: %q", aside)
			}
		}
		sound := l.nodes[2]
		head := sound.store.Head().Height()
		results, err := sound.group.Submit(ctx, [][]byte{l.tx(1 << 20).Raw})
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
		for range 30 { // the scrubber begins later
			if time.Sleep(time.Second); sound.store.Head().Height() > head {
				break
			}
		}
		if sound.store.Head().Height() == head {
			t.Error("no block half a minute after the transaction")
		}
		time.Sleep(5 * time.Second) // all of them have it
		for i := range 2 {
			n := l.nodes[i]
			if n.store.Head().Hash() != sound.store.Head().Hash() || n.group.Status().Stopped != nil || n.checkDisk() != nil || opens[i] != 2 {
				t.Errorf("node %d was opened %d times, is at height %d of %d, stopped: %v; the disk: %v", i, opens[i]+1, n.store.Head().Height(), sound.store.Head().Height(), n.group.Status().Stopped, n.checkDisk())
			}
			if _, err := os.Stat(filepath.Join(n.groupDir(), "state.db.damaged")); err != nil {
				t.Error(err)
			}
			account := precompiles.AccountStateKey(ledger.NamedAddress(l.suite, "account", "user"))
			if row, found, err := n.store.Head().Get(account); err != nil || !found || !bytes.Contains(row, key) {
				t.Errorf("node %d has the account: %t, %v", i, found, err)
			}
		}
		stop()
		wait()
	})
}

// flip changes a bit in each place of a file that has some bytes, and returns how many there are.
func flip(t *testing.T, name string, what []byte) (places int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at := bytes.Index(data, what); at >= 0; at = bytes.Index(data, what) {
		data[at] ^= 4
		if _, err := file.WriteAt(data[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
		places++
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return places
}
