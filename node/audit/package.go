package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// A package is a mark and items:
//
//	item: kind (1) ‖ length of body (4, big-endian) ‖ body
//
// Bodies are canonical CBOR, but for itemFrame, which is a digest and the body of a frame of the statement log. First
// comes the start; then, when the package does not begin at genesis, a turn for each epoch that ended before; then
// the blocks, each that ends an epoch followed by the epoch that begins; then the statement log; then the end.
const (
	packageMark = "fondaco consensus 1\n"
	// maxItem bounds an item: a frame of the statement log is the largest.
	maxItem = maxBody + keys.DigestSize
)

type itemKind uint8

const (
	itemStart itemKind = 1 // start
	itemTurn  itemKind = 2 // turn
	itemBlock itemKind = 3 // block
	itemEpoch itemKind = 4 // ledger.Epoch
	itemFrame itemKind = 5 // a frame of the statement log
	itemEnd   itemKind = 6 // end
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

// end tells that the package is whole.
type end struct {
	_      struct{}    `cbor:",toarray"`
	Digest keys.Digest // over the items before
}

// Source is where a package comes from. All functions are required.
type Source struct {
	Suite keys.Suite
	Chain keys.Digest
	Group ledger.GroupID
	Head  ledger.Height
	// Block returns a block; BlockHash the hash of one.
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
	buffered := bufio.NewWriterSize(to, 64<<10)
	w := &packageWriter{to: buffered, suite: s.Suite}
	w.raw([]byte(packageMark))
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
	w.item(itemStart, begin)
	for number := uint64(1); number <= begin.Epoch; number++ {
		epoch, after, err := s.Epoch(number)
		if err != nil {
			return err
		}
		b, err := s.Block(after)
		if err != nil {
			return err
		}
		w.item(itemTurn, &turn{Header: b.Header, Certificate: b.Certificate, Epoch: epoch})
	}
	for h := from; h <= until && w.err == nil; h++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.Block(h)
		if err != nil {
			return err
		}
		w.item(itemBlock, &block{Header: b.Header, Certificate: b.Certificate, NewView: b.NewView})
		if b.Header.Order.Barrier {
			epoch, _, err := s.Epoch(b.Header.Order.Epoch + 1)
			if err != nil {
				return err
			}
			w.item(itemEpoch, &epoch)
		}
	}
	if err := w.statements(ctx, s, from, until); err != nil {
		return err
	}
	w.item(itemEnd, &end{Digest: w.digest})
	if w.err != nil {
		return fmt.Errorf("write the package: %w", w.err)
	}
	return buffered.Flush()
}

type packageWriter struct {
	to     io.Writer
	suite  keys.Suite
	digest keys.Digest
	err    error
}

func (w *packageWriter) raw(data []byte) {
	if w.err == nil {
		_, w.err = w.to.Write(data)
	}
}

func (w *packageWriter) item(kind itemKind, v any) {
	body, err := ledger.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.body(kind, body)
}

func (w *packageWriter) body(kind itemKind, body []byte) {
	if len(body) > maxItem && w.err == nil {
		w.err = fmt.Errorf("an item of %d bytes, at most %d", len(body), maxItem)
	}
	w.raw(binary.BigEndian.AppendUint32([]byte{byte(kind)}, uint32(len(body))))
	w.raw(body)
	w.digest = itemDigest(w.suite, w.digest, kind, body)
}

func itemDigest(s keys.Suite, before keys.Digest, kind itemKind, body []byte) keys.Digest {
	return keys.Hash(s, "audit", before[:], []byte{byte(kind)}, body)
}

// statements copies the segments of the log that were written while the blocks were made: from the last that was begun
// at the first block or below it, to the last that was begun at the last block or below it.
func (w *packageWriter) statements(ctx context.Context, s *Source, from, until ledger.Height) error {
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
		if err := w.segment(ctx, s.FS, segmentPath(s.Statements, index)); err != nil {
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

func (w *packageWriter) segment(ctx context.Context, files state.FS, path string) error {
	file, err := files.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s was deleted meanwhile, as the oldest of the statement log: export again", path)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for r := (&segmentReader{file: file, path: path}); w.err == nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		digest, body, err := r.next()
		if errors.Is(err, errEnd) {
			break
		}
		if err != nil {
			return err
		}
		w.body(itemFrame, append(digest[:], body...))
	}
	return nil
}

// packageReader reads a package. It checks form only.
type packageReader struct {
	from   *bufio.Reader
	suite  keys.Suite
	digest keys.Digest // over the items before the last
	now    keys.Digest // with the last
	read   int64       // bytes
	ended  bool
}

func newPackageReader(from io.Reader, suite keys.Suite) (*packageReader, error) {
	r := &packageReader{from: bufio.NewReaderSize(from, 64<<10), suite: suite}
	mark := make([]byte, len(packageMark))
	if _, err := io.ReadFull(r.from, mark); err != nil || string(mark) != packageMark {
		return nil, fmt.Errorf("%w: it does not begin as one does", ErrPackage)
	}
	r.read = int64(len(mark))
	return r, nil
}

// next returns the next item, or io.EOF behind the end. The body must not be used after the next call but for what is
// decoded from it, which is copied.
func (r *packageReader) next() (itemKind, []byte, error) {
	if r.ended {
		if _, err := r.from.ReadByte(); !errors.Is(err, io.EOF) {
			return 0, nil, fmt.Errorf("%w: something follows its end", ErrPackage)
		}
		return 0, nil, io.EOF
	}
	var head [5]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return 0, nil, r.broken(err)
	}
	kind, length := itemKind(head[0]), binary.BigEndian.Uint32(head[1:])
	if kind < itemStart || kind > itemEnd || length > maxItem {
		return 0, nil, fmt.Errorf("%w: an item of kind %d and %d bytes at byte %d", ErrPackage, kind, length, r.read)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r.from, int64(length)); err != nil { // grows by what is there
		return 0, nil, r.broken(err)
	}
	r.read += int64(len(head)) + int64(length)
	r.digest, r.now = r.now, itemDigest(r.suite, r.now, kind, body.Bytes())
	r.ended = kind == itemEnd
	return kind, body.Bytes(), nil
}

func (r *packageReader) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it breaks off behind byte %d", ErrPackage, r.read)
	}
	return err
}
