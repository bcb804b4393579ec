package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

var (
	// ErrImport says that an import into a store's folder has not ended.
	ErrImport = errors.New("state: the import of a backup into this folder was not finished: type `fondaco backup restore` again, or begin with an empty folder")
	// ErrStore says that a folder for an import has a store already.
	ErrStore = errors.New("state: the folder has a store")
)

// importName is in a folder in which an import has not ended.
const importName = "import"

// importing reports whether an import into a folder has not ended.
func importing(files FS, dir string) (bool, error) {
	return exists(files, filepath.Join(dir, importName))
}

func exists(files FS, name string) (bool, error) {
	f, err := files.Open(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// Importer makes a store of what another one has: its blocks, of which the first may be pruned, and the world state after
// one of them. The folder is no store before Finish returned (ErrImport); until then Import can be called again, after a
// crash too. Blocks that are given to it then are compared with what is there, and not written again as far as they are the same,
// but for those in the last file.
//
// It checks that blocks follow one another and hold what their headers commit to, and that the state is that of its
// block. Certificates are the caller's to check. It is for one goroutine.
type Importer struct {
	dir     string
	suite   keys.Suite
	options Options
	start   baseStart
	lock    io.Closer
	log     *segments
	base    *baseWriter

	last    *ledger.Block // the last one; nil: none
	hash    keys.Digest   // of it
	history ledger.Frontier
	anchor  []byte // payload of the block of the state, if it came and is the one that was announced

	there   func() (framed, error, bool) // frames of an import that was cut short; nil: there are no more
	peeked  *peeked                      // what there returned last, if nothing was compared with it yet
	stop    func()
	pending [][]byte      // payloads of blocks that follow one another, not written yet
	first   ledger.Height // of these
	held    int           // bytes
}

// peeked is a frame of an import that was cut short, or that there are no more.
type peeked struct {
	at  framed
	err error
	ok  bool
}

// Import begins or goes on with an import into a folder. header is that of the block after which the state will be given,
// kept the height of the first block that will be given in full, which is no later one. ErrStore when the folder has a
// store, ErrReplace when one that was fetched is to take the place of what is imported; files that are not of one do not matter.
func Import(dir string, suite keys.Suite, header *ledger.Header, kept ledger.Height, opts *Options) (*Importer, error) {
	i, err := beginImport(dir, suite, header, kept, opts)
	if err != nil {
		return nil, fmt.Errorf("import into %s: %w", dir, err)
	}
	return i, nil
}

func beginImport(dir string, suite keys.Suite, header *ledger.Header, kept ledger.Height, opts *Options) (_ *Importer, err error) {
	options, err := opts.complete()
	if err != nil {
		return nil, err
	}
	if kept > header.Order.Height {
		return nil, fmt.Errorf("%w: the state after block %d, and blocks from %d on", ErrNotFound, header.Order.Height, kept)
	}
	files := options.FS
	i := &Importer{dir: dir, suite: suite, options: options, start: baseStart{Header: *header, Kept: kept}, stop: func() {}}
	if err := files.MkdirAll(filepath.Join(dir, blocksDir)); err != nil {
		return nil, err
	}
	lock, err := files.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	i.lock = lock
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Close())
		}
	}()
	replacing, err := marked(files, dir)
	if err != nil {
		return nil, err
	}
	if replacing {
		return nil, ErrReplace
	}
	begun, err := importing(files, dir)
	if err != nil {
		return nil, err
	}
	if !begun {
		there, err := storeFiles(files, dir)
		if err != nil {
			return nil, err
		}
		if len(there) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrStore, strings.Join(there, ", "))
		}
		f, err := files.Open(filepath.Join(dir, importName), true)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(f.Sync(), f.Close(), files.SyncDir(dir)); err != nil {
			return nil, err
		}
	}
	if i.base, err = beginBase(files, filepath.Join(dir, baseName), &i.start); err != nil {
		return nil, err
	}
	if i.log, err = openSegments(files, filepath.Join(dir, blocksDir), options.SegmentBytes); err != nil {
		return nil, err
	}
	if len(i.log.first) > 0 {
		i.there, i.stop = iter.Pull2(i.log.all())
	}
	return i, nil
}

// storeFiles returns which of a store's files are in a folder, blocksDir for any in that.
func storeFiles(files FS, dir string) (there []string, err error) {
	names, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{stateName, indexName, baseName} {
		if slices.Contains(names, name) {
			there = append(there, name)
		}
	}
	if names, err = files.ReadDir(filepath.Join(dir, blocksDir)); len(names) > 0 {
		there = append(there, blocksDir)
	}
	return there, err
}

// Block takes the next block, as Store.Payload returns it, the first being genesis, and returns it. It fails with ErrFault
// if the block is not what it must be, and with what valid, which may be nil, finds wrong with one that is. A block that was
// refused changes nothing: another may be given in its place.
func (i *Importer) Block(payload []byte, valid func(*ledger.Block) error) (*ledger.Block, error) {
	h := i.next()
	b, err := i.check(h, payload)
	if err == nil && valid != nil {
		err = valid(b)
	}
	if err != nil {
		return nil, err
	}
	if err := i.keep(h, payload); err != nil {
		return nil, fmt.Errorf("import block %d: %w", h, err)
	}
	i.last, i.hash = b, b.Header.Hash(i.suite)
	i.history.Append(i.suite, i.hash)
	if h == i.start.Header.Order.Height {
		i.anchor = bytes.Clone(payload)
	}
	return b, nil
}

// There returns the payload of the next block if an import that was cut short has left one, and nil if not. It was not
// checked: whoever goes on with it gives it to Block.
func (i *Importer) There() ([]byte, error) {
	if i.there == nil {
		return nil, nil
	}
	p := i.peek()
	if !p.ok || p.err != nil || p.at.height != i.next() {
		return nil, nil
	}
	payload, reason, err := i.frame(p.at)
	if reason != "" {
		return nil, err
	}
	return payload, err
}

func (i *Importer) peek() *peeked {
	if i.peeked == nil {
		at, err, ok := i.there()
		i.peeked = &peeked{at, err, ok}
	}
	return i.peeked
}

func (i *Importer) next() ledger.Height {
	if i.last == nil {
		return 0
	}
	return i.last.Header.Order.Height + 1
}

// check checks a block against the one before it and against its own header.
func (i *Importer) check(h ledger.Height, payload []byte) (*ledger.Block, error) {
	fault := func(format string, args ...any) error {
		return &FaultError{Height: h, What: fmt.Sprintf(format, args...)}
	}
	// A stranger may have written it: all that is read of it is in the uncompressed bytes, and nothing larger is made of them.
	content, pruned, err := i.log.plain(payload)
	if err != nil {
		return nil, fault("%v", err)
	}
	rest := decoder{rest: content}
	b, err := decodeBlock(rest.bytes())
	if err != nil {
		return nil, fault("%v", err)
	}
	header, order, start := &b.Header, &b.Header.Order, &i.start.Header
	var parent keys.Digest
	if i.last != nil {
		parent = i.last.Header.Order.Hash(i.suite)
	}
	switch {
	case order.Height != h || order.Parent != parent || header.Parent != i.hash || header.HistoryRoot != i.history.Root(i.suite):
		return nil, fault("it does not follow the one before")
	case order.Chain != start.Order.Chain || order.Group != start.Order.Group:
		return nil, fault("it is of chain %s, group %q", order.Chain, order.Group)
	case h == start.Order.Height && header.Hash(i.suite) != start.Hash(i.suite):
		return nil, fault("the state was announced as that after another block")
	case pruned != (h < i.start.Kept):
		return nil, fault("it should be there in full from block %d on and not below", i.start.Kept)
	}
	if err := complete(i.suite, b, pruned, &rest); err != nil {
		return nil, fault("%v", err)
	}
	return b, nil
}

// complete checks that a block holds all that its header commits to, with its results, which follow it in a record, or what stays
// of that when it is pruned; and nothing else. The certificate is another matter.
func complete(suite keys.Suite, b *ledger.Block, pruned bool, rest *decoder) error {
	switch order := &b.Header.Order; {
	case b.Version != ledger.Version: // which no header covers
		return fmt.Errorf("it is of version %d, want %d", b.Version, ledger.Version)
	case (b.NewView == nil) != order.NewView.IsZero() || b.NewView != nil && b.NewView.Digest(suite) != order.NewView:
		return errors.New("it lacks the new-view that its header names")
	case pruned && (rest.number() > 0 || rest.end() != nil):
		return errors.New("it has ids of transactions, which nothing shows to be right, or something follows")
	case pruned && !order.Barrier && len(b.Txs) > 0:
		return errors.New("it has transactions and no results")
	case pruned && !order.Barrier:
		return nil
	}
	if err := checkTxs(suite, b); err != nil || pruned {
		return err
	}
	return checkResults(suite, rest, b)
}

// checkResults checks the receipts and changes of a block, which follow it in a record, against its header.
func checkResults(suite keys.Suite, rest *decoder, b *ledger.Block) error {
	if n := rest.count(); n != len(b.Txs) {
		return fmt.Errorf("%d receipts for %d transactions", n, len(b.Txs))
	}
	receipts := make([][]byte, len(b.Txs))
	for n := range receipts {
		receipts[n] = rest.bytes()
		if err := ledger.Unmarshal(receipts[n], new(ledger.Receipt)); err != nil {
			return fmt.Errorf("receipt %d: %w", n, err)
		}
	}
	var changes ledger.Frontier
	for c := range rest.changes() {
		changes.Append(suite, c.Hash(suite))
	}
	if err := rest.end(); err != nil {
		return err
	}
	switch {
	case receiptRoot(suite, receipts) != b.Header.ReceiptRoot:
		return errors.New("the receipts are not those that the header commits to")
	case changes.Root(suite) != b.Header.ChangeRoot:
		return errors.New("the changes are not those that the header commits to")
	}
	return nil
}

// keep writes a payload, unless it is there.
func (i *Importer) keep(h ledger.Height, payload []byte) error {
	if i.there != nil {
		p := i.peek()
		i.peeked = nil
		if p.ok && p.err == nil && p.at.height == h {
			there, reason, err := i.frame(p.at)
			if err != nil || reason == "" && bytes.Equal(there, payload) {
				return err
			}
		}
		if err := i.append(p.at, p.ok); err != nil {
			return err
		}
	}
	if len(i.pending) == 0 {
		i.first = h
	}
	i.pending = append(i.pending, payload)
	if i.held += len(payload); i.held >= syncBytes {
		return i.flush()
	}
	return nil
}

// frame reads the payload of the frame at a place, or the reason why it has none.
func (i *Importer) frame(at framed) (payload []byte, reason string, err error) {
	f, err := i.log.fs.Open(i.log.path(at.first), false)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	return readFrame(f, at.height, at.offset)
}

// append ends the comparison with what an earlier import wrote: what is at a place, if there is anything, and behind it was
// written when the machine stopped, or is other than what is given now.
func (i *Importer) append(at framed, more bool) error {
	i.stop()
	i.there = nil
	if more {
		if err := i.log.cut(at); err != nil {
			return err
		}
	}
	return i.log.resume(place{})
}

func (i *Importer) flush() error {
	if len(i.pending) == 0 {
		return nil
	}
	_, err := i.log.appendAll(i.first, i.pending...)
	i.pending, i.held = nil, 0
	return err
}

// Chunk takes the next chunk of the state, the first being that of the lowest path. Blocks and chunks may come in turns.
func (i *Importer) Chunk(c *ledger.StateChunk) error {
	err := c.Verify(i.suite, i.start.Header.StateRoot)
	if err == nil {
		err = i.base.add(c)
	}
	if err != nil {
		return fmt.Errorf("import the state after block %d: %w", i.start.Header.Order.Height, err)
	}
	return nil
}

// Finish makes the folder a store, and ends the import as Close does. Blocks up to that of the state, at least, and all
// chunks must have been given.
func (i *Importer) Finish() error {
	err := i.finish()
	if err = errors.Join(err, i.Close()); err != nil {
		return fmt.Errorf("import into %s: %w", i.dir, err)
	}
	return nil
}

func (i *Importer) finish() error {
	if i.anchor == nil {
		return fmt.Errorf("%w: block %d, after which the state is", ErrNotFound, i.start.Header.Order.Height)
	}
	if i.there != nil {
		p := i.peek()
		if err := i.append(p.at, p.ok); err != nil {
			return err
		}
	}
	if err := i.flush(); err != nil {
		return err
	}
	if err := i.base.finish(i.start.Header.Order.Height, i.anchor); err != nil {
		return err
	}
	return errors.Join(i.options.FS.Remove(filepath.Join(i.dir, importName)), i.options.FS.SyncDir(i.dir))
}

// Close gives the folder free. What was given stays there for the next Import.
func (i *Importer) Close() error {
	i.stop()
	i.stop = func() {}
	var errs []error
	if i.base != nil {
		errs = append(errs, i.base.close())
		i.base = nil
	}
	if i.log != nil {
		errs = append(errs, i.log.close())
		i.log = nil
	}
	if i.lock != nil {
		errs = append(errs, i.lock.Close())
		i.lock = nil
	}
	return errors.Join(errs...)
}
