package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// A package is a bundle (package bundle). Its items are canonical CBOR, but for itemFrame, which is a digest and the body of a frame of the
// statement log. First comes the start; then, when the package does not begin at genesis, a turn for each epoch that
// ended before; then the blocks, each that ends an epoch followed by the epoch that begins; then the statement log.
const (
	packageMark = "fondaco consensus 2\n"
	// maxItem bounds an item: a frame of the statement log is the largest.
	maxItem = maxBody + keys.DigestSize
)

// The kinds of items.
const (
	itemStart = 1 // start
	itemTurn  = 2 // turn
	itemBlock = 3 // block
	itemEpoch = 4 // ledger.Epoch
	itemFrame = 5 // a frame of the statement log
)

// start says what a package holds.
type start struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Chain   keys.Digest
	Group   ledger.GroupID
	From    ledger.Height
	To      ledger.Height
	Epoch   uint64          // of block From
	Below   ledger.Frontier // of the tree over the hashes of the blocks below From
}

// block is a block without its transactions.
type block struct {
	_           struct{} `cbor:",toarray"`
	Header      ledger.Header
	Certificate ledger.Certificate
	NewView     *ledger.NewView
}

// turn shows that an epoch began: the block before it names its digest, and the members before it signed that block.
type turn struct {
	_           struct{} `cbor:",toarray"`
	Header      ledger.Header
	Certificate ledger.Certificate
	Epoch       ledger.Epoch
}

// Source is where a package comes from. All functions are required.
type Source struct {
	Suite keys.Suite
	Chain keys.Digest
	Group ledger.GroupID
	Head  ledger.Height
	// Block returns a block, which may lack its transactions; BlockHash the hash of one.
	Block     func(ledger.Height) (*ledger.Block, error)
	BlockHash func(ledger.Height) (keys.Digest, error)
	// Epoch returns an epoch that has begun, and the height of the block that it follows.
	Epoch func(number uint64) (epoch ledger.Epoch, after ledger.Height, err error)
	// FS and Statements tell where the statement log is; there may be none.
	FS         state.FS
	Statements string
}

// ErrRange says that a package was asked for that cannot be made.
var ErrRange = errors.New("audit: no such range of blocks")

// Export writes the package of the blocks from one height to another, both included, and of the statements that the
// node of the source logged while they were made. It holds one block in memory at a time.
func Export(ctx context.Context, to io.Writer, s *Source, from, until ledger.Height) error {
	if from > until || until > s.Head {
		return fmt.Errorf("%w: %d to %d, the last block is %d", ErrRange, from, until, s.Head)
	}
	w := bundle.NewWriter(to, s.Suite, packageMark)
	first, err := s.Block(from)
	if err != nil {
		return err
	}
	begin := &start{Version: 1, Chain: s.Chain, Group: s.Group, From: from, To: until, Epoch: first.Header.Order.Epoch}
	for h := range from {
		hash, err := s.BlockHash(h)
		if err != nil {
			return err
		}
		begin.Below.Append(s.Suite, hash)
	}
	if err := w.Item(itemStart, begin); err != nil {
		return err
	}
	for number := uint64(1); number <= begin.Epoch; number++ {
		epoch, after, err := s.Epoch(number)
		if err != nil {
			return err
		}
		b, err := s.Block(after)
		if err != nil {
			return err
		}
		if err := w.Item(itemTurn, &turn{Header: b.Header, Certificate: b.Certificate, Epoch: epoch}); err != nil {
			return err
		}
	}
	for h := from; h <= until; h++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.Block(h)
		if err != nil {
			return err
		}
		if err := w.Item(itemBlock, &block{Header: b.Header, Certificate: b.Certificate, NewView: b.NewView}); err != nil {
			return err
		}
		if b.Header.Order.Barrier {
			epoch, _, err := s.Epoch(b.Header.Order.Epoch + 1)
			if err == nil {
				err = w.Item(itemEpoch, &epoch)
			}
			if err != nil {
				return err
			}
		}
	}
	if err := writeStatements(ctx, w, s, from, until); err != nil {
		return err
	}
	return w.Close()
}

// writeStatements copies the segments of the log that were written while the blocks were made: from the last that was begun
// at the first block or below it, to the last that was begun at the last block or below it.
func writeStatements(ctx context.Context, w *bundle.Writer, s *Source, from, until ledger.Height) error {
	if s.Statements == "" {
		return nil
	}
	indexes, err := segments(s.FS, s.Statements)
	if err != nil {
		return err
	}
	var heads []ledger.Height
	for i, index := range indexes {
		head, err := segmentHead(s.FS, segmentPath(s.Statements, index))
		if errors.Is(err, errEnd) && i == len(indexes)-1 {
			indexes = indexes[:i] // it is just being begun
			break
		}
		if err != nil {
			return err
		}
		heads = append(heads, head.Head)
	}
	for i, index := range indexes {
		if i+1 < len(heads) && heads[i+1] < from || heads[i] > until {
			continue
		}
		if err := writeSegment(ctx, w, s.FS, segmentPath(s.Statements, index)); err != nil {
			return err
		}
	}
	return nil
}

func segmentHead(files state.FS, path string) (head SegmentHead, err error) {
	file, err := files.Open(path, false)
	if err != nil {
		return head, err
	}
	defer file.Close()
	_, body, err := (&segmentReader{file: file, path: path}).next()
	if err != nil {
		return head, err
	}
	return head, ledger.Unmarshal(body, &head)
}

func writeSegment(ctx context.Context, w *bundle.Writer, files state.FS, path string) error {
	file, err := files.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s was deleted meanwhile, as the oldest of the statement log: export again", path)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for r := (&segmentReader{file: file, path: path}); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		digest, body, err := r.next()
		if errors.Is(err, errEnd) {
			return nil
		}
		if err == nil {
			err = w.Raw(itemFrame, append(digest[:], body...))
		}
		if err != nil {
			return err
		}
	}
}
