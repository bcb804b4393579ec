package plugins

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	// scratchPrefix begins the name of each folder of sockets. What follows are up to ten digits.
	scratchPrefix = "fondaco-run-"

	// maxSocketFolder bounds the path of a folder for sockets, in bytes. The path of a unix socket has at most 107 (unix(7); 103 on
	// other systems), and go-plugin adds two names of up to 21 and 17, /plugin-dir and /plugin with up to ten digits each.
	maxSocketFolder = 103 - 21 - 17

	// maxSwept bounds how many folders of others a start looks into, which strangers could make many.
	maxSwept = 1000
)

// scratch is a folder for the sockets of one host. As long as its process lives, it holds a lock on the folder, which the kernel gives
// up for a process that is killed: by this, others know what they may remove.
type scratch struct {
	path string
	lock *os.File // the folder; nil where it cannot be locked
}

// newScratch makes a folder for sockets, in the first of parents whose path is short enough.
func newScratch(parents ...string) (*scratch, error) {
	s, err := firstScratch(parents, func(path string) error {
		if len(path) > maxSocketFolder {
			return fmt.Errorf("%s is longer than the path of a unix socket may be", filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make a folder for plugin sockets: %w; set TMPDIR to a folder that this user may write, of at most %d bytes", err, maxSocketFolder-len("/"+scratchPrefix)-10)
	}
	return s, nil
}

// newCopies makes a folder for copies of programs, in the first of parents where programs may be executed.
func newCopies(parents ...string) (*scratch, error) {
	s, err := firstScratch(parents, mayExecute)
	if err != nil {
		return nil, fmt.Errorf("make a folder for copies of plugins: %w; set TMPDIR to a folder that this user may write, of a file system that is not mounted noexec", err)
	}
	return s, nil
}

// firstScratch makes a folder that only this process's user may enter, in the first of parents that is there and where it fits. It
// removes those that processes of the same user left there when they were killed.
func firstScratch(parents []string, fits func(path string) error) (*scratch, error) {
	var failed []string
	for _, parent := range parents {
		sweep(parent)
		s, err := makeScratch(parent)
		if err == nil {
			if err = fits(s.path); err == nil {
				return s, nil
			}
			err = cmp.Or(s.remove(), err)
		}
		failed = append(failed, err.Error())
	}
	return nil, errors.New(strings.Join(failed, "; "))
}

func makeScratch(parent string) (*scratch, error) {
	for {
		path, err := os.MkdirTemp(parent, scratchPrefix) // mode 0700
		if err != nil {
			return nil, err
		}
		lock, err := lockFolder(path)
		switch {
		case err == nil:
			return &scratch{path, lock}, nil
		case !errors.Is(err, errSwept): // others may be able to lock it, and then remove it
			return nil, errors.Join(err, os.RemoveAll(path))
		}
		// Another start took it for one that was left, between the two calls. Only processes of this user can.
	}
}

// remove ends the folder.
func (s *scratch) remove() error {
	err := os.RemoveAll(s.path)
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// sweep removes the folders in parent whose processes are gone. What it may not look at or remove stays, without an error: it is in
// nobody's way.
func sweep(parent string) {
	dir, err := os.Open(parent)
	if err != nil {
		return
	}
	defer dir.Close()
	for looked := 0; looked < maxSwept; {
		names, err := dir.Readdirnames(maxSwept)
		for _, name := range names {
			if digits, ok := strings.CutPrefix(name, scratchPrefix); ok && digits != "" && strings.Trim(digits, "0123456789") == "" && looked < maxSwept {
				looked++
				path := filepath.Join(parent, name)
				if lock, err := lockFolder(path); err == nil && lock != nil {
					left := scratch{path, lock}
					_ = left.remove()
				}
			}
		}
		if err != nil || len(names) == 0 {
			return
		}
	}
}
