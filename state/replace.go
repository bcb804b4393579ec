package state

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A store can be replaced by one that was imported into a folder of its own folder. Which of its files are there after a
// crash says nothing about how far that came, so a mark does: as long as replaceName is there the old ones are being
// removed, as long as movedName is the new ones are being copied to their place. A mark lists the new files, and nothing is
// done that relies on them before all were seen: they may have been taken away meanwhile.
const (
	incomingDir = "incoming"
	replaceName = "replace"
	movedName   = "replace.moving"
)

// ErrIncoming says that a store that was to take the place of another one is not whole.
var ErrIncoming = errors.New("state: what was fetched is not there any more")

// ErrReplace says that a store is being replaced, which the next Open ends.
var ErrReplace = errors.New("state: what was fetched is not in its place yet: start the node once")

// Incoming returns the folder, in that of a store, into which to Import what may Replace it. It may have other files.
func Incoming(dir string) string { return filepath.Join(dir, incomingDir) }

// Replace has the next Open of the store in dir give it up for the one in Incoming(dir), whose import has ended. The store
// may be open, but not Incoming(dir). What else is in the folder stays as it is. Without a Replace, the next Open removes
// what was imported, as it may be older than the store by then.
func Replace(dir string, opts *Options) error {
	options, err := opts.complete()
	if err != nil {
		return err
	}
	files, from := options.FS, Incoming(dir)
	begun, err := importing(files, from)
	if err != nil {
		return err
	}
	there, err := listIncoming(files, from)
	if err != nil {
		return err
	}
	if begun || len(there) == 0 {
		return fmt.Errorf("%w: %s has no whole store", ErrImport, from)
	}
	if err := writeMark(files, dir, replaceName, there); err != nil {
		return fmt.Errorf("replace the store in %s: %w", dir, err)
	}
	return nil
}

// incomingFile is a file of a store that was imported.
type incomingFile struct {
	name string // in its folder
	size int64
}

func listIncoming(files FS, from string) (there []incomingFile, err error) {
	names, err := files.ReadDir(filepath.Join(from, blocksDir))
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		names[i] = filepath.Join(blocksDir, name)
	}
	for _, name := range append(names, baseName) {
		size, err := sizeOf(files, filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		there = append(there, incomingFile{name, size})
	}
	return there, nil
}

func sizeOf(files FS, name string) (int64, error) {
	f, err := files.Open(name, false)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

// writeMark makes a mark durable: a line for each file, and one with the CRC-32C of those.
func writeMark(files FS, dir, name string, list []incomingFile) error {
	var text []byte
	for _, f := range list {
		text = fmt.Appendf(text, "%s %d\n", f.name, f.size)
	}
	text = fmt.Appendf(text, "crc %08x\n", crc32.Checksum(text, castagnoli))
	mark, err := files.Open(filepath.Join(dir, name), true)
	if err != nil {
		return err
	}
	_, err = mark.WriteAt(text, 0)
	return errors.Join(err, mark.Truncate(int64(len(text))), mark.Sync(), mark.Close(), files.SyncDir(dir))
}

// marked reports whether a mark is in a folder, be it one that a crash left half written.
func marked(files FS, dir string) (bool, error) {
	replacing, err := exists(files, filepath.Join(dir, replaceName))
	if replacing || err != nil {
		return replacing, err
	}
	return exists(files, filepath.Join(dir, movedName))
}

// readMark returns what a mark lists, which is durable then: nothing if a crash left it half written.
func readMark(files FS, dir, name string) (list []incomingFile, there bool, err error) {
	mark, err := files.Open(filepath.Join(dir, name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	size, err := mark.Size()
	text := make([]byte, size)
	if err == nil {
		_, err = mark.ReadAt(text, 0)
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.Join(Rewrite(mark, 0, size), files.SyncDir(dir)) // which may have failed
	}
	if err = errors.Join(err, mark.Close()); err != nil && !errors.Is(err, io.EOF) {
		return nil, true, err
	}
	body, sum, found := strings.Cut(string(text), "crc ")
	if !found || sum != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli)) {
		return nil, true, nil
	}
	for line := range strings.Lines(body) {
		var f incomingFile
		if _, err := fmt.Sscanf(line, "%s %d\n", &f.name, &f.size); err != nil {
			return nil, true, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		list = append(list, f)
	}
	return list, true, nil
}

// finishReplace does what Replace announced. The caller has the lock.
func (s *Store) finishReplace() error {
	files := s.options.FS
	blocks := filepath.Join(s.dir, blocksDir)
	list, begun, err := readMark(files, s.dir, replaceName)
	if err != nil {
		return err
	}
	if begun && list != nil {
		if err := s.seeIncoming(list); err != nil {
			return fmt.Errorf("%w: put it back, or remove %s and the node goes on with the blocks that it had before", err, filepath.Join(s.dir, replaceName))
		}
		if err := s.removeAll(blocks); err != nil {
			return err
		}
		// Between the two marks nothing was moved, so with both the old files may be removed once more.
		if err := writeMark(files, s.dir, movedName, list); err != nil {
			return err
		}
		s.options.Notice(fmt.Sprintf("the blocks and the state in %s give way to those that were fetched", s.dir))
	}
	if begun {
		if err := errors.Join(files.Remove(filepath.Join(s.dir, replaceName)), files.SyncDir(s.dir)); err != nil {
			return err
		}
	}
	list, moving, err := readMark(files, s.dir, movedName)
	if err != nil {
		return err
	}
	if moving {
		if err := s.seeIncoming(list); err != nil {
			return fmt.Errorf("%w, and the blocks before it were removed: put it back, or remove %s, the files in %s and base, and the node begins without blocks",
				err, filepath.Join(s.dir, movedName), blocks)
		}
		// Whatever is there now is copied again, or a person put it there: files of another store between the new ones would be read as theirs.
		if err := s.removeAll(blocks); err != nil {
			return err
		}
		if err := s.copyIncoming(list); err != nil {
			return err
		}
		if err := errors.Join(files.Remove(filepath.Join(s.dir, movedName)), files.SyncDir(s.dir)); err != nil {
			return err
		}
	}
	return Discard(s.dir, &s.options)
}

// seeIncoming fails if a file that a mark lists is not there as it was.
func (s *Store) seeIncoming(list []incomingFile) error {
	from := Incoming(s.dir)
	if len(list) == 0 {
		return fmt.Errorf("%w: the mark beside %s is damaged", ErrIncoming, from)
	}
	for _, f := range list {
		name := filepath.Join(from, f.name)
		switch size, err := sizeOf(s.options.FS, name); {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %s is missing", ErrIncoming, name)
		case err != nil:
			return err
		case size != f.size:
			return fmt.Errorf("%w: %s has %d bytes, and had %d", ErrIncoming, name, size, f.size)
		}
	}
	return nil
}

// removeAll removes a store's files.
func (s *Store) removeAll(blocks string) error {
	files := s.options.FS
	if !s.options.Memory {
		for _, name := range []string{stateName, indexName} {
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	old, err := files.ReadDir(blocks)
	if err != nil {
		return err
	}
	for _, name := range old {
		if err := files.Remove(filepath.Join(blocks, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{baseName, baseNext} {
		if err := removeLeft(files, filepath.Join(s.dir, name)); err != nil {
			return err
		}
	}
	return errors.Join(files.SyncDir(blocks), files.SyncDir(s.dir))
}

// copyIncoming copies what was imported, durably. A file that is renamed into another folder may be in neither after a power
// failure, for all that FS promises.
func (s *Store) copyIncoming(list []incomingFile) error {
	files, from := s.options.FS, Incoming(s.dir)
	for _, f := range list {
		if err := copyFile(files, filepath.Join(from, f.name), filepath.Join(s.dir, f.name)); err != nil {
			return fmt.Errorf("copy %s: %w", filepath.Join(from, f.name), err)
		}
	}
	return errors.Join(files.SyncDir(filepath.Join(s.dir, blocksDir)), files.SyncDir(s.dir))
}

// Discard removes a store whose import into Incoming(dir) has ended, and that Replace was not called for. An import that has
// not ended stays.
func Discard(dir string, opts *Options) error {
	options, err := opts.complete()
	if err != nil {
		return err
	}
	files, from := options.FS, Incoming(dir)
	begun, err := importing(files, from)
	if err != nil || begun {
		return err
	}
	return removeIncoming(files, from)
}

// Abandon removes what was imported into Incoming(dir), also of an import that has not ended; other files there stay. It fails with
// ErrReplace once Replace was called.
func Abandon(dir string, opts *Options) error {
	options, err := opts.complete()
	if err != nil {
		return err
	}
	files, from := options.FS, Incoming(dir)
	if replacing, err := marked(files, dir); err != nil || replacing {
		return cmp.Or(err, ErrReplace)
	}
	if err := removeIncoming(files, from); err != nil {
		return err
	}
	begun, err := importing(files, from)
	if err != nil || !begun {
		return err
	}
	return errors.Join(files.Remove(filepath.Join(from, importName)), files.SyncDir(from)) // last, so that a crash leaves no store
}

func removeIncoming(files FS, from string) error {
	list, err := listIncoming(files, from)
	if err != nil || len(list) == 0 {
		return err
	}
	for _, f := range list {
		if err := files.Remove(filepath.Join(from, f.name)); err != nil {
			return err
		}
	}
	return errors.Join(files.SyncDir(filepath.Join(from, blocksDir)), files.SyncDir(from))
}

// copyFile makes a file the copy of another, and syncs it, now and then too, but for its name.
func copyFile(files FS, name, to string) (err error) {
	from, err := files.Open(name, false)
	if err != nil {
		return err
	}
	defer from.Close()
	size, err := from.Size()
	if err != nil {
		return err
	}
	out, err := files.Open(to, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(0); err != nil {
		return err
	}
	buffer := make([]byte, 1<<20)
	for at := int64(0); at < size; at += syncBytes {
		if _, err := io.CopyBuffer(io.NewOffsetWriter(out, at), io.NewSectionReader(from, at, min(syncBytes, size-at)), buffer); err != nil {
			return err
		}
		if err := out.Sync(); err != nil {
			return err
		}
	}
	return out.Sync()
}
