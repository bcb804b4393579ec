package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Scrubbed is a block that Scrub has read, or a part of another file.
type Scrubbed struct {
	Height  ledger.Height
	Base    bool   // it is a part of the state after that block, with which a store begins that does not keep all blocks in full
	State   bool   // it is a part of the index or the state table; Height is 0
	Archive bool   // it is a part of what the archive has of the state after that block
	Bytes   int    // that were read for it
	Mended  string // what of the index, the state table or a file's beginning was wrong, and what was done, as one line for an operator; empty: nothing was
}

// Scrub reads from the disk the index, all blocks up to the head, genesis first, then the base, and
// yields what it has read. What a disk may have changed since it was written shows: a frame must have its checksum, and a block follow the one before,
// up to the head. The rows of the index must be those of the blocks; Scrub writes again which are not. If the index cannot be read, or its rows are in
// another order than their keys, or a search does not find them, it is set aside, so that it is made again when the store is opened the next time.
//
// A damaged block is yielded as a *SegmentError with a Scrubbed of no block, and remembered for Damaged; the next block follows. A
// file that is gone is one error, of its first block. Damage to the base is yielded as a *BaseError; likewise another error of the disk. Tiles of the history behind damage in their range are not looked at. Scrub
// holds no lock and no transaction between two
// blocks: whoever ranges over it may take his time. It must have ended before Close, and before Prune begins.
func (s *Store) Scrub() iter.Seq2[Scrubbed, error] {
	return func(yield func(Scrubbed, error) bool) {
		head := s.Head()
		if head == nil {
			return
		}
		c := scrub{store: s, head: head, kept: s.Kept()}
		s.log.mu.RLock()
		segments := slices.Clone(s.log.first)
		s.log.mu.RUnlock()
		for at, err := range c.index() {
			if !yield(at, err) {
				return
			}
		}
		for i, first := range segments {
			if first > head.Height() { // it is being begun, or was when the disk was full
				break
			}
			end := head.Height() + 1
			if i+1 < len(segments) {
				end = min(end, segments[i+1])
			}
			for at, err := range c.segment(first, end) {
				if !yield(at, err) {
					return
				}
			}
		}
		if c.kept > 0 { // else a base that there may be holds no more than the blocks do
			for at, err := range c.base() {
				if !yield(at, err) {
					return
				}
			}
		}
	}
}

// ScrubState reads the state table from the disk, and yields what it has read. Each digest in it must be that of its key and value, and the ordered
// keys must be those of the leaves. If it is damaged, it is set aside, so that it is made again when the store is opened the next time. ScrubState is apart
// from Scrub because the blocks may be many times as large, and votes depend on the state. Like that it holds no lock and no transaction between two parts, and must
// have ended before Close.
func (s *Store) ScrubState() iter.Seq2[Scrubbed, error] {
	c := scrub{store: s}
	return c.state()
}

// ScrubArchive reads the archive from the disk, if there is one in use, up to where it came when the pass began, and yields
// what it has read. Damage is yielded as an *ArchiveError, and ends it, as does another error of the disk. It is apart from Scrub because the
// archive may be many times as large as the blocks. Its caller may take his time too, and must have ended before Close.
func (s *Store) ScrubArchive() iter.Seq2[Scrubbed, error] {
	return func(yield func(Scrubbed, error) bool) {
		if a := s.archive.Load(); a != nil {
			a.scrub()(yield)
		}
	}
}

// scrub is one pass.
type scrub struct {
	store   *Store
	head    *Snapshot
	kept    ledger.Height
	from    ledger.Height // the first block since which none was missed
	next    ledger.Height // the block after the last one that was read
	parent  keys.Digest   // hash of that
	unindex bool          // the index is not looked at any more
}

// base yields the parts of the base. An error ends them.
func (c *scrub) base() iter.Seq2[Scrubbed, error] {
	return func(yield func(Scrubbed, error) bool) {
		s := c.store
		s.log.moves.RLock()
		known := s.base.Load()
		b, err := openBase(s.log.fs, known.path)
		s.log.moves.RUnlock()
		switch {
		case err != nil:
		case b == nil:
			err = known.bad(0, "the file is missing")
		case b.Kept != known.Kept || b.Header.Hash(s.suite) != known.Header.Hash(s.suite):
			err = b.bad(int64(len(baseMagic)), "it is another one than when the store was opened")
		}
		if err != nil {
			yield(Scrubbed{}, err)
			return
		}
		at := b.begin
		for chunk, err := range b.chunks(s.suite, 0) {
			if err != nil {
				yield(Scrubbed{}, err)
				return
			}
			if !yield(Scrubbed{Height: b.height(), Base: true, Bytes: int(chunk.end - at)}, nil) {
				return
			}
			at = chunk.end
		}
	}
}

// segment yields the blocks of a segment. An error of the disk ends them.
func (c *scrub) segment(first, end ledger.Height) iter.Seq2[Scrubbed, error] {
	return func(yield func(Scrubbed, error) bool) {
		if mended, err := c.beginning(first); (mended != "" || err != nil) && !yield(Scrubbed{Height: first, Mended: mended}, err) {
			return
		}
		r := segmentReader{scrub: c, first: first, end: end}
		defer r.close()
		lost := false
		for h := first; h < end; h++ {
			at, err := r.block(h)
			bad, damaged := errors.AsType[*SegmentError](err)
			if damaged {
				c.store.damage.found(bad)
				if _, gone := r.file.(lostFile); gone {
					if bad.Reason = "the file is missing"; lost {
						continue
					}
					lost = true
				}
			}
			if err != nil && !damaged && at.Bytes > 0 { // of the index
				if !yield(Scrubbed{}, err) {
					return
				}
				err = nil
			}
			if !yield(at, err) || err != nil && !damaged {
				return
			}
		}
	}
}

// segmentReader reads the blocks of a segment in turn, also while others heal it.
type segmentReader struct {
	scrub      *scrub
	first, end ledger.Height
	file       File // nil: to be opened
	next       func() (framed, error, bool)
	stop       func()
	moved      uint64 // see segments
}

func (r *segmentReader) open() (err error) {
	log := r.scrub.store.log
	log.moves.RLock()
	defer log.moves.RUnlock()
	f, err := log.fs.Open(log.path(r.first), false)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = lostFile{}, nil
	}
	if err != nil {
		return err
	}
	r.file, r.moved = f, log.moved
	r.next, r.stop = iter.Pull2(r.scrub.store.frames(f, r.first, r.end, nil))
	return nil
}

func (r *segmentReader) close() {
	if r.file != nil {
		r.stop()
		r.file.Close()
		r.file = nil
	}
}

// block reads and checks a block. Whoever puts another file in the place of the segment's waits for that, but not while its frame is
// searched for.
func (r *segmentReader) block(h ledger.Height) (Scrubbed, error) {
	log := r.scrub.store.log
	for {
		if r.file == nil {
			if err := r.open(); err != nil {
				return Scrubbed{}, err
			}
		}
		at, err, more := r.next()
		switch {
		case err != nil:
			return Scrubbed{}, fmt.Errorf("read %s: %w", log.path(r.first), err)
		case !more:
			return Scrubbed{}, fmt.Errorf("read %s: the frames end before block %d", log.path(r.first), h)
		case at.height < h:
			continue // it was read from another file
		}
		log.moves.RLock()
		if r.moved == log.moved {
			defer log.moves.RUnlock()
			return r.scrub.frame(r.file, at)
		}
		log.moves.RUnlock()
		r.close()
	}
}

// beginning checks how a segment begins, and writes that again if its first block is sound.
func (c *scrub) beginning(first ledger.Height) (mended string, err error) {
	s := c.store
	f, err := s.log.fs.Open(s.log.path(first), false)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	var begin [segmentHead]byte
	_, lost, err := readAt(f, begin[:], 0)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", s.log.path(first), err)
	}
	if lost == "" && bytes.Equal(begin[:], appendSegmentHead(nil, first)) {
		return "", nil
	}
	if _, reason, err := readFrame(f, first, int64(segmentHead)); reason != "" || err != nil {
		return "", err // healing the block will write it
	}
	s.healing.Lock()
	defer s.healing.Unlock()
	if err := s.rewrite(first, nil); err != nil {
		return "", fmt.Errorf("write the beginning of %s again: %w", s.log.path(first), err)
	}
	return fmt.Sprintf("%s did not begin as it must: its beginning was written again", s.log.path(first)), nil
}

// frame reads and checks the block of a frame. An error with bytes read is one that passes over to the next.
func (c *scrub) frame(f File, place framed) (at Scrubbed, err error) {
	log, h := c.store.log, place.height
	bad := &SegmentError{File: log.path(place.first), Offset: place.offset, Height: h, Reason: place.lost}
	if bad.Reason != "" {
		return Scrubbed{Bytes: frameHead}, bad
	}
	payload, reason, err := readFrame(f, h, place.offset)
	if err != nil {
		return at, fmt.Errorf("read block %d in %s: %w", h, log.path(place.first), err)
	}
	length := frameHead + len(payload)
	bad.Reason = reason
	var rows indexed
	if reason == "" {
		if rows, err = c.block(h, place.offset, payload); err != nil {
			bad.Reason = err.Error()
		}
	}
	if bad.Reason != "" {
		return Scrubbed{Bytes: length}, bad
	}
	c.store.damage.sound(h)
	at = Scrubbed{Height: h, Bytes: length}
	at.Mended, err = c.mend(h, rows)
	return at, err
}

// block checks a block, and returns what the index must say of it. An error is the reason why the segment is damaged.
func (c *scrub) block(h ledger.Height, offset int64, payload []byte) (rows indexed, err error) {
	r, err := c.store.log.unpack(payload)
	if err != nil {
		return rows, err
	}
	b, err := r.decodeBlock()
	if err != nil {
		return rows, err
	}
	ids, err := r.txIDs()
	if err != nil {
		return rows, err
	}
	hash := b.Header.Hash(c.store.suite)
	switch {
	case b.Header.Order.Height != h, h == c.next && b.Header.Parent != c.parent:
		return rows, errors.New("the block does not follow the one before")
	case h == c.head.Height() && hash != c.head.Hash():
		return rows, errors.New("the block is not the one that was committed")
	case r.pruned && h >= c.kept:
		return rows, fmt.Errorf("the block is pruned, and the store keeps blocks in full from %d on", c.kept)
	}
	if h != c.next {
		c.from = h
	}
	c.next, c.parent = h+1, hash
	return indexed{hash: hash, offset: offset, txs: ids}, nil
}

// mend makes the rows of a block what they must be, and says what was wrong, once for each pass if the index is lost. An error is one
// of the disk, after which the pass leaves the index alone.
func (c *scrub) mend(h ledger.Height, rows indexed) (mended string, err error) {
	if c.unindex {
		return "", nil
	}
	if c.store.asideIndex.Load() != nil { // which was told
		c.unindex = true
		return "", nil
	}
	wrong, err := c.store.index.mend(h, c.from, rows)
	if bad, ok := errors.AsType[*damaged](err); ok {
		c.unindex = true
		return c.store.asideLater(c.store.index.kv, &c.store.asideIndex, bad), nil
	}
	if err != nil {
		c.unindex = true
		return "", fmt.Errorf("compare the index with block %d: %w", h, err)
	}
	if wrong > 0 {
		return fmt.Sprintf("the index was damaged: %d rows of block %d were written again", wrong, h), nil
	}
	return "", nil
}

// Aside tells of the files of tables that were found damaged and set aside since the store was opened, each as a line for an operator. They are in
// use until another Open makes them again: what of them is sound is still read, and who reads what is not gets an error.
func (s *Store) Aside() []string {
	var told []string
	for _, aside := range []*atomic.Pointer[string]{&s.asideState, &s.asideIndex} {
		if text := aside.Load(); text != nil {
			told = append(told, *text)
		}
	}
	return told
}

// asideLater takes a file of tables from where Open looks for it, and tells of it. It is kept in use until then.
func (s *Store) asideLater(tables kv, told *atomic.Pointer[string], reason error) string {
	s.asides.Lock()
	defer s.asides.Unlock()
	if before := told.Load(); before != nil {
		return *before
	}
	k, ok := tables.(*boltKV)
	if !ok {
		return reason.Error()
	}
	kept, err := s.keepAside(k.file)
	if err != nil {
		return fmt.Sprintf("%v; it cannot be set aside (%v): stop the node, remove it and start the node", reason, err)
	}
	text := fmt.Sprintf("%v; it is kept as %s and made again from the blocks when the store is opened the next time", reason, kept)
	told.Store(&text)
	return text
}

// mend makes the rows of a block what they must be, and returns how many were not. The rows of the blocks below it are right
// already from a height on; of those further below nothing is known.
func (x *index) mend(height, from ledger.Height, want indexed) (wrong int, err error) {
	h := uint64(height)
	memory := x.inMemory()
	if h >= memory.from {
		return 0, nil
	}
	type row struct {
		table      tableID
		key, value []byte
	}
	// differ writes again which of some rows are not there.
	differ := func(rows func(r reader) ([]row, error)) error {
		var bad []row
		if err := x.kv.view(func(r reader) error {
			all, err := rows(r)
			for _, row := range all {
				if !bytes.Equal(r.get(row.table, row.key), row.value) {
					bad = append(bad, row)
				}
			}
			return err
		}); err != nil || len(bad) == 0 {
			return err
		}
		wrong += len(bad)
		return x.kv.update(func(w writer) error {
			for _, row := range bad {
				if err := w.put(row.table, row.key, row.value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := differ(func(reader) ([]row, error) {
		all := []row{{tableBlocks, binary.BigEndian.AppendUint64(nil, h), binary.BigEndian.AppendUint64(bytes.Clone(want.hash[:]), uint64(want.offset))}}
		for n, id := range want.txs {
			all = append(all, row{tableTxs, bytes.Clone(id[:]), binary.AppendUvarint(binary.AppendUvarint(nil, h), uint64(n))})
		}
		return all, nil
	}); err != nil {
		return wrong, err
	}
	for level := tileLevels; (h+1)&(1<<level-1) == 0 && level < 64 && h+1-1<<level >= uint64(from); level += tileLevels {
		if err := differ(func(r reader) ([]row, error) {
			lo, mid := h+1-1<<level, h+1-1<<(level-1)
			left, err := x.root(r, memory, lo, mid)
			if err != nil {
				return nil, err
			}
			right, err := x.root(r, memory, mid, h+1)
			if err != nil {
				return nil, err
			}
			root := ledger.NodeHash(x.suite, left, right)
			return []row{{tableTiles, tileKey(level, h>>level), root[:]}}, nil
		}); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// scrubPiece is how many bytes of rows are read in one transaction, unless the first row alone exceeds them.
const scrubPiece = 64 << 10

// checked is a table, and what each row of it must pass. check returns how many bytes it took.
type checked struct {
	table tableID
	check func(r reader, key, row []byte) (bytes int, err error)
}

// index yields the parts of the index. Its rows are compared with the blocks later, each found by its key; here they must rise, and a search
// must find them: see searcher. Damage ends them.
func (c *scrub) index() iter.Seq2[Scrubbed, error] {
	x := c.store.index
	size := func(_ reader, key, row []byte) (int, error) { return len(key) + len(row), nil }
	return c.rows(x.kv, x.damaged, &c.store.asideIndex, []checked{{tableBlocks, size}, {tableTxs, size}, {tableTiles, size}})
}

// state yields the parts of the state table. Damage ends them.
func (c *scrub) state() iter.Seq2[Scrubbed, error] {
	t, hash := c.store.world.table, ledger.NewStateHasher(c.store.suite)
	return c.rows(t.kv, t.damaged, &c.store.asideState, []checked{
		{tableLeaves, func(r reader, path, row []byte) (int, error) { return t.audit(hash, r, path, row) }},
		{tableValues, func(r reader, path, value []byte) (int, error) {
			leaf, ok := parseRow(r.get(tableLeaves, path))
			if !ok || leaf.kind != valueBeside {
				return 0, t.damaged("a long value is at path %x, where there is no key for it", path)
			}
			return len(path), nil
		}},
		{tableKeys, func(r reader, key, _ []byte) (int, error) {
			if path := hash.Path(key[1:]); r.get(tableLeaves, path[:]) == nil {
				return 0, t.damaged("key %x has no leaf", key[1:])
			}
			return len(key), nil
		}},
	})
}

// rows yields the parts of a file of tables, and sets it aside when it is damaged.
func (c *scrub) rows(k kv, faulty func(format string, args ...any) error, told *atomic.Pointer[string], tables []checked) iter.Seq2[Scrubbed, error] {
	return func(yield func(Scrubbed, error) bool) {
		if aside := told.Load(); aside != nil { // in an earlier pass
			yield(Scrubbed{State: true, Mended: *aside}, nil)
			return
		}
		for _, rows := range tables {
			var from []byte
			for more := true; more; {
				at := Scrubbed{State: true}
				err := k.view(func(r reader) error {
					more = false
					search := &searcher{id: rows.table, faulty: faulty}
					for key, row := range r.scan(rows.table, from, false) {
						if more = at.Bytes >= scrubPiece; more {
							break
						}
						if len(key) == 0 || bytes.Compare(key, from) < 0 {
							return faulty("the rows of table %s do not rise at %x", tableNames[rows.table], key)
						}
						if err := search.row(r, key); err != nil {
							return err
						}
						n, err := rows.check(r, key, row)
						if err != nil {
							return err
						}
						at.Bytes += n
						from = append(append(from[:0], key...), 0)
					}
					return search.edge(r)
				})
				bad, damage := errors.AsType[*damaged](err)
				if damage {
					at.Mended, err = c.store.asideLater(k, told, bad), nil
				} else if err != nil {
					err = fmt.Errorf("read the tables again: %w", err)
				}
				if err == nil && !damage && at.Bytes == 0 {
					continue
				}
				if !yield(at, err) || err != nil || damage {
					return
				}
			}
		}
	}
}

// audit checks a row of S and what belongs to it in the other tables, every digest recomputed, and returns how many bytes that took.
func (t *table) audit(hash *ledger.StateHasher, r reader, path, row []byte) (bytes int, err error) {
	if len(path) != keys.DigestSize {
		return 0, t.damaged("a path of %d bytes", len(path))
	}
	key, value, _, err := t.open(hash, r, keys.Digest(path), row)
	if err != nil {
		return 0, err
	}
	s, ok := parseRow(row)
	switch {
	case !ok || !s.whole(path, row, value):
		return 0, t.damaged("the row of key %x does not have its checksum", key)
	case hash.Path(key) != keys.Digest(path):
		return 0, t.damaged("key %x is at another key's path", key)
	case r.get(tableKeys, keyRow(key)) == nil:
		return 0, t.damaged("key %x is missing from the order of keys", key)
	}
	return len(path) + len(row) + len(value), nil
}
