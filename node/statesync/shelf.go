package statesync

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what a node keeps for others. A state is pinned while it is copied, which takes as long as reading it, and one
// at a time; who takes it may be slow, and holds up nothing but the removal of a file.
const (
	// MaxOffers is how many states a node keeps at once: one that somebody goes on with, and a newer one.
	MaxOffers = 2
	// offerIdle is how many ms an offer is kept that nobody asks for, so that a line may be down for a while.
	offerIdle = 10 * 60_000
	// offerLasts is how many ms an offer is kept at most.
	offerLasts = 24 * 3600_000
	// offerFresh is for how many ms no newer one is made for who does not name a height.
	offerFresh = 10 * 60_000
	// offerEvery is of which number heights are multiples that a node chooses, so that others choose the same, and
	// offerBehind how far these are below its head at least, so that the others have them.
	offerEvery  = 16
	offerBehind = 16
	// makingWait is after how many ms to ask again for what is being made.
	makingWait = 500
	// spareBytes is how much room a copy leaves on the disk, besides as much as it takes itself.
	spareBytes = 256 << 20
)

const offerPrefix = "offer-"

// Config is what a Shelf is made of.
type Config struct {
	Source *backup.Source // Spool is not looked at
	FS     state.FS
	Dir    string // of the files; nobody else has files there that begin with "offer-"
	// Room returns how many bytes may still be written into Dir, or that nobody knows. It may be nil: nobody knows.
	Room func() (bytes int64, known bool)
}

// Shelf holds the states that a node keeps for others. Its methods are safe for concurrent use.
type Shelf struct {
	c Config

	mu     sync.Mutex // guards what follows
	offers []*offer   // of rising age
	making bool
	closed bool
}

// offer is a state in a file: frames of the encodings of its chunks, one after another.
type offer struct {
	Offer
	anchor []byte
	file   state.File
	name   string
	places []place // of rising path
	begun  int64   // Unix ms
	asked  int64   // Unix ms
}

// place is where the frame of a chunk is.
type place struct {
	path   keys.Digest
	offset int64
}

// ErrOffer says that the disk damaged a copy of a state, which is given to nobody any more.
var ErrOffer = errors.New("statesync: the copy of a state is damaged")

// NewShelf removes what an earlier life left in the folder.
func NewShelf(c Config) (*Shelf, error) {
	names, err := c.FS.ReadDir(c.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, offerPrefix) {
			if err := c.FS.Remove(filepath.Join(c.Dir, name)); err != nil {
				return nil, err
			}
		}
	}
	return &Shelf{c: c}, nil
}

// Close removes all offers.
func (s *Shelf) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, o := range s.offers {
		errs = append(errs, s.remove(o))
	}
	s.offers = nil
	return errors.Join(errs...)
}

func (s *Shelf) remove(o *offer) error {
	return errors.Join(o.file.Close(), s.c.FS.Remove(filepath.Join(s.c.Dir, o.name)))
}

// drop removes an offer, unless that was done.
func (s *Shelf) drop(o *offer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.offers, o)
	if at < 0 {
		return nil
	}
	s.offers = slices.Delete(s.offers, at, at+1)
	return s.remove(o)
}

// Sweep removes what nobody asks for any more, at a time in Unix ms, and reports whether offers are left.
func (s *Shelf) Sweep(now int64) (left bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers = slices.DeleteFunc(s.offers, func(o *offer) bool {
		if now-o.asked < offerIdle && now-o.begun < offerLasts {
			return false
		}
		err = errors.Join(err, s.remove(o))
		return true
	})
	return len(s.offers) > 0 || s.making, err
}

// Serve answers a request at a time in Unix ms, and fails with ErrOffer, of which an operator should hear, where the disk does not give back what was copied. make, unless it is nil, makes a state that was asked for and is not there; it
// is to be called once, and takes long.
func (s *Shelf) Serve(now int64, raw []byte) (reply []byte, make func() error, err error) {
	r, err := DecodeRequest(raw)
	if err != nil {
		return nil, nil, err
	}
	answer := Reply{Offers: []Offer{}, Items: [][]byte{}}
	s.mu.Lock()
	at := slices.IndexFunc(s.offers, func(o *offer) bool { return o.Height == r.Height })
	if r.What == Offers && at < 0 {
		if h, ok := s.due(now, r.Height); ok {
			s.making = true
			make = func() error { return s.copy(now, h) }
		}
	}
	if s.making {
		answer.Wait = makingWait
	}
	for _, o := range s.offers {
		answer.Offers = append(answer.Offers, o.Offer)
	}
	var from *offer
	if at >= 0 {
		from = s.offers[at]
		from.asked = max(from.asked, now)
	}
	s.mu.Unlock()
	if from != nil {
		if answer.Items, answer.Size, err = s.items(from, r); errors.Is(err, ErrOffer) {
			err = errors.Join(err, s.drop(from))
		}
	}
	if err == nil {
		reply, err = ledger.Marshal(&answer)
	}
	return reply, make, err
}

// due returns the height of a state to make for who asks for one, 0 being any, if there is room for one.
func (s *Shelf) due(now int64, want ledger.Height) (ledger.Height, bool) {
	if s.making || s.closed || len(s.offers) == MaxOffers {
		return 0, false
	}
	store := s.c.Source.Store
	oldest, head := store.Oldest(), store.Head().Height()
	if want == 0 {
		if slices.ContainsFunc(s.offers, func(o *offer) bool { return now-o.begun < offerFresh }) {
			return 0, false
		}
		want = max((head-min(head, offerBehind))/offerEvery*offerEvery, oldest)
		if slices.ContainsFunc(s.offers, func(o *offer) bool { return o.Height == want }) {
			return 0, false
		}
	}
	return want, want > 0 && oldest <= want && want <= head
}

// copy makes an offer.
func (s *Shelf) copy(now int64, h ledger.Height) error {
	o := &offer{begun: now, asked: now, name: fmt.Sprintf("%s%d", offerPrefix, h)}
	err := s.fill(o, h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making = false
	if err == nil && !s.closed {
		s.offers = append(s.offers, o)
		return nil
	}
	if o.file != nil {
		err = errors.Join(err, s.remove(o))
	}
	if err != nil {
		err = fmt.Errorf("copy the state after block %d for nodes that join: %w", h, err)
	}
	return err
}

func (s *Shelf) fill(o *offer, h ledger.Height) (err error) {
	store := s.c.Source.Store
	pinned, err := store.PinAt(h)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pinned.Close()) }()
	header := pinned.Header()
	o.Height, o.Block = h, header.Hash(store.Suite())
	if o.Kept, err = s.c.Source.KeptUnder(header, h); err != nil {
		return err
	}
	if o.anchor, err = s.anchor(h); err != nil {
		return err
	}
	if o.file, err = s.c.FS.Open(filepath.Join(s.c.Dir, o.name), true); err != nil {
		return err
	}
	if err := o.file.Truncate(0); err != nil {
		return err
	}
	at, frame := int64(0), []byte(nil)
	for c, err := range pinned.Chunks() {
		if err != nil {
			return err
		}
		body, err := ledger.Marshal(c)
		if err != nil {
			return err
		}
		if err := s.room(at + backup.FrameSize(len(body))); err != nil {
			return err
		}
		frame = backup.AppendFrame(frame[:0], body)
		if _, err := o.file.WriteAt(frame, at); err != nil {
			return err
		}
		o.places = append(o.places, place{c.Prefix, at})
		at += int64(len(frame))
		o.Bytes += uint64(len(body))
	}
	return nil
}

// room fails if a copy of which so many bytes are written leaves the node too little.
func (s *Shelf) room(written int64) error {
	if s.c.Room == nil {
		return nil
	}
	if free, known := s.c.Room(); known && free < written+spareBytes {
		return fmt.Errorf("%d bytes are free on the disk, and a copy leaves as much as it takes and %d more: make room, or have other nodes serve", free, int64(spareBytes))
	}
	return nil
}

// anchor returns what leads from the genesis to the header of a block.
func (s *Shelf) anchor(h ledger.Height) ([]byte, error) {
	store := s.c.Source.Store
	block, err := store.Certified(h)
	if err != nil {
		return nil, err
	}
	a := &Anchor{Claim: ledger.Claim{Version: ledger.Version, Header: block.Header, Certificate: block.Certificate}}
	if block.Header.Order.Barrier {
		next, _, err := s.c.Source.Epoch(block.Header.Order.Epoch + 1)
		if err != nil {
			return nil, err
		}
		a.Next = &next
	}
	for number := uint64(1); number <= block.Header.Order.Epoch; number++ {
		epoch, after, err := s.c.Source.Epoch(number)
		if err != nil {
			return nil, err
		}
		ended, err := store.Certified(after)
		if err != nil {
			return nil, err
		}
		a.Claim.Epochs = append(a.Claim.Epochs, ledger.EpochLink{Header: ended.Header, Certificate: ended.Certificate, Epoch: epoch})
	}
	return ledger.Marshal(a)
}

// items returns what was asked for of an offer.
func (s *Shelf) items(o *offer, r *Request) (items [][]byte, size uint64, err error) {
	most := int(min(r.Bytes, MaxReply))
	switch r.What {
	case Proof:
		items, size = part(o.anchor, r.Offset, most)
	case Blocks:
		return s.blocks(o, r, most)
	case Chunk:
		// The last chunk that does not begin behind the path.
		n := sort.Search(len(o.places), func(i int) bool { return slices.Compare(o.places[i].path[:], r.Path[:]) > 0 })
		if n == 0 {
			return nil, 0, fmt.Errorf("%w: the state has no first chunk", state.ErrFault)
		}
		body, err := backup.ReadFrame(o.file, o.places[n-1].offset, MaxItem)
		if err == nil && body == nil {
			err = fmt.Errorf("%w at byte %d of %s: it is removed, and made again for who asks", ErrOffer, o.places[n-1].offset, o.name)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the copy of the state after block %d: %w", o.Height, err)
		}
		items, size = part(body, r.Offset, most)
	case Offers:
		items = [][]byte{}
	}
	return items, size, nil
}

func (s *Shelf) blocks(o *offer, r *Request, most int) (items [][]byte, size uint64, err error) {
	items = [][]byte{}
	held := 0
	for h := r.From; h <= r.To && len(items) < MaxItems; h++ {
		payload, err := s.c.Source.Store.Payload(h, o.Kept)
		if err != nil {
			return nil, 0, err
		}
		if h == r.From {
			if len(payload) > most || r.Offset > 0 {
				items, size = part(payload, r.Offset, most)
				return items, size, nil
			}
			size = uint64(len(payload))
		}
		if held += len(payload); held > most && len(items) > 0 {
			break
		}
		items = append(items, payload)
	}
	return items, size, nil
}

// part returns at most so many bytes of an item from an offset on, and its size.
func part(item []byte, offset uint64, most int) ([][]byte, uint64) {
	size := uint64(len(item))
	rest := item[min(offset, size):]
	return [][]byte{rest[:min(len(rest), most)]}, size
}
