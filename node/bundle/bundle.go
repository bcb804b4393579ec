// Package bundle reads and writes bundles, the files in which data leave a node: items after a mark that says what the file is,
// and at the end a digest over all, so that a file which was cut or changed is known as one.
//
//	mark, then items: kind (1) ‖ length of body (4, big-endian) ‖ body
//
// The last item has kind 0; its body is the digest of the items before. The digest finds accidents and no forgery: what
// the items say is to be checked as if a stranger had written them. The package is public by path but promised nothing.
package bundle

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// MaxItem bounds the body of an item, in bytes. The largest is a block with its results, or a part of the world state.
// Readers of smaller things say so.
const MaxItem = state.MaxPayload

// ErrBroken says that a file is not whole, or was changed.
var ErrBroken = errors.New("bundle: the file is not whole")

const kindEnd = 0

// Writer writes a bundle. After an error it does nothing, and Close returns it.
type Writer struct {
	to     *bufio.Writer
	suite  keys.Suite
	digest keys.Digest
	err    error
}

// NewWriter begins a bundle with a mark. Close must be called.
func NewWriter(to io.Writer, suite keys.Suite, mark string) *Writer {
	w := &Writer{to: bufio.NewWriterSize(to, 64<<10), suite: suite}
	w.write([]byte(mark))
	return w
}

func (w *Writer) write(data []byte) {
	if w.err == nil {
		_, w.err = w.to.Write(data)
	}
}

// Item writes the canonical encoding of v. It returns the first error so far.
func (w *Writer) Item(kind uint8, v any) error {
	body, err := ledger.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	return w.Raw(kind, body)
}

// Raw is Item for a body as it is. kind is not 0.
func (w *Writer) Raw(kind uint8, body []byte) error {
	if len(body) > MaxItem && w.err == nil {
		w.err = fmt.Errorf("bundle: an item of %d bytes, at most %d", len(body), MaxItem)
	}
	if w.err != nil {
		return w.err
	}
	w.write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))))
	w.write(body)
	w.digest = digest(w.suite, w.digest, kind, body)
	return w.err
}

// Close writes the end. It does not close what the bundle is written to.
func (w *Writer) Close() error {
	body := w.digest
	if err := w.Raw(kindEnd, body[:]); err != nil {
		return err
	}
	return w.to.Flush()
}

// digest is of the domain "archive", which is part of the form.
func digest(s keys.Suite, before keys.Digest, kind uint8, body []byte) keys.Digest {
	return keys.Hash(s, "archive", before[:], []byte{kind}, body)
}

// Reader reads a bundle.
type Reader struct {
	from   *bufio.Reader
	suite  keys.Suite
	most   int
	digest keys.Digest
	read   int64
	err    error
}

// NewReader begins to read a bundle that has the mark, and no item of more than most bytes.
func NewReader(from io.Reader, suite keys.Suite, mark string, most int) (*Reader, error) {
	r := &Reader{from: bufio.NewReaderSize(from, 64<<10), suite: suite, most: most}
	got := make([]byte, len(mark))
	if _, err := io.ReadFull(r.from, got); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if string(got) != mark {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrBroken, mark[:len(mark)-1])
	}
	r.read = int64(len(mark))
	return r, nil
}

// Bytes returns how many bytes were read, up to the end of the last item.
func (r *Reader) Bytes() int64 { return r.read }

// Next returns the next item, or io.EOF when the end was there and is the right one. The body is the caller's.
func (r *Reader) Next() (kind uint8, body []byte, err error) {
	if r.err == nil {
		kind, body, r.err = r.next()
	}
	if r.err != nil {
		return 0, nil, r.err
	}
	return kind, body, nil
}

func (r *Reader) next() (uint8, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return 0, nil, r.broken(err)
	}
	kind, length := head[0], binary.BigEndian.Uint32(head[1:])
	if int64(length) > int64(r.most) {
		return 0, nil, fmt.Errorf("%w: an item of %d bytes behind byte %d", ErrBroken, length, r.read)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r.from, int64(length)); err != nil { // grows by what is there
		return 0, nil, r.broken(err)
	}
	if kind != kindEnd {
		r.read += int64(len(head)) + int64(length)
		r.digest = digest(r.suite, r.digest, kind, body.Bytes())
		return kind, body.Bytes(), nil
	}
	if !bytes.Equal(body.Bytes(), r.digest[:]) {
		return 0, nil, fmt.Errorf("%w: it was changed: its items do not have the digest at its end", ErrBroken)
	}
	if _, err := r.from.ReadByte(); !errors.Is(err, io.EOF) {
		return 0, nil, fmt.Errorf("%w: something follows its end", ErrBroken)
	}
	r.read += int64(len(head)) + int64(length)
	return 0, nil, io.EOF
}

func (r *Reader) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it breaks off behind byte %d", ErrBroken, r.read)
	}
	return err
}
