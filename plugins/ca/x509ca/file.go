package x509ca

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// maxReads is how often a file that changes all the time is read in a second.
const maxReads = 10

// file is one that settings name. It is looked at whenever it is used, and read again when it has changed. A version that does not
// read back leaves the one before in force. Its methods are safe for concurrent use.
type file[T any] struct {
	path  string
	parse func(data []byte) (T, error)
	warn  func(string) // once for each version that does not count

	mu     sync.Mutex  // guards what follows
	seen   os.FileInfo // of the version that was read last; nil: it has gone since
	value  T
	err    error // why the newest version did not replace value
	second int64
	reads  int // in that second
}

// newFile reads a file for the first time.
func newFile[T any](path string, warn func(string), parse func(data []byte) (T, error)) (*file[T], error) {
	f := &file[T]{path: path, parse: parse, warn: warn}
	var err error
	if f.seen, err = stat(path); err == nil {
		f.value, err = f.read()
	}
	return f, err
}

// stat looks at a file, and refuses what would keep a reader waiting.
func stat(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	return info, err
}

// current returns what the last good version of the file holds, and why a newer one does not count.
func (f *file[T]) current() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := stat(f.path)
	if err != nil {
		f.seen = nil // it is read when it is back, whatever it is then
		f.fault(err)
		return f.value, f.err
	}
	if f.seen != nil && info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() && os.SameFile(info, f.seen) {
		return f.value, f.err
	}
	if now := time.Now().Unix(); now != f.second {
		f.second, f.reads = now, 0
	}
	if f.reads++; f.reads > maxReads {
		return f.value, f.err
	}
	f.seen = info
	value, err := f.read()
	if err == nil {
		f.value = value
	}
	f.fault(err)
	return f.value, f.err
}

// fault notes why the newest version does not count, nil if it does.
func (f *file[T]) fault(err error) {
	if err != nil && (f.err == nil || f.err.Error() != err.Error()) {
		f.warn(fmt.Sprintf("the file as it was before counts on: %v", err))
	}
	f.err = err
}

func (f *file[T]) read() (value T, err error) {
	data, err := readFile(f.path)
	if err != nil {
		return value, err
	}
	if value, err = f.parse(data); err != nil {
		err = fmt.Errorf("%s: %w", f.path, err)
	}
	return value, err
}
