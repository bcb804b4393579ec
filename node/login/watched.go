package login

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/fondaco/fondaco/node/client"
)

// watched is a file that is looked at each time it is needed, and read again when it is another one than before. That costs a
// system call for each time, some microseconds, and needs no goroutine.
type watched[T any] struct {
	path     string
	parse    func([]byte) (T, error)
	limit    int64 // bytes
	private  bool  // others than its owner must not be able to read it or write to it
	optional bool  // one that is missing is an empty one

	mu    sync.Mutex // guards what follows
	info  fs.FileInfo
	read  bool
	value T
	err   error
	age   uint64 // how often it was read
}

// get returns what the file holds now, and a number that changes with it. After an error nothing of it counts: what was revoked
// must not count again because the file became unreadable.
func (w *watched[T]) get() (T, uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := os.Stat(w.path)
	if err != nil {
		info = nil
	}
	if w.read && same(w.info, info) {
		return w.value, w.age, w.err
	}
	w.info, w.read = info, true
	w.age++
	var data []byte
	w.value, w.err = *new(T), err
	if w.optional && errors.Is(err, fs.ErrNotExist) {
		w.err = nil
	}
	if info != nil {
		if data, w.err = readFile(w.path, info, w.limit, w.private); w.err == nil {
			if w.value, w.err = w.parse(data); w.err != nil {
				w.value, w.err = *new(T), fmt.Errorf("%s: %w", w.path, w.err)
			}
		}
	}
	return w.value, w.age, w.err
}

// same reports whether two looks at a path, nil if there was nothing, saw the same content.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// readFile reads a regular file of limited size; another kind could keep its reader waiting.
func readFile(path string, info fs.FileInfo, limit int64, private bool) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if private && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be used by others (mode %v): run chmod 600 on it", path, info.Mode().Perm())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// watchedPair is a listener's certificate and key. While the files do not fit together, as between the two steps of replacing them,
// the ones from before count.
type watchedPair struct {
	cert, key string

	mu            sync.Mutex // guards what follows
	certAt, keyAt fs.FileInfo
	pair          *tls.Certificate
	err           error
}

// get returns the pair that counts, nil if there was never one, and what is wrong with the files as they are.
func (w *watchedPair) get() (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cert, err := os.Stat(w.cert)
	if err != nil {
		return w.pair, fmt.Errorf("cert: %w", err)
	}
	key, err := os.Stat(w.key)
	if err != nil {
		return w.pair, fmt.Errorf("key: %w", err)
	}
	if same(w.certAt, cert) && same(w.keyAt, key) {
		return w.pair, w.err
	}
	w.certAt, w.keyAt = cert, key
	pair, err := client.KeyPair(w.cert, w.key)
	if err == nil {
		w.pair = &pair
	}
	w.err = err
	return w.pair, w.err
}
