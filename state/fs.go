package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is what the store, and every other part of a group that must survive a crash, needs of a file system.
// Names are slash-separated paths as package path/filepath joins them. OS is the real one; package memfs has
// one in memory that can lose what was not synced.
//
// What a caller may rely on after a crash, and no more: bytes of a file that was synced after they were
// written, under a name whose folder was synced after the name was made. All methods are safe for concurrent
// use.
type FS interface {
	// Open opens a file for reading and writing. A missing one is made when create is set, else the error
	// matches fs.ErrNotExist.
	Open(name string, create bool) (File, error)
	// Remove deletes a file. A missing one is an error that matches fs.ErrNotExist.
	Remove(name string) error
	// Rename gives a file another name, replacing what had that name.
	Rename(from, to string) error
	// ReadDir returns the sorted names of the files of a folder, without those of its folders. A missing
	// folder has none.
	ReadDir(dir string) ([]string, error)
	// MkdirAll makes a folder and its parents, durably.
	MkdirAll(dir string) error
	// SyncDir makes the names in a folder durable: files made, removed or renamed there.
	SyncDir(dir string) error
	// Lock takes the file name for this process until the result is closed or the process ends. A lock that
	// somebody holds is ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS. There is no file position: whoever appends keeps the length.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the file's content and size durable. After an error what was written since the last Sync without one may be lost, and
	// yet be read until the machine stops; a later Sync does not make it durable: see Rewrite.
	Sync() error
}

// Rewrite writes what a file has from one offset to another there again, and syncs it, some MiB at a time. Whoever goes on with a
// file that another process wrote, or behind a Sync that failed, does this with what he found and does not know to be durable:
// fsync(2) on Linux tells of an error once, and takes for written what it could not write.
func Rewrite(f File, from, to int64) error {
	piece := make([]byte, min(max(to-from, 0), syncBytes))
	for from < to {
		n, err := f.ReadAt(piece[:min(int64(len(piece)), to-from)], from)
		if n == 0 && err == nil || errors.Is(err, io.EOF) && from+int64(n) < to {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := f.WriteAt(piece[:n], from); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// ErrLocked says that another process uses the folder.
var ErrLocked = errors.New("state: in use by another process")

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return syncData(f.File) }

func (osFS) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (o osFS) MkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := o.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}
