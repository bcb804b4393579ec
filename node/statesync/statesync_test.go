package statesync_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/statesync"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

var suite = keystest.Suite()

// shelf is a shelf over a store that a test adds blocks to, and the time in Unix ms.
type shelf struct {
	*statesync.Shelf
	t     *testing.T
	files *memfs.FS
	store *state.Store
	now   int64
	room  int64 // 0: nobody knows
	epoch error // why epochs cannot be read
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{t: t, files: memfs.New(), now: 1_000_000}
	var err error
	if s.store, err = state.Open("group", suite, &state.Options{FS: s.files, Memory: true, Synchronous: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	s.open()
	return s
}

func (s *shelf) open() {
	s.t.Helper()
	params := ledger.DefaultParams()
	params.MaxLifetime = 500
	source := &backup.Source{
		Store: s.store, Genesis: &ledger.Genesis{Version: ledger.Version, Name: "shelf", Group: "main", Params: params},
		Epoch: func(uint64) (ledger.Epoch, ledger.Height, error) { return ledger.Epoch{}, 0, s.epoch },
	}
	var err error
	s.Shelf, err = statesync.NewShelf(statesync.Config{Source: source, FS: s.files, Dir: "group", Room: func() (int64, bool) { return s.room, s.room > 0 }})
	if err != nil {
		s.t.Fatal(err)
	}
}

// grow adds blocks, of 100 ms each, up to a height.
func (s *shelf) grow(to ledger.Height) {
	s.t.Helper()
	for {
		parent := s.store.Head()
		order := ledger.Order{Version: ledger.Version, Group: "main", TxRoot: ledger.Root(suite, nil)}
		if parent == nil {
			parent = state.Empty(suite)
		} else if h := parent.Header(); h.Order.Height >= to {
			return
		} else {
			order.Height, order.Parent, order.UnixMilli = h.Order.Height+1, parent.OrderHash(), h.Order.UnixMilli+100
		}
		changes := []ledger.Change{{Key: []byte("height"), Value: fmt.Append(nil, order.Height)}}
		for i := 0; i < 39 && order.Height == 1; i++ {
			changes = append(changes, ledger.Change{Key: fmt.Appendf(nil, "key %02d", i), Value: bytes.Repeat([]byte{byte(i)}, 120_000)})
		}
		next, err := parent.Extend(&order, state.Result{Changes: changes})
		if err == nil {
			err = s.store.Commit(&ledger.Block{Version: ledger.Version, Header: *next.Header()}, next)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// ask answers a request, and makes what is to be made.
func (s *shelf) ask(r statesync.Request) *statesync.Reply {
	s.t.Helper()
	reply, err := s.try(r)
	if err != nil {
		s.t.Fatalf("%+v: %v", r, err)
	}
	return reply
}

func (s *shelf) try(r statesync.Request) (*statesync.Reply, error) {
	s.t.Helper()
	r.Bytes = statesync.MaxReply
	raw, err := ledger.Marshal(&r)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, make, err := s.Serve(s.now, raw)
	if err != nil {
		return nil, err
	}
	reply, err := statesync.DecodeReply(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	if make != nil {
		if reply.Wait == 0 {
			s.t.Error("an offer is made, and nobody is told to wait for it")
		}
		if _, again, err := s.Serve(s.now, raw); again != nil {
			s.t.Errorf("two are made at once, %v", err)
		}
		err = make()
	}
	return reply, err
}

func (s *shelf) heights() (offered []ledger.Height) {
	s.t.Helper()
	for _, o := range s.ask(statesync.Request{What: statesync.Chunk, Height: 1 << 40}).Offers {
		offered = append(offered, o.Height)
	}
	return offered
}

func (s *shelf) copies() (names []string) {
	s.t.Helper()
	all, err := s.files.ReadDir("group")
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, "offer-") })
}

// TestShelf takes a state and its blocks by the parts, while more blocks are committed.
func TestShelf(t *testing.T) {
	s := newShelf(t)
	s.grow(0)
	if s.ask(statesync.Request{What: statesync.Offers}); s.heights() != nil {
		t.Error("a chain without blocks has a state to offer")
	}
	s.grow(70)
	s.ask(statesync.Request{What: statesync.Offers})
	reply := s.ask(statesync.Request{What: statesync.Offers})
	if len(reply.Offers) != 1 || reply.Offers[0].Height != 48 || reply.Wait != 0 { // a multiple of 16, so that others have the same
		t.Fatalf("at height 70 it offers %+v", reply.Offers)
	}
	o := reply.Offers[0]
	hash, err := s.store.BlockHash(48)
	if err != nil || o.Block != hash || o.Kept != 44 { // transactions of five blocks can come again
		t.Errorf("the offer is %+v, %v; want block %s, in full from 44 on", o, err, hash)
	}
	if s.store.Pinned() != 0 {
		t.Error("a state is pinned though its copy is there")
	}
	s.grow(90)
	header, err := s.store.Header(48)
	if err != nil {
		t.Fatal(err)
	}
	whole := func(r statesync.Request) (item []byte, parts int) {
		t.Helper()
		for {
			reply := s.ask(r)
			if len(reply.Items) != 1 || len(reply.Items[0]) == 0 {
				t.Fatalf("%+v: %d items", r, len(reply.Items))
			}
			item = append(item, reply.Items[0]...)
			parts++
			if r.Offset = uint64(len(item)); r.Offset == reply.Size {
				return item, parts
			}
		}
	}
	found, most := 0, 0
	for path, more := (keys.Digest{}), true; more; {
		inside := path
		inside[31] ^= 1 // any path in it will do
		raw, parts := whole(statesync.Request{What: statesync.Chunk, Height: 48, Path: inside})
		c, err := ledger.DecodeStateChunk(raw)
		if err == nil {
			err = c.Verify(suite, header.StateRoot)
		}
		if err != nil || c.Prefix != path {
			t.Fatalf("the chunk at %s begins at %s: %v", path, c.Prefix, err)
		}
		found, most = found+len(c.Entries), max(most, parts)
		path, more = c.Next()
	}
	if found != 40 || most == 1 {
		t.Errorf("%d keys of 40, in %d parts at most: want a chunk that takes two", found, most)
	}
	for from := ledger.Height(0); from <= 48; {
		reply := s.ask(statesync.Request{What: statesync.Blocks, Height: 48, From: from, To: 48})
		for _, payload := range reply.Items {
			want, err := s.store.Payload(from, o.Kept)
			if err != nil || uint64(len(payload)) == reply.Size && !bytes.Equal(payload, want) {
				t.Fatalf("block %d is another one, %v", from, err)
			}
			from++
		}
	}
	raw, _ := whole(statesync.Request{What: statesync.Proof, Height: 48})
	if a, err := statesync.DecodeAnchor(raw); err != nil || a.Claim.Header.Hash(suite) != hash {
		t.Errorf("the proof: %v", err)
	}
	if reply := s.ask(statesync.Request{What: statesync.Chunk, Height: 49}); len(reply.Items) > 0 || len(reply.Offers) != 1 {
		t.Errorf("of a state that is not offered: %+v", reply)
	}
	if err := s.Close(); err != nil || s.copies() != nil {
		t.Errorf("after it was closed there are %q, %v", s.copies(), err)
	}
}

// TestShelfBounds asks for as much as one can: there are never more than two copies, nor are they kept for ever.
// TestShelfDamaged has a disk that damages a copy of a state. Nobody is given what is wrong: whoever got it would take this node for a liar.
func TestShelfDamaged(t *testing.T) {
	s := newShelf(t)
	s.grow(40)
	height := ledger.Height(16)
	s.ask(statesync.Request{What: statesync.Offers, Height: height})
	first := s.ask(statesync.Request{What: statesync.Chunk, Height: height})
	if len(first.Items) != 1 || len(s.copies()) != 1 {
		t.Fatalf("%d items, copies %q", len(first.Items), s.copies())
	}
	file, err := s.files.Open("group/"+s.copies()[0], false)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err = file.ReadAt(b[:], 5_000); err == nil {
		b[0] ^= 4
		_, err = file.WriteAt(b[:], 5_000)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(statesync.Request{What: statesync.Chunk, Height: height}); !errors.Is(err, statesync.ErrOffer) {
		t.Fatalf("of a damaged copy: %v, want ErrOffer", err)
	}
	if offered, left := s.heights(), s.copies(); len(offered) > 0 || len(left) > 0 {
		t.Errorf("it is still offered, %v, and there: %q", offered, left)
	}
	s.ask(statesync.Request{What: statesync.Offers, Height: height})
	if again := s.ask(statesync.Request{What: statesync.Chunk, Height: height}); len(again.Items) != 1 || !bytes.Equal(again.Items[0], first.Items[0]) {
		t.Errorf("made again, it gives %d items, or others", len(again.Items))
	}
}

func TestShelfBounds(t *testing.T) {
	s := newShelf(t)
	s.grow(100)
	sweep := func() bool {
		t.Helper()
		left, err := s.Sweep(s.now)
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	for h := s.store.Oldest(); h < 130; h++ { // also of blocks that are not there yet
		s.ask(statesync.Request{What: statesync.Offers, Height: h})
	}
	if got := s.heights(); len(got) != statesync.MaxOffers || len(s.copies()) != statesync.MaxOffers {
		t.Fatalf("it offers %d, and its files are %q", got, s.copies())
	}
	s.now += 9 * 60_000
	if got := s.heights(); !sweep() || len(got) != 2 {
		t.Errorf("after nine minutes it offers %d", got)
	}
	kept := s.heights()[1]
	s.ask(statesync.Request{What: statesync.Chunk, Height: kept})
	s.now += 2 * 60_000
	if !sweep() || !slices.Equal(s.heights(), []ledger.Height{kept}) {
		t.Errorf("nobody asked for one of two, and it offers %d", s.heights())
	}
	s.grow(150)
	s.ask(statesync.Request{What: statesync.Offers})
	if !slices.Equal(s.heights(), []ledger.Height{kept, 128}) {
		t.Errorf("behind an old one it offers %d", s.heights())
	}
	s.grow(200)
	s.ask(statesync.Request{What: statesync.Offers})
	if got := s.heights(); len(got) != 2 {
		t.Errorf("it offers %d", got)
	}
	for range 24 * 12 { // who asks again and again keeps one for a day
		s.now += 5 * 60_000
		s.ask(statesync.Request{What: statesync.Chunk, Height: kept})
		sweep()
	}
	if got := s.heights(); len(got) != 0 {
		t.Errorf("after a day it offers %d", got)
	}
	if len(s.copies()) != 0 {
		t.Errorf("its files are %q", s.copies())
	}

	s.room = 100 << 20
	if _, err := s.try(statesync.Request{What: statesync.Offers}); err == nil || !strings.Contains(err.Error(), "free on the disk") {
		t.Errorf("on a full disk: %v", err)
	}
	if len(s.heights()) != 0 || len(s.copies()) != 0 || s.store.Pinned() != 0 {
		t.Errorf("of a copy that failed there are %q", s.copies())
	}
	s.room = 0
	s.ask(statesync.Request{What: statesync.Offers})
	if len(s.copies()) != 1 {
		t.Errorf("its files are %q", s.copies())
	}
	s.open() // after a crash
	if len(s.copies()) != 0 || len(s.heights()) != 0 {
		t.Errorf("after a start there are %q", s.copies())
	}
	p, err := s.store.Pin()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := s.try(statesync.Request{What: statesync.Offers}); !errors.Is(err, state.ErrPinned) {
		t.Errorf("while a backup is taken: %v", err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, r := range []statesync.Request{
		{What: statesync.Offers},
		{What: statesync.Proof, Height: 9},
		{What: statesync.Blocks, Height: 9, From: 3, To: 9, Bytes: 5},
		{What: statesync.Chunk, Height: 9, Path: keys.Digest{1}, Offset: 7},
	} {
		raw, err := ledger.Marshal(&r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := statesync.DecodeRequest(raw)
		if err != nil {
			if !errors.Is(err, statesync.ErrRequest) {
				t.Errorf("%v, want ErrRequest", err)
			}
			return
		}
		if again, err := ledger.Marshal(r); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("it is written otherwise: %x, %v", again, err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	for _, r := range []statesync.Reply{
		{Offers: []statesync.Offer{}, Items: [][]byte{}, Wait: 500},
		{Offers: []statesync.Offer{{Height: 9, Block: keys.Digest{1}, Kept: 4, Bytes: 77}}, Items: [][]byte{{1, 2}, {3}}, Size: 2},
	} {
		raw, err := ledger.Marshal(&r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := statesync.DecodeReply(raw)
		if err != nil {
			return
		}
		if again, err := ledger.Marshal(r); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("it is written otherwise: %x, %v", again, err)
		}
		if len(r.Items) > 0 && uint64(len(r.Items[0])) > r.Size || r.Size > statesync.MaxItem {
			t.Errorf("an item of %d bytes, the first %d", r.Size, len(r.Items[0]))
		}
	})
}

// FuzzAnchor looks for an anchor that breaks its reader, or holds though nobody signed it.
func FuzzAnchor(f *testing.F) {
	genesis := &ledger.Genesis{Version: ledger.Version, Name: "shelf", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", Params: ledger.DefaultParams()}
	a := statesync.Anchor{Claim: ledger.Claim{Version: ledger.Version, Header: ledger.Header{Order: ledger.Order{
		Version: ledger.Version, Chain: genesis.Hash(suite), Group: "main", Height: 9, Barrier: true,
	}}}, Next: &ledger.Epoch{Number: 1}}
	for range 2 {
		raw, err := ledger.Marshal(&a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		a.Claim.Epochs = []ledger.EpochLink{{Header: a.Claim.Header, Epoch: ledger.Epoch{Number: 1}}}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := statesync.DecodeAnchor(raw)
		if err != nil {
			return
		}
		if _, err := a.Verify(suite, genesis); err == nil {
			t.Error("it holds")
		}
	})
}
