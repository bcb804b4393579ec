package audit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// # The log of reads
//
// A node writes down what it answers to regulators and auditors, to whom nothing is private, before it answers, and each backup that it gives, to
// whomever. Its segments have the form of
// those of the statement log, in a folder of their own: the first frame's body is a [ReadHead], those of the others are a [Read] each. So one digest
// stands for everything up to it here, too, and the number of the read tells which one: both are anchored on chain
// (method anchor of the system contract audit), under the name that ReadsName returns.
//
// A node has room for Size bytes of it. It deletes the oldest segment to begin another, but none with a read that is not anchored: who reads could
// else push out what he read before anybody has it on chain. When there is no room nothing more is answered that must be written down ([ErrReadsFull]), until
// the log is anchored.

// ReadHead begins a segment of the log of reads.
type ReadHead struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16   // 1
	Log      string   // "reads"
	Chain    keys.Digest
	Group    ledger.GroupID
	Node     identity.NodeID
	Index    uint64 // of the segment, from 0
	First    uint64 // number of the first read in it
	Previous keys.Digest
}

// Unasked is the Name of who took a backup where nobody is asked who he is: on the node's machine, by a listener without TLS.
const Unasked = "(unasked)"

// Read is an answer to a regulator or an auditor, or a backup.
type Read struct {
	_           struct{}      `cbor:",toarray"`
	Number      uint64        // from 1
	UnixMilli   int64         // the node's clock
	Head        ledger.Height // of the node
	Name        string        // the account's address, or of the certificate's subject or the token, as ReadName returns it; operator: who showed the node's secret; or Unasked
	Means       string        // by which that was shown: query, certificate, token or operator; empty: nobody was asked
	Institution string
	Roles       []string
	Method      string      // of the request
	URI         string      // its path with parameters, or the first MaxURI bytes of it that are text
	Whole       keys.Digest // client.QueryURI of all of it
	Body        keys.Digest // client.QueryBody of the body of a POST, of an empty one otherwise; with a signed query, what that has
	Query       []byte      // the signed query that the request showed, a client.Query in CBOR, which proves who asked; empty: there was none, and the node's word stands for who it was
}

// ReadsName returns the name under which a node's log of reads is anchored.
func ReadsName(node identity.NodeID) string { return "reads/" + node.Short() }

// DefaultReadsSize is how many bytes of reads a node keeps: some million.
const DefaultReadsSize = 1 << 30

// MaxURI is how many bytes are written down of the path and query of a request. A digest stands for the rest.
const MaxURI = 1 << 10

// ReadName returns a name as a read has it: as it is, or, if it is no text, has characters that do not print or begins with a quotation mark, quoted as in Go,
// so that no two names are the same.
func ReadName(name string) string {
	if utf8.ValidString(name) && !strings.HasPrefix(name, `"`) && !strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// ErrReadsFull says that the log of reads has no room, as its oldest segment has reads that the chain has not anchored.
var ErrReadsFull = errors.New("audit: the log of reads is full with reads that are not anchored on chain")

// ErrReadsEarly says that a log cannot be begun yet, as the node does not know whether the chain has an anchor of one before it.
var ErrReadsEarly = errors.New("audit: the node is behind the chain, which says where its log of reads goes on")

// ReadsConfig says whose log of reads it is, where, and what the chain says of it.
type ReadsConfig struct {
	LogConfig // Size: bytes for which there is room; a segment more is there for a moment

	// Anchored returns up to which read the log is anchored on chain, as far as the node has it, and the digest there; 0: it is not.
	// nil: it never is, and the log is full in the end.
	Anchored func() (count uint64, digest keys.Digest, err error)
	// Behind reports whether the chain may have a newer anchor than the node knows of. Then no log is begun (ErrReadsEarly). What Anchored returns makes room
	// all the same, if it is of this log. nil: it never may.
	Behind func() bool
}

// Reads is the log of reads of a node. It may be used by any goroutine.
type Reads struct {
	config ReadsConfig

	mu     sync.Mutex  // guards what follows
	kept   []keptReads // from the oldest segment to the one that is written
	tried  keys.Digest // of the anchor that was compared last
	proven uint64      // reads up to the last anchor that was found to be of this log
	file   state.File  // nil before the first read of a log
	size   int64
	index  uint64 // of the file
	count  uint64 // reads so far
	last   keys.Digest
	failed error
}

// keptReads is a segment that there is.
type keptReads struct {
	index, first uint64 // first: the number of its first read
}

// OpenReads opens the log in a folder. A torn end, which a crash leaves, is of a read that was not answered: it is cut off. Other damage is an error
// that matches ErrLog. In an empty folder the first read follows the one up to which the chain has an anchor then, of a log that was moved away or lost.
func OpenReads(c ReadsConfig) (*Reads, error) {
	l := &Reads{config: c}
	if err := c.FS.MkdirAll(c.Dir); err != nil {
		return nil, fmt.Errorf("make the folder of the log of reads: %w", err)
	}
	indexes, err := segments(c.FS, c.Dir)
	if err != nil {
		return nil, err
	}
	if len(indexes) == 0 {
		return l, nil
	}
	for _, index := range indexes[:len(indexes)-1] {
		first, err := l.firstOf(index)
		if err != nil {
			return nil, fmt.Errorf("read the log of reads: %w; move %s away and keep it for the inquiry: the node then begins another", err, c.Dir)
		}
		l.kept = append(l.kept, keptReads{index, first})
	}
	l.index = indexes[len(indexes)-1]
	if l.file, err = c.FS.Open(segmentPath(c.Dir, l.index), false); err != nil {
		return nil, fmt.Errorf("open the log of reads: %w", err)
	}
	r := &segmentReader{file: l.file, path: segmentPath(c.Dir, l.index)}
	for err == nil {
		var digest keys.Digest
		var body []byte
		switch digest, body, err = r.next(); {
		case err != nil:
		case l.size == 0:
			var head ReadHead
			if err = ledger.Unmarshal(body, &head); err == nil && (head.Chain != c.Chain || head.Node != c.Node) {
				err = fmt.Errorf("%w: %s is of node %s", ErrLog, r.path, head.Node)
			}
			l.count, l.last = head.First-1, digest
			l.kept = append(l.kept, keptReads{l.index, head.First})
		default:
			l.count, l.last = l.count+1, digest
		}
		l.size = r.offset
	}
	if !errors.Is(err, errEnd) {
		return nil, errors.Join(fmt.Errorf("read the log of reads: %w; move %s away and keep it for the inquiry: the node then begins another", err, c.Dir), l.file.Close())
	}
	err = nil
	if r.offset < r.size {
		err = l.file.Truncate(r.offset)
	}
	if err == nil { // what can be read need not be on the disk yet
		err = errors.Join(state.Rewrite(l.file, 0, r.offset), c.FS.SyncDir(c.Dir))
	}
	if err == nil && l.size <= int64(len(logMark)) { // a crash left a segment without a head: the one before has the chain
		err = errors.Join(l.file.Close(), c.FS.Remove(r.path), c.FS.SyncDir(c.Dir))
		if err == nil {
			return OpenReads(c)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("write the end of the log of reads again: %w", err)
	}
	return l, nil
}

// firstOf returns the number of the first read of a segment, from its head.
func (l *Reads) firstOf(index uint64) (uint64, error) {
	head, err := readHead(l.config.FS, segmentPath(l.config.Dir, index))
	if err != nil {
		return 0, err
	}
	return head.First, nil
}

// readHead returns the head of a segment.
func readHead(files state.FS, path string) (*ReadHead, error) {
	file, err := files.Open(path, false)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	head := new(ReadHead)
	_, body, err := (&segmentReader{file: file, path: path}).next()
	if err == nil {
		err = ledger.Unmarshal(body, head)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the head of %s: %w", ErrLog, path, err)
	}
	return head, nil
}

// Append writes a read and syncs it; Number is filled in, and what is too long of URI cut off. After an error but ErrReadsFull and ErrReadsEarly nothing is taken any more, so that nothing is answered that
// is not written down.
func (l *Reads) Append(r *Read) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if len(r.URI) > MaxURI {
		r.URI = strings.ToValidUTF8(r.URI[:MaxURI], "") // Whole tells it from others that begin alike
	}
	err := l.append(r)
	if errors.Is(err, ErrReadsFull) || errors.Is(err, ErrReadsEarly) {
		return err
	}
	if err != nil {
		l.failed = fmt.Errorf("write the log of reads: %w", err)
		return l.failed
	}
	return nil
}

func (l *Reads) append(r *Read) error {
	if l.file == nil {
		if err := l.follow(); err != nil {
			return err
		}
	}
	if segment := l.segment(); l.file == nil || l.size >= segment {
		if err := l.makeRoom(int(l.config.Size / segment)); err != nil {
			return err
		}
		if err := l.begin(); err != nil {
			return err
		}
	}
	r.Number = l.count + 1
	data, digest, err := appendFrame(nil, l.config.Suite, l.last, r)
	if err != nil {
		return err
	}
	if _, err := l.file.WriteAt(data, l.size); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.size, l.count, l.last = l.size+int64(len(data)), r.Number, digest
	return nil
}

// follow has a log that begins go on where the chain knows the one that was here before: it takes no anchor of fewer reads. The number of its first file is
// that of its last read, so that copies of both may be in one folder.
func (l *Reads) follow() error {
	if l.config.Behind != nil && l.config.Behind() {
		return ErrReadsEarly
	}
	if l.config.Anchored == nil {
		return nil
	}
	count, digest, err := l.config.Anchored()
	if err != nil {
		return err
	}
	if count >= 1<<63 {
		return fmt.Errorf("the chain has an anchor of %d reads, which nobody has made", count)
	}
	l.count, l.last, l.proven, l.index = count, digest, count, count
	return nil
}

// segment returns the size from which a new segment is begun.
func (l *Reads) segment() int64 { return max(min(maxSegment, l.config.Size/4), 1) }

// makeRoom deletes the oldest segments, so that there are fewer than so many.
func (l *Reads) makeRoom(most int) error {
	most = max(most, 2)
	if len(l.kept) < most {
		return nil
	}
	if err := l.prove(); err != nil {
		return err
	}
	for len(l.kept) >= most {
		if l.kept[1].first > l.proven+1 { // the oldest has one that is not anchored
			return ErrReadsFull
		}
		if err := l.config.FS.Remove(segmentPath(l.config.Dir, l.kept[0].index)); err != nil {
			return err
		}
		l.kept = l.kept[1:]
	}
	return nil
}

// prove looks up what the chain anchors, and whether it is of this log: an anchor of something else lets nothing be deleted.
func (l *Reads) prove() error {
	if l.config.Anchored == nil {
		return nil
	}
	count, digest, err := l.config.Anchored()
	if err != nil || count <= l.proven || count > l.count || digest == l.tried {
		return err
	}
	l.tried = digest
	i := len(l.kept) - 1
	for i > 0 && l.kept[i].first > count {
		i--
	}
	path := segmentPath(l.config.Dir, l.kept[i].index)
	file, err := l.config.FS.Open(path, false)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	r := &segmentReader{file: file, path: path}
	for n := l.kept[i].first; n <= count+1; n++ { // the head, and then the reads
		at, _, err := r.next()
		if errors.Is(err, errEnd) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == count+1 && at == digest {
			l.proven = count
		}
	}
	return nil
}

// Full returns which share of the room is taken by segments with reads that are not anchored, or are not known to be: at 1 nothing more is taken. anchored is
// up to which read the chain anchors the log.
func (l *Reads) Full(anchored uint64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0
	}
	held := 0
	for i := range l.kept[:len(l.kept)-1] {
		if l.kept[i+1].first > anchored+1 {
			held++
		}
	}
	segment := l.segment()
	return min(float64(int64(held)*segment+l.size)/float64(max(l.config.Size/segment, 2)*segment), 1)
}

// begin makes a new segment.
func (l *Reads) begin() error {
	index := l.index
	if l.file != nil {
		index++
	}
	file, err := l.config.FS.Open(segmentPath(l.config.Dir, index), true)
	if err != nil {
		return err
	}
	data, digest, err := appendFrame([]byte(logMark), l.config.Suite, l.last, &ReadHead{
		Version: 1, Log: "reads", Chain: l.config.Chain, Group: l.config.Group, Node: l.config.Node, Index: index, First: l.count + 1, Previous: l.last,
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
	if err == nil && l.file != nil {
		err = l.file.Close()
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size, l.index, l.last = file, int64(len(data)), index, digest
	l.kept = append(l.kept, keptReads{index, l.count + 1})
	return nil
}

// Close closes the file.
func (l *Reads) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = errors.Join(l.failed, errors.New("audit: the log of reads is closed"))
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	return file.Close()
}

// ReadsReport is what WalkReads found.
type ReadsReport struct {
	Chain keys.Digest
	Node  identity.NodeID
	Gone  uint64      // reads before the first segment that there is,
	Base  keys.Digest // and what stands for them
	First uint64      // number of the first read that is kept; 0: none is
	Count uint64      // number of the last, so how many there were
	Last  keys.Digest
	Torn  bool // behind the last read is a torn one, which was not answered
}

// WalkReads checks a log of reads from its first segment to its last, and visits each read with the digest that stands for everything up to it. The segments
// are in the folders: a node deletes the oldest, and copies of them may be in another. Of a segment that is in several, that in the first of these counts. What
// does not hold is an error that matches ErrLog, and names the place.
func WalkReads(s keys.Suite, files state.FS, dirs []string, visit func(r *Read, digest keys.Digest) error) (report ReadsReport, err error) {
	paths, err := readPaths(files, dirs)
	if err != nil {
		return report, err
	}
	indexes := slices.Sorted(maps.Keys(paths))
	for i, index := range indexes {
		if i > 0 && index != indexes[i-1]+1 {
			return report, fmt.Errorf("%w: there is %s and not the one before it; files of a log that was begun anew are checked in a folder of their own", ErrLog, paths[index])
		}
		if report.Torn {
			return report, fmt.Errorf("%w: a torn read is before %s", ErrLog, paths[index])
		}
		if err := report.walk(s, files, paths[index], index, i == 0, visit); err != nil {
			return report, err
		}
	}
	return report, nil
}

// FirstReadHead returns the head of the first segment of a log in folders, as for WalkReads, which tells whose log it is before all of it is read; nil: there is none yet.
func FirstReadHead(files state.FS, dirs []string) (*ReadHead, error) {
	paths, err := readPaths(files, dirs)
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	head, err := readHead(files, paths[slices.Min(slices.Collect(maps.Keys(paths)))])
	if errors.Is(err, errEnd) { // a crash left a segment without one
		return nil, nil
	}
	return head, err
}

// readPaths returns where the segments of a log in folders are, by their numbers.
func readPaths(files state.FS, dirs []string) (map[uint64]string, error) {
	paths := map[uint64]string{}
	for _, dir := range slices.Backward(dirs) {
		indexes, err := segments(files, dir)
		if err != nil {
			return nil, err
		}
		for _, index := range indexes {
			paths[index] = segmentPath(dir, index)
		}
	}
	return paths, nil
}

func (p *ReadsReport) walk(s keys.Suite, files state.FS, path string, index uint64, first bool, visit func(r *Read, digest keys.Digest) error) error {
	file, err := files.Open(path, false)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrLog, path, fmt.Sprintf(format, args...))
	}
	r := &segmentReader{file: file, path: path}
	for begun := false; ; begun = true {
		at := r.offset
		digest, body, err := r.next()
		if errors.Is(err, errEnd) {
			p.Torn = r.offset < r.size
			return nil
		}
		if err != nil {
			return err
		}
		if !begun {
			var head ReadHead
			if err := ledger.Unmarshal(body, &head); err != nil || head.Log != "reads" || head.Version != 1 {
				return wrong("it does not begin as a segment of reads: %v", err)
			}
			if first {
				p.Chain, p.Node, p.Count, p.Last = head.Chain, head.Node, head.First-1, head.Previous
				p.Gone, p.Base = p.Count, p.Last
			}
			if head.Index != index || head.Chain != p.Chain || head.Node != p.Node || head.First != p.Count+1 || head.Previous != p.Last {
				return wrong("it does not go on where the one before it ends, with read %d", p.Count)
			}
		}
		if chained(s, p.Last, body) != digest {
			return wrong("at byte %d something was changed, put in or left out: its digest does not follow from what is before it", at)
		}
		p.Last = digest
		if !begun {
			continue
		}
		var one Read
		if err := ledger.Unmarshal(body, &one); err != nil {
			return wrong("at byte %d: %v", at, err)
		}
		if one.Number != p.Count+1 {
			return wrong("read %d follows read %d", one.Number, p.Count)
		}
		if p.First == 0 {
			p.First = one.Number
		}
		p.Count = one.Number
		if visit != nil {
			if err := visit(&one, digest); err != nil {
				return err
			}
		}
	}
}
