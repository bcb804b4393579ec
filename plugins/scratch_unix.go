//go:build unix

package plugins

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errSwept says that a folder is another process's to remove, or gone.
var errSwept = errors.New("another process removes the folder")

// lockFolder locks a folder of this user, which nobody else may enter, until the file is closed or the process ends. The error is
// errSwept for a folder that another process has locked or removed. The file is nil without an error where the file system has no
// locks, so that nobody can lock the folder.
func lockFolder(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errSwept
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(owner.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
			err = fmt.Errorf("%s is another user's or has another mode than 0700", path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(errSwept, file.Close())
	case errors.Is(err, errors.ErrUnsupported): // ENOSYS, ENOTSUP, EOPNOTSUPP
		return nil, file.Close()
	case err != nil: // such as ENOLCK, without a lock daemon that may be there later
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	// Who held the lock until now may have removed the folder.
	if there, err := os.Lstat(path); err != nil || !os.SameFile(there, info) {
		return nil, errors.Join(errSwept, file.Close())
	}
	return file, nil
}
