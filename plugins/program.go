package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// resolve returns the path to execute for s: the running image of this process, or a copy in folder of a file
// whose checksum is right.
func resolve(s Spec, folder string) (string, error) {
	if s.Path == "" {
		if runtime.GOOS == "linux" {
			// The kernel's own link to the image that runs, even when the file was replaced since, as in an upgrade.
			return "/proc/self/exe", nil
		}
		return os.Executable()
	}
	file, err := os.Open(s.Path)
	if err != nil {
		return "", fmt.Errorf("open the program: %w; check the path in the configuration", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("look at the program: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", s.Path)
	}
	return copyChecked(file, s, folder)
}

// copyChecked copies file to folder while hashing it, so that what is hashed is what will run.
func copyChecked(file *os.File, s Spec, folder string) (path string, err error) {
	// A child that another goroutine forks while the copy is open for writing would hold it open until that
	// child's exec, and executing the copy would fail with "text file busy".
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	unchecked, err := os.CreateTemp(folder, "unchecked-")
	if err != nil {
		return "", fmt.Errorf("copy the program: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(unchecked.Name())
		}
	}()
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(hash, unchecked), file)
	if err = errors.Join(err, unchecked.Chmod(0o500), unchecked.Close()); err != nil {
		return "", fmt.Errorf("copy the program: %w", err)
	}
	sum := [32]byte(hash.Sum(nil))
	if s.SHA256 == ([32]byte{}) {
		return "", fmt.Errorf("%w: no sha256 is configured for %s; if you trust this file, set sha256 = %q", ErrChecksum, s.Path, hex.EncodeToString(sum[:]))
	}
	if sum != s.SHA256 {
		return "", fmt.Errorf("%w: %s has SHA-256 %x, but the configuration pins %x; if you replaced the program on purpose, set sha256 to the first of the two, otherwise restore the original file",
			ErrChecksum, s.Path, sum, s.SHA256)
	}
	path = filepath.Join(folder, "plugin-"+hex.EncodeToString(sum[:]))
	if err := os.Rename(unchecked.Name(), path); err != nil {
		return "", fmt.Errorf("copy the program: %w", err)
	}
	return path, nil
}
