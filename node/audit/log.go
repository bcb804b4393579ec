// Package audit keeps what the members of a group stated, and lets somebody who trusts nothing but the genesis check
// all of it afterwards, without a node.
//
// # The statement log
//
// A node writes down every statement that it signed and every one that it received and found good, and the new-views,
// with its clock and height. The log is for auditors: no node ever reads it to decide something, the double-sign
// guard is elsewhere, and it is synced a moment after the statements left. So a crash may cost its last moment;
// the other members' logs have it.
//
// Its files are segments. A segment is a mark and frames:
//
//	frame: "stmt" ‖ length of body (4) ‖ CRC-32C of length, digest and body (4) ‖ digest (32) ‖ body
//
// Numbers are big-endian. The body of the first frame is a [SegmentHead], of the others a [Record], in canonical CBOR. Each
// frame's digest covers the one before it and its own body, digest("statements", before ‖ body), and a segment's head
// holds the last digest of the segment before, so one digest stands for everything up to it: whoever has told it
// to somebody cannot change the log behind it any more.
//
// With four members a block takes about 1 kB of log, of which 0.6 kB are signatures, and 16 µs of CPU on a 2.5 GHz Xeon
// (BenchmarkLog), a few ten-thousandths of what a full block takes: so it is on unless it is switched off.
//
// # The package
//
// [Export] writes headers, certificates, new-views, epochs and the statement log of a range of blocks into one
// stream, [Verify] checks it. See package.go for the form.
//
// The package is public by path but promised nothing.
package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrLog says that a statement log is damaged where a crash cannot have damaged it.
var ErrLog = errors.New("audit: the statement log is damaged")

const (
	logMark  = "fondstm\x01" // begins a segment; the last byte is the version of the form
	logFrame = "stmt"
	logHead  = len(logFrame) + 4 + 4 + keys.DigestSize
	logEnd   = ".statements"

	// maxSegment is the size from which a new segment is begun at the latest, in bytes.
	maxSegment = 16 << 20
	// maxBody bounds a frame.
	maxBody = 1 << 20
	// maxRecord bounds the signatures in a record, so that it fits into a frame.
	maxRecord = 2_000
	// maxPending bounds the signatures and new-views that wait to be written. Beyond it they are left out, and counted.
	maxPending = 20_000
)

// DefaultLogSize is how many bytes of statements a node keeps unless it is told otherwise: by a network of four some
// million blocks.
const DefaultLogSize = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SegmentHead begins a segment.
type SegmentHead struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16
	Chain    keys.Digest
	Group    ledger.GroupID
	Node     identity.NodeID // whose log it is
	Index    uint64          // of the segment, from 0
	Head     ledger.Height   // of the node when the segment was begun
	Previous keys.Digest     // the last digest of the segment before; zero in the first
}

// Record is what was stated between two writes.
type Record struct {
	_         struct{}      `cbor:",toarray"`
	UnixMilli int64         // the node's clock at the first statement
	Head      ledger.Height // of the node then
	Missed    uint64        // statements left out before this record, because the disk was too slow
	Stated    []Stated
	NewViews  []ledger.NewView
}

// Stated is a statement and who signed it.
type Stated struct {
	_         struct{} `cbor:",toarray"`
	Statement ledger.Statement
	Signed    []Signed
}

// Signed is one member's signature.
type Signed struct {
	_         struct{} `cbor:",toarray"`
	Member    uint32
	Signature []byte
}

// LogConfig says whose log it is and where. All fields are required.
type LogConfig struct {
	Suite keys.Suite
	Chain keys.Digest
	Group ledger.GroupID
	Node  identity.NodeID
	FS    state.FS
	Dir   string // of the segments; it is made when it is missing
	Size  int64  // bytes that are kept; the oldest segments beyond it are deleted
}

// Log is the statement log of a group on a node. Its methods may be called from any goroutine; only Flush waits for
// the disk.
type Log struct {
	config LogConfig

	mu      sync.Mutex // guards what waits
	waiting Record
	at      map[ledger.Statement]int // places in waiting.Stated
	count   int                      // signatures and new-views in waiting

	disk   sync.Mutex // guards the files
	file   state.File // nil before the first record of this start
	size   int64
	index  uint64 // of the file
	last   keys.Digest
	fresh  bool // the next record begins a segment
	failed error
}

// OpenLog opens the log in a folder. A torn end, which a crash leaves, is cut off. Damage before it is told by a second
// result that matches ErrLog: the segment is left as it is, for an auditor to see, and the log goes on in a new one.
func OpenLog(c LogConfig) (log *Log, damage, err error) {
	l := &Log{config: c, at: map[ledger.Statement]int{}, fresh: true}
	if err := c.FS.MkdirAll(c.Dir); err != nil {
		return nil, nil, fmt.Errorf("make the folder of the statement log: %w", err)
	}
	indexes, err := segments(c.FS, c.Dir)
	if err != nil {
		return nil, nil, err
	}
	if len(indexes) == 0 {
		return l, nil, nil
	}
	l.index = indexes[len(indexes)-1] + 1
	file, err := c.FS.Open(l.path(l.index-1), false)
	if err != nil {
		return nil, nil, fmt.Errorf("open the statement log: %w", err)
	}
	r := &segmentReader{file: file, path: l.path(l.index - 1)}
	for err == nil {
		_, _, err = r.next()
		if err == nil {
			l.last = r.digest
		}
	}
	switch {
	case errors.Is(err, errEnd):
		// Everything up to the end is whole; a torn frame behind it is cut off. What was written last need not be on the disk though
		// it can be read: what goes on behind it would stand behind a hole after a power failure.
		err = nil
		if r.offset < r.size {
			err = file.Truncate(r.offset)
		}
		if err == nil {
			err = errors.Join(state.Rewrite(file, 0, r.offset), c.FS.SyncDir(c.Dir))
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("write the end of the statement log again: %w", err), file.Close())
		}
		if r.offset > int64(len(logMark)) {
			l.file, l.size, l.index, l.fresh = file, r.offset, l.index-1, false
			return l, nil, nil
		}
		// A segment without a head: what came before it is told by the segment before.
		err = errors.Join(file.Close(), c.FS.Remove(l.path(l.index-1)), c.FS.SyncDir(c.Dir))
		if err != nil {
			return nil, nil, fmt.Errorf("cut the torn end of the statement log: %w", err)
		}
		return OpenLog(c)
	case errors.Is(err, ErrLog):
		l.last = r.later
		return l, err, file.Close()
	default:
		return nil, nil, errors.Join(fmt.Errorf("read the statement log: %w", err), file.Close())
	}
}

func (l *Log) path(index uint64) string { return segmentPath(l.config.Dir, index) }

func segmentPath(dir string, index uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d%s", index, logEnd))
}

// segments returns the indexes of the segments in a folder, rising.
func segments(files state.FS, dir string) ([]uint64, error) {
	names, err := files.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the statement log: %w", err)
	}
	var indexes []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, logEnd)
		index, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && segmentPath(dir, index) == filepath.Join(dir, name) {
			indexes = append(indexes, index)
		}
	}
	slices.Sort(indexes)
	return indexes, nil
}

// Vote notes a vote that this node signed, or received and verified. now is the node's clock, head its height.
func (l *Log) Vote(now int64, head ledger.Height, v ledger.Vote) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.room(now, head) {
		return
	}
	at, known := l.at[v.Statement]
	if !known {
		at = len(l.waiting.Stated)
		l.at[v.Statement] = at
		l.waiting.Stated = append(l.waiting.Stated, Stated{Statement: v.Statement})
	}
	s := &l.waiting.Stated[at]
	if !slices.ContainsFunc(s.Signed, func(o Signed) bool { return o.Member == v.Signer }) {
		s.Signed = append(s.Signed, Signed{Member: v.Signer, Signature: v.Signature})
		l.count++
	}
}

// NewView notes a new-view that this node made, or received and verified.
func (l *Log) NewView(now int64, head ledger.Height, n *ledger.NewView) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room(now, head) {
		l.waiting.NewViews = append(l.waiting.NewViews, *n)
		l.count += 2 * len(n.Votes) // with its certificate
	}
}

func (l *Log) room(now int64, head ledger.Height) bool {
	if l.count >= maxPending {
		l.waiting.Missed++
		return false
	}
	if l.count == 0 {
		l.waiting.UnixMilli, l.waiting.Head = now, head
	}
	return true
}

// Waiting returns how many signatures and new-views wait to be written.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Flush writes what waits and syncs it. After an error the log takes nothing more.
func (l *Log) Flush() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.failed != nil {
		return l.failed
	}
	l.mu.Lock()
	record := l.waiting
	empty := l.count == 0
	l.waiting, l.count = Record{}, 0
	clear(l.at)
	l.mu.Unlock()
	if empty {
		return nil
	}
	if err := l.write(&record); err != nil {
		l.failed = fmt.Errorf("write the statement log: %w", err)
		return l.failed
	}
	return nil
}

func (l *Log) write(all *Record) error {
	if l.fresh || l.size >= l.segment() {
		if err := l.begin(all.Head); err != nil {
			return err
		}
	}
	var data []byte
	for _, record := range split(all) {
		var err error
		if data, l.last, err = appendFrame(data, l.config.Suite, l.last, &record); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(data, l.size); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.size += int64(len(data))
	return nil
}

// segment returns the size from which a new segment is begun.
func (l *Log) segment() int64 { return max(min(maxSegment, l.config.Size/4), 1) }

// split cuts a record into some that fit into frames.
func split(all *Record) (records []Record) {
	part := Record{UnixMilli: all.UnixMilli, Head: all.Head, Missed: all.Missed}
	count := 0
	next := func() {
		records = append(records, part)
		part, count = Record{UnixMilli: all.UnixMilli, Head: all.Head}, 0
	}
	for _, s := range all.Stated {
		if count += len(s.Signed); count > maxRecord && len(part.Stated) > 0 {
			next()
			count = len(s.Signed)
		}
		part.Stated = append(part.Stated, s)
	}
	for _, n := range all.NewViews {
		if count += 2 * len(n.Votes); count > maxRecord && len(part.Stated)+len(part.NewViews) > 0 {
			next()
			count = 2 * len(n.Votes)
		}
		part.NewViews = append(part.NewViews, n)
	}
	next()
	return records
}

// begin makes a new segment the one that is written, and deletes the oldest ones that are too many.
func (l *Log) begin(head ledger.Height) error {
	if !l.fresh {
		l.index++
	}
	file, err := l.config.FS.Open(l.path(l.index), true)
	if err != nil {
		return err
	}
	data, digest, err := appendFrame([]byte(logMark), l.config.Suite, l.last, &SegmentHead{
		Version: 1, Chain: l.config.Chain, Group: l.config.Group, Node: l.config.Node, Index: l.index, Head: head, Previous: l.last,
	})
	if err == nil {
		_, err = file.WriteAt(data, 0)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = l.config.FS.SyncDir(l.config.Dir)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	l.file, l.size, l.last, l.fresh = file, int64(len(data)), digest, false
	indexes, err := segments(l.config.FS, l.config.Dir)
	if err != nil {
		return err
	}
	keep := max(int(l.config.Size/l.segment()), 1)
	for _, old := range indexes[:max(len(indexes)-keep, 0)] {
		if err := l.config.FS.Remove(l.path(old)); err != nil {
			return err
		}
	}
	return nil
}

// Close writes what waits and closes the file.
func (l *Log) Close() error {
	err := l.Flush()
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
		l.file = nil
	}
	l.failed = errors.Join(l.failed, errors.New("audit: the statement log is closed"))
	return err
}

// chained returns the digest of a body behind another.
func chained(s keys.Suite, before keys.Digest, body []byte) keys.Digest {
	return keys.Hash(s, "statements", before[:], body)
}

func appendFrame(to []byte, s keys.Suite, before keys.Digest, v any) ([]byte, keys.Digest, error) {
	body, err := ledger.Marshal(v)
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("a record of %d bytes, at most %d", len(body), maxBody)
	}
	if err != nil {
		return nil, before, err
	}
	digest := chained(s, before, body)
	to = append(to, logFrame...)
	to = binary.BigEndian.AppendUint32(to, uint32(len(body)))
	to = binary.BigEndian.AppendUint32(to, frameSum(digest, body))
	to = append(to, digest[:]...)
	return append(to, body...), digest, nil
}

func frameSum(digest keys.Digest, body []byte) uint32 {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	return crc32.Update(crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, digest[:]), castagnoli, body)
}

// errEnd says that a segment ends, perhaps with a torn frame behind what was read.
var errEnd = errors.New("audit: end of the segment")

// segmentReader reads the frames of a segment. It checks their sums; digests are for an auditor to compare.
type segmentReader struct {
	file   state.File
	path   string
	size   int64
	offset int64 // behind the last whole frame
	digest keys.Digest
	later  keys.Digest // with ErrLog: that of the last whole frame behind the damage
}

// next returns the digest and body of the next frame, errEnd behind the last, or an error that matches ErrLog.
func (r *segmentReader) next() (digest keys.Digest, body []byte, err error) {
	if r.offset == 0 {
		if r.size, err = r.file.Size(); err != nil {
			return digest, nil, err
		}
		mark := make([]byte, min(r.size, int64(len(logMark))))
		if n, err := r.file.ReadAt(mark, 0); n < len(mark) {
			return digest, nil, err
		}
		if len(mark) == len(logMark) && string(mark) != logMark {
			return digest, nil, fmt.Errorf("%w: %s does not begin as a segment of one does", ErrLog, r.path)
		}
		r.offset = int64(len(mark))
		if len(mark) < len(logMark) {
			r.offset = 0
			return digest, nil, errEnd
		}
	}
	digest, body, err = r.frame(r.offset)
	if err == nil {
		r.offset += int64(logHead + len(body))
		r.digest = digest
		return digest, body, nil
	}
	if !errors.Is(err, errEnd) {
		return digest, nil, err
	}
	// Torn, or damaged: then a later frame is whole.
	rest := make([]byte, r.size-r.offset)
	if n, err := r.file.ReadAt(rest, r.offset); n < len(rest) {
		return digest, nil, err
	}
	for at := 1; at < len(rest); at++ {
		found := bytes.Index(rest[at:], []byte(logFrame))
		if found < 0 {
			break
		}
		at += found
		switch digest, body, err = r.frame(r.offset + int64(at)); {
		case err == nil:
			r.later = digest
			at += logHead + len(body) - 1
		case !errors.Is(err, errEnd):
			return digest, nil, err
		}
	}
	if !r.later.IsZero() {
		return digest, nil, fmt.Errorf("%w at byte %d of %s: a later frame is whole; keep the file for the inquiry", ErrLog, r.offset, r.path)
	}
	return digest, nil, errEnd
}

// frame reads the frame at an offset, or returns errEnd if there is no whole one.
func (r *segmentReader) frame(at int64) (digest keys.Digest, body []byte, err error) {
	var head [logHead]byte
	if at+int64(len(head)) > r.size {
		return digest, nil, errEnd
	}
	if n, err := r.file.ReadAt(head[:], at); n < len(head) {
		return digest, nil, err
	}
	length := int64(binary.BigEndian.Uint32(head[len(logFrame):]))
	if string(head[:len(logFrame)]) != logFrame || length > maxBody || at+int64(len(head))+length > r.size {
		return digest, nil, errEnd
	}
	body = make([]byte, length)
	if n, err := r.file.ReadAt(body, at+int64(len(head))); n < len(body) {
		return digest, nil, err
	}
	digest = keys.Digest(head[len(logFrame)+8:])
	if binary.BigEndian.Uint32(head[len(logFrame)+4:]) != frameSum(digest, body) {
		return digest, nil, errEnd
	}
	return digest, body, nil
}
