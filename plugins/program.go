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
	file, err := openProgram(s.Path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return copyChecked(file, s, folder)
}

// Sum returns the SHA-256 of a program's file, which a Spec with that Path pins.
func Sum(path string) (sum [32]byte, err error) {
	file, err := openProgram(path)
	if err != nil {
		return sum, err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return sum, fmt.Errorf("read the program: %w", err)
	}
	return [32]byte(hash.Sum(nil)), nil
}

func openProgram(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // to open a pipe would wait for a writer
		return nil, fmt.Errorf("%s is not a file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the program: %w; check the path in the configuration", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
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
