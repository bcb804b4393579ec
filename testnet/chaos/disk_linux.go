package chaos

import (
	"fmt"
	"syscall"
)

// mountSmallDisk mounts a file system in memory of a number of bytes.
func mountSmallDisk(dir string, bytes int64) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, fmt.Sprintf("size=%d,mode=700", bytes))
}

func unmountSmallDisk(dir string) error { return syscall.Unmount(dir, 0) }
