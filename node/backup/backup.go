// Package backup writes what a node has of its group into one file, and makes a node's data of such a file, which it
// trusts in nothing: every block is checked against the one before, against its own header and against its certificate, the
// world state against the header of its block, and the members against the genesis that the reader trusts.
//
// A backup is a bundle (package bundle) of a start, the genesis, the world state after one block in chunks, and the
// blocks from genesis on, each that ends an epoch followed by the epoch that begins. The oldest blocks may be there as
// headers with certificates only. It holds no key, and nothing that the node knows besides the chain: neither what it said
// in consensus, nor the statements and evidence that it has of others, nor which recoveries its operator applied. The
// package is public by path but promised nothing.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"time"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const mark = "fondaco backup 1\n"

// The kinds of items.
const (
	itemStart   = 1 // Start
	itemGenesis = 2 // ledger.Genesis
	itemChunk   = 3 // ledger.StateChunk
	itemBlock   = 4 // see state.Store.Payload
	itemEpoch   = 5 // ledger.Epoch
)

// Start says what a backup holds.
type Start struct {
	_      struct{}      `cbor:",toarray"`
	Header ledger.Header // of the block after which the world state is
	Kept   ledger.Height // the first block that is there in full
	Last   ledger.Height // the last block
}

func (s *Start) check() error {
	if at := s.Header.Order.Height; s.Kept > at || at > s.Last {
		return fmt.Errorf("%w: the state after block %d, and blocks up to %d, in full from %d on", ErrInvalid, at, s.Last, s.Kept)
	}
	return nil
}

// Errors that callers branch on.
var (
	// ErrInvalid says that a backup is whole and does not hold: somebody wrote what is not so.
	ErrInvalid = errors.New("backup: it does not hold")
	// ErrChain says that a backup is of another chain than the one that is trusted.
	ErrChain = errors.New("backup: it is of another chain")
)

// Source is where a backup comes from. All fields but Spool are required.
type Source struct {
	Store   *state.Store
	Genesis *ledger.Genesis
	// Spool is a folder, the world state is copied into a temporary file there before anything is written: who takes the backup
	// may be slow, and what is written over meanwhile has to be kept (state.Pinned). Empty: it is not. ErrSpace when the disk has
	// no room for the copy. Another backup by way of a folder is waited for while it has a state pinned.
	Spool string
	// Epoch returns an epoch that has begun, and the height of the block that it follows.
	Epoch func(number uint64) (epoch ledger.Epoch, after ledger.Height, err error)
}

// Kept returns the height from which on blocks must be there in full where a node goes on behind the last of them: at most
// want, and so low that every transaction is found which could be put into a block again. Who reads a backup checks that.
func (s *Source) Kept(want ledger.Height) (ledger.Height, error) {
	return s.KeptUnder(s.Store.Head().Header(), want)
}

// KeptUnder is Kept where the last block is the one of a header.
func (s *Source) KeptUnder(last *ledger.Header, want ledger.Height) (ledger.Height, error) {
	longest := s.Genesis.Params.MaxLifetime
	for number := uint64(1); number <= last.Order.Epoch; number++ {
		epoch, _, err := s.Epoch(number)
		if err != nil {
			return 0, err
		}
		longest = max(longest, epoch.Params.MaxLifetime)
	}
	want = max(min(want, last.Order.Height), s.Store.Kept())
	var failed error
	// The time of blocks rises, and a transaction expires at most its lifetime after that of its block.
	first := sort.Search(int(want-s.Store.Kept()), func(i int) bool {
		h, err := s.Store.Header(s.Store.Kept() + ledger.Height(i))
		if err != nil {
			failed = errors.Join(failed, err)
			return true
		}
		return h.Order.UnixMilli+longest > last.Order.UnixMilli
	})
	return s.Store.Kept() + ledger.Height(first), failed
}

// Create writes a backup of all that the store has, but of the blocks below kept headers and certificates only. Blocks
// may be committed meanwhile: it ends with the last one that was there when it began.
func Create(ctx context.Context, to io.Writer, s *Source, kept ledger.Height) (err error) {
	kept, err = s.Kept(kept)
	if err != nil {
		return err
	}
	suite := s.Store.Suite()
	last := s.Store.Head().Height()
	pinned, err := s.pin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pinned.Close()) }()
	last = max(last, pinned.Header().Order.Height)
	kept = min(kept, pinned.Header().Order.Height)
	turns, err := s.turns(last)
	if err != nil {
		return err
	}
	chunks := encoded(pinned.Chunks())
	if s.Spool != "" {
		var copied *spool
		if copied, err = newSpool(s.Spool); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, copied.close()) }()
		if err := copied.fill(ctx, chunks); err != nil {
			return err
		}
		if err := pinned.Close(); err != nil {
			return err
		}
		chunks = copied.all()
	}
	w := bundle.NewWriter(to, suite, mark)
	if err := w.Item(itemStart, &Start{Header: *pinned.Header(), Kept: kept, Last: last}); err != nil {
		return err
	}
	if err := w.Item(itemGenesis, s.Genesis); err != nil {
		return err
	}
	for body, err := range chunks {
		if err == nil {
			err = errors.Join(ctx.Err(), w.Raw(itemChunk, body))
		}
		if err != nil {
			return err
		}
	}
	if err := pinned.Close(); err != nil { // the rest can take long
		return err
	}
	for h := range last + 1 {
		payload, err := s.Store.Payload(h, kept)
		if err == nil {
			err = errors.Join(ctx.Err(), w.Raw(itemBlock, payload))
		}
		if err != nil {
			return err
		}
		if epoch, ends := turns[h]; ends {
			if err := w.Item(itemEpoch, &epoch); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

// pin pins a state. Who copies it is done in a while, whatever his client does, and the next one's turn comes.
func (s *Source) pin(ctx context.Context) (*state.Pinned, error) {
	for {
		pinned, err := s.Store.Pin()
		if s.Spool == "" || !errors.Is(err, state.ErrPinned) {
			return pinned, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pinAgain):
		}
	}
}

// pinAgain is after how long a state that could not be pinned is tried again.
const pinAgain = 50 * time.Millisecond

// encoded yields the encodings of chunks.
func encoded(chunks iter.Seq2[*ledger.StateChunk, error]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for c, err := range chunks {
			var body []byte
			if err == nil {
				body, err = ledger.Marshal(c)
			}
			if !yield(body, err) || err != nil {
				return
			}
		}
	}
}

// turns returns the epochs that began up to a block, by the block that each follows.
func (s *Source) turns(last ledger.Height) (map[ledger.Height]ledger.Epoch, error) {
	header, err := s.Store.Header(last)
	if err != nil {
		return nil, err
	}
	until := header.Order.Epoch
	if header.Order.Barrier {
		until++
	}
	turns := map[ledger.Height]ledger.Epoch{}
	for number := uint64(1); number <= until; number++ {
		epoch, after, err := s.Epoch(number)
		if err != nil {
			return nil, err
		}
		turns[after] = epoch
	}
	return turns, nil
}

// Trust is what a backup is checked with.
type Trust struct {
	Suite    keys.Suite
	Genesis  *ledger.Genesis
	First    *ledger.Block // the genesis block, as executing the genesis gives it
	Accepted []keys.Digest // recoveries, see ledger.Certificate.Finalizes
}

// Contents is what a backup was found to hold.
type Contents struct {
	Chain  keys.Digest    `json:"chain"`
	Group  ledger.GroupID `json:"group"`
	Height ledger.Height  `json:"height"` // of the last block
	Block  keys.Digest    `json:"block"`  // its hash
	Kept   ledger.Height  `json:"blocks_from"`
	State  ledger.Height  `json:"state_after"`
	Root   keys.Digest    `json:"state_root"`
	Keys   uint64         `json:"keys"`
	Epoch  uint64         `json:"epoch"` // of the last block
}

// Verify reads a backup and checks it, in memory for one block or chunk: see state.MaxPayload. progress is told after each
// block how many bytes were read; it may be nil.
func Verify(ctx context.Context, from io.Reader, trust *Trust, progress func(ledger.Height, int64)) (*Contents, error) {
	r, err := newReader(from, trust)
	if err == nil {
		err = r.into("", &state.Options{FS: nowhere{}})
	}
	if err != nil {
		return nil, err
	}
	return r.read(ctx, progress)
}

// Restore is Verify that makes the folder of a group's data of the backup, and opens it once, as the first start would. One
// that was interrupted is called again, also with another backup. state.ErrStore when the folder has a store that is not
// what this backup makes. Other files in the folder stay as they are.
func Restore(ctx context.Context, from io.Reader, trust *Trust, dir string, progress func(ledger.Height, int64)) (*Contents, error) {
	r, err := newReader(from, trust)
	if err != nil {
		return nil, err
	}
	err = r.into(dir, nil)
	if errors.Is(err, state.ErrStore) { // one that was interrupted behind the import may have left it
		if other := r.isIn(dir); other != nil {
			return nil, fmt.Errorf("%w: %w", err, other)
		}
		err = r.into("", &state.Options{FS: nowhere{}})
	}
	if err != nil {
		return nil, err
	}
	found, err := r.read(ctx, progress)
	if err != nil {
		return nil, err
	}
	return found, r.isIn(dir)
}

func newReader(from io.Reader, trust *Trust) (*reader, error) {
	a, err := bundle.NewReader(from, trust.Suite, mark, bundle.MaxItem)
	if err != nil {
		return nil, err
	}
	r := &reader{from: a, trust: trust}
	return r, r.begin()
}

// into says where what is read goes.
func (r *reader) into(dir string, o *state.Options) (err error) {
	r.to, err = Assemble(r.trust, &r.start, dir, o)
	return err
}

// isIn fails unless the store in a folder is what the backup, as far as it was read, makes.
func (r *reader) isIn(dir string) error {
	store, err := state.Open(dir, r.trust.Suite, nil)
	if err != nil {
		return err
	}
	head := store.Head()
	if head == nil || head.Height() != r.start.Last || store.Kept() != r.start.Kept || r.to != nil && r.to.last != nil && head.Hash() != r.to.last.Header.Hash(r.trust.Suite) {
		err = fmt.Errorf("the data in %s are not those of this backup", dir)
	} else if hash, failed := store.BlockHash(r.start.Header.Order.Height); failed != nil || hash != r.start.Header.Hash(r.trust.Suite) {
		err = errors.Join(failed, fmt.Errorf("the data in %s are not those of this backup", dir))
	}
	return errors.Join(err, store.Close())
}

// read reads and checks what follows the beginning.
func (r *reader) read(ctx context.Context, progress func(ledger.Height, int64)) (_ *Contents, err error) {
	defer func() { err = errors.Join(err, r.to.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		kind, body, err := r.from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.item(kind, body)
		}
		if err != nil {
			return nil, err
		}
		if progress != nil && r.to.last != nil {
			progress(r.to.last.Header.Order.Height, r.from.Bytes())
		}
	}
	return r.to.Finish()
}

// reader reads a backup.
type reader struct {
	from  *bundle.Reader
	trust *Trust
	start Start
	to    *Assembly // nil: before into
}

// begin reads what says of which chain the backup is.
func (r *reader) begin() error {
	kind, body, err := r.from.Next()
	if err == nil && kind != itemStart {
		err = fmt.Errorf("%w: it begins with an item of kind %d", ErrInvalid, kind)
	}
	if err != nil {
		return ended(err)
	}
	if err := ledger.Unmarshal(body, &r.start); err != nil {
		return invalid(err)
	}
	if err := r.start.check(); err != nil {
		return err
	}
	if kind, body, err = r.from.Next(); err == nil && kind != itemGenesis {
		err = fmt.Errorf("%w: it has no genesis", ErrInvalid)
	}
	if err != nil {
		return ended(err)
	}
	var genesis ledger.Genesis
	if err := ledger.Unmarshal(body, &genesis); err != nil {
		return invalid(err)
	}
	s := r.trust.Suite
	if got, want := genesis.Hash(s), r.trust.Genesis.Hash(s); got != want {
		return fmt.Errorf("%w: of %s, and the genesis that you trust is that of %s", ErrChain, got, want)
	}
	return nil
}

// ended says of a bundle that ended too early what it is.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends before it has begun", ErrInvalid)
	}
	return err
}

func (r *reader) item(kind uint8, body []byte) error {
	switch kind {
	case itemChunk:
		c, err := ledger.DecodeStateChunk(body)
		if err != nil {
			return invalid(err)
		}
		return r.to.Chunk(c)
	case itemBlock:
		return r.to.Block(body)
	case itemEpoch:
		var epoch ledger.Epoch
		if err := ledger.Unmarshal(body, &epoch); err != nil {
			return invalid(err)
		}
		return r.to.Epoch(&epoch)
	default:
		return fmt.Errorf("%w: an item of kind %d; it may be of a later release", ErrInvalid, kind)
	}
}
