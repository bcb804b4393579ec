package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The archive holds the state tree after every block: a file that only grows, to which each block adds the nodes that it
// made, so that blocks share what they did not change. It is derived from the blocks and can be removed.
//
//	head:  "fondaco archive 2\n", zeros to byte 65536
//	slots: two, each at the start of 65536 bytes: number (8) ‖ head of the last frame, 0 for none (8) ‖ end of it (8) ‖ CRC-32C of these (4)
//	frame: "arch" ‖ height (8) ‖ number (8) ‖ root (8) ‖ frame before (8) ‖ jump (8) ‖ length (8) ‖ CRC-32C of the records (4) ‖
//	       CRC-32C of these (4) ‖ records
//
// The slot with the higher number says how far the file was synced. The frames behind that are taken as far as they are whole, and
// written again, since a sync of them may have failed; the rest is cut off. Slots are so far apart that no torn write has both. Frames are numbered from 0, one for each block; the first may be of a base. The root is the
// place of a record, 0 for the empty state, and jump that of an earlier frame, so that a height is found in a logarithm of steps
// without an index (see follow). Records:
//
//	inner:  'i' ‖ digest ‖ leaves below ‖ left ‖ right
//	bucket: 'b' ‖ n ‖ n × (path ‖ digest ‖ leaf)
//	        'd' ‖ bucket ‖ n ‖ n × place in it of a leaf that went ‖ m ‖ m × (path ‖ digest ‖ leaf), in rising order of path
//	leaf:   'l' ‖ length ‖ key ‖ length ‖ value
//	        'v' ‖ length ‖ key ‖ digest of the value ‖ length ‖ value, from longValue bytes on
//
// A record names another by how many bytes before itself that begins, 0 for none. Numbers in frames are big-endian, those in
// records unsigned varints. Records of a frame come before those that name them, and the last one is the root.
//
// A bucket of sixteen leaves changes one leaf at a time as a rule, so most are written as what differs from an earlier one.
const (
	archiveName  = "archive"
	archiveMagic = "fondaco archive 2\n"
	archivePart  = 64 << 10        // of the head and of a slot: no disk writes so much at once
	archiveBegin = 3 * archivePart // of the first frame
	archiveSlot  = 8 + 8 + 8 + 4
	archiveMark  = "arch"
	archiveHead  = len(archiveMark) + 6*8 + 4 + 4

	recordInner     = 'i'
	recordBucket    = 'b'
	recordDelta     = 'd'
	recordLeaf      = 'l'
	recordLongValue = 'v'
)

// archiveRecord is how many bytes are read of a record at first: no inner node or bucket is longer.
const archiveRecord = 1280

// ArchiveError says that the archive does not hold what it must.
type ArchiveError struct {
	File   string
	Offset int64
	Reason string
}

func (e *ArchiveError) Error() string {
	return fmt.Sprintf("%s at byte %d: %s; the node needs nothing of this file: stop the node, replace it by a copy or remove it, and start the node, "+
		"which makes it again from the blocks that it has in full", e.File, e.Offset, e.Reason)
}

// ErrArchive is what every *ArchiveError matches.
var ErrArchive = errors.New("state: the archive is damaged")

// Is makes an ArchiveError match ErrArchive.
func (e *ArchiveError) Is(target error) bool { return target == ErrArchive }

// archive reads an archive, up to the last frame that was published. It is safe for concurrent use.
type archive struct {
	path  string
	suite keys.Suite
	file  File
	first atomic.Pointer[archiveFrame]
	last  atomic.Pointer[archiveFrame] // nil: there is none
}

// archiveFrame is the head of a frame, decoded.
type archiveFrame struct {
	at     int64
	height ledger.Height
	number uint64
	root   int64
	before int64 // head of the frame before; 0: none
	jump   int64 // of the first: itself
	length int64
	crc    uint32
}

func (f *archiveFrame) begin() int64 { return f.at + int64(archiveHead) }
func (f *archiveFrame) end() int64   { return f.begin() + f.length }

// follows reports whether a frame is the one behind another, or for nil the first.
func (f *archiveFrame) follows(before *archiveFrame) bool {
	if before == nil {
		return f.before == 0
	}
	return f.at == before.end() && f.before == before.at && f.height > before.height && f.number == before.number+1
}

func (f *archiveFrame) encode() []byte {
	out := append(make([]byte, 0, archiveHead), archiveMark...)
	for _, n := range []uint64{uint64(f.height), f.number, uint64(f.root), uint64(f.before), uint64(f.jump), uint64(f.length)} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	out = binary.BigEndian.AppendUint32(out, f.crc)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

// parseArchiveFrame returns nil when the head does not hold what it must.
func parseArchiveFrame(at int64, head []byte) *archiveFrame {
	if len(head) < archiveHead || string(head[:4]) != archiveMark ||
		crc32.Checksum(head[:archiveHead-4], castagnoli) != binary.BigEndian.Uint32(head[archiveHead-4:]) {
		return nil
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(head[4+8*i:]) }
	f := &archiveFrame{
		at: at, height: ledger.Height(number(0)), number: number(1), root: int64(number(2)), before: int64(number(3)), jump: int64(number(4)),
		length: int64(number(5)), crc: binary.BigEndian.Uint32(head[archiveHead-8:]),
	}
	first := f.before == 0 && f.jump == at && f.number == 0
	later := f.before >= archiveBegin && f.before < at && f.jump >= archiveBegin && f.jump < at && f.number > 0
	if f.length < 0 || f.length > 1<<62-at || !first && !later || f.root != 0 && (f.root < archiveBegin || f.root >= f.end()) {
		return nil
	}
	return f
}

// openArchive opens an archive, or with create makes one. It returns nil where there is none. What a crash left
// behind the last whole frame is not looked at: recover does.
func openArchive(files FS, path string, suite keys.Suite, create bool) (_ *archive, err error) {
	f, err := files.Open(path, create)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	a := &archive{path: path, suite: suite, file: f}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	mark := make([]byte, len(archiveMagic))
	if _, err := f.ReadAt(mark, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	_, last, _, err := a.slot()
	if err != nil {
		return nil, err
	}
	empty := last == 0 && size <= archiveBegin
	switch {
	case empty && !create:
		return nil, f.Close()
	case empty: // or new: what it begins with may not be on the disk
		if err := a.begin(); err != nil {
			return nil, fmt.Errorf("begin %s: %w", path, err)
		}
		if err := files.SyncDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
	case string(mark) != archiveMagic:
		return nil, a.bad(0, "it does not begin as it must")
	}
	_, frame, _, err := a.synced()
	if err != nil || frame == nil {
		return a, err
	}
	return a, a.publish(frame)
}

// begin writes the head and slots that say that there is no frame.
func (a *archive) begin() error {
	err := a.file.Truncate(0)
	if err == nil {
		_, err = a.file.WriteAt([]byte(archiveMagic), 0)
	}
	for number := uint64(1); number <= 2 && err == nil; number++ {
		err = a.putSlot(number, 0, archiveBegin)
	}
	if err != nil {
		return err
	}
	return a.file.Sync()
}

// putSlot writes the slot of a number, in the place of the last but one.
func (a *archive) putSlot(number uint64, at, end int64) error {
	slot := make([]byte, 0, archiveSlot)
	for _, n := range []uint64{number, uint64(at), uint64(end)} {
		slot = binary.BigEndian.AppendUint64(slot, n)
	}
	slot = binary.BigEndian.AppendUint32(slot, crc32.Checksum(slot, castagnoli))
	_, err := a.file.WriteAt(slot, int64(1+number%2)*archivePart)
	return err
}

func (a *archive) bad(offset int64, format string, args ...any) error {
	return &ArchiveError{File: a.path, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// publish lets readers see the frames up to one.
func (a *archive) publish(last *archiveFrame) error {
	if a.first.Load() == nil {
		first, err := a.reader().frame(archiveBegin)
		if err != nil {
			return err
		}
		a.first.Store(first)
	}
	a.last.Store(last)
	return nil
}

// slot returns the newer slot: its number, 0 if neither is one, where the last frame is, 0 for none, and where that ends.
func (a *archive) slot() (number uint64, at, end int64, err error) {
	for i := range int64(2) {
		var slot [archiveSlot]byte
		if _, err := a.file.ReadAt(slot[:], (i+1)*archivePart); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, 0, fmt.Errorf("read %s: %w", a.path, err)
		}
		if crc32.Checksum(slot[:24], castagnoli) != binary.BigEndian.Uint32(slot[24:]) {
			continue
		}
		if n := binary.BigEndian.Uint64(slot[:]); n > number {
			number, at, end = n, int64(binary.BigEndian.Uint64(slot[8:])), int64(binary.BigEndian.Uint64(slot[16:]))
		}
	}
	return number, at, end, nil
}

// synced returns what the newer slot says: its number, the last frame, nil if there is none, and where it ends.
func (a *archive) synced() (number uint64, last *archiveFrame, end int64, err error) {
	number, at, end, err := a.slot()
	switch {
	case err != nil:
		return 0, nil, 0, err
	case number == 0: // a crash damages one at most
		return 0, nil, 0, a.bad(archivePart, "neither of its slots has its checksum")
	case at == 0:
		return number, nil, end, nil
	}
	if last, err = a.reader().frame(at); err == nil && last.end() != end {
		err = a.bad(at, "the last frame does not end where it must")
	}
	return number, last, end, err
}

// reader returns a reader of what was published, for one goroutine.
func (a *archive) reader() *archiveReader {
	return &archiveReader{archive: a, from: a.file, hash: ledger.NewStateHasher(a.suite), buf: make([]byte, archiveRecord)}
}

// archiveReader reads frames and records. It is not safe for concurrent use.
type archiveReader struct {
	*archive
	from io.ReaderAt
	hash *ledger.StateHasher
	buf  []byte
}

func (r *archiveReader) frame(at int64) (*archiveFrame, error) {
	var head [archiveHead]byte
	if _, err := r.from.ReadAt(head[:], at); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", r.path, err)
	}
	f := parseArchiveFrame(at, head[:])
	if f == nil {
		return nil, r.bad(at, "the frame's head does not hold what it must")
	}
	return f, nil
}

// follow returns where the jump of the frame behind last goes. The distances are such that from any frame any earlier one
// is at most some three times the logarithm of their distance in steps away, each of them to jump or before: the skew-binary
// list of Eugene Myers, "An applicative random-access stack", 1983.
func (r *archiveReader) follow(last *archiveFrame) (jump int64, err error) {
	over, err := r.frame(last.jump)
	if err != nil {
		return 0, err
	}
	further, err := r.frame(over.jump)
	if err != nil {
		return 0, err
	}
	if last.number-over.number == over.number-further.number {
		return further.at, nil
	}
	return last.at, nil
}

// find returns the frame of a height, or nil.
func (r *archiveReader) find(h ledger.Height) (*archiveFrame, error) {
	f := r.last.Load()
	if f == nil || h > f.height {
		return nil, nil
	}
	for f.height > h {
		if f.before == 0 {
			return nil, nil
		}
		next, err := r.frame(f.jump)
		if err == nil && next.height < h && f.jump != f.before {
			next, err = r.frame(f.before)
		}
		if err != nil {
			return nil, err
		}
		if next.height >= f.height || next.number >= f.number {
			return nil, r.bad(next.at, "the frame is not an earlier one than that which names it")
		}
		f = next
	}
	if f.height < h {
		return nil, nil
	}
	return f, nil
}

// frames yields all frames up to the last, the first first. An error ends the sequence.
func (r *archiveReader) frames(last *archiveFrame) iter.Seq2[*archiveFrame, error] {
	return func(yield func(*archiveFrame, error) bool) {
		var before *archiveFrame
		for at := int64(archiveBegin); before == nil || before.at < last.at; at = before.end() {
			f, err := r.frame(at)
			if err == nil && !f.follows(before) {
				err = r.bad(at, "the frame does not follow the one before")
			}
			if !yield(f, err) || err != nil {
				return
			}
			before = f
		}
	}
}

// archiveNode is an inner node or a bucket as its record says.
type archiveNode struct {
	at    int64
	size  int64       // of the record
	hash  keys.Digest // of an inner node
	count int
	kids  [2]int64 // of an inner node; 0: empty

	bucket bool
	leaves []archiveLeaf // of a bucket, in rising order of path
	full   int64         // the record that those of a delta are compared with; a full bucket's own
	whole  []archiveLeaf // the leaves of that
}

// archiveLeaf is a leaf as a bucket names it.
type archiveLeaf struct {
	path, digest keys.Digest
	at           int64          // 0: it is not written yet
	change       *ledger.Change // that makes it; nil: it is written
}

// back reads the place of another record than that at a place, or 0.
func (d *decoder) back(at int64) int64 {
	n := d.number()
	if n == 0 {
		return 0
	}
	if n > uint64(at-archiveBegin) {
		d.failed = true
		return 0
	}
	return at - int64(n)
}

func (d *decoder) digest() (out keys.Digest) {
	copy(out[:], d.take(keys.DigestSize))
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) leaves(at int64) []archiveLeaf {
	n := d.number()
	if n > ledger.StateBucketSize {
		d.failed = true
		return nil
	}
	all := make([]archiveLeaf, n, ledger.StateBucketSize+1)
	for i := range all {
		all[i] = archiveLeaf{path: d.digest(), digest: d.digest(), at: d.back(at)}
		d.failed = d.failed || all[i].at == 0 || i > 0 && bytes.Compare(all[i-1].path[:], all[i].path[:]) >= 0
	}
	return all
}

// record returns the first bytes at a place, valid until the next call.
func (r *archiveReader) record(at int64) ([]byte, error) {
	n, err := r.from.ReadAt(r.buf, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", r.path, err)
	}
	return r.buf[:n], nil
}

// node reads an inner node or a bucket.
func (r *archiveReader) node(at int64) (*archiveNode, error) {
	data, err := r.record(at)
	if err != nil {
		return nil, err
	}
	n, d := &archiveNode{at: at}, decoder{rest: data}
	var gone []byte
	kind := d.byte()
	switch kind {
	case recordInner:
		n.hash, n.count = d.digest(), int(min(d.number(), 1<<62))
		n.kids = [2]int64{d.back(at), d.back(at)}
		d.failed = d.failed || n.count <= ledger.StateBucketSize
	case recordBucket:
		n.bucket, n.full, n.leaves = true, at, d.leaves(at)
		n.whole = n.leaves
	case recordDelta:
		n.bucket, n.full = true, d.back(at)
		gone, n.leaves = bytes.Clone(d.bytes()), d.leaves(at)
		d.failed = d.failed || n.full == 0
	default:
		d.failed = true
	}
	if d.failed {
		return nil, r.bad(at, "the record is no node")
	}
	n.size = int64(len(data) - len(d.rest))
	if kind == recordDelta {
		whole, err := r.node(n.full)
		if err != nil {
			return nil, err
		}
		if n.whole = whole.whole; whole.full != n.full || !n.apply(gone) {
			return nil, r.bad(at, "the bucket does not fit on the one that it changes")
		}
	}
	if n.bucket {
		if n.count = len(n.leaves); n.count == 0 {
			return nil, r.bad(at, "the bucket is empty")
		}
	}
	return n, nil
}

// digest returns the digest of the node at a place.
func (r *archiveReader) digest(at int64) (keys.Digest, error) {
	if at == 0 {
		return keys.Digest{}, nil
	}
	n, err := r.node(at)
	if err != nil {
		return keys.Digest{}, err
	}
	return r.digestOf(n), nil
}

func (r *archiveReader) digestOf(n *archiveNode) keys.Digest {
	if !n.bucket {
		return n.hash
	}
	for _, l := range n.leaves {
		r.hash.Add(l.digest)
	}
	return r.hash.Bucket()
}

// apply makes the leaves of a delta those of the bucket: without some, and with those that the delta has.
func (n *archiveNode) apply(gone []byte) bool {
	added, all := n.leaves, make([]archiveLeaf, 0, ledger.StateBucketSize+1)
	for i, l := range n.whole {
		if len(gone) > 0 && int(gone[0]) == i {
			gone = gone[1:]
			continue
		}
		for len(added) > 0 && bytes.Compare(added[0].path[:], l.path[:]) < 0 {
			all, added = append(all, added[0]), added[1:]
		}
		if len(added) > 0 && added[0].path == l.path {
			return false
		}
		all = append(all, l)
	}
	n.leaves = append(all, added...)
	return len(gone) == 0 && len(n.leaves) <= ledger.StateBucketSize
}

// archivePair is a leaf's record.
type archivePair struct {
	key    []byte
	value  []byte      // only if asked for
	digest keys.Digest // of the value, as the record says if it is long
	size   int64       // of the record
}

// leaf reads the record of a leaf, with its value if that is asked for.
func (r *archiveReader) leaf(at int64, value bool) (p archivePair, err error) {
	data, err := r.record(at)
	if err != nil {
		return p, err
	}
	if n, used := binary.Uvarint(data[min(1, len(data)):]); used > 0 && n <= maxKey && len(data) == len(r.buf) && 1+used+int(n)+keys.DigestSize+binary.MaxVarintLen64 > len(data) {
		data = make([]byte, 1+used+int(n)+keys.DigestSize+binary.MaxVarintLen64) // of a long key
		m, err := r.from.ReadAt(data, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return p, fmt.Errorf("read %s: %w", r.path, err)
		}
		data = data[:m]
	}
	d := decoder{rest: data}
	kind := d.byte()
	p.key = bytes.Clone(d.bytes())
	if kind == recordLongValue {
		p.digest = d.digest()
	}
	length := d.number()
	if d.failed || kind != recordLeaf && kind != recordLongValue || (kind == recordLongValue) != (length >= longValue) || length > MaxPayload {
		return p, r.bad(at, "the record is no leaf")
	}
	begin := int64(len(data) - len(d.rest))
	p.size = begin + int64(length)
	if kind == recordLongValue && !value {
		return p, nil
	}
	if uint64(len(d.rest)) >= length {
		p.value = bytes.Clone(d.rest[:length])
	} else if p.value, err = r.bytes(at+begin, length); err != nil {
		return p, err
	}
	if kind == recordLeaf {
		p.digest = r.hash.Value(p.value)
	}
	return p, nil
}

// bytes reads so many bytes; no more memory is taken than the file has.
func (r *archiveReader) bytes(at int64, n uint64) ([]byte, error) {
	var out bytes.Buffer
	m, err := io.Copy(&out, io.NewSectionReader(r.from, at, int64(n)))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.path, err)
	}
	if uint64(m) != n {
		return nil, r.bad(at, "the file ends within a value")
	}
	return out.Bytes(), nil
}

// lookup returns the value of a key below a root, and the proof of it or of its absence. It is not checked.
func (r *archiveReader) lookup(root int64, key []byte) (value []byte, found bool, proof ledger.StateProof, err error) {
	path := r.hash.Path(key)
	bucket, siblings, err := r.descend(root, path)
	slices.Reverse(siblings)
	proof.Siblings = siblings
	if err != nil || bucket == nil {
		return nil, false, proof, err
	}
	if i := slices.IndexFunc(bucket.leaves, func(l archiveLeaf) bool { return l.path == path }); i >= 0 {
		for _, l := range bucket.leaves {
			proof.Leaves = append(proof.Leaves, l.digest)
		}
		p, err := r.leaf(bucket.leaves[i].at, true)
		return p.value, true, proof, err
	}
	for _, l := range bucket.leaves {
		p, err := r.leaf(l.at, false)
		if err != nil {
			return nil, false, proof, err
		}
		proof.Entries = append(proof.Entries, ledger.StateEntry{Path: l.path, Value: p.digest})
	}
	return nil, false, proof, nil
}

// descend returns the bucket that a path leads to, nil for an empty subtree, and the digests of what is beside the way, the
// uppermost first.
func (r *archiveReader) descend(root int64, path keys.Digest) (bucket *archiveNode, siblings []keys.Digest, err error) {
	for at := root; at != 0; {
		n, err := r.node(at)
		if err != nil || n.bucket {
			return n, siblings, err
		}
		depth := len(siblings)
		if depth == ledger.StateDepth {
			return nil, nil, r.bad(at, "the tree is deeper than a path is long")
		}
		bit := ledger.StateBit(path, depth)
		sibling, err := r.digest(n.kids[1-bit])
		if err != nil {
			return nil, nil, err
		}
		siblings, at = append(siblings, sibling), n.kids[bit]
	}
	return nil, siblings, nil
}

// sum reads the records of a frame, which must have their checksum, and calls visit for each piece of them.
func (r *archiveReader) sum(f *archiveFrame, visit func(n int) bool) error {
	piece := make([]byte, min(f.length, 256<<10))
	crc := uint32(0)
	for at := f.begin(); at < f.end(); {
		n, err := r.from.ReadAt(piece[:min(int64(len(piece)), f.end()-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", r.path, err)
		}
		if n == 0 {
			return r.bad(at, "the file ends within a frame")
		}
		crc = crc32.Update(crc, castagnoli, piece[:n])
		if at += int64(n); visit != nil && !visit(n) {
			return nil
		}
	}
	if crc != f.crc {
		return r.bad(f.at, "the frame of block %d does not have its checksum", f.height)
	}
	return nil
}

// scrub yields the parts of the archive. An error ends them.
func (a *archive) scrub() iter.Seq2[Scrubbed, error] {
	return func(yield func(Scrubbed, error) bool) {
		last := a.last.Load()
		if last == nil {
			return
		}
		mark := make([]byte, len(archiveMagic))
		if _, err := a.file.ReadAt(mark, 0); err != nil && !errors.Is(err, io.EOF) {
			yield(Scrubbed{}, fmt.Errorf("read %s: %w", a.path, err))
			return
		}
		if string(mark) != archiveMagic {
			yield(Scrubbed{}, a.bad(0, "it does not begin as it must"))
			return
		}
		r := a.reader()
		for f, err := range r.frames(last) {
			if err != nil {
				yield(Scrubbed{}, err)
				return
			}
			at, more := Scrubbed{Height: f.height, Archive: true, Bytes: archiveHead}, true
			err = r.sum(f, func(n int) bool {
				more = yield(at, nil)
				at.Bytes = n
				return more
			})
			if err == nil && more {
				more = yield(at, nil)
			}
			if err != nil {
				yield(Scrubbed{}, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

// check recomputes what a frame holds from what its records name: with all frames before it, the whole tree.
func (r *archiveReader) check(f *archiveFrame, root keys.Digest) error {
	if err := r.sum(f, nil); err != nil {
		return err
	}
	for at := f.begin(); at < f.end(); {
		data, err := r.record(at)
		if err != nil {
			return err
		}
		if len(data) > 0 && (data[0] == recordLeaf || data[0] == recordLongValue) {
			p, err := r.leaf(at, true)
			if err != nil {
				return err
			}
			if r.hash.Value(p.value) != p.digest {
				return r.bad(at, "the value of key %x does not have its digest", p.key)
			}
			at += p.size
			continue
		}
		n, err := r.node(at)
		if err != nil {
			return err
		}
		if err := r.checkNode(n); err != nil {
			return err
		}
		at += n.size
	}
	got, err := r.digest(f.root)
	if err != nil {
		return err
	}
	if got != root {
		return r.bad(f.at, "the state root after block %d is %s, want %s", f.height, got, root)
	}
	return nil
}

// checkNode compares a node with what is below it.
func (r *archiveReader) checkNode(n *archiveNode) error {
	for _, l := range n.leaves {
		p, err := r.leaf(l.at, false)
		if err != nil {
			return err
		}
		if r.hash.Path(p.key) != l.path || r.hash.Leaf(l.path, p.digest) != l.digest {
			return r.bad(n.at, "the bucket names another leaf than that of key %x", p.key)
		}
	}
	if n.bucket {
		return nil
	}
	var hashes [2]keys.Digest
	count := 0
	for i, at := range n.kids {
		if at == 0 {
			continue
		}
		kid, err := r.node(at)
		if err != nil {
			return err
		}
		hashes[i], count = r.digestOf(kid), count+kid.count
	}
	if r.hash.Inner(hashes[0], hashes[1]) != n.hash || count != n.count {
		return r.bad(n.at, "the node does not have the digest of what is below it")
	}
	return nil
}
