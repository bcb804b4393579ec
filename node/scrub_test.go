package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport/simnet"
)

// TestScrub damages a block of a node that runs alone, and restores it.
func TestScrub(t *testing.T) {
	dir := t.TempDir()
	suite := keystest.Suite()
	synctest.Test(t, func(t *testing.T) {
		store, err := state.Open(dir, suite, &state.Options{Synchronous: true})
		if err != nil {
			t.Fatal(err)
		}
		first, err := state.Empty(suite).Extend(&ledger.Order{Version: 1, Group: "main", TxRoot: ledger.Root(suite, nil)}, state.Result{})
		if err == nil {
			err = store.Commit(&ledger.Block{Version: 1, Header: *first.Header()}, first)
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "blocks", "000000000000.blocks")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write := func(data []byte) {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var logged bytes.Buffer
		n := &Node{store: store, log: zerolog.New(&logged)}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.scrub(ctx) }()
		pass := func(wait time.Duration) error {
			time.Sleep(wait + time.Second)
			synctest.Wait()
			return n.checkDisk()
		}
		if err := n.checkDisk(); err != nil {
			t.Errorf("before the first pass: %v", err)
		}
		if err := pass(scrubAfter); err != nil || !strings.Contains(logged.String(), "read all blocks again") {
			t.Errorf("a sound block: %v; logged %s", err, logged.String())
		}
		damaged := bytes.Clone(data)
		damaged[len(damaged)-5] ^= 8
		write(damaged)
		err = pass(scrubEvery)
		if bad, ok := errors.AsType[*state.SegmentError](err); !ok || bad.File != name || bad.Height != 0 {
			t.Errorf("a damaged block: %v", err)
		}
		if !strings.Contains(logged.String(), `"level":"error"`) {
			t.Errorf("logged %s", logged.String())
		}
		write(data)
		if err := pass(scrubEvery); err != nil {
			t.Errorf("the block restored: %v", err)
		}
		stop()
		if err := errors.Join(<-ended, store.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestPace reads chunks that take longer and longer, as they do where other work keeps the processors busy.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		for _, c := range []struct {
			bytes       int
			took, rests time.Duration
		}{
			{scrubChunk, 0, time.Second / 32},
			{2 * scrubChunk, time.Microsecond, time.Second / 16},
			{scrubChunk - 1, time.Hour, 0},
			{1, 0, time.Second / 4},
			{scrubChunk, 4 * time.Millisecond, 196 * time.Millisecond},
			{scrubChunk, time.Minute, time.Second / 4},
			{32 << 20, 0, 16 * time.Second}, // a block may be so large
			{32 << 20, time.Second, 49 * time.Second},
			{32 << 20, time.Minute, 128 * time.Second},
		} {
			time.Sleep(c.took)
			began := time.Now()
			if p.read(t.Context(), c.bytes); time.Since(began) != c.rests {
				t.Errorf("after %d bytes in %v it rests for %v, want %v", c.bytes, c.took, time.Since(began), c.rests)
			}
		}
	})
}

// TestScrubState damages the state table of a node with many more blocks than that. It is found while the blocks are still being read.
func TestScrubState(t *testing.T) {
	dir := t.TempDir()
	suite := keystest.Suite()
	synctest.Test(t, func(t *testing.T) {
		store, err := state.Open(dir, suite, &state.Options{Synchronous: true, Recent: 1, FlushBlocks: 1})
		if err != nil {
			t.Fatal(err)
		}
		rng, value := rand.NewChaCha8([32]byte{1}), make([]byte, 1<<20)
		for range 16 {
			if _, err := rng.Read(value); err != nil {
				t.Fatal(err)
			}
			parent := cmp.Or(store.Head(), state.Empty(suite))
			order := ledger.Order{Version: 1, Group: "main", TxRoot: ledger.Root(suite, nil)}
			if h := parent.Header(); h != nil {
				order.Height, order.Parent, order.UnixMilli = h.Order.Height+1, parent.OrderHash(), h.Order.UnixMilli+1
			}
			next, err := parent.Extend(&order, state.Result{Changes: []ledger.Change{{Key: []byte("the same"), Value: bytes.Clone(value)}}})
			if err == nil {
				err = store.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if store, err = state.Open(dir, suite, &state.Options{Synchronous: true}); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "state.db")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, value[:64])
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err == nil && at >= 0 {
			_, err = file.WriteAt([]byte{data[at+9] ^ 4}, int64(at)+9)
			err = errors.Join(err, file.Close())
		}
		if err != nil || at < 0 {
			t.Fatalf("the value is at %d, %v", at, err)
		}
		var logged LogText
		n := &Node{store: store, log: zerolog.New(&logged)}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- n.scrub(ctx) }()
		go func() { ended <- n.scrubState(ctx) }()
		time.Sleep(scrubAfter + 4*time.Second)
		synctest.Wait()
		if text := logged.String(); !strings.Contains(text, "state.db is damaged") || strings.Contains(text, "read all blocks again") {
			t.Errorf("after some seconds, when the blocks are not read yet, it logged %q", text)
		}
		if err := n.checkDisk(); err == nil || !strings.Contains(err.Error(), "state.db is damaged") {
			t.Errorf("the disk: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := logged.String(); !strings.Contains(text, "read all blocks again") || strings.Count(text, "state.db is damaged") != 1 {
			t.Errorf("after the pass it logged %q", text)
		}
		if err := n.awaitReopen(ctx); !errors.Is(err, ErrReopen) {
			t.Errorf("damage was found, and the node goes on: %v", err)
		}
		n.config.Reopened = time.Now().Add(-reopenEvery + 5*time.Second)
		if began := time.Now(); !errors.Is(n.awaitReopen(ctx), ErrReopen) || time.Since(began) < 4*time.Second {
			t.Errorf("opened again almost an hour ago, it is %v later", time.Since(began))
		}
		stop()
		if err := errors.Join(<-ended, <-ended, store.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(name + ".damaged"); err != nil {
			t.Error(err)
		}
		if store, err = state.Open(dir, suite, &state.Options{Synchronous: true}); err != nil {
			t.Fatal(err)
		}
		n.store = store
		if got, found, err := store.Head().Get([]byte("the same")); err != nil || !found || !bytes.Equal(got, value) || n.checkDisk() != nil {
			t.Errorf("opened again, the value is there: %t, %v; the disk: %v", found, err, n.checkDisk())
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestScrubArchive damages the archive of a node, and restores it.
func TestScrubArchive(t *testing.T) {
	dir := t.TempDir()
	suite := keystest.Suite()
	synctest.Test(t, func(t *testing.T) {
		store, err := state.Open(dir, suite, &state.Options{Synchronous: true, Archive: true})
		if err != nil {
			t.Fatal(err)
		}
		first, err := state.Empty(suite).Extend(&ledger.Order{Version: 1, Group: "main", TxRoot: ledger.Root(suite, nil)}, state.Result{})
		if err == nil {
			err = store.Commit(&ledger.Block{Version: 1, Header: *first.Header()}, first)
		}
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(filepath.Join(dir, "archive"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		flip := func() {
			var b [1]byte
			if _, err := file.ReadAt(b[:], 3*64<<10+5); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1
			if _, err := file.WriteAt(b[:], 3*64<<10+5); err != nil {
				t.Fatal(err)
			}
		}
		n := &Node{store: store, log: zerolog.Nop()}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- n.scrub(ctx) }()
		go func() { ended <- n.scrubArchive(ctx) }()
		for i, damaged := range []bool{false, true, false} {
			if i > 0 {
				flip()
			}
			time.Sleep(scrubEvery + time.Second)
			synctest.Wait()
			if err := n.checkDisk(); errors.Is(err, state.ErrArchive) != damaged || !damaged && err != nil {
				t.Errorf("damaged: %t; the disk: %v", damaged, err)
			}
		}
		if fault := n.fault.Load(); fault == nil || *fault != nil {
			t.Error("the blocks were not read, or take the archive's fault")
		}
		stop()
		if err := errors.Join(<-ended, <-ended, store.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestHeal flips a bit in the block file of a member of four, which finds it when the block is read, and fetches that from the others.
func TestHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks(t, 4, simnet.Conditions{Latency: time.Millisecond})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var running sync.WaitGroup
		for _, n := range l.nodes {
			running.Go(func() {
				if err := n.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Second) // they connect
		l.load(ctx, 50, time.Second)
		time.Sleep(time.Second)
		n := l.nodes[0]
		const h = 2
		payload, err := n.store.Payload(h, 0)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(n.groupDir(), "blocks", "000000000000.blocks")
		original, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(original)
		damaged[bytes.Index(original, payload)+len(payload)/2] ^= 4
		if err := os.WriteFile(name, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := n.store.Block(h); !errors.Is(err, state.ErrDamaged) {
			t.Errorf("the damaged block is read: %v", err)
		}
		time.Sleep(5 * time.Second)
		if damaged, healed := n.damage(); damaged != 0 || healed != 1 {
			t.Errorf("%d blocks are damaged, %d were healed", damaged, healed)
		}
		if healed, err := n.store.Block(h); err != nil {
			t.Error(err)
		} else if theirs, err := l.nodes[1].store.Block(h); err != nil || healed.Header.Hash(l.suite) != theirs.Header.Hash(l.suite) {
			t.Errorf("block %d is another, %v", h, err)
		}
		if err := n.checkDisk(); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	})
}
