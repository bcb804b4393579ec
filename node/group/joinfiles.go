package group

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/statesync"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// What a node that joins has fetched is in state.Incoming: the blocks as state.Import keeps them, and two files more, so that it
// goes on with all of it after a crash.
//
//	anchor  a frame: the anchorRecord of the state
//	chunks  frames: the encodings of its chunks in the order in which they came
//
// Frames are those of backup.AppendFrame. What is read is checked as if it had just
// come; what a crash left of the last frames is cut off.
const (
	anchorFile = "anchor"
	chunksFile = "chunks"
	// chunkSync is after how many bytes the chunks are synced: so many are fetched twice after a crash, at most.
	chunkSync = 2 << 20
)

type anchorRecord struct {
	_      struct{} `cbor:",toarray"`
	Offer  statesync.Offer
	Anchor []byte
}

// joinFiles is the data that a node fetches to begin with. Its methods but those of the chunks' places are for one goroutine
// at a time; keep may run beside the others.
type joinFiles struct {
	fs     state.FS
	dir    string
	suite  keys.Suite
	offer  statesync.Offer
	header ledger.Header
	epochs []ledger.Epoch // up to the one after the block, by number
	begun  int            // of them, in the blocks that are there
	to     *backup.Assembly

	mu       sync.Mutex // guards what follows
	file     state.File
	size     int64
	unsynced int
}

// openJoin goes on with what is in the folder if that is of an anchor, and begins anew if not. It returns the chunks that
// are there.
func openJoin(files state.FS, dir string, trust *backup.Trust, offer *statesync.Offer, raw []byte, epochs []ledger.Epoch) (_ *joinFiles, there []chunkPlace, err error) {
	a, err := statesync.DecodeAnchor(raw)
	if err != nil {
		return nil, nil, err
	}
	in := &joinFiles{fs: files, dir: state.Incoming(dir), suite: trust.Suite, offer: *offer, header: a.Claim.Header, epochs: epochs}
	if err := files.MkdirAll(in.dir); err != nil {
		return nil, nil, err
	}
	start := &backup.Start{Header: in.header, Kept: offer.Kept, Last: offer.Height}
	options := &state.Options{FS: files}
	in.to, err = backup.Assemble(trust, start, in.dir, options)
	if errors.Is(err, state.ErrStore) { // a store that was whole when this node had gone on
		if err = state.Discard(dir, options); err == nil {
			in.to, err = backup.Assemble(trust, start, in.dir, options)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if err := in.setAnchor(raw); err != nil {
		return nil, nil, err
	}
	there, err = in.openChunks()
	return in, there, err
}

func (in *joinFiles) setAnchor(raw []byte) error {
	record := backup.AppendFrame(nil, mustMarshal(&anchorRecord{Offer: in.offer, Anchor: raw}))
	name := filepath.Join(in.dir, anchorFile)
	f, err := in.fs.Open(name, true)
	if err != nil {
		return err
	}
	there := make([]byte, len(record))
	if n, err := f.ReadAt(there, 0); n == len(there) && bytes.Equal(there, record) {
		return f.Close()
	} else if err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteAt(record, 0)
	return errors.Join(err, f.Truncate(int64(len(record))), f.Sync(), f.Close(), in.fs.SyncDir(in.dir))
}

// readAnchor returns what was begun in a group's folder, or nil.
func readAnchor(files state.FS, dir string) (*anchorRecord, error) {
	f, err := files.Open(filepath.Join(state.Incoming(dir), anchorFile), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := backup.ReadFrame(f, 0, statesync.MaxItem)
	if err != nil || body == nil {
		return nil, err
	}
	var r anchorRecord
	if ledger.Unmarshal(body, &r) != nil {
		return nil, nil //nolint:nilerr // it is of another release, or damaged: the join begins anew
	}
	return &r, nil
}

// openChunks finds the chunks that are there, and cuts off what is none.
func (in *joinFiles) openChunks() (there []chunkPlace, err error) {
	if in.file, err = in.fs.Open(filepath.Join(in.dir, chunksFile), true); err != nil {
		return nil, err
	}
	for {
		body, err := backup.ReadFrame(in.file, in.size, statesync.MaxItem)
		if err != nil {
			return nil, err
		}
		var c *ledger.StateChunk
		if body != nil {
			c, err = ledger.DecodeStateChunk(body)
			if err == nil {
				err = c.Verify(in.suite, in.header.StateRoot)
			}
		}
		if body == nil || err != nil { // of another state, or cut off by a crash
			return there, errors.Join(in.file.Truncate(in.size), in.file.Sync(), in.fs.SyncDir(in.dir))
		}
		there = append(there, chunkPlace{c.Prefix, int(c.Depth), in.size, len(body)})
		in.size += backup.FrameSize(len(body))
	}
}

// keep checks a chunk in which a path is, and writes it.
func (in *joinFiles) keep(raw []byte, path keys.Digest) (chunkPlace, error) {
	c, err := ledger.DecodeStateChunk(raw)
	if err == nil {
		err = c.Verify(in.suite, in.header.StateRoot)
	}
	if err != nil {
		return chunkPlace{}, fmt.Errorf("%w: %w", errPart, err)
	}
	at := chunkPlace{prefix: c.Prefix, depth: int(c.Depth), size: len(raw)}
	if !at.holds(path) {
		return chunkPlace{}, fmt.Errorf("%w: a chunk at %s/%d, where %s is not", errPart, c.Prefix, c.Depth, path)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	at.offset = in.size
	record := backup.AppendFrame(nil, raw)
	if _, err := in.file.WriteAt(record, in.size); err != nil {
		return at, err
	}
	in.size += int64(len(record))
	if in.unsynced += len(record); in.unsynced >= chunkSync {
		in.unsynced = 0
		return at, in.file.Sync()
	}
	return at, nil
}

// errPart says that a part of a state or a block is not what it must be.
var errPart = errors.New("it does not hold")

// resume takes blocks that an earlier life fetched, so many at most, and reports whether there may be more.
func (in *joinFiles) resume(most int) (more bool, err error) {
	for range most {
		if in.to.Next() > in.offer.Height {
			return false, nil
		}
		payload, err := in.to.There()
		if err != nil || payload == nil {
			return false, err
		}
		if err := in.block(payload); errors.Is(err, errPart) { // it was kept for another state
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// block takes the next block.
func (in *joinFiles) block(payload []byte) error {
	err := in.to.Block(payload)
	if err == nil && in.to.Turn() {
		if in.begun++; in.begun >= len(in.epochs) {
			err = fmt.Errorf("%w: epoch %d begins before block %d", backup.ErrInvalid, in.begun, in.offer.Height)
		} else {
			err = in.to.Epoch(&in.epochs[in.begun])
		}
	}
	return unheld(err)
}

// unheld marks what says that a part does not hold, and leaves the failures of this machine as they are: they end the node, and
// what was fetched stays.
func unheld(err error) error {
	if errors.Is(err, backup.ErrInvalid) {
		return fmt.Errorf("%w: %w", errPart, err)
	}
	return err
}

// finish makes a store of all that was fetched, and closes the files if it does not fail.
func (in *joinFiles) finish(chunks []chunkPlace) error {
	for _, at := range chunks {
		body, err := backup.ReadFrame(in.file, at.offset, statesync.MaxItem)
		if err != nil {
			return err
		}
		c, err := ledger.DecodeStateChunk(body)
		if err != nil {
			return fmt.Errorf("%w: %w", errPart, err)
		}
		if err := in.to.Chunk(c); err != nil {
			return unheld(err)
		}
	}
	if _, err := in.to.Finish(); err != nil {
		return unheld(err)
	}
	in.to = nil
	return in.close()
}

// settle has the store that was fetched whole take the place of the group's, and removes what else is in its folder.
func settle(files state.FS, dir string) error {
	if err := state.Replace(dir, &state.Options{FS: files}); err != nil {
		return err
	}
	return removeJoin(files, dir)
}

// removeJoin removes what is in the folder besides a store.
func removeJoin(files state.FS, dir string) error {
	for _, name := range []string{chunksFile, anchorFile} {
		if err := files.Remove(filepath.Join(state.Incoming(dir), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweepJoin removes what was fetched for a join that will not go on: the node joins by no states any more, or has what it fetched in its
// place, or has blocks beyond that. It is called when no join has begun.
func (g *Group) sweepJoin() error {
	r, err := readAnchor(g.cfg.FS, g.cfg.Dir)
	if err != nil || g.cfg.Snapshot && r != nil && r.Offer.Height > g.head.Order.Height {
		return err
	}
	return errors.Join(state.Abandon(g.cfg.Dir, &state.Options{FS: g.cfg.FS}), removeJoin(g.cfg.FS, g.cfg.Dir))
}

func (in *joinFiles) close() error {
	var errs []error
	if in.to != nil {
		errs = append(errs, in.to.Close())
		in.to = nil
	}
	if in.file != nil {
		errs = append(errs, in.file.Close())
		in.file = nil
	}
	return errors.Join(errs...)
}

// chunkPlace is what a chunk covers, and where it is.
type chunkPlace struct {
	prefix keys.Digest
	depth  int
	offset int64
	size   int
}

func (c *chunkPlace) end() (keys.Digest, bool) {
	return (&ledger.StateChunk{Prefix: c.prefix, Depth: uint16(c.depth)}).Next()
}

func (c *chunkPlace) holds(path keys.Digest) bool {
	end, more := c.end()
	return bytes.Compare(c.prefix[:], path[:]) <= 0 && (!more || bytes.Compare(path[:], end[:]) < 0)
}

// coverage is which paths the chunks that came cover. They are subtrees: of two, one is in the other or they have nothing in
// common.
type coverage struct {
	chunks []chunkPlace // that have nothing in common, of rising path
	depth  int          // of the last that came
	low    int          // so many of the first follow one another from the first path on,
	from   keys.Digest  // up to this one
	whole  bool         // all paths are covered
}

// add puts a chunk in, and reports whether it covers what none did. Chunks that it holds it takes the place of: nodes that tell
// the truth divide a state alike, and what others send must not be in their way.
func (c *coverage) add(at chunkPlace) bool {
	n := sort.Search(len(c.chunks), func(i int) bool { return bytes.Compare(c.chunks[i].prefix[:], at.prefix[:]) >= 0 })
	if n > 0 && c.chunks[n-1].holds(at.prefix) || n < len(c.chunks) && c.chunks[n].prefix == at.prefix && c.chunks[n].depth <= at.depth {
		return false
	}
	inside := n
	for inside < len(c.chunks) && at.holds(c.chunks[inside].prefix) {
		inside++
	}
	if n < c.low {
		c.low, c.from = 0, keys.Digest{}
	}
	c.chunks = slices.Replace(c.chunks, n, inside, at)
	c.depth = at.depth
	for c.low < len(c.chunks) && c.chunks[c.low].prefix == c.from && !c.whole {
		end, more := c.chunks[c.low].end()
		c.from, c.whole = end, !more
		c.low++
	}
	return true
}

// next returns a path that is not covered and not under way.
func (c *coverage) next(underWay func(keys.Digest) bool) (path keys.Digest, ok bool) {
	if c.whole {
		return path, false
	}
	path = c.from
	for i := c.low; ; {
		for i < len(c.chunks) && bytes.Compare(c.chunks[i].prefix[:], path[:]) <= 0 {
			end, more := c.chunks[i].end()
			if !more {
				return path, false
			}
			if bytes.Compare(end[:], path[:]) > 0 {
				path = end
			}
			i++
		}
		if !underWay(path) {
			return path, true
		}
		if len(c.chunks) == 0 { // nobody knows yet how large chunks are
			return path, false
		}
		step := ledger.StateChunk{Prefix: path, Depth: uint16(c.depth)}
		for bit := c.depth; bit < ledger.StateDepth; bit++ {
			step.Prefix[bit/8] &^= 1 << (7 - bit%8)
		}
		next, more := step.Next()
		if !more {
			return path, false
		}
		if i < len(c.chunks) && bytes.Compare(c.chunks[i].prefix[:], next[:]) < 0 {
			next = c.chunks[i].prefix
		}
		path = next
	}
}
