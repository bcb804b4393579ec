package state_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// chunked reads a pinned state, each chunk through its encoding and verified alone, and returns what is in it. meanwhile
// runs before each chunk.
func chunked(t testing.TB, p *state.Pinned, meanwhile func()) (world map[string]string, chunks []*ledger.StateChunk) {
	t.Helper()
	world = map[string]string{}
	root := p.Header().StateRoot
	var next keys.Digest
	more := true
	for c, err := range p.Chunks() {
		if err != nil {
			t.Fatalf("Chunks: %v", err)
		}
		raw, err := ledger.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = ledger.DecodeStateChunk(raw); err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(suite, root); err != nil {
			t.Fatalf("chunk %d at %s/%d: %v", len(chunks), c.Prefix, c.Depth, err)
		}
		if c.Prefix != next {
			t.Fatalf("chunk %d begins at %s, want %s", len(chunks), c.Prefix, next)
		}
		next, more = c.Next()
		for _, e := range c.Entries {
			world[string(e.Key)] = string(e.Value)
		}
		chunks = append(chunks, c)
		meanwhile()
	}
	if more {
		t.Fatal("the chunks end before the last path")
	}
	return world, chunks
}

// TestPin reads a state in chunks while blocks write over all of it, again and again.
func TestPin(t *testing.T) {
	modes(t, func(t *testing.T, dir string, o state.Options) {
		s := open(t, dir, o)
		c := newChain(5)
		if _, err := s.Pin(); !errors.Is(err, state.ErrNotFound) {
			t.Fatalf("Pin of an empty store: %v, want ErrNotFound", err)
		}
		c.commit(t, s)
		p, err := s.Pin()
		if err != nil {
			t.Fatalf("Pin of a young store: %v", err)
		}
		if world, _ := chunked(t, p, func() {}); p.Header().Order.Height != 0 || !maps.Equal(world, c.model) {
			t.Fatalf("height %d, %d keys, want 0 and %d", p.Header().Order.Height, len(world), len(c.model))
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		c.keys, c.txs = 2500, 1500
		models := []map[string]string{c.model}
		for range 2 {
			c.commit(t, s)
			models = append(models, c.model)
		}
		c.txs = 3
		for range 12 {
			c.commit(t, s)
			models = append(models, c.model)
		}
		for range 2 { // the second one begins from nothing
			if p, err = s.Pin(); err != nil {
				t.Fatalf("Pin: %v", err)
			}
			if _, err := s.Pin(); !errors.Is(err, state.ErrPinned) {
				t.Fatalf("a second Pin: %v, want ErrPinned", err)
			}
			h := p.Header().Order.Height
			if head := s.Head().Height(); h > head || head-h > 8 {
				t.Fatalf("the state pinned is after block %d, the head is at %d", h, head)
			}
			c.txs = 150
			world, chunks := chunked(t, p, func() {
				for range 4 { // they bring the table further
					c.commit(t, s)
					models = append(models, c.model)
				}
			})
			c.txs = 3
			if len(chunks) < 2 {
				t.Fatalf("%d chunks, want several", len(chunks))
			}
			if !maps.Equal(world, models[h]) {
				t.Fatalf("the chunks hold %d keys, and not the state after block %d with %d", len(world), h, len(models[h]))
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
		mustHold(t, s.Head(), c.model)
		if o.Memory {
			return
		}
		// What a process that died left of a pinned state is of no harm.
		if _, err = s.Pin(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			c.commit(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, o)
		if p, err = s.Pin(); err != nil {
			t.Fatal(err)
		}
		if world, _ := chunked(t, p, func() {}); !maps.Equal(world, c.model) {
			t.Fatal("after a restart the chunks do not hold the state")
		}
	})
}

// TestPinMeanwhile commits while the reader of a state has stopped, more than would fit into memory if flushes waited for it,
// and while what was kept for it is removed.
func TestPinMeanwhile(t *testing.T) {
	s := open(t, t.TempDir(), state.Options{Recent: 4, FlushBlocks: 3})
	c := newChain(14)
	c.commit(t, s)
	c.keys, c.txs = 2500, 1500
	for range 2 {
		c.commit(t, s)
	}
	c.txs = 120
	p, err := s.Pin()
	if err != nil {
		t.Fatal(err)
	}
	next, stop := iter.Pull2(p.Chunks())
	defer stop()
	if _, err, more := next(); err != nil || !more {
		t.Fatalf("the first chunk: %v", err)
	}
	for range 40 {
		c.commit(t, s)
	}
	stop()
	read := make(chan error)
	go func() {
		read <- func() error {
			for range 5 {
				if err := p.Close(); err != nil {
					return err
				}
				var err error
				if p, err = s.Pin(); err != nil {
					return err
				}
				for chunk, err := range p.Chunks() {
					if err == nil {
						err = chunk.Verify(suite, p.Header().StateRoot)
					}
					if err != nil {
						return err
					}
				}
			}
			return p.Close()
		}()
	}()
	for range 30 {
		c.commit(t, s)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	mustHold(t, s.Head(), c.model)
}

// TestReadersStall lets readers stop in the middle, as those at the end of a slow line do, while keys are written again and
// again: one of a pinned state, one of a range, two that read the disk again, the blocks and the state table, one of blocks. Commits, which flush here, go on,
// and the file gets no larger than for two rows of each key. A lock that a reader held would be waited for without end, and for
// a read transaction that stays open every version of every page be kept. BenchmarkReadersStall tells what commits take.
func TestReadersStall(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, state.Options{Recent: 4, FlushBlocks: 3, Synchronous: true})
	c := newChain(12)
	c.commit(t, s)
	c.keys, c.txs = 2500, 1500
	for range 2 {
		c.commit(t, s)
	}
	c.txs = 120
	grow := func() int64 {
		for range 15 {
			c.commit(t, s)
		}
		info, err := os.Stat(filepath.Join(dir, "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := grow()

	p, err := s.Pin()
	if err != nil {
		t.Fatal(err)
	}
	next, stop := iter.Pull2(p.Chunks())
	defer stop()
	entry, end := iter.Pull2(s.Head().Range(nil, nil, false))
	defer end()
	scrubbed, leave := iter.Pull2(s.Scrub())
	defer leave()
	row, quit := iter.Pull2(s.ScrubState())
	defer quit()
	block, last := iter.Pull2(s.Blocks(0, s.Head().Height()))
	defer last()
	_, failed, more := next()
	for range 3 {
		_, wrong, left := row()
		failed, more = errors.Join(failed, wrong), more && left
		_, bad, going := entry()
		failed, more = errors.Join(failed, bad), more && going
		for frame := false; !frame && failed == nil && more; {
			at, bad, going := scrubbed()
			failed, more, frame = errors.Join(failed, bad), more && going, !at.State
		}
		_, bad, going = block()
		failed, more = errors.Join(failed, bad), more && going
	}
	if failed != nil || !more {
		t.Fatalf("they are at their end at once, %v", failed)
	}
	once, twice := grow(), grow()

	count, blocks, frames := 1, 3, 3
	for c, err, more := next(); more; c, err, more = next() {
		if err == nil {
			err = c.Verify(suite, p.Header().StateRoot)
		}
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	for _, err, more := block(); more; _, err, more = block() {
		if err != nil {
			t.Fatal(err)
		}
		blocks++
	}
	for at, err, more := scrubbed(); more; at, err, more = scrubbed() {
		if err != nil || at.Mended != "" {
			t.Fatalf("%s, %v", at.Mended, err)
		}
		if !at.State {
			frames++
		}
	}
	pieces := 3
	for at, err, more := row(); more; at, err, more = row() {
		if err != nil || at.Mended != "" {
			t.Fatalf("the state table, which changed meanwhile: %s, %v", at.Mended, err)
		}
		pieces++
	}
	if count < 2 || blocks != 18 || frames != 18 || pieces < 5 {
		t.Errorf("%d chunks and %d parts of the table, want several; %d blocks by one and %d by the other, want 18", count, pieces, blocks, frames)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	after := grow()
	t.Logf("state.db has %d bytes; with readers that stall %d, then %d; without again %d; %d chunks", before, once, twice, after, count)
	if twice > 2*before {
		t.Errorf("state.db grew from %d to %d bytes while readers stalled", before, twice)
	}
}

// BenchmarkReadersStall commits blocks, of which every third flushes, alone and beside readers that stopped in the middle.
func BenchmarkReadersStall(b *testing.B) {
	for _, readers := range []int{0, 3} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			s := open(b, b.TempDir(), state.Options{Recent: 4, FlushBlocks: 3, Synchronous: true})
			c := newChain(12)
			c.commit(b, s)
			c.keys, c.txs = 2500, 1500
			for range 2 {
				c.commit(b, s)
			}
			c.txs = 120
			if readers > 0 {
				p, err := s.Pin()
				if err != nil {
					b.Fatal(err)
				}
				next, stop := iter.Pull2(p.Chunks())
				defer stop()
				entry, end := iter.Pull2(s.Head().Range(nil, nil, false))
				defer end()
				block, last := iter.Pull2(s.Blocks(0, s.Head().Height()))
				defer last()
				_, err1, more1 := next()
				_, err2, more2 := entry()
				_, err3, more3 := block()
				if err := errors.Join(err1, err2, err3); err != nil || !more1 || !more2 || !more3 {
					b.Fatalf("they are at their end at once, %v", err)
				}
			}
			for b.Loop() {
				b.StopTimer()
				block, next, model := c.next(b, s.Head())
				b.StartTimer()
				if err := s.Commit(block, next); err != nil {
					b.Fatal(err)
				}
				c.model = model
			}
		})
	}
}
